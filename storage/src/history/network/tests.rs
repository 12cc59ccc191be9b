//! Tests of the network as of an instant: through the log and of rows at hand.
//!
//! In:   rows of one or two routers, written to a data folder or not.
//! Out:  tables and standings as of instants before, in and behind what the rows say.
//! Law:  late is not lost; unknown is an answer.
//! Not:  walks (`walk::tests`).

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::log::{BlockBuilder, log_path};
use crate::mapping::{Label, Operation, Origin};
use crate::row::{Basis, Change, InputMode, LedgerRow, Scope};
use crate::table::{Applied, Arrival};
use crate::time::{Hour, MICROS_PER_HOUR};

const BASE: Micros = Micros(1_795_000_000_000_000);

fn at(offset_us: i64) -> Micros {
    BASE.offset(offset_us)
}

fn router() -> RouterId {
    "192.0.2.1".parse().unwrap()
}

fn swap(label: u32, out: u32, event_us: i64) -> Mapping {
    crate::mapping::tests::swap(label, out, at(event_us).0)
}

fn key(label: u32) -> Key {
    Key::Ilm(Label::new(label).unwrap(), Origin::Platform)
}

struct Live {
    state: RouterState,
    rows: Vec<Row>,
}

impl Live {
    fn new() -> Live {
        let mut live = Live { state: RouterState::new(router()), rows: Vec::new() };
        live.begin(0);
        live
    }

    fn begin(&mut self, time_us: i64) {
        let peer: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let event = SessionEvent::Initiation {
            peer,
            mode: InputMode::Framed,
            permanent: true,
            boot_time: None,
            clock: None,
            interfaces: Vec::new(),
            agent: Box::default(),
        };
        self.event(time_us, event);
    }

    fn event(&mut self, time_us: i64, event: SessionEvent) {
        let row = self.state.session_row(at(time_us), event);
        self.rows.push(Row::Session(row));
    }

    /// Collected at `time_us`; its event time is the mapping's own.
    fn say(&mut self, time_us: i64, mapping: &Mapping) {
        let position = self.state.next_position();
        let arrival = Arrival { position, collection_time: at(time_us), basis: Basis::Live };
        if let Applied::Change(stamp) = self.state.apply(mapping, &arrival) {
            self.rows.push(Row::Change(Change { stamp, mapping: mapping.clone() }));
        }
    }

    fn complete(&mut self, time_us: i64, explicit: bool) {
        let rows = &mut self.rows;
        let mut on_change = |stamp: &crate::row::Stamp, mapping: &Mapping| {
            rows.push(Row::Change(Change { stamp: *stamp, mapping: mapping.clone() }));
        };
        let row = self.state.complete_snapshot(explicit, at(time_us), &mut on_change);
        self.rows.push(Row::Session(row));
    }

    fn lose(&mut self, time_us: i64, start_us: i64) {
        let reason = Reason::ConnectionLost;
        self.event(
            time_us,
            SessionEvent::Gap { start: at(start_us), scope: Scope::Router, reason },
        );
        self.event(time_us, SessionEvent::Termination { reason });
    }

    fn as_of(&self, time_us: i64) -> RouterAsOf {
        let network = Network::of_rows(&self.rows, at(time_us), Writer::Present);
        network.router(router()).unwrap().clone()
    }
}

/// Writes rows as blocks of three, each in the hour of its own collection.
fn write(data: &Path, rows: &[(Hour, u16, Row)]) {
    for chunk in rows.chunk_by(|one, two| (one.0, one.1) == (two.0, two.1)) {
        let (hour, shard, _) = &chunk[0];
        let path = log_path(data, *hour, *shard);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap_or_default();
        for rows in chunk.chunks(3) {
            let mut builder = BlockBuilder::new(*shard);
            for (_, _, row) in rows {
                match row {
                    Row::Change(change) => builder.change(&change.stamp, &change.mapping),
                    Row::Session(session) => builder.session(session),
                    Row::Ledger(ledger) => builder.ledger(ledger),
                    Row::Kernel(kernel) => builder.kernel(kernel),
                }
            }
            builder.finish(&mut bytes);
        }
        std::fs::write(&path, bytes).unwrap();
    }
}

fn shown(router: &RouterAsOf) -> Vec<(Key, Mapping, Micros, Standing)> {
    let entries = router.table().into_iter();
    entries.map(|entry| (entry.key, entry.mapping, entry.active_since, entry.standing)).collect()
}

