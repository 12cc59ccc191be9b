//! The labelled network: what every router's table holds, derived from topology and paths.
//!
//! In:   a `Topology`; which link is down comes in with `Paths`.
//! Out:  label mappings of any router, for any state of the links.
//! Law:  labels are unique within a router and never change: liberal retention keeps them all.
//! Not:  when a mapping becomes active (`scenario`), how it is sent (`workload`).

use std::net::IpAddr;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smallvec::smallvec;
use storage::mapping::{
    Branches, Fec, Ingress, Label, Mapping, NextHop, Nhlfe, Operation, Origin, RouteDistinguisher,
    TimeSource,
};
use storage::time::Micros;

use crate::model::Model;
use crate::paths::Paths;
use crate::topology::{ShapeError, Topology};

/// First label that LDP hands out; VPN labels are below.
const LDP_LABEL_MIN: u32 = 10_000;
/// First VPN label. Every PE begins close to it, so that PEs often choose alike, as real ones do.
const VPN_LABEL_MIN: u32 = 100;
/// PEs begin up to this many labels further on.
const VPN_LABEL_SPREAD: u32 = 8;
/// Sites of one VPN.
const VPN_SITES_MAX: usize = 12;
/// One VPN per this many provider edges.
const EDGES_PER_VPN: usize = 8;
/// Most VPNs: their labels end below those of LDP.
const VPNS_MAX: usize = 4_000;
/// Administrator part of the route distinguishers: a private AS number (RFC 6996).
const RD_ADMINISTRATOR: u16 = 65_000;

/// A layer-3 VPN (RFC 4364): a VRF at each of its sites, one label per VRF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpn {
    /// Its route distinguisher, the same at every site.
    pub rd: RouteDistinguisher,
    /// FEC indices of the provider edges that it is attached to, ascending.
    pub sites: Vec<usize>,
}

/// Topology, labels and services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The graph.
    pub topology: Topology,
    /// The VPNs.
    pub vpns: Vec<Vpn>,
    /// One per router.
    spaces: Vec<LabelSpace>,
    /// A prime that is at least the number of FECs.
    modulus: u32,
    /// For each router its FEC index, if it is a provider edge.
    edge_of: Vec<Option<usize>>,
}

/// A router gives FEC `f` the label `base + (f * stride + offset) mod modulus`.
///
/// With a prime modulus and a stride that is no multiple of it, no two FECs get the same label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LabelSpace {
    base: u32,
    stride: u32,
    offset: u32,
    vpn_base: u32,
}

impl Network {
    /// Labels the network of this model. Errors: `ShapeError` names the number that cannot be.
    pub fn generate(model: &Model) -> Result<Network, ShapeError> {
        let topology = model.topology()?;
        let fecs = u32::try_from(topology.edges.len()).unwrap_or(u32::MAX);
        let fecs_max = (Label::MAX - LDP_LABEL_MIN) / 2;
        if fecs > fecs_max {
            let (expected, found) = (format!("at most {fecs_max}"), topology.edges.len());
            return Err(ShapeError { name: "provider edges", expected, found });
        }
        // The topology has drawn from the same seed: another stream keeps the two independent.
        let mut chance = ChaCha8Rng::seed_from_u64(model.seed);
        chance.set_stream(1);
        let modulus = prime_from(fecs.max(2));
        let spaces = topology.routers.iter().map(|_| LabelSpace::draw(modulus, &mut chance));
        let spaces = spaces.collect();
        let vpns = draw_vpns(topology.edges.len(), &mut chance);
        let mut edge_of = vec![None; topology.routers.len()];
        for (fec_index, edge) in topology.edges.iter().enumerate() {
            edge_of[*edge] = Some(fec_index);
        }
        Ok(Network { topology, vpns, spaces, modulus, edge_of })
    }

    /// How many FECs there are: one per provider edge.
    pub fn fec_count(&self) -> usize {
        self.topology.edges.len()
    }

    /// The loopback of a FEC's provider edge.
    pub fn loopback(&self, fec_index: usize) -> IpAddr {
        self.topology.routers[self.topology.edges[fec_index]].id.0
    }

    /// The FEC of a provider edge's loopback.
    pub fn fec(&self, fec_index: usize) -> Fec {
        Fec::Ip { prefix: self.loopback(fec_index).into(), table: 0 }
    }

    /// The FEC of a VRF: what the other sites push the VRF's label for.
    pub fn vrf(&self, vpn_index: usize, fec_index: usize) -> Fec {
        let loopback = self.loopback(fec_index);
        Fec::Vrf { loopback, rd: self.vpns[vpn_index].rd, prefix: None }
    }

    /// The FEC index of a router that is a provider edge.
    pub fn fec_of_router(&self, router_index: usize) -> Option<usize> {
        self.edge_of[router_index]
    }

