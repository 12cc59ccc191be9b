//! More than the budget of received bytes: who waits, who goes on, and what is held meanwhile.

use super::*;
use crate::wire::frame::HEADER_BYTES;

const KIB: usize = 1 << 10;
/// What a driver delivers at once.
const BUFFER: usize = 4 * KIB;

/// A router with a TCP window: what is not read stays here.
struct Line {
    id: ConnectionId,
    unread: Vec<u8>,
}

/// Delivers one buffer of every connection that is read, as a driver's turn does: operations are
/// performed after each; then digests one slice.
fn drive(bench: &mut Bench, lines: &mut [Line]) -> usize {
    let mut most = 0;
    deliver(bench, lines, |bench| most = most.max(held(bench)));
    digest(bench);
    bench.pass(1_000);
    most
}

/// One buffer of every connection that is read; `look` after each.
fn deliver(bench: &mut Bench, lines: &mut [Line], mut look: impl FnMut(&Bench)) {
    for line in lines.iter_mut() {
        if !bench.receiving[&line.id] || bench.closed.contains_key(&line.id) {
            continue;
        }
        let rest = line.unread.split_off(line.unread.len().min(BUFFER));
        let bytes = std::mem::replace(&mut line.unread, rest);
        if !bytes.is_empty() {
            bench.handle(Completion::Received { connection: line.id, bytes: &bytes });
        }
        while let Some(op) = bench.shard.poll_op() {
            bench.act(op);
        }
        look(bench);
    }
}

/// One slice.
fn digest(bench: &mut Bench) {
    bench.shard.digest(bench.now);
    assert_eq!(bench.shard.ledger_balance(), Balance::default());
    assert_eq!(bench.shard.pressure.held_bytes(), held(bench), "what is counted is what is held");
    while let Some(op) = bench.shard.poll_op() {
        bench.act(op);
    }
}

fn held(bench: &Bench) -> usize {
    bench.shard.connections.iter().map(|connection| connection.held_bytes()).sum()
}

fn router(number: u8) -> RouterId {
    RouterId([192, 0, 2, number].into())
}

fn hello_from(number: u8) -> Vec<u8> {
    hello_of(first_hello(router(number)))
}

fn text_of(number: u8, mappings: &[Mapping]) -> String {
    let mut text = String::new();
    write_document(Some(router(number)), SnapshotMark::None, mappings, &mut text);
    text
}

fn framed(sequence: u64, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (codec, flags) = (Codec::None, FrameFlags::NONE);
    let text = text.as_bytes();
    FrameEncoder::new(1).frame(FrameType::Mappings, codec, flags, sequence, text, &mut bytes);
    bytes
}

fn many(count: u32, out: u32) -> Vec<Mapping> {
    (0..count).map(|label| mapping(label + 16, out)).collect()
}

/// What router `number` sends, and how many entries that makes.
fn speech(kind: &str, number: u8) -> (Vec<u8>, usize) {
    let small = |out| text_of(number, &many(50, out));
    let large = text_of(number, &many(1_000, 5_000));
    let mut bytes = hello_from(number);
    match kind {
        "small frames" => {
            (1..=40).for_each(|sequence| bytes.extend(framed(sequence, &small(sequence as u32))));
            (bytes, 50)
        }
        "frames larger than the budget" => {
            bytes.extend(framed(1, &large));
            bytes.extend(framed(2, &large));
            (bytes, 1_000)
        }
        "documents" => ((1..=40).flat_map(|out| small(out).into_bytes()).collect(), 50),
        "large documents" => ([large.clone(), large].concat().into_bytes(), 1_000),
        other => panic!("{other}"),
    }
}

