//! Keys and values of a table as bytes: compact, and equal exactly when what they mean is equal.
//!
//! In:   a mapping whose branches are sorted and whose FEC is masked.
//! Out:  its key and its value (FEC where the key lacks it, operation, branches); and back.
//! Law:  one meaning has one spelling, so comparing bytes compares mappings.
//! Not:  a format on disk: these bytes never leave the process (`log` has its own).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::mapping::{
    Branches, Encapsulation, Fec, Ingress, Key, Label, LabelStack, Link, Mapping, Name, NameKind,
    NextHop, Nhlfe, Operation, Origin, Role, RouteDistinguisher, RouterId,
};

/// Packed bytes of one mapping: on the stack as long as they are few (an LDP entry takes about 20).
#[derive(Clone, Debug)]
pub(super) struct Packed {
    inline: [u8; INLINE_BYTES],
    /// Bytes in `inline`; beyond its end once all of them are in `long`.
    length: usize,
    long: Vec<u8>,
}

/// Three branches of three labels each, and a VPN FEC of IPv6, still fit.
const INLINE_BYTES: usize = 128;

// Kinds of keys.
const FTN: u8 = 0;
const SERVICE: u8 = 1;
const ILM_UNTAGGED: u8 = 2;
const ILM_SERVICE: u8 = 3;
const ILM_PLATFORM: u8 = 4;
const ILM_INTERFACE: u8 = 5;
const ILM_TABLE: u8 = 6;

// Kinds of FECs; the bit says that a table number or a prefix follows.
const FEC_UNKNOWN: u8 = 0;
const FEC_IP: u8 = 1;
const FEC_VRF: u8 = 2;
const FEC_VSI: u8 = 3;
const FEC_AC: u8 = 4;
/// A prefix of IPv4 in the global table, without its family: by far the most.
const FEC_IP4: u8 = 5;
const FEC_IP_FROM: u8 = 6;
const FEC_VRF_NAME: u8 = 7;
const FEC_NAMED: u8 = 8;
const FEC_INTERFACE: u8 = 9;
const FEC_MORE: u8 = 0x80;

// The first byte of a branch: labels in the stack, kind of next hop, whether a weight follows.
const STACK_MASK: u8 = 0x1f;
/// A length of its own follows.
const STACK_LONG: usize = 0x1f;
/// A byte of what else is said follows, and then a length of its own.
const STACK_EXTENDED: usize = 0x1e;
const HOP_FEC: u8 = 0 << 5;
const HOP_RECURSIVE: u8 = 1 << 5;
const HOP_IP6: u8 = 2 << 5;
const HOP_IP4: u8 = 3 << 5;
const HOP_MASK: u8 = 3 << 5;
const WEIGHT: u8 = 0x80;

// What else a branch says. With the first of them the kind of next hop above is that of `fec`.
const EXTENDED_HOP_INTERFACE: u8 = 1;
const EXTENDED_BACKUP: u8 = 2;
const EXTENDED_UNTAGS: u8 = 4;
const EXTENDED_NAME: u8 = 8;
const EXTENDED_NEIGHBOUR: u8 = 16;
const EXTENDED_ENCAPSULATION: u8 = 32;

/// A length of this or more takes a second byte.
const LENGTH_LONG: usize = 0x80;

impl Packed {
    pub(super) fn new() -> Packed {
        Packed { inline: [0; INLINE_BYTES], length: 0, long: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.long.clear();
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.inline.get(..self.length).unwrap_or(&self.long)
    }

    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let room = self.inline.get_mut(self.length..).and_then(|rest| rest.first_chunk_mut());
        match room {
            Some(room) => {
                *room = bytes;
                self.length += N;
            }
            None => self.put_long(&bytes),
        }
    }

    #[cold]
    fn put_long(&mut self, bytes: &[u8]) {
        if let Some(inline) = self.inline.get(..self.length) {
            self.long.clear();
            self.long.extend_from_slice(inline);
            self.length = usize::MAX;
        }
        self.long.extend_from_slice(bytes);
    }

