//! A small network on disk, for the tests of queries, commands and the cheat sheet.
//!
//! In:   a folder.
//! Out:  the log of four routers over half an hour: an LSP that breaks, heals and leaves a gap.
//! Law:  rows come from the same fold that the collector uses, never from hand-made positions.
//! Not:  a workload (that is the load generator's).

use std::net::SocketAddr;
use std::path::Path;

use storage::interface::Interface;
use storage::log::layout::KERNEL_SHARD;
use storage::log::{BlockBuilder, DataLock, kernel_block, lock, log_path};
use storage::mapping::{
    Fec, Ingress, Label, Link, Mapping, Name, NextHop, Nhlfe, Operation, Origin, Role, TimeSource,
};
use storage::router::RouterState;
use storage::row::{Basis, InputMode, KernelRow, LedgerRow, Reason, Scope, SessionEvent};
use storage::table::{Applied, Arrival};
use storage::time::{MICROS_PER_SECOND, Micros};

/// The sessions begin here: 2026-11-22T04:00:00Z.
pub(crate) const START: Micros = Micros(1_795_320_000 * MICROS_PER_SECOND);
/// The link behind p2 fails; p2 withdraws 50 ms later, pe1 goes round 200 ms later.
pub(crate) const FAILURE: Micros = Micros(START.0 + 600 * MICROS_PER_SECOND);
/// p2 is heard of for the last time.
pub(crate) const LOST: Micros = Micros(START.0 + 1_200 * MICROS_PER_SECOND);
/// What counts as now: half an hour after the start.
pub(crate) const NOW: Micros = Micros(START.0 + 1_800 * MICROS_PER_SECOND);

const BYTES_PER_MAPPING: u64 = 100;

/// Writes the log: pe1 and p2 on shard 0, pe3 and p4 on shard 1. While the lock is held, the
/// collector counts as running: without it, open sessions would be watched by nobody.
pub(crate) fn write(data: &Path) -> DataLock {
    let mut shards = [Shard::new(0), Shard::new(1)];
    let [first, second] = &mut shards;
    let mut pe1 = Router::begin(first, "192.0.2.1", "pe1", &["10.0.12.1", "10.0.14.1"]);
    let mut p2 = Router::begin(first, "192.0.2.2", "p2", &["10.0.12.2", "10.0.23.2"]);
    let mut pe3 = Router::begin(second, "192.0.2.3", "pe3", &["10.0.23.3", "10.0.34.3"]);
    let mut p4 = Router::begin(second, "192.0.2.4", "p4", &["10.0.14.4", "10.0.34.4"]);

    let at = START.offset(MICROS_PER_SECOND);
    pe1.snapshot(
        first,
        at,
        &[
            mapping(CUSTOMER, None, Operation::Push, &["13@recursive"]),
            service(13, LOOPBACK, &["12@10.0.12.2"]),
            mapping(LOOPBACK, None, Operation::Push, &["12@10.0.12.2"]),
            mapping("ip:10.9.9.0/24", None, Operation::Push, &["77@10.0.99.9"]),
        ],
    );
    p2.snapshot(
        first,
        at,
        &[
            mapping(LOOPBACK, Some(12), Operation::Swap, &["3@10.0.23.3"]),
            mapping("ip:192.0.2.1/32", Some(21), Operation::Swap, &["3@10.0.12.1"]),
        ],
    );
    pe3.snapshot(second, at, &[mapping(CUSTOMER, Some(13), Operation::Pop, &["-@fec"])]);
    p4.snapshot(second, at, &[mapping(LOOPBACK, Some(24), Operation::Swap, &["3@10.0.34.3"])]);
    pe3.speak(second, FAILURE.offset(-60 * MICROS_PER_SECOND), &[]);

    p2.speak(first, FAILURE.offset(50_000), &[mapping(LOOPBACK, Some(12), Operation::None, &[])]);
    pe1.speak(
        first,
        FAILURE.offset(200_000),
        &[
            service(13, LOOPBACK, &["24@10.0.14.4"]),
            mapping(LOOPBACK, None, Operation::Push, &["24@10.0.14.4"]),
        ],
    );
    p2.lose(first, LOST);
    for shard in &mut shards {
        shard.write(data);
    }
    write_burst(data);
    lock(data).unwrap()
}

