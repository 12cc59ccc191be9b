//! Pressure: what a shard does when more comes in than it may hold.

use std::net::IpAddr;

use storage::interface::Interface;

use super::*;

const FIRST: &str = "127.0.0.1:1000";
const SECOND: &str = "127.0.0.2:1000";

fn hello_for(last: u8) -> Vec<u8> {
    let router = RouterId([192, 0, 2, last].into());
    hello_of(Hello { acks: false, ..first_hello(router) })
}

#[test]
fn pressure_ends_at_the_tcp_window() {
    let mut bench = Bench::within(Budget::of_surge(24_000), |_| {});
    let large = bench.connect(1, FIRST);
    let small = bench.connect(2, SECOND);
    let chunk = frame(1, false, &[mapping(16, 17)]);
    // Nothing is digested between these: the storm goes first. Chunks grow by doubling, so that
    // 9,000 bytes hold 16 KiB.
    for _ in 0..100 {
        let bytes = [0; 90];
        bench.handle(Completion::Received { connection: large, bytes: &bytes });
    }
    bench.handle(Completion::Received { connection: small, bytes: &chunk });
    bench.handle(Completion::Received { connection: large, bytes: &[0; 4_000] });
    while let Some(op) = bench.shard.poll_op() {
        bench.act(op);
    }
    assert!(!bench.receiving[&large], "the largest is paused first");
    assert!(bench.receiving[&small]);
    let pushed = bench.shard.counters().get(Metric::SurgePushedBytes);
    assert_eq!(pushed, 90 * 100 + chunk.len() as u64 + 4_000, "nothing is dropped");
}

#[test]
fn a_budget_spent_on_half_units_is_freed_one_session_at_a_time() {
    let mut bench = Bench::within(Budget::of_surge(3_000), |_| {});
    let mappings: Vec<Mapping> = (16..516).map(|label| mapping(label, label + 1)).collect();
    let whole = frame(1, false, &mappings);
    assert!(whole.len() > 2_000, "{}", whole.len());
    let (head, tail) = whole.split_at(whole.len() - 10);
    let first = bench.connect(1, FIRST);
    let second = bench.connect(2, SECOND);
    bench.send(first, &hello_for(1));
    bench.send(second, &hello_for(2));
    for id in [first, second] {
        bench.handle(Completion::Received { connection: id, bytes: head });
    }
    bench.turn();
    let read: Vec<_> = [first, second].into_iter().filter(|id| bench.receiving[id]).collect();
    assert_eq!(read.len(), 1, "one of them is read on");
    bench.send(read[0], tail);
    bench.turn();
    let other = if read[0] == first { second } else { first };
    assert!(bench.receiving[&other], "it is whole: now the other one");
    bench.send(other, tail);
    bench.settle();
    assert!(bench.receiving[&first] && bench.receiving[&second], "the budget is free");
    assert_eq!(bench.kinds().len(), 500);
    assert_eq!(bench.shard.counters().get(Metric::MappingsFramed), 1_000);
}

/// A budget whose tables may take so much.
fn of_tables(table_bytes_max: u64) -> Budget {
    Budget { table_bytes_max, ..Budget::of_surge(1 << 30) }
}

/// An entry that takes a good thousand bytes.
fn large(label: u32, out: u32) -> Mapping {
    Mapping { extra: Some(format!("<o>{}</o>", "x".repeat(1_000)).into()), ..mapping(label, out) }
}

