//! Retention: what is kept answers as if nothing had gone, and what is gone answers unknown.

use super::rig::{Rig, START, essences, router};
use super::*;
use crate::history::events::{Event, Question, Selector, events};
use crate::history::network::{Network, RouterAsOf};
use crate::history::{Standing, UnknownCause};
use crate::log::layout::KERNEL_SHARD;
use crate::log::{LogFile, kernel_block, kernel_files, log_files, log_path};
use crate::row::{KernelRow, Reason};
use crate::time::{Hour, MICROS_PER_HOUR};

/// Two collectors that live through the same: one keeps everything, one what it is told to keep.
struct Twins {
    all: Rig,
    some: Rig,
    limits: RoundLimits,
}

impl Twins {
    fn new(retain: Retain) -> Twins {
        let limits = RoundLimits { rows_min: 40, memory_bytes: 1, retain };
        Twins { all: Rig::new(), some: Rig::new(), limits }
    }

    fn hours(&mut self, hours: u32) {
        for hour in 0..hours {
            for rig in [&mut self.all, &mut self.some] {
                match hour % 12 {
                    0 => rig.busy_hours(1),
                    7 => {
                        rig.lose(1, 30_000_000);
                        rig.pass_hours(1);
                    }
                    _ => rig.quiet_hour(),
                }
            }
            self.keep_kernel();
            self.round();
        }
    }

    /// What the kernel said lies beside the rows of the hour and goes with them.
    fn keep_kernel(&self) {
        let time = self.some.time;
        let path = log_path(self.some.data(), time.hour(), KERNEL_SHARD);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let row = KernelRow { time, counter: "TcpExt.PruneCalled".into(), value: 1 };
        std::fs::write(path, kernel_block(&[row])).unwrap();
    }

    fn round(&mut self) {
        self.limits.retain.before = self.some.time.hour();
        self.some.round(self.some.time.hour(), &self.limits);
    }

    fn horizon(&self) -> Hour {
        States::open(self.some.data()).unwrap().newest().unwrap().horizon
    }

    fn kept_hours(&self) -> usize {
        std::fs::read_dir(self.some.data().join("log")).unwrap().count()
    }
}

fn lines(network: &Network) -> Vec<String> {
    let line = |router: &RouterAsOf| {
        format!("{:?} {:?} {:?}", router.standing(), router.table(), router.state.gaps.keys)
    };
    network.routers().map(|(_, router)| line(router)).collect()
}

#[test]
fn what_is_kept_answers_as_if_nothing_had_gone() {
    let mut twins = Twins::new(Retain { before: Hour(0), hours: 30, bytes: 0 });
    twins.hours(24 * 6);
    assert!((30..=30 + 25).contains(&twins.kept_hours()), "{} hours", twins.kept_hours());
    let horizon = twins.horizon();
    let (found, report) = twins.some.open();
    assert!(report.damages.is_empty());
    assert_eq!(essences(&found), essences(&twins.some.states));
    assert_eq!(essences(&found), essences(&twins.all.states));
    for part in 0..40 {
        let at = horizon.start().offset(part * MICROS_PER_HOUR * 3 / 4);
        let (found, _) = Network::as_of(twins.some.data(), at, None, None).unwrap();
        let (due, _) = Network::as_of(twins.all.data(), at, None, None).unwrap();
        assert_eq!(lines(&found), lines(&due), "at {at}");
        let since = Some(at);
        let question = |number| Question {
            router: router(number),
            selector: Selector::All,
            since,
            until: None,
        };
        for number in 1..=3 {
            let (found, _) = events(twins.some.data(), &question(number), None).unwrap();
            let (due, _) = events(twins.all.data(), &question(number), None).unwrap();
            assert_eq!(times(&found), times(&due), "since {at}");
        }
    }
}

/// A gap that began before the state that a reader begins with has lost its place, not itself.
fn times(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| match event {
        Event::Change(change) => format!("{change:?}"),
        Event::Gap(gap) => {
            format!("{:?} {:?} {:?} {:?}", gap.start, gap.end, gap.scope, gap.reason)
        }
    };
    events.iter().map(text).collect()
}

