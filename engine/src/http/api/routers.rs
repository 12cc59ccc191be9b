//! Routers: who is connected, who is in a gap, who waits, who is late.
//!
//! In:   the roster of the shards; or the log, for an instant of the past.
//! Out:  one entry per router, by id.
//! Law:  of now, the shards answer from memory: a page that is open costs the disk nothing.
//! Not:  what a router's table says (`past`).

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use storage::allowance::Allowance;
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Fault};
use crate::http::App;
use crate::query::{self, Instant, RouterRow, RowsMissing};
use crate::roster::{LiveSession, RosterLine};
use crate::watch::{Connection, Copied};

/// When.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutersQuestion {
    /// The instant; now if it is left out. Only of now there is `live`.
    at: Option<String>,
}

/// Every router.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RoutersAnswer {
    /// The instant.
    pub at: String,
    /// By id.
    pub routers: Vec<RouterEntry>,
    /// What stands in the way of a whole answer.
    pub warnings: Vec<String>,
    /// Where rows of the log are missing from it; empty = it is whole.
    pub rows_missing: Vec<RowsMissing>,
}

/// One router.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RouterEntry {
    /// Its id.
    pub router: String,
    /// Its name in the settings, or empty.
    pub name: String,
    /// connected, disconnected, unwatched or never-seen.
    pub status: String,
    /// Since when.
    pub since: Option<String>,
    /// Where its session comes from.
    pub peer: Option<String>,
    /// How its bytes are read.
    pub mode: Option<String>,
    /// How many sessions it has had.
    pub generation: u32,
    /// Entries of its table.
    pub entries: u64,
    /// Keys that nobody can vouch for, one by one: unconfirmed entries, and keys of which a mapping
    /// was rejected, with an entry or without. Of an unknown router, all its entries.
    pub entries_unknown: u64,
    /// When its full table was known last.
    pub complete: Option<String>,
    /// Latest sign of life.
    pub last_evidence: Option<String>,
    /// How far its clock is ahead of the collector's, at least, microseconds; negative = behind, by
    /// so much at most. None where its session has said no time.
    pub clock_skew_us: Option<i64>,
    /// Whether that is more than 60 s: its times are not believed.
    pub clock_ahead: bool,
    /// Whether the collector vouches for it: known; in-part, where some entries, or those that are
    /// not listed, cannot be vouched for; or unknown, because it is in a gap.
    pub answer: String,
    /// Since when it is not known, or not all of it.
    pub unknown_since: Option<String>,
    /// Why.
    pub cause: Option<String>,
    /// The shard that its table lives on.
    pub shard: Option<u64>,
    /// What the collector knows of its session beyond the log; of now only.
    pub live: Option<RouterLive>,
    /// What the kernel says of its connection; of now only, as far as it has been asked.
    pub tcp: Option<Connection>,
}

/// A session that is under way.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RouterLive {
    /// Bytes of it that were received and wait in memory.
    pub waiting_bytes: u64,
    /// For how long it has not been read now, for want of memory; 0 = it is read.
    pub blocked_ms: u64,
    /// The longest time for which it was not read.
    pub blocked_longest_ms: u64,
    /// Whether its snapshot waits until those of others have been read.
    pub snapshot_waits: bool,
    /// Deferral: how long after its event time its last change came; negative where the router's
    /// clock is ahead of the collector's.
    pub deferral_ms: Option<i64>,
    /// The longest deferral of this session.
    pub deferral_longest_ms: Option<i64>,
    /// Frames and mappings of it that were rejected.
    pub rejected: u64,
}

/// Every router, as it is now or as it was.
#[utoipa::path(
    get,
    path = "/api/v1/routers",
    params(RoutersQuestion),
    responses(
        (status = 200, description = "Every router, by id.", body = RoutersAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn routers(
    State(app): State<App>,
    question: Result<Query<RoutersQuestion>, QueryRejection>,
) -> Result<Json<RoutersAnswer>, ApiError> {
    let Query(question) = question?;
    let now = app.sources.wall();
    let answer = match question.at.as_deref() {
        None | Some("now") => {
            let roster = app.sources.roster.clone();
            let ask = move |_: &Allowance| {
                roster.lines(now).map_err(|error| ApiError::failed(error.to_string()))
            };
            let lines = app.questions.ask(ask).await?;
            let seen = app.sources.watch.connections().copy();
            let routers = lines.iter().map(|line| RouterEntry::live(line, &seen)).collect();
            let (warnings, rows_missing) = Default::default();
            RoutersAnswer { at: now.to_string(), routers, warnings, rows_missing }
        }
        Some(at) => {
            let at = Instant::read(at, now)?;
            let data = app.sources.data.clone();
            let ask = move |allowance: &Allowance| {
                let network = query::network_within(&data, at, None, Some(allowance))?;
                let rows = query::router_rows(&network.value);
                let (warnings, rows_missing) = (network.warnings, network.rows_missing);
                let routers = rows.iter().map(RouterEntry::of).collect();
                Ok(RoutersAnswer { at: at.to_string(), routers, warnings, rows_missing })
            };
            app.answer(ask).await?
        }
    };
    Ok(Json(answer))
}

impl RouterEntry {
    fn of(row: &RouterRow) -> RouterEntry {
        let (cause, unknown_since) = row.answer.doubt().unzip();
        RouterEntry {
            router: row.router.to_string(),
            name: row.name.clone(),
            status: row.status.name().to_owned(),
            since: row.since.map(|time| time.to_string()),
            peer: row.peer.map(|peer| peer.to_string()),
            mode: row.mode.map(str::to_owned),
            generation: row.generation,
            entries: row.entries as u64,
            entries_unknown: row.entries_unknown as u64,
            complete: row.complete.map(|time| time.to_string()),
            last_evidence: row.last_evidence.map(|time| time.to_string()),
            clock_skew_us: row.clock_skew_us,
            clock_ahead: row.is_clock_ahead(),
            answer: row.answer.name().to_owned(),
            unknown_since: unknown_since.flatten().map(|time| time.to_string()),
            cause: cause.map(str::to_owned),
            shard: None,
            live: None,
            tcp: None,
        }
    }

    fn live(line: &RosterLine, seen: &Copied) -> RouterEntry {
        let router = || Some(line.row.router.to_string());
        RouterEntry {
            tcp: line.live.and_then(|live| seen.connection(live.peer, router())),
            shard: line.shard.map(|shard| shard as u64),
            live: line.live.as_ref().map(RouterLive::of),
            ..RouterEntry::of(&line.row)
        }
    }
}

impl RouterLive {
    fn of(live: &LiveSession) -> RouterLive {
        RouterLive {
            waiting_bytes: live.waiting_bytes,
            blocked_ms: live.blocked_us / 1_000,
            blocked_longest_ms: live.blocked_longest_us / 1_000,
            snapshot_waits: live.snapshot_waits,
            deferral_ms: live.delay_us.map(|us| us / 1_000),
            deferral_longest_ms: live.delay_longest_us.map(|us| us / 1_000),
            rejected: live.rejected,
        }
    }
}
