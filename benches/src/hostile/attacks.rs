//! Attacks: what hostile peers do, one line each, and the process that does it.
//!
//! In:   an attack, the collector's address, how long.
//! Out:  as many connections as go, each from a source of its own, until the time is over.
//! Law:  no attack waits for the collector; a connection that ends is opened again.
//! Not:  what it does to others (`good`), what it costs the collector (`super`).

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::wire::frame::FrameType;

use super::wire;
use crate::bench::BenchError;
use crate::process;

/// Name of the role.
pub(crate) const ROLE: &str = "hostile";
/// Threads of the hostile side.
const THREADS: usize = 2;
/// Of a document that is to be long: just below what one may inflate to with 64 MiB.
const LONG_BYTES: usize = 3 << 20;

/// What becomes of a connection when all has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is closed.
    Close,
    /// It is reset.
    Reset,
    /// It stays, and nothing more is said or read.
    Stay,
    /// The same is said again, without end.
    Again,
}

/// One way to be hostile.
pub(super) struct Attack {
    /// What it is called in notes.
    pub(super) name: &'static str,
    /// Connections at a time.
    connections: usize,
    then: Then,
    /// What connection `n` says: what comes first, and what comes then.
    speech: fn(u32) -> (Vec<u8>, Vec<u8>),
}

/// Every attack, in the order of a run.
pub(super) const ATTACKS: [Attack; 28] = [
    Attack { name: "half a header", connections: 1_000, then: Then::Stay, speech: half_a_header },
    Attack { name: "connect, close", connections: 16, then: Then::Close, speech: nothing },
    Attack { name: "connect, reset", connections: 16, then: Then::Reset, speech: nothing },
    Attack { name: "garbage", connections: 16, then: Then::Close, speech: garbage },
    Attack { name: "garbage behind <", connections: 16, then: Then::Close, speech: garbage_xml },
    Attack { name: "frames of a high ratio", connections: 16, then: Then::Close, speech: ratio },
    Attack { name: "white space in gzip", connections: 16, then: Then::Close, speech: space },
    Attack { name: "bare gzip bombs", connections: 16, then: Then::Close, speech: bomb },
    Attack { name: "empty gzip members", connections: 16, then: Then::Close, speech: members },
    Attack { name: "nesting", connections: 16, then: Then::Close, speech: nesting },
    Attack { name: "attributes", connections: 16, then: Then::Close, speech: attributes },
    Attack { name: "entities", connections: 16, then: Then::Close, speech: entities },
    Attack { name: "long names", connections: 16, then: Then::Close, speech: names },
    Attack { name: "comments", connections: 16, then: Then::Close, speech: comments },
    Attack { name: "instructions", connections: 16, then: Then::Close, speech: instructions },
    Attack { name: "header lies", connections: 64, then: Then::Close, speech: lies },
    Attack { name: "the last sequence", connections: 64, then: Then::Close, speech: last },
    Attack { name: "mixed modes", connections: 16, then: Then::Close, speech: mixed },
    Attack { name: "ids of others", connections: 16, then: Then::Stay, speech: theft },
    Attack { name: "hello, again and again", connections: 16, then: Then::Close, speech: hellos },
    Attack { name: "7,000 interfaces", connections: 16, then: Then::Close, speech: interfaces },
    Attack { name: "ever new keys", connections: 8, then: Then::Again, speech: keys },
    Attack { name: "widest mappings", connections: 8, then: Then::Again, speech: widest },
    Attack { name: "FPM lengths", connections: 64, then: Then::Close, speech: fpm_lengths },
    Attack { name: "FPM nesting", connections: 16, then: Then::Again, speech: fpm_nesting },
    Attack { name: "without end", connections: 20, then: Then::Again, speech: endless },
    Attack { name: "all but 100 bytes", connections: 120, then: Then::Stay, speech: part },
    Attack { name: "acks unread", connections: 50, then: Then::Again, speech: unread },
];

/// A router of connection `n`.
fn router(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a40_0000 + n % (1 << 22))
}

