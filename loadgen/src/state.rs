//! Who is down, and what the network has settled to because of it.
//!
//! In:   a topology; links and routers that fail, come back, or carry nobody through.
//! Out:  `Down`, and `State`: paths that hold once every router has reacted.
//! Law:  equal `Down` make equal states.
//! Not:  when which router has reacted (`scenario`), what its table then says (`network`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::paths::Paths;
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
}

impl State {
    /// Settles. One Dijkstra per provider edge.
    pub fn settle(topology: &Topology, down: Down) -> State {
        let paths = Arc::new(Paths::compute(topology, &down));
        State { down, paths }
    }
}
