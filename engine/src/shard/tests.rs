//! Tests of one shard, driven by hand: what goes in, what comes out, in which order.

use std::net::SocketAddr;

use storage::log::{Filter, verify};
use storage::mapping::{
    Fec, Ingress, Label, Mapping, NextHop, Nhlfe, Operation, RouterId, TimeSource,
};
use storage::row::{Cause, ChangeKind, Row};
use storage::time::{Hour, Micros};

use super::*;
use crate::memory::Budget;
use crate::settings::Settings;
use crate::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, decode_ack, encode_empty};
use crate::wire::hello::write_hello;
use crate::wire::xml::write::write_document;
use crate::wire::{Hello, SnapshotMark};

mod surge;
mod storm;
mod fair;
mod pressure;
mod room;
mod honesty;
mod sessions;
mod snapshots;

pub(super) const ROUTER: RouterId =
    RouterId(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
pub(super) const START: Micros = Micros(1_790_000_000_000_000);

/// A shard with a hand on each side: what it writes goes to a real folder at once or when told.
pub(super) struct Bench {
    pub(super) shard: Shard,
    pub(super) now: Now,
    pub(super) data: tempfile::TempDir,
    /// Written and not synced.
    pub(super) unsynced: Vec<u8>,
    pub(super) sync_asked: bool,
    /// Whether a sync ends as soon as it is asked for.
    pub(super) sync_at_once: bool,
    pub(super) hour: Option<Hour>,
    pub(super) prepared: Vec<Hour>,
    pub(super) acked: BTreeMap<ConnectionId, u64>,
    pub(super) closed: BTreeMap<ConnectionId, bool>,
    pub(super) receiving: BTreeMap<ConnectionId, bool>,
    pub(super) accepting: bool,
    pub(super) told: Vec<(usize, Message)>,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut ShardSettings)) -> Bench {
        Bench::within(Budget::of_surge(1 << 30), change)
    }

    /// A shard that has this budget for itself.
    pub(super) fn within(budget: Budget, change: impl FnOnce(&mut ShardSettings)) -> Bench {
        Bench::sharing(&Arc::new(Memory::new(budget)), change)
    }

    /// A shard that shares its budget with others.
    pub(super) fn sharing(memory: &Arc<Memory>, change: impl FnOnce(&mut ShardSettings)) -> Bench {
        let mut settings = ShardSettings::new(&Settings::default(), 0, memory.budget());
        change(&mut settings);
        let registry = Arc::new(Registry::default());
        let policy = Arc::new(Policy::default());
        Bench {
            shard: Shard::new(settings, registry, Arc::clone(memory), policy),
            now: Now { wall: START, monotonic_us: 0 },
            data: tempfile::tempdir().unwrap(),
            unsynced: Vec::new(),
            sync_asked: false,
            sync_at_once: true,
            hour: None,
            prepared: Vec::new(),
            acked: BTreeMap::new(),
            closed: BTreeMap::new(),
            receiving: BTreeMap::new(),
            accepting: false,
            told: Vec::new(),
        }
    }

    pub(super) fn pass(&mut self, us: u64) {
        self.now.monotonic_us += us;
        self.now.wall = self.now.wall.offset(us as i64);
    }

    pub(super) fn handle(&mut self, completion: Completion<'_>) {
        self.shard.handle(self.now, completion);
    }

    /// Digests everything and does what the shard asks for.
    pub(super) fn turn(&mut self) {
        loop {
            let more = self.shard.digest(self.now);
            assert_eq!(self.shard.ledger_balance(), Balance::default());
            let mut done = 0;
            while let Some(op) = self.shard.poll_op() {
                self.act(op);
                done += 1;
            }
            if !more && done == 0 {
                let due_us = self.shard.poll_timeout();
                assert!(due_us.is_none_or(|due_us| due_us > self.now.monotonic_us), "{due_us:?}");
                return;
            }
        }
    }

    /// Turns until every commit that is due is durable.
    pub(super) fn settle(&mut self) {
        self.turn();
        self.pass(self.shard.settings.commit_interval_us);
        self.turn();
    }

    pub(super) fn act(&mut self, op: Op) {
        match op {
            Op::Accept => self.accepting = true,
            Op::PauseAccept => self.accepting = false,
            Op::Receive { connection } => drop(self.receiving.insert(connection, true)),
            Op::PauseReceive { connection } => drop(self.receiving.insert(connection, false)),
            Op::Send { connection, bytes } => {
                for ack in bytes.chunks(crate::wire::frame::HEADER_BYTES) {
                    let sequence = decode_ack(ack).unwrap().unwrap();
                    self.acked.insert(connection, sequence);
                }
            }
            Op::Close { connection, reset } => {
                self.closed.insert(connection, reset);
                self.handle(Completion::Closed { connection });
            }
            Op::LogCommit { hour, bytes } => {
                self.hour = Some(hour);
                self.unsynced = bytes.to_vec();
                self.sync_asked = true;
                if self.sync_at_once {
                    self.sync();
                }
            }
            Op::LogPrepare { hour } => self.prepared.push(hour),
            Op::Tell { shard, message } => self.told.push((shard, message)),
        }
    }

    /// The commit that was asked for fails.
    pub(super) fn fail(&mut self, errno: i32) {
        assert!(std::mem::take(&mut self.sync_asked), "a sync is under way");
        self.unsynced.clear();
        self.handle(Completion::LogFailed { errno });
    }

    /// Ends the sync that was asked for.
    pub(super) fn sync(&mut self) {
        assert!(std::mem::take(&mut self.sync_asked), "a sync is under way");
        let hour = self.hour.expect("a log is open before it is written");
        let path = storage::log::log_path(self.data.path(), hour, 0);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, &self.unsynced).unwrap();
        self.unsynced.clear();
        let length = file.metadata().unwrap().len();
        self.handle(Completion::LogSynced { length });
    }

    pub(super) fn connect(&mut self, id: u64, peer: &str) -> ConnectionId {
        let connection = ConnectionId(id);
        let peer: SocketAddr = peer.parse().unwrap();
        self.handle(Completion::Accepted { connection, peer });
        self.turn();
        connection
    }

    pub(super) fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.handle(Completion::Received { connection, bytes });
        self.turn();
    }

    pub(super) fn end(&mut self, connection: ConnectionId, reason: Reason) {
        self.handle(Completion::ReceiveEnded { connection, reason });
        self.turn();
    }

    /// Every row that is on disk, verified.
    pub(super) fn rows(&self) -> Vec<Row> {
        let report = verify(self.data.path()).unwrap();
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        let mut rows = Vec::new();
        let filter = Filter { changes: true, sessions: true, ledger: true, ..Filter::NONE };
        storage::log::read(self.data.path(), &filter, &mut |row| rows.push(row)).unwrap();
        rows
    }

    /// The words of the router's rows that are on disk, in order.
    pub(super) fn story(&self) -> Vec<&'static str> {
        let mut words: Vec<_> = self
            .rows()
            .into_iter()
            .filter_map(|row| match row {
                Row::Change(change) => Some((change.stamp.position, change.stamp.kind.name())),
                Row::Session(row) => Some((row.position, row.event.name())),
                Row::Ledger(_) | Row::Kernel(_) => None,
            })
            .collect();
        words.sort_unstable();
        words.into_iter().map(|word| word.1).collect()
    }

    pub(super) fn kinds(&self) -> Vec<ChangeKind> {
        let kind = |row: Row| match row {
            Row::Change(change) => Some(change.stamp.kind),
            _ => None,
        };
        self.rows().into_iter().filter_map(kind).collect()
    }
}

