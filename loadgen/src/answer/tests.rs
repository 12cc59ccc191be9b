//! Tables and ways of the key agree with each other, and with following labels by hand.

use std::net::IpAddr;

use storage::interface::Interface;
use storage::mapping::{Ingress, NextHop, Nhlfe, Origin, Role};

use super::*;
use crate::model::Model;
use crate::scenario::Scenario;
use crate::topology::{Shape, Topology};

const BEGAN: Micros = Micros(1_000_000);

fn world() -> World {
    let shape = Shape { routers: 150, edges: 24, seed: 4 };
    let world = World::generate(&shape.into(), Micros(1_000)).unwrap();
    world.stage(0, BEGAN);
    world
}

/// When everybody has changed everything.
fn end(world: &World) -> Micros {
    BEGAN.offset(world.plan.epochs[0].span_us().unwrap().1)
}

#[test]
fn a_table_before_and_after_is_that_of_the_network_and_between_it_is_mixed() {
    let world = world();
    let key = world.key();
    let mut mixed = 0;
    for (router_index, reaction) in &world.plan.epochs[0].reactions {
        let router_index = *router_index;
        let sorted = |state: &State| {
            let mut table = world.network.table(state, router_index, Micros(0));
            table.sort_unstable_by_key(Mapping::key);
            table
        };
        let timeless = |at: Micros| {
            let mut table = key.table(router_index, at);
            table.iter_mut().for_each(|entry| entry.event_time = Micros(0));
            table
        };
        let (old, new) = (sorted(&world.first), sorted(&world.plan.epochs[0].state));
        assert_eq!(timeless(BEGAN), old);
        assert_eq!(timeless(end(&world)), new);
        let first = key.table(router_index, BEGAN.offset(reaction.start_us));
        let late = first.iter().filter(|entry| entry.event_time != Micros(1_000));
        mixed += usize::from(late.count() > 0 && reaction.units.len() > 1);
    }
    assert!(mixed > 50, "{mixed}");
}

/// Follows the labels through the tables, one branch at a time, as a packet would.
/// `None` where a router has no entry for what arrives.
fn follow(
    key: &AnswerKey<'_>,
    question: &Question,
    tables: &[BTreeMap<Key, Mapping>],
    owners: &BTreeMap<IpAddr, usize>,
) -> Option<BTreeSet<Vec<RouterId>>> {
    let topology = &key.network.topology;
    let mut found = BTreeSet::new();
    let own = Key::Ftn(key.fec(question));
    let entry = match question.target {
        Target::Table(number) => {
            let table = Origin::Table(tables::table(question.fec_index));
            Key::Ilm(tables::label(number), table)
        }
        // The longest match: without an entry of its own a prefix is part of its VRF.
        Target::Prefix(SitePrefix { vpn_index, site, .. })
            if !tables[question.head].contains_key(&own) =>
        {
            Key::Ftn(key.network.vrf(vpn_index, site))
        }
        _ => own,
    };
    let mut open = vec![(question.head, entry, vec![], vec![])];
    while let Some((router, wanted, below, route)) = open.pop() {
        let here = topology.routers[router].id;
        let through: Vec<RouterId> = [route.clone(), vec![here]].concat();
        let branches = tables[router].get(&wanted)?.branches.iter();
        for branch in branches.filter(|branch| branch.role == Role::Primary) {
            let mut stack: Vec<Label> = below.clone();
            stack.extend(branch.stack.iter().rev().filter(|l| **l != Label::IMPLICIT_NULL));
            let next = match branch.next_hop {
                NextHop::Fec => {
                    found.insert(through.clone());
                    continue;
                }
                NextHop::Recursive => {
                    let fec = match wanted {
                        Key::Ftn(fec @ Fec::VrfName { .. }) => fec,
                        _ => key.network.fec(question.fec_index),
                    };
                    let inner = Key::Service(*stack.last().unwrap(), fec);
                    open.push((router, inner, stack, route.clone()));
                    continue;
                }
                NextHop::Address(address) => owners[&address],
                NextHop::Interface => behind(topology, router, branch),
            };
            match stack.pop() {
                Some(top) => {
                    let interface = Key::Ilm(top, Origin::Interface(here));
                    let wanted = match tables[next].contains_key(&interface) {
                        true => interface,
                        false => Key::Ilm(top, Origin::Platform),
                    };
                    open.push((next, wanted, stack, through.clone()));
                }
                None => {
                    found.insert([through.clone(), vec![topology.routers[next].id]].concat());
                }
            }
        }
    }
    Some(found)
}

