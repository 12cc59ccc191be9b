//! The program as a user meets it: exit codes, reports, words about wrong words.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use engine::collector::Collector;
use engine::settings::Settings;

fn stormgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stormgen")).args(arguments).output().unwrap()
}

fn collector(data: &Path) -> (Collector, String) {
    let data = data.to_owned();
    let listen = "127.0.0.1:0".parse().unwrap();
    let settings = Settings { data, listen, http: None, shards: 1, ..Settings::default() };
    let collector = Collector::start(settings).unwrap();
    let target = collector.listen_address().to_string();
    (collector, target)
}

#[test]
fn a_small_demonstration_ends_with_an_exact_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().to_str().unwrap();
    let small = ["demo", "--routers", "40", "--pe", "8", "--rate", "0", "--report", report];
    let output = stormgen(&small);
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    for part in ["exact, nothing lost", "<svg", "The burst", "Balance of the shards", "Memory"] {
        assert!(page.contains(part), "{part}");
    }
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in
        ["verdict: exact", "sessions per shard", "intended to durable", "honesty", "delivered at"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_run_elsewhere_reports_json_and_judges_the_folder_it_is_given() {
    let data = tempfile::tempdir().unwrap();
    let (collector, target) = collector(data.path());
    let size = ["--routers", "40", "--pe", "8", "--rate", "0", "--format", "json"];
    let folder = data.path().to_str().unwrap();
    let fixed = ["run", "--target", &target, "--data", folder];
    let output = stormgen(&[&fixed[..], &size].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["network"]["routers"], 40);
    assert_eq!(report["storm"]["speakers"].as_u64().map(|count| count > 0), Some(true));
    for act in [&report["cold_start"], &report["storm"]] {
        assert!(act["service_ms"]["p99"].as_f64() <= act["durable_ms"]["p99"].as_f64(), "{act}");
        assert!(act["late_ms"]["p999"].as_f64() > Some(0.0), "{act}");
        // Watched, whatever it found.
        assert!(act["honesty"]["foreign_percent"].is_f64(), "{act}");
        assert!(act["honesty"]["labels"].is_array(), "{act}");
    }
    assert_eq!(report["verdict"]["told"], serde_json::json!([]));
    let checks = report["verdict"]["checks"].as_array().unwrap();
    let asked = |word: &str| checks.iter().any(|it| it["what"].as_str().unwrap().contains(word));
    assert!(checks.len() == 10 && asked("ledger") && asked("verify"), "{checks:?}");
    assert_eq!(report["notes"], serde_json::json!([]));
    // Another network in the same folder: its answers are not all there, and that is said.
    let other = [&fixed[..], &size, &["--seed", "2", "--scenario", "cold-start"]].concat();
    let again = stormgen(&other);
    let report: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again.status.code(), Some(1), "{report}");
    assert_ne!(report["verdict"]["told"], serde_json::json!([]));
    collector.stop().unwrap();
}

