//! One scripted machine, turned by both socket drivers over loopback.
//!
//! In:   clients whose first byte says what the machine shall do with their connection.
//! Out:  what the clients see, and what the machine was told.
//! Law:  both drivers keep the same contract (`io`).
//! Not:  the shard; it is turned by the very same drivers in the integration tests.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use storage::row::Reason;
use storage::time::Hour;

use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::io::epoll::EpollDriver;
use crate::io::gate::{Capacity, Places};
use crate::io::links::{Address, DriverCounters, Links, Machine, Post, mailbox};
use crate::io::listener::{DeadPeer, listen};
use crate::io::turn;
use crate::io::uring::driver::UringDriver;
use crate::io::uring::{Offered, probe};
use crate::io::{Completion, ConnectionId, Now, Op};

const PAUSE_US: u64 = 100_000;
const HOUR: Hour = Hour(494_000);

/// What the machine tells the test.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Accepted(SocketAddr),
    Ended(u8, Reason),
    ReadWhilePaused(usize),
    ReadUntilDrained(usize),
    Abandoned(u64),
    Limited(bool),
}

#[derive(Default)]
struct Peer {
    /// The first byte: what shall be done.
    script: u8,
    bytes: usize,
    sum: u64,
}

/// Does with each connection what its first byte says.
struct Scripted {
    ops: VecDeque<Op>,
    peers: BTreeMap<ConnectionId, Peer>,
    resume: Option<(u64, ConnectionId, usize)>,
    /// What all connections have delivered, and had when one was resumed.
    delivered: usize,
    resumed: Option<usize>,
    committing: VecDeque<ConnectionId>,
    drained: bool,
    abandoned: u64,
    limited: bool,
    stopping: bool,
    turns_since_stop: u32,
    heard: Sender<Heard>,
}

impl Scripted {
    fn tell(&self, heard: Heard) {
        // A test that has seen enough hears no more.
        let _ = self.heard.send(heard);
    }

    fn received(&mut self, now: Now, connection: ConnectionId, bytes: &[u8]) {
        self.delivered += bytes.len();
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        if peer.bytes == 0 {
            peer.script = bytes[0];
            match peer.script {
                b'P' => {
                    self.ops.push_back(Op::PauseReceive { connection });
                    self.resume = Some((now.monotonic_us + PAUSE_US, connection, bytes.len()));
                }
                b'R' => self.ops.push_back(Op::Close { connection, reset: true }),
                b'C' => {
                    self.ops.push_back(Op::Send { connection, bytes: b"closing".to_vec() });
                    self.ops.push_back(Op::Close { connection, reset: false });
                }
                b'F' => {
                    let flood = || Op::Send { connection, bytes: vec![7; 16 << 10] };
                    self.ops.extend((0..4096).map(|_| flood()));
                }
                b'L' => {
                    self.committing.push_back(connection);
                    let bytes = Arc::new(b"committed".to_vec());
                    self.ops.push_back(Op::LogCommit { hour: HOUR, bytes });
                }
                _ => {}
            }
        }
        peer.bytes += bytes.len();
        peer.sum = bytes.iter().fold(peer.sum, |sum, byte| mix(sum, *byte));
    }

    fn note_drained(&mut self) {
        if let Some(before) = self.resumed.take_if(|before| *before < self.delivered) {
            self.tell(Heard::ReadUntilDrained(self.delivered - before));
        }
    }

    fn ended(&mut self, connection: ConnectionId, reason: Reason) {
        let Some(peer) = self.peers.get(&connection) else { return };
        self.tell(Heard::Ended(peer.script, reason));
        let reply = format!("{} {}", peer.bytes, peer.sum).into_bytes();
        self.ops.push_back(Op::Send { connection, bytes: reply });
        self.ops.push_back(Op::Close { connection, reset: false });
    }
}

fn mix(sum: u64, byte: u8) -> u64 {
    sum.wrapping_mul(31).wrapping_add(u64::from(byte))
}