    #[inline]
    fn len(&self) -> usize {
        if self.length <= INLINE_BYTES { self.length } else { self.long.len() }
    }

    /// Writes the length of everything behind `at` into the byte there.
    fn put_length_at(&mut self, at: usize) {
        let length = self.len() - at - 1;
        match self.inline.get_mut(at) {
            Some(byte) if length < LENGTH_LONG && self.length <= INLINE_BYTES => {
                *byte = length as u8;
            }
            _ => self.put_long_length_at(at, length),
        }
    }

    #[cold]
    fn put_long_length_at(&mut self, at: usize, length: usize) {
        let value = self.bytes()[at + 1..].to_vec();
        self.put_long(&[]);
        self.long.truncate(at);
        self.put_number(length as u64);
        self.long.extend_from_slice(&value);
    }

    /// Appends a number, seven bits to a byte.
    pub(super) fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put([number as u8 | 0x80]);
            number >>= 7;
        }
        self.put([number as u8]);
    }
}

/// What packing a mapping has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Where the key ends.
    pub(super) key_end: usize,
    /// Whether it uses a reserved label (`Mapping::uses_reserved_label`).
    pub(super) uses_reserved_label: bool,
}

/// Packs a mapping: its key behind its length, then its value behind its own.
#[inline]
pub(super) fn put_mapping(out: &mut Packed, mapping: &Mapping) -> Shown {
    put_plainly(out, mapping).unwrap_or_else(|| put_otherwise(out, mapping))
}

/// Packs what nearly every mapping is: an FTN entry, or an ILM entry of a label of the platform,
/// for a prefix of IPv4, whose few branches have one label and an address of IPv4 each. What is put
/// is what `put_otherwise` would put.
#[inline]
fn put_plainly(out: &mut Packed, mapping: &Mapping) -> Option<Shown> {
    let [a, b, c, d, length] = prefix4(&mapping.fec)?;
    let branches = mapping.branches.as_slice();
    if branches.len() > BRANCHES_PLAIN_MAX {
        return None;
    }
    let (operation, count) = (mapping.operation as u8, branches.len() as u8);
    let (mut at, key_end, mut uses_reserved_label) = match mapping.ingress {
        Ingress { label: None, .. } => {
            let value_length = 2 + count * BRANCH_BYTES as u8;
            let head = [7, FTN, FEC_IP4, a, b, c, d, length, value_length, operation, count];
            out.inline[..head.len()].copy_from_slice(&head);
            (head.len(), 8, false)
        }
        Ingress { label: Some(label), origin: Origin::Platform } => {
            let value_length = 8 + count * BRANCH_BYTES as u8;
            let [x, y, z] = label_bytes(label);
            let key = [4, ILM_PLATFORM, x, y, z];
            let value = [value_length, operation, FEC_IP4, a, b, c, d, length, count];
            out.inline[..key.len()].copy_from_slice(&key);
            out.inline[key.len()..key.len() + value.len()].copy_from_slice(&value);
            (key.len() + value.len(), key.len(), label.is_reserved())
        }
        _ => return None,
    };
    for branch in branches {
        let is_bare = branch.weight.is_none()
            && branch.link.is_none()
            && !branch.untags
            && branch.role == Role::Primary;
        let ([label], NextHop::Address(IpAddr::V4(address)), true) =
            (branch.stack.as_slice(), branch.next_hop, is_bare)
        else {
            return None;
        };
        let ([x, y, z], [e, f, g, h]) = (label_bytes(*label), address.octets());
        let room = out.inline.get_mut(at..)?.first_chunk_mut()?;
        *room = [1 | HOP_IP4, x, y, z, e, f, g, h];
        at += BRANCH_BYTES;
        uses_reserved_label |= label.is_reserved() && *label != Label::IMPLICIT_NULL;
    }
    out.length = at;
    Some(Shown { key_end, uses_reserved_label })
}

/// Bytes of a branch of one label and an address of IPv4.
const BRANCH_BYTES: usize = 8;
/// So many of them fit with every key and a length of one byte.
const BRANCHES_PLAIN_MAX: usize = 4;

