//! Services, looked at in every state of a storm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::mapping::{Key, Origin, Role};

use super::rsvp::{Around, Route};
use super::*;
use crate::model::Model;
use crate::network::Network;
use crate::paths::Paths;
use crate::scenario::{Scenario, Script};
use crate::state::{Down, State};
use crate::topology::Shape;
use crate::world::World;

/// Two trunks one after the other, each back before the next: signalled four times.
const STORM: &str = "[[step]]\nlink-down = { restore_after_ms = 4000 }\n\
    [[step]]\nsrlg = { count = 2, restore_after_ms = 4000 }\n";

fn world(services: Services) -> World {
    let scenario = Scenario::Script(Script::parse(STORM).unwrap().into());
    let shape = Shape { routers: 120, edges: 40, seed: 7 };
    World::generate(&Model { services, scenario, ..shape.into() }, Micros(0)).unwrap()
}

fn states(world: &World) -> Vec<&State> {
    let later = world.plan.epochs.iter().map(|epoch| &*epoch.state);
    std::iter::once(&*world.first).chain(later).collect()
}

fn tables(network: &Network, state: &State) -> Vec<Vec<Mapping>> {
    (0..120).map(|router| network.table(state, router, Micros(0))).collect()
}

#[test]
fn every_key_and_every_label_of_a_router_is_given_once_in_every_state() {
    let world = world(Services::ALL);
    let states = states(&world);
    assert!(states.len() > 6, "{} states", states.len());
    for state in states {
        for table in tables(&world.network, state) {
            let keys: BTreeSet<Key> = table.iter().map(Mapping::key).collect();
            assert_eq!(keys.len(), table.len());
            let ilm = |key: &&Key| matches!(key, Key::Ilm(..));
            let labels: BTreeSet<u32> = keys
                .iter()
                .filter_map(|key| match key {
                    Key::Ilm(label, _) => Some(label.value()),
                    _ => None,
                })
                .collect();
            assert_eq!(labels.len(), keys.iter().filter(ilm).count());
        }
    }
}

#[test]
fn every_service_says_what_it_alone_can_say() {
    let world = world(Services::ALL);
    let network = &world.network;
    let mut two_labels = 0;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (index, state) in states(&world).into_iter().enumerate() {
        for entry in tables(network, state).into_iter().flatten() {
            let deep = entry
                .branches
                .iter()
                .any(|branch| branch.stack.len() == 2 && branch.role == Role::Primary);
            // Nothing is repaired before something fails.
            assert!(!deep || index > 0);
            two_labels += usize::from(deep);
            let spare = entry.branches.iter().find(|branch| branch.role == Role::Backup);
            seen.extend(spare.map(|spare| match spare.stack.len() {
                1 => "alternate",
                _ => "bypass",
            }));
            seen.extend(match (entry.key(), entry.operation) {
                (Key::Ilm(label, _), Operation::Swap)
                    if (16_000..24_000).contains(&label.value()) =>
                {
                    Some("segment")
                }
                (Key::Ilm(_, Origin::Interface(_)), _) => Some("interface"),
                (Key::Ilm(..), Operation::Swap) if entry.fec == Fec::Unknown => Some("tunnel"),
                (Key::Ilm(..), Operation::Replicate) => Some("copies"),
                (Key::Ftn(_), Operation::Replicate) => Some("copies at the root"),
                (Key::Ilm(..), Operation::Pop) if matches!(entry.fec, Fec::Ac { .. }) => {
                    Some("circuit")
                }
                (Key::Ftn(_), Operation::Discard) => Some("discard"),
                (Key::Service(_, Fec::VrfName { .. }), _) => Some("service by name"),
                (Key::Ilm(_, Origin::Table(_)), Operation::Pop) => Some("table"),
                (Key::Service(..), Operation::Push) => Some("service"),
                _ => None,
            });
        }
    }
    assert!(two_labels > 10, "{two_labels}");
    let all = [
        "alternate",
        "bypass",
        "circuit",
        "copies",
        "copies at the root",
        "discard",
        "interface",
        "segment",
        "service",
        "service by name",
        "table",
        "tunnel",
    ];
    assert_eq!(seen, all.into());
}

