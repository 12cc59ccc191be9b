//! What the kernel's TCP refuses, holds back or drops.
//!
//! In:   sysctls, /proc/net/softnet_stat, the statistics of the interfaces.
//! Out:  findings.
//! Law:  a sysctl that is raised is never lowered by the command that is printed.
//! Not:  counters over time (`counters`).

use super::{Finding, Host, Judgement, Remedy, grouped};
use crate::layers::{Layers, interfaces};

/// Where the settings of the network are: a kernel that has this folder and no such file in it has
/// no such setting.
const SETTINGS: &str = "proc/sys/net";
/// Where the interfaces are.
pub(super) const INTERFACES: &str = "sys/class/net";

/// Of a fleet that comes back at once, so large a part waits in the listen queues at most: 10,000
/// routers that connected within 1 s never overflowed queues of 4,096 (bench `restart-storm`).
pub(crate) const AT_ONCE: u64 = 4;
/// Connections of the fullest shard ÷ those of the mean one, times ten.
pub(crate) const UNEVEN_TENTHS: u64 = 13;
/// The kernel takes no longer queue than this.
pub(crate) const BACKLOG_MAX: u64 = 65_535;

/// Connections that may wait at one listening socket, for a fleet that comes back at once.
fn backlog_wanted(host: &Host) -> u64 {
    let share = host.fleet.routers.saturating_mul(UNEVEN_TENTHS) / 10 / host.fleet.shards.max(1);
    (share / AT_ONCE).next_power_of_two().clamp(128, BACKLOG_MAX)
}

/// Routers that queues of so many connections carry.
fn backlog_carries(host: &Host, backlog: u64) -> u64 {
    backlog.saturating_mul(AT_ONCE * 10 * host.fleet.shards.max(1)) / UNEVEN_TENTHS
}

fn backlog(host: &Host, name: &'static str, sysctl: &'static str, what: &str) -> Vec<Finding> {
    let Some(found) = host.tree.sysctl_number(sysctl) else {
        return vec![Finding::unknown(name, sysctl)];
    };
    let said = format!("{sysctl} is {}", grouped(found));
    let wanted = backlog_wanted(host);
    let carries = backlog_carries(host, found);
    if found >= wanted {
        return vec![Finding::good(name, said).carries(carries)];
    }
    let consequence = format!(
        "when more than {} routers connect within a second, {what}: they try again after 1, 3 \
         and 7 s",
        grouped(carries)
    );
    vec![
        Finding::not_good(Judgement::Bites, name, said)
            .wanted(format!("{} or more", grouped(wanted)))
            .because(consequence)
            .carries(carries)
            .mended_by(Remedy::Sysctl(sysctl, wanted.to_string())),
    ]
}

pub(super) fn listen_backlog(host: &Host) -> Vec<Finding> {
    let what = "the listen queue overflows (ListenOverflows, ListenDrops)";
    backlog(host, "listen-backlog", "net.core.somaxconn", what)
}

pub(super) fn half_open_backlog(host: &Host) -> Vec<Finding> {
    let what = "half-open connections are dropped or fall back to SYN cookies (TCPReqQFullDrop)";
    backlog(host, "half-open-backlog", "net.ipv4.tcp_max_syn_backlog", what)
}

/// A window opens to about a half of the buffer: the rest is for the kernel's own bookkeeping.
pub(crate) const BUFFER_PER_WINDOW: u64 = 2;
/// Linux's own defaults since 4.20.
pub(crate) const BUFFER_DEFAULT_BYTES: u64 = 131_072;
pub(crate) const BUFFER_MAX_BYTES: u64 = 6 << 20;

