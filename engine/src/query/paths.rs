//! The way of an LSP as of an instant, and how it is shown: a tree, hops, or the whole graph.
//!
//! In:   a data folder, an instant; then any number of heads and FECs.
//! Out:  `TraceReport`: every path with the labels of each hop, and a verdict at each end.
//! Law:  the log is read once for all questions about one instant.
//! Not:  the walk (`storage::history::walk`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use storage::allowance::Allowance;
use storage::history::explore::Explorer;
use storage::history::network::Network;
pub use storage::history::walk::PATHS_MAX;
use storage::history::walk::{self, Branch, Follow, Onward, Step, Verdict, Walk};
use storage::mapping::{Fec, Label, NextHop, Role, RouterId};
use storage::time::Micros;

use super::network::meant_router;
use super::sheet::{Cell, Format, Sheet, missing_line, pretty};
use super::{Answered, Instant, QueryError, RowsMissing, Selector, folder, network, router_text};
use crate::harmless::harmless_lines;

mod answer;
mod hint;

pub use answer::{
    BranchAnswer, EndAnswer, HintAnswer, HopAnswer, OnwardAnswer, PathAnswer, StepAnswer,
    TraceAnswer,
};

/// What becomes of a packet; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceVerdict {
    /// It leaves MPLS where it should.
    Delivered,
    /// Nobody can say.
    Unknown,
    /// It goes on without label, as IP.
    Unlabelled,
    /// It leaves MPLS for another FEC than it entered for.
    Misdelivered,
    /// An entry drops it, on purpose.
    Discarded,
    /// It is lost.
    Broken,
}

impl TraceVerdict {
    fn of(verdict: &Verdict) -> TraceVerdict {
        match verdict {
            Verdict::Delivered { .. } => TraceVerdict::Delivered,
            Verdict::Misdelivered { .. } => TraceVerdict::Misdelivered,
            Verdict::Unlabelled { .. } => TraceVerdict::Unlabelled,
            Verdict::Broken { .. } => TraceVerdict::Broken,
            Verdict::Discarded { .. } => TraceVerdict::Discarded,
            Verdict::Unknown { .. } => TraceVerdict::Unknown,
        }
    }

    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            TraceVerdict::Delivered => "delivered",
            TraceVerdict::Unknown => "unknown",
            TraceVerdict::Unlabelled => "unlabelled",
            TraceVerdict::Misdelivered => "misdelivered",
            TraceVerdict::Discarded => "discarded",
            TraceVerdict::Broken => "broken",
        }
    }

    /// Whether all is well.
    pub const fn is_delivered(self) -> bool {
        matches!(self, TraceVerdict::Delivered)
    }
}

/// One router on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceHop {
    /// The router.
    pub router: RouterId,
    /// Labels that the packet leaves it with, outermost first; empty at the end.
    pub labels: Vec<Label>,
}

/// One way from the head to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracePath {
    /// Router by router.
    pub hops: Vec<TraceHop>,
    /// What becomes of the packet there.
    pub verdict: TraceVerdict,
    /// The verdict in words: where, why.
    pub detail: String,
}

/// The way of an LSP.
#[derive(Clone, Debug)]
pub struct TraceReport {
    /// Where it begins.
    pub head: RouterId,
    /// The instant.
    pub at: Micros,
    /// The FEC that the packet entered for, as far as it is known.
    pub entered: Option<Fec>,
    /// Every path, in the order of the branches.
    pub paths: Vec<TracePath>,
    /// Whether `paths` are all; of a network with more than `PATHS_MAX` equal paths they are not.
    pub paths_complete: bool,
    /// The worst verdict of all paths, also of those that are not listed.
    pub verdict: TraceVerdict,
    /// Where the head has an entry, if it has none where it was asked for.
    pub hints: Vec<HintAnswer>,
    follow: Follow,
    walk: Walk,
    names: BTreeMap<RouterId, String>,
}

/// What a hop of a listed path takes in the answer: its names and labels, as values and as text.
const HOP_BYTES: u64 = 256;

/// The network as of an instant, to be asked about many paths.
#[derive(Debug)]
pub struct Traces {
    network: Network,
    at: Instant,
}

