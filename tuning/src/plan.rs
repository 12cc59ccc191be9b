//! Plan: how large a collector host has to be, as closed formulas.
//!
//! In:   what the network does (`Demand`), what a core and a byte cost (`Costs`), what the host
//!       has (`Limits`).
//! Out:  `Plan`: needs, each with its formula, the numbers in it, and where they come from.
//! Law:  pure; every need is rounded up, and each states the worst moment that it is made for.
//! Not:  measuring costs (loadgen), reading limits (`limits`), printing tables.

mod text;

use serde::{Deserialize, Serialize};

use crate::doctor::network::{
    AT_ONCE, BACKLOG_MAX, BUFFER_DEFAULT_BYTES, BUFFER_MAX_BYTES, BUFFER_PER_WINDOW, HELD_PER_BYTE,
    KEY_BYTES, UNEVEN_TENTHS,
};
use crate::limits::Limits;
use text::short;

/// What the network does. Every field has a default that a large site would call usual.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Demand {
    /// Routers, each with one connection.
    pub routers: f64,
    /// Mappings of a router's table.
    pub mappings: f64,
    /// Changes in a second of one router, on a usual day.
    pub churn: f64,
    /// Share of all mappings that a failure changes at once, 0 to 1.
    pub burst_share: f64,
    /// Within how many seconds the routers say so.
    pub burst_seconds: f64,
    /// Within how many seconds all of it has to be durable.
    pub settle_seconds: f64,
    /// Within how many seconds every table has to be there again after a restart.
    pub restart_seconds: f64,
    /// Mappings of a frame of changes.
    pub frame_mappings: f64,
    /// How long changes are kept, hours.
    pub retain_hours: f64,
    /// TCP-MD5 keys on a listener; 0 = none.
    pub md5_keys: f64,
    /// Share of its cores that the collector may use on a usual day, 0 to 1.
    pub utilisation: f64,
}

impl Default for Demand {
    fn default() -> Self {
        Demand {
            routers: 2_000.0,
            mappings: 500.0,
            churn: 0.1,
            burst_share: 0.3,
            burst_seconds: 1.0,
            settle_seconds: 5.0,
            restart_seconds: 30.0,
            frame_mappings: 50.0,
            retain_hours: 24.0 * 30.0,
            md5_keys: 0.0,
            utilisation: 0.5,
        }
    }
}

/// What things cost on a host. The defaults are those of two shared cores of a cloud, taken from
/// the runs that the benches keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Costs {
    /// Processor time of a frame, whatever is in it, ns.
    pub frame_ns: f64,
    /// Processor time of a mapping that changes its entry, ns.
    pub change_ns: f64,
    /// Processor time of a mapping that confirms its entry, ns.
    pub confirm_ns: f64,
    /// Bytes of a change on the wire.
    pub wire_bytes: f64,
    /// Resident bytes of a table's entry.
    pub entry_bytes: f64,
    /// Resident bytes of a session without its table, in the collector.
    pub session_bytes: f64,
    /// Bytes of the kernel for a connection that waits.
    pub socket_bytes: f64,
    /// Bytes of a change row in a full block of the log.
    pub row_bytes: f64,
    /// Bytes of a commit, whatever is in it.
    pub commit_bytes: f64,
    /// Bytes of an entry in a state file.
    pub state_bytes: f64,
    /// Fixed buffers of a shard, bytes.
    pub shard_bytes: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Costs {
            // decode/change/1, /10 and /100: 936 - 475 ns apart for a tenth of the frames.
            frame_ns: 5_100.0,
            // end-to-end/100: 1.84 cores for 3,371,126 mappings/s, less a hundredth of a frame.
            change_ns: 500.0,
            // restart-storm: two cores, 10,000,000 confirmed in 2.93 s.
            confirm_ns: 586.0,
            wire_bytes: 26.2,
            entry_bytes: 48.0,
            session_bytes: 4_096.0,
            socket_bytes: 4_500.0,
            row_bytes: 13.7,
            commit_bytes: 140.0,
            state_bytes: 12.0,
            shard_bytes: 32.0 * MIB,
        }
    }
}

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;
const DAY_SECONDS: f64 = 86_400.0;
/// Commits of a shard in a second: one per `commit_interval_ms`, 20.
const COMMITS_PER_SECOND: f64 = 50.0;
/// Bytes on a line for each byte of TCP: 78 of headers, preamble and gap per 1,448.
const LINE_OVERHEAD: f64 = 1.054;
/// Sources do not spread evenly over shards: the fullest has so much more than its share.
const UNEVEN: f64 = UNEVEN_TENTHS as f64 / 10.0;

