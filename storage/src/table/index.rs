//! Where a table's records are, by the hash of their keys: four bytes for each, in one array.
//!
//! In:   hashes of keys and places of records; for what is rare, the hash of the record at a place.
//! Out:  places whose keys may be the one asked for: nearly always the right one, and no other.
//! Law:  a place that was put in is found until it is taken out, whatever comes and goes beside it.
//! Not:  what stands at a place (`arena`).
//!
//! A slot holds a place and, in the bits that no place needs, a tag: some bits of the hash. A place
//! is put into the first free slot from its home on, so a question reads one line of cache.

/// A slot without a place.
const FREE: u32 = u32::MAX;
/// Slots that are looked at together.
const WINDOW: usize = 8;
/// One slot in so many stays free.
const FREE_SHARE: usize = 8;
/// Bits that places take, smallest first: 64 MiB of records with a tag of eight bits, 1 GiB with
/// one of four, 16 GiB without.
const PLACE_BITS: [u32; 3] = [24, 28, 32];

/// Places by hash.
#[derive(Clone, Debug)]
pub(super) struct Index {
    slots: Vec<u32>,
    length: usize,
    /// The bits of a slot that are a place.
    place_mask: u32,
}

impl Default for Index {
    /// An empty index. Allocates nothing.
    fn default() -> Index {
        Index { slots: Vec::new(), length: 0, place_mask: mask_of(0) }
    }
}

impl Index {
    /// An empty index with room for so many places.
    pub(super) fn with_room(count: usize) -> Index {
        Index { slots: free_slots(count), ..Index::default() }
    }

    /// How many places it holds.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Bytes that it has asked the allocator for.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    /// A place that a key of this hash may have.
    #[inline]
    pub(super) fn candidate(&self, hash: u64) -> Option<u32> {
        let window = self.slots.get(self.home(hash)..).and_then(|slots| slots.first_chunk());
        let Some(window) = window else { return self.find(hash, |_| true) };
        let tag = self.tag(hash);
        // All at once: how far a place is from its home is chance, which no processor foresees.
        let window: &[u32; WINDOW] = window;
        let mask = !self.place_mask;
        let hits = window.map(|slot| u32::from(slot & mask == tag));
        let hits = hits.iter().enumerate().fold(0, |all, (number, hit)| all | hit << number);
        match window.get(hits.trailing_zeros() as usize) {
            Some(slot) if *slot != FREE => Some(slot & self.place_mask),
            None if window.contains(&FREE) => None,
            _ => self.find(hash, |_| true),
        }
    }

    /// The place of this hash that `is_it` says yes to.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_slot(hash, is_it).map(|at| self.slots[at] & self.place_mask)
    }

    /// Puts in a place that is not there. `hash_at` says the hash of another.
    pub(super) fn insert(&mut self, hash: u64, place: u32, hash_at: impl Fn(u32) -> u64) {
        let needed = self.length + 1;
        let is_full = needed * FREE_SHARE > self.slots.len() * (FREE_SHARE - 1);
        if is_full || place >= self.place_mask {
            self.rebuild(needed, place, hash_at);
        }
        self.put(hash, place);
    }

    /// Puts a place where another of this hash is.
    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32, hash_at: impl Fn(u32) -> u64) {
        if new >= self.place_mask {
            self.rebuild(self.length, new, hash_at);
        }
        if let Some(at) = self.find_slot(hash, |place| place == old) {
            self.slots[at] = self.tag(hash) | new;
        }
    }

    /// Takes a place out; says whether it was there. `hash_at` says the hash of another.
    pub(super) fn remove(&mut self, hash: u64, place: u32, hash_at: impl Fn(u32) -> u64) -> bool {
        let Some(mut gap) = self.find_slot(hash, |other| other == place) else { return false };
        // What stands behind moves up, as far as its home allows: there are no holes in a row.
        let mut at = gap;
        loop {
            at = self.behind(at);
            let slot = self.slots[at];
            if slot == FREE {
                break;
            }
            let home = self.home(hash_at(slot & self.place_mask));
            if self.distance(home, at) >= self.distance(gap, at) {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = FREE;
        self.length -= 1;
        true
    }

    /// Where this hash's places begin.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        // The upper half of the hash, scaled to the slots.
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    /// The lower bits of the hash, where no place is.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        (hash as u32).rotate_left(self.place_mask.trailing_ones()) & !self.place_mask
    }

    fn find_slot(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let tag = self.tag(hash);
        let mut at = self.home(hash);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == FREE {
                return None;
            }
            if slot & !self.place_mask == tag && is_it(slot & self.place_mask) {
                return Some(at);
            }
            at = self.behind(at);
        }
    }

    /// The slot behind: the first behind the last.
    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// Steps from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }

    fn put(&mut self, hash: u64, place: u32) {
        let mut at = self.home(hash);
        while self.slots[at] != FREE {
            at = self.behind(at);
        }
        self.slots[at] = self.tag(hash) | place;
        self.length += 1;
    }

    /// The same places in other slots: room for so many, up to this place.
    #[cold]
    fn rebuild(&mut self, count: usize, place_last: u32, hash_at: impl Fn(u32) -> u64) {
        let mask = mask_of(place_last).max(self.place_mask);
        let old_mask = std::mem::replace(&mut self.place_mask, mask);
        let old = std::mem::replace(&mut self.slots, free_slots(count));
        self.length = 0;
        for slot in old.into_iter().filter(|slot| *slot != FREE) {
            let place = slot & old_mask;
            self.put(hash_at(place), place);
        }
    }
}

