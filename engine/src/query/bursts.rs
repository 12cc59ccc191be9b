//! Bursts of the past: when mappings came in heaps, and what it did to the host.
//!
//! In:   kernel rows of a data folder; an interval.
//! Out:  bursts as the watch saw them, with bins, steps and verdict; what was lost beside them.
//! Law:  a burst that a crash cut is told as such, and nobody invents its verdict.
//! Not:  finding bursts (`watch`), or bins of any width over any interval (`bins`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use storage::allowance::Allowance;
use storage::log::{ReadReport, read_kernel_within};
use storage::time::{MICROS_PER_HOUR, Micros};
use tuning::counters::LOSS_COUNTERS;

use super::sheet::{Cell, Sheet};
use super::{Answered, QueryError, Range, folder};
use crate::watch::{Burst, Headless, Moved, Reader, is_begin};

/// Where the beginning of a burst is looked for that has no end to tell it: so long before its
/// first row that was found, and longer only where it was not there. Most last seconds.
const BEGAN_BEFORE_US: [i64; 4] =
    [MICROS_PER_HOUR, 24 * MICROS_PER_HOUR, 31 * 24 * MICROS_PER_HOUR, i64::MAX];

/// What a row of a burst adds to it at most, about: a step with its words, or a bin.
const BURST_ROW_BYTES: u64 = 128;

/// What an interval of the log says of bursts, and of losses beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Those that overlap the interval, oldest first, however long before it they began.
    pub bursts: Vec<Burst>,
    /// What was lost in the interval without a burst that says so, sorted by counter.
    pub losses: Vec<Loss>,
}

/// The bursts that overlap the interval, oldest first, however long before it they began.
pub fn bursts(data: &Path, range: Range) -> Result<Answered<Vec<Burst>>, QueryError> {
    bursts_within(data, range, None)
}

/// The same, within what it may take.
pub fn bursts_within(
    data: &Path,
    range: Range,
    allowance: Option<&Allowance>,
) -> Result<Answered<Vec<Burst>>, QueryError> {
    Ok(past_within(data, range, allowance)?.map(|past| past.bursts))
}

/// Bursts and losses. The interval is read once, and again only if a burst ran at its beginning.
pub fn past(data: &Path, range: Range) -> Result<Answered<Past>, QueryError> {
    past_within(data, range, None)
}

fn past_within(
    data: &Path,
    range: Range,
    allowance: Option<&Allowance>,
) -> Result<Answered<Past>, QueryError> {
    let data = folder(data)?;
    let mut pass = Pass::new(range);
    let mut report = pass.read(data, range.since, allowance)?;
    if let Some(start) = began_before(data, &pass.reader, range.since, allowance)? {
        pass = Pass::new(range);
        report = pass.read(data, start, allowance)?;
    }
    Ok(Answered::new(pass.finish(), &report))
}

/// One reading of the kernel's rows.
struct Pass {
    range: Range,
    reader: Reader,
    losses: BTreeMap<String, Loss>,
}

impl Pass {
    fn new(range: Range) -> Pass {
        Pass { range, reader: Reader::default(), losses: BTreeMap::new() }
    }

    /// Reads from an instant on; of what comes after the interval, what belongs to bursts in it.
    fn read(
        &mut self,
        data: &Path,
        since: Micros,
        allowance: Option<&Allowance>,
    ) -> Result<ReadReport, QueryError> {
        let mut held = allowance.map(Allowance::hold);
        Ok(read_kernel_within(data, since, Micros::MAX, allowance, &mut |row| {
            let is_in = row.time <= self.range.until;
            if is_in && !self.reader.is_open() {
                self.note(&row.counter, row.time, row.value);
            }
            if is_in || self.reader.is_open() || self.reader.may_be_headless() {
                self.reader.take(&row);
                if let Some(held) = held.as_mut().filter(|_| self.reader.is_open()) {
                    held.grow(BURST_ROW_BYTES);
                }
            }
        })?)
    }

    /// A counter moved while no burst ran that anybody judged.
    fn note(&mut self, counter: &str, time: Micros, by: u64) {
        if !is_loss(counter) || time < self.range.since || self.range.until < time {
            return;
        }
        let loss = self.losses.entry(counter.to_owned()).or_insert_with(|| Loss {
            counter: counter.to_owned(),
            by: 0,
            times: 0,
            first: time,
            last: time,
        });
        loss.by = loss.by.saturating_add(by);
        loss.times = loss.times.saturating_add(1);
        (loss.first, loss.last) = (loss.first.min(time), loss.last.max(time));
    }

    fn finish(mut self) -> Past {
        let mut bursts = std::mem::take(&mut self.reader).finish();
        for burst in bursts.iter().filter(|burst| burst.head.verdict.is_none()) {
            for step in &burst.steps {
                self.note(&step.counter, Micros(step.time_us), step.by);
            }
        }
        let Range { since, until } = self.range;
        bursts.retain(|burst| burst.head.start_us <= until.0 && since.0 <= burst.head.end_us);
        Past { bursts, losses: self.losses.into_values().collect() }
    }
}

/// When the burst began that ran at this instant already, if what was read from then on tells of
/// one.
fn began_before(
    data: &Path,
    reader: &Reader,
    since: Micros,
    allowance: Option<&Allowance>,
) -> Result<Option<Micros>, QueryError> {
    match reader.headless() {
        None => return Ok(None),
        Some(Headless::BeganAt(start)) => return Ok(Some(start)),
        Some(Headless::BeganBefore) => {}
    }
    for before_us in BEGAN_BEFORE_US {
        let (from, mut last) = (since.offset(-before_us), None);
        read_kernel_within(data, from, since.offset(-1), allowance, &mut |row| {
            last = if is_begin(&row) { Some(row.time) } else { last };
        })?;
        if last.is_some() {
            return Ok(last);
        }
    }
    // Retention took its beginning.
    Ok(None)
}

/// A counter of loss that moved while no burst ran that anybody judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// As the kernel names it, behind the layer that it belongs to.
    pub counter: String,
    /// By how much in all.
    pub by: u64,
    /// How often it was seen to move.
    pub times: u64,
    /// When first.
    pub first: Micros,
    /// When last.
    pub last: Micros,
}

/// Whether a counter that moves says that something was dropped, refused or squeezed on its way
/// to the collector. An interface's `rx_dropped` does not: frames of protocols that nobody here
/// speaks count there.
fn is_loss(counter: &str) -> bool {
    let of_interface = counter.starts_with("interface.") && !counter.ends_with(".rx_dropped");
    let of_processor = counter.starts_with("softnet.") && counter.ends_with(".dropped");
    LOSS_COUNTERS.contains(&counter) || counter == "listener.drops" || of_interface || of_processor
}

/// One burst by its name, which is when it began.
pub fn burst(data: &Path, id: i64) -> Result<Answered<Option<Burst>>, QueryError> {
    burst_within(data, id, None)
}

/// The same, within what it may take.
pub fn burst_within(
    data: &Path,
    id: i64,
    allowance: Option<&Allowance>,
) -> Result<Answered<Option<Burst>>, QueryError> {
    let start = Micros(id);
    let mut held = allowance.map(Allowance::hold);
    let mut reader = Reader::default();
    let mut is_over = false;
    let data = folder(data)?;
    let report = read_kernel_within(data, start, Micros::MAX, allowance, &mut |row| {
        if !is_over {
            if let Some(held) = &mut held {
                held.grow(BURST_ROW_BYTES);
            }
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
