//! IP routes over next hops and groups by number.

use super::*;

fn on(id: u32) -> [Vec<u8>; 1] {
    [LITTLE.attribute(30, &LITTLE.u32(id))]
}

fn next_hop(id: u32, last: u8) -> Vec<u8> {
    LITTLE.next_hop(id, &[LITTLE.attribute(6, &[10, 0, 0, last])])
}

#[test]
fn a_changed_group_alters_every_entry_on_it() {
    let w = LITTLE;
    let mut decoder = FpmDecoder::default();
    let [kind, labels] = w.labels(7, &[20]);
    let labelled = w.next_hop(31, &[w.attribute(6, &[10, 0, 0, 1]), kind, labels]);
    let dump = [w.group(49, &[(31, 1), (48, 2)]), labelled, next_hop(48, 2)];
    assert!(tell_frame(&mut decoder, &dump).is_empty());
    let routes = [w.route(NEW, "10.255.0.4/32", &on(49)), w.route(NEW, "10.255.0.5/32", &on(48))];
    assert_eq!(
        tell_frame(&mut decoder, &routes),
        [
            "ftn ip:10.255.0.4/32 push -@10.0.0.2*2 20@10.0.0.1*1",
            "ftn ip:10.255.0.5/32 push -@10.0.0.2"
        ]
    );
    assert_eq!(
        tell_frame(&mut decoder, &[next_hop(48, 7)]),
        [
            "ftn ip:10.255.0.5/32 push -@10.0.0.7",
            "ftn ip:10.255.0.4/32 push -@10.0.0.7*2 20@10.0.0.1*1",
        ]
    );
    // A deleted group says nothing of the routes on it; zebra tells where each of them moved.
    assert!(tell_frame(&mut decoder, &[w.next_hop_deleted(49)]).is_empty());
    let again = w.route(NEW, "10.255.0.4/32", &on(49));
    let gone = w.route(DELETED, "10.255.0.4/32", &[]);
    assert_eq!(tell_frame(&mut decoder, &[gone, again]), ["ftn ip:10.255.0.4/32 next-hop-unknown"]);
    assert_eq!(
        tell_frame(&mut decoder, &[w.group(49, &[(31, 1)])]),
        ["ftn ip:10.255.0.4/32 push 20@10.0.0.1"]
    );
    assert!(decoder.memory_bytes() > 0);
}

#[test]
fn a_next_hop_that_drops_discards() {
    let w = LITTLE;
    let mut decoder = FpmDecoder::default();
    let drops = |id: u32| w.next_hop(id, &[w.attribute(4, &[])]);
    let route = w.route(NEW, "10.1.0.0/16", &on(9));
    let frame = [drops(1), next_hop(2, 2), w.group(9, &[(1, 1)]), route];
    assert_eq!(tell_frame(&mut decoder, &frame), ["ftn ip:10.1.0.0/16 discard"]);
    // Some branches drop, others forward: no mapping can say so.
    let mixed = w.group(9, &[(1, 1), (2, 1)]);
    assert_eq!(tell_frame(&mut decoder, &[mixed]), ["ftn ip:10.1.0.0/16 operation-invalid"]);
    assert_eq!(
        tell_frame(&mut decoder, &[next_hop(1, 1)]),
        ["ftn ip:10.1.0.0/16 push -@10.0.0.1 -@10.0.0.2"]
    );
    // A route that becomes one, because its next hop does.
    let both = [drops(1), drops(2)];
    assert_eq!(tell_frame(&mut decoder, &both), ["ftn ip:10.1.0.0/16 discard"]);
}

#[test]
fn a_next_hop_says_its_interface_and_its_encapsulation() {
    let w = LITTLE;
    let by = |attributes: &[Vec<u8>]| {
        let one = w.next_hop(1, &[&[w.attribute(5, &w.u32(9))], attributes].concat());
        let route = |header| w.route_of(NEW, "10.1.0.0/16", header, &on(7));
        let group = w.group(7, &[(1, 1), (2, 1)]);
        let connected = Header::CONNECTED;
        let mut decoder = FpmDecoder::default();
        let frame = [one, group, next_hop(2, 2), route(Header::default()), route(connected)];
        tell_frame(&mut decoder, &frame)
    };
    let told = |branches: [&str; 2]| {
        branches.map(|branches| format!("ftn ip:10.1.0.0/16 push {branches}"))
    };
    let gateway = w.attribute(6, &[10, 0, 0, 1]);
    assert_eq!(by(std::slice::from_ref(&gateway)), told(["-@10.0.0.1%ifindex:9 -@10.0.0.2"; 2]));
    let [kind, inside] = w.encapsulation(7, 5);
    let srv6 = [gateway, kind, inside];
    assert_eq!(by(&srv6), told(["-@10.0.0.1%ifindex:9 in srv6 -@10.0.0.2"; 2]));
    assert_eq!(by(&srv6[1..]), told(["-@10.0.0.2 -@%ifindex:9 in srv6"; 2]));
    assert_eq!(by(&[]), told(["-@10.0.0.2 -@%ifindex:9", "-@10.0.0.2 -@fec%ifindex:9"]));
}

