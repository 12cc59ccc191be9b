//! Sessions from hello to the end, and what they leave in the log.

use storage::mapping::Key;

use super::*;

const PEER: &str = "127.0.0.1:1000";

#[test]
fn a_session_is_committed_before_it_is_acknowledged() {
    let mut bench = Bench::new();
    bench.sync_at_once = false;
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, true));
    bench.send(id, &frame(1, true, &[mapping(16, 17), mapping(18, 19)]));
    bench.send(id, &empty(FrameType::SnapshotComplete, 2));
    bench.send(id, &frame(3, false, &[mapping(16, 20)]));
    bench.settle();
    assert_eq!(bench.acked, BTreeMap::new(), "nothing is durable yet");
    bench.sync();
    bench.turn();
    assert_eq!(bench.acked[&id], 3);
    let expected =
        ["initiation", "snapshot-begin", "added", "added", "snapshot-complete", "altered"];
    assert_eq!(bench.story(), expected);
    assert_eq!(bench.shard.router(ROUTER).unwrap().table.len(), 2);
}

#[test]
fn rows_count_as_pushed_with_what_they_tell_of() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, true));
    bench.send(id, &frame(1, true, &[mapping(16, 17), mapping(18, 19)]));
    bench.end(id, Reason::ClosedByRouter);
    let counted = |bench: &mut Bench, metric| bench.shard.counters().get(metric);
    assert_eq!(counted(&mut bench, Metric::SessionsEnded), 1);
    assert_eq!(bench.rows().len(), 0, "nothing is written yet");
    let pushed = counted(&mut bench, Metric::RowsPushed);
    bench.settle();
    assert_eq!(bench.rows().len() as u64, pushed);
    assert_eq!(counted(&mut bench, Metric::RowsPushed), pushed);
    assert_eq!(counted(&mut bench, Metric::RowsCommitted), pushed);
}

#[test]
fn a_session_that_ends_without_a_word_leaves_a_gap_from_its_last_evidence() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.pass(1_000);
    bench.send(id, &frame(1, false, &[mapping(16, 17)]));
    let evidence = bench.now.wall;
    bench.pass(5_000_000);
    let cut = frame(2, false, &[mapping(16, 18)]);
    bench.send(id, &cut[..40]);
    bench.end(id, Reason::ConnectionLost);
    bench.settle();
    assert_eq!(bench.story(), ["initiation", "added", "termination", "gap"]);
    let state = bench.shard.router(ROUTER).unwrap();
    assert_eq!(state.gaps.router.map(|gap| gap.start), Some(evidence));
    assert_eq!(bench.closed.get(&id), Some(&false));
    assert_eq!(bench.shard.counters().rejected(Cause::Truncated).1, 40);
}

#[test]
fn a_router_that_closes_is_vouched_for_until_then() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.send(id, &frame(1, false, &[mapping(16, 17)]));
    bench.pass(5_000_000);
    bench.end(id, Reason::ClosedByRouter);
    bench.settle();
    let state = bench.shard.router(ROUTER).unwrap();
    assert_eq!(state.gaps.router.map(|gap| gap.start), Some(START.offset(5_000_000)));
}

#[test]
fn a_bye_leaves_a_gap_and_is_no_session_that_broke() {
    // A bye, one that is not all there, and none.
    let bye = empty(FrameType::Bye, 0);
    for (last, broken) in [(&bye[..], 0), (&bye[..20], 1), (&[], 1)] {
        let mut bench = Bench::new();
        let id = bench.connect(1, PEER);
        bench.send(id, &hello(1, 1, false));
        bench.send(id, &frame(1, false, &[mapping(16, 17)]));
        bench.send(id, last);
        bench.settle();
        bench.end(id, Reason::ClosedByRouter);
        bench.settle();
        assert!(bench.shard.router(ROUTER).unwrap().gaps.router.is_some(), "nobody watches it now");
        assert_eq!(bench.shard.counters().get(Metric::SessionsBroken), broken, "{last:02x?}");
    }
}

