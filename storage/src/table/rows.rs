//! A table as rows: the fewest that make it again when they are replayed into an empty one.
//!
//! In:   a table; or the rows of one, and what rows cannot say.
//! Out:  the other of the two.
//! Law:  a table made from these rows answers and goes on as the table that gave them.
//! Not:  where the rows are kept (`log::state`).

use super::{RouterTable, TimeSource, withdrawal};
use crate::mapping::{Key, Mapping};
use crate::row::{Basis, ChangeKind, Flags, Position, Stamp};
use crate::time::Micros;

impl RouterTable {
    /// Gives the rows, in the order in which they are to be replayed: every entry as added, those
    /// whose last row did not set the value once more with that row's time, and a withdrawal for
    /// every key whose withdrawal is remembered.
    ///
    /// Position and collection time say nothing but their order. A snapshot under way is not in
    /// them, as it is not in the log.
    pub(crate) fn condense(&self, on_row: &mut dyn FnMut(&Stamp, &Mapping)) {
        let mut index = 0;
        let mut give = |stamp: Stamp, mapping: &Mapping| {
            let position = Position { index, ..Position::default() };
            on_row(&Stamp { position, ..stamp }, mapping);
            index = index.saturating_add(1);
        };
        let row = |kind, basis, effective_time| Stamp {
            router: self.router,
            position: Position::default(),
            kind,
            basis,
            not_before: None,
            effective_time,
            collection_time: Micros(0),
            flags: Flags::default(),
        };
        let mut changed_since = Vec::new();
        for entry in self.iter() {
            let active_since = entry.active_since();
            give(row(ChangeKind::Added, Basis::Live, active_since), &entry.mapping());
            if entry.changed() != active_since || entry.unconfirmed_since().is_some() {
                changed_since.push(entry);
            }
        }
        for entry in changed_since {
            let stamp = match self.unconfirmed.get(&entry.key()) {
                Some(mark) => Stamp {
                    not_before: mark.not_before,
                    collection_time: mark.collected,
                    ..row(ChangeKind::Unconfirmed, Basis::Swept, mark.since)
                },
                None => row(ChangeKind::Reconfirmed, Basis::Live, entry.changed()),
            };
            give(stamp, &entry.mapping());
        }
        for (key, effective_time) in &self.tombstones {
            let fec = match key {
                Key::Ftn(fec) | Key::Service(_, fec) => *fec,
                Key::Ilm(..) => crate::mapping::Fec::Unknown,
            };
            let mut mapping = withdrawal(key, fec);
            mapping.event_time = *effective_time;
            mapping.time_source = TimeSource::Collector;
            give(row(ChangeKind::Withdrawn, Basis::Swept, *effective_time), &mapping);
        }
    }

    /// Keys of which a mapping was rejected since their last row.
    pub(crate) fn doubted(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.doubted.iter()
    }

    /// Tombstones at which the next pruning is due.
    pub(crate) fn prune_at(&self) -> usize {
        self.prune_at
    }

    /// Sets what `prune_at` gave. While rows of `condense` are replayed it is `usize::MAX`: what
    /// was remembered stays so.
    pub(crate) fn set_prune_at(&mut self, tombstones: usize) {
        self.prune_at = tombstones;
    }
}
