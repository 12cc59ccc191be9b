//! The listeners: one per shard on one address, pinned.
//!
//! In:   the listen address, how many shards, how dead peers are noticed.
//! Out:  listening sockets in shard order; what they accept has every option set already.
//! Law:  all bind, then all listen in shard order (the pin's index), then the pin is attached.
//! Not:  accepting (`epoll`, `uring`); who may connect (`policy`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::io::pin;

/// How a peer that has silently gone is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadPeer {
    /// Silence before the first keepalive probe.
    pub keepalive_idle: Duration,
    /// Time between probes.
    pub keepalive_interval: Duration,
    /// Unanswered probes after which the peer is dead.
    pub keepalive_probes: u32,
    /// How long probes, or bytes sent, may go unanswered before the connection is given up.
    pub user_timeout: Duration,
}

/// Why there are no listeners.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "listen address {address} is in use by another process: \
         stop it (`ss -ltnp` names it) or give another --listen"
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is none of this host's, or may not be bound.
    #[error(
        "listen address {address}: {operation} failed: {source}; give --listen an address of this \
         host (`ip address` lists them) and a port that this user may bind"
    )]
    Refused {
        /// The address asked for.
        address: SocketAddr,
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The listeners of all shards, in shard order.
#[derive(Debug)]
pub struct Listeners {
    /// One per shard; blocking.
    pub sockets: Vec<Socket>,
    /// The address, with the port that was really bound.
    pub address: SocketAddr,
    /// Why connections are not pinned, if they are not: the collector works all the same.
    pub unpinned: Option<io::Error>,
}

/// Binds and listens for `shards` shards at `address`; port 0 takes a free one.
///
/// An IPv6 wildcard listens for IPv4 too.
pub fn listen(
    address: SocketAddr,
    shards: usize,
    dead: &DeadPeer,
) -> Result<Listeners, ListenError> {
    let failed = |operation| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { address },
            _ => ListenError::Refused { address, operation, source },
        }
    };
    refuse_a_foreign_group(address).map_err(failed("bind"))?;
    let mut bound = address;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = listener_socket(bound, dead).map_err(failed("socket"))?;
        socket.bind(&bound.into()).map_err(failed("bind"))?;
        if bound.port() == 0 {
            let local = socket.local_addr().map_err(failed("getsockname"))?;
            bound.set_port(local.as_socket().map_or(0, |local| local.port()));
        }
        sockets.push(socket);
    }
    for socket in &sockets {
        // The kernel cuts the backlog to net.core.somaxconn: the operator sets it there alone.
        socket.listen(i32::MAX).map_err(failed("listen"))?;
    }
    let unpinned = sockets.first().and_then(|first| pin::attach(first.as_fd(), shards).err());
    Ok(Listeners { sockets, address: bound, unpinned })
}

/// SO_REUSEPORT would let a second collector of the same user join the group unseen and take half
/// of the routers. A socket without it cannot be bound beside one that listens.
fn refuse_a_foreign_group(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    probe.set_reuse_address(true)?;
    accept_ipv4_too(&probe, address)?;
    probe.bind(&address.into())
}

fn accept_ipv4_too(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(!address.ip().is_unspecified()) } else { Ok(()) }
}

/// What is set here is inherited by every accepted socket: no call per connection.
fn listener_socket(address: SocketAddr, dead: &DeadPeer) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    accept_ipv4_too(&socket, address)?;
    let keepalive = TcpKeepalive::new()
        .with_time(dead.keepalive_idle)
        .with_interval(dead.keepalive_interval)
        .with_retries(dead.keepalive_probes);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(dead.user_timeout))?;
    // Acks are small and rare: none waits for another.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpStream};

    use super::*;

    const DEAD: DeadPeer = DeadPeer {
        keepalive_idle: Duration::from_secs(17),
        keepalive_interval: Duration::from_secs(7),
        keepalive_probes: 5,
        user_timeout: Duration::from_secs(23),
    };

    fn any_port(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 0)
    }

    fn connect_from(source: Ipv4Addr, target: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source.into(), 0).into()).unwrap();
        socket.connect(&SocketAddr::new(Ipv4Addr::LOCALHOST.into(), target.port()).into()).unwrap();
        socket.into()
    }

    /// Which listener a connection lands on, found by asking each (all are non-blocking).
    fn landed(listeners: &Listeners) -> (usize, SocketAddr) {
        loop {
            for (index, socket) in listeners.sockets.iter().enumerate() {
                if let Ok((_, peer)) = socket.accept() {
                    return (index, peer.as_socket().unwrap());
                }
            }
        }
    }

    #[test]
    fn each_source_lands_on_the_shard_of_the_model_again_and_again() {
        for listen_ip in ["127.0.0.1", "::"] {
            let listeners = listen(any_port(listen_ip), 3, &DEAD).unwrap();
            assert!(listeners.unpinned.is_none(), "{:?}", listeners.unpinned);
            for socket in &listeners.sockets {
                socket.set_nonblocking(true).unwrap();
            }
            let mut seen = [false; 3];
            for last in (1..=40_u8).chain(1..=40) {
                let source = Ipv4Addr::new(127, 3, 2, last);
                let connection = connect_from(source, listeners.address);
                let (shard, peer) = landed(&listeners);
                assert_eq!(peer.ip().to_canonical(), IpAddr::from(source));
                assert_eq!(shard, pin::shard_of(source.into(), 3), "{listen_ip} {source}");
                seen[shard] = true;
                drop(connection);
            }
            assert_eq!(seen, [true; 3]);
        }
    }

    #[test]
    fn ipv6_sources_are_pinned_too() {
        let listeners = listen(any_port("::1"), 4, &DEAD).unwrap();
        for socket in &listeners.sockets {
            socket.set_nonblocking(true).unwrap();
        }
        for _ in 0..8 {
            let connection = TcpStream::connect(listeners.address).unwrap();
            assert_eq!(landed(&listeners).0, pin::shard_of("::1".parse().unwrap(), 4));
            drop(connection);
        }
    }

    #[test]
    fn an_accepted_socket_notices_a_dead_peer_without_further_calls() {
        let listeners = listen(any_port("127.0.0.1"), 1, &DEAD).unwrap();
        let _peer = TcpStream::connect(listeners.address).unwrap();
        let (accepted, _) = listeners.sockets[0].accept().unwrap();
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), DEAD.keepalive_idle);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), DEAD.keepalive_interval);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), DEAD.keepalive_probes);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(DEAD.user_timeout));
        assert!(accepted.tcp_nodelay().unwrap());
    }

    #[test]
    fn a_second_collector_is_told_that_the_address_is_in_use() {
        let first = listen(any_port("127.0.0.1"), 2, &DEAD).unwrap();
        let second = listen(first.address, 2, &DEAD).unwrap_err();
        assert!(matches!(second, ListenError::InUse { .. }), "{second}");
        assert!(second.to_string().contains("--listen"), "{second}");
    }
}
