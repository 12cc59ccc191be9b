//! The simulated router: knows the truth, and sends it as docs/PROTOCOL.md asks for.
//!
//! In:   chance, the time, acks, and the ends of its connections.
//! Out:  bytes; a record of every change that it made and of what was acknowledged.
//! Law:  with acks, a frame is kept until it is acknowledged, and sent again before the snapshot.
//! Not:  what the network does to the bytes (`sim`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::mapping::{
    Fec, Ingress, Key, Label, Mapping, NextHop, Nhlfe, Operation, RouterId, TimeSource,
};
use storage::time::Micros;

use crate::io::Now;
use crate::wire::frame::{
    Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, decode_ack, encode_empty,
};
use crate::wire::hello::write_hello;
use crate::wire::xml::write::write_document;
use crate::wire::{Hello, SnapshotMark};

/// Keys of one router: few, so that they change often.
const KEYS: u32 = 24;
/// Mappings of one snapshot frame.
const FRAME_MAPPINGS: usize = 7;

/// How a sender behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Framed and permanent, with acks.
    Acks,
    /// Framed and permanent, strictly one way.
    Silent,
    /// A complete document now and then, on a connection of its own.
    Bare,
}

/// One change of the router's table.
#[derive(Clone, Debug)]
pub struct Made {
    /// What changed.
    pub key: Key,
    /// The label that stands for the new value, used once; `None` = withdrawn.
    pub label: Option<Label>,
    /// Frame that said it, and the boot that counted it.
    pub sequence: u64,
    /// Whether that frame was acknowledged.
    pub acked: bool,
}

/// A connection as the sender sees it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Bytes that the network has not taken yet.
    pub(super) outbox: VecDeque<u8>,
    /// Acks, as far as they have come.
    inbox: Vec<u8>,
    /// Sends FIN when the outbox is empty.
    pub(super) finishes: bool,
    /// FIN is sent.
    pub(super) finished: bool,
}

/// One simulated router.
pub struct Sender {
    /// Its id.
    pub router: RouterId,
    /// How it behaves.
    pub manner: Manner,
    /// Its table, as it is.
    pub truth: BTreeMap<Key, Mapping>,
    /// Every change it made, in order.
    pub made: Vec<Made>,
    /// Every end of a snapshot: its sequence, and the keys of the table that it closed.
    pub ends: Vec<(u64, BTreeSet<Key>)>,
    /// Its clock is off by so much.
    skew_us: i64,
    boot_time: Micros,
    sequence_next: u64,
    /// Last sequence that was ever given to the network.
    sequence_sent: u64,
    /// Highest sequence acknowledged in this boot.
    pub acked: u64,
    kept: VecDeque<(u64, Vec<u8>)>,
    pub(super) link: Option<Link>,
    pub(super) retry_us: u64,
    /// A bare sender has something that its last document did not say.
    stale: bool,
    /// First change of `made` that belongs to this boot.
    boot_made: usize,
    encoder: FrameEncoder,
}

impl Sender {
    pub(super) fn new(router: RouterId, manner: Manner, skew_us: i64, now: Now) -> Sender {
        Sender {
            router,
            manner,
            truth: BTreeMap::new(),
            made: Vec::new(),
            ends: Vec::new(),
            skew_us,
            boot_time: now.wall.offset(skew_us),
            sequence_next: 1,
            sequence_sent: 0,
            acked: 0,
            kept: VecDeque::new(),
            link: None,
            retry_us: 0,
            stale: false,
            boot_made: 0,
            encoder: FrameEncoder::new(1),
        }
    }

    /// Whether everything it has to say is said, and acknowledged if it asked for that.
    pub fn is_quiet(&self) -> bool {
        let said = self.link.as_ref().is_some_and(|link| link.outbox.is_empty());
        match self.manner {
            Manner::Bare => self.link.is_none() && self.retry_us == u64::MAX,
            Manner::Silent => said,
            Manner::Acks => said && self.kept.is_empty(),
        }
    }

