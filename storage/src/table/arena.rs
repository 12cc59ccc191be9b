//! The entries of one table, packed one behind the other, with an index by key.
//!
//! In:   packed keys and values (`pack`), and what the table notes beside them.
//! Out:  records by key, in about 50 bytes for an LDP entry, index included.
//! Law:  a record is overwritten by one as long, or written anew; old space is used again.
//! Not:  what an entry means (`table`).

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::pack::{Reader, same};
use crate::mapping::TimeSource;
use crate::time::Micros;

/// Records begin at multiples of it, so that 32 bits of place reach 16 GiB.
const ALIGNMENT_BYTES: usize = 4;
/// Dead bytes that are tolerated in any table.
const DEAD_BYTES_MIN: usize = 4 << 10;

// A record: active_since i64, seen u32, flags u8, key length u8; key; value length (number);
// value; unless the flags say `PLAIN_TIMES`, two times less active_since (numbers, zigzag): event
// time, and effective time of the last row.
const SEEN_OFFSET: usize = 8;
const FLAGS_OFFSET: usize = 12;
const BODY_OFFSET: usize = 13;
const KEY_OFFSET: usize = 14;
/// In the last bytes of the shortest LDP entry.
const TOUCH_OFFSET: usize = 31;

/// What a table notes about an entry, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// The collector's clock gave the event time.
    const COLLECTOR_TIME: u8 = 1;
    /// The record lives no more: its space waits to be used again.
    const DEAD: u8 = 16;
    /// Event time and effective time of the last row are both `active_since`.
    const PLAIN_TIMES: u8 = 32;
    /// What only the arena knows of.
    const OWN: u8 = Marks::COLLECTOR_TIME | Marks::DEAD | Marks::PLAIN_TIMES;
    /// None.
    pub(super) const NONE: Marks = Marks(0);
    /// A mapping of the key was rejected since.
    pub(super) const DOUBTED: Marks = Marks(2);
    /// The entry is in the table's list of unconfirmed ones.
    pub(super) const UNCONFIRMED: Marks = Marks(4);
    /// The entry's extra text is in the table's list.
    pub(super) const EXTRA: Marks = Marks(8);

    pub(super) const fn has(self, other: Marks) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Marks) -> Marks {
        Marks(self.0 & !other.0)
    }
}

/// Where a record begins, in units of `ALIGNMENT_BYTES`. Good as long as `Arena::version` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    fn offset(self) -> usize {
        self.0 as usize * ALIGNMENT_BYTES
    }
}

/// What is stored of an entry beside its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) active_since: Micros,
    pub(super) changed: Micros,
    pub(super) event_time: Micros,
    pub(super) time_source: TimeSource,
    pub(super) seen: u32,
    pub(super) marks: Marks,
}

impl Header {
    /// Whether all its times are one.
    fn is_plain(&self) -> bool {
        self.event_time == self.active_since && self.changed == self.active_since
    }

    fn write(&self, head: &mut [u8]) {
        let collector = self.time_source == TimeSource::Collector;
        head[..SEEN_OFFSET].copy_from_slice(&self.active_since.0.to_le_bytes());
        head[SEEN_OFFSET..FLAGS_OFFSET].copy_from_slice(&self.seen.to_le_bytes());
        head[FLAGS_OFFSET] = self.marks.0
            | if collector { Marks::COLLECTOR_TIME } else { 0 }
            | if self.is_plain() { Marks::PLAIN_TIMES } else { 0 };
    }
}

/// One record, read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) header: Header,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// Places of the records that live.
    index: HashTable<u32>,
    hasher: RandomState,
    dead_bytes: usize,
    /// Counts what moves or removes records, or adds one.
    version: u32,
    /// Counts records that were overwritten where they are.
    overwrites: u32,
    /// Where the record behind the last one found begins.
    behind: usize,
    /// Whether the last one found stood behind the one before. Routers send their tables again in
    /// the order in which they sent them before: what is asked for next is then probably behind it.
    in_order: bool,
    free: FreePlaces,
}

impl Arena {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Memory held, in bytes: an index bucket is a place and a control byte.
    pub(super) fn memory_bytes(&self) -> usize {
        let index_bytes = self.index.capacity() * 8 / 7 * (size_of::<u32>() + 1);
        allocated(self.bytes.capacity()) + allocated(index_bytes)
    }

