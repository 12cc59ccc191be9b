//! Roster: every router as the shards and the registry know it at this moment.
//!
//! In:   the addresses of the shards, and the registry, where the states wait that no shard has.
//! Out:  one `RosterLine` per router, by id; a shard writes its own between two turns.
//! Law:  a shard is asked once in `FRESH_US` at most, however many ask; its answer is one pass.
//! Not:  the past (`query`), or what a shard knows of a connection (`shard::roster`).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use storage::time::Micros;

use crate::io::clock::Clock;
use crate::io::links::{Address, Post};
use crate::query::RouterRow;
use crate::registry::{Message, Registry};

/// How old an answer may be that is given again.
pub const FRESH_US: i64 = 1_000_000;
/// How long shards have for their answers. A shard that waits for its disk answers nevertheless.
const PATIENCE: Duration = Duration::from_secs(2);

/// One router now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterLine {
    /// What a question about the log would answer too.
    pub row: RouterRow,
    /// The shard that its table lives on; `None` = it waits for its router to come back.
    pub shard: Option<usize>,
    /// Its session, if it speaks.
    pub live: Option<LiveSession>,
}

/// What only the shard knows of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// The connection's other end.
    pub peer: SocketAddr,
    /// Memory that its received bytes take.
    pub waiting_bytes: u64,
    /// For how long it has not been read now, for want of memory; 0 = it is read.
    pub blocked_us: u64,
    /// The longest time for which it was not read.
    pub blocked_longest_us: u64,
    /// Whether its snapshot waits until those of others have been read.
    pub snapshot_waits: bool,
    /// How far its last change came behind its event time; negative = its clock is ahead.
    pub delay_us: Option<i64>,
    /// The farthest that a change came behind in this session.
    pub delay_longest_us: Option<i64>,
    /// Frames and mappings of it that were rejected.
    pub rejected: u64,
}

/// Asks the shards.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    shards: Vec<Address>,
    registry: Arc<Registry>,
    last: Arc<Mutex<Option<Answered>>>,
}

/// An answer, and when it was asked for.
type Answered = (Micros, Arc<Vec<RosterLine>>);

/// A shard that did not answer in time: it is stopping, or hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{missing} shards did not answer within 2 s: is the collector stopping? /healthz says more"
)]
pub struct RosterError {
    /// How many.
    pub missing: usize,
}

impl Roster {
    /// A roster of these shards.
    pub fn new(shards: Vec<Address>, registry: Arc<Registry>) -> Roster {
        Roster { shards, registry, last: Arc::default() }
    }

    /// Every router, by id. Blocks until the shards have answered; the lock is held meanwhile, so
    /// that those who ask at the same time get one answer.
    pub fn lines(&self, now: Micros) -> Result<Arc<Vec<RosterLine>>, RosterError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((time, lines)) = &*last
            && (0..FRESH_US).contains(&now.since(*time))
        {
            return Ok(Arc::clone(lines));
        }
        let lines = Arc::new(self.ask()?);
        *last = Some((now, Arc::clone(&lines)));
        Ok(lines)
    }

    fn ask(&self) -> Result<Vec<RosterLine>, RosterError> {
        let (sender, answers) = bounded(self.shards.len());
        for shard in &self.shards {
            shard.post(Post::Told(Message::Roster(RosterRequest { sender: sender.clone() })));
        }
        drop(sender);
        let clock = Clock::start();
        let mut lines = self.registry.parked();
        for answered in 0..self.shards.len() {
            let left = PATIENCE.saturating_sub(clock.elapsed());
            let answer = answers.recv_timeout(left);
            let missing = self.shards.len() - answered;
            lines.extend(answer.map_err(|_| RosterError { missing })?);
        }
        lines.sort_by_key(|line| (line.row.router, line.shard.is_none()));
        // A table on its way between two shards may be in both answers, or in none.
        lines.dedup_by_key(|line| line.row.router);
        Ok(lines)
    }
}

/// A shard is asked for its routers.
#[derive(Clone, Debug)]
pub struct RosterRequest {
    sender: Sender<Vec<RosterLine>>,
}

impl RosterRequest {
    /// Answers; never waits.
    pub(crate) fn answer(&self, lines: Vec<RosterLine>) {
        // Whoever asked may have given up.
        let _ = self.sender.try_send(lines);
    }
}