#[test]
fn late_is_not_lost() {
    let data = tempfile::tempdir().unwrap();
    let mut live = Live::new();
    live.say(10, &swap(100, 200, 5));
    live.complete(11, true);
    // The router reconverges and tells two hours later what it did at 1,000.
    live.say(2 * MICROS_PER_HOUR, &swap(100, 201, 1_000));
    let late = at(2 * MICROS_PER_HOUR).hour();
    let rows: Vec<(Hour, u16, Row)> = live
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| (if index == 3 { late } else { BASE.hour() }, 0, row.clone()))
        .collect();
    assert_eq!(rows.len(), 4);
    write(data.path(), &rows);
    let out_label = |time_us: i64| {
        let (network, report) =
            Network::as_of(data.path(), at(time_us), Some(router()), None).unwrap();
        assert!(report.damages.is_empty());
        let entry = network.router(router()).unwrap().table().remove(0);
        (entry.mapping.branches[0].stack[0].value(), entry.active_since)
    };
    assert_eq!(out_label(999), (200, at(5)));
    assert_eq!(out_label(1_000), (201, at(1_000)));
    assert_eq!(out_label(3 * MICROS_PER_HOUR), (201, at(1_000)));
}

#[test]
fn unknown_is_an_answer() {
    let mut live = Live::new();
    live.say(10, &swap(100, 200, 5));
    live.complete(20, true);
    // Silent since 30, noticed at 90; back at 120, its table complete at 150.
    live.say(30, &swap(101, 200, 30));
    live.lose(90, 30);
    live.begin(120);
    live.state.begin_snapshot();
    live.event(121, SessionEvent::SnapshotBegin);
    live.say(130, &swap(100, 200, 120));
    live.complete(150, true);
    let unknown = |time_us: i64| live.as_of(time_us).standing_of(&key(100)).unknown();
    assert_eq!(unknown(29), None);
    let cause = UnknownCause::RouterGap(Reason::ConnectionLost);
    for time_us in [30, 60, 90, 119, 125, 149] {
        let expected = Some(Unknown { cause, since: Some(at(30)) });
        assert_eq!(unknown(time_us), expected, "at {time_us}");
        let table = live.as_of(time_us).table();
        assert!(table.iter().all(|entry| entry.standing.unknown() == expected), "at {time_us}");
    }
    assert_eq!(unknown(150), None);
    assert_eq!(live.as_of(150).table().len(), 1, "101 was swept");
    // What was confirmed has been active since it always was.
    assert_eq!(live.as_of(150).table()[0].active_since, at(5));
    let never = Network::of_rows(&live.rows, at(-1), Writer::Present);
    let standing = never.router(router()).unwrap().standing();
    assert_eq!(standing.unknown().map(|one| one.cause), Some(UnknownCause::NeverHeard));
}

#[test]
fn unconfirmed_entries_are_unknown_and_others_are_not() {
    let mut live = Live::new();
    live.say(10, &swap(100, 200, 5));
    live.say(10, &swap(101, 200, 5));
    live.complete(20, true);
    live.state.begin_snapshot();
    live.event(30, SessionEvent::SnapshotBegin);
    live.say(31, &swap(100, 200, 31));
    live.complete(40, false);
    let router = live.as_of(50);
    assert_eq!(router.standing_of(&key(100)), Standing::Vouched);
    let unknown = Unknown { cause: UnknownCause::Unconfirmed, since: Some(at(40)) };
    assert_eq!(router.standing_of(&key(101)), Standing::Unknown(unknown));
    assert_eq!(live.as_of(39).standing_of(&key(101)), Standing::Vouched);
}

#[test]
fn a_collector_that_is_gone_vouches_for_nothing_after_its_last_word() {
    let mut live = Live::new();
    live.say(10, &swap(100, 200, 5));
    live.complete(20, true);
    let standing = |time_us: i64, writer: Writer| {
        let network = Network::of_rows(&live.rows, at(time_us), writer);
        network.router(router()).unwrap().standing()
    };
    assert_eq!(standing(1_000, Writer::Present), Standing::Vouched);
    assert_eq!(standing(19, Writer::Gone), Standing::Vouched);
    let cause = UnknownCause::RouterGap(Reason::CollectorLost);
    let unknown = Unknown { cause, since: Some(at(20)) };
    assert_eq!(standing(1_000, Writer::Gone), Standing::Unknown(unknown));
}

