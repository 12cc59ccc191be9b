//! Plan: which states a reader begins with, and which parts of which log files it still needs.
//!
//! In:   the states of a data folder, its log files, and what is asked.
//! Out:  `Plan`: states per router, parts of files, and from where on each router's rows count.
//! Law:  a state and the rows past it are all rows, each once.
//! Not:  reading the rows (`ordered`).

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::super::{LogError, LogFile, log_files};
use super::chain::{Chain, Depth, Found, States};
use super::directory::StateRef;
use crate::mapping::RouterId;
use crate::time::{Hour, Micros};

/// A log file, and which of its bytes are to be read.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) file: LogFile,
    /// First byte that somebody needs: the beginning of a block.
    pub(crate) from: u64,
    /// (round, bytes that were covered after it), rising.
    pub(crate) covered: Vec<(u32, u64)>,
    /// (first byte, end) of what is to be read; `None` = everything from `from` on.
    pub(crate) only: Option<Vec<(u64, u64)>>,
}

impl Part {
    /// Bytes that states of this round include.
    pub(crate) fn covered_after(&self, round: u32) -> u64 {
        let covered = self.covered.iter().rev().find(|(at, _)| *at <= round);
        covered.map_or(0, |(_, bytes)| *bytes)
    }
}

/// What one router's fold begins with.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) state: Option<Found>,
    /// Where the state came from, once it has been taken.
    pub(crate) reference: Option<StateRef>,
    /// Rows that were covered up to this round are in the state.
    pub(crate) included: u32,
}

/// What is to be read.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    pub(crate) bases: BTreeMap<RouterId, Base>,
    /// Of routers without a base, nothing up to this round is asked for.
    pub(crate) otherwise: u32,
    /// How much of each state is wanted.
    pub(crate) depth: Depth,
    /// Hours before this one are gone.
    pub(crate) horizon: Hour,
    /// Whether parts were left out because all of their rows are behind the instant.
    pub(crate) leaves_later_rows: bool,
}

impl Plan {
    /// All of the log, and no state.
    pub(crate) fn whole(data: &Path) -> Result<Plan, LogError> {
        let whole = |file| Part { file, from: 0, covered: Vec::new(), only: None };
        let parts = log_files(data)?.into_iter().map(whole).collect();
        Ok(Plan { parts, ..Plan::default() })
    }

    /// Every router, or one, as of the end of the log.
    pub(crate) fn newest(
        data: &Path,
        states: &mut States,
        depth: Depth,
        only: Option<RouterId>,
    ) -> Result<Plan, LogError> {
        let chain = states.newest()?;
        let horizon = chain.horizon;
        let mut plan = Plan { otherwise: chain.round, depth, horizon, ..Plan::default() };
        let is_asked = |router: &&RouterId| only.is_none_or(|only| only == **router);
        for router in chain.routers.keys().filter(is_asked) {
            plan.add_base(*router, &chain, states, &|_| true)?;
        }
        plan.add_parts(log_files(data)?, &chain, None);
        Ok(plan)
    }

    /// One router from the newest state on that may stand for `since`, to the end of the log.
    /// `None`, or an instant that is not kept: from the first that is.
    pub(crate) fn since(
        data: &Path,
        states: &mut States,
        since: Option<Micros>,
        router: RouterId,
    ) -> Result<Plan, LogError> {
        let newest = states.newest()?;
        let horizon = newest.horizon;
        let first = (horizon > Hour::default()).then(|| horizon.start());
        let Some(from) = since.max(first) else { return Plan::whole(data) };
        let then = states.at(from)?;
        let mut plan = Plan { otherwise: then.round, horizon, ..Plan::default() };
        plan.add_base(router, &then, states, &|state| state.time_max < from)?;
        plan.add_parts(log_files(data)?, &newest, None);
        Ok(plan)
    }

    /// Every router, or one, as of an instant: rows behind it are not asked for.
    pub(crate) fn as_of(
        data: &Path,
        states: &mut States,
        at: Micros,
        only: Option<RouterId>,
    ) -> Result<Plan, LogError> {
        let is_asked = |router: RouterId| only.is_none_or(|only| only == router);
        let mut plan = Plan::begin(states, at, Depth::Table, &is_asked)?;
        let newest = states.newest()?;
        plan.add_parts(log_files(data)?, &newest, newest.until(at));
        Ok(plan)
    }

    /// What these routers begin with as of an instant; without the parts.
    pub(crate) fn begin(
        states: &mut States,
        at: Micros,
        depth: Depth,
        is_asked: &dyn Fn(RouterId) -> bool,
    ) -> Result<Plan, LogError> {
        let horizon = states.newest()?.horizon;
        let then = states.at(at)?;
        let mut plan = Plan { otherwise: then.round, depth, horizon, ..Plan::default() };
        for router in then.routers.keys().filter(|router| is_asked(**router)) {
            plan.add_base(*router, &then, states, &|state| state.time_max <= at)?;
        }
        Ok(plan)
    }

    /// Begins a router with its newest state that `accepts`.
    pub(crate) fn add_base(
        &mut self,
        router: RouterId,
        chain: &Rc<Chain>,
        states: &mut States,
        accepts: &dyn Fn(&StateRef) -> bool,
    ) -> Result<(), LogError> {
        let (state, included) = states.find(router, chain, self.depth, accepts)?;
        self.bases.insert(router, Base { state, included, ..Base::default() });
        Ok(())
    }

    /// Takes up the parts of files that some router needs. Call it when every base is there.
    ///
    /// With `until`, covered parts whose rows are all behind it are left out.
    pub(crate) fn add_parts(&mut self, files: Vec<LogFile>, chain: &Chain, until: Option<Micros>) {
        let oldest = self.bases.values().map(|base| base.included).min();
        let included = oldest.map_or(self.otherwise, |oldest| oldest.min(self.otherwise));
        for file in files.into_iter().filter(|file| file.hour >= chain.kept_from) {
            let entry = chain.files.get(&(file.hour, file.shard));
            let covered = entry.map(|entry| entry.covered.clone()).unwrap_or_default();
            let mut part = Part { file, from: 0, covered, only: None };
            part.from = part.covered_after(included);
            let is_late = |at: Micros| entry.is_some_and(|entry| entry.time_min > at);
            if until.is_some_and(is_late) {
                part.from = entry.map_or(0, |entry| entry.covered());
                self.leaves_later_rows = true;
            }
            if part.from < part.file.length {
                self.parts.push(part);
            }
        }
    }

    /// First byte of a part that counts for a router.
    pub(crate) fn first_byte(&self, router: RouterId, part: &Part) -> u64 {
        let included = self.bases.get(&router).map_or(self.otherwise, |base| base.included);
        part.covered_after(included)
    }
}
