//! What a session's bytes say: input modes, frames, inflate, XML, FPM.
//!
//! In:   the bytes of one session, in order, as far as they have come.
//! Out:  one `Unit` after another: a hello, mappings, an end of snapshot, or a rejection.
//! Law:  every byte consumed is part of a unit or of a rejection with a named cause.
//! Not:  what a unit changes (`shard`); pure: no sockets, no clock, no allocation per mapping.

pub mod sniff;
pub mod frame;
pub mod hello;
pub mod inflate;
pub mod boundary;
pub mod stream;
pub mod xml;
pub mod fpm;
pub mod decoder;

use std::fmt;
use std::net::IpAddr;

use storage::mapping::{Key, Mapping, RouterId};
use storage::row::Cause;
use storage::time::Micros;
use xml::KnownQuads;

/// What a sender says of itself before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The router that the session speaks for.
    pub router: RouterId,
    /// When the sender booted: the same boot continues its sequences over reconnects.
    pub boot_time: Micros,
    /// Sequence of the first frame after hello, from 1: the oldest that was not acknowledged.
    pub sequence_first: u64,
    /// Sequence of the first frame that no earlier session of this boot has sent; those before it
    /// are sent again, and what they say of a snapshot is about one that was interrupted: an end
    /// of it among them sweeps nothing. The snapshot that hello announces begins here.
    pub sequence_fresh: u64,
    /// Meant to stay open; otherwise on demand.
    pub permanent: bool,
    /// Whether acks are wanted.
    pub acks: bool,
    /// Whether a snapshot follows.
    pub snapshot: bool,
    /// The router's clock when it wrote hello.
    pub clock: Micros,
    /// Addresses of its interfaces.
    pub addresses: Vec<IpAddr>,
    /// Agent name and version.
    pub agent: Box<str>,
}

/// What the document or frame as a whole says about the router's snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMark {
    /// Nothing: its mappings are live changes (or, over FPM, judged by the shard).
    None,
    /// Its mappings belong to the snapshot under way.
    Part,
    /// Its mappings are the whole snapshot (`snapshot="complete"` on the root element).
    Whole,
}

/// What kind of unit was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// The session introduces itself (framed input).
    Hello(Hello),
    /// Mappings; they are in `Unit::mappings`.
    Mappings,
    /// The snapshot under way is complete.
    SnapshotComplete,
    /// The sender is alive.
    Keepalive,
    /// The sender ends the session in order.
    Bye,
}

/// A mapping that was rejected alone; the rest of its frame counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedMapping {
    /// Why.
    pub cause: Cause,
    /// The entry it was about, where that could be read: history cannot vouch for it any more.
    pub key: Option<Key>,
    /// What was expected and found, for the log line; one line, at most 200 bytes.
    pub detail: Box<str>,
}

/// One frame, document or FPM message, read. Kept and refilled: no allocation per mapping.
#[derive(Debug)]
pub struct Unit {
    /// What it is.
    pub kind: UnitKind,
    /// Sequence of the frame: `Some` for mappings and ends of snapshot in framed input, the frames
    /// that are counted; `None` for hello, keepalive, bye and every other input mode.
    pub sequence: Option<u64>,
    /// The `router-id` of the root element, or else of the first mapping that has one.
    pub router: Option<RouterId>,
    /// What it says about the snapshot.
    pub snapshot: SnapshotMark,
    /// Its mappings, one per ingress label, in order; branches sorted, FECs masked.
    pub mappings: Vec<Mapping>,
    /// The mappings that were rejected alone; only the first `REJECTED_DETAILS_MAX` say more than
    /// their cause and key.
    pub rejected: Vec<RejectedMapping>,
    /// Next hops that documents before named: none of what this unit says.
    hops: Option<Box<KnownQuads>>,
}

/// Rejected mappings of one unit that carry a detail: enough for a log line, nothing to flood with.
pub const REJECTED_DETAILS_MAX: usize = 16;
/// A unit whose capacity grew beyond this many mappings gives the memory back when it is cleared.
const UNIT_MAPPINGS_KEPT: usize = 1 << 16;

impl Unit {
    /// An empty unit, to be filled by `Decoder::next`.
    pub fn new() -> Unit {
        Unit {
            kind: UnitKind::Keepalive,
            sequence: None,
            router: None,
            snapshot: SnapshotMark::None,
            mappings: Vec::new(),
            rejected: Vec::new(),
            hops: None,
        }
    }

