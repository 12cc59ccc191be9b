//! The collector as a whole: threads, start and stop.
//!
//! In:   settings; SIGHUP's new policy; the order to stop.
//! Out:  a running collector: shard threads with their disk threads, the keeper, the watch, the
//!       HTTP side.
//! Law:  a thread that cannot go on ends the process: never limp.
//! Not:  what a shard does (`shard`), how sockets are driven (`io`), signals (`main`).

mod folder;
mod keeper;
mod recover;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::Socket;
use storage::log::{DataLock, LogError, lock};
use storage::row::Row;

use crate::http::{Guard, GuardError, HttpServer, Sources};
use crate::io::choice::{self, ChoiceError, Driver, choose};
use crate::io::clock::Clock;
use crate::io::disk::{Disk, Room};
use crate::io::epoll::EpollDriver;
use crate::io::gate::{Capacity, Places};
use crate::io::links::{
    AbortOnPanic, Address, DriverCounters, EXIT_FAILED, Links, Machine, Post, mailbox,
};
use crate::io::listener::{DeadPeer, ListenError, adopt, listen};
use crate::io::turn;
use crate::io::uring::Offered;
use crate::io::uring::driver::UringDriver;
use crate::io::{Completion, Now, Op, sockets, uring};
use crate::memory::{Budget, BudgetError, Memory, MemoryError};
use crate::metrics::{Metric, Publication};
use crate::policy::Policy;
use crate::registry::{Message, Registry};
use crate::roster::Roster;
use crate::settings::{IoChoice, SHARDS_MAX, Settings};
use crate::shard::{Balance, Shard, ShardSettings};
use crate::watch::{Watch, Watcher};

use folder::FolderWatch;
use keeper::Keeper;
use recover::{Configured, recover};

/// What a shard lacks that has no driver.
const DRIVER: &str = "a shard's driver";

/// Why the collector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be taken or read.
    #[error("{0}")]
    Log(#[from] LogError),
    /// Nothing can listen there.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The driver that was asked for cannot be had.
    #[error("{0}")]
    Driver(#[from] ChoiceError),
    /// The budget does not hold what must be there.
    #[error("{0}")]
    Memory(#[from] BudgetError),
    /// This process cannot have it.
    #[error("{0}")]
    Host(#[from] MemoryError),
    /// The HTTP side would be open to others, or has no token.
    #[error("{0}")]
    Guard(#[from] GuardError),
    /// The HTTP side cannot listen.
    #[error("http address {address}: {source}; give another --http, or off")]
    Http {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// What recovery found cannot be made durable.
    #[error(
        "cannot write the log of {data}, which lies on {room}: {source}; what recovery found must \
         be durable before a router may connect",
        data = data.display()
    )]
    Write {
        /// The data folder.
        data: PathBuf,
        /// What its file system has left.
        room: Room,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread, an eventfd or a ring could not be made.
    #[error("cannot make {what}: {source}")]
    Resource {
        /// What was to be made.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl StartError {
    /// Whether another setting would have helped: exit code 2 instead of 3.
    pub fn is_setting(&self) -> bool {
        match self {
            StartError::Listen(_)
            | StartError::Driver(_)
            | StartError::Memory(_)
            | StartError::Host(_)
            | StartError::Guard(_)
            | StartError::Http { .. } => true,
            StartError::Log(LogError::Locked { .. }) => true,
            StartError::Log(_) | StartError::Write { .. } | StartError::Resource { .. } => false,
        }
    }

    fn resource(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
        move |source| StartError::Resource { what, source }
    }
}

/// Why a stop was not in order.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Some shards had not finished in time. What they acknowledged is durable all the same.
    #[error(
        "{shards} shards had not committed and closed within stop_timeout_s = {seconds}: \
         what is not acknowledged is sent again, or becomes a gap"
    )]
    Late {
        /// How many.
        shards: usize,
        /// The time they had.
        seconds: u64,
    },
    /// The disk was full to the end.
    #[error(
        "{shards} shards found no room for what they had read within stop_timeout_s = {seconds}: \
         {room}; what is not acknowledged is sent again, or becomes a gap"
    )]
    NoRoom {
        /// How many had not finished.
        shards: usize,
        /// The time they had.
        seconds: u64,
        /// The file system.
        room: Room,
    },
}

