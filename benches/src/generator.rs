//! Generator: what the senders of storms can offer from one core, and how late they are.
//!
//! In:   distinct frames that were compressed beforehand; a sink on another core.
//! Out:  its rate over that of a loop that only sends the same bytes; lateness at half of it.
//! Law:  both loops send the same frames in the same order over as many connections; nothing is
//!       encoded while anything is timed.
//! Not:  what a collector makes of it (`end-to-end`, `burst`).

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use loadgen::clock::Clock;
use loadgen::sender::connect::connect;
use loadgen::volley::{Lateness, Outcome, Shot, Speaker, Volley, VolleySettings};
use loadgen::workload::Frame;
use storage::time::Micros;

use crate::bench::{Bench, BenchError, Run};
use crate::corpus::{self, Face, Writer};
use crate::process::on_cpu;
use crate::report::{median, spread};
use crate::storm::reader::Reader;
use crate::storm::{PHASE, told};

pub(crate) const BENCH: Bench = Bench {
    name: "generator",
    about: "what the senders can offer from one core, beside a loop that only sends the bytes",
    run: rate,
};

pub(crate) const LAG_BENCH: Bench = Bench {
    name: "generator-lag",
    about: "how late sends are with 17,000 routers at half of what one core can offer",
    run: lag,
};

const CONNECTIONS: usize = 2_000;
/// Routers of one process: as many as descriptors allow.
const ROUTERS: usize = 17_000;
const FRAME_MAPPINGS: usize = 100;
const FACES: usize = 200;
const ROUNDS: usize = 10;
/// Frames of each connection that are sent as fast as they go, in one of the repeats.
const FRAMES_EACH: usize = 60;
const REPEATS: usize = 5;
/// The same before lateness is measured: what so many routers can offer.
const LAG_FRAMES_EACH: usize = 10;
/// Lateness is measured so often: one stall of a virtual CPU for 10 ms is 0.1 % of ten seconds.
const LAG_REPEATS: usize = 5;
/// How long the load is held at which lateness is measured.
const HELD: Duration = Duration::from_secs(10);
/// The senders' CPU, and the sink's: a child stays where its parent's thread was.
const SENDER_CPU: usize = 0;
const SINK_CPU: usize = 1;

fn rate(run: &mut Run) -> Result<(), BenchError> {
    if crate::host::cpus() < 2 {
        return run.skipped(BENCH.name, "one CPU: the sink would be measured too");
    }
    let connections = run.scaled(CONNECTIONS, 10);
    let faces = run.scaled(FACES, 4);
    let measured = measure(connections, faces, run.scaled(FRAMES_EACH, 2))?;
    let ratios: Vec<f64> = measured.iter().map(|(volley, bare, _)| volley / bare).collect();
    let blocked: u64 = measured.iter().map(|(.., outcome)| outcome.times_blocked).sum();
    run.note(format!("{connections} connections, frames of {FRAME_MAPPINGS} mappings"))?;
    run.note(format!("ratio of the repeats: {}; socket full {blocked} times", spread(&ratios)))?;
    run.figure(
        BENCH.name,
        median(&measured.iter().map(|it| it.0).collect::<Vec<_>>()),
        median(&measured.iter().map(|it| it.1).collect::<Vec<_>>()),
        "mappings/s that the volley offers from one core / that a loop of writes sends",
    )
}

fn lag(run: &mut Run) -> Result<(), BenchError> {
    if crate::host::cpus() < 2 {
        return run.skipped(LAG_BENCH.name, "one CPU: the sink would be measured too");
    }
    let routers = run.scaled(ROUTERS, 20);
    let faces = run.scaled(FACES, 4);
    let flat_out = routers * run.scaled(LAG_FRAMES_EACH, 2);
    let held = run.brief(HELD);
    run.note(format!("{routers} routers, {held:?} at half of what they offer at most, in turn:"))?;
    let mut of_volley = Vec::new();
    let mut of_writes = Vec::new();
    for _ in 0..LAG_REPEATS {
        let (capacity, outcome) =
            beside_a_sink(|target| held_at_half(target, routers, faces, flat_out, held))?;
        let frames = held_frames(capacity, held);
        let writes = beside_a_sink(|target| {
            engine::io::sockets::raise_descriptor_limit()?;
            let pool = Pool::new(faces, Clock::start().now());
            Bare::connect(target, routers)?.send_when_due(&pool, frames, held)
        })?;
        run.note(format!("half of {capacity:.0} mappings/s; {}", told(&outcome)))?;
        run.note(format!("  the volley is late by {}", quantiles(&outcome.late)))?;
        run.note(format!("  a loop of writes that does nothing else, {}", quantiles(&writes)))?;
        let unsent = outcome.frames_unsent + outcome.connect_failures + outcome.broken;
        if unsent > 0 {
            run.fault(format!("{unsent} frames or connections failed"))?;
        }
        of_volley.push(outcome.late.quantile_ms(0.999));
        of_writes.push(writes.quantile_ms(0.999));
    }
    run.note(format!("p99.9 of the loop of writes: {} ms", spread(&of_writes)))?;
    run.note(format!("p99.9 of the volley: {} ms", spread(&of_volley)))?;
    run.figure(
        LAG_BENCH.name,
        median(&of_volley),
        1.0,
        "ms; 99.9 % of sends begin within so much of their intended time, median of the repeats",
    )
}

