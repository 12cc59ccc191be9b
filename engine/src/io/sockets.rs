//! What the two socket drivers have in common: bounds, ends, and the gate in front of accept.
//!
//! In:   what the kernel says of a socket.
//! Out:  the word for it in the contract (`io`), and when to ask the kernel again.
//! Law:  at a limit of descriptors or memory accepting pauses and says which; peers wait, unharmed.
//! Not:  system calls on the way of the bytes (`epoll`, `uring`).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockAddr, Socket};
use storage::row::Reason;

use crate::io::Now;
use crate::io::clock::Clock;
use crate::io::links::Machine;

/// Bytes taken by one receive: of the size of a core's first-level caches, measured best.
pub const RECEIVE_BUFFER_BYTES: usize = 64 << 10;
/// Bytes that one connection may deliver before the others have their turn.
pub const RECEIVE_BYTES_MAX: usize = 256 << 10;
/// Longest time in draining before the shard's timers are looked at: half a commit interval.
pub const TURN_US: u64 = 10_000;
/// How long slices are digested before the sockets are looked at again: long against the look, so
/// that small slices do not cost a system call each; short against what sockets' buffers hold.
pub const DIGEST_US: u64 = 500;
/// Longest wait of an idle loop: a shard that has not turned for long is dead, and told so.
const IDLE_TURN_US: u64 = 1_000_000;
/// Acks that a peer may leave unread beyond its socket's buffers before it counts as gone.
pub const UNSENT_BYTES_MAX: usize = 64 << 10;
/// How long a closed connection waits for the peer's FIN.
pub const LINGER_US: u64 = 1_000_000;
/// When accepting is tried again, if no connection of ours closes before.
pub const ACCEPT_RETRY_US: u64 = 1_000_000;
/// The log line about a limit comes once in this time at most.
const LIMIT_LINE_US: u64 = 60_000_000;

/// Digests slices until there is nothing left or `DIGEST_US` are over; at least one, for the timers
/// run there. Whether there is more to do.
pub fn digest_for_a_while<M: Machine>(clock: &Clock, machine: &mut M) -> bool {
    let started_us = clock.now().monotonic_us;
    loop {
        let now = clock.now();
        let more = machine.digest(now);
        if !more || now.monotonic_us.saturating_sub(started_us) > DIGEST_US {
            return more;
        }
    }
}

/// How long a loop may wait for the kernel: until the first of its deadlines on the monotonic
/// clock, and never longer than an idle turn.
pub fn time_until(clock: &Clock, deadlines: [Option<u64>; 3]) -> Duration {
    let now_us = clock.now().monotonic_us;
    let until = |deadline: u64| deadline.saturating_sub(now_us);
    let wait_us = deadlines.into_iter().flatten().map(until).min();
    Duration::from_micros(wait_us.unwrap_or(IDLE_TURN_US).min(IDLE_TURN_US))
}

