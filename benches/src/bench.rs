//! The benches: what there is to measure, and what each needs to do it.
//!
//! In:   names that somebody asked for.
//! Out:  every bench that they name, one after another, in path order.
//! Law:  each bench is one entry of `BENCHES` and one module; each ends by itself.
//! Not:  how lines look (`report`), what is sent (`corpus`).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use engine::collector::{StartError, StopError};
use engine::settings::SettingError;
use storage::log::LogError;
use tempfile::TempDir;

use crate::host::{self, Watch};
use crate::report::Report;
use crate::{
    burst, burst_tight, generator, hostile, model, peers, restart, restart_storm, rotation, silence,
};
use crate::{commit, connections, decode, decode_shard, end_to_end, log_size, table};
use crate::{trickle, watch};

/// One entry of the list that a run without a name prints.
pub(crate) struct Bench {
    /// What selects it; its figures are called the same, or begin with it and a slash.
    pub(crate) name: &'static str,
    /// What it measures, in one line.
    pub(crate) about: &'static str,
    /// Measures, and says so.
    pub(crate) run: fn(&mut Run) -> Result<(), BenchError>,
}

/// Every bench, in the order in which the byte travels.
pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "decode",
        about: "inflate, parse, table and append on one core, beside inflate alone",
        run: decode::run,
    },
    Bench {
        name: "decode-shard",
        about: "the same through the whole shard: surge, sessions, books, commits",
        run: decode_shard::run,
    },
    Bench {
        name: "table",
        about: "memory of an entry at 34,000 routers x 2,000 entries",
        run: table::run,
    },
    Bench {
        name: "log-size",
        about: "bytes of a change in the hot log, in a storm and in a trickle",
        run: log_size::run,
    },
    Bench {
        name: "end-to-end",
        about: "durable mappings in a second over loopback, beside bare inflate",
        run: end_to_end::run,
    },
    Bench {
        name: "connections",
        about: "the rate at 17,000 connections beside that at 100",
        run: connections::run,
    },
    Bench {
        name: "commit",
        about: "how long a router waits for its ack at half of the load",
        run: commit::run,
    },
    burst::BENCH,
    burst_tight::BENCH,
    restart::BENCH,
    restart_storm::BENCH,
    trickle::BENCH,
    watch::BENCH,
    silence::BENCH,
    hostile::BENCH,
    rotation::BENCH,
    generator::BENCH,
    generator::LAG_BENCH,
    model::BENCH,
    peers::BENCH,
];

/// Why a bench could not come to an end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A name that is none.
    #[error("`{0}` is no bench: without a name the list is printed")]
    Name(String),
    /// Arguments of a role that the bench itself has got wrong.
    #[error("role {role}: expected {expected}, found `{found}`")]
    Role {
        /// Which.
        role: String,
        /// What should have been there.
        expected: &'static str,
        /// What was.
        found: String,
    },
    /// A process of the bench ended early, or said that something went wrong.
    #[error("the process `{role}`: {told}")]
    Process {
        /// What it was for.
        role: &'static str,
        /// What it said last.
        told: String,
    },
    /// The collector did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The collector did not stop in order.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// A setting of a role is none.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// This host did not do what was asked.
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl BenchError {
    /// 2 where another argument would have helped, 3 where another host would have.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            BenchError::Name(_) | BenchError::Role { .. } | BenchError::Setting(_) => 2,
            _ => 3,
        }
    }
}

/// Below this share of the full size nothing costly is done beside the figures.
const SMALL: f64 = 0.01;

/// One run of the program: what is wanted, how large, and where it is said.
pub(crate) struct Run {
    report: Report,
    names: Vec<String>,
    scale: f64,
    data: PathBuf,
    faults: u64,
}

impl Run {
    /// A run of what these names select.
    pub(crate) fn new(report: Report, names: Vec<String>, scale: f64, data: PathBuf) -> Run {
        Run { report, names, scale, data, faults: 0 }
    }

