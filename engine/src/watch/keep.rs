//! Keeps what was seen: kernel rows in the log, and the bursts of the last day out of it.
//!
//! In:   counters that moved, bursts as they go on.
//! Out:  blocks in `kernel.log`, each durable before the next, by a thread of its own.
//! Law:  a slow disk delays neither a look nor a shard; rows that find no place are counted.
//! Not:  what the rows say (`record`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use storage::log::layout::KERNEL_SHARD;
use storage::log::{kernel_block, read_kernel, settle_kernel};
use storage::row::KernelRow;
use storage::time::{Hour, Micros};
use tuning::counters::LOSS_COUNTERS;

use super::Watch;
use super::burst::{Bin, Head, Moved};
use super::record::{self, Reader};
use crate::io::Now;
use crate::io::disk::Appender;
use crate::io::links::AbortOnPanic;
use crate::metrics::{Kept, Publication};

/// What moves all the time is summed up for so long while it is calm.
const CALM_US: u64 = 60_000_000;
/// Batches that wait for the disk.
const BATCHES_MAX: usize = 64;
/// Rows that wait for a place among them; further ones are counted and dropped.
const ROWS_MAX: usize = 100_000;
/// A disk that refuses is asked again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// Bursts so old are not shown after a start; the log has them.
const SHOWN_US: i64 = 86_400_000_000;
/// Counters whose every movement has its own time, calm or not.
const TOLD_AT_ONCE: [&str; 3] = ["drop.", "socket.", "listener."];

/// Rows that were handed over in one hour.
struct Batch {
    hour: Hour,
    rows: Vec<KernelRow>,
}

