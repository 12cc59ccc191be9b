//! One router's label table: what a mapping changes, what a snapshot confirms, what a sweep takes.
//!
//! In:   mappings in the order of the session, or change rows in the order of the log.
//! Out:  `Applied`: a change row's stamp, or the word that nothing changed.
//! Law:  a table replayed from the stamps that it gave is the table that gave them.
//! Not:  gaps and sessions (`router`), rows on disk (`log`), tables of the past (`history`).

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::mapping::{
    Branches, Fec, Ingress, Key, Mapping, Operation, Origin, RouterId, TimeSource,
};
use crate::row::{Basis, ChangeKind, Flags, Position, Stamp};
use crate::time::{MICROS_PER_HOUR, Micros};

#[cfg(test)]
mod tests;

/// How far a router's clock may be ahead of the collector's before its time is not believed.
pub const CLOCK_AHEAD_MAX_US: i64 = MICROS_PER_HOUR;
/// How far behind: routers send late while they reconverge, but not a week late.
pub const CLOCK_BEHIND_MAX_US: i64 = 7 * 24 * MICROS_PER_HOUR;
/// Tombstones kept beyond one per live entry: 16,384 x about 80 bytes = 1.3 MB, whatever a
/// router adds and withdraws.
pub const TOMBSTONES_SPARE_MAX: usize = 16_384;

/// When, where and how a mapping reached the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The place that the mapping's row gets if it is a change.
    pub position: Position,
    /// When the collector read the last byte of the frame.
    pub collection_time: Micros,
    /// `Live`, or `Snapshot` for a part of a snapshot. (`Swept` is the table's own.)
    pub basis: Basis,
}

/// What a mapping meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A row for the log.
    Change(Stamp),
    /// The table says so already (or the withdrawn key has no entry): no row.
    Confirmed,
}

/// What a snapshot found, once it is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotCounts {
    /// Entries as they were.
    pub confirmed: u64,
    /// Entries that are new.
    pub added: u64,
    /// Entries with another value.
    pub altered: u64,
    /// Entries withdrawn (explicit end) or unconfirmed (inferred end).
    pub vanished: u64,
}

/// The label table of one router.
#[derive(Clone, Debug)]
pub struct RouterTable {
    router: RouterId,
    entries: HashMap<Key, Entry, RandomState>,
    /// Last effective time of keys that have no entry any more: a clock that steps back must not
    /// put a new entry before the withdrawal of the old.
    tombstones: HashMap<Key, Micros, RandomState>,
    /// Tombstones at which the next pruning is due: doubles, so that pruning costs O(1) each.
    prune_at: usize,
    /// Entries that an inferred end of snapshot lacked; few, and swept in the order of the keys.
    unconfirmed: BTreeMap<Key, Unconfirmed>,
    snapshot: Option<Snapshot>,
    /// Counts snapshots; an entry whose `seen` equals it was met in the one under way.
    epoch: u32,
}

/// One entry. What the key says already (ingress) is not repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    fec: Fec,
    operation: Operation,
    branches: Branches,
    extra: Option<Box<str>>,
    event_time: Micros,
    time_source: TimeSource,
    active_since: Micros,
    changed: Micros,
    seen: u32,
    /// A mapping of this key was rejected since: the next one that is equal gets a row.
    doubted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unconfirmed {
    since: Micros,
    collected: Micros,
    not_before: Option<Micros>,
}

#[derive(Clone, Copy, Debug)]
struct Snapshot {
    not_before: Option<Micros>,
    counts: SnapshotCounts,
}

/// One entry of a table, read only.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    key: Key,
    entry: &'a Entry,
    unconfirmed: Option<Micros>,
}

impl EntryRef<'_> {
    /// What identifies the entry.
    pub fn key(&self) -> Key {
        self.key
    }

    /// What traffic it is for.
    pub fn fec(&self) -> Fec {
        self.entry.fec
    }

    /// The mapping as the router said it when it last set the value. Allocates as a clone does.
    pub fn mapping(&self) -> Mapping {
        self.entry.mapping(&self.key)
    }

    /// Effective time of the change that set the value: a confirmation leaves it alone.
    pub fn active_since(&self) -> Micros {
        self.entry.active_since
    }

    /// Effective time of the key's last row of any kind.
    pub fn changed(&self) -> Micros {
        self.entry.changed
    }

    /// Since when (effective time) the entry is unconfirmed, if it is.
    pub fn unconfirmed_since(&self) -> Option<Micros> {
        self.unconfirmed
    }
}

