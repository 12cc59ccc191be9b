//! One router's session: connect, hello, frames at their times, acks, and again when it breaks.
//!
//! In:   a plan, later more frames; acks from the collector.
//! Out:  bytes on the socket; latencies and progress of its thread.
//! Law:  what is not acknowledged is kept, sent again first, and followed by a new snapshot.
//! Not:  encoding (`workload`), sockets (`talk`), threads and commands (`sender`).

mod strike;
pub(super) mod talk;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use engine::wire::Hello;
use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType};
use engine::wire::hello::write_hello;
use storage::time::Micros;
use tokio::sync::{Notify, Semaphore};
use tokio_uring::net::TcpStream;

use super::{Absence, Latencies, Outage, Progress, SessionPlan, Shared};
use crate::faults::{Fault, Moment};
use crate::workload::{Encoder, Frame, FrameRole};

/// Name and version in hello.
const AGENT: &str = concat!("stormgen/", env!("CARGO_PKG_VERSION"));
/// Attempts to connect that one thread has under way at once: each holds a helper thread.
const CONNECTS_AT_ONCE: usize = 16;
/// What the sessions of one thread share.
pub(super) struct ThreadState {
    shared: Shared,
    latencies: RefCell<Latencies>,
    encoder: RefCell<Encoder>,
    connects: Arc<Semaphore>,
    /// Frames written by this thread.
    frames_sent: Cell<u64>,
    /// Connections that were left as they are: open to the end.
    silent: RefCell<Vec<Rc<TcpStream>>>,
}

impl ThreadState {
    pub(super) fn new(shared: Shared) -> ThreadState {
        let connects = Arc::new(Semaphore::new(CONNECTS_AT_ONCE));
        ThreadState {
            shared,
            latencies: RefCell::default(),
            encoder: RefCell::default(),
            connects,
            frames_sent: Cell::default(),
            silent: RefCell::default(),
        }
    }

    pub(super) fn take_latencies(&self) -> Latencies {
        self.latencies.take()
    }

    fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// Tells of an outage; returns its place.
    fn outage(&self, outage: Outage) -> usize {
        let mut outages = self.progress().outages();
        outages.push(outage);
        outages.len() - 1
    }

    /// An outage is over.
    fn whole(&self, place: Option<usize>, now: Micros) {
        if let Some(place) = place {
            self.progress().outages()[place].whole = Some(now);
        }
    }

    fn count(&self, sent: &Sent, bytes_count: u64) {
        self.frames_sent.set(self.frames_sent.get() + 1);
        Progress::add(&self.progress().frames_sent, 1);
        Progress::add(&self.progress().bytes_sent, bytes_count);
        Progress::add(&self.progress().document_bytes_sent, sent.document_bytes);
        let written_us = late_us(self.shared.clock.now(), sent.intended);
        let mut latencies = self.latencies.borrow_mut();
        latencies.written.saturating_record_n(written_us, sent.mappings);
        latencies.late.saturating_record_n(sent.late_us, sent.mappings);
    }
}

/// A session over all its connections.
pub(super) struct Session {
    plan: SessionPlan,
    state: RefCell<State>,
    /// Rung when there is something to do: frames, the end, a broken connection.
    bell: Notify,
}

struct State {
    /// Frames that were never sent, in order.
    waiting: VecDeque<Frame>,
    /// Frames that have a sequence and no ack, in order, and when each was first given to the ring.
    unacked: VecDeque<(Frame, Micros)>,
    /// When the session could send what is due: it is connected, and its last write is taken.
    free: Micros,
    /// What the generator was late by with the first connection.
    late_connect_us: i64,
    /// Place in `unacked` of the first frame that this connection has not sent yet.
    resend: usize,
    sequence_next: u64,
    /// The router has said everything up to here.
    told_until: Micros,
    connections: u64,
    /// The end of a snapshot has been acknowledged.
    snapshot_acked: bool,
    finishing: bool,
    broken: bool,
    /// Breaks that are to come, in order.
    cuts: VecDeque<Absence>,
    /// The break that was just made.
    away: Option<Absence>,
    /// It was made for good.
    gone: bool,
    /// The plan's fault is to strike in the middle of changes that are still to come.
    strikes_changes: bool,
    /// Frames that are still sent before the plan's fault strikes.
    strike_after: Option<usize>,
    /// It has just struck, and is not counted yet.
    uncounted: bool,
    /// It was a bomb: nothing follows it over this connection.
    struck: bool,
    /// The connection is left as it is, silent.
    silent: bool,
    /// The collector had read everything that was sent before: the frame that was given to the
    /// ring then has been acknowledged.
    proved: Micros,
    /// The collector had closed its side of the connection by then.
    noticed: Option<Micros>,
    /// Place of the outage that no complete snapshot has ended yet, in the fleet's list.
    outage: Option<usize>,
}

