//! What a route is as an entry of a label table.
//!
//! In:   a destination and the branches behind it, as `route` and `groups` know them.
//! Out:  mappings and refusals, in the frame's `Unit`.
//! Law:  a unit says one thing of a key, its last; a withdrawal and the new route behind it in one
//!       frame are one change.
//! Not:  how either was read.

use std::collections::HashSet;
use std::fmt;
use std::io::Write as _;
use std::num::NonZeroU32;

use foldhash::fast::FixedState;
use storage::mapping::{
    Branches, Fec, Ingress, Key, Label, LabelStack, Link, Mapping, Name, NextHop, Nhlfe, Operation,
    TimeSource,
};
use storage::row::Cause;
use storage::time::Micros;

use super::super::{REJECTED_DETAILS_MAX, RejectedMapping, Rejection, Unit, UnitKind};
use super::hop::{Hop, INTERFACE_LOOPBACK};
use super::route::RouteKey;

/// What becomes of the packets of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told<'a> {
    /// They go on by these branches. `is_connected`: a branch that names an interface alone is the
    /// prefix's own.
    Branches {
        /// At least one.
        hops: &'a [Hop],
        /// Of a prefix: whether the router is on it.
        is_connected: bool,
    },
    /// They are dropped.
    Discard,
    /// They are the router's own.
    Own,
    /// There is no entry any more.
    Gone,
}

/// Keys of the unit under way that are refused; kept to be refilled.
pub(super) type Refused = HashSet<Key, FixedState>;

/// The unit under way.
pub(super) struct Telling<'a> {
    /// What is told.
    pub(super) unit: &'a mut Unit,
    /// Keys in `Unit::rejected`.
    pub(super) refused: &'a mut Refused,
    /// Event time of every mapping.
    pub(super) now: Micros,
}

impl<'a> Telling<'a> {
    /// Begins a unit; what was in it is gone.
    pub(super) fn begin(unit: &'a mut Unit, refused: &'a mut Refused, now: Micros) -> Self {
        unit.clear();
        unit.kind = UnitKind::Mappings;
        refused.clear();
        Telling { unit, refused, now }
    }

    /// How much it tells.
    pub(super) fn len(&self) -> usize {
        self.unit.mappings.len() + self.unit.rejected.len()
    }

    /// Tells an ILM entry. Mixed branches make it a swap, in which `pop` is written as implicit
    /// null.
    pub(super) fn label(&mut self, label: Label, told: Told<'_>) {
        let (operation, branches) = match told {
            Told::Branches { hops, .. } => {
                let swaps = |hop: &Hop| hop.gateway.is_some() || !hop.stack.is_empty();
                let swaps = hops.iter().any(swaps);
                let operation = if swaps { Operation::Swap } else { Operation::Pop };
                (operation, branches(hops, |hop| label_branch(hop, swaps)))
            }
            Told::Discard => (Operation::Discard, Branches::new()),
            Told::Own => (Operation::Pop, own()),
            Told::Gone => (Operation::None, Branches::new()),
        };
        self.tell(Fec::Unknown, Ingress::platform(label), operation, branches);
    }

    /// Tells an FTN entry.
    pub(super) fn route(&mut self, route: RouteKey, told: Told<'_>) {
        let (operation, branches) = match told {
            Told::Branches { hops, is_connected } => {
                (Operation::Push, branches(hops, |hop| prefix_branch(hop, is_connected)))
            }
            Told::Discard => (Operation::Discard, Branches::new()),
            Told::Own => (Operation::Push, own()),
            Told::Gone => (Operation::None, Branches::new()),
        };
        self.tell(fec(route), Ingress::UNTAGGED, operation, branches);
    }

    fn tell(&mut self, fec: Fec, ingress: Ingress, operation: Operation, branches: Branches) {
        let (event_time, time_source) = (self.now, TimeSource::Collector);
        let mut mapping =
            Mapping { fec, ingress, operation, branches, event_time, time_source, extra: None };
        mapping.normalise();
        self.take_back(mapping.key());
        self.unit.mappings.push(mapping);
    }

    /// No mapping can say what the router says of this key: nobody can vouch for it any more.
    pub(super) fn refuse(&mut self, key: Key, cause: Cause, why: impl fmt::Display) {
        self.take_back(key);
        self.refused.insert(key);
        self.reject(Some(key), cause, format_args!("{key}: {why}"));
    }

