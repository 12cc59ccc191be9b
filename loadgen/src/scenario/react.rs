//! How routers react: when each has noticed, computed and installed which unit.
//!
//! In:   two states, the routers that saw the difference with their own eyes, and chance.
//! Out:  `Reaction`s: for each router that changes something its units in the order installed.
//! Law:  a router that has not finished what came before begins behind it; none is padded.
//! Not:  what the installed entries are (`network`), how they are told (`workload`).

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::pace::Pace;
use crate::network::{Network, Unit};
use crate::share::share_out;
use crate::state::State;

// How a router comes to know and to act, in microseconds.
//
// A router that sees a link or a neighbour fail puts the tunnels that went there into bypasses at
// once (RFC 4090); everything else waits for the IGP.
// Detection: BFD, three times 10 to 50 ms apart at most (RFC 5880 section 6.8.4, RFC 5882).
// Flooding: a few milliseconds per hop. SPF: the first delay of RFC 8405 (50 ms, section 5.1 and
// its default for INITIAL_SPF_DELAY) and the computation itself. Install: at the router's pace, by
// default from 2,000 to 80,000 changes a second, which is what separates small routers from large
// ones; a unit is two entries and more.
const DETECTION_US: std::ops::Range<i64> = 10_000..50_000;
const FLOODING_PER_HOP_US: std::ops::Range<i64> = 2_000..6_000;
const SPF_US: std::ops::Range<i64> = 55_000..75_000;
/// What a unit changes, as a rule.
const UNIT_CHANGES: f64 = 2.0;

/// Reactions of those routers that have any, by their index.
pub type Reactions = BTreeMap<usize, Reaction>;

/// What one router does about a change of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// When it installs its first unit that is no repair, in microseconds after the event.
    pub start_us: i64,
    /// Between one unit and the next, at least 1.
    pub install_us: i64,
    /// What it installs, in order.
    pub units: Vec<Unit>,
    /// How many of these, the first ones, are repairs on the spot: they wait for no SPF.
    pub repairs: usize,
    /// When it installs its first repair, in microseconds after the event.
    pub repair_us: i64,
    /// How long after its last unit it reports; `None` = all the while.
    pub deferred_us: Option<i64>,
}

impl Reaction {
    /// When the unit at this place of the order is installed, in microseconds after the event.
    pub fn time_us(&self, place: usize) -> i64 {
        let (begin_us, place) = match place.checked_sub(self.repairs) {
            Some(behind) => (self.start_us, behind),
            None => (self.repair_us, place),
        };
        let place = i64::try_from(place).expect("a router has far fewer units than 2^63");
        begin_us + place * self.install_us
    }

    /// When the last unit is installed.
    pub fn end_us(&self) -> i64 {
        self.time_us(self.units.len().saturating_sub(1))
    }
}

/// What goes from one state to another.
pub struct Transition<'a> {
    /// The network.
    pub network: &'a Network,
    /// For a router the state that its table is in before: not the same for all, where some were
    /// away.
    pub before: &'a (dyn Fn(usize) -> &'a State + Sync),
    /// What every router comes to.
    pub after: &'a State,
    /// Routers that see it with their own eyes.
    pub witnesses: Vec<usize>,
    /// The only routers that have anything to change, where that is known.
    pub only: Option<&'a BTreeSet<usize>>,
    /// For a router the time from which on it is free, in microseconds after the event.
    pub free_us: &'a dyn Fn(usize) -> i64,
    /// At which pace routers install and report.
    pub pace: &'a Pace,
}

impl Transition<'_> {
    /// Lets every router react that has something to change. Routers that are down do not.
    pub fn react(&self, chance: &mut ChaCha8Rng) -> Reactions {
        let topology = &self.network.topology;
        let carries = |link: usize| self.after.paths.carries(link);
        let heard: Vec<(i64, Vec<Option<u32>>)> = self
            .witnesses
            .iter()
            .map(|seen| (chance.random_range(DETECTION_US), topology.hops_from(*seen, carries)))
            .collect();
        let mut differing = self.differing();
        let mut reactions = Reactions::new();
        let [slow, fast] = self.pace.changes_per_second.0.map(f64::from);
        let (install_us_min, spread) = (UNIT_CHANGES * 1e6 / fast, fast / slow);
        let deferred_percent = self.pace.deferred_percent.0;
        for router_index in 0..topology.routers.len() {
            let per_hop_us = chance.random_range(FLOODING_PER_HOP_US);
            let spf_us = chance.random_range(SPF_US);
            let install_us = (install_us_min * spread.powf(chance.random())).max(1.0);
            let mut units = std::mem::take(&mut differing[router_index]);
            if units.is_empty() {
                continue;
            }
            units.shuffle(chance);
            let seen = self.witnesses.iter().position(|seen| *seen == router_index);
            let seen_us = seen.map(|place| heard[place].0);
            let is_repair = |unit: &Unit| seen_us.is_some() && matches!(unit, Unit::Tunnel(_));
            units.sort_by_key(|unit| !is_repair(unit));
            let repairs = units.iter().filter(|unit| is_repair(unit)).count();
            let free_us = (self.free_us)(router_index);
            let repair_us = seen_us.unwrap_or_default().max(free_us);
            let heard_us = heard.iter().filter_map(|(seen_us, hops)| {
                Some(seen_us + i64::from(hops[router_index]?) * per_hop_us)
            });
            // Cut off from every witness: by then its own neighbours have timed out as well.
            let heard_us = heard_us.min().unwrap_or(DETECTION_US.end);
            let is_deferred =
                deferred_percent > 0 && chance.random_range(0..100) < deferred_percent;
            let deferred_us =
                is_deferred.then(|| chance.random_range(0..=self.pace.deferred_ms.micros()));
            let install_us = install_us as i64;
            let repaired_us = repair_us + install_us * i64::try_from(repairs).unwrap_or(i64::MAX);
            let start_us = (heard_us + spf_us).max(free_us);
            let start_us = if repairs > 0 { start_us.max(repaired_us) } else { start_us };
            let reaction =
                Reaction { start_us, install_us, units, repairs, repair_us, deferred_us };
            reactions.insert(router_index, reaction);
        }
        reactions
    }

    /// For each router what it has to change; nothing depends on chance yet, so every core helps.
    fn differing(&self) -> Vec<Vec<Unit>> {
        let Transition { network, before, after, only, .. } = *self;
        let of_router = |router_index: usize| {
            let concerned = only.is_none_or(|only| only.contains(&router_index));
            if !concerned || after.down.routers.contains(&router_index) {
                return Vec::new();
            }
            let mut units = network.differing(before(router_index), after, router_index);
            units.shrink_to_fit();
            units
        };
        share_out(network.topology.routers.len(), of_router)
    }
}
