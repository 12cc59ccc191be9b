//! What the layers around TCP count: interfaces, processors, TCP's memory, stalls, stolen time.
//!
//! In:   a tree of /proc and /sys.
//! Out:  `Layers`; what this kernel does not count is left out.
//! Law:  a column is found by its name where it has one; /proc/net/softnet_stat has none, and its
//!       first three have stood where they stand since Linux 2.6.
//! Not:  TCP's own counters (`counters`), or what any of it means (`doctor`).

use crate::tree::Tree;

/// One reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Of each processor that takes packets, in the kernel's order.
    pub processors: Vec<Softnet>,
    /// Packets that interfaces with a device behind them have lost, by interface and counter.
    pub interfaces: Vec<(String, &'static str, u64)>,
    /// What all TCP sockets of this network namespace hold, in pages.
    pub tcp_pages: Option<u64>,
    /// From which number of pages on the kernel presses them.
    pub tcp_pages_pressure: Option<u64>,
    /// How long tasks have waited for want of something.
    pub stalls: Vec<Stall>,
    /// Time that the host's host gave to others, in hundredths of a second, over all processors.
    pub stolen_ticks: Option<u64>,
    /// Where drops of packets are counted and could not be read.
    pub unread: Vec<String>,
}

/// What one processor's receive path counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softnet {
    /// Packets dropped because its backlog was full.
    pub dropped: u64,
    /// Times that it had to stop with packets left to take.
    pub squeezed: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// cpu, io or memory.
    pub resource: &'static str,
    /// `some` tasks waited, or the `full` host did.
    pub share: String,
    /// For so long since boot, microseconds.
    pub total_us: u64,
}

const SOFTNET: &str = "/proc/net/softnet_stat";
const INTERFACES: &str = "/sys/class/net";

/// Counters of an interface that say that it lost packets itself.
const LOST: [&str; 4] = ["rx_missed_errors", "rx_fifo_errors", "rx_over_errors", "rx_dropped"];

impl Layers {
    /// Reads them all.
    pub fn read(tree: &Tree) -> Layers {
        let mut unread = Vec::new();
        Layers {
            processors: softnet(tree, &mut unread),
            interfaces: lost(tree, &mut unread),
            tcp_pages: tcp_pages(tree),
            tcp_pages_pressure: tree.sysctl_at("net.ipv4.tcp_mem", 1),
            stalls: ["cpu", "io", "memory"]
                .into_iter()
                .flat_map(|resource| stalls(tree, resource))
                .collect(),
            stolen_ticks: stolen(tree),
            unread,
        }
    }
}

/// One line per processor, hexadecimal: packets, dropped, squeezed, and more.
fn softnet(tree: &Tree, unread: &mut Vec<String>) -> Vec<Softnet> {
    let text = tree.text(SOFTNET).unwrap_or_default();
    let read = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let mut next = || u64::from_str_radix(columns.next()?, 16).ok();
        Some(Softnet { dropped: next()?, squeezed: next()? })
    };
    let processors: Vec<Softnet> = text.lines().filter_map(read).collect();
    if processors.is_empty() {
        unread.push(SOFTNET.to_owned());
    }
    processors
}

/// Interfaces with a device behind them: loopback, bridges and tunnels have none.
pub fn interfaces(tree: &Tree) -> Vec<String> {
    let mut names = tree.names(INTERFACES);
    names.retain(|name| tree.has(&format!("{INTERFACES}/{name}/device")));
    names
}

fn lost(tree: &Tree, unread: &mut Vec<String>) -> Vec<(String, &'static str, u64)> {
    if !tree.has(INTERFACES) {
        unread.push(INTERFACES.to_owned());
    }
    let mut counted = Vec::new();
    for interface in interfaces(tree) {
        let folder = format!("{INTERFACES}/{interface}/statistics");
        let before = counted.len();
        for counter in LOST {
            let count = tree.number(&format!("{folder}/{counter}"));
            counted.extend(count.map(|count| (interface.clone(), counter, count)));
        }
        if counted.len() == before {
            unread.push(folder);
        }
    }
    counted
}

/// `TCP: inuse 10 orphan 0 tw 17 alloc 10 mem 3`: the word behind `mem`.
fn tcp_pages(tree: &Tree) -> Option<u64> {
    let text = tree.text("proc/net/sockstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=17`, and the same for `full`.
fn stalls(tree: &Tree, resource: &'static str) -> Vec<Stall> {
    let text = tree.text(&format!("proc/pressure/{resource}")).unwrap_or_default();
    let read = |line: &str| {
        let (share, rest) = line.split_once(' ')?;
        let total = rest.split(' ').find_map(|word| word.strip_prefix("total="))?;
        Some(Stall { resource, share: share.to_owned(), total_us: total.parse().ok()? })
    };
    text.lines().filter_map(read).collect()
}

/// The eighth number of the line of all processors (proc(5)).
fn stolen(tree: &Tree) -> Option<u64> {
    let text = tree.text("proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    line.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_captured_host_says_what_its_layers_count() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/virtual-two-cores");
        let layers = Layers::read(&Tree::at(&root));
        let processors = [
            Softnet { dropped: 0x5f4f, squeezed: 0x75 },
            Softnet { dropped: 0x73e9, squeezed: 0x7d },
        ];
        assert_eq!(layers.processors, processors);
        assert_eq!(layers.tcp_pages_pressure, Some(383_868));
        assert_eq!(layers.tcp_pages, Some(12));
        assert_eq!(layers.stolen_ticks, Some(135_884));
        assert_eq!(layers.interfaces[0], ("eth0".to_owned(), "rx_missed_errors", 0));
        let full = Stall { resource: "io", share: "full".to_owned(), total_us: 590_320_614 };
        assert!(layers.stalls.contains(&full), "{layers:?}");
    }

    #[test]
    fn this_host_and_one_without_any_of_it_are_read() {
        let host = Layers::read(&Tree::host());
        assert!(!host.processors.is_empty() && host.unread.is_empty(), "{:?}", host.unread);
        let nowhere = Tree::at(Path::new("/nonexistent"));
        let unread = ["/proc/net/softnet_stat", "/sys/class/net"].map(str::to_owned).to_vec();
        assert_eq!(Layers::read(&nowhere), Layers { unread, ..Layers::default() });
    }
}
