//! Digest: takes unit after unit off a surge, in slices, connection after connection (`queue`).
//!
//! In:   the connections that have received something.
//! Out:  units, given to the session (`apply`) or to the search for its router (`claim`).
//! Law:  every byte taken is counted as framed or as rejected with a cause, here and nowhere else.
//! Not:  what a unit means (`apply`); reading sockets, which always goes first (drivers).

use storage::row::{Cause, Reason};
use storage::time::Micros;

use super::Shard;
use super::connection::{Connection, Phase};
use super::queue::Kind;
use crate::io::{ConnectionId, Now};
use crate::metrics::{Counters, Histogram, Metric};
use crate::registry::Claim;
use crate::wire::{Rejection, Step};

/// Received bytes digested of one connection before it is another's turn.
const SLICE_BYTES: usize = 64 << 10;
/// Mappings digested of one connection before it is another's turn: a compressed byte says more
/// than a plain one, and a mapping is what takes time.
const SLICE_MAPPINGS: u64 = 1_024;
/// Bytes that frames inflate to before it is another's turn: there may be nothing in them.
const SLICE_INFLATED_BYTES: u64 = 512 << 10;
/// Units digested of one connection before it is another's turn: FPM messages are small.
const SLICE_UNITS: usize = 512;

/// Connections that a slice goes on to, while they say little and nobody waits to be read: what is
/// looked at after a slice is looked at once for all of them.
const SLICE_CONNECTIONS: usize = 16;

/// How a slice goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// With the next unit.
    On,
    /// When more bytes have come.
    Wait,
    /// When the router's state is here.
    Claim(Claim),
    /// Not at all: the session is over.
    Over(Reason),
}

impl Shard {
    /// Digests one slice: of the connection whose turn it is, and of those behind it as long as
    /// nobody waits to be read and a quarter of a slice is not done.
    pub(crate) fn digest_slice(&mut self, now: Now) {
        let done = |counters: &Counters| {
            let bytes = counters.get(Metric::SurgePoppedBytes);
            (bytes, counters.get(Metric::MappingsFramed))
        };
        let (bytes, mappings) = done(&self.counters);
        let (bytes_max, mappings_max) =
            (bytes + SLICE_BYTES as u64 / 4, mappings + SLICE_MAPPINGS / 4);
        let Some(kind) = self.ready.next_kind() else { return };
        self.ready.begin(kind, now.monotonic_us);
        for _ in 0..SLICE_CONNECTIONS {
            self.digest_next(kind, now);
            let (bytes, mappings) = done(&self.counters);
            if bytes >= bytes_max || mappings >= mappings_max || self.unread() > 0 {
                return;
            }
        }
    }

    /// Digests one slice of the connection whose turn it is.
    fn digest_next(&mut self, kind: Kind, now: Now) {
        let Some(id) = self.ready.pop(kind) else { return };
        let Some(mut connection) = self.connections.remove(id) else { return };
        connection.queued = false;
        let held_before = connection.held_bytes();
        let flow = self.digest_connection(&mut connection, now);
        match flow {
            Flow::Over(reason) => self.finish(&mut connection, reason, now),
            Flow::Wait => connection.surge.settle(),
            Flow::On | Flow::Claim(_) => {}
        }
        self.surge_changed(held_before, connection.held_bytes());
        self.quiet_went(&mut connection);
        self.count_tools();
        if flow == Flow::Wait {
            self.hold_back(&mut connection, now);
        }
        self.connections.insert(connection);
        match flow {
            Flow::On => self.enqueue(id),
            Flow::Claim(claim) => self.claim(claim, now),
            Flow::Wait | Flow::Over(_) => {}
        }
        if flow == Flow::Wait {
            // Its name may be a document that is larger than the room.
            self.press(id, now);
        }
        self.reconsider(id, now);
    }

    /// Puts a connection into the queue of those that have something to digest.
    pub(crate) fn enqueue(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.queued
        {
            connection.queued = true;
            let is_known = matches!(connection.phase, Phase::Speaking(_));
            let kind = if is_known { Kind::Known } else { Kind::Fresh };
            if self.pressure.favours(id) {
                // Others wait for what it frees.
                self.ready.push_front(id, kind);
            } else {
                self.ready.push_back(id, kind);
            }
        }
    }

    fn digest_connection(&mut self, connection: &mut Connection, now: Now) -> Flow {
        let (mut bytes, mut units) = (0, 0);
        let mappings_before = self.counters.get(Metric::MappingsFramed);
        let inflated_before = self.tools.inflated_bytes;
        while bytes < SLICE_BYTES && units < SLICE_UNITS {
            let mappings = self.counters.get(Metric::MappingsFramed) - mappings_before;
            let inflated = self.tools.inflated_bytes - inflated_before;
            if mappings >= SLICE_MAPPINGS || inflated >= SLICE_INFLATED_BYTES {
                break;
            }
            if !matches!(connection.phase, Phase::Nameless | Phase::Speaking(_)) {
                return Flow::Wait;
            }
            let waiting_before = connection.surge.waiting();
            let flow = match self.next_step(connection) {
                Some(step) => self.take_step(connection, step, now),
                None => self.at_the_end(connection, now),
            };
            if flow != Flow::On {
                return flow;
            }
            bytes += waiting_before - connection.surge.waiting();
            units += 1;
        }
        Flow::On
    }

