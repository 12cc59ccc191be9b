//! The ways of an LSP, from the topology alone: what a walk along the labels must find.
//!
//! In:   a settled state and a question.
//! Out:  every path with the labels on it, or that there is none.
//! Law:  labels are taken from who gave them, never from anybody's table.
//! Not:  tables (`answer`), the collector's walks (`verdict`).

use std::collections::BTreeSet;

use engine::query::PATHS_MAX;
use storage::mapping::{Label, RouterId};

use super::{Hop, Question, Target, Way};
use crate::network::Network;
use crate::paths::UNREACHABLE;
use crate::services::rsvp::{Around, Route};
use crate::services::transport::Kind;
use crate::state::State;

/// Where the LSP leads; `None` where there are more paths than a report lists.
pub(super) fn walk(network: &Network, state: &State, question: &Question) -> Option<Way> {
    if let Target::Tree(tree_index) = question.target {
        return Some(tree(network, state, tree_index));
    }
    if question.target == Target::Discard {
        return Some(Way::Discarded);
    }
    if let Target::Table(_) = question.target {
        let hops = vec![hop(network, question.head, [])];
        return Some(Way::Delivered(BTreeSet::from([hops])));
    }
    if let Target::Area(owner, number) = question.target {
        return Some(within_area(network, state, question.head, (owner, number)));
    }
    if state.paths.distance(question.fec_index, question.head) == UNREACHABLE {
        return Some(Way::Lost);
    }
    let inner = inner_label(network, state, question);
    let own = network.fec_of_router(question.head);
    let route = own.and_then(|own| state.tunnels.between(network, own, question.fec_index));
    if let Some((_, route)) = route
        && !matches!(repaired(network, state, route, 0), Repair::Broken)
    {
        return Some(tunnel(network, state, route, inner));
    }
    match Kind::preferred(network) {
        Some(kind) => along(network, state, kind, question, inner),
        None => Some(Way::Lost),
    }
}

fn inner_label(network: &Network, state: &State, question: &Question) -> Option<Label> {
    match question.target {
        Target::Loopback
        | Target::Tree(_)
        | Target::Area(..)
        | Target::Table(_)
        | Target::Discard => None,
        Target::Vpn(vpn_index) => Some(network.vpn_label(vpn_index, question.fec_index)),
        // A prefix that is not announced goes with the rest of its VRF.
        Target::Prefix(route) => {
            let own = state.announced.get(&route).copied();
            Some(own.unwrap_or_else(|| network.vpn_label(route.vpn_index, route.site)))
        }
        Target::Circuit(circuit_index) => {
            let circuit = &network.circuits[circuit_index];
            circuit.end_at(question.fec_index).map(|end| circuit.labels[end])
        }
    }
}

/// Every equal-cost path along the IGP. Paths over parallel links are counted one by one, as a
/// report lists them, though routers and labels are the same.
fn along(
    network: &Network,
    state: &State,
    kind: Kind,
    question: &Question,
    inner: Option<Label>,
) -> Option<Way> {
    let (topology, paths) = (&network.topology, &state.paths);
    let (mut found, mut count) = (BTreeSet::new(), 0);
    let mut open = vec![(question.head, Vec::new())];
    while let Some((router_index, mut hops)) = open.pop() {
        let links: Vec<usize> =
            paths.next_links(topology, question.fec_index, router_index).collect();
        if links.is_empty() {
            hops.push(hop(network, router_index, []));
            found.insert(hops);
            count += 1;
            continue;
        }
        for link_index in links {
            let (next, _) = topology.links[link_index].far_end(router_index);
            let mut longer: Vec<Hop> = hops.clone();
            let outer = kind.label(network, next, question.fec_index);
            longer.push(hop(network, router_index, [Some(outer), inner]));
            open.push((next, longer));
        }
        if count + open.len() > PATHS_MAX {
            return None;
        }
    }
    Some(Way::Delivered(found))
}

/// What becomes of a tunnel at one place of its route.
enum Repair<'a> {
    /// The link works.
    None,
    /// It does not, and there is a way around it to this place of the route.
    Around(&'a Route, usize),
    /// It does not.
    Broken,
}

