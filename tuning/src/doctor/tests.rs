//! The doctor, on hosts that were captured and on hosts that are made up.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

const FLEET: Fleet = Fleet { routers: 10_000, mappings: 2_000, changes: 200, keys: 0, shards: 4 };

/// A host of files, gone with its value.
struct MadeUp(PathBuf);

impl MadeUp {
    fn new(name: &str, files: &[(&str, &str)]) -> MadeUp {
        let folder = format!("stormdrain-doctor-{}-{name}", std::process::id());
        let root = std::env::temp_dir().join(folder);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        MadeUp(root)
    }

    fn examine(&self, fleet: Fleet, observed: &Observed) -> Vec<Finding> {
        examine(&Tree::at(&self.0), fleet, observed)
    }
}

impl Drop for MadeUp {
    fn drop(&mut self) {
        // What stays behind is a few small files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn observed() -> Observed {
    Observed {
        ring: Ring::Works { direct_descriptors: true },
        mount: Some(Mount {
            point: "/var".into(),
            file_system: "ext4".to_owned(),
            source: "/dev/vda".to_owned(),
        }),
        flush: Some(Flush { count: 200, median_us: 900, max_us: 12_000 }),
        memory: Available { bytes: Some(32 << 30), unread: Vec::new() },
        memory_bytes: Some(8 << 30),
        table_bytes_max: Some(4 << 30),
        page_bytes: 4_096,
    }
}

/// The one finding of this name about what begins so.
fn named<'a>(findings: &'a [Finding], name: &str, found: &str) -> &'a Finding {
    let fits = |finding: &&Finding| finding.name == name && finding.found.contains(found);
    let all: Vec<&Finding> = findings.iter().filter(fits).collect();
    assert_eq!(all.len(), 1, "{name} {found}: {findings:#?}");
    all[0]
}

fn captured(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name)
}

/// Compares with the text that is kept; `UPDATE_PAGES=1` writes it anew.
fn expect_kept(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::write(path, text).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap();
    assert_eq!(text, kept, "{}: UPDATE_PAGES=1 writes it anew", path.display());
}

#[test]
fn a_captured_host_is_judged_as_it_was() {
    for (routers, name) in [(10_000, "10000"), (200_000, "200000")] {
        let fleet = Fleet { routers, shards: 2, keys: routers / 10, ..FLEET };
        let tree = Tree::at(&captured("virtual-two-cores"));
        let findings = examine(&tree, fleet, &observed());
        let text = format!("{}\n{}", report(&fleet, &findings), script(&findings));
        expect_kept(&captured(&format!("virtual-two-cores-{name}.txt")), &text);
    }
}

#[test]
fn what_bites_first_stands_first() {
    let host = MadeUp::new(
        "first",
        &[
            ("proc/sys/net/core/somaxconn", "128\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65535\n"),
            ("proc/sys/net/ipv4/tcp_mem", "100 20000 300\n"),
            ("proc/self/limits", "Max open files            1024                 4096  files\n"),
        ],
    );
    let observed = Observed { ring: Ring::NotAsked, ..observed() };
    let findings = host.examine(FLEET, &observed);
    let biting: Vec<(&str, Option<u64>)> = findings
        .iter()
        .filter(|finding| finding.judgement == Judgement::Bites)
        .map(|finding| (finding.name, finding.routers_max))
        .collect();
    let expected = [
        ("listen-backlog", Some(128 * 4 * 10 * 4 / 13)),
        ("tcp-memory", Some(20_000 * 4_096 / (200 * 30 * 5))),
        ("descriptors", Some(4_096 - 256)),
    ];
    assert_eq!(biting, expected);
    let text = report(&FLEET, &findings);
    assert!(
        text.contains("3 findings bite; listen-backlog first, beyond 1,575 routers. "),
        "{text}"
    );
}

