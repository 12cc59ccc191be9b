//! One run's world: the network, its paths, the storm, and when they became true.
//!
//! In:   a model; the start when the run begins, the failure when it is staged.
//! Out:  `World`, shared by everything that encodes, sends and judges.
//! Law:  the failure's time is set once; before that the world is as it was at the start.
//! Not:  the answers (`answer`) or the frames (`workload`).

use std::sync::OnceLock;

use storage::time::Micros;

use crate::answer::AnswerKey;
use crate::model::Model;
use crate::network::Network;
use crate::paths::Paths;
use crate::scenario::Storm;
use crate::topology::ShapeError;

/// Why no world could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// The network cannot be generated.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// No trunk's loss changes anything.
    #[error("scenario link-down: expected a trunk that carries traffic, found none")]
    NoStorm,
}

/// Everything that is true in the model.
#[derive(Debug)]
pub struct World {
    /// The labelled network.
    pub network: Network,
    /// Paths with every link up.
    pub before: Paths,
    /// The failure that is staged or will be.
    pub storm: Storm,
    /// Event time of every first mapping.
    pub start: Micros,
    failure: OnceLock<Micros>,
}

impl World {
    /// Generates network and storm; the first tables hold from `start` on.
    pub fn generate(model: &Model, start: Micros) -> Result<World, WorldError> {
        let network = Network::generate(model)?;
        let before = Paths::compute(&network.topology, None);
        let storm = Storm::link_down(&network, &before, model.seed).ok_or(WorldError::NoStorm)?;
        Ok(World { network, before, storm, start, failure: OnceLock::new() })
    }

    /// Says when the link fails. The first call counts; the time that holds is returned.
    pub fn stage(&self, failure: Micros) -> Micros {
        *self.failure.get_or_init(|| failure)
    }

    /// When the link failed, if it is staged.
    pub fn failure(&self) -> Option<Micros> {
        self.failure.get().copied()
    }

    /// The answers of this world.
    pub fn key(&self) -> AnswerKey<'_> {
        let storm = self.failure().map(|failure| (&self.storm, failure));
        AnswerKey { network: &self.network, before: &self.before, start: self.start, storm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Shape;

    #[test]
    fn the_first_failure_counts() {
        let shape = Shape { routers: 30, edges: 4, seed: 1 };
        let world = World::generate(&shape.into(), Micros(5)).unwrap();
        assert!(world.key().storm.is_none());
        assert_eq!(world.stage(Micros(9)), Micros(9));
        assert_eq!(world.stage(Micros(10)), Micros(9));
        assert_eq!(world.key().storm.map(|(_, failure)| failure), Some(Micros(9)));
    }
}