impl Entry {
    fn of(mapping: &Mapping, effective_time: Micros, seen: u32) -> Entry {
        Entry {
            fec: mapping.fec,
            operation: mapping.operation,
            branches: mapping.branches.clone(),
            extra: mapping.extra.clone(),
            event_time: mapping.event_time,
            time_source: mapping.time_source,
            active_since: effective_time,
            changed: effective_time,
            seen,
            doubted: false,
        }
    }

    fn says(&self, mapping: &Mapping) -> bool {
        self.fec == mapping.fec
            && self.operation == mapping.operation
            && self.branches == mapping.branches
            && self.extra == mapping.extra
    }

    fn mapping(&self, key: &Key) -> Mapping {
        Mapping {
            fec: self.fec,
            ingress: ingress_of(key),
            operation: self.operation,
            branches: self.branches.clone(),
            event_time: self.event_time,
            time_source: self.time_source,
            extra: self.extra.clone(),
        }
    }
}

impl RouterTable {
    /// An empty table. Allocates nothing.
    pub fn new(router: RouterId) -> RouterTable {
        RouterTable {
            router,
            entries: HashMap::default(),
            tombstones: HashMap::default(),
            prune_at: 1024,
            unconfirmed: BTreeMap::new(),
            snapshot: None,
            epoch: 0,
        }
    }

    /// The router whose table it is.
    pub fn router(&self) -> RouterId {
        self.router
    }

    /// How many entries there are, unconfirmed ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries are unconfirmed.
    pub fn unconfirmed_len(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Collection time of the oldest unconfirmed mark: `expire_unconfirmed` has work once the hold
    /// has passed since. O(unconfirmed entries).
    pub fn unconfirmed_oldest(&self) -> Option<Micros> {
        self.unconfirmed.values().map(|mark| mark.collected).min()
    }

    /// Memory that the table takes, in bytes, estimated from its capacities.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * (size_of::<Key>() + size_of::<Entry>() + 1)
            + self.tombstones.capacity() * (size_of::<Key>() + size_of::<Micros>() + 1)
            + self.unconfirmed.len() * (size_of::<Key>() + size_of::<Unconfirmed>())
    }

