//! Rows of the log: changes, session events, ledger entries, kernel samples.
//!
//! In:   what the engine decided about bytes, sessions and mappings.
//! Out:  plain values that the log writes and that history reads back, equal to the bit.
//! Law:  a router's rows are ordered by `Position`, everywhere.
//! Not:  the layout on disk (`log::block`), or what rows mean together (`history`).

use std::net::SocketAddr;

use crate::interface::Interface;
use crate::mapping::{Key, Mapping, RouterId};
use crate::time::Micros;

/// Place of a row among the rows of its router: the one order of history.
///
/// Between sessions the higher generation wins; inside one TCP has given the order already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Counts the router's sessions, from 1.
    pub generation: u32,
    /// Sequence of the frame (framed input), or how many units the session had sent before.
    pub sequence: u64,
    /// Index within the frame; rows that no frame caused continue that of the frame before them.
    pub index: u32,
}

/// What a change did to the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// The key had no entry.
    Added,
    /// The key had another value.
    Altered,
    /// The key has no entry any more.
    Withdrawn,
    /// A snapshot of inferred end lacked the entry: it answers `unknown` from here on.
    Unconfirmed,
    /// An unconfirmed entry was seen again, unaltered.
    Reconfirmed,
}

impl ChangeKind {
    /// Every kind; the index is its code on disk.
    pub const ALL: [ChangeKind; 5] = [
        ChangeKind::Added,
        ChangeKind::Altered,
        ChangeKind::Withdrawn,
        ChangeKind::Unconfirmed,
        ChangeKind::Reconfirmed,
    ];

    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            ChangeKind::Added => "added",
            ChangeKind::Altered => "altered",
            ChangeKind::Withdrawn => "withdrawn",
            ChangeKind::Unconfirmed => "unconfirmed",
            ChangeKind::Reconfirmed => "reconfirmed",
        }
    }
}

/// How we know of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// The router said so when it happened.
    Live,
    /// A snapshot showed it: it happened somewhere in [`not_before`, event time].
    Snapshot,
    /// A snapshot lacked the entry, or its hold ran out: derived, not sent by the router.
    Swept,
}

impl Basis {
    /// Every basis; the index is its code on disk.
    pub const ALL: [Basis; 3] = [Basis::Live, Basis::Snapshot, Basis::Swept];

    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Basis::Live => "live",
            Basis::Snapshot => "snapshot",
            Basis::Swept => "swept",
        }
    }
}

/// What is odd about a change; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// The event time is before that of the key's previous change: the row is filed by that one,
    /// and nothing is vouched for from there to the collection time.
    pub const CLOCK_BACKWARDS: Flags = Flags(1);
    /// The event time is more than `table::CLOCK_AHEAD_MAX_US` ahead of the collection time, or
    /// more than `table::CLOCK_BEHIND_MAX_US` behind it; behind, the row is filed by the latter.
    pub const CLOCK_FAR: Flags = Flags(2);
    /// A label from 0 to 15 is used (implicit null in a stack apart).
    pub const RESERVED_LABEL: Flags = Flags(4);
    /// The event time is before a complete snapshot that lacked the entry: the row is filed by the
    /// beginning of that snapshot, and nothing is vouched for from there to the collection time.
    pub const BEFORE_SNAPSHOT: Flags = Flags(8);
    /// Each flag with its word.
    pub const NAMES: [(Flags, &'static str); 4] = [
        (Flags::CLOCK_BACKWARDS, "clock-backwards"),
        (Flags::CLOCK_FAR, "clock-far"),
        (Flags::RESERVED_LABEL, "reserved-label"),
        (Flags::BEFORE_SNAPSHOT, "before-snapshot"),
    ];

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Everything of a change row but the mapping itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The router that the change happened in.
    pub router: RouterId,
    /// Place among the router's rows.
    pub position: Position,
    /// What the change did.
    pub kind: ChangeKind,
    /// How we know.
    pub basis: Basis,
    /// For `Snapshot` and `Swept`: the change did not happen before; `None` = nothing known.
    pub not_before: Option<Micros>,
    /// What history is ordered by: max(own event time, that of the key's previous change),
    /// never later than the collection time: what has been read has happened.
    pub effective_time: Micros,
    /// When the collector read the last byte of the frame.
    pub collection_time: Micros,
    /// What is odd.
    pub flags: Flags,
}

