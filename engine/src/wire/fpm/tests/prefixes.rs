//! IP routes that name their branches themselves.

use super::*;

#[test]
fn an_ip_route_is_an_ftn_entry() {
    let w = LITTLE;
    let [kind, labels] = w.labels(21, &[18]);
    let pushed = [kind, labels, w.gateway(1), w.interface()];
    check(
        &[w.route(NEW, "10.255.0.4/32", &pushed)],
        &["ftn ip:10.255.0.4/32 push 18@10.0.0.1%ifindex:3"],
    );
    // The labels may stand in front of their kind, and implicit null is no label.
    let [kind, labels] = w.labels(21, &[3]);
    let null = [labels, kind, w.gateway(1)];
    check(&[w.route(NEW, "10.255.0.4/32", &null)], &["ftn ip:10.255.0.4/32 push -@10.0.0.1"]);
    check(&[w.route(DELETED, "10.12.0.0/30", &[])], &["ftn ip:10.12.0.0/30 none"]);
    let six = [w.attribute(5, &[&[0xfe, 0x80][..], &[0; 13], &[1]].concat())];
    check(&[w.route(NEW, "2001:db8::/32", &six)], &["ftn ip:2001:db8::/32 push -@fe80::1"]);
    let six = [w.via_family(10, &[&[0x20, 1][..], &[0; 13], &[1]].concat())];
    check(&[w.route(NEW, "10.12.0.0/30", &six)], &["ftn ip:10.12.0.0/30 push -@2001::1"]);
}

#[test]
fn an_interface_alone_is_the_prefix_itself_only_where_it_is_connected() {
    let w = LITTLE;
    let of = |header: Header, interface: u32| {
        w.route_of(NEW, "10.12.0.1/30", header, &[w.interface_of(interface)])
    };
    let connected = Header::CONNECTED;
    check(&[of(connected, 9)], &["ftn ip:10.12.0.0/30 push -@fec%ifindex:9"]);
    check(&[of(connected, 1)], &["ftn ip:10.12.0.0/30 push -@fec"]);
    let nameless = Header { protocol: 0, ..connected };
    check(&[of(nameless, 9)], &["ftn ip:10.12.0.0/30 push -@fec%ifindex:9"]);
    // Static, or leaked from another VRF by BGP: to whoever is behind it.
    for protocol in [4, 186, 196] {
        let header = Header { protocol, ..connected };
        check(&[of(header, 9)], &["ftn ip:10.12.0.0/30 push -@%ifindex:9"]);
        check(&[of(header, 1)], &["ftn ip:10.12.0.0/30 push -@%ifindex:1"]);
    }
    // Labels are for somebody, connected or not.
    let [kind, labels] = w.labels(21, &[18]);
    let pushed = [kind, labels, w.interface_of(9)];
    check(
        &[w.route_of(NEW, "10.12.0.0/30", connected, &pushed)],
        &["ftn ip:10.12.0.0/30 push 18@%ifindex:9"],
    );
    let local = Header { kind: 2, ..connected };
    check(&[of(local, 1)], &["ftn ip:10.12.0.0/30 push -@fec"]);
}

#[test]
fn a_mapped_gateway_is_the_gateway() {
    let w = LITTLE;
    let mapped = [&[0; 10][..], &[0xff; 2], &[10, 0, 13, 3]].concat();
    let expected = &["ftn ip:10.1.0.0/16 push -@10.0.13.3"];
    check(&[w.route(NEW, "10.1.0.0/16", &[w.attribute(5, &mapped)])], expected);
    check(&[w.route(NEW, "10.1.0.0/16", &[w.via_family(10, &mapped)])], expected);
    let next_hop = w.next_hop(1, &[w.attribute(6, &mapped)]);
    check(&[next_hop, w.route(NEW, "10.1.0.0/16", &[w.attribute(30, &w.u32(1))])], expected);
    let label = w.label_route(NEW, 23, &[w.via_family(10, &mapped)]);
    check(&[label], &["ilm 23 platform swap 3@10.0.13.3"]);
    // 0.0.0.0 is none.
    let none = [w.attribute(5, &[0; 4]), w.interface()];
    let connected = w.route_of(NEW, "10.1.0.0/16", Header::CONNECTED, &none);
    check(&[connected], &["ftn ip:10.1.0.0/16 push -@fec%ifindex:3"]);
}

