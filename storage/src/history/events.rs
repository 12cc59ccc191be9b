//! What happened to a router's entries: changes in order, with the gaps between them.
//!
//! In:   a router's rows in `Position` order, and which entries are asked for.
//! Out:  `Event`s by time: change rows as they are, gaps with their beginning and end.
//! Law:  a gap is in the list wherever it overlaps what was asked for, however late it was written.
//! Not:  what stood at one instant (`network`).

use std::collections::BTreeSet;
use std::path::Path;

use super::network::Writer;
use crate::allowance::Allowance;
use crate::gaps::{Doubts, Gaps, Since};
use crate::log::state::{Plan, States};
use crate::log::{self, Filter, LogError, ReadReport, Told};
use crate::mapping::{Fec, Ingress, Key, Label, Mapping, Origin, RouterId};
use crate::router::{OpenGap, RouterState};
use crate::row::{Change, Position, Reason, Row, Scope, SessionEvent, SessionRow};
use crate::time::{Hour, Micros};

#[cfg(test)]
mod tests;

/// Which entries of a router are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// All of them.
    All,
    /// Those that a packet with this label meets.
    Label {
        /// The label.
        label: Label,
        /// The label table, 0 = the platform's; `None` = any.
        table: Option<u32>,
    },
    /// Those that a packet without label meets.
    Unlabelled,
    /// Those for this FEC.
    Fec(Fec),
}

impl Selector {
    fn selects(&self, mapping: &Mapping) -> bool {
        match self {
            Selector::All => true,
            Selector::Label { label, table } => {
                let Ingress { label: of, origin } = mapping.ingress;
                of == Some(*label) && table.is_none_or(|table| is_in_table(origin, table))
            }
            Selector::Unlabelled => mapping.ingress.label.is_none(),
            Selector::Fec(fec) => mapping.fec == *fec,
        }
    }

    fn selects_key(&self, key: &Key) -> bool {
        match (self, key) {
            (Selector::All, _) => true,
            (Selector::Label { label: asked, table }, Key::Ilm(label, origin)) => {
                asked == label && table.is_none_or(|table| is_in_table(*origin, table))
            }
            (Selector::Label { label: asked, .. }, Key::Service(label, _)) => asked == label,
            (Selector::Fec(asked), Key::Ftn(fec) | Key::Service(_, fec)) => asked == fec,
            (Selector::Unlabelled, key) => matches!(key, Key::Ftn(_)),
            (Selector::Label { .. }, Key::Ftn(_)) | (Selector::Fec(_), Key::Ilm(..)) => false,
        }
    }
}

fn is_in_table(origin: Origin, table: u32) -> bool {
    match origin {
        Origin::Table(number) => number == table,
        Origin::Untagged | Origin::Service | Origin::Platform | Origin::Interface(_) => table == 0,
    }
}

/// An interval for which the collector cannot vouch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Last evidence before it.
    pub start: Micros,
    /// When it ended; `None` = it is open as far as the log goes.
    pub end: Option<Micros>,
    /// What it is about.
    pub scope: Scope,
    /// What happened.
    pub reason: Reason,
    /// Place of the gap row.
    pub position: Position,
}

impl Since for Gap {
    fn start(&self) -> Micros {
        self.start
    }

    fn of_router(self) -> Gap {
        Gap { scope: Scope::Router, ..self }
    }
}

impl Gap {
    /// The same, ended; not before it began.
    fn until(self, end: Micros) -> Gap {
        Gap { end: Some(end.max(self.start)), ..self }
    }

    /// Whether the instant lies in it.
    pub fn holds_at(&self, at: Micros) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// One thing that happened to a router's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change row; its time is the effective time.
    Change(Box<Change>),
    /// A gap; its time is its start.
    Gap(Gap),
}

impl Event {
    /// What events are ordered by.
    pub fn time(&self) -> Micros {
        match self {
            Event::Change(change) => change.stamp.effective_time,
            Event::Gap(gap) => gap.start,
        }
    }

    fn position(&self) -> Position {
        match self {
            Event::Change(change) => change.stamp.position,
            Event::Gap(gap) => gap.position,
        }
    }
}

/// The gaps of one router, found by folding its rows in `Position` order.
#[derive(Clone, Debug, Default)]
pub struct GapFold {
    closed: Vec<Gap>,
    open: Gaps<Gap>,
    session: Option<Position>,
    last_evidence: Option<Micros>,
}

