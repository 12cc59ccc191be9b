//! Connections: what the kernel says of each, as far as it has been asked, and since a mark.
//!
//! In:   what the kernel tells of the sockets on our port, round after round.
//! Out:  `Connection`, made when somebody asks; what each went through since the mark.
//! Law:  only our own sockets count; a mark costs the same however many there are.
//! Not:  when the kernel is asked (`survey`), what it has to do with a burst (`verdict`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use serde::{Deserialize, Serialize};
use tuning::sockets::SocketState;
use utoipa::ToSchema;

/// One connection, as the kernel sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// The router, where it has said which it is.
    pub router: Option<String>,
    /// The other end: address and port.
    pub peer: String,
    /// When the kernel was asked, microseconds since 1970.
    pub time_us: i64,
    /// Bytes that wait in its receive queue.
    pub queue_bytes: u64,
    /// Memory that the queue takes of the kernel.
    pub queue_memory_bytes: u64,
    /// What that may be at most.
    pub queue_memory_max_bytes: u64,
    /// The window that we offer the router.
    pub window_bytes: Option<u64>,
    /// Segments that the kernel dropped on this socket since it was opened.
    pub drops: u64,
    /// Segments that we sent again since then (acks).
    pub retransmits: u64,
    /// Round trip time, microseconds.
    pub rtt_us: Option<u64>,
    /// Bytes received since it was opened.
    pub received_bytes: Option<u64>,
    /// Since the last byte came, milliseconds.
    pub silent_ms: Option<u64>,
}

/// Every connection that the survey knows. A handle: clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    known: Arc<Mutex<BTreeMap<SocketAddr, Known>>>,
}

/// A connection, and what it had gone through at the last two marks.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The round that saw it last, and when that was.
    pub(super) round: u64,
    time_us: i64,
    pub(super) state: SocketState,
    /// The number of the last mark that the two tallies take into account.
    marks: u64,
    at_mark: Tally,
    at_mark_next: Tally,
}

/// What only ever grows while a connection lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) drops: u32,
    pub(super) retransmits: u32,
    pub(super) out_of_order: u32,
    pub(super) received_bytes: u64,
}

impl Tally {
    fn of(state: &SocketState) -> Tally {
        Tally {
            drops: state.drops,
            retransmits: state.retransmits.unwrap_or(0),
            out_of_order: state.out_of_order.unwrap_or(0),
            received_bytes: state.received_bytes.unwrap_or(0),
        }
    }

    fn since(self, earlier: Tally) -> Tally {
        Tally {
            drops: self.drops.saturating_sub(earlier.drops),
            retransmits: self.retransmits.saturating_sub(earlier.retransmits),
            out_of_order: self.out_of_order.saturating_sub(earlier.out_of_order),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
        }
    }
}

impl Known {
    /// What it had gone through at the mark before mark number `marks`. No mark is written down
    /// when it is made: what the kernel said last was true then too.
    fn tally_at(&self, marks: u64) -> Tally {
        match marks - self.marks {
            0 => self.at_mark,
            1 => self.at_mark_next,
            _ => Tally::of(&self.state),
        }
    }

    /// What it went through since the mark before mark number `marks`.
    pub(super) fn since(&self, marks: u64) -> Tally {
        Tally::of(&self.state).since(self.tally_at(marks))
    }

    /// The kernel says something new. Returns what it went through since it was asked last.
    pub(super) fn take(&mut self, state: SocketState, time_us: i64, marks: u64) -> Tally {
        if self.state.cookie != state.cookie {
            // Another connection from the same place: it began with nothing, as every one does.
            *self = Known { marks, ..Known::default() };
        }
        let before = Tally::of(&self.state);
        if self.marks < marks {
            (self.at_mark, self.at_mark_next) = (self.tally_at(marks), before);
            self.marks = marks;
        }
        (self.state, self.time_us) = (state, time_us);
        Tally::of(&self.state).since(before)
    }
}

