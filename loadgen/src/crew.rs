//! The crew of a measurement: this program again, each process with one role and a pipe.
//!
//! In:   a role and what it starts with; later one order per line.
//! Out:  one answer per order; processes that are gone when whoever started them is.
//! Law:  orders and answers are JSON, one per line; a role that fails answers `error` and why.
//! Not:  what is measured (`calibrate`, `capacity`), what is performed (`stage`).

pub mod choir;
pub mod host;
pub mod troupe;

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The hidden command that plays a role.
pub const COMMAND: &str = "crew";
/// First word of the answer of a role that failed.
const ERROR: &str = "error ";

/// Why a member of the crew is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// It ended early, or said that something went wrong.
    #[error("the process `{role}`: {told}")]
    Member {
        /// What it was for.
        role: &'static str,
        /// What it said last.
        told: String,
    },
    /// A role that is none: only this program starts roles.
    #[error("crew: expected a role that stormgen starts itself, found `{0}`")]
    Role(String),
    /// This host did not do what was asked.
    #[error("{what}: {source}")]
    Host {
        /// What was asked.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The collector did not start or stop.
    #[error("collector: {0}")]
    Collector(String),
}

pub(crate) fn host_error(what: &'static str) -> impl FnOnce(io::Error) -> CrewError {
    move |source| CrewError::Host { what, source }
}

/// A process with a role. Killed when it is dropped.
pub struct Member {
    role: &'static str,
    process: Child,
    input: ChildStdin,
    /// `None` = somebody else reads the answers (`forward`).
    output: Option<BufReader<ChildStdout>>,
}

impl Member {
    /// Starts this program again in a role, with what it starts with.
    pub fn start(role: &'static str, with: &impl Serialize) -> Result<Member, CrewError> {
        let program = std::env::current_exe().map_err(host_error("this program"))?;
        let mut command = Command::new(program);
        command.args([COMMAND, role]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(host_error("a process of the crew"))?;
        let pipes = (process.stdin.take(), process.stdout.take());
        let (Some(input), Some(output)) = pipes else { unreachable!("both were asked for") };
        let output = Some(BufReader::new(output));
        let mut member = Member { role, process, input, output };
        member.tell(with)?;
        Ok(member)
    }

    /// Gives an order and does not wait.
    pub fn tell(&mut self, order: &impl Serialize) -> Result<(), CrewError> {
        let line = serde_json::to_string(order).expect("orders have only text keys");
        writeln!(self.input, "{line}").map_err(|error| self.failed(error.to_string()))
    }

    /// The next answer. Blocks until it is there.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T, CrewError> {
        match &mut self.output {
            Some(output) => read_answer(self.role, output),
            None => Err(self.failed("its answers go elsewhere".to_owned())),
        }
    }

    /// From now on every answer goes to `sender`, with this number, up to the first failure.
    pub fn forward<T: DeserializeOwned + Send + 'static>(
        &mut self,
        number: usize,
        sender: Sender<(usize, Result<T, CrewError>)>,
    ) -> Result<(), CrewError> {
        let Some(mut output) = self.output.take() else { return Ok(()) };
        let role = self.role;
        let read = move || loop {
            let answer = read_answer(role, &mut output);
            let failed = answer.is_err();
            if sender.send((number, answer)).is_err() || failed {
                return;
            }
        };
        let thread = std::thread::Builder::new().name(format!("{role}-{number}"));
        thread.spawn(read).map(drop).map_err(host_error("a thread of the crew"))
    }

    /// Gives an order and waits for its answer.
    pub fn ask<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<T, CrewError> {
        self.tell(order)?;
        self.answer()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn failed(&self, told: String) -> CrewError {
        CrewError::Member { role: self.role, told }
    }
}

fn read_answer<T: DeserializeOwned>(
    role: &'static str,
    output: &mut BufReader<ChildStdout>,
) -> Result<T, CrewError> {
    let failed = |told: String| CrewError::Member { role, told };
    let mut line = String::new();
    match output.read_line(&mut line) {
        Ok(0) => Err(failed("it ended without an answer".to_owned())),
        Ok(_) => match line.trim_end().strip_prefix(ERROR) {
            Some(told) => Err(failed(told.to_owned())),
            None => serde_json::from_str(&line)
                .map_err(|error| failed(format!("{error} in `{}`", line.trim_end()))),
        },
        Err(error) => Err(failed(error.to_string())),
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Plays a role until nobody gives orders any more. Called by the hidden command alone;
/// `settings_of` makes settings of another command line of this program.
pub fn play(role: &str, settings_of: troupe::SettingsOf<'_>) -> Result<(), CrewError> {
    // Whoever is killed takes the crew along.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| host_error("the end of the crew")(error.into()))?;
    let played = match role {
        host::ROLE => host::play(),
        choir::ROLE => choir::play(),
        troupe::ROLE => troupe::play(settings_of),
        _ => return Err(CrewError::Role(role.to_owned())),
    };
    if let Err(error) = &played {
        // Nobody listens: then nobody misses it.
        let _ = say(&format!("{ERROR}{error}"));
    }
    played
}

fn say(line: &str) -> Result<(), CrewError> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", line.replace('\n', " ")).and_then(|()| out.flush());
    written.map_err(host_error("standard output"))
}

fn reply(value: &impl Serialize) -> Result<(), CrewError> {
    say(&serde_json::to_string(value).expect("answers have only text keys"))
}

/// The next order; `None` when nobody gives any.
fn order<T: DeserializeOwned>(role: &'static str) -> Result<Option<T>, CrewError> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => Ok(None),
        Ok(_) => serde_json::from_str(&line).map(Some).map_err(|error| CrewError::Member {
            role,
            told: format!("{error} in `{}`", line.trim_end()),
        }),
    }
}

/// What a role starts with.
fn beginning<T: DeserializeOwned>(role: &'static str) -> Result<T, CrewError> {
    order(role)?.ok_or(CrewError::Member { role, told: "nobody said what to begin with".into() })
}

/// Keeps this thread, and those that it starts from now on, on these CPUs; none = all.
fn stay_on(cpus: &[usize]) -> Result<(), CrewError> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).map_err(|error| host_error("CPUs of the crew")(error.into()))
}

pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
