//! The command line: what may be asked, and how an answer becomes an exit code.
//!
//! In:   arguments, the time that counts as now, a place to write to.
//! Out:  text, and 0 done, 1 the answer is "no", 2 usage or setting wrong, 3 input or disk failed,
//!       4 the answer lacks rows of the log.
//! Law:  every message about a wrong word names the right ones.
//! Not:  the answers themselves (`query`), or running the collector (`main`).

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use storage::history::walk::Follow;
use storage::mapping::Label;
use storage::time::Micros;

use crate::query::{
    self, Answer, Answered, Entries, Format, Instant, QueryError, Range, Selector, parse_when,
};
use crate::watch::{Burst, Outcome};

mod doctor;
mod send;

pub use doctor::{DoctorArguments, doctor};
pub use send::{SendArguments, send};

use crate::top::TopArguments;

/// The collector of MPLS label mappings that stays calm when the network reconverges.
#[derive(Debug, Parser)]
#[command(name = "stormdrain", version, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  stormdrain run --data /var/lib/stormdrain --listen 0.0.0.0:30310
  stormdrain send docs/examples/ecmp-r1.xml
  stormdrain routers --data /var/lib/stormdrain
  stormdrain table --data /var/lib/stormdrain --router pe1 --at -15m
  stormdrain trace --data /var/lib/stormdrain --router pe1 --fec ip:10.0.0.3/32
  stormdrain history --data /var/lib/stormdrain --router pe1 --label 24 --since -2h
  stormdrain bursts --data /var/lib/stormdrain --since -24h
  stormdrain verify --data /var/lib/stormdrain
  stormdrain doctor --routers 5000
  stormdrain top

Times are RFC 3339, seconds since 1970, now, or -15m (units us ms s m h d w). A router is its id or its name.
A FEC is ip:10.0.0.3/32[,table][,from=prefix][,tos=number], vrf:192.0.2.3,65000:2[,prefix],
vrf-name:red[,prefix], vsi:192.0.2.3,17, ac:192.0.2.3,17, name:rsvp,to-pe3 (or sr-prefix,
sr-adjacency, mldp, te-binding, other), interface:xe-0/0/1.100, unknown; or label:24[,table] for
what comes in with that label, in the platform's label table or in another one of the router.
A data folder may be read while a collector writes to it.

Exit codes: 0 done, 1 the answer is \"no\" (fault found, verdict bad), 2 usage or setting wrong,
3 input or disk failed, 4 the answer is printed, and rows of the log are missing from it.";

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Collect: listen for routers and write the log, until SIGTERM.
    #[command(after_help = "\
SIGTERM and SIGINT digest and commit what was read, then end; SIGHUP re-reads allow,
[[router]] and the token.
Every setting is in docs/settings.md; STORMDRAIN_NAME in the environment sets any of them.

Example: stormdrain run --config /etc/stormdrain.toml --shards 4")]
    Run(RunArguments),
    /// Send label mappings from files to a collector, and say what became of each.
    #[command(after_help = "\
Every file is read before anything is sent: one that cannot be read to its end sends nothing. A
mapping that is refused is named with its place, its FEC and label, the cause, expected and found.
Exit code 0 when everything is acknowledged, 1 when something was refused, 2 usage, 3 when a file
cannot be read or no collector answers.

Example: stormdrain send table.xml.gz --target 192.0.2.10:30310")]
    Send(SendArguments),
    /// Who is connected, since when, in which generation; who is in a gap, and why.
    #[command(after_help = "\
answer: known; in-part, where some entries, or those that are not listed, cannot be vouched for; or
unknown. clock_skew_us: how far the router's clock is ahead, at least (behind, at most).

Example: stormdrain routers --data D --at 2026-11-22T04:00:00Z")]
    Routers {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// The instant.
        #[command(flatten)]
        at: At,
    },
    /// A router's label table as it was at an instant; `--router all` for every router's.
    #[command(after_help = "\
An entry that the collector cannot vouch for answers `unknown` and says why. A row without operation
is a key of which nobody can say whether it is there; without a key, every entry not listed.

