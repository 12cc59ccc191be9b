//! The page of a run: one HTML file that needs nothing beside it.
//!
//! In:   a `Report` and what was recorded beside it, a `CapacityReport`, or a `Replayed`.
//! Out:  `report.html` and `report.json` in a folder.
//! Law:  verdict and labels first; nothing is loaded from elsewhere, no script runs.
//! Not:  the figures (`report`, `record`, `capacity`), drawing (`engine::chart`).

mod capacity;
mod replay;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use engine::chart::{self, Chart, SIZE, Series, escaped, short};
use serde::Serialize;
use tuning::doctor::grouped;

use crate::honesty::Honesty;
use crate::record::{ActRecord, Sample};
use crate::report::{ActReport, Report};

pub use capacity::capacity_page;
pub use replay::replay_page;

const STYLE: &str = include_str!("page/style.css");

/// Writes a page and its data into a folder, which is made if it is not there. Returns where the
/// page is. Errors: the system's.
pub fn write(folder: &Path, html: &str, data: &impl Serialize) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(data).expect("a report has only text keys");
    std::fs::write(folder.join("report.json"), json + "\n")?;
    let page = folder.join("report.html");
    std::fs::write(&page, html)?;
    Ok(page)
}

/// The page of a run.
pub fn run_page(report: &Report, records: &[ActRecord], host: &str) -> String {
    let mut body = String::new();
    verdict(&mut body, report);
    let storms = report.storm.iter().chain(&report.later);
    let storms = storms.map(|storm| (storm.what.as_str(), &storm.act));
    let acts = [("cold start: every router connects and tells its table", &report.cold_start)];
    for (place, (what, act)) in acts.into_iter().chain(storms).enumerate() {
        put(&mut body, format_args!("<h2>{}</h2>\n", escaped(what)));
        figures(&mut body, act);
        let records = records.get(place);
        charts(&mut body, act, records);
    }
    if let Some(collector) = &report.collector {
        let shards: Vec<String> =
            collector.connections_per_shard.iter().map(u64::to_string).collect();
        let rows = [
            ("received", format!("{} bytes", grouped(collector.received_bytes))),
            ("change rows", grouped(collector.change_rows)),
            ("log", format!("{} bytes", grouped(collector.log_bytes))),
            ("sessions per shard", shards.join(" ")),
            ("restarts", collector.restarts.to_string()),
        ];
        put(&mut body, format_args!("<h2>collector</h2>\n{}", table(&rows)));
    }
    if let Some(verdict) = &report.verdict {
        let text = escaped(&verdict.to_string());
        put(&mut body, format_args!("<h2>every answer</h2>\n<pre>{text}</pre>\n"));
    }
    put(&mut body, format_args!("<h2>host</h2>\n<pre>{}</pre>\n", escaped(host)));
    page("a run of stormgen", &body)
}

/// Writing to a text cannot fail.
fn put(body: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = body.write_fmt(arguments);
}

fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}\
         </title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n\
         </html>\n",
        chart::STYLE
    )
}

fn table(rows: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| {
        format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value))
    };
    format!("<table>\n{}</table>\n", rows.iter().map(row).collect::<String>())
}

fn labels(what: &str, honesty: &Honesty) -> String {
    let label = |label| {
        let words = escaped(&honesty.words(label));
        format!("<p class=\"label\">{}: {words}</p>\n", escaped(what))
    };
    honesty.labels.iter().copied().map(label).collect()
}