    /// The entry of this key.
    pub fn get(&self, key: &Key) -> Option<EntryRef<'_>> {
        let entry = self.entries.get(key)?;
        Some(self.entry_ref(*key, entry))
    }

    /// When (effective time) this key was withdrawn, if it has no entry and that is remembered:
    /// for `CLOCK_BEHIND_MAX_US` at least, unless a flood of withdrawals came after.
    pub fn withdrawn(&self, key: &Key) -> Option<Micros> {
        self.tombstones.get(key).copied()
    }

    /// Every entry, in no order: sort what is shown.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.entries.iter().map(|(key, entry)| self.entry_ref(*key, entry))
    }

    fn entry_ref<'a>(&'a self, key: Key, entry: &'a Entry) -> EntryRef<'a> {
        let unconfirmed = self.unconfirmed.get(&key).map(|mark| mark.since);
        EntryRef { key, entry, unconfirmed }
    }

    /// Applies what the router says; branches sorted, FEC masked. Never allocates for `Confirmed`.
    ///
    /// Live changes count for a snapshot under way too: whatever the router has just spoken of is
    /// not swept by its end.
    pub fn apply(&mut self, mapping: &Mapping, arrival: &Arrival) -> Applied {
        let key = mapping.key();
        let Some(entry) = self.entries.get_mut(&key) else {
            if mapping.operation == Operation::None {
                return Applied::Confirmed;
            }
            let stamp = self.stamp(&key, ChangeKind::Added, mapping, arrival);
            self.count(arrival.basis, |counts| counts.added += 1);
            self.store(&stamp, key, mapping);
            return Applied::Change(stamp);
        };
        if mapping.operation == Operation::None {
            let stamp = self.stamp(&key, ChangeKind::Withdrawn, mapping, arrival);
            self.store(&stamp, key, mapping);
            return Applied::Change(stamp);
        }
        let first_seen = entry.seen != self.epoch;
        entry.seen = self.epoch;
        if !entry.says(mapping) {
            let stamp = self.stamp(&key, ChangeKind::Altered, mapping, arrival);
            if first_seen {
                self.count(arrival.basis, |counts| counts.altered += 1);
            }
            self.store(&stamp, key, mapping);
            return Applied::Change(stamp);
        }
        let doubted = entry.doubted;
        if first_seen {
            self.count(arrival.basis, |counts| counts.confirmed += 1);
        }
        if doubted || (!self.unconfirmed.is_empty() && self.unconfirmed.contains_key(&key)) {
            let stamp = self.stamp(&key, ChangeKind::Reconfirmed, mapping, arrival);
            self.store(&stamp, key, mapping);
            return Applied::Change(stamp);
        }
        Applied::Confirmed
    }

    /// Applies a row of the log: the same change that `apply` or a sweep made when it gave it.
    pub fn replay(&mut self, stamp: &Stamp, mapping: &Mapping) {
        self.store(stamp, mapping.key(), mapping);
    }

    /// Notes that a mapping of this key was lost (rejected): the next equal one is no mere
    /// confirmation, because history cannot vouch for the entry in between.
    pub fn doubt(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.doubted = true;
        }
    }

    /// Takes every doubt back: a snapshot is complete.
    pub(crate) fn clear_doubts(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.doubted = false);
    }

    /// Begins a snapshot; one under way is given up. `not_before` is the last evidence from the
    /// router: what the snapshot shows as changed did not change before.
    pub fn begin_snapshot(&mut self, not_before: Option<Micros>) {
        self.epoch = self.epoch.wrapping_add(1);
        self.snapshot = Some(Snapshot { not_before, counts: SnapshotCounts::default() });
    }

    /// Whether a snapshot is under way.
    pub fn snapshot_open(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Gives the snapshot under way up: its end never came, so nothing is swept.
    pub fn abandon_snapshot(&mut self) {
        self.snapshot = None;
    }

    /// Ends the snapshot under way. Entries that were not met in it are withdrawn if the router
    /// said that it is complete (`explicit`); if not, they become unconfirmed, and only those that
    /// an earlier snapshot lacked too are withdrawn. Without a snapshot under way nothing happens.
    ///
    /// `arrival.position` is the first free one; every row takes it and moves its index on by one.
    /// Rows come in the order of the keys.
    pub fn complete_snapshot(
        &mut self,
        explicit: bool,
        arrival: &mut Arrival,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) -> SnapshotCounts {
        let Some(snapshot) = self.snapshot.take() else {
            return SnapshotCounts::default();
        };
        let mut counts = snapshot.counts;
        let epoch = self.epoch;
        let unseen = self.entries.iter().filter(|(_, entry)| entry.seen != epoch);
        let mut keys: Vec<Key> = unseen.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        for key in &keys {
            counts.vanished += 1;
            let earlier = self.unconfirmed.get(key).copied();
            let not_before = earlier.map_or(snapshot.not_before, |mark| mark.not_before);
            if explicit || earlier.is_some() {
                self.derive(ChangeKind::Withdrawn, key, not_before, arrival, on_change);
            } else {
                self.derive(ChangeKind::Unconfirmed, key, not_before, arrival, on_change);
            }
        }
        self.clear_doubts();
        counts
    }

    /// Withdraws entries that have been unconfirmed for `hold_us` or longer by the collector's
    /// clock. Positions as in `complete_snapshot`. Returns how many.
    pub fn expire_unconfirmed(
        &mut self,
        hold_us: i64,
        arrival: &mut Arrival,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) -> u64 {
        let now = arrival.collection_time;
        let expired = |mark: &Unconfirmed| now.since(mark.collected) >= hold_us;
        let due: Vec<(Key, Option<Micros>)> = self
            .unconfirmed
            .iter()
            .filter(|(_, mark)| expired(mark))
            .map(|(key, mark)| (*key, mark.not_before))
            .collect();
        for (key, not_before) in &due {
            self.derive(ChangeKind::Withdrawn, key, *not_before, arrival, on_change);
        }
        due.len() as u64
    }

    /// Makes a row that no mapping caused, and applies it.
    fn derive(
        &mut self,
        kind: ChangeKind,
        key: &Key,
        not_before: Option<Micros>,
        arrival: &mut Arrival,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let mut mapping = if kind == ChangeKind::Withdrawn {
            withdrawal(key, entry.fec)
        } else {
            entry.mapping(key)
        };
        mapping.event_time = arrival.collection_time;
        mapping.time_source = TimeSource::Collector;
        let swept = Arrival { basis: Basis::Swept, ..*arrival };
        let stamp = Stamp { not_before, ..self.stamp(key, kind, &mapping, &swept) };
        self.store(&stamp, *key, &mapping);
        on_change(&stamp, &mapping);
        arrival.position.index = arrival.position.index.saturating_add(1);
    }

    fn stamp(&self, key: &Key, kind: ChangeKind, mapping: &Mapping, arrival: &Arrival) -> Stamp {
        let entry_changed = self.entries.get(key).map(|entry| entry.changed);
        let previous = entry_changed.or_else(|| self.tombstones.get(key).copied());
        let (effective_time, mut flags) =
            effective_time(mapping.event_time, arrival.collection_time, previous);
        if mapping.uses_reserved_label() {
            flags = flags.with(Flags::RESERVED_LABEL);
        }
        let not_before = match arrival.basis {
            Basis::Snapshot => self.snapshot.and_then(|snapshot| snapshot.not_before),
            Basis::Live | Basis::Swept => None,
        };
        Stamp {
            router: self.router,
            position: arrival.position,
            kind,
            basis: arrival.basis,
            not_before,
            effective_time,
            collection_time: arrival.collection_time,
            flags,
        }
    }

    fn count(&mut self, basis: Basis, add: impl FnOnce(&mut SnapshotCounts)) {
        if let (Basis::Snapshot, Some(snapshot)) = (basis, &mut self.snapshot) {
            add(&mut snapshot.counts);
        }
    }

    /// The one place where entries change: live changes, sweeps and replayed rows alike.
    fn store(&mut self, stamp: &Stamp, key: Key, mapping: &Mapping) {
        match stamp.kind {
            ChangeKind::Added | ChangeKind::Altered => {
                self.unmark(&key);
                self.tombstones.remove(&key);
                self.entries.insert(key, Entry::of(mapping, stamp.effective_time, self.epoch));
            }
            ChangeKind::Withdrawn => {
                self.unmark(&key);
                self.entries.remove(&key);
                self.tombstones.insert(key, stamp.effective_time);
                self.prune(stamp.collection_time);
            }
            ChangeKind::Unconfirmed | ChangeKind::Reconfirmed => {
                self.store_standing(stamp, key, mapping);
            }
        }
    }

    fn store_standing(&mut self, stamp: &Stamp, key: Key, mapping: &Mapping) {
        // The entry is there unless rows before this one are missing; the row has all of it.
        let epoch = self.epoch;
        let entry = self
            .entries
            .entry(key)
            .or_insert_with(|| Entry::of(mapping, stamp.effective_time, epoch));
        entry.changed = stamp.effective_time;
        entry.doubted = false;
        if stamp.kind == ChangeKind::Unconfirmed {
            let mark = Unconfirmed {
                since: stamp.effective_time,
                collected: stamp.collection_time,
                not_before: stamp.not_before,
            };
            self.unconfirmed.insert(key, mark);
        } else {
            self.unmark(&key);
        }
    }

    fn unmark(&mut self, key: &Key) {
        if !self.unconfirmed.is_empty() {
            self.unconfirmed.remove(key);
        }
    }

    /// Forgets tombstones that no believed event time can be before any more, and the oldest
    /// beyond the bound.
    fn prune(&mut self, now: Micros) {
        if self.tombstones.len() < self.prune_at {
            return;
        }
        let oldest = now.offset(-CLOCK_BEHIND_MAX_US);
        self.tombstones.retain(|_, effective_time| *effective_time >= oldest);
        let bound = self.entries.len() + TOMBSTONES_SPARE_MAX;
        if self.tombstones.len() > bound {
            let mut times: Vec<Micros> = self.tombstones.values().copied().collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.tombstones.retain(|_, effective_time| *effective_time > median);
        }
        self.prune_at = 1024.max(self.tombstones.len() * 2);
    }
}