/// What the writer does next.
enum Next {
    Counted {
        bytes: Vec<u8>,
        sent: Sent,
    },
    At(Micros),
    Idle,
    /// Part of a frame, and then nothing.
    Torn(Vec<u8>),
    Drained,
    Broken,
}

/// What is counted of a frame once it is written.
struct Sent {
    sequence: u64,
    intended: Micros,
    /// What the generator was late by, microseconds.
    late_us: u64,
    mappings: u64,
    document_bytes: u64,
}

impl State {
    /// The plan's fault, now: the next frame is due, and is not sent over this connection.
    /// `None` = a bomb goes in its place.
    fn strike(&mut self, fault: Fault, now: Micros) -> Option<Next> {
        self.strike_after = None;
        self.uncounted = true;
        self.silent = fault == Fault::HalfOpen;
        match (fault, self.waiting.front()) {
            (Fault::Torn, Some(frame)) => {
                let mut frame = frame.clone();
                frame.number(self.sequence_next);
                frame.bytes.truncate(frame.bytes.len() / 2);
                Some(Next::Torn(frame.bytes))
            }
            (Fault::Bomb, _) => {
                // A frame like every other: counted, and kept until it is acknowledged.
                self.waiting.push_front(strike::bomb(now));
                self.struck = true;
                None
            }
            _ => Some(Next::Broken),
        }
    }

    /// Arms the fault that strikes in the middle of these changes, behind whatever waits.
    fn arm(&mut self, frames: &[Frame]) {
        let changes = frames.iter().filter(|frame| frame.mappings > 0).count();
        if changes > 0 && std::mem::take(&mut self.strikes_changes) {
            self.strike_after = Some(self.waiting.len() + changes / 2);
        }
    }
}

impl Session {
    pub(super) fn new(mut plan: SessionPlan) -> Session {
        let waiting: VecDeque<Frame> = std::mem::take(&mut plan.frames).into();
        let strike = plan.strike.filter(|strike| strike.fault.has_moment());
        let at = strike.map(|strike| strike.at);
        let strike_after = (at == Some(Moment::Snapshot)).then_some(waiting.len() / 2);
        let state = State {
            waiting,
            unacked: VecDeque::new(),
            free: Micros::MIN,
            late_connect_us: 0,
            resend: 0,
            sequence_next: 1,
            told_until: Micros::MIN,
            connections: 0,
            snapshot_acked: false,
            finishing: false,
            broken: false,
            cuts: VecDeque::new(),
            away: None,
            gone: false,
            strikes_changes: at == Some(Moment::Changes),
            strike_after,
            uncounted: false,
            struck: false,
            silent: false,
            proved: Micros::MIN,
            noticed: None,
            outage: None,
        };
        Session { plan, state: RefCell::new(state), bell: Notify::new() }
    }

    pub(super) fn add(&self, frames: Vec<Frame>, thread: &ThreadState) {
        let mut state = self.state.borrow_mut();
        if state.gone {
            // Nobody is left to say it.
            Progress::add(&thread.progress().frames_replaced, frames.len() as u64);
            return;
        }
        state.arm(&frames);
        state.waiting.extend(frames);
        self.bell.notify_one();
    }

    pub(super) fn cut(&self, absence: Absence) {
        self.state.borrow_mut().cuts.push_back(absence);
        self.bell.notify_one();
    }

    /// Nothing has changed: behind everything that was planned before.
    pub(super) fn sign_of_life(&self, thread: &ThreadState) {
        let (none, now) = (&[], thread.shared.clock.now());
        let mut encoder = thread.encoder.borrow_mut();
        self.add(vec![encoder.mappings(None, FrameRole::Change, none, now, Micros::MIN)], thread);
    }