/// The address of a peer, an IPv4-mapped one as the IPv4 address that it is.
pub fn peer_of(address: &SockAddr) -> Option<SocketAddr> {
    let address = address.as_socket()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// What a receive that failed means.
pub fn end_of_receive(errno: i32) -> Reason {
    if errno == Errno::TIMEDOUT.raw_os_error() { Reason::TimedOut } else { Reason::ConnectionLost }
}

/// Whether accept failed for a limit that stays until something is closed or raised; any other
/// failure concerns only the connection that was to be accepted.
pub fn accept_is_exhausted(error: &io::Error) -> bool {
    const LIMITS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    LIMITS.iter().any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
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

/// Whether connections are taken: the shard wants them, and no limit forbids it.
#[derive(Debug)]
pub struct AcceptGate {
    wanted: bool,
    connections_max: usize,
    connections: usize,
    retry_at: Option<u64>,
    told: bool,
    said_at: Option<u64>,
}

impl AcceptGate {
    /// A closed gate that lets so many through at once.
    pub fn new(connections_max: usize) -> AcceptGate {
        AcceptGate {
            wanted: false,
            connections_max,
            connections: 0,
            retry_at: None,
            told: false,
            said_at: None,
        }
    }

    /// One more connection. Says so when it is the last that is let through.
    pub fn entered(&mut self, now: Now) {
        self.connections += 1;
        if self.connections == self.connections_max {
            let fix = "raise connections_max, and the limits that `stormdrain doctor` names";
            self.say(now, "connections_max, this shard's share of it", fix, "as set");
        }
    }

    /// One connection less: its descriptor is free too.
    pub fn left(&mut self) {
        self.connections = self.connections.saturating_sub(1);
        self.retry_at = None;
    }

    /// The shard's wish.
    pub fn wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
        self.retry_at = None;
    }

    /// Whether connections are to be taken now.
    pub fn is_open(&self) -> bool {
        self.wanted && self.retry_at.is_none() && self.connections < self.connections_max
    }

    /// When to try again after a limit was met.
    pub fn retry_at(&self) -> Option<u64> {
        self.retry_at
    }

    /// A limit was met: no connection is taken until a descriptor is free or `ACCEPT_RETRY_US`
    /// are over. Says which limit, and what lifts it.
    pub fn exhausted(&mut self, now: Now, error: &io::Error) {
        self.retry_at = Some(now.monotonic_us + ACCEPT_RETRY_US);
        let (limit, fix) = limit_and_fix(error);
        self.say(now, &limit, fix, &error.to_string());
    }

    fn say(&mut self, now: Now, limit: &str, fix: &str, error: &str) {
        if self.said_at.is_some_and(|said| now.monotonic_us < said + LIMIT_LINE_US) {
            return;
        }
        self.said_at = Some(now.monotonic_us);
        let connections = self.connections;
        tracing::warn!(
            limit,
            fix,
            connections,
            error,
            "accepting no connections: routers wait in the listen queue"
        );
    }

    /// Whether the time to try again has come; it is over by asking.
    pub fn retry_is_due(&mut self, now: Now) -> bool {
        let due = self.retry_at.is_some_and(|at| at <= now.monotonic_us);
        if due {
            self.retry_at = None;
        }
        due
    }

    /// Whether the listener is to be watched (`true`) or no longer (`false`), if that has changed
    /// since the last call.
    pub fn change(&mut self) -> Option<bool> {
        let open = self.is_open();
        let before = std::mem::replace(&mut self.told, open);
        (before != open).then_some(open)
    }
}

fn limit_and_fix(error: &io::Error) -> (String, &'static str) {
    let errno = error.raw_os_error();
    if errno == Some(Errno::MFILE.raw_os_error()) {
        let current = getrlimit(Resource::Nofile).current;
        let current = current.map_or("unlimited".to_owned(), |current| current.to_string());
        (
            format!("RLIMIT_NOFILE of this process ({current})"),
            "LimitNOFILE= in the unit file, or `ulimit -Hn` before the start",
        )
    } else if errno == Some(Errno::NFILE.raw_os_error()) {
        ("fs.file-max of this host".to_owned(), "sysctl -w fs.file-max=")
    } else {
        (
            "kernel memory for sockets".to_owned(),
            "sysctl net.ipv4.tcp_mem, and the memory limit of the control group",
        )
    }
}

#[cfg(test)]
mod tests {
    use storage::time::Micros;

    use super::*;

    fn at(monotonic_us: u64) -> Now {
        Now { wall: Micros(0), monotonic_us }
    }

    #[test]
    fn a_limit_closes_the_gate_until_something_closes_or_the_time_is_over() {
        let limit = io::Error::from(Errno::MFILE);
        assert!(accept_is_exhausted(&limit));
        assert!(!accept_is_exhausted(&io::Error::from(Errno::CONNABORTED)));
        let mut gate = AcceptGate::new(2);
        assert_eq!(gate.change(), None);
        gate.wanted(true);
        assert_eq!(gate.change(), Some(true));
        gate.exhausted(at(5), &limit);
        assert_eq!((gate.change(), gate.change()), (Some(false), None));
        assert_eq!(gate.retry_at(), Some(5 + ACCEPT_RETRY_US));
        assert!(
            !gate.retry_is_due(at(4 + ACCEPT_RETRY_US))
                && gate.retry_is_due(at(5 + ACCEPT_RETRY_US))
        );
        assert_eq!(gate.change(), Some(true));
        gate.exhausted(at(6), &limit);
        gate.wanted(false);
        gate.left();
        assert_eq!(gate.change(), Some(false));
    }

    #[test]
    fn the_gate_lets_no_more_through_than_connections_max() {
        let mut gate = AcceptGate::new(2);
        gate.wanted(true);
        gate.entered(at(1));
        assert!(gate.is_open());
        gate.entered(at(1));
        assert!(!gate.is_open());
        gate.left();
        assert!(gate.is_open());
    }

    #[test]
    fn the_line_about_a_limit_names_it_and_what_lifts_it() {
        let (limit, fix) = limit_and_fix(&io::Error::from(Errno::MFILE));
        assert!(limit.contains("RLIMIT_NOFILE") && limit.contains(|c: char| c.is_ascii_digit()));
        assert!(fix.contains("LimitNOFILE"));
        assert!(limit_and_fix(&io::Error::from(Errno::NFILE)).1.contains("file-max"));
    }
}
