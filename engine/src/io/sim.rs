//! The seeded driver: turns the very same shards against a simulated network, disk and clock.
//!
//! In:   a seed, and which faults may happen.
//! Out:  the run, step by step; after every crash the real recovery reads the simulated disk.
//! Law:  one seed is one run; the ledger is looked at after every step.
//! Not:  what must hold at the end (the tests), or what a sender says (`sender`).

mod disk;
mod sender;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::log::state::{Cover, RoundLimits, round};
use storage::log::{BlockBuilder, LogFile};
use storage::mapping::RouterId;
use storage::recovery::{Recovered, open_on};
use storage::row::Reason;
use storage::time::{Hour, Micros};

use super::{Completion, ConnectionId, Now, Op};
use crate::memory::{Budget, Memory};
use crate::policy::Policy;
use crate::registry::{Message, Registry};
use crate::settings::Settings;
use crate::shard::{Balance, Shard, ShardSettings};

pub use sender::{Made, Manner, Sender};

/// Where every simulated run begins: 2026-11-22T04:59:58Z, two seconds before a rotation.
const START: Micros = Micros(1_795_323_598_000_000);
/// The longest time that a disk stays full.
const FULL_US_MAX: u64 = 3_000_000;
/// The longest way of a byte through the network.
const LATENCY_US_MAX: u64 = 3_000;
/// The most that a sender brings into the network in a turn, and into a narrow one: there a
/// snapshot takes so long that ends, acks and crashes come in its middle.
const CARRIED_BYTES_MAX: usize = 8_000;
const CARRIED_BYTES_MAX_NARROW: usize = 300;
/// Recoveries that fail one after the other before the world is given up.
const RECOVERIES_LOST_MAX: u32 = 100;
/// How many worlds have a narrow network.
const NARROW_SHARE: f64 = 0.25;

/// How often, per turn, each fault happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The process dies; the kernel keeps what was written.
    pub kill: f64,
    /// The host dies; only what was synced is sure.
    pub power_loss: f64,
    /// A commit finds the disk full, and so do those that follow for a while.
    pub disk_full: f64,
    /// A commit finds the disk broken.
    pub disk_broken: f64,
    /// What a process leaves unwritten, the kernel cannot write back: it says so once, and counts
    /// the pages as written. Per end of a process, not per turn.
    pub write_back: f64,
    /// An operation of a recovery fails, and the recovery with it. Per operation, not per turn.
    pub recovery: f64,
    /// A connection is reset.
    pub reset: f64,
    /// A router says bye.
    pub bye: f64,
    /// A router restarts.
    pub reboot: f64,
    /// The wall clock jumps.
    pub clock_step: f64,
    /// A byte is not the one that was sent.
    pub corrupt: f64,
    /// The log is turned into states: no fault, but everything else may happen around it.
    pub round: f64,
}

impl Faults {
    /// Everything, a few times in a run of a thousand turns.
    pub const ALL: Faults = Faults {
        kill: 0.0015,
        power_loss: 0.003,
        disk_full: 0.003,
        disk_broken: 0.0005,
        write_back: 0.4,
        recovery: 0.01,
        reset: 0.004,
        bye: 0.001,
        reboot: 0.001,
        clock_step: 0.001,
        corrupt: 0.0,
        round: 0.003,
    };
}

/// One connection, on its way between sender and shard.
struct Pipe {
    sender: usize,
    receiving: bool,
    /// (when it is there, bytes).
    wire: VecDeque<(u64, Vec<u8>)>,
    arrived: VecDeque<u8>,
    end: Option<Reason>,
}

/// A commit that was asked for.
struct DiskOp {
    due_us: u64,
    hour: Hour,
    bytes: Arc<Vec<u8>>,
}

/// One shard and the part of the world that it sees.
struct Driven {
    shard: Shard,
    accepting: bool,
    waiting: VecDeque<ConnectionId>,
    pipes: BTreeMap<ConnectionId, Pipe>,
    commit: Option<DiskOp>,
    /// Files to be made ahead, by a thread of their own: (when, which).
    ahead: VecDeque<(u64, Hour)>,
    /// The file in which a commit has failed, until it is cut back, and its durable end.
    torn: Option<(Hour, u64)>,
    full_until_us: u64,
    /// The last commit failed.
    failed: bool,
    told: VecDeque<Message>,
}

