//! Tests of states: whatever happened, they say what the whole log says, and spare reading it.

use super::*;
use crate::recovery::fold_whole_log;
use crate::time::Hour;
use rig::{Rig, essence, essences};

mod laws;
mod ahead;
mod explore;
mod retention;
mod rig;

const KEEP_ALL: Retain = Retain { before: Hour(0), hours: 0, bytes: 0 };
const EVERYTHING: RoundLimits = RoundLimits { rows_min: 1, memory_bytes: 1, retain: KEEP_ALL };

#[test]
fn a_state_survives_its_bytes() {
    let mut rig = Rig::new();
    rig.busy_hours(3);
    for state in rig.states.values() {
        let mut bytes = Vec::new();
        let mut builder = super::super::BlockBuilder::new(0);
        record::put_record(&mut bytes, &mut builder, state);
        let read = record::read_record(&bytes, state.router).unwrap();
        assert_eq!(essence(&read), essence(state));
        for length in 0..bytes.len().min(400) {
            assert!(record::read_record(&bytes[..length], state.router).is_err(), "{length}");
        }
    }
}

#[test]
fn a_directory_survives_its_bytes() {
    let mut rig = Rig::new();
    rig.busy_hours(3);
    rig.round(rig.time.hour(), &EVERYTHING);
    let mut states = States::open(rig.data()).unwrap();
    let directory = states.directory(1).unwrap().unwrap();
    assert!(!directory.files.is_empty() && !directory.routers.is_empty());
    let mut bytes = Vec::new();
    directory::put_directory(&mut bytes, 7, &directory);
    let (directory_bytes, trailer) = bytes.split_last_chunk().unwrap();
    let trailer = directory::read_trailer(trailer).unwrap();
    assert_eq!((trailer.offset, trailer.bytes), (7, directory_bytes.len() as u64));
    assert_eq!(directory::read_directory(directory_bytes, &trailer).unwrap(), directory);
}

#[test]
fn a_round_without_new_rows_writes_nothing() {
    let mut rig = Rig::new();
    rig.busy_hours(2);
    let before = rig.time.hour();
    assert!(rig.round(before, &EVERYTHING).is_some());
    assert_eq!(rig.round(before, &EVERYTHING), None);
    assert_eq!(std::fs::read_dir(rig.data().join("state")).unwrap().count(), 1);
}

/// Whatever byte of whatever state file is another one: the answer is that of the log.
#[test]
fn a_damaged_state_is_not_believed() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.busy_hours(1);
        rig.round(rig.time.hour(), &EVERYTHING);
    }
    let expected = essences(&fold_whole_log(rig.data()).unwrap());
    let paths: Vec<_> = chain::state_files(rig.data()).unwrap().into_values().collect();
    assert_eq!(paths.len(), 3);
    let mut believed_all = 0;
    for (_, path) in &paths {
        let good = std::fs::read(path).unwrap();
        for at in (0..good.len()).step_by(17).chain(good.len() - 80..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(path, &bad).unwrap();
            let (found, report) = rig.open();
            assert_eq!(essences(&found), expected, "{path:?} at {at}");
            believed_all += u32::from(report.damages.is_empty());
        }
        std::fs::write(path, &good[..good.len() / 2]).unwrap();
        assert_eq!(essences(&rig.open().0), expected, "{path:?} cut");
        std::fs::remove_file(path).unwrap();
        assert_eq!(essences(&rig.open().0), expected, "{path:?} gone");
        std::fs::write(path, &good).unwrap();
    }
    assert!(believed_all > 0, "states that nobody needs any more are not read");
    // A round mends what it can: the next one stands on the log.
    std::fs::write(&paths[2].1, b"nothing").unwrap();
    rig.busy_hours(1);
    rig.round(rig.time.hour(), &EVERYTHING);
    assert_eq!(essences(&rig.open().0), essences(&fold_whole_log(rig.data()).unwrap()));
}

/// Damage in the log that a round passes over stays a gap for every router that it may concern,
/// those whose state was not due too.
#[test]
fn damage_in_the_log_is_in_the_states_too() {
    for limits in [EVERYTHING, RoundLimits { rows_min: 1_000_000, ..EVERYTHING }] {
        let mut rig = Rig::new();
        rig.busy_hours(1);
        rig.round(rig.time.hour(), &EVERYTHING);
        rig.busy_hours(2);
        rig.break_a_block(1);
        rig.round(rig.time.hour(), &limits);
        let (found, _) = rig.open();
        assert!(found.values().any(|state| {
            state.gaps.router.is_some_and(|gap| gap.reason == crate::row::Reason::LogDamaged)
        }));
        assert_eq!(essences(&found), essences(&fold_whole_log(rig.data()).unwrap()));
    }
}

