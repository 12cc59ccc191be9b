//! Sessions over real sockets, turned by each driver.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use engine::io::pin::shard_of;
use engine::wire::SnapshotMark;
use engine::wire::frame::{FrameFlags, FrameType};
use engine::wire::xml::write::write_document;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use storage::mapping::{Mapping, Operation, RouterId};
use storage::row::{Reason, SessionEvent};

use crate::process::{
    PATIENCE, Process, Way, assert_sound, changes, message, session_rows, states,
};
use crate::sender::{Fate, Router, connect_from, swap, wall};

/// A data folder of its own per way, and what is to be tested on each.
fn each(test: impl Fn(Way, &Path)) {
    for way in Way::all() {
        eprintln!("--- {way:?}");
        let folder = tempfile::tempdir().unwrap();
        test(way, &folder.path().join("data"));
    }
}

/// Asserts that the data folder tells the router's table as the router itself knows it.
fn assert_table(data: &Path, router: &Router) {
    let states = states(data);
    let state = states.get(&router.id).expect("the router has rows");
    assert_eq!(state.table.len(), router.table().len());
    for (key, expected) in router.table() {
        let entry = state.table.get(key).unwrap_or_else(|| panic!("{key} is missing")).mapping();
        assert_eq!((entry.fec, entry.operation), (expected.fec, expected.operation), "{key}");
        assert_eq!(entry.branches, expected.branches, "{key}");
    }
}

/// `count` swaps from label 100 on.
fn swaps(router: &mut Router, count: u32, out: u32) -> Vec<Mapping> {
    (0..count).map(|index| swap(100 + index, out + index, router.tick())).collect()
}

/// Opens a session, sends `count` entries as a snapshot, and waits until all is durable.
fn first_snapshot(router: &mut Router, target: SocketAddr, count: u32) -> crate::sender::Session {
    let mut session = router.open(target, true, true).unwrap();
    let mappings = swaps(router, count, 5_000);
    for part in mappings.chunks(40) {
        let frame = router.frame(part, true);
        session.send(&frame).unwrap();
    }
    let end = router.counted(FrameType::SnapshotComplete, FrameFlags::NONE, b"");
    session.send(&end).unwrap();
    router.await_acks(&mut session);
    session
}

#[test]
fn a_framed_session_is_on_disk_when_it_is_acknowledged() {
    each(|way, data| {
        let mut process = Process::start(way, data, "shards = 2\n");
        let chosen = process.line(|line| message(line) == "driver chosen");
        assert_eq!(chosen["fields"]["driver"], way.driver(), "{chosen}");
        let reason = chosen["fields"]["reason"].as_str().unwrap();
        assert_eq!(way == Way::Denied, reason.contains("io_uring is forbidden"), "{reason}");
        let info = format!("driver=\"{}\"", way.driver());
        assert_eq!(process.metric("stormdrain_io_driver_info", &info), 1);

        let mut router = Router::new(1);
        let mut session = first_snapshot(&mut router, process.listen, 300);
        assert_table(data, &router);
        let altered = swaps(&mut router, 50, 9_000);
        session.send(&router.frame(&altered, false)).unwrap();
        let withdrawn = Mapping {
            operation: Operation::None,
            branches: Default::default(),
            ..swap(100, 0, router.tick())
        };
        session.send(&router.frame(&[withdrawn], false)).unwrap();
        router.await_acks(&mut session);
        // Acknowledged is durable, and what is durable can be read beside the running collector.
        assert_table(data, &router);
        assert!(process.page("/healthz").ends_with("ok\n"));
        session.send(&Router::bye()).unwrap();
        assert_eq!(session.fate(&mut router), Fate::Closed);
        assert!(process.terminate().success());
        assert_table(data, &router);
        assert_sound(data);
    });
}

