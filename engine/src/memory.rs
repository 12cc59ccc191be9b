//! Memory: one budget for the whole process, and what of it the shards have spent.
//!
//! In:   `memory_bytes`, the number of shards; what the surges and tables of each shard take.
//! Out:  how much room is left for surges and for tables, wherever they are.
//! Law:  fixed parts, questions, tables and surges together stay within the budget.
//! Not:  who is not read any more (`shard::pressure`), whose keys are refused (`shard::reserve`).

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use rustix::process::{Resource, getrlimit};

use crate::settings::Settings;

/// The program, its threads' stacks, the HTTP side, and what the allocator keeps for them.
const PROCESS_BYTES: u64 = 12 << 20;
/// What one shard decodes with may take so much before it counts as received bytes: an inflated
/// frame and the mappings read from it.
pub(crate) const TOOLS_BYTES: usize = 2 << 20;
/// Of one shard: its inflater, its queues, the buffers of its disk thread, and `TOOLS_BYTES`.
const SHARD_BYTES: u64 = 3 << 20;
/// Of one connection that says nothing: what the shard, the driver and the registry know of it.
pub const CONNECTION_BYTES: u64 = 2 << 10;
/// Of how many parts of what is left to surges, tables and connections one is for the latter.
const CONNECTION_PARTS: u64 = 8;
/// Buffers that the receives of one shard share: 16 MiB, and less where the budget is small.
const BUFFERS_BYTES: (u64, u64) = (256 << 10, 16 << 20);
/// Blocks that wait behind the batch in flight, and bytes of them where the budget is small.
pub(crate) const BATCH_BLOCKS_MAX: u64 = 8;
const BATCH_BYTES_MIN: u64 = 256 << 10;
/// Of the batch: what collects, what flies, and what the columns of the open block have spare.
const BATCHES: u64 = 3;
/// Bytes that tables may take for each that surges give for it.
const TABLE_PER_GIVEN: u64 = 3;
/// The least that surges and tables need together.
const VARIABLE_BYTES_MIN: u64 = 8 << 20;
/// The budget of settings that leave it to the program which reads how much memory there is.
const UNSET_BYTES: u64 = 1 << 30;
/// Below this a budget has no room for huge pages. With them the allocator takes 2 MiB at a time,
/// for each thread and each kind of size: 16 MiB before the first byte, where 2 MiB are used, and
/// 50 MiB where 24 are in a flood of eight sessions. From here on that is a few hundredths, and
/// tables of gigabytes are the faster for them.
const HUGE_PAGES_BYTES_MIN: u64 = 1 << 30;
/// Of how many parts of what the fixed parts leave one is for questions, when it is not set; less
/// where the rest would not do.
const QUESTION_PARTS: u64 = 8;
/// Times per shard that the surge budget can be moved before the other shards know of it.
const STEPS: u64 = 64;
/// The most that the other shards do not know of.
const STEP_BYTES_MAX: u64 = 1 << 20;

/// The budget of the process, divided.
///
/// Questions about the past have a part of their own, whether or not somebody asks. What is left
/// beside these and the fixed parts is shared by tables and surges. Tables may take three quarters.
/// Surges have the rest, and some of what the tables leave free: a byte of a compressed
/// frame that is digested becomes about three bytes of table when every key is new, so the surge
/// that is allowed is the one whose digestion still fits. That is a half while the tables are
/// empty, and a quarter when they are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Everything: what the process may take.
    pub total_bytes: u64,
    /// What all routers' tables together may take.
    pub table_bytes_max: u64,
    /// What all surges together may take while there is no table.
    pub surge_bytes_most: u64,
    /// What is left to them when the tables are full.
    pub surge_bytes_least: u64,
    /// Connections for which there is memory.
    pub connections_max: u64,
    /// Bytes of the receive buffers of one shard.
    pub buffers_bytes: u64,
    /// Bytes of rows of one shard that may wait behind the commit in flight.
    pub batch_bytes_max: u64,
    /// The most that a frame or document may have inflated, whatever the settings allow.
    pub inflated_bytes_max: u64,
    /// What questions about the past may take, all together; 0 where nobody can ask over HTTP.
    pub question_bytes: u64,
    /// Shards that share it.
    pub shards: u64,
}

