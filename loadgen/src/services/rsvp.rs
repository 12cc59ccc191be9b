//! Tunnels with facility fast reroute (RFC 3209, RFC 4090): explicit routes, and detours around
//! each link on them.
//!
//! In:   heads and tails, drawn once; the state's paths at the time of signalling.
//! Out:  `Tunnels`: routes with the labels on them; what a router on a route swaps, also while a
//!       link is down and the tunnel takes the detour: two labels.
//! Law:  a route stays as it was signalled until it is signalled again, whatever is down.
//! Not:  when that is (`scenario/plan`), which labels are free (`labels`).

use std::collections::{BTreeMap, BinaryHeap};

use rand_chacha::ChaCha8Rng;
use storage::mapping::{Fec, Ingress, Label, LabelStack, Mapping, NextHop, Nhlfe, Operation};

use super::labels::Labels;
use super::{entry, others};
use crate::network::{Network, Unit};
use crate::paths::{Paths, UNREACHABLE, distances_to};
use crate::state::State;

/// Tunnels that begin at one provider edge.
const TUNNELS_PER_EDGE: usize = 4;

/// Between which edges a tunnel is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelPlan {
    /// FEC index of its head.
    pub head: usize,
    /// FEC index of its tail.
    pub tail: usize,
}

/// A way over links, with the label that each router behind a link gave for it; the last one gives
/// implicit null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Router and link of each hop.
    pub hops: Vec<(usize, usize)>,
    /// The label on each of these links.
    pub labels: Vec<Label>,
}

/// Every tunnel and detour as it was last signalled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// One per plan; `None` = there was no way.
    pub routes: Vec<Option<Route>>,
    /// For a router and a link that tunnels use there: the way around it to its far end.
    pub detours: BTreeMap<(usize, usize), Route>,
}

pub(crate) fn draw(edges: usize, chance: &mut ChaCha8Rng) -> Vec<TunnelPlan> {
    let mut plans = Vec::new();
    for head in 0..edges {
        let tails = others(edges, head, TUNNELS_PER_EDGE, chance);
        plans.extend(tails.into_iter().map(|tail| TunnelPlan { head, tail }));
    }
    plans
}

impl Route {
    fn new(hops: Vec<(usize, usize)>, network: &Network, labels: &mut Labels) -> Route {
        let behind =
            |(router, link): &(usize, usize)| network.topology.links[*link].far_end(*router).0;
        let last = hops.len().saturating_sub(1);
        let given = hops.iter().enumerate().map(|(place, hop)| match place == last {
            true => Label::IMPLICIT_NULL,
            false => labels.take(behind(hop)),
        });
        let labels = given.collect();
        Route { hops, labels }
    }

    /// Whether packets can go all the way.
    pub fn carries(&self, paths: &Paths) -> bool {
        self.hops.iter().all(|(_, link)| paths.carries(*link))
    }

    /// The place of a router on the way.
    fn place(&self, router_index: usize) -> Option<usize> {
        self.hops.iter().position(|(router, _)| *router == router_index)
    }

    /// Routers with the label that each gave.
    fn given(&self) -> impl Iterator<Item = (usize, Label)> {
        let routers = self.hops.iter().skip(1).map(|(router, _)| *router);
        routers.zip(self.labels.iter().copied())
    }
}

impl Tunnels {
    /// Signals anew what is not on a shortest path that works: with new labels, before the old ones
    /// are released. What is as it should be stays.
    pub(crate) fn signal(
        network: &Network,
        before: &Tunnels,
        paths: &Paths,
        labels: &mut Labels,
    ) -> Tunnels {
        let mut tunnels = Tunnels::default();
        for (index, plan) in network.tunnels.iter().enumerate() {
            let old = before.routes.get(index).cloned().flatten();
            let hops = shortest(network, paths, plan);
            let cost = |hops: &[(usize, usize)]| -> u64 {
                hops.iter().map(|(_, link)| u64::from(network.topology.links[*link].cost)).sum()
            };
            let route = match (old, hops) {
                (_, None) => None,
                (Some(old), Some(hops)) if old.carries(paths) && cost(&old.hops) == cost(&hops) => {
                    Some(old)
                }
                (_, Some(hops)) => Some(Route::new(hops, network, labels)),
            };
            tunnels.routes.push(route);
        }
        let used = tunnels.routes.iter().flatten().flat_map(|route| route.hops.iter().copied());
        let used: std::collections::BTreeSet<(usize, usize)> = used.collect();
        let mut heap = BinaryHeap::new();
        for (router, link) in used {
            let old = before.detours.get(&(router, link)).filter(|old| old.carries(paths));
            let detour = old.cloned().or_else(|| {
                let hops = around(network, paths, router, link, &mut heap)?;
                Some(Route::new(hops, network, labels))
            });
            tunnels.detours.extend(detour.map(|detour| ((router, link), detour)));
        }
        tunnels
    }

    /// Every router's tunnels and detours.
    pub(crate) fn units(&self) -> impl Iterator<Item = (usize, Unit)> {
        let routes = self.routes.iter().enumerate();
        let routes =
            routes.filter_map(|(index, route)| Some((Unit::Tunnel(index), route.as_ref()?)));
        let detours = self.detours.iter();
        let detours =
            detours.map(|(&(router, link), route)| (Unit::Detour { router, link }, route));
        routes.chain(detours).flat_map(|(unit, route)| {
            route.hops.iter().skip(1).map(move |(router, _)| (*router, unit))
        })
    }

