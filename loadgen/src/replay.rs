//! Sends recorded sessions again: the bytes as they were, at their recorded pace or at once.
//!
//! In:   `rN.fpm` or any other recorded bytes, with `rN.idx` beside it for the times.
//! Out:  one connection per file and recorded connection, each file from its own source address.
//! Law:  the bytes on the wire are those of the file, in order, none left out.
//! Not:  what the bytes say: framed, bare and FPM recordings are sent alike.

mod report;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use storage::time::Micros;
use tokio::sync::Notify;
use tokio::sync::watch::{Receiver, Sender, channel as watch_channel};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_uring::net::TcpStream;

use crate::clock::instant;
use crate::sender::connect::{address_after, connect};
use report::Tally;
pub use report::{FileReplayed, Replayed};

/// How long to wait for the collector to close after the last byte.
const FAREWELL: Duration = Duration::from_secs(10);

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

/// One recorded session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its file.
    pub path: PathBuf,
    /// Every byte that was sent.
    pub bytes: Vec<u8>,
    /// What happened when, in order.
    pub steps: Vec<Step>,
}

/// One thing that a recorded session did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, on the recorder's clock.
    pub time: Micros,
    /// What.
    pub action: Action,
}

/// What a recorded session did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opened its connection.
    Open,
    /// Sent these bytes of the file.
    Send(std::ops::Range<usize>),
    /// Closed its connection.
    Close,
}

/// A named part of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// When it began, on the recorder's clock.
    pub start: Micros,
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

#[derive(Deserialize)]
struct IndexLine {
    t: f64,
    ev: Option<String>,
    off: Option<usize>,
    n: Option<usize>,
}

impl Recording {
    /// Reads a recording, and its index if there is one beside it: the same name, ending `.idx`.
    pub fn read(path: &Path) -> Result<Recording, ReplayError> {
        let error = |path: &Path, source| ReplayError::Read { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(|source| error(path, source))?;
        let index = path.with_extension("idx");
        let steps = match std::fs::read_to_string(&index) {
            Ok(text) => steps(&index, &text, bytes.len())?,
            Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(error(&index, source)),
        };
        Ok(Recording { path: path.to_owned(), steps: complete(steps, bytes.len()), bytes })
    }
}

/// What the lines of an index say. Offsets run on from line to line and end within the file.
fn steps(path: &Path, text: &str, length: usize) -> Result<Vec<Step>, ReplayError> {
    let mut steps = Vec::new();
    let mut offset = 0;
    for (number, line) in text.lines().enumerate() {
        let wrong = |expected| {
            let (path, found) = (path.to_owned(), line.to_owned());
            ReplayError::Line { path, line: number + 1, expected, found }
        };
        let entry: IndexLine =
            serde_json::from_str(line).map_err(|_| wrong("a JSON object with t, off and n"))?;
        let time = seconds(entry.t).ok_or_else(|| wrong("t in seconds"))?;
        let action = match (entry.ev.as_deref(), entry.off, entry.n) {
            (Some("open"), _, _) => Action::Open,
            (Some("close"), _, _) => Action::Close,
            (None, Some(at), Some(count)) if at == offset && count <= length - offset => {
                offset += count;
                Action::Send(at..offset)
            }
            _ => return Err(wrong("open, close, or bytes that follow the line before")),
        };
        steps.push(Step { time, action });
    }
    Ok(steps)
}

/// Whatever the index leaves out, at the times of its neighbours: an open, the rest, a close.
fn complete(mut steps: Vec<Step>, length: usize) -> Vec<Step> {
    let first = steps.first().map_or(Micros(0), |step| step.time);
    let last = steps.last().map_or(first, |step| step.time);
    if steps.first().is_none_or(|step| step.action != Action::Open) {
        steps.insert(0, Step { time: first, action: Action::Open });
    }
    let closed = steps.pop_if(|step| step.action == Action::Close);
    let sent = |step: &Step| match &step.action {
        Action::Send(range) => Some(range.end),
        Action::Open | Action::Close => None,
    };
    let end = steps.iter().rev().find_map(sent).unwrap_or(0);
    if end < length {
        steps.push(Step { time: last, action: Action::Send(end..length) });
    }
    steps.push(closed.unwrap_or(Step { time: last, action: Action::Close }));
    steps
}

/// Reads a list of phases: one `name seconds` per line, in the order of their times.
pub fn read_phases(path: &Path) -> Result<Vec<Phase>, ReplayError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ReplayError::Read { path: path.to_owned(), source })?;
    let mut phases: Vec<Phase> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(char::is_whitespace).and_then(|(name, time)| {
            let start = seconds(time.trim().parse().ok()?)?;
            let in_order = phases.last().is_none_or(|before| before.start <= start);
            in_order.then(|| Phase { name: name.to_owned(), start })
        });
        phases.push(parsed.ok_or_else(|| ReplayError::Line {
            path: path.to_owned(),
            line: number + 1,
            expected: "a name and its time in seconds, not before the line above",
            found: line.to_owned(),
        })?);
    }
    Ok(phases)
}

