//! The view: which part is shown, where the cursor stands, what keys do.
//!
//! In:   keys.
//! Out:  part, order of routers, cursor; what has to be asked for it.
//! Law:  a key does the same wherever it means something, and nothing elsewhere.
//! Not:  drawing (`draw`).

use std::cmp::Ordering;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::picture::Picture;
use crate::http::api::RouterEntry;

/// A part of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Now,
    Routers,
    Bursts,
}

impl Part {
    pub(super) const ALL: [Part; 3] = [Part::Now, Part::Routers, Part::Bursts];

    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Now => "Now",
            Part::Routers => "Routers",
            Part::Bursts => "Bursts",
        }
    }
}

/// What routers are ordered by; the worst of it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Router,
    Answer,
    Generation,
    Entries,
    Waiting,
    Blocked,
    Late,
    Rejected,
}

impl Column {
    pub(super) const ALL: [Column; 8] = [
        Column::Router,
        Column::Answer,
        Column::Generation,
        Column::Entries,
        Column::Waiting,
        Column::Blocked,
        Column::Late,
        Column::Rejected,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Column::Router => "router",
            Column::Answer => "answer",
            Column::Generation => "gen",
            Column::Entries => "entries",
            Column::Waiting => "waiting",
            Column::Blocked => "blocked",
            Column::Late => "late",
            Column::Rejected => "rejected",
        }
    }

    /// The worst first; by name, the first first.
    fn order(self, one: &RouterEntry, other: &RouterEntry) -> Ordering {
        let live = |entry: &RouterEntry, value: fn(&crate::http::api::RouterLive) -> i64| {
            entry.live.as_ref().map_or(i64::MIN, value)
        };
        let most = |value: fn(&crate::http::api::RouterLive) -> i64| {
            live(other, value).cmp(&live(one, value))
        };
        match self {
            Column::Router => shown_name(one).cmp(shown_name(other)),
            Column::Answer => {
                // Who is held back now; then gaps, the latest first, those of a part behind those
                // of all; then who is not there, and whose clock is ahead.
                let rank = |entry: &RouterEntry| {
                    let known = match entry.answer.as_str() {
                        "known" => 2,
                        "in-part" => 1,
                        _ => 0,
                    };
                    let is_well = entry.status == "connected" && !entry.clock_ahead;
                    (!is_blocked(entry), known, known == 2 && is_well)
                };
                rank(one)
                    .cmp(&rank(other))
                    .then_with(|| other.unknown_since.cmp(&one.unknown_since))
            }
            Column::Generation => other.generation.cmp(&one.generation),
            Column::Entries => other.entries.cmp(&one.entries),
            Column::Waiting => most(|live| saturated(live.waiting_bytes)),
            Column::Blocked => most(|live| saturated(live.blocked_ms))
                .then_with(|| most(|live| saturated(live.blocked_longest_ms))),
            Column::Late => most(|live| live.deferral_ms.unwrap_or(i64::MIN)),
            Column::Rejected => most(|live| saturated(live.rejected)),
        }
    }
}

/// Whether it is not read now, for want of memory.
pub(super) fn is_blocked(entry: &RouterEntry) -> bool {
    entry.live.as_ref().is_some_and(|live| live.blocked_ms > 0)
}

fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A router's name, or its id where it has none.
pub(super) fn shown_name(entry: &RouterEntry) -> &str {
    if entry.name.is_empty() { &entry.router } else { &entry.name }
}

/// What has to be asked for what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Every router.
    pub(super) routers: bool,
    /// This burst in full.
    pub(super) burst: Option<i64>,
}

/// What a key led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    Stay,
    Quit,
}

/// Where the user is.
#[derive(Debug)]
pub(super) struct View {
    pub(super) part: Part,
    pub(super) help: bool,
    pub(super) column: Column,
    pub(super) reversed: bool,
    /// The router that the cursor is on, by its place in the order.
    pub(super) router: usize,
    /// The burst that the cursor is on; none = the newest.
    pub(super) burst: Option<i64>,
    /// Rows that fit on the screen: how far a page is.
    pub(super) page_rows: usize,
}

