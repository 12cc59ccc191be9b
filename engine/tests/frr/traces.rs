//! What a trace makes of routes that FPM says in few words: never a neighbouring truth.
//!
//! In:   routes of two routers, written by hand, on real connections to a running collector.
//! Out:  the verdict on a packet that enters at the first of them.
//! Law:  what is dropped, encapsulated or sent out of an interface is never `delivered` elsewhere.
//! Not:  what each route becomes (`wire::fpm`), recorded routers (`collector`).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use engine::collector::Collector;
use engine::policy::RouterEntry;
use engine::query::{self, Selector, Traces};
use engine::settings::Settings;
use ipnet::Ipv4Net;
use socket2::{Domain, Socket, Type};
use storage::interface::Interface;
use storage::mapping::RouterId;

use super::collector::{PATIENCE, now};

const CONNECTED: u8 = 2;
const STATIC: u8 = 4;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(value.len() + 4).unwrap();
    let mut out = [&bytes.to_le_bytes()[..], &kind.to_le_bytes(), value].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// One new route in an FPM frame of its own.
fn frame(header: [u8; 12], attributes: &[Vec<u8>]) -> Vec<u8> {
    let body = [&header[..], &attributes.concat()].concat();
    let bytes = u32::try_from(body.len() + 16).unwrap();
    let message = [&bytes.to_le_bytes()[..], &24_u16.to_le_bytes(), &[0; 10], &body].concat();
    let length = u16::try_from(message.len() + 4).unwrap();
    [&[1, 1][..], &length.to_be_bytes(), &message].concat()
}

/// A route of a table; `kind` 1 forwards, 6 drops.
fn route(prefix: &str, table: u32, protocol: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let prefix: Ipv4Net = prefix.parse().unwrap();
    let header = [2, prefix.prefix_len(), 0, 0, 0, protocol, 0, kind, 0, 0, 0, 0];
    let key = [attribute(1, &prefix.addr().octets()), attribute(15, &table.to_le_bytes())];
    frame(header, &[&key[..], attributes].concat())
}

fn label(label: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let header = [28, 20, 0, 0, 0, 193, 0, 1, 0, 0, 0, 0];
    frame(header, &[&[attribute(1, &entry(label))], attributes].concat())
}

fn entry(label: u32) -> [u8; 4] {
    (label << 12 | 1 << 8).to_be_bytes()
}

fn by(interface: u32) -> Vec<u8> {
    attribute(4, &interface.to_le_bytes())
}

/// To the second router.
fn to_r2() -> Vec<u8> {
    attribute(5, &[10, 0, 12, 2])
}

fn push(label: u32) -> Vec<u8> {
    let labels = attribute(22, &attribute(1, &entry(label)));
    [attribute(21, &1_u16.to_le_bytes()), labels, to_r2()].concat()
}

fn via_r2() -> Vec<u8> {
    attribute(18, &[2, 0, 10, 0, 12, 2])
}

struct Lab {
    collector: Collector,
    streams: Vec<TcpStream>,
    folder: tempfile::TempDir,
}

