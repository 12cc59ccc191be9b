//! Bursts: those that there were, and each under the microscope.
//!
//! In:   what the watch has seen.
//! Out:  heads, newest first; one burst with its bins of 10 ms and what moved in the kernel.
//! Law:  a burst that runs is among them.
//! Not:  what a burst is, and who is to blame (`watch`).

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::now::NoQuestion;
use super::{ApiError, Fault};
use crate::http::App;
use crate::watch::{Burst, Head};

/// The bursts that are known.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BurstsAnswer {
    /// Newest first.
    pub bursts: Vec<Head>,
}

/// The bursts, newest first, without their bins.
#[utoipa::path(
    get,
    path = "/api/v1/bursts",
    responses(
        (status = 200, description = "Bursts, newest first.", body = BurstsAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
    )
)]
pub(super) async fn bursts(
    State(app): State<App>,
    question: Result<Query<NoQuestion>, QueryRejection>,
) -> Result<Json<BurstsAnswer>, ApiError> {
    question?;
    Ok(Json(BurstsAnswer { bursts: app.sources.watch.bursts() }))
}

/// One burst: bins of 10 ms, and the kernel's counters as they moved.
#[utoipa::path(
    get,
    path = "/api/v1/bursts/{id}",
    params(("id" = i64, Path, description = "The burst's id: when it began.")),
    responses(
        (status = 200, description = "The burst in full.", body = Burst),
        (status = "4XX", description = "There is no such burst.", body = Fault),
    )
)]
pub(super) async fn burst(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
    question: Result<Query<NoQuestion>, QueryRejection>,
) -> Result<Json<Burst>, ApiError> {
    let (Path(id), _) = (id?, question?);
    let burst = app.sources.watch.burst(id).ok_or_else(|| {
        let message = format!("no burst {id} is known: /api/v1/bursts lists those that are");
        ApiError::new(StatusCode::NOT_FOUND, message)
    })?;
    Ok(Json(Arc::unwrap_or_clone(burst)))
}
