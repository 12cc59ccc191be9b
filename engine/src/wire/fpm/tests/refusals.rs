//! What cannot be read, or be said: of one route, or of a frame.

use super::*;

/// The detail of the one refusal in a frame.
fn detail_of(message: Vec<u8>) -> String {
    let mut unit = Unit::new();
    FpmDecoder::default().message(&message, NOW, &mut unit).unwrap();
    assert_eq!((unit.mappings.len(), unit.rejected.len()), (0, 1), "{unit:?}");
    unit.rejected[0].detail.to_string()
}

#[test]
fn a_route_that_cannot_be_said_is_refused_alone_by_its_key() {
    let w = LITTLE;
    let long: Vec<u32> = (100..117).collect();
    let [kind, labels] = w.labels(21, &long);
    let branches: Vec<Vec<u8>> = (0..257).map(|_| w.branch(1, &[w.gateway(1)])).collect();
    let of_kind = |kind: u8| Header { kind, ..Header::default() };
    let [mpls, _] = w.labels(21, &[20]);
    let bad = [
        (w.label_route(NEW, 23, &[w.attribute(19, &stack(&long)), w.via(1)]), "nhlfe-invalid"),
        (w.label_route(NEW, 23, &[w.via_family(7, &[1, 2, 3, 4])]), "nhlfe-invalid"),
        (w.label_route(NEW, 23, &[w.via_family(2, &[1, 2, 3])]), "nhlfe-invalid"),
        (w.label_route(NEW, 23, &[]), "nhlfe-invalid"),
        (w.label_route(NEW, 23, &[w.attribute(19, &stack(&[20]))]), "nhlfe-invalid"),
        (w.route(NEW, "10.0.0.0/8", &[]), "nhlfe-invalid"),
        (w.route(NEW, "10.0.0.0/8", &[kind, labels, w.gateway(1)]), "nhlfe-invalid"),
        (w.route(NEW, "10.0.0.0/8", &[mpls, w.gateway(1)]), "nhlfe-invalid"),
        (w.route(NEW, "10.0.0.0/8", &[w.branches(&branches)]), "nhlfe-invalid"),
        (w.route(NEW, "10.0.0.0/8", &[w.branch_of(0, 0, 1, &[])]), "nhlfe-invalid"),
        (w.route(NEW, "10.0.0.0/8", &[w.attribute(5, &[10, 0, 0])]), "nhlfe-invalid"),
        (w.route(NEW, "10.0.0.0/8", &[w.attribute(30, &[1])]), "nhlfe-invalid"),
        (w.route_of(NEW, "10.0.0.0/8", of_kind(0), &[w.gateway(1)]), "operation-invalid"),
        (w.route_of(NEW, "10.0.0.0/8", of_kind(9), &[]), "operation-invalid"),
    ];
    let good = w.route(NEW, "10.255.0.4/32", &[w.gateway(1)]);
    let told = "ftn ip:10.255.0.4/32 push -@10.0.0.1";
    for (bad, cause) in bad {
        let key = if detail_of(bad.clone()).starts_with("ilm") {
            "ilm 23 platform"
        } else {
            "ftn ip:10.0.0.0/8"
        };
        let detail = detail_of(bad.clone());
        assert!(detail.starts_with(&format!("{key}: ")), "{detail}");
        check(&[good.clone(), bad.clone()], &[told, &format!("{key} {cause}")]);
        check(&[bad.clone(), good.clone()], &[told, &format!("{key} {cause}")]);
    }
}

