//! Plans whose needs can be reckoned in the head.

use super::*;

/// Costs with round numbers.
const COSTS: Costs = Costs {
    frame_ns: 10_000.0,
    change_ns: 1_000.0,
    confirm_ns: 500.0,
    wire_bytes: 25.0,
    entry_bytes: 64.0,
    session_bytes: 4_096.0,
    socket_bytes: 4_096.0,
    row_bytes: 14.0,
    commit_bytes: 140.0,
    state_bytes: 12.0,
    shard_bytes: 32.0 * MIB,
};

fn demand() -> Demand {
    Demand {
        routers: 10_000.0,
        mappings: 1_000.0,
        churn: 1.0,
        burst_share: 0.5,
        burst_seconds: 1.0,
        settle_seconds: 2.0,
        restart_seconds: 10.0,
        frame_mappings: 10.0,
        retain_hours: 48.0,
        md5_keys: 1_000.0,
        utilisation: 0.5,
    }
}

fn value(demand: &Demand, name: &str) -> f64 {
    Plan::new(demand, &COSTS, None).value(name).unwrap()
}

#[test]
fn cores_are_those_of_the_worst_moment_and_one_beside() {
    // Burst: 5,000,000 x 2 us / 2 s = 5. Usual: 10,000 x 11 us / 0.5. Restart: 0.5.
    assert_eq!(value(&demand(), "cores"), 6.0);
    let slow = Demand { settle_seconds: 60.0, restart_seconds: 1.0, ..demand() };
    assert_eq!(value(&slow, "cores"), 6.0);
    let busy = Demand { churn: 200.0, settle_seconds: 60.0, ..demand() };
    // 10,000 x 200 x 11 us / 0.5 = 44.
    assert_eq!(value(&busy, "cores"), 45.0);
}

#[test]
fn memory_holds_tables_sessions_buffers_and_a_burst() {
    // 5 shards x 32 MiB; tables 640,000,000 B / 0.75 and 10,000 x 4 KiB, with an eighth beside.
    let expected = ((640e6_f64 / 0.75 / MIB + 39.0625) * 8.0 / 7.0 + 160.0).ceil();
    assert_eq!(value(&demand(), "collector memory"), expected);
    // The collector's with 15 % on top, 10,000 sockets of 4 KiB, 625,000,000 B of unread burst; a
    // tenth stays free.
    let collector = (640e6_f64 / 0.75 + 40_960_000.0) * 8.0 / 7.0 + 5.0 * 32.0 * MIB;
    let host = ((collector * 1.15 + 40_960_000.0 + 625e6) / 0.9 / GIB + 0.25) * 10.0;
    assert_eq!(value(&demand(), "host memory"), host.ceil() / 10.0);
    // Ten shards, and a burst of 250,000,000 B, which is more than a third of the tables.
    let all = Demand { burst_share: 1.0, ..demand() };
    let expected = ((890e6_f64 / MIB + 39.0625) * 8.0 / 7.0 + 320.0).ceil();
    assert_eq!(value(&all, "collector memory"), expected);
}

#[test]
fn disk_counts_rows_commits_and_states() {
    // 10,000/s x 14 B + 5 shards x 50 x 140 B, a day; a state of 10,000,000 entries.
    let day = 86_400.0 * (140_000.0 + 35_000.0) + 120e6;
    assert_eq!(value(&demand(), "disk per day"), (day / MIB).ceil());
    let disk = value(&demand(), "disk");
    assert!((disk - (2.0 * day + 140e6) / GIB).abs() <= 0.1, "{disk}");
    // A trickle pays for each commit.
    let trickle = Demand { churn: 0.001, ..demand() };
    let day = 86_400.0 * 10.0 * 154.0 + 120e6;
    assert_eq!(value(&trickle, "disk per day"), (day / MIB).ceil());
    assert_eq!(value(&demand(), "disk syncs"), 250.0);
}

#[test]
fn the_kernel_holds_a_burst_that_nobody_reads() {
    // 5,000,000 x 25 B x 1.054 x 8 = 1,054 Mbit.
    assert_eq!(value(&demand(), "network line"), 1_054.0);
    let sudden = Demand { burst_seconds: 0.5, ..demand() };
    assert_eq!(value(&sudden, "network line"), 2_108.0);
    assert_eq!(value(&demand(), "tcp memory"), (625e6_f64 / 4_096.0).ceil() * 4_096.0 / MIB);
    assert_eq!(value(&demand(), "receive buffer"), 131_072.0);
    let large = Demand { mappings: 10_000.0, ..demand() };
    // 2 x 125,000 B.
    assert_eq!(value(&large, "receive buffer"), 262_144.0);
    assert_eq!(value(&demand(), "listen queue"), 1_024.0);
    let many = Demand { routers: 100_000.0, settle_seconds: 1_000.0, ..demand() };
    // Restart: 5 shards; 100,000 / 5 x 1.3 / 4 = 6,500.
    assert_eq!(value(&many, "listen queue"), 8_192.0);
}

#[test]
fn limits_of_a_process_and_of_a_socket() {
    assert_eq!(value(&demand(), "descriptors"), 11_512.0);
    assert_eq!(value(&demand(), "option memory"), 137_024.0);
}