/// Walks one path from the router of this id or name, and reads the tables that it meets.
///
/// With an allowance it is an error to hold more than that.
pub fn trace(
    data: &Path,
    router: &str,
    selector: Selector,
    follow: Follow,
    at: impl Into<Instant>,
    allowance: Option<&Allowance>,
) -> Result<Answered<TraceReport>, QueryError> {
    let at = at.into();
    let mut explorer = Explorer::open(folder(data)?, at.last(), allowance)?;
    explorer.told_at(at.told_at());
    let router = meant_router(data, router, explorer.names())?;
    let walk = explorer.trace(router, selector.start(), follow)?;
    let report = TraceReport::of(explorer.network(), walk, follow, at);
    let hops: usize = report.paths.iter().map(|path| path.hops.len()).sum();
    allowance.map_or(Ok(()), |allowance| allowance.check_for(hops as u64 * HOP_BYTES))?;
    let is_delivered = report.verdict.is_delivered();
    let mut answered = Answered::new(report, explorer.report());
    answered.warnings.extend(selector.hint().filter(|_| !is_delivered));
    Ok(answered)
}

impl Traces {
    /// Reads the log once, and every table.
    pub fn open(data: &Path, at: impl Into<Instant>) -> Result<Answered<Traces>, QueryError> {
        let at = at.into();
        Ok(network(data, at, None)?.map(|network| Traces { network, at }))
    }

    /// Walks from `router`, for the FEC or with the label. A path that leads to (or begins at) a
    /// router that the log does not know is unknown from there on.
    pub fn trace(&self, router: RouterId, selector: Selector) -> TraceReport {
        let start = selector.start();
        let follow = Follow::Primaries;
        let walk = walk::trace(&self.network, router, start, follow);
        TraceReport::of(&self.network, walk, follow, self.at)
    }
}

impl TraceReport {
    fn of(network: &Network, walk: Walk, follow: Follow, at: Instant) -> TraceReport {
        let (paths, paths_complete) = walk.paths(PATHS_MAX);
        let hop = |hop: walk::Hop| TraceHop { router: hop.router, labels: hop.stack.to_vec() };
        let paths = paths.into_iter().map(|path| TracePath {
            hops: path.hops.into_iter().map(hop).collect(),
            verdict: TraceVerdict::of(&path.verdict),
            detail: path.verdict.to_string(),
        });
        let verdicts = walk.verdicts();
        let worst = verdicts.iter().map(TraceVerdict::of).max();
        TraceReport {
            head: walk.head,
            at: at.time(),
            entered: walk.entered,
            paths: paths.collect(),
            paths_complete,
            verdict: worst.unwrap_or(TraceVerdict::Unknown),
            hints: hint::hints(network, &walk),
            follow,
            names: TraceReport::names(network, &walk),
            walk,
        }
    }

    fn names(network: &Network, walk: &Walk) -> BTreeMap<RouterId, String> {
        let name = |router: RouterId| {
            let name = network.router(router).map_or("", |known| &known.state.name);
            (router, router_text(router, name))
        };
        walk.steps.iter().map(|step| name(step.router)).collect()
    }
}

/// The report as text: a tree, the whole graph as JSON, or hops as CSV.
pub fn render_trace(report: &TraceReport, format: Format) -> String {
    render(report, &[], &[], format)
}

/// The same with what stands in the way of a whole answer.
pub fn render_traced(traced: &Answered<TraceReport>, format: Format) -> String {
    render(&traced.value, &traced.warnings, &traced.rows_missing, format)
}

fn render(
    report: &TraceReport,
    warnings: &[String],
    rows_missing: &[RowsMissing],
    format: Format,
) -> String {
    match format {
        Format::Table => {
            let mut text = report.tree();
            text.extend(missing_line(rows_missing));
            text
        }
        Format::Json => {
            let answer = report.answer(warnings.to_vec()).lacking(rows_missing);
            // Plain values with text keys: they are always JSON.
            pretty(&serde_json::to_value(answer).unwrap_or_default())
        }
        Format::Csv => report.hops().lacking(rows_missing).render(Format::Csv),
    }
}

impl TraceReport {
    fn name(&self, router: RouterId) -> String {
        self.names.get(&router).cloned().unwrap_or_else(|| router.to_string())
    }

