//! Reads each router's rows in the one order of history, without holding the log in memory.
//!
//! In:   a data folder and a filter.
//! Out:  rows; those of one router in the order of `Position`, routers mixed.
//! Law:  when files turn out to hold a router's rows in another order, that router starts over.
//! Not:  what the rows mean (`router`, `history`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::LogError;
use super::read::{Filter, ReadReport, read, read_blocks};
use crate::mapping::RouterId;
use crate::row::{Position, Row};

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
pub fn read_ordered(
    data: &Path,
    filter: &Filter,
    on_row: &mut dyn FnMut(Ordered<'_>),
) -> Result<ReadReport, LogError> {
    let mut last: BTreeMap<RouterId, Position> = BTreeMap::new();
    let mut disordered: BTreeSet<RouterId> = BTreeSet::new();
    let report = read_blocks(data, filter, &mut |rows| {
        rows.sort_by_key(|row| place(row).1);
        for row in rows.iter() {
            let (Some(router), position) = place(row) else { continue };
            if disordered.contains(&router) {
                continue;
            }
            // Rows of generation 0 belong to no session: they may come between any two others.
            if !matches!(row, Row::Ledger(_)) && position.generation > 0 {
                let before = last.insert(router, position);
                if before.is_some_and(|before| before >= position) {
                    disordered.insert(router);
                    continue;
                }
            }
            on_row(Ordered::Row(router, row));
        }
    })?;
    if disordered.is_empty() {
        return Ok(report);
    }
    let mut held: BTreeMap<RouterId, Vec<Row>> = BTreeMap::new();
    read(data, filter, &mut |row| {
        if let Some(router) = place(&row).0.filter(|router| disordered.contains(router)) {
            held.entry(router).or_default().push(row);
        }
    })?;
    for (router, mut rows) in held {
        rows.sort_by_key(|row| place(row).1);
        on_row(Ordered::StartOver(router));
        rows.iter().for_each(|row| on_row(Ordered::Row(router, row)));
    }
    Ok(report)
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
