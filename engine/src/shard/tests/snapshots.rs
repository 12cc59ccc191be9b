//! Snapshots whose end nobody says: pauses, quiet times, unconfirmed entries and their hold.

use storage::row::{Basis, SessionEvent};

use super::*;

/// One FPM frame: a route of label `label` that swaps to `out` towards 10.0.0.2.
fn fpm(label: u32, out: u32) -> Vec<u8> {
    let stack = |label: u32| (label << 12 | 1 << 8).to_be_bytes().to_vec();
    let attribute = |kind: u16, value: &[u8]| {
        let bytes = value.len() as u16 + 4;
        let mut out = [bytes.to_le_bytes(), kind.to_le_bytes()].concat();
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    let route = [28, 20, 0, 0, 254, 193, 0, 1, 0, 0, 0, 0];
    let via = [2, 0, 10, 0, 0, 2];
    let parts =
        [attribute(1, &stack(label)), attribute(19, &stack(out)), attribute(18, &via)].concat();
    let bytes = (16 + route.len() + parts.len()) as u32;
    let head = [&bytes.to_le_bytes()[..], &24u16.to_le_bytes(), &[0; 10]].concat();
    let message = [&head[..], &route, &parts].concat();
    let length = message.len() as u16 + 4;
    [&[1, 1][..], &length.to_be_bytes(), &message].concat()
}

const PEER: &str = "192.0.2.1:2620";

/// Lets time pass, the receive queues being empty all the while.
fn quiet(bench: &mut Bench, us: u64) {
    bench.pass(us);
    bench.handle(Completion::Drained);
    bench.settle();
}

fn unconfirmed(bench: &Bench) -> usize {
    bench.shard.router(ROUTER).unwrap().table.unconfirmed_len()
}

#[test]
fn a_pause_in_a_dump_withdraws_nothing() {
    let mut bench = Bench::new();
    let first = bench.connect(1, PEER);
    for label in 16..26 {
        bench.send(first, &fpm(label, label + 100));
    }
    quiet(&mut bench, 2_100_000);
    bench.end(first, Reason::ConnectionLost);
    // The second dump stops half way for longer than any quiet time.
    let second = bench.connect(2, PEER);
    for label in 16..21 {
        bench.send(second, &fpm(label, label + 100));
    }
    quiet(&mut bench, 5_000_000);
    assert_eq!(unconfirmed(&bench), 5, "they answer unknown");
    for label in 21..26 {
        bench.send(second, &fpm(label, label + 100));
    }
    bench.settle();
    assert_eq!(unconfirmed(&bench), 0);
    let kinds = bench.kinds();
    assert_eq!(kinds.iter().filter(|kind| **kind == ChangeKind::Added).count(), 10);
    assert_eq!(kinds.iter().filter(|kind| **kind == ChangeKind::Withdrawn).count(), 0);
    assert_eq!(kinds.iter().filter(|kind| **kind == ChangeKind::Reconfirmed).count(), 5);
}

#[test]
fn a_time_in_which_a_session_was_not_read_is_no_quiet_time() {
    let mut bench = Bench::new();
    let id = bench.connect(1, PEER);
    bench.send(id, &fpm(16, 17));
    // Not drained: what the kernel holds may be the rest of the dump.
    bench.pass(10_000_000);
    bench.settle();
    assert_eq!(bench.story(), ["initiation", "snapshot-begin", "added"]);
    quiet(&mut bench, 300_000);
    assert_eq!(bench.story(), ["initiation", "snapshot-begin", "added", "snapshot-complete"]);
    let explicit = bench.rows().into_iter().find_map(|row| match row {
        Row::Session(row) => match row.event {
            SessionEvent::SnapshotComplete { explicit, .. } => Some(explicit),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(explicit, Some(false));
}

#[test]
fn an_entry_that_stays_unconfirmed_is_withdrawn_when_its_hold_is_over() {
    let mut bench = Bench::new();
    let first = bench.connect(1, PEER);
    bench.send(first, &fpm(16, 17));
    bench.send(first, &fpm(18, 19));
    quiet(&mut bench, 2_100_000);
    bench.end(first, Reason::ConnectionLost);
    let second = bench.connect(2, PEER);
    bench.send(second, &fpm(16, 17));
    quiet(&mut bench, 2_100_000);
    assert_eq!(unconfirmed(&bench), 1);
    bench.pass(3_600_000_000);
    bench.settle();
    assert_eq!(bench.shard.router(ROUTER).unwrap().table.len(), 1);
    let last = bench.rows().into_iter().rev().find_map(|row| match row {
        Row::Change(change) => Some((change.stamp.kind, change.stamp.basis)),
        _ => None,
    });
    assert_eq!(last, Some((ChangeKind::Withdrawn, Basis::Swept)));
}
