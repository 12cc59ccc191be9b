//! One router's sender: what it says, in which frames or documents, and what of it goes wrong.
//!
//! In:   the router's table and its changes, in order; chance.
//! Out:  bytes for the collector, and what they tell it.
//! Law:  what it says is true when it says it; what it leaves out or garbles is noted as lost.
//! Not:  when it speaks (`world`).

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::mapping::{Branches, Fec, Key, Mapping, Operation, Origin, RouterId};
use storage::time::Micros;

use crate::io::ConnectionId;
use crate::wire::SnapshotMark;
use crate::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES};
use crate::wire::xml::write::write_document;

use super::past::Past;
use super::truth::Table;

/// How a router sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Frames, a session that stays.
    Framed { acks: bool },
    /// Frames, a session for every few words.
    OnDemand,
    /// Documents; the first of each connection may be the whole table.
    Documents,
    /// Documents of changes alone: nobody is told what was before.
    Changes,
}

/// What one mapping of a frame says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) key: Key,
    pub(super) index: usize,
    pub(super) clock: Micros,
    /// The collector cannot read it.
    pub(super) is_garbled: bool,
    /// Nor which entry it is about.
    pub(super) hides_key: bool,
}

/// A frame or document on its way.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    pub(super) bytes: Vec<u8>,
    pub(super) said: Vec<Said>,
    pub(super) sequence: u64,
    /// The collector rejects it as a whole.
    pub(super) is_damaged: bool,
}

/// The session that is open.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    /// What the snapshot has still to show; `None` = none is under way.
    pub(super) to_show: Option<VecDeque<Key>>,
    /// When the snapshot began, by the collector.
    pub(super) begun: Micros,
    /// What it, and changes meanwhile, have mentioned.
    pub(super) mentioned: BTreeSet<Key>,
    /// What it, and changes meanwhile, have shown to be there, and could be read.
    pub(super) shown: BTreeSet<Key>,
    /// What changes meanwhile have withdrawn.
    pub(super) gone: BTreeSet<Key>,
    /// Nothing was lost, and of nothing it is hidden which entry it is about.
    pub(super) is_clean: bool,
    /// Whether frames of it were lost: it vouches for nothing.
    pub(super) lacks_frames: bool,
}

/// One router's sender.
pub(super) struct Speaker {
    pub(super) id: RouterId,
    pub(super) manner: Manner,
    /// How far its clock is ahead.
    pub(super) skew_us: i64,
    /// Whether it knows since when its entries are what they are.
    pub(super) knows_times: bool,
    /// How often it garbles a mapping, damages a frame, drops one.
    pub(super) faults: f64,
    pub(super) boot: Micros,
    pub(super) sequence: u64,
    pub(super) session: Option<Session>,
    /// Changes to be told.
    pub(super) queue: Vec<(Key, usize)>,
    /// Frames that are not acknowledged.
    pub(super) kept: Vec<Speech>,
    /// Dropped frames that the collector has not noticed yet: what they said.
    pub(super) dropped: Vec<Said>,
    /// When the collector read the last of it; and the last that is counted.
    pub(super) read: Option<Micros>,
    pub(super) read_counted: Option<Micros>,
    pub(super) table: Table,
    pub(super) past: Past,
    pub(super) has_spoken: bool,
}

impl Speaker {
    pub(super) fn clock(&self, time: Micros) -> Micros {
        time.offset(self.skew_us)
    }

    /// The mapping of an event; a withdrawal if there is no entry any more.
    fn mapping(&self, key: Key, index: usize, clock: Micros) -> Mapping {
        let events = &self.past.events[&key];
        let shown = events[..=index].iter().rev().find_map(|event| event.entry.as_ref());
        let shown = shown.expect("an entry was there before it went");
        let mut mapping = Mapping { event_time: clock, ..shown.mapping.clone() };
        if events[index].entry.is_none() {
            mapping.operation = Operation::None;
            mapping.branches = Branches::new();
        }
        mapping
    }