/// One thing that the host needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Need {
    /// What, as one word or two.
    pub name: &'static str,
    /// How much, in `unit`.
    pub value: f64,
    /// Of the value.
    pub unit: &'static str,
    /// The formula, in the words of `Demand` and `Costs`.
    pub formula: &'static str,
    /// The formula with its numbers.
    pub numbers: String,
    /// Where formula and constants come from.
    pub source: &'static str,
    /// What this host has; absent where it was not asked, or has no limit.
    pub has: Option<f64>,
    /// The command or setting that provides it.
    pub set: String,
}

impl Need {
    /// How much of what the host has is needed; above 1 it does not suffice.
    pub fn load(&self) -> Option<f64> {
        self.has.map(|has| self.value / has.max(f64::MIN_POSITIVE))
    }
}

/// Everything that the host needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What for.
    pub demand: Demand,
    /// At what costs.
    pub costs: Costs,
    /// One after another.
    pub needs: Vec<Need>,
    /// The need that this host meets worst; absent where the host was not asked.
    pub first_limit: Option<&'static str>,
    /// Whether this host meets every need; absent where it was not asked, and where it meets those
    /// of which it says what it has, but not of all of them it does.
    pub suffices: Option<bool>,
    /// Needs of which this host should say what it has, and does not.
    pub unknown: Vec<&'static str>,
}

impl Plan {
    /// Computes every need, and sets it beside what a host has.
    pub fn new(demand: &Demand, costs: &Costs, limits: Option<&Limits>) -> Plan {
        let sizes = Sizes::new(demand, costs);
        let mut needs = vec![
            cores(demand, costs, &sizes),
            collector_memory(demand, costs, &sizes),
            host_memory(demand, costs, &sizes),
            disk_per_day(demand, costs, &sizes),
            disk(demand, costs, &sizes),
            disk_syncs(&sizes),
            line(demand, costs),
            listen_queue(demand, &sizes),
            receive_buffer(demand, costs),
            tcp_memory(demand, costs),
            descriptors(demand),
            option_memory(demand),
        ];
        if let Some(limits) = limits {
            needs.iter_mut().for_each(|need| need.has = has(limits, need.name));
        }
        let is_unknown = |need: &&Need| limits.is_some() && need.has.is_none() && is_told(need);
        let unknown = needs.iter().filter(is_unknown).map(|need| need.name).collect();
        let (first_limit, suffices) = (None, None);
        let mut plan =
            Plan { demand: *demand, costs: *costs, needs, first_limit, suffices, unknown };
        plan.judge();
        plan
    }

    /// Finds the first limit, and whether the host suffices, of what the needs say that it has.
    pub fn judge(&mut self) {
        let loads = || self.needs.iter().filter_map(|need| Some((need.name, need.load()?)));
        let first_limit = loads().max_by(|one, other| one.1.total_cmp(&other.1));
        let suffices = first_limit.map(|(_, load)| load <= 1.0);
        self.first_limit = first_limit.map(|(name, _)| name);
        // What is not known may be the limit: only "no" can be said without it.
        self.suffices = suffices.filter(|suffices| !suffices || self.unknown.is_empty());
    }

    /// The value of a need, in its unit.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.needs.iter().find(|need| need.name == name).map(|need| need.value)
    }
}

/// An eighth of the memory is set aside for questions about the past.
const QUESTIONS_PER_INGEST: f64 = 8.0 / 7.0;

/// What several needs are made of.
struct Sizes {
    shards: f64,
    table_bytes: f64,
    surge_bytes: f64,
    memory_bytes: f64,
    day_bytes: f64,
}

impl Sizes {
    fn new(demand: &Demand, costs: &Costs) -> Sizes {
        let shards = busy_cores(demand, costs).iter().fold(1.0_f64, |most, it| most.max(it.ceil()));
        let table_bytes = demand.routers * demand.mappings * costs.entry_bytes;
        let surge_bytes = burst_mappings(demand) * costs.wire_bytes;
        let sessions_bytes = demand.routers * costs.session_bytes;
        // Tables may take three quarters of what sessions, questions and the fixed parts leave.
        let ingest_bytes = sessions_bytes + (table_bytes / 0.75).max(table_bytes + surge_bytes);
        let memory_bytes = shards * costs.shard_bytes + ingest_bytes * QUESTIONS_PER_INGEST;
        let changes = demand.routers * demand.churn;
        let commits = changes.min(shards * COMMITS_PER_SECOND);
        let changes_bytes = changes * costs.row_bytes + commits * costs.commit_bytes;
        let state = demand.routers * demand.mappings * costs.state_bytes;
        let day_bytes = changes_bytes * DAY_SECONDS + state;
        Sizes { shards, table_bytes, surge_bytes, memory_bytes, day_bytes }
    }
}

