//! The network as of an instant: every router's table, session and gaps, folded from the rows.
//!
//! In:   rows, each router's in `Position` order, and the instant T.
//! Out:  `Network`: one `RouterAsOf` per router, and which router owns an address.
//! Law:  a change counts by its effective time, a gap by its start, all else by its time.
//! Not:  the way of a packet through the network (`walk`), what changed when (`events`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::net::IpAddr;
use std::ops::Bound;
use std::path::Path;

use super::course::{self, Course};
use super::links::{Behind, Links};
use super::{Standing, Unknown, UnknownCause};
use crate::allowance::{Allowance, Held};
use crate::interface::Interface;
use crate::log::state::{Depth, Plan, States};
use crate::log::{self, Filter, LogError, ReadReport, Told, log_files};
use crate::mapping::{Fec, Key, Mapping, Nhlfe, RouterId};
use crate::router::{OpenGap, RouterState};
use crate::row::{Basis, Change, Reason, Row, SessionEvent, SessionRow};
use crate::table::{CLOCK_AHEAD_MAX_US, EntryRef};
use crate::time::{Hour, Micros};

mod later;
#[cfg(test)]
mod tests;

use later::Later;

/// One router as of an instant.
#[derive(Clone, Debug)]
pub struct RouterAsOf {
    /// What the rows up to the instant say. Its `gaps` are those that hold then.
    pub state: RouterState,
    /// The instant.
    pub at: Micros,
    /// Whether its session was open when the collector was lost: nobody watches it any more.
    pub unwatched: bool,
    end: RouterEnd,
    /// Entries whose last change is of a time that a snapshot contradicts, or the change before,
    /// and since when: what has been read of them only behind the instant may have happened before
    /// it or after.
    disputed: BTreeMap<Key, Micros>,
    /// Where its rows have got to.
    course: Course,
    /// What of them bears times behind the instant.
    later: Later,
}

/// What the log as a whole, beyond the instant, says of one router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouterEnd {
    /// Whether it ends with a session of this router open.
    is_open: bool,
    /// Last sign of life.
    last_evidence: Option<Micros>,
    /// What the settings said last.
    name: Box<str>,
    interfaces_configured: Vec<Interface>,
}

impl RouterEnd {
    fn of(state: &RouterState) -> RouterEnd {
        RouterEnd {
            is_open: state.session.is_some(),
            last_evidence: state.last_evidence,
            name: state.name.clone(),
            interfaces_configured: state.interfaces_configured.clone(),
        }
    }

    /// As `RouterState` does, without the table.
    fn fold(&mut self, row: &Row) {
        match row {
            Row::Change(change) if change.stamp.basis != Basis::Swept => {
                self.note(change.stamp.collection_time);
            }
            Row::Session(row) => match &row.event {
                SessionEvent::Configured { name, interfaces } => {
                    self.name.clone_from(name);
                    self.interfaces_configured.clone_from(interfaces);
                }
                SessionEvent::Initiation { .. } => {
                    self.is_open = true;
                    self.note(row.time);
                }
                SessionEvent::Termination { .. } => self.is_open = false,
                SessionEvent::SnapshotBegin | SessionEvent::SnapshotComplete { .. } => {
                    self.note(row.time);
                }
                SessionEvent::Gap { .. } => {}
            },
            Row::Ledger(ledger) if ledger.bytes_framed > 0 => self.note(ledger.time),
            Row::Change(_) | Row::Ledger(_) | Row::Kernel(_) => {}
        }
    }

    fn note(&mut self, time: Micros) {
        self.last_evidence = self.last_evidence.max(Some(time));
    }
}

/// One entry of a table, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// What identifies it.
    pub key: Key,
    /// What the router said when it last set the value.
    pub mapping: Mapping,
    /// Effective time of the change that set the value.
    pub active_since: Micros,
    /// Whether it can be vouched for.
    pub standing: Standing,
}

impl RouterAsOf {
    fn new(router: RouterId, at: Micros) -> RouterAsOf {
        RouterAsOf {
            state: RouterState::new(router),
            at,
            unwatched: false,
            end: RouterEnd::default(),
            disputed: BTreeMap::new(),
            course: Course::default(),
            later: Later::default(),
        }
    }

