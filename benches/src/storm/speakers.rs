//! Speaking routers: a crowd of prepared sessions in one or more processes of their own.
//!
//! In:   a crowd, and orders with the time at which they begin.
//! Out:  an `Outcome` per order.
//! Law:  everything is encoded before the first order; several routers may show the same face.
//! Not:  how frames go out (`loadgen::volley`), or what they say (`corpus`).

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use loadgen::clock::Clock;
use loadgen::volley::{Lateness, Outcome, Shot, Speaker, Volley, VolleySettings};
use loadgen::workload::{Encoder, Frame, SNAPSHOT_FRAME_MAPPINGS};
use storage::mapping::Mapping;
use storage::time::{MICROS_PER_SECOND, Micros};

use crate::bench::BenchError;
use crate::corpus::{self, Face, Writer};
use crate::process::{self, Process};

/// Name of the role.
pub(crate) const ROLE: &str = "speakers";
/// Of the faces.
const SEED: u64 = 0x5704;
/// How long ago the entries of the first tables became active.
const AGE_US: i64 = 600 * MICROS_PER_SECOND;

/// The routers of a storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// How many there are.
    pub(crate) routers: usize,
    /// How many different ones among them.
    pub(crate) faces: usize,
    /// Entries of each table.
    pub(crate) entries: usize,
    /// Mappings of a frame of changes.
    pub(crate) mappings: usize,
    /// Frames of changes that each face has ready.
    pub(crate) rounds: usize,
    /// Whether frames of changes are compressed.
    pub(crate) compressed: bool,
    /// Whether the routers ask for acks.
    pub(crate) acks: bool,
    /// How long a router waits for something to be taken from it before it resets its session.
    pub(crate) give_up: Duration,
}

/// One process's part of a crowd.
pub(crate) struct Speakers {
    /// The process.
    pub(crate) process: Process,
    /// What it said when it was ready.
    pub(crate) told: String,
}

impl Speakers {
    /// Starts `processes` processes that share the crowd; returns when all have encoded.
    pub(crate) fn start_all(
        crowd: &Crowd,
        target: SocketAddr,
        processes: usize,
        around: &[String],
    ) -> Result<Vec<Speakers>, BenchError> {
        let share = crowd.routers.div_ceil(processes);
        let mut all = Vec::with_capacity(processes);
        for first in (0..crowd.routers).step_by(share.max(1)) {
            let routers = share.min(crowd.routers - first);
            let arguments = arguments(crowd, target, first, routers);
            let process = Process::start(ROLE, &arguments, around)?;
            all.push(Speakers { process, told: String::new() });
        }
        for speakers in &mut all {
            speakers.told = speakers.process.answer()?;
        }
        Ok(all)
    }

    /// Orders every router to connect, if it is not connected, and to tell its table.
    pub(crate) fn tell_tables(
        &mut self,
        at: Micros,
        spread: Duration,
        limit: Duration,
    ) -> Result<(), BenchError> {
        self.process.tell(&format!("tables {} {} {}", at.0, micros(spread), micros(limit)))
    }

    /// Orders the next `rounds` frames of changes of every router, spread evenly over `spread`.
    pub(crate) fn change(
        &mut self,
        rounds: usize,
        at: Micros,
        spread: Duration,
        limit: Duration,
    ) -> Result<(), BenchError> {
        let (spread, limit) = (micros(spread), micros(limit));
        self.process.tell(&format!("changes {rounds} {} {spread} {limit}", at.0))
    }

    /// From now on writes so many bytes at once, the routers in turn; 0 = whole frames.
    pub(crate) fn write_crumbs(&mut self, bytes: usize) -> Result<(), BenchError> {
        self.process.ask(&format!("crumbs {bytes}")).map(drop)
    }

    /// Makes every router ready to connect again, there, and to tell its table with new times.
    pub(crate) fn come_back(&mut self, target: SocketAddr) -> Result<(), BenchError> {
        self.process.ask(&format!("back {target}")).map(drop)
    }

    /// What became of the last order. Blocks until it has come to its end.
    pub(crate) fn outcome(&mut self) -> Result<Outcome, BenchError> {
        let line = self.process.answer()?;
        parsed(&line)
    }

