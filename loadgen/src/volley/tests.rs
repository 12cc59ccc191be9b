//! A volley against collectors of a few lines: one that acknowledges, one that never reads.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use engine::wire::decoder::Decoder;
use engine::wire::frame::encode_ack;
use engine::wire::{Step as Decoded, Tools, Unit, UnitKind, WireLimits};

use super::outcome::Times;
use super::*;
use crate::topology::Shape;
use crate::workload::{Encoder, FrameRole};
use crate::world::World;

/// Reads sessions to their ends; gives back how many mappings each sequence of each had.
fn acknowledge(listener: TcpListener, sessions: usize) -> JoinHandle<Vec<Vec<(u64, usize)>>> {
    let serve = |mut stream: TcpStream| {
        let (mut decoder, mut unit) = (Decoder::new(), Unit::new());
        let mut tools = Tools::new(WireLimits::default());
        let (mut bytes, mut buffer, mut heard) = (Vec::new(), vec![0; 65_536], Vec::new());
        loop {
            unit.clear();
            match decoder.next(&bytes, Micros(0), &mut tools, &mut unit) {
                Decoded::Unit { consumed } => {
                    bytes.drain(..consumed);
                }
                Decoded::Incomplete { .. } => match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return heard,
                    Ok(count) => {
                        bytes.extend_from_slice(&buffer[..count]);
                        continue;
                    }
                },
                other => panic!("{other:?}"),
            }
            if let (UnitKind::Mappings | UnitKind::SnapshotComplete, Some(sequence)) =
                (&unit.kind, unit.sequence)
            {
                heard.push((sequence, unit.mappings.len()));
                let mut ack = Vec::new();
                encode_ack(sequence, &mut ack);
                stream.write_all(&ack).unwrap();
            }
        }
    };
    std::thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..sessions).map(|_| listener.accept().unwrap().0).collect();
        let threads: Vec<_> =
            streams.into_iter().map(|stream| std::thread::spawn(move || serve(stream))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn settings(listener: &TcpListener, acks: bool) -> VolleySettings {
    VolleySettings {
        target: listener.local_addr().unwrap(),
        acks,
        crumb_bytes: None,
        give_up: Duration::from_secs(60),
        samples: true,
    }
}

fn speakers(count: u8) -> impl Iterator<Item = Speaker> {
    (0..count).map(|place| Speaker {
        router: RouterId(IpAddr::from([172, 16, 0, place])),
        source: Some(IpAddr::from([127, 44, 0, 1 + place])),
        boot_time: Micros(1),
        sequence_first: 7,
    })
}

fn pool(clock: Clock) -> Vec<Frame> {
    let shape = Shape { routers: 40, edges: 20, seed: 6 };
    let world = World::generate(&shape.into(), clock.now()).unwrap();
    let edge = world.network.topology.edges[0];
    let table = world.network.table(&world.first, edge, world.start);
    // Every speaker says the same, so no document may name its router.
    let (mut encoder, now) = (Encoder::default(), clock.now());
    let mut frame = |part: &[_]| encoder.mappings(None, FrameRole::Change, part, now, now);
    table.chunks(20).map(&mut frame).collect()
}

#[test]
fn every_shot_arrives_once_in_order_and_is_acknowledged_whatever_the_size_of_a_write() {
    for crumb_bytes in [None, Some(16)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clock = Clock::start();
        let settings = VolleySettings { crumb_bytes, ..settings(&listener, true) };
        let heard = acknowledge(listener, 5);
        let pool = pool(clock);
        let mut volley = Volley::new(settings, clock, speakers(5)).unwrap();
        let began = clock.now();
        let shot = |index: u32| Shot {
            due: began.offset(i64::from(index) * 1_000),
            line: index % 5,
            frame: index / 5 % pool.len() as u32,
        };
        let shots: Vec<Shot> = (0..50).map(shot).collect();
        volley.fire(&pool, &shots, began.offset(60_000_000));
        let samples = volley.take_samples();
        let outcome = volley.take_outcome();
        drop(volley);
        let mappings = |shot: &Shot| pool[shot.frame as usize].mappings;
        assert_eq!((outcome.connected, outcome.frames, outcome.frames_acked), (5, 50, 50));
        assert_eq!(outcome.mappings_acked, shots.iter().map(mappings).sum::<u64>());
        let bytes = |shot: &Shot| pool[shot.frame as usize].bytes.len() as u64;
        assert_eq!(outcome.bytes, shots.iter().map(bytes).sum::<u64>());
        assert_eq!((outcome.broken, outcome.gave_up, outcome.frames_open), (0, 0, 0));
        assert_eq!((samples.len(), outcome.durable.count()), (50, 50));
        assert_eq!((outcome.service.count(), outcome.late.count()), (50, 50));
        let expected: Vec<(u64, usize)> = (0..10)
            .map(|round| (7 + round as u64, pool[round % pool.len()].mappings as usize))
            .collect();
        assert_eq!(heard.join().unwrap(), vec![expected; 5]);
    }
}

#[test]
fn a_line_from_which_nothing_is_taken_gives_up_and_says_what_was_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let clock = Clock::start();
    let give_up = Duration::from_millis(50);
    let settings = VolleySettings { give_up, ..settings(&listener, true) };
    let pool = pool(clock);
    let mut volley = Volley::new(settings, clock, speakers(2)).unwrap();
    let now = clock.now();
    let shots = [0, 1, 1].map(|line| Shot { due: now, line, frame: 0 });
    volley.fire(&pool, &shots, now.offset(60_000_000));
    let outcome = volley.take_outcome();
    assert_eq!((outcome.gave_up, outcome.frames_unacked, outcome.frames_open), (2, 3, 0));
    assert!(outcome.stuck_us_max >= 50_000);
}