fn nothing(_: u32) -> (Vec<u8>, Vec<u8>) {
    (Vec::new(), Vec::new())
}

fn half_a_header(_: u32) -> (Vec<u8>, Vec<u8>) {
    (wire::empty(FrameType::Bye).into_iter().take(16).collect(), Vec::new())
}

fn garbage(n: u32) -> (Vec<u8>, Vec<u8>) {
    ((0..256_u32).map(|byte| (byte * 7 + n * 13 + 0x80) as u8).collect(), Vec::new())
}

fn garbage_xml(n: u32) -> (Vec<u8>, Vec<u8>) {
    ([b"<".to_vec(), garbage(n).0].concat(), Vec::new())
}

/// Forty frames whose ratio is beyond what is allowed, or just not.
fn ratio(n: u32) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = wire::hello(router(n), "");
    for sequence in 1..=40 {
        let spaces = vec![b' '; LONG_BYTES / if sequence % 2 == 0 { 1 } else { 64 }];
        // One of them is encoded; the others are the same but for their headers.
        bytes.extend(wire::deflated(sequence, &spaces));
        if sequence == 4 {
            break;
        }
    }
    (bytes, Vec::new())
}

/// Much white space, with enough in between that the ratio is allowed.
fn space(n: u32) -> (Vec<u8>, Vec<u8>) {
    let piece: String = (0..40).map(|at| format!("<!--{n}{at}{}-->", n * 7 + at)).collect();
    let inside = format!("{piece}{}", " ".repeat(60_000)).repeat(LONG_BYTES / 61_000);
    (wire::gzip(wire::document(router(n), &inside).as_bytes()), Vec::new())
}

fn bomb(n: u32) -> (Vec<u8>, Vec<u8>) {
    (wire::gzip(&vec![b' '; LONG_BYTES + n as usize % 7]), Vec::new())
}

fn members(_: u32) -> (Vec<u8>, Vec<u8>) {
    (wire::gzip(b"").repeat(20_000), Vec::new())
}

fn plain(n: u32, inside: &str) -> (Vec<u8>, Vec<u8>) {
    (wire::document(router(n), inside).into_bytes(), Vec::new())
}

fn nesting(n: u32) -> (Vec<u8>, Vec<u8>) {
    plain(n, &"<a>".repeat(500_000))
}

fn attributes(n: u32) -> (Vec<u8>, Vec<u8>) {
    let all: String = (0..60).map(|at| format!(" a{at}=\"{at}\"")).collect();
    plain(n, &format!("<a{all}/>").repeat(2_000))
}

fn entities(n: u32) -> (Vec<u8>, Vec<u8>) {
    plain(n, &"&lt;&#65;".repeat(200_000))
}

fn names(n: u32) -> (Vec<u8>, Vec<u8>) {
    plain(n, &format!("<{0}/>", "a".repeat(1 << 20)))
}

fn comments(n: u32) -> (Vec<u8>, Vec<u8>) {
    (format!("{}{}", "<!---->".repeat(280_000), wire::document(router(n), "")).into(), Vec::new())
}

fn instructions(n: u32) -> (Vec<u8>, Vec<u8>) {
    (format!("{}{}", "<?a?>".repeat(390_000), wire::document(router(n), "")).into(), Vec::new())
}

fn lies(n: u32) -> (Vec<u8>, Vec<u8>) {
    let (payload, inflated) = [(u32::MAX, u32::MAX), (0, u32::MAX), (100, 0)][n as usize % 3];
    let frame = wire::announced(1, payload, inflated);
    ([wire::hello(router(n), ""), frame, vec![0; 100]].concat(), Vec::new())
}

fn last(n: u32) -> (Vec<u8>, Vec<u8>) {
    let text = wire::document(router(n), &wire::swap(16, 17, ""));
    let frames = [wire::mappings(u64::MAX, &text), wire::mappings(u64::MAX, &text)].concat();
    ([wire::hello(router(n), ""), frames].concat(), Vec::new())
}

