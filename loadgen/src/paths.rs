//! Shortest paths to every provider edge, with every equal-cost next hop.
//!
//! In:   a topology, and what of it is down.
//! Out:  `Paths`: distances, next hops, whole paths; all towards a FEC = a provider edge.
//! Law:  a next hop is on a shortest path; each shortest path is found.
//! Not:  which labels the next hops gave (`network`).

mod skeleton;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::state::Down;
use crate::topology::Topology;
use skeleton::Skeleton;

/// Distance of a router that is cut off.
pub const UNREACHABLE: u32 = u32::MAX;
/// Most pairs of router and FEC by which links and failures are weighed.
const PAIRS_WEIGHED_MAX: usize = 1 << 20;

/// Distances from every router to every provider edge, each found when it is asked for.
#[derive(Clone, Debug)]
pub struct Paths {
    /// For each link whether packets can go over it.
    carries: Vec<bool>,
    /// For each router whether packets for others may go through it.
    transits: Vec<bool>,
    /// For each FEC its provider edge, and whether it works.
    edges: Vec<(usize, bool)>,
    skeleton: Skeleton,
}

impl PartialEq for Paths {
    /// Everything else follows from these.
    fn eq(&self, other: &Paths) -> bool {
        let values = |paths: &Paths| (paths.carries.clone(), paths.transits.clone());
        values(self) == values(other) && self.edges == other.edges
    }
}

impl Eq for Paths {}

impl Paths {
    /// Finds what distances are taken from. O(routers + links): nothing is searched yet.
    pub fn compute(topology: &Topology, down: &Down) -> Paths {
        let routers = topology.routers.len();
        let carries: Vec<bool> =
            (0..topology.links.len()).map(|link| down.carries(topology, link)).collect();
        let transits: Vec<bool> =
            (0..routers).map(|router| !down.drained.contains(&router)).collect();
        let works = |edge: &usize| (*edge, !down.routers.contains(edge));
        let edges = topology.edges.iter().map(works).collect();
        let skeleton = Skeleton::new(topology, &carries, &transits);
        Paths { carries, transits, edges, skeleton }
    }

    /// For each router whether packets for others may go through it.
    pub fn transits(&self) -> &[bool] {
        &self.transits
    }

    /// Whether packets can go over the link.
    pub fn carries(&self, link_index: usize) -> bool {
        self.carries[link_index]
    }

    /// Distance from a router to the edge of this FEC, or `UNREACHABLE`.
    pub fn distance(&self, fec_index: usize, router_index: usize) -> u32 {
        let (edge, works) = self.edges[fec_index];
        // Distances are the same both ways: what is searched from stays in the cache if it is few.
        match works {
            true if self.edges.len() < self.skeleton.hubs() => {
                self.skeleton.distance(edge, router_index)
            }
            true => self.skeleton.distance(router_index, edge),
            false => UNREACHABLE,
        }
    }

    /// Distance from one router to another, both of which work, or `UNREACHABLE`.
    pub fn between(&self, router_index: usize, other: usize) -> u32 {
        self.skeleton.distance(router_index, other)
    }

