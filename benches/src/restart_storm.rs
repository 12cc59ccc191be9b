//! Restart storm: the collector comes back and every router tells its whole table at once.
//!
//! In:   a folder that knows the routers; all of them connecting within a second.
//! Out:  seconds to all snapshots, peak memory over its budget, connections refused or reset, rows.
//! Law:  a snapshot is evidence, not news: what did not change costs no row.
//! Not:  changes (`burst`).

use std::path::Path;
use std::time::Duration;

use engine::metrics::Metric;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::{CollectorProcess, verify_folder};
use crate::host;
use crate::storm::namespace::{Namespace, in_words, moved, moved_by};
use crate::storm::speakers::Crowd;
use crate::storm::{PHASE, Storm, namespace_or_skip, seconds, soon, told};

pub(crate) const BENCH: Bench = Bench {
    name: "restart-storm",
    about: "10,000 routers x 1,000 mappings connect again within 1 s to a collector that restarted",
    run: measure,
};

const FIGURES: [&str; 5] = [
    "restart-storm/complete-s",
    "restart-storm/rss",
    "restart-storm/listen-overflows",
    "restart-storm/resets",
    "restart-storm/rows",
];
const ROUTERS: usize = 10_000;
const ENTRIES: usize = 1_000;
/// Different routers per sender process.
const FACES: usize = 500;
const SENDERS: usize = 2;
/// The first start, which is not measured.
const START: Duration = Duration::from_secs(5);
const RECONNECT: Duration = Duration::from_secs(1);
/// Routers reset a session from which nothing is taken for so long.
const GIVE_UP: Duration = Duration::from_secs(15);
/// Memory that the collector may use: tables and surge of this fleet, with room.
const BUDGET_BYTES: u64 = 2 << 30;

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let Some(namespace) = namespace_or_skip(run, &FIGURES, &[])? else { return Ok(()) };
    let crowd = Crowd {
        routers: run.scaled(ROUTERS, 40),
        faces: run.scaled(FACES, 4),
        entries: ENTRIES,
        mappings: ENTRIES,
        rounds: 0,
        compressed: true,
        acks: true,
        give_up: GIVE_UP,
    };
    let data = run.folder()?;
    let memory = format!("memory_bytes={BUDGET_BYTES}");
    let settings = ["shards=2", &memory, "sessions_per_minute_max=1000"];
    let mut storm = Storm::start(Some(namespace), data.path(), &settings, &crowd, SENDERS)?;
    let (tables, _) = storm.tell_tables(run.brief(START))?;
    run.note(format!(
        "{} routers; {}; first start: {}",
        crowd.routers,
        storm.speakers[0].told,
        told(&tables)
    ))?;
    let mut storm = restarted(run, storm, &settings)?;
    let before = storm.counters()?;
    let counts_before = storm.collector.counts()?;
    let began = soon();
    for speakers in &mut storm.speakers {
        speakers.tell_tables(began, RECONNECT, PHASE)?;
    }
    let routers = crowd.routers as u64;
    let looks = storm.watch(PHASE, |counts| {
        let waits = counts.get(Metric::RowsPushed) - counts.get(Metric::RowsCommitted);
        counts.since(&counts_before, Metric::SnapshotsCompleted) >= routers && waits == 0
    })?;
    let peak = host::memory_peak(storm.collector.process.id());
    let outcome = storm.outcome()?;
    let kernel = moved(&before, &storm.counters()?);
    let counts = storm.collector.counts()?;
    let since = |metric| counts.since(&counts_before, metric);
    let complete = since(Metric::SnapshotsCompleted);
    let ended = looks.last().map_or(began, |(time, _)| *time);
    run.note(told(&outcome))?;
    run.note(format!(
        "longest wait of a router for anything to be taken: {:.2} s",
        outcome.stuck_us_max as f64 / 1e6
    ))?;
    run.note(format!(
        "{complete} of {routers} snapshots complete, {} confirmed, {} paused, {} tables moved",
        since(Metric::Confirmed),
        since(Metric::ReceivePauses),
        since(Metric::TablesReceived)
    ))?;
    run.note(format!("kernel: {}", in_words(&kernel)))?;
    if complete < routers {
        run.fault(format!("{} snapshots were not complete after {PHASE:?}", routers - complete))?;
    }
    run.figure(
        FIGURES[0],
        seconds(began, ended),
        1.0,
        "seconds from the first connection to the last snapshot",
    )?;
    run.figure(
        FIGURES[1],
        peak as f64,
        BUDGET_BYTES as f64,
        "peak resident bytes since the restart over the memory budget",
    )?;
    let overflows = moved_by(&kernel, "ListenOverflows");
    run.figure(FIGURES[2], overflows as f64, 1.0, "ListenOverflows")?;
    let resets = outcome.gave_up + outcome.broken + outcome.connect_failures;
    run.figure(
        FIGURES[3],
        resets as f64,
        1.0,
        "sessions reset, by a router that gave up after 15 s or by anybody else",
    )?;
    let rows = since(Metric::Changes) + since(Metric::Derived);
    run.figure(FIGURES[4], rows as f64, 1.0, "change rows written for tables that did not change")?;
    storm.collector.stop()?;
    verify_folder(run, data.path(), tables.mappings).map(drop)
}

/// Stops the collector and starts another on the same folder; the routers are ready to come back.
fn restarted(run: &mut Run, storm: Storm, settings: &[&str]) -> Result<Storm, BenchError> {
    let Storm { namespace, collector, mut speakers, routers, data } = storm;
    collector.stop()?;
    let began = std::time::Instant::now();
    let around = namespace.as_ref().map(Namespace::around).unwrap_or_default();
    let collector = start_again(&data, settings, &around)?;
    let peak = host::memory_peak(collector.process.id()) as f64 / f64::from(1 << 20);
    let recovery = began.elapsed().as_secs_f64();
    run.note(format!(
        "restarted in {recovery:.2} s, recovery included; peak {peak:.0} MiB so far"
    ))?;
    for each in &mut speakers {
        each.come_back(collector.address)?;
    }
    Ok(Storm { namespace, collector, speakers, routers, data })
}

fn start_again(
    data: &Path,
    settings: &[&str],
    around: &[String],
) -> Result<CollectorProcess, BenchError> {
    let settings: Vec<String> = settings.iter().map(|it| (*it).to_owned()).collect();
    CollectorProcess::start(data, &settings, around)
}