/// A running collector. Dropping it without `stop` leaves its threads running.
#[derive(Debug)]
pub struct Collector {
    listen: SocketAddr,
    http: Option<HttpServer>,
    driver: Driver,
    publication: Arc<Publication>,
    registry: Arc<Registry>,
    shards: Vec<Address>,
    threads: Vec<JoinHandle<()>>,
    /// Each shard's thread says here that it has ended.
    ended: Receiver<usize>,
    stop_timeout: Duration,
    clock: Clock,
    data: PathBuf,
    retain_hours: u64,
    question_bytes: u64,
    configured: Configured,
    watch: Watch,
    _watcher: Watcher,
    /// Before the lock: both hold it too.
    _keeper: Keeper,
    _folder: FolderWatch,
    /// Held until every shard has ended.
    _lock: Arc<DataLock>,
}

impl Collector {
    /// Takes the data folder, rebuilds the routers' tables, listens, and begins to collect.
    ///
    /// Returns when every shard is ready to accept. Errors: `StartError`; nothing is left running.
    pub fn start(settings: Settings) -> Result<Collector, StartError> {
        Collector::start_at(settings, Clock::start())
    }

    /// The same, at the times of a clock that is given: what happens once an hour is measured so.
    pub fn start_at(settings: Settings, clock: Clock) -> Result<Collector, StartError> {
        Collector::start_on(settings, clock, Vec::new())
    }

    /// The same on listening sockets that were handed over, one per shard; without any, the
    /// collector listens where the settings say.
    pub fn start_on(
        mut settings: Settings,
        clock: Clock,
        sockets: Vec<Socket>,
    ) -> Result<Collector, StartError> {
        if let Some(unknown) = settings.resolve_memory() {
            tracing::warn!("{unknown}");
        }
        if settings.shards == 0 && !sockets.is_empty() {
            settings.shards = sockets.len().min(SHARDS_MAX);
        }
        let shards = settings.shard_count();
        let token_file = settings.http_token_file.as_deref();
        let guard = |address| Guard::new(address, token_file).map(|guard| (address, guard));
        let guard = settings.http.map(guard).transpose()?;
        let budget = Budget::new(&settings, shards)?;
        budget.check()?;
        take_small_pages(&budget);
        settings.connections_max = settings.connections_max.min(budget.connections_max);
        let descriptors =
            sockets::raise_descriptor_limit().map_err(StartError::resource("descriptors"))?;
        let lock = Arc::new(lock(&settings.data)?);
        if let Some(error) = lock.folder_unlocked() {
            tracing::warn!(
                %error,
                "the data folder itself cannot be locked: only its file `lock` keeps a second \
                 collector out, so never remove that"
            );
        }
        let (driver, reason) = choose(settings.io, uring::probe)?;
        tracing::info!(driver = driver.name(), reason, descriptors, "driver chosen");
        let policy = Policy::new(&settings);
        let (routers, configured, lacking) = recover(&settings.data, &policy, clock.now().wall)?;
        let registry = Arc::new(Registry::new(routers));
        let memory = share_memory(budget, &registry);
        let publication = Arc::new(Publication::new(shards));
        publication.set_memory(Arc::clone(&memory));
        publication.lacks(&lacking);
        let dead = dead_peer(&settings);
        let listeners = if sockets.is_empty() {
            listen(settings.listen, shards, &dead)?
        } else {
            adopt(sockets, shards, &dead)?
        };
        if let Some(error) = &listeners.unpinned {
            tracing::warn!(%error, "sources are not pinned to shards: tables will move more often");
        }
        let of_watch = (listeners.address, Arc::clone(&registry));
        let mut start = Start {
            driver,
            capacity: capacity_of(&settings, driver, descriptors, shards),
            clock,
            data: settings.data.clone(),
            policy: Arc::new(policy),
            registry: Arc::clone(&registry),
            memory,
            publication: Arc::clone(&publication),
            cpus: cpus_to_pin(shards),
        };
        let (ended_sender, ended) = unbounded();
        let started = start.shards_or_epoll(&settings, listeners.sockets, &ended_sender)?;
        let ((addresses, threads), instead) = started;
        let (driver, reason) = (start.driver, instead.unwrap_or(reason));
        publication.set_driver(driver.name(), &reason);
        let keeper = Keeper::start(&settings, clock, Arc::clone(&lock), Arc::clone(&publication))
            .map_err(StartError::resource("the keeper's thread"))?;
        let folder = FolderWatch::start(Arc::clone(&lock))
            .map_err(StartError::resource("the thread that watches the data folder"))?;
        let watch = Watch::new();
        let publication_of_watch = Arc::clone(&publication);
        let watcher =
            Watcher::start(watch.clone(), &settings, clock, publication_of_watch, of_watch)
                .map_err(StartError::resource("the watch's thread"))?;
        let collector = Collector {
            listen: listeners.address,
            http: None,
            driver,
            publication,
            registry,
            shards: addresses,
            threads,
            ended,
            stop_timeout: Duration::from_secs(settings.stop_timeout_s),
            clock,
            data: settings.data.clone(),
            retain_hours: settings.retain_hours,
            question_bytes: budget.question_bytes,
            configured,
            watch,
            _watcher: watcher,
            _keeper: keeper,
            _folder: folder,
            _lock: lock,
        };
        collector.with_http(guard)
    }

