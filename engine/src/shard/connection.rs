//! What a shard knows of one connection, and of the session that it carries.
//!
//! In:   nothing: plain values, filled by the parts of the shard.
//! Out:  `Connection` with its phase; `Session`, which holds its router's state while it speaks.
//! Law:  a router's state is held by one session, or by its home in the shard, never by both.
//! Not:  what happens when (the other parts of `shard`).

use std::net::SocketAddr;

use storage::mapping::RouterId;
use storage::router::RouterState;
use storage::row::{Cause, InputMode, Reason};
use storage::time::Micros;

use super::books::Books;
use super::commit::AckPlace;
use super::pressure::Pause;
use super::reserve::Size;
use super::roster::Delay;
use super::storm::Coming;
use super::stuck::Turn;
use super::surge::Surge;
use crate::io::{ConnectionId, Now};
use crate::registry::Opened;
use crate::wire::Unit;
use crate::wire::decoder::Decoder;

/// One connection, from accept to close.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    /// Monotonic time at which it was accepted.
    opened_us: u64,
    /// The router of its session, for log lines; `phase` is on loan while a unit is applied.
    pub(crate) speaks_for: Option<RouterId>,
    pub(crate) phase: Phase,
    pub(crate) surge: Surge,
    pub(crate) decoder: Decoder,
    pub(crate) books: Books,
    /// Waiting bytes at which decoding is worth another try.
    pub(crate) needed: usize,
    /// Nothing more is read: why.
    pub(crate) ended: Option<Reason>,
    /// Monotonic time of the last byte, or of the last moment at which it was not being read.
    pub(crate) heard_us: u64,
    /// Wall clock of the last thing that came: a byte, or the end.
    pub(crate) heard: Micros,
    /// The stream ended inside a unit: what it lacks.
    pub(crate) cut_short: Option<Cause>,
    /// Units so far, read or rejected.
    pub(crate) units: u64,
    /// Favours (`pressure`) in a row in which its unit did not get whole.
    pub(crate) favours_wasted: u32,
    /// What of it came while the budget was spent (`pressure`).
    pub(crate) quiet_bytes: usize,
    /// Not read because of what it holds (`pressure`).
    pub(crate) paused: Option<Pause>,
    /// The longest time for which it was not read, of those that are over.
    pub(crate) blocked_longest_us: u64,
    /// How far its changes came behind their event times.
    pub(crate) delay: Option<Delay>,
    /// A snapshot that is expected, and whether it is being read (`storm`).
    pub(crate) coming: Option<Coming>,
    /// Read a little although it is to wait (`stuck`).
    pub(crate) turn: Option<Turn>,
    /// In one of the queues of those that wait for a favour.
    pub(crate) hungry: bool,
    /// Rejected frames and mappings so far.
    pub(crate) rejected: u64,
    /// Whether the last order to the driver was to read it.
    pub(crate) receiving: bool,
    /// Whether the peer has ended its side: the driver delivers nothing more.
    pub(crate) silent: bool,
    /// Whether it is in the queue of those that have something to digest.
    pub(crate) queued: bool,
    /// Whether its books have something for the next block.
    pub(crate) dirty: bool,
    /// Where its ack is among those of a batch.
    pub(crate) ack: AckPlace,
}

/// Where a connection is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its router is not known yet.
    Nameless,
    /// Its router is known, the router's state is not here yet.
    Claiming(Box<Claiming>),
    /// Its session is under way.
    Speaking(Box<Session>),
    /// It closes when this batch is durable and its last ack is sent.
    Closing {
        /// The batch.
        after: u64,
        /// Whether by a reset.
        reset: bool,
        /// What bytes that still come in are rejected with.
        cause: Cause,
    },
    /// The driver was told to close it.
    Closed(Cause),
}

/// The unit that named the router, kept until the router's state is here.
#[derive(Debug)]
pub(crate) struct Claiming {
    pub(crate) router: RouterId,
    pub(crate) unit: Unit,
    /// When its last byte came.
    pub(crate) time: Micros,
}