    /// Whether a figure, or anything whose name begins with it and a slash, is wanted.
    pub(crate) fn wants(&self, figure: &str) -> bool {
        self.names.iter().any(|name| name == "all" || is_within(figure, name))
    }

    fn wants_any_of(&self, bench: &str) -> bool {
        self.wants(bench) || self.names.iter().any(|name| is_within(name, bench))
    }

    /// A size of the full run, as small as this run is, but at least `least`.
    pub(crate) fn scaled(&self, full: usize, least: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(least)
    }

    /// Whether the run is so small that only its working is of interest.
    pub(crate) fn is_small(&self) -> bool {
        self.scale < SMALL
    }

    /// A time of the full run, as short as this run is small, but at least a second.
    pub(crate) fn brief(&self, full: Duration) -> Duration {
        full.mul_f64(self.scale).max(Duration::from_secs(1).min(full))
    }

    /// An empty folder on the file system that the run was given; removed when it is dropped.
    pub(crate) fn folder(&self) -> Result<TempDir, BenchError> {
        Ok(tempfile::Builder::new().prefix("stormdrain-bench-").tempdir_in(&self.data)?)
    }

    /// A line of explanation, or several.
    pub(crate) fn note(&mut self, text: impl std::fmt::Display) -> Result<(), BenchError> {
        Ok(self.report.note(text)?)
    }

    /// A figure. `unit` says in words what is divided by what.
    pub(crate) fn figure(
        &mut self,
        name: &str,
        numerator: f64,
        denominator: f64,
        unit: &str,
    ) -> Result<(), BenchError> {
        Ok(self.report.figure(name, numerator, denominator, unit)?)
    }

    /// A figure that cannot be had here.
    pub(crate) fn skipped(
        &mut self,
        name: &str,
        why: impl std::fmt::Display,
    ) -> Result<(), BenchError> {
        Ok(self.report.skipped(name, why)?)
    }

    /// Something was lost, or is not as it was written: the run ends with exit status 1.
    pub(crate) fn fault(&mut self, what: impl std::fmt::Display) -> Result<(), BenchError> {
        self.faults += 1;
        self.note(format!("FAULT: {what}"))
    }

    /// How many faults there were.
    pub(crate) fn faults(&self) -> u64 {
        self.faults
    }
}

/// Whether `figure` is `name`, or below it.
fn is_within(figure: &str, name: &str) -> bool {
    figure.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Runs every bench that is wanted.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    for name in &run.names {
        let known = |bench: &Bench| is_within(name, bench.name) || is_within(bench.name, name);
        if name != "all" && !BENCHES.iter().any(known) {
            return Err(BenchError::Name(name.clone()));
        }
    }
    run.note(host::description(&run.data.clone()))?;
    if run.scale < 1.0 {
        let scale = run.scale;
        run.note(format!("scale {scale}: smaller than a figure is taken at"))?;
    }
    for bench in BENCHES {
        if run.wants_any_of(bench.name) {
            run.note(format!("== {}: {}", bench.name, bench.about))?;
            let watch = Watch::start(&[]);
            (bench.run)(run)?;
            run.note(watch.words(&[]))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(names: &[&str]) -> Run {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Run::new(Report::to_stdout(), names, 0.5, PathBuf::from("."))
    }

    #[test]
    fn a_name_selects_itself_and_what_is_below_it() {
        let decode = run_of(&["decode/change"]);
        assert!(decode.wants("decode/change/10") && decode.wants("decode/change"));
        assert!(!decode.wants("decode/snapshot/10") && !decode.wants("decode/changes"));
        assert!(decode.wants_any_of("decode") && !decode.wants_any_of("table"));
        assert!(run_of(&["all"]).wants("table"));
    }

    #[test]
    fn a_name_that_is_no_bench_is_refused() {
        let error = super::run(&mut run_of(&["decoed"])).unwrap_err();
        assert!(error.to_string().contains("decoed"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn names_of_benches_are_unique() {
        let names: std::collections::BTreeSet<_> = BENCHES.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), BENCHES.len());
    }
}
