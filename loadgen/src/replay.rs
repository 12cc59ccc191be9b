//! Sends recorded sessions again: the bytes as they were, at their recorded pace or at once.
//!
//! In:   `rN.fpm` or any other recorded bytes, with `rN.idx` beside it for the times.
//! Out:  one connection per file and recorded connection, each file from its own source address.
//! Law:  the bytes on the wire are those of the file, in order, none left out.
//! Not:  what the bytes say: framed, bare and FPM recordings are sent alike.

mod recording;
mod report;
mod session;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use storage::time::Micros;
use tokio::sync::Notify;
use tokio::sync::watch::{Receiver, Sender, channel as watch_channel};
use tokio::time::Instant;

use crate::clock::instant;
use crate::sender::connect::address_after;
pub use recording::{Action, Phase, Recording, Step, read_phases};
use report::Tally;
pub use report::{FileReplayed, Replayed};
use session::session;

/// Why a recording cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of an index or of a list of phases says nothing that can be used.
    #[error("{}, line {line}: expected {expected}, found `{found}`", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What should have been there.
        expected: &'static str,
        /// What was.
        found: String,
    },
    /// There are not enough source addresses behind the first.
    #[error("source addresses from {base} on do not suffice for {files} files")]
    Sources {
        /// The first.
        base: IpAddr,
        /// How many files there are.
        files: usize,
    },
    /// A session could not be opened, or broke before its last byte.
    #[error("{}, to {target}: {source}", path.display())]
    Session {
        /// Whose.
        path: PathBuf,
        /// The collector.
        target: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No ring could be set up.
    #[error("io_uring: {0}; stormgen needs it: sysctl -w kernel.io_uring_disabled=0")]
    Ring(io::Error),
}

/// How recordings are sent.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// The collector.
    pub target: SocketAddr,
    /// Source address of the first file, the others follow; `None` = the host chooses.
    pub source_base: Option<IpAddr>,
    /// At once instead of at the recorded pace.
    pub fast: bool,
    /// Wait before each of these but the first, until told to go on.
    pub phases: Vec<Phase>,
    /// How long a session stays open behind its last byte.
    pub hold: Duration,
}

/// Told how many bytes of how many are sent, again and again.
pub type Watch = Box<dyn FnMut(u64, u64)>;

/// Sends the recordings. Before each phase but the first, when every session has come to it, calls
/// `go_on` with its name and waits for it to return.
pub fn replay(
    recordings: Vec<Recording>,
    settings: ReplaySettings,
    go_on: impl Fn(&str) + Send + Sync + Clone + 'static,
    watch: Watch,
) -> Result<Replayed, ReplayError> {
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(ReplayError::Ring)?;
    runtime.block_on(perform(recordings, settings, go_on, watch))
}

/// The phase that may be sent now, and how its recorded times translate.
#[derive(Clone, Copy)]
struct Pace {
    phase: usize,
    zero: Micros,
    began: Instant,
}

impl Pace {
    fn due(&self, time: Micros) -> Instant {
        let micros = u64::try_from(time.since(self.zero)).unwrap_or(0);
        self.began + Duration::from_micros(micros)
    }
}

/// What the sessions of a replay share.
struct Stage {
    settings: ReplaySettings,
    /// Bytes of all files.
    bytes: u64,
    tally: RefCell<(Tally, Watch)>,
    /// For each phase how many sessions have come to it.
    arrived: RefCell<Vec<usize>>,
    /// Rung when one has.
    bell: Notify,
    gate: Receiver<Pace>,
}

impl Stage {
    /// A write is taken.
    fn sent(&self, bytes: u64, due: Option<Instant>, began: std::time::Instant) {
        let (tally, watch) = &mut *self.tally.borrow_mut();
        let sent = tally.sent(bytes, due.map(Instant::into_std), began);
        watch(sent, self.bytes);
    }

    /// The phase that a recorded time belongs to.
    fn phase_of(&self, time: Micros) -> usize {
        let begun = self.settings.phases.iter().filter(|phase| phase.start <= time);
        begun.count().saturating_sub(1)
    }

    /// A session has done everything of the phases in `left`.
    fn leave(&self, left: std::ops::Range<usize>) {
        let mut arrived = self.arrived.borrow_mut();
        let last = arrived.len();
        let come_to = (left.start + 1).min(last)..(left.end + 1).min(last);
        arrived[come_to].iter_mut().for_each(|count| *count += 1);
        self.bell.notify_one();
    }
}

