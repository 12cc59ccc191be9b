//! What is sent: one corpus for every bench, made from a seed.
//!
//! In:   a seed, how many entries a table has, how many mappings go into a frame.
//! Out:  faces (tables of a kind of router, and how they change), frames, streams of a connection.
//! Law:  the same seed gives the same bytes but for the times; a change says another value than
//!       the one before, so that none is a mere confirmation.
//! Not:  who sends it (`crew`, benches), or how a frame is written (`workload`).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::workload::{Encoder, Frame, FrameRole};
use engine::wire::Hello;
use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, Header};
use engine::wire::hello::write_hello;
use ipnet::{IpNet, Ipv4Net};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::mapping::{
    Fec, Ingress, Label, Mapping, NextHop, Nhlfe, Operation, RouterId, TimeSource,
};
use storage::time::Micros;

/// Level of the compressor: zlib's default, what an agent that never thought about it uses.
pub const ZLIB_LEVEL: i32 = 6;
/// Every document of the corpus is compressed, however small.
const COMPRESS_ALL: usize = 0;
/// Next hops of one router.
const NEIGHBOURS: usize = 8;
/// Of a hundred entries so many have a second branch: 1.3 branches per entry.
const TWO_BRANCHES_PERCENT: u32 = 30;
/// Of a hundred prefixes so many are loopbacks, /32; the others are /16 to /30.
const LOOPBACKS_PERCENT: u32 = 70;
/// Longest time from one change of a router to its next.
const GAP_US_MAX: i64 = 400;

/// A kind of router: its table as last said, and the chance that changes it.
///
/// Half of its entries are FTN entries (push), half are ILM entries (swap); prefixes, labels and
/// next hops are random, the order of changes is too.
pub struct Face {
    chance: ChaCha8Rng,
    neighbours: [IpAddr; NEIGHBOURS],
    table: Vec<Mapping>,
    /// Places of entries that have not changed in this pass over the table.
    order: Vec<usize>,
    time: Micros,
}

impl Face {
    /// The face of this number. Its entries are as old as `start`.
    pub fn new(seed: u64, number: usize, entries: usize, start: Micros) -> Face {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(number as u64);
        let neighbours = std::array::from_fn(|_| address(&mut chance));
        let order = Vec::new();
        let mut face = Face { chance, neighbours, table: Vec::new(), order, time: start };
        let mut keys = HashSet::with_capacity(entries);
        while face.table.len() < entries {
            let mapping = face.entry();
            if keys.insert(mapping.key()) {
                face.table.push(mapping);
            }
        }
        face
    }

    /// The table as last said.
    pub fn table(&self) -> &[Mapping] {
        &self.table
    }

    /// Changes the next `count` entries; every entry has its turn before one has a second.
    pub fn change(&mut self, count: usize, said: &mut Vec<Mapping>) {
        said.clear();
        for _ in 0..count {
            if self.order.is_empty() {
                self.order.extend(0..self.table.len());
                self.order.shuffle(&mut self.chance);
            }
            let Some(place) = self.order.pop() else { return };
            self.time = self.time.offset(self.chance.random_range(1..=GAP_US_MAX));
            // A new label differs from the old one but once in a million.
            let branches = self.branches();
            let mapping = &mut self.table[place];
            mapping.branches = branches;
            mapping.normalise();
            mapping.event_time = self.time;
            said.push(mapping.clone());
        }
    }

    fn entry(&mut self) -> Mapping {
        let prefix = prefix(&mut self.chance);
        let is_transit = self.chance.random_bool(0.5);
        let (ingress, operation) = if is_transit {
            (Ingress::platform(label(&mut self.chance)), Operation::Swap)
        } else {
            (Ingress::UNTAGGED, Operation::Push)
        };
        let mut mapping = Mapping {
            fec: Fec::Ip { prefix, table: 0 },
            ingress,
            operation,
            branches: self.branches(),
            event_time: self.time,
            time_source: TimeSource::Router,
            extra: None,
        };
        mapping.normalise();
        mapping
    }

    fn branches(&mut self) -> storage::mapping::Branches {
        let count = 1 + usize::from(self.chance.random_range(0..100) < TWO_BRANCHES_PERCENT);
        let first = self.chance.random_range(0..NEIGHBOURS);
        let branch = |place: usize| {
            Nhlfe::new(
                [label(&mut self.chance)].into_iter().collect(),
                NextHop::Address(self.neighbours[(first + place) % NEIGHBOURS]),
            )
        };
        (0..count).map(branch).collect()
    }
}

/// A label that is not reserved.
fn label(chance: &mut ChaCha8Rng) -> Label {
    let value = chance.random_range(Label::RESERVED_MAX + 1..=Label::MAX);
    Label::new(value).expect("the range ends at the largest label")
}

/// An address of somebody's, none of this host's.
fn address(chance: &mut ChaCha8Rng) -> IpAddr {
    let [a, b, c, d] = chance.random::<u32>().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(11 + a % 100, b, c, d))
}

fn prefix(chance: &mut ChaCha8Rng) -> IpNet {
    let IpAddr::V4(address) = address(chance) else { unreachable!("made as IPv4 above") };
    let is_loopback = chance.random_range(0..100) < LOOPBACKS_PERCENT;
    let length = if is_loopback { 32 } else { chance.random_range(16..=30) };
    IpNet::V4(Ipv4Net::new(address, length).expect("at most 32").trunc())
}

/// Writes the corpus's frames.
pub struct Writer {
    encoder: Encoder,
    said: Vec<Mapping>,
}

impl Default for Writer {
    fn default() -> Self {
        Writer::new()
    }
}