#[test]
fn an_on_demand_session_that_ends_in_order_leaves_no_gap() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &document(SnapshotMark::Whole, &[mapping(16, 17)]));
    bench.end(id, Reason::ClosedByRouter);
    bench.settle();
    let expected = ["initiation", "snapshot-begin", "added", "snapshot-complete", "termination"];
    assert_eq!(bench.story(), expected);
    let again = bench.connect(2, PEER);
    bench.send(again, &document(SnapshotMark::None, &[mapping(16, 18)]));
    bench.end(again, Reason::ClosedByRouter);
    let cut = bench.connect(3, PEER);
    bench.send(cut, &document(SnapshotMark::None, &[mapping(16, 19)])[..99]);
    bench.end(cut, Reason::ClosedByRouter);
    bench.settle();
    assert_eq!(bench.kinds(), [ChangeKind::Added, ChangeKind::Altered]);
    assert_eq!(bench.shard.router(ROUTER).unwrap().gaps.router, None, "the third named no router");
}

#[test]
fn frames_that_are_sent_again_are_applied_once() {
    let mut bench = Bench::new();
    let first = bench.connect(1, PEER);
    bench.send(first, &hello(1, 1, false));
    bench.send(first, &frame(1, false, &[mapping(16, 17)]));
    bench.send(first, &frame(2, false, &[mapping(16, 18)]));
    bench.end(first, Reason::ConnectionLost);
    let second = bench.connect(2, PEER);
    bench.send(second, &hello(1, 3, false));
    bench.send(second, &frame(1, false, &[mapping(16, 17)]));
    bench.send(second, &frame(2, false, &[mapping(16, 18)]));
    bench.send(second, &frame(3, false, &[mapping(16, 19)]));
    bench.settle();
    assert_eq!(bench.acked[&second], 3);
    let altered = ChangeKind::Altered;
    assert_eq!(bench.kinds(), [ChangeKind::Added, altered, altered]);
    assert_eq!(bench.shard.counters().get(Metric::Duplicates), 2);
}

#[test]
fn the_end_of_an_interrupted_snapshot_that_is_sent_again_sweeps_nothing() {
    let mut bench = Bench::new();
    let first = bench.connect(1, PEER);
    bench.send(first, &hello(1, 1, true));
    bench.send(first, &frame(1, true, &[mapping(16, 17)]));
    bench.send(first, &frame(2, true, &[mapping(18, 19)]));
    bench.end(first, Reason::ConnectionLost);
    // The end of the first snapshot never came; the sender has it, and sends it again.
    let second = bench.connect(2, PEER);
    bench.send(second, &hello(3, 4, true));
    bench.send(second, &empty(FrameType::SnapshotComplete, 3));
    bench.settle();
    assert!(bench.shard.router(ROUTER).unwrap().gaps.router.is_some(), "it vouches for nothing");
    bench.send(second, &frame(4, true, &[mapping(16, 17), mapping(18, 19)]));
    bench.send(second, &empty(FrameType::SnapshotComplete, 5));
    bench.settle();
    assert_eq!(bench.kinds(), [ChangeKind::Added, ChangeKind::Added]);
    assert_eq!(bench.shard.router(ROUTER).unwrap().gaps.router, None);
}

#[test]
fn a_jump_of_the_sequence_is_a_gap_and_its_snapshot_vouches_for_nothing() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, true));
    bench.send(id, &frame(1, true, &[mapping(16, 17)]));
    bench.send(id, &frame(3, true, &[mapping(18, 19)]));
    bench.send(id, &empty(FrameType::SnapshotComplete, 4));
    bench.settle();
    assert_eq!(bench.story(), ["initiation", "snapshot-begin", "added", "gap", "added"]);
    let gap = bench.shard.router(ROUTER).unwrap().gaps.router.unwrap();
    assert_eq!(gap.reason, Reason::Rejected(Cause::SequenceBroken));
    assert_eq!(bench.acked[&id], 4);
}