/// Writes a log in which pe1 alone has a table: label 100 becomes 101, that 102, and so on, every
/// one looked up in the same router; the last leaves MPLS.
pub(crate) fn write_ladder(data: &Path, rungs: u32) -> DataLock {
    let mut shard = Shard::new(0);
    let mut pe1 = Router::begin(&mut shard, "192.0.2.1", "pe1", &[]);
    let rung = |label: u32| {
        let branch = format!("{}@recursive", label + 1);
        mapping(LOOPBACK, Some(label), Operation::Swap, &[&branch])
    };
    let mut mappings: Vec<Mapping> = (100..100 + rungs).map(rung).collect();
    mappings.push(mapping(LOOPBACK, Some(100 + rungs), Operation::Pop, &["-@fec"]));
    pe1.snapshot(&mut shard, START.offset(MICROS_PER_SECOND), &mappings);
    shard.write(data);
    lock(data).unwrap()
}

mod model;

pub(crate) use model::{FILED_AHEAD, SKEW_US, write_model};

pub(crate) const CUSTOMER: &str = "vrf:192.0.2.3,65000:2";
pub(crate) const LOOPBACK: &str = "ip:192.0.2.3/32";

/// Somebody pours 400 mappings into the hole: what the watch would have kept of it.
fn write_burst(data: &Path) {
    let (start, end) = (FAILURE.offset(40_000), FAILURE.offset(70_000));
    let rows = [
        (FAILURE, "stall.io.some_us", 1_000),
        (start, "burst.begin", 0),
        (start, "bin.received_bytes", 30_000),
        (start, "bin.surge_bytes", 30_000),
        (start.offset(10_000), "bin.received_bytes", 10_000),
        (start.offset(10_000), "bin.mappings", 150),
        (start.offset(10_000), "bin.surge_bytes", 25_000),
        (start.offset(20_000), "bin.mappings", 250),
        (start.offset(15_000), "TcpExt.PruneCalled", 3),
        (start.offset(15_000), "socket.drops", 2),
        (end, "burst.routers", 2),
        (end, "burst.gaps", 0),
        (end, "burst.blocked_longest_ms", 0),
        (end, "burst.because sockets of the collector dropped 2 segments", 0),
        (end, "burst.squeezed.socket", 0),
        (end, "burst.end", 30_000),
    ];
    let row = |(time, counter, value): (Micros, &str, u64)| KernelRow {
        time,
        counter: counter.into(),
        value,
    };
    let block = kernel_block(&rows.map(row));
    std::fs::write(log_path(data, START.hour(), KERNEL_SHARD), block).unwrap();
}

/// `24/144@10.0.0.2%eth0 (backup)`, as `Nhlfe` shows it.
fn branch(text: &str) -> Nhlfe {
    let (text, role) = match text.strip_suffix(" (backup)") {
        Some(text) => (text, Role::Backup),
        None => (text, Role::Primary),
    };
    let (text, interface) = match text.split_once('%') {
        Some((text, interface)) => (text, Name::new(interface)),
        None => (text, None),
    };
    let (stack, next_hop) = text.split_once('@').unwrap();
    let labels = stack.split('/').filter(|label| *label != "-");
    let stack = labels.map(|label| Label::new(label.parse().unwrap()).unwrap()).collect();
    let next_hop = match next_hop {
        "fec" => NextHop::Fec,
        "recursive" => NextHop::Recursive,
        "" => NextHop::Interface,
        address => NextHop::Address(address.parse().unwrap()),
    };
    let link = Link { interface, ..Link::default() };
    Nhlfe { role, ..Nhlfe::new(stack, next_hop).with_link(link) }
}

fn mapping(fec: &str, label: Option<u32>, operation: Operation, branches: &[&str]) -> Mapping {
    let ingress =
        label.map_or(Ingress::UNTAGGED, |label| Ingress::platform(Label::new(label).unwrap()));
    Mapping {
        fec: fec.parse::<Fec>().unwrap(),
        ingress,
        operation,
        branches: branches.iter().map(|text| branch(text)).collect(),
        event_time: START,
        time_source: TimeSource::Router,
        extra: None,
    }
}

fn service(label: u32, fec: &str, branches: &[&str]) -> Mapping {
    let mut mapping = mapping(fec, Some(label), Operation::Push, branches);
    mapping.ingress.origin = Origin::Service;
    mapping
}

