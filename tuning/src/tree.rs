//! /proc, /sys and /run as a tree of small text files: this host's, or one that was captured.
//!
//! In:   a root folder; paths below it.
//! Out:  text, numbers, names; `None` where a file is missing, unreadable or says something else.
//! Law:  nothing is written, and no path leads out of the root but the kernel's own links.
//! Not:  what a value means (`doctor`, `counters`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A tree of files that say how a host is set up.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
    /// Files that have been read, where they are kept open.
    open: Option<Arc<Mutex<Open>>>,
}

/// Files that are read again and again, and the memory for what they say.
#[derive(Debug, Default)]
struct Open {
    files: BTreeMap<String, File>,
    /// How many are kept: those that were read first.
    most: usize,
    buffer: Vec<u8>,
}

/// What most files of the kernel fit into; larger ones are read in several parts.
const READ_BYTES: usize = 16 << 10;

impl Tree {
    /// The host this program runs on.
    pub fn host() -> Tree {
        Tree::at(Path::new("/"))
    }

    /// A tree that was captured into a folder.
    pub fn at(root: &Path) -> Tree {
        Tree { root: root.to_owned(), open: None }
    }

    /// The same tree for one who reads the same files again and again: the first so many stay
    /// open, which spares the kernel most of the work.
    pub fn kept_open(self, most: usize) -> Tree {
        let open = Open { most, ..Open::default() };
        Tree { open: Some(Arc::new(Mutex::new(open))), ..self }
    }

    /// The file's text, without white space at its ends; `None` where it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        self.read(path).ok()
    }

    /// The same, for one to whom a file that is not there says something else than a file that
    /// cannot be read. Errors: the kernel's; a text that is no UTF-8 is one.
    pub fn read(&self, path: &str) -> io::Result<String> {
        let Some(open) = &self.open else {
            return Ok(fs::read_to_string(self.path(path))?.trim().to_owned());
        };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = open.read(path, &self.path(path))?;
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        Ok(text.trim().to_owned())
    }

    /// The one number that the file holds.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The numbers that the file holds, between white space.
    pub fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        self.text(path)?.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    /// A setting of the kernel by its dotted name, such as `net.core.somaxconn`.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        self.text(&format!("proc/sys/{}", name.replace('.', "/")))
    }

    /// The same, where it is one number.
    pub fn sysctl_number(&self, name: &str) -> Option<u64> {
        self.sysctl(name)?.parse().ok()
    }

    /// One number of a setting that is several, counted from 0.
    pub fn sysctl_at(&self, name: &str, place: usize) -> Option<u64> {
        self.sysctl(name)?.split_ascii_whitespace().nth(place)?.parse().ok()
    }

    /// Names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
        names.sort();
        names
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Open {
    /// What the file says now. Errors: it cannot be opened, or not be read.
    fn read(&mut self, name: &str, path: &Path) -> io::Result<&[u8]> {
        if let Some(file) = self.files.get(name) {
            match read_all(file, &mut self.buffer) {
                Ok(length) => return Ok(&self.buffer[..length]),
                // An interface that went and came back is another file.
                Err(_) => drop(self.files.remove(name)),
            }
        }
        let file = File::open(path)?;
        let length = read_all(&file, &mut self.buffer)?;
        if self.files.len() < self.most {
            self.files.insert(name.to_owned(), file);
        }
        Ok(&self.buffer[..length])
    }
}

/// Reads a file from its beginning to its end; how long it is.
fn read_all(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if buffer.len() < length + READ_BYTES {
            buffer.resize(length + READ_BYTES, 0);
        }
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_kept_open_says_what_it_says_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counter");
        let tree = Tree::at(folder.path()).kept_open(3);
        assert_eq!(tree.text("counter"), None);
        let long = "7 ".repeat(READ_BYTES);
        for text in ["1", "22", "3", long.as_str(), "4"] {
            fs::write(&path, text).unwrap();
            assert_eq!(tree.text("counter").as_deref(), Some(text.trim()));
        }
        let opened = || tree.open.as_ref().unwrap().lock().unwrap().files.len();
        assert_eq!(opened(), 1);
        for place in 0..10 {
            fs::write(folder.path().join(format!("x{place}")), "5").unwrap();
            assert_eq!(tree.number(&format!("x{place}")), Some(5));
        }
        assert_eq!(opened(), 3);
        assert_eq!(tree.text("counter").as_deref(), Some("4"));

        // What the kernel writes anew with every reading is anew with every reading.
        let host = Tree::host().kept_open(1);
        let uptime = || host.text("proc/uptime").unwrap();
        let first = uptime();
        assert!((0..10_000_000).any(|_| uptime() != first), "{first}");
        assert_eq!(host.text("proc/net/netstat").map(|text| text.lines().count() > 3), Some(true));
    }

    #[test]
    fn this_host_is_a_tree() {
        let host = Tree::host();
        assert!(host.sysctl_number("net.core.somaxconn").is_some_and(|number| number > 0));
        assert_eq!(host.sysctl("net.ipv4.tcp_rmem").map(|text| text.split('\t').count()), Some(3));
        assert!(host.numbers("/proc/sys/net/ipv4/tcp_rmem").is_some_and(|all| all.len() == 3));
        assert!(host.names("/sys/class/net").contains(&"lo".to_owned()));
        assert_eq!(host.text("/proc/no-such-file"), None);
        assert!(!host.has("/proc/no-such-file") && host.names("/proc/no-such-file").is_empty());
    }
}