    /// Says these events; the clock stands when each of them is told as having happened.
    pub(super) fn document(
        &self,
        mark: SnapshotMark,
        events: &[(Key, usize, Micros)],
        chance: &mut ChaCha8Rng,
    ) -> (String, Vec<Said>) {
        let mappings: Vec<Mapping> =
            events.iter().map(|(key, index, clock)| self.mapping(*key, *index, *clock)).collect();
        let mut text = String::new();
        write_document(Some(self.id), mark, &mappings, &mut text);
        let mut said = Vec::new();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (place, (key, index, clock)) in events.iter().enumerate() {
            let is_garbled = self.faults > 0.0 && chance.random_bool(self.faults);
            let line = &mut lines[place + 1];
            let garbled = is_garbled.then(|| garble(line, chance)).flatten();
            // That there is a second label table, or a route by source, is never hidden.
            let is_special =
                matches!(key, Key::Ilm(_, Origin::Table(_)) | Key::Ftn(Fec::IpFrom { .. }));
            let is_kept = |(_, part): &(String, Part)| !is_special || matches!(part, Part::Value);
            let garbled = garbled.filter(is_kept);
            let hidden = garbled.as_ref().map(|(_, part)| match part {
                Part::Value => false,
                Part::Ingress => true,
                // A label says enough.
                Part::Fec => !matches!(key, Key::Ilm(..)),
            });
            said.push(Said {
                key: *key,
                index: *index,
                clock: *clock,
                is_garbled: hidden.is_some(),
                hides_key: hidden == Some(true),
            });
            *line = garbled.map_or_else(|| std::mem::take(line), |(garbled, _)| garbled);
            if chance.random_bool(0.1) {
                *line = respell(line, chance);
            }
        }
        (lines.join("\n"), said)
    }

    /// A counted frame of this text.
    pub(super) fn frame(
        &mut self,
        is_part: bool,
        text: &str,
        said: Vec<Said>,
        chance: &mut ChaCha8Rng,
    ) -> Speech {
        self.sequence += 1;
        let flags = if is_part { FrameFlags::SNAPSHOT_PART } else { FrameFlags::NONE };
        let codec = if chance.random_bool(0.5) { Codec::Zlib } else { Codec::None };
        let mut bytes = Vec::new();
        let payload = text.as_bytes();
        let mut encoder = FrameEncoder::new(1);
        encoder.frame(FrameType::Mappings, codec, flags, self.sequence, payload, &mut bytes);
        let is_damaged = self.faults > 0.0 && chance.random_bool(self.faults / 2.0);
        if is_damaged {
            let at = chance.random_range(HEADER_BYTES..bytes.len());
            bytes[at] ^= 1 << chance.random_range(0..8);
        }
        Speech { bytes, said, sequence: self.sequence, is_damaged }
    }

    /// With which time an event is told: that of the clock as it happened, or as the session
    /// began.
    pub(super) fn time_of(&self, key: &Key, index: usize, session: Micros) -> Micros {
        let happened = self.past.events[key][index].happened;
        if self.knows_times { self.clock(happened) } else { self.clock(session) }
    }
}

/// What of a mapping is garbled.
enum Part {
    Value,
    Ingress,
    Fec,
}

/// The mapping of a line, so that the collector cannot read it; `None` = this line stays as it is.
fn garble(line: &str, chance: &mut ChaCha8Rng) -> Option<(String, Part)> {
    let (from, to, part) = match chance.random_range(0..5) {
        0 => (" next-hop=\"", " next-hop=\"point2point", Part::Value),
        1 => ("<nhlfe ", "<nhlfe shape=\"round\" ", Part::Value),
        // A withdrawal has no value that could be wrong; its time can.
        2 => (" timestamp=\"", " timestamp=\"yesterday ", Part::Value),
        3 => ("<ingress label=\"", "<ingress label=\" ", Part::Ingress),
        _ => ("<fec type=\"", "<fec type=\"in", Part::Fec),
    };
    line.contains(from).then(|| (line.replacen(from, to, 1), part))
}

/// The same mapping in another spelling.
fn respell(line: &str, chance: &mut ChaCha8Rng) -> String {
    match chance.random_range(0..4) {
        0 => line.replace('"', "'"),
        1 => line.replace("/><", "/><!-- as it was --> <"),
        2 => line.replace("label=\"1", "label=\"&#49;"),
        _ => {
            let mut text = String::new();
            let spaced = line.replace("/>", " />\n");
            write!(text, "\n{spaced}").expect("a string takes every text");
            text
        }
    }
}

impl Speaker {
    /// In words, for whoever looks for a fault.
    pub(super) fn describe(&self) -> String {
        let Speaker { id, manner, skew_us, knows_times, faults, .. } = self;
        format!(
            "  {id}: {manner:?}, clock {skew_us} us ahead, knows times: {knows_times}, \
             faults {faults:.2}"
        )
    }
}
