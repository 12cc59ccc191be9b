//! Tests of the router table: what it says of a mapping, and that its stamps rebuild it.
//!
//! In:   scripted and random sequences of mappings, snapshots, sweeps and doubts.
//! Out:  the table beside the table replayed from its stamps, and beside a naive model.
//! Law:  a snapshot is evidence, not news; an inferred end withdraws nothing at once.
//! Not:  sessions and gaps (`router::tests`).

use proptest::prelude::*;

use super::*;
use crate::mapping::Label;
use crate::time::MICROS_PER_HOUR;

const SECOND_US: i64 = 1_000_000;
const BASE_US: i64 = 1_795_000_000 * SECOND_US;

fn router() -> RouterId {
    "192.0.2.1".parse().unwrap()
}

fn swap(label: u32, out: u32, event_us: i64) -> Mapping {
    let fec = "ip:10.0.0.0/8".parse().unwrap();
    Mapping { fec, ..crate::mapping::tests::swap(label, out, event_us) }
}

fn gone(label: u32, event_us: i64) -> Mapping {
    Mapping { operation: Operation::None, branches: Branches::new(), ..swap(label, 16, event_us) }
}

fn arrival(index: u32, at_us: i64, basis: Basis) -> Arrival {
    let position = Position { generation: 1, sequence: 1, index };
    Arrival { position, collection_time: Micros(at_us), basis }
}

fn stamp_of(applied: Applied) -> Stamp {
    match applied {
        Applied::Change(stamp) => stamp,
        Applied::Confirmed | Applied::Refused => panic!("expected a change"),
    }
}

/// All that a table answers, in one comparable value.
fn answers(table: &RouterTable) -> BTreeMap<Key, (Mapping, Micros, Micros, Option<Micros>)> {
    table
        .iter()
        .map(|entry| {
            let times = (entry.active_since(), entry.changed(), entry.unconfirmed_since());
            (entry.key(), (entry.mapping(), times.0, times.1, times.2))
        })
        .collect()
}

/// Ends a snapshot at `at_us` and returns its rows.
fn complete(
    table: &mut RouterTable,
    explicit: bool,
    at_us: i64,
) -> (SnapshotCounts, Vec<(Stamp, Mapping)>) {
    let mut rows = Vec::new();
    let end = if explicit { SnapshotEnd::Explicit } else { SnapshotEnd::Inferred };
    let counts = table.complete_snapshot(
        end,
        &mut arrival(1_000, at_us, Basis::Snapshot),
        &mut |stamp, mapping| rows.push((*stamp, mapping.clone())),
    );
    (counts, rows)
}

#[test]
fn a_mapping_is_added_altered_confirmed_and_withdrawn() {
    let mut table = RouterTable::new(router());
    let live = |index| arrival(index, BASE_US + 5, Basis::Live);
    let kind = |applied| stamp_of(applied).kind;
    assert_eq!(kind(table.apply(&swap(100, 200, BASE_US), &live(0))), ChangeKind::Added);
    assert_eq!(table.apply(&swap(100, 200, BASE_US + 1), &live(1)), Applied::Confirmed);
    assert_eq!(kind(table.apply(&swap(100, 201, BASE_US + 2), &live(2))), ChangeKind::Altered);
    assert_eq!(kind(table.apply(&gone(100, BASE_US + 3), &live(3))), ChangeKind::Withdrawn);
    assert_eq!(table.apply(&gone(100, BASE_US + 4), &live(4)), Applied::Confirmed);
    assert!(table.is_empty());
}

#[test]
fn the_fec_of_an_ilm_entry_is_part_of_its_value() {
    let mut table = RouterTable::new(router());
    table.apply(&swap(100, 200, BASE_US), &arrival(0, BASE_US, Basis::Live));
    let other = Mapping { fec: Fec::Unknown, ..swap(100, 200, BASE_US) };
    let stamp = stamp_of(table.apply(&other, &arrival(1, BASE_US, Basis::Live)));
    assert_eq!((stamp.kind, table.len()), (ChangeKind::Altered, 1));
}

