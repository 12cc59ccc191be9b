//! Moments: what one second was like, in plain values.
//!
//! In:   what the shards published, and the kernel's counters.
//! Out:  `Moment`, ready to be shown or sent.
//! Law:  totals are those of `/metrics`; what a moment gained is the difference of two of them.
//! Not:  when a moment is made (`thread`), or what of it is a burst (`burst`).

use serde::{Deserialize, Serialize};
use storage::row::Cause;
use utoipa::ToSchema;

use super::burst::{Bin, Moved};
use crate::metrics::{Counters, Metric, Publication};

/// What one second was like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Moment {
    /// When it ended, microseconds since 1970.
    pub time_us: i64,
    /// How long it was: a second, more where the host was too busy to look.
    pub span_us: u64,
    /// Totals since the collector started, as `/metrics` has them.
    pub totals: Totals,
    /// What each of them gained in this moment.
    pub gained: Totals,
    /// The most that came in one bin of 10 ms.
    pub peak: Bin,
    /// Received bytes that wait, and memory.
    pub memory: MemoryUse,
    /// Connections, sessions, routers.
    pub sessions: Sessions,
    /// The share of each shard.
    pub shards: Vec<ShardShare>,
    /// The kernel.
    pub kernel: Kernel,
    /// Shards whose log waits for room on the disk.
    pub logs_failed: u64,
    /// The burst that runs.
    pub burst: Option<i64>,
}

/// Counters of all shards together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Bytes read from sockets.
    pub received_bytes: u64,
    /// Bytes of complete frames or documents.
    pub framed_bytes: u64,
    /// Frames, documents and FPM messages.
    pub frames: u64,
    /// Mappings in them.
    pub mappings: u64,
    /// Mappings that became change rows.
    pub changes: u64,
    /// Mappings that said what the table says.
    pub confirmed: u64,
    /// Mappings that had been applied before.
    pub duplicates: u64,
    /// Connections, frames and mappings that were rejected.
    pub rejections: u64,
    /// Bytes that were rejected.
    pub rejected_bytes: u64,
    /// Mappings that were rejected.
    pub rejected_mappings: u64,
    /// Rows that are durable.
    pub rows_committed: u64,
    /// Bytes handed to the log.
    pub log_written_bytes: u64,
    /// Group commits.
    pub log_syncs: u64,
    /// Connections that were taken.
    pub connections_accepted: u64,
    /// Connections that are gone.
    pub connections_closed: u64,
    /// Sessions whose router is known.
    pub sessions_begun: u64,
    /// Sessions that are over.
    pub sessions_ended: u64,
    /// Gaps that were opened.
    pub gaps: u64,
    /// Snapshots that were completed.
    pub snapshots_completed: u64,
    /// Times that a session was no longer read for want of memory.
    pub receive_pauses: u64,
}

impl Totals {
    /// What the shards published last, summed up.
    pub fn read(publication: &Publication) -> Totals {
        let mut totals = Totals::default();
        for shard in 0..publication.shards() {
            totals.add(&publication.counters(shard));
        }
        totals
    }

    fn add(&mut self, counters: &Counters) {
        for (total, metric) in self.fields() {
            *total = total.wrapping_add(counters.get(metric));
        }
        for cause in Cause::ALL {
            let (times, bytes, mappings) = counters.rejected(*cause);
            self.rejections = self.rejections.wrapping_add(times);
            self.rejected_bytes = self.rejected_bytes.wrapping_add(bytes);
            self.rejected_mappings = self.rejected_mappings.wrapping_add(mappings);
        }
    }

    /// Every total that is one metric, beside it.
    fn fields(&mut self) -> [(&mut u64, Metric); 17] {
        [
            (&mut self.received_bytes, Metric::ReceivedBytes),
            (&mut self.framed_bytes, Metric::FramedBytes),
            (&mut self.frames, Metric::Frames),
            (&mut self.mappings, Metric::MappingsFramed),
            (&mut self.changes, Metric::Changes),
            (&mut self.confirmed, Metric::Confirmed),
            (&mut self.duplicates, Metric::Duplicates),
            (&mut self.rows_committed, Metric::RowsCommitted),
            (&mut self.log_written_bytes, Metric::LogWrittenBytes),
            (&mut self.log_syncs, Metric::LogSyncs),
            (&mut self.connections_accepted, Metric::ConnectionsAccepted),
            (&mut self.connections_closed, Metric::ConnectionsClosed),
            (&mut self.sessions_begun, Metric::SessionsBegun),
            (&mut self.sessions_ended, Metric::SessionsEnded),
            (&mut self.gaps, Metric::Gaps),
            (&mut self.snapshots_completed, Metric::SnapshotsCompleted),
            (&mut self.receive_pauses, Metric::ReceivePauses),
        ]
    }