    /// One whose rows are all told, those behind the instant too: whatever clock has filed them.
    fn of_all_rows(router: RouterId, at: Micros) -> RouterAsOf {
        let later = Later { waiting: Some(Vec::new()), ..Later::default() };
        RouterAsOf { later, ..RouterAsOf::new(router, at) }
    }

    /// Memory that it takes, in bytes, as its state says, and what waits.
    fn memory_bytes(&self) -> u64 {
        let waiting = self.later.waiting.as_ref().map_or(0, Vec::capacity) * size_of::<Row>();
        self.state.memory_bytes() + waiting as u64 + self.later.waiting_bytes
    }

    fn fold(&mut self, row: &Row) {
        let by = self.course.next(row);
        self.note_course(row, by);
        if self.later.waiting.is_none() {
            return self.fold_told(row);
        }
        if by.is_some_and(|by| by <= self.at) {
            // All that waits was read before this row, and this one before the instant.
            self.take_waiting().iter().for_each(|row| self.fold_before(row));
        }
        if let Row::Ledger(_) = row {
            self.fold_what_the_books_have();
        }
        let is_later = course::time_of(row).is_some_and(|time| time > self.at);
        if is_later && self.later.books.have_read(row) {
            self.take_waiting().iter().for_each(|row| self.fold_before(row));
            return self.fold_before(row);
        }
        match &mut self.later.waiting {
            // In their order: none overtakes those that wait.
            Some(waiting) if is_later || !waiting.is_empty() => {
                self.later.waiting_bytes += row.beyond_bytes() as u64;
                waiting.push(row.clone());
            }
            _ => self.fold_told(row),
        }
    }

    /// `by`: what the row says of those before it.
    fn note_course(&mut self, row: &Row, by: Option<Micros>) {
        let Later { first, is_set_back, is_doubted, told, said, books, .. } = &mut self.later;
        if let Some(by) = by {
            let is_before = by <= self.at;
            // What bears a time behind the instant may not have been told.
            *is_set_back |= is_before;
            *is_doubted = !is_before && (*is_doubted || *first > Some(by));
            *first = first.filter(|_| !is_before);
        }
        // A session that begins or ends behind the instant changes no value before it.
        let says = matches!(row, Row::Change(_) | Row::Ledger(_));
        if let Some(time) = course::time_of(row).filter(|time| says && *time > self.at) {
            first.get_or_insert(time);
        }
        match row {
            Row::Change(change) if change.stamp.basis != Basis::Swept => *told += 1,
            Row::Ledger(ledger) => {
                *said += ledger.changes;
                // What the books count by then, and what was not told, bears a time ahead of them.
                *is_set_back |= ledger.time <= self.at && *said > *told;
                books.take(ledger, ledger.time > self.at);
                *is_set_back |= books.contradict();
            }
            _ => {}
        }
    }

    /// Frames that the books have by the instant were read before it, and what stands before them.
    fn fold_what_the_books_have(&mut self) {
        let waiting = self.take_waiting();
        let last = waiting.iter().rposition(|row| self.later.books.have_read(row));
        let mut rows = waiting.into_iter();
        for row in rows.by_ref().take(last.map_or(0, |last| last + 1)) {
            self.fold_before(&row);
        }
        let left: Vec<Row> = rows.collect();
        self.later.waiting_bytes = left.iter().map(|row| row.beyond_bytes() as u64).sum();
        self.later.waiting = Some(left);
    }