#[test]
fn a_snapshot_is_evidence_not_news() {
    let mut table = RouterTable::new(router());
    for label in 100..110 {
        table.apply(&swap(label, 200, BASE_US), &arrival(0, BASE_US, Basis::Live));
    }
    // The router reconnects an hour later and says everything again, with the new time.
    let later_us = BASE_US + MICROS_PER_HOUR;
    table.begin_snapshot(Some(Micros(BASE_US + 7)));
    for label in 100..109 {
        let applied =
            table.apply(&swap(label, 200, later_us), &arrival(0, later_us, Basis::Snapshot));
        assert_eq!(applied, Applied::Confirmed, "label {label}");
    }
    let news = table.apply(&swap(300, 200, later_us), &arrival(1, later_us, Basis::Snapshot));
    let news = stamp_of(news);
    assert_eq!(news.basis, Basis::Snapshot);
    assert_eq!(news.not_before, Some(Micros(BASE_US + 7)));
    let (counts, rows) = complete(&mut table, true, later_us);
    let expected = SnapshotCounts { confirmed: 9, added: 1, altered: 0, vanished: 1 };
    assert_eq!(counts, expected);
    assert_eq!(rows.len(), 1);
    let (swept, mapping) = &rows[0];
    assert_eq!((swept.kind, swept.basis), (ChangeKind::Withdrawn, Basis::Swept));
    assert_eq!(swept.not_before, Some(Micros(BASE_US + 7)));
    assert_eq!(mapping.event_time, Micros(later_us));
    for label in 100..109 {
        let key = Key::Ilm(Label::new(label).unwrap(), Origin::Platform);
        assert_eq!(table.get(&key).map(|entry| entry.active_since()), Some(Micros(BASE_US)));
    }
}

#[test]
fn a_pause_in_a_dump_withdraws_nothing() {
    let mut table = RouterTable::new(router());
    for label in 100..104 {
        table.apply(&swap(label, 200, BASE_US), &arrival(0, BASE_US, Basis::Live));
    }
    // The dump stops after one entry for so long that the quiet time passes for its end.
    table.begin_snapshot(Some(Micros(BASE_US)));
    table.apply(&swap(100, 200, BASE_US), &arrival(0, BASE_US + 9, Basis::Snapshot));
    let (counts, rows) = complete(&mut table, false, BASE_US + 10);
    assert_eq!((counts.confirmed, counts.vanished), (1, 3));
    assert!(rows.iter().all(|(stamp, _)| stamp.kind == ChangeKind::Unconfirmed));
    assert_eq!((table.len(), table.unconfirmed_len()), (4, 3));
    // It goes on: what comes is confirmed again and has been active since it always was.
    let again = swap(101, 200, BASE_US + 11);
    let stamp = stamp_of(table.apply(&again, &arrival(1, BASE_US + 11, Basis::Live)));
    assert_eq!(stamp.kind, ChangeKind::Reconfirmed);
    let entry = table.get(&again.key()).unwrap();
    assert_eq!((entry.active_since(), entry.unconfirmed_since()), (Micros(BASE_US), None));
    // A second snapshot lacks the last two as well: now they are gone.
    table.begin_snapshot(Some(Micros(BASE_US + 12)));
    for label in [100, 101] {
        table.apply(&swap(label, 200, BASE_US), &arrival(0, BASE_US + 13, Basis::Snapshot));
    }
    let (_, rows) = complete(&mut table, false, BASE_US + 14);
    assert_eq!(rows.len(), 2);
    // The change happened after the last time that the entry was vouched for, which is the first.
    let expected = (ChangeKind::Withdrawn, Some(Micros(BASE_US)));
    assert!(rows.iter().all(|(stamp, _)| (stamp.kind, stamp.not_before) == expected));
}

#[test]
fn unconfirmed_entries_expire_when_the_hold_has_passed() {
    let mut table = RouterTable::new(router());
    table.apply(&swap(100, 200, BASE_US), &arrival(0, BASE_US, Basis::Live));
    table.begin_snapshot(None);
    complete(&mut table, false, BASE_US + 10);
    assert_eq!(table.unconfirmed_oldest(), Some(Micros(BASE_US + 10)));
    let mut kinds = Vec::new();
    let mut expire = |table: &mut RouterTable, at_us| {
        let mut arrival = arrival(0, at_us, Basis::Live);
        table.expire_unconfirmed(100, &mut arrival, &mut |stamp, _| kinds.push(stamp.kind))
    };
    assert_eq!(expire(&mut table, BASE_US + 109), 0);
    assert_eq!(expire(&mut table, BASE_US + 110), 1);
    assert_eq!(kinds, [ChangeKind::Withdrawn]);
    assert!(table.is_empty());
    assert_eq!(table.unconfirmed_oldest(), None);
}

