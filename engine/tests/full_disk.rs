//! A disk that is full for a while, for real: a small file system, and a file that fills it.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::process::{Process, Way, assert_sound, message, session_rows, states};
use crate::sender::{Router, swap};

const DISK_BYTES: u64 = 8 << 20;
/// What the ballast leaves: some commits.
const LEFT_BYTES: u64 = 48 << 10;
const FRAMES: u32 = 300;
const FRAME_MAPPINGS: u32 = 100;

/// A collector on a disk that is nearly full, and what fills it. `None`, aloud, where this host
/// lets nobody mount.
fn start(way: Way, data: &Path, settings: &str) -> Option<(Process, PathBuf)> {
    let settings = format!("shards = 1\n{settings}");
    let Some(process) = Process::start_on_small_disk(way, data, &settings, DISK_BYTES) else {
        eprintln!("NOT RUN: no file system can be mounted here (root or user namespaces needed)");
        return None;
    };
    let ballast = process.inside(&data.join("ballast"));
    let mut file = std::fs::File::create(&ballast).unwrap();
    let page = [7; 4096];
    while file.write_all(&page).is_ok() {}
    let length = file.metadata().unwrap().len();
    assert!(length > DISK_BYTES / 2, "{length} bytes filled the disk");
    file.set_len(length - LEFT_BYTES).unwrap();
    Some((process, ballast))
}

/// Frames of a storm: every mapping is another label, so that every mapping is a row.
fn storm(router: &mut Router) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..FRAMES {
        let label = |index: u32| 16 + number * FRAME_MAPPINGS + index;
        let out = |index: u32| 16 + label(index) * 7919 % 1_000_000;
        let mappings: Vec<_> =
            (0..FRAME_MAPPINGS).map(|at| swap(label(at), out(at), router.tick())).collect();
        bytes.extend(router.frame(&mappings, true));
    }
    bytes
}

#[test]
fn a_full_disk_pauses_the_collector_and_nothing_is_lost() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().canonicalize().unwrap().join("data");
        let Some((mut process, ballast)) = start(way, &data, "") else { return };
        let mut router = Router::new(1);
        let mut session = router.open(process.listen, true, true).unwrap();
        let bytes = storm(&mut router);
        let mut sender = session.split();
        let sending = std::thread::spawn(move || sender.send(&bytes));

        let line = process.line(|line| message(line).starts_with("no room for the log"));
        assert_eq!(line["level"], "ERROR", "{line}");
        assert_eq!(line["fields"]["mount"], data.display().to_string(), "{line}");
        let free = line["fields"]["free_bytes"].as_u64().unwrap();
        assert!(free < line["fields"]["wanted_bytes"].as_u64().unwrap(), "{line}");
        process.await_metric("stormdrain_log_failed", "", |failed| failed == 1);
        let health = process.page("/healthz");
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
        assert!(health.contains("waits for room, so nothing is read"), "{health}");
        assert!(health.contains(&data.display().to_string()), "{health}");
        let framed = process.metric("stormdrain_mappings_framed_total", "");
        assert!(framed < u64::from(FRAMES * FRAME_MAPPINGS), "the disk was too large");
        process.await_metric("stormdrain_log_waited_seconds_total", "", |seconds| seconds >= 2);
        assert_eq!(process.metric("stormdrain_mappings_framed_total", ""), framed);

        std::fs::remove_file(ballast).unwrap();
        router.await_acks(&mut session);
        sending.join().unwrap().unwrap();
        process.line(|line| message(line).starts_with("the log has room again"));
        assert_eq!(process.metric("stormdrain_log_failed", ""), 0);
        assert!(process.page("/healthz").starts_with("HTTP/1.1 200"));
        let inside = process.inside(&data);
        assert_sound(&inside);
        let table = &states(&inside)[&router.id].table;
        assert_eq!(table.len(), (FRAMES * FRAME_MAPPINGS) as usize);
        // It came late, and was not lost: there is no gap, and the session is the first one.
        let words: Vec<_> = session_rows(&inside).iter().map(|row| row.event.name()).collect();
        assert!(!words.contains(&"gap") && !words.contains(&"termination"), "{words:?}");
        assert!(process.terminate().success());
    }
}

#[test]
fn a_stop_on_a_full_disk_says_so_and_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap().join("data");
    let settings = "stop_timeout_s = 2\n";
    let Some((mut process, _)) = start(Way::Epoll, &data, settings) else { return };
    let mut router = Router::new(1);
    let mut session = router.open(process.listen, true, true).unwrap();
    let bytes = storm(&mut router);
    let mut sender = session.split();
    let sending = std::thread::spawn(move || sender.send(&bytes));
    process.line(|line| message(line).starts_with("no room for the log"));
    assert_eq!(process.terminate().code(), Some(3));
    let line = process.line(|line| message(line).contains("found no room"));
    assert!(message(&line).contains(&data.display().to_string()), "{line}");
    assert!(message(&line).contains("stop_timeout_s = 2"), "{line}");
    session.fate(&mut router);
    assert!(router.acknowledged() < u64::from(FRAMES), "not all of it can be on that disk");
    // Whether the end of the process has met the sender in the middle of its bytes is chance.
    let _ = sending.join().unwrap();
}