fn burst_mappings(demand: &Demand) -> f64 {
    demand.routers * demand.mappings * demand.burst_share
}

/// Processor seconds of a change in a frame of its size.
fn change_seconds(demand: &Demand, costs: &Costs) -> f64 {
    (costs.change_ns + costs.frame_ns / demand.frame_mappings.max(1.0)) / 1e9
}

/// Cores that a usual day, a burst and a restart ask for.
fn busy_cores(demand: &Demand, costs: &Costs) -> [f64; 3] {
    let change = change_seconds(demand, costs);
    let usual = demand.routers * demand.churn * (costs.change_ns + costs.frame_ns) / 1e9;
    let all = demand.routers * demand.mappings;
    [
        usual / demand.utilisation.max(0.01),
        burst_mappings(demand) * change / demand.settle_seconds.max(0.001),
        all * costs.confirm_ns / 1e9 / demand.restart_seconds.max(0.001),
    ]
}

fn cores(demand: &Demand, costs: &Costs, sizes: &Sizes) -> Need {
    let [usual, burst, restart] = busy_cores(demand, costs);
    Need {
        name: "cores",
        value: sizes.shards + 1.0,
        unit: "cores",
        formula: "1 + max(routers x churn x (change + frame) / utilisation, \
                  routers x mappings x burst_share x (change + frame / frame_mappings) / settle, \
                  routers x mappings x confirm / restart), rounded up",
        numbers: format!("1 + max(usual {usual:.3}, burst {burst:.3}, restart {restart:.3})"),
        source: "costs per mapping: benches end-to-end and decode; one core beside the shards for \
                 log writers, states and HTTP",
        has: None,
        set: format!("--shards {}", sizes.shards),
    }
}

fn collector_memory(demand: &Demand, costs: &Costs, sizes: &Sizes) -> Need {
    let Sizes { shards, table_bytes, surge_bytes, memory_bytes, .. } = sizes;
    Need {
        name: "collector memory",
        value: (memory_bytes / MIB).ceil(),
        unit: "MiB",
        formula: "shards x shard_bytes + (routers x session_bytes + max(tables / 0.75, tables + \
                  burst)) x 8 / 7; tables = routers x mappings x entry_bytes, burst = its bytes on \
                  the wire",
        numbers: format!(
            "{shards} x {:.0} MiB + ({} x {} B + max({:.0} MiB / 0.75, {:.0} MiB + {:.0} MiB)) x \
             8 / 7",
            costs.shard_bytes / MIB,
            short(demand.routers),
            short(costs.session_bytes),
            table_bytes / MIB,
            table_bytes / MIB,
            surge_bytes / MIB,
        ),
        source: "entry_bytes: bench table; three quarters: docs/decisions/0010-one-budget.md; an \
                 eighth is for questions: docs/decisions/0020-questions.md; the burst is held as \
                 it came, as if nothing were digested meanwhile",
        has: None,
        set: format!("--memory {}MiB", (memory_bytes / MIB).ceil()),
    }
}

fn host_memory(demand: &Demand, costs: &Costs, sizes: &Sizes) -> Need {
    let budget = sizes.memory_bytes * 1.15;
    let sockets = demand.routers * costs.socket_bytes;
    let queues = burst_mappings(demand) * costs.wire_bytes * HELD_PER_BYTE as f64;
    let value = ((budget + sockets + queues) / 0.9 + 0.25 * GIB) / GIB;
    Need {
        name: "host memory",
        value: (value * 10.0).ceil() / 10.0,
        unit: "GiB",
        formula: "(collector memory x 1.15 + routers x socket_bytes + burst bytes x 5) / 0.9 + \
                  0.25 GiB",
        numbers: format!(
            "({:.2} + {:.2} + {:.2}) / 0.9 + 0.25",
            budget / GIB,
            sockets / GIB,
            queues / GIB
        ),
        source: "1.15: reach of bench restart-storm/rss; socket_bytes: slab growth of 34,000 idle \
                 connections; 5: bytes that the kernel holds for an unread byte; a tenth \
                 stays free for the page cache of the log",
        has: None,
        set: String::new(),
    }
}