/// The router behind the interface that the branch names, by what the router's hello says.
fn behind(topology: &Topology, router: usize, branch: &Nhlfe) -> usize {
    let interfaces = topology.interfaces(router);
    let named = |it: &&Interface| branch.interface().is_some_and(|n| *it.name == *n.as_str());
    let neighbour = interfaces.iter().find(named).and_then(|interface| interface.neighbour);
    topology.routers.iter().position(|router| Some(router.id) == neighbour).unwrap()
}

fn owners(world: &World) -> BTreeMap<IpAddr, usize> {
    let topology = &world.network.topology;
    let of_router = |router: usize| {
        let addresses = topology.interface_addresses(router).into_iter();
        addresses.map(move |address| (address, router))
    };
    (0..topology.routers.len()).flat_map(of_router).collect()
}

/// Asks every question of these instants; returns how many LSPs branch, and how many are lost.
fn follow_all(world: &World, instants: &[Micros]) -> (usize, usize) {
    let (key, owners) = (world.key(), owners(world));
    let routers = 0..world.network.topology.routers.len();
    let (mut branched, mut lost, mut discarded) = (0, 0, 0);
    for at in instants {
        let by_key = |table: Vec<Mapping>| table.into_iter().map(|m| (m.key(), m)).collect();
        let tables: Vec<_> = routers.clone().map(|r| by_key(key.table(r, *at))).collect();
        let state = key.state_at(*at).unwrap();
        let here = |q: &Question| key.presence(q.head, *at) == Presence::Here;
        for question in key.questions().filter(here) {
            let followed = follow(&key, &question, &tables, &owners);
            match key.walk(state, &question).unwrap() {
                Way::Discarded => {
                    let entry = &tables[question.head][&Key::Ftn(key.fec(&question))];
                    assert_eq!(entry.operation, Operation::Discard);
                    discarded += 1;
                }
                Way::Lost => {
                    lost += 1;
                    assert_eq!(followed, None, "{question:?} at {at}");
                }
                Way::Delivered(walks) => {
                    let route = |walk: &Vec<Hop>| walk.iter().map(|hop| hop.router).collect();
                    let routes: BTreeSet<Vec<RouterId>> = walks.iter().map(route).collect();
                    branched += usize::from(routes.len() > 1);
                    assert_eq!(followed, Some(routes), "{question:?} at {at}");
                }
            }
        }
    }
    assert_eq!(discarded > 0, world.network.services.discard);
    (branched, lost)
}

#[test]
fn following_the_labels_leads_where_the_topology_says() {
    let world = world();
    let (branched, lost) = follow_all(&world, &[Micros(2_000), end(&world)]);
    assert!(branched > 10, "{branched}");
    assert_eq!(lost, 0);
    let questions: Vec<Question> = world.key().questions().collect();
    assert!(questions.iter().any(|question| question.target != Target::Loopback));
}

#[test]
fn every_service_leads_where_the_topology_says_before_during_and_after_a_repair() {
    let shape = Shape { routers: 100, edges: 24, seed: 4 };
    let script = "[[step]]\nlink-down = {}\n[[step]]\nnode-down = {}";
    let script = crate::scenario::Script::parse(script).unwrap();
    let scenario = crate::scenario::Scenario::Script(script.into());
    for services in ["all", "ldp,rsvp,sr,l3vpn,vpws,p2mp", "sr,vpws", "rsvp,l3vpn", "ldp,p2mp"] {
        let services = services.parse().unwrap();
        let scenario = scenario.clone();
        let model = crate::model::Model { services, scenario, ..shape.into() };
        let world = World::generate(&model, Micros(1_000)).unwrap();
        let mut instants = vec![Micros(2_000)];
        for (act, began) in [BEGAN, Micros(20_000_000)].into_iter().enumerate() {
            world.stage(act, began);
            for (_, epoch) in world.plan.epochs_of(act) {
                instants.extend(epoch.span_us().map(|(_, last_us)| began.offset(last_us)));
            }
        }
        let (branched, lost) = follow_all(&world, &instants);
        assert!(branched > 10 || !services.ldp, "{services:?}: {branched}");
        // Bypasses lead around links and routers. Without the IGP many have no tunnel to begin
        // with.
        assert_eq!(lost > 0, !services.ldp && !services.sr, "{services:?}");
    }
}