    fn take_waiting(&mut self) -> Vec<Row> {
        self.later.waiting_bytes = 0;
        self.later.waiting.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A row that was read before the instant, whatever its times say.
    fn fold_before(&mut self, row: &Row) {
        self.end.fold(row);
        self.state.replay(row);
    }

    /// A row that counts by its times.
    fn fold_told(&mut self, row: &Row) {
        match row {
            Row::Change(change) => {
                self.end.fold(row);
                if change.stamp.effective_time <= self.at {
                    self.state.replay_change(change);
                    self.note_dispute(change);
                }
            }
            Row::Session(session) => {
                self.end.fold(row);
                self.fold_session(session);
            }
            Row::Ledger(ledger) => {
                self.end.fold(row);
                if ledger.time <= self.at {
                    self.state.replay_ledger(ledger);
                }
            }
            Row::Kernel(_) => {}
        }
    }

    fn note_dispute(&mut self, change: &Change) {
        let stamp = &change.stamp;
        if stamp.is_disputed() && stamp.collection_time > self.at {
            self.disputed.entry(change.mapping.key()).or_insert(stamp.effective_time);
        }
    }

    fn fold_session(&mut self, row: &SessionRow) {
        let counts_from = match &row.event {
            SessionEvent::Gap { start, .. } => row.time.min(*start),
            _ => row.time,
        };
        if counts_from <= self.at {
            self.state.replay_session(row);
        }
    }

    /// What remains to be said when all rows have been folded in.
    fn finish(&mut self, writer: Writer, now: Option<Micros>) {
        // What waits until the end was read behind the instant.
        self.take_waiting().iter().for_each(|row| self.fold_told(row));
        // A time that has not come: it was read by now, and nobody knows how long ago. What comes
        // while somebody asks is a little later than when they began.
        let has_not_come = |now: Micros| self.later.first > Some(now.offset(CLOCK_AHEAD_MAX_US));
        self.later.is_doubted |= now.is_some_and(has_not_come);
        let is_named = !self.state.name.is_empty() || !self.state.interfaces_configured.is_empty();
        if !is_named {
            // The settings' word on the router that came only later: better than none.
            self.state.name = std::mem::take(&mut self.end.name);
            self.state.interfaces_configured = std::mem::take(&mut self.end.interfaces_configured);
            self.state.count_interfaces();
        }
        // A session without termination and no collector that would write one: the collector was
        // lost, and has not been started again. Recovery will say so; the reader says it already.
        let lost = self.end.is_open && writer == Writer::Gone;
        if lost && let Some(start) = self.end.last_evidence.filter(|start| *start <= self.at) {
            self.unwatched = true;
            let gap = OpenGap { start, reason: Reason::CollectorLost };
            self.state.gaps.router.get_or_insert(gap);
        }
    }

    /// Whether the router as a whole can be vouched for.
    pub fn standing(&self) -> Standing {
        match standing(&self.state) {
            Standing::Vouched if self.later.is_doubted => Standing::Unknown(Unknown {
                cause: UnknownCause::CollectorClock,
                since: self.state.last_evidence,
            }),
            standing => standing,
        }
    }

    /// Whether what the table says of this key can be vouched for: an entry, or that there is none.
    pub fn standing_of(&self, key: &Key) -> Standing {
        if let Standing::Unknown(unknown) = self.standing() {
            return Standing::Unknown(unknown);
        }
        if let Some(unknown) = self.doubt_of(key) {
            return Standing::Unknown(unknown);
        }
        match self.state.table.get(key) {
            Some(entry) => unconfirmed(&entry),
            None => self.standing_of_the_rest(),
        }
    }

    /// Keys of which something could not be read, or whose last change is disputed.
    pub fn doubted_keys(&self) -> impl Iterator<Item = &Key> {
        self.state.gaps.keys.keys().chain(self.disputed.keys())
    }

    /// Why this very key cannot be vouched for, if that is so, entry or not.
    pub(super) fn doubt_of(&self, key: &Key) -> Option<Unknown> {
        let gap = self.state.gaps.keys.get(key).map(|gap| {
            let cause = UnknownCause::KeyGap(gap.reason);
            Unknown { cause, since: Some(gap.start) }
        });
        let dispute = || {
            let since = self.disputed.get(key).copied()?;
            Some(Unknown { cause: UnknownCause::TimeDisputed, since: Some(since) })
        };
        gap.or_else(dispute)
    }

    /// FECs that select by more than a prefix and of which nobody can say whether they have an
    /// entry, or which.
    pub(super) fn doubts_of_selective(&self) -> impl Iterator<Item = (&Fec, Unknown)> {
        let gaps = selective(&self.state.gaps.keys);
        let gaps = gaps.map(|(fec, gap)| (fec, UnknownCause::KeyGap(gap.reason), gap.start));
        let disputed = selective(&self.disputed);
        let disputed = disputed.map(|(fec, since)| (fec, UnknownCause::TimeDisputed, *since));
        let all = gaps.chain(disputed);
        all.map(|(fec, cause, since)| (fec, Unknown { cause, since: Some(since) }))
    }

    /// Whether it can be vouched for that entries which the table does not have are not there.
    /// Keys with a gap of their own are not meant.
    pub fn standing_of_the_rest(&self) -> Standing {
        match self.standing() {
            Standing::Vouched => standing_of_the_rest(&self.state),
            standing => standing,
        }
    }

    /// The table, sorted by key.
    pub fn table(&self) -> Vec<TableEntry> {
        let mut entries: Vec<TableEntry> = self
            .state
            .table
            .iter()
            .map(|entry| TableEntry {
                key: entry.key(),
                mapping: entry.mapping(),
                active_since: entry.active_since(),
                standing: self.standing_of(&entry.key()),
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        entries
    }
}

/// Those of these keys that select by more than a prefix.
fn selective<V>(keys: &BTreeMap<Key, V>) -> impl Iterator<Item = (&Fec, &V)> {
    let behind = (Bound::Excluded(Key::Ftn(Fec::Unknown)), Bound::Unbounded);
    keys.range(behind).map_while(|(key, value)| match key {
        Key::Ftn(fec @ Fec::IpFrom { .. }) => Some((fec, value)),
        _ => None,
    })
}

/// Whether a router of this state can be vouched for as a whole.
pub fn standing(state: &RouterState) -> Standing {
    if let Some(gap) = state.gaps.router {
        let cause = UnknownCause::RouterGap(gap.reason);
        let since = (gap.reason != Reason::NotRetained).then_some(gap.start);
        return Standing::Unknown(Unknown { cause, since });
    }
    if state.last_evidence.is_none() && state.table.is_empty() {
        return Standing::Unknown(Unknown { cause: UnknownCause::NeverHeard, since: None });
    }
    Standing::Vouched
}

/// Whether it can be vouched for that a router of this state, whose entries stand, has no others.
pub fn standing_of_the_rest(state: &RouterState) -> Standing {
    let unknown = |cause, since| Standing::Unknown(Unknown { cause, since });
    match (state.gaps.rest, state.complete) {
        (Some(gap), _) => unknown(UnknownCause::RestGap(gap.reason), Some(gap.start)),
        (None, None) => unknown(UnknownCause::NeverComplete, None),
        (None, Some(_)) => Standing::Vouched,
    }
}

fn unconfirmed(entry: &EntryRef<'_>) -> Standing {
    entry.unconfirmed_since().map_or(Standing::Vouched, |since| {
        let cause = UnknownCause::Unconfirmed;
        Standing::Unknown(Unknown { cause, since: Some(since) })
    })
}

/// Whether a collector is writing into the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// One is: open sessions are watched.
    Present,
    /// None is: what the log has no termination of is not watched by anyone.
    Gone,
}

impl Writer {
    /// Looks whether the data folder is locked, by itself or by its `lock`. A folder that cannot be
    /// probed counts as written to: a reader without the right to open the lock must not declare
    /// the collector lost.
    pub fn of(data: &Path) -> Writer {
        for path in [data, &data.join(log::layout::LOCK_FILE)] {
            let is_held = match File::open(path) {
                Ok(file) => match file.try_lock_shared() {
                    Ok(()) => false,
                    Err(TryLockError::WouldBlock) => true,
                    // A file system without locks of folders: then `lock` alone says it.
                    Err(TryLockError::Error(_)) => path != data,
                },
                Err(error) => error.kind() != std::io::ErrorKind::NotFound,
            };
            if is_held {
                return Writer::Present;
            }
        }
        Writer::Gone
    }
}

/// Everybody in a network.
pub(super) struct Listed {
    /// The name that the settings gave each router last, or empty.
    pub(super) names: BTreeMap<RouterId, Box<str>>,
    /// Who owns which address, and who is behind which link.
    pub(super) links: Links,
}

/// Every router as of one instant.
#[derive(Debug)]
pub struct Network {
    /// The instant.
    pub at: Micros,
    /// What time it is, where somebody says so: rows of later times are ahead of it.
    now: Option<Micros>,
    routers: BTreeMap<RouterId, RouterAsOf>,
    links: Links,
    /// Routers that the log knows and whose tables were not read.
    unread: BTreeSet<RouterId>,
    /// What it takes, for whoever has an allowance.
    held: Option<Held>,
}

/// The rows that tables as of `at` are made of; where the clock is known to have been ahead, those
/// behind it too.
pub(super) fn rows_as_of<'a>(
    at: Micros,
    states: &mut States,
    allowance: Option<&'a Allowance>,
) -> Result<Filter<'a>, LogError> {
    Ok(Filter {
        until_effective: states.newest()?.until(at),
        changes: true,
        sessions: true,
        ledger: true,
        allowance,
        ..Filter::NONE
    })
}