    fn with_http(mut self, http: Option<(SocketAddr, Guard)>) -> Result<Collector, StartError> {
        if let Some((address, guard)) = http {
            let publication = Arc::clone(&self.publication);
            let data = self.data.clone();
            let watch = self.watch.clone();
            let roster = Roster::new(self.shards.clone(), Arc::clone(&self.registry));
            let clock = self.clock;
            let (retain_hours, question_bytes) = (self.retain_hours, self.question_bytes);
            let sources =
                Sources { publication, watch, roster, data, retain_hours, question_bytes, clock };
            match HttpServer::start(address, guard, sources) {
                Ok(server) => self.http = Some(server),
                Err(source) => {
                    // A collector that nobody can watch is not what was asked for.
                    let _ = self.stop();
                    return Err(StartError::Http { address, source });
                }
            }
        }
        let http = self.http_address().map(|address| address.to_string());
        let shards = self.shards.len();
        tracing::info!(listen = %self.listen, http, shards, "collecting");
        Ok(self)
    }

    /// Where routers connect to, with the port that was really bound.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Where `/metrics` and `/healthz` are served, if they are.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpServer::address)
    }

    /// Which driver turns the shards.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// What the shards have counted.
    pub fn publication(&self) -> &Arc<Publication> {
        &self.publication
    }

    /// What there is to see: moments, bursts, connections.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Tells every shard who may speak from now on. Sessions that are open stay. Names and
    /// addresses that changed go into the log.
    pub fn reload(&self, policy: Policy) {
        let rows = self.configured.update(&policy, self.clock.now().wall);
        if !rows.is_empty() {
            self.tell(0, Message::Rows(rows.into_iter().map(Row::Session).collect()));
        }
        let policy = Arc::new(policy);
        for shard in 0..self.shards.len() {
            self.tell(shard, Message::Policy(Arc::clone(&policy)));
        }
    }

    /// Reads the token of the HTTP side again; whether it is another one.
    ///
    /// Errors: there is none that would keep anybody out; then the one of before goes on.
    pub fn reload_token(&self, token_file: Option<&Path>) -> Result<bool, GuardError> {
        self.http.as_ref().map_or(Ok(false), |http| http.reload(token_file))
    }

    fn tell(&self, shard: usize, message: Message) {
        if let Some(address) = self.shards.get(shard) {
            address.post(Post::Told(message));
        }
    }

    /// Ends in order: what was read is digested, committed and acknowledged, connections close.
    pub fn stop(mut self) -> Result<(), StopError> {
        for shard in &self.shards {
            shard.post(Post::Stop);
        }
        let clock = Clock::start();
        let mut running = self.threads.len();
        while running > 0 {
            let left = self.stop_timeout.saturating_sub(clock.elapsed());
            if self.ended.recv_timeout(left).is_err() {
                return Err(self.late(running));
            }
            running -= 1;
        }
        for thread in self.threads.drain(..) {
            // It has said that it ended; a panic would have ended the process.
            let _ = thread.join();
        }
        tracing::info!("stopped");
        Ok(())
    }
}

