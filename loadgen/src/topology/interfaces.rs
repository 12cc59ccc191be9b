//! Interfaces of routers: what a hello names, and the branch over a link.
//!
//! In:   the graph, and which of its links are unnumbered.
//! Out:  the interfaces of a router, and how an entry says that a packet goes over a link.
//! Law:  an interface without address has a name that no other of its router has.
//! Not:  which links packets take (`paths`), which labels they carry (`services`).

use std::net::IpAddr;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::interface::Interface;
use storage::mapping::{LabelStack, Link, Name, NextHop, Nhlfe, RouterId};

use super::Topology;

/// One link in this many is unnumbered, where any are.
const LINKS_PER_UNNUMBERED: u32 = 4;
/// The stream of the seed from which they are drawn: nothing else changes with them.
const STREAM: u64 = 5;

impl Topology {
    /// The same network with a share of its links unnumbered, drawn from the seed.
    pub fn with_unnumbered(mut self, seed: u64) -> Topology {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(STREAM);
        for link in &mut self.links {
            if chance.random_range(0..LINKS_PER_UNNUMBERED) == 0 {
                link.addresses = None;
            }
        }
        self
    }

    /// Addresses of the router's interfaces that have one, in the order of its links.
    pub fn interface_addresses(&self, router_index: usize) -> Vec<IpAddr> {
        let links = &self.routers[router_index].links;
        links.iter().filter_map(|link| self.links[*link].near_address(router_index)).collect()
    }

    /// The interfaces that the router's hello names: by the address, or, where there is none, by
    /// the name and the router behind it.
    pub fn interfaces(&self, router_index: usize) -> Vec<Interface> {
        let interface = |link: &usize| match self.links[*link].near_address(router_index) {
            Some(address) => Interface::of_address(address),
            None => {
                let name = self.interface_name(router_index, *link).into();
                let neighbour = Some(self.neighbour(router_index, *link));
                Interface { name, neighbour, ..Interface::default() }
            }
        };
        self.routers[router_index].links.iter().map(interface).collect()
    }

    /// The branch of a router that sends packets with these labels over a link.
    pub fn branch(&self, router_index: usize, link_index: usize, stack: LabelStack) -> Nhlfe {
        if let (_, Some(address)) = self.links[link_index].far_end(router_index) {
            return Nhlfe::new(stack, NextHop::Address(address));
        }
        // Some routers also say who is behind the interface: nobody has to look it up then.
        let says = link_index.is_multiple_of(2);
        let neighbour = says.then(|| self.neighbour(router_index, link_index));
        let interface = Name::new(&self.interface_name(router_index, link_index));
        let link = Link { interface, neighbour, encapsulation: None };
        Nhlfe::new(stack, NextHop::Interface).with_link(link)
    }

    /// `to-17.203`: to the router of this number, by the link of this index: there may be several.
    fn interface_name(&self, router_index: usize, link_index: usize) -> String {
        let (far, _) = self.links[link_index].far_end(router_index);
        format!("to-{}.{link_index}", far + 1)
    }

    fn neighbour(&self, router_index: usize, link_index: usize) -> RouterId {
        let (far, _) = self.links[link_index].far_end(router_index);
        self.routers[far].id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use smallvec::smallvec;

    use super::*;
    use crate::topology::Shape;

    #[test]
    fn every_branch_over_a_link_leads_to_its_other_end_by_what_hellos_name() {
        let shape = Shape { routers: 200, edges: 9, seed: 1 };
        let plain = Topology::generate(&shape).unwrap();
        let topology = plain.clone().with_unnumbered(1);
        assert_eq!(topology, plain.clone().with_unnumbered(1));
        assert_ne!(topology, plain.with_unnumbered(2));
        let (mut unnumbered, mut said) = (0, 0);
        for (link_index, link) in topology.links.iter().enumerate() {
            for here in link.ends {
                let (far, address) = link.far_end(here);
                let branch = topology.branch(here, link_index, smallvec![]);
                if let Some(address) = address {
                    assert_eq!(branch.next_hop, NextHop::Address(address));
                    assert!(topology.interface_addresses(far).contains(&address));
                    continue;
                }
                let name = branch.interface().unwrap();
                let interfaces = topology.interfaces(here);
                let named: Vec<&Interface> =
                    interfaces.iter().filter(|it| *it.name == *name.as_str()).collect();
                let far = topology.routers[far].id;
                assert_eq!((named.len(), named[0].neighbour), (1, Some(far)));
                assert_eq!(branch.next_hop, NextHop::Interface);
                assert!(branch.neighbour().is_none_or(|neighbour| neighbour == far));
                unnumbered += 1;
                said += usize::from(branch.neighbour().is_some());
            }
        }
        let ends = 2 * topology.links.len();
        assert!((ends / 6..ends / 3).contains(&unnumbered), "{unnumbered} of {ends}");
        assert!((unnumbered / 4..unnumbered * 3 / 4).contains(&said), "{said} of {unnumbered}");
        let names = (0..200).map(|router| topology.interfaces(router));
        let is_once = |of: Vec<Interface>| of.iter().collect::<BTreeSet<_>>().len() == of.len();
        assert!(names.into_iter().all(is_once));
    }
}
