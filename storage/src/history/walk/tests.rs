//! Tests of LSP walks: the draft's three examples, every verdict, and tables of any kind.
//!
//! In:   networks built of mappings, as routers would send them.
//! Out:  the paths and verdicts of their walks.
//! Law:  no table makes a walk hang or panic.
//! Not:  how rows become a network (`network::tests`).

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::history::network::Writer;
use crate::interface::Interface;
use crate::mapping::{Branches, Ingress, Origin, TimeSource};
use crate::router::RouterState;
use crate::row::{Basis, Change, InputMode, Reason, Row, Scope, SessionEvent};
use crate::table::{Applied, Arrival, SnapshotCounts};

mod ends;

const AT: Micros = Micros(1_795_000_000_000_000);

fn id(text: &str) -> RouterId {
    text.parse().unwrap()
}

/// `push ip:10.0.0.3/32 -1 untagged 24/144@10.0.0.2 25@10.0.0.4`
fn mapping(text: &str) -> Mapping {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [operation, fec, label, origin, branches @ ..] = words.as_slice() else {
        panic!("{text}");
    };
    let operation = Operation::ALL.into_iter().find(|one| one.name() == *operation).unwrap();
    let origin = match *origin {
        "untagged" => Origin::Untagged,
        "service" => Origin::Service,
        "platform" => Origin::Platform,
        router => Origin::Interface(id(router)),
    };
    let label = label.parse().ok().and_then(Label::new);
    let mut branches: Branches = branches.iter().map(|text| nhlfe(text)).collect();
    branches.sort_unstable();
    Mapping {
        fec: fec.parse().unwrap(),
        ingress: Ingress { label, origin },
        operation,
        branches,
        event_time: Micros(AT.0 - 1_000_000),
        time_source: TimeSource::Router,
        extra: None,
    }
}

fn nhlfe(text: &str) -> Nhlfe {
    let (stack, next_hop) = text.split_once('@').unwrap();
    let labels = stack.split('/').filter(|label| *label != "-");
    let next_hop = match next_hop {
        "fec" => NextHop::Fec,
        "recursive" => NextHop::Recursive,
        address => NextHop::Address(address.parse().unwrap()),
    };
    let stack = labels.map(|label| Label::new(label.parse().unwrap()).unwrap()).collect();
    Nhlfe::new(stack, next_hop)
}

/// Rows of a network, as its routers' sessions leave them.
#[derive(Default)]
struct Lab {
    rows: Vec<Row>,
    states: Vec<RouterState>,
}

impl Lab {
    /// A router with a complete table, connected for good.
    fn router(mut self, router: &str, addresses: &[&str], table: &[&str]) -> Lab {
        let mut state = RouterState::new(id(router));
        let time = Micros(AT.0 - 1_200_000);
        let begin = SessionEvent::Initiation {
            peer: "192.0.2.1:4000".parse().unwrap(),
            mode: InputMode::Framed,
            permanent: true,
            boot_time: None,
            clock: None,
            interfaces: addresses
                .iter()
                .map(|text| Interface::of_address(text.parse().unwrap()))
                .collect(),
            agent: Box::default(),
        };
        self.rows.push(Row::Session(state.session_row(time, begin)));
        self.states.push(state);
        table.iter().for_each(|text| self.say(router, &mapping(text)));
        let SnapshotCounts { confirmed, added, altered, vanished } = SnapshotCounts::default();
        let explicit = true;
        let end = SessionEvent::SnapshotComplete { explicit, confirmed, added, altered, vanished };
        self.event(router, time, end);
        self
    }

    fn state(&mut self, router: &str) -> &mut RouterState {
        self.states.iter_mut().find(|state| state.router == id(router)).unwrap()
    }

    fn event(&mut self, router: &str, time: Micros, event: SessionEvent) {
        let row = self.state(router).session_row(time, event);
        self.rows.push(Row::Session(row));
    }

