//! Pressure: the budget of received bytes, and who is not read while it is spent.
//!
//! In:   what each connection holds.
//! Out:  pauses, largest surge first, and resumptions when half of the budget is free again.
//! Law:  pressure ends at the TCP window: nothing is dropped, nothing grows beyond the budget.
//! Not:  digesting (`digest`).

use std::collections::VecDeque;

use storage::row::{Cause, Reason};

use super::Shard;
use super::connection::Phase;
use crate::io::{ConnectionId, Now, Op};
use crate::metrics::Metric;
use crate::wire::Rejection;

/// How long one session alone is read while the budget is spent on units that are not whole.
const FAVOUR_US: u64 = 250_000;
/// Favours in which a session may fail to make its unit whole: five seconds all for itself.
const FAVOURS_WASTED_MAX: u32 = 20;

/// What all connections hold together, and who waits for it to become less.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    held_bytes: usize,
    /// The budget was spent, and half of it is not free yet.
    is_spent: bool,
    /// Connections that are not read because of it, in the order in which they are favoured.
    paused: VecDeque<ConnectionId>,
    /// Those of them that have wasted a favour: they come behind all others.
    stalled: VecDeque<ConnectionId>,
    favour: Option<Favour>,
}

/// The one connection that is read nevertheless, until its unit is whole.
#[derive(Clone, Copy, Debug)]
struct Favour {
    connection: ConnectionId,
    until_us: u64,
    /// Units that it had sent when the favour began.
    units: u64,
}

impl Shard {
    /// Accounts for a surge that grew or shrank.
    pub(crate) fn surge_changed(&mut self, before_bytes: usize, after_bytes: usize) {
        self.pressure.held_bytes = self.pressure.held_bytes + after_bytes - before_bytes;
    }

    /// Bytes came in: when the budget is spent, stops reading the largest surges.
    pub(crate) fn press(&mut self, grown: ConnectionId) {
        if self.pressure.held_bytes <= self.settings.surge_bytes_max {
            return;
        }
        if self.pressure.is_spent {
            // The largest are paused already; whoever grows beyond them is next.
            self.press_one(grown);
            return;
        }
        self.pressure.is_spent = true;
        let mut sizes: Vec<(usize, ConnectionId)> = self
            .connections
            .values()
            .filter(|connection| connection.receiving && connection.is_live())
            .map(|connection| (connection.held_bytes(), connection.id))
            .collect();
        sizes.sort_unstable_by(|left, right| right.cmp(left));
        let mut paused_bytes = 0;
        for (bytes, id) in sizes {
            if paused_bytes * 2 >= self.pressure.held_bytes {
                break;
            }
            paused_bytes += bytes;
            self.press_one(id);
        }
    }

    fn press_one(&mut self, id: ConnectionId) {
        let favoured = self.pressure.favour.is_some_and(|favour| favour.connection == id);
        let digestible = self.connections.get(&id).is_some_and(|connection| connection.queued);
        if favoured && !digestible {
            return;
        }
        if self.pause_receive(id) {
            self.counters.add(Metric::ReceivePauses, 1);
            if !favoured {
                self.pressure.paused.push_back(id);
            }
        }
    }

    /// When the budget is spent and nothing can be digested, all of it is units that are not whole
    /// yet. One session at a time is read on, so that its unit gets whole and frees its bytes: the
    /// budget is exceeded by one unit and what comes with its end. A session that does not make
    /// use of its favours comes behind all others, and is closed in the end: what it holds is
    /// everybody's.
    pub(crate) fn favour(&mut self, now: Now) {
        if !self.favours() {
            return;
        }
        if let Some(favour) = self.pressure.favour.take()
            && self.favour_goes_on(favour, now)
        {
            self.pressure.favour = Some(favour);
            return;
        }
        for _ in 0..self.pressure.paused.len() + self.pressure.stalled.len() {
            let paused = self.pressure.paused.pop_front();
            let Some(id) = paused.or_else(|| self.pressure.stalled.pop_front()) else { return };
            let Some(connection) = self.connections.get(&id) else { continue };
            if matches!(connection.phase, Phase::Claiming(_)) {
                // It lacks its router's state, not bytes.
                self.pressure.stalled.push_back(id);
                continue;
            }
            let units = connection.units;
            if self.resume(id, now) {
                let until_us = now.monotonic_us + FAVOUR_US;
                self.pressure.favour = Some(Favour { connection: id, until_us, units });
                return;
            }
        }
    }

