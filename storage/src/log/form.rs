//! Forms: what change rows have in common, named by one byte; and the plain values of most rows.
//!
//! In:   FEC and branches of a row, or its form and the columns of plain values.
//! Out:  the other of the two.
//! Law:  a value has one form; what no plain form can hold is in a dictionary.
//! Not:  the dictionaries of FECs and branch sets (`value`), the other columns (`builder`).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::dictionary::Numbers;
use super::value::intern_address;
use super::varint::{self, Cursor, Malformed};
use crate::mapping::{Branches, Fec, Label, LabelStack, NextHop, Nhlfe, Operation, TimeSource};
use crate::row::ChangeKind;

/// FEC form: the row has a reference to the dictionary of FECs.
pub(super) const FEC_IN_DICTIONARY: u8 = 255;
/// FEC form: up to it, the length of a prefix of IPv4 in the global table.
pub(super) const FEC_PREFIX_MAX: u8 = 32;
/// Branches form: the row has a reference to the dictionary of branch sets.
pub(super) const BRANCHES_IN_DICTIONARY: u8 = 255;
/// Branches form: up to it, so many plain branches (one label, an address, nothing else).
pub(super) const BRANCHES_PLAIN_MAX: u8 = 4;
/// Where the place of the next hop begins in the word of a plain branch, behind the label.
pub(super) const HOP_PLACE_SHIFT: u32 = 20;
/// Places of next hops that were named lately; as a place: the number of the address follows.
pub(super) const HOP_PLACES: u32 = 15;

/// What stands where in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) kind: ChangeKind,
    pub(super) operation: Operation,
    pub(super) time_source: TimeSource,
    /// One of the `SPACE_` codes.
    pub(super) space: u8,
    pub(super) fec: u8,
    pub(super) branches: u8,
}

// Where the ingress label of a row comes from.
pub(super) const SPACE_UNTAGGED: u8 = 0;
pub(super) const SPACE_SERVICE: u8 = 1;
pub(super) const SPACE_PLATFORM: u8 = 2;
pub(super) const SPACE_INTERFACE: u8 = 3;
pub(super) const SPACE_TABLE: u8 = 4;

impl Form {
    /// The form as its bytes: shape, operation, FEC, branches.
    pub(super) fn to_bytes(self) -> [u8; 4] {
        let shape = self.kind as u8 + 5 * (self.time_source as u8 + 2 * self.space);
        [shape, self.operation as u8, self.fec, self.branches]
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Form, Malformed> {
        let [shape, operation, fec, branches] = cursor.array()?;
        let parts = (
            ChangeKind::ALL.get(usize::from(shape % 5)).copied(),
            Operation::ALL.get(usize::from(operation)).copied(),
        );
        let (space, is_router) = (shape / 10, (shape / 5).is_multiple_of(2));
        match parts {
            (Some(kind), Some(operation)) if space <= SPACE_TABLE && is_known(fec, branches) => {
                let time_source = time_source(is_router);
                Ok(Form { kind, operation, time_source, space, fec, branches })
            }
            _ => Err(cursor.malformed("a form")),
        }
    }

    /// A form as version 2 wrote it: operation and shape in one byte.
    pub(super) fn read_three(cursor: &mut Cursor<'_>) -> Result<Form, Malformed> {
        let [shape, fec, branches] = cursor.array()?;
        match Form::of_shape(shape) {
            Some(form) if is_known(fec, branches) => Ok(Form { fec, branches, ..form }),
            _ => Err(cursor.malformed("a form")),
        }
    }

    /// A shape as version 1 wrote it, with everything in dictionaries: kind, operation, time source
    /// and label space, 5 x 5 x 2 x 4 = 200 shapes. `None` when there is no such shape.
    pub(super) fn of_shape(shape: u8) -> Option<Form> {
        let kind = *ChangeKind::ALL.get(usize::from(shape % 5))?;
        let operation = *Operation::ALL.get(usize::from(shape / 5 % 5))?;
        let time_source = time_source((shape / 25).is_multiple_of(2));
        let space = shape / 50;
        let (fec, branches) = (FEC_IN_DICTIONARY, BRANCHES_IN_DICTIONARY);
        let form = Form { kind, operation, time_source, space, fec, branches };
        (space <= SPACE_INTERFACE).then_some(form)
    }
}

fn is_known(fec: u8, branches: u8) -> bool {
    (fec <= FEC_PREFIX_MAX || fec == FEC_IN_DICTIONARY)
        && (branches <= BRANCHES_PLAIN_MAX || branches == BRANCHES_IN_DICTIONARY)
}

fn time_source(is_router: bool) -> TimeSource {
    if is_router { TimeSource::Router } else { TimeSource::Collector }
}

/// Form of a FEC. A prefix of IPv4 costs as many bytes as a reference that is far, and no search.
pub(super) fn fec_form(fec: &Fec) -> u8 {
    match fec {
        Fec::Ip { prefix: IpNet::V4(prefix), table: 0 } => prefix.prefix_len(),
        _ => FEC_IN_DICTIONARY,
    }
}

/// Appends the octets that the length of a prefix covers; other FECs have none here.
#[inline]
pub(super) fn put_prefix_octets(out: &mut Vec<u8>, fec: &Fec) {
    if let Fec::Ip { prefix: IpNet::V4(prefix), table: 0 } = fec {
        let end = out.len() + usize::from(prefix.prefix_len()).div_ceil(8);
        out.extend_from_slice(&prefix.network().octets());
        out.truncate(end);
    }
}

/// Reads a prefix of this length.
pub(super) fn read_prefix(cursor: &mut Cursor<'_>, length: u8) -> Result<Fec, Malformed> {
    let mut octets = [0; 4];
    let covered = usize::from(length).div_ceil(8);
    match octets.get_mut(..covered) {
        Some(leading) => leading.copy_from_slice(cursor.take(covered)?),
        None => return Err(cursor.malformed("a prefix length of IPv4")),
    }
    match Ipv4Net::new(Ipv4Addr::from(octets), length) {
        Ok(prefix) if prefix.trunc() == prefix => Ok(Fec::Ip { prefix: prefix.into(), table: 0 }),
        _ => Err(cursor.malformed("a masked prefix")),
    }
}

/// Form of a set of branches. Labels hardly ever come twice, so a dictionary does not pay for them.
pub(super) fn branches_form(branches: &[Nhlfe]) -> u8 {
    let is_plain = |branch: &Nhlfe| {
        let has_address = matches!(branch.next_hop, NextHop::Address(_));
        has_address && branch.is_bare() && branch.stack.len() == 1
    };
    let is_short = branches.len() <= usize::from(BRANCHES_PLAIN_MAX);
    if is_short && branches.iter().all(is_plain) {
        branches.len() as u8
    } else {
        BRANCHES_IN_DICTIONARY
    }
}

/// Writes plain branches.
#[derive(Debug, Default)]
pub(super) struct HopWriter {
    pub(super) bytes: Vec<u8>,
    /// Numbers plus 1 of the addresses named lately; 0 = none.
    recent: [u32; HOP_PLACES as usize],
}

impl HopWriter {
    /// Appends the branches, of a plain form.
    pub(super) fn put(&mut self, addresses: &mut Numbers, branches: &[Nhlfe]) {
        for branch in branches {
            if let ([label], NextHop::Address(hop)) = (branch.stack.as_slice(), branch.next_hop) {
                self.put_hop(*label, intern_address(addresses, hop) as u32);
            }
        }
    }