    fn say(&mut self, router: &str, mapping: &Mapping) {
        let state = self.state(router);
        let position = state.next_position();
        let collection_time = Micros(AT.0 - 800_000);
        let arrival = Arrival { position, collection_time, basis: Basis::Live };
        if let Applied::Change(stamp) = state.apply(mapping, &arrival) {
            self.rows.push(Row::Change(Change { stamp, mapping: mapping.clone() }));
        }
    }

    fn withdraw(mut self, router: &str, text: &str) -> Lab {
        let mut gone = mapping(text);
        gone.operation = Operation::None;
        gone.branches.clear();
        self.say(router, &gone);
        self
    }

    fn gap(mut self, router: &str, key: Option<Key>) -> Lab {
        let start = Micros(AT.0 - 500);
        let reason = Reason::ConnectionLost;
        let scope = key.map_or(Scope::Router, Scope::Entry);
        self.event(router, Micros(AT.0 + 500), SessionEvent::Gap { start, scope, reason });
        self
    }

    fn walk(&self, head: &str, start: &str) -> Walk {
        let start = match start.strip_prefix("label:") {
            Some(label) => {
                Start::Label { label: Label::new(label.parse().unwrap()).unwrap(), table: 0 }
            }
            None => Start::Fec(start.parse().unwrap()),
        };
        trace(
            &Network::of_rows(&self.rows, AT, Writer::Present),
            id(head),
            start,
            Follow::Primaries,
        )
    }

    /// Paths as text: `R1[12 13] R2[13] R3[] delivered at R3`, one per line.
    fn paths(&self, head: &str, start: &str) -> Vec<String> {
        let (paths, all) = self.walk(head, start).paths(1_000);
        assert!(all);
        let mut lines: Vec<String> = paths.iter().map(path_text).collect();
        lines.sort_unstable();
        lines
    }
}

fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for hop in &path.hops {
        let labels: Vec<String> = hop.stack.iter().map(Label::to_string).collect();
        write!(text, "{}[{}] ", hop.router, labels.join(" ")).unwrap();
    }
    text + &path.verdict.to_string()
}

fn check(lab: &Lab, head: &str, start: &str, expected: &[&str]) {
    assert_eq!(lab.paths(head, start), expected, "{start} from {head}");
}

/// Figure 1 of the draft: R1 - R2 - R3, RD2 = 65000:2.
fn layer_3_vpn() -> Lab {
    Lab::default()
        .router(
            "192.0.2.1",
            &[],
            &[
                "push vrf:192.0.2.3,65000:2 -1 untagged 13@recursive",
                "push ip:192.0.2.3/32 13 service 12@192.0.2.2",
            ],
        )
        .router("192.0.2.2", &[], &["swap ip:192.0.2.3/32 12 platform 3@192.0.2.3"])
        .router("192.0.2.3", &[], &["pop vrf:192.0.2.3,65000:2 13 platform -@fec"])
}

#[test]
fn the_draft_s_layer_3_vpn_with_penultimate_hop_popping() {
    let lab = layer_3_vpn();
    let way = "192.0.2.1[12 13] 192.0.2.2[13] 192.0.2.3[] delivered at 192.0.2.3";
    check(&lab, "192.0.2.1", "vrf:192.0.2.3,65000:2", &[way]);
    check(&lab, "192.0.2.1", "vrf:192.0.2.3,65000:2,10.1.0.0/16", &[way]);
    // The steps carry what was met: FTN, service entry, ILM, ILM.
    let walk = lab.walk("192.0.2.1", "vrf:192.0.2.3,65000:2");
    let met = |step: &Step| step.met.as_ref().map(|met| met.key.to_string());
    let keys: Vec<Option<String>> = walk.steps.iter().map(met).collect();
    let expected = [
        "ftn vrf:192.0.2.3,65000:2",
        "service 13 ip:192.0.2.3/32",
        "ilm 12 platform",
        "ilm 13 platform",
    ];
    assert_eq!(keys, expected.map(|key| Some(key.to_owned())));
    assert!(walk.is_delivered());
    assert_eq!(walk.steps[0].branches[0].router, Some(id("192.0.2.1")));
    assert_eq!(walk.steps[1].branches[0].router, Some(id("192.0.2.2")));
}

