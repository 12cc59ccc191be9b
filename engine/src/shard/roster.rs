//! Roster: what this shard knows of its routers at this moment.
//!
//! In:   the request of a thread that answers people.
//! Out:  one line per router whose home is here.
//! Law:  one pass over the routers, no system call, nothing is changed.
//! Not:  who asks, and how often (`crate::roster`).

use storage::history::network::standing;
use storage::router::RouterState;

use super::Shard;
use super::claim::Slot;
use super::connection::{Connection, Phase};
use crate::io::Now;
use crate::query::RouterRow;
use crate::roster::{LiveSession, RosterLine};

/// How far changes came behind their event times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) last_us: i64,
    pub(crate) longest_us: i64,
}

impl Delay {
    /// The last change of a unit came so far behind.
    pub(crate) fn note(delay: &mut Option<Delay>, last_us: i64) {
        let longest_us = delay.map_or(last_us, |before| before.longest_us.max(last_us));
        *delay = Some(Delay { last_us, longest_us });
    }
}

impl Shard {
    /// Every router whose home is here and that is not about to leave.
    pub(crate) fn roster(&self, now: Now) -> Vec<RosterLine> {
        let line = |home: &super::claim::Home| match &home.slot {
            Slot::Idle(state) => Some(self.roster_line(state, None)),
            Slot::Active(id) => {
                let connection = self.connections.get(*id)?;
                let Phase::Speaking(session) = &connection.phase else { return None };
                Some(self.roster_line(&session.state, Some(live(connection, now))))
            }
            Slot::Leaving { state, .. } => Some(self.roster_line(state, None)),
            Slot::Awaited => None,
        };
        self.homes.values().filter_map(line).collect()
    }

    fn roster_line(&self, state: &RouterState, live: Option<LiveSession>) -> RosterLine {
        let row = RouterRow::of(state, standing(state), false);
        RosterLine { row, shard: Some(self.settings.index), live }
    }
}

fn live(connection: &Connection, now: Now) -> LiveSession {
    let unread_since = connection.unread_since_us();
    let blocked_us = unread_since.map_or(0, |since| now.monotonic_us.saturating_sub(since));
    LiveSession {
        peer: connection.peer,
        waiting_bytes: connection.held_bytes() as u64,
        blocked_us,
        blocked_longest_us: connection.blocked_longest_us.max(blocked_us),
        snapshot_waits: connection.waits_with_snapshot(),
        delay_us: connection.delay.map(|delay| delay.last_us),
        delay_longest_us: connection.delay.map(|delay| delay.longest_us),
        rejected: connection.rejected,
    }
}