#[test]
fn what_is_missing_is_unknown_and_never_good() {
    let host = MadeUp::new("empty", &[]);
    fs::create_dir_all(&host.0).unwrap();
    let findings = host.examine(FLEET, &Observed { page_bytes: 4_096, ..Observed::default() });
    for name in ["listen-backlog", "receive-buffer", "tcp-memory", "descriptors"] {
        assert_eq!(named(&findings, name, "").judgement, Judgement::Unknown, "{name}");
    }
    assert!(findings.iter().all(|finding| finding.judgement != Judgement::Bites));
    // What says nothing here says it: that interfaces lose nothing, that nothing is tracked.
    for name in ["connection-tracking", "memory", "file-system"] {
        let unread = Available { bytes: None, unread: vec!["/proc/meminfo".to_owned()] };
        let observed =
            Observed { memory: unread, memory_bytes: Some(1 << 30), ..Observed::default() };
        let findings = host.examine(FLEET, &observed);
        assert_eq!(named(&findings, name, "").judgement, Judgement::Unknown, "{name}");
        assert_eq!(fits(&findings), None);
    }
    let unseen = ["dropped-by-interface", "dropped-by-processor", "receiving", "time-keeper"];
    for name in unseen.into_iter().chain(["clock-source", "disk-flush", "governor"]) {
        assert_eq!(named(&findings, name, "").judgement, Judgement::Unseen, "{name}");
    }
    let text = report(&FLEET, &findings);
    assert!(text.contains("Whether this host carries the fleet cannot be told: "), "{text}");
    assert!(!text.contains("This host carries"), "{text}");
}

#[test]
fn what_is_unknown_keeps_a_host_from_being_said_to_carry_the_fleet() {
    let good = || Finding::good("good", "").carries(7_000);
    let unknown = || Finding::unknown("tcp-memory", "net.ipv4.tcp_mem");
    let unseen = || Finding::unseen("clock-source", "x");
    let bites = || Finding::not_good(Judgement::Bites, "listen-backlog", "64").carries(50);
    assert_eq!(fits(&[good(), unseen()]), Some(true));
    assert_eq!(fits(&[unknown(), good()]), None);
    assert_eq!(fits(&[bites(), unknown(), good()]), Some(false));
    let last = |findings: &[Finding]| report(&FLEET, findings).lines().last().unwrap().to_owned();
    assert_eq!(
        last(&[unseen(), good()]),
        "This host carries the fleet. The first limit beyond it: good, at 7,000 routers."
    );
    assert_eq!(
        last(&[unknown(), unknown(), good()]),
        "Whether this host carries the fleet cannot be told: tcp-memory cannot be read here. Ask \
         outside of the container or unit that hides /proc and /sys. The first limit that can be \
         read: good, at 7,000 routers."
    );
    assert_eq!(
        last(&[bites(), unknown()]),
        "One finding bites: listen-backlog, beyond 50 routers. Whether others do cannot be told: \
         tcp-memory cannot be read here."
    );
}

#[test]
fn a_budget_is_held_against_what_the_process_may_use() {
    let host = MadeUp::new("memory", &[]);
    let judged = |bytes, unread: &[&str]| {
        let unread = unread.iter().map(|path| (*path).to_owned()).collect();
        let observed = Observed { memory: Available { bytes, unread }, ..observed() };
        let findings = host.examine(FLEET, &observed);
        named(&findings, "memory", "8,192 MiB").judgement
    };
    assert_eq!(judged(Some(8 << 30), &[]), Judgement::Good);
    assert_eq!(judged(Some(4 << 30), &[]), Judgement::Bites);
    assert_eq!(judged(Some(4 << 30), &["/proc/self/cgroup"]), Judgement::Bites);
    assert_eq!(judged(Some(16 << 30), &["/proc/self/cgroup"]), Judgement::Unknown);
    assert_eq!(judged(None, &["/proc/meminfo"]), Judgement::Unknown);
}

/// What a command of a finding would make of the host, and that the finding is gone then.
#[test]
fn a_sysctl_that_is_set_as_told_mends_its_finding() {
    let small = [
        ("net.core.somaxconn", "64"),
        ("net.ipv4.tcp_max_syn_backlog", "64"),
        ("net.ipv4.tcp_rmem", "4096 4096 4096"),
        ("net.ipv4.tcp_mem", "10 20 30"),
        ("net.core.optmem_max", "2048"),
        ("net.netfilter.nf_conntrack_max", "100"),
        ("net.ipv4.tcp_migrate_req", "0"),
        ("fs.nr_open", "1024"),
        ("fs.file-max", "1024"),
    ];
    let path = |name: &str| format!("proc/sys/{}", name.replace('.', "/"));
    let files: Vec<(String, &str)> =
        small.iter().map(|(name, value)| (path(name), *value)).collect();
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let host = MadeUp::new("sysctl", &files);
    let fleet = Fleet { keys: 1_000, ..FLEET };
    let open = |findings: &[Finding]| -> Vec<Finding> {
        let by_sysctl = |finding: &&Finding| matches!(finding.remedy, Some(Remedy::Sysctl(..)));
        findings.iter().filter(by_sysctl).cloned().collect()
    };
    let before = open(&host.examine(fleet, &observed()));
    assert_eq!(before.len(), small.len(), "{before:#?}");
    for finding in &before {
        let Some(Remedy::Sysctl(name, value)) = &finding.remedy else { unreachable!() };
        fs::write(host.0.join(path(name)), value).unwrap();
    }
    assert_eq!(open(&host.examine(fleet, &observed())), []);
}

