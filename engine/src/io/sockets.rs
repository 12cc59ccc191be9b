//! What the two socket drivers have in common: bounds, addresses and ends.
//!
//! In:   what the kernel says of a socket.
//! Out:  the word for it in the contract (`io`).
//! Law:  what bounds one connection bounds it whichever driver has it.
//! Not:  system calls on the way of the bytes (`epoll`, `uring`); limits of accept (`gate`); the
//!       loop itself (`turn`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockAddr, Socket};
use storage::row::Reason;

/// Bytes taken by one receive: of the size of a core's first-level caches, measured best.
pub const RECEIVE_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that one connection may deliver before the others have their turn.
pub const RECEIVE_BYTES_MAX: usize = 256 << 10;
/// Longest time in draining before the shard's timers are looked at: half a commit interval.
pub const TURN_US: u64 = 10_000;
/// Acks that a peer may leave unread beyond its socket's buffers before it counts as gone.
pub const UNSENT_BYTES_MAX: usize = 64 << 10;
/// How long a closed connection waits for the peer's FIN.
pub const LINGER_US: u64 = 1_000_000;

/// The address of a peer, an IPv4-mapped one as the IPv4 address that it is.
pub fn peer_of(address: &SockAddr) -> SocketAddr {
    // A listener for IP accepts no other family; were it to, nobody is allowed from nowhere.
    let nowhere = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
    let address = address.as_socket().unwrap_or(nowhere);
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What a receive that failed means.
pub fn end_of_receive(errno: i32) -> Reason {
    if errno == Errno::TIMEDOUT.raw_os_error() { Reason::TimedOut } else { Reason::ConnectionLost }
}

/// Makes the coming close of this socket a reset.
pub fn reset_on_close(socket: &Socket) {
    // Cannot fail on a socket; were it to, the peer would get a FIN, which ends it just as well.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Raises the soft limit of descriptors to the hard one; the limit that holds now.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The soft limit of descriptors.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
