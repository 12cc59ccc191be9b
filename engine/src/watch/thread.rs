//! The thread that looks.
//!
//! In:   the publication, the kernel's files, the clock, and the word to stop.
//! Out:  what it saw, told to a `Watch`.
//! Law:  it gives way to the shards, and a look costs some microseconds.
//! Not:  what is a burst (`burst`), or a moment (`moment`).

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tuning::drops::{DropReasons, MOUNTS};
use tuning::sample::Sample;
use tuning::tree::Tree;

use super::burst::{BIN_US, Bin, Burst, Detector, Level, Moved, Turn};
use super::keep::Log;
use super::moment::Maker;
use super::strain::Strain;
use super::survey::Survey;
use super::verdict::{Evidence, judge};
use super::{Kernel, Watch};
use crate::io::Now;
use crate::io::clock::Clock;
use crate::io::links::AbortOnPanic;
use crate::metrics::{Metric, Publication};
use crate::registry::Registry;
use crate::settings::Settings;

/// Below the shards, above the keeper: a late look makes bins coarse.
const NICE: i32 = 5;
/// A moment is a second.
const MOMENT_US: u64 = 1_000_000;
/// A verdict waits so long for the kernel's answers about every connection.
const JUDGED_AFTER_US: u64 = 2_000_000;
/// How often the kernel is asked while a burst runs: 20 Hz.
const BURST_SAMPLE_US: u64 = 50_000;

