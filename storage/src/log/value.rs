//! Values of the model as bytes: addresses, prefixes, FECs, branch sets, keys.
//!
//! In:   values of `mapping`, or the bytes of a section and the dictionary of addresses.
//! Out:  the other of the two.
//! Law:  what is read back equals what was written; bytes that no value has are malformed.
//! Not:  which section they stand in (`builder`, `decode`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::dictionary::Numbers;
use super::varint::{self, Cursor, Malformed};
use crate::mapping::{
    Branches, Fec, Key, Label, LabelStack, NextHop, Nhlfe, Origin, RouteDistinguisher, RouterId,
};
use crate::time::Micros;

const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;
/// A prefix begins with its length: 0 to 32 for IPv4, 64 to 192 for IPv6.
const PREFIX_V6_BASE: u8 = 64;

const FEC_UNKNOWN: u8 = 0;
const FEC_IP_GLOBAL: u8 = 1;
const FEC_IP_TABLE: u8 = 2;
const FEC_VRF: u8 = 3;
const FEC_VRF_PREFIX: u8 = 4;
const FEC_VSI: u8 = 5;
const FEC_AC: u8 = 6;

/// A branch begins with one byte: length of the stack in five bits, next hop in two, weight in one.
const STACK_MASK: u8 = 0x1f;
const NEXT_HOP_SHIFT: u32 = 5;
const NEXT_HOP_ADDRESS: u8 = 0;
const NEXT_HOP_FEC: u8 = 1;
const NEXT_HOP_RECURSIVE: u8 = 2;
const WEIGHT_BIT: u8 = 0x80;

const KEY_FTN: u8 = 0;
const KEY_ILM: u8 = 1;
const KEY_SERVICE: u8 = 2;

const ORIGIN_UNTAGGED: u8 = 0;
const ORIGIN_SERVICE: u8 = 1;
const ORIGIN_PLATFORM: u8 = 2;
const ORIGIN_INTERFACE: u8 = 3;

/// The number of an address in the dictionary.
pub(super) fn intern_address(addresses: &mut Numbers, address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            addresses.of_word(address.to_bits(), [FAMILY_V4, a, b, c, d])
        }
        IpAddr::V6(address) => {
            let mut entry = [FAMILY_V6; 17];
            entry[1..].copy_from_slice(&address.octets());
            addresses.intern(&entry)
        }
    }
}

/// One entry of the dictionaries of addresses and routers.
pub(super) fn read_address(cursor: &mut Cursor<'_>) -> Result<IpAddr, Malformed> {
    match cursor.byte()? {
        FAMILY_V4 => Ok(IpAddr::from(cursor.array::<4>()?)),
        FAMILY_V6 => Ok(IpAddr::from(cursor.array::<16>()?)),
        _ => Err(cursor.malformed("address family 4 or 6")),
    }
}

pub(super) fn put_address(out: &mut Vec<u8>, addresses: &mut Numbers, address: IpAddr) {
    varint::put(out, intern_address(addresses, address) as u64);
}

pub(super) fn read_address_number(
    cursor: &mut Cursor<'_>,
    addresses: &[IpAddr],
) -> Result<IpAddr, Malformed> {
    let number = cursor.index()?;
    addresses.get(number).copied().ok_or_else(|| cursor.malformed("a number of an address"))
}

/// FECs are masked (law of `mapping`), so only the bytes that the length covers are written.
fn put_prefix(out: &mut Vec<u8>, prefix: IpNet) {
    let covered = usize::from(prefix.prefix_len()).div_ceil(8);
    match prefix {
        IpNet::V4(prefix) => {
            out.push(prefix.prefix_len());
            out.extend_from_slice(&prefix.network().octets()[..covered]);
        }
        IpNet::V6(prefix) => {
            out.push(PREFIX_V6_BASE + prefix.prefix_len());
            out.extend_from_slice(&prefix.network().octets()[..covered]);
        }
    }
}

fn read_prefix(cursor: &mut Cursor<'_>) -> Result<IpNet, Malformed> {
    let head = cursor.byte()?;
    let prefix = if head < PREFIX_V6_BASE {
        IpNet::new(IpAddr::from(read_covered::<4>(cursor, head)?), head)
    } else {
        let length = head - PREFIX_V6_BASE;
        IpNet::new(IpAddr::from(read_covered::<16>(cursor, length)?), length)
    };
    match prefix {
        Ok(prefix) if prefix.trunc() == prefix => Ok(prefix),
        _ => Err(cursor.malformed("a masked prefix")),
    }
}