fn mixed(n: u32) -> (Vec<u8>, Vec<u8>) {
    let hello = wire::hello(router(n), "");
    let bytes = match n % 6 {
        0 => b"\xef\xbb\xbf".repeat(10_000),
        1 => [b"<a/>".to_vec(), hello].concat(),
        2 => [hello, b"<a/>".to_vec()].concat(),
        3 => vec![0x1f],
        4 => b" \n".repeat(10_000),
        _ => [b"\x01\x01\x00\x04".to_vec(), hello].concat(),
    };
    (bytes, Vec::new())
}

/// Those of the good routers, in turn.
fn theft(n: u32) -> (Vec<u8>, Vec<u8>) {
    (wire::hello(super::good::router(n as usize % super::good::ROUTERS), ""), Vec::new())
}

fn hellos(n: u32) -> (Vec<u8>, Vec<u8>) {
    (wire::hello(router(n), "").repeat(2_000), Vec::new())
}

fn interfaces(n: u32) -> (Vec<u8>, Vec<u8>) {
    let all: String = (0..7_000)
        .map(|at| format!("<interface address=\"{}\"/>", Ipv4Addr::from(0x0b00_0000_u32 + at)))
        .collect();
    (wire::hello(router(n), &all), Vec::new())
}

fn keys(n: u32) -> (Vec<u8>, Vec<u8>) {
    let option = format!("<option name=\"x\">{}</option>", "y".repeat(200));
    let all: String =
        (0..500).map(|at| wire::swap(16 + n * 500 % 900_000 + at, 17, &option)).collect();
    let text = wire::document(router(n), &all);
    let first = [wire::hello(router(n), ""), wire::deflated(1, text.as_bytes())].concat();
    // The sequence stays: what is repeated is cheap. A new connection has new keys.
    (first, wire::deflated(2, text.as_bytes()))
}

fn widest(n: u32) -> (Vec<u8>, Vec<u8>) {
    let text = wire::document(router(n), &wire::widest(16 + n % 1_000 * 256));
    (
        wire::hello(router(n), ""),
        [1, 2, 3, 4].map(|it| wire::deflated(it, text.as_bytes())).concat(),
    )
}

fn fpm_lengths(n: u32) -> (Vec<u8>, Vec<u8>) {
    let length = [0, 3, 4, 5, 0xffff_u16][n as usize % 5];
    let [high, low] = length.to_be_bytes();
    ([&[1, 1, high, low][..], &[0xff; 64]].concat(), Vec::new())
}

/// Netlink routes whose attributes hold attributes, as deep as a message is long.
fn fpm_nesting(_: u32) -> (Vec<u8>, Vec<u8>) {
    let mut body: Vec<u8> = vec![28, 20, 0, 0, 254, 0, 253, 1, 0, 0, 0, 0];
    let mut left = 60_000_u16;
    while left > 200 {
        body.extend(left.to_le_bytes());
        body.extend([9, 0x80]);
        left -= 8;
        body.extend([0, 0, 0, 0]);
    }
    let mut message = u32::try_from(body.len() + 16).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    message.extend([24, 0, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    message.truncate(60_000);
    let [high, low] = u16::try_from(message.len() + 4).unwrap_or(u16::MAX).to_be_bytes();
    (Vec::new(), [vec![1, 1, high, low], message].concat())
}

fn endless(n: u32) -> (Vec<u8>, Vec<u8>) {
    let begun = wire::document(router(n), "x");
    let begun = begun.trim_end_matches("x</label-mappings>").as_bytes().to_vec();
    match n % 3 {
        0 => (Vec::new(), vec![b' '; 64 << 10]),
        1 => (begun, vec![b' '; 64 << 10]),
        _ => (wire::gzip(&begun), wire::gzip(&[b'\n'; 64 << 10])),
    }
}

/// A frame that is announced, all but its end, and nothing more.
fn part(n: u32) -> (Vec<u8>, Vec<u8>) {
    let payload_bytes = 4 << 20;
    let header = wire::announced(1, payload_bytes, payload_bytes);
    let rest = vec![b'x'; payload_bytes as usize - 100];
    ([wire::hello(router(n), ""), header, rest].concat(), Vec::new())
}

fn unread(n: u32) -> (Vec<u8>, Vec<u8>) {
    let text = wire::document(router(n), &wire::swap(16, 17, ""));
    let frames: Vec<Vec<u8>> = (1..=200).map(|it| wire::mappings(it, &text)).collect();
    (wire::hello(router(n), ""), frames.concat())
}

/// One of the connections that a thread holds.
struct Line {
    stream: TcpStream,
    /// What is being said, and how far that has gone.
    bytes: Vec<u8>,
    sent: usize,
    then: Vec<u8>,
}

/// Connections and bytes so far, of all threads.
#[derive(Default)]
struct Counts {
    opened: AtomicU32,
    bytes: AtomicU64,
}

/// Attacks, for as long as it is told; answers how many connections and bytes that were.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    let target = process::argument(ROLE, arguments, "target")?;
    let target: SocketAddr = target.parse().map_err(|_| BenchError::Role {
        role: ROLE.to_owned(),
        expected: "target=ADDRESS",
        found: target.to_owned(),
    })?;
    let index = process::number(ROLE, arguments, "attack")? % ATTACKS.len();
    let limit = Duration::from_millis(process::number(ROLE, arguments, "ms")? as u64);
    let until = Instant::now() + limit;
    let counts = Counts::default();
    // Each run of the role has sources and routers of its own.
    counts.opened.store(process::number(ROLE, arguments, "first")? as u32, Ordering::Relaxed);
    let first = counts.opened.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| attack(&ATTACKS[index], target, until, &counts));
        }
    });
    let opened = counts.opened.load(Ordering::Relaxed) - first;
    Ok(process::answer(&format!("{opened} {}", counts.bytes.load(Ordering::Relaxed)))?)
}