    /// Acks of the orders so far, apart: those whose wait came within `near` of a multiple of
    /// `period` after `origin`, and the others.
    pub(crate) fn near_and_far(
        &mut self,
        origin: Micros,
        period: Duration,
        near: Duration,
    ) -> Result<(Lateness, Lateness), BenchError> {
        let (period, near) = (micros(period), micros(near));
        let line = self.process.ask(&format!("apart {} {period} {near}", origin.0))?;
        parsed(&line)
    }
}

fn parsed<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, BenchError> {
    serde_json::from_str(line)
        .map_err(|error| BenchError::Process { role: ROLE, told: format!("{error} in `{line}`") })
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn arguments(crowd: &Crowd, target: SocketAddr, first: usize, routers: usize) -> Vec<String> {
    vec![
        format!("target={target}"),
        format!("first={first}"),
        format!("routers={routers}"),
        format!("faces={}", crowd.faces),
        format!("entries={}", crowd.entries),
        format!("mappings={}", crowd.mappings),
        format!("rounds={}", crowd.rounds),
        format!("compressed={}", usize::from(crowd.compressed)),
        format!("acks={}", usize::from(crowd.acks)),
        format!("give_up_ms={}", crowd.give_up.as_millis()),
    ]
}

/// Frames of every face: parts of its table, the end of a snapshot, its changes in order.
struct Pool {
    frames: Vec<Frame>,
    faces: usize,
    /// Frames of a snapshot, its end included.
    parts: usize,
    rounds: usize,
    /// The tables, to be told again with other times.
    tables: Vec<Vec<Mapping>>,
}

impl Pool {
    fn encode(crowd: &Crowd, first: usize, now: Micros) -> Pool {
        let faces = crowd.faces.clamp(1, crowd.routers.max(1));
        let parts = crowd.entries.div_ceil(SNAPSHOT_FRAME_MAPPINGS) + 1;
        let rounds = crowd.rounds;
        let mut pool = Pool { frames: Vec::new(), faces, parts, rounds, tables: Vec::new() };
        let mut writer = if crowd.compressed { Writer::new() } else { Writer::plain() };
        for number in 0..faces {
            let mut face = Face::new(SEED, first + number, crowd.entries, now.offset(-AGE_US));
            pool.tables.push(face.table().to_vec());
            put_table(face.table(), &mut pool.frames);
            let changes = (0..rounds).map(|_| writer.changes(&mut face, crowd.mappings));
            pool.frames.extend(changes);
        }
        pool
    }

    /// Writes the tables anew, their entries active since `time`, as an agent does that cannot
    /// tell since when.
    fn renew(&mut self, time: Micros) {
        for (face, table) in self.tables.iter_mut().enumerate() {
            table.iter_mut().for_each(|mapping| mapping.event_time = time);
            let mut frames = Vec::with_capacity(self.parts);
            put_table(table, &mut frames);
            let first = face * (self.parts + self.rounds);
            for (slot, frame) in self.frames[first..].iter_mut().zip(frames) {
                *slot = frame;
            }
        }
    }

    fn part(&self, router: usize, part: usize) -> u32 {
        self.place(router, part)
    }

    fn change(&self, router: usize, round: usize) -> u32 {
        self.place(router, self.parts + round % self.rounds.max(1))
    }

    fn place(&self, router: usize, frame: usize) -> u32 {
        let place = router % self.faces * (self.parts + self.rounds) + frame;
        u32::try_from(place).expect("a pool that fits into memory")
    }
}

fn put_table(table: &[Mapping], frames: &mut Vec<Frame>) {
    let mut writer = Writer::new();
    frames.extend(table.chunks(SNAPSHOT_FRAME_MAPPINGS).map(|part| writer.part(part)));
    let nobody = corpus::router(0);
    let time = table.last().map_or(Micros(0), |mapping| mapping.event_time);
    frames.extend(Encoder::default().snapshot(nobody, &[], time, time));
}

/// The role's state.
struct Play {
    crowd: Crowd,
    first: usize,
    boot: Micros,
    clock: Clock,
    pool: Pool,
    settings: VolleySettings,
    volley: Volley,
    /// Rounds of changes told so far.
    told: usize,
    samples: Vec<(Micros, u32)>,
}

/// The role.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    engine::io::sockets::raise_descriptor_limit()?;
    let number = |name| process::number(ROLE, arguments, name);
    let crowd = Crowd {
        routers: number("routers")?,
        faces: number("faces")?,
        entries: number("entries")?,
        mappings: number("mappings")?,
        rounds: number("rounds")?,
        compressed: number("compressed")? == 1,
        acks: number("acks")? == 1,
        give_up: Duration::from_millis(number("give_up_ms")? as u64),
    };
    let target = word(process::argument(ROLE, arguments, "target")?)?;
    let first = number("first")?;
    let clock = Clock::start();
    let pool = Pool::encode(&crowd, first, clock.now());
    let settings = VolleySettings {
        target,
        acks: crowd.acks,
        crumb_bytes: None,
        give_up: crowd.give_up,
        samples: true,
    };
    let boot = clock.now();
    let volley = Volley::new(settings, clock, speakers(first, &vec![1; crowd.routers], boot))?;
    let told = 0;
    let samples = Vec::new();
    let mut play = Play { crowd, first, boot, clock, pool, settings, volley, told, samples };
    process::answer(&play.pool_in_words())?;
    for line in process::words() {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = play.obey(&words)?;
        process::answer(&answer)?;
    }
    Ok(())
}

