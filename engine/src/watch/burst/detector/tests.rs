//! What is a burst, what is not, and when one is over.
//!
//! In:   rates made up bin by bin.
//! Out:  the bursts that the detector finds.
//! Law:  what came is in the burst, to the byte.
//! Not:  real counters (`thread`).

use storage::time::Micros;

use super::super::BINS_MAX;
use super::*;

/// Feeds rates to a detector at times that it chooses.
struct Feed {
    detector: Detector,
    level: Level,
    monotonic_us: u64,
    ended: Vec<Burst>,
    fresh: Vec<(u64, Bin)>,
    began: usize,
}

impl Feed {
    fn new() -> Feed {
        let monotonic_us = 7_000_000_003;
        let mut feed = Feed {
            detector: Detector::default(),
            level: Level::default(),
            monotonic_us,
            ended: Vec::new(),
            fresh: Vec::new(),
            began: 0,
        };
        feed.look();
        feed
    }

    fn now(&self) -> Now {
        let wall = Micros(1_800_000_000_000_000 + self.monotonic_us as i64);
        Now { wall, monotonic_us: self.monotonic_us }
    }

    fn look(&mut self) {
        match self.detector.look(self.now(), self.level) {
            Some(Turn::Began) => self.began += 1,
            Some(Turn::Ended(burst, fresh)) => {
                self.fresh.extend(fresh);
                self.ended.push(*burst);
            }
            None => {}
        }
    }

    /// So many looks, each after `step_us`, with so much in each.
    fn feed(&mut self, looks: u64, step_us: u64, bytes: u64, mappings: u64) {
        for _ in 0..looks {
            self.monotonic_us += step_us;
            self.level.received_bytes += bytes;
            self.level.mappings += mappings;
            self.look();
        }
    }

    fn calm(&mut self, seconds: u64) {
        self.feed(seconds * 100, BIN_US, 0, 0);
    }
}

#[test]
fn a_burst_holds_what_came_from_its_first_byte_to_its_last() {
    let mut feed = Feed::new();
    feed.calm(10);
    let start = feed.now().wall.0;
    feed.feed(30, BIN_US, 50_000, 700);
    feed.feed(1, BIN_US, 90_000, 1_500);
    feed.feed(29, BIN_US, 50_000, 700);
    assert_eq!((feed.began, feed.ended.len()), (1, 0));
    let end = feed.now().wall.0;
    feed.calm(3);
    let [burst] = feed.ended.as_slice() else { panic!("{:?}", feed.ended) };
    let head = &burst.head;
    assert_eq!((head.received_bytes, head.mappings), (59 * 50_000 + 90_000, 59 * 700 + 1_500));
    assert_eq!((head.peak_bytes, head.peak_mappings), (90_000, 1_500));
    let grid = BIN_US as i64;
    assert!((head.start_us - start).abs() <= grid, "{head:?} {start}");
    assert!((head.peak_us - start - 30 * grid).abs() <= grid, "{head:?} {start}");
    // The window of 100 ms is what ends.
    assert!((end..=end + 11 * grid).contains(&head.end_us), "{head:?} {end}");
    assert!(!head.is_running);
    let sum = burst.bins.iter().fold(Bin::default(), |sum, bin| sum.and(*bin));
    assert_eq!((sum.received_bytes, sum.mappings), (head.received_bytes, head.mappings));
    // Whoever keeps it gets the same bins, each once.
    let places: Vec<u64> = feed.fresh.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, (0..places.len() as u64).collect::<Vec<u64>>());
    assert_eq!(feed.fresh.iter().map(|(_, bin)| bin.mappings).sum::<u64>(), head.mappings);
}

#[test]
fn a_trickle_is_no_burst_and_neither_is_what_is_ordinary() {
    let mut feed = Feed::new();
    feed.feed(60_000, BIN_US, 300, 5);
    assert_eq!(feed.began, 0);
    // A load that stays is one burst at first, and ordinary within minutes.
    feed.feed(60_000, BIN_US, 30_000, 600);
    assert_eq!((feed.began, feed.ended.len()), (1, 1));
    let lasted_s = (feed.ended[0].head.end_us - feed.ended[0].head.start_us) / 1_000_000;
    assert!((100..400).contains(&lasted_s), "{lasted_s} s");
    // Five times as much stands out of it.
    feed.feed(100, BIN_US, 150_000, 3_000);
    feed.feed(1_000, BIN_US, 30_000, 600);
    assert_eq!((feed.began, feed.ended.len()), (2, 2));
}