    /// Places found under another version may be no places any more.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Values compared under another number may be others now.
    pub(super) fn overwrites(&self) -> u32 {
        self.overwrites
    }

    /// What the index goes by. `key` is packed, behind its length.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        hash(&self.hasher, key)
    }

    /// `hash` is that of the key.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let same = |place: &u32| self.has_key(Place(*place), key);
        self.index.find(hash, same).map(|place| Place(*place))
    }

    /// A place that a key of this hash may have, without looking there: nearly always its own.
    pub(super) fn candidate(&self, hash: u64) -> Option<Place> {
        self.index.iter_hash(hash).next().map(|place| Place(*place))
    }

    /// Reads a byte of the record's first and second half, so that they are on their way when the
    /// record is needed: two cache lines for half of the records.
    pub(super) fn touch(&self, place: Place) -> u8 {
        let first = self.bytes.get(place.offset()).copied().unwrap_or(0);
        first ^ self.bytes.get(place.offset() + TOUCH_OFFSET).copied().unwrap_or(0)
    }

    /// Whether the record is this key's.
    pub(super) fn has_key(&self, place: Place, key: &[u8]) -> bool {
        let at = place.offset() + BODY_OFFSET;
        self.bytes.get(at..at + key.len()).is_some_and(|here| same(here, key))
    }

    /// The record behind the last one found, if it is this key's.
    pub(super) fn find_expected(&mut self, key: &[u8]) -> Option<Place> {
        let flags = self.bytes.get(self.behind + FLAGS_OFFSET).filter(|_| self.in_order)?;
        let place = Place((self.behind / ALIGNMENT_BYTES) as u32);
        if flags & Marks::DEAD != 0 || !self.has_key(place, key) {
            return None;
        }
        self.behind += padded(self.record_bytes(place));
        Some(place)
    }

    /// The record behind the last one found, if it has this key and this value and nothing odd
    /// about its times. One comparison for all of it.
    pub(super) fn confirm_expected(&mut self, body: &[u8]) -> Option<Place> {
        if !self.in_order {
            return None;
        }
        let at = self.behind;
        let record = self.bytes.get(at..at + BODY_OFFSET + body.len())?;
        let is_plain = record[FLAGS_OFFSET] & (Marks::DEAD | Marks::PLAIN_TIMES);
        if is_plain != Marks::PLAIN_TIMES || !same(&record[BODY_OFFSET..], body) {
            return None;
        }
        self.behind = at + padded(BODY_OFFSET + body.len());
        Some(Place((at / ALIGNMENT_BYTES) as u32))
    }

    /// Notes what was found by its hash: two in order, and the next is expected behind them.
    pub(super) fn found(&mut self, place: Option<Place>) {
        self.in_order = place.is_some_and(|place| place.offset() == self.behind);
        if let Some(place) = place {
            self.behind = place.offset() + padded(self.record_bytes(place));
        }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.index.iter().map(|place| Place(*place))
    }

    pub(super) fn record(&self, place: Place) -> Record<'_> {
        let mut reader = Reader::new(&self.bytes[place.offset()..]);
        let active_since = i64::from_le_bytes(fixed(reader.take(SEEN_OFFSET)));
        let seen = u32::from_le_bytes(fixed(reader.take(FLAGS_OFFSET - SEEN_OFFSET)));
        let [flags, key_length] = fixed(reader.take(KEY_OFFSET - FLAGS_OFFSET));
        let key = reader.take(usize::from(key_length));
        let value_length = reader.number() as usize;
        let value = reader.take(value_length);
        let mut time = || {
            let is_plain = flags & Marks::PLAIN_TIMES != 0;
            let less = if is_plain { 0 } else { unzigzag(reader.number()) };
            Micros(active_since.wrapping_add(less))
        };
        let (event_time, changed) = (time(), time());
        let from_collector = flags & Marks::COLLECTOR_TIME != 0;
        let header = Header {
            active_since: Micros(active_since),
            changed,
            event_time,
            time_source: if from_collector { TimeSource::Collector } else { TimeSource::Router },
            seen,
            marks: Marks(flags & !Marks::OWN),
        };
        Record { header, key, value }
    }

    /// In which snapshot the entry was met last, and its marks: all that a confirmation needs.
    pub(super) fn seen_and_marks(&self, place: Place) -> (u32, Marks) {
        let at = place.offset();
        let seen = u32::from_le_bytes(fixed(&self.bytes[at + SEEN_OFFSET..at + FLAGS_OFFSET]));
        (seen, Marks(self.bytes[at + FLAGS_OFFSET] & !Marks::OWN))
    }

    /// Effective time of the entry's last row.
    pub(super) fn changed(&self, place: Place) -> Micros {
        let at = place.offset();
        if self.bytes[at + FLAGS_OFFSET] & Marks::PLAIN_TIMES == 0 {
            return self.record(place).header.changed;
        }
        Micros(i64::from_le_bytes(fixed(&self.bytes[at..at + SEEN_OFFSET])))
    }

    /// Whether the entry has this value, packed behind its length. `key_length` is that of its key,
    /// with the byte that says so.
    pub(super) fn has_value(&self, place: Place, key_length: usize, value: &[u8]) -> bool {
        let at = place.offset() + BODY_OFFSET + key_length;
        self.bytes.get(at..at + value.len()).is_some_and(|here| same(here, value))
    }

    pub(super) fn set_seen(&mut self, place: Place, seen: u32) {
        let at = place.offset();
        self.bytes[at + SEEN_OFFSET..at + FLAGS_OFFSET].copy_from_slice(&seen.to_le_bytes());
    }

    pub(super) fn set_marks(&mut self, place: Place, marks: Marks) {
        let flags = &mut self.bytes[place.offset() + FLAGS_OFFSET];
        *flags = (*flags & Marks::OWN) | marks.0;
    }

    /// Puts an entry in. `body` is key and value, each packed behind its length; `hash` is that of
    /// the key, which has no entry.
    pub(super) fn insert(&mut self, hash: u64, body: &[u8], header: &Header) {
        let place = self.add(body, header);
        let Arena { bytes, index, hasher, .. } = self;
        let rehash = |place: &u32| hash_at(hasher, bytes, Place(*place));
        index.insert_unique(hash, place.0, rehash);
        self.version = self.version.wrapping_add(1);
    }

    /// Puts another value in the place of the entry that is there. The first `key_length` bytes of
    /// the body are its key.
    pub(super) fn replace(
        &mut self,
        place: Place,
        key_length: usize,
        body: &[u8],
        header: &Header,
    ) {
        if self.overwrite_plainly(place, key_length, body, header) {
            self.overwrites = self.overwrites.wrapping_add(1);
            return;
        }
        let tail = Tail::of(header);
        let bytes_new = padded(BODY_OFFSET + body.len() + tail.bytes().len());
        let bytes_old = padded(self.record_bytes(place));
        if bytes_new == bytes_old {
            self.write(place.offset(), body, header, &tail);
            self.overwrites = self.overwrites.wrapping_add(1);
            return;
        }
        let hash = hash_at(&self.hasher, &self.bytes, place);
        self.retire(place);
        let moved = self.add(body, header);
        if let Some(entry) = self.index.find_mut(hash, |one| *one == place.0) {
            *entry = moved.0;
        }
        self.version = self.version.wrapping_add(1);
        self.compact_if_due();
    }

    /// What nearly every replacement is: a value as long, and no odd times. Says whether it was.
    fn overwrite_plainly(
        &mut self,
        place: Place,
        key_length: usize,
        body: &[u8],
        header: &Header,
    ) -> bool {
        let at = place.offset();
        let value = &body[key_length..];
        let Some(record) = self.bytes.get_mut(at..at + BODY_OFFSET + body.len()) else {
            return false;
        };
        let (head, rest) = record.split_at_mut(BODY_OFFSET);
        let old = &mut rest[key_length..];
        // A length of one byte that is equal: the value ends where the old one ended.
        let is_as_long = old[0] == value[0] && value[0] < 0x80;
        if !is_as_long || head[FLAGS_OFFSET] & Marks::PLAIN_TIMES == 0 || !header.is_plain() {
            return false;
        }
        old.copy_from_slice(value);
        header.write(head);
        true
    }

    /// Writes what is noted beside an entry.
    pub(super) fn set_header(&mut self, place: Place, header: &Header) {
        let at = place.offset();
        let body = self.bytes[at + BODY_OFFSET..at + body_end(&self.bytes[at..])].to_vec();
        self.replace(place, 1 + usize::from(body[0]), &body, header);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, place: Place) {
        let hash = hash_at(&self.hasher, &self.bytes, place);
        if let Ok(entry) = self.index.find_entry(hash, |one| *one == place.0) {
            entry.remove();
            self.retire(place);
            self.version = self.version.wrapping_add(1);
            self.compact_if_due();
        }
    }

    /// Writes a record where a dead one was, or behind all others.
    fn add(&mut self, body: &[u8], header: &Header) -> Place {
        let tail = Tail::of(header);
        let needed = padded(BODY_OFFSET + body.len() + tail.bytes().len());
        let place = match self.free.take(needed, &self.bytes) {
            Some(place) => {
                self.dead_bytes -= needed;
                place
            }
            None => self.extend(needed),
        };
        self.write(place.offset(), body, header, &tail);
        place
    }

    /// Room for a record of so many bytes, behind all others.
    fn extend(&mut self, needed: usize) -> Place {
        let at = self.bytes.len();
        let place = u32::try_from(at / ALIGNMENT_BYTES)
            .expect("one router's table is far below 16 GiB: the table reserve refuses before");
        if self.bytes.capacity() - at < needed {
            // An eighth more, not twice as much: thousands of tables are each full for long.
            self.bytes.reserve_exact(needed.max(at / 8).max(256));
        }
        self.bytes.resize(at + needed, 0);
        Place(place)
    }

    fn write(&mut self, at: usize, body: &[u8], header: &Header, tail: &Tail) {
        let (head, rest) = self.bytes[at..].split_at_mut(BODY_OFFSET);
        header.write(head);
        rest[..body.len()].copy_from_slice(body);
        if !tail.bytes().is_empty() {
            rest[body.len()..body.len() + tail.bytes().len()].copy_from_slice(tail.bytes());
        }
    }

    /// The record lives no more.
    fn retire(&mut self, place: Place) {
        let size = padded(self.record_bytes(place));
        self.bytes[place.offset() + FLAGS_OFFSET] |= Marks::DEAD;
        self.dead_bytes += size;
        self.free.put(place, size, &mut self.bytes);
    }

    fn compact_if_due(&mut self) {
        if self.dead_bytes > DEAD_BYTES_MIN + self.bytes.len() / 4 {
            self.compact();
        }
    }

    /// Writes the living records anew, close together, and gives spare capacity back.
    fn compact(&mut self) {
        let living = self.bytes.len() - self.dead_bytes;
        let old = std::mem::replace(&mut self.bytes, Vec::with_capacity(living + living / 8));
        let mut index = std::mem::take(&mut self.index);
        for place in index.iter_mut() {
            let record = &old[Place(*place).offset()..];
            let size = padded(record_bytes(record));
            let moved = self.extend(size);
            self.bytes[moved.offset()..].copy_from_slice(&record[..size]);
            *place = moved.0;
        }
        index.shrink_to_fit(|place| hash_at(&self.hasher, &self.bytes, Place(*place)));
        self.index = index;
        self.dead_bytes = 0;
        (self.behind, self.in_order) = (0, false);
        self.free = FreePlaces::default();
    }

    fn record_bytes(&self, place: Place) -> usize {
        record_bytes(&self.bytes[place.offset()..])
    }
}

