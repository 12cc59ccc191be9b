//! What is known of one router: its table, its session, its gaps, and where its rows have got to.
//!
//! In:   the router's rows in `Position` order, or live traffic through the methods that make rows.
//! Out:  `RouterState`; the fold is one for the running collector, recovery, and history.
//! Law:  a state folded from the rows that it gave answers as the state that gave them; a snapshot
//!       does not vouch for what could not be read of it.
//! Not:  who may speak for a router (engine), what an entry becomes (`table`).

use std::net::{IpAddr, SocketAddr};

use crate::gaps::{Gaps, Since};
use crate::history::course;
use crate::interface::Interface;
use crate::mapping::{Mapping, RouterId, TimeSource};
use crate::row::{
    Basis, Change, InputMode, LedgerRow, Position, Reason, Row, Scope, SessionEvent, SessionRow,
    Stamp,
};
use crate::table::{Applied, Arrival, Round, RouterTable, SnapshotCounts, SnapshotEnd};
use crate::time::Micros;

#[cfg(test)]
mod tests;

/// A gap that no complete snapshot has ended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenGap {
    /// The last evidence from the router: the interval begins here.
    pub start: Micros,
    /// What happened.
    pub reason: Reason,
}

impl Since for OpenGap {
    fn start(&self) -> Micros {
        self.start
    }
}

/// A session without a termination row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// How its bytes are read.
    pub mode: InputMode,
    /// Whether it is meant to stay open.
    pub permanent: bool,
    /// When it began, by the collector's clock.
    pub begun: Micros,
    /// Agent name and version, or empty.
    pub agent: Box<str>,
}

/// How the last session that is over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedSession {
    /// When the collector noticed.
    pub time: Micros,
    /// Why.
    pub reason: Reason,
}

/// Everything that the rows of one router say together.
#[derive(Clone, Debug)]
pub struct RouterState {
    /// The router.
    pub router: RouterId,
    /// Its label table.
    pub table: RouterTable,
    /// Position of its last row.
    pub position: Position,
    /// When its sender booted, as the last hello said.
    pub boot_time: Option<Micros>,
    /// Last sequence of that boot whose rows are in the log; 0 = none.
    pub sequence_last: u64,
    /// Latest sign of life that a row bears witness of, by the collector's clock.
    pub last_evidence: Option<Micros>,
    /// When the last unit came that has a place in the order of its session, as far as rows bear
    /// witness of it: of frames that are missing behind it nothing later says anything.
    pub counted: Option<Micros>,
    /// Since when the collector cannot vouch for it, or for parts of it.
    pub gaps: Gaps<OpenGap>,
    /// The session that is open.
    pub session: Option<OpenSession>,
    /// How the one before ended.
    pub ended: Option<EndedSession>,
    /// When its latest snapshot was complete; `None` = its table has never been known in full.
    pub complete: Option<Micros>,
    /// Name from the settings, or empty.
    pub name: Box<str>,
    /// Interfaces from the settings.
    pub interfaces_configured: Vec<Interface>,
    /// Interfaces that its last hello announced.
    pub interfaces_announced: Vec<Interface>,
    /// How far its clock is ahead of the collector's, at least, in microseconds; negative = it is
    /// behind, by so much at most. The largest of (its clock - ours) that hello or a change of the
    /// session has shown: a message takes time, so the difference is never too large. `None` = the
    /// session has said no time.
    pub skew_us: Option<i64>,
    /// Last moment up to which the router had been vouched for: what the snapshot that comes next
    /// shows as changed did not change before.
    pub(crate) not_before: Option<Micros>,
    /// First generation of the boot that `sequence_last` belongs to.
    pub(crate) boot_generation: u32,
    /// Index of the last `Configured` row.
    pub(crate) configured: u32,
    /// Memory of the interfaces.
    interfaces_bytes: usize,
}