#[test]
fn the_refusal_says_what_was_found() {
    let w = LITTLE;
    let long: Vec<u32> = (100..117).collect();
    let labels = w.label_route(NEW, 23, &[w.attribute(19, &stack(&long)), w.via(1)]);
    let detail = detail_of(labels);
    assert!(detail.ends_with(": expected at most 16 labels, found 17"), "{detail}");
    let header = [2, 33, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
    let detail = detail_of(w.message(NEW, &header, &[w.attribute(1, &[10, 1, 2, 3])]));
    assert!(detail.starts_with("prefix 10.1.2.3/33: "), "{detail}");
    let detail = detail_of(w.route(NEW, "10.1.0.0/16", &[w.attribute(30, &w.u32(77))]));
    let expected = "ftn ip:10.1.0.0/16: next hop 77: \
                    expected announced next hops, found 77, which is none";
    assert_eq!(detail, expected);
}

#[test]
fn a_message_of_nobody_knows_what_is_refused_alone() {
    let w = LITTLE;
    let of = |family: u8, bits: u8, attributes: &[Vec<u8>]| {
        w.message(NEW, &[family, bits, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], attributes)
    };
    let good = w.route(NEW, "10.255.0.4/32", &[w.gateway(1)]);
    let told = "ftn ip:10.255.0.4/32 push -@10.0.0.1";
    for (bad, cause) in [
        (of(2, 33, &[w.attribute(1, &[1, 2, 3, 4])]), "fec-invalid"),
        (of(10, 32, &[w.attribute(1, &[1, 2, 3, 4])]), "fec-invalid"),
        (of(2, 8, &[w.attribute(1, &[10])]), "fec-invalid"),
        (of(2, 1, &[]), "fec-invalid"),
        (of(2, 8, &[w.attribute(1, &[10, 0, 0, 0]), w.attribute(15, &[1])]), "fec-invalid"),
        (of(28, 20, &[]), "ingress-invalid"),
        (of(28, 20, &[w.attribute(1, &stack(&[23, 24]))]), "ingress-invalid"),
        (of(28, 20, &[w.attribute(1, &[1, 2])]), "ingress-invalid"),
        (w.message(104, &[2, 0, 11, 0, 0, 0, 0, 0], &[]), "next-hop-unknown"),
        (w.message(105, &[2, 0, 11, 0, 0, 0, 0, 0], &[]), "next-hop-unknown"),
    ] {
        check(&[bad, good.clone()], &[told, cause]);
    }
    // The default route may be written without a destination.
    check(&[of(2, 0, &[w.gateway(1)])], &["ftn ip:0.0.0.0/0 push -@10.0.0.1"]);
}

#[test]
fn a_next_hop_that_cannot_be_said_is_that_of_its_routes_alone() {
    let w = LITTLE;
    let long: Vec<u32> = (100..117).collect();
    let [kind, labels] = w.labels(7, &long);
    let gateway = w.attribute(6, &[10, 0, 0, 1]);
    let wide = [(1, 1); 257];
    let bad = [
        w.next_hop(2, &[gateway.clone(), kind, labels]),
        w.next_hop(2, &[]),
        w.next_hop(2, &[w.attribute(6, &[10, 0])]),
        w.next_hop(2, &[w.attribute(2, &[1, 0, 0, 0])]),
        w.next_hop(2, &[w.attribute(2, &[])]),
        w.group(2, &wide),
    ];
    let route = |prefix: &str, id: u32| w.route(NEW, prefix, &[w.attribute(30, &w.u32(id))]);
    for bad in bad {
        let mut decoder = FpmDecoder::default();
        let good = w.next_hop(2, std::slice::from_ref(&gateway));
        let first = w.next_hop(1, std::slice::from_ref(&gateway));
        let frame = [first, good.clone(), route("10.1.0.0/16", 1), route("10.2.0.0/16", 2)];
        assert_eq!(tell_frame(&mut decoder, &frame).len(), 2);
        // What it was before is not what it is now.
        let told = tell_frame(&mut decoder, &[bad]);
        assert_eq!(told, ["ftn ip:10.2.0.0/16 nhlfe-invalid"]);
        let told = tell_frame(&mut decoder, &[good]);
        assert_eq!(told, ["ftn ip:10.2.0.0/16 push -@10.0.0.1"]);
    }
}

#[test]
fn the_last_word_of_a_frame_on_a_key_counts() {
    let w = LITTLE;
    let refused = w.route(NEW, "10.1.0.0/16", &[]);
    let good = w.route(NEW, "10.1.0.0/16", &[w.gateway(1)]);
    let deleted = w.route(DELETED, "10.1.0.0/16", &[]);
    let told = "ftn ip:10.1.0.0/16 push -@10.0.0.1";
    let unknown = "ftn ip:10.1.0.0/16 nhlfe-invalid";
    check(&[refused.clone(), good.clone()], &[told]);
    check(&[refused.clone(), deleted.clone()], &["ftn ip:10.1.0.0/16 none"]);
    check(&[good, refused.clone()], &[told, unknown]);
    check(&[deleted, refused.clone()], &[unknown]);
    check(&[refused.clone(), refused], &[unknown]);
    // A group that is told behind the route on it.
    let route = w.route(NEW, "10.1.0.0/16", &[w.attribute(30, &w.u32(9))]);
    let next_hop = w.next_hop(9, &[w.attribute(6, &[10, 0, 0, 1])]);
    check(&[route, next_hop], &[told]);
}

#[test]
fn only_so_many_refusals_have_a_detail() {
    let w = LITTLE;
    let refused = |index: u8| w.route(NEW, &format!("10.{index}.0.0/16"), &[]);
    let frame: Vec<Vec<u8>> = (0..40).map(refused).collect();
    let mut unit = Unit::new();
    FpmDecoder::default().message(&frame.concat(), NOW, &mut unit).unwrap();
    let with_detail = unit.rejected.iter().filter(|rejected| !rejected.detail.is_empty()).count();
    assert_eq!((unit.rejected.len(), with_detail), (40, crate::wire::REJECTED_DETAILS_MAX));
    assert!(unit.rejected.iter().all(|rejected| rejected.key.is_some()));
}

#[test]
fn a_malformed_frame_changes_nothing() {
    let w = LITTLE;
    let good = w.next_hop(1, &[w.attribute(6, &[10, 0, 0, 1])]);
    let route = w.route(NEW, "10.255.0.4/32", &[w.attribute(30, &w.u32(1))]);
    let bad = [
        vec![1],
        w.message(NEW, &[2, 32, 0], &[]),
        w.message(DELETED, &[7, 32, 0], &[]),
        w.message(104, &[2, 0, 11], &[]),
        w.message(105, &[2, 0, 11], &[]),
        w.route(NEW, "10.0.0.0/8", &[vec![3, 0, 5, 0]]),
        w.route(NEW, "10.0.0.0/8", &[vec![200, 0, 5, 0]]),
        w.route(NEW, "10.0.0.0/8", &[vec![8, 0]]),
        w.route(DELETED, "10.0.0.0/8", &[vec![200, 0, 5, 0]]),
        w.route(NEW, "10.0.0.0/8", &[w.attribute(9, &[7, 0, 0, 0, 0, 0, 0, 0])]),
        w.route(NEW, "10.0.0.0/8", &[w.attribute(9, &[8, 0, 0, 0])]),
        w.route(NEW, "10.0.0.0/8", &[w.attribute(21, &w.u16(1)), w.attribute(22, &[9, 0, 1, 0])]),
        w.next_hop(2, &[vec![200, 0, 6, 0]]),
    ];
    for bad in bad {
        let mut decoder = FpmDecoder::default();
        let mut unit = Unit::new();
        let frame = [good.clone(), bad.clone()].concat();
        let rejection = decoder.message(&frame, NOW, &mut unit).unwrap_err();
        assert_eq!(rejection.cause, Cause::FpmMalformed, "{bad:?}");
        assert!(rejection.detail.len() <= 200);
        assert!(unit.mappings.is_empty() && unit.rejected.is_empty());
        let after = tell_frame(&mut decoder, std::slice::from_ref(&route));
        assert_eq!(after, ["ftn ip:10.255.0.4/32 next-hop-unknown"], "the next hop was not kept");
    }
}

#[test]
fn what_says_nothing_of_labels_is_skipped() {
    let w = LITTLE;
    check(&[], &[]);
    check(&[w.message(28, &[1, 2, 3], &[]), w.message(1000, &[], &[])], &[]);
    check(&[w.message(NEW, &[7, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], &[])], &[]);
}