    /// Links that lead from the router to the FEC's edge on a shortest path, ascending.
    /// Empty at the edge itself and where it cannot be reached.
    pub fn next_links<'a>(
        &'a self,
        topology: &'a Topology,
        fec_index: usize,
        router_index: usize,
    ) -> impl Iterator<Item = usize> + 'a {
        let here = self.distance(fec_index, router_index);
        let usable = here != 0 && here != UNREACHABLE;
        let links = topology.routers[router_index].links.iter().copied();
        links.filter(move |link_index| {
            let link = &topology.links[*link_index];
            let (far, _) = link.far_end(router_index);
            let there = self.distance(fec_index, far);
            usable
                && self.carries[*link_index]
                && there.checked_add(link.cost) == Some(here)
                && (self.transits[far] || there == 0)
        })
    }

    /// How many routers send how many FECs over each link, each by its first shortest path; of
    /// many FECs a part stands for all.
    pub fn loads(&self, topology: &Topology) -> Vec<u64> {
        let routers = self.transits.len();
        let mut loads = vec![0; topology.links.len()];
        let mut distances = vec![0; routers];
        let mut farthest_first: Vec<usize> = (0..routers).collect();
        for fec_index in self.fecs_weighed() {
            for (router_index, distance) in distances.iter_mut().enumerate() {
                *distance = self.distance(fec_index, router_index);
            }
            farthest_first.sort_unstable_by_key(|router| Reverse(distances[*router]));
            let mut carried = vec![1_u64; routers];
            for router_index in &farthest_first {
                let first = self.next_links(topology, fec_index, *router_index).next();
                if let Some(link) = first {
                    let (far, _) = topology.links[link].far_end(*router_index);
                    loads[link] += carried[*router_index];
                    carried[far] += carried[*router_index];
                }
            }
        }
        loads
    }

    /// The FECs by which links and failures are weighed: all, or evenly chosen ones of many.
    pub fn fecs_weighed(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, routers) = (self.edges.len(), self.transits.len());
        let most = (PAIRS_WEIGHED_MAX / routers.max(1)).max(1);
        (0..count).step_by(count.div_ceil(most).max(1))
    }

    /// What may differ, at one router, between these paths and others over the same topology.
    pub fn moved<'a>(
        &'a self,
        after: &'a Paths,
        topology: &Topology,
        router_index: usize,
    ) -> Moved<'a> {
        let links = &topology.routers[router_index].links;
        let far = |link: &usize| topology.links[*link].far_end(router_index).0;
        let changed = |link: &usize| {
            self.carries[*link] != after.carries[*link]
                || self.transits[far(link)] != after.transits[far(link)]
        };
        let paths = [self, after];
        // Few FECs are looked at faster than the hubs.
        if links.iter().any(changed) || self.edges.len() < self.skeleton.hubs() {
            return Moved { paths, hubs: None, chains: Vec::new() };
        }
        let mut seen: Vec<usize> = links.iter().map(far).collect();
        seen.push(router_index);
        let hubs = Some(self.skeleton.moved_hubs(&after.skeleton, &seen));
        let chains = seen.iter().filter_map(|router| self.skeleton.chain(*router)).collect();
        Moved { paths, hubs, chains }
    }
}

/// Which FECs a router's next hops may differ for: quick, and never wrong about one that does.
pub struct Moved<'a> {
    paths: [&'a Paths; 2],
    /// For each hub whether anything about the way there differs; `None` = nothing is known.
    hubs: Option<Vec<bool>>,
    /// Chains in which the router and its neighbours stand: ways may stay within them.
    chains: Vec<u32>,
}

impl Moved<'_> {
    /// Whether next hops may differ for this FEC.
    pub fn may_differ(&self, fec_index: usize) -> bool {
        let Some(hubs) = &self.hubs else { return true };
        let [before, after] = self.paths;
        let edge = before.edges[fec_index].0;
        let skeleton = &before.skeleton;
        before.edges[fec_index] != after.edges[fec_index]
            || skeleton.differs_at(&after.skeleton, edge)
            || skeleton.chain(edge).is_some_and(|chain| self.chains.contains(&chain))
            || skeleton.ends(edge).any(|hub| hubs[hub])
    }
}

