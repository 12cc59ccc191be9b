//! Walks a log file from block to block, and past damage.
//!
//! In:   a log file, perhaps one that another process is writing.
//! Out:  its whole blocks in order, the damage between them, and what its end lacks.
//! Law:  a block counts only when both its checksums hold; nothing here changes the file.
//! Not:  what the blocks hold (`decode`), or what is done about a torn end (`recover`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::layout::{FLAG_ALL_BEFORE_DURABLE, HEADER_BYTES, Header, MAGIC};
use super::{Corruption, LogError, LogFile};

/// How much is read at once; a longer block is read as a whole.
const WINDOW_BYTES: usize = 1 << 20;

/// What stands next in a log file.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// A whole block.
    Block {
        /// Where it begins.
        offset: u64,
        /// Its header.
        header: Header,
        /// Its payload; the checksum holds.
        payload: &'a [u8],
    },
    /// Bytes that were durable once and are no block now; reading goes on behind them.
    Damage {
        /// How many they are.
        bytes: u64,
        /// What is wrong with them.
        corruption: Corruption,
    },
    /// The file ends in bytes that no commit covers: a write under way, or one that was cut short.
    Torn {
        /// How many they are.
        bytes: u64,
        /// What is wrong with them.
        corruption: Corruption,
    },
}

/// A log file, and how far it has been walked.
#[derive(Debug)]
pub(super) struct Scan<'p> {
    path: &'p Path,
    file: File,
    /// How much of the file counts: its length when it was listed.
    length: u64,
    /// All of it was durable: it has no torn end.
    sealed: bool,
    at: u64,
    window: Vec<u8>,
    window_start: u64,
    bytes_read: u64,
}

impl<'p> Scan<'p> {
    pub(super) fn open(log_file: &'p LogFile) -> Result<Self, LogError> {
        Scan::open_at(log_file, 0)
    }

    /// As `open`, but begins at a byte where a block is known to begin.
    pub(super) fn open_at(log_file: &'p LogFile, at: u64) -> Result<Self, LogError> {
        let path = log_file.path.as_path();
        let file = File::open(path).map_err(LogError::io("open", path))?;
        let length = file.metadata().map_err(LogError::io("measure", path))?.len();
        let length = length.min(log_file.length);
        let sealed = log_file.sealed;
        let (window, window_start, bytes_read) = (Vec::new(), at, 0);
        Ok(Scan { path, file, length, sealed, at, window, window_start, bytes_read })
    }

