//! The commands of `stormgen`: demo, run, replay.
//!
//! In:   parsed arguments.
//! Out:  reports on standard output, progress on standard error; whether the answer is "yes".
//! Law:  every error says which exit code it is.
//! Not:  acts, verdicts and recordings themselves (`stage`, `verdict`, `replay`).

mod capacity;
mod plan;
mod processes;

use std::io::{BufRead, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::io::sockets::raise_descriptor_limit;
use engine::query::{QueryError, folder};
use engine::settings::{IoChoice, Settings};
use serde::Serialize;
use tuning::counters::Counters;
use tuning::host::description;

use crate::capacity::rig::RigError;
use crate::crew::troupe::perform_together;
use crate::crew::{self, CrewError};
use crate::demo::{DemoError, DemoSettings, IPV6_SOURCE_BASE, demonstrate_by};
use crate::faults::{Asked, Fault};
use crate::map::{Map, MapError};
use crate::model::{Graph, Model};
use crate::page;
use crate::record::{ActRecord, Recorder};
use crate::replay::{Recording, ReplayError, ReplaySettings, read_phases, replay};
use crate::report::{KernelReport, Report};
use crate::scenario::Scenario;
use crate::sender::SendError;
use crate::services::Services;
use crate::show::Show;
use crate::stage::{Look, StageError, StageSettings, perform};
use crate::verdict::{Depth, Verdict, Verify, await_books};
use capacity::CapacityArguments;
use plan::PlanArguments;
use processes::ProcessArguments;

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

/// Most mappings of a network whose provider edges nobody has counted: two per router and edge.
const MAPPINGS_DEFAULT: usize = 20_000_000;

/// What is told of a run, and where.
#[derive(Debug, Args)]
struct Told {
    /// Write a page (report.html) and its data (report.json) into this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
struct ShapeArguments {
    /// Routers of the network.
    #[arg(long, default_value_t = 2_000)]
    routers: usize,
    /// Provider edges among them: each one's loopback is a FEC. Default: 13 in 100 routers, fewer
    /// where all tables together would hold more than 20 million mappings.
    #[arg(long)]
    pe: Option<usize>,
    /// A map of a real network instead, GML or GraphML: each place is a core router.
    #[arg(long, visible_alias = "network", value_name = "FILE", conflicts_with_all = ["routers", "pe"])]
    topology: Option<PathBuf>,
    /// Provider edges behind each place of the map.
    #[arg(long, default_value_t = 2, value_name = "COUNT")]
    pe_per_pop: usize,
    /// Same seed, same network, same storm.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Addresses of IPv6 for routers and links, and sources of IPv6 for the sessions: on loopback
    /// fd53:7264::1 and up, which need a route (said where it is missing).
    #[arg(long)]
    ipv6: bool,
    /// What routers have labels for, of ldp, rsvp, sr, l3vpn, vpws and p2mp.
    #[arg(long, default_value = "ldp,l3vpn", value_name = "LIST")]
    services: Services,
    /// What happens: cold-start, link-down, node-down, srlg, flap, maintenance, collector-restart,
    /// trickle, vpn-churn, frr-failover, or a file of steps that ends in .toml
    /// (docs/examples/scenario.toml, docs/examples/trace.toml).
    #[arg(long, default_value = "link-down", value_parser = Scenario::read)]
    scenario: Scenario,
    /// What goes wrong on purpose. With one router in eight each: reset, torn, half-open, slow,
    /// bomb; `torn@changes` or `torn@snapshot` says when. With all: clock-skew, clock-step,
    /// label-reuse, duplicate.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    faults: Vec<Asked>,
    /// Routers that connect per second in the cold start; 0 = all at once.
    #[arg(long, default_value_t = 500, value_name = "ROUTERS_PER_SECOND")]
    rate: u32,
    /// How many times as fast as they are quiet times pass: 1 = `trickle` takes its real week.
    /// Default: in ten seconds, or as long as a script says.
    #[arg(long, value_name = "TIMES")]
    speed: Option<f64>,
    /// How much of the answers is compared.
    #[arg(long, value_enum, default_value_t = Depth::Sampled)]
    verify: Depth,
    /// How many (router, instant) pairs are drawn, over the whole run and inside gaps.
    #[arg(long, default_value_t = 200, value_name = "PAIRS")]
    verify_sample: usize,
}

impl ShapeArguments {
    fn verify(&self) -> Verify {
        Verify { depth: self.verify, sample: self.verify_sample, seed: self.seed }
    }

    /// The first source of IPv6, if that is wanted and the collector is on this host.
    fn ipv6_source(&self, target: SocketAddr) -> Option<IpAddr> {
        (self.ipv6 && target.ip().is_loopback()).then_some(IPV6_SOURCE_BASE.into())
    }

    /// 2,000 routers with 260 provider edges hold a million mappings: two per router and FEC.
    fn model(&self) -> Result<Model, CommandError> {
        let faults = self.faults.clone();
        let scenario = match self.speed {
            None => self.scenario.clone(),
            Some(speed) if speed.is_finite() && speed > 0.0 => self.scenario.at_speed(speed),
            Some(found) => {
                let (name, expected) = ("--speed", "a number above 0");
                return Err(CommandError::Number { name, expected, found });
            }
        };
        if let Some(path) = &self.topology {
            let map = Map::read(path)?;
            for note in &map.notes {
                eprintln!("map {}: {note}", path.display());
            }
            let graph = Graph::Mapped { map: Arc::new(map), edges_per_place: self.pe_per_pop };
            let (services, ipv6, seed) = (self.services, self.ipv6, self.seed);
            return Ok(Model { graph, services, scenario, faults, ipv6, seed });
        }
        let modest = || (self.routers * 13 / 100).min(MAPPINGS_DEFAULT / 2 / self.routers.max(1));
        let edges = self.pe.unwrap_or_else(|| modest().max(2));
        let graph = Graph::Generated { routers: self.routers, edges };
        let (services, ipv6, seed) = (self.services, self.ipv6, self.seed);
        Ok(Model { graph, services, scenario, faults, ipv6, seed })
    }
}

/// How many routers a model has.
fn routers(model: &Model) -> Result<usize, CommandError> {
    let topology = model.topology().map_err(|error| StageError::World(error.into()))?;
    Ok(topology.routers.len())
}

#[derive(Debug, Args)]
struct DemoArguments {
    #[command(flatten)]
    shape: ShapeArguments,
    /// Shards of the collector; 0 = one per CPU.
    #[arg(long, default_value_t = 0)]
    shards: usize,
    /// How the collector drives its sockets: auto, uring or epoll.
    #[arg(long, default_value = "auto", value_parser = io_choice)]
    io: IoChoice,
    #[command(flatten)]
    processes: ProcessArguments,
    /// Keep the collector's data in this folder instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    told: Told,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The collector.
    #[arg(long, value_name = "ADDR")]
    target: SocketAddr,
    #[command(flatten)]
    shape: ShapeArguments,
    /// Source address of the first router, the others count on from it. Default: 127.16.0.1 for
    /// a target on loopback, otherwise whatever this host chooses.
    #[arg(long, value_name = "IP")]
    source_base: Option<IpAddr>,
    /// Sender threads of each process.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    processes: ProcessArguments,
    /// Seconds that one act may take.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// The collector's data folder, when it is on this host and was empty: every answer is
    /// compared.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A second collector that every router tells the same: the fault `duplicate`.
    #[arg(long, value_name = "ADDR")]
    second_target: Option<SocketAddr>,
    /// The second collector's data folder: its answers are compared too, and both with each other.
    #[arg(long, value_name = "DIR", requires_all = ["second_target", "data"])]
    second_data: Option<PathBuf>,
    /// Process that belongs to the run (the collector, when it is on this host): its CPU is not
    /// counted as that of others. May be given several times.
    #[arg(long, value_name = "PID")]
    beside: Vec<u32>,
    #[command(flatten)]
    told: Told,
}

impl RunArguments {
    fn settings(&self) -> Result<StageSettings, CommandError> {
        Ok(StageSettings {
            target: self.target,
            model: self.shape.model()?,
            routers_per_second: self.shape.rate,
            source_base: source_base(
                self.source_base.or(self.shape.ipv6_source(self.target)),
                self.target,
                [127, 16, 0, 1],
            ),
            threads: self.threads,
            act_timeout: Duration::from_secs(self.timeout),
            second_target: self.second_target,
        })
    }
}

impl DemoArguments {
    fn settings(&self, data: PathBuf) -> Result<DemoSettings, CommandError> {
        let mut collector = Settings { shards: self.shards, io: self.io, ..Settings::default() };
        let model = self.shape.model()?;
        collector.shards = processes::shards(self.shards, routers(&model)?);
        let routers_per_second = self.shape.rate;
        let verify = self.shape.verify();
        Ok(DemoSettings { model, routers_per_second, collector, data, verify })
    }
}

#[derive(Debug, Args)]
struct ReplayArguments {
    /// Recorded bytes; times are taken from the file of the same name ending in .idx, if any.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The collector.
    #[arg(long, value_name = "ADDR")]
    target: SocketAddr,
    /// At once, not at the recorded pace.
    #[arg(long)]
    fast: bool,
    /// Lines `name seconds`: before each phase but the first, wait for a line on standard input.
    #[arg(long, value_name = "FILE")]
    pause_at: Option<PathBuf>,
    /// Seconds that each connection stays open behind its last byte. A router that has gone is
    /// unknown, and the end of an FPM dump shows by 2 s of silence (snapshot_quiet_ms).
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    hold: u32,
    /// Source address of the first file, the others count on from it. Default: 127.0.1.1 for a
    /// target on loopback, otherwise whatever this host chooses.
    #[arg(long, value_name = "IP")]
    source_base: Option<IpAddr>,
    #[command(flatten)]
    told: Told,
}

fn io_choice(text: &str) -> Result<IoChoice, String> {
    let choice = IoChoice::ALL.into_iter().find(|choice| choice.name() == text);
    choice.ok_or_else(|| "expected auto, uring or epoll".to_owned())
}

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
            StageError::Send(_) | StageError::Crew(_) | StageError::TimeUp { .. } => 3,
        };
        match self {
            CommandError::Stage(error) | CommandError::Demo(DemoError::Stage(error)) => {
                stage(error)
            }
            CommandError::Demo(DemoError::Start(error)) if error.is_setting() => 2,
            CommandError::Number { .. } | CommandError::Costs { .. } => 2,
            CommandError::SecondTarget => 2,
            CommandError::Crew(CrewError::Role(_)) => 2,
            CommandError::Query(error) if error.is_usage() => 2,
            CommandError::Replay(ReplayError::Sources { .. } | ReplayError::Line { .. }) => 2,
            _ => 3,
        }
    }
}

