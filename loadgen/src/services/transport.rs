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
use storage::mapping::{Branches, Fec, Ingress, Label, Mapping, Nhlfe, Operation, Origin, Role};

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

/// Branches of a router along the IGP's paths: one per equal-cost next hop, and, where there is but
/// one and routers say such, its loop-free alternate. Sorted.
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
    let spare = alternate(network, state, router_index, fec_index).map(branch);
    branches.extend(spare.map(|spare| Nhlfe { role: Role::Backup, ..spare }));
    branches.sort_unstable();
    branches
}

/// The link to a router's loop-free alternate, where packets have but one link to take: to the
/// nearest neighbour that sends them on without this router (RFC 5286 section 3.1, inequality 1).
fn alternate(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
) -> Option<usize> {
    let (topology, paths) = (&network.topology, &state.paths);
    let mut primaries = paths.next_links(topology, fec_index, router_index);
    let primary = primaries.next().filter(|_| network.services.backup)?;
    if primaries.next().is_some() {
        return None;
    }
    let here = paths.distance(fec_index, router_index);
    let candidate = |link: &usize| {
        let (far, _) = topology.links[*link].far_end(router_index);
        if *link == primary || !paths.carries(*link) {
            return None;
        }
        let there = paths.distance(fec_index, far);
        let back = paths.between(far, router_index);
        let is_free = there < back.saturating_add(here) && (there == 0 || paths.transits()[far]);
        is_free.then(|| (topology.links[*link].cost.saturating_add(there), *link))
    };
    let links = topology.routers[router_index].links.iter();
    links.filter_map(candidate).min().map(|(_, link)| link)
}

/// What begins here: the tunnel's branches, as long as it has any, else those of the IGP.
pub(super) fn beginning(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
) -> Branches {
    let tunnel = tunnel_branches(network, state, router_index, fec_index);
    if !tunnel.is_empty() {
        return tunnel;
    }
    let kind = Kind::preferred(network);
    kind.map(|kind| branches(network, state, kind, router_index, fec_index)).unwrap_or_default()
}

fn tunnel_branches(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
) -> Branches {
    let own = network.fec_of_router(router_index);
    let route = own.and_then(|own| state.tunnels.between(network, own, fec_index));
    route.map(|(_, route)| rsvp::branches(network, state, route, 0)).unwrap_or_default()
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    fec_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let fec = network.fec(fec_index);
    let mut add = |fec: Fec, ingress: Ingress, operation: Operation, branches: &Branches| {
        if !branches.is_empty() {
            entries.push(entry(fec, ingress, operation, branches.clone()));
        }
    };
    let beginning = beginning(network, state, router_index, fec_index);
    add(fec, Ingress::UNTAGGED, Operation::Push, &beginning);
    let kinds = [(network.services.ldp, Kind::Ldp), (network.services.sr, Kind::Segment)];
    for (_, kind) in kinds.into_iter().filter(|(has, _)| *has) {
        let through = branches(network, state, kind, router_index, fec_index);
        let ingress = Ingress::platform(kind.label(network, router_index, fec_index));
        add(fec, ingress, Operation::Swap, &through);
    }
    for (label, fec) in network.inner_labels(state, router_index, fec_index) {
        let ingress = Ingress { label: Some(label), origin: Origin::Service };
        add(fec, ingress, Operation::Push, &beginning);
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
    let tunnel = |state| tunnel_branches(network, state, router_index, fec_index);
    let spare = |state| alternate(network, state, router_index, fec_index);
    let inner =
        |state| network.inner_labels(state, router_index, fec_index).collect::<Vec<(Label, Fec)>>();
    !links.eq(new.paths.next_links(topology, fec_index, router_index))
        || tunnel(old) != tunnel(new)
        || spare(old) != spare(new)
        || !(Arc::ptr_eq(&old.announced, &new.announced) || inner(old) == inner(new))
}
