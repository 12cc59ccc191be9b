//! The network as a graph: routers, links, costs, addresses; generated from a seed.
//!
//! In:   how many routers and provider edges, and a seed.
//! Out:  `Topology`: a two-plane core of regions, metro aggregation, access rings.
//! Law:  the same shape and seed give the same topology; it is connected.
//! Not:  which way packets go (`paths`), which labels they carry (`network`).

mod interfaces;
mod mapped;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::mapping::RouterId;

/// Fewest routers that the generated shape needs: three regions of a core pair, a metro pair and
/// an access ring of four.
pub const ROUTERS_MIN: usize = 24;
/// Most routers: their ids fill 172.16.0.0/12.
pub const ROUTERS_MAX: usize = 1 << 20;

/// fd53:7264::/32, of the range that anybody may use within a network (RFC 4193).
const IPV6_PREFIX: u128 = 0xfd53_7264 << 96;

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Routers in all, `ROUTERS_MIN ..= ROUTERS_MAX`.
    pub routers: usize,
    /// Provider edges among them: each one's loopback is a FEC. At least 2.
    pub edges: usize,
    /// Same seed, same network.
    pub seed: u64,
}

/// A shape that cannot be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: expected {expected}, found {found}")]
pub struct ShapeError {
    /// Which number.
    pub name: &'static str,
    /// What it may be.
    pub expected: String,
    /// What it was.
    pub found: usize,
}

/// Where a router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of the two core routers of a region: plane 0 or 1.
    Core {
        /// Which of the two parallel core rings.
        plane: u8,
    },
    /// One of the two routers of a metro, tied to the core router of its plane.
    Aggregation {
        /// Which of the two.
        plane: u8,
    },
    /// A router of an access ring between the two routers of a metro.
    Access,
}

/// One router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// Its id: the loopback, 172.16.0.1 and up.
    pub id: RouterId,
    /// What it is called, where it stands on a map.
    pub name: Option<String>,
    /// Where it stands.
    pub role: Role,
    /// Which region it belongs to.
    pub region: usize,
    /// Indices of its links, ascending.
    pub links: Vec<usize>,
}

/// One link, with the same cost both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Indices of the two routers.
    pub ends: [usize; 2],
    /// Interface addresses, in the order of the ends: a /31 of 10.0.0.0/8, or a /127. `None` = the
    /// link is unnumbered.
    pub addresses: Option<[IpAddr; 2]>,
    /// IGP metric.
    pub cost: u32,
    /// Whether it joins two regions.
    pub trunk: bool,
}

impl Link {
    /// Index of the router at the other end, and its interface address, if the link is numbered.
    pub fn far_end(&self, router_index: usize) -> (usize, Option<IpAddr>) {
        let far = usize::from(self.ends[0] == router_index);
        (self.ends[far], self.addresses.map(|addresses| addresses[far]))
    }

    /// The interface address at this end, if the link is numbered.
    pub fn near_address(&self, router_index: usize) -> Option<IpAddr> {
        let near = usize::from(self.ends[0] != router_index);
        self.addresses.map(|addresses| addresses[near])
    }
}

/// Routers and links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Every router; the index is its name inside the model.
    pub routers: Vec<Router>,
    /// Every link; the index is its name inside the model.
    pub links: Vec<Link>,
    /// Indices of the provider edges, ascending.
    pub edges: Vec<usize>,
}