fn disk_per_day(demand: &Demand, costs: &Costs, sizes: &Sizes) -> Need {
    let changes = demand.routers * demand.churn;
    let commits = changes.min(sizes.shards * COMMITS_PER_SECOND);
    Need {
        name: "disk per day",
        value: (sizes.day_bytes / MIB).ceil(),
        unit: "MiB",
        formula: "86,400 x (routers x churn x row_bytes + min(routers x churn, 50 x shards) x \
                  commit_bytes) + routers x mappings x state_bytes",
        numbers: format!(
            "86,400 x ({changes:.1} x {} B + {commits:.1} x {} B) + {} x {} x {} B",
            short(costs.row_bytes),
            short(costs.commit_bytes),
            short(demand.routers),
            short(demand.mappings),
            short(costs.state_bytes)
        ),
        source: "row_bytes and commit_bytes: bench log-size/burst and /trickle; a shard commits \
                 every 20 ms at most; one state a day",
        has: None,
        set: String::new(),
    }
}

fn disk(demand: &Demand, costs: &Costs, sizes: &Sizes) -> Need {
    let first = demand.routers * demand.mappings * costs.row_bytes;
    let bytes = sizes.day_bytes * demand.retain_hours / 24.0 + first;
    Need {
        name: "disk",
        value: (bytes / GIB * 10.0).ceil() / 10.0,
        unit: "GiB",
        formula: "disk per day x retain_hours / 24 + routers x mappings x row_bytes",
        numbers: format!(
            "{:.0} MiB x {} / 24 + {:.0} MiB",
            sizes.day_bytes / MIB,
            short(demand.retain_hours),
            first / MIB
        ),
        source: "the first tables are changes too; docs/STORAGE-FORMAT.md",
        has: None,
        set: format!("retain_hours = {}", demand.retain_hours),
    }
}

fn disk_syncs(sizes: &Sizes) -> Need {
    // In a burst every shard commits as often as it ever does.
    let value = sizes.shards * COMMITS_PER_SECOND;
    Need {
        name: "disk syncs",
        value,
        unit: "per second",
        formula: "50 x shards",
        numbers: format!("50 x {}", sizes.shards),
        source: "every shard commits every 20 ms of a burst, and an ack waits for its sync; shards \
                 share the disk: docs/decisions/0001-a-writer-thread-per-shard.md",
        has: None,
        set: String::new(),
    }
}

fn line(demand: &Demand, costs: &Costs) -> Need {
    let bits = burst_mappings(demand) * costs.wire_bytes * LINE_OVERHEAD * 8.0;
    Need {
        name: "network line",
        value: (bits / demand.burst_seconds.max(0.001) / 1e6).ceil(),
        unit: "Mbit/s",
        formula: "routers x mappings x burst_share x wire_bytes x 1.054 x 8 / burst_seconds",
        numbers: format!(
            "{:.0} x {} B x {LINE_OVERHEAD} x 8 / {} s",
            burst_mappings(demand),
            short(costs.wire_bytes),
            short(demand.burst_seconds)
        ),
        source: "wire_bytes: bench end-to-end/100; 1.054: Ethernet, IPv4 and TCP around 1,448 bytes",
        has: None,
        set: String::new(),
    }
}

fn listen_queue(demand: &Demand, sizes: &Sizes) -> Need {
    let share = demand.routers / sizes.shards * UNEVEN / AT_ONCE as f64;
    let value = next_power(share).clamp(128.0, BACKLOG_MAX as f64);
    Need {
        name: "listen queue",
        value,
        unit: "connections",
        formula: "routers / shards x 1.3 / 4, as a power of two, 128 to 65,535",
        numbers: format!(
            "{} / {} x {UNEVEN} / {AT_ONCE} = {share:.0}",
            short(demand.routers),
            sizes.shards
        ),
        source: "of a fleet that comes back at once a quarter waits at most: bench restart-storm; \
                 Documentation/networking/ip-sysctl.rst, somaxconn and tcp_max_syn_backlog",
        has: None,
        set: format!(
            "sysctl -w net.core.somaxconn={value:.0} net.ipv4.tcp_max_syn_backlog={value:.0}"
        ),
    }
}

fn router_burst_bytes(demand: &Demand, costs: &Costs) -> f64 {
    demand.mappings * demand.burst_share * costs.wire_bytes
}

