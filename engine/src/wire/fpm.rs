//! FPM: what FRR and SONiC routers say of their label tables, as mappings.
//!
//! In:   the payload of one FPM frame after another: netlink messages (RFC 3549), see `netlink`.
//! Out:  a `Unit` of mappings: label routes as ILM entries, IP routes as FTN entries.
//! Law:  a withdrawal and the new route behind it in one frame are one change; a route over an
//!       unknown next hop is rejected by key: history answers `unknown`, not the old value.
//! Not:  the frame header (`wire`); where the dump ends (`shard`). FPM carries no time, no router
//!       id, no FEC of an ILM entry and no end of the dump.
//!
//! How a route becomes a mapping:
//!
//! | netlink | mapping |
//! |---|---|
//! | AF_MPLS, RTA_NEWDST | ILM, swap, the stack as sent |
//! | AF_MPLS, a gateway alone | ILM, swap 3: the label goes at the last hop but one |
//! | AF_MPLS, an interface alone | ILM, pop, next hop `fec`; among other branches: swap 3 |
//! | AF_INET, AF_INET6, labels in RTA_ENCAP or in the next hop | FTN, push, the stack as sent |
//! | the same, no labels or implicit null | FTN, push, an empty stack |
//! | the same, no gateway | FTN, next hop `fec`: the prefix is connected |
//! | blackhole, unreachable, prohibit | the entry is withdrawn: nothing is forwarded |
//! | local, broadcast, multicast, fe80::/10, ff00::/8 | nothing: no entry, or one per interface |
//!
//! Table 254 (main) is the global table, 0; every other table keeps its number.

mod hops;
mod netlink;

use std::net::IpAddr;

use ipnet::IpNet;
use storage::mapping::{
    Branches, Fec, Ingress, Key, Label, LabelStack, Mapping, NextHop, Nhlfe, Operation, TimeSource,
};
use storage::row::Cause;
use storage::time::Micros;

use self::hops::{Full, NextHops, Resolution};
use self::netlink::{Destination, Fate, Fault, Hop, Message, Parsed, RouteKey};
use super::{RejectedMapping, Rejection, Unit, UnitKind};

/// Bytes of an FPM frame's header: version u8, type u8, length u16 (big endian, header included).
pub const HEADER_BYTES: usize = 4;

/// Mappings that one unit holds at most: a next hop that changes may alter a million routes.
pub const UNIT_MAPPINGS_MAX: usize = 8_192;

const FPM_VERSION: u8 = 1;
const FPM_TYPE_NETLINK: u8 = 1;

/// `RT_TABLE_MAIN` and `RT_TABLE_UNSPEC`: both mean the global table.
const TABLES_GLOBAL: [u32; 2] = [254, 0];

/// Length of the frame that begins with this header, header included. Errors: `FpmMalformed`.
pub fn frame_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, Rejection> {
    let [version, kind, high, low] = header;
    let bytes = usize::from(u16::from_be_bytes([high, low]));
    if (version, kind) != (FPM_VERSION, FPM_TYPE_NETLINK) || bytes < HEADER_BYTES {
        let detail = format_args!(
            "FPM header: expected version 1, type 1, length 4 or more, \
             found version {version}, type {kind}, length {bytes}"
        );
        return Err(Rejection::new(Cause::FpmMalformed, detail));
    }
    Ok(bytes)
}

/// Reads the FPM frames of one session. Small until next-hop groups are announced.
#[derive(Debug, Default)]
pub struct FpmDecoder {
    next_hops: NextHops,
    parsed: Parsed,
    /// Branches behind a number; kept to be refilled.
    hops: Vec<Hop>,
}

impl FpmDecoder {
    /// Reads one frame's payload into `unit`, which is cleared before; it may stay empty.
    ///
    /// When `is_pending` afterwards, the unit holds the first `UNIT_MAPPINGS_MAX` mappings of the
    /// frame, and `proceed` gives the next ones. Errors: `FpmMalformed`; then nothing of the frame
    /// counts. `now` is the event time of every mapping.
    pub fn message(
        &mut self,
        payload: &[u8],
        now: Micros,
        unit: &mut Unit,
    ) -> Result<(), Rejection> {
        begin(unit);
        self.parsed.read(payload).map_err(rejection)?;
        let parsed = std::mem::take(&mut self.parsed);
        for message in &parsed.messages {
            self.apply(message, &parsed, now, unit);
        }
        self.parsed = parsed;
        self.tell_altered(now, unit);
        Ok(())
    }

