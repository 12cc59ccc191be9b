//! Tests of recovery: every prefix of a log, sessions left open, restarts in the same hour.

use std::net::IpAddr;

use super::*;
use crate::log::{BlockBuilder, log_path, read};
use crate::mapping::{Ingress, Label, Mapping, NextHop, Nhlfe, Operation, TimeSource};
use crate::row::{Basis, InputMode, Position, Row};
use crate::table::{Applied, Arrival};

const START: Micros = Micros(498_611 * crate::time::MICROS_PER_HOUR);
const NOW: Micros = Micros(START.0 + 60_000_000);

fn router(number: u8) -> RouterId {
    RouterId(IpAddr::from([192, 0, 2, number]))
}

/// A collector as far as its rows go: states, and the blocks that it would have committed.
struct Writer {
    states: BTreeMap<RouterId, Box<RouterState>>,
    builder: BlockBuilder,
    blocks: Vec<Vec<u8>>,
    time: Micros,
}

impl Writer {
    fn new(states: BTreeMap<RouterId, Box<RouterState>>, time: Micros) -> Writer {
        Writer { states, builder: BlockBuilder::new(0), blocks: Vec::new(), time }
    }

    fn state(&mut self, number: u8) -> &mut RouterState {
        let router = router(number);
        self.states.entry(router).or_insert_with(|| Box::new(RouterState::new(router)))
    }

    fn session(&mut self, number: u8, event: SessionEvent) {
        self.time = self.time.offset(1_000);
        let time = self.time;
        let row = self.state(number).session_row(time, event);
        self.builder.session(&row);
    }

    fn begin(&mut self, number: u8, permanent: bool) {
        let event = SessionEvent::Initiation {
            peer: ([192, 0, 2, number], 40_000).into(),
            mode: InputMode::Framed,
            permanent,
            boot_time: Some(START),
            clock: None,
            interfaces: Vec::new(),
            agent: "agent 1".into(),
        };
        self.session(number, event);
    }

    /// One frame with this label's mapping, now pointing to a next hop.
    fn change(&mut self, number: u8, label: u32, next_hop: u8) {
        self.time = self.time.offset(1_000);
        let collection_time = self.time;
        let mapping = Mapping {
            fec: "ip:10.0.0.3/32".parse().unwrap(),
            ingress: Ingress::platform(Label::new(label).unwrap()),
            operation: Operation::Pop,
            branches: [Nhlfe::new(
                Default::default(),
                NextHop::Address(IpAddr::from([10, 0, 0, next_hop])),
            )]
            .into_iter()
            .collect(),
            event_time: collection_time.offset(-300),
            time_source: TimeSource::Router,
            extra: None,
        };
        let state = self.state(number);
        let last = state.position;
        let position = Position { sequence: last.sequence + 1, index: 0, ..last };
        let arrival = Arrival { position, collection_time, basis: Basis::Live };
        let Applied::Change(stamp) = state.apply(&mapping, &arrival) else {
            panic!("the mapping is a change");
        };
        self.builder.change(&stamp, &mapping);
    }

    fn commit(&mut self) {
        self.builder.all_before_is_durable();
        let mut bytes = Vec::new();
        self.builder.finish(&mut bytes);
        self.blocks.push(bytes);
    }
}

/// What a state is, in a form that can be compared: its entries sorted, without the table.
fn essence(state: &RouterState) -> String {
    let mut entries: Vec<String> = state.table.iter().map(|entry| format!("{entry:?}")).collect();
    entries.sort();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {entries:?}",
        state.router,
        state.position,
        state.boot_time,
        state.sequence_last,
        state.gaps.router,
        state.session,
        state.last_evidence,
    )
}

fn essences(states: &BTreeMap<RouterId, Box<RouterState>>) -> Vec<String> {
    states.values().map(|state| essence(state)).collect()
}

fn write_log(data: &Path, bytes: &[u8]) {
    let path = log_path(data, START.hour(), 0);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Router 1 stays connected, router 2 ends in order, router 3 comes in the last block only.
fn three_routers() -> Writer {
    let mut writer = Writer::new(BTreeMap::new(), START);
    writer.begin(1, true);
    writer.change(1, 16, 2);
    writer.commit();
    writer.begin(2, false);
    writer.change(2, 17, 2);
    writer.change(1, 16, 3);
    writer.session(2, SessionEvent::Termination { reason: Reason::Finished });
    writer.commit();
    writer.begin(3, false);
    writer.change(3, 18, 2);
    writer.commit();
    writer
}

#[test]
fn a_restart_loses_nothing_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let writer = three_routers();
    let log = writer.blocks.concat();
    // What the fold of the whole blocks alone gives, without any file.
    let mut due = vec![(0, essences(&BTreeMap::new()), 0)];
    for count in 1..=3 {
        write_log(data.path(), &writer.blocks[..count].concat());
        let recovered = open(data.path(), NOW).unwrap();
        assert_eq!(recovered.cuts, []);
        let length = writer.blocks[..count].iter().map(Vec::len).sum::<usize>();
        due.push((length, essences(&recovered.routers), recovered.rows.len()));
    }
    for length in 0..=log.len() {
        write_log(data.path(), &log[..length]);
        let recovered = open(data.path(), NOW).unwrap();
        let (kept, states, rows) = due.iter().rev().find(|(kept, ..)| *kept <= length).unwrap();
        assert_eq!(&essences(&recovered.routers), states, "cut at {length}");
        assert_eq!(recovered.rows.len(), *rows);
        assert_eq!(recovered.cuts.len(), usize::from(*kept < length));
    }
}

