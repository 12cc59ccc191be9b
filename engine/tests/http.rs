//! The HTTP side of a real collector: what it says is what the command line and the metrics say.

use std::path::Path;
use std::process::Command;

use engine::wire::frame::{FrameFlags, FrameType};
use serde_json::Value;
use storage::mapping::Mapping;

use crate::process::{Process, Way};
use crate::sender::{Router, Session, swap};

/// The JSON behind a path.
pub(crate) fn json(collector: &Process, path: &str) -> Value {
    let answer = collector.page(path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    serde_json::from_str(body).unwrap()
}

/// What the program answers, as JSON.
fn command(data: &Path, arguments: &[&str]) -> Value {
    let mut program = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    let output = program.args(arguments).args(["--format", "json", "--data"]).arg(data);
    serde_json::from_slice(&output.output().unwrap().stdout).unwrap()
}

/// A router with so many entries that it has then changed once; all of it is durable.
pub(crate) fn connect(collector: &Process, number: u8, entries: u32) -> (Router, Session) {
    let mut router = Router::new(number);
    let mut session = router.open(collector.listen, true, true).unwrap();
    let mapping = |router: &mut Router, label| swap(100 + label, 5_000 + label, router.tick());
    let mappings: Vec<Mapping> = (0..entries).map(|label| mapping(&mut router, label)).collect();
    let frame = router.frame(&mappings, true);
    session.send(&frame).unwrap();
    let complete = router.counted(FrameType::SnapshotComplete, FrameFlags::NONE, b"");
    session.send(&complete).unwrap();
    router.await_acks(&mut session);
    let change = [swap(100, 7_000, router.tick())];
    let frame = router.frame(&change, false);
    session.send(&frame).unwrap();
    router.await_acks(&mut session);
    (router, session)
}

#[test]
fn the_roster_of_the_shards_is_what_the_log_says() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let collector = Process::start(Way::Epoll, &data, "shards = 2\n");
    let mut routers: Vec<_> = (1..=6).map(|number| connect(&collector, number, 10)).collect();
    let (_, mut gone) = routers.pop().unwrap();
    gone.finish();
    collector.await_metric("stormdrain_sessions_ended_total", "", |ended| ended == 1);
    let pushed = collector.metric("stormdrain_rows_pushed_total", "");
    collector.await_metric("stormdrain_rows_committed_total", "", |rows| rows == pushed);

    let live = json(&collector, "/api/v1/routers");
    let told = command(&data, &["routers"]);
    let (live, told) = (live["routers"].as_array().unwrap(), told.as_array().unwrap());
    assert_eq!((live.len(), told.len()), (6, 6));
    for (live, told) in live.iter().zip(told) {
        for (name, value) in told.as_object().unwrap() {
            match name.as_str() {
                // Nothing in a table is empty text here.
                "name" => assert_eq!((&live[name], value), (&"".into(), &Value::Null)),
                // The log has the time of the books, which are written a little later.
                "last_evidence" => assert!(live[name].as_str() <= value.as_str(), "{live} {told}"),
                _ => assert_eq!(&live[name], value, "{name} of {live} and {told}"),
            }
        }
        let session = &live["live"];
        assert_eq!(session.is_object(), live["status"] == "connected", "{live}");
        assert_eq!(session["waiting_bytes"].as_u64().unwrap_or(0), 0, "{live}");
        if session.is_object() {
            assert!(session["deferral_longest_ms"].is_i64(), "{live}");
        }
    }
    let homes: std::collections::BTreeSet<u64> =
        live.iter().filter_map(|router| router["shard"].as_u64()).collect();
    assert_eq!(homes.len(), 2, "both shards have answered: {live:#?}");
}
