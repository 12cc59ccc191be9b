//! The simulated disk: what the kernel shows, what of it is on the disk, and what a crash leaves.
//!
//! In:   the log operations of the shards and of recovery, as a kernel would do them.
//! Out:  files in a folder, as the next process finds them.
//! Law:  what a sync has covered that found nothing wrong survives every crash; nothing else has
//!       to.
//! Not:  disks that lose what they have said to hold.
//!
//! A file is two runs of bytes, the kernel's and the disk's, and the pages in which they may
//! differ because nothing has been written back yet. A page whose write fails counts as written
//! from then on: the next sync finds nothing to do, and says that all is well. The failure is said
//! once, to whoever syncs the file first, perhaps the next process. Memory that is short lets go
//! of such a page, and then the kernel shows what the disk has.
//!
//! A place on the disk that a failed write was to fill first is *spoilt*: writing the page again
//! there succeeds, and is not found later (ext4 leaves such a place marked as never written).
//! Only cutting the file before it gives the page another place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::log::{FileSystem, log_path, reopened_path};
use storage::time::Hour;

/// What the kernel writes back at once, and a disk keeps or forgets as a whole. Small, so that a
/// commit has several.
const PAGE_BYTES: usize = 256;

/// One file.
#[derive(Clone, Debug, Default)]
struct Node {
    /// As the kernel shows it.
    bytes: Vec<u8>,
    /// As the disk has it.
    disk: Vec<u8>,
    /// Pages that are to be written back.
    dirty: BTreeSet<usize>,
    /// Pages whose place on the disk takes nothing in.
    spoilt: BTreeSet<usize>,
    /// A write has failed, and nobody has been told.
    failed: bool,
}

impl Node {
    fn append(&mut self, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.dirty.extend(pages(start..self.bytes.len()));
    }

    fn cut(&mut self, length: usize) {
        if length >= self.bytes.len() {
            return;
        }
        self.bytes.truncate(length);
        let gone = length.div_ceil(PAGE_BYTES);
        self.dirty.retain(|page| *page < gone);
        self.spoilt.retain(|page| *page < gone);
        if !length.is_multiple_of(PAGE_BYTES) {
            // What is behind the new end in its page is zeroed.
            self.dirty.insert(length / PAGE_BYTES);
        }
    }

    /// Writes a page back.
    fn write_back(&mut self, page: usize) {
        let range = page * PAGE_BYTES..self.bytes.len().min((page + 1) * PAGE_BYTES);
        if range.is_empty() {
            return;
        }
        if self.disk.len() < range.end {
            self.disk.resize(range.end, 0);
        }
        if !self.spoilt.contains(&page) {
            self.disk[range.clone()].copy_from_slice(&self.bytes[range]);
        }
    }

    /// The kernel writes everything back, and the disk takes in some of it.
    fn write_back_fails(&mut self, chance: &mut ChaCha8Rng) {
        for page in std::mem::take(&mut self.dirty) {
            if chance.random_bool(0.5) {
                self.write_back(page);
                continue;
            }
            self.failed = true;
            if page * PAGE_BYTES >= self.disk.len() {
                self.spoilt.insert(page);
            }
        }
    }

    /// Errors: a page could not be written, now or since the last sync.
    fn sync(&mut self) -> io::Result<()> {
        for page in std::mem::take(&mut self.dirty) {
            self.write_back(page);
        }
        self.disk.resize(self.bytes.len(), 0);
        match std::mem::take(&mut self.failed) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }

    /// The kernel lets go of pages that count as written.
    fn forget_clean_pages(&mut self, chance: &mut ChaCha8Rng) {
        for page in pages(0..self.bytes.len()) {
            if self.dirty.contains(&page) || chance.random_bool(0.5) {
                continue;
            }
            for at in page * PAGE_BYTES..self.bytes.len().min((page + 1) * PAGE_BYTES) {
                self.bytes[at] = self.disk.get(at).copied().unwrap_or(0);
            }
        }
    }

    /// Of what was to be written back, some was.
    fn lose_power(&mut self, chance: &mut ChaCha8Rng) {
        for page in std::mem::take(&mut self.dirty) {
            if chance.random_bool(0.5) {
                self.write_back(page);
            }
        }
        // Whether the length has come to the disk before the bytes is chance.
        if chance.random_bool(0.5) {
            self.disk.resize(self.bytes.len(), 0);
        }
        self.bytes = self.disk.clone();
        self.spoilt.clear();
        self.failed = false;
    }
}