impl View {
    pub(super) fn new() -> View {
        View {
            part: Part::Now,
            help: false,
            column: Column::Answer,
            reversed: false,
            router: 0,
            burst: None,
            page_rows: 10,
        }
    }

    /// What has to be asked; `tall`: routers are shown beside what is now.
    pub(super) fn wanted(&self, picture: &Picture, tall: bool) -> Wanted {
        let burst = (self.part == Part::Bursts).then(|| self.burst_index(picture));
        Wanted {
            routers: self.part == Part::Routers || (self.part == Part::Now && tall),
            burst: burst.and_then(|index| Some(picture.bursts.get(index)?.id)),
        }
    }

    /// Routers in the order that was chosen.
    pub(super) fn ordered<'a>(&self, routers: &'a [RouterEntry]) -> Vec<&'a RouterEntry> {
        let mut ordered: Vec<&RouterEntry> = routers.iter().collect();
        ordered.sort_by(|one, other| {
            let order = self.column.order(one, other);
            let order = if self.reversed { order.reverse() } else { order };
            // The worst of two equals is the one that nobody vouches for, or that waits longest.
            let ties = [Column::Answer, Column::Blocked, Column::Waiting];
            ties.into_iter()
                .fold(order, |order, tie| order.then_with(|| tie.order(one, other)))
                .then_with(|| one.router.cmp(&other.router))
        });
        ordered
    }

    /// Where the cursor stands in the list of bursts.
    pub(super) fn burst_index(&self, picture: &Picture) -> usize {
        let wanted = self.burst;
        let found = picture.bursts.iter().position(|burst| Some(burst.id) == wanted);
        found.unwrap_or(0)
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent, picture: &Picture) -> Reaction {
        if key.kind == KeyEventKind::Release {
            return Reaction::Stay;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Reaction::Quit,
            _ if control => {}
            KeyCode::Esc | KeyCode::Char('q') if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Reaction::Quit,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Part::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='3') => {
                self.part = Part::ALL[digit as usize - '1' as usize];
            }
            KeyCode::Right | KeyCode::Left if self.part == Part::Routers => {
                self.sort_by_neighbour(key.code == KeyCode::Right);
            }
            KeyCode::Char('r') if self.part == Part::Routers => self.reversed = !self.reversed,
            KeyCode::Up => self.step(picture, |at, _| at.saturating_sub(1)),
            KeyCode::Down => self.step(picture, |at, _| at + 1),
            KeyCode::PageUp => self.step(picture, usize::saturating_sub),
            KeyCode::PageDown => self.step(picture, |at, page| at + page),
            KeyCode::Home => self.step(picture, |_, _| 0),
            KeyCode::End => self.step(picture, |_, _| usize::MAX),
            _ => {}
        }
        Reaction::Stay
    }

    fn turn(&mut self, by: usize) {
        let at = Part::ALL.iter().position(|part| *part == self.part).unwrap_or(0);
        self.part = Part::ALL[(at + by) % Part::ALL.len()];
    }

    fn sort_by_neighbour(&mut self, right: bool) {
        let count = Column::ALL.len();
        let at = Column::ALL.iter().position(|column| *column == self.column).unwrap_or(0);
        self.column = Column::ALL[(at + if right { 1 } else { count - 1 }) % count];
        self.reversed = false;
        self.router = 0;
    }

    /// Moves the cursor to `target(where it is, rows of a page)`, within the list.
    fn step(&mut self, picture: &Picture, target: impl Fn(usize, usize) -> usize) {
        let page = self.page_rows.max(1);
        match self.part {
            Part::Now => {}
            Part::Routers => {
                let last = picture.routers.as_ref().map_or(0, Vec::len).saturating_sub(1);
                self.router = target(self.router.min(last), page).min(last);
            }
            Part::Bursts => {
                let last = picture.bursts.len().saturating_sub(1);
                let index = target(self.burst_index(picture), page).min(last);
                // On the newest the cursor stays on whatever is the newest.
                let id = picture.bursts.get(index).map(|burst| burst.id);
                self.burst = id.filter(|_| index > 0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
