//! The verdict: every answer of the collector, compared with the answer key.
//!
//! In:   a data folder, asked through `engine::query`; the answer key of the model.
//! Out:  `Verdict`: what was asked, what differs, and the first differences in words.
//! Law:  exact or not: an answer that is unknown, missing, late or too many is a difference.
//! Not:  the answers of the model (`answer`); reading tables or logs in another way.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use engine::query::{self, LedgerBy, QueryError, Range, Selector, TableRow, Traces};
use serde::Serialize;
use storage::mapping::{Mapping, RouterId};
use storage::time::Micros;

use crate::answer::{AnswerKey, Hop, Presence, Question, Target, Way};
use crate::state::State;

/// Differences that are told in words.
const TOLD_MAX: usize = 20;

/// Whether the collector's answers are those of the model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// What was asked, in order.
    pub checks: Vec<Check>,
    /// The first differences, in words.
    pub told: Vec<String>,
}

/// One kind of question, asked about one instant.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was asked.
    pub what: String,
    /// How many answers were compared.
    pub answers: u64,
    /// How many of them differ.
    pub differences: u64,
}

impl Verdict {
    /// Whether something was asked and nothing differs.
    pub fn is_exact(&self) -> bool {
        let answered = |check: &Check| check.answers > 0 && check.differences == 0;
        !self.checks.is_empty() && self.checks.iter().all(answered)
    }

    fn add(&mut self, what: String, findings: Findings) {
        let Findings { answers, differences, told } = findings;
        self.checks.push(Check { what, answers, differences });
        let room = TOLD_MAX - self.told.len().min(TOLD_MAX);
        self.told.extend(told.into_iter().take(room));
    }

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
            let found = query::table_rows(&network, router.id).unwrap_or_default();
            match key.presence(router_index, at) {
                Presence::Here => {
                    let expected = key.table(router_index, at);
                    compare_tables(router.id, &expected, &found, &mut findings);
                }
                Presence::Gone => expect_unknown(router.id, &found, &mut findings),
                Presence::Unsure => {}
            }
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

    /// Compares the way of every `stride`th LSP, and of every LSP of a service, as of this instant.
    pub fn check_paths(
        &mut self,
        key: &AnswerKey<'_>,
        data: &Path,
        at: Micros,
        name: &str,
        stride: usize,
    ) -> Result<(), QueryError> {
        let Some(state) = key.state_at(at) else { return Ok(()) };
        let traces = Traces::open(data, at)?.value;
        let questions: Vec<Question> = key
            .questions()
            .enumerate()
            .filter(|(place, question)| {
                question.target != Target::Loopback || place % stride.max(1) == 0
            })
            .map(|(_, question)| question)
            .filter(|question| key.presence(question.head, at) == Presence::Here)
            .collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = questions.len().div_ceil(threads).max(1);
        let ask = |part: &[Question]| {
            let mut findings = Findings::default();
            for question in part {
                compare_paths(key, state, &traces, question, &mut findings);
            }
            findings
        };
        let findings = std::thread::scope(|scope| {
            let parts: Vec<_> =
                questions.chunks(share).map(|part| scope.spawn(|| ask(part))).collect();
            let mut all = Findings::default();
            for part in parts {
                all.add(part.join().expect("comparing panics on no answer"));
            }
            all
        });
        self.add(format!("paths {name} ({at}), hop by hop"), findings);
        Ok(())
    }

    /// Whether the books of a stopped collector balance, and every checksum, count and order holds.
    /// Returns change rows and bytes of the log.
    pub fn check_books(&mut self, data: &Path) -> Result<(u64, u64), QueryError> {
        let ledger = query::ledger(data, Range::ALL, LedgerBy::Router)?.value;
        let mut findings = Findings { answers: ledger.lines.len() as u64, ..Findings::default() };
        for imbalance in &ledger.imbalances {
            findings.differ(imbalance);
        }
        let (missing, buffered) = (ledger.total.mappings_missing(), ledger.total.bytes_buffered());
        if missing != 0 || buffered != 0 {
            findings.differ(format_args!("{missing} mappings, {buffered} bytes unaccounted for"));
        }
        self.add("ledger, router by router".to_owned(), findings);
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

#[derive(Debug, Default)]
struct Findings {
    answers: u64,
    differences: u64,
    told: Vec<String>,
}

impl Findings {
    fn differ(&mut self, what: impl fmt::Display) {
        self.differences += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what.to_string());
        }
    }

    fn add(&mut self, other: Findings) {
        self.answers += other.answers;
        self.differences += other.differences;
        let room = TOLD_MAX - self.told.len();
        self.told.extend(other.told.into_iter().take(room));
    }
}

