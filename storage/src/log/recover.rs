//! Recovery of files: what no later block proves durable is written anew, or cut and kept aside.
//!
//! In:   log files of a data folder that nobody writes to.
//! Out:  files whose every byte is on the disk and which end with a whole block; what was cut.
//! Law:  no block that was durable is cut; nothing is adopted because a sync succeeds; a recovery
//!       that is lost at any step leaves what the next one needs; a second one cuts nothing.
//! Not:  what the sessions of the lost process become (`crate::recovery`).
//!
//! A block with `FLAG_ALL_BEFORE_DURABLE` was written after a sync had covered all before it. What
//! stands from the last such block on, the *tail*, nothing proves: it may be acknowledged, so
//! whole blocks of it stay; it may be in the kernel's cache alone, where pages whose write has
//! failed count as clean, so that a sync finds nothing to do and succeeds. So it is written anew:
//! 1. the tail is copied, through memory, to `shard-0.log.OFFSET.tail`; what is behind the last
//!    whole block to `shard-0.log.NUMBER.cut`; both synced, with their folder;
//! 2. the file is cut at the offset, which lets go of its pages and of their places on the disk
//!    (a write to the same place may miss what a failed one has left undone), gets the tail behind
//!    it, and is synced;
//! 3. `.tail` is removed, and the folders are synced, before anything is appended.
//!
//! Whoever finds a `.tail` does 2 and 3 again: what it holds was durable before it had its name.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::layout::{FLAG_ALL_BEFORE_DURABLE, KERNEL_FILE, LOG_FOLDER};
use super::scan::{Piece, Scan};
use super::{LogError, LogFile, entries, files, log_files, reopened_path, shard_of};
use crate::time::Hour;

mod system;

pub use system::{FileSystem, Kernel};

/// Folders whose entries lead to a log file: its hour, `log`, and the data folder.
const FOLDERS_ABOVE: usize = 3;
/// Ends of names beside a log file: what was cut of it,
const CUT: &str = ".cut";
/// the end that is being written anew,
const TAIL: &str = ".tail";
/// and a copy of either that is not whole yet.
const UNFINISHED: &str = ".unfinished";

/// Bytes that were cut off the end of a log file: no block that is there proves that they were
/// durable, and they are no whole blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Its length now.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
    /// Where they are now.
    pub kept: PathBuf,
    /// What was wrong with them.
    pub why: String,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { path, offset, bytes, kept, why } = self;
        let (path, kept) = (path.display(), kept.display());
        write!(f, "{path}: cut {bytes} bytes from byte {offset} on, kept as {kept}: {why}")
    }
}

/// Makes what every shard wrote last durable, and cuts what is not whole of it.
///
/// `covered` says how far states cover a file: up to there it was durable before they were written.
/// The caller holds the lock of the data folder.
/// Cost: reads the newest file of each shard from there on; writes one commit of each.
pub(crate) fn settle(
    data: &Path,
    covered: &dyn Fn(&LogFile) -> u64,
    system: &mut dyn FileSystem,
) -> Result<Vec<Cut>, LogError> {
    finish_what_was_begun(data, system)?;
    let newest = log_files(data)?.into_iter().filter(|file| !file.sealed);
    let newest: Vec<LogFile> = newest.collect();
    let cuts = settle_files(&newest, covered, system)?;
    for file in &newest {
        let reopened = reopened_path(&file.path);
        if exists(&reopened)? {
            system.remove(&reopened).map_err(LogError::io("remove", &reopened))?;
        }
    }
    sync_folders_above(newest.iter(), system)?;
    Ok(cuts)
}

/// The same of these files alone; the folder entries of the files are synced by the caller.
pub(super) fn settle_files(
    files: &[LogFile],
    covered: &dyn Fn(&LogFile) -> u64,
    system: &mut dyn FileSystem,
) -> Result<Vec<Cut>, LogError> {
    let mut ends = Vec::new();
    for file in files {
        files::check(&file.path)?;
        ends.extend(End::find(file, covered(file))?);
    }
    for end in &mut ends {
        end.copy_aside(system)?;
    }
    sync_folders(ends.iter().filter_map(|end| end.file.path.parent()), system)?;
    for end in &ends {
        let path = &end.file.path;
        let from = end.tail.as_ref().map_or(end.whole, |_| end.proven);
        let written = system.replace_end(path, from, end.tail.as_deref());
        written.map_err(LogError::io("write anew the end of", path))?;
    }
    for tail in ends.iter().filter_map(|end| end.tail.as_ref()) {
        system.remove(tail).map_err(LogError::io("remove", tail))?;
    }
    sync_folders(ends.iter().filter_map(|end| end.file.path.parent()), system)?;
    Ok(ends.into_iter().filter_map(|end| end.cut).collect())
}

