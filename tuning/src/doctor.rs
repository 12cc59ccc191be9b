//! The doctor: what of this host bites a fleet of routers first, and the command that mends it.
//!
//! In:   a tree of /proc and /sys, the fleet, and what the collector found out by trying.
//! Out:  findings, those that bite first in front; the same as a script to review.
//! Law:  nothing is changed here, and nothing is guessed: what cannot be read is `Unknown`.
//! Not:  measuring a disk or trying a ring: the collector does.
//!
//! A finding says what was found and what is wanted, what bites and from how many routers on, the
//! command that mends it now, and what keeps it mended after a boot.

use std::cmp::Reverse;

use crate::memory::Available;
use crate::mounts::Mount;
use crate::tree::Tree;

mod disk;
pub(crate) mod network;
mod process;
mod processor;
mod report;
mod script;
#[cfg(test)]
mod tests;

pub use process::{LOCKED_BYTES, LOCKED_SHARD_BYTES};
pub use report::report;
pub use script::script;

/// What the host is asked to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Routers, each with one connection.
    pub routers: u64,
    /// Mappings in each router's table.
    pub mappings: u64,
    /// Changes that each router sends at once when the network reconverges.
    pub changes: u64,
    /// TCP-MD5 keys on the listening sockets.
    pub keys: u64,
    /// Shards of the collector.
    pub shards: u64,
}

impl Fleet {
    /// Compressed bytes per change: 25 to 30 in frames of 50 to 100 (benches/README.md).
    const CHANGE_BYTES: u64 = 30;

    /// Bytes of one router's burst.
    pub fn burst_bytes(&self) -> u64 {
        self.changes.saturating_mul(Fleet::CHANGE_BYTES)
    }
}

/// What only trying shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// What came of setting up an io_uring.
    pub ring: Ring,
    /// What holds the data folder; `None` where the kernel does not tell.
    pub mount: Option<Mount>,
    /// Times that a small write and its sync took there; `None` where they were not timed.
    pub flush: Option<Flush>,
    /// How much memory the process may use, whoever uses it.
    pub memory: Available,
    /// The memory budget of the collector, in bytes.
    pub memory_bytes: Option<u64>,
    /// What it leaves to the routers' tables, in bytes.
    pub table_bytes_max: Option<u64>,
    /// Size of a page of memory, in bytes.
    pub page_bytes: u64,
}

/// What came of setting up an io_uring.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Ring {
    /// The settings ask for epoll.
    #[default]
    NotAsked,
    /// It works, and holds connections by direct descriptors or does not.
    Works {
        /// Whether it does.
        direct_descriptors: bool,
    },
    /// It is not to be had, for this reason; epoll takes over.
    Replaced(String),
    /// It should be there, and is not, for this reason: a collector does not start.
    Fails(String),
}

/// Times that writes of 4 KiB and their `fdatasync` took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Writes that were timed.
    pub count: u64,
    /// Half took so many microseconds at most.
    pub median_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// What is thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// As it should be.
    Good,
    /// It cannot be read here, and the fleet fits whatever it is.
    Unseen,
    /// It cannot be read here, and it may be what the fleet does not fit.
    Unknown,
    /// It could be better; nothing is delayed or refused for it.
    Note,
    /// The fleet does not fit.
    Bites,
}

impl Judgement {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Judgement::Good => "good",
            Judgement::Unseen => "unseen",
            Judgement::Unknown => "unknown",
            Judgement::Note => "note",
            Judgement::Bites => "bites",
        }
    }
}

/// What mends a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A setting of the kernel: its dotted name and its value.
    Sysctl(&'static str, String),
    /// A value written into a file of /sys, at every boot too.
    File(String, String),
    /// A limit of the process: what the shell is told, and the line of the systemd unit.
    Limit(String, String),
    /// A command that is all there is to do.
    Command(String),
    /// What no command does.
    Words(String),
}

impl Remedy {
    /// The command that mends it until the next boot.
    pub fn command(&self) -> Option<String> {
        match self {
            Remedy::Sysctl(name, value) => Some(format!("sysctl -w {name}='{value}'")),
            Remedy::File(path, value) => Some(format!("echo {value} > {path}")),
            Remedy::Limit(command, _) | Remedy::Command(command) => Some(command.clone()),
            Remedy::Words(_) => None,
        }
    }

