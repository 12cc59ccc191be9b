//! Labels that come and go: given by each router to tunnels and trees, and given again.
//!
//! In:   every label that is in use.
//! Out:  the lowest one that is not.
//! Law:  a label is given again only after a state in which nobody had it.
//! Not:  labels that stay for good (`network`).

use std::collections::{BTreeMap, BTreeSet};

use storage::mapping::Label;

/// First label that comes and goes; global labels of segment routing end below, labels of LDP
/// begin above, where a network has these.
pub const LABEL_MIN: u32 = 24_000;

/// Labels in use, by router.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    used: BTreeMap<usize, BTreeSet<u32>>,
    /// For each router a label below which none is free: nothing is released meanwhile.
    lowest: BTreeMap<usize, u32>,
}

impl Labels {
    /// These are in use, and stay so until the next state.
    pub(crate) fn in_use(labels: impl Iterator<Item = (usize, Label)>) -> Labels {
        let mut used: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
        for (router_index, label) in labels {
            used.entry(router_index).or_default().insert(label.value());
        }
        Labels { used, lowest: BTreeMap::new() }
    }

    /// Takes this label of the router's, or, where it is in use, the lowest that is not.
    pub(crate) fn take_this(&mut self, router_index: usize, label: Label) -> Label {
        match self.used.entry(router_index).or_default().insert(label.value()) {
            true => label,
            false => self.take(router_index),
        }
    }

    /// Takes the router's lowest label that is not in use.
    pub(crate) fn take(&mut self, router_index: usize) -> Label {
        let used = self.used.entry(router_index).or_default();
        let lowest = self.lowest.entry(router_index).or_insert(LABEL_MIN);
        let free = (*lowest..).find(|label| !used.contains(label)).unwrap_or(Label::MAX);
        used.insert(free);
        *lowest = free;
        Label::new(free).unwrap_or(Label::IMPLICIT_NULL)
    }
}
