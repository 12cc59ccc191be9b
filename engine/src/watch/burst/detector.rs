//! The state machine that finds bursts in the rate of ingest.
//!
//! In:   `Level`s: totals of the counters at a time of the monotonic clock.
//! Out:  `Turn`: a burst began, or ended with all that it held.
//! Law:  what is ordinary is learnt while it is calm (half a minute); a load that stays becomes
//!       ordinary within minutes, so that nothing is a burst for ever.
//! Not:  reading counters (`thread`).

use std::collections::VecDeque;

use super::{BIN_US, Bin, Burst, Head, Moved};
use crate::io::Now;

/// Bins that are judged together: 100 ms.
const WINDOW_BINS: usize = 10;
/// A second of quiet windows ends a burst.
const QUIET_BINS: u32 = 100;
/// Fewer bytes in a window are no burst, however calm it was before: 80 kB/s.
const WINDOW_BYTES_MIN: u64 = 8 << 10;
/// Fewer mappings in a window are none either: 1,000 per second, what a network of some dozens of
/// routers says when one link fails.
const WINDOW_MAPPINGS_MIN: u64 = 100;
/// So many times what is ordinary is a burst; less than half as much is quiet again.
const BURST_TIMES: u64 = 4;
const QUIET_TIMES: u64 = 2;
/// Time in which what is ordinary is learnt, in bins: half a minute while it is calm, five minutes
/// while a burst runs.
const CALM_BINS: f64 = 3_000.0;
const BURST_BINS: f64 = 30_000.0;
/// A surge of less may wait for ever: a unit whose end never comes.
const SURGE_BYTES_IDLE: u64 = 1 << 20;
/// Bins that one look may close: a process that was stopped for longer made no burst of it.
const BINS_PER_LOOK_MAX: u64 = 1_000;

/// What is looked at every 10 ms: totals since the start, and levels that hold now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Bytes read from sockets, in all.
    pub received_bytes: u64,
    /// Mappings digested, in all.
    pub mappings: u64,
    /// Gaps opened, in all.
    pub gaps: u64,
    /// Bytes that wait to be digested.
    pub surge_bytes: u64,
    /// Whether sessions are not read, for want of memory or of a disk.
    pub is_blocked: bool,
    /// For how long the one that waits longest has not been read, milliseconds.
    pub blocked_ms: u64,
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// A burst began.
    Began,
    /// A burst is over; with it the bins that nobody has asked for yet.
    Ended(Box<Burst>, Vec<(u64, Bin)>),
}

/// What is ordinary, per bin.
#[derive(Clone, Copy, Debug, Default)]
struct Ordinary {
    received_bytes: f64,
    mappings: f64,
}

impl Ordinary {
    fn learn(&mut self, bin: Bin, bins: f64) {
        self.received_bytes += (bin.received_bytes as f64 - self.received_bytes) / bins;
        self.mappings += (bin.mappings as f64 - self.mappings) / bins;
    }

    /// Whether the window holds so many times what is ordinary, and more than next to nothing.
    fn is_exceeded(&self, window: Bin, times: u64, part: u64) -> bool {
        let bound = |ordinary: f64, least: u64| {
            ((ordinary * WINDOW_BINS as f64) as u64).saturating_mul(times).max(least / part)
        };
        window.received_bytes >= bound(self.received_bytes, WINDOW_BYTES_MIN)
            || window.mappings >= bound(self.mappings, WINDOW_MAPPINGS_MIN)
    }
}

/// Finds bursts.
#[derive(Debug, Default)]
pub struct Detector {
    last: Option<(u64, Level)>,
    window: VecDeque<Bin>,
    ordinary: Ordinary,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    burst: Burst,
    /// What was ordinary before, to be believed again if it comes back.
    before: Ordinary,
    /// 10 ms bins since the start, the quiet ones at the end included.
    bins: u64,
    quiet: u32,
    /// Bins that nobody has asked for yet, with their places.
    fresh: Vec<(u64, Bin)>,
    gaps_before: u64,
    start_monotonic_us: u64,
}

impl Detector {
    /// Takes what the counters say now.
    pub fn look(&mut self, now: Now, level: Level) -> Option<Turn> {
        let Some((before_us, before)) = self.last else {
            self.last = Some((now.monotonic_us, level));
            return None;
        };
        let closed = (now.monotonic_us / BIN_US).saturating_sub(before_us / BIN_US);
        if let Some(running) = &mut self.running {
            running.level(&level, now.monotonic_us.saturating_sub(before_us));
        }
        if closed == 0 {
            return None;
        }
        self.last = Some((now.monotonic_us, level));
        let closed = closed.min(BINS_PER_LOOK_MAX);
        let gained = |after: u64, before: u64| after.saturating_sub(before);
        let received_bytes = gained(level.received_bytes, before.received_bytes);
        let mappings = gained(level.mappings, before.mappings);
        let mut turn = None;
        for part in 0..closed {
            // The remainder goes to the last.
            let share =
                |whole: u64| whole / closed + if part + 1 == closed { whole % closed } else { 0 };
            let bin = Bin {
                received_bytes: share(received_bytes),
                mappings: share(mappings),
                surge_bytes: level.surge_bytes,
            };
            let end_us = (now.monotonic_us / BIN_US - (closed - 1 - part)) * BIN_US;
            turn = self.step(now, end_us, bin, &level, &(before_us, before)).or(turn);
        }
        turn
    }

