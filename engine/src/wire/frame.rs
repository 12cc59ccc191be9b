//! The frame: a fixed big-endian header of 32 bytes, then the payload (docs/PROTOCOL.md, "Frame").
//!
//! In:   bytes that begin where a frame begins; or what a frame is to say.
//! Out:  the header, checked; or the frame's bytes, for senders and for acks.
//! Law:  a length is believed only when the header's own CRC32C holds.
//! Not:  what the payload says (`xml`, `hello`), or whether a sequence is due (`shard`).

use libdeflater::{CompressionLvl, Compressor};

/// First bytes of every frame: protocol and version.
pub const MAGIC: [u8; 4] = *b"SDL1";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of the header that its own checksum covers: all before it.
const HEADER_CHECKED_BYTES: usize = 28;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    /// The first frame of a session; its payload is a hello document.
    Hello = 1,
    /// A label-mappings document.
    Mappings = 2,
    /// The snapshot is complete. No payload.
    SnapshotComplete = 3,
    /// The sender is alive. No payload.
    Keepalive = 4,
    /// The sender ends the session in order. No payload.
    Bye = 5,
    /// Collector to router: every frame up to this sequence is durable. No payload.
    Ack = 6,
}

impl FrameType {
    /// Every type, in the order of its codes.
    pub const ALL: [FrameType; 6] = [
        FrameType::Hello,
        FrameType::Mappings,
        FrameType::SnapshotComplete,
        FrameType::Keepalive,
        FrameType::Bye,
        FrameType::Ack,
    ];

    /// The type of this code, if there is one.
    pub fn from_code(code: u8) -> Option<FrameType> {
        FrameType::ALL.into_iter().find(|frame_type| *frame_type as u8 == code)
    }

    /// Whether frames of this type take a sequence of their own, and are acknowledged.
    pub const fn is_counted(self) -> bool {
        matches!(self, FrameType::Mappings | FrameType::SnapshotComplete)
    }
}

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// One zlib stream (RFC 1950).
    Zlib = 1,
}

impl Codec {
    /// The codec of this code, if there is one.
    pub fn from_code(code: u8) -> Option<Codec> {
        [Codec::None, Codec::Zlib].into_iter().find(|codec| *codec as u8 == code)
    }
}

/// Bits of a header. Bits without a name are sent as zero and not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameFlags(pub u16);

impl FrameFlags {
    /// No bit set.
    pub const NONE: FrameFlags = FrameFlags(0);
    /// The mappings of this frame belong to the snapshot under way.
    pub const SNAPSHOT_PART: FrameFlags = FrameFlags(1);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: FrameFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A header whose magic and checksum hold. Type and codec may still be unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Code of a `FrameType`.
    pub type_code: u8,
    /// Code of a `Codec`.
    pub codec_code: u8,
    /// Bits.
    pub flags: FrameFlags,
    /// Sequence of a counted frame; of an ack, the last sequence that is durable; otherwise 0.
    pub sequence: u64,
    /// Bytes of the payload as sent.
    pub payload_bytes: u32,
    /// Bytes of the payload, inflated; the same number when it is not compressed.
    pub inflated_bytes: u32,
    /// CRC32C of the payload as sent.
    pub payload_crc: u32,
}

/// Why no frame begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The first bytes are not the magic.
    #[error("frame: expected the magic 53 44 4c 31, found {found:02x?}")]
    Magic {
        /// What stands in its place.
        found: [u8; 4],
    },
    /// The header is damaged: none of its lengths can be believed.
    #[error("frame header: CRC32C expected {expected:08x}, found {found:08x}")]
    Checksum {
        /// Of the bytes as they are.
        expected: u32,
        /// As the header says.
        found: u32,
    },
}

impl Header {
    /// Reads a header. Errors: `HeaderFault`. Never allocates.
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Header, HeaderFault> {
        let [m0, m1, m2, m3, type_code, codec_code, f0, f1, rest @ ..] = *bytes;
        let [s0, s1, s2, s3, s4, s5, s6, s7, p0, p1, p2, p3, i0, i1, i2, i3, tail @ ..] = rest;
        let [c0, c1, c2, c3, h0, h1, h2, h3] = tail;
        let found = [m0, m1, m2, m3];
        if found != MAGIC {
            return Err(HeaderFault::Magic { found });
        }
        let expected = crc_fast::crc32_iscsi(&bytes[..HEADER_CHECKED_BYTES]);
        let found = u32::from_be_bytes([h0, h1, h2, h3]);
        if found != expected {
            return Err(HeaderFault::Checksum { expected, found });
        }
        Ok(Header {
            type_code,
            codec_code,
            flags: FrameFlags(u16::from_be_bytes([f0, f1])),
            sequence: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            payload_bytes: u32::from_be_bytes([p0, p1, p2, p3]),
            inflated_bytes: u32::from_be_bytes([i0, i1, i2, i3]),
            payload_crc: u32::from_be_bytes([c0, c1, c2, c3]),
        })
    }

    /// The header's bytes, checksum included.
    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.type_code;
        bytes[5] = self.codec_code;
        bytes[6..8].copy_from_slice(&self.flags.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.payload_bytes.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.inflated_bytes.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.payload_crc.to_be_bytes());
        let header_crc = crc_fast::crc32_iscsi(&bytes[..HEADER_CHECKED_BYTES]);
        bytes[HEADER_CHECKED_BYTES..].copy_from_slice(&header_crc.to_be_bytes());
        bytes
    }
}

