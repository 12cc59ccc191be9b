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
    Branches, Encapsulation, Fec, Key, Label, LabelStack, Link, Name, NameKind, NextHop, Nhlfe,
    Origin, Role, RouteDistinguisher, RouterId,
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
const FEC_IP_FROM: u8 = 7;
const FEC_VRF_NAME: u8 = 8;
const FEC_VRF_NAME_PREFIX: u8 = 9;
const FEC_NAMED: u8 = 10;
const FEC_INTERFACE: u8 = 11;

/// A branch begins with one byte: length of the stack in five bits, next hop in two, weight in one.
const STACK_MASK: u8 = 0x1f;
const NEXT_HOP_SHIFT: u32 = 5;
const NEXT_HOP_ADDRESS: u8 = 0;
const NEXT_HOP_FEC: u8 = 1;
const NEXT_HOP_RECURSIVE: u8 = 2;
/// A second byte says what the next hop is, and what else the branch says.
const NEXT_HOP_EXTENDED: u8 = 3;
const WEIGHT_BIT: u8 = 0x80;

// The second byte: next hop in two bits, the others each for something that is said.
const EXTENDED_INTERFACE: u8 = 3;
const EXTENDED_HOP_MASK: u8 = 3;
const EXTENDED_BACKUP: u8 = 4;
const EXTENDED_UNTAGS: u8 = 8;
const EXTENDED_NAME: u8 = 16;
const EXTENDED_NEIGHBOUR: u8 = 32;
const EXTENDED_ENCAPSULATION: u8 = 64;

const KEY_FTN: u8 = 0;
const KEY_ILM: u8 = 1;
const KEY_SERVICE: u8 = 2;

const ORIGIN_UNTAGGED: u8 = 0;
const ORIGIN_SERVICE: u8 = 1;
const ORIGIN_PLATFORM: u8 = 2;
const ORIGIN_INTERFACE: u8 = 3;
const ORIGIN_TABLE: u8 = 4;

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
        Fec::IpFrom { prefix, table, source, tos } => {
            out.extend_from_slice(&[FEC_IP_FROM, tos, u8::from(source.is_some())]);
            varint::put(out, u64::from(table));
            put_prefix(out, prefix);
            if let Some(source) = source {
                put_prefix(out, source);
            }
        }
        Fec::VrfName { name, prefix } => {
            out.push(if prefix.is_some() { FEC_VRF_NAME_PREFIX } else { FEC_VRF_NAME });
            put_name(out, name);
            if let Some(prefix) = prefix {
                put_prefix(out, prefix);
            }
        }
        Fec::Named { kind, name } => {
            out.extend_from_slice(&[FEC_NAMED, kind as u8]);
            put_name(out, name);
        }
        Fec::Interface { name } => {
            out.push(FEC_INTERFACE);
            put_name(out, name);
        }
    }
}

fn put_name(out: &mut Vec<u8>, name: Name) {
    varint::put_bytes(out, name.as_str().as_bytes());
}

fn read_name(cursor: &mut Cursor<'_>) -> Result<Name, Malformed> {
    let text = cursor.text()?;
    Name::new(text).ok_or_else(|| cursor.malformed("a name"))
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
        FEC_IP_FROM => {
            let (tos, has_source) = (cursor.byte()?, cursor.flag()?);
            let (table, prefix) = (cursor.unsigned32()?, read_prefix(cursor)?);
            let source = if has_source { Some(read_prefix(cursor)?) } else { None };
            let fec = Fec::IpFrom { prefix, table, source, tos };
            // What selects nothing has another code.
            (fec.masked() == fec).then_some(fec).ok_or_else(|| cursor.malformed("a selective FEC"))
        }
        FEC_VRF_NAME => Ok(Fec::VrfName { name: read_name(cursor)?, prefix: None }),
        FEC_VRF_NAME_PREFIX => {
            Ok(Fec::VrfName { name: read_name(cursor)?, prefix: Some(read_prefix(cursor)?) })
        }
        FEC_NAMED => {
            let kind = NameKind::ALL.get(usize::from(cursor.byte()?)).copied();
            let kind = kind.ok_or_else(|| cursor.malformed("a kind of name"))?;
            Ok(Fec::Named { kind, name: read_name(cursor)? })
        }
        FEC_INTERFACE => Ok(Fec::Interface { name: read_name(cursor)? }),
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
    branches.iter().for_each(|branch| put_branch(out, addresses, branch));
}

