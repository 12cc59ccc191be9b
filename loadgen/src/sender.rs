//! The fleet: many routers' sessions on a few threads, each thread one tokio-uring runtime.
//!
//! In:   one `SessionPlan` per router; batches of frames with intended times.
//! Out:  `Progress` while it runs, `Latencies` when asked.
//! Law:  open loop: a frame's latency counts from its intended time, however late it was sent.
//! Not:  what one session does (`sender/session`), or what the frames say (`workload`).

pub mod connect;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use storage::mapping::RouterId;
use storage::time::Micros;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock::Clock;
use crate::faults::{Fault, Strike};
use crate::workload::Frame;
use crate::world::World;

/// Submission entries of one ring: half a connection's writes and reads may be queued at once.
const RING_ENTRIES: u32 = 4_096;
/// Completions that one ring holds: each connection has at most a read and a write under way.
const COMPLETION_ENTRIES: u32 = 65_536;
/// Longest latency that is told apart: ten minutes. Longer ones count as this.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Between two looks at how late a sender thread comes round.
const TURN_EVERY: Duration = Duration::from_millis(10);
/// Connections of every router that speaks: so many that are closed again are no accident.
const CONNECTIONS_IN_VAIN: u64 = 5;
/// Digits of the histogram: 0.1 %.
const LATENCY_DIGITS: u8 = 3;

/// Why the fleet cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No thread could be started.
    #[error("sender thread: {0}")]
    Thread(std::io::Error),
    /// No ring could be set up.
    #[error(
        "io_uring of a sender: {0}; stormgen needs it: sysctl -w kernel.io_uring_disabled=0, \
         and a container profile that allows io_uring_setup"
    )]
    Ring(std::io::Error),
    /// A thread ended before its time.
    #[error("a sender thread has ended before its time")]
    Gone,
}

/// One router's session.
#[derive(Clone, Debug)]
pub struct SessionPlan {
    /// Index of the router in the world.
    pub router_index: usize,
    /// Its id.
    pub router: RouterId,
    /// Where it connects from; `None` = whatever the host chooses.
    pub source: Option<IpAddr>,
    /// What goes wrong with it.
    pub strike: Option<Strike>,
    /// When it connects.
    pub connect_at: Micros,
    /// Its first snapshot.
    pub frames: Vec<Frame>,
}

/// What every session of the fleet shares.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    world: Arc<World>,
    clock: Clock,
    progress: Arc<Progress>,
}

/// Counters of the fleet: sums over all threads, moving while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Acts that have begun, the cold start apart; steps of one name follow one another.
    pub acts: AtomicU64,
    /// Sessions whose hello has been sent, now.
    pub connected: AtomicU64,
    /// Connections that were opened after a first one had ended.
    pub reconnects: AtomicU64,
    /// Sessions that were broken on purpose, each time counted.
    pub cuts: AtomicU64,
    /// Sessions that were broken on purpose and do not come back.
    pub gone: AtomicU64,
    /// Connection attempts that failed.
    pub connect_failures: AtomicU64,
    /// Frames that were planned (hello and bye apart).
    pub frames_planned: AtomicU64,
    /// Frames that were written to a socket, each sending counted.
    pub frames_sent: AtomicU64,
    /// Frames that the collector says are durable.
    pub frames_acked: AtomicU64,
    /// Mappings in them.
    pub mappings_acked: AtomicU64,
    /// Frames that a new snapshot has replaced before they were sent.
    pub frames_replaced: AtomicU64,
    /// Bytes written, headers included.
    pub bytes_sent: AtomicU64,
    /// Bytes of the documents in them, before compression.
    pub document_bytes_sent: AtomicU64,
    /// Bytes from the collector that are no ack.
    pub ack_faults: AtomicU64,
    /// Routers that have begun to speak at all.
    pub routers_spoke: AtomicU64,
    /// Sessions that were struck by a fault, by its place in `Fault::ALL`.
    pub strikes: [AtomicU64; Fault::ALL.len()],
    /// Pieces that slow routers have written, each with a pause behind it.
    pub slow_writes: AtomicU64,
    /// Strangers that the collector has sent away.
    pub strangers: AtomicU64,
    outages: Mutex<Vec<Outage>>,
    /// Why the latest attempt to connect failed.
    connect_failure: Mutex<Option<String>>,
}

