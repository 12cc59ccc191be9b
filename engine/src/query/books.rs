//! The books: ledger sums by router, hour or shard, and what `verify` found.
//!
//! In:   ledger, session and change rows of a data folder.
//! Out:  one line per router, hour or shard; every session whose books do not balance.
//! Law:  sums do not depend on the split: the lines of any two splits add up alike.
//! Not:  keeping the books (`shard`), or checking them block by block (`storage::log::verify`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use storage::log::{Filter, ReadReport, VerifyReport, log_files, read_file};
use storage::mapping::RouterId;
use storage::row::{LedgerRow, Reason, Row, SessionEvent};
use storage::time::Hour;

use super::sheet::{Cell, Format, LACKING, Sheet, pretty};
use super::{Answered, QueryError, Range, RowsMissing, folder};

/// What one line of the ledger is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LedgerBy {
    /// One line per router.
    #[default]
    Router,
    /// One line per collection hour.
    Hour,
    /// One line per shard.
    Shard,
}

/// Sums over the ledger rows of one router, hour or shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerLine {
    /// The router's id (`-` = connections of which none was known), the hour, or the shard.
    pub group: String,
    /// Bytes received from sockets.
    pub bytes_read: u64,
    /// Bytes of complete frames or documents.
    pub bytes_framed: u64,
    /// Bytes rejected.
    pub bytes_rejected: u64,
    /// Mappings in the frames.
    pub mappings_framed: u64,
    /// Mappings that became change rows.
    pub changes: u64,
    /// Mappings that said what the table said already.
    pub confirmed: u64,
    /// Mappings of frames that came again.
    pub duplicates: u64,
    /// Mappings rejected.
    pub mappings_rejected: u64,
    /// Change rows that no mapping caused.
    pub derived: u64,
    /// Bytes and mappings rejected by each cause, in the order of their names.
    pub causes: BTreeMap<&'static str, (u64, u64)>,
}

impl LedgerLine {
    /// Bytes read and neither framed nor rejected yet: they wait in a buffer.
    ///
    /// Of one hour it may be negative: the rest of a frame may come in the next.
    pub fn bytes_buffered(&self) -> i64 {
        difference(self.bytes_read, sum([self.bytes_framed, self.bytes_rejected]))
    }

    /// Mappings that nothing explains. Other than 0 is a defect.
    pub fn mappings_missing(&self) -> i64 {
        let explained =
            sum([self.changes, self.confirmed, self.duplicates, self.mappings_rejected]);
        difference(self.mappings_framed, explained)
    }

    fn add(&mut self, row: &LedgerRow) {
        self.bytes_read = sum([self.bytes_read, row.bytes_read]);
        self.bytes_framed = sum([self.bytes_framed, row.bytes_framed]);
        self.mappings_framed = sum([self.mappings_framed, row.mappings_framed]);
        self.changes = sum([self.changes, row.changes]);
        self.confirmed = sum([self.confirmed, row.confirmed]);
        self.duplicates = sum([self.duplicates, row.duplicates]);
        self.derived = sum([self.derived, row.derived]);
        for (cause, bytes, mappings) in &row.rejected {
            self.bytes_rejected = sum([self.bytes_rejected, *bytes]);
            self.mappings_rejected = sum([self.mappings_rejected, *mappings]);
            let (cause_bytes, cause_mappings) = self.causes.entry(cause.name()).or_default();
            *cause_bytes = sum([*cause_bytes, *bytes]);
            *cause_mappings = sum([*cause_mappings, *mappings]);
        }
    }
}

/// The books of a data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerReport {
    /// One line per router, hour or shard, in their order.
    pub lines: Vec<LedgerLine>,
    /// The sum of the lines.
    pub total: LedgerLine,
    /// Every session whose books do not balance over the whole log, in words; empty = all do.
    pub imbalances: Vec<String>,
}

impl LedgerReport {
    /// The books as text. The total is a line of the table, a field of its own in JSON, and not in
    /// CSV, where whoever adds the lines up would count everything twice.
    pub fn render(&self, format: Format, rows_missing: &[RowsMissing]) -> String {
        let total = std::slice::from_ref(&self.total);
        match format {
            Format::Table => {
                let lines: Vec<LedgerLine> = self.lines.iter().chain(total).cloned().collect();
                ledger_sheet(&lines).lacking(rows_missing).render(Format::Table)
            }
            Format::Json => {
                let mut answer = json!({
                    "lines": ledger_sheet(&self.lines).json(),
                    "total": ledger_sheet(total).json()[0],
                    "imbalances": self.imbalances,
                });
                if !rows_missing.is_empty() {
                    answer[LACKING] = json!(rows_missing);
                }
                pretty(&answer)
            }
            Format::Csv => ledger_sheet(&self.lines).lacking(rows_missing).render(Format::Csv),
        }
    }
}

