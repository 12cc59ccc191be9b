//! What the host does to a collector: no ring, no disk, no memory, nobody who reads.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use storage::log::log_path;
use storage::time::Hour;

use crate::process::{Process, Way, message, run_denied, states};
use crate::sender::{Fate, Router, connect_from, swap, wall};

#[test]
fn a_ring_that_is_demanded_and_forbidden_is_a_start_error_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = ["run", "--io", "uring", "--listen", "127.0.0.1:0", "--http", "off", "--data"];
    let output = run_denied(&arguments, &data);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("kernel.io_uring_disabled=0"), "{text}");
    assert!(text.contains("--io auto"), "{text}");
}

/// Puts folders where the log files of this hour and the next would be made.
fn spoil(data: &Path) {
    let hour = wall().hour();
    for hour in [hour, Hour(hour.0 + 1)] {
        std::fs::create_dir_all(log_path(data, hour, 0)).unwrap();
    }
}

#[test]
fn a_log_that_cannot_be_written_acknowledges_nothing_and_ends_the_process() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(way, &data, "shards = 1\n");
        spoil(&data);
        let mut router = Router::new(1);
        let mut session = router.open(process.listen, true, true).unwrap();
        let mapping = swap(100, 7, router.tick());
        session.send(&router.frame(&[mapping], true)).unwrap();
        let fate = session.fate(&mut router);
        assert!(matches!(fate, Fate::Closed | Fate::Reset));
        assert_eq!(router.acknowledged(), 0);
        assert_eq!(process.end().code(), Some(3));
        process.line(|line| message(line).contains("the process ends"));

        // Once the disk is mended everything is sent again.
        std::fs::remove_dir_all(data.join("log")).unwrap();
        let mut process = Process::start(way, &data, "shards = 1\n");
        let mut session = router.open(process.listen, true, true).unwrap();
        router.await_acks(&mut session);
        assert!(process.terminate().success());
        assert_eq!(states(&data)[&router.id].table.len(), 1);
    }
}

/// Standard error goes away, and peers cause line after line: the lines are lost and counted, and
/// nothing else happens.
#[test]
fn a_log_line_that_cannot_be_written_ends_nothing() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start_deaf(way, &data, "shards = 1\n");
        let mut router = Router::new(1);
        let mut session = router.open(process.listen, true, true).unwrap();
        // The first line shows the reader that nobody listens to it, and it goes.
        process.await_metric("stormdrain_log_lines_lost_total", "", |count| {
            let mut stream = connect_from([127, 0, 1, 2].into(), process.listen).unwrap();
            // It may be reset before it has said all.
            let _ = stream.write_all(b"garbage!");
            count >= 2
        });
        let mapping = swap(100, 7, router.tick());
        session.send(&router.frame(&[mapping], true)).unwrap();
        router.await_acks(&mut session);
        assert!(process.page("/healthz").starts_with("HTTP/1.1 200"));
        assert!(process.terminate().success());
    }
}

/// What cannot be said even before there is a log is an exit code all the same.
#[test]
fn a_start_that_fails_in_silence_has_its_exit_code() {
    let script = "exec \"$0\" run --shards 999 2> /dev/full";
    let status = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_stormdrain")]).status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn memory_that_cannot_be_had_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let script = "ulimit -v 600000; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_stormdrain")]);
    command.args(["run", "--memory", "64MiB", "--listen", "127.0.0.1:0", "--http", "off"]);
    command.arg("--data").arg(folder.path().join("data")).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["RLIMIT_AS", "614400000", "memory_bytes = 67108864"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
