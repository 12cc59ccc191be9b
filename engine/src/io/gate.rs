//! Gate: whether connections are taken, and which limit forbids it.
//!
//! In:   the shard's wish, connections that came and went, what the kernel refused.
//! Out:  how many may be accepted now; one log line per minute that names limit and remedy.
//! Law:  a place is kept before a peer is accepted, so none that was accepted is ever closed for
//!       want of one; the others wait in the listen queue, unharmed.
//! Not:  accepting (`epoll`, `uring`); who may connect (`policy`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::io::Now;
use crate::io::links::{Address, Post};

/// When accepting is tried again after the kernel refused, if no connection of ours closes before.
pub const ACCEPT_RETRY_US: u64 = 1_000_000;
/// The log line about a limit comes once in this time at most.
const LIMIT_LINE_US: u64 = 60_000_000;
/// Descriptors that a process keeps for itself, so that logs open and HTTP answers at the limit: 64
/// clients, the watch's files, and what a question reads.
const DESCRIPTORS_KEPT: u64 = 128;
/// Descriptors that each shard keeps: its ring, its listener, its bell, its log.
const DESCRIPTORS_KEPT_PER_SHARD: u64 = 8;

/// Places that the kernel lets one table of direct descriptors have (IORING_MAX_FIXED_FILES).
const DIRECT_MAX: u64 = 1 << 20;

/// What bounds the connections of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections that the process holds at most, of all shards together.
    pub connections: usize,
    /// Whether that is fewer than `connections_max` asks for, for want of descriptors.
    pub short_of_descriptors: bool,
    /// Places of each ring's own table of direct descriptors; `None` = ordinary descriptors.
    pub direct: Option<u32>,
}

impl Capacity {
    /// What `descriptors`, the limit of this process, carries of `connections_max`. Beyond it a
    /// ring that has them (`direct`) takes direct descriptors: each ring's table may be as large
    /// as the limit, and nothing in it counts as a descriptor of the process.
    pub fn new(connections_max: u64, descriptors: u64, shards: usize, direct: bool) -> Capacity {
        let kept = DESCRIPTORS_KEPT + DESCRIPTORS_KEPT_PER_SHARD * shards as u64;
        // A limit that small is for tests and for trying out: half of it serves.
        let carried = descriptors.saturating_sub(kept.min(descriptors / 2)).max(1);
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        if connections_max <= carried {
            let connections = size(connections_max);
            Capacity { connections, short_of_descriptors: false, direct: None }
        } else if direct {
            // One place more than connections: the kernel closes a peer that finds none.
            let table = descriptors.min(connections_max + 1).min(DIRECT_MAX);
            let table = u32::try_from(table).expect("some million at most");
            let connections = size(connections_max);
            Capacity { connections, short_of_descriptors: false, direct: Some(table) }
        } else {
            Capacity { connections: size(carried), short_of_descriptors: true, direct: None }
        }
    }
}

/// The places for connections that all shards of a process share.
#[derive(Debug)]
pub struct Places {
    capacity: Capacity,
    /// Connections, and places kept for accepts that are under way.
    taken: AtomicUsize,
    /// A shard has found none free.
    missed: AtomicBool,
    /// Whom to tell when one becomes free.
    shards: Vec<Address>,
    /// Monotonic time of the last line about a limit, plus one; 0 = never.
    said_at: AtomicU64,
}

impl Places {
    /// So many places, all free. A shard of `shards` that missed one is told when one is free.
    pub fn new(capacity: Capacity, shards: Vec<Address>) -> Arc<Places> {
        Arc::new(Places {
            capacity,
            taken: AtomicUsize::new(0),
            missed: AtomicBool::new(false),
            shards,
            said_at: AtomicU64::new(0),
        })
    }

    /// Takes up to `most` places; never so many that nothing is left to the other shards, whose
    /// accepts may be what comes next.
    fn take(&self, most: usize) -> usize {
        let most_of =
            |free: usize| (free / (2 * self.shards.len().max(1))).clamp(1, most).min(free);
        let take = || {
            let taken = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
                Some(taken + most_of(self.capacity.connections.saturating_sub(taken)))
            });
            let before = taken.expect("the update always gives a number");
            most_of(self.capacity.connections.saturating_sub(before))
        };
        match take() {
            0 => {
                // Noted first, then looked again: a place given in between is not missed.
                self.missed.store(true, Ordering::SeqCst);
                take()
            }
            count => count,
        }
    }

    fn is_any_free(&self) -> bool {
        self.taken.load(Ordering::SeqCst) < self.capacity.connections
    }

    fn give(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::SeqCst);
        if self.missed.load(Ordering::SeqCst) && self.missed.swap(false, Ordering::SeqCst) {
            self.shards.iter().for_each(|shard| shard.post(Post::Room));
        }
    }
}

