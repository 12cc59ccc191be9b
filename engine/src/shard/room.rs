//! Waiting for room: the disk is full, so the shard holds still until it is not.
//!
//! In:   commits that found no room, and the time.
//! Out:  pauses of every connection, a try per second, and resumptions when one succeeds.
//! Law:  nothing is read, digested or acknowledged meanwhile, nothing is dropped, nothing grows.
//! Not:  how much room there is, and on which mount (`io::disk`).

use super::Shard;
use crate::io::{ConnectionId, Now, Op};
use crate::metrics::Metric;

/// Time between two tries.
const AGAIN_US: u64 = 1_000_000;

/// Since when, and what next.
#[derive(Debug)]
pub(crate) struct Waiting {
    since_us: u64,
    /// Whole seconds of it that the metrics have.
    counted_s: u64,
    /// When the batch is tried again; `None` while it is being tried.
    pub(super) again_us: Option<u64>,
}

impl Shard {
    /// Whether the log waits for room. The connections stay as they are; none is read.
    ///
    /// Connections are taken all the same: in the kernel's queue they would overflow it, and here
    /// each costs a bounded amount.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.commit.waiting.is_some()
    }

    /// The batch in flight found no room.
    pub(super) fn wait_for_room(&mut self, now: Now) {
        let again_us = Some(now.monotonic_us + AGAIN_US);
        if let Some(waiting) = &mut self.commit.waiting {
            waiting.again_us = again_us;
            return;
        }
        for connection in self.connections.iter() {
            if connection.receiving && !connection.silent {
                self.ops.push_back(Op::PauseReceive { connection: connection.id });
            }
        }
        let since_us = now.monotonic_us;
        self.commit.waiting = Some(Waiting { since_us, counted_s: 0, again_us });
    }

    /// Tries the batch in flight again when it is time. Call it instead of committing.
    pub(crate) fn try_again(&mut self, now: Now) {
        let Some(waiting) = &mut self.commit.waiting else { return };
        let waited_s = now.monotonic_us.saturating_sub(waiting.since_us) / 1_000_000;
        self.counters.add(Metric::LogWaitedSeconds, waited_s - waiting.counted_s);
        waiting.counted_s = waited_s;
        if waiting.again_us.is_some_and(|again_us| again_us <= now.monotonic_us) {
            waiting.again_us = None;
            self.ask_for_commit(now);
        }
    }

    /// The batch in flight is durable: who was read before is read again.
    pub(super) fn room_found(&mut self, now: Now) {
        if self.commit.waiting.take().is_none() {
            return;
        }
        self.counters.set(Metric::LogFailed, 0);
        let ids = self.connections.ids();
        for id in ids {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.receiving && !connection.silent {
                // A time in which it was not read is no quiet time of the router.
                connection.heard_us = now.monotonic_us;
                self.ask_to_receive(id);
            }
        }
        self.favour_anew(now);
    }

    /// Has a connection read, now or when the log has room again; never once the log has failed.
    pub(crate) fn ask_to_receive(&mut self, connection: ConnectionId) {
        if !self.waits_for_room() && self.commit.failure().is_none() {
            self.ops.push_back(Op::Receive { connection });
        }
    }
}