fn pages(bytes: Range<usize>) -> Range<usize> {
    bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES)
}

/// Every file below the `log` of the data folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    nodes: Vec<Node>,
    /// Names as the kernel shows them.
    names: BTreeMap<PathBuf, usize>,
    /// Names as the disk has them,
    entered: BTreeMap<PathBuf, usize>,
    /// and how they change, in this order, when folders are synced or the kernel comes to it.
    renames: Vec<(PathBuf, Option<usize>)>,
}

impl Disk {
    fn path(hour: Hour, shard: u16) -> PathBuf {
        log_path(Path::new(""), hour, shard)
    }

    fn node(&mut self, path: &Path) -> &mut Node {
        let fresh = self.nodes.len();
        let index = *self.names.entry(path.to_owned()).or_insert(fresh);
        if index == fresh {
            self.nodes.push(Node::default());
            self.renames.push((path.to_owned(), Some(index)));
        }
        &mut self.nodes[index]
    }

    fn sync_names(&mut self) {
        for (path, node) in self.renames.drain(..) {
            match node {
                Some(node) => self.entered.insert(path, node),
                None => self.entered.remove(&path),
            };
        }
    }

    fn remove(&mut self, path: &Path) {
        if self.names.remove(path).is_some() {
            self.renames.push((path.to_owned(), None));
        }
    }

    /// Creates the file if needed and makes its entry durable, and its mark if a later one of the
    /// shard has bytes.
    pub(super) fn open(&mut self, hour: Hour, shard: u16) {
        self.mark(hour, shard);
        self.node(&Disk::path(hour, shard));
        self.sync_names();
    }

    fn mark(&mut self, hour: Hour, shard: u16) {
        let follows = |(path, node): (&PathBuf, &usize)| {
            is_of_shard(path, shard)
                && *path > Disk::path(hour, shard)
                && !self.nodes[*node].bytes.is_empty()
        };
        if self.names.iter().any(follows) {
            self.node(&reopened_path(&Disk::path(hour, shard)));
            self.sync_names();
        }
    }

    /// Cuts the file back to so many bytes, durably.
    pub(super) fn cut(&mut self, hour: Hour, shard: u16, length: u64) {
        let node = self.node(&Disk::path(hour, shard));
        node.cut(length as usize);
        // What it says of the failure that is being mended here is known.
        let _ = node.sync();
    }

    /// Appends to an open file.
    pub(super) fn append(&mut self, hour: Hour, shard: u16, bytes: &[u8]) {
        self.mark(hour, shard);
        self.node(&Disk::path(hour, shard)).append(bytes);
    }

    /// The length of the file as the kernel shows it.
    pub(super) fn length(&self, hour: Hour, shard: u16) -> u64 {
        let node = self.names.get(&Disk::path(hour, shard));
        node.map_or(0, |node| self.nodes[*node].bytes.len() as u64)
    }

    /// Makes everything that was appended durable. Returns the length of the file; an error if a
    /// page could not be written.
    pub(super) fn sync(&mut self, hour: Hour, shard: u16) -> io::Result<u64> {
        let path = Disk::path(hour, shard);
        let node = self.node(&path);
        node.sync()?;
        let length = node.bytes.len() as u64;
        let others = |mark: &&PathBuf| {
            is_of_shard(&mark.with_extension(""), shard) && **mark != reopened_path(&path)
        };
        let marks: Vec<PathBuf> = self.names.keys().filter(others).cloned().collect();
        for mark in marks.iter().filter(|mark| mark.extension().is_some_and(|it| it == "reopened"))
        {
            self.remove(mark);
        }
        self.sync_names();
        Ok(length)
    }

    /// The kernel writes back what a process has left, and the disk does not take all of it in.
    /// Who syncs next may be told, or somebody was told before.
    pub(super) fn write_back_fails(&mut self, chance: &mut ChaCha8Rng) {
        let is_told_already = chance.random_bool(0.5);
        for node in &mut self.nodes {
            node.write_back_fails(chance);
            node.failed &= !is_told_already;
        }
    }

