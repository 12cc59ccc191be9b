//! History: what the log says of any instant, and what it cannot say.
//!
//! In:   the rows of a data folder, each router's in `Position` order.
//! Out:  the network as of an instant (`network`), changes and gaps of a router (`events`), and the
//!       way of an LSP (`walk`, `explore`).
//! Law:  unknown is an answer: what lies in a gap is never shown as if it were vouched for.
//! Not:  how rows are read (`log`), how answers are printed (engine).

use std::fmt;
use std::net::IpAddr;

use crate::mapping::{Encapsulation, Label};
use crate::row::Reason;
use crate::time::Micros;

pub mod network;
pub mod clocks;
pub(crate) mod course;
mod links;
pub mod events;
pub mod walk;
pub mod explore;

/// Why the log cannot vouch for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnknownCause {
    /// A gap of the router is open: what happened is the reason of its gap row.
    RouterGap(Reason),
    /// A mapping of this very key was rejected.
    KeyGap(Reason),
    /// A snapshot of inferred end lacked the entry.
    Unconfirmed,
    /// The router's table has never been known in full: that there is no entry says nothing.
    NeverComplete,
    /// Nothing at all had been heard of the router.
    NeverHeard,
    /// No router is known to own this next-hop address: the way goes on where nobody reports.
    RouterUnknown(IpAddr),
    /// Several routers own this next-hop address, or may: the branch does not say which it means.
    AddressShared(IpAddr),
    /// The branch leaves by an interface, and nobody says which router is behind it.
    InterfaceUnknown,
    /// The next hop is the router itself.
    NextHopOwn,
    /// The packet leaves MPLS in another encapsulation, which is not followed.
    Encapsulated(Encapsulation),
    /// The router has this label, or this prefix, in several tables, and nobody says which of them
    /// the packet meets.
    TableUnknown,
    /// Which entry a packet meets depends on its source address or its type of service.
    SourceDependent,
    /// The entry has backup branches and no other: whether they carry traffic is not said.
    BackupOnly,
    /// A special-purpose label (RFC 9017) of which the router makes something of its own.
    SpecialLabel(Label),
    /// The packet leaves MPLS for a FEC that cannot be compared with the one it entered for: names
    /// and table numbers are each router's own.
    FecIncomparable,
    /// Something of the router's table could not be read: entries that it lacks may be there.
    RestGap(Reason),
    /// The router changed the entry, at a time that its own snapshot, or the entry's change before,
    /// contradicts: it happened between that and when the change was read.
    TimeDisputed,
    /// The collector's own clock was ahead: what it read then happened some time between the row
    /// before and the first with a right time.
    CollectorClock,
    /// The collector stopped looking: the walk had more steps than the limit.
    WalkTooLong,
}

impl UnknownCause {
    /// The word in every output; that of a gap is the gap's reason.
    pub const fn name(self) -> &'static str {
        match self {
            UnknownCause::RouterGap(reason)
            | UnknownCause::KeyGap(reason)
            | UnknownCause::RestGap(reason) => reason.name(),
            UnknownCause::Unconfirmed => "unconfirmed",
            UnknownCause::NeverComplete => "never-complete",
            UnknownCause::NeverHeard => "never-heard",
            UnknownCause::RouterUnknown(_) => "router-unknown",
            UnknownCause::AddressShared(_) => "address-shared",
            UnknownCause::InterfaceUnknown => "interface-unknown",
            UnknownCause::NextHopOwn => "next-hop-own",
            UnknownCause::Encapsulated(_) => "encapsulated",
            UnknownCause::TableUnknown => "table-unknown",
            UnknownCause::SourceDependent => "source-dependent",
            UnknownCause::BackupOnly => "backup-only",
            UnknownCause::SpecialLabel(_) => "special-label",
            UnknownCause::FecIncomparable => "fec-incomparable",
            UnknownCause::TimeDisputed => "time-disputed",
            UnknownCause::CollectorClock => "collector-clock",
            UnknownCause::WalkTooLong => "walk-too-long",
        }
    }
}

/// Why something is unknown, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unknown {
    /// Why.
    pub cause: UnknownCause,
    /// Since when; `None` = from the beginning.
    pub since: Option<Micros>,
}

impl fmt::Display for Unknown {
    /// `unknown since 2026-11-22T04:05:06.000000Z (connection-lost)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown")?;
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        let (kind, detail) = match self.cause {
            UnknownCause::KeyGap(_) => ("entry: ", String::new()),
            UnknownCause::RestGap(_) => ("rest of the table: ", String::new()),
            UnknownCause::AddressShared(address) => ("", format!(": {address}")),
            UnknownCause::Encapsulated(outer) => ("", format!(": {}", outer.name())),
            UnknownCause::SpecialLabel(label) => ("", format!(": {label}")),
            _ => ("", String::new()),
        };
        write!(f, " ({kind}{}{detail})", self.cause.name())
    }
}

/// Whether an answer can be vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The router said so, and nothing since has cast doubt on it.
    Vouched,
    /// It cannot.
    Unknown(Unknown),
}

impl Standing {
    /// Why not, if not.
    pub fn unknown(&self) -> Option<Unknown> {
        match self {
            Standing::Vouched => None,
            Standing::Unknown(unknown) => Some(*unknown),
        }
    }
}
