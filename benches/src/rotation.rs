//! Rotation: whether an ack feels that an hour ends.
//!
//! In:   a collector whose clock shows the last 1.6 s of one hour after another, under load.
//! Out:  p99 of the acks that wait within half a second of a rotation, over that of the others.
//! Law:  the collector's clock is given in code (`Clock::with_short_hours`), never by a setting.
//! Not:  what a commit costs at other rates (`commit`).

use std::time::Duration;

use engine::metrics::Metric;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::verify_folder;
use crate::storm::speakers::Crowd;
use crate::storm::{Storm, soon, told};

pub(crate) const BENCH: Bench = Bench {
    name: "rotation",
    about: "200 rotations of the log under load: p99 commit latency near them over elsewhere",
    run: measure,
};

const FIGURE: &str = "rotation";
/// One log per shard rotates when an hour ends: 50 hours are 200 rotations.
const SHARDS: usize = 4;
const HOURS: usize = 50;
/// How long an hour is.
const HOUR: Duration = Duration::from_millis(1_600);
/// What is near a rotation.
const NEAR: Duration = Duration::from_millis(500);
const ROUTERS: usize = 400;
/// Mappings of a frame; every router sends ten frames per second: 400,000 mappings per second.
const MAPPINGS: usize = 100;
const FRAMES_PER_SECOND: f64 = 10.0;
/// Different frames of each router; they come again in turn.
const ROUNDS: usize = 20;
const START: Duration = Duration::from_millis(500);

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let hours = run.scaled(HOURS, 2);
    let crowd = Crowd {
        routers: run.scaled(ROUTERS, 20),
        faces: run.scaled(ROUTERS, 20),
        entries: MAPPINGS * 5,
        mappings: MAPPINGS,
        rounds: ROUNDS,
        compressed: true,
        acks: true,
        give_up: HOUR * HOURS as u32 * 2,
    };
    let data = run.folder()?;
    let (shards, hour) =
        (format!("shards={SHARDS}"), format!("short_hour_ms={}", HOUR.as_millis()));
    let mut storm = Storm::start(None, data.path(), &[&shards, &hour], &crowd, 1)?;
    let (tables, _) = storm.tell_tables(START)?;
    let before = storm.collector.counts()?;
    let span = HOUR * hours as u32;
    let rounds = (span.as_secs_f64() * FRAMES_PER_SECOND) as usize;
    let origin = storm.collector.origin()?;
    // The acks of the tables are not meant.
    storm.speakers[0].near_and_far(origin, HOUR, NEAR)?;
    storm.speakers[0].change(rounds, soon(), span, span * 2)?;
    let outcome = storm.outcome()?;
    let (near, far) = storm.speakers[0].near_and_far(origin, HOUR, NEAR)?;
    let counts = storm.collector.counts()?;
    let since = |metric| counts.since(&before, metric);
    run.note(format!("{} routers: {}", crowd.routers, told(&outcome)))?;
    run.note(format!("{} changes, {} syncs", since(Metric::Changes), since(Metric::LogSyncs)))?;
    storm.collector.stop()?;
    let report = verify_folder(run, data.path(), tables.mappings + outcome.mappings)?;
    let rotations = report.files.saturating_sub(SHARDS as u64);
    for (name, lateness) in [("near", &near), ("elsewhere", &far)] {
        run.note(format!(
            "{name}: {} frames, p50 {:.1} p99 {:.1} max {:.1} ms from intended to acknowledged",
            lateness.count(),
            lateness.quantile_ms(0.5),
            lateness.quantile_ms(0.99),
            lateness.max_ms()
        ))?;
    }
    let accounted = since(Metric::Changes) + since(Metric::Confirmed) + since(Metric::Duplicates);
    if outcome.mappings_acked < outcome.mappings || accounted < outcome.mappings {
        run.fault("a mapping was neither acknowledged nor accounted for")?;
    }
    let unit = format!(
        "p99 ms from intended to acknowledged within 0.5 s of {rotations} rotations, over elsewhere"
    );
    run.figure(FIGURE, near.quantile_ms(0.99), far.quantile_ms(0.99), &unit)
}