/// `run` breaks the sessions, and says that the collector has not been restarted.
#[test]
fn a_restart_of_a_collector_that_runs_elsewhere_is_said_to_be_none() {
    let data = tempfile::tempdir().unwrap();
    let (collector, target) = collector(data.path());
    let folder = data.path().to_str().unwrap();
    let run = ["run", "--target", &target, "--data", folder, "--routers", "30", "--pe", "6"];
    let more = ["--rate", "0", "--scenario", "collector-restart"];
    let output = stormgen(&[&run[..], &more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("note: collector restart: every session was broken 1 times"), "{text}");
    assert!(text.contains("ledger, router by router, to the row: 30 answers"), "{text}");
    collector.stop().unwrap();
}

#[test]
fn wrong_words_are_2_and_a_collector_that_is_not_there_is_3() {
    let wrong: [(&[&str], &str); 8] = [
        (&["demo", "--seed", "-1"], "expected a whole number of 0 to 18446744073709551615, found"),
        (&["demo", "--routers", "2k"], "expected a whole number of 0 to"),
        (&["plan", "--churn", "-1"], "--churn: expected 0 or more, found -1"),
        (&["run", "--target", "127.0.0.1:1", "--threads", "0"], "expected 1 or more, found 0"),
        (&["run"], "--target"),
        (
            &["run", "--target", "127.0.0.1:1", "--scenario", "flood"],
            "expected cold-start, link-down, node-down",
        ),
        (&["run", "--target", "127.0.0.1:1", "--routers", "5"], "routers: expected 24 to"),
        (&["demo", "--io", "fast"], "auto, uring or epoll"),
    ];
    for (arguments, word) in wrong {
        let output = stormgen(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.json");
    std::fs::write(&map, "{}").unwrap();
    let output = stormgen(&["demo", "--topology", map.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("map.json, line 1: found JSON; GML and GraphML are read"), "{text}");
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = stormgen(&["replay", "no-such-file", "--target", &free]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

/// Answers every connection with these bytes; without any, it closes them. Returns its address.
fn listener(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(answer);
                // Bytes that nobody has read would take the answer away with the connection.
                if !answer.is_empty() {
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            });
        }
    });
    address
}

/// Minutes before its time is up.
#[test]
fn a_run_ends_as_soon_as_it_is_clear_that_nobody_takes_anything() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let cases = [
        (&free, "expected a collector that listens there, found none (Connection refused"),
        (&listener(b"SSH-2.0-x\r\n"), "found something else: another program"),
        (&listener(b""), "connections closed without one: if a collector listens there"),
    ];
    for (target, word) in cases {
        let began = Instant::now();
        let run = ["run", "--target", target, "--routers", "24", "--pe", "4", "--rate", "0"];
        let output = stormgen(&run);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(&format!("collector {target}: ")) && text.contains(word), "{text}");
        assert!(began.elapsed() < Duration::from_secs(60), "{target}: {text}");
    }
}

/// What cannot be written, or would be judged wrongly, is said before any load.
#[test]
fn folders_that_will_not_do_are_refused_before_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let [file, used] = ["file", "used"].map(|name| folder.path().join(name));
    std::fs::write(&file, "x").unwrap();
    std::fs::create_dir_all(used.join("log")).unwrap();
    let refused = |flag: &str, path: &std::path::Path, code: i32, word: &str| {
        let output = stormgen(&["demo", "--routers", "24", flag, path.to_str().unwrap()]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{text}");
        assert!(text.starts_with("stormgen: ") && text.contains(flag), "{text}");
        assert!(text.contains(path.to_str().unwrap()) && text.contains(word), "{text}");
    };
    refused("--report", &file, 3, "expected a folder");
    refused("--data", &used, 2, "expected a folder without a log");
}