impl Topology {
    /// The router's id, behind its name if it has one.
    pub fn name(&self, router_index: usize) -> String {
        let Router { id, name, .. } = &self.routers[router_index];
        name.as_ref().map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    /// Generates the network of this shape. Errors: `ShapeError` names the number that cannot be.
    pub fn generate(shape: &Shape) -> Result<Topology, ShapeError> {
        shape.check()?;
        let mut builder = Builder::new(shape.seed);
        builder.core(shape);
        let metros = builder.metros(shape);
        let access = builder.access_rings(shape, &metros);
        Ok(builder.edges(shape, access))
    }

    /// The same network with addresses of IPv6: ids fd53:7264:1::1 and up, links /127s (RFC 6164)
    /// of fd53:7264:2::/64.
    pub fn with_ipv6(mut self) -> Topology {
        let address = |subnet: u128, number: usize| {
            IpAddr::V6(Ipv6Addr::from(IPV6_PREFIX | subnet << 80 | number as u128))
        };
        for (index, router) in self.routers.iter_mut().enumerate() {
            router.id = RouterId(address(1, index + 1));
        }
        for (index, link) in self.links.iter_mut().enumerate() {
            let pair = [2 * index, 2 * index + 1];
            link.addresses = Some(pair.map(|number| address(2, number)));
        }
        self
    }

    /// Hops from `start` to every router over the usable links; `None` = cut off.
    pub fn hops_from(&self, start: usize, usable: impl Fn(usize) -> bool) -> Vec<Option<u32>> {
        let mut hops = vec![None; self.routers.len()];
        let mut queue = std::collections::VecDeque::from([(start, 0)]);
        hops[start] = Some(0);
        while let Some((router_index, count)) = queue.pop_front() {
            for link_index in &self.routers[router_index].links {
                let (far, _) = self.links[*link_index].far_end(router_index);
                if usable(*link_index) && hops[far].is_none() {
                    hops[far] = Some(count + 1);
                    queue.push_back((far, count + 1));
                }
            }
        }
        hops
    }
}

impl Shape {
    fn check(&self) -> Result<(), ShapeError> {
        if !(ROUTERS_MIN..=ROUTERS_MAX).contains(&self.routers) {
            let expected = format!("{ROUTERS_MIN} to {ROUTERS_MAX}");
            return Err(ShapeError { name: "routers", expected, found: self.routers });
        }
        let access = self.routers - self.regions() * (2 + 2 * self.metros_per_region());
        if !(2..=access).contains(&self.edges) {
            let expected = format!("2 to {access} (the routers of the access rings)");
            return Err(ShapeError { name: "provider edges", expected, found: self.edges });
        }
        Ok(())
    }

    /// Three regions at least, so that the core is a ring; six at most, one per 100 routers.
    fn regions(&self) -> usize {
        (self.routers / 100).clamp(3, 6)
    }

    /// A metro serves some 80 routers: eight access rings.
    fn metros_per_region(&self) -> usize {
        (self.routers / self.regions() / 80).max(1)
    }
}

// Metrics. A region's two planes are joined by a costly crossing, and an access ring costs less
// from end to end than the detour over it: when a trunk of the cheap plane 0 fails, whole rings
// turn to their other end, which is what makes a network speak at once.
const TRUNK_COSTS: [u32; 2] = [100, 130];
const TRUNK_JITTER: u32 = 4;
const CROSSING_COST: u32 = 60;
const UPLINK_COST: u32 = 20;
/// Parallel links between an aggregation router and its core router: equal-cost branches.
const UPLINKS: usize = 2;
const METRO_CROSSING_COST: u32 = 30;
const ACCESS_COST_MAX: u32 = 3;
/// Routers of one access ring.
const RING_ROUTERS: usize = 9;

struct Builder {
    chance: ChaCha8Rng,
    routers: Vec<Router>,
    links: Vec<Link>,
}

impl Builder {
    fn new(seed: u64) -> Builder {
        let chance = ChaCha8Rng::seed_from_u64(seed);
        Builder { chance, routers: Vec::new(), links: Vec::new() }
    }

    fn router(&mut self, role: Role, region: usize) -> usize {
        let index = self.routers.len();
        let number = u32::try_from(index).expect("ROUTERS_MAX is far below 2^32") + 1;
        let id = RouterId(Ipv4Addr::from(0xac10_0000 + number).into());
        self.routers.push(Router { id, name: None, role, region, links: Vec::new() });
        index
    }

    fn link(&mut self, ends: [usize; 2], cost: u32, trunk: bool) {
        let index = self.links.len();
        let number = u32::try_from(index).expect("a router has few links: far below 2^23");
        let first = 0x0a00_0000 + 2 * number;
        let addresses = Some([first, first + 1].map(|number| Ipv4Addr::from(number).into()));
        self.links.push(Link { ends, addresses, cost, trunk });
        ends.iter().for_each(|end| self.routers[*end].links.push(index));
    }