impl Machine for Scripted {
    fn handle(&mut self, now: Now, completion: Completion<'_>) {
        self.drained |= matches!(completion, Completion::Drained);
        match completion {
            Completion::Accepted { connection, peer } => {
                self.peers.insert(connection, Peer::default());
                self.tell(Heard::Accepted(peer));
                self.ops.push_back(Op::Receive { connection });
            }
            Completion::Received { connection, bytes } => self.received(now, connection, bytes),
            Completion::ReceiveEnded { connection, reason } => self.ended(connection, reason),
            Completion::Closed { connection } => {
                assert!(self.peers.remove(&connection).is_some(), "closed twice");
            }
            Completion::LogSynced { .. } => {
                let connection = self.committing.pop_front().expect("a sync was asked for");
                self.ops.push_back(Op::Send { connection, bytes: b"durable".to_vec() });
            }
            Completion::Drained => self.note_drained(),
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn poll_op(&mut self) -> Option<Op> {
        self.ops.pop_front()
    }

    fn digest(&mut self, now: Now) -> bool {
        if let Some((at, connection, before)) = self.resume
            && at <= now.monotonic_us
        {
            self.resume = None;
            let bytes = self.peers.get(&connection).map_or(0, |peer| peer.bytes);
            self.tell(Heard::ReadWhilePaused(bytes - before));
            self.resumed = Some(self.delivered);
            self.ops.push_back(Op::Receive { connection });
        }
        false
    }

    fn poll_timeout(&self) -> Option<u64> {
        if self.stopping { Some(0) } else { self.resume.map(|(at, ..)| at) }
    }

    fn stop(&mut self, _now: Now) {
        self.stopping = true;
        self.ops.push_back(Op::PauseAccept);
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for connection in ids {
            self.ops.push_back(Op::Send { connection, bytes: b"stopped".to_vec() });
            self.ops.push_back(Op::Close { connection, reset: false });
        }
    }

    fn stopped(&self) -> bool {
        // A turn in which nothing is ready comes at once now, unless it is never told of.
        let has_been_idle = self.drained || self.turns_since_stop > 3;
        self.stopping && self.peers.is_empty() && has_been_idle
    }

    fn failure(&self) -> Option<std::io::Error> {
        None
    }

    fn publish(&mut self, _now: Now, driver: &DriverCounters) {
        self.turns_since_stop += u32::from(self.stopping && self.peers.is_empty());
        if driver.sends_abandoned > self.abandoned {
            self.abandoned = driver.sends_abandoned;
            self.tell(Heard::Abandoned(self.abandoned));
        }
        if driver.accept_limited != self.limited {
            self.limited = driver.accept_limited;
            self.tell(Heard::Limited(self.limited));
        }
    }
}

struct Running {
    name: &'static str,
    address: SocketAddr,
    shard: Address,
    heard: Receiver<Heard>,
    thread: Option<JoinHandle<()>>,
    data: tempfile::TempDir,
}

/// The drivers under test: epoll; the ring; the ring with direct descriptors; the ring with
/// nothing that came after Linux 6.0.
const DRIVERS: [&str; 4] = ["epoll", "uring", "direct", "old"];

impl Running {
    fn start(name: &'static str, connections: usize) -> Running {
        let dead = DeadPeer {
            keepalive_idle: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_probes: 3,
            user_timeout: Duration::from_secs(60),
        };
        let mut listeners = listen("127.0.0.1:0".parse().unwrap(), 1, &dead).unwrap();
        let listener = listeners.sockets.remove(0);
        let (shard, mailbox) = mailbox().unwrap();
        let data = tempfile::tempdir().unwrap();
        let disk = Disk::start(data.path(), 0, shard.clone()).unwrap();
        let links = Links { mailbox, shards: vec![shard.clone()], disk };
        let (sender, heard) = unbounded();
        let thread = std::thread::spawn(move || {
            let mut machine = Scripted {
                ops: VecDeque::from([Op::Accept]),
                peers: BTreeMap::new(),
                resume: None,
                delivered: 0,
                resumed: None,
                committing: VecDeque::new(),
                drained: false,
                abandoned: 0,
                limited: false,
                stopping: false,
                turns_since_stop: 0,
                heard: sender,
            };
            let clock = Clock::start();
            let direct = (name == "direct").then(|| u32::try_from(connections + 1).unwrap());
            let capacity = Capacity { connections, short_of_descriptors: false, direct };
            let places = Places::new(capacity, links.shards.clone());
            if name == "epoll" {
                turn::run(EpollDriver::new(listener, places, links, clock).unwrap(), &mut machine)
            } else {
                let offered = match name {
                    "old" => OLD,
                    _ => probe().unwrap(),
                };
                let driver = UringDriver::new(
                    offered,
                    crate::io::uring::BUFFERS,
                    listener,
                    places,
                    links,
                    clock,
                );
                turn::run(driver.unwrap(), &mut machine)
            }
            .unwrap();
            assert!(machine.drained, "{name}: an idle turn is told");
        });
        let address = listeners.address;
        Running { name, address, shard, heard, thread: Some(thread), data }
    }

    fn connect(&self, script: u8) -> TcpStream {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(&[script]).unwrap();
        client
    }

    fn hear(&self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        loop {
            let heard = self.heard.recv_timeout(Duration::from_secs(20)).expect(self.name);
            if wanted(&heard) {
                return heard;
            }
        }
    }

    fn stop(mut self) {
        self.shard.post(Post::Stop);
        self.thread.take().expect("it is taken here only").join().unwrap();
    }
}

const OLD: Offered = Offered {
    deferred: false,
    receive_cap: false,
    accept_at_once: false,
    gather: false,
    direct: false,
};

/// Every driver, the ring where this host lets us have one.
fn each(test: impl Fn(Running)) {
    each_with(1000, test);
}

fn each_with(connections: usize, test: impl Fn(Running)) {
    for name in DRIVERS {
        match probe() {
            Err(error) if name != "epoll" => eprintln!("no io_uring here: {error}"),
            _ => test(Running::start(name, connections)),
        }
    }
}

fn read_all(client: &mut TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// Sends `count` bytes after the first, ends, and checks what the machine says it has read.
fn send_and_check(mut client: TcpStream, script: u8, count: usize) {
    let bytes: Vec<u8> = (0..count).map(|index| (index % 251) as u8).collect();
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let sum = bytes.iter().fold(mix(0, script), |sum, byte| mix(sum, *byte));
    assert_eq!(read_all(&mut client), format!("{} {sum}", count + 1));
}

#[test]
fn every_byte_comes_once_and_in_order() {
    each(|running| {
        std::thread::scope(|scope| {
            for client in 0..24_usize {
                let running = &running;
                let count = [3, 70_000, 3_000_000][client % 3];
                scope.spawn(move || send_and_check(running.connect(b'E'), b'E', count));
            }
        });
        running.stop();
    });
}

#[test]
fn a_paused_connection_waits_and_drained_means_that_nothing_waits() {
    each(|running| {
        let client = running.connect(b'P');
        let sender = std::thread::spawn(move || send_and_check(client, b'P', 16 << 20));
        let heard = running.hear(|heard| matches!(heard, Heard::ReadWhilePaused(_)));
        let Heard::ReadWhilePaused(bytes) = heard else { unreachable!() };
        assert!(bytes < 1 << 20, "{}: {bytes} bytes read while paused", running.name);
        // A window of 64 KiB had come in meanwhile; one arming of a receive delivers half of that.
        let heard = running.hear(|heard| matches!(heard, Heard::ReadUntilDrained(_)));
        let Heard::ReadUntilDrained(bytes) = heard else { unreachable!() };
        assert!(bytes > 40_000, "{}: drained after {bytes} bytes", running.name);
        sender.join().unwrap();
        running.stop();
    });
}

#[test]
fn a_reset_is_told_apart_from_an_end() {
    each(|running| {
        let client = running.connect(b'E');
        running.hear(|heard| *heard == Heard::Accepted(client.local_addr().unwrap()));
        let client = socket2::Socket::from(client);
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        running.hear(|heard| matches!(heard, Heard::Ended(_, Reason::ConnectionLost)));
        drop(running.connect(b'E'));
        running.hear(|heard| *heard == Heard::Ended(b'E', Reason::ClosedByRouter));
        running.stop();
    });
}

#[test]
fn a_close_with_reset_resets_and_one_without_delivers_what_was_sent() {
    each(|running| {
        let mut reset = running.connect(b'R');
        let error = reset.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{}", running.name);
        // Bytes that nobody reads wait in the machine's socket: the answer comes all the same.
        let mut closed = running.connect(b'C');
        let _ = closed.write_all(&[1; 200_000]);
        assert_eq!(read_all(&mut closed), "closing");
        drop(closed);
        running.stop();
    });
}

#[test]
fn a_peer_that_reads_no_acks_is_given_up() {
    each(|running| {
        let client = running.connect(b'F');
        running.hear(|heard| *heard == Heard::Ended(b'F', Reason::TimedOut));
        running.hear(|heard| *heard == Heard::Abandoned(1));
        drop(client);
        running.stop();
    });
}

#[test]
fn a_commit_is_answered_by_the_disk_thread() {
    each(|running| {
        let mut client = running.connect(b'L');
        let mut answer = [0; 7];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"durable");
        let path = storage::log::log_path(running.data.path(), HOUR, 0);
        assert_eq!(std::fs::read(path).unwrap(), b"committed");
        drop(client);
        running.stop();
    });
}

#[test]
fn at_the_limit_peers_wait_unharmed_and_get_in_when_one_leaves() {
    each_with(10, |running| {
        let mut clients: VecDeque<_> = (0..30).map(|_| running.connect(b'E')).collect();
        let (mut accepted, mut limited) = (0, false);
        let mut hear_until = |wanted: &dyn Fn(i32, bool) -> bool| {
            while !wanted(accepted, limited) {
                match running.hear(|_| true) {
                    Heard::Accepted(_) => accepted += 1,
                    Heard::Limited(is) => limited = is,
                    _ => {}
                }
            }
            accepted
        };
        hear_until(&|accepted, limited| accepted >= 10 && limited);
        for gone in 0..30 {
            // Whoever was accepted first is answered in full: it had not been closed.
            let accepted = hear_until(&|accepted, _| accepted >= 30.min(gone + 10));
            assert!(accepted <= gone + 10, "{}: {accepted} at once", running.name);
            send_and_check(clients.pop_front().expect("thirty came"), b'E', 1000);
        }
        hear_until(&|_, limited| !limited);
        running.stop();
    });
}

#[test]
fn a_stop_says_goodbye_to_every_connection() {
    each(|running| {
        let mut clients: Vec<_> = (0..40).map(|_| running.connect(b'E')).collect();
        for _ in &clients {
            running.hear(|heard| {
                matches!(heard, Heard::Accepted(peer) if peer.ip() == IpAddr::from([127, 0, 0, 1]))
            });
        }
        let reader = std::thread::spawn(move || {
            for client in &mut clients {
                assert_eq!(read_all(client), "stopped");
            }
        });
        running.stop();
        reader.join().unwrap();
    });
}
