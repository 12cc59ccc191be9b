//! `stormgen capacity`: what this host takes.
//!
//! In:   what is looked for, and what is too much.
//! Out:  the report, as text or as JSON; "no" when a limit was not found.
//! Law:  the run has a network namespace of its own where it can, with the host's own settings of
//!       the network: kernel counters are those of the run.
//! Not:  searches and runs (`capacity`).

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::thread::sched_getaffinity;
use tuning::host::DISTURBED_PERCENT;

use super::error::{CommandError, host};
use super::told::{Format, Told, print};
use crate::capacity::rig::{RigSettings, What};
use crate::capacity::{CapacitySettings, RUNS_SHOWN, measure};
use crate::corpus;
use crate::honesty::LATE_MS_MAX;
use crate::page;
use crate::sender::connect::try_source;
use crate::show::Show;
use crate::stage::{Look, StageError};

/// Settings of the network that a new namespace does not take over from the host.
const SYSCTLS: [&str; 9] = [
    "net/core/somaxconn",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_adv_win_scale",
    "net/ipv4/tcp_moderate_rcvbuf",
    "net/ipv4/tcp_abort_on_overflow",
    "net/ipv4/ip_local_port_range",
];
/// The rate is measured at so many connections, as far as they may be opened.
const SCALE_CONNECTIONS: [usize; 4] = [100, 1_000, 4_000, 16_000];

/// Which limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Burst,
    Rate,
    Connections,
}

#[derive(Debug, Args)]
pub(super) struct CapacityArguments {
    /// What is looked for; all three by default.
    #[arg(value_enum)]
    what: Vec<Which>,
    /// Routers that speak in bursts and at rates.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    routers: u32,
    /// Entries of each table.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    entries: u32,
    /// Mappings of a frame of changes.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    frame_mappings: u32,
    /// Over how many milliseconds a burst is spread.
    #[arg(long, default_value_t = 200, value_name = "MS")]
    burst_ms: u64,
    /// Seconds for which a rate is held, and over which routers connect.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    hold: f64,
    /// A router that nothing is taken from for so many milliseconds is a symptom.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    blocked_max: u64,
    /// Frames that are durable later than so many milliseconds (p99) are a symptom.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    p99_max: u64,
    /// A run whose sends are later than so many milliseconds (p99.9) is void.
    #[arg(long, default_value_t = LATE_MS_MAX, value_name = "MS")]
    late_max: f64,
    /// A run from which others took more of the CPUs is void.
    #[arg(long, default_value_t = DISTURBED_PERCENT, value_name = "PERCENT")]
    disturbed_max: f64,
    /// Most connections that are tried.
    #[arg(long, default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(10..))]
    connections_max: u32,
    /// Shards of the collector. Default: half of the CPUs; the speakers have the others.
    #[arg(long)]
    shards: Option<usize>,
    /// Measure no law of scalability, which takes a minute or two.
    #[arg(long)]
    no_scale: bool,
    /// Connections of IPv6, each from an address of its own.
    #[arg(long)]
    ipv6: bool,
    /// Use the host's network, where others move kernel counters too.
    #[arg(long)]
    host_network: bool,
    /// Settings of the namespace that this run is in already.
    #[arg(long, hide = true)]
    in_namespace: Option<String>,
    /// Where data folders are made: a folder on the file system that the collector will use.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    #[command(flatten)]
    told: Told,
}

pub(super) fn capacity(arguments: &CapacityArguments) -> Result<bool, CommandError> {
    match &arguments.in_namespace {
        Some(sysctls) => enter(sysctls)?,
        None if arguments.host_network => {}
        None => go_into_a_namespace()?,
    }
    if arguments.ipv6 {
        try_ipv6(arguments.in_namespace.is_some())?;
    }
    let settings = settings(arguments)?;
    arguments.told.make_folder()?;
    let mut show = Show::new(arguments.told.quiet);
    let mut watch = |act: &'static str, runs: u64| {
        let all = RUNS_SHOWN.max(runs + 1);
        show.look(&Look { act, done: runs, all, progress: None });
    };
    let report = measure(&settings, arguments.in_namespace.is_some(), &mut watch)?;
    show.end();
    if let Some(folder) = &arguments.told.report {
        page::write(folder, &page::capacity_page(&report), &report).map_err(host("--report"))?;
    }
    match arguments.told.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => {
            let text = serde_json::to_string_pretty(&report).expect("only text keys");
            print(&(text + "\n"))?;
        }
    }
    Ok(report.is_complete())
}

