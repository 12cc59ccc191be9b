//! Reads each router's rows in the one order of history, without holding the log in memory.
//!
//! In:   a data folder, or a plan of what to read of it, and a filter.
//! Out:  states that the plan begins with; rows; those of one router in the order of `Position`,
//!       routers mixed.
//! Law:  when files turn out to hold a router's rows in another order, that router starts over.
//! Not:  what the rows mean (`router`, `history`), what has to be read (`state::plan`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::read::{Filter, Met, ReadReport, read_file_blocks};
use super::state::{Part, Plan, StateRef, States};
use super::{Corruption, LogError, LogFile};
use crate::allowance::{Allowance, Held};
use crate::mapping::RouterId;
use crate::router::RouterState;
use crate::row::{Position, Reason, Row, Scope, SessionEvent, SessionRow};
use crate::time::{Hour, Micros};

/// What `read_ordered` tells.
#[derive(Debug)]
pub enum Ordered<'a> {
    /// The next row, of this router.
    Row(RouterId, &'a Row),
    /// Forget what was said of this router: its rows come again from the first, all of them.
    StartOver(RouterId),
}

/// What `read_plan` tells.
#[derive(Debug)]
pub(crate) enum Told<'a> {
    /// Begin this router with a state: the rows that follow come behind those that it includes.
    State(Box<RouterState>, StateRef),
    /// The next row, of this router.
    Row(RouterId, &'a Row),
    /// Forget what was said of this router: it comes again from its beginning.
    StartOver(RouterId),
}

