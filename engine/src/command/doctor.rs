//! `stormdrain doctor`: what of this host bites the configured fleet first.
//!
//! In:   the settings, the size of the fleet; this host.
//! Out:  findings as text, JSON, CSV, or a script; exit code 1 when the fleet does not fit.
//! Law:  the host stays as it is: one small file is written into the data folder, timed, removed.
//! Not:  what is good and what is not (`tuning::doctor`).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use tuning::doctor::{Finding, Fleet, Observed, Remedy, Ring, examine, fits, report, script};
use tuning::mounts::mount_of;
use tuning::tree::Tree;

use super::{EXIT_DONE, EXIT_FAILED, EXIT_NO, EXIT_USAGE, RunArguments};
use crate::io::choice::{Driver, choose};
use crate::io::clock::Clock;
use crate::io::disk::time_syncs;
use crate::io::uring;
use crate::memory::Budget;
use crate::query::{Cell, Format, Sheet};
use crate::settings::{IoChoice, Settings};

mod past;

/// A fleet of which nothing is known.
const ROUTERS_UNNAMED: u64 = 1_000;
/// What `stormdrain doctor` is asked.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The settings of the collector that is to run here.
    #[command(flatten)]
    pub run: RunArguments,
    /// Routers of the fleet [default: those that the settings name, or 1000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    routers: Option<u64>,
    /// Mappings in each router's table.
    #[arg(long, value_name = "N", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    mappings: u64,
    /// Changes that each router sends at once when the network reconverges.
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    changes: u64,
    /// TCP-MD5 keys on the listening sockets.
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    keys: u64,
    /// Print a shell script that mends what was found; it is for review, and nothing is run.
    #[arg(long, conflicts_with = "format")]
    fix_script: bool,
    /// How the findings are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Examines this host. Returns the exit code.
///
/// Findings go to `output`; what could not be tried, and the reason of a failure, to `notes`.
pub fn doctor(
    arguments: &DoctorArguments,
    mut settings: Settings,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> u8 {
    // What could not be read of it is a finding.
    let _ = settings.resolve_memory();
    let shards = settings.shard_count();
    let budget = match Budget::new(&settings, shards) {
        Ok(budget) => budget,
        Err(error) => {
            // Nothing can be done about a standard error that is closed, here and below.
            let _ = writeln!(notes, "stormdrain: {error}");
            return EXIT_USAGE;
        }
    };
    let named = settings.routers.len() as u64;
    let fleet = Fleet {
        routers: arguments.routers.unwrap_or(if named > 0 { named } else { ROUTERS_UNNAMED }),
        mappings: arguments.mappings,
        changes: arguments.changes,
        keys: arguments.keys,
        shards: shards as u64,
    };
    let mut findings = examine(&Tree::host(), fleet, &observe(&settings, &budget, notes));
    let now = Clock::start().now().wall;
    findings.extend(past::of_week(&settings.data, now));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.judgement));
    let text = if arguments.fix_script {
        script(&findings)
    } else {
        match arguments.format {
            Format::Table => report(&fleet, &findings),
            format => sheet(&findings).render(format),
        }
    };
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(notes, "stormdrain: cannot write the findings: {error}");
            EXIT_FAILED
        }
        _ if fits(&findings) == Some(true) => EXIT_DONE,
        _ => EXIT_NO,
    }
}

/// What only trying shows: memory, a ring, the disk.
fn observe(settings: &Settings, budget: &Budget, notes: &mut dyn Write) -> Observed {
    let ring = match choose(settings.io, uring::probe) {
        Ok((Driver::Uring(offered), _)) => Ring::Works { direct_descriptors: offered.direct },
        Ok((Driver::Epoll, _)) if settings.io == IoChoice::Epoll => Ring::NotAsked,
        Ok((Driver::Epoll, reason)) => Ring::Replaced(reason),
        Err(error) => Ring::Fails(error.to_string()),
    };
    let folder = existing(&settings.data);
    let mut flush = None;
    match time_syncs(&folder) {
        Ok(times) => flush = times,
        Err(error) => {
            let folder = folder.display();
            let _ = writeln!(notes, "stormdrain: the disk of {folder} was not timed: {error}");
        }
    }
    Observed {
        ring,
        mount: mount_of(&folder).ok().flatten(),
        flush,
        memory: tuning::memory::available(),
        memory_bytes: Some(budget.total_bytes),
        table_bytes_max: Some(budget.table_bytes_max),
        page_bytes: rustix::param::page_size() as u64,
    }
}

/// The data folder, or what of its path there is already, free of links.
fn existing(data: &Path) -> PathBuf {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let there = absolute.ancestors().find_map(|path| path.canonicalize().ok());
    there.unwrap_or_else(|| PathBuf::from("/"))
}

const COLUMNS: &[&str] = &[
    "name",
    "judgement",
    "found",
    "wanted",
    "consequence",
    "routers_max",
    "command",
    "file",
    "content",
];

fn sheet(findings: &[Finding]) -> Sheet {
    let mut sheet = Sheet::new(COLUMNS);
    for finding in findings {
        let remedy = finding.remedy.as_ref();
        let (file, content) = remedy.and_then(Remedy::persistent).unwrap_or_default();
        sheet.push(vec![
            Cell::text(finding.name),
            Cell::text(finding.judgement.name()),
            Cell::text(&finding.found),
            Cell::text(&finding.wanted),
            Cell::text(&finding.consequence),
            finding.routers_max.map_or(Cell::Nothing, Cell::Count),
            Cell::text(remedy.and_then(Remedy::command).unwrap_or_default()),
            Cell::text(file),
            Cell::text(content),
        ]);
    }
    sheet
}
