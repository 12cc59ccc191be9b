//! Which router is behind a branch: owners of addresses, ends of links.
//!
//! In:   the interfaces of every router, as hellos and settings name them.
//! Out:  for a branch of a router, the router that it leads to, or why nobody can say.
//! Law:  one router or none: of several that own an address none is chosen, and no packet is sent
//!       back into the router that it leaves.
//! Not:  what the packet meets there (`walk`).
//!
//! In this order, the first that says anything decides: the neighbour that the branch names; the
//! neighbour of the interface that the branch names; a router that names this one as the neighbour
//! of an interface with the next hop's address; the one owner of the address.
//!
//! A link-local address (RFC 4291 section 2.5.6, RFC 3927) is that of any number of links: its one
//! known owner counts only if the settings say so, or if the address is made of a hardware address
//! (EUI-64, RFC 4291 appendix A), which no two interfaces share.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::UnknownCause;
use crate::interface::{Interface, is_link_local};
use crate::mapping::{NextHop, Nhlfe, RouterId};
use crate::router::RouterState;

/// Who owns an address, and what is said of the link there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    address: IpAddr,
    router: RouterId,
    /// The router at the other end of the link.
    neighbour: Option<RouterId>,
    /// The label table of what comes in there.
    table: Option<u32>,
    /// Whether the settings say so.
    is_configured: bool,
}

/// A link by the name of its interface, and the router behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NamedLink {
    router: RouterId,
    name: Box<str>,
    neighbour: RouterId,
}

/// What is known of all links of a network. Sorted: looked up by halving.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    owners: Vec<Owner>,
    named: Vec<NamedLink>,
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// The router.
    pub(super) router: RouterId,
    /// The label table of the interface there, if that is said.
    pub(super) table: Option<u32>,
}

