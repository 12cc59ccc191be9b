//! Questions that read only what they need, within what they may take: they answer as one that
//! reads everything.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::laws::{play, step, tables};
use super::rig::{self, Rig, START};
use crate::allowance::Allowance;
use crate::history::events::{Question, Selector, events};
use crate::history::explore::Explorer;
use crate::history::network::{self, Network};
use crate::history::walk::{self, Follow, Start};
use crate::log::LogError;
use crate::mapping::{Label, RouterId};
use crate::time::Micros;

fn label(value: u32) -> Start {
    Start::Label { label: Label::new(value).unwrap(), table: 0 }
}

/// Every walk, and then every table, of an explorer is that of the whole network.
fn assert_explored(rig: &Rig, at: Micros) {
    let (whole, whole_report) = Network::as_of(rig.data(), at, None, None).unwrap();
    for (head, value) in (1..5_u8).flat_map(|head| (16..20).map(move |value| (head, value))) {
        let mut explorer = Explorer::open(rig.data(), at, None).unwrap();
        let (head, start) = (rig::router(head), label(value));
        let walked = explorer.trace(head, start, Follow::Primaries).unwrap();
        assert_eq!(
            walked,
            walk::trace(&whole, head, start, Follow::Primaries),
            "from {head} at {at}"
        );
    }
    let mut explorer = Explorer::open(rig.data(), at, None).unwrap();
    assert_eq!(explorer.names(), &network::names(rig.data(), None).unwrap());
    let all: BTreeSet<RouterId> = explorer.names().keys().copied().collect();
    // One by one, and then the rest together.
    explorer.read(&all.iter().copied().take(1).collect()).unwrap();
    explorer.read(&all.iter().copied().skip(1).collect()).unwrap();
    assert_eq!(tables(explorer.network()), tables(&whole), "at {at}");
    let damages = |report: &crate::log::ReadReport| report.damages.len();
    assert_eq!(damages(explorer.report()), damages(&whole_report));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_read_on_the_way_is_what_the_whole_network_says(
        steps in proptest::collection::vec(step(), 1..60),
        instants in proptest::collection::vec(0.0..1.0_f64, 2),
    ) {
        let mut rig = Rig::new();
        let mut last = rig.time;
        for step in &steps {
            play(&mut rig, step);
            last = last.max(rig.time);
        }
        for share in instants {
            let span = last.since(START) + 4_000_000_000;
            let at = Micros(START.0 - 2_000_000_000 + (span as f64 * share) as i64);
            assert_explored(&rig, at);
        }
    }
}

#[test]
fn damage_on_the_way_casts_the_same_doubt() {
    let mut rig = Rig::new();
    rig.busy_hours(2);
    rig.break_a_block(3);
    let (whole, report) = Network::as_of(rig.data(), rig.time, None, None).unwrap();
    assert_eq!(report.damages.len(), 1);
    assert!(tables(&whole).iter().any(|line| line.contains("LogDamaged")), "{:?}", tables(&whole));
    assert_explored(&rig, rig.time);
}

/// One large router, one small.
fn uneven() -> Rig {
    let mut rig = Rig::new();
    rig.table_of(1, 4_000);
    rig.table_of(2, 20);
    rig
}

#[test]
fn no_question_holds_more_than_it_may() {
    let rig = uneven();
    let at = rig.time;
    let whole = |allowance: &Allowance| Network::as_of(rig.data(), at, None, Some(allowance));
    let allowance = Allowance::unbounded();
    let (network, _) = whole(&allowance).unwrap();
    let tables: usize = network.routers().map(|(_, router)| router.state.table.bytes()).sum();
    assert!(tables > 4_000 * 16 && allowance.held_bytes() >= tables as u64, "{allowance:?}");
    drop(network);
    assert_eq!(allowance.held_bytes(), 0, "what goes is given back");
    let needed = allowance.high_bytes();
    // Beside it what a block may turn out to hold.
    assert!(whole(&Allowance::new(needed + (64 << 10))).is_ok());
    for part in [2, 4, 16] {
        let allowance = Allowance::new(needed / part);
        let error = whole(&allowance).unwrap_err();
        let LogError::TooLarge { needed_bytes, bytes_max } = error else { panic!("{error}") };
        assert!(needed_bytes > bytes_max && bytes_max == needed / part, "{error}");
        // No further than the rows of one block, which are few here, and a table that grows.
        assert!(allowance.high_bytes() <= bytes_max + tables as u64 / 2, "{allowance:?}");
        assert_eq!(allowance.held_bytes(), 0);
    }
}

#[test]
fn a_question_pays_for_what_it_meets() {
    let rig = uneven();
    let walk = |head: u8, allowance: &Allowance| {
        let mut explorer = Explorer::open(rig.data(), rig.time, Some(allowance))?;
        explorer.trace(rig::router(head), label(16), Follow::Primaries)
    };
    let small = Allowance::unbounded();
    walk(2, &small).unwrap();
    let large = Allowance::unbounded();
    walk(1, &large).unwrap();
    assert!(large.high_bytes() > 3 * small.high_bytes(), "{large:?} {small:?}");
    let enough = || Allowance::new(2 * small.high_bytes());
    assert!(walk(2, &enough()).is_ok());
    assert!(matches!(walk(1, &enough()), Err(LogError::TooLarge { .. })));
    assert_eq!((small.held_bytes(), large.held_bytes()), (0, 0));
    // The same of the changes of a router.
    let changes = |number: u8, allowance: &Allowance| {
        let (router, selector) = (rig::router(number), Selector::All);
        let question = Question { router, selector, since: None, until: None };
        events(rig.data(), &question, Some(allowance)).map(|(events, _)| events.len())
    };
    assert_eq!(changes(1, &Allowance::unbounded()).unwrap(), 4_001, "and a gap");
    assert!(matches!(changes(1, &Allowance::new(200_000)), Err(LogError::TooLarge { .. })));
    assert_eq!(changes(2, &Allowance::new(200_000)).unwrap(), 21);
}

#[test]
fn states_are_counted_as_rows_are() {
    let mut rig = uneven();
    rig.pass_hours(1);
    rig.round(rig.time.hour(), &super::EVERYTHING).unwrap();
    rig.change_of(2);
    let allowance = Allowance::unbounded();
    let (network, report) = Network::as_of(rig.data(), rig.time, None, Some(&allowance)).unwrap();
    assert_eq!(report.states, 2);
    let tables: usize = network.routers().map(|(_, router)| router.state.table.bytes()).sum();
    assert!(allowance.held_bytes() >= tables as u64, "{allowance:?} for {tables}");
    drop(network);
    assert_eq!(allowance.held_bytes(), 0);
    let less = Allowance::new(allowance.high_bytes() / 2);
    assert!(Network::as_of(rig.data(), rig.time, None, Some(&less)).is_err());
    assert_explored(&rig, rig.time);
}

#[test]
fn nobody_reads_for_nobody() {
    let rig = uneven();
    let allowance = Allowance::unbounded();
    allowance.end();
    let network = Network::as_of(rig.data(), rig.time, None, Some(&allowance));
    assert!(matches!(network, Err(LogError::NobodyWaits)));
    assert!(matches!(
        Explorer::open(rig.data(), rig.time, Some(&allowance)),
        Err(LogError::NobodyWaits)
    ));
}
