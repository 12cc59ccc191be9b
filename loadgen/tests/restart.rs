//! A collector that is restarted under load: what was acknowledged stays, the rest comes again.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use engine::collector::Collector;
use engine::settings::Settings;
use loadgen::sender::Progress;
use loadgen::stage::{StageSettings, perform};
use loadgen::topology::Shape;
use loadgen::verdict::{Verdict, Verify};

/// Restarts the collector once, when half of this act's frames are durable.
fn exact_after_restart_during(act: &'static str) {
    let data = tempfile::tempdir().unwrap();
    let start = |listen| {
        let data = data.path().to_owned();
        Collector::start(Settings { data, listen, http: None, shards: 2, ..Settings::default() })
            .unwrap()
    };
    let collector = start("127.0.0.1:0".parse().unwrap());
    let target = collector.listen_address();
    let running = RefCell::new(Some(collector));
    let mut restarted = false;
    let settings = StageSettings {
        target,
        model: Shape { routers: 60, edges: 12, seed: 5 }.into(),
        routers_per_second: 150,
        source_base: "127.30.0.1".parse().ok(),
        threads: 1,
        act_timeout: Duration::from_secs(60),
        second_target: None,
    };
    let performance = perform(&settings, &mut |look| {
        if look.act != act || restarted || look.done * 2 < look.all {
            return;
        }
        restarted = true;
        let progress = look.progress.unwrap();
        let open = Progress::value(&progress.connected);
        running.take().unwrap().stop().unwrap();
        running.replace(Some(start(target)));
        // Goes on when every session that was open has noticed.
        let deadline = Instant::now() + Duration::from_secs(60);
        while Progress::value(&progress.reconnects) < open {
            assert!(Instant::now() < deadline, "{progress:?}");
            std::thread::yield_now();
        }
    })
    .unwrap();
    assert!(restarted);
    let reconnects = Progress::value(&performance.fleet.progress().reconnects);
    let mut verdict = Verdict::default();
    // The middle of the storm may lie in the gap of the restart: unknown is the right answer then.
    let mut instants = performance.instants();
    instants.retain(|(name, _)| name != "in the middle");
    let key = performance.world.key();
    Verify::default().ask(&mut verdict, &key, data.path(), &instants, &mut |_| {}).unwrap();
    performance.fleet.finish().unwrap();
    running.take().unwrap().stop().unwrap();
    verdict.check_books(&key, data.path()).unwrap();
    assert!(verdict.is_exact(), "{verdict}");
    assert!(reconnects > 0);
}

#[test]
fn a_restart_in_the_cold_start_loses_nothing() {
    exact_after_restart_during("cold start");
}

/// Every router reconnects with a snapshot of new times: law 9, across a restart.
#[test]
fn a_snapshot_is_evidence_not_news() {
    exact_after_restart_during("link down");
}
