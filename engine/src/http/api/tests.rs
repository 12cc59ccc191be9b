//! Every path that is described is asked, and its answer held against the description.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use serde_json::Value;

use crate::http::tests::ask;
use crate::http::{Guard, HttpServer, Sources};
use crate::io::clock::Clock;
use crate::metrics::Publication;
use crate::query::sample;
use crate::roster::Roster;
use crate::watch::{
    BIN_US, Bin, Burst, Head, Kernel, Layer, Moment, Moved, Outcome, ShardShare, Step, Verdict,
    Watch,
};

fn sources(data: &Path) -> Sources {
    let publication = Arc::new(Publication::new(1));
    let (roster, clock) = (Roster::default(), Clock::standing(&STANDING));
    publication.set_driver("epoll", "asked for");
    let watch = seen();
    let (data, question_bytes) = (data.to_owned(), 64 << 20);
    Sources { publication, watch, roster, data, retain_hours: 0, question_bytes, clock }
}

fn serve(data: &Path) -> HttpServer {
    start(sources(data))
}

fn start(sources: Sources) -> HttpServer {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    HttpServer::start(address, Guard::new(address, None).unwrap(), sources).unwrap()
}

/// A second and a burst in which everything is there that may be there.
fn seen() -> Watch {
    let moved = || vec![Moved { counter: "TcpExt.PruneCalled".to_owned(), by: 3 }];
    let shard = ShardShare { turned_us: Some(NOW_US), ..ShardShare::default() };
    let pages = Some(7);
    let unread = vec!["/proc/net/snmp".to_owned()];
    let kernel = Kernel { moved: moved(), tcp_pages: pages, tcp_pages_pressure: pages, unread };
    let watch = Watch::new();
    for time_us in [NOW_US - 1_000_000, NOW_US] {
        watch.tell(Moment {
            time_us,
            kernel: kernel.clone(),
            shards: vec![shard],
            burst: Some(BURST),
            ..Moment::default()
        });
    }
    let verdict = Verdict {
        outcome: Outcome::Squeezed,
        layer: Some(Layer::Digest),
        reasons: vec!["decoding was behind".to_owned()],
    };
    let head = Head { id: BURST, moved: moved(), verdict: Some(verdict), ..Head::default() };
    let step = Step { time_us: BURST, counter: "TcpExt.PruneCalled".to_owned(), by: 3 };
    watch.tell_burst(Burst { head, bin_us: BIN_US, bins: vec![Bin::default()], steps: vec![step] });
    watch
}

const NOW_US: i64 = sample::NOW.0;
static STANDING: AtomicI64 = AtomicI64::new(NOW_US);
const BURST: i64 = NOW_US - 3_000_000;

/// Status and JSON of an answer.
fn json(server: &HttpServer, path: &str) -> (u16, Value) {
    let answer = ask(server.address(), path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {body}")))
}

#[test]
fn a_question_that_is_too_large_says_so_and_hurts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_ladder(folder.path(), 6_000);
    let ask = |question_bytes: u64, path: &str| {
        let server = start(Sources { question_bytes, ..sources(folder.path()) });
        json(&server, path)
    };
    let trace = "/api/v1/trace?router=pe1&fec=label:100";
    let changes = "/api/v1/trace/changes?router=pe1&fec=label:100";
    let history = "/api/v1/history?router=pe1&since=-1h";
    let routers = "/api/v1/routers?at=-1s";
    for path in [trace, changes, history, routers] {
        let (status, fault) = ask(2 << 20, path);
        assert_eq!(status, 507, "{path}: {fault}");
        let said = fault["error"].as_str().unwrap();
        assert!(said.contains("one over HTTP may take 1.0"), "{said}");
        assert!(said.contains("command line") && said.contains("question_memory_bytes"), "{said}");
        assert_eq!(ask(512 << 20, path).0, 200, "{path}");
    }
    let (status, near) = ask(512 << 20, "/api/v1/trace?router=pe1&fec=label:6100");
    assert_eq!((status, &near["verdict"]), (200, &"delivered".into()));
}