#[test]
fn pressure_ends_at_the_tcp_window_whatever_is_sent() {
    let kinds = ["small frames", "frames larger than the budget", "documents", "large documents"];
    for kind in kinds {
        let budget = 128 * KIB;
        let mut bench = Bench::within(Budget::of_surge(budget as u64), |settings| {
            settings.limits.frame_bytes_max = 1_024 * KIB;
            settings.sessions_per_minute_max = 1_000;
        });
        let mut entries = 0;
        let mut unit = 0;
        let mut lines: Vec<Line> = (1..=12)
            .map(|number| {
                let (unread, count) = speech(kind, number);
                entries = count;
                unit = text_of(number, &many(count as u32, 5_000)).len() + HEADER_BYTES;
                Line { id: bench.connect(number.into(), "127.0.0.1:1"), unread }
            })
            .collect();
        let (mut most, mut turns) = (0, 0);
        while lines.iter().any(|line| !line.unread.is_empty()) {
            most = most.max(drive(&mut bench, &mut lines));
            turns += 1;
            assert!(turns < 20_000, "{kind}: stuck with {} bytes held", held(&bench));
        }
        bench.settle();
        assert!(bench.shard.counters().get(Metric::ReceivePauses) > 0, "{kind}: no pressure");
        // Chunks are up to twice what they hold; each connection gave a buffer before its pause.
        let bound = 2 * (budget + unit) + lines.len() * BUFFER;
        assert!(most <= bound, "{kind}: {most} held, at most {bound} allowed");
        for number in 1..=12 {
            let state = bench.shard.router(router(number)).unwrap();
            assert_eq!(state.table.len(), entries, "{kind}: nothing is dropped");
            assert_eq!(state.gaps.router, None);
        }
        assert!(bench.closed.is_empty(), "{kind}: nobody is closed");
    }
}

/// One shard is flooded and digests slowly, its neighbour hears little: the flooders wait at their
/// TCP windows, the sum stays within the budget, and the neighbour does not feel it.
#[test]
fn pressure_ends_at_the_tcp_window_on_the_shard_that_is_flooded() {
    let budget = 512 * KIB;
    let memory = Arc::new(Memory::new(Budget { shards: 2, ..Budget::of_surge(budget as u64) }));
    let change = |settings: &mut ShardSettings| settings.sessions_per_minute_max = 1_000;
    let (mut flooded, mut quiet) =
        (Bench::sharing(&memory, change), Bench::sharing(&memory, change));
    let mut flood: Vec<Line> = (1..=12)
        .map(|number| {
            let unread = [speech("small frames", number).0, vec![]].concat();
            Line { id: flooded.connect(number.into(), "127.0.0.1:1"), unread }
        })
        .collect();
    let id = quiet.connect(100, "127.0.0.2:1");
    let mut trickle = [Line { id, unread: hello_from(100) }];
    let unit = text_of(1, &many(50, 5_000)).len() + HEADER_BYTES;
    let offered: usize = flood.iter().map(|line| line.unread.len()).sum();
    assert!(offered > 3 * budget, "{offered} bytes are no flood");
    let (mut most, mut turns, mut said) = (0, 0, 0);
    while flood.iter().any(|line| !line.unread.is_empty()) {
        let beside = held(&quiet);
        deliver(&mut flooded, &mut flood, |bench| most = most.max(held(bench) + beside));
        if turns % 20 == 0 {
            said += 1;
            trickle[0].unread.extend(framed(said, &text_of(100, &many(20, said as u32))));
        }
        let beside = held(&flooded);
        deliver(&mut quiet, &mut trickle, |bench| most = most.max(held(bench) + beside));
        let spent = held(&flooded) + held(&quiet) + 2 * memory.step_bytes() as usize >= budget;
        assert!(quiet.receiving[&id] || spent, "paused beside {}", held(&flooded));
        digest(&mut quiet);
        if turns % 4 == 0 {
            digest(&mut flooded);
        }
        flooded.pass(1_000);
        quiet.pass(1_000);
        turns += 1;
        assert!(turns < 20_000, "stuck with {} bytes held", held(&flooded));
    }
    assert!(most <= budget + 2 * unit + 2 * BUFFER, "{most} held of {budget}");
    assert!(most >= budget / 4 * 3, "{most} held of {budget}: nobody needed to wait");
    flooded.settle();
    quiet.settle();
    assert!(flooded.shard.counters().get(Metric::ReceivePauses) > 10);
    assert_eq!(flooded.shard.counters().get(Metric::ReceivePaused), 0, "all are read again");
    for (line, number) in flood.iter().zip(1..) {
        assert!(flooded.receiving[&line.id] && !flooded.closed.contains_key(&line.id));
        let state = flooded.shard.router(router(number)).unwrap();
        assert_eq!((state.table.len(), state.gaps.router), (50, None), "nothing is dropped");
        assert_eq!(state.sequence_last, 40);
    }
    assert_eq!(quiet.shard.router(router(100)).unwrap().sequence_last, said);
    let longest_us = quiet.shard.pressure.longest_us();
    assert!(longest_us <= 50_000, "who says little was not read for {longest_us} us");
    drop((flooded, quiet));
    assert!(memory.surge_bytes() < 2 * memory.step_bytes(), "all of it is given back");
}

