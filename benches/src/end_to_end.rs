//! End to end: durable mappings in a second over loopback, beside what one core could inflate.
//!
//! In:   2,000 connections whose senders share the two cores with the collector.
//! Out:  `end-to-end/N`; what the senders and the collector used of the CPUs.
//! Law:  a mapping counts when its row is durable; the folder is verified afterwards.
//! Not:  bursts and many thousand connections (`connections`, `burst`).

use std::time::{Duration, Instant};

use engine::metrics::Metric;
use libdeflater::Decompressor;
use storage::time::Micros;

use crate::bench::{BenchError, Run};
use crate::collector::{CollectorProcess, Counts, Durations, verify_folder};
use crate::corpus::{self, Face, Writer};
use crate::flood::{Flood, FloodProcess, Sent};
use crate::host::{self, Watch};
use crate::process;

/// Mappings of a frame, each a figure of its own, and frames of changes of each connection.
const SIZES: [(usize, usize); 3] = [(10, 120), (100, 50), (1_000, 5)];
/// Connections; entries of each router's table; different routers among them.
const CONNECTIONS: usize = 2_000;
const ENTRIES: usize = 1_000;
const FACES: usize = 50;
/// Mappings that the bare inflate is measured with.
const INFLATE_MAPPINGS: usize = 200_000;
/// The longest that a phase takes.
const PHASE: Duration = Duration::from_secs(60);

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    for (per_frame, frames) in SIZES {
        let name = format!("end-to-end/{per_frame}");
        if !run.wants(&name) {
            continue;
        }
        let flood = flood(run, per_frame, frames);
        let before = inflate_rate(run, per_frame)?;
        let storm = storm(run, &flood, &["shards=2".to_owned()])?;
        let after = inflate_rate(run, per_frame)?;
        run.note(format!(
            "bare inflate of one core: {before:.0} before, {after:.0} mappings/s after"
        ))?;
        let unit = "durable mappings/s on 2 shards beside their senders / bare inflate of one core";
        run.figure(&name, storm.rate(), f64::midpoint(before, after), unit)?;
    }
    Ok(())
}

/// The flood of `end-to-end/N`.
pub(crate) fn flood(run: &Run, per_frame: usize, frames: usize) -> Flood {
    Flood {
        connections: run.scaled(CONNECTIONS, 20),
        faces: run.scaled(FACES, 4),
        entries: ENTRIES,
        per_frame,
        frames,
        in_rounds: false,
        rate: 0,
        acks: false,
        cpu: None,
    }
}

/// What a flood came to.
pub(crate) struct Storm {
    /// Changes offered.
    pub(crate) offered: u64,
    /// From the order to send until the last row was durable.
    pub(crate) took: Duration,
    /// As the senders saw it.
    pub(crate) sent: Sent,
    /// What the collector measured meanwhile, each at the place of its histogram.
    pub(crate) durations: Vec<Durations>,
    /// Bytes of its log, and how often it synced.
    pub(crate) log_bytes: u64,
    /// See `log_bytes`.
    pub(crate) syncs: u64,
}

impl Storm {
    /// Durable mappings in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.offered as f64 / self.took.as_secs_f64()
    }
}

/// Floods a new collector: tables first, then changes, which are measured. Verifies the folder.
pub(crate) fn storm(
    run: &mut Run,
    flood: &Flood,
    settings: &[String],
) -> Result<Storm, BenchError> {
    let folder = run.folder()?;
    let data = folder.path().join("data");
    let mut collector = CollectorProcess::start(&data, settings, &[])?;
    let mut senders = FloodProcess::start(flood, collector.address)?;
    let told = senders.tell_tables()?;
    let tables = flood.table_mappings();
    let begun = collector.wait_until_durable(&Counts::default(), tables, PHASE)?;
    let Some((begun, _)) = begun else {
        let missing = "the tables were not durable in time";
        return Err(BenchError::Process { role: "collector", told: missing.to_owned() });
    };
    if told.failures > 0 {
        run.fault(format!("{} connections or frames of the tables failed", told.failures))?;
    }
    let processes = [collector.process.id(), senders.process.id()];
    let watch = Watch::start(&processes);
    let cpu = [collector.process.cpu(), senders.process.cpu()];
    let earlier = collector.durations()?;
    let began = Instant::now();
    senders.begin_changes()?;
    let offered = flood.change_mappings();
    let done = collector.wait_until_durable(&begun, offered, PHASE)?;
    let sent = senders.sent()?;
    let Some((counts, ended)) = done else {
        let counts = collector.counts()?;
        let seen = counts.since(&begun, Metric::MappingsFramed);
        run.fault(format!("{offered} mappings were offered, {seen} were framed in time"))?;
        let durations = Vec::new();
        return Ok(Storm { offered, took: PHASE, sent, durations, log_bytes: 0, syncs: 0 });
    };
    let took = ended - began;
    let later = collector.durations()?;
    let durations = later.iter().zip(&earlier).map(|(now, then)| now.since(then)).collect();
    let used = [collector.process.cpu() - cpu[0], senders.process.cpu() - cpu[1]];
    let [collected, sending] = used.map(|it| it.as_secs_f64() / took.as_secs_f64());
    let changes = counts.since(&begun, Metric::Changes);
    run.note(format!(
        "{} connections ({}), {offered} changes of {:.1} bytes in {:.2} s: {:.0} mappings/s; \
         {:.2} % are change rows",
        flood.connections,
        collector.driver,
        sent.bytes as f64 / sent.mappings.max(1) as f64,
        took.as_secs_f64(),
        offered as f64 / took.as_secs_f64(),
        changes as f64 / offered as f64 * 100.0
    ))?;
    run.note(format!(
        "CPUs used: collector {collected:.2}, senders {sending:.2}; {}",
        watch.words(&processes)
    ))?;
    if sent.failures > 0 || sent.mappings != offered {
        let (written, failures) = (sent.mappings, sent.failures);
        run.fault(format!("{offered} offered, {written} written, {failures} failures"))?;
    }
    drop(senders);
    collector.stop()?;
    let rows = verify_folder(run, &data, tables + offered)?.change_rows;
    let counted = counts.get(Metric::Changes) + counts.get(Metric::Derived);
    if rows != counted {
        run.fault(format!("the collector counted {counted} change rows, {rows} are on disk"))?;
    }
    let [log_bytes, syncs] =
        [Metric::LogWrittenBytes, Metric::LogSyncs].map(|metric| counts.since(&begun, metric));
    Ok(Storm { offered, took, sent, durations, log_bytes, syncs })
}

/// Mappings in a second that one core inflates, of the same corpus, on CPU 0.
fn inflate_rate(run: &Run, per_frame: usize) -> Result<f64, BenchError> {
    let mappings = run.scaled(INFLATE_MAPPINGS, 2_000);
    let frames = mappings.div_ceil(per_frame);
    process::on_cpu(0, || {
        let mut face = Face::new(u64::MAX, 0, ENTRIES, Micros(1_795_323_600_000_000));
        let mut writer = Writer::new();
        let frames: Vec<_> = (0..frames).map(|_| writer.changes(&mut face, per_frame)).collect();
        let (mut decompressor, mut inflated) = (Decompressor::new(), Vec::new());
        let began = host::thread_time();
        for frame in &frames {
            let (payload, length) = corpus::payload(&frame.bytes);
            inflated.resize(length, 0);
            let done = decompressor.zlib_decompress(payload, &mut inflated);
            std::hint::black_box(done.expect("the corpus is intact"));
        }
        Ok((frames.len() * per_frame) as f64 / (host::thread_time() - began).as_secs_f64())
    })
}
