//! How much is asked: everything, a sample, or nothing.
//!
//! In:   the answer key, a data folder, the instants of the acts, a depth.
//! Out:  checks of the verdict: tables, paths, rows; how many pairs of how many.
//! Law:  what was not asked is not counted as compared.
//! Not:  comparing (`tables`, `paths`, `rows`), drawing (`draw`).

use std::collections::BTreeSet;
use std::path::Path;

use clap::ValueEnum;
use engine::query::{self, QueryError};
use storage::time::Micros;

use super::paths::paths;
use super::tables::{Shown, compare_router};
use super::{Findings, Verdict, draw};
use crate::answer::AnswerKey;
use crate::stage::{Look, Watch};

/// LSPs that are traced of each instant, those of VPNs apart.
const PATHS_ASKED: usize = 20_000;
/// Of so many drawn instants paths are asked about too.
const PATH_INSTANTS: usize = 8;
/// Routers whose rows are compared where a sample is asked for.
const ROUTERS_SAMPLED: usize = 64;

/// How deep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Depth {
    /// Every router at every instant that can be told apart, every row, every path.
    All,
    /// Every router and many paths at the instants of the acts; pairs, paths and rows that are
    /// drawn.
    #[default]
    Sampled,
    /// Nothing but the books.
    None,
}

/// How much of the answers is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// How deep.
    pub depth: Depth,
    /// How many pairs are drawn, where some are.
    pub sample: usize,
    /// Of what is drawn.
    pub seed: u64,
}

impl Default for Verify {
    fn default() -> Verify {
        Verify { depth: Depth::Sampled, sample: 200, seed: 1 }
    }
}

impl Verify {
    /// Asks about tables, paths and rows of this folder. `instants` have names.
    pub fn ask(
        &self,
        verdict: &mut Verdict,
        key: &AnswerKey<'_>,
        data: &Path,
        instants: &[(String, Micros)],
        watch: Watch<'_>,
    ) -> Result<(), QueryError> {
        let all = self.depth == Depth::All;
        let Some((_, end)) = instants.last().filter(|_| self.depth != Depth::None) else {
            return Ok(());
        };
        let questions = key.questions().count();
        let stride = if all { 1 } else { questions.div_ceil(PATHS_ASKED).max(1) };
        let name = if key.copy == 0 { "" } else { " of the second copy" };
        let count = instants.len() as u64;
        for (place, (instant, at)) in (0..).zip(instants) {
            watch(&Look { act: "verdict", done: place, all: count, progress: None });
            let name = format!("{instant}{name}");
            verdict.check_tables(key, data, *at, &name)?;
            verdict.check_paths(key, data, *at, &name, stride)?;
        }
        watch(&Look { act: "verdict", done: count, all: count, progress: None });
        let pairs = self.pairs(key, *end);
        verdict.check_pairs(key, data, &pairs, name, &mut *watch)?;
        let settled = key.world.settled();
        let can = |at: &Micros| *at >= settled && key.state_at(*at).is_some();
        let drawn: BTreeSet<Micros> = pairs.iter().map(|(_, at)| *at).filter(can).collect();
        let every = drawn.len().div_ceil(PATH_INSTANTS).max(1);
        let mut findings = Findings::default();
        for at in drawn.iter().step_by(every) {
            findings.add(paths(key, data, *at, stride)?.unwrap_or_default());
        }
        // Clocks that are wrong leave no instant at which all routers agree on the time.
        if findings.answers > 0 {
            let count = drawn.len().div_ceil(every);
            verdict.add(format!("paths{name} at {count} drawn instants"), findings);
        }
        let routers = key.network.topology.routers.len();
        let step = if all { 1 } else { routers.div_ceil(ROUTERS_SAMPLED).max(1) };
        let routers: Vec<usize> = (0..routers).step_by(step).collect();
        verdict.check_rows(key, data, &routers, name)
    }

    fn pairs(&self, key: &AnswerKey<'_>, end: Micros) -> Vec<draw::Pair> {
        let mut pairs = draw::pairs(key, self.sample, end, self.seed);
        if self.depth == Depth::All {
            for router_index in 0..key.network.topology.routers.len() {
                let instants = draw::instants(key, router_index).into_iter();
                pairs.extend(instants.map(|at| (router_index, at.min(end))));
            }
            pairs.sort_unstable();
            pairs.dedup();
        }
        pairs
    }
}

impl Verdict {
    /// Compares each router's table as of its instant.
    fn check_pairs(
        &mut self,
        key: &AnswerKey<'_>,
        data: &Path,
        pairs: &[draw::Pair],
        name: &str,
        watch: Watch<'_>,
    ) -> Result<(), QueryError> {
        let mut findings = Findings::default();
        let count = pairs.len() as u64;
        for (place, (router_index, at)) in (0..).zip(pairs) {
            watch(&Look { act: "pairs", done: place, all: count, progress: None });
            let router = key.network.topology.routers[*router_index].id;
            let network = query::network(data, *at, Some(router))?.value;
            let shown = Shown {
                rows: query::table_rows(&network, router).unwrap_or_default(),
                is_known: query::router_answer(&network, router).is_known(),
            };
            compare_router(key, *router_index, &shown, *at, &mut findings);
        }
        // A pair whose table is empty has been compared all the same.
        findings.answers = findings.answers.max(count);
        self.add(format!("tables{name} at {count} drawn pairs"), findings);
        let told = self.pairs.get_or_insert_default();
        for router_index in 0..key.network.topology.routers.len() {
            let instants = draw::instants(key, router_index);
            let of_router = pairs.iter().filter(|(router, _)| *router == router_index);
            let between = of_router.map(|(_, at)| instants.range(..=at).next_back());
            told.compared += between.collect::<BTreeSet<_>>().len() as u64;
            told.all += instants.len() as u64 + 1;
        }
        Ok(())
    }
}