#[test]
fn a_live_change_during_a_snapshot_is_not_swept() {
    let mut table = RouterTable::new(router());
    table.apply(&swap(100, 200, BASE_US), &arrival(0, BASE_US, Basis::Live));
    table.begin_snapshot(None);
    table.apply(&swap(100, 200, BASE_US), &arrival(1, BASE_US, Basis::Live));
    table.apply(&swap(101, 200, BASE_US), &arrival(2, BASE_US, Basis::Live));
    let (counts, rows) = complete(&mut table, true, BASE_US);
    assert_eq!((counts.vanished, rows.len(), table.len()), (0, 0, 2));
}

#[test]
fn a_clock_step_back_by_an_hour_freezes_nothing() {
    let mut table = RouterTable::new(router());
    table.apply(&swap(100, 200, BASE_US), &arrival(0, BASE_US, Basis::Live));
    let back_us = BASE_US - MICROS_PER_HOUR;
    let step = |table: &mut RouterTable, mapping: &Mapping, index: u32| {
        stamp_of(table.apply(mapping, &arrival(index, BASE_US + i64::from(index), Basis::Live)))
    };
    let altered = step(&mut table, &swap(100, 201, back_us), 1);
    assert_eq!(altered.kind, ChangeKind::Altered);
    assert_eq!(altered.effective_time, Micros(BASE_US));
    assert!(altered.flags.contains(Flags::CLOCK_BACKWARDS));
    // A withdrawn key remembers too: what comes after it is not filed before it.
    let withdrawn = step(&mut table, &gone(100, back_us + 1), 2);
    assert_eq!(withdrawn.effective_time, Micros(BASE_US));
    let added = step(&mut table, &swap(100, 202, back_us + 2), 3);
    assert_eq!((added.kind, added.effective_time), (ChangeKind::Added, Micros(BASE_US)));
    assert!(added.flags.contains(Flags::CLOCK_BACKWARDS));
    // Another key goes by its own time alone.
    let other = step(&mut table, &swap(101, 202, back_us + 3), 4);
    assert_eq!((other.effective_time, other.flags), (Micros(back_us + 3), Flags::default()));
}

#[test]
fn a_clock_that_is_far_off_is_flagged_and_filed_by_collection_time() {
    let cases = [
        (CLOCK_AHEAD_MAX_US, false),
        (CLOCK_AHEAD_MAX_US + 1, true),
        (-CLOCK_BEHIND_MAX_US, false),
        (-CLOCK_BEHIND_MAX_US - 1, true),
        (i64::MIN / 2, true),
    ];
    for (offset_us, far) in cases {
        let mut table = RouterTable::new(router());
        let mapping = swap(100, 200, BASE_US + offset_us);
        let stamp = stamp_of(table.apply(&mapping, &arrival(0, BASE_US, Basis::Live)));
        // What has been read has happened, however far ahead the router's clock is.
        let is_behind = offset_us < 0 && !far;
        let own = if is_behind { mapping.event_time } else { Micros(BASE_US) };
        assert_eq!(stamp.flags.contains(Flags::CLOCK_FAR), far, "{offset_us}");
        assert_eq!(stamp.effective_time, own, "{offset_us}");
    }
}

#[test]
fn a_change_is_not_believed_against_a_snapshot() {
    let mut table = RouterTable::new(router());
    let at = |us: i64, basis| arrival(0, BASE_US + us, basis);
    table.begin_snapshot(None);
    table.apply(&swap(100, 200, BASE_US - 90), &at(10, Basis::Snapshot));
    complete(&mut table, true, BASE_US + 20);
    table.prove(Micros(BASE_US + 10), true, std::iter::empty());
    // The snapshot lacked 101, and had 100 with its old value.
    let added = stamp_of(table.apply(&swap(101, 200, BASE_US - 60), &at(30, Basis::Live)));
    let altered = stamp_of(table.apply(&swap(100, 201, BASE_US - 50), &at(31, Basis::Live)));
    let withdrawn = stamp_of(table.apply(&gone(101, BASE_US - 40), &at(32, Basis::Live)));
    for stamp in [added, altered, withdrawn] {
        assert_eq!(stamp.effective_time, Micros(BASE_US + 10), "{:?}", stamp.kind);
    }
    for stamp in [added, altered] {
        assert!(stamp.flags.contains(Flags::BEFORE_SNAPSHOT), "{:?}", stamp.kind);
    }
    // What is younger than the snapshot is believed.
    let later = stamp_of(table.apply(&swap(102, 200, BASE_US + 11), &at(33, Basis::Live)));
    assert_eq!((later.effective_time, later.flags), (Micros(BASE_US + 11), Flags::default()));
}

