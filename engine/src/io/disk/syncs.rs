//! How long a disk takes to be sure of a small write: what every commit waits for.
//!
//! In:   a folder.
//! Out:  the times of writes with their syncs.
//! Law:  the folder stays as it is: one small file is written, timed, and removed.
//! Not:  what is quick enough (`tuning::doctor`, `tuning::plan`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tuning::doctor::Flush;

/// The disk is timed by so many writes,
const WRITES: u64 = 200;
/// of so many bytes,
const WRITE_BYTES: usize = 4 << 10;
/// and for no longer than this.
const TIMING_MAX: Duration = Duration::from_secs(2);

/// Writes and syncs a small file again and again, as a commit does. Errors: nothing can be written.
pub fn time_syncs(folder: &Path) -> io::Result<Option<Flush>> {
    let path = folder.join(format!(".stormdrain-syncs-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let times = times(&file);
    std::fs::remove_file(&path)?;
    let mut times = times?;
    times.sort_unstable();
    let (Some(median), Some(max)) = (times.get(times.len() / 2), times.last()) else {
        return Ok(None);
    };
    Ok(Some(Flush { count: times.len() as u64, median_us: *median, max_us: *max }))
}

fn times(file: &File) -> io::Result<Vec<u64>> {
    let bytes = [b'x'; WRITE_BYTES];
    let began = Instant::now();
    let mut times = Vec::new();
    for write in 0..WRITES {
        let start = Instant::now();
        file.write_all_at(&bytes, write * WRITE_BYTES as u64)?;
        file.sync_data()?;
        times.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
        if began.elapsed() > TIMING_MAX {
            break;
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_timed_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let flush = time_syncs(folder.path()).unwrap().unwrap();
        assert!(flush.count > 0 && flush.median_us <= flush.max_us, "{flush:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        time_syncs(&folder.path().join("absent")).unwrap_err();
    }
}
