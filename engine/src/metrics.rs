//! Metrics: one table of everything that is counted, the counters, and their text.
//!
//! In:   plain additions by the shard that owns a `Counters`.
//! Out:  `Publication`, which other threads read; Prometheus text; docs/metrics.md.
//! Law:  a queue is what was pushed and what was popped, never a gauge; a cause has a counter.
//! Not:  when to publish (a driver, once per turn of its loop), or serving the text (`http`).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use storage::row::Cause;
use storage::time::{Hour, Micros};

use crate::memory::Memory;
use crate::query::RowsMissing;
use crate::watch::{Alarm, Layer, Outcome, Verdict};

mod table;

pub use table::{
    HISTOGRAMS, Histogram, KEPT, Kept, METRICS, Metric, MetricEntry, MetricKind, page,
};

/// What one shard has counted since the start. Plain numbers: nothing here is shared.
#[derive(Clone, Debug)]
pub struct Counters {
    values: Box<[u64; VALUES]>,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { values: Box::new([0; VALUES]) }
    }
}

impl Counters {
    /// Adds to a counter.
    #[inline]
    pub fn add(&mut self, metric: Metric, count: u64) {
        let slot = &mut self.values[metric as usize];
        *slot = slot.wrapping_add(count);
    }

    /// Sets a metric of the kind `State`: a fact that is true now, not a queue.
    #[inline]
    pub fn set(&mut self, metric: Metric, value: u64) {
        debug_assert!(METRICS[metric as usize].kind == MetricKind::State);
        self.values[metric as usize] = value;
    }

    /// The value of a metric.
    #[inline]
    pub fn get(&self, metric: Metric) -> u64 {
        self.values[metric as usize]
    }

    /// Counts one rejection of so many bytes and mappings.
    pub fn reject(&mut self, cause: Cause, bytes: u64, mappings: u64) {
        let first = CAUSES_FIRST + cause as usize * CAUSE_VALUES;
        for (slot, count) in self.values.iter_mut().skip(first).zip([1, bytes, mappings]) {
            *slot = slot.wrapping_add(count);
        }
    }

    /// Counts more bytes of something whose rejection has been counted: the rest of a stream.
    pub fn reject_rest(&mut self, cause: Cause, bytes: u64) {
        let slot = &mut self.values[CAUSES_FIRST + cause as usize * CAUSE_VALUES + 1];
        *slot = slot.wrapping_add(bytes);
    }

    /// (rejections, bytes, mappings) of one cause.
    pub fn rejected(&self, cause: Cause) -> (u64, u64, u64) {
        let first = CAUSES_FIRST + cause as usize * CAUSE_VALUES;
        (self.values[first], self.values[first + 1], self.values[first + 2])
    }

    /// Counts one duration in a histogram.
    pub fn observe(&mut self, histogram: Histogram, duration_us: u64) {
        let first = HISTOGRAMS_FIRST + histogram as usize * HISTOGRAM_VALUES;
        let bucket = BOUNDS_US.partition_point(|bound| *bound < duration_us);
        self.values[first + bucket] += 1;
        let sum = &mut self.values[first + BOUNDS_US.len() + 1];
        *sum = sum.wrapping_add(duration_us);
    }
}

/// Places without rows that are remembered: each is some hundred bytes.
const PLACES_LACKING_MAX: usize = 1_000;

/// The counters of every shard as other threads may read them.
#[derive(Debug)]
pub struct Publication {
    shards: Vec<Cells>,
    driver: OnceLock<(&'static str, String)>,
    memory: OnceLock<Arc<Memory>>,
    kept: [AtomicU64; KEPT.len()],
    /// Bursts by outcome, and by layer, the first of which is none.
    bursts: [[AtomicU64; 1 + Layer::ALL.len()]; Outcome::ALL.len()],
    /// The first hour of the log that can be asked about.
    horizon: AtomicI64,
    /// Places of the log whose rows cannot be read, as far as this process has met them.
    places_lacking: Mutex<Vec<RowsMissing>>,
    /// Answers that were given without the rows of some such place.
    answers_lacking: AtomicU64,
    /// For whoever sleeps while nothing comes.
    alarm: Alarm,
}

#[derive(Debug)]
struct Cells {
    values: Box<[AtomicU64]>,
    /// Wall clock of the shard's last turn, microseconds; 0 = it has not turned yet.
    turned: AtomicI64,
}

impl Publication {
    /// Room for so many shards.
    pub fn new(shards: usize) -> Publication {
        let cells = || Cells {
            values: (0..VALUES).map(|_| AtomicU64::new(0)).collect(),
            turned: AtomicI64::new(0),
        };
        Publication {
            shards: (0..shards).map(|_| cells()).collect(),
            driver: OnceLock::new(),
            memory: OnceLock::new(),
            kept: std::array::from_fn(|_| AtomicU64::new(0)),
            bursts: Default::default(),
            horizon: AtomicI64::new(0),
            places_lacking: Mutex::new(Vec::new()),
            answers_lacking: AtomicU64::new(0),
            alarm: Alarm::default(),
        }
    }

