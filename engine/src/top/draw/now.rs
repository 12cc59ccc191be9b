//! What is now: rates, memory, sessions, shards, what moved in the kernel.
//!
//! In:   the moments of a quarter of an hour, the last of them in full.
//! Out:  cells; on a tall terminal also the worst routers and the last bursts.
//! Law:  a rate is of the last moment, a line of small bars of those before it.
//! Not:  the lists themselves (`routers`, `bursts`).

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, LineGauge, Paragraph, Sparkline};

use super::{Theme, bursts, fitted, routers};
use crate::top::picture::Picture;
use crate::top::units::{bytes, bytes_per_second, count, moved, rate, span_ms};
use crate::top::view::View;
use crate::watch::{Moment, ShardShare, Totals};

/// Rows of the rates, with their frame.
const RATES_ROWS: u16 = 6;
/// Rows of memory and sessions, with their frame.
const MEMORY_ROWS: u16 = 6;
/// Rows of shards and kernel on a tall terminal.
const SHARD_ROWS: u16 = 8;

/// Draws the part.
pub(super) fn draw(
    frame: &mut Frame,
    picture: &Picture,
    moment: &Moment,
    view: &mut View,
    theme: Theme,
    area: Rect,
    tall: bool,
) {
    let shards = if tall { Constraint::Length(SHARD_ROWS) } else { Constraint::Min(0) };
    let rest = if tall { Constraint::Min(0) } else { Constraint::Length(0) };
    let rows = [Constraint::Length(RATES_ROWS), Constraint::Length(MEMORY_ROWS), shards, rest];
    let [rates, memory, shards, lists] = Layout::vertical(rows).areas(area);
    draw_rates(frame, picture, moment, theme, rates);
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
    let [left, right] = halves.areas(memory);
    draw_memory(frame, moment, theme, left);
    draw_sessions(frame, moment, theme, right);
    let [left, right] = halves.areas(shards);
    draw_shards(frame, moment, theme, left);
    draw_kernel(frame, moment, theme, right);
    if tall {
        let [left, right] =
            Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(lists);
        routers::draw(frame, picture, view, theme, left);
        bursts::draw_list(frame, picture, None, theme, right);
    }
}

/// A total whose rate is shown.
type Rate = (&'static str, fn(&Totals) -> u64, fn(u64) -> String);

const RATES: [Rate; 4] = [
    ("received", |totals| totals.received_bytes, bytes_per_second),
    ("mappings", |totals| totals.mappings, per_second),
    ("changes", |totals| totals.changes, per_second),
    ("committed", |totals| totals.rows_committed, rows_per_second),
];

fn per_second(value: u64) -> String {
    count(value) + "/s"
}

fn rows_per_second(value: u64) -> String {
    count(value) + " rows/s"
}

fn draw_rates(frame: &mut Frame, picture: &Picture, moment: &Moment, theme: Theme, area: Rect) {
    let block = Block::bordered().title(" coming in ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    for (row, (name, value, written)) in inner.rows().zip(RATES) {
        let columns = [Constraint::Length(11), Constraint::Length(15), Constraint::Min(0)];
        let [title, figure, bars] = Layout::horizontal(columns).areas(row);
        let now = rate(value(&moment.gained), moment.span_us);
        frame.render_widget(Line::styled(format!(" {name}"), theme.quiet()), title);
        frame.render_widget(Line::raw(format!("{:>13}  ", written(now))), figure);
        // The newest stands at the right edge.
        let seconds = usize::from(bars.width);
        let first = picture.moments.len().saturating_sub(seconds);
        let mut past = vec![None; seconds - (picture.moments.len() - first)];
        past.extend(
            picture
                .moments
                .range(first..)
                .map(|moment| Some(rate(value(&moment.gained), moment.span_us))),
        );
        frame.render_widget(Sparkline::default().data(past).style(theme.accent()), bars);
    }
}

fn gauge(name: &str, used: u64, most: u64, told: String, theme: Theme) -> LineGauge<'static> {
    let ratio = if most == 0 { 0.0 } else { (used as f64 / most as f64).clamp(0.0, 1.0) };
    let style = match ratio {
        0.9.. => theme.bad(),
        0.6.. => theme.notable(),
        _ => theme.good(),
    };
    LineGauge::default()
        .ratio(ratio)
        .label(format!(" {name:<7}{told}"))
        .filled_symbol("█")
        .unfilled_symbol("░")
        .filled_style(style)
        .unfilled_style(theme.quiet())
}