#[test]
fn the_draft_s_virtual_private_wire_without_popping() {
    let lab = Lab::default()
        .router(
            "192.0.2.1",
            &[],
            &[
                "push ac:192.0.2.3,1 -1 untagged 13@recursive",
                "push ip:192.0.2.3/32 13 service 12@192.0.2.2",
            ],
        )
        .router("192.0.2.2", &[], &["swap ip:192.0.2.3/32 12 platform 23@192.0.2.3"])
        .router(
            "192.0.2.3",
            &[],
            &[
                "pop ip:192.0.2.3/32 23 platform -@recursive",
                "pop ac:192.0.2.3,1 13 platform -@fec",
            ],
        );
    let way = "192.0.2.1[12 13] 192.0.2.2[23 13] 192.0.2.3[] delivered at 192.0.2.3";
    check(&lab, "192.0.2.1", "ac:192.0.2.3,1", &[way]);
    check(
        &lab,
        "192.0.2.2",
        "label:12",
        &[
            // Without the service label the packet is the egress router's own.
            "192.0.2.2[23] 192.0.2.3[] delivered at 192.0.2.3",
        ],
    );
}

#[test]
fn the_draft_s_point_to_multipoint_tree() {
    let tree = |fec: &str| {
        Lab::default()
            .router("192.0.2.1", &[], &["push ip:232.1.1.1/32 -1 untagged 12@192.0.2.2"])
            .router(
                "192.0.2.2",
                &[],
                &[&format!("replicate {fec} 12 192.0.2.1 23@192.0.2.3 24@192.0.2.4")],
            )
            .router("192.0.2.3", &[], &[&format!("pop {fec} 23 192.0.2.2 -@fec")])
            .router("192.0.2.4", &[], &[&format!("pop {fec} 24 192.0.2.2 -@fec")])
    };
    // A leaf that does not say what it is the leaf of may be that of another tree.
    let unnamed = "unknown (fec-incomparable)";
    for (fec, end) in [("ip:232.1.1.1/32", "delivered"), ("unknown", unnamed)] {
        check(
            &tree(fec),
            "192.0.2.1",
            "ip:232.1.1.1/32",
            &[
                &format!("192.0.2.1[12] 192.0.2.2[23] 192.0.2.3[] {end} at 192.0.2.3"),
                &format!("192.0.2.1[12] 192.0.2.2[24] 192.0.2.4[] {end} at 192.0.2.4"),
            ],
        );
        // By label, from the one interface that has an entry for it.
        assert_eq!(tree(fec).paths("192.0.2.2", "label:12").len(), 2);
    }
}

#[test]
fn a_per_interface_entry_goes_before_the_platform_s_and_only_from_its_upstream() {
    let lab = Lab::default()
        .router("10.0.0.1", &[], &["push ip:10.0.0.9/32 -1 untagged 50@10.0.0.3"])
        .router("10.0.0.2", &[], &["push ip:10.0.0.9/32 -1 untagged 50@10.0.0.3"])
        .router(
            "10.0.0.3",
            &[],
            &[
                "swap ip:10.0.0.9/32 50 platform 3@10.0.0.9",
                "swap ip:10.0.0.9/32 50 10.0.0.2 60@10.0.0.4",
            ],
        )
        .router("10.0.0.4", &[], &["swap ip:10.0.0.9/32 60 platform 3@10.0.0.9"])
        .router("10.0.0.9", &[], &[]);
    check(
        &lab,
        "10.0.0.1",
        "ip:10.0.0.9/32",
        &["10.0.0.1[50] 10.0.0.3[] 10.0.0.9[] delivered at 10.0.0.9"],
    );
    check(
        &lab,
        "10.0.0.2",
        "ip:10.0.0.9/32",
        &["10.0.0.2[50] 10.0.0.3[60] 10.0.0.4[] 10.0.0.9[] delivered at 10.0.0.9"],
    );
}

