//! What the process may have: descriptors, rings, locked memory, memory for tables.
//!
//! In:   /proc/self/limits and /proc/self/status, sysctls, what trying a ring has shown.
//! Out:  findings.
//! Law:  the hard limit counts: the collector raises the soft one itself.
//! Not:  memory of the kernel's TCP (`network`).

use crate::limits::hard_limit;
use crate::memory::Available;

use super::{Finding, Host, Judgement, Remedy, Ring, grouped};

/// Descriptors that are no connections: files, rings, listening sockets, the HTTP side.
const OWN_DESCRIPTORS: u64 = 256;

pub(super) fn descriptors(host: &Host) -> Vec<Finding> {
    const NAME: &str = "descriptors";
    let Some(found) = hard_limit(host.tree, "Max open files") else {
        return vec![Finding::unknown(NAME, "/proc/self/limits")];
    };
    let ordinary = found.saturating_sub(OWN_DESCRIPTORS);
    let direct = match &host.observed.ring {
        Ring::Works { direct_descriptors: true } => found.saturating_mul(host.fleet.shards),
        _ => 0,
    };
    let carries = ordinary.max(direct);
    let routers = host.fleet.routers;
    let limit = match found {
        u64::MAX => "unlimited".to_owned(),
        number => grouped(number),
    };
    let said = format!("RLIMIT_NOFILE is {limit}");
    let wanted = (routers + OWN_DESCRIPTORS).next_power_of_two();
    let remedy = Remedy::Limit(format!("ulimit -n {wanted}"), format!("LimitNOFILE={wanted}"));
    if routers <= ordinary {
        return vec![Finding::good(NAME, said).carries(carries)];
    }
    if routers <= carries {
        return vec![
            Finding::not_good(Judgement::Note, NAME, said)
                .wanted(format!("{} or more", grouped(wanted)))
                .because(
                    "connections beyond it are held by io_uring's direct descriptors, which \
                     epoll has not",
                )
                .carries(carries)
                .mended_by(remedy),
        ];
    }
    vec![
        Finding::not_good(Judgement::Bites, NAME, said)
            .wanted(format!("{} or more", grouped(wanted)))
            .because(format!(
                "beyond {} connections routers wait in the listen queue until others leave",
                grouped(carries)
            ))
            .carries(carries)
            .mended_by(remedy),
    ]
}

pub(super) fn descriptors_of_host(host: &Host) -> Vec<Finding> {
    const NAME: &str = "descriptors-of-host";
    let wanted = (host.fleet.routers + OWN_DESCRIPTORS).next_power_of_two();
    let mut findings = Vec::new();
    for sysctl in ["fs.nr_open", "fs.file-max"] {
        let Some(found) = host.tree.sysctl_number(sysctl) else {
            findings.push(Finding::unknown(NAME, sysctl));
            continue;
        };
        let carries = found.saturating_sub(OWN_DESCRIPTORS);
        if carries >= host.fleet.routers {
            let said = format!("{sysctl} is {}", grouped(found));
            findings.push(Finding::good(NAME, said).carries(carries));
            continue;
        }
        findings.push(
            Finding::not_good(Judgement::Bites, NAME, format!("{sysctl} is {}", grouped(found)))
                .wanted(format!("{} or more", grouped(wanted)))
                .because("no process of this host may hold more: accepting stops there")
                .carries(carries)
                .mended_by(Remedy::Sysctl(sysctl, wanted.to_string())),
        );
    }
    findings
}

pub(super) fn ring(host: &Host) -> Vec<Finding> {
    const NAME: &str = "io-uring";
    const SYSCTL: &str = "kernel.io_uring_disabled";
    let replaced = match &host.observed.ring {
        Ring::NotAsked => {
            return vec![Finding::good(NAME, "not asked for: the settings say epoll")];
        }
        Ring::Works { .. } => {
            return vec![Finding::good(NAME, "a ring was set up and has received")];
        }
        Ring::Replaced(reason) => reason,
        Ring::Fails(reason) => {
            return vec![
                Finding::not_good(Judgement::Bites, NAME, format!("a trial ring: {reason}"))
                    .wanted("a ring that works, or --io auto")
                    .because("the collector does not start")
                    .mended_by(Remedy::Words("see `locked-memory` and `descriptors`".to_owned())),
            ];
        }
    };
    let found = Finding::not_good(Judgement::Note, NAME, format!("a trial ring: {replaced}"))
        .wanted("a ring that works")
        .because("epoll takes over: the same answers, more system calls per burst");
    let profile = "let the container's seccomp profile allow io_uring_setup, io_uring_enter and \
                   io_uring_register";
    vec![found.mended_by(match host.tree.sysctl_number(SYSCTL) {
        Some(0) => Remedy::Words(profile.to_owned()),
        Some(_) => Remedy::Sysctl(SYSCTL, "0".to_owned()),
        None => {
            Remedy::Words(format!("{profile}; {SYSCTL}, which cannot be read here, has to be 0"))
        }
    })]
}

