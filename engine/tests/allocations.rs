//! Allocations on the hot path, counted: none per mapping once a shard is warm.
//!
//! In:   frames of one router, as the driver hands them to a shard.
//! Out:  how often memory was asked for, from the received bytes to the durable commit.
//! Law:  a frame of a thousand mappings asks for memory no more often than a frame of a hundred.
//! Not:  how much memory is held (`shard` tests), how fast it is (benches).

use std::net::SocketAddr;
use std::sync::Arc;

use engine::io::{Completion, ConnectionId, Now, Op};
use engine::memory::{Budget, Memory};
use engine::metrics::Metric;
use engine::policy::Policy;
use engine::registry::Registry;
use engine::settings::Settings;
use engine::shard::{Shard, ShardSettings};
use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType};
use engine::wire::hello::write_hello;
use engine::wire::xml::write::write_document;
use engine::wire::{Hello, SnapshotMark};
use storage::mapping::{
    Fec, Ingress, Label, Mapping, NextHop, Nhlfe, Operation, RouterId, TimeSource,
};
use storage::time::Micros;

const START: Micros = Micros(1_790_000_000_000_000);
const CONNECTION: ConnectionId = ConnectionId(1);
/// Entries of the router's table; the largest frame speaks of all of them.
const ENTRIES: u32 = 1_000;
/// Bytes of a receive buffer.
const RECEIVE_BYTES: usize = 16 << 10;
/// Frames, and commits, of one measurement.
const FRAMES: u64 = 16;

/// A shard and a disk that is done at once.
struct Bench {
    shard: Shard,
    now: Now,
    length: u64,
    encoder: FrameEncoder,
    sequence: u64,
}

impl Bench {
    fn new() -> Bench {
        let budget = Budget::of_surge(1 << 30);
        let settings = ShardSettings::new(&Settings::default(), 0, &budget);
        let registry = Arc::new(Registry::default());
        let memory = Arc::new(Memory::new(budget));
        let shard = Shard::new(settings, registry, memory, Arc::new(Policy::default()));
        let now = Now { wall: START, monotonic_us: 0 };
        let mut bench = Bench { shard, now, length: 0, encoder: FrameEncoder::new(6), sequence: 0 };
        let peer: SocketAddr = ([192, 0, 2, 1], 4711).into();
        bench.shard.handle(bench.now, Completion::Accepted { connection: CONNECTION, peer });
        bench.turn();
        let mut text = String::new();
        write_hello(
            &Hello {
                router: router(),
                boot_time: Micros(7),
                sequence_first: 1,
                sequence_fresh: 1,
                permanent: true,
                acks: false,
                snapshot: true,
                clock: START,
                interfaces: Vec::new(),
                agent: "bench".into(),
            },
            &mut text,
        );
        let bytes = bench.frame(FrameType::Hello, Codec::None, text.as_bytes());
        bench.receive(&bytes);
        bench
    }

    fn frame(&mut self, frame_type: FrameType, codec: Codec, payload: &[u8]) -> Vec<u8> {
        let sequence = if frame_type == FrameType::Hello { 0 } else { self.sequence + 1 };
        self.sequence = sequence;
        let mut bytes = Vec::new();
        self.encoder.frame(frame_type, codec, FrameFlags::NONE, sequence, payload, &mut bytes);
        bytes
    }

    /// Frames that speak of the first `count` entries, each with the label it is to have.
    fn frames(
        &mut self,
        count: u32,
        codec: Codec,
        label: impl Fn(u64, u32) -> u32,
    ) -> Vec<Vec<u8>> {
        let mark = SnapshotMark::None;
        (0..FRAMES)
            .map(|frame| {
                let mappings: Vec<Mapping> =
                    (0..count).map(|entry| mapping(entry, label(frame, entry))).collect();
                let mut text = String::new();
                write_document(Some(router()), mark, &mappings, &mut text);
                self.frame(FrameType::Mappings, codec, text.as_bytes())
            })
            .collect()
    }

    /// Hands the bytes over in pieces of a receive buffer, digests them and commits the rows.
    fn receive(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(RECEIVE_BYTES) {
            self.shard.handle(self.now, Completion::Received { connection: CONNECTION, bytes });
        }
        self.turn();
        self.now.monotonic_us += 25_000;
        self.now.wall = self.now.wall.offset(25_000);
        self.turn();
    }