/// The leading bytes of an address of N bytes; the others are 0.
fn read_covered<const N: usize>(
    cursor: &mut Cursor<'_>,
    length_bits: u8,
) -> Result<[u8; N], Malformed> {
    let covered = usize::from(length_bits).div_ceil(8);
    let mut octets = [0; N];
    match octets.get_mut(..covered) {
        Some(leading) => leading.copy_from_slice(cursor.take(covered)?),
        None => return Err(cursor.malformed("a prefix length of the family")),
    }
    Ok(octets)
}

pub(super) fn put_fec(out: &mut Vec<u8>, addresses: &mut Numbers, fec: &Fec) {
    match *fec {
        Fec::Unknown => out.push(FEC_UNKNOWN),
        Fec::Ip { prefix, table: 0 } => {
            out.push(FEC_IP_GLOBAL);
            put_prefix(out, prefix);
        }
        Fec::Ip { prefix, table } => {
            out.push(FEC_IP_TABLE);
            varint::put(out, u64::from(table));
            put_prefix(out, prefix);
        }
        Fec::Vrf { loopback, rd, prefix } => {
            out.push(if prefix.is_some() { FEC_VRF_PREFIX } else { FEC_VRF });
            put_address(out, addresses, loopback);
            out.extend_from_slice(&rd.0);
            if let Some(prefix) = prefix {
                put_prefix(out, prefix);
            }
        }
        Fec::Vsi { loopback, pw_id } => put_wire(out, addresses, FEC_VSI, loopback, pw_id),
        Fec::Ac { loopback, pw_id } => put_wire(out, addresses, FEC_AC, loopback, pw_id),
    }
}

fn put_wire(out: &mut Vec<u8>, addresses: &mut Numbers, tag: u8, loopback: IpAddr, pw_id: u32) {
    out.push(tag);
    put_address(out, addresses, loopback);
    varint::put(out, u64::from(pw_id));
}

pub(super) fn read_fec(cursor: &mut Cursor<'_>, addresses: &[IpAddr]) -> Result<Fec, Malformed> {
    match cursor.byte()? {
        FEC_UNKNOWN => Ok(Fec::Unknown),
        FEC_IP_GLOBAL => Ok(Fec::Ip { prefix: read_prefix(cursor)?, table: 0 }),
        FEC_IP_TABLE => {
            let table = cursor.unsigned32()?;
            Ok(Fec::Ip { prefix: read_prefix(cursor)?, table })
        }
        FEC_VRF => Ok(Fec::Vrf {
            loopback: read_address_number(cursor, addresses)?,
            rd: RouteDistinguisher(cursor.array()?),
            prefix: None,
        }),
        FEC_VRF_PREFIX => Ok(Fec::Vrf {
            loopback: read_address_number(cursor, addresses)?,
            rd: RouteDistinguisher(cursor.array()?),
            prefix: Some(read_prefix(cursor)?),
        }),
        FEC_VSI => Ok(Fec::Vsi {
            loopback: read_address_number(cursor, addresses)?,
            pw_id: cursor.unsigned32()?,
        }),
        FEC_AC => Ok(Fec::Ac {
            loopback: read_address_number(cursor, addresses)?,
            pw_id: cursor.unsigned32()?,
        }),
        _ => Err(cursor.malformed("a kind of FEC")),
    }
}

pub(super) fn put_label(out: &mut Vec<u8>, label: Label) {
    varint::put(out, u64::from(label.value()));
}

pub(super) fn read_label(cursor: &mut Cursor<'_>) -> Result<Label, Malformed> {
    let value = cursor.unsigned32()?;
    Label::new(value).ok_or_else(|| cursor.malformed("a label of 20 bits"))
}

pub(super) fn put_branches(out: &mut Vec<u8>, addresses: &mut Numbers, branches: &[Nhlfe]) {
    varint::put(out, branches.len() as u64);
    for branch in branches {
        // A stack as long as the mask, or longer, says its length in a number of its own.
        let stack_code = (branch.stack.len().min(usize::from(STACK_MASK))) as u8;
        let next_hop_code = match branch.next_hop {
            NextHop::Address(_) => NEXT_HOP_ADDRESS,
            NextHop::Fec => NEXT_HOP_FEC,
            NextHop::Recursive => NEXT_HOP_RECURSIVE,
        };
        let weight_code = if branch.weight.is_some() { WEIGHT_BIT } else { 0 };
        out.push(stack_code | next_hop_code << NEXT_HOP_SHIFT | weight_code);
        if stack_code == STACK_MASK {
            varint::put(out, branch.stack.len() as u64);
        }
        branch.stack.iter().for_each(|label| put_label(out, *label));
        if let NextHop::Address(address) = branch.next_hop {
            put_address(out, addresses, address);
        }
        if let Some(weight) = branch.weight {
            varint::put(out, u64::from(weight));
        }
    }
}

