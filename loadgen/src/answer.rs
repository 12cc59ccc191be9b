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
use crate::sender::Outage;
use crate::services::l3vpn::{self, SitePrefix};
use crate::services::p2mp;
use crate::state::State;
use crate::world::World;

/// The answers of a world.
#[derive(Clone, Copy, Debug)]
pub struct AnswerKey<'a> {
    /// The world.
    pub world: &'a World,
    /// Its labelled network.
    pub network: &'a Network,
    /// Which copy of the sessions is asked about: 0 = the first.
    pub copy: usize,
}

/// A change of a router's table, as a collector has to file it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// What the router says; its event time is what the router's clock said.
    pub mapping: Mapping,
    /// When it happened.
    pub happened: Micros,
    /// What history is ordered by. Of a clock that is far off: `happened`, and the collector files
    /// by when it read the change, which is later.
    pub effective: Micros,
    /// The clock had been set back behind the key's previous change.
    pub is_backwards: bool,
}

/// Whether the collector can know a router's table at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Its session is open, and the router has been heard later too.
    Here,
    /// Around the break and until the next snapshot is complete: either answer may be right.
    Unsure,
    /// Its session is broken: the only right answer is that nobody knows.
    Gone,
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
    /// A prefix of the area, by the member that it belongs to and its number there; no edge's.
    Area(usize, u16),
}

