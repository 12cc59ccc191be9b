//! Opens a data folder after a stop or a crash: what every router's state was, and what is unknown.
//!
//! In:   the log files of the process before, and the time.
//! Out:  a `RouterState` per router; the session rows that say what nobody can vouch for.
//! Law:  a restart loses nothing acknowledged, refuses no file, and says what it cannot vouch for.
//! Not:  cutting torn ends (`log::recover`), what rows mean (`router`), writing (the engine).

use std::collections::BTreeMap;
use std::path::Path;

use crate::log::{Corruption, Cut, Filter, LogError, Ordered, read_ordered, recover};
use crate::mapping::RouterId;
use crate::router::RouterState;
use crate::row::{Reason, SessionEvent, SessionRow};
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
    /// Damage inside of files: rows are missing there, nobody knows whose.
    pub damages: Vec<Corruption>,
}

/// Cuts torn ends, folds every row of the log, and closes the sessions that were left open.
///
/// The caller holds the lock of the data folder. `now` becomes the time of the rows.
/// Cost: reads every log file twice; holds the tables, and of the log one block at a time.
pub fn open(data: &Path, now: Micros) -> Result<Recovered, LogError> {
    let cuts = recover(data)?;
    let mut routers: BTreeMap<RouterId, Box<RouterState>> = BTreeMap::new();
    let filter = Filter { changes: true, sessions: true, ledger: true, ..Filter::NONE };
    let report = read_ordered(data, &filter, &mut |ordered| match ordered {
        Ordered::StartOver(router) => {
            routers.remove(&router);
        }
        Ordered::Row(router, row) => {
            let state = routers.entry(router);
            state.or_insert_with(|| Box::new(RouterState::new(router))).replay(row);
        }
    })?;
    let mut rows = Vec::new();
    for state in routers.values_mut() {
        rows.extend(close_session(state, now).into_iter().flatten());
    }
    Ok(Recovered { routers, rows, cuts, damages: report.damages })
}

/// The rows of a session that its collector never ended. On demand or not: what had been read and
/// not committed is lost, so the router's state is unknown until its next complete snapshot.
///
/// The gap comes first: a process that is lost between the two writes both again.
fn close_session(state: &mut RouterState, now: Micros) -> Option<[SessionRow; 2]> {
    let begun = state.session.as_ref()?.begun;
    // The clock may have been set back since: a gap does not begin after it was noticed.
    let start = state.last_evidence.unwrap_or(begun).min(now);
    let reason = Reason::CollectorLost;
    let gap = state.session_row(now, SessionEvent::Gap { start, key: None, reason });
    Some([gap, state.session_row(now, SessionEvent::Termination { reason })])
}

#[cfg(test)]
mod tests;