/// The watch's end of the thread that writes. Dropping it writes what is left, if the disk lets.
pub(super) struct Log {
    publication: Arc<Publication>,
    rows: Vec<KernelRow>,
    /// Sums of what moves all the time.
    slow: BTreeMap<String, u64>,
    flush_due_us: u64,
    batches: Option<Sender<Batch>>,
    /// Closed when a disk that refuses is to be waited for no longer.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the thread, which first reads the bursts of the last day for `watch`.
    pub(super) fn start(
        data: &Path,
        now: Now,
        watch: Watch,
        publication: Arc<Publication>,
    ) -> io::Result<Log> {
        let (batches, received) = bounded(BATCHES_MAX);
        let (stop, stopped) = bounded(0);
        let mut writer = Writer {
            data: data.to_owned(),
            appender: Appender::new(data, KERNEL_SHARD),
            publication: Arc::clone(&publication),
            settled: None,
            stopped,
        };
        let thread = std::thread::Builder::new().name("watch-log".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            if restore(&writer.data, now.wall, &watch) {
                let rows = vec![record::cut(now.wall)];
                writer.keep(&Batch { hour: now.wall.hour(), rows });
            }
            writer.run(&received);
        })?;
        Ok(Log {
            publication,
            rows: Vec::new(),
            slow: BTreeMap::new(),
            flush_due_us: now.monotonic_us + CALM_US,
            batches: Some(batches),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Counters moved up to this time.
    pub(super) fn moved(&mut self, time_us: i64, moved: &[Moved], in_burst: bool) {
        let at_once = |moved: &Moved| {
            in_burst
                || LOSS_COUNTERS.contains(&moved.counter.as_str())
                || TOLD_AT_ONCE.iter().any(|prefix| moved.counter.starts_with(prefix))
        };
        for moved in moved {
            if at_once(moved) {
                record::moved(&mut self.rows, time_us, std::slice::from_ref(moved));
            } else {
                *self.slow.entry(moved.counter.clone()).or_default() += moved.by;
            }
        }
    }

    /// A burst began: what moved before is not of it.
    pub(super) fn begin(&mut self, head: &Head) {
        self.settle_sums(head.start_us);
        self.rows.push(record::begin(head));
    }

    /// Bins of the burst that runs.
    pub(super) fn bins(&mut self, start_us: i64, bins: &[(u64, Bin)]) {
        record::bins(&mut self.rows, start_us, bins);
    }

    /// A burst is over.
    pub(super) fn end(&mut self, head: &Head) {
        record::end(&mut self.rows, head);
    }

    /// Hands over what there is, if it is worth a block. Called once a second.
    pub(super) fn flush(&mut self, now: Now) {
        if self.flush_due_us <= now.monotonic_us {
            self.settle_sums(now.wall.0);
            self.flush_due_us = now.monotonic_us + CALM_US;
        }
        if !self.rows.is_empty() {
            self.hand_over(now.wall.hour());
        }
    }

    /// Hands over everything: the collector stops.
    pub(super) fn finish(mut self, now: Now) {
        self.settle_sums(now.wall.0);
        if !self.rows.is_empty() {
            self.hand_over(now.wall.hour());
        }
    }

    fn settle_sums(&mut self, time_us: i64) {
        for (counter, by) in std::mem::take(&mut self.slow) {
            record::moved(&mut self.rows, time_us, &[Moved { counter, by }]);
        }
    }

    fn hand_over(&mut self, hour: Hour) {
        let Some(batches) = &self.batches else { return };
        let batch = Batch { hour, rows: std::mem::take(&mut self.rows) };
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            batches.try_send(batch)
        {
            self.rows = batch.rows;
            let over = self.rows.len().saturating_sub(ROWS_MAX);
            self.rows.drain(..over);
            self.publication.keep(Kept::KernelRowsDropped, over as u64);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.publication.keep(Kept::KernelRowsDropped, self.rows.len() as u64);
        self.batches = None;
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

struct Writer {
    data: PathBuf,
    appender: Appender,
    publication: Arc<Publication>,
    /// The hour whose file ends with a whole block.
    settled: Option<Hour>,
    /// Closed when a disk that refuses is to be waited for no longer.
    stopped: Receiver<()>,
}

impl Writer {
    fn run(mut self, batches: &Receiver<Batch>) {
        batches.iter().for_each(|batch| self.keep(&batch));
    }

    fn keep(&mut self, batch: &Batch) {
        let kept = match self.persist(batch) {
            true => Kept::KernelRows,
            false => Kept::KernelRowsDropped,
        };
        self.publication.keep(kept, batch.rows.len() as u64);
    }

    /// Writes a batch, however long the disk refuses; `false` when the collector ends meanwhile.
    fn persist(&mut self, batch: &Batch) -> bool {
        let block = kernel_block(&batch.rows);
        let mut is_told = false;
        while let Err(error) = self.write(batch.hour, &block) {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%error, "what the kernel counts waits for the disk");
            }
            if self.stopped.recv_timeout(AGAIN) != Err(RecvTimeoutError::Timeout) {
                return false;
            }
        }
        true
    }

    fn write(&mut self, hour: Hour, block: &[u8]) -> io::Result<()> {
        if self.settled != Some(hour) {
            let cut = settle_kernel(&self.data, hour).map_err(io::Error::other)?;
            if let Some(cut) = cut {
                tracing::info!(%cut, "a block of kernel rows was not whole: it was cut, and is kept");
            }
            self.settled = Some(hour);
        }
        self.appender.append(hour, block)
    }
}

/// Shows the bursts of the last day. Whether the last of them has no end: its collector is gone.
fn restore(data: &Path, now: Micros, watch: &Watch) -> bool {
    let mut reader = Reader::default();
    match read_kernel(data, now.offset(-SHOWN_US), Micros::MAX, &mut |row| reader.take(&row)) {
        Ok(_) => {
            let is_open = reader.is_open();
            // One that ran a day ago already is whole in the log alone.
            let complete = reader.headless().is_none().then(|| now.offset(-SHOWN_US));
            watch.restore(reader.finish(), complete);
            is_open
        }
        Err(error) => {
            tracing::warn!(%error, "bursts of the last day are not shown");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::Clock;

    fn moved(counter: &str, by: u64) -> Vec<Moved> {
        vec![Moved { counter: counter.to_owned(), by }]
    }

    fn rows(data: &Path, now: Now) -> Vec<(String, u64)> {
        let mut rows = Vec::new();
        let (since, until) = (now.wall.offset(-SHOWN_US), now.wall.offset(SHOWN_US));
        read_kernel(data, since, until, &mut |row| {
            rows.push((row.counter.to_string(), row.value));
        })
        .unwrap();
        rows
    }

    #[test]
    fn what_moves_all_the_time_is_summed_and_what_is_a_loss_is_told_at_once() {
        let data = tempfile::tempdir().unwrap();
        let publication = Arc::new(Publication::new(1));
        let now = Clock::start().now();
        let start = |watch| Log::start(data.path(), now, watch, Arc::clone(&publication)).unwrap();
        let mut log = start(Watch::new());
        for _ in 0..3 {
            log.moved(now.wall.0, &moved("stall.cpu.some_us", 5), false);
            log.flush(now);
        }
        assert!(log.rows.is_empty(), "nothing is worth a block yet");
        log.moved(now.wall.0, &moved("TcpExt.PruneCalled", 2), false);
        log.flush(now);
        log.finish(now);
        let told = |name: &str, by: u64| (name.to_owned(), by);
        let expected = [told("TcpExt.PruneCalled", 2), told("stall.cpu.some_us", 15)];
        assert_eq!(rows(data.path(), now), expected);
        let text = publication.text();
        assert!(text.contains("stormdrain_kernel_rows_total 2\n"), "{text}");

        // A burst that an earlier process saw is shown after a start.
        let mut log = start(Watch::new());
        let head = Head { id: now.wall.0, start_us: now.wall.0, ..Head::default() };
        log.begin(&head);
        log.bins(head.start_us, &[(2, Bin { received_bytes: 9, mappings: 1, surge_bytes: 0 })]);
        log.end(&Head { end_us: head.start_us + 30_000, ..head.clone() });
        log.finish(now);
        let watch = Watch::new();
        drop(start(watch.clone()));
        let bursts = watch.bursts();
        assert_eq!((bursts.len(), bursts[0].id, bursts[0].mappings), (1, head.id, 1));
    }

    #[test]
    fn a_burst_without_an_end_is_ended_by_the_next_collector() {
        let data = tempfile::tempdir().unwrap();
        let publication = Arc::new(Publication::new(1));
        let now = Clock::start().now();
        let start =
            || Log::start(data.path(), now, Watch::new(), Arc::clone(&publication)).unwrap();
        let mut log = start();
        log.begin(&Head { id: now.wall.0, start_us: now.wall.0, ..Head::default() });
        log.finish(now);
        // Two starts, and it is said once.
        let mut log = start();
        log.moved(now.wall.0, &moved("TcpExt.PruneCalled", 2), false);
        log.finish(now);
        start().finish(now);
        let names: Vec<String> = rows(data.path(), now).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["burst.begin", "burst.cut", "TcpExt.PruneCalled"]);
    }

    #[test]
    fn a_disk_that_refuses_holds_up_nobody_and_what_is_lost_is_counted() {
        let data = tempfile::tempdir().unwrap();
        let publication = Arc::new(Publication::new(1));
        let now = Clock::start().now();
        let path = storage::log::log_path(data.path(), now.wall.hour(), KERNEL_SHARD);
        // A folder in the place of the file.
        std::fs::create_dir_all(path.join("x")).unwrap();
        let mut log = Log::start(data.path(), now, Watch::new(), Arc::clone(&publication)).unwrap();
        for _ in 0..BATCHES_MAX + 10 {
            log.moved(now.wall.0, &moved("TcpExt.PruneCalled", 2), false);
            log.flush(now);
        }
        assert!(log.rows.len() >= 9, "{} rows wait", log.rows.len());
        log.finish(now);
        let text = publication.text();
        assert!(text.contains("stormdrain_kernel_rows_total 0\n"), "{text}");
        let dropped = text.lines().find_map(|line| {
            line.strip_prefix("stormdrain_kernel_rows_dropped_total ")?.parse::<usize>().ok()
        });
        assert_eq!(dropped, Some(BATCHES_MAX + 10), "{text}");
    }
}
