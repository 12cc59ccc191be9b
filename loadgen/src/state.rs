//! Who is down, and what the network has settled to because of it.
//!
//! In:   a network; links and routers that fail, come back, or carry nobody through.
//! Out:  `Down`, and `State`: paths, tunnels and trees that hold once every router has reacted.
//! Law:  the same events in the same order make the same states.
//! Not:  when which router has reacted (`scenario`), what its table then says (`network`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::mapping::Label;

use crate::network::{Network, Unit};
use crate::paths::Paths;
use crate::services::area::Bindings;
use crate::services::l3vpn::{self, Announced, SitePrefix};
use crate::services::labels::Labels;
use crate::services::p2mp::Trees;
use crate::services::rsvp::Tunnels;
use crate::topology::Topology;

/// What does not work.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Down {
    /// Indices of links that are down.
    pub links: BTreeSet<usize>,
    /// Indices of routers that are down: they forward nothing and say nothing.
    pub routers: BTreeSet<usize>,
    /// Indices of routers that nobody may go through (the overload bit of IS-IS, RFC 3277): they
    /// can be reached and go on speaking.
    pub drained: BTreeSet<usize>,
}

impl Down {
    /// One link.
    pub fn link(link_index: usize) -> Down {
        Down { links: BTreeSet::from([link_index]), ..Down::default() }
    }

    /// Whether packets can go over the link: itself and both of its ends work.
    pub fn carries(&self, topology: &Topology, link_index: usize) -> bool {
        let ends = topology.links[link_index].ends;
        !self.links.contains(&link_index) && !ends.iter().any(|end| self.routers.contains(end))
    }

    /// Routers that see with their own eyes in what the two differ: the ends of links, the
    /// neighbours of routers that went or came, drained routers themselves.
    pub fn witnesses(&self, other: &Down, topology: &Topology) -> BTreeSet<usize> {
        let mut witnesses: BTreeSet<usize> = BTreeSet::new();
        for link in self.links.symmetric_difference(&other.links) {
            witnesses.extend(topology.links[*link].ends);
        }
        for router in self.routers.symmetric_difference(&other.routers) {
            let links = topology.routers[*router].links.iter();
            witnesses.extend(links.map(|link| topology.links[*link].far_end(*router).0));
        }
        witnesses.extend(self.drained.symmetric_difference(&other.drained));
        witnesses.retain(|router| !other.routers.contains(router));
        witnesses
    }
}

/// What the network has settled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What does not work.
    pub down: Down,
    /// Shortest paths of what works.
    pub paths: Arc<Paths>,
    /// Tunnels as they were last signalled.
    pub tunnels: Arc<Tunnels>,
    /// Trees over these paths.
    pub trees: Arc<Trees>,
    /// Customers' prefixes that are announced.
    pub announced: Arc<Announced>,
    /// Prefixes of the area of a recorded storm, as they were bound last.
    pub bindings: Arc<Bindings>,
    /// For each router its units that come and go, in order.
    passing: Arc<BTreeMap<usize, BTreeSet<Unit>>>,
}

impl State {
    /// Settles from nothing, everything signalled. One Dijkstra per provider edge.
    pub fn settle(network: &Network, down: Down) -> State {
        let paths = Arc::new(Paths::compute(&network.topology, &down));
        let (tunnels, trees, passing, announced, bindings) = Default::default();
        let was = down.clone();
        let mut empty = State { down: was, paths, tunnels, trees, announced, bindings, passing };
        if network.churns {
            let mut labels = Labels::default();
            let routes = l3vpn::routes(&network.vpns);
            let given =
                routes.map(|route| (route, labels.take(network.topology.edges[route.site])));
            empty.announced = Arc::new(given.collect());
        }
        if let Some(area) = &network.area {
            let mut labels = empty.labels(network);
            let bound = area.prefixes().map(|prefix| (prefix, area.bind(false, &mut labels)));
            empty.bindings = Arc::new(bound.collect());
        }
        let settled = empty.follow(network, down, &empty.paths);
        settled.signalled(network).unwrap_or(settled)
    }

