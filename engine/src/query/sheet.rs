//! Answers as rows of cells, and their three texts: table, JSON, CSV.
//!
//! In:   columns and typed cells.
//! Out:  text; the same cells in each format, so that no format knows more than another.
//! Law:  rows keep the order that the question gave them; times are RFC 3339.
//! Not:  what the cells mean (`query`), or trees (`query::tree`).

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value};
use storage::time::Micros;

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

    fn plain(&self, nothing: &str) -> String {
        match self {
            Cell::Nothing => nothing.to_owned(),
            Cell::Text(text) => text.clone(),
            Cell::Count(count) => count.to_string(),
            Cell::Number(number) | Cell::SpanUs(number) => number.to_string(),
            Cell::Time(time) => time.to_string(),
            Cell::List(items) if items.is_empty() => nothing.to_owned(),
            Cell::List(items) => items.join(" "),
            Cell::Objects(items) if items.is_empty() => nothing.to_owned(),
            Cell::Objects(items) => {
                let words: Vec<&str> = items.iter().map(|(words, _)| words.as_str()).collect();
                words.join("; ")
            }
        }
    }
}

/// An answer: columns and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Names of the columns; also the names of the JSON fields.
    pub columns: &'static [&'static str],
    /// One cell per column in each.
    pub rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// An answer without rows.
    pub fn new(columns: &'static [&'static str]) -> Sheet {
        Sheet { columns, rows: Vec::new() }
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
        let object = |row: &Vec<Cell>| {
            let names = self.columns.iter().map(|name| (*name).to_owned());
            Value::Object(names.zip(row.iter().map(Cell::json)).collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
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
        let header = std::iter::once(self.columns.iter().map(|name| (*name).to_owned()).collect());
        let rows = self.rows.iter().map(|row| row.iter().map(|cell| cell.plain("")).collect());
        for record in header.chain::<std::iter::Map<_, _>>(rows) {
            let record: Vec<String> = record;
            // Writing to memory cannot fail, and every record is as long as the first.
            let _ = writer.write_record(&record);
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
    format!("{value:#}\n")
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