/// The end of a log file that nothing proves durable.
#[derive(Debug)]
struct End {
    file: LogFile,
    /// Up to here it is proven.
    proven: u64,
    /// Up to here it has whole blocks.
    whole: u64,
    /// What is wrong with what follows.
    why: String,
    /// Where the bytes between the two are kept meanwhile.
    tail: Option<PathBuf>,
    cut: Option<Cut>,
}

impl End {
    /// `None`: there is nothing behind what is proven.
    fn find(file: &LogFile, covered: u64) -> Result<Option<End>, LogError> {
        if covered >= file.length {
            // A file that is shorter has lost what was durable: its end is damaged, not torn.
            return Ok(None);
        }
        let (mut proven, mut whole, mut why) = (covered, covered, String::new());
        let mut scan = Scan::open_at(file, covered)?;
        while let Some(piece) = scan.next()? {
            match piece {
                Piece::Block { offset, header, .. } => {
                    if header.flags & FLAG_ALL_BEFORE_DURABLE != 0 {
                        proven = offset;
                    }
                    whole = offset + header.block_bytes().unwrap_or(0);
                }
                Piece::Damage { bytes, corruption } => whole = corruption.offset + bytes,
                Piece::Torn { corruption, .. } => {
                    why = format!("expected {}, found {}", corruption.expected, corruption.found);
                }
            }
        }
        let end = End { file: file.clone(), proven, whole, why, tail: None, cut: None };
        Ok(Some(end))
    }

    /// Copies what will be written anew, and what will be cut.
    fn copy_aside(&mut self, system: &mut dyn FileSystem) -> Result<(), LogError> {
        let path = self.file.path.clone();
        let (length, whole) = (self.file.length, self.whole);
        if whole < length {
            let kept = match kept_already(&path, whole..length)? {
                Some(kept) => kept,
                None => copy(&path, whole..length, cut_path(&path)?, system)?,
            };
            let (bytes, why) = (length - whole, self.why.clone());
            self.cut = Some(Cut { path: path.clone(), offset: whole, bytes, kept, why });
        }
        if self.proven < whole {
            let tail = beside(&path, &format!(".{}{TAIL}", self.proven));
            self.tail = Some(copy(&path, self.proven..whole, tail, system)?);
        }
        Ok(())
    }
}

/// Copies bytes to a file that has its name only when they are durable.
fn copy(
    source: &Path,
    range: Range<u64>,
    target: PathBuf,
    system: &mut dyn FileSystem,
) -> Result<PathBuf, LogError> {
    let unfinished = beside(&target, UNFINISHED);
    let copied = system.copy(source, range, &unfinished);
    copied.map_err(LogError::io("copy the end of a log file to", &unfinished))?;
    system.rename(&unfinished, &target).map_err(LogError::io("name", &target))?;
    Ok(target)
}

/// Does what a recovery that was lost has not come to, and refuses what is no file of its own.
fn finish_what_was_begun(data: &Path, system: &mut dyn FileSystem) -> Result<(), LogError> {
    for (hour, folder) in entries(&data.join(LOG_FOLDER))? {
        let Ok(hour) = hour.parse::<Hour>() else { continue };
        for (name, path) in entries(&folder)? {
            if is_of_log(&name) {
                files::check(&path)?;
            }
            if name.ends_with(UNFINISHED) && is_beside_log(&name) {
                system.remove(&path).map_err(LogError::io("remove", &path))?;
            }
        }
        // Of kernel files too: their writer looks at those of its own hour alone.
        for (name, tail) in entries(&folder)? {
            let Some((name, offset)) = tail_of(&name) else { continue };
            let path = folder.join(name);
            finish_tail(hour, &path, offset, &tail, system)?;
            sync_folders([folder.as_path()], system)?;
        }
    }
    Ok(())
}