/// Each under its own address, which is also where it connects from.
fn speakers(first: usize, sequences: &[u64], boot: Micros) -> Vec<Speaker> {
    let speaker = |(place, sequence): (usize, &u64)| {
        let router = corpus::router(first + place);
        let source = Some(router.0);
        Speaker { router, source, boot_time: boot, sequence_first: *sequence }
    };
    sequences.iter().enumerate().map(speaker).collect()
}

fn word<T: FromStr>(text: &str) -> Result<T, BenchError> {
    text.parse().map_err(|_| BenchError::Role {
        role: ROLE.to_owned(),
        expected: "an order with its numbers",
        found: text.to_owned(),
    })
}

impl Play {
    fn pool_in_words(&self) -> String {
        let changes = || self.pool.frames.iter().filter(|frame| frame.mappings > 0);
        let bytes: usize = changes().map(|frame| frame.bytes.len()).sum();
        let mappings: u64 = changes().map(|frame| frame.mappings).sum();
        format!(
            "{} faces, {} frames, {bytes} bytes, {:.1} bytes per mapping",
            self.pool.faces,
            self.pool.frames.len(),
            bytes as f64 / mappings.max(1) as f64
        )
    }

    fn obey(&mut self, words: &[&str]) -> Result<String, BenchError> {
        match *words {
            ["tables", at, spread_us, limit_us] => {
                let shots = self.tables(Micros(word(at)?), word(spread_us)?);
                self.fire(&shots, word(limit_us)?)
            }
            ["changes", rounds, at, spread_us, limit_us] => {
                let shots = self.changes(word(rounds)?, Micros(word(at)?), word(spread_us)?);
                self.fire(&shots, word(limit_us)?)
            }
            ["crumbs", bytes] => {
                let bytes: usize = word(bytes)?;
                self.volley.write_crumbs((bytes > 0).then_some(bytes));
                Ok("done".to_owned())
            }
            ["back", target] => {
                self.settings.target = word(target)?;
                self.pool.renew(self.clock.now());
                let speakers = speakers(self.first, &self.volley.sequences_next(), self.boot);
                self.volley = Volley::new(self.settings, self.clock, speakers)?;
                Ok("done".to_owned())
            }
            ["apart", origin, period_us, near_us] => {
                let apart = self.apart(Micros(word(origin)?), word(period_us)?, word(near_us)?);
                Ok(in_json(&apart))
            }
            _ => word::<u8>(&words.join(" ")).map(|_| String::new()),
        }
    }

