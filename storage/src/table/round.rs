//! Mappings on their way into a table: packed once, hashed once, and found many at a time.
//!
//! In:   mappings, in the order of their frame, and the table's arena.
//! Out:  for each its packed key and value, and where its entry is.
//! Law:  what was found before the arena moved a record is looked up again, never believed.
//! Not:  what a mapping changes (`table`).

use std::hint::black_box;

use super::arena::{Arena, Place};
use super::pack::{self, Packed};
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
}

/// One mapping, packed, and where its entry is.
#[derive(Debug)]
pub(super) struct Item {
    packed: Packed,
    /// Where the key ends in `packed`.
    key_end: usize,
    hash: Option<u64>,
    candidate: Option<Place>,
    place: Option<Place>,
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
            key_end: 0,
            hash: None,
            candidate: None,
            place: None,
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
        item.key_end = item.packed.bytes().len();
        item.hash_and_find(arena);
        item
    }

    #[inline]
    fn pack(&mut self, mapping: &Mapping) {
        self.key_end = pack::put_mapping(&mut self.packed, mapping);
        (self.hash, self.candidate, self.place, self.same_at) = (None, None, None, None);
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
        &self.packed.bytes()[..self.key_end]
    }

    /// The value, behind its length.
    fn value(&self) -> &[u8] {
        &self.packed.bytes()[self.key_end..]
    }

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

    /// Whether the entry at this place, its own, has its value.
    pub(super) fn is_same(&self, place: Place, arena: &Arena) -> bool {
        let is_known = self.version == arena.version() && self.same_at == Some(arena.overwrites());
        is_known || arena.has_value(place, self.key_end, self.value())
    }

    /// Where the entry is now.
    #[inline]
    pub(super) fn place(&mut self, arena: &Arena) -> Option<Place> {
        if self.version != arena.version() && !self.still_stands(arena) {
            self.hash_and_find(arena);
        }
        self.place
    }

    /// Whether what has changed since it was looked up was something else, as it nearly always is.
    #[inline]
    fn still_stands(&mut self, arena: &Arena) -> bool {
        let was_found = self.place.filter(|_| self.compactions == arena.compactions());
        let stands = was_found.is_some_and(|place| arena.still_has_key(place, self.key()));
        if stands {
            self.version = arena.version();
        }
        stands
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