fn quantiles(late: &Lateness) -> String {
    let [median, high, higher] = [0.5, 0.99, 0.999].map(|share| late.quantile_ms(share));
    format!("p50 {median:.2} p99 {high:.2} p99.9 {higher:.2} max {:.2} ms", late.max_ms())
}

/// What so many routers offer at most, and what became of half of it.
fn held_at_half(
    target: SocketAddr,
    routers: usize,
    faces: usize,
    flat_out: usize,
    held: Duration,
) -> Result<(f64, Outcome), BenchError> {
    engine::io::sockets::raise_descriptor_limit()?;
    let clock = Clock::start();
    let pool = Pool::new(faces, clock.now());
    let mut volley = volley(target, clock, routers)?;
    volley.open_all();
    // What connecting took is no lateness of sends.
    let mut earlier = volley.take_outcome();
    let mut rates = Vec::new();
    for _ in 0..REPEATS {
        let now = clock.now();
        let shots: Vec<Shot> = (0..flat_out).map(|index| pool.shot(now, index, routers)).collect();
        let began = Instant::now();
        volley.fire(&pool.frames, &shots, now.offset(PHASE.as_micros() as i64));
        rates.push((flat_out * FRAME_MAPPINGS) as f64 / began.elapsed().as_secs_f64());
        earlier.add(&volley.take_outcome());
    }
    let capacity = median(&rates);
    let frames = held_frames(capacity, held);
    let began = clock.now().offset(100_000);
    let due = |index| began.offset(due_us(index, frames, held));
    let shots: Vec<Shot> = (0..frames).map(|index| pool.shot(due(index), index, routers)).collect();
    let end = began.offset((held + PHASE).as_micros() as i64);
    volley.fire(&pool.frames, &shots, end);
    let mut outcome = volley.take_outcome();
    outcome.connected += earlier.connected;
    outcome.connect_failures += earlier.connect_failures;
    outcome.broken += earlier.broken;
    outcome.frames_unsent += earlier.frames_unsent;
    Ok((capacity, outcome))
}

/// Frames that are half of what could be offered meanwhile.
fn held_frames(capacity: f64, held: Duration) -> usize {
    (capacity / 2.0 * held.as_secs_f64()) as usize / FRAME_MAPPINGS
}

/// When the frame is due, microseconds after the first.
fn due_us(index: usize, frames: usize, held: Duration) -> i64 {
    held.as_micros() as i64 * index as i64 / frames.max(1) as i64
}

/// Does `work` on the senders' CPU while a process that only reads runs on the sink's, which is
/// gone when the thread that has started it is.
fn beside_a_sink<T: Send>(
    work: impl FnOnce(SocketAddr) -> Result<T, BenchError> + Send,
) -> Result<T, BenchError> {
    on_cpu(SINK_CPU, || {
        let sink = Reader::start(&[])?;
        on_cpu(SENDER_CPU, || work(sink.address))
    })
}

