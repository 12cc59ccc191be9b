//! Tests of the router state: what sessions, gaps and ledger rows leave behind.
//!
//! In:   scripted rows of one router.
//! Out:  the live state beside the state folded from its rows.
//! Law:  a state folded from the rows that it gave answers as the state that gave them.
//! Not:  what single mappings do (`table::tests`).

use super::*;
use crate::gaps::KEY_GAPS_MAX;
use crate::mapping::Key;
use crate::mapping::tests::swap;
use crate::row::ChangeKind;

fn router() -> RouterId {
    "192.0.2.1".parse().unwrap()
}

fn initiation(boot_us: Option<i64>) -> SessionEvent {
    SessionEvent::Initiation {
        peer: "192.0.2.1:4000".parse().unwrap(),
        mode: InputMode::Framed,
        permanent: true,
        boot_time: boot_us.map(Micros),
        clock: None,
        interfaces: vec![Interface::of_address("10.0.0.1".parse().unwrap())],
        agent: "agent 1".into(),
    }
}

fn gap(start_us: i64, key: Option<Key>) -> SessionEvent {
    let scope = key.map_or(Scope::Router, Scope::Entry);
    SessionEvent::Gap { start: Micros(start_us), scope, reason: Reason::ConnectionLost }
}

fn ledger(generation: u32, sequence_last: u64, time_us: i64) -> Row {
    Row::Ledger(LedgerRow {
        router: Some(router()),
        generation,
        time: Micros(time_us),
        sequence_last,
        bytes_read: 1,
        bytes_framed: 1,
        mappings_framed: 0,
        changes: 0,
        confirmed: 0,
        duplicates: 0,
        derived: 0,
        rejected: Vec::new(),
    })
}

/// A live state and every row that it gave.
struct Live {
    state: RouterState,
    rows: Vec<Row>,
}

impl Live {
    fn new() -> Live {
        Live { state: RouterState::new(router()), rows: Vec::new() }
    }

    fn event(&mut self, time_us: i64, event: SessionEvent) {
        let row = self.state.session_row(Micros(time_us), event);
        self.rows.push(Row::Session(row));
    }

    fn say(&mut self, time_us: i64, basis: Basis, mapping: &Mapping) -> Applied {
        let position = self.state.next_position();
        let arrival = Arrival { position, collection_time: Micros(time_us), basis };
        let applied = self.state.apply(mapping, &arrival);
        if let Applied::Change(stamp) = applied {
            self.rows.push(Row::Change(Change { stamp, mapping: mapping.clone() }));
        }
        applied
    }

    fn complete(&mut self, time_us: i64) -> SnapshotCounts {
        let rows = &mut self.rows;
        let row = self.state.complete_snapshot(true, Micros(time_us), &mut |stamp, mapping| {
            rows.push(Row::Change(Change { stamp: *stamp, mapping: mapping.clone() }));
        });
        let SessionEvent::SnapshotComplete { confirmed, added, altered, vanished, .. } = row.event
        else {
            unreachable!("a snapshot ends with its completion");
        };
        self.rows.push(Row::Session(row));
        SnapshotCounts { confirmed, added, altered, vanished }
    }

    fn folded(&self) -> RouterState {
        let mut state = RouterState::new(router());
        self.rows.iter().for_each(|row| state.replay(row));
        state
    }
}

fn position_of(row: &Row) -> Position {
    match row {
        Row::Change(change) => change.stamp.position,
        Row::Session(session) => session.position,
        Row::Ledger(_) | Row::Kernel(_) => panic!("expected a row with a position"),
    }
}