/// What is asked of each path so that its answer is full.
const QUESTIONS: &[(&str, &[&str])] = &[
    ("/api/v1/now", &[""]),
    ("/api/v1/moments", &["", "?since=-1s"]),
    ("/api/v1/bursts", &[""]),
    ("/api/v1/bursts/{id}", &[""]),
    ("/api/v1/routers", &["", "?at=-10m", "?at=now"]),
    ("/api/v1/plan", &[""]),
    ("/api/v1/fecs", &["?router=pe1", "?router=pe1&letters=vrf&at=-5m"]),
    ("/api/v1/density", &["", "?since=-1h&until=now&router=pe1&bins=10"]),
    (
        "/api/v1/trace/changes",
        &["?router=pe1&fec=vrf:192.0.2.3,65000:2", "?router=pe1&fec=label:13&at=-25m"],
    ),
    (
        "/api/v1/trace",
        &[
            "?router=pe1&fec=vrf:192.0.2.3,65000:2&draw=true",
            "?router=192.0.2.1&fec=vrf:192.0.2.3,65000:2&at=2026-11-22T04:10:00.100Z",
            "?router=p4&fec=label:24&at=-25m",
        ],
    ),
    (
        "/api/v1/history",
        &[
            "?router=pe1",
            "?router=p2&since=-2h&until=now&limit=3",
            "?router=pe1&fec=ip:192.0.2.3/32",
            "?router=p2&label=12",
        ],
    ),
];

#[test]
fn every_answer_is_as_it_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let server = serve(folder.path());
    let (status, description) = json(&server, "/api/v1/openapi.json");
    assert_eq!(status, 200);
    let paths = description["paths"].as_object().unwrap();
    let described: Vec<&str> = paths.keys().map(String::as_str).collect();
    let mut asked: Vec<&str> = QUESTIONS.iter().map(|(path, _)| *path).collect();
    // It has no end: a test of its own reads it.
    asked.push("/api/v1/events");
    asked.sort_unstable();
    assert_eq!(described, asked);
    for (path, questions) in QUESTIONS {
        let answers = &description["paths"][path]["get"]["responses"];
        let schema = &answers["200"]["content"]["application/json"]["schema"];
        let path = path.replace("{id}", &BURST.to_string());
        for question in *questions {
            let path = format!("{path}{question}");
            let (status, answer) = json(&server, &path);
            assert_eq!(status, 200, "{path}: {answer}");
            check(&description, schema, &answer, &path);
        }
        let path = format!("{path}?no_such_name=1");
        let (status, answer) = json(&server, &path);
        assert_eq!(status, 400, "{path}: {answer}");
        let schema = &answers["4XX"]["content"]["application/json"]["schema"];
        check(&description, schema, &answer, &path);
    }
}

