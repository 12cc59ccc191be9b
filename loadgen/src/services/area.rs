//! An area of the core: many prefixes of its own, which LDP gives labels in that area alone.
//!
//! In:   the routers around a link, and the way of each prefix: over the link or around it.
//! Out:  FTN and ILM entry of each router for each prefix; where a prefix belongs, the way out.
//! Law:  ways stay within the area, so that nobody else has anything to say of them.
//! Not:  when prefixes change their way (`scenario/plan/trace`).

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use smallvec::smallvec;
use storage::mapping::{Fec, Ingress, Label, Mapping, Operation};

use super::labels::Labels;
use super::{entry, leaving};
use crate::network::Network;
use crate::paths::{Paths, UNREACHABLE, distances_to};
use crate::state::{Down, State};
use crate::topology::{Role, Topology};

/// Prefixes that belong to one router: of six routers some 2,500 in each table, as in those that
/// were recorded.
pub const PREFIXES_PER_ROUTER: u16 = 420;
/// Most routers: 256 × 420 prefixes are as many as 198.18.0.0/15 has addresses.
pub const ROUTERS_MAX: usize = 256;

/// Routers around a link, and how they reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Indices of the routers; the first two are the ends of the link.
    pub routers: Vec<usize>,
    /// Index of the link.
    pub link: usize,
    /// Over the link and around it: for each member where prefixes belong, for each member the link
    /// of its next hop there.
    next: [Vec<Vec<Option<usize>>>; 2],
}

/// One prefix, as the area has bound it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The label that each member gave.
    pub labels: Vec<Label>,
    /// It goes around the link.
    pub around: bool,
}

/// Every prefix, by the member that it belongs to and its number there.
pub type Bindings = BTreeMap<(usize, u16), Binding>;

impl Area {
    /// So many routers around the trunk that carries the most: its ends, then core routers beside
    /// those that are in, then others. `None` where the network has no such trunk, or fewer.
    pub(crate) fn find(topology: &Topology, routers: usize) -> Option<Area> {
        let loads = Paths::compute(topology, &Down::default()).loads(topology);
        let trunks = (0..loads.len()).filter(|link| topology.links[*link].trunk);
        let link = trunks.max_by_key(|link| (loads[*link], std::cmp::Reverse(*link)))?;
        let mut members = topology.links[link].ends.to_vec();
        let beside = |router: usize| {
            let links = topology.routers[router].links.iter();
            links.map(move |link| topology.links[*link].far_end(router).0)
        };
        let rank =
            |router: usize| (!matches!(topology.routers[router].role, Role::Core { .. }), router);
        let mut open: BTreeSet<(bool, usize)> =
            members.iter().flat_map(|member| beside(*member)).map(rank).collect();
        while members.len() < routers {
            let (_, router) = open.pop_first()?;
            if !members.contains(&router) {
                members.push(router);
                open.extend(beside(router).map(rank));
            }
        }
        let next = [false, true].map(|around| ways(topology, &members, link, around));
        Some(Area { routers: members, link, next })
    }

    /// Which member a router is.
    pub fn place(&self, router_index: usize) -> Option<usize> {
        self.routers.iter().position(|member| *member == router_index)
    }

    /// The link of a member's next hop to another.
    pub fn next(&self, around: bool, owner: usize, member: usize) -> Option<usize> {
        self.next[usize::from(around)][owner][member]
    }