/// Eight routers begin a frame that they never end; together they hold the whole budget.
#[test]
fn one_bad_router_hurts_only_itself_when_it_trickles() {
    let mut bench = Bench::within(Budget::of_surge(64 << 10), |settings| {
        settings.limits.frame_bytes_max = 64 * KIB;
        settings.sessions_per_minute_max = 1_000;
    });
    let mut lines = Vec::new();
    for number in 1..=8 {
        let half = framed(1, &text_of(number, &many(60, 100)));
        let unread = [&hello_from(number)[..], &half[..half.len() - 100]].concat();
        lines.push(Line { id: bench.connect(number.into(), "127.0.0.1:1"), unread });
    }
    for _ in 0..100 {
        drive(&mut bench, &mut lines);
    }
    let honest = bench.connect(100, "127.0.0.2:1");
    let mut unread = hello_from(100);
    (1..=40).for_each(|out| unread.extend(framed(out, &text_of(100, &many(50, out as u32)))));
    lines.push(Line { id: honest, unread });
    let begun = bench.now.monotonic_us;
    while !lines[8].unread.is_empty() {
        for line in &mut lines[..8] {
            // A byte now and then.
            line.unread =
                if bench.now.monotonic_us.is_multiple_of(100_000) { vec![b'x'] } else { vec![] };
        }
        drive(&mut bench, &mut lines);
        let passed = bench.now.monotonic_us - begun;
        assert!(passed < 5_000_000, "stuck: {} bytes are unread", lines[8].unread.len());
    }
    bench.settle();
    assert_eq!(bench.acked[&honest], 40);
    // They do not hold everybody's memory for ever: in the end nobody waits for them.
    lines.truncate(8);
    let mut turns = 0;
    while bench.shard.unread() > 0 {
        drive(&mut bench, &mut lines);
        turns += 1;
        assert!(turns < 200_000, "{} bytes are held", held(&bench));
    }
    assert!(bench.closed.values().all(|reset| *reset));
    assert!(!bench.closed.contains_key(&honest));
    let rejected = bench.shard.counters().rejected(Cause::SurgeShare);
    assert!(rejected.1 > 0, "what they sent is counted");
    bench.settle();
    assert!(
        bench.shard.router(router(1)).unwrap().gaps.router.is_some() || bench.closed.is_empty()
    );
}

/// The one that is read while all others wait sends faster than anything can be digested.
#[test]
fn one_bad_router_hurts_only_itself_when_it_is_favoured_and_floods() {
    let budget = 64 * KIB;
    let mut bench = Bench::within(Budget::of_surge(budget as u64), |_| {});
    let mut lines = Vec::new();
    let frame = framed(1, &text_of(1, &many(400, 100)));
    for number in 1..=2 {
        let first = framed(1, &text_of(number, &many(400, 100)));
        let mut unread = hello_from(number);
        unread.extend(first);
        (2..400)
            .for_each(|out| unread.extend(framed(out, &text_of(number, &many(50, out as u32)))));
        lines.push(Line { id: bench.connect(number.into(), "127.0.0.1:1"), unread });
    }
    let mut most = 0;
    let mut turn = 0;
    while lines.iter().any(|line| !line.unread.is_empty()) {
        turn += 1;
        assert!(turn < 100_000, "stuck with {} bytes held", held(&bench));
        // Ten buffers for one slice of digesting.
        for line in lines.iter_mut() {
            for _ in 0..10 {
                if !bench.receiving[&line.id] || line.unread.is_empty() {
                    continue;
                }
                let rest = line.unread.split_off(line.unread.len().min(BUFFER));
                let bytes = std::mem::replace(&mut line.unread, rest);
                bench.handle(Completion::Received { connection: line.id, bytes: &bytes });
                while let Some(op) = bench.shard.poll_op() {
                    bench.act(op);
                }
                most = most.max(held(&bench));
            }
        }
        if turn % 10 == 0 {
            bench.shard.digest(bench.now);
        }
        while let Some(op) = bench.shard.poll_op() {
            bench.act(op);
        }
        bench.pass(100);
    }
    let bound = 2 * (budget + frame.len()) + 2 * BUFFER;
    assert!(most <= bound, "{most} held, at most {bound} allowed");
}

