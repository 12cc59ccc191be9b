//! The program `stormdrain`: reads the command line, runs the collector or answers a question.
//!
//! In:   arguments, environment, settings file, signals.
//! Out:  an exit code: 0 done, 1 the answer is "no", 2 usage or setting wrong, 3 input or disk,
//!       4 the answer lacks rows of the log.
//! Law:  glue only: what can be tested without a process lives in the library.
//! Not:  the commands (`command`), the collector (`collector`).

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::collector::{Collector, StartError};
use engine::command::{self, Command, EXIT_DONE, EXIT_FAILED, EXIT_USAGE, RunArguments};
use engine::io::clock::Clock;
use engine::io::listener;
use engine::lines::{self, Lines};
use engine::policy::Policy;
use engine::settings::{LogFormat, SettingError, Settings};
use engine::top::{Screen, top};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use storage::time::Micros;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match command::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Nothing can be done about a terminal that is closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE });
        }
    };
    match command {
        Command::Run(arguments) => ExitCode::from(run(&arguments)),
        Command::Doctor(arguments) => ExitCode::from(match settings(&arguments.run) {
            Ok(settings) => {
                let mut output = io::stdout().lock();
                command::doctor(&arguments, settings, &mut output, &mut io::stderr())
            }
            Err(error) => error.report(),
        }),
        Command::Top(arguments) => {
            // https://no-color.org: whatever it says, unless it is empty.
            let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let screen = Screen { is_terminal: io::stdout().is_terminal(), colour };
            ExitCode::from(top(&arguments, screen, &mut io::stdout(), &mut io::stderr()))
        }
        Command::Send(arguments) => {
            let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
            let mut notes = io::stderr();
            ExitCode::from(command::send(&arguments, wall(), &mut input, &mut output, &mut notes))
        }
        question => {
            let mut output = io::stdout().lock();
            ExitCode::from(command::answer(&question, wall(), &mut output, &mut io::stderr()))
        }
    }
}

fn wall() -> Micros {
    // A clock before 1970 counts as 1970: there is no data from then.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// Runs the collector until a signal ends it.
fn run(arguments: &RunArguments) -> u8 {
    let mut settings = match settings(arguments) {
        Ok(settings) => settings,
        Err(error) => return error.report(),
    };
    // What SIGHUP finds is held against what was set, not against what became of it.
    let set = settings.clone();
    start_log(settings.log_format);
    if let Some(unknown) = settings.resolve_memory() {
        tracing::warn!("{unknown}");
    }
    // A file that is as long as a limit allows is an error like a disk that is full, and no end of
    // the process: with a handler the write fails instead.
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::default()) {
        tracing::warn!(%error, "a limit of file sizes (ulimit -f) would end the process");
    }
    // Registered before the collector starts: a signal during recovery is not lost.
    let mut signals = match Signals::new([SIGTERM, SIGINT, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be taken");
            return EXIT_FAILED;
        }
    };
    // Routers are left out: each is a row of `stormdrain routers`, and would hide the rest.
    let effective = settings.effective();
    let values: Vec<&str> = effective.lines().take_while(|line| !line.is_empty()).collect();
    tracing::info!(named_routers = settings.routers.len(), "in effect: {}", values.join(", "));
    let started = listener::handed_over()
        .map_err(StartError::from)
        .and_then(|sockets| Collector::start_on(settings.clone(), Clock::start(), sockets));
    let collector = match started {
        Ok(collector) => collector,
        Err(error) => {
            tracing::error!("{error}");
            return if error.is_setting() { EXIT_USAGE } else { EXIT_FAILED };
        }
    };
    for signal in signals.forever() {
        if signal == SIGHUP {
            reload(&collector, arguments, &set);
        } else {
            tracing::info!(signal, "stopping: what was read is digested and committed first");
            break;
        }
    }
    match collector.stop() {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            tracing::error!("{error}");
            EXIT_FAILED
        }
    }
}

/// Takes routers, allow-lists and the token from where the settings say again; a file with a fault
/// changes nothing.
fn reload(collector: &Collector, arguments: &RunArguments, started: &Settings) {
    match settings(arguments) {
        Ok(settings) => {
            let routers = settings.routers.len();
            match collector.reload_token(settings.http_token_file.as_deref()) {
                Ok(true) => tracing::info!("the HTTP side has another token from now on"),
                Ok(false) => {}
                Err(error) => tracing::error!("{error}; the token stays as it was"),
            }
            collector.reload(Policy::new(&settings));
            tracing::info!(routers, allow = settings.allow.len(), "routers and allow-list re-read");
            for (setting, started, now) in settings.waiting_for_a_start(started) {
                tracing::warn!(
                    setting,
                    started,
                    now,
                    "changed, and waits for a restart: until then it stays as it was started"
                );
            }
        }
        Err(error) => {
            tracing::error!("{error}; routers, allow-list and token stay as they were");
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("cannot read the settings file {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{0}")]
    Setting(#[from] SettingError),
}

impl RunError {
    fn report(&self) -> u8 {
        lines::say(format_args!("stormdrain: {self}"));
        match self {
            RunError::Read { .. } => EXIT_FAILED,
            RunError::Setting(_) => EXIT_USAGE,
        }
    }
}

fn settings(arguments: &RunArguments) -> Result<Settings, RunError> {
    let file = arguments.config.as_deref().map(read_file).transpose()?;
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let variable = |name: &str| std::env::var(name).ok();
    Ok(Settings::layered(file, &variable, &arguments.flags())?)
}

/// The name of the settings file and its text.
fn read_file(path: &Path) -> Result<(String, String), RunError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(source) => Err(RunError::Read { path: name, source }),
    }
}

/// Log lines go to the standard error. RUST_LOG sets other levels than info.
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines)
        // It would print what went wrong to where nothing can be printed, and panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
}