/// A deadline ends the order, not the frames: their acks come in a later one.
#[test]
fn what_is_under_way_at_the_deadline_ends_in_a_later_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let clock = Clock::start();
    let settings = settings(&listener, true);
    let pool = pool(clock);
    let mut volley = Volley::new(settings, clock, speakers(2)).unwrap();
    let now = clock.now();
    let shots = [0, 1].map(|line| Shot { due: now, line, frame: 0 });
    // Nobody reads yet, so no ack can come.
    volley.fire(&pool, &shots, now.offset(50_000));
    let first = volley.take_outcome();
    assert_eq!((first.frames, first.frames_acked, first.frames_open), (2, 0, 2));
    let heard = acknowledge(listener, 2);
    volley.fire(&pool, &[], clock.now().offset(60_000_000));
    let second = volley.take_outcome();
    assert_eq!((second.frames, second.frames_acked, second.frames_open), (0, 2, 0));
    drop(volley);
    assert_eq!(heard.join().unwrap().len(), 2);
}

#[test]
fn outcomes_of_several_senders_add_up_across_a_pipe() {
    let mut one = Outcome::default();
    one.frame_is_written(10, Micros(5), Micros(1_005));
    one.frame_is_begun(Micros(5), Micros(505));
    let times = Times { due: Micros(5), begun: Micros(505) };
    one.frame_is_durable(10, times, Micros(9_005), true);
    let text = serde_json::to_string(&one).unwrap();
    let mut sum: Outcome = serde_json::from_str(&text).unwrap();
    sum.add(&one);
    assert_eq!((sum.frames, sum.mappings_acked, sum.acked_last), (2, 20, 9_005));
    assert_eq!(sum.durable.count(), 2);
    for (lateness, ms) in [(&sum.durable, 9.0), (&sum.service, 8.5), (&sum.late, 0.5)] {
        assert!((lateness.max_ms() - ms).abs() < 0.1, "{} is not {ms}", lateness.max_ms());
    }
}