impl Writer {
    /// Compresses every document.
    pub fn new() -> Writer {
        Writer { encoder: Encoder::new(ZLIB_LEVEL, COMPRESS_ALL), said: Vec::new() }
    }

    /// Compresses no document: what a frame of one mapping should be sent as.
    pub fn plain() -> Writer {
        Writer { encoder: Encoder::new(ZLIB_LEVEL, usize::MAX), said: Vec::new() }
    }

    /// The next changes of a face, as one frame. Its document names no router: hello has done so.
    pub fn changes(&mut self, face: &mut Face, mappings: usize) -> Frame {
        face.change(mappings, &mut self.said);
        let (role, time) = (FrameRole::Change, face.time);
        self.encoder.mappings(None, role, &self.said, time, time)
    }

    /// Part of a snapshot.
    pub fn part(&mut self, mappings: &[Mapping]) -> Frame {
        let time = mappings.last().map_or(Micros(0), |mapping| mapping.event_time);
        self.encoder.mappings(None, FrameRole::Snapshot, mappings, time, time)
    }
}

/// Appends a frame under this sequence. The same frame may go to several connections.
pub fn put_frame(frame: &Frame, sequence: u64, out: &mut Vec<u8>) {
    put_bytes(&frame.bytes, sequence, out);
}

/// Appends the bytes of a frame under this sequence.
fn put_bytes(bytes: &[u8], sequence: u64, out: &mut Vec<u8>) {
    let header = bytes.first_chunk().map(|bytes: &[u8; HEADER_BYTES]| Header::read(bytes));
    let header = header.and_then(Result::ok).expect("the encoder has written a whole header");
    out.extend_from_slice(&Header { sequence, ..header }.write());
    out.extend_from_slice(&bytes[HEADER_BYTES..]);
}

/// The payload of a frame, and how long it is inflated.
pub fn payload(frame: &[u8]) -> (&[u8], usize) {
    let header = frame.first_chunk().map(|bytes: &[u8; HEADER_BYTES]| Header::read(bytes));
    let header = header.and_then(Result::ok).expect("the encoder has written a whole header");
    (&frame[HEADER_BYTES..], header.inflated_bytes as usize)
}

/// The router of this number; whoever sends for it may use its id as a source address too.
pub fn router(number: usize) -> RouterId {
    let base = u32::from(Ipv4Addr::new(127, 64, 0, 1));
    let number = u32::try_from(number).expect("fewer routers than addresses");
    RouterId(IpAddr::V4(Ipv4Addr::from(base + number)))
}

/// The router of this number where everything is of IPv6: fd53:7264::1 and up.
pub fn router_ipv6(number: usize) -> RouterId {
    RouterId(IpAddr::V6(Ipv6Addr::from((0xfd53_7264_u128 << 96) + number as u128 + 1)))
}

/// Hello of a permanent session whose sender booted at `boot` and counts from 1.
pub fn hello(router: RouterId, boot: Micros, acks: bool, snapshot: bool) -> Vec<u8> {
    let hello = Hello {
        router,
        boot_time: boot,
        sequence_first: 1,
        sequence_fresh: 1,
        permanent: true,
        acks,
        snapshot,
        clock: boot,
        interfaces: Vec::new(),
        agent: concat!("stormgen-corpus/", env!("CARGO_PKG_VERSION")).into(),
    };
    let (mut document, mut bytes) = (String::new(), Vec::new());
    write_hello(&hello, &mut document);
    let (codec, flags) = (Codec::None, FrameFlags::NONE);
    let payload = document.as_bytes();
    FrameEncoder::new(1).frame(FrameType::Hello, codec, flags, 0, payload, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use storage::mapping::Key;

    use super::*;

    /// The keys that mappings speak of.
    fn keys(mappings: &[Mapping]) -> HashSet<Key> {
        mappings.iter().map(Mapping::key).collect()
    }

    const START: Micros = Micros(1_795_000_000_000_000);

    #[test]
    fn one_seed_is_one_corpus_and_faces_differ() {
        let table = |seed, number| Face::new(seed, number, 200, START).table().to_vec();
        assert_eq!(table(1, 3), table(1, 3));
        assert_ne!(table(1, 3), table(1, 4));
        assert_ne!(table(1, 3), table(2, 3));
        assert_eq!(keys(&table(1, 3)).len(), 200);
    }

    #[test]
    fn a_pass_changes_every_entry_once_and_each_to_another_value() {
        let mut face = Face::new(7, 0, 300, START);
        let before = face.table().to_vec();
        let mut said = Vec::new();
        face.change(300, &mut said);
        assert_eq!(keys(&said), keys(&before));
        assert!(said.is_sorted_by_key(|mapping| mapping.event_time));
        for (old, new) in before.iter().zip(face.table()) {
            assert_eq!(old.key(), new.key());
            assert_ne!(old.branches, new.branches);
        }
        let branches: usize = face.table().iter().map(|mapping| mapping.branches.len()).sum();
        assert!((330..450).contains(&branches), "{branches} branches of 300 entries");
    }

    #[test]
    fn a_frame_is_numbered_and_small_ones_are_compressed_too() {
        let mut face = Face::new(7, 0, 50, START);
        let frame = Writer::new().changes(&mut face, 10);
        let mut bytes = Vec::new();
        put_frame(&frame, 77, &mut bytes);
        let header = Header::read(bytes.first_chunk().unwrap()).unwrap();
        assert_eq!((header.sequence, header.codec_code), (77, Codec::Zlib as u8));
        let (payload, inflated_bytes) = payload(&bytes);
        assert!(payload.len() * 3 < inflated_bytes);
        assert_eq!(inflated_bytes as u64, frame.document_bytes);
    }
}
