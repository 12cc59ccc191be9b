//! Routers and tables as of an instant.
//!
//! In:   a data folder, an instant, a router by id or name.
//! Out:  rows that say who was connected, and what each label table said.
//! Law:  unknown is an answer: every row says whether it is vouched for, and why not.
//! Not:  folding rows into tables (`storage::history`), paths (`paths`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use storage::allowance::Allowance;
use storage::history::network::{Network, RouterAsOf, standing_of_the_rest};
use storage::history::walk::Start;
use storage::history::{Standing, Unknown, UnknownCause};
use storage::mapping::{Key, Label, Mapping, Origin, RouterId};
use storage::router::RouterState;
use storage::table::{CLOCK_AHEAD_MAX_US, EntryRef};
use storage::time::Micros;

use super::events::mapping_cells;
use super::sheet::{Cell, Sheet};
use super::{Answered, Instant, QueryError, folder};

/// Whether the collector vouches for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Known,
    /// Of a router: for a part of its table. Entries that are listed without a doubt of their own
    /// stand; others, or those that are not listed, nobody can vouch for.
    InPart {
        /// Why not for the others: the reason of a gap, or another word.
        cause: &'static str,
        /// Since when; `None` = from the beginning.
        since: Option<Micros>,
    },
    /// It cannot.
    Unknown {
        /// Why: the reason of a gap, or another word.
        cause: &'static str,
        /// Since when; `None` = from the beginning.
        since: Option<Micros>,
    },
}

impl Answer {
    pub(super) fn of(standing: Standing) -> Answer {
        match standing {
            Standing::Vouched => Answer::Known,
            Standing::Unknown(Unknown { cause, since }) => {
                Answer::Unknown { cause: cause.name(), since }
            }
        }
    }

    /// What holds for a router and its whole table: what cannot be vouched for of it, the widest
    /// first.
    fn of_router(state: &RouterState, standing: Standing) -> Answer {
        if !Answer::of(standing).is_known() {
            return Answer::of(standing);
        }
        let in_part = |Unknown { cause, since }| Answer::InPart { cause: cause.name(), since };
        let rest = standing_of_the_rest(state).unknown().map(in_part);
        let oldest_gap = || {
            let gap = state.gaps.keys.values().min_by_key(|gap| gap.start)?;
            Some(Answer::InPart { cause: gap.reason.name(), since: Some(gap.start) })
        };
        let unconfirmed = || {
            let since = Some(state.table.unconfirmed_oldest()?);
            Some(in_part(Unknown { cause: UnknownCause::Unconfirmed, since }))
        };
        rest.or_else(oldest_gap).or_else(unconfirmed).unwrap_or(Answer::Known)
    }

    /// Whether the collector vouches for it, and for all of it.
    pub fn is_known(&self) -> bool {
        *self == Answer::Known
    }

    /// The word in every output.
    pub const fn name(&self) -> &'static str {
        match self {
            Answer::Known => "known",
            Answer::InPart { .. } => "in-part",
            Answer::Unknown { .. } => "unknown",
        }
    }

    /// Why it is not known, or not all of it, and since when.
    pub const fn doubt(&self) -> Option<(&'static str, Option<Micros>)> {
        match *self {
            Answer::Known => None,
            Answer::InPart { cause, since } | Answer::Unknown { cause, since } => {
                Some((cause, since))
            }
        }
    }

    /// The word, since when, and why.
    fn cells(&self) -> [Cell; 3] {
        let (cause, since) = self.doubt().unzip();
        [Cell::text(self.name()), Cell::time(since.flatten()), Cell::text(cause.unwrap_or(""))]
    }
}

/// Whether a router had a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterStatus {
    /// Its session was open.
    Connected,
    /// Its last session was over.
    Disconnected,
    /// Its session was open when the collector was lost, and nobody has looked since.
    Unwatched,
    /// It had had none: the settings name it.
    NeverSeen,
}

impl RouterStatus {
    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            RouterStatus::Connected => "connected",
            RouterStatus::Disconnected => "disconnected",
            RouterStatus::Unwatched => "unwatched",
            RouterStatus::NeverSeen => "never-seen",
        }
    }
}

