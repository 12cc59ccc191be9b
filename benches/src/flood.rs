//! Senders that never wait for themselves: prepared frames, large writes, a process of their own.
//!
//! In:   a `Flood`: how many connections, what they say, how fast; orders of the bench.
//! Out:  bytes on sockets; how many, how late they were acknowledged, what sending cost.
//! Law:  everything is encoded before the first connection; frames of one connection are distinct.
//! Not:  how frames go out (`loadgen::volley`), what is measured by them (the benches).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use engine::wire::frame::{FrameType, encode_empty};
use loadgen::clock::Clock;
use loadgen::volley::{Lateness, Shot, Speaker, Volley, VolleySettings};
use loadgen::workload::{Frame, FrameRole};
use serde::{Deserialize, Serialize};
use storage::time::Micros;

use crate::bench::BenchError;
use crate::corpus::{self, Face, Writer};
use crate::process::{self, Process, number};

/// Name of the role.
pub(crate) const ROLE: &str = "flood";
/// Seed of the corpus.
const SEED: u64 = 2;
/// Mappings of one frame of a first table.
const PART_MAPPINGS: usize = 500;
/// Bytes that a connection writes before it is another's turn.
const TURN_BYTES: usize = 64 << 10;
/// The longest that one order takes; a bench says if that was not enough.
const ORDER_LIMIT: Duration = Duration::from_secs(60);

/// What counts as slow, and how long the spans are that are told apart by it.
pub(crate) const SLOW_US: u32 = 50_000;
pub(crate) const SPAN_US: i64 = 100_000;

/// Who floods, with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    /// Connections, each a router of its own.
    pub(crate) connections: usize,
    /// Different routers among them: the others say the same, in a session of their own.
    pub(crate) faces: usize,
    /// Entries of each router's table.
    pub(crate) entries: usize,
    /// Mappings of a frame of changes.
    pub(crate) per_frame: usize,
    /// Frames of changes that each connection sends.
    pub(crate) frames: usize,
    /// Whether every connection has its turn after each frame; otherwise after `TURN_BYTES`.
    pub(crate) in_rounds: bool,
    /// Mappings in a second, evenly; 0 = as fast as they are taken.
    pub(crate) rate: usize,
    /// Whether acks are asked for and waited for.
    pub(crate) acks: bool,
    /// The CPU to stay on.
    pub(crate) cpu: Option<usize>,
}

impl Flood {
    /// Mappings of the first tables, over all connections.
    pub(crate) fn table_mappings(&self) -> u64 {
        (self.connections * self.entries) as u64
    }

    /// Changes, over all connections.
    pub(crate) fn change_mappings(&self) -> u64 {
        (self.connections * self.frames * self.per_frame) as u64
    }

    fn arguments(&self, target: SocketAddr) -> Vec<String> {
        let mut arguments = vec![format!("target={target}")];
        let numbers = [
            ("connections", self.connections),
            ("faces", self.faces),
            ("entries", self.entries),
            ("per-frame", self.per_frame),
            ("frames", self.frames),
            ("in-rounds", usize::from(self.in_rounds)),
            ("rate", self.rate),
            ("acks", usize::from(self.acks)),
        ];
        arguments.extend(numbers.map(|(name, value)| format!("{name}={value}")));
        arguments.extend(self.cpu.map(|cpu| format!("cpu={cpu}")));
        arguments
    }

    fn parsed(arguments: &[String]) -> Result<Flood, BenchError> {
        let number = |name| number(ROLE, arguments, name);
        Ok(Flood {
            connections: number("connections")?,
            faces: number("faces")?,
            entries: number("entries")?,
            per_frame: number("per-frame")?,
            frames: number("frames")?,
            in_rounds: number("in-rounds")? > 0,
            rate: number("rate")?,
            acks: number("acks")? > 0,
            cpu: number("cpu").ok(),
        })
    }
}

/// What an order came to, as the senders saw it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Mappings written to their last byte.
    pub(crate) mappings: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// Connections that failed or broke, and frames that were not written or not acknowledged.
    pub(crate) failures: u64,
    /// Median, 99 % and longest time from when a frame was due until the kernel had it, ms.
    pub(crate) written_ms: [f64; 3],
    /// The same until its ack.
    pub(crate) acked_ms: [f64; 3],
    /// Of the spans of `SPAN_US` so many had frames that waited longer than `SLOW_US` for their
    /// acks, out of how many: whether one stall has done it, or all the time.
    pub(crate) slow_spans: [usize; 2],
}

