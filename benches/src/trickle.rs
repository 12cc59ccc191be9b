//! Trickle: what a quiet fleet costs.
//!
//! In:   10,000 connections that are silent, then with one change per second each.
//! Out:  CPU of the collector over that of a loop that only receives the same packets; idle CPU.
//! Law:  both sides get the same frames at the same pace from the same kind of sender.
//! Not:  what a storm costs (`end-to-end`, `burst`).

use std::time::{Duration, Instant};

use engine::metrics::Metric;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::verify_folder;
use crate::host::cpu_of_threads;
use crate::storm::reader::Reader;
use crate::storm::speakers::{Crowd, Speakers};
use crate::storm::{PHASE, Storm, soon, told};

pub(crate) const BENCH: Bench = Bench {
    name: "trickle",
    about: "10,000 connections with one change per second each, and silent; CPU of the collector",
    run: measure,
};

const BUSY: &str = "trickle/cpu";
const IDLE: &str = "trickle/idle";
const ROUTERS: usize = 10_000;
/// Entries of a table: enough that no entry changes twice.
const ENTRIES: usize = 20;
const FACES: usize = 2_000;
/// Changes of each router, one per second.
const ROUNDS: usize = 10;
/// How long silence is watched.
const SILENCE: Duration = Duration::from_secs(10);
/// Until what the start left to do is done: the burst of the tables has its end and its verdict.
const SETTLE: Duration = Duration::from_secs(5);
const START: Duration = Duration::from_secs(2);

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let crowd = Crowd {
        routers: run.scaled(ROUTERS, 40),
        faces: run.scaled(FACES, 4),
        entries: ENTRIES,
        mappings: 1,
        rounds: ROUNDS.min(run.scaled(ROUNDS, 1)),
        compressed: false,
        acks: false,
        give_up: PHASE,
    };
    let span = Duration::from_secs(crowd.rounds as u64);
    let (bare, bytes) = bare(run, &crowd, span)?;
    let data = run.folder()?;
    let mut storm = Storm::start(None, data.path(), &["shards=2"], &crowd, 1)?;
    let (tables, _) = storm.tell_tables(START)?;
    std::thread::sleep(SETTLE);
    idle(run, &storm)?;
    let before = storm.collector.counts()?;
    let began = cpu_of_threads(storm.collector.process.id());
    storm.speakers[0].change(crowd.rounds, soon(), span, PHASE)?;
    let outcome = storm.outcome()?;
    std::thread::sleep(Duration::from_millis(100));
    let cpu = cpu_of_threads(storm.collector.process.id()).saturating_sub(began);
    let counts = storm.collector.counts()?;
    let since = |metric| counts.since(&before, metric);
    run.note(format!("collector ({}): {}", storm.collector.driver, told(&outcome)))?;
    run.note(format!(
        "collector: {} turns, {} syncs, {} changes, {} log bytes, {:.3} s of CPU in {span:?}",
        since(Metric::Turns),
        since(Metric::LogSyncs),
        since(Metric::Changes),
        since(Metric::LogWrittenBytes),
        cpu.as_secs_f64(),
    ))?;
    if outcome.bytes != bytes {
        run.note(format!("the reader was sent {bytes} bytes, the collector {}", outcome.bytes))?;
    }
    run.figure(
        BUSY,
        cpu.as_secs_f64(),
        bare.as_secs_f64(),
        "seconds of CPU, the collector's over those of an epoll loop that only receives",
    )?;
    storm.collector.stop()?;
    let report = verify_folder(run, data.path(), tables.mappings + outcome.mappings)?;
    if report.change_rows != tables.mappings + outcome.mappings {
        run.fault("change rows and mappings differ")?;
    }
    Ok(())
}

/// CPU of a loop that only receives, and how many bytes it was sent.
fn bare(run: &mut Run, crowd: &Crowd, span: Duration) -> Result<(Duration, u64), BenchError> {
    let mut reader = Reader::start(&[])?;
    let mut speakers = Speakers::start_all(crowd, reader.address, 1, &[])?;
    speakers[0].tell_tables(soon(), START, PHASE)?;
    let tables = speakers[0].outcome()?;
    std::thread::sleep(SETTLE);
    let began = cpu_of_threads(reader.process.id());
    speakers[0].change(crowd.rounds, soon(), span, PHASE)?;
    let outcome = speakers[0].outcome()?;
    std::thread::sleep(Duration::from_millis(100));
    let cpu = cpu_of_threads(reader.process.id()).saturating_sub(began);
    let read = reader.bytes()?;
    run.note(format!("bare loop (epoll): {}", told(&outcome)))?;
    run.note(format!("bare loop: {read} bytes with hellos, {:.3} s of CPU", cpu.as_secs_f64()))?;
    if read < tables.bytes + outcome.bytes {
        run.fault("the bare loop has not read everything")?;
    }
    Ok((cpu, outcome.bytes))
}

fn idle(run: &mut Run, storm: &Storm) -> Result<(), BenchError> {
    let process = storm.collector.process.id();
    let (began, cpu) = (Instant::now(), cpu_of_threads(process));
    std::thread::sleep(run.brief(SILENCE));
    let cpu = cpu_of_threads(process).saturating_sub(cpu);
    let elapsed = began.elapsed();
    run.figure(
        IDLE,
        cpu.as_secs_f64(),
        elapsed.as_secs_f64(),
        "seconds of CPU per second of silence, all connections open",
    )
}
