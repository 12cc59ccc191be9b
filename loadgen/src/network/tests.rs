//! Tables and labels of the network.

use storage::mapping::{Ingress, Key, NextHop, Origin};

use super::*;
use crate::state::Down;
use crate::topology::Shape;

fn network(routers: usize, edges: usize) -> (Network, State) {
    let network = Network::generate(&Shape { routers, edges, seed: 7 }.into()).unwrap();
    let state = State::settle(&network, Down::default());
    (network, state)
}

#[test]
fn a_table_has_each_key_and_each_label_once() {
    let (network, state) = network(120, 40);
    for router_index in 0..120 {
        let table = network.table(&state, router_index, Micros(0));
        let keys: BTreeSet<Key> = table.iter().map(Mapping::key).collect();
        assert_eq!(keys.len(), table.len());
        let ftns = table.iter().filter(|entry| entry.ingress == Ingress::UNTAGGED);
        let of_ip = ftns.filter(|entry| matches!(entry.fec, Fec::Ip { .. })).count();
        let is_edge = network.fec_of_router(router_index).is_some();
        assert_eq!(of_ip, 40 - usize::from(is_edge));
    }
}

#[test]
fn a_swap_arrives_with_the_label_that_the_next_router_expects() {
    let (network, state) = network(100, 20);
    for router_index in 0..100 {
        for fec_index in 0..20 {
            for branch in
                transport::branches(&network, &state, transport::Kind::Ldp, router_index, fec_index)
            {
                let NextHop::Address(address) = branch.next_hop else { panic!("{branch}") };
                let owns = |r: &usize| network.topology.interface_addresses(*r).contains(&address);
                let next = (0..100).find(owns).unwrap();
                let at_edge = network.topology.edges[fec_index] == next;
                assert_eq!(branch.stack[0] == Label::IMPLICIT_NULL, at_edge);
                let table = network.table(&state, next, Micros(0));
                let key = Key::Ilm(branch.stack[0], Origin::Platform);
                let entry = table.iter().find(|entry| entry.key() == key);
                assert_eq!(
                    entry.map(|entry| entry.fec),
                    (!at_edge).then(|| network.fec(fec_index))
                );
            }
        }
    }
}

#[test]
fn edges_choose_vpn_labels_alike_and_service_keys_still_differ() {
    let (network, _) = network(300, 60);
    let mut labels = Vec::new();
    for (vpn_index, vpn) in network.vpns.iter().enumerate() {
        labels.extend(vpn.sites.iter().map(|site| network.vpn_label(vpn_index, *site)));
    }
    let distinct: BTreeSet<Label> = labels.iter().copied().collect();
    assert!(distinct.len() < labels.len() / 2, "{} of {}", distinct.len(), labels.len());
}

#[test]
fn primes_are_primes() {
    assert_eq!([2, 8, 14, 24, 260].map(space::prime_from), [2, 11, 17, 29, 263]);
}
