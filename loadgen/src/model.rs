//! The workload model: the few values that everything of a run is computed from.
//!
//! In:   a shape or a map, a scenario, and a seed.
//! Out:  `Model`, and the topology that it stands for.
//! Law:  equal models make equal worlds.
//! Not:  what follows from them (`world`), or at which pace it is told (`stage`).

use std::sync::Arc;

use crate::faults::{Asked, Fault};
use crate::map::Map;
use crate::scenario::{Scenario, Script};
use crate::services::Services;
use crate::topology::{Shape, ShapeError, Topology};

/// What a world is computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Where routers and links come from.
    pub graph: Graph,
    /// What routers have labels for.
    pub services: Services,
    /// What happens there.
    pub scenario: Scenario,
    /// What goes wrong with sessions, beside what the scenario says.
    pub faults: Vec<Asked>,
    /// Addresses of IPv6: router ids, links, loopbacks.
    pub ipv6: bool,
    /// Same seed, same network, same storm.
    pub seed: u64,
}

/// Where routers and links come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Graph {
    /// A shape: regions, metros, access rings.
    Generated {
        /// Routers in all.
        routers: usize,
        /// Provider edges among them.
        edges: usize,
    },
    /// A map of a real network.
    Mapped {
        /// The map.
        map: Arc<Map>,
        /// Provider edges behind each of its places.
        edges_per_place: usize,
    },
}

impl From<Shape> for Model {
    /// With the default services and scenario.
    fn from(Shape { routers, edges, seed }: Shape) -> Model {
        let (services, scenario, faults) = Default::default();
        let graph = Graph::Generated { routers, edges };
        Model { graph, services, scenario, faults, ipv6: false, seed }
    }
}

impl Model {
    /// Everything that goes wrong on purpose, each once.
    pub fn faults(&self) -> Vec<Asked> {
        let asked = [&self.faults, &self.scenario.script().faults].map(Clone::clone).concat();
        let first = |fault| asked.iter().find(|asked| asked.fault == fault).copied();
        Fault::ALL.into_iter().filter_map(first).collect()
    }

    /// Whether this goes wrong.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults().iter().any(|asked| asked.fault == fault)
    }

    /// What happens, with everything that goes wrong on purpose.
    pub fn script(&self) -> Script {
        Script { faults: self.faults(), ..self.scenario.script() }
    }

    /// Routers and links. Errors: `ShapeError` names the number that cannot be.
    pub fn topology(&self) -> Result<Topology, ShapeError> {
        let topology = match &self.graph {
            Graph::Generated { routers, edges } => {
                let (routers, edges, seed) = (*routers, *edges, self.seed);
                Topology::generate(&Shape { routers, edges, seed })
            }
            Graph::Mapped { map, edges_per_place } => Topology::over(map, *edges_per_place),
        }?;
        let topology = if self.ipv6 { topology.with_ipv6() } else { topology };
        Ok(match self.services.unnumbered {
            true => topology.with_unnumbered(self.seed),
            false => topology,
        })
    }
}
