//! What is told of a run, and where.
//!
//! In:   `--report`, `--quiet`, `--format`; reports.
//! Out:  text or JSON on standard output; a page and its data in a folder.
//! Law:  a reader that goes away early is no failure.
//! Not:  what a report or a page says (`report`, `page`).

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tuning::host::description;

use super::error::{CommandError, host};
use crate::page;
use crate::record::ActRecord;
use crate::report::Report;

/// What is told of a run, and where.
#[derive(Debug, Args)]
pub(super) struct Told {
    /// Write a page (report.html) and its data (report.json) into this folder.
    #[arg(long, value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long)]
    pub(super) quiet: bool,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

impl Told {
    /// Makes the folder of the page, if one is wanted: whoever cannot have it is told before
    /// minutes of load, not behind them.
    pub(super) fn make_folder(&self) -> Result<(), CommandError> {
        let Some(folder) = &self.report else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(|source| CommandError::Folder {
            name: "--report",
            path: folder.display().to_string(),
            source,
        })
    }
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Writes the page of a run, if one is wanted.
pub(super) fn write_page(
    folder: Option<&Path>,
    data: &Path,
    report: &Report,
    records: &[ActRecord],
) -> Result<(), CommandError> {
    let Some(folder) = folder else { return Ok(()) };
    let html = page::run_page(report, records, &description(data));
    page::write(folder, &html, &WithRecords { report, acts: records }).map_err(host("--report"))?;
    Ok(())
}

/// What report.json holds.
#[derive(Serialize)]
struct WithRecords<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The acts over time.
    acts: &'a [ActRecord],
}

pub(super) fn json(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).expect("a report has only text keys") + "\n"
}

/// A reader that goes away early (`head`) is no failure of the run.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(host("standard output")(error))
        }
        _ => Ok(()),
    }
}
