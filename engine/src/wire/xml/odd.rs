//! Odd inputs: canonical documents, and thousands of ways in which they can be spoilt.
//!
//! In:   documents that show every part of the canonical spelling.
//! Out:  agreement: the scanner leaves a document to the full reader, or says what that says.
//! Law:  no byte, cut or repeated part makes the two readers disagree.
//! Not:  rejections and their causes (`tests`).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Every kind of FEC, ingress, operation, stack and next hop, in the two ways of laying them out.
const DOCUMENTS: [&str; 4] = [
    concat!(
        "<label-mappings xmlns=\"urn:stormdrain:label-mapping:1\" router-id=\"192.0.2.1\">\n",
        "<mapping timestamp=\"1286724601.674842\"><fec type=\"ip\" prefix=\"10.1.2.0/24\"/>",
        "<ingress label=\"16\" origin=\"platform\"/><operation type=\"swap\">",
        "<nhlfe label=\"1048575\" next-hop=\"192.0.2.200\"/></operation></mapping>\n",
        "<mapping timestamp=\"1286724601.000001\"><fec type=\"ip\" prefix=\"0.0.0.0/0\"/>",
        "<ingress label=\"-1\" origin=\"untagged\"/><operation type=\"push\">",
        "<nhlfe label=\"17\" next-hop=\"192.0.2.2\"/><nhlfe label=\"16 18\" next-hop=\"192.0.2.3\"/>",
        "<nhlfe label=\"17\" next-hop=\"192.0.2.2\" weight=\"3\"/></operation></mapping>\n",
        "</label-mappings>\n",
    ),
    concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<label-mappings xmlns=\"urn:stormdrain:label-mapping:1\" snapshot=\"complete\">\n",
        "<mapping timestamp=\"0\"><fec type=\"vrf\" loopback=\"192.0.2.3\" rd=\"65000:2\"/>",
        "<ingress label=\"24\" origin=\"service\"/><operation type=\"push\">",
        "<nhlfe label=\"12\" next-hop=\"recursive\"/></operation></mapping>\n",
        "<mapping timestamp=\"9999999999.999999\"><fec type=\"vrf\" loopback=\"2001:db8::3\" ",
        "rd=\"192.0.2.1:7\" prefix=\"2001:db8::/32\"/><ingress label=\"25\" origin=\"192.0.2.9\"/>",
        "<operation type=\"pop\"><nhlfe label=\"-1\" next-hop=\"fec\"/></operation>",
        "<option name=\"snmp-in-index\">12</option></mapping>\n",
        "</label-mappings>",
    ),
    concat!(
        "<label-mappings xmlns=\"urn:stormdrain:label-mapping:1\">\n",
        "<mapping timestamp=\"5.5\"><fec type=\"vsi\" loopback=\"192.0.2.3/32\" pw-id=\"17\"/>",
        "<ingress label=\"3\" origin=\"platform\"/><operation type=\"none\"/></mapping>\n",
        "<mapping timestamp=\"2010/10/10 15:30:01.674842\"><fec type=\"ac\" loopback=\"192.0.2.4\" ",
        "pw-id=\"4294967295\"/><ingress label=\"0000099\" origin=\"platform\"/>",
        "<operation type=\"replicate\"><nhlfe label=\"-1\" next-hop=\"10.0.0.1/32\"/>",
        "<nhlfe label=\"24 144 16\" next-hop=\"::1\"/></operation></mapping>\n",
        "<mapping timestamp=\"1286724602.5\"><fec type=\"unknown\"/>",
        "<ingress label=\"1\" origin=\"platform\"/><operation type=\"none\">",
        "<nhlfe label=\"9\" next-hop=\"fec\"/></operation></mapping>\n",
        "<mapping timestamp=\"1286724602.5\"><fec type=\"ip\" prefix=\"10.0.0.1\" table=\"254\"/>",
        "<ingress label=\"2\" origin=\"PLATFORM\"/><operation type=\"Swap\">",
        "<nhlfe label=\"7\" next-hop=\"FEC\"/></operation></mapping>\n",
        "</label-mappings>\n",
    ),
    concat!(
        "<label-mappings xmlns=\"urn:stormdrain:label-mapping:1\" router-id=\"192.0.2.1\">\r\n",
        "  <mapping timestamp=\"1286724601.674842\">\n    <fec type=\"ip\" prefix=\"10.1.2.3/8\"/>\n",
        "    <ingress label=\"16\" origin=\"platform\"/>\n\t<operation type=\"swap\">\n",
        "      <nhlfe label=\"17\" next-hop=\"192.0.2.2\"/>\n",
        "      <nhlfe label=\"18\" next-hop=\"192.0.2.3\" weight=\"1\"/>\n",
        "    </operation>\n    <option name=\"a\">b</option>\n  </mapping>\n\n</label-mappings>\n",
    ),
];

