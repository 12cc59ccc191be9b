//! Connections: what the kernel says of each, and which router it is.
//!
//! In:   what the kernel tells of the sockets on our port.
//! Out:  `Connection`, ready to be shown.
//! Law:  only our own sockets count.
//! Not:  what they have to do with a burst (`verdict`).

use serde::{Deserialize, Serialize};
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
