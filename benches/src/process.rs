//! Processes of a bench: this program again, each with one role and a pipe to talk through.
//!
//! In:   a role's name and arguments; later lines of words.
//! Out:  lines of answers; a process that is gone when its bench is.
//! Law:  one line asked, one line answered; a role that fails answers `error` and why.
//! Not:  what a role does (its own module).

use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::bench::BenchError;
use crate::peers::{daemon, feeder};
use crate::storm::{namespace, reader, speakers};
use crate::{collector, decode, flood, host, hostile, table};

/// Plays a role to its end; the words that come in are lines of standard input.
type Play = fn(&[String]) -> Result<(), BenchError>;

/// Every role, by its name.
const ROLES: &[(&str, Play)] = &[
    (collector::ROLE, collector::play),
    (flood::ROLE, flood::play),
    (decode::ROLE, decode::play),
    (table::ROLE, table::play),
    (namespace::ROLE, namespace::play),
    (speakers::ROLE, speakers::play),
    (reader::ROLE, reader::play),
    (feeder::ROLE, feeder::play),
    (daemon::ROLE, daemon::play),
    (hostile::ROLE, hostile::play),
];

/// First word of the answer of a role that failed.
const ERROR: &str = "error ";
/// Between two looks at whether a process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Plays the role of this name in this process. Called by `main` alone.
pub(crate) fn play(name: &str, arguments: &[String]) -> Result<(), BenchError> {
    // A bench that is killed takes its processes with it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)?;
    let role = ROLES.iter().find(|(role, _)| *role == name);
    let (_, play) = role.ok_or_else(|| BenchError::Role {
        role: name.to_owned(),
        expected: "a role that a bench starts",
        found: name.to_owned(),
    })?;
    let result = play(arguments);
    if let Err(error) = &result {
        answer(&format!("{ERROR}{error}"))?;
    }
    result
}

/// Answers the bench with one line. For roles.
pub(crate) fn answer(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", line.replace('\n', " "))?;
    out.flush()
}

/// Lines that the bench says, until it has gone. For roles.
pub(crate) fn words() -> impl Iterator<Item = String> {
    io::stdin().lock().lines().map_while(Result::ok)
}

/// The value of `name=value` among a role's arguments.
pub(crate) fn argument<'a>(
    role: &str,
    arguments: &'a [String],
    name: &'static str,
) -> Result<&'a str, BenchError> {
    let value = arguments.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
    value.ok_or_else(|| BenchError::Role {
        role: role.to_owned(),
        expected: name,
        found: arguments.join(" "),
    })
}

/// The number of `name=number` among a role's arguments.
pub(crate) fn number(
    role: &str,
    arguments: &[String],
    name: &'static str,
) -> Result<usize, BenchError> {
    let text = argument(role, arguments, name)?;
    text.parse().map_err(|_| BenchError::Role {
        role: role.to_owned(),
        expected: name,
        found: text.to_owned(),
    })
}

/// Keeps this thread, and those that it starts from now on, on one CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}

/// Does `work` on a thread that stays on one CPU; the pin ends with it.
pub(crate) fn on_cpu<T: Send>(
    cpu: usize,
    work: impl FnOnce() -> Result<T, BenchError> + Send,
) -> Result<T, BenchError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(cpu)?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A process of the bench. Killed when it is dropped.
pub(crate) struct Process {
    role: &'static str,
    process: std::process::Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program again in a role. `around` is a command that runs it, with its own
    /// arguments (`ip netns exec NAME`), or nothing.
    pub(crate) fn start(
        role: &'static str,
        arguments: &[String],
        around: &[String],
    ) -> Result<Process, BenchError> {
        let program = std::env::current_exe()?;
        let mut command = match around.split_first() {
            None => Command::new(&program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        command.args(["role", role]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let pipes = (process.stdin.take(), process.stdout.take());
        let (Some(input), Some(output)) = pipes else { unreachable!("both were asked for") };
        Ok(Process { role, process, input, output: BufReader::new(output) })
    }

    /// Says one line, and does not wait for the answer.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), BenchError> {
        writeln!(self.input, "{line}").map_err(|error| self.failed(error.to_string()))
    }

    /// The next answer. Blocks until it is there.
    pub(crate) fn answer(&mut self) -> Result<String, BenchError> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Err(self.failed("it ended without an answer".to_owned())),
            Ok(_) => match line.trim_end().strip_prefix(ERROR) {
                Some(told) => Err(self.failed(told.to_owned())),
                None => Ok(line.trim_end().to_owned()),
            },
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    /// Says one line and waits for the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String, BenchError> {
        self.tell(line)?;
        self.answer()
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Processor time that it has used, to a hundredth of a second.
    pub(crate) fn cpu(&self) -> Duration {
        host::cpu_of(self.id())
    }

    /// Asks it to end, waits as long as `patience`, and kills it then.
    pub(crate) fn end(mut self, patience: Duration) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself: then nobody is left to ask.
        let _ = id.map(|id| kill_process(id, Signal::TERM));
        let began = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && began.elapsed() < patience {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn failed(&self, told: String) -> BenchError {
        BenchError::Process { role: self.role, told }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
