//! Layout of a block: magic, header fields, sections, codes. One place, also for the document.
//!
//! In:   the sixty-four bytes of a header, or its fields.
//! Out:  the other of the two.
//! Law:  every number of this file appears in docs/STORAGE-FORMAT.md; a test compares them.
//! Not:  what is inside the sections (`value`, `session`, `books`, `sparse`).

use crate::row::{Cause, Reason};
use crate::time::Micros;

/// Folder of the log below the data folder.
pub const LOG_FOLDER: &str = "log";
/// File of kernel rows in an hour's folder.
pub const KERNEL_FILE: &str = "kernel.log";
/// In the place of a shard in its blocks: no shard has that number.
pub const KERNEL_SHARD: u16 = 65535;
/// Lock file of the data folder.
pub const LOCK_FILE: &str = "lock";
/// Folder of the states below the data folder.
pub const STATE_FOLDER: &str = "state";
/// Bytes near the end of a state file.
pub const STATE_MAGIC: [u8; 8] = *b"\xffSDSTA\r\n";
/// Version of the layout of state files.
pub const STATE_VERSION: u16 = 2;
/// The version before, which is read as well: heads without what came after the addresses.
pub const STATE_VERSION_ADDRESSES: u16 = 1;
/// Length of the end of a state file that says where its directory is.
pub const STATE_TRAILER_BYTES: usize = 36;
/// First bytes of a block. 0xff is in no UTF-8 text, so no text inside a block looks like one.
pub const MAGIC: [u8; 8] = *b"\xffSDBLK\r\n";
/// Version of the layout.
pub const VERSION: u16 = 3;
/// The version before, whose blocks are read as well: its forms have three bytes.
pub const VERSION_WITH_SHAPES: u16 = 2;
/// The first version, whose blocks are read as well: it has no forms.
pub const VERSION_WITHOUT_FORMS: u16 = 1;
/// Length of the header.
pub const HEADER_BYTES: usize = 64;
/// Flag: everything before this block in its file was durable when this block was written.
pub const FLAG_ALL_BEFORE_DURABLE: u32 = 1;

/// Where the version is.
pub const VERSION_OFFSET: usize = 8;
/// Where the shard is.
pub const SHARD_OFFSET: usize = 10;
/// Where the flags are.
pub const FLAGS_OFFSET: usize = 12;
/// Where the length of the payload is.
pub const PAYLOAD_BYTES_OFFSET: usize = 16;
/// Where the four row counts are: changes, session rows, ledger rows, kernel rows.
pub const COUNTS_OFFSET: usize = 24;
/// Where the earliest time of any row is.
pub const TIME_MIN_OFFSET: usize = 40;
/// Where the latest time of any row is.
pub const TIME_MAX_OFFSET: usize = 48;
/// Where the CRC32C of the payload is.
pub const PAYLOAD_CRC_OFFSET: usize = 56;
/// Where the CRC32C of the header bytes before it is.
pub const HEADER_CRC_OFFSET: usize = 60;

/// A part of the payload. The discriminant is its place in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Section {
    /// Dictionary of routers whose rows are in the block.
    Routers,
    /// Dictionary of all other addresses: next hops, loopbacks, peers.
    Addresses,
    /// Dictionary of FECs.
    Fecs,
    /// Dictionary of branch sets.
    Branches,
    /// Dictionary of texts: kept XML, counter names.
    Texts,
    /// Change rows that came together: router, position, collection time, basis.
    Runs,
    /// Change rows: which form. Without forms: kind, operation, time source and label space.
    Shapes,
    /// Change rows: effective time.
    EffectiveTimes,
    /// Change rows with an ingress label: the label.
    Labels,
    /// Change rows of a per-interface label space: the upstream router; of another label table
    /// than the platform's: its number.
    Upstreams,
    /// Change rows whose form says so: which FEC of the dictionary.
    FecReferences,
    /// Change rows whose form says so: which branch set of the dictionary.
    BranchReferences,
    /// Change rows whose index is not the previous one plus one.
    IndexJumps,
    /// Change rows whose event time is not the effective time.
    EventOffsets,
    /// Change rows with flags.
    FlagSets,
    /// Change rows with kept XML.
    Extras,
    /// Session rows.
    Sessions,
    /// Ledger rows.
    Ledger,
    /// Kernel rows.
    Kernel,
    /// Dictionary of forms: what stands where in a change row.
    Forms,
    /// Change rows whose form is a prefix: its octets.
    Prefixes,
    /// Change rows whose form is plain branches: label and next hop of each.
    Hops,
}

