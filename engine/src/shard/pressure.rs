//! Pressure: the budget of received bytes, and who is not read while it is nearly spent.
//!
//! In:   what each connection holds, and what is left of the budget that all shards share.
//! Out:  pauses, largest surge first, and resumptions, smallest first, when there is room again.
//! Law:  pressure ends at the TCP window: nothing is dropped, nothing grows beyond the budget.
//! Not:  the budget itself (`memory`), digesting (`digest`).
//!
//! A surge may be as large as the room that is left for all of them, and is read no more when it
//! is larger. One flooder alone gets half of the budget, a hundred get a hundredth each, and what
//! remains is room for those who have said little so far. The rule needs no word between shards
//! but the sum: the largest surge meets the shrinking room first, wherever it is.
//!
//! Silence is no fault. When no room is left, a session that is known and holds nothing of a unit
//! is read on: a sixteenth beyond the budget bears what such say until it is digested, and only
//! when that is spent as well they wait like all others. Who holds nothing is owed no favour,
//! counts for none, and is never closed. When parts of units hold the budget and none of them gets
//! whole, the largest part goes, and of several as large the oldest.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use storage::row::{Cause, Reason};

use super::Shard;
use super::connection::Connection;
use super::surge::{CHUNK_BYTES_MIN, chunk_bytes};
use crate::io::{ConnectionId, Now, Op};
use crate::memory::{TOOLS_BYTES, signed};
use crate::metrics::{Histogram, Metric};
use crate::wire::Rejection;

/// How long one session alone is read beyond what is due to it, for its unit to get whole.
const FAVOUR_US: u64 = 250_000;
/// How long a session with a part of a unit waits for room that others might take before it, while
/// there is anything to digest. Routers give up on a peer that does not read for 15 s and more.
const PATIENCE_US: u64 = 1_000_000;
/// Favours in a row in which no unit of a shard gets whole and none moves on, before the largest
/// part goes: five seconds, all of them for somebody alone.
const FAVOURS_WASTED_MAX: u32 = 20;
/// So many more until the next one goes: what is freed may be all that was lacking.
const FAVOURS_WASTED_AGAIN: u32 = 4;
/// A favour that brings so much is not wasted: the sender is slow, or its link is.
const FAVOUR_BYTES_MIN: usize = 16 << 10;
/// A favour that has brought something, and then nothing for so long, is over: what the sender had
/// ready has come.
const FAVOUR_QUIET_US: u64 = 100_000;
/// To so many parts of the budget one is added for known sessions that hold nothing when it is
/// spent; that is at most 1/32 of the whole budget of the process.
const QUIET_PARTS: i64 = 16;
/// A session is known to hold nothing when it has been there for so long: by then whoever connects
/// to say something has begun.
pub(crate) const KNOWN_US: u64 = 1_000_000;
/// How often those of them that wait nevertheless are looked at.
const QUIET_LOOK_US: u64 = 100_000;
/// What a connection may deliver before the shard can pause it: room for it before it is resumed.
const GRAIN_BYTES: i64 = 32 << 10;
/// How often a shard with paused connections looks whether others have made room.
const LOOK_US: u64 = 2_000;
/// The log lines about pressure come once in this time at most.
const LINE_US: u64 = 10_000_000;

/// What all connections of the shard hold together, and who waits for it to become less.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    held_bytes: usize,
    /// What the shard decodes with takes beyond what is reserved for it; a part of `held_bytes`.
    tools_bytes: usize,
    /// What of it the other shards know.
    told_bytes: usize,
    /// There was no room at all, and there is not much yet: nobody was read then, but for known
    /// sessions that held nothing.
    is_spent: bool,
    /// What these have brought since, and still hold.
    quiet_bytes: usize,
    /// That was too much: they were not read either.
    is_quiet_spent: bool,
    /// When to look whether they can be read again.
    quiet_due_us: u64,
    /// Connections that were resumed, or came, since.
    resumed: Vec<ConnectionId>,
    /// Connections that are not read, smallest surge first, as large as they were when they were
    /// looked at last.
    paused: BTreeSet<(usize, ConnectionId)>,
    /// The same, by the time since which they are not read.
    waits: BTreeSet<(u64, ConnectionId)>,
    /// Those of them that hold a part of a unit and nothing to digest, in order of their favours.
    hungry: VecDeque<ConnectionId>,
    /// Those that have wasted a favour: they come behind all others.
    stalled: VecDeque<ConnectionId>,
    favour: Option<Favour>,
    /// Favours in a row that were of no use, whosever they were.
    favours_wasted: u32,
    longest_us: u64,
    /// When to look whether other shards have made room.
    look_due_us: u64,
    /// When a log line may be written again.
    line_due_us: u64,
    /// Whether the log says that there is pressure.
    is_told: bool,
}

