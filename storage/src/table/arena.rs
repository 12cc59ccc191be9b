//! The entries of one table, packed one behind the other, with an index by key.
//!
//! In:   packed keys and values (`pack`), and what the table notes beside them.
//! Out:  records by key, in about 50 bytes for an LDP entry, index included.
//! Law:  a record is changed in place or written anew; space of old ones is won back in time.
//! Not:  what an entry means (`table`).

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::pack::{Packed, Reader, put_number};
use crate::mapping::TimeSource;
use crate::time::Micros;

/// Records begin at multiples of it, so that 32 bits of place reach 16 GiB.
const ALIGNMENT_BYTES: usize = 4;
/// Dead bytes that are tolerated in any table.
const DEAD_BYTES_MIN: usize = 4 << 10;

// A record: active_since i64, seen u32, flags u8, key length u8; key; value length (number);
// value; less active_since: event time, and effective time of the last row (numbers, zigzag).
const SEEN_OFFSET: usize = 8;
const FLAGS_OFFSET: usize = 12;
const KEY_LENGTH_OFFSET: usize = 13;
const KEY_OFFSET: usize = 14;

/// What a table notes about an entry, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// The collector's clock gave the event time.
    const COLLECTOR_TIME: u8 = 1;
    /// The record lives no more: its space waits for the next compaction.
    const DEAD: u8 = 16;
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

/// Where a record begins, in units of `ALIGNMENT_BYTES`. Good until the next `set` or `remove`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    fn offset(self) -> usize {
        self.0 as usize * ALIGNMENT_BYTES
    }
}

/// What is stored of an entry beside its key and value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) active_since: Micros,
    pub(super) changed: Micros,
    pub(super) event_time: Micros,
    pub(super) time_source: TimeSource,
    pub(super) seen: u32,
    pub(super) marks: Marks,
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
    /// Where the record behind the last one found begins. Routers send their tables again in the
    /// order in which they sent them before: what is asked for next is probably there.
    cursor: usize,
}

impl Arena {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Memory held, in bytes: an index bucket is a place and a control byte.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.index.capacity() * 8 / 7 * (size_of::<u32>() + 1)
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Place> {
        let same = |place: &u32| key_at(&self.bytes, Place(*place).offset()) == key;
        self.index.find(hash(&self.hasher, key), same).map(|place| Place(*place))
    }

    /// As `find`, but looks first behind the record that was found last.
    pub(super) fn find_next(&mut self, key: &[u8]) -> Option<Place> {
        let guess = self.cursor;
        let living = |flags: &u8| flags & Marks::DEAD == 0;
        let place = if self.bytes.get(guess + FLAGS_OFFSET).is_some_and(living)
            && key_at(&self.bytes, guess) == key
        {
            Place((guess / ALIGNMENT_BYTES) as u32)
        } else {
            self.find(key)?
        };
        self.cursor = place.offset() + padded(self.record_bytes(place));
        Some(place)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.index.iter().map(|place| Place(*place))
    }

    pub(super) fn record(&self, place: Place) -> Record<'_> {
        let mut reader = Reader::new(&self.bytes[place.offset()..]);
        let active_since = i64::from_le_bytes(fixed(reader.take(SEEN_OFFSET)));
        let seen = u32::from_le_bytes(fixed(reader.take(FLAGS_OFFSET - SEEN_OFFSET)));
        let [marks, key_length] = fixed(reader.take(KEY_OFFSET - FLAGS_OFFSET));
        let key = reader.take(usize::from(key_length));
        let value_length = reader.number() as usize;
        let value = reader.take(value_length);
        let event_less = unzigzag(reader.number());
        let changed_less = unzigzag(reader.number());
        let from_collector = marks & Marks::COLLECTOR_TIME != 0;
        let header = Header {
            active_since: Micros(active_since),
            changed: Micros(active_since.wrapping_add(changed_less)),
            event_time: Micros(active_since.wrapping_add(event_less)),
            time_source: if from_collector { TimeSource::Collector } else { TimeSource::Router },
            seen,
            marks: Marks(marks & !Marks::COLLECTOR_TIME),
        };
        Record { header, key, value }
    }

    /// In which snapshot the entry was met last, and its marks: all that a confirmation needs.
    pub(super) fn seen_and_marks(&self, place: Place) -> (u32, Marks) {
        let at = place.offset();
        let seen = u32::from_le_bytes(fixed(&self.bytes[at + SEEN_OFFSET..at + FLAGS_OFFSET]));
        (seen, Marks(self.bytes[at + FLAGS_OFFSET] & !Marks::COLLECTOR_TIME))
    }

    pub(super) fn value(&self, place: Place) -> &[u8] {
        let at = place.offset() + KEY_LENGTH_OFFSET;
        let key_length = usize::from(self.bytes[at]);
        let mut reader = Reader::new(&self.bytes[at + 1 + key_length..]);
        let value_length = reader.number() as usize;
        reader.take(value_length)
    }

    pub(super) fn set_seen(&mut self, place: Place, seen: u32) {
        let at = place.offset();
        self.bytes[at + SEEN_OFFSET..at + FLAGS_OFFSET].copy_from_slice(&seen.to_le_bytes());
    }

    pub(super) fn set_marks(&mut self, place: Place, marks: Marks) {
        let flags = &mut self.bytes[place.offset() + FLAGS_OFFSET];
        *flags = (*flags & Marks::COLLECTOR_TIME) | marks.0;
    }

    /// Puts an entry in, or another value in the place of the one that is there.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8], header: &Header) {
        let mut record = Packed::new();
        put_record(&mut record, key, value, header);
        if let Some(place) = self.find(key) {
            let (at, old_bytes) = (place.offset(), self.record_bytes(place));
            if old_bytes == record.len() {
                self.bytes[at..at + old_bytes].copy_from_slice(&record);
                return;
            }
            self.remove(key);
        }
        let place = self.append(&record);
        let Arena { bytes, index, hasher, .. } = self;
        let rehash = |place: &u32| hash(hasher, key_at(bytes, Place(*place).offset()));
        index.insert_unique(hash(hasher, key), place.0, rehash);
    }

    /// Takes an entry out, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) {
        let Arena { bytes, index, hasher, .. } = self;
        let same = |place: &u32| key_at(bytes, Place(*place).offset()) == key;
        let Ok(entry) = index.find_entry(hash(hasher, key), same) else {
            return;
        };
        let place = Place(entry.remove().0);
        self.bytes[place.offset() + FLAGS_OFFSET] |= Marks::DEAD;
        self.dead_bytes += padded(self.record_bytes(place));
        if self.dead_bytes > DEAD_BYTES_MIN + self.bytes.len() / 3 {
            self.compact();
        }
    }

    fn append(&mut self, record: &[u8]) -> Place {
        let at = self.bytes.len();
        let place = u32::try_from(at / ALIGNMENT_BYTES)
            .expect("one router's table is far below 16 GiB: the table reserve refuses before");
        let needed = padded(record.len());
        if self.bytes.capacity() - at < needed {
            // An eighth more, not twice as much: thousands of tables are each full for long.
            self.bytes.reserve_exact(needed.max(at / 8).max(256));
        }
        self.bytes.extend_from_slice(record);
        self.bytes.resize(at + needed, 0);
        Place(place)
    }

    /// Writes the living records anew, close together, and gives spare capacity back.
    fn compact(&mut self) {
        let living = self.bytes.len() - self.dead_bytes;
        let old = std::mem::replace(&mut self.bytes, Vec::with_capacity(living + living / 8));
        let mut index = std::mem::take(&mut self.index);
        for place in index.iter_mut() {
            let record = &old[Place(*place).offset()..];
            *place = self.append(&record[..record_bytes(record)]).0;
        }
        index
            .shrink_to_fit(|place| hash(&self.hasher, key_at(&self.bytes, Place(*place).offset())));
        self.index = index;
        self.dead_bytes = 0;
        self.cursor = 0;
    }

    fn record_bytes(&self, place: Place) -> usize {
        record_bytes(&self.bytes[place.offset()..])
    }
}