#[test]
fn equal_cost_branches_make_a_tree_whose_steps_are_shared() {
    let lab = Lab::default()
        .router(
            "10.0.0.1",
            &[],
            &["push ip:10.0.0.9/32 -1 untagged 20@10.0.2.1 30@10.0.0.3 -@10.0.0.9"],
        )
        .router("10.0.0.2", &["10.0.2.1"], &["swap ip:10.0.0.9/32 20 platform 40@10.0.0.4"])
        .router("10.0.0.3", &[], &["swap ip:10.0.0.9/32 30 platform 40@10.0.0.4"])
        .router("10.0.0.4", &[], &["swap ip:10.0.0.9/32 40 platform 3@10.0.0.9"])
        .router("10.0.0.9", &[], &[]);
    check(
        &lab,
        "10.0.0.1",
        "ip:10.0.0.9/32",
        &[
            "10.0.0.1[20] 10.0.0.2[40] 10.0.0.4[] 10.0.0.9[] delivered at 10.0.0.9",
            "10.0.0.1[30] 10.0.0.3[40] 10.0.0.4[] 10.0.0.9[] delivered at 10.0.0.9",
            "10.0.0.1[] 10.0.0.9[] delivered at 10.0.0.9",
        ],
    );
    let walk = lab.walk("10.0.0.1", "ip:10.0.0.9/32");
    let at_4 = walk.steps.iter().filter(|step| step.router == id("10.0.0.4")).count();
    assert_eq!(at_4, 1, "two branches share the step at 10.0.0.4");
}

#[test]
fn a_packet_that_leaves_for_another_fec_is_misdelivered() {
    let lab = Lab::default()
        .router(
            "192.0.2.1",
            &[],
            &[
                "push vrf:192.0.2.3,65000:2 -1 untagged 13@recursive",
                "push ip:192.0.2.3/32 13 service 3@192.0.2.3",
                "push ip:10.7.0.0/16 -1 untagged 14@192.0.2.3",
            ],
        )
        .router(
            "192.0.2.3",
            &[],
            &[
                "pop vrf:192.0.2.3,65000:9 13 platform -@fec",
                "pop ip:10.6.0.0/16 14 platform -@fec",
            ],
        );
    check(
        &lab,
        "192.0.2.1",
        "vrf:192.0.2.3,65000:2",
        &["192.0.2.1[13] 192.0.2.3[] misdelivered at 192.0.2.3: entered for \
         vrf:192.0.2.3,65000:2, leaves for vrf:192.0.2.3,65000:9"],
    );
    check(
        &lab,
        "192.0.2.1",
        "ip:10.7.0.0/16",
        &["192.0.2.1[14] 192.0.2.3[] misdelivered at 192.0.2.3: entered for ip:10.7.0.0/16, \
         leaves for ip:10.6.0.0/16"],
    );
}

#[test]
fn an_lsp_that_ends_early_goes_on_as_ip() {
    let lab = Lab::default()
        .router("10.0.0.1", &[], &["push ip:10.0.0.9/32 -1 untagged 20@10.0.0.2"])
        .router("10.0.0.2", &[], &["swap ip:10.0.0.9/32 20 platform 3@10.0.0.3"])
        .router("10.0.0.3", &[], &["push ip:10.0.0.9/32 -1 untagged -@10.0.0.4"])
        .router("10.0.0.4", &[], &["push ip:10.0.0.9/32 -1 untagged -@10.0.0.9"])
        .router("10.0.0.9", &[], &[]);
    check(
        &lab,
        "10.0.0.1",
        "ip:10.0.0.9/32",
        &["10.0.0.1[20] 10.0.0.2[] 10.0.0.3[] unlabelled: goes on as IP at 10.0.0.3"],
    );
    // One that had no label from the beginning is followed to its end, and the verdict says so.
    check(
        &lab,
        "10.0.0.3",
        "ip:10.0.0.9/32",
        &["10.0.0.3[] 10.0.0.4[] 10.0.0.9[] unlabelled: goes on as IP at 10.0.0.3, \
         as far as 10.0.0.9"],
    );
    // Over one hop that is implicit null at work.
    check(&lab, "10.0.0.4", "ip:10.0.0.9/32", &["10.0.0.4[] 10.0.0.9[] delivered at 10.0.0.9"]);
}

