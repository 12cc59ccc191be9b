//! Tables in memory, and the path of a frame into them: the collector's own parts, nothing else.
//!
//! In:   how many routers, entries and faces; batches of frames that it makes itself.
//! Out:  each stage's work done on a batch.
//! Law:  the steps are those of `Shard::apply_mappings`, without its books.
//! Not:  time (`decode`).

use engine::wire::decoder::Decoder;
use engine::wire::{SnapshotMark, Step, Tools, Unit, WireLimits};
use libdeflater::Decompressor;
use loadgen::workload::Frame;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use storage::log::BlockBuilder;
use storage::mapping::Mapping;
use storage::router::RouterState;
use storage::row::{Basis, Position, Stamp};
use storage::table::{Arrival, Round};
use storage::time::Micros;

use super::Kind;
use crate::corpus::{self, Face, Writer};

/// When the corpus begins; the collector reads it a moment later.
pub(crate) const START: Micros = Micros(1_795_323_600_000_000);
/// A block is given to the disk at this length: `commit_bytes`, its default.
const BLOCK_BYTES: usize = 1 << 20;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) routers: usize,
    pub(crate) entries: usize,
    pub(crate) faces: usize,
}

/// Frames of several routers, one behind the other.
pub(crate) struct Batch {
    /// Headers and payloads.
    pub(crate) bytes: Vec<u8>,
    frames: Vec<FramePlace>,
    /// Mappings in all of them.
    pub(crate) mappings: u64,
    /// Bytes of their documents.
    pub(crate) inflated_bytes: u64,
}

/// (Router, first byte, byte behind the last) of a frame of a batch.
pub(crate) type FramePlace = (usize, usize, usize);

impl Batch {
    /// Where its frames are.
    pub(crate) fn frames(&self) -> &[FramePlace] {
        &self.frames
    }

    /// Whose frame that is, and its bytes.
    pub(crate) fn frame(&self, &(router, start, end): &FramePlace) -> (usize, &[u8]) {
        (router, &self.bytes[start..end])
    }
}

/// What a pass over a batch did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Mappings that became change rows.
    pub(crate) changes: u64,
}

struct Router {
    state: RouterState,
    decoder: Decoder,
    sequence: u64,
}

/// Routers with their tables, and one core's tools.
pub(crate) struct Resident {
    faces: Vec<Face>,
    /// Per face, what is left of its table for snapshots, shuffled.
    parts: Vec<Vec<Mapping>>,
    routers: Vec<Router>,
    /// Whose frame is made next.
    turn: usize,
    chance: ChaCha8Rng,
    writer: Writer,
    decompressor: Decompressor,
    inflated: Vec<u8>,
    tools: Tools,
    unit: Unit,
    round: Round,
    builder: BlockBuilder,
    block: Vec<u8>,
    rows: u64,
    now: Micros,
}

impl Resident {
    /// Every router has the table of its face.
    pub(crate) fn new(seed: u64, size: Size) -> Resident {
        let face = |number| Face::new(seed, number, size.entries, START);
        let faces: Vec<Face> = (0..size.faces).map(face).collect();
        let mut tools = Tools::new(WireLimits::default());
        let mut unit = Unit::new();
        let routers = (0..size.routers)
            .map(|number| router(number, faces[number % size.faces].table(), &mut tools, &mut unit))
            .collect();
        Resident {
            parts: faces.iter().map(|_| Vec::new()).collect(),
            faces,
            routers,
            turn: 0,
            chance: ChaCha8Rng::seed_from_u64(seed),
            writer: Writer::new(),
            decompressor: Decompressor::new(),
            inflated: Vec::new(),
            tools,
            unit,
            round: Round::default(),
            builder: BlockBuilder::new(0),
            block: Vec::new(),
            rows: 0,
            now: START.offset(1_000_000),
        }
    }

    /// The next frames, the routers in turn.
    pub(crate) fn batch(&mut self, kind: Kind, frames: usize, per_frame: usize) -> Batch {
        let (bytes, frame_places) = (Vec::new(), Vec::with_capacity(frames));
        let mut batch = Batch { bytes, frames: frame_places, mappings: 0, inflated_bytes: 0 };
        for _ in 0..frames {
            let place = self.turn % self.routers.len();
            self.turn += 1;
            let frame = match kind {
                Kind::Change => {
                    let face = place % self.faces.len();
                    self.writer.changes(&mut self.faces[face], per_frame)
                }
                Kind::Snapshot => self.part(place, per_frame),
            };
            let start = batch.bytes.len();
            let sequence = &mut self.routers[place].sequence;
            corpus::put_frame(&frame, *sequence, &mut batch.bytes);
            *sequence += 1;
            batch.frames.push((place, start, batch.bytes.len()));
            batch.mappings += frame.mappings;
            batch.inflated_bytes += frame.document_bytes;
        }
        batch
    }

