//! A network over a map: at each place a core router, and provider edges behind it.
//!
//! In:   a `Map`, and how many provider edges each place has.
//! Out:  `Topology`: places in the order of the map, then the edges, place by place.
//! Law:  every line of the map is a link, parallel ones and islands included.
//! Not:  reading maps (`map`), or the generated shape (`topology`).

use super::{Builder, ROUTERS_MAX, Role, ShapeError, Topology};
use crate::map::{Map, Place};

/// Cost of ten kilometres of fibre is 1; of a line whose length is not known, this.
const UNMEASURED_COST: u32 = 100;
const KILOMETRES_PER_COST: f64 = 10.0;
/// Between a provider edge and the core router of its place.
const EDGE_COST: u32 = 1;

impl Topology {
    /// A network over this map. Errors: `ShapeError` when there would be fewer than two provider
    /// edges, or more routers than `ROUTERS_MAX`.
    pub fn over(map: &Map, edges_per_place: usize) -> Result<Topology, ShapeError> {
        let edges = map.places.len().saturating_mul(edges_per_place);
        let routers = map.places.len().saturating_add(edges);
        if edges < 2 {
            let expected = "at least 2 on the whole map".to_owned();
            return Err(ShapeError { name: "provider edges", expected, found: edges });
        }
        if routers > ROUTERS_MAX {
            let expected = format!("at most {ROUTERS_MAX}");
            return Err(ShapeError { name: "routers", expected, found: routers });
        }
        // Nothing is left to chance here but what the labels draw.
        let mut builder = Builder::new(0);
        for (region, place) in map.places.iter().enumerate() {
            let router_index = builder.router(Role::Core { plane: 0 }, region);
            builder.routers[router_index].name = Some(place.name.clone());
        }
        for ends in &map.lines {
            let cost = cost(ends.map(|end| &map.places[end]));
            builder.link(*ends, cost, true);
        }
        let mut edges = Vec::with_capacity(edges);
        for (core, place) in map.places.iter().enumerate() {
            for number in 1..=edges_per_place {
                let router_index = builder.router(Role::Access, core);
                builder.routers[router_index].name = Some(format!("{} edge {number}", place.name));
                builder.link([core, router_index], EDGE_COST, false);
                edges.push(router_index);
            }
        }
        Ok(Topology { routers: builder.routers, links: builder.links, edges })
    }
}

fn cost(ends: [&Place; 2]) -> u32 {
    match ends.map(|place| place.position) {
        [Some(one), Some(other)] => {
            // Half of the equator is 20,037 km: below 2^32 by far, and never negative.
            1 + (one.kilometres_to(other) / KILOMETRES_PER_COST) as u32
        }
        _ => UNMEASURED_COST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: &str = "graph [
        node [ id 1 label \"A\" Latitude 50 Longitude 0 ]
        node [ id 2 label \"B\" Latitude 50 Longitude 1 ]
        node [ id 3 label \"C\" ] node [ id 4 label \"D\" ]
        edge [ source 1 target 2 ] edge [ source 2 target 3 ] edge [ source 2 target 3 ]
    ]";

    #[test]
    fn places_lines_and_edges_become_routers_links_and_fecs() {
        let map = Map::parse(SQUARE).unwrap();
        let topology = Topology::over(&map, 3).unwrap();
        assert_eq!((topology.routers.len(), topology.links.len()), (16, 3 + 12));
        assert_eq!(topology.edges, (4..16).collect::<Vec<usize>>());
        // A degree at 50 north is 71.5 km.
        assert_eq!([0, 1, 2].map(|link| topology.links[link].cost), [8, 100, 100]);
        assert_eq!(topology.name(0), "A (172.16.0.1)");
        assert_eq!(topology.name(15), "D edge 3 (172.16.0.16)");
        // D is an island: its edges see each other and nobody else.
        let seen = topology.hops_from(3, |_| true).iter().flatten().count();
        assert_eq!(seen, 4);
    }

    #[test]
    fn a_map_without_two_edges_is_refused() {
        let map = Map::parse("graph [ node [ id 1 ] ]").unwrap();
        assert_eq!(Topology::over(&map, 1).unwrap_err().name, "provider edges");
        assert_eq!(Topology::over(&map, ROUTERS_MAX).unwrap_err().name, "routers");
        assert_eq!(Topology::over(&map, 2).unwrap().edges, [1, 2]);
    }
}