/// Whether one shard takes connections: it wants them, and no limit forbids it.
#[derive(Debug)]
pub struct AcceptGate {
    wanted: bool,
    places: Arc<Places>,
    /// What this shard has taken of the places, for connections and for accepts under way.
    held: usize,
    connections: usize,
    /// No place was free when one was asked for.
    full: bool,
    retry_at: Option<u64>,
    told: bool,
}

impl AcceptGate {
    /// A closed gate in front of the places that all shards share.
    pub fn new(places: Arc<Places>) -> AcceptGate {
        AcceptGate {
            wanted: false,
            places,
            held: 0,
            connections: 0,
            full: false,
            retry_at: None,
            told: false,
        }
    }

    /// How many places the ring's own table is to have, if it is to have one.
    pub fn direct(&self) -> Option<u32> {
        self.places.capacity.direct
    }

    /// Keeps places for up to `most` accepts, at least one; each becomes a connection (`entered`)
    /// or is given back (`unused`). 0 = none is free; then it says so, and the gate is closed
    /// until one is (`left`, `look_again`).
    pub fn keep(&mut self, now: Now, most: usize) -> usize {
        // One place of a table is left free: see `Capacity::new`.
        let table = self.direct().map_or(usize::MAX, |places| places as usize - 1);
        let own = table.saturating_sub(self.held).min(most);
        let kept = if own == 0 { 0 } else { self.places.take(own) };
        self.held += kept;
        if kept == 0 {
            self.full = true;
            let capacity = self.places.capacity;
            // A place may have become free since: then it is told, and is no matter of the table.
            let (limit, fix) = if own == 0 {
                table_and_fix(table)
            } else if capacity.short_of_descriptors {
                descriptors_and_fix()
            } else {
                (
                    format!("connections_max ({})", capacity.connections),
                    "the setting connections_max",
                )
            };
            self.say(now, &limit, fix);
        }
        kept
    }

    /// A place that was kept is not needed.
    pub fn unused(&mut self) {
        self.held -= 1;
        self.places.give(1);
    }

    /// A place that was kept has become a connection.
    pub fn entered(&mut self) {
        self.connections += 1;
    }

    /// One connection less: its place is free, and its descriptor too.
    pub fn left(&mut self) {
        self.connections -= 1;
        self.unused();
        self.full = false;
        self.retry_at = None;
    }

    /// Looks whether there is room again; to be called when mail has come (`Post::Room`).
    pub fn look_again(&mut self) {
        if self.full {
            // Another shard may have kept the place meanwhile, and may give it back unused.
            self.full = !self.places.is_any_free() && {
                self.places.missed.store(true, Ordering::SeqCst);
                !self.places.is_any_free()
            };
        }
    }

