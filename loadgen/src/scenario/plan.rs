//! A script, planned: acts, and in them the epochs of the network, who is down when.
//!
//! In:   a labelled network, its first state, a script and a seed.
//! Out:  `Plan`: epochs in the order of time, each with every router's reaction.
//! Law:  the same network, script and seed have the same plan; no router does two things at once.
//! Not:  when an act is staged (`world`), how long it then takes (`stage`).

mod steps;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::pace::Pace;
use super::react::{Reaction, Reactions, Transition};
use super::{Script, Step};
use crate::faults::Fault;
use crate::network::Network;
use crate::paths::Paths;
use crate::state::{Down, State};
use crate::topology::Role;

/// Trunks whose loss is computed to find the one that changes the most: a map has hundreds.
const CANDIDATES_MAX: usize = 16;
/// When heads signal anew after a failure: told by the router that repaired (RFC 4090, section
/// 6.5.2), they wait until the IGP has settled.
const SIGNAL_AFTER_US: i64 = 1_500_000;
/// Everything that will happen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Every epoch, act by act, in the order of time.
    pub epochs: Vec<Epoch>,
    /// The acts, each over a run of epochs.
    pub acts: Vec<PlannedAct>,
}

/// From one event to the next: what the network settles to, and how each router gets there.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// Which act it belongs to.
    pub act: usize,
    /// When the event is, in microseconds after the act's beginning.
    pub offset_us: i64,
    /// What the network settles to.
    pub state: Arc<State>,
    /// Who changes what.
    pub reactions: Reactions,
}

/// One step of the script.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedAct {
    /// Its name.
    pub name: &'static str,
    /// What it hits, in words.
    pub what: String,
    /// Sessions that break.
    pub cuts: Vec<Cut>,
    /// When its last event is, in microseconds after its beginning.
    pub length_us: i64,
}

/// Sessions that break at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Indices of the routers.
    pub routers: BTreeSet<usize>,
    /// When, in microseconds after the act's beginning.
    pub at_us: i64,
    /// When they may connect again; `None` = not in this act.
    pub back_us: Option<i64>,
}

impl Epoch {
    /// When the first router changes something and when the last has changed everything, in
    /// microseconds after the act's beginning. `None` when nothing changes.
    pub fn span_us(&self) -> Option<(i64, i64)> {
        let first = self.reactions.values().map(|reaction| reaction.time_us(0)).min()?;
        let last = self.reactions.values().map(Reaction::end_us).max()?;
        Some((self.offset_us + first, self.offset_us + last))
    }
}

impl Plan {
    /// Plans. `None` when a step finds nothing that it could hit.
    pub fn make(
        network: &Network,
        first: &Arc<State>,
        script: &Script,
        seed: u64,
    ) -> Result<Plan, NothingToHit> {
        let mut chance = ChaCha8Rng::seed_from_u64(script.seed.unwrap_or(seed));
        // The network has drawn from two other streams of the same seed.
        chance.set_stream(2);
        let paths = BTreeMap::from([(first.down.clone(), Arc::clone(&first.paths))]);
        let plan = Plan::default();
        let (free_us, signal_us) = (BTreeMap::new(), None);
        let pace = &script.pace;
        let mut planner = Planner { network, first, pace, chance, paths, plan, free_us, signal_us };
        for step in &script.step {
            planner.step(step, script.reuses_labels())?;
        }
        Ok(planner.plan)
    }

    /// Epochs of an act, with their indices.
    pub fn epochs_of(&self, act: usize) -> impl Iterator<Item = (usize, &Epoch)> {
        self.epochs.iter().enumerate().filter(move |(_, epoch)| epoch.act == act)
    }

    /// The state that a router's table was in before this epoch: that of the last epoch in which
    /// the router was there.
    pub fn before<'a>(&'a self, first: &'a State, epoch: usize, router_index: usize) -> &'a State {
        let earlier = self.epochs[..epoch].iter().rev().map(|epoch| &*epoch.state);
        let mut states = earlier.chain([first]);
        let was_there = |state: &&State| !state.down.routers.contains(&router_index);
        states.find(was_there).unwrap_or(first)
    }

