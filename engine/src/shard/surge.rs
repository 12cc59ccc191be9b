//! Surge: the received bytes of one connection that are not digested yet.
//!
//! In:   slices of the driver's buffers, copied once, each with the time at which it came.
//! Out:  the oldest bytes as one slice, as long as a unit needs, and when a byte of it came.
//! Law:  `len` is measured on the bytes themselves, so that the ledger has something to balance.
//! Not:  how much all connections may hold together (`pressure`).

use std::collections::VecDeque;

use storage::time::Micros;

/// The least that a chunk is made for: a live change or two.
pub(crate) const CHUNK_BYTES_MIN: usize = 1 << 10;
/// The most that a chunk is made for, unless a unit needs more: 256 KiB.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Places that the queues of a surge keep when it is empty: what a live change or two need.
const PLACES_KEPT: usize = 4;
/// Memory per waiting byte that is tolerated while a unit is waited for.
const CHUNKS_PER_WAITING: usize = 4;

/// Bytes up to (not including) the offset `end` of the stream had come by `time`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u64,
    time: Micros,
}

/// The received bytes of one connection that are not digested yet.
#[derive(Debug, Default)]
pub(crate) struct Surge {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are done with.
    start: usize,
    /// Arrival times, one per turn of the loop that brought bytes.
    marks: VecDeque<Mark>,
    /// Offset in the stream of the first byte held.
    taken: u64,
    /// Offset in the stream behind the last byte held.
    come: u64,
    /// Memory of the chunks.
    chunks_held_bytes: usize,
}

impl Surge {
    /// Copies `bytes` behind what is there; they came at `time`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], time: Micros) {
        self.come += bytes.len() as u64;
        let end = self.come;
        match self.marks.back_mut() {
            Some(mark) if mark.time == time => mark.end = end,
            _ => self.marks.push_back(Mark { end, time }),
        }
        if let Some(last) = self.chunks.back_mut() {
            let room = (last.capacity() - last.len()).min(bytes.len());
            let (fitting, rest) = bytes.split_at(room);
            last.extend_from_slice(fitting);
            bytes = rest;
        }
        if !bytes.is_empty() {
            let chunk_bytes = chunk_bytes(self.chunks_held_bytes);
            self.add_chunk(bytes, chunk_bytes.max(bytes.len()));
        }
    }

    /// The oldest bytes, as far as they lie in one piece.
    pub(crate) fn front(&self) -> &[u8] {
        self.chunks.front().and_then(|chunk| chunk.get(self.start..)).unwrap_or(&[])
    }

    /// Lays at least `needed` of the oldest bytes, or all there are, into one piece.
    ///
    /// The piece has room for twice as much each time, whatever has come so far: a byte of a unit
    /// of unknown length is copied O(1) times, even when the bytes come one by one. Chunks are
    /// taken whole: of many small units at the border of two, none has to move what is behind it.
    pub(crate) fn gather(&mut self, needed: usize) {
        if self.chunks.len() < 2 || self.front().len() >= needed {
            return;
        }
        let doubled = 2 * self.front().len();
        let target = needed.max(doubled).min(self.waiting());
        let (mut count, mut gathered) = (0, 0);
        while gathered < target
            && let Some(chunk) = self.chunks.get(count)
        {
            gathered += if count == 0 { self.front().len() } else { chunk.len() };
            count += 1;
        }
        let mut piece = Vec::with_capacity(gathered.max(doubled).max(CHUNK_BYTES_MIN));
        for _ in 0..count {
            piece.extend_from_slice(self.front());
            self.drop_front();
        }
        self.chunks_held_bytes += piece.capacity();
        self.chunks.push_front(piece);
    }

    /// When the byte `offset` (from 0) of those held had come.
    pub(crate) fn time_at(&self, offset: usize) -> Option<Micros> {
        let offset = self.taken + offset as u64;
        let index = self.marks.partition_point(|mark| mark.end <= offset);
        self.marks.get(index).or(self.marks.back()).map(|mark| mark.time)
    }

    /// Is done with the oldest `count` bytes, all in the front piece.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.front().len(), "a unit is decoded from the front piece");
        self.start += count;
        self.taken += count as u64;
        if self.front().is_empty() && !self.chunks.is_empty() {
            self.drop_front();
        }
        while self.marks.front().is_some_and(|mark| mark.end <= self.taken) {
            self.marks.pop_front();
        }
        if self.waiting() == 0 {
            self.give_back_places();
        }
    }

    /// Gives memory back when little is left of it: the beginning of a unit does not keep the
    /// chunks of what came before. Copies a quarter of what was taken, at most.
    pub(crate) fn settle(&mut self) {
        let waiting = self.waiting();
        self.give_back_places();
        if self.chunks_held_bytes <= CHUNKS_PER_WAITING * waiting.max(CHUNK_BYTES_MIN) {
            return;
        }
        let chunks = std::mem::take(&mut self.chunks);
        let mut start = std::mem::take(&mut self.start);
        self.chunks_held_bytes = 0;
        if waiting == 0 {
            return;
        }
        let mut rest = Vec::with_capacity(waiting.max(CHUNK_BYTES_MIN));
        for chunk in &chunks {
            rest.extend_from_slice(chunk.get(start..).unwrap_or(&[]));
            start = 0;
        }
        self.chunks_held_bytes = rest.capacity();
        self.chunks.push_back(rest);
    }

    /// Is done with everything; returns how many bytes that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let count = self.len() as u64;
        *self = Surge { taken: self.come, come: self.come, ..Surge::default() };
        count
    }

    /// Bytes held, as the difference of what came and what was taken: for every decision.
    pub(crate) fn waiting(&self) -> usize {
        (self.come - self.taken) as usize
    }

    /// Offset in the stream of the first byte held.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes held, counted chunk by chunk: for the ledger.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum::<usize>() - self.start
    }

    /// Memory held: what the budget is spent on. Nothing when nothing waits: the few places that
    /// are kept belong to the connection.
    pub(crate) fn held_bytes(&self) -> usize {
        let beyond = |capacity: usize| capacity.saturating_sub(PLACES_KEPT);
        self.chunks_held_bytes
            + beyond(self.marks.capacity()) * size_of::<Mark>()
            + beyond(self.chunks.capacity()) * size_of::<Vec<u8>>()
    }

    /// Shrinks the queues when few of their places are used.
    fn give_back_places(&mut self) {
        if self.marks.capacity() > PLACES_KEPT * self.marks.len().max(1) {
            self.marks.shrink_to(2 * self.marks.len());
        }
        if self.chunks.capacity() > PLACES_KEPT * self.chunks.len().max(1) {
            self.chunks.shrink_to(2 * self.chunks.len());
        }
    }

    fn add_chunk(&mut self, bytes: &[u8], capacity: usize) {
        let mut chunk = Vec::with_capacity(capacity);
        chunk.extend_from_slice(bytes);
        self.chunks_held_bytes += chunk.capacity();
        self.chunks.push_back(chunk);
    }

    fn drop_front(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.chunks_held_bytes -= chunk.capacity();
            self.start = 0;
        }
    }
}

