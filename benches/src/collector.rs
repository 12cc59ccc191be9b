//! The collector that a bench measures: the product's own code, in a process of its own.
//!
//! In:   settings by their names, a data folder, perhaps a CPU to stay on.
//! Out:  its address and counters; at the end, a folder that `verify` has read.
//! Law:  what ran is `engine::collector::Collector`, with the allocator that it ships with.
//! Not:  its senders (`flood`), its counters' meaning (docs/metrics.md).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::collector::Collector;
use engine::io::clock::Clock;
use engine::metrics::{HISTOGRAMS, Histogram, METRICS, Metric};
use engine::settings::Settings;
use serde::{Deserialize, Serialize};
use storage::log::{VerifyReport, verify};
use storage::time::Micros;

use crate::bench::{BenchError, Run};
use crate::process::{self, Process};

/// Name of the role.
pub(crate) const ROLE: &str = "collector";
/// Between two looks at a counter that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Runs a collector with `name=value` settings; `cpu=N` keeps all of it on one CPU, and
/// `short_hour_ms=N` gives it a clock that shows the last N ms of one hour after another.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    let mut settings = Settings { http: None, ..Settings::default() };
    let mut clock = Clock::start();
    for argument in arguments {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        match name {
            "cpu" => process::pin(process::number(ROLE, arguments, "cpu")?)?,
            "short_hour_ms" => {
                let part = process::number(ROLE, arguments, "short_hour_ms")?;
                let hour = clock.now().wall.hour();
                clock = Clock::with_short_hours(hour, Duration::from_millis(part as u64));
            }
            _ => settings.set(name, value)?,
        }
    }
    // A wall time at which the clock began: multiples of its hour after it are ends of hours.
    let origin =
        Clock::start().now().wall.offset(-i64::try_from(clock.now().monotonic_us).unwrap_or(0));
    let collector = Collector::start_at(settings, clock)?;
    let (address, driver) = (collector.listen_address(), collector.driver().name());
    process::answer(&format!("listening {address} {driver}"))?;
    for word in process::words() {
        match word.as_str() {
            "counters" => {
                let total = |metric: Metric| collector.publication().total(metric);
                let values = METRICS.iter().map(|it| format!("{}={}", it.name, total(it.metric)));
                process::answer(&values.collect::<Vec<_>>().join(" "))?;
            }
            "durations" => {
                let all =
                    HISTOGRAMS.iter().map(|it| collector.publication().durations(it.histogram));
                let all: Vec<Durations> = all.map(Durations).collect();
                process::answer(&serde_json::to_string(&all).map_err(std::io::Error::from)?)?;
            }
            "origin" => process::answer(&origin.0.to_string())?,
            _ => break,
        }
    }
    collector.stop()?;
    Ok(process::answer("stopped")?)
}

/// A collector in a process of its own.
pub(crate) struct CollectorProcess {
    /// The process.
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What drives its sockets.
    pub(crate) driver: String,
}

impl CollectorProcess {
    /// Starts one on `data`. `settings` are `name=value`; `around` as in `Process::start`.
    pub(crate) fn start(
        data: &Path,
        settings: &[String],
        around: &[String],
    ) -> Result<CollectorProcess, BenchError> {
        let fixed = [format!("data={}", data.display()), "listen=127.0.0.1:0".to_owned()];
        let arguments = [&fixed, settings].concat();
        let mut process = Process::start(ROLE, &arguments, around)?;
        let line = process.answer()?;
        let mut words = line.split(' ').skip(1);
        let address = words.next().and_then(|word| word.parse().ok());
        let driver = words.next().unwrap_or_default().to_owned();
        let told = || BenchError::Process { role: ROLE, told: line.clone() };
        Ok(CollectorProcess { process, address: address.ok_or_else(told)?, driver })
    }

    /// What it has counted.
    pub(crate) fn counts(&mut self) -> Result<Counts, BenchError> {
        let line = self.process.ask("counters")?;
        let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        let values = pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Ok(Counts { values: values.collect() })
    }

    /// What its histograms hold, each at the place of its `Histogram`.
    pub(crate) fn durations(&mut self) -> Result<Vec<Durations>, BenchError> {
        let line = self.process.ask("durations")?;
        serde_json::from_str(&line)
            .map_err(|error| BenchError::Process { role: ROLE, told: format!("{error}: {line}") })
    }

