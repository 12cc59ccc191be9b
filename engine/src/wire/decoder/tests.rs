//! Sessions of every input mode, whole and in pieces.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use storage::mapping::Mapping;

use super::*;
use crate::wire::frame::{FrameEncoder, encode_empty};
use crate::wire::hello::write_hello;
use crate::wire::xml::write::write_document;
use crate::wire::{Hello, WireLimits};

const NOW: Micros = Micros(1_700_000_000_000_000);

fn router() -> RouterId {
    RouterId("192.0.2.1".parse().unwrap())
}

fn hello() -> Hello {
    Hello {
        router: router(),
        boot_time: Micros(1_600_000_000_000_000),
        sequence_first: 1,
        sequence_fresh: 1,
        permanent: true,
        acks: true,
        snapshot: true,
        clock: NOW,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        agent: "test 1".into(),
    }
}

fn mapping(label: u32) -> Mapping {
    let text = format!(
        "<label-mappings><mapping timestamp='5.5'><fec type='ip' prefix='10.0.{}.{}'/>\
         <ingress label='{label}' origin='platform'/><operation type='swap'>\
         <nhlfe label='{label}' next-hop='10.0.0.2'/></operation></mapping></label-mappings>",
        label / 256 % 256,
        label % 256
    );
    let mut unit = Unit::new();
    read_document(text.as_bytes(), None, &WireLimits::default(), &mut unit).unwrap();
    unit.mappings.remove(0)
}

fn document_of(labels: std::ops::Range<u32>, snapshot: SnapshotMark) -> String {
    let mappings: Vec<Mapping> = labels.map(mapping).collect();
    let mut text = String::new();
    write_document(Some(router()), snapshot, &mappings, &mut text);
    text
}

fn frames() -> Vec<u8> {
    let mut encoder = FrameEncoder::new(1);
    let mut bytes = Vec::new();
    let mut text = String::new();
    write_hello(&hello(), &mut text);
    let flags = FrameFlags::NONE;
    encoder.frame(FrameType::Hello, Codec::None, flags, 0, text.as_bytes(), &mut bytes);
    let text = document_of(16..40, SnapshotMark::None);
    let flags = FrameFlags::SNAPSHOT_PART;
    encoder.frame(FrameType::Mappings, Codec::Zlib, flags, 1, text.as_bytes(), &mut bytes);
    let text = document_of(40..42, SnapshotMark::None);
    encoder.frame(FrameType::Mappings, Codec::None, flags, 2, text.as_bytes(), &mut bytes);
    encode_empty(FrameType::SnapshotComplete, 3, &mut bytes);
    encode_empty(FrameType::Keepalive, 0, &mut bytes);
    let text = document_of(42..43, SnapshotMark::None);
    let flags = FrameFlags::NONE;
    encoder.frame(FrameType::Mappings, Codec::None, flags, 4, text.as_bytes(), &mut bytes);
    encode_empty(FrameType::Bye, 0, &mut bytes);
    bytes
}

/// What a session came to: everything but how the bytes were split on their way.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Unit(UnitKind, Option<u64>, Option<RouterId>, SnapshotMark, Vec<Mapping>, usize),
    Rejected(Cause, Option<u64>),
    Broken(Cause),
    End,
}