impl GapFold {
    /// What a state says of the rows that it includes.
    fn of(state: &RouterState) -> GapFold {
        let position = Position::default();
        let gap = |scope, gap: &OpenGap| {
            let OpenGap { start, reason } = *gap;
            Gap { start, end: None, scope, reason, position }
        };
        let Gaps { router, rest, keys, snapshot } = &state.gaps;
        let of_router = |open: &OpenGap| gap(Scope::Router, open);
        let of_rest = |open: &OpenGap| gap(Scope::Rest, open);
        let of_key = |(key, open): (&Key, &OpenGap)| (*key, gap(Scope::Entry(*key), open));
        let open = Gaps {
            router: router.as_ref().map(of_router),
            rest: rest.as_ref().map(of_rest),
            keys: keys.iter().map(of_key).collect(),
            snapshot: snapshot.as_ref().map(|doubts| Doubts {
                begun: doubts.begun,
                router: doubts.router.as_ref().map(of_router),
                rest: doubts.rest.as_ref().map(of_rest),
                keys: doubts.keys.clone(),
            }),
        };
        let session = state.session.is_some().then_some(state.position);
        GapFold { closed: Vec::new(), open, session, last_evidence: state.last_evidence }
    }

    /// Folds a change or session row in.
    pub fn fold(&mut self, row: &Row) {
        match row {
            Row::Change(change) => {
                self.note(change.stamp.collection_time);
                if let Some(gap) = self.open.changed(|| change.mapping.key()) {
                    self.closed.push(gap.until(change.stamp.effective_time));
                }
            }
            Row::Session(session) => self.fold_session(session),
            Row::Ledger(ledger) if ledger.bytes_framed > 0 => self.note(ledger.time),
            Row::Ledger(_) | Row::Kernel(_) => {}
        }
    }

    fn fold_session(&mut self, row: &SessionRow) {
        match &row.event {
            SessionEvent::Configured { .. } => return,
            SessionEvent::Initiation { .. } => {
                self.session = Some(row.position);
                self.open.abandon_snapshot();
            }
            SessionEvent::Termination { .. } => {
                self.session = None;
                self.open.abandon_snapshot();
            }
            SessionEvent::SnapshotBegin => self.open.begin_snapshot(row.time),
            SessionEvent::SnapshotComplete { .. } => {
                let GapFold { open, closed, .. } = self;
                open.end_snapshot(row.time, &mut |gap| closed.push(gap.until(row.time)));
            }
            SessionEvent::Gap { start, scope, reason } => {
                let (position, scope) = (row.position, *scope);
                let gap = Gap { start: *start, end: None, scope, reason: *reason, position };
                self.open.open(scope, gap);
                return;
            }
        }
        self.note(row.time);
    }

    fn note(&mut self, time: Micros) {
        self.last_evidence = self.last_evidence.max(Some(time));
    }

    /// Every gap, by its start. With the writer gone, a session that is still open is one too.
    pub fn finish(mut self, writer: Writer) -> Vec<Gap> {
        if let (Writer::Gone, Some(position), Some(start)) =
            (writer, self.session, self.last_evidence)
        {
            let reason = Reason::CollectorLost;
            let scope = Scope::Router;
            self.open.open(scope, Gap { start, end: None, scope, reason, position });
        }
        let mut gaps = self.closed;
        gaps.extend(self.open.router);
        gaps.extend(self.open.rest);
        gaps.extend(self.open.keys.into_values());
        gaps.sort_by_key(|gap| (gap.start, gap.position, gap.scope));
        gaps
    }
}

/// What is asked of one router's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The router.
    pub router: RouterId,
    /// Which of its entries.
    pub selector: Selector,
    /// From this (effective) time on, itself included.
    pub since: Option<Micros>,
    /// Up to this (effective) time, itself included.
    pub until: Option<Micros>,
}

/// Answers from the log: changes and gaps by time.
///
/// Reads it from the newest state before the question's beginning to its end: what ends a gap may
/// stand anywhere behind it. A gap that is older than that state has no place of its own. What is
/// asked about a time whose log is not kept is a gap (`Reason::NotRetained`).
///
/// With an allowance it is an error to hold more than that.
pub fn events(
    data: &Path,
    question: &Question,
    allowance: Option<&Allowance>,
) -> Result<(Vec<Event>, ReadReport), LogError> {
    let writer = Writer::of(data);
    let filter = Filter {
        router: Some(question.router),
        changes: true,
        sessions: true,
        ledger: true,
        allowance,
        ..Filter::NONE
    };
    let mut states = States::open_within(data, allowance)?;
    let plan = Plan::since(data, &mut states, question.since, question.router)?;
    let begins = |kept: &Micros| question.since.is_none_or(|since| since < *kept);
    let kept_from = Some(plan.horizon).filter(|it| *it > Hour::default()).map(Hour::start);
    let kept_from = kept_from.filter(begins);
    let mut fold = EventFold::new(*question);
    let mut held = allowance.map(Allowance::hold);
    let mut noted = 0;
    let read = log::read_plan(data, plan, &mut states, &filter, &mut |told| {
        match told {
            Told::Row(_, row) => fold.fold(row),
            Told::State(state, _) => {
                fold.begin(&state);
                if let Some(allowance) = allowance {
                    allowance.shrink(state.memory_bytes());
                }
            }
            Told::StartOver(_) => fold = EventFold::new(*question),
        }
        if let Some(held) = &mut held {
            let now = fold.memory_bytes();
            held.replace(noted, now);
            noted = now;
        }
    })?;
    fold.kept_from = kept_from;
    Ok((fold.finish(writer), read.report))
}

