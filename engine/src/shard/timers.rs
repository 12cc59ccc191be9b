//! Timers: what a shard looks at when its time has come.
//!
//! In:   times on the monotonic clock, each with what is to be looked at then.
//! Out:  ends of quiet snapshots, of long silences, and of entries that nobody confirmed.
//! Law:  a timer only says when to look; whether it still applies is seen then.
//! Not:  what is due for other reasons (`commit`, `pressure`, `storm`, `stuck`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use storage::row::{Cause, LedgerRow, Reason};

use super::Shard;
use super::claim::Slot;
use super::connection::{Phase, Snapshot};
use super::reserve::Size;
use crate::io::{ConnectionId, Now};
use crate::metrics::Metric;
use crate::wire::Rejection;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A connection should have named its router by now.
    Identify(ConnectionId),
    /// A snapshot of inferred end may be over.
    Quiet(ConnectionId),
    /// A snapshot that is expected may not be coming.
    Coming(ConnectionId),
    /// Unconfirmed entries may have been held long enough.
    Hold,
    /// A limit that kept connections from being taken may be gone.
    Accept,
}

/// Everything that is to be looked at, the earliest first. Nothing is taken out before its time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Timer)>>,
}

impl Timers {
    /// Has something looked at, at this monotonic time.
    pub(crate) fn insert(&mut self, due_us: u64, timer: Timer) {
        self.heap.push(Reverse((due_us, timer)));
    }

    /// When the first is due.
    pub(crate) fn due_us(&self) -> Option<u64> {
        self.heap.peek().map(|first| first.0.0)
    }

    /// The next whose time has come.
    fn take_due(&mut self, now: Now) -> Option<Timer> {
        if self.due_us()? > now.monotonic_us {
            return None;
        }
        self.heap.pop().map(|first| first.0.1)
    }
}

impl Shard {
    /// Looks at everything whose time has come.
    pub(crate) fn run_timers(&mut self, now: Now) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Identify(id) => self.identify_due(id, now),
                Timer::Quiet(id) => self.quiet_due(id, now),
                Timer::Coming(id) => self.coming_due(id, now),
                Timer::Hold => self.hold_due(now),
                Timer::Accept => self.accept_again(),
            }
        }
    }

    fn identify_due(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get(id) else { return };
        if !matches!(connection.phase, Phase::Nameless) {
            return;
        }
        if !connection.receiving || connection.queued || self.waits_for_room() {
            // What it said is not read or not digested yet: that is no silence of the router's.
            let again_us = now.monotonic_us + self.settings.identify_timeout_us;
            self.timers.insert(again_us, Timer::Identify(id));
            return;
        }
        let Some(mut connection) = self.connections.remove(id) else { return };
        let held_before = connection.held_bytes();
        let cause = Cause::RouterUnknown;
        let detail = "expected a hello or a document within identify_timeout_ms, found none";
        self.reject(&mut connection, &Rejection { cause, detail: detail.into() }, 0, now);
        self.finish(&mut connection, Reason::Rejected(cause), now);
        self.surge_changed(held_before, connection.held_bytes());
        self.connections.insert(connection);
        self.close_finished();
    }

    /// A snapshot of inferred end is over when nothing came for `snapshot_quiet_us` although the
    /// connection was being read, its receive queue was empty, and everything is digested.
    fn quiet_due(&mut self, id: ConnectionId, now: Now) {
        let was_read = !self.waits_for_room();
        let Some(mut connection) = self.connections.remove(id) else { return };
        let quiet_us = connection.heard_us + self.settings.snapshot_quiet_us;
        let quiet = now.monotonic_us >= quiet_us
            && self.drained_us >= quiet_us
            && connection.receiving
            && was_read
            && connection.surge.waiting() == 0;
        let phase = std::mem::replace(&mut connection.phase, Phase::Nameless);
        if let Phase::Speaking(mut session) = phase {
            if let Snapshot::Open { inferred: true, .. } = session.snapshot {
                if quiet {
                    self.complete_snapshot(&mut connection, &mut session, false, now.wall, now);
                    self.mark_dirty(&mut connection);
                    self.commit.touch(now);
                } else {
                    let again_us = now.monotonic_us + self.settings.snapshot_quiet_us / 8 + 1;
                    self.timers.insert(again_us.max(quiet_us), Timer::Quiet(id));
                }
            }
            connection.phase = Phase::Speaking(session);
        } else {
            connection.phase = phase;
        }
        self.connections.insert(connection);
    }

    /// Withdraws entries that have been unconfirmed for too long.
    fn hold_due(&mut self, now: Now) {
        let hold_us = i64::try_from(self.settings.unconfirmed_hold_us).unwrap_or(i64::MAX);
        let again_us = (self.settings.unconfirmed_hold_us / 8).clamp(1_000_000, 60_000_000);
        self.timers.insert(now.monotonic_us + again_us, Timer::Hold);
        if self.waits_for_room() {
            // Its rows would wait in memory, and more of them each time.
            return;
        }
        for home in self.homes.values_mut() {
            let (state, counted, decoder_bytes) = match &mut home.slot {
                Slot::Idle(state) => (state, &mut home.counted, 0),
                Slot::Active(id) => {
                    let Some(connection) = self.connections.get_mut(*id) else { continue };
                    let decoder_bytes = connection.decoder.table_bytes();
                    let Phase::Speaking(session) = &mut connection.phase else { continue };
                    (&mut session.state, &mut session.counted, decoder_bytes)
                }
                Slot::Leaving { .. } | Slot::Awaited => continue,
            };
            let oldest = state.table.unconfirmed_oldest();
            if oldest.is_none_or(|oldest| now.wall.since(oldest) < hold_us) {
                continue;
            }
            let builder = self.commit.builder();
            let derived = state.expire_unconfirmed(hold_us, now.wall, &mut |stamp, mapping| {
                builder.change(stamp, mapping);
            });
            let size = Size::of(state, decoder_bytes);
            self.tables.recount(&self.memory, counted, size);
            self.commit.change_rows += derived;
            self.past.derived += derived;
            self.counters.add(Metric::Derived, derived);
            if derived > 0 {
                let row = LedgerRow {
                    router: Some(state.router),
                    generation: state.position.generation,
                    time: now.wall,
                    sequence_last: state.sequence_last,
                    bytes_read: 0,
                    bytes_framed: 0,
                    mappings_framed: 0,
                    changes: 0,
                    confirmed: 0,
                    duplicates: 0,
                    derived,
                    rejected: Vec::new(),
                };
                self.commit.ledger(&row);
                self.commit.touch(now);
            }
        }
    }
}
