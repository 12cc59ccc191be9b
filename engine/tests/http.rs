//! The HTTP side of a real collector: what it says is what the command line and the metrics say.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use engine::wire::frame::{FrameFlags, FrameType};
use serde_json::Value;
use storage::mapping::Mapping;

use crate::process::{PATIENCE, Process, Way, assert_sound};
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
    // The shards answer after they have published the rows of that end.
    let live = json(&collector, "/api/v1/routers");
    collector.await_durable();
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

/// A connection that has said so much and says nothing more.
fn say(collector: &Process, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(collector.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that is full closes at once; what it said is read below.
    let _ = stream.write_all(text.as_bytes());
    stream
}

/// What comes until the server closes; a reset is an end too.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it stays open"),
        Ok(_) | Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

#[test]
fn slow_and_hostile_clients_cost_the_storm_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut collector = Process::start(Way::Epoll, &data, "shards = 2\n");
    let mut routers: Vec<_> = (1..=8).map(|number| connect(&collector, number, 200)).collect();

    // Those that never read, those that ask for much, and those that never end their question.
    let events = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let deaf: Vec<TcpStream> = (0..16).map(|_| say(&collector, events)).collect();
    let much =
        "GET /api/v1/history?router=192.0.2.1&limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let way =
        "GET /api/v1/trace?router=192.0.2.1&fec=label:100 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let greedy = |number: usize| say(&collector, &[much, way][number % 2].repeat(20));
    let greedy: Vec<TcpStream> = (0..16).map(greedy).collect();
    let slow: Vec<TcpStream> =
        (0..168).map(|_| say(&collector, "GET / HTTP/1.1\r\nHost: local")).collect();

    // The storm: every router changes its whole table, again and again.
    for round in 0..20 {
        for (router, session) in &mut routers {
            let changes: Vec<Mapping> = (0..200)
                .map(|label| swap(100 + label, 9_000 + round * 200 + label, router.tick()))
                .collect();
            let frame = router.frame(&changes, false);
            session.send(&frame).unwrap();
        }
    }
    for (router, session) in &mut routers {
        router.await_acks(session);
    }

    // 64 were served, whoever they were; all others were told so and let go, and in the end those
    // that never ended their question too.
    let answers: Vec<String> = slow.into_iter().map(rest).collect();
    let refused = answers.iter().filter(|answer| !answer.is_empty()).count();
    assert!(refused >= 200 - 64 - 32, "{refused} of 168 were refused at once");
    let told = "64 connections are open, or 48 of yours: close some, or come again later\"}";
    assert!(answers.iter().any(|answer| answer.ends_with(told)), "{answers:?}");
    drop((deaf, greedy));

    // Nothing of the storm is missing, and the HTTP side is there for everybody again.
    collector.await_answer();
    let changes = 8 * (200 + 1 + 20 * 200);
    collector.await_metric("stormdrain_changes_total", "", |found| found == changes);
    assert_eq!(collector.metric("stormdrain_ledger_imbalance", ""), 0);
    assert!(collector.terminate().success());
    let mut program = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    let ledger = program.args(["ledger", "--data"]).arg(&data).output().unwrap();
    assert!(ledger.status.success(), "{ledger:?}");
    assert_sound(&data);
}

#[test]
fn a_question_that_is_too_large_leaves_the_collector_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let settings = "shards = 1\nquestion_memory_bytes = '4MiB'\n";
    let mut collector = Process::start(Way::Epoll, &data, settings);
    let mut large = connect(&collector, 1, 40_000);
    let mut small = connect(&collector, 2, 10);
    for (router, session) in [&mut large, &mut small] {
        router.await_acks(session);
    }
    // Several at once, so that both places are taken.
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| collector.page("/api/v1/trace?router=192.0.2.1&fec=label:100")))
            .collect();
        for answer in asked {
            let answer = answer.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 507"), "{answer}");
            assert!(answer.contains("this question needs"), "{answer}");
        }
    });
    let found = json(&collector, "/api/v1/trace?router=192.0.2.2&fec=label:100");
    assert_eq!(found["steps"][0]["entry"], "ilm 100 platform", "{found}");
    // What the command line answers with all the memory of its own.
    let told = command(&data, &["trace", "--router", "192.0.2.1", "--fec", "label:100"]);
    assert_eq!(told["steps"][0]["operation"], "swap", "{told}");
    // And rows go on being taken.
    let (router, session) = &mut large;
    let change = [swap(100, 7_001, router.tick())];
    let frame = router.frame(&change, false);
    session.send(&frame).unwrap();
    router.await_acks(session);
    assert!(collector.terminate().success());
    assert_sound(&data);
}

