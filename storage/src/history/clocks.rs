//! How far each router's clock is ahead, as of the end of the log.
//!
//! In:   a data folder.
//! Out:  one line per router that was ever heard, without reading a table.
//! Law:  the difference is that of the fold (`router`): never too large, and of the last session.
//! Not:  what is too far (`table`), whose clock is right: the collector's counts.

use std::collections::BTreeMap;
use std::path::Path;

use crate::log::state::{Depth, Plan, States};
use crate::log::{self, Filter, LogError, Told};
use crate::mapping::{RouterId, TimeSource};
use crate::router::RouterState;
use crate::row::{Row, SessionEvent};
use crate::time::Micros;

/// The clock of one router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterClock {
    /// The router's name in the settings, or empty.
    pub name: Box<str>,
    /// How far it is ahead, at least, microseconds; `None` = its last session has said no time.
    pub skew_us: Option<i64>,
    /// When the router was heard last.
    pub heard: Option<Micros>,
}

impl RouterClock {
    fn of(state: &RouterState) -> RouterClock {
        let (skew_us, heard) = (state.skew_us, state.last_evidence);
        RouterClock { name: state.name.clone(), skew_us, heard }
    }

    fn fold(&mut self, row: &Row) {
        match row {
            Row::Change(change) => {
                let collected = change.stamp.collection_time;
                self.heard = self.heard.max(Some(collected));
                if change.mapping.time_source == TimeSource::Router {
                    let ahead_us = change.mapping.event_time.since(collected);
                    self.skew_us = self.skew_us.max(Some(ahead_us));
                }
            }
            Row::Session(row) => match &row.event {
                SessionEvent::Configured { name, .. } => self.name.clone_from(name),
                SessionEvent::Initiation { clock, .. } => {
                    self.heard = self.heard.max(Some(row.time));
                    self.skew_us = clock.map(|clock| clock.since(row.time));
                }
                _ => {}
            },
            Row::Ledger(_) | Row::Kernel(_) => {}
        }
    }
}

/// The clocks of all routers, from the heads of their newest states and the rows past them.
pub fn clocks(data: &Path) -> Result<BTreeMap<RouterId, RouterClock>, LogError> {
    let mut states = States::open(data)?;
    let plan = Plan::newest(data, &mut states, Depth::Head, None)?;
    let filter = Filter { changes: true, sessions: true, ..Filter::NONE };
    let mut clocks: BTreeMap<RouterId, RouterClock> = BTreeMap::new();
    log::read_plan(data, plan, &mut states, &filter, &mut |told| match told {
        Told::Row(router, row) => clocks.entry(router).or_default().fold(row),
        Told::State(state, _) => _ = clocks.insert(state.router, RouterClock::of(&state)),
        Told::StartOver(router) => _ = clocks.insert(router, RouterClock::default()),
    })?;
    Ok(clocks)
}