/// Dead records that a new one of the same size may take the place of: a chain per size, each link
/// in the first bytes of the record before it. Values that change their length to and fro (another
/// branch comes and goes) then move no other record.
#[derive(Clone, Debug, Default)]
struct FreePlaces {
    /// Places plus 1, so that 0 is none.
    heads: [u32; FREE_SIZES],
}

/// Sizes that have a chain: multiples of the alignment, an LDP entry with eight branches included.
const FREE_SIZES: usize = 24;
/// The smallest record: no key is shorter than its kind and no value than three bytes.
const FREE_BYTES_MIN: usize = BODY_OFFSET + 3;

impl FreePlaces {
    fn chain(size: usize) -> usize {
        (size - FREE_BYTES_MIN) / ALIGNMENT_BYTES
    }

    fn take(&mut self, size: usize, bytes: &[u8]) -> Option<Place> {
        let head = self.heads.get_mut(Self::chain(size))?;
        let place = Place(head.checked_sub(1)?);
        *head = u32::from_le_bytes(fixed(&bytes[place.offset()..place.offset() + 4]));
        Some(place)
    }

    fn put(&mut self, place: Place, size: usize, bytes: &mut [u8]) {
        if let Some(head) = self.heads.get_mut(Self::chain(size)) {
            bytes[place.offset()..place.offset() + 4].copy_from_slice(&head.to_le_bytes());
            *head = place.0 + 1;
        }
    }
}

