//! Layer-3 VPNs (RFC 4364): what BGP tells the edges, one label per VRF.
//!
//! In:   a provider edge and a VPN that it has a site of.
//! Out:  the way out at the own site, and the label to push for each other site.
//! Law:  a site that the IGP cannot reach has no entry: BGP tracks its next hops.
//! Not:  how the packet comes to the other edge (`transport`).

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use storage::mapping::{Ingress, Mapping, Operation, RouteDistinguisher};

use super::{entry, leaving, pushed_again};
use crate::network::Network;
use crate::paths::UNREACHABLE;
use crate::state::State;

/// Sites of one VPN.
const VPN_SITES_MAX: usize = 12;
/// One VPN per this many provider edges.
const EDGES_PER_VPN: usize = 8;
/// Most VPNs: their labels end below those of LDP.
const VPNS_MAX: usize = 4_000;
/// Administrator part of the route distinguishers: a private AS number (RFC 6996).
const RD_ADMINISTRATOR: u16 = 65_000;

/// A layer-3 VPN (RFC 4364): a VRF at each of its sites, one label per VRF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpn {
    /// Its route distinguisher, the same at every site.
    pub rd: RouteDistinguisher,
    /// FEC indices of the provider edges that it is attached to, ascending.
    pub sites: Vec<usize>,
}

pub(crate) fn draw(edges: usize, chance: &mut ChaCha8Rng) -> Vec<Vpn> {
    let mut order: Vec<usize> = (0..edges).collect();
    let vpn = |number: u32| {
        let [kind, administrator] = [0_u16, RD_ADMINISTRATOR].map(u16::to_be_bytes);
        let mut rd = [0; 8];
        rd[..2].copy_from_slice(&kind);
        rd[2..4].copy_from_slice(&administrator);
        rd[4..].copy_from_slice(&number.to_be_bytes());
        order.shuffle(chance);
        let mut sites = order[..edges.min(VPN_SITES_MAX)].to_vec();
        sites.sort_unstable();
        Vpn { rd: RouteDistinguisher(rd), sites }
    };
    let count = (edges / EDGES_PER_VPN).clamp(1, VPNS_MAX);
    (1..=u32::try_from(count).expect("VPNS_MAX is far below 2^32")).map(vpn).collect()
}

pub(crate) fn entries(
    network: &Network,
    state: &State,
    router_index: usize,
    vpn_index: usize,
    entries: &mut Vec<Mapping>,
) {
    let Some(own) = network.fec_of_router(router_index) else { return };
    let ingress = Ingress::platform(network.vpn_label(vpn_index, own));
    entries.push(entry(network.vrf(vpn_index, own), ingress, Operation::Pop, leaving()));
    for site in reached(network, state, router_index, vpn_index) {
        let inner = pushed_again(network.vpn_label(vpn_index, site));
        let fec = network.vrf(vpn_index, site);
        entries.push(entry(fec, Ingress::UNTAGGED, Operation::Push, inner));
    }
}

/// The other sites that the IGP can reach.
fn reached(
    network: &Network,
    state: &State,
    router_index: usize,
    vpn_index: usize,
) -> impl Iterator<Item = usize> {
    let own = network.fec_of_router(router_index);
    let other = move |site: &usize| {
        Some(*site) != own && state.paths.distance(*site, router_index) != UNREACHABLE
    };
    network.vpns[vpn_index].sites.iter().copied().filter(other)
}

pub(crate) fn differs(
    network: &Network,
    old: &State,
    new: &State,
    router_index: usize,
    vpn_index: usize,
) -> bool {
    let sites = |state| reached(network, state, router_index, vpn_index).collect::<Vec<usize>>();
    sites(old) != sites(new)
}