#[test]
fn missing_rows_are_said_in_every_answer_counted_and_no_reason_to_restart() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let path = storage::log::log_path(folder.path(), sample::START.hour(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    let sources = sources(folder.path());
    let publication = Arc::clone(&sources.publication);
    publication.publish(0, &crate::metrics::Counters::default(), sample::NOW);
    let server = start(sources);
    let whole = ask(server.address(), "/healthz");
    assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with("\r\n\r\nok\n"), "{whole}");
    let (_, description) = json(&server, "/api/v1/openapi.json");
    let mut answers = 0;
    for (path, question) in [
        ("/api/v1/trace", "?router=pe1&fec=vrf:192.0.2.3,65000:2&draw=true"),
        ("/api/v1/trace/changes", "?router=pe1&fec=label:13&at=-25m"),
        ("/api/v1/fecs", "?router=pe1"),
        ("/api/v1/density", ""),
        ("/api/v1/history", "?router=pe1"),
        ("/api/v1/routers", "?at=-1m"),
    ] {
        let (status, answer) = json(&server, &format!("{path}{question}"));
        assert_eq!(status, 200, "{path}: {answer}");
        let place = &answer["rows_missing"][0];
        assert_eq!(place["since"], "2026-11-22T04:00:00.000000Z", "{path}: {answer}");
        let warning = answer["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("rows are missing from this answer"), "{path}: {warning}");
        let schema =
            &description["paths"][path]["get"]["responses"]["200"]["content"]["application/json"];
        check(&description, &schema["schema"], &answer, path);
        answers += 1;
    }
    let metrics = ask(server.address(), "/metrics");
    assert!(metrics.contains("\nstormdrain_log_damaged_places 1\n"), "{metrics}");
    let counted = format!("\nstormdrain_answers_lacking_total {answers}\n");
    assert!(metrics.contains(&counted), "{metrics}");
    let health = ask(server.address(), "/healthz");
    assert!(health.starts_with("HTTP/1.1 200"), "a restart would mend nothing: {health}");
    assert!(health.contains("\r\n\r\ndegraded: rows of the log cannot be read at 1 places"));
    assert!(health.contains("a restart mends nothing"), "{health}");
    let (_, now) = json(&server, "/api/v1/now");
    assert!(now["faults"].as_array().unwrap().is_empty() && now["rows_missing"][0].is_object());
    assert!(now["lacking"].as_str().unwrap().contains("shard-0.log"), "{now}");
    let schema = &description["paths"]["/api/v1/now"]["get"]["responses"]["200"]["content"];
    check(&description, &schema["application/json"]["schema"], &now, "now");
    // What is wrong now goes before what is missing of the past.
    let mut counters = crate::metrics::Counters::default();
    counters.set(crate::metrics::Metric::LedgerImbalance, 3);
    publication.publish(0, &counters, sample::NOW);
    assert!(ask(server.address(), "/healthz").starts_with("HTTP/1.1 503"));
}

/// Holds a value against a schema, as far as this description uses the language of schemas; a word
/// that it does not know fails. What is not described must not be there.
fn check(description: &Value, schema: &Value, value: &Value, place: &str) {
    let known = [
        "$ref",
        "type",
        "properties",
        "required",
        "items",
        "oneOf",
        "enum",
        "description",
        "format",
        "minimum",
        "allOf",
        "additionalProperties",
        "propertyNames",
    ];
    let words = schema.as_object().unwrap_or_else(|| panic!("{place}: no schema: {schema}"));
    for word in words.keys() {
        assert!(known.contains(&word.as_str()), "{place}: {word} in {schema}");
    }
    if let Some(name) = schema["$ref"].as_str() {
        let schema = description.pointer(name.trim_start_matches('#')).unwrap();
        return check(description, schema, value, place);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return check(description, &together(description, parts), value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |schema: &Value| fits(description, schema, value);
        let choice = choices.iter().find(|schema| fits(schema));
        let choice = choice.unwrap_or_else(|| panic!("{place}: {value} fits none of {schema}"));
        return check(description, choice, value, place);
    }
    assert!(fits(description, schema, value), "{place}: {value} is not {schema}");
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{place}: {value} is not in {schema}");
    }
    for item in value.as_array().into_iter().flatten() {
        check(description, &schema["items"], item, &format!("{place}[]"));
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(fields.contains_key(name.as_str().unwrap()), "{place}: {name} is missing");
    }
    for (name, value) in fields {
        let place = format!("{place}.{name}");
        let property = schema["properties"].get(name);
        let property = property.unwrap_or_else(|| panic!("{place} is not described: {value}"));
        assert!(
            property["description"].is_string()
                || property["$ref"].is_string()
                || property["oneOf"].is_array(),
            "{place} has no description"
        );
        check(description, property, value, &place);
    }
}

/// One object of which all these schemas are true.
fn together(description: &Value, parts: &[Value]) -> Value {
    let (mut properties, mut required) = (serde_json::Map::new(), Vec::new());
    for part in parts {
        let named = part["$ref"].as_str().map(|name| name.trim_start_matches('#'));
        let part = named.map_or(part, |name| description.pointer(name).unwrap());
        properties.extend(part["properties"].as_object().unwrap().clone());
        required.extend(part["required"].as_array().into_iter().flatten().cloned());
    }
    serde_json::json!({ "type": "object", "properties": properties, "required": required })
}

/// Whether a value is of the schema's type; of an object, whether it has what is required.
fn fits(description: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = description.pointer(name.trim_start_matches('#')).unwrap();
        return fits(description, schema, value);
    }
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_it = |name: &Value| name == found || (name == "number" && found == "integer");
    let of_type = match &schema["type"] {
        Value::Array(names) => names.iter().any(is_it),
        name => is_it(name),
    };
    let required = schema["required"].as_array().into_iter().flatten();
    let mut names = required.filter_map(Value::as_str);
    of_type && (!value.is_object() || names.all(|name| value.get(name).is_some()))
}