/// Tells each router's rows in the order of `Position`; a ledger row comes with those of its block,
/// behind the session's other rows in it, and rows of generation 0 come as they were written, ahead
/// of their block. Rows of no router are left out.
///
/// A router's rows are almost always in order from file to file. Where they are not (it moved
/// between shards, or the collector's clock was set back), it starts over once, from memory.
///
/// Where damage was passed over, nobody knows whose rows are missing: every router whose last row
/// is from the same shard gets a gap row that is not in the log (`Reason::LogDamaged`), if the
/// filter asks for session rows.
///
/// All of the log is read, from its beginning.
pub fn read_ordered(
    data: &Path,
    filter: &Filter,
    on_row: &mut dyn FnMut(Ordered<'_>),
) -> Result<ReadReport, LogError> {
    let mut states = States::open(data)?;
    let plan = Plan::whole(data)?;
    let read = read_plan(data, plan, &mut states, filter, &mut |told| match told {
        Told::Row(router, row) => on_row(Ordered::Row(router, row)),
        Told::StartOver(router) => on_row(Ordered::StartOver(router)),
        // A plan of the whole log begins with none.
        Told::State(..) => {}
    })?;
    Ok(read.report)
}

/// What reading a plan met.
#[derive(Debug, Default)]
pub(crate) struct PlanRead {
    pub(crate) report: ReadReport,
    /// Each router's last row.
    pub(crate) last: BTreeMap<RouterId, Last>,
    /// Ends of files that no commit covers.
    pub(crate) torn: Vec<(LogFile, Corruption)>,
}

/// Tells the states and rows of a plan, as `read_ordered` does those of all of the log.
///
/// A router whose rows past its state stand before rows that are in the state starts over from the
/// beginning of the log: only a clock that was set back does that.
pub(crate) fn read_plan(
    data: &Path,
    mut plan: Plan,
    states: &mut States,
    filter: &Filter,
    on_row: &mut dyn FnMut(Told<'_>),
) -> Result<PlanRead, LogError> {
    let mut pass = Pass::default();
    for (router, base) in &mut plan.bases {
        if let Some((at, state)) = base.state.take() {
            let position = reached(&state, &at);
            pass.last.insert(*router, Last { position, time: at.time, shard: at.shard });
            on_row(Told::State(state, at));
            base.reference = Some(at);
        }
    }
    let mut read = PlanRead::default();
    read_parts(&plan, filter, &mut read, &mut |part, met| match met {
        Met::Rows { offset, rows, .. } => pass.rows(&plan, part, offset, rows, on_row),
        Met::Damage { offset, whole_until, .. } if filter.sessions => {
            pass.damage(&plan, part, offset, whole_until, on_row);
        }
        Met::Damage { .. } | Met::Skipped { .. } | Met::Torn(_) => {}
    })?;
    if !pass.disordered.is_empty() {
        start_over(data, &plan, states, filter, &pass, on_row)?;
    }
    read.report.bytes += states.bytes;
    read.report.states += states.states;
    read.report.damages.append(&mut states.damages);
    read.last = pass.last;
    Ok(read)
}

fn read_parts(
    plan: &Plan,
    filter: &Filter,
    read: &mut PlanRead,
    on_block: &mut dyn FnMut(&Part, Met<'_>),
) -> Result<(), LogError> {
    let mut rows = Vec::new();
    let PlanRead { report, torn, .. } = read;
    for part in &plan.parts {
        let mut on_met = |met: Met<'_>| {
            if let Met::Torn(corruption) = &met {
                torn.push((part.file.clone(), (*corruption).clone()));
            }
            on_block(part, met);
        };
        match &part.only {
            None => {
                read_file_blocks(&part.file, part.from, filter, report, &mut rows, &mut on_met)?;
            }
            Some(stretches) => {
                for (from, length) in stretches.iter().copied() {
                    let file = LogFile { length, ..part.file.clone() };
                    read_file_blocks(&file, from, filter, report, &mut rows, &mut on_met)?;
                }
            }
        }
    }
    Ok(())
}

/// Tells routers that turned out to be out of order again, sorted, from their states or without.
fn start_over(
    data: &Path,
    plan: &Plan,
    states: &mut States,
    filter: &Filter,
    pass: &Pass,
    on_row: &mut dyn FnMut(Told<'_>),
) -> Result<(), LogError> {
    let filter = Filter { among: Some(&pass.disordered), ..*filter };
    let held = collect(plan, &filter, &pass.gaps)?;
    let mut whole = BTreeSet::new();
    for (router, rows) in &held.routers {
        let base = plan.bases.get(router).and_then(|base| base.reference);
        let state = match &base {
            Some(at) => states.state(*router, at, plan.depth)?,
            None => None,
        };
        let begun = state.zip(base);
        let overlaps = |begun: &(Box<RouterState>, StateRef)| {
            let position = reached(&begun.0, &begun.1);
            rows.iter().any(|row| is_late(row, position))
        };
        // Where the beginning of the log is not kept, a state and what stands beside it in wrong
        // order are still the most that is known.
        let is_whole_kept = plan.horizon == Hour::default() || begun.is_none();
        if base.is_some() && is_whole_kept && begun.as_ref().is_none_or(overlaps) {
            whole.insert(*router);
            continue;
        }
        on_row(Told::StartOver(*router));
        if let Some((state, at)) = begun {
            on_row(Told::State(state, at));
        }
        rows.iter().for_each(|row| on_row(Told::Row(*router, row)));
    }
    drop(held);
    if whole.is_empty() {
        return Ok(());
    }
    let filter = Filter { among: Some(&whole), ..filter };
    let held = collect(&Plan::whole(data)?, &filter, &pass.gaps)?;
    for (router, rows) in &held.routers {
        on_row(Told::StartOver(*router));
        rows.iter().for_each(|row| on_row(Told::Row(*router, row)));
    }
    Ok(())
}

/// Rows of some routers, and what they take.
struct Collected {
    routers: BTreeMap<RouterId, Vec<Row>>,
    _memory: Option<Held>,
}

/// The rows of some routers, sorted, and the gaps that damage has made.
fn collect(plan: &Plan, filter: &Filter, gaps: &[SessionRow]) -> Result<Collected, LogError> {
    let mut held: BTreeMap<RouterId, Vec<Row>> = BTreeMap::new();
    let mut read = PlanRead::default();
    // Twice their size: vectors that grow have as much spare.
    let mut memory = filter.allowance.map(Allowance::hold);
    read_parts(plan, filter, &mut read, &mut |part, met| {
        let Met::Rows { offset, rows, .. } = met else { return };
        for row in rows.drain(..) {
            let router = place(&row).0.filter(|router| offset >= plan.first_byte(*router, part));
            if let Some(router) = router {
                if let Some(memory) = &mut memory {
                    memory.grow(2 * size_of::<Row>() as u64 + row.beyond_bytes() as u64);
                }
                held.entry(router).or_default().push(row);
            }
        }
    })?;
    for gap in gaps {
        if let Some(rows) = held.get_mut(&gap.router) {
            rows.push(Row::Session(gap.clone()));
        }
    }
    for rows in held.values_mut() {
        // Stable: a gap, pushed last, stays behind the row whose place it has.
        rows.sort_by_key(|row| place(row).1);
    }
    Ok(Collected { routers: held, _memory: memory })
}

/// What one pass over the files knows so far.
#[derive(Default)]
struct Pass {
    last: BTreeMap<RouterId, Last>,
    disordered: BTreeSet<RouterId>,
    /// Gaps that damage has made.
    gaps: Vec<SessionRow>,
}

/// A router's last row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) position: Position,
    pub(crate) time: Micros,
    pub(crate) shard: u16,
}

impl Pass {
    /// Tells the rows of a block, by router in order; finds routers that are out of order.
    fn rows(
        &mut self,
        plan: &Plan,
        part: &Part,
        offset: u64,
        rows: &mut [Row],
        on_row: &mut dyn FnMut(Told<'_>),
    ) {
        let shard = part.file.shard;
        let all_count = offset >= part.covered_after(u32::MAX);
        rows.sort_by_key(|row| place(row).1);
        for row in rows.iter() {
            let (Some(router), position) = place(row) else { continue };
            if !all_count && offset < plan.first_byte(router, part) {
                continue;
            }
            let time = collected(row);
            let begin = Last { position: Position::default(), time, shard };
            let last = self.last.entry(router).or_insert(begin);
            (last.time, last.shard) = (last.time.max(time), shard);
            if is_late(row, last.position) || is_early(row, last.position) {
                self.disordered.insert(router);
            }
            if !matches!(row, Row::Ledger(_)) {
                last.position = last.position.max(position);
            }
            if !self.disordered.contains(&router) {
                on_row(Told::Row(router, row));
            }
        }
    }

    fn damage(
        &mut self,
        plan: &Plan,
        part: &Part,
        offset: u64,
        whole_until: Micros,
        on_row: &mut dyn FnMut(Told<'_>),
    ) {
        let shard = part.file.shard;
        for (router, last) in self.last.iter().filter(|(_, last)| last.shard == shard) {
            if offset < plan.first_byte(*router, part) {
                continue;
            }
            let start = last.time.max(whole_until);
            let event =
                SessionEvent::Gap { start, scope: Scope::Router, reason: Reason::LogDamaged };
            let gap = SessionRow { router: *router, position: last.position, time: start, event };
            self.gaps.push(gap.clone());
            if !self.disordered.contains(router) {
                on_row(Told::Row(*router, &Row::Session(gap)));
            }
        }
    }
}

/// How far the rows of a state have got. A ledger row may have come before the beginning of its
/// session: then that is still to come, and is late.
fn reached(state: &RouterState, at: &StateRef) -> Position {
    state.position.max(Position { generation: at.generation, ..Position::default() })
}

/// Whether a row should have come before the row of this position. Rows of generation 0 belong to
/// no session: they may come between any two others.
fn is_late(row: &Row, last: Position) -> bool {
    let position = place(row).1;
    match row {
        Row::Ledger(_) => position.generation > 0 && position.generation < last.generation,
        _ => position.generation > 0 && position <= last,
    }
}

/// Whether it is the ledger row of a session whose beginning should have come first.
fn is_early(row: &Row, last: Position) -> bool {
    matches!(row, Row::Ledger(ledger) if ledger.generation > last.generation)
}

/// When the collector wrote the row, by its own clock.
fn collected(row: &Row) -> Micros {
    match row {
        Row::Change(change) => change.stamp.collection_time,
        Row::Session(row) => row.time,
        Row::Ledger(row) => row.time,
        Row::Kernel(row) => row.time,
    }
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