fn verdict(body: &mut String, report: &Report) {
    let storms = report.storm.iter().chain(&report.later);
    let storms = storms.map(|storm| (storm.what.as_str(), &storm.act));
    let acts: Vec<(&str, &ActReport)> =
        std::iter::once(("cold start", &report.cold_start)).chain(storms).collect();
    let lost: Vec<String> = report
        .kernel
        .iter()
        .flat_map(|kernel| &kernel.lost)
        .map(|(name, by)| format!("{name} +{by}"))
        .collect();
    let (word, class) = match &report.verdict {
        Some(verdict) if verdict.is_exact() && lost.is_empty() => ("exact, nothing lost", "good"),
        Some(verdict) if verdict.is_exact() => ("exact, but the kernel squeezed or lost", "bad"),
        Some(_) => ("NOT exact", "bad"),
        None => ("the answers were not asked", ""),
    };
    let kernel = match &report.kernel {
        None => "kernel counters could not be read".to_owned(),
        Some(_) if lost.is_empty() => "no counter of loss moved in the kernel".to_owned(),
        Some(_) => format!("moved in the kernel: {}", lost.join(", ")),
    };
    let network = &report.network;
    put(
        body,
        format_args!(
            "<div class=\"verdict {class}\">\n<strong>{word}</strong><br>\n{}<br>\n{} routers, {} \
             links, {} mappings, seed {}\n",
            escaped(&kernel),
            network.routers,
            network.links,
            network.mappings,
            network.seed
        ),
    );
    if acts.iter().all(|(_, act)| act.honesty.is_clean()) {
        body.push_str("<br>\nneither the generator nor others on this host limited the run\n");
    }
    for (what, act) in &acts {
        body.push_str(&labels(what, &act.honesty));
    }
    for note in &report.notes {
        put(body, format_args!("<p>{}</p>\n", escaped(note)));
    }
    body.push_str("</div>\n");
}

fn figures(body: &mut String, act: &ActReport) {
    let ratio = act.document_bytes as f64 / act.frame_bytes.max(1) as f64;
    let rows = [
        ("routers that spoke", act.speakers.to_string()),
        ("mappings", format!("{} in {} frames", grouped(act.mappings), grouped(act.frames))),
        (
            "bytes",
            format!(
                "{} on the wire, {} of XML ({ratio:.1} to 1)",
                grouped(act.frame_bytes),
                grouped(act.document_bytes)
            ),
        ),
        (
            "time",
            format!(
                "planned over {:.3} s, durable after {:.3} s: {:.0} mappings/s",
                act.planned_seconds, act.seconds, act.mappings_per_second
            ),
        ),
        ("intended to durable", act.durable_ms.to_string()),
        ("sent to durable (uncorrected)", act.service_ms.to_string()),
        ("intended to written", act.written_ms.to_string()),
        ("sent late by", act.late_ms.to_string()),
        ("honesty", act.honesty.to_string()),
    ];
    body.push_str(&table(&rows));
}

fn charts(body: &mut String, act: &ActReport, record: Option<&ActRecord>) {
    figure(body, "Latency: share of mappings that were durable within", &latency(act));
    let Some(record) = record else { return };
    let samples = &record.samples;
    let burst = |y, name, value| Chart {
        x: "ms since the act began",
        y,
        series: vec![Series::line(name, rates(samples, value))],
        logarithmic: false,
        x_label: short,
        size: SIZE,
    };
    let every = format!("per 10 ms (looked at every {:.0} ms)", record.sample_ms());
    let sent = burst("kB per 10 ms", "sent", |it| it.bytes_sent as f64 / 1e3);
    figure(
        body,
        &format!("The burst: bytes that the kernel took from the routers, {every}"),
        &sent,
    );
    let durable = burst("mappings per 10 ms", "durable", |it| it.mappings_durable as f64);
    figure(body, &format!("The burst: mappings made durable, {every}"), &durable);
    kernel(body, record);
    shards(body, samples);
    let over = |value: fn(&Sample) -> Option<f64>| {
        let points = samples.iter().filter_map(|sample| Some((sample.at_ms, value(sample)?)));
        points.collect::<Vec<_>>()
    };
    figure(
        body,
        "Memory",
        &Chart {
            x: "ms since the act began",
            y: "MiB",
            series: vec![
                Series::line("resident, of this process", over(|it| mib(Some(it.resident_bytes)))),
                Series::line("surges and tables", over(|it| mib(it.shard_memory_bytes))),
            ],
            logarithmic: false,
            x_label: short,
            size: SIZE,
        },
    );
    figure(
        body,
        "Disk: the log",
        &Chart {
            x: "ms since the act began",
            y: "MiB",
            series: vec![Series::line("bytes of the log", over(|it| mib(it.log_bytes)))],
            logarithmic: false,
            x_label: short,
            size: SIZE,
        },
    );
}

