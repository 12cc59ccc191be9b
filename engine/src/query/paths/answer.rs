//! The way of an LSP as values for programs: what the command line writes and the API answers.
//!
//! In:   a `TraceReport`.
//! Out:  `TraceAnswer`: plain texts and numbers, every path and every step of the walk.
//! Law:  one type for both: the two cannot answer differently.
//! Not:  the tree for people (`paths`), the drawing (`drawing`).

use serde::{Deserialize, Serialize};
use storage::history::walk::{Branch, Follow, Onward, Step, Verdict};
use storage::mapping::{Label, RouterId};
use utoipa::ToSchema;

use super::{TraceHop, TracePath, TraceReport, TraceVerdict};
use crate::query::RowsMissing;

/// The way of an LSP at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceAnswer {
    /// Id of the router where it begins.
    pub head: String,
    /// What was asked for: a FEC, label:24, or label:24,7 for a label table.
    pub start: String,
    /// The instant.
    pub at: String,
    /// The FEC that the packet entered for, as far as it is known.
    pub entered: Option<String>,
    /// delivered, unknown, unlabelled, misdelivered, discarded or broken: the worst of all paths.
    pub verdict: String,
    /// Whether backup branches were followed too, as if their primaries had failed.
    pub with_backups: bool,
    /// Whether `paths` are all that there are.
    pub paths_complete: bool,
    /// Every path from the head to an end.
    pub paths: Vec<PathAnswer>,
    /// What the packet meets; several branches may lead to one step. The first is the head.
    pub steps: Vec<StepAnswer>,
    /// Where the head has an entry, if it has none where it was asked for.
    pub hints: Vec<HintAnswer>,
    /// What stands in the way of a whole answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where rows are missing from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows_missing: Vec<RowsMissing>,
}

/// Another table of the head that has what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HintAnswer {
    /// In words.
    pub words: String,
    /// What to ask instead, as the question takes it; none where there are more than are listed.
    pub fec: Option<String>,
}

/// One way from the head to an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathAnswer {
    /// Router by router.
    pub hops: Vec<HopAnswer>,
    /// What becomes of the packet there.
    pub verdict: String,
    /// The same in words: where, why.
    pub detail: String,
}

/// One router on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HopAnswer {
    /// Its id.
    pub router: String,
    /// Its name, or its id.
    pub name: String,
    /// Labels that the packet leaves it with, outermost first.
    pub labels: Vec<u32>,
}

/// One router, and the entry that the packet meets there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepAnswer {
    /// The router's id.
    pub router: String,
    /// Its name, or its id.
    pub name: String,
    /// Labels that the packet comes with, outermost first.
    pub labels: Vec<u32>,
    /// The key of the entry.
    pub entry: Option<String>,
    /// What the entry does: push, swap, pop, replicate, discard or untag.
    pub operation: Option<String>,
    /// Since when it does so.
    pub active_since: Option<String>,
    /// What becomes of the packet, if the walk ends here.
    pub end: Option<EndAnswer>,
    /// Where it goes on: several are ECMP, or of a replicate the branches of P2MP.
    pub branches: Vec<BranchAnswer>,
}

/// One branch of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BranchAnswer {
    /// The branch as the router says it: labels, @ next hop, % interface, * weight, to neighbour,
    /// in encapsulation, (backup).
    pub branch: String,
    /// When it carries traffic: primary, or backup: only when the primaries have failed.
    pub role: String,
    /// The interface that the packet leaves by, where the router says it.
    pub interface: Option<String>,
    /// The encapsulation other than MPLS that it leaves with: srv6, vxlan, gre, ip or other.
    pub encapsulation: Option<String>,
    /// Labels behind it, outermost first.
    pub labels: Vec<u32>,
    /// Id of the router that it leads to.
    pub router: Option<String>,
    /// What comes next.
    pub onward: OnwardAnswer,
}

/// Where a branch leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OnwardAnswer {
    /// To a step.
    Step {
        /// Its place in `steps`, from 0.
        step: usize,
    },
    /// To an end.
    End(EndAnswer),
    /// Nowhere yet: it carries nothing while the primary branches stand.
    Backup {
        /// Always true.
        backup: bool,
    },
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndAnswer {
    /// The word.
    pub verdict: String,
    /// Id of the router at which the walk ended.
    pub router: String,
    /// In words: where, why.
    pub detail: String,
}

impl TraceAnswer {
    /// The same answer, from which rows of the log are missing.
    #[must_use]
    pub fn lacking(self, rows_missing: &[RowsMissing]) -> TraceAnswer {
        TraceAnswer { rows_missing: rows_missing.to_vec(), ..self }
    }
}

impl TraceReport {
    /// The report as values for programs.
    pub fn answer(&self, warnings: Vec<String>) -> TraceAnswer {
        let walk = &self.walk;
        TraceAnswer {
            head: self.head.to_string(),
            start: walk.start.to_string(),
            at: self.at.to_string(),
            entered: walk.entered.map(|fec| fec.to_string()),
            verdict: self.verdict.name().to_owned(),
            with_backups: self.follow == Follow::WithBackups,
            paths_complete: self.paths_complete,
            paths: self.paths.iter().map(|path| self.path_answer(path)).collect(),
            steps: walk.steps.iter().map(|step| self.step_answer(step)).collect(),
            hints: self.hints.clone(),
            warnings,
            rows_missing: Vec::new(),
        }
    }

    fn path_answer(&self, path: &TracePath) -> PathAnswer {
        let hop = |hop: &TraceHop| HopAnswer {
            router: hop.router.to_string(),
            name: self.name(hop.router),
            labels: numbers(&hop.labels),
        };
        PathAnswer {
            hops: path.hops.iter().map(hop).collect(),
            verdict: path.verdict.name().to_owned(),
            detail: path.detail.clone(),
        }
    }

    fn step_answer(&self, step: &Step) -> StepAnswer {
        let met = step.met.as_ref();
        StepAnswer {
            router: step.router.to_string(),
            name: self.name(step.router),
            labels: numbers(&step.stack),
            entry: met.map(|met| met.key.to_string()),
            operation: met.map(|met| met.mapping.operation.name().to_owned()),
            active_since: met.map(|met| met.active_since.to_string()),
            end: step.end.as_ref().map(EndAnswer::of),
            branches: step.branches.iter().map(BranchAnswer::of).collect(),
        }
    }
}

impl BranchAnswer {
    fn of(branch: &Branch) -> BranchAnswer {
        BranchAnswer {
            branch: branch.nhlfe.to_string(),
            role: branch.nhlfe.role.name().to_owned(),
            interface: branch.nhlfe.interface().map(|name| name.to_string()),
            encapsulation: branch.nhlfe.encapsulation().map(|outer| outer.name().to_owned()),
            labels: numbers(&branch.stack),
            router: branch.router.as_ref().map(RouterId::to_string),
            onward: match &branch.onward {
                Onward::Step(step) => OnwardAnswer::Step { step: *step },
                Onward::End(verdict) => OnwardAnswer::End(EndAnswer::of(verdict)),
                Onward::Backup => OnwardAnswer::Backup { backup: true },
            },
        }
    }
}

impl EndAnswer {
    fn of(verdict: &Verdict) -> EndAnswer {
        EndAnswer {
            verdict: TraceVerdict::of(verdict).name().to_owned(),
            router: verdict.here().to_string(),
            detail: verdict.to_string(),
        }
    }
}

fn numbers(labels: &[Label]) -> Vec<u32> {
    labels.iter().map(|label| label.value()).collect()
}
