//! Capacity: the largest burst, rate and number of connections that this host takes.
//!
//! In:   how runs are made, and what limits are looked for of.
//! Out:  `CapacityReport`: for each an answer that its runs confirm, or why there is none; laws of
//!       scalability over shards and connections; the first limit.
//! Law:  every run is kept in the report, void ones too.
//! Not:  the decision which load is next (`capacity::search`), or one run (`capacity::rig`).
//!
//! Modules in the order of a search: which load is next, what a run is, what many runs say.

pub mod search;
pub mod rig;
pub mod scalability;
mod text;

use std::path::Path;

use serde::Serialize;
use tuning::host;
use tuning::plan::Demand;

use self::rig::{Rig, RigError, RigSettings, Trial, What};
use self::scalability::Scalability;
use self::search::{Answer, Finding, Range, Search, Step};
use crate::honesty::Label;

/// How a capacity is looked for.
#[derive(Clone, Debug, Serialize)]
pub struct CapacitySettings {
    /// How runs are made.
    pub rig: RigSettings,
    /// Of what, in this order.
    pub what: Vec<What>,
    /// Most connections that are tried.
    pub connections_max: usize,
    /// Numbers of shards, and of connections, at which the rate is measured; empty = no law.
    pub scale_shards: Vec<usize>,
    /// See `scale_shards`.
    pub scale_connections: Vec<usize>,
}

/// What a search came to.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Of what.
    pub what: What,
    /// The limit, or why there is none.
    #[serde(flatten)]
    pub answer: Answer,
    /// What there was least of, above the limit; absent without one.
    pub resource: Option<&'static str>,
    /// How often the limit goes into what a network of the rig's size would do.
    pub times_demand: Option<f64>,
    /// Every run, in order.
    pub trials: Vec<Trial>,
}

/// A rate at a size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Shards, or connections.
    pub size: usize,
    /// Median of three runs, mappings per second.
    pub rate: f64,
    /// Processor time of the collector over that of its CPUs, 0 to 1.
    pub collector_busy: f64,
    /// Why the point says nothing of the collector and is left out of the law: others worked, or
    /// the collector waited for the generator. Absent where it counts.
    pub left_out: Option<Label>,
}

/// Rates at several sizes and the law that explains them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scale {
    /// The rates.
    pub points: Vec<Point>,
    /// The law; absent with fewer than two points that count.
    pub law: Option<Scalability>,
}

/// Everything that a capacity run says.
#[derive(Clone, Debug, Serialize)]
pub struct CapacityReport {
    /// The host, one fact per line.
    pub host: String,
    /// Whose kernel counters were read: those of a network namespace of the run's own, or the
    /// host's, which others move too.
    pub own_namespace: bool,
    /// How.
    pub settings: CapacitySettings,
    /// Each search.
    pub found: Vec<Found>,
    /// Rates over shards.
    pub shards: Scale,
    /// Rates over connections.
    pub connections: Scale,
    /// The limit that a growing network meets first; absent without any.
    pub first_limit: Option<What>,
}

impl CapacityReport {
    /// Whether every search found a limit.
    pub fn is_complete(&self) -> bool {
        self.found.iter().all(|found| matches!(found.answer, Answer::Limit { .. }))
    }
}

/// Runs of one search that are shown as the whole of it; most need fewer.
pub const RUNS_SHOWN: u64 = 50;
/// A collector that is less busy than this was not what limited a saturated run.
const BUSY_MIN: f64 = 0.85;
/// Saturated runs per point, and how long each is to take, seconds.
const SATURATED_RUNS: usize = 3;
const SATURATED_SECONDS: f64 = 1.5;
/// Mappings of the run that finds out how many make up that time.
const PROBE_MAPPINGS: f64 = 100_000.0;

/// Looks for every limit. `watch` is called before each run, with what is under way and the number
/// of the run in it.
///
/// Errors: `RigError`. Blocks for minutes.
pub fn measure(
    settings: &CapacitySettings,
    own_namespace: bool,
    watch: &mut dyn FnMut(&'static str, u64),
) -> Result<CapacityReport, RigError> {
    let mut found = Vec::new();
    for what in &settings.what {
        found.push(look_for(*what, settings, watch)?);
    }
    let shards = over_shards(settings, watch)?;
    let connections = over_connections(settings, watch)?;
    let first = found.iter().filter_map(|found| Some((found.what, found.times_demand?)));
    let first = first.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(what, _)| what);
    Ok(CapacityReport {
        host: host::description(Path::new(&settings.rig.data)),
        own_namespace,
        settings: settings.clone(),
        found,
        shards,
        connections,
        first_limit: first,
    })
}

