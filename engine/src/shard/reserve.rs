//! Reserve: how much the routers' tables may take, and whose mappings are refused beyond it.
//!
//! In:   what each table takes, before and after it changes; the unit that is to be applied.
//! Out:  the unit, without what has no room.
//! Law:  when the tables are full the largest grows no more; reading goes on, the others too.
//! Not:  received bytes (`pressure`), how large the reserve is (`memory`).
//!
//! A table may be as large as eight times the room that is left for all of them. One table alone
//! gets eight ninths of the reserve; when many share it the largest meets the limit first, on
//! whichever shard it lies, and the small ones grow until nothing is left.

use storage::interface::Interface;
use storage::mapping::{Mapping, Operation};
use storage::router::RouterState;
use storage::row::Cause;
use storage::table::EntryRef;

use super::Shard;
use super::connection::Session;
use crate::memory::{Memory, signed};
use crate::wire::{Hello, RejectedMapping, Unit};

/// What a new entry is taken to need, with its place in the index: an LDP entry takes about 50.
const ENTRY_BYTES: i64 = 96;
/// What each of its branches may add.
const BRANCH_BYTES: i64 = 32;
/// What options take beside their text: their place under the key of the entry.
const EXTRA_BYTES: i64 = 128;
/// A unit of whose mappings none can need more than the room there is, is not looked at.
const UNIT_BYTES: i64 = 128 << 20;
/// A table may take so many times the room that is left.
const ROOMS: i64 = 8;
/// What one table may take, whatever is free: half of what its arena can address.
const TABLE_BYTES_MAX: i64 = 8 << 30;

/// What tables take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Size {
    /// Of a router: its table, its interfaces, and what its session's decoder keeps beside them
    /// (next-hop groups of FPM).
    pub(crate) fn of(state: &RouterState, decoder_bytes: usize) -> Size {
        let RouterState { table, .. } = state;
        let bytes = table.bytes() + state.beside_table_bytes() + decoder_bytes;
        Size { entries: table.len() as u64, bytes: bytes as u64 }
    }

    /// One of the tables that this is the sum of takes another amount: what it counted for is
    /// taken off, whatever has changed it since.
    pub(crate) fn recount(&mut self, memory: &Memory, counted: &mut Size, after: Size) {
        let before = std::mem::replace(counted, after);
        self.entries = self.entries + after.entries - before.entries;
        self.bytes = self.bytes + after.bytes - before.bytes;
        if before.bytes != after.bytes {
            memory.add_tables(signed(after.bytes) - signed(before.bytes));
        }
    }
}

impl Shard {
    /// The table of a session may have become another size, or what its decoder keeps.
    pub(crate) fn recount(&mut self, session: &mut Session, decoder_bytes: usize) {
        let after = Size::of(&session.state, decoder_bytes);
        self.tables.recount(&self.memory, &mut session.counted, after);
    }

    /// Interfaces that a hello announces are kept as long as there is room for them: whoever may
    /// name routers may name ever new ones.
    pub(crate) fn has_room_for_interfaces(&self, hello: &Hello) -> bool {
        let bytes: usize = hello.interfaces.iter().map(Interface::memory_bytes).sum();
        self.memory.table_room() >= signed(bytes as u64)
    }

    /// When the tables are full, turns mappings into rejected ones: those of new keys and those
    /// that make an entry larger. Withdrawals, and what the table says already, go on.
    pub(crate) fn refuse_growth(&mut self, session: &Session, unit: &mut Unit, decoder: usize) {
        let room = self.memory.table_room();
        let table_bytes = signed(Size::of(&session.state, decoder).bytes);
        let most = room.saturating_mul(ROOMS).min(TABLE_BYTES_MAX);
        let mut room = room.min(most - table_bytes);
        if room > UNIT_BYTES + unit.mappings.len() as i64 * ENTRY_BYTES {
            return;
        }
        let needed: i64 = unit.mappings.iter().map(bytes_needed).sum();
        if needed <= room {
            return;
        }
        let rejected = &mut unit.rejected;
        let detail = format!(
            "expected room for {needed} bytes of table, found {}: memory_bytes is spent by tables",
            room.max(0)
        );
        unit.mappings.retain(|mapping| {
            if mapping.operation == Operation::None {
                return true;
            }
            let key = mapping.key();
            let needs = match session.state.table.get(&key) {
                Some(entry) => bytes_more(&entry, mapping),
                None => bytes_needed(mapping),
            };
            if needs <= room.max(0) {
                room -= needs;
                return true;
            }
            let detail = detail.as_str().into();
            rejected.push(RejectedMapping { cause: Cause::TableFull, key: Some(key), detail });
            false
        });
    }
}

/// What an entry that is new takes, at most.
fn bytes_needed(mapping: &Mapping) -> i64 {
    let extra = mapping.extra.as_ref().map_or(0, |extra| EXTRA_BYTES + extra.len() as i64);
    ENTRY_BYTES + mapping.branches.len() as i64 * BRANCH_BYTES + extra
}

/// What an entry that is known takes more than before.
fn bytes_more(entry: &EntryRef<'_>, mapping: &Mapping) -> i64 {
    (bytes_needed(mapping) - bytes_needed(&entry.mapping())).max(0)
}