impl Connections {
    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless somebody copies it just now.
    pub(super) fn known_now(&self) -> Option<MutexGuard<'_, BTreeMap<SocketAddr, Known>>> {
        match self.known.try_lock() {
            Ok(known) => Some(known),
            Err(TryLockError::Poisoned(known)) => Some(known.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// A copy of all there is: whoever asks puts it into words where nobody waits for him.
    pub fn copy(&self) -> Copied {
        Copied { known: self.known().values().cloned().collect() }
    }
}

/// What was known of every connection at one moment, by the peer's address.
#[derive(Debug)]
pub struct Copied {
    known: Vec<Known>,
}

impl Copied {
    /// What the kernel said of the connection to this peer, whose router is known by that name.
    pub fn connection(&self, peer: SocketAddr, router: Option<String>) -> Option<Connection> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let place = self.known.binary_search_by_key(&Some(peer), |known| known.state.peer).ok()?;
        let Known { time_us, state, .. } = self.known.get(place)?;
        Some(Connection {
            router,
            peer: peer.to_string(),
            time_us: *time_us,
            queue_bytes: u64::from(state.queue),
            queue_memory_bytes: u64::from(state.memory_bytes),
            queue_memory_max_bytes: u64::from(state.memory_max_bytes),
            window_bytes: state.window_bytes.map(u64::from),
            drops: u64::from(state.drops),
            retransmits: u64::from(state.retransmits.unwrap_or(0)),
            rtt_us: state.rtt_us.map(u64::from),
            received_bytes: state.received_bytes,
            silent_ms: state.silent_ms.map(u64::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(cookie: u8, received_bytes: u64, drops: u32) -> SocketState {
        let received_bytes = Some(received_bytes);
        SocketState { cookie: [cookie; 8], received_bytes, drops, ..SocketState::default() }
    }

    #[test]
    fn what_came_since_the_mark_before_the_last_is_told_whenever_the_kernel_was_asked() {
        let mut known = Known::default();
        let received = |known: &Known, marks: u64| known.since(marks).received_bytes;
        // It began with nothing, at mark 3.
        assert_eq!(known.take(state(1, 10, 0), 1, 3).received_bytes, 10);
        assert_eq!((received(&known, 3), received(&known, 4)), (10, 10));
        // Two marks later, what it had then is of before.
        assert_eq!(received(&known, 5), 0);
        assert_eq!(
            known.take(state(1, 30, 2), 2, 4),
            Tally { drops: 2, received_bytes: 20, ..Tally::default() }
        );
        assert_eq!((received(&known, 4), received(&known, 5), received(&known, 6)), (30, 20, 0));
        // Many marks without a question: all of them found what it had gone through by then.
        known.take(state(1, 70, 2), 3, 90);
        assert_eq!((received(&known, 90), received(&known, 91), received(&known, 92)), (40, 40, 0));
        // Another connection from the same port has no past.
        assert_eq!(known.take(state(2, 5, 1), 4, 92).received_bytes, 5);
        assert_eq!((received(&known, 92), received(&known, 93), received(&known, 94)), (5, 5, 0));
    }

    #[test]
    fn a_connection_is_put_into_words_for_who_asks() {
        let connections = Connections::default();
        let peers: Vec<SocketAddr> =
            (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        for (bytes, peer) in peers.iter().enumerate() {
            let state = SocketState { peer: Some(*peer), ..state(1, bytes as u64, 0) };
            connections.known().entry(*peer).or_default().take(state, 7, 0);
        }
        let copied = connections.copy();
        for (bytes, peer) in peers.iter().enumerate() {
            let found = copied.connection(*peer, Some("r".to_owned())).unwrap();
            assert_eq!((found.peer, found.time_us), (peer.to_string(), 7));
            assert_eq!(
                (found.received_bytes, found.router),
                (Some(bytes as u64), Some("r".into()))
            );
        }
        let mapped = "[::ffff:127.0.0.1]:2".parse().unwrap();
        assert_eq!(copied.connection(mapped, None).unwrap().received_bytes, Some(1));
        assert_eq!(copied.connection("127.0.0.1:9".parse().unwrap(), None), None);
    }
}