Example: stormdrain table --data D --router pe1 --at -15m --format csv")]
    Table {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// Id or name of the router, or all.
        #[arg(long, value_name = "R")]
        router: String,
        /// The instant.
        #[command(flatten)]
        at: At,
    },
    /// Every change and session event of a router, in the order in which they count.
    #[command(after_help = "\
Example: stormdrain history --data D --router pe1 --fec ip:10.0.0.3/32 --since -2h")]
    History {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// Id or name of the router.
        #[arg(long, value_name = "R")]
        router: String,
        /// Only entries with this ingress label; 24,7 = in label table 7 (0 = the platform's); -1 =
        /// those for packets without label.
        #[arg(long, value_name = "L", conflicts_with = "fec", value_parser = parse_ingress,
              allow_hyphen_values = true)]
        label: Option<Entries>,
        /// Only entries for this FEC (or label:24[,table]).
        #[arg(long, value_name = "F", value_parser = parse_selector)]
        fec: Option<Selector>,
        /// The interval.
        #[command(flatten)]
        range: Between,
    },
    /// The way of a label switched path, hop by hop, as a tree with the verdict at each leaf.
    #[command(after_help = "\
Verdicts: delivered, misdelivered (leaves for another FEC), unlabelled (goes on as IP), discarded
(an entry drops it, on purpose), broken (lost), unknown (docs/OPERATING.md has every cause).
Exit code 1 unless every branch is delivered.

Example: stormdrain trace --data D --router pe1 --fec vrf:192.0.2.3,65000:2 --at -15m")]
    Trace {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// Id or name of the router where the path begins.
        #[arg(long, value_name = "R")]
        router: String,
        /// FEC that the packet is for, or label:24[,table] for one that comes in with that label.
        #[arg(long, value_name = "F", value_parser = parse_selector)]
        fec: Selector,
        /// Follow backup branches too, as if their primaries had failed.
        #[arg(long)]
        with_backups: bool,
        /// The instant.
        #[command(flatten)]
        at: At,
    },
    /// What differs between two instants.
    #[command(after_help = "\
Where either side is unknown, the row says so instead.

Example: stormdrain diff --data D --at -25m --and now --router pe1")]
    Diff {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// The first instant.
        #[arg(long, value_name = "T", allow_hyphen_values = true)]
        at: String,
        /// The second instant.
        #[arg(long, value_name = "T", allow_hyphen_values = true)]
        and: String,
        /// Id or name of one router [default: all].
        #[arg(long, value_name = "R")]
        router: Option<String>,
    },
    /// The books: bytes read, framed, rejected; mappings; rows. They must balance to zero.
    #[command(after_help = "\
Exit code 1 when something is unaccounted for.

Example: stormdrain ledger --data D --since -24h --by hour")]
    Ledger {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// The interval.
        #[command(flatten)]
        range: Between,
        /// One line per what.
        #[arg(long, value_enum, default_value_t)]
        by: query::LedgerBy,
    },
    /// Bursts: when mappings came in heaps, how fast, what it did to the host, and where.
    #[command(after_help = "\
A verdict is clean, unknown (nothing is known to have hurt, and not all that could have can be
read), squeezed (routers waited; nothing was lost) or lost (sessions broke or entries were refused:
there are gaps), with the layer that was tight: nic, softnet, socket, drain, digest or disk.
Exit code 1 when a burst was lost.

Example: stormdrain bursts --data D --since -24h")]
    Bursts {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// The interval.
        #[command(flatten)]
        range: Between,
    },
    /// The burst microscope: what came every few milliseconds, and what the kernel said then.
    #[command(after_help = "\
changes are counted when their bytes were read; mappings and bytes when they were committed;
received_bytes, digested and surge_bytes as they were seen while a burst ran. Bins in which nothing
happened are left out.

Example: stormdrain bins --data D --since -15m --until -14m --every 10ms")]
    Bins {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
        /// The interval.
        #[command(flatten)]
        range: Between,
        /// Width of a bin.
        #[arg(long, value_name = "LENGTH", default_value = "10ms")]
        every: String,
    },
    /// Re-derives every checksum, count and order of the log. Exit code 1 on any fault.
    #[command(after_help = "Example: stormdrain verify --data D --format json")]
    Verify {
        /// Where to read, and how to write.
        #[command(flatten)]
        place: Place,
    },
    /// This host's limits: what bites first, and the exact command that mends it.
    #[command(after_help = "\