/// Feeds `bytes` in pieces whose ends are `cuts`, as the shard does, and checks the accounting.
fn session(bytes: &[u8], cuts: &[usize]) -> Vec<Said> {
    let mut decoder = Decoder::new();
    let mut tools = Tools::new(WireLimits::default());
    let mut unit = Unit::new();
    let mut said = Vec::new();
    let mut start = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    for (index, end) in ends.iter().enumerate() {
        let is_last = index + 1 == ends.len();
        loop {
            let rest = &bytes[start..*end];
            let mut step = decoder.next(rest, NOW, &mut tools, &mut unit);
            if is_last && matches!(step, Step::Incomplete { .. }) {
                step = decoder.end(&bytes[start..], NOW, &mut tools, &mut unit);
                if step == (Step::Nothing { consumed: 0 }) {
                    said.push(Said::End);
                    return said;
                }
            }
            match step {
                Step::Incomplete { needed } => {
                    assert!(needed > rest.len(), "{needed} of {}", rest.len());
                    break;
                }
                Step::Nothing { consumed } => {
                    assert!(consumed > 0, "a step that neither moves nor waits");
                    start += consumed;
                }
                Step::Unit { consumed } => {
                    start += consumed;
                    said.push(Said::Unit(
                        unit.kind.clone(),
                        unit.sequence,
                        unit.router,
                        unit.snapshot,
                        unit.mappings.clone(),
                        unit.rejected.len(),
                    ));
                }
                Step::Rejected { consumed, rejection, sequence } => {
                    assert!(unit.mappings.is_empty(), "a rejected unit delivers nothing");
                    start += consumed;
                    said.push(Said::Rejected(rejection.cause, sequence));
                }
                Step::Broken { rejection } => {
                    said.push(Said::Broken(rejection.cause));
                    let again = decoder.next(rest, NOW, &mut tools, &mut unit);
                    assert!(matches!(again, Step::Broken { .. }), "broken is for ever");
                    return said;
                }
            }
            assert!(start <= *end, "more consumed than there was");
        }
    }
    said
}

fn labels(said: &[Said]) -> Vec<u32> {
    let mut labels = Vec::new();
    for said in said {
        if let Said::Unit(_, _, _, _, mappings, _) = said {
            labels.extend(mappings.iter().filter_map(|m| m.ingress.label).map(|l| l.value()));
        }
    }
    labels
}

#[test]
fn a_framed_session_is_read_however_its_bytes_come() {
    let bytes = frames();
    let said = session(&bytes, &[]);
    let (last, units) = said.split_last().unwrap();
    assert_eq!(*last, Said::End);
    let kinds: Vec<_> = units
        .iter()
        .map(|said| match said {
            Said::Unit(kind, sequence, _, snapshot, ..) => (kind.clone(), *sequence, *snapshot),
            other => panic!("{other:?}"),
        })
        .collect();
    let none = SnapshotMark::None;
    let part = SnapshotMark::Part;
    assert_eq!(
        kinds,
        [
            (UnitKind::Hello(hello()), None, none),
            (UnitKind::Mappings, Some(1), part),
            (UnitKind::Mappings, Some(2), part),
            (UnitKind::SnapshotComplete, Some(3), none),
            (UnitKind::Keepalive, None, none),
            (UnitKind::Mappings, Some(4), none),
            (UnitKind::Bye, None, none),
        ]
    );
    assert_eq!(labels(&said), (16..43).collect::<Vec<_>>());
    for cut in 0..bytes.len() {
        assert_eq!(session(&bytes, &[cut]), said, "cut at {cut}");
    }
    assert_eq!(session(&bytes, &(0..bytes.len()).collect::<Vec<_>>()), said);
}

fn compressed(mode: InputMode, text: &[u8]) -> Vec<u8> {
    if mode == InputMode::Gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }
}

#[test]
fn a_bare_session_is_read_however_its_bytes_come() {
    let first = document_of(16..19, SnapshotMark::None);
    let second = document_of(20..400, SnapshotMark::Whole);
    let plain = [first.as_bytes(), b"\n<!-- done -->\n", second.as_bytes()].concat();
    let (head, tail) = plain.split_at(plain.len() / 3);
    for mode in [InputMode::Plain, InputMode::Gzip, InputMode::Zlib] {
        // Two members, the second document across their border.
        let bytes = match mode {
            InputMode::Plain => plain.clone(),
            _ => [compressed(mode, head), compressed(mode, tail)].concat(),
        };
        let said = session(&bytes, &[]);
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(said[2], Said::End);
        assert_eq!(labels(&said), (16..19).chain(20..400).collect::<Vec<_>>());
        let whole = |said: &Said| matches!(said, Said::Unit(_, None, _, SnapshotMark::Whole, ..));
        assert!(whole(&said[1]) && !whole(&said[0]));
        assert_eq!(session(&bytes, &(0..bytes.len()).collect::<Vec<_>>()), said, "{mode:?}");
        // Cut short, the document that is not complete is rejected, and nothing else.
        let short = session(&bytes[..bytes.len() - 12], &[]);
        assert_eq!(short[..1], said[..1]);
        assert_eq!(short[short.len() - 2..], [Said::Rejected(Cause::Truncated, None), Said::End]);
    }
}
