//! Session: how a session begins, how its snapshot begins and ends, and how it is over.
//!
//! In:   a connection and the state of its router; the reason why it ends.
//! Out:  the session rows; the state, back at its home.
//! Law:  an end that is not clean leaves a gap, from the last evidence on.
//! Not:  the mappings (`apply`), and who gets the router next (`claim`).

use storage::router::RouterState;
use storage::row::{Cause, InputMode, Reason, Scope, SessionEvent};
use storage::time::Micros;

use super::Shard;
use super::claim::Slot;
use super::connection::{Claiming, Connection, Phase, Session, Snapshot};
use super::digest::Flow;
use super::reserve::Size;
use super::timers::Timer;
use crate::io::{ConnectionId, Now, Op};
use crate::metrics::Metric;
use crate::wire::{Hello, Unit, UnitKind};

impl Shard {
    /// The router's state is here: the session begins, and its first unit is applied.
    pub(crate) fn begin_session(
        &mut self,
        id: ConnectionId,
        mut state: Box<RouterState>,
        counted: Size,
        now: Now,
    ) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        let held_before = connection.held_bytes();
        let phase = std::mem::replace(&mut connection.phase, Phase::Nameless);
        let Phase::Claiming(claiming) = phase else {
            unreachable!("a state is served to a connection that claims it");
        };
        let Claiming { router, mut unit, time } = *claiming;
        if let UnitKind::Hello(hello) = &mut unit.kind
            && !self.has_room_for_interfaces(hello)
        {
            let count = std::mem::take(&mut hello.interfaces).len();
            let detail = format!(
                "expected room for {count} interfaces of {router}, found none: memory_bytes is \
                 spent by tables; traces to their addresses answer unknown"
            );
            self.notice(&connection, Cause::TableFull, &detail, now);
        }
        let hello = match &unit.kind {
            UnitKind::Hello(hello) => Some(hello),
            _ => None,
        };
        let lost = hello.is_some_and(|hello| frames_are_lost(&state, hello));
        let evidence = state.last_evidence.unwrap_or(time);
        let counted_last = state.counted.unwrap_or(evidence);
        let mode = connection.decoder.mode().unwrap_or(InputMode::Plain);
        let permanent = hello.map_or(mode == InputMode::Fpm, |hello| hello.permanent);
        let row = state.session_row(time, initiation(&connection, mode, permanent, hello));
        self.commit.session(&row);
        self.counters.add(Metric::SessionsBegun, 1);
        self.registry.named(connection.peer, router);
        let mut session = Session {
            router,
            generation: row.position.generation,
            state,
            counted,
            mode,
            permanent,
            acks: hello.is_some_and(|hello| hello.acks),
            begun: time,
            counted_at: evidence,
            due: hello.map_or(0, |hello| hello.sequence_first),
            fresh: hello.map_or(0, |hello| hello.sequence_fresh),
            announced: hello.is_some_and(|hello| hello.snapshot),
            snapshot: Snapshot::Closed,
        };
        if lost {
            self.open_gap(
                &mut session,
                Scope::Router,
                counted_last,
                Reason::Rejected(Cause::SequenceBroken),
                time,
            );
        }
        let begins = session.announced && session.fresh <= session.due;
        if begins || mode == InputMode::Fpm {
            self.begin_snapshot(&mut session, mode == InputMode::Fpm, time);
        }
        if mode == InputMode::Fpm {
            let due_us = connection.heard_us + self.settings.snapshot_quiet_us;
            self.timers.insert(due_us, Timer::Quiet(id));
        }
        let is_hello = hello.is_some();
        self.recount(&mut session, 0);
        let entries = (session.announced || session.snapshot != Snapshot::Closed)
            .then(|| session.state.table.len());
        connection.phase = Phase::Speaking(Box::new(session));
        self.commit.touch(now);
        self.mark_dirty(&mut connection);
        self.unit = unit;
        self.expect_snapshot(&mut connection, entries, now);
        if !is_hello && let Flow::Over(reason) = self.apply_unit(&mut connection, time, now) {
            self.finish(&mut connection, reason, now);
        }
        self.surge_changed(held_before, connection.held_bytes());
        self.connections.insert(connection);
    }

    /// The router begins to send its full table.
    pub(crate) fn begin_snapshot(&mut self, session: &mut Session, inferred: bool, time: Micros) {
        session.announced = false;
        session.snapshot = Snapshot::Open { inferred, lacks_frames: false };
        session.state.begin_snapshot();
        let row = session.state.session_row(time, SessionEvent::SnapshotBegin);
        self.commit.session(&row);
        self.counters.add(Metric::SnapshotsBegun, 1);
    }

    /// The full table has been read, as the router says or as a quiet time shows.
    ///
    /// A snapshot that lacks frames vouches for nothing: they may have told changes of entries that
    /// it had shown before. What single mappings that could not be read mean, the state knows.
    pub(crate) fn complete_snapshot(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        explicit: bool,
        time: Micros,
        now: Now,
    ) {
        let Snapshot::Open { lacks_frames, .. } = session.snapshot else { return };
        session.snapshot = Snapshot::Closed;
        self.snapshot_came(connection, session.state.table.len(), now);
        if lacks_frames {
            session.state.table.abandon_snapshot();
            return;
        }
        let builder = self.commit.builder();
        let mut derived = 0;
        let row = session.state.complete_snapshot(explicit, time, &mut |stamp, mapping| {
            builder.change(stamp, mapping);
            derived += 1;
        });
        self.commit.change_rows += derived;
        connection.books.open.derived += derived;
        self.counters.add(Metric::Derived, derived);
        self.recount(session, connection.decoder.table_bytes());
        self.commit.session(&row);
        self.counters.add(Metric::SnapshotsCompleted, 1);
    }

    /// From `start` on nothing vouches for what the scope names.
    pub(crate) fn open_gap(
        &mut self,
        session: &mut Session,
        scope: Scope,
        start: Micros,
        reason: Reason,
        time: Micros,
    ) {
        // The clock may have been set back since the last evidence.
        let start = start.min(time);
        let row = session.state.session_row(time, SessionEvent::Gap { start, scope, reason });
        self.commit.session(&row);
        self.counters.add(Metric::Gaps, 1);
    }

    /// Nothing more is read from this connection; what was read is digested, then it is over.
    pub(crate) fn end_reading(&mut self, id: ConnectionId, reason: Reason) {
        self.pause_receive(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.is_live() {
            connection.ended.get_or_insert(reason);
            connection.needed = 0;
            self.enqueue(id);
        }
    }

    /// The connection is over: settles its books, ends its session, and closes it when everything
    /// of it is durable. The connection is not in `connections` meanwhile.
    pub(crate) fn finish(&mut self, connection: &mut Connection, reason: Reason, now: Now) {
        let cause = match reason {
            Reason::Rejected(cause) => cause,
            _ => connection.cut_short.unwrap_or(Cause::Truncated),
        };
        self.take_coming(connection);
        self.end_turn_of(connection);
        let rest = connection.surge.clear();
        if rest > 0 {
            connection.books.open.reject(cause, rest, 0);
            let counted = matches!(reason, Reason::Rejected(_)) || connection.cut_short.is_some();
            if counted {
                self.counters.reject_rest(cause, rest);
            } else {
                self.counters.reject(cause, rest, 0);
            }
            self.counters.add(Metric::SurgePoppedBytes, rest);
        }
        let cut = rest > 0 || connection.cut_short.is_some();
        if connection.receiving && !connection.silent {
            connection.receiving = false;
            self.ops.push_back(Op::PauseReceive { connection: connection.id });
        }
        let reset = matches!(reason, Reason::Rejected(_));
        let phase = std::mem::replace(&mut connection.phase, Phase::Closed(cause));
        match phase {
            Phase::Speaking(session) => self.end_session(connection, *session, reason, cut, now),
            Phase::Claiming(claiming) => {
                self.unit = claiming.unit;
                self.count_unit_rejected(connection, cause);
                self.settle_with(connection, None, 0, 0, now.wall);
            }
            Phase::Nameless => self.settle_with(connection, None, 0, 0, now.wall),
            Phase::Closing { .. } | Phase::Closed(_) => return,
        }
        self.commit.touch(now);
        let after = self.commit.covering();
        connection.phase = Phase::Closing { after, reset, cause };
        self.closing.push(connection.id);
        self.closing_looked = None;
    }

    fn end_session(
        &mut self,
        connection: &mut Connection,
        mut session: Session,
        reason: Reason,
        cut: bool,
        now: Now,
    ) {
        let in_order = matches!(reason, Reason::Finished | Reason::ClosedByRouter) && !cut;
        let clean = in_order && !session.permanent;
        let (reason, time) = match (clean, in_order) {
            (true, _) => (Reason::Finished, connection.heard),
            (false, true) => (reason, connection.heard),
            (false, false) => (reason, now.wall),
        };
        // TCP has delivered everything that was sent before a FIN: until then it was vouched for.
        let evidence = session.state.last_evidence.unwrap_or(session.begun);
        // The clock may have been ahead when the router was heard, and is right since.
        let evidence = evidence.min(connection.heard);
        let start = if in_order { connection.heard } else { evidence };
        let row = session.state.session_row(time, SessionEvent::Termination { reason });
        self.commit.session(&row);
        if !clean {
            self.open_gap(&mut session, Scope::Router, start, reason, time);
            // A bye with nothing left behind it is no break: the router meant to go.
            let meant = (reason == Reason::Finished && in_order)
                || matches!(reason, Reason::CollectorStopped | Reason::Superseded);
            self.counters.add(Metric::SessionsBroken, u64::from(!meant));
        }
        self.counters.add(Metric::SessionsEnded, 1);
        self.registry.gone(connection.peer);
        if reason == Reason::Superseded {
            self.counters.add(Metric::SessionsSuperseded, 1);
        }
        let (router, last) = (Some(session.router), session.state.sequence_last);
        let time = settled_at(connection, &session.state, now.wall);
        self.settle_with(connection, router, session.generation, last, time);
        // What the decoder kept is gone with the session.
        self.recount(&mut session, 0);
        if let Some(home) = self.homes.get_mut(&session.router) {
            home.counted = session.counted;
            home.slot = Slot::Idle(session.state);
        }
        self.freed.push(session.router);
    }

    /// Closes the books of a session into the block that collects.
    pub(crate) fn settle_books(&mut self, connection: &mut Connection, time: Micros) {
        let Phase::Speaking(session) = &connection.phase else {
            connection.dirty = false;
            return;
        };
        let (router, generation) = (Some(session.router), session.generation);
        let sequence_last = session.state.sequence_last;
        let time = settled_at(connection, &session.state, time);
        self.settle_with(connection, router, generation, sequence_last, time);
    }

    fn settle_with(
        &mut self,
        connection: &mut Connection,
        router: Option<storage::mapping::RouterId>,
        generation: u32,
        sequence_last: u64,
        time: Micros,
    ) {
        connection.dirty = false;
        if let Some(row) = connection.books.settle(router, generation, sequence_last, time) {
            self.commit.ledger(&row);
        }
    }

    /// A batch is durable: connections that waited for it close, routers promised are given.
    pub(crate) fn batch_is_durable(&mut self, now: Now) {
        self.close_finished();
        self.give_all_durable(now);
    }

    /// Closes every connection whose last row is durable and whose last ack is on its way.
    ///
    /// Looks at them only when one has joined or a batch has become durable: thousands may close at
    /// once, and this runs with every slice.
    pub(crate) fn close_finished(&mut self) {
        let durable = Some(self.commit.durable());
        if self.closing_looked == durable {
            return;
        }
        for id in std::mem::take(&mut self.closing) {
            let Some(connection) = self.connections.get_mut(id) else {
                self.closing.push(id);
                continue;
            };
            let Phase::Closing { after, reset, cause } = connection.phase else { continue };
            if self.commit.is_durable(after) {
                connection.phase = Phase::Closed(cause);
                self.ops.push_back(Op::Close { connection: id, reset });
            } else {
                self.closing.push(id);
            }
        }
        self.closing_looked = durable;
    }

    /// Ends a connection that still waits for its router's state.
    pub(crate) fn finish_if_claiming(&mut self, id: ConnectionId, now: Now) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        if matches!(connection.phase, Phase::Claiming(_)) {
            let held_before = connection.held_bytes();
            self.finish(&mut connection, Reason::CollectorStopped, now);
            self.surge_changed(held_before, connection.held_bytes());
        }
        self.connections.insert(connection);
        self.close_finished();
    }

    /// The mappings of the unit at hand are rejected: their bytes are framed already.
    pub(crate) fn count_unit_rejected(&mut self, connection: &mut Connection, cause: Cause) {
        let count = unit_mappings(&self.unit);
        connection.books.open.mappings_framed += count;
        connection.books.open.reject(cause, 0, count);
        self.counters.add(Metric::MappingsFramed, count);
        self.counters.reject(cause, 0, count);
    }
}

