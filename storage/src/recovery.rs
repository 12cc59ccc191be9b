//! Opens a data folder after a stop or a crash: what every router's state was, and what is unknown.
//!
//! In:   the states and log files of the process before, and the time.
//! Out:  a `RouterState` per router; the session rows that say what nobody can vouch for.
//! Law:  a restart loses nothing acknowledged, refuses no file, and says what it cannot vouch for.
//! Not:  cutting torn ends (`log::recover`), what rows mean (`router`), writing (the engine).

use std::collections::BTreeMap;
use std::path::Path;

use crate::log::state::{Depth, Plan, States};
use crate::log::{
    Cut, FileSystem, Filter, Kernel, LogError, LogFile, PlanRead, ReadReport, Told, read_plan,
    settle,
};
use crate::mapping::RouterId;
use crate::router::RouterState;
use crate::row::{Reason, Scope, SessionEvent, SessionRow};
use crate::time::Micros;

/// What the data folder knew when its last process ended.
#[derive(Debug)]
pub struct Recovered {
    /// Every router of which there is a row, `rows` included.
    pub routers: BTreeMap<RouterId, Box<RouterState>>,
    /// Rows that must be the first to be written: a gap and a termination for every session that
    /// the lost process left open. Written again in full if the next process is lost before.
    pub rows: Vec<SessionRow>,
    /// What was cut off the ends of files.
    pub cuts: Vec<Cut>,
    /// What was read. Its damages: inside of log files rows are missing, nobody knows whose; of a
    /// state file an older one or the log was used.
    pub report: ReadReport,
}

/// Makes durable what no later block proves durable, and cuts what is not whole of it; takes every
/// router's state and folds the rows past it, and closes the sessions that were left open.
///
/// The caller holds the lock of the data folder. `now` becomes the time of the rows.
/// Cost: reads the states, and once the log from the first row that a state lacks; holds the
/// tables, and of the log one block at a time.
pub fn open(data: &Path, now: Micros) -> Result<Recovered, LogError> {
    open_on(data, now, &mut Kernel)
}

/// The same on a file system that is given: the simulation's fails.
pub fn open_on(
    data: &Path,
    now: Micros,
    system: &mut dyn FileSystem,
) -> Result<Recovered, LogError> {
    let mut states = States::open(data)?;
    let chain = states.newest()?;
    let covered = |file: &LogFile| {
        chain.files.get(&(file.hour, file.shard)).map_or(0, |entry| entry.covered())
    };
    // First: what is read from now on counts, and is not asked for again.
    let cuts = settle(data, &covered, system)?;
    let plan = Plan::newest(data, &mut states, Depth::Table, None)?;
    let (mut routers, read) = fold(data, plan, &mut states)?;
    let mut rows = Vec::new();
    for state in routers.values_mut() {
        rows.extend(close_session(state, now).into_iter().flatten());
    }
    Ok(Recovered { routers, rows, cuts, report: read.report })
}

/// Every router's state.
pub type Routers = BTreeMap<RouterId, Box<RouterState>>;

/// Every router's state as all rows of the log say it, whatever state files there are: what `open`
/// must find too. Changes nothing. Cost: reads every log file.
pub fn fold_whole_log(data: &Path) -> Result<Routers, LogError> {
    let mut states = States::open(data)?;
    Ok(fold(data, Plan::whole(data)?, &mut states)?.0)
}

/// Every router's state as `open` finds it; changes nothing.
#[cfg(test)]
pub(crate) fn fold_newest(data: &Path) -> Result<(Routers, ReadReport), LogError> {
    let mut states = States::open(data)?;
    let plan = Plan::newest(data, &mut states, Depth::Table, None)?;
    let (routers, read) = fold(data, plan, &mut states)?;
    Ok((routers, read.report))
}

fn fold(data: &Path, plan: Plan, states: &mut States) -> Result<(Routers, PlanRead), LogError> {
    let mut routers = Routers::new();
    let filter = Filter { changes: true, sessions: true, ledger: true, ..Filter::NONE };
    let read = read_plan(data, plan, states, &filter, &mut |told| match told {
        Told::StartOver(router) => {
            routers.remove(&router);
        }
        Told::State(state, _) => {
            routers.insert(state.router, state);
        }
        Told::Row(router, row) => {
            let state = routers.entry(router);
            state.or_insert_with(|| Box::new(RouterState::new(router))).replay(row);
        }
    })?;
    Ok((routers, read))
}

/// The rows of a session that its collector never ended. On demand or not: what had been read and
/// not committed is lost, so the router's state is unknown until its next complete snapshot.
///
/// The gap comes first: a process that is lost between the two writes both again.
fn close_session(state: &mut RouterState, now: Micros) -> Option<[SessionRow; 2]> {
    let begun = state.session.as_ref()?.begun;
    // The clock may have been ahead, and set back since: a time that has not come is no evidence,
    // and a gap does not begin after it was noticed.
    let has_come = |time: &Micros| *time <= now;
    let evidence = state.last_evidence.filter(has_come).or(state.counted.filter(has_come));
    let start = evidence.unwrap_or(begun).min(now);
    let reason = Reason::CollectorLost;
    let gap = state.session_row(now, SessionEvent::Gap { start, scope: Scope::Router, reason });
    Some([gap, state.session_row(now, SessionEvent::Termination { reason })])
}

#[cfg(test)]
mod tests;