impl Stamp {
    /// Whether the effective time is not what the router said, because what it has said before
    /// contradicts it: the change happened somewhere between then and the collection time.
    pub fn is_disputed(&self) -> bool {
        self.flags.contains(Flags::BEFORE_SNAPSHOT) || self.flags.contains(Flags::CLOCK_BACKWARDS)
    }
}

/// One row of the log: a mapping that was added, altered or withdrawn.
///
/// Of a withdrawn, unconfirmed or reconfirmed entry the mapping is the one that stood before,
/// with the operation `none` and no branches when withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, where, why.
    pub stamp: Stamp,
    /// What the router said; its event time and time source too.
    pub mapping: Mapping,
}

/// How the bytes of a session are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InputMode {
    /// Length-prefixed frames (docs/PROTOCOL.md).
    Framed,
    /// Plain XML documents, one after another.
    Plain,
    /// A gzip stream of XML documents.
    Gzip,
    /// A zlib stream of XML documents.
    Zlib,
    /// Netlink messages in FPM framing.
    Fpm,
}

impl InputMode {
    /// Every mode; the index is its code on disk.
    pub const ALL: [InputMode; 5] =
        [InputMode::Framed, InputMode::Plain, InputMode::Gzip, InputMode::Zlib, InputMode::Fpm];

    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            InputMode::Framed => "framed",
            InputMode::Plain => "plain",
            InputMode::Gzip => "gzip",
            InputMode::Zlib => "zlib",
            InputMode::Fpm => "fpm",
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The router said bye, or an on-demand session ended at a document boundary.
    Finished,
    /// The router closed the connection (FIN).
    ClosedByRouter,
    /// The connection was reset, or the kernel gave it up.
    ConnectionLost,
    /// Keepalives went unanswered.
    TimedOut,
    /// The router opened a newer session.
    Superseded,
    /// The collector refused the session or could not read on; the cause says why.
    Rejected(Cause),
    /// The collector was stopped.
    CollectorStopped,
    /// The collector died; written when it starts again.
    CollectorLost,
    /// Bytes of the log are damaged: rows are missing. Never written, found by whoever reads.
    LogDamaged,
    /// The log of that time is not kept any more. Never written, found by whoever reads.
    NotRetained,
}

impl Reason {
    /// The word in every output; a rejection shows its cause.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Finished => "finished",
            Reason::ClosedByRouter => "closed-by-router",
            Reason::ConnectionLost => "connection-lost",
            Reason::TimedOut => "timed-out",
            Reason::Superseded => "superseded",
            Reason::Rejected(cause) => cause.name(),
            Reason::CollectorStopped => "collector-stopped",
            Reason::CollectorLost => "collector-lost",
            Reason::LogDamaged => "log-damaged",
            Reason::NotRetained => "not-retained",
        }
    }
}

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal $name:literal;)+) => {
        /// Why bytes, a frame or a mapping were rejected: each has a counter and a log line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Cause { $($(#[doc = $doc])+ $variant = $code,)+ }

        impl Cause {
            /// Every cause; the discriminant is its code on disk, never used again for another.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant,)+];

            /// The word in metrics, logs and outputs.
            pub const fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)+ }
            }
        }
    };
}