    /// Alters, adds or withdraws a few entries.
    pub(super) fn change(&mut self, now: Now, chance: &mut ChaCha8Rng, unique: &mut u32) {
        let time = now.wall.offset(self.skew_us);
        let sequence = self.sequence_next;
        let mut mappings = Vec::new();
        for _ in 0..chance.random_range(1..4) {
            let key_label = label(16 + chance.random_range(0..KEYS));
            let withdrawn = chance.random_bool(0.25);
            let mut mapping = entry(key_label, time);
            let key = mapping.key();
            if withdrawn {
                if self.truth.remove(&key).is_none() {
                    continue;
                }
            } else {
                *unique += 1;
                let stack = [label(1_000 + *unique)].into_iter().collect();
                let next_hop = NextHop::Address([10, 0, 0, 2].into());
                mapping.operation = Operation::Swap;
                mapping.branches.push(Nhlfe::new(stack, next_hop));
                self.truth.insert(key, mapping.clone());
            }
            let label = (!withdrawn).then(|| label(1_000 + *unique));
            self.made.push(Made { key, label, sequence, acked: false });
            mappings.push(mapping);
        }
        let talks = self.manner == Manner::Acks || self.link.is_some();
        if !mappings.is_empty() && talks && self.manner != Manner::Bare {
            self.say(FrameType::Mappings, false, &mappings, chance);
        }
        self.stale = true;
        if self.manner == Manner::Bare && self.link.is_none() {
            self.retry_us = self.retry_us.min(now.monotonic_us + 50_000);
        }
    }

    /// The connection stands: says hello, what is kept, and the full table.
    pub(super) fn connected(&mut self, now: Now, chance: &mut ChaCha8Rng) {
        let mut link = Link::default();
        if self.manner == Manner::Bare {
            let mut text = String::new();
            let whole = SnapshotMark::Whole;
            write_document(Some(self.router), whole, self.truth.values(), &mut text);
            link.outbox.extend(text.as_bytes());
            link.finishes = true;
            self.link = Some(link);
            self.stale = false;
            self.retry_us = 0;
            return;
        }
        let fresh = self.sequence_sent + 1;
        let first = self.kept.front().map_or(self.sequence_next, |kept| kept.0);
        link.outbox.extend(self.hello(first, fresh.max(first), now));
        for (_, bytes) in &self.kept {
            link.outbox.extend(bytes);
        }
        self.sequence_sent = self.sequence_next - 1;
        self.link = Some(link);
        self.snapshot(chance);
    }

    fn hello(&mut self, sequence_first: u64, sequence_fresh: u64, now: Now) -> Vec<u8> {
        let hello = Hello {
            router: self.router,
            boot_time: self.boot_time,
            sequence_first,
            sequence_fresh,
            permanent: true,
            acks: self.manner == Manner::Acks,
            snapshot: true,
            clock: now.wall.offset(self.skew_us),
            interfaces: Vec::new(),
            agent: "sim".into(),
        };
        let mut text = String::new();
        write_hello(&hello, &mut text);
        let (codec, flags) = (Codec::None, FrameFlags::NONE);
        let (mut bytes, kind) = (Vec::new(), FrameType::Hello);
        self.encoder.frame(kind, codec, flags, 0, text.as_bytes(), &mut bytes);
        bytes
    }

    fn snapshot(&mut self, chance: &mut ChaCha8Rng) {
        let table: Vec<Mapping> = self.truth.values().cloned().collect();
        for part in table.chunks(FRAME_MAPPINGS) {
            self.say(FrameType::Mappings, true, part, chance);
        }
        self.ends.push((self.sequence_next, self.truth.keys().copied().collect()));
        self.say(FrameType::SnapshotComplete, false, &[], chance);
    }

