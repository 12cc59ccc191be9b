//! One writer per data folder: advisory locks that go with their process.
//!
//! In:   a data folder, which is made if it is not there.
//! Out:  a guard that holds the folder and `DATA/lock`, or the process that holds one already.
//! Law:  a folder has one writer, whatever becomes of `lock`, and whichever way leads to it.
//! Not:  readers: they need no lock, and only look whether it is held (`history::network::Writer`).
//!
//! Two locks, for each knows something that the other does not:
//! the folder's own cannot be removed while the folder is there, and is the same through every
//! link and mount; `lock` says who holds it, and is the one that collectors before this one take.
//! Both are the kernel's, so a collector that was killed leaves none behind.
//! Where a file system has no locks of folders (NFS), `lock` alone holds.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::layout::LOCK_FILE;
use super::{LogError, files};

/// Holds the data folder until it is dropped.
#[derive(Debug)]
pub struct DataLock {
    data: PathBuf,
    folder: File,
    /// Closing it gives the lock back.
    file: Mutex<File>,
    folder_unlocked: Option<io::Error>,
}

/// How often the lock is tried: a reader that looks whether it is held has it for a moment (longer
/// when it loses its core there), and must not keep a collector from starting.
const TRIES_MAX: usize = 250;
/// Between two tries: a collector that is refused learns it after 250 x 1 ms = 250 ms.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Takes the data folder for this process. A lock that stays held over all tries is a collector's.
pub fn lock(data: &Path) -> Result<DataLock, LogError> {
    files::make_folders(data).map_err(LogError::io("make the data folder", data))?;
    let folder = File::open(data).map_err(LogError::io("open", data))?;
    let folder_unlocked = match try_lock(&folder) {
        Ok(()) => None,
        Err(TryLockError::WouldBlock) => return Err(held(data, data)),
        Err(TryLockError::Error(error)) => Some(error),
    };
    let file = Mutex::new(lock_file(data)?);
    Ok(DataLock { data: data.to_owned(), folder, file, folder_unlocked })
}

impl DataLock {
    /// Why the folder itself could not be locked: then only `lock` keeps a second writer out, and
    /// who removes it lets one in.
    pub fn folder_unlocked(&self) -> Option<&io::Error> {
        self.folder_unlocked.as_ref()
    }

    /// Looks whether the path still leads to the folder that is held, and `lock` to the file that
    /// is held. One that was removed is made and taken again: `true` then.
    ///
    /// Errors: the folder is another one or none, or somebody else holds `lock`.
    pub fn check(&self) -> Result<bool, LogError> {
        let gone = |why: String| LogError::Gone { path: self.data.clone(), why };
        let held = self.folder.metadata().map_err(LogError::io("look at", &self.data))?;
        match self.data.metadata() {
            Ok(found) if is_same(&held, &found) => {}
            Ok(_) => return Err(gone("another folder is in its place".to_owned())),
            Err(error) => return Err(gone(error.to_string())),
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if is_at(&file, &self.data.join(LOCK_FILE)) {
            return Ok(false);
        }
        *file = lock_file(&self.data)?;
        Ok(true)
    }
}

/// Takes `lock`, and writes into it who holds it.
fn lock_file(data: &Path) -> Result<File, LogError> {
    let path = data.join(LOCK_FILE);
    files::check(&path)?;
    for _ in 0..TRIES_MAX {
        let mut file = files::open_or_make(&path).map_err(LogError::io("open", &path))?;
        match try_lock(&file) {
            // Somebody may have removed it between the two: then it locks nothing.
            Ok(()) if !is_at(&file, &path) => continue,
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(data, &path)),
            Err(TryLockError::Error(error)) => return Err(LogError::io("lock", &path)(error)),
        }
        file.set_len(0).map_err(LogError::io("empty", &path))?;
        file.seek(SeekFrom::Start(0)).map_err(LogError::io("write", &path))?;
        let holder = format!("process {}\n", std::process::id());
        file.write_all(holder.as_bytes()).map_err(LogError::io("write", &path))?;
        return Ok(file);
    }
    Err(LogError::Gone { path, why: "it is removed again and again".to_owned() })
}

