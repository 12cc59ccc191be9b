//! History: what the log says of any instant, and what it cannot say.
//!
//! In:   the rows of a data folder, each router's in `Position` order.
//! Out:  the network as of an instant (`network`), changes and gaps of a router (`events`), and the
//!       way of an LSP (`walk`, `explore`).
//! Law:  unknown is an answer: what lies in a gap is never shown as if it were vouched for.
//! Not:  how rows are read (`log`), how answers are printed (engine).

use std::fmt;
use std::net::IpAddr;

use crate::row::Reason;
use crate::time::Micros;

pub mod network;
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
    /// The collector stopped looking: the walk had more steps than the limit.
    WalkTooLong,
}

impl UnknownCause {
    /// The word in every output; that of a gap is the gap's reason.
    pub const fn name(self) -> &'static str {
        match self {
            UnknownCause::RouterGap(reason) | UnknownCause::KeyGap(reason) => reason.name(),
            UnknownCause::Unconfirmed => "unconfirmed",
            UnknownCause::NeverComplete => "never-complete",
            UnknownCause::NeverHeard => "never-heard",
            UnknownCause::RouterUnknown(_) => "router-unknown",
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
        let kind = if matches!(self.cause, UnknownCause::KeyGap(_)) { "entry: " } else { "" };
        write!(f, " ({kind}{})", self.cause.name())
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