/// The collector's end of the thread.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts the thread.
    pub(crate) fn start(
        watch: Watch,
        settings: &Settings,
        clock: Clock,
        publication: Arc<Publication>,
        (listen, registry): (SocketAddr, Arc<Registry>),
    ) -> io::Result<Watcher> {
        let (stop, stopped) = bounded(0);
        let now = clock.now();
        let log = Log::start(&settings.data, now, watch.clone(), Arc::clone(&publication))?;
        let drops = settings.drop_reasons.then(open_drops).flatten();
        let survey = Survey::new(listen, registry, now);
        let strain = Strain::new(settings.commit_interval_ms);
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            let work = Work::new(watch, log, survey, clock, publication);
            Work { drops, strain, ..work }.run(&stopped);
        })?;
        Ok(Watcher { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

struct Work {
    watch: Watch,
    log: Log,
    survey: Survey,
    strain: Strain,
    /// Drops by reason, where the kernel tells.
    drops: Option<DropReasons>,
    /// A burst that is over, and since when its verdict is looked for.
    judged_next: Option<(Burst, u64)>,
    clock: Clock,
    publication: Arc<Publication>,
    tree: Tree,
    detector: Detector,
    maker: Maker,
    /// The last reading of the kernel, and when the next is due.
    sample: Sample,
    sample_due_us: u64,
    moment_due_us: u64,
    /// What moved in the kernel since the last moment.
    moved: Vec<Moved>,
    before: (u64, u64),
}

impl Work {
    fn new(
        watch: Watch,
        log: Log,
        survey: Survey,
        clock: Clock,
        publication: Arc<Publication>,
    ) -> Work {
        let now = clock.now();
        let tree = Tree::host();
        Work {
            maker: Maker::new(&publication, now.monotonic_us),
            sample: Sample::read(&tree),
            watch,
            log,
            survey,
            strain: Strain::default(),
            drops: None,
            judged_next: None,
            clock,
            publication,
            tree,
            detector: Detector::default(),
            sample_due_us: now.monotonic_us + MOMENT_US,
            moment_due_us: now.monotonic_us + MOMENT_US,
            moved: Vec::new(),
            before: (0, 0),
        }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        if let Err(error) =
            rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE)
        {
            tracing::debug!(%error, "the watch looks at the priority of everything else");
        }
        loop {
            // To the next edge of a bin, so that looks do not drift.
            let now = self.clock.now();
            let rest = Duration::from_micros(BIN_US - now.monotonic_us % BIN_US);
            match stopped.recv_timeout(rest) {
                Err(RecvTimeoutError::Timeout) => self.look(self.clock.now()),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let now = self.clock.now();
        self.finish(now);
    }

    fn look(&mut self, now: Now) {
        let level = self.level();
        let before = std::mem::replace(&mut self.before, (level.received_bytes, level.mappings));
        self.maker.bin(Bin {
            received_bytes: level.received_bytes.saturating_sub(before.0),
            mappings: level.mappings.saturating_sub(before.1),
            surge_bytes: level.surge_bytes,
        });
        self.strain.look(&self.publication, now);
        let turn = self.detector.look(now, level);
        match turn {
            Some(Turn::Began) => self.began(now),
            Some(Turn::Ended(burst, bins)) => self.ended(*burst, &bins, now),
            None if self.sample_due_us <= now.monotonic_us => self.ask_kernel(now),
            None => {}
        }
        if self.survey.work(now, self.is_busy()) {
            self.watch.tell_connections(self.survey.charged(|survey| survey.connections()));
            self.detector.count_routers(self.survey.charged(|survey| survey.spoke()));
        }
        self.judge_when_seen(now);
        if self.moment_due_us <= now.monotonic_us {
            self.moment(now);
        }
    }

    /// Whether a burst runs, or its verdict is looked for.
    fn is_busy(&self) -> bool {
        self.detector.running().is_some() || self.judged_next.is_some()
    }

    fn level(&self) -> Level {
        let total = |metric| self.publication.total(metric);
        let highest = |metric| self.publication.highest(metric);
        let popped = total(Metric::SurgePoppedBytes);
        Level {
            received_bytes: total(Metric::ReceivedBytes),
            mappings: total(Metric::MappingsFramed),
            gaps: total(Metric::Gaps),
            surge_bytes: total(Metric::SurgePushedBytes).saturating_sub(popped),
            is_blocked: total(Metric::ReceivePaused) + total(Metric::LogFailed) > 0,
            blocked_ms: highest(Metric::ReceivePauseNowMs),
        }
    }

    /// Asks the kernel, and notes what moved.
    fn ask_kernel(&mut self, now: Now) {
        let mut sample = Sample::read(&self.tree);
        self.add_drops(&mut sample);
        let mut moved = moved_since(&sample, &self.sample);
        for (counter, by) in self.survey.fresh().into_iter().filter(|(_, by)| *by > 0) {
            moved.push(Moved { counter: counter.to_owned(), by });
        }
        self.sample = sample;
        let mut time_us = self.detector.note(now, &moved);
        if let Some((burst, _)) = &mut self.judged_next {
            time_us = burst.head.end_us;
            burst.note(time_us, &moved);
        }
        let is_busy = self.is_busy();
        self.log.moved(time_us, &moved, is_busy);
        self.moved.extend(moved);
        let rest_us = if is_busy { BURST_SAMPLE_US } else { MOMENT_US };
        self.sample_due_us = now.monotonic_us + rest_us;
    }

    fn add_drops(&mut self, sample: &mut Sample) {
        let Some(drops) = &mut self.drops else { return };
        if let Err(error) = drops.read() {
            tracing::info!(%error, "drops are no longer counted by reason");
            self.drops = None;
            return;
        }
        for (reason, count) in drops.counts() {
            sample.add(format!("drop.{reason}"), count);
        }
    }

    fn moment(&mut self, now: Now) {
        let mut moment = self.maker.make(&self.publication, now);
        moment.kernel = Kernel {
            moved: summed(std::mem::take(&mut self.moved)),
            tcp_pages: self.sample.tcp_pages,
            tcp_pages_pressure: self.sample.tcp_pages_pressure,
        };
        moment.burst = self.detector.running().map(|burst| burst.head.id);
        self.watch.tell(moment);
        self.tell_running();
        if !self.is_busy() {
            self.mark();
        }
        let bins = self.detector.fresh();
        if let Some(burst) = self.detector.running() {
            self.log.bins(burst.head.start_us, &bins);
        }
        self.log.flush(now);
        // Whole seconds, unless one was missed.
        self.moment_due_us = (self.moment_due_us + MOMENT_US).max(now.monotonic_us + BIN_US);
    }

    fn tell_running(&self) {
        if let Some(burst) = self.detector.running() {
            self.watch.tell_burst(burst.clone());
        }
    }

    fn began(&mut self, now: Now) {
        // The one before is judged by what is known.
        self.judge(now);
        if let Some(burst) = self.detector.running() {
            self.log.begin(&burst.head);
        }
        self.ask_kernel(now);
        self.tell_running();
    }

    /// What it came to is known when every connection has been asked once more.
    fn ended(&mut self, mut burst: Burst, bins: &[(u64, Bin)], now: Now) {
        self.log.bins(burst.head.start_us, bins);
        burst.head.is_running = false;
        self.judged_next = Some((burst, now.monotonic_us));
        self.ask_kernel(now);
    }

    fn judge_when_seen(&mut self, now: Now) {
        let Some((_, since_us)) = &self.judged_next else { return };
        let waited_us = now.monotonic_us.saturating_sub(*since_us);
        if self.survey.has_seen(*since_us) || waited_us >= JUDGED_AFTER_US {
            self.judge(now);
        }
    }

    fn judge(&mut self, now: Now) {
        if self.judged_next.is_none() {
            return;
        }
        self.ask_kernel(now);
        let Some((mut burst, _)) = self.judged_next.take() else { return };
        let evidence = Evidence {
            blocked_longest_ms: burst.head.blocked_longest_ms,
            sockets: self.survey.evidence(),
            moved: burst.head.moved.clone(),
            ..self.strain.evidence()
        };
        burst.head.routers = self.survey.spoke();
        burst.head.worst = self.survey.worst();
        let verdict = judge(&evidence);
        self.publication.judged(&verdict);
        burst.head.verdict = Some(verdict);
        self.log.end(&burst.head);
        self.watch.tell_burst(burst);
        // Nothing of this burst belongs to the next.
        self.mark();
        self.mark();
    }

    fn mark(&mut self) {
        self.survey.charged(Survey::mark);
        self.strain.mark();
    }

    /// The last words: what still runs is over.
    fn finish(mut self, now: Now) {
        if let Some(Turn::Ended(burst, bins)) = self.detector.finish() {
            self.ended(*burst, &bins, now);
        }
        self.judge(now);
        self.log.finish(now);
    }
}

/// The tracepoint, where the operator has made it available; otherwise the log says once why not.
fn open_drops() -> Option<DropReasons> {
    let root = MOUNTS.iter().map(Path::new).find(|root| root.join("instances").exists());
    let is_alive = |owner: u32| Path::new("/proc").join(owner.to_string()).exists();
    let opened = match root {
        Some(root) => DropReasons::open(root, std::process::id(), &is_alive),
        None => Err(io::Error::other("tracefs is not mounted")),
    };
    let told = |error: &io::Error| {
        let fix =
            "as root: mount -t tracefs tracefs /sys/kernel/tracing; or drop_reasons = \"off\"";
        tracing::info!(%error, fix, "drops of the kernel are not counted by reason");
    };
    opened.inspect_err(told).ok()
}

fn moved_since(sample: &Sample, earlier: &Sample) -> Vec<Moved> {
    let moved = sample.moved_since(earlier).into_iter();
    moved.map(|(counter, by)| Moved { counter, by }).collect()
}

/// Each counter once.
fn summed(moved: Vec<Moved>) -> Vec<Moved> {
    let mut burst = Burst::default();
    burst.note(0, &moved);
    burst.head.moved
}

#[cfg(test)]
mod tests {
    use storage::log::read_kernel;

    use super::super::{Outcome, Reader};
    use super::*;
    use crate::metrics::Counters;

    /// Where nobody listens.
    fn nobody() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[test]
    fn the_watch_sees_a_burst_from_its_first_byte_to_its_last() {
        let publication = Arc::new(Publication::new(1));
        let watch = Watch::new();
        let clock = Clock::start();
        let data = tempfile::tempdir().unwrap();
        let log = Log::start(data.path(), clock.now(), Watch::new(), Arc::clone(&publication));
        let log = log.unwrap();
        let survey = Survey::new(nobody(), Arc::new(Registry::default()), clock.now());
        let mut work = Work::new(watch.clone(), log, survey, clock, Arc::clone(&publication));
        let mut counters = Counters::default();
        let wall = clock.now().wall;
        let at = |bin: u64| Now {
            wall: wall.offset((bin * BIN_US) as i64),
            monotonic_us: 1_000_000_000 + bin * BIN_US,
        };
        for bin in 0..400 {
            if (100..150).contains(&bin) {
                counters.add(Metric::ReceivedBytes, 100_000);
                counters.add(Metric::MappingsFramed, 2_000);
            }
            publication.publish(0, &counters, wall);
            work.look(at(bin));
        }
        let bursts = watch.bursts();
        assert_eq!(bursts.len(), 1, "{bursts:?}");
        let burst = watch.burst(bursts[0].id).unwrap();
        assert_eq!((burst.head.mappings, burst.head.received_bytes), (100_000, 5_000_000));
        assert_eq!((burst.head.peak_mappings, burst.head.peak_bytes), (2_000, 100_000));
        assert!(!burst.head.is_running && burst.bins.len() >= 50, "{:?}", burst.head);
        let moments = watch.moments();
        assert_eq!(moments.iter().map(|moment| moment.gained.mappings).sum::<u64>(), 100_000);
        assert!(moments.iter().any(|moment| moment.burst == Some(burst.head.id)));
        assert_eq!(moments.iter().map(|moment| moment.peak.mappings).max(), Some(2_000));
        let verdict = burst.head.verdict.clone();
        assert_eq!(verdict.map(|verdict| verdict.outcome), Some(Outcome::Clean));
        let counted = "stormdrain_bursts_total{verdict=\"clean\",layer=\"none\"} 1\n";
        assert!(publication.text().contains(counted));
        // And so does whoever reads the log.
        work.finish(at(400));
        let mut reader = Reader::default();
        let (since, until) = (wall.offset(-1_000_000), wall.offset(10_000_000));
        read_kernel(data.path(), since, until, &mut |row| reader.take(&row)).unwrap();
        assert_eq!(reader.finish(), [Burst::clone(&burst)]);
    }

    #[test]
    fn the_thread_ends_when_it_is_told() {
        let watch = Watch::new();
        let publication = Arc::new(Publication::new(1));
        let data = tempfile::tempdir().unwrap();
        let listen = (nobody(), Arc::new(Registry::default()));
        let counters = Arc::clone(&publication);
        let settings = Settings { data: data.path().to_owned(), ..Settings::default() };
        let started = Watcher::start(watch.clone(), &settings, Clock::start(), counters, listen);
        let watcher = started.unwrap();
        drop(watcher);
        assert_eq!(Arc::strong_count(&publication), 1, "the thread has let go");
    }
}
