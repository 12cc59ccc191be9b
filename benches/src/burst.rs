//! Burst: the whole fleet speaks within 200 ms, each router four times.
//!
//! In:   routers with a session and a table; frames of 50 changes each.
//! Out:  seconds until everything was received and until it was durable; what was lost; counters.
//! Law:  both times count from the first frame's intended time; nothing may be lost.
//! Not:  a host whose buffers are short (`burst_tight`).

use std::time::Duration;

use engine::metrics::Metric;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::verify_folder;
use crate::storm::namespace::{in_words, losses, moved};
use crate::storm::speakers::Crowd;
use crate::storm::{PHASE, Storm, namespace_or_skip, seconds, soon, told};

pub(crate) const BENCH: Bench = Bench {
    name: "burst",
    about: "34,000 routers x 4 frames of 50 changes within 200 ms; in its own network namespace",
    run: measure,
};

const FIGURES: [&str; 4] =
    ["burst/drained-s", "burst/durable-s", "burst/lost", "burst/counters-moved"];
/// The largest site that is known.
const ROUTERS: usize = 34_000;
const FRAMES: usize = 4;
const MAPPINGS: usize = 50;
const SPREAD: Duration = Duration::from_millis(200);
/// Their tables: every change has an entry of its own.
const ENTRIES: usize = FRAMES * MAPPINGS;
/// Different routers per sender process.
const FACES: usize = 1_500;
/// Connections are opened over so long: the burst is measured, not the start.
const START: Duration = Duration::from_secs(3);

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let Some(namespace) = namespace_or_skip(run, &FIGURES, &[])? else { return Ok(()) };
    let crowd = Crowd {
        routers: run.scaled(ROUTERS, 40),
        faces: run.scaled(FACES, 4),
        entries: ENTRIES,
        mappings: MAPPINGS,
        rounds: FRAMES,
        compressed: true,
        acks: true,
        give_up: PHASE,
    };
    let data = run.folder()?;
    let mut storm = Storm::start(Some(namespace), data.path(), &["shards=2"], &crowd, 2)?;
    run.note(format!("{} routers; each of 2 senders: {}", crowd.routers, storm.speakers[0].told))?;
    let (tables, complete) = storm.tell_tables(START)?;
    run.note(format!("start: {}", told(&tables)))?;
    if complete.is_none() {
        let counts = storm.collector.counts()?;
        run.note(format!(
            "{} of {} snapshots were complete after {PHASE:?}; accepting paused {} times",
            counts.get(Metric::SnapshotsCompleted),
            crowd.routers,
            counts.get(Metric::AcceptPauses),
        ))?;
    }
    burst(run, storm, &crowd, tables.mappings)
}

fn burst(run: &mut Run, mut storm: Storm, crowd: &Crowd, before: u64) -> Result<(), BenchError> {
    let data = storm.data.clone();
    let offered = (crowd.routers * FRAMES * MAPPINGS) as u64;
    let counts_before = storm.collector.counts()?;
    let kernel_before = storm.counters()?;
    let cpu_before = storm.collector.process.cpu();
    let began = soon();
    for speakers in &mut storm.speakers {
        speakers.change(FRAMES, began, SPREAD, PHASE)?;
    }
    let digested = |counts: &crate::collector::Counts| {
        let waits = counts.get(Metric::RowsPushed) - counts.get(Metric::RowsCommitted);
        counts.since(&counts_before, Metric::MappingsFramed) >= offered && waits == 0
    };
    let looks = storm.watch(PHASE, digested)?;
    let outcome = storm.outcome()?;
    let cpu = storm.collector.process.cpu() - cpu_before;
    let kernel = moved(&kernel_before, &storm.counters()?);
    run.note(told(&outcome))?;
    let received = |counts: &crate::collector::Counts| {
        counts.since(&counts_before, Metric::ReceivedBytes) >= outcome.bytes
    };
    let drained = looks.iter().find(|(_, counts)| received(counts)).map(|(time, _)| *time);
    let durable = looks.last().map(|(time, _)| *time);
    let counts = storm.collector.counts()?;
    let since = |metric| counts.since(&counts_before, metric);
    let accounted = since(Metric::Changes) + since(Metric::Confirmed) + since(Metric::Duplicates);
    run.note(format!(
        "collector: {:.2} s of CPU, {} of {offered} mappings were changes, {} syncs, {} receives \
         ended at their share, {} found no buffer",
        cpu.as_secs_f64(),
        since(Metric::Changes),
        since(Metric::LogSyncs),
        since(Metric::ReceiveRounds),
        since(Metric::BuffersExhausted),
    ))?;
    run.note(format!(
        "acks: p50 {:.0} p99 {:.0} max {:.0} ms after the intended time of their frame",
        outcome.durable.quantile_ms(0.5),
        outcome.durable.quantile_ms(0.99),
        outcome.durable.max_ms(),
    ))?;
    match drained {
        Some(time) => run.figure(
            FIGURES[0],
            seconds(began, time),
            1.0,
            "seconds from the first intended time to the last byte received",
        )?,
        None => run.fault("not every byte of the burst was received")?,
    }
    let acked = storage::time::Micros(outcome.acked_last);
    let durable = durable.map_or(acked, |time| time.max(acked));
    run.figure(
        FIGURES[1],
        seconds(began, durable),
        1.0,
        "seconds from the first intended time to the last commit and its ack",
    )?;
    storm.collector.stop()?;
    let report = verify_folder(run, &data, before + offered)?;
    let rows = counts.get(Metric::Changes) + counts.get(Metric::Derived);
    if report.change_rows != rows {
        run.fault(format!("{} change rows on disk, {rows} were counted", report.change_rows))?;
    }
    let lost = offered.saturating_sub(accounted.min(outcome.mappings_acked));
    if lost > 0 {
        run.fault(format!("{lost} mappings were lost"))?;
    }
    run.figure(
        FIGURES[2],
        lost as f64,
        1.0,
        "mappings offered that were not accounted for and acknowledged",
    )?;
    run.note(format!("kernel: {}", in_words(&kernel)))?;
    run.figure(
        FIGURES[3],
        losses(&kernel) as f64,
        1.0,
        "sum of PruneCalled, RcvPruned, OfoPruned, TCPRcvCollapsed, TCPRcvQDrop, ListenOverflows \
         and ListenDrops",
    )
}
