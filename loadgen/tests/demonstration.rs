//! The demonstration in small, by each driver.

use engine::settings::{IoChoice, Settings};
use loadgen::demo::{DemoSettings, demonstrate};
use loadgen::topology::Shape;
use loadgen::verdict::Verify;

fn exact(io: IoChoice, shards: usize, seed: u64) {
    let data = tempfile::tempdir().unwrap();
    let settings = DemoSettings {
        model: Shape { routers: 60, edges: 12, seed }.into(),
        routers_per_second: 0,
        collector: Settings { io, shards, ..Settings::default() },
        data: data.path().to_owned(),
        verify: Verify::default(),
    };
    let demonstration = demonstrate(&settings, &mut |_| {}).unwrap();
    let report = &demonstration.report;
    let verdict = report.verdict.as_ref().unwrap();
    assert!(verdict.is_exact(), "{verdict}");
    // Before, in the middle and after; paths before and after; drawn pairs and paths; rows; ledger;
    // verify.
    assert_eq!(verdict.checks.len(), 10, "{verdict}");
    let collector = report.collector.as_ref().unwrap();
    let storm = report.storm.as_ref().unwrap();
    assert_eq!(collector.change_rows, report.cold_start.mappings + storm.act.mappings);
    let said = report.cold_start.frame_bytes + storm.act.frame_bytes;
    assert!(collector.received_bytes > said, "hello and bye come on top of {said}");
    let per_shard = &collector.connections_per_shard;
    assert_eq!(per_shard.len(), shards);
    assert_eq!(per_shard.iter().sum::<u64>(), 60);
    assert_eq!(demonstration.traces.len(), 2);
    assert_ne!(demonstration.traces[0], demonstration.traces[1]);
    assert!(demonstration.traces.iter().all(|trace| trace.contains("delivered at")));
}

#[test]
fn a_storm_is_answered_exactly_with_epoll() {
    exact(IoChoice::Epoll, 2, 1);
}

#[test]
fn a_storm_is_answered_exactly_with_the_driver_of_choice() {
    exact(IoChoice::Auto, 3, 2);
}
