//! Now: the last second, and the quarter of an hour before it.
//!
//! In:   what the watch has seen, what the shards published.
//! Out:  the last moment with what is wrong, and moments to draw.
//! Law:  totals are those of `/metrics` at the end of the moment: one reading, shown twice.
//! Not:  making moments (`watch`).

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Fault};
use crate::http::{App, faults, lacking};
use crate::query::{QueryError, RowsMissing, parse_when};
use crate::watch::Moment;

/// Places without rows that are listed.
const PLACES_MAX: usize = 64;

/// The collector at this moment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NowAnswer {
    /// When this was asked.
    pub at: String,
    /// Version of the collector.
    pub version: String,
    /// Which driver turns the shards: uring or epoll.
    pub driver: Option<String>,
    /// Why that one.
    pub driver_reason: Option<String>,
    /// What is wrong, as `/healthz` says it; empty = all is well.
    pub faults: Vec<String>,
    /// What is missing of the past, in words: rows of the log that cannot be read, as far as the
    /// collector has met it. Collecting goes on all the same.
    #[serde(default)]
    pub lacking: Option<String>,
    /// Where rows of the log cannot be read; 64 places at most.
    #[serde(default)]
    pub rows_missing: Vec<RowsMissing>,
    /// The last second; none before the first is over.
    pub moment: Option<Moment>,
}

/// Seconds, one after another.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MomentsAnswer {
    /// Oldest first.
    pub moments: Vec<Moment>,
}

/// From when on.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MomentsQuestion {
    /// Moments that ended after this instant; all that are kept, a quarter of an hour, without it.
    since: Option<String>,
}

/// The question takes no words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuestion {}

/// The last second: totals, rates, memory, sessions, shards, the kernel, and what is wrong.
#[utoipa::path(
    get,
    path = "/api/v1/now",
    responses(
        (status = 200, description = "The collector at this moment.", body = NowAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
    )
)]
pub(super) async fn now(
    State(app): State<App>,
    question: Result<Query<NoQuestion>, QueryRejection>,
) -> Result<Json<NowAnswer>, ApiError> {
    question?;
    let sources = &app.sources;
    let at = sources.wall();
    let driver = sources.publication.driver();
    let mut rows_missing = sources.publication.places_lacking();
    let lacking = lacking(&rows_missing);
    rows_missing.truncate(PLACES_MAX);
    Ok(Json(NowAnswer {
        at: at.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        driver: driver.map(|(name, _)| name.to_owned()),
        driver_reason: driver.map(|(_, reason)| reason.to_owned()),
        faults: faults(&sources.publication, &sources.data, at),
        lacking,
        rows_missing,
        moment: sources.watch.moment().map(Arc::unwrap_or_clone),
    }))
}

/// The last quarter of an hour, second by second.
#[utoipa::path(
    get,
    path = "/api/v1/moments",
    params(MomentsQuestion),
    responses(
        (status = 200, description = "Moments, oldest first.", body = MomentsAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
    )
)]
pub(super) async fn moments(
    State(app): State<App>,
    question: Result<Query<MomentsQuestion>, QueryRejection>,
) -> Result<Json<MomentsAnswer>, ApiError> {
    let Query(question) = question?;
    let now = app.sources.wall();
    let since = question.since.as_deref().map(|text| parse_when(text, now)).transpose();
    let since = since.map_err(QueryError::from)?.map_or(i64::MIN, |time| time.0);
    let moments = app.sources.watch.moments();
    let later = moments.into_iter().filter(|moment| moment.time_us > since);
    Ok(Json(MomentsAnswer { moments: later.map(Arc::unwrap_or_clone).collect() }))
}
