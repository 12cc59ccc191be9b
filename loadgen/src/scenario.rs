//! What happens to the network: which link fails, and when each router has changed which entry.
//!
//! In:   a labelled network and a seed.
//! Out:  `Storm`: every router's changed FECs in the order in which it installs them, with times.
//! Law:  a mapping changes if and only if its router's set of next hops does; none is padded.
//! Not:  how changes become frames (`workload`), or what they prove (`answer`).

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::network::Network;
use crate::paths::Paths;

/// Trunks whose loss is computed to find the one that changes the most: a map has hundreds.
const CANDIDATES_MAX: usize = 16;
/// The smallest share of all mappings that a storm has to change.
pub const SHARE_MIN: f64 = 0.10;

// How a router comes to know and to act, in microseconds. Detection: BFD, three times 10 to 50 ms
// apart at most. Flooding: a few milliseconds per hop. SPF: the first delay of RFC 8405 and the
// computation. Install: what zebra and the like show per label entry.
const DETECTION_US: std::ops::Range<i64> = 10_000..50_000;
const FLOODING_PER_HOP_US: std::ops::Range<i64> = 2_000..6_000;
const SPF_US: std::ops::Range<i64> = 55_000..75_000;
const INSTALL_PER_FEC_US: std::ops::Range<i64> = 20..80;

/// A link failure, and what every router does about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Storm {
    /// Index of the link that fails.
    pub link: usize,
    /// Shortest paths without it.
    pub after: Paths,
    /// One per router.
    pub reactions: Vec<Reaction>,
    /// Mappings of the whole network before the failure.
    pub mappings: usize,
    /// Mappings that change.
    pub changes: usize,
}

/// What one router does about the failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// When it installs its first change, in microseconds after the failure.
    pub start_us: i64,
    /// Between one FEC and the next.
    pub install_us: i64,
    /// FEC indices whose entries change, in the order of installation.
    pub fecs: Vec<usize>,
}

impl Reaction {
    /// When the FEC at this place of the order is installed, in microseconds after the failure.
    pub fn time_us(&self, place: usize) -> i64 {
        let place = i64::try_from(place).expect("a router has far fewer FECs than 2^63");
        self.start_us + place * self.install_us
    }

    /// When the last change is installed; `None` when nothing changes here.
    pub fn end_us(&self) -> Option<i64> {
        self.fecs.len().checked_sub(1).map(|place| self.time_us(place))
    }
}

impl Storm {
    /// Fails the trunk whose loss changes the most mappings. `before` = paths with every link up.
    ///
    /// One Dijkstra per FEC and candidate. `None` only when no trunk changes anything.
    pub fn link_down(network: &Network, before: &Paths, seed: u64) -> Option<Storm> {
        let candidates = busiest_trunks(network, before).into_iter().map(|link| {
            let after = Paths::compute(&network.topology, Some(link));
            let changed = changed_fecs(network, before, &after);
            (count(network, &changed), link, after, changed)
        });
        // The first of equals: the choice must not depend on how the iterator breaks ties.
        let best = candidates.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (changes, link, after, changed) = best.filter(|best| best.0 > 0)?;
        let mappings = mapping_count(network, before);
        let reactions = react(network, link, changed, seed);
        Some(Storm { link, after, reactions, mappings, changes })
    }

    /// Share of all mappings that change.
    pub fn share(&self) -> f64 {
        self.changes as f64 / self.mappings.max(1) as f64
    }

    /// Routers that have something to say.
    pub fn speakers(&self) -> usize {
        self.reactions.iter().filter(|reaction| !reaction.fecs.is_empty()).count()
    }

