//! Questions about a data folder, answered as values: the command line and programs ask alike.
//!
//! In:   a data folder, also one that a collector is writing to; routers, FECs, instants.
//! Out:  typed answers; each can be shown as a `Sheet` or a tree.
//! Law:  what the collector cannot vouch for answers unknown, and says why.
//! Not:  the fold of rows into tables and walks (`storage::history`), arguments (`command`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use storage::history::walk::Start;
use storage::log::{Corruption, LogError, ReadReport, layout};
use storage::mapping::{Fec, Label, RouterId};
use storage::time::{MICROS_PER_HOUR, Micros};

mod when;
mod instant;
mod sheet;
mod network;
mod events;
mod books;
mod bins;
mod bursts;
mod paths;
mod lsp;
mod density;
mod difference;
mod missing;

pub use bins::{BinRow, bins, bins_sheet};
pub use books::{LedgerBy, LedgerLine, LedgerReport, ledger, render_verify, verify};
pub use bursts::{Loss, Past, burst, burst_within, bursts, bursts_sheet, bursts_within, past};
pub use density::{Density, density};
pub use difference::{Difference, DifferenceRow, difference, difference_sheet};
pub use events::{
    Entries, HistoryLine, HistoryRow, history, history_lines, history_sheet, history_within,
};
pub use instant::Instant;
pub use lsp::{LspChanges, lsp_changes};
pub use missing::RowsMissing;
pub(crate) use missing::missing_text;
pub use network::{
    Answer, FecRow, RouterRow, RouterStatus, TableRow, Tables, fecs, find_router,
    find_router_within, network, network_within, router_answer, router_rows, routers_sheet,
    table_rows, table_sheet, tables,
};
pub use paths::{
    BranchAnswer, EndAnswer, HintAnswer, HopAnswer, OnwardAnswer, PATHS_MAX, PathAnswer,
    StepAnswer, TraceAnswer, TraceHop, TracePath, TraceReport, TraceVerdict, Traces, render_trace,
    render_traced, trace,
};
pub(crate) use sheet::span_words;
pub use sheet::{Cell, Format, Sheet};
pub use storage::history::walk::Follow;
pub use when::{WhenError, WhenFault, parse_length_us, parse_when};

/// How far the time of a row may be ahead of the hour that it lies in: of logs of earlier versions,
/// which believed clocks that far.
const FILED_AHEAD_US_MAX: i64 = MICROS_PER_HOUR;

/// An interval, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its first instant.
    pub since: Micros,
    /// Its last instant.
    pub until: Micros,
}

impl Range {
    /// All of time.
    pub const ALL: Range = Range { since: Micros::MIN, until: Micros::MAX };

    /// Whether the instant lies in it.
    pub fn contains(&self, time: Micros) -> bool {
        self.since <= time && time <= self.until
    }
}

/// Which entries are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those for this FEC.
    Fec(Fec),
    /// Those with this ingress label: `label:24`, or in a label table of the router `label:24,7`.
    Label {
        /// The label.
        label: Label,
        /// The label table, 0 = the platform's; `None` = any (a packet that is to be followed comes
        /// with a label of the platform).
        table: Option<u32>,
    },
}

impl Selector {
    /// What may have been meant instead, where nothing is found.
    pub(crate) fn hint(self) -> Option<String> {
        let Selector::Fec(Fec::Ip { prefix, table: MAIN_TABLE }) = self else { return None };
        Some(format!(
            "the main table of Linux, {MAIN_TABLE}, is the global table here: ask for ip:{prefix}"
        ))
    }

    /// How a packet that is meant comes to the head router.
    pub(crate) fn start(self) -> Start {
        match self {
            Selector::Fec(fec) => Start::Fec(fec),
            Selector::Label { label, table } => Start::Label { label, table: table.unwrap_or(0) },
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Fec(fec) => fec.fmt(f),
            Selector::Label { label, table: None } => write!(f, "label:{label}"),
            Selector::Label { label, table: Some(table) } => write!(f, "label:{label},{table}"),
        }
    }
}

/// What Linux, and an FRR router, calls the global table (RT_TABLE_MAIN).
const MAIN_TABLE: u32 = 254;

