//! Bursts: those that there were, and each under the microscope.
//!
//! In:   what the watch has seen; the log, for what was before.
//! Out:  heads, newest first; one burst with its bins of 10 ms and what moved in the kernel.
//! Law:  a burst that runs is among them.
//! Not:  what a burst is, and who is to blame (`watch`).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use storage::allowance::Allowance;
use utoipa::{IntoParams, ToSchema};

use super::now::NoQuestion;
use super::past::range;
use super::{ApiError, Fault};
use crate::http::App;
use crate::query::{self, Answered, QueryError, RowsMissing};
use crate::watch::{Burst, Head};

/// The bursts that are known.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BurstsAnswer {
    /// Newest first.
    pub bursts: Vec<Head>,
    /// What stands in the way of a whole answer.
    pub warnings: Vec<String>,
    /// Where rows of the log are missing from it; empty = it is whole, or the log was not asked.
    pub rows_missing: Vec<RowsMissing>,
}

/// Which bursts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct BurstsQuestion {
    /// Bursts that ran at this instant or later; a day ago if it is left out.
    since: Option<String>,
}

/// The bursts, newest first, without their bins: those of the log, and those that the watch saw.
#[utoipa::path(
    get,
    path = "/api/v1/bursts",
    params(BurstsQuestion),
    responses(
        (status = 200, description = "Bursts, newest first.", body = BurstsAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn bursts(
    State(app): State<App>,
    question: Result<Query<BurstsQuestion>, QueryRejection>,
) -> Result<Json<BurstsAnswer>, ApiError> {
    let Query(question) = question?;
    let range = range(&question.since, &None, app.sources.wall())?;
    let data = app.sources.data.clone();
    let ask =
        move |allowance: &Allowance| kept(query::bursts_within(&data, range, Some(allowance)));
    // The watch has them first, and the one that runs; the log has those that it has forgotten.
    let kept = match app.sources.watch.has_bursts_since(range.since) {
        true => Answered::default(),
        false => app.answer(ask).await?,
    };
    let Answered { value: kept, warnings, rows_missing } = kept;
    let kept = kept.into_iter().map(|burst| (burst.head.id, burst.head));
    let mut bursts: BTreeMap<i64, Head> = kept.collect();
    let seen = app.sources.watch.bursts().into_iter();
    let overlaps = |head: &Head| head.is_running || head.end_us >= range.since.0;
    bursts.extend(seen.filter(overlaps).map(|head| (head.id, head)));
    let bursts = bursts.into_values().rev().collect();
    Ok(Json(BurstsAnswer { bursts, warnings, rows_missing }))
}

/// One burst: bins of 10 ms, and the kernel's counters as they moved.
#[utoipa::path(
    get,
    path = "/api/v1/bursts/{id}",
    params(("id" = i64, Path, description = "The burst's id: when it began.")),
    responses(
        (status = 200, description = "The burst in full.", body = Burst),
        (status = "4XX", description = "There is no such burst.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn burst(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
    question: Result<Query<NoQuestion>, QueryRejection>,
) -> Result<Json<Burst>, ApiError> {
    let (Path(id), _) = (id?, question?);
    Ok(Json(Arc::unwrap_or_clone(find(&app, id).await?)))
}

/// The burst of this id: as the watch saw it, or as the log has it.
pub(in crate::http) async fn find(app: &App, id: i64) -> Result<Arc<Burst>, ApiError> {
    if let Some(burst) = app.sources.watch.burst(id) {
        return Ok(burst);
    }
    let data = app.sources.data.clone();
    let ask = move |allowance: &Allowance| kept(query::burst_within(&data, id, Some(allowance)));
    let kept = app.answer(ask).await?;
    kept.value.map(Arc::new).ok_or_else(|| {
        let message = format!("no burst {id} is known: /api/v1/bursts lists those that are");
        ApiError::new(StatusCode::NOT_FOUND, message)
    })
}

/// What the log has; a collector that has written nothing yet has no log.
fn kept<T: Default>(answer: Result<Answered<T>, QueryError>) -> Result<Answered<T>, ApiError> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(QueryError::NoFolder { .. }) => Ok(Answered::default()),
        Err(error) => Err(error.into()),
    }
}