    /// What was gained since an earlier reading.
    pub fn since(&self, earlier: &Totals) -> Totals {
        let (mut gained, mut earlier) = (*self, *earlier);
        for ((after, _), (before, _)) in gained.fields().into_iter().zip(earlier.fields()) {
            *after = after.saturating_sub(*before);
        }
        gained.rejections = gained.rejections.saturating_sub(earlier.rejections);
        gained.rejected_bytes = gained.rejected_bytes.saturating_sub(earlier.rejected_bytes);
        gained.rejected_mappings =
            gained.rejected_mappings.saturating_sub(earlier.rejected_mappings);
        gained
    }
}

/// Memory, and received bytes that wait in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryUse {
    /// What the process may take.
    pub budget_bytes: u64,
    /// What routers' tables take.
    pub tables_bytes: u64,
    /// What they may take.
    pub tables_max_bytes: u64,
    /// Received bytes that wait to be digested.
    pub surge_bytes: u64,
    /// The most of them in this moment.
    pub surge_high_bytes: u64,
    /// Memory that they take, and what streams have inflated.
    pub surge_held_bytes: u64,
    /// What surges may take now.
    pub surge_max_bytes: u64,
    /// The most that they have taken since the start.
    pub surge_high_ever_bytes: u64,
    /// What surges may still grow by.
    pub headroom_bytes: u64,
}

/// Connections, sessions and routers, all shards together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sessions {
    /// Connections that are open.
    pub connections: u64,
    /// Sessions whose router is known.
    pub live: u64,
    /// Routers whose table is held.
    pub routers: u64,
    /// Entries of these tables.
    pub entries: u64,
    /// Sessions that are not read now, for want of memory.
    pub blocked: u64,
    /// How long the one of them that has waited longest has not been read, milliseconds.
    pub blocked_ms: u64,
    /// Sessions whose snapshots wait for their turn.
    pub snapshots_waiting: u64,
    /// Until these will have been read, milliseconds.
    pub snapshots_eta_ms: u64,
}

/// What one shard does of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardShare {
    /// Bytes read from sockets in this moment.
    pub received_bytes: u64,
    /// Mappings digested in it.
    pub mappings: u64,
    /// Received bytes that wait.
    pub surge_bytes: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Routers whose table it holds.
    pub routers: u64,
    /// Entries of these tables.
    pub entries: u64,
    /// Sessions that are not read now.
    pub blocked: u64,
    /// When it turned last, microseconds since 1970; none before its first turn.
    pub turned_us: Option<i64>,
}

/// What the kernel said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kernel {
    /// Counters that moved in this moment, sorted by name.
    pub moved: Vec<Moved>,
    /// Pages that all TCP sockets of this network namespace hold.
    pub tcp_pages: Option<u64>,
    /// From how many on the kernel presses them.
    pub tcp_pages_pressure: Option<u64>,
    /// Where the kernel counts losses and could not be read: whether these moved cannot be told.
    #[serde(default)]
    pub unread: Vec<String>,
}

/// Makes moments from what the shards publish.
#[derive(Debug)]
pub(super) struct Maker {
    totals: Totals,
    /// Received bytes and mappings of each shard.
    shards: Vec<(u64, u64)>,
    monotonic_us: u64,
    peak: Bin,
}

impl Maker {
    pub(super) fn new(publication: &Publication, monotonic_us: u64) -> Maker {
        let shards = vec![(0, 0); publication.shards()];
        Maker { totals: Totals::default(), shards, monotonic_us, peak: Bin::default() }
    }

    /// A bin of 10 ms has passed.
    pub(super) fn bin(&mut self, bin: Bin) {
        self.peak.received_bytes = self.peak.received_bytes.max(bin.received_bytes);
        self.peak.mappings = self.peak.mappings.max(bin.mappings);
        self.peak.surge_bytes = self.peak.surge_bytes.max(bin.surge_bytes);
    }

    /// The moment that ends now; the caller fills in `kernel` and `burst`.
    pub(super) fn make(&mut self, publication: &Publication, now: crate::io::Now) -> Moment {
        let mut moment = Moment {
            time_us: now.wall.0,
            span_us: now.monotonic_us.saturating_sub(self.monotonic_us),
            ..Moment::default()
        };
        for (shard, before) in self.shards.iter_mut().enumerate() {
            let counters = publication.counters(shard);
            moment.totals.add(&counters);
            add_sessions(&mut moment.sessions, &counters);
            moment.logs_failed += counters.get(Metric::LogFailed);
            moment.memory.surge_held_bytes += counters.get(Metric::SurgeHeldBytes);
            let share = share(&counters, before, publication.turned(shard).map(|time| time.0));
            moment.memory.surge_bytes += share.surge_bytes;
            moment.shards.push(share);
        }
        moment.gained = moment.totals.since(&self.totals);
        moment.peak = std::mem::take(&mut self.peak);
        memory(&mut moment.memory, publication);
        moment.memory.surge_high_bytes = moment.peak.surge_bytes.max(moment.memory.surge_bytes);
        self.totals = moment.totals;
        self.monotonic_us = now.monotonic_us;
        moment
    }
}