/// What a router takes beside its state: its places here, in the plan and while it is read.
const ROUTER_BYTES: u64 = 768;

impl Network {
    /// The network as of `at`, in one pass over the log; `only` = this router alone.
    ///
    /// Damage that was passed over is in the report: rows are missing there. With an allowance it
    /// is an error to hold more than that, until the network goes.
    pub fn as_of(
        data: &Path,
        at: Micros,
        only: Option<RouterId>,
        allowance: Option<&Allowance>,
    ) -> Result<(Network, ReadReport), LogError> {
        Network::as_of_told(data, at, None, only, allowance)
    }

    /// The same, asked at this time: what bears a later one was filed by a clock that was ahead.
    pub fn as_of_told(
        data: &Path,
        at: Micros,
        now: Option<Micros>,
        only: Option<RouterId>,
        allowance: Option<&Allowance>,
    ) -> Result<(Network, ReadReport), LogError> {
        // Looked up first: a collector that ends while we read has written its terminations.
        let writer = Writer::of(data);
        let mut states = States::open_within(data, allowance)?;
        let filter = Filter { router: only, ..rows_as_of(at, &mut states, allowance)? };
        let plan = Plan::as_of(data, &mut states, at, only)?;
        if plan.horizon > Hour::default() && at < plan.horizon.start() {
            return Network::not_retained(data, at, only, allowance);
        }
        let leaves_later_rows = plan.leaves_later_rows;
        let mut network = Network::empty(at, allowance);
        network.now = now;
        let mut read =
            log::read_plan(data, plan, &mut states, &filter, &mut |told| network.take(told))?;
        network.read_set_back(data, &mut states, allowance, &mut read.report)?;
        if leaves_later_rows {
            let ends = ends(data, &filter, only, &mut read.report)?;
            network.end(ends.into_iter());
        }
        network.finish(writer);
        network.check()?;
        Ok((network, read.report))
    }