/// The error of a lock that somebody else holds, named as far as `lock` names it.
fn held(data: &Path, path: &Path) -> LogError {
    let mut holder = String::new();
    let file = files::check(&data.join(LOCK_FILE))
        .ok()
        .and_then(|()| File::open(data.join(LOCK_FILE)).ok());
    let named = file
        .is_some_and(|file| file.take(HOLDER_BYTES_MAX).read_to_string(&mut holder).is_ok())
        && !holder.trim().is_empty();
    let holder = if named { holder.trim().to_owned() } else { "another process".to_owned() };
    LogError::Locked { path: path.to_owned(), holder }
}

/// How much of `lock` is read for a message.
const HOLDER_BYTES_MAX: u64 = 64;

fn is_at(file: &File, path: &Path) -> bool {
    let (held, found) = (file.metadata(), path.symlink_metadata());
    held.is_ok_and(|held| found.is_ok_and(|found| is_same(&held, &found)))
}

fn is_same(held: &Metadata, found: &Metadata) -> bool {
    (held.dev(), held.ino()) == (found.dev(), found.ino())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_removed_lock_file_lets_nobody_in() {
        let above = tempfile::tempdir().unwrap();
        let (data, link) = (above.path().join("data"), above.path().join("link"));
        let held = lock(&data).unwrap();
        symlink(&data, &link).unwrap();
        for remove in [false, true] {
            if remove {
                std::fs::remove_file(data.join(LOCK_FILE)).unwrap();
            }
            for path in [data.as_path(), &link, &data.join("../data")] {
                let refused = lock(path).unwrap_err();
                assert!(matches!(refused, LogError::Locked { .. }), "{refused}");
            }
        }
        // The holder makes it again, for those who look at nothing else.
        assert!(held.check().unwrap());
        assert!(!held.check().unwrap());
        let file = File::open(data.join(LOCK_FILE)).unwrap();
        assert!(matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        lock(&data).unwrap();
    }

    /// A collector of before takes `lock` and not the folder.
    #[test]
    fn a_collector_of_before_keeps_this_one_out_and_the_other_way_round() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(LOCK_FILE);
        let before = files::open_or_make(&path).unwrap();
        before.try_lock().unwrap();
        (&before).write_all(b"process 4711\n").unwrap();
        let refused = lock(data.path()).unwrap_err().to_string();
        assert!(refused.contains("process 4711"), "{refused}");
        drop(before);
        let held = lock(data.path()).unwrap();
        let before = files::open_or_make(&path).unwrap();
        assert!(matches!(before.try_lock(), Err(TryLockError::WouldBlock)));
        // It was started when `lock` had been removed: the two notice.
        std::fs::remove_file(&path).unwrap();
        let before = files::open_or_make(&path).unwrap();
        before.try_lock().unwrap();
        assert!(matches!(held.check(), Err(LogError::Locked { .. })));
    }

    #[test]
    fn a_folder_that_goes_is_noticed() {
        let above = tempfile::tempdir().unwrap();
        let (data, aside) = (above.path().join("data"), above.path().join("aside"));
        let held = lock(&data).unwrap();
        std::fs::rename(&data, &aside).unwrap();
        assert!(matches!(held.check(), Err(LogError::Gone { .. })));
        std::fs::create_dir(&data).unwrap();
        let told = held.check().unwrap_err().to_string();
        assert!(told.contains("another folder"), "{told}");
        std::fs::remove_dir(&data).unwrap();
        std::fs::rename(&aside, &data).unwrap();
        assert!(!held.check().unwrap());
        std::fs::remove_dir_all(&data).unwrap();
        assert!(matches!(held.check(), Err(LogError::Gone { .. })));
    }

    #[test]
    fn a_lock_that_is_a_link_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let elsewhere = data.path().join("elsewhere");
        symlink(&elsewhere, data.path().join(LOCK_FILE)).unwrap();
        let refused = lock(data.path()).unwrap_err().to_string();
        assert!(refused.contains("a symbolic link"), "{refused}");
        assert!(!elsewhere.exists());
    }
}
