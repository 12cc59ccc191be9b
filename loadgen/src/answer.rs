//! The answer key: what the collector must say, derived from topology alone.
//!
//! In:   the world: its network, what happens to it, and when that became true.
//! Out:  any router's table at any instant; every path of any LSP once the network has settled.
//! Law:  nothing here is read from what was sent or from what the collector stored.
//! Not:  asking the collector and comparing (`verdict`).

use std::collections::{BTreeMap, BTreeSet};

use storage::mapping::{Fec, Key, Label, Mapping, Operation, RouterId};
use storage::time::Micros;

use crate::network::Network;
use crate::paths::UNREACHABLE;
use crate::state::State;
use crate::world::World;

/// Most paths that are enumerated of one LSP; ECMP multiplies, and no report needs more.
pub const PATHS_MAX: usize = 4_096;

/// The answers of a world.
#[derive(Clone, Copy, Debug)]
pub struct AnswerKey<'a> {
    /// The world.
    pub world: &'a World,
    /// Its labelled network.
    pub network: &'a Network,
}

/// Whether the collector can know a router's table at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its session is open, and the router has been heard later too.
    Here,
    /// Its session is broken: the only right answer is that nobody knows.
    Gone,
    /// Around the break and until the next snapshot is complete: either answer may be right.
    Unsure,
}