    /// The FEC of a prefix: a host of 198.18.0.0/15, which nobody else has (RFC 2544).
    pub fn fec(&self, owner: usize, number: u16) -> Fec {
        let place = owner * usize::from(PREFIXES_PER_ROUTER) + usize::from(number);
        let place = u32::try_from(place).unwrap_or(0) & 0x0001_ffff;
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) | place);
        Fec::Ip { prefix: IpNet::V4(Ipv4Net::new_assert(address, 32)), table: 0 }
    }

    /// Every prefix.
    pub fn prefixes(&self) -> impl Iterator<Item = (usize, u16)> + use<> {
        let owners = 0..self.routers.len();
        owners.flat_map(|owner| (0..PREFIXES_PER_ROUTER).map(move |number| (owner, number)))
    }

    /// Each member gives a label.
    pub(crate) fn bind(&self, around: bool, labels: &mut Labels) -> Binding {
        let labels = self.routers.iter().map(|router| labels.take(*router)).collect();
        Binding { labels, around }
    }

    /// Every label that a router has given.
    pub(crate) fn labels<'a>(
        &'a self,
        bindings: &'a Bindings,
    ) -> impl Iterator<Item = (usize, Label)> + 'a {
        let given =
            |binding: &'a Binding| self.routers.iter().copied().zip(binding.labels.iter().copied());
        bindings.values().flat_map(given)
    }
}

/// For each end, for each member the first link of its shortest way there that stays within.
/// `around`: without the link, where that leads anywhere.
fn ways(
    topology: &Topology,
    members: &[usize],
    link: usize,
    around: bool,
) -> Vec<Vec<Option<usize>>> {
    let within = |other: usize| {
        let ends = topology.links[other].ends;
        ends.iter().all(|end| members.contains(end))
    };
    let transits = vec![true; topology.routers.len()];
    let mut heap = BinaryHeap::new();
    let to = |owner: &usize| {
        let usable = |other: usize| within(other) && !(around && other == link);
        let distances = distances_to(topology, *owner, usable, &transits, &mut heap);
        let first = |member: &usize| {
            let here = distances[*member];
            let nearer = |next: &&usize| {
                let far = topology.links[**next].far_end(*member).0;
                let through = distances[far].checked_add(topology.links[**next].cost);
                usable(**next) && here != UNREACHABLE && through == Some(here)
            };
            topology.routers[*member].links.iter().find(nearer).copied()
        };
        members.iter().map(first).collect::<Vec<Option<usize>>>()
    };
    let found: Vec<Vec<Option<usize>>> = members.iter().map(to).collect();
    let ways_of = |links: &Vec<Option<usize>>| links.iter().flatten().count() + 1 == members.len();
    match around && !found.iter().all(ways_of) {
        // Nothing leads around it: the area only gives new labels.
        true => ways(topology, members, link, false),
        false => found,
    }
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    owner: usize,
    entries: &mut Vec<Mapping>,
) {
    let Some(area) = &network.area else { return };
    let Some(place) = area.place(router_index) else { return };
    let of_owner = state.bindings.range((owner, 0)..=(owner, u16::MAX));
    for (&(_, number), binding) in of_owner {
        let fec = area.fec(owner, number);
        let ingress = Ingress::platform(binding.labels[place]);
        if place == owner {
            entries.push(entry(fec, ingress, Operation::Pop, leaving()));
            continue;
        }
        let link = area.next(binding.around, owner, place);
        let Some(link) = link.filter(|link| state.paths.carries(*link)) else { continue };
        let (far, _) = network.topology.links[link].far_end(router_index);
        let Some(next) = area.place(far) else { continue };
        let stack = smallvec![binding.labels[next]];
        let branches = smallvec![network.topology.branch(router_index, link, stack)];
        entries.push(entry(fec, Ingress::UNTAGGED, Operation::Push, branches));
        let branches = entries.last().map(|last| last.branches.clone()).unwrap_or_default();
        entries.push(entry(fec, ingress, Operation::Swap, branches));
    }
}

pub(crate) fn differs(
    network: &Network,
    old: &State,
    new: &State,
    router_index: usize,
    owner: usize,
) -> bool {
    let seen = |state: &State| {
        let mut seen = Vec::new();
        entries(network, state, router_index, owner, &mut seen);
        seen
    };
    let same = Arc::ptr_eq(&old.bindings, &new.bindings) && old.down == new.down;
    !same && seen(old) != seen(new)
}