/// Sixty senders hold all but the end of a unit, come again when they are closed, and say nothing
/// else. Ten routers that have nothing to say for most of the time are never closed for it, and
/// what they say is acknowledged as it is without the others.
#[test]
fn silence_is_no_fault_when_others_hold_the_budget() {
    let mut bench = Bench::within(Budget::of_surge(256 << 10), |settings| {
        settings.limits.frame_bytes_max = 64 * KIB;
        settings.sessions_per_minute_max = 1_000_000;
    });
    let quiet: Vec<ConnectionId> = (1..=10)
        .map(|number| {
            let id = bench.connect(number.into(), "127.0.0.2:1");
            bench.send(id, &hello_of(Hello { snapshot: false, ..first_hello(router(number)) }));
            id
        })
        .collect();
    bench.pass(2_000_000);
    let unit = framed(1, &text_of(100, &many(280, 100)));
    assert!((48 * KIB..64 * KIB).contains(&unit.len()), "{} bytes", unit.len());
    let part = &unit[..unit.len() - 100];
    let stall = |number: u8| [&hello_from(number)[..], part].concat();
    let mut lines: Vec<Line> = (100..160)
        .map(|number| {
            let id = bench.connect(number.into(), "127.0.0.1:1");
            Line { id, unread: stall(number) }
        })
        .collect();
    let (mut opened, mut said, mut latest_us, mut most) = (1_000, 0, 0, 0);
    for turn in 0..20_000 {
        most = most.max(drive(&mut bench, &mut lines));
        for (line, number) in lines.iter_mut().zip(100..) {
            if bench.closed.contains_key(&line.id) {
                bench.handle(Completion::Closed { connection: line.id });
                opened += 1;
                *line = Line { id: bench.connect(opened, "127.0.0.1:1"), unread: stall(number) };
            }
        }
        if turn % 500 != 0 {
            continue;
        }
        // Each of them says something now and then, and is heard at once.
        said += 1;
        let text = |number| text_of(number, &[mapping(16, 16 + said as u32)]);
        let mut told: Vec<Line> = quiet
            .iter()
            .zip(1..)
            .map(|(id, number)| Line { id: *id, unread: framed(said, &text(number)) })
            .collect();
        let begun_us = bench.now.monotonic_us;
        while quiet.iter().any(|id| bench.acked.get(id) != Some(&said)) {
            deliver(&mut bench, &mut told, |_| {});
            digest(&mut bench);
            bench.pass(1_000);
            let passed_us = bench.now.monotonic_us - begun_us;
            assert!(passed_us < 5_000_000, "{turn}: {said} is not heard");
        }
        latest_us = latest_us.max(bench.now.monotonic_us - begun_us);
    }
    assert!(quiet.iter().all(|id| !bench.closed.contains_key(id)), "nobody quiet is closed");
    assert!(latest_us <= 50_000, "what the quiet say is heard after {latest_us} us");
    let closed = bench.shard.counters().rejected(Cause::SurgeShare);
    assert!(closed.0 > 5, "{closed:?}: whoever holds a part for ever is closed");
    // Chunks are up to twice what they hold; each connection gave a buffer before its pause.
    let bound = 2 * (256 + 64) * KIB + 60 * BUFFER;
    assert!(most <= bound, "{most} held, at most {bound} allowed");
}
