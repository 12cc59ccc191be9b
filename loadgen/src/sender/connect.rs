//! Opens a connection from an address of its own, as a router does.
//!
//! In:   target, and the source address to bind, if one is wanted.
//! Out:  a connected, blocking socket: io_uring waits for it without a thread.
//! Law:  each source address has ports of its own: routers never compete for them.
//! Not:  trying again (`session`).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// How long a source address is tried: nothing leaves this host.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects. Blocks up to `CONNECT_TIMEOUT`. Errors: the system's.
pub fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        speak_from(&socket, source)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&target.into(), CONNECT_TIMEOUT)?;
    Ok(socket.into())
}

/// Binds to a source address. One of IPv6 need not be configured, address by address, where a route
/// says that all of its network are this host's: all of 127.0.0.0/8 are without that.
fn speak_from(socket: &Socket, source: IpAddr) -> io::Result<()> {
    if source.is_ipv6() {
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&SocketAddr::new(source, 0).into())
}

/// Whether packets to this address come back to this host, so that routers may speak from it to a
/// collector here. Errors: the system's, of the connection that was tried.
pub fn try_source(source: IpAddr) -> io::Result<()> {
    let domain = Domain::for_address(SocketAddr::new(source, 0));
    let [listener, speaker] =
        [(); 2].map(|()| Socket::new(domain, Type::STREAM, Some(Protocol::TCP)));
    let (listener, speaker) = (listener?, speaker?);
    speak_from(&listener, source)?;
    listener.listen(1)?;
    speak_from(&speaker, source)?;
    speaker.connect_timeout(&listener.local_addr()?, SOURCE_TIMEOUT)
}

/// The address `offset` places after `base`, by counting; `None` beyond the last address.
pub fn address_after(base: IpAddr, offset: usize) -> Option<IpAddr> {
    match base {
        IpAddr::V4(base) => {
            let number = u32::from(base).checked_add(u32::try_from(offset).ok()?)?;
            Some(IpAddr::V4(number.into()))
        }
        IpAddr::V6(base) => {
            let number = u128::from(base).checked_add(u128::try_from(offset).ok()?)?;
            Some(IpAddr::V6(number.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_router_has_its_own_source() {
        let base: IpAddr = "127.16.0.1".parse().unwrap();
        assert_eq!(address_after(base, 0), Some(base));
        assert_eq!(address_after(base, 511), "127.16.2.0".parse().ok());
        assert_eq!(address_after("255.255.255.255".parse().unwrap(), 1), None);
        assert_eq!(address_after("2001:db8::1".parse().unwrap(), 1), "2001:db8::2".parse().ok());
    }

    #[test]
    fn a_source_that_is_no_address_of_this_host_is_found_out() {
        try_source("127.16.3.4".parse().unwrap()).unwrap();
        // For documentation (RFC 3849, RFC 5737): nobody has them.
        try_source("2001:db8::77".parse().unwrap()).unwrap_err();
        try_source("192.0.2.77".parse().unwrap()).unwrap_err();
    }

    #[test]
    fn a_connection_comes_from_the_address_that_was_asked_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let stream = connect(target, Some("127.16.3.4".parse().unwrap())).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "127.16.3.4");
        assert_eq!(stream.local_addr().unwrap(), peer);
    }
}
