//! Tunnels with facility fast reroute (RFC 3209, RFC 4090): explicit routes, and bypasses around
//! each router and each link on them.
//!
//! In:   heads and tails, drawn once; the state's paths at the time of signalling.
//! Out:  `Tunnels`: routes with the labels on them; what a router on a route swaps, also while the
//!       link or router behind it is down and the tunnel takes a bypass: two labels.
//! Law:  a route stays as it was signalled until it is signalled again, whatever is down.
//! Not:  when that is (`scenario/plan`), which labels are free (`labels`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand_chacha::ChaCha8Rng;
use storage::mapping::{
    Branches, Fec, Ingress, Label, LabelStack, Mapping, Nhlfe, Operation, Role,
};

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

/// What a bypass leads around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Around {
    /// A link, by its index: to the router at its far end (RFC 4090 section 3.2, NHOP bypass).
    Link(usize),
    /// The next router: to the one behind it (NNHOP bypass).
    Router {
        /// Its index.
        avoided: usize,
        /// Index of the router where the tunnel's own route goes on.
        merge: usize,
    },
}

/// Every tunnel and bypass as it was last signalled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// One per plan; `None` = there was no way.
    pub routes: Vec<Option<Route>>,
    /// What a router goes around that tunnels use behind it, and from which router: the way. Both
    /// kinds are kept, as routers with automatic bypasses do.
    pub bypasses: BTreeMap<(Around, usize), Route>,
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

    /// What the router at a place of the way goes around when what is behind it fails: the next
    /// router, where there is one behind that, and the link.
    fn behind(&self, place: usize, network: &Network) -> impl Iterator<Item = Around> + use<> {
        let (_, link) = self.hops[place];
        let next = self.hops.get(place + 1);
        let router = next.map(|&(avoided, onward)| {
            let (merge, _) = network.topology.links[onward].far_end(avoided);
            Around::Router { avoided, merge }
        });
        router.into_iter().chain([Around::Link(link)])
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
        tunnels.bypasses = bypasses(network, &tunnels.routes, &before.bypasses, paths, labels);
        tunnels
    }

    /// Every router's tunnels and bypasses.
    pub(crate) fn units(&self) -> impl Iterator<Item = (usize, Unit)> {
        let routes = self.routes.iter().enumerate();
        let routes =
            routes.filter_map(|(index, route)| Some((Unit::Tunnel(index), route.as_ref()?)));
        let bypasses = self.bypasses.iter();
        let bypasses =
            bypasses.map(|(&(around, router), route)| (Unit::Bypass { router, around }, route));
        routes.chain(bypasses).flat_map(|(unit, route)| {
            route.hops.iter().skip(1).map(move |(router, _)| (*router, unit))
        })
    }

    /// Every label that a router has given.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (usize, Label)> {
        self.routes.iter().flatten().chain(self.bypasses.values()).flat_map(Route::given)
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

/// Ways around everything that these routes use: those of before that still carry, and new ones.
fn bypasses(
    network: &Network,
    routes: &[Option<Route>],
    before: &BTreeMap<(Around, usize), Route>,
    paths: &Paths,
    labels: &mut Labels,
) -> BTreeMap<(Around, usize), Route> {
    let mut used: BTreeSet<(Around, usize)> = BTreeSet::new();
    for route in routes.iter().flatten() {
        for (place, (router, _)) in route.hops.iter().enumerate() {
            used.extend(route.behind(place, network).map(|around| (around, *router)));
        }
    }
    let mut detour = Detour::default();
    let mut bypasses = BTreeMap::new();
    for (around, router) in used {
        let old = before.get(&(around, router)).filter(|old| old.carries(paths));
        let route = old.cloned().or_else(|| {
            let hops = detour.find(network, paths, router, around)?;
            Some(Route::new(hops, network, labels))
        });
        bypasses.extend(route.map(|route| ((around, router), route)));
    }
    bypasses
}

/// Shortest ways that avoid something. Who avoids the same for the same end shares the distances.
#[derive(Default)]
struct Detour {
    heap: BinaryHeap<Reverse<(u32, usize)>>,
    /// Of every router to the end of what was asked last.
    distances: Vec<u32>,
    found: Option<(Around, usize)>,
}