fn look_for(
    what: What,
    settings: &CapacitySettings,
    watch: &mut dyn FnMut(&'static str, u64),
) -> Result<Found, RigError> {
    let mut search = Search::new(range(what, settings));
    let mut trials: Vec<Trial> = Vec::new();
    let mut rig: Option<Rig> = None;
    loop {
        let load = match search.step() {
            Step::Try(load) => whole(what, load),
            Step::Done(answer) => return Ok(Found::new(what, answer, settings, trials)),
        };
        watch(what.name(), search.runs() as u64);
        let mut ready = match (rig.take(), what) {
            (Some(rig), _) => rig,
            (None, What::Connections) => Rig::start(&settings.rig, load as usize)?,
            (None, _) => Rig::start_with_tables(&settings.rig)?,
        };
        let trial = ready.run(what, load)?;
        rig = Rig::is_reusable_after(&trial).then_some(ready);
        search.tell(trial.finding.clone());
        trials.push(trial);
    }
}

/// Routers come whole.
fn whole(what: What, load: f64) -> f64 {
    if what == What::Connections { load.round().max(1.0) } else { load }
}

fn range(what: What, settings: &CapacitySettings) -> Range {
    let frame = settings.rig.frame_mappings as f64;
    match what {
        // From a frame of each router up to what the senders' lists hold in a gigabyte.
        What::Burst => {
            let first = settings.rig.routers as f64 * frame;
            Range { first, min: 10.0 * frame, max: 60e6 * frame }
        }
        What::Rate => Range { first: 100_000.0, min: 100.0 * frame, max: 20e6 * frame },
        What::Connections => {
            let first = (settings.rig.routers as f64).min(settings.connections_max as f64);
            Range { first, min: 10.0, max: settings.connections_max as f64 }
        }
    }
}

impl Found {
    fn new(what: What, answer: Answer, settings: &CapacitySettings, trials: Vec<Trial>) -> Found {
        let limit = match answer {
            Answer::Limit { load, .. } => Some(load),
            Answer::NotFound { .. } => None,
        };
        let shows = |trial: &&Trial| matches!(trial.finding, Finding::Symptoms(_));
        // Of the runs that showed it, the last ones were those above the limit.
        let last = trials.iter().rev().find(shows);
        Found {
            what,
            resource: limit.and(last).map(Trial::resource),
            times_demand: limit.map(|limit| limit / demand(what, &settings.rig)),
            answer,
            trials,
        }
    }
}

/// What a network of the rig's size does, by the usual demand of a plan.
fn demand(what: What, rig: &RigSettings) -> f64 {
    let (usual, routers) = (Demand::default(), rig.routers as f64);
    match what {
        What::Burst => routers * rig.entries as f64 * usual.burst_share,
        What::Rate => routers * usual.churn,
        What::Connections => routers,
    }
}

fn over_shards(
    settings: &CapacitySettings,
    watch: &mut dyn FnMut(&'static str, u64),
) -> Result<Scale, RigError> {
    let mut points = Vec::new();
    let cpus: Vec<usize> =
        settings.rig.host_cpus.iter().chain(&settings.rig.choir_cpus).copied().collect();
    for (step, shards) in (0..).zip(&settings.scale_shards) {
        watch("scale over shards", step);
        // A CPU is left for the speakers as long as there is one.
        let split = (*shards).min(cpus.len());
        let (host, choir) = cpus.split_at(split);
        let choir_cpus = if choir.is_empty() { vec![] } else { choir.to_vec() };
        let rig = RigSettings {
            shards: *shards,
            host_cpus: host.to_vec(),
            choir_cpus,
            ..settings.rig.clone()
        };
        points.push(point(*shards, &rig)?);
    }
    Ok(Scale::new(points))
}

fn over_connections(
    settings: &CapacitySettings,
    watch: &mut dyn FnMut(&'static str, u64),
) -> Result<Scale, RigError> {
    let mut points = Vec::new();
    for (step, connections) in (0..).zip(&settings.scale_connections) {
        watch("scale over connections", step);
        let rig = RigSettings { routers: *connections, ..settings.rig.clone() };
        points.push(point(*connections, &rig)?);
    }
    Ok(Scale::new(points))
}

fn point(size: usize, settings: &RigSettings) -> Result<Point, RigError> {
    let mut rig = Rig::start_with_tables(settings)?;
    let rate = |trial: &Trial| trial.mappings_per_second(settings.frame_mappings);
    let probe = rig.saturate(PROBE_MAPPINGS)?;
    if !Rig::is_reusable_after(&probe) {
        rig = Rig::start_with_tables(settings)?;
    }
    let mappings = rate(&probe) * SATURATED_SECONDS;
    let mut runs = Vec::new();
    for _ in 0..SATURATED_RUNS {
        let trial = rig.saturate(mappings)?;
        let reusable = Rig::is_reusable_after(&trial);
        runs.push((rate(&trial), trial.collector_busy, settings.disturbance(&trial)));
        if !reusable {
            rig = Rig::start_with_tables(settings)?;
        }
    }
    runs.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (rate, collector_busy, disturbed) = runs[runs.len() / 2];
    let waited = (collector_busy < BUSY_MIN).then_some(Label::GeneratorBound);
    Ok(Point { size, rate, collector_busy, left_out: disturbed.or(waited) })
}

impl Scale {
    fn new(points: Vec<Point>) -> Scale {
        let count = points.iter().filter(|point| point.left_out.is_none());
        let pairs: Vec<(f64, f64)> = count.map(|point| (point.size as f64, point.rate)).collect();
        Scale { law: Scalability::fit(&pairs), points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_at_which_the_collector_waited_is_no_point() {
        let point = |size, rate, is_left_out: bool| Point {
            size,
            rate,
            collector_busy: 1.0,
            left_out: is_left_out.then_some(Label::GeneratorBound),
        };
        let scale =
            Scale::new(vec![point(1, 100.0, false), point(2, 160.0, false), point(4, 90.0, true)]);
        let law = scale.law.unwrap();
        assert!((law.contention - 0.25).abs() < 1e-9, "{law:?}");
        assert!(Scale::new(vec![point(1, 100.0, false), point(2, 160.0, true)]).law.is_none());
    }
}
