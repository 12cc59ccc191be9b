//! The skeleton of a network: where ways part, and the chains between such places.
//!
//! In:   a topology, which links carry packets, which routers let them through.
//! Out:  the distance between any two routers, each found when it is asked for.
//! Law:  equal to a shortest path over the whole graph; memory grows with the square of the hubs
//!       that were asked about, not with that of the routers.
//! Not:  provider edges, next hops (`paths`).
//!
//! Most routers of a large network stand in rings: two links, no choice. Whatever leaves such a
//! chain leaves by one of its two ends, so only the ends (hubs) need distances to each other.
//! 50,000 routers in rings of nine hang on some 1,300 hubs: 1,300 x 1,300 x 4 bytes = 6.8 MB,
//! where a distance for each router and provider edge takes 1.3 GB.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

use super::UNREACHABLE;
use crate::topology::Topology;

/// No chain, no hub.
const NONE: u32 = u32::MAX;

/// Hubs, chains, and distances as far as they were asked for.
#[derive(Clone, Debug)]
pub(super) struct Skeleton {
    /// One per router.
    places: Vec<Place>,
    chains: Vec<Chain>,
    /// For each hub whether packets for others may go through it.
    transits: Vec<bool>,
    /// For each hub its neighbours among the hubs, with the cost of the way there.
    ways: Vec<Vec<(u32, u32)>>,
    /// For each hub its distances to all hubs, once somebody has asked.
    rows: Vec<OnceLock<Box<[u32]>>>,
}

/// Where a router stands: on a hub, or in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Hub at each end of its chain, and how far it is; itself, and none, where it is a hub.
    ends: [(u32, u32); 2],
    chain: u32,
    position: u32,
}

/// Routers between two hubs, or between a hub and nowhere.
#[derive(Clone, Debug)]
struct Chain {
    /// For each router whether it lets others through.
    passes: Vec<bool>,
    /// For each router the cost of the link before it; `None` = nothing gets over it.
    costs: Vec<Option<u32>>,
}

impl Place {
    const UNSET: Place = Place { ends: [(NONE, UNREACHABLE); 2], chain: NONE, position: 0 };

    fn is_hub(&self) -> bool {
        self.chain == NONE
    }

    /// The ends that can be reached.
    fn reached(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ends.into_iter().filter(|(_, distance)| *distance != UNREACHABLE)
    }
}

impl Skeleton {
    /// Finds hubs and chains. O(routers + links).
    pub(super) fn new(topology: &Topology, carries: &[bool], transits: &[bool]) -> Skeleton {
        let mut tracer = Tracer::new(topology, carries, transits);
        for router_index in 0..topology.routers.len() {
            if topology.routers[router_index].links.len() > 2 {
                tracer.is_hub[router_index] = true;
            }
        }
        let parting: Vec<usize> =
            (0..topology.routers.len()).filter(|router| tracer.is_hub[*router]).collect();
        parting.iter().for_each(|router| tracer.hub(*router));
        parting.iter().for_each(|router| tracer.trace(*router));
        // Rings and lines without any such place: one of their routers serves as well.
        for router_index in 0..topology.routers.len() {
            let place = tracer.skeleton.places[router_index];
            if place.is_hub() && place.ends[0].0 == NONE {
                tracer.is_hub[router_index] = true;
                tracer.hub(router_index);
                tracer.trace(router_index);
            }
        }
        tracer.skeleton
    }

    /// How many hubs there are.
    pub(super) fn hubs(&self) -> usize {
        self.rows.len()
    }

