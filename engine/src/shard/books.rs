//! Books: what became of every byte and every mapping of one session.
//!
//! In:   bytes as they are read, framed or rejected; mappings as they are applied.
//! Out:  `LedgerRow`s, each the difference to the one before; the balance at any moment.
//! Law:  bytes read = framed + rejected + held; mappings framed = what became of them.
//! Not:  when a row is written (`commit`).

use storage::mapping::RouterId;
use storage::row::{Cause, LedgerRow};
use storage::time::Micros;

/// Sums since the last ledger row, or since the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) bytes_read: u64,
    pub(crate) bytes_framed: u64,
    pub(crate) mappings_framed: u64,
    pub(crate) changes: u64,
    pub(crate) confirmed: u64,
    pub(crate) duplicates: u64,
    pub(crate) derived: u64,
    /// (cause, bytes, mappings), sorted by cause.
    pub(crate) rejected: Vec<(Cause, u64, u64)>,
}

impl Sums {
    pub(crate) fn reject(&mut self, cause: Cause, bytes: u64, mappings: u64) {
        match self.rejected.binary_search_by_key(&cause, |entry| entry.0) {
            Ok(index) => {
                if let Some(entry) = self.rejected.get_mut(index) {
                    entry.1 += bytes;
                    entry.2 += mappings;
                }
            }
            Err(index) => self.rejected.insert(index, (cause, bytes, mappings)),
        }
    }

    pub(crate) fn add(&mut self, other: &Sums) {
        self.bytes_read += other.bytes_read;
        self.bytes_framed += other.bytes_framed;
        self.mappings_framed += other.mappings_framed;
        self.changes += other.changes;
        self.confirmed += other.confirmed;
        self.duplicates += other.duplicates;
        self.derived += other.derived;
        for &(cause, bytes, mappings) in &other.rejected {
            self.reject(cause, bytes, mappings);
        }
    }

    /// Bytes that are accounted for by nothing but what is still held.
    pub(crate) fn bytes_open(&self) -> i128 {
        let rejected: u64 = self.rejected.iter().map(|entry| entry.1).sum();
        i128::from(self.bytes_read) - i128::from(self.bytes_framed) - i128::from(rejected)
    }

    /// Mappings that were framed and became nothing; zero between units.
    pub(crate) fn mappings_open(&self) -> i128 {
        let rejected: u64 = self.rejected.iter().map(|entry| entry.2).sum();
        let became = self.changes + self.confirmed + self.duplicates + rejected;
        i128::from(self.mappings_framed) - i128::from(became)
    }
}

/// The books of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// Since the last ledger row.
    pub(crate) open: Sums,
    /// Of all ledger rows so far.
    settled: Sums,
}

impl Books {
    /// Closes the open sums into a row; `None` when nothing happened since the last one.
    pub(crate) fn settle(
        &mut self,
        router: Option<RouterId>,
        generation: u32,
        sequence_last: u64,
        time: Micros,
    ) -> Option<LedgerRow> {
        if self.open == Sums::default() {
            return None;
        }
        let open = std::mem::take(&mut self.open);
        self.settled.add(&open);
        Some(LedgerRow {
            router,
            generation,
            time,
            sequence_last,
            bytes_read: open.bytes_read,
            bytes_framed: open.bytes_framed,
            mappings_framed: open.mappings_framed,
            changes: open.changes,
            confirmed: open.confirmed,
            duplicates: open.duplicates,
            derived: open.derived,
            rejected: open.rejected,
        })
    }

    /// Everything since the connection began.
    pub(crate) fn total(&self) -> Sums {
        let mut total = self.settled.clone();
        total.add(&self.open);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_differences_and_sum_to_the_total() {
        let mut books = Books::default();
        books.open.bytes_read = 10;
        books.open.reject(Cause::Truncated, 3, 0);
        let first = books.settle(None, 0, 0, Micros(1)).unwrap();
        assert_eq!(books.settle(None, 0, 0, Micros(2)), None);
        books.open.bytes_framed = 7;
        books.open.reject(Cause::FrameMagic, 0, 0);
        let second = books.settle(None, 0, 0, Micros(3)).unwrap();
        assert_eq!(first.bytes_read + second.bytes_read, 10);
        assert_eq!(second.rejected, vec![(Cause::FrameMagic, 0, 0)]);
        assert_eq!(books.total().bytes_open(), 0);
        let causes: Vec<Cause> = books.total().rejected.iter().map(|entry| entry.0).collect();
        assert_eq!(causes, vec![Cause::FrameMagic, Cause::Truncated]);
    }
}