    /// What a person has to do, where no command does it.
    pub fn words(&self) -> &str {
        match self {
            Remedy::Words(words) => words,
            _ => "",
        }
    }

    /// The file that keeps it mended, and the line in it.
    pub fn persistent(&self) -> Option<(&'static str, String)> {
        match self {
            Remedy::Sysctl(name, value) => {
                Some(("/etc/sysctl.d/90-stormdrain.conf", format!("{name} = {value}")))
            }
            Remedy::File(path, value) => {
                Some(("/etc/tmpfiles.d/stormdrain.conf", format!("w {path} - - - - {value}")))
            }
            Remedy::Limit(_, line) => Some((
                "/etc/systemd/system/stormdrain.service.d/limits.conf",
                format!("[Service]\n{line}"),
            )),
            Remedy::Command(_) | Remedy::Words(_) => None,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name: the same on every host.
    pub name: &'static str,
    /// What is thought of it.
    pub judgement: Judgement,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub wanted: String,
    /// What happens otherwise.
    pub consequence: String,
    /// Routers that it carries, where that can be said.
    pub routers_max: Option<u64>,
    /// What mends it.
    pub remedy: Option<Remedy>,
}

impl Finding {
    /// As it should be.
    fn good(name: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            name,
            judgement: Judgement::Good,
            found: found.into(),
            wanted: String::new(),
            consequence: String::new(),
            routers_max: None,
            remedy: None,
        }
    }

    /// A file that is missing or says something else, and may hold what bites.
    fn unknown(name: &'static str, path: &str) -> Finding {
        Finding::not_read(Judgement::Unknown, name, path)
    }

    /// The same, of what costs some time at most.
    fn unseen(name: &'static str, path: &str) -> Finding {
        Finding::not_read(Judgement::Unseen, name, path)
    }

    fn not_read(judgement: Judgement, name: &'static str, path: &str) -> Finding {
        Finding::not_good(judgement, name, format!("{path} cannot be read here"))
    }

    /// Not as it should be.
    fn not_good(judgement: Judgement, name: &'static str, found: impl Into<String>) -> Finding {
        Finding { judgement, ..Finding::good(name, found) }
    }

    fn wanted(mut self, wanted: impl Into<String>) -> Finding {
        self.wanted = wanted.into();
        self
    }

    fn because(mut self, consequence: impl Into<String>) -> Finding {
        self.consequence = consequence.into();
        self
    }

    fn carries(mut self, routers: u64) -> Finding {
        self.routers_max = Some(routers);
        self
    }

    fn mended_by(mut self, remedy: Remedy) -> Finding {
        self.remedy = Some(remedy);
        self
    }
}

/// Whether the fleet fits: `None` where something that may keep it from that cannot be read.
pub fn fits(findings: &[Finding]) -> Option<bool> {
    match findings.iter().map(|finding| finding.judgement).max() {
        Some(Judgement::Bites) => Some(false),
        _ if findings.iter().any(|finding| finding.judgement == Judgement::Unknown) => None,
        _ => Some(true),
    }
}

/// Everything a check may look at.
struct Host<'a> {
    tree: &'a Tree,
    fleet: Fleet,
    observed: &'a Observed,
}

/// One check. Several findings where there are several interfaces; none where it does not apply.
type Check = fn(&Host) -> Vec<Finding>;

const CHECKS: [Check; 21] = [
    network::listen_backlog,
    network::half_open_backlog,
    network::receive_buffer,
    network::tcp_memory,
    network::authentication_keys,
    network::connection_tracking,
    network::queued_connections,
    network::dropped_by_processor,
    network::dropped_by_interface,
    process::descriptors,
    process::descriptors_of_host,
    process::ring,
    process::locked_memory,
    process::memory,
    process::table_memory,
    processor::receiving,
    processor::governor,
    processor::large_pages,
    processor::clock,
    disk::file_system,
    disk::flush,
];

/// Looks at everything. What bites comes first, that of the fewest routers in front; then notes,
/// what is unknown, and what is good.
pub fn examine(tree: &Tree, fleet: Fleet, observed: &Observed) -> Vec<Finding> {
    let host = Host { tree, fleet, observed };
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&host)).collect();
    let order =
        |finding: &Finding| (Reverse(finding.judgement), finding.routers_max.unwrap_or(u64::MAX));
    findings.sort_by_key(order);
    findings
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
