//! A restart storm and a digest that is too slow: who is read, and when, in virtual time.

use super::*;

const KIB: usize = 1 << 10;
/// What a driver delivers at once.
const BUFFER: usize = 4 * KIB;

/// A router behind a TCP window: what is not read stays with it.
struct Line {
    id: ConnectionId,
    unread: Vec<u8>,
    /// When the collector last took bytes from it, or when it began.
    read_us: u64,
    /// The longest time for which it had something to say and was not read.
    stuck_us: u64,
}

fn router(number: u16) -> RouterId {
    let [high, low] = number.to_be_bytes();
    RouterId([10, 0, high, low].into())
}

fn hello_from(number: u16, snapshot: bool) -> Vec<u8> {
    hello_of(Hello { acks: false, snapshot, ..first_hello(router(number)) })
}

fn framed(number: u16, sequence: u64, part: bool, mappings: &[Mapping]) -> Vec<u8> {
    let mut text = String::new();
    write_document(Some(router(number)), SnapshotMark::None, mappings, &mut text);
    let flags = if part { FrameFlags::SNAPSHOT_PART } else { FrameFlags::NONE };
    let (mut bytes, text) = (Vec::new(), text.as_bytes());
    let kind = FrameType::Mappings;
    FrameEncoder::new(1).frame(kind, Codec::None, flags, sequence, text, &mut bytes);
    bytes
}

/// Hello, `frames` frames of ten mappings each, and the end of the snapshot.
fn snapshot_of(number: u16, frames: u32) -> Vec<u8> {
    let mut bytes = hello_from(number, true);
    for part in 0..frames {
        let labels = 16 + 10 * part..26 + 10 * part;
        let mappings: Vec<Mapping> = labels.map(|label| mapping(label, 17)).collect();
        bytes.extend(framed(number, u64::from(part) + 1, true, &mappings));
    }
    bytes.extend(empty(FrameType::SnapshotComplete, u64::from(frames) + 1));
    bytes
}

fn bench_of(budget: usize) -> Bench {
    Bench::within(Budget::of_surge(budget as u64), |settings| {
        settings.sessions_per_minute_max = 1_000_000;
    })
}

fn connect(bench: &mut Bench, number: u16, unread: Vec<u8>) -> Line {
    let id = bench.connect(u64::from(number) + 1, "127.0.0.1:1");
    Line { id, unread, read_us: bench.now.monotonic_us, stuck_us: 0 }
}

/// One buffer of every connection that is read, as a driver's turn does: operations are performed
/// after each.
fn deliver(bench: &mut Bench, lines: &mut [Line]) {
    for line in lines.iter_mut() {
        let silent = line.unread.is_empty() || bench.closed.contains_key(&line.id);
        if silent {
            line.read_us = bench.now.monotonic_us;
            continue;
        }
        line.stuck_us = line.stuck_us.max(bench.now.monotonic_us - line.read_us);
        if !bench.receiving[&line.id] {
            continue;
        }
        line.read_us = bench.now.monotonic_us;
        let rest = line.unread.split_off(line.unread.len().min(BUFFER));
        let bytes = std::mem::replace(&mut line.unread, rest);
        bench.handle(Completion::Received { connection: line.id, bytes: &bytes });
        perform(bench);
    }
    let is_empty = |line: &Line| !bench.receiving[&line.id] || line.unread.is_empty();
    if lines.iter().all(is_empty) {
        bench.handle(Completion::Drained);
    }
}

fn perform(bench: &mut Bench) {
    while let Some(op) = bench.shard.poll_op() {
        bench.act(op);
    }
}

fn digest(bench: &mut Bench) {
    bench.shard.digest(bench.now);
    perform(bench);
}

fn held(bench: &Bench) -> usize {
    bench.shard.connections.iter().map(|connection| connection.held_bytes()).sum()
}

fn is_complete(bench: &Bench, number: u16) -> bool {
    bench.shard.router(router(number)).is_some_and(|state| state.complete.is_some())
}

#[test]
fn a_restart_storm_is_read_one_after_the_other_and_all_of_it() {
    let budget = 512 * KIB;
    let mut bench = bench_of(budget);
    let count = 60;
    let one = snapshot_of(1, 16).len();
    assert!(count * one > 2 * budget, "{one} bytes each are no storm");
    let mut lines: Vec<Line> = (0..count as u16)
        .map(|number| connect(&mut bench, number, snapshot_of(number, 16)))
        .collect();
    let (mut ended, mut most, mut eta_ms, mut turns) = (Vec::new(), 0, 0, 0);
    while ended.len() < count {
        deliver(&mut bench, &mut lines);
        most = most.max(held(&bench));
        digest(&mut bench);
        assert_eq!(bench.shard.ledger_balance(), Balance::default());
        eta_ms = eta_ms.max(bench.shard.counters().get(Metric::SnapshotsEtaMs));
        for number in 0..count as u16 {
            if !ended.contains(&number) && is_complete(&bench, number) {
                ended.push(number);
            }
        }
        bench.pass(10_000);
        turns += 1;
        assert!(turns < 5_000, "{} of {count} after {turns} turns", ended.len());
    }
    let waited = bench.shard.counters().get(Metric::SnapshotsWaited);
    assert!(waited > 20, "{waited} had to wait");
    assert!(eta_ms > 0, "nobody could say how long it takes");
    assert_eq!(bench.shard.counters().get(Metric::SnapshotsWaiting), 0);
    assert_eq!(bench.shard.counters().get(Metric::SnapshotsEtaMs), 0);
    assert!(most <= budget + count * BUFFER, "{most} held of {budget}");
    assert!(bench.closed.is_empty(), "nobody is closed");
    // First come first read: whoever ends is not far behind whoever came before.
    let places = ended.iter().zip(0..).map(|(number, place)| (i32::from(*number) - place).abs());
    let furthest = places.max().unwrap();
    assert!(furthest <= 30, "somebody ended {furthest} places away from where it came");
    assert_eq!(bench.shard.memory.coming_bytes(), 0, "nothing is expected any more");
    let quietly = bench.shard.counters().get(Metric::ReceivePauses);
    assert!(quietly < waited, "{quietly} were paused although their snapshots had been admitted");
}

