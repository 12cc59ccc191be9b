//! The laws of states, over any story: a restart and any instant of the past, from states and
//! from the whole log.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::rig::{Rig, Routers, START, essences};
use super::*;
use crate::history::network::{Network, Writer};
use crate::history::{Unknown, UnknownCause};
use crate::mapping::RouterId;
use crate::mapping::tests::swap;
use crate::row::{Row, Scope};
use crate::time::Micros;

/// One happening.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Begin(u8, i64),
    Say(u8, u32, u32, i64),
    Snapshot(u8, u32, bool),
    Lose(u8, i64),
    /// A snapshot of which something could not be read: the label, or nobody knows what.
    Misread(u8, Option<u32>, u32),
    Miss(u8, Option<u32>, i64),
    Shift(u8),
    Ledger(u8),
    Pass(i64),
    ClockBack(i64),
    Round(i64, bool),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let number = 1..4_u8;
    prop_oneof![
        2 => (number.clone(), 0..3_i64).prop_map(|(number, boot)| Step::Begin(number, boot)),
        12 => (number.clone(), 16..24_u32, 0..4_u32, -3_000_000_000..9_000_000_000_i64)
            .prop_map(|(number, label, out, behind)| Step::Say(number, label, out, behind)),
        2 => (number.clone(), 16..26_u32, any::<bool>())
            .prop_map(|(number, labels, explicit)| Step::Snapshot(number, labels, explicit)),
        1 => (number.clone(), 0..7_200_000_000_i64)
            .prop_map(|(number, behind)| Step::Lose(number, behind)),
        1 => (number.clone(), prop::option::of(16..24_u32), 16..26_u32)
            .prop_map(|(number, label, labels)| Step::Misread(number, label, labels)),
        1 => (number.clone(), prop::option::of(16..24_u32), 0..7_200_000_000_i64)
            .prop_map(|(number, label, behind)| Step::Miss(number, label, behind)),
        1 => number.clone().prop_map(Step::Shift),
        1 => number.prop_map(Step::Ledger),
        3 => (1..5_000_000_000_i64).prop_map(Step::Pass),
        1 => (1..9_000_000_000_i64).prop_map(Step::ClockBack),
        3 => (0..3_i64, any::<bool>()).prop_map(|(hours, all)| Step::Round(hours, all)),
    ]
}

fn scope(label: Option<u32>, of_no_key: Scope) -> Scope {
    label.map_or(of_no_key, |label| Scope::Entry(swap(label, 16, 0).key()))
}

fn speaks(rig: &Rig, number: u8) -> bool {
    rig.states.contains_key(&rig::router(number))
}

pub(super) fn play(rig: &mut Rig, step: &Step) {
    match *step {
        Step::Begin(number, boot) => rig.begin(number, boot),
        Step::Say(number, label, out, behind) => {
            rig.say(number, label, if out == 0 { 0 } else { out + 100 }, behind);
        }
        Step::Snapshot(number, labels, explicit) => {
            if speaks(rig, number) {
                rig.snapshot(number, labels, explicit);
            }
        }
        Step::Misread(number, label, labels) => {
            if speaks(rig, number) {
                rig.begin_snapshot(number);
                rig.miss(number, scope(label, Scope::Rest), 0);
                rig.end_snapshot(number, labels, true);
            }
        }
        Step::Miss(number, label, behind) => {
            rig.miss(number, scope(label, Scope::Router), behind);
        }
        Step::Lose(number, behind) => rig.lose(number, behind),
        Step::Shift(number) => rig.shift(number),
        Step::Ledger(number) => {
            if speaks(rig, number) {
                rig.ledger(number);
            }
        }
        Step::Pass(us) => rig.time = rig.time.offset(us),
        Step::ClockBack(us) => {
            rig.time = rig.time.offset(-us);
            rig.look();
        }
        Step::Round(hours, all) => {
            let before = crate::time::Hour(rig.time.hour().0 + hours - 1);
            let rows_min = if all { 1 } else { 6 };
            rig.round(before, &RoundLimits { rows_min, ..EVERYTHING });
        }
    }
}

/// All rows of the log, for the answers of the past.
fn rows(rig: &Rig) -> Vec<Row> {
    let mut rows = Vec::new();
    crate::log::read(rig.data(), &Default::default(), &mut |row| rows.push(row)).unwrap();
    rows
}

/// Routers that are unknown because the collector's clock was ahead.
fn doubted(network: &Network) -> BTreeSet<RouterId> {
    let by_clock = |unknown: Unknown| unknown.cause == UnknownCause::CollectorClock;
    let routers = network.routers();
    let meant = routers.filter(|(_, router)| router.standing().unknown().is_some_and(by_clock));
    meant.map(|(id, _)| id).collect()
}

pub(super) fn tables(network: &Network) -> Vec<String> {
    tables_but(network, &BTreeSet::new())
}

