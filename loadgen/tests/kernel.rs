//! A storm in a network namespace of its own, where every kernel counter is the storm's.

use std::process::{Command, Output};

/// Runs a shell line in a new network namespace with its loopback up; `None` where that cannot be
/// done (no root, no iproute2), which is said aloud.
fn in_a_namespace(line: &str) -> Option<Output> {
    let shell = |line: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", line]).output()
    };
    let possible = shell("ip link set lo up").is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("NOT RUN: a network namespace needs root, util-linux and iproute2");
        return None;
    }
    Some(shell(&format!("ip link set lo up && {line}")).unwrap())
}

fn lost(report: &serde_json::Value) -> Vec<String> {
    let counters = report["kernel"]["lost"].as_array().expect("the counters can be read");
    counters.iter().map(ToString::to_string).collect()
}

/// Everybody connects and sends at once, with the network's own backlog and buffers.
#[test]
fn the_kernel_never_pays_for_us() {
    let stormgen = env!("CARGO_BIN_EXE_stormgen");
    let storm = "demo --routers 150 --pe 16 --rate 0 --verify none --format json";
    let Some(output) = in_a_namespace(&format!("exec {stormgen} {storm}")) else { return };
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(lost(&report), Vec::<String>::new());
    assert!(report["storm"]["speakers"].as_u64() > Some(0), "{report}");
}

/// The same storm at a host whose listen queue holds four: the counters that must not move are
/// looked at, and they say so.
#[test]
fn a_queue_too_short_is_seen_in_the_counters() {
    let stormgen = env!("CARGO_BIN_EXE_stormgen");
    let storm = "demo --routers 150 --pe 16 --rate 0 --verify none --format json";
    let short = "sysctl -qw net.core.somaxconn=4";
    let Some(output) = in_a_namespace(&format!("{short} && exec {stormgen} {storm}")) else {
        return;
    };
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let lost = lost(&report);
    assert!(lost.iter().any(|counter| counter.contains("ListenOverflows")), "{lost:?}");
}
