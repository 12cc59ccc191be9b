//! What the generator is late by, and what it is not; what a session says again.

use super::*;
use crate::clock::Clock;
use crate::topology::Shape;
use crate::world::World;

fn frame(intended: i64) -> Frame {
    let mut bytes = Vec::new();
    engine::wire::frame::encode_empty(FrameType::Mappings, 0, &mut bytes);
    Frame {
        bytes,
        role: FrameRole::Change,
        intended: Micros(intended),
        mappings: 1,
        document_bytes: 0,
        until: Micros(intended),
        sequence: 0,
    }
}

/// What the generator was late by with each of these (intended, free, now), connected from 0.
fn late(late_connect_us: i64, sends: &[(i64, i64, i64)]) -> Vec<u64> {
    let plan = SessionPlan {
        router_index: 0,
        router: storage::mapping::RouterId([172, 16, 0, 1].into()),
        source: None,
        strike: None,
        connect_at: Micros(100),
        frames: sends.iter().map(|(intended, ..)| frame(*intended)).collect(),
    };
    let session = Session::new(plan);
    session.begins_to_connect(Micros(100 + late_connect_us));
    let late = sends.iter().map(|(_, free, now)| {
        session.is_free(Micros(*free));
        match session.next(Micros(*now)) {
            Next::Counted { sent, .. } => sent.late_us,
            _ => panic!("every frame is due"),
        }
    });
    late.collect()
}

fn thread() -> ThreadState {
    let clock = Clock::start();
    let shape = Shape { routers: 24, edges: 4, seed: 1 };
    let world = Arc::new(World::generate(&shape.into(), clock.now()).unwrap());
    let target = "127.0.0.1:1".parse().unwrap();
    ThreadState::new(Shared { target, world, clock, progress: Arc::default() })
}

/// A router whose connection has fallen silent opens another; what it sent over the first is read
/// all the same, and acknowledged late.
#[test]
fn frames_that_hello_has_promised_again_are_sent_whatever_an_earlier_connection_still_says() {
    let thread = thread();
    // Whatever is planned meanwhile is due.
    let now = thread.shared.clock.now().offset(60_000_000);
    let plan = SessionPlan {
        router_index: 0,
        router: thread.shared.world.network.topology.routers[0].id,
        source: None,
        strike: None,
        connect_at: Micros(0),
        frames: vec![frame(1), frame(2)],
    };
    let session = Session::new(plan);
    let sent = || match session.next(now) {
        Next::Counted { bytes, sent } => {
            session.keep(sent.sequence, bytes);
            sent.sequence
        }
        _ => panic!("every frame is due"),
    };
    session.open(&thread);
    assert_eq!([sent(), sent()], [1, 2]);
    // Before the next hello an ack counts, over whichever connection.
    session.acked(1, 1, now, &thread);
    session.open(&thread);
    session.acked(1, 2, now, &thread);
    assert_eq!(sent(), 2);
    session.acked(2, 2, now, &thread);
    assert_eq!(sent(), 3);
}

#[test]
fn the_generator_is_late_by_what_nobody_else_held_up() {
    // At once; 30 late; 30 late behind a window that was closed until 20 before.
    assert_eq!(late(0, &[(1_000, 500, 1_000), (1_010, 1_005, 1_040)]), [1, 30]);
    assert_eq!(late(0, &[(1_000, 1_010, 1_030)]), [20]);
}

#[test]
fn a_connection_that_was_begun_late_makes_late_what_was_due_before_it() {
    // Begun 50 late, open at 400: the 250 that connecting took are not the generator's.
    assert_eq!(late(50, &[(100, 400, 400), (600, 450, 600)]), [50, 1]);
}