#[test]
fn a_second_entry_of_no_name_does_not_take_the_place_of_the_first() {
    let unnamed = |out: u32| Mapping {
        fec: Fec::Unknown,
        ingress: Ingress::UNTAGGED,
        operation: Operation::Push,
        ..swap(16, out, BASE_US)
    };
    let mut table = RouterTable::new(router());
    let at = arrival(0, BASE_US, Basis::Live);
    assert_eq!(stamp_of(table.apply(&unnamed(20), &at)).kind, ChangeKind::Added);
    assert_eq!(table.apply(&unnamed(20), &at), Applied::Confirmed);
    assert_eq!(table.apply(&unnamed(21), &at), Applied::Refused);
    let mut round = Round::default();
    let mut arrival = at;
    let said = [unnamed(20), unnamed(21), swap(30, 31, BASE_US)];
    let changes = table.apply_all(&mut round, &said, &mut arrival, &mut |_, _| {});
    assert_eq!((changes, round.refused.as_slice()), (1, &[unnamed(0).key()][..]));
    assert_eq!(table.get(&unnamed(0).key()).unwrap().mapping().branches, unnamed(20).branches);
    // The next snapshot may have another one, but one.
    table.begin_snapshot(None);
    let at = Arrival { basis: Basis::Snapshot, ..at };
    assert_eq!(stamp_of(table.apply(&unnamed(22), &at)).kind, ChangeKind::Altered);
    assert_eq!(table.apply(&unnamed(23), &at), Applied::Refused);
}

#[test]
fn tombstones_are_bounded_and_young_ones_kept() {
    let mut table = RouterTable::new(router());
    for label in 16..200_000_u32 {
        let at_us = BASE_US + i64::from(label);
        table.apply(&swap(label, 200, at_us), &arrival(0, at_us, Basis::Live));
        table.apply(&gone(label, at_us), &arrival(1, at_us, Basis::Live));
    }
    assert!(table.tombstones.len() <= 2 * TOMBSTONES_SPARE_MAX + 1024);
    let newest = Key::Ilm(Label::new(199_999).unwrap(), Origin::Platform);
    assert!(table.tombstones.contains_key(&newest));
    // A week on, nothing of them matters any more.
    table.prune_at = 0;
    table.prune(Micros(BASE_US + CLOCK_BEHIND_MAX_US + 2 * SECOND_US));
    assert!(table.tombstones.is_empty());
}

/// A number that looks like chance and is the same in every run.
fn mixed(number: u32) -> u32 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b1);
    (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b) ^ mixed >> 13
}

/// What a router of an LDP network says of entry `index`: FTN and ILM entries by turns, random
/// labels and prefixes. `salt` chooses the value and with it who of ten has a second branch: three.
fn ldp(router: u32, index: u32, salt: u32) -> Mapping {
    let chance = mixed(router << 16 ^ index);
    let value = mixed(chance ^ salt);
    let fec: Fec = format!("ip:{}/32", std::net::Ipv4Addr::from(chance)).parse().unwrap();
    let mut mapping =
        Mapping { fec, ..swap(16 + index * 400 + chance % 400, value >> 12, BASE_US) };
    mapping.event_time = Micros(BASE_US + i64::from(salt) + i64::from(index));
    if index.is_multiple_of(2) {
        mapping.ingress = Ingress::UNTAGGED;
        mapping.operation = Operation::Push;
    }
    if value % 10 < 3 {
        let mut second = mapping.branches[0].clone();
        second.next_hop = crate::mapping::NextHop::Address("192.0.2.3".parse().unwrap());
        mapping.branches.push(second);
    }
    mapping
}

