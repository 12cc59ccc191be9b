//! Apply: what a unit changes in its router's table, and the rows that say so.
//!
//! In:   the unit at hand, the session it came on, and when its last byte came.
//! Out:  change rows and gap rows in the block that collects; an ack that waits for them.
//! Law:  a sequence is applied once; what could not be read leaves a gap.
//! Not:  what a mapping does to a table (storage `table`).

use storage::mapping::{Mapping, TimeSource};
use storage::row::{Basis, Cause, Flags, InputMode, Position, Reason, Scope, Stamp};
use storage::table::Arrival;
use storage::time::Micros;

use super::Shard;
use super::connection::{Connection, Phase, Session, Snapshot};
use super::digest::Flow;
use super::roster::Delay;
use super::session::unit_mappings;
use crate::io::Now;
use crate::metrics::Metric;
use crate::wire::{RejectedMapping, Rejection, SnapshotMark, Unit, UnitKind};

impl Shard {
    /// Applies the unit in `self.unit` to the session of `connection`.
    pub(crate) fn apply_unit(
        &mut self,
        connection: &mut Connection,
        time: Micros,
        now: Now,
    ) -> Flow {
        let phase = std::mem::replace(&mut connection.phase, Phase::Nameless);
        let Phase::Speaking(mut session) = phase else {
            connection.phase = phase;
            return Flow::Wait;
        };
        connection.speaks_for = Some(session.router);
        let mut unit = std::mem::take(&mut self.unit);
        let flow = self.apply_to(connection, &mut session, &mut unit, time, now);
        self.unit = unit;
        connection.phase = Phase::Speaking(session);
        flow
    }

    fn apply_to(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        unit: &mut Unit,
        time: Micros,
        now: Now,
    ) -> Flow {
        let flow = match &unit.kind {
            UnitKind::Mappings | UnitKind::SnapshotComplete => {
                self.apply_counted(connection, session, unit, time, now)
            }
            UnitKind::Keepalive => Flow::On,
            UnitKind::Bye => Flow::Over(Reason::Finished),
            UnitKind::Hello(_) => {
                let cause = Cause::HelloInvalid;
                let detail = "expected one hello on a session, found a second".into();
                self.reject(connection, &Rejection { cause, detail }, 0, now);
                return Flow::Over(Reason::Rejected(cause));
            }
        };
        session.state.last_evidence = session.state.last_evidence.max(Some(time));
        flow
    }

    /// A unit that takes a place in the order of the session.
    fn apply_counted(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        unit: &mut Unit,
        time: Micros,
        now: Now,
    ) -> Flow {
        self.commit.touch(now);
        let evidence = session.counted_at;
        let sequence = self.take_place(connection, session, unit.sequence, time, now);
        session.counted_at = time;
        session.state.note_counted(time);
        if session.acks && session.mode == InputMode::Framed {
            self.commit.acknowledge(connection, sequence);
            self.counters.add(Metric::AcksPushed, 1);
        }
        let count = unit_mappings(unit);
        if session.mode == InputMode::Framed && sequence <= session.state.sequence_last {
            connection.books.open.mappings_framed += count;
            connection.books.open.duplicates += count;
            self.counters.add(Metric::MappingsFramed, count);
            self.counters.add(Metric::Duplicates, count);
            return Flow::On;
        }
        if session.mode == InputMode::Framed {
            session.state.sequence_last = sequence;
        }
        let place = Position { generation: session.generation, sequence, index: 0 };
        if unit.router.is_some_and(|router| router != session.router) {
            return self.foreign_unit(connection, session, unit, now);
        }
        let fresh = session.mode != InputMode::Framed || sequence >= session.fresh;
        let is_part = unit.snapshot == SnapshotMark::Part && session.snapshot == Snapshot::Closed;
        let whole = unit.snapshot == SnapshotMark::Whole;
        if fresh && (session.announced || is_part || whole) {
            self.begin_snapshot(session, false, time);
        }
        let flow = self.apply_mappings(connection, session, unit, place, (evidence, time), now);
        if fresh && (whole || unit.kind == UnitKind::SnapshotComplete) {
            session.state.position = session.state.position.max(place);
            self.complete_snapshot(connection, session, true, time, now);
        }
        flow
    }

