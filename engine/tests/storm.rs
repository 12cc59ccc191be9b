//! More at once than the collector can digest, and more connections than it may hold.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, TcpStream};

use crate::process::{Process, Way, assert_sound, message, states};
use crate::sender::{Fate, Router, Session, connect_from, swap};
use engine::wire::frame::{FrameFlags, FrameType};

/// Routers that speak at once.
const ROUTERS: u8 = 8;
/// Frames of each, of `FRAME_MAPPINGS`.
const FRAMES: u32 = 14;
const FRAME_MAPPINGS: u32 = 900;

/// Everything that a router will say, made beforehand: the senders are faster than the collector.
fn speech(router: &mut Router) -> Vec<u8> {
    let mut bytes = Vec::new();
    for round in 0..FRAMES {
        let time = router.tick();
        let mappings: Vec<_> =
            (0..FRAME_MAPPINGS).map(|index| swap(100 + index, 1_000 + round, time)).collect();
        bytes.extend(router.plain_frame(&mappings));
    }
    bytes
}

/// Sends it all, and reads acks until the last.
fn flood(mut session: Session, speech: &[u8]) {
    let mut reader = session.split();
    std::thread::scope(|scope| {
        let acks = scope
            .spawn(move || while reader.ack().expect("an ack, not the end") < u64::from(FRAMES) {});
        session.send(speech).unwrap();
        acks.join().unwrap();
    });
}

#[test]
fn pressure_ends_at_the_tcp_window() {
    for way in Way::all() {
        eprintln!("--- {way:?}");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // 3 to 6 MiB for received bytes, and 2.6 MB from each of eight routers: a part must wait at
        // the senders.
        let mut process = Process::start(way, &data, "memory_bytes = \"32MiB\"\nshards = 2\n");
        let mut routers: Vec<Router> = (1..=ROUTERS).map(Router::new).collect();
        let sessions: Vec<(Session, Vec<u8>)> = routers
            .iter_mut()
            .map(|router| (router.open(process.listen, false, true).unwrap(), speech(router)))
            .collect();
        std::thread::scope(|scope| {
            for (session, speech) in sessions {
                scope.spawn(move || flood(session, &speech));
            }
        });
        let (pauses, resumes) = (
            process.metric("stormdrain_receive_pauses_total", ""),
            process.metric("stormdrain_receive_resumes_total", ""),
        );
        assert!(pauses > 0 && resumes > 0, "{pauses} pauses, {resumes} resumes");
        let line = process.line(|line| message(line).starts_with("the largest sessions are not"));
        assert!(line["fields"]["fix"].as_str().unwrap().contains("--memory"), "{line}");
        process.await_metric("stormdrain_receive_paused", "", |count| count == 0);
        assert!(process.metric("stormdrain_receive_pause_seconds_count", "") >= resumes);
        let mappings = u64::from(ROUTERS) * u64::from(FRAMES) * u64::from(FRAME_MAPPINGS);
        process.await_metric("stormdrain_mappings_framed_total", "", |count| count == mappings);
        assert!(process.page("/healthz").ends_with("ok\n"));
        assert!(process.terminate().success());
        let states = states(&data);
        for router in &routers {
            let table = &states[&router.id].table;
            assert_eq!(table.len(), FRAME_MAPPINGS as usize);
            for (key, expected) in router.table() {
                assert_eq!(table.get(key).unwrap().mapping().branches, expected.branches);
            }
        }
        assert_sound(&data);
    }
}

/// The peer has neither sent a FIN nor reset the connection.
fn assert_open(stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let error = (&mut &*stream).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn no_more_connections_than_connections_max_are_held_by_all_shards_together() {
    for way in Way::all() {
        eprintln!("--- {way:?}");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let settings = "shards = 2\nconnections_max = 10\n";
        let mut process = Process::start_limited(way, &data, settings, 64);
        let connect = |index: u8| connect_from(IpAddr::from([127, 0, 4, index]), process.listen);
        let mut idle: Vec<_> = (1..=30).map(|index| connect(index).unwrap()).collect();
        let line = process.line(|line| message(line).starts_with("accepting no connections"));
        assert_eq!(line["fields"]["limit"], "connections_max (10)", "{line}");
        assert!(line["fields"]["fix"].as_str().unwrap().contains("connections_max"), "{line}");
        let accepted = "stormdrain_connections_accepted_total";
        let closed = "stormdrain_connections_closed_total";
        process.await_metric(accepted, "", |accepted| accepted == 10);
        idle.iter().for_each(assert_open);
        while let Some(one) = idle.pop() {
            drop(one);
            let gone = 30 - idle.len() as u64;
            // Whoever leaves makes room on whichever shard a peer waits, the kernel's queue of
            // the other shard included.
            process.await_metric(closed, "", |closed| closed >= gone.saturating_sub(20));
            let held = process.metric(accepted, "").saturating_sub(process.metric(closed, ""));
            assert!(held <= 10, "{held} connections");
        }
        process.await_metric(accepted, "", |accepted| accepted == 30);
        process.await_metric(closed, "", |closed| closed == 30);
        process.await_metric("stormdrain_accept_limited", "", |limited| limited == 0);
        assert!(process.terminate().success());
    }
}

#[test]
fn at_the_limit_of_descriptors_routers_wait_and_lose_nothing() {
    for way in Way::all() {
        eprintln!("--- {way:?}");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start_limited(way, &data, "shards = 1\n", 48);
        let connect = |index: u8| connect_from(IpAddr::from([127, 0, 4, index]), process.listen);
        let idle: Vec<_> = (1..=60).map(|index| connect(index).unwrap()).collect();
        let line = process.line(|line| message(line).starts_with("accepting no connections"));
        let limit = line["fields"]["limit"].as_str().unwrap();
        assert!(limit.contains("RLIMIT_NOFILE") && limit.contains("48"), "{line}");
        assert!(line["fields"]["fix"].as_str().unwrap().contains("LimitNOFILE"), "{line}");
        // The line comes in the middle of a turn, the metric at its end.
        process.await_metric("stormdrain_accept_limited", "", |limited| limited == 1);
        idle.iter().for_each(assert_open);

        // The kernel has the connection, the collector not yet.
        let mut router = Router::new(1);
        let mut session = router.open(process.listen, true, true).unwrap();
        let mapping = swap(100, 7, router.tick());
        session.send(&router.frame(&[mapping], true)).unwrap();
        let end = router.counted(FrameType::SnapshotComplete, FrameFlags::NONE, b"");
        session.send(&end).unwrap();
        drop(idle);
        router.await_acks(&mut session);
        assert!(process.terminate().success());
        assert_eq!(session.fate(&mut router), Fate::Closed);
        assert_eq!(states(&data)[&router.id].table.len(), 1);
        assert_sound(&data);
    }
}