#[test]
fn limits_of_the_process_count_as_the_kernel_counts_them() {
    let limits = "\
Limit                     Soft Limit           Hard Limit           Units     
Max open files            1024                 20000                files     
Max locked memory         65536                65536                bytes     
";
    let files = [("proc/self/limits", limits), ("proc/self/status", "CapEff:\t0000000000000000\n")];
    let host = MadeUp::new("limits", &files);
    let fleet = Fleet { routers: 34_000, ..FLEET };
    let findings = host.examine(fleet, &observed());
    // Four tables of direct descriptors hold what the limit does not.
    assert_eq!(named(&findings, "descriptors", "20,000").judgement, Judgement::Note);
    let locked = named(&findings, "locked-memory", "64 KiB");
    assert_eq!(locked.judgement, Judgement::Note, "epoll takes over");
    let command = locked.remedy.as_ref().and_then(Remedy::command);
    assert_eq!(command.as_deref(), Some("ulimit -l 6144"));
    let refused = Observed { ring: Ring::Replaced("refused".to_owned()), ..observed() };
    let findings = host.examine(fleet, &refused);
    let descriptors = named(&findings, "descriptors", "20,000");
    assert_eq!((descriptors.judgement, descriptors.routers_max), (Judgement::Bites, Some(19_744)));
    assert_eq!(named(&findings, "io-uring", "refused").judgement, Judgement::Note);
    let fails = Observed { ring: Ring::Fails("no memory".to_owned()), ..observed() };
    let findings = host.examine(fleet, &fails);
    assert_eq!(named(&findings, "io-uring", "no memory").judgement, Judgement::Bites);
    let locked = named(&findings, "locked-memory", "64 KiB");
    assert_eq!(locked.judgement, Judgement::Bites, "a ring is demanded");
    fs::write(host.0.join("proc/self/status"), "CapEff:\t000001ffffffffff\n").unwrap();
    let findings = host.examine(fleet, &observed());
    assert_eq!(named(&findings, "locked-memory", "CAP_IPC_LOCK").judgement, Judgement::Good);
}

#[test]
fn one_receive_queue_for_many_processors_is_noted_until_packets_are_spread() {
    let host = MadeUp::new(
        "receiving",
        &[
            ("sys/devices/system/cpu/online", "0-3,8-11\n"),
            ("sys/class/net/eth1/device/uevent", ""),
            ("sys/class/net/eth1/queues/rx-0/rps_cpus", "00\n"),
            ("sys/class/net/eth1/queues/tx-0/xps_cpus", "00\n"),
            ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth1/statistics/rx_missed_errors", "17\n"),
            ("proc/net/softnet_stat", "00000a 00000001 0\n00000b 00000010 0\n"),
        ],
    );
    let findings = host.examine(FLEET, &observed());
    let found = named(&findings, "receiving", "eth1 has 1 receive queue");
    let command = found.remedy.as_ref().and_then(Remedy::command);
    let path = "/sys/class/net/eth1/queues/rx-0/rps_cpus";
    assert_eq!(command, Some(format!("echo ff > {path}")));
    assert_eq!(named(&findings, "dropped-by-interface", "17").judgement, Judgement::Note);
    assert_eq!(named(&findings, "dropped-by-processor", "17 packets").judgement, Judgement::Note);
    fs::write(host.0.join(&path[1..]), "ff\n").unwrap();
    let findings = host.examine(FLEET, &observed());
    assert_eq!(named(&findings, "receiving", "eth1").judgement, Judgement::Good);
}

