//! `stormdrain send` as an operator types it, against a real collector and against what is none.
//!
//! In:   files, good and bad; a collector, or something else that listens.
//! Out:  rows, words, exit codes; the tables that the collector then has.
//! Law:  what is called acknowledged is in the log; what cannot be read has sent nothing.
//! Not:  which causes there are (`bad_input`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use storage::mapping::RouterId;
use storage::row::{Cause, Reason, SessionEvent};

use crate::process::{Process, Way, assert_sound, message, session_rows, states};

/// An entry for each prefix, towards this next hop.
fn document(root: &str, entries: &[(&str, &str)]) -> String {
    let mapping = |(prefix, next_hop): &(&str, &str)| {
        format!(
            "<mapping timestamp=\"5\"><fec type=\"ip\" prefix=\"{prefix}\"/>\
             <ingress label=\"-1\" origin=\"untagged\"/><operation type=\"push\">\
             <nhlfe label=\"24\" next-hop=\"{next_hop}\"/></operation></mapping>\n"
        )
    };
    let mappings: String = entries.iter().map(mapping).collect();
    format!("<label-mappings {root}>\n{mappings}</label-mappings>\n")
}

const R1: &str = "router-id=\"192.0.2.1\"";

fn router(number: u8) -> RouterId {
    RouterId([192, 0, 2, number].into())
}

struct Sent {
    code: i32,
    output: String,
    notes: String,
}

impl Sent {
    fn rows(&self) -> Vec<Value> {
        let value: Value = serde_json::from_str(&self.output).unwrap();
        value.as_array().unwrap().clone()
    }
}

/// `stormdrain send` with these arguments and this standard input.
fn send(target: SocketAddr, arguments: &[&str], input: &[u8]) -> Sent {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    command.arg("send").arg("--target").arg(target.to_string()).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Sent {
        code: output.status.code().unwrap(),
        output: text(output.stdout),
        notes: text(output.stderr),
    }
}

struct Bench {
    folder: tempfile::TempDir,
    process: Process,
}

impl Bench {
    fn new(settings: &str) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start(Way::Epoll, &folder.path().join("data"), settings);
        Bench { folder, process }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn send(&self, arguments: &[&str], input: &[u8]) -> Sent {
        send(self.process.listen, arguments, input)
    }

    /// A file with this in it; its path.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn finish(mut self) -> tempfile::TempDir {
        assert!(self.process.terminate().success());
        assert_sound(&self.data());
        self.folder
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_is_acknowledged_is_in_the_log() {
    let bench = Bench::new("shards = 2\n");
    let example = |number: u8| {
        let name = format!("../docs/examples/l3vpn-php-r{number}.xml");
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name).to_str().unwrap().to_owned()
    };
    let (r1, r2, r3) = (example(1), example(2), example(3));
    let sent = bench.send(&[&r1, &r2, &r3], b"");
    assert_eq!((sent.code, sent.notes.as_str()), (0, ""), "{}", sent.output);
    let sum = "3 documents of 3 routers: 4 mappings acknowledged (on disk there), 0 refused, 0 un";
    assert!(sent.output.contains(sum), "{}", sent.output);
    // The same once more in every way of writing it, and documents that follow one another.
    let text = [std::fs::read(&r1).unwrap(), std::fs::read(&r2).unwrap()].concat();
    for bytes in [text.clone(), gzip(&text), zlib(&text)] {
        let sent = bench.send(&["-", "--format", "json"], &bytes);
        assert_eq!((sent.code, sent.notes.as_str()), (0, ""), "{}", sent.output);
        let rows = sent.rows();
        let word = |row: &Value| (row["router"].clone(), row["state"].clone());
        let expected = [("192.0.2.1", "acknowledged"), ("192.0.2.2", "acknowledged")];
        let expected = expected.map(|(router, state)| (router.into(), state.into()));
        assert_eq!(rows.iter().map(word).collect::<Vec<_>>(), expected);
        assert_eq!((&rows[0]["mappings"], &rows[1]["document"]), (&2.into(), &2.into()));
    }
    let data = bench.data();
    let _folder = bench.finish();
    let states = states(&data);
    let sizes = [1, 2, 3].map(|number| states[&router(number)].table.len());
    assert_eq!(sizes, [2, 1, 1]);
    assert!(states.values().all(|state| state.gaps.router.is_none()), "on demand leaves no gap");
}

#[test]
fn many_documents_of_many_routers_are_all_acknowledged() {
    let bench = Bench::new("shards = 2\n");
    let one = |number: u32| {
        let root = format!("router-id=\"192.0.2.{}\"", 1 + number % 3);
        let prefix = format!("10.{}.{}.0/24", number / 200, number % 200);
        document(&root, &[(&prefix, "10.0.0.2")])
    };
    let text: String = (0..1_500).map(one).collect();
    let sent = bench.send(&["-"], &gzip(text.as_bytes()));
    assert_eq!((sent.code, sent.notes.as_str()), (0, ""), "{}", sent.output);
    let sum = "1500 documents of 3 routers: 1500 mappings acknowledged (on disk there), 0 refused";
    assert!(sent.output.contains(sum));
    let data = bench.data();
    let _folder = bench.finish();
    let sizes = [1, 2, 3].map(|number| states(&data)[&router(number)].table.len());
    assert_eq!(sizes, [500; 3]);
}

