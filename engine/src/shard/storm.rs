//! Storm: who is read first when every router comes back at once with its full table.
//!
//! In:   hellos that announce a snapshot, the table that the router had, and the room for surges.
//! Out:  sessions that are read at once, and sessions that wait after their hello, first come
//!       first read; how long the last of them will have to wait.
//! Law:  accepting never stops for it; nobody waits while all fit; somebody is always read.
//! Not:  the budget (`memory`), sessions that are read and hold too much (`pressure`).
//!
//! Ten thousand snapshots that are read side by side all end last, and hold the whole budget in
//! halves of frames until then. Read one after the other, as many at once as fit, each ends as
//! early as it can. How much a router will say is known before it does: what its table holds,
//! times what a mapping takes on the wire, or what snapshots took lately when it is new. Both are
//! learned from the snapshots that came, and a restart keeps them as well as it needs: the tables
//! are rebuilt from the log, and what a mapping takes is learned again with the first snapshots.

use std::collections::{BTreeMap, BTreeSet};

use super::Shard;
use super::connection::{Connection, Phase};
use super::timers::Timer;
use crate::io::{ConnectionId, Now, Op};
use crate::memory::signed;
use crate::metrics::Metric;

/// What a snapshot of a router without a table is taken to need before any has come.
const SNAPSHOT_BYTES: u64 = 16 << 10;
/// What a thousand mappings are taken to need before any snapshot has come.
const THOUSAND_BYTES: u64 = 20_000;
/// An admitted session that has been silent for so long brings nothing for now.
const QUIET_US: u64 = 2_000_000;
/// How often a shard with sessions that wait looks whether others have made room.
const LOOK_US: u64 = 2_000;
/// A storm is told of when it has lasted so long: most are over before, and the pace is known.
const TELL_US: u64 = 1_000_000;
/// The log lines about storms come once in this time at most.
const LINE_US: u64 = 10_000_000;

/// A snapshot that is expected of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coming {
    /// What is still to come of it.
    bytes: u64,
    /// Where in the stream it begins.
    from: u64,
    /// Its place among those that came.
    ticket: u64,
    stage: Stage,
}

impl Coming {
    /// Whether others come before it.
    pub(crate) fn is_waiting(self) -> bool {
        matches!(self.stage, Stage::Waiting { .. })
    }

    /// Since when nothing of it is read.
    pub(crate) fn waits_since_us(self) -> Option<u64> {
        match self.stage {
            Stage::Admitted => None,
            Stage::Waiting { since_us } => Some(since_us),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is read, and there is room for what is to come.
    Admitted,
    /// It is not read before others have said what they have to say; since when nothing is read.
    Waiting { since_us: u64 },
}

/// Sessions whose snapshots are on their way, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    /// Who waits, first come first.
    queue: BTreeMap<u64, ConnectionId>,
    tickets: u64,
    /// The same, by the time since which they are not read.
    waits: BTreeSet<(u64, ConnectionId)>,
    waiting_bytes: u64,
    admitted: u64,
    /// What the admitted are still to bring.
    coming_bytes: u64,
    /// What of it the other shards know.
    told_bytes: u64,
    learned: Learned,
    /// The storm that goes on.
    episode: Option<Episode>,
    line_due_us: u64,
    look_due_us: u64,
}

/// What snapshots take on the wire.
#[derive(Debug)]
struct Learned {
    snapshot_bytes: u64,
    thousand_bytes: u64,
}

impl Default for Learned {
    fn default() -> Learned {
        Learned { snapshot_bytes: SNAPSHOT_BYTES, thousand_bytes: THOUSAND_BYTES }
    }
}

impl Learned {
    /// A snapshot of so many entries took so many bytes.
    fn came(&mut self, bytes: u64, entries: u64) {
        let mean = |known: u64, found: u64| (7 * known + found) / 8;
        self.snapshot_bytes = mean(self.snapshot_bytes, bytes);
        if let Some(thousand_bytes) = (bytes * 1_000).checked_div(entries) {
            self.thousand_bytes = mean(self.thousand_bytes, thousand_bytes);
        }
    }