/// One router as of an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterRow {
    /// Its id.
    pub router: RouterId,
    /// Its name in the settings, or empty.
    pub name: String,
    /// Whether it had a session.
    pub status: RouterStatus,
    /// Since when it was connected or not.
    pub since: Option<Micros>,
    /// Where its session came from.
    pub peer: Option<SocketAddr>,
    /// How its bytes were read.
    pub mode: Option<&'static str>,
    /// How many sessions it had had.
    pub generation: u32,
    /// Entries of its table.
    pub entries: usize,
    /// Keys that nobody can vouch for, one by one: entries that are unconfirmed, and keys in a gap
    /// of their own, with an entry or without. Of an unknown router, all its entries.
    pub entries_unknown: usize,
    /// When its full table was known last.
    pub complete: Option<Micros>,
    /// Latest sign of life.
    pub last_evidence: Option<Micros>,
    /// How far its clock is ahead of the collector's, at least, microseconds; negative = behind, by
    /// so much at most. `None` = its session has said no time.
    pub clock_skew_us: Option<i64>,
    /// Whether the collector vouches for it.
    pub answer: Answer,
}

/// One entry of a router's table as of an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// What identifies the entry.
    pub key: Key,
    /// What the router said when it last set the value.
    pub mapping: Mapping,
    /// Effective time of the change that set the value.
    pub active_since: Micros,
    /// Whether the collector vouches for it.
    pub answer: Answer,
}

/// Tables of several routers, by id; each in the order of its keys.
pub type Tables = Vec<(RouterId, Vec<TableRow>)>;

/// Finds a router by id or name. Errors: `QueryError::RouterUnknown`, which lists some.
pub fn find_router(data: &Path, text: &str) -> Result<RouterId, QueryError> {
    find_router_within(data, text, None)
}

/// The same, within what it may take.
pub fn find_router_within(
    data: &Path,
    text: &str,
    allowance: Option<&Allowance>,
) -> Result<RouterId, QueryError> {
    let names = storage::history::network::names(folder(data)?, allowance)?;
    meant_router(data, text, &names)
}

/// The router that is meant among all that the data folder knows.
pub(super) fn meant_router(
    data: &Path,
    text: &str,
    names: &BTreeMap<RouterId, Box<str>>,
) -> Result<RouterId, QueryError> {
    let id = text.parse::<RouterId>().ok();
    let is_meant =
        |router: &RouterId, name: &str| id == Some(*router) || (id.is_none() && name == text);
    let named = names.iter().find(|(router, name)| is_meant(router, name));
    named.map(|(router, _)| *router).ok_or_else(|| QueryError::RouterUnknown {
        text: text.to_owned(),
        data: data.to_owned(),
        known: names.iter().map(|(router, name)| super::router_text(*router, name)).collect(),
    })
}

/// The network as of an instant; `only` = one router alone.
pub fn network(
    data: &Path,
    at: impl Into<Instant>,
    only: Option<RouterId>,
) -> Result<Answered<Network>, QueryError> {
    network_within(data, at, only, None)
}

/// The same, within what it may take until it goes.
pub fn network_within(
    data: &Path,
    at: impl Into<Instant>,
    only: Option<RouterId>,
    allowance: Option<&Allowance>,
) -> Result<Answered<Network>, QueryError> {
    let at = at.into();
    let (network, report) =
        Network::as_of_told(folder(data)?, at.last(), at.told_at(), only, allowance)?;
    Ok(Answered::new(network, &report))
}

/// Every router of the network, by id.
pub fn router_rows(network: &Network) -> Vec<RouterRow> {
    network.routers().map(|(_, router)| router_row(router)).collect()
}

fn router_row(router: &RouterAsOf) -> RouterRow {
    RouterRow::of(&router.state, router.standing(), router.unwatched)
}

impl RouterRow {
    /// Whether its clock is so far ahead that its times are not believed.
    pub fn is_clock_ahead(&self) -> bool {
        self.clock_skew_us.is_some_and(|skew_us| skew_us > CLOCK_AHEAD_MAX_US)
    }