#[test]
fn an_ip_table_that_pushes_again_carries_the_packet_on() {
    let lab = Lab::default()
        .router("10.0.0.1", &[], &["push ip:10.9.0.0/16 -1 untagged 20@10.0.0.2"])
        .router(
            "10.0.0.2",
            &[],
            &[
                "pop ip:10.9.0.0/16 20 platform -@recursive",
                "push ip:10.9.0.0/16 -1 untagged 30@10.0.0.3",
            ],
        )
        .router(
            "10.0.0.3",
            &[],
            &[
                "pop ip:10.9.0.0/16 30 platform -@recursive",
                "push ip:10.9.0.0/16 -1 untagged -@fec",
            ],
        );
    check(
        &lab,
        "10.0.0.1",
        "ip:10.9.0.0/16",
        &["10.0.0.1[20] 10.0.0.2[30] 10.0.0.3[] delivered at 10.0.0.3"],
    );
}

#[test]
fn the_longest_prefix_is_met() {
    let lab = Lab::default()
        .router(
            "10.0.0.1",
            &[],
            &[
                "push ip:10.9.0.0/16 -1 untagged 20@10.0.0.2",
                "push ip:10.0.0.0/8 -1 untagged 30@10.0.0.3",
                "push ac:10.9.1.1,5 -1 untagged 77@recursive",
                "push ip:10.9.1.0/24 77 service 20@10.0.0.2",
                "push ip:10.0.0.0/8 77 service 30@10.0.0.3",
            ],
        )
        .router("10.0.0.2", &[], &["pop ip:10.9.0.0/16 20 platform -@fec"])
        .router("10.0.0.3", &[], &["pop ip:10.0.0.0/8 30 platform -@fec"]);
    check(&lab, "10.0.0.1", "ip:10.9.4.0/24", &["10.0.0.1[20] 10.0.0.2[] delivered at 10.0.0.2"]);
    check(&lab, "10.0.0.1", "ip:10.8.0.0/16", &["10.0.0.1[30] 10.0.0.3[] delivered at 10.0.0.3"]);
    let service = lab.walk("10.0.0.1", "ac:10.9.1.1,5");
    assert_eq!(service.steps[1].stack.len(), 1);
    let met = service.steps[1].met.as_ref().unwrap();
    assert_eq!(met.key.to_string(), "service 77 ip:10.9.1.0/24");
}

#[test]
fn a_broken_lsp_says_where_and_why() {
    let lab = |last: &str| {
        Lab::default()
            .router("10.0.0.1", &[], &["push ip:10.0.0.9/32 -1 untagged 20@10.0.0.2"])
            .router("10.0.0.2", &[], &[last])
            .router("10.0.0.9", &[], &[])
    };
    let swap = "swap ip:10.0.0.9/32 20 platform 3@10.0.0.9";
    let cases = [
        (
            lab("swap ip:10.0.0.9/32 21 platform 3@10.0.0.9"),
            "10.0.0.1[20] 10.0.0.2[] broken at 10.0.0.2: no-entry",
        ),
        (
            lab(swap).withdraw("10.0.0.2", swap),
            "10.0.0.1[20] 10.0.0.2[] broken at 10.0.0.2: withdrawn at \
             2026-11-18T11:06:39.000000Z",
        ),
        (
            lab("swap ip:10.0.0.9/32 20 platform 20@10.0.0.2"),
            "10.0.0.1[20] 10.0.0.2[20] unknown (next-hop-own) at 10.0.0.2",
        ),
        (
            lab("swap ip:10.0.0.9/32 20 platform 3@10.0.0.77"),
            "10.0.0.1[20] 10.0.0.2[] unknown at 10.0.0.2: no router is known to own 10.0.0.77",
        ),
        (
            lab("swap ip:10.0.0.9/32 20 platform"),
            "10.0.0.1[20] 10.0.0.2[] broken at 10.0.0.2: no-branch",
        ),
    ];
    for (lab, expected) in cases {
        check(&lab, "10.0.0.1", "ip:10.0.0.9/32", &[expected]);
    }
    let unknown_head = "10.0.0.7[] unknown (never-heard) at 10.0.0.7";
    check(&lab(swap), "10.0.0.7", "ip:10.0.0.9/32", &[unknown_head]);
}