#[test]
fn routers_that_come_back_one_by_one_never_wait() {
    let mut bench = bench_of(256 * KIB);
    for number in 0..30 {
        let mut line = [connect(&mut bench, number, snapshot_of(number, 8))];
        while !is_complete(&bench, number) {
            deliver(&mut bench, &mut line);
            digest(&mut bench);
            bench.pass(1_000);
        }
    }
    assert_eq!(bench.shard.counters().get(Metric::SnapshotsWaited), 0);
}

/// A router that announces a snapshot and says nothing keeps no room from others.
#[test]
fn silent_routers_do_not_hold_up_a_restart_storm() {
    let mut bench = bench_of(64 * KIB);
    let mut lines: Vec<Line> = (0..40)
        .map(|number| {
            let all = snapshot_of(number, 8);
            let said = if number < 20 { hello_from(number, true) } else { all };
            connect(&mut bench, number, said)
        })
        .collect();
    let mut turns = 0;
    while !(20..40).all(|number| is_complete(&bench, number)) {
        deliver(&mut bench, &mut lines);
        digest(&mut bench);
        bench.pass(10_000);
        turns += 1;
        assert!(turns < 8_000, "somebody waits for those who say nothing");
    }
}

/// A hello that comes byte by byte while others wait is read to its end.
#[test]
fn a_session_that_waits_is_read_up_to_its_name() {
    let mut bench = bench_of(64 * KIB);
    let mut lines: Vec<Line> =
        (0..20).map(|number| connect(&mut bench, number, snapshot_of(number, 40))).collect();
    for _ in 0..2 {
        deliver(&mut bench, &mut lines);
    }
    let id = bench.connect(1_000, "127.0.0.1:1");
    let hello = hello_from(999, true);
    for byte in &hello {
        // It waits, and it is read on.
        let mut turns = 0;
        while !bench.receiving[&id] {
            digest(&mut bench);
            bench.pass(1_000);
            turns += 1;
            assert!(turns < 10_000, "its name is not read");
        }
        bench.handle(Completion::Received { connection: id, bytes: &[*byte] });
        perform(&mut bench);
    }
    let mut turns = 0;
    while bench.shard.router(router(999)).is_none() {
        digest(&mut bench);
        bench.pass(1_000);
        turns += 1;
        assert!(turns < 1_000, "its name is not digested");
    }
}

/// Five hundred routers say more than is digested. Each is read a little before its sender would
/// give up, and the budget is exceeded by a sixteenth and what a driver delivers at once.
#[test]
fn no_router_is_left_unread_for_as_long_as_a_sender_waits() {
    let budget = 16_384 * KIB;
    let mut bench = bench_of(budget);
    let large = |number: u16, sequence: u64| {
        let extra = Some(format!("<o>{}</o>", "x".repeat(3_000)).into());
        let mapping = Mapping { extra, ..mapping(16, 17 + sequence as u32) };
        framed(number, sequence, false, &[mapping])
    };
    let mut lines: Vec<Line> = (0..500)
        .map(|number| {
            let mut line = connect(&mut bench, number, Vec::new());
            bench.send(line.id, &hello_from(number, false));
            (1..=40).for_each(|sequence| line.unread.extend(large(number, sequence)));
            line
        })
        .collect();
    let offered: usize = lines.iter().map(|line| line.unread.len()).sum();
    assert!(offered > 3 * budget, "{offered} bytes are no pressure");
    let (mut most, mut due) = (0, 0);
    for _ in 0..6_000 {
        deliver(&mut bench, &mut lines);
        most = most.max(held(&bench));
        // Half a megabyte a second: what is held at once is half a minute of it.
        due += 5_400;
        while bench.shard.counters().get(Metric::SurgePoppedBytes) < due
            && !bench.shard.ready.is_empty()
        {
            digest(&mut bench);
        }
        bench.pass(10_000);
    }
    let longest_us = lines.iter().map(|line| line.stuck_us).max().unwrap();
    assert!(longest_us > 5_000_000, "{longest_us} us: there was no pressure");
    assert!(longest_us <= 15_000_000, "a router was unread for {longest_us} us");
    let allowed = budget + budget / 16 + lines.len() * BUFFER;
    assert!(most <= allowed, "{most} held, at most {allowed} allowed");
    assert!(bench.closed.is_empty());
    assert!(bench.shard.counters().get(Metric::StuckTurns) > 500);
}