/// Both in the order of their keys.
fn compare_tables(
    router: RouterId,
    expected: &[Mapping],
    found: &[TableRow],
    findings: &mut Findings,
) {
    let mut found = found.iter().peekable();
    for mapping in expected {
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
        } else if row.active_since != mapping.event_time {
            let (since, expected) = (row.active_since, mapping.event_time);
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
fn same_value(found: &Mapping, expected: &Mapping) -> bool {
    found.fec == expected.fec
        && found.ingress == expected.ingress
        && found.operation == expected.operation
        && found.branches == expected.branches
        && found.extra == expected.extra
}

fn shown(mapping: &Mapping) -> String {
    let branches: Vec<String> = mapping.branches.iter().map(ToString::to_string).collect();
    format!("{} {} {}", mapping.fec, mapping.operation, branches.join(" "))
}

fn compare_paths(
    key: &AnswerKey<'_>,
    state: &State,
    traces: &Traces,
    question: &Question,
    findings: &mut Findings,
) {
    // More equal-cost paths than are enumerated: neither side lists them all.
    let Some(expected) = key.walk(state, question) else { return };
    findings.answers += 1;
    let head = key.network.topology.routers[question.head].id;
    let fec = key.fec(question);
    let report = traces.trace(head, Selector::Fec(fec));
    let Way::Delivered(expected) = expected else {
        if report.verdict.is_delivered() {
            findings.differ(format_args!("{head} to {fec}: delivered, though no way leads there"));
        }
        return;
    };
    if !report.verdict.is_delivered() || !report.paths_complete {
        let detail = report.paths.iter().find(|path| !path.verdict.is_delivered());
        let detail = detail.map_or("not every path is listed", |path| &path.detail);
        findings.differ(format_args!("{head} to {fec}: {detail}"));
        return;
    }
    let found: std::collections::BTreeSet<Vec<Hop>> = report
        .paths
        .into_iter()
        .map(|path| {
            let hops = path.hops.into_iter();
            hops.map(|hop| Hop { router: hop.router, labels: hop.labels }).collect()
        })
        .collect();
    if found != expected {
        let way = |walks: &std::collections::BTreeSet<Vec<Hop>>,
                   others: &std::collections::BTreeSet<Vec<Hop>>| {
            walks.difference(others).next().map_or_else(|| "nothing".to_owned(), |walk| path(walk))
        };
        let (missing, extra) = (way(&expected, &found), way(&found, &expected));
        findings.differ(format_args!("{head} to {fec}: expected {missing}, found {extra}"));
    }
}

fn path(walk: &[Hop]) -> String {
    let hop = |hop: &Hop| {
        let labels: Vec<String> = hop.labels.iter().map(ToString::to_string).collect();
        format!("{} [{}]", hop.router, labels.join(" "))
    };
    walk.iter().map(hop).collect::<Vec<_>>().join(" > ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verdict: {}", if self.is_exact() { "exact" } else { "NOT exact" })?;
        for Check { what, answers, differences } in &self.checks {
            writeln!(f, "  {what}: {answers} answers, {differences} differences")?;
        }
        self.told.iter().try_for_each(|told| writeln!(f, "    {told}"))
    }
}

#[cfg(test)]
mod tests {
    use engine::query::Answer;
    use storage::row::Reason;

    use super::*;
    use crate::topology::Shape;
    use crate::world::World;

    fn rows(table: &[Mapping]) -> Vec<TableRow> {
        let row = |mapping: &Mapping| TableRow {
            key: mapping.key(),
            mapping: mapping.clone(),
            active_since: mapping.event_time,
            answer: Answer::Known,
        };
        table.iter().map(row).collect()
    }

    fn differences(expected: &[Mapping], found: &[TableRow]) -> u64 {
        let mut findings = Findings::default();
        let router = RouterId("172.16.0.1".parse().unwrap());
        compare_tables(router, expected, found, &mut findings);
        assert_eq!(findings.answers, expected.len() as u64);
        assert_eq!(findings.told.len() as u64, findings.differences);
        findings.differences
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let shape = Shape { routers: 30, edges: 6, seed: 1 };
        let world = World::generate(&shape.into(), Micros(77)).unwrap();
        let table = world.key().table(3, Micros(100));
        let exact = rows(&table);
        assert_eq!(differences(&table, &exact), 0);
        assert_eq!(differences(&table, &exact[1..]), 1);
        assert_eq!(differences(&table[1..], &exact), 1);
        assert_eq!(differences(&table[..5], &exact[..6]), 1);
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
    }

    #[test]
    fn a_verdict_without_answers_is_not_exact() {
        let mut verdict = Verdict::default();
        assert!(!verdict.is_exact());
        verdict.add("nothing".to_owned(), Findings::default());
        assert!(!verdict.is_exact());
    }
}
