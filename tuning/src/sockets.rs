//! What the kernel says of each TCP socket: queues, window, drops, retransmits, round trip.
//!
//! In:   sock_diag over netlink, for one local address and port.
//! Out:  `SocketState`s, a few dozen per read, so that whoever asks decides how much it costs.
//! Law:  a dump goes on where the last read ended; a field that this kernel has not is `None`.
//! Not:  how often it is asked, or what of it hurts (engine, `watch`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_LISTEN};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// One read of a dump: the kernel fills up to 32 KiB, some eighty sockets.
const READ_BYTES: usize = 32 << 10;

/// One socket, as the kernel sees it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketState {
    /// The other end; `None` for a listening socket.
    pub peer: Option<SocketAddr>,
    /// Tells it apart from every other socket that the kernel has had.
    pub cookie: [u8; 8],
    /// Bytes that wait in its receive queue; connections that wait in a listen queue.
    pub queue: u32,
    /// Connections that a listen queue may hold.
    pub backlog_max: u32,
    /// Memory that the receive queue takes.
    pub memory_bytes: u32,
    /// What it may take at most.
    pub memory_max_bytes: u32,
    /// Segments, or connections, that were dropped at it since it was opened.
    pub drops: u32,
    /// The window that is offered to the peer (Linux 6.2).
    pub window_bytes: Option<u32>,
    /// Segments that were sent again.
    pub retransmits: Option<u32>,
    /// Segments that came out of order: one before them was lost or overtaken.
    pub out_of_order: Option<u32>,
    /// Round trip time, microseconds.
    pub rtt_us: Option<u32>,
    /// Bytes received since it was opened.
    pub received_bytes: Option<u64>,
    /// Since data came last, milliseconds.
    pub silent_ms: Option<u32>,
}

/// Which sockets are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that listen.
    Listening,
    /// Connections, those included whose peer has finished.
    Connected,
}

/// A way to ask. One dump at a time.
#[derive(Debug)]
pub struct SocketDiag {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
    /// The local address of the sockets that are asked for; `None`: any.
    local: Option<IpAddr>,
}

impl SocketDiag {
    /// Errors: a kernel, or a container, without sock_diag.
    pub fn open() -> io::Result<SocketDiag> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
        let socket = socket_with(family, kind, flags, Some(SOCK_DIAG))?;
        Ok(SocketDiag { socket, buffer: vec![0; READ_BYTES], sequence: 0, local: None })
    }

    /// Begins a dump of the sockets of a local port. `address` is what is listened on: its family
    /// is that of the sockets, and unless it is any address, so is its address: others may use the
    /// same port on an address of theirs. Errors: the kernel refuses.
    pub fn ask(&mut self, address: SocketAddr, which: Which) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.local = Some(address.ip().to_canonical()).filter(|local| !local.is_unspecified());
        let (family, id) = match address.ip() {
            IpAddr::V4(_) => (AF_INET, SocketId::new_v4()),
            IpAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
        };
        let (extensions, states) = match which {
            Which::Listening => (ExtensionFlags::SKMEMINFO, StateFlags::LISTEN),
            Which::Connected => (
                ExtensionFlags::SKMEMINFO | ExtensionFlags::INFO,
                StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT,
            ),
        };
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions,
            states,
            socket_id: SocketId { source_port: address.port(), ..id },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(())
    }

    /// Takes what the kernel gives next. Returns whether the dump is over.
    ///
    /// Errors: the kernel's; `InvalidData` where it says what nobody expects. Either ends the dump.
    pub fn read(&mut self, on_socket: &mut dyn FnMut(SocketState)) -> io::Result<bool> {
        let read = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?.0;
        let mut rest = self.buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest);
            let message = message.map_err(|error| invalid(&error.to_string()))?;
            // Four bytes are the grid of netlink.
            let length = (message.header.length as usize).next_multiple_of(4);
            let is_ours = message.header.sequence_number == self.sequence;
            match message.payload {
                // What is left of a dump that was given up.
                _ if !is_ours => {}
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let local = response.header.socket_id.source_address.to_canonical();
                    if self.local.is_none_or(|wanted| wanted == local) {
                        on_socket(state_of(&response));
                    }
                }
                _ => {}
            }
            if length == 0 {
                return Err(invalid("a message of no length"));
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(false)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sock_diag: {what}"))
}

fn state_of(response: &InetResponse) -> SocketState {
    let id = &response.header.socket_id;
    let is_listening = response.header.state == TCP_LISTEN;
    let peer = SocketAddr::new(id.destination_address.to_canonical(), id.destination_port);
    let mut state = SocketState {
        peer: (!is_listening).then_some(peer),
        cookie: id.cookie,
        queue: response.header.recv_queue,
        backlog_max: if is_listening { response.header.send_queue } else { 0 },
        ..SocketState::default()
    };
    for attribute in &response.nlas {
        match attribute {
            Nla::MemInfo(memory) => {
                state.memory_bytes = memory.receive_queue;
                state.memory_max_bytes = memory.receive_queue_max;
                state.drops = memory.drops;
            }
            Nla::TcpInfo(info) if !is_listening => take_info(&mut state, info),
            _ => {}
        }
    }
    state
}