#[test]
fn what_is_gone_answers_unknown() {
    let mut twins = Twins::new(Retain { before: Hour(0), hours: 30, bytes: 0 });
    twins.hours(24 * 3);
    let before = twins.horizon().start().offset(-1);
    let (network, _) = Network::as_of(twins.some.data(), before, None, None).unwrap();
    assert_eq!(network.routers().count(), 3);
    for (id, router) in network.routers() {
        let Standing::Unknown(unknown) = router.standing() else { panic!("{id} is vouched for") };
        assert_eq!(unknown.cause, UnknownCause::RouterGap(Reason::NotRetained));
        assert_eq!((unknown.since, router.table().len()), (None, 0));
    }
    let question = Question {
        router: router(1),
        selector: Selector::All,
        since: Some(START),
        until: Some(twins.some.time),
    };
    let (events, _) = events(twins.some.data(), &question, None).unwrap();
    let Some(Event::Gap(gap)) = events.first() else { panic!("{events:?}") };
    assert_eq!(gap.reason, Reason::NotRetained);
    assert_eq!(gap.end, Some(twins.horizon().start()));
}

#[test]
fn bytes_are_kept_to_their_bound_and_the_open_hour_stays() {
    let bytes = 60_000;
    let mut twins = Twins::new(Retain { before: Hour(0), hours: 0, bytes });
    twins.hours(24 * 8);
    let (data, length) = (twins.some.data(), |file: &LogFile| file.length);
    let sum: u64 =
        log_files(data).unwrap().iter().chain(&kernel_files(data).unwrap()).map(length).sum();
    assert!(sum <= bytes, "{sum} bytes of log");
    assert_eq!(essences(&twins.some.open().0), essences(&twins.all.states));
    // So little that not even one hour fits: states are hurried, what is in none of them stays.
    twins.limits.retain.bytes = 1;
    twins.hours(3);
    assert!(twins.kept_hours() <= 3, "{} hours", twins.kept_hours());
    assert_eq!(essences(&twins.some.open().0), essences(&twins.all.states));
}

/// Rows that are in no state yet get one before they go.
#[test]
fn no_row_goes_before_a_state_has_it() {
    let mut twins = Twins::new(Retain { before: Hour(0), hours: 2, bytes: 0 });
    twins.limits.rows_min = 1_000_000;
    twins.hours(30);
    assert!((2..=2 + 25).contains(&twins.kept_hours()), "{} hours", twins.kept_hours());
    assert!(twins.kept_hours() < 30);
    assert_eq!(essences(&twins.some.open().0), essences(&twins.all.states));
}

/// A crash after the directory and before the files: they count no more, and the next round
/// removes them.
#[test]
fn a_crash_while_hours_go_loses_nothing() {
    let mut twins = Twins::new(Retain { before: Hour(0), hours: 5, bytes: 0 });
    twins.hours(48);
    let gone = crate::log::log_path(twins.some.data(), START.hour(), 0);
    let original = crate::log::log_path(twins.all.data(), START.hour(), 0);
    std::fs::create_dir_all(gone.parent().unwrap()).unwrap();
    std::fs::copy(original, &gone).unwrap();
    // What starts have left beside a log file goes with it.
    for beside in ["shard-0.log.1.cut", "shard-0.log.reopened", "kernel.log.2.cut"] {
        std::fs::write(gone.with_file_name(beside), "cut").unwrap();
    }
    assert_eq!(essences(&twins.some.open().0), essences(&twins.all.states));
    twins.hours(1);
    assert!(!gone.parent().unwrap().exists());
    assert_eq!(essences(&twins.some.open().0), essences(&twins.all.states));
}

/// State files go too: what remains does not grow with age.
#[test]
fn old_state_files_go() {
    let mut twins = Twins::new(Retain { before: Hour(0), hours: 24, bytes: 0 });
    let mut counts = Vec::new();
    for _ in 0..6 {
        twins.hours(48);
        counts.push(chain::state_files(twins.some.data()).unwrap().len());
    }
    assert!(counts.iter().all(|count| *count <= 24 + 50 + 7 * 24), "{counts:?}");
    assert!(counts[5] <= counts[3] + 24, "{counts:?}");
}
