//! Plans: what changes, when, and that nothing is invented.

use storage::mapping::{Key, Mapping, Operation};
use storage::time::Micros;

use super::*;
use crate::model::Model;
use crate::scenario::Scenario;
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
    for scenario in Scenario::NAMED {
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
