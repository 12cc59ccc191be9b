//! Charts of the page: the last quarter of an hour, and one burst under the microscope.
//!
//! In:   moments and bursts of the watch; how wide the page is.
//! Out:  fragments of HTML: an SVG and the names of its lines.
//! Law:  what is merged to fit the width keeps its highest value: a peak is never drawn away.
//! Not:  how a chart is drawn (`chart`), the way of an LSP (`drawing`).

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use serde::Deserialize;

use super::App;
use super::api::ApiError;
use super::api::bursts;
use super::api::past::{self, DensityQuestion};
use crate::chart::{Chart, Series, short, strip};
use crate::watch::{Bin, Burst, Moment, Moved};

/// Widths that are drawn, in pixels of the page.
const WIDTHS: std::ops::RangeInclusive<u32> = 280..=1_600;
const WIDTH_DEFAULT: u32 = 720;
/// Of the strip above the slider, in pixels.
const STRIP_HEIGHT: u32 = 40;

/// How wide.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Size {
    width: Option<u32>,
}

impl Size {
    /// Width and height of a chart.
    fn chart(&self) -> (u32, u32) {
        let width = self.width.unwrap_or(WIDTH_DEFAULT);
        let width = width.clamp(*WIDTHS.start(), *WIDTHS.end());
        (width, (width / 3).clamp(170, 260))
    }
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/charts/now/{what}", get(now))
        .route("/charts/bursts/{id}/{what}", get(burst))
        .route("/charts/density", get(density))
}

/// What is to be counted, and how wide.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted {
    since: Option<String>,
    until: Option<String>,
    router: Option<String>,
    width: Option<u32>,
}

/// Changes over the time that a slider spans, without axes: it stands above the slider.
async fn density(
    State(app): State<App>,
    counted: Result<Query<Counted>, QueryRejection>,
) -> Fragment {
    let Query(Counted { since, until, router, width }) = counted?;
    let (width, _) = Size { width }.chart();
    let bins = Some(width as usize / 3);
    let counted = past::count(&app, DensityQuestion { since, until, router, bins }).await?;
    Ok(Html(strip(&counted.changes, (width, STRIP_HEIGHT))))
}

type Fragment = Result<Html<String>, ApiError>;

/// A chart of the last quarter of an hour.
async fn now(
    State(app): State<App>,
    what: Result<Path<String>, PathRejection>,
    size: Result<Query<Size>, QueryRejection>,
) -> Fragment {
    let (Path(what), Query(size)) = (what?, size?);
    let moments = app.sources.watch.moments();
    let line = |name: &str, value: fn(&Moment) -> f64| {
        let points = moments.iter().map(|moment| (seconds(moment.time_us), value(moment)));
        Series::line(name, thin(points.collect(), size.chart().0))
    };
    let (y, series) = match what.as_str() {
        "mappings" => (
            "mappings/s",
            vec![
                line("mappings", |moment| rate(moment, moment.gained.mappings)),
                line("changes", |moment| rate(moment, moment.gained.changes)),
            ],
        ),
        "bytes" => {
            ("bytes/s", vec![line("received", |moment| rate(moment, moment.gained.received_bytes))])
        }
        "surge" => (
            "bytes",
            vec![line("waiting, highest of each second", |moment| {
                moment.memory.surge_high_bytes as f64
            })],
        ),
        _ => return Err(unknown()),
    };
    Ok(fragment(&Chart {
        x: "time of day, UTC",
        y,
        series,
        logarithmic: false,
        x_label: time_of_day,
        size: size.chart(),
    }))
}