fn put_otherwise(out: &mut Packed, mapping: &Mapping) -> Shown {
    out.clear();
    let key = mapping.key();
    put_key(out, &key);
    let key_end = out.len();
    put_value(out, mapping, matches!(key, Key::Ilm(..)));
    Shown { key_end, uses_reserved_label: mapping.uses_reserved_label() }
}

/// Packs a key alone, behind its length.
pub(super) fn put_key(out: &mut Packed, key: &Key) {
    let at = out.len();
    out.put([0]);
    match key {
        Key::Ftn(fec) => {
            out.put([FTN]);
            put_fec(out, fec);
        }
        Key::Service(label, fec) => {
            let [a, b, c] = label_bytes(*label);
            out.put([SERVICE, a, b, c]);
            put_fec(out, fec);
        }
        Key::Ilm(label, origin) => {
            let [a, b, c] = label_bytes(*label);
            let kind = match origin {
                Origin::Untagged => ILM_UNTAGGED,
                Origin::Service => ILM_SERVICE,
                Origin::Platform => ILM_PLATFORM,
                Origin::Interface(_) => ILM_INTERFACE,
                Origin::Table(_) => ILM_TABLE,
            };
            out.put([kind, a, b, c]);
            match origin {
                Origin::Interface(router) => put_address(out, router.0),
                Origin::Table(table) => out.put_number(u64::from(*table)),
                Origin::Untagged | Origin::Service | Origin::Platform => {}
            }
        }
    }
    out.put_length_at(at);
}

/// Appends the value behind its length: everything that an entry says and its key does not, which
/// of an ILM entry is the FEC too.
fn put_value(out: &mut Packed, mapping: &Mapping, is_ilm: bool) {
    let at = out.len();
    out.put([0, mapping.operation as u8]);
    if is_ilm {
        put_fec(out, &mapping.fec);
    }
    out.put_number(mapping.branches.len() as u64);
    mapping.branches.iter().for_each(|branch| put_branch(out, branch));
    out.put_length_at(at);
}

/// Address and length of a prefix of IPv4 in the global table.
fn prefix4(fec: &Fec) -> Option<[u8; 5]> {
    let Fec::Ip { prefix: IpNet::V4(prefix), table: 0 } = fec else { return None };
    let [a, b, c, d] = prefix.addr().octets();
    Some([a, b, c, d, prefix.prefix_len()])
}

fn label_bytes(label: Label) -> [u8; 3] {
    let [_, a, b, c] = label.value().to_be_bytes();
    [a, b, c]
}

fn put_address(out: &mut Packed, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            out.put([4, a, b, c, d]);
        }
        IpAddr::V6(address) => {
            out.put([6]);
            out.put(address.octets());
        }
    }
}

fn put_prefix(out: &mut Packed, prefix: &IpNet) {
    put_address(out, prefix.addr());
    out.put([prefix.prefix_len()]);
}

fn put_fec(out: &mut Packed, fec: &Fec) {
    if let Some([a, b, c, d, length]) = prefix4(fec) {
        return out.put([FEC_IP4, a, b, c, d, length]);
    }
    match fec {
        Fec::Unknown => out.put([FEC_UNKNOWN]),
        Fec::Ip { prefix, table: 0 } => {
            out.put([FEC_IP]);
            put_prefix(out, prefix);
        }
        Fec::Ip { prefix, table } => {
            out.put([FEC_IP | FEC_MORE]);
            put_prefix(out, prefix);
            out.put_number(u64::from(*table));
        }
        Fec::Vrf { loopback, rd, prefix } => {
            out.put([FEC_VRF | if prefix.is_some() { FEC_MORE } else { 0 }]);
            put_address(out, *loopback);
            out.put(rd.0);
            if let Some(prefix) = prefix {
                put_prefix(out, prefix);
            }
        }
        Fec::Vsi { loopback, pw_id } => {
            out.put([FEC_VSI]);
            put_address(out, *loopback);
            out.put_number(u64::from(*pw_id));
        }
        Fec::Ac { loopback, pw_id } => {
            out.put([FEC_AC]);
            put_address(out, *loopback);
            out.put_number(u64::from(*pw_id));
        }
        Fec::IpFrom { prefix, table, source, tos } => {
            out.put([FEC_IP_FROM | if source.is_some() { FEC_MORE } else { 0 }, *tos]);
            out.put_number(u64::from(*table));
            put_prefix(out, prefix);
            if let Some(source) = source {
                put_prefix(out, source);
            }
        }
        Fec::VrfName { name, prefix } => {
            out.put([FEC_VRF_NAME | if prefix.is_some() { FEC_MORE } else { 0 }]);
            put_name(out, *name);
            if let Some(prefix) = prefix {
                put_prefix(out, prefix);
            }
        }
        Fec::Named { kind, name } => {
            out.put([FEC_NAMED, *kind as u8]);
            put_name(out, *name);
        }
        Fec::Interface { name } => {
            out.put([FEC_INTERFACE]);
            put_name(out, *name);
        }
    }
}