impl Collector {
    /// Why so many shards are still running after `stop_timeout`.
    fn late(&self, shards: usize) -> StopError {
        let seconds = self.stop_timeout.as_secs();
        if self.publication.total(Metric::LogFailed) > 0 {
            return StopError::NoRoom { shards, seconds, room: Room::at(&self.data) };
        }
        StopError::Late { shards, seconds }
    }
}

/// Everything that the shard threads are made of.
struct Start {
    driver: Driver,
    capacity: Capacity,
    clock: Clock,
    data: PathBuf,
    policy: Arc<Policy>,
    registry: Arc<Registry>,
    memory: Arc<Memory>,
    publication: Arc<Publication>,
    cpus: Vec<usize>,
}

/// The shards that have been started.
type Started = (Vec<Address>, Vec<JoinHandle<()>>);

impl Start {
    /// Starts every shard, on epoll where rings were to be taken if they work and do not all come:
    /// that one ring can be had on trial says nothing of as many as there are shards. Says why.
    fn shards_or_epoll(
        &mut self,
        settings: &Settings,
        sockets: Vec<Socket>,
        ended: &Sender<usize>,
    ) -> Result<(Started, Option<String>), StartError> {
        let may_fall_back = settings.io == IoChoice::Auto && self.driver != Driver::Epoll;
        let spare: io::Result<Vec<Socket>> = match may_fall_back {
            true => sockets.iter().map(Socket::try_clone).collect(),
            false => Ok(Vec::new()),
        };
        let spare = spare.map_err(StartError::resource("descriptors"))?;
        match self.shards(settings, sockets, ended) {
            Err(StartError::Resource { what: DRIVER, source }) if may_fall_back => {
                let reason = choice::reason_of(&source);
                tracing::warn!(reason, "not every shard can have a ring: epoll drives them all");
                self.driver = Driver::Epoll;
                Ok((self.shards(settings, spare, ended)?, Some(reason)))
            }
            started => Ok((started?, None)),
        }
    }

    /// Starts every shard and waits until each can accept.
    fn shards(
        &self,
        settings: &Settings,
        sockets: Vec<Socket>,
        ended: &Sender<usize>,
    ) -> Result<Started, StartError> {
        let count = sockets.len();
        let mut mailboxes = Vec::with_capacity(count);
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let (address, mailbox) = mailbox().map_err(StartError::resource("an eventfd"))?;
            addresses.push(address);
            mailboxes.push(mailbox);
        }
        let places = Places::new(self.capacity, addresses.clone());
        let (ready_sender, ready) = bounded(count);
        let mut threads = Vec::with_capacity(count);
        for (index, (listener, mailbox)) in sockets.into_iter().zip(mailboxes).enumerate() {
            let number = u16::try_from(index).expect("settings bound the number of shards");
            let disk = Disk::start(&self.data, number, addresses[index].clone())
                .map_err(StartError::resource("a disk thread"))?;
            let thread = ShardThread {
                index,
                driver: self.driver,
                clock: self.clock,
                listener,
                links: Links { mailbox, shards: addresses.clone(), disk },
                machine: ShardMachine {
                    shard: Shard::new(
                        ShardSettings::new(settings, index, self.memory.budget()),
                        Arc::clone(&self.registry),
                        Arc::clone(&self.memory),
                        Arc::clone(&self.policy),
                    ),
                    index,
                    published: DriverCounters::default(),
                    publication: Arc::clone(&self.publication),
                    balance_due_us: 0,
                    has_come: true,
                },
                cpu: self.cpus.get(index).copied(),
                places: Arc::clone(&places),
                buffers: buffers_of(self.memory.budget()),
            };
            let (ready, ended) = (ready_sender.clone(), ended.clone());
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || thread.run(&ready, &ended))
                .map_err(StartError::resource("a shard thread"))?;
            threads.push(thread);
        }
        drop(ready_sender);
        let answer = |_| ready.recv().expect("a shard's thread answers or ends the process");
        if let Some(source) = (0..count).map(answer).find_map(Result::err) {
            addresses.iter().for_each(|address| address.post(Post::Stop));
            // Whoever takes the sockets next is to be alone on them.
            for thread in threads {
                let _ = thread.join();
            }
            return Err(StartError::Resource { what: DRIVER, source });
        }
        Ok((addresses, threads))
    }
}

