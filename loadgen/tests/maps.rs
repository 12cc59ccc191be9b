//! Maps of real networks, where they can be had: from the file to the verdict.

use std::path::PathBuf;
use std::sync::Arc;

use engine::settings::Settings;
use loadgen::demo::{DemoSettings, demonstrate};
use loadgen::map::Map;
use loadgen::model::{Graph, Model};
use loadgen::scenario::Scenario;
use loadgen::services::Services;
use loadgen::topology::Topology;
use loadgen::verdict::Verify;

/// Maps that lie in the folder that STORMDRAIN_TOPOLOGIES names; without it a map that is made up,
/// which is said aloud.
fn maps() -> Vec<(String, Map)> {
    let mut found = Vec::new();
    let folder = std::env::var_os("STORMDRAIN_TOPOLOGIES").map(PathBuf::from);
    let Some(folder) = folder else {
        eprintln!(
            "NOT RUN on maps of real networks: STORMDRAIN_TOPOLOGIES names no folder of them"
        );
        return vec![("a made-up map".to_owned(), Map::parse(&made_up(40)).unwrap())];
    };
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "gml" || end == "graphml") {
            found.push((path.display().to_string(), Map::read(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "{}: no map", folder.display());
    found
}

/// A ring with chords, and an island of two.
fn made_up(places: usize) -> String {
    let node = |id: usize| format!("node [ id {id} label \"P{}\" ]\n", id % 7);
    let edge =
        |id: usize, by: usize| format!("edge [ source {id} target {} ]\n", (id + by) % places);
    let nodes: String = (0..places + 2).map(node).collect();
    let ring: String = (0..places).map(|id| edge(id, 1)).collect();
    let chords: String = (0..places).step_by(5).map(|id| edge(id, places / 3)).collect();
    let island = format!("edge [ source {places} target {} ]\n", places + 1);
    format!("graph [\n{nodes}{ring}{chords}{island}]")
}

/// A chain in which every place has three lines to the next: 3 to the 8th ways from end to end.
fn parallel() -> Map {
    let nodes: String = (0..9).map(|id| format!("node [ id {id} ]\n")).collect();
    let edge = |id: usize| format!("edge [ source {id} target {} ]\n", id + 1);
    let edges: String = (0..8).map(|id| edge(id).repeat(3)).collect();
    Map::parse(&format!("graph [\n{nodes}{edges}]")).unwrap()
}

#[test]
fn every_map_becomes_a_network_with_all_its_places() {
    for (name, map) in maps() {
        let topology = Topology::over(&map, 2).unwrap();
        assert_eq!(topology.routers.len(), 3 * map.places.len(), "{name}");
        assert_eq!(topology.links.len(), map.lines.len() + 2 * map.places.len(), "{name}");
        let mut unseen = vec![true; topology.routers.len()];
        let mut parts = 0;
        while let Some(start) = unseen.iter().position(|unseen| *unseen) {
            let hops = topology.hops_from(start, |_| true);
            hops.iter().zip(&mut unseen).for_each(|(hops, unseen)| *unseen &= hops.is_none());
            parts += 1;
        }
        assert_eq!(parts, map.parts(), "{name}: {:?}", map.notes);
    }
}

#[test]
fn a_storm_over_a_map_is_answered_exactly() {
    let maps = maps();
    let (name, map) =
        maps.into_iter().min_by_key(|(_, map)| map.places.len().abs_diff(40)).unwrap();
    exact(&name, map);
}

/// Neither side lists every way; both say so of the same LSPs.
#[test]
fn a_storm_over_many_parallel_lines_is_answered_exactly() {
    exact("parallel lines", parallel());
}

fn exact(name: &str, map: Map) {
    let graph = Graph::Mapped { map: Arc::new(map), edges_per_place: 1 };
    let (services, scenario) = (Services::default(), Scenario::LinkDown);
    let data = tempfile::tempdir().unwrap();
    let settings = DemoSettings {
        model: Model { graph, services, scenario, faults: vec![], ipv6: false, seed: 3 },
        routers_per_second: 0,
        collector: Settings { shards: 2, ..Settings::default() },
        data: data.path().to_owned(),
        verify: Verify::default(),
    };
    let report = demonstrate(&settings, &mut |_| {}).unwrap().report;
    let verdict = report.verdict.as_ref().unwrap();
    assert!(verdict.is_exact(), "{name}: {verdict}");
    assert!(report.storm.unwrap().act.mappings > 0, "{name}");
}
