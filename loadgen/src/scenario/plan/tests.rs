//! Plans: what changes, when, and that nothing is invented.

use storage::mapping::{Key, Mapping, Operation};
use storage::time::Micros;

use super::*;
use crate::model::Model;
use crate::network::Unit;
use crate::scenario::react::Reaction;
use crate::scenario::{Scenario, Script, Step};
use crate::services::area;
use crate::services::l3vpn::SitePrefix;
use crate::topology::Shape;

/// The smallest share of all mappings that a failed core link has to change.
const SHARE_MIN: f64 = 0.10;

fn planned(shape: Shape, scenario: Scenario) -> (Network, Arc<State>, Plan) {
    let model = Model { scenario, ..Model::from(shape) };
    let network = Network::generate(&model).unwrap();
    let first = Arc::new(State::settle(&network, Down::default()));
    let plan = Plan::make(&network, &first, &model.scenario.script(), model.seed).unwrap();
    (network, first, plan)
}

fn small(scenario: Scenario) -> (Network, Arc<State>, Plan) {
    planned(Shape { routers: 120, edges: 20, seed: 2 }, scenario)
}

fn by_key(table: Vec<Mapping>) -> BTreeMap<Key, Mapping> {
    table.into_iter().map(|mapping| (mapping.key(), mapping)).collect()
}

/// What every router says in an epoch, with how many mappings there are before it.
fn said(network: &Network, first: &State, plan: &Plan, index: usize) -> (usize, usize) {
    let epoch = &plan.epochs[index];
    let (mut changes, mut mappings) = (0, 0);
    for router_index in 0..network.topology.routers.len() {
        if epoch.state.down.routers.contains(&router_index) {
            assert!(!epoch.reactions.contains_key(&router_index));
            continue;
        }
        let states = [plan.before(first, index, router_index), &epoch.state];
        let [old, new] = states.map(|state| by_key(network.table(state, router_index, Micros(0))));
        mappings += old.len();
        let mut said = Vec::new();
        let reaction = epoch.reactions.get(&router_index);
        for unit in reaction.map_or(&[][..], |reaction| &reaction.units) {
            network.changes(states, router_index, *unit, Micros(0), &mut said);
        }
        changes += said.len();
        let withdrawn = said.iter().filter(|entry| entry.operation == Operation::None);
        let gone = old.keys().filter(|key| !new.contains_key(key));
        assert!(withdrawn.map(Mapping::key).collect::<BTreeSet<_>>().iter().eq(gone));
        said.retain(|entry| entry.operation != Operation::None);
        let mut expected = new;
        expected.retain(|key, mapping| old.get(key) != Some(mapping));
        assert_eq!(by_key(said), expected, "router {router_index}, epoch {index}");
    }
    (changes, mappings)
}

#[test]
fn what_changes_is_the_difference_of_the_tables_in_every_scenario() {
    // The recorded failover has tables a hundred times as large, and a test of its own.
    for scenario in Scenario::NAMED.into_iter().filter(|it| *it != Scenario::FrrFailover) {
        let (network, first, plan) = small(scenario.clone());
        let changes = (0..plan.epochs.len()).map(|index| said(&network, &first, &plan, index).0);
        let changes: usize = changes.sum();
        let silent = [Scenario::ColdStart, Scenario::CollectorRestart].contains(&scenario);
        assert_eq!(changes == 0, silent, "{}", scenario.name());
    }
}

#[test]
fn a_core_link_changes_a_tenth_of_all_mappings_whatever_the_seed() {
    for (routers, edges) in [(60, 10), (200, 40), (600, 60)] {
        for seed in 0..4 {
            let shape = Shape { routers, edges, seed };
            let (network, first, plan) = planned(shape, Scenario::LinkDown);
            let (changes, mappings) = said(&network, &first, &plan, 0);
            let share = changes as f64 / mappings as f64;
            assert!(share >= SHARE_MIN, "{routers} {seed}: {share}");
        }
    }
}

#[test]
fn the_network_speaks_within_a_second_and_no_change_comes_before_its_cause() {
    let shape = Shape { routers: 600, edges: 60, seed: 9 };
    let (_, _, plan) = planned(shape, Scenario::LinkDown);
    let (first_us, last_us) = plan.epochs[0].span_us().unwrap();
    assert!(last_us < 1_000_000, "{last_us}");
    assert!(plan.epochs[0].reactions.len() > 300, "{}", plan.epochs[0].reactions.len());
    // Detection takes 10 ms at least, the first SPF 55 ms.
    assert!(first_us >= 65_000, "{first_us}");
    let paces = plan.epochs[0].reactions.values().map(|reaction| reaction.install_us);
    let (slow, fast) = (paces.clone().max().unwrap(), paces.min().unwrap());
    assert!(slow > 10 * fast && fast >= 25 && slow <= 1_000, "{fast} to {slow}");
}

