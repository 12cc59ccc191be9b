//! The labelled network: what every router's table holds, derived from topology and paths.
//!
//! In:   a `Model`; what is down comes in with `State`.
//! Out:  label mappings of any router in any state, unit by unit, and what changes between two.
//! Law:  labels are unique within a router and never change: liberal retention keeps them all.
//! Not:  the entries of each service (`services`), when they change (`scenario`).

mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage::mapping::{Branches, Fec, Key, Label, Mapping, Operation};
use storage::time::Micros;

use crate::model::Model;
use crate::scenario::Speakers;
use crate::services::area::{self, Area};
use crate::services::l3vpn::{self, Vpn};
use crate::services::p2mp::{self, TreePlan};
use crate::services::rsvp::{self, Around, TunnelPlan};
use crate::services::vpws::{self, Circuit};
use crate::services::{Services, discard, labels, tables, transport};
use crate::state::State;
use crate::topology::{ShapeError, Topology};
use space::{LabelSpace, prime_from};

/// First label that LDP hands out; VPN labels are below.
const LDP_LABEL_MIN: u32 = 10_000;
/// The same where labels of other kinds have ranges of their own below.
const LDP_LABEL_MIN_ABOVE: u32 = 400_000;
/// First label of segment routing: the range that most routers reserve, to the first that comes
/// and goes.
const SEGMENT_LABEL_MIN: u32 = 16_000;
/// Entries of a unit from which on they are looked up by key.
const INDEXED_FROM: usize = 32;

/// Topology, labels and services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The graph.
    pub topology: Topology,
    /// Which services it has.
    pub services: Services,
    /// The VPNs.
    pub vpns: Vec<Vpn>,
    /// Whether customers' prefixes come and go, each with a label of its own.
    pub churns: bool,
    /// The circuits.
    pub circuits: Vec<Circuit>,
    /// The tunnels that are to be.
    pub tunnels: Vec<TunnelPlan>,
    /// The trees that are to be.
    pub trees: Vec<TreePlan>,
    /// The area of a recorded storm whose routers are those around a link.
    pub area: Option<Area>,
    /// Index of the tunnel from a head to a tail, by their FEC indices.
    tunnel_between: BTreeMap<(usize, usize), usize>,
    /// One per router.
    spaces: Vec<LabelSpace>,
    /// A prime that is at least the number of FECs.
    modulus: u32,
    /// For each router its FEC index, if it is a provider edge.
    edge_of: Vec<Option<usize>>,
    /// For each FEC the VPNs with a site at its edge, ascending.
    vpns_of: Vec<Vec<usize>>,
    /// For each FEC the circuits that end at its edge, ascending.
    circuits_of: Vec<Vec<usize>>,
}

/// What a router installs in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Everything that follows the IGP's path to a FEC, by its index.
    Fec(usize),
    /// What BGP says of a VPN, by its index.
    Vpn(usize),
    /// An end of a circuit, by its index.
    Circuit(usize),
    /// A tunnel that goes through, by its index.
    Tunnel(usize),
    /// A bypass that goes through.
    Bypass {
        /// Index of the router where it begins.
        router: usize,
        /// What it leads around.
        around: Around,
    },
    /// A tree, by its index.
    Tree(usize),
    /// Prefixes of an area, by the member that they belong to.
    Area(usize),
    /// The label table of a provider edge.
    Table,
    /// What a provider edge discards, and the block around it.
    Discard,
}

