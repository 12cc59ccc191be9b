//! Tests of the drawing: what a terminal of a given size shows.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::bursts::squeezed as squeezed_bins;
use super::*;
use crate::http::api::RouterEntry;
use crate::top::picture::News;
use crate::top::sample;

const PLAIN: Theme = Theme { colour: false };

fn drawn(picture: &Picture, view: &mut View, theme: Theme, size: (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, picture, view, theme, 5_000)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let cells: Vec<&str> = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
    let lines = cells.chunks(width).map(|line| line.concat().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn screen(picture: &Picture, part: Part, size: (u16, u16)) -> String {
    let mut view = View::new();
    view.part = part;
    text(&drawn(picture, &mut view, PLAIN, size))
}

#[test]
fn the_usual_terminal_shows_all_of_now() {
    let found = screen(&sample::picture(), Part::Now, (80, 24));
    let expected = include_str!("tests/now-80x24.txt");
    assert_eq!(found, expected.trim_end(), "\n{found}\n");
}

#[test]
fn the_worst_routers_stand_first_and_the_cursor_scrolls_the_rest() {
    let mut picture = sample::picture();
    let found = screen(&picture, Part::Routers, (80, 24));
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[2].contains(" 30 routers, 1 unknown, by answer "), "{found}");
    assert!(lines[4].starts_with("│10.0.0.7     gap: timed-out "), "{found}");
    assert!(
        lines[5].starts_with("│10.0.0.29    known ") && lines[5].contains("(80 ms)"),
        "{found}"
    );
    assert_eq!(lines[1].trim_end().chars().last(), Some('C'), "{found}");
    let mut view = View::new();
    view.part = Part::Routers;
    view.router = 29;
    let found = text(&drawn(&picture, &mut view, PLAIN, (80, 24)));
    assert!(!found.contains("timed-out") && found.contains("10.0.0.3 "), "{found}");
    assert_eq!(view.page_rows, 18);
    picture.routers = Some(Vec::new());
    assert!(screen(&picture, Part::Routers, (80, 24)).contains("No router has been heard yet"));
}

#[test]
fn a_burst_is_shown_with_its_bins_and_why() {
    let mut picture = sample::picture();
    let found = screen(&picture, Part::Bursts, (80, 24));
    for expected in [
        "│07:59:53 2.5 s  1.2 M    3.0 MiB  2.0 k   31.0 MiB 40 ms   squeezed: socket",
        "│07:53:17 2.5 s  1.2 M    3.0 MiB  2.0 k   31.0 MiB 40 ms   clean",
        " 07:59:53: bins of 10 ms ",
        "received, at most 3.0 MiB in a bin",
        "▁▁▁▂▂▃▃▃▄▄▅▅▅▆▆▆▇▇████",
        "segments were dropped on 3 of our sockets",
        "kernel counters that moved: TcpExt.PruneCalled +12",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    picture.bursts.clear();
    assert!(screen(&picture, Part::Bursts, (80, 24)).contains("None yet"));
}

#[test]
fn a_peak_is_never_drawn_lower_than_it_was() {
    assert_eq!(squeezed_bins(&[1, 9, 2, 3, 0], 3), [9, 3, 0]);
    assert_eq!(squeezed_bins(&[1, 2], 80), [1, 2]);
    assert_eq!(squeezed_bins(&[], 0), [0; 0]);
}

#[test]
fn a_tall_terminal_shows_routers_and_bursts_beside_what_is_now() {
    let found = screen(&sample::picture(), Part::Now, (100, 40));
    for expected in
        [" coming in ", " 30 routers, 1 unknown", " 2 bursts, newest first ", "timed-out"]
    {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
}

#[test]
fn nobody_who_answers_is_said_at_once_and_how_long() {
    let mut picture = sample::picture();
    picture.take(News::Failed("127.0.0.1:1: refused".to_owned()), 2_000);
    let found = screen(&picture, Part::Now, (80, 24));
    let head = " NO ANSWER  for 3.0 s, asking again: 127.0.0.1:1: refused";
    assert_eq!(found.lines().next(), Some(head), "{found}");
    // What was known before stays to be read.
    assert!(found.contains("12.0 MiB/s"), "{found}");
    let mut picture = Picture::new("127.0.0.1:1");
    assert!(screen(&picture, Part::Now, (80, 24)).starts_with(" ASKING  127.0.0.1:1"));
    picture.take(News::Failed("127.0.0.1:1: refused".to_owned()), 0);
    assert!(screen(&picture, Part::Now, (80, 24)).contains("It is asked again every second"));
}

#[test]
fn without_colours_there_is_no_colour_and_what_hurts_stands_out_all_the_same() {
    let picture = sample::picture();
    for part in Part::ALL {
        let mut view = View::new();
        view.part = part;
        let plain = drawn(&picture, &mut view, PLAIN, (80, 24));
        let colours = |cell: &ratatui::buffer::Cell| (cell.fg, cell.bg);
        assert!(plain.content.iter().all(|cell| colours(cell) == (Color::Reset, Color::Reset)));
        assert_eq!(plain[(1, 0)].symbol(), "S");
        assert!(plain[(1, 0)].modifier.contains(Modifier::REVERSED | Modifier::BOLD));
        let painted = drawn(&picture, &mut view, Theme { colour: true }, (80, 24));
        assert_eq!(painted[(1, 0)].fg, Color::Red);
        assert_eq!(text(&plain), text(&painted));
    }
}

#[test]
fn every_size_gets_a_frame() {
    let pictures = [sample::picture(), Picture::new("127.0.0.1:30311")];
    for width in [1, 20, LEAST.0 - 1, LEAST.0, 60, 79, 80, 100, 200] {
        for height in [1, 5, LEAST.1 - 1, LEAST.1, 15, 24, TALL_ROWS - 1, TALL_ROWS, 70] {
            for (picture, part) in pictures.iter().flat_map(|one| Part::ALL.map(|part| (one, part)))
            {
                let mut view = View::new();
                (view.part, view.help) = (part, height % 2 == 0);
                let found = text(&drawn(picture, &mut view, PLAIN, (width, height)));
                let state = if picture.moment().is_some() { "SQUEEZED" } else { "ASKING" };
                let fits = width >= LEAST.0 && height >= LEAST.1;
                assert!(!fits || found.contains(state), "{width}x{height}\n{found}");
            }
        }
    }
}

#[test]
fn what_is_known_in_part_and_clocks_that_are_ahead_are_said() {
    let entry = |answer: &str, cause: Option<&str>| RouterEntry {
        status: "connected".to_owned(),
        answer: answer.to_owned(),
        cause: cause.map(str::to_owned),
        ..RouterEntry::default()
    };
    let told = routers::answer(&entry("in-part", Some("fec-invalid")));
    assert_eq!(told, "in part: fec-invalid");
    let ahead = RouterEntry {
        clock_skew_us: Some(1_800_000_000),
        clock_ahead: true,
        ..entry("known", None)
    };
    assert_eq!(routers::answer(&ahead), "known, clock +30m");
}
