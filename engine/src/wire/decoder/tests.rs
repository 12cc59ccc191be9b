//! Sessions of every input mode, whole and in pieces.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::prelude::{ProptestConfig, any};
use proptest::sample::Index;
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
        interfaces: vec![storage::interface::Interface::of_address("10.0.0.1".parse().unwrap())],
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
    /// And how many bytes had been taken before, all others of which count as rejected: of a
    /// compressed stream 0 is said, because how far it was inflated depends on what had come.
    Broken(Cause, usize),
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
                    let is_compressed =
                        matches!(decoder.mode(), Some(InputMode::Gzip | InputMode::Zlib));
                    said.push(Said::Broken(rejection.cause, if is_compressed { 0 } else { start }));
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

fn fpm_frame(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 4).unwrap();
    [&[1, 1], &length.to_be_bytes()[..], payload].concat()
}

/// Two label routes, one frame each: RTM_NEWROUTE, AF_MPLS, RTA_DST and RTA_OIF.
fn fpm_session() -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in [17_u32, 18] {
        let entry = label << 12 | 1 << 8;
        let mut message = Vec::new();
        message.extend_from_slice(&44_u32.to_le_bytes());
        message.extend_from_slice(&24_u16.to_le_bytes());
        message.extend_from_slice(&[0; 10]);
        message.extend_from_slice(&[28, 20, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0]);
        message.extend_from_slice(&[8, 0, 1, 0]);
        message.extend_from_slice(&entry.to_be_bytes());
        message.extend_from_slice(&[8, 0, 4, 0, 2, 0, 0, 0]);
        bytes.extend(fpm_frame(&message));
    }
    bytes
}

#[test]
fn an_fpm_session_is_read_however_its_bytes_come() {
    let bytes = fpm_session();
    let said = session(&bytes, &[]);
    assert_eq!(labels(&said), [17, 18], "{said:?}");
    assert_eq!(said.last(), Some(&Said::End));
    for cut in 0..bytes.len() {
        assert_eq!(session(&bytes, &[cut]), said, "cut at {cut}");
    }
    let short = session(&bytes[..bytes.len() - 1], &[]);
    assert_eq!(short[1..], [Said::Rejected(Cause::Truncated, None), Said::End]);
    let damaged = [&bytes[..], &[2, 1, 0, 8]].concat();
    assert_eq!(session(&damaged, &[])[2..], [Said::Broken(Cause::FpmMalformed, bytes.len())]);
}

/// The frames of `frames`, with one changed by `damage` after its hello.
fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> Vec<Said> {
    let mut encoder = FrameEncoder::new(1);
    let mut text = String::new();
    write_hello(&hello(), &mut text);
    let mut bytes = Vec::new();
    let none = FrameFlags::NONE;
    encoder.frame(FrameType::Hello, Codec::None, none, 0, text.as_bytes(), &mut bytes);
    let text = document_of(16..40, SnapshotMark::None);
    let mut second = Vec::new();
    encoder.frame(FrameType::Mappings, Codec::Zlib, none, 1, text.as_bytes(), &mut second);
    damage(&mut second);
    bytes.extend(second);
    encode_empty(FrameType::Bye, 0, &mut bytes);
    session(&bytes, &[]).split_off(1)
}

/// Changes the header and makes its checksum right again.
fn with_header(frame: &mut [u8], change: impl FnOnce(&mut Header)) {
    let mut header = Header::read(frame.first_chunk().unwrap()).unwrap();
    change(&mut header);
    frame[..HEADER_BYTES].copy_from_slice(&header.write());
}

#[test]
fn a_damaged_frame_is_rejected_and_the_next_one_is_read() {
    let bye = Said::Unit(UnitKind::Bye, None, None, SnapshotMark::None, vec![], 0);
    let rejected = |cause, sequence| vec![Said::Rejected(cause, sequence), bye.clone(), Said::End];
    let last = |frame: &mut Vec<u8>| *frame.last_mut().unwrap() ^= 1;
    assert_eq!(damaged(last), rejected(Cause::FrameChecksum, Some(1)));
    let one = |change: fn(&mut Header)| damaged(|frame| with_header(frame, change));
    assert_eq!(one(|h| h.codec_code = 2), rejected(Cause::FrameCodec, Some(1)));
    assert_eq!(one(|h| h.type_code = 6), rejected(Cause::FrameType, None));
    assert_eq!(one(|h| h.type_code = 99), rejected(Cause::FrameType, None));
    assert_eq!(one(|h| h.type_code = 3), rejected(Cause::FrameLength, Some(1)));
    assert_eq!(one(|h| h.type_code = 1), rejected(Cause::HelloInvalid, None));
    assert_eq!(one(|h| h.inflated_bytes += 1), rejected(Cause::FrameLength, Some(1)));
    assert_eq!(one(|h| h.inflated_bytes = u32::MAX), rejected(Cause::InflateTooLong, Some(1)));
    assert_eq!(one(|h| h.codec_code = 0), rejected(Cause::FrameLength, Some(1)));
    assert_eq!(one(|h| h.sequence = 0), rejected(Cause::SequenceBroken, None));
    let no_zlib = |frame: &mut Vec<u8>| {
        frame[HEADER_BYTES] ^= 0xff;
        let payload_crc = crc_fast::crc32_iscsi(&frame[HEADER_BYTES..]);
        with_header(frame, |header| header.payload_crc = payload_crc);
    };
    assert_eq!(damaged(no_zlib), rejected(Cause::InflateFailed, Some(1)));
}