    /// What the snapshot of a router is expected to take whose table has so many entries.
    fn expected(&self, entries: u64) -> u64 {
        match entries {
            0 => self.snapshot_bytes,
            _ => entries.saturating_mul(self.thousand_bytes) / 1_000,
        }
    }
}

/// A time in which sessions wait.
#[derive(Debug)]
struct Episode {
    begun_us: u64,
    routers: u64,
    bytes: u64,
    is_told: bool,
}

impl Storm {
    /// How many sessions wait with their snapshots.
    pub(crate) fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Who of them has not been read for longest, and since when.
    pub(crate) fn longest_unread(&self) -> Option<(u64, ConnectionId)> {
        self.waits.first().copied()
    }

    /// When to look whether there is room, if nothing happens before.
    pub(crate) fn due_us(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(self.look_due_us)
    }
}

impl Shard {
    /// Milliseconds until all snapshots that wait will have been read; 0 = none waits.
    pub(crate) fn storm_eta_ms(&self) -> u64 {
        if self.storm.queue.is_empty() {
            return 0;
        }
        let held_bytes = self.pressure.held_bytes() as u64;
        let bytes = self.storm.waiting_bytes + self.storm.coming_bytes + held_bytes;
        bytes.saturating_mul(1_000) / self.pace.bytes_per_s().max(1)
    }

    /// The first bytes of a connection have come: it is going to say a snapshot, most likely.
    pub(crate) fn expect_newcomer(&mut self, id: ConnectionId, now: Now) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        let bytes = self.counted(self.storm.learned.snapshot_bytes);
        self.storm.tickets += 1;
        let ticket = self.storm.tickets;
        let from = connection.surge.taken();
        let coming = Coming { bytes, from, ticket, stage: Stage::Admitted };
        let fits = self.storm.queue.is_empty() && self.has_headroom(bytes);
        self.admit_or_wait(&mut connection, coming, fits, now);
        self.connections.insert(connection);
    }

    /// The router is known: its snapshot is on its way, or `None` is.
    pub(crate) fn expect_snapshot(
        &mut self,
        connection: &mut Connection,
        entries: Option<usize>,
        now: Now,
    ) {
        let Some(entries) = entries else {
            self.take_coming(connection);
            return self.read_on(connection, now);
        };
        let here = connection.surge.waiting() as u64;
        let expected = self.storm.learned.expected(entries as u64);
        let bytes = self.counted(expected.saturating_sub(here));
        let from = connection.surge.taken();
        // Whatever it is, it keeps its place.
        let before = self.take_coming(connection);
        let fits = match before {
            None => self.storm.queue.is_empty() && self.has_headroom(bytes),
            Some(before) if before.is_waiting() => false,
            Some(before) => bytes <= before.bytes || self.has_headroom(bytes),
        };
        let ticket = before.map_or(self.storm.tickets + 1, |before| before.ticket);
        self.storm.tickets = self.storm.tickets.max(ticket);
        let stage = before.map_or(Stage::Admitted, |before| before.stage);
        self.admit_or_wait(connection, Coming { bytes, from, ticket, stage }, fits, now);
    }

