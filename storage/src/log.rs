//! The log: blocks of rows, one file per collection hour and shard, and everything that reads it.
//!
//! In:   rows that a shard has decided on; files that this or an earlier process wrote.
//! Out:  self-contained blocks of bytes (layout in docs/STORAGE-FORMAT.md); rows, equal to the bit.
//! Law:  a byte from disk is believed only behind its checksum, and even then checked.
//! Not:  when to write or sync (the engine's shard); what the rows mean together (`router`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::time::Hour;

pub mod layout;
mod varint;
mod dictionary;
mod sparse;
mod value;
mod form;
mod session;
mod books;
mod builder;
mod decode;
mod scan;
mod read;
mod ordered;
mod survey;
mod files;
mod recover;
pub mod state;
mod verify;
mod lock;
mod kernel;

pub use builder::BlockBuilder;
pub use files::{make_folder, make_folders, make_new, open_or_make, open_to_write};
pub use kernel::{kernel_block, kernel_files, read_kernel, read_kernel_within, settle_kernel};
pub use lock::{DataLock, lock};
pub use ordered::{Ordered, read_ordered};
pub(crate) use ordered::{PlanRead, Told, read_plan};
pub use read::{Filter, ReadReport, Span, read, read_file, read_spans};
pub(crate) use recover::settle;
pub use recover::{Cut, FileSystem, Kernel};
pub(crate) use survey::Survey;
pub use verify::{Fault, VerifyReport, verify};

/// A log that cannot be read or written at all. A damaged block is no such error (`Corruption`).
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The host refuses: who reads this can mend the folder, the disk or the permissions.
    #[error("cannot {operation} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process writes into the data folder.
    #[error(
        "{path} is held by {holder}: stop that collector, or give this one another --data",
        path = path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, as far as the lock file says.
        holder: String,
    },
    /// Something else stands where a file of the data folder belongs.
    #[error(
        "{path} is {found}, expected a regular file: links are not followed in a data folder; put \
         the file itself there, or take it away",
        path = path.display()
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What stands there.
        found: &'static str,
    },
    /// What this process held is no longer where it was.
    #[error("{path} is no longer what was opened there: {why}", path = path.display())]
    Gone {
        /// The folder or file.
        path: PathBuf,
        /// What is there instead.
        why: String,
    },
    /// What was asked for needs more memory than it may take.
    #[error("the answer needs {needed_bytes} bytes of memory or more, and may take {bytes_max}")]
    TooLarge {
        /// What it would have held when it was ended: the whole may need more.
        needed_bytes: u64,
        /// What it may hold.
        bytes_max: u64,
    },
    /// Reading was ended from outside.
    #[error("nobody waits for the answer any more")]
    NobodyWaits,
}

impl LogError {
    /// The error of `operation` on `path`, for `map_err`.
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError::Io { operation, path, source }
    }
}

/// Bytes of a log file that are not what its layout demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} at byte {offset}: expected {expected}, found {found}", path = path.display())]
pub struct Corruption {
    /// The log file.
    pub path: PathBuf,
    /// Where in it the block begins that is damaged.
    pub offset: u64,
    /// What the layout demands.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// Where a shard's rows of one collection hour go: `DATA/log/2026-11-22T04/shard-0.log`. Those of
/// `KERNEL_SHARD` go to `kernel.log` beside it.
pub fn log_path(data: &Path, hour: Hour, shard: u16) -> PathBuf {
    let folder = data.join(layout::LOG_FOLDER).join(hour.to_string());
    match shard {
        layout::KERNEL_SHARD => folder.join(layout::KERNEL_FILE),
        shard => folder.join(format!("shard-{shard}.log")),
    }
}

/// One log file of a data folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// Collection hour.
    pub hour: Hour,
    /// Shard that wrote it.
    pub shard: u16,
    /// Where it is.
    pub path: PathBuf,
    /// Its length when it was listed: what a writer appends later is not read, so that all files
    /// are read as of one moment.
    pub length: u64,
    /// A later file of the shard has blocks, so all of this one was durable: a shard writes one
    /// commit after the other. What is not whole at its end is damage, and no torn end.
    pub sealed: bool,
}

/// End of the name of an empty file beside a log file: it is written to again although a later one
/// has blocks, for the clock was set back. Until it is gone the later one seals nothing.
const REOPENED: &str = ".reopened";

/// The mark of a log file that is written to again.
pub fn reopened_path(path: &Path) -> PathBuf {
    recover::beside(path, REOPENED)
}

/// Whether a later file of this shard has blocks: then whoever writes to that of `hour` must mark
/// it first (`reopened_path`), durably.
pub fn is_behind(data: &Path, hour: Hour, shard: u16) -> io::Result<bool> {
    let folder = match std::fs::read_dir(data.join(layout::LOG_FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        folder => folder?,
    };
    for entry in folder {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let Some(later) = name.parse::<Hour>().ok().filter(|later| *later > hour) else { continue };
        match log_path(data, later, shard).metadata() {
            Ok(metadata) if metadata.len() > 0 => return Ok(true),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(false)
}

/// The shard whose log file has this name.
fn shard_of(name: &str) -> Option<u16> {
    let number = name.strip_prefix("shard-")?.strip_suffix(".log")?.parse().ok()?;
    Some(number).filter(|shard| *shard != layout::KERNEL_SHARD)
}

/// Every log file of the data folder, by hour and shard; none when there is no log yet.
///
/// What is not named like a log file is left alone.
pub fn log_files(data: &Path) -> Result<Vec<LogFile>, LogError> {
    let mut files = Vec::new();
    let mut reopened = BTreeSet::new();
    for (hour_name, hour_path) in entries(&data.join(layout::LOG_FOLDER))? {
        let Ok(hour) = hour_name.parse::<Hour>() else { continue };
        for (name, path) in entries(&hour_path)? {
            if let Some(shard) = shard_of(&name) {
                let length = length_of(&path)?;
                files.push(LogFile { hour, shard, path, length, sealed: false });
            } else if let Some(shard) = name.strip_suffix(REOPENED).and_then(shard_of) {
                reopened.insert((hour, shard));
            }
        }
    }
    files.sort();
    seal(&mut files, &reopened)?;
    Ok(files)
}

fn seal(files: &mut [LogFile], reopened: &BTreeSet<(Hour, u16)>) -> Result<(), LogError> {
    let mut continued = BTreeSet::new();
    for file in files.iter_mut().rev() {
        if continued.contains(&file.shard) && !reopened.contains(&(file.hour, file.shard)) {
            file.sealed = true;
            // It was measured before the later one, perhaps in the middle of its last commit.
            file.length = length_of(&file.path)?;
        }
        if file.length > 0 {
            continued.insert(file.shard);
        }
    }
    Ok(())
}

fn length_of(path: &Path) -> Result<u64, LogError> {
    Ok(path.metadata().map_err(LogError::io("measure", path))?.len())
}

/// Names and paths in a folder; none when there is no such folder.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, LogError> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(LogError::io("list", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(LogError::io("list", folder))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
