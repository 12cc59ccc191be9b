//! A burst is told alike wherever an operator looks.
//!
//! In:   a collector that runs, and a burst out of its log.
//! Out:  what its page asks for, and what the doctor finds on the same host, say the same.
//! Law:  each is asked as an operator does: the collector by HTTP, the doctor as a program.
//! Not:  which verdict is right (`verdicts`).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::query::{Range, past};
use engine::watch::{Burst, Layer, Outcome};
use serde_json::Value;

use crate::http::json;
use crate::process::{PATIENCE, Process};

/// The page shows the burst with the verdict that the log has.
pub(super) fn assert_on_the_page(process: &Process, burst: &Burst) {
    let answer = json(process, "/api/v1/bursts");
    let shown = answer["bursts"].as_array().unwrap();
    let shown = shown.iter().find(|shown| shown["id"] == burst.head.id);
    let shown = shown.unwrap_or_else(|| panic!("no burst {}: {answer:#}", burst.head.id));
    let verdict = burst.head.verdict.as_ref().unwrap();
    assert_eq!(shown["verdict"]["outcome"], verdict.outcome.name(), "{shown:#}");
    let layer = verdict.layer.map_or(Value::Null, |layer| layer.name().into());
    assert_eq!(shown["verdict"]["layer"], layer, "{shown:#}");
    assert_eq!(shown["verdict"], serde_json::to_value(verdict).unwrap());
}

/// What the doctor finds on this host, which this thread is in.
pub(super) fn doctor(data: &Path) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    command.args(["doctor", "--format", "json", "--data"]).arg(data).stdin(Stdio::null());
    let output = command.output().unwrap();
    let notes = String::from_utf8_lossy(&output.stderr);
    // 1: something bites, which is no failure.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{notes}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn named<'a>(findings: &'a [Value], name: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["name"] == name).collect()
}

/// The doctor blames this layer for bursts of this data folder.
pub(super) fn assert_blamed(findings: &[Value], layer: Layer) {
    let of_bursts = named(findings, "bursts");
    let [finding] = of_bursts.as_slice() else { panic!("not one finding: {findings:#?}") };
    let found = finding["found"].as_str().unwrap();
    let hurt = found.split_once("squeezed or lost (").and_then(|(_, rest)| rest.split_once(')'));
    let (layers, _) = hurt.unwrap_or_else(|| panic!("no layers: {finding:#}"));
    let names = layers.split(", ").filter_map(|layer| layer.rsplit_once(' '));
    assert!(names.into_iter().any(|(name, _)| name == layer.name()), "{finding:#}");
    assert_ne!(finding["judgement"], "good", "{finding:#}");
}

/// The doctor has nothing to say against bursts of this data folder, and knows of some.
pub(super) fn assert_not_blamed(findings: &[Value]) {
    let of_bursts = named(findings, "bursts");
    assert!(!of_bursts.is_empty(), "{findings:#?}");
    assert!(of_bursts.iter().all(|finding| finding["judgement"] == "good"), "{of_bursts:#?}");
}

/// The doctor names the limit that is too low, and the command that lifts it.
pub(super) fn assert_limit(findings: &[Value], name: &str, sysctl: &str) {
    let of_limit = named(findings, name);
    let [finding] = of_limit.as_slice() else { panic!("not one {name}: {findings:#?}") };
    assert_eq!(finding["judgement"], "bites", "{finding:#}");
    let command = finding["command"].as_str().unwrap();
    assert!(command.starts_with(&format!("sysctl -w {sysctl}='")), "{finding:#}");
}

/// Waits until the collector has looked at the kernel.
pub(super) fn await_look(process: &Process) {
    let started = Instant::now();
    while json(process, "/api/v1/now")["moment"].is_null() {
        assert!(started.elapsed() < PATIENCE, "nobody looks");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until the log tells of a counter of loss that moved while no burst ran.
pub(super) fn await_loss(data: &Path, counter: &str) {
    let started = Instant::now();
    let is_told = || {
        let losses = past(data, Range::ALL).unwrap().value.losses;
        losses.iter().any(|loss| loss.counter == counter)
    };
    while !is_told() {
        assert!(started.elapsed() < PATIENCE, "{counter} did not move");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// The doctor tells of it, and which of its findings has the limit.
pub(super) fn assert_loss(findings: &[Value], counter: &str, limit: &str) {
    let of_losses = named(findings, "losses");
    let [finding] = of_losses.as_slice() else { panic!("not one finding: {findings:#?}") };
    let found = finding["found"].as_str().unwrap();
    assert!(found.contains(&format!("{counter} +")), "{finding:#}");
    assert_eq!(finding["judgement"], "note", "{finding:#}");
    assert!(named(findings, limit).iter().any(|finding| finding["judgement"] == "bites"));
}

/// All of it, for a burst that hurt.
pub(super) fn assert_told(process: &Process, data: &Path, burst: &Burst) -> Vec<Value> {
    assert_on_the_page(process, burst);
    let verdict = burst.head.verdict.as_ref().unwrap();
    assert_ne!(verdict.outcome, Outcome::Clean);
    let findings = doctor(data);
    assert_blamed(&findings, verdict.layer.unwrap());
    findings
}
