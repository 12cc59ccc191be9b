//! FPM: what FRR routers say of their label tables, as mappings.
//!
//! In:   the payload of one FPM frame after another: netlink messages (RFC 3549), see `netlink`.
//! Out:  a `Unit` of mappings: label routes as ILM entries, IP routes as FTN entries.
//! Law:  a route that no mapping can say is rejected by its key, alone: history answers `unknown`,
//!       neither the old value nor a neighbouring one.
//! Not:  the frame header (`wire`); where the dump ends (`shard`). FPM carries no time, no router
//!       id, no FEC of an ILM entry, no name of an interface and no end of the dump.
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
//! | the same, an interface alone, as the kernel's | FTN, next hop `fec`: connected |
//! | labels, or a route of another protocol, to an interface alone | next hop `interface` |
//! | RTA_OIF, rtnh_ifindex, NHA_OIF | interface `ifindex:9` of the branch |
//! | another RTA_ENCAP_TYPE, NHA_ENCAP_TYPE | encapsulation `srv6`, `vxlan`, `ip`, `other` |
//! | RTA_SRC, rtm_tos | part of the FEC, and so of the key |
//! | blackhole, unreachable, prohibit, NHA_BLACKHOLE | discard |
//! | local | FTN, push, an empty stack, next hop `fec`: it ends here |
//! | broadcast, anycast, multicast | no entry; one that was there is withdrawn |
//! | fe80::/10, ff00::/8, ::ffff:0:0/96 | nothing: one per interface, or no packet goes there |
//! | branches flagged dead or linkdown | left out |
//! | all branches down; some drop, others forward; too many labels or branches | rejected by key |
//!
//! Interface 1 is the loopback of every Linux network namespace, and what leaves by it comes in
//! again here: a pop to it names no interface, a swap to it has the next hop `recursive`.

mod entry;
mod groups;
mod hop;
mod message;
mod netlink;
mod next_hop;
mod route;
mod tables;

use std::net::IpAddr;

use ipnet::IpNet;
use storage::mapping::{Key, Origin};
use storage::row::Cause;
use storage::time::Micros;

use self::entry::{Refused, Telling, Told, fec};
use self::groups::{NextHop, NextHops, OnNumber, Resolution};
use self::hop::Hop;
use self::message::{Announced, Message, Parsed};
use self::route::{Destination, Fate, Route, RouteKey};
use self::tables::Tables;
use super::{Rejection, Unit};

/// Bytes of an FPM frame's header: version u8, type u8, length u16 (big endian, header included).
pub const HEADER_BYTES: usize = 4;

/// Mappings that one unit holds at most: a next hop that changes may alter a million routes.
pub const UNIT_MAPPINGS_MAX: usize = 8_192;