fn ledger_sheet(lines: &[LedgerLine]) -> Sheet {
    let mut sheet = Sheet::new(LEDGER_COLUMNS);
    for line in lines {
        let causes = line.causes.iter().map(|(cause, (bytes, mappings))| {
            let words = format!("{cause}: {bytes} bytes, {mappings} mappings");
            (words, json!({ "cause": cause, "bytes": bytes, "mappings": mappings }))
        });
        sheet.push(vec![
            Cell::text(&line.group),
            Cell::Count(line.bytes_read),
            Cell::Count(line.bytes_framed),
            Cell::Count(line.bytes_rejected),
            Cell::Number(line.bytes_buffered()),
            Cell::Count(line.mappings_framed),
            Cell::Count(line.changes),
            Cell::Count(line.confirmed),
            Cell::Count(line.duplicates),
            Cell::Count(line.mappings_rejected),
            Cell::Number(line.mappings_missing()),
            Cell::Count(line.derived),
            Cell::Objects(causes.collect()),
        ]);
    }
    sheet
}

const LEDGER_COLUMNS: &[&str] = &[
    "group",
    "bytes_read",
    "bytes_framed",
    "bytes_rejected",
    "bytes_buffered",
    "mappings_framed",
    "changes",
    "confirmed",
    "duplicates",
    "mappings_rejected",
    "mappings_missing",
    "derived",
    "causes",
];

/// Sums the ledger rows of an interval; the balance is that of the whole log.
pub fn ledger(
    data: &Path,
    range: Range,
    by: LedgerBy,
) -> Result<Answered<LedgerReport>, QueryError> {
    let filter = Filter { changes: true, sessions: true, ledger: true, ..Filter::NONE };
    let mut lines: BTreeMap<Group, LedgerLine> = BTreeMap::new();
    let mut total = LedgerLine { group: "total".to_owned(), ..LedgerLine::default() };
    let mut sessions: BTreeMap<(Option<RouterId>, u32), SessionBooks> = BTreeMap::new();
    let mut report = ReadReport::default();
    for file in log_files(folder(data)?)? {
        read_file(&file, &filter, &mut report, &mut |row| {
            if let Row::Ledger(row) = &row
                && range.contains(row.time)
            {
                let group = match by {
                    LedgerBy::Router => Group::Router(row.router),
                    LedgerBy::Hour => Group::Hour(row.time.hour()),
                    LedgerBy::Shard => Group::Shard(file.shard),
                };
                lines.entry(group).or_default().add(row);
                total.add(row);
            }
            add_to_sessions(&mut sessions, &row);
        })?;
    }
    let named = |(group, line): (Group, LedgerLine)| LedgerLine { group: group.name(), ..line };
    let lines = lines.into_iter().map(named).collect();
    // The books of a session whose beginning is not kept are not whole.
    let is_cut = storage::log::state::is_cut(data)?;
    let whole = sessions.iter().filter(|(_, books)| books.begun || !is_cut);
    let imbalances = whole.filter_map(|(key, books)| books.imbalance(*key)).collect();
    Ok(Answered::new(LedgerReport { lines, total, imbalances }, &report))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Router(Option<RouterId>),
    Hour(Hour),
    Shard(u16),
}

impl Group {
    fn name(self) -> String {
        match self {
            Group::Router(Some(router)) => router.to_string(),
            Group::Router(None) => "-".to_owned(),
            Group::Hour(hour) => hour.to_string(),
            Group::Shard(shard) => shard.to_string(),
        }
    }
}

#[derive(Debug, Default)]
struct SessionBooks {
    line: LedgerLine,
    change_rows: u64,
    /// The session ended while the collector lived: nothing may be left in a buffer.
    closed: bool,
    /// Its beginning is in the log.
    begun: bool,
}

fn add_to_sessions(sessions: &mut BTreeMap<(Option<RouterId>, u32), SessionBooks>, row: &Row) {
    match row {
        Row::Ledger(row) => {
            sessions.entry((row.router, row.generation)).or_default().line.add(row);
        }
        Row::Change(change) => {
            let key = (Some(change.stamp.router), change.stamp.position.generation);
            sessions.entry(key).or_default().change_rows += 1;
        }
        Row::Session(row) => {
            let key = (Some(row.router), row.position.generation);
            match row.event {
                SessionEvent::Initiation { .. } => sessions.entry(key).or_default().begun = true,
                SessionEvent::Termination { reason } => {
                    sessions.entry(key).or_default().closed = reason != Reason::CollectorLost;
                }
                _ => {}
            }
        }
        Row::Kernel(_) => {}
    }
}

