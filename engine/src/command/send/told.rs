//! What became of the documents: a row for each, a row for each refused mapping, and the sum.
//!
//! In:   the documents, and the outcome of each router's session.
//! Out:  text in one of the three formats.
//! Law:  a mapping stands in one row or one sum: acknowledged, refused, or unanswered.
//! Not:  why a session ended (`session` says it in words).

use super::input::{Document, Input};
use super::session::Outcome;
use crate::query::{Cell, Format, Sheet};
use crate::wire::SnapshotMark;

/// Those of a document are `mappings`; those of a refused mapping are `mapping` to `label`.
const COLUMNS: &[&str] = &[
    "file", "document", "router", "snapshot", "mappings", "mapping", "line", "fec", "label",
    "state", "cause", "detail",
];

/// How many mappings ended where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    acknowledged: usize,
    refused: usize,
    unanswered: usize,
}

/// The answer as text. The sum is for people: whoever reads rows can add.
pub(super) fn render(input: &Input, outcomes: &[Outcome], target: &str, format: Format) -> String {
    let mut sheet = Sheet::new(COLUMNS);
    let mut sums = Sums::default();
    for document in &input.documents {
        let outcome = outcomes.iter().find(|outcome| outcome.router == document.router);
        push_document(&mut sheet, document, outcome, &mut sums);
    }
    let mut text = sheet.render(format);
    if format == Format::Table {
        let Sums { acknowledged, refused, unanswered } = sums;
        let (documents, routers) = (input.documents.len(), input.routers().len());
        text.push_str(&format!(
            "{target}: {} of {}: {acknowledged} mappings acknowledged (on disk there), \
             {refused} refused, {unanswered} unanswered\n",
            counted(documents, "document"),
            counted(routers, "router"),
        ));
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn push_document(
    sheet: &mut Sheet,
    document: &Document,
    outcome: Option<&Outcome>,
    sums: &mut Sums,
) {
    let is_durable = outcome.is_some_and(|outcome| document.sequence <= outcome.acknowledged);
    let (state, cause) = match outcome.and_then(|outcome| outcome.fault.as_ref()) {
        _ if is_durable => ("acknowledged", Cell::Nothing),
        // Nobody was there for an earlier router: for this one nobody was asked.
        None => ("unanswered", Cell::text("unreached")),
        Some(fault) => ("unanswered", Cell::text(fault.name())),
    };
    let counted = if is_durable { &mut sums.acknowledged } else { &mut sums.unanswered };
    *counted += document.mappings;
    sums.refused += document.refused.len();
    let head = || {
        vec![
            Cell::text(&document.file),
            Cell::Count(document.number as u64),
            Cell::text(document.router),
        ]
    };
    let snapshot = match document.snapshot {
        SnapshotMark::None => Cell::Nothing,
        SnapshotMark::Part => Cell::text("part"),
        SnapshotMark::Whole => Cell::text("complete"),
    };
    let mut row = head();
    row.extend([snapshot, Cell::Count(document.mappings as u64)]);
    row.extend([const { Cell::Nothing }; 4]);
    row.extend([Cell::text(state), cause, Cell::Nothing]);
    sheet.push(row);
    for refused in &document.refused {
        let mut row = head();
        row.extend([
            Cell::Nothing,
            Cell::Nothing,
            Cell::Count(refused.number as u64),
            Cell::Count(refused.line as u64),
            Cell::text(&refused.fec),
            Cell::text(&refused.label),
            Cell::text("refused"),
            Cell::text(refused.cause.name()),
            Cell::text(&refused.detail),
        ]);
        sheet.push(row);
    }
}
