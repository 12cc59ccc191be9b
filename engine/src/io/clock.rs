//! The host's clocks: the one place of the engine that reads them.
//!
//! In:   nothing.
//! Out:  `Now`, wall and monotonic together, read once per batch of completions.
//! Law:  the monotonic part never steps back, whatever is done to the wall clock.
//! Not:  what a step of the wall clock means for history (`storage::table`).
//!
//! What happens once an hour is measured and tested with `Clock::with_short_hours`, what happens
//! at a given instant with `Clock::standing`; both are given to `Collector::start_at`. No setting
//! leads there.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use storage::time::{Hour, MICROS_PER_HOUR, Micros};

use crate::io::Now;

/// Reads both clocks; the monotonic one counts from `Clock::start`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    wall: Wall,
}

/// Where the wall clock's time comes from.
#[derive(Clone, Copy, Debug)]
enum Wall {
    Host,
    Short(ShortHours),
    Standing(&'static AtomicI64),
}

/// A wall clock that shows only the last part of every hour.
#[derive(Clone, Copy, Debug)]
struct ShortHours {
    first: Hour,
    part_us: u64,
}

impl ShortHours {
    fn wall(self, elapsed_us: u64) -> Micros {
        let passed = i64::try_from(elapsed_us / self.part_us).unwrap_or(i64::MAX);
        let before_the_end_us = (self.part_us - elapsed_us % self.part_us) as i64;
        let end = self.first.0.saturating_add(passed).saturating_add(1);
        Micros(end.saturating_mul(MICROS_PER_HOUR)).offset(-before_the_end_us)
    }
}

impl Clock {
    /// A clock whose monotonic part is zero now. All shards of a process share one.
    pub fn start() -> Clock {
        Clock { origin: Instant::now(), wall: Wall::Host }
    }

    /// A clock for measuring what happens when an hour ends: its wall shows the last `part` of
    /// `first`, the last `part` of the hour after it, and so on. Between the steps it runs as
    /// always; the monotonic part knows nothing of them. `part` is at most an hour.
    pub fn with_short_hours(first: Hour, part: Duration) -> Clock {
        let part_us = micros_of(part).clamp(1, MICROS_PER_HOUR as u64);
        Clock { wall: Wall::Short(ShortHours { first, part_us }), ..Clock::start() }
    }

    /// A clock whose wall stands at so many microseconds since 1970 until somebody moves it there:
    /// a test knows the collection time of everything that it sends. The monotonic part runs.
    pub fn standing(wall_us: &'static AtomicI64) -> Clock {
        Clock { wall: Wall::Standing(wall_us), ..Clock::start() }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The time now.
    pub fn now(&self) -> Now {
        let monotonic_us = micros_of(self.origin.elapsed());
        let wall = match self.wall {
            Wall::Host => wall_of(SystemTime::now()),
            Wall::Short(short) => short.wall(monotonic_us),
            Wall::Standing(wall_us) => Micros(wall_us.load(Ordering::Acquire)),
        };
        Now { wall, monotonic_us }
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
    fn short_hours_end_one_after_the_other_and_the_wall_never_steps_back() {
        let short = ShortHours { first: Hour(500_000), part_us: 2_000_000 };
        let hours = [0, 1_999_999, 2_000_000, 3_999_999, 4_000_000].map(|us| short.wall(us).hour());
        assert_eq!(hours.map(|hour| hour.0), [500_000, 500_000, 500_001, 500_001, 500_002]);
        let walls: Vec<Micros> = (0..100).map(|step| short.wall(step * 123_457)).collect();
        assert!(walls.is_sorted());
        assert_eq!(short.wall(700).since(short.wall(200)), 500);
    }

    #[test]
    fn a_standing_wall_moves_when_it_is_moved_and_the_monotonic_part_runs() {
        static WALL_US: AtomicI64 = AtomicI64::new(7);
        let clock = Clock::standing(&WALL_US);
        let first = clock.now();
        WALL_US.store(9, Ordering::Release);
        let second = clock.now();
        assert_eq!((first.wall, second.wall), (Micros(7), Micros(9)));
        assert!(first.monotonic_us <= second.monotonic_us);
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
