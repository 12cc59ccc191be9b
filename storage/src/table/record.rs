//! One record of a table: what is noted of an entry, its key and its value, as bytes.
//!
//! In:   headers and packed bodies (`pack`); the bytes of a record.
//! Out:  the other of the two, and how long a record is.
//! Law:  what was written is read; times that are all one take no room.
//! Not:  where records stand (`room`), what they mean (`table`).

use super::pack::{Reader, same};
use crate::mapping::TimeSource;
use crate::time::Micros;

// A record: active_since i64, seen u32, flags u8, key length u8; key; value length (number);
// value; unless the flags say `PLAIN_TIMES`, two times less active_since (numbers, zigzag): event
// time, and effective time of the last row.
const SEEN_OFFSET: usize = 8;
const FLAGS_OFFSET: usize = 12;
/// Where key and value begin, each behind its length.
pub(super) const BODY_OFFSET: usize = 13;
/// Where the key begins.
pub(super) const KEY_OFFSET: usize = 14;
/// In the last bytes of the shortest LDP entry.
pub(super) const TOUCH_OFFSET: usize = 31;
/// The smallest record: no key is shorter than its kind and no value than three bytes.
pub(super) const RECORD_BYTES_MIN: usize = BODY_OFFSET + 3;

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
    /// What only the record knows of.
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
    #[inline]
    fn is_plain(&self) -> bool {
        self.event_time == self.active_since && self.changed == self.active_since
    }

    #[inline]
    fn write(&self, head: &mut [u8; BODY_OFFSET]) {
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

impl<'a> Record<'a> {
    /// Reads the record that begins here.
    pub(super) fn read(bytes: &'a [u8]) -> Record<'a> {
        let mut reader = Reader::new(bytes);
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
}

/// What a mapping has to know of its entry before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    /// In which snapshot the entry was met last.
    pub(super) seen: u32,
    pub(super) marks: Marks,
    /// Effective time of its last row.
    pub(super) changed: Micros,
}

/// Looks at the record that begins here.
#[inline]
pub(super) fn glance(bytes: &[u8]) -> Glance {
    let head: [u8; BODY_OFFSET] = fixed(&bytes[..BODY_OFFSET]);
    let [a, b, c, d, e, f, g, h, seen @ .., flags] = head;
    let is_plain = flags & Marks::PLAIN_TIMES != 0;
    let changed = match is_plain {
        true => Micros(i64::from_le_bytes([a, b, c, d, e, f, g, h])),
        false => Record::read(bytes).header.changed,
    };
    Glance { seen: u32::from_le_bytes(seen), marks: Marks(flags & !Marks::OWN), changed }
}

/// Whether a record begins here that lives.
#[inline]
pub(super) fn is_alive(bytes: &[u8]) -> bool {
    bytes.get(FLAGS_OFFSET).is_some_and(|flags| flags & Marks::DEAD == 0)
}

/// Whether a record begins here that lives and whose times are all one.
#[inline]
pub(super) fn is_alive_and_plain(bytes: &[u8]) -> bool {
    let flags = bytes.get(FLAGS_OFFSET).map(|flags| flags & (Marks::DEAD | Marks::PLAIN_TIMES));
    flags == Some(Marks::PLAIN_TIMES)
}

/// Whether the record has the value of this body, whose key it has and which ends at `key_end`.
#[inline]
pub(super) fn has_value(bytes: &[u8], key_end: usize, body: &[u8]) -> bool {
    let here = bytes.get(BODY_OFFSET + key_end..BODY_OFFSET + body.len());
    here.is_some_and(|here| same(here, &body[key_end..]))
}

pub(super) fn set_seen(bytes: &mut [u8], seen: u32) {
    bytes[SEEN_OFFSET..FLAGS_OFFSET].copy_from_slice(&seen.to_le_bytes());
}

pub(super) fn set_marks(bytes: &mut [u8], marks: Marks) {
    bytes[FLAGS_OFFSET] = (bytes[FLAGS_OFFSET] & Marks::OWN) | marks.0;
}

pub(super) fn set_dead(bytes: &mut [u8]) {
    bytes[FLAGS_OFFSET] |= Marks::DEAD;
}

/// Writes a record. `body` is key and value, each behind its length.
#[inline]
pub(super) fn write(bytes: &mut [u8], body: &[u8], header: &Header, tail: &Tail) {
    let (head, rest) = bytes.split_first_chunk_mut().expect("room was taken for all of it");
    header.write(head);
    let (here, rest) = rest.split_at_mut(body.len());
    put_short(here, body);
    if !tail.bytes().is_empty() {
        rest[..tail.bytes().len()].copy_from_slice(tail.bytes());
    }
}

/// What nearly every replacement is: a value as long as the old one, and no odd times. The first
/// `key_length` bytes of the body are the key. Says whether it was, and then it is written.
#[inline]
pub(super) fn overwrite_plainly(
    bytes: &mut [u8],
    key_length: usize,
    body: &[u8],
    header: &Header,
) -> bool {
    let value = &body[key_length..];
    let Some((head, rest)) = bytes.split_first_chunk_mut::<BODY_OFFSET>() else { return false };
    let Some(old) = rest.get_mut(key_length..body.len()) else { return false };
    // A length of one byte that is equal: the value ends where the old one ended.
    let is_as_long = old.first() == value.first() && value[0] < 0x80;
    if !is_as_long || head[FLAGS_OFFSET] & Marks::PLAIN_TIMES == 0 || !header.is_plain() {
        return false;
    }
    put_short(old, value);
    header.write(head);
    true
}

/// Copies what has 5 to 25 bytes, mostly: eight at a time, in place of a call. Both are as long.
#[inline]
fn put_short(target: &mut [u8], source: &[u8]) {
    if target.len() != source.len() || source.len() > 64 {
        return target.copy_from_slice(source);
    }
    let (words, rest) = target.as_chunks_mut::<8>();
    let (source_words, source_rest) = source.as_chunks::<8>();
    for (word, source) in words.iter_mut().zip(source_words) {
        *word = *source;
    }
    for (byte, source) in rest.iter_mut().zip(source_rest) {
        *byte = *source;
    }
}

/// The times behind a record's value, where they are not those of `PLAIN_TIMES`.
#[derive(Default)]
pub(super) struct Tail {
    bytes: [u8; 2 * NUMBER_BYTES_MAX],
    length: usize,
}

/// 64 bits, seven to a byte.
const NUMBER_BYTES_MAX: usize = 10;

impl Tail {
    pub(super) fn of(header: &Header) -> Tail {
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

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Length of the record that begins here.
pub(super) fn record_bytes(bytes: &[u8]) -> usize {
    let end = BODY_OFFSET + body(bytes).len();
    if bytes[FLAGS_OFFSET] & Marks::PLAIN_TIMES != 0 {
        return end;
    }
    let mut reader = Reader::new(&bytes[end..]);
    reader.number();
    reader.number();
    bytes.len() - reader.left()
}

/// Key and value of the record that begins here, each behind its length.
pub(super) fn body(bytes: &[u8]) -> &[u8] {
    let value_at = KEY_OFFSET + usize::from(bytes[BODY_OFFSET]);
    let mut reader = Reader::new(&bytes[value_at..]);
    let value_length = reader.number() as usize;
    &bytes[BODY_OFFSET..bytes.len() - reader.left() + value_length]
}

/// The key of the record that begins here, behind its length.
pub(super) fn key(bytes: &[u8]) -> &[u8] {
    &bytes[BODY_OFFSET..KEY_OFFSET + usize::from(bytes[BODY_OFFSET])]
}

pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
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
    fn what_is_copied_is_the_same_whatever_its_length() {
        for length in 0..100_u8 {
            let source: Vec<u8> = (1..=length).collect();
            let mut target = vec![0; usize::from(length)];
            put_short(&mut target, &source);
            assert_eq!(target, source);
        }
    }
}