impl Network {
    /// Labels the network of this model. Errors: `ShapeError` names the number that cannot be.
    pub fn generate(model: &Model) -> Result<Network, ShapeError> {
        let topology = model.topology()?;
        let fecs = u32::try_from(topology.edges.len()).unwrap_or(u32::MAX);
        let services = model.services;
        let script = model.script();
        let churns = services.l3vpn && script.churns();
        let area = script.trace_routers(Speakers::Cores);
        let label_min = match services.need_ranges() || churns || area.is_some() {
            true => LDP_LABEL_MIN_ABOVE,
            false => LDP_LABEL_MIN,
        };
        let area = area.and_then(|routers| Area::find(&topology, routers));
        let fecs_max = match services.sr {
            true => labels::LABEL_MIN - SEGMENT_LABEL_MIN,
            false => (Label::MAX - label_min) / 2,
        };
        if fecs > fecs_max {
            let (expected, found) = (format!("at most {fecs_max}"), topology.edges.len());
            return Err(ShapeError { name: "provider edges", expected, found });
        }
        // The topology has drawn from the same seed: another stream keeps the two independent.
        let mut chance = ChaCha8Rng::seed_from_u64(model.seed);
        chance.set_stream(1);
        let modulus = prime_from(fecs.max(2));
        let spaces =
            topology.routers.iter().map(|_| LabelSpace::draw(label_min, modulus, &mut chance));
        let spaces = spaces.collect();
        let edges = topology.edges.len();
        // Each is drawn whether it is wanted or not: one service more changes none of the others.
        let vpns = l3vpn::draw(edges, &mut chance);
        let circuits = vpws::draw(edges, &mut chance);
        let tunnels = rsvp::draw(edges, &mut chance);
        let trees = p2mp::draw(edges, &mut chance);
        let mut vpns = if services.l3vpn { vpns } else { Vec::new() };
        if services.vrf_names {
            l3vpn::name(&mut vpns);
        }
        let of_trace = script.trace_routers(Speakers::L3vpn);
        if let (Some(routers), Some(vpn)) = (of_trace, vpns.first_mut()) {
            vpn.sites.truncate(routers);
            vpn.prefixes = l3vpn::PREFIXES_OF_TRACE;
        }
        let circuits = if services.vpws { circuits } else { Vec::new() };
        let tunnels = if services.rsvp { tunnels } else { Vec::new() };
        let trees = if services.p2mp { trees } else { Vec::new() };
        let places = tunnels.iter().enumerate();
        let tunnel_between = places.map(|(index, plan)| ((plan.head, plan.tail), index)).collect();
        let mut edge_of = vec![None; topology.routers.len()];
        for (fec_index, edge) in topology.edges.iter().enumerate() {
            edge_of[*edge] = Some(fec_index);
        }
        let of_edges = |of_each: &mut dyn Iterator<Item = (usize, usize)>| {
            let mut found = vec![Vec::new(); edges];
            of_each.for_each(|(index, edge)| found[edge].push(index));
            found
        };
        let sites = vpns.iter().enumerate().map(|(index, vpn)| (index, &vpn.sites));
        let vpns_of = of_edges(
            &mut sites.flat_map(|(index, sites)| sites.iter().map(move |site| (index, *site))),
        );
        let ends = circuits.iter().enumerate();
        let circuits_of =
            of_edges(&mut ends.flat_map(|(index, it)| it.ends.map(|end| (index, end))));
        Ok(Network {
            topology,
            services,
            vpns,
            churns,
            circuits,
            tunnels,
            trees,
            area,
            tunnel_between,
            spaces,
            modulus,
            edge_of,
            vpns_of,
            circuits_of,
        })
    }

    /// How many FECs there are: one per provider edge.
    pub fn fec_count(&self) -> usize {
        self.topology.edges.len()
    }

    /// The loopback of a FEC's provider edge.
    pub fn loopback(&self, fec_index: usize) -> IpAddr {
        self.topology.routers[self.topology.edges[fec_index]].id.0
    }

    /// The FEC of a provider edge's loopback.
    pub fn fec(&self, fec_index: usize) -> Fec {
        Fec::Ip { prefix: self.loopback(fec_index).into(), table: 0 }
    }

    /// The FEC of a site: what the other sites push the VRF's label for. A name does not say at
    /// which edge: there the site's prefix does.
    pub fn vrf(&self, vpn_index: usize, fec_index: usize) -> Fec {
        let Vpn { rd, name, .. } = self.vpns[vpn_index];
        let loopback = self.loopback(fec_index);
        name.map_or(Fec::Vrf { loopback, rd, prefix: None }, |name| Fec::VrfName {
            name,
            prefix: Some(l3vpn::prefix_of_site(fec_index)),
        })
    }

    /// The FEC of a customer's prefix.
    pub fn vrf_prefix(&self, route: l3vpn::SitePrefix) -> Fec {
        let Vpn { rd, name, .. } = self.vpns[route.vpn_index];
        let (loopback, prefix) = (self.loopback(route.site), Some(route.prefix()));
        name.map_or(Fec::Vrf { loopback, rd, prefix }, |name| Fec::VrfName { name, prefix })
    }

    /// The FEC of one end of a circuit.
    pub fn ac(&self, circuit_index: usize, end: usize) -> Fec {
        let circuit = &self.circuits[circuit_index];
        Fec::Ac { loopback: self.loopback(circuit.ends[end]), pw_id: circuit.pw_id }
    }

    /// The index of the tunnel between two provider edges, by their FEC indices.
    pub fn tunnel_between(&self, head: usize, tail: usize) -> Option<usize> {
        self.tunnel_between.get(&(head, tail)).copied()
    }

    /// The label for a FEC that is the same at every router; implicit null at the edge itself.
    pub fn segment_label(&self, router_index: usize, fec_index: usize) -> Label {
        if self.edge_of[router_index] == Some(fec_index) {
            return Label::IMPLICIT_NULL;
        }
        let index = u32::try_from(fec_index).unwrap_or(u32::MAX);
        let label = Label::new(SEGMENT_LABEL_MIN.saturating_add(index));
        label.expect("the number of FECs is checked when the network is made")
    }

