//! One run's world: the network, what happens to it, and when that became true.
//!
//! In:   a model; the start when the run begins, each act's beginning when it is staged.
//! Out:  `World`, shared by everything that encodes, sends and judges.
//! Law:  each act's time is set once; before that the world is as if the act were not to come.
//! Not:  the answers (`answer`) or the frames (`workload`).

use std::sync::{Arc, OnceLock};

use storage::time::Micros;

use crate::answer::AnswerKey;
use crate::faults::clocks::Clocks;
use crate::faults::{Asked, Fault, Moment, Strike};
use crate::model::Model;
use crate::network::{Network, Unit};
use crate::scenario::plan::{Epoch, NothingToHit, Plan};
use crate::sender::Outage;
use crate::services::area::PREFIXES_PER_ROUTER;
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
    /// Since when every first mapping holds.
    pub start: Micros,
    /// What goes wrong on purpose.
    faults: Vec<Asked>,
    /// What routers' clocks say.
    pub clocks: Clocks,
    /// When every first table was durable.
    settled: OnceLock<Micros>,
    /// For each copy of the sessions the outages that it had.
    outages: [OnceLock<Vec<Outage>>; 2],
    began: Vec<OnceLock<Micros>>,
    ended: Vec<OnceLock<Micros>>,
}

impl World {
    /// Generates network and plan; the first tables hold from `start` on.
    pub fn generate(model: &Model, start: Micros) -> Result<World, WorldError> {
        let network = Network::generate(model)?;
        let first = Arc::new(State::settle(&network, Down::default()));
        let plan = Plan::make(&network, &first, &model.script(), model.seed)?;
        let routers = network.topology.routers.len();
        let steps_at: Option<Vec<(usize, i64)>> = model
            .has(Fault::ClockStep)
            .then(|| (0..routers).map(|router| plan.middle_of(router)).collect());
        let skew = model.has(Fault::ClockSkew);
        let clocks = Clocks::draw(skew, steps_at.as_deref(), routers, model.seed);
        let times = || plan.acts.iter().map(|_| OnceLock::new()).collect();
        let (began, ended) = (times(), times());
        let (settled, outages) = Default::default();
        let faults = model.faults();
        Ok(World { network, first, plan, start, faults, clocks, settled, outages, began, ended })
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

    /// Says that every first table is durable.
    pub fn settle(&self, at: Micros) {
        self.settled.get_or_init(|| at);
    }

    /// When every first table was durable: the start, where nobody has said so.
    pub fn settled(&self) -> Micros {
        self.settled.get().copied().unwrap_or(self.start)
    }

    /// Says which outages the sessions of this copy had. The first call counts.
    pub fn tell_outages(&self, copy: usize, outages: Vec<Outage>) {
        self.outages[copy].get_or_init(|| outages);
    }

    /// The outages of a copy's sessions, as far as they were told.
    pub fn outages(&self, copy: usize) -> &[Outage] {
        self.outages[copy].get().map_or(&[], |outages| outages)
    }

    /// What strikes the router's session.
    pub fn strike(&self, router_index: usize) -> Option<Strike> {
        Asked::strike(&self.faults, router_index, self.plan.speaks(router_index))
    }

    /// Whether its session has been struck by this: in changes only if it has said any.
    pub fn is_struck(&self, router_index: usize, fault: Fault) -> bool {
        let strike = self.strike(router_index).filter(|strike| strike.fault == fault);
        let spoke = || {
            let (act, _) = self.plan.middle_of(router_index);
            self.plan.speaks(router_index) && self.began(act).is_some()
        };
        strike.is_some_and(|strike| strike.at == Moment::Snapshot || spoke())
    }

    /// What the router's clock says at a moment.
    pub fn said(&self, router_index: usize, at: Micros) -> Micros {
        let clock = self.clocks.of(router_index);
        let step = clock.step.filter(|step| {
            let began = self.began.get(step.act).and_then(OnceLock::get);
            began.is_some_and(|began| began.offset(step.offset_us) <= at)
        });
        at.offset(clock.skew_us + step.map_or(0, |step| step.by_us))
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

    /// When tunnels of an act go over bypasses: something has failed and everybody has reacted, and
    /// no head has signalled anew. `None` when it is not staged, or no such time is in it.
    pub fn repaired(&self, act: usize) -> Option<Micros> {
        let epochs: Vec<(usize, &Epoch)> = self.plan.epochs_of(act).collect();
        let signals = |pair: &&[(usize, &Epoch)]| {
            !Arc::ptr_eq(&pair[0].1.state.tunnels, &pair[1].1.state.tunnels)
        };
        let pair = epochs.windows(2).find(signals)?;
        let [(index, failed), (next, _)] = [pair[0], pair[1]];
        let began = self.epoch_began(index)?;
        let reacted_us = failed.span_us().map_or(0, |(_, last)| last - failed.offset_us);
        let at = began.offset(reacted_us);
        (at < self.epoch_began(next)?).then_some(at)
    }

    /// Entries that have to be looked at, over all routers, to say what an act changes in VPNs of
    /// many prefixes: each time all of them.
    pub fn entries_of_vpns(&self, act: usize) -> usize {
        let reactions = self.plan.epochs_of(act).flat_map(|(_, epoch)| epoch.reactions.values());
        let entries = |unit: &Unit| match unit {
            Unit::Vpn(vpn_index) if self.network.churns => {
                let vpn = &self.network.vpns[*vpn_index];
                vpn.sites.len() * usize::from(vpn.prefixes)
            }
            Unit::Area(_) => 2 * usize::from(PREFIXES_PER_ROUTER),
            _ => 0,
        };
        reactions.flat_map(|reaction| &reaction.units).map(entries).sum()
    }

    /// When an epoch began, if its act is staged.
    pub fn epoch_began(&self, epoch: usize) -> Option<Micros> {
        let epoch = &self.plan.epochs[epoch];
        Some(self.began(epoch.act)?.offset(epoch.offset_us))
    }

    /// The answers of this world.
    pub fn key(&self) -> AnswerKey<'_> {
        AnswerKey { world: self, network: &self.network, copy: 0 }
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
