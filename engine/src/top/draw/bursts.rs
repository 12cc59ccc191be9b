//! The bursts: a list with verdicts, and the one under the cursor in 10 ms.
//!
//! In:   the heads of bursts, one burst in full.
//! Out:  cells.
//! Law:  a verdict is shown with its reasons, in the words of whoever gave it.
//! Not:  the verdict (`watch`).

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Wrap};

use super::Theme;
use super::list::{List, page_rows};
use crate::top::picture::Picture;
use crate::top::state::verdict;
use crate::top::units::{bytes, clock, count, moved, span, span_ms};
use crate::top::view::View;
use crate::watch::{Burst, Head, Moved, Outcome};

/// Rows of bins, of each of the two.
const BINS_ROWS: u16 = 3;

/// Draws the part.
pub(super) fn draw(
    frame: &mut Frame,
    picture: &Picture,
    view: &mut View,
    theme: Theme,
    area: Rect,
) {
    let [list, detail] = Layout::vertical([Constraint::Fill(2), Constraint::Fill(3)]).areas(area);
    let index = view.burst_index(picture);
    view.page_rows = page_rows(Block::bordered().inner(list));
    draw_list(frame, picture, Some(index), theme, list);
    match picture.bursts.get(index) {
        None => frame.render_widget(Block::bordered(), detail),
        Some(head) => {
            let full = picture.burst.as_ref().filter(|burst| burst.head.id == head.id);
            draw_burst(frame, head, full.map(AsRef::as_ref), theme, detail);
        }
    }
}

pub(in crate::top) const HEADS: [&str; 8] =
    ["began", "for", "mappings", "in 10 ms", "routers", "surge", "blocked", "verdict"];

/// Draws the list; `cursor`: the burst to mark.
pub(super) fn draw_list(
    frame: &mut Frame,
    picture: &Picture,
    cursor: Option<usize>,
    theme: Theme,
    area: Rect,
) {
    let block = Block::bordered().title(format!(" {} bursts, newest first ", picture.bursts.len()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if picture.bursts.is_empty() {
        let text = " None yet: a burst is when many routers speak at once.";
        frame.render_widget(Paragraph::new(text), inner);
        return;
    }
    let widths = [
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Fill(1),
    ];
    let head = Row::new(HEADS).style(theme.quiet());
    let list = List { head, widths, cursor };
    list.draw(frame, inner, &picture.bursts, |burst| (cells(burst), style(burst, theme)));
}

fn style(burst: &Head, theme: Theme) -> Style {
    match burst.verdict.as_ref().map(|verdict| verdict.outcome) {
        None => theme.notable(),
        Some(Outcome::Clean) => Style::new(),
        Some(Outcome::Unknown) => theme.notable(),
        Some(Outcome::Squeezed | Outcome::Lost) => theme.bad(),
    }
}

/// One row, in the order of its heads.
pub(in crate::top) fn cells(burst: &Head) -> [String; 8] {
    let lasted_us = u64::try_from(burst.end_us.saturating_sub(burst.start_us)).unwrap_or(0);
    [
        clock(burst.start_us),
        span(lasted_us),
        count(burst.mappings),
        bytes(burst.peak_bytes),
        count(burst.routers),
        bytes(burst.surge_high_bytes),
        span_ms(burst.blocked_longest_ms),
        verdict(burst),
    ]
}

fn draw_burst(frame: &mut Frame, head: &Head, full: Option<&Burst>, theme: Theme, area: Rect) {
    let bin_us = full.map_or(0, |burst| burst.bin_us);
    let title = format!(" {}: bins of {} ", clock(head.start_us), span(bin_us));
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let bins = full.map_or(&[][..], |burst| &burst.bins);
    let rows = [
        Constraint::Length(1),
        Constraint::Max(BINS_ROWS),
        Constraint::Length(1),
        Constraint::Max(BINS_ROWS),
        Constraint::Min(0),
    ];
    let [received_title, received, mappings_title, mappings, words] =
        Layout::vertical(rows).areas(inner);
    let told = format!(" received, at most {} in a bin", bytes(head.peak_bytes));
    frame.render_widget(Line::styled(told, theme.quiet()), received_title);
    let told = format!(" mappings, at most {} in a bin", count(head.peak_mappings));
    frame.render_widget(Line::styled(told, theme.quiet()), mappings_title);
    for (place, value) in [
        (received, (|bin| bin.received_bytes) as fn(&crate::watch::Bin) -> u64),
        (mappings, |bin| bin.mappings),
    ] {
        let values: Vec<u64> = bins.iter().map(value).collect();
        let bars = Sparkline::default().data(squeezed(&values, usize::from(place.width)));
        frame.render_widget(bars.style(theme.accent()), place);
    }
    frame.render_widget(Paragraph::new(told_of(head)).wrap(Wrap { trim: false }), words);
}

/// At most so many values: each the most of its neighbours, so that no peak is lost.
pub(super) fn squeezed(values: &[u64], columns: usize) -> Vec<u64> {
    let each = values.len().div_ceil(columns.max(1)).max(1);
    values.chunks(each).map(|chunk| chunk.iter().copied().max().unwrap_or(0)).collect()
}

/// The verdict's reasons, and the counters that moved.
fn told_of(head: &Head) -> Vec<Line<'static>> {
    let mut lines = vec![Line::raw(format!(" {}; {} gaps", verdict(head), count(head.gaps)))];
    let reasons = head.verdict.iter().flat_map(|verdict| &verdict.reasons);
    lines.extend(reasons.map(|reason| Line::raw(format!(" {reason}"))));
    let told = |step: &Moved| {
        let (name, by) = moved(&step.counter, step.by);
        format!("{name} {by}")
    };
    let moved: Vec<String> = head.moved.iter().map(told).collect();
    let moved = if moved.is_empty() { "none".to_owned() } else { moved.join(", ") };
    lines.push(Line::raw(format!(" kernel counters that moved: {moved}")));
    lines
}
