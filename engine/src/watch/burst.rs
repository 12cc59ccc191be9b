//! Bursts: when ingest stands out from what is ordinary, and what it was like in 10 ms bins.
//!
//! In:   levels of the counters, each with its time; movements of the kernel's counters.
//! Out:  `Burst`: head, bins, steps of the kernel.
//! Law:  pure: time is an argument; what came between two looks is in exactly one burst or none.
//! Not:  who is to blame (`verdict`), or how it is kept (`record`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::verdict::Verdict;

mod detector;

pub use detector::{Detector, Level, Turn};

/// Width of a bin, unless the burst was so long that bins were merged.
pub const BIN_US: u64 = 10_000;
/// More bins than these are merged two by two: a minute in 10 ms.
pub(super) const BINS_MAX: usize = 6_000;
/// More steps than these are kept as sums alone.
pub(super) const STEPS_MAX: usize = 10_000;

/// What came in so many milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bin {
    /// Bytes read from sockets.
    pub received_bytes: u64,
    /// Mappings digested.
    pub mappings: u64,
    /// The most bytes that waited to be digested.
    pub surge_bytes: u64,
}

impl Bin {
    /// Both together: amounts add up, a level is the higher of the two.
    pub(super) fn and(self, other: Bin) -> Bin {
        Bin {
            received_bytes: self.received_bytes + other.received_bytes,
            mappings: self.mappings + other.mappings,
            surge_bytes: self.surge_bytes.max(other.surge_bytes),
        }
    }
}

/// A counter, and by how much it moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// As the kernel names it, behind the layer that it belongs to.
    pub counter: String,
    /// By how much.
    pub by: u64,
}

/// A counter that moved while a burst ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// When it was seen, microseconds since 1970.
    pub time_us: i64,
    /// As the kernel names it.
    pub counter: String,
    /// By how much since the look before.
    pub by: u64,
}

/// A burst without its bins: what a list of bursts shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Head {
    /// Its name: when it began, microseconds since 1970.
    pub id: i64,
    /// When it began, microseconds since 1970.
    pub start_us: i64,
    /// When it ended; while it runs, up to when it is told.
    pub end_us: i64,
    /// Whether it still runs.
    pub is_running: bool,
    /// Bytes read from sockets.
    pub received_bytes: u64,
    /// Mappings digested.
    pub mappings: u64,
    /// Most bytes in one bin of 10 ms.
    pub peak_bytes: u64,
    /// Most mappings in one bin of 10 ms.
    pub peak_mappings: u64,
    /// When the bin of the most bytes began, microseconds since 1970.
    pub peak_us: i64,
    /// Sessions that spoke.
    pub routers: u64,
    /// Most bytes that waited to be digested.
    pub surge_high_bytes: u64,
    /// Longest time for which a router was not read, milliseconds.
    pub blocked_longest_ms: u64,
    /// Gaps that were opened: sessions that broke, entries that were refused.
    pub gaps: u64,
    /// Longest time between two looks at the counters: longer than a bin, and the bins between
    /// are an even share.
    pub look_longest_us: u64,
    /// Counters of the kernel that moved, and by how much, sorted by name.
    pub moved: Vec<Moved>,
    /// What it came to; none while it runs.
    pub verdict: Option<Verdict>,
}

/// A burst in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Burst {
    /// What a list shows.
    #[serde(flatten)]
    pub head: Head,
    /// Width of the bins: 10 ms, twice as much for every doubling beyond a minute.
    pub bin_us: u64,
    /// Bins from the start on.
    pub bins: Vec<Bin>,
    /// Counters of the kernel as they moved.
    pub steps: Vec<Step>,
}

impl Burst {
    /// Notes what moved in the kernel up to this time.
    pub(super) fn note(&mut self, time_us: i64, moved: &[Moved]) {
        let known = std::mem::take(&mut self.head.moved);
        let mut sums: BTreeMap<String, u64> =
            known.into_iter().map(|moved| (moved.counter, moved.by)).collect();
        for Moved { counter, by } in moved {
            *sums.entry(counter.clone()).or_default() += by;
            if self.steps.len() < STEPS_MAX {
                self.steps.push(Step { time_us, counter: counter.clone(), by: *by });
            }
        }
        self.head.moved = sums.into_iter().map(|(counter, by)| Moved { counter, by }).collect();
    }
}