#[test]
fn a_collector_that_others_can_reach_asks_for_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut program = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    program.args(["run", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0", "--data"]).arg(&data);
    let refused = program.output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("set http_token_file to a file"), "{told}");

    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-sufficient-length\n").unwrap();
    let settings = format!("http_token_file = \"{}\"\n", token.display());
    let mut collector = Process::start(Way::Epoll, &data, &settings);
    let ask_of = |collector: &Process, path: &str, line: &str| {
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n{line}\r\n");
        rest(say(collector, &text))
    };
    let ask = |path: &str, line: &str| ask_of(&collector, path, line);
    let bearer = "Authorization: Bearer a-token-of-sufficient-length\r\n";
    for path in ["/api/v1/now", "/metrics", "/charts/now/bytes"] {
        let answer = ask(path, "");
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        assert!(answer.contains("http_token_file"), "{path}: {answer}");
        assert!(ask(path, "Authorization: Bearer a-token\r\n").starts_with("HTTP/1.1 401"));
        assert!(ask(path, bearer).starts_with("HTTP/1.1 200"), "{path}");
    }
    for path in ["/", "/script.js", "/style.css", "/healthz"] {
        let answer = ask(path, "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
    }

    // Another token: it holds from SIGHUP on, and whoever listens with the old one hears no more.
    let events = format!("GET /api/v1/events HTTP/1.1\r\nHost: elsewhere\r\n{bearer}\r\n");
    let mut listener = say(&collector, &events);
    let mut begun = [0; 12];
    listener.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    let now = |collector: &Process, token: &str| {
        let line = format!("Authorization: Bearer {token}\r\n");
        ask_of(collector, "/api/v1/now", &line)[..12].to_owned()
    };
    let first = "a-token-of-sufficient-length";
    std::fs::write(&token, "weak\n").unwrap();
    collector.reload(&settings);
    assert_eq!(now(&collector, first), "HTTP/1.1 200", "a file without a token changes nothing");
    std::fs::write(&token, "another-token-of-that-length\n").unwrap();
    collector.reload(&settings);
    assert_eq!(now(&collector, first), "HTTP/1.1 401");
    assert_eq!(now(&collector, "another-token-of-that-length"), "HTTP/1.1 200");
    assert!(rest(listener).ends_with("0\r\n\r\n"), "the stream of events has ended in order");
}

#[test]
fn a_page_of_others_cannot_read_along_under_a_name_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Process::start(Way::Epoll, &folder.path().join("data"), "");
    let ask = |host: &str| {
        let text = format!("GET /api/v1/now HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        rest(say(&collector, &text))
    };
    assert!(ask("Host: 127.0.0.1:30311\r\n").starts_with("HTTP/1.1 200"));
    for host in ["Host: evil.example\r\n", "Host: 127.0.0.1.evil.example:30311\r\n", ""] {
        let answer = ask(host);
        assert!(
            answer.starts_with("HTTP/1.1 421") || answer.starts_with("HTTP/1.1 400"),
            "{answer}"
        );
    }
}

/// Whatever holds every place there is, `/healthz` is answered: who restarts a collector that does
/// not answer must have reason to.
#[test]
fn healthz_is_answered_whoever_holds_the_places() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Process::start(Way::Epoll, &folder.path().join("data"), "shards = 1\n");
    let events = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut deaf: Vec<TcpStream> = (0..90).map(|_| say(&collector, events)).collect();
    deaf.extend((0..40).map(|_| say(&collector, "GET / HTTP/1.1\r\nHost: local")));
    deaf.extend((0..300).map(|_| say(&collector, "")));
    let refused = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5";
    let others = rest(say(&collector, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert!(others.starts_with(refused), "one source has no more places: {others}");
    for _ in 0..20 {
        let health = collector.page("/healthz");
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"), "{health}");
        deaf.push(say(&collector, ""));
    }
    // Those who hold connections and say nothing are let go for those who come.
    drop(deaf);
    collector.await_answer();
    collector.await_metric("stormdrain_http_connections_refused_total", "", |count| count >= 100);
    assert!(collector.terminate().success());
}

/// Wrong tokens are counted, told of once, and answered late.
#[test]
fn wrong_tokens_are_counted_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-sufficient-length\n").unwrap();
    let settings = format!("http_token_file = \"{}\"\n", token.display());
    let mut collector = Process::start(Way::Epoll, &folder.path().join("data"), &settings);
    let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let wrong = format!("{head}Authorization: Bearer a-token-of-sufficient-lengtX\r\n\r\n");
    let tries: Vec<TcpStream> = (0..20).map(|_| say(&collector, &wrong)).collect();
    assert!(tries.into_iter().all(|tried| rest(tried).starts_with("HTTP/1.1 401")));
    let right = format!("{head}Authorization: Bearer a-token-of-sufficient-length\r\n\r\n");
    let metrics = rest(say(&collector, &right));
    assert!(metrics.contains("\nstormdrain_http_tokens_refused_total 20\n"), "{metrics}");
    let about = |line: &Value| {
        line["fields"]["message"].as_str().is_some_and(|message| message.contains("wrong one"))
    };
    let line = collector.line(about);
    assert!(line["fields"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(!line.to_string().contains("sufficient"), "{line}");
    assert!(collector.terminate().success());
    assert_eq!(collector.lines_seen(about), 1, "once a minute");
}
