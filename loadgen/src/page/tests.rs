//! Pages of runs that were never run.

use tuning::host::Disturbance;

use super::*;
use crate::honesty::Label;
use crate::record::KernelSample;
use crate::report::{KernelReport, NetworkReport, Quantiles, StormReport};
use crate::verdict::Verdict;

fn act(late_ms: f64) -> ActReport {
    let quantiles = Quantiles { p50: 1.0, p99: 20.0, p999: late_ms, max: 90.0 };
    ActReport {
        speakers: 3,
        mappings: 1_000,
        frames: 10,
        frame_bytes: 20_000,
        document_bytes: 200_000,
        planned_seconds: 0.2,
        seconds: 0.5,
        mappings_per_second: 2_000.0,
        durable_ms: quantiles,
        service_ms: quantiles,
        written_ms: quantiles,
        late_ms: quantiles,
        honesty: Honesty::new(late_ms, Some(Disturbance::default())),
        durable_curve: vec![[0.0, 1.0], [0.9, 10.0], [0.99, 20.0], [1.0, 90.0]],
        service_curve: vec![[0.0, 0.5], [0.9, 5.0], [0.99, 9.0], [1.0, 30.0]],
    }
}

fn report(late_ms: f64) -> Report {
    let network =
        NetworkReport { seed: 1, routers: 3, links: 3, fecs: 2, vpns: 0, mappings: 1_000 };
    let what = "link <a> - <b> down".to_owned();
    Report {
        network,
        cold_start: act(1.0),
        storm: Some(StormReport { what, share: 0.2, act: act(late_ms) }),
        later: vec![],
        faults: Default::default(),
        kernel: Some(KernelReport { lost: vec![], pressed: vec![] }),
        notes: vec![],
        collector: None,
        verdict: Some(Verdict::default()),
    }
}

fn record() -> ActRecord {
    let sample = |at: u64| Sample {
        at_ms: at as f64 * 10.0,
        mappings_durable: at * at,
        shard_received_bytes: vec![at * 1_000, at * 3_000],
        resident_bytes: 50 << 20,
        ..Sample::default()
    };
    let moved = vec![("TcpExt.PruneCalled".to_owned(), 7)];
    ActRecord {
        act: "cold start",
        disturbance: Some(Disturbance::default()),
        samples: (0..20).map(sample).collect(),
        kernel: vec![
            KernelSample { at_ms: 0.0, moved: vec![] },
            KernelSample { at_ms: 100.0, moved },
        ],
    }
}

/// What an XML reader makes of the page: every element is closed, every text escaped.
fn elements(html: &str) -> Vec<String> {
    let xml = html.replacen("<!DOCTYPE html>\n", "", 1).replace("<br>", "<br/>");
    let xml = xml.replace("charset=\"utf-8\">", "charset=\"utf-8\"/>");
    let xml = xml.replace("initial-scale=1\">", "initial-scale=1\"/>");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let nodes = document.descendants().filter(roxmltree::Node::is_element);
    nodes.map(|node| node.tag_name().name().to_owned()).collect()
}

#[test]
fn a_page_is_whole_and_loads_nothing() {
    let html = run_page(&report(1.0), &[record()], "a host & its CPUs");
    let names = elements(&html);
    // Latency of two acts; of the recorded one sent, durable, counters, balance and memory.
    assert_eq!(names.iter().filter(|name| *name == "svg").count(), 7, "{names:?}");
    assert!(!names.iter().any(|name| ["script", "link", "img"].contains(&name.as_str())));
    assert!(!html.contains("src=") && !html.contains("@import") && !html.contains("url("));
    for part in ["link &lt;a&gt; - &lt;b&gt; down", "PruneCalled", "shard 1: 75 %", "a host &amp;"]
    {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn verdict_and_labels_come_first() {
    let place = |html: &str, text: &str| html.find(text).unwrap_or(usize::MAX);
    let html = run_page(&report(16.0), &[], "");
    let first = place(&html, "<h2>");
    assert!(place(&html, "NOT exact") < first);
    assert!(place(&html, "LIMITED BY THE GENERATOR: sends left up to 16.0 ms late") < first);
    let clean = run_page(&report(1.0), &[], "");
    assert!(place(&clean, "neither the generator nor others") < place(&clean, "<h2>"));
    assert!(report(16.0).storm.unwrap().act.honesty.labels.contains(&Label::GeneratorBound));
}

#[test]
fn page_and_data_are_written_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("not/yet");
    let page = write(&below, "<p>", &report(1.0)).unwrap();
    assert_eq!(std::fs::read_to_string(page).unwrap(), "<p>");
    let data = std::fs::read_to_string(below.join("report.json")).unwrap();
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!(data["network"]["routers"], 3);
}

#[test]
fn a_rate_is_that_of_ten_milliseconds_however_far_samples_are_apart() {
    let sample = |at_ms, mappings_durable| Sample { at_ms, mappings_durable, ..Sample::default() };
    let samples = [sample(0.0, 0), sample(10.0, 50), sample(30.0, 150), sample(30.0, 150)];
    let durable = rates(&samples, |sample| sample.mappings_durable as f64);
    assert_eq!(durable, [(10.0, 50.0), (30.0, 50.0)]);
}