    /// The distance between two routers, or `UNREACHABLE`.
    pub(super) fn distance(&self, from: usize, to: usize) -> u32 {
        if from == to {
            return 0;
        }
        let [near, far] = [self.places[from], self.places[to]];
        let mut best = UNREACHABLE;
        if near.chain == far.chain && !near.is_hub() {
            best = self.along(near, far);
        }
        // Whoever speaks or is spoken to need not let others through.
        let passes = |hub: u32, one: &Place, other: &Place| {
            let is_end = |place: &Place| place.is_hub() && place.ends[0].0 == hub;
            self.transits[hub as usize] || is_end(one) || is_end(other)
        };
        for (leave, before) in near.reached().filter(|(hub, _)| passes(*hub, &near, &far)) {
            let row = self.row(leave);
            for (enter, behind) in far.reached().filter(|(hub, _)| passes(*hub, &near, &far)) {
                let between = row[enter as usize];
                best = best.min(before.saturating_add(between).saturating_add(behind));
            }
        }
        best
    }

    /// The way between two routers of one chain that stays in it.
    fn along(&self, one: Place, other: Place) -> u32 {
        let chain = &self.chains[one.chain as usize];
        let [first, last] = if one.position < other.position { [one, other] } else { [other, one] };
        let [first, last] = [first.position as usize, last.position as usize];
        let mut cost = 0;
        for position in first + 1..=last {
            let stays = position == last || chain.passes[position];
            let Some(step) = chain.costs[position].filter(|_| stays) else { return UNREACHABLE };
            cost += step;
        }
        cost
    }

    fn row(&self, hub: u32) -> &[u32] {
        self.rows[hub as usize].get_or_init(|| {
            let mut row = vec![UNREACHABLE; self.hubs()];
            let mut heap = BinaryHeap::from([Reverse((0, hub))]);
            row[hub as usize] = 0;
            while let Some(Reverse((distance, here))) = heap.pop() {
                let ends_here = here != hub && !self.transits[here as usize];
                if distance > row[here as usize] || ends_here {
                    continue;
                }
                for (far, cost) in &self.ways[here as usize] {
                    let through = distance.saturating_add(*cost);
                    if through < row[*far as usize] {
                        row[*far as usize] = through;
                        heap.push(Reverse((through, *far)));
                    }
                }
            }
            row.into_boxed_slice()
        })
    }

    /// For each hub whether the distance to it, from any of these routers, or what goes through
    /// it, differs from what it is in `other`, a skeleton of the same topology.
    pub(super) fn moved_hubs(&self, other: &Skeleton, routers: &[usize]) -> Vec<bool> {
        let mut moved: Vec<bool> =
            self.transits.iter().zip(&other.transits).map(|(one, other)| one != other).collect();
        let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
        for router in routers {
            self.distances_to_hubs(*router, &mut ours);
            other.distances_to_hubs(*router, &mut theirs);
            for (moved, (one, other)) in moved.iter_mut().zip(ours.iter().zip(&theirs)) {
                *moved |= one != other;
            }
        }
        moved
    }

    fn distances_to_hubs(&self, router: usize, distances: &mut Vec<u32>) {
        distances.clear();
        distances.resize(self.hubs(), UNREACHABLE);
        let place = &self.places[router];
        for (hub, before) in place.reached() {
            // What ends at the hub need not be let through.
            distances[hub as usize] = distances[hub as usize].min(before);
            if place.is_hub() || self.transits[hub as usize] {
                for (distance, between) in distances.iter_mut().zip(self.row(hub)) {
                    *distance = (*distance).min(before.saturating_add(*between));
                }
            }
        }
    }

    /// Whether a router's distances to the ends of its chain differ from those in `other`.
    pub(super) fn differs_at(&self, other: &Skeleton, router: usize) -> bool {
        self.places[router] != other.places[router]
    }

    /// The chain that a router stands in.
    pub(super) fn chain(&self, router: usize) -> Option<u32> {
        let place = &self.places[router];
        (!place.is_hub()).then_some(place.chain)
    }

    /// The hubs at the ends of a router's chain, or the router itself.
    pub(super) fn ends(&self, router: usize) -> impl Iterator<Item = usize> {
        let ends = self.places[router].ends.into_iter();
        ends.filter(|(hub, _)| *hub != NONE).map(|(hub, _)| hub as usize)
    }
}