#[test]
fn an_encapsulation_that_is_not_labels_is_said() {
    let w = LITTLE;
    for (of, name) in
        [(101, "srv6"), (5, "srv6"), (7, "srv6"), (100, "vxlan"), (2, "ip"), (6, "other")]
    {
        let [kind, inside] = w.encapsulation(21, of);
        let alone = w.route(NEW, "10.1.0.0/24", &[inside.clone(), kind.clone()]);
        check(&[alone], &[&format!("ftn ip:10.1.0.0/24 push -@interface in {name}")]);
        let on = [kind.clone(), inside.clone(), w.gateway(1), w.interface_of(9)];
        let on = w.route(NEW, "10.1.0.0/24", &on);
        check(&[on], &[&format!("ftn ip:10.1.0.0/24 push -@10.0.0.1%ifindex:9 in {name}")]);
        let local = [kind.clone(), inside.clone(), w.interface_of(9)];
        let local = w.route_of(NEW, "10.1.0.0/24", Header::CONNECTED, &local);
        check(&[local], &[&format!("ftn ip:10.1.0.0/24 push -@%ifindex:9 in {name}")]);
        let branches = [w.branch(1, &[w.gateway(1), kind, inside]), w.branch(1, &[w.gateway(2)])];
        let two = w.route(NEW, "10.1.0.0/24", &[w.branches(&branches)]);
        let expected =
            format!("ftn ip:10.1.0.0/24 push -@10.0.0.1%ifindex:3 in {name} -@10.0.0.2%ifindex:3");
        check(&[two], &[&expected]);
    }
}

#[test]
fn source_and_type_of_service_are_part_of_the_key() {
    let w = LITTLE;
    let source = w.attribute(2, &[&[0x20, 1, 0x0d, 0xb8, 0, 2][..], &[0; 10]].concat());
    let pushed = |label: u32| {
        let [kind, labels] = w.labels(21, &[label]);
        [kind, labels, w.gateway(1)]
    };
    let header = Header { source_bits: 48, ..Header::default() };
    let prefix = "2001:db8:1::/48";
    let selective = [&[source][..], &pushed(25)].concat();
    check(
        &[w.route(NEW, prefix, &pushed(24)), w.route_of(NEW, prefix, header, &selective)],
        &[
            "ftn ip:2001:db8:1::/48 push 24@10.0.0.1",
            "ftn ip:2001:db8:1::/48,from=2001:db8:2::/48 push 25@10.0.0.1",
        ],
    );
    check(
        &[w.route_of(DELETED, prefix, header, &selective)],
        &["ftn ip:2001:db8:1::/48,from=2001:db8:2::/48 none"],
    );
    // A source of any length 0 is any source.
    check(&[w.route(NEW, prefix, &selective)], &["ftn ip:2001:db8:1::/48 push 25@10.0.0.1"]);
    let tos = Header { tos: 4, ..Header::default() };
    check(
        &[w.route_of(NEW, "10.1.0.0/16", tos, &pushed(24))],
        &["ftn ip:10.1.0.0/16,tos=4 push 24@10.0.0.1"],
    );
    check(&[w.route_of(DELETED, "10.1.0.0/16", tos, &[])], &["ftn ip:10.1.0.0/16,tos=4 none"]);
    let unread = w.route_of(NEW, prefix, header, &pushed(24));
    check(&[unread], &["fec-invalid"]);
}

#[test]
fn the_main_table_is_the_global_one() {
    let w = LITTLE;
    let of = |table: u8| Header { table, ..Header::default() };
    let table = w.attribute(15, &w.u32(1010));
    let vrf = [table, w.gateway(1)];
    check(
        &[w.route_of(NEW, "10.12.0.0/30", of(0), &vrf)],
        &["ftn ip:10.12.0.0/30,1010 push -@10.0.0.1"],
    );
    let route = |table: u8, last: u8| w.route_of(NEW, "10.2.0.0/16", of(table), &[w.gateway(last)]);
    check(
        &[route(0, 1), route(254, 2)],
        &["ftn ip:10.2.0.0/16 push -@10.0.0.1", "ftn ip:10.2.0.0/16,254 push -@10.0.0.2"],
    );
    check(
        &[route(254, 2), route(10, 3)],
        &["ftn ip:10.2.0.0/16 push -@10.0.0.2", "ftn ip:10.2.0.0/16,10 push -@10.0.0.3"],
    );
    // Which of them holds, nobody can say.
    check(
        &[route(254, 2), route(0, 1)],
        &["ftn ip:10.2.0.0/16 push -@10.0.0.2", "ftn ip:10.2.0.0/16 fec-invalid"],
    );
    // A frame that is not believed says nothing of tables either.
    let mut decoder = FpmDecoder::default();
    let bad = [route(0, 1), vec![1]].concat();
    assert!(decoder.message(&bad, NOW, &mut Unit::new()).is_err());
    assert_eq!(tell_frame(&mut decoder, &[route(254, 1)]), ["ftn ip:10.2.0.0/16 push -@10.0.0.1"]);
}

