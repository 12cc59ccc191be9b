//! One on-demand session with a collector: hello, documents, their acks, bye.
//!
//! In:   the target, a router, its documents, the time now.
//! Out:  how far the collector acknowledged, and what stood in the way of the rest.
//! Law:  nothing waits longer than the timeout without a byte of the other side.
//! Not:  what the documents say (`input`), how it is told (`told`).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use storage::mapping::RouterId;
use storage::time::Micros;

use super::input::Document;
use crate::wire::Hello;
use crate::wire::frame::{
    Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, MAGIC, decode_ack, encode_empty,
};
use crate::wire::hello::write_hello;
use crate::wire::sniff::guess;

/// Documents that are on their way unacknowledged: acks never fill a socket that nobody reads.
const WINDOW: u64 = 256;
/// Bytes of what is no ack that are shown.
const SHOWN_BYTES: usize = 40;

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// The text is no address.
    #[error("--target is `{found}`: expected HOST:PORT, such as 127.0.0.1:30310")]
    Address { found: String },
    /// The name leads nowhere.
    #[error("--target `{found}` has no address: {source}; write the collector's address instead")]
    Name { found: String, source: io::Error },
}

impl TargetError {
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, TargetError::Address { .. })
    }
}

/// What stood in the way of a session. Each text says what it means and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No connection.
    #[error(
        "no connection to {target}: {source}. Expected a collector: start one there with \
         `stormdrain run`, or name where it listens with --target (its setting `listen`)"
    )]
    Unreached { target: SocketAddr, source: io::Error },
    /// What answers is something else.
    #[error(
        "{target} is no collector, or not its port for routers: expected an ack, found \
         `{found}`{probably}. Name where the collector listens with --target (its setting `listen`, \
         30310 unless set)"
    )]
    NoCollector { target: SocketAddr, found: String, probably: String },
    /// Nothing answers.
    #[error(
        "{target} took the connection and has not answered for {timeout:?}: it is no collector, or \
         one that waits (full disk, spent memory: its /healthz and log say so). {left}"
    )]
    Silent { target: SocketAddr, timeout: Duration, left: Left },
    /// The collector ended the session before it acknowledged anything.
    #[error(
        "{target} closed the session for router {router}, and acknowledged nothing. A collector does \
         so when this address is in no `allow` and no `sources` (source-refused), may not speak for \
         {router} (identity-refused), when another session speaks for {router} (identity-conflict), \
         or when more than 60 sessions a minute come from here (session-rate). Its log names the \
         cause: the line `rejected` of peer {local}. Without such a line it is no collector"
    )]
    Refused { target: SocketAddr, local: SocketAddr, router: RouterId },
    /// The collector ended the session later.
    #[error(
        "{target} closed the session for router {router} before its end: it was stopped, or it \
         refused (as rejected-budget does with more than 1,000 refused mappings). Its log names the \
         cause, of peer {local}. {left}"
    )]
    Closed { target: SocketAddr, local: SocketAddr, router: RouterId, left: Left },
    /// The connection broke.
    #[error("the connection to {target} broke: {source}. {left}")]
    Broken { target: SocketAddr, source: io::Error, left: Left },
}

/// What is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    documents: u64,
    of: u64,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Left { documents, of } = self;
        write!(f, "{documents} of {of} documents are not acknowledged: send them again")
    }
}

impl Fault {
    /// In a word, for a column.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Fault::Unreached { .. } => "unreached",
            Fault::NoCollector { .. } => "no-collector",
            Fault::Silent { .. } => "no-answer",
            Fault::Refused { .. } => "session-refused",
            Fault::Closed { .. } | Fault::Broken { .. } => "session-ended",
        }
    }
}

/// What came of one session.
#[derive(Debug)]
pub(super) struct Outcome {
    /// For whom it spoke.
    pub(super) router: RouterId,
    /// Documents up to this sequence are durable.
    pub(super) acknowledged: u64,
    /// What stood in the way of the rest.
    pub(super) fault: Option<Fault>,
}

impl Outcome {
    /// Whether a collector was there at all.
    pub(super) fn is_reached(&self) -> bool {
        !matches!(
            self.fault,
            Some(Fault::Unreached { .. } | Fault::NoCollector { .. } | Fault::Silent { .. })
        )
    }
}

/// Where the collector is.
#[derive(Debug)]
pub(super) struct Target {
    addresses: Vec<SocketAddr>,
    timeout: Duration,
}

impl Target {
    /// Finds the addresses behind HOST:PORT.
    pub(super) fn find(text: &str, timeout: Duration) -> Result<Target, TargetError> {
        let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !has_port {
            return Err(TargetError::Address { found: text.to_owned() });
        }
        let name = |source| TargetError::Name { found: text.to_owned(), source };
        let addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(name)?.collect();
        if addresses.is_empty() {
            return Err(name(ErrorKind::NotFound.into()));
        }
        Ok(Target { addresses, timeout })
    }

    /// Holds one session for this router, to its end.
    pub(super) fn speak(&self, router: RouterId, documents: &[&Document], now: Micros) -> Outcome {
        let (target, local, stream) = match self.connect(router) {
            Ok(connected) => connected,
            Err(fault) => return Outcome { router, acknowledged: 0, fault: Some(fault) },
        };
        let count = documents.len() as u64;
        let timeout = self.timeout;
        let mut session = Session {
            stream,
            target,
            local,
            router,
            timeout,
            unread: Vec::new(),
            acknowledged: 0,
            count,
        };
        let fault = session.run(documents, now).err();
        Outcome { router, acknowledged: session.acknowledged, fault }
    }

