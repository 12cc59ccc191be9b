//! Restart: what a collector takes over from one that died of a failed write-back.
//!
//! In:   scripts/failing-disk.sh: a disk that stops taking in what is new, and takes it again.
//! Out:  mappings that were acknowledged, by the first collector or by the second, and are not on
//!       the disk.
//! Law:  what is counted is read after a remount: the kernel's memory tells nothing.
//! Not:  how long a restart takes (`restart_storm`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, decode_ack};
use engine::wire::hello::write_hello;
use engine::wire::xml::write::write_document;
use engine::wire::{Hello, SnapshotMark};
use storage::log::{Filter, read};
use storage::mapping::{
    Fec, Ingress, Label, Mapping, NextHop, Nhlfe, Operation, RouterId, TimeSource,
};
use storage::row::Row;
use storage::time::Micros;
use tempfile::TempDir;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::{CollectorProcess, verify_folder};

pub(crate) const BENCH: Bench = Bench {
    name: "restart",
    about: "what a restart takes over after a write-back that failed, 20 times on a real disk",
    run: measure,
};

const FIGURE: &str = "restart/adopted";
const RUNS: usize = 20;
const ROUTERS: u8 = 4;
/// Enough that a commit is longer than a page.
const FRAME_MAPPINGS: u32 = 300;
/// Frames of a router before the disk fails, and, in every other run, after the restart.
const FRAMES: usize = 15;
const PATIENCE: Duration = Duration::from_secs(20);
/// Collectors that may fail on the mended disk: an error may be told once more.
const STARTS: usize = 5;

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let (mut acknowledged, mut missing, mut taken_over) = (0, 0, 0);
    let runs = run.scaled(RUNS, 1);
    for number in 0..runs {
        let disk = match FailingDisk::make()? {
            Ok(disk) => disk,
            Err(why) => return run.skipped(FIGURE, why),
        };
        let outcome = one_run(run, &disk, number)?;
        acknowledged += outcome.acknowledged;
        missing += outcome.missing;
        taken_over += outcome.taken_over;
    }
    run.note(format!(
        "{runs} runs, {acknowledged} mappings acknowledged, {missing} of them missing; {taken_over} \
         that the first collector had written and not synced were acknowledged by the second"
    ))?;
    let unit = "acknowledged mappings that are not on the disk over all that were acknowledged";
    run.figure(FIGURE, missing as f64, acknowledged as f64, unit)
}

struct Outcome {
    acknowledged: u64,
    missing: u64,
    taken_over: u64,
}

fn one_run(run: &mut Run, disk: &FailingDisk, number: usize) -> Result<Outcome, BenchError> {
    let data = disk.folder.path().join("disk/data");
    let io = if number.is_multiple_of(2) { "io=auto" } else { "io=epoll" };
    let settings = [io.to_owned(), "shards=2".to_owned()];
    let preload = format!("LD_PRELOAD={}", disk.folder.path().join("killer.so").display());
    let collector = CollectorProcess::start(&data, &settings, &["env".to_owned(), preload])?;
    let mut routers: Vec<Router> = (1..=ROUTERS).map(Router::new).collect();
    each(&mut routers, |router| {
        router.connect(collector.address)?;
        (0..FRAMES).try_for_each(|_| router.say())
    })?;
    disk.must("fail")?;
    // The first sync that fails kills the collector: that ends every session.
    each(&mut routers, |router| {
        while router.say().is_ok() {}
        Ok(())
    })?;
    drop(collector);
    disk.must("heal")?;
    let before: u64 = routers.iter().map(|router| router.acknowledged).sum();
    let collector = start_again(&data, &settings)?;
    let repeats = !number.is_multiple_of(4);
    each(&mut routers, |router| {
        router.connect(collector.address)?;
        router.await_acks()?;
        (0..FRAMES).filter(|_| repeats).try_for_each(|_| router.say())
    })?;
    let address = collector.address;
    drop(collector);
    disk.must("remount")?;
    let report = verify_folder(run, &data, 0)?;
    if report.faults_count > 0 {
        run.fault(format!("{address}: verify found {} faults", report.faults_count))?;
    }
    let rows = rows_of(&data)?;
    let mut outcome = Outcome { acknowledged: 0, missing: 0, taken_over: 0 };
    for router in &routers {
        let due = router.acknowledged * u64::from(FRAME_MAPPINGS);
        let until = (router.id, router.acknowledged);
        let found: u64 = rows.range((router.id, 0)..=until).map(|(_, count)| *count).sum();
        outcome.acknowledged += due;
        outcome.missing += due.saturating_sub(found);
    }
    let now: u64 = routers.iter().map(|router| router.acknowledged).sum();
    let said = if repeats { u64::from(ROUTERS) * FRAMES as u64 } else { 0 };
    outcome.taken_over = (now - before - said) * u64::from(FRAME_MAPPINGS);
    Ok(outcome)
}

fn start_again(data: &Path, settings: &[String]) -> Result<CollectorProcess, BenchError> {
    let mut started = CollectorProcess::start(data, settings, &[]);
    for _ in 1..STARTS {
        if started.is_ok() {
            break;
        }
        started = CollectorProcess::start(data, settings, &[]);
    }
    started
}

/// Change rows of each frame.
fn rows_of(data: &Path) -> Result<BTreeMap<(RouterId, u64), u64>, BenchError> {
    let mut rows = BTreeMap::new();
    let filter = Filter { changes: true, ..Filter::NONE };
    read(data, &filter, &mut |row| {
        if let Row::Change(change) = row {
            let frame = (change.stamp.router, change.stamp.position.sequence);
            *rows.entry(frame).or_default() += 1;
        }
    })?;
    Ok(rows)
}