#[test]
fn a_customers_prefix_leads_where_it_is_announced_and_else_with_the_rest_of_its_vrf() {
    let shape = Shape { routers: 60, edges: 16, seed: 4 };
    let script = "[[step]]\nvpn-churn = { events = 60, over_ms = 30000 }";
    let script = crate::scenario::Script::parse(script).unwrap();
    let scenario = crate::scenario::Scenario::Script(script.into());
    let services = "ldp,l3vpn,vrf-names".parse().unwrap();
    let model = crate::model::Model { scenario, services, ..shape.into() };
    let world = World::generate(&model, Micros(1_000)).unwrap();
    assert!(world.network.vpns.iter().any(|vpn| vpn.name.is_some()));
    world.stage(0, BEGAN);
    let ends = world.plan.epochs.iter().filter_map(|epoch| epoch.span_us());
    let ends = ends.map(|(_, last_us)| BEGAN.offset(last_us));
    let settled: Vec<Micros> =
        ends.filter(|at| world.key().state_at(*at).is_some()).step_by(5).collect();
    assert!(settled.len() > 2, "{settled:?}");
    assert_eq!(follow_all(&world, &settled).1, 0);
    let announced: BTreeSet<usize> =
        world.plan.epochs.iter().map(|epoch| epoch.state.announced.len()).collect();
    assert!(announced.len() > 3, "{announced:?}");
    // A label that was withdrawn is soon another prefix's.
    let labels = |state: &State| -> BTreeSet<_> {
        let of = |(route, label): (&SitePrefix, &Label)| (route.site, *label, *route);
        state.announced.iter().map(of).collect()
    };
    let all: BTreeSet<_> =
        world.plan.epochs.iter().flat_map(|epoch| labels(&epoch.state)).collect();
    let apart: BTreeSet<_> = all.iter().map(|(site, label, _)| (*site, *label)).collect();
    assert!(apart.len() < all.len(), "{} of {}", apart.len(), all.len());
}

#[test]
fn paths_are_not_vouched_for_while_routers_disagree() {
    let world = world();
    let key = world.key();
    assert!(key.state_at(end(&world).offset(-1)).is_none());
    assert!(key.state_at(BEGAN).is_some_and(|state| state == &*world.first));
    let untagged = key.table(0, Micros(2_000));
    assert!(untagged.iter().any(|entry| entry.ingress == Ingress::UNTAGGED));
}

/// The collector vouches for a session until it sees it break, and for nothing behind that.
#[test]
fn a_session_that_breaks_late_is_vouched_for_until_the_break_is_noticed() {
    let shape = Shape { routers: 60, edges: 12, seed: 4 };
    let model = Model { scenario: Scenario::CollectorRestart, ..Model::from(shape) };
    let world = World::generate(&model, Micros(1_000)).unwrap();
    world.stage(0, BEGAN);
    let back = BEGAN.offset(world.plan.acts[0].cuts[0].back_us.unwrap());
    world.close(0, back.offset(1_000));
    let noticed = BEGAN.offset(300);
    let outage = |router_index, noticed| {
        let (proved, whole) = (Micros(5_000), Some(back.offset(900)));
        Outage { router_index, proved, noticed, whole }
    };
    world.tell_outages(0, vec![outage(1, Some(noticed)), outage(2, None)]);
    let presence = |router_index, at| world.key().presence(router_index, at);
    assert_eq!(presence(1, BEGAN.offset(299)), Presence::Unsure);
    assert_eq!(presence(1, noticed), Presence::Gone);
    assert_eq!(presence(1, back.offset(-1)), Presence::Gone);
    // Nobody has seen when the collector noticed.
    assert_eq!(presence(2, noticed), Presence::Unsure);
    assert_eq!(presence(3, BEGAN.offset(1)), Presence::Gone);
    assert_eq!(presence(1, back.offset(1_001)), Presence::Here);
}

