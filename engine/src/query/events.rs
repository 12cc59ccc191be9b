//! History of one router: its changes, gaps and session events, oldest first.
//!
//! In:   change, session and ledger rows of a data folder.
//! Out:  rows of an interval, of all entries or of those that a selector means.
//! Law:  a gap stands wherever it overlaps the interval: what is unknown is never left out.
//! Not:  when a gap begins and ends (`storage::history::events`), tables (`network`).

use std::path::Path;

use serde::{Deserialize, Serialize};
use storage::allowance::Allowance;
use storage::history::events::{self, Event, Gap, Question};
use storage::log::{Filter, read};
use storage::mapping::{Mapping, RouterId};
use storage::row::{Change, Flags, Position, Row, Scope, SessionEvent, SessionRow};
use storage::time::Micros;
use utoipa::ToSchema;

use super::sheet::{Cell, Sheet};
use super::{Answered, QueryError, Range, Selector, folder};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryRow {
    /// A change of the table.
    Change(Box<Change>),
    /// An interval for which the collector cannot vouch.
    Gap(Gap),
    /// Another session event.
    Session(SessionRow),
}

impl HistoryRow {
    /// What history is ordered by.
    pub fn time(&self) -> Micros {
        match self {
            HistoryRow::Change(change) => change.stamp.effective_time,
            HistoryRow::Gap(gap) => gap.start,
            HistoryRow::Session(row) => row.time,
        }
    }

    /// Its place among the router's rows.
    pub fn position(&self) -> Position {
        match self {
            HistoryRow::Change(change) => change.stamp.position,
            HistoryRow::Gap(gap) => gap.position,
            HistoryRow::Session(row) => row.position,
        }
    }

    fn cells(&self) -> Vec<Cell> {
        match self {
            HistoryRow::Change(change) => change_cells(change),
            HistoryRow::Gap(gap) => {
                let end = gap.end.map_or("still open".to_owned(), |end| format!("until {end}"));
                let reason = gap.reason.name();
                let of = match gap.scope {
                    Scope::Router => "the router".to_owned(),
                    Scope::Entry(key) => key.to_string(),
                    Scope::Rest => "entries that are not listed".to_owned(),
                };
                event_cells(gap.start, "gap", gap.position, format!("{of}, {end}: {reason}"))
            }
            HistoryRow::Session(row) => {
                event_cells(row.time, row.event.name(), row.position, detail(&row.event))
            }
        }
    }
}

/// One thing that happened, as values for programs: the row of the sheet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryLine {
    /// What history is ordered by: effective time of a change, beginning of a gap.
    pub time: String,
    /// added, altered, withdrawn ...; gap; or a session event.
    pub event: String,
    /// Ingress label; -1 = none.
    pub in_label: Option<i64>,
    /// Where the label comes from.
    pub origin: Option<String>,
    /// The FEC.
    pub fec: Option<String>,
    /// push, swap, pop, replicate, discard, untag, or none: withdrawn.
    pub operation: Option<String>,
    /// Where packets go on: labels, @ next hop, % interface, * weight, to neighbour, in
    /// encapsulation, (backup).
    pub branches: Option<Vec<String>>,
    /// How it is known: live, snapshot or swept.
    pub basis: Option<String>,
    /// It did not change before.
    pub not_before: Option<String>,
    /// The router's own time.
    pub event_time: Option<String>,
    /// Whose clock gave the event time.
    pub time_source: Option<String>,
    /// When the collector read it.
    pub collection_time: Option<String>,
    /// What is odd about it.
    pub flags: Option<Vec<String>>,
    /// generation/sequence/index.
    pub position: Option<String>,
    /// More, in words.
    pub detail: Option<String>,
}

/// The rows as values for programs: the sheet's own, typed.
pub fn history_lines(rows: &[HistoryRow]) -> Result<Vec<HistoryLine>, serde_json::Error> {
    serde_json::from_value(history_sheet(rows).json())
}

/// What a session row takes among others: its place, as much spare, and its addresses.
const SESSION_ROW_BYTES: u64 = 2 * size_of::<HistoryRow>() as u64 + 256;

/// Whose changes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Those of all entries, and session events too.
    All,
    /// Those of the entries for packets without label: the ingress label -1.
    Unlabelled,
    /// Those of the entries meant, and the gaps that concern them.
    Of(Selector),
}

impl From<Option<Selector>> for Entries {
    fn from(selector: Option<Selector>) -> Entries {
        selector.map_or(Entries::All, Entries::Of)
    }
}

/// A router's rows in an interval, oldest first.
pub fn history(
    data: &Path,
    router: RouterId,
    entries: impl Into<Entries>,
    range: Range,
) -> Result<Answered<Vec<HistoryRow>>, QueryError> {
    history_within(data, router, entries, range, None)
}