/// Mappings in a second by the volley and by the bare loop, in turn, and what became of the former.
fn measure(
    connections: usize,
    faces: usize,
    frames_each: usize,
) -> Result<Vec<(f64, f64, Outcome)>, BenchError> {
    beside_a_sink(|target| {
        engine::io::sockets::raise_descriptor_limit()?;
        let clock = Clock::start();
        let pool = Pool::new(faces, clock.now());
        let mut volley = volley(target, clock, connections)?;
        volley.open_all();
        let mut bare = Bare::connect(target, connections)?;
        let frames = connections * frames_each;
        let mappings = (frames * FRAME_MAPPINGS) as f64;
        let mut measured = Vec::new();
        for repeat in 0..REPEATS {
            let timed = |work: &mut dyn FnMut() -> Result<(), BenchError>| {
                let began = Instant::now();
                work()?;
                Ok::<f64, BenchError>(mappings / began.elapsed().as_secs_f64())
            };
            let mut outcome = Outcome::default();
            let now = clock.now();
            let shots: Vec<Shot> =
                (0..frames).map(|index| pool.shot(now, index, connections)).collect();
            let mut fire = || {
                volley.fire(&pool.frames, &shots, now.offset(PHASE.as_micros() as i64));
                outcome = volley.take_outcome();
                Ok(())
            };
            let mut send = || bare.send(&pool, frames);
            // Each goes first in every second repeat.
            let (volley_rate, bare_rate) = if repeat % 2 == 0 {
                let first = timed(&mut fire)?;
                (first, timed(&mut send)?)
            } else {
                let first = timed(&mut send)?;
                (timed(&mut fire)?, first)
            };
            measured.push((volley_rate, bare_rate, outcome));
        }
        Ok(measured)
    })
}

fn volley(target: SocketAddr, clock: Clock, routers: usize) -> Result<Volley, BenchError> {
    let settings =
        VolleySettings { target, acks: false, crumb_bytes: None, give_up: PHASE, samples: false };
    let speakers = (0..routers).map(|place| Speaker {
        router: corpus::router(place),
        source: Some(corpus::router(place).0),
        boot_time: clock.now(),
        sequence_first: 1,
    });
    Ok(Volley::new(settings, clock, speakers)?)
}

/// Frames of changes, face by face.
struct Pool {
    frames: Vec<Frame>,
    faces: usize,
}

impl Pool {
    fn new(faces: usize, now: Micros) -> Pool {
        let mut writer = Writer::new();
        let mut frames = Vec::with_capacity(faces * ROUNDS);
        for number in 0..faces {
            let mut face = Face::new(9, number, FRAME_MAPPINGS * 2, now);
            frames.extend((0..ROUNDS).map(|_| writer.changes(&mut face, FRAME_MAPPINGS)));
        }
        Pool { frames, faces }
    }

    /// The connections in turn; each tells the frames of its face one after another.
    fn place(&self, index: usize, connections: usize) -> (usize, usize) {
        let (line, round) = (index % connections, index / connections);
        (line, line % self.faces * ROUNDS + round % ROUNDS)
    }

    fn shot(&self, due: Micros, index: usize, connections: usize) -> Shot {
        let (line, frame) = self.place(index, connections);
        let number = |value: usize| u32::try_from(value).expect("a pool fits in memory");
        Shot { due, line: number(line), frame: number(frame) }
    }
}

/// The loop that only sends.
struct Bare {
    connections: Vec<TcpStream>,
}

impl Bare {
    fn connect(target: SocketAddr, connections: usize) -> Result<Bare, BenchError> {
        let source = |place| Some(corpus::router(place).0);
        let connect = |place| connect(target, source(place));
        Ok(Bare { connections: (0..connections).map(connect).collect::<Result<_, _>>()? })
    }

    fn send(&mut self, pool: &Pool, frames: usize) -> Result<(), BenchError> {
        let connections = self.connections.len();
        for index in 0..frames {
            let (line, frame) = pool.place(index, connections);
            self.connections[line].write_all(&pool.frames[frame].bytes)?;
        }
        Ok(())
    }

    /// The same, each at its time: how late is who does nothing else.
    fn send_when_due(
        &mut self,
        pool: &Pool,
        frames: usize,
        held: Duration,
    ) -> Result<Lateness, BenchError> {
        let connections = self.connections.len();
        let mut late = Lateness::default();
        let began = Instant::now();
        for index in 0..frames {
            let due = Duration::from_micros(due_us(index, frames, held) as u64);
            let now = loop {
                let now = began.elapsed();
                if now >= due {
                    break now;
                }
                std::hint::spin_loop();
            };
            late.record((now - due).as_micros() as i64);
            let (line, frame) = pool.place(index, connections);
            self.connections[line].write_all(&pool.frames[frame].bytes)?;
        }
        Ok(late)
    }
}