/// Whether a route is connected stays known while its next hop changes.
#[test]
fn a_connected_route_stays_one() {
    let w = LITTLE;
    let by = |interface: u32| w.next_hop(1, &[w.attribute(5, &w.u32(interface))]);
    let mut decoder = FpmDecoder::default();
    let route = w.route_of(NEW, "10.1.0.0/16", Header::CONNECTED, &on(1));
    let told = tell_frame(&mut decoder, &[by(9), route]);
    assert_eq!(told, ["ftn ip:10.1.0.0/16 push -@fec%ifindex:9"]);
    let told = tell_frame(&mut decoder, &[by(10)]);
    assert_eq!(told, ["ftn ip:10.1.0.0/16 push -@fec%ifindex:10"]);
    let told = tell_frame(&mut decoder, &[w.route(NEW, "10.1.0.0/16", &on(1))]);
    assert_eq!(told, ["ftn ip:10.1.0.0/16 push -@%ifindex:10"]);
}

#[test]
fn a_group_of_groups_is_told_when_anything_below_it_changes() {
    let w = LITTLE;
    let mut decoder = FpmDecoder::default();
    let groups = [next_hop(163, 1), w.group(109, &[(163, 1)]), w.group(136, &[(109, 1)])];
    assert!(tell_frame(&mut decoder, &groups).is_empty());
    let route = w.route(NEW, "1.1.1.1/32", &on(136));
    assert_eq!(tell_frame(&mut decoder, &[route]), ["ftn ip:1.1.1.1/32 push -@10.0.0.1"]);
    let told = tell_frame(&mut decoder, &[next_hop(163, 2)]);
    assert_eq!(told, ["ftn ip:1.1.1.1/32 push -@10.0.0.2"]);
    let told = tell_frame(&mut decoder, &[w.group(163, &[(136, 1)])]);
    assert_eq!(told, ["ftn ip:1.1.1.1/32 nhlfe-invalid"]);
}

#[test]
fn a_next_hop_that_is_down_carries_nothing() {
    let w = LITTLE;
    let of = |id: u32, flags: u32| {
        let header = [&[2, 0, 11, 0][..], &w.u32(flags)].concat();
        let gateway = w.attribute(6, &[10, 0, 0, id as u8]);
        w.message(104, &header, &[w.attribute(1, &w.u32(id)), gateway])
    };
    let mut decoder = FpmDecoder::default();
    let route = w.route(NEW, "10.1.0.0/16", &on(9));
    let frame = [of(1, 1), of(2, 0), w.group(9, &[(1, 1), (2, 1)]), route];
    assert_eq!(tell_frame(&mut decoder, &frame), ["ftn ip:10.1.0.0/16 push -@10.0.0.2"]);
    let told = tell_frame(&mut decoder, &[of(2, 16)]);
    assert_eq!(told, ["ftn ip:10.1.0.0/16 nhlfe-invalid"]);
    let told = tell_frame(&mut decoder, &[of(1, 0)]);
    assert_eq!(told, ["ftn ip:10.1.0.0/16 push -@10.0.0.1"]);
}

#[test]
fn a_big_endian_router_says_the_same() {
    let says = |w: Writer| {
        let [kind, labels] = w.labels(7, &[20, 21]);
        let via = [w.attribute(19, &stack(&[24])), w.via(2), w.interface()];
        let header = Header { flags: 16, ..Header::default() };
        let frame = [
            w.label_route(NEW, 23, &via),
            w.next_hop(31, &[w.attribute(6, &[10, 0, 0, 1]), kind, labels]),
            w.group(49, &[(31, 1)]),
            w.route(NEW, "10.255.0.4/32", &[w.attribute(30, &w.u32(49))]),
            w.route_of(NEW, "10.255.0.5/32", header, &[w.gateway(1)]),
            w.label_route(NEW, 24, &[w.via_family(17, &[2, 0, 0, 0, 0, 9]), w.interface_of(9)]),
        ];
        tell_frame(&mut FpmDecoder::default(), &frame)
    };
    assert_eq!(says(LITTLE).len(), 4);
    assert_eq!(says(LITTLE), says(Writer { big: true }));
}

#[test]
fn a_wide_change_comes_in_several_units() {
    let w = LITTLE;
    let mut decoder = FpmDecoder::default();
    tell_frame(&mut decoder, &[next_hop(1, 1)]);
    let count = UNIT_MAPPINGS_MAX + 5;
    for index in 0..count {
        let prefix = format!("10.{}.{}.0/24", index / 256, index % 256);
        tell_frame(&mut decoder, &[w.route(NEW, &prefix, &on(1))]);
    }
    assert!(!decoder.is_pending());
    assert_eq!(tell_frame(&mut decoder, &[next_hop(1, 2)]).len(), UNIT_MAPPINGS_MAX);
    assert!(decoder.is_pending());
    let mut unit = Unit::new();
    decoder.proceed(NOW, &mut unit);
    assert_eq!(unit.mappings.len(), 5);
    assert!(!decoder.is_pending());
}
