//! `stormgen plan`: how large a collector host has to be.
//!
//! In:   what the network does, by flags; costs: measured here, or from a file.
//! Out:  the plan, as text or as JSON; "no" when this host does not suffice.
//! Law:  what was measured on a disturbed host is said to be so.
//! Not:  the formulas (`tuning::plan`), the measurement (`calibrate`).

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tuning::limits::Limits;
use tuning::plan::{Costs, Demand, Plan};

use super::{CommandError, Format, host, print};
use crate::calibrate::{STEPS, calibrate};
use crate::honesty::Honesty;
use crate::show::Show;
use crate::stage::Look;

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// Routers, each with one connection.
    #[arg(long, default_value_t = Demand::default().routers)]
    routers: f64,
    /// Mappings of a router's table.
    #[arg(long, default_value_t = Demand::default().mappings)]
    mappings: f64,
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
    /// Absent where the costs were given.
    honesty: Option<Honesty>,
}

pub(super) fn plan(arguments: &PlanArguments) -> Result<bool, CommandError> {
    let demand = demand(arguments)?;
    let (costs, honesty) = match &arguments.costs {
        Some(path) => (read_costs(path)?, None),
        None => measure(arguments)?,
    };
    if let Some(path) = &arguments.write_costs {
        let text = toml::to_string(&costs).expect("costs are numbers");
        std::fs::write(path, text).map_err(host("the file of --write-costs"))?;
    }
    let limits = (!arguments.elsewhere).then(Limits::read);
    let plan = Plan::new(&demand, &costs, limits.as_ref());
    match arguments.format {
        Format::Json => {
            let printed = Printed { plan: &plan, honesty };
            let text = serde_json::to_string_pretty(&printed).expect("a plan has only text keys");
            print(&(text + "\n"))?;
        }
        Format::Text => {
            let from = honesty.map_or_else(
                || "costs: as given".to_owned(),
                |honesty| format!("costs: measured here; {}", told(&honesty)),
            );
            print(&format!("{plan}\n{from}\n"))?;
        }
    }
    Ok(plan.suffices != Some(false))
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
