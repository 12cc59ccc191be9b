//! Labels, dotted quads and instants, read eight bytes at a time.
//!
//! In:   a window of the document that begins where the value begins, and is longer than it.
//! Out:  the value and its length in bytes, or `None` for what is not spelt in the usual way.
//! Law:  what is read here is read alike by `value`; what is not may still be right there.
//! Not:  what stands behind the value (`scan`).

use std::net::Ipv4Addr;

use storage::time::{MICROS_PER_SECOND, Micros};

/// The same byte in each of the eight.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Bytes that a dotted quad is read from: fifteen, the one behind, and what the last load reaches.
pub(super) const QUAD_WINDOW_BYTES: usize = 20;
/// Bytes that an instant is read from: ten digits, a point, six digits, and the closing quote.
pub(super) const INSTANT_WINDOW_BYTES: usize = 18;

/// The highest bit of each byte of `digits` that is above 9, where the bytes of a text have been
/// made digits by an exclusive or with `0`.
const fn above_nine(digits: u64) -> u64 {
    // Seven bits of a byte and 0x76 stay within the byte, and reach its highest bit from 10 on.
    (((digits & each(0x7f)) + each(0x76)) | digits) & each(0x80)
}

/// Eight digits, the first of them in the lowest byte, as a number.
const fn eight_digits(digits: u64) -> u64 {
    // Pairs of digits, then of pairs, then of those: no sum leaves its field.
    let pairs = digits * 10 + (digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// A number of one to seven digits.
#[inline]
pub(super) fn number(window: &[u8; 8]) -> Option<(u32, usize)> {
    let digits = u64::from_le_bytes(*window) ^ each(b'0');
    let end_bits = above_nine(digits).trailing_zeros();
    // The bit found is the eighth of its byte: 7 means no digit at all, 64 means eight of them.
    if !(15..64).contains(&end_bits) {
        return None;
    }
    let length_bits = end_bits - 7;
    let value = eight_digits(digits << (64 - length_bits));
    Some((u32::try_from(value).ok()?, length_bits as usize / 8))
}

/// A dotted quad without leading zeros.
#[inline(always)]
pub(super) fn quad(window: &[u8; QUAD_WINDOW_BYTES]) -> Option<(Ipv4Addr, usize)> {
    let ends = ends(window);
    let first = ends.trailing_zeros();
    let later = ends & ends.wrapping_sub(1);
    let second = later.trailing_zeros();
    let later = later & later.wrapping_sub(1);
    let third = later.trailing_zeros();
    let later = later & later.wrapping_sub(1);
    let length = later.trailing_zeros();
    // Each octet but the first is loaded with the point before it, which becomes a zero.
    let points = [first, second, third].map(|at| word(window, at) ^ u32::from_le_bytes(*b".000"));
    let left = [
        up_to(word(window, 0) ^ u32::from_le_bytes(*b"0000"), first),
        up_to(points[0], second.wrapping_sub(first)),
    ];
    let right = [
        up_to(points[1], third.wrapping_sub(second)),
        up_to(points[2], length.wrapping_sub(third)),
    ];
    let (left, right) = (two_octets(left), two_octets(right));
    // No end follows another: no octet is empty. None is longer than its value: no leading zeros.
    let is_empty = ends & (ends << 1 | 1) & (later ^ later.wrapping_sub(1)) != 0;
    let lengths = two_lengths(left) + two_lengths(right);
    let is_long = (lengths + (lengths >> 32)) as u32 + 3 != length;
    let is_large = (left | right) & !TWO_BYTES != 0;
    let is_pointless = (points[0] | points[1] | points[2]) & 0xff != 0;
    if is_empty | is_long | is_large | is_pointless {
        return None;
    }
    let octets = (left | left >> 24) as u32 & 0xffff | ((right | right >> 24) as u32) << 16;
    Some((Ipv4Addr::from_octets(octets.to_le_bytes()), length as usize))
}

/// A bit for each of the first sixteen bytes that is no digit, and for the one behind them.
#[inline(always)]
fn ends(window: &[u8; QUAD_WINDOW_BYTES]) -> u32 {
    let bits = |at: usize| {
        let marks = above_nine(half(window, at) ^ each(b'0'));
        // Gathers the highest bit of each byte in the highest byte: no two of the products meet.
        (marks.wrapping_mul(0x0002_0408_1020_4081) >> 56) as u32
    };
    bits(0) | bits(8) << 8 | 1 << 16
}

/// Four bytes of the window, the first in the lowest byte.
#[inline(always)]
fn word(window: &[u8; QUAD_WINDOW_BYTES], at: u32) -> u32 {
    let at = at as usize % 16;
    u32::from_le_bytes(window[at..at + 4].try_into().unwrap_or_default())
}

/// The first `count` of four bytes, 1 to 4, moved up to the highest byte; what followed falls off.
#[inline(always)]
fn up_to(word: u32, count: u32) -> u64 {
    u64::from(word.wrapping_shl(32_u32.wrapping_sub(8 * count)))
}

/// The lowest byte of each half.
const TWO_BYTES: u64 = 0x0000_00ff_0000_00ff;

/// The numbers that the three highest digits of two words spell, one in each half.
#[inline(always)]
fn two_octets([low, high]: [u64; 2]) -> u64 {
    let digits = low | high << 32;
    (digits >> 24 & TWO_BYTES)
        + (digits >> 16 & TWO_BYTES) * 10
        + (digits >> 8 & TWO_BYTES).wrapping_mul(100)
}

/// How many digits the number of each half is spelt with, where it is below 256.
#[inline(always)]
fn two_lengths(numbers: u64) -> u64 {
    const ONES: u64 = 0x0000_0001_0000_0001;
    let at_least = |number: u64| numbers.wrapping_add((256 - number) * ONES) >> 8 & ONES;
    ONES + at_least(10) + at_least(100)
}

/// Quads that were read lately, with the quote behind each: a router has few neighbours, and a
/// comparison costs a fifth of reading. Kept from document to document.
#[derive(Debug)]
pub(in crate::wire) struct KnownQuads {
    slots: [KnownQuad; 1 << SLOT_BITS],
}

/// Sixteen neighbours, each before one of two texts, seldom meet in one of 128 slots: 6 KiB.
const SLOT_BITS: u32 = 7;

#[derive(Clone, Copy, Debug)]
struct KnownQuad {
    /// The text and its quote; `mask` has the bits that they take.
    text: [u64; 2],
    mask: [u64; 2],
    address: Ipv4Addr,
    length: u32,
}

impl KnownQuads {
    /// Before the first quad: one that is right in every slot.
    pub(super) fn new() -> Box<KnownQuads> {
        let text = [u64::from_le_bytes(*b"0.0.0.0\""), 0];
        let address = Ipv4Addr::UNSPECIFIED;
        let slot = KnownQuad { text, mask: [u64::MAX, 0], address, length: 7 };
        Box::new(KnownQuads { slots: [slot; 1 << SLOT_BITS] })
    }

    /// A quad and the quote behind it.
    #[inline(always)]
    pub(super) fn quoted(&mut self, window: &[u8; QUAD_WINDOW_BYTES]) -> Option<(Ipv4Addr, usize)> {
        let text = [0, 8].map(|at| half(window, at));
        // What follows a short quad counts too: it is mostly the same, and any slot is right.
        let hash = (text[0] ^ text[1].rotate_left(24)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = &mut self.slots[(hash >> (64 - SLOT_BITS)) as usize];
        let differs = [0, 1].map(|half| (text[half] ^ slot.text[half]) & slot.mask[half]);
        if differs[0] | differs[1] == 0 {
            return Some((slot.address, slot.length as usize));
        }
        *slot = known(window, text)?;
        Some((slot.address, slot.length as usize))
    }
}

#[inline(never)]
fn known(window: &[u8; QUAD_WINDOW_BYTES], text: [u64; 2]) -> Option<KnownQuad> {
    let (address, length) = quad(window)?;
    if window[length] != b'"' {
        return None;
    }
    let mask = u128::MAX >> (8 * (15 - length));
    let mask = [mask as u64, (mask >> 64) as u64];
    Some(KnownQuad { text, mask, address, length: length as u32 })
}

/// Eight bytes of the window, the first in the lowest byte.
#[inline(always)]
fn half(window: &[u8; QUAD_WINDOW_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(window[at..at + 8].try_into().unwrap_or_default())
}

/// The seconds of the instant before: those of a burst share them.
#[derive(Debug)]
pub(super) struct Seconds {
    text: [u8; 10],
    value: i64,
}

impl Seconds {
    /// Before the first instant: any text whose value is right.
    pub(super) fn new() -> Seconds {
        Seconds { text: *b"0000000000", value: 0 }
    }

    /// An instant of ten digits, a point and six digits, and the quote behind it.
    #[inline]
    pub(super) fn instant(&mut self, window: &[u8; INSTANT_WINDOW_BYTES]) -> Option<Micros> {
        let (seconds, decimals) = window.split_first_chunk::<10>()?;
        if *seconds != self.text {
            self.value = ten_digits(seconds)?;
            self.text = *seconds;
        }
        let decimals = u64::from_le_bytes(decimals.try_into().ok()?);
        if decimals & 0xff00_0000_0000_00ff != u64::from_le_bytes(*b".\0\0\0\0\0\0\"") {
            return None;
        }
        // The quote falls off, the point and a zero byte become the leading digits 00.
        let digits = (decimals << 8 & !0xffff | 0x3030) ^ each(b'0');
        if above_nine(digits) != 0 {
            return None;
        }
        let micros = i64::try_from(eight_digits(digits)).ok()?;
        Some(Micros(self.value * MICROS_PER_SECOND + micros))
    }
}

fn ten_digits(text: &[u8; 10]) -> Option<i64> {
    let (high, low) = text.split_first_chunk::<8>()?;
    let digits = u64::from_le_bytes(*high) ^ each(b'0');
    let [ten, one] = [low[0], low[1]].map(|byte| u64::from(byte ^ b'0'));
    if above_nine(digits) != 0 || ten > 9 || one > 9 {
        return None;
    }
    i64::try_from(eight_digits(digits) * 100 + ten * 10 + one).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::xml::value;

    /// The text and whatever stands behind it, as a window.
    fn window<const N: usize>(text: &str, behind: u8) -> [u8; N] {
        let mut window = [behind; N];
        window[..text.len()].copy_from_slice(text.as_bytes());
        window
    }

    #[test]
    fn every_octet_is_read_in_every_place_and_none_that_is_spelt_otherwise() {
        for number in 0..=999_u32 {
            for spelt in [number.to_string(), format!("{number:02}"), format!("{number:03}")] {
                for place in 0..4 {
                    let mut octets = ["7", "88", "199", "0"];
                    octets[place] = &spelt;
                    let text = octets.join(".");
                    let read = quad(&window(&text, b'"'));
                    let expected = text.parse::<Ipv4Addr>().ok().map(|quad| (quad, text.len()));
                    assert_eq!(read, expected, "{text}");
                }
            }
        }
    }

    #[test]
    fn a_quad_has_four_octets_with_points_between_and_an_end() {
        for text in [
            "",
            "1",
            "1.2.3",
            "1..2.3",
            ".1.2.3",
            "1.2.3.",
            "1.2.3,4",
            "1.2/3.4",
            "1:2.3.4",
            "1.2.3.a",
            "1234.1.1.1",
            "01234.1.1",
            "1.2.0003.",
            "00..1.1",
            "255.255.255.2550",
            "0000000000000000",
            "................",
            "10.10.10.10.10",
        ] {
            let read = quad(&window(text, b'"')).filter(|(_, length)| *length == text.len());
            assert_eq!(read, None, "{text}");
        }
        // What follows may be anything but a digit; what lies behind that may be anything.
        for behind in 0..=u8::MAX {
            let mut bytes = window("255.254.253.252/", behind);
            let expected = Some((Ipv4Addr::new(255, 254, 253, 252), 15));
            assert_eq!(quad(&bytes), expected, "{behind}");
            bytes[15] = behind;
            assert_eq!(quad(&bytes), expected.filter(|_| !behind.is_ascii_digit()), "{behind}");
        }
    }

    #[test]
    fn a_quad_is_known_by_its_text_and_by_nothing_else() {
        let mut known = KnownQuads::new();
        // More quads than slots, each of them often, and none of them taken for another.
        for round in 0..4_000_u32 {
            let address = Ipv4Addr::from_bits(((round * round) % 509).wrapping_mul(0x0107_2513));
            let text = format!("{address}\"/></ope");
            let length = address.to_string().len();
            let mut window = [b'r'; QUAD_WINDOW_BYTES];
            let shown = text.len().min(window.len());
            window[..shown].copy_from_slice(&text.as_bytes()[..shown]);
            assert_eq!(known.quoted(&window), Some((address, length)), "{text}");
            window[length] = b'/';
            assert_eq!(known.quoted(&window), None, "{text}");
        }
        assert_eq!(known.quoted(&[0; QUAD_WINDOW_BYTES]), None);
    }

    #[test]
    fn a_number_has_one_to_seven_digits_and_an_end() {
        for text in ["0", "7", "16", "00016", "1048575", "1048576", "9999999"] {
            for behind in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                let expected = Some((text.parse().unwrap(), text.len()));
                assert_eq!(number(&window(text, behind)), expected, "{text} {behind}");
            }
            assert_eq!(number(&window(text, b'5')), None, "no end of {text}");
        }
        assert_eq!([number(&window("", b'"')), number(&window("-1", b'"'))], [None; 2]);
    }

    proptest! {
        #[test]
        fn what_is_read_here_is_read_alike_by_value(
            text in "[0-9./:\"\\-\u{0}a]{0,20}",
            digit_of in any::<prop::sample::Index>(),
            instant in "[0-9]{10}[.][0-9]{6}\"",
            odd in any::<u8>(),
        ) {
            let word: [u8; QUAD_WINDOW_BYTES] = window(&text, b'"');
            if let Some((address, length)) = quad(&word) {
                prop_assert_eq!(value::address(&text[..length]), Some(address.into()));
            }
            let mut known = KnownQuads::new();
            let expected = quad(&word).filter(|(_, length)| word[*length] == b'"');
            prop_assert_eq!([known.quoted(&word), known.quoted(&word)], [expected; 2]);
            if let Some((number, length)) = number(word.first_chunk().unwrap()) {
                prop_assert_eq!(value::number(&text[..length]), Some(number));
            }
            let mut seconds = Seconds::new();
            let mut bytes: [u8; INSTANT_WINDOW_BYTES] = window(&instant, 0);
            let expected = value::time(&instant[..17]);
            prop_assert!(expected.is_some());
            // The second time its seconds are known.
            prop_assert_eq!(seconds.instant(&bytes), expected);
            prop_assert_eq!(seconds.instant(&bytes), expected);
            let at = digit_of.index(bytes.len());
            bytes[at] = odd;
            let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('"'));
            let read = [Seconds::new().instant(&bytes), seconds.instant(&bytes)];
            let spelt = |text: &str| text.as_bytes()[10] == b'.' && value::time(text).is_some();
            let expected = text.filter(|text| spelt(text)).and_then(value::time);
            prop_assert_eq!(read, [expected; 2]);
        }
    }
}