Nothing is changed: --fix-script prints what would mend it, for review. The data folder's disk is
timed for two seconds at most. Exit code 1 unless the fleet is known to fit: what cannot be read of
the host may be what it does not fit.

Examples:
  stormdrain doctor --config /etc/stormdrain.toml
  stormdrain doctor --routers 5000 --mappings 10000 --fix-script > mend.sh")]
    Doctor(DoctorArguments),
    /// A running collector, live on the terminal: state, rates, memory, routers, bursts.
    #[command(after_help = "\
Keys: q ends, tab and 1 to 3 change the part, arrows move and sort, ? tells the rest.
With --once, or where the output is no terminal, one page of text; its exit code is 1 while the
collector is squeezed, has just lost something, or is not well.

Example: stormdrain top --http 127.0.0.1:30311")]
    Top(TopArguments),
}

/// Where to read, and how to write.
#[derive(Debug, Args)]
pub struct Place {
    /// The data folder.
    #[arg(long, value_name = "DIR", env = "STORMDRAIN_DATA")]
    data: PathBuf,
    /// How the answer is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// An instant.
#[derive(Debug, Args)]
pub struct At {
    /// The instant that is asked about.
    #[arg(long, value_name = "T", default_value = "now", allow_hyphen_values = true)]
    at: String,
}

/// An interval.
#[derive(Debug, Args)]
pub struct Between {
    /// From this instant on [default: the beginning].
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    since: Option<String>,
    /// Up to this instant [default: the end].
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    until: Option<String>,
}

impl Between {
    fn range(&self, now: Micros) -> Result<Range, QueryError> {
        let read = |text: &Option<String>, open: Micros| {
            text.as_deref().map_or(Ok(open), |text| parse_when(text, now))
        };
        let since = read(&self.since, Micros::MIN)?;
        let until = read(&self.until, Micros::MAX)?;
        if until < since {
            return Err(QueryError::Interval { since, until });
        }
        Ok(Range { since, until })
    }
}

/// Flags of `stormdrain run`; each is a setting of the same meaning.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Settings file (TOML, docs/settings.md).
    #[arg(long, value_name = "F", env = "STORMDRAIN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data folder; made if it is missing [default: stormdrain-data].
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address and port that routers connect to [default: 127.0.0.1:30310].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address and port of /metrics and /healthz, or off [default: 127.0.0.1:30311].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Shards; 0 = one per CPU [default: 0].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shards: Option<String>,
    /// How sockets are driven: auto, uring or epoll [default: auto].
    #[arg(long, value_name = "IO")]
    io: Option<String>,
    /// What the process may take, such as 4GiB; 0 = a quarter of the host's memory [default: 0].
    #[arg(long, value_name = "BYTES")]
    memory: Option<String>,
}

impl RunArguments {
    /// The flags that were given, by the names of their settings.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("data", &self.data),
            ("listen", &self.listen),
            ("http", &self.http),
            ("shards", &self.shards),
            ("io", &self.io),
            ("memory_bytes", &self.memory),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        given.collect()
    }
}

/// The ingress label of an entry, as tables show it, and the label table.
fn parse_ingress(text: &str) -> Result<Entries, String> {
    if text == "-1" {
        return Ok(Entries::Unlabelled);
    }
    let expected = || {
        format!(
            "expected a label, 0 to {}, with a label table such as 24,7, or -1 for none",
            Label::MAX
        )
    };
    format!("label:{text}").parse().map(Entries::Of).map_err(|_| expected())
}

fn parse_selector(text: &str) -> Result<Selector, String> {
    text.parse().map_err(|error: query::SelectorError| error.to_string())
}

/// The exit code for "done".
pub const EXIT_DONE: u8 = 0;
/// The exit code for "the answer is no".
pub const EXIT_NO: u8 = 1;
/// The exit code for "usage or setting wrong".
pub const EXIT_USAGE: u8 = 2;
/// The exit code for "input or disk failed".
pub const EXIT_FAILED: u8 = 3;
/// The exit code for "here is the answer, and rows of the log are missing from it", whatever it
/// says otherwise.
pub const EXIT_LACKING: u8 = 4;