#[test]
fn a_lost_boundary_breaks_the_session() {
    let mut text = String::new();
    write_hello(&hello(), &mut text);
    let greeting = HEADER_BYTES + text.len();
    assert_eq!(damaged(|frame| frame[0] = b'X'), [Said::Broken(Cause::FrameMagic, greeting)]);
    assert_eq!(damaged(|frame| frame[17] ^= 1), [Said::Broken(Cause::FrameChecksum, greeting)]);
    let long = |frame: &mut Vec<u8>| with_header(frame, |h| h.payload_bytes = (4 << 20) + 1);
    assert_eq!(damaged(long), [Said::Broken(Cause::FrameTooLong, greeting)]);
    let mut bye = Vec::new();
    encode_empty(FrameType::Bye, 0, &mut bye);
    assert_eq!(session(&bye, &[]), [Said::Broken(Cause::HelloInvalid, 0)]);
    assert_eq!(session(b"GET / HTTP/1.1", &[]), [Said::Broken(Cause::ModeUnknown, 0)]);
    let said = session(b"<label-mappings/> and more", &[]);
    assert_eq!(said[1..], [Said::Broken(Cause::XmlMalformed, 18)]);
    let mut gzip = compressed(InputMode::Gzip, b"<label-mappings/>");
    gzip.extend_from_slice(b"rubbish");
    assert_eq!(session(&gzip, &[])[1..], [Said::Broken(Cause::InflateFailed, 0)]);
}

/// Padding that a session was found to have, and what it came to.
fn padded(bytes: &[u8]) -> (u64, Vec<Said>) {
    let (mut decoder, mut tools) = (Decoder::new(), Tools::new(WireLimits::default()));
    let (mut unit, mut start, mut padding) = (Unit::new(), 0, 0);
    loop {
        let step = decoder.next(&bytes[start..], NOW, &mut tools, &mut unit);
        padding += decoder.take_padding();
        match step {
            Step::Unit { consumed } | Step::Nothing { consumed } => start += consumed,
            _ => break,
        }
    }
    (padding, session(bytes, &[]))
}

#[test]
fn padding_behind_a_table_leaves_it_as_it_is() {
    let text = document_of(16..19, SnapshotMark::Whole);
    for mode in [InputMode::Plain, InputMode::Gzip, InputMode::Zlib] {
        let table = |padding: &[u8]| match mode {
            InputMode::Plain => [text.as_bytes(), padding].concat(),
            mode => compressed(mode, &[text.as_bytes(), padding].concat()),
        };
        for (inside, behind) in [
            (&b"\0"[..], &b""[..]),
            (b"\x1a", b""),
            (b"\n]]>]]>\n", b""),
            (b"\0\0\r\n\x1a", b""),
            (b"", b"\0\0\0\0"),
            (b"", b"\x1a"),
        ] {
            let bytes = [&table(inside)[..], behind].concat();
            let expected = [inside, behind].concat();
            let expected = expected.iter().filter(|byte| !byte.is_ascii_whitespace()).count();
            let (padding, said) = padded(&bytes);
            assert_eq!(padding, expected as u64, "{mode:?} {inside:?} {behind:?}");
            assert_eq!((labels(&said), said.len()), (vec![16, 17, 18], 2), "{mode:?} {behind:?}");
        }
        // Another member, or document, may follow it.
        let two = [&table(b"")[..], b"\0\0", &table(b"")].concat();
        assert_eq!(labels(&session(&two, &[])), [16, 17, 18, 16, 17, 18], "{mode:?}");
    }
    let mut gzip = compressed(InputMode::Gzip, text.as_bytes());
    gzip.extend_from_slice(b"\0rubbish");
    let mut decoder = Decoder::new();
    let (mut tools, mut unit) = (Tools::new(WireLimits::default()), Unit::new());
    let Step::Unit { consumed } = decoder.next(&gzip, NOW, &mut tools, &mut unit) else { panic!() };
    let Step::Broken { rejection } = decoder.next(&gzip[consumed..], NOW, &mut tools, &mut unit)
    else {
        panic!()
    };
    assert!(rejection.detail.contains("found `rubbish`"), "{}", rejection.detail);
}

