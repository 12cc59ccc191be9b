//! Bursts: when ingest stands out from what is ordinary, and what it was like in 10 ms bins.
//!
//! In:   levels of the counters, each with its time; movements of the kernel's counters.
//! Out:  `Burst`: head, bins, steps of the kernel.
//! Law:  pure: time is an argument; what came between two looks is in exactly one burst or none.
//! Not:  who is to blame (`verdict`), or how it is kept (`record`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::verdict::{Verdict, Worst};

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
            received_bytes: self.received_bytes.saturating_add(other.received_bytes),
            mappings: self.mappings.saturating_add(other.mappings),
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
    /// Connections that had the hardest time, worst first.
    pub worst: Vec<Worst>,
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
    /// Counts a bin of 10 ms, so many of them after the start.
    pub(super) fn count(&mut self, place: u64, bin: Bin) {
        let head = &mut self.head;
        if bin.received_bytes > head.peak_bytes {
            head.peak_bytes = bin.received_bytes;
            head.peak_us = head.start_us.saturating_add_unsigned(place * BIN_US);
        }
        head.peak_mappings = head.peak_mappings.max(bin.mappings);
        head.surge_high_bytes = head.surge_high_bytes.max(bin.surge_bytes);
        head.received_bytes = head.received_bytes.saturating_add(bin.received_bytes);
        head.mappings = head.mappings.saturating_add(bin.mappings);
        let slot = |bin_us: u64| usize::try_from(place / (bin_us / BIN_US)).unwrap_or(usize::MAX);
        while slot(self.bin_us) >= BINS_MAX {
            self.widen();
        }
        let slot = slot(self.bin_us);
        if self.bins.len() <= slot {
            self.bins.resize(slot + 1, Bin::default());
        }
        self.bins[slot] = self.bins[slot].and(bin);
    }

    /// Merges bins two by two.
    fn widen(&mut self) {
        let sum = |bins: &[Bin]| bins.iter().fold(Bin::default(), |sum, bin| sum.and(*bin));
        self.bins = self.bins.chunks(2).map(sum).collect();
        self.bin_us *= 2;
    }

    /// Ends the burst; what trickled in after the end is not of it.
    pub(super) fn end_at(&mut self, end_us: i64) {
        let head = &mut self.head;
        head.end_us = end_us;
        head.is_running = false;
        let lasted_us = u64::try_from(end_us.saturating_sub(head.start_us)).unwrap_or(0);
        while lasted_us.div_ceil(self.bin_us) > BINS_MAX as u64 {
            self.widen();
        }
        let bins = lasted_us.div_ceil(self.bin_us) as usize;
        let after = self.bins.iter().skip(bins);
        let after = after.fold(Bin::default(), |sum, bin| sum.and(*bin));
        self.bins.resize(bins, Bin::default());
        let head = &mut self.head;
        head.received_bytes = head.received_bytes.saturating_sub(after.received_bytes);
        head.mappings = head.mappings.saturating_sub(after.mappings);
    }

    /// Notes what moved in the kernel up to this time.
    pub(super) fn note(&mut self, time_us: i64, moved: &[Moved]) {
        let known = std::mem::take(&mut self.head.moved);
        let mut sums: BTreeMap<String, u64> =
            known.into_iter().map(|moved| (moved.counter, moved.by)).collect();
        for Moved { counter, by } in moved {
            let sum = sums.entry(counter.clone()).or_default();
            *sum = sum.saturating_add(*by);
            if self.steps.len() < STEPS_MAX {
                self.steps.push(Step { time_us, counter: counter.clone(), by: *by });
            }
        }
        self.head.moved = sums.into_iter().map(|(counter, by)| Moved { counter, by }).collect();
    }
}
