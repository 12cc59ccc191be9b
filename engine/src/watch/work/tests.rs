//! A watch in made-up time: what it sees of a burst, however it slept before.
//!
//! In:   counters that a test publishes, and the times of the looks.
//! Out:  bursts and moments, as the page and the log show them.
//! Law:  what came is in the bin in which it came.
//! Not:  the thread and its real clock (`thread`), real sockets (the tests of the program).

use std::net::SocketAddr;

use storage::log::read_kernel;

use super::super::{Connections, Moment, Outcome, Reader};
use super::*;
use crate::metrics::Counters;
use crate::registry::Registry;

/// A watch, and what stands around it.
struct Bench {
    watch: Watch,
    work: Work,
    publication: Arc<Publication>,
    counters: Counters,
    wall: Micros,
    data: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let publication = Arc::new(Publication::new(1));
        let watch = Watch::new();
        let data = tempfile::tempdir().unwrap();
        let wall = Micros(1_800_000_000_000_000);
        let now = at(wall, 0);
        let log = Log::start(data.path(), now, Watch::new(), Arc::clone(&publication)).unwrap();
        // Nobody listens there.
        let asked = (SocketAddr::from(([127, 0, 0, 1], 1)), Arc::new(Registry::default()));
        let survey = Survey::new(asked, Connections::default(), now);
        let work = Work::new(watch.clone(), log, survey, now, Arc::clone(&publication));
        Bench { watch, work, publication, counters: Counters::default(), wall, data }
    }

    fn now(&self, us: u64) -> Now {
        at(self.wall, us)
    }

    /// So much has come, and is published.
    fn come(&mut self, bytes: u64, mappings: u64, us: u64) -> bool {
        self.counters.add(Metric::ReceivedBytes, bytes);
        self.counters.add(Metric::MappingsFramed, mappings);
        self.publication.publish(0, &self.counters, self.now(us).wall)
    }
}

fn at(wall: Micros, us: u64) -> Now {
    Now { wall: wall.offset(us as i64), monotonic_us: 1_000_000_000 + us }
}

#[test]
fn the_watch_sees_a_burst_from_its_first_byte_to_its_last() {
    let mut bench = Bench::new();
    for bin in 0..400 {
        if (100..150).contains(&bin) {
            bench.come(100_000, 2_000, bin * BIN_US);
        }
        bench.work.look(bench.now(bin * BIN_US));
    }
    let Bench { watch, work, publication, wall, data, .. } = bench;
    let bursts = watch.bursts();
    assert_eq!(bursts.len(), 1, "{bursts:?}");
    let burst = watch.burst(bursts[0].id).unwrap();
    assert_eq!((burst.head.mappings, burst.head.received_bytes), (100_000, 5_000_000));
    assert_eq!((burst.head.peak_mappings, burst.head.peak_bytes), (2_000, 100_000));
    assert!(!burst.head.is_running && burst.bins.len() >= 50, "{:?}", burst.head);
    let moments = watch.moments();
    assert_eq!(moments.iter().map(|moment| moment.gained.mappings).sum::<u64>(), 100_000);
    assert!(moments.iter().any(|moment| moment.burst == Some(burst.head.id)));
    assert_eq!(moments.iter().map(|moment| moment.peak.mappings).max(), Some(2_000));
    let verdict = burst.head.verdict.clone();
    assert_eq!(verdict.map(|verdict| verdict.outcome), Some(Outcome::Clean));
    let counted = "stormdrain_bursts_total{verdict=\"clean\",layer=\"none\"} 1\n";
    assert!(publication.text().contains(counted));
    // And so does whoever reads the log.
    work.finish(at(wall, 400 * BIN_US));
    let mut reader = Reader::default();
    let (since, until) = (wall.offset(-1_000_000), wall.offset(10_000_000));
    read_kernel(data.path(), since, until, &mut |row| reader.take(&row)).unwrap();
    assert_eq!(reader.finish(), [Burst::clone(&burst)]);
}