pub(super) fn receive_buffer(host: &Host) -> Vec<Finding> {
    const NAME: &str = "receive-buffer";
    const SYSCTL: &str = "net.ipv4.tcp_rmem";
    let path = "proc/sys/net/ipv4/tcp_rmem";
    let numbers = host.tree.numbers(path).unwrap_or_default();
    let &[least, first, most] = numbers.as_slice() else {
        return vec![Finding::unknown(NAME, SYSCTL)];
    };
    let burst = host.fleet.burst_bytes();
    let first_wanted =
        BUFFER_DEFAULT_BYTES.max((BUFFER_PER_WINDOW * burst).next_power_of_two()).max(first);
    let most_wanted = BUFFER_MAX_BYTES.max(first_wanted).max(most);
    let said = format!("{SYSCTL} is {least} {first} {most}");
    let enough = (BUFFER_PER_WINDOW * burst).max(BUFFER_DEFAULT_BYTES / 2);
    if first >= enough && most >= enough.max(BUFFER_DEFAULT_BYTES) {
        return vec![Finding::good(NAME, said)];
    }
    let window = first.min(most) / BUFFER_PER_WINDOW;
    vec![
        Finding::not_good(Judgement::Bites, NAME, said)
            .wanted(format!("{least} {first_wanted} {most_wanted}"))
            .because(format!(
                "a router's burst of {} bytes meets a first window of {}: its session waits for \
                 the collector, and small segments are pruned and collapsed (PruneCalled, \
                 TCPRcvCollapsed)",
                grouped(burst),
                grouped(window)
            ))
            .mended_by(Remedy::Sysctl(SYSCTL, format!("{least} {first_wanted} {most_wanted}"))),
    ]
}

/// What the kernel holds for a byte that is unread: 17,000 sockets with 17.7 kB each filled
/// 1.57 GB (measured with small segments on Linux 6.18).
pub(crate) const HELD_PER_BYTE: u64 = 5;

pub(super) fn tcp_memory(host: &Host) -> Vec<Finding> {
    const NAME: &str = "tcp-memory";
    const SYSCTL: &str = "net.ipv4.tcp_mem";
    let numbers = host.tree.numbers("proc/sys/net/ipv4/tcp_mem").unwrap_or_default();
    let &[_, pressure, _] = numbers.as_slice() else {
        return vec![Finding::unknown(NAME, SYSCTL)];
    };
    let page = host.observed.page_bytes.max(1);
    let router_bytes = (host.fleet.burst_bytes() * HELD_PER_BYTE).max(1);
    let carries = pressure.saturating_mul(page) / router_bytes;
    let said = format!(
        "{SYSCTL} begins to press at {} pages ({} MiB)",
        grouped(pressure),
        grouped(pressure.saturating_mul(page) >> 20)
    );
    if carries >= host.fleet.routers {
        return vec![Finding::good(NAME, said).carries(carries)];
    }
    let pages = host.fleet.routers.saturating_mul(router_bytes) / page + 1;
    let value = format!("{} {pages} {}", pages / 4 * 3, pages / 2 * 3);
    vec![
        Finding::not_good(Judgement::Bites, NAME, said)
            .wanted(value.clone())
            .because(format!(
                "when the bursts of more than {} routers lie unread at once, the kernel prunes \
                 receive queues on all of them (TCPMemoryPressures, PruneCalled)",
                grouped(carries)
            ))
            .carries(carries)
            .mended_by(Remedy::Sysctl(SYSCTL, value)),
    ]
}

/// What the kernel takes of `optmem_max` for one key: 20,480 bytes hold 150 keys, 131,072 hold
/// 963, 1,048,576 hold 7,710 (measured on Linux 6.18).
pub(crate) const KEY_BYTES: u64 = 136;

pub(super) fn authentication_keys(host: &Host) -> Vec<Finding> {
    const NAME: &str = "authentication-keys";
    const SYSCTL: &str = "net.core.optmem_max";
    let keys = host.fleet.keys;
    if keys == 0 {
        return Vec::new();
    }
    let Some(found) = host.tree.sysctl_number(SYSCTL) else {
        return vec![Finding::unknown(NAME, SYSCTL)];
    };
    let said = format!("{SYSCTL} is {}, room for {} keys", grouped(found), found / KEY_BYTES);
    if keys.saturating_mul(KEY_BYTES) < found {
        return vec![Finding::good(NAME, said)];
    }
    let wanted = (keys.saturating_mul(KEY_BYTES) + 1).next_power_of_two();
    vec![
        Finding::not_good(Judgement::Bites, NAME, said)
            .wanted(format!("{} for {} keys", grouped(wanted), grouped(keys)))
            .because("setting one key more fails with ENOMEM, and its router is refused")
            .carries(found / KEY_BYTES)
            .mended_by(Remedy::Sysctl(SYSCTL, wanted.to_string())),
    ]
}

