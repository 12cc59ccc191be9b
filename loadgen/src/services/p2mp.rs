//! Point-to-multipoint trees, built from the leaves towards the root as mLDP does (RFC 6388).
//!
//! In:   roots and leaves, drawn once; the state's paths.
//! Out:  `Trees` of a state, and what each router on a tree replicates, swaps or takes off.
//! Law:  a router keeps its label for a tree as long as it is on it; a label that was released may
//!       be given again, but not in the same state.
//! Not:  which labels are free (`labels`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use smallvec::smallvec;
use storage::mapping::{Branches, Fec, Ingress, Label, Mapping, Operation, Origin};

use super::labels::Labels;
use super::{entry, leaving, others};
use crate::network::{Network, Unit};
use crate::paths::Paths;
use crate::state::State;

/// One tree per this many provider edges, and at most so many: a group address each.
const EDGES_PER_TREE: usize = 8;
const TREES_MAX: usize = 4_096;
/// Leaves of a tree.
const LEAVES_MAX: usize = 8;
/// One router in this many has a label space per interface: those with this remainder.
const INTERFACE_SPACE_EVERY: usize = 4;

/// What a tree is to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePlan {
    /// FEC index of its root.
    pub root: usize,
    /// FEC indices of its leaves, ascending.
    pub leaves: Vec<usize>,
}

/// Every tree as it stands in one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trees {
    /// One per plan.
    pub trees: Vec<Tree>,
}

/// A tree as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// For each router on the tree but the root: the link to its parent, and the label that it
    /// gave the parent.
    pub parents: BTreeMap<usize, (usize, Label)>,
    /// For each router with children the links to them, in the order of the children.
    pub children: BTreeMap<usize, Vec<usize>>,
}

pub(crate) fn draw(edges: usize, chance: &mut ChaCha8Rng) -> Vec<TreePlan> {
    let count = (edges / EDGES_PER_TREE).clamp(1, TREES_MAX);
    let plan = |_| {
        let root = chance.random_range(0..edges);
        let leaves = others(edges, root, LEAVES_MAX, chance).into_iter().collect();
        TreePlan { root, leaves }
    };
    (0..count).map(plan).collect()
}

impl Trees {
    /// The trees over these paths; routers that stay on a tree keep their labels.
    pub(crate) fn build(
        network: &Network,
        before: &Trees,
        paths: &Paths,
        labels: &mut Labels,
    ) -> Trees {
        let none = Tree::default();
        let plans = network.trees.iter().enumerate();
        let trees = plans.map(|(index, plan)| {
            let before = before.trees.get(index).unwrap_or(&none);
            Tree::build(network, plan, before, paths, labels)
        });
        Trees { trees: trees.collect() }
    }

    /// Every router's trees.
    pub(crate) fn units(&self) -> impl Iterator<Item = (usize, Unit)> {
        self.trees.iter().enumerate().flat_map(|(index, tree)| {
            let routers = tree.parents.keys().chain(tree.children.keys());
            routers.map(move |router| (*router, Unit::Tree(index)))
        })
    }

    /// Every label that a router has given.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (usize, Label)> {
        let parents = self.trees.iter().flat_map(|tree| &tree.parents);
        parents.map(|(router, (_, label))| (*router, *label))
    }
}

impl Tree {
    fn build(
        network: &Network,
        plan: &TreePlan,
        before: &Tree,
        paths: &Paths,
        labels: &mut Labels,
    ) -> Tree {
        let topology = &network.topology;
        let mut tree = Tree::default();
        for leaf in &plan.leaves {
            let mut here = topology.edges[*leaf];
            // Each router has one way to the root, the first: ways that meet stay together.
            while let Some(link) = paths.next_links(topology, plan.root, here).next() {
                if tree.parents.contains_key(&here) {
                    break;
                }
                let kept = before.parents.get(&here).map(|(_, label)| *label);
                let label = kept.unwrap_or_else(|| labels.take(here));
                tree.parents.insert(here, (link, label));
                here = topology.links[link].far_end(here).0;
            }
        }
        for (router, (link, _)) in &tree.parents {
            let (parent, _) = topology.links[*link].far_end(*router);
            tree.children.entry(parent).or_default().push(*link);
        }
        tree
    }

    /// Routers below this one, with the link to each.
    pub fn below(&self, network: &Network, router_index: usize) -> Vec<(usize, usize)> {
        let links = self.children.get(&router_index).into_iter().flatten();
        links.map(|link| (network.topology.links[*link].far_end(router_index).0, *link)).collect()
    }
}

/// The FEC of a tree: its group, 232.0.0.0 and up (RFC 4607).
pub(crate) fn fec(tree_index: usize) -> Fec {
    let number = u32::try_from(tree_index).expect("TREES_MAX is far below 2^32");
    let group = Ipv4Addr::from(0xe800_0000 + number);
    Fec::Ip { prefix: IpNet::V4(Ipv4Net::from(group)), table: 0 }
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    tree_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let Some(tree) = state.trees.trees.get(tree_index) else { return };
    let plan = &network.trees[tree_index];
    let mut branches = Branches::new();
    for (child, link) in tree.below(network, router_index) {
        let stack = smallvec![tree.parents[&child].1];
        branches.push(network.topology.branch(router_index, link, stack));
    }
    let own = network.fec_of_router(router_index);
    let is_leaf = own.is_some_and(|own| plan.leaves.binary_search(&own).is_ok());
    let fec = fec(tree_index);
    let Some((link, label)) = tree.parents.get(&router_index) else {
        if own == Some(plan.root) && !branches.is_empty() {
            let copies = if branches.len() > 1 { Operation::Replicate } else { Operation::Push };
            branches.sort_unstable();
            entries.push(entry(fec, Ingress::UNTAGGED, copies, branches));
        }
        return;
    };
    let operation = match (branches.len(), is_leaf) {
        (0, _) => Operation::Pop,
        (1, false) => Operation::Swap,
        _ => Operation::Replicate,
    };
    if is_leaf {
        branches.extend(leaving());
    }
    branches.sort_unstable();
    let origin = origin(network, router_index, *link);
    entries.push(entry(fec, Ingress { label: Some(*label), origin }, operation, branches));
}

/// Some routers have a label space per interface.
fn origin(network: &Network, router_index: usize, upstream_link: usize) -> Origin {
    if router_index % INTERFACE_SPACE_EVERY != 1 {
        return Origin::Platform;
    }
    let (upstream, _) = network.topology.links[upstream_link].far_end(router_index);
    Origin::Interface(network.topology.routers[upstream].id)
}

pub(crate) fn differs(old: &State, new: &State, router_index: usize, tree_index: usize) -> bool {
    let seen = |state: &State| {
        let tree = state.trees.trees.get(tree_index)?;
        let children = tree.children.get(&router_index).cloned().unwrap_or_default();
        // What a child calls itself is part of what its parent says.
        let given = children.iter().flat_map(|link| {
            tree.parents.values().filter(move |(parent, _)| parent == link).copied()
        });
        let given: Vec<(usize, Label)> = given.collect();
        Some((tree.parents.get(&router_index).copied(), given))
    };
    seen(old) != seen(new)
}