fn repaired<'a>(network: &Network, state: &'a State, route: &Route, place: usize) -> Repair<'a> {
    let (router, link) = route.hops[place];
    if state.paths.carries(link) {
        return Repair::None;
    }
    let bypass = |around| {
        let bypass = state.tunnels.bypasses.get(&(around, router));
        bypass.filter(|bypass| bypass.carries(&state.paths))
    };
    // Around the router first: nobody can tell whether it is the link or the router that failed.
    if let Some((avoided, onward)) = route.hops.get(place + 1).copied() {
        let (merge, _) = network.topology.links[onward].far_end(avoided);
        if let Some(bypass) = bypass(Around::Router { avoided, merge }) {
            return Repair::Around(bypass, place + 2);
        }
    }
    match bypass(Around::Link(link)) {
        Some(bypass) => Repair::Around(bypass, place + 1),
        None => Repair::Broken,
    }
}

/// The one way through a tunnel, bypasses included.
fn tunnel(network: &Network, state: &State, route: &Route, inner: Option<Label>) -> Way {
    let mut hops = Vec::new();
    let mut place = 0;
    while let Some((router, _)) = route.hops.get(place) {
        match repaired(network, state, route, place) {
            Repair::None => {
                hops.push(hop(network, *router, [Some(route.labels[place]), inner]));
                place += 1;
            }
            Repair::Broken => return Way::Lost,
            Repair::Around(bypass, merge_place) => {
                let label = Some(route.labels[merge_place - 1]);
                for ((router, _), outer) in bypass.hops.iter().zip(&bypass.labels) {
                    hops.push(hop(network, *router, [Some(*outer), label, inner]));
                }
                place = merge_place;
            }
        }
    }
    let tail =
        route.hops.last().map(|(router, link)| network.topology.links[*link].far_end(*router).0);
    hops.extend(tail.map(|tail| hop(network, tail, [])));
    Way::Delivered(BTreeSet::from([hops]))
}

/// One way to each leaf that can be reached.
fn tree(network: &Network, state: &State, tree_index: usize) -> Way {
    let plan = &network.trees[tree_index];
    let tree = &state.trees.trees[tree_index];
    let mut found = BTreeSet::new();
    let mut open = vec![(network.topology.edges[plan.root], Vec::new())];
    while let Some((router_index, hops)) = open.pop() {
        let own = network.fec_of_router(router_index);
        if own.is_some_and(|own| plan.leaves.contains(&own)) {
            let end = hop(network, router_index, []);
            found.insert(hops.iter().cloned().chain([end]).collect());
        }
        for (child, _) in tree.below(network, router_index) {
            let (_, label) = tree.parents[&child];
            let mut longer: Vec<Hop> = hops.clone();
            longer.push(hop(network, router_index, [Some(label)]));
            open.push((child, longer));
        }
    }
    if found.is_empty() { Way::Lost } else { Way::Delivered(found) }
}

/// From member to member of the area, each with the label that the next one gave.
fn within_area(network: &Network, state: &State, head: usize, prefix: (usize, u16)) -> Way {
    let Some(area) = &network.area else { return Way::Lost };
    let Some(binding) = state.bindings.get(&prefix) else { return Way::Lost };
    let (owner, mut router_index, mut hops) = (prefix.0, head, Vec::new());
    while router_index != area.routers[owner] {
        let place = area.place(router_index);
        let link = place.and_then(|place| area.next(binding.around, owner, place));
        let Some(link) = link.filter(|link| state.paths.carries(*link)) else { return Way::Lost };
        let (far, _) = network.topology.links[link].far_end(router_index);
        let given = area.place(far).map(|far| binding.labels[far]);
        hops.push(hop(network, router_index, [given]));
        router_index = far;
    }
    hops.push(hop(network, router_index, []));
    Way::Delivered(BTreeSet::from([hops]))
}

fn hop<const COUNT: usize>(
    network: &Network,
    router_index: usize,
    labels: [Option<Label>; COUNT],
) -> Hop {
    let router: RouterId = network.topology.routers[router_index].id;
    let labels = labels.into_iter().flatten();
    Hop { router, labels: labels.filter(|label| *label != Label::IMPLICIT_NULL).collect() }
}