/// Where an LSP leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To its egress, by each of these paths.
    Delivered(BTreeSet<Vec<Hop>>),
    /// Nowhere: there is no way.
    Lost,
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
        let World { first, start, .. } = self.world;
        let mut table = self.network.table(first, router_index, *start);
        let changed = self.changed(router_index, at);
        if !changed.is_empty() {
            table.retain(|entry| !changed.contains_key(&entry.key()));
            let there = |entry: &Mapping| entry.operation != Operation::None;
            table.extend(changed.into_values().filter(there));
        }
        table.sort_unstable_by_key(Mapping::key);
        table
    }

    /// Every entry that has changed since the start, as it is at this instant.
    fn changed(&self, router_index: usize, at: Micros) -> BTreeMap<Key, Mapping> {
        let World { first, plan, .. } = self.world;
        let mut changed = BTreeMap::new();
        let mut changes = Vec::new();
        for (index, epoch) in plan.epochs.iter().enumerate() {
            let Some(began) = self.world.epoch_began(index).filter(|began| *began <= at) else {
                break;
            };
            let Some(reaction) = epoch.reactions.get(&router_index) else { continue };
            let states = [plan.before(first, index, router_index), &epoch.state];
            for (place, unit) in reaction.units.iter().enumerate() {
                let time = began.offset(reaction.time_us(place));
                if time > at {
                    break;
                }
                self.network.changes(states, router_index, *unit, time, &mut changes);
                changed.extend(changes.drain(..).map(|change| (change.key(), change)));
            }
        }
        changed
    }

    /// The state that holds at this instant: `None` while some routers have changed, others not.
    pub fn state_at(&self, at: Micros) -> Option<&State> {
        let World { first, plan, .. } = self.world;
        let spans = plan.epochs.iter().enumerate().map_while(|(index, epoch)| {
            let began = self.world.epoch_began(index)?;
            let (first, last) = epoch.span_us().unwrap_or((epoch.offset_us, epoch.offset_us));
            let time = |micros: i64| began.offset(micros - epoch.offset_us);
            Some((time(first), time(last), &*epoch.state))
        });
        let spans: Vec<(Micros, Micros, &State)> = spans.collect();
        let Some(reached) = spans.iter().rposition(|(first, ..)| *first <= at) else {
            return Some(first);
        };
        let settled = spans[..=reached].iter().all(|(_, last, _)| *last <= at);
        settled.then_some(spans[reached].2)
    }

    /// Whether the collector can know the router's table at this instant.
    pub fn presence(&self, router_index: usize, at: Micros) -> Presence {
        let mut presence = Presence::Here;
        for (index, act) in self.world.plan.acts.iter().enumerate() {
            let Some(began) = self.world.began(index).filter(|began| *began <= at) else { break };
            for cut in act.cuts.iter().filter(|cut| cut.routers.contains(&router_index)) {
                let over = self.world.ended(index).is_some_and(|ended| ended <= at);
                let back = cut.back_us.is_some_and(|back| at >= began.offset(back));
                presence = match (at > began.offset(cut.at_us), back, over) {
                    (_, true, true) => Presence::Here,
                    (false, _, _) | (_, true, false) => Presence::Unsure,
                    (true, false, _) => Presence::Gone,
                };
            }
        }
        presence
    }

    /// The FEC that a question is about.
    pub fn fec(&self, question: &Question) -> Fec {
        match question.vpn_index {
            Some(vpn_index) => self.network.vrf(vpn_index, question.fec_index),
            None => self.network.fec(question.fec_index),
        }
    }

    /// Where the LSP leads: every equal-cost path, head first; the last hop is the provider edge,
    /// which the packet leaves without label. `None` where there are more than `PATHS_MAX`.
    pub fn walk(&self, state: &State, question: &Question) -> Option<Way> {
        let (topology, paths) = (&self.network.topology, &state.paths);
        if paths.distance(question.fec_index, question.head) == UNREACHABLE {
            return Some(Way::Lost);
        }
        let mut found = BTreeSet::new();
        let mut open = vec![(question.head, Vec::new())];
        while let Some((router_index, mut hops)) = open.pop() {
            let router = topology.routers[router_index].id;
            let links: Vec<usize> =
                paths.next_links(topology, question.fec_index, router_index).collect();
            if links.is_empty() {
                hops.push(Hop { router, labels: Vec::new() });
                found.insert(hops);
                continue;
            }
            for link_index in links {
                let (next, _) = topology.links[link_index].far_end(router_index);
                let mut longer: Vec<Hop> = hops.clone();
                longer.push(Hop { router, labels: self.labels_towards(next, question) });
                open.push((next, longer));
            }
            if found.len() + open.len() > PATHS_MAX {
                return None;
            }
        }
        Some(Way::Delivered(found))
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
        let of_vpn = |(vpn_index, vpn): (usize, &crate::services::l3vpn::Vpn)| {
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

    use storage::mapping::{Ingress, NextHop, Origin};

    use super::*;
    use crate::topology::Shape;

    const BEGAN: Micros = Micros(1_000_000);

    fn world() -> World {
        let shape = Shape { routers: 150, edges: 24, seed: 4 };
        let world = World::generate(&shape.into(), Micros(1_000)).unwrap();
        world.stage(0, BEGAN);
        world
    }

    /// When everybody has changed everything.
    fn end(world: &World) -> Micros {
        BEGAN.offset(world.plan.epochs[0].span_us().unwrap().1)
    }

    #[test]
    fn a_table_before_and_after_is_that_of_the_network_and_between_it_is_mixed() {
        let world = world();
        let key = world.key();
        let mut mixed = 0;
        for (router_index, reaction) in &world.plan.epochs[0].reactions {
            let router_index = *router_index;
            let sorted = |state: &State| {
                let mut table = world.network.table(state, router_index, Micros(0));
                table.sort_unstable_by_key(Mapping::key);
                table
            };
            let timeless = |at: Micros| {
                let mut table = key.table(router_index, at);
                table.iter_mut().for_each(|entry| entry.event_time = Micros(0));
                table
            };
            let (old, new) = (sorted(&world.first), sorted(&world.plan.epochs[0].state));
            assert_eq!(timeless(BEGAN), old);
            assert_eq!(timeless(end(&world)), new);
            let first = key.table(router_index, BEGAN.offset(reaction.start_us));
            let late = first.iter().filter(|entry| entry.event_time != Micros(1_000));
            mixed += usize::from(late.count() > 0 && reaction.units.len() > 1);
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
        let key = world.key();
        let mut owners = BTreeMap::new();
        for router in 0..150 {
            let addresses = world.network.topology.interface_addresses(router);
            owners.extend(addresses.into_iter().map(|address| (address, router)));
        }
        let questions: Vec<Question> = key.questions().collect();
        let mut branched = 0;
        for at in [Micros(2_000), end(&world)] {
            let by_key = |table: Vec<Mapping>| table.into_iter().map(|m| (m.key(), m)).collect();
            let tables: Vec<_> = (0..150).map(|r| by_key(key.table(r, at))).collect();
            for question in &questions {
                let way = key.walk(key.state_at(at).unwrap(), question).unwrap();
                let Way::Delivered(walks) = way else { panic!("{question:?}") };
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
        let key = world.key();
        assert!(key.state_at(end(&world).offset(-1)).is_none());
        assert!(key.state_at(BEGAN).is_some_and(|state| state == &*world.first));
        let untagged = key.table(0, Micros(2_000));
        assert!(untagged.iter().any(|entry| entry.ingress == Ingress::UNTAGGED));
    }
}
