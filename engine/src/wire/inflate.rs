//! Inflates the payload of a frame, whole, into a buffer of exactly the declared length.
//!
//! In:   one zlib stream and the length that the header declares for it.
//! Out:  exactly that many bytes.
//! Law:  no more memory than declared and allowed is ever touched, whatever the stream says.
//! Not:  streams whose length nobody declares (`stream`).

use libdeflater::{DecompressionError, Decompressor};
use storage::row::Cause;

use super::{Rejection, WireLimits};

/// Inflated bytes below which no ratio is asked: every small table compresses well.
pub const RATIO_FREE_BYTES: usize = 4_096;

/// Whole-buffer inflate; about 11 KiB, one per shard.
pub struct Inflater {
    decompressor: Decompressor,
}

impl Inflater {
    /// A new inflater.
    pub fn new() -> Inflater {
        Inflater { decompressor: Decompressor::new() }
    }

    /// Inflates `payload` to exactly `declared_bytes`, which are returned; they lie in `scratch`,
    /// which only ever grows: what an earlier frame left there is not wiped first.
    ///
    /// Errors: `inflate-too-long` when the declared length or its ratio is beyond the limits,
    /// `inflate-failed` for a damaged stream, `frame-length` for one of another length.
    pub fn inflate<'s>(
        &mut self,
        payload: &[u8],
        declared_bytes: usize,
        limits: &WireLimits,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s [u8], Rejection> {
        let ratio_bytes_max = payload.len().saturating_mul(limits.inflate_ratio_max);
        let allowed = limits.inflated_bytes_max.min(ratio_bytes_max.max(RATIO_FREE_BYTES));
        if declared_bytes > allowed {
            return Err(Rejection::new(
                Cause::InflateTooLong,
                format_args!(
                    "{} bytes declare {declared_bytes} inflated; at most {allowed} are allowed by \
                     inflated_bytes_max and inflate_ratio_max: send it in parts",
                    payload.len()
                ),
            ));
        }
        if scratch.len() < declared_bytes {
            scratch.resize(declared_bytes, 0);
        }
        let inflated = scratch.get_mut(..declared_bytes).unwrap_or_default();
        let Some((stream, checksum)) = unwrap_zlib(payload) else { return Err(damaged()) };
        let written =
            self.decompressor.deflate_decompress(stream, inflated).map_err(
                |error| match error {
                    DecompressionError::BadData => damaged(),
                    DecompressionError::InsufficientSpace => Rejection::new(
                        Cause::FrameLength,
                        format_args!("inflates to more than the {declared_bytes} bytes declared"),
                    ),
                },
            )?;
        if written != declared_bytes {
            return Err(Rejection::new(
                Cause::FrameLength,
                format_args!("inflates to {written} bytes, {declared_bytes} are declared"),
            ));
        }
        if libdeflater::adler32(inflated) == checksum {
            return Ok(inflated);
        }
        // The library stops at the stream's end and is silent about what follows it: either that
        // is no checksum, or the stream and its checksum are whole and something follows both.
        Err(match self.decompressor.zlib_decompress(payload, inflated) {
            Ok(_) => {
                Rejection::new(Cause::FrameLength, "bytes follow the zlib stream inside the frame")
            }
            Err(_) => damaged(),
        })
    }
}

fn damaged() -> Rejection {
    Rejection::new(Cause::InflateFailed, "the payload is no intact zlib stream")
}

/// The deflate stream in a zlib stream, and the checksum behind it (RFC 1950 section 2.2). The
/// wrapping is taken off here so that the checksum is computed once and must stand at the end.
fn unwrap_zlib(payload: &[u8]) -> Option<(&[u8], u32)> {
    /// Deflate, with a window of at most 32 KiB.
    const METHODS: [u8; 8] = [0x08, 0x18, 0x28, 0x38, 0x48, 0x58, 0x68, 0x78];
    /// A preset dictionary is needed, and there is none.
    const DICTIONARY: u8 = 0x20;
    let ([method, flags], rest) = payload.split_first_chunk::<2>()?;
    let (stream, checksum) = rest.split_last_chunk::<4>()?;
    let is_whole = u16::from_be_bytes([*method, *flags]).is_multiple_of(31);
    let is_known = METHODS.contains(method) && flags & DICTIONARY == 0;
    (is_whole && is_known).then(|| (stream, u32::from_be_bytes(*checksum)))
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libdeflater::{CompressionLvl, Compressor};

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::best());
        let mut out = vec![0; compressor.zlib_compress_bound(bytes.len())];
        let length = compressor.zlib_compress(bytes, &mut out).unwrap();
        out.truncate(length);
        out
    }

    fn inflate(payload: &[u8], declared_bytes: usize) -> Result<Vec<u8>, Cause> {
        let mut scratch = Vec::new();
        let limits = WireLimits::default();
        let done = Inflater::new().inflate(payload, declared_bytes, &limits, &mut scratch);
        done.map(<[u8]>::to_vec).map_err(|rejection| rejection.cause)
    }

    #[test]
    fn a_stream_inflates_to_what_it_declares_or_is_rejected() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
        let payload = zlib(&text);
        assert_eq!(inflate(&payload, text.len()), Ok(text.clone()));
        assert_eq!(inflate(&payload, text.len() - 1), Err(Cause::FrameLength));
        assert_eq!(inflate(&payload, text.len() + 1), Err(Cause::FrameLength));
        assert_eq!(inflate(&payload[..payload.len() / 2], text.len()), Err(Cause::InflateFailed));
        assert!(inflate(&payload[..payload.len() - 1], text.len()).is_err());
        let mut flipped = payload.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(inflate(&flipped, text.len()), Err(Cause::InflateFailed));
        for (at, byte) in [(0, 0x77), (0, 0x88), (1, payload[1] ^ 1), (1, payload[1] | 0x20)] {
            let mut header = payload.clone();
            header[at] = byte;
            assert_eq!(inflate(&header, text.len()), Err(Cause::InflateFailed), "{at} {byte:02x}");
        }
        let trailed = [&payload[..], b"more"].concat();
        assert_eq!(inflate(&trailed, text.len()), Err(Cause::FrameLength));
        assert_eq!(inflate(b"", 0), Err(Cause::InflateFailed));
    }

    #[test]
    fn a_bomb_is_refused_before_it_inflates() {
        let bomb = zlib(&vec![b' '; 8 << 20]);
        assert!(bomb.len() * 900 < 8 << 20, "the test needs a high ratio");
        assert_eq!(inflate(&bomb, 8 << 20), Err(Cause::InflateTooLong));
        assert_eq!(inflate(&bomb, 100), Err(Cause::FrameLength));
    }
}
