//! Reads each router's rows in the one order of history, without holding the log in memory.
//!
//! In:   a data folder and a filter.
//! Out:  rows; those of one router in the order of `Position`, routers mixed.
//! Law:  when files turn out to hold a router's rows in another order, that router starts over.
//! Not:  what the rows mean (`router`, `history`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::LogError;
use super::read::{Filter, Met, ReadReport, read, read_blocks};
use crate::mapping::RouterId;
use crate::row::{Position, Reason, Row, SessionEvent, SessionRow};
use crate::time::Micros;

/// What `read_ordered` tells.
#[derive(Debug)]
pub enum Ordered<'a> {
    /// The next row, of this router.
    Row(RouterId, &'a Row),
    /// Forget what was said of this router: its rows come again from the first, all of them.
    StartOver(RouterId),
}

/// Tells each router's rows in the order of `Position`; a ledger row comes with those of its block,
/// behind the session's other rows in it, and rows of generation 0 come as they were written, ahead
/// of their block. Rows of no router are left out.
///
/// A router's rows are almost always in order from file to file. Where they are not (it moved
/// between shards, or the collector's clock was set back), it starts over once, from memory.
///
/// Where damage was passed over, nobody knows whose rows are missing: every router whose last row
/// is from the same shard gets a gap row that is not in the log (`Reason::LogDamaged`), if the
/// filter asks for session rows.
pub fn read_ordered(
    data: &Path,
    filter: &Filter,
    on_row: &mut dyn FnMut(Ordered<'_>),
) -> Result<ReadReport, LogError> {
    let mut pass = Pass::default();
    let report = read_blocks(data, filter, &mut |file, met| match met {
        Met::Rows(rows) => pass.rows(file.shard, rows, on_row),
        Met::Damage(whole_until) if filter.sessions => pass.damage(file.shard, whole_until, on_row),
        Met::Damage(_) => {}
    })?;
    if pass.disordered.is_empty() {
        return Ok(report);
    }
    let mut held: BTreeMap<RouterId, Vec<Row>> = BTreeMap::new();
    read(data, filter, &mut |row| {
        if let Some(router) = place(&row).0.filter(|router| pass.disordered.contains(router)) {
            held.entry(router).or_default().push(row);
        }
    })?;
    for gap in pass.gaps {
        if let Some(rows) = held.get_mut(&gap.router) {
            rows.push(Row::Session(gap));
        }
    }
    for (router, mut rows) in held {
        // Stable: a gap, pushed last, stays behind the row whose place it has.
        rows.sort_by_key(|row| place(row).1);
        on_row(Ordered::StartOver(router));
        rows.iter().for_each(|row| on_row(Ordered::Row(router, row)));
    }
    Ok(report)
}

/// What one pass over the files knows so far.
#[derive(Default)]
struct Pass {
    last: BTreeMap<RouterId, Last>,
    disordered: BTreeSet<RouterId>,
    /// Gaps that damage has made.
    gaps: Vec<SessionRow>,
}

/// A router's last row.
#[derive(Clone, Copy)]
struct Last {
    position: Position,
    time: Micros,
    shard: u16,
}

impl Pass {
    /// Tells the rows of a block, by router in order; finds routers that are out of order.
    fn rows(&mut self, shard: u16, rows: &mut [Row], on_row: &mut dyn FnMut(Ordered<'_>)) {
        rows.sort_by_key(|row| place(row).1);
        for row in rows.iter() {
            let (Some(router), position) = place(row) else { continue };
            let time = collected(row);
            let begin = Last { position: Position::default(), time, shard };
            let last = self.last.entry(router).or_insert(begin);
            (last.time, last.shard) = (last.time.max(time), shard);
            // Rows of generation 0 belong to no session: they may come between any two others.
            if !matches!(row, Row::Ledger(_)) && position.generation > 0 {
                if position <= last.position {
                    self.disordered.insert(router);
                }
                last.position = last.position.max(position);
            }
            if !self.disordered.contains(&router) {
                on_row(Ordered::Row(router, row));
            }
        }
    }

    fn damage(&mut self, shard: u16, whole_until: Micros, on_row: &mut dyn FnMut(Ordered<'_>)) {
        for (router, last) in self.last.iter().filter(|(_, last)| last.shard == shard) {
            let start = last.time.max(whole_until);
            let event = SessionEvent::Gap { start, key: None, reason: Reason::LogDamaged };
            let gap = SessionRow { router: *router, position: last.position, time: start, event };
            self.gaps.push(gap.clone());
            if !self.disordered.contains(router) {
                on_row(Ordered::Row(*router, &Row::Session(gap)));
            }
        }
    }
}

/// When the collector wrote the row, by its own clock.
fn collected(row: &Row) -> Micros {
    match row {
        Row::Change(change) => change.stamp.collection_time,
        Row::Session(row) => row.time,
        Row::Ledger(row) => row.time,
        Row::Kernel(row) => row.time,
    }
}

/// Whose row it is, and where it stands among that router's rows.
fn place(row: &Row) -> (Option<RouterId>, Position) {
    match row {
        Row::Change(change) => (Some(change.stamp.router), change.stamp.position),
        Row::Session(session) => (Some(session.router), session.position),
        // A ledger row has no place of its own: behind what its session did.
        Row::Ledger(ledger) => (
            ledger.router,
            Position { generation: ledger.generation, sequence: u64::MAX, index: u32::MAX },
        ),
        Row::Kernel(_) => (None, Position::default()),
    }
}