    /// The label that a router gives its neighbours for a FEC; implicit null at the edge itself.
    pub fn label(&self, router_index: usize, fec_index: usize) -> Label {
        if self.edge_of[router_index] == Some(fec_index) {
            return Label::IMPLICIT_NULL;
        }
        self.spaces[router_index].label(fec_index, self.modulus)
    }

    /// The label that a provider edge gives a VPN's other sites.
    pub fn vpn_label(&self, vpn_index: usize, fec_index: usize) -> Label {
        let base = self.spaces[self.topology.edges[fec_index]].vpn_base;
        let vpn = u32::try_from(vpn_index).expect("VPNS_MAX is far below 2^32");
        Label::new(base + vpn).expect("VPNS_MAX keeps VPN labels below those of LDP")
    }

    /// Branches of a router towards a FEC: one per equal-cost next hop, sorted.
    pub fn branches(&self, paths: &Paths, router_index: usize, fec_index: usize) -> Branches {
        let branch = |link_index: usize| {
            let link = &self.topology.links[link_index];
            let (far, address) = link.far_end(router_index);
            let stack = smallvec![self.label(far, fec_index)];
            Nhlfe { stack, next_hop: NextHop::Address(address.into()), weight: None }
        };
        let links = paths.next_links(&self.topology, fec_index, router_index);
        let mut branches: Branches = links.map(branch).collect();
        branches.sort_unstable();
        branches
    }

    /// Appends the router's entries that follow the IGP's path to the FEC: its FTN and ILM entry,
    /// and one service entry per VPN label of that edge. Withdrawn ones where it is cut off.
    pub fn routed_entries(
        &self,
        paths: &Paths,
        router_index: usize,
        fec_index: usize,
        event_time: Micros,
        entries: &mut Vec<Mapping>,
    ) {
        if self.edge_of[router_index] == Some(fec_index) {
            return;
        }
        let fec = self.fec(fec_index);
        let branches = self.branches(paths, router_index, fec_index);
        let mut add = |ingress: Ingress, operation: Operation| {
            let operation = if branches.is_empty() { Operation::None } else { operation };
            entries.push(mapping(fec, ingress, operation, branches.clone(), event_time));
        };
        add(Ingress::UNTAGGED, Operation::Push);
        add(Ingress::platform(self.label(router_index, fec_index)), Operation::Swap);
        for (vpn_index, _) in self.shared_vpns(router_index, fec_index) {
            let label = Some(self.vpn_label(vpn_index, fec_index));
            add(Ingress { label, origin: Origin::Service }, Operation::Push);
        }
    }

    /// Appends the router's entries that BGP gave: they stay as they are while the IGP reroutes,
    /// because the sessions between the edges outlive a few hundred milliseconds.
    pub fn service_entries(
        &self,
        router_index: usize,
        event_time: Micros,
        entries: &mut Vec<Mapping>,
    ) {
        let Some(own) = self.edge_of[router_index] else { return };
        for (vpn_index, vpn) in self.vpns.iter().enumerate() {
            if vpn.sites.binary_search(&own).is_err() {
                continue;
            }
            let ingress = Ingress::platform(self.vpn_label(vpn_index, own));
            let out: Branches =
                smallvec![Nhlfe { stack: smallvec![], next_hop: NextHop::Fec, weight: None }];
            let fec = self.vrf(vpn_index, own);
            entries.push(mapping(fec, ingress, Operation::Pop, out, event_time));
            for site in vpn.sites.iter().filter(|site| **site != own) {
                let stack = smallvec![self.vpn_label(vpn_index, *site)];
                let inner: Branches =
                    smallvec![Nhlfe { stack, next_hop: NextHop::Recursive, weight: None }];
                let fec = self.vrf(vpn_index, *site);
                entries.push(mapping(fec, Ingress::UNTAGGED, Operation::Push, inner, event_time));
            }
        }
    }

    /// The whole table of a router, every entry with the same event time; entries of FECs that
    /// are cut off are left out.
    pub fn table(&self, paths: &Paths, router_index: usize, event_time: Micros) -> Vec<Mapping> {
        let mut entries = Vec::new();
        for fec_index in 0..self.fec_count() {
            self.routed_entries(paths, router_index, fec_index, event_time, &mut entries);
        }
        entries.retain(|entry| entry.operation != Operation::None);
        self.service_entries(router_index, event_time, &mut entries);
        entries
    }

    /// VPNs that have a site at this router and another at that FEC's edge.
    pub fn shared_vpns(
        &self,
        router_index: usize,
        fec_index: usize,
    ) -> impl Iterator<Item = (usize, &Vpn)> {
        let own = self.edge_of[router_index].filter(|own| *own != fec_index);
        let has = |vpn: &Vpn, site: usize| vpn.sites.binary_search(&site).is_ok();
        let shared = move |vpn: &Vpn| own.is_some_and(|own| has(vpn, own) && has(vpn, fec_index));
        self.vpns.iter().enumerate().filter(move |(_, vpn)| shared(vpn))
    }
}