#[test]
fn a_folded_state_answers_as_the_live_one() {
    let mut live = Live::new();
    live.event(10, initiation(Some(1)));
    live.state.begin_snapshot();
    live.event(11, SessionEvent::SnapshotBegin);
    for label in 100..104 {
        live.say(12, Basis::Snapshot, &swap(label, 200, 10));
    }
    live.complete(13);
    live.say(14, Basis::Live, &swap(100, 201, 14));
    live.event(20, SessionEvent::Termination { reason: Reason::ConnectionLost });
    live.event(20, gap(14, None));
    live.event(30, initiation(Some(1)));
    live.state.begin_snapshot();
    live.event(31, SessionEvent::SnapshotBegin);
    let news = live.say(32, Basis::Snapshot, &swap(300, 200, 30));
    assert!(matches!(news, Applied::Change(stamp) if stamp.not_before == Some(Micros(14))));
    let counts = live.complete(33);
    assert_eq!((counts.added, counts.vanished), (1, 4));

    let folded = live.folded();
    assert_eq!(folded.position, live.state.position);
    assert_eq!(folded.position.generation, 2);
    assert_eq!((folded.gaps.router, folded.complete), (None, Some(Micros(33))));
    assert_eq!(folded.session, live.state.session);
    assert_eq!(folded.table.len(), 1);
    assert_eq!(folded.last_evidence, live.state.last_evidence);
    assert!(folded.owns("10.0.0.1".parse().unwrap()) && folded.owns(router().0));
    let positions: Vec<Position> = live.rows.iter().map(position_of).collect();
    assert!(positions.windows(2).all(|two| two[0] < two[1]), "{positions:?}");
}

#[test]
fn a_gap_keeps_its_earliest_start_until_a_snapshot_is_complete() {
    let mut live = Live::new();
    live.event(10, initiation(None));
    live.event(20, gap(15, None));
    live.event(21, gap(18, None));
    live.event(22, gap(12, None));
    assert_eq!(live.state.gaps.router.map(|gap| gap.start), Some(Micros(12)));
    live.event(30, initiation(None));
    assert!(live.state.gaps.router.is_some(), "a session alone vouches for nothing");
    live.state.begin_snapshot();
    live.complete(31);
    assert_eq!(live.folded().gaps.router, None);
}

#[test]
fn a_key_gap_ends_with_the_next_word_on_the_key() {
    let mut live = Live::new();
    live.event(10, initiation(None));
    let mapping = swap(100, 200, 11);
    live.say(11, Basis::Live, &mapping);
    live.event(12, gap(12, Some(mapping.key())));
    assert_eq!(live.folded().gaps.keys.len(), 1);
    // The same value again is no mere confirmation here: it needs a row, or history cannot know.
    let applied = live.say(13, Basis::Live, &swap(100, 200, 13));
    assert!(matches!(applied, Applied::Change(stamp) if stamp.kind == ChangeKind::Reconfirmed));
    assert!(live.state.gaps.keys.is_empty());
    assert!(live.folded().gaps.keys.is_empty());
    assert_eq!(live.say(14, Basis::Live, &swap(100, 200, 14)), Applied::Confirmed);
}

#[test]
fn too_many_key_gaps_are_the_gap_of_the_router() {
    let mut state = RouterState::new(router());
    state.session_row(Micros(1), initiation(None));
    for label in 0..KEY_GAPS_MAX as u32 {
        let key = swap(label + 16, 1, 0).key();
        state.session_row(Micros(9), gap(8, Some(key)));
        state.session_row(Micros(9), gap(7, Some(key)));
    }
    assert_eq!((state.gaps.keys.len(), state.gaps.router), (KEY_GAPS_MAX, None));
    state.session_row(Micros(9), gap(6, Some(swap(15, 1, 0).key())));
    assert_eq!(state.gaps.keys.len(), KEY_GAPS_MAX);
    assert_eq!(state.gaps.router.map(|gap| gap.start), Some(Micros(6)));
}

#[test]
fn sequences_belong_to_a_boot() {
    let mut live = Live::new();
    live.event(10, initiation(Some(1)));
    live.event(20, initiation(Some(1)));
    live.event(30, initiation(Some(2)));
    let books = [ledger(1, 50, 11), ledger(2, 70, 21), ledger(3, 4, 31)];
    let mut behind = RouterState::new(router());
    live.rows.iter().chain(&books).for_each(|row| behind.replay(row));
    assert_eq!((behind.boot_time, behind.sequence_last), (Some(Micros(2)), 4));
    let mut between = RouterState::new(router());
    live.rows.iter().zip(&books).flat_map(|(row, book)| [row, book]).for_each(|row| {
        between.replay(row);
    });
    assert_eq!(between.sequence_last, 4);
    // The same boot goes on over a reconnect.
    let mut same = RouterState::new(router());
    live.rows.iter().take(2).chain(&books[..2]).for_each(|row| same.replay(row));
    assert_eq!(same.sequence_last, 70);
}

