//! The protocol from outside: its page, its schema, its examples, and a sender built from the page.
//!
//! In:   docs/PROTOCOL.md, docs/label-mapping.rng, docs/examples, tests/protocol/send.py.
//! Out:  nothing.
//! Law:  what the documents say is what the collector reads.
//! Not:  the collector's sockets: the acceptor here is a loop around the decoder.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use engine::wire::decoder::Decoder;
use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, encode_ack, encode_empty};
use engine::wire::xml::read_document;
use engine::wire::xml::write::write_document;
use engine::wire::{Hello, SnapshotMark, Step, Tools, Unit, UnitKind, WireLimits, hello};
use storage::interface::Interface;
use storage::mapping::Mapping;
use storage::row::Cause;
use storage::time::Micros;

use crate::process::{Process, Way, assert_sound, states};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A mapping in one line: key, FEC, operation and branches.
fn line(mapping: &Mapping) -> String {
    let branches: Vec<String> = mapping.branches.iter().map(ToString::to_string).collect();
    let Mapping { fec, operation, .. } = mapping;
    format!("{} | {fec} | {operation} {}", mapping.key(), branches.join(" "))
}

/// What every file of docs/examples says.
const EXAMPLES: [(&str, &[&str]); 12] = [
    (
        "extensions-r1",
        &[
            "ftn ip:192.0.2.3/32 | ip:192.0.2.3/32 | push \
             24@10.0.12.2%ge-0/0/0.0 to 192.0.2.2 35/24@%ge-0/0/1.0 to 192.0.2.4 (backup)",
            "ftn ip:10.9.9.0/24,7,from=198.51.100.0/24,tos=4 | \
             ip:10.9.9.0/24,7,from=198.51.100.0/24,tos=4 | discard ",
            "ftn vrf-name:red,10.1.0.0/16 | vrf-name:red,10.1.0.0/16 | push -@2001:db8::9 in srv6",
            "ftn interface:xe-0/0/1.100 | interface:xe-0/0/1.100 | push 40@fe80::1%ge-0/0/0.0",
            "ilm 300 platform,7 | name:rsvp,pe1-to-pe3 | swap untag@10.0.13.3*1 301@10.0.12.2*3",
            "ilm 302 platform | unknown | untag -@%Tu1",
        ],
    ),
    ("ecmp-r1", &["ftn ip:192.0.2.3/32 | ip:192.0.2.3/32 | push -@10.0.13.3 24/144@10.0.12.2"]),
    (
        "l3vpn-php-r1",
        &[
            "ftn vrf:192.0.2.3,65000:2 | vrf:192.0.2.3,65000:2 | push 13@recursive",
            "service 13 ip:192.0.2.3/32 | ip:192.0.2.3/32 | push 12@192.0.2.2",
        ],
    ),
    ("l3vpn-php-r2", &["ilm 12 platform | ip:192.0.2.3/32 | swap 3@192.0.2.3"]),
    ("l3vpn-php-r3", &["ilm 13 platform | vrf:192.0.2.3,65000:2 | pop -@fec"]),
    ("p2mp-r1", &["ftn ip:232.1.1.1/32 | ip:232.1.1.1/32 | push 12@192.0.2.2"]),
    ("p2mp-r2", &["ilm 12 192.0.2.1 | ip:232.1.1.1/32 | replicate 23@192.0.2.3 24@192.0.2.4"]),
    ("p2mp-r3", &["ilm 23 192.0.2.2 | ip:232.1.1.1/32 | pop -@fec"]),
    ("p2mp-r4", &["ilm 24 192.0.2.2 | ip:232.1.1.1/32 | pop -@fec"]),
    (
        "vpws-r1",
        &[
            "ftn ac:192.0.2.3,17 | ac:192.0.2.3,17 | push 13@recursive",
            "service 13 ip:192.0.2.3/32 | ip:192.0.2.3/32 | push 12@192.0.2.2",
        ],
    ),
    ("vpws-r2", &["ilm 12 platform | ip:192.0.2.3/32 | swap 23@192.0.2.3"]),
    (
        "vpws-r3",
        &[
            "ilm 23 platform | ip:192.0.2.3/32 | pop -@recursive",
            "ilm 13 platform | ac:192.0.2.3,17 | pop -@fec",
        ],
    ),
];

