//! The label mapping as data: FEC, ingress label, operation, branches, and the key of an entry.
//!
//! In:   values that the wire decoders and the log reader build.
//! Out:  `Mapping` and its `Key`, comparable and printable; the words are those of RFC 3031.
//! Law:  two mappings that mean the same compare equal: prefixes are masked, branches are sorted.
//! Not:  what a mapping changes (`table`), how it is written to disk (`log`) or sent (engine).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::time::Micros;

mod address;
mod branch;
mod distinguisher;
mod fec;
mod name;

pub use address::{canonical_prefix, parse_address, parse_prefix};
pub use branch::{
    BRANCHES_MAX, Branches, Encapsulation, LabelStack, Link, NextHop, Nhlfe, Role, STACK_LABELS_MAX,
};
pub use distinguisher::RouteDistinguisher;
pub use fec::{Fec, NameKind};
pub use name::{NAME_BYTES_MAX, Name};

/// Identifies a monitored router, whatever address its connection comes from. Never IPv4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub IpAddr);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RouterId {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|address: IpAddr| RouterId(address.to_canonical()))
    }
}

/// A label value, 0 to 1,048,575 (20 bits, RFC 3032 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u32);

impl Label {
    /// The largest label: 20 bits.
    pub const MAX: u32 = (1 << 20) - 1;
    /// Implicit null (RFC 3032 section 2.1): never on the wire; a swap or push of 3 leaves nothing.
    pub const IMPLICIT_NULL: Label = Label(3);
    /// Labels 0 to 15 are reserved (RFC 3032 section 2.1): accepted, and flagged.
    pub const RESERVED_MAX: u32 = 15;

    /// A label, or `None` above `Label::MAX`.
    pub const fn new(value: u32) -> Option<Label> {
        if value <= Self::MAX { Some(Label(value)) } else { None }
    }

    /// The label's number.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Whether the label is one of the reserved 0 to 15.
    pub const fn is_reserved(self) -> bool {
        self.0 <= Self::RESERVED_MAX
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an ingress label was received (draft section 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// No label: the packet enters the MPLS network here. Only with the ingress label -1.
    Untagged,
    /// The packet has just received this inner label at this router.
    Service,
    /// A label of the router's per-platform label space.
    Platform,
    /// A label of a per-interface label space; the router upstream of that interface.
    Interface(RouterId),
    /// A label of another label table of the router, by its number there, never 0: that of a VRF
    /// (carrier's carrier, RFC 4364 section 9) or of a logical system.
    Table(u32),
}

impl Origin {
    /// The label table of this number: 0 is the platform's.
    pub const fn of_table(table: u32) -> Origin {
        if table == 0 { Origin::Platform } else { Origin::Table(table) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Untagged => f.write_str("untagged"),
            Origin::Service => f.write_str("service"),
            Origin::Platform => f.write_str("platform"),
            Origin::Interface(router) => router.fmt(f),
            Origin::Table(table) => write!(f, "platform,{table}"),
        }
    }
}

/// Text that is no value of the model: who wrote it reads what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}`: expected {expected}")]
pub struct ModelParseError {
    /// What the text should have been.
    pub what: &'static str,
    /// What was found.
    pub text: String,
    /// Accepted spellings.
    pub expected: &'static str,
}

/// How a packet meets the entry: with which label on top, received where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ingress {
    /// `None` is the draft's -1: an FTN entry.
    pub label: Option<Label>,
    /// Where the label comes from; `Untagged` exactly when `label` is `None`.
    pub origin: Origin,
}

impl Ingress {
    /// The ingress of an FTN entry: label -1, origin untagged.
    pub const UNTAGGED: Ingress = Ingress { label: None, origin: Origin::Untagged };

    /// The ingress of an ILM entry of the per-platform label space.
    pub const fn platform(label: Label) -> Ingress {
        Ingress { label: Some(label), origin: Origin::Platform }
    }
}

/// What the router does with a packet that meets the entry (draft section 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Put labels on.
    Push,
    /// Replace the top label.
    Swap,
    /// Take the top label off.
    Pop,
    /// Copy to every branch (P2MP).
    Replicate,
    /// The entry is withdrawn.
    None,
    /// Drop the packet, on purpose.
    Discard,
    /// Take every label off: the packet goes on as what is inside.
    Untag,
}

impl Operation {
    /// Every operation: those of the draft in its order, then ours. The index is its code on disk.
    pub const ALL: [Operation; 7] = [
        Operation::Push,
        Operation::Swap,
        Operation::Pop,
        Operation::Replicate,
        Operation::None,
        Operation::Discard,
        Operation::Untag,
    ];

    /// The operation's word on the wire and in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Push => "push",
            Operation::Swap => "swap",
            Operation::Pop => "pop",
            Operation::Replicate => "replicate",
            Operation::None => "none",
            Operation::Discard => "discard",
            Operation::Untag => "untag",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whose clock gave the event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeSource {
    /// The router wrote it.
    Router,
    /// The router writes none (FPM): the time at which the collector read the mapping.
    Collector,
}

impl TimeSource {
    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            TimeSource::Router => "router",
            TimeSource::Collector => "collector",
        }
    }
}