fn mib(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| bytes as f64 / 1_048_576.0)
}

fn figure(body: &mut String, title: &str, chart: &Chart) {
    let (title, legend, svg) = (escaped(title), chart.legend(), chart.svg());
    put(body, format_args!("<figure>\n<h3>{title}</h3>\n{legend}{svg}</figure>\n"));
}

/// How far a count moved from each sample to the next, per 10 ms.
fn rates(samples: &[Sample], value: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let apart = pairs.filter(|(one, next)| next.at_ms > one.at_ms);
    apart
        .map(|(one, next)| {
            let span = (next.at_ms - one.at_ms) / 10.0;
            (next.at_ms, (value(next) - value(one)) / span)
        })
        .collect()
}

/// The x axis counts nines: 0 = none, 1 = 90 %, 2 = 99 %.
fn latency(act: &ActReport) -> Chart {
    let nines = |curve: &[[f64; 2]]| {
        let points = curve.iter().filter(|[share, _]| *share < 1.0);
        points.map(|[share, ms]| (-(1.0 - share).log10(), *ms)).collect()
    };
    Chart {
        x: "share of mappings",
        y: "ms",
        series: vec![
            Series::line("from the intended time", nines(&act.durable_curve)),
            Series::line("from the send (uncorrected)", nines(&act.service_curve)),
        ],
        logarithmic: true,
        x_label: |nines| {
            // Between whole nines the shares are no numbers that anybody asks for.
            if (nines - nines.round()).abs() > 1e-6 {
                return String::new();
            }
            let percent = 100.0 * (1.0 - 10.0_f64.powf(-nines));
            let text = format!("{percent:.3}");
            format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
        },
        size: SIZE,
    }
}

fn kernel(body: &mut String, record: &ActRecord) {
    let last = record.kernel.last().map_or(&[][..], |sample| sample.moved.as_slice());
    if last.is_empty() {
        let text = match record.kernel.is_empty() {
            true => "kernel counters could not be read",
            false => "no counter of loss or pressure moved in the kernel",
        };
        put(body, format_args!("<h3>Kernel counters</h3>\n<p class=\"note\">{text}</p>\n"));
        return;
    }
    let of = |name: &String| {
        let value = |moved: &[(String, i64)]| {
            moved.iter().find(|(moved, _)| moved == name).map_or(0.0, |(_, by)| *by as f64)
        };
        record.kernel.iter().map(|sample| (sample.at_ms, value(&sample.moved))).collect()
    };
    let series = last.iter().map(|(name, _)| Series::line(name.clone(), of(name))).collect();
    let chart = Chart {
        x: "ms since the act began",
        y: "moved by",
        series,
        logarithmic: false,
        x_label: short,
        size: SIZE,
    };
    figure(body, "Kernel counters that moved", &chart);
}

fn shards(body: &mut String, samples: &[Sample]) {
    let Some(last) = samples.last().filter(|last| !last.shard_received_bytes.is_empty()) else {
        return;
    };
    let all: u64 = last.shard_received_bytes.iter().sum();
    let count = last.shard_received_bytes.len();
    let series = (0..count).map(|shard| {
        let received = |sample: &Sample| {
            mib(sample.shard_received_bytes.get(shard).copied()).unwrap_or_default()
        };
        let points = samples.iter().map(|sample| (sample.at_ms, received(sample))).collect();
        let share = last.shard_received_bytes[shard] as f64 / all.max(1) as f64 * 100.0;
        Series::line(format!("shard {shard}: {share:.0} %"), points)
    });
    let chart = Chart {
        x: "ms since the act began",
        y: "MiB received",
        series: series.collect(),
        logarithmic: false,
        x_label: short,
        size: SIZE,
    };
    figure(body, "Balance of the shards", &chart);
}

#[cfg(test)]
mod tests;