/// A world with a collector in it.
pub struct Sim {
    chance: ChaCha8Rng,
    /// When states are made: they change nothing in the world, so it is the same with and without.
    chance_of_rounds: ChaCha8Rng,
    faults: Faults,
    /// Whether bytes arrive damaged in this world.
    pub corrupts: bool,
    /// The most that a sender brings into the network in a turn.
    carried_bytes_max: usize,
    settings: Settings,
    data: PathBuf,
    monotonic_us: u64,
    clock_step_us: i64,
    disk: disk::Disk,
    driven: Vec<Driven>,
    /// The routers.
    pub senders: Vec<Sender>,
    connections: u64,
    unique: u32,
    /// Whether senders change their tables.
    pub busy: bool,
    /// Crashes and stops so far.
    pub restarts: u64,
    /// Recoveries that failed and were done again.
    pub recoveries_lost: u64,
    /// Acks on their way: (when, sender, connection, bytes).
    acks: VecDeque<(u64, usize, ConnectionId, Vec<u8>)>,
    links: Vec<Option<(usize, ConnectionId)>>,
}

impl Sim {
    /// A collector that begins with the empty folder `data`, and routers of these manners.
    pub fn new(
        seed: u64,
        faults: Faults,
        manners: &[Manner],
        settings: Settings,
        data: &Path,
    ) -> Sim {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let carried_bytes_max = match chance.random_bool(NARROW_SHARE) {
            true => CARRIED_BYTES_MAX_NARROW,
            false => CARRIED_BYTES_MAX,
        };
        let mut sim = Sim {
            chance,
            chance_of_rounds: ChaCha8Rng::seed_from_u64(seed),
            faults,
            corrupts: faults.corrupt > 0.0,
            carried_bytes_max,
            settings,
            data: data.to_owned(),
            monotonic_us: 0,
            clock_step_us: 0,
            disk: disk::Disk::default(),
            driven: Vec::new(),
            senders: Vec::new(),
            connections: 0,
            unique: 0,
            busy: true,
            restarts: 0,
            recoveries_lost: 0,
            acks: VecDeque::new(),
            links: vec![None; manners.len()],
        };
        for (index, manner) in manners.iter().enumerate() {
            let router = RouterId([192, 0, 2, index as u8 + 1].into());
            let skews_us = [0, 0, 250_000, -3_600_000_000, 7_200_000_000];
            let skew_us = skews_us[sim.chance.random_range(0..skews_us.len())];
            sim.senders.push(Sender::new(router, *manner, skew_us, sim.now()));
        }
        sim
    }

    /// The time.
    pub fn now(&self) -> Now {
        let passed_us = self.monotonic_us as i64 + self.clock_step_us;
        Now { wall: START.offset(passed_us), monotonic_us: self.monotonic_us }
    }

    /// Starts a collector on what the disk holds; returns what recovery found.
    pub fn start(&mut self, shards: usize) -> Result<Recovered, String> {
        let recovered = self.recover()?;
        let parked = recovered.routers.iter().map(|(id, state)| (*id, state.clone())).collect();
        let registry = Arc::new(Registry::new(parked));
        // Everything is for the surges here, shared by however many shards there are.
        let mut budget = Budget::of_surge(self.settings.memory_bytes);
        budget.shards = shards as u64;
        let memory = Arc::new(Memory::new(budget));
        memory.park(registry.parked_bytes());
        let policy = Arc::new(Policy::new(&self.settings));
        for index in 0..shards {
            let settings = ShardSettings::new(&self.settings, index, &budget);
            self.driven.push(Driven {
                shard: Shard::new(settings, registry.clone(), memory.clone(), policy.clone()),
                accepting: false,
                waiting: VecDeque::new(),
                pipes: BTreeMap::new(),
                commit: None,
                ahead: VecDeque::new(),
                torn: None,
                full_until_us: 0,
                failed: false,
                told: VecDeque::new(),
            });
        }
        Ok(recovered)
    }

