//! The host's clocks: the one place of the engine that reads them.
//!
//! In:   nothing.
//! Out:  `Now`, wall and monotonic together, read once per batch of completions.
//! Law:  the monotonic part never steps back, whatever is done to the wall clock.
//! Not:  what a step of the wall clock means for history (`storage::table`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use storage::time::Micros;

use crate::io::Now;

/// Reads both clocks; the monotonic one counts from `Clock::start`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic part is zero now. All shards of a process share one.
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The time now.
    pub fn now(&self) -> Now {
        Now { wall: wall_of(SystemTime::now()), monotonic_us: micros_of(self.origin.elapsed()) }
    }
}

fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn wall_of(time: SystemTime) -> Micros {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Micros(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
        Err(before) => Micros(-i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_counted_from_the_epoch_in_both_directions() {
        assert_eq!(wall_of(UNIX_EPOCH + Duration::from_micros(7)), Micros(7));
        assert_eq!(wall_of(UNIX_EPOCH - Duration::from_micros(7)), Micros(-7));
    }

    #[test]
    fn the_monotonic_clock_starts_at_zero_and_does_not_step_back() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.now();
        assert!(first.monotonic_us < 60_000_000);
        assert!(first.monotonic_us <= second.monotonic_us);
    }
}