    /// In which act and when this router is in the middle of what it first has to change; the very
    /// beginning, where it never has anything.
    pub fn middle_of(&self, router_index: usize) -> (usize, i64) {
        let middle = |epoch: &Epoch| {
            let reaction = epoch.reactions.get(&router_index)?;
            let offset_us = epoch.offset_us + reaction.time_us(reaction.units.len() / 2);
            Some((epoch.act, offset_us))
        };
        self.epochs.iter().find_map(middle).unwrap_or_default()
    }

    /// Whether this router ever has anything to change.
    pub fn speaks(&self, router_index: usize) -> bool {
        self.epochs.iter().any(|epoch| epoch.reactions.contains_key(&router_index))
    }

    /// Units that change in an act, over all routers.
    pub fn units_changed(&self, act: usize) -> usize {
        let reactions = self.epochs_of(act).flat_map(|(_, epoch)| epoch.reactions.values());
        reactions.map(|reaction| reaction.units.len()).sum()
    }
}

/// A step that finds nothing in this network that it could hit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "scenario {step}: expected a link or router of the core that carries traffic, or a VPN where \
     its prefixes are meant, found none"
)]
pub struct NothingToHit {
    /// Its name.
    pub step: &'static str,
}

struct Planner<'a> {
    network: &'a Network,
    first: &'a Arc<State>,
    pace: &'a Pace,
    chance: ChaCha8Rng,
    /// Paths that were computed before, so that a link that comes back costs nothing.
    paths: BTreeMap<Down, Arc<Paths>>,
    plan: Plan,
    /// When each router has installed its last unit, in microseconds after the act's beginning.
    free_us: BTreeMap<usize, i64>,
    /// When heads signal their tunnels anew, if they have to.
    signal_us: Option<i64>,
}