/// Text that selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "FEC `{text}`: write ip:10.0.0.3/32[,table][,from=prefix][,tos=number], \
     vrf:192.0.2.3,65000:2[,prefix], vrf-name:red[,prefix], vsi:192.0.2.3,17, ac:192.0.2.3,17, \
     name:rsvp,to-pe3, interface:xe-0/0/1.100, unknown, or label:24[,table]"
)]
pub struct SelectorError {
    /// What was found.
    pub text: String,
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SelectorError { text: text.to_owned() };
        let Some(number) = text.strip_prefix("label:") else {
            return text.parse().map(Selector::Fec).map_err(|_| error());
        };
        let (number, table) = match number.split_once(',') {
            Some((number, table)) => (number, Some(table.parse().map_err(|_| error())?)),
            None => (number, None),
        };
        let label = number.parse().ok().and_then(Label::new);
        label.map(|label| Selector::Label { label, table }).ok_or_else(error)
    }
}

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// An instant that cannot be read.
    #[error(transparent)]
    When(#[from] WhenError),
    /// An interval that ends before it begins.
    #[error(
        "the interval ends at {until}, before it begins at {since}: exchange --since and --until"
    )]
    Interval {
        /// Its beginning.
        since: Micros,
        /// Its end.
        until: Micros,
    },
    /// More bins than anybody reads.
    #[error(
        "more than {max} bins: give --since and --until closer together, or --every {least_us}us or \
         more"
    )]
    Bins {
        /// The most that are answered.
        max: i64,
        /// The width with which it would be no more, microseconds.
        least_us: i64,
    },
    /// A width that is none.
    #[error("width `{text}`: write --every 10ms, 1s, 5m (units us, ms, s, m, h, d, w), above 0")]
    Width {
        /// What was asked for.
        text: String,
    },
    /// An instant that nobody can have heard of.
    #[error(
        "{at} is in the future (it is {now} here): nobody can vouch for that; write now, or -15m"
    )]
    Future {
        /// What was asked for.
        at: Micros,
        /// The time that counts as now.
        now: Micros,
    },
    /// A router that the data folder does not know.
    #[error(
        "router `{text}` is in no row of {data}{}; {}",
        all_text(.text),
        known_text(.known),
        data = data.display()
    )]
    RouterUnknown {
        /// What was asked for.
        text: String,
        /// The data folder.
        data: PathBuf,
        /// Routers that it does know, by name where they have one.
        known: Vec<String>,
    },
    /// A data folder that is not there.
    #[error(
        "{data} is no data folder: give --data the folder that `stormdrain run` writes to",
        data = data.display()
    )]
    NoFolder {
        /// What was asked for.
        data: PathBuf,
    },
    /// A log that cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl QueryError {
    /// Whether the question is wrong (as opposed to the disk).
    pub fn is_usage(&self) -> bool {
        match self {
            QueryError::When(_) | QueryError::Interval { .. } | QueryError::Future { .. } => true,
            QueryError::Bins { .. } | QueryError::Width { .. } => true,
            QueryError::RouterUnknown { .. } => true,
            QueryError::NoFolder { .. } | QueryError::Log(_) => false,
        }
    }
}

/// Whoever asks for all of them cannot know which questions are about one.
fn all_text(text: &str) -> &'static str {
    match text {
        "all" => ": only `table` answers for all, this question is about one",
        _ => "",
    }
}

fn known_text(known: &[String]) -> String {
    const SHOWN: usize = 8;
    match known.len() {
        0 => "no router has been heard yet".to_owned(),
        count if count <= SHOWN => format!("known are {}", known.join(", ")),
        count => format!(
            "known are {} and {} more (stormdrain routers)",
            known[..SHOWN].join(", "),
            count - SHOWN
        ),
    }
}

/// An answer, and what stands in its way of being whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer.
    pub value: T,
    /// Damage that was passed over while reading, and what else is to be known, one line each.
    pub warnings: Vec<String>,
    /// Where rows are missing from it; empty = it is whole.
    pub rows_missing: Vec<RowsMissing>,
}

impl<T> Answered<T> {
    pub(crate) fn new(value: T, report: &ReadReport) -> Answered<T> {
        let warning = |damage: &Corruption| match missing::is_of_state(&damage.path) {
            true => format!("a state is not believed, and what it stands for is read: {damage}"),
            false => format!("rows are missing from this answer: {damage}"),
        };
        let warnings = report.damages.iter().map(warning).collect();
        Answered { value, warnings, rows_missing: RowsMissing::of(&report.damages) }
    }

    /// Another value, made of this one.
    pub(crate) fn map<U>(self, make: impl FnOnce(T) -> U) -> Answered<U> {
        let Answered { value, warnings, rows_missing } = self;
        Answered { value: make(value), warnings, rows_missing }
    }
}

/// The data folder, if there is one: an empty answer from a mistyped path would mislead.
pub fn folder(data: &Path) -> Result<&Path, QueryError> {
    let parts = [layout::LOCK_FILE, layout::LOG_FOLDER];
    if parts.into_iter().any(|part| data.join(part).exists()) {
        return Ok(data);
    }
    match data.read_dir() {
        // A folder that may not be looked into is another matter, and said so by whoever reads it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(data),
        _ => Err(QueryError::NoFolder { data: data.to_owned() }),
    }
}

pub(crate) fn router_text(router: RouterId, name: &str) -> String {
    if name.is_empty() { router.to_string() } else { name.to_owned() }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
