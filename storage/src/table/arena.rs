//! The entries of one table, packed one behind the other, with an index by key.
//!
//! In:   packed keys and values (`pack`), and what the table notes beside them.
//! Out:  records by key, in about 48 bytes for an LDP entry, index included.
//! Law:  a record is overwritten by one as long, or written anew; old space is used again.
//! Not:  what an entry means (`table`), how a record is spelt (`record`), where it fits (`room`).

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::index::Index;
use super::pack::same;
use super::record::{self, BODY_OFFSET, Glance, Header, Marks, Record, TOUCH_OFFSET, Tail};
pub(super) use super::room::Place;
use super::room::{Room, allocated, padded};

/// Dead bytes that are tolerated in any table.
const DEAD_BYTES_MIN: usize = 4 << 10;

#[derive(Clone, Debug)]
pub(super) struct Arena {
    room: Room,
    /// Places of the records that live.
    index: Index,
    hasher: RandomState,
    /// Counts what moves or removes records, or adds one.
    version: u32,
    /// Counts how often all records were moved.
    compactions: u32,
    /// Counts records that were overwritten where they are.
    overwrites: u32,
    /// Where the record behind the last one found begins.
    behind: Place,
    /// Whether the last one found stood behind the one before. Routers send their tables again in
    /// the order in which they sent them before: what is asked for next is then probably behind it.
    in_order: bool,
}

impl Default for Arena {
    fn default() -> Arena {
        Arena {
            room: Room::default(),
            index: Index::default(),
            hasher: RandomState::default(),
            version: 0,
            compactions: 0,
            overwrites: 0,
            behind: Place::FIRST,
            in_order: false,
        }
    }
}

