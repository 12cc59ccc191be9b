//! Commit: how long a router waits for its ack while the collector has half of its work.
//!
//! In:   the connections and frames of `end-to-end/100`, at half of the rate that was reached.
//! Out:  `commit`: 99 % of the frames are acknowledged within so many ms of when they were due;
//!       where the time goes, and what the same disk takes to sync as much without a collector.
//! Law:  nothing is left out: a late sender, the network, the digest, the 20 ms, and the disk.
//! Not:  the moments around a rotation (`rotation`).

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::metrics::Histogram;
use loadgen::volley::Lateness;

use crate::bench::{BenchError, Run};
use crate::collector;
use crate::end_to_end::{Storm, flood, storm};
use crate::flood::{Flood, SLOW_US, SPAN_US, middle_high_longest};

/// Mappings of a frame, and frames of each connection.
const PER_FRAME: usize = 100;
const FRAMES: usize = 50;
/// Shards, each with a log of its own.
const SHARDS: usize = 2;

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    let settings = [format!("shards={SHARDS}")];
    let full = flood(run, PER_FRAME, FRAMES);
    run.note("the rate that is reached:")?;
    let reached = storm(run, &full, &settings)?.rate();
    let rate = (reached / 2.0) as usize;
    run.note(format!("at {rate} mappings/s, with acks:"))?;
    let paced = Flood { rate: rate.max(1), in_rounds: true, acks: true, ..full };
    let storm = storm(run, &paced, &settings)?;
    stages(run, &storm)?;
    disk_alone(run, &storm)?;
    let [median, high, longest] = storm.sent.acked_ms;
    run.note(format!("due to acked: median {median:.1}, 99 % {high:.1}, longest {longest:.1} ms"))?;
    let [slow, spans] = storm.sent.slow_spans;
    run.note(format!(
        "frames that waited longer than {} ms were due in {slow} of {spans} spans of {} ms",
        SLOW_US / 1_000,
        SPAN_US / 1_000
    ))?;
    run.figure("commit", high, 1.0, "ms from due to acknowledged, 99 % of frames")
}

/// Says where the time went. The collector's own are upper bounds of its histograms' buckets.
fn stages(run: &mut Run, storm: &Storm) -> Result<(), BenchError> {
    let [median, high, longest] = storm.sent.written_ms;
    run.note(format!(
        "due to written, the senders being late: median {median:.1}, 99 % {high:.1}, longest \
         {longest:.1} ms"
    ))?;
    for (histogram, words) in [
        (Histogram::SurgeWait, "last byte of a frame to its digest"),
        (Histogram::Durable, "first row of a batch to its being durable"),
        (Histogram::Commit, "of this, hand-over to the disk until durable"),
    ] {
        let durations = collector::of(&storm.durations, histogram);
        let [median, high, most] = [0.5, 0.99, 0.999].map(|share| durations.quantile_ms(share));
        run.note(format!("{words}: median {median}, 99 % {high}, 99.9 % {most} ms at most"))?;
    }
    Ok(())
}

/// Appends and syncs as many bytes as often as the collector has, in the same folder and with
/// nothing else to do; says how long that takes.
fn disk_alone(run: &mut Run, storm: &Storm) -> Result<(), BenchError> {
    let folder = run.folder()?;
    let syncs = (storm.syncs as usize / SHARDS).max(1);
    let bytes = (storm.log_bytes / storm.syncs.max(1)) as usize;
    let every = storm.took / syncs as u32;
    let lateness = std::thread::scope(|scope| {
        let path = |shard: usize| folder.path().join(shard.to_string());
        let threads: Vec<_> = (0..SHARDS)
            .map(|shard| scope.spawn(move || sync_alone(&path(shard), bytes, syncs, every)))
            .collect();
        let mut sum = Lateness::default();
        for thread in threads {
            let joined = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sum.add(&joined?);
        }
        Ok::<_, BenchError>(sum)
    })?;
    let [median, high, longest] = middle_high_longest(&lateness);
    run.note(format!(
        "the disk alone, {bytes} bytes every {:.1} ms in {SHARDS} files: median {median:.1}, \
         99 % {high:.1}, longest {longest:.1} ms",
        every.as_secs_f64() * 1e3
    ))
}

/// Appends and syncs `bytes` every so often; how long each took.
fn sync_alone(
    path: &Path,
    bytes: usize,
    syncs: usize,
    every: Duration,
) -> Result<Lateness, BenchError> {
    let mut file = File::create_new(path)?;
    let block = vec![0x5a; bytes];
    let mut lateness = Lateness::default();
    let began = Instant::now();
    for round in 0..syncs {
        let due = every * round as u32;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let asked = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        lateness.record(i64::try_from(asked.elapsed().as_micros()).unwrap_or(i64::MAX));
    }
    Ok(lateness)
}