impl AnswerKey<'_> {
    /// The table that a collector has to show as of this instant, sorted by key; event times are
    /// effective times.
    pub fn table(&self, router_index: usize, at: Micros) -> Vec<Mapping> {
        // Nothing that has not happened by then can have a time before: but for clocks set back.
        if at < self.began(router_index) {
            return Vec::new();
        }
        let until = if self.world.clocks.are_right() { at } else { Micros::MAX };
        let filed = self.filed(router_index, until).into_iter();
        self.with_changes(router_index, filed.filter(|filed| filed.effective <= at))
    }

    /// The table that the router has at this moment, whatever its clock says.
    pub fn held(&self, router_index: usize, at: Micros) -> Vec<Mapping> {
        self.with_changes(router_index, self.filed(router_index, at).into_iter())
    }

    fn with_changes(
        &self,
        router_index: usize,
        filed: impl Iterator<Item = Filed>,
    ) -> Vec<Mapping> {
        let World { first, .. } = self.world;
        let mut table = self.network.table(first, router_index, self.began(router_index));
        let changed = filed.map(|Filed { mapping, effective, .. }| {
            (mapping.key(), Mapping { event_time: effective, ..mapping })
        });
        let changed: BTreeMap<Key, Mapping> = changed.collect();
        if !changed.is_empty() {
            table.retain(|entry| !changed.contains_key(&entry.key()));
            let there = |entry: &Mapping| entry.operation != Operation::None;
            table.extend(changed.into_values().filter(there));
        }
        table.sort_unstable_by_key(Mapping::key);
        table
    }

    /// Effective time of the router's first entries.
    fn began(&self, router_index: usize) -> Micros {
        let World { start, clocks, .. } = self.world;
        if clocks.of(router_index).is_far { *start } else { self.world.said(router_index, *start) }
    }

    /// Every first entry of a router's table, as a collector has to file it.
    pub fn first(&self, router_index: usize) -> impl Iterator<Item = Filed> {
        let World { first, start, .. } = self.world;
        let effective = self.began(router_index);
        let table = self.network.table(first, router_index, self.world.said(router_index, *start));
        let filed = move |mapping| {
            let (happened, is_backwards) = (*start, false);
            Filed { mapping, happened, effective, is_backwards }
        };
        table.into_iter().map(filed)
    }

    /// Every change since the start until this moment, in order, as a collector has to file it.
    pub fn filed(&self, router_index: usize, until: Micros) -> Vec<Filed> {
        let World { first, plan, clocks, .. } = self.world;
        let is_far = clocks.of(router_index).is_far;
        // Of each key when it was last filed; where clocks are right nobody has to know.
        let mut filed_last: BTreeMap<Key, Micros> = BTreeMap::new();
        if !clocks.are_right() {
            let first = self.first(router_index);
            filed_last.extend(first.map(|filed| (filed.mapping.key(), filed.effective)));
        }
        let (mut filed, mut changes) = (Vec::new(), Vec::new());
        for (index, epoch) in plan.epochs.iter().enumerate() {
            let Some(began) = self.world.epoch_began(index).filter(|began| *began <= until) else {
                break;
            };
            let Some(reaction) = epoch.reactions.get(&router_index) else { continue };
            let states = [plan.before(first, index, router_index), &epoch.state];
            for (place, unit) in reaction.units.iter().enumerate() {
                let happened = began.offset(reaction.time_us(place));
                if happened > until {
                    break;
                }
                let said = self.world.said(router_index, happened);
                let own = if is_far { happened } else { said };
                self.network.changes(states, router_index, *unit, said, &mut changes);
                for mapping in changes.drain(..) {
                    let mut effective = own;
                    if !clocks.are_right() {
                        let last = filed_last.entry(mapping.key()).or_insert(own);
                        effective = own.max(*last);
                        *last = effective;
                    }
                    let is_backwards = effective > own;
                    filed.push(Filed { mapping, happened, effective, is_backwards });
                }
            }
        }
        filed
    }

    /// Whether the collector files what this router says by its own clock.
    pub fn is_far(&self, router_index: usize) -> bool {
        self.world.clocks.of(router_index).is_far
    }

    /// The state that holds at this instant: `None` while some routers have changed, others not.
    pub fn state_at(&self, at: Micros) -> Option<&State> {
        let World { first, plan, start, .. } = self.world;
        let spans = plan.epochs.iter().enumerate().map_while(|(index, epoch)| {
            let began = self.world.epoch_began(index)?;
            let (first, last) = epoch.span_us().unwrap_or((epoch.offset_us, epoch.offset_us));
            let time = |micros: i64| began.offset(micros - epoch.offset_us);
            let (mut first, mut last) = (time(first), time(last));
            if !self.world.clocks.are_right() {
                // A clock set back tells of it before it happened; one that is far off, when read.
                let ended = self.world.ended(epoch.act).unwrap_or(Micros::MAX);
                last = last.offset(self.world.ahead_us_max()).max(ended);
                first = *start;
            }
            Some((first, last, &*epoch.state))
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
        let mut heard = self.world.settled();
        if at < heard {
            return Presence::Unsure;
        }
        for (index, act) in self.world.plan.acts.iter().enumerate() {
            let Some(began) = self.world.began(index) else { break };
            let is_cut = act.cuts.iter().any(|cut| cut.routers.contains(&router_index));
            // The collector vouches up to the last evidence before the break, which is somewhere
            // behind the end of the act before.
            if is_cut && (heard.offset(1)..began).contains(&at) && presence == Presence::Here {
                return Presence::Unsure;
            }
            if began > at {
                break;
            }
            let ended = self.world.ended(index).unwrap_or(Micros::MAX);
            heard = ended;
            // Filed by when it was read, which nobody else knows.
            if self.is_far(router_index) && at < ended {
                return Presence::Unsure;
            }
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
        let mut outages = self.outages(router_index);
        let holds =
            |outage: &Outage| outage.proved < at && outage.whole.is_none_or(|whole| at < whole);
        let is_unsure = match presence {
            Presence::Here => outages.any(holds),
            Presence::Unsure => true,
            // A session breaks a little later than it was to, and is vouched for until then.
            Presence::Gone => outages
                .any(|outage| holds(outage) && outage.noticed.is_none_or(|noticed| at < noticed)),
        };
        if is_unsure { Presence::Unsure } else { presence }
    }

    /// The outages of the router's session, as whoever sent it says.
    pub fn outages(&self, router_index: usize) -> impl Iterator<Item = &Outage> {
        let outages = self.world.outages(self.copy).iter();
        outages.filter(move |outage| outage.router_index == router_index)
    }

    /// The same of another copy of the sessions.
    pub fn of_copy(self, copy: usize) -> Self {
        AnswerKey { copy, ..self }
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
            Target::Area(owner, number) => {
                let area = self.network.area.as_ref();
                area.map_or(Fec::Unknown, |area| area.fec(owner, number))
            }
        }
    }

    /// Where the LSP leads: every path, head first; the last hop is the provider edge, which the
    /// packet leaves without label. `None` where there are more than a report lists.
    pub fn walk(&self, state: &State, question: &Question) -> Option<Way> {
        ways::walk(self.network, state, question)
    }

    /// Every question that can be asked: each router and FEC, each pair of sites of each VPN, each
    /// circuit both ways, each tree, each prefix of the area from each other member.
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
        let of_area = self.network.area.iter().flat_map(|area| {
            area.prefixes().flat_map(move |(owner, number)| {
                let others = area.routers.iter().filter(move |it| **it != area.routers[owner]);
                let target = Target::Area(owner, number);
                others.map(move |head| Question { head: *head, fec_index: 0, target })
            })
        });
        plain.chain(of_vpns).chain(of_prefixes).chain(of_circuits).chain(of_trees).chain(of_area)
    }
}

#[cfg(test)]
mod tests;