impl Planner<'_> {
    fn step(&mut self, step: &Step, reuses_labels: bool) -> Result<(), NothingToHit> {
        self.free_us.clear();
        let what = String::new();
        let name = step.name();
        self.plan.acts.push(PlannedAct { name, what, cuts: Vec::new(), length_us: 0 });
        let mut what = self.hit(step).ok_or(NothingToHit { step: name })?;
        if reuses_labels {
            let reuse = self.reuse_labels();
            what += &reuse.ok_or(NothingToHit { step: Fault::LabelReuse.name() })?;
        }
        self.signal_until(i64::MAX);
        self.act().what = what;
        Ok(())
    }

    fn hit(&mut self, step: &Step) -> Option<String> {
        Some(match step {
            Step::LinkDown(step) => self.links_down(step, None)?,
            Step::Srlg(step) => {
                let [first, ..] = self.trunks()[..] else { return None };
                self.links_down(step, Some(first))?
            }
            Step::NodeDown(step) => self.nodes_down(step)?,
            Step::Flap(step) => self.flap(step)?,
            Step::Maintenance(step) => self.maintain(step)?,
            Step::CollectorRestart(step) => self.restart(step),
            Step::Trickle(step) => self.trickle(step)?,
            Step::VpnChurn(step) => self.churn(step)?,
            Step::Trace(step) => self.trace(step)?,
        })
    }

    fn act(&mut self) -> &mut PlannedAct {
        self.plan.acts.last_mut().expect("a step begins with its act")
    }

    fn state(&self) -> &Arc<State> {
        self.plan.epochs.last().map_or(self.first, |epoch| &epoch.state)
    }

    fn paths(&mut self, down: &Down) -> Arc<Paths> {
        let topology = &self.network.topology;
        let fresh = || Arc::new(Paths::compute(topology, down));
        Arc::clone(self.paths.entry(down.clone()).or_insert_with(fresh))
    }

    /// The next epoch: `change` happens to what is down.
    fn epoch(&mut self, offset_us: i64, change: impl FnOnce(&mut Down)) {
        self.signal_until(offset_us);
        let was = Arc::clone(self.state());
        let mut down = was.down.clone();
        change(&mut down);
        let paths = self.paths(&down);
        let witnesses = was.down.witnesses(&down, &self.network.topology);
        let state = was.follow(self.network, down, &paths);
        self.reach(offset_us, state, witnesses, None);
        self.signal_us = (!self.network.tunnels.is_empty()).then_some(offset_us + SIGNAL_AFTER_US);
    }

    /// Heads that have been told signal their tunnels anew, if it is time before `offset_us`.
    fn signal_until(&mut self, offset_us: i64) {
        let Some(signal_us) = self.signal_us.take_if(|signal_us| *signal_us <= offset_us) else {
            return;
        };
        if let Some(state) = self.state().signalled(self.network) {
            self.reach(signal_us, state, BTreeSet::new(), None);
        }
    }

    /// `only`: nobody else has anything to change.
    fn reach(
        &mut self,
        offset_us: i64,
        state: State,
        witnesses: BTreeSet<usize>,
        only: Option<&BTreeSet<usize>>,
    ) {
        let state = Arc::new(state);
        let index = self.plan.epochs.len();
        let (plan, first, free_us) = (&self.plan, self.first, &self.free_us);
        let transition = Transition {
            network: self.network,
            before: &|router| plan.before(first, index, router),
            after: &state,
            witnesses: witnesses.into_iter().collect(),
            only,
            free_us: &|router| free_us.get(&router).map_or(i64::MIN, |free| free - offset_us),
            pace: self.pace,
        };
        let reactions = transition.react(&mut self.chance);
        for (router_index, reaction) in &reactions {
            let free_us = offset_us + reaction.end_us() + reaction.install_us;
            self.free_us.insert(*router_index, free_us);
        }
        let act = self.plan.acts.len() - 1;
        let planned = self.act();
        planned.length_us = planned.length_us.max(offset_us);
        self.plan.epochs.push(Epoch { act, offset_us, state, reactions });
    }

    /// Trunks that work and come into question, those first whose loss changes the most.
    fn trunks(&self) -> Vec<usize> {
        let (network, before) = (self.network, self.state());
        let loads = before.paths.loads(&network.topology);
        let carries = |link: &usize| network.topology.links[*link].trunk && loads[*link] > 0;
        let mut trunks: Vec<usize> = (0..loads.len()).filter(carries).collect();
        trunks.sort_by_key(|link| std::cmp::Reverse(loads[*link]));
        let rest = trunks.split_off(trunks.len().min(CANDIDATES_MAX));
        trunks.sort_by_cached_key(|link| {
            let mut down = before.down.clone();
            down.links.insert(*link);
            let after = Paths::compute(&network.topology, &down);
            (std::cmp::Reverse(changes_between(network, &before.paths, &after)), *link)
        });
        trunks.extend(rest);
        trunks
    }

    /// Core routers that work and carry something, those first that carry the most.
    fn cores(&self) -> Vec<usize> {
        let (topology, state) = (&self.network.topology, self.state());
        let loads = state.paths.loads(topology);
        let load = |router: &usize| -> u64 {
            topology.routers[*router].links.iter().map(|link| loads[*link]).sum()
        };
        let is_core = |router: &usize| {
            matches!(topology.routers[*router].role, Role::Core { .. }) && load(router) > 0
        };
        let mut cores: Vec<usize> = (0..topology.routers.len()).filter(is_core).collect();
        cores.sort_by_key(|router| (std::cmp::Reverse(load(router)), *router));
        cores
    }

    fn link_name(&self, link_index: usize) -> String {
        let topology = &self.network.topology;
        topology.links[link_index].ends.map(|end| topology.name(end)).join(" - ")
    }
}

/// Entries that follow paths which differ; of many FECs a part stands for all.
fn changes_between(network: &Network, before: &Paths, after: &Paths) -> usize {
    let topology = &network.topology;
    let of_router = |router_index: usize| -> usize {
        let moved = before.moved(after, topology, router_index);
        let changed = |fec: &usize| {
            let old = || before.next_links(topology, *fec, router_index);
            moved.may_differ(*fec) && !old().eq(after.next_links(topology, *fec, router_index))
        };
        let fecs = before.fecs_weighed().filter(changed);
        fecs.map(|fec| 2 + network.shared_vpns(router_index, fec).count()).sum()
    };
    (0..topology.routers.len()).map(of_router).sum()
}

#[cfg(test)]
mod tests;