fn add_sessions(sessions: &mut Sessions, counters: &Counters) {
    let differ = |more, less| counters.get(more).saturating_sub(counters.get(less));
    sessions.connections += differ(Metric::ConnectionsAccepted, Metric::ConnectionsClosed);
    sessions.live += differ(Metric::SessionsBegun, Metric::SessionsEnded);
    sessions.routers += counters.get(Metric::RoutersHeld);
    sessions.entries += counters.get(Metric::TableEntries);
    sessions.blocked += counters.get(Metric::ReceivePaused);
    sessions.blocked_ms = sessions.blocked_ms.max(counters.get(Metric::ReceivePauseNowMs));
    sessions.snapshots_waiting += counters.get(Metric::SnapshotsWaiting);
    let eta_ms = counters.get(Metric::SnapshotsEtaMs);
    sessions.snapshots_eta_ms = sessions.snapshots_eta_ms.max(eta_ms);
}

fn share(counters: &Counters, before: &mut (u64, u64), turned_us: Option<i64>) -> ShardShare {
    let totals = (counters.get(Metric::ReceivedBytes), counters.get(Metric::MappingsFramed));
    let earlier = std::mem::replace(before, totals);
    let differ = |more, less| counters.get(more).saturating_sub(counters.get(less));
    ShardShare {
        received_bytes: totals.0.saturating_sub(earlier.0),
        mappings: totals.1.saturating_sub(earlier.1),
        surge_bytes: differ(Metric::SurgePushedBytes, Metric::SurgePoppedBytes),
        connections: differ(Metric::ConnectionsAccepted, Metric::ConnectionsClosed),
        routers: counters.get(Metric::RoutersHeld),
        entries: counters.get(Metric::TableEntries),
        blocked: counters.get(Metric::ReceivePaused),
        turned_us,
    }
}

fn memory(use_: &mut MemoryUse, publication: &Publication) {
    let Some(memory) = publication.memory() else { return };
    use_.budget_bytes = memory.budget().total_bytes;
    use_.tables_bytes = memory.table_bytes();
    use_.tables_max_bytes = memory.budget().table_bytes_max;
    use_.surge_max_bytes = memory.surge_bytes_max();
    use_.surge_high_ever_bytes = memory.surge_high_bytes();
    use_.headroom_bytes = u64::try_from(memory.surge_room()).unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use storage::time::Micros;

    use super::*;
    use crate::io::Now;

    fn now(monotonic_us: u64) -> Now {
        Now { wall: Micros(1_800_000_000_000_000 + monotonic_us as i64), monotonic_us }
    }

    #[test]
    fn a_moment_has_the_totals_of_the_metrics_and_what_they_gained() {
        let publication = Publication::new(2);
        let mut maker = Maker::new(&publication, 0);
        let mut counters = [Counters::default(), Counters::default()];
        for (shard, counters) in counters.iter_mut().enumerate() {
            counters.add(Metric::ReceivedBytes, 100 + shard as u64);
            counters.add(Metric::MappingsFramed, 7);
            counters.add(Metric::SurgePushedBytes, 50);
            counters.add(Metric::SurgePoppedBytes, 20);
            counters.set(Metric::ReceivePauseNowMs, 5 + shard as u64);
            counters.reject(Cause::TableFull, 10, 3);
            publication.publish(shard, counters, now(1).wall);
        }
        let first = maker.make(&publication, now(1_000_000));
        assert_eq!((first.totals.received_bytes, first.gained.received_bytes), (201, 201));
        assert_eq!((first.totals.rejections, first.totals.rejected_mappings), (2, 6));
        assert_eq!((first.memory.surge_bytes, first.sessions.blocked_ms), (60, 6));
        assert_eq!((first.span_us, first.shards[1].received_bytes), (1_000_000, 101));

        counters[1].add(Metric::ReceivedBytes, 9);
        counters[1].reject(Cause::TableFull, 10, 3);
        publication.publish(1, &counters[1], now(2).wall);
        maker.bin(Bin { received_bytes: 8, mappings: 0, surge_bytes: 400 });
        maker.bin(Bin { received_bytes: 1, mappings: 0, surge_bytes: 4 });
        let second = maker.make(&publication, now(2_500_000));
        assert_eq!((second.totals.received_bytes, second.gained.received_bytes), (210, 9));
        assert_eq!((second.gained.rejections, second.gained.rejected_mappings), (1, 3));
        assert_eq!((second.span_us, second.peak.received_bytes), (1_500_000, 8));
        assert_eq!(second.memory.surge_high_bytes, 400);
        assert_eq!((second.shards[0].received_bytes, second.shards[1].received_bytes), (0, 9));
        assert_eq!(second.totals, Totals::read(&publication));
    }

    #[test]
    fn a_moment_is_the_same_after_its_way_as_text() {
        let publication = Publication::new(1);
        let mut moment = Maker::new(&publication, 0).make(&publication, now(7));
        moment.kernel.moved = vec![Moved { counter: "TcpExt.PruneCalled".to_owned(), by: 3 }];
        moment.burst = Some(9);
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
    }
}
