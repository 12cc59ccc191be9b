//! Hosts that are squeezed for real, each in another layer: the verdict names it.
//!
//! In:   a network namespace of its own, with a limit that is too low, a disk that stands still,
//!       a collector that is stopped for a while.
//! Out:  a storm, and the burst that the log, the page and the doctor then tell of.
//! Law:  nothing outside that namespace, that mount and that process is changed.
//! Not:  what follows from which evidence (`watch::verdict`).

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::watch::{Burst, Layer, Outcome, Reader};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use storage::log::read_kernel;
use storage::time::Micros;
use tuning::counters::Counters;

use crate::process::{PATIENCE, Process, Way, assert_sound};
use crate::sender::{Router, Session, swap};

mod told;

/// Runs in a network namespace of its own, whose loopback is up; aloud not at all where none can
/// be made.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let mut holder = Command::new("unshare");
    holder.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"]);
    let holder = holder.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut holder) = holder else {
        println!("NOT RUN: no network namespace can be made here (util-linux is needed)");
        return;
    };
    let mut said = String::new();
    let stdout = holder.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).unwrap();
    let entered = std::fs::File::open(format!("/proc/{}/ns/net", holder.id()));
    if said != "up\n" {
        println!("NOT RUN: no network namespace can be made here (root and iproute2 are needed)");
    } else {
        // The namespace is the thread's, and that of whatever it starts.
        let thread = std::thread::spawn(move || {
            let namespace = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&entered.unwrap()), namespace)
                .unwrap();
            test();
        });
        let ended = thread.join();
        holder.kill().unwrap();
        holder.wait().unwrap();
        ended.unwrap();
        return;
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
}

fn sysctl(setting: &str) {
    assert!(Command::new("sysctl").args(["-q", "-w", setting]).status().unwrap().success());
}

/// The bursts that the log tells of.
fn bursts(data: &Path) -> Vec<Burst> {
    let mut reader = Reader::default();
    read_kernel(data, Micros::MIN, Micros::MAX, &mut |row| reader.take(&row)).unwrap();
    reader.finish()
}

