//! A script, planned: acts, and in them the epochs of the network, who is down when.
//!
//! In:   a labelled network, its first state, a script and a seed.
//! Out:  `Plan`: epochs in the order of time, each with every router's reaction.
//! Law:  the same network, script and seed have the same plan; no router does two things at once.
//! Not:  when an act is staged (`world`), how long it then takes (`stage`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::react::{Reaction, Reactions, Transition};
use super::{Break, Flap, Maintenance, Restart, Script, Step, Trickle, VpnChurn};
use crate::network::Network;
use crate::paths::Paths;
use crate::services::l3vpn::{self, SitePrefix};
use crate::state::{Down, State};
use crate::topology::Role;

/// Trunks whose loss is computed to find the one that changes the most: a map has hundreds.
const CANDIDATES_MAX: usize = 16;
/// When heads signal anew after a failure: told by the router that repaired (RFC 4090, section
/// 6.5.2), they wait until the IGP has settled.
const SIGNAL_AFTER_US: i64 = 1_500_000;
/// How long a link of a trickle is down, as a part of the pause to the next event.
const TRICKLE_DOWN_SHARE: f64 = 0.4;

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
        let first = self.reactions.values().map(|reaction| reaction.start_us).min()?;
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
        let mut planner = Planner { network, first, chance, paths, plan, free_us, signal_us };
        for step in &script.step {
            planner.step(step).ok_or(NothingToHit { step: step.name() })?;
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

    /// Units that change in an act, over all routers.
    pub fn units_changed(&self, act: usize) -> usize {
        let reactions = self.epochs_of(act).flat_map(|(_, epoch)| epoch.reactions.values());
        reactions.map(|reaction| reaction.units.len()).sum()
    }
}

/// A step that finds nothing in this network that it could hit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scenario {step}: expected a link or router of the core that carries traffic, found none")]
pub struct NothingToHit {
    /// Its name.
    pub step: &'static str,
}

struct Planner<'a> {
    network: &'a Network,
    first: &'a Arc<State>,
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
    fn step(&mut self, step: &Step) -> Option<()> {
        self.free_us.clear();
        let what = String::new();
        let name = step.name();
        self.plan.acts.push(PlannedAct { name, what, cuts: Vec::new(), length_us: 0 });
        let what = match step {
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
        };
        self.signal_until(i64::MAX);
        self.act().what = what;
        Some(())
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

    /// `around`: only links that share an end with this one, as in one conduit out of a place.
    fn links_down(&mut self, step: &Break, around: Option<usize>) -> Option<String> {
        let topology = &self.network.topology;
        let shares = |link: &usize| {
            around.is_none_or(|around| {
                let ends = topology.links[around].ends;
                topology.links[*link].ends.iter().any(|end| ends[0] == *end)
            })
        };
        let links: Vec<usize> =
            self.trunks().into_iter().filter(shares).take(step.count.0.into()).collect();
        let named: Vec<String> = links.iter().map(|link| self.link_name(*link)).collect();
        (!links.is_empty()).then_some(())?;
        self.epoch(0, |down| down.links.extend(&links));
        let mut what = format!("link {} down", named.join(" and "));
        if let Some(after) = step.restore_after_ms {
            self.epoch(after.micros(), |down| {
                down.links.retain(|link| !links.contains(link));
            });
            what += " and up again";
        }
        Some(what)
    }

    fn nodes_down(&mut self, step: &Break) -> Option<String> {
        let mut routers = self.cores();
        routers.truncate(step.count.0.into());
        (!routers.is_empty()).then_some(())?;
        let named: Vec<String> =
            routers.iter().map(|router| self.network.topology.name(*router)).collect();
        self.epoch(0, |down| down.routers.extend(&routers));
        let back_us = step.restore_after_ms.map(super::Millis::micros);
        let cut = Cut { routers: routers.iter().copied().collect(), at_us: 0, back_us };
        self.act().cuts.push(cut);
        let mut what = format!("router {} down", named.join(" and "));
        if let Some(back_us) = back_us {
            self.epoch(back_us, |down| down.routers.retain(|router| !routers.contains(router)));
            what += " and up again";
        }
        Some(what)
    }

    fn flap(&mut self, step: &Flap) -> Option<String> {
        let link = *self.trunks().first()?;
        let (mut offset_us, mut up_us) = (0, step.up_ms.micros());
        for _ in 0..step.times.0 {
            self.epoch(offset_us, |down| {
                down.links.insert(link);
            });
            offset_us += step.down_ms.micros();
            self.epoch(offset_us, |down| {
                down.links.remove(&link);
            });
            offset_us += up_us;
            up_us = (up_us * 2).min(step.up_ms_max.micros());
        }
        Some(format!("link {} flaps {} times", self.link_name(link), step.times.0))
    }

    fn maintain(&mut self, step: &Maintenance) -> Option<String> {
        let mut routers = self.cores();
        routers.truncate(step.routers.0.into());
        (!routers.is_empty()).then_some(())?;
        let mut offset_us = 0;
        for router in &routers {
            self.epoch(offset_us, |down| {
                down.drained.insert(*router);
            });
            offset_us += step.each_ms.micros();
            self.epoch(offset_us, |down| {
                down.drained.remove(router);
            });
            offset_us += step.each_ms.micros();
        }
        Some(format!("{} routers drained and restored, one after the other", routers.len()))
    }

    fn restart(&mut self, step: &Restart) -> String {
        let gone = self.state().down.routers.clone();
        let all = (0..self.network.topology.routers.len()).filter(|router| !gone.contains(router));
        let back_us = step.away_ms.micros();
        let cut = Cut { routers: all.collect(), at_us: 0, back_us: Some(back_us) };
        self.act().length_us = back_us;
        self.act().cuts.push(cut);
        "every session breaks, and every router comes back at once".to_owned()
    }

    fn trickle(&mut self, step: &Trickle) -> Option<String> {
        let works = |link: &usize| self.state().paths.carries(*link);
        let links: Vec<usize> = (0..self.network.topology.links.len()).filter(works).collect();
        let events = i64::from(step.events.0);
        let pause_us = (step.over_ms.micros() / events).max(2);
        for event in 0..events {
            let link = *links.choose(&mut self.chance)?;
            // Anywhere in the first half of its slot, back before the slot ends.
            let offset_us = event * pause_us + self.chance.random_range(0..=pause_us / 2);
            self.epoch(offset_us, |down| {
                down.links.insert(link);
            });
            let down_us = (pause_us as f64 * TRICKLE_DOWN_SHARE) as i64;
            self.epoch(offset_us + down_us, |down| {
                down.links.remove(&link);
            });
        }
        Some(format!("{events} links fail and come back, one at a time"))
    }

    fn churn(&mut self, step: &VpnChurn) -> Option<String> {
        let routes: Vec<SitePrefix> = l3vpn::routes(&self.network.vpns).collect();
        (self.network.churns && !routes.is_empty()).then_some(())?;
        let events = i64::from(step.events.0);
        let pause_us = (step.over_ms.micros() / events).max(1);
        for event in 0..events {
            let route = *routes.choose(&mut self.chance)?;
            let offset_us = event * pause_us + self.chance.random_range(0..pause_us);
            self.signal_until(offset_us);
            let state = self.state().toggled(self.network, route);
            let edges = &self.network.topology.edges;
            let sites = self.network.vpns[route.vpn_index].sites.iter();
            let only = sites.map(|site| edges[*site]).collect();
            let witness = BTreeSet::from([edges[route.site]]);
            self.reach(offset_us, state, witness, Some(&only));
        }
        Some(format!("{events} times a prefix of a VPN is announced or withdrawn"))
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
