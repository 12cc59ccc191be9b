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

    /// Inflates `payload` into `scratch`, which then holds exactly `declared_bytes`.
    ///
    /// Errors: `inflate-too-long` when the declared length or its ratio is beyond the limits,
    /// `inflate-failed` for a damaged stream, `frame-length` for one of another length.
    pub fn inflate(
        &mut self,
        payload: &[u8],
        declared_bytes: usize,
        limits: &WireLimits,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Rejection> {
        let ratio_bytes_max = payload.len().saturating_mul(limits.inflate_ratio_max);
        let allowed = limits.inflated_bytes_max.min(ratio_bytes_max.max(RATIO_FREE_BYTES));
        if declared_bytes > allowed {
            return Err(Rejection::new(
                Cause::InflateTooLong,
                format_args!(
                    "{} bytes declare {declared_bytes} inflated; at most {allowed} are allowed",
                    payload.len()
                ),
            ));
        }
        scratch.resize(declared_bytes, 0);
        let written =
            self.decompressor.zlib_decompress(payload, scratch).map_err(|error| match error {
                DecompressionError::BadData => {
                    Rejection::new(Cause::InflateFailed, "the payload is no intact zlib stream")
                }
                DecompressionError::InsufficientSpace => Rejection::new(
                    Cause::FrameLength,
                    format_args!("inflates to more than the {declared_bytes} bytes declared"),
                ),
            })?;
        if written != declared_bytes {
            return Err(Rejection::new(
                Cause::FrameLength,
                format_args!("inflates to {written} bytes, {declared_bytes} are declared"),
            ));
        }
        self.check_end(payload, scratch)
    }

    /// The library stops at the stream's end and is silent about what follows it. The stream ends
    /// with the Adler-32 of what it holds (RFC 1950 section 2.2), so the payload must too.
    fn check_end(&self, payload: &[u8], inflated: &[u8]) -> Result<(), Rejection> {
        let expected = libdeflater::adler32(inflated).to_be_bytes();
        if payload.ends_with(&expected) {
            return Ok(());
        }
        Err(Rejection::new(Cause::FrameLength, "bytes follow the zlib stream inside the frame"))
    }
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
        done.map(|()| scratch).map_err(|rejection| rejection.cause)
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