/// Runs the command. `false` = it came to an answer, and the answer is "no".
pub fn run(arguments: Arguments) -> Result<bool, CommandError> {
    raise_descriptor_limit().map_err(host("the limit of open descriptors"))?;
    match arguments.command {
        Command::Demo(arguments) => demo(&arguments),
        Command::Run(arguments) => perform_elsewhere(&arguments),
        Command::Replay(arguments) => replay_files(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Capacity(arguments) => capacity::capacity(&arguments),
        Command::Crew { role } => {
            crew::play(&role, &processes::settings)?;
            Ok(true)
        }
    }
}

fn host(what: &'static str) -> impl FnOnce(std::io::Error) -> CommandError {
    move |source| CommandError::Host { what, source }
}

fn demo(arguments: &DemoArguments) -> Result<bool, CommandError> {
    // Removed when it is dropped, whatever happens before.
    let temporary = match arguments.data {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(host("a temporary folder"))?),
    };
    let given = arguments.data.clone();
    let data = given.or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned()));
    let settings = arguments.settings(data.unwrap_or_default())?;
    // Both ends of every connection may be descriptors of this process.
    let routers = routers(&settings.model)?;
    let cast = arguments.processes.cast(routers, 2 * routers)?;
    let mut show = Show::new(arguments.told.quiet);
    let demonstration = demonstrate_by(&settings, cast.as_ref(), &mut |look| show.look(look))?;
    show.end();
    write_page(
        arguments.told.report.as_deref(),
        &settings.data,
        &demonstration.report,
        &demonstration.records,
    )?;
    match arguments.told.format {
        Format::Text => print(&demonstration.to_string())?,
        Format::Json => print(&json(&demonstration.report))?,
    }
    Ok(demonstration.report.is_good())
}