#[test]
fn a_mapping_takes_at_most_64_bytes() {
    // 34,000 routers have one table each, alike but for the chance in them, and nothing is shared:
    // what one of these twenty takes per mapping, all take. Counted are capacities, as an allocator
    // rounds them, growth that waits to be filled, the index, and the router's own state.
    const ENTRIES: u32 = 2_000;
    const BYTES_MAX: usize = 64;
    let mut round = Round::default();
    for router_number in 0..20 {
        let mut table = RouterTable::new(router());
        // The table as it grew, and after every value has changed twice, to other branches too.
        for salt in [0, 70_000, 140_000] {
            let frame: Vec<Mapping> =
                (0..ENTRIES).map(|index| ldp(router_number, index, salt)).collect();
            let mut at = arrival(0, BASE_US + 1_000_000, Basis::Live);
            let changes = table.apply_all(&mut round, &frame, &mut at, &mut |_, _| {});
            assert_eq!((changes, table.len() as u32), (u64::from(ENTRIES), ENTRIES));
            let branches: usize = frame.iter().map(|mapping| mapping.branches.len()).sum();
            assert!((2_500..2_700).contains(&branches), "{branches} branches");
            let bytes = table.bytes() + size_of::<crate::router::RouterState>();
            let each = bytes.div_ceil(ENTRIES as usize);
            assert!((30..=BYTES_MAX).contains(&each), "{each} bytes, router {router_number}");
        }
    }
}

#[test]
fn options_are_part_of_the_value() {
    let mut table = RouterTable::new(router());
    let with =
        |extra: Option<&str>| Mapping { extra: extra.map(Box::from), ..swap(100, 200, BASE_US) };
    let says = [None, Some("<a/>"), Some("<a/>"), Some("<b/>"), None, None];
    let mut kinds = Vec::new();
    for (index, extra) in says.into_iter().enumerate() {
        let at = arrival(index as u32, BASE_US, Basis::Live);
        kinds.push(match table.apply(&with(extra), &at) {
            Applied::Change(stamp) => Some(stamp.kind),
            Applied::Confirmed | Applied::Refused => None,
        });
        let entry = table.get(&with(None).key()).unwrap();
        assert_eq!(entry.mapping().extra.as_deref(), extra);
    }
    let (added, altered) = (Some(ChangeKind::Added), Some(ChangeKind::Altered));
    assert_eq!(kinds, [added, altered, None, altered, altered, None]);
    assert!(table.extras.is_empty() && table.extras_bytes == 0);
}

#[test]
fn an_entry_that_was_taken_out_is_not_found_where_it_was() {
    let mut table = RouterTable::new(router());
    let live = |index| arrival(index, BASE_US, Basis::Live);
    for label in [100, 101, 102] {
        table.apply(&swap(label, 200, BASE_US), &live(0));
    }
    table.apply(&gone(101, BASE_US), &live(1));
    // The table looks behind the entry that it found last: 101 was there.
    assert_eq!(table.apply(&swap(100, 200, BASE_US), &live(2)), Applied::Confirmed);
    let added = stamp_of(table.apply(&swap(101, 200, BASE_US), &live(3)));
    assert_eq!((added.kind, table.len()), (ChangeKind::Added, 3));
}

#[test]
fn what_a_frame_altered_and_alters_back_is_no_confirmation() {
    let mut table = RouterTable::new(router());
    for label in [100, 101] {
        table.apply(&swap(label, 200, BASE_US), &arrival(0, BASE_US, Basis::Live));
    }
    // The last is found as it was, behind the one before it, before the first has altered it.
    let frame = [(101, 201), (100, 200), (101, 200)].map(|(label, out)| swap(label, out, BASE_US));
    let mut kinds = Vec::new();
    let mut at = arrival(1, BASE_US, Basis::Live);
    table.apply_all(&mut Round::default(), &frame, &mut at, &mut |stamp, mapping| {
        kinds.push((stamp.kind, mapping.key()));
    });
    let altered = (ChangeKind::Altered, frame[0].key());
    assert_eq!(kinds, [altered, altered]);
}

#[derive(Clone, Debug)]
enum Action {
    Say { key: u8, value: u8, event_us: i64, snapshot: bool },
    Withdraw { key: u8, event_us: i64 },
    Begin,
    Complete { explicit: bool },
    Abandon,
    Expire,
    Doubt { key: u8 },
}