/// `struct tcp_info` of <linux/tcp.h>: it has only ever grown at its end.
#[expect(clippy::host_endian_bytes, reason = "the kernel speaks in the byte order of its host")]
fn take_info(state: &mut SocketState, info: &[u8]) {
    let number = |place: usize| {
        let bytes = info.get(place..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    state.silent_ms = number(TCPI_LAST_DATA_RECV);
    state.rtt_us = number(TCPI_RTT);
    state.retransmits = number(TCPI_TOTAL_RETRANS);
    state.out_of_order = number(TCPI_RCV_OOOPACK);
    state.window_bytes = number(TCPI_RCV_WND);
    let received = info.get(TCPI_BYTES_RECEIVED..).and_then(|rest| rest.first_chunk::<8>());
    state.received_bytes = received.map(|bytes| u64::from_ne_bytes(*bytes));
}

const TCPI_LAST_DATA_RECV: usize = 52;
const TCPI_RTT: usize = 68;
const TCPI_TOTAL_RETRANS: usize = 100;
const TCPI_BYTES_RECEIVED: usize = 128;
const TCPI_RCV_OOOPACK: usize = 224;
const TCPI_RCV_WND: usize = 232;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    fn dump(diag: &mut SocketDiag, address: SocketAddr, which: Which) -> Vec<SocketState> {
        let mut states = Vec::new();
        diag.ask(address, which).unwrap();
        while !diag.read(&mut |state| states.push(state)).unwrap() {}
        states
    }

    #[test]
    fn the_kernel_tells_of_our_own_sockets_and_of_no_other() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let other = TcpListener::bind(address).unwrap();
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let mut diag = SocketDiag::open().unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            let _namesake = namesake(address);
            let _unrelated = TcpStream::connect(other.local_addr().unwrap()).unwrap();

            let listening = dump(&mut diag, address, Which::Listening);
            assert_eq!(listening.len(), 1, "{listening:?}");
            assert_eq!((listening[0].peer, listening[0].queue), (None, 1));
            assert!(listening[0].backlog_max > 1 && listening[0].drops == 0);

            let (server, peer) = listener.accept().unwrap();
            client.write_all(&[7; 1_000]).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            let state = loop {
                let states = dump(&mut diag, address, Which::Connected);
                assert_eq!(states.len(), 1, "{states:?}");
                if states[0].queue == 1_000 || Instant::now() > deadline {
                    break states[0].clone();
                }
            };
            assert_eq!((state.peer, state.queue), (Some(peer), 1_000));
            assert!(state.memory_bytes >= 1_000 && state.memory_max_bytes > state.memory_bytes);
            assert_eq!((state.drops, state.retransmits), (0, Some(0)), "{state:?}");
            assert_eq!(state.received_bytes, Some(1_000));
            assert!(state.rtt_us.is_some_and(|rtt_us| rtt_us < 10_000_000), "{state:?}");
            assert!(state.window_bytes.is_none_or(|window| window > 0), "{state:?}");
            drop(server);
        }
    }

    /// A socket with the same port on another address of this host, and a connection to it.
    fn namesake(address: SocketAddr) -> Option<(TcpListener, TcpStream)> {
        if address.is_ipv6() {
            return None;
        }
        let namesake = TcpListener::bind(("127.93.0.7", address.port())).unwrap();
        let client = TcpStream::connect(namesake.local_addr().unwrap()).unwrap();
        Some((namesake, client))
    }

    /// Reads are few dozen sockets long, and a dump that was given up does not mix with the next.
    #[test]
    fn a_dump_comes_in_parts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // One after the other: a listen queue is short.
        let connect = || (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0);
        let servers: Vec<(TcpStream, TcpStream)> = (0..300).map(|_| connect()).collect();
        let mut diag = SocketDiag::open().unwrap();
        let mut parts = Vec::new();
        diag.ask(address, Which::Connected).unwrap();
        loop {
            let mut part = 0;
            let is_over = diag.read(&mut |_| part += 1).unwrap();
            parts.push(part);
            if is_over {
                break;
            }
        }
        assert_eq!(parts.iter().sum::<usize>(), servers.len(), "{parts:?}");
        assert!(parts.len() > 2 && parts.iter().all(|part| *part < 200), "{parts:?}");
        let mut again = SocketDiag::open().unwrap();
        assert_eq!(dump(&mut again, address, Which::Connected).len(), servers.len());
    }

    #[test]
    fn a_kernel_that_says_less_is_believed_as_far_as_it_goes() {
        let mut state = SocketState::default();
        take_info(&mut state, &[1; 104]);
        assert_eq!((state.rtt_us, state.received_bytes), (Some(0x0101_0101), None));
        assert_eq!((state.window_bytes, state.retransmits), (None, Some(0x0101_0101)));
    }
}
