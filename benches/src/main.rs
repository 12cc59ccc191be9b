//! `benches`: measures the collector, stage by stage, end to end, and in a storm.
//!
//! In:   names of benches, a scale, a folder on a real file system.
//! Out:  lines: `RATIO name value numerator denominator`, `SKIPPED name why`, and `#` around them.
//! Law:  0 done, 1 something was lost or `verify` found a fault, 2 usage, 3 the host refused.
//! Not:  the collector; what is measured is its own code, or its own process.

mod report;
mod bench;
mod process;
mod collector;
mod flood;
mod idle_driver;
mod decode;
mod decode_shard;
mod table;
mod log_size;
mod end_to_end;
mod connections;
mod commit;
mod storm;
mod burst;
mod burst_tight;
mod restart;
mod restart_storm;
mod trickle;
mod watch;
mod silence;
mod hostile;
mod rotation;
mod generator;
mod model;
mod peers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use bench::{BENCHES, BenchError, Run};
use loadgen::corpus;
use report::Report;
use tuning::host;

// The allocator that the collector ships with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the collector. Without a name: what there is to measure.
#[derive(Parser)]
#[command(name = "benches", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    what: What,
}

#[derive(Args)]
struct What {
    /// A bench, or one of its figures (`decode`, `decode/change/10`), or `all`.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Share of the full size: below 1 is for trying things out, and no figure.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Where temporary data folders are made: a real file system, not one in memory.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Runs benches and writes what they say into a file, with the machine described.
    Record {
        /// The file; it must not exist.
        file: PathBuf,
        #[command(flatten)]
        what: What,
    },
    /// A part of a bench, in a process of its own. Benches start it; nobody else has to.
    #[command(hide = true)]
    Role {
        /// Which part.
        name: String,
        /// Its arguments, as the bench gives them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    let allowed = scale > 0.0 && scale <= 1.0;
    allowed.then_some(scale).ok_or_else(|| "expected more than 0, at most 1".to_owned())
}

fn main() -> ExitCode {
    let Arguments { command, what } = Arguments::parse();
    let result = match command {
        None => run(Report::to_stdout(), what),
        Some(Command::Record { file, what }) => {
            Report::to_file(&file).map_err(BenchError::from).and_then(|report| run(report, what))
        }
        Some(Command::Role { name, arguments }) => {
            process::play(&name, &arguments).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("benches: {error}");
        ExitCode::from(error.exit_code())
    })
}

fn run(report: Report, what: What) -> Result<ExitCode, BenchError> {
    if what.names.is_empty() {
        println!("# cargo run --release -p benches -- NAME [--scale SHARE] [--data DIR]");
        println!("# NAME is one of these, one of their figures, or `all`:");
        for bench in BENCHES {
            println!("{:12} {}", bench.name, bench.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut run = Run::new(report, what.names, what.scale, what.data);
    bench::run(&mut run)?;
    Ok(if run.faults() > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