    /// The first address that takes a connection, and this end of it; else what the last one said.
    fn connect(&self, router: RouterId) -> Result<(SocketAddr, SocketAddr, TcpStream), Fault> {
        let mut last = None;
        for target in &self.addresses {
            match self.connect_to(*target) {
                Ok((local, stream)) => return Ok((*target, local, stream)),
                Err((source, local)) => last = Some((*target, source, local)),
            }
        }
        Err(match last {
            // Whom a collector refuses by its address it may have reset before `connect` returns.
            Some((target, source, Some(local))) if source.kind() == ErrorKind::ConnectionReset => {
                Fault::Refused { target, local, router }
            }
            Some((target, source, _)) => Fault::Unreached { target, source },
            None => {
                let target = SocketAddr::from(([0, 0, 0, 0], 0));
                Fault::Unreached { target, source: ErrorKind::NotFound.into() }
            }
        })
    }

    /// One attempt. Errors: what the kernel said, and this end as far as there was one.
    fn connect_to(
        &self,
        target: SocketAddr,
    ) -> Result<(SocketAddr, TcpStream), (io::Error, Option<SocketAddr>)> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)
            .map_err(|error| (error, None))?;
        let local = || socket.local_addr().ok().and_then(|address| address.as_socket());
        // Before the connect: a socket that is reset at once takes no options any more.
        let connected = socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_read_timeout(Some(self.timeout)))
            .and_then(|()| socket.set_write_timeout(Some(self.timeout)))
            .and_then(|()| socket.connect_timeout(&target.into(), self.timeout));
        let local = local();
        match connected {
            Ok(()) => Ok((local.unwrap_or(target), socket.into())),
            Err(error) => Err((error, local)),
        }
    }
}

struct Session {
    stream: TcpStream,
    target: SocketAddr,
    /// This end, as the collector's log names it.
    local: SocketAddr,
    router: RouterId,
    timeout: Duration,
    unread: Vec<u8>,
    acknowledged: u64,
    /// How many documents there are.
    count: u64,
}

impl Session {
    fn run(&mut self, documents: &[&Document], now: Micros) -> Result<(), Fault> {
        let hello = self.hello(now);
        if self.write(&hello) {
            for document in documents {
                while document.sequence > self.acknowledged + WINDOW {
                    self.take_ack()?;
                }
                if !self.write(&document.frame) {
                    break;
                }
            }
        }
        // A collector that has ended the session may have acknowledged something before.
        while self.acknowledged < self.count {
            self.take_ack()?;
        }
        let mut bye = Vec::new();
        encode_empty(FrameType::Bye, 0, &mut bye);
        // Everything is durable: how the connection ends changes nothing any more. The collector's
        // end is waited for, so that another session for this router finds this one over.
        let is_open = self.write(&bye) && self.stream.shutdown(Shutdown::Write).is_ok();
        if is_open {
            let _ = self.stream.read(&mut [0; HEADER_BYTES]);
        }
        Ok(())
    }

    fn hello(&self, now: Micros) -> Vec<u8> {
        let hello = Hello {
            router: self.router,
            boot_time: now,
            sequence_first: 1,
            sequence_fresh: 1,
            permanent: false,
            acks: true,
            snapshot: false,
            clock: now,
            interfaces: Vec::new(),
            agent: concat!("stormdrain send/", env!("CARGO_PKG_VERSION")).into(),
        };
        let (mut text, mut frame) = (String::new(), Vec::new());
        write_hello(&hello, &mut text);
        let (kind, codec, flags) = (FrameType::Hello, Codec::None, FrameFlags::NONE);
        FrameEncoder::new(1).frame(kind, codec, flags, 0, text.as_bytes(), &mut frame);
        frame
    }

    /// `false`: the other side has ended the session, or takes nothing: what it has said tells why.
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Waits for the next ack.
    fn take_ack(&mut self) -> Result<(), Fault> {
        loop {
            let known = self.unread.len().min(MAGIC.len());
            if self.unread.get(..known) != MAGIC.get(..known) {
                return Err(self.no_collector());
            }
            match decode_ack(&self.unread) {
                Ok(Some(sequence)) if sequence <= self.count => {
                    self.unread.drain(..HEADER_BYTES);
                    self.acknowledged = self.acknowledged.max(sequence);
                    return Ok(());
                }
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Err(self.no_collector()),
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.closed()),
                Ok(count) => self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) => self.explain(error)?,
            }
        }
    }

    fn explain(&self, error: io::Error) -> Result<(), Fault> {
        let Session { target, timeout, .. } = *self;
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Err(Fault::Silent { target, timeout, left: self.left() })
            }
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Err(self.closed()),
            _ => Err(Fault::Broken { target, source: error, left: self.left() }),
        }
    }

    fn closed(&self) -> Fault {
        let Session { target, local, router, .. } = *self;
        if self.acknowledged == 0 {
            return Fault::Refused { target, local, router };
        }
        Fault::Closed { target, local, router, left: self.left() }
    }

    fn no_collector(&self) -> Fault {
        let first = self.unread.get(..self.unread.len().min(SHOWN_BYTES)).unwrap_or_default();
        let found = first.escape_ascii().to_string();
        let probably = if self.unread.starts_with(b"HTTP/") {
            ", an answer over HTTP".to_owned()
        } else {
            guess(&self.unread).map_or(String::new(), |guess| format!(", probably {guess}"))
        };
        Fault::NoCollector { target: self.target, found, probably }
    }

    fn left(&self) -> Left {
        Left { documents: self.count - self.acknowledged, of: self.count }
    }
}