/// Bytes that mean something somewhere, and some that mean nothing anywhere.
const BYTES: &[u8] = b"\0\t \"&'-./019:<>AapZ]\x7f\xb1\xff";

const LIMITS: WireLimits = WireLimits {
    frame_bytes_max: 4 << 20,
    inflated_bytes_max: 64 << 20,
    inflate_ratio_max: 200,
    xml_depth_max: 16,
    xml_attributes_max: 64,
};

/// Whether the scanner reads the document; what it says must be what the full reader says.
fn agreed(text: &[u8]) -> bool {
    let mut fast = Unit::new();
    fast.kind = UnitKind::Mappings;
    if !scan::scan(text, &LIMITS, &mut fast) {
        return false;
    }
    let mut slow = Unit::new();
    slow.kind = UnitKind::Mappings;
    let shown = String::from_utf8_lossy(text);
    let read = read::read(text, None, &LIMITS, &mut slow);
    assert_eq!(read, Ok(()), "the scanner lets pass: {shown:?}");
    assert_eq!(fast.mappings, slow.mappings, "{shown:?}");
    assert_eq!((fast.router, fast.snapshot), (slow.router, slow.snapshot), "{shown:?}");
    assert_eq!(slow.rejected, [], "{shown:?}");
    true
}

#[test]
fn documents_in_either_layout_are_scanned() {
    for text in DOCUMENTS {
        assert!(agreed(text.as_bytes()), "{text}");
    }
    for label in ["", " 17", "17 ", "00000017", "17  18"] {
        let text = DOCUMENTS[0].replace("\"17\"", &format!("\"{label}\""));
        assert!(!agreed(text.as_bytes()), "a spelling that is the full reader's: {text}");
    }
}

#[test]
fn no_byte_in_place_of_another_is_misread() {
    let (mut scanned, mut left) = (0_usize, 0_usize);
    for text in DOCUMENTS {
        let mut bytes = text.as_bytes().to_vec();
        for at in 0..bytes.len() {
            let before = bytes[at];
            for &byte in BYTES {
                bytes[at] = byte;
                *(if agreed(&bytes) { &mut scanned } else { &mut left }) += 1;
            }
            bytes[at] = before;
        }
    }
    // Digits for digits and spaces for spaces pass, and little else.
    assert!(scanned > 1_000 && left > 10_000, "{scanned} scanned, {left} left");
}

#[test]
fn no_document_that_is_cut_is_scanned() {
    for text in DOCUMENTS {
        let whole = text.trim_end().len();
        for end in 0..whole {
            assert!(!agreed(&text.as_bytes()[..end]), "{}", &text[..end]);
        }
    }
}

/// One of the documents, with up to four parts flipped, cut out, repeated, or put elsewhere.
fn spoilt(seed: u64) -> Vec<u8> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut text = DOCUMENTS[chance.random_range(0..DOCUMENTS.len())].as_bytes().to_vec();
    for _ in 0..chance.random_range(1..5) {
        let start = chance.random_range(0..text.len());
        let end = text.len().min(start + chance.random_range(1..80));
        let part = text[start..end].to_vec();
        let to = chance.random_range(0..text.len());
        match chance.random_range(0..5) {
            0 => text[start] ^= 1 << chance.random_range(0..8),
            1 => text[start] = BYTES[chance.random_range(0..BYTES.len())],
            2 if part.len() < text.len() => drop(text.drain(start..end)),
            3 => drop(text.splice(end..end, part)),
            _ => drop(text.splice(to..to, part)),
        }
    }
    text
}

/// A whole mapping, element or attribute put in place of another: what stays canonical.
fn exchanged(seed: u64) -> Vec<u8> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let part = |chance: &mut ChaCha8Rng| {
        let (text, mark) = (DOCUMENTS[chance.random_range(0..4)], chance.random_range(0..3));
        let mark = ["\"", "<", "/>"][mark];
        let places: Vec<usize> = text.match_indices(mark).map(|(at, _)| at).collect();
        let first = chance.random_range(0..places.len() - 1);
        (text, places[first], places[first + 1])
    };
    let (text, start, end) = part(&mut chance);
    let (other, from, to) = part(&mut chance);
    [&text[..start], &other[from..to], &text[end..]].concat().into_bytes()
}

#[test]
fn no_document_that_is_spoilt_is_misread() {
    let scanned = (0..6_000).filter(|seed| agreed(&spoilt(*seed))).count();
    assert!(scanned > 20, "{scanned} of the spoilt ones are still canonical");
    let scanned = (0..6_000).filter(|seed| agreed(&exchanged(*seed))).count();
    assert!(scanned > 100, "{scanned} of the exchanged ones are still canonical");
}