fn perform_elsewhere(arguments: &RunArguments) -> Result<bool, CommandError> {
    let settings = arguments.settings()?;
    if settings.model.has(Fault::Duplicate) && settings.second_target.is_none() {
        return Err(CommandError::SecondTarget);
    }
    settings.try_source()?;
    let routers = routers(&settings.model)?;
    let cast = arguments.processes.cast(routers, routers)?;
    for data in arguments.data.iter().chain(&arguments.second_data) {
        // Before minutes of load, not behind them.
        folder(data)?;
    }
    let counters = Counters::read();
    let mut show = Show::new(arguments.told.quiet);
    let mut recorder = Recorder::new(arguments.beside.clone(), None);
    let mut look = |look: &Look<'_>| {
        recorder.look(look);
        show.look(look);
    };
    let performance = match &cast {
        None => perform(&settings, &mut look)?,
        Some(cast) => perform_together(&settings, cast, &mut look)?,
    };
    let records = recorder.into_acts();
    let mut report = Report::new(settings.model.seed, &performance);
    report.judge(&records);
    report.note_elsewhere(&performance.world.plan);
    report.kernel = match (&counters, Counters::read()) {
        (Ok(before), Ok(after)) => Some(KernelReport::new(before, &after)),
        _ => None,
    };
    if let Some(data) = &arguments.data {
        let mut verdict = Verdict::default();
        let (key, instants) = (performance.world.key(), performance.instants());
        let verify = arguments.shape.verify();
        verify.ask(&mut verdict, &key, data, &instants, &mut |look| show.look(look))?;
        if let Some(second) = &arguments.second_data {
            let key = key.of_copy(1);
            verify.ask(&mut verdict, &key, second, &instants, &mut |look| show.look(look))?;
            verdict.check_copies(&key, [data, second])?;
        }
        report.verdict = Some(verdict);
    }
    // Sessions end first: a router that says bye leaves nothing in a buffer.
    let world = Arc::clone(&performance.world);
    performance.finish()?;
    if let Some(verdict) = &mut report.verdict {
        let folders = arguments.data.iter().chain(&arguments.second_data);
        for (copy, data) in folders.enumerate() {
            await_books(data)?;
            verdict.check_books(&world.key().of_copy(copy), data)?;
        }
    }
    show.end();
    let data = arguments.data.as_deref().unwrap_or(Path::new("."));
    write_page(arguments.told.report.as_deref(), data, &report, &records)?;
    match arguments.told.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print(&json(&report))?,
    }
    Ok(report.is_good())
}