impl Section {
    /// Every section, in the order of the payload, with its word.
    pub const ALL: [(Section, &'static str); Section::COUNT] = [
        (Section::Routers, "routers"),
        (Section::Addresses, "addresses"),
        (Section::Fecs, "fecs"),
        (Section::Branches, "branches"),
        (Section::Texts, "texts"),
        (Section::Runs, "runs"),
        (Section::Shapes, "shapes"),
        (Section::EffectiveTimes, "effective-times"),
        (Section::Labels, "labels"),
        (Section::Upstreams, "upstreams"),
        (Section::FecReferences, "fec-references"),
        (Section::BranchReferences, "branch-references"),
        (Section::IndexJumps, "index-jumps"),
        (Section::EventOffsets, "event-offsets"),
        (Section::FlagSets, "flag-sets"),
        (Section::Extras, "extras"),
        (Section::Sessions, "sessions"),
        (Section::Ledger, "ledger"),
        (Section::Kernel, "kernel"),
        (Section::Forms, "forms"),
        (Section::Prefixes, "prefixes"),
        (Section::Hops, "hops"),
    ];
    /// How many there are.
    pub const COUNT: usize = 22;
    /// How many there were without forms.
    pub const COUNT_WITHOUT_FORMS: usize = 19;

    /// The section's word.
    pub const fn name(self) -> &'static str {
        Section::ALL[self as usize].1
    }
}

const _: () = {
    let mut place = 0;
    while place < Section::COUNT {
        assert!(
            Section::ALL[place].0 as usize == place,
            "the table is in the order of the payload"
        );
        place += 1;
    }
    assert!(HEADER_CRC_OFFSET + 4 == HEADER_BYTES, "the header ends with its checksum");
};

/// Codes of the reasons; `Rejected` is followed by the code of its cause.
pub const REASONS: [(u8, Reason); 9] = [
    (0, Reason::Finished),
    (1, Reason::ClosedByRouter),
    (2, Reason::ConnectionLost),
    (3, Reason::TimedOut),
    (4, Reason::Superseded),
    (6, Reason::CollectorStopped),
    (7, Reason::CollectorLost),
    (8, Reason::LogDamaged),
    (9, Reason::NotRetained),
];
/// Code of `Reason::Rejected`.
pub const REASON_REJECTED: u8 = 5;

/// The code of a reason, and that of its cause.
pub(super) fn reason_code(reason: Reason) -> (u8, Option<Cause>) {
    match reason {
        Reason::Finished => (0, None),
        Reason::ClosedByRouter => (1, None),
        Reason::ConnectionLost => (2, None),
        Reason::TimedOut => (3, None),
        Reason::Superseded => (4, None),
        Reason::Rejected(cause) => (REASON_REJECTED, Some(cause)),
        Reason::CollectorStopped => (6, None),
        Reason::CollectorLost => (7, None),
        Reason::LogDamaged => (8, None),
        Reason::NotRetained => (9, None),
    }
}

