//! `stormgen plan`: how large a collector host has to be.
//!
//! In:   what the network does, by flags or counted on a map and a scenario; costs: measured here,
//!       or from a file.
//! Out:  the plan, as text or as JSON; "no" when this host does not suffice.
//! Law:  what was measured on a disturbed host is said to be so.
//! Not:  the formulas (`tuning::plan`), the measurement (`calibrate`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use engine::io::disk::time_syncs;
use serde::Serialize;
use tuning::limits::Limits;
use tuning::plan::{Costs, Demand, Plan};

use super::error::{CommandError, host};
use super::shape::read_map;
use super::told::{Format, print};
use crate::calibrate::{STEPS, calibrate};
use crate::demand;
use crate::honesty::Honesty;
use crate::model::{Graph, Model};
use crate::scenario::Scenario;
use crate::services::Services;
use crate::show::Show;
use crate::stage::{Look, StageError};

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// Routers, each with one connection.
    #[arg(long, default_value_t = Demand::default().routers)]
    routers: f64,
    /// Mappings of a router's table.
    #[arg(long, default_value_t = Demand::default().mappings)]
    mappings: f64,
    /// A map of a real network, GML or GraphML: routers, mappings and the burst are counted on it.
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["routers", "mappings", "burst_share", "burst_seconds"])]
    topology: Option<PathBuf>,
    /// Provider edges behind each place of the map.
    #[arg(long, default_value_t = 2, value_name = "COUNT", requires = "topology")]
    pe_per_pop: usize,
    /// The burst is that of this scenario, link-down for one, or of a file that ends in .toml; on
    /// the map, or on a generated network with so many routers and mappings.
    #[arg(long, value_parser = Scenario::read,
          conflicts_with_all = ["burst_share", "burst_seconds"])]
    scenario: Option<Scenario>,
    /// What routers of the map or of the scenario have labels for, of ldp, rsvp, sr, l3vpn, vpws
    /// and p2mp, and how they say it: unnumbered, backup,
    /// vrf-names and discard; or all.
    #[arg(long, default_value = "ldp,l3vpn", value_name = "LIST")]
    services: Services,
    /// Changes per second of one router on a usual day.
    #[arg(long, default_value_t = Demand::default().churn, value_name = "CHANGES_PER_SECOND")]
    churn: f64,
    /// Share of all mappings that a failure changes at once, 0 to 1.
    #[arg(long, default_value_t = Demand::default().burst_share, value_name = "SHARE")]
    burst_share: f64,
    /// Within how many seconds the routers say so.
    #[arg(long, default_value_t = Demand::default().burst_seconds, value_name = "SECONDS")]
    burst_seconds: f64,
    /// Within how many seconds all of a burst has to be durable.
    #[arg(long, default_value_t = Demand::default().settle_seconds, value_name = "SECONDS")]
    settle_seconds: f64,
    /// Within how many seconds every table has to be there again after a restart.
    #[arg(long, default_value_t = Demand::default().restart_seconds, value_name = "SECONDS")]
    restart_seconds: f64,
    /// Mappings of a frame of changes.
    #[arg(long, default_value_t = Demand::default().frame_mappings, value_name = "MAPPINGS")]
    frame_mappings: f64,
    /// How long changes are kept.
    #[arg(long, default_value_t = Demand::default().retain_hours, value_name = "HOURS")]
    retain_hours: f64,
    /// TCP-MD5 keys on a listener.
    #[arg(long, default_value_t = Demand::default().md5_keys, value_name = "KEYS")]
    md5_keys: f64,
    /// Share of its cores that the collector may use on a usual day, 0 to 1.
    #[arg(long, default_value_t = Demand::default().utilisation, value_name = "SHARE")]
    utilisation: f64,
    /// Costs from this TOML file instead of measuring them, which takes some ten seconds. What it
    /// leaves out is taken from the benches' runs; an empty file takes all from there.
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Write the costs into this TOML file, for another plan or another host.
    #[arg(long, value_name = "FILE")]
    write_costs: Option<PathBuf>,
    /// Where costs are measured: a folder on the file system that the collector will use.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// The plan is for another host: this one's limits are not set beside it.
    #[arg(long)]
    elsewhere: bool,
    /// Share of the full measurement: below 1 is for trying things out, and no measurement.
    #[arg(long, default_value_t = 1.0, hide = true)]
    scale: f64,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
    /// How the plan is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What is printed.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    /// What the burst is, where a scenario says so.
    burst: Option<&'a str>,
    /// Absent where the costs were given.
    honesty: Option<Honesty>,
}

