//! FPM frames built by hand: each rule of the table in `fpm`, and that no byte can break it.

use proptest::prelude::*;
use storage::row::Cause;

use super::*;
use crate::wire::SnapshotMark;

const NOW: Micros = Micros(1_795_322_513_836_587);

/// Writes netlink messages in one byte order.
#[derive(Clone, Copy)]
struct Writer {
    big: bool,
}

const LITTLE: Writer = Writer { big: false };

impl Writer {
    fn u16(self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn attribute(self, kind: u16, value: &[u8]) -> Vec<u8> {
        let bytes = u16::try_from(value.len() + 4).unwrap();
        let mut out = [self.u16(bytes), self.u16(kind)].concat();
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn message(self, kind: u16, header: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = [header, &attributes.concat()].concat();
        let bytes = u32::try_from(body.len() + 16).unwrap();
        let head = [&self.u32(bytes)[..], &self.u16(kind), &[0; 10]].concat();
        let mut out = [head, body].concat();
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// An IPv4 route of table 254, by attributes beyond its destination.
    fn route(self, kind: u16, prefix: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
        let prefix: IpNet = prefix.parse().unwrap();
        let (family, address) = match prefix.addr() {
            IpAddr::V4(address) => (2, address.octets().to_vec()),
            IpAddr::V6(address) => (10, address.octets().to_vec()),
        };
        let header = [family, prefix.prefix_len(), 0, 0, 254, 188, 0, 1, 0, 0, 0, 0];
        let attributes = [&[self.attribute(1, &address)], attributes].concat();
        self.message(kind, &header, &attributes)
    }

    fn label_route(self, kind: u16, label: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = [28, 20, 0, 0, 254, 193, 0, 1, 0, 0, 0, 0];
        let attributes = [&[self.attribute(1, &stack(&[label]))], attributes].concat();
        self.message(kind, &header, &attributes)
    }

    fn next_hop(self, id: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = [&[self.attribute(1, &self.u32(id))], attributes].concat();
        self.message(104, &[2, 0, 11, 0, 0, 0, 0, 0], &attributes)
    }

    fn group(self, id: u32, members: &[(u32, u8)]) -> Vec<u8> {
        let members: Vec<u8> = members
            .iter()
            .flat_map(|(id, weight)| [&self.u32(*id)[..], &[*weight - 1, 0, 0, 0]].concat())
            .collect();
        self.next_hop(id, &[self.attribute(2, &members)])
    }

    fn next_hop_deleted(self, id: u32) -> Vec<u8> {
        self.message(105, &[0; 8], &[self.attribute(1, &self.u32(id))])
    }

    fn gateway(self, last: u8) -> Vec<u8> {
        self.attribute(5, &[10, 0, 0, last])
    }

    fn via(self, last: u8) -> Vec<u8> {
        self.attribute(18, &[&self.u16(2)[..], &[10, 0, 0, last]].concat())
    }

    fn interface(self) -> Vec<u8> {
        self.attribute(4, &self.u32(3))
    }

    /// Encapsulation attributes of a route (21, 22) or of a next hop (7, 8).
    fn labels(self, kind: u16, labels: &[u32]) -> [Vec<u8>; 2] {
        let nested = self.attribute(1, &stack(labels));
        [self.attribute(kind, &self.u16(1)), self.attribute(kind + 1, &nested)]
    }

    fn branch(self, weight: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let bytes = u16::try_from(attributes.len() + 8).unwrap();
        let head = [&self.u16(bytes)[..], &[0, weight - 1], &self.u32(3)].concat();
        [head, attributes].concat()
    }
}

fn stack(labels: &[u32]) -> Vec<u8> {
    let bottom = labels.len() - 1;
    let entry = |(index, label): (usize, &u32)| {
        (label << 12 | u32::from(index == bottom) << 8).to_be_bytes()
    };
    labels.iter().enumerate().flat_map(entry).collect()
}

const NEW: u16 = 24;
const DELETED: u16 = 25;

/// Each mapping as `key operation branch branch`, each rejected one as `key cause`.
fn tell_frame(decoder: &mut FpmDecoder, messages: &[Vec<u8>]) -> Vec<String> {
    let mut unit = Unit::new();
    decoder.message(&messages.concat(), NOW, &mut unit).unwrap();
    assert_eq!((&unit.kind, unit.snapshot), (&UnitKind::Mappings, SnapshotMark::None));
    let mapping = |mapping: &Mapping| {
        assert_eq!((mapping.event_time, mapping.time_source), (NOW, TimeSource::Collector));
        let branches: String = mapping.branches.iter().map(|nhlfe| format!(" {nhlfe}")).collect();
        format!("{} {}{branches}", mapping.key(), mapping.operation)
    };
    let rejected = |rejected: &RejectedMapping| {
        assert!(rejected.detail.len() <= 200, "{}", rejected.detail);
        let key = rejected.key.map_or(String::new(), |key| format!("{key} "));
        format!("{key}{}", rejected.cause.name())
    };
    let mappings = unit.mappings.iter().map(mapping);
    mappings.chain(unit.rejected.iter().map(rejected)).collect()
}

fn check(messages: &[Vec<u8>], expected: &[&str]) {
    assert_eq!(tell_frame(&mut FpmDecoder::default(), messages), expected);
}

#[test]
fn a_label_route_is_an_ilm_entry() {
    let w = LITTLE;
    let swap = [w.attribute(19, &stack(&[20])), w.via(1), w.interface()];
    check(&[w.label_route(NEW, 23, &swap)], &["ilm 23 platform swap 20@10.0.0.1"]);
    let php = [w.via(2), w.interface()];
    check(&[w.label_route(NEW, 22, &php)], &["ilm 22 platform swap 3@10.0.0.2"]);
    check(&[w.label_route(NEW, 144, &[w.interface()])], &["ilm 144 platform pop -@fec"]);
    check(&[w.label_route(DELETED, 22, &[w.interface()])], &["ilm 22 platform none"]);
    check(&[w.label_route(NEW, 22, &[])], &["ilm 22 platform nhlfe-invalid"]);
    let deep = [w.attribute(19, &stack(&[20, 21, 22])), w.via(1)];
    check(&[w.label_route(NEW, 23, &deep)], &["ilm 23 platform swap 20/21/22@10.0.0.1"]);
}

#[test]
fn several_branches_of_a_label_route_are_one_swap() {
    let w = LITTLE;
    let branches = [
        w.branch(1, &[w.attribute(19, &stack(&[24])), w.via(2)]),
        w.branch(1, &[w.via(1)]),
        w.branch(1, &[]),
    ];
    check(
        &[w.label_route(NEW, 23, &[w.attribute(9, &branches.concat())])],
        &["ilm 23 platform swap 3@10.0.0.1 3@fec 24@10.0.0.2"],
    );
}

#[test]
fn an_ip_route_is_an_ftn_entry() {
    let w = LITTLE;
    let [kind, labels] = w.labels(21, &[18]);
    let pushed = [kind, labels, w.gateway(1), w.interface()];
    check(&[w.route(NEW, "10.255.0.4/32", &pushed)], &["ftn ip:10.255.0.4/32 push 18@10.0.0.1"]);
    // The labels may stand in front of their kind, and implicit null is no label.
    let [kind, labels] = w.labels(21, &[3]);
    let null = [labels, kind, w.gateway(1)];
    check(&[w.route(NEW, "10.255.0.4/32", &null)], &["ftn ip:10.255.0.4/32 push -@10.0.0.1"]);
    let connected = [w.interface()];
    check(&[w.route(NEW, "10.12.0.1/30", &connected)], &["ftn ip:10.12.0.0/30 push -@fec"]);
    check(&[w.route(DELETED, "10.12.0.0/30", &[])], &["ftn ip:10.12.0.0/30 none"]);
    check(&[w.route(NEW, "10.12.0.0/30", &[])], &["ftn ip:10.12.0.0/30 nhlfe-invalid"]);
    let table = [w.attribute(15, &w.u32(1010)), w.interface()];
    check(&[w.route(NEW, "10.12.0.0/30", &table)], &["ftn ip:10.12.0.0/30,1010 push -@fec"]);
    let six = [w.attribute(5, &[&[0xfe, 0x80][..], &[0; 13], &[1]].concat())];
    check(&[w.route(NEW, "2001:db8::/32", &six)], &["ftn ip:2001:db8::/32 push -@fe80::1"]);
    check(&[w.route(NEW, "fe80::/64", &connected), w.route(NEW, "ff00::/8", &connected)], &[]);
}

#[test]
fn weights_are_kept_when_they_differ() {
    let w = LITTLE;
    let branches = |weight: u8| {
        let branches = [w.branch(weight, &[w.gateway(1)]), w.branch(3, &[w.gateway(2)])];
        w.route(NEW, "10.255.0.4/32", &[w.attribute(9, &branches.concat())])
    };
    check(&[branches(1)], &["ftn ip:10.255.0.4/32 push -@10.0.0.1*1 -@10.0.0.2*3"]);
    check(&[branches(3)], &["ftn ip:10.255.0.4/32 push -@10.0.0.1 -@10.0.0.2"]);
}

#[test]
fn a_route_that_drops_packets_is_no_entry() {
    let w = LITTLE;
    let kind = |kind: u8| {
        let header = [2, 32, 0, 0, 254, 188, 0, kind, 0, 0, 0, 0];
        w.message(NEW, &header, &[w.attribute(1, &[10, 0, 0, 9]), w.interface()])
    };
    for drops in [6, 7, 8] {
        check(&[kind(drops)], &["ftn ip:10.0.0.9/32 none"]);
    }
    for other in [0, 2, 3, 4, 5, 9] {
        check(&[kind(other)], &[]);
    }
}

#[test]
fn a_withdrawal_and_the_new_route_behind_it_are_one_change() {
    let w = LITTLE;
    let new = w.route(NEW, "10.255.0.4/32", &[w.gateway(1)]);
    let deleted = w.route(DELETED, "10.255.0.4/32", &[]);
    let other = w.route(DELETED, "10.255.0.5/32", &[]);
    check(&[deleted.clone(), new.clone()], &["ftn ip:10.255.0.4/32 push -@10.0.0.1"]);
    check(
        &[other, new, deleted],
        &[
            "ftn ip:10.255.0.5/32 none",
            "ftn ip:10.255.0.4/32 push -@10.0.0.1",
            "ftn ip:10.255.0.4/32 none",
        ],
    );
}

#[test]
fn a_changed_group_alters_every_entry_on_it() {
    let w = LITTLE;
    let mut decoder = FpmDecoder::default();
    let on = |id: u32| [w.attribute(30, &w.u32(id))];
    let [kind, labels] = w.labels(7, &[20]);
    let labelled = w.next_hop(31, &[w.attribute(6, &[10, 0, 0, 1]), kind, labels]);
    let plain = w.next_hop(48, &[w.attribute(6, &[10, 0, 0, 2])]);
    let dump = [w.group(49, &[(31, 1), (48, 2)]), labelled, plain.clone()];
    assert!(tell_frame(&mut decoder, &dump).is_empty());
    let routes = [w.route(NEW, "10.255.0.4/32", &on(49)), w.route(NEW, "10.255.0.5/32", &on(48))];
    assert_eq!(
        tell_frame(&mut decoder, &routes),
        [
            "ftn ip:10.255.0.4/32 push -@10.0.0.2*2 20@10.0.0.1*1",
            "ftn ip:10.255.0.5/32 push -@10.0.0.2"
        ]
    );
    let moved = w.next_hop(48, &[w.attribute(6, &[10, 0, 0, 7])]);
    assert_eq!(
        tell_frame(&mut decoder, &[moved]),
        [
            "ftn ip:10.255.0.4/32 push -@10.0.0.7*2 20@10.0.0.1*1",
            "ftn ip:10.255.0.5/32 push -@10.0.0.7"
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
    assert_eq!(
        tell_frame(&mut decoder, &[w.next_hop(31, &[w.attribute(4, &[])])]),
        ["ftn ip:10.255.0.4/32 none"]
    );
    assert!(decoder.memory_bytes() > 0);
}

#[test]
fn a_big_endian_router_says_the_same() {
    let says = |w: Writer| {
        let [kind, labels] = w.labels(7, &[20, 21]);
        let via = [w.attribute(19, &stack(&[24])), w.via(2), w.interface()];
        let frame = [
            w.label_route(NEW, 23, &via),
            w.next_hop(31, &[w.attribute(6, &[10, 0, 0, 1]), kind, labels]),
            w.group(49, &[(31, 1)]),
            w.route(NEW, "10.255.0.4/32", &[w.attribute(30, &w.u32(49))]),
        ];
        tell_frame(&mut FpmDecoder::default(), &frame)
    };
    assert_eq!(says(LITTLE).len(), 2);
    assert_eq!(says(LITTLE), says(Writer { big: true }));
}

#[test]
fn a_wide_change_comes_in_several_units() {
    let w = LITTLE;
    let mut decoder = FpmDecoder::default();
    let next_hop = |last: u8| w.next_hop(1, &[w.attribute(6, &[10, 0, 0, last])]);
    tell_frame(&mut decoder, &[next_hop(1)]);
    let count = UNIT_MAPPINGS_MAX + 5;
    for index in 0..count {
        let prefix = format!("10.{}.{}.0/24", index / 256, index % 256);
        tell_frame(&mut decoder, &[w.route(NEW, &prefix, &[w.attribute(30, &w.u32(1))])]);
    }
    assert!(!decoder.is_pending());
    assert_eq!(tell_frame(&mut decoder, &[next_hop(2)]).len(), UNIT_MAPPINGS_MAX);
    assert!(decoder.is_pending());
    let mut unit = Unit::new();
    decoder.proceed(NOW, &mut unit);
    assert_eq!(unit.mappings.len(), 5);
    assert!(!decoder.is_pending());
}

#[test]
fn a_malformed_frame_changes_nothing() {
    let w = LITTLE;
    let good = w.next_hop(1, &[w.attribute(6, &[10, 0, 0, 1])]);
    let route = w.route(NEW, "10.255.0.4/32", &[w.attribute(30, &w.u32(1))]);
    let long_stack: Vec<u32> = (100..117).collect();
    let bad = [
        vec![1],
        w.message(NEW, &[2, 32, 0], &[]),
        w.route(NEW, "10.0.0.0/8", &[w.attribute(5, &[10, 0, 0])]),
        w.route(NEW, "10.0.0.0/8", &[vec![3, 0, 5, 0]]),
        w.route(NEW, "10.0.0.0/8", &[vec![200, 0, 5, 0]]),
        w.route(NEW, "10.0.0.0/8", &[w.attribute(9, &[7, 0, 0, 0, 0, 0, 0, 0])]),
        w.message(NEW, &[2, 33, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], &[w.attribute(1, &[1, 2, 3, 4])]),
        w.message(NEW, &[10, 32, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], &[w.attribute(1, &[1, 2, 3, 4])]),
        w.message(NEW, &[2, 1, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], &[]),
        w.message(NEW, &[28, 20, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0], &[]),
        w.label_route(NEW, 23, &[w.attribute(19, &stack(&long_stack))]),
        w.label_route(NEW, 23, &[w.attribute(18, &[7, 0, 1, 2, 3, 4])]),
        w.message(104, &[2, 0, 11, 0, 0, 0, 0, 0], &[]),
        w.next_hop(2, &[w.attribute(2, &[1, 0, 0, 0])]),
    ];
    for bad in bad {
        let mut decoder = FpmDecoder::default();
        let mut unit = Unit::new();
        let frame = [good.clone(), bad.clone()].concat();
        let rejection = decoder.message(&frame, NOW, &mut unit).unwrap_err();
        assert_eq!(rejection.cause, Cause::FpmMalformed, "{bad:?}");
        assert!(rejection.detail.len() <= 200);
        assert!(unit.mappings.is_empty());
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
    // Encapsulation other than labels leaves the route unlabelled.
    let [_, labels] = w.labels(21, &[18]);
    let srv6 = [w.attribute(21, &w.u16(5)), labels, w.gateway(1)];
    check(&[w.route(NEW, "10.0.0.1/32", &srv6)], &["ftn ip:10.0.0.1/32 push -@10.0.0.1"]);
}

#[test]
fn a_header_says_how_long_its_frame_is() {
    assert_eq!(frame_bytes([1, 1, 1, 4]).ok(), Some(260));
    assert_eq!(frame_bytes([1, 1, 0, 4]).ok(), Some(4));
    for bad in [[2, 1, 1, 4], [1, 2, 1, 4], [1, 1, 0, 3]] {
        assert_eq!(frame_bytes(bad).unwrap_err().cause, Cause::FpmMalformed);
    }
}

/// Frames that a router sent, as (payload) in order.
fn recorded() -> Vec<&'static [u8]> {
    let mut rest: &[u8] = include_bytes!("../../../tests/fixtures/frr/ldp6_nhg/up/r2.fpm");
    let mut frames = Vec::new();
    while let Some(header) = rest.first_chunk() {
        let (frame, after) = rest.split_at(frame_bytes(*header).unwrap());
        frames.push(&frame[HEADER_BYTES..]);
        rest = after;
    }
    assert!(frames.len() > 20);
    frames
}

proptest! {
    #[test]
    fn no_byte_can_break_the_reader(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        frame in any::<prop::sample::Index>(),
    ) {
        let frames = recorded();
        let mut decoder = FpmDecoder::default();
        let mut unit = Unit::new();
        for good in &frames {
            decoder.message(good, NOW, &mut unit).unwrap();
        }
        let mut bytes = frames[frame.index(frames.len())].to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let cut = &bytes[..cut.index(bytes.len() + 1)];
        for bytes in [&bytes[..], cut] {
            if let Err(rejection) = decoder.message(bytes, NOW, &mut unit) {
                prop_assert_eq!(rejection.cause, Cause::FpmMalformed);
                prop_assert!(unit.mappings.is_empty());
            }
            for mapping in &unit.mappings {
                prop_assert!(mapping.branches.is_sorted());
            }
        }
    }

    #[test]
    fn no_text_can_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut unit = Unit::new();
        let outcome = FpmDecoder::default().message(&bytes, NOW, &mut unit);
        prop_assert!(outcome.is_ok() || unit.mappings.is_empty());
    }
}
