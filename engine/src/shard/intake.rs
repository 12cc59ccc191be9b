//! Intake: what the driver tells of connections and their bytes, before anything is digested.
//!
//! In:   connections that were taken, bytes that came, ends of streams, closes.
//! Out:  bytes in their surge, each with its time; who has something to digest.
//! Law:  bytes are copied once and counted; nothing here takes longer than that.
//! Not:  what the bytes say (`digest`), whether there is room for them (`pressure`, `storm`).

use std::net::SocketAddr;

use storage::row::{Cause, Reason};

use super::Shard;
use super::connection::{Connection, Phase};
use super::timers::Timer;
use crate::io::{ConnectionId, Now, Op};
use crate::metrics::Metric;

/// Pause after a connection could not be taken: the limit may be another shard's, or the host's.
const ACCEPT_AGAIN_US: u64 = 1_000_000;

impl Shard {
    /// A connection was taken.
    pub(crate) fn accepted(&mut self, id: ConnectionId, peer: SocketAddr, now: Now) {
        self.counters.add(Metric::ConnectionsAccepted, 1);
        let mut connection = Box::new(Connection::new(id, peer, now));
        let admitted = self.policy.admit(peer.ip()).and_then(|()| {
            let in_time = self.admission.admit(peer.ip(), now.monotonic_us);
            if in_time { Ok(()) } else { Err(Cause::SessionRate) }
        });
        if let Err(cause) = admitted {
            let detail = match cause {
                Cause::SessionRate => "more sessions of this source than sessions_per_minute_max",
                _ => "no prefix of `allow` and no router's sources cover this source",
            };
            connection.receiving = false;
            connection.phase = Phase::Closed(cause);
            connection.books.open.reject(cause, 0, 0);
            self.counters.reject(cause, 0, 0);
            self.notice(&connection, cause, detail, now);
            self.ops.push_back(Op::Close { connection: id, reset: true });
        } else if self.stopping || self.commit.failure().is_some() {
            connection.receiving = false;
            connection.phase = Phase::Closed(Cause::Truncated);
            self.ops.push_back(Op::Close { connection: id, reset: true });
        } else {
            self.ask_to_receive(id);
            let due_us = now.monotonic_us + self.settings.identify_timeout_us;
            self.timers.insert(due_us, Timer::Identify(id));
        }
        self.connections.insert(connection);
        self.press_newcomer(id);
    }

    /// The driver has said which limit it was and what lifts it.
    pub(crate) fn accept_failed(&mut self, now: Now) {
        self.counters.add(Metric::AcceptFailures, 1);
        if !self.accept_paused {
            self.accept_paused = true;
            self.counters.add(Metric::AcceptPauses, 1);
            self.ops.push_back(Op::PauseAccept);
            // This shard may have no connection whose end would free anything.
            self.timers.insert(now.monotonic_us + ACCEPT_AGAIN_US, Timer::Accept);
        }
    }

    /// Bytes came in.
    pub(crate) fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        let count = bytes.len() as u64;
        self.counters.add(Metric::ReceivedBytes, count);
        let Some(connection) = self.connections.get_mut(id) else {
            self.past.bytes_read += count;
            self.past.reject(Cause::Truncated, count, 0);
            self.counters.reject_rest(Cause::Truncated, count);
            return;
        };
        connection.books.open.bytes_read += count;
        if let Phase::Closing { cause, .. } | Phase::Closed(cause) = connection.phase {
            connection.books.open.reject(cause, count, 0);
            self.counters.reject_rest(cause, count);
            return;
        }
        connection.heard_us = now.monotonic_us;
        connection.heard = now.wall;
        let held_before = connection.held_bytes();
        connection.surge.push(bytes, now.wall);
        let held_after = connection.held_bytes();
        let claiming = matches!(connection.phase, Phase::Claiming(_));
        let is_new = connection.coming.is_none() && matches!(connection.phase, Phase::Nameless);
        let (is_coming, has_turn) = (connection.coming.is_some(), connection.turn.is_some());
        let is_held_back = connection.waits_with_snapshot();
        let worth = !claiming && connection.surge.waiting() >= connection.needed;
        self.counters.add(Metric::SurgePushedBytes, count);
        self.surge_changed(held_before, held_after);
        self.quiet_came(id, held_before, now);
        if worth {
            self.enqueue(id);
        }
        if is_coming {
            self.coming_came(id, count);
        }
        if is_new {
            self.expect_newcomer(id, now);
        } else if is_held_back && let Some(mut connection) = self.connections.remove(id) {
            self.hold_back(&mut connection, now);
            self.connections.insert(connection);
        }
        if has_turn {
            self.turn_came(id, count, now);
        }
        self.press(id, now);
    }

    /// No more bytes will come.
    pub(crate) fn receive_ended(&mut self, id: ConnectionId, reason: Reason, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.silent = true;
        connection.receiving = false;
        if connection.is_live() {
            if connection.ended.is_none() {
                connection.heard = now.wall;
                connection.ended = Some(reason);
            }
            self.enqueue(id);
        }
    }

    /// The driver has closed a connection.
    pub(crate) fn closed(&mut self, id: ConnectionId, now: Now) {
        self.counters.add(Metric::ConnectionsClosed, 1);
        let Some(mut connection) = self.connections.remove(id) else { return };
        let is_live = connection.is_live();
        if is_live {
            // The driver closed it by itself: as if the connection had been lost.
            let held_before = connection.held_bytes();
            connection.silent = true;
            self.finish(&mut connection, Reason::ConnectionLost, now);
            self.surge_changed(held_before, connection.held_bytes());
        }
        if is_live || matches!(connection.phase, Phase::Closing { .. }) {
            self.closing.retain(|waiting| *waiting != id);
        }
        // What came in after its end belongs to no session any more.
        if let Some(row) = connection.books.settle(None, 0, 0, now.wall) {
            self.commit.ledger(&row);
            self.commit.touch(now);
        }
        self.past.add(&connection.books.total());
        self.surge_changed(connection.held_bytes(), 0);
        self.quiet_leave(&mut connection);
        self.leave_pressure(id, connection.paused, now);
        self.accept_again();
        self.process_freed(now);
    }

    /// Takes connections again, if a limit has kept them from being taken.
    pub(crate) fn accept_again(&mut self) {
        if self.accept_paused && !self.stopping {
            self.accept_paused = false;
            self.ops.push_back(Op::Accept);
        }
    }
}