#[test]
fn a_folder_in_memory_is_no_place_for_a_log() {
    let host = MadeUp::new("disk", &[]);
    let on = |file_system: &str| {
        let mount = Mount { file_system: file_system.to_owned(), ..observed().mount.unwrap() };
        let flush = Flush { count: 200, median_us: 30_000, max_us: 900_000 };
        Observed { mount: Some(mount), flush: Some(flush), ..observed() }
    };
    let judged = |file_system: &str| {
        let findings = host.examine(FLEET, &on(file_system));
        assert_eq!(named(&findings, "disk-flush", "median 30.00 ms").judgement, Judgement::Note);
        named(&findings, "file-system", file_system).judgement
    };
    assert_eq!(judged("tmpfs"), Judgement::Bites);
    assert_eq!(judged("nfs4"), Judgement::Bites);
    assert_eq!(judged("overlay"), Judgement::Note);
    assert_eq!(judged("xfs"), Judgement::Good);
}

#[test]
fn more_table_than_memory_bites_where_it_ends() {
    let host = MadeUp::new("tables", &[]);
    let small = Observed { table_bytes_max: Some(2_000 * 64 * 100), ..observed() };
    let findings = host.examine(FLEET, &small);
    let tables = named(&findings, "table-memory", "12 MiB");
    assert_eq!((tables.judgement, tables.routers_max), (Judgement::Bites, Some(100)));
}

#[test]
fn a_script_of_a_host_without_fault_does_nothing() {
    let text = script(&[Finding::good("listen-backlog", "fine")]);
    let is_comment = |line: &str| line.is_empty() || line.starts_with('#') || line == "set -eu";
    assert!(text.lines().all(is_comment), "{text}");
}

/// A file of `tuning/assets`.
fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name)
}

#[test]
fn the_installed_settings_are_enough_for_fifty_thousand_routers() {
    let text = fs::read_to_string(asset("sysctl.d/90-stormdrain.conf")).unwrap();
    let settings = text.lines().filter_map(|line| line.split_once(" = "));
    let files: Vec<(String, &str)> = settings
        .map(|(name, value)| (format!("proc/sys/{}", name.replace('.', "/")), value))
        .collect();
    assert!(files.len() > 5);
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, value)| (path.as_str(), *value)).collect();
    let host = MadeUp::new("installed", &files);
    let fleet = Fleet { routers: 50_000, changes: 2_000, keys: 7_000, ..FLEET };
    let open: Vec<Finding> = host
        .examine(fleet, &observed())
        .into_iter()
        .filter(|finding| matches!(finding.remedy, Some(Remedy::Sysctl(..))))
        .collect();
    assert_eq!(open, []);
}

#[test]
fn receiving_is_spread_over_the_processors_that_are_online() {
    let host = MadeUp::new(
        "spread",
        &[
            ("sys/devices/system/cpu/online", "0-2,33\n"),
            ("sys/class/net/eth1/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth1/queues/rx-1/rps_cpus", "0\n"),
            ("sys/class/net/eth1/device/msi_irqs/40", ""),
            ("sys/class/net/eth1/device/msi_irqs/41", ""),
            ("proc/irq/40/smp_affinity_list", "0-33\n"),
            ("proc/irq/41/smp_affinity_list", "0-33\n"),
        ],
    );
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.arg(asset("spread-receiving.sh")).args(arguments).env("ROOT", &host.0);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let queue = |number| host.0.join(format!("sys/class/net/eth1/queues/rx-{number}/rps_cpus"));
    let (code, printed) = run(&["eth1"]);
    assert_eq!((code, printed.lines().count()), (Some(0), 4), "{printed}");
    assert_eq!(fs::read_to_string(queue(0)).unwrap(), "0\n", "nothing is changed unasked");
    assert_eq!(run(&["eth1", "--apply"]), (Some(0), printed));
    for number in [0, 1] {
        assert_eq!(fs::read_to_string(queue(number)).unwrap(), "00000002,00000007\n");
    }
    let interrupt = |number: u32| host.0.join(format!("proc/irq/{number}/smp_affinity_list"));
    assert_eq!(fs::read_to_string(interrupt(40)).unwrap(), "0\n");
    assert_eq!(fs::read_to_string(interrupt(41)).unwrap(), "1\n");
    assert_eq!(run(&["eth9"]).0, Some(2));
}

#[test]
fn thousands_stand_apart() {
    assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
}
