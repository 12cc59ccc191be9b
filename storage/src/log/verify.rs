//! Re-derives everything that the log says twice: checksums, counts, times, order, the books.
//!
//! In:   a data folder, also one that a collector is writing to.
//! Out:  what was counted, and every fault in words, with its place.
//! Law:  a folder that this program wrote, whatever crashed when, has no fault after recovery.
//! Not:  mending anything (`recover` cuts torn ends; damage stays as it is).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::decode::decode;
use super::layout::Header;
use super::read::{Filter, read};
use super::recover::kept_cuts;
use super::scan::{Piece, Scan};
use super::state::is_cut;
use super::{LogError, LogFile, kernel_files, log_files};
use crate::mapping::RouterId;
use crate::row::{LedgerRow, Position, Reason, Row, SessionEvent, SessionRow};

mod states;

/// Faults that are listed; more are only counted.
pub(super) const FAULTS_LISTED_MAX: usize = 1_000;

/// Something that is not as it was written, or should not have been written so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file; empty when the fault is in the sum over several.
    pub path: PathBuf,
    /// Where the block begins that holds it.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_os_str().is_empty() {
            return f.write_str(&self.what);
        }
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

/// What verifying met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Whole blocks.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Change rows.
    pub change_rows: u64,
    /// Session rows.
    pub session_rows: u64,
    /// Ledger rows.
    pub ledger_rows: u64,
    /// Kernel rows.
    pub kernel_rows: u64,
    /// State files read.
    pub state_files: u64,
    /// States in them.
    pub states: u64,
    /// Bytes at the ends of files that no commit covers: no fault, a start of the collector cuts
    /// them; while one is running they are the block that it is writing.
    pub torn_bytes: u64,
    /// What starts of the collector have cut off the ends of files and kept beside them, with its
    /// length: no fault.
    pub cuts: Vec<(PathBuf, u64)>,
    /// Faults, the first thousand of them.
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub faults_count: u64,
}

impl VerifyReport {
    fn fault(&mut self, path: &Path, offset: u64, what: String) {
        self.faults_count += 1;
        if self.faults.len() < FAULTS_LISTED_MAX {
            self.faults.push(Fault { path: path.to_owned(), offset, what });
        }
    }
}

/// Reads everything and lists every fault. Errors: a file or folder that cannot be read.
pub fn verify(data: &Path) -> Result<VerifyReport, LogError> {
    let mut report = VerifyReport { cuts: kept_cuts(data)?, ..VerifyReport::default() };
    let mut spans: BTreeMap<RouterId, Vec<Span>> = BTreeMap::new();
    let mut books = Books::default();
    let files = log_files(data)?.into_iter().chain(kernel_files(data)?);
    for file in files {
        report.files += 1;
        verify_file(&file, &mut report, &mut spans, &mut books)?;
    }
    verify_positions(data, &spans, &mut report)?;
    books.close(is_cut(data)?, &mut report);
    states::verify_states(data, &mut report)?;
    Ok(report)
}

/// First and last place of a router's rows in one file.
type Span = (Position, Position);

fn verify_file(
    file: &LogFile,
    report: &mut VerifyReport,
    spans: &mut BTreeMap<RouterId, Vec<Span>>,
    books: &mut Books,
) -> Result<(), LogError> {
    let path = &file.path;
    let mut scan = Scan::open(file)?;
    let mut rows = Vec::new();
    let mut file_spans: BTreeMap<RouterId, Span> = BTreeMap::new();
    while let Some(piece) = scan.next()? {
        match piece {
            Piece::Block { offset, header, payload } => {
                report.blocks += 1;
                report.bytes += header.block_bytes().unwrap_or(0);
                rows.clear();
                if let Err(malformed) = decode(&header, payload, &Filter::default(), &mut rows) {
                    let corruption = malformed.into_corruption(path, offset);
                    let what = format!("expected {}, {}", corruption.expected, corruption.found);
                    report.fault(path, offset, what);
                    continue;
                }
                if header.shard != file.shard {
                    let what = format!("a block of shard {} in another's file", header.shard);
                    report.fault(path, offset, what);
                }
                let mut fault = |what| report.fault(path, offset, what);
                verify_header(&header, &rows, &mut fault);
                verify_order(&mut rows, &mut file_spans, &mut fault);
                books.add_block(&rows, &mut fault);
                count_rows(&header, report);
            }
            Piece::Damage { bytes, corruption } => {
                let what = format!(
                    "{bytes} bytes are damaged: expected {}, found {}",
                    corruption.expected, corruption.found
                );
                report.fault(path, corruption.offset, what);
            }
            Piece::Torn { bytes, .. } => report.torn_bytes += bytes,
        }
    }
    for (router, span) in file_spans {
        spans.entry(router).or_default().push(span);
    }
    Ok(())
}