/// The time of a ledger row: whoever recovers takes what was framed for evidence of the router, so
/// it is that of the last unit, however long that has waited for a block.
fn settled_at(connection: &Connection, state: &RouterState, now: Micros) -> Micros {
    let evidence = state.last_evidence.filter(|_| connection.books.open.bytes_framed > 0);
    evidence.map_or(now, |evidence| evidence.min(now))
}

/// How many mappings a unit brought, the rejected ones included.
pub(crate) fn unit_mappings(unit: &Unit) -> u64 {
    (unit.mappings.len() + unit.rejected.len()) as u64
}

/// Whether the same boot of the sender goes on behind frames that never came.
fn frames_are_lost(state: &RouterState, hello: &Hello) -> bool {
    state.boot_time == Some(hello.boot_time)
        && state.sequence_last > 0
        && hello.sequence_first > state.sequence_last.saturating_add(1)
}

fn initiation(
    connection: &Connection,
    mode: InputMode,
    permanent: bool,
    hello: Option<&Hello>,
) -> SessionEvent {
    SessionEvent::Initiation {
        peer: connection.peer,
        mode,
        permanent,
        boot_time: hello.map(|hello| hello.boot_time),
        clock: hello.map(|hello| hello.clock),
        interfaces: hello.map(|hello| hello.interfaces.clone()).unwrap_or_default(),
        agent: hello.map(|hello| hello.agent.clone()).unwrap_or_default(),
    }
}