impl Arena {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.room.memory_bytes() + allocated(self.index.capacity_bytes())
    }

    /// Places found under another version may be no places any more.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Places found under another number are none.
    pub(super) fn compactions(&self) -> u32 {
        self.compactions
    }

    /// Values compared under another number may be others now.
    pub(super) fn overwrites(&self) -> u32 {
        self.overwrites
    }

    /// What the index goes by. `key` is packed, behind its length.
    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        hash(&self.hasher, key)
    }

    /// `hash` is that of the key.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        self.index.find(hash, |place| self.has_key(Place(place), key)).map(Place)
    }

    /// A place that a key of this hash may have, without looking there: nearly always its own.
    #[inline]
    pub(super) fn candidate(&self, hash: u64) -> Option<Place> {
        self.index.candidate(hash).map(Place)
    }

    /// Reads a byte of the record's first and second half, so that they are on their way when the
    /// record is needed: two cache lines for half of the records.
    #[inline]
    pub(super) fn touch(&self, place: Place) -> u8 {
        let bytes = self.room.at(place);
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        byte(0) ^ byte(TOUCH_OFFSET)
    }

    /// Whether the record is this key's.
    #[inline]
    pub(super) fn has_key(&self, place: Place, key: &[u8]) -> bool {
        let here = self.room.at(place).get(BODY_OFFSET..BODY_OFFSET + key.len());
        here.is_some_and(|here| same(here, key))
    }

    /// The bytes from an entry's record on: `record` reads them.
    #[inline]
    pub(super) fn bytes(&self, place: Place) -> &[u8] {
        self.room.at(place)
    }

    /// The record behind the last one found, if it is this key's.
    pub(super) fn find_expected(&mut self, key: &[u8]) -> Option<Place> {
        let place = self.behind;
        if !self.in_order || !record::is_alive(self.room.at(place)) || !self.has_key(place, key) {
            return None;
        }
        self.behind = self.room.behind(place, record::record_bytes(self.room.at(place)));
        Some(place)
    }

    /// The record behind the last one found, if it has this key and this value and nothing odd
    /// about its times. One comparison for all of it.
    pub(super) fn confirm_expected(&mut self, body: &[u8]) -> Option<Place> {
        if !self.in_order {
            return None;
        }
        let place = self.behind;
        let record = self.room.at(place).get(..BODY_OFFSET + body.len())?;
        if !record::is_alive_and_plain(record) || !same(&record[BODY_OFFSET..], body) {
            return None;
        }
        self.behind = self.room.behind(place, BODY_OFFSET + body.len());
        Some(place)
    }

    /// Notes what was found by its hash: two in order, and the next is expected behind them.
    pub(super) fn found(&mut self, place: Option<Place>) {
        self.in_order = place.is_some_and(|place| place == self.behind);
        if let Some(place) = place {
            self.behind = self.room.behind(place, record::record_bytes(self.room.at(place)));
        }
    }

    /// Places of all entries, in the order in which they stand.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.room.places().filter(|place| record::is_alive(self.room.at(*place)))
    }

    pub(super) fn record(&self, place: Place) -> Record<'_> {
        Record::read(self.room.at(place))
    }

    /// All that a confirmation or a change needs to know of the entry.
    #[inline]
    pub(super) fn glance(&self, place: Place) -> Glance {
        record::glance(self.room.at(place))
    }

    pub(super) fn set_seen(&mut self, place: Place, seen: u32) {
        record::set_seen(self.room.at_mut(place), seen);
    }

    pub(super) fn set_marks(&mut self, place: Place, marks: Marks) {
        record::set_marks(self.room.at_mut(place), marks);
    }

    /// Puts an entry in. `body` is key and value, each packed behind its length; `hash` is that of
    /// the key, which has no entry.
    pub(super) fn insert(&mut self, hash: u64, body: &[u8], header: &Header) {
        let tail = Tail::of(header);
        let place = self.room.add(BODY_OFFSET + body.len() + tail.bytes().len());
        record::write(self.room.at_mut(place), body, header, &tail);
        let Arena { room, index, hasher, .. } = self;
        index.insert(hash, place.0, |place| hash_at(hasher, room, place));
        self.version = self.version.wrapping_add(1);
    }

    /// Puts another value in the place of the entry that is there. `hash` is that of the key, if it
    /// is known; the first `key_length` bytes of the body are the key.
    #[inline]
    pub(super) fn replace(
        &mut self,
        place: Place,
        hash: Option<u64>,
        key_length: usize,
        body: &[u8],
        header: &Header,
    ) {
        let here = self.room.at_mut(place);
        if record::overwrite_plainly(here, key_length, body, header) {
            self.overwrites = self.overwrites.wrapping_add(1);
            return;
        }
        self.replace_otherwise(place, hash, body, header);
    }

    /// With another length, or with odd times.
    fn replace_otherwise(&mut self, place: Place, hash: Option<u64>, body: &[u8], header: &Header) {
        let tail = Tail::of(header);
        let length = BODY_OFFSET + body.len() + tail.bytes().len();
        let here = self.room.at_mut(place);
        let old_length = record::record_bytes(here);
        if padded(length) == padded(old_length) {
            record::write(here, body, header, &tail);
            self.overwrites = self.overwrites.wrapping_add(1);
            return;
        }
        let moved = self.room.add_another(length);
        record::write(self.room.at_mut(moved), body, header, &tail);
        let Arena { room, index, hasher, .. } = self;
        let hash_at = |place| hash_at(hasher, room, place);
        index.replace(hash.unwrap_or_else(|| hash_at(place.0)), place.0, moved.0, hash_at);
        self.room.retire(place, old_length);
        self.version = self.version.wrapping_add(1);
        self.compact_if_due();
    }

    /// Writes what is noted beside an entry.
    pub(super) fn set_header(&mut self, place: Place, header: &Header) {
        let body = record::body(self.room.at(place)).to_vec();
        self.replace(place, None, 1 + usize::from(body[0]), &body, header);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, place: Place) {
        let Arena { room, index, hasher, .. } = self;
        let hash_at = |place| hash_at(hasher, room, place);
        if index.remove(hash_at(place.0), place.0, hash_at) {
            self.room.retire(place, record::record_bytes(self.room.at(place)));
            self.version = self.version.wrapping_add(1);
            self.compact_if_due();
        }
    }

    fn compact_if_due(&mut self) {
        if self.room.dead_bytes() > DEAD_BYTES_MIN + self.room.bytes() / 4 {
            self.compact();
        }
    }

    /// Writes the living records anew, close together and in their order, and gives spare capacity
    /// back.
    fn compact(&mut self) {
        let mut room = Room::with_room(self.room.bytes() - self.room.dead_bytes());
        let mut index = Index::with_room(self.index.len());
        for place in self.places() {
            let here = self.room.at(place);
            let length = record::record_bytes(here);
            let moved = room.add(length);
            room.at_mut(moved)[..length].copy_from_slice(&here[..length]);
            let hash = self.hash(record::key(here));
            index.insert(hash, moved.0, |place| hash_at(&self.hasher, &room, place));
        }
        (self.room, self.index) = (room, index);
        (self.behind, self.in_order) = (Place::FIRST, false);
        self.compactions = self.compactions.wrapping_add(1);
    }
}