/// What rings and their buffer rings take of RLIMIT_MEMLOCK, whatever the number of shards: with
/// `LOCKED_SHARD_BYTES`, more than the 2,224 KiB of one shard and the 3,008 KiB of two (measured
/// on Linux 6.18).
pub const LOCKED_BYTES: u64 = 2 << 20;
/// The same for each shard.
pub const LOCKED_SHARD_BYTES: u64 = 1 << 20;
/// CAP_IPC_LOCK in the masks of /proc/self/status: nothing is counted then.
const MAY_LOCK: u64 = 1 << 14;

pub(super) fn locked_memory(host: &Host) -> Vec<Finding> {
    const NAME: &str = "locked-memory";
    if host.observed.ring == Ring::NotAsked {
        return Vec::new();
    }
    let status = host.tree.text("proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = capabilities.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if mask.is_some_and(|mask| mask & MAY_LOCK != 0) {
        return vec![Finding::good(NAME, "not limited: CAP_IPC_LOCK")];
    }
    let Some(found) = hard_limit(host.tree, "Max locked memory") else {
        return vec![Finding::unknown(NAME, "/proc/self/limits")];
    };
    let wanted = LOCKED_BYTES + LOCKED_SHARD_BYTES * host.fleet.shards;
    let limit = match found {
        u64::MAX => "unlimited".to_owned(),
        number => format!("{} KiB", grouped(number >> 10)),
    };
    let said = format!("RLIMIT_MEMLOCK is {limit}");
    if found >= wanted {
        return vec![Finding::good(NAME, said)];
    }
    let demanded = matches!(host.observed.ring, Ring::Fails(_));
    let (judgement, because) = match demanded {
        true => (Judgement::Bites, "rings and their buffers cannot be set up (ENOMEM): no start"),
        false => (
            Judgement::Note,
            "rings and their buffers cannot be set up (ENOMEM): epoll takes over, the same \
             answers, more system calls per burst",
        ),
    };
    vec![
        Finding::not_good(judgement, NAME, said)
            .wanted(format!("{} KiB for {} shards", grouped(wanted >> 10), host.fleet.shards))
            .because(because)
            .mended_by(Remedy::Limit(
                format!("ulimit -l {}", wanted >> 10),
                format!("LimitMEMLOCK={wanted}"),
            )),
    ]
}

/// What the process may use at all, against what the collector may take of it.
pub(super) fn memory(host: &Host) -> Vec<Finding> {
    const NAME: &str = "memory";
    let Some(budget) = host.observed.memory_bytes else { return Vec::new() };
    let Available { bytes, unread } = &host.observed.memory;
    let mebibytes = |bytes: u64| format!("{} MiB", grouped(bytes >> 20));
    let said = match bytes {
        None => format!("the budget is {}", mebibytes(budget)),
        Some(bytes) => {
            format!("the budget is {} of {}", mebibytes(budget), mebibytes(*bytes))
        }
    };
    if bytes.is_some_and(|bytes| budget > bytes) {
        return vec![
            Finding::not_good(Judgement::Bites, NAME, said)
                .wanted("half of what the process may use, or less")
                .because("the kernel ends the collector when its tables and surges are there")
                .mended_by(Remedy::Words("give the collector a smaller --memory".to_owned())),
        ];
    }
    if unread.is_empty() {
        return vec![Finding::good(NAME, said)];
    }
    vec![
        Finding::not_good(
            Judgement::Unknown,
            NAME,
            format!("{said}; {} cannot be read here", unread.join(", ")),
        )
        .wanted("a --memory that is known to be there")
        .because("what this process may use can be less: the kernel ends one that takes more"),
    ]
}

/// Bytes of one mapping in a router's table (bench `table`).
const MAPPING_BYTES: u64 = 64;

pub(super) fn table_memory(host: &Host) -> Vec<Finding> {
    const NAME: &str = "table-memory";
    let Some(found) = host.observed.table_bytes_max else { return Vec::new() };
    let router_bytes = (host.fleet.mappings * MAPPING_BYTES).max(1);
    let carries = found / router_bytes;
    let said = format!("the budget leaves {} MiB to tables", grouped(found >> 20));
    if carries >= host.fleet.routers {
        return vec![Finding::good(NAME, said).carries(carries)];
    }
    let needed = host.fleet.routers.saturating_mul(router_bytes);
    vec![
        Finding::not_good(Judgement::Bites, NAME, said)
            .wanted(format!("{} MiB", grouped((needed >> 20) + 1)))
            .because("keys beyond it are refused (`table-full`) and answer unknown")
            .carries(carries)
            .mended_by(Remedy::Words(format!(
                "give the collector --memory {}MiB or more",
                ((needed / 3 * 5) >> 20) + 512
            ))),
    ]
}