fn put_record(out: &mut Packed, key: &[u8], value: &[u8], header: &Header) {
    let collector = header.time_source == TimeSource::Collector;
    let flags = header.marks.0 | if collector { Marks::COLLECTOR_TIME } else { 0 };
    let key_length = u8::try_from(key.len()).expect("the longest key has about 70 bytes");
    out.extend_from_slice(&header.active_since.0.to_le_bytes());
    out.extend_from_slice(&header.seen.to_le_bytes());
    out.extend_from_slice(&[flags, key_length]);
    out.extend_from_slice(key);
    put_number(out, value.len() as u64);
    out.extend_from_slice(value);
    for time in [header.event_time, header.changed] {
        put_number(out, zigzag(time.0.wrapping_sub(header.active_since.0)));
    }
}

/// Length of the record that begins here, padding left out.
fn record_bytes(bytes: &[u8]) -> usize {
    let mut reader = Reader::new(bytes);
    let head = reader.take(KEY_OFFSET);
    reader.take(usize::from(head[KEY_LENGTH_OFFSET]));
    let value_length = reader.number() as usize;
    reader.take(value_length);
    reader.number();
    reader.number();
    bytes.len() - reader.left()
}

fn key_at(bytes: &[u8], at: usize) -> &[u8] {
    let key_length = usize::from(bytes[at + KEY_LENGTH_OFFSET]);
    &bytes[at + KEY_OFFSET..at + KEY_OFFSET + key_length]
}

fn hash(hasher: &RandomState, key: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key);
    state.finish()
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

    #[test]
    fn space_of_old_records_is_won_back() {
        let mut arena = Arena::default();
        let header = |seen: u32| Header {
            active_since: Micros(i64::from(seen)),
            changed: Micros(i64::MAX),
            event_time: Micros(-5),
            time_source: TimeSource::Collector,
            seen,
            marks: Marks::DOUBTED,
        };
        let key = |number: u32| number.to_be_bytes();
        for round in 0..200_usize {
            for number in 0..100 {
                arena.set(&key(number), &vec![7; round % 90], &header(number));
            }
        }
        assert_eq!(arena.len(), 100);
        let record = 100 * (KEY_OFFSET + 4 + 1 + 90 + 2 + 10 + ALIGNMENT_BYTES);
        assert!(arena.bytes.len() < 2 * record + 2 * DEAD_BYTES_MIN, "{}", arena.bytes.len());
        for number in 0..100 {
            let place = arena.find(&key(number)).unwrap();
            let record = arena.record(place);
            assert_eq!((record.header.seen, record.value.len()), (number, 199 % 90));
            let times = (record.header.event_time, record.header.changed);
            assert_eq!(times, (Micros(-5), Micros(i64::MAX)));
            assert_eq!(record.header.time_source, TimeSource::Collector);
            assert!(record.header.marks.has(Marks::DOUBTED));
            arena.remove(&key(number));
        }
        assert_eq!((arena.len(), arena.find(&key(1))), (0, None));
    }
}
