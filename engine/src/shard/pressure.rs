//! Pressure: the budget of received bytes, and who is not read while it is spent.
//!
//! In:   what each connection holds.
//! Out:  pauses, largest surge first, and resumptions when half of the budget is free again.
//! Law:  pressure ends at the TCP window: nothing is dropped, nothing grows beyond the budget.
//! Not:  digesting (`digest`).

use super::Shard;
use crate::io::{ConnectionId, Now, Op};
use crate::metrics::Metric;

/// How long one session alone is read while the budget is spent on units that are not whole.
const FAVOUR_US: u64 = 100_000;

impl Shard {
    /// Accounts for a surge that grew or shrank.
    pub(crate) fn surge_changed(&mut self, before_bytes: usize, after_bytes: usize) {
        self.surge_held_bytes = self.surge_held_bytes + after_bytes - before_bytes;
    }

    /// Bytes came in: when the budget is spent, stops reading the largest surges.
    pub(crate) fn press(&mut self, grown: ConnectionId) {
        if self.surge_held_bytes <= self.settings.surge_bytes_max {
            return;
        }
        if self.pressed {
            // The largest are paused already; whoever grows beyond them is next.
            self.press_one(grown);
            return;
        }
        self.pressed = true;
        let mut sizes: Vec<(usize, ConnectionId)> = self
            .connections
            .values()
            .filter(|connection| connection.receiving && connection.is_live())
            .map(|connection| (connection.held_bytes(), connection.id))
            .collect();
        sizes.sort_unstable_by(|left, right| right.cmp(left));
        let mut paused_bytes = 0;
        for (bytes, id) in sizes {
            if paused_bytes * 2 >= self.surge_held_bytes {
                break;
            }
            paused_bytes += bytes;
            self.press_one(id);
        }
    }

    fn press_one(&mut self, id: ConnectionId) {
        let favoured = self.favoured.is_some_and(|favour| favour.0 == id);
        if !favoured && self.pause_receive(id) {
            self.counters.add(Metric::ReceivePauses, 1);
            self.paused.push_back(id);
        }
    }

    /// When the budget is spent and nothing can be digested, all of it is units that are not whole
    /// yet. One session at a time is read on, so that its unit gets whole and frees its bytes: the
    /// budget is exceeded by one unit at most, and a session that trickles holds nobody up for
    /// long.
    pub(crate) fn favour(&mut self, now: Now) {
        if !self.pressed || !self.ready.is_empty() || self.commit_is_full() {
            return;
        }
        if let Some((id, until_us)) = self.favoured {
            let surge = self.connections.get(&id).map(|connection| &connection.surge);
            let is_half = surge.is_some_and(|surge| surge.waiting() > 0);
            if is_half && now.monotonic_us < until_us {
                return;
            }
            self.favoured = None;
            self.press_one(id);
        }
        for _ in 0..self.paused.len() {
            let Some(id) = self.paused.pop_front() else { return };
            if self.resume(id, now) {
                self.favoured = Some((id, now.monotonic_us + FAVOUR_US));
                return;
            }
        }
    }

    fn resume(&mut self, id: ConnectionId, now: Now) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        self.counters.add(Metric::ReceiveResumes, 1);
        let wanted = connection.is_live() && connection.ended.is_none();
        if !wanted || connection.receiving || connection.silent {
            return false;
        }
        connection.receiving = true;
        // A time in which it was not read is no quiet time of the router.
        connection.heard_us = now.monotonic_us;
        self.ops.push_back(Op::Receive { connection: id });
        true
    }

    /// Stops reading a connection; whether it was being read.
    pub(crate) fn pause_receive(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if !connection.receiving || connection.silent {
            return false;
        }
        connection.receiving = false;
        self.ops.push_back(Op::PauseReceive { connection: id });
        true
    }

    /// Reads everybody again once half of the budget is free.
    pub(crate) fn release(&mut self, now: Now) {
        if !self.pressed || self.surge_held_bytes * 2 > self.settings.surge_bytes_max {
            return;
        }
        self.pressed = false;
        self.favoured = None;
        for id in std::mem::take(&mut self.paused) {
            self.resume(id, now);
        }
    }
}
