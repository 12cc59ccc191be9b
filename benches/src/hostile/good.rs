//! Good: routers that do what the protocol says, while others do not.
//!
//! In:   the collector's address; which attack goes on.
//! Out:  how long each change waited for its ack, by attack; sessions that were closed.
//! Law:  a change goes out every 20 ms, whatever has become of the one before.
//! Not:  what is hostile (`attacks`).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use engine::wire::frame::{HEADER_BYTES, decode_ack};

use super::wire;

use std::sync::Arc;

/// How many there are.
pub(super) const ROUTERS: usize = 4;
/// Between two changes of one.
const INTERVAL: Duration = Duration::from_millis(20);
/// For so long acks are waited for when it is over.
const PATIENCE: Duration = Duration::from_secs(30);

/// The id of one of them.
pub(super) fn router(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 255, 0, index as u8 + 1)
}

/// What one router has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// During which attack a change was said, and how long it waited, ms.
    pub(super) waits: Vec<(usize, f64)>,
    /// Sessions that ended, though the router did not end them.
    pub(super) closed: usize,
    /// Changes, all of which are acknowledged, or were in a session that was closed.
    pub(super) changes: u64,
}

/// Good routers that speak until they are stopped.
pub(super) struct Good {
    phase: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

impl Good {
    /// Connects all of them.
    pub(super) fn start(target: SocketAddr) -> Good {
        let (phase, is_over) = <(Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let threads = (0..ROUTERS).map(|index| {
            let (phase, is_over) = (Arc::clone(&phase), Arc::clone(&is_over));
            spawn(move || live(index, target, &phase, &is_over))
        });
        let threads = threads.collect();
        Good { phase, is_over, threads }
    }

    /// From now on it is this attack.
    pub(super) fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Stops them when all is acknowledged; what they have seen.
    pub(super) fn end(self) -> Vec<Seen> {
        self.is_over.store(true, Ordering::Relaxed);
        let seen = self.threads.into_iter().map(|thread| thread.join().unwrap_or_default());
        seen.collect()
    }
}

/// A session of a router, and what waits in it.
struct Session {
    stream: TcpStream,
    sequence: u64,
    waiting: VecDeque<(u64, Instant, usize)>,
    ack: Vec<u8>,
}

fn live(index: usize, target: SocketAddr, phase: &AtomicUsize, is_over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut session: Option<Session> = None;
    let mut due = Instant::now();
    let mut ended = None;
    loop {
        if is_over.load(Ordering::Relaxed) {
            let since = *ended.get_or_insert_with(Instant::now);
            let waits = session.as_ref().is_some_and(|session| !session.waiting.is_empty());
            if !waits || since.elapsed() > PATIENCE {
                break;
            }
        }
        let Some(open) = &mut session else {
            session = connect(index, target);
            if session.is_none() {
                std::thread::sleep(INTERVAL);
            }
            continue;
        };
        let now = Instant::now();
        let mut is_open = true;
        if now >= due && ended.is_none() {
            due = now.max(due + INTERVAL);
            open.sequence += 1;
            seen.changes += 1;
            let (label, out) = (16 + open.sequence as u32 % 50, 100 + open.sequence as u32 % 9_000);
            let text = wire::document(router(index), &wire::swap(label, out, ""));
            let frame = wire::mappings(open.sequence, &text);
            open.waiting.push_back((open.sequence, now, phase.load(Ordering::Relaxed)));
            is_open = (&open.stream).write_all(&frame).is_ok();
        }
        is_open &= listen(open, due, &mut seen);
        if !is_open && let Some(open) = session.take() {
            seen.closed += 1;
            let lost = open.waiting.iter();
            seen.waits.extend(lost.map(|(_, said, phase)| (*phase, millis(*said))));
        }
    }
    let left = session.into_iter().flat_map(|session| session.waiting);
    seen.waits.extend(left.map(|(_, said, phase)| (phase, millis(said))));
    seen
}

fn connect(index: usize, target: SocketAddr) -> Option<Session> {
    let source = Ipv4Addr::new(127, 0, 77, index as u8 + 1);
    let stream = wire::connect_from(source, target).ok()?;
    // Longer than any wait that is measured: a window that stays closed is no end.
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    (&stream).write_all(&wire::hello(router(index), "")).ok()?;
    Some(Session { stream, sequence: 0, waiting: VecDeque::new(), ack: Vec::new() })
}

/// Takes acks until the next change is due; whether the session goes on.
fn listen(session: &mut Session, due: Instant, seen: &mut Seen) -> bool {
    let wait = due.saturating_duration_since(Instant::now());
    let wait = wait.clamp(Duration::from_millis(1), INTERVAL);
    if session.stream.set_read_timeout(Some(wait)).is_err() {
        return false;
    }
    let mut bytes = [0; 32 * HEADER_BYTES];
    match session.stream.read(&mut bytes) {
        Ok(0) => return false,
        Ok(count) => session.ack.extend(bytes.iter().take(count)),
        Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
    while session.ack.len() >= HEADER_BYTES {
        let Ok(Some(sequence)) = decode_ack(&session.ack) else { return false };
        session.ack.drain(..HEADER_BYTES);
        while let Some((first, said, phase)) = session.waiting.front().copied()
            && first <= sequence
        {
            session.waiting.pop_front();
            seen.waits.push((phase, millis(said)));
        }
    }
    true
}

fn millis(said: Instant) -> f64 {
    said.elapsed().as_secs_f64() * 1e3
}
