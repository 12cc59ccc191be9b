//! The search for a limit: which load to try next, and when to believe the answer.
//!
//! In:   what each run at a load came to: clean, with symptoms, or void.
//! Out:  the next load to try; at last an `Answer`.
//! Law:  a limit counts only if at 0.8 x of it 5 of 5 runs are clean and at 1.25 x at least 4 of 5
//!       show the named symptom; otherwise no limit was found, and the reason is said. Pure: the
//!       same findings give the same answer.
//! Not:  running anything (`rig`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::honesty::Label;

/// Below this share of the limit every run has to be clean.
pub const CLEAN_AT: f64 = 0.8;
/// Above the limit by this factor the symptom has to show.
pub const SYMPTOM_AT: f64 = 1.25;
/// Runs at either.
pub const CONFIRMING_RUNS: usize = 5;
/// How many of them have to show the symptom.
const SHOWING_RUNS_MIN: usize = 4;
/// The last clean load and the first with a symptom come as close as this.
const PRECISION: f64 = 1.1;
/// Runs at one load that may be void before it counts as one that cannot be offered.
const VOID_RUNS_MAX: usize = 3;
/// All runs of a search.
const RUNS_MAX: usize = 120;
/// How often a limit is moved when it is not confirmed.
const MOVES_MAX: usize = 6;

/// What tells that a load is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    /// The kernel refused connections that nobody accepted in time.
    ListenQueueFull,
    /// The kernel pruned, collapsed or dropped what nobody read in time.
    ReceiveSqueezed,
    /// A connection was refused or not answered.
    ConnectFailed,
    /// A connection ended that nobody had ended.
    ConnectionLost,
    /// A router could not get rid of anything for too long.
    RouterBlocked,
    /// Frames were durable too late (p99), or not at all within the time of the run.
    TooSlow,
}

impl Symptom {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Symptom::ListenQueueFull => "listen-queue-full",
            Symptom::ReceiveSqueezed => "receive-squeezed",
            Symptom::ConnectFailed => "connect-failed",
            Symptom::ConnectionLost => "connection-lost",
            Symptom::RouterBlocked => "router-blocked",
            Symptom::TooSlow => "too-slow",
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Nothing speaks against the load.
    Clean,
    /// The load is too much; not empty.
    Symptoms(BTreeSet<Symptom>),
    /// The run says nothing about the collector: the load was not offered, or others worked.
    Void(Label),
}

/// Why there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The generator cannot offer more, and what it offers is taken.
    GeneratorBound,
    /// Other processes, or the host of this host, take too much of the CPUs.
    Disturbed,
    /// Equal loads come to unequal findings.
    Unsteady,
    /// The smallest load is too much already.
    NothingClean,
}

impl Reason {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::GeneratorBound => "generator-bound",
            Reason::Disturbed => "disturbed",
            Reason::Unsteady => "unsteady",
            Reason::NothingClean => "nothing-clean",
        }
    }
}

/// How a search ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// The limit, confirmed on both sides.
    Limit {
        /// The load.
        load: f64,
        /// What shows above it.
        symptom: Symptom,
        /// Runs at 1.25 x that showed it, of 5.
        shown: usize,
        /// With 95 % confidence at least this share of runs at 0.8 x is clean.
        clean_share_min: f64,
        /// With 95 % confidence at least this share of runs at 1.25 x shows the symptom.
        shown_share_min: f64,
    },
    /// No limit that counts.
    NotFound {
        /// Why.
        reason: Reason,
        /// The largest load of a clean run; absent without any.
        clean_load: Option<f64>,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Run once at this load, and tell what it came to.
    Try(f64),
    /// It is over.
    Done(Answer),
}