    pub(super) fn finish(&self) {
        self.state.borrow_mut().finishing = true;
        self.bell.notify_one();
    }

    fn is_finished(&self) -> bool {
        let state = self.state.borrow();
        state.finishing && state.waiting.is_empty() && state.unacked.is_empty()
    }

    /// Prepares the state for a new connection and returns its hello.
    fn open(&self, thread: &ThreadState) -> Vec<u8> {
        let now = thread.shared.clock.now();
        let mut state = self.state.borrow_mut();
        if state.connections == 0 {
            Progress::add(&thread.progress().routers_spoke, 1);
        } else {
            Progress::add(&thread.progress().reconnects, 1);
            self.replace_snapshot(&mut state, thread, now);
        }
        state.connections += 1;
        state.broken = false;
        state.noticed = None;
        state.struck = false;
        state.resend = 0;
        let fresh = state.sequence_next;
        let first = state.unacked.front().map_or(fresh, |(frame, _)| frame.sequence);
        let world = &thread.shared.world;
        let hello = Hello {
            router: self.plan.router,
            boot_time: world.said(self.plan.router_index, world.start),
            sequence_first: first,
            sequence_fresh: fresh,
            permanent: true,
            acks: true,
            snapshot: true,
            clock: world.said(self.plan.router_index, now),
            interfaces: world.network.topology.interfaces(self.plan.router_index),
            agent: AGENT.into(),
        };
        let mut document = String::new();
        write_hello(&hello, &mut document);
        let mut bytes = Vec::new();
        let payload = document.as_bytes();
        let flags = FrameFlags::NONE;
        FrameEncoder::new(1).frame(FrameType::Hello, Codec::None, flags, 0, payload, &mut bytes);
        bytes
    }

    /// What is left of an older snapshot makes room for one of the table as told so far. Once a
    /// snapshot is durable, later ones carry the time of the connection, as the draft wants it
    /// (section 3.1), and change nothing; before that, the times since when the entries hold.
    fn replace_snapshot(&self, state: &mut State, thread: &ThreadState, now: Micros) {
        let (dropped, kept): (Vec<Frame>, Vec<Frame>) =
            state.waiting.drain(..).partition(|frame| frame.role == FrameRole::Snapshot);
        Progress::add(&thread.progress().frames_replaced, dropped.len() as u64);
        let until = state.told_until.max(thread.shared.world.start);
        let world = &thread.shared.world;
        let mut table = world.key().held(self.plan.router_index, until);
        if state.snapshot_acked {
            let now = world.said(self.plan.router_index, now);
            table.iter_mut().for_each(|entry| entry.event_time = now);
        }
        let mut encoder = thread.encoder.borrow_mut();
        let snapshot = encoder.snapshot(self.plan.router, &table, now, until);
        Progress::add(&thread.progress().frames_planned, snapshot.len() as u64);
        state.waiting.extend(snapshot);
        state.waiting.extend(kept);
    }

    fn next(&self, now: Micros) -> Next {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.broken {
            return Next::Broken;
        }
        if state.struck {
            // A bomb is to be read and refused before the connection breaks.
            return if state.unacked.is_empty() { Next::Broken } else { Next::Idle };
        }
        let cut = state.cuts.front().map(|cut| cut.at);
        if cut.is_some_and(|at| at <= now) {
            state.away = state.cuts.pop_front();
            return Next::Broken;
        }
        if state.resend == state.unacked.len() {
            match state.waiting.front() {
                Some(frame) if frame.intended > now => {
                    return Next::At(cut.map_or(frame.intended, |cut| cut.min(frame.intended)));
                }
                Some(_) => {}
                None if state.finishing && state.unacked.is_empty() => return Next::Drained,
                None => return cut.map_or(Next::Idle, Next::At),
            }
            if let (Some(0), Some(strike)) = (state.strike_after, self.plan.strike)
                && let Some(struck) = state.strike(strike.fault, now)
            {
                return struck;
            }
            if let Some(mut frame) = state.waiting.pop_front() {
                state.strike_after = state.strike_after.map(|frames| frames.saturating_sub(1));
                frame.number(state.sequence_next);
                state.sequence_next += 1;
                state.told_until = state.told_until.max(frame.until);
                state.unacked.push_back((frame, now));
            }
        }
        let Some((frame, _)) = state.unacked.get_mut(state.resend) else { return Next::Idle };
        state.resend += 1;
        let Frame { sequence, intended, mappings, document_bytes, .. } = *frame;
        // What was due before the connection could not leave earlier; what the generator was late
        // by in connecting stays its own.
        let late_connect_us = if intended <= state.free { state.late_connect_us } else { 0 };
        let late_us = late_us(now, intended.max(state.free).offset(-late_connect_us));
        let sent = Sent { sequence, intended, late_us, mappings, document_bytes };
        Next::Counted { bytes: std::mem::take(&mut frame.bytes), sent }
    }

