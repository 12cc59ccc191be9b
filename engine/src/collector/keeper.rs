//! The keeper: the background thread that turns finished hours of the log into states.
//!
//! In:   the data folder, the clock, and the word to stop.
//! Out:  a state file per hour; counts for whoever watches.
//! Law:  it gives way: lowest priority, a quarter of one core at most, one batch in memory.
//! Not:  what a round does (`storage::log::state`); shards know nothing of it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use storage::log::state::{Retain, RoundLimits, RoundReport, finished, round};
use storage::log::{DataLock, layout};
use storage::time::Hour;

use crate::io::clock::Clock;
use crate::io::links::AbortOnPanic;
use crate::metrics::{Kept, Publication};
use crate::query::RowsMissing;
use crate::settings::Settings;

/// How often it looks whether an hour has ended. An hour's last commit is over by then.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Rest after work, as a multiple of it.
const REST: u32 = 3;
/// The longest rest at a time.
const REST_MAX: Duration = Duration::from_secs(1);
/// The lowest priority that a thread can have.
const NICE: i32 = 19;

/// The collector's end of the thread.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread. It holds the lock of the data folder until it has ended.
    pub(super) fn start(
        settings: &Settings,
        clock: Clock,
        lock: Arc<DataLock>,
        publication: Arc<Publication>,
    ) -> io::Result<Keeper> {
        let (stop, stopped) = bounded(0);
        let (data, retain) = (settings.data.clone(), retain_of(settings));
        let ahead = BTreeSet::new();
        let work = Work { data, retain, clock, publication, stopped, covered: None, ahead };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            work.run();
            drop(lock);
        })?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

/// What the settings keep; the open hour is the clock's word.
fn retain_of(settings: &Settings) -> Retain {
    let (hours, bytes) = (settings.retain_hours, settings.retain_bytes);
    Retain { hours, bytes, ..Retain::default() }
}

struct Work {
    data: PathBuf,
    retain: Retain,
    clock: Clock,
    publication: Arc<Publication>,
    /// Closed when the thread is to end.
    stopped: Receiver<()>,
    /// All hours before this one are covered.
    covered: Option<Hour>,
    /// Hours that had not begun and had rows: the clock was ahead.
    ahead: BTreeSet<Hour>,
}

/// Hours that have not begun and have rows already. That of a file made ahead has none; what cannot
/// be read is met when the log is.
fn hours_ahead(data: &Path, now: Hour) -> BTreeSet<Hour> {
    let folders = std::fs::read_dir(data.join(layout::LOG_FOLDER));
    let ahead = folders.into_iter().flatten().flatten().filter_map(|folder| {
        let hour: Hour = folder.file_name().to_str()?.parse().ok()?;
        let mut files = std::fs::read_dir(folder.path()).ok()?.flatten();
        let has_rows = |file: std::fs::DirEntry| file.metadata().is_ok_and(|about| about.len() > 0);
        (hour > now && files.any(has_rows)).then_some(hour)
    });
    ahead.collect()
}

