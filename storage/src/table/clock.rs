//! Whose clock: what a change is filed under, from what the router said and what has been read.
//!
//! In:   event time, collection time, the key's previous change, what snapshots have proven.
//! Out:  the effective time, and what is odd about it.
//! Law:  what has been read has happened; a change is never believed against a snapshot; no time
//!       that this clock or another bore before is believed beyond that.
//! Not:  how far a clock is off (`router`).

use super::proof::Proof;
use crate::row::Flags;
use crate::time::{MICROS_PER_HOUR, MICROS_PER_MINUTE, Micros};

/// How far a router's clock may be ahead of the collector's before it is said to be far off.
/// However far it is, its time counts up to the collection time only.
pub const CLOCK_AHEAD_MAX_US: i64 = MICROS_PER_MINUTE;
/// How far an event time may be behind before it is not believed: routers send late while they
/// reconverge, but not a week late.
pub const CLOCK_BEHIND_MAX_US: i64 = 7 * 24 * MICROS_PER_HOUR;

/// What history is ordered by, and what is odd about it: the event time, but not later than it was
/// read, not before the key's previous change, and not before a snapshot that proves otherwise.
/// Before a snapshot that may only have hidden it, it stays where it is, disputed.
///
/// A change before, or a snapshot, that is behind the collection time was filed while the
/// collector's own clock was ahead: it was before this change all the same, and hides it no longer
/// than until this was read.
#[inline]
pub(super) fn effective_time(
    event_time: Micros,
    collection_time: Micros,
    previous: Option<Micros>,
    Proof { proven, shown }: Proof,
) -> (Micros, Flags) {
    let ahead_us = event_time.since(collection_time);
    let (own, flags) = match ahead_us {
        ..0 if ahead_us < -CLOCK_BEHIND_MAX_US => (collection_time, Flags::CLOCK_FAR),
        ..=0 => (event_time, Flags::default()),
        1..=CLOCK_AHEAD_MAX_US => (collection_time, Flags::default()),
        _ => (collection_time, Flags::CLOCK_FAR),
    };
    let (own, flags) = match previous {
        Some(previous) if previous > own => {
            (previous.min(collection_time), flags.with(Flags::CLOCK_BACKWARDS))
        }
        _ => (own, flags),
    };
    if shown.is_none_or(|shown| shown <= own) {
        return (own, flags);
    }
    let filed = proven.map_or(own, |proven| proven.max(own)).min(collection_time);
    (filed, flags.with(Flags::BEFORE_SNAPSHOT))
}
