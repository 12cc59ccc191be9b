//! The collector of one play, and the routers that speak to it.
//!
//! In:   steps of a case, and the input mode in which its documents are sent.
//! Out:  a data folder and a running collector in which each step has taken effect.
//! Law:  a step is over when all that it sent is read and durable, or the collector has ended it;
//!       the clock stands, and a second passes with every step.
//! Not:  what is answered afterwards (`answer`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use engine::collector::Collector;
use engine::io::clock::Clock;
use engine::metrics::Metric;
use engine::roster::FRESH_US;
use engine::settings::{IoChoice, Settings};
use engine::wire::frame::{
    Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, decode_ack, encode_empty,
};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use storage::time::Micros;

use super::case::{Case, Step, Verb};
use super::document::{Root, cut, document};
use super::fpm;
use super::time::{instant, replaced, seconds};
use crate::process::PATIENCE;
use crate::sender::connect_from;

/// How documents are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Plain,
    Gzip,
    Zlib,
    Framed,
    /// The case sends no document.
    Fpm,
}

impl Mode {
    pub(super) const ALL: [Mode; 5] =
        [Mode::Plain, Mode::Gzip, Mode::Zlib, Mode::Framed, Mode::Fpm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Plain => "plain",
            Mode::Gzip => "gzip",
            Mode::Zlib => "zlib",
            Mode::Framed => "framed",
            Mode::Fpm => "fpm",
        }
    }
}

/// Where a router that no setting names dials from.
const UNNAMED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));
/// Time that passes with every step: what the HTTP side may give again is older then.
const STEP_US: i64 = FRESH_US;

/// A connection that stays open from step to step.
struct Session {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Sequence of the next frame; FPM has none.
    sequence: Option<u64>,
}

/// One play.
pub(super) struct Network {
    folder: tempfile::TempDir,
    settings: Settings,
    collector: Option<Collector>,
    wall_us: &'static AtomicI64,
    /// `T` of the case.
    pub(super) start: Micros,
    mode: Mode,
    sessions: BTreeMap<String, Session>,
    /// Connections of this collector: opened, and over.
    opened: u64,
    over: u64,
}