fn count_rows(header: &Header, report: &mut VerifyReport) {
    report.change_rows += u64::from(header.change_rows);
    report.session_rows += u64::from(header.session_rows);
    report.ledger_rows += u64::from(header.ledger_rows);
    report.kernel_rows += u64::from(header.kernel_rows);
}

/// The header's counts are checked by `decode`; here its times.
fn verify_header(header: &Header, rows: &[Row], fault: &mut dyn FnMut(String)) {
    let times = rows.iter().map(|row| match row {
        Row::Change(change) => change.stamp.effective_time,
        Row::Session(row) => row.time,
        Row::Ledger(row) => row.time,
        Row::Kernel(row) => row.time,
    });
    let found = (times.clone().min(), times.max());
    if found != (Some(header.time_min), Some(header.time_max)) {
        let (min, max) = (header.time_min, header.time_max);
        fault(format!("the header says {min} to {max}, the rows say {found:?}"));
    }
}

/// Within a file, the places of a router's rows rise from block to block.
///
/// Rows of generation 0 belong to no session and stand before all of them, whenever written.
fn verify_order(
    rows: &mut [Row],
    spans: &mut BTreeMap<RouterId, Span>,
    fault: &mut dyn FnMut(String),
) {
    rows.sort_by_key(placed);
    for row in rows.iter() {
        let Some((router, position)) = placed(row).filter(|(_, place)| place.generation > 0) else {
            continue;
        };
        match spans.get_mut(&router) {
            None => {
                spans.insert(router, (position, position));
            }
            Some((_, last)) if *last < position => *last = position,
            Some((_, last)) => {
                fault(format!("router {router}: a row at {position:?} after one at {last:?}"));
            }
        }
    }
}

fn placed(row: &Row) -> Option<(RouterId, Position)> {
    match row {
        Row::Change(change) => Some((change.stamp.router, change.stamp.position)),
        Row::Session(row) => Some((row.router, row.position)),
        Row::Ledger(_) | Row::Kernel(_) => None,
    }
}

/// No two rows of a router have one place, over all files. Only routers whose rows overlap
/// between files need a second look: inside a file the order has shown it.
fn verify_positions(
    data: &Path,
    spans: &BTreeMap<RouterId, Vec<Span>>,
    report: &mut VerifyReport,
) -> Result<(), LogError> {
    let mut overlapping = BTreeSet::new();
    for (router, spans) in spans {
        let mut spans = spans.clone();
        spans.sort_unstable();
        if spans.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            overlapping.insert(*router);
        }
    }
    if overlapping.is_empty() {
        return Ok(());
    }
    let mut places = Vec::new();
    let filter = Filter { changes: true, sessions: true, ..Filter::NONE };
    read(data, &filter, &mut |row| {
        let wanted = |(router, place): &(RouterId, Position)| {
            overlapping.contains(router) && place.generation > 0
        };
        places.extend(placed(&row).filter(wanted));
    })?;
    places.sort_unstable();
    for pair in places.windows(2).filter(|pair| pair[0] == pair[1]) {
        let (router, place) = pair[0];
        report.fault(Path::new(""), 0, format!("router {router}: two rows at {place:?}"));
    }
    Ok(())
}

