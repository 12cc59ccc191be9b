//! Paths, hop by hop.
//!
//! In:   traces of the collector; the ways that the model's topology says.
//! Out:  findings: what leads elsewhere, or nowhere, or is vouched for without ground.
//! Law:  a path through a router that nobody knows is not asked to be known.
//! Not:  which instants are asked about (`verify`).

use std::collections::BTreeMap;
use std::path::Path;

use engine::query::{QueryError, TraceVerdict, Traces};
use storage::mapping::RouterId;
use storage::time::Micros;

use super::{Findings, Verdict};
use crate::answer::{AnswerKey, Hop, Presence, Question, Target, Way};
use crate::state::State;

impl Verdict {
    /// Compares the way of every `stride`th LSP, and of every LSP of a service, as of this instant.
    pub fn check_paths(
        &mut self,
        key: &AnswerKey<'_>,
        data: &Path,
        at: Micros,
        name: &str,
        stride: usize,
    ) -> Result<(), QueryError> {
        if let Some(findings) = paths(key, data, at, stride)? {
            self.add(format!("paths {name} ({at}), hop by hop"), findings);
        }
        Ok(())
    }
}

/// The ways as of an instant; `None` while routers disagree.
pub(super) fn paths(
    key: &AnswerKey<'_>,
    data: &Path,
    at: Micros,
    stride: usize,
) -> Result<Option<Findings>, QueryError> {
    let Some(state) = key.state_at(at) else { return Ok(None) };
    let routers = key.network.topology.routers.iter().enumerate();
    let presences = routers.map(|(index, router)| (router.id, key.presence_of_all(index, at)));
    let doubtful: BTreeMap<RouterId, Presence> =
        presences.filter(|(_, presence)| *presence != Presence::Here).collect();
    let traces = Traces::open(data, at)?.value;
    let questions: Vec<Question> = key
        .questions()
        .enumerate()
        .filter(|(place, question)| {
            question.target != Target::Loopback || place % stride.max(1) == 0
        })
        .map(|(_, question)| question)
        .filter(|question| !doubtful.contains_key(&key.network.topology.routers[question.head].id))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = questions.len().div_ceil(threads).max(1);
    let ask = |part: &[Question]| {
        let mut findings = Findings::default();
        for question in part {
            compare_paths(key, state, &traces, &doubtful, question, &mut findings);
        }
        findings
    };
    let findings = std::thread::scope(|scope| {
        let parts: Vec<_> = questions.chunks(share).map(|part| scope.spawn(|| ask(part))).collect();
        let mut all = Findings::default();
        for part in parts {
            all.add(part.join().expect("comparing panics on no answer"));
        }
        all
    });
    Ok(Some(findings))
}

fn compare_paths(
    key: &AnswerKey<'_>,
    state: &State,
    traces: &Traces,
    doubtful: &BTreeMap<RouterId, Presence>,
    question: &Question,
    findings: &mut Findings,
) {
    // More equal-cost paths than are enumerated: neither side lists them all.
    let Some(expected) = key.walk(state, question) else { return };
    findings.answers += 1;
    let head = key.network.topology.routers[question.head].id;
    let fec = key.fec(question);
    let report = traces.trace(head, key.selector(question));
    if let Way::Delivered(ways) = &expected {
        let met = ways.iter().flatten().filter_map(|hop| doubtful.get(&hop.router));
        match (met.copied().max(), report.verdict.is_delivered()) {
            (None, _) | (Some(Presence::Unsure), true) => {}
            (Some(Presence::Gone), true) => {
                let told = "delivered, though a router on the way is gone";
                return findings.differ(format_args!("{head} to {fec}: {told}"));
            }
            (Some(_), _) => return,
        }
    }
    if expected == Way::Discarded {
        let word = report.verdict.name();
        if report.verdict != TraceVerdict::Discarded {
            findings.differ(format_args!("{head} to {fec}: expected discarded, found {word}"));
        }
        return;
    }
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