    /// Labels that the edge of a FEC gave this router for services that both have, each with the
    /// FEC by which the outer push is found: the loopback, or, where a VRF's name says none, the
    /// service itself.
    pub fn inner_labels(
        &self,
        state: &State,
        router_index: usize,
        fec_index: usize,
    ) -> impl Iterator<Item = (Label, Fec)> {
        let outer = self.fec(fec_index);
        let vpns = self.shared_vpns(router_index, fec_index);
        let of_vpns = vpns.map(move |(vpn_index, vpn)| {
            let fec = vpn.name.map_or(outer, |_| self.vrf(vpn_index, fec_index));
            (self.vpn_label(vpn_index, fec_index), fec)
        });
        let circuits = self.circuits_at(router_index).filter_map(move |(_, circuit, own)| {
            let far = 1 - own;
            (circuit.ends[far] == fec_index).then_some((circuit.labels[far], outer))
        });
        let vpns = self.shared_vpns(router_index, fec_index);
        let of_prefixes = vpns.flat_map(move |(vpn_index, vpn)| {
            let announced = l3vpn::announced(&state.announced, vpn_index, fec_index);
            announced.map(move |(route, label)| {
                (label, vpn.name.map_or(outer, |_| self.vrf_prefix(route)))
            })
        });
        of_vpns.chain(circuits).chain(of_prefixes)
    }

    /// Circuits that end at this router, with which end it is.
    fn circuits_at(&self, router_index: usize) -> impl Iterator<Item = (usize, &Circuit, usize)> {
        let own = self.edge_of[router_index];
        let indices = own.into_iter().flat_map(|own| &self.circuits_of[own]).copied();
        indices.filter_map(move |index| {
            let circuit = &self.circuits[index];
            Some((index, circuit, circuit.end_at(own?)?))
        })
    }

    /// The FEC index of a router that is a provider edge.
    pub fn fec_of_router(&self, router_index: usize) -> Option<usize> {
        self.edge_of[router_index]
    }

    /// The label that a router gives its neighbours for a FEC; implicit null at the edge itself.
    pub fn label(&self, router_index: usize, fec_index: usize) -> Label {
        if self.edge_of[router_index] == Some(fec_index) {
            return Label::IMPLICIT_NULL;
        }
        self.spaces[router_index].label(fec_index, self.modulus)
    }

    /// The label that a provider edge gives a VPN's other sites.
    pub fn vpn_label(&self, vpn_index: usize, fec_index: usize) -> Label {
        let base = self.spaces[self.topology.edges[fec_index]].vpn_base;
        let vpn = u32::try_from(vpn_index).expect("VPNS_MAX is far below 2^32");
        Label::new(base + vpn).expect("VPNS_MAX keeps VPN labels below those of LDP")
    }

    /// The FECs and services that this router has in every state, in a fixed order.
    pub fn units(&self, router_index: usize) -> impl Iterator<Item = Unit> {
        let own = self.edge_of[router_index];
        let fecs = (0..self.fec_count()).filter(move |fec| own != Some(*fec)).map(Unit::Fec);
        let vpns = self.vpns_at(router_index).map(|(index, _)| Unit::Vpn(index));
        let circuits = self.circuits_at(router_index).map(|(index, ..)| Unit::Circuit(index));
        let area = self.area.as_ref().filter(|area| area.place(router_index).is_some());
        let owners = area.map_or(0, |area| area.routers.len());
        let table = own.filter(|_| self.services.vrf_names).map(|_| Unit::Table);
        let discard = own.filter(|_| self.services.discard).map(|_| Unit::Discard);
        let areas = (0..owners).map(Unit::Area);
        fecs.chain(vpns).chain(circuits).chain(areas).chain(table).chain(discard)
    }

    /// Appends the router's entries of this unit, as the state has them.
    pub fn entries(
        &self,
        state: &State,
        router_index: usize,
        unit: Unit,
        event_time: Micros,
        entries: &mut Vec<Mapping>,
    ) {
        let first = entries.len();
        match unit {
            Unit::Fec(fec) => transport::entries(self, state, router_index, fec, entries),
            Unit::Vpn(vpn) => l3vpn::entries(self, state, router_index, vpn, entries),
            Unit::Circuit(circuit) => vpws::entries(self, state, router_index, circuit, entries),
            Unit::Tunnel(tunnel) => rsvp::entries(self, state, router_index, tunnel, entries),
            Unit::Bypass { router, around } => {
                rsvp::bypass_entries(self, state, router_index, (around, router), entries);
            }
            Unit::Tree(tree) => p2mp::entries(self, state, router_index, tree, entries),
            Unit::Area(owner) => area::entries(self, state, router_index, owner, entries),
            Unit::Table => tables::entries(self, router_index, entries),
            Unit::Discard => discard::entries(self, state, router_index, entries),
        }
        entries[first..].iter_mut().for_each(|entry| entry.event_time = event_time);
    }