/// Builds a skeleton.
struct Tracer<'a> {
    topology: &'a Topology,
    carries: &'a [bool],
    transits: &'a [bool],
    is_hub: Vec<bool>,
    traced: Vec<bool>,
    skeleton: Skeleton,
}

impl<'a> Tracer<'a> {
    fn new(topology: &'a Topology, carries: &'a [bool], transits: &'a [bool]) -> Tracer<'a> {
        let skeleton = Skeleton {
            places: vec![Place::UNSET; topology.routers.len()],
            chains: Vec::new(),
            transits: Vec::new(),
            ways: Vec::new(),
            rows: Vec::new(),
        };
        let is_hub = vec![false; topology.routers.len()];
        let traced = vec![false; topology.links.len()];
        Tracer { topology, carries, transits, is_hub, traced, skeleton }
    }

    fn hub(&mut self, router_index: usize) {
        let hub = number(self.skeleton.hubs());
        self.skeleton.places[router_index].ends[0] = (hub, 0);
        self.skeleton.transits.push(self.transits[router_index]);
        self.skeleton.ways.push(Vec::new());
        self.skeleton.rows.push(OnceLock::new());
    }

    /// Follows every link of a hub to the next hub, or to where it ends.
    fn trace(&mut self, router_index: usize) {
        let hub = self.skeleton.places[router_index].ends[0].0;
        for first in &self.topology.routers[router_index].links {
            if std::mem::replace(&mut self.traced[*first], true) {
                continue;
            }
            let (mut routers, mut links) = (Vec::new(), vec![*first]);
            let mut link = *first;
            let mut here = self.topology.links[link].far_end(router_index).0;
            let end = loop {
                if self.is_hub[here] {
                    break Some(self.skeleton.places[here].ends[0].0);
                }
                routers.push(here);
                let next = self.topology.routers[here].links.iter().find(|next| **next != link);
                let Some(next) = next else { break None };
                link = *next;
                self.traced[link] = true;
                links.push(link);
                here = self.topology.links[link].far_end(here).0;
            };
            self.chain(hub, &routers, &links, end);
        }
    }

    /// `links`: one before each router, and one behind the last if there is a hub.
    fn chain(&mut self, start: u32, routers: &[usize], links: &[usize], end: Option<u32>) {
        let cost = |link: usize| self.carries[link].then_some(self.topology.links[link].cost);
        let costs: Vec<Option<u32>> = links.iter().map(|link| cost(*link)).collect();
        let chain = number(self.skeleton.chains.len());
        for (position, router) in routers.iter().enumerate() {
            let place = &mut self.skeleton.places[*router];
            (place.chain, place.position) = (chain, number(position));
            place.ends = [(start, UNREACHABLE), (end.unwrap_or(NONE), UNREACHABLE)];
        }
        let count = routers.len();
        let passes = |router: usize| self.transits[router];
        let mut from_start = Some(0);
        for position in 0..count {
            from_start = from_start.zip(costs[position]).map(|(before, cost)| before + cost);
            let Some(distance) = from_start else { break };
            self.skeleton.places[routers[position]].ends[0].1 = distance;
            from_start = passes(routers[position]).then_some(distance);
        }
        if let Some(end) = end {
            let through = from_start.zip(costs[count]).map(|(before, cost)| before + cost);
            if let Some(cost) = through {
                self.skeleton.ways[start as usize].push((end, cost));
                self.skeleton.ways[end as usize].push((start, cost));
            }
            let mut from_end = Some(0);
            for position in (0..count).rev() {
                from_end = from_end.zip(costs[position + 1]).map(|(before, cost)| before + cost);
                let Some(distance) = from_end else { break };
                self.skeleton.places[routers[position]].ends[1].1 = distance;
                from_end = passes(routers[position]).then_some(distance);
            }
        }
        let passes = routers.iter().map(|router| passes(*router)).collect();
        self.skeleton.chains.push(Chain { passes, costs });
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("ROUTERS_MAX is far below 2^32")
}
