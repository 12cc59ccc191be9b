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
use storage::allowance::Allowance;
use storage::history::walk::Follow;
use storage::time::{MICROS_PER_HOUR, Micros};
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Fault};
use crate::drawing;
use crate::http::App;
use crate::query::{
    self, Answered, FecRow, Format, HistoryLine, Instant, QueryError, Range, RowsMissing, Selector,
    TraceAnswer, find_router_within, parse_when, render_traced,
};

/// How far back a question goes that does not say it.
const SINCE_DEFAULT: &str = "-24h";
/// Rows of an answer, unless more are asked for.
const ROWS_DEFAULT: usize = 1_000;
/// Rows of an answer at most.
const ROWS_MAX: usize = 10_000;

/// FECs of an answer at most.
const FECS_MAX: usize = 1_000;
/// Bins of an answer, unless others are asked for: five minutes of a day each.
const BINS_DEFAULT: usize = 288;
/// Bins of an answer at most.
const BINS_MAX: usize = 2_000;
/// The longest interval whose changes are counted.
const DENSITY_MAX_US: i64 = 31 * 24 * MICROS_PER_HOUR;

/// Which LSP, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceQuestion {
    /// Id or name of the router where the path begins.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    router: String,
    /// FEC that the packet is for, or label:24[,table] for a packet that comes in with that label.
    #[param(pattern = "^(ip:[0-9A-Fa-f.:]+(/[0-9]{1,3})?(,.+)?\
                   |vrf:[0-9A-Fa-f.:]+,[0-9.]+:[0-9]+(,[0-9A-Fa-f.:]+(/[0-9]{1,3})?)?\
                   |(vsi|ac):[0-9A-Fa-f.:]+,[0-9]{1,10}|(vrf-name|interface):.+\
                   |name:(rsvp|sr-prefix|sr-adjacency|mldp|te-binding|other),.+\
                   |unknown|label:[0-9]{1,7}(,[0-9]{1,10})?)$")]
    fec: String,
    /// The instant; now if it is left out.
    at: Option<String>,
    /// Whether to draw it too: an SVG, in the colours of the page's style.
    draw: Option<bool>,
    /// Whether to follow backup branches too, as if their primaries had failed.
    with_backups: Option<bool>,
}

/// The way of an LSP, for programs and for people.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TracePage {
    /// The way, as `stormdrain trace --format json` says it.
    #[serde(flatten)]
    pub trace: TraceAnswer,
    /// The same in words, as `stormdrain trace` prints it.
    pub tree: String,
    /// The same as SVG, if it was asked for.
    pub drawing: Option<String>,
}

/// Which LSP, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuestion {
    /// Id or name of the router where the path begins.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    router: String,
    /// FEC that the packet is for, or label:24[,table] for a packet that comes in with that label.
    #[param(pattern = "^(ip:[0-9A-Fa-f.:]+(/[0-9]{1,3})?(,.+)?\
                   |vrf:[0-9A-Fa-f.:]+,[0-9.]+:[0-9]+(,[0-9A-Fa-f.:]+(/[0-9]{1,3})?)?\
                   |(vsi|ac):[0-9A-Fa-f.:]+,[0-9]{1,10}|(vrf-name|interface):.+\
                   |name:(rsvp|sr-prefix|sr-adjacency|mldp|te-binding|other),.+\
                   |unknown|label:[0-9]{1,7}(,[0-9]{1,10})?)$")]
    fec: String,
    /// The instant; now if it is left out.
    at: Option<String>,
    /// Whether backup branches are followed too: then their changes count.
    with_backups: Option<bool>,
}

/// The changes of an LSP next to an instant.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangesAnswer {
    /// The instant.
    pub at: String,
    /// The last change before it, of any entry on the way just before it.
    pub previous: Option<String>,
    /// The first change after it, of any entry on the way at the instant.
    pub next: Option<String>,
    /// How far was looked for the next.
    pub looked_until: String,
    /// What stands in the way of a whole answer.
    pub warnings: Vec<String>,
    /// Where rows of the log are missing from it; empty = it is whole.
    pub rows_missing: Vec<RowsMissing>,
}

/// Whose FECs, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FecsQuestion {
    /// Id or name of the router.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    router: String,
    /// The instant; now if it is left out.
    at: Option<String>,
    /// Only those with these letters in them.
    letters: Option<String>,
}

/// What may be asked for at a router.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FecsAnswer {
    /// FECs first, then labels.
    pub fecs: Vec<FecEntry>,
    /// Whether these are all; 1,000 are listed at most.
    pub whole: bool,
    /// What stands in the way of a whole answer.
    pub warnings: Vec<String>,
    /// Where rows of the log are missing from it; empty = it is whole.
    pub rows_missing: Vec<RowsMissing>,
}

/// A FEC that a router knows, or a label that it takes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FecEntry {
    /// As /api/v1/trace takes it.
    pub fec: String,
    /// What the router does with it, in words.
    pub words: String,
}

