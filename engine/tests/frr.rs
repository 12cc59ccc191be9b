//! Real routers: what FRR sent over FPM must become the tables that the same routers showed.
//!
//! In:   recorded sessions of six routers around a link that fails and comes back (fixtures/frr).
//! Out:  a label table per router and phase, compared with `show mpls table`, `show ip route`.
//! Law:  equal means equal: every label, stack, next hop; no entry more and none less.
//! Not:  how the bytes travel: the session's decoder is called directly, in uneven pieces.
//!
//! `STORMDRAIN_FRR_CAPTURES` names more folders of the same layout, separated by colons
//! (scripts/frr-captures.sh).

mod capture;
mod collector;
mod shown;
mod traces;

use std::collections::BTreeMap;

use engine::wire::decoder::Decoder;
use engine::wire::{Step, Tools, Unit, UnitKind, WireLimits};
use storage::mapping::{Key, Nhlfe, Operation, RouterId};
use storage::row::{Basis, InputMode, Position};
use storage::table::{Applied, Arrival, RouterTable};
use storage::time::Micros;

use self::capture::{Capture, Phase};

/// What a table says, without times.
type Entries = BTreeMap<Key, (Operation, Vec<Nhlfe>)>;

/// One router's side of one session: the decoder and the table behind it.
struct Session {
    decoder: Decoder,
    tools: Tools,
    unit: Unit,
    table: RouterTable,
    position: Position,
    mappings: usize,
    changes: usize,
}

impl Session {
    fn new(router: RouterId) -> Session {
        Session {
            decoder: Decoder::new(),
            tools: Tools::new(WireLimits::default()),
            unit: Unit::new(),
            table: RouterTable::new(router),
            position: Position { generation: 1, sequence: 0, index: 0 },
            mappings: 0,
            changes: 0,
        }
    }

    /// Reads the bytes of one phase, as if they came in pieces of 1 to 1,500 bytes.
    fn read(&mut self, bytes: &[u8]) {
        let (mut consumed, mut received) = (0, 0);
        while received < bytes.len() {
            received = bytes.len().min(received + 1 + received * 7_919 % 1_500);
            loop {
                let now = Micros(1_795_322_513_000_000 + received as i64);
                let Session { decoder, tools, unit, .. } = self;
                match decoder.next(&bytes[consumed..received], now, tools, unit) {
                    Step::Incomplete { .. } => break,
                    Step::Nothing { consumed: more } => consumed += more,
                    Step::Unit { consumed: more } => {
                        consumed += more;
                        self.apply(now);
                    }
                    step => panic!("byte {consumed}: {step:?}"),
                }
            }
        }
        assert_eq!(consumed, bytes.len(), "a phase ends with a whole frame");
        assert_eq!(self.decoder.mode(), Some(InputMode::Fpm));
    }

    fn apply(&mut self, now: Micros) {
        assert_eq!((&self.unit.kind, &self.unit.rejected[..]), (&UnitKind::Mappings, &[][..]));
        self.position.sequence += 1;
        for (index, mapping) in self.unit.mappings.iter().enumerate() {
            let position = Position { index: index as u32, ..self.position };
            let arrival = Arrival { position, collection_time: now, basis: Basis::Live };
            let applied = self.table.apply(mapping, &arrival);
            self.changes += usize::from(matches!(applied, Applied::Change(_)));
        }
        self.mappings += self.unit.mappings.len();
    }

    fn entries(&self) -> Entries {
        let entry = |mapping: storage::mapping::Mapping| {
            (mapping.key(), (mapping.operation, mapping.branches.to_vec()))
        };
        self.table.iter().map(|found| entry(found.mapping())).collect()
    }
}

/// Fails with the entries that differ, not with two whole tables.
fn check_equal(what: &str, found: &Entries, expected: &Entries) {
    let keys: std::collections::BTreeSet<&Key> = found.keys().chain(expected.keys()).collect();
    let differs = |key: &&Key| found.get(key) != expected.get(key);
    let line =
        |key: &Key| format!("{key}: found {:?}, expected {:?}", found.get(key), expected.get(key));
    let lines: Vec<String> = keys.into_iter().filter(differs).take(10).map(line).collect();
    assert_eq!(lines, Vec::<String>::new(), "{what}");
}

fn check_capture(capture: &Capture) {
    let (mut mappings, mut changes) = (0, 0);
    for router in capture.routers() {
        let mut session = Session::new(router.id());
        for phase in Phase::ALL {
            session.read(&router.sent(phase));
            let what = format!("{} {} {}", capture.name(), router.name(), phase.name());
            let expected = router.expected(phase);
            assert!(expected.len() > 10, "{what}: {} entries expected", expected.len());
            check_equal(&what, &session.entries(), &expected);
        }
        mappings += session.mappings;
        changes += session.changes;
    }
    assert!(0 < changes && changes <= mappings);
    println!("{}: {mappings} mappings, {changes} changes, every table equal", capture.name());
}

#[test]
fn labels_in_routes_become_the_router_s_own_table() {
    check_capture(&Capture::fixture("ldp6_labels_in_route"));
}

#[test]
fn labels_in_next_hop_groups_become_the_router_s_own_table() {
    check_capture(&Capture::fixture("ldp6_nhg"));
}

#[test]
fn a_burst_of_segment_routing_becomes_the_router_s_own_table() {
    check_capture(&Capture::fixture("isis_sr_3000"));
    let folders = std::env::var("STORMDRAIN_FRR_CAPTURES").unwrap_or_default();
    for folder in folders.split(':').filter(|folder| !folder.is_empty()) {
        check_capture(&Capture::open(folder.into()));
    }
}