causes! {
    /// The first bytes are none of the input modes.
    ModeUnknown = 0 "mode-unknown";
    /// A frame does not begin with the magic.
    FrameMagic = 1 "frame-magic";
    /// A frame of a type that is not defined.
    FrameType = 2 "frame-type";
    /// A frame compressed with a codec that is not defined.
    FrameCodec = 3 "frame-codec";
    /// A frame longer than the limit.
    FrameTooLong = 4 "frame-too-long";
    /// A frame whose lengths contradict each other or its content.
    FrameLength = 5 "frame-length";
    /// A frame whose CRC32C is not that of its payload.
    FrameChecksum = 6 "frame-checksum";
    /// A frame whose sequence is not the one that was due.
    SequenceBroken = 7 "sequence-broken";
    /// A frame before hello, a second hello, or a hello that cannot be read.
    HelloInvalid = 8 "hello-invalid";
    /// The connection ended inside a frame or document.
    Truncated = 9 "truncated";
    /// Compressed bytes that do not inflate.
    InflateFailed = 10 "inflate-failed";
    /// More inflated bytes, or a higher ratio, than the limits allow.
    InflateTooLong = 11 "inflate-too-long";
    /// Not well-formed XML, or not UTF-8.
    XmlMalformed = 12 "xml-malformed";
    /// A document type declaration, or an entity beyond the five.
    XmlDoctype = 13 "xml-doctype";
    /// Deeper, or with more attributes, or longer than the limits allow.
    XmlLimit = 14 "xml-limit";
    /// A root element or namespace that is not the protocol's.
    XmlRoot = 15 "xml-root";
    /// An FPM frame or netlink message whose lengths or fields are wrong.
    FpmMalformed = 16 "fpm-malformed";
    /// The peer's address is in no allowed prefix.
    SourceRefused = 17 "source-refused";
    /// The peer's address may not speak for the router id that it gave.
    IdentityRefused = 18 "identity-refused";
    /// Another source is active under the same router id.
    IdentityConflict = 19 "identity-conflict";
    /// No router id is given, or none can be found for the source.
    RouterUnknown = 20 "router-unknown";
    /// More new sessions of one source than the limit allows.
    SessionRate = 21 "session-rate";
    /// More rejected frames on one session than its budget.
    RejectedBudget = 22 "rejected-budget";
    /// The mapping names another router than the session's.
    ForeignRouter = 23 "foreign-router";
    /// A label below -1 or above 1,048,575, or no number.
    LabelRange = 24 "label-range";
    /// Ingress label and origin contradict each other, or the origin is unreadable.
    IngressInvalid = 25 "ingress-invalid";
    /// A FEC that lacks a part or has an unreadable one.
    FecInvalid = 26 "fec-invalid";
    /// An operation that is not defined, or whose branches contradict it.
    OperationInvalid = 27 "operation-invalid";
    /// A next hop or weight that cannot be read, or too many labels or branches.
    NhlfeInvalid = 28 "nhlfe-invalid";
    /// A timestamp that is missing or cannot be read.
    TimestampInvalid = 29 "timestamp-invalid";
    /// The table reserve is full: a new key of its largest grower is refused.
    TableFull = 30 "table-full";
    /// A route over a next-hop group that the router has not announced in full (FPM).
    NextHopUnknown = 31 "next-hop-unknown";
    /// Memory for received bytes is spent, and the session does not end the unit that it began.
    SurgeShare = 32 "surge-share";
    /// A connection that the router opened before the one on which it speaks now.
    SessionOutdated = 33 "session-outdated";
    /// A second FTN entry of the FEC `unknown`, another than the first: no key tells them apart.
    FecUnnamed = 34 "fec-unnamed";
    /// An attribute that is not defined: it may change what the mapping means.
    AttributeUnknown = 35 "attribute-unknown";
}

impl Cause {
    /// The cause of this code on disk, if there is one.
    pub fn from_code(code: u8) -> Option<Cause> {
        Cause::ALL.iter().copied().find(|cause| *cause as u8 == code)
    }
}

/// What a gap is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All of the router.
    Router,
    /// One entry, or that there is none of this key.
    Entry(Key),
    /// Whether there are more entries than the table has: something new could not be read, or had
    /// no room. Entries that the table has stand.
    Rest,
}

/// What a session event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The settings name this router (written at start and when they change).
    Configured {
        /// Its name, or empty.
        name: Box<str>,
        /// Interfaces that it has: addresses that it owns beyond its id, links by name.
        interfaces: Vec<Interface>,
    },
    /// A session began and its router is known.
    Initiation {
        /// Where the connection comes from.
        peer: SocketAddr,
        /// How its bytes are read.
        mode: InputMode,
        /// Whether the session is meant to stay open.
        permanent: bool,
        /// When the sender booted, as hello says; another boot = a restart, sequences begin anew.
        boot_time: Option<Micros>,
        /// The router's clock when it wrote hello.
        clock: Option<Micros>,
        /// Interfaces that hello announced.
        interfaces: Vec<Interface>,
        /// Agent name and version, or empty.
        agent: Box<str>,
    },
    /// The router begins to send its full table.
    SnapshotBegin,
    /// The full table has been read; what it found. Ends every gap of the router that was open when
    /// it began, but none that opened since: what could not be read of it is still not known.
    SnapshotComplete {
        /// Whether the router said so (`true`), or a quiet time was taken for it.
        explicit: bool,
        /// Entries as they were.
        confirmed: u64,
        /// Entries that are new.
        added: u64,
        /// Entries with another value.
        altered: u64,
        /// Entries withdrawn (explicit end) or unconfirmed (inferred end).
        vanished: u64,
    },
    /// From `start` on the collector cannot vouch for what the scope names, until a snapshot that
    /// began later is complete (or, for an entry, until its next change).
    Gap {
        /// The last evidence from the router: the interval begins here, not when we noticed.
        start: Micros,
        /// What it is about.
        scope: Scope,
        /// What happened.
        reason: Reason,
    },
    /// The session is over.
    Termination {
        /// Why.
        reason: Reason,
    },
}

