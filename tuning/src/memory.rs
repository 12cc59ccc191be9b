//! Memory: how much of it this process may use at all.
//!
//! In:   a tree of /proc/meminfo, and of the limits of the control groups that the process lies in.
//! Out:  the least of them, in bytes.
//! Law:  a limit that cannot be read is no limit; a number that is none is not believed.
//! Not:  how the collector divides what it takes.

use std::path::{Path, PathBuf};

use crate::tree::Tree;

/// What the process may use: the memory of the host, or the limit of a control group of either
/// version, whichever is least. `None` where the kernel says neither.
pub fn available_bytes() -> Option<u64> {
    available_bytes_of(&Tree::host())
}

/// The same, as a tree says it.
pub fn available_bytes_of(tree: &Tree) -> Option<u64> {
    let host = tree.text("proc/meminfo").and_then(|text| total_bytes(&text));
    let groups = tree.text("proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| {
        let text = tree.text(path.to_str()?)?;
        limit_bytes(&text)
    });
    host.into_iter().chain(limits).min()
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The number of a limit file; `max` is no limit.
fn limit_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes > 0)
}

/// Every file that may hold a limit on this process: its group's and those above it.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        // Number of the hierarchy, its controllers, the path of the group.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, name) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_says_how_much_there_is() {
        let text = "MemTotal:       24683652 kB\nMemFree:        23635 kB\n";
        assert_eq!(total_bytes(text), Some(24_683_652 << 10));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_tree_says_the_least_of_host_and_group() {
        let root = std::env::temp_dir().join(format!("memory-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal: 1000 kB\n");
        assert_eq!(available_bytes_of(&Tree::at(&root)), Some(1_000 << 10));
        write("proc/self/cgroup", "0::/a/b\n");
        write("sys/fs/cgroup/a/memory.max", "700000\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(available_bytes_of(&Tree::at(&root)), Some(700_000));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(available_bytes_of(&Tree::at(&root)), None);
    }

    #[test]
    fn a_group_and_those_above_it_may_limit() {
        let names: Vec<String> = limit_files("0::/system.slice/stormdrain.service\n")
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "/sys/fs/cgroup/system.slice/stormdrain.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        let old = limit_files("5:cpu,cpuacct:/\n4:memory:/a\n");
        assert_eq!(old[0], Path::new("/sys/fs/cgroup/memory/a/memory.limit_in_bytes"));
        assert_eq!(limit_bytes("max\n"), None);
        assert_eq!(limit_bytes("268435456\n"), Some(256 << 20));
    }
}
