//! The collector's own clock, ahead for a second and back: what it read then and since.
//!
//! In:   rows filed by a clock that was ahead, by as much as anybody may get it wrong.
//! Out:  no instant at which a value is known that was not so; every later change at its time.
//! Law:  neither an hour nor a year ahead hides what came after, live, in history, from states.
//! Not:  routers' clocks (`table::tests`).

use super::rig::{Rig, router};
use super::*;
use crate::history::Standing;
use crate::history::network::Network;
use crate::log::lock;
use crate::mapping::tests::swap;
use crate::time::{MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND, Micros};

const DAY: i64 = 24 * MICROS_PER_HOUR;
/// How far a clock was ahead in each story: within an hour, over its end, beyond a week, a year.
const AHEAD_US: [i64; 7] = [
    10 * MICROS_PER_SECOND,
    MICROS_PER_MINUTE,
    20 * MICROS_PER_MINUTE,
    MICROS_PER_HOUR,
    DAY,
    8 * DAY,
    365 * DAY,
];

struct Story {
    rig: Rig,
    /// When the clock was set ahead, and what it said when it was right again.
    ahead: Micros,
    right: Micros,
}

/// Label 20 is 100; while the clock is ahead it becomes 101, 21 comes and 23 goes; 22 comes then.
/// `skew_us`: how much the router's own times are behind the collector's while it is ahead.
fn story(ahead_us: i64, skew_us: i64, in_between: &dyn Fn(&mut Rig)) -> Story {
    let mut rig = Rig::new();
    rig.begin(1, 0);
    for label in [20, 23] {
        rig.say(1, label, 100, 0);
    }
    rig.snapshot(1, 30, true);
    rig.time = rig.time.offset(10 * MICROS_PER_MINUTE);
    let ahead = rig.time;
    rig.time = rig.time.offset(ahead_us);
    rig.say(1, 20, 101, skew_us);
    rig.say(1, 21, 200, skew_us);
    rig.say(1, 23, 0, skew_us);
    rig.time = ahead.offset(MICROS_PER_SECOND);
    rig.look();
    in_between(&mut rig);
    let right = rig.time;
    rig.say(1, 22, 300, 0);
    Story { rig, ahead, right }
}

/// What label leads where, as of an instant: `None` = it is not known.
fn out(rig: &Rig, label: u32, at: Micros) -> Option<Option<u32>> {
    let (network, _) = Network::as_of(rig.data(), at, None, None).unwrap();
    let as_of = network.router(router(1))?;
    let key = swap(label, 16, 0).key();
    let entry = as_of.state.table.get(&key).map(|entry| entry.mapping());
    let out = entry.map(|mapping| mapping.branches.first().unwrap().stack.to_vec()[0].value());
    (as_of.standing_of(&key) == Standing::Vouched).then_some(out)
}

fn check(Story { rig, ahead, right }: &Story, what: &str) {
    let all = [20, 21, 22, 23];
    let after = [Some(101), Some(200), Some(300), None];
    for at in [2, 60, 700, 5_000].map(|seconds| right.offset(seconds * MICROS_PER_SECOND)) {
        for (label, expected) in all.into_iter().zip(after) {
            assert_eq!(out(rig, label, at), Some(expected), "{what}: {label} at {at}");
        }
    }
    // Before, as it was; in between, nothing that was not so by then.
    let before = ahead.offset(-5 * MICROS_PER_MINUTE);
    for (label, expected) in [(20, Some(100)), (23, Some(100)), (21, None)] {
        let found = out(rig, label, before);
        assert!(found.is_none() || found == Some(expected), "{what}: {label} before: {found:?}");
        let found = out(rig, label, ahead.offset(MICROS_PER_SECOND / 2));
        assert_eq!(found, None, "{what}: {label} in between");
    }
    // Now is the last row read.
    for (label, expected) in all.into_iter().zip(after) {
        assert_eq!(out(rig, label, Micros::MAX), Some(expected), "{what}: {label} now");
    }
}

#[test]
fn a_clock_that_was_ahead_hides_nothing_that_came_after() {
    for ahead_us in AHEAD_US {
        for skew_us in [0, ahead_us] {
            let story = story(ahead_us, skew_us, &|_| {});
            let _lock = lock(story.rig.data()).unwrap();
            let what = format!("{ahead_us} us ahead, router {skew_us} behind it");
            if skew_us == 0 {
                check(&story, &what);
            }
            // Whatever the router's times are worth, what came after is known.
            let at = story.right.offset(2 * MICROS_PER_SECOND);
            for (label, expected) in [(20, Some(101)), (21, Some(200)), (22, Some(300)), (23, None)]
            {
                assert_eq!(out(&story.rig, label, at), Some(expected), "{what}: {label}");
            }
        }
    }
}

/// Nobody has spoken since: whoever asks knows at least that the time has not come.
#[test]
fn what_is_filed_ahead_of_now_is_not_believed_to_be_later() {
    let mut rig = Rig::new();
    rig.begin(1, 0);
    rig.say(1, 20, 100, 0);
    rig.snapshot(1, 30, true);
    let right = rig.time.offset(10 * MICROS_PER_MINUTE);
    rig.time = right.offset(DAY);
    rig.say(1, 20, 101, 0);
    let _lock = lock(rig.data()).unwrap();
    let at = right.offset(MICROS_PER_MINUTE);
    for (now, is_known) in [(at.offset(MICROS_PER_MINUTE), false), (at.offset(2 * DAY), true)] {
        let (network, _) = Network::as_of_told(rig.data(), at, Some(now), None, None).unwrap();
        let router = network.router(router(1)).unwrap();
        assert_eq!(router.standing() == Standing::Vouched, is_known, "asked at {now}");
    }
}

#[test]
fn no_change_is_filed_later_than_it_was_read() {
    for ahead_us in AHEAD_US {
        let mut story = story(ahead_us, 0, &|_| {});
        let _lock = lock(story.rig.data()).unwrap();
        for (label, value) in [(20, 102), (21, 0), (23, 103)] {
            story.rig.say(1, label, value, 0);
        }
        let at = story.rig.time;
        for (label, expected) in [(20, Some(102)), (21, None), (23, Some(103))] {
            assert_eq!(out(&story.rig, label, at), Some(expected), "{ahead_us}: {label}");
        }
        let (found, _) = story.rig.open();
        assert_eq!(super::rig::essences(&found), super::rig::essences(&story.rig.states));
    }
}

#[test]
fn states_and_rounds_find_what_came_after_a_clock_that_was_ahead() {
    for ahead_us in AHEAD_US {
        let mut story = story(ahead_us, 0, &|_| {});
        let limits = RoundLimits { rows_min: 1, ..RoundLimits::default() };
        let _lock = lock(story.rig.data()).unwrap();
        for hour in 0..30 {
            story.rig.pass_hours(1);
            story.rig.say(1, 24, 400 + hour, 0);
            story.rig.look();
            story.rig.round(story.rig.time.hour(), &limits);
            if [0, 1, 2, 25, 29].contains(&hour) {
                check(&story, &format!("{ahead_us} us ahead, hour {hour}"));
                let found = out(&story.rig, 24, story.rig.time);
                assert_eq!(found, Some(Some(400 + hour)), "{ahead_us} us ahead, hour {hour}");
            }
        }
    }
}