/// A connection that broke, however: what the collector cannot know of its router, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Index of the router in the world.
    pub router_index: usize,
    /// The collector has certainly read what was sent up to here.
    pub proved: Micros,
    /// The collector had noticed a break on purpose by then: it had closed its side. Until it
    /// notices it may vouch for the router, however late that is; `None` = nobody knows.
    pub noticed: Option<Micros>,
    /// When the next snapshot was durable in full; `None` = none has been yet.
    pub whole: Option<Micros>,
}

/// Why nobody has taken anything of what was to be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// No connection was opened.
    #[error(
        "expected a collector that listens there, found none ({told}; attempts to \
         connect: {attempts}): start one (`stormdrain run --listen ADDR`), or give its address"
    )]
    Unreached {
        /// How many were tried.
        attempts: u64,
        /// What the system said to the latest.
        told: String,
    },
    /// Somebody answers, and not with acknowledgements.
    #[error(
        "expected acknowledgements of a collector, found something else: another program listens \
         there, or it is the port of the collector's pages"
    )]
    Misunderstood,
    /// Every connection is closed again.
    #[error(
        "expected acknowledgements, found {connections} connections closed without one: if a \
         collector listens there, its log says why it sends these sources and routers away (`allow`, `[[router]]`)"
    )]
    SentAway {
        /// How many were opened.
        connections: u64,
    },
}

impl Progress {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// What is looked at from now on belongs to the next act.
    pub fn begin_act(&self) {
        Progress::add(&self.acts, 1);
    }

    /// A counter's value now.
    pub fn value(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// How many sessions a fault has struck.
    pub fn struck(&self, fault: Fault) -> u64 {
        Self::value(&self.strikes[fault as usize])
    }

    /// Every outage so far.
    pub fn outages(&self) -> MutexGuard<'_, Vec<Outage>> {
        // A list of values is whole whoever panicked.
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt to connect has failed.
    fn note_connect_failure(&self, failure: &std::io::Error) {
        Progress::add(&self.connect_failures, 1);
        let mut latest = self.connect_failure.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = Some(failure.to_string());
    }

    /// Why nothing is to be hoped for, where that can be said: nobody has taken anything yet.
    /// `None` while it may only be slow.
    pub fn unheard(&self) -> Option<Unheard> {
        let value = Progress::value;
        let [failures, connections] =
            [&self.connect_failures, &self.reconnects].map(Progress::value);
        let spoke = value(&self.routers_spoke);
        if value(&self.frames_acked) > 0 {
            None
        } else if spoke == 0 && failures > 0 {
            let failure = self.connect_failure.lock().unwrap_or_else(PoisonError::into_inner);
            let told = failure.clone().unwrap_or_default();
            Some(Unheard::Unreached { attempts: failures, told })
        } else if value(&self.ack_faults) > 0 {
            Some(Unheard::Misunderstood)
        } else if spoke > 0 && connections >= CONNECTIONS_IN_VAIN * spoke {
            Some(Unheard::SentAway { connections: connections + spoke })
        } else {
            None
        }
    }

    /// Whether every planned frame is durable or replaced.
    pub fn all_acked(&self) -> bool {
        let done = Self::value(&self.frames_acked) + Self::value(&self.frames_replaced);
        done >= Self::value(&self.frames_planned)
    }
}

/// How late frames were, one value per mapping, in microseconds; `turn` has one per look.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From the intended time until the kernel had taken the frame: lateness of the generator, and
    /// the closed TCP window.
    pub written: Histogram<u64>,
    /// From the intended time until the collector said that it is durable.
    pub durable: Histogram<u64>,
    /// From the moment at which the session gave the frame to its ring until it was durable: what
    /// a generator would report that waits for itself. It leaves out whatever came before.
    pub service: Histogram<u64>,
    /// What the generator alone was late by: from the intended time, or from when the session was
    /// free to send (connected, its previous write taken), until it gave the frame to its ring.
    pub late: Histogram<u64>,
    /// How late a sender thread came round to something that was due every `TURN_EVERY`, its ring
    /// included: what waits between a frame given to the ring and the kernel shows here.
    pub turn: Histogram<u64>,
}

impl Default for Latencies {
    /// Empty; fixed bounds, so that recording never allocates and never fails.
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS)
                .expect("1 to LATENCY_US_MAX with LATENCY_DIGITS digits is a valid range")
        };
        Latencies {
            written: histogram(),
            durable: histogram(),
            service: histogram(),
            late: histogram(),
            turn: histogram(),
        }
    }
}

