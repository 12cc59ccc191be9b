//! The bytes of a table's records: pieces of sizes that allocators like, filled one by one.
//!
//! In:   how long a record is that comes, or where one is that lives no more.
//! Out:  places for records; their bytes.
//! Law:  a record stays where it is; a place of a dead one goes to the next of the same size.
//! Not:  what a record says (`record`), who finds it (`arena`).
//!
//! Pieces, because one run of bytes has to be copied whenever it grows, into memory that nobody has
//! touched; and because an allocator gives whole pages of 64 KiB from there on (mimalloc: an arena
//! of 76 KB takes 128, and with huge pages all of that is resident).

use smallvec::SmallVec;

use super::record::{RECORD_BYTES_MIN, fixed, record_bytes, set_dead};

/// Records begin at multiples of it, so that 32 bits of place reach 16 GiB.
const ALIGNMENT_BYTES: usize = 4;
/// The longest piece, but for one that a single record fills: 16 of them are a page of mimalloc's.
const PIECE_BYTES: usize = 32 << 10;
/// The shortest.
const PIECE_BYTES_MIN: usize = 256;
/// Bits of a place within its piece.
const PIECE_BITS: u32 = (PIECE_BYTES / ALIGNMENT_BYTES).ilog2();
/// A table keeps an eighth of its records' bytes free for what changes, this at most: values that
/// get longer before others get shorter. The more records there are, the more evenly they come.
const SPARE_BYTES_MAX: usize = 4 << 10;
const SPARE_SHARE: usize = 8;

/// Where a record begins: the number of its piece, and units of `ALIGNMENT_BYTES` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) u32);

impl Place {
    /// Where the first record begins.
    pub(super) const FIRST: Place = Place(0);

    #[inline]
    fn piece(self) -> usize {
        (self.0 >> PIECE_BITS) as usize
    }

    #[inline]
    fn at(self) -> usize {
        (self.0 % (1 << PIECE_BITS)) as usize * ALIGNMENT_BYTES
    }

    fn of(piece: usize, at: usize) -> Place {
        let place = (piece << PIECE_BITS) + at / ALIGNMENT_BYTES;
        let place = u32::try_from(place).ok().filter(|place| *place != u32::MAX);
        Place(place.expect("one table is far below 16 GiB: the table reserve refuses before"))
    }
}

/// Room for the records of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    pieces: SmallVec<[Vec<u8>; 3]>,
    /// In all pieces, dead records included.
    bytes: usize,
    /// What the pieces have asked the allocator for.
    capacity_bytes: usize,
    dead_bytes: usize,
    free: FreePlaces,
}

impl Room {
    /// From a place to the end of its piece; nothing where there is no place.
    #[inline]
    pub(super) fn at(&self, place: Place) -> &[u8] {
        let piece = self.pieces.get(place.piece());
        piece.and_then(|piece| piece.get(place.at()..)).unwrap_or_default()
    }

    /// The same, to write.
    #[inline]
    pub(super) fn at_mut(&mut self, place: Place) -> &mut [u8] {
        let piece = self.pieces.get_mut(place.piece());
        piece.and_then(|piece| piece.get_mut(place.at()..)).unwrap_or_default()
    }

    /// Bytes of all records, dead ones included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of dead ones.
    pub(super) fn dead_bytes(&self) -> usize {
        self.dead_bytes
    }

    /// Memory that the pieces take.
    pub(super) fn memory_bytes(&self) -> usize {
        let list = if self.pieces.spilled() { self.pieces.capacity() } else { 0 };
        self.capacity_bytes + list * size_of::<Vec<u8>>()
    }

    /// Where the record behind one of this length begins, or would begin.
    #[inline]
    pub(super) fn behind(&self, place: Place, length: usize) -> Place {
        let end = place.at() + padded(length);
        let is_last = self.pieces.get(place.piece()).is_none_or(|piece| end >= piece.len());
        match is_last {
            true => Place((place.0 | ((1 << PIECE_BITS) - 1)).wrapping_add(1)),
            false => Place(place.0 + (padded(length) / ALIGNMENT_BYTES) as u32),
        }
    }

