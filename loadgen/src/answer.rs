//! The answer key: what the collector must say, derived from topology alone.
//!
//! In:   the labelled network, its paths, the storm, and when both became true.
//! Out:  any router's table at any instant; every path of any LSP before and after the storm.
//! Law:  nothing here is read from what was sent or from what the collector stored.
//! Not:  asking the collector and comparing (`verdict`).

use std::collections::{BTreeMap, BTreeSet};

use storage::mapping::{Fec, Label, Mapping, Operation, RouterId};
use storage::time::Micros;

use crate::network::Network;
use crate::paths::Paths;
use crate::scenario::Storm;

/// Most paths that are enumerated of one LSP; ECMP multiplies, and no report needs more.
pub const PATHS_MAX: usize = 4_096;

/// Everything that determines the answers.
#[derive(Clone, Copy, Debug)]
pub struct AnswerKey<'a> {
    /// The labelled network.
    pub network: &'a Network,
    /// Paths with every link up.
    pub before: &'a Paths,
    /// Event time of every first mapping.
    pub start: Micros,
    /// The failure and when it happened; `None` for a cold start.
    pub storm: Option<(&'a Storm, Micros)>,
}

/// One router on a path, and the labels that the packet leaves it with, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The router.
    pub router: RouterId,
    /// Labels on the wire behind it; empty = unlabelled.
    pub labels: Vec<Label>,
}

/// What is asked for: an LSP by its head and FEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Index of the router where the packet enters.
    pub head: usize,
    /// FEC index of the provider edge that it goes to.
    pub fec_index: usize,
    /// The VPN that it belongs to; `None` = the loopback itself.
    pub vpn_index: Option<usize>,
}

