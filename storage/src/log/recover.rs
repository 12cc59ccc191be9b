//! Recovery of files: what a crash left unfinished at their ends is cut off.
//!
//! In:   log files of a data folder that nobody writes to, and what a reader met at their ends.
//! Out:  files that end with a whole block; what was cut, said.
//! Law:  no block that was durable is cut; no file is refused; a second recovery cuts nothing.
//! Not:  what the sessions of the lost process become (`crate::recovery`).

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::{Corruption, LogError, LogFile};

/// Folders whose entries lead to a log file: its hour, `log`, and the data folder.
const FOLDERS_ABOVE: usize = 3;

/// Bytes that were cut off the end of a log file: no commit covered them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Its length now.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
    /// What was wrong with them.
    pub why: String,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { path, offset, bytes, why } = self;
        write!(f, "{}: cut {bytes} bytes from byte {offset} on: {why}", path.display())
    }
}

/// Truncates log files whose ends are torn to their last good block, and makes all of `files`
/// durable.
///
/// What a killed process has written and not synced is whole for every reader, and gone after a
/// power loss. What has been read counts from now on (it is not asked for again), so it is synced
/// before anybody hears of it, folder entries too. Files that states cover were synced before the
/// states were written. The caller holds the lock of the data folder.
pub(crate) fn settle(
    files: &[LogFile],
    torn: Vec<(LogFile, Corruption)>,
) -> Result<Vec<Cut>, LogError> {
    let mut cuts = Vec::new();
    for (log_file, corruption) in torn {
        let path = log_file.path;
        let offset = corruption.offset;
        let bytes = log_file.length.saturating_sub(offset);
        let file = OpenOptions::new().write(true).open(&path);
        let file = file.map_err(LogError::io("open", &path))?;
        file.set_len(offset).map_err(LogError::io("cut", &path))?;
        let why = format!("expected {}, found {}", corruption.expected, corruption.found);
        cuts.push(Cut { path, offset, bytes, why });
    }
    let mut folders = BTreeSet::new();
    for LogFile { path, .. } in files {
        folders.extend(path.ancestors().skip(1).take(FOLDERS_ABOVE).map(Path::to_owned));
        // A file of an old hour may be read-only by now: it is opened as a reader does.
        sync(path)?;
    }
    for folder in &folders {
        sync(folder)?;
    }
    Ok(cuts)
}

fn sync(path: &Path) -> Result<(), LogError> {
    let file = File::open(path).map_err(LogError::io("open", path))?;
    file.sync_all().map_err(LogError::io("sync", path))
}