    /// Every record's place, dead ones included, in the order in which they stand.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let pieces = self.pieces.iter().enumerate();
        pieces.flat_map(|(number, piece)| {
            let mut at = 0;
            std::iter::from_fn(move || {
                let place = Place::of(number, at);
                at += padded(record_bytes(piece.get(at..).filter(|rest| !rest.is_empty())?));
                Some(place)
            })
        })
    }

    /// An empty room that will take records of so many bytes.
    pub(super) fn with_room(bytes: usize) -> Room {
        let mut room = Room::default();
        let first = (bytes + spare_of(bytes)).clamp(PIECE_BYTES_MIN, PIECE_BYTES);
        room.push(allocated(first));
        room
    }

    /// A place for the record of a new key.
    pub(super) fn add(&mut self, length: usize) -> Place {
        self.take(padded(length), spare_of(self.bytes))
    }

    /// A place for another record of a key that has one: it may take what is spare.
    pub(super) fn add_another(&mut self, length: usize) -> Place {
        self.take(padded(length), 0)
    }

    fn take(&mut self, needed: usize, spare: usize) -> Place {
        if let Some(place) = self.free.first(needed) {
            let next = u32::from_le_bytes(fixed(&self.at(place)[..4]));
            self.free.set_next(needed, next);
            self.dead_bytes -= needed;
            return place;
        }
        // A piece that cannot grow is filled to its end.
        let fits = |piece: &Vec<u8>| {
            let spare = if piece.capacity() < PIECE_BYTES { spare } else { 0 };
            piece.capacity() - piece.len() >= needed + spare
        };
        if !self.pieces.last().is_some_and(fits) {
            self.make_room(needed, spare);
        }
        let number = self.pieces.len() - 1;
        let piece = &mut self.pieces[number];
        let at = piece.len();
        piece.resize(at + needed, 0);
        self.bytes += needed;
        Place::of(number, at)
    }

    /// Lets the last piece grow, or begins another.
    #[cold]
    fn make_room(&mut self, needed: usize, spare: usize) {
        let growing = self.pieces.last_mut().filter(|piece| piece.len() + needed <= PIECE_BYTES);
        let Some(piece) = growing else {
            let length = (self.bytes / SPARE_SHARE).max(needed + spare);
            // A record that is longer has a piece of its own.
            return self.push(allocated(length.clamp(PIECE_BYTES_MIN, PIECE_BYTES)).max(needed));
        };
        // A step of the allocator's: 14 to 25 %.
        let length = allocated(piece.len() + needed + spare).min(PIECE_BYTES);
        self.capacity_bytes -= piece.capacity();
        piece.reserve_exact(length - piece.len());
        self.capacity_bytes += piece.capacity();
    }

    fn push(&mut self, length: usize) {
        self.pieces.push(Vec::with_capacity(length));
        self.capacity_bytes += length;
    }

    /// The record there, of this length, lives no more: its place waits for one of the same.
    pub(super) fn retire(&mut self, place: Place, length: usize) {
        let length = padded(length);
        let next = self.free.next(length);
        let bytes = self.at_mut(place);
        set_dead(bytes);
        if let Some(next) = next {
            bytes[..4].copy_from_slice(&next.to_le_bytes());
            self.free.set_next(length, place.0 + 1);
        }
        self.dead_bytes += length;
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

impl FreePlaces {
    fn chain(size: usize) -> usize {
        (size - RECORD_BYTES_MIN) / ALIGNMENT_BYTES
    }

    fn first(&self, size: usize) -> Option<Place> {
        self.heads.get(Self::chain(size))?.checked_sub(1).map(Place)
    }

    /// What is written into the next dead record of this size; `None` when nobody keeps them.
    fn next(&self, size: usize) -> Option<u32> {
        self.heads.get(Self::chain(size)).copied()
    }

    fn set_next(&mut self, size: usize, head: u32) {
        if let Some(kept) = self.heads.get_mut(Self::chain(size)) {
            *kept = head;
        }
    }
}

/// What a table of so many bytes keeps free.
fn spare_of(bytes: usize) -> usize {
    (bytes / SPARE_SHARE).min(SPARE_BYTES_MAX)
}

/// What is taken of a piece for a record of so many bytes.
pub(super) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT_BYTES)
}