/// A budget that is too small for what must be there before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory_bytes is {found}: {shards} shards need at least {least}; \
     give --memory {least} or more, or fewer --shards"
)]
pub struct BudgetError {
    /// What was to be divided.
    pub found: u64,
    /// The least that works.
    pub least: u64,
    /// For so many shards.
    pub shards: u64,
}

/// What the allocator maps at a time, and what threads, rings and libraries map beside it: none of
/// it is memory before it is used, but a limit on addresses counts it.
const ADDRESSES_BYTES: u64 = 1280 << 20;

/// Memory that this process cannot have, whatever is free: better said than met as an abort.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// A limit on addresses.
    #[error(
        "this process may map {found} bytes (RLIMIT_AS, `ulimit -v`), and memory_bytes = \
         {memory_bytes} needs {least}: raise that limit or remove it, memory_bytes holds without; \
         or give a smaller --memory"
    )]
    Addresses {
        /// The limit.
        found: u64,
        /// The budget.
        memory_bytes: u64,
        /// The least that works.
        least: u64,
    },
    /// The kernel does not give it.
    #[error(
        "memory_bytes = {memory_bytes} cannot be had: {source}; give a smaller --memory, or look at \
         vm.overcommit_memory and at the limits of this process",
        source = found
    )]
    Refused {
        /// The budget.
        memory_bytes: u64,
        /// What was said.
        found: String,
    },
}

impl Budget {
    /// Whether this process can have what the budget divides. Takes none of it.
    pub fn check(&self) -> Result<(), MemoryError> {
        let memory_bytes = self.total_bytes;
        let least = memory_bytes.saturating_add(ADDRESSES_BYTES);
        let limit = getrlimit(Resource::As).current;
        if let Some(found) = limit.filter(|limit| *limit < least) {
            return Err(MemoryError::Addresses { found, memory_bytes, least });
        }
        let bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        let refused = |found: TryReserveError| {
            let found = found.to_string();
            MemoryError::Refused { memory_bytes, found }
        };
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(refused)
    }

    /// Divides `memory_bytes` among so many shards. Errors: the least that works.
    pub fn new(settings: &Settings, shards: usize) -> Result<Budget, BudgetError> {
        let shards = shards.max(1) as u64;
        let total = match settings.memory_bytes {
            0 => UNSET_BYTES,
            bytes => bytes,
        };
        Budget::of(settings, total, shards).ok_or_else(|| {
            let fits = |mebibytes: &u64| Budget::of(settings, mebibytes << 20, shards).is_some();
            // Every shard adds a few MiB and a frame of 1 GiB at most.
            let least = (1..=1 << 20).find(fits).unwrap_or(1 << 20) << 20;
            BudgetError { found: total, least, shards }
        })
    }

    fn of(settings: &Settings, total: u64, shards: u64) -> Option<Budget> {
        let share = total / shards;
        let buffers = (share / 64).clamp(BUFFERS_BYTES.0, BUFFERS_BYTES.1);
        let batch_most = (settings.commit_bytes * BATCH_BLOCKS_MAX).max(BATCH_BYTES_MIN);
        let batch = (share / 32).clamp(BATCH_BYTES_MIN, batch_most);
        // Twice the buffers: what they hold when reading is paused comes nevertheless.
        let fixed = PROCESS_BYTES + shards * (SHARD_BYTES + 2 * buffers + BATCHES * batch);
        let left = total.checked_sub(fixed)?;
        // Each shard may have to read one unit to its end, whatever is free.
        let frames = shards * settings.wire.frame_bytes_max as u64;
        let variable_least = VARIABLE_BYTES_MIN.max(frames);
        let least = variable_least.div_ceil(CONNECTION_PARTS - 1) * CONNECTION_PARTS;
        let question = match (settings.http, settings.question_memory_bytes) {
            (None, _) => 0,
            (Some(_), 0) => (left / QUESTION_PARTS).min(left.saturating_sub(least)),
            (Some(_), bytes) => bytes,
        };
        let left = left.checked_sub(question)?;
        let connections_most = left / CONNECTION_PARTS / CONNECTION_BYTES;
        let connections = settings.connections_max.min(connections_most);
        let variable = left - connections * CONNECTION_BYTES;
        if variable < variable_least {
            return None;
        }
        Some(Budget {
            total_bytes: total,
            table_bytes_max: variable / 4 * TABLE_PER_GIVEN,
            surge_bytes_most: variable / 2,
            surge_bytes_least: variable / 4,
            connections_max: connections,
            buffers_bytes: buffers,
            batch_bytes_max: batch,
            inflated_bytes_max: variable / shards / 4,
            question_bytes: question,
            shards,
        })
    }