    /// Bytes have come on a connection of which a snapshot is expected.
    pub(crate) fn coming_came(&mut self, id: ConnectionId, count: u64) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(coming) = &mut connection.coming else { return };
        let part = coming.bytes.min(count);
        coming.bytes -= part;
        match coming.stage {
            Stage::Admitted => self.coming_changed(-signed(part)),
            Stage::Waiting { .. } => self.storm.waiting_bytes -= part,
        }
    }

    /// The snapshot of a connection is complete.
    pub(crate) fn snapshot_came(&mut self, connection: &mut Connection, entries: usize, now: Now) {
        let Some(coming) = self.take_coming(connection) else { return };
        let bytes = connection.surge.taken() - coming.from;
        self.storm.learned.came(bytes, entries as u64);
        self.read_on(connection, now);
    }

    /// Nothing more is expected of a connection.
    pub(crate) fn take_coming(&mut self, connection: &mut Connection) -> Option<Coming> {
        let coming = connection.coming.take()?;
        match coming.stage {
            Stage::Admitted => {
                self.storm.admitted -= 1;
                self.coming_changed(-signed(coming.bytes));
            }
            Stage::Waiting { since_us } => {
                self.storm.waits.remove(&(since_us, connection.id));
                self.storm.queue.remove(&coming.ticket);
                self.storm.waiting_bytes -= coming.bytes;
            }
        }
        Some(coming)
    }

    /// An admitted session that says nothing does not keep room from those that wait: nor does one
    /// that is not read and had said nothing before, or did not when it alone was read.
    pub(crate) fn coming_due(&mut self, id: ConnectionId, now: Now) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        if let Some(Coming { stage: Stage::Admitted, .. }) = connection.coming {
            let quiet_us = connection.heard_us + QUIET_US;
            let says_nothing = connection.paused.is_some()
                && (connection.favours_wasted > 0 || !connection.holds_a_part());
            let is_quiet = connection.receiving || says_nothing;
            if is_quiet && quiet_us <= now.monotonic_us {
                self.take_coming(&mut connection);
            } else {
                let again_us = quiet_us.max(now.monotonic_us + QUIET_US / 4);
                self.timers.insert(again_us, Timer::Coming(id));
            }
        }
        self.connections.insert(connection);
    }

    /// Reads those whose turn has come and whose snapshots fit; one at least is always read.
    pub(crate) fn admit_waiting(&mut self, now: Now) {
        if self.storm.queue.is_empty() && self.storm.episode.is_none() {
            return;
        }
        while let Some((_, &id)) = self.storm.queue.first_key_value() {
            let waits = self.connections.get(id).and_then(|connection| connection.coming);
            let bytes = waits.map_or(0, |coming| coming.bytes);
            if self.storm.admitted > 0 && !self.has_headroom(bytes) {
                break;
            }
            let Some(mut connection) = self.connections.remove(id) else { break };
            if let Some(coming) = self.take_coming(&mut connection) {
                self.admit(&mut connection, coming, now);
            }
            self.connections.insert(connection);
        }
        self.storm.look_due_us = now.monotonic_us + LOOK_US;
        self.follow_storm(now);
    }

    /// A session that waits gets a turn: from now on it has been read.
    pub(crate) fn wait_anew(&mut self, connection: &mut Connection, now: Now) {
        let Some(Coming { stage: Stage::Waiting { since_us }, .. }) = &mut connection.coming else {
            return;
        };
        self.storm.waits.remove(&(*since_us, connection.id));
        *since_us = now.monotonic_us;
        self.storm.waits.insert((*since_us, connection.id));
    }

    fn admit_or_wait(&mut self, connection: &mut Connection, coming: Coming, fits: bool, now: Now) {
        if fits || self.storm.admitted == 0 {
            return self.admit(connection, coming, now);
        }
        let since_us = match coming.stage {
            Stage::Waiting { since_us } => since_us,
            Stage::Admitted => now.monotonic_us,
        };
        connection.coming = Some(Coming { stage: Stage::Waiting { since_us }, ..coming });
        self.storm.waits.insert((since_us, connection.id));
        self.storm.queue.insert(coming.ticket, connection.id);
        self.storm.waiting_bytes += coming.bytes;
        self.storm.look_due_us = now.monotonic_us + LOOK_US;
        if !coming.is_waiting() {
            self.begin_to_wait(coming.bytes, now);
        }
        self.hold_back(connection, now);
    }

    fn begin_to_wait(&mut self, bytes: u64, now: Now) {
        self.counters.add(Metric::SnapshotsWaited, 1);
        let episode = self.storm.episode.get_or_insert(Episode {
            begun_us: now.monotonic_us,
            routers: 0,
            bytes: 0,
            is_told: false,
        });
        episode.routers += 1;
        episode.bytes += bytes;
    }

    /// Does not read a connection that waits, whatever else kept it from being read. Until it has
    /// said its name it is read as long as what came is too little for it.
    pub(crate) fn hold_back(&mut self, connection: &mut Connection, now: Now) {
        if !connection.waits_with_snapshot() || connection.turn.is_some() {
            return;
        }
        if matches!(connection.phase, Phase::Nameless) {
            match connection.surge.waiting() < connection.needed {
                true => self.read_on(connection, now),
                false => self.stop_reading(connection),
            }
        } else {
            let pause = connection.paused.take();
            self.leave_pressure(connection.id, pause, now);
            self.stop_reading(connection);
        }
    }

    fn admit(&mut self, connection: &mut Connection, coming: Coming, now: Now) {
        connection.coming = Some(Coming { stage: Stage::Admitted, ..coming });
        self.storm.admitted += 1;
        self.coming_changed(signed(coming.bytes));
        self.timers.insert(now.monotonic_us + QUIET_US, Timer::Coming(connection.id));
        self.read_on(connection, now);
    }

    /// Reads a connection that nothing but its snapshot kept from being read.
    fn read_on(&mut self, connection: &mut Connection, now: Now) {
        self.end_turn_of(connection);
        let wanted = connection.is_live() && connection.ended.is_none();
        let can = !connection.receiving && !connection.silent && connection.paused.is_none();
        if wanted && can && !self.stopping {
            connection.receiving = true;
            // A time in which it was not read is no quiet time of the router.
            connection.heard_us = now.monotonic_us;
            self.ask_to_receive(connection.id);
        }
    }

    /// Stops reading a connection that is not in `connections`.
    pub(crate) fn stop_reading(&mut self, connection: &mut Connection) {
        if connection.receiving && !connection.silent {
            connection.receiving = false;
            if !self.waits_for_room() {
                self.ops.push_back(Op::PauseReceive { connection: connection.id });
            }
        }
    }

    /// What an expected snapshot counts for: one that is larger than the budget is read in the end
    /// as well.
    fn counted(&self, bytes: u64) -> u64 {
        bytes.min(self.memory.surge_bytes_max() / 4)
    }

    /// Whether so much fits beside what is held and what the admitted will bring. An eighth of the
    /// budget is left to the routers that do not restart.
    fn has_headroom(&self, bytes: u64) -> bool {
        let Storm { coming_bytes, told_bytes, .. } = &self.storm;
        let coming = self.memory.coming_bytes() + signed(*coming_bytes) - signed(*told_bytes);
        let live = signed(self.memory.surge_bytes_max()) / 8;
        self.surge_room() - coming.max(0) - live >= signed(bytes)
    }

    /// The admitted are to bring more, or less; the other shards are told in steps.
    fn coming_changed(&mut self, bytes: i64) {
        let Storm { coming_bytes, told_bytes, admitted, .. } = &mut self.storm;
        *coming_bytes = coming_bytes.saturating_add_signed(bytes);
        let step = self.memory.step_bytes();
        if coming_bytes.abs_diff(*told_bytes) >= step || *admitted == 0 {
            self.memory.add_coming(signed(*coming_bytes) - signed(*told_bytes));
            *told_bytes = *coming_bytes;
        }
    }

    /// Tells of a storm that lasts, and of its end.
    fn follow_storm(&mut self, now: Now) {
        let eta_ms = self.storm_eta_ms();
        let waiting = self.storm.waiting();
        let is_over = waiting == 0;
        let shard = self.settings.index;
        let Some(episode) = &mut self.storm.episode else { return };
        let lasted_us = now.monotonic_us.saturating_sub(episode.begun_us);
        let (routers, bytes) = (episode.routers, episode.bytes);
        if is_over {
            if episode.is_told {
                let lasted_ms = lasted_us / 1_000;
                tracing::info!(shard, routers, bytes, lasted_ms, "no snapshot waits any more");
            }
            self.storm.episode = None;
        } else if !episode.is_told
            && lasted_us >= TELL_US
            && self.storm.line_due_us <= now.monotonic_us
        {
            episode.is_told = true;
            self.storm.line_due_us = now.monotonic_us + LINE_US;
            tracing::warn!(
                shard,
                waiting,
                bytes,
                eta_ms,
                fix = "raise --memory if restarts are to be faster",
                "many routers send full tables at once: they are read one after the other, first \
                 come first; nothing is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_snapshots_take_is_learned_from_those_that_came() {
        let mut learned = Learned::default();
        assert_eq!((learned.expected(0), learned.expected(2_000)), (SNAPSHOT_BYTES, 40_000));
        for _ in 0..100 {
            learned.came(10_000, 1_000);
        }
        assert!((10_000..10_100).contains(&learned.expected(0)), "{learned:?}");
        assert!((20_000..20_100).contains(&learned.expected(2_000)), "{learned:?}");
        // A snapshot of nothing says nothing about mappings.
        learned.came(20, 0);
        assert!((20_000..20_100).contains(&learned.expected(2_000)), "{learned:?}");
    }
}
