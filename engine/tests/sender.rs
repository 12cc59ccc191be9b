//! A router as the protocol describes it: framed sessions with acks, re-sending, snapshots.
//!
//! In:   changes to its table; the collector's address.
//! Out:  frames; what of them is acknowledged; the table as the router itself knows it.
//! Law:  what is not acknowledged is kept and sent again, in order, before anything new.
//! Not:  what the collector makes of it (the tests).

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES};
use engine::wire::frame::{decode_ack, encode_empty};
use engine::wire::hello::write_hello;
use engine::wire::xml::write::write_document;
use engine::wire::{Hello, SnapshotMark};
use socket2::{Domain, Socket, Type};
use storage::mapping::{
    Fec, Ingress, Key, Label, Mapping, NextHop, Nhlfe, Operation, RouterId, TimeSource,
};
use storage::time::Micros;

use crate::process::PATIENCE;

/// Connects from a given loopback address.
pub(crate) fn connect_from(source: IpAddr, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    // Before the connect: a socket that is reset at once takes no options any more.
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&target.into())?;
    Ok(TcpStream::from(socket))
}

/// An ILM entry: `label` is swapped for `out` towards 192.0.2.250.
pub(crate) fn swap(label: u32, out: u32, time: Micros) -> Mapping {
    let next_hop = NextHop::Address([192, 0, 2, 250].into());
    let stack = [Label::new(out).unwrap()].into_iter().collect();
    Mapping {
        fec: Fec::Ip { prefix: "203.0.113.0/24".parse().unwrap(), table: 0 },
        ingress: Ingress::platform(Label::new(label).unwrap()),
        operation: Operation::Swap,
        branches: [Nhlfe::new(stack, next_hop)].into_iter().collect(),
        event_time: time,
        time_source: TimeSource::Router,
        extra: Default::default(),
    }
}

/// A router: its table, its sequences, and what it must keep until it is acknowledged.
pub(crate) struct Router {
    /// Its id.
    pub(crate) id: RouterId,
    source: IpAddr,
    boot: Micros,
    clock: i64,
    sequence_next: u64,
    acknowledged: u64,
    unacknowledged: VecDeque<(u64, Vec<u8>)>,
    table: BTreeMap<Key, Mapping>,
    /// Sequences of frames that were no part of a snapshot.
    live: Vec<u64>,
    encoder: FrameEncoder,
}

impl Router {
    /// Router 192.0.2.`number`, which connects from 127.0.1.`number`.
    pub(crate) fn new(number: u8) -> Router {
        Router {
            id: RouterId([192, 0, 2, number].into()),
            source: [127, 0, 1, number].into(),
            boot: wall(),
            clock: wall().0,
            sequence_next: 1,
            acknowledged: 0,
            unacknowledged: VecDeque::new(),
            table: BTreeMap::new(),
            live: Vec::new(),
            encoder: FrameEncoder::new(1),
        }
    }

    /// The same router from another address.
    pub(crate) fn moved_to(mut self, source: impl Into<IpAddr>) -> Router {
        self.source = source.into();
        self
    }

    /// Highest sequence that the collector has acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Leaves a sequence to a frame that the caller writes, and is not kept.
    pub(crate) fn skip_sequence(&mut self) {
        self.sequence_next += 1;
    }

    /// Sequence of the next frame.
    pub(crate) fn sequence_next(&self) -> u64 {
        self.sequence_next
    }

    /// Sequences of its live changes up to this one.
    pub(crate) fn live_frames(&self, until: u64) -> impl Iterator<Item = u64> {
        self.live.iter().copied().take_while(move |sequence| *sequence <= until)
    }

    /// Its table, by key; event times as last announced.
    pub(crate) fn table(&self) -> &BTreeMap<Key, Mapping> {
        &self.table
    }

    /// Its own clock, a little later at every look.
    pub(crate) fn tick(&mut self) -> Micros {
        self.clock += 7;
        Micros(self.clock)
    }

    /// Bytes of its hello.
    pub(crate) fn hello(&self, snapshot: bool, permanent: bool) -> Vec<u8> {
        let first = self.unacknowledged.front().map_or(self.sequence_next, |frame| frame.0);
        let hello = Hello {
            router: self.id,
            boot_time: self.boot,
            sequence_first: first,
            sequence_fresh: self.sequence_next,
            permanent,
            acks: true,
            snapshot,
            clock: Micros(self.clock),
            interfaces: Vec::new(),
            agent: "test/1".into(),
        };
        let mut text = String::new();
        write_hello(&hello, &mut text);
        let mut out = Vec::new();
        let flags = FrameFlags::NONE;
        FrameEncoder::new(1).frame(
            FrameType::Hello,
            Codec::None,
            flags,
            0,
            text.as_bytes(),
            &mut out,
        );
        out
    }

    /// Opens a session: hello, and again what is not acknowledged.
    pub(crate) fn open(
        &mut self,
        target: SocketAddr,
        snapshot: bool,
        permanent: bool,
    ) -> std::io::Result<Session> {
        let mut stream = connect_from(self.source, target)?;
        let mut bytes = self.hello(snapshot, permanent);
        self.unacknowledged.iter().for_each(|(_, frame)| bytes.extend_from_slice(frame));
        stream.write_all(&bytes)?;
        Ok(Session { stream, unread: Vec::new(), reset: false })
    }