async fn perform(
    recordings: Vec<Recording>,
    settings: ReplaySettings,
    go_on: impl Fn(&str) + Send + Sync + Clone + 'static,
    watch: Watch,
) -> Result<Replayed, ReplayError> {
    let bytes = recordings.iter().map(|recording| recording.bytes.len() as u64).sum();
    let tally = RefCell::new((Tally::new(instant()), watch));
    let (files, target) = (recordings.len(), settings.target);
    let starts = recordings.iter().filter_map(|recording| recording.steps.first());
    let zero = starts.map(|step| step.time).min().unwrap_or_default();
    let (opened, gate) = watch_channel(Pace { phase: 0, zero, began: Instant::now() });
    let arrived = RefCell::new(vec![0; settings.phases.len()]);
    let stage = Rc::new(Stage { settings, bytes, tally, arrived, bell: Notify::new(), gate });
    let mut tasks = Vec::with_capacity(files);
    for (place, recording) in recordings.into_iter().enumerate() {
        let source = match stage.settings.source_base {
            Some(base) => {
                Some(address_after(base, place).ok_or(ReplayError::Sources { base, files })?)
            }
            None => None,
        };
        tasks.push(tokio_uring::spawn(session(Rc::clone(&stage), recording, source)));
    }
    open_phases(&stage, files, &opened, go_on).await;
    let mut parts = Vec::with_capacity(files);
    for task in tasks {
        let broken = |error| ReplayError::Session {
            path: PathBuf::from("session"),
            target,
            source: io::Error::other(error),
        };
        parts.push(task.await.map_err(broken)??);
    }
    let tally = std::mem::replace(&mut stage.tally.borrow_mut().0, Tally::new(instant()));
    Ok(tally.end(instant(), parts))
}

/// Opens one phase after another, each when every session has come to it.
async fn open_phases(
    stage: &Stage,
    files: usize,
    opened: &Sender<Pace>,
    go_on: impl Fn(&str) + Send + Sync + Clone + 'static,
) {
    for (phase, Phase { name, start }) in stage.settings.phases.iter().enumerate().skip(1) {
        while stage.arrived.borrow()[phase] < files {
            stage.bell.notified().await;
        }
        let (go_on, name) = (go_on.clone(), name.clone());
        // Whoever is asked may take as long as they like: not on the thread of the sessions.
        let _ = tokio::task::spawn_blocking(move || go_on(&name)).await;
        opened.send_replace(Pace { phase, zero: *start, began: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    fn micros(seconds: i64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    #[test]
    fn recorded_bytes_arrive_whole_and_phases_wait_to_be_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let recording = |name: &str, byte: u8| Recording {
            path: name.into(),
            bytes: vec![byte; 30_000],
            steps: vec![
                Step { time: micros(100), action: Action::Open },
                Step { time: micros(100), action: Action::Send(0..10_000) },
                Step { time: micros(5_000), action: Action::Send(10_000..30_000) },
                Step { time: micros(5_000), action: Action::Close },
            ],
        };
        let phase = |name: &str, start| Phase { name: name.to_owned(), start: micros(start) };
        let settings = ReplaySettings {
            target,
            source_base: "127.0.1.1".parse().ok(),
            fast: false,
            phases: vec![phase("dump", 99), phase("down", 5_000)],
            hold: Duration::ZERO,
        };
        let (asked, names) = mpsc::channel();
        let sender = std::thread::spawn(move || {
            let recordings = vec![recording("r1", 1), recording("r2", 2)];
            let (told, looks) = mpsc::channel();
            let watch = Box::new(move |sent, all| told.send((sent, all)).unwrap());
            let go_on = move |name: &str| asked.send(name.to_owned()).unwrap();
            (replay(recordings, settings, go_on, watch), looks.try_iter().last())
        });
        let mut received = BTreeMap::new();
        for _ in 0..2 {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            received.insert(peer.ip().to_string(), bytes);
        }
        let (replayed, look) = sender.join().unwrap();
        let replayed = replayed.unwrap();
        assert_eq!((replayed.connections, replayed.bytes), (2, 60_000));
        let file = |file: &str| FileReplayed { file: file.into(), connections: 1, bytes: 30_000 };
        assert_eq!(replayed.files, [file("r1"), file("r2")]);
        assert_eq!(look, Some((60_000, 60_000)));
        assert!(replayed.late_ms_p99.is_some());
        assert_eq!(names.iter().collect::<Vec<_>>(), ["down"]);
        assert_eq!(received["127.0.1.1"], vec![1; 30_000]);
        assert_eq!(received["127.0.1.2"], vec![2; 30_000]);
    }
}