impl SessionBooks {
    fn imbalance(&self, (router, generation): (Option<RouterId>, u32)) -> Option<String> {
        let line = &self.line;
        let session = router.map_or_else(
            || "connections of no known router".to_owned(),
            |router| format!("router {router}, generation {generation}"),
        );
        let buffered = line.bytes_buffered();
        if buffered < 0 || (self.closed && buffered != 0) {
            return Some(format!(
                "{session}: {} bytes read, {} framed and {} rejected",
                line.bytes_read, line.bytes_framed, line.bytes_rejected
            ));
        }
        if line.mappings_missing() != 0 {
            let missing = line.mappings_missing();
            let framed = line.mappings_framed;
            return Some(format!("{session}: of {framed} mappings {missing} are not explained"));
        }
        let rows_due = sum([line.changes, line.derived]);
        let rows = self.change_rows;
        (rows != rows_due).then(|| {
            format!("{session}: {rows_due} changes in the ledger, {rows} change rows in the log")
        })
    }
}

/// Counts from disk may be anything: their sum stops at the largest number.
fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

fn difference(left: u64, right: u64) -> i64 {
    let difference = i128::from(left) - i128::from(right);
    i64::try_from(difference).unwrap_or(if left < right { i64::MIN } else { i64::MAX })
}

/// Re-derives every checksum, count and order of the log.
pub fn verify(data: &Path) -> Result<VerifyReport, QueryError> {
    Ok(storage::log::verify(folder(data)?)?)
}

/// What verifying found, as text.
pub fn render_verify(report: &VerifyReport, format: Format) -> String {
    let faults = report.faults.iter().map(|fault| fault.to_string());
    match format {
        Format::Table => {
            let mut text = format!(
                "{} files, {} blocks, {} bytes, {} rows: {} changes, {} session events, \
                 {} ledger entries, {} kernel samples\n",
                report.files,
                report.blocks,
                report.bytes,
                rows(report),
                report.change_rows,
                report.session_rows,
                report.ledger_rows,
                report.kernel_rows
            );
            if report.state_files > 0 {
                let (files, states) = (report.state_files, report.states);
                text.push_str(&format!("{files} state files, {states} states\n"));
            }
            if report.torn_bytes > 0 {
                let torn = report.torn_bytes;
                text.push_str(&format!("{torn} bytes are not committed yet: no fault\n"));
            }
            for (path, bytes) in &report.cuts {
                let path = path.display();
                text.push_str(&format!("{path}: {bytes} bytes that a start has cut: no fault\n"));
            }
            faults.for_each(|fault| text.push_str(&format!("fault: {fault}\n")));
            let unlisted = report.faults_count.saturating_sub(report.faults.len() as u64);
            if unlisted > 0 {
                text.push_str(&format!("and {unlisted} faults more\n"));
            }
            text.push_str(if report.faults_count == 0 { "no fault\n" } else { "not sound\n" });
            text
        }
        Format::Json => pretty(&json!({
            "files": report.files,
            "blocks": report.blocks,
            "bytes": report.bytes,
            "change_rows": report.change_rows,
            "session_rows": report.session_rows,
            "ledger_rows": report.ledger_rows,
            "kernel_rows": report.kernel_rows,
            "state_files": report.state_files,
            "states": report.states,
            "uncommitted_bytes": report.torn_bytes,
            "cuts": report.cuts.iter().map(cut_json).collect::<Vec<_>>(),
            "faults_count": report.faults_count,
            "faults": faults.collect::<Vec<_>>(),
        })),
        Format::Csv => {
            let mut sheet = Sheet::new(&["path", "offset", "fault"]);
            for fault in &report.faults {
                let path = Cell::text(fault.path.display());
                sheet.push(vec![path, Cell::Count(fault.offset), Cell::text(&fault.what)]);
            }
            sheet.render(Format::Csv)
        }
    }
}

fn cut_json((path, bytes): &(PathBuf, u64)) -> serde_json::Value {
    json!({ "path": path.display().to_string(), "bytes": bytes })
}

fn rows(report: &VerifyReport) -> u64 {
    sum([report.change_rows, report.session_rows, report.ledger_rows, report.kernel_rows])
}
