//! Watch: what it costs to look at everything all the time.
//!
//! In:   34,000 routers with a session each, silent, then all of them speaking within 200 ms.
//! Out:  CPU of the collector's threads that watch, as a share of one core.
//! Law:  the threads' own time is counted, by their names; what shards do is not in it.
//! Not:  what silence costs the whole collector (`trickle`), what a burst costs it (`burst`).

use std::time::{Duration, Instant};

use engine::metrics::Metric;

use crate::bench::{Bench, BenchError, Run};
use crate::host::cpu_of_threads_named;
use crate::storm::speakers::Crowd;
use crate::storm::{PHASE, Storm, namespace_or_skip, soon, told};

pub(crate) const BENCH: Bench = Bench {
    name: "watch",
    about: "CPU of what watches the counters, the kernel and 34,000 connections",
    run: measure,
};

const IDLE: &str = "watch/idle";
const BURST: &str = "watch/burst";
/// Names of the threads that watch, and that keep what was seen.
const THREADS: &str = "watch";
const ROUTERS: usize = 34_000;
const FACES: usize = 1_500;
const FRAMES: usize = 4;
const SPREAD: Duration = Duration::from_millis(200);
const START: Duration = Duration::from_secs(3);
/// Until the start is no burst any more, and its sockets have been looked at.
const SETTLE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(20);
/// From the first change on: the burst, and its verdict.
const AFTER: Duration = Duration::from_secs(5);

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let Some(namespace) = namespace_or_skip(run, &[IDLE, BURST], &[])? else { return Ok(()) };
    let crowd = Crowd {
        routers: run.scaled(ROUTERS, 40),
        faces: run.scaled(FACES, 4),
        entries: FRAMES,
        mappings: 1,
        rounds: FRAMES,
        compressed: false,
        acks: false,
        give_up: PHASE,
    };
    let data = run.folder()?;
    let mut storm = Storm::start(Some(namespace), data.path(), &["shards=2"], &crowd, 2)?;
    storm.tell_tables(START)?;
    let open = storm.collector.counts()?.get(Metric::SnapshotsCompleted);
    run.note(format!("{open} routers told a table of {FRAMES} entries"))?;
    std::thread::sleep(run.brief(SETTLE));
    share(run, &storm, IDLE, SILENCE, "seconds of CPU per second of silence")?;
    let began = soon();
    for speakers in &mut storm.speakers {
        speakers.change(FRAMES, began, SPREAD, PHASE)?;
    }
    share(run, &storm, BURST, AFTER, "seconds of CPU per second, with a burst in these seconds")?;
    let outcome = storm.outcome()?;
    run.note(told(&outcome))?;
    storm.collector.stop()
}

/// Waits, and says what the threads took meanwhile.
fn share(
    run: &mut Run,
    storm: &Storm,
    name: &str,
    span: Duration,
    unit: &str,
) -> Result<(), BenchError> {
    let process = storm.collector.process.id();
    let cpu = || cpu_of_threads_named(process, |name| name.starts_with(THREADS));
    let (began, before) = (Instant::now(), cpu());
    std::thread::sleep(run.brief(span));
    let used = cpu().saturating_sub(before);
    run.figure(name, used.as_secs_f64(), began.elapsed().as_secs_f64(), unit)
}
