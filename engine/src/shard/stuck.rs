//! Stuck: nobody is left unread for so long that its sender would give up.
//!
//! In:   since when each connection is not read, whatever the reason (`pressure`, `storm`).
//! Out:  turns: a paused connection is read a little, longest unread first, before all others.
//! Law:  no session is reset by its router because we did not listen, as long as a turn for each
//!       fits into `stuck_guard_ms`; where it does not, a counter and a log line say so.
//! Not:  who is paused, and when it may go on (`pressure`, `storm`).
//!
//! A sender sees its window closed and nothing else; some give up after 15 s of it, routers after
//! one to three and a half minutes. A turn reads enough for the kernel to open the window again,
//! and may exceed the budget of surges by a sixteenth, which is at most 1/32 of the whole budget.
//! Whether a paused router has something to say is not known here. A turn that brings nothing
//! costs nothing.

use std::collections::VecDeque;

use super::Shard;
use super::connection::Connection;
use super::surge::chunk_bytes;
use crate::io::{ConnectionId, Now};
use crate::memory::signed;
use crate::metrics::Metric;

/// What a turn reads: as much as a segment on loopback, and half of a receive buffer that has not
/// grown; Linux opens a closed window when a sixteenth of the buffer, and a segment, is free.
const TURN_BYTES_MAX: i64 = 64 << 10;
/// The least that a turn reads, when many wait and little is digested in the meantime.
const TURN_BYTES_MIN: i64 = 4 << 10;
/// The longest time that a turn lasts.
const TURN_US: u64 = 250_000;
/// Before that time an empty queue may be one that the driver has not looked into yet.
const TURN_US_MIN: u64 = 20_000;
/// How often it is looked whether there is room for a turn that is due.
const LOOK_US: u64 = 2_000;
/// The log line about turns that come late comes once in this time at most.
const LINE_US: u64 = 10_000_000;

/// That a connection is read a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    until_us: u64,
    bytes_left: u64,
}

/// The turns that are under way.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// (when it ends at the latest, whose); some of them may be over.
    turns: VecDeque<(u64, ConnectionId)>,
    open: i64,
    /// When to look again whether there is room for the turn that is due.
    look_due_us: u64,
    line_due_us: u64,
}

impl Shard {
    /// Reads a little of those that have not been read for long: for half of `stuck_guard_ms` as
    /// far as there is room, so that they do not come all at once, for all of it beyond that.
    pub(crate) fn guard_stuck(&mut self, now: Now) {
        self.end_turns(now);
        if self.unread() == 0 {
            return;
        }
        let max = signed(self.memory.surge_bytes_max());
        let turn_bytes = self.turn_bytes();
        let guard_us = self.settings.stuck_guard_us;
        while let Some((since_us, id)) = self.longest_unread() {
            let unread_us = now.monotonic_us.saturating_sub(since_us);
            if unread_us < guard_us / 2 {
                return;
            }
            let beyond = if unread_us < guard_us { 0 } else { max / 16 };
            let held = self.connections.get(id).map_or(0, |connection| connection.held_bytes());
            let brings = turn_bytes.max(signed(chunk_bytes(held) as u64));
            let is_late = unread_us > guard_us / 4 * 5;
            if self.surge_room() + beyond < self.guard.open * turn_bytes + brings {
                if is_late {
                    self.tell_of_late(unread_us, now);
                }
                self.guard.look_due_us = now.monotonic_us + LOOK_US;
                return;
            }
            self.give_turn(id, turn_bytes.unsigned_abs(), now);
            self.counters.add(Metric::StuckTurnsLate, u64::from(is_late));
        }
    }

    /// What a turn reads: when all who are unread get one, half of what is digested meanwhile.
    fn turn_bytes(&self) -> i64 {
        let digested = self.pace.bytes_per_s().saturating_mul(self.settings.stuck_guard_us);
        let share = digested / 2_000_000 / self.unread().max(1);
        let most = signed(self.memory.surge_bytes_max()) / 64;
        signed(share).clamp(TURN_BYTES_MIN, TURN_BYTES_MAX).min(most).max(1)
    }

    /// How many connections are not read, for whatever reason.
    pub(crate) fn unread(&self) -> u64 {
        self.pressure.paused() as u64 + self.storm.waiting()
    }

