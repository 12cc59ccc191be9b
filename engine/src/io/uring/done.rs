//! Done: what a ring says of its connections, and how it names them.
//!
//! In:   nothing: plain values, made by the ring.
//! Out:  one `Done` per completion, with the memory that the kernel has given back.
//! Law:  a `Filled` is one buffer, and whoever holds it alone may read it or give it back.
//! Not:  what is to be done next (`driver`).

use std::io;
use std::os::fd::AsRawFd;

use io_uring::squeue;
use io_uring::types::Fd;
use socket2::{SockAddr, Socket};

/// What this kernel offers beyond the least that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// One thread submits, completions run when it asks: 6.1 and later.
    pub deferred: bool,
    /// A cap on what one arming of a receive delivers: 6.17 and later.
    pub receive_cap: bool,
    /// Accepts that do not wait where nobody is to be accepted: 6.10 and later.
    pub accept_at_once: bool,
    /// Waits that gather completions: 6.12 and later.
    pub gather: bool,
    /// A table of direct descriptors per ring: 5.19 and later, hence wherever a ring works.
    pub direct: bool,
}

/// A connection's socket, as its ring knows it.
#[derive(Debug)]
pub enum Handle {
    /// An ordinary descriptor of the process; closed by dropping it too.
    Descriptor(Socket),
    /// A place in the ring's own table: no descriptor of the process, and nothing but this ring
    /// can use it. Closed by `Ring::close`, or with the ring.
    Direct(u32),
}

impl Handle {
    /// What a request names: a number, and in which table it is to be looked up.
    pub(super) fn target(&self) -> (Fd, squeue::Flags) {
        match self {
            Handle::Descriptor(socket) => (Fd(socket.as_raw_fd()), squeue::Flags::empty()),
            Handle::Direct(place) => (Fd(place.cast_signed()), squeue::Flags::FIXED_FILE),
        }
    }
}

/// A completion, with what the kernel gave back.
#[derive(Debug)]
pub enum Done {
    /// An accept of this index ended; it is free again.
    Accepted {
        /// Which of `0..ACCEPTS`.
        index: u16,
        /// The connection and its peer; EAGAIN when none waits.
        result: io::Result<(Handle, SockAddr)>,
        /// Whether more peers waited behind this one.
        more_wait: bool,
    },
    /// Peers wait to be accepted.
    PeersWait,
    /// The receive of this slot brought bytes, or ended, or both.
    Received {
        /// Slot of the connection.
        slot: u32,
        /// Bytes; `None` at the end of the stream.
        result: Result<Option<Filled>, i32>,
        /// Whether it goes on without being asked for again.
        more: bool,
    },
    /// The send of this slot ended.
    Sent {
        /// Slot of the connection.
        slot: u32,
        /// How much was sent, or errno.
        result: Result<usize, i32>,
        /// What was to be sent.
        bytes: Vec<u8>,
    },
    /// The peer of this slot has hung up, or the wait for it was cancelled.
    HungUp {
        /// Slot of the connection.
        slot: u32,
    },
    /// The sending side of this slot is shut, or could not be.
    Shut {
        /// Slot of the connection.
        slot: u32,
        /// Whether a FIN is on its way.
        worked: bool,
    },
    /// The close of this slot's connection will be a reset.
    ResetSet {
        /// Slot of the connection.
        slot: u32,
    },
    /// The connection of this slot is closed, and its descriptor free.
    Closed {
        /// Slot of the connection.
        slot: u32,
    },
    /// The mailbox's bell rang.
    Bell,
}

/// A buffer with received bytes. Whoever holds it gives it back.
#[derive(Debug)]
pub struct Filled {
    pub(super) buffer: u16,
    pub(super) count: usize,
}