/// One label mapping, as a router says it. The router itself is named by what carries the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What traffic the entry is for.
    pub fec: Fec,
    /// How a packet meets the entry.
    pub ingress: Ingress,
    /// What is done with it.
    pub operation: Operation,
    /// Towards where; sorted (see `normalise`); empty when withdrawn.
    pub branches: Branches,
    /// When the mapping became active.
    pub event_time: Micros,
    /// By whose clock.
    pub time_source: TimeSource,
    /// Options and unknown elements, as the XML they came in; kept, not understood.
    pub extra: Option<Box<str>>,
}

impl Mapping {
    /// What identifies the entry in its router's table (DESIGN: the key).
    pub fn key(&self) -> Key {
        match self.ingress {
            Ingress { label: None, .. } => Key::Ftn(self.fec),
            Ingress { label: Some(label), origin: Origin::Service } => {
                Key::Service(label, self.fec)
            }
            Ingress { label: Some(label), origin } => Key::Ilm(label, origin),
        }
    }

    /// Memory that it takes beyond its own size, in bytes: branches, stacks and options that are
    /// longer than usual. O(branches).
    pub fn beyond_bytes(&self) -> usize {
        let list = if self.branches.spilled() { self.branches.capacity() } else { 0 };
        let beyond: usize = self.branches.iter().map(Nhlfe::beyond_bytes).sum();
        list * size_of::<Nhlfe>() + beyond + self.extra.as_ref().map_or(0, |extra| extra.len())
    }

    /// Puts operation and branches in their one form, so that mappings that mean the same compare
    /// equal: branches sorted; `untag` said by the operation where every branch untags.
    pub fn normalise(&mut self) {
        self.branches.sort_unstable();
        let takes_labels = matches!(self.operation, Operation::Swap | Operation::Pop);
        let untags = |branch: &Nhlfe| branch.untags;
        if takes_labels && !self.branches.is_empty() && self.branches.iter().all(untags) {
            self.operation = Operation::Untag;
        }
        if self.operation == Operation::Untag && self.branches.iter().any(untags) {
            self.branches.iter_mut().for_each(|branch| branch.untags = false);
            self.branches.sort_unstable();
        }
    }

    /// Whether any ingress or egress label, implicit null in a stack apart, is reserved (0 to 15).
    pub fn uses_reserved_label(&self) -> bool {
        let in_stack = |label: &Label| label.is_reserved() && *label != Label::IMPLICIT_NULL;
        self.ingress.label.is_some_and(Label::is_reserved)
            || self.branches.iter().any(|branch| branch.stack.iter().any(in_stack))
    }
}

/// What identifies an entry of one router's table.
///
/// Service entries carry the FEC too, because the egress PEs choose VPN labels and may choose
/// alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// FEC-to-NHLFE entry: one per FEC.
    Ftn(Fec),
    /// Incoming label map entry: one per label and label space.
    Ilm(Label, Origin),
    /// Outer push for a packet that has just received this inner label: one per label and FEC.
    Service(Label, Fec),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Ftn(fec) => write!(f, "ftn {fec}"),
            Key::Ilm(label, origin) => write!(f, "ilm {label} {origin}"),
            Key::Service(label, fec) => write!(f, "service {label} {fec}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use smallvec::smallvec;

    use super::*;

    /// An ILM entry of no known FEC, as the tests of every other module want one.
    pub(crate) fn swap(label: u32, out: u32, event_us: i64) -> Mapping {
        Mapping {
            fec: Fec::Unknown,
            ingress: Ingress::platform(Label::new(label).unwrap()),
            operation: Operation::Swap,
            branches: smallvec![Nhlfe::new(
                smallvec![Label::new(out).unwrap()],
                NextHop::Address("192.0.2.2".parse().unwrap()),
            )],
            event_time: Micros(event_us),
            time_source: TimeSource::Router,
            extra: None,
        }
    }

    #[test]
    fn labels_end_at_twenty_bits() {
        assert_eq!(Label::new(1_048_575).map(Label::value), Some(1_048_575));
        assert_eq!(Label::new(1_048_576), None);
    }

    #[test]
    fn untag_has_one_form() {
        let mut mapping = swap(24, 25, 0);
        let branch = Nhlfe { untags: true, ..Nhlfe::new(smallvec![], NextHop::Fec) };
        mapping.branches = smallvec![branch.clone(), branch.clone()];
        let mut same = Mapping { operation: Operation::Untag, ..mapping.clone() };
        same.branches.iter_mut().for_each(|branch| branch.untags = false);
        mapping.normalise();
        same.normalise();
        assert_eq!((mapping.operation, &mapping), (Operation::Untag, &same));
        // A branch that keeps its labels keeps the operation.
        let mut mixed = swap(24, 25, 0);
        mixed.branches.push(branch);
        mixed.normalise();
        assert_eq!(mixed.operation, Operation::Swap);
        assert!(mixed.branches.iter().any(|branch| branch.untags));
    }
}