/// The senders, in a process of their own.
pub(crate) struct FloodProcess {
    /// The process.
    pub(crate) process: Process,
}

impl FloodProcess {
    /// Starts the senders; returns when everything is encoded.
    pub(crate) fn start(flood: &Flood, target: SocketAddr) -> Result<FloodProcess, BenchError> {
        let mut process = Process::start(ROLE, &flood.arguments(target), &[])?;
        process.answer()?;
        Ok(FloodProcess { process })
    }

    /// Connects everybody; each tells its table.
    pub(crate) fn tell_tables(&mut self) -> Result<Sent, BenchError> {
        self.process.tell("tables")?;
        self.sent()
    }

    /// Begins to send the changes. `sent` waits for the end.
    pub(crate) fn begin_changes(&mut self) -> Result<(), BenchError> {
        self.process.tell("changes")
    }

    /// What the last order came to. Blocks until it is over.
    pub(crate) fn sent(&mut self) -> Result<Sent, BenchError> {
        let line = self.process.answer()?;
        serde_json::from_str(&line)
            .map_err(|error| BenchError::Process { role: ROLE, told: format!("{error}: {line}") })
    }
}

/// Encodes everything, then does what it is told.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    let flood = Flood::parsed(arguments)?;
    if let Some(cpu) = flood.cpu {
        process::pin(cpu)?;
    }
    let target = process::argument(ROLE, arguments, "target")?;
    let target = target.parse().map_err(|_| BenchError::Role {
        role: ROLE.to_owned(),
        expected: "an address and a port",
        found: target.to_owned(),
    })?;
    engine::io::sockets::raise_descriptor_limit()?;
    let clock = Clock::start();
    let pool = Pool::new(&flood, clock.now());
    let settings = VolleySettings {
        target,
        acks: flood.acks,
        crumb_bytes: (!flood.in_rounds).then_some(TURN_BYTES),
        give_up: ORDER_LIMIT,
        samples: flood.acks,
    };
    let speakers = (0..flood.connections).map(|place| Speaker {
        router: corpus::router(place),
        source: Some(corpus::router(place).0),
        boot_time: clock.now(),
        sequence_first: 1,
    });
    let mut volley = Volley::new(settings, clock, speakers)?;
    process::answer("ready")?;
    for word in process::words() {
        let shots = match word.as_str() {
            "tables" => {
                volley.open_all();
                pool.tables(&flood, clock.now())
            }
            "changes" => pool.changes(&flood, clock.now()),
            _ => break,
        };
        let limit_us = i64::try_from(ORDER_LIMIT.as_micros()).unwrap_or(i64::MAX);
        volley.fire(&pool.frames, &shots, clock.now().offset(limit_us));
        let samples = volley.take_samples();
        let outcome = volley.take_outcome();
        let failures = outcome.connect_failures
            + outcome.broken
            + outcome.gave_up
            + outcome.frames_unsent
            + outcome.frames_unacked
            + outcome.frames_open;
        let sent = Sent {
            mappings: outcome.mappings,
            bytes: outcome.bytes,
            failures,
            written_ms: middle_high_longest(&outcome.written),
            acked_ms: middle_high_longest(&outcome.durable),
            slow_spans: slow_spans(&samples),
        };
        process::answer(&serde_json::to_string(&sent).map_err(std::io::Error::from)?)?;
    }
    Ok(())
}

/// Median, 99 % and longest, ms.
pub(crate) fn middle_high_longest(lateness: &Lateness) -> [f64; 3] {
    [lateness.quantile_ms(0.5), lateness.quantile_ms(0.99), lateness.max_ms()]
}

/// Spans in which a frame was due that waited for long, and spans in which any was due.
fn slow_spans(samples: &[(Micros, u32)]) -> [usize; 2] {
    let span = |due: &Micros| due.0.div_euclid(SPAN_US);
    let slow = samples.iter().filter(|(_, late_us)| *late_us > SLOW_US);
    let slow: BTreeSet<i64> = slow.map(|(due, _)| span(due)).collect();
    let all: BTreeSet<i64> = samples.iter().map(|(due, _)| span(due)).collect();
    [slow.len(), all.len()]
}

/// Every frame that is sent, ready but for its sequence.
struct Pool {
    frames: Vec<Frame>,
    /// Frames of one face's table, its end included; those of its changes follow.
    table_frames: usize,
    change_frames: usize,
}