/// One shard's thread, before it runs.
struct ShardThread {
    index: usize,
    driver: Driver,
    clock: Clock,
    listener: Socket,
    links: Links,
    machine: ShardMachine,
    cpu: Option<usize>,
    places: Arc<Places>,
    /// Receive buffers of a ring.
    buffers: u16,
}

/// Either driver, made on the thread that runs it.
enum Turning {
    Uring(Box<UringDriver>),
    Epoll(Box<EpollDriver>),
}

impl ShardThread {
    fn run(mut self, ready: &Sender<io::Result<()>>, ended: &Sender<usize>) {
        let _guard = AbortOnPanic;
        if let Some(cpu) = self.cpu {
            pin_thread(cpu);
        }
        let turning = match self.driver {
            Driver::Uring(offered) => {
                let (buffers, listener, places) = (self.buffers, self.listener, self.places);
                UringDriver::new(offered, buffers, listener, places, self.links, self.clock)
                    .map(|driver| Turning::Uring(Box::new(driver)))
            }
            Driver::Epoll => EpollDriver::new(self.listener, self.places, self.links, self.clock)
                .map(|driver| Turning::Epoll(Box::new(driver))),
        };
        // The start waits for this word; it is gone only when another shard has failed.
        let result = match turning {
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
            Ok(turning) => {
                let _ = ready.send(Ok(()));
                match turning {
                    Turning::Uring(driver) => turn::run(*driver, &mut self.machine),
                    Turning::Epoll(driver) => turn::run(*driver, &mut self.machine),
                }
            }
        };
        if let Err(error) = result {
            // Whatever it was, this shard's routers are no longer served: the operator's
            // supervisor starts a collector that recovers, and senders send again.
            tracing::error!(shard = self.index, %error, "the shard cannot go on: the process ends");
            std::process::exit(EXIT_FAILED);
        }
        let _ = ended.send(self.index);
    }
}

/// The books are balanced once a second, unless nothing has come since: it costs a look at every
/// connection.
const BALANCE_INTERVAL_US: u64 = 1_000_000;

/// The shard, and where its counters go.
struct ShardMachine {
    shard: Shard,
    index: usize,
    published: DriverCounters,
    publication: Arc<Publication>,
    /// Monotonic time of the next balance of the books, and whether anything can have changed it.
    balance_due_us: u64,
    has_come: bool,
}

impl Machine for ShardMachine {
    fn handle(&mut self, now: Now, completion: Completion<'_>) {
        self.shard.handle(now, completion);
    }

    fn poll_op(&mut self) -> Option<Op> {
        self.shard.poll_op()
    }

    fn digest(&mut self, now: Now) -> bool {
        self.shard.digest(now)
    }

    fn poll_timeout(&self) -> Option<u64> {
        self.shard.poll_timeout()
    }

    fn stop(&mut self, now: Now) {
        self.shard.stop(now);
    }

    fn stopped(&self) -> bool {
        self.shard.stopped()
    }

    fn failure(&self) -> Option<io::Error> {
        self.shard.failure().map(io::Error::from_raw_os_error)
    }

