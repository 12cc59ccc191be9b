//! Queue: whose bytes are digested next, and what those nobody knows yet may take of the time.
//!
//! In:   connections with something to digest, with or without a router; what slices took.
//! Out:  the connection whose turn it is.
//! Law:  sessions of known routers wait for one slice of a fresh one at most, and then for as long
//!       as that took times `KNOWN_PARTS` less; none of either kind waits for ever.
//! Not:  how long a slice is (`digest`), who is read (`pressure`, `storm`, `stuck`).
//!
//! What a connection costs before it has said its name is the sender's choice: a stream that
//! inflates to nothing, a document that is rejected at its end, thousands of connections of one
//! unit each. A session that has a router stands for one table, and its source was allowed to
//! speak for it. So there are two queues. While both have somebody, a slice of the fresh is paid
//! for before the next one: the known are digested for `KNOWN_PARTS` times as long as it took.
//! When nobody known waits, the fresh have all of the time, and what they owe is forgotten, but
//! for the slice that was last: it may have let somebody wait. Times are those between two calls
//! of the shard, which reads no clock: whatever else the driver did in between is not counted.

use std::collections::VecDeque;

use crate::io::ConnectionId;

/// For each part of the time that fresh connections take, known sessions have so many, if they
/// can use them: the fresh have a quarter.
const KNOWN_PARTS: u64 = 3;
/// The most that is owed: a unit may take long, and the fresh are not to starve for it.
const OWED_US_MAX: u64 = 500_000;

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its router is known.
    Known,
    /// It has not said who it is.
    Fresh,
}

/// Connections with something to digest, in turn.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    known: VecDeque<ConnectionId>,
    fresh: VecDeque<ConnectionId>,
    /// For so long known sessions come before fresh ones.
    owed_us: u64,
    /// The slice that was begun last, and when.
    slice: Option<(Kind, u64)>,
}

impl Queue {
    /// Behind all others of its kind.
    pub(crate) fn push_back(&mut self, id: ConnectionId, kind: Kind) {
        self.of(kind).push_back(id);
    }

    /// Before all others of its kind.
    pub(crate) fn push_front(&mut self, id: ConnectionId, kind: Kind) {
        self.of(kind).push_front(id);
    }

    /// Whether nobody has anything to digest.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.fresh.is_empty()
    }

    /// Whose slices may be digested now; `None` = nobody has anything.
    pub(crate) fn next_kind(&self) -> Option<Kind> {
        match (self.known.is_empty(), self.fresh.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Kind::Fresh),
            (false, true) => Some(Kind::Known),
            (false, false) if self.owed_us > 0 => Some(Kind::Known),
            (false, false) => Some(Kind::Fresh),
        }
    }

    /// The first of this kind.
    pub(crate) fn pop(&mut self, kind: Kind) -> Option<ConnectionId> {
        self.of(kind).pop_front()
    }

    /// A slice of this kind begins.
    pub(crate) fn begin(&mut self, kind: Kind, now_us: u64) {
        self.slice = Some((kind, now_us));
    }

    /// The slice that was begun last, if there is one that nobody has ended, took until now.
    pub(crate) fn end(&mut self, now_us: u64) {
        let Some((kind, begun_us)) = self.slice.take() else { return };
        let took_us = now_us.saturating_sub(begun_us);
        self.owed_us = match kind {
            Kind::Known => self.owed_us.saturating_sub(took_us),
            // What is owed from before is owed to nobody: no known session has used it.
            Kind::Fresh => (KNOWN_PARTS * took_us.max(1)).min(OWED_US_MAX),
        };
    }

    fn of(&mut self, kind: Kind) -> &mut VecDeque<ConnectionId> {
        match kind {
            Kind::Known => &mut self.known,
            Kind::Fresh => &mut self.fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests for a while, with slices of so long; what each kind had of the time.
    fn shares(queue: &mut Queue, known_us: u64, fresh_us: u64, slices: usize) -> [u64; 2] {
        let (mut now_us, mut had) = (0, [0, 0]);
        for _ in 0..slices {
            let Some(kind) = queue.next_kind() else { break };
            let id = queue.pop(kind).unwrap();
            queue.begin(kind, now_us);
            let took_us = if kind == Kind::Known { known_us } else { fresh_us };
            now_us += took_us;
            had[kind as usize] += took_us;
            queue.end(now_us);
            queue.push_back(id, kind);
        }
        had
    }

    fn queue(known: u64, fresh: u64) -> Queue {
        let mut queue = Queue::default();
        (0..known).for_each(|id| queue.push_back(ConnectionId(id), Kind::Known));
        (0..fresh).for_each(|id| queue.push_back(ConnectionId(1_000 + id), Kind::Fresh));
        queue
    }

    #[test]
    fn fresh_connections_have_a_quarter_of_the_time_however_many_and_costly_they_are() {
        for (fresh, fresh_us) in [(1, 100), (1_000, 100), (1_000, 20_000), (10, 90_000)] {
            let [known, fresh] = shares(&mut queue(4, fresh), 50, fresh_us, 100_000);
            let share = fresh as f64 / (known + fresh) as f64;
            assert!((0.2..0.3).contains(&share), "{fresh_us}: {share}");
        }
    }

    #[test]
    fn known_sessions_are_digested_next_after_one_slice_of_a_fresh_connection() {
        let mut queue = queue(0, 1_000);
        shares(&mut queue, 50, 20_000, 500);
        queue.push_back(ConnectionId(1), Kind::Known);
        assert_eq!(queue.next_kind(), Some(Kind::Known));
    }

    #[test]
    fn nobody_waits_for_ever_and_nothing_is_left_idle() {
        assert_eq!(Queue::default().next_kind(), None);
        let [known, fresh] = shares(&mut queue(0, 3), 50, 100, 1_000);
        assert_eq!((known, fresh), (0, 100_000), "nobody else wants the time");
        let [known, fresh] = shares(&mut queue(3, 0), 50, 100, 1_000);
        assert_eq!((known, fresh), (50_000, 0));
        // A unit of ten seconds is no debt of thirty.
        let [known, fresh] = shares(&mut queue(1, 1), 1_000, 10_000_000, 1_100);
        assert!(fresh >= 20_000_000 && known >= 500_000, "{known} {fresh}");
    }
}
