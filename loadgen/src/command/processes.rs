//! How many processes the senders of a fleet need, and what each makes of the command line.
//!
//! In:   `--processes`; the limit of open descriptors.
//! Out:  a `Cast`, or none where this process suffices.
//! Law:  no process opens more descriptors than it may.
//! Not:  what the processes do (`crew/troupe`).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser};
use rustix::process::{Resource, getrlimit};

use super::shape::whole;
use super::{Arguments, Command, CommandError};
use crate::crew::troupe::Cast;
use crate::stage::StageSettings;

/// Descriptors of a process that are no connections: rings, pipes, files, connections that break
/// and are opened again.
const DESCRIPTORS_KEPT: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct ProcessArguments {
    /// Processes of the senders; 0 = one, or as many as the limit of open descriptors asks for.
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = whole::<usize>)]
    processes: usize,
}

impl ProcessArguments {
    /// Who sends for so many routers. `descriptors`: what they take if this process does all.
    pub(super) fn cast(
        &self,
        routers: usize,
        descriptors: usize,
    ) -> Result<Option<Cast>, CommandError> {
        const NAME: &str = "--processes";
        if self.processes > routers {
            let (found, expected) = (self.processes as f64, "at most one per router");
            return Err(CommandError::Number { name: NAME, found, expected });
        }
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        let room = room.saturating_sub(DESCRIPTORS_KEPT).max(1);
        let processes = match self.processes {
            0 if descriptors <= room => 1,
            0 => routers.div_ceil(room),
            asked => asked,
        };
        let alone = self.processes <= 1 && descriptors <= room;
        let arguments = std::env::args().collect();
        Ok((!alone).then_some(Cast { arguments, processes }))
    }
}

/// Shards of a collector of this program's own: as many as asked for, or one per CPU, but more
/// where the table of a shard's ring, as large as the limit of descriptors, would be full.
pub(super) fn shards(asked: usize, routers: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let table = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
    // Sources do not spread evenly.
    let wanted = (routers + routers / 8).div_ceil(table);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    match asked {
        0 if wanted > cpus => wanted,
        asked => asked,
    }
}

/// Settings of a command line of this program: those of the run or the demonstration that it is.
pub(super) fn settings(words: &[String]) -> Result<StageSettings, String> {
    let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match arguments.command {
        Command::Run(arguments) => arguments.settings().map_err(|error| error.to_string()),
        Command::Demo(arguments) => {
            let settings = arguments.settings(PathBuf::new());
            settings.map(|it| it.stage(nowhere)).map_err(|error| error.to_string())
        }
        _ => Err("expected `run` or `demo`".to_owned()),
    }
}