#[test]
fn a_full_table_refuses_new_keys_of_its_largest_grower_and_says_so() {
    let mut bench = Bench::within(of_tables(100_000), |_| {});
    let id = bench.connect(1, FIRST);
    bench.send(id, &hello(1, 1, true));
    for sequence in 1..=10 {
        let labels = 10 * sequence as u32 + 16..10 * sequence as u32 + 26;
        let mappings: Vec<Mapping> = labels.map(|label| large(label, 17)).collect();
        bench.send(id, &frame(sequence, true, &mappings));
    }
    bench.send(id, &empty(FrameType::SnapshotComplete, 11));
    bench.send(id, &frame(12, false, &[large(26, 99), mapping(5_000, 41), mapping(27, 0)]));
    bench.settle();
    let state = bench.shard.router(ROUTER).unwrap();
    let entries = state.table.len();
    assert!((60..90).contains(&entries), "{entries} entries in eight ninths of the reserve");
    // What it has stands; what else there is, nobody can say.
    assert_eq!(state.gaps.router, None);
    assert_eq!(state.gaps.rest.map(|gap| gap.reason), Some(Reason::Rejected(Cause::TableFull)));
    // One of those that are there is withdrawn, and the new one has no room.
    let refused = 100 - (entries as u64 + 1) + 1;
    assert_eq!(bench.shard.counters().rejected(Cause::TableFull).2, refused);
    let last = bench.kinds().split_off(entries + 1);
    assert_eq!(last, [ChangeKind::Altered, ChangeKind::Withdrawn], "known keys go on");
    assert!(bench.shard.memory.table_bytes() <= 100_000);
    // Another router has grown less: it may use what is left.
    let other = bench.connect(2, SECOND);
    bench.send(other, &hello_for(2));
    let text = String::from_utf8(document(SnapshotMark::None, &[mapping(50, 51)])).unwrap();
    let text = text.replace("192.0.2.1", "192.0.2.2");
    let (mut bytes, mut encoder) = (Vec::new(), FrameEncoder::new(1));
    let (kind, none) = (FrameType::Mappings, FrameFlags::NONE);
    encoder.frame(kind, Codec::None, none, 1, text.as_bytes(), &mut bytes);
    bench.send(other, &bytes);
    bench.settle();
    let second = RouterId([192, 0, 2, 2].into());
    assert_eq!(bench.shard.router(second).unwrap().table.len(), 1);
}

/// The reserve is the host's: what one shard's tables take, another's cannot.
#[test]
fn the_reserve_of_tables_is_shared_and_given_back() {
    let memory = Arc::new(Memory::new(of_tables(60_000)));
    let (mut one, mut two) = (Bench::sharing(&memory, |_| {}), Bench::sharing(&memory, |_| {}));
    let fill = |bench: &mut Bench| {
        let id = bench.connect(1, FIRST);
        bench.send(id, &hello(1, 1, false));
        let mappings: Vec<Mapping> = (16..56).map(|label| large(label, 17)).collect();
        bench.send(id, &frame(1, false, &mappings));
        bench.settle();
        bench.shard.router(ROUTER).unwrap().table.len()
    };
    assert_eq!(fill(&mut one), 40);
    let entries = fill(&mut two);
    assert!((5..20).contains(&entries), "{entries} beside forty");
    assert!(memory.table_bytes() <= 60_000, "{}", memory.table_bytes());
    assert_eq!(memory.table_bytes(), one.shard.tables.bytes + two.shard.tables.bytes);
    let all: Vec<Mapping> = (16..56).map(|label| mapping(label, 0)).collect();
    one.send(ConnectionId(1), &frame(2, false, &all));
    let more: Vec<Mapping> = (16..56).map(|label| large(label, 18)).collect();
    two.send(ConnectionId(1), &frame(2, false, &more));
    assert_eq!(two.shard.router(ROUTER).unwrap().table.len(), 40);
}

#[test]
fn one_bad_router_hurts_only_itself_when_its_entries_are_large() {
    let mut bench = Bench::within(of_tables(1_280_000), |_| {});
    let (bad, good) = (bench.connect(1, FIRST), bench.connect(2, SECOND));
    bench.send(bad, &hello(1, 1, false));
    bench.send(good, &hello_for(2));
    let told = |last: u8, sequence: u64, mappings: &[Mapping]| {
        let mut text = String::new();
        let router = RouterId([192, 0, 2, last].into());
        write_document(Some(router), SnapshotMark::None, mappings, &mut text);
        let (mut bytes, mut encoder) = (Vec::new(), FrameEncoder::new(1));
        let (kind, none) = (FrameType::Mappings, FrameFlags::NONE);
        encoder.frame(kind, Codec::Zlib, none, sequence, text.as_bytes(), &mut bytes);
        bytes
    };
    // Few keys, known ones too, but each with thousands of bytes of options.
    for sequence in 1..=60 {
        let large = |label: u32| Mapping {
            extra: Some(format!("<o>{}{sequence}</o>", "x".repeat(2_000)).into()),
            ..mapping(label, 17)
        };
        let labels =
            if sequence % 2 == 0 { 16..46 } else { 16 + 30 * sequence..46 + 30 * sequence };
        let mappings: Vec<Mapping> = labels.map(|label| large(label as u32)).collect();
        bench.send(bad, &told(1, sequence, &mappings));
    }
    let held = bench.shard.tables.bytes;
    assert!(held <= 1_280_000, "{held} bytes");
    assert!(held > 1_000_000, "{held}");
    let second = RouterId([192, 0, 2, 2].into());
    let mappings: Vec<Mapping> = (16..36).map(|label| mapping(label, 17)).collect();
    bench.send(good, &told(2, 1, &mappings));
    bench.settle();
    let first = bench.shard.router(ROUTER).unwrap();
    assert_eq!(first.gaps.rest.map(|gap| gap.reason), Some(Reason::Rejected(Cause::TableFull)));
    assert_eq!(bench.shard.router(second).unwrap().table.len(), 20);
    assert_eq!(bench.shard.router(second).unwrap().gaps.router, None);
}

