//! Drawings of ways that were really walked, and of some that never were.

use super::*;
use crate::query::{Traces, find_router, sample};

fn answer(fec: &str, at: storage::time::Micros) -> TraceAnswer {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let router = find_router(folder.path(), "pe1").unwrap();
    let traces = Traces::open(folder.path(), at).unwrap().value;
    traces.trace(router, fec.parse().unwrap()).answer(Vec::new())
}

/// Every text of a drawing, which must be well-formed.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let texts = document
        .descendants()
        .filter(|node| node.has_tag_name("text") || node.tag_name().name() == "text");
    texts.filter_map(|node| node.text()).map(|text| text.trim().to_owned()).collect()
}

#[test]
fn every_router_label_and_verdict_of_the_answer_is_drawn() {
    let broken = answer(sample::CUSTOMER, sample::FAILURE.offset(100_000));
    let svg = draw(&broken);
    let texts = texts(&svg);
    for step in &broken.steps {
        assert!(texts.contains(&step.name), "{} in {texts:?}", step.name);
        for branch in &step.branches {
            assert!(texts.contains(&way_words(branch)), "{} in {texts:?}", way_words(branch));
        }
    }
    assert!(texts.contains(&"✕ broken".to_owned()), "{texts:?}");
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("192.0.2.2: withdrawn at")
                || text.starts_with("withdrawn at")),
        "{texts:?}"
    );
    assert!(svg.contains("aria-label=\"The way of vrf:192.0.2.3,65000:2 from pe1: broken over"));
    // The break stands out by its colour.
    assert!(svg.contains("#A8201B") && !svg.contains("#176930"), "{svg}");

    let delivered = draw(&answer(sample::CUSTOMER, sample::NOW));
    assert!(delivered.contains("✓ delivered") && delivered.contains("#176930"), "{delivered}");
    assert!(!delivered.contains(" style=") && !delivered.contains("<style"), "{delivered}");
}

#[test]
fn what_routers_say_stands_in_the_drawing_as_text() {
    let mut trace = answer(sample::CUSTOMER, sample::NOW);
    trace.steps[0].name = "<script>&\"'".to_owned();
    trace.start = "\"><script>".to_owned();
    let svg = draw(&trace);
    assert!(!svg.contains("<script"), "{svg}");
    assert!(texts(&svg).contains(&"<script>&\"'".to_owned()));
}

#[test]
fn branches_are_named_for_what_they_are_and_too_many_are_not_drawn() {
    let mut trace = answer(sample::LOOPBACK, sample::NOW);
    let branch = trace.steps[0].branches[0].clone();
    trace.steps[0].branches.push(branch.clone());
    assert!(texts(&draw(&trace)).iter().any(|text| text.starts_with("push, ECMP of 2: ")));
    trace.steps[0].operation = Some("replicate".to_owned());
    assert!(texts(&draw(&trace)).iter().any(|text| text.starts_with("replicate, 2 copies: ")));

    let end =
        EndAnswer { verdict: "broken".into(), router: "192.0.2.9".into(), detail: "x".into() };
    let lost = BranchAnswer { onward: OnwardAnswer::End(end), ..branch };
    trace.steps[0].branches = vec![lost; BOXES_MAX + 1];
    assert!(draw(&trace).contains("too many ways"));
    trace.steps.clear();
    assert!(draw(&trace).contains("nothing to draw"));
}
