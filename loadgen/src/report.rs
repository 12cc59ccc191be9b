//! What a run has shown: one value, printed as text or as JSON.
//!
//! In:   the figures of the acts, the kernel's counters, the books and the verdict.
//! Out:  `Report`: serde for JSON, `Display` for people.
//! Law:  every figure names what it counts; a figure that was not taken is absent, never zero.
//! Not:  taking the figures (`stage`, `verdict`).

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;
use tuning::counters::{Counters, LOSS_COUNTERS, PRESSURE_COUNTERS};

use crate::faults::Fault;
use crate::honesty::Honesty;
use crate::record::ActRecord;
use crate::scenario::plan::Plan;
use crate::scenario::{Restart, Step};
use crate::sender::Progress;
use crate::stage::{Act, Performance};
use crate::verdict::Verdict;

/// Everything that a run reports.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The network.
    pub network: NetworkReport,
    /// Every router connects and sends its table.
    pub cold_start: ActReport,
    /// The first thing that happened then, where the scenario has one.
    pub storm: Option<StormReport>,
    /// What happened after it, act by act.
    pub later: Vec<StormReport>,
    /// What went wrong on purpose.
    pub faults: FaultsReport,
    /// Counters of the host's kernel that moved during the run; absent where they cannot be read.
    pub kernel: Option<KernelReport>,
    /// What the figures do not say of themselves.
    pub notes: Vec<String>,
    /// What the collector has counted; absent when it runs elsewhere.
    pub collector: Option<CollectorReport>,
    /// Whether every answer is exact; absent when the data folder was not asked.
    pub verdict: Option<Verdict>,
}

/// What the senders did wrong, by their own count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultsReport {
    /// Sessions that were struck, by the name of the fault.
    pub struck: BTreeMap<&'static str, u64>,
    /// Pieces that slow routers wrote, each with a pause behind it.
    pub slow_writes: u64,
    /// Strangers with bombs that were sent away.
    pub strangers: u64,
    /// Sessions that broke, for whatever reason.
    pub outages: u64,
}

impl FaultsReport {
    fn new(progress: &Progress) -> FaultsReport {
        let struck = Fault::ALL.map(|fault| (fault.name(), progress.struck(fault)));
        FaultsReport {
            struck: struck.into_iter().filter(|(_, count)| *count > 0).collect(),
            slow_writes: Progress::value(&progress.slow_writes),
            strangers: Progress::value(&progress.strangers),
            outages: progress.outages().len() as u64,
        }
    }
}

impl fmt::Display for FaultsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultsReport { struck, slow_writes, strangers, outages } = self;
        let struck: Vec<String> =
            struck.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "\nfaults on purpose")?;
        writeln!(f, "  sessions struck      {}", struck.join(", "))?;
        writeln!(f, "  slow writes          {slow_writes}")?;
        writeln!(f, "  strangers refused    {strangers}")?;
        writeln!(f, "  sessions broken      {outages}")
    }
}

/// The model network.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkReport {
    /// Same seed, same network.
    pub seed: u64,
    /// Routers.
    pub routers: usize,
    /// Links.
    pub links: usize,
    /// FECs: loopbacks of provider edges.
    pub fecs: usize,
    /// Layer-3 VPNs.
    pub vpns: usize,
    /// Mappings of all tables together.
    pub mappings: u64,
}

/// One act.
#[derive(Clone, Debug, Serialize)]
pub struct ActReport {
    /// Routers that had something to say.
    pub speakers: usize,
    /// Mappings said.
    pub mappings: u64,
    /// Frames said.
    pub frames: u64,
    /// Bytes of the frames.
    pub frame_bytes: u64,
    /// Bytes of the documents in them.
    pub document_bytes: u64,
    /// From the first intended time to the last.
    pub planned_seconds: f64,
    /// From the first intended time until everything was durable.
    pub seconds: f64,
    /// Mappings per second of those.
    pub mappings_per_second: f64,
    /// From the intended time to durable, per mapping.
    pub durable_ms: Quantiles,
    /// From the moment at which the generator sent until durable, per mapping: uncorrected, as a
    /// generator reports it that waits for itself. Never the answer; shown to be compared.
    pub service_ms: Quantiles,
    /// From the intended time until the kernel had taken the frame, per mapping.
    pub written_ms: Quantiles,
    /// What the generator alone was late by, per mapping; the worse of the sends themselves and of
    /// the turns of the sender threads.
    pub late_ms: Quantiles,
    /// Whether the figures may be believed.
    pub honesty: Honesty,
    /// `durable_ms` as pairs: share of mappings (0 to 1), and within how many ms they were durable.
    pub durable_curve: Vec<[f64; 2]>,
    /// `service_ms` likewise.
    pub service_curve: Vec<[f64; 2]>,
}