/// The fields of a block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Layout of the payload: `VERSION` for what this program writes and reads. Blocks of another
    /// version are whole blocks, kept and never cut, but not read.
    pub version: u16,
    /// Shard that wrote the block.
    pub shard: u16,
    /// `FLAG_ALL_BEFORE_DURABLE` or 0.
    pub flags: u32,
    /// Length of the payload that follows.
    pub payload_bytes: u64,
    /// Change rows in it.
    pub change_rows: u32,
    /// Session rows in it.
    pub session_rows: u32,
    /// Ledger rows in it.
    pub ledger_rows: u32,
    /// Kernel rows in it.
    pub kernel_rows: u32,
    /// Earliest effective time of a change, or time of another row.
    pub time_min: Micros,
    /// Latest effective time of a change, or time of another row.
    pub time_max: Micros,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

/// What is wrong with a header: expected, found.
pub(super) type HeaderFault = (String, String);

impl Header {
    /// The header's bytes, its own checksum included.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field);
        };
        put(0, &MAGIC);
        put(VERSION_OFFSET, &self.version.to_le_bytes());
        put(SHARD_OFFSET, &self.shard.to_le_bytes());
        put(FLAGS_OFFSET, &self.flags.to_le_bytes());
        put(PAYLOAD_BYTES_OFFSET, &self.payload_bytes.to_le_bytes());
        let counts = [self.change_rows, self.session_rows, self.ledger_rows, self.kernel_rows];
        for (place, count) in counts.iter().enumerate() {
            put(COUNTS_OFFSET + 4 * place, &count.to_le_bytes());
        }
        put(TIME_MIN_OFFSET, &self.time_min.0.to_le_bytes());
        put(TIME_MAX_OFFSET, &self.time_max.0.to_le_bytes());
        put(PAYLOAD_CRC_OFFSET, &self.payload_crc.to_le_bytes());
        let crc = crc_fast::crc32_iscsi(&bytes[..HEADER_CRC_OFFSET]);
        bytes[HEADER_CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The fields of these bytes. Errors: another magic or checksum, expected and found.
    pub(super) fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Header, HeaderFault> {
        if bytes[..MAGIC.len()] != MAGIC {
            let found = &bytes[..MAGIC.len()];
            return Err((format!("magic {MAGIC:02x?}"), format!("{found:02x?}")));
        }
        let crc = crc_fast::crc32_iscsi(&bytes[..HEADER_CRC_OFFSET]);
        let written = u32_at(bytes, HEADER_CRC_OFFSET);
        if crc != written {
            return Err((format!("header of CRC32C {written:08x}"), format!("{crc:08x}")));
        }
        Ok(Header {
            version: u16_at(bytes, VERSION_OFFSET),
            shard: u16_at(bytes, SHARD_OFFSET),
            flags: u32_at(bytes, FLAGS_OFFSET),
            payload_bytes: u64_at(bytes, PAYLOAD_BYTES_OFFSET),
            change_rows: u32_at(bytes, COUNTS_OFFSET),
            session_rows: u32_at(bytes, COUNTS_OFFSET + 4),
            ledger_rows: u32_at(bytes, COUNTS_OFFSET + 8),
            kernel_rows: u32_at(bytes, COUNTS_OFFSET + 12),
            time_min: Micros(u64_at(bytes, TIME_MIN_OFFSET).cast_signed()),
            time_max: Micros(u64_at(bytes, TIME_MAX_OFFSET).cast_signed()),
            payload_crc: u32_at(bytes, PAYLOAD_CRC_OFFSET),
        })
    }

    /// Length of the whole block, or `None` when the header claims more than a file can hold.
    pub(super) fn block_bytes(&self) -> Option<u64> {
        self.payload_bytes.checked_add(HEADER_BYTES as u64)
    }

    /// Rows of every kind.
    pub fn rows(&self) -> u64 {
        [self.change_rows, self.session_rows, self.ledger_rows, self.kernel_rows]
            .iter()
            .map(|count| u64::from(*count))
            .sum()
    }
}

fn u16_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    u32::from(u16_at(bytes, offset)) | u32::from(u16_at(bytes, offset + 2)) << 16
}

fn u64_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}