/// The same of rows that are at hand, in any order.
pub fn events_of_rows(rows: &[Row], question: &Question, writer: Writer) -> Vec<Event> {
    let of_router = |row: &&Row| row.router() == Some(question.router);
    let mut rows: Vec<&Row> = rows.iter().filter(of_router).collect();
    rows.sort_by_key(|row| row.place());
    let mut fold = EventFold::new(*question);
    rows.into_iter().for_each(|row| fold.fold(row));
    fold.finish(writer)
}

struct EventFold {
    question: Question,
    /// The log before this instant is not kept.
    kept_from: Option<Micros>,
    gaps: GapFold,
    changes: Vec<Change>,
    /// Keys whose entry was asked for when last seen: what ends it is part of its history.
    selected: BTreeSet<Key>,
    /// What the changes hold beyond their places.
    beyond_bytes: usize,
    /// Keys whose entry was ever asked for: their gaps are part of its history.
    concerned: BTreeSet<Key>,
}

impl EventFold {
    fn new(question: Question) -> EventFold {
        EventFold {
            question,
            kept_from: None,
            gaps: GapFold::default(),
            changes: Vec::new(),
            beyond_bytes: 0,
            selected: BTreeSet::new(),
            concerned: BTreeSet::new(),
        }
    }

    /// Begins with what a state says of the rows before.
    fn begin(&mut self, state: &RouterState) {
        self.gaps = GapFold::of(state);
        for entry in state.table.iter() {
            if self.question.selector.selects(&entry.mapping()) {
                self.selected.insert(entry.key());
                self.concerned.insert(entry.key());
            }
        }
    }

    fn fold(&mut self, row: &Row) {
        self.gaps.fold(row);
        let Row::Change(change) = row else {
            return;
        };
        let key = change.mapping.key();
        let selects = self.question.selector.selects(&change.mapping);
        let ends = !selects && self.selected.remove(&key);
        if selects {
            self.selected.insert(key);
            self.concerned.insert(key);
        }
        let time = change.stamp.effective_time;
        let within = self.question.since.is_none_or(|since| since <= time)
            && self.question.until.is_none_or(|until| time <= until);
        if (selects || ends) && within {
            self.changes.push(change.clone());
            self.beyond_bytes += change.mapping.beyond_bytes();
        }
    }

    /// Memory that it takes, in bytes; twice that of the changes, which become events. O(1).
    fn memory_bytes(&self) -> u64 {
        let changes = self.changes.capacity() * size_of::<Change>() + self.beyond_bytes;
        let keys = self.selected.len() + self.concerned.len();
        let gaps = self.gaps.closed.capacity() + self.gaps.open.keys.len();
        let places = 2 * keys * size_of::<Key>() + 2 * gaps * size_of::<Gap>();
        (2 * changes + places) as u64
    }

    fn finish(self, writer: Writer) -> Vec<Event> {
        let Question { selector, since, until, .. } = self.question;
        let overlaps = |gap: &Gap| {
            until.is_none_or(|until| gap.start <= until)
                && since.is_none_or(|since| gap.end.is_none_or(|end| since <= end))
        };
        let concerned = self.concerned;
        let concerns = |gap: &Gap| match gap.scope {
            Scope::Router | Scope::Rest => true,
            Scope::Entry(key) => selector.selects_key(&key) || concerned.contains(&key),
        };
        let not_kept = self.kept_from.map(|end| Gap {
            start: Micros::MIN,
            end: Some(end),
            scope: Scope::Router,
            reason: Reason::NotRetained,
            position: Position::default(),
        });
        let gaps = not_kept.into_iter().chain(self.gaps.finish(writer));
        let gaps = gaps.filter(overlaps).filter(concerns).map(Event::Gap);
        let mut events: Vec<Event> =
            self.changes.into_iter().map(Box::new).map(Event::Change).chain(gaps).collect();
        events.sort_by_key(|event| (event.time(), event.position()));
        events
    }
}