fn put_name(out: &mut Packed, name: Name) {
    let text = name.as_str().as_bytes();
    out.put_number(text.len() as u64);
    text.iter().for_each(|byte| out.put([*byte]));
}

fn put_branch(out: &mut Packed, branch: &Nhlfe) {
    let hop = match branch.next_hop {
        NextHop::Fec | NextHop::Interface => HOP_FEC,
        NextHop::Recursive => HOP_RECURSIVE,
        NextHop::Address(IpAddr::V4(_)) => HOP_IP4,
        NextHop::Address(IpAddr::V6(_)) => HOP_IP6,
    };
    let length = branch.stack.len();
    let weight = if branch.weight.is_some() { WEIGHT } else { 0 };
    let length_code = match length {
        _ if branch.is_extended() => STACK_EXTENDED,
        0..STACK_EXTENDED => length,
        _ => STACK_LONG,
    };
    out.put([length_code as u8 | hop | weight]);
    if length_code == STACK_EXTENDED {
        out.put([said_beyond(branch)]);
    }
    if length_code >= STACK_EXTENDED {
        out.put_number(length as u64);
    }
    branch.stack.iter().for_each(|label| out.put(label_bytes(*label)));
    match branch.next_hop {
        NextHop::Address(IpAddr::V4(address)) => out.put(address.octets()),
        NextHop::Address(IpAddr::V6(address)) => out.put(address.octets()),
        NextHop::Fec | NextHop::Recursive | NextHop::Interface => {}
    }
    if let Some(weight) = branch.weight {
        out.put_number(u64::from(weight));
    }
    if let Some(link) = &branch.link {
        put_link(out, link);
    }
}

/// What a branch says beyond labels, next hop and weight.
fn said_beyond(branch: &Nhlfe) -> u8 {
    let link = branch.link.as_deref().copied().unwrap_or_default();
    let bits = [
        (branch.next_hop == NextHop::Interface, EXTENDED_HOP_INTERFACE),
        (branch.role == Role::Backup, EXTENDED_BACKUP),
        (branch.untags, EXTENDED_UNTAGS),
        (link.interface.is_some(), EXTENDED_NAME),
        (link.neighbour.is_some(), EXTENDED_NEIGHBOUR),
        (link.encapsulation.is_some(), EXTENDED_ENCAPSULATION),
    ];
    bits.iter().filter(|(is_said, _)| *is_said).map(|(_, bit)| bit).sum()
}

fn put_link(out: &mut Packed, link: &Link) {
    if let Some(name) = link.interface {
        put_name(out, name);
    }
    if let Some(neighbour) = link.neighbour {
        put_address(out, neighbour.0);
    }
    if let Some(encapsulation) = link.encapsulation {
        out.put([encapsulation as u8]);
    }
}

/// Whether two packed things are one. Most have 5 to 25 bytes: compared in place, eight at a time,
/// they take half of what a call of the system's comparison takes.
#[inline]
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    if let (Some(left_end), Some(right_end)) = (left.last_chunk::<8>(), right.last_chunk::<8>()) {
        let words = left.as_chunks::<8>().0.iter().zip(right.as_chunks::<8>().0);
        return left_end == right_end && words.into_iter().all(|(left, right)| left == right);
    }
    if let (Some(left_end), Some(right_end)) = (left.last_chunk::<4>(), right.last_chunk::<4>()) {
        return left_end == right_end && left.first_chunk::<4>() == right.first_chunk::<4>();
    }
    left == right
}

