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
//! known owner, even one that names this router as its neighbour, counts only if the settings say
//! so, or if the address is made of a hardware address (EUI-64, RFC 4291 appendix A), which no two
//! interfaces share.

use std::cmp::Ordering;
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
    /// The label table of what comes in there.
    table: Option<u32>,
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
                self.named.push(NamedLink { router, name: name.clone(), neighbour, table });
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
        Ok(Behind { router, table: self.table(here, router, address) })
    }

    /// The label table of the interface of `router` that has this address and leads to `here`, or
    /// of those that lead to `here` if none has the address (unnumbered links); of several that may
    /// be meant, the one that they have in common.
    fn table(&self, here: RouterId, router: RouterId, address: Option<IpAddr>) -> Option<u32> {
        let owners = address.map_or(&[][..], |address| self.owners_of(address));
        // Its id is no interface's.
        let is_end = |owner: &&Owner| owner.router == router && owner.address != router.0;
        let ends = owners.iter().filter(is_end);
        let to_here = ends.clone().filter(|owner| owner.neighbour == Some(here));
        let to_anybody = ends.filter(|owner| owner.neighbour.is_none());
        // Settings that are silent leave it to the hello, which says it of all interfaces.
        let said: BTreeSet<u32> = if to_here.clone().next().is_some() {
            to_here.filter_map(|owner| owner.table).collect()
        } else if to_anybody.clone().next().is_some() {
            to_anybody.filter_map(|owner| owner.table).collect()
        } else {
            let links = self.named_of(router).iter().filter(|link| link.neighbour == here);
            links.filter_map(|link| link.table).collect()
        };
        said.first().copied().filter(|_| said.len() == 1)
    }

    /// What is known of this router's interfaces with a name, by name.
    fn named_of(&self, router: RouterId) -> &[NamedLink] {
        equal_range(&self.named, |link| link.router.cmp(&router))
    }

    fn neighbour(
        &self,
        here: RouterId,
        branch: &Nhlfe,
        address: Option<IpAddr>,
    ) -> Result<RouterId, UnknownCause> {
        if let Some(name) = branch.interface() {
            let links = equal_range(self.named_of(here), |link| (*link.name).cmp(name.as_str()));
            match one(links.iter().map(|link| link.neighbour)) {
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
        // Of a link-local address any other link of this router may have it too, at the end of
        // somebody who announces nothing.
        let is_alone = |owner: &&Owner| {
            owner.is_configured || !is_link_local(address) || is_of_hardware(address)
        };
        let ends = owners.iter().filter(|owner| owner.neighbour == Some(here));
        match one(ends.clone().filter(is_alone).map(|owner| owner.router)) {
            Ok(router) if one(ends.map(|owner| owner.router)).is_ok() => return Ok(router),
            Ok(_) | Err(Several(true)) => return Err(UnknownCause::AddressShared(address)),
            Err(Several(false)) => {}
        }
        // Two ends of one link never share an address.
        let others = owners.iter().filter(|owner| owner.router != here);
        match one(others.clone().map(|owner| owner.router)) {
            Ok(router) => {
                let is_alone = others.clone().any(|owner| is_alone(&owner));
                is_alone.then_some(router).ok_or(UnknownCause::AddressShared(address))
            }
            Err(Several(true)) => Err(UnknownCause::AddressShared(address)),
            Err(Several(false)) if owners.is_empty() => Err(UnknownCause::RouterUnknown(address)),
            Err(Several(false)) => Err(UnknownCause::NextHopOwn),
        }
    }

    fn owners_of(&self, address: IpAddr) -> &[Owner] {
        equal_range(&self.owners, |owner| owner.address.cmp(&address))
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

/// Those of sorted values that are equal to what is looked for, by halving.
fn equal_range<T>(sorted: &[T], compare: impl Fn(&T) -> Ordering) -> &[T] {
    let from = sorted.partition_point(|value| compare(value) == Ordering::Less);
    let values = sorted.get(from..).unwrap_or_default();
    let count = values.partition_point(|value| compare(value) == Ordering::Equal);
    values.get(..count).unwrap_or_default()
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
        assert_eq!(to("fe80::1", "", ""), shared("fe80::1"), "that of another link, perhaps");
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

    #[test]
    fn a_link_local_address_is_nobody_s_although_one_names_this_router() {
        // 10.0.0.3 has the same address on another link of 10.0.0.1, and announces nothing.
        let links = links(&[
            ("10.0.0.1", &["eth1 fe80::1 to 10.0.0.2"], &[]),
            ("10.0.0.2", &["eth1 fe80::2 to 10.0.0.1"], &[]),
            ("10.0.0.3", &[], &[]),
        ]);
        let shared = UnknownCause::AddressShared("fe80::2".parse().unwrap());
        let behind = |name: &str| links.behind(id("10.0.0.1"), &branch("fe80::2", name, ""));
        assert_eq!(behind(""), Err(shared));
        assert_eq!(behind("eth2"), Err(shared));
        assert_eq!(behind("eth1").map(|behind| behind.router), Ok(id("10.0.0.2")));
    }

    #[test]
    fn the_label_table_is_that_of_the_interface_that_leads_here() {
        let links = links(&[
            ("10.0.0.1", &["eth1 to 10.0.0.2", "eth2 to 10.0.0.2"], &[]),
            (
                "10.0.0.2",
                &[
                    "a fe80::1 to 10.0.0.9 table 7",
                    "b fe80::1 to 10.0.0.1",
                    "c to 10.0.0.8 table 7",
                ],
                &[],
            ),
            ("10.0.0.4", &["a 10.0.0.41 table 7", "b 10.0.0.42"], &[]),
        ]);
        let table = |address: &str, name: &str| {
            links.behind(id("10.0.0.1"), &branch(address, name, "")).map(|behind| behind.table)
        };
        assert_eq!(table("fe80::1", "eth1"), Ok(Some(0)));
        assert_eq!(table("10.0.0.42", ""), Ok(Some(0)));
        // Its id is on no link: all that lead here have one table.
        assert_eq!(table("10.0.0.2", ""), Ok(Some(0)));
        assert_eq!(table("", "eth2"), Ok(Some(0)));
        assert_eq!(table("10.0.0.4", ""), Ok(None), "none of them says that it leads here");
    }
}
