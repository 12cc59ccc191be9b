//! The shard: one core's connections, routers and log, as a pure machine.
//!
//! In:   `Completion`s of a driver, and the time as an argument.
//! Out:  `Op`s for the driver to do; counters; nothing else.
//! Law:  draining goes before digesting; what is acknowledged is durable; the ledger balances.
//! Not:  the kernel: the three drivers of `io` turn the same machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use storage::mapping::RouterId;
use storage::router::RouterState;
use storage::row::{Cause, LedgerRow, Reason};
use storage::table::Round;

use crate::io::{Completion, ConnectionId, Now, Op};
use crate::memory::{BATCH_BLOCKS_MAX, Budget, Memory};
use crate::metrics::{Counters, Metric};
use crate::policy::Policy;
use crate::registry::{Message, Registry};
use crate::settings::Settings;
use crate::wire::{Rejection, Tools, Unit, WireLimits};

mod surge;
mod books;
mod connection;
mod admission;
mod storm;
mod pressure;
mod stuck;
mod pace;
mod reserve;
mod digest;
mod claim;
mod session;
mod apply;
mod commit;
mod room;
mod notice;

use admission::Admission;
use books::Sums;
use claim::{Home, Slot};
use commit::Commit;
use connection::{Connection, Phase, Snapshot};
use notice::Notices;
use pace::Pace;
use pressure::Pressure;
use reserve::Size;
use storm::Storm;
use stuck::Guard;

/// Pause after a connection could not be taken: the limit may be another shard's, or the host's.
const ACCEPT_AGAIN_US: u64 = 1_000_000;

/// What a shard needs to know of the settings.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Which shard it is, from 0.
    pub index: usize,
    /// Longest wait of a row for its commit.
    pub commit_interval_us: u64,
    /// Bytes of rows after which a commit no longer waits for its interval.
    pub block_bytes_max: usize,
    /// Bytes of rows behind the commit in flight after which digesting pauses.
    pub batch_bytes_max: usize,
    /// Silence after which a snapshot without an explicit end counts as over.
    pub snapshot_quiet_us: u64,
    /// How long an unconfirmed entry is kept.
    pub unconfirmed_hold_us: u64,
    /// How long a connection may stay without saying which router it is.
    pub identify_timeout_us: u64,
    /// How long a session may stay unread before it gets a turn.
    pub stuck_guard_us: u64,
    /// Silence after which a session yields its router id to another source.
    pub identity_idle_us: u64,
    /// New sessions of one source per minute.
    pub sessions_per_minute_max: u64,
    /// Rejected frames and mappings of one session before it is closed.
    pub rejected_budget: u64,
    /// Limits on one frame or document.
    pub limits: WireLimits,
}

impl ShardSettings {
    /// The part of the settings, and of the budget, that concerns shard `index`.
    pub fn new(settings: &Settings, index: usize, budget: &Budget) -> ShardSettings {
        let inflated_bytes_max = usize::try_from(budget.inflated_bytes_max).unwrap_or(usize::MAX);
        let blocks_bytes = settings.commit_bytes * BATCH_BLOCKS_MAX;
        let batch_bytes_max = budget.batch_bytes_max.min(blocks_bytes);
        let mut limits = settings.wire;
        limits.inflated_bytes_max = limits.inflated_bytes_max.min(inflated_bytes_max);
        ShardSettings {
            index,
            commit_interval_us: settings.commit_interval_ms * 1_000,
            block_bytes_max: settings.commit_bytes.min(batch_bytes_max / 2) as usize,
            batch_bytes_max: batch_bytes_max as usize,
            snapshot_quiet_us: settings.snapshot_quiet_ms * 1_000,
            unconfirmed_hold_us: settings.unconfirmed_hold_s * 1_000_000,
            identify_timeout_us: settings.identify_timeout_ms * 1_000,
            stuck_guard_us: settings.stuck_guard_ms * 1_000,
            identity_idle_us: settings.identity_idle_s * 1_000_000,
            sessions_per_minute_max: settings.sessions_per_minute_max,
            rejected_budget: settings.rejected_budget,
            limits,
        }
    }
}

/// What is to be looked at when its time has come. Nothing is taken out early: each looks first
/// whether it still applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
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

/// What the books cannot account for; all zero at every moment, or there is a defect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Sum over the connections of |read - framed - rejected - held|.
    pub bytes: u128,
    /// Sum over the connections of |framed - changes - confirmed - duplicates - rejected|.
    pub mappings: u128,
    /// |Change rows appended - changes - derived|.
    pub rows: u128,
}

