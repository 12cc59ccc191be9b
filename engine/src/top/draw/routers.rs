//! The routers: a table in the order that the user chose, the worst first.
//!
//! In:   every router, as it was answered last.
//! Out:  the rows around the cursor.
//! Law:  a router that nobody vouches for stands out in whatever order.
//! Not:  the order itself (`view`).

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row};

use super::Theme;
use super::list::{List, page_rows};
use crate::http::api::RouterEntry;
use crate::query::span_words;
use crate::top::picture::Picture;
use crate::top::units::{bytes, count, span_ms};
use crate::top::view::{Column, Part, View, is_blocked, shown_name};

/// Draws the part, or its first rows beside what is now.
pub(super) fn draw(
    frame: &mut Frame,
    picture: &Picture,
    view: &mut View,
    theme: Theme,
    area: Rect,
) {
    let title = title(picture, view);
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(routers) = &picture.routers else {
        frame.render_widget(Line::raw(" asking"), inner);
        return;
    };
    if routers.is_empty() {
        let text = " No router has been heard yet. docs/FRR.md and docs/PROTOCOL.md connect them.";
        frame.render_widget(Paragraph::new(text), inner);
        return;
    }
    view.page_rows = page_rows(inner);
    // Beside what is now nobody moves in the list.
    let cursor = (view.part == Part::Routers).then(|| view.router.min(routers.len() - 1));
    let heads = Column::ALL.map(|column| {
        let mark = match (column == view.column, view.reversed) {
            (false, _) => "",
            (true, false) => "▼",
            (true, true) => "▲",
        };
        format!("{}{mark}", column.title())
    });
    let widths = [
        Constraint::Fill(3),
        Constraint::Fill(4),
        Constraint::Length(4),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(9),
    ];
    let head = Row::new(heads).style(theme.quiet());
    let list = List { head, widths, cursor };
    list.draw(frame, inner, view.ordered(routers), |entry| (cells(entry), style(entry, theme)));
}

fn title(picture: &Picture, view: &View) -> String {
    let Some(routers) = &picture.routers else { return " routers ".to_owned() };
    let number = |answer: &str| routers.iter().filter(|entry| entry.answer == answer).count();
    let in_part = match number("in-part") {
        0 => String::new(),
        in_part => format!(", {} in part", count(in_part as u64)),
    };
    format!(
        " {} routers, {} unknown{in_part}, by {} ",
        count(routers.len() as u64),
        count(number("unknown") as u64),
        view.column.title()
    )
}

fn style(entry: &RouterEntry, theme: Theme) -> Style {
    if entry.answer == "unknown" {
        theme.bad()
    } else if entry.answer != "known"
        || is_blocked(entry)
        || entry.status != "connected"
        || entry.clock_ahead
    {
        theme.notable()
    } else {
        Style::new()
    }
}

/// What is known of a router, and what is not.
pub(in crate::top) fn answer(entry: &RouterEntry) -> String {
    match (&entry.cause, entry.status.as_str()) {
        (Some(cause), _) if entry.answer == "in-part" => format!("in part: {cause}"),
        (Some(cause), _) => format!("gap: {cause}"),
        (None, _) if is_blocked(entry) => format!("{}, blocked", entry.answer),
        (None, _) if entry.clock_ahead => {
            format!("{}, clock {}", entry.answer, span_words(entry.clock_skew_us.unwrap_or(0)))
        }
        (None, "connected") => entry.answer.clone(),
        (None, status) => format!("{}, {status}", entry.answer),
    }
}

/// One row, in the order of `Column::ALL`.
pub(in crate::top) fn cells(entry: &RouterEntry) -> [String; 8] {
    let none = || "-".to_owned();
    let live = |told: fn(&crate::http::api::RouterLive) -> String| {
        entry.live.as_ref().map_or_else(none, told)
    };
    [
        shown_name(entry).to_owned(),
        answer(entry),
        entry.generation.to_string(),
        count(entry.entries),
        live(|live| bytes(live.waiting_bytes)),
        live(|live| match (live.blocked_ms, live.blocked_longest_ms) {
            (0, 0) => "0".to_owned(),
            (0, longest) => format!("({})", span_ms(longest)),
            (now, _) => span_ms(now),
        }),
        live(|live| match live.deferral_ms {
            None => "-".to_owned(),
            Some(late @ 0..) => span_ms(late.unsigned_abs()),
            Some(early) => format!("-{}", span_ms(early.unsigned_abs())),
        }),
        live(|live| count(live.rejected)),
    ]
}