#[test]
fn the_lock_and_the_books_say_how_long_a_collector_was_there() {
    let data = tempfile::tempdir().unwrap();
    let lock = log::lock(data.path()).unwrap();
    assert_eq!(Writer::of(data.path()), Writer::Present);
    // Removing the file takes nothing from whoever holds the folder.
    std::fs::remove_file(data.path().join(log::layout::LOCK_FILE)).unwrap();
    assert_eq!(Writer::of(data.path()), Writer::Present);
    drop(lock);
    assert_eq!(Writer::of(data.path()), Writer::Gone);
    let mut live = Live::new();
    live.say(10, &swap(100, 200, 5));
    live.complete(20, true);
    live.say(500, &swap(101, 200, 500));
    // The books of a block say that bytes came, also to a reader who skips its changes.
    live.rows.push(Row::Ledger(LedgerRow {
        router: Some(router()),
        generation: 1,
        time: at(500),
        sequence_last: 0,
        bytes_read: 300,
        bytes_framed: 300,
        mappings_framed: 1,
        changes: 1,
        confirmed: 0,
        duplicates: 0,
        derived: 0,
        rejected: Vec::new(),
    }));
    let rows: Vec<(Hour, u16, Row)> =
        live.rows.iter().map(|row| (BASE.hour(), 0, row.clone())).collect();
    write(data.path(), &rows);
    let standing = |time_us: i64| {
        let (network, _) = Network::as_of(data.path(), at(time_us), None, None).unwrap();
        network.router(router()).unwrap().standing()
    };
    assert_eq!(standing(300), Standing::Vouched);
    assert_eq!(standing(499), Standing::Vouched);
    assert_eq!(standing(500).unknown().and_then(|one| one.since), Some(at(500)));
}

#[test]
fn readers_that_look_keep_no_collector_from_starting() {
    let data = tempfile::tempdir().unwrap();
    drop(log::lock(data.path()).unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let look = || {
            let mut looks = 0;
            while !done.load(order) {
                Writer::of(data.path());
                looks += 1;
            }
            looks
        };
        let readers = [scope.spawn(look), scope.spawn(look)];
        let refused = (0..500).filter(|_| log::lock(data.path()).is_err()).count();
        done.store(true, order);
        let looks: u64 = readers.map(|reader| reader.join().unwrap()).iter().sum();
        assert_eq!(refused, 0, "readers looked {looks} times");
    });
}

#[test]
fn an_address_that_several_routers_claim_is_nobodys() {
    let mut rows = Vec::new();
    let mut configure = |id: &str, name: &str, addresses: &[&str], time_us: i64| {
        let mut state = RouterState::new(id.parse().unwrap());
        let of = |text: &&str| Interface::of_address(text.parse().unwrap());
        let interfaces = addresses.iter().map(of).collect();
        let event = SessionEvent::Configured { name: name.into(), interfaces };
        rows.push(Row::Session(state.session_row(at(time_us), event)));
    };
    configure("10.0.0.1", "paris", &["10.0.0.2", "10.1.0.1"], 0);
    configure("10.0.0.2", "lyon", &["10.1.0.1", "10.1.0.2"], 100);
    let network = Network::of_rows(&rows, at(50), Writer::Present);
    let owner = |address: &str| network.owner(address.parse().unwrap()).map(|id| id.to_string());
    assert_eq!(owner("10.0.0.1").as_deref(), Some("10.0.0.1"));
    // One by its id, the other by the settings.
    assert_eq!(owner("10.0.0.2"), None);
    assert_eq!(owner("10.1.0.1"), None);
    // Settings that came later are better than none.
    assert_eq!(owner("10.1.0.2").as_deref(), Some("10.0.0.2"));
    assert_eq!(owner("10.1.0.3"), None);
    assert_eq!(network.find("lyon"), Some("10.0.0.2".parse().unwrap()));
    assert_eq!(network.find("10.0.0.1"), Some("10.0.0.1".parse().unwrap()));
    assert_eq!(network.find("rome"), None);
}

#[derive(Clone, Debug)]
enum Action {
    Say { label: u32, out: u32, late_us: i64 },
    Withdraw { label: u32 },
    Lose,
    Snapshot { labels: Vec<u32>, explicit: bool },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (100..104_u32, 200..203_u32, 0..30_i64)
            .prop_map(|(label, out, late_us)| Action::Say { label, out, late_us }),
        2 => (100..104_u32).prop_map(|label| Action::Withdraw { label }),
        1 => Just(Action::Lose),
        2 => (prop::collection::vec(100..104_u32, 0..4), any::<bool>())
            .prop_map(|(labels, explicit)| Action::Snapshot { labels, explicit }),
    ];
    prop::collection::vec(action, 1..40)
}