    /// Publishes what a shard has counted. Called by its thread once per turn of its loop, and at
    /// least once a second when nothing happens: that is how the shard is known to live.
    ///
    /// Returns whether something has come or goes on since it published last: the alarm is to know.
    pub fn publish(&self, shard: usize, counters: &Counters, now: Micros) -> bool {
        let Some(cells) = self.shards.get(shard) else { return false };
        let differs = |metric: &Metric| {
            let cell = &cells.values[*metric as usize];
            cell.load(Ordering::Relaxed) != counters.get(*metric)
        };
        let has_come = COMINGS.iter().any(differs);
        for (cell, value) in cells.values.iter().zip(counters.values.iter()) {
            // Each number stands for itself: no other memory is read by its value.
            cell.store(*value, Ordering::Relaxed);
        }
        cells.turned.store(now.0, Ordering::Release);
        has_come
    }

    /// What wakes those who sleep while nothing comes.
    pub fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// What changes when something comes or goes on, as one number: the same number, and it is
    /// silent.
    pub fn comings(&self) -> u64 {
        COMINGS.iter().fold(0, |sum, metric| sum.wrapping_add(self.total(*metric)))
    }

    /// Says which driver won and why; the first word stands.
    pub fn set_driver(&self, driver: &'static str, reason: &str) {
        let _ = self.driver.set((driver, reason.to_owned()));
    }

    /// Which driver turns the shards, and why.
    pub fn driver(&self) -> Option<(&'static str, &str)> {
        self.driver.get().map(|(name, reason)| (*name, reason.as_str()))
    }

    /// Says which budget the shards share; the first word stands.
    pub fn set_memory(&self, memory: Arc<Memory>) {
        let _ = self.memory.set(memory);
    }

    /// The budget that the shards share.
    pub fn memory(&self) -> Option<&Arc<Memory>> {
        self.memory.get()
    }