#[test]
fn a_zlib_stream_is_read_whatever_its_window() {
    let text = document_of(16..17, SnapshotMark::Whole);
    for window in 0..=7_u8 {
        let mut bytes = compressed(InputMode::Zlib, text.as_bytes());
        // The header alone says how large it is: the compressed data are the same.
        let method = window << 4 | 8;
        let flags = (0..=0x1f).find(|flags| (u32::from(method) << 8 | flags).is_multiple_of(31));
        (bytes[0], bytes[1]) = (method, flags.unwrap() as u8);
        let said = session(&bytes, &[1]);
        let is_read = labels(&said) == [16];
        assert!(is_read, "{window}: {said:?}");
    }
}

#[test]
fn a_unit_that_is_too_long_names_the_setting_and_the_ways_out() {
    let limits =
        WireLimits { frame_bytes_max: 99, inflated_bytes_max: 99, ..WireLimits::default() };
    let text = document_of(16..40, SnapshotMark::Whole);
    let said = |bytes: &[u8]| {
        let (mut tools, mut unit) = (Tools::new(limits), Unit::new());
        match Decoder::new().next(bytes, NOW, &mut tools, &mut unit) {
            Step::Broken { rejection } => rejection.detail,
            step => panic!("{step:?}"),
        }
    };
    let plain = said(text.as_bytes());
    for word in ["99 bytes", "gzip", "parts", "frame_bytes_max"] {
        assert!(plain.contains(word), "{word}: {plain}");
    }
    let gzip = said(&compressed(InputMode::Gzip, text.as_bytes()));
    assert!(gzip.contains("parts") && gzip.contains("inflated_bytes_max"), "{gzip}");
    let framed = said(&frames());
    assert!(framed.contains("frame_bytes_max"), "{framed}");
}

#[test]
fn a_rejected_document_leaves_the_next_one_alone() {
    let good = document_of(16..19, SnapshotMark::None);
    let text = [&good, "<label-mappings><mapping></label-mappings></label-mappings>", &good];
    for mode in [InputMode::Plain, InputMode::Gzip] {
        let text = text.concat();
        let bytes = if mode == InputMode::Plain {
            text.into_bytes()
        } else {
            compressed(mode, text.as_bytes())
        };
        let said = session(&bytes, &[]);
        assert_eq!(said[1], Said::Rejected(Cause::XmlMalformed, None));
        assert_eq!((labels(&said), said.len()), (vec![16, 17, 18, 16, 17, 18], 4), "{mode:?}");
    }
}

#[test]
fn a_bomb_in_a_bare_stream_ends_the_session_in_bounded_memory() {
    let spaces = vec![b' '; 32 << 20];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&[b"<label-mappings>", &spaces[..]].concat()).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 100 << 10, "the test needs a high ratio");
    let mut decoder = Decoder::new();
    let mut tools = Tools::new(WireLimits::default());
    let mut unit = Unit::new();
    let step = decoder.next(&bomb, NOW, &mut tools, &mut unit);
    let Step::Broken { rejection } = step else { panic!("{step:?}") };
    assert_eq!(rejection.cause, Cause::InflateTooLong);
    // What was inflated until then went with it.
    assert_eq!(decoder.held_bytes(), 0);
    // Slowly enough for the ratio, too long for one document.
    let limits = WireLimits { inflated_bytes_max: 1 << 20, ..WireLimits::default() };
    let mut tools = Tools::new(limits);
    let mut decoder = Decoder::new();
    let text = [b"<label-mappings>", &spaces[..2 << 20]].concat();
    let step = decoder.next(&compressed(InputMode::Zlib, &text), NOW, &mut tools, &mut unit);
    let Step::Broken { rejection } = step else { panic!("{step:?}") };
    assert_eq!(rejection.cause, Cause::InflateTooLong);
}

/// A session of any mode, and of none.
fn some_session(mode: usize) -> Vec<u8> {
    let first = document_of(16..19, SnapshotMark::None);
    let text = [&first, "<!-- x -->\n<label-mappings a='&#x0;'/>", &first].concat();
    match mode {
        0 => frames(),
        1 => text.into_bytes(),
        2 => compressed(InputMode::Gzip, text.as_bytes()).repeat(2),
        3 => compressed(InputMode::Zlib, text.as_bytes()),
        4 => fpm_session(),
        _ => Vec::new(),
    }
}

/// So many cases, and no file written when one fails: the message holds the case.
fn quiet(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest::proptest! {
    #![proptest_config(quiet(300))]

    /// Whatever comes: no panic, no endless loop, and the same however it is cut.
    #[test]
    fn what_is_read_does_not_depend_on_how_the_bytes_are_split(
        mode in 0_usize..6,
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        rubbish in proptest::collection::vec(any::<u8>(), 0..40),
        end in any::<Index>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut bytes = some_session(mode);
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if end.index(2) == 0 {
            bytes.extend(&rubbish);
        } else {
            bytes.truncate(end.index(bytes.len() + 1));
        }
        let whole = session(&bytes, &[]);
        proptest::prop_assert_eq!(session(&bytes, &cuts), whole.clone());
        let each: Vec<usize> = (0..bytes.len()).collect();
        proptest::prop_assert_eq!(session(&bytes, &each), whole);
    }
}
