//! The alarm: whoever sleeps in silence is woken by the first shard to which something comes.
//!
//! In:   shards to which something has come, with the time; the one thread that sleeps.
//! Out:  the end of its sleep, and when that was due.
//! Law:  no coming is missed: the sleeper says that it sleeps before it looks a last time, and a
//!       shard publishes before it looks whether anybody sleeps. One wake per sleep.
//! Not:  what has come (`metrics`), or when it is silent (`work`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

/// Nobody sleeps.
const AWAKE: u64 = 0;
/// Somebody sleeps, and nothing has come.
const ASLEEP: u64 = u64::MAX;

/// One sleeper, and those who may wake it.
#[derive(Debug, Default)]
pub struct Alarm {
    /// `AWAKE`, `ASLEEP`, or when something came to end the sleep, on the monotonic clock.
    state: AtomicU64,
    sleeper: OnceLock<Thread>,
}

impl Alarm {
    /// Something has come to a shard, and what it counted of it is published. Costs a fence and a
    /// load; the first call of a sleep wakes the sleeper.
    pub fn came(&self, monotonic_us: u64) {
        // Against the sleeper's: of two that write and then look, one sees what the other wrote.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            self.end(monotonic_us);
        }
    }

    #[cold]
    fn end(&self, monotonic_us: u64) {
        let time = monotonic_us.clamp(AWAKE + 1, ASLEEP - 1);
        let ended = self.state.compare_exchange(ASLEEP, time, Ordering::AcqRel, Ordering::Relaxed);
        if ended.is_ok()
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// The calling thread is the sleeper: the first that says so.
    pub(super) fn set_sleeper(&self) {
        let _ = self.sleeper.set(std::thread::current());
    }

    /// Sleeps until something comes, someone unparks the thread, or `rest` is over. `has_come` is
    /// asked when everybody knows of the sleep already, and ends it before it has begun.
    ///
    /// Returns when something came, if a shard said so.
    pub(super) fn sleep(&self, rest: Duration, has_come: impl FnOnce() -> bool) -> Option<u64> {
        self.state.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_come() {
            std::thread::park_timeout(rest);
        }
        match self.state.swap(AWAKE, Ordering::AcqRel) {
            AWAKE | ASLEEP => None,
            time => Some(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::io::clock::Clock;

    const LONG: Duration = Duration::from_secs(3_600);
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn what_comes_ends_the_sleep_and_says_when_it_came() {
        let alarm = Arc::new(Alarm::default());
        alarm.came(5);
        alarm.set_sleeper();
        assert_eq!(alarm.sleep(Duration::ZERO, || false), None, "nothing came in the sleep");
        assert_eq!(alarm.sleep(LONG, || true), None, "it had come before, and nobody knows when");
        let (first, second) = (Arc::clone(&alarm), Arc::clone(&alarm));
        let came = alarm.sleep(LONG, || {
            first.came(70);
            second.came(80);
            false
        });
        assert_eq!(came, Some(70), "the first of two");
        assert_eq!(alarm.sleep(Duration::ZERO, || false), None, "and it is told once");
    }

    /// A shard and a sleeper race ten thousand times. A sleep that nothing ends is an hour long.
    #[test]
    fn no_coming_is_missed() {
        const ROUNDS: usize = 10_000;
        let (alarm, came) = (Arc::new(Alarm::default()), Arc::new(AtomicUsize::new(0)));
        let (alarm_of_shard, came_to_shard) = (Arc::clone(&alarm), Arc::clone(&came));
        let seen = Arc::new(AtomicUsize::new(0));
        let seen_by_sleeper = Arc::clone(&seen);
        let sleeper = std::thread::spawn(move || {
            alarm.set_sleeper();
            let mut known = 0;
            while known < ROUNDS {
                alarm.sleep(LONG, || came.load(Ordering::Relaxed) > known);
                known = came.load(Ordering::Relaxed);
                seen_by_sleeper.store(known, Ordering::Release);
            }
        });
        let clock = Clock::start();
        for round in 1..=ROUNDS {
            came_to_shard.store(round, Ordering::Relaxed);
            alarm_of_shard.came(round as u64);
            while seen.load(Ordering::Acquire) < round {
                assert!(clock.elapsed() < PATIENCE, "round {round}: it sleeps");
                std::thread::yield_now();
            }
        }
        sleeper.join().unwrap();
        assert_eq!(seen.load(Ordering::Acquire), ROUNDS);
    }
}