impl Network {
    /// Starts a collector on one shard.
    pub(super) fn start(case: &Case, mode: Mode) -> Result<Network, String> {
        let file = Some(("settings", case.settings.as_str()));
        let settings =
            Settings::layered(file, &|_| None, &[]).map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().unwrap();
        // The real time, to the second: what is printed can be read.
        let now = Clock::start().now().wall.0 / 1_000_000 * 1_000_000;
        // A test is short, and a clock is for as long as a thread may look at it.
        let wall_us: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(now)));
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = Settings {
            data: folder.path().join("data"),
            listen: loopback,
            http: Some(loopback),
            io: IoChoice::Epoll,
            memory_bytes: 256 << 20,
            commit_interval_ms: 1,
            snapshot_quiet_ms: 100,
            sessions_per_minute_max: 1_000_000,
            shards: 1,
            ..settings
        };
        let mut network = Network {
            folder,
            settings,
            collector: None,
            wall_us,
            start: Micros(now),
            mode,
            sessions: BTreeMap::new(),
            opened: 0,
            over: 0,
        };
        network.run(1)?;
        Ok(network)
    }

    fn run(&mut self, shards: usize) -> Result<(), String> {
        self.settings.shards = shards;
        let clock = Clock::standing(self.wall_us);
        let started = Collector::start_at(self.settings.clone(), clock);
        self.collector = Some(started.map_err(|error| error.to_string())?);
        (self.opened, self.over) = (0, 0);
        Ok(())
    }

    fn collector(&self) -> &Collector {
        self.collector.as_ref().expect("a collector runs from step to step")
    }

    /// The data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where the HTTP side answers.
    pub(super) fn http(&self) -> SocketAddr {
        self.collector().http_address().expect("the settings ask for it")
    }

    /// What the clock says.
    pub(super) fn now(&self) -> Micros {
        Micros(self.wall_us.load(Ordering::Acquire))
    }

    fn pass(&self, us: i64) {
        self.wall_us.fetch_add(us, Ordering::AcqRel);
    }

    /// Does what the step says, and waits until it has taken effect.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), String> {
        self.pass(STEP_US);
        match step.verb {
            Verb::At => self.move_clock(step)?,
            Verb::Send => self.send(step)?,
            Verb::Fpm => self.send_fpm(step)?,
            Verb::Hex => {
                let bytes = fpm::hex(&step.body.concat())?;
                self.once(step, &bytes)?;
            }
            Verb::Hello => self.hello(step)?,
            Verb::Complete => {
                let kind = FrameType::SnapshotComplete;
                self.frame(&step.who, kind, FrameFlags::NONE, "")?;
            }
            Verb::Close => self.close(&step.who)?,
            Verb::Restart => self.restart()?,
        }
        self.settle()
    }

    fn move_clock(&self, step: &Step) -> Result<(), String> {
        let time = instant(&step.who, self.start);
        let time = time.ok_or_else(|| format!("expected T+3s, found `{}`", step.who))?;
        if time < self.now() {
            return Err(format!("expected a time that is not past, found `{}`", step.who));
        }
        self.wall_us.store(time.0, Ordering::Release);
        Ok(())
    }

    /// Its id in the settings; a router that they do not name is called by its id.
    fn id_of(&self, who: &str) -> String {
        let named = self.settings.routers.iter().find(|router| *router.name == *who);
        named.map_or(who.to_owned(), |router| router.id.to_string())
    }

    fn connect(&mut self, step: &Step) -> Result<TcpStream, String> {
        let named = self.settings.routers.iter().find(|router| *router.name == *step.who);
        let source = named.and_then(|router| router.sources.first()).map(|prefix| prefix.addr());
        let from = step.word("from").map(|from| from.parse::<IpAddr>());
        let from = from.transpose().map_err(|_| "from=: expected an address".to_owned())?;
        let source = from.or(source).unwrap_or(UNNAMED);
        self.opened += 1;
        connect_from(source, self.collector().listen_address())
            .map_err(|error| format!("router {} cannot connect from {source}: {error}", step.who))
    }

    /// A connection of its own for these bytes, until the collector has ended it.
    fn once(&mut self, step: &Step, bytes: &[u8]) -> Result<(), String> {
        let mut stream = self.connect(step)?;
        // The collector may refuse before it has all of it: the questions tell.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        self.over += 1;
        Ok(())
    }

    fn send(&mut self, step: &Step) -> Result<(), String> {
        let router = match step.word("router-id") {
            Some("none") => None,
            Some(id) => Some(id.to_owned()),
            None => Some(self.id_of(&step.who)),
        };
        let in_session = self.sessions.contains_key(&step.who);
        // In a session of its own a part is a flag of the frame.
        let snapshot = step.word("snapshot").filter(|word| !in_session || *word != "part");
        let root = Root { router, snapshot };
        let text = document(&step.body, &root, self.start, self.now())?;
        if in_session {
            let is_part = step.word("snapshot") == Some("part");
            let flags = if is_part { FrameFlags::SNAPSHOT_PART } else { FrameFlags::NONE };
            return self.frame(&step.who, FrameType::Mappings, flags, &text);
        }
        let bytes = match self.mode {
            Mode::Plain => text.into_bytes(),
            Mode::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text.as_bytes()).unwrap();
                encoder.finish().unwrap()
            }
            Mode::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text.as_bytes()).unwrap();
                encoder.finish().unwrap()
            }
            Mode::Framed => {
                let id = self.id_of(&step.who);
                self.framed(root.router.as_deref().unwrap_or(&id), &text)
            }
            Mode::Fpm => return Err("an input mode for `send`: fpm cannot say it".to_owned()),
        };
        self.once(step, &bytes)
    }

    /// An on-demand session that says what the bare modes say.
    fn framed(&self, router: &str, text: &str) -> Vec<u8> {
        let now = seconds(self.now());
        let hello = format!(
            "<hello router-id=\"{router}\" boot-time=\"{now}\" clock=\"{now}\" sequence-first=\"1\" \
             session=\"on-demand\" snapshot=\"false\"/>"
        );
        let mut bytes = Vec::new();
        write_frame(FrameType::Hello, FrameFlags::NONE, 0, &hello, &mut bytes);
        for (sequence, document) in (1..).zip(cut(text)) {
            let kind = FrameType::Mappings;
            write_frame(kind, FrameFlags::NONE, sequence, document, &mut bytes);
        }
        encode_empty(FrameType::Bye, 0, &mut bytes);
        bytes
    }

    /// A framed session that stays, with acks; its attributes are the step's words.
    fn hello(&mut self, step: &Step) -> Result<(), String> {
        let router = step.word("router-id").map_or_else(|| self.id_of(&step.who), str::to_owned);
        let now = seconds(self.now());
        let mut attributes = BTreeMap::from([
            ("boot-time", now.clone()),
            ("clock", now),
            ("sequence-first", "1".to_owned()),
            ("router-id", router),
        ]);
        for (name, value) in step.words.iter().filter(|(name, _)| name != "from") {
            attributes.insert(name, replaced(value, self.start, seconds));
        }
        let attributes = attributes.iter().map(|(name, value)| format!(" {name}=\"{value}\""));
        let attributes: String = attributes.collect();
        let body = replaced(&step.body.join("\n"), self.start, seconds);
        let hello = format!(
            "<hello xmlns=\"urn:stormdrain:label-mapping:1\"{attributes} acks=\"true\">{body}</hello>"
        );
        let mut bytes = Vec::new();
        write_frame(FrameType::Hello, FrameFlags::NONE, 0, &hello, &mut bytes);
        // An empty document is the first that can be acknowledged; it says nothing.
        let first = step.word("sequence-first").unwrap_or("1");
        let first = first.parse().map_err(|_| "sequence-first=: expected a number".to_owned())?;
        let mut stream = self.connect(step)?;
        let _ = stream.write_all(&bytes);
        let session = Session { stream, unread: Vec::new(), sequence: Some(first) };
        self.sessions.insert(step.who.clone(), session);
        Ok(())
    }

    /// A frame on the session of this router, until it is acknowledged.
    fn frame(
        &mut self,
        who: &str,
        kind: FrameType,
        flags: FrameFlags,
        text: &str,
    ) -> Result<(), String> {
        let no_session = || format!("expected `hello {who}` before");
        let session = self.sessions.get_mut(who).ok_or_else(no_session)?;
        let sequence = session.sequence.ok_or_else(no_session)?;
        session.sequence = Some(sequence + 1);
        let mut bytes = Vec::new();
        write_frame(kind, flags, sequence, text, &mut bytes);
        let _ = session.stream.write_all(&bytes);
        while !session.has_ack(sequence) {
            if !session.receive() {
                self.sessions.remove(who);
                self.over += 1;
                break;
            }
        }
        Ok(())
    }

    /// FPM frames on the router's connection, which is opened if need be. The first ones are its
    /// dump, and they are over when the collector has heard nothing for a while.
    fn send_fpm(&mut self, step: &Step) -> Result<(), String> {
        let lines = step.body.iter().filter(|line| !line.trim().is_empty());
        let frames = lines.map(|line| fpm::frame(line)).collect::<Result<Vec<_>, _>>()?;
        let is_new = !self.sessions.contains_key(&step.who);
        if is_new {
            let session =
                Session { stream: self.connect(step)?, unread: Vec::new(), sequence: None };
            self.sessions.insert(step.who.clone(), session);
        }
        let rejected = self.frames_rejected();
        self.write_bytes(&step.who, &frames.concat())?;
        if is_new {
            self.await_dump(rejected)?;
        }
        Ok(())
    }

    /// Writes to an open session, and waits until so many bytes have been digested.
    fn write_bytes(&mut self, who: &str, bytes: &[u8]) -> Result<(), String> {
        let popped = self.total(Metric::SurgePoppedBytes) + bytes.len() as u64;
        let session = self.sessions.get_mut(who).expect("it was opened");
        let _ = session.stream.write_all(bytes);
        session.stream.set_nonblocking(true).unwrap();
        let mut ended = false;
        let read = self.await_that("everything sent is read", |network| {
            let session = network.sessions.get_mut(who).expect("it was opened");
            ended = matches!(session.stream.read(&mut [0]), Ok(0))
                || session.stream.take_error().is_ok_and(|error| error.is_some());
            ended || network.total(Metric::SurgePoppedBytes) >= popped
        });
        match self.sessions.get_mut(who) {
            Some(session) if !ended => session.stream.set_nonblocking(false).unwrap(),
            _ => {
                self.sessions.remove(who);
                self.over += 1;
            }
        }
        read
    }

    /// Waits for the end of a dump. Of one in which a frame was refused nothing is to be seen: its
    /// router is in a gap before and after.
    fn await_dump(&mut self, frames_rejected: u64) -> Result<(), String> {
        self.await_that("the end of the dump", |network| {
            let begun = network.total(Metric::SnapshotsBegun);
            let sessions = network.total(Metric::SessionsBegun);
            let is_complete = begun == network.total(Metric::SnapshotsCompleted) && sessions > 0;
            is_complete || network.frames_rejected() > frames_rejected
        })
    }

    /// Bytes of frames that were rejected.
    fn frames_rejected(&self) -> u64 {
        let text = self.collector().publication().text();
        let lines = text.lines().filter(|line| line.starts_with("stormdrain_rejected_bytes_total"));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    fn close(&mut self, who: &str) -> Result<(), String> {
        let session = self.sessions.remove(who);
        let mut session = session.ok_or_else(|| format!("router {who} has no session"))?;
        if session.sequence.is_some() {
            let mut bye = Vec::new();
            encode_empty(FrameType::Bye, 0, &mut bye);
            let _ = session.stream.write_all(&bye);
        }
        let _ = session.stream.shutdown(std::net::Shutdown::Write);
        let _ = session.stream.read_to_end(&mut Vec::new());
        self.over += 1;
        Ok(())
    }

    /// Stops the collector and starts it again, on another number of shards. Sessions that are open
    /// first give a sign of life: what was known until now stays known.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.pass(STEP_US);
        for who in self.sessions.keys().cloned().collect::<Vec<_>>() {
            match self.sessions[&who].sequence {
                Some(_) => {
                    let empty = "<label-mappings/>";
                    self.frame(&who, FrameType::Mappings, FrameFlags::NONE, empty)?;
                }
                None => self.write_bytes(&who, &fpm::frame("-R(203.0.113.255/32)")?)?,
            }
        }
        self.settle()?;
        self.stop()?;
        self.pass(STEP_US);
        let shards = self.settings.shards % 3 + 1;
        self.run(shards)
    }

    /// Ends in order. Routers hang up when the collector does: it waits a little for that.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let collector = self.collector.take().expect("a collector runs from step to step");
        let stopping = std::thread::spawn(move || collector.stop());
        for (_, mut session) in std::mem::take(&mut self.sessions) {
            let _ = session.stream.read_to_end(&mut Vec::new());
        }
        stopping.join().unwrap().map_err(|error| error.to_string())
    }

    /// Waits until every end of a connection has been seen and every row is durable.
    fn settle(&mut self) -> Result<(), String> {
        let (opened, over) = (self.opened, self.over);
        self.await_that("connections are counted", |network| {
            network.total(Metric::ConnectionsAccepted) == opened
                && network.total(Metric::ConnectionsClosed) == over
        })?;
        // The shards answer when they have published all that they had done before.
        self.page("/api/v1/routers");
        self.await_that("rows are durable", |network| {
            network.total(Metric::RowsPushed) == network.total(Metric::RowsCommitted)
        })
    }

    fn total(&self, metric: Metric) -> u64 {
        self.collector().publication().total(metric)
    }

    fn await_that(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Network) -> bool,
    ) -> Result<(), String> {
        let started = Instant::now();
        while !holds(self) {
            if started.elapsed() > PATIENCE {
                return Err(format!("waited {PATIENCE:?} in vain until {what}"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Status and body of a page of the HTTP side.
    pub(super) fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap(), body.to_owned())
    }
}

impl Session {
    fn has_ack(&mut self, sequence: u64) -> bool {
        while let Ok(Some(acknowledged)) = decode_ack(&self.unread) {
            self.unread.drain(..HEADER_BYTES);
            if acknowledged >= sequence {
                return true;
            }
        }
        false
    }

    /// Waits for more bytes; `false` = there are none any more.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(_) => false,
        }
    }
}

fn write_frame(kind: FrameType, flags: FrameFlags, sequence: u64, text: &str, out: &mut Vec<u8>) {
    let codec = if text.len() < 1024 { Codec::None } else { Codec::Zlib };
    FrameEncoder::new(1).frame(kind, codec, flags, sequence, text.as_bytes(), out);
}