pub(super) fn connection_tracking(host: &Host) -> Vec<Finding> {
    const NAME: &str = "connection-tracking";
    const SYSCTL: &str = "net.netfilter.nf_conntrack_max";
    let Some(found) = host.tree.sysctl_number(SYSCTL) else {
        return match host.tree.has(SETTINGS) {
            // No such setting: no tracking, nothing that could be full.
            true => Vec::new(),
            false => vec![Finding::unknown(NAME, SYSCTL)],
        };
    };
    let said = format!("{SYSCTL} is {}", grouped(found));
    // Those of before linger while a fleet comes back.
    let wanted = host.fleet.routers.saturating_mul(2);
    if found >= wanted {
        return vec![Finding::good(NAME, said).carries(found / 2)];
    }
    vec![
        Finding::not_good(Judgement::Bites, NAME, said)
            .wanted(format!("{} or more, or no tracking of this port", grouped(wanted)))
            .because("when the table is full, packets of new connections are dropped")
            .carries(found / 2)
            .mended_by(Remedy::Sysctl(SYSCTL, wanted.next_power_of_two().to_string())),
    ]
}

pub(super) fn queued_connections(host: &Host) -> Vec<Finding> {
    const NAME: &str = "queued-connections";
    const SYSCTL: &str = "net.ipv4.tcp_migrate_req";
    let Some(found) = host.tree.sysctl_number(SYSCTL) else {
        return vec![Finding::unseen(NAME, SYSCTL)];
    };
    let said = format!("{SYSCTL} is {found}");
    if found == 1 || host.fleet.shards < 2 {
        return vec![Finding::good(NAME, said)];
    }
    vec![
        Finding::not_good(Judgement::Note, NAME, said)
            .wanted("1")
            .because(
                "when one listening socket of several closes, connections that wait at it are \
                 reset instead of given to the others; their routers connect again",
            )
            .mended_by(Remedy::Sysctl(SYSCTL, "1".to_owned())),
    ]
}

pub(super) fn dropped_by_processor(host: &Host) -> Vec<Finding> {
    const NAME: &str = "dropped-by-processor";
    let layers = Layers::read(host.tree);
    if layers.processors.is_empty() {
        return vec![Finding::unseen(NAME, "/proc/net/softnet_stat")];
    }
    let dropped: u64 = layers.processors.iter().map(|processor| processor.dropped).sum();
    if dropped == 0 {
        return vec![Finding::good(NAME, "no packet was dropped at a processor's backlog")];
    }
    const SYSCTL: &str = "net.core.netdev_max_backlog";
    let backlog = host.tree.sysctl_number(SYSCTL);
    let is = backlog.map_or("cannot be read here".to_owned(), |backlog| format!("is {backlog}"));
    let found = format!("{} packets since boot; {SYSCTL} {is}", grouped(dropped));
    vec![
        Finding::not_good(Judgement::Note, NAME, found)
            .wanted("none")
            .because("dropped packets are sent again by the routers, 200 ms later and more")
            .mended_by(match backlog {
                Some(backlog) => Remedy::Sysctl(
                    SYSCTL,
                    backlog.saturating_mul(4).max(BACKLOG_PACKETS_MIN).to_string(),
                ),
                // It may be more already.
                None => Remedy::Words(format!("raise {SYSCTL} of the host that holds this one")),
            }),
    ]
}

/// The least that a processor's backlog is raised to.
const BACKLOG_PACKETS_MIN: u64 = 10_000;

pub(super) fn dropped_by_interface(host: &Host) -> Vec<Finding> {
    const NAME: &str = "dropped-by-interface";
    if !host.tree.has(INTERFACES) {
        return vec![Finding::unseen(NAME, "/sys/class/net")];
    }
    let look = |interface: String| {
        let folder = format!("{INTERFACES}/{interface}/statistics");
        let count = |counter| host.tree.number(&format!("{folder}/{counter}"));
        let counts = [count("rx_missed_errors"), count("rx_fifo_errors")];
        let missed = counts.iter().flatten().fold(0_u64, |sum, count| sum.saturating_add(*count));
        if missed == 0 && counts.contains(&None) {
            return Finding::unseen(NAME, &format!("/{folder}"));
        }
        if missed == 0 {
            return Finding::good(NAME, format!("{interface} has missed no packet"));
        }
        let found = format!("{interface} has missed {} packets since boot", grouped(missed));
        Finding::not_good(Judgement::Note, NAME, found)
            .wanted("none")
            .because("its ring of receive descriptors was full: the routers send again, later")
            .mended_by(Remedy::Command(format!("ethtool -G {interface} rx 4096")))
    };
    interfaces(host.tree).into_iter().map(look).collect()
}