#[test]
fn a_complete_document_is_the_whole_table() {
    let bench = Bench::new("");
    let root = format!("{R1} snapshot=\"complete\"");
    let hop = "10.0.0.2";
    let both = document(&root, &[("10.1.0.0/16", hop), ("10.2.0.0/16", hop)]);
    let one = document(&root, &[("10.1.0.0/16", hop)]);
    let change = document("", &[("10.3.0.0/16", hop)]);
    for (text, entries) in [(both, 2), (one, 1), (change, 2)] {
        let sent = bench.send(&["-", "--router", "192.0.2.1"], text.as_bytes());
        assert_eq!(sent.code, 0, "{}{}", sent.output, sent.notes);
        assert_eq!(sent.output.contains("complete"), text.contains("complete"), "{}", sent.output);
        bench.process.await_durable();
        let state = &states(&bench.data())[&router(1)];
        assert_eq!((state.table.len(), state.complete.is_some()), (entries, true), "{text}");
    }
    let rows = session_rows(&bench.data());
    let snapshots = rows.iter().filter(|row| matches!(row.event, SessionEvent::SnapshotBegin));
    assert_eq!(snapshots.count(), 2, "a document that does not say so is no snapshot");
    bench.finish();
}

#[test]
fn each_refused_mapping_is_named_and_the_others_are_taken() {
    let bench = Bench::new("");
    let entries =
        [("10.1.0.0/16", "10.0.0.2"), ("10.2.0.0/16", "eth0"), ("10.3.0.0/300", "10.0.0.2")];
    let foreign = document(R1, &[("10.4.0.0/16", "10.0.0.2")])
        .replace("<mapping ", "<mapping router-id=\"192.0.2.9\" ");
    let text = document(R1, &entries) + &foreign;
    let file = bench.file("table.xml", text.as_bytes());
    let sent = bench.send(&[&file, "--format", "json"], b"");
    assert_eq!((sent.code, sent.notes.as_str()), (1, ""), "{}", sent.output);
    let line = |row: &Value| {
        let names = ["document", "mapping", "line", "fec", "label", "state", "cause"];
        let words = names.map(|name| row[name].to_string().replace('"', ""));
        assert_eq!(row["file"], file.as_str());
        words.join(" ")
    };
    let rows = sent.rows();
    let lines: Vec<String> = rows.iter().map(line).collect();
    let expected = [
        "1 null null null null acknowledged null",
        "1 2 3 ip:10.2.0.0/16 -1 refused nhlfe-invalid",
        "1 3 4 ip:10.3.0.0/300 -1 refused fec-invalid",
        "2 null null null null acknowledged null",
        "2 1 2 ip:10.4.0.0/16 -1 refused foreign-router",
    ];
    assert_eq!(lines, expected);
    let detail = rows[1]["detail"].as_str().unwrap();
    assert!(detail.contains("expected an address") && detail.contains("found `eth0`"), "{detail}");
    let table = bench.send(&[&file], b"");
    let sum = "2 documents of 1 router: 1 mappings acknowledged (on disk there), 3 refused";
    assert!(table.output.contains(sum), "{}", table.output);
    let data = bench.data();
    let _folder = bench.finish();
    let states = states(&data);
    let state = &states[&router(1)];
    assert_eq!(state.table.len(), 1);
    let mut reasons = state.gaps.keys.values().map(|gap| gap.reason);
    let expected = Reason::Rejected(Cause::NhlfeInvalid);
    assert!(reasons.any(|reason| reason == expected), "nobody vouches for 10.2.0.0/16");
}

