//! The work of the watch: what it does in a look, and how long it may rest after it.
//!
//! In:   the publication, the kernel's files, the survey; the time of each look.
//! Out:  what it saw, told to a `Watch` and to the log; bursts with their verdicts.
//! Law:  a look costs some microseconds; what came after a silence is in the bin in which it came,
//!       however long the silence was.
//! Not:  the thread (`thread`), what is a burst (`burst`), or a moment (`moment`).

use std::sync::Arc;
use std::time::Duration;

use storage::time::Micros;
use tuning::drops::DropReasons;
use tuning::sample::Sample;
use tuning::tree::Tree;

use super::burst::{BIN_US, Bin, Burst, Detector, Level, Moved, Turn};
use super::keep::Log;
use super::moment::Maker;
use super::strain::Strain;
use super::survey::Survey;
use super::verdict::{Evidence, judge};
use super::{Kernel, Watch};
use crate::io::{Now, sockets};
use crate::metrics::{Metric, Publication};

/// A moment is a second.
const MOMENT_US: u64 = 1_000_000;
/// A verdict waits so long for the kernel's answers about every connection.
const JUDGED_AFTER_US: u64 = 2_000_000;
/// Files of the kernel that stay open at most: its own dozen, and those of an interface or two. One
/// of so many descriptors is spent on it.
const FILES_MAX: u64 = 20;
const DESCRIPTORS_PER_FILE: u64 = 50;
/// How often the kernel is asked while a burst runs: 20 Hz.
const BURST_SAMPLE_US: u64 = 50_000;
/// When nothing has come for so long, it is silent: a shard wakes the watch ten times in a second
/// at most, however a trickle comes.
const SILENCE_US: u64 = 100_000;

/// How long the next look is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// To the next edge of a bin, so that looks do not drift.
    Bin(Duration),
    /// So long, unless something comes.
    Silence(Duration),
}

/// What the thread does.
pub(super) struct Work {
    watch: Watch,
    log: Log,
    survey: Survey,
    strain: Strain,
    /// Drops by reason, where the kernel tells.
    drops: Option<DropReasons>,
    /// A burst that is over, and since when its verdict is looked for.
    judged_next: Option<(Burst, u64)>,
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
    /// What the shards had counted at the last look, and when that was.
    level: Level,
    looked_us: u64,
    /// When the next look is wanted.
    due_us: u64,
    /// What had come by the last look, and when something came last.
    comings: u64,
    came_us: u64,
}

impl Work {
    pub(super) fn new(
        watch: Watch,
        log: Log,
        survey: Survey,
        now: Now,
        publication: Arc<Publication>,
    ) -> Work {
        // Where descriptors are few they are for connections.
        let kept_open = sockets::descriptor_limit() / DESCRIPTORS_PER_FILE;
        let tree = Tree::host().kept_open(kept_open.min(FILES_MAX) as usize);
        Work {
            maker: Maker::new(&publication, now.monotonic_us),
            sample: first_sample(&tree),
            watch,
            log,
            survey,
            strain: Strain::default(),
            drops: None,
            judged_next: None,
            publication,
            tree,
            detector: Detector::default(),
            sample_due_us: now.monotonic_us + MOMENT_US,
            moment_due_us: now.monotonic_us + MOMENT_US,
            moved: Vec::new(),
            level: Level::default(),
            looked_us: now.monotonic_us,
            due_us: edge_after(now.monotonic_us),
            comings: 0,
            came_us: now.monotonic_us,
        }
    }

    /// The same, with what else a collector has to look at.
    pub(super) fn with(self, strain: Strain, drops: Option<DropReasons>) -> Work {
        Work { strain, drops, ..self }
    }