/// RFC 4090 section 3.2: around the next router with the label that the next but one gave; before
/// the tail, and where nothing leads around the router, around the link.
#[test]
fn a_failed_router_is_gone_around_and_the_tunnel_goes_on_behind_it() {
    let world = world("ldp,rsvp".parse().unwrap());
    let (network, state) = (&world.network, &*world.first);
    let topology = &network.topology;
    let mut failures: BTreeMap<Down, State> = BTreeMap::new();
    let (mut around_routers, mut around_links, mut last) = (0, 0, 0);
    for route in state.tunnels.routes.iter().flatten() {
        for (place, &(router, link)) in route.hops.iter().enumerate() {
            let plain = rsvp::branch(network, state, route, place).unwrap();
            let (next, _) = topology.links[link].far_end(router);
            assert_eq!(plain, topology.branch(router, link, plain.stack[..1].into()));
            // Whether the link has failed or the router behind it, nobody knows: it is the same.
            let router_down = Down { routers: BTreeSet::from([next]), ..Down::default() };
            let repaired = [Down::link(link), router_down].map(|down| {
                let failed = failures.entry(down.clone()).or_insert_with(|| {
                    let paths = Arc::new(Paths::compute(topology, &down));
                    state.follow(network, down, &paths)
                });
                rsvp::branch(network, failed, route, place)
            });
            let bypass = |around| state.tunnels.bypasses.get(&(around, router));
            let onward = route.hops.get(place + 1).map(|(_, onward)| *onward);
            let merge = onward.map(|onward| topology.links[onward].far_end(next).0);
            let router_bypass =
                merge.and_then(|merge| bypass(Around::Router { avoided: next, merge }));
            let stack = |bypass: &Route, inner: Label| -> Vec<Label> {
                let labels = [bypass.labels[0], inner].into_iter();
                let labels: Vec<Label> = labels.filter(|l| *l != Label::IMPLICIT_NULL).collect();
                if labels.is_empty() { vec![Label::IMPLICIT_NULL] } else { labels }
            };
            last += usize::from(merge.is_none());
            let expected = match (router_bypass, bypass(Around::Link(link))) {
                (Some(bypass), _) => {
                    around_routers += 1;
                    assert!(bypass.hops.iter().all(|(router, _)| *router != next));
                    let stack = stack(bypass, route.labels[place + 1]);
                    [Some(stack.clone()), Some(stack)]
                }
                // Its end is the router that has failed.
                (None, Some(bypass)) => {
                    around_links += 1;
                    [Some(stack(bypass, route.labels[place])), None]
                }
                (None, None) => [None, None],
            };
            let found = repaired.map(|branch| branch.map(|branch| branch.stack.to_vec()));
            assert_eq!(found, expected, "{route:?} at {place}");
        }
    }
    assert!(around_routers > 50 && around_links > 50, "{around_routers} {around_links}");
    assert!(last > 50 && around_links >= last / 2, "{around_links} of {last}");
}

#[test]
fn a_label_that_was_released_is_given_again_and_never_at_once() {
    let world = world(Services::ALL);
    let mut released: BTreeMap<(usize, u32), Key> = BTreeMap::new();
    let mut reused = 0;
    let states = states(&world);
    for pair in states.windows(2) {
        let labels = |state: &State| -> BTreeSet<(usize, u32)> {
            let of = state.tunnels.labels().chain(state.trees.labels());
            of.map(|(router, label)| (router, label.value())).collect()
        };
        let [old, new] = [labels(pair[0]), labels(pair[1])];
        reused += new.difference(&old).filter(|given| released.contains_key(given)).count();
        let platform = |(router, label): (usize, u32)| {
            ((router, label), Key::Ilm(Label::new(label).unwrap(), Origin::Platform))
        };
        released.extend(old.difference(&new).copied().map(platform));
        // Who keeps a tunnel's route keeps its labels: nothing is swapped between two tunnels.
        for (was, is) in pair[0].tunnels.routes.iter().zip(&pair[1].tunnels.routes) {
            let same_hops = was.as_ref().map(|r| &r.hops) == is.as_ref().map(|r| &r.hops);
            assert!(!same_hops || was == is);
        }
    }
    assert!(reused > 0);
}