/// Writes the page of a run, if one is wanted.
fn write_page(
    folder: Option<&Path>,
    data: &Path,
    report: &Report,
    records: &[ActRecord],
) -> Result<(), CommandError> {
    let Some(folder) = folder else { return Ok(()) };
    let html = page::run_page(report, records, &description(data));
    page::write(folder, &html, &WithRecords { report, acts: records }).map_err(host("--report"))?;
    Ok(())
}

/// What report.json holds.
#[derive(Serialize)]
struct WithRecords<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// The acts over time.
    acts: &'a [ActRecord],
}

fn replay_files(arguments: &ReplayArguments) -> Result<bool, CommandError> {
    let recordings: Result<Vec<Recording>, ReplayError> =
        arguments.files.iter().map(|path| Recording::read(path)).collect();
    let phases = match &arguments.pause_at {
        Some(path) => read_phases(path)?,
        None => Vec::new(),
    };
    let settings = ReplaySettings {
        target: arguments.target,
        source_base: source_base(arguments.source_base, arguments.target, [127, 0, 1, 1]),
        fast: arguments.fast,
        phases,
        hold: Duration::from_secs(arguments.hold.into()),
    };
    let mut show = Show::new(arguments.told.quiet);
    let watch = Box::new(move |done, all| {
        show.look(&Look { act: "replay", done, all, progress: None });
    });
    let replayed = replay(recordings?, settings, wait_for_line, watch)?;
    if let Some(folder) = &arguments.told.report {
        let target = arguments.target.to_string();
        let html = page::replay_page(&replayed, &target, &description(Path::new(".")));
        page::write(folder, &html, &replayed).map_err(host("--report"))?;
    }
    match arguments.told.format {
        Format::Text => print(&replayed.to_string())?,
        Format::Json => print(&json(&replayed))?,
    }
    Ok(true)
}

/// Routers on loopback have addresses of their own; elsewhere only addresses of this host work.
fn source_base(given: Option<IpAddr>, target: SocketAddr, base: [u8; 4]) -> Option<IpAddr> {
    let on_loopback = target.is_ipv4() && target.ip().is_loopback();
    given.or_else(|| on_loopback.then(|| base.into()))
}

/// The end of standard input counts as a line: a program that goes away holds nothing up.
fn wait_for_line(phase: &str) {
    eprintln!("phase {phase} is next: press Enter");
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

fn json(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).expect("a report has only text keys") + "\n"
}

/// A reader that goes away early (`head`) is no failure of the run.
fn print(text: &str) -> Result<(), CommandError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(host("standard output")(error))
        }
        _ => Ok(()),
    }
}
