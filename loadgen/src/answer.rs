//! The answer key: what the collector must say, derived from topology alone.
//!
//! In:   the world: its network, what happens to it, and when that became true.
//! Out:  any router's table at any instant; every path of any LSP once the network has settled.
//! Law:  nothing here is read from what was sent or from what the collector stored.
//! Not:  asking the collector and comparing (`verdict`).

pub mod filing;
mod ways;

use std::collections::{BTreeMap, BTreeSet};

use engine::query::Selector;
use storage::mapping::{Fec, Key, Label, Mapping, Operation, RouterId};
use storage::time::Micros;

use crate::network::Network;
use crate::sender::Outage;
use crate::services::l3vpn::{self, SitePrefix};
use crate::services::{discard, p2mp, tables};
use crate::state::State;
use crate::world::World;

use filing::Span;

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
    /// What history is ordered by.
    pub span: Span,
}

/// A table that a collector has to show as of an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsOf {
    /// What stands for certain, sorted by key: each entry, and when it was filed.
    pub entries: Vec<(Mapping, Span)>,
    /// Keys of which either of two values may be shown, or that it is not known: the moment at
    /// which the collector read the change decides.
    pub open: BTreeSet<Key>,
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
    /// Nowhere, on purpose: its head drops it.
    Discarded,
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
    /// The aggregate that it discards; it is asked itself.
    Discard,
    /// An entry of its label table, by its number; it is asked itself.
    Table(u8),
    /// All leaves of a tree, by its index; the edge is the root.
    Tree(usize),
    /// A prefix of the area, by the member that it belongs to and its number there; no edge's.
    Area(usize, u16),
}

