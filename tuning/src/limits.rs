//! Limits: what this host is set to, of all that a plan asks for.
//!
//! In:   /proc/sys, /proc/meminfo, the limits of this process; a data folder, if there is one.
//! Out:  `Limits`, each value as the kernel says it, absent where it says nothing.
//! Law:  it reads and changes nothing; what cannot be read is absent, never a guess.
//! Not:  what would be enough (`plan`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::tree::Tree;
use crate::{host, memory};

/// What this host has and is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// CPUs that this process may use.
    pub cores: u64,
    /// Memory that this process may use, bytes. Absent where that cannot be told.
    pub memory_bytes: Option<u64>,
    /// Most open descriptors of a process: the hard RLIMIT_NOFILE. Absent = unlimited.
    pub descriptors: Option<u64>,
    /// `net.core.somaxconn`: the longest queue of connections that wait to be accepted.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub syn_backlog: Option<u64>,
    /// Third value of `net.ipv4.tcp_rmem`: the largest receive buffer, bytes.
    pub receive_buffer_bytes: Option<u64>,
    /// Second value of `net.ipv4.tcp_mem`, in bytes: memory of all sockets at which the kernel
    /// begins to squeeze.
    pub tcp_pressure_bytes: Option<u64>,
    /// `net.core.optmem_max`: memory of one socket for options, its TCP-MD5 keys among them.
    pub option_bytes: Option<u64>,
    /// The fastest line that is up, Mbit/s. Absent where no driver says its speed, as a virtual
    /// machine's often does not.
    pub line_mbits: Option<u64>,
    /// Room that is free for the collector's data, bytes. Absent where no folder was named.
    pub disk_free_bytes: Option<u64>,
    /// Syncs of a small write that the disk of that folder does in a second, one after another.
    /// Absent where it was not timed.
    pub syncs_per_second: Option<u64>,
}

impl Limits {
    /// Reads them all.
    pub fn read() -> Limits {
        let page_bytes = rustix::param::page_size() as u64;
        let (tree, memory) = (Tree::host(), memory::available());
        Limits {
            cores: host::cpus() as u64,
            memory_bytes: memory.bytes.filter(|_| memory.unread.is_empty()),
            descriptors: getrlimit(Resource::Nofile).maximum,
            somaxconn: tree.sysctl_at("net.core.somaxconn", 0),
            syn_backlog: tree.sysctl_at("net.ipv4.tcp_max_syn_backlog", 0),
            receive_buffer_bytes: tree.sysctl_at("net.ipv4.tcp_rmem", 2),
            tcp_pressure_bytes: tree
                .sysctl_at("net.ipv4.tcp_mem", 1)
                .map(|pages| pages * page_bytes),
            option_bytes: tree.sysctl_at("net.core.optmem_max", 0),
            line_mbits: line_mbits(Path::new("/sys/class/net")),
            disk_free_bytes: None,
            syncs_per_second: None,
        }
    }

    /// With what the disk of a data folder has and does; `median` of a small write with its sync.
    pub fn with_disk(self, data: &Path, median: Option<Duration>) -> Limits {
        let room = rustix::fs::statvfs(data).ok();
        let disk_free_bytes = room.map(|room| room.f_bavail.saturating_mul(room.f_frsize));
        let per_second = |median: Duration| (1.0 / median.as_secs_f64().max(1e-9)) as u64;
        Limits { disk_free_bytes, syncs_per_second: median.map(per_second), ..self }
    }
}

/// The hard limit of /proc/self/limits with this name; `unlimited` is the largest number.
pub(crate) fn hard_limit(tree: &Tree, name: &str) -> Option<u64> {
    let text = tree.text("proc/self/limits")?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Of the interfaces in this folder that are up. A driver that does not know says -1, or nothing.
fn line_mbits(interfaces: &Path) -> Option<u64> {
    let speed = |interface: PathBuf| {
        let read = |name: &str| fs::read_to_string(interface.join(name)).ok();
        let is_up = read("operstate").is_some_and(|state| state.trim() == "up");
        let speed: u64 = read("speed")?.trim().parse().ok()?;
        (is_up && speed > 0).then_some(speed)
    };
    fs::read_dir(interfaces).ok()?.flatten().filter_map(|entry| speed(entry.path())).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_line_that_is_up_counts_and_one_that_says_nothing_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let interface = |name: &str, state: &str, speed: &str| {
            let place = folder.path().join(name);
            fs::create_dir(&place).unwrap();
            fs::write(place.join("operstate"), state).unwrap();
            fs::write(place.join("speed"), speed).unwrap();
        };
        assert_eq!(line_mbits(folder.path()), None);
        interface("virtual0", "up\n", "-1\n");
        assert_eq!(line_mbits(folder.path()), None);
        interface("ether0", "up\n", "10000\n");
        interface("ether1", "up\n", "1000\n");
        interface("ether2", "down\n", "100000\n");
        assert_eq!(line_mbits(folder.path()), Some(10_000));
        assert_eq!(line_mbits(&folder.path().join("absent")), None);
    }

    #[test]
    fn a_disk_has_room_and_syncs_as_often_as_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits::default().with_disk(folder.path(), Some(Duration::from_millis(4)));
        assert!(limits.disk_free_bytes.is_some_and(|bytes| bytes > 0));
        assert_eq!(limits.syncs_per_second, Some(250));
        let absent = Limits::default().with_disk(&folder.path().join("absent"), None);
        assert_eq!((absent.disk_free_bytes, absent.syncs_per_second), (None, None));
    }

    #[test]
    fn this_host_has_limits_and_what_is_not_there_is_absent() {
        let limits = Limits::read();
        assert!(limits.cores > 0);
        assert_eq!(limits.descriptors, getrlimit(Resource::Nofile).maximum);
        assert!(limits.somaxconn.is_some_and(|count| count > 0));
        assert!(limits.tcp_pressure_bytes > limits.receive_buffer_bytes);
        assert_eq!(Tree::host().sysctl_at("net.core.no_such_name", 0), None);
        assert_eq!(Tree::host().sysctl_at("net.core.somaxconn", 7), None);
    }
}