pub(super) fn hello(sequence_first: u64, sequence_fresh: u64, snapshot: bool) -> Vec<u8> {
    hello_of(Hello { sequence_first, sequence_fresh, snapshot, ..first_hello(ROUTER) })
}

/// The first words of a permanent session with acks, in which no snapshot is announced.
pub(super) fn first_hello(router: RouterId) -> Hello {
    Hello {
        router,
        boot_time: Micros(7),
        sequence_first: 1,
        sequence_fresh: 1,
        permanent: true,
        acks: true,
        snapshot: false,
        clock: START,
        interfaces: Vec::new(),
        agent: "bench".into(),
    }
}

pub(super) fn hello_of(hello: Hello) -> Vec<u8> {
    let mut text = String::new();
    write_hello(&hello, &mut text);
    let mut bytes = Vec::new();
    let (codec, flags) = (Codec::None, FrameFlags::NONE);
    FrameEncoder::new(1).frame(FrameType::Hello, codec, flags, 0, text.as_bytes(), &mut bytes);
    bytes
}

/// An ILM entry of `label` that swaps to `out`, or, with 0, its withdrawal.
pub(super) fn mapping(label: u32, out: u32) -> Mapping {
    let swap = Nhlfe::new(
        [Label::new(out).unwrap()].into_iter().collect(),
        NextHop::Address([10, 0, 0, 2].into()),
    );
    Mapping {
        fec: Fec::Unknown,
        ingress: Ingress::platform(Label::new(label).unwrap()),
        operation: if out == 0 { Operation::None } else { Operation::Swap },
        branches: if out == 0 { Default::default() } else { [swap].into_iter().collect() },
        event_time: START,
        time_source: TimeSource::Router,
        extra: None,
    }
}

pub(super) fn document(snapshot: SnapshotMark, mappings: &[Mapping]) -> Vec<u8> {
    let mut text = String::new();
    write_document(Some(ROUTER), snapshot, mappings, &mut text);
    text.into_bytes()
}

pub(super) fn frame(sequence: u64, part: bool, mappings: &[Mapping]) -> Vec<u8> {
    let text = document(SnapshotMark::None, mappings);
    let flags = if part { FrameFlags::SNAPSHOT_PART } else { FrameFlags::NONE };
    let mut bytes = Vec::new();
    let mut encoder = FrameEncoder::new(1);
    encoder.frame(FrameType::Mappings, Codec::Zlib, flags, sequence, &text, &mut bytes);
    bytes
}

pub(super) fn empty(frame_type: FrameType, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_empty(frame_type, sequence, &mut bytes);
    bytes
}
