//! Events: moments and bursts as they happen, as server-sent events.
//!
//! In:   the news of the watch.
//! Out:  `event: moment` and `event: burst` with one line of JSON each; a comment when it is quiet.
//! Law:  a client that does not read misses news and holds one connection of the half that is for
//!       listeners, nothing else; who has
//!       only a token of before hears no more.
//! Not:  how many connections there may be (`server`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::now::NoQuestion;
use super::{ApiError, Fault};
use crate::http::App;
use crate::http::guard::Admission;
use crate::watch::{Head, Moment, News};

/// So long after the last event a comment says that the connection lives.
const QUIET: Duration = Duration::from_secs(15);

/// Moments (`event: moment`, once a second) and bursts (`event: burst`: begun, going on, over), as
/// they happen. The data of each is that of /api/v1/now's `moment` and of /api/v1/bursts.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    responses(
        (
            status = 200,
            description = "Server-sent events, without end.",
            content((Moment = "text/event-stream"), (Head = "text/event-stream")),
        ),
        (status = "4XX", description = "The question is wrong.", body = Fault),
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    question: Result<Query<NoQuestion>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    question?;
    let Ok(place) = Arc::clone(&app.listeners).try_acquire_owned() else {
        let message = "as many listen to events as may: close some, or ask /api/v1/now instead";
        return Err(ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: message.to_owned(),
        });
    };
    let listener = (app.sources.watch.listen(), app.guard.admission(), place);
    Ok(Sse::new(unfold(listener, next)).keep_alive(KeepAlive::new().interval(QUIET)))
}

/// What is heard, and for how long.
type Listener = (Receiver<News>, Admission, OwnedSemaphorePermit);

/// The next event. News that were missed are not made up for: each moment has the totals.
async fn next(
    (mut news, mut admission, place): Listener,
) -> Option<(Result<Event, Infallible>, Listener)> {
    loop {
        let told = tokio::select! {
            told = news.recv() => told,
            () = admission.ended() => return None,
        };
        let event = match told {
            Ok(News::Moment(moment)) => event("moment", &*moment),
            Ok(News::Burst(head)) => event("burst", &*head),
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return None,
        };
        // Plain values with text keys: they are always JSON.
        if let Some(event) = event {
            return Some((Ok(event), (news, admission, place)));
        }
    }
}

fn event(name: &str, value: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(value).ok()
}