impl Links {
    pub(super) fn of<'a>(states: impl Iterator<Item = &'a RouterState>) -> Links {
        let mut links = Links::default();
        for state in states {
            let router = state.router;
            let (neighbour, table, is_configured) = (None, None, true);
            links.owners.push(Owner { address: router.0, router, neighbour, table, is_configured });
            links.add(router, &state.interfaces_announced, false);
            links.add(router, &state.interfaces_configured, true);
        }
        links.owners.sort_unstable();
        links.owners.dedup();
        links.named.sort_unstable();
        links.named.dedup();
        links
    }

    fn add(&mut self, router: RouterId, interfaces: &[Interface], is_configured: bool) {
        for interface in interfaces {
            let Interface { name, address, neighbour, table } = interface;
            // A hello that says nothing of the table says that it is the platform's.
            let table = if is_configured { *table } else { Some(table.unwrap_or(0)) };
            let neighbour = *neighbour;
            if let Some(address) = *address {
                self.owners.push(Owner { address, router, neighbour, table, is_configured });
            }
            if let Some(neighbour) = neighbour.filter(|_| !name.is_empty()) {
                self.named.push(NamedLink { router, name: name.clone(), neighbour });
            }
        }
    }

    /// The one router that owns this address; `None` if there is none, or several.
    pub(super) fn owner(&self, address: IpAddr) -> Option<RouterId> {
        one(self.owners_of(address).iter().map(|owner| owner.router)).ok()
    }

    /// Where a branch of this router leads. Errors: why that cannot be said.
    pub(super) fn behind(&self, here: RouterId, branch: &Nhlfe) -> Result<Behind, UnknownCause> {
        let address = match branch.next_hop {
            NextHop::Address(address) => Some(address),
            NextHop::Fec | NextHop::Recursive | NextHop::Interface => None,
        };
        let router = match branch.neighbour() {
            Some(neighbour) => neighbour,
            None => self.neighbour(here, branch, address)?,
        };
        if router == here {
            return Err(UnknownCause::NextHopOwn);
        }
        let at_address = address.map_or(&[][..], |address| self.owners_of(address));
        let tables = at_address.iter().filter(|owner| owner.router == router);
        Ok(Behind { router, table: tables.filter_map(|owner| owner.table).next() })
    }

    fn neighbour(
        &self,
        here: RouterId,
        branch: &Nhlfe,
        address: Option<IpAddr>,
    ) -> Result<RouterId, UnknownCause> {
        if let Some(name) = branch.interface() {
            let at = self
                .named
                .partition_point(|link| (link.router, &*link.name) < (here, name.as_str()));
            let links = self.named.get(at..).unwrap_or_default().iter();
            let links =
                links.take_while(|link| (link.router, &*link.name) == (here, name.as_str()));
            match one(links.map(|link| link.neighbour)) {
                Ok(neighbour) => return Ok(neighbour),
                Err(Several(true)) => return Err(UnknownCause::InterfaceUnknown),
                Err(Several(false)) => {}
            }
        }
        let address = address.ok_or(UnknownCause::InterfaceUnknown)?;
        self.owner_for(here, address)
    }

    /// The owner of the address, as a next hop of this router.
    fn owner_for(&self, here: RouterId, address: IpAddr) -> Result<RouterId, UnknownCause> {
        let owners = self.owners_of(address);
        let ends = owners.iter().filter(|owner| owner.neighbour == Some(here));
        match one(ends.map(|owner| owner.router)) {
            Ok(router) => return Ok(router),
            Err(Several(true)) => return Err(UnknownCause::AddressShared(address)),
            Err(Several(false)) => {}
        }
        // Two ends of one link never share an address.
        let others = owners.iter().filter(|owner| owner.router != here);
        match one(others.clone().map(|owner| owner.router)) {
            Ok(router) => {
                let is_alone = !is_link_local(address)
                    || is_of_hardware(address)
                    || others.clone().any(|owner| owner.is_configured);
                is_alone.then_some(router).ok_or(UnknownCause::AddressShared(address))
            }
            Err(Several(true)) => Err(UnknownCause::AddressShared(address)),
            Err(Several(false)) if owners.is_empty() => Err(UnknownCause::RouterUnknown(address)),
            Err(Several(false)) => Err(UnknownCause::NextHopOwn),
        }
    }

    fn owners_of(&self, address: IpAddr) -> &[Owner] {
        let from = self.owners.partition_point(|owner| owner.address < address);
        let owners = self.owners.get(from..).unwrap_or_default();
        let count = owners.partition_point(|owner| owner.address == address);
        owners.get(..count).unwrap_or_default()
    }

    /// What it takes in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        let names: usize = self.named.iter().map(|link| link.name.len()).sum();
        let bytes = self.owners.capacity() * size_of::<Owner>()
            + self.named.capacity() * size_of::<NamedLink>()
            + names;
        bytes as u64
    }
}

/// There is not exactly one router; whether there are several.
struct Several(bool);

fn one(routers: impl Iterator<Item = RouterId>) -> Result<RouterId, Several> {
    let routers: BTreeSet<RouterId> = routers.collect();
    match (routers.first(), routers.len()) {
        (Some(router), 1) => Ok(*router),
        (_, count) => Err(Several(count > 1)),
    }
}