/// One session of a router.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) router: RouterId,
    pub(crate) state: Box<RouterState>,
    /// What its table counts for in the sum of this shard.
    pub(crate) counted: Size,
    pub(crate) generation: u32,
    pub(crate) mode: InputMode,
    pub(crate) permanent: bool,
    pub(crate) acks: bool,
    /// When the session began, by the collector.
    pub(crate) begun: Micros,
    /// When the last unit came that has a place in the order of the session; at first, the last
    /// evidence of the session before. What could not be read may have happened since: neither a
    /// hello nor a keepalive says that nothing is on its way.
    pub(crate) counted_at: Micros,
    /// Sequence that is due next (framed), or how many units came.
    pub(crate) due: u64,
    /// Frames before this sequence are sent again: what they say of a snapshot is void.
    pub(crate) fresh: u64,
    /// Hello announced a snapshot that has not begun.
    pub(crate) announced: bool,
    pub(crate) snapshot: Snapshot,
}

/// The snapshot of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Snapshot {
    /// None is under way.
    Closed,
    /// The router is sending it.
    Open {
        /// Its end is a quiet time, not a word of the router.
        inferred: bool,
        /// Whether whole frames could not be read: it vouches for nothing.
        lacks_frames: bool,
    },
}

impl Connection {
    pub(crate) fn new(id: ConnectionId, peer: SocketAddr, now: Now) -> Connection {
        Connection {
            id,
            peer,
            opened_us: now.monotonic_us,
            speaks_for: None,
            phase: Phase::Nameless,
            surge: Surge::default(),
            decoder: Decoder::new(),
            books: Books::default(),
            needed: 1,
            ended: None,
            heard_us: now.monotonic_us,
            heard: now.wall,
            cut_short: None,
            units: 0,
            favours_wasted: 0,
            quiet_bytes: 0,
            paused: None,
            blocked_longest_us: 0,
            delay: None,
            coming: None,
            turn: None,
            hungry: false,
            rejected: 0,
            receiving: true,
            silent: false,
            queued: false,
            dirty: false,
            ack: AckPlace::default(),
        }
    }

    /// Memory that received bytes take: waiting, inflated by the decoder but not read yet, or read
    /// and waiting for the router's state.
    pub(crate) fn held_bytes(&self) -> usize {
        let claiming_bytes = match &self.phase {
            Phase::Claiming(claiming) => claiming.unit.memory_bytes(),
            _ => 0,
        };
        self.surge.held_bytes() + self.decoder.held_bytes() + claiming_bytes
    }

    /// Whether it lacks bytes of a unit that has begun: what it holds is of no use before they
    /// come. Who waits for its router's state lacks something else.
    pub(crate) fn holds_a_part(&self) -> bool {
        let is_read = matches!(self.phase, Phase::Nameless | Phase::Speaking(_));
        is_read && (self.surge.waiting() > 0 || self.decoder.held_bytes() > 0)
    }

    /// Whether it is a known session that holds nothing.
    pub(crate) fn is_quiet(&self, now: Now) -> bool {
        self.is_known(now) && !self.holds_a_part()
    }

    /// Whether it has a router, and has been there for a while.
    pub(crate) fn is_known(&self, now: Now) -> bool {
        let is_there = now.monotonic_us >= self.opened_us + super::pressure::KNOWN_US;
        is_there && matches!(self.phase, Phase::Speaking(_))
    }

    /// Whether it is not to be read because other snapshots come before its own.
    pub(crate) fn waits_with_snapshot(&self) -> bool {
        self.coming.is_some_and(|coming| coming.is_waiting())
    }

    /// Since when it has not been read, for want of memory or of a turn.
    pub(crate) fn unread_since_us(&self) -> Option<u64> {
        let waits = self.coming.and_then(Coming::waits_since_us);
        self.paused.map(|pause| pause.since_us()).into_iter().chain(waits).min()
    }

    /// When it was accepted, if it takes the place of older ones: bare connections of a source
    /// stand beside each other.
    pub(crate) fn opened_if_ordered(&self) -> Option<Opened> {
        let is_ordered = matches!(self.decoder.mode(), Some(InputMode::Framed | InputMode::Fpm));
        is_ordered.then_some(Opened { monotonic_us: self.opened_us, connection: self.id })
    }

    /// Whether its bytes are still to be digested.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Nameless | Phase::Claiming(_) | Phase::Speaking(_))
    }
}

impl Session {
    /// Frames of the snapshot under way could not be read.
    pub(crate) fn lack_frames(&mut self) {
        if let Snapshot::Open { lacks_frames, .. } = &mut self.snapshot {
            *lacks_frames = true;
        }
    }
}
