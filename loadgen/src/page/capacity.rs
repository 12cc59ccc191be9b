//! The page of a capacity run.
//!
//! In:   a `CapacityReport`.
//! Out:  HTML: answers first, then every run of each search, then the laws of scalability.
//! Law:  void runs are shown as such, and never among the clean ones.
//! Not:  the searches (`capacity`).

use super::{figure, page, put, table};
use crate::capacity::rig::{Trial, What};
use crate::capacity::search::{Answer, Finding};
use crate::capacity::{CapacityReport, Found, Scale};
use engine::chart::{Chart, SIZE, Series, escaped, short};

/// The page.
pub fn capacity_page(report: &CapacityReport) -> String {
    let mut body = String::new();
    let class = if report.is_complete() { "good" } else { "bad" };
    let word = match report.first_limit.map(What::name) {
        Some(first) => format!("first limit of a network that grows: {first}"),
        None => "no limit was found".to_owned(),
    };
    put(&mut body, format_args!("<div class=\"verdict {class}\">\n<strong>{word}</strong>\n"));
    for found in &report.found {
        let sentence = escaped(&found.sentence());
        put(&mut body, format_args!("<br>\n{}: {sentence}\n", found.what.name()));
    }
    body.push_str("</div>\n");
    let rig = &report.settings.rig;
    body.push_str(&table(&[
        ("shards", format!("{} on CPUs {:?}", rig.shards, rig.host_cpus)),
        ("speakers", format!("on CPUs {:?}", rig.choir_cpus)),
        ("routers", format!("{} with {} entries each", rig.routers, rig.entries)),
        ("mappings per frame", rig.frame_mappings.to_string()),
        ("a router is blocked after", format!("{:?}", rig.blocked_max)),
        ("frames are too slow after", format!("{:?} (p99)", rig.p99_max)),
        ("void above", void_above(report)),
        ("kernel counters", whose(report).to_owned()),
    ]));
    report.found.iter().for_each(|found| search(&mut body, found));
    scale(&mut body, "shards", &report.shards);
    scale(&mut body, "connections", &report.connections);
    put(&mut body, format_args!("<h2>host</h2>\n<pre>{}</pre>\n", escaped(&report.host)));
    page("capacity of a host", &body)
}

fn void_above(report: &CapacityReport) -> String {
    let rig = &report.settings.rig;
    format!("{} ms late (p99.9), {} % foreign work", rig.late_ms_max, rig.disturbed_percent_max)
}

fn whose(report: &CapacityReport) -> &'static str {
    if report.own_namespace { "of a network namespace of the run's own" } else { "of the host" }
}

fn search(body: &mut String, found: &Found) {
    let name = found.what.name();
    put(body, format_args!("<h2>{name}</h2>\n<p>{}</p>\n", escaped(&found.sentence())));
    let of = |wanted: fn(&Finding) -> bool| -> Vec<(f64, f64)> {
        let trials = found.trials.iter().filter(|trial| wanted(&trial.finding));
        trials.map(|trial| (trial.load, trial.durable_ms[1].max(0.1))).collect()
    };
    let mut series = vec![
        Series::dots("clean", of(|finding| *finding == Finding::Clean)),
        Series::dots("with symptoms", of(|finding| matches!(finding, Finding::Symptoms(_)))),
        Series::dots("void", of(|finding| matches!(finding, Finding::Void(_)))),
    ];
    if let Answer::Limit { load, .. } = found.answer {
        let most = found.trials.iter().map(|trial| trial.durable_ms[1]).fold(1.0, f64::max);
        series.push(Series::line("limit", vec![(load, 0.5), (load, most)]));
    }
    let chart = Chart {
        x: found.what.unit(),
        y: "p99, ms",
        series,
        logarithmic: true,
        x_label: short,
        size: SIZE,
    };
    figure(body, "Every run: load, and p99 from the intended time until durable", &chart);
    body.push_str(
        "<table>\n<tr><th>load</th><th>finding</th><th>p50, p99 ms</th><th>uncorrected p99 ms</th>\
         <th>blocked ms</th><th>late ms</th><th>collector busy</th><th>kernel</th></tr>\n",
    );
    found.trials.iter().for_each(|trial| row(body, trial));
    body.push_str("</table>\n");
}

fn row(body: &mut String, trial: &Trial) {
    let finding = match &trial.finding {
        Finding::Clean => "clean".to_owned(),
        Finding::Void(_) => "void".to_owned(),
        Finding::Symptoms(symptoms) => {
            symptoms.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ")
        }
    };
    let moved = trial.moved.iter().map(|(name, by)| format!("{name} +{by}"));
    let moved = escaped(&moved.collect::<Vec<_>>().join(", "));
    put(
        body,
        format_args!(
            "<tr><td>{:.0}</td><td>{finding}</td><td>{:.0}, {:.0}</td><td>{:.0}</td><td>{:.0}</td>\
             <td>{:.1}</td><td>{:.0} %</td><td>{moved}</td></tr>\n",
            trial.load,
            trial.durable_ms[0],
            trial.durable_ms[1],
            trial.service_ms_p99,
            trial.blocked_ms_max,
            trial.honesty.late_ms_p999,
            trial.collector_busy * 100.0,
        ),
    );
}

fn scale(body: &mut String, name: &'static str, scale: &Scale) {
    if scale.points.is_empty() {
        return;
    }
    let sentence = escaped(&scale.sentence(name));
    put(body, format_args!("<h2>scalability over {name}</h2>\n<p>{sentence}</p>\n"));
    let of = |is_left_out: bool| {
        let points = scale.points.iter().filter(|point| point.left_out.is_some() == is_left_out);
        points.map(|point| (point.size as f64, point.rate)).collect::<Vec<_>>()
    };
    let mut series = vec![
        Series::dots("measured", of(false)),
        Series::dots("limited by the generator or disturbed, left out", of(true)),
    ];
    if let Some(law) = &scale.law {
        let most = scale.points.iter().map(|point| point.size).max().unwrap_or(1) as f64;
        let sizes = (0..=60).map(|step| 1.0 + (most - 1.0) * f64::from(step) / 60.0);
        series.push(Series::line("law", sizes.map(|size| (size, law.rate(size))).collect()));
    }
    let chart =
        Chart { x: name, y: "mappings/s", series, logarithmic: false, x_label: short, size: SIZE };
    figure(body, "Rate at several sizes", &chart);
}