#[test]
fn what_cannot_be_read_sends_nothing() {
    let bench = Bench::new("");
    let good = document(R1, &[("10.1.0.0/16", "10.0.0.2")]);
    let packed = gzip(good.as_bytes());
    let first = bench.file("good.xml", good.as_bytes());
    let cases: [(&[u8], i32, &str); 13] = [
        (b"", 3, "bad holds no document: expected <label-mappings>"),
        (b" \n\t", 3, "bad holds no document"),
        (b"\x89PNG\r\n\x1a\n", 3, "bad is no XML, gzip or zlib: it begins with [89, 50"),
        (b"GET / HTTP/1.1\r\n", 3, "probably an HTTP request"),
        (b"\x01\x01\x00\x08abcd", 3, "which is FPM: `stormgen replay`"),
        (&good.as_bytes()[..good.len() - 20], 3, "document 1: truncated: the file ends"),
        (&packed[..packed.len() - 20], 3, "document 1: truncated: the file ends"),
        (b"<label-mappings><mapping></mapper></label-mappings>", 3, "document 1: xml-malformed: "),
        (b"<label-mappings/>oops", 2, "document 1 names no router: write router-id="),
        (b"<label-mappings router-id=\"192.0.2.1\"/>oops", 3, "document 2: xml-malformed: "),
        (b"<label-mappings xmlns=\"urn:other\"/>", 3, "document 1: xml-root: expected label-map"),
        (b"<hello/>", 3, "document 1: xml-root: "),
        (b"<!DOCTYPE x><label-mappings/>", 3, "document 1: xml-doctype: "),
    ];
    for (bytes, code, expected) in cases {
        let bad = bench.file("bad", bytes);
        let sent = bench.send(&[&first, &bad], b"");
        assert_eq!((sent.code, sent.output.as_str()), (code, ""), "{}", sent.notes);
        assert!(sent.notes.contains(expected), "{}", sent.notes);
        assert!(sent.notes.ends_with("; nothing was sent\n"), "{}", sent.notes);
    }
    for (arguments, code, expected) in [
        (&["/no/such/file"][..], 3, "cannot read /no/such/file: No such file"),
        (&["/"][..], 3, "cannot read /: Is a directory"),
        (&["-", "--router", "192.0.2.2"][..], 2, "is of router 192.0.2.1, and --router says 192.0"),
        (&["-", "--router", "pe1"][..], 2, "expected a router id"),
        (&["-", "--timeout", "0s"][..], 2, "expected a time above 0"),
        (&[][..], 2, "<FILE>..."),
    ] {
        let sent = bench.send(arguments, good.as_bytes());
        assert_eq!((sent.code, sent.output.as_str()), (code, ""), "{}", sent.notes);
        assert!(sent.notes.contains(expected), "{}", sent.notes);
    }
    assert_eq!(bench.process.metric("stormdrain_sessions_begun_total", ""), 0);
    let data = bench.data();
    let _folder = bench.finish();
    assert!(states(&data).is_empty(), "nothing was sent");
}

/// Accepts one connection, answers it, and keeps it until the other side ends it.
fn answering(answer: &'static [u8], keep: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0; 32];
        let _ = stream.read_exact(&mut first);
        let _ = stream.write_all(answer);
        while keep && matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    });
    address
}

#[test]
fn what_is_no_collector_is_told_apart() {
    let text = document(R1, &[("10.1.0.0/16", "10.0.0.2")]);
    // Bound and never listening: nobody else gets the port meanwhile.
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nobody = deaf.local_addr().unwrap().as_socket().unwrap();
    let bench = Bench::new("");
    for (target, expected, cause) in [
        (nobody, "start one there with `stormdrain run`", "unreached"),
        (bench.process.http, "expected an ack, found `HTTP/1.", "no-collector"),
        (answering(b"SSH-2.0-x\r\n", true), "probably an SSH client", "no-collector"),
        (answering(b"", true), "has not answered for 300ms", "no-answer"),
    ] {
        let sent = send(target, &["-", "--timeout", "300ms", "--format", "json"], text.as_bytes());
        assert_eq!(sent.code, 3, "{}", sent.notes);
        assert!(sent.notes.contains(expected), "{}", sent.notes);
        assert!(sent.notes.contains(&target.to_string()), "{}", sent.notes);
        let rows = sent.rows();
        assert_eq!((&rows[0]["state"], &rows[0]["cause"]), (&"unanswered".into(), &cause.into()));
    }
    let sent = send(answering(b"", false), &["-"], text.as_bytes());
    assert_eq!(sent.code, 1, "{}", sent.notes);
    assert!(sent.notes.contains("it is no collector"), "{}", sent.notes);
    for target in ["127.0.0.1", "127.0.0.1:0", ":30310"] {
        let file = bench.file("table.xml", text.as_bytes());
        let mut command = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
        let output = command.args(["send", &file, "--target", target]).output().unwrap();
        let notes = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{notes}");
        assert!(notes.contains("expected HOST:PORT, such as 127.0.0.1:30310"), "{notes}");
    }
    bench.finish();
}

#[test]
fn a_refused_session_says_where_its_cause_stands() {
    let text = document(R1, &[("10.1.0.0/16", "10.0.0.2")]);
    let elsewhere = "[[router]]\nid = \"192.0.2.1\"\nsources = [\"127.0.9.1/32\"]\n";
    for (settings, cause) in [
        ("allow = [\"127.0.9.0/24\"]\n", Cause::SourceRefused),
        (elsewhere, Cause::IdentityRefused),
    ] {
        // With the other router's address allowed, this one may connect and not speak for it.
        let allow =
            if cause == Cause::IdentityRefused { "allow = [\"127.0.0.0/8\"]\n" } else { "" };
        let mut bench = Bench::new(&format!("{allow}{settings}"));
        let sent = bench.send(&["-", "--format", "json"], text.as_bytes());
        assert_eq!(sent.code, 1, "{}", sent.notes);
        assert!(sent.notes.contains(cause.name()), "{}", sent.notes);
        assert_eq!(sent.rows()[0]["cause"], "session-refused");
        let line = bench
            .process
            .line(|line| message(line) == "rejected" && line["fields"]["cause"] == cause.name());
        let peer = line["fields"]["peer"].as_str().unwrap();
        assert!(sent.notes.contains(&format!("of peer {peer}")), "{peer}: {}", sent.notes);
        bench.finish();
    }
}
