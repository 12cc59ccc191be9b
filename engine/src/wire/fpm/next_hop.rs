//! Next hops by number, as messages say them: RTM_NEWNEXTHOP, RTM_DELNEXTHOP.
//!
//! In:   the body of one message.
//! Out:  a `Message`; the members of a group go to the frame's.
//! Law:  a next hop that no mapping can say is said to be one: routes on it answer unknown.
//! Not:  what a number leads to (`groups`).

use std::ops::Range;

use storage::mapping::BRANCHES_MAX;
use storage::row::Cause;

use super::hop::{HopAttributes, is_dead};
use super::message::{Announced, Member, Message, alone};
use super::netlink::{Bytes, Fault};

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;

/// `struct nhmsg`: family u8, scope u8, protocol u8, reserved u8, flags u32.
const HEADER_BYTES: usize = 8;
const HEADER_FLAGS_AT: usize = 4;
const GROUP_MEMBER_BYTES: usize = 8;

/// Reads RTM_NEWNEXTHOP. Errors: the frame's.
pub(super) fn read(body: Bytes<'_>, members: &mut Vec<Member>) -> Result<Message, Fault> {
    let id = match alone(number(body))? {
        Ok(id) => id,
        Err(fault) => return Ok(nameless(&fault)),
    };
    let first = members.len();
    let what = alone(announced(body, members))?.unwrap_or_else(Announced::Refused);
    if let Announced::Refused(_) = what {
        members.truncate(first);
    }
    Ok(Message::NextHop { id, what })
}

/// Reads RTM_DELNEXTHOP. Errors: the frame's.
pub(super) fn read_deleted(body: Bytes<'_>) -> Result<Message, Fault> {
    Ok(match alone(number(body))? {
        Ok(id) => Message::NextHopDeleted { id },
        Err(fault) => nameless(&fault),
    })
}

fn nameless(fault: &Fault) -> Message {
    Message::Nameless { cause: fault.cause, detail: format!("next hop: {fault}").into() }
}

fn number(body: Bytes<'_>) -> Result<u32, Fault> {
    let mut id = None;
    body.behind(HEADER_BYTES)?.each_attribute(|attribute, value| {
        if attribute == NHA_ID {
            id = Some(value.u32(0)?);
        }
        Ok(())
    })?;
    let fault = || body.fault(0, "the number of a next hop", 0).of(Cause::NextHopUnknown);
    id.ok_or_else(fault)
}

fn announced(body: Bytes<'_>, members: &mut Vec<Member>) -> Result<Announced, Fault> {
    let mut group = None;
    let mut drops = false;
    let mut hop = HopAttributes::default();
    body.behind(HEADER_BYTES)?.each_attribute(|attribute, value| {
        match attribute {
            NHA_GROUP => group = Some(value),
            NHA_BLACKHOLE => drops = true,
            NHA_OIF => hop.leaves_by(value.u32(0)?),
            NHA_GATEWAY => hop.goes_to(value.address()?),
            NHA_ENCAP_TYPE => hop.encapsulates_in(value.u16(0)?),
            NHA_ENCAP => hop.puts_around(value),
            _ => {}
        }
        Ok(())
    })?;
    match group {
        Some(value) => read_members(value, members).map(Announced::Group),
        None if drops => Ok(Announced::Drops),
        None if is_dead(body.u32(HEADER_FLAGS_AT)?) => Ok(Announced::Dead),
        None => hop.hop(body, 1).map(Announced::Hop),
    }
}

/// `struct nexthop_grp`: number u32, weight - 1 u8, its high byte u8 (once reserved), 2 bytes.
fn read_members(value: Bytes<'_>, members: &mut Vec<Member>) -> Result<Range<usize>, Fault> {
    let count = value.len() / GROUP_MEMBER_BYTES;
    if !value.len().is_multiple_of(GROUP_MEMBER_BYTES) || !(1..=BRANCHES_MAX).contains(&count) {
        return Err(value.fault(0, "1 to 256 group members of 8 bytes", value.len()));
    }
    let first = members.len();
    for index in 0..count {
        let at = index * GROUP_MEMBER_BYTES;
        let weight = u16::from_le_bytes([value.u8(at + 4)?, value.u8(at + 5)?]);
        members.push(Member { id: value.u32(at)?, weight: u32::from(weight) + 1 });
    }
    Ok(first..members.len())
}
