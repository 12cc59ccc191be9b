//! What complete snapshots have proven: since when an entry, or that there is none, is certain.
//!
//! In:   when a complete snapshot began, and of which keys it says nothing.
//! Out:  for a key, when the latest complete snapshot began that says something of it, or at all.
//! Law:  a snapshot proves what it showed, and what it lacked if it was read in full; nothing else.
//! Not:  what follows for the time of a change (`clock`).

use std::collections::BTreeMap;

use super::RouterTable;
use crate::mapping::Key;
use crate::time::Micros;

/// What complete snapshots say of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Proof {
    /// When the latest began that says something of it.
    pub(super) proven: Option<Micros>,
    /// When the latest at all began. If it says nothing of the key, a change that claims to be
    /// older may have happened before it, unseen, or behind it.
    pub(super) shown: Option<Micros>,
}

/// Beginnings of complete snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proofs {
    /// Of the latest that was read in full: what it lacked was not there.
    pub(crate) lacked: Option<Micros>,
    /// Of the latest at all: what it showed was so.
    pub(crate) shown: Option<Micros>,
    /// Keys of which the latest says nothing, as they could not be read in it, or have come to be
    /// known only since; and of the latest that does.
    pub(crate) others: BTreeMap<Key, Option<Micros>>,
}

impl Proofs {
    /// What they say of a key, which has an entry or none.
    #[inline]
    pub(super) fn of(&self, key: impl FnOnce() -> Key, is_entry: bool) -> Proof {
        let proven = match self.others.is_empty() {
            false if let Some(earlier) = self.others.get(&key()) => *earlier,
            _ if is_entry => self.shown,
            _ => self.lacked,
        };
        Proof { proven, shown: self.shown }
    }

    /// An entry that was not known. Behind a snapshot that was read in part it may have been there
    /// unseen.
    pub(super) fn added(&mut self, key: impl FnOnce() -> Key) {
        if self.shown > self.lacked {
            self.others.entry(key()).or_insert(self.lacked);
        }
    }

    /// Something was read at this time, behind them: they are not later, whatever the collector's
    /// clock said then.
    #[inline]
    pub(super) fn were_before(&mut self, time: Micros) {
        if self.shown <= Some(time) {
            return;
        }
        let others = self.others.values_mut();
        for proven in [&mut self.lacked, &mut self.shown].into_iter().chain(others) {
            *proven = (*proven).min(Some(time));
        }
    }

    /// Memory that they take, in bytes, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.others.len() * size_of::<(Key, Option<Micros>)>()
    }
}

impl RouterTable {
    /// A snapshot is complete that began at `begun`. `is_full`: no entry can have been in it that
    /// nobody knows of; else what it lacks may have been there. Of `garbled` it said something that
    /// could not be read.
    pub(crate) fn prove<'k>(
        &mut self,
        begun: Micros,
        is_full: bool,
        garbled: impl Iterator<Item = &'k Key>,
    ) {
        let mut silent: Vec<Key> = garbled.copied().collect();
        if !is_full {
            silent.extend(self.unconfirmed.keys());
        }
        let earlier = |key: Key| (key, self.proofs.of(|| key, self.place(&key).is_some()).proven);
        let others = silent.into_iter().map(earlier).collect();
        let lacked = if is_full { Some(begun) } else { self.proofs.lacked };
        self.proofs = Proofs { lacked, shown: Some(begun), others };
    }

    /// Something was read at this time: what snapshots have proven, they have proven by then.
    #[inline]
    pub(crate) fn read_at(&mut self, time: Micros) {
        self.proofs.were_before(time);
    }

    /// What snapshots have proven.
    pub(crate) fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    /// Sets what `proofs` gave. While rows of `condense` are replayed there are none: they are no
    /// news.
    pub(crate) fn set_proofs(&mut self, proofs: Proofs) {
        self.proofs = proofs;
    }
}
