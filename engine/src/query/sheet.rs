//! Answers as rows of cells, and their three texts: table, JSON, CSV.
//!
//! In:   columns and typed cells.
//! Out:  text; the same cells in each format, so that no format knows more than another.
//! Law:  rows keep the order that the question gave them; times are RFC 3339.
//! Not:  what the cells mean (`query`), or trees (`query::tree`).

use std::borrow::Cow;
use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value};
use storage::time::Micros;

use super::{RowsMissing, missing_text};
use crate::harmless::{harmless, harmless_json};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: aligned columns, or a tree.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// Comma-separated, with a line of column names.
    Csv,
}

/// One value of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing to say: `-`, `null`, an empty field.
    Nothing,
    /// Words.
    Text(String),
    /// A count.
    Count(u64),
    /// A signed number.
    Number(i64),
    /// An instant.
    Time(Micros),
    /// How much later something is (negative: earlier), microseconds: for people `+30m`, for
    /// programs the number. The column's name ends in `_us`.
    SpanUs(i64),
    /// Several words.
    List(Vec<String>),
    /// Several things of more than one value: in words for people, as an object for programs.
    Objects(Vec<(String, Value)>),
}

impl Cell {
    /// Words; nothing when there are none.
    pub fn text(text: impl ToString) -> Cell {
        let text = text.to_string();
        if text.is_empty() { Cell::Nothing } else { Cell::Text(text) }
    }

    /// An instant, where there is one.
    pub fn time(time: Option<Micros>) -> Cell {
        time.map_or(Cell::Nothing, Cell::Time)
    }

    /// Several words.
    pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Cell {
        Cell::List(items.into_iter().map(|item| item.to_string()).collect())
    }

    fn json(&self) -> Value {
        match self {
            Cell::Nothing => Value::Null,
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Count(count) => Value::from(*count),
            Cell::Number(number) | Cell::SpanUs(number) => Value::from(*number),
            Cell::Time(time) => Value::from(time.to_string()),
            Cell::List(items) => Value::from(items.as_slice()),
            Cell::Objects(items) => items.iter().map(|(_, object)| object.clone()).collect(),
        }
    }

    /// For people.
    fn words(&self) -> String {
        match self {
            Cell::SpanUs(span_us) => span_words(*span_us),
            _ => self.plain("-"),
        }
    }

    /// As text, in which nothing that a peer has written is obeyed by whoever shows it.
    fn plain(&self, nothing: &str) -> String {
        match self {
            Cell::Nothing => nothing.to_owned(),
            Cell::Text(text) => harmless(text).into_owned(),
            Cell::Count(count) => count.to_string(),
            Cell::Number(number) | Cell::SpanUs(number) => number.to_string(),
            Cell::Time(time) => time.to_string(),
            Cell::List(items) if items.is_empty() => nothing.to_owned(),
            Cell::List(items) => harmless(&items.join(" ")).into_owned(),
            Cell::Objects(items) if items.is_empty() => nothing.to_owned(),
            Cell::Objects(items) => {
                let words: Vec<&str> = items.iter().map(|(words, _)| words.as_str()).collect();
                harmless(&words.join("; ")).into_owned()
            }
        }
    }
}

/// Name of the column, or field, that is there only where rows are missing from an answer.
pub(super) const LACKING: &str = "rows_missing";

/// An answer: columns and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Names of the columns; also the names of the JSON fields.
    pub columns: &'static [&'static str],
    /// One cell per column in each.
    pub rows: Vec<Vec<Cell>>,
    /// Where rows of the log are missing from it.
    rows_missing: Vec<RowsMissing>,
}