#[test]
fn who_is_not_read_is_not_called_silent() {
    let mut bench = Bench::within(Budget::of_surge(3_000), |_| {});
    bench.sync_at_once = false;
    let id = bench.connect(1, FIRST);
    let hello = hello_for(1);
    let (head, tail) = hello.split_at(20);
    bench.handle(Completion::Received { connection: id, bytes: head });
    while let Some(op) = bench.shard.poll_op() {
        bench.act(op);
    }
    bench.shard.pause_receive(id);
    bench.pass(60_000_000);
    bench.turn();
    assert!(bench.closed.is_empty(), "we did not listen");
    bench.handle(Completion::Received { connection: id, bytes: tail });
    bench.settle();
    let session = bench.shard.connections.iter().next().map(|connection| &connection.phase);
    assert!(matches!(session, Some(Phase::Speaking(_))));
}

#[test]
fn a_table_that_leaves_takes_with_it_what_it_counted_for() {
    let mut bench = Bench::new();
    let id = bench.connect(1, FIRST);
    bench.send(id, &hello(1, 1, false));
    let mappings: Vec<Mapping> = (16..116).map(|label| mapping(label, 17)).collect();
    bench.send(id, &frame(1, false, &mappings));
    assert!(bench.shard.tables.entries == 100 && bench.shard.tables.bytes > 1_000);
    // A rejected mapping of a known key: the table remembers a doubt, which takes memory too.
    let text = String::from_utf8(document(SnapshotMark::None, &[mapping(16, 17)])).unwrap();
    let text = text.replace("label=\"17\"", "label=\"9999999\"");
    let (mut bytes, mut encoder) = (Vec::new(), FrameEncoder::new(1));
    let (kind, none) = (FrameType::Mappings, FrameFlags::NONE);
    encoder.frame(kind, Codec::None, none, 2, text.as_bytes(), &mut bytes);
    bench.send(id, &bytes);
    bench.end(id, Reason::ConnectionLost);
    bench.settle();
    let peer = SECOND.parse().unwrap();
    let claim =
        crate::registry::Claim { router: ROUTER, shard: 1, connection: id, peer, opened: None };
    bench.handle(Completion::Told { message: Message::Claim(claim) });
    bench.settle();
    assert!(matches!(bench.told[..], [(1, Message::Granted { .. })]));
    assert_eq!(bench.shard.tables, Size::default());
}

/// Whoever may name routers may name ever new ones, each with thousands of interfaces: they count
/// as tables do, and are left out where there is no room.
#[test]
fn interfaces_of_hellos_count_and_find_no_room_beyond_it() {
    let mut bench = Bench::within(of_tables(200_000), |settings| {
        settings.sessions_per_minute_max = 1_000_000;
    });
    let interfaces: Vec<Interface> = (0..1_000_u32)
        .map(|number| Interface::of_address(IpAddr::from(number.to_be_bytes())))
        .collect();
    for last in 1..=20 {
        let router = RouterId([192, 0, 2, last].into());
        let hello = Hello { interfaces: interfaces.clone(), ..first_hello(router) };
        let id = bench.connect(last.into(), FIRST);
        bench.send(id, &hello_of(hello));
        assert!(bench.shard.memory.table_bytes() <= 200_000, "{last}");
    }
    let known = |last: u8| {
        let state = bench.shard.router(RouterId([192, 0, 2, last].into())).unwrap();
        state.interfaces().count()
    };
    assert_eq!((known(1), known(20)), (1_000, 0));
    assert_eq!(bench.shard.memory.table_bytes(), bench.shard.tables.bytes);
    assert!(bench.shard.tables.bytes > 50_000, "{:?}", bench.shard.tables);
    assert!(bench.closed.is_empty());
}