    /// Memory that it takes, extra texts apart: the same while nothing is put into it.
    pub fn memory_bytes(&self) -> usize {
        self.mappings.capacity() * size_of::<Mapping>()
            + self.rejected.capacity() * size_of::<RejectedMapping>()
    }

    /// Empties the unit and keeps its memory, unless an outlier made it large.
    pub fn clear(&mut self) {
        self.kind = UnitKind::Keepalive;
        self.sequence = None;
        self.router = None;
        self.snapshot = SnapshotMark::None;
        self.mappings.clear();
        self.mappings.shrink_to(UNIT_MAPPINGS_KEPT);
        self.rejected.clear();
        self.rejected.shrink_to(UNIT_MAPPINGS_KEPT);
    }
}

impl Default for Unit {
    fn default() -> Self {
        Unit::new()
    }
}

/// A frame, document or remainder that was rejected as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub cause: Cause,
    /// What was expected and found, and at which byte; one line, at most 200 bytes.
    pub detail: Box<str>,
}

impl Rejection {
    /// A rejection whose detail is made fit for a log line: one line, at most 200 bytes.
    pub fn new(cause: Cause, detail: impl fmt::Display) -> Rejection {
        Rejection { cause, detail: detail_of(detail) }
    }
}

/// Bytes of a detail: one line of a log.
const DETAIL_BYTES_MAX: usize = 200;

/// One line of at most `DETAIL_BYTES_MAX` bytes; what a peer wrote cannot break the log's lines.
fn detail_of(detail: impl fmt::Display) -> Box<str> {
    let mut line: String = detail.to_string();
    if line.contains(char::is_control) {
        line = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    }
    if line.len() > DETAIL_BYTES_MAX {
        line.truncate(line.floor_char_boundary(DETAIL_BYTES_MAX));
    }
    line.into_boxed_str()
}

/// What the next bytes of a session turned out to be. `consumed` bytes are done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not a whole unit yet: wait for more. Nothing is consumed. `needed` is a hint: bytes in all.
    Incomplete {
        /// Length at which trying again is worth it (at least one more than there are).
        needed: usize,
    },
    /// A unit is in the `Unit` that was passed.
    Unit {
        /// Bytes it took from the input; 0 when the same bytes have more units to give.
        consumed: usize,
    },
    /// Bytes that carry nothing (white space between documents, a part of a compressed stream).
    Nothing {
        /// Bytes it took from the input.
        consumed: usize,
    },
    /// A unit was rejected, its boundary is known, and reading goes on behind it.
    Rejected {
        /// Bytes it took from the input.
        consumed: usize,
        /// Why.
        rejection: Rejection,
        /// Sequence of the rejected frame, where its header could be believed.
        sequence: Option<u64>,
    },
    /// The boundary is lost: everything that is left and yet to come is rejected; close.
    Broken {
        /// Why.
        rejection: Rejection,
    },
}

/// Limits on what one session may send. All are settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of one frame's payload, or of one plain document.
    pub frame_bytes_max: usize,
    /// Bytes of one frame or document, inflated.
    pub inflated_bytes_max: usize,
    /// Inflated bytes per compressed byte (frames above 4 KiB inflated).
    pub inflate_ratio_max: usize,
    /// Depth of elements.
    pub xml_depth_max: usize,
    /// Attributes of one element.
    pub xml_attributes_max: usize,
}

impl Default for WireLimits {
    /// 4 MiB frames, 64 MiB inflated, ratio 200, depth 16, 64 attributes.
    fn default() -> Self {
        WireLimits {
            frame_bytes_max: 4 << 20,
            inflated_bytes_max: 64 << 20,
            inflate_ratio_max: 200,
            xml_depth_max: 16,
            xml_attributes_max: 64,
        }
    }
}

/// What every session of one shard decodes with: kept once per shard, not per session.
pub struct Tools {
    /// Whole-buffer inflate of frames.
    pub inflater: inflate::Inflater,
    /// The inflated frame under way.
    pub scratch: Vec<u8>,
    /// What a session may send.
    pub limits: WireLimits,
}

impl Tools {
    /// Tools that hold these limits.
    pub fn new(limits: WireLimits) -> Tools {
        Tools { inflater: inflate::Inflater::new(), scratch: Vec::new(), limits }
    }
}
