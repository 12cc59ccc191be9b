//! One router's label table: what a mapping changes, what a snapshot confirms, what a sweep takes.
//!
//! In:   mappings in the order of the session, or change rows in the order of the log.
//! Out:  `Applied`: a change row's stamp, or the word that nothing changed.
//! Law:  a table replayed from the stamps that it gave is the table that gave them.
//! Not:  gaps and sessions (`router`), rows on disk (`log`), tables of the past (`history`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;

use crate::mapping::{
    Branches, Fec, Ingress, Key, Mapping, Operation, Origin, RouterId, TimeSource,
};
use crate::row::{Basis, ChangeKind, Flags, Position, Stamp};
use crate::time::Micros;

mod arena;
mod clock;
mod index;
mod pack;
mod proof;
mod record;
mod room;
mod round;
mod rows;
mod special;
#[cfg(test)]
mod tests;

use arena::{Arena, Place};
use clock::effective_time;
use pack::Reader;
use record::{Glance, Header, Marks, Record};
use round::Item;
use special::Special;

pub(crate) use proof::Proofs;

pub use clock::{CLOCK_AHEAD_MAX_US, CLOCK_BEHIND_MAX_US};
pub use round::Round;

/// Tombstones kept beyond one per live entry: 16,384 x about 110 bytes = 1.8 MB, whatever a
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
    /// It is another FTN entry of the FEC `unknown` than the one that is there: no key tells them
    /// apart, and neither replaces the other.
    Refused,
}

/// How a snapshot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotEnd {
    /// The router said that it is complete: what it lacks is withdrawn.
    Explicit,
    /// A quiet time was taken for its end: what it lacks is unconfirmed, and withdrawn if an
    /// earlier one lacked it too.
    Inferred,
    /// Something of it could not be read: what it lacks is unconfirmed, and stays so.
    InPart,
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
    entries: Arena,
    /// Last effective time of keys that have no entry any more: a clock that steps back must not
    /// put a new entry before the withdrawal of the old.
    tombstones: HashMap<Key, Micros, RandomState>,
    /// Tombstones at which the next pruning is due: doubles, so that pruning costs O(1) each.
    prune_at: usize,
    /// Entries that an inferred end of snapshot lacked; few, and swept in the order of the keys.
    unconfirmed: BTreeMap<Key, Unconfirmed>,
    /// Entries of which a mapping was rejected: the next one that is equal gets a row.
    doubted: BTreeSet<Key>,
    /// Options and unknown elements of the few entries that have some.
    extras: BTreeMap<Key, Box<str>>,
    /// Length of all of them together.
    extras_bytes: usize,
    /// Entries that lookups of others must know of.
    special: Special,
    snapshot: Option<Snapshot>,
    /// What a later change cannot contradict, whatever time it claims.
    proofs: Proofs,
    /// Counts snapshots; an entry whose `seen` equals it was met in the one under way.
    epoch: u32,
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
    record: Record<'a>,
    extra: Option<&'a str>,
    unconfirmed: Option<Micros>,
}

impl EntryRef<'_> {
    /// What identifies the entry.
    pub fn key(&self) -> Key {
        self.key
    }

    /// What traffic it is for.
    pub fn fec(&self) -> Fec {
        match self.key {
            Key::Ftn(fec) | Key::Service(_, fec) => fec,
            Key::Ilm(..) => Reader::new(self.record.value).value(&self.key).1,
        }
    }

    /// The mapping as the router said it when it last set the value. Unpacks it: a few allocations
    /// at most.
    pub fn mapping(&self) -> Mapping {
        let (operation, fec, branches) = Reader::new(self.record.value).value(&self.key);
        Mapping {
            fec,
            ingress: ingress_of(&self.key),
            operation,
            branches,
            event_time: self.record.header.event_time,
            time_source: self.record.header.time_source,
            extra: self.extra.map(Box::from),
        }
    }

    /// Effective time of the change that set the value: a confirmation leaves it alone.
    pub fn active_since(&self) -> Micros {
        self.record.header.active_since
    }

    /// Effective time of the key's last row of any kind.
    pub fn changed(&self) -> Micros {
        self.record.header.changed
    }

    /// Since when (effective time) the entry is unconfirmed, if it is.
    pub fn unconfirmed_since(&self) -> Option<Micros> {
        self.unconfirmed
    }
}

