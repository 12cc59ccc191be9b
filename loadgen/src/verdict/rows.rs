//! The log to the row: every change that was filed, every gap, every line of the ledger.
//!
//! In:   a router's history and books, asked through `engine::query`; what the model files.
//! Out:  findings: rows that are missing, too many, or filed otherwise; gaps and rejections that
//!       nothing explains, or that are missing where something rightly is rejected.
//! Law:  between two changes a table stands still: who has all rows right has every instant right.
//! Not:  tables as of an instant (`tables`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use engine::query::{self, HistoryRow, LedgerBy, LedgerLine, QueryError, Range};
use storage::mapping::Key;
use storage::row::{Cause, Change, Flags, Reason, Scope};
use storage::time::Micros;

use super::tables::{same_value, shown};
use super::{Findings, Verdict};
use crate::answer::filing::{Span, file};
use crate::answer::{AnswerKey, Filed, Presence};
use crate::clock::instant;
use crate::faults::Fault;

/// How long the last rows of a collector may take until they are in its log: its commit interval,
/// and a disk that stalls.
const BOOKS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at the books.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Verdict {
    /// Compares all rows of these routers with what the model files.
    pub fn check_rows(
        &mut self,
        key: &AnswerKey<'_>,
        data: &Path,
        routers: &[usize],
        name: &str,
    ) -> Result<(), QueryError> {
        let mut findings = Findings::default();
        for router_index in routers {
            let router = key.network.topology.routers[*router_index].id;
            let rows = query::history(data, router, None, Range::ALL)?.value;
            compare_changes(key, *router_index, &rows, &mut findings);
            compare_gaps(key, *router_index, &rows, &mut findings);
        }
        let of = key.network.topology.routers.len();
        let what = format!("rows{name} of {} of {of} routers, each with its times", routers.len());
        self.add(what, findings);
        Ok(())
    }

    /// Whether the books of a collector without sessions balance, hold exactly the changes of the
    /// model, and reject nothing but what had to be; and whether every checksum, count and order
    /// holds. Returns change rows and bytes of the log.
    pub fn check_books(
        &mut self,
        key: &AnswerKey<'_>,
        data: &Path,
    ) -> Result<(u64, u64), QueryError> {
        let ledger = query::ledger(data, Range::ALL, LedgerBy::Router)?.value;
        let mut findings = Findings { answers: ledger.lines.len() as u64, ..Findings::default() };
        for imbalance in &ledger.imbalances {
            findings.differ(imbalance);
        }
        let (missing, buffered) = (ledger.total.mappings_missing(), ledger.total.bytes_buffered());
        if missing != 0 || buffered != 0 {
            findings.differ(format_args!("{missing} mappings, {buffered} bytes unaccounted for"));
        }
        let lines: BTreeMap<&str, &LedgerLine> =
            ledger.lines.iter().map(|line| (line.group.as_str(), line)).collect();
        for (router_index, router) in key.network.topology.routers.iter().enumerate() {
            let line = lines.get(router.id.to_string().as_str()).copied();
            compare_books(key, router_index, line, &mut findings);
        }
        self.add("ledger, router by router, to the row".to_owned(), findings);
        let report = query::verify(data)?;
        let mut findings = Findings { answers: report.blocks, ..Findings::default() };
        for fault in &report.faults {
            findings.differ(fault);
        }
        findings.differences = report.faults_count;
        self.add("verify: checksums, counts, order".to_owned(), findings);
        Ok((report.change_rows, report.bytes))
    }
}