/// The times behind a record's value, where they are not those of `PLAIN_TIMES`.
#[derive(Default)]
struct Tail {
    bytes: [u8; 2 * NUMBER_BYTES_MAX],
    length: usize,
}

/// 64 bits, seven to a byte.
const NUMBER_BYTES_MAX: usize = 10;

impl Tail {
    fn of(header: &Header) -> Tail {
        let mut tail = Tail::default();
        let since = header.active_since;
        if !header.is_plain() {
            tail.put(zigzag(header.event_time.0.wrapping_sub(since.0)));
            tail.put(zigzag(header.changed.0.wrapping_sub(since.0)));
        }
        tail
    }

    fn put(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes[self.length] = number as u8 | 0x80;
            self.length += 1;
            number >>= 7;
        }
        self.bytes[self.length] = number as u8;
        self.length += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Length of the record that begins here, padding left out.
fn record_bytes(bytes: &[u8]) -> usize {
    let end = body_end(bytes);
    if bytes[FLAGS_OFFSET] & Marks::PLAIN_TIMES != 0 {
        return end;
    }
    let mut reader = Reader::new(&bytes[end..]);
    reader.number();
    reader.number();
    bytes.len() - reader.left()
}

/// Where the value of the record that begins here ends.
fn body_end(bytes: &[u8]) -> usize {
    let value_at = KEY_OFFSET + usize::from(bytes[BODY_OFFSET]);
    let mut reader = Reader::new(&bytes[value_at..]);
    let value_length = reader.number() as usize;
    bytes.len() - reader.left() + value_length
}

fn hash(hasher: &RandomState, key: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key);
    state.finish()
}