#[test]
fn bare_input_needs_no_agent() {
    each(|way, data| {
        let mut process = Process::start(way, data, "");
        let mut expected = Vec::new();
        for (number, mode) in [(11, "plain"), (12, "gzip"), (13, "zlib")] {
            let router = RouterId([192, 0, 2, number].into());
            let mappings: Vec<_> = (0..200).map(|index| swap(100 + index, 7, wall())).collect();
            let mut text = String::new();
            write_document(Some(router), SnapshotMark::Whole, &mappings, &mut text);
            let bytes = match mode {
                "gzip" => {
                    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                    encoder.write_all(text.as_bytes()).unwrap();
                    encoder.finish().unwrap()
                }
                "zlib" => {
                    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                    encoder.write_all(text.as_bytes()).unwrap();
                    encoder.finish().unwrap()
                }
                _ => text.into_bytes(),
            };
            let mut stream = TcpStream::connect(process.listen).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Strictly silent: nothing but the end comes back.
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"");
            expected.push((router, mode));
        }
        assert!(process.terminate().success());
        let states = states(data);
        let rows = session_rows(data);
        for (router, mode) in expected {
            assert_eq!(states[&router].table.len(), 200, "{mode}");
            assert!(states[&router].gaps.router.is_none(), "a clean end is no gap: {mode}");
            let initiation = rows.iter().find(|row| row.router == router).unwrap();
            let SessionEvent::Initiation { mode: found, permanent, .. } = &initiation.event else {
                panic!("{initiation:?}");
            };
            assert_eq!((found.name(), *permanent), (mode, false));
        }
        assert_sound(data);
    });
}

#[test]
fn a_snapshot_is_evidence_not_news() {
    each(|way, data| {
        let mut router = Router::new(1);
        let mut process = Process::start(way, data, "");
        let mut session = first_snapshot(&mut router, process.listen, 300);
        assert!(process.terminate().success());
        // The stop is an end in order: everything acknowledged, then FIN.
        assert_eq!(session.fate(&mut router), Fate::Closed);
        let key = swap(100, 0, wall()).key();
        let since = states(data)[&router.id].table.get(&key).unwrap().active_since();
        let rows_before = changes(data).len();
        assert_eq!(rows_before, 300);
        let ended = session_rows(data);
        let stopped = SessionEvent::Termination { reason: Reason::CollectorStopped };
        assert!(ended.iter().any(|row| row.event == stopped), "{ended:#?}");
        assert!(
            states(data)[&router.id].gaps.router.is_some(),
            "nobody vouches while it is stopped"
        );

        let mut process = Process::start(way, data, "");
        let mut session = router.open(process.listen, true, true).unwrap();
        let snapshot = router.snapshot(64);
        session.send(&snapshot).unwrap();
        router.await_acks(&mut session);
        assert!(process.terminate().success());
        assert_eq!(changes(data).len(), rows_before, "the same table again costs no row");
        let states = states(data);
        assert_eq!(states[&router.id].table.get(&key).unwrap().active_since(), since);
        assert!(states[&router.id].gaps.router.is_some(), "open again since the second stop");
        let mut complete = session_rows(data).into_iter().filter_map(|row| match row.event {
            SessionEvent::SnapshotComplete { confirmed, .. } => Some(confirmed),
            _ => None,
        });
        assert_eq!(complete.next_back(), Some(300));
        assert_sound(data);
    });
}

#[test]
fn the_newest_session_of_a_source_wins() {
    each(|way, data| {
        let mut process = Process::start(way, data, "shards = 2\n");
        let mut router = Router::new(1);
        let mut old = first_snapshot(&mut router, process.listen, 50);
        let mut new = router.open(process.listen, true, true).unwrap();
        let snapshot = router.snapshot(64);
        new.send(&snapshot).unwrap();
        assert_eq!(old.fate(&mut router), Fate::Closed);
        router.await_acks(&mut new);
        process.await_metric("stormdrain_sessions_superseded_total", "", |count| count == 1);
        let line = process.line(|line| message(line) == "superseded");
        let (peer, replaced) = (&line["fields"]["peer"], &line["fields"]["replaced"]);
        assert!(peer.is_string() && replaced.is_string() && peer != replaced, "{line}");
        assert!(process.terminate().success());
        let superseded = SessionEvent::Termination { reason: Reason::Superseded };
        assert!(session_rows(data).iter().any(|row| row.event == superseded));
        assert_eq!(states(data)[&router.id].position.generation, 2);
        assert_table(data, &router);
        assert_sound(data);
    });
}

/// A source on this shard of two.
fn source_on(shard: usize) -> IpAddr {
    let mut sources = (1..=250_u8).map(|last| IpAddr::from([127, 0, 9, last]));
    sources.find(|source| shard_of(*source, 2) == shard).expect("half of them are")
}

