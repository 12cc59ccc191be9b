//! Memory: how much of it this process may use at all.
//!
//! In:   a tree of /proc/meminfo, and of the limits of the control groups that the process lies in.
//! Out:  the least of them, in bytes, and what could not be read.
//! Law:  a limit that cannot be read is told as such, never taken for no limit; a number that is
//!       none is not believed.
//! Not:  how the collector divides what it takes.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::tree::Tree;

const MEMINFO: &str = "/proc/meminfo";
const GROUPS: &str = "/proc/self/cgroup";
/// Control groups of version 1 write "no limit" as the largest number of whole pages: from here on
/// a number is none.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// What the process may use, and whether that is all there is to say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Available {
    /// The memory of the host, or the limit of a control group of either version, whichever is
    /// least of those that could be read. `None`: none of them could.
    pub bytes: Option<u64>,
    /// Files that could not be read: what they say may be less.
    pub unread: Vec<String>,
}

/// What this process may use.
pub fn available() -> Available {
    let mut available = available_of(&Tree::host());
    if available.unread.iter().any(|path| path == MEMINFO) {
        // The same number, by a call that needs no /proc.
        let host = rustix::system::sysinfo();
        let bytes = host.totalram.saturating_mul(u64::from(host.mem_unit));
        available.unread.retain(|path| path != MEMINFO || bytes == 0);
        available.bytes = available.bytes.into_iter().chain((bytes > 0).then_some(bytes)).min();
    }
    available
}

/// The same, as a tree says it.
pub fn available_of(tree: &Tree) -> Available {
    let mut available = Available::default();
    match tree.text(MEMINFO).and_then(|text| total_bytes(&text)) {
        None => available.unread.push(MEMINFO.to_owned()),
        host => available.bytes = host,
    }
    match tree.read(GROUPS) {
        Ok(text) => add_limits(tree, &text, &mut available),
        // A kernel without control groups has no such file, though it has others beside it.
        Err(error) if error.kind() == ErrorKind::NotFound && tree.has("proc/self") => {}
        Err(_) => available.unread.push(GROUPS.to_owned()),
    }
    available
}