#[test]
fn weights_are_kept_when_they_differ() {
    let w = LITTLE;
    let branches = |weight: u8| {
        let branches = [w.branch(weight, &[w.gateway(1)]), w.branch(3, &[w.gateway(2)])];
        w.route(NEW, "10.255.0.4/32", &[w.branches(&branches)])
    };
    let [one, two] = ["10.0.0.1%ifindex:3", "10.0.0.2%ifindex:3"];
    check(&[branches(1)], &[&format!("ftn ip:10.255.0.4/32 push -@{one}*1 -@{two}*3")]);
    check(&[branches(3)], &[&format!("ftn ip:10.255.0.4/32 push -@{one} -@{two}")]);
}

#[test]
fn a_route_that_drops_packets_is_an_entry_that_discards_them() {
    let w = LITTLE;
    let of = |kind: u8| {
        w.route_of(NEW, "10.0.0.9/32", Header { kind, ..Header::default() }, &[w.interface()])
    };
    for kind in [6, 7, 8] {
        check(&[of(kind)], &["ftn ip:10.0.0.9/32 discard"]);
        // One that becomes it, with and without a withdrawal before it.
        let forwards = w.route(NEW, "10.0.0.9/32", &[w.gateway(1)]);
        let deleted = w.route(DELETED, "10.0.0.9/32", &[]);
        let was = "ftn ip:10.0.0.9/32 push -@10.0.0.1";
        let discards = "ftn ip:10.0.0.9/32 discard";
        check(&[forwards.clone(), of(kind)], &[was, discards]);
        check(&[forwards, deleted, of(kind)], &[was, discards]);
    }
}

#[test]
fn what_is_broadcast_or_multicast_is_no_entry() {
    let w = LITTLE;
    for kind in [3, 4, 5] {
        let header = Header { kind, ..Header::default() };
        let route = w.route_of(NEW, "10.0.0.9/32", header, &[w.interface()]);
        check(&[route], &["ftn ip:10.0.0.9/32 none"]);
    }
    let connected = [w.interface()];
    for prefix in ["fe80::/64", "ff00::/8"] {
        check(&[w.route(NEW, prefix, &connected), w.route(DELETED, prefix, &connected)], &[]);
    }
    let cached = Header { flags: 0x200, ..Header::default() };
    check(&[w.route_of(NEW, "10.0.0.9/32", cached, &[w.gateway(1)])], &[]);
}

/// Linux hosts often have it: read as IPv4 it would be the default route.
#[test]
fn a_mapped_destination_is_no_entry_of_ipv4() {
    let w = LITTLE;
    let unreachable = Header { kind: 7, ..Header::default() };
    for prefix in ["::ffff:0:0/96", "::ffff:10.0.0.0/104"] {
        check(&[w.route_of(NEW, prefix, unreachable, &[w.interface_of(1)])], &[]);
    }
    let wide = w.route_of(NEW, "::/96", unreachable, &[w.interface_of(1)]);
    check(&[wide], &["ftn ip:::/96 discard"]);
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
fn a_branch_that_carries_nothing_is_left_out() {
    let w = LITTLE;
    for flags in [1, 16, 17] {
        let branches =
            [w.branch_of(3, flags, 1, &[w.gateway(1)]), w.branch_of(4, 4, 1, &[w.gateway(2)])];
        check(
            &[w.route(NEW, "10.1.0.0/16", &[w.branches(&branches)])],
            &["ftn ip:10.1.0.0/16 push -@10.0.0.2%ifindex:4"],
        );
        check(
            &[w.route(NEW, "10.1.0.0/16", &[w.branches(&branches[..1])])],
            &["ftn ip:10.1.0.0/16 nhlfe-invalid"],
        );
        let header = Header { flags: flags.into(), ..Header::default() };
        check(
            &[w.route_of(NEW, "10.1.0.0/16", header, &[w.gateway(1)])],
            &["ftn ip:10.1.0.0/16 nhlfe-invalid"],
        );
    }
}