#[test]
fn a_router_that_comes_back_on_another_shard_finds_its_table() {
    each(|way, data| {
        let mut process = Process::start(way, data, "shards = 2\n");
        let mut router = Router::new(1).moved_to(source_on(0));
        let mut session = first_snapshot(&mut router, process.listen, 300);
        process.await_metric("stormdrain_table_entries", "shard=\"0\"", |count| count == 300);
        session.send(&Router::bye()).unwrap();
        assert_eq!(session.fate(&mut router), Fate::Closed);

        let mut router = router.moved_to(source_on(1));
        let mut session = router.open(process.listen, true, true).unwrap();
        let snapshot = router.snapshot(64);
        session.send(&snapshot).unwrap();
        router.await_acks(&mut session);
        process.await_metric("stormdrain_tables_given_total", "shard=\"0\"", |count| count == 1);
        process.await_metric("stormdrain_table_entries", "shard=\"1\"", |count| count == 300);
        process.await_metric("stormdrain_confirmed_total", "shard=\"1\"", |count| count == 300);
        assert!(process.terminate().success());
        assert_eq!(changes(data).len(), 300, "the table moved, so nothing was new");
        assert_table(data, &router);
        assert_sound(data);
    });
}

/// The tables lie in the files of two shards, then of three, then of one.
#[test]
fn a_restart_with_another_number_of_shards_loses_nothing() {
    each(|way, data| {
        let mut routers: Vec<Router> = (1..=8).map(Router::new).collect();
        for (life, shards) in [2, 3, 1].into_iter().enumerate() {
            let mut process = Process::start(way, data, &format!("shards = {shards}\n"));
            for router in &mut routers {
                let mut session = if life == 0 {
                    first_snapshot(router, process.listen, 100)
                } else {
                    let mut session = router.open(process.listen, true, true).unwrap();
                    let snapshot = router.snapshot(64);
                    session.send(&snapshot).unwrap();
                    router.await_acks(&mut session);
                    session
                };
                session.send(&Router::bye()).unwrap();
                assert_eq!(session.fate(router), Fate::Closed);
            }
            assert!(process.page("/healthz").ends_with("ok\n"), "the ledger balances");
            assert!(process.terminate().success());
            assert_eq!(changes(data).len(), 800, "what was known is confirmed, and nothing is new");
            routers.iter().for_each(|router| assert_table(data, router));
            assert_sound(data);
        }
    });
}

#[test]
fn a_reload_changes_who_may_speak_and_touches_no_session() {
    each(|way, data| {
        let mut process = Process::start(way, data, "allow = [\"127.0.1.1/32\"]\n");
        let mut router = Router::new(1);
        let mut session = first_snapshot(&mut router, process.listen, 10);
        let refused = |process: &Process| {
            let stream = connect_from([127, 0, 1, 2].into(), process.listen);
            stream.and_then(|mut stream| stream.read(&mut [0; 8])).map_err(|error| error.kind())
        };
        assert_eq!(refused(&process), Err(std::io::ErrorKind::ConnectionReset));
        let cause = "cause=\"source-refused\"";
        process.await_metric("stormdrain_rejections_total", cause, |count| count == 1);

        let settings = "allow = [\"127.0.1.2/32\"]\n\n\
                        [[router]]\nid = \"192.0.2.1\"\nname = \"pe1\"\n";
        process.reload(settings);
        let mut other = Router::new(2);
        let _second = first_snapshot(&mut other, process.listen, 10);
        // The session that was open goes on, although its source could not open another.
        let altered = swaps(&mut router, 10, 8_000);
        session.send(&router.frame(&altered, false)).unwrap();
        router.await_acks(&mut session);
        // The reset may come before hello is out.
        let refused = router.open(process.listen, true, true);
        assert!(refused.map_or(true, |mut session| session.ack() == Err(Fate::Reset)));
        assert!(process.terminate().success());
        assert_eq!(&*states(data)[&router.id].name, "pe1");
        assert_table(data, &router);
        assert_sound(data);
    });
}

#[test]
fn a_second_collector_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let data: PathBuf = folder.path().join("data");
    let mut first = Process::start(Way::Epoll, &data, "");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stormdrain"));
        let output = command.arg("run").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--data"), "{text}");
    let other = folder.path().join("other");
    let listen = first.listen.to_string();
    let (code, text) = run(&["--data", other.to_str().unwrap(), "--listen", &listen]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("in use") && text.contains("--listen"), "{text}");
    assert!(first.terminate().success());
}