#[test]
fn one_service_more_changes_no_entry_of_the_others() {
    let plain = world(Services::default());
    let more = world(Services { vpws: true, ..Services::default() });
    let [plain, more] = [&plain, &more].map(|world| tables(&world.network, &world.first));
    let mut added = 0;
    for (plain, more) in plain.iter().zip(&more) {
        let more_by_key: BTreeMap<Key, &Mapping> = more.iter().map(|m| (m.key(), m)).collect();
        assert!(plain.iter().all(|entry| more_by_key.get(&entry.key()) == Some(&entry)));
        added += more.len() - plain.len();
    }
    // Of each end of each circuit: way out, label to push, and the outer push.
    assert_eq!(added, 80 * 2 * 3);
}

#[test]
fn services_are_read_by_their_words() {
    assert_eq!("ldp,l3vpn".parse(), Ok(Services::default()));
    assert_eq!(
        "discard,vrf-names,backup,unnumbered,p2mp, vpws,l3vpn,sr,rsvp,ldp".parse(),
        Ok(Services::ALL)
    );
    let unknown = "ldp,atm".parse::<Services>().unwrap_err();
    assert!(unknown.contains("found atm"), "{unknown}");
    assert!("l3vpn".parse::<Services>().unwrap_err().contains("at least one of ldp, sr and rsvp"));
}

/// RFC 5286 section 3.1: whoever gets a packet by a backup branch does not send it back.
#[test]
fn an_alternate_leads_on_without_the_router_that_takes_it() {
    let world = world("ldp,unnumbered,backup".parse().unwrap());
    let network = &world.network;
    let topology = &network.topology;
    let (mut spares, mut farther) = (0, 0);
    for state in states(&world).into_iter().take(2) {
        for (router, fec) in (0..120).flat_map(|router| (0..40).map(move |fec| (router, fec))) {
            let kind = super::transport::Kind::Ldp;
            let branches = super::transport::branches(network, state, kind, router, fec);
            let Some(spare) = branches.iter().find(|branch| branch.role == Role::Backup) else {
                continue;
            };
            assert_eq!(branches.len(), 2);
            let over = |link: &&usize| {
                let branch = topology.branch(router, **link, spare.stack.clone());
                Nhlfe { role: Role::Backup, ..branch } == *spare
            };
            let link = *topology.routers[router].links.iter().find(over).unwrap();
            let (far, _) = topology.links[link].far_end(router);
            let mut open = vec![far];
            let mut met = BTreeSet::new();
            while let Some(here) = open.pop() {
                let links = state.paths.next_links(topology, fec, here);
                let next = links.map(|link| topology.links[link].far_end(here).0);
                open.extend(next.filter(|next| met.insert(*next)));
            }
            assert!(!met.contains(&router), "{router} to {fec}");
            spares += 1;
            let [there, here] = [far, router].map(|at| state.paths.distance(fec, at));
            farther += usize::from(there > here);
        }
    }
    assert!(spares > 1_000 && farther > 100, "{spares} {farther}");
}

/// What a router does not look at again, nobody would hear of.
#[test]
fn what_changes_between_two_states_is_among_what_may_differ() {
    let (mut same, mut changed) = (0, 0);
    for services in ["all", "ldp,l3vpn,backup,discard"] {
        let world = world(services.parse().unwrap());
        let network = &world.network;
        for pair in states(&world).windows(2) {
            for router in 0..120 {
                let differing = network.differing(pair[0], pair[1], router);
                let passing = pair.iter().flat_map(|state| state.passing(router));
                for unit in network.units(router).chain(passing) {
                    let mut said = Vec::new();
                    let [old, new] = [pair[0], pair[1]];
                    network.changes([old, new], router, unit, Micros(0), &mut said);
                    assert!(said.is_empty() || differing.contains(&unit), "{router} {unit:?}");
                    same += usize::from(said.is_empty());
                    changed += usize::from(!said.is_empty());
                }
            }
        }
    }
    assert!(same > 1_000 && changed > 1_000, "{same} {changed}");
}