    fn part(&mut self, place: usize, per_frame: usize) -> Frame {
        let face = place % self.faces.len();
        let left = &mut self.parts[face];
        if left.len() < per_frame {
            left.clear();
            left.extend_from_slice(self.faces[face].table());
            left.shuffle(&mut self.chance);
        }
        let part = left.split_off(left.len().saturating_sub(per_frame));
        self.writer.part(&part)
    }

    /// The least that the bytes cost: inflating each frame, and nothing else.
    #[inline(never)]
    pub(crate) fn inflate(&mut self, batch: &Batch) {
        for &(_, start, end) in &batch.frames {
            let (payload, length) = corpus::payload(&batch.bytes[start..end]);
            self.inflated.resize(length, 0);
            let done = self.decompressor.zlib_decompress(payload, &mut self.inflated);
            std::hint::black_box(done.expect("the corpus is intact"));
        }
    }

    /// Checksum, inflate and parse.
    #[inline(never)]
    pub(crate) fn decode(&mut self, batch: &Batch) {
        for frame in &batch.frames {
            self.read(batch, *frame);
            std::hint::black_box(&self.unit.mappings);
        }
    }

    /// The same, and the table.
    #[inline(never)]
    pub(crate) fn apply(&mut self, batch: &Batch) -> Done {
        self.apply_all(batch, false)
    }

    /// The same, and the rows in blocks: everything up to the disk.
    #[inline(never)]
    pub(crate) fn whole(&mut self, batch: &Batch) -> Done {
        self.apply_all(batch, true)
    }

    /// Takes the tables away: another has them from now on, and only batches are made here.
    pub(crate) fn take_states(&mut self) -> Vec<RouterState> {
        let taken = |(number, router): (usize, &mut Router)| {
            let empty = RouterState::new(corpus::router(number));
            std::mem::replace(&mut router.state, empty)
        };
        self.routers.iter_mut().enumerate().map(taken).collect()
    }

    /// Rows appended so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    #[inline(always)]
    fn apply_all(&mut self, batch: &Batch, append: bool) -> Done {
        let mut done = Done::default();
        for frame in &batch.frames {
            self.read(batch, *frame);
            let Router { state, .. } = &mut self.routers[frame.0];
            let sequence = self.unit.sequence.unwrap_or(0);
            let position = Position { generation: 1, sequence, index: 0 };
            let shown = self.unit.snapshot != SnapshotMark::None;
            let basis = if shown { Basis::Snapshot } else { Basis::Live };
            let mut arrival = Arrival { position, collection_time: self.now, basis };
            let builder = &mut self.builder;
            let on_change = &mut |stamp: &Stamp, mapping: &Mapping| {
                if append {
                    builder.change(stamp, mapping);
                }
            };
            let mappings = &self.unit.mappings;
            done.changes += state.apply_all(&mut self.round, mappings, &mut arrival, on_change);
            self.now = self.now.offset(1);
            if self.builder.bytes() >= BLOCK_BYTES {
                self.block.clear();
                self.rows += self.builder.rows() as u64;
                self.builder.finish(&mut self.block);
            }
        }
        if append {
            self.block.clear();
            self.rows += self.builder.rows() as u64;
            self.builder.finish(&mut self.block);
        }
        done
    }

    #[inline(always)]
    fn read(&mut self, batch: &Batch, (router, start, end): FramePlace) {
        let bytes = &batch.bytes[start..end];
        let decoder = &mut self.routers[router].decoder;
        let step = decoder.next(bytes, self.now, &mut self.tools, &mut self.unit);
        let consumed = end - start;
        assert_eq!(step, Step::Unit { consumed }, "the corpus is intact");
    }
}

fn router(number: usize, table: &[Mapping], tools: &mut Tools, unit: &mut Unit) -> Router {
    let id = corpus::router(number);
    let mut decoder = Decoder::new();
    let hello = corpus::hello(id, START, false, true);
    let step = decoder.next(&hello, START, tools, unit);
    assert_eq!(step, Step::Unit { consumed: hello.len() }, "a hello of ours is read");
    let mut state = RouterState::new(id);
    let position = Position { generation: 1, sequence: 1, index: 0 };
    let mut arrival = Arrival { position, collection_time: START, basis: Basis::Snapshot };
    state.apply_all(&mut Round::default(), table, &mut arrival, &mut |_, _| {});
    Router { state, decoder, sequence: 1 }
}