    /// The burst that runs, as far as it has come.
    pub fn running(&self) -> Option<&Burst> {
        self.running.as_ref().map(|running| &running.burst)
    }

    /// Notes what moved in the kernel, if a burst runs. Returns the time by the clock of the burst:
    /// the wall clock may be set meanwhile.
    pub fn note(&mut self, now: Now, moved: &[Moved]) -> i64 {
        let Some(running) = &mut self.running else { return now.wall.0 };
        let elapsed_us = now.monotonic_us.saturating_sub(running.start_monotonic_us);
        let time_us = running.burst.head.start_us.saturating_add_unsigned(elapsed_us);
        running.burst.note(time_us, moved);
        time_us
    }

    /// So many routers spoke in the burst that runs.
    pub fn count_routers(&mut self, routers: u64) {
        if let Some(running) = &mut self.running {
            running.burst.head.routers = routers;
        }
    }

    /// The bins of the burst that runs, with their places, since this was asked last.
    pub fn fresh(&mut self) -> Vec<(u64, Bin)> {
        self.running.as_mut().map(|running| std::mem::take(&mut running.fresh)).unwrap_or_default()
    }

    /// Ends what runs: the collector stops.
    pub fn finish(&mut self) -> Option<Turn> {
        let mut running = self.running.take()?;
        let fresh = std::mem::take(&mut running.fresh);
        Some(Turn::Ended(Box::new(running.ended()), fresh))
    }

    /// One more bin, which ended at `end_us` of the monotonic clock.
    fn step(
        &mut self,
        now: Now,
        end_us: u64,
        bin: Bin,
        level: &Level,
        before: &(u64, Level),
    ) -> Option<Turn> {
        self.window.push_back(bin);
        if self.window.len() > WINDOW_BINS {
            self.window.pop_front();
        }
        let window = self.window.iter().fold(Bin::default(), |sum, bin| sum.and(*bin));
        match &mut self.running {
            None if self.ordinary.is_exceeded(window, BURST_TIMES, 1) => {
                self.running = Some(self.begin(now, end_us, level, before));
                Some(Turn::Began)
            }
            None => {
                self.ordinary.learn(bin, CALM_BINS);
                None
            }
            Some(running) => {
                running.push(bin);
                let pressed = level.is_blocked
                    || level.surge_bytes
                        > SURGE_BYTES_IDLE.max(running.burst.head.surge_high_bytes / 16);
                let stands_out = self.ordinary.is_exceeded(window, QUIET_TIMES, 2);
                self.ordinary.learn(bin, BURST_BINS);
                running.quiet = if pressed || stands_out { 0 } else { running.quiet + 1 };
                if running.quiet < QUIET_BINS {
                    return None;
                }
                let mut running = self.running.take()?;
                let fresh = std::mem::take(&mut running.fresh);
                // What was learnt from the burst holds only where the load stays.
                if !running.before.is_exceeded(window, QUIET_TIMES, 2) {
                    self.ordinary = running.before;
                }
                Some(Turn::Ended(Box::new(running.ended()), fresh))
            }
        }
    }

    /// A burst that has the bins of the window, from the first on that holds anything of it.
    fn begin(
        &self,
        now: Now,
        end_us: u64,
        level: &Level,
        (before_us, before): &(u64, Level),
    ) -> Running {
        let tells = |bin: &Bin| {
            bin.received_bytes > WINDOW_BYTES_MIN / (4 * WINDOW_BINS as u64)
                || bin.mappings > WINDOW_MAPPINGS_MIN / (4 * WINDOW_BINS as u64)
        };
        let first = self.window.iter().position(tells).unwrap_or(0);
        let lasted_us = (self.window.len() - first) as u64 * BIN_US;
        let start_monotonic_us = end_us.saturating_sub(lasted_us);
        let ago_us = now.monotonic_us.saturating_sub(start_monotonic_us);
        let start_us = now.wall.0.saturating_sub_unsigned(ago_us);
        let head = Head { id: start_us, start_us, is_running: true, ..Head::default() };
        let mut running = Running {
            burst: Burst { head, bin_us: BIN_US, ..Burst::default() },
            before: self.ordinary,
            bins: 0,
            quiet: 0,
            fresh: Vec::new(),
            gaps_before: before.gaps,
            start_monotonic_us,
        };
        running.level(level, now.monotonic_us.saturating_sub(*before_us));
        self.window.iter().skip(first).for_each(|bin| running.push(*bin));
        running
    }
}

impl Running {
    fn level(&mut self, level: &Level, looked_us: u64) {
        let head = &mut self.burst.head;
        head.blocked_longest_ms = head.blocked_longest_ms.max(level.blocked_ms);
        head.look_longest_us = head.look_longest_us.max(looked_us);
        head.gaps = level.gaps.saturating_sub(self.gaps_before);
    }

    fn push(&mut self, bin: Bin) {
        self.burst.count(self.bins, bin);
        self.fresh.push((self.bins, bin));
        self.bins += 1;
        let head = &mut self.burst.head;
        head.end_us = head.start_us.saturating_add_unsigned(self.bins * BIN_US);
    }

    /// The burst without the quiet at its end.
    fn ended(mut self) -> Burst {
        let lasted = self.bins.saturating_sub(u64::from(self.quiet)).max(1);
        let end_us = self.burst.head.start_us.saturating_add_unsigned(lasted * BIN_US);
        self.burst.end_at(end_us);
        self.burst
    }
}

#[cfg(test)]
mod tests;