    /// The place of a unit in its session; a jump forward is a gap.
    fn take_place(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        sequence: Option<u64>,
        time: Micros,
        now: Now,
    ) -> u64 {
        let Some(sequence) = sequence.filter(|_| session.mode == InputMode::Framed) else {
            session.due += 1;
            return session.due;
        };
        if sequence > session.due {
            let cause = Cause::SequenceBroken;
            let detail = format!("expected sequence {}, found {sequence}", session.due);
            self.reject(connection, &Rejection { cause, detail: detail.into() }, 0, now);
            self.frames_lost(session, sequence - 1, Reason::Rejected(cause), time);
        }
        session.due = session.due.max(sequence.saturating_add(1));
        sequence
    }

    /// Frames are lost, the last of them at `place`: a snapshot that is announced has begun if one
    /// of them is fresh, for it may have been the first part.
    fn frames_lost(&mut self, session: &mut Session, place: u64, reason: Reason, time: Micros) {
        if session.announced && place >= session.fresh {
            self.begin_snapshot(session, false, time);
        }
        session.lack_frames();
        self.open_gap(session, Scope::Router, session.counted_at, reason, time);
    }

    /// A document of another router than the session's: none of ours, so no gap.
    fn foreign_unit(
        &mut self,
        connection: &mut Connection,
        session: &Session,
        unit: &Unit,
        now: Now,
    ) -> Flow {
        let cause = Cause::ForeignRouter;
        let count = unit_mappings(unit);
        connection.books.open.mappings_framed += count;
        connection.books.open.reject(cause, 0, count);
        self.counters.add(Metric::MappingsFramed, count);
        self.counters.reject(cause, 0, count);
        let found = unit.router.map(|router| router.to_string()).unwrap_or_default();
        let detail = format!("expected router-id {}, found {found}", session.router);
        self.notice(connection, cause, &detail, now);
        self.spend_budget(connection, 1)
    }

    fn apply_mappings(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        unit: &mut Unit,
        place: Position,
        (evidence, time): (Micros, Micros),
        now: Now,
    ) -> Flow {
        let decoder_bytes = connection.decoder.table_bytes();
        self.refuse_growth(session, unit, decoder_bytes);
        let inferred = matches!(session.snapshot, Snapshot::Open { inferred: true, .. });
        let shown = unit.snapshot != SnapshotMark::None || inferred;
        let basis = if shown { Basis::Snapshot } else { Basis::Live };
        let mut arrival = Arrival { position: place, collection_time: time, basis };
        for mapping in &mut unit.mappings {
            if mapping.time_source == TimeSource::Collector {
                mapping.event_time = time;
            }
        }
        let mut odd = OddCounts::default();
        let builder = self.commit.builder();
        let on_change = &mut |stamp: &Stamp, mapping: &Mapping| {
            builder.change(stamp, mapping);
            odd.count(stamp);
        };
        let Unit { mappings, .. } = &*unit;
        let changes = session.state.apply_all(&mut self.round, mappings, &mut arrival, on_change);
        self.recount(session, decoder_bytes);
        self.commit.change_rows += changes;
        let framed = unit_mappings(unit);
        let confirmed = unit.mappings.len() as u64 - changes - self.refuse_unnamed(unit);
        let open = &mut connection.books.open;
        open.mappings_framed += framed;
        open.changes += changes;
        open.confirmed += confirmed;
        self.counters.add(Metric::MappingsFramed, framed);
        self.counters.add(Metric::Changes, changes);
        self.counters.add(Metric::Confirmed, confirmed);
        self.counters.add(Metric::ClockBackwards, odd.backwards);
        self.counters.add(Metric::ClockFar, odd.far);
        self.counters.add(Metric::ReservedLabels, odd.reserved);
        if let Some(last) = unit.mappings.last()
            && basis == Basis::Live
            && last.time_source == TimeSource::Router
        {
            Delay::note(&mut connection.delay, time.since(last.event_time));
        }
        session.state.position = session.state.position.max(place);
        self.mappings_rejected(connection, session, unit, &arrival, evidence, now)
    }

    /// FTN entries of the FEC `unknown` share one key: a second one cannot stand beside the first,
    /// and must not take its place in silence.
    fn refuse_unnamed(&mut self, unit: &mut Unit) -> u64 {
        let refused = std::mem::take(&mut self.round.refused);
        let count = refused.len() as u64;
        unit.rejected.extend(refused.into_iter().map(|key| {
            RejectedMapping {
            cause: Cause::FecUnnamed,
            key: Some(key),
            detail: format!(
                "{key}: expected one entry of a FEC without name, found another: give each a name"
            )
            .into(),
        }
        }));
        count
    }

