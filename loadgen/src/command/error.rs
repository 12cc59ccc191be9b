//! Why a command did not come to an answer, and which exit code that is.
//!
//! In:   errors of everything that a command is made of.
//! Out:  `CommandError`.
//! Law:  2 where another argument would have helped, 3 where this host or the network would have.
//! Not:  1, which is an answer (`command`).

use engine::query::QueryError;

use crate::capacity::rig::RigError;
use crate::crew::CrewError;
use crate::demo::DemoError;
use crate::map::MapError;
use crate::replay::ReplayError;
use crate::sender::SendError;
use crate::stage::StageError;

/// Why a command did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A demonstration ended early.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The network could not say everything.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The data folder could not be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The map could not be read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A recording could not be sent.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A measurement could not be made.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// A capacity could not be measured.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// Nobody is there to be told twice.
    #[error("faults: duplicate: expected --second-target ADDR, found none")]
    SecondTarget,
    /// A number that makes no sense where it stands.
    #[error("{name}: expected {expected}, found {found}")]
    Number {
        /// Which.
        name: &'static str,
        /// What it was.
        found: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A file of costs that is none.
    #[error("{path}: expected costs as `stormgen plan --write-costs` writes them: {told}")]
    Costs {
        /// Which.
        path: String,
        /// What is wrong.
        told: String,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder cannot be written into.
    #[error("{name} {path}: expected a folder, or a place where one can be made: {source}")]
    Folder {
        /// What names it.
        name: &'static str,
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A demonstration would be judged by what another has left.
    #[error(
        "--data {path}: expected a folder without a log, found one of before; its rows would be \
         judged too: give another folder, or remove it"
    )]
    NotEmpty {
        /// Which.
        path: String,
    },
    /// This host did not do what was asked.
    #[error("{what}: {source}")]
    Host {
        /// What was asked.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl CommandError {
    /// 2 where another argument would have helped, 3 where this host or the network would have.
    pub fn exit_code(&self) -> u8 {
        let stage = |error: &StageError| match error {
            StageError::World(_) => 2,
            StageError::Sources { .. } | StageError::NoSource { .. } => 2,
            StageError::Send(SendError::Ring(_)) => 2,
            StageError::Send(_) | StageError::Crew(_) => 3,
            StageError::Unheard { .. } | StageError::TimeUp { .. } => 3,
        };
        match self {
            CommandError::Stage(error) | CommandError::Demo(DemoError::Stage(error)) => {
                stage(error)
            }
            CommandError::Demo(DemoError::Start(error)) if error.is_setting() => 2,
            CommandError::Number { .. } | CommandError::Costs { .. } => 2,
            CommandError::Map(MapError::Fault { .. }) => 2,
            CommandError::SecondTarget | CommandError::NotEmpty { .. } => 2,
            CommandError::Crew(CrewError::Role(_)) => 2,
            CommandError::Query(error) if error.is_usage() => 2,
            CommandError::Replay(ReplayError::Sources { .. } | ReplayError::Line { .. }) => 2,
            _ => 3,
        }
    }
}

/// This host did not do what was asked.
pub(super) fn host(what: &'static str) -> impl FnOnce(std::io::Error) -> CommandError {
    move |source| CommandError::Host { what, source }
}