impl Pool {
    fn new(flood: &Flood, start: Micros) -> Pool {
        let mut writer = Writer::new();
        let mut frames = Vec::new();
        for face in 0..flood.faces.min(flood.connections) {
            let mut face = Face::new(SEED, face, flood.entries, start);
            frames.extend(face.table().chunks(PART_MAPPINGS).map(|part| writer.part(part)));
            frames.push(end_of_snapshot(start));
            frames.extend((0..flood.frames).map(|_| writer.changes(&mut face, flood.per_frame)));
        }
        let table_frames = flood.entries.div_ceil(PART_MAPPINGS) + 1;
        Pool { frames, table_frames, change_frames: flood.frames }
    }

    /// First frame of a connection's face.
    fn first(&self, place: usize) -> usize {
        let of_a_face = self.table_frames + self.change_frames;
        let faces = self.frames.len() / of_a_face;
        (place % faces) * of_a_face
    }

    fn tables(&self, flood: &Flood, now: Micros) -> Vec<Shot> {
        let frames = |place| (0..self.table_frames).map(move |at| (place, at));
        let shots = (0..flood.connections).flat_map(frames);
        shots.map(|(place, at)| shot(now, place, self.first(place) + at)).collect()
    }

    fn changes(&self, flood: &Flood, now: Micros) -> Vec<Shot> {
        let bytes = self.frames.last().map_or(1, |frame| frame.bytes.len());
        let at_once = if flood.in_rounds { 1 } else { (TURN_BYTES / bytes).max(1) };
        let mut shots = Vec::with_capacity(flood.connections * self.change_frames);
        for begin in (0..self.change_frames).step_by(at_once) {
            for place in 0..flood.connections {
                for at in begin..(begin + at_once).min(self.change_frames) {
                    let frame = self.first(place) + self.table_frames + at;
                    // Mappings before this one, at so many in a second.
                    let before = (shots.len() * flood.per_frame) as i64;
                    let due_us = (before * 1_000_000).checked_div(flood.rate as i64).unwrap_or(0);
                    shots.push(shot(now.offset(due_us), place, frame));
                }
            }
        }
        shots
    }
}

fn shot(due: Micros, place: usize, frame: usize) -> Shot {
    let number = |value: usize| u32::try_from(value).expect("a pool fits in memory");
    Shot { due, line: number(place), frame: number(frame) }
}

fn end_of_snapshot(time: Micros) -> Frame {
    let mut bytes = Vec::new();
    encode_empty(FrameType::SnapshotComplete, 0, &mut bytes);
    Frame {
        bytes,
        role: FrameRole::Snapshot,
        intended: time,
        mappings: 0,
        document_bytes: 0,
        until: time,
        sequence: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Flood = Flood {
        connections: 5,
        faces: 2,
        entries: 600,
        per_frame: 100,
        frames: 4,
        in_rounds: true,
        rate: 1_000,
        acks: false,
        cpu: None,
    };

    #[test]
    fn every_connection_sends_every_frame_of_its_face_in_order() {
        let pool = Pool::new(&FLOOD, Micros(1_000_000));
        assert_eq!(pool.frames.len(), 2 * (2 + 1 + 4));
        for (shots, frames) in
            [(pool.tables(&FLOOD, Micros(0)), 3), (pool.changes(&FLOOD, Micros(0)), 4)]
        {
            for line in 0..5 {
                let sent: Vec<u32> =
                    shots.iter().filter(|shot| shot.line == line).map(|shot| shot.frame).collect();
                assert_eq!(sent.len(), frames);
                assert!(sent.is_sorted() && sent.iter().all(|frame| frame / 7 == line % 2));
            }
        }
    }

    #[test]
    fn a_rate_spreads_the_frames_and_rounds_let_everybody_speak() {
        let pool = Pool::new(&FLOOD, Micros(1_000_000));
        let shots = pool.changes(&FLOOD, Micros(0));
        assert!(shots.is_sorted_by_key(|shot| shot.due));
        assert_eq!(shots.last().unwrap().due, Micros(19 * 100_000));
        let first: Vec<u32> = shots.iter().take(5).map(|shot| shot.line).collect();
        assert_eq!(first, [0, 1, 2, 3, 4]);
        assert_eq!(FLOOD.change_mappings(), 2_000);
    }

    #[test]
    fn a_span_is_slow_by_one_frame_that_waited() {
        let (quick, slow) = (SLOW_US, SLOW_US + 1);
        let at = |spans: i64| Micros(spans * SPAN_US + 7);
        assert_eq!(slow_spans(&[]), [0, 0]);
        let samples = [(at(0), quick), (at(1), slow), (at(1), slow), (at(2), quick), (at(4), slow)];
        assert_eq!(slow_spans(&samples), [2, 4]);
    }
}
