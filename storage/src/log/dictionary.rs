//! A dictionary of byte strings: each entry is stored once and named by its number.
//!
//! In:   entries in the encoding of their section, self-delimiting.
//! Out:  their numbers, counted in the order of first appearance; the section's bytes.
//! Law:  after warm-up no allocation: clearing keeps the memory and costs nothing.
//! Not:  what the bytes mean (`value`).

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

/// Byte strings, each once.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// All entries, one behind the other: the section as it is written.
    bytes: Vec<u8>,
    /// Where each entry ends in `bytes`.
    ends: Vec<usize>,
    /// Open addressing, linear probing, at most half full; a power of two long.
    slots: Vec<Slot>,
    /// Slots of another epoch are free: that is how `clear` costs nothing.
    epoch: u32,
    /// Seeded anew in every process, because routers choose what is hashed.
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    epoch: u32,
    hash: u32,
    index: u32,
}

/// Slots of a new dictionary.
const SLOTS_MIN: usize = 64;

impl Dictionary {
    pub(super) fn new() -> Self {
        Dictionary {
            bytes: Vec::new(),
            ends: Vec::new(),
            slots: vec![Slot::default(); SLOTS_MIN],
            epoch: 1,
            hasher: RandomState::default(),
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The section's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets every entry and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.slots.fill(Slot::default());
            self.epoch = 1;
        }
    }

    /// The number of this entry, which is added if it is new.
    pub(super) fn intern(&mut self, entry: &[u8]) -> usize {
        let hash = self.hash(entry);
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = self.slots[place];
            if slot.epoch != self.epoch {
                break;
            }
            if slot.hash == hash && self.entry(slot.index as usize) == entry {
                return slot.index as usize;
            }
            place = (place + 1) & mask;
        }
        let index = self.ends.len();
        self.bytes.extend_from_slice(entry);
        self.ends.push(self.bytes.len());
        self.slots[place] = Slot { epoch: self.epoch, hash, index: index as u32 };
        if self.ends.len() * 2 > self.slots.len() {
            self.grow();
        }
        index
    }

    fn entry(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    fn hash(&self, entry: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(entry);
        let hash = hasher.finish();
        (hash ^ (hash >> 32)) as u32
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); mask + 1]);
        for slot in old.into_iter().filter(|slot| slot.epoch == self.epoch) {
            let mut place = slot.hash as usize & mask;
            while self.slots[place].epoch == self.epoch {
                place = (place + 1) & mask;
            }
            self.slots[place] = slot;
        }
    }
}

/// A dictionary whose entries are mostly four bytes that come again and again: addresses, forms.
/// What was asked for lately is found without hashing or comparing bytes.
#[derive(Debug)]
pub(super) struct Numbers {
    dictionary: Dictionary,
    /// By a hash of the word: the word, and its number plus 1; 0 = none.
    recent: Box<[(u32, u32); RECENT]>,
}

/// Words that are found at once: next hops of the routers that speak at one time, 2 KiB.
const RECENT: usize = 256;

impl Numbers {
    pub(super) fn new() -> Self {
        Numbers { dictionary: Dictionary::new(), recent: Box::new([(0, 0); RECENT]) }
    }

    /// The number of an entry that a word stands for; `entry` says its bytes.
    #[inline]
    pub(super) fn of_word<const N: usize>(&mut self, word: u32, entry: [u8; N]) -> usize {
        // The top eight bits of a product with an odd constant depend on every bit of the word.
        let place = (word.wrapping_mul(0x9e37_79b1) >> 24) as usize;
        let (known, number) = self.recent[place];
        if known == word && number > 0 {
            return number as usize - 1;
        }
        let number = self.dictionary.intern(&entry);
        self.recent[place] = (word, number as u32 + 1);
        number
    }

    /// The number of any entry.
    pub(super) fn intern(&mut self, entry: &[u8]) -> usize {
        self.dictionary.intern(entry)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.dictionary.bytes()
    }

    pub(super) fn clear(&mut self) {
        self.dictionary.clear();
        self.recent.fill((0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_its_number_until_the_dictionary_is_cleared() {
        let mut dictionary = Dictionary::new();
        for round in 0..3_u32 {
            for number in 0..10_000_u32 {
                let entry = (number ^ round).to_le_bytes();
                assert_eq!(dictionary.intern(&entry), number as usize);
            }
            for number in (0..10_000_u32).rev() {
                let entry = (number ^ round).to_le_bytes();
                assert_eq!(dictionary.intern(&entry), number as usize);
            }
            assert_eq!(dictionary.len(), 10_000);
            assert_eq!(dictionary.bytes().len(), 40_000);
            dictionary.clear();
            assert_eq!((dictionary.len(), dictionary.bytes().len()), (0, 0));
        }
    }
}