/// Takes packed bytes apart again. They are the table's own, so they are always whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        taken
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("take gives as many bytes as it is asked for")
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(super) fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    fn narrow(&mut self) -> u32 {
        u32::try_from(self.number()).expect("it was packed from 32 bits")
    }

    fn label(&mut self) -> Label {
        let [a, b, c] = self.array();
        Label::new(u32::from_be_bytes([0, a, b, c])).expect("it was packed from a label")
    }

    fn address(&mut self) -> IpAddr {
        if self.byte() == 4 {
            Ipv4Addr::from(self.array::<4>()).into()
        } else {
            Ipv6Addr::from(self.array::<16>()).into()
        }
    }

    fn prefix(&mut self) -> IpNet {
        let address = self.address();
        IpNet::new(address, self.byte()).expect("it was packed from a prefix")
    }

    fn fec(&mut self) -> Fec {
        let kind = self.byte();
        let more = kind & FEC_MORE != 0;
        match kind & !FEC_MORE {
            FEC_IP4 => {
                let address = Ipv4Addr::from(self.array::<4>());
                let prefix = IpNet::new(address.into(), self.byte());
                Fec::Ip { prefix: prefix.expect("it was packed from a prefix"), table: 0 }
            }
            FEC_IP => {
                let prefix = self.prefix();
                Fec::Ip { prefix, table: if more { self.narrow() } else { 0 } }
            }
            FEC_VRF => {
                let loopback = self.address();
                let rd = RouteDistinguisher(self.array());
                Fec::Vrf { loopback, rd, prefix: more.then(|| self.prefix()) }
            }
            FEC_VSI => Fec::Vsi { loopback: self.address(), pw_id: self.narrow() },
            FEC_AC => Fec::Ac { loopback: self.address(), pw_id: self.narrow() },
            FEC_IP_FROM => {
                let (tos, table, prefix) = (self.byte(), self.narrow(), self.prefix());
                Fec::IpFrom { prefix, table, source: more.then(|| self.prefix()), tos }
            }
            FEC_VRF_NAME => {
                let name = self.name();
                Fec::VrfName { name, prefix: more.then(|| self.prefix()) }
            }
            FEC_NAMED => {
                let kind = NameKind::ALL[usize::from(self.byte())];
                Fec::Named { kind, name: self.name() }
            }
            FEC_INTERFACE => Fec::Interface { name: self.name() },
            _ => Fec::Unknown,
        }
    }

    fn name(&mut self) -> Name {
        let length = self.number() as usize;
        let text = std::str::from_utf8(self.take(length)).ok();
        text.and_then(Name::new).expect("it was packed from a name")
    }

    pub(super) fn key(&mut self) -> Key {
        match self.byte() {
            FTN => Key::Ftn(self.fec()),
            SERVICE => {
                let label = self.label();
                Key::Service(label, self.fec())
            }
            kind => {
                let label = self.label();
                let origin = match kind {
                    ILM_UNTAGGED => Origin::Untagged,
                    ILM_SERVICE => Origin::Service,
                    ILM_PLATFORM => Origin::Platform,
                    ILM_TABLE => Origin::Table(self.narrow()),
                    _ => Origin::Interface(RouterId(self.address())),
                };
                Key::Ilm(label, origin)
            }
        }
    }

    pub(super) fn value(&mut self, key: &Key) -> (Operation, Fec, Branches) {
        let operation = Operation::ALL[usize::from(self.byte())];
        let fec = match key {
            Key::Ftn(fec) | Key::Service(_, fec) => *fec,
            Key::Ilm(..) => self.fec(),
        };
        let count = self.number();
        (operation, fec, (0..count).map(|_| self.branch()).collect())
    }

    fn branch(&mut self) -> Nhlfe {
        let first = self.byte();
        let length_code = usize::from(first & STACK_MASK);
        let said = if length_code == STACK_EXTENDED { self.byte() } else { 0 };
        let length = match length_code {
            STACK_EXTENDED | STACK_LONG => self.number() as usize,
            length => length,
        };
        let stack: LabelStack = (0..length).map(|_| self.label()).collect();
        let next_hop = match first & HOP_MASK {
            HOP_FEC if said & EXTENDED_HOP_INTERFACE != 0 => NextHop::Interface,
            HOP_FEC => NextHop::Fec,
            HOP_RECURSIVE => NextHop::Recursive,
            HOP_IP4 => NextHop::Address(Ipv4Addr::from(self.array::<4>()).into()),
            _ => NextHop::Address(Ipv6Addr::from(self.array::<16>()).into()),
        };
        let weight = (first & WEIGHT != 0).then(|| self.narrow());
        let role = if said & EXTENDED_BACKUP != 0 { Role::Backup } else { Role::Primary };
        let untags = said & EXTENDED_UNTAGS != 0;
        let link = Link {
            interface: (said & EXTENDED_NAME != 0).then(|| self.name()),
            neighbour: (said & EXTENDED_NEIGHBOUR != 0).then(|| RouterId(self.address())),
            encapsulation: (said & EXTENDED_ENCAPSULATION != 0)
                .then(|| Encapsulation::ALL[usize::from(self.byte())]),
        };
        Nhlfe { weight, role, untags, ..Nhlfe::new(stack, next_hop) }.with_link(link)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mapping::TimeSource;
    use crate::time::Micros;

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).into()),
            any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).into()),
        ]
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), 0..=128_u8).prop_map(|(address, length)| {
            let length_max = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, length.min(length_max)).unwrap().trunc()
        })
    }

    fn fec() -> impl Strategy<Value = Fec> {
        let rd = any::<[u8; 8]>().prop_map(RouteDistinguisher);
        let prefix4 = (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(octets, length)| {
            IpNet::new(Ipv4Addr::from(octets).into(), length).unwrap().trunc()
        });
        prop_oneof![
            4 => prefix4.prop_map(|prefix| Fec::Ip { prefix, table: 0 }),
            1 => Just(Fec::Unknown),
            1 => (prefix(), prop_oneof![Just(0), any::<u32>()])
                .prop_map(|(prefix, table)| Fec::Ip { prefix, table }),
            1 => (address(), rd, prop::option::of(prefix()))
                .prop_map(|(loopback, rd, prefix)| Fec::Vrf { loopback, rd, prefix }),
            1 => (address(), any::<u32>()).prop_map(|(loopback, pw_id)| Fec::Vsi { loopback, pw_id }),
            1 => (address(), any::<u32>()).prop_map(|(loopback, pw_id)| Fec::Ac { loopback, pw_id }),
            1 => (prefix(), any::<u32>(), prop::option::of(prefix()), any::<u8>()).prop_map(
                |(prefix, table, source, tos)| Fec::IpFrom { prefix, table, source, tos }
            ),
            1 => (name(), prop::option::of(prefix()))
                .prop_map(|(name, prefix)| Fec::VrfName { name, prefix }),
            1 => (prop::sample::select(NameKind::ALL.to_vec()), name())
                .prop_map(|(kind, name)| Fec::Named { kind, name }),
            1 => name().prop_map(|name| Fec::Interface { name }),
        ]
    }

    fn name() -> impl Strategy<Value = Name> {
        "[a-z/é,]{1,32}".prop_map(|text| Name::new(&text).unwrap())
    }

    fn link() -> impl Strategy<Value = Link> {
        let encapsulation = prop::sample::select(Encapsulation::ALL.to_vec());
        let parts = (
            prop::option::of(name()),
            prop::option::of(address()),
            prop::option::of(encapsulation),
        );
        parts.prop_map(|(interface, neighbour, encapsulation)| Link {
            interface,
            neighbour: neighbour.map(RouterId),
            encapsulation,
        })
    }

    fn label() -> impl Strategy<Value = Label> {
        let null = Label::IMPLICIT_NULL.value();
        prop_oneof![4 => 0..=Label::MAX, 1 => 0..=Label::RESERVED_MAX + 1, 2 => null..=null]
            .prop_map(|value| Label::new(value).unwrap())
    }

    fn branch() -> impl Strategy<Value = Nhlfe> {
        let next_hop = prop_oneof![
            address().prop_map(NextHop::Address),
            Just(NextHop::Fec),
            Just(NextHop::Recursive),
            Just(NextHop::Interface)
        ];
        // Longer stacks than any decoder lets through: the table must not depend on it.
        let stack = prop::collection::vec(label(), 0..40);
        let role = prop::sample::select(vec![Role::Primary, Role::Backup]);
        let weight = prop::option::of(any::<u32>());
        let link = prop_oneof![Just(Link::default()), link()];
        let any_branch = (stack, next_hop, weight, role, any::<bool>(), link).prop_map(
            |(stack, next_hop, weight, role, untags, link)| {
                let branch = Nhlfe::new(stack.into_iter().collect(), next_hop);
                Nhlfe { weight, role, untags, ..branch }.with_link(link)
            },
        );
        let plain = (label(), any::<[u8; 4]>()).prop_map(|(label, octets)| {
            let next_hop = NextHop::Address(Ipv4Addr::from(octets).into());
            Nhlfe::new([label].into_iter().collect(), next_hop)
        });
        prop_oneof![3 => plain, 1 => any_branch]
    }

    fn mapping() -> impl Strategy<Value = Mapping> {
        let origin = prop_oneof![
            Just(Origin::Service),
            Just(Origin::Platform),
            (1..=u32::MAX).prop_map(Origin::Table),
            address().prop_map(|address| Origin::Interface(RouterId(address))),
        ];
        let ingress = prop_oneof![
            Just(Ingress::UNTAGGED),
            (label(), origin).prop_map(|(label, origin)| Ingress { label: Some(label), origin }),
        ];
        let operation = prop::sample::select(Operation::ALL.to_vec());
        let branches = prop::collection::vec(branch(), 0..=BRANCHES_PLAIN_MAX + 1);
        (fec(), ingress, operation, branches).prop_map(|(fec, ingress, operation, branches)| {
            let (event_time, time_source) = (Micros(0), TimeSource::Router);
            let branches = branches.into_iter().collect();
            Mapping { fec, ingress, operation, branches, event_time, time_source, extra: None }
        })
    }

    proptest! {
        #[test]
        fn what_is_the_same_is_equal(
            left in prop::collection::vec(0..3_u8, 0..40),
            right in prop::collection::vec(0..3_u8, 0..40),
            place in 0..40_usize,
        ) {
            prop_assert_eq!(same(&left, &right), left == right);
            prop_assert!(same(&left, &left.clone()));
            let mut other = left.clone();
            if let Some(byte) = other.get_mut(place) {
                *byte ^= 1;
                prop_assert!(!same(&left, &other));
            }
        }

        #[test]
        fn what_is_packed_comes_back(mapping in mapping(), other in mapping()) {
            let mut packed = Packed::new();
            // Used again, the room behaves as if it were new.
            put_mapping(&mut packed, &other);
            let Shown { key_end, uses_reserved_label } = put_mapping(&mut packed, &mapping);
            prop_assert_eq!(uses_reserved_label, mapping.uses_reserved_label());
            let mut reader = Reader::new(packed.bytes());
            prop_assert_eq!(reader.number() as usize, key_end - 1);
            let key = reader.key();
            prop_assert_eq!(key, mapping.key());
            prop_assert_eq!(reader.number() as usize, reader.left());
            let (operation, fec, branches) = reader.value(&key);
            prop_assert_eq!((operation, fec), (mapping.operation, mapping.fec));
            prop_assert_eq!((&branches, reader.left()), (&mapping.branches, 0));
            let mut otherwise = Packed::new();
            let shown = put_otherwise(&mut otherwise, &mapping);
            prop_assert_eq!(packed.bytes(), otherwise.bytes());
            prop_assert_eq!(shown, Shown { key_end, uses_reserved_label });
        }
    }
}