/// The one connection that is read nevertheless, until its unit is whole.
#[derive(Clone, Copy, Debug)]
struct Favour {
    connection: ConnectionId,
    until_us: u64,
    /// Units that it had sent when the favour began.
    units: u64,
    /// What it held of its unit then.
    waiting_bytes: usize,
}

/// That a connection is not read because of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// What it held when it was looked at last: its place among the paused.
    held_bytes: usize,
    since_us: u64,
}

impl Pause {
    /// When it began.
    pub(crate) fn since_us(&self) -> u64 {
        self.since_us
    }
}

impl Pressure {
    /// What the connections of this shard hold.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether this connection is read for its unit to get whole.
    pub(crate) fn favours(&self, id: ConnectionId) -> bool {
        self.favour.is_some_and(|favour| favour.connection == id)
    }

    /// How many connections are not read because of it.
    pub(crate) fn paused(&self) -> usize {
        self.paused.len()
    }

    /// Who has not been read for longest, and since when.
    pub(crate) fn longest_unread(&self) -> Option<(u64, ConnectionId)> {
        self.waits.first().copied()
    }

    /// The longest time for which a connection has not been read, those that wait now included.
    pub(crate) fn longest_us(&self) -> u64 {
        self.longest_us
    }
}

impl Shard {
    /// Accounts for a surge that grew or shrank, and tells the other shards in steps.
    pub(crate) fn surge_changed(&mut self, before_bytes: usize, after_bytes: usize) {
        let Pressure { held_bytes, told_bytes, .. } = &mut self.pressure;
        *held_bytes = *held_bytes + after_bytes - before_bytes;
        if held_bytes.abs_diff(*told_bytes) as u64 >= self.memory.step_bytes() {
            self.memory.add_surge(signed(*held_bytes as u64) - signed(*told_bytes as u64));
            *told_bytes = *held_bytes;
        }
    }

    /// A slice was digested: a frame that inflated to many megabytes is not kept in memory, and
    /// counts as long as it is.
    pub(crate) fn count_tools(&mut self) {
        if self.tools.scratch.capacity() > 2 * TOOLS_BYTES {
            self.tools.scratch = Vec::new();
        }
        let taken_bytes = self.tools.scratch.capacity() + self.unit.memory_bytes();
        let after = taken_bytes.saturating_sub(TOOLS_BYTES);
        let before = std::mem::replace(&mut self.pressure.tools_bytes, after);
        self.surge_changed(before, after);
    }

    /// What surges may still grow by: as the others have told, and as it is here.
    pub(crate) fn surge_room(&self) -> i64 {
        let Pressure { held_bytes, told_bytes, .. } = &self.pressure;
        self.memory.surge_room() - (signed(*held_bytes as u64) - signed(*told_bytes as u64))
    }

    /// Bytes came in: a surge that is larger than the room that is left is not read any more.
    pub(crate) fn press(&mut self, grown: ConnectionId, now: Now) {
        let room = self.surge_room();
        let Some(connection) = self.connections.get(grown) else { return };
        if signed(connection.held_bytes() as u64) < room {
            return;
        }
        self.press_one(grown, now);
        if room <= 0 {
            self.press_all(now);
        }
    }

