//! The past: the way of an LSP at an instant, and what happened to a router's entries.
//!
//! In:   a router, a FEC or label, instants as the command line writes them.
//! Out:  the answers of `query`, as they are.
//! Law:  the command line and this interface give the same answer: it is one value.
//! Not:  reading the log (`query`), drawing (`drawing`).

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use storage::time::Micros;
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Fault};
use crate::http::App;
use crate::query::{
    self, HistoryLine, QueryError, Range, Selector, TraceAnswer, Traces, find_router, instant,
    parse_when,
};

/// How far back a question goes that does not say it.
const SINCE_DEFAULT: &str = "-24h";
/// Rows of an answer, unless more are asked for.
const ROWS_DEFAULT: usize = 1_000;
/// Rows of an answer at most.
const ROWS_MAX: usize = 10_000;

/// Which LSP, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceQuestion {
    /// Id or name of the router where the path begins.
    router: String,
    /// FEC that the packet is for, or label:24 for a packet that comes in with that label.
    fec: String,
    /// The instant; now if it is left out.
    at: Option<String>,
}

/// Whose entries, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuestion {
    /// Id or name of the router.
    router: String,
    /// Only entries for this FEC (or label:24).
    fec: Option<String>,
    /// Only entries with this ingress label.
    label: Option<u32>,
    /// From when on; a day ago if it is left out.
    since: Option<String>,
    /// Until when; now if it is left out.
    until: Option<String>,
    /// Rows at most, 1 to 10,000; 1,000 if it is left out. The newest are kept.
    limit: Option<usize>,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryAnswer {
    /// The router's id.
    pub router: String,
    /// The interval.
    pub since: String,
    /// Its end.
    pub until: String,
    /// Rows, oldest first.
    pub rows: Vec<HistoryLine>,
    /// Whether older rows of the interval were left out.
    pub cut: bool,
    /// What stands in the way of a whole answer.
    pub warnings: Vec<String>,
}

/// The way of an LSP at an instant, as the command line's `trace --format json` says it.
#[utoipa::path(
    get,
    path = "/api/v1/trace",
    params(TraceQuestion),
    responses(
        (status = 200, description = "Every path, and every router on it.", body = TraceAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn trace(
    State(app): State<App>,
    question: Result<Query<TraceQuestion>, QueryRejection>,
) -> Result<Json<TraceAnswer>, ApiError> {
    let Query(question) = question?;
    let at = instant(question.at.as_deref().unwrap_or("now"), (app.sources.wall)())?;
    let selector = selector(&question.fec)?;
    let data = app.sources.data.clone();
    let ask = move || {
        let router = find_router(&data, &question.router)?;
        let traces = Traces::open(&data, at)?;
        Ok(Json(traces.value.trace(router, selector).answer(traces.warnings)))
    };
    app.questions.ask(ask).await
}

/// Changes, gaps and session events of a router, oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/history",
    params(HistoryQuestion),
    responses(
        (status = 200, description = "What happened, oldest first.", body = HistoryAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn history(
    State(app): State<App>,
    question: Result<Query<HistoryQuestion>, QueryRejection>,
) -> Result<Json<HistoryAnswer>, ApiError> {
    let Query(question) = question?;
    let range = range(&question.since, &question.until, (app.sources.wall)())?;
    let selector = match (&question.fec, question.label) {
        (Some(_), Some(_)) => return Err(ApiError::wrong("write fec or label, not both")),
        (Some(fec), None) => Some(selector(fec)?),
        (None, Some(label)) => Some(self::selector(&format!("label:{label}"))?),
        (None, None) => None,
    };
    let limit = question.limit.unwrap_or(ROWS_DEFAULT);
    if !(1..=ROWS_MAX).contains(&limit) {
        return Err(ApiError::wrong(format!("limit is {limit}: write 1 to {ROWS_MAX}")));
    }
    let data = app.sources.data.clone();
    let ask = move || {
        let router = find_router(&data, &question.router)?;
        let rows = query::history(&data, router, selector, range)?;
        let left_out = rows.value.len().saturating_sub(limit);
        Ok(Json(HistoryAnswer {
            router: router.to_string(),
            since: range.since.to_string(),
            until: range.until.to_string(),
            rows: query::history_lines(&rows.value[left_out..]).map_err(unwritten)?,
            cut: left_out > 0,
            warnings: rows.warnings,
        }))
    };
    app.questions.ask(ask).await
}

fn unwritten(error: serde_json::Error) -> ApiError {
    ApiError::failed(format!("the answer cannot be written: {error}"))
}

/// An interval; a day until now where nothing is said.
fn range(since: &Option<String>, until: &Option<String>, now: Micros) -> Result<Range, ApiError> {
    let read = |text: &str| parse_when(text, now).map_err(QueryError::from);
    let since = read(since.as_deref().unwrap_or(SINCE_DEFAULT))?;
    let until = read(until.as_deref().unwrap_or("now"))?;
    if until < since {
        return Err(QueryError::Interval { since, until }.into());
    }
    Ok(Range { since, until })
}

fn selector(text: &str) -> Result<Selector, ApiError> {
    text.parse().map_err(|error: query::SelectorError| ApiError::wrong(error.to_string()))
}
