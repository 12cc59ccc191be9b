//! Pressure: the budget of received bytes, and who is not read while it is spent.
//!
//! In:   what each connection holds.
//! Out:  pauses, largest surge first, and resumptions when half of the budget is free again.
//! Law:  pressure ends at the TCP window: nothing is dropped, nothing grows beyond the budget.
//! Not:  digesting (`digest`).

use super::Shard;
use crate::io::{ConnectionId, Now, Op};
use crate::metrics::Metric;

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
        if self.pause_receive(id) {
            self.counters.add(Metric::ReceivePauses, 1);
            self.paused.push(id);
        }
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
        for id in std::mem::take(&mut self.paused) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            self.counters.add(Metric::ReceiveResumes, 1);
            let wanted = connection.is_live() && connection.ended.is_none();
            if wanted && !connection.receiving && !connection.silent {
                connection.receiving = true;
                // A time in which it was not read is no quiet time of the router.
                connection.heard_us = now.monotonic_us;
                self.ops.push_back(Op::Receive { connection: id });
            }
        }
    }
}