/// Whether the interface part is a hardware address with `ff:fe` in its middle.
fn is_of_hardware(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => matches!(address.octets(), [.., 0xff, 0xfe, _, _, _]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{LabelStack, Link, Name};

    fn id(text: &str) -> RouterId {
        text.parse().unwrap()
    }

    /// `eth0 10.0.0.1 to 192.0.2.9 table 7`, each part but one of the first two may lack.
    fn interface(text: &str) -> Interface {
        let mut interface = Interface::default();
        let mut words = text.split(' ');
        while let Some(word) = words.next() {
            match word {
                "to" => interface.neighbour = Some(id(words.next().unwrap())),
                "table" => interface.table = Some(words.next().unwrap().parse().unwrap()),
                _ => match word.parse() {
                    Ok(address) => interface.address = Some(address),
                    Err(_) => interface.name = word.into(),
                },
            }
        }
        interface
    }

    /// Routers with what hello announced and what the settings name.
    fn links(routers: &[(&str, &[&str], &[&str])]) -> Links {
        let states: Vec<RouterState> = routers
            .iter()
            .map(|(router, announced, configured)| {
                let mut state = RouterState::new(id(router));
                state.interfaces_announced = announced.iter().map(|text| interface(text)).collect();
                state.interfaces_configured =
                    configured.iter().map(|text| interface(text)).collect();
                state
            })
            .collect();
        Links::of(states.iter())
    }

    fn branch(hop: &str, interface: &str, neighbour: &str) -> Nhlfe {
        let next_hop = hop.parse().map_or(NextHop::Interface, NextHop::Address);
        Nhlfe::new(LabelStack::new(), next_hop).with_link(Link {
            interface: Name::new(interface),
            neighbour: neighbour.parse().ok(),
            encapsulation: None,
        })
    }

    #[test]
    fn the_first_that_says_anything_decides() {
        let links = links(&[
            ("1.1.1.1", &["a 10.0.0.1 to 2.2.2.2", "b to 3.3.3.3"], &["b to 4.4.4.4"]),
            ("2.2.2.2", &["10.0.0.2", "fe80::1 to 1.1.1.1"], &[]),
            ("3.3.3.3", &["10.0.0.3", "10.0.0.9", "fe80::1"], &["10.0.0.3 table 7"]),
            ("4.4.4.4", &["10.0.0.9", "fe80::200:ff:fe00:4", "fe80::7"], &[]),
            ("5.5.5.5", &[], &["fe80::5"]),
        ]);
        let here = id("1.1.1.1");
        let to = |hop: &str, interface: &str, neighbour: &str| {
            links.behind(here, &branch(hop, interface, neighbour)).map(|it| it.router.to_string())
        };
        let shared = |address: &str| Err(UnknownCause::AddressShared(address.parse().unwrap()));
        assert_eq!(to("10.0.0.3", "a", "4.4.4.4"), Ok("4.4.4.4".into()), "the branch names it");
        assert_eq!(to("10.0.0.3", "a", ""), Ok("2.2.2.2".into()), "the interface does");
        assert_eq!(to("10.0.0.3", "b", ""), Err(UnknownCause::InterfaceUnknown), "two words");
        assert_eq!(to("10.0.0.3", "z", ""), Ok("3.3.3.3".into()), "nobody knows the interface");
        assert_eq!(to("", "z", ""), Err(UnknownCause::InterfaceUnknown));
        assert_eq!(to("fe80::1", "", ""), Ok("2.2.2.2".into()), "it names this one");
        assert_eq!(to("10.0.0.9", "", ""), shared("10.0.0.9"));
        assert_eq!(to("10.0.0.1", "", ""), Err(UnknownCause::NextHopOwn));
        assert_eq!(to("10.0.0.2", "", "1.1.1.1"), Err(UnknownCause::NextHopOwn));
        let nobody = UnknownCause::RouterUnknown("10.9.9.9".parse().unwrap());
        assert_eq!(to("10.9.9.9", "", ""), Err(nobody));
        // Link-local: one known owner is not the only one.
        assert_eq!(to("fe80::7", "", ""), shared("fe80::7"));
        assert_eq!(to("fe80::200:ff:fe00:4", "", ""), Ok("4.4.4.4".into()), "of hardware");
        assert_eq!(to("fe80::5", "", ""), Ok("5.5.5.5".into()), "the settings say so");
        let from_four = links.behind(id("4.4.4.4"), &branch("fe80::1", "", ""));
        assert_eq!(from_four.map(|it| it.router.to_string()), shared("fe80::1"));
    }

    #[test]
    fn the_label_table_is_that_of_the_interface() {
        let links = links(&[
            ("1.1.1.1", &[], &[]),
            ("2.2.2.2", &["10.0.0.2", "10.0.0.3 table 7"], &["10.0.0.4", "10.0.0.5 table 8"]),
        ]);
        let table = |hop: &str| links.behind(id("1.1.1.1"), &branch(hop, "", "")).unwrap().table;
        assert_eq!(table("10.0.0.2"), Some(0), "a hello that says nothing means the platform's");
        assert_eq!(table("10.0.0.3"), Some(7));
        assert_eq!(table("10.0.0.4"), None, "settings that say nothing say nothing");
        assert_eq!(table("10.0.0.5"), Some(8));
    }
}
