//! The burst microscope: what came in each few milliseconds, and what the kernel said meanwhile.
//!
//! In:   change, ledger and kernel rows of a data folder; an interval and the width of a bin.
//! Out:  one line per bin in which anything happened.
//! Law:  sums do not depend on the split: bins of any width add up to the same.
//! Not:  what was a burst (`bursts`).

use std::collections::BTreeMap;
use std::path::Path;

use storage::log::{Filter, ReadReport, log_files, read_file, read_kernel};
use storage::row::Row;
use storage::time::{Hour, MICROS_PER_HOUR, Micros};

use super::bursts::moved_cell;
use super::sheet::{Cell, Sheet};
use super::{Answered, QueryError, Range, folder};
use crate::watch::Moved;

/// More bins than these are no answer that anybody reads.
const BINS_MAX: i64 = 1_000_000;
/// A row is written at most so long after its time: a commit waits for a disk, not for ever.
const WRITTEN_AFTER_US: i64 = MICROS_PER_HOUR;

/// One bin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinRow {
    /// When it begins.
    pub time: Micros,
    /// Change rows, by the time at which their bytes were read.
    pub changes: u64,
    /// Mappings, by the time at which the books counted them: at their commit.
    pub mappings: u64,
    /// Bytes, by the same time.
    pub bytes: u64,
    /// Bytes read from sockets, as the watch saw them while a burst ran.
    pub received_bytes: u64,
    /// Mappings digested, likewise.
    pub digested: u64,
    /// The most bytes that waited, likewise.
    pub surge_bytes: u64,
    /// Counters of the kernel that moved.
    pub moved: Vec<Moved>,
}

/// The bins of an interval in which anything happened.
pub fn bins(data: &Path, range: Range, every_us: i64) -> Result<Answered<Vec<BinRow>>, QueryError> {
    let width = every_us.max(1);
    let data = folder(data)?;
    let mut files = log_files(data)?;
    let range = told(range, width, files.iter().map(|file| file.hour));
    let span_us = range.until.since(range.since);
    if span_us / width >= BINS_MAX {
        return Err(QueryError::Bins { max: BINS_MAX, least_us: span_us / BINS_MAX + 1 });
    }
    let mut bins = Bins { range, width, rows: BTreeMap::new() };
    let hours = range.since.hour()..=range.until.offset(WRITTEN_AFTER_US).hour();
    let filter = Filter { changes: true, ledger: true, ..Filter::NONE };
    let mut report = ReadReport::default();
    files.retain(|file| hours.contains(&file.hour));
    for file in files {
        read_file(&file, &filter, &mut report, &mut |row| bins.add(&row))?;
    }
    let of_kernel = read_kernel(data, range.since, range.until, &mut |row| {
        bins.add(&Row::Kernel(row));
    })?;
    report.damages.extend(of_kernel.damages);
    Ok(Answered::new(bins.rows.into_values().collect(), &report))
}

/// What of an interval a log of these hours can tell. Bins begin where the interval does; where it
/// has no beginning, they lie like those that begin in 1970.
fn told(range: Range, width: i64, hours: impl Iterator<Item = Hour> + Clone) -> Range {
    let (Some(first), Some(last)) = (hours.clone().min(), hours.max()) else {
        return Range { until: range.since, ..range };
    };
    let first = first.start().offset(-WRITTEN_AFTER_US);
    let since = match range.since {
        Micros::MIN => Micros(first.0.div_euclid(width).saturating_mul(width)).max(Micros::MIN),
        since => since,
    };
    let until = range.until.min(last.next().start()).max(since);
    Range { since, until }
}

struct Bins {
    range: Range,
    width: i64,
    rows: BTreeMap<i64, BinRow>,
}

impl Bins {
    fn add(&mut self, row: &Row) {
        match row {
            Row::Change(change) => {
                if let Some(bin) = self.at(change.stamp.collection_time) {
                    bin.changes = bin.changes.saturating_add(1);
                }
            }
            Row::Ledger(row) => {
                if let Some(bin) =
                    self.at(row.time).filter(|_| row.bytes_read > 0 || row.mappings_framed > 0)
                {
                    bin.mappings = bin.mappings.saturating_add(row.mappings_framed);
                    bin.bytes = bin.bytes.saturating_add(row.bytes_read);
                }
            }
            Row::Session(_) => {}
            Row::Kernel(row) => {
                let value = row.value;
                if row.counter.starts_with("burst.") {
                    return;
                }
                let Some(bin) = self.at(row.time) else { return };
                match &*row.counter {
                    "bin.received_bytes" => {
                        bin.received_bytes = bin.received_bytes.saturating_add(value);
                    }
                    "bin.mappings" => bin.digested = bin.digested.saturating_add(value),
                    "bin.surge_bytes" => bin.surge_bytes = bin.surge_bytes.max(value),
                    counter => note(&mut bin.moved, counter, value),
                }
            }
        }
    }

    /// The bin of an instant, if that lies in the interval.
    fn at(&mut self, time: Micros) -> Option<&mut BinRow> {
        if !self.range.contains(time) {
            return None;
        }
        let place = time.since(self.range.since) / self.width;
        let start = self.range.since.offset(place * self.width);
        let bin = || BinRow { time: start, ..BinRow::default() };
        Some(self.rows.entry(place).or_insert_with(bin))
    }
}

/// Each counter once, sorted by name.
fn note(moved: &mut Vec<Moved>, counter: &str, by: u64) {
    match moved.binary_search_by(|known| known.counter.as_str().cmp(counter)) {
        Ok(place) => moved[place].by = moved[place].by.saturating_add(by),
        Err(place) => moved.insert(place, Moved { counter: counter.to_owned(), by }),
    }
}

/// One line per bin.
pub fn bins_sheet(rows: &[BinRow]) -> Sheet {
    let mut sheet = Sheet::new(COLUMNS);
    for row in rows {
        sheet.push(vec![
            Cell::Time(row.time),
            Cell::Count(row.received_bytes),
            Cell::Count(row.digested),
            Cell::Count(row.surge_bytes),
            Cell::Count(row.changes),
            Cell::Count(row.mappings),
            Cell::Count(row.bytes),
            moved_cell(&row.moved),
        ]);
    }
    sheet
}

const COLUMNS: &[&str] =
    &["time", "received_bytes", "digested", "surge_bytes", "changes", "mappings", "bytes", "moved"];