/// Distances of all routers to one, over usable links and through routers that let others through.
pub fn distances_to(
    topology: &Topology,
    target: usize,
    usable: impl Fn(usize) -> bool,
    transits: &[bool],
    heap: &mut BinaryHeap<Reverse<(u32, usize)>>,
) -> Vec<u32> {
    let mut distances = vec![UNREACHABLE; topology.routers.len()];
    distances[target] = 0;
    heap.push(Reverse((0, target)));
    while let Some(Reverse((distance, router_index))) = heap.pop() {
        if distance > distances[router_index] || !(transits[router_index] || distance == 0) {
            continue;
        }
        for link_index in &topology.routers[router_index].links {
            let link = &topology.links[*link_index];
            let (far, _) = link.far_end(router_index);
            let through = distance + link.cost;
            if usable(*link_index) && through < distances[far] {
                distances[far] = through;
                heap.push(Reverse((through, far)));
            }
        }
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{ROUTERS_MIN, Shape};

    /// Bellman-Ford over every link until nothing moves: slow, and plainly right.
    fn distances_by_relaxation(topology: &Topology, edge: usize, down: &Down) -> Vec<u32> {
        let mut distances = vec![UNREACHABLE; topology.routers.len()];
        distances[edge] = 0;
        loop {
            let before = distances.clone();
            for (index, link) in topology.links.iter().enumerate() {
                if !down.carries(topology, index) {
                    continue;
                }
                for [near, far] in [link.ends, [link.ends[1], link.ends[0]]] {
                    if far != edge && down.drained.contains(&far) {
                        continue;
                    }
                    let through = distances[far].saturating_add(link.cost);
                    distances[near] = distances[near].min(through);
                }
            }
            if distances == before {
                return distances;
            }
        }
    }

    #[test]
    fn distances_equal_those_of_brute_force_with_and_without_each_trunk() {
        let shape = Shape { routers: 60, edges: 7, seed: 11 };
        let topology = Topology::generate(&shape).unwrap();
        let trunks = (0..topology.links.len()).filter(|index| topology.links[*index].trunk);
        let routers = |routers: &[usize]| routers.iter().copied().collect();
        let gone = Down { routers: routers(&[1, topology.edges[2]]), ..Down::default() };
        let drained = Down { drained: routers(&[0, 7, topology.edges[3]]), ..Down::link(2) };
        let cases = [Down::default(), gone, drained];
        for down in cases.into_iter().chain(trunks.map(Down::link)) {
            let paths = Paths::compute(&topology, &down);
            for (fec_index, edge) in topology.edges.iter().enumerate() {
                let mut expected = distances_by_relaxation(&topology, *edge, &down);
                if down.routers.contains(edge) {
                    expected[*edge] = UNREACHABLE;
                }
                let found: Vec<u32> = (0..60).map(|r| paths.distance(fec_index, r)).collect();
                assert_eq!(found, expected, "edge {edge}, down {down:?}");
            }
        }
    }

    /// Rings and lines of a map without any place where ways part, islands, parallel lines, loops.
    const ODD: &str = "graph [
        node [ id 0 ] node [ id 1 ] node [ id 2 ] node [ id 3 ] node [ id 4 ] node [ id 5 ]
        node [ id 6 ] node [ id 7 ] node [ id 8 ] node [ id 9 ] node [ id 10 ] node [ id 11 ]
        edge [ source 0 target 1 ] edge [ source 1 target 2 ] edge [ source 2 target 0 ]
        edge [ source 3 target 4 ] edge [ source 4 target 5 ]
        edge [ source 6 target 7 ] edge [ source 6 target 7 ] edge [ source 7 target 8 ]
        edge [ source 8 target 9 ] edge [ source 9 target 10 ] edge [ source 10 target 7 ]
        edge [ source 9 target 11 ]
    ]";

    /// The map with every place a provider edge, and nothing behind it: chains stay chains.
    fn odd() -> Topology {
        let map = crate::map::Map::parse(ODD).unwrap();
        let mut topology = Topology::over(&map, 1).unwrap();
        topology.edges = (0..12).collect();
        topology.routers.truncate(12);
        topology.links.truncate(12);
        topology.routers.iter_mut().for_each(|router| router.links.retain(|link| *link < 12));
        topology
    }

    #[test]
    fn chains_rings_and_islands_have_the_distances_of_brute_force() {
        let topology = odd();
        let mut cases = vec![Down::default()];
        cases.extend((0..12).map(Down::link));
        for router in 0..12 {
            let drained = [router, (router + 5) % 12].into();
            cases.push(Down { drained, ..Down::default() });
            cases.push(Down { routers: [router].into(), drained: [9].into(), ..Down::link(3) });
        }
        for down in cases {
            let paths = Paths::compute(&topology, &down);
            for edge in 0..12 {
                let mut expected = distances_by_relaxation(&topology, edge, &down);
                if down.routers.contains(&edge) {
                    expected[edge] = UNREACHABLE;
                }
                let found: Vec<u32> = (0..12).map(|r| paths.distance(edge, r)).collect();
                assert_eq!(found, expected, "edge {edge}, down {down:?}");
            }
        }
    }

    #[test]
    fn next_hops_that_differ_are_never_missed_and_most_others_are_left_out() {
        // More edges than hubs: the generated shape has hundreds of routers in rings.
        let generated = Topology::generate(&Shape { routers: 300, edges: 200, seed: 9 }).unwrap();
        let topologies = vec![odd(), generated];

        let (mut same, mut left_out) = (0, 0);
        for topology in &topologies {
            let first = Paths::compute(topology, &Down::default());
            let cases = [1, 3, 8, 11].map(Down::link).into_iter();
            let drained = [0, 7, 9].map(|it| Down { drained: [it].into(), ..Down::default() });
            let gone = [2, 7].map(|it| Down { routers: [it].into(), ..Down::default() });
            for down in cases.chain(drained).chain(gone) {
                let after = Paths::compute(topology, &down);
                for router in 0..topology.routers.len() {
                    let moved = first.moved(&after, topology, router);
                    for fec in 0..topology.edges.len() {
                        let old = first.next_links(topology, fec, router);
                        let equal = old.eq(after.next_links(topology, fec, router));
                        assert!(equal || moved.may_differ(fec), "{router} to {fec}, {down:?}");
                        same += usize::from(equal);
                        left_out += usize::from(equal && !moved.may_differ(fec));
                    }
                }
            }
        }
        assert!(left_out * 2 > same, "{left_out} of {same}");
    }

    #[test]
    fn every_next_hop_is_nearer_and_some_routers_have_two() {
        let shape = Shape { routers: 300, edges: 20, seed: 5 };
        let topology = Topology::generate(&shape).unwrap();
        let paths = Paths::compute(&topology, &Down::default());
        let mut with_two = 0;
        for fec_index in 0..20 {
            for router_index in 0..300 {
                let links: Vec<usize> =
                    paths.next_links(&topology, fec_index, router_index).collect();
                let at_edge = topology.edges[fec_index] == router_index;
                assert_eq!(links.is_empty(), at_edge);
                with_two += usize::from(links.len() > 1);
                for link_index in links {
                    let (far, _) = topology.links[link_index].far_end(router_index);
                    let here = paths.distance(fec_index, router_index);
                    assert!(paths.distance(fec_index, far) < here);
                }
            }
        }
        assert!(with_two > 0);
    }

    #[test]
    fn a_link_carries_whoever_goes_over_it() {
        let shape = Shape { routers: 80, edges: 6, seed: 2 };
        let topology = Topology::generate(&shape).unwrap();
        let paths = Paths::compute(&topology, &Down::default());
        let mut expected = vec![0; topology.links.len()];
        for fec_index in 0..6 {
            for start in 0..80 {
                let mut here = start;
                while let Some(link) = paths.next_links(&topology, fec_index, here).next() {
                    expected[link] += 1;
                    here = topology.links[link].far_end(here).0;
                }
            }
        }
        assert_eq!(paths.loads(&topology), expected);
    }

    #[test]
    fn a_router_that_is_cut_off_has_no_next_hop() {
        let shape = Shape { routers: ROUTERS_MIN, edges: 2, seed: 1 };
        let mut topology = Topology::generate(&shape).unwrap();
        let lonely = topology.edges[1];
        let lost = topology.routers[lonely].links.pop().unwrap();
        let (neighbour, _) = topology.links[lost].far_end(lonely);
        topology.routers[neighbour].links.retain(|link| *link != lost);
        let only = topology.routers[lonely].links[0];
        let paths = Paths::compute(&topology, &Down::link(only));
        assert_eq!(paths.distance(0, lonely), UNREACHABLE);
        assert_eq!(paths.next_links(&topology, 0, lonely).count(), 0);
        assert_eq!(paths.distance(1, topology.edges[0]), UNREACHABLE);
    }
}
