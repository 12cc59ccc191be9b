//! The answer key: what the collector must say, derived from topology alone.
//!
//! In:   the world: its network, what happens to it, and when that became true.
//! Out:  any router's table at any instant; every path of any LSP once the network has settled.
//! Law:  nothing here is read from what was sent or from what the collector stored.
//! Not:  asking the collector and comparing (`verdict`).

mod ways;

use std::collections::{BTreeMap, BTreeSet};

use storage::mapping::{Fec, Key, Label, Mapping, Operation, RouterId};
use storage::time::Micros;

use crate::network::Network;
use crate::services::l3vpn::{self, SitePrefix};
use crate::services::p2mp;
use crate::state::State;
use crate::world::World;

pub use ways::PATHS_MAX;

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
    /// What of that edge it is for.
    pub target: Target,
}

/// What an LSP is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The loopback of the provider edge.
    Loopback,
    /// Its site of a VPN, by the VPN's index.
    Vpn(usize),
    /// A customer's prefix behind it.
    Prefix(SitePrefix),
    /// Its end of a circuit, by the circuit's index.
    Circuit(usize),
    /// All leaves of a tree, by its index; the edge is the root.
    Tree(usize),
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
        match question.target {
            Target::Loopback => self.network.fec(question.fec_index),
            Target::Vpn(vpn_index) => self.network.vrf(vpn_index, question.fec_index),
            Target::Prefix(route) => self.network.vrf_prefix(route),
            Target::Circuit(circuit_index) => {
                let end = self.network.circuits[circuit_index].end_at(question.fec_index);
                self.network.ac(circuit_index, end.unwrap_or(0))
            }
            Target::Tree(tree_index) => p2mp::fec(tree_index),
        }
    }

    /// Where the LSP leads: every path, head first; the last hop is the provider edge, which the
    /// packet leaves without label. `None` where there are more than `PATHS_MAX`.
    pub fn walk(&self, state: &State, question: &Question) -> Option<Way> {
        ways::walk(self.network, state, question)
    }

    /// Every question that can be asked: each router and FEC, each pair of sites of each VPN, each
    /// circuit both ways, each tree.
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        let Network { topology, vpns, circuits, trees, .. } = self.network;
        let fecs = self.network.fec_count();
        let ask = |head: usize, fec_index: usize, target| {
            let head = topology.edges[head];
            Question { head, fec_index, target }
        };
        let plain = (0..topology.routers.len()).flat_map(move |head| {
            let target = Target::Loopback;
            (0..fecs).map(move |fec_index| Question { head, fec_index, target })
        });
        let plain = plain.filter(|question| topology.edges[question.fec_index] != question.head);
        let of_vpns = vpns.iter().enumerate().flat_map(move |(index, vpn)| {
            vpn.sites.iter().flat_map(move |site| {
                let others = vpn.sites.iter().filter(move |other| *other != site);
                others.map(move |other| ask(*site, *other, Target::Vpn(index)))
            })
        });
        let churns = self.network.churns;
        let routes = l3vpn::routes(vpns).filter(move |_| churns);
        let of_prefixes = routes.flat_map(move |route| {
            let sites = vpns[route.vpn_index].sites.iter();
            let others = sites.filter(move |site| **site != route.site);
            others.map(move |site| ask(*site, route.site, Target::Prefix(route)))
        });
        let of_circuits = circuits.iter().enumerate().flat_map(move |(index, circuit)| {
            let [one, other] = circuit.ends;
            [[one, other], [other, one]].map(|[head, tail]| ask(head, tail, Target::Circuit(index)))
        });
        let of_trees = trees.iter().enumerate();
        let of_trees =
            of_trees.map(move |(index, plan)| ask(plan.root, plan.root, Target::Tree(index)));
        plain.chain(of_vpns).chain(of_prefixes).chain(of_circuits).chain(of_trees)
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
    /// `None` where a router has no entry for what arrives.
    fn follow(
        key: &AnswerKey<'_>,
        question: &Question,
        tables: &[BTreeMap<Key, Mapping>],
        owners: &BTreeMap<IpAddr, usize>,
    ) -> Option<BTreeSet<Vec<RouterId>>> {
        let topology = &key.network.topology;
        let mut found = BTreeSet::new();
        let own = Key::Ftn(key.fec(question));
        let entry = match question.target {
            // The longest match: without an entry of its own a prefix is part of its VRF.
            Target::Prefix(SitePrefix { vpn_index, site, .. })
                if !tables[question.head].contains_key(&own) =>
            {
                Key::Ftn(key.network.vrf(vpn_index, site))
            }
            _ => own,
        };
        let mut open = vec![(question.head, entry, vec![], vec![])];
        while let Some((router, wanted, below, route)) = open.pop() {
            let here = topology.routers[router].id;
            let through: Vec<RouterId> = [route.clone(), vec![here]].concat();
            for branch in &tables[router].get(&wanted)?.branches {
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
                        let interface = Key::Ilm(top, Origin::Interface(here));
                        let wanted = match tables[next].contains_key(&interface) {
                            true => interface,
                            false => Key::Ilm(top, Origin::Platform),
                        };
                        open.push((next, wanted, stack, through.clone()));
                    }
                    None => {
                        found.insert([through.clone(), vec![topology.routers[next].id]].concat());
                    }
                }
            }
        }
        Some(found)
    }

    fn owners(world: &World) -> BTreeMap<IpAddr, usize> {
        let topology = &world.network.topology;
        let of_router = |router: usize| {
            let addresses = topology.interface_addresses(router).into_iter();
            addresses.map(move |address| (address, router))
        };
        (0..topology.routers.len()).flat_map(of_router).collect()
    }

    /// Asks every question of these instants; returns how many LSPs branch, and how many are lost.
    fn follow_all(world: &World, instants: &[Micros]) -> (usize, usize) {
        let (key, owners) = (world.key(), owners(world));
        let routers = 0..world.network.topology.routers.len();
        let (mut branched, mut lost) = (0, 0);
        for at in instants {
            let by_key = |table: Vec<Mapping>| table.into_iter().map(|m| (m.key(), m)).collect();
            let tables: Vec<_> = routers.clone().map(|r| by_key(key.table(r, *at))).collect();
            let state = key.state_at(*at).unwrap();
            let here = |q: &Question| key.presence(q.head, *at) == Presence::Here;
            for question in key.questions().filter(here) {
                let followed = follow(&key, &question, &tables, &owners);
                match key.walk(state, &question).unwrap() {
                    Way::Lost => {
                        lost += 1;
                        assert_eq!(followed, None, "{question:?} at {at}");
                    }
                    Way::Delivered(walks) => {
                        let route = |walk: &Vec<Hop>| walk.iter().map(|hop| hop.router).collect();
                        let routes: BTreeSet<Vec<RouterId>> = walks.iter().map(route).collect();
                        branched += usize::from(routes.len() > 1);
                        assert_eq!(followed, Some(routes), "{question:?} at {at}");
                    }
                }
            }
        }
        (branched, lost)
    }

    #[test]
    fn following_the_labels_leads_where_the_topology_says() {
        let world = world();
        let (branched, lost) = follow_all(&world, &[Micros(2_000), end(&world)]);
        assert!(branched > 10, "{branched}");
        assert_eq!(lost, 0);
        let questions: Vec<Question> = world.key().questions().collect();
        assert!(questions.iter().any(|question| question.target != Target::Loopback));
    }

    #[test]
    fn every_service_leads_where_the_topology_says_before_during_and_after_a_repair() {
        let shape = Shape { routers: 100, edges: 24, seed: 4 };
        let script = "[[step]]\nlink-down = {}\n[[step]]\nnode-down = {}";
        let script = crate::scenario::Script::parse(script).unwrap();
        let scenario = crate::scenario::Scenario::Script(script.into());
        for services in ["ldp,rsvp,sr,l3vpn,vpws,p2mp", "sr,vpws", "rsvp,l3vpn", "ldp,p2mp"] {
            let services = services.parse().unwrap();
            let scenario = scenario.clone();
            let model = crate::model::Model { services, scenario, ..shape.into() };
            let world = World::generate(&model, Micros(1_000)).unwrap();
            let mut instants = vec![Micros(2_000)];
            for (act, began) in [BEGAN, Micros(20_000_000)].into_iter().enumerate() {
                world.stage(act, began);
                for (_, epoch) in world.plan.epochs_of(act) {
                    instants.extend(epoch.span_us().map(|(_, last_us)| began.offset(last_us)));
                }
            }
            let (branched, lost) = follow_all(&world, &instants);
            assert!(branched > 10 || !services.ldp, "{services:?}: {branched}");
            // No detour leads around a router that is gone; the IGP does.
            assert_eq!(lost > 0, services.rsvp, "{services:?}");
        }
    }

    #[test]
    fn a_customers_prefix_leads_where_it_is_announced_and_else_with_the_rest_of_its_vrf() {
        let shape = Shape { routers: 60, edges: 16, seed: 4 };
        let script = "[[step]]\nvpn-churn = { events = 60, over_ms = 30000 }";
        let script = crate::scenario::Script::parse(script).unwrap();
        let scenario = crate::scenario::Scenario::Script(script.into());
        let model = crate::model::Model { scenario, ..shape.into() };
        let world = World::generate(&model, Micros(1_000)).unwrap();
        world.stage(0, BEGAN);
        let ends = world.plan.epochs.iter().filter_map(|epoch| epoch.span_us());
        let ends = ends.map(|(_, last_us)| BEGAN.offset(last_us));
        let settled: Vec<Micros> =
            ends.filter(|at| world.key().state_at(*at).is_some()).step_by(5).collect();
        assert!(settled.len() > 2, "{settled:?}");
        assert_eq!(follow_all(&world, &settled).1, 0);
        let announced: BTreeSet<usize> =
            world.plan.epochs.iter().map(|epoch| epoch.state.announced.len()).collect();
        assert!(announced.len() > 3, "{announced:?}");
        // A label that was withdrawn is soon another prefix's.
        let labels = |state: &State| -> BTreeSet<_> {
            let of = |(route, label): (&SitePrefix, &Label)| (route.site, *label, *route);
            state.announced.iter().map(of).collect()
        };
        let all: BTreeSet<_> =
            world.plan.epochs.iter().flat_map(|epoch| labels(&epoch.state)).collect();
        let apart: BTreeSet<_> = all.iter().map(|(site, label, _)| (*site, *label)).collect();
        assert!(apart.len() < all.len(), "{} of {}", apart.len(), all.len());
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
