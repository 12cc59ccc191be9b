//! One router's session: connect, hello, frames at their times, acks, and again when it breaks.
//!
//! In:   a plan, later more frames; acks from the collector.
//! Out:  bytes on the socket; latencies and progress of its thread.
//! Law:  what is not acknowledged is kept, sent again first, and followed by a new snapshot.
//! Not:  encoding (`workload`), threads and commands (`sender`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::wire::Hello;
use engine::wire::frame::{
    Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, decode_ack, encode_empty,
};
use engine::wire::hello::write_hello;
use storage::time::Micros;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_uring::net::TcpStream;

use super::{Absence, Latencies, Progress, SessionPlan, Shared, TURN_EVERY, connect};
use crate::faults::Fault;
use crate::workload::{Encoder, Frame, FrameRole};

/// Name and version in hello.
const AGENT: &str = concat!("stormgen/", env!("CARGO_PKG_VERSION"));
/// Attempts to connect that one thread has under way at once: each holds a helper thread.
const CONNECTS_AT_ONCE: usize = 16;
/// First and last pause before connecting again; it doubles in between.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Different pauses of the routers of one thread.
const SPREAD: usize = 64;
/// How long to wait for the last acks, and for the collector to close after bye.
const FAREWELL: Duration = Duration::from_secs(10);
/// What a slow router writes at once, and its pause behind it.
const SLOW_BYTES: usize = 500;
const SLOW_PAUSE: Duration = Duration::from_millis(2);
/// Bytes of one read: more than a hundred acks.
const READ_BYTES: usize = 4_096;

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
    /// Frames until the plan's fault strikes.
    fault_after: Option<usize>,
    /// The connection is left as it is, silent.
    silent: bool,
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
    /// The plan's fault, now.
    fn strike(&mut self, fault: Option<Fault>) -> Next {
        self.silent = fault == Some(Fault::HalfOpen);
        let torn = self.waiting.front().filter(|_| fault == Some(Fault::Torn)).cloned();
        let Some(mut frame) = torn else { return Next::Broken };
        frame.number(self.sequence_next);
        frame.bytes.truncate(frame.bytes.len() / 2);
        Next::Torn(frame.bytes)
    }
}

