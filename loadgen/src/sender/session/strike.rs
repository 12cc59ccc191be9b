//! How faults of a session are done: slow writing, and bombs.
//!
//! In:   a frame to write slowly; a sequence to put a bomb into.
//! Out:  bytes on the wire; pauses and strangers are counted.
//! Law:  a bomb is small on the wire, and far beyond what any collector inflates.
//! Not:  when a session is struck (`session`).

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES};
use storage::time::Micros;
use tokio::time::sleep;
use tokio_uring::net::TcpStream;

use super::ThreadState;
use crate::sender::{Progress, connect};
use crate::workload::{Frame, FrameRole};

/// What a slow router writes at once, and its pause behind it.
const SLOW_BYTES: usize = 500;
const SLOW_PAUSE: Duration = Duration::from_millis(2);
/// What a bomb inflates to, a thousand times its size: five times the ratio that is believed.
const BOMB_BYTES: usize = 8 << 20;
/// How long a stranger waits for the collector to have had enough.
const STRANGER_PATIENCE: Duration = Duration::from_secs(30);

/// As a router does whose control plane has other things to do.
pub(super) async fn write_slowly(
    thread: &ThreadState,
    stream: &TcpStream,
    bytes: Vec<u8>,
) -> (io::Result<()>, Vec<u8>) {
    for piece in bytes.chunks(SLOW_BYTES) {
        let (result, _) = stream.write_all(piece.to_vec()).await;
        if result.is_err() {
            return (result, bytes);
        }
        Progress::add(&thread.progress().slow_writes, 1);
        sleep(SLOW_PAUSE).await;
    }
    (Ok(()), bytes)
}

/// A frame of changes that says nothing, at great length.
pub(super) fn bomb(now: Micros) -> Frame {
    let mut document = String::with_capacity(BOMB_BYTES + 64);
    document.push_str("<label-mappings>");
    document.extend(std::iter::repeat_n(' ', BOMB_BYTES));
    document.push_str("</label-mappings>");
    let mut bytes = Vec::new();
    let (kind, codec, payload) = (FrameType::Mappings, Codec::Zlib, document.as_bytes());
    FrameEncoder::new(9).frame(kind, codec, FrameFlags::NONE, 0, payload, &mut bytes);
    let role = FrameRole::Change;
    let (mappings, document_bytes, until) = (0, 0, Micros::MIN);
    Frame { bytes, role, intended: now, mappings, document_bytes, until, sequence: 0 }
}

/// Somebody at the router's address who names nobody, and pours the same at the collector without
/// a frame around it, until the collector closes. Blocks. Errors: the system's; `TimedOut` when
/// the collector does not close.
pub(super) fn stranger(target: SocketAddr, source: Option<IpAddr>, bomb: &[u8]) -> io::Result<()> {
    let mut stream = connect::connect(target, source)?;
    stream.set_read_timeout(Some(STRANGER_PATIENCE))?;
    // Refused in the middle of it: that is what it is for.
    let _ = stream.write_all(&bomb[HEADER_BYTES..]);
    match stream.read(&mut [0]) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}
