//! Pace: how many received bytes a shard digests in a second, measured while somebody waits.
//!
//! In:   the count of bytes that left surges, and the time.
//! Out:  bytes per second, smoothed over about a second.
//! Law:  a time in which nobody waited says nothing and is left out.
//! Not:  what is made of it (`storm`, `stuck`).

/// How often it is measured.
const MEASURE_US: u64 = 250_000;
/// After so long without a look the last measurement is continued by a new one.
const FORGET_US: u64 = 1_000_000;

/// Bytes per second.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    begun_us: u64,
    begun_bytes: u64,
    bytes_per_s: u64,
}

impl Pace {
    /// So many bytes have been digested since the start. Call it often while somebody waits.
    pub(crate) fn look(&mut self, digested_bytes: u64, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.begun_us);
        if passed_us < MEASURE_US {
            return;
        }
        if passed_us < FORGET_US {
            let found = (digested_bytes - self.begun_bytes).saturating_mul(1_000_000) / passed_us;
            let known = if self.bytes_per_s == 0 { found } else { self.bytes_per_s };
            self.bytes_per_s = (3 * known + found) / 4;
        }
        (self.begun_us, self.begun_bytes) = (now_us, digested_bytes);
    }

    /// Bytes per second; 0 = not known yet.
    pub(crate) fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_times_in_which_somebody_waited() {
        let mut pace = Pace::default();
        for step in 0..200 {
            pace.look(step * 10_000, step * 10_000);
        }
        assert_eq!(pace.bytes_per_s(), 1_000_000);
        pace.look(2_000_000, 60_000_000);
        assert_eq!(pace.bytes_per_s(), 1_000_000, "an hour of silence is not slow");
        for step in 0..400 {
            pace.look(2_000_000 + step * 20_000, 60_000_000 + step * 10_000);
        }
        assert!((1_900_000..=2_000_000).contains(&pace.bytes_per_s()), "{pace:?}");
    }
}
