//! Plan: what the network that is there asks of this host, and how much more would fit.
//!
//! In:   the last moments, the plan's formulas, the limits of this host.
//! Out:  needs with what the host has; how many such routers it would carry.
//! Law:  the same model as `stormgen plan`: formulas with numbers, no second opinion.
//! Not:  the formulas (`tuning::plan`), what a burst did (`watch`).

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use tuning::limits::Limits;
use tuning::plan::{Costs, Demand, Plan};
use utoipa::ToSchema;

use super::now::NoQuestion;
use super::{ApiError, Fault};
use crate::http::App;
use crate::io::disk::Room;
use crate::watch::Moment;

/// Routers beyond which nobody looks for the limit.
const ROUTERS_MAX: f64 = 10_000_000.0;
const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;

/// What the plan says of this host.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanAnswer {
    /// In a sentence.
    pub summary: String,
    /// Routers that the plan is made for: those whose tables are held, or a usual network's.
    pub routers: f64,
    /// Mappings of each.
    pub mappings: f64,
    /// Changes of each in a second, as the last quarter of an hour without bursts had them.
    pub churn: f64,
    /// Whether the network is the one that is there; otherwise none is yet, and it is a usual one.
    pub measured: bool,
    /// Whether this host meets every need; none where that cannot be told.
    pub suffices: Option<bool>,
    /// Needs of which this host does not say what it has.
    pub unknown: Vec<String>,
    /// The need that it meets worst.
    pub first_limit: Option<String>,
    /// How many routers of this kind it would carry.
    pub routers_max: f64,
    /// What limits it then.
    pub limit: Option<String>,
    /// One after another.
    pub needs: Vec<NeedEntry>,
}

/// One thing that the host needs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NeedEntry {
    /// What.
    pub name: String,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: String,
    /// What this host has; of the disk, what is free.
    pub has: Option<f64>,
    /// Which share of it is needed; above 1 it does not suffice.
    pub load: Option<f64>,
    /// The formula.
    pub formula: String,
    /// The formula with its numbers.
    pub numbers: String,
    /// The command or setting that provides it.
    pub set: String,
}

/// What the plan asks of this host for the network that is there, and how much more would fit.
#[utoipa::path(
    get,
    path = "/api/v1/plan",
    responses(
        (status = 200, description = "Needs, and what the host has.", body = PlanAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
    )
)]
pub(super) async fn plan(
    State(app): State<App>,
    question: Result<Query<NoQuestion>, QueryRejection>,
) -> Result<Json<PlanAnswer>, ApiError> {
    question?;
    let moments = app.sources.watch.moments();
    let retain_hours = app.sources.retain_hours;
    let (demand, measured) = demand(&moments, retain_hours);
    let limits = Limits::read();
    let room = Room::at(&app.sources.data);
    let memory_bytes = moments.last().map(|moment| moment.memory.budget_bytes);
    let has = Has { limits, free_bytes: room.free_bytes, memory_bytes };
    Ok(Json(answer(&demand, measured, &has)))
}

/// What this host has, and what of it the collector may take.
struct Has {
    limits: Limits,
    free_bytes: Option<u64>,
    memory_bytes: Option<u64>,
}

impl Has {
    fn plan(&self, demand: &Demand) -> Plan {
        let mut plan = Plan::new(demand, &Costs::default(), Some(&self.limits));
        for need in &mut plan.needs {
            let own = match need.name {
                "collector memory" => self.memory_bytes.map(|bytes| bytes as f64 / MIB),
                "disk" => self.free_bytes.map(|bytes| bytes as f64 / GIB),
                _ => None,
            };
            need.has = need.has.or(own);
        }
        plan.judge();
        plan
    }
}

/// The network as the collector sees it; a usual one while there is none.
fn demand(moments: &[Arc<Moment>], retain_hours: u64) -> (Demand, bool) {
    let usual = Demand::default();
    let retain_hours = if retain_hours > 0 { retain_hours as f64 } else { usual.retain_hours };
    let sessions = moments.last().map(|moment| moment.sessions).unwrap_or_default();
    if sessions.routers == 0 || sessions.entries == 0 {
        return (Demand { retain_hours, ..usual }, false);
    }
    let routers = sessions.routers as f64;
    let calm = moments.iter().filter(|moment| moment.burst.is_none());
    let (changes, us) = calm.fold((0, 0), |(changes, us), moment| {
        (changes + moment.gained.changes, us + moment.span_us)
    });
    let churn = changes as f64 * 1e6 / (us.max(1) as f64) / routers;
    let mappings = (sessions.entries as f64 / routers).max(1.0);
    (Demand { routers, mappings, churn, retain_hours, ..usual }, true)
}