/// What the next chunk of a surge is made for that holds so much: a quarter of it, so that the
/// memory is little more than the bytes, and the copies of a long unit are few.
pub(crate) fn chunk_bytes(held_bytes: usize) -> usize {
    (held_bytes / 4).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unit_is_timed_by_its_last_byte() {
        let mut surge = Surge::default();
        surge.push(b"abc", Micros(1));
        surge.push(b"de", Micros(2));
        assert_eq!(surge.time_at(2), Some(Micros(1)));
        assert_eq!(surge.time_at(3), Some(Micros(2)));
        surge.consume(3);
        assert_eq!(surge.time_at(0), Some(Micros(2)));
        surge.consume(2);
        assert_eq!((surge.len(), surge.held_bytes(), surge.time_at(0)), (0, 0, None));
    }

    #[test]
    fn a_surge_that_is_empty_holds_nothing_however_it_was_filled() {
        let mut surge = Surge::default();
        for time in 0..1_000 {
            surge.push(&[b'x'; 3_000], Micros(time));
        }
        let held = surge.held_bytes();
        assert!(held > 3_000_000 + 16 * 1_000, "{held}");
        while surge.waiting() > 0 {
            surge.consume(surge.front().len());
        }
        assert_eq!(surge.held_bytes(), 0);
        assert!(surge.marks.capacity() <= PLACES_KEPT && surge.chunks.capacity() <= PLACES_KEPT);
    }

    #[test]
    fn a_unit_that_trickles_in_is_not_copied_byte_by_byte() {
        let mut surge = Surge::default();
        surge.push(&vec![b'x'; 1 << 20], Micros(1));
        let mut copies = 0;
        for _ in 0..100_000 {
            surge.push(b"x", Micros(1));
            let before = surge.front().as_ptr();
            surge.gather(surge.waiting());
            copies += usize::from(surge.front().as_ptr() != before);
        }
        assert!(copies <= 2, "{copies} copies of a megabyte");
    }

    #[test]
    fn small_units_at_the_border_of_chunks_move_nothing_behind_them() {
        let mut surge = Surge::default();
        for _ in 0..64 {
            surge.push(&[b'x'; 64 << 10], Micros(1));
        }
        let mut pieces = 0;
        while surge.waiting() > 0 {
            // Units of seven bytes, each tried before it is whole.
            if surge.front().len() < 7 {
                let before = surge.front().as_ptr();
                surge.gather(surge.front().len() + 1);
                pieces += usize::from(surge.front().as_ptr() != before);
            }
            surge.consume(surge.front().len().min(7));
        }
        assert!(pieces <= 64, "{pieces} pieces of 64 chunks");
    }

    proptest! {
        /// Whatever is pushed comes out, in order, however it is gathered.
        #[test]
        fn a_surge_is_a_queue_of_bytes(
            steps in prop::collection::vec((0usize..5000, 0usize..3000, 0usize..9000), 1..60),
        ) {
            let mut surge = Surge::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (push, take, gather) in steps {
                let bytes: Vec<u8> = (0..push).map(|step| next.wrapping_add(step as u8)).collect();
                next = next.wrapping_add(17);
                model.extend(&bytes);
                if !bytes.is_empty() {
                    surge.push(&bytes, Micros(i64::from(next)));
                }
                surge.gather(gather);
                prop_assert!(surge.front().len() >= gather.min(model.len()));
                let take = take.min(surge.front().len());
                let expected: Vec<u8> = model.drain(..take).collect();
                prop_assert_eq!(&surge.front()[..take], &expected[..]);
                surge.consume(take);
                if take % 3 == 0 {
                    surge.settle();
                    // The queues have four times the places that they use, at most.
                    let places = 4 * (16 * surge.marks.len() + 24 * surge.chunks.len());
                    let tolerated = 4 * model.len().max(1 << 10) + places;
                    prop_assert!(surge.held_bytes() <= tolerated);
                }
                prop_assert_eq!(surge.len(), model.len());
                prop_assert_eq!(surge.waiting(), model.len());
                prop_assert!(surge.held_bytes() >= surge.len());
            }
        }
    }
}
