//! Bursts of the past: when mappings came in heaps, and what it did to the host.
//!
//! In:   kernel rows of a data folder; an interval.
//! Out:  bursts as the watch saw them, with bins, steps and verdict.
//! Law:  a burst that a crash cut is told as such, and nobody invents its verdict.
//! Not:  finding bursts (`watch`), or bins of any width over any interval (`bins`).

use std::path::Path;

use serde_json::json;
use storage::log::{ReadReport, read_kernel};
use storage::time::{MICROS_PER_HOUR, Micros};

use super::sheet::{Cell, Sheet};
use super::{Answered, QueryError, Range, folder};
use crate::watch::{Burst, Moved, Reader};

/// A burst that began so long before the interval is looked for: most last seconds, and one that
/// waits for a full disk may last.
const BEGAN_BEFORE_US: i64 = MICROS_PER_HOUR;

/// The bursts that overlap the interval, oldest first.
pub fn bursts(data: &Path, range: Range) -> Result<Answered<Vec<Burst>>, QueryError> {
    let mut reader = Reader::default();
    let since = range.since.offset(-BEGAN_BEFORE_US);
    let report = read_kernel(folder(data)?, since, Micros::MAX, &mut |row| {
        // Rows up to the end of a burst that began in the interval are wanted too.
        if row.time <= range.until || reader.is_open() {
            reader.take(&row);
        }
    })?;
    let mut bursts = reader.finish();
    bursts
        .retain(|burst| burst.head.start_us <= range.until.0 && range.since.0 <= burst.head.end_us);
    Ok(Answered::new(bursts, &report))
}

/// One burst by its name, which is when it began.
pub fn burst(data: &Path, id: i64) -> Result<Answered<Option<Burst>>, QueryError> {
    let start = Micros(id);
    let mut reader = Reader::default();
    let mut is_over = false;
    let report: ReadReport = read_kernel(folder(data)?, start, Micros::MAX, &mut |row| {
        if !is_over {
            let was_open = reader.is_open();
            reader.take(&row);
            is_over = was_open && !reader.is_open();
        }
    })?;
    let found = reader.finish().into_iter().find(|burst| burst.head.id == id);
    Ok(Answered::new(found, &report))
}

/// One line per burst.
pub fn bursts_sheet(bursts: &[Burst]) -> Sheet {
    let mut sheet = Sheet::new(COLUMNS);
    for burst in bursts {
        let head = &burst.head;
        let lasted_us = head.end_us.saturating_sub(head.start_us);
        let (outcome, layer, reasons) = match &head.verdict {
            None => (Cell::Nothing, Cell::Nothing, Cell::list(["not judged: it was cut"])),
            Some(verdict) => (
                Cell::text(verdict.outcome.name()),
                verdict.layer.map_or(Cell::Nothing, |layer| Cell::text(layer.name())),
                Cell::List(vec![verdict.reasons.join("; ")]),
            ),
        };
        sheet.push(vec![
            Cell::Time(Micros(head.start_us)),
            Cell::Number(lasted_us / 1_000),
            outcome,
            layer,
            Cell::Count(head.received_bytes),
            Cell::Count(head.mappings),
            Cell::Count(head.peak_mappings),
            Cell::Count(head.routers),
            Cell::Count(head.surge_high_bytes),
            Cell::Count(head.blocked_longest_ms),
            Cell::Count(head.gaps),
            moved_cell(&head.moved),
            reasons,
            Cell::Number(head.id),
        ]);
    }
    sheet
}

/// Counters in words for people, as objects for programs.
pub(super) fn moved_cell(moved: &[Moved]) -> Cell {
    let object = |moved: &Moved| {
        let Moved { counter, by } = moved;
        (format!("{counter} +{by}"), json!({ "counter": counter, "by": by }))
    };
    Cell::Objects(moved.iter().map(object).collect())
}

const COLUMNS: &[&str] = &[
    "start",
    "lasted_ms",
    "verdict",
    "layer",
    "received_bytes",
    "mappings",
    "peak_mappings_10ms",
    "routers",
    "surge_high_bytes",
    "blocked_longest_ms",
    "gaps",
    "moved",
    "because",
    "id",
];