impl SessionEvent {
    /// The word in every output.
    pub const fn name(&self) -> &'static str {
        match self {
            SessionEvent::Configured { .. } => "configured",
            SessionEvent::Initiation { .. } => "initiation",
            SessionEvent::SnapshotBegin => "snapshot-begin",
            SessionEvent::SnapshotComplete { .. } => "snapshot-complete",
            SessionEvent::Gap { .. } => "gap",
            SessionEvent::Termination { .. } => "termination",
        }
    }
}

/// A session event of one router, with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The router.
    pub router: RouterId,
    /// Place among the router's rows, change rows included. Generation 0 for `Configured`.
    pub position: Position,
    /// When the collector saw it, by its own clock; session rows are filed by it.
    pub time: Micros,
    /// What happened.
    pub event: SessionEvent,
}

/// The books of one session over the rows of one block: sums of such rows balance.
///
/// bytes_read = bytes_framed + bytes_rejected + (bytes still buffered);
/// mappings_framed = changes + confirmed + duplicates + mappings_rejected;
/// change rows of the block = changes + derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// The router; `None` for connections that ended before one was known.
    pub router: Option<RouterId>,
    /// The session.
    pub generation: u32,
    /// When the last unit of it came (`bytes_framed`), or when the row was closed if there is none;
    /// its hour is the ledger's collection hour.
    pub time: Micros,
    /// Last sequence whose rows are in this block or before it; 0 = none (restores duplicates).
    pub sequence_last: u64,
    /// Bytes received from the socket.
    pub bytes_read: u64,
    /// Bytes of complete frames or documents that were read.
    pub bytes_framed: u64,
    /// Mappings inside them, expanded to one per ingress label.
    pub mappings_framed: u64,
    /// Mappings that became change rows.
    pub changes: u64,
    /// Mappings that said what the table already says.
    pub confirmed: u64,
    /// Mappings of frames that were sent again and had been applied before.
    pub duplicates: u64,
    /// Change rows that no mapping caused (swept, unconfirmed).
    pub derived: u64,
    /// (cause, bytes, mappings) rejected, each cause once, in the order of the causes.
    pub rejected: Vec<(Cause, u64, u64)>,
}

/// One counter of the kernel, or something of a burst, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRow {
    /// When it was read.
    pub time: Micros,
    /// Name as the kernel writes it, such as `TcpExt.PruneCalled`; names of bursts are in
    /// docs/STORAGE-FORMAT.md.
    pub counter: Box<str>,
    /// By how much it moved since it was read before; of other names, what the page says.
    pub value: u64,
}

/// Any row of the log, as its reader yields it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A change of a router's table.
    Change(Change),
    /// A session event.
    Session(SessionRow),
    /// A ledger entry.
    Ledger(LedgerRow),
    /// A kernel sample.
    Kernel(KernelRow),
}

impl Row {
    /// Whose row it is; `None` for kernel samples and the books of unknown senders.
    pub fn router(&self) -> Option<RouterId> {
        match self {
            Row::Change(change) => Some(change.stamp.router),
            Row::Session(session) => Some(session.router),
            Row::Ledger(ledger) => ledger.router,
            Row::Kernel(_) => None,
        }
    }

    /// Memory that it takes beyond its own size, in bytes, as far as a sender can make it large.
    pub fn beyond_bytes(&self) -> usize {
        match self {
            Row::Change(change) => change.mapping.beyond_bytes(),
            Row::Session(_) | Row::Ledger(_) | Row::Kernel(_) => 0,
        }
    }

    /// Its place among the rows of its router. Ledger rows have none of their own and stand behind
    /// everything else of their session.
    pub fn place(&self) -> Position {
        match self {
            Row::Change(change) => change.stamp.position,
            Row::Session(session) => session.position,
            Row::Ledger(ledger) => {
                Position { generation: ledger.generation, sequence: u64::MAX, index: u32::MAX }
            }
            Row::Kernel(_) => Position::default(),
        }
    }
}
