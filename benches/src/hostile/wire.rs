//! Wire: what senders of this bench say, written anew from docs/PROTOCOL.md.
//!
//! In:   router ids, sequences, texts.
//! Out:  bytes of frames and documents; sockets from addresses of their own.
//! Law:  a sender here shares no code with the collector but the frame's own writer.
//! Not:  who says it, and when (`attacks`, `good`).

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::wire::frame::{
    Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, Header, encode_empty,
};
use libdeflater::{CompressionLvl, Compressor};
use rustix::net::sockopt::{set_socket_linger, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

const NAMESPACE: &str = "urn:stormdrain:label-mapping:1";
/// A peer that does not read for so long is not waited for.
const WRITE_LIMIT: Duration = Duration::from_millis(500);

/// Seconds since 1970, as the protocol writes times.
pub(super) fn wall() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:06}", since_epoch.as_secs(), since_epoch.subsec_micros())
}

/// A connection from this loopback address.
pub(super) fn connect_from(source: Ipv4Addr, target: SocketAddr) -> io::Result<TcpStream> {
    let IpAddr::V4(address) = target.ip() else { return Err(io::ErrorKind::Unsupported.into()) };
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    connect(&socket, &SocketAddrV4::new(address, target.port()))?;
    set_tcp_nodelay(&socket, true)?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    Ok(stream)
}

/// Has the close of a connection reset it.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // A socket that refuses is closed in order.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// A frame of this type whose payload is as it is.
pub(super) fn frame(kind: FrameType, sequence: u64, payload: &[u8]) -> Vec<u8> {
    coded(kind, Codec::None, sequence, payload)
}

/// A frame of mappings.
pub(super) fn mappings(sequence: u64, text: &str) -> Vec<u8> {
    frame(FrameType::Mappings, sequence, text.as_bytes())
}

/// A frame of mappings, compressed.
pub(super) fn deflated(sequence: u64, text: &[u8]) -> Vec<u8> {
    coded(FrameType::Mappings, Codec::Zlib, sequence, text)
}

fn coded(kind: FrameType, codec: Codec, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameEncoder::new(6).frame(kind, codec, FrameFlags::NONE, sequence, payload, &mut bytes);
    bytes
}

/// A frame that has no payload.
pub(super) fn empty(kind: FrameType) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_empty(kind, 0, &mut bytes);
    bytes
}

/// The header of a frame of mappings with so many bytes to come, whose checksum holds.
pub(super) fn announced(sequence: u64, payload_bytes: u32, inflated_bytes: u32) -> Vec<u8> {
    let bytes = frame(FrameType::Mappings, sequence, b"");
    let header = bytes.first_chunk::<HEADER_BYTES>().and_then(|it| Header::read(it).ok());
    let header = header.map(|header| Header { payload_bytes, inflated_bytes, ..header });
    header.map_or(bytes, |header| header.write().to_vec())
}

/// A hello that asks for acks; what stands in it besides is the caller's.
pub(super) fn hello(router: Ipv4Addr, inside: &str) -> Vec<u8> {
    let wall = wall();
    let text = format!(
        "<hello xmlns=\"{NAMESPACE}\" router-id=\"{router}\" boot-time=\"{wall}\" \
         sequence-first=\"1\" session=\"permanent\" acks=\"true\" snapshot=\"false\" \
         clock=\"{wall}\">{inside}</hello>"
    );
    frame(FrameType::Hello, 0, text.as_bytes())
}

/// A document of this router.
pub(super) fn document(router: Ipv4Addr, inside: &str) -> String {
    format!(
        "<label-mappings xmlns=\"{NAMESPACE}\" router-id=\"{router}\">{inside}</label-mappings>"
    )
}

/// One mapping: `label` is swapped for `out`.
pub(super) fn swap(label: u32, out: u32, more: &str) -> String {
    format!(
        "<mapping timestamp=\"{}\"><fec type=\"ip\" prefix=\"192.0.2.3/32\"/>\
         <ingress label=\"{label}\" origin=\"platform\"/><operation type=\"swap\">\
         <nhlfe label=\"{out}\" next-hop=\"192.0.2.2\"/></operation>{more}</mapping>",
        wall()
    )
}

/// A mapping of as many ingress labels, branches and labels as there may be.
pub(super) fn widest(label: u32) -> String {
    let mut text =
        format!("<mapping timestamp=\"{}\"><fec type=\"ip\" prefix=\"192.0.2.3/32\"/>", wall());
    for index in 0..256 {
        let label = label + index;
        let _ = write!(text, "<ingress label=\"{label}\" origin=\"platform\"/>");
    }
    text.push_str("<operation type=\"swap\">");
    let stack = ["100"; 16].join(" ");
    for index in 0..256 {
        let _ = write!(text, "<nhlfe label=\"{stack}\" next-hop=\"10.9.0.{index}\"/>");
    }
    text.push_str("</operation></mapping>");
    text
}

/// One gzip member.
pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut out = vec![0; compressor.gzip_compress_bound(text.len())];
    // The bound holds for every text.
    let length = compressor.gzip_compress(text, &mut out).unwrap_or_default();
    out.truncate(length);
    out
}