    /// Mappings that were rejected alone: their entries cannot be vouched for.
    fn mappings_rejected(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        unit: &Unit,
        arrival: &Arrival,
        evidence: Micros,
        now: Now,
    ) -> Flow {
        let (basis, time) = (arrival.basis, arrival.collection_time);
        let by_peer = unit.rejected.iter().filter(|rejected| rejected.cause != Cause::TableFull);
        let by_peer = by_peer.count() as u64;
        // The session is over by it: one gap of the router instead of one row per mapping.
        let is_over = connection.rejected + by_peer > self.settings.rejected_budget;
        if is_over {
            let reason = Reason::Rejected(Cause::RejectedBudget);
            self.open_gap(session, Scope::Router, evidence, reason, time);
        }
        for rejected in &unit.rejected {
            let cause = rejected.cause;
            connection.books.open.reject(cause, 0, 1);
            self.counters.reject(cause, 0, 1);
            self.notice(connection, cause, &rejected.detail, now);
            // Another router's mapping is none of ours.
            if cause == Cause::ForeignRouter || is_over {
                continue;
            }
            let scope = scope_of(rejected, session, basis);
            if !session.state.gaps.is_open(&scope) {
                self.open_gap(session, scope, evidence, Reason::Rejected(cause), time);
            }
        }
        self.spend_budget(connection, by_peer)
    }

    /// A frame was rejected and its boundary is known: what it said is lost.
    pub(crate) fn frame_rejected(
        &mut self,
        connection: &mut Connection,
        cause: Cause,
        sequence: Option<u64>,
        time: Micros,
        now: Now,
    ) -> Flow {
        let phase = std::mem::replace(&mut connection.phase, Phase::Nameless);
        let Phase::Speaking(mut session) = phase else {
            connection.phase = phase;
            // Without a hello there is no session that frames could belong to.
            let framed = connection.decoder.mode() == Some(InputMode::Framed);
            let over = Flow::Over(Reason::Rejected(cause));
            return if framed { over } else { self.spend_budget(connection, 1) };
        };
        self.commit.touch(now);
        let known = sequence.filter(|_| session.mode == InputMode::Framed);
        let place = self.take_place(connection, &mut session, sequence, time, now);
        let seen = known.is_some() && place <= session.state.sequence_last;
        if !seen {
            self.frames_lost(&mut session, place, Reason::Rejected(cause), time);
        }
        session.counted_at = time;
        session.state.note_counted(time);
        if let Some(sequence) = known {
            session.state.sequence_last = session.state.sequence_last.max(sequence);
            if session.acks {
                // The gap row is durable before the sender lets go of the frame.
                self.commit.acknowledge(connection, sequence);
                self.counters.add(Metric::AcksPushed, 1);
            }
        }
        connection.phase = Phase::Speaking(session);
        self.spend_budget(connection, 1)
    }

    fn spend_budget(&mut self, connection: &mut Connection, count: u64) -> Flow {
        connection.rejected += count;
        if connection.rejected > self.settings.rejected_budget {
            let cause = Cause::RejectedBudget;
            self.counters.reject(cause, 0, 0);
            return Flow::Over(Reason::Rejected(cause));
        }
        Flow::On
    }
}

/// What nobody can vouch for any more, because this mapping was not applied.
fn scope_of(rejected: &RejectedMapping, session: &Session, basis: Basis) -> Scope {
    let state = &session.state;
    match rejected.key {
        // A key that has no entry, and gets none for want of room.
        Some(key) if rejected.cause == Cause::TableFull && state.table.get(&key).is_none() => {
            Scope::Rest
        }
        Some(key) => Scope::Entry(key),
        // A snapshot names each entry once: it was none of those that it has shown.
        None if basis == Basis::Snapshot => Scope::Rest,
        // Of a route whose attributes can be read at all, what no key can have is no entry's key.
        None if session.mode == InputMode::Fpm => Scope::Rest,
        // A change of nobody knows which entry.
        None => Scope::Router,
    }
}

/// What is odd about the changes of one unit.
#[derive(Debug, Default)]
struct OddCounts {
    backwards: u64,
    far: u64,
    reserved: u64,
}

impl OddCounts {
    fn count(&mut self, stamp: &Stamp) {
        if stamp.flags == Flags::default() {
            return;
        }
        self.backwards += u64::from(stamp.flags.contains(Flags::CLOCK_BACKWARDS));
        self.far += u64::from(stamp.flags.contains(Flags::CLOCK_FAR));
        self.reserved += u64::from(stamp.flags.contains(Flags::RESERVED_LABEL));
    }
}
