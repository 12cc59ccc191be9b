//! Tables, entry by entry.
//!
//! In:   rows of a table as the collector shows it; the table of the model.
//! Out:  findings: what is missing, too much, different, of another time, or wrongly vouched for.
//! Law:  what may be unknown is unknown altogether or exact.
//! Not:  which routers and instants are asked about (`draw`, `verify`).

use std::collections::BTreeSet;
use std::path::Path;

use engine::query::{self, QueryError, TableRow};
use storage::mapping::{Mapping, RouterId};
use storage::time::Micros;

use super::{Findings, Verdict};
use crate::answer::{AnswerKey, AsOf, Presence};

impl Verdict {
    /// Compares every router's table as of this instant, entry by entry, times included.
    pub fn check_tables(
        &mut self,
        key: &AnswerKey<'_>,
        data: &Path,
        at: Micros,
        name: &str,
    ) -> Result<(), QueryError> {
        let network = query::network(data, at, None)?.value;
        let mut findings = Findings::default();
        for (router_index, router) in key.network.topology.routers.iter().enumerate() {
            let shown = Shown {
                rows: query::table_rows(&network, router.id).unwrap_or_default(),
                is_known: query::router_answer(&network, router.id).is_known(),
            };
            compare_router(key, router_index, &shown, at, &mut findings);
        }
        let ours: BTreeSet<RouterId> =
            key.network.topology.routers.iter().map(|router| router.id).collect();
        for row in query::router_rows(&network).iter().filter(|row| !ours.contains(&row.router)) {
            findings.differ(format_args!(
                "router {} is not of this network: start the collector on an empty data folder",
                row.router
            ));
        }
        self.add(format!("tables {name} ({at}), entry by entry"), findings);
        Ok(())
    }
}

/// A router's table as the collector shows it.
pub(super) struct Shown {
    /// Its entries, in the order of their keys.
    pub(super) rows: Vec<TableRow>,
    /// Whether the router as a whole is vouched for.
    pub(super) is_known: bool,
}

/// Compares a router's table as far as the collector can know it.
pub(super) fn compare_router(
    key: &AnswerKey<'_>,
    router_index: usize,
    shown: &Shown,
    at: Micros,
    findings: &mut Findings,
) {
    let router = key.network.topology.routers[router_index].id;
    let Shown { rows: found, is_known } = shown;
    match key.presence(router_index, at) {
        Presence::Gone => return expect_unknown(router, found, findings),
        // Either answer may be right; what is vouched for has to be.
        Presence::Unsure if !is_known => return expect_unknown(router, found, findings),
        Presence::Unsure | Presence::Here => {}
    }
    compare_tables(router, at, &key.as_of(router_index, at), found, findings);
}

/// Both in the order of their keys.
fn compare_tables(
    router: RouterId,
    at: Micros,
    expected: &AsOf,
    found: &[TableRow],
    findings: &mut Findings,
) {
    let AsOf { entries, open } = expected;
    let mut found = found.iter().filter(|row| !open.contains(&row.key)).peekable();
    for (mapping, span) in entries {
        findings.answers += 1;
        let key = mapping.key();
        while let Some(extra) = found.next_if(|row| row.key < key) {
            findings.differ(format_args!("{router} {}: in the log only", extra.key));
        }
        let Some(row) = found.next_if(|row| row.key == key) else {
            findings.differ(format_args!("{router} {key}: missing"));
            continue;
        };
        if !row.answer.is_known() {
            findings.differ(format_args!("{router} {key}: {:?}", row.answer));
        } else if !same_value(&row.mapping, mapping) {
            let (row, expected) = (shown(&row.mapping), shown(mapping));
            findings.differ(format_args!("{router} {key}: expected {expected}, found {row}"));
        } else if !span.holds(row.active_since) || row.active_since > at {
            let (since, expected) = (row.active_since, span.earliest);
            findings
                .differ(format_args!("{router} {key}: active since {since}, expected {expected}"));
        }
    }
    for extra in found {
        findings.differ(format_args!("{router} {}: in the log only", extra.key));
    }
}

/// Of a router whose session is broken no entry may be vouched for.
fn expect_unknown(router: RouterId, found: &[TableRow], findings: &mut Findings) {
    findings.answers += 1;
    if let Some(row) = found.iter().find(|row| row.answer.is_known()) {
        findings.differ(format_args!("{router} {}: known, though the router is gone", row.key));
    }
}

/// Equal but for times: when a value became active is compared apart.
pub(super) fn same_value(found: &Mapping, expected: &Mapping) -> bool {
    found.fec == expected.fec
        && found.ingress == expected.ingress
        && found.operation == expected.operation
        && found.branches == expected.branches
        && found.extra == expected.extra
}

pub(super) fn shown(mapping: &Mapping) -> String {
    let branches: Vec<String> = mapping.branches.iter().map(ToString::to_string).collect();
    format!("{} {} {}", mapping.fec, mapping.operation, branches.join(" "))
}

#[cfg(test)]
mod tests {
    use engine::query::Answer;
    use storage::row::Reason;

    use super::*;
    use crate::topology::Shape;
    use crate::world::World;

    const AT: Micros = Micros(100);

    fn rows(table: &[Mapping]) -> Vec<TableRow> {
        let row = |mapping: &Mapping| TableRow {
            key: mapping.key(),
            mapping: mapping.clone(),
            active_since: mapping.event_time,
            answer: Answer::Known,
        };
        table.iter().map(row).collect()
    }

    fn differences(expected: &AsOf, found: &[TableRow]) -> u64 {
        let mut findings = Findings::default();
        let router = RouterId("172.16.0.1".parse().unwrap());
        compare_tables(router, AT, expected, found, &mut findings);
        assert_eq!(findings.answers, expected.entries.len() as u64);
        assert_eq!(findings.told.len() as u64, findings.differences);
        findings.differences
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let shape = Shape { routers: 30, edges: 6, seed: 1 };
        let world = World::generate(&shape.into(), Micros(77)).unwrap();
        let table = world.key().as_of(3, AT);
        let exact = rows(&world.key().table(3, AT));
        let part = |places: std::ops::Range<usize>| AsOf {
            entries: table.entries[places].to_vec(),
            ..AsOf::default()
        };
        assert_eq!(differences(&table, &exact), 0);
        assert_eq!(differences(&table, &exact[1..]), 1);
        assert_eq!(differences(&part(1..exact.len()), &exact), 1);
        assert_eq!(differences(&part(0..5), &exact[..6]), 1);
        let mut late = exact.clone();
        late[2].active_since = Micros(78);
        assert_eq!(differences(&table, &late), 1);
        let mut other = exact.clone();
        other[2].mapping.branches = other[4].mapping.branches.clone();
        other[0].mapping.operation = storage::mapping::Operation::Pop;
        assert_eq!(differences(&table, &other), 2);
        let mut unknown = exact.clone();
        let cause = Reason::CollectorLost.name();
        unknown[1].answer = Answer::Unknown { cause, since: None };
        assert_eq!(differences(&table, &unknown), 1);
        // Of a key that is open any answer may be right, or none.
        let mut open = table.clone();
        open.open.insert(open.entries.remove(1).0.key());
        for shown in [&exact[..], &unknown, &[&exact[..1], &exact[2..]].concat()] {
            assert_eq!(differences(&open, shown), 0);
        }
    }
}
