//! The recorded routers again, each on a real TCP connection to a running collector.
//!
//! In:   a recording; the collector on loopback; router N dials from 127.1.0.N.
//! Out:  queries about the instant of each pause between two phases, asked after the last one.
//! Law:  as of a pause, every table is what its router showed then, and every entry is vouched for.
//! Not:  what one router's bytes mean (`frr`), or bad networks and senders.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::collector::Collector;
use engine::policy::RouterEntry;
use engine::query::{self, Selector, TraceReport, TraceVerdict, Traces};
use engine::settings::Settings;
use socket2::{Domain, Socket, Type};
use storage::interface::Interface;
use storage::mapping::{Key, RouterId};
use storage::time::Micros;

use super::capture::{Capture, Phase, Router};
use super::{Entries, check_equal};

/// How long the collector may take until a phase is committed; it needs a few tens of ms.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Micros(i64::try_from(since.as_micros()).unwrap())
}

fn source(router: &Router) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 1, 0, router.number()))
}

/// The lab's six routers, as an operator would name them.
fn settings(capture: &Capture, data: &Path) -> Settings {
    let entry = |router: &Router| RouterEntry {
        id: router.id(),
        name: router.name().into(),
        interfaces: router.addresses().into_iter().map(Interface::of_address).collect(),
        sources: vec![source(router).into()],
    };
    Settings {
        data: data.to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        http: None,
        shards: 2,
        snapshot_quiet_ms: 200,
        routers: capture.routers().iter().map(entry).collect(),
        ..Settings::default()
    }
}

fn dial(router: &Router, collector: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source(router), 0)).into()).unwrap();
    socket.connect(&collector.into()).unwrap();
    socket.into()
}

/// The table of every router as of an instant; `None` while an entry or a router is unknown.
fn vouched_tables(data: &Path, at: Micros) -> Option<Vec<(RouterId, Entries)>> {
    let tables = query::tables(data, at).unwrap();
    assert_eq!(tables.warnings, Vec::<String>::new());
    let vouched = tables.value.iter().all(|(_, rows)| rows.iter().all(|row| row.answer.is_known()));
    let entries = |rows: Vec<query::TableRow>| {
        let entry = |row: query::TableRow| {
            (row.key, (row.mapping.operation, row.mapping.branches.to_vec()))
        };
        rows.into_iter().map(entry).collect()
    };
    vouched.then(|| tables.value.into_iter().map(|(id, rows)| (id, entries(rows))).collect())
}

/// Before its first dump is complete a router may have an entry that goes before the known ones.
fn all_are_complete(data: &Path, at: Micros) -> bool {
    let network = query::network(data, at, None).unwrap().value;
    query::router_rows(&network).iter().all(|row| row.complete.is_some())
}

