//! Commit: rows of the next block, the batch that is being made durable, and the acks that wait.
//!
//! In:   rows, in the order in which they came to be; acks that must not be sent before them.
//! Out:  log operations, one batch in flight at a time; acks when their batch is durable; before
//!       an hour ends, the wish for the next one's file.
//! Law:  durable before acknowledged.
//! Not:  what a row says (`apply`, `session`); how it is laid out (storage `log`); a full disk
//!       (`room`).

use std::sync::Arc;

use storage::log::BlockBuilder;
use storage::row::{LedgerRow, Row, SessionRow};
use storage::time::{Hour, MICROS_PER_SECOND};

use super::Shard;
use super::connection::Connection;
use super::room::Waiting;
use crate::io::disk::is_out_of_room;
use crate::io::{ConnectionId, Now, Op};
use crate::metrics::{Histogram, Metric};
use crate::wire;

/// The last sequence to acknowledge, and how many frames that acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) sequence: u64,
    pub(crate) frames: u64,
}

/// Where the ack of a connection is among those of one batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AckPlace {
    /// The batch; no batch has the number 0.
    batch: u64,
    index: usize,
}

/// The acks of a batch: one per connection, in the order in which they were asked for first.
type Acks = Vec<(ConnectionId, Ack)>;

/// How long before the end of its hour a file is followed by the next one's being made ahead.
const PREPARE_S_MIN: i64 = 20;
/// The shards do that spread over so many seconds more.
const PREPARE_SPREAD_S: i64 = 40;
/// Never so soon after a rotation: a clock may have been set on to the end of an hour.
const PREPARE_AFTER_ROTATION_US: u64 = 1_000_000;

/// A batch between its write and the end of its sync.
#[derive(Debug)]
struct Flight {
    /// Kept until they are durable: a disk that is full is tried again with the same bytes.
    bytes: Arc<Vec<u8>>,
    rows: u64,
    began_us: u64,
    first_row_us: u64,
    acks: Acks,
}

/// The batch that collects, and the one in flight. Batches are numbered from 1.
#[derive(Debug)]
pub(crate) struct Commit {
    builder: BlockBuilder,
    /// Whole blocks of the batch that collects, full before it could be written.
    sealed: Vec<u8>,
    rows_sealed: u64,
    collecting: u64,
    durable: u64,
    flight: Option<Flight>,
    acks: Acks,
    /// Memory of the acks of the last batch, to be used again.
    spare_acks: Acks,
    /// When the batch that collects got its first row.
    first_row_us: Option<u64>,
    /// Memory of the last batch, to be used again.
    spare: Vec<u8>,
    /// Hour of the last batch, and how long before its end the next file is to be made ahead.
    hour: Option<Hour>,
    rotated_us: u64,
    prepare_us: i64,
    /// The hour whose file was last made ahead.
    prepared: Option<Hour>,
    /// The disk is full, and the batch in flight is tried again and again.
    pub(super) waiting: Option<Waiting>,
    failed: Option<i32>,
    /// Change rows appended since the start: what the ledgers must sum to.
    pub(crate) change_rows: u64,
    /// Rows of blocks that are full or written.
    rows_of_blocks: u64,
}

impl Commit {
    pub(crate) fn new(shard: usize) -> Commit {
        let shard = u16::try_from(shard).expect("settings bound the number of shards");
        Commit {
            builder: BlockBuilder::new(shard),
            sealed: Vec::new(),
            rows_sealed: 0,
            collecting: 1,
            durable: 0,
            flight: None,
            acks: Acks::new(),
            spare_acks: Acks::new(),
            first_row_us: None,
            spare: Vec::new(),
            hour: None,
            rotated_us: 0,
            prepare_us: (PREPARE_S_MIN + i64::from(shard) * 7 % PREPARE_SPREAD_S)
                * MICROS_PER_SECOND,
            prepared: None,
            waiting: None,
            failed: None,
            change_rows: 0,
            rows_of_blocks: 0,
        }
    }

    /// The block that collects, for change rows; `touch` afterwards.
    pub(crate) fn builder(&mut self) -> &mut BlockBuilder {
        &mut self.builder
    }

    pub(crate) fn session(&mut self, row: &SessionRow) {
        self.builder.session(row);
    }

    pub(crate) fn ledger(&mut self, row: &LedgerRow) {
        self.builder.ledger(row);
    }

    /// There is something to commit from now on, at the latest after the interval.
    pub(crate) fn touch(&mut self, now: Now) {
        self.first_row_us.get_or_insert(now.monotonic_us);
    }