#[inline]
fn hash(hasher: &RandomState, key: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key);
    state.finish()
}

/// Hash of the key of the record there.
fn hash_at(hasher: &RandomState, room: &Room, place: u32) -> u64 {
    hash(hasher, record::key(room.at(Place(place))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::TimeSource;
    use crate::time::Micros;

    fn header(seen: u32) -> Header {
        Header {
            active_since: Micros(i64::from(seen)),
            changed: Micros(i64::MAX),
            event_time: Micros(-5),
            time_source: TimeSource::Collector,
            seen,
            marks: Marks::DOUBTED,
        }
    }

    /// Key and value, each behind its length, which is one byte here.
    fn body(number: u32, value_length: usize) -> Vec<u8> {
        let mut body = vec![4];
        body.extend(number.to_be_bytes());
        body.push(value_length as u8);
        body.resize(body.len() + value_length, 7);
        body
    }

    fn set(arena: &mut Arena, number: u32, value_length: usize) {
        let body = body(number, value_length);
        let hash = arena.hash(&body[..5]);
        match arena.find(hash, &body[..5]) {
            Some(place) => arena.replace(place, None, 5, &body, &header(number)),
            None => arena.insert(hash, &body, &header(number)),
        }
    }

    fn find(arena: &Arena, number: u32) -> Option<Place> {
        let key = &body(number, 0)[..5];
        arena.find(arena.hash(key), key)
    }

    #[test]
    fn space_of_old_records_is_won_back() {
        let mut arena = Arena::default();
        for round in 0..200 {
            for number in 0..100 {
                set(&mut arena, number, 3 + round % 90);
            }
        }
        assert_eq!(arena.len(), 100);
        let record = 100 * (BODY_OFFSET + 5 + 1 + 92 + 2 + 10 + 4);
        assert!(arena.room.bytes() < 2 * record + 2 * DEAD_BYTES_MIN, "{}", arena.room.bytes());
        for number in 0..100 {
            let place = find(&arena, number).unwrap();
            let record = arena.record(place);
            assert_eq!((record.header.seen, record.value.len()), (number, 3 + 199 % 90));
            let times = (record.header.event_time, record.header.changed);
            assert_eq!(times, (Micros(-5), Micros(i64::MAX)));
            assert_eq!(arena.glance(place).changed, Micros(i64::MAX));
            assert_eq!(record.header.time_source, TimeSource::Collector);
            assert!(record.header.marks.has(Marks::DOUBTED));
            arena.remove(place);
        }
        assert_eq!((arena.len(), find(&arena, 1)), (0, None));
    }

    #[test]
    fn values_that_grow_and_shrink_again_use_the_same_places() {
        let mut arena = Arena::default();
        let mut sizes = Vec::new();
        for round in 0..50 {
            for number in 0..1_000 {
                set(&mut arena, number, if (number + round) % 3 == 0 { 19 } else { 11 });
            }
            sizes.push(arena.room.bytes());
        }
        // One place of the other size for each that changes is all that it ever takes.
        assert!(sizes[49] <= sizes[2] && sizes[49] <= sizes[0] * 5 / 4, "{sizes:?}");
        for number in 0..1_000 {
            let value = arena.record(find(&arena, number).unwrap()).value;
            assert_eq!(value.len(), if (number + 49) % 3 == 0 { 19 } else { 11 });
        }
    }

    #[test]
    fn times_that_are_all_one_take_no_room() {
        let mut arena = Arena::default();
        let body = body(1, 3);
        let hash = arena.hash(&body[..5]);
        let plain = Header { changed: Micros(9), event_time: Micros(9), ..header(9) };
        arena.insert(hash, &body, &plain);
        let place = find(&arena, 1).unwrap();
        assert_eq!(record::record_bytes(arena.room.at(Place::FIRST)), BODY_OFFSET + body.len());
        assert_eq!((arena.glance(place).changed, arena.record(place).header), (Micros(9), plain));
        let later = Header { changed: Micros(10), ..plain };
        arena.set_header(place, &later);
        let place = find(&arena, 1).unwrap();
        assert_eq!((arena.glance(place).changed, arena.record(place).header), (Micros(10), later));
    }
}