    /// Puts the bytes of a frame back, to be kept until its ack; it may have come already.
    fn keep(&self, sequence: u64, bytes: Vec<u8>) {
        let mut state = self.state.borrow_mut();
        let kept = state.unacked.iter_mut().find(|(frame, _)| frame.sequence == sequence);
        if let Some((frame, _)) = kept {
            frame.bytes = bytes;
        }
    }

    /// The connection is over: what was read of it is certain only up to the last ack.
    fn broke(&self, thread: &ThreadState) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(strike) = self.plan.strike.filter(|_| std::mem::take(&mut state.uncounted)) {
            Progress::add(&thread.progress().strikes[strike.fault as usize], 1);
        }
        if state.finishing || state.outage.is_some() {
            return;
        }
        let (router_index, proved) = (self.plan.router_index, state.proved);
        let outage = Outage { router_index, proved, noticed: state.noticed.take(), whole: None };
        state.outage = Some(thread.outage(outage));
    }

    /// The absence that has begun, if the session was broken for one: by now it may be due, though
    /// the connection broke before it.
    fn away(&self, now: Micros) -> Option<Absence> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.away.take().or_else(|| state.cuts.pop_front_if(|cut| cut.at <= now))
    }

    /// Its router does not come back: what it had to say is never said.
    fn is_gone(&self, thread: &ThreadState) {
        let mut state = self.state.borrow_mut();
        state.gone = true;
        let never = state.waiting.len() + state.unacked.len();
        state.waiting.clear();
        state.unacked.clear();
        Progress::add(&thread.progress().frames_replaced, never as u64);
    }

    /// Nothing keeps the session from sending what is due from now on.
    fn is_free(&self, now: Micros) {
        self.state.borrow_mut().free = now;
    }

    /// How late an attempt to connect began; only the first was due at a planned time.
    fn begins_to_connect(&self, now: Micros) {
        let mut state = self.state.borrow_mut();
        state.late_connect_us = match state.connections {
            0 => now.since(self.plan.connect_at).max(0),
            _ => 0,
        };
    }

    /// What comes over an earlier connection counts until the hello of the next one has said from
    /// where on frames are sent again: behind that it is too late to leave them out.
    fn acked(&self, connection: u64, sequence: u64, now: Micros, thread: &ThreadState) {
        let mut state = self.state.borrow_mut();
        if state.connections != connection {
            return;
        }
        let mut latencies = thread.latencies.borrow_mut();
        while let Some((frame, begun)) =
            state.unacked.pop_front_if(|(frame, _)| frame.sequence <= sequence)
        {
            state.resend = state.resend.saturating_sub(1);
            let latency_us = late_us(now, frame.intended);
            latencies.durable.saturating_record_n(latency_us, frame.mappings);
            latencies.service.saturating_record_n(late_us(now, begun), frame.mappings);
            // That a bomb was refused proves nothing: the gap begins before it.
            if !state.struck {
                state.proved = state.proved.max(begun);
            }
            if frame.is_snapshot_end() {
                state.snapshot_acked = true;
                thread.whole(state.outage.take(), now);
            }
            Progress::add(&thread.progress().frames_acked, 1);
            Progress::add(&thread.progress().mappings_acked, frame.mappings);
        }
        if (state.finishing || state.struck) && state.unacked.is_empty() {
            self.bell.notify_one();
        }
    }
}

/// Microseconds after the intended time, at least 1: the histogram's smallest value.
fn late_us(now: Micros, intended: Micros) -> u64 {
    u64::try_from(now.since(intended)).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests;
