//! The JSON interface: `/api/v1/...`, for the page, `stormdrain top`, and programs of others.
//!
//! In:   requests; what the shards published, what the watch has seen, the log.
//! Out:  typed answers, errors as `{"error": ...}`, and their description in the words of OpenAPI.
//! Law:  what is served is described, and what is described is served (a test asks everything).
//! Not:  who may ask (`guard`), questions about the past themselves (`query`).

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use storage::log::LogError;
use utoipa::{OpenApi, ToSchema};

use super::App;
use crate::query::QueryError;

mod now;
pub(super) mod bursts;
mod events;
mod routers;
pub(super) mod past;
mod plan;

pub use bursts::BurstsAnswer;
pub use now::{MomentsAnswer, NowAnswer};
pub use past::{ChangesAnswer, DensityAnswer, FecEntry, FecsAnswer, HistoryAnswer, TracePage};
pub use plan::{NeedEntry, PlanAnswer};
pub use routers::{RouterEntry, RouterLive, RoutersAnswer};

/// Every path of the interface, and what it is answered with.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "stormdrain",
        description = "What the collector sees now, and what it can say of the past. Times are RFC \
                       3339, or microseconds since 1970 where a name ends in `_us`. Instants are \
                       asked for as on the command line: RFC 3339, `now`, or `-15m`. A router is \
                       its id or its name; a FEC is \
                       `ip:10.0.0.3/32[,table][,from=prefix][,tos=number]`, \
                       `vrf:192.0.2.3,65000:2[,prefix]`, `vrf-name:red[,prefix]`, \
                       `vsi:192.0.2.3,17`, `ac:192.0.2.3,17`, `name:rsvp,to-pe3`, \
                       `interface:xe-0/0/1.100`, `unknown`, or `label:24[,table]` for what comes \
                       in with that label."
    ),
    paths(
        now::now,
        now::moments,
        bursts::bursts,
        bursts::burst,
        events::events,
        routers::routers,
        past::trace,
        past::changes,
        past::history,
        past::fecs,
        past::density,
        plan::plan
    ),
    components(schemas(Fault))
)]
struct Description;

/// The routes of the interface.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/openapi.json", get(description))
        .route("/api/v1/now", get(now::now))
        .route("/api/v1/moments", get(now::moments))
        .route("/api/v1/bursts", get(bursts::bursts))
        .route("/api/v1/bursts/{id}", get(bursts::burst))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/routers", get(routers::routers))
        .route("/api/v1/trace", get(past::trace))
        .route("/api/v1/trace/changes", get(past::changes))
        .route("/api/v1/fecs", get(past::fecs))
        .route("/api/v1/density", get(past::density))
        .route("/api/v1/plan", get(plan::plan))
        .route("/api/v1/history", get(past::history))
        .route("/api/v1/{*rest}", get(unknown))
}

async fn description() -> impl IntoResponse {
    Json(Description::openapi())
}

async fn unknown() -> ApiError {
    let error = "there is nothing of this name: /api/v1/openapi.json says what there is";
    ApiError::new(StatusCode::NOT_FOUND, error)
}

/// What an error says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// What is wrong, and what would be right.
    pub error: String,
}

/// A question that is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into() }
    }

    /// So many ask that another must come again.
    pub(super) fn busy() -> ApiError {
        let message = "too many questions about the past are waiting: ask again in a moment";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// It took too long.
    pub(super) fn late(patience: Duration) -> ApiError {
        let message = format!(
            "no answer within {} s: ask for less, or ask the command line, which has all the time",
            patience.as_secs()
        );
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, message)
    }

    /// It needs more memory than questions may take.
    fn too_large(needed_bytes: u64, bytes_max: u64) -> ApiError {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let message = format!(
            "this question needs {:.1} MiB of memory or more, and one over HTTP may take {:.1}: \
             ask the command line, whose memory is its own; or about one router, or less time; or \
             raise question_memory_bytes",
            mebibytes(needed_bytes),
            mebibytes(bytes_max),
        );
        ApiError::new(StatusCode::INSUFFICIENT_STORAGE, message)
    }

    /// The collector's own failure.
    pub(super) fn failed(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Whoever asks must ask differently.
    pub(super) fn wrong(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let wait = (self.status == StatusCode::SERVICE_UNAVAILABLE)
            .then_some([(header::RETRY_AFTER, "1")]);
        (self.status, wait, Json(Fault { error: self.message })).into_response()
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        if let QueryError::Log(LogError::TooLarge { needed_bytes, bytes_max }) = error {
            return ApiError::too_large(needed_bytes, bytes_max);
        }
        let status = match &error {
            QueryError::RouterUnknown { .. } => StatusCode::NOT_FOUND,
            error if error.is_usage() => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, error.to_string())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::wrong(format!("{}; see /api/v1/openapi.json", rejection.body_text()))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> ApiError {
        ApiError::wrong(format!("{}; see /api/v1/openapi.json", rejection.body_text()))
    }
}

#[cfg(test)]
mod tests;