    /// Whether mappings of the last frame are still to come.
    pub fn is_pending(&self) -> bool {
        self.next_hops.has_altered()
    }

    /// Puts the next mappings of the last frame into `unit`, which is cleared before.
    pub fn proceed(&mut self, now: Micros, unit: &mut Unit) {
        begin(unit);
        self.tell_altered(now, unit);
    }

    /// Bytes held for next-hop groups and the routes on them, estimated.
    pub fn memory_bytes(&self) -> usize {
        self.next_hops.memory_bytes()
    }

    fn apply(&mut self, message: &Message, parsed: &Parsed, now: Micros, unit: &mut Unit) {
        let stored = match message {
            Message::Route { destination, fate, hops, next_hop } => {
                let hops = &parsed.hops[hops.clone()];
                match *destination {
                    Destination::Label(label) => tell_label(label, *fate, hops, now, unit),
                    Destination::Prefix(route) => {
                        self.apply_route(route, *fate, hops, *next_hop, now, unit);
                    }
                }
                Ok(())
            }
            Message::NextHop { id, hop } => {
                self.next_hops.announce(*id, hops::NextHop::Hop(hop.clone()))
            }
            Message::Group { id, members } => {
                let members = parsed.members[members.clone()].into();
                self.next_hops.announce(*id, hops::NextHop::Group(members))
            }
            Message::NextHopDeleted { id } => {
                self.next_hops.withdraw(*id);
                Ok(())
            }
        };
        if let Err(full) = stored {
            unit.rejected.push(refused(None, full));
        }
    }

    fn apply_route(
        &mut self,
        route: RouteKey,
        fate: Fate,
        hops: &[Hop],
        next_hop: Option<u32>,
        now: Micros,
        unit: &mut Unit,
    ) {
        if fate == Fate::Other || is_per_interface(&route.prefix) {
            return;
        }
        match next_hop {
            Some(id) if fate == Fate::Forwards => match self.next_hops.attach(route, id) {
                Ok(()) => self.tell_resolved(route, id, now, unit),
                Err(full) => {
                    let key = Key::Ftn(fec(route));
                    take_back(key, unit);
                    unit.rejected.push(refused(Some(key), full));
                }
            },
            _ => {
                self.next_hops.detach(route);
                tell_route(route, fate, hops, now, unit);
            }
        }
    }

    fn tell_altered(&mut self, now: Micros, unit: &mut Unit) {
        while unit.mappings.len() + unit.rejected.len() < UNIT_MAPPINGS_MAX {
            let Some((route, id)) = self.next_hops.next_altered() else { return };
            self.tell_resolved(route, id, now, unit);
        }
    }

    fn tell_resolved(&mut self, route: RouteKey, id: u32, now: Micros, unit: &mut Unit) {
        match self.next_hops.resolve(id, &mut self.hops) {
            Resolution::Branches => tell_route(route, Fate::Forwards, &self.hops, now, unit),
            Resolution::Drops => tell_route(route, Fate::Drops, &[], now, unit),
            Resolution::Unknown(missing) => {
                let key = Key::Ftn(fec(route));
                take_back(key, unit);
                unit.rejected.push(RejectedMapping {
                    cause: Cause::NextHopUnknown,
                    key: Some(key),
                    detail: format!(
                        "{key}: expected an announced next hop, found {id} over {missing}"
                    )
                    .into(),
                });
            }
        }
    }
}

fn begin(unit: &mut Unit) {
    unit.clear();
    unit.kind = UnitKind::Mappings;
}