    /// When its clock began.
    pub(crate) fn origin(&mut self) -> Result<Micros, BenchError> {
        let line = self.process.ask("origin")?;
        let origin = line.parse().map_err(|_| BenchError::Process { role: ROLE, told: line });
        Ok(Micros(origin?))
    }

    /// Looks until `done` holds; the counts then, and when it was. `None` when it does not hold
    /// within `limit`.
    pub(crate) fn wait_for(
        &mut self,
        limit: Duration,
        done: impl Fn(&Counts) -> bool,
    ) -> Result<Option<(Counts, Instant)>, BenchError> {
        let began = Instant::now();
        while began.elapsed() < limit {
            let counts = self.counts()?;
            if done(&counts) {
                return Ok(Some((counts, Instant::now())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(None)
    }

    /// Looks until so many mappings since `before` are applied and every row is durable; the
    /// counts then, and when it was. `None` when that does not come within `limit`. Rows count as
    /// pushed in the turn in which their mappings are applied.
    pub(crate) fn wait_until_durable(
        &mut self,
        before: &Counts,
        mappings: u64,
        limit: Duration,
    ) -> Result<Option<(Counts, Instant)>, BenchError> {
        let began = Instant::now();
        let applied = |counts: &Counts| {
            let seen = |metric| counts.since(before, metric);
            seen(Metric::Changes) + seen(Metric::Confirmed) >= mappings
        };
        if self.wait_for(limit, applied)?.is_none() {
            return Ok(None);
        }
        let left = limit.saturating_sub(began.elapsed());
        self.wait_for(left, |counts| {
            counts.get(Metric::RowsCommitted) == counts.get(Metric::RowsPushed)
        })
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) -> Result<(), BenchError> {
        self.process.ask("stop").map(drop)
    }
}

/// Counters of a collector at one moment, summed over its shards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    values: BTreeMap<String, u64>,
}

impl Counts {
    /// The value of a metric.
    pub(crate) fn get(&self, metric: Metric) -> u64 {
        self.values.get(METRICS[metric as usize].name).copied().unwrap_or(0)
    }

    /// How far a counter has moved since `before`.
    pub(crate) fn since(&self, before: &Counts, metric: Metric) -> u64 {
        self.get(metric).saturating_sub(before.get(metric))
    }
}

/// A histogram of a collector: (upper bound in microseconds, how many), bucket by bucket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Durations(Vec<(u64, u64)>);

impl Durations {
    /// What was observed since `before`.
    pub(crate) fn since(&self, before: &Durations) -> Durations {
        let earlier = before.0.iter().map(|bucket| bucket.1).chain(std::iter::repeat(0));
        let buckets = self.0.iter().zip(earlier);
        Durations(buckets.map(|((bound, now), then)| (*bound, now.saturating_sub(then))).collect())
    }

    /// The bound that a share (0 to 1) of them does not exceed, ms; 0 without any, infinite above
    /// the last bound.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let count: u64 = self.0.iter().map(|bucket| bucket.1).sum();
        let wanted = (count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bound, count) in &self.0 {
            seen += count;
            if seen >= wanted && *count > 0 {
                return if *bound == u64::MAX { f64::INFINITY } else { *bound as f64 / 1e3 };
            }
        }
        0.0
    }
}

/// The histogram of a collector that began with none, or `since` of two.
pub(crate) fn of(durations: &[Durations], histogram: Histogram) -> Durations {
    durations.get(histogram as usize).cloned().unwrap_or_default()
}

/// Reads a folder as `stormdrain verify` does, and says what it found. `offered` is how many
/// mappings were sent into it.
pub(crate) fn verify_folder(
    run: &mut Run,
    data: &Path,
    offered: u64,
) -> Result<VerifyReport, BenchError> {
    let report = verify(data)?;
    let (rows, bytes) = (report.change_rows, report.bytes);
    let share = rows as f64 / offered.max(1) as f64;
    run.note(format!(
        "verify: {rows} change rows on disk for {offered} mappings offered ({share:.4}), \
         {bytes} bytes, {} faults",
        report.faults_count
    ))?;
    for fault in report.faults.iter().take(3) {
        run.fault(fault)?;
    }
    Ok(report)
}