#[test]
fn no_router_does_two_things_at_once_however_fast_a_link_flaps() {
    let text = "[[step]]\nflap = { times = 6, down_ms = 20, up_ms = 20, up_ms_max = 20 }";
    let script = crate::scenario::Script::parse(text).unwrap();
    let (network, _, plan) = small(Scenario::Script(Arc::new(script)));
    assert_eq!(plan.epochs.len(), 12);
    let mut deferred = 0;
    for router_index in 0..network.topology.routers.len() {
        let mut free_us = i64::MIN;
        for epoch in &plan.epochs {
            let Some(reaction) = epoch.reactions.get(&router_index) else { continue };
            let start_us = epoch.offset_us + reaction.start_us;
            assert!(start_us >= free_us, "router {router_index}");
            deferred += usize::from(start_us == free_us);
            free_us = epoch.offset_us + reaction.end_us() + reaction.install_us;
        }
    }
    assert!(deferred > 0);
}

#[test]
fn what_comes_back_leaves_the_network_as_it_was() {
    let back = [Scenario::NodeDown, Scenario::Srlg, Scenario::Flap];
    for scenario in back.into_iter().chain([Scenario::Maintenance, Scenario::Trickle]) {
        let (_, first, plan) = small(scenario.clone());
        assert_eq!(plan.epochs.last().unwrap().state, first, "{}", scenario.name());
        let offsets: Vec<i64> = plan.epochs.iter().map(|epoch| epoch.offset_us).collect();
        assert!(offsets.is_sorted(), "{}: {offsets:?}", scenario.name());
    }
    let (network, _, plan) = small(Scenario::NodeDown);
    let cut = &plan.acts[0].cuts[0];
    assert_eq!(cut.routers, plan.epochs[0].state.down.routers);
    let (network_of_restart, _, restart) = small(Scenario::CollectorRestart);
    let routers = network.topology.routers.len();
    assert_eq!(network_of_restart.topology.routers.len(), routers);
    assert_eq!(restart.acts[0].cuts[0].routers.len(), routers);
}

#[test]
fn a_shared_risk_takes_links_of_one_place_and_maintenance_leaves_them_all() {
    let (network, _, plan) = small(Scenario::Srlg);
    let links: Vec<usize> = plan.epochs[0].state.down.links.iter().copied().collect();
    assert!(links.len() >= 2, "{links:?}");
    let ends = |link: usize| BTreeSet::from(network.topology.links[link].ends);
    let common = links.iter().map(|link| ends(*link)).reduce(|all, ends| &all & &ends);
    assert_eq!(common.unwrap().len(), 1, "{links:?}");
    let (_, _, plan) = small(Scenario::Maintenance);
    assert_eq!(plan.epochs.len(), 6);
    assert!(plan.epochs.iter().all(|epoch| epoch.state.down.links.is_empty()));
    assert_eq!(plan.epochs[2].state.down.drained.len(), 1);
}

#[test]
fn the_same_seed_makes_the_same_plan() {
    let shape = |seed| Shape { routers: 100, edges: 20, seed };
    let plan = |seed| planned(shape(seed), Scenario::Trickle).2;
    assert_eq!(plan(5), plan(5));
    assert_ne!(plan(5), plan(6));
}

/// The steps of a script over a network of 60 routers with this many provider edges.
fn scripted(text: &str, edges: usize) -> (Network, Arc<State>, Plan) {
    let script = crate::scenario::Script::parse(text).unwrap();
    let shape = Shape { routers: 60, edges, seed: 2 };
    planned(shape, Scenario::Script(Arc::new(script)))
}

fn failover(speakers: &str) -> Scenario {
    let text = format!("[[step]]\ntrace = {{ speakers = \"{speakers}\" }}");
    Scenario::Script(Arc::new(Script::parse(&text).unwrap()))
}