    /// Adds to what the keeper and the watch count.
    pub fn keep(&self, kept: Kept, count: u64) {
        self.kept[kept as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What has been counted of it.
    pub fn kept(&self, kept: Kept) -> u64 {
        self.kept[kept as usize].load(Ordering::Relaxed)
    }

    /// Counts a burst that was judged.
    pub fn judged(&self, verdict: &Verdict) {
        let layer = verdict.layer.map_or(0, |layer| 1 + layer as usize);
        self.bursts[verdict.outcome as usize][layer].fetch_add(1, Ordering::Relaxed);
    }

    /// Says from which hour on the log is kept; the hour 0 = all of it.
    pub fn set_horizon(&self, horizon: Hour) {
        self.horizon.store(horizon.0, Ordering::Relaxed);
    }

    /// Says where rows of the log cannot be read. What was said before is said once.
    pub fn lacks(&self, places: &[RowsMissing]) {
        let mut known = self.places_lacking.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places {
            let is_new = !known.iter().any(|it| (&it.file, it.byte) == (&place.file, place.byte));
            if is_new && known.len() < PLACES_LACKING_MAX {
                known.push(place.clone());
            }
        }
    }

    /// Counts an answer from which rows are missing, and notes where.
    pub fn answered_lacking(&self, places: &[RowsMissing]) {
        if !places.is_empty() {
            self.answers_lacking.fetch_add(1, Ordering::Relaxed);
            self.lacks(places);
        }
    }

    /// Where rows of the log cannot be read, as far as this process has met it.
    pub fn places_lacking(&self) -> Vec<RowsMissing> {
        self.places_lacking.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The wall clock of a shard's last turn; `None` before its first.
    pub fn turned(&self, shard: usize) -> Option<Micros> {
        let turned = self.shards.get(shard)?.turned.load(Ordering::Acquire);
        (turned != 0).then_some(Micros(turned))
    }

    /// What a shard had counted when it published last.
    pub fn counters(&self, shard: usize) -> Counters {
        let mut counters = Counters::default();
        if let Some(cells) = self.shards.get(shard) {
            for (value, cell) in counters.values.iter_mut().zip(&cells.values) {
                *value = cell.load(Ordering::Relaxed);
            }
        }
        counters
    }

    /// The sum over all shards of one metric.
    pub fn total(&self, metric: Metric) -> u64 {
        let load = |cells: &Cells| cells.values[metric as usize].load(Ordering::Relaxed);
        self.shards.iter().map(load).fold(0, u64::wrapping_add)
    }

    /// The value of one metric of one shard.
    pub fn value(&self, shard: usize, metric: Metric) -> u64 {
        let load = |cells: &Cells| cells.values[metric as usize].load(Ordering::Relaxed);
        self.shards.get(shard).map_or(0, load)
    }

    /// Mappings that were refused because tables had no room for them.
    pub fn refused_for_room(&self) -> u64 {
        let place = CAUSES_FIRST + Cause::TableFull as usize * CAUSE_VALUES + 2;
        let load = |cells: &Cells| cells.values[place].load(Ordering::Relaxed);
        self.shards.iter().map(load).fold(0, u64::wrapping_add)
    }

    /// The highest value over all shards of one metric.
    pub fn highest(&self, metric: Metric) -> u64 {
        let load = |cells: &Cells| cells.values[metric as usize].load(Ordering::Relaxed);
        self.shards.iter().map(load).max().unwrap_or(0)
    }

    /// How many durations fell into each bucket of a histogram, over all shards: the bucket's
    /// upper bound in microseconds, and the count; the last bucket has no bound (`u64::MAX`).
    pub fn durations(&self, histogram: Histogram) -> Vec<(u64, u64)> {
        let first = HISTOGRAMS_FIRST + histogram as usize * HISTOGRAM_VALUES;
        let bounds = BOUNDS_US.into_iter().chain([u64::MAX]);
        let total = |place: usize| {
            let load = |cells: &Cells| cells.values[place].load(Ordering::Relaxed);
            self.shards.iter().map(load).fold(0, u64::wrapping_add)
        };
        bounds.zip(first..).map(|(bound, place)| (bound, total(place))).collect()
    }

    /// Everything in the text format of Prometheus.
    pub fn text(&self) -> String {
        let shards: Vec<Counters> = (0..self.shards()).map(|shard| self.counters(shard)).collect();
        let mut text = String::with_capacity(16 << 10);
        for entry in METRICS {
            head(&mut text, entry.name, entry.kind.prometheus(), entry.help);
            for (shard, counters) in shards.iter().enumerate() {
                let value = counters.get(entry.metric);
                line(&mut text, entry.name, &format!("shard=\"{shard}\""), value);
            }
        }
        rejections(&mut text, &shards);
        for entry in HISTOGRAMS {
            head(&mut text, entry.name, "histogram", entry.help);
            for (shard, counters) in shards.iter().enumerate() {
                histogram(&mut text, entry.name, shard, counters, entry.histogram);
            }
        }
        self.budget(&mut text);
        for ((name, help), value) in KEPT.iter().zip(&self.kept) {
            head(&mut text, name, "counter", help);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {}", value.load(Ordering::Relaxed));
        }
        let (name, help) = table::LINES;
        head(&mut text, name, "counter", help);
        let _ = writeln!(text, "{name} {}", crate::lines::lost());
        self.judgements(&mut text);
        let (name, help) = table::HORIZON;
        let seconds = Hour(self.horizon.load(Ordering::Relaxed)).start().0 / 1_000_000;
        head(&mut text, name, "gauge", help);
        let _ = writeln!(text, "{name} {seconds}");
        self.lacking(&mut text);
        self.about(&mut text);
        text
    }

    fn lacking(&self, text: &mut String) {
        let places = self.places_lacking().len() as u64;
        let answers = self.answers_lacking.load(Ordering::Relaxed);
        for ((name, kind, help), value) in table::LACKING.iter().zip([places, answers]) {
            head(text, name, kind, help);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {value}");
        }
    }

    fn judgements(&self, text: &mut String) {
        let (name, _, help) = table::BURSTS;
        head(text, name, "counter", help);
        for (outcome, layers) in Outcome::ALL.iter().zip(&self.bursts) {
            let names = std::iter::once("none").chain(Layer::ALL.map(Layer::name));
            for (place, (layer, count)) in names.zip(layers).enumerate() {
                // What is clean is so in every layer, and so is what nobody knows of any.
                let is_of_none = matches!(outcome, Outcome::Clean | Outcome::Unknown);
                if !is_of_none || place == 0 {
                    let labels = format!("verdict=\"{}\",layer=\"{layer}\"", outcome.name());
                    line(text, name, &labels, count.load(Ordering::Relaxed));
                }
            }
        }
    }

    fn budget(&self, text: &mut String) {
        let Some(memory) = self.memory.get() else { return };
        let values = [
            memory.budget().total_bytes,
            memory.budget().question_bytes,
            memory.budget().table_bytes_max,
            memory.table_bytes(),
            memory.surge_bytes_max(),
            memory.surge_high_bytes(),
            u64::try_from(memory.surge_room()).unwrap_or(0),
        ];
        for ((name, help), value) in table::MEMORY.iter().zip(values) {
            head(text, name, "gauge", help);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {value}");
        }
    }

    fn about(&self, text: &mut String) {
        let version = env!("CARGO_PKG_VERSION");
        head(text, "stormdrain_build_info", "gauge", "Version of the collector; always 1.");
        line(text, "stormdrain_build_info", &format!("version=\"{version}\""), 1);
        if let Some((driver, reason)) = self.driver.get() {
            let name = "stormdrain_io_driver_info";
            head(text, name, "gauge", "Which driver turns the shards, and why; always 1.");
            let reason = escaped(reason);
            line(text, name, &format!("driver=\"{driver}\",reason=\"{reason}\""), 1);
        }
    }
}

fn rejections(text: &mut String, shards: &[Counters]) {
    for (index, (name, help)) in table::REJECTIONS.iter().enumerate() {
        head(text, name, "counter", help);
        for (shard, counters) in shards.iter().enumerate() {
            for cause in Cause::ALL {
                let (times, bytes, mappings) = counters.rejected(*cause);
                let value = [times, bytes, mappings][index];
                let labels = format!("cause=\"{}\",shard=\"{shard}\"", cause.name());
                line(text, name, &labels, value);
            }
        }
    }
}

fn histogram(text: &mut String, name: &str, shard: usize, counters: &Counters, which: Histogram) {
    let first = HISTOGRAMS_FIRST + which as usize * HISTOGRAM_VALUES;
    let values = &counters.values[first..first + HISTOGRAM_VALUES];
    let mut count = 0;
    for (bound, value) in BOUNDS_US.iter().zip(values) {
        count += value;
        let labels = format!("shard=\"{shard}\",le=\"{}\"", Seconds(*bound));
        line(text, &format!("{name}_bucket"), &labels, count);
    }
    count += values[BOUNDS_US.len()];
    line(text, &format!("{name}_bucket"), &format!("shard=\"{shard}\",le=\"+Inf\""), count);
    // Writing to a String cannot fail.
    let sum = Seconds(values[BOUNDS_US.len() + 1]);
    let _ = writeln!(text, "{name}_sum{{shard=\"{shard}\"}} {sum}");
    line(text, &format!("{name}_count"), &format!("shard=\"{shard}\""), count);
}

pub(crate) fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

pub(crate) fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(text, "{name}{{{labels}}} {value}");
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

/// What moves when something comes from routers, is digested, or is to be made durable.
const COMINGS: [Metric; 3] = [Metric::ReceivedBytes, Metric::MappingsFramed, Metric::RowsPushed];

/// Microseconds, written as seconds without rounding.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, rest_us) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let decimals = format!("{rest_us:06}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{seconds}"),
            decimals => write!(f, "{seconds}.{decimals}"),
        }
    }
}

/// Upper bounds of a histogram's buckets: 100 µs, where a sync on a fast disk begins, to 10 s,
/// where nobody waits any more. Close together where commits of a healthy host lie: below the
/// default interval of 20 ms for the disk alone, up to twice of it with the wait for the batch.
const BOUNDS_US: [u64; 26] = [
    100, 250, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 7_500, 10_000, 15_000, 20_000, 25_000,
    30_000, 35_000, 40_000, 50_000, 75_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
/// Per cause: rejections, bytes, mappings.
const CAUSE_VALUES: usize = 3;
/// Per histogram: its buckets, the one above all bounds, and the sum.
const HISTOGRAM_VALUES: usize = BOUNDS_US.len() + 2;
const CAUSES_FIRST: usize = METRICS.len();
const HISTOGRAMS_FIRST: usize = CAUSES_FIRST + Cause::ALL.len() * CAUSE_VALUES;
const VALUES: usize = HISTOGRAMS_FIRST + HISTOGRAMS.len() * HISTOGRAM_VALUES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_and_every_metric_has_a_place_of_its_own() {
        let mut counters = Counters::default();
        for (index, entry) in METRICS.iter().enumerate() {
            assert_eq!(entry.metric as usize, index, "{}", entry.name);
            assert!(entry.name.starts_with("stormdrain_"), "{}", entry.name);
            let total = entry.name.ends_with("_total");
            assert_eq!(total, entry.kind == MetricKind::Counter, "{}", entry.name);
            counters.values[index] += index as u64 + 1;
        }
        for (index, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, index, "{}", cause.name());
            counters.reject(*cause, 100 + index as u64, 200);
        }
        counters.observe(Histogram::Commit, 7);
        for (index, entry) in METRICS.iter().enumerate() {
            assert_eq!(counters.get(entry.metric), index as u64 + 1, "{}", entry.name);
        }
        for (index, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(counters.rejected(*cause), (1, 100 + index as u64, 200));
        }
    }