/// Looks for a limit at the process's group and at those above it.
fn add_limits(tree: &Tree, groups: &str, available: &mut Available) {
    let Some(group) = group(tree, groups) else { return };
    let mut seen = tree.has(&format!("{}/cgroup.procs", group.root));
    for path in group.files() {
        match tree.read(&path).map(|text| limit_bytes(&text)) {
            Ok(Some(limit)) => {
                seen = true;
                let least = available.bytes.into_iter().chain(limit).min();
                available.bytes = least;
            }
            // The group at the top has no limit, and one above what is mounted here has no file.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(None) | Err(_) => available.unread.push(path),
        }
    }
    // Seen from a namespace of control groups, the process may lie beside what is mounted here.
    let is_outside = group.path.components().any(|part| part == Component::ParentDir);
    if !seen || is_outside {
        available.unread.push(format!("{} of {GROUPS} below {}", group.path.display(), group.root));
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What a limit file says: `Some(None)` is no limit, `None` something that nobody understands.
fn limit_bytes(text: &str) -> Option<Option<u64>> {
    if text == "max" {
        return Some(None);
    }
    let bytes: u64 = text.parse().ok()?;
    Some(Some(bytes).filter(|bytes| *bytes < NO_LIMIT_BYTES))
}

/// The control group whose limits on memory hold for the process.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    /// Where its hierarchy is mounted.
    root: &'static str,
    /// Where it lies in it.
    path: PathBuf,
    /// The file of a limit.
    limit: &'static str,
}

/// Of the lines of /proc/self/cgroup, the one of memory: memory is counted by one hierarchy.
fn group(tree: &Tree, groups: &str) -> Option<Group> {
    // Number of the hierarchy, its controllers, the path of the group.
    let lines = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let path = |path: &str| PathBuf::from(path.trim_start_matches('/'));
    let of_memory = |controllers: &str| controllers.split(',').any(|name| name == "memory");
    if let Some((_, group)) = lines().find(|(controllers, _)| of_memory(controllers)) {
        let root = "/sys/fs/cgroup/memory";
        return Some(Group { root, path: path(group), limit: "memory.limit_in_bytes" });
    }
    let (_, group) = lines().find(|(controllers, _)| controllers.is_empty())?;
    // Beside hierarchies of version 1 that of version 2 has a place of its own.
    let beside = "/sys/fs/cgroup/unified";
    let root = match tree.has(&format!("{beside}/cgroup.procs")) {
        true => beside,
        false => "/sys/fs/cgroup",
    };
    Some(Group { root, path: path(group), limit: "memory.max" })
}

impl Group {
    /// Every file that may hold a limit on this process: the group's and those above it.
    fn files(&self) -> impl Iterator<Item = String> {
        let file = |group: &Path| Path::new(self.root).join(group).join(self.limit);
        self.path.ancestors().map(move |group| file(group).display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of these files, gone with its value.
    fn made_up(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = Tree::at(folder.path());
        (folder, tree)
    }

    fn of(files: &[(&str, &str)]) -> (Option<u64>, usize) {
        let (_folder, tree) = made_up(files);
        let Available { bytes, unread } = available_of(&tree);
        (bytes, unread.len())
    }

    const HOST: (&str, &str) = ("proc/meminfo", "MemTotal: 1000 kB\n");
    const MIB: u64 = 1 << 20;

    #[test]
    fn the_host_says_how_much_there_is() {
        let text = "MemTotal:       24683652 kB\nMemFree:        23635 kB\n";
        assert_eq!(total_bytes(text), Some(24_683_652 << 10));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        let available = available();
        assert!(available.bytes.is_some_and(|bytes| bytes > MIB), "{available:?}");
        assert!(!available.unread.iter().any(|path| path == MEMINFO), "{available:?}");
    }

    #[test]
    fn a_tree_says_the_least_of_host_and_group() {
        let second = ("proc/self/cgroup", "0::/a/b\n");
        let limit = |limit| [HOST, second, ("sys/fs/cgroup/a/memory.max", limit)];
        assert_eq!(of(&limit("700000\n")), (Some(700_000), 0));
        assert_eq!(of(&limit("max\n")), (Some(1_000 << 10), 0));
        let first = ("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/a\n0::/\n");
        let limit = |limit| [HOST, first, ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", limit)];
        assert_eq!(of(&limit("700000\n")), (Some(700_000), 0));
        // Version 1 has no word for "no limit": without /proc/meminfo it is no number either.
        let unlimited = limit("9223372036854771712\n");
        assert_eq!(of(&unlimited), (Some(1_000 << 10), 0));
        assert_eq!(of(&unlimited[1..]), (None, 1));
        // The root has no limit, and shows that it is one.
        let root = ("sys/fs/cgroup/cgroup.procs", "1\n");
        assert_eq!(of(&[HOST, ("proc/self/cgroup", "0::/\n"), root]), (Some(1_000 << 10), 0));
        let beside = ("sys/fs/cgroup/unified/cgroup.procs", "1\n");
        assert_eq!(of(&[HOST, ("proc/self/cgroup", "1:cpu:/\n0::/\n"), beside]).1, 0);
        // A kernel without control groups.
        assert_eq!(of(&[HOST, ("proc/self/status", "")]), (Some(1_000 << 10), 0));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_is_no_limit_that_is_missing() {
        let told = |files: &[(&str, &str)]| {
            let (_folder, tree) = made_up(files);
            available_of(&tree).unread.join(", ")
        };
        assert_eq!(told(&[("x", "")]), "/proc/meminfo, /proc/self/cgroup");
        let group = ("proc/self/cgroup", "0::/a\n");
        // No hierarchy is mounted where it should be.
        assert_eq!(told(&[HOST, group]), "a of /proc/self/cgroup below /sys/fs/cgroup");
        let nonsense = ("sys/fs/cgroup/a/memory.max", "much\n");
        let root = ("sys/fs/cgroup/cgroup.procs", "1\n");
        assert_eq!(told(&[HOST, group, root, nonsense]), "/sys/fs/cgroup/a/memory.max");
        let unreadable = ("sys/fs/cgroup/a/memory.max/x", "");
        assert_eq!(told(&[HOST, group, root, unreadable]), "/sys/fs/cgroup/a/memory.max");
        let outside = ("proc/self/cgroup", "0::/../b\n");
        assert!(told(&[HOST, outside, root]).starts_with("../b of"));
    }

    #[test]
    fn a_group_and_those_above_it_may_limit() {
        let files = |groups: &str| {
            let (_folder, tree) = made_up(&[("x", "")]);
            group(&tree, groups).unwrap().files().collect::<Vec<String>>()
        };
        assert_eq!(
            files("0::/system.slice/stormdrain.service\n"),
            [
                "/sys/fs/cgroup/system.slice/stormdrain.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        let old = files("5:cpu,cpuacct:/\n4:memory:/a\n");
        assert_eq!(old[0], "/sys/fs/cgroup/memory/a/memory.limit_in_bytes");
        assert_eq!(limit_bytes("max"), Some(None));
        assert_eq!(limit_bytes("268435456"), Some(Some(256 << 20)));
        assert_eq!(limit_bytes("much"), None);
    }
}