    /// A sync of this file fails: what it was to write counts as written, and the caller is told.
    pub(super) fn sync_fails(&mut self, hour: Hour, shard: u16, chance: &mut ChaCha8Rng) {
        let node = self.node(&Disk::path(hour, shard));
        node.write_back_fails(chance);
        node.failed = false;
    }

    /// Memory is short.
    pub(super) fn forget_clean_pages(&mut self, chance: &mut ChaCha8Rng) {
        self.nodes.iter_mut().for_each(|node| node.forget_clean_pages(chance));
    }

    /// Of what is not durable, keeps some and forgets some.
    pub(super) fn lose_power(&mut self, chance: &mut ChaCha8Rng) {
        let done = chance.random_range(0..=self.renames.len());
        self.renames.truncate(done);
        self.sync_names();
        self.names = self.entered.clone();
        self.nodes.iter_mut().for_each(|node| node.lose_power(chance));
    }

    /// Writes the files as they are into the data folder, for recovery and for readers.
    pub(super) fn materialise(&self, data: &Path) -> io::Result<()> {
        let log = data.join(storage::log::layout::LOG_FOLDER);
        match fs::remove_dir_all(&log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.names.keys().try_for_each(|path| self.show(data, path))
    }

    /// Writes one file, or removes it, as the kernel shows it.
    fn show(&self, data: &Path, path: &Path) -> io::Result<()> {
        let shown = data.join(path);
        let Some(node) = self.names.get(path) else { return fs::remove_file(shown) };
        if let Some(folder) = shown.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(shown, &self.nodes[*node].bytes)
    }
}

fn is_of_shard(path: &Path, shard: u16) -> bool {
    path.file_name().is_some_and(|name| *name == *format!("shard-{shard}.log"))
}

/// The disk as a recovery sees it, which may be lost in the middle of any operation.
pub(super) struct Recovering<'a> {
    pub(super) disk: &'a mut Disk,
    pub(super) data: &'a Path,
    pub(super) chance: &'a mut ChaCha8Rng,
    /// How often an operation fails.
    pub(super) faults: f64,
}

impl Recovering<'_> {
    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.data).unwrap_or(path).to_owned()
    }

    fn fails(&mut self) -> bool {
        self.chance.random_bool(self.faults)
    }

    /// Writes to a file and syncs it, or fails at some point of it.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fails = self.fails();
        let kept = if fails { self.chance.random_range(0..=bytes.len()) } else { bytes.len() };
        let node = self.disk.node(path);
        node.append(&bytes[..kept]);
        if fails && self.chance.random_bool(0.5) {
            node.write_back_fails(self.chance);
        }
        let synced = if fails { Err(lost()) } else { node.sync() };
        self.disk.show(self.data, path)?;
        synced
    }
}

fn lost() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl FileSystem for Recovering<'_> {
    fn copy(&mut self, source: &Path, range: Range<u64>, target: &Path) -> io::Result<()> {
        let bytes = fs::read(source)?;
        let (source, target) = (self.relative(source), self.relative(target));
        let range = range.start as usize..range.end as usize;
        let shown = &self.disk.nodes[self.disk.names[&source]].bytes;
        assert!(bytes == *shown, "the folder is what the kernel shows");
        self.disk.remove(&target);
        self.write(&target, &bytes[range])
    }

    fn replace_end(&mut self, path: &Path, offset: u64, source: Option<&Path>) -> io::Result<()> {
        let bytes = source.map_or(Ok(Vec::new()), fs::read)?;
        let path = self.relative(path);
        self.disk.node(&path).cut(offset as usize);
        self.write(&path, &bytes)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.fails() {
            return Err(lost());
        }
        fs::rename(from, to)?;
        let (from, to) = (self.relative(from), self.relative(to));
        let node = self.disk.names[&from];
        self.disk.remove(&from);
        self.disk.names.insert(to.clone(), node);
        self.disk.renames.push((to, Some(node)));
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.fails() {
            return Err(lost());
        }
        let path = self.relative(path);
        self.disk.remove(&path);
        self.disk.show(self.data, &path)
    }

    fn sync_folder(&mut self, _: &Path) -> io::Result<()> {
        if self.fails() {
            return Err(lost());
        }
        self.disk.sync_names();
        Ok(())
    }
}