    #[inline]
    fn put_hop(&mut self, label: Label, number: u32) {
        let place = number % HOP_PLACES;
        let recent = &mut self.recent[place as usize];
        let is_known = *recent == number + 1;
        *recent = number + 1;
        let code = if is_known { place } else { HOP_PLACES };
        let [a, b, c, _] = (label.value() | code << HOP_PLACE_SHIFT).to_le_bytes();
        self.bytes.extend_from_slice(&[a, b, c]);
        if !is_known {
            varint::put(&mut self.bytes, u64::from(number));
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.recent = [0; HOP_PLACES as usize];
    }
}

/// Reads plain branches.
#[derive(Debug)]
pub(super) struct HopReader<'a> {
    cursor: Cursor<'a>,
    addresses: &'a [IpAddr],
    recent: [Option<IpAddr>; HOP_PLACES as usize],
}

impl<'a> HopReader<'a> {
    pub(super) fn new(cursor: Cursor<'a>, addresses: &'a [IpAddr]) -> HopReader<'a> {
        HopReader { cursor, addresses, recent: [None; HOP_PLACES as usize] }
    }

    /// The branches of a row of this form.
    pub(super) fn read(&mut self, count: u8) -> Result<Branches, Malformed> {
        (0..count).map(|_| self.read_hop()).collect()
    }

    fn read_hop(&mut self) -> Result<Nhlfe, Malformed> {
        let [a, b, c] = self.cursor.array()?;
        let word = u32::from_le_bytes([a, b, c, 0]);
        let label = Label::new(word & Label::MAX);
        let label = label.ok_or_else(|| self.cursor.malformed("a label of 20 bits"))?;
        let place = word >> HOP_PLACE_SHIFT;
        let hop = match self.recent.get(place as usize) {
            Some(recent) => *recent,
            None => {
                let number = self.cursor.index()?;
                let hop = self.addresses.get(number).copied();
                self.recent[number % HOP_PLACES as usize] = hop;
                hop
            }
        };
        let hop = hop.ok_or_else(|| self.cursor.malformed("an address that is there already"))?;
        let mut stack = LabelStack::new();
        stack.push(label);
        Ok(Nhlfe::new(stack, NextHop::Address(hop)))
    }

    pub(super) fn finish(&self) -> Result<(), Malformed> {
        self.cursor.finish()
    }
}