fn actions() -> impl Strategy<Value = Vec<(Action, i64)>> {
    let far = 10 * 24 * MICROS_PER_HOUR;
    let event = prop_oneof![8 => -50..50_i64, 1 => Just(-MICROS_PER_HOUR), 1 => Just(far)];
    let action = prop_oneof![
        12 => (0..6_u8, 0..3_u8, event.clone(), any::<bool>()).prop_map(
            |(key, value, event_us, snapshot)| Action::Say { key, value, event_us, snapshot }
        ),
        4 => (0..6_u8, event).prop_map(|(key, event_us)| Action::Withdraw { key, event_us }),
        2 => Just(Action::Begin),
        2 => any::<bool>().prop_map(|explicit| Action::Complete { explicit }),
        1 => Just(Action::Abandon),
        1 => Just(Action::Expire),
        1 => (0..6_u8).prop_map(|key| Action::Doubt { key }),
    ];
    prop::collection::vec((action, 0..40_i64), 1..80)
}

/// Three kinds of keys: ILM, FTN, service.
fn mapping_of(key: u8, value: u8, event_us: i64) -> Mapping {
    let mut mapping = swap(u32::from(key) + 100, u32::from(value) + 200, event_us);
    match key % 3 {
        0 => {}
        1 => {
            mapping.ingress = Ingress::UNTAGGED;
            mapping.fec = format!("ip:10.{key}.0.0/16").parse().unwrap();
            mapping.operation = Operation::Push;
        }
        _ => mapping.ingress.origin = Origin::Service,
    }
    mapping
}

/// Frames of known and new keys, some twice in a frame, with one to three branches so that entries
/// move; and whether each is part of a snapshot.
fn frames() -> impl Strategy<Value = Vec<(Vec<Mapping>, bool)>> {
    let event = prop_oneof![8 => Just(0), 1 => -50..50_i64];
    let mapping =
        (0..120_u8, 0..3_u8, 1..4_usize, event).prop_map(|(key, value, branches, event_us)| {
            let mut mapping = mapping_of(key, value, BASE_US + event_us);
            match (key % 16, value) {
                (0, 0) => {
                    mapping.operation = Operation::None;
                    mapping.branches.clear();
                }
                (1, 0) => mapping.extra = Some("<a/>".into()),
                _ => {
                    let branch = mapping.branches[0].clone();
                    mapping.branches.resize(branches, branch);
                }
            }
            mapping
        });
    // In the order of before, as routers send their tables again, or in any.
    let frame = (prop::collection::vec(mapping, 0..150), any::<bool>(), any::<bool>());
    let frame = frame.prop_map(|(mut frame, in_order, shown)| {
        if in_order {
            frame.sort_by_key(|mapping| mapping.key());
        }
        (frame, shown)
    });
    prop::collection::vec(frame, 1..8)
}

/// Runs the actions; returns the table, every row it gave, and what the model says must stand.
fn run(actions: &[(Action, i64)]) -> (RouterTable, Vec<(Stamp, Mapping)>, BTreeMap<Key, Mapping>) {
    let mut table = RouterTable::new(router());
    let mut rows: Vec<(Stamp, Mapping)> = Vec::new();
    let mut said = BTreeMap::new();
    let mut now_us = BASE_US;
    for (action, passed_us) in actions {
        now_us += passed_us;
        let mut at = arrival(rows.len() as u32, now_us, Basis::Live);
        let mut sink = |stamp: &Stamp, mapping: &Mapping| rows.push((*stamp, mapping.clone()));
        match *action {
            Action::Say { key, value, event_us, snapshot } => {
                let mapping = mapping_of(key, value, now_us + event_us);
                if snapshot && table.snapshot_open() {
                    at.basis = Basis::Snapshot;
                }
                if let Applied::Change(stamp) = table.apply(&mapping, &at) {
                    sink(&stamp, &mapping);
                }
                said.insert(mapping.key(), mapping);
            }
            Action::Withdraw { key, event_us } => {
                let mut mapping = mapping_of(key, 0, now_us + event_us);
                mapping.operation = Operation::None;
                mapping.branches.clear();
                if let Applied::Change(stamp) = table.apply(&mapping, &at) {
                    sink(&stamp, &mapping);
                }
                said.remove(&mapping.key());
            }
            Action::Begin => table.begin_snapshot(Some(Micros(now_us - 5))),
            Action::Complete { explicit } => {
                let end = if explicit { SnapshotEnd::Explicit } else { SnapshotEnd::Inferred };
                table.complete_snapshot(end, &mut at, &mut sink);
            }
            Action::Abandon => table.abandon_snapshot(),
            Action::Expire => {
                table.expire_unconfirmed(60, &mut at, &mut sink);
            }
            Action::Doubt { key } => table.doubt(&mapping_of(key, 0, 0).key()),
        }
        for (stamp, mapping) in rows.iter().filter(|(stamp, _)| stamp.basis == Basis::Swept) {
            if stamp.collection_time == Micros(now_us) && stamp.kind == ChangeKind::Withdrawn {
                let swept = table.get(&mapping.key()).is_none();
                swept.then(|| said.remove(&mapping.key()));
            }
        }
    }
    (table, rows, said)
}

