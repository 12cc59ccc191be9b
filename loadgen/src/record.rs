//! The record of a run: what moved when, act by act.
//!
//! In:   looks at the acts under way; the kernel's counters; the collector's, if it runs here.
//! Out:  `ActRecord`: samples over time, and what other processes took of the CPUs meanwhile.
//! Law:  it only looks: nothing of the run waits for it, and what cannot be read is left out.
//! Not:  latencies (`sender`), drawing (`page`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::metrics::{Metric, Publication};
use serde::Serialize;
use tuning::counters::{Counters, LOSS_COUNTERS, PRESSURE_COUNTERS};
use tuning::host::{self, Disturbance, Watch};

use crate::clock::instant;
use crate::sender::Progress;
use crate::stage::Look;

/// Between two samples: the resolution of a burst.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// Between two readings of the kernel's counters: a reading costs a tenth of a millisecond.
const COUNTERS_EVERY: Duration = Duration::from_millis(100);
/// Samples of one act; then every second one is dropped, and from then on taken half as often.
const SAMPLES_MAX: usize = 4_096;

/// What was there at one moment of an act. Counts are since the act began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Milliseconds since the act began.
    pub at_ms: f64,
    /// Frames that the kernel had taken from the senders.
    pub frames_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Mappings that were durable.
    pub mappings_durable: u64,
    /// Sessions that were connected.
    pub connected: u64,
    /// Bytes that each shard had received; empty where the collector runs elsewhere.
    pub shard_received_bytes: Vec<u64>,
    /// Bytes that the collector's shards held for sessions and tables; absent as above.
    pub shard_memory_bytes: Option<u64>,
    /// Resident memory of this process, which is the collector's too where it runs here.
    pub resident_bytes: u64,
    /// Bytes of the collector's log; absent where it runs elsewhere.
    pub log_bytes: Option<u64>,
}

/// The kernel's counters at one moment of an act.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelSample {
    /// Milliseconds since the act began.
    pub at_ms: f64,
    /// Those that have moved since the act began, and how far.
    pub moved: Vec<(String, i64)>,
}

/// One act, over time.
#[derive(Clone, Debug, Serialize)]
pub struct ActRecord {
    /// Its name.
    pub act: &'static str,
    /// What other processes took of the CPUs.
    #[serde(skip)]
    pub disturbance: Option<Disturbance>,
    /// Every `SAMPLE_EVERY`, or a power of two times as long in a long act.
    pub samples: Vec<Sample>,
    /// Every tenth of a second; empty where the counters cannot be read.
    pub kernel: Vec<KernelSample>,
}

/// Looks, and remembers.
pub struct Recorder {
    /// Processes that belong to the run besides this one.
    others: Vec<u32>,
    publication: Option<Arc<Publication>>,
    acts: Vec<ActRecord>,
    open: Option<Open>,
    /// Which act it was at the last look.
    last: u64,
}

/// What an act under way is compared with.
struct Open {
    began: Instant,
    watch: Watch,
    every: Duration,
    first: Sample,
    sampled: Option<Instant>,
    counters: Option<Counters>,
    counted: Option<Instant>,
}

impl Recorder {
    /// Nothing is recorded before the first `look`. `others` are processes on this host that
    /// belong to the run; `publication` is the collector's, where it runs in this process.
    pub fn new(others: Vec<u32>, publication: Option<Arc<Publication>>) -> Recorder {
        Recorder { others, publication, acts: Vec::new(), open: None, last: 0 }
    }

    /// The collector has been started anew: what it has counted begins at nothing.
    pub fn follow(&mut self, publication: Arc<Publication>) {
        self.publication = Some(publication);
    }

    /// Takes a look at an act; those without progress end the one before and are not recorded.
    pub fn look(&mut self, look: &Look<'_>) {
        let Some(progress) = look.progress else {
            self.open = None;
            return;
        };
        let act = Progress::value(&progress.acts);
        if self.open.is_none() || act != self.last {
            self.begin(look.act, progress);
        }
        self.last = act;
        let (Some(open), Some(act)) = (&mut self.open, self.acts.last_mut()) else { return };
        let (now, is_over) = (instant(), look.done >= look.all);
        let due = |last: Option<Instant>, every| last.is_none_or(|last| now - last >= every);
        if is_over || due(open.sampled, open.every) {
            open.sampled = Some(now);
            let sample = sample(progress, self.publication.as_deref());
            act.samples.push(sample.since(&open.first, now - open.began));
            if act.samples.len() > SAMPLES_MAX {
                let mut keep = false;
                act.samples.retain(|_| {
                    keep = !keep;
                    keep
                });
                open.every *= 2;
            }
        }
        if is_over || due(open.counted, COUNTERS_EVERY) {
            open.counted = Some(now);
            act.kernel.extend(open.kernel_sample(now));
        }
        if is_over {
            let processes = processes(&self.others);
            act.disturbance = open.watch.end(&processes);
        }
    }

    /// What was recorded.
    pub fn into_acts(self) -> Vec<ActRecord> {
        self.acts
    }