    /// Bytes came in from a session that held so much before: when the budget is spent, those of a
    /// known one that held nothing are of what is kept for such.
    pub(crate) fn quiet_came(&mut self, id: ConnectionId, held_before: usize, now: Now) {
        if self.surge_room() > 0 || self.pressure.favours(id) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let was_quiet = held_before == 0 || connection.quiet_bytes > 0;
        if was_quiet && connection.is_known(now) && connection.turn.is_none() {
            let more_bytes = connection.held_bytes().saturating_sub(held_before);
            connection.quiet_bytes += more_bytes;
            self.pressure.quiet_bytes += more_bytes;
        }
    }

    /// A session holds less than before, or nothing any more.
    pub(crate) fn quiet_went(&mut self, connection: &mut Connection) {
        let left_bytes = connection.quiet_bytes.min(connection.held_bytes());
        self.pressure.quiet_bytes -= connection.quiet_bytes - left_bytes;
        connection.quiet_bytes = left_bytes;
    }

    /// A connection is gone, with all that it held.
    pub(crate) fn quiet_leave(&mut self, connection: &mut Connection) {
        self.pressure.quiet_bytes -= std::mem::take(&mut connection.quiet_bytes);
    }

    /// What those who hold nothing may still bring while the budget is spent.
    fn quiet_room(&self) -> i64 {
        let beyond = signed(self.pressure.quiet_bytes as u64).min(-self.surge_room());
        self.quiet_room_max() - beyond.max(0)
    }

    /// The same while they hold nothing: of this shard.
    fn quiet_room_max(&self) -> i64 {
        let shards = signed(self.memory.budget().shards);
        signed(self.memory.surge_bytes_max()) / QUIET_PARTS / shards
    }

    /// No room at all: who has nothing yet would bring something too.
    fn press_all(&mut self, now: Now) {
        let is_quiet_spent = self.quiet_room() <= 0;
        let was_quiet_spent = self.pressure.is_quiet_spent;
        self.pressure.is_quiet_spent |= is_quiet_spent;
        let ids = if self.pressure.is_spent && (was_quiet_spent || !is_quiet_spent) {
            std::mem::take(&mut self.pressure.resumed)
        } else {
            self.connections.ids()
        };
        self.pressure.is_spent = true;
        for id in ids {
            self.press_one(id, now);
        }
    }

    fn press_one(&mut self, id: ConnectionId, now: Now) {
        let favoured = self.pressure.favours(id);
        let Some(connection) = self.connections.get(id) else { return };
        let excepted = (favoured && !connection.queued) || connection.turn.is_some();
        let is_quiet = !self.pressure.is_quiet_spent && connection.is_quiet(now);
        if excepted || is_quiet || !connection.is_live() {
            return;
        }
        self.pause_for_room(id, now);
        self.note_hunger(id);
    }

    fn pause_for_room(&mut self, id: ConnectionId, now: Now) {
        if !self.pause_receive(id) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let pause = Pause { held_bytes: connection.held_bytes(), since_us: now.monotonic_us };
        connection.paused = Some(pause);
        self.counters.add(Metric::ReceivePauses, 1);
        self.pressure.paused.insert((pause.held_bytes, id));
        self.pressure.waits.insert((pause.since_us, id));
        self.pressure.look_due_us = now.monotonic_us + LOOK_US;
        self.tell_of_pressure(now);
    }

    /// A paused connection with nothing to digest lacks the rest of its unit: it waits for a
    /// favour.
    fn note_hunger(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let lacks = !connection.queued && connection.holds_a_part();
        if connection.paused.is_some() && lacks && !connection.hungry {
            connection.hungry = true;
            self.pressure.hungry.push_back(id);
        }
    }