pub(super) fn read_branches(
    cursor: &mut Cursor<'_>,
    addresses: &[IpAddr],
) -> Result<Branches, Malformed> {
    let count = cursor.index()?;
    // Every branch takes at least one byte: a count beyond them is a lie, found before allocating.
    if count > cursor.left() {
        return Err(cursor.malformed("as many branches as bytes at most"));
    }
    let mut branches = Branches::new();
    for _ in 0..count {
        branches.push(read_branch(cursor, addresses)?);
    }
    Ok(branches)
}

fn read_branch(cursor: &mut Cursor<'_>, addresses: &[IpAddr]) -> Result<Nhlfe, Malformed> {
    let head = cursor.byte()?;
    let labels = match head & STACK_MASK {
        STACK_MASK => cursor.index()?,
        short => usize::from(short),
    };
    let mut stack = LabelStack::new();
    for _ in 0..labels {
        stack.push(read_label(cursor)?);
    }
    let next_hop = match (head & !WEIGHT_BIT) >> NEXT_HOP_SHIFT {
        NEXT_HOP_ADDRESS => NextHop::Address(read_address_number(cursor, addresses)?),
        NEXT_HOP_FEC => NextHop::Fec,
        NEXT_HOP_RECURSIVE => NextHop::Recursive,
        _ => return Err(cursor.malformed("a kind of next hop")),
    };
    let weight = if head & WEIGHT_BIT != 0 { Some(cursor.unsigned32()?) } else { None };
    Ok(Nhlfe { stack, next_hop, weight })
}

fn put_origin(out: &mut Vec<u8>, addresses: &mut Numbers, origin: Origin) {
    match origin {
        Origin::Untagged => out.push(ORIGIN_UNTAGGED),
        Origin::Service => out.push(ORIGIN_SERVICE),
        Origin::Platform => out.push(ORIGIN_PLATFORM),
        Origin::Interface(router) => {
            out.push(ORIGIN_INTERFACE);
            put_address(out, addresses, router.0);
        }
    }
}

fn read_origin(cursor: &mut Cursor<'_>, addresses: &[IpAddr]) -> Result<Origin, Malformed> {
    match cursor.byte()? {
        ORIGIN_UNTAGGED => Ok(Origin::Untagged),
        ORIGIN_SERVICE => Ok(Origin::Service),
        ORIGIN_PLATFORM => Ok(Origin::Platform),
        ORIGIN_INTERFACE => {
            Ok(Origin::Interface(RouterId(read_address_number(cursor, addresses)?)))
        }
        _ => Err(cursor.malformed("an origin")),
    }
}

pub(super) fn put_key(out: &mut Vec<u8>, addresses: &mut Numbers, key: &Key) {
    match key {
        Key::Ftn(fec) => {
            out.push(KEY_FTN);
            put_fec(out, addresses, fec);
        }
        Key::Ilm(label, origin) => {
            out.push(KEY_ILM);
            put_label(out, *label);
            put_origin(out, addresses, *origin);
        }
        Key::Service(label, fec) => {
            out.push(KEY_SERVICE);
            put_label(out, *label);
            put_fec(out, addresses, fec);
        }
    }
}

pub(super) fn read_key(cursor: &mut Cursor<'_>, addresses: &[IpAddr]) -> Result<Key, Malformed> {
    match cursor.byte()? {
        KEY_FTN => Ok(Key::Ftn(read_fec(cursor, addresses)?)),
        KEY_ILM => {
            let label = read_label(cursor)?;
            Ok(Key::Ilm(label, read_origin(cursor, addresses)?))
        }
        KEY_SERVICE => {
            let label = read_label(cursor)?;
            Ok(Key::Service(label, read_fec(cursor, addresses)?))
        }
        _ => Err(cursor.malformed("a kind of key")),
    }
}

/// A time as the distance from another, which wraps: every pair of times survives.
pub(super) fn put_time(out: &mut Vec<u8>, time: Micros, previous: Micros) {
    varint::put_signed(out, time.0.wrapping_sub(previous.0));
}

pub(super) fn read_time(cursor: &mut Cursor<'_>, previous: Micros) -> Result<Micros, Malformed> {
    Ok(Micros(previous.0.wrapping_add(cursor.signed()?)))
}