/// Waits until the collector knows what the routers showed; answers the instant asked about.
fn await_tables(data: &Path, expected: &[(RouterId, Entries)]) -> Micros {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let at = now();
        let found = vouched_tables(data, at);
        if found.as_deref() == Some(expected) && all_are_complete(data, at) {
            return at;
        }
        assert!(Instant::now() < deadline, "{}", difference(found.as_deref(), expected));
        // The log says nothing when it grows; the loop asks again.
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn difference(found: Option<&[(RouterId, Entries)]>, expected: &[(RouterId, Entries)]) -> String {
    let Some(found) = found else { return "not everything is vouched for".to_owned() };
    for ((id, found), (_, expected)) in found.iter().zip(expected) {
        check_equal(&id.to_string(), found, expected);
    }
    format!("{} routers found, {} expected", found.len(), expected.len())
}

fn expected_tables(capture: &Capture, phase: Phase) -> Vec<(RouterId, Entries)> {
    capture.routers().iter().map(|router| (router.id(), router.expected(phase))).collect()
}

/// Every way of an LSP, as the numbers of its routers.
fn ways(report: &TraceReport) -> Vec<Vec<u8>> {
    let number = |router: RouterId| match router.0 {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => panic!("{address} is no router of the lab"),
    };
    let way = |path: &query::TracePath| path.hops.iter().map(|hop| number(hop.router)).collect();
    let mut ways: Vec<Vec<u8>> = report.paths.iter().map(way).collect();
    ways.sort();
    ways
}

fn trace(data: &Path, at: Micros, head: &Router, tail: &Router) -> TraceReport {
    let traces = Traces::open(data, at).unwrap();
    assert_eq!(traces.warnings, Vec::<String>::new());
    let fec: Selector = format!("ip:{}/32", tail.id()).parse().unwrap();
    traces.value.trace(head.id(), fec)
}

fn check_collector(name: &str) {
    let capture = Capture::fixture(name);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let collector = Collector::start(settings(&capture, data)).unwrap();
    let routers = capture.routers();
    let dial = |router: &Router| dial(router, collector.listen_address());
    let mut streams: Vec<TcpStream> = routers.iter().map(dial).collect();
    let mut pauses = Vec::new();
    for phase in Phase::ALL {
        for (stream, router) in streams.iter_mut().zip(&routers) {
            stream.write_all(&router.sent(phase)).unwrap();
        }
        pauses.push((phase, await_tables(data, &expected_tables(&capture, phase))));
    }
    // Asked long after: the past has not moved.
    for (phase, at) in &pauses {
        let found = vouched_tables(data, *at);
        assert_eq!(found, Some(expected_tables(&capture, *phase)), "{name} {}", phase.name());
    }
    let instants: Vec<Micros> = pauses.iter().map(|(_, at)| *at).collect();
    check_ways(data, &instants, &routers);
    drop(streams);
    collector.stop().unwrap();
    let report = query::verify(data).unwrap();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
}

/// r1 reaches r6 on three ways; without the link between r2 and r5 two are left.
fn check_ways(data: &Path, instants: &[Micros], routers: &[Router]) {
    let with = [vec![1, 2, 3, 6], vec![1, 2, 5, 6], vec![1, 4, 5, 6]];
    let without = [vec![1, 2, 3, 6], vec![1, 4, 5, 6]];
    let expected: [&[Vec<u8>]; 3] = [&with, &without, &with];
    for (at, expected) in instants.iter().zip(expected) {
        let report = trace(data, *at, &routers[0], &routers[5]);
        assert_eq!(report.verdict, TraceVerdict::Delivered, "{report:?}");
        assert_eq!(ways(&report), expected, "as of {at}");
    }
}

#[test]
fn the_past_of_labels_in_routes_is_what_the_routers_showed() {
    check_collector("ldp6_labels_in_route");
}

#[test]
fn the_past_of_next_hop_groups_is_what_the_routers_showed() {
    check_collector("ldp6_nhg");
}

#[test]
fn the_past_of_a_burst_is_what_the_router_showed() {
    let capture = Capture::fixture("isis_sr_3000");
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(settings(&capture, folder.path())).unwrap();
    let router = &capture.routers()[0];
    let mut stream = dial(router, collector.listen_address());
    let mut pauses = Vec::new();
    for phase in Phase::ALL {
        stream.write_all(&router.sent(phase)).unwrap();
        pauses.push(await_tables(folder.path(), &expected_tables(&capture, phase)));
    }
    for (phase, at) in Phase::ALL.into_iter().zip(pauses) {
        let found = vouched_tables(folder.path(), at);
        assert_eq!(found, Some(expected_tables(&capture, phase)), "{}", phase.name());
    }
    drop(stream);
    collector.stop().unwrap();
    assert_eq!(query::verify(folder.path()).unwrap().faults.len(), 0);
}

/// Since when each entry has its value, as of an instant.
fn active_since(data: &Path, at: Micros) -> BTreeMap<(RouterId, Key), Micros> {
    let tables = query::tables(data, at).unwrap().value;
    let rows = tables.into_iter().flat_map(|(id, rows)| rows.into_iter().map(move |row| (id, row)));
    rows.map(|(id, row)| ((id, row.key), row.active_since)).collect()
}

/// zebra dumps everything again after each connect, and says no end: nothing of it is news.
#[test]
fn a_snapshot_is_evidence_not_news() {
    let capture = Capture::fixture("ldp6_nhg");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let routers = capture.routers();
    let expected = expected_tables(&capture, Phase::Dump);
    let mut known = Vec::new();
    for _ in 0..2 {
        let collector = Collector::start(settings(&capture, data)).unwrap();
        let in_a_gap = vouched_tables(data, now()).is_none();
        assert_eq!(in_a_gap, !known.is_empty(), "until the next dump, what was known is not known");
        let dial = |router: &Router| dial(router, collector.listen_address());
        let mut streams: Vec<TcpStream> = routers.iter().map(dial).collect();
        for (stream, router) in streams.iter_mut().zip(&routers) {
            stream.write_all(&router.sent(Phase::Dump)).unwrap();
        }
        let at = await_tables(data, &expected);
        drop(streams);
        collector.stop().unwrap();
        let report = query::verify(data).unwrap();
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        known.push((active_since(data, at), report.change_rows));
    }
    let entries: usize = expected.iter().map(|(_, entries)| entries.len()).sum();
    assert_eq!((known[0].0.len(), known[0].1), (entries, entries as u64));
    assert_eq!(known[0], known[1], "same since, and not one row more");
}
