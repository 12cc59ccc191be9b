//! Rows behind the instant that is asked about, by the times that they bear.
//!
//! In:   one router's rows, and which of them are behind the instant.
//! Out:  whether some of those were read before it, as far as books and order tell.
//! Law:  a sequence that the books have by an instant was read by then.
//! Not:  the order of rows itself (`course`), what follows for the router (`network`).

use crate::row::{Basis, LedgerRow, Position, Row};
use crate::time::Micros;

/// What the books of one session say of the order of its frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Books {
    generation: u32,
    before: u64,
    behind: Option<u64>,
    /// The latest of their times.
    latest: Option<Micros>,
    /// One of them is before the one that was told before it: as long as files are told in their
    /// order, the clock was set back between the two.
    is_set_back: bool,
}

impl Books {
    /// Takes a row of the books, and whether it is behind the instant.
    pub(super) fn take(&mut self, row: &LedgerRow, is_behind: bool) {
        if row.generation < self.generation {
            return;
        }
        if row.generation > self.generation {
            *self = Books { generation: row.generation, ..Books::default() };
        }
        self.is_set_back = self.latest > Some(row.time);
        self.latest = self.latest.max(Some(row.time));
        match is_behind {
            _ if row.sequence_last == 0 => {}
            false => self.before = self.before.max(row.sequence_last),
            true if row.changes > 0 => {
                let behind = self.behind.unwrap_or(u64::MAX);
                self.behind = Some(behind.min(row.sequence_last));
            }
            true => {}
        }
    }

    /// Whether frames whose rows bear times behind the instant were read before it.
    pub(super) fn contradict(&self) -> bool {
        self.is_set_back || self.behind.is_some_and(|behind| behind <= self.before)
    }

    /// Whether the frame of this row was read before the instant.
    pub(super) fn have_read(&self, row: &Row) -> bool {
        let Position { generation, sequence, .. } = row.place();
        // What was swept bears the place of the frame before it, however long ago that came.
        let is_of_frame = matches!(row, Row::Change(change) if change.stamp.basis != Basis::Swept);
        let is_read = (1..=self.before).contains(&sequence);
        is_of_frame && generation == self.generation && is_read
    }
}

/// Rows behind the instant, by the times that they bear: a clock that was ahead has put some there
/// that were read before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Later {
    /// The time of the first.
    pub(super) first: Option<Micros>,
    /// Some of them were read before the instant: the router's rows have to be read anew, all of
    /// them, and those in their order.
    pub(super) is_set_back: bool,
    /// The first may have been read before the instant or after: its time is contradicted, and the
    /// row that does so is behind the instant too.
    pub(super) is_doubted: bool,
    /// Change rows that were told, and how many the books say there were.
    pub(super) told: u64,
    pub(super) said: u64,
    /// Of the session, the last sequence that the books have read by the instant, and the first of
    /// those that they have with changes behind it.
    pub(super) books: Books,
    /// Rows that wait until it is known whether they were read before the instant; `None` = those
    /// behind it are not all told.
    pub(super) waiting: Option<Vec<Row>>,
    /// What these hold beyond their places.
    pub(super) waiting_bytes: u64,
}
