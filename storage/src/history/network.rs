//! The network as of an instant: every router's table, session and gaps, folded from the rows.
//!
//! In:   rows, each router's in `Position` order, and the instant T.
//! Out:  `Network`: one `RouterAsOf` per router, and which router owns an address.
//! Law:  a change counts by its effective time, a gap by its start, all else by its time.
//! Not:  the way of a packet through the network (`walk`), what changed when (`events`).

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::net::IpAddr;
use std::path::Path;

use super::{Standing, Unknown, UnknownCause};
use crate::log::{self, Filter, LogError, Ordered, ReadReport};
use crate::mapping::{Key, Mapping, RouterId};
use crate::router::{OpenGap, RouterState};
use crate::row::{Reason, Row, SessionEvent, SessionRow};
use crate::table::EntryRef;
use crate::time::Micros;

#[cfg(test)]
mod tests;

/// One router as of an instant.
#[derive(Clone, Debug)]
pub struct RouterAsOf {
    /// What the rows up to the instant say. Its `gap` and `key_gaps` are those that hold then.
    pub state: RouterState,
    /// The instant.
    pub at: Micros,
    /// Whether the log as a whole ends with a session of this router open.
    open_at_end: bool,
    /// Last sign of life in the log as a whole.
    last_evidence: Option<Micros>,
    /// Whether its session was open when the collector was lost: nobody watches it any more.
    pub unwatched: bool,
    /// The settings' word on the router that came only after the instant: better than none.
    configured_later: Option<SessionRow>,
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
            open_at_end: false,
            last_evidence: None,
            unwatched: false,
            configured_later: None,
        }
    }

    fn fold(&mut self, row: &Row) {
        match row {
            Row::Change(change) => {
                self.last_evidence = self.last_evidence.max(Some(change.stamp.collection_time));
                if change.stamp.effective_time <= self.at {
                    self.state.replay_change(change);
                }
            }
            Row::Session(session) => self.fold_session(session),
            Row::Ledger(ledger) => {
                if ledger.bytes_read > 0 {
                    self.last_evidence = self.last_evidence.max(Some(ledger.time));
                }
                if ledger.time <= self.at {
                    self.state.replay_ledger(ledger);
                }
            }
            Row::Kernel(_) => {}
        }
    }

    fn fold_session(&mut self, row: &SessionRow) {
        let counts_from = match &row.event {
            SessionEvent::Gap { start, .. } => *start,
            SessionEvent::Initiation { .. } => {
                self.open_at_end = true;
                row.time
            }
            SessionEvent::Termination { .. } => {
                self.open_at_end = false;
                row.time
            }
            SessionEvent::Configured { .. }
            | SessionEvent::SnapshotBegin
            | SessionEvent::SnapshotComplete { .. } => row.time,
        };
        if !matches!(row.event, SessionEvent::Configured { .. }) {
            let evidence = counts_from.min(row.time);
            self.last_evidence = self.last_evidence.max(Some(evidence));
        }
        if counts_from <= self.at {
            self.state.replay_session(row);
        } else if matches!(row.event, SessionEvent::Configured { .. }) {
            self.configured_later.get_or_insert_with(|| row.clone());
        }
    }

    /// What remains to be said when all rows have been folded in.
    fn finish(&mut self, writer: Writer) {
        if let Some(row) = self.configured_later.take()
            && self.state.name.is_empty()
            && self.state.addresses_configured.is_empty()
        {
            self.state.replay_session(&row);
        }
        // A session without termination and no collector that would write one: the collector was
        // lost, and has not been started again. Recovery will say so; the reader says it already.
        let lost = self.open_at_end && writer == Writer::Gone;
        if lost && let Some(start) = self.last_evidence.filter(|start| *start <= self.at) {
            self.unwatched = true;
            let gap = OpenGap { start, reason: Reason::CollectorLost };
            self.state.gap.get_or_insert(gap);
        }
    }

    /// Whether the router as a whole can be vouched for.
    pub fn standing(&self) -> Standing {
        let state = &self.state;
        if let Some(gap) = state.gap {
            let cause = UnknownCause::RouterGap(gap.reason);
            return Standing::Unknown(Unknown { cause, since: Some(gap.start) });
        }
        if state.last_evidence.is_none() && state.table.is_empty() {
            return Standing::Unknown(Unknown { cause: UnknownCause::NeverHeard, since: None });
        }
        Standing::Vouched
    }

    /// Whether what the table says of this key can be vouched for: an entry, or that there is none.
    pub fn standing_of(&self, key: &Key) -> Standing {
        if let Standing::Unknown(unknown) = self.standing() {
            return Standing::Unknown(unknown);
        }
        if let Some(gap) = self.state.key_gaps.get(key) {
            let cause = UnknownCause::KeyGap(gap.reason);
            return Standing::Unknown(Unknown { cause, since: Some(gap.start) });
        }
        match self.state.table.get(key) {
            Some(entry) => unconfirmed(&entry),
            None => self.standing_of_the_rest(),
        }
    }

    /// Whether it can be vouched for that entries which the table does not have are not there.
    /// Keys with a gap of their own are not meant.
    pub fn standing_of_the_rest(&self) -> Standing {
        match self.standing() {
            Standing::Vouched if self.state.complete.is_none() => {
                let cause = UnknownCause::NeverComplete;
                Standing::Unknown(Unknown { cause, since: None })
            }
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
    /// Looks whether the data folder is locked. A folder that cannot be probed counts as written
    /// to: a reader without the right to open the lock must not declare the collector lost.
    pub fn of(data: &Path) -> Writer {
        let file = match File::open(data.join(log::layout::LOCK_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Writer::Gone,
            Err(_) => return Writer::Present,
        };
        match file.try_lock_shared() {
            Ok(()) => Writer::Gone,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => Writer::Present,
        }
    }
}

/// Every router as of one instant.
#[derive(Clone, Debug)]
pub struct Network {
    /// The instant.
    pub at: Micros,
    routers: BTreeMap<RouterId, RouterAsOf>,
    owners: BTreeMap<IpAddr, RouterId>,
}

impl Network {
    /// The network as of `at`, in one pass over the log; `only` = this router alone.
    ///
    /// Damage that was passed over is in the report: rows are missing there.
    pub fn as_of(
        data: &Path,
        at: Micros,
        only: Option<RouterId>,
    ) -> Result<(Network, ReadReport), LogError> {
        // Looked up first: a collector that ends while we read has written its terminations.
        let writer = Writer::of(data);
        let filter = Filter {
            router: only,
            until_effective: Some(at),
            changes: true,
            sessions: true,
            ledger: true,
            ..Filter::NONE
        };
        let mut network = Network::empty(at);
        let report = log::read_ordered(data, &filter, &mut |ordered| match ordered {
            Ordered::Row(router, row) => network.fold(router, row),
            Ordered::StartOver(router) => network.start_over(router),
        })?;
        network.finish(writer);
        Ok((network, report))
    }

    /// The same of rows that are at hand, in any order; for tests and tools.
    pub fn of_rows(rows: &[Row], at: Micros, writer: Writer) -> Network {
        let mut placed: Vec<(RouterId, crate::row::Position, &Row)> =
            rows.iter().filter_map(|row| Some((row.router()?, row.place(), row))).collect();
        placed.sort_by_key(|(router, position, _)| (*router, *position));
        let mut network = Network::empty(at);
        for (router, _, row) in placed {
            network.fold(router, row);
        }
        network.finish(writer);
        network
    }

    fn empty(at: Micros) -> Network {
        Network { at, routers: BTreeMap::new(), owners: BTreeMap::new() }
    }

    fn fold(&mut self, router: RouterId, row: &Row) {
        let at = self.at;
        self.routers.entry(router).or_insert_with(|| RouterAsOf::new(router, at)).fold(row);
    }

    fn start_over(&mut self, router: RouterId) {
        self.routers.insert(router, RouterAsOf::new(router, self.at));
    }

    fn finish(&mut self, writer: Writer) {
        self.routers.values_mut().for_each(|router| router.finish(writer));
        self.owners = owners(&self.routers);
    }

    /// The router, if the log knows it.
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

    /// The router that owns this address: by its id, else by what it announced, else by the
    /// settings. Of several that claim it, the one with the lowest id.
    pub fn owner(&self, address: IpAddr) -> Option<RouterId> {
        self.owners.get(&address).copied()
    }
}

fn owners(routers: &BTreeMap<RouterId, RouterAsOf>) -> BTreeMap<IpAddr, RouterId> {
    let mut owners = BTreeMap::new();
    for id in routers.keys() {
        owners.insert(id.0, *id);
    }
    for (id, router) in routers {
        for address in &router.state.addresses_announced {
            owners.entry(*address).or_insert(*id);
        }
    }
    for (id, router) in routers {
        for address in &router.state.addresses_configured {
            owners.entry(*address).or_insert(*id);
        }
    }
    owners
}
