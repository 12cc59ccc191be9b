//! Faults on purpose: each really happens, and every answer is as the key has it.

use std::sync::Arc;

use engine::settings::Settings;
use loadgen::demo::{DemoSettings, demonstrate};
use loadgen::model::Model;
use loadgen::report::Report;
use loadgen::scenario::{Scenario, Script};
use loadgen::topology::Shape;
use loadgen::verdict::{Depth, Verify};

const LINK_DOWN: &str = "[[step]]\nlink-down = {}";
/// Links that fail and come back: keys change more than once.
const FLAP: &str = "[[step]]\nflap = { times = 3, down_ms = 150, up_ms = 100 }";

/// Demonstrates on two shards, with these faults; every answer is exact.
fn exact(faults: &str, steps: &str, shape: Shape, depth: Depth) -> Report {
    let script = Script::parse(&format!("faults = [{faults}]\n{steps}")).unwrap();
    let data = tempfile::tempdir().unwrap();
    let settings = DemoSettings {
        model: Model { scenario: Scenario::Script(Arc::new(script)), ..Model::from(shape) },
        routers_per_second: 0,
        collector: Settings { shards: 2, ..Settings::default() },
        data: data.path().to_owned(),
        verify: Verify { depth, ..Verify::default() },
    };
    let report = demonstrate(&settings, &mut |_| {}).unwrap().report;
    let verdict = report.verdict.as_ref().unwrap();
    assert!(verdict.is_exact(), "{verdict}");
    report
}

fn accepted(report: &Report) -> u64 {
    report.collector.as_ref().unwrap().connections_per_shard.iter().sum()
}

/// Connections break in the middle of snapshots and of frames, fall silent, or crawl: what counts
/// is what was said in the end.
#[test]
fn sessions_that_break_in_a_snapshot_change_no_answer() {
    let faults = "\"reset@snapshot\", \"torn@snapshot\", \"half-open@snapshot\", \"slow\"";
    let shape = Shape { routers: 64, edges: 12, seed: 8 };
    let report = exact(faults, LINK_DOWN, shape, Depth::Sampled);
    // 64 routers: 8 of each fault, of which three break the first connection.
    assert_eq!(accepted(&report), 64 + 3 * 8);
    assert_eq!(report.faults.struck.values().sum::<u64>(), 3 * 8, "{:?}", report.faults);
    assert_eq!(report.faults.outages, 3 * 8);
    // A slow router's table of some 25 kB of frames takes fifty writes with pauses between them.
    assert!(report.faults.slow_writes > 8 * 4, "{:?}", report.faults);
}

/// In the middle of what a router has to say of the storm: it says it again, and a snapshot; in
/// between nobody knows.
#[test]
fn sessions_that_break_in_changes_change_no_answer() {
    let faults = "\"reset@changes\", { fault = \"torn\", at = \"changes\" }, \"half-open@changes\"";
    let shape = Shape { routers: 64, edges: 24, seed: 8 };
    let report = exact(faults, FLAP, shape, Depth::All);
    let faults = &report.faults;
    assert_eq!(faults.struck.len(), 3, "{faults:?}");
    assert!(faults.struck.values().all(|count| *count >= 4), "{faults:?}");
    assert_eq!(accepted(&report), 64 + faults.outages);
    let pairs = report.verdict.unwrap().pairs.unwrap();
    assert!(pairs.compared >= pairs.all - 64, "{pairs:?}");
}

/// Refused with its cause, and a gap until the router has said its table again; nobody else is
/// hurt. The verdict demands all of it.
#[test]
fn a_bomb_is_refused_with_its_cause_and_hurts_nobody_else() {
    let shape = Shape { routers: 48, edges: 12, seed: 2 };
    let report = exact("\"bomb\"", LINK_DOWN, shape, Depth::Sampled);
    assert_eq!(report.faults.struck.get("bomb"), Some(&6), "{:?}", report.faults);
    assert_eq!(report.faults.strangers, 6);
    // Each comes back once, and has a stranger beside it.
    assert_eq!(accepted(&report), 48 + 6 + 6);
}

#[test]
fn wrong_clocks_are_filed_and_flagged_as_the_key_predicts() {
    let shape = Shape { routers: 48, edges: 12, seed: 5 };
    let faults = "\"clock-skew\", \"clock-step\"";
    let report = exact(faults, FLAP, shape, Depth::All);
    let collector = report.collector.unwrap();
    assert!(collector.clock_far > 100, "{collector:?}");
    assert!(collector.clock_backwards > 10, "{collector:?}");
}

#[test]
fn a_second_collector_that_is_told_the_same_has_the_same_rows() {
    let shape = Shape { routers: 40, edges: 8, seed: 3 };
    let report = exact("\"duplicate\", \"reset\"", LINK_DOWN, shape, Depth::Sampled);
    let verdict = report.verdict.unwrap();
    let asked =
        |word: &str| verdict.checks.iter().filter(|check| check.what.contains(word)).count();
    assert!(asked("second copy") >= 5, "{verdict}");
    assert_eq!(asked("copies of two collectors"), 1, "{verdict}");
    assert_eq!(asked("ledger"), 2, "{verdict}");
}

#[test]
fn labels_that_are_given_to_others_at_once_are_answered_exactly() {
    let shape = Shape { routers: 40, edges: 12, seed: 3 };
    let report = exact("\"label-reuse\"", LINK_DOWN, shape, Depth::All);
    assert!(report.storm.unwrap().what.contains("labels released and given to others"));
}
