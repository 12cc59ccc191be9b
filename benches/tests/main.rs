//! The program as a user meets it: its list, its exit codes, and every bench at its smallest.

mod storm;

use std::path::Path;
use std::process::{Command, Output};

fn benches(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_benches"));
    command.args(arguments).output().expect("the program is built with its tests")
}

#[test]
fn without_a_name_the_list_is_printed() {
    let output = benches(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("all"), "{text}");
}

#[test]
fn wrong_words_are_2() {
    for (arguments, word) in [
        (&["decoed"][..], "decoed"),
        (&["all", "--scale", "2"][..], "at most 1"),
        (&["role", "nobody"][..], "a role that a bench starts"),
    ] {
        let output = benches(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}

/// Runs one bench at its smallest; its figures, by name.
fn small(name: &str) -> Vec<(String, f64)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().to_str().expect("a path in UTF-8");
    let output = benches(&[name, "--scale", "0.001", "--data", data]);
    let text = String::from_utf8(output.stdout).expect("lines in UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("FAULT"), "{text}");
    let figures = text.lines().filter_map(|line| line.strip_prefix("RATIO "));
    let figures = figures.map(|line| {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let numbers: Vec<f64> = words.flat_map(str::parse).collect();
        assert_eq!(numbers.len(), 3, "{line}");
        (name, numbers[0])
    });
    let skipped = text.lines().filter(|line| line.starts_with("SKIPPED "));
    skipped.for_each(|line| eprintln!("NOT RUN: {line}"));
    figures.collect()
}

#[test]
fn decode_has_a_figure_for_every_length_of_a_frame() {
    let figures = small("decode");
    let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
    for length in ["1", "10", "100", "1000"] {
        assert!(names.contains(&&*format!("decode/change/{length}")), "{names:?}");
        assert!(names.contains(&&*format!("decode/snapshot/{length}")), "{names:?}");
    }
    assert!(figures.iter().all(|(_, value)| *value > 0.0 && *value < 1.0), "{figures:?}");
}

#[test]
fn the_whole_shard_digests_what_it_is_given() {
    assert_eq!(small("decode-shard").len(), 4);
}

#[test]
fn memory_and_disk_are_measured_per_entry() {
    assert_eq!(small("table").len(), 1);
    let figures = small("log-size");
    assert!(figures.len() == 2 && figures.iter().all(|(_, bytes)| *bytes > 5.0), "{figures:?}");
}

#[test]
fn what_is_sent_over_sockets_is_durable() {
    assert_eq!(small("end-to-end/100").len(), 1);
    small("connections");
    assert_eq!(small("commit").len(), 1);
}

/// A few attacks, briefly: no time is asserted, but no good session is closed, the books balance
/// and `verify` finds nothing.
#[test]
fn good_routers_outlive_hostile_peers() {
    let figures = small("hostile");
    let closed = figures.iter().find(|(name, _)| name.starts_with("hostile/closed"));
    assert_eq!(closed.map(|(_, closed)| *closed), Some(0.0), "{figures:?}");
}

#[test]
fn every_change_of_a_failure_is_computed() {
    let figures = small("model");
    assert!(figures.len() == 1 && figures[0].1 > 0.0, "{figures:?}");
}

#[test]
fn peers_that_are_installed_are_measured() {
    for (figure, program) in [
        ("peers/rsyslog/100", "/usr/sbin/rsyslogd"),
        ("peers/clickhouse/100", "/usr/sbin/clickhouse-server"),
        ("peers/xymond-combo/100", "/usr/lib/xymon/server/bin/xymond"),
        ("peers/victoria-metrics/100", "/usr/bin/victoria-metrics"),
    ] {
        let figures = small(figure);
        assert!(figures.len() == 1 || !Path::new(program).exists(), "{figure}: {figures:?}");
    }
}