#[test]
fn a_damaged_frame_is_a_gap_and_the_session_goes_on() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    let mut damaged = frame(1, false, &[mapping(16, 17)]);
    *damaged.last_mut().unwrap() ^= 1;
    bench.send(id, &damaged);
    bench.send(id, &frame(2, false, &[mapping(18, 19)]));
    bench.settle();
    assert_eq!(bench.story(), ["initiation", "gap", "added"]);
    assert_eq!(bench.acked[&id], 2, "what is lost is said durably, and not sent again");
    assert_eq!(bench.shard.counters().rejected(Cause::FrameChecksum).0, 1);
}

#[test]
fn the_newest_session_of_a_source_wins_and_of_two_sources_the_active_one() {
    let mut bench = Bench::new();
    let first = bench.connect(1, PEER);
    bench.send(first, &hello(1, 1, false));
    bench.send(first, &frame(1, false, &[mapping(16, 17)]));
    let second = bench.connect(2, PEER);
    bench.send(second, &hello(2, 2, false));
    let stranger = bench.connect(3, "127.0.0.9:1000");
    bench.send(stranger, &hello(1, 1, false));
    bench.settle();
    assert_eq!(bench.closed, BTreeMap::from([(first, false), (stranger, true)]));
    assert_eq!(bench.shard.counters().rejected(Cause::IdentityConflict).0, 1);
    // The active one falls silent: now the stranger gets the id.
    bench.pass(bench.shard.settings.identity_idle_us + 1);
    let stranger = bench.connect(4, "127.0.0.9:1000");
    bench.send(stranger, &hello(2, 2, false));
    bench.settle();
    assert_eq!(bench.closed.get(&second), Some(&false));
    assert_eq!(bench.closed.get(&stranger), None);
    let expected = [
        "initiation",
        "added",
        "termination",
        "gap",
        "initiation",
        "termination",
        "gap",
        "initiation",
    ];
    assert_eq!(bench.story(), expected);
}

/// Bytes of an old connection may lie unread while its router has restarted and said more on a
/// new one: read late, they are the past.
#[test]
fn an_older_connection_that_is_read_late_does_not_replace_the_newer_session() {
    let mut bench = Bench::new();
    let older = bench.connect(1, PEER);
    bench.pass(10);
    let newer = bench.connect(2, PEER);
    bench.send(newer, &hello(1, 1, false));
    bench.send(newer, &frame(1, false, &[mapping(16, 18)]));
    bench.settle();
    bench.send(older, &hello(1, 1, false));
    bench.send(older, &frame(1, false, &[mapping(16, 17)]));
    bench.settle();
    assert_eq!(bench.closed, BTreeMap::from([(older, true)]));
    assert_eq!(bench.shard.counters().rejected(Cause::SessionOutdated).0, 1);
    assert_eq!(bench.story(), ["initiation", "added"]);
    // Neither when the newer session is over.
    let oldest = bench.connect(3, PEER);
    bench.pass(10);
    let newest = bench.connect(4, PEER);
    bench.send(newest, &hello(2, 2, false));
    bench.end(newest, Reason::ConnectionLost);
    bench.settle();
    bench.send(oldest, &hello(2, 2, false));
    bench.settle();
    assert_eq!(bench.closed.get(&oldest), Some(&true));
    assert_eq!(bench.shard.counters().rejected(Cause::SessionOutdated).0, 2);
}

#[test]
fn a_stop_digests_commits_and_acknowledges_what_was_read() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    let nameless = bench.connect(2, PEER);
    bench.send(id, &hello(1, 1, false));
    let bytes = frame(1, false, &[mapping(16, 17)]);
    bench.handle(Completion::Received { connection: id, bytes: &bytes });
    bench.shard.stop(bench.now);
    assert!(!bench.shard.stopped());
    bench.turn();
    assert!(bench.shard.stopped());
    assert_eq!(bench.acked[&id], 1);
    assert_eq!(bench.closed, BTreeMap::from([(id, false), (nameless, false)]));
    assert_eq!(bench.story(), ["initiation", "added", "termination", "gap"]);
}