    /// The same, of a key that could not be read.
    pub(super) fn refuse_nameless(&mut self, cause: Cause, why: impl fmt::Display) {
        self.reject(None, cause, why);
    }

    fn reject(&mut self, key: Option<Key>, cause: Cause, why: impl fmt::Display) {
        let detail = match self.unit.rejected.len() < REJECTED_DETAILS_MAX {
            true => Rejection::new(cause, why).detail,
            false => Box::default(),
        };
        self.unit.rejected.push(RejectedMapping { cause, key, detail });
    }

    /// zebra writes an altered IP route as a withdrawal and a new route in one frame: one change.
    /// A key that was refused is known again by what is said of it behind that.
    fn take_back(&mut self, key: Key) {
        let withdrawn = |last: &mut Mapping| last.operation == Operation::None && last.key() == key;
        self.unit.mappings.pop_if(withdrawn);
        if self.refused.remove(&key) {
            self.unit.rejected.retain(|rejected| rejected.key != Some(key));
        }
    }
}

pub(super) fn fec(route: RouteKey) -> Fec {
    let RouteKey { prefix, table, source, tos } = route;
    match (source, tos) {
        (None, 0) => Fec::Ip { prefix, table },
        _ => Fec::IpFrom { prefix, table, source, tos },
    }
}

fn branches(hops: &[Hop], branch: impl Fn(&Hop) -> Nhlfe) -> Branches {
    // Equal weights are equal shares, whatever number says so.
    let alike = hops.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    let weighted = |hop: &Hop| Nhlfe { weight: (!alike).then_some(hop.weight), ..branch(hop) };
    hops.iter().map(weighted).collect()
}

/// A branch of a label route.
fn label_branch(hop: &Hop, swaps: bool) -> Nhlfe {
    let stack = match hop.stack.is_empty() {
        true if swaps => LabelStack::from_iter([Label::IMPLICIT_NULL]),
        _ => hop.stack.clone(),
    };
    let says_where = hop.gateway.is_some() || hop.encapsulation.is_some();
    match (says_where, hop.stack.is_empty(), hop.interface) {
        // What leaves by the loopback comes in again, and its label is looked up here.
        (false, pops, Some(INTERFACE_LOOPBACK)) if !pops || swaps => {
            Nhlfe::new(stack, NextHop::Recursive)
        }
        // The label goes, and the packet leaves MPLS by the interface; a label below is for
        // whoever is behind it.
        (false, true, _) => Nhlfe::new(stack, NextHop::Fec).with_link(link(hop)),
        _ => sent(hop, stack),
    }
}

/// A branch of an IP route.
fn prefix_branch(hop: &Hop, is_connected: bool) -> Nhlfe {
    let is_bare = hop.gateway.is_none() && hop.encapsulation.is_none() && hop.stack.is_empty();
    match is_bare && is_connected {
        true => Nhlfe::new(LabelStack::new(), NextHop::Fec).with_link(link(hop)),
        false => sent(hop, hop.stack.clone()),
    }
}

/// A branch to a neighbour: by its address, or as whoever is behind the interface.
fn sent(hop: &Hop, stack: LabelStack) -> Nhlfe {
    let mut link = link(hop);
    let next_hop = match hop.gateway {
        Some(gateway) => NextHop::Address(gateway),
        None => NextHop::Interface,
    };
    // Without a gateway it takes a name to say where to, be it the loopback's.
    if next_hop == NextHop::Interface && link == Link::default() {
        link.interface = hop.interface.and_then(interface_name);
    }
    Nhlfe::new(stack, next_hop).with_link(link)
}

fn link(hop: &Hop) -> Link {
    let interface = hop.interface.filter(|interface| *interface != INTERFACE_LOOPBACK);
    Link {
        interface: interface.and_then(interface_name),
        neighbour: None,
        encapsulation: hop.encapsulation,
    }
}

/// FPM says no name of an interface: `ifindex:9`.
fn interface_name(index: NonZeroU32) -> Option<Name> {
    const BYTES_MAX: usize = "ifindex:4294967295".len();
    let mut text = [0; BYTES_MAX];
    let mut rest = &mut text[..];
    write!(rest, "ifindex:{index}").ok()?;
    let length = BYTES_MAX - rest.len();
    Name::new(std::str::from_utf8(text.get(..length)?).ok()?)
}

/// The one branch of what ends here.
fn own() -> Branches {
    Branches::from_iter([Nhlfe::new(LabelStack::new(), NextHop::Fec)])
}