    /// The whole table of a router, every entry with the same event time.
    pub fn table(&self, state: &State, router_index: usize, event_time: Micros) -> Vec<Mapping> {
        let mut entries = Vec::new();
        for unit in self.units(router_index).chain(state.passing(router_index)) {
            self.entries(state, router_index, unit, event_time, &mut entries);
        }
        entries
    }

    /// The router's units whose entries may differ between two states, in a fixed order: quick, and
    /// never without one that changes.
    pub fn differing(&self, old: &State, new: &State, router_index: usize) -> Vec<Unit> {
        let passing: BTreeSet<Unit> =
            old.passing(router_index).chain(new.passing(router_index)).collect();
        // What tunnels, alternates and announced prefixes do to a FEC is not seen in its paths.
        let is_plain = self.tunnels.is_empty() && !self.services.backup;
        let by_paths = is_plain && Arc::ptr_eq(&old.announced, &new.announced);
        let moved = by_paths.then(|| old.paths.moved(&new.paths, &self.topology, router_index));
        let may_differ = |unit: &Unit| match (unit, &moved) {
            (Unit::Fec(fec), Some(moved)) => moved.may_differ(*fec),
            _ => true,
        };
        let units = self.units(router_index).chain(passing).filter(may_differ);
        units.filter(|unit| self.differs(old, new, router_index, *unit)).collect()
    }

    /// Whether the unit's entries at this router may differ between two states: quick, and never
    /// wrong about a unit that changes.
    fn differs(&self, old: &State, new: &State, router_index: usize, unit: Unit) -> bool {
        match unit {
            Unit::Fec(fec) => transport::differs(self, old, new, router_index, fec),
            Unit::Vpn(vpn) => l3vpn::differs(self, old, new, router_index, vpn),
            Unit::Circuit(circuit) => vpws::differs(self, old, new, router_index, circuit),
            Unit::Tunnel(_) | Unit::Bypass { .. } => {
                rsvp::differs(self, old, new, router_index, unit)
            }
            Unit::Tree(tree) => p2mp::differs(old, new, router_index, tree),
            Unit::Area(owner) => area::differs(self, old, new, router_index, owner),
            Unit::Table => false,
            Unit::Discard => discard::differs(self, old, new, router_index),
        }
    }

    /// Appends what the router says of this unit when it goes from one state to the other: new
    /// values, and withdrawals of what is no more.
    pub fn changes(
        &self,
        [old, new]: [&State; 2],
        router_index: usize,
        unit: Unit,
        event_time: Micros,
        changes: &mut Vec<Mapping>,
    ) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.entries(old, router_index, unit, event_time, &mut before);
        self.entries(new, router_index, unit, event_time, &mut after);
        // Most units have two entries; a VPN may have thousands.
        if before.len() > INDEXED_FROM {
            let mut before: BTreeMap<Key, Mapping> =
                before.into_iter().map(|entry| (entry.key(), entry)).collect();
            changes.extend(
                after
                    .into_iter()
                    .filter(|entry| before.remove(&entry.key()).as_ref() != Some(entry)),
            );
            return changes.extend(before.into_values().map(withdrawn));
        }
        for entry in after {
            let key = entry.key();
            let was = before.iter().position(|old| old.key() == key);
            if was.map(|place| before.swap_remove(place)).as_ref() != Some(&entry) {
                changes.push(entry);
            }
        }
        changes.extend(before.into_iter().map(withdrawn));
    }

    /// VPNs that have a site at this router.
    pub fn vpns_at(&self, router_index: usize) -> impl Iterator<Item = (usize, &Vpn)> {
        let own = self.edge_of[router_index];
        let indices = own.into_iter().flat_map(|own| &self.vpns_of[own]).copied();
        indices.map(|index| (index, &self.vpns[index]))
    }

    /// VPNs that have a site at this router and another at that FEC's edge.
    pub fn shared_vpns(
        &self,
        router_index: usize,
        fec_index: usize,
    ) -> impl Iterator<Item = (usize, &Vpn)> {
        let other = self.edge_of[router_index] != Some(fec_index);
        let has = move |vpn: &Vpn| other && vpn.sites.binary_search(&fec_index).is_ok();
        self.vpns_at(router_index).filter(move |(_, vpn)| has(vpn))
    }
}

/// What is said of an entry that is no more.
fn withdrawn(entry: Mapping) -> Mapping {
    Mapping { operation: Operation::None, branches: Branches::new(), ..entry }
}

#[cfg(test)]
mod tests;