impl Work {
    fn run(mut self) {
        if let Err(error) =
            rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE)
        {
            tracing::warn!(%error, "states are written at the priority of everything else");
        }
        let mut rest = Duration::ZERO;
        while self.is_wanted_after(rest) {
            rest = LOOK_INTERVAL;
            let hour = self.clock.now().wall.hour();
            let ahead = hours_ahead(&self.data, hour);
            if self.covered != Some(hour) || ahead != self.ahead {
                self.cover(hour);
                self.ahead = ahead;
            }
        }
    }

    fn is_wanted_after(&self, rest: Duration) -> bool {
        matches!(
            self.stopped.recv_timeout(rest),
            Err(crossbeam::channel::RecvTimeoutError::Timeout)
        )
    }

    fn cover(&mut self, hour: Hour) {
        let mut worked = Instant::now();
        let mut go_on = || {
            let rest = (worked.elapsed() * REST).min(REST_MAX);
            let goes_on = self.is_wanted_after(rest);
            worked = Instant::now();
            goes_on
        };
        let retain = Retain { before: hour, ..self.retain };
        let limits = RoundLimits { retain, ..RoundLimits::default() };
        match round(&self.data, &finished(hour), &limits, &mut go_on) {
            Ok(report) => {
                if let Some(report) = report {
                    self.publish(&report);
                }
                self.covered = Some(hour);
            }
            Err(error) => {
                self.publication.keep(Kept::Failures, 1);
                tracing::warn!(%error, "no states were written: a restart reads more of the log");
            }
        }
    }

    fn publish(&self, report: &RoundReport) {
        for damage in &report.damages {
            tracing::error!(%damage, "damage was met while states were made");
        }
        self.publication.lacks(&RowsMissing::of(&report.damages));
        let RoundReport { round, rows, states, entries, bytes, .. } = report;
        tracing::info!(round, rows, states, entries, bytes, "states written");
        self.publication.keep(Kept::Rounds, 1);
        self.publication.keep(Kept::States, *states);
        self.publication.keep(Kept::Bytes, *bytes);
        self.publication.set_horizon(report.horizon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stop does not wait for the next look at the clock.
    #[test]
    fn the_keeper_ends_when_it_is_told() {
        let data = tempfile::tempdir().unwrap();
        let lock = Arc::new(storage::log::lock(data.path()).unwrap());
        let publication = Arc::new(Publication::new(1));
        let settings = Settings { data: data.path().to_owned(), ..Settings::default() };
        let clock = Clock::start();
        let keeper = Keeper::start(&settings, clock, Arc::clone(&lock), publication).unwrap();
        drop(keeper);
        assert_eq!(Arc::strong_count(&lock), 1, "the thread has let go of the lock");
    }

    #[test]
    fn hours_that_have_rows_and_have_not_begun_are_seen() {
        let data = tempfile::tempdir().unwrap();
        let now = Hour(494_000);
        assert!(hours_ahead(data.path(), now).is_empty(), "no log yet");
        for hour in [now, Hour(now.0 - 1), Hour(now.0 + 9)] {
            crate::io::disk::append_now(data.path(), 0, hour, b"rows").unwrap();
        }
        // That of the next hour is made ahead of it, empty.
        crate::io::disk::append_now(data.path(), 0, now.next(), b"").unwrap();
        assert_eq!(hours_ahead(data.path(), now), BTreeSet::from([Hour(now.0 + 9)]));
        assert!(hours_ahead(data.path(), Hour(now.0 + 9)).is_empty());
    }

    #[test]
    fn a_round_is_counted() {
        let data = tempfile::tempdir().unwrap();
        let publication = Arc::new(Publication::new(1));
        let (_stop, stopped) = bounded(0);
        let mut work = Work {
            data: data.path().to_owned(),
            retain: Retain::default(),
            clock: Clock::start(),
            publication: Arc::clone(&publication),
            stopped,
            covered: None,
            ahead: BTreeSet::new(),
        };
        let hour = Hour(494_000);
        let mut block = Vec::new();
        let mut builder = storage::log::BlockBuilder::new(0);
        let router = storage::mapping::RouterId([192, 0, 2, 1].into());
        let mut state = storage::router::RouterState::new(router);
        let event = storage::row::SessionEvent::SnapshotBegin;
        builder.session(&state.session_row(hour.start(), event));
        builder.finish(&mut block);
        crate::io::disk::append_now(data.path(), 0, hour, &block).unwrap();
        work.cover(hour);
        crate::io::disk::append_now(data.path(), 0, hour.next(), &block).unwrap();
        assert!(publication.text().contains("stormdrain_state_rounds_total 0\n"), "not finished");
        work.cover(hour.next());
        let text = publication.text();
        assert!(text.contains("stormdrain_state_rounds_total 1\n"), "{text}");
        assert!(data.path().join("state").join("2026-05-10T08-1.state").exists());
    }
}
