//! A list: its heads, as many of its rows as there is room for, and a cursor.
//!
//! In:   rows, in the order in which they are shown.
//! Out:  cells.
//! Law:  the row under the cursor is always among those that are shown, and stands out.
//! Not:  what a row says (`bursts`, `routers`), what moves the cursor (`view`).

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Row, Table};

/// What stands above the rows, how wide they are, and where the cursor stands.
pub(super) struct List<const COLUMNS: usize> {
    pub(super) head: Row<'static>,
    pub(super) widths: [Constraint; COLUMNS],
    /// None: nothing is marked, and the first rows are shown.
    pub(super) cursor: Option<usize>,
}

/// Rows that fit below the heads, within a border that is not part of `inner`.
pub(super) fn page_rows(inner: Rect) -> usize {
    usize::from(inner.height.saturating_sub(1)).max(1)
}

impl<const COLUMNS: usize> List<COLUMNS> {
    /// Draws the rows around the cursor; `told` says what a row has in its cells and how it looks.
    pub(super) fn draw<T>(
        self,
        frame: &mut Frame,
        inner: Rect,
        rows: impl IntoIterator<Item = T>,
        told: impl Fn(T) -> ([String; COLUMNS], Style),
    ) {
        let page = page_rows(inner);
        let first = self.cursor.unwrap_or(0).saturating_sub(page - 1);
        let rows = rows.into_iter().enumerate().skip(first).take(page).map(|(index, row)| {
            let (cells, style) = told(row);
            let is_marked = Some(index) == self.cursor;
            let mark = if is_marked { Modifier::REVERSED } else { Modifier::empty() };
            Row::new(cells).style(style.add_modifier(mark))
        });
        frame.render_widget(Table::new(rows, self.widths).header(self.head), inner);
    }
}