#[test]
fn a_short_storm_does_not_hide_a_smaller_one_after_it() {
    let mut feed = Feed::new();
    feed.calm(60);
    feed.feed(1_000, BIN_US, 1_000_000, 20_000);
    feed.calm(5);
    feed.feed(100, BIN_US, 20_000, 400);
    feed.calm(5);
    let mappings: Vec<u64> = feed.ended.iter().map(|burst| burst.head.mappings).collect();
    assert_eq!(mappings, [20_000_000, 40_000]);
}

#[test]
fn looks_that_come_late_are_spread_and_said() {
    let mut feed = Feed::new();
    feed.calm(1);
    feed.feed(20, 5 * BIN_US, 400_003, 5_000);
    feed.calm(3);
    let [burst] = feed.ended.as_slice() else { panic!("{:?}", feed.ended) };
    assert_eq!(burst.head.received_bytes, 20 * 400_003);
    assert_eq!((burst.head.peak_bytes, burst.head.peak_mappings), (80_003, 1_000));
    assert_eq!(burst.head.look_longest_us, 5 * BIN_US);
    // Looks between two edges of a bin lose nothing either.
    let mut feed = Feed::new();
    feed.calm(1);
    feed.feed(500, BIN_US / 4, 10_000, 200);
    feed.calm(3);
    let sums: u64 = feed.ended.iter().map(|burst| burst.head.mappings).sum();
    assert_eq!((feed.ended.len(), sums), (1, 100_000));
}

#[test]
fn a_burst_goes_on_while_routers_wait() {
    let mut feed = Feed::new();
    feed.calm(1);
    feed.feed(50, BIN_US, 100_000, 2_000);
    (feed.level.is_blocked, feed.level.blocked_ms) = (true, 1_234);
    feed.calm(10);
    assert_eq!(feed.ended.len(), 0);
    (feed.level.is_blocked, feed.level.blocked_ms) = (false, 0);
    feed.level.gaps += 2;
    feed.calm(3);
    let [burst] = feed.ended.as_slice() else { panic!("{:?}", feed.ended) };
    assert_eq!((burst.head.blocked_longest_ms, burst.head.gaps), (1_234, 2));
}

#[test]
fn a_long_burst_has_wider_bins_and_the_same_sums() {
    let mut feed = Feed::new();
    feed.calm(1);
    feed.feed(3 * BINS_MAX as u64 + 77, BIN_US, 50_000, 1_001);
    feed.calm(3);
    let [burst] = feed.ended.as_slice() else { panic!("{:?}", feed.ended) };
    assert_eq!(burst.bin_us, 4 * BIN_US);
    assert!(burst.bins.len() <= BINS_MAX);
    let mappings = (3 * BINS_MAX as u64 + 77) * 1_001;
    assert_eq!(burst.head.mappings, mappings);
    assert_eq!(burst.bins.iter().map(|bin| bin.mappings).sum::<u64>(), mappings);
    assert_eq!((burst.bins[5].mappings, burst.head.peak_mappings), (4_004, 1_001));
}

#[test]
fn what_runs_can_be_seen_and_a_stop_ends_it() {
    let mut feed = Feed::new();
    feed.calm(1);
    feed.feed(20, BIN_US, 100_000, 2_000);
    let moved = [Moved { counter: "TcpExt.PruneCalled".to_owned(), by: 3 }];
    feed.detector.note(feed.now(), &moved);
    feed.detector.note(feed.now(), &moved);
    let running = feed.detector.running().unwrap().head.clone();
    assert!(running.is_running && running.mappings >= 38_000, "{running:?}");
    let Some(Turn::Ended(burst, fresh)) = feed.detector.finish() else { panic!("no burst") };
    assert_eq!(fresh.iter().map(|(_, bin)| bin.mappings).sum::<u64>(), running.mappings);
    assert_eq!(burst.head.moved, [Moved { counter: "TcpExt.PruneCalled".to_owned(), by: 6 }]);
    assert_eq!((burst.steps.len(), burst.steps[0].by), (2, 3));
    assert!(!burst.head.is_running && feed.detector.running().is_none());
}