/// One core's connections, routers and log.
pub struct Shard {
    settings: ShardSettings,
    registry: Arc<Registry>,
    /// What of the host's budget is spent, by all shards together.
    memory: Arc<Memory>,
    policy: Arc<Policy>,
    connections: BTreeMap<ConnectionId, Box<Connection>>,
    homes: BTreeMap<RouterId, Home>,
    commit: Commit,
    ops: VecDeque<Op>,
    timers: BTreeSet<(u64, Timer)>,
    /// Connections with something to digest, in turn.
    ready: VecDeque<ConnectionId>,
    /// Connections whose books have something for the next block.
    dirty: Vec<ConnectionId>,
    /// Connections that close when their last batch is durable.
    closing: Vec<ConnectionId>,
    /// The last durable batch when they were looked at; `None` = one has joined since.
    closing_looked: Option<u64>,
    /// Routers that leave when their last batch is durable.
    leaving: Vec<RouterId>,
    /// Routers whose session has just ended.
    freed: Vec<RouterId>,
    pressure: Pressure,
    storm: Storm,
    guard: Guard,
    pace: Pace,
    /// What the tables that live here take.
    tables: Size,
    /// When the driver last had nothing more to deliver.
    drained_us: u64,
    tools: Tools,
    unit: Unit,
    /// Room to look up the mappings of a unit.
    round: Round,
    admission: Admission,
    notices: Notices,
    counters: Counters,
    /// Books of connections that are gone, and of changes that no connection caused.
    past: Sums,
    accept_paused: bool,
    stopping: bool,
}

impl Shard {
    /// A shard that has not begun: the first op says so to the driver.
    pub fn new(
        settings: ShardSettings,
        registry: Arc<Registry>,
        memory: Arc<Memory>,
        policy: Arc<Policy>,
    ) -> Shard {
        Shard {
            commit: Commit::new(settings.index),
            tools: Tools::new(settings.limits),
            admission: Admission::new(settings.sessions_per_minute_max),
            settings,
            registry,
            memory,
            policy,
            connections: BTreeMap::new(),
            homes: BTreeMap::new(),
            ops: VecDeque::from([Op::Accept]),
            timers: BTreeSet::from([(0, Timer::Hold)]),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            closing: Vec::new(),
            closing_looked: None,
            leaving: Vec::new(),
            freed: Vec::new(),
            pressure: Pressure::default(),
            storm: Storm::default(),
            guard: Guard::default(),
            pace: Pace::default(),
            tables: Size::default(),
            drained_us: 0,
            unit: Unit::new(),
            round: Round::default(),
            notices: Notices::new(),
            counters: Counters::default(),
            past: Sums::default(),
            accept_paused: false,
            stopping: false,
        }
    }

    /// Takes in what happened. Bytes are copied once; nothing is digested here.
    pub fn handle(&mut self, now: Now, completion: Completion<'_>) {
        match completion {
            Completion::Accepted { connection, peer } => self.accepted(connection, peer, now),
            Completion::AcceptFailed { .. } => self.accept_failed(now),
            Completion::Received { connection, bytes } => self.received(connection, bytes, now),
            Completion::ReceiveEnded { connection, reason } => {
                self.receive_ended(connection, reason, now);
            }
            Completion::Drained => self.drained_us = now.monotonic_us,
            Completion::Closed { connection } => self.closed(connection, now),
            Completion::LogSynced { .. } => self.log_synced(now),
            Completion::LogFailed { errno } => self.log_failed(errno, now),
            Completion::Told { message } => self.told(message, now),
        }
    }

    /// The next operation for the driver, in order.
    pub fn poll_op(&mut self) -> Option<Op> {
        self.ops.pop_front()
    }

    /// Runs what is due and digests one bounded slice; `true` = there is more to digest now.
    ///
    /// Call it at least once per turn, and whenever `poll_timeout` has passed.
    pub fn digest(&mut self, now: Now) -> bool {
        if self.commit.failure().is_some() {
            return false;
        }
        self.run_timers(now);
        if self.waits_for_room() {
            self.try_again(now);
            return false;
        }
        if !self.commit_is_full() {
            self.digest_slice(now);
        }
        self.process_freed(now);
        self.look_at_pace(now);
        self.guard_stuck(now);
        self.release(now);
        self.admit_waiting(now);
        self.favour(now);
        self.commit_if_due(now);
        self.prepare_if_due(now);
        self.close_finished();
        !self.ready.is_empty() && !self.commit_is_full()
    }