    /// At most `TREE_BYTES_MAX`, and a line.
    fn tree(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} from {} as of {}: {}",
            self.walk.start,
            self.name(self.head),
            self.at,
            self.verdict.name()
        );
        let mut drawn = BTreeSet::new();
        // Drawn by hand, not by recursion: a path may be as long as a walk has steps.
        let (over, indent) = <(Rc<str>, Rc<str>)>::default();
        let mut open = vec![Drawn { over, edge: String::new(), indent, to: &HEAD }];
        while let Some(Drawn { over, edge, indent, to }) = open.pop() {
            if text.len() > TREE_BYTES_MAX {
                let _ = writeln!(text, "and more than fits here: JSON has all of it");
                break;
            }
            let index = match to {
                Onward::End(verdict) => {
                    let _ = writeln!(text, "{over}{edge}{}", self.verdict_text(verdict));
                    continue;
                }
                Onward::Backup => {
                    let _ = writeln!(text, "{over}{edge}carries nothing while the others stand");
                    continue;
                }
                Onward::Step(index) => *index,
            };
            let Some(step) = self.walk.steps.get(index) else { continue };
            if !drawn.insert(index) {
                let _ = writeln!(text, "{over}{edge}{}  (goes on as above)", self.step_line(step));
                continue;
            }
            let _ = writeln!(text, "{over}{edge}{}", self.step_line(step));
            if let Some(verdict) = &step.end {
                let _ = writeln!(text, "{indent}└─ {}", self.verdict_text(verdict));
            }
            let last = step.branches.len().saturating_sub(1);
            // Shared by all but the last, because a step may have many branches far to the right.
            let below: [Rc<str>; 2] = ["   ", "│  "].map(|below| format!("{indent}{below}").into());
            // Backwards, so that the first branch comes off the pile first.
            for (number, branch) in step.branches.iter().enumerate().rev() {
                let [of_last, of_others] = &below;
                let (corner, below) =
                    if number == last { ("└─", of_last) } else { ("├─", of_others) };
                let edge = format!("{corner} {}  ", branch_text(branch));
                let (over, indent) = (Rc::clone(&indent), Rc::clone(below));
                open.push(Drawn { over, edge, indent, to: &branch.onward });
            }
        }
        if !self.paths_complete {
            let _ = writeln!(text, "more than {PATHS_MAX} paths");
        }
        for hint in &self.hints {
            let _ = writeln!(text, "{}", hint.words);
        }
        // Names of tunnels, VRFs and interfaces are what peers wrote.
        harmless_lines(&text)
    }

    /// The verdict in words, with the router's name.
    fn verdict_text(&self, verdict: &Verdict) -> String {
        let id = verdict.here().to_string();
        let name = self.name(verdict.here());
        verdict.to_string().replacen(&format!(" at {id}"), &format!(" at {name}"), 1)
    }

    fn step_line(&self, step: &Step) -> String {
        let name = self.name(step.router);
        match &step.met {
            Some(met) => format!("{name}  {}  {}", met.key, met.mapping.operation),
            None if step.stack.is_empty() => name,
            None => format!("{name}  {}", labels(&step.stack)),
        }
    }

    fn hops(&self) -> Sheet {
        let mut sheet =
            Sheet::new(&["path", "hop", "router", "name", "labels", "verdict", "detail"]);
        for (number, path) in self.paths.iter().enumerate() {
            for (index, hop) in path.hops.iter().enumerate() {
                let (verdict, detail) = if index + 1 == path.hops.len() {
                    let words = self.hints.iter().map(|hint| hint.words.as_str());
                    let detail: Vec<&str> =
                        [path.detail.as_str()].into_iter().chain(words).collect();
                    (Cell::text(path.verdict.name()), Cell::text(detail.join("; ")))
                } else {
                    (Cell::Nothing, Cell::Nothing)
                };
                sheet.push(vec![
                    Cell::Count(number as u64 + 1),
                    Cell::Count(index as u64 + 1),
                    Cell::text(hop.router),
                    Cell::text(self.name(hop.router)),
                    Cell::list(&hop.labels),
                    verdict,
                    detail,
                ]);
            }
        }
        sheet
    }
}

/// A line of the tree still to be drawn.
struct Drawn<'a> {
    /// What stands left of the edge.
    over: Rc<str>,
    edge: String,
    /// What stands left of the lines below.
    indent: Rc<str>,
    to: &'a Onward,
}

/// Text of a tree: deeper ones are hostile, and every level moves to the right.
const TREE_BYTES_MAX: usize = 4 << 20;

const HEAD: Onward = Onward::Step(0);

/// `[24 13] via 10.0.12.2`: all labels behind the branch, and where it goes.
fn branch_text(branch: &Branch) -> String {
    let (labels, nhlfe) = (labels(&branch.stack), &branch.nhlfe);
    let mut text = match nhlfe.next_hop {
        NextHop::Address(address) => format!("{labels} via {address}"),
        NextHop::Fec | NextHop::Interface => format!("{labels} out"),
        NextHop::Recursive => format!("{labels} looked up again"),
    };
    if let Some(interface) = nhlfe.interface() {
        let _ = write!(text, " by {interface}");
    }
    if let Some(outer) = nhlfe.encapsulation() {
        let _ = write!(text, " in {}", outer.name());
    }
    if nhlfe.role == Role::Backup {
        text.push_str(" (backup)");
    }
    text
}

fn labels(stack: &[Label]) -> String {
    let labels: Vec<String> = stack.iter().map(ToString::to_string).collect();
    format!("[{}]", labels.join(" "))
}
