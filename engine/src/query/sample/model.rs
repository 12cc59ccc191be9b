//! Two routers whose tables have what is rare: all that outputs must be able to say.
//!
//! In:   a folder.
//! Out:  the log of pe5, whose clock is half an hour ahead, and of p6, whose table was not read in
//!       full, and which has a row of an earlier version, filed ahead of now.
//! Law:  as of `sample`.
//! Not:  a network that fails (`sample`).

use std::path::Path;

use storage::log::{DataLock, lock};
use storage::mapping::{Key, Mapping, Operation, Origin};
use storage::row::{Basis, Cause, Position, Reason, Scope, SessionEvent};
use storage::table::{Applied, Arrival};
use storage::time::{MICROS_PER_MINUTE, MICROS_PER_SECOND, Micros};

use super::{NOW, Router, START, Shard, mapping};

/// pe5's clock is ahead by so much.
pub(crate) const SKEW_US: i64 = 30 * MICROS_PER_MINUTE;
/// The time of p6's last change.
pub(crate) const FILED_AHEAD: Micros = Micros(NOW.0 + 10 * MICROS_PER_MINUTE);

/// Writes the log. What the lock is for: see `sample::write`.
pub(crate) fn write_model(data: &Path) -> DataLock {
    let mut shard = Shard::new(0);
    let ahead = Some(START.offset(SKEW_US));
    let mut pe5 = Router::begin_at(&mut shard, "192.0.2.5", "pe5", &["10.0.56.5"], ahead);
    let mut p6 = Router::begin(&mut shard, "192.0.2.6", "p6", &["10.0.56.6", "10.0.57.6"]);
    let at = START.offset(MICROS_PER_SECOND);
    let push = |fec: &str, branches: &[&str]| mapping(fec, None, Operation::Push, branches);
    let in_table = |label: u32, table: u32, branch: &str| {
        let mut mapping = mapping("unknown", Some(label), Operation::Swap, &[branch]);
        mapping.ingress.origin = Origin::Table(table);
        mapping
    };
    pe5.snapshot(
        &mut shard,
        at,
        &[
            push("ip:192.168.61.0/24,10", &["24@10.0.56.6"]),
            push("ip:192.168.0.0/16,11", &["24@10.0.56.6"]),
            push("ip:10.9.0.0/16", &["24@10.0.56.6"]),
            mapping("ip:10.9.9.0/24", None, Operation::Discard, &[]),
            push("ip:10.5.0.0/16", &["24@10.0.56.6", "31@10.0.57.6 (backup)"]),
            push("name:rsvp,to-p6", &["26@%Tunnel1"]),
            in_table(24, 7, "25@10.0.56.6"),
            mapping("ip:10.9.0.0/16", Some(33), Operation::Untag, &["-@10.0.56.6"]),
        ],
    );
    in_part(&mut p6, &mut shard, at);
    shard.write(data);
    lock(data).unwrap()
}

/// A snapshot of which a new key and something without a key could not be read.
fn in_part(p6: &mut Router, shard: &mut Shard, at: Micros) {
    p6.event(shard, at, SessionEvent::SnapshotBegin);
    p6.state.begin_snapshot();
    p6.apply(
        shard,
        at,
        Basis::Snapshot,
        &[mapping("ip:10.9.0.0/16", Some(24), Operation::Pop, &["-@fec"])],
    );
    let unread = Key::Ftn("ip:10.2.0.0/16".parse().unwrap());
    for (scope, cause) in
        [(Scope::Entry(unread), Cause::NhlfeInvalid), (Scope::Rest, Cause::FecInvalid)]
    {
        let gap = SessionEvent::Gap { start: at, scope, reason: Reason::Rejected(cause) };
        p6.event(shard, at, gap);
    }
    let row = p6.state.complete_snapshot(true, at, &mut |_, _| {});
    shard.rows.session(&row);
    let late = mapping("unknown", Some(40), Operation::Discard, &[]);
    let late = Mapping { event_time: FILED_AHEAD, ..late };
    let position = p6.state.next_position();
    let position = Position { sequence: position.sequence + 1, index: 0, ..position };
    let arrival = Arrival { position, collection_time: NOW, basis: Basis::Live };
    let Applied::Change(stamp) = p6.state.apply(&late, &arrival) else { return };
    // Versions that believed a clock for an hour filed it so.
    let stamp = storage::row::Stamp { effective_time: FILED_AHEAD, ..stamp };
    shard.rows.change(&stamp, &late);
    shard.commit();
}