#[test]
fn tables_that_push_for_ever_are_cut_by_name() {
    let lab = Lab::default().router(
        "10.0.0.1",
        &[],
        &["push ip:10.0.0.9/32 -1 untagged 20@recursive", "push unknown 20 service 20@recursive"],
    );
    check(
        &lab,
        "10.0.0.1",
        "ip:10.0.0.9/32",
        &{
            let pushes = vec!["20"; STACK_LABELS_MAX + 1].join(" ");
            [format!("10.0.0.1[{pushes}] broken at 10.0.0.1: stack-too-deep")]
        }
        .each_ref()
        .map(String::as_str),
    );
}

#[test]
fn unknown_is_an_answer() {
    let since = Micros(AT.0 - 500);
    let lost = format!("unknown since {since} (connection-lost)");
    let vpn = "vrf:192.0.2.3,65000:2";
    // A gap of a router on the way: written after the instant, begun before it.
    let lab = layer_3_vpn().gap("192.0.2.2", None);
    let expected = format!("192.0.2.1[12 13] 192.0.2.2[] {lost} at 192.0.2.2");
    check(&lab, "192.0.2.1", vpn, &[expected.as_str()]);
    // A gap of the egress: what it owned then, nobody can say.
    let lab = layer_3_vpn().gap("192.0.2.3", None);
    let expected = format!("192.0.2.1[12 13] 192.0.2.2[13] 192.0.2.3[] {lost} at 192.0.2.3");
    check(&lab, "192.0.2.1", vpn, &[expected.as_str()]);
    // A gap of one entry; the entry is shown, with its standing.
    let key = Key::Ilm(Label::new(12).unwrap(), Origin::Platform);
    let lab = layer_3_vpn().gap("192.0.2.2", Some(key));
    let walk = lab.walk("192.0.2.1", vpn);
    assert!(walk.steps[2].met.is_some());
    let cause = UnknownCause::KeyGap(Reason::ConnectionLost);
    let unknown = Unknown { cause, since: Some(since) };
    assert_eq!(walk.verdicts(), [Verdict::Unknown { here: id("192.0.2.2"), unknown }]);
    // A gap of an entry that is not there: that it is missing cannot be vouched for either.
    let key = Key::Ilm(Label::new(99).unwrap(), Origin::Platform);
    let lab = layer_3_vpn().gap("192.0.2.2", Some(key));
    assert_eq!(
        lab.walk("192.0.2.2", "label:99").verdicts(),
        [Verdict::Unknown { here: id("192.0.2.2"), unknown }]
    );
    // A router of which only the settings have spoken.
    let mut lab = layer_3_vpn();
    lab.states.push(RouterState::new(id("192.0.2.9")));
    let configured = SessionEvent::Configured { name: "paris".into(), interfaces: Vec::new() };
    lab.event("192.0.2.9", AT, configured);
    let expected = "192.0.2.9[] unknown (never-heard) at 192.0.2.9";
    check(&lab, "192.0.2.9", vpn, &[expected]);
}

#[test]
fn what_an_incomplete_table_lacks_is_unknown() {
    let mut lab =
        Lab::default().router("10.0.0.1", &[], &["push ip:10.0.0.9/32 -1 untagged 20@10.0.0.2"]);
    let lacks = |row: &Row| {
        !matches!(row, Row::Session(row)
            if matches!(row.event, SessionEvent::SnapshotComplete { .. }))
    };
    lab.rows.retain(lacks);
    let unknown = "10.0.0.1[] unknown (never-complete) at 10.0.0.1";
    check(&lab, "10.0.0.1", "ip:10.0.0.8/32", &[unknown]);
    // An entry that goes before this one may be among what was never told.
    check(&lab, "10.0.0.1", "ip:10.0.0.9/32", &[unknown]);
}