/// The end of an open file that is not whole is not covered, and what follows it later is.
#[test]
fn a_torn_end_is_not_covered() {
    let mut rig = Rig::new();
    rig.busy_hours(1);
    let torn = rig.tear(40);
    rig.round(rig.time.hour().next(), &EVERYTHING);
    rig.mend(torn);
    rig.busy_hours(1);
    assert_eq!(essences(&rig.open().0), essences(&fold_whole_log(rig.data()).unwrap()));
    rig.round(rig.time.hour().next(), &EVERYTHING);
    let (found, report) = rig.open();
    assert_eq!(essences(&found), essences(&fold_whole_log(rig.data()).unwrap()));
    assert_eq!(report.blocks, 0, "all is covered");
}

/// The last commit of a file may still fail and be cut: it is covered when its shard has committed
/// to a later file, and not before.
#[test]
fn a_commit_under_way_is_not_covered() {
    let mut rig = Rig::new();
    rig.busy_hours(1);
    let rows = |rig: &Rig, report: Option<RoundReport>| {
        let whole = crate::log::read(rig.data(), &Default::default(), &mut |_| {}).unwrap();
        let mut states = States::open(rig.data()).unwrap();
        let covered: u64 = states.newest().unwrap().files.values().map(FileEntry::covered).sum();
        (report.is_some(), whole.bytes - covered)
    };
    let cover = |rig: &Rig| {
        round(rig.data(), &finished(rig.time.hour()), &EVERYTHING, &mut || true).unwrap()
    };
    let (covers, left) = rows(&rig, cover(&rig));
    assert!(covers && left > 0, "the last block waits");
    assert_eq!(rows(&rig, cover(&rig)), (false, left));
    rig.quiet_hour();
    let (covers, left_then) = rows(&rig, cover(&rig));
    assert!(covers && left_then > 0);
    assert_eq!(essences(&rig.open().0), essences(&fold_whole_log(rig.data()).unwrap()));
    let first = crate::log::log_files(rig.data()).unwrap().remove(0);
    let newest = States::open(rig.data()).unwrap().newest().unwrap();
    assert_eq!(newest.files[&(first.hour, 0)].covered(), first.length, "the hour is closed");
}

/// Recovery reads states instead of the log, and the log beside them once.
#[test]
fn a_restart_reads_a_day_of_log_at_most() {
    let limits = RoundLimits { rows_min: 1_000_000, ..RoundLimits::default() };
    let mut bytes = Vec::new();
    let mut rig = Rig::new();
    rig.table_of(1, 200);
    let hours_a_day = 24;
    for hour in 1..=24 * 12 {
        rig.quiet_hour();
        rig.round(rig.time.hour(), &limits);
        if hour % 48 == 40 {
            let (found, report) = rig.open();
            assert!(report.damages.is_empty());
            assert_eq!(essences(&found), essences(&fold_whole_log(rig.data()).unwrap()));
            assert!(report.blocks <= hours_a_day + 1, "{report:?}");
            // Every log file has its line in the directory.
            bytes.push(report.bytes);
        }
    }
    let growth = bytes[bytes.len() - 1].abs_diff(bytes[0]);
    assert!(growth <= 16 * 24 * 10, "restarts over twelve days read {bytes:?} bytes");
}

/// A router that is silent costs nothing, and does not hold the others back.
#[test]
fn a_silent_router_holds_nobody_back() {
    let mut rig = Rig::new();
    rig.table_of(1, 20);
    rig.table_of(2, 20);
    let limits = RoundLimits { rows_min: 1_000_000, ..RoundLimits::default() };
    let mut written = std::collections::BTreeSet::new();
    for _ in 0..24 * 9 {
        rig.quiet_hour();
        rig.round(rig.time.hour(), &limits).unwrap();
        let newest = States::open(rig.data()).unwrap().newest().unwrap();
        written.extend(newest.routers[&rig::router(2)].state.map(|state| state.hour.0));
    }
    let written: Vec<i64> = written.into_iter().collect();
    assert_eq!(written.len(), 2, "a day after its last row, and once a week: {written:?}");
    let (found, report) = rig.open();
    assert_eq!(essences(&found), essences(&fold_whole_log(rig.data()).unwrap()));
    assert!(report.blocks <= 26, "{report:?}");
}