/// Does the same for every router at once.
fn each(
    routers: &mut [Router],
    work: impl Fn(&mut Router) -> std::io::Result<()> + Sync,
) -> Result<(), BenchError> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            routers.iter_mut().map(|router| scope.spawn(move || work(router))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(())
}

/// The disk, mounted as long as this is there.
struct FailingDisk {
    folder: TempDir,
}

impl FailingDisk {
    /// Or why there can be none here.
    fn make() -> Result<Result<FailingDisk, String>, BenchError> {
        let disk = FailingDisk { folder: tempfile::tempdir()? };
        let made = disk.does("make")?;
        let why = format!("no disk can be made to fail here (root, loop devices, cc): {made}");
        Ok(if made.is_empty() { Ok(disk) } else { Err(why.replace('\n', " ")) })
    }

    /// What went wrong; empty = nothing.
    fn does(&self, what: &str) -> Result<String, BenchError> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/failing-disk.sh");
        let done = Command::new("sh").arg(script).arg(what).arg(self.folder.path()).output()?;
        let told = String::from_utf8_lossy(&done.stderr);
        let status = done.status;
        Ok(if status.success() { String::new() } else { format!("{status} {told}") })
    }

    fn must(&self, what: &'static str) -> Result<(), BenchError> {
        let told = self.does(what)?;
        if told.is_empty() { Ok(()) } else { Err(BenchError::Process { role: what, told }) }
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // What cannot be unmounted stays, in a folder of its own.
        let _ = self.does("remove");
    }
}

/// A router that keeps what is not acknowledged and sends it again.
struct Router {
    id: RouterId,
    number: u8,
    sequence: u64,
    acknowledged: u64,
    kept: BTreeMap<u64, Vec<u8>>,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
}

const BOOT: Micros = Micros(1_700_000_000_000_000);

impl Router {
    fn new(number: u8) -> Router {
        Router {
            id: RouterId([192, 0, 2, number].into()),
            number,
            sequence: 0,
            acknowledged: 0,
            kept: BTreeMap::new(),
            stream: None,
            unread: Vec::new(),
        }
    }

    /// Says hello, and again what is kept.
    fn connect(&mut self, target: SocketAddr) -> std::io::Result<()> {
        let hello = Hello {
            router: self.id,
            boot_time: BOOT,
            sequence_first: self.kept.keys().next().copied().unwrap_or(self.sequence + 1),
            sequence_fresh: self.sequence + 1,
            permanent: true,
            acks: true,
            snapshot: true,
            clock: BOOT,
            interfaces: Vec::new(),
            agent: "bench/1".into(),
        };
        let (mut text, mut bytes) = (String::new(), Vec::new());
        write_hello(&hello, &mut text);
        let mut encoder = FrameEncoder::new(1);
        let (kind, none) = (FrameType::Hello, FrameFlags::NONE);
        encoder.frame(kind, Codec::None, none, 0, text.as_bytes(), &mut bytes);
        self.kept.values().for_each(|frame| bytes.extend_from_slice(frame));
        let mut stream = TcpStream::connect(target)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&bytes)?;
        self.unread.clear();
        self.stream = Some(stream);
        Ok(())
    }

    /// Sends a frame in which every mapping is another than before, and waits for its ack.
    fn say(&mut self) -> std::io::Result<()> {
        self.sequence += 1;
        let number = self.sequence as u32 * 104_729 + u32::from(self.number);
        let mappings: Vec<Mapping> = (16..16 + FRAME_MAPPINGS)
            .map(|label| swap(label, 16 + (label * 7_919 + number) % 1_000_000))
            .collect();
        let (mut text, mut bytes) = (String::new(), Vec::new());
        write_document(Some(self.id), SnapshotMark::None, &mappings, &mut text);
        let (kind, none) = (FrameType::Mappings, FrameFlags::NONE);
        let mut encoder = FrameEncoder::new(1);
        encoder.frame(kind, Codec::Zlib, none, self.sequence, text.as_bytes(), &mut bytes);
        self.kept.insert(self.sequence, bytes.clone());
        if let Some(stream) = &mut self.stream {
            stream.write_all(&bytes)?;
        }
        self.await_acks()
    }

    fn await_acks(&mut self) -> std::io::Result<()> {
        while !self.kept.is_empty() {
            if let Some(sequence) = decode_ack(&self.unread).map_err(std::io::Error::other)? {
                self.unread.drain(..HEADER_BYTES);
                self.acknowledged = self.acknowledged.max(sequence);
                self.kept.retain(|kept, _| *kept > sequence);
                continue;
            }
            let mut buffer = [0; 4_096];
            let stream = self.stream.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
            match stream.read(&mut buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => self.unread.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(())
    }
}

fn swap(label: u32, out: u32) -> Mapping {
    let label_of = |value| Label::new(value).expect("it has twenty bits");
    let stack = [label_of(out)].into_iter().collect();
    let next_hop = NextHop::Address([192, 0, 2, 250].into());
    Mapping {
        fec: Fec::Ip { prefix: "203.0.113.0/24".parse().expect("a prefix"), table: 0 },
        ingress: Ingress::platform(label_of(label)),
        operation: Operation::Swap,
        branches: [Nhlfe::new(stack, next_hop)].into_iter().collect(),
        event_time: BOOT,
        time_source: TimeSource::Router,
        extra: Default::default(),
    }
}