/// A chart of one burst.
async fn burst(
    State(app): State<App>,
    place: Result<Path<(i64, String)>, PathRejection>,
    size: Result<Query<Size>, QueryRejection>,
) -> Fragment {
    let (Path((id, what)), Query(size)) = (place?, size?);
    let burst = bursts::find(&app, id).await?;
    let (y, series) = match what.as_str() {
        "mappings" => {
            ("mappings per bin", vec![bins(&burst, "mappings", size.chart().0, |bin| bin.mappings)])
        }
        "bytes" => (
            "bytes per bin",
            vec![
                bins(&burst, "received", size.chart().0, |bin| bin.received_bytes),
                bins(&burst, "waiting", size.chart().0, |bin| bin.surge_bytes),
            ],
        ),
        "kernel" if !burst.head.moved.iter().any(is_drawn) => {
            let sentence = match burst.head.moved.is_empty() {
                true => "<p class=\"good\">no counter of the kernel moved</p>\n",
                false => "<p class=\"none\">no counter moved but times, which stand below</p>\n",
            };
            return Ok(Html(sentence.to_owned()));
        }
        "kernel" => ("moved by", kernel(&burst)),
        _ => return Err(unknown()),
    };
    Ok(fragment(&Chart {
        x: "ms since the burst began",
        y,
        series,
        logarithmic: false,
        x_label: short,
        size: size.chart(),
    }))
}

fn bins(burst: &Burst, name: &str, width: u32, value: fn(&Bin) -> u64) -> Series {
    let step_ms = burst.bin_us as f64 / 1_000.0;
    let points = burst.bins.iter().zip(0_u32..);
    let points = points.map(|(bin, place)| (f64::from(place) * step_ms, value(bin) as f64));
    Series::line(name, thin(points.collect(), width))
}

/// Times, which move on every host and by far more than any count would, are not drawn.
fn is_drawn(moved: &Moved) -> bool {
    !moved.counter.ends_with("_us")
}

/// Every counter that moved, a dot at each step; over the length of the burst.
fn kernel(burst: &Burst) -> Vec<Series> {
    let ms = |time_us: i64| (time_us - burst.head.start_us) as f64 / 1_000.0;
    let ends = vec![(0.0, 0.0), (ms(burst.head.end_us).max(1.0), 0.0)];
    let mut series = vec![Series::line("length of the burst", ends)];
    for moved in burst.head.moved.iter().filter(|moved| is_drawn(moved)) {
        let steps = burst.steps.iter().filter(|step| step.counter == moved.counter);
        let points = steps.map(|step| (ms(step.time_us), step.by as f64));
        series.push(Series::dots(moved.counter.as_str(), points.collect()));
    }
    series
}

/// One point per two pixels, the highest of those that fall together.
fn thin(points: Vec<(f64, f64)>, width: u32) -> Vec<(f64, f64)> {
    let most = (width as usize / 2).max(2);
    let together = points.len().div_ceil(most).max(1);
    let highest = |points: &[(f64, f64)]| {
        points.iter().copied().max_by(|left, right| left.1.total_cmp(&right.1))
    };
    points.chunks(together).filter_map(highest).collect()
}

fn fragment(chart: &Chart) -> Html<String> {
    Html(chart.svg() + &chart.legend())
}

fn unknown() -> ApiError {
    let message = "there is no such chart".to_owned();
    ApiError { status: StatusCode::NOT_FOUND, message }
}

fn rate(moment: &Moment, gained: u64) -> f64 {
    gained as f64 * 1e6 / (moment.span_us.max(1) as f64)
}

fn seconds(time_us: i64) -> f64 {
    time_us as f64 / 1e6
}

/// 16:04:05.
fn time_of_day(seconds: f64) -> String {
    let second = (seconds.rem_euclid(86_400.0)) as u32;
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merged_keeps_its_peak() {
        let mut points: Vec<(f64, f64)> = (0..6_000).map(|x| (f64::from(x), 1.0)).collect();
        points[4_321].1 = 99.0;
        let thinned = thin(points.clone(), 400);
        assert!(thinned.len() <= 200 && thinned.contains(&(4_321.0, 99.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(thin(points[..100].to_vec(), 400), points[..100]);
        assert_eq!(thin(vec![], 400), []);
        assert_eq!(time_of_day(1_795_320_000.0 + 3_599.9), "04:59:59");
    }
}
