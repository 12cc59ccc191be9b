//! What the kernel counts, as metrics: which layer dropped, squeezed or waited.
//!
//! In:   readings of /proc and /sys (`tuning`).
//! Out:  lines of `/metrics`, each counter under the name that the kernel gives it.
//! Law:  a counter that this kernel has not is no line, never a zero.
//! Not:  what the collector counts itself (`metrics`).

use std::fmt::Write as _;

use tuning::counters::{Counters, LOSS_COUNTERS, PRESSURE_COUNTERS};
use tuning::layers::Layers;

use crate::metrics::{head, line};

/// Name, kind, labels and meaning of every family of this page, in its order.
pub(crate) const FAMILIES: [(&str, &str, &str, &str); 7] = [
    (
        "stormdrain_kernel_total",
        "counter",
        "`counter`",
        "Counters of this network namespace that say whether a burst hurt, as the kernel names \
         them.",
    ),
    (
        "stormdrain_softnet_total",
        "counter",
        "`processor`, `counter`",
        "Packets that a processor dropped at its backlog, and times that it was squeezed: it had \
         to stop with packets left.",
    ),
    (
        "stormdrain_interface_total",
        "counter",
        "`interface`, `counter`",
        "Packets that an interface lost before anybody saw them.",
    ),
    (
        "stormdrain_tcp_memory_pages",
        "gauge",
        "",
        "Pages of memory that all TCP sockets of this network namespace hold.",
    ),
    (
        "stormdrain_tcp_memory_pressure_pages",
        "gauge",
        "",
        "From so many on the kernel prunes receive queues (`net.ipv4.tcp_mem`).",
    ),
    (
        "stormdrain_stall_seconds_total",
        "counter",
        "`resource`, `share`",
        "Seconds for which some tasks of the host, or all of it, waited for cpu, io or memory.",
    ),
    (
        "stormdrain_stolen_seconds_total",
        "counter",
        "",
        "Processor time that a virtual host's host gave to others.",
    ),
];

const MICROS_PER_SECOND: u64 = 1_000_000;
/// Ticks of /proc/stat per second (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

fn family(text: &mut String, index: usize) -> &'static str {
    let (name, kind, _, help) = FAMILIES[index];
    head(text, name, kind, help);
    name
}

/// TCP's own counters.
pub(crate) fn counters(text: &mut String, counters: &Counters) {
    let name = family(text, 0);
    for counter in LOSS_COUNTERS.into_iter().chain(PRESSURE_COUNTERS) {
        let Some(value) = counters.value(counter) else { continue };
        let value = u64::try_from(value).unwrap_or(0);
        line(text, name, &format!("counter=\"{counter}\""), value);
    }
}

/// The layers around it.
pub(crate) fn layers(text: &mut String, layers: &Layers) {
    let name = family(text, 1);
    for (processor, counts) in layers.processors.iter().enumerate() {
        for (counter, value) in [("dropped", counts.dropped), ("squeezed", counts.squeezed)] {
            let labels = format!("processor=\"{processor}\",counter=\"{counter}\"");
            line(text, name, &labels, value);
        }
    }
    let name = family(text, 2);
    for (interface, counter, value) in &layers.interfaces {
        let labels = format!("interface=\"{interface}\",counter=\"{counter}\"");
        line(text, name, &labels, *value);
    }
    for (index, pages) in [(3, layers.tcp_pages), (4, layers.tcp_pages_pressure)] {
        let name = family(text, index);
        if let Some(pages) = pages {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "{name} {pages}");
        }
    }
    let name = family(text, 5);
    for stall in &layers.stalls {
        let seconds = stall.total_us / MICROS_PER_SECOND;
        let micros = stall.total_us % MICROS_PER_SECOND;
        let labels = format!("resource=\"{}\",share=\"{}\"", stall.resource, stall.share);
        let _ = writeln!(text, "{name}{{{labels}}} {seconds}.{micros:06}");
    }
    let name = family(text, 6);
    if let Some(ticks) = layers.stolen_ticks {
        let (seconds, ticks) = (ticks / TICKS_PER_SECOND, ticks % TICKS_PER_SECOND);
        let _ = writeln!(text, "{name} {seconds}.{ticks:02}");
    }
}

#[cfg(test)]
mod tests {
    use tuning::layers::{Softnet, Stall};

    use super::*;

    #[test]
    fn the_kernel_speaks_under_its_own_names() {
        let read = Counters::parse(
            "Ip: InReceives\nIp: 5\n",
            "TcpExt: PruneCalled ListenDrops\nTcpExt: 7 0\n",
        );
        let mut text = String::new();
        counters(&mut text, &read.unwrap());
        assert!(text.contains("{counter=\"TcpExt.PruneCalled\"} 7\n"), "{text}");
        assert!(!text.contains("InReceives"), "{text}");
    }

    #[test]
    fn every_layer_has_its_lines_and_what_is_not_counted_has_none() {
        let stall = Stall { resource: "io", share: "some".to_owned(), total_us: 1_000_017 };
        let read = Layers {
            processors: vec![Softnet { dropped: 3, squeezed: 4 }],
            interfaces: vec![("eth0".to_owned(), "rx_dropped", 5)],
            tcp_pages: Some(6),
            tcp_pages_pressure: None,
            stalls: vec![stall],
            stolen_ticks: Some(123),
            unread: Vec::new(),
        };
        let mut text = String::new();
        layers(&mut text, &read);
        for expected in [
            "stormdrain_softnet_total{processor=\"0\",counter=\"dropped\"} 3\n",
            "stormdrain_softnet_total{processor=\"0\",counter=\"squeezed\"} 4\n",
            "stormdrain_interface_total{interface=\"eth0\",counter=\"rx_dropped\"} 5\n",
            "stormdrain_tcp_memory_pages 6\n",
            "stormdrain_stall_seconds_total{resource=\"io\",share=\"some\"} 1.000017\n",
            "stormdrain_stolen_seconds_total 1.23\n",
        ] {
            assert!(text.contains(expected), "{expected}{text}");
        }
        assert!(!text.contains("\nstormdrain_tcp_memory_pressure_pages "), "{text}");
    }
}