impl Lab {
    /// Both routers have said these routes, and their dumps are over.
    fn of(r1: &[Vec<u8>], r2: &[Vec<u8>]) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let source = |number: u8| IpAddr::V4(Ipv4Addr::new(127, 1, 1, number));
        let entry = |number: u8| RouterEntry {
            id: router(number),
            name: format!("r{number}").into(),
            interfaces: vec![Interface::of_address([10, 0, 12, number].into())],
            sources: vec![source(number).into()],
        };
        let settings = Settings {
            data: folder.path().to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            http: None,
            shards: 1,
            snapshot_quiet_ms: 100,
            routers: [1, 2].map(entry).into(),
            ..Settings::default()
        };
        let collector = Collector::start(settings).unwrap();
        let dial = |number: u8, routes: &[Vec<u8>]| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from((source(number), 0)).into()).unwrap();
            socket.connect(&collector.listen_address().into()).unwrap();
            let mut stream: TcpStream = socket.into();
            stream.write_all(&routes.concat()).unwrap();
            stream
        };
        let streams = vec![dial(1, r1), dial(2, r2)];
        let lab = Lab { collector, streams, folder };
        lab.await_dumps();
        lab
    }

    fn await_dumps(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A folder without a first block has no network yet.
            let network = query::network(self.folder.path(), now(), None);
            let is_complete = |id| {
                let network = network.as_ref().ok().map(|answered| &answered.value);
                let router = network.and_then(|network| network.router(id));
                router.is_some_and(|router| router.state.complete.is_some())
            };
            if [1, 2].map(router).into_iter().all(is_complete) {
                return;
            }
            assert!(Instant::now() < deadline, "the dumps do not end");
            // The log says nothing when it grows; the loop asks again.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn verdict(&self, selector: &str) -> String {
        let traces = Traces::open(self.folder.path(), now()).unwrap().value;
        let selector: Selector = selector.parse().unwrap();
        let report = traces.trace(router(1), selector);
        let ends = report.paths.iter().map(|path| path.detail.clone());
        ends.collect::<Vec<_>>().join(", ")
    }

    fn stop(self) {
        drop(self.streams);
        self.collector.stop().unwrap();
        assert_eq!(query::verify(self.folder.path()).unwrap().faults.len(), 0);
    }
}

fn router(number: u8) -> RouterId {
    RouterId(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))
}

#[test]
fn no_packet_is_said_to_arrive_where_nobody_sends_it() {
    let srv6 = [attribute(21, &101_u16.to_le_bytes()), attribute(22, &[0x20, 1, 0x0d, 0xb8])];
    let r1 = [
        route("10.9.0.0/16", 254, STATIC, 1, &[push(24)]),
        route("10.9.9.0/24", 254, STATIC, 6, &[]),
        route("10.1.0.0/24", 254, STATIC, 1, &srv6),
        route("10.4.0.0/16", 1001, STATIC, 1, &[push(144)]),
        route("10.5.0.0/16", 254, STATIC, 1, &[by(7)]),
        route("10.6.0.0/16", 254, CONNECTED, 1, &[by(7)]),
        label(700, &[by(5), attribute(19, &entry(16))]),
        label(701, &[by(1), attribute(19, &entry(16))]),
        label(16, &[via_r2(), attribute(19, &entry(24))]),
    ];
    let r2 = [
        label(24, &[by(1)]),
        route("10.9.0.0/16", 254, CONNECTED, 1, &[by(3)]),
        label(144, &[by(9)]),
        route("10.4.0.0/16", 1001, STATIC, 1, &[by(9)]),
        route("0.0.0.0/0", 254, STATIC, 1, &[attribute(5, &[10, 0, 99, 1])]),
    ];
    let lab = Lab::of(&r1, &r2);
    let (r1, r2) = (router(1), router(2));
    // A label taken off at its end, of which FPM does not say what it stands for.
    assert_eq!(lab.verdict("ip:10.9.1.1/32"), format!("unknown (fec-incomparable) at {r2}"));
    // A discard is an entry: the shorter prefix does not answer for it.
    assert_eq!(lab.verdict("ip:10.9.9.9/32"), format!("discarded at {r1}"));
    assert_eq!(lab.verdict("ip:10.1.0.1/32"), format!("unknown (encapsulated: srv6) at {r1}"));
    // The customer's interface of some VRF: not the global table's default route.
    let vrf = lab.verdict("ip:10.4.0.0/16,1001");
    assert_eq!(vrf, format!("unknown (fec-incomparable) at {r2}"));
    assert_eq!(lab.verdict("ip:10.5.0.1/32"), format!("unknown (interface-unknown) at {r1}"));
    assert_eq!(lab.verdict("ip:10.6.0.1/32"), format!("delivered at {r1}"));
    assert_eq!(lab.verdict("label:700"), format!("unknown (interface-unknown) at {r1}"));
    assert_eq!(lab.verdict("label:701"), format!("delivered at {r2}"));
    lab.stop();
}
