//! The commands of `stormgen`, one module each, and what they share.
//!
//! In:   parsed arguments.
//! Out:  reports on standard output, progress on standard error; whether the answer is "yes".
//! Law:  every error says which exit code it is.
//! Not:  acts, verdicts and recordings themselves (`stage`, `verdict`, `replay`).

mod capacity;
mod demo;
mod error;
mod plan;
mod processes;
mod replay;
mod run;
mod shape;
mod told;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use engine::io::sockets::raise_descriptor_limit;

use crate::crew;
use capacity::CapacityArguments;
use demo::DemoArguments;
pub use error::CommandError;
use error::host;
use plan::PlanArguments;
use replay::ReplayArguments;
use run::RunArguments;

const ANSWERED: &str = "\
Exit codes: 0 done, 1 a verdict is not exact, 2 usage wrong, 3 network or disk failed.

Examples:
  stormgen demo
  stormgen run --target 127.0.0.1:30310 --routers 500 --pe 60 --data stormdrain-data
  stormgen run --target 192.0.2.10:30310 --routers 2000 --scenario cold-start --format json
  stormgen demo --topology Geant2012.gml --pe-per-pop 4
  stormgen plan --routers 10000 --mappings 1000 --churn 0.1 --retain-hours 720
  stormgen capacity --routers 2000 --entries 500
  stormgen replay captures/r*.fpm --target 127.0.0.1:30310 --fast --hold 60";

/// Load generator of stormdrain: a network that is computed, speaks, and knows the answers.
#[derive(Debug, Parser)]
#[command(name = "stormgen", version, after_help = ANSWERED)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collector, storm and verdict in one process: takes about a minute.
    Demo(DemoArguments),
    /// The same workload against a collector that runs elsewhere.
    Run(RunArguments),
    /// Send recorded sessions again.
    Replay(ReplayArguments),
    /// How large a collector host has to be: cores, memory, disk, limits of the kernel.
    Plan(PlanArguments),
    /// What this host takes: the largest burst, rate and number of connections.
    Capacity(CapacityArguments),
    /// A part of a measurement, in a process of its own. Nobody has to start it by hand.
    #[command(hide = true, name = crew::COMMAND)]
    Crew {
        /// Which part.
        role: String,
    },
}

impl Arguments {
    /// Reads the words that this process was started with. A number below 0 is a number, which is
    /// then refused as one, and no unknown flag. Ends the process where the words are wrong.
    pub fn read() -> Arguments {
        let signed = |argument: Arg| match argument.get_action().takes_values() {
            true => argument.allow_negative_numbers(true),
            false => argument,
        };
        let command = Arguments::command().mut_subcommands(|command| command.mut_args(signed));
        let matches = command.get_matches();
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// Runs the command. `false` = it came to an answer, and the answer is "no".
pub fn run(arguments: Arguments) -> Result<bool, CommandError> {
    raise_descriptor_limit().map_err(host("the limit of open descriptors"))?;
    match arguments.command {
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Run(arguments) => run::perform_elsewhere(&arguments),
        Command::Replay(arguments) => replay::replay_files(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Capacity(arguments) => capacity::capacity(&arguments),
        Command::Crew { role } => {
            crew::play(&role, &processes::settings)?;
            Ok(true)
        }
    }
}
