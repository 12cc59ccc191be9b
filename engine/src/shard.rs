//! The shard: one core's connections, routers and log, as a pure machine.
//!
//! In:   `Completion`s of a driver, and the time as an argument.
//! Out:  `Op`s for the driver to do; counters; nothing else.
//! Law:  draining goes before digesting; what is acknowledged is durable; the ledger balances.
//! Not:  the kernel: the three drivers of `io` turn the same machine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use storage::mapping::RouterId;
use storage::router::RouterState;
use storage::row::Reason;
use storage::table::Round;

use crate::io::{Completion, ConnectionId, Now, Op};
use crate::memory::Memory;
use crate::metrics::{Counters, Metric};
use crate::policy::Policy;
use crate::registry::{Message, Registry};
use crate::wire::{Tools, Unit};

mod settings;
mod surge;
mod books;
mod connection;
mod connections;
mod timers;
mod admission;
mod intake;
mod storm;
mod pressure;
mod stuck;
mod pace;
mod reserve;
mod queue;
mod digest;
mod claim;
mod session;
mod apply;
mod commit;
mod room;
mod notice;
mod roster;

use admission::Admission;
use books::Sums;
use claim::{Home, Slot};
use commit::Commit;
use connection::Phase;
use connections::Connections;
use notice::Notices;
use pace::Pace;
use pressure::Pressure;
use queue::Queue;
use reserve::Size;
use storm::Storm;
use stuck::Guard;
use timers::{Timer, Timers};

pub use settings::ShardSettings;

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
    connections: Connections,
    homes: BTreeMap<RouterId, Home>,
    commit: Commit,
    ops: VecDeque<Op>,
    timers: Timers,
    /// Connections with something to digest, in turn.
    ready: Queue,
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
        let mut timers = Timers::default();
        timers.insert(0, Timer::Hold);
        Shard {
            commit: Commit::new(settings.index),
            tools: Tools::new(settings.limits),
            admission: Admission::new(settings.sessions_per_minute_max),
            settings,
            registry,
            memory,
            policy,
            connections: Connections::default(),
            homes: BTreeMap::new(),
            ops: VecDeque::from([Op::Accept]),
            timers,
            ready: Queue::default(),
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
        self.ready.end(now.monotonic_us);
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
        self.ready.end(now.monotonic_us);
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

    /// The monotonic time at which `digest` must be called at the latest: later than now, when it
    /// has just said that there is nothing to digest.
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.commit.failure().is_some() {
            return None;
        }
        let timer_us = self.timers.due_us();
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
        let ids = self.connections.ids();
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

    /// For how long the connection that waits longest has not been read for want of memory.
    pub fn unread_us(&self, now: Now) -> u64 {
        let longest = self.pressure.longest_unread();
        longest.map_or(0, |(since_us, _)| now.monotonic_us.saturating_sub(since_us))
    }

    /// What has been counted. States and rows are brought up to date by the call.
    pub fn counters(&mut self) -> &mut Counters {
        self.counters.set(Metric::RoutersHeld, self.homes.len() as u64);
        self.counters.set(Metric::TableEntries, self.tables.entries);
        self.counters.set(Metric::TableBytes, self.tables.bytes);
        self.counters.set(Metric::SurgeHeldBytes, self.pressure.held_bytes() as u64);
        self.counters.set(Metric::ReceivePaused, self.pressure.paused() as u64);
        self.counters.set(Metric::SnapshotsWaiting, self.storm.waiting());
        // A row counts from when it is appended, in the same turn as what it tells of.
        let pushed = self.commit.rows_pushed() - self.counters.get(Metric::RowsPushed);
        self.counters.add(Metric::RowsPushed, pushed);
        let eta_ms = self.storm_eta_ms();
        self.counters.set(Metric::SnapshotsEtaMs, eta_ms);
        self.counters.set(Metric::ReceivePauseLongestMs, self.pressure.longest_us() / 1_000);
        &mut self.counters
    }

    /// What the ledger cannot account for, measured on the buffers and tables themselves.
    pub fn ledger_balance(&self) -> Balance {
        let mut balance = Balance::default();
        let mut rows = self.past.clone();
        for connection in self.connections.iter() {
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
            Slot::Active(id) => match &self.connections.get(*id)?.phase {
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
            Message::Roster(request) => request.answer(self.roster(now)),
        }
    }
}

#[cfg(test)]
mod tests;
