//! A full disk: the shard holds still, and goes on as if nothing had been.

use super::*;

const PEER: &str = "127.0.0.1:1000";
const SECOND_US: u64 = 1_000_000;

/// A session with one frame durable and a commit of the second that has found no room.
fn without_room() -> (Bench, ConnectionId) {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.send(id, &frame(1, false, &[mapping(16, 17)]));
    bench.settle();
    assert_eq!(bench.acked[&id], 1);
    bench.sync_at_once = false;
    bench.send(id, &frame(2, false, &[mapping(16, 18)]));
    bench.settle();
    bench.fail(libc::ENOSPC);
    bench.turn();
    (bench, id)
}

#[test]
fn a_full_disk_pauses_reading_and_goes_on_by_itself() {
    let (mut bench, id) = without_room();
    assert!(!bench.receiving[&id] && bench.accepting && bench.shard.failure().is_none());
    // What was under way is kept and not digested; a newcomer is taken and not read.
    bench.send(id, &frame(3, false, &[mapping(16, 19)]));
    let newcomer = bench.connect(2, "127.0.0.2:1000");
    assert_eq!(bench.receiving.get(&newcomer), None);
    for tried in 1..10 {
        assert!(!bench.sync_asked, "it is not tried before its time");
        bench.pass(SECOND_US);
        assert!(bench.shard.poll_timeout().is_some_and(|due| due <= bench.now.monotonic_us));
        bench.turn();
        assert!(!bench.unsynced.is_empty(), "the same bytes are tried again");
        assert_eq!(bench.shard.counters().get(Metric::LogWaitedSeconds), tried);
        assert_eq!(bench.shard.counters().get(Metric::LogFailed), 1);
        bench.fail(libc::ENOSPC);
        bench.turn();
    }
    let framed = bench.shard.counters().get(Metric::MappingsFramed);
    assert_eq!((bench.acked[&id], framed), (1, 2), "nothing is digested or acknowledged");
    bench.sync_at_once = true;
    bench.pass(SECOND_US);
    bench.settle();
    assert_eq!((bench.acked[&id], bench.shard.counters().get(Metric::LogFailed)), (3, 0));
    assert!(bench.receiving[&id] && bench.receiving[&newcomer]);
    // Nothing was lost, only late: no gap, and the session is the same.
    assert_eq!(bench.story(), ["initiation", "added", "altered", "altered"]);
}

#[test]
fn a_router_is_not_held_to_a_time_in_which_it_was_not_read() {
    let (mut bench, id) = without_room();
    let nameless = bench.connect(2, "127.0.0.2:1000");
    for _ in 0..40 {
        bench.pass(bench.shard.settings.identify_timeout_us / 4);
        bench.turn();
        bench.fail(libc::ENOSPC);
    }
    assert_eq!(bench.closed, BTreeMap::new());
    bench.sync_at_once = true;
    bench.pass(SECOND_US);
    bench.settle();
    assert!(bench.receiving[&id] && bench.receiving[&nameless]);
    assert_eq!(bench.closed, BTreeMap::new());
}

#[test]
fn whoever_was_paused_before_stays_paused() {
    let (mut bench, id) = without_room();
    bench.shard.pause_receive(id);
    bench.sync_at_once = true;
    bench.pass(SECOND_US);
    bench.settle();
    assert!(!bench.receiving[&id]);
}

#[test]
fn a_stop_on_a_full_disk_waits_for_room_and_then_ends_in_order() {
    let (mut bench, id) = without_room();
    bench.shard.stop(bench.now);
    bench.turn();
    assert!(!bench.shard.stopped() && bench.closed.is_empty());
    bench.sync_at_once = true;
    bench.pass(SECOND_US);
    bench.settle();
    assert!(bench.shard.stopped());
    assert_eq!((bench.acked[&id], bench.closed[&id]), (2, false));
}

#[test]
fn a_batch_is_tried_again_in_the_file_of_the_hour_that_it_is_then() {
    let (mut bench, _) = without_room();
    let before = bench.hour;
    bench.pass(3_600 * SECOND_US);
    bench.turn();
    assert!(bench.hour > before);
}

#[test]
fn the_next_hours_file_is_made_ahead_once_by_a_shard_that_writes() {
    let mut bench = Bench::new();
    let hour = START.hour();
    let end_us = hour.next().start().since(START) as u64;
    bench.pass(end_us - 61 * SECOND_US);
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.settle();
    assert_eq!((bench.hour, bench.prepared.len()), (Some(hour), 0));
    for _ in 0..60 {
        bench.pass(SECOND_US);
        bench.turn();
    }
    assert_eq!(bench.prepared, [hour.next()], "before the hour, and once");
    bench.pass(3_600 * SECOND_US);
    bench.turn();
    assert_eq!(bench.prepared.len(), 1, "nothing was written in that hour");
}

#[test]
fn a_slow_commit_is_digested_behind_until_so_much_collects_and_no_further() {
    const BATCH_BYTES: usize = 8_192;
    let mut bench = Bench::with(|settings| {
        settings.block_bytes_max = 1_024;
        settings.batch_bytes_max = BATCH_BYTES;
    });
    bench.sync_at_once = false;
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.settle();
    assert!(bench.sync_asked, "the commit that is slow");
    let framed = |bench: &mut Bench| bench.shard.counters().get(Metric::MappingsFramed);
    let mut most = 0;
    for sequence in 1..=300 {
        let label = 16 + sequence as u32 * 20;
        let mappings: Vec<Mapping> = (0..20).map(|at| mapping(label + at, label)).collect();
        bench.send(id, &frame(sequence, false, &mappings));
        most = most.max(bench.shard.commit.waiting_bytes());
    }
    let digested = framed(&mut bench);
    assert!((100..5_000).contains(&digested), "{digested} of 6,000 digested");
    assert!((BATCH_BYTES..BATCH_BYTES + 1_024).contains(&most), "{most} bytes collected");
    for _ in 0..100 {
        bench.turn();
        if bench.sync_asked {
            bench.sync();
        }
        bench.pass(bench.shard.settings.commit_interval_us);
    }
    assert_eq!((framed(&mut bench), bench.acked[&id]), (6_000, 300));
}