fn receive_buffer(demand: &Demand, costs: &Costs) -> Need {
    let bytes = router_burst_bytes(demand, costs);
    let value = next_power((BUFFER_PER_WINDOW as f64 * bytes).max(BUFFER_DEFAULT_BYTES as f64));
    Need {
        name: "receive buffer",
        value,
        unit: "bytes",
        formula: "2 x mappings x burst_share x wire_bytes, as a power of two, at least 131,072",
        numbers: format!(
            "2 x {} x {} x {}",
            short(demand.mappings),
            short(demand.burst_share),
            short(costs.wire_bytes)
        ),
        source: "what a router says in a burst fits into its window, half of the buffer being \
                 overhead; Documentation/networking/ip-sysctl.rst, tcp_rmem",
        has: None,
        set: format!(
            "sysctl -w net.ipv4.tcp_rmem='4096 {value:.0} {:.0}'",
            value.max(BUFFER_MAX_BYTES as f64)
        ),
    }
}

fn tcp_memory(demand: &Demand, costs: &Costs) -> Need {
    let bytes = demand.routers * router_burst_bytes(demand, costs) * HELD_PER_BYTE as f64;
    let pages = (bytes / 4_096.0).ceil();
    let [low, high] = [0.75, 1.5].map(|share| pages * share);
    Need {
        name: "tcp memory",
        value: pages * 4_096.0 / MIB,
        unit: "MiB",
        formula: "routers x mappings x burst_share x wire_bytes x 5 below tcp_mem's pressure",
        numbers: format!(
            "{} x {:.0} B x {HELD_PER_BYTE} = {pages:.0} pages",
            short(demand.routers),
            router_burst_bytes(demand, costs)
        ),
        source: "all queues full at once, nothing read; beyond it the kernel prunes and collapses; \
                 Documentation/networking/ip-sysctl.rst, tcp_mem",
        has: None,
        set: format!("sysctl -w net.ipv4.tcp_mem='{low:.0} {pages:.0} {high:.0}'"),
    }
}

fn descriptors(demand: &Demand) -> Need {
    let value = (demand.routers * 1.1 + 512.0).ceil();
    Need {
        name: "descriptors",
        value,
        unit: "descriptors",
        formula: "routers x 1.1 + 512",
        numbers: format!("{} x 1.1 + 512", short(demand.routers)),
        source: "a router that reconnects holds two for a moment; log files and listeners. With \
                 io_uring the limit holds per shard: docs/decisions/0009-room-for-connections.md",
        has: None,
        set: format!("LimitNOFILE={value:.0}"),
    }
}

fn option_memory(demand: &Demand) -> Need {
    let value = (demand.md5_keys * KEY_BYTES as f64 + OPTION_BYTES_OWN).ceil();
    Need {
        name: "option memory",
        value,
        unit: "bytes",
        formula: "md5_keys x 136 + 1,024",
        numbers: format!("{} x {KEY_BYTES} + 1,024", short(demand.md5_keys)),
        source: "struct tcp_md5sig_key is charged to the listener; \
                 Documentation/admin-guide/sysctl/net.rst, optmem_max",
        has: None,
        set: format!("sysctl -w net.core.optmem_max={value:.0}"),
    }
}

fn next_power(value: f64) -> f64 {
    2.0_f64.powf(value.max(1.0).log2().ceil())
}

/// Whether a host that was asked says what it has of a need, unless it cannot be read. A line may
/// not know its speed, no limit on descriptors is none, and a disk has to be named.
fn is_told(need: &Need) -> bool {
    match need.name {
        "host memory" | "listen queue" | "receive buffer" | "tcp memory" => true,
        // Without keys there is nothing to hold.
        "option memory" => need.value > OPTION_BYTES_OWN,
        _ => false,
    }
}

/// What a socket takes of its memory for options beside the keys, rounded up.
const OPTION_BYTES_OWN: f64 = 1_024.0;

/// What a host has of a need, in the need's unit.
fn has(limits: &Limits, name: &str) -> Option<f64> {
    let number = |value: Option<u64>, unit: f64| value.map(|value| value as f64 / unit);
    match name {
        "cores" => Some(limits.cores as f64),
        "host memory" => number(limits.memory_bytes, GIB),
        "listen queue" => number(limits.somaxconn, 1.0),
        "receive buffer" => number(limits.receive_buffer_bytes, 1.0),
        "tcp memory" => number(limits.tcp_pressure_bytes, MIB),
        "descriptors" => number(limits.descriptors, 1.0),
        "option memory" => number(limits.option_bytes, 1.0),
        "network line" => number(limits.line_mbits, 1.0),
        "disk" => number(limits.disk_free_bytes, GIB),
        "disk syncs" => number(limits.syncs_per_second, 1.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