/// Waits for a burst that was judged and of which this is true.
fn await_burst(data: &Path, wanted: impl Fn(&Burst) -> bool) -> Burst {
    let started = Instant::now();
    loop {
        let found = bursts(data);
        if let Some(burst) = found.iter().find(|burst| wanted(burst)) {
            return burst.clone();
        }
        let heads: Vec<_> = found.iter().map(|burst| &burst.head).collect();
        assert!(started.elapsed() < PATIENCE, "no such burst: {heads:#?}");
        // Looks are 10 ms apart: whoever reads more often only takes their time.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn is_judged(burst: &Burst) -> bool {
    burst.head.verdict.is_some()
}

fn assert_verdict(burst: &Burst, outcome: Outcome, layer: Option<Layer>) {
    let verdict = burst.head.verdict.as_ref().unwrap();
    assert_eq!((verdict.outcome, verdict.layer), (outcome, layer), "{:#?}", burst.head);
}

/// Frames of so many mappings each, made beforehand.
fn speech(router: &mut Router, frames: u32, mappings: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for round in 0..frames {
        let time = router.tick();
        let mappings: Vec<_> =
            (0..mappings).map(|index| swap(100 + index, 1_000 + round, time)).collect();
        bytes.extend(router.plain_frame(&mappings));
    }
    bytes
}

/// So many routers with a session each.
fn fleet(process: &Process, count: u8) -> Vec<(Router, Session)> {
    let open = |number| {
        let mut router = Router::new(number);
        let session = router.open(process.listen, false, true).unwrap();
        (router, session)
    };
    let fleet = (1..=count).map(open).collect();
    let count = u64::from(count);
    process.await_metric("stormdrain_sessions_begun_total", "", |begun| begun == count);
    fleet
}

/// Waits until all that a router has sent is durable.
fn hear(router: &Router, session: &mut Session) {
    while session.ack().unwrap() < router.sequence_next() - 1 {}
}

/// All of them speak at once, and hear that it is durable.
fn storm(fleet: &mut [(Router, Session)], frames: u32, mappings: u32) {
    let speeches: Vec<Vec<u8>> =
        fleet.iter_mut().map(|(router, _)| speech(router, frames, mappings)).collect();
    std::thread::scope(|scope| {
        for ((router, session), bytes) in fleet.iter_mut().zip(&speeches) {
            // Acks are heard while it speaks: nobody waits for the other.
            let (mut reader, router) = (session.split(), &*router);
            scope.spawn(move || hear(router, &mut reader));
            scope.spawn(move || session.send(bytes).unwrap());
        }
    });
}

#[test]
fn a_clean_storm_is_called_clean() {
    in_namespace(|| {
        for way in Way::all() {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("data");
            let mut process = Process::start(way, &data, "memory_bytes = \"1GiB\"\nshards = 2\n");
            let mut fleet = fleet(&process, 8);
            storm(&mut fleet, 4, 500);
            // A busy host may hold up a storm for a second: then it is two bursts.
            let judged = || bursts(&data).into_iter().filter(is_judged).collect::<Vec<_>>();
            let mappings =
                |bursts: &[Burst]| bursts.iter().map(|burst| burst.head.mappings).sum::<u64>();
            await_burst(&data, |_| mappings(&judged()) == 8 * 4 * 500);
            let found = judged();
            for burst in &found {
                assert_verdict(burst, Outcome::Clean, None);
                told::assert_on_the_page(&process, burst);
            }
            told::assert_not_blamed(&told::doctor(&data));
            let bins = found.iter().flat_map(|burst| &burst.bins);
            assert_eq!(bins.map(|bin| bin.mappings).sum::<u64>(), 8 * 4 * 500);
            let routers: u64 = found.iter().map(|burst| burst.head.routers).sum();
            assert!(routers >= 8 && found.iter().all(|burst| burst.head.routers <= 8), "{way:?}");
            assert!(process.terminate().success());
            assert_sound(&data);
        }
    });
}

#[test]
fn a_digest_that_is_too_slow_is_named() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // Too little memory for what comes faster than it is decoded.
        let mut process =
            Process::start(Way::Epoll, &data, "memory_bytes = \"32MiB\"\nshards = 1\n");
        let mut fleet = fleet(&process, 24);
        storm(&mut fleet, 5, 900);
        let burst = await_burst(&data, |burst| is_judged(burst) && burst.head.mappings > 10_000);
        assert_verdict(&burst, Outcome::Squeezed, Some(Layer::Digest));
        told::assert_told(&process, &data, &burst);
        assert!(burst.head.blocked_longest_ms >= 100, "{:#?}", burst.head);
        assert!(process.terminate().success());
    });
}

#[test]
fn a_collector_that_does_not_run_is_named() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process =
            Process::start(Way::Epoll, &data, "memory_bytes = \"1GiB\"\nshards = 1\n");
        let mut fleet = fleet(&process, 4);
        storm(&mut fleet, 2, 500);
        process.signal(Signal::STOP);
        let stopped = Instant::now();
        let mut more: Vec<Vec<u8>> =
            fleet.iter_mut().map(|(router, _)| speech(router, 2, 500)).collect();
        for ((_, session), bytes) in fleet.iter_mut().zip(&mut more) {
            // What fits into the kernel's queues waits there.
            session.send(&bytes[..8 << 10]).unwrap();
            bytes.drain(..8 << 10);
        }
        while stopped.elapsed().as_millis() < 1_500 {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        process.signal(Signal::CONT);
        for ((router, session), bytes) in fleet.iter_mut().zip(&more) {
            session.send(bytes).unwrap();
            hear(router, session);
        }
        let squeezed = |burst: &Burst| {
            let verdict = burst.head.verdict.as_ref();
            verdict.is_some_and(|verdict| verdict.outcome == Outcome::Squeezed)
        };
        let burst = await_burst(&data, squeezed);
        assert_verdict(&burst, Outcome::Squeezed, Some(Layer::Drain));
        told::assert_told(&process, &data, &burst);
        assert!(process.terminate().success());
    });
}