/// One thread of an attack. What is said is made once for some connections: the hostile side is to
/// cost little.
fn attack(attack: &Attack, target: SocketAddr, until: Instant, counts: &Counts) {
    let most = attack.connections.div_ceil(THREADS);
    let mut lines: Vec<Line> = Vec::new();
    let is_large = |speech: &(Vec<u8>, Vec<u8>)| speech.0.len() + speech.1.len() > 32 << 10;
    let mut kept: Option<(Vec<u8>, Vec<u8>)> = None;
    while Instant::now() < until {
        for _ in 0..16.min(most - lines.len()) {
            let n = counts.opened.fetch_add(1, Ordering::Relaxed);
            let source = Ipv4Addr::from(0x7f40_0000 + n % (1 << 21));
            let Ok(stream) = wire::connect_from(source, target) else { break };
            if stream.set_nonblocking(true).is_err() {
                break;
            }
            let speech = match &kept {
                Some(kept) if !n.is_multiple_of(16) => kept.clone(),
                _ => (attack.speech)(n),
            };
            // A large speech may be said by several; whose router it names does not matter.
            kept = is_large(&speech).then(|| speech.clone());
            lines.push(Line { stream, bytes: speech.0, sent: 0, then: speech.1 });
        }
        let mut idle = true;
        lines.retain_mut(|line| {
            let (goes_on, sent) = speak(line, attack.then);
            counts.bytes.fetch_add(sent as u64, Ordering::Relaxed);
            idle &= sent == 0;
            goes_on
        });
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Says what goes out at once; whether the connection goes on, and how much was said.
fn speak(line: &mut Line, then: Then) -> (bool, usize) {
    let rest = line.bytes.get(line.sent..).unwrap_or_default();
    let sent = match (&line.stream).write(rest) {
        Ok(sent) => sent,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return (true, 0),
        Err(_) => return (false, 0),
    };
    line.sent += sent;
    if line.sent < line.bytes.len() {
        return (true, sent);
    }
    match then {
        Then::Close => (false, sent),
        Then::Reset => {
            wire::reset_on_close(&line.stream);
            (false, sent)
        }
        Then::Stay => (!is_closed(&line.stream), sent),
        Then::Again => {
            line.bytes.clone_from(&line.then);
            line.sent = 0;
            (true, sent)
        }
    }
}

/// Whether the other side has ended it. What it says is left where it is.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}