/// A distribution, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

/// One act after the cold start.
#[derive(Clone, Debug, Serialize)]
pub struct StormReport {
    /// What happened, in words.
    pub what: String,
    /// Mappings that were said, as a share of all that there are.
    pub share: f64,
    /// What was said of it.
    #[serde(flatten)]
    pub act: ActReport,
}

/// Kernel counters that moved.
#[derive(Clone, Debug, Serialize)]
pub struct KernelReport {
    /// Those that must not: the kernel squeezed, pruned or refused.
    pub lost: Vec<(String, i64)>,
    /// Those that say the sender was faster than the reader, or segments were sent again.
    pub pressed: Vec<(String, i64)>,
}

/// What the collector has counted.
#[derive(Clone, Debug, Serialize)]
pub struct CollectorReport {
    /// Bytes that its shards have read from sockets, compressed as they came.
    pub received_bytes: u64,
    /// Change rows in the log.
    pub change_rows: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Times that it was restarted.
    pub restarts: usize,
    /// Connections that each shard has accepted, by index.
    pub connections_per_shard: Vec<u64>,
    /// Changes whose router's clock was behind what it had said before.
    pub clock_backwards: u64,
    /// Changes whose router's clock was far off.
    pub clock_far: u64,
}

impl Report {
    /// A report of the acts; the rest is added where it is known.
    pub fn new(seed: u64, performance: &Performance) -> Report {
        let Performance { world, cold_start, storm, later, .. } = performance;
        let topology = &world.network.topology;
        let acts = storm.iter().chain(later).zip(&world.plan.acts);
        let mut acts = acts.map(|(act, planned)| StormReport {
            what: planned.what.clone(),
            share: act.mappings as f64 / cold_start.mappings.max(1) as f64,
            act: ActReport::new(act),
        });
        Report {
            network: NetworkReport {
                seed,
                routers: topology.routers.len(),
                links: topology.links.len(),
                fecs: world.network.fec_count(),
                vpns: world.network.vpns.len(),
                mappings: cold_start.mappings,
            },
            cold_start: ActReport::new(cold_start),
            storm: acts.next(),
            later: acts.collect(),
            faults: FaultsReport::new(performance.fleet.progress()),
            kernel: None,
            notes: Vec::new(),
            collector: None,
            verdict: None,
        }
    }

    /// Says of a collector that runs elsewhere what the scenario did not do to it.
    pub fn note_elsewhere(&mut self, plan: &Plan) {
        let restart = Step::CollectorRestart(Restart::default()).name();
        let restarts = plan.acts.iter().filter(|act| act.name == restart).count();
        if restarts > 0 {
            self.notes.push(format!(
                "{restart}: every session was broken {restarts} times, and the collector ran on: \
                 `run` restarts none (`demo` restarts its own)"
            ));
        }
    }

    /// Takes in what was recorded beside the acts: who else worked on this host.
    pub fn judge(&mut self, records: &[ActRecord]) {
        let storms = self.storm.iter_mut().chain(&mut self.later).map(|storm| &mut storm.act);
        for (act, record) in std::iter::once(&mut self.cold_start).chain(storms).zip(records) {
            act.honesty = Honesty::new(act.late_ms.p999, record.disturbance);
        }
    }

    /// Whether nothing speaks against the run: a verdict that was asked for is exact.
    pub fn is_good(&self) -> bool {
        self.verdict.as_ref().is_none_or(Verdict::is_exact)
    }
}

impl ActReport {
    fn new(act: &Act) -> ActReport {
        let seconds = |micros: i64| micros as f64 / 1e6;
        let [sends, turns] = [&act.latencies.late, &act.latencies.turn].map(Quantiles::new);
        let late_ms = if turns.p999 > sends.p999 { turns } else { sends };
        ActReport {
            speakers: act.speakers,
            mappings: act.mappings,
            frames: act.frames,
            frame_bytes: act.bytes,
            document_bytes: act.document_bytes,
            planned_seconds: seconds(act.due.since(act.began)),
            seconds: seconds(act.ended.since(act.began)),
            mappings_per_second: act.mappings_per_second(),
            durable_ms: Quantiles::new(&act.latencies.durable),
            service_ms: Quantiles::new(&act.latencies.service),
            written_ms: Quantiles::new(&act.latencies.written),
            late_ms,
            honesty: Honesty::new(late_ms.p999, None),
            durable_curve: curve(&act.latencies.durable),
            service_curve: curve(&act.latencies.service),
        }
    }
}

