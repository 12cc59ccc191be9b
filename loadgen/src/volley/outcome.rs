//! What became of a volley: counts, times, and how late everything was.
//!
//! In:   each frame as it is begun, written whole and acknowledged.
//! Out:  `Outcome`, as numbers that another process can read.
//! Law:  lateness counts from the intended time, one value per frame.
//! Not:  whether that is good (benches).

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use storage::time::Micros;

/// Longest lateness that is told apart: ten minutes. Longer ones count as this.
const LATENESS_US_MAX: u64 = 600_000_000;
/// Digits of the histogram: 1 %.
const LATENESS_DIGITS: u8 = 2;

/// What became of a volley. Times are microseconds since the epoch, 0 = never.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Lines that connected.
    pub connected: u64,
    /// Lines that could not.
    pub connect_failures: u64,
    /// Connections that ended though the line had not ended them.
    pub broken: u64,
    /// Connections that the line reset because nothing was taken from it for too long.
    pub gave_up: u64,
    /// Frames written to their last byte.
    pub frames: u64,
    /// Mappings in them.
    pub mappings: u64,
    /// Bytes written, hello apart.
    pub bytes: u64,
    /// Frames that were acknowledged, and the mappings in them.
    pub frames_acked: u64,
    /// See `frames_acked`.
    pub mappings_acked: u64,
    /// Frames that were due and never written whole.
    pub frames_unsent: u64,
    /// Frames that were written and whose connection ended before their ack.
    pub frames_unacked: u64,
    /// Frames under way: queued, or written and not acknowledged where acks are asked for.
    pub frames_open: u64,
    /// Times that a socket had no room.
    pub times_blocked: u64,
    /// Longest time that nothing was taken from a line that had something to say, microseconds.
    pub stuck_us_max: u64,
    /// When the last frame was written, and when the last ack was read.
    pub written_last: i64,
    /// See `written_last`.
    pub acked_last: i64,
    /// Until the kernel had taken the frame.
    pub written: Lateness,
    /// Until the collector said that it is durable.
    pub durable: Lateness,
    /// From the first attempt to write the frame until it was durable: what a generator would
    /// report that waits for itself.
    pub service: Lateness,
    /// What the generator alone was late by: until the first attempt to write the frame, or until
    /// it was queued behind a full socket.
    pub late: Lateness,
    #[serde(skip)]
    samples: Vec<(Micros, u32)>,
}

impl Outcome {
    pub(super) fn frame_is_written(&mut self, mappings: u64, due: Micros, now: Micros) {
        self.frames += 1;
        self.mappings += mappings;
        self.written_last = self.written_last.max(now.0);
        self.written.record(now.since(due));
    }

    pub(super) fn frame_is_begun(&mut self, due: Micros, now: Micros) {
        self.late.record(now.since(due));
    }

    pub(super) fn frame_is_durable(
        &mut self,
        mappings: u64,
        times: Times,
        now: Micros,
        keep: bool,
    ) {
        let Times { due, begun } = times;
        self.frames_acked += 1;
        self.mappings_acked += mappings;
        self.acked_last = self.acked_last.max(now.0);
        self.durable.record(now.since(due));
        self.service.record(now.since(begun));
        if keep {
            self.samples.push((due, u32::try_from(now.since(due).max(0)).unwrap_or(u32::MAX)));
        }
    }

    pub(super) fn take_samples(&mut self) -> Vec<(Micros, u32)> {
        std::mem::take(&mut self.samples)
    }

    /// Adds what another sender reports.
    pub fn add(&mut self, other: &Outcome) {
        self.connected += other.connected;
        self.connect_failures += other.connect_failures;
        self.broken += other.broken;
        self.gave_up += other.gave_up;
        self.frames += other.frames;
        self.mappings += other.mappings;
        self.bytes += other.bytes;
        self.frames_acked += other.frames_acked;
        self.mappings_acked += other.mappings_acked;
        self.frames_unsent += other.frames_unsent;
        self.frames_unacked += other.frames_unacked;
        self.frames_open += other.frames_open;
        self.times_blocked += other.times_blocked;
        self.stuck_us_max = self.stuck_us_max.max(other.stuck_us_max);
        self.written_last = self.written_last.max(other.written_last);
        self.acked_last = self.acked_last.max(other.acked_last);
        self.written.add(&other.written);
        self.durable.add(&other.durable);
        self.service.add(&other.service);
        self.late.add(&other.late);
    }
}

/// When a frame was due, and when the generator first tried to write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) due: Micros,
    pub(super) begun: Micros,
}

/// How late things were: (microseconds, how many), exact to 1 %, for other processes to add up.
#[derive(Clone, Debug)]
pub struct Lateness(Histogram<u64>);

impl Default for Lateness {
    /// Empty; fixed bounds, so that recording never allocates and never fails.
    fn default() -> Self {
        Lateness(
            Histogram::new_with_bounds(1, LATENESS_US_MAX, LATENESS_DIGITS)
                .expect("1 to LATENESS_US_MAX with LATENESS_DIGITS digits is a valid range"),
        )
    }
}

impl Lateness {
    /// Counts one; what is early is not late.
    pub fn record(&mut self, late_us: i64) {
        self.0.saturating_record(u64::try_from(late_us).unwrap_or(0).max(1));
    }

    /// Counts those of another.
    pub fn add(&mut self, other: &Lateness) {
        self.0.add(&other.0).expect("every histogram has the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The lateness that a share (0 to 1) of them does not exceed, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1_000.0
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }
}

impl Serialize for Lateness {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.0.iter_recorded();
        let pairs = recorded.map(|at| (at.value_iterated_to(), at.count_at_value()));
        pairs.collect::<Vec<(u64, u64)>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lateness {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut lateness = Lateness::default();
        for (late_us, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            lateness.0.saturating_record_n(late_us, count);
        }
        Ok(lateness)
    }
}