    /// Measures how fast digesting is, while somebody waits for it.
    pub(crate) fn look_at_pace(&mut self, now: Now) {
        if self.unread() > 0 {
            self.pace.look(self.counters.get(Metric::SurgePoppedBytes), now.monotonic_us);
        }
    }

    /// When the guard must be called again, if nothing happens before.
    pub(crate) fn guard_due_us(&self) -> Option<u64> {
        let half_us = self.settings.stuck_guard_us / 2;
        let due_us = |(since_us, _)| self.guard.look_due_us.max(since_us + half_us);
        let longest = self.longest_unread().map(due_us);
        let turn = self.guard.turns.front().map(|turn| turn.0);
        longest.into_iter().chain(turn).min()
    }

    fn longest_unread(&self) -> Option<(u64, ConnectionId)> {
        let (pressed, waiting) = (self.pressure.longest_unread(), self.storm.longest_unread());
        pressed.into_iter().chain(waiting).min()
    }

    /// Reads a connection a little, that is not read for whatever reason.
    fn give_turn(&mut self, id: ConnectionId, bytes: u64, now: Now) {
        let until_us = now.monotonic_us + TURN_US;
        let Some(mut connection) = self.connections.remove(id) else { return };
        self.wait_anew(&mut connection, now);
        let wanted = connection.is_live() && connection.ended.is_none() && !connection.silent;
        if wanted && connection.turn.is_none() {
            connection.turn = Some(Turn { until_us, bytes_left: bytes });
            self.guard.open += 1;
            self.guard.turns.push_back((until_us, id));
            self.counters.add(Metric::StuckTurns, 1);
        }
        let is_waiting = connection.paused.is_none();
        if wanted && is_waiting && !connection.receiving {
            connection.receiving = true;
            connection.heard_us = now.monotonic_us;
            self.ask_to_receive(id);
        }
        self.connections.insert(connection);
        if !is_waiting {
            self.resume(id, now);
        }
    }

    /// Bytes came in a turn.
    pub(crate) fn turn_came(&mut self, id: ConnectionId, count: u64, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(turn) = &mut connection.turn else { return };
        turn.bytes_left = turn.bytes_left.saturating_sub(count);
        if turn.bytes_left == 0 {
            self.end_turn(id, now);
        }
    }

    /// A connection that has a turn is read as others are from now on, or is gone.
    pub(crate) fn end_turn_of(&mut self, connection: &mut Connection) {
        if connection.turn.take().is_some() {
            self.guard.open -= 1;
        }
    }

    fn end_turn(&mut self, id: ConnectionId, now: Now) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        self.end_turn_of(&mut connection);
        let waits = connection.waits_with_snapshot();
        if waits {
            self.stop_reading(&mut connection);
        }
        self.connections.insert(connection);
        if !waits {
            self.press(id, now);
        }
    }

    /// Ends turns whose time is over, or that have brought all there was.
    fn end_turns(&mut self, now: Now) {
        while let Some(&(until_us, id)) = self.guard.turns.front() {
            let begun_us = until_us - TURN_US;
            let turn = self.connections.get(id).and_then(|connection| connection.turn);
            let is_open = turn.is_some_and(|turn| turn.until_us == until_us);
            let is_empty = self.drained_us > begun_us + TURN_US_MIN;
            if is_open && !is_empty && until_us > now.monotonic_us {
                return;
            }
            self.guard.turns.pop_front();
            if is_open {
                self.end_turn(id, now);
            }
        }
    }

    /// Somebody is late, and there is no room for what it would bring.
    fn tell_of_late(&mut self, unread_us: u64, now: Now) {
        if now.monotonic_us < self.guard.line_due_us {
            return;
        }
        self.guard.line_due_us = now.monotonic_us + LINE_US;
        let unread = self.unread();
        tracing::warn!(
            shard = self.settings.index,
            unread,
            stuck_guard_ms = self.settings.stuck_guard_us / 1_000,
            longest_ms = unread_us / 1_000,
            fix = "raise --memory, or more --shards to digest with",
            "more sessions wait than can be read a little in time: some routers may give up"
        );
    }
}