    /// The monotonic time at which `digest` must be called at the latest.
    pub fn poll_timeout(&self) -> Option<u64> {
        let timer_us = self.timers.first().map(|timer| timer.0);
        let unread = [self.pressure_due_us(), self.storm.due_us(), self.guard_due_us()];
        let unread_us = unread.into_iter().flatten().min().filter(|_| !self.waits_for_room());
        timer_us.into_iter().chain(unread_us).chain(self.commit_due_us()).min()
    }

    /// Begins to stop: no more accepting or reading; what was read is digested and committed,
    /// last acks are sent, connections close. `stopped` says when it is done.
    pub fn stop(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.ops.push_back(Op::PauseAccept);
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            self.end_reading(id, Reason::CollectorStopped);
            self.finish_if_claiming(id, now);
        }
    }

    /// Whether everything that `stop` began is done.
    pub fn stopped(&self) -> bool {
        self.stopping && self.connections.is_empty() && self.commit.is_idle() && self.ops.is_empty()
    }

    /// errno of the log's failure: the shard does nothing more, and the process is to stop.
    pub fn failure(&self) -> Option<i32> {
        self.commit.failure()
    }

    /// What has been counted. States are set by the call.
    pub fn counters(&mut self) -> &mut Counters {
        self.counters.set(Metric::RoutersHeld, self.homes.len() as u64);
        self.counters.set(Metric::TableEntries, self.tables.entries);
        self.counters.set(Metric::TableBytes, self.tables.bytes);
        self.counters.set(Metric::SurgeHeldBytes, self.pressure.held_bytes() as u64);
        self.counters.set(Metric::ReceivePaused, self.pressure.paused() as u64);
        self.counters.set(Metric::SnapshotsWaiting, self.storm.waiting());
        let eta_ms = self.storm_eta_ms();
        self.counters.set(Metric::SnapshotsEtaMs, eta_ms);
        self.counters.set(Metric::ReceivePauseLongestMs, self.pressure.longest_us() / 1_000);
        &mut self.counters
    }

    /// What the ledger cannot account for, measured on the buffers and tables themselves.
    pub fn ledger_balance(&self) -> Balance {
        let mut balance = Balance::default();
        let mut rows = self.past.clone();
        for connection in self.connections.values() {
            let total = connection.books.total();
            let held = connection.surge.len() as i128;
            balance.bytes += (total.bytes_open() - held).unsigned_abs();
            let kept = match &connection.phase {
                // Its mappings are counted when it is applied.
                Phase::Claiming(_) | Phase::Nameless | Phase::Speaking(_) => 0,
                Phase::Closing { .. } | Phase::Closed(_) => held,
            };
            balance.bytes += kept.unsigned_abs();
            balance.mappings += total.mappings_open().unsigned_abs();
            rows.add(&total);
        }
        balance.bytes += self.past.bytes_open().unsigned_abs();
        balance.mappings += self.past.mappings_open().unsigned_abs();
        balance.rows = u128::from(self.commit.change_rows.abs_diff(rows.changes + rows.derived));
        balance
    }

    /// The state of a router whose home is here and that is not about to leave.
    pub fn router(&self, router: RouterId) -> Option<&RouterState> {
        match &self.homes.get(&router)?.slot {
            Slot::Idle(state) => Some(state),
            Slot::Active(id) => match &self.connections.get(id)?.phase {
                Phase::Speaking(session) => Some(&session.state),
                _ => None,
            },
            Slot::Leaving { .. } | Slot::Awaited => None,
        }
    }

    fn told(&mut self, message: Message, now: Now) {
        match message {
            Message::Claim(claim) => self.claimed(claim, now),
            Message::Granted { claim, state, newest } => self.granted(claim, state, newest, now),
            Message::Refused { claim, cause, holder } => {
                self.refused(claim, cause, holder, now);
            }
            Message::Policy(policy) => self.policy = policy,
            Message::Rows(rows) => self.append_rows(&rows, now),
        }
    }

    fn accepted(&mut self, id: ConnectionId, peer: std::net::SocketAddr, now: Now) {
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
            self.timers.insert((due_us, Timer::Identify(id)));
        }
        self.connections.insert(id, connection);
        self.press_newcomer(id);
    }

    /// The driver has said which limit it was and what lifts it.
    fn accept_failed(&mut self, now: Now) {
        self.counters.add(Metric::AcceptFailures, 1);
        if !self.accept_paused {
            self.accept_paused = true;
            self.counters.add(Metric::AcceptPauses, 1);
            self.ops.push_back(Op::PauseAccept);
            // This shard may have no connection whose end would free anything.
            self.timers.insert((now.monotonic_us + ACCEPT_AGAIN_US, Timer::Accept));
        }
    }

    fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        let count = bytes.len() as u64;
        self.counters.add(Metric::ReceivedBytes, count);
        let Some(connection) = self.connections.get_mut(&id) else {
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
        if worth {
            self.enqueue(id);
        }
        if is_coming {
            self.coming_came(id, count);
        }
        if is_new {
            self.expect_newcomer(id, now);
        } else if is_held_back && let Some(mut connection) = self.connections.remove(&id) {
            self.hold_back(&mut connection, now);
            self.connections.insert(id, connection);
        }
        if has_turn {
            self.turn_came(id, count, now);
        }
        self.press(id, now);
    }

    fn receive_ended(&mut self, id: ConnectionId, reason: Reason, now: Now) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
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

    fn closed(&mut self, id: ConnectionId, now: Now) {
        self.counters.add(Metric::ConnectionsClosed, 1);
        let Some(mut connection) = self.connections.remove(&id) else { return };
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
        self.leave_pressure(id, connection.paused, now);
        self.accept_again();
        self.process_freed(now);
    }

    fn accept_again(&mut self) {
        if self.accept_paused && !self.stopping {
            self.accept_paused = false;
            self.ops.push_back(Op::Accept);
        }
    }

    fn run_timers(&mut self, now: Now) {
        while let Some(&(due_us, timer)) = self.timers.first() {
            if due_us > now.monotonic_us {
                return;
            }
            self.timers.pop_first();
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
        let Some(connection) = self.connections.get(&id) else { return };
        if !matches!(connection.phase, Phase::Nameless) {
            return;
        }
        if !connection.receiving || connection.queued || self.waits_for_room() {
            // What it said is not read or not digested yet: that is no silence of the router's.
            let again_us = now.monotonic_us + self.settings.identify_timeout_us;
            self.timers.insert((again_us, Timer::Identify(id)));
            return;
        }
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let held_before = connection.held_bytes();
        let cause = Cause::RouterUnknown;
        let detail = "expected a hello or a document within identify_timeout_ms, found none";
        self.reject(&mut connection, &Rejection { cause, detail: detail.into() }, 0, now);
        self.finish(&mut connection, Reason::Rejected(cause), now);
        self.surge_changed(held_before, connection.held_bytes());
        self.connections.insert(id, connection);
        self.close_finished();
    }

    /// A snapshot of inferred end is over when nothing came for `snapshot_quiet_us` although the
    /// connection was being read, its receive queue was empty, and everything is digested.
    fn quiet_due(&mut self, id: ConnectionId, now: Now) {
        let was_read = !self.waits_for_room();
        let Some(mut connection) = self.connections.remove(&id) else { return };
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
                    self.timers.insert((again_us.max(quiet_us), Timer::Quiet(id)));
                }
            }
            connection.phase = Phase::Speaking(session);
        } else {
            connection.phase = phase;
        }
        self.connections.insert(id, connection);
    }

    /// Withdraws entries that have been unconfirmed for too long.
    fn hold_due(&mut self, now: Now) {
        let hold_us = i64::try_from(self.settings.unconfirmed_hold_us).unwrap_or(i64::MAX);
        let again_us = (self.settings.unconfirmed_hold_us / 8).clamp(1_000_000, 60_000_000);
        self.timers.insert((now.monotonic_us + again_us, Timer::Hold));
        if self.waits_for_room() {
            // Its rows would wait in memory, and more of them each time.
            return;
        }
        for home in self.homes.values_mut() {
            let (state, decoder_bytes) = match &mut home.slot {
                Slot::Idle(state) => (state, 0),
                Slot::Active(id) => {
                    let Some(connection) = self.connections.get_mut(id) else { continue };
                    let decoder_bytes = connection.decoder.table_bytes();
                    let Phase::Speaking(session) = &mut connection.phase else { continue };
                    (&mut session.state, decoder_bytes)
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
            let size = Size::of(&state.table, decoder_bytes);
            self.tables.recount(&self.memory, &mut home.counted, size);
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

#[cfg(test)]
mod tests;