impl Latencies {
    /// Adds those of other sessions.
    pub fn add(&mut self, other: &Latencies) {
        const REASON: &str = "every histogram has the same bounds";
        self.written.add(&other.written).expect(REASON);
        self.durable.add(&other.durable).expect(REASON);
        self.service.add(&other.service).expect(REASON);
        self.late.add(&other.late).expect(REASON);
        self.turn.add(&other.turn).expect(REASON);
    }
}

/// A session that breaks on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// When it breaks, without a bye.
    pub at: Micros,
    /// When its router connects again; `None` = not any more.
    pub back: Option<Micros>,
}

enum Command {
    /// Frames for sessions of this thread, by their place in it.
    Frames(Vec<(usize, Vec<Frame>)>),
    /// Break sessions of this thread, by their place in it, and let them come back.
    Cut(Vec<(usize, Absence)>),
    /// Say on every session that its router is alive.
    SignOfLife,
    /// Hand over the latencies so far and begin anew.
    Latencies(std::sync::mpsc::Sender<Latencies>),
    /// Send what is left, wait for its acks, say bye, close, end.
    Finish,
}

/// The sender threads.
pub struct Fleet {
    threads: Vec<SenderThread>,
    progress: Arc<Progress>,
    /// For each session its thread and its place there.
    places: Vec<(usize, usize)>,
    /// Breaks that were ordered so far.
    cuts_ordered: std::cell::Cell<u64>,
}

struct SenderThread {
    commands: UnboundedSender<Command>,
    handle: JoinHandle<Result<(), SendError>>,
}

impl Fleet {
    /// Starts `threads` threads; sessions are dealt out in turn. Each connects when its plan says.
    pub fn start(
        target: SocketAddr,
        threads: usize,
        world: &Arc<World>,
        clock: Clock,
        plans: Vec<SessionPlan>,
    ) -> Result<Fleet, SendError> {
        let threads = threads.max(1);
        let progress = Arc::new(Progress::default());
        let mut places = Vec::with_capacity(plans.len());
        let mut dealt: Vec<Vec<SessionPlan>> = (0..threads).map(|_| Vec::new()).collect();
        for (index, plan) in plans.into_iter().enumerate() {
            Progress::add(&progress.frames_planned, plan.frames.len() as u64);
            let hand = &mut dealt[index % threads];
            places.push((index % threads, hand.len()));
            hand.push(plan);
        }
        let start = |(index, plans): (usize, Vec<SessionPlan>)| {
            let (world, progress) = (Arc::clone(world), Arc::clone(&progress));
            let shared = Shared { target, world, clock, progress };
            SenderThread::start(index, shared, plans)
        };
        let threads = dealt.into_iter().enumerate().map(start).collect::<Result<_, _>>()?;
        let cuts_ordered = std::cell::Cell::default();
        Ok(Fleet { threads, progress, places, cuts_ordered })
    }

    /// No thread and no session: those are in other processes.
    pub fn empty() -> Fleet {
        let (threads, places) = (Vec::new(), Vec::new());
        Fleet { threads, progress: Arc::default(), places, cuts_ordered: Default::default() }
    }