const FPM_VERSION: u8 = 1;
const FPM_TYPE_NETLINK: u8 = 1;

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
    tables: Tables,
    next_hops: NextHops,
    parsed: Parsed,
    /// Branches behind a number; kept to be refilled.
    hops: Vec<Hop>,
    refused: Refused,
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
        let mut refused = std::mem::take(&mut self.refused);
        let mut telling = Telling::begin(unit, &mut refused, now);
        let mut parsed = std::mem::take(&mut self.parsed);
        let read = parsed.read(payload);
        if read.is_ok() {
            parsed.messages.iter().for_each(|message| self.apply(message, &parsed, &mut telling));
            self.tell_altered(&mut telling);
        }
        (self.parsed, self.refused) = (parsed, refused);
        read.map_err(|fault| Rejection::new(fault.cause, fault))
    }

    /// Whether mappings of the last frame may still be to come.
    pub fn is_pending(&self) -> bool {
        self.next_hops.has_altered()
    }

    /// Puts the next mappings of the last frame into `unit`, which is cleared before.
    pub fn proceed(&mut self, now: Micros, unit: &mut Unit) {
        let mut refused = std::mem::take(&mut self.refused);
        self.tell_altered(&mut Telling::begin(unit, &mut refused, now));
        self.refused = refused;
    }

    /// Bytes held for next-hop groups and the routes on them, estimated.
    pub fn memory_bytes(&self) -> usize {
        self.next_hops.memory_bytes()
    }

    fn apply(&mut self, message: &Message, parsed: &Parsed, telling: &mut Telling<'_>) {
        match message {
            Message::Route(route) => self.apply_route(route, parsed, telling),
            Message::NextHop { id, what } => {
                let next_hop = match what {
                    Announced::Hop(hop) => NextHop::Hop(hop.clone()),
                    Announced::Drops => NextHop::Drops,
                    Announced::Dead => NextHop::Dead,
                    Announced::Group(members) => {
                        NextHop::Group(parsed.members[members.clone()].into())
                    }
                    Announced::Refused(fault) => NextHop::Refused(fault.clone()),
                };
                if let Err(full) = self.next_hops.announce(*id, next_hop) {
                    telling.refuse_nameless(Cause::TableFull, full);
                }
            }
            Message::NextHopDeleted { id } => self.next_hops.withdraw(*id),
            Message::Nameless { cause, detail } => telling.refuse_nameless(*cause, detail),
        }
    }

    fn apply_route(&mut self, route: &Route, parsed: &Parsed, telling: &mut Telling<'_>) {
        let key = match route.destination {
            Destination::Label(label) => {
                let told = match told(route, parsed) {
                    Ok(told) => told,
                    Err(fault) => {
                        let key = Key::Ilm(label, Origin::Platform);
                        return telling.refuse(key, fault.cause, fault);
                    }
                };
                return telling.label(label, told);
            }
            Destination::Prefix(key) => key,
        };
        let Some(table) = self.tables.number(key.table) else {
            let why = "expected table 254 to be the main one, as before, found table 0";
            let key = Key::Ftn(fec(RouteKey { table: 0, ..key }));
            return telling.refuse(key, Cause::FecInvalid, why);
        };
        let key = RouteKey { table, ..key };
        if is_of_no_table(&key.prefix) || key.source.is_some_and(|source| is_mapped(&source)) {
            return;
        }
        if let Fate::ForwardsBy(id) = route.fate {
            let on = OnNumber { id, is_connected: route.is_connected };
            return match self.next_hops.attach(key, on) {
                Ok(()) => self.tell_resolved(key, on, telling),
                Err(full) => telling.refuse(Key::Ftn(fec(key)), Cause::TableFull, full),
            };
        }
        self.next_hops.detach(key);
        match told(route, parsed) {
            Ok(told) => telling.route(key, told),
            Err(fault) => telling.refuse(Key::Ftn(fec(key)), fault.cause, fault),
        }
    }

    fn tell_altered(&mut self, telling: &mut Telling<'_>) {
        while telling.len() < UNIT_MAPPINGS_MAX {
            let Some((route, on)) = self.next_hops.next_altered() else { return };
            self.tell_resolved(route, on, telling);
        }
    }

    fn tell_resolved(&mut self, route: RouteKey, on: OnNumber, telling: &mut Telling<'_>) {
        let OnNumber { id, is_connected } = on;
        match self.next_hops.resolve(id, &mut self.hops) {
            Resolution::Branches => {
                telling.route(route, Told::Branches { hops: &self.hops, is_connected });
            }
            Resolution::Drops => telling.route(route, Told::Discard),
            Resolution::Unresolved(why) => {
                let key = Key::Ftn(fec(route));
                telling.refuse(key, why.cause(), format_args!("next hop {id}: {why}"));
            }
        }
    }
}

/// What becomes of the packets of a route that names no number.
fn told<'a>(route: &'a Route, parsed: &'a Parsed) -> Result<Told<'a>, &'a netlink::Fault> {
    let is_connected = route.is_connected;
    Ok(match &route.fate {
        Fate::Forwards(hops) => Told::Branches { hops: &parsed.hops[hops.clone()], is_connected },
        Fate::Drops => Told::Discard,
        Fate::Own => Told::Own,
        // A number is that of an IP route, and was looked up above.
        Fate::NoEntry | Fate::Deleted | Fate::ForwardsBy(_) => Told::Gone,
        Fate::Refused(fault) => return Err(fault),
    })
}

/// Prefixes that every interface has a route of its own for, so that no key tells them apart, and
/// the IPv6 spelling of IPv4, which no packet has as its destination: the model would take
/// `::ffff:0:0/96` for the default route of IPv4.
fn is_of_no_table(prefix: &IpNet) -> bool {
    match prefix.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => {
            (address.is_unicast_link_local() && prefix.prefix_len() >= 10)
                || (address.is_multicast() && prefix.prefix_len() >= 8)
                || is_mapped(prefix)
        }
    }
}

fn is_mapped(prefix: &IpNet) -> bool {
    match prefix.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.to_ipv4_mapped().is_some() && prefix.prefix_len() >= 96,
    }
}

#[cfg(test)]
mod tests;