    fn turn(&mut self) {
        loop {
            let more = self.shard.digest(self.now);
            let mut done = 0;
            while let Some(op) = self.shard.poll_op() {
                done += 1;
                if let Op::LogCommit { bytes, .. } = op {
                    self.length += bytes.len() as u64;
                    drop(bytes);
                    self.shard.handle(self.now, Completion::LogSynced { length: self.length });
                }
            }
            if !more && done == 0 {
                return;
            }
        }
    }

    /// How often memory is asked for while the frames are received, and the changes they make.
    fn measure(&mut self, frames: &[Vec<u8>]) -> (u64, u64) {
        let changes_before = self.shard.counters().get(Metric::Changes);
        let counted = allocation_counter::measure(|| {
            frames.iter().for_each(|frame| self.receive(frame));
        });
        (counted.count_total, self.shard.counters().get(Metric::Changes) - changes_before)
    }
}

fn router() -> RouterId {
    RouterId([192, 0, 2, 1].into())
}

/// An entry of one of the usual shapes: FTN or ILM, every third with two branches.
fn mapping(entry: u32, label: u32) -> Mapping {
    let label_of = |value| Label::new(value).expect("it is below 2^20");
    let branch = |neighbour: u8| {
        Nhlfe::new(
            [label_of(label)].into_iter().collect(),
            NextHop::Address([10, 0, 0, neighbour].into()),
        )
    };
    let is_ftn = entry.is_multiple_of(2);
    let prefix = std::net::Ipv4Addr::from_bits(0x0a00_0000 + entry * 0x101);
    let branches = if entry.is_multiple_of(3) { 2 } else { 1 };
    Mapping {
        fec: Fec::Ip { prefix: ipnet::IpNet::from(std::net::IpAddr::V4(prefix)), table: 0 },
        ingress: match is_ftn {
            true => Ingress::UNTAGGED,
            false => Ingress::platform(label_of(1_000 + entry)),
        },
        operation: if is_ftn { Operation::Push } else { Operation::Swap },
        branches: (1..=branches).map(branch).collect(),
        event_time: START,
        time_source: TimeSource::Router,
        extra: None,
    }
}

#[test]
fn nothing_is_allocated_per_mapping() {
    let mut bench = Bench::new();
    let codec = [Codec::Zlib, Codec::None];
    let other = |frame: u64, entry: u32| 20_000 + entry + 1_000 * (frame % 2) as u32;
    let same = |_: u64, entry: u32| 21_000 + entry;
    // Warm: the table, the unit, the scratch and the blocks have their size.
    for _ in 0..2 {
        for codec in codec {
            let frames = bench.frames(ENTRIES, codec, other);
            bench.measure(&frames);
        }
    }
    for codec in codec {
        for count in [ENTRIES / 10, ENTRIES] {
            let frames = bench.frames(count, codec, other);
            let (allocated, changes) = bench.measure(&frames);
            let expected = FRAMES * u64::from(count);
            assert!(changes >= expected - u64::from(count), "{changes} of {expected} are changes");
            assert!(allocated <= allowed(&frames), "{codec:?}, changes of {count}: {allocated}");
            // The last of those frames left every entry as these say it.
            let frames = bench.frames(count, codec, same);
            let (allocated, changes) = bench.measure(&frames);
            assert_eq!(changes, 0, "what is said again is no change");
            assert!(allocated <= allowed(&frames), "{codec:?}, repeats of {count}: {allocated}");
        }
    }
}

/// Four for each frame and its commit, one for each further piece that it was received in.
fn allowed(frames: &[Vec<u8>]) -> u64 {
    let pieces = |frame: &Vec<u8>| (frame.len() / RECEIVE_BYTES) as u64;
    frames.iter().map(|frame| 4 + pieces(frame)).sum()
}

#[test]
fn what_is_allocated_per_mapping_is_counted() {
    let mut bench = Bench::new();
    let mut mappings: Vec<Mapping> = (0..ENTRIES).map(|entry| mapping(entry, 16)).collect();
    // The text of an option is kept on the heap: the control of the test above.
    for mapping in &mut mappings {
        mapping.extra = Some("<option name=\"a\">b</option>".into());
    }
    let mut text = String::new();
    write_document(Some(router()), SnapshotMark::None, &mappings, &mut text);
    let frames: Vec<Vec<u8>> = (0..FRAMES)
        .map(|_| bench.frame(FrameType::Mappings, Codec::Zlib, text.as_bytes()))
        .collect();
    bench.measure(&frames);
    let frames = [bench.frame(FrameType::Mappings, Codec::Zlib, text.as_bytes())];
    let (allocated, _) = bench.measure(&frames);
    assert!(allocated >= u64::from(ENTRIES), "{allocated}");
}
