//! Cases: what routers say, and what is right to answer, one small file each (cases/README.md).
//!
//! In:   tests/cases/*.case; tests/cases/pending/*.case where STORMDRAIN_CASES_PENDING is set.
//! Out:  every answer that is wrong: the file, the input mode, the question, expected, found.
//! Law:  a case is played over every input mode that can say it, and asked again after a restart.
//! Not:  faults of the transport (`bad_input`, `sessions`).
//!
//! STORMDRAIN_CASE=word plays only files with that word in their name.

mod answer;
mod case;
mod document;
mod fpm;
mod network;
mod time;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::case::{Case, Verb, read_folder};
use self::network::{Mode, Network};

/// Plays at a time: each waits more than it computes.
const PLAYERS: usize = 8;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The modes in which a case can be said.
fn modes(case: &Case) -> Result<Vec<Mode>, String> {
    let has = |verb: Verb| case.steps.iter().any(|step| step.verb == verb);
    if !case.modes.is_empty() {
        let of = |name: &String| {
            let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
            mode.ok_or_else(|| format!("expected plain, gzip, zlib, framed or fpm, found `{name}`"))
        };
        return case.modes.iter().map(of).collect();
    }
    Ok(if has(Verb::Hello) {
        vec![Mode::Framed]
    } else if has(Verb::Send) {
        vec![Mode::Plain, Mode::Gzip, Mode::Zlib, Mode::Framed]
    } else {
        vec![Mode::Fpm]
    })
}

/// Plays a case in one mode. Returns what was wrong.
fn play(case: &Case, mode: Mode) -> Vec<String> {
    play_steps(case, mode).unwrap_or_else(|fault| vec![fault])
}

fn play_steps(case: &Case, mode: Mode) -> Result<Vec<String>, String> {
    let mut network = Network::start(case, mode)?;
    for step in &case.steps {
        network.step(step).map_err(|fault| format!("line {}: {fault}", step.line))?;
    }
    let mut faults = Vec::new();
    let mut ask_all = |network: &Network, when: &str, at| {
        for question in &case.questions {
            let (line, command) = (question.line, &question.command);
            faults.extend(answer::check(network, question, at).into_iter().map(|fault| {
                format!("line {line}, {}, {when}: {command}\n    {fault}", mode.name())
            }));
        }
    };
    ask_all(&network, "before the restart", None);
    if !case.no_restart {
        let before = network.now();
        network.restart().map_err(|fault| format!("the restart: {fault}"))?;
        ask_all(&network, "after the restart", Some(before));
    }
    network.stop()?;
    let report = storage::log::verify(&network.data()).map_err(|error| error.to_string())?;
    faults.extend(report.faults.iter().map(|fault| format!("the log is not sound: {fault:?}")));
    Ok(faults)
}

/// Plays all of them, several at a time. Returns the faults by file.
fn play_all(cases: &BTreeMap<String, Result<Case, String>>) -> BTreeMap<&str, Vec<String>> {
    let only = std::env::var("STORMDRAIN_CASE").unwrap_or_default();
    let mut jobs = Vec::new();
    let faults = Mutex::new(BTreeMap::<&str, Vec<String>>::new());
    for (name, case) in cases.iter().filter(|(name, _)| name.contains(&only)) {
        match case.as_ref().map_err(Clone::clone).and_then(|case| Ok((case, modes(case)?))) {
            Ok((case, modes)) => jobs.extend(modes.into_iter().map(|mode| (name, case, mode))),
            Err(fault) => faults.lock().unwrap().entry(name).or_default().push(fault),
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some((name, case, mode)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let found = play(case, *mode);
                    if !found.is_empty() {
                        faults.lock().unwrap().entry(name).or_default().extend(found);
                    }
                }
            });
        }
    });
    faults.into_inner().unwrap()
}

/// Faults of one file that are told in full: more are mostly the same in other places.
const TOLD_MAX: usize = 2;

fn told(folder: &str, faults: &BTreeMap<&str, Vec<String>>) -> String {
    let mut text = String::new();
    for (name, faults) in faults {
        for fault in faults.iter().take(TOLD_MAX) {
            text.push_str(&format!("engine/tests/{folder}/{name}: {}\n", fault.trim_end()));
        }
        if let Some(more @ 1..) = faults.len().checked_sub(TOLD_MAX) {
            text.push_str(&format!("engine/tests/{folder}/{name}: and {more} more\n"));
        }
    }
    text
}