impl RouterState {
    /// A router of which nothing is known.
    pub fn new(router: RouterId) -> RouterState {
        RouterState {
            router,
            table: RouterTable::new(router),
            position: Position::default(),
            boot_time: None,
            sequence_last: 0,
            last_evidence: None,
            counted: None,
            gaps: Gaps::default(),
            session: None,
            ended: None,
            complete: None,
            name: Box::default(),
            interfaces_configured: Vec::new(),
            interfaces_announced: Vec::new(),
            skew_us: None,
            not_before: None,
            boot_generation: 0,
            configured: 0,
            interfaces_bytes: 0,
        }
    }

    /// Sums up what the interfaces take: whenever they are set.
    pub(crate) fn count_interfaces(&mut self) {
        self.interfaces_bytes = self.interfaces().map(Interface::memory_bytes).sum();
    }

    /// Its interfaces, as hello announced and as the settings name them.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces_announced.iter().chain(&self.interfaces_configured)
    }

    /// Whether the router owns this address: its id, an announced or a configured one.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.router.0 == address
            || self.interfaces().any(|interface| interface.address == Some(address))
    }

    /// Memory of what peers and operators say of it beside its table: interfaces and a name. O(1).
    pub fn beside_table_bytes(&self) -> usize {
        self.interfaces_bytes + self.name.len()
    }

    /// Memory that it takes, in bytes, estimated from capacities and counts. O(1).
    pub fn memory_bytes(&self) -> u64 {
        let bytes = size_of::<RouterState>()
            + self.table.bytes()
            + self.gaps.beyond_bytes()
            + self.interfaces_bytes
            + self.name.len();
        bytes as u64
    }

    /// Folds a row of this router in; rows of others, and kernel samples, are ignored.
    ///
    /// Change and session rows must come in `Position` order; ledger rows anywhere behind the
    /// initiation of their generation (behind all others, for instance).
    pub fn replay(&mut self, row: &Row) {
        match row {
            Row::Change(change) if change.stamp.router == self.router => self.replay_change(change),
            Row::Session(session) => self.replay_session(session),
            Row::Ledger(ledger) if ledger.router == Some(self.router) => self.replay_ledger(ledger),
            Row::Change(_) | Row::Ledger(_) | Row::Kernel(_) => {}
        }
    }

    /// Folds a change row of this router in.
    pub fn replay_change(&mut self, change: &Change) {
        self.table.replay(&change.stamp, &change.mapping);
        self.note_change(&change.stamp, &change.mapping);
    }

    /// Folds a session row in, if it is this router's. The running collector calls it for every
    /// session row that it writes, so that recovery finds what the collector knew.
    pub fn replay_session(&mut self, row: &SessionRow) {
        if row.router != self.router {
            return;
        }
        self.position = self.position.max(row.position);
        if course::time_of_session(row).is_some() {
            self.table.read_at(row.time);
        }
        match &row.event {
            SessionEvent::Configured { name, interfaces } => {
                self.configured = self.configured.max(row.position.index);
                self.name.clone_from(name);
                self.interfaces_configured.clone_from(interfaces);
                self.count_interfaces();
            }
            SessionEvent::Initiation { .. } => self.begin_session(row),
            SessionEvent::SnapshotBegin => {
                self.note_evidence(row.time);
                self.gaps.begin_snapshot(row.time);
            }
            SessionEvent::SnapshotComplete { .. } => self.end_snapshot(row.time),
            SessionEvent::Gap { start, scope, reason } => {
                self.open_gap(*scope, OpenGap { start: *start, reason: *reason });
            }
            SessionEvent::Termination { reason } => {
                if matches!(reason, Reason::Finished | Reason::ClosedByRouter) {
                    self.note_evidence(row.time);
                }
                self.session = None;
                self.gaps.abandon_snapshot();
                self.ended = Some(EndedSession { time: row.time, reason: *reason });
                self.table.abandon_snapshot();
            }
        }
    }

    /// Folds a ledger row of this router in.
    pub fn replay_ledger(&mut self, row: &LedgerRow) {
        if row.bytes_framed > 0 {
            self.note_evidence(row.time);
        }
        if row.sequence_last == 0 || row.generation < self.boot_generation {
            return;
        }
        self.sequence_last = self.sequence_last.max(row.sequence_last);
    }

    /// The place of a row that no frame caused: behind everything so far. Taken by the call.
    pub fn next_position(&mut self) -> Position {
        self.position.index = self.position.index.saturating_add(1);
        self.position
    }

    /// Applies a mapping to the table and notes where it came. A key that could not be vouched for
    /// is vouched for again by whatever the router says of it.
    pub fn apply(&mut self, mapping: &Mapping, arrival: &Arrival) -> Applied {
        let applied = self.table.apply(mapping, arrival);
        match &applied {
            Applied::Change(stamp) => self.note_change(stamp, mapping),
            Applied::Confirmed | Applied::Refused => self.note_evidence(arrival.collection_time),
        }
        applied
    }

    /// Applies the mappings of one frame, in order: `RouterTable::apply_all`, and what `apply`
    /// notes.
    pub fn apply_all(
        &mut self,
        round: &mut Round,
        mappings: &[Mapping],
        arrival: &mut Arrival,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) -> u64 {
        if mappings.is_empty() {
            return 0;
        }
        let RouterState { table, gaps, skew_us, .. } = self;
        let changes = table.apply_all(round, mappings, arrival, &mut |stamp, mapping| {
            gaps.changed(|| mapping.key());
            note_skew(skew_us, stamp, mapping);
            on_change(stamp, mapping);
        });
        if changes > 0 {
            table.read_at(arrival.collection_time);
            let index = arrival.position.index.saturating_sub(1);
            self.position = self.position.max(Position { index, ..arrival.position });
        }
        self.note_evidence(arrival.collection_time);
        changes
    }

    /// Begins a snapshot, with the last moment vouched for as the earliest time of what it shows.
    /// The caller writes the `SnapshotBegin` row.
    pub fn begin_snapshot(&mut self) {
        let gap_start = self.gaps.router.map(|gap| gap.start);
        self.table.begin_snapshot(gap_start.or(self.not_before));
    }

    /// Ends the snapshot under way; rows go to `on_change`, in order, and take the next positions.
    /// Returns the `SnapshotComplete` row, which the caller writes behind them.
    ///
    /// What could not be read may have been any entry that was not shown: then nothing is
    /// withdrawn, whoever says that the snapshot is complete.
    pub fn complete_snapshot(
        &mut self,
        explicit: bool,
        collection_time: Micros,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) -> SessionRow {
        let end = match (self.gaps.snapshot_may_lack_entries(), explicit) {
            (true, _) => SnapshotEnd::InPart,
            (false, false) => SnapshotEnd::Inferred,
            (false, true) => SnapshotEnd::Explicit,
        };
        let mut arrival = self.derived_arrival(collection_time);
        let counts = self.table.complete_snapshot(end, &mut arrival, on_change);
        self.take_positions(arrival.position);
        let SnapshotCounts { confirmed, added, altered, vanished } = counts;
        let explicit = end == SnapshotEnd::Explicit;
        let event =
            SessionEvent::SnapshotComplete { explicit, confirmed, added, altered, vanished };
        self.session_row(collection_time, event)
    }

    /// Withdraws entries whose hold has run out; positions as in `complete_snapshot`. While nobody
    /// can vouch that the table has every entry, none is withdrawn: that it was lacking says
    /// nothing.
    pub fn expire_unconfirmed(
        &mut self,
        hold_us: i64,
        collection_time: Micros,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) -> u64 {
        if self.holds_unconfirmed() {
            return 0;
        }
        let mut arrival = self.derived_arrival(collection_time);
        let count = self.table.expire_unconfirmed(hold_us, &mut arrival, on_change);
        self.take_positions(arrival.position);
        count
    }

    /// Whether entries stay unconfirmed, however long they have been.
    pub fn holds_unconfirmed(&self) -> bool {
        self.gaps.router.is_some() || self.gaps.rest.is_some()
    }

    /// Makes the session row of this event, behind everything so far, and folds it in.
    pub fn session_row(&mut self, time: Micros, event: SessionEvent) -> SessionRow {
        let position = match &event {
            // A new session opens a new generation; its frames count from there.
            SessionEvent::Initiation { .. } => Position {
                generation: self.position.generation.saturating_add(1),
                ..Position::default()
            },
            // The settings speak outside every session: generation 0, counted on its own.
            SessionEvent::Configured { .. } => {
                Position { index: self.configured.saturating_add(1), ..Position::default() }
            }
            _ => self.next_position(),
        };
        let row = SessionRow { router: self.router, position, time, event };
        self.replay_session(&row);
        row
    }

    fn derived_arrival(&self, collection_time: Micros) -> Arrival {
        let index = self.position.index.saturating_add(1);
        let position = Position { index, ..self.position };
        Arrival { position, collection_time, basis: Basis::Swept }
    }

    /// `free` is the first position that the rows left.
    fn take_positions(&mut self, free: Position) {
        self.position.index = free.index.saturating_sub(1).max(self.position.index);
    }

    fn note_evidence(&mut self, time: Micros) {
        self.last_evidence = self.last_evidence.max(Some(time));
    }

    /// A unit came that has a place in the order of its session.
    pub fn note_counted(&mut self, time: Micros) {
        self.counted = self.counted.max(Some(time));
    }

    fn note_change(&mut self, stamp: &Stamp, mapping: &Mapping) {
        self.position = self.position.max(stamp.position);
        if stamp.basis != Basis::Swept {
            self.note_evidence(stamp.collection_time);
            self.note_counted(stamp.collection_time);
        }
        self.table.read_at(stamp.collection_time);
        self.gaps.changed(|| mapping.key());
        note_skew(&mut self.skew_us, stamp, mapping);
    }

    /// The full table has been read: what could not be vouched for when it began can be now, and
    /// what could not be read since cannot.
    fn end_snapshot(&mut self, time: Micros) {
        self.note_evidence(time);
        self.note_counted(time);
        self.complete = Some(time);
        self.not_before = Some(time);
        let (begun, is_full) = self.gaps.end_snapshot(time, &mut |_| {});
        self.table.prove(begun, is_full, self.gaps.keys.keys());
        self.table.keep_doubts(|key| self.gaps.keys.contains_key(key));
    }

    fn open_gap(&mut self, scope: Scope, gap: OpenGap) {
        if let Scope::Entry(key) = &scope {
            self.table.doubt(key);
        }
        self.gaps.open(scope, gap);
    }

    fn begin_session(&mut self, row: &SessionRow) {
        let SessionEvent::Initiation { peer, mode, permanent, boot_time, clock, interfaces, agent } =
            &row.event
        else {
            return;
        };
        self.gaps.abandon_snapshot();
        self.skew_us = clock.map(|clock| clock.since(row.time));
        self.table.abandon_snapshot();
        self.not_before = self.last_evidence;
        self.note_evidence(row.time);
        if boot_time.is_some() && *boot_time != self.boot_time {
            self.boot_time = *boot_time;
            self.boot_generation = row.position.generation;
            self.sequence_last = 0;
        }
        if !interfaces.is_empty() {
            self.interfaces_announced.clone_from(interfaces);
            self.count_interfaces();
        }
        self.session = Some(OpenSession {
            peer: *peer,
            mode: *mode,
            permanent: *permanent,
            begun: row.time,
            agent: agent.clone(),
        });
    }
}

#[inline]
fn note_skew(skew_us: &mut Option<i64>, stamp: &Stamp, mapping: &Mapping) {
    if mapping.time_source == TimeSource::Router {
        let ahead_us = mapping.event_time.since(stamp.collection_time);
        *skew_us = (*skew_us).max(Some(ahead_us));
    }
}
