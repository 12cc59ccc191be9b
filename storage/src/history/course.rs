//! The course of one router's rows: where the collector's own clock was set back between them.
//!
//! In:   the router's rows, in `Position` order.
//! Out:  of a row, by when all rows before it had been read, if they bear later times.
//! Law:  what stands before a row in the order of a session was read before it.
//! Not:  routers' clocks (`table::clock`), what follows for an answer (`network`, `events`).
//!
//! A clock that was set ahead for a second and back leaves rows whose times are a year ahead, and
//! rows of later places with the right ones. No time of the former says when they happened: they
//! stand between the row before them and the first of the latter. Inside a session TCP has given
//! the order of what was read. Between two sessions the bytes of both may wait, and those of the
//! newer may have been read first: there a row says so only if it is further behind than bytes ever
//! wait. Rows of the books have no place of their own: others may stand behind them, they behind
//! none; what they say of order they say by the last sequence that they cover.

use crate::row::{Basis, Reason, Row, SessionEvent, SessionRow};
use crate::table::CLOCK_AHEAD_MAX_US;
use crate::time::Micros;

/// How far a row of the next session may be behind without the clock having been set back.
const WAITED_US_MAX: i64 = CLOCK_AHEAD_MAX_US;

/// Where the rows of one router have got to, by the collector's clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    generation: u32,
    /// Latest time of the session's rows.
    latest: Option<Micros>,
}

impl Course {
    /// Takes the next row. `Some` = all rows before it had been read by then, whatever later times
    /// some of them bear.
    pub(crate) fn next(&mut self, row: &Row) -> Option<Micros> {
        let time = time_of(row)?;
        let generation = row.place().generation;
        if generation < self.generation {
            return None;
        }
        let is_next = generation > self.generation;
        if matches!(row, Row::Ledger(_)) {
            self.latest = self.latest.filter(|_| !is_next).max(Some(time));
            self.generation = generation;
            return None;
        }
        let bound = self.latest.map(|latest| match is_next {
            true => latest.offset(-WAITED_US_MAX),
            false => latest,
        });
        let is_behind = bound > Some(time);
        self.latest = self.latest.filter(|_| !is_behind && !is_next).max(Some(time));
        self.generation = generation;
        is_behind.then_some(time)
    }
}

/// When the collector read what the row says, or did it; `None` of rows that have no part in the
/// course of a session: those of the settings, of sweeps, and what readers make of damage.
pub(crate) fn time_of(row: &Row) -> Option<Micros> {
    match row {
        Row::Change(change) if change.stamp.basis == Basis::Swept => None,
        Row::Change(change) => Some(change.stamp.collection_time),
        Row::Session(row) => time_of_session(row),
        Row::Ledger(ledger) => Some(ledger.time),
        Row::Kernel(_) => None,
    }
}

/// The same of a session row.
pub(crate) fn time_of_session(row: &SessionRow) -> Option<Micros> {
    match &row.event {
        SessionEvent::Configured { .. } => None,
        SessionEvent::Gap { reason: Reason::LogDamaged, .. } => None,
        _ => Some(row.time),
    }
}