impl Session {
    pub(super) fn new(mut plan: SessionPlan) -> Session {
        let waiting: VecDeque<Frame> = std::mem::take(&mut plan.frames).into();
        let strikes = plan.fault.is_some_and(|fault| fault != Fault::Slow);
        let fault_after = strikes.then_some(waiting.len() / 2);
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
            fault_after,
            silent: false,
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
        state.resend = 0;
        let fresh = state.sequence_next;
        let first = state.unacked.front().map_or(fresh, |(frame, _)| frame.sequence);
        let world = &thread.shared.world;
        let hello = Hello {
            router: self.plan.router,
            boot_time: world.start,
            sequence_first: first,
            sequence_fresh: fresh,
            permanent: true,
            acks: true,
            snapshot: true,
            clock: now,
            addresses: world.network.topology.interface_addresses(self.plan.router_index),
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
        let mut table = thread.shared.world.key().table(self.plan.router_index, until);
        if state.snapshot_acked {
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
        let cut = state.cuts.front().map(|cut| cut.at);
        if cut.is_some_and(|at| at <= now) {
            state.away = state.cuts.pop_front();
            return Next::Broken;
        }
        if state.fault_after.take_if(|frames| *frames == 0).is_some() {
            return state.strike(self.plan.fault);
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
            if let Some(mut frame) = state.waiting.pop_front() {
                frame.number(state.sequence_next);
                state.sequence_next += 1;
                state.told_until = state.told_until.max(frame.until);
                state.unacked.push_back((frame, now));
            }
        }
        let Some((frame, _)) = state.unacked.get_mut(state.resend) else { return Next::Idle };
        state.resend += 1;
        state.fault_after = state.fault_after.map(|frames| frames.saturating_sub(1));
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

    fn acked(&self, sequence: u64, now: Micros, thread: &ThreadState) {
        let mut state = self.state.borrow_mut();
        let mut latencies = thread.latencies.borrow_mut();
        while let Some((frame, begun)) =
            state.unacked.pop_front_if(|(frame, _)| frame.sequence <= sequence)
        {
            state.resend = state.resend.saturating_sub(1);
            let latency_us = late_us(now, frame.intended);
            latencies.durable.saturating_record_n(latency_us, frame.mappings);
            latencies.service.saturating_record_n(late_us(now, begun), frame.mappings);
            state.snapshot_acked |= frame.is_snapshot_end();
            Progress::add(&thread.progress().frames_acked, 1);
            Progress::add(&thread.progress().mappings_acked, frame.mappings);
        }
        if state.finishing && state.unacked.is_empty() {
            self.bell.notify_one();
        }
    }
}

/// Runs the session until it is finished.
pub(super) async fn run(session: Rc<Session>, thread: Rc<ThreadState>) {
    sleep_until(instant_at(&thread, session.plan.connect_at)).await;
    let mut pause = PAUSE_MIN;
    loop {
        match open(&session, &thread).await {
            Ok(stream) => {
                pause = PAUSE_MIN;
                converse(&session, &thread, Rc::new(stream)).await;
                thread.progress().connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
            Err(_) => Progress::add(&thread.progress().connect_failures, 1),
        }
        if session.is_finished() || session.state.borrow().finishing {
            return;
        }
        let away = session.state.borrow_mut().away.take();
        if let Some(absence) = away {
            absent(&session, &thread, absence).await;
            match session.state.borrow().finishing {
                true => return,
                false => continue,
            }
        }
        // Spread over once more the pause: routers must not come back all at the same moment.
        let spread = u32::try_from(session.plan.router_index % SPREAD).unwrap_or(0);
        sleep(pause + pause * spread / SPREAD as u32).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits for the end of an absence, or of the session.
async fn absent(session: &Session, thread: &ThreadState, absence: Absence) {
    // Counted when the session no longer counts as connected.
    Progress::add(&thread.progress().cuts, 1);
    if let Some(back) = absence.back {
        return sleep_until(instant_at(thread, back)).await;
    }
    {
        let mut state = session.state.borrow_mut();
        state.gone = true;
        let never = state.waiting.len() + state.unacked.len();
        state.waiting.clear();
        state.unacked.clear();
        Progress::add(&thread.progress().frames_replaced, never as u64);
    }
    Progress::add(&thread.progress().gone, 1);
    while !session.state.borrow().finishing {
        session.bell.notified().await;
    }
}

async fn open(session: &Session, thread: &ThreadState) -> io::Result<TcpStream> {
    let permit = thread.connects.acquire().await.map_err(io::Error::other)?;
    let (target, source) = (thread.shared.target, session.plan.source);
    session.begins_to_connect(thread.shared.clock.now());
    let connecting = tokio::task::spawn_blocking(move || connect::connect(target, source));
    let stream = connecting.await.map_err(io::Error::other)??;
    drop(permit);
    Ok(TcpStream::from_std(stream))
}

/// One connection, from hello to its end.
async fn converse(session: &Rc<Session>, thread: &Rc<ThreadState>, stream: Rc<TcpStream>) {
    let hello = session.open(thread);
    // Counted when its frames are planned: a session that is there has planned all that it owes.
    Progress::add(&thread.progress().connected, 1);
    let reader = read_acks(Rc::clone(session), Rc::clone(thread), Rc::clone(&stream));
    let reader = tokio_uring::spawn(reader);
    let (result, _) = stream.write_all(hello).await;
    if result.is_ok() {
        session.is_free(thread.shared.clock.now());
        write_frames(session, thread, &stream).await;
    }
    if session.is_finished() {
        let mut bye = Vec::new();
        encode_empty(FrameType::Bye, 0, &mut bye);
        // The peer may be gone: there is nothing left to lose.
        let _ = stream.write_all(bye).await;
        let _ = stream.shutdown(Shutdown::Write);
        if timeout(FAREWELL, reader).await.is_ok() {
            return;
        }
        let _ = stream.shutdown(Shutdown::Both);
        return;
    }
    if std::mem::take(&mut session.state.borrow_mut().silent) {
        thread.silent.borrow_mut().push(stream);
        return;
    }
    // Wakes the reader, whichever side has given up.
    let _ = stream.shutdown(Shutdown::Both);
    let _ = reader.await;
}

/// Sends what is due until the connection breaks or everything is acknowledged at the end.
async fn write_frames(session: &Session, thread: &ThreadState, stream: &TcpStream) {
    loop {
        match session.next(thread.shared.clock.now()) {
            Next::Counted { bytes, sent } => {
                let (result, bytes) = match session.plan.fault {
                    Some(Fault::Slow) => write_slowly(stream, bytes).await,
                    _ => stream.write_all(bytes).await,
                };
                if result.is_ok() {
                    thread.count(&sent, bytes.len() as u64);
                }
                session.keep(sent.sequence, bytes);
                if result.is_err() {
                    return;
                }
                session.is_free(thread.shared.clock.now());
            }
            Next::At(time) => {
                let due = instant_at(thread, time);
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = session.bell.notified() => {}
                }
            }
            Next::Idle if session.state.borrow().finishing => {
                if timeout(FAREWELL, session.bell.notified()).await.is_err() {
                    return;
                }
            }
            Next::Idle => session.bell.notified().await,
            Next::Torn(bytes) => {
                // Whether it is taken or not: the connection ends here.
                let _ = stream.write_all(bytes).await;
                return;
            }
            Next::Drained | Next::Broken => return,
        }
    }
}

/// As a router does whose control plane has other things to do.
async fn write_slowly(stream: &TcpStream, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
    for piece in bytes.chunks(SLOW_BYTES) {
        let (result, _) = stream.write_all(piece.to_vec()).await;
        if result.is_err() {
            return (result, bytes);
        }
        sleep(SLOW_PAUSE).await;
    }
    (Ok(()), bytes)
}

/// Reads acks until the connection ends; then says so, if the session still speaks over it.
async fn read_acks(session: Rc<Session>, thread: Rc<ThreadState>, stream: Rc<TcpStream>) {
    let connection = session.state.borrow().connections;
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        match result {
            Ok(count) if count > 0 => pending.extend_from_slice(&buffer[..count]),
            _ => break,
        }
        let now = thread.shared.clock.now();
        let mut taken = 0;
        let fault = loop {
            match decode_ack(&pending[taken..]) {
                Ok(Some(sequence)) => {
                    taken += HEADER_BYTES;
                    session.acked(sequence, now, &thread);
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        pending.drain(..taken);
        if fault {
            Progress::add(&thread.progress().ack_faults, 1);
            break;
        }
    }
    let mut state = session.state.borrow_mut();
    if state.connections == connection {
        state.broken = true;
        session.bell.notify_one();
    }
}

/// Looks for ever how late this thread comes round to what is due, through its ring. Turns count
/// while frames go out: what others do with the CPU between acts is no lateness.
pub(super) async fn watch_turns(thread: Rc<ThreadState>) {
    let mut due = thread.shared.clock.now();
    let (mut counted, mut held) = (0, None);
    loop {
        due = due.offset(i64::try_from(TURN_EVERY.as_micros()).unwrap_or(i64::MAX));
        sleep_until(instant_at(&thread, due)).await;
        // The ring refuses only what does not fit; the write that is due then says so itself.
        let _ = tokio_uring::no_op().await;
        let turn_us = late_us(thread.shared.clock.now(), due);
        let sent = thread.frames_sent.get();
        if sent == counted {
            // Late with what goes out right after it: the next turn will tell.
            held = Some(turn_us);
            continue;
        }
        let mut latencies = thread.latencies.borrow_mut();
        for turn_us in held.take().into_iter().chain([turn_us]) {
            latencies.turn.saturating_record(turn_us);
        }
        counted = sent;
    }
}

/// Microseconds after the intended time, at least 1: the histogram's smallest value.
fn late_us(now: Micros, intended: Micros) -> u64 {
    u64::try_from(now.since(intended)).unwrap_or(0).max(1)
}

fn instant_at(thread: &ThreadState, time: Micros) -> Instant {
    Instant::from_std(thread.shared.clock.instant_at(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(intended: i64) -> Frame {
        let mut bytes = Vec::new();
        encode_empty(FrameType::Mappings, 0, &mut bytes);
        Frame {
            bytes,
            role: FrameRole::Change,
            intended: Micros(intended),
            mappings: 1,
            document_bytes: 0,
            until: Micros(intended),
            sequence: 0,
        }
    }

    /// What the generator was late by with each of these (intended, free, now), connected from 0.
    fn late(late_connect_us: i64, sends: &[(i64, i64, i64)]) -> Vec<u64> {
        let plan = SessionPlan {
            router_index: 0,
            router: storage::mapping::RouterId([172, 16, 0, 1].into()),
            source: None,
            fault: None,
            connect_at: Micros(100),
            frames: sends.iter().map(|(intended, ..)| frame(*intended)).collect(),
        };
        let session = Session::new(plan);
        session.begins_to_connect(Micros(100 + late_connect_us));
        let late = sends.iter().map(|(_, free, now)| {
            session.is_free(Micros(*free));
            match session.next(Micros(*now)) {
                Next::Counted { sent, .. } => sent.late_us,
                _ => panic!("every frame is due"),
            }
        });
        late.collect()
    }

    #[test]
    fn the_generator_is_late_by_what_nobody_else_held_up() {
        // At once; 30 late; 30 late behind a window that was closed until 20 before.
        assert_eq!(late(0, &[(1_000, 500, 1_000), (1_010, 1_005, 1_040)]), [1, 30]);
        assert_eq!(late(0, &[(1_000, 1_010, 1_030)]), [20]);
    }

    #[test]
    fn a_connection_that_was_begun_late_makes_late_what_was_due_before_it() {
        // Begun 50 late, open at 400: the 250 that connecting took are not the generator's.
        assert_eq!(late(50, &[(100, 400, 400), (600, 450, 600)]), [50, 1]);
    }
}