    /// What follows from this state when other things are down: paths and trees. Tunnels stay as
    /// they were signalled, and take their bypasses.
    pub fn follow(&self, network: &Network, down: Down, paths: &Arc<Paths>) -> State {
        let mut labels = self.labels(network);
        let trees = match network.trees.is_empty() {
            true => Arc::clone(&self.trees),
            false => Arc::new(Trees::build(network, &self.trees, paths, &mut labels)),
        };
        let (paths, tunnels) = (Arc::clone(paths), Arc::clone(&self.tunnels));
        State { down, paths, tunnels, trees, ..self.clone() }.indexed()
    }

    /// The same with every tunnel signalled anew that has to be. `None` = none has.
    pub fn signalled(&self, network: &Network) -> Option<State> {
        if network.tunnels.is_empty() {
            return None;
        }
        let mut labels = self.labels(network);
        let tunnels = Tunnels::signal(network, &self.tunnels, &self.paths, &mut labels);
        let differs = tunnels != *self.tunnels;
        differs.then(|| State { tunnels: Arc::new(tunnels), ..self.clone() }.indexed())
    }

    /// The same with one prefix more or fewer: what is announced is withdrawn, and the other way
    /// round.
    pub fn toggled(&self, network: &Network, route: SitePrefix) -> State {
        let mut announced = Announced::clone(&self.announced);
        if announced.remove(&route).is_none() {
            let label = self.labels(network).take(network.topology.edges[route.site]);
            announced.insert(route, label);
        }
        State { announced: Arc::new(announced), ..self.clone() }
    }

    /// The same with this prefix announced under this label of its edge, if it is free.
    pub fn announcing(&self, network: &Network, route: SitePrefix, label: Label) -> State {
        let edge = network.topology.edges[route.site];
        let label = self.labels(network).take_this(edge, label);
        let mut announced = Announced::clone(&self.announced);
        announced.insert(route, label);
        State { announced: Arc::new(announced), ..self.clone() }
    }

    /// The same with a new label for each of these prefixes, all of one edge.
    pub fn relabelled(&self, network: &Network, routes: &[SitePrefix]) -> State {
        let mut labels = self.labels(network);
        let mut announced = Announced::clone(&self.announced);
        for route in routes {
            announced.insert(*route, labels.take(network.topology.edges[route.site]));
        }
        State { announced: Arc::new(announced), ..self.clone() }
    }

    /// The same with these prefixes of the area bound anew: with new labels, and those that went
    /// over the link go around it, the others back.
    pub fn rebound(&self, network: &Network, prefixes: &[(usize, u16)]) -> State {
        let mut bindings = Bindings::clone(&self.bindings);
        if let Some(area) = &network.area {
            let mut labels = self.labels(network);
            for prefix in prefixes {
                let around = bindings.get(prefix).is_some_and(|binding| !binding.around);
                bindings.insert(*prefix, area.bind(around, &mut labels));
            }
        }
        State { bindings: Arc::new(bindings), ..self.clone() }
    }

    /// Units of this router that come and go, each once, in order.
    pub fn passing(&self, router_index: usize) -> impl Iterator<Item = Unit> {
        self.passing.get(&router_index).into_iter().flatten().copied()
    }

    fn indexed(mut self) -> State {
        let mut passing: BTreeMap<usize, BTreeSet<Unit>> = BTreeMap::new();
        for (router_index, unit) in self.tunnels.units().chain(self.trees.units()) {
            passing.entry(router_index).or_default().insert(unit);
        }
        self.passing = Arc::new(passing);
        self
    }

    fn labels(&self, network: &Network) -> Labels {
        let edge =
            |(route, label): (&SitePrefix, &Label)| (network.topology.edges[route.site], *label);
        let announced = self.announced.iter().map(edge);
        let bound = network.area.iter().flat_map(|area| area.labels(&self.bindings));
        let signalled = self.tunnels.labels().chain(self.trees.labels());
        Labels::in_use(signalled.chain(announced).chain(bound))
    }
}
