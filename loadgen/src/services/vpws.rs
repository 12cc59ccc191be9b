//! Point-to-point layer-2 services (VPWS, RFC 4664; labels as in RFC 8077): pairs of circuits.
//!
//! In:   a provider edge and a circuit that ends there.
//! Out:  the way out at this end, and the label to push for the other.
//! Law:  each end gives the label by which it wants to receive.
//! Not:  how the packet comes to the other edge (`transport`).

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use storage::mapping::{Ingress, Label, Mapping, Operation};

use super::{entry, leaving, pushed_again};
use crate::network::Network;
use crate::paths::UNREACHABLE;
use crate::state::State;

/// First label of a circuit; those of VPNs end below, those of transport begin above.
const LABEL_MIN: u32 = 5_000;
/// Circuits that end at one edge.
const CIRCUITS_PER_EDGE: usize = 4;

/// A circuit between two provider edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// FEC indices of its two ends.
    pub ends: [usize; 2],
    /// The label that each end wants to receive.
    pub labels: [Label; 2],
    /// Pseudowire id, the same at both ends.
    pub pw_id: u32,
}

impl Circuit {
    /// At which end of the circuit the edge is, if it is at one: 0 or 1.
    pub fn end_at(&self, fec_index: usize) -> Option<usize> {
        self.ends.iter().position(|end| *end == fec_index)
    }
}

/// Pairs of edges, each edge in `CIRCUITS_PER_EDGE` of them or one fewer.
pub(crate) fn draw(edges: usize, chance: &mut ChaCha8Rng) -> Vec<Circuit> {
    let mut circuits = Vec::new();
    let mut given = vec![0_u32; edges];
    let mut order: Vec<usize> = (0..edges).collect();
    for _ in 0..CIRCUITS_PER_EDGE {
        order.shuffle(chance);
        for pair in order.chunks_exact(2) {
            let ends = [pair[0], pair[1]];
            let labels = ends.map(|end| {
                given[end] += 1;
                Label::new(LABEL_MIN + given[end]).expect("a few above 5,000 are in 20 bits")
            });
            let pw_id = u32::try_from(circuits.len()).unwrap_or(u32::MAX).saturating_add(1);
            circuits.push(Circuit { ends, labels, pw_id });
        }
    }
    circuits
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    circuit_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let circuit = &network.circuits[circuit_index];
    let own = network.fec_of_router(router_index).and_then(|own| circuit.end_at(own));
    let Some(own) = own else { return };
    let fec = network.ac(circuit_index, own);
    entries.push(entry(fec, Ingress::platform(circuit.labels[own]), Operation::Pop, leaving()));
    let far = 1 - own;
    if state.paths.distance(circuit.ends[far], router_index) != UNREACHABLE {
        let inner = pushed_again(circuit.labels[far]);
        let fec = network.ac(circuit_index, far);
        entries.push(entry(fec, Ingress::UNTAGGED, Operation::Push, inner));
    }
}

pub(crate) fn differs(
    network: &Network,
    old: &State,
    new: &State,
    router_index: usize,
    circuit_index: usize,
) -> bool {
    let ends = network.circuits[circuit_index].ends;
    let reached =
        |state: &State| ends.map(|end| state.paths.distance(end, router_index) != UNREACHABLE);
    reached(old) != reached(new)
}
