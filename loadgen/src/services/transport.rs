//! Transport to a provider edge: LDP along the IGP's paths, and what services put on top of it.
//!
//! In:   router and FEC.
//! Out:  FTN and ILM entry, and one service entry per label that the far edge gave this router.
//! Law:  all entries of one FEC share their branches: they change together.
//! Not:  the services' own entries (`l3vpn`).

use smallvec::smallvec;
use storage::mapping::{Branches, Ingress, Mapping, NextHop, Nhlfe, Operation, Origin};

use super::entry;
use crate::network::Network;
use crate::state::State;

/// Branches of a router towards a FEC: one per equal-cost next hop, sorted.
pub fn branches(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
) -> Branches {
    let branch = |link_index: usize| {
        let link = &network.topology.links[link_index];
        let (far, address) = link.far_end(router_index);
        let stack = smallvec![network.label(far, fec_index)];
        Nhlfe { stack, next_hop: NextHop::Address(address.into()), weight: None }
    };
    let links = state.paths.next_links(&network.topology, fec_index, router_index);
    let mut branches: Branches = links.map(branch).collect();
    branches.sort_unstable();
    branches
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let branches = branches(network, state, router_index, fec_index);
    if branches.is_empty() {
        return;
    }
    let fec = network.fec(fec_index);
    let mut add = |ingress: Ingress, operation: Operation| {
        entries.push(entry(fec, ingress, operation, branches.clone()));
    };
    add(Ingress::UNTAGGED, Operation::Push);
    add(Ingress::platform(network.label(router_index, fec_index)), Operation::Swap);
    for (vpn_index, _) in network.shared_vpns(router_index, fec_index) {
        let label = Some(network.vpn_label(vpn_index, fec_index));
        add(Ingress { label, origin: Origin::Service }, Operation::Push);
    }
}

pub(crate) fn differs(
    network: &Network,
    old: &State,
    new: &State,
    router_index: usize,
    fec_index: usize,
) -> bool {
    let topology = &network.topology;
    let links = old.paths.next_links(topology, fec_index, router_index);
    !links.eq(new.paths.next_links(topology, fec_index, router_index))
}