    /// The network at an instant whose log is not kept: who was in it is known, and nothing else.
    pub(super) fn not_retained(
        data: &Path,
        at: Micros,
        only: Option<RouterId>,
        allowance: Option<&Allowance>,
    ) -> Result<(Network, ReadReport), LogError> {
        let mut report = ReadReport::default();
        let filter = Filter { router: only, sessions: true, allowance, ..Filter::NONE };
        let mut network = Network::empty(at, allowance);
        for (router, end) in ends(data, &filter, only, &mut report)? {
            let as_of = network.router_mut(router);
            as_of.end = RouterEnd { is_open: false, ..end };
            as_of.state.gaps.router =
                Some(OpenGap { start: Micros::MIN, reason: Reason::NotRetained });
        }
        network.finish(Writer::Present);
        Ok((network, report))
    }

    /// The same of rows that are at hand, in any order; for tests and tools.
    pub fn of_rows(rows: &[Row], at: Micros, writer: Writer) -> Network {
        let mut placed: Vec<(RouterId, crate::row::Position, &Row)> =
            rows.iter().filter_map(|row| Some((row.router()?, row.place(), row))).collect();
        placed.sort_by_key(|(router, position, _)| (*router, *position));
        let mut network = Network::empty(at, None);
        for (router, _, row) in placed {
            let fresh = || RouterAsOf::of_all_rows(router, at);
            network.routers.entry(router).or_insert_with(fresh).fold(row);
        }
        network.finish(writer);
        network
    }