#[test]
fn after_a_failure_of_the_log_nothing_is_acknowledged() {
    let mut bench = Bench::new();
    bench.sync_at_once = false;
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.send(id, &frame(1, false, &[mapping(16, 17)]));
    bench.settle();
    bench.fail(libc::EIO);
    bench.send(id, &frame(2, false, &[mapping(16, 18)]));
    bench.settle();
    assert_eq!(bench.shard.failure(), Some(libc::EIO));
    assert_eq!(bench.acked, BTreeMap::new());
    assert!(!bench.receiving[&id]);
    // Nor does a table that arrives from another shard set a session going again.
    bench.shard.ask_to_receive(id);
    bench.settle();
    assert!(!bench.receiving[&id]);
}

#[test]
fn a_snapshot_does_not_vouch_for_what_could_not_be_read_of_it() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &document(SnapshotMark::Whole, &[mapping(16, 17), mapping(18, 19)]));
    let text = String::from_utf8(document(SnapshotMark::Whole, &[mapping(16, 17)])).unwrap();
    let bad = text.replace("label=\"17\"", "label=\"1048576\"");
    assert_ne!(text, bad);
    bench.send(id, bad.as_bytes());
    bench.settle();
    // 16 was named, with a value that could not be read; 18 was not.
    let state = bench.shard.router(ROUTER).unwrap();
    let keys: Vec<Key> = state.gaps.keys.keys().copied().collect();
    assert_eq!(keys, [mapping(16, 0).key()]);
    assert!(state.table.get(&mapping(16, 0).key()).is_some());
    assert!(state.table.get(&mapping(18, 0).key()).is_none());
    assert_eq!((state.gaps.router, state.gaps.rest), (None, None));
    // Twice so: what the router names each time is never withdrawn.
    bench.send(id, bad.as_bytes());
    bench.settle();
    let state = bench.shard.router(ROUTER).unwrap();
    assert!(state.table.get(&mapping(16, 0).key()).is_some());
    assert_eq!(bench.shard.counters().rejected(Cause::LabelRange), (2, 0, 2));
    // It is read again.
    bench.send(id, text.as_bytes());
    bench.settle();
    assert!(bench.shard.router(ROUTER).unwrap().gaps.keys.is_empty());
    // Which one could not be read is not known: it may be any that was not shown.
    let both =
        String::from_utf8(document(SnapshotMark::Whole, &[mapping(16, 17), mapping(18, 19)]));
    let unreadable = both.unwrap().replace("ingress label=\"18\"", "ingress label=\" 18\"");
    for _ in 0..3 {
        bench.send(id, unreadable.as_bytes());
        bench.settle();
        let state = bench.shard.router(ROUTER).unwrap();
        assert!(state.gaps.rest.is_some());
        assert_eq!(state.gaps.router, None, "what it showed stands");
        assert_eq!(state.table.len(), 1);
    }
    bench.send(id, &document(SnapshotMark::Whole, &[mapping(16, 17), mapping(18, 19)]));
    bench.send(id, unreadable.as_bytes());
    bench.send(id, unreadable.as_bytes());
    bench.settle();
    let state = bench.shard.router(ROUTER).unwrap();
    let entry = state.table.get(&mapping(18, 0).key()).unwrap();
    assert!(entry.unconfirmed_since().is_some(), "18 may be the one that could not be read");
    bench.send(id, &document(SnapshotMark::Whole, &[mapping(16, 17)]));
    bench.settle();
    let state = bench.shard.router(ROUTER).unwrap();
    assert_eq!((state.gaps.rest, state.table.len()), (None, 1));
}

#[test]
fn a_limit_on_connections_that_is_not_of_this_shard_is_tried_again() {
    let mut bench = Bench::new();
    bench.turn();
    assert!(bench.accepting);
    bench.handle(Completion::AcceptFailed { errno: libc::EMFILE });
    bench.turn();
    assert!(!bench.accepting);
    while !bench.accepting {
        bench.pass(bench.shard.poll_timeout().unwrap() - bench.now.monotonic_us);
        assert!(bench.now.monotonic_us < 5_000_000, "no connection is taken ever again");
        bench.turn();
    }
}

