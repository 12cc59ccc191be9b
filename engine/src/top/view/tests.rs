//! Tests of the view: keys, order, cursor.

use super::*;
use crate::http::api::RouterLive;
use crate::watch::Head;

fn entry(router: &str, status: &str, cause: Option<&str>) -> RouterEntry {
    RouterEntry {
        router: router.to_owned(),
        status: status.to_owned(),
        answer: if cause.is_some() { "unknown" } else { "known" }.to_owned(),
        cause: cause.map(str::to_owned),
        ..RouterEntry::default()
    }
}

fn blocked(router: &str, blocked_ms: u64, blocked_longest_ms: u64) -> RouterEntry {
    let live = RouterLive { blocked_ms, blocked_longest_ms, ..RouterLive::default() };
    RouterEntry { live: Some(live), ..entry(router, "connected", None) }
}

fn fleet() -> Picture {
    let mut picture = Picture::new("x:1");
    let mut late = entry("10.0.0.5", "connected", None);
    late.live = Some(RouterLive { deferral_ms: Some(90), rejected: 3, ..RouterLive::default() });
    late.name = "a-late-one".to_owned();
    picture.routers = Some(vec![
        blocked("10.0.0.1", 0, 700),
        blocked("10.0.0.2", 40, 60),
        entry("10.0.0.3", "disconnected", Some("timed-out")),
        entry("10.0.0.4", "disconnected", None),
        late,
    ]);
    picture.bursts = (0..4).rev().map(|id| Head { id, ..Head::default() }).collect();
    picture
}

fn order(view: &View, picture: &Picture) -> Vec<char> {
    let routers = view.ordered(picture.routers.as_ref().unwrap());
    routers.iter().map(|entry| entry.router.chars().last().unwrap()).collect()
}

fn press(view: &mut View, picture: &Picture, codes: &[KeyCode]) -> Reaction {
    let mut last = Reaction::Stay;
    for code in codes {
        last = view.press(KeyEvent::from(*code), picture);
    }
    last
}

/// A part that nobody vouches for stands behind all of a router, and before what is known.
#[test]
fn what_is_known_in_part_comes_behind_what_is_unknown() {
    let mut picture = fleet();
    let part = RouterEntry {
        answer: "in-part".to_owned(),
        ..entry("10.0.0.6", "connected", Some("fec-invalid"))
    };
    let ahead = RouterEntry { clock_ahead: true, ..entry("10.0.0.7", "connected", None) };
    picture.routers.as_mut().unwrap().extend([part, ahead]);
    assert_eq!(order(&View::new(), &picture), ['2', '3', '6', '4', '7', '1', '5']);
}

#[test]
fn the_worst_router_comes_first_whatever_is_asked() {
    let picture = fleet();
    let mut view = View::new();
    press(&mut view, &picture, &[KeyCode::Char('2')]);
    assert_eq!(order(&view, &picture), ['2', '3', '4', '1', '5']);
    press(&mut view, &picture, &[KeyCode::Char('r')]);
    assert_eq!(order(&view, &picture), ['1', '5', '4', '3', '2']);
    let mut orders = Vec::new();
    for _ in Column::ALL {
        press(&mut view, &picture, &[KeyCode::Right]);
        orders.push((view.column.title(), order(&view, &picture)[0]));
    }
    let expected = [
        ("gen", '2'),
        ("entries", '2'),
        ("waiting", '2'),
        ("blocked", '2'),
        ("late", '5'),
        ("rejected", '5'),
        ("router", '1'),
        ("answer", '2'),
    ];
    assert_eq!(orders, expected);
    press(&mut view, &picture, &[KeyCode::Left]);
    assert_eq!(view.column, Column::Router);
}

#[test]
fn keys_change_the_part_and_end_the_view() {
    let picture = fleet();
    let mut view = View::new();
    for part in [Part::Routers, Part::Bursts, Part::Now] {
        assert_eq!(press(&mut view, &picture, &[KeyCode::Tab]), Reaction::Stay);
        assert_eq!(view.part, part);
    }
    press(&mut view, &picture, &[KeyCode::BackTab]);
    assert_eq!(view.part, Part::Bursts);
    // While the help is open, its keys close it and nothing else.
    assert_eq!(press(&mut view, &picture, &[KeyCode::Char('?'), KeyCode::Esc]), Reaction::Stay);
    assert!(!view.help);
    assert_eq!(press(&mut view, &picture, &[KeyCode::Char('q')]), Reaction::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.press(interrupt, &picture), Reaction::Quit);
    let other = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::CONTROL);
    assert_eq!(view.press(other, &picture), Reaction::Stay);
}

#[test]
fn the_cursor_stays_within_its_list_and_on_its_burst() {
    let mut picture = fleet();
    let mut view = View::new();
    view.page_rows = 3;
    press(&mut view, &picture, &[KeyCode::Char('2'), KeyCode::Up, KeyCode::PageDown]);
    assert_eq!(view.router, 3);
    press(&mut view, &picture, &[KeyCode::End, KeyCode::Down, KeyCode::Down]);
    assert_eq!(view.router, 4);
    picture.routers.as_mut().unwrap().truncate(2);
    press(&mut view, &picture, &[KeyCode::Up]);
    assert_eq!(view.router, 0);

    press(&mut view, &picture, &[KeyCode::Char('3')]);
    assert_eq!(view.wanted(&picture, true), Wanted { routers: false, burst: Some(3) });
    press(&mut view, &picture, &[KeyCode::Down]);
    assert_eq!(view.wanted(&picture, true).burst, Some(2));
    // Another burst begins: the cursor stays on the one that was chosen, and on the newest if not.
    picture.bursts.insert(0, Head { id: 4, ..Head::default() });
    assert_eq!(view.burst_index(&picture), 2);
    press(&mut view, &picture, &[KeyCode::Home]);
    picture.bursts.insert(0, Head { id: 5, ..Head::default() });
    assert_eq!(view.wanted(&picture, true).burst, Some(5));
    picture.bursts.clear();
    press(&mut view, &picture, &[KeyCode::Down, KeyCode::PageUp]);
    assert_eq!(view.wanted(&picture, true).burst, None);
}

#[test]
fn only_what_is_shown_is_asked_for() {
    let picture = fleet();
    let mut view = View::new();
    assert_eq!(view.wanted(&picture, false), Wanted::default());
    assert!(view.wanted(&picture, true).routers);
    press(&mut view, &picture, &[KeyCode::Tab]);
    assert!(view.wanted(&picture, false).routers);
}