#[test]
fn several_processes_perform_as_one_does() {
    let size = ["--routers", "40", "--pe", "8", "--rate", "0", "--format", "json"];
    let performed = |more: &[&str]| {
        let output = stormgen(&[&["demo"][..], &size, more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let scenario = ["--scenario", "node-down", "--faults", "reset"];
    let one = performed(&scenario);
    let three = performed(&[&scenario[..], &["--processes", "3"]].concat());
    for name in ["cold_start", "storm"] {
        for figure in ["speakers", "mappings", "frames"] {
            assert_eq!(three[name][figure], one[name][figure], "{name} {figure}");
        }
        assert!(three[name]["durable_ms"]["p99"].as_f64() > Some(0.0), "{three}");
        assert!(three[name]["honesty"]["late_ms_p999"].as_f64() > Some(0.0), "{three}");
    }
    assert_eq!(three["verdict"]["told"], serde_json::json!([]));
    assert_eq!(three["collector"]["change_rows"], one["collector"]["change_rows"]);
    let checks = |report: &serde_json::Value| report["verdict"]["checks"].as_array().map(Vec::len);
    assert_eq!(checks(&three), checks(&one));
}

#[test]
fn a_process_that_fails_is_named_with_what_it_said() {
    // Connections are opened, and nobody ever reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let asked = ["run", "--target", &target, "--routers", "24", "--timeout", "1"];
    let output = stormgen(&[&asked[..], &["--processes", "2"]].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("the process `senders`") && text.contains("0 of"), "{text}");
    let output = stormgen(&[&asked[..], &["--processes", "25"]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// In a namespace of its own, where a route makes a whole network of IPv6 addresses of this host.
#[test]
fn every_router_has_a_source_of_ipv6_where_there_is_a_route() {
    let inside = |script: &str| {
        let script = format!("ip link set lo up; {script}");
        let program = ["--map-root-user", "--net", "sh", "-c", &script, "sh"];
        let mut command = Command::new("unshare");
        command.args(program).arg(env!("CARGO_BIN_EXE_stormgen")).output()
    };
    let route = "ip -6 route add local fd53:7264::/64 dev lo";
    if !inside(route).is_ok_and(|output| output.status.success()) {
        eprintln!("NOT RUN: no network namespace with IPv6 (unshare, iproute2)");
        return;
    }
    let demo = "$1 demo --ipv6 --routers 40 --pe 8 --rate 0 --processes 2";
    let output = inside(&format!("{route}; {demo}")).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("verdict: exact") && text.contains("fd53:7264:1::"), "{text}");
    let output = inside(demo).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("ip -6 route add local fd53:7264::/64 dev lo"), "{text}");
}

/// A document kept in a file is a recording too: bare input, without an index of times.
#[test]
fn a_recording_is_sent_again_and_found_in_the_log() {
    use loadgen::world::World;

    let shape = loadgen::topology::Shape { routers: 24, edges: 4, seed: 1 };
    let now = loadgen::clock::Clock::start().now();
    let world = World::generate(&shape.into(), now).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let table = world.network.table(&world.first, 0, now);
    let mut document = String::new();
    engine::wire::xml::write::write_document(
        Some(world.network.topology.routers[0].id),
        engine::wire::SnapshotMark::Whole,
        &table,
        &mut document,
    );
    let file = folder.path().join("r1.xml");
    std::fs::write(&file, &document).unwrap();
    let data = folder.path().join("data");
    let (collector, target) = collector(&data);
    let output = stormgen(&["replay", file.to_str().unwrap(), "--target", &target, "--fast"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!("{} bytes sent over 1 connections in ", document.len());
    assert!(said.starts_with(&expected), "{said}");
    collector.stop().unwrap();
    let report = engine::query::verify(&data).unwrap();
    assert_eq!((report.change_rows, report.faults_count), (table.len() as u64, 0));
}

#[test]
fn a_plan_says_yes_or_no_of_this_host_and_refuses_what_makes_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let costs = folder.path().join("costs.toml");
    std::fs::write(&costs, "entry_bytes = 100.0\n").unwrap();
    let given = ["plan", "--costs", costs.to_str().unwrap()];
    let plan = |more: &[&str]| stormgen(&[&given[..], more].concat());
    let small = plan(&["--routers", "10", "--mappings", "10", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&small.stdout).unwrap();
    assert_eq!(report["costs"]["entry_bytes"], 100.0);
    assert_eq!(report["needs"][0]["name"], "cores");
    let large = plan(&["--routers", "1e9", "--mappings", "1e6"]);
    let text = String::from_utf8(large.stdout).unwrap();
    assert_eq!(large.status.code(), Some(1), "{text}");
    assert!(text.contains("NOT ENOUGH") && text.contains("does NOT suffice"), "{text}");
    assert_eq!(plan(&["--routers", "1e9", "--elsewhere"]).status.code(), Some(0));
    // The demand of a scenario is counted on a network of that size.
    let sized = ["--routers", "100", "--mappings", "40", "--format", "json", "--elsewhere"];
    let counted = plan(&[&sized[..], &["--scenario", "node-down"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&counted.stdout).unwrap();
    assert!(report["burst"].as_str().unwrap().starts_with("router "), "{report}");
    let share = report["demand"]["burst_share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0 && share != 0.3, "{report}");
    assert_eq!(report["demand"]["routers"], 100.0);
    // What was set right in a map is said, and numbers are those of people.
    let map = folder.path().join("map.gml");
    let text = "graph [ node [ id 1 ] node [ id 2 ] node [ id 3 ] node [ id 4 isGroup 1 ]
                edge [ source 1 target 2 ] edge [ source 2 target 1 ] ]";
    std::fs::write(&map, text).unwrap();
    let counted = plan(&["--topology", map.to_str().unwrap(), "--pe-per-pop", "3", "--elsewhere"]);
    let told = String::from_utf8(counted.stderr).unwrap();
    for word in ["1 group of places", "1 line runs beside another", "in 2 unconnected parts"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let text = String::from_utf8(counted.stdout).unwrap();
    let decimals = |word: &str| word.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let longest = text.split_ascii_whitespace().filter(|word| word.parse::<f64>().is_ok());
    assert!(longest.clone().count() > 20 && longest.map(decimals).max() <= Some(4), "{text}");
    let both = plan(&["--scenario", "node-down", "--burst-share", "0.2"]);
    assert_eq!(both.status.code(), Some(2));
    std::fs::write(&costs, "entry_bite = 1.0\n").unwrap();
    for (more, word) in [
        (&["--routers", "0"][..], "a number above 0"),
        (&["--burst-share", "1.5"], "at most 1"),
        (&[], "entry_bite"),
    ] {
        let output = plan(more);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}: {text}");
        assert!(text.contains(word), "{more:?}: {text}");
    }
}

/// The whole of the calibration in small, in processes of its own.
#[test]
fn costs_are_measured_on_a_collector_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (data, costs) = (folder.path().to_str().unwrap(), folder.path().join("costs.toml"));
    let measured = ["plan", "--scale", "0.02", "--data", data, "--quiet", "--routers", "10"];
    let output = stormgen(&[&measured[..], &["--write-costs", costs.to_str().unwrap()]].concat());
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("costs: measured here"), "{text}");
    let costs: tuning::plan::Costs =
        toml::from_str(&std::fs::read_to_string(&costs).unwrap()).unwrap();
    assert!(costs.change_ns > 0.0 && costs.confirm_ns > 0.0, "{costs:?}");
    assert!((10.0..100.0).contains(&costs.wire_bytes), "{costs:?}");
    assert!((40.0..2_000.0).contains(&costs.entry_bytes), "{costs:?}");
    assert_eq!(stormgen(&["crew", "nobody"]).status.code(), Some(2));
}

/// Every kind of run in small, with an answer that follows from what was asked for: neither ends
/// with a limit, and each says why.
#[test]
fn a_capacity_that_is_not_found_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let small = "--routers 20 --entries 20 --frame-mappings 10 --hold 0.2 --no-scale --quiet \
                 --late-max 60000 --disturbed-max 1000 --blocked-max 60000 --format json --data";
    let small: Vec<&str> = small.split_ascii_whitespace().chain([data]).collect();
    let capacity = |more: &[&str]| {
        let output = stormgen(&[&["capacity"], more, &small].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    // No run is fast enough: down to the smallest load that makes sense.
    let report = capacity(&["burst", "rate", "--p99-max", "0"]);
    for (found, what) in report["found"].as_array().unwrap().iter().zip(["burst", "rate"]) {
        assert_eq!((&found["what"], &found["reason"]), (&what.into(), &"nothing-clean".into()));
        let trials = found["trials"].as_array().unwrap();
        assert!(trials.len() >= 4, "{trials:?}");
        for trial in trials {
            assert_eq!(trial["finding"]["symptoms"], serde_json::json!(["too-slow"]), "{trial}");
            assert_eq!(trial["frames"][0], trial["frames"][1], "{trial}");
        }
    }
    // No more connections than these may be tried, and all of them are taken.
    let pages = folder.path().join("pages");
    let to = ["--report", pages.to_str().unwrap()];
    let most = ["connections", "--connections-max", "40", "--p99-max", "60000"];
    let report = capacity(&[&most[..], &to].concat());
    let page = std::fs::read_to_string(pages.join("report.html")).unwrap();
    assert!(page.contains("limit not found: generator-bound") && page.contains("<svg"), "{page}");
    let found = &report["found"][0];
    assert_eq!((&found["reason"], &found["clean_load"]), (&"generator-bound".into(), &40.0.into()));
    assert_eq!(report["first_limit"], serde_json::Value::Null);
}
