//! Model: how long it takes to compute everything that a link failure changes, in a large network.
//!
//! In:   Kdl, the largest map that there is (754 places), with four provider edges at each place;
//!       a generated network of that size where no such map is at hand, which is said aloud.
//! Out:  `model`: seconds from the map to the last change; beside it where they went.
//! Law:  every change of every router is computed, and counted.
//! Not:  encoding and sending (`generator`), whether the changes are right (loadgen's tests).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use loadgen::map::Map;
use loadgen::model::{Graph, Model};
use loadgen::share::share_out;
use loadgen::topology::Shape;
use loadgen::world::World;
use storage::mapping::Mapping;
use storage::time::Micros;

use crate::bench::{Bench, BenchError, Run};

pub(crate) const BENCH: Bench = Bench {
    name: "model",
    about: "the time to compute all changes of a link failure in Kdl with 4 edges per place",
    run,
};

/// The map, in the folder that this variable names.
const FOLDER: &str = "STORMDRAIN_TOPOLOGIES";
const MAPS: [&str; 2] = ["Kdl.gml", "Kdl.graphml"];
const PLACES: usize = 754;
const EDGES_PER_PLACE: usize = 4;
/// Fewest places of a small run.
const PLACES_MIN: usize = 12;
const SEED: u64 = 1;
const START: Micros = Micros(1_795_323_900_000_000);

fn run(run: &mut Run) -> Result<(), BenchError> {
    let (model, of) = model(run)?;
    run.note(&of)?;
    let began = Instant::now();
    let world = World::generate(&model, START);
    let world = world.map_err(|error| std::io::Error::other(error.to_string()))?;
    world.stage(0, START);
    let planned = began.elapsed();
    let network = &world.network;
    let routers = network.topology.routers.len();
    let counts = share_out(routers, |router_index| {
        let mut changes: Vec<Mapping> = Vec::new();
        let mut count = 0;
        for (index, epoch) in world.plan.epochs_of(0) {
            let Some(reaction) = epoch.reactions.get(&router_index) else { continue };
            let states = [world.plan.before(&world.first, index, router_index), &epoch.state];
            for (place, unit) in reaction.units.iter().enumerate() {
                let time = START.offset(reaction.time_us(place));
                network.changes(states, router_index, *unit, time, &mut changes);
                count += changes.len();
                changes.clear();
            }
        }
        count
    });
    let took = began.elapsed();
    let (changes, speakers) = (counts.iter().sum::<usize>(), counts.iter().filter(|it| **it > 0));
    run.note(format!(
        "{routers} routers, {} FECs, {}: {changes} changes of {} routers; network, paths and plan \
         {:.2} s, entries {:.2} s",
        network.fec_count(),
        world.plan.acts[0].what,
        speakers.count(),
        planned.as_secs_f64(),
        (took - planned).as_secs_f64()
    ))?;
    if changes == 0 {
        run.fault("nothing changes")?;
    }
    run.figure(BENCH.name, took.as_secs_f64(), 1.0, "s from the map to the last change")
}

/// What is computed, and what it is.
fn model(run: &mut Run) -> Result<(Model, String), BenchError> {
    let places = run.scaled(PLACES, PLACES_MIN);
    let routers = places * (1 + EDGES_PER_PLACE);
    let shape = Shape { routers, edges: places * EDGES_PER_PLACE * 3 / 4, seed: SEED };
    let generated = Model::from(shape);
    if places < PLACES {
        return Ok((generated, format!("a generated network of {routers} routers")));
    }
    let folder = std::env::var_os(FOLDER).map(PathBuf::from).unwrap_or_default();
    let paths = MAPS.map(|name| folder.join(name));
    let Some(path) = paths.into_iter().find(|path| path.exists()) else {
        let said = format!(
            "NOT over Kdl: {FOLDER} names no folder with {}; instead a generated network of \
             {routers} routers",
            MAPS.join(" or ")
        );
        return Ok((generated, said));
    };
    let map = Map::read(&path).map_err(|error| std::io::Error::other(error.to_string()))?;
    let graph = Graph::Mapped { map: Arc::new(map), edges_per_place: EDGES_PER_PLACE };
    Ok((Model { graph, ..generated }, format!("{}, 4 edges per place", path.display())))
}