/// Reads a command line. Errors: the text to show and the exit code (0 for `--help`).
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    CommandLine::try_parse_from(arguments).map(|line| line.command).map_err(name_commands)
}

/// A command that is like none gets the list of those that there are.
fn name_commands(error: clap::Error) -> clap::Error {
    let suggested = error.get(ContextKind::SuggestedSubcommand).is_some();
    if error.kind() != ErrorKind::InvalidSubcommand || suggested {
        return error;
    }
    let mut program = CommandLine::command();
    let names: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
    let wrong = error.get(ContextKind::InvalidSubcommand);
    let wrong = wrong.map_or_else(String::new, ToString::to_string);
    let message = format!("there is no command `{wrong}`: write one of {}", names.join(", "));
    program.error(ErrorKind::InvalidSubcommand, message)
}

/// Answers a command other than `run`. Returns the exit code.
///
/// The answer goes to `output`; warnings, and the reason of a failure, to `notes`.
pub fn answer(command: &Command, now: Micros, output: &mut dyn Write, notes: &mut dyn Write) -> u8 {
    let Said { text, code, warnings } = match answer_text(command, now) {
        Ok(said) => said,
        Err(error) => {
            // Nothing can be done about a standard error that is closed.
            let _ = writeln!(notes, "stormdrain: {error}");
            return error.exit_code();
        }
    };
    for warning in warnings {
        let _ = writeln!(notes, "stormdrain: {warning}");
    }
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => code,
        // `stormdrain table | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => code,
        Err(error) => {
            let _ = writeln!(notes, "stormdrain: cannot write the answer: {error}");
            EXIT_FAILED
        }
    }
}

/// What is said to a question.
struct Said {
    text: String,
    code: u8,
    /// What stands in the way of a whole answer.
    warnings: Vec<String>,
}

impl Said {
    /// An answer as text, with its exit code if no row is missing from it.
    fn of<T>(answered: Answered<T>, text: String, code: u8) -> Said {
        let code = if answered.rows_missing.is_empty() { code } else { EXIT_LACKING };
        Said { text, code, warnings: answered.warnings }
    }
}

fn answer_text(command: &Command, now: Micros) -> Result<Said, QueryError> {
    match command {
        // `main` runs the collector, reads its settings for the doctor, and knows the terminal and
        // the standard input; asked here, there is nothing to answer.
        Command::Run(_) | Command::Doctor(_) | Command::Top(_) | Command::Send(_) => {
            Ok(Said { text: String::new(), code: EXIT_USAGE, warnings: Vec::new() })
        }
        Command::Routers { place, at } => routers(place, Instant::read(&at.at, now)?),
        Command::Table { place, router, at } => table(place, router, Instant::read(&at.at, now)?),
        Command::History { place, router, label, fec, range } => {
            let entries = label.unwrap_or_else(|| (*fec).into());
            history(place, router, entries, range.range(now)?)
        }
        Command::Trace { place, router, fec, with_backups, at } => {
            let follow = if *with_backups { Follow::WithBackups } else { Follow::Primaries };
            trace(place, router, *fec, follow, Instant::read(&at.at, now)?)
        }
        Command::Diff { place, at, and, router } => {
            let (first, second) = (Instant::read(at, now)?, Instant::read(and, now)?);
            difference(place, first, second, router.as_deref())
        }
        Command::Ledger { place, range, by } => ledger(place, range.range(now)?, *by),
        Command::Bursts { place, range } => bursts(place, range.range(now)?),
        Command::Bins { place, range, every } => bins(place, range.range(now)?, every),
        Command::Verify { place } => verify(place),
    }
}

fn routers(place: &Place, at: Instant) -> Result<Said, QueryError> {
    let network = query::network(&place.data, at, None)?;
    let sheet = query::routers_sheet(&query::router_rows(&network.value));
    Ok(said(sheet, place, network))
}