/// Writes frames; keeps the compressor's memory from frame to frame.
pub struct FrameEncoder {
    compressor: Compressor,
    compressed: Vec<u8>,
}

impl FrameEncoder {
    /// An encoder that compresses at `level`, 1 (fastest) to 12; others count as 1.
    pub fn new(level: i32) -> FrameEncoder {
        let level = CompressionLvl::new(level).unwrap_or_else(|_| CompressionLvl::fastest());
        FrameEncoder { compressor: Compressor::new(level), compressed: Vec::new() }
    }

    /// Appends one frame to `out`. With `Codec::Zlib` a payload that does not get smaller is sent
    /// as it is. Panics: never; a payload beyond 4 GiB is cut by no sender of ours, so its length
    /// saturates and the frame is refused by whoever reads it.
    pub fn frame(
        &mut self,
        frame_type: FrameType,
        codec: Codec,
        flags: FrameFlags,
        sequence: u64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let shrunk = match codec {
            Codec::None => None,
            Codec::Zlib => self.compress(payload),
        };
        let (codec, bytes) = match shrunk {
            Some(length) => (Codec::Zlib, &self.compressed[..length]),
            None => (Codec::None, payload),
        };
        let header = Header {
            type_code: frame_type as u8,
            codec_code: codec as u8,
            flags,
            sequence,
            payload_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            inflated_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_crc: crc_fast::crc32_iscsi(bytes),
        };
        out.extend_from_slice(&header.write());
        out.extend_from_slice(bytes);
    }

    /// Length of the compressed payload, or `None` when that is no shorter.
    fn compress(&mut self, payload: &[u8]) -> Option<usize> {
        // One byte less than the payload: the compressor itself refuses what saves nothing.
        self.compressed.resize(payload.len().saturating_sub(1), 0);
        self.compressor.zlib_compress(payload, &mut self.compressed).ok()
    }
}

/// Appends a frame without payload: snapshot-complete, keepalive, bye or ack.
pub fn encode_empty(frame_type: FrameType, sequence: u64, out: &mut Vec<u8>) {
    let header = Header {
        type_code: frame_type as u8,
        codec_code: Codec::None as u8,
        flags: FrameFlags::NONE,
        sequence,
        payload_bytes: 0,
        inflated_bytes: 0,
        payload_crc: crc_fast::crc32_iscsi(&[]),
    };
    out.extend_from_slice(&header.write());
}

/// Appends an ack: every counted frame up to `sequence` is durable.
pub fn encode_ack(sequence: u64, out: &mut Vec<u8>) {
    encode_empty(FrameType::Ack, sequence, out);
}

/// Why what the collector sent is no ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckFault {
    /// No frame begins here.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// A frame, but no ack.
    #[error("expected an ack (type 6, no payload), found type {type_code}, {payload_bytes} bytes")]
    NotAck {
        /// Its type.
        type_code: u8,
        /// Its payload.
        payload_bytes: u32,
    },
}

/// The client's side: takes one ack off the front of `bytes`. `None` = not all of it is there yet;
/// otherwise the sequence, and `HEADER_BYTES` are to be consumed. Errors: `AckFault`.
pub fn decode_ack(bytes: &[u8]) -> Result<Option<u64>, AckFault> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = Header::read(header)?;
    if header.type_code != FrameType::Ack as u8 || header.payload_bytes != 0 {
        let Header { type_code, payload_bytes, .. } = header;
        return Err(AckFault::NotAck { type_code, payload_bytes });
    }
    Ok(Some(header.sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_bytes_and_no_flipped_bit_does() {
        let header = Header {
            type_code: 2,
            codec_code: 1,
            flags: FrameFlags::SNAPSHOT_PART,
            sequence: 0x0102_0304_0506_0708,
            payload_bytes: 17,
            inflated_bytes: 4_000,
            payload_crc: 0xdead_beef,
        };
        let bytes = header.write();
        assert_eq!(Header::read(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::read(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_ack_is_read_by_the_client() {
        let mut bytes = Vec::new();
        encode_ack(77, &mut bytes);
        assert_eq!(decode_ack(&bytes[..31]), Ok(None));
        assert_eq!(decode_ack(&bytes), Ok(Some(77)));
        bytes.clear();
        encode_empty(FrameType::Bye, 0, &mut bytes);
        assert!(matches!(decode_ack(&bytes), Err(AckFault::NotAck { type_code: 5, .. })));
    }

    #[test]
    fn a_payload_that_does_not_shrink_is_sent_as_it_is() {
        let mut encoder = FrameEncoder::new(1);
        for (payload, codec) in [(&b"x"[..], Codec::None), (&[b'a'; 5_000][..], Codec::Zlib)] {
            let mut frame = Vec::new();
            let flags = FrameFlags::NONE;
            encoder.frame(FrameType::Mappings, Codec::Zlib, flags, 1, payload, &mut frame);
            let header = Header::read(frame.first_chunk().unwrap()).unwrap();
            assert_eq!(header.codec_code, codec as u8);
            assert_eq!(header.inflated_bytes as usize, payload.len());
            assert_eq!(header.payload_bytes as usize, frame.len() - HEADER_BYTES);
        }
    }
}