    /// Whether what fills the budget waits for bytes, and for nothing else.
    fn favours(&self) -> bool {
        self.pressure.is_spent && self.ready.is_empty() && !self.commit_is_full()
    }

    /// When the favour under way is over, if nothing happens before.
    pub(crate) fn favour_due_us(&self) -> Option<u64> {
        self.pressure.favour.filter(|_| self.favours()).map(|favour| favour.until_us)
    }

    /// A time in which nobody was read is not of the favour.
    pub(crate) fn favour_anew(&mut self, now: Now) {
        if let Some(favour) = &mut self.pressure.favour {
            favour.until_us = now.monotonic_us + FAVOUR_US;
        }
    }

    fn favour_goes_on(&mut self, favour: Favour, now: Now) -> bool {
        let id = favour.connection;
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if !connection.is_live() || connection.ended.is_some() {
            return false;
        }
        if connection.units != favour.units {
            connection.favours_wasted = 0;
            self.pause_receive(id);
            self.pressure.paused.push_back(id);
            return false;
        }
        if now.monotonic_us < favour.until_us {
            self.resume(id, now);
            return true;
        }
        connection.favours_wasted += 1;
        let room_bytes = self.settings.surge_bytes_max + self.settings.limits.frame_bytes_max;
        let too_often = connection.favours_wasted >= FAVOURS_WASTED_MAX;
        if too_often || self.pressure.held_bytes > room_bytes {
            self.give_up(id, now);
        } else {
            self.pause_receive(id);
            self.pressure.stalled.push_back(id);
        }
        false
    }

    /// Closes a session whose unit does not get whole although it alone is read.
    fn give_up(&mut self, id: ConnectionId, now: Now) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let held_before = connection.held_bytes();
        let cause = Cause::SurgeShare;
        let detail = format!(
            "memory_bytes is spent; expected the rest of a unit, of which {} bytes have come",
            connection.surge.waiting()
        );
        self.reject(&mut connection, &Rejection { cause, detail: detail.into() }, 0, now);
        self.finish(&mut connection, Reason::Rejected(cause), now);
        self.surge_changed(held_before, connection.held_bytes());
        self.connections.insert(id, connection);
    }

    fn resume(&mut self, id: ConnectionId, now: Now) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let wanted = connection.is_live() && connection.ended.is_none();
        if !wanted || connection.receiving || connection.silent {
            return false;
        }
        self.counters.add(Metric::ReceiveResumes, 1);
        connection.receiving = true;
        // A time in which it was not read is no quiet time of the router.
        connection.heard_us = now.monotonic_us;
        self.ask_to_receive(id);
        true
    }

    /// Stops reading a connection; whether it was being read.
    pub(crate) fn pause_receive(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if !connection.receiving || connection.silent {
            return false;
        }
        connection.receiving = false;
        if !self.waits_for_room() {
            self.ops.push_back(Op::PauseReceive { connection: id });
        }
        true
    }

    /// Reads everybody again once half of the budget is free.
    pub(crate) fn release(&mut self, now: Now) {
        let Pressure { held_bytes, is_spent, .. } = self.pressure;
        if !is_spent || held_bytes * 2 > self.settings.surge_bytes_max {
            return;
        }
        let before = std::mem::take(&mut self.pressure);
        self.pressure.held_bytes = held_bytes;
        let favoured = before.favour.map(|favour| favour.connection);
        for id in before.paused.into_iter().chain(before.stalled).chain(favoured) {
            self.resume(id, now);
        }
    }
}
