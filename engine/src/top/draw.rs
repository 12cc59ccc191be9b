//! The drawing: a picture and a view as cells of a terminal.
//!
//! In:   what is known, where the user is, how large the terminal is.
//! Out:  one frame.
//! Law:  every size of terminal gets a frame; what has no room is left out, the state never.
//! Not:  the parts themselves (`now`, `routers`, `bursts`).

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::picture::{Link, Picture};
use super::state::{Grade, state};
use super::units::{clock, span_ms};
use super::view::{Part, View};

mod list;
mod now;
mod routers;
mod bursts;

pub(super) use bursts::{HEADS as BURST_HEADS, cells as burst_cells};
pub(super) use routers::cells as router_cells;

/// From this height on, routers and bursts are shown beside what is now.
const TALL_ROWS: u16 = 36;
/// Below this nothing could be read.
const LEAST: (u16, u16) = (40, 10);

/// How things look: by colour, or without any (NO_COLOR).
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) colour: bool,
}

impl Theme {
    fn paint(self, colour: Color, plain: Style) -> Style {
        if self.colour { Style::new().fg(colour) } else { plain }
    }

    pub(super) fn good(self) -> Style {
        self.paint(Color::Green, Style::new())
    }

    pub(super) fn notable(self) -> Style {
        self.paint(Color::Yellow, Style::new().add_modifier(Modifier::BOLD))
    }

    pub(super) fn bad(self) -> Style {
        self.paint(Color::Red, Style::new()).add_modifier(Modifier::BOLD)
    }

    pub(super) fn accent(self) -> Style {
        self.paint(Color::Cyan, Style::new())
    }

    /// Titles and units.
    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn grade(self, grade: Grade) -> Style {
        let style = match grade {
            Grade::Calm => self.good(),
            Grade::Burst => self.notable(),
            Grade::Squeezed | Grade::Lost | Grade::Fault => self.bad(),
        };
        style.add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }
}

/// Whether routers are shown beside what is now.
pub(super) fn is_tall(rows: u16) -> bool {
    rows >= TALL_ROWS
}

/// Draws one frame. `now_ms`: the clock of this program.
pub(super) fn draw(
    frame: &mut Frame,
    picture: &Picture,
    view: &mut View,
    theme: Theme,
    now_ms: u64,
) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} columns and {} rows are the least", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let rows =
        [Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
    let [header, tabs, body, footer] = Layout::vertical(rows).areas(area);
    frame.render_widget(header_line(picture, theme, now_ms, header.width), header);
    draw_tabs(frame, picture, view, theme, tabs);
    match (view.part, picture.moment()) {
        (_, None) => empty(frame, picture, body),
        (Part::Now, Some(moment)) => {
            now::draw(frame, picture, moment, view, theme, body, is_tall(area.height));
        }
        (Part::Routers, _) => routers::draw(frame, picture, view, theme, body),
        (Part::Bursts, _) => bursts::draw(frame, picture, view, theme, body),
    }
    frame.render_widget(Line::styled(keys(view), theme.quiet()), footer);
    if view.help {
        help(frame, body);
    }
}

/// The state in one line, or that nobody answers.
fn header_line(picture: &Picture, theme: Theme, now_ms: u64, width: u16) -> Line<'static> {
    let (word, text, style) = match (&picture.link, picture.moment()) {
        (Link::Lost { since_ms, told }, _) => {
            let ago = span_ms(now_ms.saturating_sub(*since_ms));
            let style = theme.grade(Grade::Lost);
            ("NO ANSWER", format!("for {ago}, asking again: {told}"), style)
        }
        (Link::Waiting, _) | (Link::Live, None) => {
            ("ASKING", picture.address.clone(), theme.grade(Grade::Burst))
        }
        (Link::Live, Some(moment)) => {
            let state = state(moment, &picture.faults, &picture.bursts);
            (state.grade.word(), state.text, theme.grade(state.grade))
        }
    };
    let room = usize::from(width).saturating_sub(word.len() + 3);
    Line::from(vec![
        Span::styled(format!(" {word} "), style),
        format!(" {}", fitted(&text, room)).into(),
    ])
}

/// The text, or as much of it as there is room for and a mark that something is missing.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(columns.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn draw_tabs(frame: &mut Frame, picture: &Picture, view: &View, theme: Theme, area: Rect) {
    let mut spans = vec![Span::raw(" ")];
    for (index, part) in Part::ALL.into_iter().enumerate() {
        let style = if part == view.part {
            theme.accent().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        spans.push(Span::styled(format!(" {} {} ", index + 1, part.name()), style));
        spans.push(Span::raw(" "));
    }
    let tabs = Line::from(spans);
    let room = usize::from(area.width).saturating_sub(tabs.width() + 1);
    let time = picture.moment().map_or(String::new(), |moment| clock(moment.time_us) + " UTC");
    let place = format!("{}  {}  {time} ", picture.about, picture.address);
    frame.render_widget(tabs, area);
    let place = if place.len() <= room { place } else { time + " " };
    frame.render_widget(Line::styled(place, theme.quiet()).alignment(Alignment::Right), area);
}

fn empty(frame: &mut Frame, picture: &Picture, area: Rect) {
    let text = match &picture.link {
        Link::Lost { told, .. } => {
            format!("{told}\n\nIt is asked again every second; q ends this.")
        }
        Link::Waiting | Link::Live => "The collector has not looked at itself yet.".to_owned(),
    };
    let page = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true });
    frame.render_widget(page.block(Block::bordered()), area);
}

fn keys(view: &View) -> &'static str {
    match view.part {
        Part::Now => " q quit  tab next part  1-3 part  ? help",
        Part::Routers => " q quit  tab next part  ←→ sort by  r reverse  ↑↓ move  ? help",
        Part::Bursts => " q quit  tab next part  ↑↓ choose  ? help",
    }
}

const HELP: &[&str] = &[
    "q, esc     end                    tab, shift-tab, 1-3   another part",
    "↑ ↓ page-up page-down home end    move in a list",
    "← →        sort routers by another column; r reverses",
    "",
    "CALM       nothing stands out",
    "BURST NOW  much comes in, and it is taken as it comes",
    "SQUEEZED   routers wait or had to send again; the layer is named",
    "LOST       sessions broke or mappings were refused: there are gaps",
    "",
    "surge      bytes that were received and wait to be decoded",
    "blocked    not read now, for want of memory: TCP holds the router back",
    "late       how long after its event time the last change came",
];

fn help(frame: &mut Frame, area: Rect) {
    let lines: Vec<Line> = HELP.iter().map(|line| Line::raw(format!(" {line}"))).collect();
    let (width, height) = (area.width.min(74), area.height.min(lines.len() as u16 + 2));
    let [place] = Layout::horizontal([Constraint::Length(width)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    let [place] = Layout::vertical([Constraint::Length(height)])
        .flex(ratatui::layout::Flex::Center)
        .areas(place);
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" help: ? closes ")),
        place,
    );
}

#[cfg(test)]
mod tests;
