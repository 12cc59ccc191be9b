//! One writer per data folder: an advisory lock that goes with its process.
//!
//! In:   a data folder, which is made if it is not there.
//! Out:  a guard that holds `DATA/lock`, or the process that holds it already.
//! Law:  the lock is the kernel's, so a collector that was killed leaves none behind.
//! Not:  readers: they need no lock, and only look whether it is held (`history::network::Writer`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use super::LogError;
use super::layout::LOCK_FILE;

/// Holds the data folder until it is dropped.
#[derive(Debug)]
pub struct DataLock {
    /// Closing it gives the lock back.
    _file: File,
}

/// How often the lock is tried: a reader that looks whether it is held has it for a moment (longer
/// when it loses its core there), and must not keep a collector from starting.
const TRIES_MAX: usize = 250;
/// Between two tries: a collector that is refused learns it after 250 x 1 ms = 250 ms.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Takes the data folder for this process. A lock that stays held over all tries is a collector's.
pub fn lock(data: &Path) -> Result<DataLock, LogError> {
    std::fs::create_dir_all(data).map_err(LogError::io("make the data folder", data))?;
    let path = data.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(LogError::io("open", &path))?;
    match try_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let named = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder =
                if named { holder.trim().to_owned() } else { "another process".to_owned() };
            return Err(LogError::Locked { path, holder });
        }
        Err(TryLockError::Error(error)) => return Err(LogError::io("lock", &path)(error)),
    }
    file.set_len(0).map_err(LogError::io("empty", &path))?;
    let holder = format!("process {}\n", std::process::id());
    file.write_all(holder.as_bytes()).map_err(LogError::io("write", &path))?;
    Ok(DataLock { _file: file })
}

fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..TRIES_MAX {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_AGAIN_AFTER),
            result => return result,
        }
    }
    file.try_lock()
}
