//! Mappings on their way into a table: packed once, hashed once, and found many at a time.
//!
//! In:   mappings, in the order of their frame, and the table's arena.
//! Out:  for each its packed key and value, and where its entry is.
//! Law:  what was found before the arena moved a record is looked up again, never believed.
//! Not:  what a mapping changes (`table`).

use std::hint::black_box;

use super::arena::{Arena, Place};
use super::pack::{self, Packed, Shown};
use crate::mapping::{Key, Mapping};

/// Mappings that are looked up together. Enough that the processor fetches many entries at a time
/// (a table that has not been spoken of for a while is in no cache, and one entry after another
/// would be one wait after another); few enough that what was fetched is still there when its turn
/// has come.
const TOGETHER: usize = 64;

/// Mappings that are looked up together, and the room for it: kept by whoever applies frames, not
/// by each table.
#[derive(Debug, Default)]
pub struct Round {
    pub(super) items: Vec<Item>,
    /// Keys of the mappings that were refused when the last frame was applied.
    pub refused: Vec<Key>,
}

/// One mapping, packed, and where its entry is.
#[derive(Debug)]
pub(super) struct Item {
    packed: Packed,
    shown: Shown,
    hash: Option<u64>,
    candidate: Option<Place>,
    place: Option<Place>,
    /// Whether another mapping may move, add or remove the entry before this one's turn.
    is_shared: bool,
    /// Of the arena when it was looked up.
    version: u32,
    compactions: u32,
    /// The entry had this value when the arena had counted so many overwrites.
    same_at: Option<u32>,
}

impl Item {
    pub(super) fn new() -> Item {
        Item {
            packed: Packed::new(),
            shown: Shown { key_end: 0, uses_reserved_label: false },
            hash: None,
            candidate: None,
            place: None,
            is_shared: true,
            version: 0,
            compactions: 0,
            same_at: None,
        }
    }

    /// A mapping alone, looked up at once.
    pub(super) fn of(mapping: &Mapping, arena: &mut Arena) -> Item {
        let mut item = Item::new();
        item.pack(mapping);
        if !item.expect(arena) {
            item.hash_and_find(arena);
            arena.found(item.place);
        }
        item
    }

    /// A key without a value.
    pub(super) fn of_key(key: &Key, arena: &Arena) -> Item {
        let mut item = Item::new();
        pack::put_key(&mut item.packed, key);
        item.shown.key_end = item.packed.bytes().len();
        item.hash_and_find(arena);
        item
    }

    #[inline]
    fn pack(&mut self, mapping: &Mapping) {
        self.shown = pack::put_mapping(&mut self.packed, mapping);
        (self.hash, self.candidate, self.place, self.same_at) = (None, None, None, None);
        self.is_shared = true;
    }

    /// Looks where the router's order says that it is.
    fn expect(&mut self, arena: &mut Arena) -> bool {
        self.stamp(arena);
        if let Some(place) = arena.confirm_expected(self.body()) {
            self.place = Some(place);
            self.same_at = Some(arena.overwrites());
            return true;
        }
        self.place = arena.find_expected(self.key());
        self.place.is_some()
    }

    fn hash_and_find(&mut self, arena: &Arena) {
        let hash = self.hash(arena);
        self.place = arena.find(hash, self.key());
        self.same_at = None;
        self.stamp(arena);
    }

    /// Notes when it was looked up.
    fn stamp(&mut self, arena: &Arena) {
        (self.version, self.compactions) = (arena.version(), arena.compactions());
    }

    /// Key and value, each behind its length.
    pub(super) fn body(&self) -> &[u8] {
        self.packed.bytes()
    }

    /// The key, behind its length.
    pub(super) fn key(&self) -> &[u8] {
        &self.packed.bytes()[..self.shown.key_end]
    }

    /// Where the key ends in `body`.
    pub(super) fn key_end(&self) -> usize {
        self.shown.key_end
    }

    /// Whether the mapping uses a reserved label.
    pub(super) fn uses_reserved_label(&self) -> bool {
        self.shown.uses_reserved_label
    }

    pub(super) fn known_hash(&self) -> Option<u64> {
        self.hash
    }

    #[inline]
    pub(super) fn hash(&mut self, arena: &Arena) -> u64 {
        match self.hash {
            Some(hash) => hash,
            None => {
                let hash = arena.hash(self.key());
                self.hash = Some(hash);
                hash
            }
        }
    }

    /// Whether its own entry was seen to have its value, and nothing was altered since.
    #[inline]
    pub(super) fn is_known_same(&self, arena: &Arena) -> bool {
        self.same_at == Some(arena.overwrites()) && self.version == arena.version()
    }

    /// Where the entry is now.
    #[inline]
    pub(super) fn place(&mut self, arena: &Arena) -> Option<Place> {
        // What others of its round do moves no entry but their own, unless it moves all of them.
        let is_stale = self.version != arena.version()
            && (self.is_shared || self.compactions != arena.compactions());
        if is_stale {
            self.hash_and_find(arena);
        }
        self.place
    }
}

impl Round {
    /// How many of the next mappings to look up together.
    pub(super) const TOGETHER: usize = TOGETHER;

    /// Packs the mappings, `TOGETHER` at most, and finds their entries.
    pub(super) fn find(&mut self, mappings: &[Mapping], arena: &mut Arena) {
        while self.items.len() < mappings.len() {
            self.items.push(Item::new());
        }
        for (item, mapping) in self.items.iter_mut().zip(mappings) {
            item.pack(mapping);
        }
        let items = self.items.get_mut(..mappings.len()).unwrap_or(&mut []);
        let broken = items.iter_mut().position(|item| !item.expect(arena));
        let in_order = broken.unwrap_or(mappings.len());
        let others = items.get_mut(in_order..).unwrap_or(&mut []);
        find_by_hash(others, arena);
        // Two neighbours in a row, and the next round begins with what stands behind them.
        let last_two = others.get(others.len().saturating_sub(2)..).unwrap_or(&[]);
        last_two.iter().for_each(|item| arena.found(item.place));
        tell_apart(items);
    }
}

/// Finds out who has an entry for itself: nearly all, as a frame hardly ever says a key twice.
fn tell_apart(items: &mut [Item]) {
    // Two mappings of one key have one place, or no place and one hash. A bit for each of them;
    // two of one bit are taken for one, and of 4,096 bits most stay free.
    let mut met = [0_u64; 64];
    for item in items {
        let bit = match item.place {
            Some(place) => place.0.wrapping_mul(0x9e37_79b1) >> 20,
            None => (item.hash.unwrap_or(0) >> 52) as u32,
        };
        let word = &mut met[(bit >> 6) as usize % 64];
        item.is_shared = *word >> (bit % 64) & 1 != 0;
        *word |= 1 << (bit % 64);
    }
}

/// Three passes, each of loads that do not wait for one another: buckets of the index, records,
/// and then the keys in them.
fn find_by_hash(items: &mut [Item], arena: &Arena) {
    for item in items.iter_mut() {
        let hash = item.hash(arena);
        item.candidate = arena.candidate(hash);
    }
    let touch = |item: &Item| item.candidate.map_or(0, |place| arena.touch(place));
    black_box(items.iter().map(touch).fold(0, |all, one| all ^ one));
    for item in items.iter_mut() {
        match item.candidate {
            Some(place) if arena.has_key(place, item.key()) => {
                item.place = Some(place);
                item.stamp(arena);
            }
            Some(_) => item.hash_and_find(arena),
            None => item.stamp(arena),
        }
    }
}