    /// A connection is not among the paused any more.
    fn forget_pause(&mut self, id: ConnectionId, pause: Pause, now: Now) {
        self.pressure.paused.remove(&(pause.held_bytes, id));
        self.pressure.waits.remove(&(pause.since_us, id));
        let waited_us = now.monotonic_us.saturating_sub(pause.since_us);
        self.pressure.longest_us = self.pressure.longest_us.max(waited_us);
        self.counters.observe(Histogram::ReceivePause, waited_us);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.blocked_longest_us = connection.blocked_longest_us.max(waited_us);
        }
    }

    /// A connection is gone: nobody waits for it.
    pub(crate) fn leave_pressure(&mut self, id: ConnectionId, pause: Option<Pause>, now: Now) {
        if let Some(pause) = pause {
            self.forget_pause(id, pause, now);
            self.tell_of_pressure(now);
        }
    }

    /// A slice of a connection was digested: what it holds is another amount now.
    pub(crate) fn reconsider(&mut self, id: ConnectionId, now: Now) {
        let is_quiet_spent = self.pressure.is_quiet_spent || self.quiet_room() <= 0;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let held_bytes = connection.held_bytes();
        let Some(pause) = &mut connection.paused else { return };
        let held_before = std::mem::replace(&mut pause.held_bytes, held_bytes);
        self.pressure.paused.remove(&(held_before, id));
        self.pressure.paused.insert((held_bytes, id));
        if held_bytes == 0 && !is_quiet_spent && connection.is_quiet(now) {
            // All that it said is digested: it goes on as who has said nothing.
            self.resume(id, now);
            return;
        }
        self.note_hunger(id);
    }

    /// A session holds a part of a unit, and is not read because there is too little room for it.
    /// One at a time is read on, so that its unit gets whole and frees its bytes: the budget is
    /// exceeded by one unit per shard at most. A session that does not make use of its favours
    /// comes behind all others; when there is nothing else that could make room, the one that
    /// holds most is closed in the end: what it holds is everybody's.
    pub(crate) fn favour(&mut self, now: Now) {
        if self.pressure.paused.is_empty() && self.pressure.favour.is_none() {
            return;
        }
        if self.commit_is_full() {
            return;
        }
        if let Some(favour) = self.pressure.favour.take()
            && self.favour_goes_on(favour, now)
        {
            self.pressure.favour = Some(favour);
            return;
        }
        let excess = self.favours_bytes_max();
        for _ in 0..self.pressure.hungry.len() + self.pressure.stalled.len() {
            let hungry = self.pressure.hungry.pop_front();
            let Some(id) = hungry.or_else(|| self.pressure.stalled.pop_front()) else { return };
            let is_stuck = self.ready.is_empty();
            let room = self.surge_room();
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let lacks = connection.needed.saturating_sub(connection.surge.waiting());
            let fits = room >= signed(2 * (lacks + connection.held_bytes()) as u64);
            let since_us = connection.paused.map_or(now.monotonic_us, |pause| pause.since_us);
            let is_patient = now.monotonic_us.saturating_sub(since_us) < PATIENCE_US;
            if !is_stuck && !fits && (is_patient || room < -excess) {
                // Room is being made: it need not be exceeded, unless others take it every time.
                self.pressure.hungry.push_front(id);
                return;
            }
            connection.hungry = false;
            // Its state may be what it lacks, not bytes; or it has been read again since.
            let lacks_bytes = !connection.queued && connection.holds_a_part();
            let (units, waiting_bytes) = (connection.units, connection.surge.waiting());
            if connection.paused.is_some() && lacks_bytes && self.resume(id, now) {
                let until_us = now.monotonic_us + FAVOUR_US;
                let favour = Favour { connection: id, until_us, units, waiting_bytes };
                self.pressure.favour = Some(favour);
                return;
            }
        }
    }

    /// A time in which nobody was read is not of the favour.
    pub(crate) fn favour_anew(&mut self, now: Now) {
        if let Some(favour) = &mut self.pressure.favour {
            favour.until_us = now.monotonic_us + FAVOUR_US;
        }
    }

    fn favour_goes_on(&mut self, favour: Favour, now: Now) -> bool {
        let id = favour.connection;
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if !connection.is_live() || connection.ended.is_some() {
            return false;
        }
        if connection.units != favour.units {
            connection.favours_wasted = 0;
            self.pressure.favours_wasted = 0;
            self.press(id, now);
            return false;
        }
        let has_come = connection.surge.waiting() > favour.waiting_bytes;
        let is_quiet = has_come && now.monotonic_us >= connection.heard_us + FAVOUR_QUIET_US;
        if now.monotonic_us < favour.until_us && !is_quiet {
            if connection.favours_wasted == 0 || self.pressure.hungry.is_empty() {
                self.resume(id, now);
                return true;
            }
            // Somebody else may need it, who has wasted none: this one goes on afterwards.
            self.pause_for_room(id, now);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.hungry = true;
                self.pressure.stalled.push_front(id);
            }
            return false;
        }
        let came_bytes = connection.surge.waiting().saturating_sub(favour.waiting_bytes);
        let is_wasted = came_bytes < FAVOUR_BYTES_MIN;
        // While others make room, it has had its turn and not the whole budget.
        let is_stuck = self.ready.is_empty();
        let counts = is_wasted && is_stuck;
        connection.favours_wasted += u32::from(counts);
        self.pressure.favours_wasted += u32::from(counts);
        self.pause_for_room(id, now);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.hungry = true;
            let queue = match is_wasted {
                true => &mut self.pressure.stalled,
                false => &mut self.pressure.hungry,
            };
            queue.push_back(id);
        }
        let too_often = self.pressure.favours_wasted >= FAVOURS_WASTED_MAX;
        let too_much = self.surge_room() < -self.favours_bytes_max();
        let is_spent = counts && self.pressure.is_spent;
        if is_stuck && (too_often || too_much || is_spent) {
            let most = FAVOURS_WASTED_MAX - FAVOURS_WASTED_AGAIN;
            self.pressure.favours_wasted = self.pressure.favours_wasted.min(most);
            let largest = self.largest_part().unwrap_or(id);
            self.give_up(largest, now);
        }
        false
    }

    /// Of those that are not read and lack the rest of a unit although they alone were read: who
    /// holds most, and for longest of several that hold as much.
    fn largest_part(&self) -> Option<ConnectionId> {
        let parts = self.pressure.paused.iter().filter_map(|&(held_bytes, id)| {
            let connection = self.connections.get(id)?;
            let lacks = connection.is_live() && connection.holds_a_part() && !connection.queued;
            let stalls = lacks && connection.favours_wasted > 0;
            stalls.then_some((held_bytes, Reverse(connection.heard_us), id))
        });
        parts.max().map(|(_, _, id)| id)
    }

    /// By how much favours may exceed the budget: one unit of each shard.
    fn favours_bytes_max(&self) -> i64 {
        signed(self.memory.budget().shards * self.settings.limits.frame_bytes_max as u64)
    }

    /// Closes a session whose unit does not get whole although it alone is read.
    fn give_up(&mut self, id: ConnectionId, now: Now) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        let held_before = connection.held_bytes();
        let cause = Cause::SurgeShare;
        let detail = format!(
            "memory_bytes is spent; expected the rest of a unit, of which {} bytes have come",
            connection.surge.waiting()
        );
        self.reject(&mut connection, &Rejection { cause, detail: detail.into() }, 0, now);
        self.finish(&mut connection, Reason::Rejected(cause), now);
        self.surge_changed(held_before, connection.held_bytes());
        self.quiet_went(&mut connection);
        let pause = connection.paused.take();
        self.connections.insert(connection);
        self.leave_pressure(id, pause, now);
    }

    /// Reads a connection again; whether it was not being read and can be.
    pub(crate) fn resume(&mut self, id: ConnectionId, now: Now) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let pause = connection.paused.take();
        let wanted = connection.is_live() && connection.ended.is_none();
        let resumes = wanted && !connection.receiving && !connection.silent;
        if resumes {
            connection.receiving = true;
            // A time in which it was not read is no quiet time of the router.
            connection.heard_us = now.monotonic_us;
            self.ask_to_receive(id);
            self.counters.add(Metric::ReceiveResumes, 1);
            if self.pressure.is_spent {
                self.pressure.resumed.push(id);
            }
        }
        if let Some(pause) = pause {
            self.forget_pause(id, pause, now);
        }
        resumes
    }

    /// Stops reading a connection; whether it was being read.
    pub(crate) fn pause_receive(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if !connection.receiving || connection.silent {
            return false;
        }
        connection.receiving = false;
        if !self.waits_for_room() {
            self.ops.push_back(Op::PauseReceive { connection: id });
        }
        true
    }

    /// A connection was taken: when nothing is left, it is the next to wait.
    pub(crate) fn press_newcomer(&mut self, id: ConnectionId) {
        if self.pressure.is_spent {
            self.pressure.resumed.push(id);
        }
    }

    /// Reads again whose surge fits into the room there is, smallest first, each with room for
    /// what it may deliver. A sixteenth less than what paused it: a pause is worth its while, and
    /// no longer than it takes to digest a sixteenth of the budget.
    pub(crate) fn release(&mut self, now: Now) {
        self.pressure.look_due_us = now.monotonic_us + LOOK_US;
        if self.pressure.paused.is_empty() {
            return;
        }
        let max = signed(self.memory.surge_bytes_max());
        let grain = GRAIN_BYTES.min(max / 64);
        let mut room = self.surge_room();
        if room >= max / 16 {
            self.pressure.is_spent = false;
            self.pressure.resumed.clear();
        }
        while let Some(&(held_bytes, id)) = self.pressure.paused.first() {
            let brings = grain + signed(chunk_bytes(held_bytes) as u64);
            if signed(held_bytes as u64) + brings > room / 16 * 15 {
                break;
            }
            let Some(connection) = self.connections.get(id) else { break };
            if connection.held_bytes() > held_bytes {
                // What was under way when it was paused has come since.
                self.reconsider(id, now);
            } else if self.resume(id, now) {
                room -= brings;
            }
        }
        self.release_quiet(now);
        let oldest = self.pressure.waits.first();
        let oldest_us = oldest.map_or(0, |wait| now.monotonic_us.saturating_sub(wait.0));
        self.pressure.longest_us = self.pressure.longest_us.max(oldest_us);
        self.tell_of_pressure(now);
    }

    /// Reads known sessions again that hold nothing, as far as there is what is kept for them.
    fn release_quiet(&mut self, now: Now) {
        if now.monotonic_us < self.pressure.quiet_due_us {
            return;
        }
        self.pressure.quiet_due_us = now.monotonic_us + QUIET_LOOK_US;
        let mut room = self.quiet_room();
        if room < self.quiet_room_max() / 2 {
            return;
        }
        self.pressure.is_quiet_spent = false;
        let empty = self.pressure.paused.iter().take_while(|(held_bytes, _)| *held_bytes == 0);
        let empty: Vec<ConnectionId> = empty.map(|(_, id)| *id).collect();
        for id in empty {
            let Some(connection) = self.connections.get(id) else { continue };
            if room > 0 && connection.is_quiet(now) && self.resume(id, now) {
                // Most of them have nothing to say.
                room -= signed(CHUNK_BYTES_MIN as u64);
            }
        }
    }

    /// When pressure must be looked at, if nothing happens before.
    pub(crate) fn pressure_due_us(&self) -> Option<u64> {
        let waits = !self.pressure.paused.is_empty() || self.pressure.favour.is_some();
        waits.then_some(self.pressure.look_due_us)
    }

    /// A log line when pressure begins, and one when it is over.
    fn tell_of_pressure(&mut self, now: Now) {
        let is_pressed = !self.pressure.paused.is_empty();
        let is_early = now.monotonic_us < self.pressure.line_due_us;
        if is_pressed == self.pressure.is_told || (is_pressed && is_early) {
            return;
        }
        self.pressure.is_told = is_pressed;
        let shard = self.settings.index;
        let surge_bytes = self.memory.surge_bytes();
        let surge_bytes_max = self.memory.surge_bytes_max();
        if is_pressed {
            self.pressure.line_due_us = now.monotonic_us + LINE_US;
            tracing::warn!(
                shard,
                limit = "memory_bytes",
                memory_bytes = self.memory.budget().total_bytes,
                surge_bytes,
                surge_bytes_max,
                fix = "raise --memory, or more --shards to digest with",
                "the largest sessions are not read until what came is digested; nothing is lost"
            );
        } else {
            let longest_ms = self.pressure.longest_us / 1_000;
            tracing::info!(shard, surge_bytes, longest_ms, "all sessions are read again");
        }
    }
}