fn tables_but(network: &Network, left_out: &BTreeSet<RouterId>) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, router) in network.routers().filter(|(id, _)| !left_out.contains(id)) {
        lines.push(format!("{id} {:?} {:?}", router.standing(), router.unwatched));
        lines.extend(router.table().into_iter().map(|entry| format!("{entry:?}")));
        let state = &router.state;
        lines.push(format!("{:?} {:?} {:?}", state.session, state.ended, state.complete));
        lines.push(format!("{:?} {:?}", state.gaps, state.interfaces_announced));
        lines.push(format!("{:?} {:?}", state.skew_us, router.standing_of_the_rest()));
    }
    lines
}

fn routers_of(rig: &Rig) -> Routers {
    fold_whole_log(rig.data()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Sessions, snapshots, late rows, moves between shards and clocks that are set back, with
    /// rounds in between: a restart from states is a restart from the whole log.
    #[test]
    fn a_restart_from_states_finds_what_the_whole_log_says(
        steps in proptest::collection::vec(step(), 1..90),
    ) {
        let mut rig = Rig::new();
        for step in &steps {
            play(&mut rig, step);
        }
        let (found, report) = rig.open();
        prop_assert_eq!(&report.damages, &[]);
        prop_assert_eq!(essences(&found), essences(&routers_of(&rig)));
        prop_assert_eq!(essences(&found), essences(&rig.states));
    }

    /// The same of any instant: from the states of that time, as from all rows.
    #[test]
    fn an_instant_from_states_is_what_the_whole_log_says(
        steps in proptest::collection::vec(step(), 1..90),
        instants in proptest::collection::vec(0.0..1.0_f64, 4),
    ) {
        let mut rig = Rig::new();
        let mut last = rig.time;
        for step in &steps {
            play(&mut rig, step);
            last = last.max(rig.time);
        }
        let rows = rows(&rig);
        for share in instants {
            let span = last.since(START) + 4_000_000_000;
            let at = Micros(START.0 - 2_000_000_000 + (span as f64 * share) as i64);
            let expected = Network::of_rows(&rows, at, Writer::Gone);
            let (found, _) = Network::as_of(rig.data(), at, None, None).unwrap();
            // Whoever sees all rows may doubt the collector's clock where a reader that goes no
            // further than the instant has met nothing that is doubtful, and the other way round.
            let doubted: BTreeSet<RouterId> =
                doubted(&expected).union(&doubted(&found)).copied().collect();
            prop_assert_eq!(
                tables_but(&found, &doubted),
                tables_but(&expected, &doubted),
                "at {}", at
            );
            let only: RouterId = rig::router(1);
            if !doubted.contains(&only) {
                let (found, _) = Network::as_of(rig.data(), at, Some(only), None).unwrap();
                if self::doubted(&found).contains(&only) {
                    continue;
                }
                let alone = |network: &Network| network.router(only).map(|it| it.table());
                prop_assert_eq!(alone(&found), alone(&expected), "at {}", at);
            }
        }
    }
}

/// Blocks and bytes that a question about one router at an instant reads, and one about all.
fn cost(rig: &Rig, at: Micros) -> (u64, u64) {
    let mut most = (0, 0);
    for only in [None, Some(rig::router(1)), Some(rig::router(2))] {
        let (_, report) = Network::as_of(rig.data(), at, only, None).unwrap();
        most = (report.blocks.max(most.0), report.bytes.max(most.1));
    }
    most
}

/// A question about an instant reads as much after a month as after two days, whether the instant
/// is an hour or a month ago.
#[test]
fn history_does_not_get_slower_with_age() {
    let limits = RoundLimits { rows_min: 100, ..RoundLimits::default() };
    let mut rig = Rig::new();
    rig.table_of(1, 60);
    rig.table_of(2, 60);
    let mut early = Vec::new();
    for hour in 1..=30 * 24_i64 {
        rig.quiet_hour();
        rig.change_of(2);
        rig.round(rig.time.hour(), &limits);
        if hour % 96 == 47 {
            let ago = |hours: i64| rig.time.offset(-hours * crate::time::MICROS_PER_HOUR);
            for at in [START.offset(30 * crate::time::MICROS_PER_HOUR), ago(1), ago(20)] {
                early.push((hour, cost(&rig, at)));
            }
        }
    }
    let of_hour = |hour: i64| early.iter().filter(move |(then, _)| *then == hour);
    let young = of_hour(47)
        .map(|(_, cost)| *cost)
        .fold((0, 0), |one, two| (u64::max(one.0, two.0), u64::max(one.1, two.1)));
    // A day of log at the instant, and a day at the end: who is connected now.
    assert!(young.0 <= 4 * 26, "{young:?}");
    for (hour, (blocks, bytes)) in &early {
        assert!(*blocks <= 4 * 26, "after {hour} hours: {blocks} blocks");
        // Every log file has its line in the directory.
        let directory = 4 * 16 * hour.unsigned_abs();
        assert!(*bytes <= young.1 + young.1 / 4 + directory, "after {hour} hours: {bytes} bytes");
    }
}