#[test]
fn sequences_that_were_used_before_are_no_news() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.send(id, &frame(1, false, &[mapping(16, 17)]));
    bench.send(id, &frame(2, false, &[mapping(16, 18)]));
    bench.end(id, Reason::ConnectionLost);
    bench.settle();
    // An agent that began anew under the boot time of the one before.
    let again = bench.connect(2, PEER);
    bench.send(again, &hello(1, 1, true));
    bench.send(again, &frame(1, true, &[mapping(30, 31)]));
    bench.settle();
    assert_eq!(bench.acked.get(&again), None, "it is not dropped as a duplicate");
    assert_eq!(bench.closed.get(&again), Some(&true));
    assert!(bench.shard.counters().rejected(Cause::HelloInvalid).0 > 0);
    // One that says what it sends again is welcome.
    let third = bench.connect(3, PEER);
    bench.send(third, &hello(1, 3, false));
    bench.send(third, &frame(1, false, &[mapping(16, 17)]));
    bench.settle();
    assert_eq!(bench.acked.get(&third), Some(&1));
}

#[test]
fn a_stop_does_not_wait_for_a_table_that_another_shard_owes() {
    let mut bench = Bench::new();
    assert!(matches!(bench.shard.registry.claim(ROUTER, 1), crate::registry::Found::Yours(_)));
    let first = bench.connect(1, PEER);
    bench.send(first, &hello(1, 1, false));
    assert!(matches!(bench.told[..], [(1, Message::Claim(_))]));
    let second = bench.connect(2, PEER);
    bench.handle(Completion::Received { connection: second, bytes: &hello(1, 1, false) });
    bench.shard.stop(bench.now);
    bench.settle();
    assert!(bench.shard.stopped(), "the other shard has stopped already");
}

#[test]
fn a_unit_full_of_rejected_mappings_is_one_gap() {
    let mut bench = Bench::with(|settings| settings.rejected_budget = 50);
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.pass(1_000);
    let text = String::from_utf8(document(
        SnapshotMark::None,
        &(16..1_016).map(|label| mapping(label, 17)).collect::<Vec<_>>(),
    ))
    .unwrap();
    let text = text.replace("label=\"17\"", "label=\"9999999\"");
    let mut bytes = Vec::new();
    let (codec, flags) = (Codec::None, FrameFlags::NONE);
    let text = text.as_bytes();
    FrameEncoder::new(1).frame(FrameType::Mappings, codec, flags, 1, text, &mut bytes);
    bench.send(id, &bytes);
    bench.settle();
    assert_eq!(bench.story(), ["initiation", "gap", "termination", "gap"]);
    let state = bench.shard.router(ROUTER).unwrap();
    assert_eq!(state.gaps.router.map(|gap| gap.start), Some(START), "from before the unit");
    assert_eq!(bench.closed.get(&id), Some(&true));
}

#[test]
fn a_snapshot_whose_first_part_is_damaged_behind_frames_sent_again_withdraws_nothing() {
    let mut bench = Bench::new();
    let first = bench.connect(1, PEER);
    bench.send(first, &hello(1, 1, true));
    bench.send(first, &frame(1, true, &[mapping(16, 17), mapping(18, 19)]));
    bench.send(first, &empty(FrameType::SnapshotComplete, 2));
    bench.settle();
    bench.end(first, Reason::ConnectionLost);
    let second = bench.connect(2, PEER);
    // The end of the first snapshot comes again; fresh frames begin with 3, which is damaged.
    bench.send(second, &hello(2, 3, true));
    bench.send(second, &empty(FrameType::SnapshotComplete, 2));
    let mut damaged = frame(3, true, &[mapping(16, 17)]);
    *damaged.last_mut().unwrap() ^= 1;
    bench.send(second, &damaged);
    bench.send(second, &frame(4, true, &[mapping(18, 19)]));
    bench.send(second, &empty(FrameType::SnapshotComplete, 5));
    bench.settle();
    assert_eq!(bench.kinds(), [ChangeKind::Added, ChangeKind::Added]);
    let state = bench.shard.router(ROUTER).unwrap();
    assert!(state.gaps.router.is_some(), "it may have said that one of them is gone");
}

