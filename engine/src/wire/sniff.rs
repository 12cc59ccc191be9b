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
        // A document is longer. No name begins with a digit, but a syslog message; behind `<` in
        // UTF-16 stands a zero.
        [b'<'] => Sniffed::More(2),
        [b'<', 0 | b'0'..=b'9', ..] => Sniffed::Unknown,
        // A header of the PROXY protocol begins with two empty lines.
        _ if bytes.starts_with(PROXY_2) => Sniffed::Unknown,
        _ if PROXY_2.starts_with(bytes) => Sniffed::More(PROXY_2.len()),
        [b'<' | b' ' | b'\t' | b'\r' | b'\n', ..] => Sniffed::Mode(InputMode::Plain),
        [0xef, ..] => prefix(bytes, &[0xef, 0xbb, 0xbf], InputMode::Plain),
        [0x1f, ..] => prefix(bytes, &[0x1f, 0x8b], InputMode::Gzip),
        // FPM: version 1, type 1 (netlink).
        [0x01, ..] => prefix(bytes, &[0x01, 0x01], InputMode::Fpm),
        [first, ..] if *first == MAGIC[0] => prefix(bytes, &MAGIC, InputMode::Framed),
        [method] if is_zlib_method(*method) => Sniffed::More(2),
        [method, flags, ..] if is_zlib(*method, *flags) => Sniffed::Mode(InputMode::Zlib),
        _ => Sniffed::Unknown,
    }
}

/// The beginning of a PROXY protocol header of version 2, as far as no document begins so.
const PROXY_2: &[u8] = b"\r\n\r\n\0";

/// What begins like this, and what its sender probably wanted.
type Beginning = (&'static [u8], &'static str);

const BEGINNINGS: [Beginning; 37] = [
    (b"GET ", HTTP),
    (b"HEAD ", HTTP),
    (b"POST ", HTTP),
    (b"PUT ", HTTP),
    (b"DELETE ", HTTP),
    (b"OPTIONS ", HTTP),
    (b"PATCH ", HTTP),
    (b"TRACE ", HTTP),
    (b"CONNECT ", HTTP),
    (b"PRI * ", HTTP),
    (b"PROXY ", PROXY),
    (PROXY_2, PROXY),
    (b"\x16\x03", "a TLS handshake: this port speaks no TLS"),
    (b"SSH-", "an SSH client: this is no login port"),
    (b"\xff\xfb", TELNET),
    (b"\xff\xfd", TELNET),
    (b"\x28\xb5\x2f\xfd", "zstd: compress with gzip or zlib"),
    (b"\xfd7zXZ", "xz: compress with gzip or zlib"),
    (b"BZh", "bzip2: compress with gzip or zlib"),
    (b"\x04\x22\x4d\x18", "lz4: compress with gzip or zlib"),
    (b"\x1f\x9d", "compress (.Z): compress with gzip or zlib"),
    (b"PK\x03\x04", "a zip archive: compress with gzip or zlib"),
    (b"\0\0\xfe\xff", UTF_32),
    (b"\xff\xfe\0\0", UTF_32),
    (b"\0\0\0<", UTF_32),
    (b"<\0\0\0", UTF_32),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"\0<", UTF_16),
    (b"<\0", UTF_16),
    (b"{", JSON),
    (b"[", JSON),
    (b"\x01\x02", "FPM in protobuf: have zebra load dplane_fpm_nl, which sends netlink"),
    (b"\x03\0\0\0", "BMP: this collector reads label mappings, not BGP's routes"),
    (b"\xff\xff\xff\xff", "BGP: this collector is no BGP speaker"),
    (b"\0\x01", "LDP: this collector is no LDP speaker"),
    (b"\0\x0a", "IPFIX: this collector reads label mappings, not flows"),
];

/// What else begins like this, and what its sender probably wanted.
pub fn guess(bytes: &[u8]) -> Option<&'static str> {
    let known = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning));
    known.map(|(_, guess)| *guess).or_else(|| is_syslog(bytes).then_some(SYSLOG))
}

const HTTP: &str = "an HTTP request: /metrics and /healthz have an address of their own, `http`";
const PROXY: &str = "a PROXY protocol header: have the balancer leave it out";
const TELNET: &str = "a telnet client: send a document, with nc for instance";
const UTF_16: &str = "UTF-16: write the document in UTF-8";
const UTF_32: &str = "UTF-32: write the document in UTF-8";
const JSON: &str = "JSON: a document is XML";
const SYSLOG: &str = "a syslog message: this port takes label mappings";

/// `<34>1 …`, or the same behind its length (RFC 6587).
fn is_syslog(bytes: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let message = match digits(bytes) {
        0 => bytes,
        length => match &bytes[length..] {
            [b' ', message @ ..] => message,
            _ => return false,
        },
    };
    matches!(message, [b'<', rest @ ..] if digits(rest) > 0)
}