    /// A budget of so many bytes for surges, and as good as none for everything else: for tests
    /// and benches.
    pub fn of_surge(surge_bytes: u64) -> Budget {
        Budget {
            total_bytes: u64::MAX >> 1,
            table_bytes_max: 1 << 40,
            surge_bytes_most: surge_bytes,
            surge_bytes_least: surge_bytes,
            connections_max: u64::MAX,
            buffers_bytes: BUFFERS_BYTES.1,
            batch_bytes_max: u64::MAX,
            inflated_bytes_max: u64::MAX,
            question_bytes: 0,
            shards: 1,
        }
    }

    /// Whether memory may be taken in huge pages: most of each may stay unused.
    pub fn has_room_for_huge_pages(&self) -> bool {
        self.total_bytes >= HUGE_PAGES_BYTES_MIN
    }

    /// What all surges may take while all tables take so much.
    pub fn surge_bytes_max(&self, table_bytes: u64) -> u64 {
        // Tables may take three times what surges give: a straight line, asked for with every
        // receive, without a division by a number that is only known at the start.
        let given = self.surge_bytes_most - self.surge_bytes_least;
        self.surge_bytes_most - (table_bytes / TABLE_PER_GIVEN).min(given)
    }
}

/// What is spent, shared by the shards.
///
/// Each shard counts for itself and tells the others when its count has moved by a step: the line
/// that they share is written some thousand times a second in a storm, not once per receive.
#[derive(Debug)]
pub struct Memory {
    budget: Budget,
    surge_bytes: CachePadded<AtomicI64>,
    table_bytes: CachePadded<AtomicI64>,
    coming_bytes: CachePadded<AtomicI64>,
    surge_high_bytes: CachePadded<AtomicU64>,
}

impl Memory {
    /// A budget of which nothing is spent.
    pub fn new(budget: Budget) -> Memory {
        Memory {
            budget,
            surge_bytes: CachePadded::default(),
            table_bytes: CachePadded::default(),
            coming_bytes: CachePadded::default(),
            surge_high_bytes: CachePadded::default(),
        }
    }