fn put_branch(out: &mut Vec<u8>, addresses: &mut Numbers, branch: &Nhlfe) {
    // A stack as long as the mask, or longer, says its length in a number of its own.
    let stack_code = (branch.stack.len().min(usize::from(STACK_MASK))) as u8;
    let next_hop_code = match branch.next_hop {
        NextHop::Address(_) => NEXT_HOP_ADDRESS,
        NextHop::Fec => NEXT_HOP_FEC,
        NextHop::Recursive => NEXT_HOP_RECURSIVE,
        NextHop::Interface => EXTENDED_INTERFACE,
    };
    let weight_code = if branch.weight.is_some() { WEIGHT_BIT } else { 0 };
    let is_extended = branch.is_extended();
    let first_code = if is_extended { NEXT_HOP_EXTENDED } else { next_hop_code };
    out.push(stack_code | first_code << NEXT_HOP_SHIFT | weight_code);
    let link = branch.link.as_deref().copied().unwrap_or_default();
    if is_extended {
        let bits = [
            (branch.role == Role::Backup, EXTENDED_BACKUP),
            (branch.untags, EXTENDED_UNTAGS),
            (link.interface.is_some(), EXTENDED_NAME),
            (link.neighbour.is_some(), EXTENDED_NEIGHBOUR),
            (link.encapsulation.is_some(), EXTENDED_ENCAPSULATION),
        ];
        let said: u8 = bits.iter().filter(|(is_said, _)| *is_said).map(|(_, bit)| bit).sum();
        out.push(next_hop_code | said);
    }
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
    if let Some(name) = link.interface {
        put_name(out, name);
    }
    if let Some(neighbour) = link.neighbour {
        put_address(out, addresses, neighbour.0);
    }
    if let Some(encapsulation) = link.encapsulation {
        out.push(encapsulation as u8);
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
    let first_code = (head & !WEIGHT_BIT) >> NEXT_HOP_SHIFT;
    let is_extended = first_code == NEXT_HOP_EXTENDED;
    let said = if is_extended { cursor.byte()? } else { first_code };
    let labels = match head & STACK_MASK {
        STACK_MASK => cursor.index()?,
        short => usize::from(short),
    };
    let mut stack = LabelStack::new();
    for _ in 0..labels {
        stack.push(read_label(cursor)?);
    }
    let next_hop = match said & EXTENDED_HOP_MASK {
        NEXT_HOP_ADDRESS => NextHop::Address(read_address_number(cursor, addresses)?),
        NEXT_HOP_FEC => NextHop::Fec,
        NEXT_HOP_RECURSIVE => NextHop::Recursive,
        _ => NextHop::Interface,
    };
    let weight = if head & WEIGHT_BIT != 0 { Some(cursor.unsigned32()?) } else { None };
    if !is_extended {
        return Ok(Nhlfe { weight, ..Nhlfe::new(stack, next_hop) });
    }
    let role = if said & EXTENDED_BACKUP != 0 { Role::Backup } else { Role::Primary };
    let untags = said & EXTENDED_UNTAGS != 0;
    let link = read_link(cursor, addresses, said)?;
    let branch = Nhlfe { weight, role, untags, ..Nhlfe::new(stack, next_hop) }.with_link(link);
    // What says nothing more has another code.
    if !branch.is_extended() || said >= EXTENDED_ENCAPSULATION << 1 {
        return Err(cursor.malformed("what an extended branch says"));
    }
    Ok(branch)
}

fn read_link(cursor: &mut Cursor<'_>, addresses: &[IpAddr], said: u8) -> Result<Link, Malformed> {
    let mut link = Link::default();
    if said & EXTENDED_NAME != 0 {
        link.interface = Some(read_name(cursor)?);
    }
    if said & EXTENDED_NEIGHBOUR != 0 {
        link.neighbour = Some(RouterId(read_address_number(cursor, addresses)?));
    }
    if said & EXTENDED_ENCAPSULATION != 0 {
        let encapsulation = Encapsulation::ALL.get(usize::from(cursor.byte()?)).copied();
        let encapsulation = encapsulation.ok_or_else(|| cursor.malformed("an encapsulation"))?;
        link.encapsulation = Some(encapsulation);
    }
    Ok(link)
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
        Origin::Table(table) => {
            out.push(ORIGIN_TABLE);
            varint::put(out, u64::from(table));
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
        ORIGIN_TABLE => read_table(cursor),
        _ => Err(cursor.malformed("an origin")),
    }
}

/// A label table by its number, which is not the platform's.
pub(super) fn read_table(cursor: &mut Cursor<'_>) -> Result<Origin, Malformed> {
    match cursor.unsigned32()? {
        0 => Err(cursor.malformed("a label table but the platform's")),
        table => Ok(Origin::Table(table)),
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