    /// What a state says of its router. `unwatched`: the collector that had its session is gone.
    pub fn of(state: &RouterState, standing: Standing, unwatched: bool) -> RouterRow {
        let (status, since) = match (&state.session, &state.ended) {
            (Some(_), _) if unwatched => (RouterStatus::Unwatched, state.last_evidence),
            (Some(session), _) => (RouterStatus::Connected, Some(session.begun)),
            (None, Some(ended)) => (RouterStatus::Disconnected, Some(ended.time)),
            (None, None) => (RouterStatus::NeverSeen, None),
        };
        let session = state.session.as_ref().filter(|_| status == RouterStatus::Connected);
        let answer = Answer::of_router(state, standing);
        let entries = state.table.len();
        let is_unconfirmed = |key: &&Key| {
            state.table.get(key).is_some_and(|entry| entry.unconfirmed_since().is_some())
        };
        let gaps = state.gaps.keys.len() - state.gaps.keys.keys().filter(is_unconfirmed).count();
        let doubtful = state.table.unconfirmed_len() + gaps;
        RouterRow {
            router: state.router,
            name: state.name.to_string(),
            status,
            since,
            peer: session.map(|session| session.peer),
            mode: session.map(|session| session.mode.name()),
            generation: state.position.generation,
            entries,
            entries_unknown: match answer {
                Answer::Known | Answer::InPart { .. } => doubtful,
                Answer::Unknown { .. } => entries,
            },
            complete: state.complete,
            last_evidence: state.last_evidence,
            clock_skew_us: state.skew_us,
            answer,
        }
    }
}

/// Routers as a sheet.
pub fn routers_sheet(rows: &[RouterRow]) -> Sheet {
    let mut sheet = Sheet::new(&[
        "router",
        "name",
        "status",
        "since",
        "generation",
        "peer",
        "mode",
        "entries",
        "entries_unknown",
        "complete",
        "last_evidence",
        "clock_skew_us",
        "answer",
        "unknown_since",
        "cause",
    ]);
    for row in rows {
        let [answer, unknown_since, cause] = row.answer.cells();
        sheet.push(vec![
            Cell::text(row.router),
            Cell::text(&row.name),
            Cell::text(row.status.name()),
            Cell::time(row.since),
            Cell::Count(u64::from(row.generation)),
            row.peer.map_or(Cell::Nothing, Cell::text),
            row.mode.map_or(Cell::Nothing, Cell::text),
            Cell::Count(row.entries as u64),
            Cell::Count(row.entries_unknown as u64),
            Cell::time(row.complete),
            Cell::time(row.last_evidence),
            row.clock_skew_us.map_or(Cell::Nothing, Cell::SpanUs),
            answer,
            unknown_since,
            cause,
        ]);
    }
    sheet
}

/// The table of a router, in the order of the keys; `None` when the network does not know it.
pub fn table_rows(network: &Network, router: RouterId) -> Option<Vec<TableRow>> {
    let entries = network.router(router)?.table();
    let row = |entry: storage::history::network::TableEntry| TableRow {
        key: entry.key,
        mapping: entry.mapping,
        active_since: entry.active_since,
        answer: Answer::of(entry.standing),
    };
    Some(entries.into_iter().map(row).collect())
}

/// Whether the collector vouches for a router as of the network's instant.
pub fn router_answer(network: &Network, router: RouterId) -> Answer {
    match network.router(router) {
        Some(router) => Answer::of(router.standing()),
        None => Answer::Unknown { cause: "never-heard", since: None },
    }
}

/// Every router's table as of an instant, by id; each in the order of the keys.
pub fn tables(data: &Path, at: impl Into<Instant>) -> Result<Answered<Tables>, QueryError> {
    let tables = |network: Network| {
        let rows = |(id, _)| Some((id, table_rows(&network, id)?));
        network.routers().filter_map(rows).collect()
    };
    Ok(network(data, at, None)?.map(tables))
}

/// The table of every router of the network as a sheet; `only` = of this one, heard or not.
///
/// What is unknown and has no entry is a row without operation: a key, or (without a key) every
/// entry that is not listed. A table of which nothing is known is never an empty sheet.
pub fn table_sheet(network: &Network, only: Option<RouterId>) -> Sheet {
    let mut sheet = Sheet::new(TABLE_COLUMNS);
    let all = network.routers().map(|(id, _)| id).filter(|id| only.is_none_or(|only| only == *id));
    let unheard = only.filter(|id| network.router(*id).is_none());
    for id in all.chain(unheard) {
        for row in table_rows(network, id).unwrap_or_default() {
            let value = [Cell::Time(row.active_since), Cell::text(row.mapping.time_source.name())];
            sheet.push(table_cells(id, mapping_cells(&row.mapping), value, &row.answer));
        }
        for (key, answer) in doubts(network, id) {
            let entry = key.map_or([const { Cell::Nothing }; 5], |key| key_cells(&key));
            sheet.push(table_cells(id, entry, [const { Cell::Nothing }; 2], &answer));
        }
    }
    sheet
}