/// The start of the only gap of this scope on disk.
fn gap_start(bench: &Bench, is_router: bool) -> Micros {
    let starts: Vec<Micros> = bench
        .rows()
        .into_iter()
        .filter_map(|row| match row {
            Row::Session(storage::row::SessionRow {
                event: storage::row::SessionEvent::Gap { start, scope, .. },
                ..
            }) if (scope == storage::row::Scope::Router) == is_router => Some(start),
            _ => None,
        })
        .collect();
    assert_eq!(starts.len(), 1, "{:?}", bench.story());
    starts[0]
}

#[test]
fn a_keepalive_does_not_say_that_no_frame_is_missing_before_it() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.send(id, &frame(1, false, &[mapping(16, 17)]));
    let counted = bench.now.wall;
    bench.pass(5_000_000);
    bench.send(id, &empty(FrameType::Keepalive, 0));
    bench.pass(5_000_000);
    bench.send(id, &frame(3, false, &[mapping(18, 19)]));
    bench.settle();
    assert_eq!(gap_start(&bench, true), counted);
}

#[test]
fn frames_that_are_missing_after_a_reconnect_may_have_been_said_before_the_last_keepalive() {
    let mut bench = Bench::new();
    let first = bench.connect(1, PEER);
    bench.send(first, &hello_of(Hello { permanent: false, ..first_hello(ROUTER) }));
    bench.send(first, &frame(1, false, &[mapping(16, 17)]));
    let counted = bench.now.wall;
    bench.pass(5_000_000);
    bench.send(first, &empty(FrameType::Keepalive, 0));
    bench.send(first, &empty(FrameType::Bye, 0));
    bench.end(first, Reason::ClosedByRouter);
    bench.pass(5_000_000);
    let second = bench.connect(2, PEER);
    bench.send(second, &hello(3, 3, false));
    bench.settle();
    assert_eq!(gap_start(&bench, true), counted);
}

#[test]
fn what_a_new_session_garbles_may_have_happened_since_the_one_before() {
    let mut bench = Bench::new();
    let plain = |label: &str| {
        format!(
            "<label-mappings router-id=\"{ROUTER}\"><mapping timestamp=\"5\"><fec type=\"unknown\"/>\
             <ingress label=\"16\" origin=\"platform\"/><operation type=\"swap\">\
             <nhlfe label=\"{label}\" next-hop=\"10.0.0.2\"/></operation></mapping></label-mappings>"
        )
    };
    let first = bench.connect(1, PEER);
    bench.send(first, plain("17").as_bytes());
    bench.end(first, Reason::ClosedByRouter);
    let evidence = bench.now.wall;
    bench.pass(60_000_000);
    let second = bench.connect(2, PEER);
    bench.send(second, plain("seventeen").as_bytes());
    bench.end(second, Reason::ClosedByRouter);
    bench.settle();
    assert_eq!(gap_start(&bench, false), evidence);
}

#[test]
fn a_ledger_row_is_of_the_time_of_the_last_unit_however_late_it_is_written() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &hello(1, 1, false));
    bench.settle();
    bench.pass(1_000_000);
    bench.send(id, &empty(FrameType::Keepalive, 0));
    let heard = bench.now.wall;
    bench.pass(60_000_000);
    bench.send(id, &frame(1, false, &[])[..8]);
    bench.pass(60_000_000);
    bench.end(id, Reason::ConnectionLost);
    bench.settle();
    let ledgers = bench.rows().into_iter().filter_map(|row| match row {
        Row::Ledger(row) if row.bytes_framed > 0 => Some(row.time),
        _ => None,
    });
    assert_eq!(ledgers.max(), Some(heard));
}