fn draw_memory(frame: &mut Frame, moment: &Moment, theme: Theme, area: Rect) {
    let memory = &moment.memory;
    let block = Block::bordered().title(format!(" memory, of {} ", bytes(memory.budget_bytes)));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [surge, high, tables, room] = Layout::vertical([Constraint::Length(1); 4]).areas(inner);
    let figure = |used, most| format!("{:>8} of {:<8}", bytes(used), bytes(most));
    let told = figure(memory.surge_held_bytes, memory.surge_max_bytes);
    let line = gauge("surge", memory.surge_held_bytes, memory.surge_max_bytes, told, theme);
    frame.render_widget(line, surge);
    let told =
        format!(" waiting {}, peak {}", bytes(memory.surge_bytes), bytes(memory.surge_high_bytes));
    frame.render_widget(Line::styled(fitted(&told, usize::from(inner.width)), theme.quiet()), high);
    let told = figure(memory.tables_bytes, memory.tables_max_bytes);
    let line = gauge("tables", memory.tables_bytes, memory.tables_max_bytes, told, theme);
    frame.render_widget(line, tables);
    let told = format!(" room for {} more of a burst", bytes(memory.headroom_bytes));
    frame.render_widget(Line::styled(fitted(&told, usize::from(inner.width)), theme.quiet()), room);
}

fn draw_sessions(frame: &mut Frame, moment: &Moment, theme: Theme, area: Rect) {
    let sessions = &moment.sessions;
    let block = Block::bordered().title(" sessions ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let blocked = match sessions.blocked {
        0 => Span::raw(" none blocked"),
        blocked => Span::styled(
            format!(" {} blocked, one for {}", count(blocked), span_ms(sessions.blocked_ms)),
            theme.bad(),
        ),
    };
    let waiting = match sessions.snapshots_waiting {
        0 => Span::raw(" no snapshot waits"),
        waiting => Span::styled(
            format!(
                " {} snapshots wait, {} more",
                count(waiting),
                span_ms(sessions.snapshots_eta_ms)
            ),
            theme.notable(),
        ),
    };
    let lines = vec![
        Line::raw(format!(
            " {} sessions on {} connections",
            count(sessions.live),
            count(sessions.connections)
        )),
        Line::raw(format!(
            " {} routers, {} entries",
            count(sessions.routers),
            count(sessions.entries)
        )),
        Line::from(blocked),
        Line::from(waiting),
    ];
    frame.render_widget(Paragraph::new(lines), inner);
}

fn draw_shards(frame: &mut Frame, moment: &Moment, theme: Theme, area: Rect) {
    let block = Block::bordered().title(" shards ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let most = moment.shards.iter().map(|shard| shard.received_bytes).max().unwrap_or(0);
    let rows = usize::from(inner.height);
    let hidden = moment.shards.len().saturating_sub(rows);
    let shown = if hidden > 0 { rows.saturating_sub(1) } else { moment.shards.len() };
    for (index, (row, shard)) in inner.rows().zip(&moment.shards).take(shown).enumerate() {
        let told = shard_text(shard, moment.span_us);
        let columns = [Constraint::Length(5), Constraint::Min(0), Constraint::Length(26)];
        let [name, bar, text] = Layout::horizontal(columns).areas(row);
        frame.render_widget(Line::styled(format!(" {index}"), theme.quiet()), name);
        frame.render_widget(level(shard.received_bytes, most, bar.width, theme.accent()), bar);
        let style = if shard.blocked > 0 { theme.bad() } else { Style::new() };
        frame.render_widget(Line::styled(told, style), text);
    }
    if let Some(row) = inner.rows().nth(shown).filter(|_| hidden > 0) {
        let more = moment.shards.len() - shown;
        frame.render_widget(Line::styled(format!(" and {more} more"), theme.quiet()), row);
    }
}

fn shard_text(shard: &ShardShare, span_us: u64) -> String {
    let share = bytes_per_second(rate(shard.received_bytes, span_us));
    format!(" {share:>11} {:>7} conn", count(shard.connections))
}

/// A bar as long as the value's part of the most; of anything there is at least an eighth.
fn level(value: u64, most: u64, columns: u16, style: Style) -> Line<'static> {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let whole = u128::from(columns) * 8;
    let eighths = u128::from(value) * whole / u128::from(most.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(0).max(usize::from(value > 0));
    let text = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    Line::styled(text, style)
}

fn draw_kernel(frame: &mut Frame, moment: &Moment, theme: Theme, area: Rect) {
    let block = Block::bordered().title(" kernel counters that moved ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut lines = Vec::new();
    if let Some(pages) = moment.kernel.tcp_pages {
        let pressure = moment.kernel.tcp_pages_pressure;
        let limit = pressure.map_or(String::new(), |most| format!(" of {}", count(most)));
        let squeezed = pressure.is_some_and(|most| pages >= most);
        let style = if squeezed { theme.bad() } else { theme.quiet() };
        lines.push(Line::styled(format!(" TCP holds {}{limit} pages", count(pages)), style));
    }
    for path in &moment.kernel.unread {
        let told = format!(" cannot be read: {path}");
        lines.push(Line::styled(fitted(&told, usize::from(inner.width)), theme.notable()));
    }
    if moment.kernel.moved.is_empty() && moment.kernel.unread.is_empty() {
        lines.push(Line::raw(" none"));
    }
    for step in &moment.kernel.moved {
        let room = usize::from(inner.width).saturating_sub(12);
        let (name, by) = moved(&step.counter, step.by);
        lines.push(Line::raw(format!(" {:<room$} {by:>9}", fitted(name, room))));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}