    fn publish(&mut self, now: Now, driver: &DriverCounters) {
        let before = std::mem::replace(&mut self.published, *driver);
        let is_due = self.balance_due_us <= now.monotonic_us && self.has_come;
        let imbalance = is_due.then(|| {
            self.balance_due_us = now.monotonic_us + BALANCE_INTERVAL_US;
            self.has_come = false;
            let Balance { bytes, mappings, rows } = self.shard.ledger_balance();
            u64::try_from(bytes + mappings + rows).unwrap_or(u64::MAX)
        });
        let unread_us = self.shard.unread_us(now);
        let counters = self.shard.counters();
        counters.set(Metric::ReceivePauseNowMs, unread_us / 1_000);
        if let Some(imbalance) = imbalance {
            counters.set(Metric::LedgerImbalance, imbalance);
        }
        counters.add(Metric::Turns, driver.turns - before.turns);
        let exhausted = driver.buffers_exhausted - before.buffers_exhausted;
        counters.add(Metric::BuffersExhausted, exhausted);
        counters.add(Metric::ReceiveRounds, driver.receive_rounds - before.receive_rounds);
        counters.set(Metric::AcceptLimited, u64::from(driver.accept_limited));
        counters.add(Metric::SendsAbandoned, driver.sends_abandoned - before.sends_abandoned);
        if self.publication.publish(self.index, counters, now.wall) {
            self.has_come = true;
            self.publication.alarm().came(now.monotonic_us);
        }
    }
}

/// Has the memory of a small budget taken page by page, in this process.
fn take_small_pages(budget: &Budget) {
    if !budget.has_room_for_huge_pages()
        && let Err(error) = rustix::thread::disable_transparent_huge_pages(true)
    {
        tracing::warn!(
            %error,
            fix = "echo never > /sys/kernel/mm/transparent_hugepage/enabled",
            "memory is taken in huge pages: the process may take more than memory_bytes"
        );
    }
}

/// The budget, with what recovery has spent of it, and a line that says how it is divided.
fn share_memory(budget: Budget, registry: &Registry) -> Arc<Memory> {
    let memory = Memory::new(budget);
    memory.park(registry.parked_bytes());
    let Budget {
        total_bytes,
        table_bytes_max,
        connections_max,
        inflated_bytes_max,
        question_bytes,
        ..
    } = budget;
    let (table_bytes, surge_bytes_max) = (memory.table_bytes(), memory.surge_bytes_max());
    tracing::info!(
        memory_bytes = total_bytes,
        table_bytes_max,
        table_bytes,
        surge_bytes_max,
        connections_max,
        inflated_bytes_max,
        question_bytes,
        "memory divided"
    );
    if memory.table_room() < 0 {
        tracing::warn!(
            table_bytes,
            table_bytes_max,
            fix = "raise --memory",
            "the tables of the log take more than their reserve: new keys will be refused"
        );
    }
    Arc::new(memory)
}

/// How many receive buffers a ring gets of the budget.
fn buffers_of(budget: &Budget) -> u16 {
    let count = budget.buffers_bytes / uring::BUFFER_BYTES as u64;
    u16::try_from(count).unwrap_or(u16::MAX).clamp(1, uring::BUFFERS)
}

fn dead_peer(settings: &Settings) -> DeadPeer {
    DeadPeer {
        keepalive_idle: Duration::from_secs(settings.keepalive_idle_s),
        keepalive_interval: Duration::from_secs(settings.keepalive_interval_s),
        keepalive_probes: u32::try_from(settings.keepalive_probes).unwrap_or(u32::MAX),
        user_timeout: Duration::from_secs(settings.user_timeout_s),
    }
}

/// How many connections there is room for; says so, because it depends on the host.
fn capacity_of(settings: &Settings, driver: Driver, descriptors: u64, shards: usize) -> Capacity {
    let direct = matches!(driver, Driver::Uring(Offered { direct: true, .. }));
    let capacity = Capacity::new(settings.connections_max, descriptors, shards, direct);
    let Capacity { connections, direct, .. } = capacity;
    tracing::info!(connections, descriptors, direct_per_shard = direct, "room for connections");
    capacity
}

/// The CPU of each shard; empty = the scheduler decides. A lone shard gains nothing from a pin,
/// and shards that share a CPU would lose by one.
fn cpus_to_pin(shards: usize) -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if shards > 1 && shards <= cpus.len() { cpus } else { Vec::new() }
}

fn pin_thread(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    if let Err(error) = sched_setaffinity(None, &only) {
        tracing::warn!(cpu, %error, "the shard's thread is not pinned");
    }
}