#[test]
fn what_the_watch_sees_is_told_as_it_happens() {
    let watch = seen();
    let sources = Sources { watch: watch.clone(), ..sources(Path::new("/")) };
    let server = start(sources);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
    let kind = lines.find(|line| line.starts_with("content-type")).unwrap();
    assert_eq!(kind, "content-type: text/event-stream");
    // The head is sent when it listens: what is told from now on comes.
    lines.find(String::is_empty).unwrap();
    watch.tell(Moment { time_us: NOW_US + 1, ..Moment::default() });
    let head = Head { id: 9, is_running: true, ..Head::default() };
    watch.tell_burst(Burst { head, ..Burst::default() });
    for (name, part) in
        [("moment", format!("\"time_us\":{}", NOW_US + 1)), ("burst", "\"id\":9".into())]
    {
        assert!(lines.any(|line| line == format!("event: {name}")));
        let data = lines.next().unwrap();
        assert!(data.starts_with("data: {") && data.contains(&part), "{data}");
    }
}

#[test]
fn bursts_are_those_that_overlap_and_the_log_is_asked_for_what_the_watch_has_not() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let watch = Watch::new();
    let burst = |end_us: i64, is_running: bool| {
        let start_us = end_us - 2_000_000;
        let head = Head { id: start_us, start_us, end_us, is_running, ..Head::default() };
        Burst { head, bin_us: BIN_US, ..Burst::default() }
    };
    let seconds_ago = |seconds: i64| NOW_US - seconds * 1_000_000;
    watch.tell_burst(burst(seconds_ago(90), false));
    watch.tell_burst(burst(seconds_ago(30), false));
    watch.tell_burst(burst(seconds_ago(10), true));
    let server = start(Sources { watch: watch.clone(), ..sources(folder.path()) });
    let told = |since: &str| -> Vec<i64> {
        let (status, answer) = json(&server, &format!("/api/v1/bursts{since}"));
        assert_eq!(status, 200, "{answer}");
        let bursts = answer["bursts"].as_array().unwrap();
        bursts.iter().map(|burst| burst["end_us"].as_i64().unwrap()).collect()
    };
    let of_log = sample::FAILURE.offset(40_000 + 30_000).0;
    let [late, middle, early] = [10, 30, 90].map(seconds_ago);
    // Nobody has told the watch what was before the start.
    assert_eq!(told(""), [late, middle, early, of_log]);
    assert_eq!(told("?since=-90s"), [late, middle, early], "it ended at this very instant");
    assert_eq!(told("?since=-89s"), [late, middle]);
    assert_eq!(told("?since=-31s"), [late, middle], "it began before, and ended after");
    assert_eq!(told("?since=now"), [late], "one that runs is always told");
    // Now it is said to have all of a day: the log is asked for what was before.
    watch.restore(Vec::new(), Some(sample::NOW.offset(-86_400_000_000)));
    assert_eq!(told(""), [late, middle, early]);
    assert_eq!(told("?since=-25h"), [late, middle, early, of_log]);
}