    /// Recovers what the disk holds. A recovery that fails is done again by the next process, which
    /// may find that the host has lost power.
    fn recover(&mut self) -> Result<Recovered, String> {
        let mut failures = 0;
        loop {
            if self.chance.random_bool(self.faults.write_back) {
                self.disk.forget_clean_pages(&mut self.chance);
            }
            match self.try_to_recover() {
                Ok(recovered) => return Ok(recovered),
                Err(why) if failures > RECOVERIES_LOST_MAX => return Err(why),
                Err(_) => failures += 1,
            }
            self.recoveries_lost += 1;
            if self.faults.power_loss > 0.0 && self.chance.random_bool(0.5) {
                self.disk.lose_power(&mut self.chance);
            } else if self.chance.random_bool(self.faults.write_back) {
                self.disk.write_back_fails(&mut self.chance);
            }
        }
    }

    fn try_to_recover(&mut self) -> Result<Recovered, String> {
        self.disk.materialise(&self.data).map_err(|error| error.to_string())?;
        let (now, faults) = (self.now(), self.faults.recovery);
        let (disk, data, chance) = (&mut self.disk, &self.data, &mut self.chance);
        let mut system = disk::Recovering { disk, data, chance, faults };
        let opened = open_on(data, now.wall, &mut system);
        let recovered = opened.map_err(|error| error.to_string())?;
        // What recovery cannot vouch for is durable before a router can open a new session.
        let (mut builder, mut block) = (BlockBuilder::new(0), Vec::new());
        recovered.rows.iter().for_each(|row| builder.session(row));
        builder.finish(&mut block);
        let hour = now.wall.hour();
        self.disk.open(hour, 0);
        self.disk.append(hour, 0, &block);
        self.disk.sync(hour, 0).map_err(|error| error.to_string())?;
        Ok(recovered)
    }

    /// A number of shards for the next start; another one than the last time is normal.
    pub fn any_shards(&mut self) -> usize {
        self.chance.random_range(1..4)
    }

    /// One turn of everything. `Ok(true)` = the collector is down now.
    pub fn turn(&mut self) -> Result<bool, String> {
        self.monotonic_us += match self.chance.random_range(0..20) {
            0 => self.chance.random_range(5_000..60_000),
            _ => self.chance.random_range(20..1_500),
        };
        if self.chance.random_bool(self.faults.clock_step) {
            self.clock_step_us += self.chance.random_range(-7_200_000_000i64..7_200_000_000);
        }
        self.turn_senders();
        self.deliver_acks()?;
        for index in 0..self.driven.len() {
            self.turn_shard(index)?;
        }
        if self.chance_of_rounds.random_bool(self.faults.round) {
            self.make_states()?;
        }
        self.maybe_die()
    }