/// What history is ordered by, and what is odd about it.
fn effective_time(
    event_time: Micros,
    collection_time: Micros,
    previous: Option<Micros>,
) -> (Micros, Flags) {
    let ahead_us = event_time.since(collection_time);
    let far = !(-CLOCK_BEHIND_MAX_US..=CLOCK_AHEAD_MAX_US).contains(&ahead_us);
    let (own, flags) =
        if far { (collection_time, Flags::CLOCK_FAR) } else { (event_time, Flags::default()) };
    match previous {
        Some(previous) if previous > own => (previous, flags.with(Flags::CLOCK_BACKWARDS)),
        _ => (own, flags),
    }
}

/// The ingress that a key stands for.
pub fn ingress_of(key: &Key) -> Ingress {
    match *key {
        Key::Ftn(_) => Ingress::UNTAGGED,
        Key::Ilm(label, origin) => Ingress { label: Some(label), origin },
        Key::Service(label, _) => Ingress { label: Some(label), origin: Origin::Service },
    }
}

fn withdrawal(key: &Key, fec: Fec) -> Mapping {
    Mapping {
        fec,
        ingress: ingress_of(key),
        operation: Operation::None,
        branches: Branches::new(),
        event_time: Micros::default(),
        time_source: TimeSource::Collector,
        extra: None,
    }
}