/// From where to where a search goes.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first load that is tried.
    pub first: f64,
    /// The smallest that makes sense.
    pub min: f64,
    /// The largest that can be offered.
    pub max: f64,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Search {
    range: Range,
    /// Largest load believed clean, and smallest believed too much.
    clean: Option<f64>,
    much: Option<f64>,
    phase: Phase,
    /// Findings at the load of this phase.
    here: Vec<Finding>,
    voids: usize,
    runs: usize,
    moves: usize,
    /// How often each symptom showed, above the limit.
    symptoms: BTreeMap<Symptom, usize>,
    clean_load: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// Doubling, or halving until something is clean; then halving the interval.
    Narrow {
        load: f64,
    },
    /// Five runs at 0.8 x.
    Below {
        limit: f64,
    },
    /// Five runs at 1.25 x.
    Above {
        limit: f64,
    },
    Done(Answer),
}

impl Search {
    /// Begins at the first load of the range.
    pub fn new(range: Range) -> Search {
        Search {
            range,
            clean: None,
            much: None,
            phase: Phase::Narrow { load: range.first.clamp(range.min, range.max) },
            here: Vec::new(),
            voids: 0,
            runs: 0,
            moves: 0,
            symptoms: BTreeMap::new(),
            clean_load: None,
        }
    }