fn answer(demand: &Demand, measured: bool, has: &Has) -> PlanAnswer {
    let plan = has.plan(demand);
    let (routers_max, limit) = most(demand, has);
    let whose = if measured {
        "the network that is there"
    } else {
        "a usual network, as none is there yet"
    };
    let (routers, mappings) = (demand.routers.round(), demand.mappings.round());
    let fits = match plan.suffices {
        Some(true) => "this host suffices".to_owned(),
        Some(false) => format!("this host lacks {}", plan.first_limit.unwrap_or("something")),
        None if plan.unknown.is_empty() => "nothing is known of this host".to_owned(),
        None => format!(
            "it cannot be told whether this host suffices, which does not say what it has of {}",
            plan.unknown.join(", ")
        ),
    };
    let more = limit.map_or(String::new(), |limit| {
        let known = if plan.unknown.is_empty() { "" } else { " that is known" };
        format!(" It would carry {routers_max:.0} such routers; {limit} is its first limit{known}.")
    });
    let summary = format!("For {routers} routers of {mappings} mappings ({whose}) {fits}.{more}");
    let need = |need: &tuning::plan::Need| NeedEntry {
        name: need.name.to_owned(),
        value: need.value,
        unit: need.unit.to_owned(),
        has: need.has,
        load: need.load(),
        formula: need.formula.to_owned(),
        numbers: need.numbers.clone(),
        set: need.set.clone(),
    };
    PlanAnswer {
        summary,
        routers: demand.routers,
        mappings: demand.mappings,
        churn: demand.churn,
        measured,
        suffices: plan.suffices,
        unknown: plan.unknown.iter().map(|name| (*name).to_owned()).collect(),
        first_limit: plan.first_limit.map(str::to_owned),
        routers_max,
        limit: limit.map(str::to_owned),
        needs: plan.needs.iter().map(need).collect(),
    }
}

/// The most routers of this kind that the host carries, and what limits it.
fn most(demand: &Demand, has: &Has) -> (f64, Option<&'static str>) {
    let of = |routers: f64| has.plan(&Demand { routers, ..*demand });
    // Of what the host does not say nothing is a limit here; the summary tells.
    let fits = |routers: f64| of(routers).suffices != Some(false);
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    while high < ROUTERS_MAX && fits(high) {
        (low, high) = (high, high * 2.0);
    }
    if high >= ROUTERS_MAX {
        return (ROUTERS_MAX, None);
    }
    while high - low > (low / 100.0).max(1.0) {
        let middle = ((low + high) / 2.0).floor();
        if fits(middle) { low = middle } else { high = middle }
    }
    (low, of(high).first_limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Sessions, Totals};

    fn has() -> Has {
        let limits = Limits {
            cores: 4,
            memory_bytes: Some(64 << 30),
            descriptors: Some(1 << 20),
            somaxconn: Some(65_535),
            syn_backlog: Some(65_535),
            receive_buffer_bytes: Some(64 << 20),
            tcp_pressure_bytes: Some(64 << 30),
            option_bytes: Some(1 << 20),
            ..Limits::default()
        };
        Has { limits, free_bytes: Some(1 << 40), memory_bytes: Some(1 << 30) }
    }

    #[test]
    fn the_most_routers_are_those_that_still_fit() {
        let demand = Demand { routers: 100.0, mappings: 1_000.0, ..Demand::default() };
        let answer = answer(&demand, true, &has());
        assert_eq!(answer.suffices, Some(true), "{answer:?}");
        let load = |routers: f64| {
            let plan = has().plan(&Demand { routers, ..demand });
            plan.needs.iter().filter_map(|need| need.load()).fold(0.0_f64, f64::max)
        };
        assert!(load(answer.routers_max) <= 1.0 && load(answer.routers_max * 1.05 + 2.0) > 1.0);
        assert!(answer.summary.contains("this host suffices"), "{}", answer.summary);
        let limit = answer.limit.unwrap();
        assert!(answer.summary.contains(&limit), "{}", answer.summary);
    }

    #[test]
    fn a_host_that_does_not_say_what_it_has_is_not_said_to_suffice() {
        let demand = Demand { routers: 100.0, mappings: 1_000.0, ..Demand::default() };
        let Has { limits, free_bytes, memory_bytes } = has();
        let limits = Limits { somaxconn: None, ..limits };
        let answer = answer(&demand, true, &Has { limits, free_bytes, memory_bytes });
        assert_eq!((answer.suffices, answer.unknown), (None, vec!["listen queue".to_owned()]));
        assert!(answer.summary.contains("what it has of listen queue"), "{}", answer.summary);
        assert!(answer.routers_max > 100.0, "{}", answer.summary);
    }

    #[test]
    fn a_host_without_memory_lacks_it() {
        let demand = Demand { routers: 20_000.0, mappings: 5_000.0, ..Demand::default() };
        let has = Has { memory_bytes: Some(64 << 20), ..has() };
        let answer = answer(&demand, false, &has);
        assert_eq!(
            (answer.suffices, answer.first_limit.as_deref()),
            (Some(false), Some("collector memory"))
        );
        assert!(answer.summary.contains("lacks collector memory"), "{}", answer.summary);
    }

    #[test]
    fn the_network_is_that_of_the_last_moments_without_their_bursts() {
        let moment = |changes: u64, burst: Option<i64>| {
            let sessions = Sessions { routers: 10, entries: 4_000, ..Sessions::default() };
            let gained = Totals { changes, ..Totals::default() };
            Arc::new(Moment { span_us: 1_000_000, sessions, gained, burst, ..Moment::default() })
        };
        let moments = [moment(20, None), moment(90_000, Some(1)), moment(40, None)];
        let (demand, measured) = demand(&moments, 48);
        assert!(measured);
        assert_eq!((demand.routers, demand.mappings, demand.churn), (10.0, 400.0, 3.0));
        assert_eq!(demand.retain_hours, 48.0);
        let (usual, measured) = super::demand(&[], 0);
        assert!(!measured && usual == Demand::default());
    }
}
