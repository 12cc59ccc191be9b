//! The budget of memory, as the kernel counts what the process really takes.

use crate::process::{Process, Way, status_of};
use crate::sender::{Router, swap};

/// The budget.
const BUDGET_BYTES: u64 = 64 << 20;
/// Read while the routers would send more than that: much of it has to wait for its digestion.
const READ_BYTES: u64 = 48 << 20;
const ROUTERS: u8 = 8;
const FRAME_MAPPINGS: u32 = 900;

/// Plain frames of changing values, a good 12 MB of them.
fn speech(router: &mut Router) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut round = 0;
    while bytes.len() < 12 << 20 {
        let time = router.tick();
        let mappings: Vec<_> =
            (0..FRAME_MAPPINGS).map(|index| swap(100 + index, 1_000 + round, time)).collect();
        bytes.extend(router.plain_frame(&mappings));
        round += 1;
    }
    bytes
}

#[test]
fn a_flood_larger_than_the_budget_stays_within_it() {
    for way in Way::all().into_iter().filter(|way| *way != Way::Denied) {
        eprintln!("--- {way:?}");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let settings = format!("memory_bytes = {BUDGET_BYTES}\nshards = 2\n");
        let mut process = Process::start(way, &data, &settings);
        let mut routers: Vec<Router> = (1..=ROUTERS).map(Router::new).collect();
        let sessions: Vec<_> = routers
            .iter_mut()
            .map(|router| (router.open(process.listen, false, true).unwrap(), speech(router)))
            .collect();
        std::thread::scope(|scope| {
            for (mut session, speech) in sessions {
                // Each waits at its TCP window, and is cut off in the end.
                scope.spawn(move || session.send(&speech).is_ok());
            }
            let read = |bytes| bytes >= READ_BYTES;
            process.await_metric("stormdrain_received_bytes_total", "", read);
            process.await_metric("stormdrain_receive_pauses_total", "", |pauses| pauses > 0);
            let peak_bytes = process.peak_memory_bytes();
            eprintln!("{peak_bytes} bytes at most, for a budget of {BUDGET_BYTES}");
            assert!(peak_bytes <= BUDGET_BYTES, "{peak_bytes} of {BUDGET_BYTES}");
            process.kill();
        });
    }
}

/// A huge page is taken whole for the first byte of it: a small budget has no room for that.
#[test]
fn a_small_budget_is_taken_in_small_pages() {
    // A process may have been started without them.
    let here = status_of("self", "THP_enabled").unwrap_or_default();
    for (budget_bytes, huge_pages) in [(BUDGET_BYTES, "0"), (1 << 30, here.as_str())] {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("memory_bytes = {budget_bytes}\nshards = 2\n");
        let process = Process::start(Way::Epoll, &folder.path().join("data"), &settings);
        match process.status("THP_enabled") {
            Some(found) => assert_eq!(found, huge_pages, "for {budget_bytes} bytes"),
            None => eprintln!("this kernel does not say whether there are huge pages"),
        }
    }
}

#[test]
fn a_budget_too_small_says_the_least_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    command.args(["run", "--shards", "64", "--memory", "64MiB", "--http", "off", "--data"]);
    let output = command.arg(folder.path()).arg("--listen").arg("127.0.0.1:0").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("64 shards need at least") && said.contains("--memory"), "{said}");
}