    #[test]
    fn the_text_is_what_was_published_shard_by_shard() {
        let publication = Publication::new(2);
        publication.set_driver("epoll", "io_uring is \"disabled\"");
        let mut counters = Counters::default();
        counters.add(Metric::ReceivedBytes, 40);
        counters.reject(Cause::FrameChecksum, 17, 0);
        counters.observe(Histogram::Commit, 100);
        counters.observe(Histogram::Commit, 2_000);
        counters.observe(Histogram::Commit, 99_000_000);
        assert_eq!(publication.turned(1), None);
        publication.publish(1, &counters, Micros(5));
        assert_eq!(publication.turned(1), Some(Micros(5)));
        assert_eq!(publication.total(Metric::ReceivedBytes), 40);
        let durations = publication.durations(Histogram::Commit);
        let filled: Vec<_> = durations.into_iter().filter(|bucket| bucket.1 > 0).collect();
        assert_eq!(filled, [(100, 1), (2_000, 1), (u64::MAX, 1)]);
        let text = publication.text();
        for expected in [
            "# TYPE stormdrain_received_bytes_total counter\n",
            "stormdrain_received_bytes_total{shard=\"0\"} 0\n",
            "stormdrain_received_bytes_total{shard=\"1\"} 40\n",
            "stormdrain_rejected_bytes_total{cause=\"frame-checksum\",shard=\"1\"} 17\n",
            "stormdrain_commit_seconds_bucket{shard=\"1\",le=\"0.0001\"} 1\n",
            "stormdrain_commit_seconds_bucket{shard=\"1\",le=\"0.002\"} 2\n",
            "stormdrain_commit_seconds_bucket{shard=\"1\",le=\"10\"} 2\n",
            "stormdrain_commit_seconds_bucket{shard=\"1\",le=\"+Inf\"} 3\n",
            "stormdrain_commit_seconds_sum{shard=\"1\"} 99.0021\n",
            "stormdrain_commit_seconds_count{shard=\"1\"} 3\n",
            "{driver=\"epoll\",reason=\"io_uring is \\\"disabled\\\"\"} 1\n",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn every_metric_is_counted() {
        let code = crate::pages::code_outside(&["metrics", "http"]);
        let metrics = METRICS.iter().map(|entry| format!("Metric::{:?}", entry.metric));
        let histograms = HISTOGRAMS.iter().map(|entry| format!("Histogram::{:?}", entry.histogram));
        let uncounted: Vec<String> =
            metrics.chain(histograms).filter(|name| !code.contains(name.as_str())).collect();
        assert_eq!(uncounted, [""; 0]);
    }

    #[test]
    fn the_page_of_metrics_is_fresh() {
        crate::pages::check("metrics.md", &page());
    }
}
