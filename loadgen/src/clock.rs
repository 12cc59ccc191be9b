//! The one place of this crate that reads a clock.
//!
//! In:   nothing.
//! Out:  `Clock`: a wall time and a monotonic time that were read together.
//! Law:  every wall time of a run is derived from one reading, so a step of the host's clock moves
//!       none.
//! Not:  waiting (`sender`), or when things happen in the model (`scenario`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use storage::time::Micros;

/// A pair of readings that ties the monotonic clock to the wall.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Micros,
    monotonic: Instant,
}

impl Clock {
    /// Reads both clocks.
    pub fn start() -> Clock {
        // A host whose clock is before 1970 still runs; its times are then those of 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX));
        Clock { wall, monotonic: Instant::now() }
    }

    /// The wall time now.
    pub fn now(&self) -> Micros {
        self.wall_at(Instant::now())
    }

    /// The wall time of an instant.
    pub fn wall_at(&self, instant: Instant) -> Micros {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let forward = instant.saturating_duration_since(self.monotonic);
        let back = self.monotonic.saturating_duration_since(instant);
        self.wall.offset(micros(forward)).offset(-micros(back))
    }

    /// The instant of a wall time; the start for times before it.
    pub fn instant_at(&self, wall: Micros) -> Instant {
        let ahead = u64::try_from(wall.since(self.wall)).unwrap_or(0);
        self.monotonic + Duration::from_micros(ahead)
    }
}

/// The monotonic clock, for spans.
pub fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_and_monotonic_times_translate_into_each_other() {
        let clock = Clock::start();
        let later = clock.wall.offset(1_500_000);
        assert_eq!(clock.wall_at(clock.instant_at(later)), later);
        assert_eq!(clock.instant_at(clock.wall.offset(-5)), clock.monotonic);
        assert!(clock.now() >= clock.wall);
    }
}
