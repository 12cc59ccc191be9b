//! A driver that drives nothing: the whole shard, with bytes from memory and a disk that is done
//! at once.
//!
//! In:   bytes of connections, and the time, both from the bench.
//! Out:  what the shard did, in its counters; its blocks, in a folder if one is wanted.
//! Law:  the shard is turned as the real drivers turn it; only the kernel is left out.
//! Not:  sockets and disks (`end_to_end`), stages of a frame (`decode`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use engine::io::{Completion, ConnectionId, Now, Op};
use engine::memory::{Budget, Memory};
use engine::metrics::Metric;
use engine::policy::Policy;
use engine::registry::Registry;
use engine::settings::Settings;
use engine::shard::{Shard, ShardSettings};
use storage::log::log_path;
use storage::mapping::RouterId;
use storage::router::RouterState;
use storage::time::Hour;

/// Longer than any row waits for its commit.
const SETTLE_MS: usize = 100;

/// A shard and the hand that turns it.
pub(crate) struct IdleDriver {
    shard: Shard,
    /// The time of whatever is given next.
    pub(crate) now: Now,
    folder: Option<PathBuf>,
    log_bytes: u64,
}

impl IdleDriver {
    /// A shard to which these routers are known. Blocks are written below `folder`.
    pub(crate) fn new(
        settings: &Settings,
        routers: BTreeMap<RouterId, Box<RouterState>>,
        folder: Option<PathBuf>,
        now: Now,
    ) -> IdleDriver {
        let registry = Arc::new(Registry::new(routers));
        let policy = Arc::new(Policy::new(settings));
        // Nothing is paused or refused here: what is measured is the digesting.
        let budget = Budget::of_surge(1 << 40);
        let memory = Arc::new(Memory::new(budget));
        memory.park(registry.parked_bytes());
        let settings = ShardSettings::new(settings, 0, &budget);
        let shard = Shard::new(settings, registry, memory, policy);
        IdleDriver { shard, now, folder, log_bytes: 0 }
    }

    /// The connection of this number, from the router's own address.
    pub(crate) fn accept(&mut self, number: usize, router: RouterId) -> io::Result<()> {
        let connection = ConnectionId(number as u64);
        let peer = SocketAddr::new(router.0, 40_000);
        self.shard.handle(self.now, Completion::Accepted { connection, peer });
        self.turn()
    }

    /// Bytes have come on a connection: they are drained, and wait.
    pub(crate) fn receive(&mut self, number: usize, bytes: &[u8]) {
        let connection = ConnectionId(number as u64);
        self.shard.handle(self.now, Completion::Received { connection, bytes });
    }

    /// Digests all that waits, and does what the shard asks for.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        loop {
            let more = self.shard.digest(self.now);
            let mut done = 0;
            while let Some(op) = self.shard.poll_op() {
                self.act(op)?;
                done += 1;
            }
            if !more && done == 0 {
                return Ok(());
            }
        }
    }

    /// Lets time pass until the last rows are committed.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        for _ in 0..SETTLE_MS {
            self.pass(1_000);
            self.turn()?;
        }
        Ok(())
    }

    /// Lets so many microseconds pass, on both clocks.
    pub(crate) fn pass(&mut self, us: u64) {
        self.now.monotonic_us += us;
        self.now.wall = self.now.wall.offset(i64::try_from(us).unwrap_or(i64::MAX));
    }

    /// When the shard wants to be called at the latest.
    pub(crate) fn due_us(&self) -> Option<u64> {
        self.shard.poll_timeout()
    }

    /// What was counted of this.
    pub(crate) fn count(&mut self, metric: Metric) -> u64 {
        self.shard.counters().get(metric)
    }

    /// Bytes of blocks so far.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    fn act(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::LogCommit { hour, bytes } => {
                self.log_bytes += bytes.len() as u64;
                if let Some(mut file) = self.open(hour)? {
                    file.write_all(&bytes)?;
                }
                let length = self.log_bytes;
                self.shard.handle(self.now, Completion::LogSynced { length });
            }
            Op::Close { connection, .. } => {
                self.shard.handle(self.now, Completion::Closed { connection });
            }
            // Whether bytes are wanted is not asked here, and acks have nobody to go to.
            _ => {}
        }
        Ok(())
    }

    fn open(&self, hour: Hour) -> io::Result<Option<File>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let path = log_path(folder, hour, 0);
        create_dir_all(path.parent().unwrap_or(folder))?;
        OpenOptions::new().create(true).append(true).open(path).map(Some)
    }
}
