//! Settings: one table that the file, the environment, the flags and the documentation read.
//!
//! In:   the text of a TOML file, variables `STORMDRAIN_*`, command line flags; in that order.
//! Out:  `Settings`, every value inside its range, or a `SettingError` that says what is allowed.
//! Law:  a setting is one entry of `SETTINGS`; its name, range, default and page derive from it.
//! Not:  reading files or the environment (`main`), or what a source may say (`policy`).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tuning::memory::Available;

use crate::policy::RouterEntry;
use crate::wire::WireLimits;

mod file;
mod table;

pub use table::{Group, SETTINGS, Setting, page};

/// Everything that an operator may set. `Settings::default()` is what an empty file gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The data folder; made when it is missing.
    pub data: PathBuf,
    /// Where routers connect to. Loopback unless told otherwise.
    pub listen: SocketAddr,
    /// Where the page, `/api/v1/`, `/metrics` and `/healthz` are served; `None` = nowhere.
    pub http: Option<SocketAddr>,
    /// File of the token that whoever asks there must have; `None` = none, on loopback alone.
    pub http_token_file: Option<PathBuf>,
    /// Shards; 0 = one per CPU that this process may use.
    pub shards: usize,
    /// How sockets are driven.
    pub io: IoChoice,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Whether drops are counted by the kernel's reasons.
    pub drop_reasons: bool,
    /// What the process may take: tables, received bytes and fixed parts; 0 = a quarter of RAM.
    pub memory_bytes: u64,
    /// What of it is for questions about the past over HTTP; 0 = an eighth.
    pub question_memory_bytes: u64,
    /// Connections that the whole process holds at once.
    pub connections_max: u64,
    /// Finished hours of history that are kept; 0 = all.
    pub retain_hours: u64,
    /// Bytes that log and states may take on disk; 0 = no bound.
    pub retain_bytes: u64,
    /// Longest wait of a row for its commit, milliseconds.
    pub commit_interval_ms: u64,
    /// Bytes of rows after which a commit no longer waits for its interval.
    pub commit_bytes: u64,
    /// Silence after which a snapshot without an explicit end counts as over, milliseconds.
    pub snapshot_quiet_ms: u64,
    /// How long an unconfirmed entry is kept, seconds.
    pub unconfirmed_hold_s: u64,
    /// How long a connection may stay without saying which router it is, milliseconds.
    pub identify_timeout_ms: u64,
    /// How long a session may stay unread before it gets a turn, milliseconds.
    pub stuck_guard_ms: u64,
    /// Silence after which a session yields its router id to another source, seconds.
    pub identity_idle_s: u64,
    /// New sessions of one source address per minute.
    pub sessions_per_minute_max: u64,
    /// Rejected frames and mappings of one session before it is closed.
    pub rejected_budget: u64,
    /// Idle time before the first TCP keepalive probe, seconds.
    pub keepalive_idle_s: u64,
    /// Time between two probes, seconds.
    pub keepalive_interval_s: u64,
    /// Unanswered probes after which the peer is dead.
    pub keepalive_probes: u64,
    /// Time that sent bytes may stay unacknowledged before the peer is dead, seconds.
    pub user_timeout_s: u64,
    /// How long a stop waits for shards to commit and close, seconds.
    pub stop_timeout_s: u64,
    /// Limits on one frame or document.
    pub wire: WireLimits,
    /// Prefixes that may connect; empty = everybody who reaches the listener.
    pub allow: Vec<IpNet>,
    /// Routers that the operator named.
    pub routers: Vec<RouterEntry>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            data: PathBuf::from("stormdrain-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 30310)),
            http: Some(SocketAddr::from(([127, 0, 0, 1], 30311))),
            http_token_file: None,
            shards: 0,
            io: IoChoice::Auto,
            log_format: LogFormat::Text,
            drop_reasons: true,
            memory_bytes: 0,
            question_memory_bytes: 0,
            connections_max: 1_000_000,
            retain_hours: 0,
            retain_bytes: 0,
            commit_interval_ms: 20,
            commit_bytes: 1 << 20,
            snapshot_quiet_ms: 2_000,
            unconfirmed_hold_s: 3_600,
            identify_timeout_ms: 30_000,
            stuck_guard_ms: 10_000,
            identity_idle_s: 30,
            sessions_per_minute_max: 60,
            rejected_budget: 1_000,
            keepalive_idle_s: 30,
            keepalive_interval_s: 3,
            keepalive_probes: 10,
            user_timeout_s: 90,
            stop_timeout_s: 10,
            wire: WireLimits::default(),
            allow: Vec::new(),
            routers: Vec::new(),
        }
    }
}

