//! /proc, /sys and /run as a tree of small text files: this host's, or one that was captured.
//!
//! In:   a root folder; paths below it.
//! Out:  text, numbers, names; `None` where a file is missing, unreadable or says something else.
//! Law:  nothing is written, and no path leads out of the root but the kernel's own links.
//! Not:  what a value means (`doctor`, `counters`).

use std::fs;
use std::path::{Path, PathBuf};

/// A tree of files that say how a host is set up.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The host this program runs on.
    pub fn host() -> Tree {
        Tree::at(Path::new("/"))
    }

    /// A tree that was captured into a folder.
    pub fn at(root: &Path) -> Tree {
        Tree { root: root.to_owned() }
    }

    /// The file's text, without white space at its ends.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

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
