//! Frames, encoded before they are due, so that a run measures the collector and not its generator.
//!
//! In:   tables and changes of the model; the protocol's own writers (`engine::wire`).
//! Out:  `Frame`s with their intended times; sequences are written in when a frame is sent.
//! Law:  changes of one unit are never split over two frames, nor two epochs put into one.
//! Not:  connections, acks and re-sending (`sender`).

use engine::wire::SnapshotMark;
use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, Header};
use engine::wire::xml::write::write_document;
use storage::mapping::{Mapping, RouterId};
use storage::time::Micros;

use crate::world::World;

/// Mappings of one snapshot frame: about 5 KiB compressed.
pub const SNAPSHOT_FRAME_MAPPINGS: usize = 250;
/// Units (FECs, as a rule) of one frame of changes: an agent collects for a few milliseconds.
pub const CHANGE_FRAME_UNITS: usize = 50;
/// Documents below this are sent as they are: inflating them costs more than it saves.
const COMPRESS_BYTES_MIN: usize = 1_024;
/// Fastest level of the compressor.
const COMPRESSION_LEVEL: i32 = 1;
/// How long an agent holds changes back before it reports them, at most (draft section 2.1:
/// sent when the router has time, stamped with when they happened).
const REPORT_DELAY_US_MAX: i64 = 20_000;

/// What a frame is for; a reconnecting sender replaces what is left of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRole {
    /// Part of a snapshot, or its end.
    Snapshot,
    /// Changes.
    Change,
}

/// A frame that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Header and payload.
    pub bytes: Vec<u8>,
    /// What it is for.
    pub role: FrameRole,
    /// When it is due: latencies count from here, sent late or not.
    pub intended: Micros,
    /// Mappings in it.
    pub mappings: u64,
    /// Bytes of its document before compression.
    pub document_bytes: u64,
    /// Event time of its last mapping: a router that has sent it has said everything up to here.
    pub until: Micros,
    /// Its sequence, once it has one.
    pub sequence: u64,
}

impl Frame {
    /// Whether it ends a snapshot: the only frame without mappings.
    pub fn is_snapshot_end(&self) -> bool {
        self.role == FrameRole::Snapshot && self.mappings == 0
    }

    /// Gives the frame its sequence.
    pub fn number(&mut self, sequence: u64) {
        self.sequence = sequence;
        let header = self.bytes.first_chunk().map(|bytes: &[u8; HEADER_BYTES]| Header::read(bytes));
        let header = header.and_then(Result::ok).expect("the encoder has written a whole header");
        self.bytes[..HEADER_BYTES].copy_from_slice(&Header { sequence, ..header }.write());
    }
}

/// Writes frames; keeps its buffers from frame to frame.
pub struct Encoder {
    frames: FrameEncoder,
    compress_bytes_min: usize,
    document: String,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new(COMPRESSION_LEVEL, COMPRESS_BYTES_MIN)
    }
}

impl Encoder {
    /// Compresses at `level`, 1 (fastest) to 12, documents of `compress_bytes_min` bytes or more.
    pub fn new(level: i32, compress_bytes_min: usize) -> Encoder {
        Encoder { frames: FrameEncoder::new(level), compress_bytes_min, document: String::new() }
    }

    /// A whole table as a snapshot: its parts, then its end.
    pub fn snapshot(
        &mut self,
        router: RouterId,
        table: &[Mapping],
        intended: Micros,
        until: Micros,
    ) -> Vec<Frame> {
        let parts = table.chunks(SNAPSHOT_FRAME_MAPPINGS);
        let mut frames: Vec<Frame> = parts
            .map(|part| self.mappings(Some(router), FrameRole::Snapshot, part, intended, until))
            .collect();
        let mut bytes = Vec::new();
        engine::wire::frame::encode_empty(FrameType::SnapshotComplete, 0, &mut bytes);
        let role = FrameRole::Snapshot;
        frames.push(Frame {
            bytes,
            role,
            intended,
            mappings: 0,
            document_bytes: 0,
            until,
            sequence: 0,
        });
        frames
    }