    /// A frame of mappings, kept until it is acknowledged.
    pub(crate) fn frame(&mut self, mappings: &[Mapping], part: bool) -> Vec<u8> {
        for mapping in mappings {
            match mapping.operation {
                Operation::None => self.table.remove(&mapping.key()),
                _ => self.table.insert(mapping.key(), mapping.clone()),
            };
        }
        if !part {
            self.live.push(self.sequence_next);
        }
        let mut text = String::new();
        write_document(Some(self.id), SnapshotMark::None, mappings, &mut text);
        let flags = if part { FrameFlags::SNAPSHOT_PART } else { FrameFlags::NONE };
        self.counted(FrameType::Mappings, flags, text.as_bytes())
    }

    /// A frame of mappings that is not compressed, and not kept.
    pub(crate) fn plain_frame(&mut self, mappings: &[Mapping]) -> Vec<u8> {
        for mapping in mappings {
            self.table.insert(mapping.key(), mapping.clone());
        }
        let mut text = String::new();
        write_document(Some(self.id), SnapshotMark::None, mappings, &mut text);
        let mut bytes = Vec::new();
        let (kind, flags) = (FrameType::Mappings, FrameFlags::NONE);
        let sequence = self.sequence_next;
        self.encoder.frame(kind, Codec::None, flags, sequence, text.as_bytes(), &mut bytes);
        self.sequence_next += 1;
        bytes
    }

    /// Any counted frame, kept until it is acknowledged.
    pub(crate) fn counted(
        &mut self,
        kind: FrameType,
        flags: FrameFlags,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let sequence = self.sequence_next;
        self.encoder.frame(kind, Codec::Zlib, flags, sequence, payload, &mut bytes);
        self.sequence_next += 1;
        self.unacknowledged.push_back((sequence, bytes.clone()));
        bytes
    }

    /// The whole table as a snapshot of frames of `size` mappings, and its end.
    pub(crate) fn snapshot(&mut self, size: usize) -> Vec<u8> {
        let time = self.tick();
        let mut mappings: Vec<Mapping> = self.table.values().cloned().collect();
        mappings.iter_mut().for_each(|mapping| mapping.event_time = time);
        let mut bytes = Vec::new();
        for part in mappings.chunks(size) {
            bytes.extend(self.frame(part, true));
        }
        bytes.extend(self.counted(FrameType::SnapshotComplete, FrameFlags::NONE, b""));
        bytes
    }

    /// Notes an ack.
    pub(crate) fn acknowledge(&mut self, sequence: u64) {
        assert!(sequence < self.sequence_next, "an ack of what was never sent");
        self.acknowledged = self.acknowledged.max(sequence);
        while self.unacknowledged.front().is_some_and(|frame| frame.0 <= sequence) {
            self.unacknowledged.pop_front();
        }
    }

    /// Reads acks until everything that was sent is acknowledged.
    pub(crate) fn await_acks(&mut self, session: &mut Session) {
        while !self.unacknowledged.is_empty() {
            let ack = session.ack().expect("an ack, not the end of the session");
            self.acknowledge(ack);
        }
    }

    /// Bytes of a bye.
    pub(crate) fn bye() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_empty(FrameType::Bye, 0, &mut bytes);
        bytes
    }
}

/// One connection of a router.
pub(crate) struct Session {
    stream: TcpStream,
    unread: Vec<u8>,
    /// A send has met the reset: the kernel tells of it once, a read then sees only an end.
    reset: bool,
}

/// How the collector ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A FIN.
    Closed,
    /// A reset.
    Reset,
}

impl Session {
    /// A session on a connection that is open already.
    pub(crate) fn of(stream: TcpStream) -> Session {
        Session { stream, unread: Vec::new(), reset: false }
    }

    /// Sends bytes. Errors: the collector has gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let result = self.stream.write_all(bytes);
        self.reset |= result.is_err();
        result
    }

    /// Ends the sending side.
    pub(crate) fn finish(&mut self) {
        // A peer that has gone already has ended it for us.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The next ack, or how the session ended.
    pub(crate) fn ack(&mut self) -> Result<u64, Fate> {
        loop {
            if let Some(sequence) = decode_ack(&self.unread).unwrap() {
                self.unread.drain(..HEADER_BYTES);
                return Ok(sequence);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) if self.reset => return Err(Fate::Reset),
                Ok(0) => return Err(Fate::Closed),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(Fate::Reset);
                }
                Err(error) => panic!("neither an ack nor an end: {error}"),
            }
        }
    }

    /// Reads acks to the end of the session.
    pub(crate) fn fate(&mut self, router: &mut Router) -> Fate {
        loop {
            match self.ack() {
                Ok(sequence) => router.acknowledge(sequence),
                Err(fate) => return fate,
            }
        }
    }

    /// Another handle to the same connection, for a second thread.
    pub(crate) fn split(&self) -> Session {
        Session { stream: self.stream.try_clone().unwrap(), unread: Vec::new(), reset: false }
    }
}

/// The wall clock.
pub(crate) fn wall() -> Micros {
    engine::io::clock::Clock::start().now().wall
}