/// The same, within what it may take.
pub fn history_within(
    data: &Path,
    router: RouterId,
    entries: impl Into<Entries>,
    range: Range,
    allowance: Option<&Allowance>,
) -> Result<Answered<Vec<HistoryRow>>, QueryError> {
    let entries = entries.into();
    let question = Question {
        router,
        selector: match entries {
            Entries::All => events::Selector::All,
            Entries::Unlabelled => events::Selector::Unlabelled,
            Entries::Of(Selector::Fec(fec)) => events::Selector::Fec(fec),
            Entries::Of(Selector::Label { label, table }) => {
                events::Selector::Label { label, table }
            }
        },
        since: Some(range.since),
        until: Some(range.until),
    };
    let (events, report) = events::events(folder(data)?, &question, allowance)?;
    let row = |event| match event {
        Event::Change(change) => HistoryRow::Change(change),
        Event::Gap(gap) => HistoryRow::Gap(gap),
    };
    let mut rows: Vec<HistoryRow> = events.into_iter().map(row).collect();
    let mut held = allowance.map(Allowance::hold);
    if let Some(held) = &mut held {
        let beyond = |row: &HistoryRow| match row {
            HistoryRow::Change(change) => size_of::<Change>() + change.mapping.beyond_bytes(),
            HistoryRow::Gap(_) | HistoryRow::Session(_) => 0,
        };
        let places = rows.capacity() * size_of::<HistoryRow>();
        held.grow((places + rows.iter().map(beyond).sum::<usize>()) as u64);
        held.check()?;
    }
    if entries == Entries::All {
        let filter = Filter { router: Some(router), sessions: true, allowance, ..Filter::NONE };
        // Damage has been reported by the first reading.
        read(data, &filter, &mut |row| {
            if let Row::Session(row) = row
                && !matches!(row.event, SessionEvent::Gap { .. })
                && range.contains(row.time)
            {
                rows.push(HistoryRow::Session(row));
                if let Some(held) = &mut held {
                    held.grow(SESSION_ROW_BYTES);
                }
            }
        })?;
        rows.sort_by_key(|row| (row.time(), row.position()));
    }
    let mut answered = Answered::new(rows, &report);
    if let Entries::Of(selector) = entries
        && !answered.value.iter().any(|row| matches!(row, HistoryRow::Change(_)))
    {
        answered.warnings.extend(selector.hint());
    }
    Ok(answered)
}

/// The rows as a sheet.
pub fn history_sheet(rows: &[HistoryRow]) -> Sheet {
    let mut sheet = Sheet::new(COLUMNS);
    rows.iter().for_each(|row| sheet.push(row.cells()));
    sheet
}

const COLUMNS: &[&str] = &[
    "time",
    "event",
    "in_label",
    "origin",
    "fec",
    "operation",
    "branches",
    "basis",
    "not_before",
    "event_time",
    "time_source",
    "collection_time",
    "flags",
    "position",
    "detail",
];

fn change_cells(change: &Change) -> Vec<Cell> {
    let Change { stamp, mapping } = change;
    let [in_label, origin, fec, operation, branches] = mapping_cells(mapping);
    vec![
        Cell::Time(stamp.effective_time),
        Cell::text(stamp.kind.name()),
        in_label,
        origin,
        fec,
        operation,
        branches,
        Cell::text(stamp.basis.name()),
        Cell::time(stamp.not_before),
        Cell::Time(mapping.event_time),
        Cell::text(mapping.time_source.name()),
        Cell::Time(stamp.collection_time),
        Cell::list(flag_names(stamp.flags)),
        Cell::text(position_text(stamp.position)),
        mapping.extra.as_deref().map_or(Cell::Nothing, Cell::text),
    ]
}

/// Ingress label, origin, FEC, operation and branches of a mapping.
pub(super) fn mapping_cells(mapping: &Mapping) -> [Cell; 5] {
    let label = mapping.ingress.label;
    [
        label.map_or(Cell::Number(-1), |label| Cell::Number(i64::from(label.value()))),
        Cell::text(mapping.ingress.origin),
        Cell::text(mapping.fec),
        Cell::text(mapping.operation),
        Cell::list(&mapping.branches),
    ]
}

fn flag_names(flags: Flags) -> impl Iterator<Item = &'static str> {
    Flags::NAMES.into_iter().filter(move |(flag, _)| flags.contains(*flag)).map(|(_, name)| name)
}

fn event_cells(time: Micros, event: &str, position: Position, detail: String) -> Vec<Cell> {
    let mut cells = vec![Cell::Nothing; COLUMNS.len()];
    cells[0] = Cell::Time(time);
    cells[1] = Cell::text(event);
    cells[COLUMNS.len() - 2] = Cell::text(position_text(position));
    cells[COLUMNS.len() - 1] = Cell::text(detail);
    cells
}

fn detail(event: &SessionEvent) -> String {
    match event {
        SessionEvent::Configured { name, interfaces } => {
            let interfaces: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
            format!("name {name:?}, interfaces {}", interfaces.join(", "))
        }
        SessionEvent::Initiation { peer, mode, permanent, boot_time, clock, interfaces, agent } => {
            let kind = if *permanent { "permanent" } else { "on-demand" };
            let mut text = format!("from {peer}, {}, {kind}", mode.name());
            if let Some(boot_time) = boot_time {
                text.push_str(&format!(", booted {boot_time}"));
            }
            if !agent.is_empty() {
                text.push_str(&format!(", agent {agent}"));
            }
            if let Some(clock) = clock {
                text.push_str(&format!(", its clock {clock}"));
            }
            for interface in interfaces {
                let verb = if interface.is_address() { "owns" } else { "has" };
                text.push_str(&format!(", {verb} {interface}"));
            }
            text
        }
        SessionEvent::SnapshotBegin => String::new(),
        SessionEvent::SnapshotComplete { explicit, confirmed, added, altered, vanished } => {
            let end = if *explicit { "explicit" } else { "inferred" };
            format!(
                "{end}: {confirmed} confirmed, {added} added, {altered} altered, \
                 {vanished} vanished"
            )
        }
        // Shown as an interval instead.
        SessionEvent::Gap { .. } => String::new(),
        SessionEvent::Termination { reason } => reason.name().to_owned(),
    }
}

/// `generation/sequence/index`.
fn position_text(position: Position) -> String {
    let Position { generation, sequence, index } = position;
    format!("{generation}/{sequence}/{index}")
}