/// An ILM entry. Mixed branches make it a swap, in which `pop` is written as implicit null.
fn tell_label(label: Label, fate: Fate, hops: &[Hop], now: Micros, unit: &mut Unit) {
    let swaps = hops.iter().any(|hop| hop.gateway.is_some() || !hop.stack.is_empty());
    let branches = branches(hops, |hop| match hop.stack.is_empty() {
        true if swaps => LabelStack::from_iter([Label::IMPLICIT_NULL]),
        _ => hop.stack.clone(),
    });
    let operation = match fate {
        Fate::Forwards if swaps => Operation::Swap,
        Fate::Forwards => Operation::Pop,
        Fate::Drops | Fate::Deleted => Operation::None,
        Fate::Other => return,
    };
    tell(Fec::Unknown, Ingress::platform(label), operation, branches, now, unit);
}

/// An FTN entry. Implicit null in a stack to push means no label.
fn tell_route(route: RouteKey, fate: Fate, hops: &[Hop], now: Micros, unit: &mut Unit) {
    let branches = branches(hops, |hop| {
        hop.stack.iter().copied().filter(|label| *label != Label::IMPLICIT_NULL).collect()
    });
    let operation = match fate {
        Fate::Forwards => Operation::Push,
        Fate::Drops | Fate::Deleted => Operation::None,
        Fate::Other => return,
    };
    tell(fec(route), Ingress::UNTAGGED, operation, branches, now, unit);
}

fn branches(hops: &[Hop], stack_of: impl Fn(&Hop) -> LabelStack) -> Branches {
    // Equal weights are equal shares, whatever number says so.
    let alike = hops.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    let nhlfe = |hop: &Hop| Nhlfe {
        weight: (!alike).then_some(hop.weight),
        ..Nhlfe::new(stack_of(hop), hop.gateway.map_or(NextHop::Fec, NextHop::Address))
    };
    hops.iter().map(nhlfe).collect()
}

/// Adds a mapping to the unit; it takes the place of a withdrawal of its key just before it.
fn tell(
    fec: Fec,
    ingress: Ingress,
    operation: Operation,
    branches: Branches,
    now: Micros,
    unit: &mut Unit,
) {
    let withdraws = operation == Operation::None;
    let mut mapping = Mapping {
        fec,
        ingress,
        operation,
        branches: if withdraws { Branches::new() } else { branches },
        event_time: now,
        time_source: TimeSource::Collector,
        extra: None,
    };
    mapping.normalise();
    let key = mapping.key();
    take_back(key, unit);
    if !withdraws && mapping.branches.is_empty() {
        unit.rejected.push(RejectedMapping {
            cause: Cause::NhlfeInvalid,
            key: Some(key),
            detail: format!("{key}: expected a gateway, an interface or a number, found none")
                .into(),
        });
    } else {
        unit.mappings.push(mapping);
    }
}

/// zebra writes an altered IP route as a withdrawal and a new route in one frame: one change.
fn take_back(key: Key, unit: &mut Unit) {
    let withdrawn = |last: &mut Mapping| last.operation == Operation::None && last.key() == key;
    unit.mappings.pop_if(withdrawn);
}

fn fec(route: RouteKey) -> Fec {
    let RouteKey { prefix, table } = route;
    Fec::Ip { prefix, table: if TABLES_GLOBAL.contains(&table) { 0 } else { table } }
}

/// Prefixes that every interface has a route of its own for: no key tells them apart.
fn is_per_interface(prefix: &IpNet) -> bool {
    match prefix.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => {
            (address.is_unicast_link_local() && prefix.prefix_len() >= 10)
                || (address.is_multicast() && prefix.prefix_len() >= 8)
        }
    }
}

fn refused(key: Option<Key>, full: Full) -> RejectedMapping {
    let Full { what, limit } = full;
    let detail = format!("{what}: expected at most {limit}, found one more").into();
    RejectedMapping { cause: Cause::TableFull, key, detail }
}

fn rejection(fault: Fault) -> Rejection {
    let Fault { offset, expected, found } = fault;
    let detail = format_args!("netlink byte {offset}: expected {expected}, found {found}");
    Rejection::new(Cause::FpmMalformed, detail)
}

#[cfg(test)]
mod tests;