#[test]
fn the_examples_say_what_the_draft_says() {
    let files = std::fs::read_dir(folder("../docs/examples")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let count = names.filter(|name| name.ends_with(".xml")).count();
    assert_eq!(count, EXAMPLES.len(), "every example is here, and no other");
    for (name, expected) in EXAMPLES {
        let text = std::fs::read(folder(&format!("../docs/examples/{name}.xml"))).unwrap();
        let mut unit = Unit::new();
        read_document(&text, None, &WireLimits::default(), &mut unit).unwrap();
        let lines: Vec<String> = unit.mappings.iter().map(line).collect();
        assert_eq!(lines, expected, "{name}");
        assert!(unit.rejected.is_empty(), "{name}: {:?}", unit.rejected);
        let router = name.rsplit_once("-r").map(|(_, number)| format!("192.0.2.{number}"));
        assert_eq!(unit.router.map(|router| router.to_string()), router, "{name}");
        let is_drafts_time =
            |mapping: &Mapping| mapping.event_time == Micros(1_286_724_601_674_842);
        assert!(unit.mappings.iter().all(is_drafts_time), "{name}");
    }
}

#[test]
fn the_page_explains_every_cause() {
    let page = std::fs::read_to_string(folder("../docs/PROTOCOL.md")).unwrap();
    for cause in Cause::ALL {
        assert!(page.contains(&format!("`{}`", cause.name())), "{} is missing", cause.name());
    }
}

#[test]
fn the_pages_own_documents_are_read() {
    let page = std::fs::read_to_string(folder("../docs/PROTOCOL.md")).unwrap();
    let samples: Vec<&str> =
        page.split("```xml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(samples.len(), 2, "a hello and a table");
    let hello = hello::read_hello(samples[0].as_bytes(), &WireLimits::default()).unwrap();
    assert_eq!((hello.sequence_first, hello.sequence_fresh, hello.interfaces.len()), (41, 44, 2));
    let mut unit = Unit::new();
    read_document(samples[1].as_bytes(), None, &WireLimits::default(), &mut unit).unwrap();
    assert_eq!((unit.mappings.len(), unit.rejected.len()), (2, 0));
    let mut written = String::new();
    write_document(unit.router, SnapshotMark::None, &unit.mappings, &mut written);
    assert_eq!(written, samples[1], "the page shows the canonical spelling");
}

#[test]
fn the_pages_frames_are_what_the_encoder_writes() {
    let page = std::fs::read_to_string(folder("../docs/PROTOCOL.md")).unwrap();
    let samples: Vec<Vec<u8>> = page
        .split("```hex\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .map(|text| text.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()).collect())
        .collect();
    let (mut bye, mut part) = (Vec::new(), Vec::new());
    encode_empty(FrameType::Bye, 0, &mut bye);
    let flags = FrameFlags::SNAPSHOT_PART;
    let text = b"<label-mappings/>";
    FrameEncoder::new(1).frame(FrameType::Mappings, Codec::None, flags, 7, text, &mut part);
    assert_eq!(samples, [bye, part]);
}

#[test]
fn what_is_written_is_valid_by_the_schema() {
    if Command::new("xmllint").arg("--version").stderr(Stdio::null()).status().is_err() {
        eprintln!("NOT CHECKED: xmllint is not installed (Debian: libxml2-utils)");
        return;
    }
    let folder_out = tempfile::tempdir().unwrap();
    let mut unit = Unit::new();
    for (name, _) in EXAMPLES {
        let text = std::fs::read(folder(&format!("../docs/examples/{name}.xml"))).unwrap();
        std::fs::write(folder_out.path().join(format!("{name}.xml")), &text).unwrap();
        let mut other = Unit::new();
        read_document(&text, None, &WireLimits::default(), &mut other).unwrap();
        unit.mappings.append(&mut other.mappings);
    }
    for (index, mark) in
        [SnapshotMark::None, SnapshotMark::Part, SnapshotMark::Whole].iter().enumerate()
    {
        let mut text = String::new();
        write_document("2001:db8::1".parse().ok(), *mark, &unit.mappings, &mut text);
        std::fs::write(folder_out.path().join(format!("written-{index}.xml")), text).unwrap();
    }
    let mut text = String::new();
    hello::write_hello(&hello_of_a_test(), &mut text);
    std::fs::write(folder_out.path().join("hello.xml"), text).unwrap();
    let validate = |path: &Path| {
        let schema = folder("../docs/label-mapping.rng");
        let arguments = [Path::new("--noout"), Path::new("--relaxng"), &schema, path];
        let output = Command::new("xmllint").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for entry in std::fs::read_dir(folder_out.path()).unwrap() {
        let (is_valid, said) = validate(&entry.unwrap().path());
        assert!(is_valid, "{said}");
    }
    let wrong = folder_out.path().join("wrong.xml");
    let text = std::fs::read_to_string(folder("../docs/examples/p2mp-r2.xml")).unwrap();
    std::fs::write(&wrong, text.replace("label=\"12\"", "label=\"1048576\"")).unwrap();
    assert!(!validate(&wrong).0, "the schema must be able to refuse");
    let text = std::fs::read_to_string(folder("../docs/examples/extensions-r1.xml")).unwrap();
    for (right, mistaken) in [
        ("role=\"backup\"", "backup=\"true\""),
        ("<operation type=\"discard\"/>", "<operation type=\"drop\"/>"),
        ("kind=\"rsvp\" ", ""),
        ("origin=\"platform\" table=\"7\"", "origin=\"service\" table=\"7\""),
        ("weight=\"3\"", "weight=\"0\""),
        ("strip=\"all\"", "strip=\"top\""),
    ] {
        assert!(text.contains(right), "{right}");
        let text = text.replace(right, mistaken);
        std::fs::write(&wrong, &text).unwrap();
        assert!(!validate(&wrong).0, "{mistaken}");
        let mut unit = Unit::new();
        read_document(text.as_bytes(), None, &WireLimits::default(), &mut unit).unwrap();
        assert_eq!(unit.rejected.len(), 1, "{mistaken}");
    }
}

fn hello_of_a_test() -> Hello {
    Hello {
        router: "192.0.2.1".parse().unwrap(),
        boot_time: Micros(1_600_000_000_000_000),
        sequence_first: 1,
        sequence_fresh: 3,
        permanent: true,
        acks: true,
        snapshot: false,
        clock: Micros(1_700_000_000_000_000),
        interfaces: ["10.0.0.1", "2001:db8::1"]
            .map(|text| Interface::of_address(text.parse().unwrap()))
            .into(),
        agent: "test <1>".into(),
    }
}

/// What one framed session said.
#[derive(Debug, Default)]
struct Heard {
    hellos: Vec<Hello>,
    kinds: Vec<(UnitKind, Option<u64>, SnapshotMark)>,
    labels: Vec<u32>,
    has_ended: bool,
}

/// Reads a framed session to its end and acknowledges every counted frame.
fn hear(mut connection: TcpStream) -> Heard {
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut decoder = Decoder::new();
    let mut tools = Tools::new(WireLimits::default());
    let (mut unit, mut heard, mut bytes) = (Unit::new(), Heard::default(), Vec::new());
    let now = Micros(1_700_000_000_000_000);
    loop {
        match decoder.next(&bytes, now, &mut tools, &mut unit) {
            Step::Incomplete { .. } => {
                let mut buffer = [0; 1_000];
                let length = connection.read(&mut buffer).unwrap();
                if length == 0 {
                    let step = decoder.end(&bytes, now, &mut tools, &mut unit);
                    heard.has_ended = step == Step::Nothing { consumed: 0 };
                    return heard;
                }
                bytes.extend_from_slice(&buffer[..length]);
            }
            Step::Nothing { consumed } => drop(bytes.drain(..consumed)),
            Step::Unit { consumed } => {
                bytes.drain(..consumed);
                assert_eq!(unit.rejected, []);
                if let Some(sequence) = unit.sequence {
                    let mut ack = Vec::new();
                    encode_ack(sequence, &mut ack);
                    connection.write_all(&ack).unwrap();
                }
                let labels = unit.mappings.iter().filter_map(|mapping| mapping.ingress.label);
                heard.labels.extend(labels.map(|label| label.value()));
                match &unit.kind {
                    UnitKind::Hello(hello) => heard.hellos.push(hello.clone()),
                    kind => heard.kinds.push((kind.clone(), unit.sequence, unit.snapshot)),
                }
            }
            step @ (Step::Rejected { .. } | Step::Broken { .. }) => panic!("{step:?}"),
        }
    }
}

#[test]
fn a_sender_written_from_the_page_alone_is_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let sender = Command::new("python3")
        .arg(folder("tests/protocol/send.py"))
        .args(["127.0.0.1", &port, "192.0.2.7", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = hear(listener.accept().unwrap().0);
    let output = sender.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "100 mappings of 192.0.2.7 are durable\n");
    let [hello] = &heard.hellos[..] else { panic!("{:?}", heard.hellos) };
    assert_eq!(hello.router, "192.0.2.7".parse().unwrap());
    assert!(hello.acks && hello.snapshot && !hello.permanent);
    assert_eq!(
        heard.kinds,
        [
            (UnitKind::Mappings, Some(1), SnapshotMark::Part),
            (UnitKind::Mappings, Some(2), SnapshotMark::Part),
            (UnitKind::SnapshotComplete, Some(3), SnapshotMark::None),
            (UnitKind::Bye, None, SnapshotMark::None),
        ]
    );
    assert_eq!(heard.labels, (1_000..1_100).collect::<Vec<_>>());
    assert!(heard.has_ended);
}

#[test]
fn a_sender_written_from_the_page_alone_reaches_the_disk() {
    for way in Way::all() {
        let folder_out = tempfile::tempdir().unwrap();
        let data = folder_out.path().join("data");
        let mut process = Process::start(way, &data, "");
        let port = process.listen.port().to_string();
        let output = Command::new("python3")
            .arg(folder("tests/protocol/send.py"))
            .args(["127.0.0.1", &port, "192.0.2.7", "300"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{way:?}: {}", String::from_utf8_lossy(&output.stderr));
        // Its last ack came: what it sent is durable, and can be read beside the collector.
        let states = states(&data);
        let state = states.get(&"192.0.2.7".parse().unwrap()).expect("the router has rows");
        assert_eq!(state.table.len(), 300);
        assert!(process.terminate().success());
        assert_sound(&data);
    }
}
