//! Aggregates that a provider edge discards: what its customers do not use of a block that it has
//! announced as a whole.
//!
//! In:   a provider edge, a state.
//! Out:  an entry that discards a /24, and one of the /23 around it that leads on along an LSP.
//! Law:  the /24 is discarded in every state, whatever the /23 does.
//! Not:  ways of the LSP (`transport`).

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use storage::mapping::{Branches, Fec, Ingress, Mapping, Operation};

use super::{entry, transport};
use crate::network::Network;
use crate::state::State;

/// The block of a provider edge: a /23 of 192.168.0.0/16, by its number.
fn block(fec_index: usize) -> Ipv4Net {
    let number = u8::try_from(fec_index % 128).unwrap_or(0);
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 2 * number, 0), 23)
}

/// The FEC of the aggregate that a provider edge discards: the upper half of its block.
pub fn fec(fec_index: usize) -> Fec {
    let upper = u32::from(block(fec_index).network()) | 0x100;
    Fec::Ip { prefix: IpNet::V4(Ipv4Net::new_assert(upper.into(), 24)), table: 0 }
}

/// The provider edge to which the rest of the block leads.
fn next(network: &Network, fec_index: usize) -> usize {
    (fec_index + 1) % network.fec_count()
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let Some(own) = network.fec_of_router(router_index) else { return };
    entries.push(entry(fec(own), Ingress::UNTAGGED, Operation::Discard, Branches::new()));
    let branches = transport::beginning(network, state, router_index, next(network, own));
    if !branches.is_empty() {
        let around = Fec::Ip { prefix: IpNet::V4(block(own)), table: 0 };
        entries.push(entry(around, Ingress::UNTAGGED, Operation::Push, branches));
    }
}

pub(crate) fn differs(network: &Network, old: &State, new: &State, router_index: usize) -> bool {
    let seen = |state: &State| {
        let mut seen = Vec::new();
        entries(network, state, router_index, &mut seen);
        seen
    };
    seen(old) != seen(new)
}
