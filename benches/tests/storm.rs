//! Every storm bench at its smallest: it comes to its end, says its figures, and loses nothing.

use std::process::Output;

use crate::benches;

/// Runs a bench at a size of seconds, in a folder of its own.
fn smallest(name: &str) -> Output {
    let data = tempfile::tempdir().expect("a folder for the bench");
    benches(&[name, "--scale", "0.001", "--data", &data.path().display().to_string()])
}

/// Every figure is a line of numbers, or its bench says why it has none: without root there is no
/// namespace, and no storm in it.
fn assert_figures(name: &str, figures: &[&str]) {
    let output = smallest(name);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{output:?}");
    for figure in figures {
        let of = |kind: &str| format!("{kind} {figure} ");
        let skipped = text.lines().any(|line| line.starts_with(&of("SKIPPED")));
        if skipped {
            eprintln!("NOT RUN: {figure}\n{text}");
            continue;
        }
        let line = text.lines().find(|line| line.starts_with(&of("RATIO")));
        let numbers = line.unwrap_or_else(|| panic!("no {figure} in\n{text}"));
        let numbers =
            numbers.split(' ').skip(2).map(|number| number.parse::<f64>().expect("a number"));
        assert_eq!(numbers.count(), 3, "{text}");
    }
}

#[test]
fn a_burst_is_measured() {
    let figures = ["burst/drained-s", "burst/durable-s", "burst/lost", "burst/counters-moved"];
    assert_figures("burst", &figures);
}

#[test]
fn a_tight_host_is_measured_beside_a_reader_that_stops() {
    let figures = [
        "burst-tight/counters-moved",
        "burst-tight/overload-pressure",
        "burst-tight/overload-lost",
    ];
    assert_figures("burst-tight", &figures);
}

#[test]
fn a_restart_storm_is_measured() {
    let figures = [
        "restart-storm/complete-s",
        "restart-storm/rss",
        "restart-storm/listen-overflows",
        "restart-storm/resets",
        "restart-storm/rows",
    ];
    assert_figures("restart-storm", &figures);
}

#[test]
fn a_trickle_is_measured() {
    assert_figures("trickle", &["trickle/cpu", "trickle/idle"]);
}

#[test]
fn the_watch_is_measured() {
    assert_figures("watch", &["watch/idle", "watch/burst"]);
}

#[test]
fn silence_is_measured() {
    assert_figures("silence", &["silence/lost"]);
}

#[test]
fn rotations_are_measured() {
    assert_figures("rotation", &["rotation"]);
}

#[test]
fn the_generator_is_measured() {
    assert_figures("generator", &["generator"]);
    assert_figures("generator-lag", &["generator-lag"]);
}

#[test]
fn a_restart_on_a_disk_that_failed_is_measured() {
    assert_figures("restart", &["restart/adopted"]);
}
