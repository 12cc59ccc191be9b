//! One run's world: the network, what happens to it, and when that became true.
//!
//! In:   a model; the start when the run begins, each act's beginning when it is staged.
//! Out:  `World`, shared by everything that encodes, sends and judges.
//! Law:  each act's time is set once; before that the world is as if the act were not to come.
//! Not:  the answers (`answer`) or the frames (`workload`).

use std::sync::{Arc, OnceLock};

use storage::time::Micros;

use crate::answer::AnswerKey;
use crate::model::Model;
use crate::network::Network;
use crate::scenario::plan::{NothingToHit, Plan};
use crate::state::{Down, State};
use crate::topology::ShapeError;

/// Why no world could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// The network cannot be generated.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The scenario has nothing to hit.
    #[error(transparent)]
    Nothing(#[from] NothingToHit),
}

/// Everything that is true in the model.
#[derive(Debug)]
pub struct World {
    /// The labelled network.
    pub network: Network,
    /// What it has settled to when the run begins: everything works.
    pub first: Arc<State>,
    /// What happens, act by act.
    pub plan: Plan,
    /// Event time of every first mapping.
    pub start: Micros,
    began: Vec<OnceLock<Micros>>,
    ended: Vec<OnceLock<Micros>>,
}

impl World {
    /// Generates network and plan; the first tables hold from `start` on.
    pub fn generate(model: &Model, start: Micros) -> Result<World, WorldError> {
        let network = Network::generate(model)?;
        let first = Arc::new(State::settle(&network, Down::default()));
        let plan = Plan::make(&network, &first, &model.scenario.script(), model.seed)?;
        let times = || plan.acts.iter().map(|_| OnceLock::new()).collect();
        let (began, ended) = (times(), times());
        Ok(World { network, first, plan, start, began, ended })
    }

    /// Says when an act begins. The first call counts; the time that holds is returned.
    pub fn stage(&self, act: usize, begins: Micros) -> Micros {
        *self.began[act].get_or_init(|| begins)
    }

    /// When the act began, if it is staged.
    pub fn began(&self, act: usize) -> Option<Micros> {
        self.began[act].get().copied()
    }

    /// Says that everything of an act is durable and every session that it cut is whole again.
    pub fn close(&self, act: usize, ends: Micros) {
        self.ended[act].get_or_init(|| ends);
    }

    /// When the act was over, if it is.
    pub fn ended(&self, act: usize) -> Option<Micros> {
        self.ended[act].get().copied()
    }

    /// When half of the changes of an act have happened: tables are mixed. `None` when it is not
    /// staged, or changes nothing.
    pub fn middle(&self, act: usize) -> Option<Micros> {
        let mut times = Vec::new();
        for (index, epoch) in self.plan.epochs_of(act) {
            let began = self.epoch_began(index)?;
            for reaction in epoch.reactions.values() {
                let places = 0..reaction.units.len();
                times.extend(places.map(|place| began.offset(reaction.time_us(place))));
            }
        }
        let middle = times.len() / 2;
        let (_, middle, _) = (middle < times.len()).then(|| times.select_nth_unstable(middle))?;
        Some(*middle)
    }

    /// When an epoch began, if its act is staged.
    pub fn epoch_began(&self, epoch: usize) -> Option<Micros> {
        let epoch = &self.plan.epochs[epoch];
        Some(self.began(epoch.act)?.offset(epoch.offset_us))
    }

    /// The answers of this world.
    pub fn key(&self) -> AnswerKey<'_> {
        AnswerKey { world: self, network: &self.network }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Shape;

    #[test]
    fn the_first_beginning_counts() {
        let shape = Shape { routers: 30, edges: 4, seed: 1 };
        let world = World::generate(&shape.into(), Micros(5)).unwrap();
        assert_eq!((world.began(0), world.epoch_began(0)), (None, None));
        assert_eq!(world.stage(0, Micros(9)), Micros(9));
        assert_eq!(world.stage(0, Micros(10)), Micros(9));
        assert_eq!(world.epoch_began(0), Some(Micros(9)));
    }
}