    /// How the budget is divided.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What all surges take, as far as the shards have told.
    pub fn surge_bytes(&self) -> u64 {
        // Each number stands for itself: no other memory is read by its value.
        u64::try_from(self.surge_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The most that all surges have taken.
    pub fn surge_high_bytes(&self) -> u64 {
        self.surge_high_bytes.load(Ordering::Relaxed)
    }

    /// What all tables take, those included whose routers are not connected.
    pub fn table_bytes(&self) -> u64 {
        u64::try_from(self.table_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// What all surges may take now: the less, the more the tables take.
    pub fn surge_bytes_max(&self) -> u64 {
        self.budget.surge_bytes_max(self.table_bytes())
    }

    /// What surges may still grow by; below 0, what they exceed the budget by.
    pub fn surge_room(&self) -> i64 {
        signed(self.surge_bytes_max()) - self.surge_bytes.load(Ordering::Relaxed)
    }

    /// What tables may still grow by; below 0, what they exceed their reserve by.
    pub fn table_room(&self) -> i64 {
        signed(self.budget.table_bytes_max) - self.table_bytes.load(Ordering::Relaxed)
    }

    /// A shard's count of surges has to move by so much before the others must know.
    pub fn step_bytes(&self) -> u64 {
        (self.budget.surge_bytes_least / (self.budget.shards * STEPS)).min(STEP_BYTES_MAX)
    }

    /// The surges of a shard have become larger, or smaller, by so much.
    pub fn add_surge(&self, bytes: i64) {
        let before = self.surge_bytes.fetch_add(bytes, Ordering::Relaxed);
        if bytes > 0 {
            let after = u64::try_from(before + bytes).unwrap_or(0);
            self.surge_high_bytes.fetch_max(after, Ordering::Relaxed);
        }
    }

    /// Recovery has rebuilt tables of so many bytes, whose routers no shard has yet.
    pub fn park(&self, bytes: u64) {
        self.add_tables(signed(bytes));
    }

    /// What snapshots that are being read are still to bring, as far as the shards have told.
    pub fn coming_bytes(&self) -> i64 {
        self.coming_bytes.load(Ordering::Relaxed)
    }

    /// Snapshots that are being read are to bring so much more, or less.
    pub fn add_coming(&self, bytes: i64) {
        self.coming_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Tables have become larger, or smaller, by so much.
    pub fn add_tables(&self, bytes: i64) {
        self.table_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A count of bytes with a sign: no count of real bytes comes near the end of either.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(memory_bytes: u64) -> Settings {
        Settings { memory_bytes, ..Settings::default() }
    }

    fn parts(budget: &Budget, table_bytes: u64) -> u64 {
        let shard = SHARD_BYTES + 2 * budget.buffers_bytes + BATCHES * budget.batch_bytes_max;
        let connections = budget.connections_max * CONNECTION_BYTES;
        let surge = budget.surge_bytes_max(table_bytes);
        let fixed = PROCESS_BYTES + budget.shards * shard + connections;
        fixed + budget.question_bytes + table_bytes + surge
    }

    #[test]
    fn fixed_parts_tables_and_surges_stay_within_the_budget() {
        for (memory_bytes, shards) in [(64 << 20, 1), (64 << 20, 2), (6 << 30, 2), (64 << 30, 64)] {
            let budget = Budget::new(&settings(memory_bytes), shards).unwrap();
            let full = budget.table_bytes_max;
            assert!(parts(&budget, full) <= memory_bytes, "{budget:?}");
            // A surge of new keys becomes three times as much table: that fits too.
            for tables in [0, full / 4, full / 2, full] {
                let surge = budget.surge_bytes_max(tables);
                let digested = surge.min((full - tables) / 3);
                let peak = parts(&budget, tables) + 2 * digested;
                assert!(peak <= memory_bytes + 64, "{tables}: {peak} of {budget:?}");
            }
            assert!(budget.surge_bytes_least >= memory_bytes / 16, "{budget:?}");
        }
    }

    #[test]
    fn questions_have_a_part_of_the_budget_if_somebody_can_ask() {
        let most = |settings: &Settings| Budget::new(settings, 2).unwrap();
        let asked = most(&settings(1 << 30));
        assert!(asked.question_bytes > 100 << 20, "{asked:?}");
        assert!(parts(&asked, asked.table_bytes_max) <= 1 << 30);
        let silent = most(&Settings { http: None, ..settings(1 << 30) });
        assert_eq!(silent.question_bytes, 0);
        assert!(silent.table_bytes_max > asked.table_bytes_max);
        let set = most(&Settings { question_memory_bytes: 8 << 20, ..settings(1 << 30) });
        assert_eq!(set.question_bytes, 8 << 20);
        // Where memory is short they have what is left: nobody needs more for their sake.
        let least = |http: bool| {
            let http = settings(1 << 30).http.filter(|_| http);
            Budget::new(&Settings { http, ..settings(1) }, 2).unwrap_err().least
        };
        assert_eq!(least(true), least(false));
        assert!(most(&settings(least(true))).question_bytes < 1 << 20);
        let more = Settings { question_memory_bytes: 2 << 30, ..settings(1 << 30) };
        assert!(Budget::new(&more, 2).unwrap_err().least > 2 << 30);
    }

    #[test]
    fn a_budget_too_small_is_refused_with_the_least_that_works() {
        let error = Budget::new(&settings(64 << 20), 64).unwrap_err();
        assert_eq!((error.found, error.shards), (64 << 20, 64));
        let said = error.to_string();
        assert!(said.contains(&format!("--memory {}", error.least)), "{said}");
        assert!(Budget::new(&settings(error.least), 64).is_ok());
        assert!(Budget::new(&settings(error.least - (1 << 20)), 64).is_err());
    }

    #[test]
    fn what_shards_tell_sums_up() {
        let memory = Memory::new(Budget::of_surge(1_000));
        memory.add_surge(700);
        memory.add_surge(500);
        assert_eq!(memory.surge_room(), -200);
        memory.add_surge(-600);
        assert_eq!((memory.surge_bytes(), memory.surge_high_bytes()), (600, 1_200));
        memory.add_tables(10);
        assert_eq!(memory.table_bytes(), 10);
    }
}