    /// Bytes read from the file so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next piece, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'_>>, LogError> {
        let offset = self.at;
        if offset >= self.length {
            return Ok(None);
        }
        match self.probe(offset)? {
            Ok(header) => {
                let payload_start = offset + HEADER_BYTES as u64;
                self.at = payload_start + header.payload_bytes;
                let payload_bytes = header.payload_bytes as usize;
                let payload = self.bytes(payload_start, payload_bytes)?.unwrap_or(&[]);
                Ok(Some(Piece::Block { offset, header, payload }))
            }
            Err(corruption) => match self.resume(offset)? {
                Some(next) => {
                    self.at = next;
                    Ok(Some(Piece::Damage { bytes: next - offset, corruption }))
                }
                None if self.sealed => {
                    self.at = self.length;
                    Ok(Some(Piece::Damage { bytes: self.length - offset, corruption }))
                }
                None => {
                    self.at = self.length;
                    Ok(Some(Piece::Torn { bytes: self.length - offset, corruption }))
                }
            },
        }
    }

    /// The header of a whole block that begins here, or what is wrong.
    fn probe(&mut self, offset: u64) -> Result<Result<Header, Corruption>, LogError> {
        let path = self.path;
        let fault = |expected: String, found: String| {
            Ok(Err(Corruption { path: path.to_owned(), offset, expected, found }))
        };
        let left = self.length - offset;
        let Some(bytes) = self.bytes(offset, HEADER_BYTES)? else {
            return fault(format!("a header of {HEADER_BYTES} bytes"), format!("{left} bytes"));
        };
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return fault(format!("a header of {HEADER_BYTES} bytes"), "fewer".to_owned());
        };
        let header = match Header::from_bytes(bytes) {
            Ok(header) => header,
            Err((expected, found)) => return fault(expected, found),
        };
        if header.block_bytes().is_none_or(|block_bytes| block_bytes > left) {
            let payload_left = left - HEADER_BYTES as u64;
            let expected = format!("a payload of {} bytes", header.payload_bytes);
            return fault(expected, format!("{payload_left} bytes"));
        }
        let payload_bytes = header.payload_bytes as usize;
        let payload = self.bytes(offset + HEADER_BYTES as u64, payload_bytes)?;
        let crc = payload.map(crc_fast::crc32_iscsi);
        if crc != Some(header.payload_crc) {
            let expected = format!("payload of CRC32C {:08x}", header.payload_crc);
            return fault(
                expected,
                crc.map_or("fewer bytes".to_owned(), |crc| format!("{crc:08x}")),
            );
        }
        Ok(Ok(header))
    }

    /// Where reading goes on behind bytes that are no block; `None` = nowhere.
    ///
    /// Blocks behind them count only when one of them says that everything before it was durable:
    /// then the bytes were damaged later. Otherwise they and the blocks belong to one commit, which
    /// a power loss cut and which nobody was told of.
    fn resume(&mut self, offset: u64) -> Result<Option<u64>, LogError> {
        let mut first_whole = None;
        let mut at = offset + 1;
        while let Some(candidate) = self.find_magic(at)? {
            match self.probe(candidate)? {
                Ok(header) => {
                    let whole = *first_whole.get_or_insert(candidate);
                    if header.flags & FLAG_ALL_BEFORE_DURABLE != 0 {
                        return Ok(Some(whole));
                    }
                    at = candidate + HEADER_BYTES as u64 + header.payload_bytes;
                }
                Err(_) => at = candidate + 1,
            }
        }
        Ok(None)
    }

    /// The first place from `at` on where a block may begin.
    fn find_magic(&mut self, mut at: u64) -> Result<Option<u64>, LogError> {
        while self.length.saturating_sub(at) >= HEADER_BYTES as u64 {
            let count = (self.length - at).min(WINDOW_BYTES as u64) as usize;
            let Some(bytes) = self.bytes(at, count)? else { return Ok(None) };
            if let Some(place) = bytes.windows(MAGIC.len()).position(|window| window == MAGIC) {
                return Ok(Some(at + place as u64));
            }
            at += (count - (MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }

    /// These bytes of the file; `None` when it ends before them.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>, LogError> {
        let inside = |start: u64, held: usize| {
            let skip = usize::try_from(offset.checked_sub(start)?).ok()?;
            let end = skip.checked_add(count)?;
            (end <= held).then_some(skip..end)
        };
        if inside(self.window_start, self.window.len()).is_none() {
            let left = self.length.saturating_sub(offset);
            if left < count as u64 {
                return Ok(None);
            }
            self.fill(offset, left.min(WINDOW_BYTES.max(count) as u64) as usize)?;
        }
        Ok(inside(self.window_start, self.window.len()).map(|range| &self.window[range]))
    }

    /// Reads into the window; a file that has become shorter meanwhile gives less.
    fn fill(&mut self, offset: u64, count: usize) -> Result<(), LogError> {
        self.window.resize(count, 0);
        self.window_start = offset;
        let mut held = 0;
        while held < count {
            match self.file.read_at(&mut self.window[held..], offset + held as u64) {
                Ok(0) => break,
                Ok(read) => held += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LogError::io("read", self.path)(error)),
            }
        }
        self.window.truncate(held);
        self.bytes_read += held as u64;
        Ok(())
    }
}
