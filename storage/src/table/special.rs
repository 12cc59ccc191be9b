//! The few entries of a table that lookups of others must know of.
//!
//! In:   entries that are added and removed.
//! Out:  the label tables beside the platform's, and the routes that select by more than a prefix.
//! Law:  an entry of the common kind costs a comparison here, and no room.
//! Not:  what a lookup makes of them (`history::walk`).

use std::collections::{BTreeMap, BTreeSet};

use super::RouterTable;
use crate::mapping::{Fec, Key, Mapping, Origin};

/// What is noted of such entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Special {
    /// Label tables beside the platform's, and how many entries each has.
    label_tables: BTreeMap<u32, u32>,
    /// FECs of FTN entries that select by source or type of service.
    selective: BTreeSet<Fec>,
}

impl Special {
    /// An entry that was not there.
    #[inline]
    pub(super) fn note(&mut self, mapping: &Mapping) {
        match (mapping.ingress.origin, mapping.fec) {
            (Origin::Table(table), _) => *self.label_tables.entry(table).or_insert(0) += 1,
            (Origin::Untagged, fec @ Fec::IpFrom { .. }) => _ = self.selective.insert(fec),
            _ => {}
        }
    }

    /// An entry that goes.
    pub(super) fn forget(&mut self, key: &Key) {
        match key {
            Key::Ftn(fec @ Fec::IpFrom { .. }) => _ = self.selective.remove(fec),
            Key::Ilm(_, Origin::Table(table)) => {
                if let Some(entries) = self.label_tables.get_mut(table) {
                    *entries -= 1;
                    if *entries == 0 {
                        self.label_tables.remove(table);
                    }
                }
            }
            _ => {}
        }
    }

    /// Memory that it takes, in bytes, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.label_tables.len() * size_of::<(u32, u32)>() + self.selective.len() * size_of::<Fec>()
    }
}

impl RouterTable {
    /// The numbers of the label tables beside the platform's that have entries.
    pub fn label_tables(&self) -> impl Iterator<Item = u32> {
        self.special.label_tables.keys().copied()
    }

    /// FECs of the FTN entries that select by source or type of service.
    pub fn selective(&self) -> impl Iterator<Item = &Fec> {
        self.special.selective.iter()
    }
}