    /// Acknowledges `sequence` when everything up to here is durable.
    pub(crate) fn acknowledge(&mut self, connection: &mut Connection, sequence: u64) {
        if connection.ack.batch != self.collecting {
            connection.ack = AckPlace { batch: self.collecting, index: self.acks.len() };
            self.acks.push((connection.id, Ack { sequence, frames: 0 }));
        }
        if let Some((_, ack)) = self.acks.get_mut(connection.ack.index) {
            ack.sequence = ack.sequence.max(sequence);
            ack.frames += 1;
        }
    }

    /// The batch whose durability covers every row and ack so far.
    pub(crate) fn covering(&self) -> u64 {
        let collects = !self.builder.is_empty() || !self.sealed.is_empty() || !self.acks.is_empty();
        match (collects, &self.flight) {
            (true, _) => self.collecting,
            (false, Some(_)) => self.collecting - 1,
            (false, None) => self.durable,
        }
    }

    pub(crate) fn is_durable(&self, batch: u64) -> bool {
        batch <= self.durable
    }

    /// The last batch that is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Rows since the start, those of the block that collects included.
    pub(crate) fn rows_pushed(&self) -> u64 {
        self.rows_of_blocks + self.builder.rows() as u64
    }

    /// Nothing collects, nothing flies.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_durable(self.covering())
    }

    /// errno of the failure after which nothing more is written.
    pub(crate) fn failure(&self) -> Option<i32> {
        self.failed
    }

    /// Bytes that wait for the batch in flight to end.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.sealed.len() + self.builder.bytes()
    }
}

impl Shard {
    /// Whether so much waits for the disk that nothing more is digested.
    pub(crate) fn commit_is_full(&self) -> bool {
        self.commit.waiting_bytes() >= self.settings.batch_bytes_max
    }

    /// When the batch that collects must go out, or the one that found no room must be tried
    /// again; `None` while one is in flight.
    pub(crate) fn commit_due_us(&self) -> Option<u64> {
        if let Some(waiting) = &self.commit.waiting {
            return waiting.again_us;
        }
        if self.commit.flight.is_some() || self.commit.failed.is_some() {
            return None;
        }
        let first_us = self.commit.first_row_us?;
        let full = self.commit.waiting_bytes() >= self.settings.block_bytes_max;
        Some(if full { first_us } else { first_us + self.settings.commit_interval_us })
    }

    /// Seals a full block, and writes the batch when it is due. Call between units only.
    pub(crate) fn commit_if_due(&mut self, now: Now) {
        if self.commit.builder.bytes() >= self.settings.block_bytes_max {
            self.seal(now);
        }
        let due = self.commit_due_us().is_some_and(|due_us| due_us <= now.monotonic_us);
        let hurried = self.stopping && !self.commit.is_idle() && self.commit.flight.is_none();
        if (due || hurried) && self.commit.failed.is_none() {
            self.write_batch(now);
        }
    }