fn settings(arguments: &CapacityArguments) -> Result<CapacitySettings, CommandError> {
    let number = |name, found, expected| CommandError::Number { name, found, expected };
    if !(arguments.hold > 0.0 && arguments.hold <= 3_600.0) {
        return Err(number("--hold", arguments.hold, "more than 0, at most 3600"));
    }
    let cpus = cpus()?;
    let shards = arguments.shards.unwrap_or(cpus.len() / 2).max(1);
    // Where everybody has to share, nobody is kept anywhere.
    let (host_cpus, choir_cpus) =
        if shards < cpus.len() { cpus.split_at(shards) } else { (&[][..], &[][..]) };
    let all = [What::Burst, What::Rate, What::Connections];
    let chosen = |what: &Which| match what {
        Which::Burst => What::Burst,
        Which::Rate => What::Rate,
        Which::Connections => What::Connections,
    };
    let what = match arguments.what.as_slice() {
        [] => all.to_vec(),
        some => some.iter().map(chosen).collect(),
    };
    let powers = (0..10).map(|power| 1 << power).take_while(|shards| *shards <= cpus.len());
    let connections_max = arguments.connections_max as usize;
    let connections = SCALE_CONNECTIONS.into_iter().filter(|count| *count <= connections_max);
    let scale = !arguments.no_scale;
    Ok(CapacitySettings {
        rig: RigSettings {
            routers: arguments.routers as usize,
            entries: arguments.entries as usize,
            frame_mappings: arguments.frame_mappings.min(arguments.entries) as usize,
            burst: Duration::from_millis(arguments.burst_ms),
            hold: Duration::from_secs_f64(arguments.hold),
            shards,
            host_cpus: host_cpus.to_vec(),
            choir_cpus: choir_cpus.to_vec(),
            blocked_max: Duration::from_millis(arguments.blocked_max),
            p99_max: Duration::from_millis(arguments.p99_max),
            late_ms_max: arguments.late_max,
            disturbed_percent_max: arguments.disturbed_max,
            ipv6: arguments.ipv6,
            data: arguments.data.clone(),
        },
        what,
        connections_max,
        scale_shards: if scale { powers.collect() } else { vec![] },
        scale_connections: if scale { connections.collect() } else { vec![] },
    })
}

/// Makes the sources of the routers addresses of this namespace; on the host's network only looks
/// whether they are.
fn try_ipv6(in_namespace: bool) -> Result<(), CommandError> {
    let address = corpus::router_ipv6(0).0;
    if in_namespace {
        let network = format!("{address}/64");
        let route = ["-6", "route", "add", "local", &network, "dev", "lo"];
        // What comes of it is looked at next.
        let _ = Command::new("ip").args(route).status();
    }
    Ok(try_source(address).map_err(|source| StageError::no_source(address, source))?)
}

/// CPUs that this process may use.
fn cpus() -> Result<Vec<usize>, CommandError> {
    let set =
        sched_getaffinity(None).map_err(|error| host("CPUs of this process")(error.into()))?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Starts this program again in a network namespace of its own, if that can be; it does not come
/// back then. Otherwise says so, and the host's network is used.
fn go_into_a_namespace() -> Result<(), CommandError> {
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--net").args(arguments);
        command
    };
    let possible = unshare(&["ip", "link", "set", "lo", "up"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "no network namespace (root, util-linux, iproute2): the host's network is used, where \
             others move kernel counters too"
        );
        return Ok(());
    }
    let sysctl = |name: &&str| {
        let value = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
        Some(format!("{name}={}", value.trim()))
    };
    let sysctls: Vec<String> = SYSCTLS.iter().filter_map(sysctl).collect();
    let program = std::env::current_exe().map_err(host("this program"))?;
    let mut command = unshare(&[]);
    command.arg(program).args(std::env::args_os().skip(1));
    command.arg(format!("--in-namespace={}", sysctls.join(";")));
    // Comes back only if it cannot be started.
    Err(host("unshare")(command.exec()))
}

/// Brings the loopback up and sets what the host is set to. What cannot be set stays.
fn enter(sysctls: &str) -> Result<(), CommandError> {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    up.map_err(host("ip link set lo up"))?;
    for (name, value) in sysctls.split(';').filter_map(|pair| pair.split_once('=')) {
        // Some are the same for all namespaces and refuse to be written.
        let _ = std::fs::write(format!("/proc/sys/{name}"), value);
    }
    Ok(())
}