/// A burst of half a second after a long silence with a word in it; and how often it was looked.
/// The shard tells of what came 3 ms after the edge of each bin, and a sleeper wakes `late_us`
/// after that.
fn burst_after_silence(sleeps: bool, late_us: u64) -> (Burst, Vec<Arc<Moment>>, usize) {
    let mut bench = Bench::new();
    let storm = (1_130..1_180).map(|bin| (bin, 100_000 + bin, 2_000));
    let coming = [(500, 200, 1)].into_iter().chain(storm);
    let at_us = |bin: u64| bin * BIN_US + 3_000;
    let coming = coming.map(|(bin, bytes, mappings)| (at_us(bin), bytes, mappings));
    let mut coming = coming.peekable();
    let (mut us, mut looks) = (0, 0);
    while us < 2_000 * BIN_US {
        let (until_us, is_asleep) = match bench.work.rest(bench.now(us)) {
            Rest::Silence(rest) if sleeps => (us + rest.as_micros() as u64, true),
            _ => (us + BIN_US - us % BIN_US, false),
        };
        let mut woken = None;
        while let Some((came_us, bytes, mappings)) = coming.next_if(|next| next.0 <= until_us) {
            assert!(bench.come(bytes, mappings, came_us), "it is worth an alarm");
            assert!(!bench.come(0, 0, came_us), "and what is not new is not");
            if is_asleep {
                woken = Some(came_us);
                break;
            }
        }
        if let Some(came_us) = woken {
            us = came_us + late_us;
            let came_us = bench.now(came_us).monotonic_us;
            bench.work.silent_until(came_us, bench.now(us));
        } else {
            us = until_us;
            bench.work.look(bench.now(us));
            looks += 1;
        }
    }
    let bursts = bench.watch.bursts();
    assert_eq!(bursts.len(), 1, "{bursts:?}");
    let burst = bench.watch.burst(bursts[0].id).unwrap();
    (Burst::clone(&burst), bench.watch.moments(), looks)
}

#[test]
fn a_burst_after_a_silence_has_its_bins_from_its_first_byte_on() {
    let (awake, moments_awake, looks_awake) = burst_after_silence(false, 0);
    assert!(looks_awake >= 2_000);
    let expected: Vec<u64> = (1_130..1_180).map(|bin| 100_000 + bin).collect();
    let of =
        |burst: &Burst| -> Vec<u64> { burst.bins.iter().map(|bin| bin.received_bytes).collect() };
    assert_eq!(of(&awake)[..50], expected);
    let (slept, moments, looks) = burst_after_silence(true, 400);
    assert_eq!(of(&slept)[..50], expected);
    assert_eq!(slept.bins, awake.bins);
    let start_us = |burst: &Burst| burst.head.start_us;
    assert!((start_us(&slept) - start_us(&awake)).abs() < 10, "{slept:?}");
    assert_eq!(slept.head.verdict, awake.head.verdict);
    assert!(slept.head.look_longest_us <= awake.head.look_longest_us);
    // A second of looks for the burst and the calm after it, and some for the rest.
    assert!(looks < 250, "{looks} looks");
    let peaks = |moments: &[Arc<Moment>]| {
        moments.iter().map(|moment| moment.peak.received_bytes).filter(|peak| *peak > 0).count()
    };
    assert_eq!((moments.len(), peaks(&moments)), (moments_awake.len(), peaks(&moments_awake)));
}

#[test]
fn a_watch_that_wakes_late_says_so_and_blames_nobody_for_its_sleep() {
    let (slept, _, _) = burst_after_silence(true, 35_000);
    assert_eq!(slept.head.received_bytes, (1_130..1_180).map(|bin| 100_000 + bin).sum::<u64>());
    assert!(slept.head.look_longest_us >= 35_000, "{:?}", slept.head);
    assert_eq!(slept.head.verdict.map(|verdict| verdict.outcome), Some(Outcome::Clean));
}