/// Waits until the books of a collector that goes on hold the end of every session; what is missing
/// when the time is up, `Verdict::check_books` tells.
pub fn await_books(data: &Path) -> Result<(), QueryError> {
    let deadline = instant() + BOOKS_WITHIN;
    loop {
        let ledger = query::ledger(data, Range::ALL, LedgerBy::Shard)?.value;
        let is_over = ledger.imbalances.is_empty() && ledger.total.bytes_buffered() == 0;
        if is_over || instant() > deadline {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Of each key the rows in their order; keys among each other have none.
fn compare_changes(
    key: &AnswerKey<'_>,
    router_index: usize,
    rows: &[HistoryRow],
    findings: &mut Findings,
) {
    let router = key.network.topology.routers[router_index].id;
    let mut found: BTreeMap<Key, Vec<&Change>> = BTreeMap::new();
    for row in rows {
        if let HistoryRow::Change(change) = row {
            found.entry(change.mapping.key()).or_default().push(change);
        }
    }
    found.values_mut().for_each(|rows| rows.sort_by_key(|row| row.stamp.position));
    let mut found: BTreeMap<Key, std::collections::VecDeque<&Change>> =
        found.into_iter().map(|(key, rows)| (key, rows.into())).collect();
    let mut filed_last: BTreeMap<Key, Micros> = BTreeMap::new();
    for filed in key.first(router_index).chain(key.filed(router_index, Micros::MAX)) {
        findings.answers += 1;
        let of_key = filed.mapping.key();
        let Some(row) = found.get_mut(&of_key).and_then(std::collections::VecDeque::pop_front)
        else {
            findings.differ(format_args!("{router} {of_key}: a row is missing"));
            continue;
        };
        let previous = filed_last.insert(of_key, row.stamp.effective_time);
        if let Err(told) = compare_change(&filed, row, previous) {
            findings.differ(format_args!("{router} {of_key}: {told}"));
        }
    }
    for (of_key, rows) in found.iter().filter(|(_, rows)| !rows.is_empty()) {
        findings.differ(format_args!("{router} {of_key}: {} rows too many", rows.len()));
    }
}

/// `previous`: when the key's previous row is filed.
fn compare_change(filed: &Filed, row: &Change, previous: Option<Micros>) -> Result<(), String> {
    let Filed { mapping, happened, span } = filed;
    let (time, collected) = (row.stamp.effective_time, row.stamp.collection_time);
    if !same_value(&row.mapping, mapping) {
        let (row, expected) = (shown(&row.mapping), shown(mapping));
        return Err(format!("expected row {expected}, found {row}"));
    }
    let (said, expected) = (row.mapping.event_time, mapping.event_time);
    if said != expected {
        return Err(format!("said {said}, expected {expected}"));
    }
    if collected < *happened {
        return Err(format!("read {collected}, before {happened}"));
    }
    if !span.holds(time) {
        let Span { earliest, latest, .. } = span;
        return Err(format!("filed at {time}, expected {earliest} to {latest}"));
    }
    // The moment of reading is the row's own. What is filed later than it asks for, a snapshot has
    // forbidden: when that began is known within the bounds of the span alone.
    let expected = file(said, collected, previous, Some(time));
    if time != expected.time {
        return Err(format!("filed at {time}, expected {} at least", expected.time));
    }
    let has = |flag| row.stamp.flags.contains(flag);
    let flags = [
        ("clock-far", has(Flags::CLOCK_FAR), expected.is_far),
        ("clock-backwards", has(Flags::CLOCK_BACKWARDS), expected.is_backwards),
        ("before-snapshot", has(Flags::BEFORE_SNAPSHOT), expected.is_before_snapshot),
    ];
    match flags.into_iter().find(|(_, found, expected)| found != expected) {
        Some((flag, found, expected)) => Err(format!("{flag} {found}, expected {expected}")),
        None => Ok(()),
    }
}

/// A gap is there where a session broke or a bomb was refused, and nowhere else.
fn compare_gaps(
    key: &AnswerKey<'_>,
    router_index: usize,
    rows: &[HistoryRow],
    findings: &mut Findings,
) {
    let router = key.network.topology.routers[router_index].id;
    let gaps = rows.iter().filter_map(|row| match row {
        HistoryRow::Gap(gap) => Some(gap),
        _ => None,
    });
    let bombed = Reason::Rejected(Cause::InflateTooLong);
    let mut bombs = 0;
    for gap in gaps {
        findings.answers += 1;
        bombs += u64::from(gap.reason == bombed);
        let is_over = gap.reason == Reason::Finished;
        let is_explained = is_over || key.outages(router_index).next().is_some();
        let is_gone = key.presence(router_index, Micros::MAX) == Presence::Gone;
        if !is_explained || gap.scope != Scope::Router {
            let reason = gap.reason.name();
            findings.differ(format_args!("{router}: a gap from {}: {reason}", gap.start));
        } else if gap.end.is_none() && !is_gone && !is_over {
            findings.differ(format_args!("{router}: the gap from {} never ended", gap.start));
        }
    }
    let expected = u64::from(key.world.is_struck(router_index, Fault::Bomb));
    if bombs != expected {
        findings.differ(format_args!("{router}: {bombs} gaps by a bomb, expected {expected}"));
    }
}

fn compare_books(
    key: &AnswerKey<'_>,
    router_index: usize,
    line: Option<&LedgerLine>,
    findings: &mut Findings,
) {
    let router = key.network.topology.routers[router_index].id;
    let first = key.first(router_index).count();
    let expected = (first + key.filed(router_index, Micros::MAX).len()) as u64;
    let changes = line.map_or(0, |line| line.changes);
    if changes != expected {
        findings.differ(format_args!("{router}: {changes} change rows, expected {expected}"));
    }
    let Some(line) = line else { return };
    if line.derived != 0 {
        findings.differ(format_args!("{router}: {} rows that no mapping caused", line.derived));
    }
    let bombed = key.world.is_struck(router_index, Fault::Bomb);
    let broke = key.outages(router_index).next().is_some();
    for (cause, (bytes, mappings)) in &line.causes {
        let is_right = match *cause {
            "inflate-too-long" => bombed,
            "truncated" => broke,
            _ => false,
        };
        if !is_right || *mappings > 0 {
            findings.differ(format_args!(
                "{router}: {bytes} bytes and {mappings} mappings rejected, {cause}"
            ));
        }
    }
    if bombed && !line.causes.contains_key("inflate-too-long") {
        findings.differ(format_args!("{router}: a bomb was not refused"));
    }
}
