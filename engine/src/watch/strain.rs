//! Strain: how long rows wait for the disk, and how long the collector does not run.
//!
//! In:   what each shard published, looked at every 10 ms while anything comes or waits.
//! Out:  the longest of either since the last mark, and what broke.
//! Law:  what still waits counts: a disk that hangs is seen before it answers.
//! Not:  what of it hurts (`verdict`).

use crate::io::Now;
use crate::metrics::{Metric, Publication};

use super::verdict::Evidence;

/// A surge of less may wait for the rest of its unit for ever.
const SURGE_BYTES_IDLE: u64 = 64 << 10;
/// A wall clock that was set is no shard that stands still.
const STALLED_MS_MAX: u64 = 600_000;

/// What was seen since the mark.
#[derive(Debug, Default)]
pub(super) struct Strain {
    shards: Vec<Shard>,
    /// So long rows wait for others to be committed with: that is no fault of the disk.
    commit_interval_ms: u64,
    commit_longest_ms: u64,
    stalled_longest_ms: u64,
    log_failed: bool,
    broken: u64,
    refused: u64,
    broken_mark: u64,
    refused_mark: u64,
}

/// How long rows of a shard have waited.
#[derive(Clone, Copy, Debug, Default)]
struct Shard {
    committed: u64,
    waits_since_us: Option<u64>,
}

impl Strain {
    /// Of a collector that commits so often.
    pub(super) fn new(commit_interval_ms: u64) -> Strain {
        Strain { commit_interval_ms, ..Strain::default() }
    }

    /// One look, which comes so much later than it was wanted.
    pub(super) fn look(&mut self, publication: &Publication, now: Now, late_us: u64) {
        self.shards.resize(publication.shards(), Shard::default());
        self.stall(late_us / 1_000);
        for index in 0..publication.shards() {
            let value = |metric| publication.value(index, metric);
            let (pushed, committed) = (value(Metric::RowsPushed), value(Metric::RowsCommitted));
            let shard = &mut self.shards[index];
            if pushed == committed {
                shard.waits_since_us = None;
            } else if shard.committed != committed || shard.waits_since_us.is_none() {
                shard.waits_since_us = Some(now.monotonic_us);
            }
            shard.committed = committed;
            let waits_us = shard.waits_since_us.map_or(0, |since| now.monotonic_us - since);
            let late_ms = (waits_us / 1_000).saturating_sub(self.commit_interval_ms);
            self.commit_longest_ms = self.commit_longest_ms.max(late_ms);
            let popped = value(Metric::SurgePoppedBytes);
            let waits = value(Metric::SurgePushedBytes).saturating_sub(popped);
            if let Some(turned) = publication.turned(index).filter(|_| waits > SURGE_BYTES_IDLE) {
                self.stall(u64::try_from(now.wall.since(turned)).unwrap_or(0) / 1_000);
            }
        }
        self.log_failed |= publication.total(Metric::LogFailed) > 0;
        self.broken = publication.total(Metric::SessionsBroken);
        self.refused = publication.refused_for_room();
    }

    fn stall(&mut self, stalled_ms: u64) {
        if stalled_ms <= STALLED_MS_MAX {
            self.stalled_longest_ms = self.stalled_longest_ms.max(stalled_ms);
        }
    }

    /// Whether rows wait to become durable.
    pub(super) fn waits(&self) -> bool {
        self.shards.iter().any(|shard| shard.waits_since_us.is_some())
    }

    /// From now on is asked about.
    pub(super) fn mark(&mut self) {
        (self.commit_longest_ms, self.stalled_longest_ms, self.log_failed) = (0, 0, false);
        (self.broken_mark, self.refused_mark) = (self.broken, self.refused);
    }

    /// What was seen since the mark.
    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            broken: self.broken.saturating_sub(self.broken_mark),
            refused: self.refused.saturating_sub(self.refused_mark),
            log_failed: self.log_failed,
            commit_longest_ms: self.commit_longest_ms,
            stalled_longest_ms: self.stalled_longest_ms,
            ..Evidence::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::row::Cause;
    use storage::time::Micros;

    use super::*;
    use crate::metrics::Counters;

    fn at(milliseconds: u64) -> Now {
        let monotonic_us = milliseconds * 1_000;
        Now { wall: Micros(1_800_000_000_000_000 + monotonic_us as i64), monotonic_us }
    }

    #[test]
    fn rows_that_wait_and_shards_that_stand_still_are_timed_while_it_lasts() {
        let publication = Publication::new(2);
        let mut counters = Counters::default();
        let mut strain = Strain::new(20);
        counters.add(Metric::RowsPushed, 5);
        publication.publish(1, &counters, at(0).wall);
        for look in 0..50 {
            strain.look(&publication, at(look * 10), 3_000);
        }
        let evidence = strain.evidence();
        assert_eq!((evidence.commit_longest_ms, evidence.stalled_longest_ms), (470, 3));
        assert!(strain.waits());
        // Some of them are durable: what waits now waits anew.
        counters.add(Metric::RowsCommitted, 3);
        counters.add(Metric::SurgePushedBytes, 1 << 20);
        publication.publish(1, &counters, at(500).wall);
        strain.mark();
        for look in 50..70 {
            strain.look(&publication, at(look * 10), 0);
        }
        let evidence = strain.evidence();
        assert_eq!((evidence.commit_longest_ms, evidence.stalled_longest_ms), (170, 190));
        strain.look(&publication, at(3_000), 0);
        assert_eq!(strain.evidence().stalled_longest_ms, 2_500);
        strain.look(&publication, at(3_000), 2_700_000);
        assert_eq!(strain.evidence().stalled_longest_ms, 2_700);
        counters.add(Metric::RowsCommitted, 2);
        publication.publish(1, &counters, at(3_000).wall);
        strain.look(&publication, at(3_010), 0);
        assert!(!strain.waits());
    }

    #[test]
    fn what_broke_and_what_was_refused_counts_from_the_mark() {
        let publication = Publication::new(1);
        let mut counters = Counters::default();
        let mut strain = Strain::default();
        let mut step = |strain: &mut Strain, failed| {
            counters.add(Metric::SessionsBroken, 2);
            counters.reject(Cause::TableFull, 100, 7);
            counters.set(Metric::LogFailed, failed);
            publication.publish(0, &counters, at(0).wall);
            strain.look(&publication, at(0), 0);
        };
        step(&mut strain, 1);
        strain.mark();
        step(&mut strain, 0);
        let evidence = strain.evidence();
        assert_eq!((evidence.broken, evidence.refused, evidence.log_failed), (2, 7, false));
        step(&mut strain, 1);
        assert!(strain.evidence().log_failed);
    }
}