    /// One frame of mappings. Without a router its document names none: hello has said whose it is,
    /// and the same bytes may be sent by several routers.
    pub fn mappings(
        &mut self,
        router: Option<RouterId>,
        role: FrameRole,
        mappings: &[Mapping],
        intended: Micros,
        until: Micros,
    ) -> Frame {
        self.document.clear();
        write_document(router, SnapshotMark::None, mappings, &mut self.document);
        let small = self.document.len() < self.compress_bytes_min;
        let codec = if small { Codec::None } else { Codec::Zlib };
        let flags = match role {
            FrameRole::Snapshot => FrameFlags::SNAPSHOT_PART,
            FrameRole::Change => FrameFlags::NONE,
        };
        let mut bytes = Vec::new();
        let payload = self.document.as_bytes();
        self.frames.frame(FrameType::Mappings, codec, flags, 0, payload, &mut bytes);
        let document_bytes = self.document.len() as u64;
        let mappings = mappings.len() as u64;
        Frame { bytes, role, intended, mappings, document_bytes, until, sequence: 0 }
    }

    /// The first snapshot of a router of the world.
    pub fn first_snapshot(
        &mut self,
        world: &World,
        router_index: usize,
        intended: Micros,
    ) -> Vec<Frame> {
        let router = world.network.topology.routers[router_index].id;
        let start = world.said(router_index, world.start);
        let table = world.network.table(&world.first, router_index, start);
        self.snapshot(router, &table, intended, world.start)
    }

    /// What a router says of an act that is staged. Empty when nothing changes there.
    pub fn changes(&mut self, world: &World, act: usize, router_index: usize) -> Vec<Frame> {
        let router = world.network.topology.routers[router_index].id;
        let delay_us = report_delay_us(router_index);
        let mut frames = Vec::new();
        let mut mappings = Vec::new();
        // Nothing is sent before what was said before it.
        let mut sent = Micros::MIN;
        for (index, epoch) in world.plan.epochs_of(act) {
            let Some(began) = world.epoch_began(index) else { continue };
            let Some(reaction) = epoch.reactions.get(&router_index) else { continue };
            let states = [world.plan.before(&world.first, index, router_index), &epoch.state];
            let places: Vec<usize> = (0..reaction.units.len()).collect();
            for chunk in places.chunks(CHANGE_FRAME_UNITS) {
                mappings.clear();
                let mut until = began;
                for place in chunk {
                    until = began.offset(reaction.time_us(*place));
                    let unit = reaction.units[*place];
                    let said = world.said(router_index, until);
                    world.network.changes(states, router_index, unit, said, &mut mappings);
                }
                // A unit may differ in what no entry shows.
                if mappings.is_empty() {
                    continue;
                }
                let report = match reaction.deferred_us {
                    Some(late_us) => began.offset(reaction.end_us() + late_us),
                    None => until.offset(delay_us),
                };
                let intended = report.max(sent);
                sent = intended;
                let role = FrameRole::Change;
                frames.push(self.mappings(Some(router), role, &mappings, intended, until));
            }
        }
        frames
    }
}

/// Spread evenly over the routers: neighbours in the list do not report together.
fn report_delay_us(router_index: usize) -> i64 {
    // 0x9e37… = 2^32 / golden ratio: consecutive numbers land far apart.
    let mixed = (router_index as u64).wrapping_mul(0x9e37_79b1) % (1 << 32);
    (i64::try_from(mixed).expect("below 2^32") * REPORT_DELAY_US_MAX) >> 32
}

/// Encodes for every router on `threads` threads; the result is in the order of the routers.
pub fn encode_all(
    routers: usize,
    threads: usize,
    encode: impl Fn(&mut Encoder, usize) -> Vec<Frame> + Sync,
) -> Vec<Vec<Frame>> {
    let mut frames: Vec<Vec<Frame>> = (0..routers).map(|_| Vec::new()).collect();
    let share = routers.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (part, slots) in frames.chunks_mut(share).enumerate() {
            let encode = &encode;
            scope.spawn(move || {
                let mut encoder = Encoder::default();
                for (place, slot) in slots.iter_mut().enumerate() {
                    *slot = encode(&mut encoder, part * share + place);
                }
            });
        }
    });
    frames
}

#[cfg(test)]
mod tests {
    use engine::wire::decoder::Decoder;
    use engine::wire::{Step, Tools, Unit, UnitKind, WireLimits};

    use super::*;
    use crate::topology::Shape;

    fn world() -> World {
        let shape = Shape { routers: 120, edges: 40, seed: 3 };
        let world = World::generate(&shape.into(), Micros(1_700_000_000_000_000)).unwrap();
        world.stage(0, Micros(1_700_000_100_000_000));
        world
    }