fn finish_tail(
    hour: Hour,
    path: &Path,
    offset: u64,
    tail: &Path,
    system: &mut dyn FileSystem,
) -> Result<(), LogError> {
    let length = path.metadata().map_err(LogError::io("measure", path))?.len();
    let file = LogFile { hour, shard: 0, path: path.to_owned(), length, sealed: false };
    let proven = End::find(&file, 0)?.map_or(0, |end| end.proven);
    // Otherwise it was finished, and more has been written since.
    if proven <= offset {
        let written = system.replace_end(path, offset, Some(tail));
        written.map_err(LogError::io("write anew the end of", path))?;
    }
    system.remove(tail).map_err(LogError::io("remove", tail))
}

fn sync_folders_above<'a>(
    files: impl Iterator<Item = &'a LogFile>,
    system: &mut dyn FileSystem,
) -> Result<(), LogError> {
    let above = files.flat_map(|file| file.path.ancestors().skip(1).take(FOLDERS_ABOVE));
    sync_folders(above, system)
}

fn sync_folders<'a>(
    folders: impl IntoIterator<Item = &'a Path>,
    system: &mut dyn FileSystem,
) -> Result<(), LogError> {
    for folder in folders.into_iter().collect::<BTreeSet<_>>() {
        system.sync_folder(folder).map_err(LogError::io("sync", folder))?;
    }
    Ok(())
}

/// What recoveries have cut and kept: the files, and their bytes.
pub(super) fn kept_cuts(data: &Path) -> Result<Vec<(PathBuf, u64)>, LogError> {
    let mut cuts = Vec::new();
    for (hour, folder) in entries(&data.join(LOG_FOLDER))? {
        if hour.parse::<Hour>().is_err() {
            continue;
        }
        for (name, path) in entries(&folder)? {
            if name.ends_with(CUT) && is_beside_log(&name) {
                let length = path.symlink_metadata().map_err(LogError::io("measure", &path))?.len();
                cuts.push((path, length));
            }
        }
    }
    cuts.sort();
    Ok(cuts)
}

/// Whether a name is that of a log file, or of what this part of the program puts beside one.
pub(super) fn is_ours(name: &str) -> bool {
    is_of_log(name) || is_beside_log(name)
}

fn is_of_log(name: &str) -> bool {
    name == KERNEL_FILE || shard_of(name).is_some()
}

fn is_beside_log(name: &str) -> bool {
    let known = [CUT, TAIL, UNFINISHED, super::REOPENED];
    let of_log = |(log, _): (&str, &str)| is_of_log(&format!("{log}.log"));
    known.iter().any(|end| name.ends_with(end)) && name.split_once(".log.").is_some_and(of_log)
}

/// The log file that a tail belongs to, and where in it it begins.
fn tail_of(name: &str) -> Option<(&str, u64)> {
    let (log, offset) = name.strip_suffix(TAIL)?.rsplit_once('.')?;
    Some((log, offset.parse().ok()?)).filter(|(log, _)| is_of_log(log))
}

/// A name beside a file: its own with something behind it.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The first name that no cut of this file has.
fn cut_path(path: &Path) -> Result<PathBuf, LogError> {
    let mut number = 1_u64;
    loop {
        let cut = beside(path, &format!(".{number}{CUT}"));
        if !exists(&cut)? {
            return Ok(cut);
        }
        number += 1;
    }
}

/// The newest cut of this file, if it holds just these bytes: a recovery that was lost after it had
/// copied them, however often, keeps one copy.
fn kept_already(path: &Path, range: Range<u64>) -> Result<Option<PathBuf>, LogError> {
    let mut newest = None;
    for number in 1_u64.. {
        let cut = beside(path, &format!(".{number}{CUT}"));
        if !exists(&cut)? {
            break;
        }
        newest = Some(cut);
    }
    let Some(cut) = newest else { return Ok(None) };
    let same = system::is_same(path, range, &cut).map_err(LogError::io("compare", &cut))?;
    Ok(same.then_some(cut))
}

fn exists(path: &Path) -> Result<bool, LogError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LogError::io("look at", path)(error)),
    }
}

#[cfg(test)]
mod tests;