    /// When half of the FECs have changed, in microseconds after the failure: tables are mixed.
    pub fn middle_us(&self) -> i64 {
        let of_router = |reaction: &Reaction| {
            let reaction = reaction.clone();
            (0..reaction.fecs.len()).map(move |place| reaction.time_us(place))
        };
        let mut times: Vec<i64> = self.reactions.iter().flat_map(of_router).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// When the last router has installed its last change, in microseconds after the failure.
    pub fn end_us(&self) -> i64 {
        self.reactions.iter().filter_map(Reaction::end_us).max().unwrap_or(0)
    }
}

/// Trunks that come into question: those that the most ways cross, in the order of their indices.
fn busiest_trunks(network: &Network, before: &Paths) -> Vec<usize> {
    let loads = before.loads(&network.topology);
    let is_trunk = |link: &usize| network.topology.links[*link].trunk;
    let mut trunks: Vec<usize> = (0..loads.len()).filter(is_trunk).collect();
    trunks.sort_by_key(|link| std::cmp::Reverse(loads[*link]));
    trunks.truncate(CANDIDATES_MAX);
    trunks.sort_unstable();
    trunks
}

/// Mappings of the whole network in this state.
pub fn mapping_count(network: &Network, paths: &Paths) -> usize {
    let routers = 0..network.topology.routers.len();
    routers.map(|router_index| table_len(network, paths, router_index)).sum()
}

fn table_len(network: &Network, paths: &Paths, router_index: usize) -> usize {
    let reachable = |fec: &usize| paths.distance(*fec, router_index) != crate::paths::UNREACHABLE;
    let fecs = (0..network.fec_count()).filter(reachable);
    let routed: usize = fecs.map(|fec| entries_per_fec(network, router_index, fec)).sum();
    let own = network.fec_of_router(router_index);
    let vpns = network.vpns.iter().filter(|vpn| own.is_some_and(|own| vpn.sites.contains(&own)));
    routed + vpns.map(|vpn| vpn.sites.len()).sum::<usize>()
}

/// Entries that follow the path to one FEC: FTN, ILM, and one per VPN shared with its edge.
fn entries_per_fec(network: &Network, router_index: usize, fec_index: usize) -> usize {
    if network.fec_of_router(router_index) == Some(fec_index) {
        return 0;
    }
    2 + network.shared_vpns(router_index, fec_index).count()
}

/// For each router the FECs whose set of next hops differs, ascending.
fn changed_fecs(network: &Network, before: &Paths, after: &Paths) -> Vec<Vec<usize>> {
    let topology = &network.topology;
    let differs = |router_index: usize, fec: usize| {
        let old = before.next_links(topology, fec, router_index);
        !old.eq(after.next_links(topology, fec, router_index))
    };
    let of_router = |r: usize| (0..network.fec_count()).filter(|fec| differs(r, *fec)).collect();
    (0..topology.routers.len()).map(of_router).collect()
}

fn count(network: &Network, changed: &[Vec<usize>]) -> usize {
    let of_router = |(router_index, fecs): (usize, &Vec<usize>)| -> usize {
        fecs.iter().map(|fec| entries_per_fec(network, router_index, *fec)).sum()
    };
    changed.iter().enumerate().map(of_router).sum()
}

fn react(network: &Network, link: usize, changed: Vec<Vec<usize>>, seed: u64) -> Vec<Reaction> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    chance.set_stream(2);
    // Both ends of the link detect; the flooding does not cross it any more.
    let ends = network.topology.links[link].ends;
    let detected = ends.map(|_| chance.random_range(DETECTION_US));
    let hops = ends.map(|end| network.topology.hops_from(end, Some(link)));
    let reaction = |(router_index, mut fecs): (usize, Vec<usize>)| {
        let per_hop = chance.random_range(FLOODING_PER_HOP_US);
        let heard =
            |end: usize| Some(detected[end] + i64::from(hops[end][router_index]?) * per_hop);
        let heard = [0, 1].into_iter().filter_map(heard).min().unwrap_or(0);
        let start_us = heard + chance.random_range(SPF_US);
        let install_us = chance.random_range(INSTALL_PER_FEC_US);
        fecs.shuffle(&mut chance);
        Reaction { start_us, install_us, fecs }
    };
    changed.into_iter().enumerate().map(reaction).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use storage::mapping::{Key, Mapping};
    use storage::time::Micros;

    use super::*;
    use crate::topology::Shape;

    fn storm(routers: usize, edges: usize, seed: u64) -> (Network, Paths, Storm) {
        let network = Network::generate(&Shape { routers, edges, seed }.into()).unwrap();
        let before = Paths::compute(&network.topology, None);
        let storm = Storm::link_down(&network, &before, seed).unwrap();
        (network, before, storm)
    }

    fn by_key(table: Vec<Mapping>) -> BTreeMap<Key, Mapping> {
        table.into_iter().map(|mapping| (mapping.key(), mapping)).collect()
    }

    #[test]
    fn what_changes_is_the_difference_of_the_tables() {
        let (network, before, storm) = storm(150, 30, 2);
        let mut changes = 0;
        let mut mappings = 0;
        for (router_index, reaction) in storm.reactions.iter().enumerate() {
            let old = by_key(network.table(&before, router_index, Micros(0)));
            let new = by_key(network.table(&storm.after, router_index, Micros(0)));
            mappings += old.len();
            let mut expected: BTreeMap<Key, Mapping> = new.clone();
            expected.retain(|key, mapping| old.get(key) != Some(mapping));
            let mut said = Vec::new();
            for fec in &reaction.fecs {
                let time = Micros(0);
                network.routed_entries(&storm.after, router_index, *fec, time, &mut said);
            }
            changes += said.len();
            assert_eq!(by_key(said), expected);
        }
        assert_eq!((changes, mappings), (storm.changes, storm.mappings));
    }

    #[test]
    fn a_core_link_changes_a_tenth_of_all_mappings_whatever_the_seed() {
        for (routers, edges) in [(60, 10), (200, 40), (600, 60)] {
            for seed in 0..4 {
                let (_, _, storm) = storm(routers, edges, seed);
                assert!(storm.share() >= SHARE_MIN, "{routers} {seed}: {}", storm.share());
            }
        }
    }

    #[test]
    fn the_network_speaks_within_a_second_and_no_change_comes_before_its_cause() {
        let (_, _, storm) = storm(600, 60, 9);
        assert!(storm.end_us() < 1_000_000, "{}", storm.end_us());
        assert!(storm.speakers() > 300, "{}", storm.speakers());
        let middle = storm.middle_us();
        let begun = storm.reactions.iter().filter(|reaction| reaction.start_us <= middle).count();
        assert!(begun > 0 && middle < storm.end_us());
        let earliest = DETECTION_US.start + SPF_US.start;
        assert!(storm.reactions.iter().all(|reaction| reaction.start_us >= earliest));
    }

    #[test]
    fn the_same_seed_makes_the_same_storm() {
        assert_eq!(storm(100, 20, 5).2, storm(100, 20, 5).2);
        assert_ne!(storm(100, 20, 5).2, storm(100, 20, 6).2);
    }
}
