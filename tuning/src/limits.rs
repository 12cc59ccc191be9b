//! Limits: what this host is set to, of all that a plan asks for.
//!
//! In:   /proc/sys, /proc/meminfo, the limits of this process.
//! Out:  `Limits`, each value as the kernel says it, absent where it says nothing.
//! Law:  it reads and changes nothing; what cannot be read is absent, never a guess.
//! Not:  what would be enough (`plan`).

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::tree::Tree;
use crate::{host, memory};

/// What this host has and is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// CPUs that this process may use.
    pub cores: u64,
    /// Memory that this process may use, bytes.
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
}

impl Limits {
    /// Reads them all.
    pub fn read() -> Limits {
        let page_bytes = rustix::param::page_size() as u64;
        let tree = Tree::host();
        Limits {
            cores: host::cpus() as u64,
            memory_bytes: memory::available_bytes(),
            descriptors: getrlimit(Resource::Nofile).maximum,
            somaxconn: tree.sysctl_at("net.core.somaxconn", 0),
            syn_backlog: tree.sysctl_at("net.ipv4.tcp_max_syn_backlog", 0),
            receive_buffer_bytes: tree.sysctl_at("net.ipv4.tcp_rmem", 2),
            tcp_pressure_bytes: tree
                .sysctl_at("net.ipv4.tcp_mem", 1)
                .map(|pages| pages * page_bytes),
            option_bytes: tree.sysctl_at("net.core.optmem_max", 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_limits_and_what_is_not_there_is_absent() {
        let limits = Limits::read();
        assert!(limits.cores > 0);
        assert!(limits.somaxconn.is_some_and(|count| count > 0));
        assert!(limits.tcp_pressure_bytes > limits.receive_buffer_bytes);
        assert_eq!(Tree::host().sysctl_at("net.core.no_such_name", 0), None);
        assert_eq!(Tree::host().sysctl_at("net.core.somaxconn", 7), None);
    }
}