impl Settings {
    /// Layers the file, then the variables, then the flags over the defaults.
    ///
    /// `file` is its name and its text. `variable` looks up `STORMDRAIN_NAME`. Names that are no
    /// setting are never asked for: an orchestrator that injects `STORMDRAIN_SERVICE_HOST` does not
    /// stop the collector.
    /// Errors: the first value that cannot stand, with its name and what is allowed.
    pub fn layered(
        file: Option<(&str, &str)>,
        variable: &dyn Fn(&str) -> Option<String>,
        flags: &[(&'static str, String)],
    ) -> Result<Settings, SettingError> {
        let mut settings = Settings::default();
        if let Some((name, text)) = file {
            file::apply(&mut settings, text).map_err(|error| error.found_in(name))?;
        }
        for setting in SETTINGS {
            if let Some(value) = variable(&setting.variable()) {
                let place = format!("variable {}", setting.variable());
                settings.set(setting.name, &value).map_err(|error| error.found_in(&place))?;
            }
        }
        for (name, value) in flags {
            settings.set(name, value).map_err(|error| error.found_in("command line"))?;
        }
        settings.check_together()?;
        Ok(settings)
    }

    /// Sets one value by name, from text.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let setting = table::find(name)?;
        (setting.set)(self, value.trim())
            .map_err(|Refused| SettingError::value(setting.name, value, setting.allowed))
    }

    /// Every setting with its value, one per line, as a settings file would say it.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        for setting in SETTINGS {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} = {}", setting.name, (setting.get)(self));
        }
        for router in &self.routers {
            let _ = writeln!(text, "\n{}", router.as_toml());
        }
        text
    }

    /// Settings that differ from those the process was started with and that only a start takes
    /// in: name, value at the start, value now.
    pub fn waiting_for_a_start(&self, started: &Settings) -> Vec<(&'static str, String, String)> {
        let of_process = SETTINGS.iter().filter(|setting| setting.group == Group::Process);
        let values =
            of_process.map(|setting| (setting.name, (setting.get)(started), (setting.get)(self)));
        values.filter(|(_, before, now)| before != now).collect()
    }

    /// How many shards to start: the number set, or one per CPU.
    pub fn shard_count(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX),
            count => count,
        }
    }

    /// Puts a quarter of the memory that this process may use in the place of a budget that is not
    /// set. Reads what the kernel says of the host and of the control group. Returns what could not
    /// be read of it, if the budget was chosen without it.
    pub fn resolve_memory(&mut self) -> Option<UnknownMemory> {
        if self.memory_bytes != 0 {
            return None;
        }
        let Available { bytes, unread } = tuning::memory::available();
        self.memory_bytes = budget_of(bytes, !unread.is_empty());
        (!unread.is_empty()).then_some(UnknownMemory { unread, memory_bytes: self.memory_bytes })
    }

    /// Relations between values that no single range can say.
    fn check_together(&self) -> Result<(), SettingError> {
        if self.http == Some(self.listen) && self.listen.port() != 0 {
            return Err(SettingError::value(
                "http",
                &self.listen.to_string(),
                "an address and port other than listen's",
            ));
        }
        Ok(())
    }
}

/// The budget where none is set, of what the process may use as far as that is known.
fn budget_of(available_bytes: Option<u64>, may_be_less: bool) -> u64 {
    let quarter = available_bytes.map_or(MEMORY_BYTES_UNKNOWN, |bytes| bytes / MEMORY_PARTS);
    let most = if may_be_less { MEMORY_BYTES_UNKNOWN } else { u64::MAX };
    quarter.min(most).max(MEMORY_BYTES_MIN)
}

/// A budget that was chosen without knowing how much memory there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "how much memory this process may use cannot be told: {} cannot be read here; it takes {} MiB, \
     give --memory to say how much it may",
    unread.join(", "),
    memory_bytes >> 20
)]
pub struct UnknownMemory {
    /// What could not be read.
    pub unread: Vec<String>,
    /// The budget.
    pub memory_bytes: u64,
}

/// How sockets are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where the kernel permits it, epoll otherwise.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

impl IoChoice {
    /// Every choice.
    pub const ALL: [IoChoice; 3] = [IoChoice::Auto, IoChoice::Uring, IoChoice::Epoll];

    /// The word on the command line and in every output.
    pub const fn name(self) -> &'static str {
        match self {
            IoChoice::Auto => "auto",
            IoChoice::Uring => "uring",
            IoChoice::Epoll => "epoll",
        }
    }
}

/// How log lines are written to the standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of words, for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];

    /// The word in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// A setting that cannot stand. Always the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A name that no setting has.
    #[error("setting `{name}` does not exist{}", suggestion(.nearest))]
    Unknown {
        /// What was written.
        name: String,
        /// The most alike that does exist.
        nearest: Option<&'static str>,
    },
    /// A value that is unreadable or outside its range.
    #[error("setting `{name}` is `{value}`: allowed is {allowed}")]
    Value {
        /// Which setting.
        name: String,
        /// What was written.
        value: String,
        /// What may be written.
        allowed: String,
    },
    /// A file that is no TOML.
    #[error("line {line}, `{text}`: {message}; texts stand in quotes")]
    File {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// What the TOML reader says.
        message: String,
    },
    /// One of these, and where it was found.
    #[error("{place}: {error}")]
    Found {
        /// The settings file, the variable or the command line.
        place: String,
        /// What is wrong there.
        error: Box<SettingError>,
    },
}

impl SettingError {
    fn found_in(self, place: &str) -> SettingError {
        SettingError::Found { place: place.to_owned(), error: Box::new(self) }
    }

    pub(crate) fn value(name: &str, value: &str, allowed: &str) -> SettingError {
        SettingError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        }
    }
}

/// A setter's refusal; the table knows what is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Refused;

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; is `{name}` meant?"))
}

/// A list as TOML writes it.
pub(crate) fn toml_list<T: std::fmt::Display>(values: &[T]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Of how many parts of the memory the budget is one, when it is not set: the kernel needs as much
/// again for its receive queues, and the page cache of the log has the rest.
const MEMORY_PARTS: u64 = 4;
/// The most that is taken unasked where the kernel does not say how much memory there is, or how
/// little of it the process may use.
const MEMORY_BYTES_UNKNOWN: u64 = 512 << 20;
/// The least budget that may be set.
pub(crate) const MEMORY_BYTES_MIN: u64 = 32 << 20;
/// Before the name of every variable that is a setting.
pub const VARIABLE_PREFIX: &str = "STORMDRAIN_";
/// The pin program takes the source's hash modulo this many listeners at most.
pub const SHARDS_MAX: usize = 256;

#[cfg(test)]
mod tests;