    /// Reads frames as the collector does: a hello, then these.
    fn read(frames: &[Frame]) -> Vec<(UnitKind, Option<u64>, SnapshotMark, Vec<Mapping>)> {
        let mut hello = String::new();
        engine::wire::hello::write_hello(
            &engine::wire::Hello {
                router: RouterId("172.16.0.1".parse().unwrap()),
                boot_time: Micros(1),
                sequence_first: 1,
                sequence_fresh: 1,
                permanent: true,
                acks: true,
                snapshot: true,
                clock: Micros(1),
                interfaces: vec![],
                agent: "test".into(),
            },
            &mut hello,
        );
        let mut bytes = Vec::new();
        let mut encoder = FrameEncoder::new(COMPRESSION_LEVEL);
        let payload = hello.as_bytes();
        let flags = FrameFlags::NONE;
        encoder.frame(FrameType::Hello, Codec::None, flags, 0, payload, &mut bytes);
        frames.iter().for_each(|frame| bytes.extend_from_slice(&frame.bytes));
        let (mut decoder, mut unit) = (Decoder::new(), Unit::new());
        let mut tools = Tools::new(WireLimits::default());
        let mut units = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            unit.clear();
            match decoder.next(rest, Micros(2), &mut tools, &mut unit) {
                Step::Unit { consumed } => rest = &rest[consumed..],
                other => panic!("{other:?}"),
            }
            assert_eq!(unit.rejected, []);
            let mappings = std::mem::take(&mut unit.mappings);
            units.push((unit.kind.clone(), unit.sequence, unit.snapshot, mappings));
        }
        units.split_off(1)
    }

    #[test]
    fn a_snapshot_is_read_back_as_the_table_and_ends_with_its_end() {
        let world = world();
        let router_index = world.network.topology.edges[3];
        let mut frames = Encoder::default().first_snapshot(&world, router_index, Micros(7));
        for (sequence, frame) in (1..).zip(&mut frames) {
            frame.number(sequence);
        }
        let units = read(&frames);
        let (end, parts) = units.split_last().unwrap();
        assert_eq!((&end.0, end.1), (&UnitKind::SnapshotComplete, Some(frames.len() as u64)));
        assert!(parts.iter().all(|part| part.2 == SnapshotMark::Part));
        let said: Vec<Mapping> = parts.iter().flat_map(|part| part.3.clone()).collect();
        assert_eq!(said, world.network.table(&world.first, router_index, world.start));
    }

    #[test]
    fn changes_are_read_back_with_their_times_and_turn_one_table_into_the_other() {
        let world = world();
        let key = world.key();
        let epoch = &world.plan.epochs[0];
        let end = world.began(0).unwrap().offset(epoch.span_us().unwrap().1);
        let mut spoke = 0;
        for router_index in 0..120 {
            let mut frames = Encoder::default().changes(&world, 0, router_index);
            frames.iter_mut().zip(1..).for_each(|(frame, sequence)| frame.number(sequence));
            let mut table: std::collections::BTreeMap<_, _> = key
                .table(router_index, world.start)
                .into_iter()
                .map(|mapping| (mapping.key(), mapping))
                .collect();
            for (frame, unit) in frames.iter().zip(read(&frames)) {
                assert_eq!(unit.3.last().unwrap().event_time, frame.until);
                assert!(frame.intended >= frame.until);
                assert_eq!((unit.2, unit.3.len() as u64), (SnapshotMark::None, frame.mappings));
                table.extend(unit.3.into_iter().map(|mapping| (mapping.key(), mapping)));
            }
            spoke += usize::from(!frames.is_empty());
            let table: Vec<Mapping> = table.into_values().collect();
            assert_eq!(table, key.table(router_index, end));
        }
        assert_eq!(spoke, epoch.reactions.len());
    }

    #[test]
    fn every_router_is_encoded_once_whatever_the_number_of_threads() {
        let world = world();
        let encode = |encoder: &mut Encoder, router: usize| {
            encoder.first_snapshot(&world, router, Micros(0))
        };
        let one = encode_all(120, 1, encode);
        assert_eq!(encode_all(120, 7, encode), one);
        assert!(one.iter().all(|frames| frames.len() > 1));
    }
}
