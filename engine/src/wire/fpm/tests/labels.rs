//! Label routes.

use super::*;

#[test]
fn a_label_route_is_an_ilm_entry() {
    let w = LITTLE;
    let swap = [w.attribute(19, &stack(&[20])), w.via(1), w.interface()];
    check(&[w.label_route(NEW, 23, &swap)], &["ilm 23 platform swap 20@10.0.0.1%ifindex:3"]);
    let php = [w.via(2), w.interface()];
    check(&[w.label_route(NEW, 22, &php)], &["ilm 22 platform swap 3@10.0.0.2%ifindex:3"]);
    check(&[w.label_route(DELETED, 22, &[w.interface()])], &["ilm 22 platform none"]);
    let deep = [w.attribute(19, &stack(&[20, 21, 22])), w.via(1)];
    check(&[w.label_route(NEW, 23, &deep)], &["ilm 23 platform swap 20/21/22@10.0.0.1"]);
    // Implicit null is never on the wire.
    let null = [w.attribute(19, &stack(&[3, 20])), w.via(1)];
    check(&[w.label_route(NEW, 23, &null)], &["ilm 23 platform swap 20@10.0.0.1"]);
    let null = [w.attribute(19, &stack(&[3])), w.via(1)];
    check(&[w.label_route(NEW, 23, &null)], &["ilm 23 platform swap 3@10.0.0.1"]);
}

#[test]
fn what_leaves_by_an_interface_is_not_looked_up_again_here() {
    let w = LITTLE;
    let to = |interface: u32, labels: &[u32]| {
        let labels = (!labels.is_empty()).then(|| w.attribute(19, &stack(labels)));
        let attributes = labels.into_iter().chain([w.interface_of(interface)]);
        w.label_route(NEW, 144, &attributes.collect::<Vec<_>>())
    };
    check(&[to(9, &[])], &["ilm 144 platform pop -@fec%ifindex:9"]);
    check(&[to(9, &[3])], &["ilm 144 platform pop -@fec%ifindex:9"]);
    check(&[to(9, &[16])], &["ilm 144 platform swap 16@%ifindex:9"]);
    // The loopback is the router itself.
    check(&[to(1, &[])], &["ilm 144 platform pop -@fec"]);
    check(&[to(1, &[16])], &["ilm 144 platform swap 16@recursive"]);
    // As the kernel writes the interface alone: with the hardware address behind it.
    let hardware = w.via_family(17, &[2, 0, 0, 0, 0, 9]);
    let pop = [hardware.clone(), w.interface_of(9)];
    check(&[w.label_route(NEW, 100, &pop)], &["ilm 100 platform pop -@fec%ifindex:9"]);
    let swap = [w.attribute(19, &stack(&[16])), hardware, w.interface_of(9)];
    check(&[w.label_route(NEW, 100, &swap)], &["ilm 100 platform swap 16@%ifindex:9"]);
}

#[test]
fn several_branches_of_a_label_route_are_one_swap() {
    let w = LITTLE;
    let branches = [
        w.branch(1, &[w.attribute(19, &stack(&[24])), w.via(2)]),
        w.branch(1, &[w.via(1)]),
        w.branch_of(7, 0, 1, &[]),
        w.branch_of(1, 0, 1, &[]),
    ];
    check(
        &[w.label_route(NEW, 23, &[w.branches(&branches)])],
        &[
            "ilm 23 platform swap 3@10.0.0.1%ifindex:3 3@fec%ifindex:7 3@recursive 24@10.0.0.2%ifindex:3",
        ],
    );
    let pops = [w.branch_of(7, 0, 1, &[]), w.branch_of(8, 0, 1, &[])];
    check(
        &[w.label_route(NEW, 23, &[w.branches(&pops)])],
        &["ilm 23 platform pop -@fec%ifindex:7 -@fec%ifindex:8"],
    );
}

#[test]
fn a_label_may_be_dropped_or_leave_in_another_encapsulation() {
    let w = LITTLE;
    let header = [28, 20, 0, 0, 254, 193, 0, 6, 0, 0, 0, 0];
    let drops = w.message(NEW, &header, &[w.attribute(1, &stack(&[23]))]);
    check(&[drops], &["ilm 23 platform discard"]);
    let [kind, inside] = w.encapsulation(21, 5);
    let srv6 = [kind, inside, w.interface_of(9)];
    check(&[w.label_route(NEW, 23, &srv6)], &["ilm 23 platform pop -@%ifindex:9 in srv6"]);
}
