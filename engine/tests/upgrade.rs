//! An upgrade: the collector ends and another starts, on listening sockets that outlive both.
//!
//! In:   sockets that this process listens on, as a service manager does.
//! Out:  routers that connect in between are not refused; what they said meanwhile is read.
//! Law:  whichever driver the two collectors have.
//! Not:  which sockets are taken (`engine::io::listener`).

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::process::{Process, Way, assert_sound, changes};

fn listening(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    socket
}

/// A router's table of one entry, as a bare document.
fn table(router: Ipv4Addr) -> String {
    format!(
        "<label-mappings xmlns=\"urn:stormdrain:label-mapping:1\" router-id=\"{router}\">\
         <mapping timestamp=\"2026-11-22T04:00:00.000001Z\">\
         <fec type=\"ip\" prefix=\"192.0.2.9/32\"/><ingress label=\"16\" origin=\"service\"/>\
         <operation type=\"swap\"><nhlfe label=\"17\" next-hop=\"10.0.0.1\"/></operation>\
         </mapping></label-mappings>"
    )
}

fn connect(address: SocketAddr, last: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = Ipv4Addr::new(127, 8, 0, last);
    socket.bind(&SocketAddr::new(source.into(), 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut router: TcpStream = socket.into();
    router.write_all(table(Ipv4Addr::new(192, 0, 2, last)).as_bytes()).unwrap();
    router
}

#[test]
fn an_upgrade_refuses_no_router() {
    let ways: Vec<Way> = Way::all().into_iter().filter(|way| *way != Way::Denied).collect();
    for (index, before) in ways.iter().enumerate() {
        let after = ways[(index + 1) % ways.len()];
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = listening(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = first.local_addr().unwrap().as_socket().unwrap();
        let sockets = [first, listening(address)];
        // Two shards: as many as sockets, without being told.
        let mut process = Process::start_on(*before, &data, "", &sockets);
        assert_eq!(process.listen, address);
        let early: Vec<TcpStream> = (1..=10).map(|last| connect(address, last)).collect();
        process.await_metric("stormdrain_changes_total", "", |changes| changes == 10);
        assert_eq!(process.page("/metrics").matches("stormdrain_turns_total{").count(), 2);
        assert!(process.terminate().success());
        drop(early);

        // Nobody reads: the connections are made all the same, and what is said waits.
        let meanwhile: Vec<TcpStream> = (11..=30).map(|last| connect(address, last)).collect();
        let mut process = Process::start_on(after, &data, "", &sockets);
        process.await_metric("stormdrain_changes_total", "", |changes| changes == 20);
        drop(meanwhile);
        assert!(process.terminate().success());
        assert_eq!(changes(&data).len(), 30);
        assert_sound(&data);
    }
}
