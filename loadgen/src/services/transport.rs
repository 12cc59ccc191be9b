//! Transport to a provider edge: along the IGP's paths by LDP or segment routing, or by a tunnel;
//! and what services put on top of it.
//!
//! In:   router and FEC.
//! Out:  FTN entry and ILM entries, and one service entry per label that the far edge gave this
//!       router.
//! Law:  what begins at a router takes the tunnel if there is one, else segment routing if the
//!       network has it, else LDP; what goes through keeps to its kind.
//! Not:  tunnels between their ends (`rsvp`), the services' own entries.

use std::sync::Arc;

use smallvec::smallvec;
use storage::mapping::{Branches, Ingress, Label, Mapping, Nhlfe, Operation, Origin};

use super::{entry, rsvp};
use crate::network::Network;
use crate::state::State;

/// By which labels packets follow the IGP's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each router's own.
    Ldp,
    /// The same everywhere.
    Segment,
}

impl Kind {
    /// The kind that begins at a router without tunnel, if the network has one.
    pub fn preferred(network: &Network) -> Option<Kind> {
        let segment = network.services.sr.then_some(Kind::Segment);
        segment.or_else(|| network.services.ldp.then_some(Kind::Ldp))
    }

    /// The label that a router wants to receive for a FEC; implicit null at the edge itself.
    pub fn label(self, network: &Network, router_index: usize, fec_index: usize) -> Label {
        match self {
            Kind::Ldp => network.label(router_index, fec_index),
            Kind::Segment => network.segment_label(router_index, fec_index),
        }
    }
}

/// Branches of a router along the IGP's paths: one per equal-cost next hop, sorted.
pub fn branches(
    network: &Network,
    state: &State,
    kind: Kind,
    router_index: usize,
    fec_index: usize,
) -> Branches {
    let branch = |link_index: usize| {
        let (far, _) = network.topology.links[link_index].far_end(router_index);
        let stack = smallvec![kind.label(network, far, fec_index)];
        network.topology.branch(router_index, link_index, stack)
    };
    let links = state.paths.next_links(&network.topology, fec_index, router_index);
    let mut branches: Branches = links.map(branch).collect();
    branches.sort_unstable();
    branches
}

/// What begins here: the tunnel's only branch, as long as it has one, else those of the IGP.
fn beginning(network: &Network, state: &State, router_index: usize, fec_index: usize) -> Branches {
    let tunnel = tunnel_branch(network, state, router_index, fec_index);
    let along = || {
        let kind = Kind::preferred(network)?;
        Some(branches(network, state, kind, router_index, fec_index))
    };
    tunnel.map(|branch| smallvec![branch]).or_else(along).unwrap_or_default()
}

fn tunnel_branch(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
) -> Option<Nhlfe> {
    let own = network.fec_of_router(router_index)?;
    let (_, route) = state.tunnels.between(network, own, fec_index)?;
    rsvp::branch(network, state, route, 0)
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let fec = network.fec(fec_index);
    let mut add = |ingress: Ingress, operation: Operation, branches: &Branches| {
        if !branches.is_empty() {
            entries.push(entry(fec, ingress, operation, branches.clone()));
        }
    };
    let beginning = beginning(network, state, router_index, fec_index);
    add(Ingress::UNTAGGED, Operation::Push, &beginning);
    let kinds = [(network.services.ldp, Kind::Ldp), (network.services.sr, Kind::Segment)];
    for (_, kind) in kinds.into_iter().filter(|(has, _)| *has) {
        let through = branches(network, state, kind, router_index, fec_index);
        let ingress = Ingress::platform(kind.label(network, router_index, fec_index));
        add(ingress, Operation::Swap, &through);
    }
    for label in network.inner_labels(state, router_index, fec_index) {
        let ingress = Ingress { label: Some(label), origin: Origin::Service };
        add(ingress, Operation::Push, &beginning);
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
    let along = |state| tunnel_branch(network, state, router_index, fec_index);
    let inner =
        |state| network.inner_labels(state, router_index, fec_index).collect::<Vec<Label>>();
    !links.eq(new.paths.next_links(topology, fec_index, router_index))
        || along(old) != along(new)
        || !(Arc::ptr_eq(&old.announced, &new.announced) || inner(old) == inner(new))
}