/// RFC 1950 section 2.2: deflate, with a window of 256 bytes to 32 KiB.
fn is_zlib_method(method: u8) -> bool {
    method & 0x0f == 8 && method >> 4 <= 7
}

/// RFC 1950 section 2.2: the two bytes are a multiple of 31; bit 5 asks for a dictionary.
fn is_zlib(method: u8, flags: u8) -> bool {
    let both = u32::from(method) << 8 | u32::from(flags);
    is_zlib_method(method) && both.is_multiple_of(31) && flags & 0x20 == 0
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
        let cases: [(&[u8], Sniffed); 22] = [
            (b"", Sniffed::More(1)),
            (b"<", Sniffed::More(2)),
            (b"<label-mappings/>", Sniffed::Mode(InputMode::Plain)),
            (b"\n <", Sniffed::Mode(InputMode::Plain)),
            (b"\r\n", Sniffed::More(5)),
            (b"\r\n\r\n<", Sniffed::Mode(InputMode::Plain)),
            (b"\xef\xbb\xbf<", Sniffed::Mode(InputMode::Plain)),
            (b"\xef\xbb", Sniffed::More(3)),
            (b"\xff\xfe<\0", Sniffed::Unknown),
            (b"<\0", Sniffed::Unknown),
            (b"<34>", Sniffed::Unknown),
            (b"\x1f\x8b\x08", Sniffed::Mode(InputMode::Gzip)),
            (b"\x78\x9c", Sniffed::Mode(InputMode::Zlib)),
            (b"\x78\x01", Sniffed::Mode(InputMode::Zlib)),
            (b"\x78", Sniffed::More(2)),
            (b"\x78\x20", Sniffed::Unknown),
            (b"\x88\x1c", Sniffed::Unknown),
            (b"\x01\x01\x00\x20", Sniffed::Mode(InputMode::Fpm)),
            (b"\x01\x02\x00\x20", Sniffed::Unknown),
            (b"SDL1", Sniffed::Mode(InputMode::Framed)),
            (b"SDL", Sniffed::More(4)),
            (b"GET / HTTP/1.1", Sniffed::Unknown),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sniff(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_zlib_stream_is_known_whatever_its_window() {
        let headers = [
            [0x08, 0x1d],
            [0x18, 0x95],
            [0x28, 0x91],
            [0x38, 0x8d],
            [0x48, 0x89],
            [0x58, 0x85],
            [0x68, 0x81],
            [0x78, 0xda],
        ];
        for header in headers {
            assert_eq!(sniff(&header), Sniffed::Mode(InputMode::Zlib), "{header:02x?}");
            let [method, flags] = header;
            assert_eq!(sniff(&[method, flags ^ 1]), Sniffed::Unknown, "{header:02x?}");
        }
    }

    #[test]
    fn what_is_no_mode_is_guessed_at_and_no_mode_is() {
        let proxy = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
        let refused: [(&[u8], &str); 17] = [
            (b"GET / HTTP/1.1", "HTTP"),
            (b"OPTIONS * HTTP/1.1", "HTTP"),
            (b"\x16\x03\x01\x02", "TLS"),
            (b"BZh9", "bzip2"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY"),
            (proxy, "PROXY"),
            (b"<34>1 2026-11-22T04:05:06Z r1 - - - - up", "syslog"),
            (b"41 <34>1 2026-11-22T04:05:06Z r1 - - - - up", "syslog"),
            (b"\x01\x02\0\x10", "protobuf"),
            (b"\x03\0\0\0\x40\x04", "BMP"),
            (&[0xff; 16], "BGP"),
            (b"\xff\xfe<\0", "UTF-16"),
            (b"\xfe\xff\0<", "UTF-16"),
            (b"<\0?\0", "UTF-16"),
            (b"\0<\0?", "UTF-16"),
            (b"\0\0\0<", "UTF-32"),
            (b"{\"router\": 1}", "JSON"),
        ];
        for (bytes, word) in refused {
            assert_eq!(sniff(bytes), Sniffed::Unknown, "{bytes:02x?}");
            let guess = guess(bytes).unwrap_or_default();
            assert!(guess.contains(word), "{bytes:02x?}: {guess}");
        }
        for (beginning, guess) in BEGINNINGS {
            assert_eq!(sniff(beginning), Sniffed::Unknown, "{guess}");
            assert_eq!(super::guess(beginning), Some(guess));
        }
        for bytes in
            [&b"<label-mappings/>"[..], b"\x1f\x8b\x08", b"SDL1", b"\x01\x01\x00\x20", b"x", b"12"]
        {
            assert_eq!(guess(bytes), None, "{bytes:02x?}");
        }
    }
}
