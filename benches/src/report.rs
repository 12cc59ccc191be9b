//! What a run says: figures, what could not be measured, and the words around both.
//!
//! In:   figures and notes, in the order in which they are known.
//! Out:  lines on standard output, and the same lines in a file if one is wanted.
//! Law:  a figure is one line, `RATIO name value numerator denominator`; all else begins with `#`,
//!       but for `SKIPPED name why`.
//! Not:  what a figure means (its bench), or whether it is good enough (benches/README.md).

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Where the lines go.
pub(crate) struct Report {
    file: Option<File>,
}

impl Report {
    /// Standard output alone.
    pub(crate) fn to_stdout() -> Report {
        Report { file: None }
    }

    /// Standard output, and a file that must not exist yet.
    pub(crate) fn to_file(path: &Path) -> io::Result<Report> {
        Ok(Report { file: Some(File::create_new(path)?) })
    }

    /// A word of explanation, one line or several.
    pub(crate) fn note(&mut self, text: impl Display) -> io::Result<()> {
        for line in text.to_string().lines() {
            self.line(&format!("# {line}"))?;
        }
        Ok(())
    }

    /// A figure: `value` is numerator ÷ denominator; `unit` says what the two are.
    pub(crate) fn figure(
        &mut self,
        name: &str,
        numerator: f64,
        denominator: f64,
        unit: &str,
    ) -> io::Result<()> {
        self.note(format!("{name}: {unit}"))?;
        self.line(&figure_line(name, numerator, denominator))
    }

    /// A figure that cannot be had on this host.
    pub(crate) fn skipped(&mut self, name: &str, why: impl Display) -> io::Result<()> {
        self.line(&format!("SKIPPED {name} {why}"))
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        match &mut self.file {
            Some(file) => writeln!(file, "{line}"),
            None => Ok(()),
        }
    }
}

fn figure_line(name: &str, numerator: f64, denominator: f64) -> String {
    let value = numerator / denominator;
    format!("RATIO {name} {} {} {}", number(value), number(numerator), number(denominator))
}

/// Four digits that count, without an exponent.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let decimals = usize::try_from(digits.clamp(0, 9)).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The value in the middle of several, or between the two there. Panics without any.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Smallest, middle and largest, as a note says them.
pub(crate) fn spread(values: &[f64]) -> String {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let rounds = values.len();
    let middle = number(median(values));
    format!("{} / {middle} / {} in {rounds} rounds", number(smallest), number(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_its_numerator_over_its_denominator() {
        assert_eq!(figure_line("a/b", 1.0, 3.0), "RATIO a/b 0.3333 1 3");
        assert_eq!(figure_line("x", 0.0, 1.0), "RATIO x 0 0 1");
        assert_eq!(figure_line("x", 12_345_678.4, 2.0), "RATIO x 6172839 12345678 2");
        assert_eq!(figure_line("x", 0.000_123_456, 1.0), "RATIO x 0.0001235 0.0001235 1");
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), "1 / 2 / 3 in 3 rounds");
    }
}
