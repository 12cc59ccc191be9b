//! What the shard asks of the world and what the world answers: two closed enums.
//!
//! In:   `Op`, taken from `Shard::poll_op` by a driver.
//! Out:  `Completion`, given to `Shard::handle` by the same driver.
//! Law:  the shard never calls the kernel; the drivers (`uring`, `epoll`, `sim`) never decide.
//! Not:  what an operation is for (`shard`).

pub mod clock;
pub mod slots;
pub mod links;
pub mod disk;
pub mod pin;
pub mod listener;
pub mod sockets;
pub mod turn;
pub mod gate;
pub mod epoll;
pub mod uring;
pub mod choice;
#[doc(hidden)]
pub mod sim;

use std::net::SocketAddr;
use std::sync::Arc;

use storage::row::Reason;
use storage::time::{Hour, Micros};

use crate::registry::Message;

/// A connection of one shard. Never used again for another connection while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The time, read once per turn of the loop by the driver (or made up by the simulation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock: collection time.
    pub wall: Micros,
    /// Monotonic clock, microseconds since an arbitrary start: for every timeout.
    pub monotonic_us: u64,
}

/// What a shard wants done. The driver does it and answers with the completion named.
#[derive(Debug)]
pub enum Op {
    /// Take connections from the listener from now on (`Accepted`, again and again).
    Accept,
    /// Take none until the next `Accept`; those that wait stay in the kernel's queue.
    PauseAccept,
    /// Deliver bytes of this connection from now on (`Received`, then `ReceiveEnded`).
    Receive {
        /// Which.
        connection: ConnectionId,
    },
    /// Deliver no more bytes until the next `Receive`; a few may still be under way.
    PauseReceive {
        /// Which.
        connection: ConnectionId,
    },
    /// Send bytes (acks); in order. The driver keeps what does not fit (no completion).
    Send {
        /// Which.
        connection: ConnectionId,
        /// At most some hundred bytes.
        bytes: Vec<u8>,
    },
    /// Send what is still to be sent, then FIN and close (`reset`: RST at once). (`Closed`)
    Close {
        /// Which.
        connection: ConnectionId,
        /// Whether the peer gets a reset instead of a FIN.
        reset: bool,
    },
    /// Append these bytes to the hour's log file of this shard and make them durable: all of them
    /// or none. (`LogSynced` or `LogFailed`)
    ///
    /// One at a time. The file is made where it is missing, with its folder entry. After
    /// `LogFailed` the same bytes may come again, also with another hour: before they are written,
    /// whatever the failure left behind the durable end is cut away.
    LogCommit {
        /// Collection hour.
        hour: Hour,
        /// One or more whole blocks. Shared, so that the shard can ask again.
        bytes: Arc<Vec<u8>>,
    },
    /// The file of this hour will be wanted soon: make it, and its folder entry durable, ahead and
    /// aside, so that no commit waits for that. (no completion; a failure is the commit's to meet)
    LogPrepare {
        /// Collection hour.
        hour: Hour,
    },
    /// Give a message to another shard. (no completion; arrives there as `Told`)
    Tell {
        /// Index of the shard.
        shard: usize,
        /// What.
        message: Message,
    },
}

/// What happened. Times are arguments of `Shard::handle`, never read by the shard.
#[derive(Debug)]
pub enum Completion<'a> {
    /// A connection was taken from the listener.
    Accepted {
        /// Its name from now on.
        connection: ConnectionId,
        /// Where it comes from (IPv4-mapped addresses already as IPv4).
        peer: SocketAddr,
    },
    /// No connection could be taken: a limit of the process or the host.
    AcceptFailed {
        /// errno.
        errno: i32,
    },
    /// Bytes came in. The slice is the driver's buffer: copied before `handle` returns.
    Received {
        /// Of which connection.
        connection: ConnectionId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// No more bytes will come: FIN (`ClosedByRouter`), reset (`ConnectionLost`), `TimedOut`.
    ReceiveEnded {
        /// Of which connection.
        connection: ConnectionId,
        /// How it ended.
        reason: Reason,
    },
    /// Every connection that is being read has an empty receive queue: a quiet time may count.
    /// Given after each turn in which everything that was ready had been delivered, also after
    /// one in which nothing was ready.
    Drained,
    /// The connection is gone.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// The commit that was asked for is durable.
    LogSynced {
        /// Length of the hour's file now.
        length: u64,
    },
    /// The commit that was asked for failed: none of it counts.
    LogFailed {
        /// errno.
        errno: i32,
    },
    /// Another shard, or the host, says something.
    Told {
        /// What.
        message: Message,
    },
}

#[cfg(test)]
mod tests;
