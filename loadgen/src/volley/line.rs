//! One line of a volley: a socket, what it has to say, and what was not acknowledged yet.
//!
//! In:   frames of the pool, by place; room in the socket; acks.
//! Out:  parts of frames on the socket; what became of them, in the outcome.
//! Law:  frames go out whole and in order; a sequence is given when a frame is queued.
//! Not:  whose turn it is (`volley`).

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;

use engine::wire::Hello;
use engine::wire::frame::{
    Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, Header, decode_ack,
};
use engine::wire::hello::write_hello;
use smallvec::SmallVec;
use storage::time::Micros;

use super::outcome::Times;
use super::{Outcome, Speaker, VolleySettings};
use crate::clock::Clock;
use crate::sender::connect::connect;
use crate::workload::Frame;

/// Name and version in hello.
const AGENT: &str = concat!("stormgen-volley/", env!("CARGO_PKG_VERSION"));

/// Frames that one write takes at most: a system call per small frame would measure the sender.
const FRAMES_AT_ONCE: usize = 64;
/// Bytes that one write takes at most: a socket's buffer.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// What became of an attempt to write or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Fine,
    Broken,
}

/// A frame that is not written to its end.
struct Queued {
    frame: u32,
    sequence: u64,
    times: Times,
}

/// A frame that is written and not acknowledged.
struct Unacked {
    frame: u32,
    sequence: u64,
    times: Times,
}

pub(super) struct Line {
    speaker: Speaker,
    stream: Option<TcpStream>,
    over: bool,
    sequence_next: u64,
    queue: VecDeque<Queued>,
    /// How many of them, from the front, were tried to be written, or wait behind a full socket.
    begun: usize,
    /// Bytes of the first queued frame that are written.
    written: usize,
    blocked: bool,
    unacked: VecDeque<Unacked>,
    /// The beginning of an ack.
    heard: Vec<u8>,
    /// When something was last taken from the line, or it had nothing to say.
    moved: Micros,
}