impl LabelSpace {
    fn draw(modulus: u32, chance: &mut ChaCha8Rng) -> LabelSpace {
        LabelSpace {
            base: chance.random_range(LDP_LABEL_MIN..=Label::MAX - modulus),
            stride: chance.random_range(1..modulus),
            offset: chance.random_range(0..modulus),
            vpn_base: VPN_LABEL_MIN + chance.random_range(0..VPN_LABEL_SPREAD),
        }
    }

    fn label(self, fec_index: usize, modulus: u32) -> Label {
        let fec = fec_index as u64;
        let place = (fec * u64::from(self.stride) + u64::from(self.offset)) % u64::from(modulus);
        let place = u32::try_from(place).expect("a remainder is below its modulus");
        Label::new(self.base + place).expect("base is drawn so that every place stays in 20 bits")
    }
}

fn mapping(
    fec: Fec,
    ingress: Ingress,
    operation: Operation,
    branches: Branches,
    event_time: Micros,
) -> Mapping {
    let time_source = TimeSource::Router;
    Mapping { fec, ingress, operation, branches, event_time, time_source, extra: None }
}

fn draw_vpns(edges: usize, chance: &mut ChaCha8Rng) -> Vec<Vpn> {
    let mut order: Vec<usize> = (0..edges).collect();
    let vpn = |number: u32| {
        let [kind, administrator] = [0_u16, RD_ADMINISTRATOR].map(u16::to_be_bytes);
        let mut rd = [0; 8];
        rd[..2].copy_from_slice(&kind);
        rd[2..4].copy_from_slice(&administrator);
        rd[4..].copy_from_slice(&number.to_be_bytes());
        order.shuffle(chance);
        let mut sites = order[..edges.min(VPN_SITES_MAX)].to_vec();
        sites.sort_unstable();
        Vpn { rd: RouteDistinguisher(rd), sites }
    };
    let count = (edges / EDGES_PER_VPN).clamp(1, VPNS_MAX);
    (1..=u32::try_from(count).expect("VPNS_MAX is far below 2^32")).map(vpn).collect()
}

/// The smallest prime that is at least `start`.
fn prime_from(start: u32) -> u32 {
    let is_prime =
        |number: u32| (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d));
    (start..).find(|number| is_prime(*number)).expect("there is a prime between n and 2n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use storage::mapping::Key;

    use super::*;
    use crate::topology::Shape;

    fn network(routers: usize, edges: usize) -> (Network, Paths) {
        let network = Network::generate(&Shape { routers, edges, seed: 7 }.into()).unwrap();
        let paths = Paths::compute(&network.topology, None);
        (network, paths)
    }

    #[test]
    fn a_table_has_each_key_and_each_label_once() {
        let (network, paths) = network(120, 40);
        for router_index in 0..120 {
            let table = network.table(&paths, router_index, Micros(0));
            let keys: BTreeSet<Key> = table.iter().map(Mapping::key).collect();
            assert_eq!(keys.len(), table.len());
            let ftns = table.iter().filter(|entry| entry.ingress == Ingress::UNTAGGED);
            let of_ip = ftns.filter(|entry| matches!(entry.fec, Fec::Ip { .. })).count();
            let is_edge = network.fec_of_router(router_index).is_some();
            assert_eq!(of_ip, 40 - usize::from(is_edge));
        }
    }

    #[test]
    fn a_swap_arrives_with_the_label_that_the_next_router_expects() {
        let (network, paths) = network(100, 20);
        for router_index in 0..100 {
            for fec_index in 0..20 {
                for branch in network.branches(&paths, router_index, fec_index) {
                    let NextHop::Address(address) = branch.next_hop else { panic!("{branch}") };
                    let owns =
                        |r: &usize| network.topology.interface_addresses(*r).contains(&address);
                    let next = (0..100).find(owns).unwrap();
                    let at_edge = network.topology.edges[fec_index] == next;
                    assert_eq!(branch.stack[0] == Label::IMPLICIT_NULL, at_edge);
                    let table = network.table(&paths, next, Micros(0));
                    let key = Key::Ilm(branch.stack[0], Origin::Platform);
                    let entry = table.iter().find(|entry| entry.key() == key);
                    assert_eq!(
                        entry.map(|entry| entry.fec),
                        (!at_edge).then(|| network.fec(fec_index))
                    );
                }
            }
        }
    }

    #[test]
    fn edges_choose_vpn_labels_alike_and_service_keys_still_differ() {
        let (network, _) = network(300, 60);
        let mut labels = Vec::new();
        for (vpn_index, vpn) in network.vpns.iter().enumerate() {
            labels.extend(vpn.sites.iter().map(|site| network.vpn_label(vpn_index, *site)));
        }
        let distinct: BTreeSet<Label> = labels.iter().copied().collect();
        assert!(distinct.len() < labels.len() / 2, "{} of {}", distinct.len(), labels.len());
    }

    #[test]
    fn primes_are_primes() {
        assert_eq!([2, 8, 14, 24, 260].map(prime_from), [2, 11, 17, 29, 263]);
    }
}