impl RouterTable {
    /// An empty table. Allocates nothing.
    pub fn new(router: RouterId) -> RouterTable {
        RouterTable {
            router,
            entries: Arena::default(),
            tombstones: HashMap::default(),
            prune_at: 1024,
            unconfirmed: BTreeMap::new(),
            doubted: BTreeSet::new(),
            extras: BTreeMap::new(),
            extras_bytes: 0,
            special: Special::default(),
            snapshot: None,
            proofs: Proofs::default(),
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
        self.entries.len() == 0
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

    /// Memory that the table takes, in bytes, estimated from its capacities. O(1).
    pub fn bytes(&self) -> usize {
        self.entries.memory_bytes()
            + self.tombstones.capacity() * (size_of::<Key>() + size_of::<Micros>() + 1)
            + self.unconfirmed.len() * (size_of::<Key>() + size_of::<Unconfirmed>())
            + self.doubted.len() * size_of::<Key>()
            + self.proofs.memory_bytes()
            + self.extras.len() * size_of::<(Key, Box<str>)>()
            + self.extras_bytes
            + self.special.memory_bytes()
    }

    /// The entry of this key.
    pub fn get(&self, key: &Key) -> Option<EntryRef<'_>> {
        let place = self.place(key)?;
        Some(self.entry_ref(place))
    }

    /// When (effective time) this key was withdrawn, if it has no entry and that is remembered:
    /// for `CLOCK_BEHIND_MAX_US` at least, unless a flood of withdrawals came after.
    pub fn withdrawn(&self, key: &Key) -> Option<Micros> {
        self.tombstones.get(key).copied()
    }

    /// Every entry, in no order: sort what is shown.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.entries.places().map(|place| self.entry_ref(place))
    }

