//! One deliberate fault in what a collector is told: the verdict finds each, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::collector::Collector;
use engine::settings::Settings;
use loadgen::clock::Clock;
use loadgen::sender::{Fleet, SessionPlan};
use loadgen::topology::Shape;
use loadgen::verdict::Verdict;
use loadgen::workload::{Encoder, Frame, FrameRole};
use loadgen::world::World;
use storage::mapping::{Mapping, Operation};

const ROUTERS: usize = 40;

fn wait_until_whole(fleet: &Fleet) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fleet.is_whole() {
        assert!(Instant::now() < deadline, "{:?}", fleet.progress());
        std::thread::yield_now();
    }
}

/// Everything that one router says of the storm, in one frame.
fn said(world: &World, router_index: usize) -> Vec<Mapping> {
    let epoch = &world.plan.epochs[0];
    let reaction = &epoch.reactions[&router_index];
    let states = [&*world.first, &*epoch.state];
    let began = world.began(0).unwrap();
    let mut said = Vec::new();
    for (place, unit) in reaction.units.iter().enumerate() {
        let time = began.offset(reaction.time_us(place));
        world.network.changes(states, router_index, *unit, time, &mut said);
    }
    said
}

/// Performs a storm in which one router's words are altered; returns how many differences the
/// verdict finds in the tables after it, and the first of them in words.
fn differences(alter: impl Fn(&mut Vec<Mapping>)) -> (u64, Vec<String>) {
    let data = tempfile::tempdir().unwrap();
    let collector = Collector::start(Settings {
        data: data.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        http: None,
        shards: 2,
        ..Settings::default()
    })
    .unwrap();
    let clock = Clock::start();
    let shape = Shape { routers: ROUTERS, edges: 8, seed: 6 };
    let world = Arc::new(World::generate(&shape.into(), clock.now()).unwrap());
    let mut encoder = Encoder::default();
    let plans = (0..ROUTERS).map(|router_index| SessionPlan {
        router_index,
        router: world.network.topology.routers[router_index].id,
        source: None,
        strike: None,
        connect_at: clock.now(),
        frames: encoder.first_snapshot(&world, router_index, clock.now()),
    });
    let plans = plans.collect();
    let fleet = Fleet::start(collector.listen_address(), 1, &world, clock, plans).unwrap();
    wait_until_whole(&fleet);
    world.stage(0, clock.now());
    let altered = *world.plan.epochs[0].reactions.keys().next().unwrap();
    let frames = (0..ROUTERS).map(|router_index| {
        if router_index != altered {
            return encoder.changes(&world, 0, router_index);
        }
        let mut said = said(&world, router_index);
        let until = said.last().unwrap().event_time;
        alter(&mut said);
        vec![encoder.mappings(None, FrameRole::Change, &said, until, until)]
    });
    let frames: Vec<Vec<Frame>> = frames.collect();
    let end = frames.iter().flatten().map(|frame| frame.until).max().unwrap();
    fleet.send(frames).unwrap();
    wait_until_whole(&fleet);
    // What is asked about must lie before a sign of life of every router.
    let deadline = Instant::now() + Duration::from_secs(60);
    while clock.now() <= end {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    fleet.sign_of_life().unwrap();
    wait_until_whole(&fleet);
    fleet.finish().unwrap();
    collector.stop().unwrap();
    let mut verdict = Verdict::default();
    verdict.check_tables(&world.key(), data.path(), end, "after").unwrap();
    assert_eq!(verdict.is_exact(), verdict.checks[0].differences == 0);
    (verdict.checks[0].differences, verdict.told)
}

#[test]
fn the_verdict_finds_one_fault_among_everything_that_is_right() {
    let (none, told) = differences(|_| {});
    assert_eq!(none, 0, "{told:?}");
    let (dropped, told) = differences(|said| {
        said.remove(1);
    });
    assert_eq!(dropped, 1, "{told:?}");
    assert!(told[0].contains("expected"), "{told:?}");
    let (delayed, told) = differences(|said| {
        let time = said[1].event_time;
        said[1].event_time = time.offset(1);
    });
    assert_eq!(delayed, 1, "{told:?}");
    assert!(told[0].contains("active since"), "{told:?}");
    let (swapped, told) = differences(|said| {
        let push = |mapping: &Mapping| mapping.operation == Operation::Push;
        let first = said.iter().position(push).unwrap();
        let differs = |other: &Mapping| push(other) && other.branches != said[first].branches;
        let second = said.iter().position(differs).unwrap();
        let branches = said[first].branches.clone();
        said[first].branches = std::mem::replace(&mut said[second].branches, branches);
    });
    assert_eq!(swapped, 2, "{told:?}");
}
