//! Scenarios, from the script to the verdict.

use std::sync::Arc;

use engine::settings::Settings;
use loadgen::demo::{DemoSettings, demonstrate};
use loadgen::model::Model;
use loadgen::report::Report;
use loadgen::scenario::{Scenario, Script};
use loadgen::services::Services;
use loadgen::topology::Shape;
use loadgen::verdict::Verify;

/// Every kind of step, and the example of the docs at the same time.
const EXAMPLE: &str = include_str!("../../docs/examples/scenario.toml");
/// Two acts of one name, with nothing in between.
const RESTARTS: &str = "[[step]]\ncollector-restart = {}\n[[step]]\ncollector-restart = {}\n";
/// A router that goes and stays away: its table is unknown, and its neighbours' are not.
const GONE: &str = "[[step]]\nnode-down = { count = 2 }\n[[step]]\nlink-down = {}\n";

/// Demonstrates a model on two shards; every answer is exact.
fn exact(model: Model) -> Report {
    let data = tempfile::tempdir().unwrap();
    let settings = DemoSettings {
        model,
        routers_per_second: 0,
        collector: Settings { shards: 2, ..Settings::default() },
        data: data.path().to_owned(),
        verify: Verify { sample: 40, ..Verify::default() },
    };
    let report = demonstrate(&settings, &mut |_| {}).unwrap().report;
    let verdict = report.verdict.as_ref().unwrap();
    assert!(verdict.is_exact(), "{verdict}");
    report
}

/// Demonstrates a script on a network of 60 routers; every answer is exact.
fn performed(script: &str, seed: u64) -> Report {
    let script = Script::parse(script).unwrap();
    let shape = Shape { routers: 60, edges: 12, seed };
    exact(Model { scenario: Scenario::Script(Arc::new(script)), ..Model::from(shape) })
}

#[test]
fn every_kind_of_step_is_answered_exactly() {
    let report = performed(EXAMPLE, 1);
    let verdict = report.verdict.as_ref().unwrap();
    let whats: Vec<&str> =
        report.storm.iter().chain(&report.later).map(|act| act.what.as_str()).collect();
    assert_eq!(whats.len(), 8, "{whats:?}");
    let asked: Vec<&str> = verdict.checks.iter().map(|check| check.what.as_str()).collect();
    for word in ["tables after act 1, link down", "paths after act 8, vpn churn", "of act 3, flap"]
    {
        assert!(asked.iter().any(|what| what.contains(word)), "{word}: {asked:?}");
    }
    // A restart changes nothing and says every table again.
    assert!(report.later[3].what.contains("every session breaks"), "{whats:?}");
    assert_eq!(report.later[3].act.mappings, 0);
    assert!(report.later[3].act.frame_bytes > report.cold_start.frame_bytes / 2);
    // The collector itself was restarted: two lives, each with every router's session at least.
    let collector = report.collector.unwrap();
    assert_eq!(collector.restarts, 1);
    let accepted: u64 = collector.connections_per_shard.iter().sum();
    assert!(accepted >= 120, "{accepted}");
}

#[test]
fn two_restarts_in_a_row_are_two() {
    let report = performed(RESTARTS, 2);
    assert_eq!(report.collector.unwrap().restarts, 2);
    assert_eq!(report.faults.outages, 2 * 60);
}

#[test]
fn a_router_that_is_gone_is_unknown_and_nobody_else_is() {
    let report = performed(GONE, 4);
    let verdict = report.verdict.as_ref().unwrap();
    // The tables of two are not compared, entry by entry, but in one answer each: unknown.
    let answers =
        |word: &str| verdict.checks.iter().find(|check| check.what.contains(word)).unwrap().answers;
    assert!(answers("tables after act 1") < answers("tables before"), "{verdict}");
    assert!(answers("tables after act 2") < answers("tables before"), "{verdict}");
}

/// Tunnels that are repaired on the spot and signalled anew, trees that are built anew, circuits
/// and VPNs over them: around a link, and around a router.
#[test]
fn every_service_is_answered_exactly_through_a_repair() {
    let steps = "[[step]]\nlink-down = { restore_after_ms = 2500 }\n[[step]]\nnode-down = {}";
    let scenario = Scenario::Script(Arc::new(Script::parse(steps).unwrap()));
    let shape = Shape { routers: 60, edges: 16, seed: 3 };
    let report = exact(Model { services: Services::ALL, scenario, ..Model::from(shape) });
    let verdict = report.verdict.unwrap();
    for act in ["act 1, link down", "act 2, node down"] {
        let paths = format!("paths on bypasses in {act}");
        let asked = verdict.checks.iter().find(|check| check.what.starts_with(&paths));
        assert!(asked.is_some_and(|check| check.answers > 500), "{act}: {verdict}");
    }
}

/// Sixteen thousand messages of six routers in 0.65 s, as FRR routers sent them.
#[test]
fn a_recorded_failover_is_answered_exactly() {
    let shape = Shape { routers: 40, edges: 8, seed: 3 };
    let report = exact(Model { scenario: Scenario::FrrFailover, ..Model::from(shape) });
    let storm = report.storm.unwrap();
    assert_eq!(storm.act.speakers, 6);
    assert!(storm.act.mappings >= 16_562, "{}", storm.act.mappings);
    assert!(storm.act.planned_seconds < 0.7, "{}", storm.act.planned_seconds);
}
