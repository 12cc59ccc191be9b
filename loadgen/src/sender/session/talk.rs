//! A session on the network: it connects, says what is due, reads acks, and connects again.
//!
//! In:   what the session says is next.
//! Out:  bytes on sockets; what became of them goes back to the session.
//! Law:  whichever side breaks a connection, it is told when, and when the router is whole again.
//! Not:  what is due, and what is kept for sending it again (`session`).

use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use engine::wire::frame::{FrameType, HEADER_BYTES, MAGIC, decode_ack, encode_empty};
use storage::time::Micros;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_uring::net::TcpStream;

use super::{Next, Session, ThreadState, late_us, strike};
use crate::faults::Fault;
use crate::sender::{Absence, Progress, TURN_EVERY, connect};

/// First and last pause before connecting again; it doubles in between.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Different pauses of the routers of one thread.
const SPREAD: usize = 64;
/// How long to wait for the last acks, and for the collector to close after bye.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long to wait for the collector to close behind a break on purpose: it reads what came
/// before.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of one read: more than a hundred acks.
const READ_BYTES: usize = 4_096;

/// Runs the session until it is finished.
pub(in crate::sender) async fn run(session: Rc<Session>, thread: Rc<ThreadState>) {
    sleep_until(instant_at(&thread, session.plan.connect_at)).await;
    let mut pause = PAUSE_MIN;
    loop {
        match open(&session, &thread).await {
            Ok(stream) => {
                pause = PAUSE_MIN;
                converse(&session, &thread, Rc::new(stream)).await;
                thread.progress().connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                session.broke(&thread);
            }
            Err(failure) => thread.progress().note_connect_failure(&failure),
        }
        if session.is_finished() || session.state.borrow().finishing {
            return;
        }
        if let Some(absence) = session.away(thread.shared.clock.now()) {
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
    session.is_gone(thread);
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
    let mut reader = tokio_uring::spawn(reader);
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
    if session.state.borrow().away.is_some() {
        let _ = stream.shutdown(Shutdown::Write);
        if timeout(NOTICED_WITHIN, &mut reader).await.is_ok() {
            return;
        }
    }
    // Wakes the reader, whichever side has given up.
    let _ = stream.shutdown(Shutdown::Both);
    let _ = reader.await;
    session.state.borrow_mut().noticed = None;
}

/// Sends what is due until the connection breaks or everything is acknowledged at the end.
async fn write_frames(session: &Session, thread: &ThreadState, stream: &TcpStream) {
    loop {
        match session.next(thread.shared.clock.now()) {
            Next::Counted { bytes, sent } => {
                let bomb = session.state.borrow().struck.then(|| bytes.clone());
                if bomb.is_some() {
                    Progress::add(&thread.progress().frames_planned, 1);
                }
                let (result, bytes) = match session.plan.strike.map(|strike| strike.fault) {
                    Some(Fault::Slow) => strike::write_slowly(thread, stream, bytes).await,
                    _ => stream.write_all(bytes).await,
                };
                if result.is_ok() {
                    thread.count(&sent, bytes.len() as u64);
                }
                session.keep(sent.sequence, bytes);
                if result.is_err() {
                    return;
                }
                if let Some(bomb) = bomb {
                    pour(session, thread, bomb).await;
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

/// A stranger at the router's address does what it has just done.
async fn pour(session: &Session, thread: &ThreadState, bomb: Vec<u8>) {
    let (target, source) = (thread.shared.target, session.plan.source);
    let poured = tokio::task::spawn_blocking(move || strike::stranger(target, source, &bomb));
    // One that the collector let wait for ever is missing in the count.
    if matches!(poured.await, Ok(Ok(()))) {
        Progress::add(&thread.progress().strangers, 1);
    }
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
                    session.acked(connection, sequence, now, &thread);
                }
                // Who speaks otherwise may never say as much as an ack is long.
                Ok(None) => break !may_be_a_frame(&pending[taken..]),
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
        state.noticed = Some(thread.shared.clock.now());
        state.broken = true;
        session.bell.notify_one();
    }
}

/// Whether these bytes, few as they may be, can begin a frame.
fn may_be_a_frame(bytes: &[u8]) -> bool {
    bytes.iter().zip(&MAGIC).all(|(found, expected)| found == expected)
}

/// Looks for ever how late this thread comes round to what is due, through its ring. Turns count
/// while frames go out: what others do with the CPU between acts is no lateness.
pub(in crate::sender) async fn watch_turns(thread: Rc<ThreadState>) {
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

fn instant_at(thread: &ThreadState, time: Micros) -> Instant {
    Instant::from_std(thread.shared.clock.instant_at(time))
}