#[test]
fn every_case_is_answered_rightly() {
    let cases = read_folder(&folder("cases"));
    assert!(!cases.is_empty(), "the cases are here");
    let faults = play_all(&cases);
    assert!(faults.is_empty(), "{} cases are wrong:\n{}", faults.len(), told("cases", &faults));
}

/// Cases whose right answers the collector does not give yet.
#[test]
fn pending_cases_are_told_aloud() {
    let cases = read_folder(&folder("cases/pending"));
    for (name, case) in &cases {
        let case = case.as_ref().unwrap_or_else(|fault| panic!("pending/{name}: {fault}"));
        modes(case).unwrap_or_else(|fault| panic!("pending/{name}: {fault}"));
        println!("pending: {name}: {}", case.title);
    }
    if !cases.is_empty() {
        // Past the harness, which keeps what a passing test prints to itself.
        let names: Vec<&str> = cases.keys().map(|name| name.trim_end_matches(".case")).collect();
        let told = format!("{} cases are pending: {}\n", names.len(), names.join(", "));
        let _ = std::io::stderr().write_all(told.as_bytes());
    }
    if std::env::var_os("STORMDRAIN_CASES_PENDING").is_none() {
        return;
    }
    let faults = play_all(&cases);
    let right = cases.keys().filter(|name| !faults.contains_key(name.as_str()));
    right.for_each(|name| println!("right by now, to be moved up: {name}"));
    let told = told("cases/pending", &faults);
    assert!(faults.is_empty(), "{} pending cases are wrong:\n{told}", faults.len());
}

const WRONG: &str = "\
title: An answer that is wrong
why: whoever reads the failure knows where to look
send 192.0.2.1 snapshot=complete:
  24 platform ip:192.0.2.3/32 swap 25@10.0.23.3 since T-5s
ask table --router 192.0.2.1
  has: T-5s 25@10.0.23.3
  has: 26@10.0.23.3
  never: known
ask trace --router 192.0.2.1 --fec label:24
  verdict: delivered
  exit: 1
";

#[test]
fn a_wrong_answer_is_told_with_its_place_its_question_expected_and_found() {
    let faults = play(&Case::read(WRONG).unwrap(), Mode::Gzip);
    // Of a table two places are asked, of a trace three; before and after a restart.
    assert_eq!(faults.len(), 2 * (2 + 2 + 3), "{faults:#?}");
    for words in [
        "line 5, gzip, before the restart: table --router 192.0.2.1\n    asked the command line for a",
        "line 5, gzip, after the restart: table",
        "expected has: 26@10.0.23.3\n    found router",
        "expected never: known\n    found [\n",
        "line 9, gzip, after the restart: trace --router 192.0.2.1 --fec label:24\n    asked HTTP",
        "expected verdict: delivered\n    found label:24 from 192.0.2.1 as of",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(words)), "{words}: {faults:#?}");
    }
}

#[test]
fn a_case_that_cannot_be_read_says_which_line() {
    for (from, to, expected) in [
        ("title: An", "titel: An", "line 1: expected title, why"),
        ("why: whoever", "# whoever", "expected a line `why: \u{2026}`"),
        ("ask trace", "asks trace", "line 9: expected title, why"),
        ("  has: T-5s", "  hass: T-5s", "line 6: expected has, never"),
        ("  exit: 1", "  exit: no", "line 11: expected has, never"),
        ("snapshot=complete", "snap=complete", "line 3: expected one of"),
        ("send 192.0.2.1", "send", "line 3: expected whom or when"),
        ("complete:", "complete", ""),
    ] {
        assert!(WRONG.contains(from), "{from}");
        let read = Case::read(&WRONG.replacen(from, to, 1)).map(|_| ());
        let fault = read.err().unwrap_or_default();
        assert!(fault.contains(expected), "{from} -> {to}: {fault}");
        assert_eq!(fault.is_empty(), expected.is_empty(), "{from} -> {to}: {fault}");
    }
}
