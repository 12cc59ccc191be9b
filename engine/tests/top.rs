//! `stormdrain top` beside a real collector: as one page of text, and live on a terminal.
//!
//! In:   a collector with routers that have said their tables.
//! Out:  text, exit codes, what a terminal is sent.
//! Law:  what is shown is what `/metrics` says.
//! Not:  what each part shows (`engine::top`).

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::http::{connect, json};
use crate::process::{PATIENCE, Process, Way};

/// Exit code, answer, message.
fn finished(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn top(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    command.arg("top").args(arguments).stdin(Stdio::null());
    finished(command.output().unwrap())
}

/// The same on a terminal: what is seen and typed there, step by step.
fn on_terminal(steps: &[&str], arguments: &[&str], colour: bool) -> (i32, String, String) {
    let person = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/top/terminal.py");
    let mut command = Command::new("python3");
    command.arg(person).args(steps).args(["--", env!("CARGO_BIN_EXE_stormdrain"), "top"]);
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR");
    if !colour {
        command.env("NO_COLOR", "1");
    }
    finished(command.output().unwrap())
}

/// Waits for a moment that has seen so many changes.
fn await_moment(collector: &Process, changes: u64) {
    let started = Instant::now();
    while json(collector, "/api/v1/now")["moment"]["totals"]["changes"] != changes {
        assert!(started.elapsed() < PATIENCE, "no moment has {changes} changes");
        std::thread::yield_now();
    }
}

#[test]
fn a_page_of_text_says_what_the_metrics_say() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Process::start(Way::Epoll, &folder.path().join("data"), "shards = 2\n");
    let _routers: Vec<_> = (1..=3).map(|number| connect(&collector, number, 10)).collect();
    await_moment(&collector, 33);
    // Its output is no terminal: once is enough.
    let (code, text, notes) = top(&["--http", &collector.http.to_string()]);
    assert_eq!((code, notes.as_str()), (0, ""), "{text}");
    let received = collector.metric("stormdrain_received_bytes_total", "");
    for expected in [
        "CALM  ".to_owned(),
        format!("collector  {} (", collector.http),
        format!(
            "totals     {received} bytes received, 33 mappings, 33 changes, 0 confirmed, 0 rej"
        ),
        "sessions   3 on 3 connections, 3 routers, 30 entries, 0 blocked\n".to_owned(),
        "\n192.0.2.3  known ".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
}

#[test]
fn a_live_view_follows_keys_sizes_and_the_end_of_its_collector() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Process::start(Way::Epoll, &folder.path().join("data"), "");
    let _routers: Vec<_> = (1..=3).map(|number| connect(&collector, number, 10)).collect();
    await_moment(&collector, 33);
    let http = collector.http.to_string();
    let end = format!("end:{}", collector.id());
    let steps = [
        "see:CALM",
        "size:81x24",
        "see:coming in",
        "see:3 routers, 30 entries",
        "key:2",
        "see:3 routers, 0 unknown, by answer",
        "size:100x30",
        "see:192.0.2.3",
        "key:?",
        "see:SQUEEZED   routers wait",
        "size:90x40",
        "see:SQUEEZED   routers wait",
        "key:?\t",
        "see:newest first",
        "size:100x30",
        "see:newest first",
        &end,
        "see:NO ANSWER",
        "key:q",
    ];
    let (code, text, notes) = on_terminal(&steps, &["--http", &http], true);
    assert_eq!((code, notes.as_str()), (0, ""), "{text}");
    // The screen that was there before is back, and the cursor.
    assert!(text.contains("\x1b[?1049h") && text.contains("\x1b[?1049l"), "{text:?}");
    assert!(text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "{text:?}");
    assert!(text.contains("\x1b[38;5;") || text.contains("\x1b[32m"), "{text:?}");
}

#[test]
fn a_key_that_comes_together_with_a_resize_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Process::start(Way::Epoll, &folder.path().join("data"), "");
    let _router = connect(&collector, 1, 10);
    await_moment(&collector, 11);
    let mut steps = vec!["see:CALM"];
    for _ in 0..8 {
        steps.extend(["both:81x24:2", "see:1 routers, 0 unknown, by answer"]);
        steps.extend(["both:80x24:3", "see:newest first"]);
    }
    steps.push("key:q");
    let (code, text, notes) = on_terminal(&steps, &["--http", &collector.http.to_string()], true);
    assert_eq!((code, notes.as_str()), (0, ""), "{text}");
}

#[test]
fn a_terminal_that_wants_no_colours_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Process::start(Way::Epoll, &folder.path().join("data"), "");
    let http = collector.http.to_string();
    let (code, text, notes) = on_terminal(&["see:CALM", "key:q"], &["--http", &http], false);
    assert_eq!((code, notes.as_str()), (0, ""), "{text}");
    assert!(!text.contains("\x1b[38;5;") && !text.contains("\x1b[32m"), "{text:?}");
}

#[test]
fn nobody_who_answers_is_no_page() {
    // Nobody else listens on this address.
    let (code, text, notes) = top(&["--once", "--http", "127.77.0.2:30311"]);
    assert_eq!((code, text.as_str()), (3, ""), "{notes}");
    assert!(notes.starts_with("stormdrain: 127.77.0.2:30311: "), "{notes}");
    assert!(notes.ends_with("does a collector run there (setting `http`)?\n"), "{notes}");
    let (code, _, notes) = top(&["--http", "nowhere"]);
    assert_eq!(code, 2, "{notes}");
    assert!(notes.contains("--http is `nowhere`: expected HOST:PORT"), "{notes}");
    let (code, _, notes) = top(&["--token-file", "/no/such/file"]);
    assert_eq!(code, 3, "{notes}");
}

#[test]
fn a_collector_that_wants_a_token_is_asked_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-that-nobody-guesses\n").unwrap();
    let token = token.to_str().unwrap();
    let settings = format!("http_token_file = \"{token}\"\n");
    let collector = Process::start(Way::Epoll, &folder.path().join("data"), &settings);
    let http = collector.http.to_string();
    let (code, text, notes) = top(&["--http", &http]);
    assert_eq!((code, text.as_str()), (3, ""), "{notes}");
    assert!(notes.contains("wants a token") && notes.contains("--token-file"), "{notes}");
    let (code, text, notes) = top(&["--http", &http, "--token-file", token]);
    assert_eq!((code, notes.as_str()), (0, ""), "{text}");
}
