//! What differs between two instants.
//!
//! In:   a data folder and two instants.
//! Out:  one row per entry that was added, altered or withdrawn in between.
//! Law:  where either side is unknown the row says so, instead of a difference.
//! Not:  when it changed, and how often (`events`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use storage::history::network::{Network, TableEntry};
use storage::mapping::{Key, Mapping, RouterId};
use storage::time::Micros;

use super::events::mapping_cells;
use super::network::{Answer, key_cells, network, router_answer};
use super::sheet::{Cell, Sheet};
use super::{Answered, Instant, QueryError};

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the later table has it.
    Added,
    /// Both have it, with other values.
    Altered,
    /// Only the earlier table has it.
    Withdrawn,
    /// One side cannot be vouched for.
    Unknown {
        /// Why: the reason of a gap, or another word.
        cause: &'static str,
        /// Since when; `None` = from the beginning.
        since: Option<Micros>,
    },
}

impl Difference {
    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Difference::Added => "added",
            Difference::Altered => "altered",
            Difference::Withdrawn => "withdrawn",
            Difference::Unknown { .. } => "unknown",
        }
    }
}

/// One entry that differs, or one router of which nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferenceRow {
    /// The router.
    pub router: RouterId,
    /// Which entry; `None` = all that are not listed: they are unknown.
    pub key: Option<Key>,
    /// How it differs.
    pub difference: Difference,
    /// The value at the first instant.
    pub before: Option<Mapping>,
    /// The value at the second.
    pub after: Option<Mapping>,
}

/// Compares the tables of two instants, router by router, in the order of the keys.
///
/// A router that is unknown at either instant is one row; an entry that is, one row of its own. Of
/// a table that was never known in full, one more row speaks for every entry that is not listed.
pub fn difference(
    data: &Path,
    first: impl Into<Instant>,
    second: impl Into<Instant>,
    only: Option<RouterId>,
) -> Result<Answered<Vec<DifferenceRow>>, QueryError> {
    let Answered { value: before, mut warnings, mut rows_missing } = network(data, first, only)?;
    let Answered { value: after, warnings: told, rows_missing: lacking } =
        network(data, second, only)?;
    // What both met is said once.
    warnings.extend(told.into_iter().filter(|line| !warnings.contains(line)).collect::<Vec<_>>());
    let fresh = lacking.into_iter().filter(|place| !rows_missing.contains(place));
    rows_missing.extend(fresh.collect::<Vec<_>>());
    // A router that was asked about gets an answer even if it had not been heard.
    let ids = before.routers().chain(after.routers()).map(|(id, _)| id).chain(only);
    let mut rows = Vec::new();
    for router in ids.collect::<BTreeSet<RouterId>>() {
        compare(router, &before, &after, &mut rows);
    }
    Ok(Answered { value: rows, warnings, rows_missing })
}

fn compare(router: RouterId, before: &Network, after: &Network, rows: &mut Vec<DifferenceRow>) {
    let answers = [router_answer(before, router), router_answer(after, router)];
    if let Some(difference) = answers.iter().find_map(unknown) {
        rows.push(DifferenceRow { router, key: None, difference, before: None, after: None });
        return;
    }
    let standing = |network: &Network, key: &Key| {
        network.router(router).map(|router| Answer::of(router.standing_of(key)))
    };
    let (mut entries_before, mut entries_after) = (entries(before, router), entries(after, router));
    let mut keys: BTreeSet<Key> =
        entries_before.keys().chain(entries_after.keys()).copied().collect();
    let sides = || [before, after].into_iter().filter_map(|network| network.router(router));
    keys.extend(sides().flat_map(|side| side.state.gaps.keys.keys()));
    for key in keys {
        let answers = [standing(before, &key), standing(after, &key)];
        let doubtful = answers.iter().flatten().find_map(unknown);
        let (before, after) = (entries_before.remove(&key), entries_after.remove(&key));
        if let Some(difference) = doubtful.or_else(|| differ(before.as_ref(), after.as_ref())) {
            let mapping = |entry: Option<TableEntry>| entry.map(|entry| entry.mapping);
            let (before, after) = (mapping(before), mapping(after));
            rows.push(DifferenceRow { router, key: Some(key), difference, before, after });
        }
    }
    let rest = sides().find_map(|side| unknown(&Answer::of(side.standing_of_the_rest())));
    rows.extend(rest.map(|difference| DifferenceRow {
        router,
        key: None,
        difference,
        before: None,
        after: None,
    }));
}

fn entries(network: &Network, router: RouterId) -> BTreeMap<Key, TableEntry> {
    let table = network.router(router).map(|router| router.table()).unwrap_or_default();
    table.into_iter().map(|entry| (entry.key, entry)).collect()
}

fn unknown(answer: &Answer) -> Option<Difference> {
    answer.doubt().map(|(cause, since)| Difference::Unknown { cause, since })
}

fn differ(before: Option<&TableEntry>, after: Option<&TableEntry>) -> Option<Difference> {
    match (before, after) {
        (None, Some(_)) => Some(Difference::Added),
        (Some(_), None) => Some(Difference::Withdrawn),
        (Some(before), Some(after)) if !same_value(&before.mapping, &after.mapping) => {
            Some(Difference::Altered)
        }
        _ => None,
    }
}

/// The value of an entry is all but its times: a new time alone changes nothing.
fn same_value(before: &Mapping, after: &Mapping) -> bool {
    before.fec == after.fec
        && before.operation == after.operation
        && before.branches == after.branches
        && before.extra == after.extra
}

/// The rows as a sheet.
pub fn difference_sheet(rows: &[DifferenceRow]) -> Sheet {
    let mut sheet = Sheet::new(&[
        "router",
        "difference",
        "in_label",
        "origin",
        "fec",
        "operation_before",
        "branches_before",
        "operation_after",
        "branches_after",
        "unknown_since",
        "cause",
    ]);
    for row in rows {
        let nothing = || [const { Cell::Nothing }; 5];
        let before = row.before.as_ref().map(mapping_cells);
        let after = row.after.as_ref().map(mapping_cells);
        let entry = after.clone().or_else(|| before.clone());
        let of_key = || row.key.as_ref().map_or_else(nothing, key_cells);
        let [in_label, origin, fec, ..] = entry.unwrap_or_else(of_key);
        let [_, _, _, operation_before, branches_before] = before.unwrap_or_else(nothing);
        let [_, _, _, operation_after, branches_after] = after.unwrap_or_else(nothing);
        let (since, cause) = match row.difference {
            Difference::Unknown { cause, since } => (Cell::time(since), Cell::text(cause)),
            _ => (Cell::Nothing, Cell::Nothing),
        };
        sheet.push(vec![
            Cell::text(row.router),
            Cell::text(row.difference.name()),
            in_label,
            origin,
            fec,
            operation_before,
            branches_before,
            operation_after,
            branches_after,
            since,
            cause,
        ]);
    }
    sheet
}