    /// Two rings of regions, joined in each region. Core routers come first: 2 * region + plane.
    fn core(&mut self, shape: &Shape) {
        let regions = shape.regions();
        for region in 0..regions {
            let pair = [0, 1].map(|plane| self.router(Role::Core { plane }, region));
            self.link(pair, CROSSING_COST, false);
        }
        for region in 0..regions {
            for (plane, cost) in TRUNK_COSTS.into_iter().enumerate() {
                let ends = [2 * region + plane, 2 * ((region + 1) % regions) + plane];
                let jitter = self.chance.random_range(0..TRUNK_JITTER);
                self.link(ends, cost + jitter, true);
            }
        }
    }

    /// The aggregation pairs, as (region, [router of plane 0, router of plane 1]).
    fn metros(&mut self, shape: &Shape) -> Vec<(usize, [usize; 2])> {
        let mut metros = Vec::new();
        for region in 0..shape.regions() {
            for _ in 0..shape.metros_per_region() {
                let pair = [0, 1].map(|plane| self.router(Role::Aggregation { plane }, region));
                self.link(pair, METRO_CROSSING_COST, false);
                for (plane, router_index) in pair.into_iter().enumerate() {
                    for _ in 0..UPLINKS {
                        self.link([2 * region + plane, router_index], UPLINK_COST, false);
                    }
                }
                metros.push((region, pair));
            }
        }
        metros
    }

    /// Every router that is left stands in an access ring. Returns their indices.
    fn access_rings(&mut self, shape: &Shape, metros: &[(usize, [usize; 2])]) -> Vec<usize> {
        let first = self.routers.len();
        let mut left = shape.routers - first;
        for (region, [start, end]) in metros.iter().cycle() {
            let mut before = *start;
            for _ in 0..left.min(RING_ROUTERS) {
                let router_index = self.router(Role::Access, *region);
                let cost = self.chance.random_range(1..=ACCESS_COST_MAX);
                self.link([before, router_index], cost, false);
                before = router_index;
            }
            let cost = self.chance.random_range(1..=ACCESS_COST_MAX);
            self.link([before, *end], cost, false);
            left -= left.min(RING_ROUTERS);
            if left == 0 {
                break;
            }
        }
        (first..self.routers.len()).collect()
    }

    fn edges(mut self, shape: &Shape, mut access: Vec<usize>) -> Topology {
        access.shuffle(&mut self.chance);
        access.truncate(shape.edges);
        access.sort_unstable();
        Topology { routers: self.routers, links: self.links, edges: access }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_connected_and_depends_on_its_seed_alone() {
        for routers in [ROUTERS_MIN, 57, 200, 777] {
            let shape = Shape { routers, edges: 5, seed: 3 };
            let topology = Topology::generate(&shape).unwrap();
            assert_eq!(topology.routers.len(), routers);
            assert_eq!(topology.edges.len(), 5);
            assert!(topology.hops_from(0, |_| true).iter().all(Option::is_some), "{routers}");
            assert_eq!(Topology::generate(&shape).unwrap(), topology);
            let other = Topology::generate(&Shape { seed: 4, ..shape }).unwrap();
            assert_ne!(other, topology);
        }
    }

    #[test]
    fn every_address_belongs_to_one_router() {
        let topology = Topology::generate(&Shape { routers: 500, edges: 9, seed: 1 }).unwrap();
        each_address_once(&topology);
        let topology = topology.with_ipv6();
        each_address_once(&topology);
        assert_eq!(topology.routers[9].id.to_string(), "fd53:7264:1::a");
        assert_eq!(topology.links[8].addresses.unwrap()[1].to_string(), "fd53:7264:2::11");
    }

    fn each_address_once(topology: &Topology) {
        let mut addresses: Vec<IpAddr> = topology.routers.iter().map(|r| r.id.0).collect();
        for router_index in 0..500 {
            addresses.extend(topology.interface_addresses(router_index));
        }
        let count = addresses.len();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), count);
        assert_eq!(count, 500 + 2 * topology.links.len());
    }

    #[test]
    fn a_shape_that_cannot_be_is_refused_by_name() {
        let few = Topology::generate(&Shape { routers: 23, edges: 2, seed: 1 }).unwrap_err();
        assert_eq!(few.name, "routers");
        let many = Topology::generate(&Shape { routers: 100, edges: 99, seed: 1 }).unwrap_err();
        assert_eq!(many.name, "provider edges");
    }
}