    /// Every label that a router has given.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (usize, Label)> {
        self.routes.iter().flatten().chain(self.detours.values()).flat_map(Route::given)
    }

    /// The route of the tunnel from this head to this tail.
    pub fn between(&self, network: &Network, head: usize, tail: usize) -> Option<(usize, &Route)> {
        let index = network.tunnel_between(head, tail)?;
        Some((index, self.routes.get(index)?.as_ref()?))
    }
}

/// The first of the shortest ways.
fn shortest(network: &Network, paths: &Paths, plan: &TunnelPlan) -> Option<Vec<(usize, usize)>> {
    let topology = &network.topology;
    let mut here = topology.edges[plan.head];
    if paths.distance(plan.tail, here) == UNREACHABLE {
        return None;
    }
    let mut hops = Vec::new();
    while let Some(link) = paths.next_links(topology, plan.tail, here).next() {
        hops.push((here, link));
        here = topology.links[link].far_end(here).0;
    }
    Some(hops)
}

/// The shortest way from a router to the far end of a link without that link.
fn around(
    network: &Network,
    paths: &Paths,
    router: usize,
    link: usize,
    heap: &mut BinaryHeap<std::cmp::Reverse<(u32, usize)>>,
) -> Option<Vec<(usize, usize)>> {
    let topology = &network.topology;
    let target = topology.links[link].far_end(router).0;
    let usable = |other: usize| other != link && paths.carries(other);
    let distances = distances_to(topology, target, usable, paths.transits(), heap);
    let mut here = router;
    let mut hops = Vec::new();
    while here != target {
        let nearer = |next: &&usize| {
            let far = topology.links[**next].far_end(here).0;
            let cost = topology.links[**next].cost;
            usable(**next)
                && distances[here] != UNREACHABLE
                && distances[far].checked_add(cost) == Some(distances[here])
                && (far == target || paths.transits()[far])
        };
        let next = *topology.routers[here].links.iter().find(nearer)?;
        hops.push((here, next));
        here = topology.links[next].far_end(here).0;
    }
    Some(hops)
}

/// What a router at this place of a tunnel's route puts on, and over which link: along the route,
/// or, when the link is down, into the detour. `None` when there is neither.
pub fn branch(network: &Network, state: &State, route: &Route, place: usize) -> Option<Nhlfe> {
    let (router, link) = route.hops[place];
    let inner = route.labels[place];
    let (outer, link) = match state.paths.carries(link) {
        true => (None, link),
        false => {
            let detour = state.tunnels.detours.get(&(router, link))?;
            let usable = detour.carries(&state.paths);
            (Some(detour.labels[0]), usable.then_some(detour.hops[0].1)?)
        }
    };
    let labels = outer.into_iter().chain([inner]);
    let mut stack: LabelStack = labels.filter(|label| *label != Label::IMPLICIT_NULL).collect();
    if stack.is_empty() {
        stack.push(Label::IMPLICIT_NULL);
    }
    let (_, address) = network.topology.links[link].far_end(router);
    Some(Nhlfe { stack, next_hop: NextHop::Address(address), weight: None })
}

/// A tunnel at a router that it goes through. Explicitly routed: the router knows no FEC.
pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    tunnel_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let route = state.tunnels.routes.get(tunnel_index).and_then(Option::as_ref);
    let Some(route) = route else { return };
    let place = route.place(router_index).filter(|place| *place > 0);
    let Some(place) = place else { return };
    let Some(branch) = branch(network, state, route, place) else { return };
    let ingress = Ingress::platform(route.labels[place - 1]);
    entries.push(entry(Fec::Unknown, ingress, Operation::Swap, std::iter::once(branch).collect()));
}

/// A detour at a router that it goes through.
pub(crate) fn detour_entries(
    network: &Network,
    state: &State,
    router_index: usize,
    key: (usize, usize),
    entries: &mut Vec<Mapping>,
) {
    let Some(detour) = state.tunnels.detours.get(&key) else { return };
    let Some(place) = detour.place(router_index).filter(|place| *place > 0) else { return };
    let (_, link) = detour.hops[place];
    let (_, address) = network.topology.links[link].far_end(router_index);
    let stack = std::iter::once(detour.labels[place]).collect();
    let branch = Nhlfe { stack, next_hop: NextHop::Address(address), weight: None };
    let ingress = Ingress::platform(detour.labels[place - 1]);
    entries.push(entry(Fec::Unknown, ingress, Operation::Swap, std::iter::once(branch).collect()));
}

pub(crate) fn differs(
    network: &Network,
    old: &State,
    new: &State,
    router_index: usize,
    unit: Unit,
) -> bool {
    let seen = |state: &State| {
        let mut seen = Vec::new();
        match unit {
            Unit::Tunnel(index) => entries(network, state, router_index, index, &mut seen),
            Unit::Detour { router, link } => {
                detour_entries(network, state, router_index, (router, link), &mut seen);
            }
            _ => {}
        }
        seen
    };
    seen(old) != seen(new)
}