impl AnswerKey<'_> {
    /// The table that the router has at this instant, sorted by key.
    pub fn table(&self, router_index: usize, at: Micros) -> Vec<Mapping> {
        let mut changed: BTreeMap<usize, Micros> = BTreeMap::new();
        if let Some((storm, failure)) = self.storm {
            let reaction = &storm.reactions[router_index];
            for (place, fec_index) in reaction.fecs.iter().enumerate() {
                let time = failure.offset(reaction.time_us(place));
                if time <= at {
                    changed.insert(*fec_index, time);
                }
            }
        }
        let mut table = Vec::new();
        for fec_index in 0..self.network.fec_count() {
            let (paths, time) = match (changed.get(&fec_index), self.storm) {
                (Some(time), Some((storm, _))) => (&storm.after, *time),
                _ => (self.before, self.start),
            };
            self.network.routed_entries(paths, router_index, fec_index, time, &mut table);
        }
        table.retain(|entry| entry.operation != Operation::None);
        self.network.service_entries(router_index, self.start, &mut table);
        table.sort_unstable_by_key(Mapping::key);
        table
    }

    /// The paths that hold at this instant: `None` while some routers have changed and others not.
    pub fn paths_at(&self, at: Micros) -> Option<&Paths> {
        let Some((storm, failure)) = self.storm else { return Some(self.before) };
        let starts = storm.reactions.iter().filter(|r| !r.fecs.is_empty()).map(|r| r.start_us);
        let first = failure.offset(starts.min().unwrap_or(i64::MAX));
        if at < first {
            return Some(self.before);
        }
        (at >= failure.offset(storm.end_us())).then_some(&storm.after)
    }

    /// The FEC that a question is about.
    pub fn fec(&self, question: &Question) -> Fec {
        match question.vpn_index {
            Some(vpn_index) => self.network.vrf(vpn_index, question.fec_index),
            None => self.network.fec(question.fec_index),
        }
    }

    /// Every equal-cost path of the LSP, head first; the last hop is the provider edge, which the
    /// packet leaves without label. `None` where there are more than `PATHS_MAX`.
    pub fn walk(&self, paths: &Paths, question: &Question) -> Option<BTreeSet<Vec<Hop>>> {
        let mut found = BTreeSet::new();
        let mut open = vec![(question.head, Vec::new())];
        while let Some((router_index, mut hops)) = open.pop() {
            let router = self.network.topology.routers[router_index].id;
            let links: Vec<usize> = paths
                .next_links(&self.network.topology, question.fec_index, router_index)
                .collect();
            if links.is_empty() {
                hops.push(Hop { router, labels: Vec::new() });
                found.insert(hops);
                continue;
            }
            for link_index in links {
                let (next, _) = self.network.topology.links[link_index].far_end(router_index);
                let mut longer: Vec<Hop> = hops.clone();
                longer.push(Hop { router, labels: self.labels_towards(next, question) });
                open.push((next, longer));
            }
            if found.len() + open.len() > PATHS_MAX {
                return None;
            }
        }
        Some(found)
    }

    /// Labels on the link to `next`: the transport label unless `next` is the edge (penultimate-hop
    /// popping), then the VPN's.
    fn labels_towards(&self, next: usize, question: &Question) -> Vec<Label> {
        let outer = self.network.label(next, question.fec_index);
        let outer = Some(outer).filter(|label| *label != Label::IMPLICIT_NULL);
        let inner = question.vpn_index.map(|vpn| self.network.vpn_label(vpn, question.fec_index));
        outer.into_iter().chain(inner).collect()
    }

    /// Every question that can be asked: each router and FEC, each pair of sites of each VPN.
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        let routers = 0..self.network.topology.routers.len();
        let fecs = self.network.fec_count();
        let of_router = move |head| {
            (0..fecs).map(move |fec_index| Question { head, fec_index, vpn_index: None })
        };
        let plain = routers.flat_map(of_router);
        let topology = &self.network.topology;
        let plain = plain.filter(|question| topology.edges[question.fec_index] != question.head);
        let of_vpn = |(vpn_index, vpn): (usize, &crate::network::Vpn)| {
            let mut pairs = Vec::new();
            for site in &vpn.sites {
                let others = vpn.sites.iter().filter(|other| *other != site);
                pairs.extend(others.map(|other| Question {
                    head: topology.edges[*site],
                    fec_index: *other,
                    vpn_index: Some(vpn_index),
                }));
            }
            pairs
        };
        plain.chain(self.network.vpns.iter().enumerate().flat_map(of_vpn))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use storage::mapping::{Ingress, Key, NextHop, Origin};

    use super::*;
    use crate::topology::Shape;

    struct World {
        network: Network,
        before: Paths,
        storm: Storm,
    }

    fn world() -> World {
        let network =
            Network::generate(&Shape { routers: 150, edges: 24, seed: 4 }.into()).unwrap();
        let before = Paths::compute(&network.topology, None);
        let storm = Storm::link_down(&network, &before, 4).unwrap();
        World { network, before, storm }
    }

    fn key(world: &World) -> AnswerKey<'_> {
        AnswerKey {
            network: &world.network,
            before: &world.before,
            start: Micros(1_000),
            storm: Some((&world.storm, Micros(1_000_000))),
        }
    }

    #[test]
    fn a_table_before_and_after_is_that_of_the_network_and_between_it_is_mixed() {
        let world = world();
        let key = key(&world);
        let end = Micros(1_000_000 + world.storm.end_us());
        let mut mixed = 0;
        for (router_index, reaction) in world.storm.reactions.iter().enumerate() {
            let sorted = |paths: &Paths| {
                let mut table = world.network.table(paths, router_index, Micros(0));
                table.sort_unstable_by_key(Mapping::key);
                table
            };
            let timeless = |at: Micros| {
                let mut table = key.table(router_index, at);
                table.iter_mut().for_each(|entry| entry.event_time = Micros(0));
                table
            };
            let (old, new) = (sorted(&world.before), sorted(&world.storm.after));
            assert_eq!(timeless(Micros(1_000_000)), old);
            assert_eq!(timeless(end), new);
            let first = key.table(router_index, Micros(1_000_000 + reaction.start_us));
            let late = first.iter().filter(|entry| entry.event_time != Micros(1_000));
            mixed += usize::from(late.count() > 0 && reaction.fecs.len() > 1);
        }
        assert!(mixed > 50, "{mixed}");
    }

    /// Follows the labels through the tables, one branch at a time, as a packet would.
    fn follow(
        key: &AnswerKey<'_>,
        question: &Question,
        tables: &[BTreeMap<Key, Mapping>],
        owners: &BTreeMap<IpAddr, usize>,
    ) -> BTreeSet<Vec<RouterId>> {
        let topology = &key.network.topology;
        let mut found = BTreeSet::new();
        let mut open = vec![(question.head, Key::Ftn(key.fec(question)), vec![], vec![])];
        while let Some((router, wanted, below, route)) = open.pop() {
            let through: Vec<RouterId> =
                [route.clone(), vec![topology.routers[router].id]].concat();
            for branch in &tables[router][&wanted].branches {
                let mut stack: Vec<Label> = below.clone();
                stack.extend(branch.stack.iter().rev().filter(|l| **l != Label::IMPLICIT_NULL));
                let next = match branch.next_hop {
                    NextHop::Fec => {
                        found.insert(through.clone());
                        continue;
                    }
                    NextHop::Recursive => {
                        let fec = key.network.fec(question.fec_index);
                        let inner = Key::Service(*stack.last().unwrap(), fec);
                        open.push((router, inner, stack, route.clone()));
                        continue;
                    }
                    NextHop::Address(address) => owners[&address],
                };
                match stack.pop() {
                    Some(top) => {
                        let wanted = Key::Ilm(top, Origin::Platform);
                        open.push((next, wanted, stack, through.clone()));
                    }
                    None => {
                        found.insert([through.clone(), vec![topology.routers[next].id]].concat());
                    }
                }
            }
        }
        found
    }

    #[test]
    fn following_the_labels_leads_where_the_topology_says() {
        let world = world();
        let key = key(&world);
        let mut owners = BTreeMap::new();
        for router in 0..150 {
            let addresses = world.network.topology.interface_addresses(router);
            owners.extend(addresses.into_iter().map(|address| (address, router)));
        }
        let questions: Vec<Question> = key.questions().collect();
        let mut branched = 0;
        for at in [Micros(2_000), Micros(1_000_000 + world.storm.end_us())] {
            let by_key = |table: Vec<Mapping>| table.into_iter().map(|m| (m.key(), m)).collect();
            let tables: Vec<_> = (0..150).map(|r| by_key(key.table(r, at))).collect();
            for question in &questions {
                let walks = key.walk(key.paths_at(at).unwrap(), question).unwrap();
                let routes: BTreeSet<Vec<RouterId>> =
                    walks.iter().map(|walk| walk.iter().map(|hop| hop.router).collect()).collect();
                branched += usize::from(routes.len() > 1);
                let followed = follow(&key, question, &tables, &owners);
                assert_eq!(followed, routes, "{question:?} at {at}");
            }
        }
        assert!(branched > 10, "{branched} of {}", questions.len());
        assert!(questions.iter().any(|question| question.vpn_index.is_some()));
    }

    #[test]
    fn paths_are_not_vouched_for_while_routers_disagree() {
        let world = world();
        let key = key(&world);
        let middle = Micros(1_000_000 + world.storm.end_us() - 1);
        assert!(key.paths_at(middle).is_none());
        let untagged = key.table(0, Micros(2_000));
        assert!(untagged.iter().any(|entry| entry.ingress == Ingress::UNTAGGED));
    }
}