struct Shard {
    number: u16,
    rows: BlockBuilder,
    bytes: Vec<u8>,
}

impl Shard {
    fn new(number: u16) -> Shard {
        Shard { number, rows: BlockBuilder::new(number), bytes: Vec::new() }
    }

    fn commit(&mut self) {
        self.rows.finish(&mut self.bytes);
        self.rows.all_before_is_durable();
    }

    fn write(&mut self, data: &Path) {
        let path = log_path(data, START.hour(), self.number);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &self.bytes).unwrap();
    }
}

struct Router {
    state: RouterState,
}

impl Router {
    fn begin(shard: &mut Shard, id: &str, name: &str, addresses: &[&str]) -> Router {
        Router::begin_at(shard, id, name, addresses, None)
    }

    /// With a clock of its own.
    fn begin_at(
        shard: &mut Shard,
        id: &str,
        name: &str,
        addresses: &[&str],
        clock: Option<Micros>,
    ) -> Router {
        let mut router = Router { state: RouterState::new(id.parse().unwrap()) };
        let interfaces: Vec<Interface> =
            addresses.iter().map(|text| Interface::of_address(text.parse().unwrap())).collect();
        let configured =
            SessionEvent::Configured { name: name.into(), interfaces: interfaces.clone() };
        router.event(shard, START.offset(-MICROS_PER_SECOND), configured);
        let initiation = SessionEvent::Initiation {
            peer: SocketAddr::new(id.parse().unwrap(), 40_000),
            mode: InputMode::Framed,
            permanent: true,
            boot_time: Some(START.offset(-3_600 * MICROS_PER_SECOND)),
            clock,
            interfaces,
            agent: "sample 1.0".into(),
        };
        router.event(shard, START, initiation);
        shard.commit();
        router
    }

    fn event(&mut self, shard: &mut Shard, time: Micros, event: SessionEvent) {
        let row = self.state.session_row(time, event);
        shard.rows.session(&row);
    }

    fn snapshot(&mut self, shard: &mut Shard, time: Micros, mappings: &[Mapping]) {
        self.event(shard, time, SessionEvent::SnapshotBegin);
        self.state.begin_snapshot();
        self.apply(shard, time, Basis::Snapshot, mappings);
        let row = self.state.complete_snapshot(true, time, &mut |_, _| {});
        shard.rows.session(&row);
        shard.commit();
    }

    fn speak(&mut self, shard: &mut Shard, time: Micros, mappings: &[Mapping]) {
        let timed = mappings.iter().cloned();
        let timed: Vec<Mapping> =
            timed.map(|mapping| Mapping { event_time: time, ..mapping }).collect();
        self.apply(shard, time, Basis::Live, &timed);
        shard.commit();
    }

    fn lose(&mut self, shard: &mut Shard, time: Micros) {
        let reason = Reason::TimedOut;
        let noticed = time.offset(60 * MICROS_PER_SECOND);
        self.event(shard, noticed, SessionEvent::Termination { reason });
        self.event(shard, noticed, SessionEvent::Gap { start: time, scope: Scope::Router, reason });
        shard.commit();
    }

    fn apply(&mut self, shard: &mut Shard, time: Micros, basis: Basis, mappings: &[Mapping]) {
        // Changes are read a little later than they happen; a snapshot before it is complete.
        let read = if basis == Basis::Live { time.offset(3_000) } else { time };
        let sequence = self.state.position.sequence + 1;
        let mut changes = 0;
        for (index, mapping) in mappings.iter().enumerate() {
            let mut position = self.state.position;
            position.sequence = sequence;
            position.index = index as u32;
            let arrival = Arrival { position, collection_time: read, basis };
            if let Applied::Change(stamp) = self.state.apply(mapping, &arrival) {
                shard.rows.change(&stamp, mapping);
                changes += 1;
            }
        }
        let framed = mappings.len() as u64;
        shard.rows.ledger(&LedgerRow {
            router: Some(self.state.router),
            generation: self.state.position.generation,
            time: read,
            sequence_last: sequence,
            bytes_read: framed * BYTES_PER_MAPPING,
            bytes_framed: framed * BYTES_PER_MAPPING,
            mappings_framed: framed,
            changes,
            confirmed: framed - changes,
            duplicates: 0,
            derived: 0,
            rejected: Vec::new(),
        });
    }
}