pub(super) fn plan(arguments: &PlanArguments) -> Result<bool, CommandError> {
    let mut demand = demand(arguments)?;
    let burst = match model(arguments, &demand)? {
        Some(model) => Some(demand::take_from(&model, &mut demand).map_err(StageError::from)?),
        None => None,
    };
    let (costs, honesty) = match &arguments.costs {
        Some(path) => (read_costs(path)?, None),
        None => measure(arguments)?,
    };
    if let Some(path) = &arguments.write_costs {
        let text = toml::to_string(&costs).expect("costs are numbers");
        std::fs::write(path, text).map_err(host("the file of --write-costs"))?;
    }
    let limits = match arguments.elsewhere {
        true => None,
        false => Some(limits(&arguments.data)?),
    };
    let plan = Plan::new(&demand, &costs, limits.as_ref());
    match arguments.format {
        Format::Json => {
            let printed = Printed { plan: &plan, burst: burst.as_deref(), honesty };
            let text = serde_json::to_string_pretty(&printed).expect("a plan has only text keys");
            print(&(text + "\n"))?;
        }
        Format::Text => {
            let from = honesty.map_or_else(
                || "costs: as given".to_owned(),
                |honesty| format!("costs: measured here; {}", told(&honesty)),
            );
            let burst = burst.map_or_else(String::new, |what| format!("burst: {what}\n"));
            print(&format!("{plan}\n{burst}{from}\n"))?;
        }
    }
    Ok(plan.suffices != Some(false) && plan.unknown.is_empty())
}

/// Without lateness, which costs no processor time.
fn told(honesty: &Honesty) -> String {
    let labels = honesty.labels.iter().map(|label| honesty.words(*label));
    let labels: Vec<String> = labels.collect();
    if labels.is_empty() { "undisturbed".to_owned() } else { labels.join("; ") }
}

fn demand(arguments: &PlanArguments) -> Result<Demand, CommandError> {
    let positive = [
        ("--routers", arguments.routers),
        ("--mappings", arguments.mappings),
        ("--burst-seconds", arguments.burst_seconds),
        ("--settle-seconds", arguments.settle_seconds),
        ("--restart-seconds", arguments.restart_seconds),
        ("--frame-mappings", arguments.frame_mappings),
        ("--utilisation", arguments.utilisation),
    ];
    let not_negative = [
        ("--churn", arguments.churn),
        ("--burst-share", arguments.burst_share),
        ("--retain-hours", arguments.retain_hours),
        ("--md5-keys", arguments.md5_keys),
    ];
    let shares = [arguments.burst_share, arguments.utilisation];
    let refused = |name, found, expected| CommandError::Number { name, found, expected };
    for (name, value) in positive {
        if !(value.is_finite() && value > 0.0) {
            return Err(refused(name, value, "a number above 0"));
        }
    }
    for (name, value) in not_negative {
        if !(value.is_finite() && value >= 0.0) {
            return Err(refused(name, value, "0 or more"));
        }
    }
    for (name, value) in ["--burst-share", "--utilisation"].into_iter().zip(shares) {
        if value > 1.0 {
            return Err(refused(name, value, "at most 1"));
        }
    }
    Ok(Demand {
        routers: arguments.routers,
        mappings: arguments.mappings,
        churn: arguments.churn,
        burst_share: arguments.burst_share,
        burst_seconds: arguments.burst_seconds,
        settle_seconds: arguments.settle_seconds,
        restart_seconds: arguments.restart_seconds,
        frame_mappings: arguments.frame_mappings,
        retain_hours: arguments.retain_hours,
        md5_keys: arguments.md5_keys,
        utilisation: arguments.utilisation,
    })
}

/// The network that the demand is counted on, if there is one.
fn model(arguments: &PlanArguments, demand: &Demand) -> Result<Option<Model>, CommandError> {
    let scenario = arguments.scenario.clone();
    let graph = match &arguments.topology {
        None if scenario.is_none() => return Ok(None),
        // An entry at both ends of the LSP to each provider edge: `ShapeArguments`.
        None => {
            let edges = (demand.mappings / 2.0).max(2.0) as usize;
            Graph::Generated { routers: demand.routers as usize, edges }
        }
        Some(path) => {
            let map = read_map(path)?;
            Graph::Mapped { map, edges_per_place: arguments.pe_per_pop }
        }
    };
    let (services, scenario) = (arguments.services, scenario.unwrap_or_default());
    Ok(Some(Model { graph, services, scenario, faults: Vec::new(), ipv6: false, seed: 1 }))
}

/// Of this host, and of the disk that the data folder is on, which is timed.
fn limits(data: &Path) -> Result<Limits, CommandError> {
    let flush = time_syncs(data).map_err(host("timing the disk of --data"))?;
    let median = flush.map(|flush| Duration::from_micros(flush.median_us));
    Ok(Limits::read().with_disk(data, median))
}

fn read_costs(path: &Path) -> Result<Costs, CommandError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| CommandError::File { path: shown.clone(), source })?;
    toml::from_str(&text)
        .map_err(|error| CommandError::Costs { path: shown, told: error.to_string() })
}

fn measure(arguments: &PlanArguments) -> Result<(Costs, Option<Honesty>), CommandError> {
    let folder = tempfile::Builder::new().prefix("stormgen-plan-").tempdir_in(&arguments.data);
    let folder = folder.map_err(host("a temporary folder below --data"))?;
    let mut show = Show::new(arguments.quiet);
    let calibration = calibrate(folder.path(), arguments.scale.clamp(0.01, 1.0), &mut |step| {
        show.look(&Look { act: "measure costs", done: step, all: STEPS, progress: None });
    })?;
    show.end();
    Ok((calibration.costs, Some(calibration.honesty)))
}