/// When, whose, and how fine.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DensityQuestion {
    /// From when on; a day ago if it is left out.
    pub(in crate::http) since: Option<String>,
    /// Until when; now if it is left out.
    pub(in crate::http) until: Option<String>,
    /// Only changes of this router, by id or name.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub(in crate::http) router: Option<String>,
    /// Bins, 1 to 2,000; 288 if it is left out.
    pub(in crate::http) bins: Option<usize>,
}

/// How many changes there were, and when.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DensityAnswer {
    /// The interval.
    pub since: String,
    /// Its end.
    pub until: String,
    /// Width of a bin, microseconds.
    pub bin_us: i64,
    /// Changes in each bin.
    pub changes: Vec<u64>,
    /// What stands in the way of a whole answer.
    pub warnings: Vec<String>,
    /// Where rows of the log are missing from it; empty = it is whole.
    pub rows_missing: Vec<RowsMissing>,
}

/// Whose entries, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuestion {
    /// Id or name of the router.
    #[param(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    router: String,
    /// Only entries for this FEC (or label:24[,table]).
    #[param(pattern = "^(ip:[0-9A-Fa-f.:]+(/[0-9]{1,3})?(,.+)?\
                   |vrf:[0-9A-Fa-f.:]+,[0-9.]+:[0-9]+(,[0-9A-Fa-f.:]+(/[0-9]{1,3})?)?\
                   |(vsi|ac):[0-9A-Fa-f.:]+,[0-9]{1,10}|(vrf-name|interface):.+\
                   |name:(rsvp|sr-prefix|sr-adjacency|mldp|te-binding|other),.+\
                   |unknown|label:[0-9]{1,7}(,[0-9]{1,10})?)$")]
    fec: Option<String>,
    /// Only entries with this ingress label; 24,7 = in label table 7.
    #[param(pattern = "^[0-9]{1,7}(,[0-9]{1,10})?$")]
    label: Option<String>,
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
    /// Where rows of the log are missing from it; empty = it is whole.
    pub rows_missing: Vec<RowsMissing>,
}

/// What says of itself where rows of the log are missing from it.
pub(in crate::http) trait Lacking {
    /// These places; none = it is whole.
    fn rows_missing(&self) -> &[RowsMissing];
}

macro_rules! lacking {
    ($($answer:ty: $($field:ident).+;)+) => {
        $(impl Lacking for $answer {
            fn rows_missing(&self) -> &[RowsMissing] {
                &self.$($field).+
            }
        })+
    };
}

lacking! {
    TracePage: trace.rows_missing;
    ChangesAnswer: rows_missing;
    FecsAnswer: rows_missing;
    DensityAnswer: rows_missing;
    HistoryAnswer: rows_missing;
    super::RoutersAnswer: rows_missing;
}

impl<T: Lacking> Lacking for Json<T> {
    fn rows_missing(&self) -> &[RowsMissing] {
        self.0.rows_missing()
    }
}

impl<T> Lacking for Answered<T> {
    fn rows_missing(&self) -> &[RowsMissing] {
        &self.rows_missing
    }
}

