//! One look at everything in the kernel that says whether a burst hurt, each counter by its name.
//!
//! In:   a tree of /proc and /sys.
//! Out:  `Sample`; how far each counter moved since an earlier one.
//! Law:  a counter that this kernel has not is absent, never a zero; one that restarted moved by
//!       what it says.
//! Not:  what a movement means (engine, `watch`), or how it is kept (storage).

use std::collections::BTreeMap;

use crate::counters::{Counters, LOSS_COUNTERS, PRESSURE_COUNTERS};
use crate::layers::Layers;
use crate::tree::Tree;

/// Counters of TCP that say something about a burst, beside those of the law and of pressure.
const MORE_COUNTERS: [&str; 5] = [
    "TcpExt.OfoPruned",
    "TcpExt.TCPOFODrop",
    "TcpExt.TCPAbortOnMemory",
    "TcpExt.TCPReqQFullDoCookies",
    "TcpExt.TCPLostRetransmit",
];
/// Keys that do not match: the router is refused by the kernel, silently.
const MORE_PREFIXES: [&str; 2] = ["TcpExt.TCPMD5", "TcpExt.TCPAO"];
/// Ticks of /proc/stat are hundredths of a second (`USER_HZ`).
const MICROS_PER_TICK: u64 = 10_000;

/// One reading: counters that only go up, and two gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    counters: BTreeMap<String, u64>,
    /// Pages that all TCP sockets of this network namespace hold.
    pub tcp_pages: Option<u64>,
    /// From how many on the kernel presses them.
    pub tcp_pages_pressure: Option<u64>,
    /// Where losses are counted and could not be read: what is counted there cannot be told.
    pub unread: Vec<String>,
}

impl Sample {
    /// Reads everything once; what cannot be read is absent.
    pub fn read(tree: &Tree) -> Sample {
        let counters = Counters::of(tree);
        let mut sample =
            Sample::of(counters.as_ref().unwrap_or(&Counters::default()), &Layers::read(tree));
        if let Err(error) = counters {
            sample.unread.insert(0, error.path().to_owned());
        }
        sample
    }

    /// Names what the two readers found:
    /// `TcpExt.PruneCalled`, `softnet.0.dropped`, `interface.eth0.rx_dropped`,
    /// `stall.io.some_us`, `stolen_us`.
    pub fn of(counters: &Counters, layers: &Layers) -> Sample {
        let mut sample = Sample {
            tcp_pages: layers.tcp_pages,
            tcp_pages_pressure: layers.tcp_pages_pressure,
            unread: layers.unread.clone(),
            ..Sample::default()
        };
        for (name, value) in counters.iter().filter(|(name, _)| is_watched(name)) {
            sample.add(name.to_owned(), u64::try_from(value).unwrap_or(0));
        }
        for (processor, counts) in layers.processors.iter().enumerate() {
            sample.add(format!("softnet.{processor}.dropped"), counts.dropped);
            sample.add(format!("softnet.{processor}.squeezed"), counts.squeezed);
        }
        for (interface, counter, value) in &layers.interfaces {
            sample.add(format!("interface.{interface}.{counter}"), *value);
        }
        for stall in &layers.stalls {
            sample.add(format!("stall.{}.{}_us", stall.resource, stall.share), stall.total_us);
        }
        if let Some(ticks) = layers.stolen_ticks {
            sample.add("stolen_us".to_owned(), ticks.saturating_mul(MICROS_PER_TICK));
        }
        sample
    }

    /// Adds a counter that another reader found.
    pub fn add(&mut self, counter: String, value: u64) {
        self.counters.insert(counter, value);
    }

    /// The value of a counter.
    pub fn value(&self, counter: &str) -> Option<u64> {
        self.counters.get(counter).copied()
    }

    /// Every counter with its value, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counters.iter().map(|(counter, value)| (counter.as_str(), *value))
    }

    /// How far each counter moved since `earlier`, sorted by name; those that stood still, and
    /// those that were not there before, are left out.
    pub fn moved_since(&self, earlier: &Sample) -> Vec<(String, u64)> {
        let moved = |(counter, value): (&String, &u64)| {
            let before = *earlier.counters.get(counter)?;
            let by = value.checked_sub(before).unwrap_or(*value);
            (by > 0).then(|| (counter.clone(), by))
        };
        self.counters.iter().filter_map(moved).collect()
    }
}

/// Whether a counter of TCP belongs into a sample.
fn is_watched(name: &str) -> bool {
    LOSS_COUNTERS.contains(&name)
        || PRESSURE_COUNTERS.contains(&name)
        || MORE_COUNTERS.contains(&name)
        || MORE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_captured_host_is_sampled_by_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/virtual-two-cores");
        let sample = Sample::read(&Tree::at(&root));
        assert_eq!(sample.value("softnet.0.dropped"), Some(0x5f4f));
        assert_eq!(sample.value("stall.io.full_us"), Some(590_320_614));
        assert_eq!(sample.value("stolen_us"), Some(1_358_840_000));
        assert_eq!(sample.tcp_pages, Some(12));
        // The capture has no /proc/net/netstat: absent, never a zero.
        assert_eq!(sample.value("TcpExt.PruneCalled"), None);
        assert_eq!(sample.unread, ["/proc/net/snmp"]);
    }

    #[test]
    fn this_host_has_the_counters_of_the_law_and_those_of_keys() {
        let sample = Sample::read(&Tree::host());
        for name in LOSS_COUNTERS.into_iter().chain(["TcpExt.TCPMD5NotFound"]) {
            assert!(sample.value(name).is_some(), "{name}");
        }
        assert!(sample.iter().all(|(name, _)| name != "TcpExt.DelayedACKs"));
        assert!(sample.unread.is_empty(), "{:?}", sample.unread);
    }

    #[test]
    fn what_moved_is_told_and_a_counter_that_restarted_moved_by_what_it_says() {
        let of = |values: &[(&str, u64)]| {
            let mut sample = Sample::default();
            values.iter().for_each(|(name, value)| sample.add((*name).to_owned(), *value));
            sample
        };
        let before = of(&[("a", 5), ("b", 7), ("c", 9)]);
        let after = of(&[("a", 5), ("b", 17), ("c", 2), ("new", 3)]);
        assert_eq!(after.moved_since(&before), [("b".to_owned(), 10), ("c".to_owned(), 2)]);
    }
}