impl Line {
    pub(super) fn new(speaker: Speaker) -> Line {
        Line {
            sequence_next: speaker.sequence_first,
            speaker,
            stream: None,
            over: false,
            queue: VecDeque::new(),
            begun: 0,
            written: 0,
            blocked: false,
            unacked: VecDeque::new(),
            heard: Vec::new(),
            moved: Micros(0),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    pub(super) fn socket(&self) -> Option<&TcpStream> {
        self.stream.as_ref()
    }

    pub(super) fn sequence_next(&self) -> u64 {
        self.sequence_next
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty() || !self.unacked.is_empty()
    }

    /// How long nothing has been taken of what it has to say.
    pub(super) fn stuck_us(&self, now: Micros) -> u64 {
        let stuck_us = if self.waits() { now.since(self.moved) } else { 0 };
        u64::try_from(stuck_us).unwrap_or(0)
    }

    /// Connects and says hello. Blocks until the kernel has answered.
    pub(super) fn open(&mut self, settings: &VolleySettings, now: Micros) -> std::io::Result<()> {
        let mut stream = connect(settings.target, self.speaker.source)?;
        let hello = Hello {
            router: self.speaker.router,
            boot_time: self.speaker.boot_time,
            sequence_first: self.speaker.sequence_first,
            sequence_fresh: self.speaker.sequence_first,
            permanent: true,
            acks: settings.acks,
            snapshot: true,
            clock: now,
            interfaces: vec![],
            agent: AGENT.into(),
        };
        let mut document = String::new();
        write_hello(&hello, &mut document);
        let mut bytes = Vec::new();
        let (payload, flags) = (document.as_bytes(), FrameFlags::NONE);
        FrameEncoder::new(1).frame(FrameType::Hello, Codec::None, flags, 0, payload, &mut bytes);
        stream.write_all(&bytes)?;
        stream.set_nonblocking(true)?;
        self.stream = Some(stream);
        self.moved = now;
        Ok(())
    }

    /// Ends the connection; how many frames were never written whole, and never acknowledged.
    pub(super) fn end(&mut self) -> (u64, u64) {
        self.stream = None;
        self.over = true;
        self.blocked = false;
        let left = (self.queue.len() as u64, self.unacked.len() as u64);
        self.queue.clear();
        self.begun = 0;
        self.unacked.clear();
        left
    }

    pub(super) fn queue(&mut self, frame: u32, due: Micros) {
        if !self.waits() {
            self.moved = due;
        }
        let times = Times { due, begun: due };
        self.queue.push_back(Queued { frame, sequence: self.sequence_next, times });
        self.sequence_next += 1;
    }

    /// Everything that is queued has its turn now: if it is not written, the socket is full.
    pub(super) fn begin(&mut self, now: Micros, outcome: &mut Outcome) {
        for queued in self.queue.iter_mut().skip(self.begun) {
            queued.times.begun = now;
            outcome.frame_is_begun(queued.times.due, now);
        }
        self.begun = self.queue.len();
    }

    /// Writes what is queued, up to `limit_bytes`, as far as the socket takes it.
    pub(super) fn write(
        &mut self,
        mut limit_bytes: usize,
        pool: &[Frame],
        clock: Clock,
        settings: &VolleySettings,
        outcome: &mut Outcome,
    ) -> Step {
        self.blocked = false;
        self.begin(clock.now(), outcome);
        while !self.queue.is_empty() && limit_bytes > 0 {
            let count = match self.write_once(limit_bytes, pool) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    outcome.times_blocked += 1;
                    return Step::Fine;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Step::Broken,
            };
            limit_bytes = limit_bytes.saturating_sub(count);
            outcome.bytes += count as u64;
            self.written += count;
            let now = clock.now();
            while let Some(first) = self.queue.front() {
                let frame = &pool[first.frame as usize];
                if self.written < frame.bytes.len() {
                    break;
                }
                self.written -= frame.bytes.len();
                self.moved = now;
                self.frame_is_written(frame, now, settings, outcome);
            }
        }
        Step::Fine
    }

    /// One write of the first frames that are queued, headers with their sequences between them.
    fn write_once(&mut self, limit_bytes: usize, pool: &[Frame]) -> std::io::Result<usize> {
        let Some(stream) = self.stream.as_mut() else { return Err(ErrorKind::NotConnected.into()) };
        let next = self.queue.iter().take(FRAMES_AT_ONCE);
        let number = |queued: &Queued| numbered(&pool[queued.frame as usize], queued.sequence);
        let headers: SmallVec<[[u8; HEADER_BYTES]; FRAMES_AT_ONCE]> = next.map(number).collect();
        let mut left = limit_bytes.min(WRITE_BYTES_MAX);
        let mut skip = self.written;
        let mut slices: SmallVec<[IoSlice<'_>; 2 * FRAMES_AT_ONCE]> = SmallVec::new();
        for (queued, header) in self.queue.iter().zip(&headers) {
            let frame = &pool[queued.frame as usize];
            let head = header.get(skip..).unwrap_or(&[]);
            let body = &frame.bytes[HEADER_BYTES.max(skip)..];
            skip = 0;
            for part in [head, body] {
                let part = &part[..part.len().min(left)];
                left -= part.len();
                slices.push(IoSlice::new(part));
            }
            if left == 0 {
                break;
            }
        }
        stream.write_vectored(&slices)
    }

    fn frame_is_written(
        &mut self,
        frame: &Frame,
        now: Micros,
        settings: &VolleySettings,
        outcome: &mut Outcome,
    ) {
        let Some(Queued { frame: place, sequence, times }) = self.queue.pop_front() else { return };
        self.begun = self.begun.saturating_sub(1);
        outcome.frame_is_written(frame.mappings, times.due, now);
        if settings.acks {
            self.unacked.push_back(Unacked { frame: place, sequence, times });
        } else {
            outcome.frames_open -= 1;
        }
    }

    /// Reads acks until there are none.
    pub(super) fn read(
        &mut self,
        now: Micros,
        pool: &[Frame],
        settings: &VolleySettings,
        outcome: &mut Outcome,
    ) -> Step {
        let mut buffer = [0; 4_096];
        while let Some(stream) = self.stream.as_mut() {
            let count = match stream.read(&mut buffer) {
                Ok(0) => return Step::Broken,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Fine,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Step::Broken,
            };
            self.heard.extend_from_slice(&buffer[..count]);
            let mut taken = 0;
            loop {
                match decode_ack(&self.heard[taken..]) {
                    Ok(Some(sequence)) => {
                        taken += HEADER_BYTES;
                        self.acked(sequence, now, pool, settings, outcome);
                    }
                    Ok(None) => break,
                    Err(_) => return Step::Broken,
                }
            }
            self.heard.drain(..taken);
        }
        Step::Fine
    }

    fn acked(
        &mut self,
        sequence: u64,
        now: Micros,
        pool: &[Frame],
        settings: &VolleySettings,
        outcome: &mut Outcome,
    ) {
        self.moved = now;
        while let Some(frame) = self.unacked.pop_front_if(|frame| frame.sequence <= sequence) {
            let mappings = pool[frame.frame as usize].mappings;
            outcome.frames_open -= 1;
            outcome.frame_is_durable(mappings, frame.times, now, settings.samples);
        }
    }
}

/// The frame's header with this sequence in it.
fn numbered(frame: &Frame, sequence: u64) -> [u8; HEADER_BYTES] {
    let header = frame.bytes.first_chunk().map(Header::read).and_then(Result::ok);
    let header = header.expect("the encoder has written a whole header");
    Header { sequence, ..header }.write()
}