proptest! {
    #[test]
    fn a_table_replayed_from_its_stamps_is_the_table(actions in actions()) {
        let (table, rows, said) = run(&actions);
        let mut replayed = RouterTable::new(router());
        for (stamp, mapping) in &rows {
            replayed.replay(stamp, mapping);
        }
        prop_assert_eq!(answers(&table), answers(&replayed));
        prop_assert_eq!(&table.unconfirmed, &replayed.unconfirmed);
        prop_assert_eq!(&table.tombstones, &replayed.tombstones);
        // The last word of the router stands, whatever its clock said.
        let value = |mapping: &Mapping| (mapping.fec, mapping.operation, mapping.branches.clone());
        let stands: BTreeMap<Key, _> =
            answers(&replayed).iter().map(|(key, entry)| (*key, value(&entry.0))).collect();
        let expected: BTreeMap<Key, _> = said.iter().map(|(key, last)| (*key, value(last))).collect();
        prop_assert_eq!(stands, expected);
    }

    #[test]
    fn a_frame_changes_what_its_mappings_one_by_one_would(frames in frames()) {
        let (mut whole, mut single) = (RouterTable::new(router()), RouterTable::new(router()));
        let mut round = Round::default();
        for (number, (frame, shown)) in frames.iter().enumerate() {
            let at_us = BASE_US + number as i64;
            let basis = if *shown { Basis::Snapshot } else { Basis::Live };
            whole.begin_snapshot(Some(Micros(at_us - 5)));
            single.begin_snapshot(Some(Micros(at_us - 5)));
            let mut rows = Vec::new();
            let mut at = arrival(0, at_us, basis);
            let changes = whole.apply_all(&mut round, frame, &mut at, &mut |stamp, mapping| {
                rows.push((*stamp, mapping.clone()));
            });
            prop_assert_eq!(changes, rows.len() as u64);
            prop_assert_eq!((at.basis, at.position.index), (basis, rows.len() as u32));
            let mut expected = Vec::new();
            for mapping in frame {
                let withdraws = mapping.operation == Operation::None;
                let basis = if withdraws { Basis::Live } else { basis };
                let at = arrival(expected.len() as u32, at_us, basis);
                if let Applied::Change(stamp) = single.apply(mapping, &at) {
                    expected.push((stamp, mapping.clone()));
                }
            }
            prop_assert_eq!(rows, expected);
            prop_assert_eq!(answers(&whole), answers(&single));
            let counts = complete(&mut whole, false, at_us).0;
            prop_assert_eq!(counts, complete(&mut single, false, at_us).0);
        }
    }

    #[test]
    fn effective_times_of_a_key_never_step_back(actions in actions()) {
        let (_, rows, _) = run(&actions);
        let mut last: BTreeMap<Key, Micros> = BTreeMap::new();
        for (stamp, mapping) in &rows {
            let previous = last.insert(mapping.key(), stamp.effective_time);
            prop_assert!(previous <= Some(stamp.effective_time));
        }
        let positions: Vec<Position> = rows.iter().map(|(stamp, _)| stamp.position).collect();
        prop_assert!(positions.is_sorted() && positions.windows(2).all(|two| two[0] < two[1]));
    }
}
