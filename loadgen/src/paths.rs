//! Shortest paths to every provider edge, with every equal-cost next hop.
//!
//! In:   a topology, and what of it is down.
//! Out:  `Paths`: distances, next hops, whole paths; all towards a FEC = a provider edge.
//! Law:  a next hop is on a shortest path; each shortest path is found.
//! Not:  which labels the next hops gave (`network`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::state::Down;
use crate::topology::Topology;

/// Distance of a router that is cut off.
pub const UNREACHABLE: u32 = u32::MAX;

/// Distances from every router to every provider edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// For each link whether packets can go over it.
    carries: Vec<bool>,
    /// For each router whether packets for others may go through it.
    transits: Vec<bool>,
    routers: usize,
    /// For edge `e` and router `r`: `e * routers + r`.
    distances: Vec<u32>,
}

impl Paths {
    /// Runs one Dijkstra per provider edge. O(edges * links * log routers).
    pub fn compute(topology: &Topology, down: &Down) -> Paths {
        let routers = topology.routers.len();
        let carries = (0..topology.links.len()).map(|link| down.carries(topology, link)).collect();
        let transits = (0..routers).map(|router| !down.drained.contains(&router)).collect();
        let distances = Vec::with_capacity(topology.edges.len() * routers);
        let mut paths = Paths { carries, transits, routers, distances };
        let mut heap = BinaryHeap::new();
        for edge in &topology.edges {
            let usable = |link: usize| paths.carries[link];
            let mut distances = distances_to(topology, *edge, usable, &paths.transits, &mut heap);
            if down.routers.contains(edge) {
                distances[*edge] = UNREACHABLE;
            }
            paths.distances.append(&mut distances);
        }
        paths
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
        self.distances[fec_index * self.routers + router_index]
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

    /// How many routers send how many FECs over each link, each by its first shortest path.
    pub fn loads(&self, topology: &Topology) -> Vec<u64> {
        let mut loads = vec![0; topology.links.len()];
        let mut farthest_first: Vec<usize> = (0..self.routers).collect();
        for fec_index in 0..topology.edges.len() {
            farthest_first.sort_unstable_by_key(|r| Reverse(self.distance(fec_index, *r)));
            let mut carried = vec![1_u64; self.routers];
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
