//! Tests of a router's history: which changes and gaps are in it, and in which order.
//!
//! In:   scripted rows of one router.
//! Out:  its events.
//! Law:  a gap is in the list wherever it overlaps what was asked for, however late it was written.
//! Not:  reading them from files (`network::tests` does for all of history).

use smallvec::smallvec;

use super::*;
use crate::mapping::{Ingress, NextHop, Nhlfe, Operation, TimeSource};
use crate::router::RouterState;
use crate::row::{Basis, InputMode};
use crate::table::{Applied, Arrival};

fn router() -> RouterId {
    "192.0.2.1".parse().unwrap()
}

fn mapping(label: u32, fec: &str, operation: Operation, event_us: i64) -> Mapping {
    let next_hop = NextHop::Address("192.0.2.2".parse().unwrap());
    let stack = smallvec![Label::new(200).unwrap()];
    let branch = Nhlfe::new(stack, next_hop);
    Mapping {
        fec: fec.parse().unwrap(),
        ingress: Ingress::platform(Label::new(label).unwrap()),
        operation,
        branches: if operation == Operation::None { smallvec![] } else { smallvec![branch] },
        event_time: Micros(event_us),
        time_source: TimeSource::Router,
        extra: None,
    }
}

struct Live {
    state: RouterState,
    rows: Vec<Row>,
}

impl Live {
    fn say(&mut self, mapping: &Mapping) {
        let position = self.state.next_position();
        let arrival = Arrival { position, collection_time: mapping.event_time, basis: Basis::Live };
        if let Applied::Change(stamp) = self.state.apply(mapping, &arrival) {
            self.rows.push(Row::Change(Change { stamp, mapping: mapping.clone() }));
        }
    }

    fn event(&mut self, time_us: i64, event: SessionEvent) {
        let row = self.state.session_row(Micros(time_us), event);
        self.rows.push(Row::Session(row));
    }

    fn ask(&self, selector: Selector, since: Option<i64>, until: Option<i64>) -> Vec<String> {
        let question = Question {
            router: router(),
            selector,
            since: since.map(Micros),
            until: until.map(Micros),
        };
        let events = events_of_rows(&self.rows, &question, Writer::Present);
        events.iter().map(text).collect()
    }
}

fn text(event: &Event) -> String {
    match event {
        Event::Change(change) => {
            let (stamp, key) = (change.stamp, change.mapping.key());
            format!("{} {} {key}", stamp.effective_time.0, stamp.kind.name())
        }
        Event::Gap(gap) => {
            let end = gap.end.map_or("open".to_owned(), |end| end.0.to_string());
            let key = match gap.scope {
                Scope::Entry(key) => key.to_string(),
                Scope::Router => "all".to_owned(),
                Scope::Rest => "rest".to_owned(),
            };
            format!("{} gap until {end} {} {key}", gap.start.0, gap.reason.name())
        }
    }
}

/// Two entries; a gap from 20 to 40; a gap of entry 100 from 50 to 60; another, open, from 70.
fn history() -> Live {
    let mut live = Live { state: RouterState::new(router()), rows: Vec::new() };
    live.event(
        1,
        SessionEvent::Initiation {
            peer: "192.0.2.1:4000".parse().unwrap(),
            mode: InputMode::Framed,
            permanent: true,
            boot_time: None,
            clock: None,
            interfaces: Vec::new(),
            agent: Box::default(),
        },
    );
    live.say(&mapping(100, "ip:10.0.0.0/8", Operation::Swap, 10));
    live.say(&mapping(101, "ip:10.1.0.0/16", Operation::Swap, 11));
    let reason = Reason::TimedOut;
    live.event(35, SessionEvent::Gap { start: Micros(20), scope: Scope::Router, reason });
    live.event(
        40,
        SessionEvent::SnapshotComplete {
            explicit: true,
            confirmed: 0,
            added: 0,
            altered: 0,
            vanished: 0,
        },
    );
    let key = mapping(100, "unknown", Operation::Swap, 0).key();
    live.event(50, SessionEvent::Gap { start: Micros(50), scope: Scope::Entry(key), reason });
    // It withdraws by label alone, without naming the FEC.
    live.say(&mapping(100, "unknown", Operation::None, 60));
    live.event(90, SessionEvent::Gap { start: Micros(70), scope: Scope::Router, reason });
    live
}

#[test]
fn changes_and_gaps_come_by_time() {
    let live = history();
    assert_eq!(
        live.ask(Selector::All, None, None),
        [
            "10 added ilm 100 platform",
            "11 added ilm 101 platform",
            "20 gap until 40 timed-out all",
            "50 gap until 60 timed-out ilm 100 platform",
            "60 withdrawn ilm 100 platform",
            "70 gap until open timed-out all",
        ]
    );
}

#[test]
fn a_selector_keeps_the_gaps_that_concern_it() {
    let live = history();
    let label = Selector::Label { label: Label::new(101).unwrap(), table: None };
    assert_eq!(
        live.ask(label, None, None),
        [
            "11 added ilm 101 platform",
            "20 gap until 40 timed-out all",
            "70 gap until open timed-out all",
        ]
    );
    // What ends an entry is part of its history, even if it does not say its FEC.
    let fec = Selector::Fec("ip:10.0.0.0/8".parse().unwrap());
    assert_eq!(
        live.ask(fec, Some(11), Some(69)),
        [
            "20 gap until 40 timed-out all",
            "50 gap until 60 timed-out ilm 100 platform",
            "60 withdrawn ilm 100 platform",
        ]
    );
}

#[test]
fn gaps_that_only_overlap_the_time_asked_for_are_in() {
    let live = history();
    assert_eq!(live.ask(Selector::All, Some(25), Some(30)), ["20 gap until 40 timed-out all"]);
    assert_eq!(live.ask(Selector::All, Some(1_000), None), ["70 gap until open timed-out all"]);
    assert_eq!(live.ask(Selector::All, None, Some(9)), Vec::<String>::new());
}

#[test]
fn a_session_that_nobody_ended_is_a_gap_once_the_collector_is_gone() {
    let live = history();
    let mut fold = GapFold::default();
    live.rows[..3].iter().for_each(|row| fold.fold(row));
    assert_eq!(fold.clone().finish(Writer::Present), []);
    let gaps = fold.finish(Writer::Gone);
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].start, gaps[0].reason), (Micros(11), Reason::CollectorLost));
    assert!(gaps[0].holds_at(Micros(11)) && !gaps[0].holds_at(Micros(10)));
}