    /// Reads routers anew of whom rows that were read before the instant bear times behind it: the
    /// collector's clock was ahead. Rows of any time are told then, and their order decides.
    pub(super) fn read_set_back(
        &mut self,
        data: &Path,
        states: &mut States,
        allowance: Option<&Allowance>,
        report: &mut ReadReport,
    ) -> Result<(), LogError> {
        let is_meant = |(_, router): &(&RouterId, &RouterAsOf)| {
            router.later.is_set_back && router.later.waiting.is_none()
        };
        let meant = self.routers.iter().filter(is_meant).map(|(id, _)| *id);
        let meant: BTreeSet<RouterId> = meant.collect();
        if meant.is_empty() {
            return Ok(());
        }
        for router in &meant {
            self.begin_anew(RouterAsOf::of_all_rows(*router, self.at));
        }
        let mut plan =
            Plan::begin(states, self.at, Depth::Table, &|router| meant.contains(&router))?;
        plan.add_parts(log_files(data)?, &*states.newest()?, None);
        let filter = Filter {
            until_effective: None,
            among: Some(&meant),
            ..rows_as_of(self.at, states, allowance)?
        };
        let read = log::read_plan(data, plan, states, &filter, &mut |told| self.take(told))?;
        report.add(&read.report);
        self.check()
    }

    pub(super) fn empty(at: Micros, allowance: Option<&Allowance>) -> Network {
        let held = allowance.map(Allowance::hold);
        let (routers, links, unread) = (BTreeMap::new(), Links::default(), BTreeSet::new());
        Network { at, now: None, routers, links, unread, held }
    }

    /// Takes in what reading tells next.
    pub(super) fn take(&mut self, told: Told<'_>) {
        match told {
            Told::Row(router, row) => self.fold(router, row),
            Told::State(state, _) => self.begin(*state),
            Told::StartOver(router) => self.start_over(router),
        }
    }

    fn fold(&mut self, router: RouterId, row: &Row) {
        let Some(mut held) = self.held.take() else { return self.router_mut(router).fold(row) };
        let router = self.router_mut(router);
        let before = router.memory_bytes();
        router.fold(row);
        held.replace(before, router.memory_bytes());
        self.held = Some(held);
    }

    fn router_mut(&mut self, router: RouterId) -> &mut RouterAsOf {
        let at = self.at;
        let held = &mut self.held;
        self.routers.entry(router).or_insert_with(|| {
            let router = RouterAsOf::new(router, at);
            if let Some(held) = held {
                held.grow(router.memory_bytes() + ROUTER_BYTES);
            }
            router
        })
    }

    /// Every row that the state includes counts: none is behind the instant.
    fn begin(&mut self, state: RouterState) {
        // What the state itself takes was noted when it was read.
        let noted = state.memory_bytes();
        let router = self.router_mut(state.router);
        let before = router.memory_bytes();
        router.end = RouterEnd::of(&state);
        router.state = state;
        // Its rows, and what the books say of them, are counted from here on.
        (router.later.told, router.later.said) = (0, 0);
        let now = router.memory_bytes();
        if let Some(held) = &mut self.held {
            held.adopt(noted);
            held.replace(before + noted, now);
        }
    }

    fn start_over(&mut self, router: RouterId) {
        let are_all_told = self.router_mut(router).later.waiting.is_some();
        let mut fresh = match are_all_told {
            true => RouterAsOf::of_all_rows(router, self.at),
            false => RouterAsOf::new(router, self.at),
        };
        // Files in another order than its rows: it moved, or the clock was set back between them.
        fresh.later.is_set_back = true;
        self.begin_anew(fresh);
    }

    fn begin_anew(&mut self, fresh: RouterAsOf) {
        let now = fresh.memory_bytes();
        let router = fresh.state.router;
        let before = std::mem::replace(self.router_mut(router), fresh).memory_bytes();
        if let Some(held) = &mut self.held {
            held.replace(before, now);
        }
    }

    /// Whether it may take what it takes.
    pub(super) fn check(&self) -> Result<(), LogError> {
        self.held.as_ref().map_or(Ok(()), Held::check)
    }

    fn finish(&mut self, writer: Writer) {
        let now = self.now;
        self.routers.values_mut().for_each(|router| router.finish(writer, now));
        self.links = Links::of(self.routers.values().map(|router| &router.state));
        if let Some(held) = &mut self.held {
            held.grow(self.links.memory_bytes());
        }
    }