fn table(place: &Place, router: &str, at: Instant) -> Result<Said, QueryError> {
    let only = match router {
        "all" => None,
        name => Some(query::find_router(&place.data, name)?),
    };
    let mut network = query::network(&place.data, at, only)?;
    for row in query::router_rows(&network.value) {
        if let Some(unknown) = unknown_text(&row.answer) {
            network.warnings.push(format!("router {} is {unknown}", row.router));
        }
    }
    Ok(said(query::table_sheet(&network.value, only), place, network))
}

/// A sheet as the answer.
fn said<T>(sheet: query::Sheet, place: &Place, answered: Answered<T>) -> Said {
    let text = sheet.lacking(&answered.rows_missing).render(place.format);
    Said::of(answered, text, EXIT_DONE)
}

fn unknown_text(answer: &Answer) -> Option<String> {
    let (cause, since) = answer.doubt()?;
    let what = match answer {
        Answer::InPart { .. } => "known in part, the rest is unknown",
        Answer::Known | Answer::Unknown { .. } => "unknown",
    };
    let since = since.map_or(String::new(), |since| format!(" since {since}"));
    Some(format!("{what}{since}: {cause}"))
}

fn history(
    place: &Place,
    router: &str,
    entries: Entries,
    range: Range,
) -> Result<Said, QueryError> {
    let router = query::find_router(&place.data, router)?;
    let rows = query::history(&place.data, router, entries, range)?;
    Ok(said(query::history_sheet(&rows.value), place, rows))
}

fn trace(
    place: &Place,
    router: &str,
    selector: Selector,
    follow: Follow,
    at: Instant,
) -> Result<Said, QueryError> {
    let traced = query::trace(&place.data, router, selector, follow, at, None)?;
    let code = if traced.value.verdict.is_delivered() { EXIT_DONE } else { EXIT_NO };
    let text = query::render_traced(&traced, place.format);
    Ok(Said::of(traced, text, code))
}

fn difference(
    place: &Place,
    first: Instant,
    second: Instant,
    router: Option<&str>,
) -> Result<Said, QueryError> {
    let only = router.map(|name| query::find_router(&place.data, name)).transpose()?;
    let rows = query::difference(&place.data, first, second, only)?;
    Ok(said(query::difference_sheet(&rows.value), place, rows))
}

fn ledger(place: &Place, range: Range, by: query::LedgerBy) -> Result<Said, QueryError> {
    let mut books = query::ledger(&place.data, range, by)?;
    let code = if books.value.imbalances.is_empty() { EXIT_DONE } else { EXIT_NO };
    let text = books.value.render(place.format, &books.rows_missing);
    books.warnings.append(&mut books.value.imbalances);
    Ok(Said::of(books, text, code))
}

fn bursts(place: &Place, range: Range) -> Result<Said, QueryError> {
    let bursts = query::bursts(&place.data, range)?;
    let lost = |burst: &Burst| {
        burst.head.verdict.as_ref().is_some_and(|verdict| verdict.outcome == Outcome::Lost)
    };
    let code = if bursts.value.iter().any(lost) { EXIT_NO } else { EXIT_DONE };
    let sheet = query::bursts_sheet(&bursts.value).lacking(&bursts.rows_missing);
    Ok(Said::of(bursts, sheet.render(place.format), code))
}

fn bins(place: &Place, range: Range, every: &str) -> Result<Said, QueryError> {
    let width_us = query::parse_length_us(every).filter(|width_us| *width_us > 0);
    let width_us = width_us.ok_or_else(|| QueryError::Width { text: every.to_owned() })?;
    let bins = query::bins(&place.data, range, width_us)?;
    Ok(said(query::bins_sheet(&bins.value), place, bins))
}

fn verify(place: &Place) -> Result<Said, QueryError> {
    let report = query::verify(&place.data)?;
    let code = if report.faults_count == 0 { EXIT_DONE } else { EXIT_NO };
    let text = query::render_verify(&report, place.format);
    Ok(Said { text, code, warnings: Vec::new() })
}

impl QueryError {
    fn exit_code(&self) -> u8 {
        if self.is_usage() { EXIT_USAGE } else { EXIT_FAILED }
    }
}

#[cfg(test)]
mod tests;