    /// The shard's wish; a new one is tried at once.
    pub fn wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
        if wanted {
            self.full = false;
            self.retry_at = None;
        }
    }

    /// Whether connections are to be taken now.
    pub fn is_open(&self) -> bool {
        self.wanted && !self.is_limited()
    }

    /// Whether a limit forbids what the shard may want.
    pub fn is_limited(&self) -> bool {
        self.full || self.retry_at.is_some()
    }

    /// When to try again after the kernel refused.
    pub fn retry_at(&self) -> Option<u64> {
        self.retry_at
    }

    /// The kernel refused: no connection is taken until one of ours is closed or
    /// `ACCEPT_RETRY_US` are over. Says which limit, and what lifts it.
    pub fn exhausted(&mut self, now: Now, error: &io::Error) {
        self.retry_at = Some(now.monotonic_us + ACCEPT_RETRY_US);
        let (limit, fix) = limit_and_fix(error);
        self.say(now, &limit, fix);
    }

    fn say(&self, now: Now, limit: &str, fix: &str) {
        let said_at = &self.places.said_at;
        let before = said_at.load(Ordering::Relaxed);
        if before != 0 && now.monotonic_us < before + LIMIT_LINE_US {
            return;
        }
        let this = now.monotonic_us + 1;
        if said_at.compare_exchange(before, this, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        tracing::warn!(
            limit,
            fix,
            connections = self.connections,
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

/// Whether accept failed for a limit that stays until something is closed or raised; any other
/// failure concerns only the connection that was to be accepted.
pub fn accept_is_exhausted(error: &io::Error) -> bool {
    const LIMITS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    LIMITS.iter().any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}

fn table_and_fix(places: usize) -> (String, &'static str) {
    (
        format!(
            "RLIMIT_NOFILE ({}), which bounds the table of this shard's ring",
            places.saturating_add(1)
        ),
        "LimitNOFILE= in the unit file, or more shards",
    )
}

fn descriptors_and_fix() -> (String, &'static str) {
    let current = getrlimit(Resource::Nofile).current;
    let current = current.map_or("unlimited".to_owned(), |current| current.to_string());
    (
        format!("RLIMIT_NOFILE of this process ({current})"),
        "LimitNOFILE= in the unit file, or `ulimit -Hn` before the start; or --io uring, which \
         holds as many in each shard",
    )
}

fn limit_and_fix(error: &io::Error) -> (String, &'static str) {
    let errno = error.raw_os_error();
    if errno == Some(Errno::MFILE.raw_os_error()) {
        descriptors_and_fix()
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
    use crate::io::links::mailbox;

    fn at(monotonic_us: u64) -> Now {
        Now { wall: Micros(0), monotonic_us }
    }

    fn gate(connections: usize, direct: Option<u32>) -> AcceptGate {
        let capacity = Capacity { connections, short_of_descriptors: false, direct };
        let mut gate = AcceptGate::new(Places::new(capacity, Vec::new()));
        gate.wanted(true);
        gate
    }

    #[test]
    fn a_limit_closes_the_gate_until_something_closes_or_the_time_is_over() {
        let limit = io::Error::from(Errno::MFILE);
        assert!(accept_is_exhausted(&limit));
        assert!(!accept_is_exhausted(&io::Error::from(Errno::CONNABORTED)));
        let mut gate = gate(2, None);
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
        assert_eq!(gate.change(), Some(false));
    }

    #[test]
    fn the_gate_lets_no_more_through_than_there_are_places() {
        for mut gate in [gate(3, None), gate(100, Some(4))] {
            let mut kept = 0;
            while gate.is_open() {
                let more = gate.keep(at(1), 64);
                (0..more).for_each(|_| gate.entered());
                kept += more;
            }
            assert_eq!(kept, 3);
            assert!(gate.is_limited());
            gate.left();
            assert!(gate.is_open());
            assert_eq!(gate.keep(at(1), 64), 1);
            gate.unused();
            assert_eq!(gate.keep(at(1), 64), 1);
            assert_eq!(gate.keep(at(1), 64), 0);
        }
    }

    #[test]
    fn a_shard_that_missed_a_place_is_told_when_another_gives_one() {
        let (address, mail) = mailbox().unwrap();
        let capacity = Capacity { connections: 1, short_of_descriptors: false, direct: None };
        let places = Places::new(capacity, vec![address]);
        let [mut one, mut other] = [0, 1].map(|_| AcceptGate::new(Arc::clone(&places)));
        one.wanted(true);
        other.wanted(true);
        assert_eq!(one.keep(at(1), 64), 1);
        one.entered();
        assert_eq!(other.keep(at(1), 64), 0);
        assert!(!other.is_open() && mail.take().is_none());
        one.left();
        assert!(matches!(mail.take(), Some(Post::Room)));
        // Before the other looks it is kept once more, and given back unused.
        assert_eq!(one.keep(at(1), 64), 1);
        other.look_again();
        assert!(!other.is_open());
        one.unused();
        assert!(matches!(mail.take(), Some(Post::Room)));
        other.look_again();
        assert!(other.is_open());
        assert_eq!(other.keep(at(1), 64), 1);
    }

    #[test]
    fn direct_descriptors_are_for_what_the_limit_does_not_carry() {
        let ordinary = Capacity::new(10_000, 20_000, 2, true);
        assert_eq!((ordinary.connections, ordinary.direct), (10_000, None));
        let direct = Capacity::new(34_000, 20_000, 2, true);
        assert_eq!((direct.connections, direct.direct), (34_000, Some(20_000)));
        let small = Capacity::new(10, 16, 1, true);
        assert_eq!((small.connections, small.direct), (10, Some(11)));
        let epoll = Capacity::new(34_000, 20_000, 2, false);
        assert!(epoll.short_of_descriptors && epoll.direct.is_none());
        assert_eq!(epoll.connections, 20_000 - 128 - 16);
    }

    #[test]
    fn the_line_about_a_limit_names_it_and_what_lifts_it() {
        let (limit, fix) = limit_and_fix(&io::Error::from(Errno::MFILE));
        assert!(limit.contains("RLIMIT_NOFILE") && limit.contains(|c: char| c.is_ascii_digit()));
        assert!(fix.contains("LimitNOFILE"));
        assert!(limit_and_fix(&io::Error::from(Errno::NFILE)).1.contains("file-max"));
    }
}
