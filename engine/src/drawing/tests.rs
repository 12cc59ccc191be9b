//! Drawings of ways that were really walked, and of some that never were.

use super::*;
use crate::query::{Follow, Traces, find_router, sample, trace};

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
    let is_drawn = |told: &str| texts.iter().any(|text| text == told);
    for step in &broken.steps {
        assert!(is_drawn(&step.name), "{} in {texts:?}", step.name);
        assert!(step.entry.as_deref().is_none_or(is_drawn), "{:?} in {texts:?}", step.entry);
        for branch in &step.branches {
            assert!(texts.contains(&way_words(branch)), "{} in {texts:?}", way_words(branch));
        }
    }
    assert!(texts.contains(&"✕ broken".to_owned()), "{texts:?}");
    // The whole instant, on two lines if need be.
    let withdrawn = broken.steps.iter().find_map(|step| step.end.as_ref()).unwrap();
    let at = withdrawn.detail.rsplit_once(' ').unwrap().1;
    assert!(texts.iter().any(|text| text.starts_with("withdrawn at")), "{texts:?}");
    assert!(texts.iter().any(|text| text.ends_with(at)), "{at} in {texts:?}");
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

/// Elements of the drawing with a stroke of this colour.
fn strokes(svg: &str, colour: &str) -> usize {
    svg.matches(&format!("stroke=\"{colour}\"")).count()
}

#[test]
fn branches_are_named_for_what_they_are() {
    let mut trace = answer(sample::LOOPBACK, sample::NOW);
    let alone = strokes(&draw(&trace), "#101011");
    let branch = trace.steps[0].branches[0].clone();
    trace.steps[0].branches.push(branch);
    let choice = draw(&trace);
    assert!(texts(&choice).contains(&"push: ECMP over 2".to_owned()));
    trace.steps[0].operation = Some("replicate".to_owned());
    let copies = draw(&trace);
    assert!(texts(&copies).contains(&"replicate: 2 copies".to_owned()));
    // One way more, and its arrow; of a choice each way is a row of dashes.
    assert_eq!(strokes(&copies, "#101011"), alone + 2);
    assert!(strokes(&choice, "#101011") > alone + 2, "{choice}");
}

#[test]
fn of_too_many_boxes_those_on_a_bad_way_are_drawn_first() {
    let mut trace = answer(sample::LOOPBACK, sample::NOW);
    let branch = trace.steps[0].branches[0].clone();
    let ending = |verdict: &str, number: usize| {
        let detail = format!("{verdict} at number-{number}");
        let end = EndAnswer { verdict: verdict.into(), router: "192.0.2.9".into(), detail };
        BranchAnswer { onward: OnwardAnswer::End(end), ..branch.clone() }
    };
    let many = BOXES_MAX + 50;
    trace.steps.truncate(1);
    trace.steps[0].branches = (0..many).map(|number| ending("delivered", number)).collect();
    trace.steps[0].branches.push(ending("broken", many));
    let svg = draw(&trace);
    let told = format!("{BOXES_MAX} of {} boxes are drawn", many + 2);
    assert!(svg.contains(&told), "{svg}");
    let texts = texts(svg.split_once("</p>").unwrap().1);
    assert_eq!(texts.iter().filter(|text| text.starts_with("number-")).count(), BOXES_MAX - 1);
    assert!(texts.contains(&"✕ broken".to_owned()) && texts.contains(&format!("number-{many}")));
    assert!(texts.contains(&trace.steps[0].name));

    trace.steps[0].branches.truncate(BOXES_MAX - 1);
    assert!(!draw(&trace).contains("boxes are drawn"));
    trace.steps.clear();
    assert!(draw(&trace).contains("nothing to draw"));
}

#[test]
fn backups_are_grey_and_discards_have_a_colour_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_model(folder.path());
    let drawn = |fec: &str, follow: Follow| {
        let selector = fec.parse().unwrap();
        let traced = trace(folder.path(), "pe5", selector, follow, sample::NOW, None).unwrap();
        draw(&traced.value.answer(Vec::new()))
    };
    let discarded = drawn("ip:10.9.9.9/32", Follow::Primaries);
    assert!(texts(&discarded).contains(&"⊘ discarded".to_owned()), "{discarded}");
    assert!(strokes(&discarded, "#7B3FA1") > 0 && strokes(&discarded, "#A8201B") == 0);

    let spared = drawn("ip:10.5.0.1/32", Follow::Primaries);
    let words = texts(&spared);
    assert!(words.contains(&"push, 1 backup".to_owned()), "{words:?}");
    assert!(words.contains(&"[31] via 10.0.57.6 (backup)".to_owned()), "{words:?}");
    assert!(words.contains(&"– backup".to_owned()), "{words:?}");
    let followed = drawn("ip:10.5.0.1/32", Follow::WithBackups);
    assert!(!texts(&followed).contains(&"– backup".to_owned()), "{followed}");
    // Dashed: more strokes than one, and grey, whether followed or not.
    for svg in [&spared, &followed] {
        assert!(strokes(svg, "#606064") > 3, "{svg}");
    }
}