impl Detour {
    /// The way from a router to the far end of a link without that link, or to the router behind
    /// the next one without that one.
    fn find(
        &mut self,
        network: &Network,
        paths: &Paths,
        router: usize,
        around: Around,
    ) -> Option<Vec<(usize, usize)>> {
        let topology = &network.topology;
        let end = match around {
            Around::Link(link) => topology.links[link].far_end(router).0,
            Around::Router { merge, .. } => merge,
        };
        let usable = |link: usize| {
            paths.carries(link)
                && match around {
                    Around::Link(avoided) => link != avoided,
                    Around::Router { avoided, .. } => !topology.links[link].ends.contains(&avoided),
                }
        };
        if self.found != Some((around, end)) {
            self.distances = distances_to(topology, end, usable, paths.transits(), &mut self.heap);
            self.found = Some((around, end));
        }
        let mut here = router;
        let mut hops = Vec::new();
        while here != end {
            let nearer = |next: &&usize| {
                let far = topology.links[**next].far_end(here).0;
                let cost = topology.links[**next].cost;
                usable(**next)
                    && self.distances[here] != UNREACHABLE
                    && self.distances[far].checked_add(cost) == Some(self.distances[here])
                    && (far == end || paths.transits()[far])
            };
            let next = *topology.routers[here].links.iter().find(nearer)?;
            hops.push((here, next));
            here = topology.links[next].far_end(here).0;
        }
        Some(hops)
    }
}

/// What a router at this place of a tunnel's route puts on, and over which link: along the route,
/// or, when the link or the router behind it is down, into a bypass. `None` when there is neither.
pub fn branch(network: &Network, state: &State, route: &Route, place: usize) -> Option<Nhlfe> {
    let (router, link) = route.hops[place];
    if !state.paths.carries(link) {
        return repair_branch(network, state, route, place);
    }
    let stack = stack_of([route.labels[place]]);
    Some(network.topology.branch(router, link, stack))
}

/// The branch of `branch`, and, while that goes along the route and routers say such, the bypass
/// that stands ready. Sorted.
pub fn branches(network: &Network, state: &State, route: &Route, place: usize) -> Branches {
    let mut branches: Branches = branch(network, state, route, place).into_iter().collect();
    if network.services.backup && state.paths.carries(route.hops[place].1) {
        let spare = repair_branch(network, state, route, place);
        branches.extend(spare.map(|spare| Nhlfe { role: Role::Backup, ..spare }));
        branches.sort_unstable();
    }
    branches
}

fn repair_branch(network: &Network, state: &State, route: &Route, place: usize) -> Option<Nhlfe> {
    let (bypass, inner) = repair(network, state, route, place)?;
    let stack = stack_of([bypass.labels[0], inner]);
    Some(network.topology.branch(route.hops[place].0, bypass.hops[0].1, stack))
}

/// Implicit null is said alone or not at all.
fn stack_of<const COUNT: usize>(labels: [Label; COUNT]) -> LabelStack {
    let given = labels.into_iter().filter(|label| *label != Label::IMPLICIT_NULL);
    let mut stack: LabelStack = given.collect();
    if stack.is_empty() {
        stack.push(Label::IMPLICIT_NULL);
    }
    stack
}

/// The bypass that a router takes, and the label that the tunnel has where it ends. A router
/// cannot tell a failed link from a failed neighbour, so it goes around the neighbour wherever it
/// can: then with the label that the next but one gave, known because labels are recorded on the
/// way back (RFC 4090 section 3.2, RFC 3209 section 4.4). Before the tail, or where no way leads
/// around the neighbour, it goes around the link.
fn repair<'a>(
    network: &Network,
    state: &'a State,
    route: &Route,
    place: usize,
) -> Option<(&'a Route, Label)> {
    let (router, _) = route.hops[place];
    route.behind(place, network).find_map(|around| {
        let bypass = state.tunnels.bypasses.get(&(around, router))?;
        let place = match around {
            Around::Link(_) => place,
            Around::Router { .. } => place + 1,
        };
        bypass.carries(&state.paths).then(|| (bypass, route.labels[place]))
    })
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
    let branches = branches(network, state, route, place);
    if !branches.is_empty() {
        let ingress = Ingress::platform(route.labels[place - 1]);
        entries.push(entry(Fec::Unknown, ingress, Operation::Swap, branches));
    }
}

/// A bypass at a router that it goes through.
pub(crate) fn bypass_entries(
    network: &Network,
    state: &State,
    router_index: usize,
    key: (Around, usize),
    entries: &mut Vec<Mapping>,
) {
    let Some(bypass) = state.tunnels.bypasses.get(&key) else { return };
    let Some(place) = bypass.place(router_index).filter(|place| *place > 0) else { return };
    let (_, link) = bypass.hops[place];
    let stack = std::iter::once(bypass.labels[place]).collect();
    let branch = network.topology.branch(router_index, link, stack);
    let ingress = Ingress::platform(bypass.labels[place - 1]);
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
            Unit::Bypass { router, around } => {
                bypass_entries(network, state, router_index, (around, router), &mut seen);
            }
            _ => {}
        }
        seen
    };
    seen(old) != seen(new)
}
