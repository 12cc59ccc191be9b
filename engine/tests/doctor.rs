//! The doctor on this host, and on the same host with one thing made bad.
//!
//! In:   a network namespace or a shell of its own, with a limit that is too low in it.
//! Out:  the finding appears, the command that it prints is run, the finding is gone.
//! Law:  nothing outside that namespace or shell is changed.
//! Not:  every finding on hosts of files (`tuning::doctor`).

use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs a script with the program as `$0`; its standard output.
fn shell(around: &[&str], script: &str) -> String {
    let mut words = around.iter().copied().chain(["sh", "-euc", script]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(env!("CARGO_BIN_EXE_stormdrain")).stdin(Stdio::null());
    let output = command.output().unwrap();
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}\n{notes}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether this process may do so, which is tried; said aloud where not.
fn may(around: &[&str], what: &str) -> bool {
    let tried = Command::new(around[0])
        .args(&around[1..])
        .args(["sh", "-c", "ulimit -n 64"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        println!("NOT RUN: {what} cannot be made here (root and util-linux are needed)");
    }
    may
}

fn finding(output: &str, name: &str, found: &str) -> Value {
    let findings: Value = serde_json::from_str(output).unwrap();
    let fits = |finding: &&Value| {
        finding["name"] == name && finding["found"].as_str().unwrap().contains(found)
    };
    let findings = findings.as_array().unwrap();
    findings.iter().find(fits).unwrap_or_else(|| panic!("{name}: {findings:#?}")).clone()
}

/// Where a command that mends is run: where the finding was made, or in a new shell, because only
/// some roots may raise a limit that was lowered.
#[derive(PartialEq)]
enum MendIn {
    Same,
    New,
}

/// Provokes a finding by `make_bad`, runs the command that it prints, and looks again. What the
/// doctor is asked stands in `arguments`.
fn provoke_and_mend(
    (around, mend_in): (&[&str], MendIn),
    make_bad: &str,
    arguments: &str,
    name: &str,
    found: &str,
) {
    let data = tempfile::tempdir().unwrap();
    let doctor = format!(
        "\"$0\" doctor --data {} --format json {arguments} || [ $? = 1 ]",
        data.path().display()
    );
    let bad = shell(around, &format!("{make_bad}\n{doctor}"));
    let bad = finding(&bad, name, found);
    assert_eq!(bad["judgement"], "bites", "{bad:#}");
    let command = bad["command"].as_str().unwrap();
    let before = if mend_in == MendIn::Same { make_bad } else { "" };
    let mended = shell(around, &format!("{before}\n{command} > /dev/null\n{doctor}"));
    let mended = finding(&mended, name, "");
    assert_eq!(mended["judgement"], "good", "after `{command}`: {mended:#}");
}

#[test]
fn what_a_namespace_makes_bad_is_found_and_mended() {
    let around = ["unshare", "--net"];
    if !may(&around, "a network namespace") {
        return;
    }
    let set = |name: &str, value: &str| format!("sysctl -q -w {name}='{value}'");
    for (sysctl, value, name) in [
        ("net.core.somaxconn", "64", "listen-backlog"),
        ("net.ipv4.tcp_max_syn_backlog", "64", "half-open-backlog"),
        ("net.ipv4.tcp_rmem", "4096 8192 16384", "receive-buffer"),
        ("net.core.optmem_max", "4096", "authentication-keys"),
    ] {
        let arguments = "--routers 8000 --keys 500 --shards 2";
        let at = (&around[..], MendIn::Same);
        provoke_and_mend(at, &set(sysctl, value), arguments, name, sysctl);
    }
}

#[test]
fn what_a_shell_limits_is_found_and_mended() {
    // Locked memory is counted without CAP_IPC_LOCK only.
    let around = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
    if !may(&around, "a process that may not lock memory") {
        return;
    }
    let epoll = "--routers 5000 --shards 2 --io epoll";
    provoke_and_mend((&around, MendIn::New), "ulimit -n 300", epoll, "descriptors", "is 300");
    let demanded = "--routers 100 --shards 2 --io uring";
    provoke_and_mend((&around, MendIn::New), "ulimit -l 64", demanded, "locked-memory", "64 KiB");
}

#[test]
fn a_script_is_printed_and_nothing_is_changed() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("not/yet/there");
    let script = format!(
        "\"$0\" doctor --data {} --routers 9000000 --fix-script || [ $? = 1 ]",
        folder.display()
    );
    let printed = shell(&["env"], &script);
    assert!(printed.starts_with("#!/bin/sh\n") && printed.contains("sysctl -w net."), "{printed}");
    // A shell reads it to its end, without running it.
    let checked = Command::new("sh").args(["-n", "-c", &printed]).status().unwrap();
    assert!(checked.success());
    assert!(!folder.exists() && std::fs::read_dir(data.path()).unwrap().next().is_none());
}