    fn entry_ref(&self, place: Place) -> EntryRef<'_> {
        let record = self.entries.record(place);
        let key = Reader::new(record.key).key();
        let marks = record.header.marks;
        let unconfirmed = marks.has(Marks::UNCONFIRMED).then(|| self.unconfirmed.get(&key));
        let extra = marks.has(Marks::EXTRA).then(|| self.extras.get(&key));
        EntryRef {
            key,
            record,
            extra: extra.flatten().map(|extra| &**extra),
            unconfirmed: unconfirmed.flatten().map(|mark| mark.since),
        }
    }

    /// Applies what the router says; branches sorted, FEC masked. `Confirmed` does not allocate
    /// (beyond a dozen branches it does, once).
    ///
    /// Live changes count for a snapshot under way too: whatever the router has just spoken of is
    /// not swept by its end.
    pub fn apply(&mut self, mapping: &Mapping, arrival: &Arrival) -> Applied {
        let mut item = Item::of(mapping, &mut self.entries);
        let mut stamp = self.stamp_of(arrival);
        match self.apply_item(&mut item, mapping, arrival.basis, &mut stamp) {
            Meaning::Change => Applied::Change(stamp),
            Meaning::Confirmed => Applied::Confirmed,
            Meaning::Refused => Applied::Refused,
        }
    }

    /// Applies the mappings of one frame, in order, as `apply` would one by one: a change takes the
    /// arrival's position and moves its index on by one; a withdrawal is live even in a snapshot.
    /// Every change goes to `on_change`. Returns how many there were; what was refused is in
    /// `Round::refused`.
    pub fn apply_all(
        &mut self,
        round: &mut Round,
        mappings: &[Mapping],
        arrival: &mut Arrival,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) -> u64 {
        let mut stamp = self.stamp_of(arrival);
        let mut changes = 0;
        round.refused.clear();
        for together in mappings.chunks(Round::TOGETHER) {
            round.find(together, &mut self.entries);
            for (item, mapping) in round.items.iter_mut().zip(together) {
                let withdraws = mapping.operation == Operation::None;
                let basis = if withdraws { Basis::Live } else { arrival.basis };
                match self.apply_item(item, mapping, basis, &mut stamp) {
                    Meaning::Change => {
                        on_change(&stamp, mapping);
                        stamp.position.index = stamp.position.index.saturating_add(1);
                        changes += 1;
                    }
                    Meaning::Confirmed => {}
                    Meaning::Refused => round.refused.push(mapping.key()),
                }
            }
        }
        arrival.position = stamp.position;
        changes
    }

    /// Applies one mapping; if it is a change, its stamp is filled in. What all mappings of a frame
    /// share stands in it already.
    fn apply_item(
        &mut self,
        item: &mut Item,
        mapping: &Mapping,
        basis: Basis,
        stamp: &mut Stamp,
    ) -> Meaning {
        let Some(place) = item.place(&self.entries) else {
            if mapping.operation == Operation::None {
                return Meaning::Confirmed;
            }
            self.count(basis, |counts| counts.added += 1);
            let previous = match self.tombstones.is_empty() {
                true => None,
                false => self.tombstones.get(&mapping.key()).copied(),
            };
            let before = (previous, false);
            return self.change(ChangeKind::Added, item, mapping, basis, before, stamp);
        };
        let here = self.entries.bytes(place);
        let Glance { seen, marks, changed } = record::glance(here);
        let same_value = item.is_known_same(&self.entries)
            || record::has_value(here, item.key_end(), item.body());
        let before = (Some(changed), true);
        if mapping.operation == Operation::None {
            return self.change(ChangeKind::Withdrawn, item, mapping, basis, before, stamp);
        }
        let first_seen = seen != self.epoch;
        if first_seen {
            self.entries.set_seen(place, self.epoch);
        }
        if !same_value || !self.has_extra(marks, mapping) {
            if !first_seen && is_unnamed(mapping) {
                return Meaning::Refused;
            }
            if first_seen {
                self.count(basis, |counts| counts.altered += 1);
            }
            if marks != Marks::NONE || mapping.extra.is_some() {
                return self.change(ChangeKind::Altered, item, mapping, basis, before, stamp);
            }
            let kind = ChangeKind::Altered;
            self.fill_stamp(stamp, kind, item.uses_reserved_label(), mapping, basis, before);
            self.replace(place, item, mapping, stamp.effective_time);
            return Meaning::Change;
        }
        if first_seen {
            self.count(basis, |counts| counts.confirmed += 1);
        }
        if marks.has(Marks::DOUBTED.with(Marks::UNCONFIRMED)) {
            return self.change(ChangeKind::Reconfirmed, item, mapping, basis, before, stamp);
        }
        Meaning::Confirmed
    }

    /// Whether the entry has the mapping's extra text, or none as the mapping has none.
    #[inline]
    fn has_extra(&self, marks: Marks, mapping: &Mapping) -> bool {
        match (marks.has(Marks::EXTRA), &mapping.extra) {
            (false, None) => true,
            (true, Some(extra)) => self.extras.get(&mapping.key()) == Some(extra),
            _ => false,
        }
    }

    fn change(
        &mut self,
        kind: ChangeKind,
        item: &mut Item,
        mapping: &Mapping,
        basis: Basis,
        before: Before,
        stamp: &mut Stamp,
    ) -> Meaning {
        self.fill_stamp(stamp, kind, item.uses_reserved_label(), mapping, basis, before);
        self.store(stamp, item, mapping);
        Meaning::Change
    }

    /// Applies a row of the log: the same change that `apply` or a sweep made when it gave it.
    pub fn replay(&mut self, stamp: &Stamp, mapping: &Mapping) {
        let mut item = Item::of(mapping, &mut self.entries);
        self.store(stamp, &mut item, mapping);
    }

    /// Notes that a mapping of this key was lost (rejected): the next equal one is no mere
    /// confirmation, because history cannot vouch for the entry in between. The router has spoken
    /// of the entry: a snapshot under way does not lack it.
    pub fn doubt(&mut self, key: &Key) {
        if self.mark(key, |marks| marks.with(Marks::DOUBTED)) {
            self.doubted.insert(*key);
            if let Some(place) = self.place(key) {
                self.entries.set_seen(place, self.epoch);
            }
        }
    }

    /// Takes every doubt back that need not be kept: a snapshot is complete.
    pub(crate) fn keep_doubts(&mut self, is_kept: impl Fn(&Key) -> bool) {
        let doubted = std::mem::take(&mut self.doubted);
        let (kept, settled): (BTreeSet<Key>, BTreeSet<Key>) =
            doubted.into_iter().partition(is_kept);
        self.doubted = kept;
        for key in settled {
            self.mark(&key, |marks| marks.without(Marks::DOUBTED));
        }
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

    /// Ends the snapshot under way. What becomes of entries that were not met in it, `end` says.
    /// Without a snapshot under way nothing happens. Doubts stay: see `RouterState`.
    ///
    /// `arrival.position` is the first free one; every row takes it and moves its index on by one.
    /// Rows come in the order of the keys.
    pub fn complete_snapshot(
        &mut self,
        end: SnapshotEnd,
        arrival: &mut Arrival,
        on_change: &mut dyn FnMut(&Stamp, &Mapping),
    ) -> SnapshotCounts {
        let Some(snapshot) = self.snapshot.take() else {
            return SnapshotCounts::default();
        };
        let mut counts = snapshot.counts;
        let epoch = self.epoch;
        let unseen = |place: &Place| self.entries.glance(*place).seen != epoch;
        let key_of = |place: Place| Reader::new(self.entries.record(place).key).key();
        let mut keys: Vec<Key> = self.entries.places().filter(unseen).map(key_of).collect();
        keys.sort_unstable();
        for key in &keys {
            counts.vanished += 1;
            let earlier = self.unconfirmed.get(key).copied();
            let not_before = earlier.map_or(snapshot.not_before, |mark| mark.not_before);
            let kind = match (end, earlier) {
                (SnapshotEnd::Explicit, _) | (SnapshotEnd::Inferred, Some(_)) => {
                    ChangeKind::Withdrawn
                }
                (SnapshotEnd::Inferred | SnapshotEnd::InPart, None) => ChangeKind::Unconfirmed,
                (SnapshotEnd::InPart, Some(_)) => continue,
            };
            self.derive(kind, key, not_before, arrival, on_change);
        }
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
        let Some(entry) = self.get(key) else {
            return;
        };
        let mut mapping = if kind == ChangeKind::Withdrawn {
            withdrawal(key, entry.fec())
        } else {
            entry.mapping()
        };
        mapping.event_time = arrival.collection_time;
        mapping.time_source = TimeSource::Collector;
        let mut item = Item::of(&mapping, &mut self.entries);
        let previous = item.place(&self.entries).map(|place| self.entries.glance(place).changed);
        let mut stamp = self.stamp_of(arrival);
        let uses_reserved = item.uses_reserved_label();
        let before = (previous, false);
        self.fill_stamp(&mut stamp, kind, uses_reserved, &mapping, Basis::Swept, before);
        stamp.not_before = not_before;
        self.store(&stamp, &mut item, &mapping);
        on_change(&stamp, &mapping);
        arrival.position.index = arrival.position.index.saturating_add(1);
    }

    /// What all rows of one arrival share; `fill_stamp` says the rest.
    fn stamp_of(&self, arrival: &Arrival) -> Stamp {
        Stamp {
            router: self.router,
            position: arrival.position,
            kind: ChangeKind::Added,
            basis: arrival.basis,
            not_before: None,
            effective_time: arrival.collection_time,
            collection_time: arrival.collection_time,
            flags: Flags::default(),
        }
    }

    #[inline]
    fn fill_stamp(
        &self,
        stamp: &mut Stamp,
        kind: ChangeKind,
        uses_reserved_label: bool,
        mapping: &Mapping,
        basis: Basis,
        (previous, is_entry): Before,
    ) {
        let proof = self.proofs.of(|| mapping.key(), is_entry);
        let (effective_time, mut flags) =
            effective_time(mapping.event_time, stamp.collection_time, previous, proof);
        if uses_reserved_label {
            flags = flags.with(Flags::RESERVED_LABEL);
        }
        stamp.kind = kind;
        stamp.basis = basis;
        stamp.not_before = match basis {
            Basis::Snapshot => self.snapshot.and_then(|snapshot| snapshot.not_before),
            Basis::Live | Basis::Swept => None,
        };
        stamp.effective_time = effective_time;
        stamp.flags = flags;
    }

    fn count(&mut self, basis: Basis, add: impl FnOnce(&mut SnapshotCounts)) {
        if let (Basis::Snapshot, Some(snapshot)) = (basis, &mut self.snapshot) {
            add(&mut snapshot.counts);
        }
    }

    /// The one place where entries change: live changes, sweeps and replayed rows alike.
    fn store(&mut self, stamp: &Stamp, item: &mut Item, mapping: &Mapping) {
        match stamp.kind {
            ChangeKind::Added | ChangeKind::Altered => {
                if stamp.kind == ChangeKind::Added {
                    self.proofs.added(|| mapping.key());
                }
                self.put(item, mapping, stamp.effective_time);
            }
            ChangeKind::Withdrawn => {
                let key = mapping.key();
                if let Some(place) = item.place(&self.entries) {
                    self.unmark(place, mapping);
                    self.entries.remove(place);
                    self.special.forget(&key);
                }
                self.tombstones.insert(key, stamp.effective_time);
                self.prune(stamp.collection_time);
            }
            ChangeKind::Unconfirmed | ChangeKind::Reconfirmed => {
                self.store_standing(stamp, item, mapping);
            }
        }
    }

    fn put(&mut self, item: &mut Item, mapping: &Mapping, active_since: Micros) {
        match item.place(&self.entries) {
            Some(place) => {
                self.unmark(place, mapping);
                self.replace(place, item, mapping, active_since);
            }
            None => {
                if !self.tombstones.is_empty() {
                    self.tombstones.remove(&mapping.key());
                }
                let header = self.header(mapping, active_since);
                let hash = item.hash(&self.entries);
                self.entries.insert(hash, item.body(), &header);
                self.special.note(mapping);
            }
        }
        if let Some(extra) = &mapping.extra {
            self.extras_bytes += extra.len();
            self.extras.insert(mapping.key(), extra.clone());
        }
    }

    /// Puts the mapping's value in the place of the entry's.
    #[inline]
    fn replace(&mut self, place: Place, item: &Item, mapping: &Mapping, active_since: Micros) {
        let header = self.header(mapping, active_since);
        let (hash, key_end) = (item.known_hash(), item.key_end());
        self.entries.replace(place, hash, key_end, item.body(), &header);
    }

    /// What is noted beside an entry that a mapping has just set.
    #[inline]
    fn header(&self, mapping: &Mapping, active_since: Micros) -> Header {
        Header {
            active_since,
            changed: active_since,
            event_time: mapping.event_time,
            time_source: mapping.time_source,
            seen: self.epoch,
            marks: if mapping.extra.is_some() { Marks::EXTRA } else { Marks::NONE },
        }
    }

    fn store_standing(&mut self, stamp: &Stamp, item: &mut Item, mapping: &Mapping) {
        // The entry is there unless rows before this one are missing; the row has all of it.
        if item.place(&self.entries).is_none() {
            self.tombstones.remove(&mapping.key());
            self.put(item, mapping, stamp.effective_time);
        }
        let Some(place) = item.place(&self.entries) else {
            return;
        };
        let key = mapping.key();
        let Record { mut header, .. } = self.entries.record(place);
        header.changed = stamp.effective_time;
        header.marks = header.marks.without(Marks::DOUBTED).without(Marks::UNCONFIRMED);
        self.doubted.remove(&key);
        self.unconfirmed.remove(&key);
        if stamp.kind == ChangeKind::Unconfirmed {
            let mark = Unconfirmed {
                since: stamp.effective_time,
                collected: stamp.collection_time,
                not_before: stamp.not_before,
            };
            self.unconfirmed.insert(key, mark);
            header.marks = header.marks.with(Marks::UNCONFIRMED);
        }
        self.entries.set_header(place, &header);
    }

    fn place(&self, key: &Key) -> Option<Place> {
        Item::of_key(key, &self.entries).place(&self.entries)
    }

    /// Alters the marks of an entry; says whether there is one.
    fn mark(&mut self, key: &Key, alter: impl FnOnce(Marks) -> Marks) -> bool {
        let Some(place) = self.place(key) else {
            return false;
        };
        let marks = self.entries.glance(place).marks;
        self.entries.set_marks(place, alter(marks));
        true
    }

    /// Forgets what the lists say of an entry that is about to be replaced or removed.
    fn unmark(&mut self, place: Place, mapping: &Mapping) {
        let marks = self.entries.glance(place).marks;
        if marks == Marks::NONE {
            return;
        }
        let key = mapping.key();
        self.unconfirmed.remove(&key);
        self.doubted.remove(&key);
        let extra = self.extras.remove(&key);
        self.extras_bytes -= extra.map_or(0, |extra| extra.len());
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

/// What is known of an entry before a change: the effective time of the key's previous change, and
/// whether there is an entry.
type Before = (Option<Micros>, bool);

/// What a mapping means for its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Change,
    Confirmed,
    Refused,
}

/// Whether it is an FTN entry that shares its key with every other one of the router that has no
/// FEC.
#[inline]
fn is_unnamed(mapping: &Mapping) -> bool {
    mapping.fec == Fec::Unknown && mapping.ingress.label.is_none()
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
