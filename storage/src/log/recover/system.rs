//! What recovery asks of the file system, and the kernel's answer.
//!
//! In:   files and folders by path.
//! Out:  bytes that are on the disk when a call returns.
//! Law:  bytes are written by this process and synced through the descriptor that wrote them.
//! Not:  in which order (`recover`).

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::files;

/// How much is copied at once.
const COPY_BYTES: usize = 1 << 20;

/// The operations of recovery. Two have them: the kernel, and the simulated disk, which fails.
pub trait FileSystem {
    /// Makes `target` anew with these bytes of `source`, durable.
    fn copy(&mut self, source: &Path, range: Range<u64>, target: &Path) -> io::Result<()>;
    /// Cuts a file at `offset` and appends all of `source` to it, durable.
    fn replace_end(&mut self, path: &Path, offset: u64, source: Option<&Path>) -> io::Result<()>;
    /// Gives a file another name; durable when the folder is synced.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable when the folder is synced.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder durable.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
}

/// The file system as the kernel gives it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl FileSystem for Kernel {
    fn copy(&mut self, source: &Path, range: Range<u64>, target: &Path) -> io::Result<()> {
        match fs::remove_file(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = files::make_new(target)?;
        write_through_memory(&File::open(source)?, range, &mut file)?;
        file.sync_all()
    }

    fn replace_end(&mut self, path: &Path, offset: u64, source: Option<&Path>) -> io::Result<()> {
        let mut file = files::open_to_write(path)?;
        file.set_len(offset)?;
        file.seek(SeekFrom::Start(offset))?;
        if let Some(source) = source {
            let source = File::open(source)?;
            let length = source.metadata()?.len();
            write_through_memory(&source, 0..length, &mut file)?;
        }
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// Not `io::copy`: that may have the file system share the source's places on the disk, and
/// whether anything was ever written there is the question.
fn write_through_memory(source: &File, range: Range<u64>, target: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = range.start;
    while at < range.end {
        let count = (range.end - at).min(COPY_BYTES as u64) as usize;
        source.read_exact_at(&mut buffer[..count], at)?;
        target.write_all(&buffer[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Whether these bytes of one file are all there is in another.
pub(super) fn is_same(path: &Path, range: Range<u64>, other: &Path) -> io::Result<bool> {
    let (file, mut other) = (File::open(path)?, File::open(other)?);
    if other.metadata()?.len() != range.end - range.start {
        return Ok(false);
    }
    let (mut one, mut two) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let mut at = range.start;
    while at < range.end {
        let count = (range.end - at).min(COPY_BYTES as u64) as usize;
        file.read_exact_at(&mut one[..count], at)?;
        other.read_exact(&mut two[..count])?;
        if one[..count] != two[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}