#[test]
fn rows_of_other_routers_are_ignored() {
    let mut live = Live::new();
    live.event(10, initiation(None));
    live.say(11, Basis::Live, &swap(100, 200, 11));
    let mut other = RouterState::new("192.0.2.9".parse().unwrap());
    live.rows.iter().for_each(|row| other.replay(row));
    assert_eq!((other.table.len(), other.position), (0, Position::default()));
}

#[test]
fn configured_rows_count_outside_every_session() {
    let mut live = Live::new();
    live.event(10, initiation(None));
    let names = ["paris", "lyon"];
    for name in names {
        let event = SessionEvent::Configured { name: name.into(), interfaces: Vec::new() };
        live.event(11, event);
    }
    let positions: Vec<Position> = live.rows.iter().skip(1).map(position_of).collect();
    assert!(positions[0] < positions[1] && positions[1].generation == 0);
    assert_eq!(&*live.folded().name, "lyon");
    assert_eq!(live.state.position.generation, 1);
}

fn shows(explicit: bool) -> SessionEvent {
    let (confirmed, added, altered, vanished) = (0, 0, 0, 0);
    SessionEvent::SnapshotComplete { explicit, confirmed, added, altered, vanished }
}

/// A router whose clock is behind, as it tells a change of the key 24 at 2,000, dated 500; before,
/// a snapshot began at 1,000.
fn dated_before(snapshot: impl Fn(&mut Live)) -> Micros {
    let mut live = Live::new();
    live.event(100, initiation(None));
    live.say(200, Basis::Live, &swap(24, 25, 200));
    live.event(1_000, SessionEvent::SnapshotBegin);
    live.state.begin_snapshot();
    snapshot(&mut live);
    live.event(1_500, shows(true));
    let Applied::Change(stamp) = live.say(2_000, Basis::Live, &swap(24, 26, 500)) else {
        panic!("it is another value");
    };
    stamp.effective_time
}

#[test]
fn a_snapshot_that_was_read_in_part_proves_what_it_showed_and_nothing_else() {
    let lost = |scope: Scope| {
        let reason = Reason::Rejected(crate::row::Cause::NhlfeInvalid);
        SessionEvent::Gap { start: Micros(1_100), scope, reason }
    };
    let show = |live: &mut Live| {
        live.say(1_200, Basis::Snapshot, &swap(24, 25, 200));
    };
    assert_eq!(dated_before(show), Micros(1_000));
    // Something else could not be read.
    let in_part = |live: &mut Live| {
        show(live);
        live.event(1_300, lost(Scope::Rest));
    };
    assert_eq!(dated_before(in_part), Micros(1_000));
    // Its own value could not be read: the router's time may be right.
    let garbled = |live: &mut Live| {
        live.event(1_300, lost(Scope::Entry(swap(24, 25, 0).key())));
    };
    assert_eq!(dated_before(garbled), Micros(500));
}

#[test]
fn what_a_snapshot_may_have_hidden_is_filed_as_the_router_says_and_disputed() {
    let mut live = Live::new();
    live.event(100, initiation(None));
    live.event(1_000, SessionEvent::SnapshotBegin);
    live.state.begin_snapshot();
    let reason = Reason::Rejected(crate::row::Cause::FecInvalid);
    live.event(1_100, SessionEvent::Gap { start: Micros(900), scope: Scope::Rest, reason });
    live.event(1_500, shows(false));
    for (read, dated, out) in [(2_000, 500, 25), (2_001, 600, 26)] {
        let Applied::Change(stamp) = live.say(read, Basis::Live, &swap(24, out, dated)) else {
            panic!("it is another value");
        };
        assert_eq!((stamp.effective_time, stamp.is_disputed()), (Micros(dated), true));
    }
}
