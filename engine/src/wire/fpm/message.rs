//! The messages of one FPM frame that concern a label table, as plain values.
//!
//! In:   the payload of one FPM frame.
//! Out:  `Parsed`: routes and next hops, in the order of the frame.
//! Law:  what of one message no mapping can say is said of that message; a frame whose lengths do
//!       not add up yields none.
//! Not:  what a route means for the label table (`entry`), which next hops a group has (`groups`).

use std::ops::Range;

use storage::row::Cause;

use super::hop::Hop;
use super::netlink::{Fault, each_message};
use super::route::Route;
use super::{next_hop, route};

// Message types of rtnetlink(7).
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// One netlink message, as far as a label table is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// RTM_NEWROUTE and RTM_DELROUTE.
    Route(Route),
    /// RTM_NEWNEXTHOP.
    NextHop {
        /// Its number.
        id: u32,
        /// What it is.
        what: Announced,
    },
    /// RTM_DELNEXTHOP.
    NextHopDeleted {
        /// Its number.
        id: u32,
    },
    /// What it is about could not be read.
    Nameless {
        /// Why.
        cause: Cause,
        /// What was expected and found.
        detail: Box<str>,
    },
}

/// What stands behind a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// One next hop.
    Hop(Hop),
    /// Packets are dropped.
    Drops,
    /// A next hop that carries nothing: its interface is down.
    Dead,
    /// Several, by number: in `Parsed::members`.
    Group(Range<usize>),
    /// Something that no mapping can say.
    Refused(Fault),
}

/// A member of a next-hop group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Number of the next hop.
    pub(super) id: u32,
    /// Share among the members, from 1.
    pub(super) weight: u32,
}

/// The messages of one frame; kept and refilled, so that reading allocates nothing after warm-up.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// In the order of the frame; messages that say nothing about labels are left out.
    pub(super) messages: Vec<Message>,
    /// Branches of all routes.
    pub(super) hops: Vec<Hop>,
    /// Members of all groups.
    pub(super) members: Vec<Member>,
}

impl Parsed {
    /// Reads every message of the payload. After a fault (always `FpmMalformed`) the content is not
    /// to be used.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<(), Fault> {
        self.messages.clear();
        self.hops.clear();
        self.members.clear();
        each_message(payload, |kind, body| {
            let message = match kind {
                RTM_NEWROUTE | RTM_DELROUTE => {
                    route::read(body, kind == RTM_DELROUTE, &mut self.hops)?
                }
                RTM_NEWNEXTHOP => Some(next_hop::read(body, &mut self.members)?),
                RTM_DELNEXTHOP => Some(next_hop::read_deleted(body)?),
                _ => None,
            };
            self.messages.extend(message);
            Ok(())
        })
    }
}

/// A fault of one message alone; one of the frame goes on.
pub(super) fn alone<T>(read: Result<T, Fault>) -> Result<Result<T, Fault>, Fault> {
    match read {
        Err(fault) if fault.cause == Cause::FpmMalformed => Err(fault),
        other => Ok(other),
    }
}