/// A file system of its own in a file; `None`, aloud, where none can be mounted.
struct Disk {
    point: PathBuf,
}

impl Disk {
    fn mount(folder: &Path) -> Option<Disk> {
        let (image, point) = (folder.join("image"), folder.join("disk"));
        std::fs::create_dir(&point).unwrap();
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let run = |program: &str, arguments: &[&Path]| {
            let mut command = Command::new(program);
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let is_there = run("mkfs.ext4", &[Path::new("-q"), &image])
            && run("mount", &[Path::new("-o"), Path::new("loop"), &image, &point]);
        if !is_there {
            println!("NOT RUN: no file system can be mounted here (root and loop are needed)");
        }
        is_there.then_some(Disk { point })
    }

    fn freeze(&self, word: &str) {
        let status = Command::new("fsfreeze").arg(word).arg(&self.point).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.point).stderr(Stdio::null()).status();
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

#[test]
fn a_disk_that_stands_still_is_named() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = Disk::mount(folder.path()) else { return };
        let data = disk.point.join("data");
        let settings = "memory_bytes = \"1GiB\"\nshards = 1\n";
        let mut process = Process::start(Way::Epoll, &data, settings);
        let mut fleet = fleet(&process, 4);
        storm(&mut fleet, 1, 100);
        disk.freeze("-f");
        let frozen = Instant::now();
        for (router, session) in &mut fleet {
            let bytes = speech(router, 4, 500);
            session.send(&bytes).unwrap();
        }
        while frozen.elapsed().as_millis() < 1_500 {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        disk.freeze("-u");
        for (router, session) in &mut fleet {
            hear(router, session);
        }
        let squeezed = |burst: &Burst| {
            let verdict = burst.head.verdict.as_ref();
            verdict.is_some_and(|verdict| verdict.outcome == Outcome::Squeezed)
        };
        let burst = await_burst(&data, squeezed);
        assert_verdict(&burst, Outcome::Squeezed, Some(Layer::Disk));
        told::assert_told(&process, &data, &burst);
        assert!(process.terminate().success());
        assert_sound(&data);
    });
}

#[test]
fn a_listen_queue_of_one_is_named() {
    in_namespace(|| {
        sysctl("net.core.somaxconn=1");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process =
            Process::start(Way::Epoll, &data, "memory_bytes = \"1GiB\"\nshards = 1\n");
        let mut fleet = fleet(&process, 4);
        // The queue is as full as it gets while nobody accepts, for some milliseconds.
        process.signal(Signal::STOP);
        let waiting: Vec<Socket> =
            (1..=20).map(|at| begin_to_connect(at, process.listen)).collect();
        process.signal(Signal::CONT);
        storm(&mut fleet, 4, 500);
        let burst = await_burst(&data, |burst| is_judged(burst) && burst.head.mappings > 1_000);
        assert_verdict(&burst, Outcome::Squeezed, Some(Layer::Socket));
        let reasons = burst.head.verdict.as_ref().unwrap().reasons.join("; ");
        assert!(reasons.contains("listen queue"), "{reasons}");
        let findings = told::assert_told(&process, &data, &burst);
        told::assert_limit(&findings, "listen-backlog", "net.core.somaxconn");
        drop(waiting);
        assert!(process.terminate().success());
    });
}

#[test]
fn what_is_refused_while_no_storm_runs_is_found_too() {
    in_namespace(|| {
        sysctl("net.core.somaxconn=1");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(Way::Epoll, &data, "shards = 1\n");
        // What moved before the first look is nobody's.
        told::await_look(&process);
        process.signal(Signal::STOP);
        let waiting: Vec<Socket> =
            (1..=20).map(|at| begin_to_connect(at, process.listen)).collect();
        process.signal(Signal::CONT);
        told::await_loss(&data, "TcpExt.ListenOverflows");
        told::assert_loss(&told::doctor(&data), "TcpExt.ListenOverflows", "listen-backlog");
        assert_eq!(bursts(&data), []);
        drop(waiting);
        assert!(process.terminate().success());
    });
}

