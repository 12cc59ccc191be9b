//! Reserve: how much the routers' tables may take, and whose mappings are refused beyond it.
//!
//! In:   what each table takes, before and after it changes; the unit that is to be applied.
//! Out:  the unit, without what has no room.
//! Law:  when the tables are full the largest grows no more; reading goes on, the others too.
//! Not:  received bytes (`pressure`).

use storage::mapping::Operation;
use storage::row::Cause;
use storage::table::RouterTable;

use super::Shard;
use super::connection::{Phase, Session};
use crate::wire::{RejectedMapping, Unit};

/// Memory that is reserved for one entry of `table_entries_max`: an LDP entry takes about 50 bytes,
/// one with options or hundreds of branches thousands.
const ENTRY_BYTES: u64 = 128;
/// What one table may take, whatever is free: half of what its arena can address.
const TABLE_BYTES_MAX: u64 = 8 << 30;

/// What tables take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Size {
    pub(crate) fn of(table: &RouterTable) -> Size {
        Size { entries: table.len() as u64, bytes: table.bytes() as u64 }
    }

    /// One of the tables that this is the sum of may have become another size: what it counted
    /// for is taken off, whatever has changed it since.
    pub(crate) fn recount(&mut self, counted: &mut Size, table: &RouterTable) {
        self.forget(*counted);
        *counted = Size::of(table);
        self.entries += counted.entries;
        self.bytes += counted.bytes;
    }

    /// A table is no part of the sum any more.
    pub(crate) fn forget(&mut self, counted: Size) {
        self.entries -= counted.entries;
        self.bytes -= counted.bytes;
    }
}

impl Shard {
    /// The session's table may have become another size.
    pub(crate) fn recount(&mut self, session: &Session) {
        if let Some(home) = self.homes.get_mut(&session.router) {
            self.tables.recount(&mut home.counted, &session.state.table);
        }
    }

    /// When the tables are full, turns mappings into rejected ones: those of new keys when there
    /// are too many entries, and all but withdrawals when the entries are too large. The largest
    /// table comes first; the others go on until an eighth more is used.
    pub(crate) fn refuse_growth(&mut self, session: &Session, unit: &mut Unit) {
        let max = self.settings.table_entries_max;
        let bytes_max = max.saturating_mul(ENTRY_BYTES);
        let table_bytes = Size::of(&session.state.table).bytes;
        let is_oversized = table_bytes > TABLE_BYTES_MAX;
        let count = unit.mappings.len() as u64;
        if self.tables.entries + count <= max && self.tables.bytes <= bytes_max && !is_oversized {
            return;
        }
        let eighths = if self.is_largest(table_bytes) { 8 } else { 9 };
        let most = Size { entries: max / 8 * eighths + max % 8, bytes: bytes_max / 8 * eighths };
        let is_heavy = is_oversized || self.tables.bytes > most.bytes;
        let mut room = most.entries.saturating_sub(self.tables.entries);
        let rejected = &mut unit.rejected;
        let detail = format!(
            "expected at most {max} entries (table_entries_max) in {bytes_max} bytes, found no room"
        );
        unit.mappings.retain(|mapping| {
            let key = mapping.key();
            if mapping.operation == Operation::None {
                return true;
            }
            let is_known = !is_heavy && session.state.table.get(&key).is_some();
            if is_known {
                return true;
            }
            if !is_heavy && room > 0 {
                room -= 1;
                return true;
            }
            let detail = detail.as_str().into();
            rejected.push(RejectedMapping { cause: Cause::TableFull, key: Some(key), detail });
            false
        });
    }

    /// Whether no other session's table is larger. Measured on the tables themselves, so that
    /// nobody gets smaller by connecting anew. The session is not in `connections` while its unit
    /// is applied.
    fn is_largest(&self, table_bytes: u64) -> bool {
        self.connections.values().all(|connection| match &connection.phase {
            Phase::Speaking(other) => Size::of(&other.state.table).bytes <= table_bytes,
            _ => true,
        })
    }
}
