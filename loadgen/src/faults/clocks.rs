//! Clocks that are wrong: what each router's says at a moment that the model knows.
//!
//! In:   which of skew and step are asked for; for each router the moment of a step; a seed.
//! Out:  `Clocks`: what a router's clock is ahead by.
//! Law:  a clock is a little off, or so far that a collector says so; nothing in between.
//! Not:  when acts begin (`world`), what a collector makes of such times (`answer/filing`).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Skews within which a network lives whose time service is poor.
const SKEW_US_MAX: i64 = 1_000_000;
/// One clock in this many is far off: nobody has ever set it, or set it for another zone.
const CLOCKS_PER_FAR: u32 = 8;
/// Ahead by hours: of another zone, or never set.
const FAR_AHEAD_US: std::ops::Range<i64> = 2 * HOUR_US..20 * HOUR_US;
/// Behind by more than the seven days that are.
const FAR_BEHIND_US: std::ops::Range<i64> = 8 * 24 * HOUR_US..400 * 24 * HOUR_US;
const HOUR_US: i64 = 3_600_000_000;
/// A step forward leaves the clock a little off; a step back leads behind what was said before.
const STEP_FORWARD_US: std::ops::Range<i64> = 200_000..SKEW_US_MAX;
const STEP_BACK_US: std::ops::Range<i64> = 30_000_000..300_000_000;

/// A clock that is set while the network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// In which act.
    pub act: usize,
    /// When, in microseconds after the act's beginning.
    pub offset_us: i64,
    /// By how much; negative = back.
    pub by_us: i64,
}

/// One router's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterClock {
    /// What it is ahead by from the beginning.
    pub skew_us: i64,
    /// When it is set, if it is.
    pub step: Option<Step>,
    /// It is so far off that the collector says so, and files by its own.
    pub is_far: bool,
}

/// Every router's clock. The default: all of them are right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks(Vec<RouterClock>);

impl Clocks {
    /// Draws: `steps_at` says for each router the act and the offset of a step.
    pub fn draw(
        skew: bool,
        steps_at: Option<&[(usize, i64)]>,
        routers: usize,
        seed: u64,
    ) -> Clocks {
        if !skew && steps_at.is_none() {
            return Clocks::default();
        }
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        // Network and plan have drawn from three other streams of the same seed.
        chance.set_stream(3);
        let clock = |router_index: usize| {
            let mut clock = RouterClock::default();
            if skew {
                clock.is_far = chance.random_range(0..CLOCKS_PER_FAR) == 0;
                clock.skew_us = match (clock.is_far, chance.random::<bool>()) {
                    (false, _) => chance.random_range(-SKEW_US_MAX..=SKEW_US_MAX),
                    (true, false) => chance.random_range(FAR_AHEAD_US),
                    (true, true) => -chance.random_range(FAR_BEHIND_US),
                };
            }
            let step = steps_at.and_then(|steps| steps.get(router_index));
            clock.step = step.filter(|_| !clock.is_far).map(|(act, offset_us)| {
                let by_us = match chance.random::<bool>() {
                    true => chance.random_range(STEP_FORWARD_US),
                    false => -chance.random_range(STEP_BACK_US),
                };
                Step { act: *act, offset_us: *offset_us, by_us }
            });
            clock
        };
        Clocks((0..routers).map(clock).collect())
    }

    /// The clock of a router.
    pub fn of(&self, router_index: usize) -> RouterClock {
        self.0.get(router_index).copied().unwrap_or_default()
    }

    /// Whether every clock is right.
    pub fn are_right(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_right_unless_asked_and_wrong_in_every_way_if_asked() {
        let right = Clocks::draw(false, None, 200, 1);
        assert!(right.are_right());
        assert_eq!(right.of(7), RouterClock::default());
        let steps = vec![(0, 5_000); 200];
        let clocks = Clocks::draw(true, Some(&steps), 200, 1);
        assert_eq!(clocks, Clocks::draw(true, Some(&steps), 200, 1));
        let all: Vec<RouterClock> = (0..200).map(|router| clocks.of(router)).collect();
        let count = |is: &dyn Fn(&&RouterClock) -> bool| all.iter().filter(is).count();
        assert!((10..50).contains(&count(&|clock| clock.is_far)));
        assert!(count(&|clock| clock.skew_us > FAR_AHEAD_US.start) > 3);
        assert!(count(&|clock| clock.skew_us < -FAR_BEHIND_US.start) > 3);
        let step_us = |clock: &RouterClock| clock.step.map_or(0, |step| step.by_us);
        assert!(count(&|clock| step_us(clock) > 0) > 50);
        assert!(count(&|clock| step_us(clock) < 0) > 50);
        let near = all.iter().filter(|clock| !clock.is_far);
        let ahead = near.map(|clock| clock.skew_us + step_us(clock).max(0)).max();
        assert!(ahead <= Some(2 * SKEW_US_MAX), "{ahead:?}");
    }
}