/// What an operator copies says the same as the need.
#[test]
fn commands_set_what_is_needed() {
    let plan = Plan::new(&demand(), &COSTS, None);
    let memory = format!("--memory {}MiB", value(&demand(), "collector memory"));
    for (name, set) in [
        ("cores", "--shards 5"),
        ("collector memory", memory.as_str()),
        ("descriptors", "LimitNOFILE=11512"),
        ("listen queue", "sysctl -w net.core.somaxconn=1024 net.ipv4.tcp_max_syn_backlog=1024"),
        ("receive buffer", "sysctl -w net.ipv4.tcp_rmem='4096 131072 "),
        // 152,588 pages under pressure, three quarters of them before, half as many again behind.
        ("tcp memory", "sysctl -w net.ipv4.tcp_mem='114441 152588 228882'"),
    ] {
        let found = plan.needs.iter().find(|need| need.name == name).map(|need| &need.set);
        assert!(found.is_some_and(|found| found.starts_with(set)), "{name}: {found:?}, not {set}");
    }
}

#[test]
fn more_of_anything_never_needs_less() {
    let more: [fn(&mut Demand); 7] = [
        |demand| demand.routers *= 3.0,
        |demand| demand.mappings *= 3.0,
        |demand| demand.churn *= 30.0,
        |demand| demand.burst_share *= 2.0,
        |demand| demand.burst_seconds /= 3.0,
        |demand| demand.retain_hours *= 3.0,
        |demand| demand.md5_keys *= 3.0,
    ];
    let before = Plan::new(&demand(), &COSTS, None);
    for grow in more {
        let mut demand = demand();
        grow(&mut demand);
        let after = Plan::new(&demand, &COSTS, None);
        for (less, more) in before.needs.iter().zip(&after.needs) {
            // More shards share the listen queue.
            assert!(more.value >= less.value || more.name == "listen queue", "{less:?} {more:?}");
        }
        assert_ne!(before.needs, after.needs);
    }
}

#[test]
fn the_first_limit_is_what_this_host_meets_worst() {
    let limits = Limits {
        cores: 8,
        memory_bytes: Some(64 << 30),
        descriptors: Some(20_000),
        somaxconn: Some(8_192),
        syn_backlog: Some(8_192),
        receive_buffer_bytes: Some(6 << 20),
        tcp_pressure_bytes: Some(4 << 30),
        option_bytes: Some(131_072),
        line_mbits: Some(10_000),
        disk_free_bytes: Some(1 << 40),
        syncs_per_second: Some(1_000),
    };
    let plan = Plan::new(&demand(), &COSTS, Some(&limits));
    assert_eq!((plan.first_limit, plan.suffices), (Some("option memory"), Some(false)));
    let text = plan.to_string();
    assert!(
        text.contains("NOT ENOUGH") && text.contains("first limit is: option memory"),
        "{text}"
    );
    let plan = Plan::new(&Demand { md5_keys: 0.0, ..demand() }, &COSTS, Some(&limits));
    assert_eq!((plan.first_limit, plan.suffices), (Some("cores"), Some(true)));
    assert_eq!(Plan::new(&demand(), &COSTS, None).suffices, None);
    // A line, a disk or its syncs may be it as well.
    let few = Demand { md5_keys: 0.0, ..demand() };
    for (name, limits) in [
        ("network line", Limits { line_mbits: Some(100), ..limits }),
        ("disk", Limits { disk_free_bytes: Some(1 << 30), ..limits }),
        ("disk syncs", Limits { syncs_per_second: Some(100), ..limits }),
    ] {
        let plan = Plan::new(&few, &COSTS, Some(&limits));
        assert_eq!((plan.first_limit, plan.suffices), (Some(name), Some(false)));
    }
    // What the host does not say may be it, too: only "no" can be said without it.
    let silent = Limits { tcp_pressure_bytes: None, option_bytes: None, ..limits };
    let plan = Plan::new(&few, &COSTS, Some(&silent));
    assert_eq!((plan.first_limit, plan.suffices), (Some("cores"), None));
    assert_eq!(plan.unknown, ["tcp memory"]);
    let text = plan.to_string();
    assert!(text.contains("this host: unknown") && text.contains("cannot be told"), "{text}");
    let plan = Plan::new(&few, &COSTS, Some(&Limits { cores: 2, ..silent }));
    assert_eq!((plan.first_limit, plan.suffices), (Some("cores"), Some(false)));
}

#[test]
fn every_need_says_formula_numbers_and_source() {
    let plan = Plan::new(&demand(), &COSTS, None);
    let text = plan.to_string();
    for need in &plan.needs {
        for part in [need.formula, &need.numbers, need.source] {
            assert!(!part.is_empty() && text.contains(part), "{need:?}");
        }
    }
}

#[test]
fn numbers_are_written_as_people_write_them() {
    for (value, written) in [
        (26.962962962962962, "26.96"),
        (2_000.0, "2000"),
        (0.1, "0.1"),
        (0.0123456, "0.0123"),
        (0.0, "0"),
        (99.999, "100"),
        (1e9, "1000000000"),
    ] {
        assert_eq!(short(value), written);
    }
    let demand = Demand { mappings: 26.962962962962962, burst_share: 1.0 / 3.0, ..demand() };
    let text = Plan::new(&demand, &COSTS, None).to_string();
    assert!(text.contains("x 26.96 mappings") && text.contains("changes 33.33 % within"), "{text}");
    assert!(!text.contains("26.962") && !text.contains("0.33333"), "{text}");
}
