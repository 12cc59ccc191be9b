//! What a network and a scenario ask of a collector: the demand that a plan is made for.
//!
//! In:   a model.
//! Out:  routers, mappings of a table, and the largest storm: how much changes, in how long.
//! Law:  counted on the same world that a run of the model would tell.
//! Not:  what a host needs for it (`tuning::plan`), usual days: churn is an assumption.

use storage::mapping::Mapping;
use storage::time::{MICROS_PER_SECOND, Micros};
use tuning::plan::Demand;

use crate::model::Model;
use crate::scenario::plan::Epoch;
use crate::share::share_out;
use crate::world::{World, WorldError};

/// Tables that are counted; of more routers, every so-manieth stands for all.
const TABLES_MAX: usize = 2_000;
/// A storm is over no sooner: the rate of a shorter one says nothing.
const SECONDS_MIN: f64 = 0.1;

/// Puts what the model says into `demand`. Returns what the largest storm is, in words.
///
/// Errors: the world cannot be generated.
pub fn take_from(model: &Model, demand: &mut Demand) -> Result<String, WorldError> {
    let world = World::generate(model, Micros(0))?;
    let network = &world.network;
    let routers = network.topology.routers.len();
    let step = routers.div_ceil(TABLES_MAX);
    let counted = routers.div_ceil(step);
    let sizes =
        share_out(counted, |place| network.table(&world.first, place * step, Micros(0)).len());
    let all = sizes.iter().sum::<usize>() as f64 * routers as f64 / counted as f64;
    demand.routers = routers as f64;
    demand.mappings = all / routers as f64;
    let mut largest = (0, 0, "nothing changes after the cold start".to_owned());
    for (act, planned) in world.plan.acts.iter().enumerate() {
        let changes: usize =
            share_out(routers, |router| changes_of(&world, act, router)).into_iter().sum();
        let spans = world.plan.epochs_of(act).filter_map(|(_, epoch)| Epoch::span_us(epoch));
        let (first, last) =
            spans.fold((i64::MAX, 0), |(first, last), span| (first.min(span.0), last.max(span.1)));
        if changes > largest.0 {
            largest = (changes, last.saturating_sub(first), planned.what.clone());
        }
    }
    let (changes, span_us, what) = largest;
    demand.burst_share = (changes as f64 / all.max(1.0)).min(1.0);
    demand.burst_seconds = (span_us as f64 / MICROS_PER_SECOND as f64).max(SECONDS_MIN);
    Ok(what)
}

fn changes_of(world: &World, act: usize, router_index: usize) -> usize {
    let mut changes: Vec<Mapping> = Vec::new();
    for (index, epoch) in world.plan.epochs_of(act) {
        let Some(reaction) = epoch.reactions.get(&router_index) else { continue };
        let states = [world.plan.before(&world.first, index, router_index), &*epoch.state];
        for unit in &reaction.units {
            world.network.changes(states, router_index, *unit, Micros(0), &mut changes);
        }
    }
    changes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::topology::Shape;

    #[test]
    fn a_demand_counts_what_a_run_would_tell() {
        let model = Model::from(Shape { routers: 100, edges: 20, seed: 2 });
        let mut demand = Demand::default();
        let what = take_from(&model, &mut demand).unwrap();
        assert!(what.starts_with("link ") && what.ends_with(" down"), "{what}");
        let world = World::generate(&model, Micros(0)).unwrap();
        let table = |router| world.network.table(&world.first, router, Micros(0)).len();
        let all: usize = (0..100).map(table).sum();
        assert_eq!(demand.routers, 100.0);
        assert_eq!(demand.mappings, all as f64 / 100.0);
        assert!(demand.burst_share > 0.0 && demand.burst_share < 1.0, "{demand:?}");
        assert!(demand.burst_seconds >= SECONDS_MIN, "{demand:?}");
        let quiet = Model { scenario: Scenario::ColdStart, ..model };
        take_from(&quiet, &mut demand).unwrap();
        assert_eq!((demand.burst_share, demand.burst_seconds), (0.0, SECONDS_MIN));
    }
}