#[test]
fn a_restart_says_what_it_cannot_vouch_for() {
    let data = tempfile::tempdir().unwrap();
    let mut writer = three_routers();
    write_log(data.path(), &writer.blocks.concat());
    let recovered = open(data.path(), NOW).unwrap();

    let said: Vec<(RouterId, &str)> =
        recovered.rows.iter().map(|row| (row.router, row.event.name())).collect();
    let due = [
        (router(1), "gap"),
        (router(1), "termination"),
        (router(3), "gap"),
        (router(3), "termination"),
    ];
    assert_eq!(said, due);
    for row in &recovered.rows {
        assert_eq!(row.time, NOW);
        if let SessionEvent::Gap { start, scope, reason } = &row.event {
            let last = writer.states[&row.router].last_evidence;
            assert_eq!(
                (Some(*start), *scope, *reason),
                (last, Scope::Router, Reason::CollectorLost)
            );
        }
    }
    // The states know the rows already: they are what the collector's own would be with them.
    for row in &recovered.rows {
        writer.state(match row.router {
            known if known == router(1) => 1,
            _ => 3,
        });
        writer.states.get_mut(&row.router).unwrap().replay_session(row);
    }
    assert_eq!(essences(&recovered.routers), essences(&writer.states));
    assert!(recovered.routers[&router(2)].gaps.router.is_none(), "an orderly end is no gap");
}

#[test]
fn a_clock_that_was_set_back_opens_no_gap_in_the_future() {
    let data = tempfile::tempdir().unwrap();
    write_log(data.path(), &three_routers().blocks.concat());
    let earlier = START.offset(-3_600_000_000);
    let recovered = open(data.path(), earlier).unwrap();
    let gap = recovered.routers[&router(1)].gaps.router.expect("its session was left open");
    assert_eq!(gap.start, earlier, "nobody watches from now on");
}

#[test]
fn a_second_restart_adds_nothing_once_the_rows_are_written() {
    let data = tempfile::tempdir().unwrap();
    let writer = three_routers();
    let mut log = writer.blocks.concat();
    write_log(data.path(), &log);
    let first = open(data.path(), NOW).unwrap();
    let unwritten = open(data.path(), NOW).unwrap();
    assert_eq!(unwritten.rows, first.rows, "a process lost before writing them says the same");

    // The next process appends to the same file of the same hour.
    let mut next = Writer::new(first.routers, NOW);
    first.rows.iter().for_each(|row| next.builder.session(row));
    next.commit();
    next.begin(1, true);
    next.change(1, 16, 4);
    next.session(1, SessionEvent::Termination { reason: Reason::Finished });
    next.commit();
    log.extend(next.blocks.concat());
    write_log(data.path(), &log);
    let second = open(data.path(), NOW).unwrap();
    assert_eq!(second.rows, []);
    assert_eq!(essences(&second.routers), essences(&next.states));
    assert!(second.routers[&router(3)].gaps.router.is_some(), "no snapshot has ended the gap");
}

#[test]
fn damage_makes_its_shards_routers_unknown_until_their_next_snapshot() {
    let data = tempfile::tempdir().unwrap();
    let mut writer = three_routers();
    writer.session(2, SessionEvent::SnapshotBegin);
    let complete = SessionEvent::SnapshotComplete {
        explicit: true,
        confirmed: 1,
        added: 0,
        altered: 0,
        vanished: 0,
    };
    writer.session(2, complete);
    for number in [1, 3] {
        let reason = Reason::Finished;
        writer.session(number, SessionEvent::Termination { reason });
    }
    writer.commit();
    let whole = writer.blocks.concat();
    write_log(data.path(), &whole);
    let recovered = open(data.path(), NOW).unwrap();
    assert!(recovered.routers.values().all(|state| state.gaps.router.is_none()));

    // The third block is the one in which router 3 comes, and router 1's frame could be in it.
    let mut damaged = whole.clone();
    let start = writer.blocks[0].len() + writer.blocks[1].len();
    damaged[start + writer.blocks[2].len() / 2] ^= 1;
    write_log(data.path(), &damaged);
    let recovered = open(data.path(), NOW).unwrap();
    assert_eq!((recovered.report.damages.len(), recovered.cuts.len()), (1, 0));
    let gap = recovered.routers[&router(1)].gaps.router.expect("nobody knows what is missing");
    assert_eq!(gap.reason, Reason::LogDamaged);
    assert!(gap.start > START && gap.start < writer.time);
    assert!(recovered.routers[&router(2)].gaps.router.is_none(), "its snapshot ended the gap");
}

#[test]
fn a_folder_without_a_log_knows_nothing() {
    let data = tempfile::tempdir().unwrap();
    let recovered = open(data.path(), NOW).unwrap();
    assert!(recovered.routers.is_empty() && recovered.rows.is_empty());
    let report = read(data.path(), &Filter::default(), &mut |row: Row| panic!("{row:?}"));
    assert_eq!(report.unwrap().files, 0);
}
