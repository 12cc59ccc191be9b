//! Processors, memory pages and clocks.
//!
//! In:   /sys/class/net/*/queues, cpufreq, transparent_hugepage, clocksource; signs of a daemon
//!       that keeps the time.
//! Out:  findings.
//! Law:  a host without such a file (a virtual one has no governor) is no worse for it.
//! Not:  which processor a shard runs on (the collector).

use super::network::INTERFACES;
use super::{Finding, Host, Judgement, Remedy};
use crate::layers::interfaces;

const PROCESSORS: &str = "sys/devices/system/cpu";

/// Processors that are online; `None` where the kernel does not tell.
fn processors(host: &Host) -> Option<u64> {
    let text = host.tree.text(&format!("{PROCESSORS}/online"))?;
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    text.split(',').map(count).sum()
}

/// Every processor, as a mask of `rps_cpus`: 32 bits per group, the highest first.
fn every_processor(count: u64) -> String {
    let mut left = count;
    let mut groups = Vec::new();
    while left > 0 {
        let bits = left.min(32);
        groups.push(format!("{:x}", (1u64 << bits) - 1));
        left -= bits;
    }
    groups.reverse();
    groups.join(",")
}

pub(super) fn receiving(host: &Host) -> Vec<Finding> {
    const NAME: &str = "receiving";
    let Some(processors) = processors(host) else {
        return vec![Finding::unseen(NAME, &format!("/{PROCESSORS}/online"))];
    };
    if !host.tree.has(INTERFACES) {
        return vec![Finding::unseen(NAME, "/sys/class/net")];
    }
    let mut findings = Vec::new();
    for interface in interfaces(host.tree) {
        let folder = format!("{INTERFACES}/{interface}/queues");
        let mut queues = host.tree.names(&folder);
        queues.retain(|name| name.starts_with("rx-"));
        if queues.is_empty() {
            findings.push(Finding::unseen(NAME, &format!("/{folder}")));
            continue;
        }
        let mask = |queue| host.tree.text(&format!("{folder}/{queue}/rps_cpus"));
        let spread = |mask: &String| mask.chars().any(|digit| digit != '0' && digit != ',');
        let plural = if queues.len() == 1 { "" } else { "s" };
        let said = format!("{interface} has {} receive queue{plural}", queues.len());
        let masks: Vec<Option<String>> = queues.iter().map(mask).collect();
        if queues.len() as u64 >= processors || masks.iter().flatten().any(spread) {
            findings.push(Finding::good(NAME, said));
            continue;
        }
        if masks.contains(&None) {
            findings.push(Finding::unseen(NAME, &format!("/{folder}/*/rps_cpus")));
            continue;
        }
        let mask = every_processor(processors);
        let path = format!("/{folder}/{}/rps_cpus", queues[0]);
        findings.push(
            Finding::not_good(Judgement::Note, NAME, said)
                .wanted(format!("one per processor ({processors}), or RPS over all of them"))
                .because(
                    "the packets of a burst are received by few processors, which then have no \
                     time for their shard",
                )
                .mended_by(Remedy::File(path, mask)),
        );
    }
    findings
}

pub(super) fn governor(host: &Host) -> Vec<Finding> {
    const NAME: &str = "governor";
    let found = host.tree.text(&format!("{PROCESSORS}/cpu0/cpufreq/scaling_governor"));
    let Some(found) = found else {
        return match host.tree.has(PROCESSORS) {
            // Without one the processor's speed is not the kernel's to choose.
            true => Vec::new(),
            false => vec![Finding::unseen(NAME, "/sys/devices/system/cpu")],
        };
    };
    if found == "performance" {
        return vec![Finding::good(NAME, "the processors' governor is performance")];
    }
    vec![
        Finding::not_good(Judgement::Note, NAME, format!("the processors' governor is {found}"))
            .wanted("performance")
            .because("a burst is over before a governor has raised the frequency for it")
            .mended_by(Remedy::Command("cpupower frequency-set -g performance".to_owned())),
    ]
}

pub(super) fn large_pages(host: &Host) -> Vec<Finding> {
    const NAME: &str = "large-pages";
    const PATH: &str = "sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = host.tree.text(PATH) else {
        return match host.tree.has("sys/kernel/mm") {
            // This kernel has no such pages.
            true => Vec::new(),
            false => vec![Finding::unseen(NAME, &format!("/{PATH}"))],
        };
    };
    let chosen = text.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("");
    let said = format!("transparent huge pages: {chosen}");
    if chosen != "never" {
        return vec![Finding::good(NAME, said)];
    }
    vec![
        Finding::not_good(Judgement::Note, NAME, said)
            .wanted("madvise")
            .because("tables of gigabytes in small pages: more time is spent on finding pages")
            .mended_by(Remedy::File(format!("/{PATH}"), "madvise".to_owned())),
    ]
}

/// Sources that a program reads without asking the kernel.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "timebase"];
/// Programs that keep the clock right.
const TIME_KEEPERS: [&str; 7] =
    ["chronyd", "ntpd", "ntp-daemon", "ptp4l", "phc2sys", "openntpd", "systemd-timesyn"];

pub(super) fn clock(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    const PATH: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    findings.push(match host.tree.text(PATH) {
        None => Finding::unseen("clock-source", &format!("/{PATH}")),
        Some(found) if FAST_CLOCKS.contains(&found.as_str()) => {
            Finding::good("clock-source", format!("the clock is read from {found}"))
        }
        Some(found) => {
            Finding::not_good(Judgement::Note, "clock-source", format!("the clock is {found}"))
                .wanted("tsc")
                .because("every look at the clock is a call of the kernel, several per frame")
                .mended_by(Remedy::Words(
                    "find out why the kernel distrusts the TSC (`dmesg | grep -i tsc`)".to_owned(),
                ))
        }
    });
    findings.push(time_keeper(host));
    findings
}

fn time_keeper(host: &Host) -> Finding {
    const NAME: &str = "time-keeper";
    if host.tree.has("run/systemd/timesync/synchronized") {
        return Finding::good(NAME, "systemd-timesyncd has set the clock");
    }
    let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = host.tree.names("proc").into_iter().filter(is_number);
    let programs = processes.filter_map(|id| host.tree.text(&format!("proc/{id}/comm")));
    if let Some(found) = programs.into_iter().find(|name| TIME_KEEPERS.contains(&name.as_str())) {
        return Finding::good(NAME, format!("{found} keeps the clock"));
    }
    // Where processes of others are hidden, one that keeps the clock is, too.
    if !host.tree.has("proc/1/comm") {
        return Finding::unseen(NAME, "/proc/1/comm");
    }
    Finding::not_good(Judgement::Note, NAME, "no program keeps the clock right (or none is seen)")
        .wanted("chrony, ntpd, systemd-timesyncd or PTP")
        .because(
            "routers' times are measured against this clock: what is off here is off in every \
             answer, and several collectors' logs cannot be set side by side",
        )
        .mended_by(Remedy::Command("apt-get install chrony".to_owned()))
}