#[test]
fn the_recorded_failover_is_said_by_the_routers_around_a_core_link() {
    let (network, first, plan) = small(Scenario::FrrFailover);
    assert_eq!(plan, small(failover("cores")).2);
    let area = network.area.as_ref().unwrap();
    let ends = network.topology.links[area.link].ends;
    assert!(network.topology.links[area.link].trunk);
    let speakers: BTreeSet<usize> =
        plan.epochs.iter().flat_map(|epoch| epoch.reactions.keys().copied()).collect();
    assert_eq!(speakers, area.routers.iter().copied().collect());
    assert!(ends.iter().all(|end| speakers.contains(end)));
    let is_core =
        |router: &&usize| matches!(network.topology.routers[**router].role, Role::Core { .. });
    assert_eq!(speakers.iter().filter(is_core).count(), 6);
    // The prefixes leave the link: next hops change, not labels alone.
    let last = &plan.epochs.last().unwrap().state;
    let over = |state: &State, link: usize| {
        let uses = |((owner, _), binding): (&(usize, u16), &area::Binding)| {
            let places = 0..area.routers.len();
            places.filter(|place| area.next(binding.around, *owner, *place) == Some(link)).count()
        };
        state.bindings.iter().map(uses).sum::<usize>()
    };
    let [before, after] = [&*first, &**last].map(|state| over(state, area.link));
    assert!(before > 1_000 && after * 10 < before * 9, "{before} to {after}");
}

#[test]
fn a_recorded_failover_is_said_by_as_many_routers_as_much_and_in_its_time() {
    for speakers in ["cores", "l3vpn"] {
        said_as_recorded(failover(speakers));
    }
}

fn said_as_recorded(scenario: Scenario) {
    let (network, first, plan) = small(scenario);
    let speakers: BTreeSet<usize> =
        plan.epochs.iter().flat_map(|epoch| epoch.reactions.keys().copied()).collect();
    assert_eq!(speakers.len(), 6);
    let said: usize =
        (0..plan.epochs.len()).map(|index| said(&network, &first, &plan, index).0).sum();
    assert!((16_562..16_562 + 200).contains(&said), "{said}");
    let ends = plan.epochs.iter().filter_map(Epoch::span_us).map(|(_, last_us)| last_us);
    let last_us = ends.max().unwrap();
    assert!((600_000..=660_000).contains(&last_us), "{last_us}");
    for router_index in speakers {
        let reactions = plan.epochs.iter().filter_map(|epoch| epoch.reactions.get(&router_index));
        let spans: Vec<(i64, i64)> = reactions.map(|it| (it.start_us, it.end_us())).collect();
        assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "{spans:?}");
        let labels = network.table(&first, router_index, Micros(0));
        assert!((4_000..6_000).contains(&labels.len()), "{}", labels.len());
    }
}

/// Many batches of two routers: sizes and pauses have the quantiles that were asked for.
#[test]
fn batches_and_pauses_of_a_trace_are_distributed_as_the_script_says() {
    let text = "[pace]\nchanges_per_second = [50000, 50000]\n[[step]]\n\
                trace = { speakers = \"l3vpn\", routers = 2, messages = 8000, \
                batch = { log-normal = { median = 18.0, sigma = 0.7, most = 300 } }, \
                pause_us = { pareto = { least = 900.0, shape = 1.5, most = 1e6 } } }\n\
                # Its time is its own.";
    let script = crate::scenario::Script::parse(text).unwrap();
    let Step::Trace(mut trace) = script.step[0].clone() else { panic!("{script:?}") };
    trace.over_ms = None;
    let script = Script { step: vec![Step::Trace(trace.clone())], ..script };
    let shape = Shape { routers: 60, edges: 12, seed: 2 };
    let (network, first, plan) = planned(shape, Scenario::Script(Arc::new(script)));
    let (mut sizes, mut pauses) = (Vec::new(), Vec::new());
    let mut ends: BTreeMap<usize, i64> = BTreeMap::new();
    for (index, epoch) in plan.epochs.iter().enumerate() {
        for (router_index, reaction) in &epoch.reactions {
            let states = [plan.before(&first, index, *router_index), &epoch.state];
            let mut said = Vec::new();
            for unit in &reaction.units {
                network.changes(states, *router_index, *unit, Micros(0), &mut said);
            }
            // One that has an edge of its own says two of each prefix, the other three.
            let each = if reaction.units.len() == 1 { 2 } else { 3 };
            sizes.push((said.len() / each * 3) as f64);
            let installed_us = said.len() as i64 * 20;
            if let Some(end_us) = ends.insert(*router_index, reaction.start_us + installed_us) {
                pauses.push((reaction.start_us - end_us) as f64);
            }
        }
    }
    for (mut values, draw) in [(sizes, &trace.batch), (pauses, &trace.pause_us)] {
        assert!(values.len() > 300, "{}", values.len());
        values.sort_by(f64::total_cmp);
        for share in [0.25, 0.5, 0.75, 0.9] {
            let found = values[(share * values.len() as f64) as usize];
            let expected = draw.quantile(share);
            assert!((found / expected - 1.0).abs() < 0.3, "{share}: {found}, not {expected}");
        }
    }
}