/// What an allocator gives to whoever asks for so many bytes: those of the field have four sizes
/// per doubling.
pub(super) fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::TimeSource;
    use crate::table::record::{BODY_OFFSET, Header, Marks, Tail, write};
    use crate::time::Micros;

    const HEADER: Header = Header {
        active_since: Micros(1),
        changed: Micros(1),
        event_time: Micros(1),
        time_source: TimeSource::Router,
        seen: 0,
        marks: Marks::NONE,
    };

    /// A record of so many bytes, all of whose value is `fill`.
    fn put(room: &mut Room, length: usize, fill: u8) -> Place {
        // A key of two bytes and its length; a length of the value in three bytes.
        let value = length - BODY_OFFSET - 3 - 3;
        let mut body = vec![2, 0, fill];
        body.extend([value as u8 | 0x80, (value >> 7) as u8 | 0x80, (value >> 14) as u8]);
        body.resize(body.len() + value, fill);
        let place = room.add(length);
        write(room.at_mut(place), &body, &HEADER, &Tail::of(&HEADER));
        place
    }

    fn holds(room: &Room, place: Place, length: usize, fill: u8) -> bool {
        let bytes = room.at(place);
        let padding = BODY_OFFSET + 6..length;
        record_bytes(bytes) == length && bytes[padding].iter().all(|byte| *byte == fill)
    }

    #[test]
    fn records_of_all_lengths_stand_one_behind_the_other() {
        let mut room = Room::default();
        let length_of = |number: usize| match number % 500 {
            499 => 2 * PIECE_BYTES + number,
            _ => 24 + number * 7 % 90,
        };
        let mut records = Vec::new();
        for number in 0..3_000 {
            let (length, fill) = (length_of(number), number as u8);
            records.push((put(&mut room, length, fill), length, fill));
        }
        assert!(records.iter().all(|(place, length, fill)| holds(&room, *place, *length, *fill)));
        let places: Vec<Place> = room.places().collect();
        let expected: Vec<Place> = records.iter().map(|(place, ..)| *place).collect();
        assert_eq!(places, expected);
        for pair in records.windows(2) {
            let [(place, length, _), (next, ..)] = *pair else { unreachable!("windows of two") };
            assert_eq!(room.behind(place, length), next);
        }
        let told: usize = records.iter().map(|(_, length, _)| padded(*length)).sum();
        assert_eq!(room.bytes(), told);
        let capacity: usize = room.pieces.iter().map(Vec::capacity).sum();
        assert_eq!(room.capacity_bytes, capacity);
        assert_eq!(room.at(Place(u32::MAX)), []);
    }

    #[test]
    fn a_place_goes_to_the_next_record_of_the_same_length() {
        let mut room = Room::default();
        let places: Vec<Place> = (0..100).map(|number| put(&mut room, 40, number)).collect();
        places.iter().for_each(|place| room.retire(*place, 40));
        assert_eq!((room.dead_bytes(), room.bytes()), (4_000, 4_000));
        // Last in, first out; another length takes none of them.
        for (number, place) in places.iter().rev().enumerate() {
            assert_eq!(put(&mut room, 37, number as u8), *place);
            assert!(put(&mut room, 44, 1).0 > places[99].0);
        }
        assert_eq!((room.dead_bytes(), room.bytes()), (0, 4_000 + 4_400));
    }

    #[test]
    fn what_is_spare_is_there_for_what_changes() {
        for records in [100, 400, 1_000, 10_000] {
            let mut room = Room::default();
            (0..records).for_each(|number| _ = put(&mut room, 40, number as u8));
            let before = room.memory_bytes();
            assert!(before < records * 40 * 3 / 2, "{before} bytes for {records} records");
            // Of every twenty another one becomes longer.
            let piece = room.pieces.len();
            (0..records.min(1_000) / 20).for_each(|_| _ = room.add_another(44));
            let grown = room.memory_bytes() - before;
            // A piece that is full already cannot have anything to spare.
            let is_full = room.pieces.len() > piece && room.pieces[piece - 1].len() > 32_000;
            assert!(grown == 0 || is_full, "{grown} bytes more for {records} records");
        }
    }
}
