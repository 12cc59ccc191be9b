//! `kill -9` in the middle of a storm, twenty times, on one data folder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::mapping::RouterId;
use storage::row::{Reason, SessionEvent};

use crate::process::{Process, Way, assert_sound, changes, session_rows, states};
use crate::sender::{Router, Session, swap};

const KILLS: usize = 20;
const ROUTERS: u8 = 6;
/// Entries of a router that the storm alters again and again.
const ENTRIES: u32 = 40;
/// Frames that must be acknowledged before the collector is killed.
const ACKS_BEFORE_KILL: u64 = 300;

/// Frames that a router may have under way: at the kill all of them are.
const WINDOW: u64 = 200;
const GONE: u64 = u64::MAX;

/// Sends changes until the collector has gone. Each frame alters one entry to a value that no
/// other frame gives it, so that each leaves exactly one row.
fn storm(router: &mut Router, target: SocketAddr, acknowledged: &AtomicU64) {
    let Ok(mut session) = router.open(target, true, true) else { return };
    let snapshot = router.snapshot(16);
    if session.send(&snapshot).is_err() {
        return;
    }
    let mut reader = session.split();
    // The last sequence acknowledged; `GONE` when the session is over.
    let heard = AtomicU64::new(router.acknowledged());
    std::thread::scope(|scope| {
        let heard = &heard;
        let acks = scope.spawn(move || {
            let mut last = 0;
            while let Ok(sequence) = reader.ack() {
                if last > 0 {
                    acknowledged.fetch_add(sequence - last, Ordering::Relaxed);
                }
                last = sequence;
                heard.store(sequence, Ordering::Relaxed);
            }
            heard.store(GONE, Ordering::Relaxed);
            last
        });
        send_until_it_fails(router, &mut session, heard);
        let last = acks.join().unwrap();
        router.acknowledge(last);
    });
}

fn send_until_it_fails(router: &mut Router, session: &mut Session, heard: &AtomicU64) {
    loop {
        let sequence = router.sequence_next();
        while heard.load(Ordering::Relaxed).saturating_add(WINDOW) < sequence {
            std::thread::yield_now();
        }
        let label = 100 + u32::try_from(sequence).unwrap() % ENTRIES;
        let out = 1_000 + u32::try_from(sequence).unwrap() % 900_000;
        let mapping = swap(label, out, router.tick());
        let frame = router.frame(&[mapping], false);
        if session.send(&frame).is_err() || heard.load(Ordering::Relaxed) == GONE {
            return;
        }
    }
}

/// Per router, the sequences that left a row.
fn sequences(data: &Path) -> BTreeMap<RouterId, BTreeSet<u64>> {
    let mut sequences: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for change in changes(data) {
        let router = sequences.entry(change.stamp.router).or_default();
        assert!(router.insert(change.stamp.position.sequence), "applied twice: {change:?}");
    }
    sequences
}

#[test]
fn durable_before_acknowledged_whatever_kills_the_collector() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ways = Way::all();
    let mut routers: Vec<Router> = (1..=ROUTERS).map(Router::new).collect();
    for kill in 0..KILLS {
        let way = ways[kill % ways.len()];
        let mut process = Process::start(way, &data, "shards = 2\n");
        let target = process.listen;
        let acknowledged = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for router in &mut routers {
                scope.spawn(|| storm(router, target, &acknowledged));
            }
            while acknowledged.load(Ordering::Relaxed) < ACKS_BEFORE_KILL {
                std::thread::yield_now();
            }
            process.kill();
        });
        // Before any recovery: whatever was acknowledged is in the log as the dead process left it.
        let sequences = sequences(&data);
        let states = states(&data);
        for router in &routers {
            let acknowledged = router.acknowledged();
            let last = states.get(&router.id).map_or(0, |state| state.sequence_last);
            assert!(last >= acknowledged, "kill {kill} {way:?}: {last} < {acknowledged}");
            let none = BTreeSet::new();
            let rows = sequences.get(&router.id).unwrap_or(&none);
            let lost = router.live_frames(acknowledged).find(|sequence| !rows.contains(sequence));
            assert_eq!(lost, None, "kill {kill} {way:?}: acknowledged and not in the log");
        }
    }
    finish(&data, ways[0], &mut routers);
}

/// One more start: everything that was not acknowledged is sent again, and nothing is missing.
fn finish(data: &Path, way: Way, routers: &mut [Router]) {
    let mut process = Process::start(way, data, "");
    for router in routers.iter_mut() {
        let mut session = router.open(process.listen, true, true).unwrap();
        let snapshot = router.snapshot(16);
        session.send(&snapshot).unwrap();
        router.await_acks(&mut session);
    }
    assert!(process.terminate().success());
    assert_sound(data);
    let sequences = sequences(data);
    let states = states(data);
    for router in routers {
        let rows = &sequences[&router.id];
        let lost = router.live_frames(router.acknowledged()).find(|it| !rows.contains(it));
        assert_eq!(lost, None, "sent, and never found");
        let state = &states[&router.id];
        assert_eq!(state.table.len(), router.table().len());
        for (key, expected) in router.table() {
            assert_eq!(state.table.get(key).unwrap().mapping().branches, expected.branches);
        }
    }
    let mut gaps: BTreeMap<RouterId, usize> = BTreeMap::new();
    for row in session_rows(data) {
        if matches!(row.event, SessionEvent::Gap { reason: Reason::CollectorLost, .. }) {
            *gaps.entry(row.router).or_default() += 1;
        }
    }
    assert_eq!(gaps.len(), usize::from(ROUTERS));
    // A session that left no row at all before the kill needs no gap: all of it is sent again.
    assert!(gaps.values().all(|gaps| (1..=KILLS).contains(gaps)), "{gaps:?}");
}