    fn fire(&mut self, shots: &[Shot], limit_us: i64) -> Result<String, BenchError> {
        let deadline = self.clock.now().offset(limit_us);
        self.volley.fire(&self.pool.frames, shots, deadline);
        self.samples.append(&mut self.volley.take_samples());
        Ok(in_json(&self.volley.take_outcome()))
    }

    /// Every router's whole table, all frames of it at once, the routers one after another.
    fn tables(&self, at: Micros, spread_us: i64) -> Vec<Shot> {
        let routers = self.crowd.routers;
        let mut shots = Vec::with_capacity(routers * self.pool.parts);
        for router in 0..routers {
            let due = at.offset(spread_us * router as i64 / routers as i64);
            let line = router as u32;
            let part = |part| Shot { due, line, frame: self.pool.part(router, part) };
            shots.extend((0..self.pool.parts).map(part));
        }
        shots
    }

    /// The next `rounds` rounds; in each every router speaks once, at a time of its own.
    fn changes(&mut self, rounds: usize, at: Micros, spread_us: i64) -> Vec<Shot> {
        let routers = self.crowd.routers;
        let round_us = spread_us / rounds.max(1) as i64;
        let mut shots = Vec::with_capacity(routers * rounds);
        for round in 0..rounds {
            let began = at.offset(round_us * round as i64);
            let shot = |router: usize| {
                let due = began.offset(place_in_round(router, round_us));
                let frame = self.pool.change(router, self.told + round);
                Shot { due, line: router as u32, frame }
            };
            shots.extend((0..routers).map(shot));
        }
        shots.sort_by_key(|shot| shot.due);
        self.told += rounds;
        shots
    }

    fn apart(&mut self, origin: Micros, period_us: i64, near_us: i64) -> (Lateness, Lateness) {
        let (mut near, mut far) = (Lateness::default(), Lateness::default());
        for (due, late_us) in std::mem::take(&mut self.samples) {
            let late_us = i64::from(late_us);
            // Whether a multiple of the period lies in [due - near, ack + near].
            let first = due.since(origin) - near_us;
            let last = due.since(origin) + late_us + near_us;
            let touches = first.div_euclid(period_us) != last.div_euclid(period_us);
            if touches { near.record(late_us) } else { far.record(late_us) }
        }
        (near, far)
    }
}

/// Spread evenly over a round: neighbours in the list do not speak one after the other.
fn place_in_round(router: usize, round_us: i64) -> i64 {
    // 0x9e37… = 2^32 / golden ratio: consecutive numbers land far apart.
    let mixed = (router as u64).wrapping_mul(0x9e37_79b1) % (1 << 32);
    ((mixed as i128 * i128::from(round_us)) >> 32) as i64
}

fn in_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers and lists are written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_speak_once_in_every_round_each_at_a_time_of_its_own() {
        let mut places: Vec<i64> =
            (0..1_000).map(|router| place_in_round(router, 50_000)).collect();
        assert!(places.iter().all(|place| (0..50_000).contains(place)));
        assert!(!places.is_sorted());
        places.sort_unstable();
        // Evenly: no two neighbours are further apart than three shares of the round.
        let gaps = places.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() < 150);
    }

    #[test]
    fn a_pool_tells_each_face_apart_and_renews_only_the_tables() {
        let crowd = Crowd {
            routers: 10,
            faces: 3,
            entries: 300,
            mappings: 20,
            rounds: 4,
            compressed: true,
            acks: true,
            give_up: Duration::from_secs(1),
        };
        let mut pool = Pool::encode(&crowd, 0, Micros(1_795_000_000_000_000));
        assert_eq!((pool.parts, pool.frames.len()), (3, 3 * 7));
        let before: Vec<Vec<u8>> = pool.frames.iter().map(|frame| frame.bytes.clone()).collect();
        pool.renew(Micros(1_795_000_900_000_000));
        for (place, frame) in pool.frames.iter().enumerate() {
            let is_table_part = place % 7 < 2;
            assert_eq!(frame.bytes != before[place], is_table_part, "{place}");
        }
        assert_eq!(pool.change(4, 5), pool.change(1, 1));
        assert!(pool.frames[pool.part(5, 2) as usize].is_snapshot_end());
    }
}