    /// Turns the log as the kernel shows it, the hour that is open too, into states. Some routers
    /// get one, some keep the rows that they have.
    fn make_states(&mut self) -> Result<(), String> {
        self.materialise()?;
        let rows_min = self.chance_of_rounds.random_range(1..60);
        let limits = RoundLimits { rows_min, memory_bytes: 1, ..RoundLimits::default() };
        // All of a file but what a failed commit has left, to be cut.
        let cover = |file: &LogFile, _: &[LogFile]| {
            let driven = self.driven.get(usize::from(file.shard));
            let is_torn =
                driven.is_some_and(|driven| driven.torn.is_some_and(|torn| torn.0 == file.hour));
            Some(if is_torn { Cover::Durable } else { Cover::Whole })
        };
        round(&self.data, &cover, &limits, &mut || true).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Ends every fault, and lets everything be said.
    pub fn calm(&mut self) {
        self.faults = Faults::default();
        self.busy = false;
        let now = self.now();
        for sender in &mut self.senders {
            sender.last_word(now);
        }
    }

    /// Whether every router has said everything, and the collector has digested and committed it.
    pub fn is_quiet(&self) -> bool {
        self.senders.iter().all(Sender::is_quiet)
            && self.driven.iter().all(|driven| driven.commit.is_none() && !driven.failed)
            && self.driven.iter().all(|driven| {
                driven.pipes.values().all(|pipe| pipe.wire.is_empty() && pipe.arrived.is_empty())
            })
    }

    /// Whether the disk of any shard is full.
    pub fn waits(&self) -> bool {
        self.driven.iter().any(|driven| driven.failed)
    }

    /// Stops the collector in order; every row is durable afterwards.
    pub fn stop(&mut self) -> Result<(), String> {
        let now = self.now();
        for driven in &mut self.driven {
            driven.shard.stop(now);
        }
        for _ in 0..20_000 {
            if self.driven.iter().all(|driven| driven.shard.stopped()) {
                self.driven.clear();
                self.cut_links();
                self.restarts += 1;
                return Ok(());
            }
            self.monotonic_us += 500;
            self.deliver_acks()?;
            for index in 0..self.driven.len() {
                self.turn_shard(index)?;
            }
        }
        Err("the collector does not stop".to_owned())
    }

    /// Writes the disk into the data folder.
    pub fn materialise(&self) -> Result<(), String> {
        self.disk.materialise(&self.data).map_err(|error| error.to_string())
    }

    fn turn_senders(&mut self) {
        for index in 0..self.senders.len() {
            let now = self.now();
            if self.senders[index].link.is_none() {
                let due = self.senders[index].retry_us <= now.monotonic_us;
                if due && !self.driven.is_empty() {
                    self.connect(index);
                }
            }
            if self.busy && self.chance.random_bool(0.15) {
                self.senders[index].change(now, &mut self.chance, &mut self.unique);
            }
            if self.busy && self.chance.random_bool(0.01) {
                self.senders[index].keepalive();
            }
            if self.chance.random_bool(self.faults.bye) {
                self.senders[index].bye();
            }
            // Documents on two connections at once have no order but that in which they arrive.
            let ordered = self.senders[index].manner != Manner::Bare;
            if ordered && self.chance.random_bool(self.faults.reset) {
                self.cut_link(index, Reason::ConnectionLost);
            }
            if ordered && self.chance.random_bool(self.faults.reboot) {
                self.cut_link(index, Reason::ConnectionLost);
                self.senders[index].reboot(now);
            }
            self.carry(index);
        }
    }

    /// A router usually comes back to the same shard, and sometimes to another.
    fn connect(&mut self, sender: usize) {
        let pinned = sender % self.driven.len();
        let shard = match self.chance.random_bool(0.8) {
            true => pinned,
            false => self.chance.random_range(0..self.driven.len()),
        };
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let pipe = Pipe {
            sender,
            receiving: false,
            wire: VecDeque::new(),
            arrived: VecDeque::new(),
            end: None,
        };
        self.driven[shard].pipes.insert(id, pipe);
        self.driven[shard].waiting.push_back(id);
        self.links[sender] = Some((shard, id));
        let now = self.now();
        self.senders[sender].connected(now, &mut self.chance);
    }

    /// Moves some of a sender's bytes into the network.
    fn carry(&mut self, index: usize) {
        let Some((shard, id)) = self.links[index] else { return };
        let arrival_us = self.monotonic_us + self.chance.random_range(0..LATENCY_US_MAX);
        let sender = &mut self.senders[index];
        let Some(link) = &mut sender.link else { return };
        let pipe = self.driven.get_mut(shard).and_then(|driven| driven.pipes.get_mut(&id));
        let Some(pipe) = pipe else { return };
        let count = self.chance.random_range(0..self.carried_bytes_max).min(link.outbox.len());
        if count > 0 {
            let earliest_us = pipe.wire.back().map_or(0, |piece| piece.0);
            let mut bytes: Vec<u8> = link.outbox.drain(..count).collect();
            if self.chance.random_bool(self.faults.corrupt) {
                let index = self.chance.random_range(0..count);
                bytes[index] ^= 1 << self.chance.random_range(0..8);
            }
            pipe.wire.push_back((arrival_us.max(earliest_us), bytes));
        }
        if link.finishes && link.outbox.is_empty() && !link.finished {
            // Half closed: like `nc -N`, it waits for the collector to close as well.
            link.finished = true;
            pipe.end = Some(Reason::ClosedByRouter);
        }
    }

    /// The sender's connection ends, from its side or from the network's.
    fn cut_link(&mut self, index: usize, reason: Reason) {
        let Some((shard, id)) = self.links[index].take() else { return };
        let pipe = self.driven.get_mut(shard).and_then(|driven| driven.pipes.get_mut(&id));
        if let Some(pipe) = pipe {
            // A reset may overtake what is still on its way.
            pipe.wire.truncate(self.chance.random_range(0..=pipe.wire.len()));
            pipe.end = Some(reason);
        }
        let retry_us = self.monotonic_us + self.chance.random_range(1_000..300_000);
        self.senders[index].disconnected(retry_us, false);
    }

    fn cut_links(&mut self) {
        for index in 0..self.senders.len() {
            if self.links[index].is_some() {
                self.cut_link(index, Reason::ConnectionLost);
            }
        }
    }

    fn deliver_acks(&mut self) -> Result<(), String> {
        for _ in 0..self.acks.len() {
            let Some((due_us, index, id, bytes)) = self.acks.pop_front() else { break };
            if due_us > self.monotonic_us {
                self.acks.push_back((due_us, index, id, bytes));
            } else if self.links[index].is_some_and(|link| link.1 == id) {
                self.senders[index].hear(&bytes)?;
            }
        }
        Ok(())
    }

    fn turn_shard(&mut self, index: usize) -> Result<(), String> {
        self.accept(index)?;
        self.receive(index)?;
        self.turn_disk(index)?;
        while let Some(message) = self.driven[index].told.pop_front() {
            self.handle(index, Completion::Told { message })?;
        }
        let drained = self.driven[index].pipes.values().all(|pipe| pipe.arrived.is_empty());
        if drained {
            self.handle(index, Completion::Drained)?;
        }
        let slices = 1 + self.chance.random_range(0..3);
        for _ in 0..slices {
            let now = self.now();
            let more = self.driven[index].shard.digest(now);
            self.look(index)?;
            self.act(index)?;
            if !more {
                self.look_at_rest(index, now)?;
                break;
            }
        }
        Ok(())
    }

    /// A shard that has nothing to digest sleeps: what is due is due later.
    fn look_at_rest(&self, index: usize, now: Now) -> Result<(), String> {
        let now_us = now.monotonic_us;
        let shard = &self.driven[index].shard;
        match shard.poll_timeout() {
            Some(due_us) if due_us <= now_us => Err(format!(
                "shard {index} has nothing to do at {now_us} us and is due at {due_us}"
            )),
            _ => Ok(()),
        }
    }

    fn handle(&mut self, index: usize, completion: Completion<'_>) -> Result<(), String> {
        let now = self.now();
        self.driven[index].shard.handle(now, completion);
        self.look(index)?;
        self.act(index)
    }

    /// The ledger balances at every moment.
    fn look(&self, index: usize) -> Result<(), String> {
        let balance = self.driven[index].shard.ledger_balance();
        if balance == Balance::default() {
            return Ok(());
        }
        Err(format!("at {} the ledger does not balance: {balance:?}", self.monotonic_us))
    }

    fn accept(&mut self, index: usize) -> Result<(), String> {
        while self.driven[index].accepting {
            let driven = &mut self.driven[index];
            let Some(connection) = driven.waiting.pop_front() else { break };
            let Some(pipe) = driven.pipes.get(&connection) else { continue };
            let peer = SocketAddr::from(([127, 0, 0, pipe.sender as u8 + 1], 20_000));
            self.handle(index, Completion::Accepted { connection, peer })?;
        }
        Ok(())
    }

    /// Delivers some of what has arrived, connection by connection, in pieces of any length.
    fn receive(&mut self, index: usize) -> Result<(), String> {
        let ids: Vec<ConnectionId> = self.driven[index].pipes.keys().copied().collect();
        for id in ids {
            let now_us = self.monotonic_us;
            let Some(pipe) = self.driven[index].pipes.get_mut(&id) else { continue };
            while pipe.wire.front().is_some_and(|piece| piece.0 <= now_us) {
                let bytes = pipe.wire.pop_front().map(|piece| piece.1).unwrap_or_default();
                pipe.arrived.extend(bytes);
            }
            if !pipe.receiving || self.chance.random_bool(0.3) {
                continue;
            }
            let count = match self.chance.random_range(0..4) {
                0 => self.chance.random_range(0..40),
                _ => self.chance.random_range(0..16_000),
            };
            let bytes: Vec<u8> = pipe.arrived.drain(..pipe.arrived.len().min(count)).collect();
            let ended = pipe.arrived.is_empty() && pipe.wire.is_empty();
            let reason = if ended { pipe.end.take() } else { None };
            if !bytes.is_empty() {
                self.handle(index, Completion::Received { connection: id, bytes: &bytes })?;
            }
            if let Some(reason) = reason {
                self.handle(index, Completion::ReceiveEnded { connection: id, reason })?;
            }
        }
        Ok(())
    }

    fn turn_disk(&mut self, index: usize) -> Result<(), String> {
        let (shard, now_us) = (index as u16, self.monotonic_us);
        while let Some((_, hour)) = self.driven[index].ahead.pop_front_if(|it| it.0 <= now_us) {
            self.disk.open(hour, shard);
        }
        let driven = &mut self.driven[index];
        let Some(DiskOp { hour, bytes, .. }) = driven.commit.take_if(|it| it.due_us <= now_us)
        else {
            return Ok(());
        };
        if self.chance.random_bool(self.faults.disk_full) {
            driven.full_until_us = now_us + self.chance.random_range(0..FULL_US_MAX);
        }
        let broken = self.chance.random_bool(self.faults.disk_broken);
        if broken || driven.full_until_us > now_us {
            self.fail_commit(index, hour, &bytes);
            let errno = if broken { libc::EIO } else { libc::ENOSPC };
            return self.handle(index, Completion::LogFailed { errno });
        }
        driven.failed = false;
        if let Some((torn, length)) = driven.torn.take() {
            self.disk.cut(torn, shard, length);
        }
        self.disk.open(hour, shard);
        let length = self.disk.length(hour, shard);
        self.disk.append(hour, shard, &bytes);
        drop(bytes);
        match self.disk.sync(hour, shard) {
            Ok(length) => self.handle(index, Completion::LogSynced { length }),
            Err(_) => {
                let driven = &mut self.driven[index];
                (driven.failed, driven.torn) = (true, Some((hour, length)));
                self.handle(index, Completion::LogFailed { errno: libc::EIO })
            }
        }
    }

    /// A commit fails before it begins, in the middle of its write, or in its sync; what it has
    /// left is cut away at once or by the next one.
    fn fail_commit(&mut self, index: usize, hour: Hour, bytes: &[u8]) {
        let shard = index as u16;
        let kept = match self.chance.random_range(0..3) {
            0 => None,
            1 => Some(self.chance.random_range(0..=bytes.len())),
            _ => Some(bytes.len()),
        };
        let driven = &mut self.driven[index];
        driven.failed = true;
        if let Some(part) = kept.and_then(|kept| bytes.get(..kept)) {
            if let Some((torn, length)) = driven.torn.take() {
                self.disk.cut(torn, shard, length);
            }
            self.disk.open(hour, shard);
            driven.torn = Some((hour, self.disk.length(hour, shard)));
            self.disk.append(hour, shard, part);
            if part.len() == bytes.len() {
                self.disk.sync_fails(hour, shard, &mut self.chance);
            }
        }
        if self.chance.random_bool(0.5)
            && let Some((torn, length)) = driven.torn.take()
        {
            self.disk.cut(torn, shard, length);
        }
    }

    /// Does what the shard asks for.
    fn act(&mut self, index: usize) -> Result<(), String> {
        while let Some(op) = self.driven[index].shard.poll_op() {
            let delay_us = self.chance.random_range(0..5_000);
            let due_us = self.monotonic_us + delay_us;
            let driven = &mut self.driven[index];
            if driven.failed && matches!(op, Op::Send { .. } | Op::Receive { .. }) {
                return Err(format!("the log has failed, and the shard asks for {op:?}"));
            }
            match op {
                Op::Accept => driven.accepting = true,
                Op::PauseAccept => driven.accepting = false,
                Op::Receive { connection } => set_receiving(driven, connection, true),
                Op::PauseReceive { connection } => set_receiving(driven, connection, false),
                Op::Send { connection, bytes } => {
                    if let Some(pipe) = driven.pipes.get(&connection) {
                        let due_us = self.monotonic_us + LATENCY_US_MAX;
                        self.acks.push_back((due_us, pipe.sender, connection, bytes));
                    }
                }
                Op::Close { connection, .. } => self.close(index, connection)?,
                Op::LogCommit { hour, bytes } => {
                    if driven.commit.replace(DiskOp { due_us, hour, bytes }).is_some() {
                        return Err("two commits at once".to_owned());
                    }
                }
                Op::LogPrepare { hour } => driven.ahead.push_back((due_us, hour)),
                Op::Tell { shard, message } => match self.driven.get_mut(shard) {
                    Some(driven) => driven.told.push_back(message),
                    None => return Err(format!("shard {shard} is told, and is not there")),
                },
            }
        }
        Ok(())
    }

    /// The shard closes a connection: its sender tries again later.
    fn close(&mut self, index: usize, connection: ConnectionId) -> Result<(), String> {
        if let Some(pipe) = self.driven[index].pipes.remove(&connection)
            && self.links[pipe.sender].is_some_and(|link| link.1 == connection)
        {
            self.links[pipe.sender] = None;
            let retry_us = self.monotonic_us + self.chance.random_range(1_000..100_000);
            self.senders[pipe.sender].disconnected(retry_us, true);
        }
        self.handle(index, Completion::Closed { connection })
    }

    /// The process or the host dies, by chance or because its log has failed.
    fn maybe_die(&mut self) -> Result<bool, String> {
        let failed = self.driven.iter().any(|driven| driven.shard.failure().is_some());
        let kill = failed || self.chance.random_bool(self.faults.kill);
        let power_loss = self.chance.random_bool(self.faults.power_loss);
        if !kill && !power_loss {
            return Ok(false);
        }
        for index in 0..self.driven.len() {
            self.die_while_writing(index);
        }
        self.driven.clear();
        if self.chance.random_bool(self.faults.write_back) {
            self.disk.write_back_fails(&mut self.chance);
        }
        if power_loss {
            self.disk.lose_power(&mut self.chance);
        }
        // Acks that had left the host may still reach the routers.
        for (_, index, id, bytes) in std::mem::take(&mut self.acks) {
            if self.chance.random_bool(0.7) && self.links[index].is_some_and(|link| link.1 == id) {
                self.senders[index].hear(&bytes)?;
            }
        }
        self.cut_links();
        self.restarts += 1;
        self.monotonic_us += self.chance.random_range(1_000..3_000_000);
        Ok(true)
    }

    /// Of the commit under way, some is done; a file to be made ahead may be there.
    fn die_while_writing(&mut self, index: usize) {
        let shard = index as u16;
        let driven = &mut self.driven[index];
        for (_, hour) in driven.ahead.drain(..) {
            if self.chance.random_bool(0.5) {
                self.disk.append(hour, shard, &[]);
            }
        }
        let Some(DiskOp { hour, bytes, .. }) = driven.commit.take() else { return };
        let begun = self.chance.random_bool(0.7);
        if begun && let Some((torn, length)) = driven.torn.take() {
            self.disk.cut(torn, shard, length);
        }
        let kept = self.chance.random_range(0..=bytes.len());
        match self.chance.random_range(0..4) {
            _ if !begun => {}
            0 => self.disk.append(hour, shard, &[]),
            1 => self.disk.append(hour, shard, bytes.get(..kept).unwrap_or(&bytes)),
            2 => self.disk.append(hour, shard, &bytes),
            _ => {
                self.disk.open(hour, shard);
                self.disk.append(hour, shard, &bytes);
                // Whether it succeeds, nobody hears.
                let _ = self.disk.sync(hour, shard);
            }
        }
    }
}

fn set_receiving(driven: &mut Driven, connection: ConnectionId, receiving: bool) {
    if let Some(pipe) = driven.pipes.get_mut(&connection) {
        pipe.receiving = receiving;
    }
}