#[test]
fn explicit_null_is_taken_off_by_whoever_receives_it() {
    let lab = Lab::default()
        .router("10.0.0.1", &[], &["push ip:10.0.0.9/32 -1 untagged 20@10.0.0.2"])
        .router("10.0.0.2", &[], &["swap ip:10.0.0.9/32 20 platform 0@10.0.0.9"])
        .router("10.0.0.9", &[], &[]);
    check(
        &lab,
        "10.0.0.1",
        "ip:10.0.0.9/32",
        &["10.0.0.1[20] 10.0.0.2[0] 10.0.0.9[] delivered at 10.0.0.9"],
    );
}

#[test]
fn a_thousand_diamonds_are_walked_in_as_many_steps() {
    let mut lab = Lab::default();
    let name = |number: usize| format!("10.{}.{}.1", number / 200, number % 200);
    for number in 0..1_000 {
        let twice = |operation: &str, label: &str| {
            let next = name(number + 1);
            format!("{operation} ip:10.250.0.1/32 {label} 20@{next} 21@{next}")
        };
        let entries = [
            twice("push", "-1 untagged"),
            twice("swap", "20 platform"),
            twice("swap", "21 platform"),
        ];
        lab = lab.router(&name(number), &[], &entries.each_ref().map(String::as_str));
    }
    let end = ["pop ip:10.250.0.1/32 20 platform -@fec", "pop ip:10.250.0.1/32 21 platform -@fec"];
    lab = lab.router(&name(1_000), &[], &end);
    let walk = lab.walk(&name(0), "ip:10.250.0.1/32");
    assert_eq!(walk.steps.len(), 2 * 1_000 + 1);
    assert!(walk.is_delivered());
    let (paths, all) = walk.paths(100);
    assert_eq!((paths.len(), all), (100, false));
}

fn any_mapping() -> impl Strategy<Value = String> {
    let operation = prop::sample::select(vec!["push", "swap", "pop", "replicate"]);
    let fecs =
        vec!["ip:10.0.0.3/32", "ip:10.0.0.0/8", "vrf:10.0.0.3,65000:2", "ac:10.0.0.4,1", "unknown"];
    let fec = prop::sample::select(fecs);
    let labels = vec!["0", "3", "16", "17", "18"];
    let origin = prop::sample::select(vec!["platform", "service", "untagged", "10.0.0.2"]);
    let next_hops =
        vec!["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "recursive", "fec"];
    let next_hop = prop::sample::select(next_hops);
    let stack = prop::collection::vec(prop::sample::select(labels.clone()), 0..3);
    let branches = prop::collection::vec((stack, next_hop), 0..4);
    (operation, fec, prop::sample::select(labels), origin, branches).prop_map(
        |(operation, fec, label, origin, branches)| {
            let label = if origin == "untagged" { "-1" } else { label };
            let mut text = format!("{operation} {fec} {label} {origin}");
            for (stack, next_hop) in branches {
                let stack = if stack.is_empty() { "-".to_owned() } else { stack.join("/") };
                write!(text, " {stack}@{next_hop}").unwrap();
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_tables_are_walked_to_an_end(
        tables in prop::collection::vec(prop::collection::vec(any_mapping(), 0..12), 4),
        start in prop::sample::select(vec![
            "ip:10.0.0.3/32", "vrf:10.0.0.3,65000:2", "ac:10.0.0.4,1", "unknown", "label:16",
        ]),
    ) {
        let mut lab = Lab::default();
        for (index, table) in tables.iter().enumerate() {
            let table: Vec<&str> = table.iter().map(String::as_str).collect();
            lab = lab.router(&format!("10.0.0.{}", index + 1), &[], &table);
        }
        let walk = lab.walk("10.0.0.1", start);
        prop_assert!(!walk.verdicts().is_empty());
        prop_assert!(walk.steps.len() <= STEPS_MAX);
        for step in &walk.steps {
            prop_assert_eq!(step.end.is_some(), step.branches.is_empty());
        }
        // No cycle is left: every path comes to an end.
        let (paths, _) = walk.paths(200);
        prop_assert!(!paths.is_empty());
    }
}