    /// What the settings and hellos say of everybody, when all session rows have been folded in.
    pub(super) fn list(
        mut self,
        ends: Option<BTreeMap<RouterId, RouterEnd>>,
        writer: Writer,
    ) -> Listed {
        self.end(ends.into_iter().flatten());
        let name = |(id, router): (&RouterId, &RouterAsOf)| (*id, router.end.name.clone());
        let names = self.routers.iter().map(name).collect();
        self.finish(writer);
        Listed { names, links: std::mem::take(&mut self.links) }
    }

    /// What the log as a whole says of some routers.
    pub(super) fn end(&mut self, ends: impl Iterator<Item = (RouterId, RouterEnd)>) {
        ends.for_each(|(router, end)| self.router_mut(router).end = end);
    }

    /// Says what time it is.
    pub(super) fn told_at(&mut self, now: Option<Micros>) {
        self.now = now;
    }

    /// Routers whose tables are read when somebody needs them, and who owns which address.
    pub(super) fn leave_unread(&mut self, unread: BTreeSet<RouterId>, links: Links) {
        (self.unread, self.links) = (unread, links);
    }

    /// These have been read.
    pub(super) fn finish_read(&mut self, read: &BTreeSet<RouterId>, writer: Writer) {
        for id in read {
            self.unread.remove(id);
            if let Some(router) = self.routers.get_mut(id) {
                router.finish(writer, self.now);
            }
        }
    }

    /// Whether the log knows the router, and its table was not read.
    pub(super) fn is_unread(&self, router: RouterId) -> bool {
        self.unread.contains(&router)
    }

    /// The router, if the log knows it and it has been read.
    pub fn router(&self, router: RouterId) -> Option<&RouterAsOf> {
        self.routers.get(&router)
    }

    /// Every router, by id.
    pub fn routers(&self) -> impl Iterator<Item = (RouterId, &RouterAsOf)> {
        self.routers.iter().map(|(id, router)| (*id, router))
    }

    /// The router of this configured name or id.
    pub fn find(&self, name_or_id: &str) -> Option<RouterId> {
        if let Ok(id) = name_or_id.parse() {
            return self.routers.contains_key(&id).then_some(id);
        }
        let named = |router: &&RouterAsOf| &*router.state.name == name_or_id;
        self.routers.values().find(named).map(|router| router.state.router)
    }

    /// The router that owns this address, by its id, by what it announced or by the settings.
    /// `None` = none does, or several do.
    pub fn owner(&self, address: IpAddr) -> Option<RouterId> {
        self.links.owner(address)
    }

    /// Where a branch of this router leads. Errors: why that cannot be said.
    pub(super) fn behind(&self, here: RouterId, branch: &Nhlfe) -> Result<Behind, UnknownCause> {
        self.links.behind(here, branch)
    }
}

/// The name that the settings gave each router last, empty where they gave none: every router of
/// the log is in it.
pub fn names(
    data: &Path,
    allowance: Option<&Allowance>,
) -> Result<BTreeMap<RouterId, Box<str>>, LogError> {
    let filter = Filter { sessions: true, allowance, ..Filter::NONE };
    let ends = ends(data, &filter, None, &mut ReadReport::default())?;
    Ok(ends.into_iter().map(|(router, end)| (router, end.name)).collect())
}

/// What the log as a whole says of each router, from the heads of its newest states and the rows
/// past them.
pub(super) fn ends(
    data: &Path,
    filter: &Filter,
    only: Option<RouterId>,
    report: &mut ReadReport,
) -> Result<BTreeMap<RouterId, RouterEnd>, LogError> {
    let mut states = States::open_within(data, filter.allowance)?;
    let plan = Plan::newest(data, &mut states, Depth::Head, only)?;
    let filter = Filter { until_effective: None, ..*filter };
    let mut held = filter.allowance.map(Allowance::hold);
    let mut ends: BTreeMap<RouterId, RouterEnd> = BTreeMap::new();
    let read = log::read_plan(data, plan, &mut states, &filter, &mut |told| match told {
        Told::Row(router, row) => ends.entry(router).or_default().fold(row),
        Told::State(state, _) => {
            // It goes, and its end takes about as much as its place.
            if let Some(held) = &mut held {
                held.adopt(state.memory_bytes());
            }
            ends.insert(state.router, RouterEnd::of(&state));
        }
        Told::StartOver(router) => {
            ends.insert(router, RouterEnd::default());
        }
    })?;
    report.add(&read.report);
    Ok(ends)
}