impl Sheet {
    /// An answer without rows.
    pub fn new(columns: &'static [&'static str]) -> Sheet {
        Sheet { columns, rows: Vec::new(), rows_missing: Vec::new() }
    }

    /// The same answer, of which rows of the log are missing: every row says so to programs, in a
    /// column of its own, and where there is no row, one that says nothing else. People are told
    /// below the table.
    #[must_use]
    pub fn lacking(mut self, rows_missing: &[RowsMissing]) -> Sheet {
        self.rows_missing = rows_missing.to_vec();
        self
    }

    /// Rows as programs get them.
    fn told_rows(&self) -> impl Iterator<Item = Cow<'_, [Cell]>> {
        let nothing = !self.rows_missing.is_empty() && self.rows.is_empty();
        let nothing = nothing.then(|| Cow::Owned(vec![Cell::Nothing; self.columns.len()]));
        self.rows.iter().map(|row| Cow::Borrowed(row.as_slice())).chain(nothing)
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "a row has one cell per column");
        self.rows.push(row);
    }

    /// The answer as text.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Json => pretty(&self.json()),
            Format::Csv => self.csv(),
        }
    }

    /// The rows as objects.
    pub fn json(&self) -> Value {
        let lacking = serde_json::to_value(&self.rows_missing).unwrap_or_default();
        let object = |row: Cow<'_, [Cell]>| {
            let names = self.columns.iter().map(|name| (*name).to_owned());
            let fields = names.zip(row.iter().map(Cell::json));
            let lacking =
                (!self.rows_missing.is_empty()).then(|| (LACKING.to_owned(), lacking.clone()));
            Value::Object(fields.chain(lacking).collect::<Map<_, _>>())
        };
        Value::Array(self.told_rows().map(object).collect())
    }

    /// Columns that say nothing in any row are left out: people read lines, programs read JSON.
    fn table(&self) -> String {
        let says = |column: &usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(*column));
            self.rows.is_empty() || cells.any(|cell| !cell.plain("").is_empty())
        };
        let shown: Vec<usize> = (0..self.columns.len()).filter(says).collect();
        let mut table = Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(shown.iter().map(|column| self.title(*column)));
        for row in &self.rows {
            table.add_row(shown.iter().map(|column| row[*column].words()));
        }
        let mut text = String::new();
        for line in table.to_string().lines() {
            // The preset pads every cell by one on both sides; the first pad is of no use.
            let line = line.strip_prefix(' ').unwrap_or(line);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.extend(missing_line(&self.rows_missing));
        text
    }

    /// The head of a column for people: words, without a unit that its cells say themselves.
    fn title(&self, column: usize) -> String {
        let name = self.columns[column];
        let has_spans = self.rows.iter().any(|row| matches!(row[column], Cell::SpanUs(_)));
        name.strip_suffix("_us").filter(|_| has_spans).unwrap_or(name).replace('_', " ")
    }

    fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let lacking = missing_text(&self.rows_missing);
        let name = lacking.as_ref().map(|_| LACKING);
        let mut write = |record: Vec<String>| {
            // Writing to memory cannot fail, and every record is as long as the first.
            let _ = writer.write_record(&record);
        };
        write(self.columns.iter().copied().chain(name).map(str::to_owned).collect());
        for row in self.told_rows() {
            write(row.iter().map(|cell| cell.plain("")).chain(lacking.clone()).collect());
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

/// `+30m`, `-1.5s`: in the largest unit of which there is one, with a decimal below ten of it.
pub(crate) fn span_words(span_us: i64) -> String {
    const UNITS_US: [(&str, u64); 5] = [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ];
    let size_us = span_us.unsigned_abs();
    let sign = if span_us < 0 { "-" } else { "+" };
    let Some((unit, unit_us)) = UNITS_US.into_iter().find(|(_, unit_us)| *unit_us <= size_us)
    else {
        return format!("{sign}{size_us}us");
    };
    let (whole, tenths) = (size_us / unit_us, size_us % unit_us * 10 / unit_us);
    match (whole, tenths) {
        (..10, 1..) => format!("{sign}{whole}.{tenths}{unit}"),
        _ => format!("{sign}{whole}{unit}"),
    }
}

/// JSON for people and programs: indented, with a line feed at its end.
pub(crate) fn pretty(value: &Value) -> String {
    harmless_json(&format!("{value:#}\n"))
}

/// What people are told below an answer from which rows are missing.
pub(super) fn missing_line(rows_missing: &[RowsMissing]) -> Option<String> {
    missing_text(rows_missing).map(|text| format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new(&["name", "active_since", "branches", "entries"]);
        let branches = Cell::list(["24@10.0.0.2", "-@10.0.0.6"]);
        sheet.push(vec![Cell::text("p,1"), Cell::Time(Micros(0)), branches, Cell::Count(7)]);
        sheet.push(vec![Cell::text(""), Cell::time(None), Cell::List(vec![]), Cell::Number(-1)]);
        sheet
    }

    #[test]
    fn a_table_is_aligned_and_says_nothing_with_a_dash() {
        let expected = "\
name  active since                 branches                entries
p,1   1970-01-01T00:00:00.000000Z  24@10.0.0.2 -@10.0.0.6  7
-     -                            -                       -1
";
        assert_eq!(sheet().render(Format::Table), expected);
    }

    #[test]
    fn a_table_leaves_out_what_no_row_says() {
        let mut sheet = Sheet::new(&["a", "b", "c"]);
        assert_eq!(sheet.render(Format::Table), "a  b  c\n");
        sheet.push(vec![Cell::Count(1), Cell::Nothing, Cell::Count(0)]);
        sheet.push(vec![Cell::Count(2), Cell::List(vec![]), Cell::Nothing]);
        assert_eq!(sheet.render(Format::Table), "a  c\n1  0\n2  -\n");
        assert_eq!(sheet.render(Format::Csv), "a,b,c\n1,,0\n2,,\n");
    }

    #[test]
    fn csv_quotes_what_it_must() {
        let expected = "\
name,active_since,branches,entries
\"p,1\",1970-01-01T00:00:00.000000Z,24@10.0.0.2 -@10.0.0.6,7
,,,-1
";
        assert_eq!(sheet().render(Format::Csv), expected);
    }

    #[test]
    fn nothing_that_a_peer_wrote_is_obeyed() {
        let peer = "agent\u{9b}31m\r\n2026-11-22T04:00:00Z  added\u{202e}\u{85}";
        let mut sheet = Sheet::new(&["a", "b", "c"]);
        let object = (peer.to_owned(), Value::from(peer));
        sheet.push(vec![Cell::text(peer), Cell::list([peer, "x"]), Cell::Objects(vec![object])]);
        for format in [Format::Table, Format::Csv, Format::Json] {
            let text = sheet.render(format);
            let lines = if format == Format::Json { text.lines().count() } else { 2 };
            assert_eq!(text.lines().count(), lines, "{text}");
            let obeyed = |letter: char| letter != '\n' && crate::harmless::is_obeyed(letter);
            assert!(!text.contains(obeyed), "{text:?}");
        }
        // Programs read what was written.
        let value: Value = serde_json::from_str(&sheet.render(Format::Json)).unwrap();
        assert_eq!((&value[0]["a"], &value[0]["b"][0]), (&peer.into(), &peer.into()));
    }

    #[test]
    fn json_keeps_types() {
        let value: Value = serde_json::from_str(&sheet().render(Format::Json)).unwrap();
        assert_eq!(value[0]["branches"][1], "-@10.0.0.6");
        assert_eq!(value[0]["entries"], 7);
        assert_eq!(value[1]["name"], Value::Null);
    }

    #[test]
    fn a_span_is_words_for_people_and_microseconds_for_programs() {
        for (us, words) in [
            (0, "+0us"),
            (-999, "-999us"),
            (1_000, "+1ms"),
            (1_999_999, "+1.9s"),
            (59_999_999, "+59s"),
            (1_800_000_000, "+30m"),
            (-5_400_000_000, "-1.5h"),
            (86_400_000_000 * 400, "+400d"),
            (i64::MIN, "-106751991d"),
        ] {
            assert_eq!(span_words(us), words);
        }
        let mut sheet = Sheet::new(&["clock_skew_us"]);
        sheet.push(vec![Cell::SpanUs(1_800_000_000)]);
        assert_eq!(sheet.render(Format::Table), "clock skew\n+30m\n");
        assert_eq!(sheet.render(Format::Csv), "clock_skew_us\n1800000000\n");
        assert_eq!(sheet.json()[0]["clock_skew_us"], 1_800_000_000);
    }

    #[test]
    fn objects_are_words_for_people_and_fields_for_programs() {
        let of = |cause: &str, bytes: u64| {
            (
                format!("{cause}: {bytes} bytes"),
                serde_json::json!({ "cause": cause, "bytes": bytes }),
            )
        };
        let mut sheet = Sheet::new(&["causes"]);
        sheet.push(vec![Cell::Objects(vec![of("truncated", 3), of("label-range", 0)])]);
        assert_eq!(sheet.render(Format::Csv), "causes\ntruncated: 3 bytes; label-range: 0 bytes\n");
        let value: Value = serde_json::from_str(&sheet.render(Format::Json)).unwrap();
        assert_eq!(
            value[0]["causes"][1],
            serde_json::json!({ "cause": "label-range", "bytes": 0 })
        );
    }
}