    fn begin(&mut self, act: &'static str, progress: &Progress) {
        self.open = Some(Open {
            began: instant(),
            watch: Watch::start(&processes(&self.others)),
            every: SAMPLE_EVERY,
            first: sample(progress, self.publication.as_deref()),
            sampled: None,
            counters: Counters::read().ok(),
            counted: None,
        });
        self.acts.push(ActRecord {
            act,
            disturbance: None,
            samples: Vec::new(),
            kernel: Vec::new(),
        });
    }
}

impl ActRecord {
    /// Milliseconds between two samples, in the mean.
    pub fn sample_ms(&self) -> f64 {
        let pairs = self.samples.len().saturating_sub(1).max(1) as f64;
        let last = self.samples.last().map_or(0.0, |sample| sample.at_ms);
        last / pairs
    }
}

impl Open {
    fn kernel_sample(&self, now: Instant) -> Option<KernelSample> {
        let (before, after) = (self.counters.as_ref()?, Counters::read().ok()?);
        let mut moved = after.moved_since(before);
        let shown = |name: &str| LOSS_COUNTERS.contains(&name) || PRESSURE_COUNTERS.contains(&name);
        moved.retain(|(name, _)| shown(name));
        Some(KernelSample { at_ms: milliseconds(now - self.began), moved })
    }
}

impl Sample {
    fn since(mut self, first: &Sample, elapsed: Duration) -> Sample {
        self.at_ms = milliseconds(elapsed);
        self.frames_sent -= first.frames_sent.min(self.frames_sent);
        self.bytes_sent -= first.bytes_sent.min(self.bytes_sent);
        self.mappings_durable -= first.mappings_durable.min(self.mappings_durable);
        for (bytes, first) in self.shard_received_bytes.iter_mut().zip(&first.shard_received_bytes)
        {
            *bytes -= (*first).min(*bytes);
        }
        self
    }
}

fn sample(progress: &Progress, publication: Option<&Publication>) -> Sample {
    let shards = publication.map_or(0, Publication::shards);
    let of_shard = |shard, metric| {
        publication.map_or(0, |publication| publication.counters(shard).get(metric))
    };
    let total = |metric| publication.map(|publication| publication.total(metric));
    let memory = [Metric::SurgeHeldBytes, Metric::TableBytes].map(total);
    Sample {
        at_ms: 0.0,
        frames_sent: Progress::value(&progress.frames_sent),
        bytes_sent: Progress::value(&progress.bytes_sent),
        mappings_durable: Progress::value(&progress.mappings_acked),
        connected: Progress::value(&progress.connected),
        shard_received_bytes: (0..shards)
            .map(|shard| of_shard(shard, Metric::ReceivedBytes))
            .collect(),
        shard_memory_bytes: memory.iter().copied().sum::<Option<u64>>(),
        resident_bytes: host::resident_bytes(),
        log_bytes: total(Metric::LogWrittenBytes),
    }
}

/// Those that belong to the run besides this one: senders in processes of their own are its
/// children.
fn processes(others: &[u32]) -> Vec<u32> {
    let mut processes = host::children();
    processes.extend(others);
    processes
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn an_act_is_recorded_from_its_first_look_to_its_last_relative_to_its_beginning() {
        let progress = Progress::default();
        let mut recorder = Recorder::new(vec![], None);
        let mut look = |act, done, sent| {
            progress.frames_sent.store(sent, Ordering::Relaxed);
            recorder.look(&Look { act, done, all: 10, progress: Some(&progress) });
        };
        look("one", 0, 5);
        look("one", 10, 15);
        progress.begin_act();
        look("two", 0, 15);
        look("two", 10, 18);
        progress.begin_act();
        look("two", 0, 18);
        look("two", 10, 22);
        recorder.look(&Look { act: "verdict", done: 0, all: 1, progress: None });
        let acts = recorder.into_acts();
        let sent = |act: &ActRecord| act.samples.last().map(|sample| sample.frames_sent);
        assert_eq!(acts.iter().map(|act| act.act).collect::<Vec<_>>(), ["one", "two", "two"]);
        let expected = [Some(10), Some(3), Some(4)];
        assert_eq!(acts.iter().map(sent).collect::<Vec<_>>(), expected);
        assert!(acts.iter().all(|act| act.samples.len() == 2 && !act.kernel.is_empty()));
    }

    #[test]
    fn a_long_act_is_recorded_more_coarsely_and_never_at_length() {
        let progress = Progress::default();
        let mut recorder = Recorder::new(vec![], None);
        // `done` is all: each look is the last, and is sampled however soon it comes.
        for _ in 0..SAMPLES_MAX + 2 {
            recorder.look(&Look { act: "one", done: 1, all: 1, progress: Some(&progress) });
        }
        let acts = recorder.into_acts();
        let samples = &acts[0].samples;
        assert!(samples.len() <= SAMPLES_MAX, "{}", samples.len());
        assert!(samples.is_sorted_by(|one, other| one.at_ms <= other.at_ms));
    }
}