    /// The counters.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.places.len()
    }

    /// Adds frames to sessions, by their index in the plans; each goes out at its intended time.
    pub fn send(&self, frames: Vec<Vec<Frame>>) -> Result<(), SendError> {
        let mut dealt: Vec<Vec<(usize, Vec<Frame>)>> = Vec::new();
        dealt.resize_with(self.threads.len(), Vec::new);
        for (frames, (thread, place)) in frames.into_iter().zip(&self.places) {
            if !frames.is_empty() {
                Progress::add(&self.progress.frames_planned, frames.len() as u64);
                dealt[*thread].push((*place, frames));
            }
        }
        let commands = dealt.into_iter().map(Command::Frames);
        self.threads.iter().zip(commands).try_for_each(|(thread, command)| thread.tell(command))
    }

    /// Breaks sessions, by their index in the plans, each at its time.
    pub fn cut(&self, absences: &[(usize, Absence)]) -> Result<(), SendError> {
        self.cuts_ordered.set(self.cuts_ordered.get() + absences.len() as u64);
        let mut dealt = vec![Vec::new(); self.threads.len()];
        for (index, absence) in absences {
            let (thread, place) = self.places[*index];
            dealt[thread].push((place, *absence));
        }
        let commands = dealt.into_iter().map(Command::Cut);
        self.threads.iter().zip(commands).try_for_each(|(thread, command)| thread.tell(command))
    }

    /// Says on every session that its router is alive and unchanged, in a frame that is
    /// acknowledged: a keepalive would be no evidence before it is read, and nobody says when.
    pub fn sign_of_life(&self) -> Result<(), SendError> {
        Progress::add(&self.progress.frames_planned, self.sessions() as u64);
        self.threads.iter().try_for_each(|thread| thread.tell(Command::SignOfLife))
    }

    /// Latencies since the last call, of all threads together.
    pub fn take_latencies(&self) -> Result<Latencies, SendError> {
        let mut all = Latencies::default();
        for thread in &self.threads {
            let (sender, receiver) = std::sync::mpsc::channel();
            thread.tell(Command::Latencies(sender))?;
            all.add(&receiver.recv().map_err(|_| SendError::Gone)?);
        }
        Ok(all)
    }

    /// Whether everything planned is durable, every session that was to break has, and each that
    /// comes back is there. A session that was broken plans its snapshot when it has connected
    /// again: nothing is over while one is away.
    pub fn is_whole(&self) -> bool {
        let Progress { connected, gone, cuts, .. } = &*self.progress;
        let there = Progress::value(connected) + Progress::value(gone);
        self.progress.all_acked()
            && there == self.sessions() as u64
            && Progress::value(cuts) == self.cuts_ordered.get()
    }

    /// Whether every thread still runs.
    pub fn is_alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.handle.is_finished())
    }

    /// Ends every session in order and waits for the threads.
    pub fn finish(self) -> Result<(), SendError> {
        for thread in &self.threads {
            // A thread that is gone says why when it is joined.
            let _ = thread.tell(Command::Finish);
        }
        for thread in self.threads {
            thread.handle.join().map_err(|_| SendError::Gone)??;
        }
        Ok(())
    }
}

impl SenderThread {
    fn start(
        index: usize,
        shared: Shared,
        plans: Vec<SessionPlan>,
    ) -> Result<SenderThread, SendError> {
        let (commands, receiver) = unbounded_channel();
        let handle = std::thread::Builder::new()
            .name(format!("sender-{index}"))
            .spawn(move || run(shared, plans, receiver))
            .map_err(SendError::Thread)?;
        Ok(SenderThread { commands, handle })
    }

    fn tell(&self, command: Command) -> Result<(), SendError> {
        self.commands.send(command).map_err(|_| SendError::Gone)
    }
}

fn run(
    shared: Shared,
    plans: Vec<SessionPlan>,
    commands: UnboundedReceiver<Command>,
) -> Result<(), SendError> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(COMPLETION_ENTRIES);
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES).uring_builder(&ring);
    let runtime = tokio_uring::Runtime::new(&builder).map_err(SendError::Ring)?;
    runtime.block_on(serve(shared, plans, commands));
    Ok(())
}

async fn serve(shared: Shared, plans: Vec<SessionPlan>, mut commands: UnboundedReceiver<Command>) {
    let thread = Rc::new(session::ThreadState::new(shared));
    let mut sessions = Vec::with_capacity(plans.len());
    let mut tasks = Vec::with_capacity(plans.len());
    for plan in plans {
        let session = Rc::new(session::Session::new(plan));
        sessions.push(Rc::clone(&session));
        tasks.push(tokio_uring::spawn(session::talk::run(session, Rc::clone(&thread))));
    }
    let turns = tokio_uring::spawn(session::talk::watch_turns(Rc::clone(&thread)));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Frames(batches) => {
                for (place, frames) in batches {
                    sessions[place].add(frames, &thread);
                }
            }
            Command::Cut(absences) => {
                for (place, absence) in absences {
                    sessions[place].cut(absence);
                }
            }
            Command::SignOfLife => {
                sessions.iter().for_each(|session| session.sign_of_life(&thread));
            }
            Command::Latencies(reply) => {
                // Nobody waits any more: then nobody wants them.
                let _ = reply.send(thread.take_latencies());
            }
            Command::Finish => break,
        }
    }
    sessions.iter().for_each(|session| session.finish());
    for task in tasks {
        // A session that panicked has shown its message; the others end in order all the same.
        let _ = task.await;
    }
    turns.abort();
}

#[cfg(test)]
mod tests;