fn seconds(value: f64) -> Option<Micros> {
    let micros = value * 1e6;
    (micros.is_finite() && micros.abs() < Micros::MAX.0 as f64).then_some(Micros(micros as i64))
}

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

async fn session(
    stage: Rc<Stage>,
    recording: Recording,
    source: Option<IpAddr>,
) -> Result<FileReplayed, ReplayError> {
    let mut at = 0;
    let result = send(&stage, &recording, source, &mut at).await;
    // Later phases do not wait for a session that is over.
    stage.leave(at..stage.settings.phases.len());
    let target = stage.settings.target;
    result.map_err(|source| ReplayError::Session { path: recording.path, target, source })
}

/// Sends one recording; `at` is the phase that it has come to.
async fn send(
    stage: &Stage,
    recording: &Recording,
    source: Option<IpAddr>,
    at: &mut usize,
) -> io::Result<FileReplayed> {
    let file = recording.path.display().to_string();
    let mut replayed = FileReplayed { file, connections: 0, bytes: 0 };
    let mut open: Option<Connection> = None;
    let mut gate = stage.gate.clone();
    for (place, step) in recording.steps.iter().enumerate() {
        let phase = stage.phase_of(step.time);
        if phase > *at {
            stage.leave(*at..phase);
            *at = phase;
        }
        // The sender of the gate lives as long as the sessions: waiting cannot fail.
        let pace = *gate.wait_for(|pace| pace.phase >= phase).await.map_err(io::Error::other)?;
        let due = (!stage.settings.fast).then(|| pace.due(step.time));
        if let Some(due) = due {
            sleep_until(due).await;
        }
        match &step.action {
            Action::Open => {
                if let Some(connection) = open.replace(Connection::open(stage, source).await?) {
                    connection.close().await;
                }
                replayed.connections += 1;
            }
            Action::Send(range) => {
                let connection = open.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                let began = instant();
                let (result, bytes) =
                    connection.stream.write_all(recording.bytes[range.clone()].to_vec()).await;
                result?;
                replayed.bytes += bytes.len() as u64;
                stage.sent(bytes.len() as u64, due, began);
            }
            Action::Close => {
                if place + 1 == recording.steps.len() {
                    sleep(stage.settings.hold).await;
                }
                if let Some(connection) = open.take() {
                    connection.close().await;
                }
            }
        }
    }
    Ok(replayed)
}

/// A connection, and the task that takes whatever the collector says.
struct Connection {
    stream: Rc<TcpStream>,
    reader: tokio::task::JoinHandle<()>,
}

impl Connection {
    async fn open(stage: &Stage, source: Option<IpAddr>) -> io::Result<Connection> {
        let target = stage.settings.target;
        let connecting = tokio::task::spawn_blocking(move || connect(target, source));
        let stream = connecting.await.map_err(io::Error::other)??;
        let stream = Rc::new(TcpStream::from_std(stream));
        let reader = tokio_uring::spawn(drain(Rc::clone(&stream)));
        Ok(Connection { stream, reader })
    }

    /// Sends FIN and waits until the collector has closed too, so that no byte is lost to a reset.
    async fn close(self) {
        // A collector that has closed already needs no FIN.
        let _ = self.stream.shutdown(Shutdown::Write);
        if timeout(FAREWELL, self.reader).await.is_err() {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

async fn drain(stream: Rc<TcpStream>) {
    let mut buffer = vec![0; 4_096];
    loop {
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        if !matches!(result, Ok(count) if count > 0) {
            return;
        }
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
    fn an_index_that_is_missing_or_short_leaves_no_byte_out() {
        let step = |time, action| Step { time: micros(time), action };
        let bare = complete(Vec::new(), 5);
        let all = vec![step(0, Action::Open), step(0, Action::Send(0..5)), step(0, Action::Close)];
        assert_eq!(bare, all);
        let text =
            "{\"t\": 7.0, \"ev\": \"open\", \"off\": 0}\n{\"t\": 8.0, \"off\": 0, \"n\": 3}\n";
        let steps = steps(Path::new("x.idx"), text, 5).unwrap();
        let expected = vec![
            step(7, Action::Open),
            step(8, Action::Send(0..3)),
            step(8, Action::Send(3..5)),
            step(8, Action::Close),
        ];
        assert_eq!(complete(steps, 5), expected);
    }

    #[test]
    fn an_index_that_contradicts_its_file_is_refused_by_line() {
        for text in ["{\"t\": 1, \"off\": 0, \"n\": 6}", "{\"t\": 1, \"off\": 1, \"n\": 1}", "x"] {
            let error = steps(Path::new("x.idx"), text, 5).unwrap_err();
            assert!(matches!(error, ReplayError::Line { line: 1, .. }), "{error}");
        }
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