fn begin_to_connect(number: u8, target: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let source = IpAddr::from([127, 0, 5, number]);
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    // It is under way, or done: either will do.
    let _ = socket.connect(&target.into());
    socket
}

/// Receive buffers that hold next to nothing, and senders of crumbs: the kernel prunes queues of
/// ours, and the collector was there to read.
#[test]
fn receive_buffers_that_are_too_small_are_named() {
    in_namespace(|| {
        sysctl("net.ipv4.tcp_rmem=4096 4096 4096");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process =
            Process::start(Way::Epoll, &data, "memory_bytes = \"1GiB\"\nshards = 1\n");
        let mut fleet = fleet(&process, 16);
        // Its own namespace: these counters begin at 0 and are nobody else's.
        let pruned = || kernel("PruneCalled") + kernel("TCPRcvCollapsed") + kernel("TCPRcvQDrop");
        let before = pruned();
        let mut speeches: Vec<Vec<u8>> =
            fleet.iter_mut().map(|(router, _)| speech(router, 1, 500)).collect();
        std::thread::scope(|scope| {
            for ((router, session), bytes) in fleet.iter_mut().zip(&mut speeches) {
                scope.spawn(move || {
                    for crumb in bytes.chunks(16) {
                        session.send(crumb).unwrap();
                    }
                    hear(router, session);
                });
            }
        });
        assert!(pruned() > before, "nothing was squeezed: the test proves nothing");
        let burst = await_burst(&data, |burst| is_judged(burst) && burst.head.mappings > 1_000);
        let reasons = burst.head.verdict.as_ref().unwrap().reasons.join("; ");
        assert!(reasons.contains("squeezed receive queues of ours"), "{reasons}");
        // On a host that is busy with other things the collector may not have run meanwhile: then
        // that is the cause, and it is named.
        let did_not_run = reasons.contains("did not run");
        let layer = if did_not_run { Layer::Drain } else { Layer::Socket };
        assert_verdict(&burst, Outcome::Squeezed, Some(layer));
        let findings = told::assert_told(&process, &data, &burst);
        told::assert_limit(&findings, "receive-buffer", "net.ipv4.tcp_rmem");
        assert!(process.terminate().success());
    });
}

/// A counter of this namespace: this thread is in it, and the files of the process are of another.
fn kernel(name: &str) -> i64 {
    let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let counters = Counters::parse(&read("snmp"), &read("netstat")).unwrap();
    counters.value(&format!("TcpExt.{name}")).unwrap_or(0)
}

/// What the collector leaves in tracefs.
fn instances(process: &Process) -> Vec<String> {
    let folder = process.inside(Path::new("/sys/kernel/tracing/instances"));
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn the_kernel_says_why_it_drops_and_nothing_is_left_in_its_tracing() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let Some(mut killed) = Process::start_traced(Way::Epoll, &data, "shards = 1\n") else {
            println!("NOT RUN: tracefs cannot be mounted here (root is needed)");
            return;
        };
        let own = format!("stormdrain-{}", killed.id());
        assert!(instances(&killed).contains(&own), "{:?}", instances(&killed));
        killed.kill();
        // The next one takes away what the killed one has left.
        let mut process = Process::start_traced(Way::Epoll, &data, "shards = 1\n").unwrap();
        assert!(!instances(&process).contains(&own), "{:?}", instances(&process));

        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let started = Instant::now();
        let seen = |counter: &str| {
            let mut seen = 0;
            read_kernel(&data, Micros::MIN, Micros::MAX, &mut |row| {
                seen += if &*row.counter == counter { row.value } else { 0 };
            })
            .unwrap();
            seen
        };
        while seen("drop.NO_SOCKET") == 0 {
            assert!(std::net::TcpStream::connect(nobody).is_err());
            assert!(started.elapsed() < PATIENCE, "no drop was told of");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let own = format!("stormdrain-{}", process.id());
        let watcher = Process::start_traced(Way::Epoll, &folder.path().join("other"), "").unwrap();
        assert!(instances(&watcher).contains(&own));
        assert!(process.terminate().success());
        assert!(!instances(&watcher).contains(&own), "{:?}", instances(&watcher));
        assert_sound(&data);
    });
}