fn play(actions: &[Action]) -> Live {
    let mut live = Live::new();
    for (index, action) in actions.iter().enumerate() {
        let now_us = (index as i64 + 1) * 10;
        match action {
            Action::Say { label, out, late_us } => {
                live.say(now_us, &swap(*label, *out, now_us - late_us));
            }
            Action::Withdraw { label } => {
                let mut gone = swap(*label, 200, now_us);
                gone.operation = Operation::None;
                gone.branches.clear();
                live.say(now_us, &gone);
            }
            Action::Lose => {
                live.lose(now_us, now_us - 3);
                live.begin(now_us + 1);
            }
            Action::Snapshot { labels, explicit } => {
                live.state.begin_snapshot();
                live.event(now_us, SessionEvent::SnapshotBegin);
                labels.iter().for_each(|label| live.say(now_us, &swap(*label, 200, now_us)));
                live.complete(now_us + 5, *explicit);
            }
        }
    }
    live
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The log may split rows over hours and shards as it likes.
    #[test]
    fn as_of_does_not_depend_on_the_files(
        actions in actions(),
        shards in prop::collection::vec(0..2_u16, 400),
        hours in prop::collection::vec(0..2_i64, 400),
        time_us in 0..420_i64,
    ) {
        let live = play(&actions);
        let data = tempfile::tempdir().unwrap();
        let placed: Vec<(Hour, u16, Row)> = live
            .rows
            .iter()
            .zip(shards.iter().zip(&hours))
            .map(|(row, (shard, hour))| (Hour(BASE.hour().0 + hour), *shard, row.clone()))
            .collect();
        prop_assert_eq!(placed.len(), live.rows.len());
        write(data.path(), &placed);
        let _writer = log::lock(data.path()).unwrap();
        let (network, _) = Network::as_of(data.path(), at(time_us), None, None).unwrap();
        let read = network.router(router()).map(shown);
        let of_rows = Network::of_rows(&live.rows, at(time_us), Writer::Present);
        prop_assert_eq!(read, of_rows.router(router()).map(shown));
    }

    /// At the end of the log the past is the present.
    #[test]
    fn as_of_the_end_is_the_live_state(actions in actions()) {
        let live = play(&actions);
        let router = live.as_of(1_000_000);
        let mut expected: Vec<(Key, Mapping, Micros)> = live
            .state
            .table
            .iter()
            .map(|entry| (entry.key(), entry.mapping(), entry.active_since()))
            .collect();
        expected.sort_by_key(|entry| entry.0);
        let found: Vec<(Key, Mapping, Micros)> =
            shown(&router).into_iter().map(|entry| (entry.0, entry.1, entry.2)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(router.state.gaps.router, live.state.gaps.router);
        prop_assert_eq!(&router.state.gaps.keys, &live.state.gaps.keys);
    }
}

#[test]
fn a_change_dated_before_the_one_before_it_happened_between_that_and_its_reading() {
    let mut live = Live::new();
    live.say(100, &swap(100, 200, 100));
    live.complete(101, true);
    // The clock was set back.
    live.say(3_000, &swap(100, 201, 50));
    let unknown = Unknown { cause: UnknownCause::TimeDisputed, since: Some(at(101)) };
    assert_eq!(live.as_of(100).standing_of(&key(100)), Standing::Vouched);
    assert_eq!(live.as_of(2_999).standing_of(&key(100)), Standing::Unknown(unknown));
    assert_eq!(live.as_of(3_000).standing_of(&key(100)), Standing::Vouched);
    // Told of the very instant of the change before, it contradicts nothing.
    live.say(4_000, &swap(100, 202, 3_500));
    live.say(4_001, &swap(100, 203, 3_500));
    assert_eq!(live.as_of(3_500).standing_of(&key(100)), Standing::Vouched);
    // Set back between two changes of which no snapshot says anything.
    live.say(4_002, &swap(100, 204, 3_400));
    let unknown = Unknown { cause: UnknownCause::TimeDisputed, since: Some(at(3_500)) };
    assert_eq!(live.as_of(4_001).standing_of(&key(100)), Standing::Unknown(unknown));
    assert_eq!(live.as_of(4_002).standing_of(&key(100)), Standing::Vouched);
}

#[test]
fn a_ledger_row_is_evidence_only_of_what_was_read_whole() {
    let mut live = Live::new();
    let ledger = |time_us: i64, bytes_framed: u64| LedgerRow {
        router: Some(router()),
        generation: 1,
        time: at(time_us),
        sequence_last: 0,
        bytes_read: 10,
        bytes_framed,
        mappings_framed: 0,
        changes: 0,
        confirmed: 0,
        duplicates: 0,
        derived: 0,
        rejected: Vec::new(),
    };
    live.state.replay_ledger(&ledger(500, 10));
    assert_eq!(live.state.last_evidence, Some(at(500)));
    // Bytes that wait say nothing yet: what they tell may be older.
    live.state.replay_ledger(&ledger(900, 0));
    assert_eq!(live.state.last_evidence, Some(at(500)));
}