impl AnswerKey<'_> {
    /// The table that a collector has to show as of this instant.
    pub fn as_of(&self, router_index: usize, at: Micros) -> AsOf {
        // Where clocks are right nothing is filed before it happened.
        let until = if self.world.clocks.are_right() { at } else { Micros::MAX };
        let mut shown = AsOf::default();
        let mut entries: BTreeMap<Key, (Mapping, Span)> = BTreeMap::new();
        let filed = self.first(router_index).chain(self.filed(router_index, until));
        for Filed { mapping, span, .. } in filed.filter(|filed| filed.span.earliest <= at) {
            let key = mapping.key();
            // A later change of the key that is filed under the same instant settles nothing.
            if span.is_open_at(at) {
                shown.open.insert(key);
            }
            match mapping.operation {
                Operation::None => entries.remove(&key),
                _ => entries.insert(key, (mapping, span)),
            };
        }
        entries.retain(|key, _| !shown.open.contains(key));
        shown.entries = entries.into_values().collect();
        shown
    }

    /// The same, where all clocks are right; event times are those of filing.
    pub fn table(&self, router_index: usize, at: Micros) -> Vec<Mapping> {
        let entries = self.as_of(router_index, at).entries.into_iter();
        entries.map(|(mapping, span)| Mapping { event_time: span.earliest, ..mapping }).collect()
    }

    /// The table that the router has at this moment, with the times that its clock said.
    pub fn held(&self, router_index: usize, at: Micros) -> Vec<Mapping> {
        let World { first, start, .. } = self.world;
        let said = self.world.said(router_index, *start);
        let mut table = self.network.table(first, router_index, said);
        let changed = self.filed(router_index, at).into_iter();
        let changed: BTreeMap<Key, Mapping> =
            changed.map(|filed| (filed.mapping.key(), filed.mapping)).collect();
        if !changed.is_empty() {
            table.retain(|entry| !changed.contains_key(&entry.key()));
            let there = |entry: &Mapping| entry.operation != Operation::None;
            table.extend(changed.into_values().filter(there));
        }
        table.sort_unstable_by_key(Mapping::key);
        table
    }

    /// Every first entry of a router's table, as a collector has to file it.
    pub fn first(&self, router_index: usize) -> impl Iterator<Item = Filed> {
        let World { first, start, .. } = self.world;
        let said = self.world.said(router_index, *start);
        let span = Span::of(said, [*start, self.world.settled()], None, None);
        let table = self.network.table(first, router_index, said);
        let happened = *start;
        table.into_iter().map(move |mapping| Filed { mapping, happened, span })
    }

    /// Every change since the start until this moment, in order, as a collector has to file it.
    pub fn filed(&self, router_index: usize, until: Micros) -> Vec<Filed> {
        let World { first, plan, .. } = self.world;
        // Of each key when it was last filed; where nothing is filed late nobody has to know.
        let mut filed_last: BTreeMap<Key, Span> = BTreeMap::new();
        let is_filed_late = self.may_be_filed_late(router_index);
        if is_filed_late {
            let first = self.first(router_index);
            filed_last.extend(first.map(|filed| (filed.mapping.key(), filed.span)));
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
                let read = [happened, self.world.ended(epoch.act).unwrap_or(happened)];
                let proven = is_filed_late.then(|| self.proven(router_index, read));
                self.network.changes(states, router_index, *unit, said, &mut changes);
                for mapping in changes.drain(..) {
                    let mut span = Span::of(said, read, None, None);
                    if is_filed_late {
                        let key = mapping.key();
                        span = Span::of(said, read, filed_last.get(&key).copied(), proven);
                        filed_last.insert(key, span);
                    }
                    filed.push(Filed { mapping, happened, span });
                }
            }
        }
        filed
    }

    /// Whether changes of this router may be filed later than they happened.
    fn may_be_filed_late(&self, router_index: usize) -> bool {
        !self.world.clocks.are_right() || self.outages(router_index).next().is_some()
    }

    /// Between which instants the latest snapshot began that was complete before a change was read.
    fn proven(&self, router_index: usize, read: [Micros; 2]) -> [Micros; 2] {
        let mut begun = [self.world.start, self.world.settled()];
        for outage in self.outages(router_index).filter(|outage| outage.proved < read[1]) {
            let whole = outage.whole.unwrap_or(Micros::MAX);
            if whole <= read[0] {
                begun[0] = begun[0].max(outage.proved);
            }
            begun[1] = begun[1].max(whole.min(read[1]));
        }
        begun
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
                // A clock set back tells of it before it happened; one that is ahead, when read.
                let ended = self.world.ended(epoch.act).unwrap_or(Micros::MAX);
                last = last.max(ended);
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
            heard = self.world.ended(index).unwrap_or(Micros::MAX);
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

    /// The same of all of its entries together: while some are open, either answer may be right.
    pub fn presence_of_all(&self, router_index: usize, at: Micros) -> Presence {
        let presence = self.presence(router_index, at);
        let is_open = || {
            self.may_be_filed_late(router_index) && !self.as_of(router_index, at).open.is_empty()
        };
        if presence == Presence::Here && is_open() { Presence::Unsure } else { presence }
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
            Target::Discard => discard::fec(question.fec_index),
            Target::Table(number) => tables::fec(question.fec_index, number),
            Target::Area(owner, number) => {
                let area = self.network.area.as_ref();
                area.map_or(Fec::Unknown, |area| area.fec(owner, number))
            }
        }
    }

    /// What the collector is asked for.
    pub fn selector(&self, question: &Question) -> Selector {
        let Target::Table(number) = question.target else {
            return Selector::Fec(self.fec(question));
        };
        let table = Some(tables::table(question.fec_index));
        Selector::Label { label: tables::label(number), table }
    }

    /// Where the LSP leads: every path, head first; the last hop is the provider edge, which the
    /// packet leaves without label. `None` where there are more than a report lists.
    pub fn walk(&self, state: &State, question: &Question) -> Option<Way> {
        ways::walk(self.network, state, question)
    }

    /// Every question that can be asked: each router and FEC, each pair of sites of each VPN, each
    /// circuit both ways, each tree, each prefix of the area from each other member, each entry of
    /// each label table, each aggregate that is discarded.
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
        let edges = 0..if self.network.services.vrf_names { fecs } else { 0 };
        let of_tables = edges.flat_map(move |edge| {
            (0..tables::ENTRIES).map(move |number| ask(edge, edge, Target::Table(number)))
        });
        let discards = 0..if self.network.services.discard { fecs } else { 0 };
        let discards = discards.map(move |edge| ask(edge, edge, Target::Discard));
        let of_services = of_vpns.chain(of_prefixes).chain(of_circuits).chain(of_trees);
        plain.chain(of_services).chain(of_area).chain(of_tables).chain(discards)
    }
}

#[cfg(test)]
mod tests;
