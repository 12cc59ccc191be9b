//! Room for the log: how much the file system of the data folder still takes, and which it is.
//!
//! In:   a path in or above the data folder.
//! Out:  the mount, its free bytes and files; whether an errno means that room was lacking.
//! Law:  where the system does not say how much is free, nothing is claimed.
//! Not:  waiting for room (`shard`).

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::io::Errno;
use tuning::mounts::mount_of;

/// What a file system has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where it is mounted; the path that was asked about where that cannot be said.
    pub mount: PathBuf,
    /// Its type; empty where it cannot be said.
    pub file_system: String,
    /// Bytes that this process may still write; `None` where the system does not say.
    pub free_bytes: Option<u64>,
    /// Files that can still be made; `None` where the system does not say.
    pub free_files: Option<u64>,
}

impl Room {
    /// Looks at the file system that holds `path`, or the nearest folder above it that there is.
    pub fn at(path: &Path) -> Room {
        let there = path.ancestors().find_map(|path| path.canonicalize().ok());
        let path = there.unwrap_or_else(|| path.to_owned());
        let mount = mount_of(&path).ok().flatten();
        let (file_system, point) =
            mount.map_or((String::new(), path.clone()), |mount| (mount.file_system, mount.point));
        let told = statvfs(&path).ok();
        // A file system that counts no blocks at all does not count them.
        let blocks = told.as_ref().filter(|told| told.f_blocks > 0);
        let files = told.as_ref().filter(|told| told.f_files > 0);
        Room {
            mount: point,
            file_system,
            free_bytes: blocks.map(|told| told.f_bavail.saturating_mul(told.f_frsize)),
            free_files: files.map(|told| told.f_favail),
        }
    }

    /// Whether the file system says that it has not room for so many bytes.
    pub fn lacks(&self, bytes: u64) -> bool {
        self.free_bytes.is_some_and(|free| free < bytes) || self.free_files == Some(0)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mount.display())?;
        if !self.file_system.is_empty() {
            write!(f, " ({})", self.file_system)?;
        }
        match self.free_bytes {
            Some(bytes) => write!(f, " has {bytes} bytes free")?,
            None => write!(f, " does not say how much is free")?,
        }
        match self.free_files {
            Some(0) => write!(f, " and takes no more files"),
            _ => Ok(()),
        }
    }
}

/// Whether the error says that there is no room: waiting may help, for somebody may make some. A
/// file that is as long as it may be has room again when the next hour begins another.
/// After any other error of a disk only recovery may say what is on it.
pub fn is_out_of_room(errno: i32) -> bool {
    [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(Errno::raw_os_error).contains(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_has_the_room_of_the_one_above() {
        let data = tempfile::tempdir().unwrap();
        let room = Room::at(&data.path().join("not/yet"));
        let above = Room::at(data.path());
        assert_eq!(
            (room.mount, room.file_system),
            (above.mount.clone(), above.file_system.clone())
        );
        assert!(data.path().canonicalize().unwrap().starts_with(&above.mount));
        assert!(above.free_bytes.is_some_and(|free| free > 0), "{above}");
        assert!(!above.lacks(1) && above.lacks(u64::MAX), "{above}");
    }

    #[test]
    fn no_files_left_is_no_room_and_silence_is_no_claim() {
        let mut room = Room {
            mount: "/srv".into(),
            file_system: "ext4".into(),
            free_bytes: Some(100),
            free_files: Some(0),
        };
        assert!(room.lacks(1));
        let text = room.to_string();
        assert_eq!(text, "/srv (ext4) has 100 bytes free and takes no more files");
        (room.free_bytes, room.free_files) = (None, None);
        assert!(!room.lacks(u64::MAX));
        assert_eq!(room.to_string(), "/srv (ext4) does not say how much is free");
    }

    #[test]
    fn only_a_lack_of_room_is_worth_waiting_for() {
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert!(is_out_of_room(errno));
        }
        for errno in [libc::EIO, libc::EROFS, libc::ENOENT, libc::EACCES] {
            assert!(!is_out_of_room(errno));
        }
    }
}
