//! The kernel's TCP memory while a storm lasts: how much of it the host's sockets take.
//!
//! In:   /proc/net/sockstat and `net.ipv4.tcp_mem`, both of the host, not of a namespace.
//! Out:  the most that was taken, and from where on the kernel is under pressure.
//! Law:  what cannot be read is 0, and stops nothing.
//! Not:  what the kernel does about it (`namespace`: its counters).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks again and again until it is asked.
pub(crate) struct TcpMemoryWatch {
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl TcpMemoryWatch {
    /// Begins to look.
    pub(crate) fn start() -> TcpMemoryWatch {
        let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (Arc::clone(&most), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(taken_pages(), Ordering::Relaxed);
                std::thread::sleep(LOOK_AGAIN);
            }
        });
        TcpMemoryWatch { most, over, thread }
    }

    /// The most pages that were taken since the start.
    pub(crate) fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        // It only looks: a panic there would be shown by the thread itself.
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed)
    }
}

/// From so many pages on the kernel is under pressure; 0 where that is not known.
pub(crate) fn pressure_pages() -> u64 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").unwrap_or_default();
    text.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn taken_pages() -> u64 {
    pages_of(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default())
}

/// The number behind `mem` in the line of TCP.
fn pages_of(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "mem");
    words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_those_of_tcp() {
        let text = "sockets: used 25\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 13\n\
                    UDP: inuse 0 mem 7\n";
        assert_eq!(pages_of(text), 13);
        assert_eq!(pages_of("UDP: inuse 0 mem 7\n"), 0);
    }

    #[test]
    fn this_host_says_where_pressure_begins() {
        assert!(pressure_pages() > 0);
        let watch = TcpMemoryWatch::start();
        assert!(watch.end() < u64::MAX);
    }
}
