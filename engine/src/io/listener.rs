//! The listeners: one per shard on one address, pinned.
//!
//! In:   the listen address, or sockets that somebody listens on already; how many shards, how dead
//!       peers are noticed.
//! Out:  listening sockets in shard order; what they accept has every option set already.
//! Law:  all bind, then all listen in shard order (the pin's index), then the pin is attached.
//! Not:  accepting (`epoll`, `uring`); who may connect (`policy`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::io::pin;

/// How a peer that has silently gone is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadPeer {
    /// Silence before the first keepalive probe; of sessions to come up to twice as much.
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
    /// Sockets were handed over, and not one for each shard.
    #[error(
        "{found} listening sockets were handed over (LISTEN_FDS) for {shards} shards: leave `shards` \
         at 0, or let the socket unit have {shards} lines `ListenStream`"
    )]
    Count {
        /// Sockets that came.
        found: usize,
        /// Shards that need one each.
        shards: usize,
    },
    /// What was handed over cannot be the listening sockets of one collector.
    #[error("socket {index} of those handed over (LISTEN_FDS) is of no use: {reason}")]
    Useless {
        /// Which, from 0.
        index: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// Keepalive times of the sessions to come: each gets another one.
///
/// After a storm thousands of sessions fall silent together; probed together, they are more packets
/// than a queue of the kernel takes (net.core.netdev_max_backlog, 1,000), and healthy sessions died
/// of probes that were never sent: 6,726 of 9,000.
///
/// The kernel's timers are the coarser the longer they run, two seconds for half a minute at 250
/// ticks a second. However far the times are apart, of 50,000 sessions 3,000 are then probed in one
/// tick, and many are probed again: `keepalive_interval_s` is short enough that those come between
/// the ticks of others, and often enough for all.
#[derive(Debug)]
pub struct Spread {
    idle_s: u32,
    turn: u32,
}

impl Spread {
    /// Over the times from that of this listener to twice as long.
    pub fn of(listener: &Socket) -> Spread {
        let idle = listener.tcp_keepalive_time().unwrap_or_default();
        Spread { idle_s: u32::try_from(idle.as_secs()).unwrap_or(u32::MAX / 2), turn: 0 }
    }

    /// One more was accepted: whoever comes next inherits another time.
    pub fn turn(&mut self, listener: &Socket) {
        // Without it sessions are probed together; that is no reason to refuse one.
        let _ = rustix::net::sockopt::set_tcp_keepidle(listener, self.next());
    }

    fn next(&mut self) -> Duration {
        // Multiples of the golden section are evenly spread, however many there are.
        const GOLDEN: u32 = 0x9E37_79B9;
        self.turn = self.turn.wrapping_add(GOLDEN);
        let more = (u64::from(self.turn) * (u64::from(self.idle_s) + 1)) >> 32;
        Duration::from_secs(u64::from(self.idle_s) + more)
    }
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

/// The listening sockets that whoever started this process holds for it (sd_listen_fds(3)); none
/// where nobody does. Errors: one that is no TCP socket. To be asked once, at the start.
///
/// Peers that connect while no collector runs wait in their queues: an upgrade refuses no router.
pub fn handed_over() -> Result<Vec<Socket>, ListenError> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::with_capacity(given.len());
    for index in 0..given.len() {
        let useless = |error: io::Error| ListenError::Useless { index, reason: error.to_string() };
        sockets.extend(given.take_tcp_listener(index).map_err(useless)?.map(Socket::from));
    }
    Ok(sockets)
}

/// Makes listeners of sockets that were handed over: in their order, which is that of the pin.
pub fn adopt(
    sockets: Vec<Socket>,
    shards: usize,
    dead: &DeadPeer,
) -> Result<Listeners, ListenError> {
    if sockets.len() != shards {
        return Err(ListenError::Count { found: sockets.len(), shards });
    }
    let mut address = None;
    for (index, socket) in sockets.iter().enumerate() {
        let useless = |reason: String| ListenError::Useless { index, reason };
        let said = |error: io::Error| useless(error.to_string());
        let local = socket.local_addr().map_err(said)?.as_socket();
        let local = local.ok_or_else(|| useless("it has no IP address".to_owned()))?;
        if *address.get_or_insert(local) != local {
            return Err(useless(format!("it listens at {local}, the others do elsewhere")));
        }
        if shards > 1 && !socket.reuse_port().map_err(said)? {
            return Err(useless("several need `ReusePort=yes`".to_owned()));
        }
        set_options(socket, dead).map_err(said)?;
        // The collector before this one may have been driven otherwise.
        socket.set_nonblocking(false).map_err(said)?;
        socket.listen(i32::MAX).map_err(said)?;
    }
    let unpinned = sockets.first().and_then(|first| pin::attach(first.as_fd(), shards).err());
    let address = address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    Ok(Listeners { sockets, address, unpinned })
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

fn listener_socket(address: SocketAddr, dead: &DeadPeer) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    accept_ipv4_too(&socket, address)?;
    set_options(&socket, dead)?;
    Ok(socket)
}

/// What is set here is inherited by every accepted socket: no call per connection.
fn set_options(socket: &Socket, dead: &DeadPeer) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(dead.keepalive_idle)
        .with_interval(dead.keepalive_interval)
        .with_retries(dead.keepalive_probes);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(dead.user_timeout))?;
    // Acks are small and rare: none waits for another.
    socket.set_tcp_nodelay(true)
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
    fn sessions_that_fall_silent_together_are_probed_one_after_another() {
        let listeners = listen(any_port("127.0.0.1"), 1, &DEAD).unwrap();
        let listener = &listeners.sockets[0];
        let mut spread = Spread::of(listener);
        let mut times = std::collections::BTreeMap::new();
        for _ in 0..180 {
            let _peer = TcpStream::connect(listeners.address).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            spread.turn(listener);
            *times.entry(accepted.tcp_keepalive_time().unwrap()).or_insert(0) += 1;
        }
        // 18 times from 17 to 34 s.
        assert_eq!(times.len(), 18, "{times:?}");
        assert!(times.values().all(|count| (9..=11).contains(count)), "{times:?}");
        assert_eq!(times.keys().next(), Some(&DEAD.keepalive_idle));
        assert_eq!(times.keys().last(), Some(&(DEAD.keepalive_idle * 2)));
    }

    fn bound(address: SocketAddr) -> Socket {
        let socket = listener_socket(address, &DEAD).unwrap();
        socket.bind(&address.into()).unwrap();
        socket
    }

    fn address_of(socket: &Socket) -> SocketAddr {
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    #[test]
    fn sockets_that_are_handed_over_are_pinned_in_their_order() {
        let first = bound(any_port("127.0.0.1"));
        let address = address_of(&first);
        let sockets = vec![first, bound(address), bound(address)];
        for socket in &sockets {
            socket.listen(1).unwrap();
            socket.set_nonblocking(true).unwrap();
        }
        let listeners = adopt(sockets, 3, &DEAD).unwrap();
        assert_eq!(listeners.address, address);
        assert!(!listeners.sockets[2].nonblocking().unwrap());
        for socket in &listeners.sockets {
            socket.set_nonblocking(true).unwrap();
        }
        for last in 1..=30 {
            let source = Ipv4Addr::new(127, 3, 2, last);
            let connection = connect_from(source, address);
            assert_eq!(landed(&listeners).0, pin::shard_of(source.into(), 3), "{source}");
            drop(connection);
        }
    }

    #[test]
    fn sockets_that_do_not_belong_together_are_refused() {
        let refused = |sockets, shards| adopt(sockets, shards, &DEAD).unwrap_err().to_string();
        let one = bound(any_port("127.0.0.1"));
        let said = refused(vec![one], 2);
        assert!(said.contains("1 listening sockets") && said.contains("2 lines"), "{said}");
        let (one, other) = (bound(any_port("127.0.0.1")), bound(any_port("127.0.0.1")));
        let said = refused(vec![one, other], 2);
        assert!(said.contains("socket 1") && said.contains("elsewhere"), "{said}");
        let lone = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        lone.bind(&any_port("127.0.0.1").into()).unwrap();
        let twin = lone.try_clone().unwrap();
        assert!(refused(vec![lone, twin], 2).contains("ReusePort=yes"));
    }

    #[test]
    fn a_second_collector_is_told_that_the_address_is_in_use() {
        let first = listen(any_port("127.0.0.1"), 2, &DEAD).unwrap();
        let second = listen(first.address, 2, &DEAD).unwrap_err();
        assert!(matches!(second, ListenError::InUse { .. }), "{second}");
        assert!(second.to_string().contains("--listen"), "{second}");
    }
}