    /// Whether nothing has come since the last look.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.publication.comings() == self.comings
    }

    /// How long to rest now.
    pub(super) fn rest(&mut self, now: Now) -> Rest {
        let silent_us = now.monotonic_us.saturating_sub(self.came_us);
        let waits = self.is_busy() || self.level.is_blocked || self.strain.waits();
        if waits || silent_us < SILENCE_US {
            let rest_us = BIN_US - now.monotonic_us % BIN_US;
            return Rest::Bin(Duration::from_micros(rest_us));
        }
        let wanted_us = self.survey.wants_us().map(|rest_us| now.monotonic_us + rest_us);
        let due = [self.moment_due_us, self.sample_due_us].into_iter().chain(wanted_us).min();
        self.due_us = due.unwrap_or(self.moment_due_us).max(now.monotonic_us);
        Rest::Silence(Duration::from_micros(self.due_us - now.monotonic_us))
    }

    /// A silence ended at `came_us`: until then there was nothing in any bin.
    pub(super) fn silent_until(&mut self, came_us: u64, now: Now) {
        let ago_us = now.monotonic_us.saturating_sub(came_us);
        let then =
            Now { wall: Micros(now.wall.0.saturating_sub_unsigned(ago_us)), monotonic_us: came_us };
        let turn = self.detector.look(then, self.level);
        debug_assert!(turn.is_none(), "no burst begins with nothing");
        self.came_us = self.came_us.max(came_us);
        self.looked_us = self.looked_us.max(came_us);
        self.due_us = edge_after(self.looked_us);
    }

    /// Looks at everything that is due.
    pub(super) fn look(&mut self, now: Now) {
        // What comes from here on is seen by the next look.
        let comings = self.publication.comings();
        if std::mem::replace(&mut self.comings, comings) != comings {
            self.came_us = now.monotonic_us;
        }
        let level = self.level();
        self.count_peak(now, level);
        self.strain.look(&self.publication, now, now.monotonic_us.saturating_sub(self.due_us));
        self.due_us = edge_after(now.monotonic_us);
        let turn = self.detector.look(now, level);
        match turn {
            Some(Turn::Began) => self.began(now),
            Some(Turn::Ended(burst, bins)) => self.ended(*burst, &bins, now),
            None if self.sample_due_us <= now.monotonic_us => self.ask_kernel(now),
            None => {}
        }
        let has_seen_all = self.survey.work(now, self.is_busy(), self.came_us);
        if has_seen_all && self.detector.running().is_some() {
            self.detector.count_routers(self.survey.charged(|survey| survey.spoke()));
        }
        self.judge_when_seen(now);
        if self.moment_due_us <= now.monotonic_us {
            self.moment(now);
        }
    }

    /// A look that comes late has more than one bin behind it, each with its share.
    fn count_peak(&mut self, now: Now, level: Level) {
        let before = std::mem::replace(&mut self.level, level);
        let looked_us = std::mem::replace(&mut self.looked_us, now.monotonic_us);
        let bins = (now.monotonic_us / BIN_US).saturating_sub(looked_us / BIN_US).max(1);
        let share = |after: u64, before: u64| after.saturating_sub(before).div_ceil(bins);
        self.maker.bin(Bin {
            received_bytes: share(level.received_bytes, before.received_bytes),
            mappings: share(level.mappings, before.mappings),
            surge_bytes: level.surge_bytes,
        });
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
            unread: self.sample.unread.clone(),
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
            unread: self.sample.unread.clone(),
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
    pub(super) fn finish(mut self, now: Now) {
        if let Some(Turn::Ended(burst, bins)) = self.detector.finish() {
            self.ended(*burst, &bins, now);
        }
        self.judge(now);
        self.log.finish(now);
    }
}

/// The first reading; says once what cannot be read.
fn first_sample(tree: &Tree) -> Sample {
    let sample = Sample::read(tree);
    if !sample.unread.is_empty() {
        tracing::warn!(
            unread = sample.unread.join(", "),
            fix = "ProcSubset=all in the unit, or a /proc and /sys that are not masked",
            "counters of the kernel cannot be read: whether a burst hurt may be unknown"
        );
    }
    sample
}

/// The end of the bin in which this time is.
fn edge_after(monotonic_us: u64) -> u64 {
    (monotonic_us / BIN_US + 1) * BIN_US
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
mod tests;