/// The books of every session, summed over all files: sums do not depend on the split.
#[derive(Default)]
struct Books {
    sessions: BTreeMap<(Option<RouterId>, u32), Sums>,
}

#[derive(Default)]
struct Sums {
    bytes_read: u64,
    bytes_done: u64,
    begun: bool,
    ended: bool,
    /// The session ended while the collector lived: nothing may be left in a buffer.
    closed: bool,
}

impl Books {
    fn add_block(&mut self, rows: &[Row], fault: &mut dyn FnMut(String)) {
        let mut change_rows = 0_u64;
        let mut change_rows_due = 0_u64;
        for row in rows {
            match row {
                Row::Change(_) => change_rows += 1,
                Row::Ledger(row) => {
                    change_rows_due = sum([change_rows_due, row.changes, row.derived]);
                    self.add_ledger(row, fault);
                }
                Row::Session(row) => self.add_session(row),
                Row::Kernel(_) => {}
            }
        }
        if change_rows != change_rows_due {
            fault(format!(
                "the ledger counts {change_rows_due} change rows, the block holds {change_rows}"
            ));
        }
    }

    fn add_session(&mut self, row: &SessionRow) {
        let key = (Some(row.router), row.position.generation);
        match row.event {
            SessionEvent::Initiation { .. } => {
                self.sessions.entry(key).or_default().begun = true;
            }
            SessionEvent::Termination { reason } => {
                let sums = self.sessions.entry(key).or_default();
                sums.ended = true;
                sums.closed = reason != Reason::CollectorLost;
            }
            _ => {}
        }
    }

    fn add_ledger(&mut self, row: &LedgerRow, fault: &mut dyn FnMut(String)) {
        let rejected_bytes = sum(row.rejected.iter().map(|(_, bytes, _)| *bytes));
        let rejected_mappings = sum(row.rejected.iter().map(|(_, _, mappings)| *mappings));
        let explained = sum([row.changes, row.confirmed, row.duplicates, rejected_mappings]);
        if row.mappings_framed != explained {
            fault(format!(
                "ledger of {}: {} mappings framed, {explained} explained",
                session_name(row.router, row.generation),
                row.mappings_framed
            ));
        }
        let sums = self.sessions.entry((row.router, row.generation)).or_default();
        sums.bytes_read = sum([sums.bytes_read, row.bytes_read]);
        sums.bytes_done = sum([sums.bytes_done, row.bytes_framed, rejected_bytes]);
    }

    /// `is_cut`: the beginning of the log is not kept, and the books of a session that began there
    /// are not whole.
    fn close(&self, is_cut: bool, report: &mut VerifyReport) {
        self.close_sessions(report);
        for ((router, generation), sums) in &self.sessions {
            if is_cut && !sums.begun {
                continue;
            }
            let balanced = if sums.closed {
                sums.bytes_read == sums.bytes_done
            } else {
                sums.bytes_read >= sums.bytes_done
            };
            if !balanced {
                let what = format!(
                    "ledger of {}: {} bytes read, {} framed or rejected",
                    session_name(*router, *generation),
                    sums.bytes_read,
                    sums.bytes_done
                );
                report.fault(Path::new(""), 0, what);
            }
        }
    }
}

impl Books {
    /// Only the last session of a router may be open: every other one ended, and said so.
    fn close_sessions(&self, report: &mut VerifyReport) {
        let mut begun = self.sessions.iter().filter(|(_, sums)| sums.begun).peekable();
        while let Some((&(router, generation), sums)) = begun.next() {
            let followed = begun.peek().is_some_and(|((next, _), _)| *next == router);
            if followed && !sums.ended {
                let name = session_name(router, generation);
                report.fault(Path::new(""), 0, format!("{name}: the session never ended"));
            }
        }
    }
}

fn session_name(router: Option<RouterId>, generation: u32) -> String {
    match router {
        Some(router) => format!("router {router}, generation {generation}"),
        None => "connections of no known router".to_owned(),
    }
}

/// Counts from disk may be anything: their sum stops at the largest number.
fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}
