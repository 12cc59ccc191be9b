//! What an operator installs beside the program: rules, dashboard, profile, unit.
//!
//! In:   the files of `tuning/assets`, a running collector, Prometheus where it is installed.
//! Out:  every metric that they name exists, every expression answers, the profile is enough.
//! Law:  what cannot be tried here is said aloud.
//! Not:  the settings of the kernel (`tuning::doctor`).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::process::{PATIENCE, Process, Way};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn asset(name: &str) -> String {
    std::fs::read_to_string(project("tuning/assets").join(name)).unwrap()
}

/// Whether a program is installed; said aloud where not.
fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        println!("NOT RUN: {program} is not installed here");
    }
    found
}

/// What a text names that begins like a metric of the collector.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_name(character));
    let names = words.filter(|word| word.starts_with("stormdrain_"));
    names.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&asset("grafana/stormdrain.json")).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// Every expression of the dashboard, with its variables filled in.
fn expressions() -> Vec<String> {
    let panels = panels();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let filled = |target: &Value| {
        let expression = target["expr"].as_str().unwrap();
        expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
    };
    targets.map(filled).collect()
}

#[test]
fn every_metric_that_an_asset_names_exists() {
    let known = metrics_in(&std::fs::read_to_string(project("docs/metrics.md")).unwrap());
    for name in ["prometheus/stormdrain.rules.yml", "grafana/stormdrain.json"] {
        let named = metrics_in(&asset(name));
        let missing: Vec<_> = named.difference(&known).collect();
        assert!(named.len() > 10 && missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn the_dashboard_is_one_that_can_be_drawn() {
    let mut numbers = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap();
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is wider than the grid");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies over another panel");
            }
        }
        if panel["type"] != "row" {
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn every_alert_fires_on_what_it_is_for_and_on_nothing_else() {
    if !has("promtool") {
        return;
    }
    let test = project("tuning/assets/prometheus/stormdrain.rules.test.yml");
    let output = Command::new("promtool").args(["test", "rules"]).arg(test).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_units_are_such_as_systemd_takes() {
    if !has("systemd-analyze") {
        return;
    }
    let unit = |name| project("tuning/assets/systemd").join(name);
    let units = [unit("stormdrain.service"), unit("stormdrain.socket")];
    let output = Command::new("systemd-analyze").arg("verify").args(units).output().unwrap();
    let notes = String::from_utf8(output.stderr).unwrap();
    // The program is not installed where it is tested.
    let faults: Vec<&str> =
        notes.lines().filter(|line| !line.contains("is not executable")).collect();
    assert_eq!(faults, [""; 0]);
}

/// A Prometheus of its own, gone with its value.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Prometheus {
        let text = asset("prometheus/prometheus.yml")
            .replace("127.0.0.1:30311", target)
            .replace("interval: 5s", "interval: 1s");
        std::fs::write(folder.join("prometheus.yml"), text).unwrap();
        let rules = asset("prometheus/stormdrain.rules.yml");
        std::fs::write(folder.join("stormdrain.rules.yml"), rules).unwrap();
        // It cannot say which port it was given: one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { child, address }
    }

    /// The answer to a question of its HTTP interface; `None` while it does not answer.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    fn query(&self, expression: &str) -> Option<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        self.ask(&format!("query?query={encoded}"))
    }

    /// Waits until this expression has an answer.
    fn await_query(&self, expression: &str) {
        let started = Instant::now();
        let answered = |value: Value| !value["data"]["result"].as_array().unwrap().is_empty();
        while !self.query(expression).is_some_and(answered) {
            assert!(started.elapsed() < PATIENCE, "Prometheus does not know `{expression}`");
            std::thread::yield_now();
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the document of an example, and waits until it has become rows.
fn send_example(process: &Process) {
    let document = std::fs::read(project("docs/examples/ecmp-r1.xml")).unwrap();
    let mut router = TcpStream::connect(process.listen).unwrap();
    router.write_all(&document).unwrap();
    drop(router);
    process.await_metric("stormdrain_rows_committed_total", "", |rows| rows > 0);
    process.await_metric("stormdrain_changes_total", "", |changes| changes > 0);
}

#[test]
fn every_expression_answers_on_a_real_prometheus_and_nothing_alerts() {
    if !has("prometheus") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(Way::Epoll, &folder.path().join("data"), "shards = 2\n");
    send_example(&process);
    let prometheus = Prometheus::start(folder.path(), &process.http.to_string());
    prometheus.await_query("count_over_time(stormdrain_frames_total[1m]) > 2");
    for expression in expressions() {
        let answer = prometheus.query(&expression).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let results = answer["data"]["result"].as_array().unwrap();
        assert!(!results.is_empty(), "{expression} has no answer");
    }
    let alerts = prometheus.ask("alerts").unwrap();
    assert_eq!(alerts["data"]["alerts"], json!([]), "a collector at rest");
    assert!(process.terminate().success());
}

/// Lets this thread, and what it starts, do no more than the profile allows.
#[cfg(target_arch = "x86_64")]
fn obey_the_profile() {
    let profile: Value = serde_json::from_str(&asset("seccomp/stormdrain.json")).unwrap();
    let allowed = profile["syscalls"].as_array().unwrap().iter();
    let names = allowed.flat_map(|rule| rule["names"].as_array().unwrap().clone());
    let filter: Vec<Value> = names.map(|name| json!({ "syscall": name })).collect();
    let filters = json!({ "all": {
        "mismatch_action": { "errno": libc::EPERM },
        "match_action": "allow",
        "filter": filter,
    }});
    let text = filters.to_string();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let programs = seccompiler::compile_from_json(text.as_bytes(), arch).unwrap();
    seccompiler::apply_filter(&programs["all"]).unwrap();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_profile_is_enough_for_either_driver() {
    let ways = Way::all().into_iter().filter(|way| *way != Way::Denied);
    for way in ways {
        let thread = std::thread::spawn(move || {
            let folder = tempfile::tempdir().unwrap();
            obey_the_profile();
            let mut process = Process::start(way, &folder.path().join("data"), "shards = 2\n");
            send_example(&process);
            let driver = format!("driver=\"{}\"", way.driver());
            assert_eq!(process.metric("stormdrain_io_driver_info", &driver), 1);
            process.reload("");
            assert!(process.terminate().success());
        });
        thread.join().unwrap();
    }
}