#[test]
fn answers_are_those_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let server = serve(folder.path());
    let (_, routers) = json(&server, "/api/v1/routers?at=-1m");
    let p2 = &routers["routers"][1];
    assert_eq!((&p2["name"], &p2["status"]), (&"p2".into(), &"disconnected".into()));
    assert_eq!((&p2["answer"], &p2["cause"]), (&"unknown".into(), &"timed-out".into()));
    assert_eq!(p2["unknown_since"], sample::LOST.to_string());

    let (_, trace) = json(
        &server,
        "/api/v1/trace?router=pe1&fec=vrf:192.0.2.3,65000:2&at=2026-11-22T04:10:00.100Z",
    );
    assert_eq!(trace["verdict"], "broken");
    let detail = trace["paths"][0]["detail"].as_str().unwrap();
    assert_eq!(detail, "broken at 192.0.2.2: withdrawn at 2026-11-22T04:10:00.050000Z");

    let (_, whole) = json(&server, "/api/v1/history?router=p2&since=-2h");
    let (_, cut) = json(&server, "/api/v1/history?router=p2&since=-2h&limit=2");
    let (rows, last) = (whole["rows"].as_array().unwrap(), cut["rows"].as_array().unwrap());
    assert_eq!(last[..], rows[rows.len() - 2..]);
    assert_eq!((&whole["cut"], &cut["cut"]), (&false.into(), &true.into()));
}

#[test]
fn a_wrong_question_is_told_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let server = serve(folder.path());
    for (path, status, words) in [
        ("/api/v1/nothing", 404, "/api/v1/openapi.json"),
        ("/api/v1/trace?router=pe1", 400, "missing field `fec`"),
        ("/api/v1/trace?router=pe1&fec=pe3", 400, "write ip:10.0.0.3/32"),
        ("/api/v1/trace?router=pe9&fec=label:1", 404, "known are pe1, p2, pe3, p4"),
        ("/api/v1/trace?router=pe1&fec=label:1&at=2031-01-01T00:00:00Z", 400, "in the future"),
        ("/api/v1/routers?at=yesterday", 400, "write now, -15m"),
        ("/api/v1/history?router=pe1&limit=0", 400, "write 1 to 10000"),
        ("/api/v1/history?router=pe1&since=-1m&until=-2m", 400, "before it begins"),
        ("/api/v1/history?router=pe1&fec=label:1&label=1", 400, "not both"),
    ] {
        let (found, answer) = json(&server, path);
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{path}: {answer}");
    }
    let nowhere = serve(Path::new("/"));
    let (status, answer) = json(&nowhere, "/api/v1/trace?router=pe1&fec=label:1");
    assert_eq!(status, 500);
    assert!(answer["error"].as_str().unwrap().contains("is no data folder"), "{answer}");
}

/// What has been read counts now, whatever its time; rare entries are picked as they are asked.
#[test]
fn now_and_rare_entries_are_answered_as_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_model(folder.path());
    let server = serve(folder.path());
    let ask = |path: &str| {
        let (status, answer) = json(&server, path);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    for at in ["", "&at=now"] {
        let trace = ask(&format!("/api/v1/trace?router=p6&fec=label:40{at}"));
        assert_eq!(trace["verdict"], "discarded", "{trace}");
        assert_eq!(trace["at"], sample::NOW.to_string());
        let changes = ask(&format!("/api/v1/trace/changes?router=p6&fec=label:40{at}"));
        assert_eq!((&changes["next"], &changes["at"]), (&Value::Null, &trace["at"]));
    }
    for until in ["", "&until=now"] {
        let history = ask(&format!("/api/v1/history?router=p6&label=40,0{until}"));
        assert_eq!(history["rows"].as_array().unwrap().len(), 2, "{history}");
    }
    let fecs = ask("/api/v1/fecs?router=pe5");
    let fecs: Vec<&str> =
        fecs["fecs"].as_array().unwrap().iter().map(|fec| fec["fec"].as_str().unwrap()).collect();
    assert!(fecs.contains(&"label:24,7") && fecs.contains(&"name:rsvp,to-p6"), "{fecs:?}");
    for fec in fecs {
        let fec = fec.replace(',', "%2C");
        let trace = ask(&format!("/api/v1/trace?router=pe5&fec={fec}&with_backups=true"));
        assert!(trace["steps"][0]["entry"].is_string(), "{trace}");
    }
    let routers = ask("/api/v1/routers?at=-1s");
    let p6 = &routers["routers"][1];
    assert_eq!((&p6["answer"], &p6["cause"]), (&"in-part".into(), &"fec-invalid".into()));
    assert_eq!(routers["routers"][0]["clock_skew_us"], sample::SKEW_US);
    assert_eq!(routers["routers"][0]["clock_ahead"], true);
}

mod odd;