/// The way of an LSP at an instant, as the command line's `trace --format json` says it.
#[utoipa::path(
    get,
    path = "/api/v1/trace",
    params(TraceQuestion),
    responses(
        (status = 200, description = "Every path, and every router on it.", body = TracePage),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn trace(
    State(app): State<App>,
    question: Result<Query<TraceQuestion>, QueryRejection>,
) -> Result<Json<TracePage>, ApiError> {
    let Query(question) = question?;
    let at = instant(&question.at, app.sources.wall())?;
    let selector = selector(&question.fec)?;
    let data = app.sources.data.clone();
    let ask = move |allowance: &Allowance| {
        let follow = follow(question.with_backups);
        let traced = query::trace(&data, &question.router, selector, follow, at, Some(allowance))?;
        let tree = render_traced(&traced, Format::Table);
        let trace = traced.value.answer(traced.warnings).lacking(&traced.rows_missing);
        let drawing = question.draw.unwrap_or(false).then(|| drawing::draw(&trace));
        Ok(Json(TracePage { trace, tree, drawing }))
    };
    app.answer(ask).await
}

/// The changes of an LSP next to an instant, of all entries on its way together.
#[utoipa::path(
    get,
    path = "/api/v1/trace/changes",
    params(ChangesQuestion),
    responses(
        (status = 200, description = "The change before and the one after.", body = ChangesAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn changes(
    State(app): State<App>,
    question: Result<Query<ChangesQuestion>, QueryRejection>,
) -> Result<Json<ChangesAnswer>, ApiError> {
    let Query(question) = question?;
    let now = app.sources.wall();
    let at = instant(&question.at, now)?;
    let selector = selector(&question.fec)?;
    let data = app.sources.data.clone();
    let ask = move |allowance: &Allowance| {
        let router = &question.router;
        let follow = follow(question.with_backups);
        let changes =
            query::lsp_changes(&data, router, selector, follow, at, now, Some(allowance))?;
        Ok(Json(ChangesAnswer {
            at: at.to_string(),
            previous: changes.value.previous.map(|time| time.to_string()),
            next: changes.value.next.map(|time| time.to_string()),
            looked_until: changes.value.looked_until.to_string(),
            warnings: changes.warnings,
            rows_missing: changes.rows_missing,
        }))
    };
    app.answer(ask).await
}

/// FECs and labels that a router's table has, to pick one for /api/v1/trace.
#[utoipa::path(
    get,
    path = "/api/v1/fecs",
    params(FecsQuestion),
    responses(
        (status = 200, description = "FECs first, then labels.", body = FecsAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn fecs(
    State(app): State<App>,
    question: Result<Query<FecsQuestion>, QueryRejection>,
) -> Result<Json<FecsAnswer>, ApiError> {
    let Query(question) = question?;
    let at = instant(&question.at, app.sources.wall())?;
    let data = app.sources.data.clone();
    let ask = move |allowance: &Allowance| {
        let router = find_router_within(&data, &question.router, Some(allowance))?;
        let network = query::network_within(&data, at, Some(router), Some(allowance))?;
        let letters = question.letters.unwrap_or_default();
        let (rows, whole) = query::fecs(&network.value, router, &letters, FECS_MAX);
        let entry = |row: FecRow| FecEntry {
            fec: row.fec,
            words: row.of.map_or_else(
                || row.operation.to_owned(),
                |fec| format!("{} for {fec}", row.operation),
            ),
        };
        let fecs = rows.into_iter().map(entry).collect();
        let (warnings, rows_missing) = (network.warnings, network.rows_missing);
        Ok(Json(FecsAnswer { fecs, whole, warnings, rows_missing }))
    };
    app.answer(ask).await
}

/// How many changes there were in each part of an interval.
#[utoipa::path(
    get,
    path = "/api/v1/density",
    params(DensityQuestion),
    responses(
        (status = 200, description = "Changes per bin.", body = DensityAnswer),
        (status = "4XX", description = "The question is wrong.", body = Fault),
        (status = "5XX", description = "There is no answer now.", body = Fault),
    )
)]
pub(super) async fn density(
    State(app): State<App>,
    question: Result<Query<DensityQuestion>, QueryRejection>,
) -> Result<Json<DensityAnswer>, ApiError> {
    let Query(question) = question?;
    Ok(Json(count(&app, question).await?))
}

/// The answer about density, for the interface and for the chart above the slider.
pub(in crate::http) async fn count(
    app: &App,
    question: DensityQuestion,
) -> Result<DensityAnswer, ApiError> {
    let range = range(&question.since, &question.until, app.sources.wall())?;
    let bins = question.bins.unwrap_or(BINS_DEFAULT);
    if !(1..=BINS_MAX).contains(&bins) {
        return Err(ApiError::wrong(format!("bins is {bins}: write 1 to {BINS_MAX}")));
    }
    if range.until.since(range.since) > DENSITY_MAX_US {
        return Err(ApiError::wrong("density is counted for 31 days at most"));
    }
    let data = app.sources.data.clone();
    let ask = move |allowance: &Allowance| {
        let router =
            question.router.map(|router| find_router_within(&data, &router, Some(allowance)));
        let router = router.transpose()?;
        let counted = query::density(&data, range, bins, router, Some(allowance))?;
        Ok(DensityAnswer {
            since: range.since.to_string(),
            until: range.until.to_string(),
            bin_us: counted.value.bin_us,
            changes: counted.value.changes,
            warnings: counted.warnings,
            rows_missing: counted.rows_missing,
        })
    };
    app.answer(ask).await
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
    let now = app.sources.wall();
    let shown = range(&question.since, &question.until, now)?;
    // Up to now means whatever has been read.
    let is_now = question.until.as_deref().is_none_or(|until| until == "now");
    let range = if is_now { Range { until: Micros::MAX, ..shown } } else { shown };
    let selector = match (&question.fec, &question.label) {
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
    let ask = move |allowance: &Allowance| {
        let router = find_router_within(&data, &question.router, Some(allowance))?;
        let rows = query::history_within(&data, router, selector, range, Some(allowance))?;
        let left_out = rows.value.len().saturating_sub(limit);
        Ok(Json(HistoryAnswer {
            router: router.to_string(),
            since: shown.since.to_string(),
            until: shown.until.to_string(),
            rows: query::history_lines(&rows.value[left_out..]).map_err(unwritten)?,
            cut: left_out > 0,
            warnings: rows.warnings,
            rows_missing: rows.rows_missing,
        }))
    };
    app.answer(ask).await
}

fn follow(with_backups: Option<bool>) -> Follow {
    match with_backups {
        Some(true) => Follow::WithBackups,
        Some(false) | None => Follow::Primaries,
    }
}

/// The instant of a question; now if it says none.
fn instant(text: &Option<String>, now: Micros) -> Result<Instant, QueryError> {
    Instant::read(text.as_deref().unwrap_or("now"), now)
}

fn unwritten(error: serde_json::Error) -> ApiError {
    ApiError::failed(format!("the answer cannot be written: {error}"))
}

/// An interval; a day until now where nothing is said.
pub(super) fn range(
    since: &Option<String>,
    until: &Option<String>,
    now: Micros,
) -> Result<Range, ApiError> {
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