/// Four places in a row, with so many lines beside each other from each to the next.
fn parallel(lines: [usize; 3]) -> World {
    let nodes: String = (0..4).map(|id| format!("node [ id {id} ]\n")).collect();
    let edge = |place: usize| format!("edge [ source {place} target {} ]\n", place + 1);
    let edges: String = (0..3).map(|place| edge(place).repeat(lines[place])).collect();
    let map = crate::map::Map::parse(&format!("graph [\n{nodes}{edges}]")).unwrap();
    let graph = crate::model::Graph::Mapped { map: map.into(), edges_per_place: 1 };
    let shape = Shape { routers: 24, edges: 4, seed: 1 };
    let scenario = Scenario::ColdStart;
    let model = Model { graph, scenario, ..Model::from(shape) };
    World::generate(&model, Micros(1_000)).unwrap()
}

/// A report lists a path for every branch that is taken, and so many at most: beyond that neither
/// side has them all.
#[test]
fn paths_over_parallel_lines_are_counted_one_by_one_and_are_one_way() {
    let ways = |lines: [usize; 3]| {
        let world = parallel(lines);
        let question = Question { head: 0, fec_index: 3, target: Target::Loopback };
        world.key().walk(&world.first, &question)
    };
    assert_eq!(engine::query::PATHS_MAX, 8 * 8 * 16);
    let Some(Way::Delivered(found)) = ways([8, 8, 16]) else { panic!("as many as are listed") };
    assert_eq!(found.len(), 1);
    assert_eq!(ways([8, 8, 17]), None);
}

/// Says again what the router's own clock said, however wrong that is.
#[test]
fn a_table_that_is_told_again_has_the_times_that_it_had() {
    let shape = Shape { routers: 60, edges: 12, seed: 4 };
    let faults = vec![crate::faults::Fault::ClockSkew.into()];
    let world = World::generate(&Model { faults, ..Model::from(shape) }, Micros(1_000)).unwrap();
    let far = (0..60).filter(|router| world.clocks.of(*router).is_far);
    for router_index in far.clone() {
        let said = world.said(router_index, Micros(1_000));
        let held = world.key().held(router_index, Micros(2_000));
        assert!(held.len() > 10 && held.iter().all(|entry| entry.event_time == said));
    }
    assert!(far.count() > 2);
}

/// What the collector read late is filed late: until it has certainly been read, either value may
/// be shown.
#[test]
fn a_clock_that_is_wrong_leaves_open_when_its_changes_were_filed() {
    use crate::faults::Fault;

    let shape = Shape { routers: 60, edges: 12, seed: 4 };
    let faults = vec![Fault::ClockSkew.into(), Fault::ClockStep.into()];
    let world = World::generate(&Model { faults, ..Model::from(shape) }, Micros(1_000)).unwrap();
    let ended = BEGAN.offset(90_000_000);
    world.settle(Micros(500_000));
    world.stage(0, BEGAN);
    world.close(0, ended);
    let key = world.key();
    let (mut ahead, mut disputed) = (0, 0);
    for router_index in 0..60 {
        assert_eq!(key.as_of(router_index, ended).open, BTreeSet::new());
        for Filed { mapping, happened, span } in key.filed(router_index, Micros::MAX) {
            if mapping.event_time > ended {
                ahead += 1;
                assert_eq!(span, Span { earliest: happened, latest: ended, certain: ended });
            } else if mapping.event_time < Micros(1_000) && span.latest == Micros(500_000) {
                disputed += 1;
                assert_eq!((span.earliest >= Micros(1_000), span.certain), (true, ended));
            }
        }
    }
    assert!(ahead > 10 && disputed > 10, "{ahead} {disputed}");
}
