//! Tells the input modes apart by the first bytes of a session.
//!
//! In:   the first bytes, as far as they have come.
//! Out:  the mode, or that more bytes are needed, or that it is none of them; and then a guess at
//!       what it is instead, for the log.
//! Law:  the answer never depends on how the bytes were split on their way.
//! Not:  how a mode is read (`decoder`).

use storage::row::InputMode;

use super::frame::MAGIC;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// This mode.
    Mode(InputMode),
    /// Not decided before there are this many bytes.
    More(usize),
    /// None of the modes.
    Unknown,
}

/// The mode of a session that begins with `bytes`.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    match bytes {
        [] => Sniffed::More(1),
        [b'<' | b' ' | b'\t' | b'\r' | b'\n', ..] => Sniffed::Mode(InputMode::Plain),
        [0xef, ..] => prefix(bytes, &[0xef, 0xbb, 0xbf], InputMode::Plain),
        [0x1f, ..] => prefix(bytes, &[0x1f, 0x8b], InputMode::Gzip),
        [0x78] => Sniffed::More(2),
        // RFC 1950 section 2.2: the two bytes are a multiple of 31; bit 5 asks for a dictionary.
        [0x78, flags, ..] if zlib_flags_fit(*flags) => Sniffed::Mode(InputMode::Zlib),
        // FPM: version 1, type 1 (netlink).
        [0x01, ..] => prefix(bytes, &[0x01, 0x01], InputMode::Fpm),
        [first, ..] if *first == MAGIC[0] => prefix(bytes, &MAGIC, InputMode::Framed),
        _ => Sniffed::Unknown,
    }
}

/// What else begins like this, and what its sender probably wanted.
pub fn guess(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 11] = [
        (b"GET ", HTTP),
        (b"HEAD ", HTTP),
        (b"POST ", HTTP),
        (b"PUT ", HTTP),
        (b"PRI * ", HTTP),
        (b"\x16\x03", "a TLS handshake: this port speaks no TLS"),
        (b"SSH-", "an SSH client: this is no login port"),
        (b"\x28\xb5\x2f\xfd", "zstd: compress with gzip or zlib"),
        (b"\xfd7zXZ", "xz: compress with gzip or zlib"),
        (b"BZh", "bzip2: compress with gzip or zlib"),
        (b"\xff\xfe", "UTF-16: write the document in UTF-8"),
    ];
    BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning)).map(|(_, guess)| *guess)
}

const HTTP: &str = "an HTTP request: /metrics and /healthz have an address of their own, `http`";

fn zlib_flags_fit(flags: u8) -> bool {
    (0x7800 + u32::from(flags)).is_multiple_of(31) && flags & 0x20 == 0
}

fn prefix(bytes: &[u8], expected: &[u8], mode: InputMode) -> Sniffed {
    if bytes.starts_with(expected) {
        Sniffed::Mode(mode)
    } else if expected.starts_with(bytes) {
        Sniffed::More(expected.len())
    } else {
        Sniffed::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_known_by_its_first_bytes() {
        let cases: [(&[u8], Sniffed); 14] = [
            (b"", Sniffed::More(1)),
            (b"<label-mappings/>", Sniffed::Mode(InputMode::Plain)),
            (b"\n <", Sniffed::Mode(InputMode::Plain)),
            (b"\xef\xbb\xbf<", Sniffed::Mode(InputMode::Plain)),
            (b"\xef\xbb", Sniffed::More(3)),
            (b"\xff\xfe<\0", Sniffed::Unknown),
            (b"\x1f\x8b\x08", Sniffed::Mode(InputMode::Gzip)),
            (b"\x78\x9c", Sniffed::Mode(InputMode::Zlib)),
            (b"\x78\x01", Sniffed::Mode(InputMode::Zlib)),
            (b"\x78\x20", Sniffed::Unknown),
            (b"\x01\x01\x00\x20", Sniffed::Mode(InputMode::Fpm)),
            (b"SDL1", Sniffed::Mode(InputMode::Framed)),
            (b"SDL", Sniffed::More(4)),
            (b"GET / HTTP/1.1", Sniffed::Unknown),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sniff(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_no_mode_is_guessed_at_and_no_mode_is() {
        let refused: [&[u8]; 4] = [b"GET / HTTP/1.1", b"\x16\x03\x01\x02", b"BZh9", b"\xff\xfe<\0"];
        for bytes in refused {
            assert_eq!(sniff(bytes), Sniffed::Unknown, "{bytes:02x?}");
            assert!(guess(bytes).is_some(), "{bytes:02x?}");
        }
        for bytes in
            [&b"<label-mappings/>"[..], b"\x1f\x8b\x08", b"SDL1", b"\x01\x01\x00\x20", b"x"]
        {
            assert_eq!(guess(bytes), None, "{bytes:02x?}");
        }
    }
}