    /// One counted frame: into the outbox, and kept if acks were asked for.
    fn say(
        &mut self,
        frame_type: FrameType,
        part: bool,
        mappings: &[Mapping],
        chance: &mut ChaCha8Rng,
    ) {
        let sequence = self.sequence_next;
        self.sequence_next += 1;
        let mut bytes = Vec::new();
        if frame_type == FrameType::Mappings {
            let mut text = String::new();
            write_document(Some(self.router), SnapshotMark::None, mappings, &mut text);
            let flags = if part { FrameFlags::SNAPSHOT_PART } else { FrameFlags::NONE };
            let codec = if chance.random_bool(0.5) { Codec::Zlib } else { Codec::None };
            self.encoder.frame(frame_type, codec, flags, sequence, text.as_bytes(), &mut bytes);
        } else {
            encode_empty(frame_type, sequence, &mut bytes);
        }
        if let Some(link) = &mut self.link {
            link.outbox.extend(&bytes);
            self.sequence_sent = sequence;
        }
        if self.manner == Manner::Acks {
            self.kept.push_back((sequence, bytes));
        }
    }

    pub(super) fn keepalive(&mut self) {
        if self.manner != Manner::Bare
            && let Some(link) = &mut self.link
        {
            let mut bytes = Vec::new();
            encode_empty(FrameType::Keepalive, 0, &mut bytes);
            link.outbox.extend(&bytes);
        }
    }

    /// Says bye and closes.
    pub(super) fn bye(&mut self) {
        if self.manner != Manner::Bare
            && let Some(link) = &mut self.link
        {
            let mut bytes = Vec::new();
            encode_empty(FrameType::Bye, 0, &mut bytes);
            link.outbox.extend(&bytes);
            link.finishes = true;
        }
    }

    /// Acks have come. Returns what is wrong with them, if anything is.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if self.manner != Manner::Acks {
            return Err(format!("{}: the collector spoke without being asked", self.router));
        }
        link.inbox.extend_from_slice(bytes);
        while let Some(sequence) = decode_ack(&link.inbox).map_err(|fault| fault.to_string())? {
            link.inbox.drain(..HEADER_BYTES);
            if sequence > self.sequence_sent {
                let sent = self.sequence_sent;
                return Err(format!("{}: ack of {sequence}, sent {sent}", self.router));
            }
            self.acked = self.acked.max(sequence);
        }
        while self.kept.front().is_some_and(|kept| kept.0 <= self.acked) {
            self.kept.pop_front();
        }
        let acked = self.acked;
        for made in self.made.iter_mut().skip(self.boot_made) {
            made.acked |= made.sequence <= acked;
        }
        Ok(())
    }

    /// The connection is gone; another try at `retry_us`. A bare sender whose connection the
    /// collector has closed in order tries again only when it has something new to say.
    pub(super) fn disconnected(&mut self, retry_us: u64, in_order: bool) {
        let said = in_order && self.link.as_ref().is_some_and(|link| link.finished);
        let rests = self.manner == Manner::Bare && said && !self.stale;
        self.retry_us = if rests { u64::MAX } else { retry_us };
        self.link = None;
    }

    /// The router restarts: what was kept is gone, sequences begin anew; the table stays.
    pub(super) fn reboot(&mut self, now: Now) {
        self.boot_time = now.wall.offset(self.skew_us).max(self.boot_time.offset(1));
        self.sequence_next = 1;
        self.sequence_sent = 0;
        self.acked = 0;
        self.kept.clear();
        self.boot_made = self.made.len();
    }

    /// A bare sender says everything once more: what it said last may have been lost.
    pub(super) fn last_word(&mut self, now: Now) {
        self.stale = true;
        if self.manner == Manner::Bare && self.link.is_none() {
            self.retry_us = now.monotonic_us;
        }
    }
}

fn label(value: u32) -> Label {
    Label::new(value).expect("simulated labels are small")
}

fn entry(in_label: Label, event_time: Micros) -> Mapping {
    Mapping {
        fec: Fec::Unknown,
        ingress: Ingress::platform(in_label),
        operation: Operation::None,
        branches: Default::default(),
        event_time,
        time_source: TimeSource::Router,
        extra: None,
    }
}
