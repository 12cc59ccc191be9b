//! One writer per data folder: an advisory lock that goes with its process.
//!
//! In:   a data folder, which is made if it is not there.
//! Out:  a guard that holds `DATA/lock`, or the process that holds it already.
//! Law:  the lock is the kernel's, so a collector that was killed leaves none behind.
//! Not:  readers: they need no lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use super::LogError;
use super::layout::LOCK_FILE;

/// Holds the data folder until it is dropped.
#[derive(Debug)]
pub struct DataLock {
    /// Closing it gives the lock back.
    _file: File,
}

/// Takes the data folder for this process. Never waits.
pub fn lock(data: &Path) -> Result<DataLock, LogError> {
    std::fs::create_dir_all(data).map_err(LogError::io("make", data))?;
    let path = data.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(LogError::io("open", &path))?;
    match file.try_lock() {
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