#[test]
fn rates_are_those_that_were_asked_for_and_some_routers_report_later() {
    let pace = "[pace]\nchanges_per_second = [4000, 8000]\ndeferred_percent = 50\n";
    let (_, _, plan) = scripted(&format!("{pace}[[step]]\nlink-down = {{}}"), 12);
    let reactions: Vec<&Reaction> = plan.epochs[0].reactions.values().collect();
    assert!(reactions.iter().all(|it| (250..=500).contains(&it.install_us)), "{reactions:?}");
    let deferred = reactions.iter().filter(|it| it.deferred_us.is_some()).count();
    assert!((5..reactions.len() - 5).contains(&deferred), "{deferred} of {}", reactions.len());
}

/// Fast reroute waits for no SPF: who sees the failure repairs as soon as it is detected.
#[test]
fn tunnels_are_repaired_at_once_where_the_failure_is_seen() {
    for scenario in [Scenario::LinkDown, Scenario::NodeDown] {
        let services = "ldp,rsvp".parse().unwrap();
        let shape = Shape { routers: 120, edges: 20, seed: 2 };
        let model = Model { scenario, services, ..Model::from(shape) };
        let network = Network::generate(&model).unwrap();
        let first = Arc::new(State::settle(&network, Down::default()));
        let plan = Plan::make(&network, &first, &model.scenario.script(), model.seed).unwrap();
        let epoch = &plan.epochs[0];
        let witnesses = first.down.witnesses(&epoch.state.down, &network.topology);
        let mut repairs = 0;
        for (router_index, reaction) in &epoch.reactions {
            let tunnels = reaction.units.iter().filter(|unit| matches!(unit, Unit::Tunnel(_)));
            assert_eq!(reaction.repairs, tunnels.count(), "router {router_index}");
            assert!(reaction.repairs == 0 || witnesses.contains(router_index));
            let times: Vec<i64> =
                (0..reaction.units.len()).map(|place| reaction.time_us(place)).collect();
            assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
            let [repaired, rest] = <[&[i64]; 2]>::from(times.split_at(reaction.repairs));
            assert!(repaired.first().is_none_or(|at_us| (10_000..50_000).contains(at_us)));
            assert!(rest.iter().all(|at_us| *at_us >= 65_000), "{rest:?}");
            repairs += repaired.len();
        }
        assert!(repairs > 0, "{}", model.scenario.name());
        // Heads that were told signal anew: nothing of that is a repair.
        let signalled = plan.epochs[1].reactions.values();
        assert_eq!(signalled.map(|reaction| reaction.repairs).sum::<usize>(), 0);
    }
}

#[test]
fn a_label_is_another_prefixs_within_a_second() {
    let (_, _, plan) = scripted("faults = [\"label-reuse\"]\n[[step]]\nlink-down = {}", 12);
    let mut reused = 0;
    for pair in plan.epochs.windows(2) {
        let [before, after] = [&pair[0], &pair[1]];
        let earlier =
            plan.epochs.iter().rev().skip_while(|epoch| epoch.offset_us >= before.offset_us);
        let Some(earlier) = earlier.clone().next() else { continue };
        let came = after.state.announced.iter();
        let came = came.filter(|(route, _)| !before.state.announced.contains_key(route));
        for (route, label) in came {
            let had = |(other, old): (&SitePrefix, &storage::mapping::Label)| {
                other.site == route.site && old == label && other != route
            };
            reused += usize::from(earlier.state.announced.iter().any(had));
            assert!(after.offset_us - before.offset_us < 1_000_000);
        }
    }
    assert!(reused >= 6, "{reused}");
}

#[test]
fn the_example_of_the_docs_can_be_planned() {
    let (_, _, plan) = scripted(include_str!("../../../../docs/examples/trace.toml"), 12);
    let speakers = plan.epochs.iter().flat_map(|epoch| epoch.reactions.keys());
    assert_eq!(speakers.collect::<BTreeSet<_>>().len(), 4);
}