/// Slots for so many places: twice as many as the last time, so that each place is put about once
/// more, and a size that allocators have.
fn free_slots(count: usize) -> Vec<u32> {
    let needed = (count * FREE_SHARE).div_ceil(FREE_SHARE - 1).max(WINDOW);
    vec![FREE; needed.next_power_of_two()]
}

/// The fewest bits that can tell this place from `FREE`.
fn mask_of(place: u32) -> u32 {
    let masks = PLACE_BITS.map(|bits| u32::MAX >> (u32::BITS - bits));
    masks.into_iter().find(|mask| place < *mask).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few homes and few tags, so that places get into one another's way.
    fn hash_of(place: u32) -> u64 {
        let (home, tag) = (u64::from(place.wrapping_mul(0x9e37_79b1) >> 28), u64::from(place % 3));
        home << 60 | tag
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found_until_it_is_taken_out(
            steps in prop::collection::vec((0..120_u32, 0..4_u8, any::<bool>()), 0..400),
        ) {
            let mut index = Index::default();
            // By number: the place that it has now.
            let mut places = BTreeMap::new();
            for (number, what, is_far) in steps {
                let base = if is_far { PLACE_BITS.map(|bits| 1_u32 << (bits - 1))[2] } else { 0 };
                // Places of one number have one hash.
                let hash_at = |place: u32| hash_of(place % 120);
                let hash = hash_of(number);
                match (what, places.get(&number).copied()) {
                    (0, Some(place)) => {
                        prop_assert!(index.remove(hash, place, hash_at));
                        prop_assert!(!index.remove(hash, place, hash_at));
                        places.remove(&number);
                    }
                    (1, Some(place)) => {
                        let new = (place + 120).max(base / 120 * 120 + number);
                        index.replace(hash, place, new, hash_at);
                        places.insert(number, new);
                    }
                    (_, Some(_)) => {}
                    (_, None) => {
                        index.insert(hash, base / 120 * 120 + number, hash_at);
                        places.insert(number, base / 120 * 120 + number);
                    }
                }
                prop_assert_eq!(index.len(), places.len());
                for number in 0..120 {
                    let found = index.find(hash_of(number), |place| place % 120 == number);
                    prop_assert_eq!(found, places.get(&number).copied());
                    prop_assert!(found.is_none() || index.candidate(hash_of(number)).is_some());
                }
            }
        }
    }

    #[test]
    fn the_candidate_is_nearly_always_the_place_itself() {
        let hash =
            |place: u32| u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
        let mut index = Index::default();
        for place in 0..5_000 {
            index.insert(hash(place), place, hash);
        }
        let right = (0..5_000).filter(|place| index.candidate(hash(*place)) == Some(*place));
        assert!(right.count() > 4_800);
        let absent = (5_000..10_000).filter(|place| index.candidate(hash(*place)).is_none());
        assert!(absent.count() > 4_000);
        assert!(index.capacity_bytes() < 5_000 * 4 * 2, "{} bytes", index.capacity_bytes());
    }

    #[test]
    fn places_beyond_the_bits_of_a_tag_are_kept() {
        let mut index = Index::default();
        let places =
            [0, (1 << 24) - 2, (1 << 24) - 1, 1 << 24, (1 << 28) - 1, 1 << 28, u32::MAX - 1];
        for place in places {
            index.insert(hash_of(place), place, hash_of);
        }
        for place in places {
            assert_eq!(index.find(hash_of(place), |found| found == place), Some(place));
        }
    }
}