    /// What to do next.
    pub fn step(&self) -> Step {
        match &self.phase {
            Phase::Narrow { load } => Step::Try(*load),
            Phase::Below { limit } => Step::Try(limit * CLEAN_AT),
            Phase::Above { limit } => Step::Try(limit * SYMPTOM_AT),
            Phase::Done(answer) => Step::Done(answer.clone()),
        }
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Takes in what the run came to that `step` asked for.
    pub fn tell(&mut self, finding: Finding) {
        let Step::Try(load) = self.step() else { return };
        self.runs += 1;
        match &finding {
            Finding::Void(label) => {
                self.voids += 1;
                if self.voids >= VOID_RUNS_MAX {
                    self.cannot_be_offered(*label);
                }
                return self.stop_if_long();
            }
            Finding::Clean => {
                self.clean_load = Some(self.clean_load.map_or(load, |most| most.max(load)));
            }
            Finding::Symptoms(_) => {}
        }
        self.here.push(finding);
        match self.phase.clone() {
            Phase::Narrow { load } => self.narrow(load),
            Phase::Below { limit } => self.below(limit),
            Phase::Above { limit } => self.above(limit),
            Phase::Done(_) => {}
        }
        self.stop_if_long();
    }

    fn stop_if_long(&mut self) {
        if self.runs >= RUNS_MAX && !matches!(self.phase, Phase::Done(_)) {
            self.not_found(Reason::Unsteady);
        }
    }

    fn cannot_be_offered(&mut self, label: Label) {
        self.not_found(match label {
            Label::GeneratorBound => Reason::GeneratorBound,
            Label::ForeignWork | Label::Stolen => Reason::Disturbed,
        });
    }

    fn not_found(&mut self, reason: Reason) {
        self.phase = Phase::Done(Answer::NotFound { reason, clean_load: self.clean_load });
    }

    fn go(&mut self, phase: Phase) {
        self.phase = phase;
        self.here.clear();
        self.voids = 0;
    }

    fn clean_here(&self) -> usize {
        self.here.iter().filter(|finding| **finding == Finding::Clean).count()
    }

    /// Two of three runs decide about a load.
    fn narrow(&mut self, load: f64) {
        let clean = self.clean_here();
        if clean >= 2 {
            self.clean = Some(load);
        } else if self.here.len() - clean >= 2 {
            self.much = Some(load);
            self.count_symptoms();
        } else {
            return;
        }
        let Range { min, max, .. } = self.range;
        match (self.clean, self.much) {
            (Some(clean), None) if clean >= max => self.not_found(Reason::GeneratorBound),
            (Some(clean), None) => self.go(Phase::Narrow { load: (clean * 2.0).min(max) }),
            (None, Some(much)) if much <= min => self.not_found(Reason::NothingClean),
            (None, Some(much)) => self.go(Phase::Narrow { load: (much / 2.0).max(min) }),
            (Some(clean), Some(much)) if much / clean <= PRECISION => {
                self.confirm(clean);
            }
            (Some(clean), Some(much)) => {
                self.go(Phase::Narrow { load: (clean * much).sqrt() });
            }
            (None, None) => {}
        }
    }

    fn count_symptoms(&mut self) {
        for finding in &self.here {
            if let Finding::Symptoms(symptoms) = finding {
                for symptom in symptoms {
                    *self.symptoms.entry(*symptom).or_default() += 1;
                }
            }
        }
    }

    fn below(&mut self, limit: f64) {
        if self.clean_here() < self.here.len() {
            // One that is not clean is enough: the limit lies lower.
            self.count_symptoms();
            return self.move_to(limit * CLEAN_AT);
        }
        if self.here.len() == CONFIRMING_RUNS {
            self.go(Phase::Above { limit });
        }
    }

    fn above(&mut self, limit: f64) {
        let failed = |missing: usize| missing > CONFIRMING_RUNS - SHOWING_RUNS_MIN;
        let clean = self.clean_here();
        if failed(clean) {
            // It takes more than was thought.
            return self.move_to(limit * PRECISION);
        }
        if self.here.len() < CONFIRMING_RUNS {
            return;
        }
        self.count_symptoms();
        let showing = |symptom: Symptom| {
            let shows = |finding: &&Finding| match finding {
                Finding::Symptoms(symptoms) => symptoms.contains(&symptom),
                _ => false,
            };
            self.here.iter().filter(shows).count()
        };
        // The one that showed most often in all; of equals the one that the kernel counts first.
        let named = self.symptoms.iter().map(|(symptom, count)| (*count, *symptom));
        let named = named.max_by_key(|(count, symptom)| (*count, std::cmp::Reverse(*symptom)));
        let Some((_, symptom)) = named else { return self.not_found(Reason::Unsteady) };
        let shown = showing(symptom);
        if shown < SHOWING_RUNS_MIN {
            return self.not_found(Reason::Unsteady);
        }
        self.phase = Phase::Done(Answer::Limit {
            load: limit,
            symptom,
            shown,
            clean_share_min: share_min(CONFIRMING_RUNS, CONFIRMING_RUNS),
            shown_share_min: share_min(shown, CONFIRMING_RUNS),
        });
    }

    fn move_to(&mut self, limit: f64) {
        self.moves += 1;
        if self.moves > MOVES_MAX {
            return self.not_found(Reason::Unsteady);
        }
        self.confirm(limit);
    }

    /// Both sides of the limit have to be in the range.
    fn confirm(&mut self, limit: f64) {
        if limit * CLEAN_AT < self.range.min {
            self.not_found(Reason::NothingClean);
        } else if limit * SYMPTOM_AT > self.range.max {
            self.not_found(Reason::GeneratorBound);
        } else {
            self.go(Phase::Below { limit });
        }
    }
}

/// The least share that is believed with 95 % confidence when `hits` of `runs` were hits: the
/// one-sided bound of Clopper and Pearson.
fn share_min(hits: usize, runs: usize) -> f64 {
    const ALPHA: f64 = 0.05;
    // The chance of at least so many hits grows with the share: halve the interval.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if chance_of_at_least(hits, runs, middle) < ALPHA { low = middle } else { high = middle }
    }
    low
}

fn chance_of_at_least(hits: usize, runs: usize, share: f64) -> f64 {
    let chance = |count: usize| {
        let ways = (0..count).fold(1.0, |ways, it| ways * (runs - it) as f64 / (it + 1) as f64);
        let misses = i32::try_from(runs - count).unwrap_or(i32::MAX);
        ways * share.powi(i32::try_from(count).unwrap_or(i32::MAX)) * (1.0 - share).powi(misses)
    };
    (hits..=runs).map(chance).sum()
}

#[cfg(test)]
mod tests;