fn hash_at(hasher: &RandomState, bytes: &[u8], place: Place) -> u64 {
    let at = place.offset() + BODY_OFFSET;
    let key_length = usize::from(bytes[at]);
    hash(hasher, &bytes[at..at + 1 + key_length])
}

/// What an allocator takes for so many bytes: those of the field have eight sizes per doubling.
fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / 16).max(1))
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT_BYTES)
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the offsets of a record are constants")
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_is_its_own_way_back() {
        for number in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(number)), number);
        }
        assert_eq!(zigzag(-1), 1);
    }

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
            Some(place) => arena.replace(place, 5, &body, &header(number)),
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
        let record = 100 * (KEY_OFFSET + 4 + 1 + 92 + 2 + 10 + ALIGNMENT_BYTES);
        assert!(arena.bytes.len() < 2 * record + 2 * DEAD_BYTES_MIN, "{}", arena.bytes.len());
        for number in 0..100 {
            let place = find(&arena, number).unwrap();
            let record = arena.record(place);
            assert_eq!((record.header.seen, record.value.len()), (number, 3 + 199 % 90));
            let times = (record.header.event_time, record.header.changed);
            assert_eq!(times, (Micros(-5), Micros(i64::MAX)));
            assert_eq!(arena.changed(place), Micros(i64::MAX));
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
            sizes.push(arena.bytes.len());
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
        assert_eq!(record_bytes(&arena.bytes), BODY_OFFSET + body.len());
        assert_eq!((arena.changed(place), arena.record(place).header), (Micros(9), plain));
        let later = Header { changed: Micros(10), ..plain };
        arena.set_header(place, &later);
        let place = find(&arena, 1).unwrap();
        assert_eq!((arena.changed(place), arena.record(place).header), (Micros(10), later));
    }
}