    /// Decodes the next unit into `self.unit`; `None` when it is not whole yet.
    fn next_step(&mut self, connection: &mut Connection) -> Option<Step> {
        loop {
            if connection.surge.waiting() < connection.needed {
                return None;
            }
            connection.surge.gather(connection.needed);
            let front = connection.surge.front();
            let time = unit_time(connection, front.len());
            let step = connection.decoder.next(front, time, &mut self.tools, &mut self.unit);
            self.counters.add(Metric::PaddingBytes, connection.decoder.take_padding());
            let Step::Incomplete { needed } = step else {
                connection.needed = 0;
                return Some(step);
            };
            // Whatever the hint says: trying the same bytes again would go round for ever.
            connection.needed = needed.max(front.len() + 1);
        }
    }

    /// Counts what the step took, and does what it says.
    fn take_step(&mut self, connection: &mut Connection, step: Step, now: Now) -> Flow {
        match step {
            Step::Incomplete { .. } => Flow::Wait,
            Step::Nothing { consumed } => {
                self.take_framed(connection, consumed);
                Flow::On
            }
            Step::Unit { consumed } => {
                connection.units += 1;
                let time = self.take_framed(connection, consumed);
                self.counters.add(Metric::Frames, 1);
                let waited_us = u64::try_from(now.wall.since(time)).unwrap_or(0);
                self.counters.observe(Histogram::SurgeWait, waited_us);
                self.unit_read(connection, time, now)
            }
            Step::Rejected { consumed, rejection, sequence } => {
                connection.units += 1;
                let time = unit_time(connection, consumed);
                connection.surge.consume(consumed);
                self.counters.add(Metric::SurgePoppedBytes, consumed as u64);
                self.reject(connection, &rejection, consumed as u64, now);
                self.frame_rejected(connection, rejection.cause, sequence, time, now)
            }
            Step::Broken { rejection } => {
                self.reject(connection, &rejection, 0, now);
                Flow::Over(Reason::Rejected(rejection.cause))
            }
        }
    }

    /// Counts bytes as framed; returns when the last of them came.
    fn take_framed(&mut self, connection: &mut Connection, consumed: usize) -> Micros {
        let time = unit_time(connection, consumed);
        connection.surge.consume(consumed);
        connection.books.open.bytes_framed += consumed as u64;
        self.counters.add(Metric::SurgePoppedBytes, consumed as u64);
        self.counters.add(Metric::FramedBytes, consumed as u64);
        self.mark_dirty(connection);
        time
    }

    fn unit_read(&mut self, connection: &mut Connection, time: Micros, now: Now) -> Flow {
        match &connection.phase {
            Phase::Speaking(_) => self.apply_unit(connection, time, now),
            Phase::Nameless => self.identify(connection, time, now),
            Phase::Claiming(_) | Phase::Closing { .. } | Phase::Closed(_) => Flow::Wait,
        }
    }

    /// No unit is whole. When nothing more will come, says what the rest means.
    fn at_the_end(&mut self, connection: &mut Connection, now: Now) -> Flow {
        let Some(reason) = connection.ended else { return Flow::Wait };
        connection.surge.gather(usize::MAX);
        let front = connection.surge.front();
        let time = unit_time(connection, front.len());
        let step = connection.decoder.end(front, time, &mut self.tools, &mut self.unit);
        match step {
            Step::Unit { .. } => self.take_step(connection, step, now),
            Step::Nothing { consumed } if consumed > 0 => self.take_step(connection, step, now),
            Step::Incomplete { .. } | Step::Nothing { .. } => Flow::Over(reason),
            Step::Rejected { consumed, rejection, .. } => {
                // No gap of its own: the end of the session opens one.
                connection.cut_short = Some(rejection.cause);
                connection.surge.consume(consumed);
                self.counters.add(Metric::SurgePoppedBytes, consumed as u64);
                self.reject(connection, &rejection, consumed as u64, now);
                Flow::Over(reason)
            }
            Step::Broken { rejection } => {
                connection.cut_short = Some(rejection.cause);
                self.reject(connection, &rejection, 0, now);
                Flow::Over(reason)
            }
        }
    }

    /// Counts `bytes` as rejected, and says so.
    pub(crate) fn reject(
        &mut self,
        connection: &mut Connection,
        rejection: &Rejection,
        bytes: u64,
        now: Now,
    ) {
        let cause = rejection.cause;
        connection.books.open.reject(cause, bytes, 0);
        self.counters.reject(cause, bytes, 0);
        self.mark_dirty(connection);
        self.notice(connection, cause, &rejection.detail, now);
    }

    /// A log line about what a peer did, if its cause has not had too many lately.
    pub(crate) fn notice(&mut self, connection: &Connection, cause: Cause, detail: &str, now: Now) {
        let Some(left_out) = self.notices.allow(cause, now.monotonic_us) else { return };
        let router = match &connection.phase {
            Phase::Speaking(session) => Some(session.router),
            Phase::Claiming(claiming) => Some(claiming.router),
            _ => connection.speaks_for,
        };
        let router = router.map(|router| router.to_string()).unwrap_or_default();
        let (peer, cause) = (connection.peer, cause.name());
        tracing::warn!(cause, %peer, router, detail, left_out, "rejected");
    }

    pub(crate) fn mark_dirty(&mut self, connection: &mut Connection) {
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(connection.id);
        }
    }
}

/// When the last byte of a unit of `consumed` bytes came; a unit may take none (end of a stream).
fn unit_time(connection: &Connection, consumed: usize) -> Micros {
    connection.surge.time_at(consumed.saturating_sub(1)).unwrap_or(connection.heard)
}