/// Four points for each halving of what is left to 1.
fn curve(micros: &Histogram<u64>) -> Vec<[f64; 2]> {
    let points = micros.iter_quantiles(4);
    points.map(|at| [at.quantile(), at.value_iterated_to() as f64 / 1e3]).collect()
}

impl Quantiles {
    fn new(micros: &Histogram<u64>) -> Quantiles {
        let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
        let max = micros.max() as f64 / 1e3;
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max }
    }
}

impl KernelReport {
    /// What moved between two readings.
    pub fn new(before: &Counters, after: &Counters) -> KernelReport {
        let moved = after.moved_since(before);
        let of = |names: &[&str]| {
            let named = moved.iter().filter(|(name, _)| names.contains(&name.as_str()));
            named.cloned().collect()
        };
        KernelReport { lost: of(&LOSS_COUNTERS), pressed: of(&PRESSURE_COUNTERS) }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quantiles { p50, p99, p999, max } = self;
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms, max {max:.1} ms")
    }
}

impl fmt::Display for ActReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.document_bytes as f64 / self.frame_bytes.max(1) as f64;
        writeln!(f, "  routers that spoke   {}", self.speakers)?;
        writeln!(f, "  mappings             {} in {} frames", self.mappings, self.frames)?;
        writeln!(
            f,
            "  bytes                {} on the wire, {} of XML ({ratio:.1} to 1)",
            self.frame_bytes, self.document_bytes
        )?;
        writeln!(
            f,
            "  time                 planned over {:.3} s, durable after {:.3} s: {:.0} mappings/s",
            self.planned_seconds, self.seconds, self.mappings_per_second
        )?;
        writeln!(f, "  intended to durable  {}", self.durable_ms)?;
        writeln!(f, "  sent to durable      {} (uncorrected)", self.service_ms)?;
        writeln!(f, "  intended to written  {}", self.written_ms)?;
        writeln!(f, "  sent late by         {}", self.late_ms)?;
        let honesty = self.honesty.to_string().replace('\n', "\n  ");
        write!(f, "  honesty              {honesty}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NetworkReport { seed, routers, links, fecs, vpns, mappings } = &self.network;
        writeln!(
            f,
            "network (seed {seed}): {routers} routers, {links} links, {fecs} FECs, {vpns} VPNs, \
             {mappings} mappings"
        )?;
        writeln!(f, "\ncold start: every router connects and sends its table")?;
        writeln!(f, "{}", self.cold_start)?;
        for StormReport { what, share, act } in self.storm.iter().chain(&self.later) {
            let percent = share * 100.0;
            writeln!(f, "\n{what}: {percent:.1} % of all mappings")?;
            writeln!(f, "{act}")?;
        }
        if self.faults != FaultsReport::default() {
            self.faults.fmt(f)?;
        }
        if let Some(kernel) = &self.kernel {
            writeln!(f, "\nkernel")?;
            counters(f, "lost or squeezed", &kernel.lost)?;
            counters(f, "pressed", &kernel.pressed)?;
        }
        if let Some(collector) = &self.collector {
            let per_row = collector.log_bytes as f64 / collector.change_rows.max(1) as f64;
            writeln!(f, "\ncollector")?;
            writeln!(f, "  received             {} bytes", collector.received_bytes)?;
            writeln!(f, "  change rows          {}", collector.change_rows)?;
            writeln!(
                f,
                "  log                  {} bytes, {per_row:.1} a row",
                collector.log_bytes
            )?;
            let shards: Vec<String> =
                collector.connections_per_shard.iter().map(u64::to_string).collect();
            writeln!(f, "  sessions per shard   {}", shards.join(" "))?;
            if collector.restarts > 0 {
                writeln!(f, "  restarts             {}", collector.restarts)?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\nnote: {note}"))?;
        self.verdict.as_ref().map_or(Ok(()), |verdict| write!(f, "\n{verdict}"))
    }
}

fn counters(f: &mut fmt::Formatter<'_>, title: &str, moved: &[(String, i64)]) -> fmt::Result {
    let texts: Vec<String> = moved.iter().map(|(name, by)| format!("{name} +{by}")).collect();
    let text = if texts.is_empty() { "nothing moved".to_owned() } else { texts.join(", ") };
    writeln!(f, "  {title:<20} {text}")
}