const TABLE_COLUMNS: &[&str] = &[
    "router",
    "in_label",
    "origin",
    "fec",
    "operation",
    "branches",
    "active_since",
    "time_source",
    "answer",
    "unknown_since",
    "cause",
];

fn table_cells(router: RouterId, entry: [Cell; 5], value: [Cell; 2], answer: &Answer) -> Vec<Cell> {
    let cells = [Cell::text(router)].into_iter().chain(entry).chain(value);
    cells.chain(answer.cells()).collect()
}

/// What an LSP may be asked for at a router: a FEC that it knows, or a label that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FecRow {
    /// As `trace` takes it: `ip:10.0.0.3/32`, `label:24`, in another label table `label:24,7`.
    pub fec: String,
    /// What the router does with it.
    pub operation: &'static str,
    /// The FEC of a label.
    pub of: Option<String>,
}

/// What may be asked for at a router: FECs first, then labels; with these letters in them. Holds
/// no more of them than are listed.
pub fn fecs(network: &Network, id: RouterId, letters: &str, most: usize) -> (Vec<FecRow>, bool) {
    let Some(router) = network.router(id) else { return (Vec::new(), true) };
    let row = |entry: &EntryRef<'_>| {
        let operation = entry.mapping().operation.name();
        match entry.key() {
            Key::Ftn(fec) => FecRow { fec: fec.to_string(), operation, of: None },
            Key::Ilm(label, origin) => {
                let table = match origin {
                    Origin::Table(table) => table,
                    _ => 0,
                };
                let fec = Start::Label { label, table }.to_string();
                FecRow { fec, operation, of: Some(entry.fec().to_string()) }
            }
            Key::Service(label, fec) => {
                FecRow { fec: format!("label:{label}"), operation, of: Some(fec.to_string()) }
            }
        }
    };
    let is_meant = |row: &FecRow| {
        row.fec.contains(letters) || row.of.as_ref().is_some_and(|fec| fec.contains(letters))
    };
    let mut listed = BTreeMap::new();
    let mut is_whole = true;
    for entry in router.state.table.iter() {
        let is_behind = |(last, _): (&Key, &FecRow)| *last < entry.key();
        if listed.len() >= most && listed.last_key_value().is_some_and(is_behind) && !is_whole {
            continue;
        }
        let row = row(&entry);
        if !is_meant(&row) {
            continue;
        }
        listed.insert(entry.key(), row);
        if listed.len() > most {
            listed.pop_last();
            is_whole = false;
        }
    }
    (listed.into_values().collect(), is_whole)
}

/// What may be in the table although it has no entry there: single keys, then all others.
fn doubts(network: &Network, id: RouterId) -> Vec<(Option<Key>, Answer)> {
    let Some(router) = network.router(id) else {
        return vec![(None, router_answer(network, id))];
    };
    let mut doubts = Vec::new();
    if router.standing() == Standing::Vouched {
        let absent = |key: &&Key| router.state.table.get(key).is_none();
        let keys = router.doubted_keys().filter(absent).collect::<BTreeSet<_>>();
        let keys = keys.into_iter();
        doubts.extend(keys.map(|key| (Some(*key), Answer::of(router.standing_of(key)))));
    }
    let rest = Answer::of(router.standing_of_the_rest());
    doubts.extend((!rest.is_known()).then_some((None, rest)));
    doubts
}

/// Ingress label, origin and FEC of a key, as far as they belong to it; no operation, no branches.
pub(super) fn key_cells(key: &Key) -> [Cell; 5] {
    let (in_label, origin, fec) = match key {
        Key::Ftn(fec) => (Cell::Number(-1), Cell::text("untagged"), Cell::text(fec)),
        Key::Ilm(label, origin) => (label_cell(*label), Cell::text(origin), Cell::Nothing),
        Key::Service(label, fec) => (label_cell(*label), Cell::text("service"), Cell::text(fec)),
    };
    [in_label, origin, fec, Cell::Nothing, Cell::Nothing]
}

fn label_cell(label: Label) -> Cell {
    Cell::Number(i64::from(label.value()))
}