    /// Closes the books of every session into the block that collects, and the block.
    fn seal(&mut self, now: Now) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(mut connection) = self.connections.remove(id) {
                self.settle_books(&mut connection, now.wall);
                self.connections.insert(connection);
            }
        }
        if self.commit.builder.is_empty() {
            return;
        }
        let rows = self.commit.builder.rows() as u64;
        if self.commit.sealed.is_empty() {
            // It opens a batch, and a batch is written when the one before it is durable.
            self.commit.builder.all_before_is_durable();
        }
        self.commit.builder.finish(&mut self.commit.sealed);
        self.commit.rows_sealed += rows;
        self.commit.rows_of_blocks += rows;
    }

    fn write_batch(&mut self, now: Now) {
        self.seal(now);
        let first_row_us = self.commit.first_row_us.take().unwrap_or(now.monotonic_us);
        let spare = std::mem::take(&mut self.commit.spare_acks);
        let acks = std::mem::replace(&mut self.commit.acks, spare);
        let rows = std::mem::take(&mut self.commit.rows_sealed);
        let spare = std::mem::take(&mut self.commit.spare);
        let bytes = std::mem::replace(&mut self.commit.sealed, spare);
        self.commit.collecting += 1;
        if bytes.is_empty() {
            self.commit.spare = bytes;
            // No flight, no row: what these acks wait for has been durable for a while.
            self.commit.durable = self.commit.collecting - 1;
            self.acknowledge_all(acks);
            self.batch_is_durable(now);
            return;
        }
        self.counters.add(Metric::LogWrittenBytes, bytes.len() as u64);
        let began_us = now.monotonic_us;
        let bytes = Arc::new(bytes);
        self.commit.flight = Some(Flight { bytes, rows, began_us, first_row_us, acks });
        self.ask_for_commit(now);
    }

    /// Asks the disk for the batch in flight.
    pub(super) fn ask_for_commit(&mut self, now: Now) {
        let Some(flight) = &self.commit.flight else { return };
        let hour = now.wall.hour();
        if self.commit.hour.replace(hour) != Some(hour) {
            self.commit.rotated_us = now.monotonic_us;
        }
        let bytes = Arc::clone(&flight.bytes);
        self.ops.push_back(Op::LogCommit { hour, bytes });
    }

    /// Has the next hour's file made shortly before its hour begins. A shard that has written
    /// nothing in this hour needs none; after a step of the clock the file is made when it is
    /// wanted.
    pub(crate) fn prepare_if_due(&mut self, now: Now) {
        let Some(hour) = self.commit.hour else { return };
        let next = hour.next();
        let begins_us = next.start().since(now.wall);
        let due = begins_us > 0 && begins_us <= self.commit.prepare_us;
        let rests = now.monotonic_us < self.commit.rotated_us + PREPARE_AFTER_ROTATION_US;
        if due && !rests && self.commit.prepared != Some(next) {
            self.commit.prepared = Some(next);
            self.ops.push_back(Op::LogPrepare { hour: next });
        }
    }

    /// The batch in flight is durable: what waited for it goes on.
    pub(crate) fn log_synced(&mut self, now: Now) {
        if self.commit.failed.is_some() {
            return;
        }
        let Some(flight) = self.commit.flight.take() else { return };
        if let Ok(mut bytes) = Arc::try_unwrap(flight.bytes) {
            bytes.clear();
            self.commit.spare = bytes;
        }
        self.room_found(now);
        self.commit.durable = self.commit.collecting - 1;
        self.counters.add(Metric::RowsCommitted, flight.rows);
        self.counters.add(Metric::LogSyncs, 1);
        let since = |then_us: u64| now.monotonic_us.saturating_sub(then_us);
        self.counters.observe(Histogram::Commit, since(flight.began_us));
        self.counters.observe(Histogram::Durable, since(flight.first_row_us));
        self.acknowledge_all(flight.acks);
        self.batch_is_durable(now);
        self.commit_if_due(now);
    }

    fn acknowledge_all(&mut self, mut acks: Acks) {
        for (connection, ack) in acks.drain(..) {
            self.counters.add(Metric::AcksSent, ack.frames);
            if self.connections.get(connection).is_some() {
                let mut bytes = Vec::new();
                wire::frame::encode_ack(ack.sequence, &mut bytes);
                self.ops.push_back(Op::Send { connection, bytes });
            }
        }
        self.commit.spare_acks = acks;
    }

    /// The batch in flight is not durable. On a full disk it is tried again until there is room.
    ///
    /// After any other failure only recovery may say what is on disk: a disk that cannot write
    /// may have damaged what it had. Nothing is acknowledged, read or digested any more, the
    /// process is to stop (`Shard::failure`), and senders keep what is not acknowledged.
    pub(crate) fn log_failed(&mut self, errno: i32, now: Now) {
        self.counters.add(Metric::LogFailures, 1);
        if self.commit.failed.is_some() || self.commit.flight.is_none() {
            return;
        }
        self.counters.set(Metric::LogFailed, 1);
        if is_out_of_room(errno) {
            self.wait_for_room(now);
            return;
        }
        self.commit.failed = Some(errno);
        let error = std::io::Error::from_raw_os_error(errno).to_string();
        let shard = self.settings.index;
        tracing::error!(
            shard,
            error,
            "the log cannot be written, and waiting would not help: nothing is acknowledged any \
             more; mend the disk or the folder, then start the collector, which cuts off what is \
             not whole; senders that ask for acks send again what is missing"
        );
        let ids = self.connections.ids();
        for id in ids {
            self.pause_receive(id);
        }
        self.ops.push_back(Op::PauseAccept);
    }

    /// Rows of the host itself go into the block that collects.
    pub(crate) fn append_rows(&mut self, rows: &[Row], now: Now) {
        for row in rows {
            match row {
                Row::Session(row) => self.commit.builder.session(row),
                Row::Kernel(row) => self.commit.builder.kernel(row),
                Row::Ledger(row) => self.commit.builder.ledger(row),
                // Changes are made by sessions alone, which count them in their books.
                Row::Change(_) => continue,
            }
            self.commit.touch(now);
        }
    }
}
