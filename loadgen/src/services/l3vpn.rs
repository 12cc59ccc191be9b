//! Layer-3 VPNs (RFC 4364): what BGP tells the edges, one label per VRF, and, where customers'
//! prefixes come and go, one per prefix.
//!
//! In:   a provider edge and a VPN that it has a site of.
//! Out:  the way out at the own site, and the label to push for each other site.
//! Law:  a site that the IGP cannot reach has no entry: BGP tracks its next hops.
//! Not:  how the packet comes to the other edge (`transport`).

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use storage::mapping::{Fec, Ingress, Label, Mapping, Name, Operation, RouteDistinguisher};

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
    /// What every site calls its VRF, where FECs say that instead of loopback and RD.
    pub name: Option<Name>,
    /// FEC indices of the provider edges that it is attached to, ascending.
    pub sites: Vec<usize>,
    /// Prefixes that each site announces with labels of their own, where they come and go.
    pub prefixes: u16,
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
        let rd = RouteDistinguisher(rd);
        Vpn { rd, name: None, sites, prefixes: PREFIXES_PER_SITE }
    };
    let count = (edges / EDGES_PER_VPN).clamp(1, VPNS_MAX);
    (1..=u32::try_from(count).expect("VPNS_MAX is far below 2^32")).map(vpn).collect()
}

/// Gives every second VPN a name: never the first, which has more prefixes than one covers where a
/// recorded storm is played.
pub(crate) fn name(vpns: &mut [Vpn]) {
    for (index, vpn) in vpns.iter_mut().enumerate().skip(1).step_by(2) {
        vpn.name = Name::new(&format!("customer-{}", index + 1));
    }
}

/// Prefixes that a site announces with a label of their own, in a network where they come and go.
pub const PREFIXES_PER_SITE: u16 = 4;

/// The same in the VPN of a recorded storm: with those of five other sites some 2,500 labels in
/// each table, as in the routers that were recorded.
pub const PREFIXES_OF_TRACE: u16 = 420;

/// A prefix that a site may announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SitePrefix {
    /// Index of the VPN.
    pub vpn_index: usize,
    /// FEC index of the site's provider edge.
    pub site: usize,
    /// Which of the site's prefixes, below the VPN's `prefixes`.
    pub number: u16,
}

impl SitePrefix {
    /// The customer's prefix: a /28 of 10.0.0.0/8, no two sites' alike; where a site has many,
    /// the rest are hosts of 100.64.0.0/10.
    pub fn prefix(self) -> IpNet {
        if self.number >= PREFIXES_PER_SITE {
            let place = u32::try_from(self.site).unwrap_or(0) * u32::from(PREFIXES_OF_TRACE);
            let place = (place + u32::from(self.number)) & 0x003f_ffff;
            return IpNet::V4(Ipv4Net::new_assert((0x6440_0000 | place).into(), 32));
        }
        let site = u32::try_from(self.site).unwrap_or(0);
        let place = site * u32::from(PREFIXES_PER_SITE) + u32::from(self.number);
        let address = std::net::Ipv4Addr::from(0x0a00_0000 | ((place << 4) & 0x00ff_fff0));
        IpNet::V4(Ipv4Net::new_assert(address, 28))
    }
}

/// The /26 of 10.0.0.0/8 that covers a site's prefixes.
pub(crate) fn prefix_of_site(site: usize) -> IpNet {
    let first = SitePrefix { vpn_index: 0, site, number: 0 };
    IpNet::new_assert(first.prefix().addr(), 26)
}

/// The prefixes that are announced, each with the label that its edge gave it.
pub type Announced = BTreeMap<SitePrefix, Label>;

/// Every prefix that may be announced.
pub(crate) fn routes(vpns: &[Vpn]) -> impl Iterator<Item = SitePrefix> {
    vpns.iter().enumerate().flat_map(|(vpn_index, vpn)| {
        vpn.sites.iter().flat_map(move |site| {
            (0..vpn.prefixes).map(move |number| SitePrefix { vpn_index, site: *site, number })
        })
    })
}

/// What a site of a VPN announces.
pub(crate) fn announced(
    announced: &Announced,
    vpn_index: usize,
    site: usize,
) -> impl Iterator<Item = (SitePrefix, Label)> {
    let route = |number| SitePrefix { vpn_index, site, number };
    announced.range(route(0)..=route(u16::MAX)).map(|(route, label)| (*route, *label))
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
    let here = match network.vpns[vpn_index].name {
        // One label for whatever the VRF has.
        Some(name) => Fec::VrfName { name, prefix: None },
        None => network.vrf(vpn_index, own),
    };
    entries.push(entry(here, ingress, Operation::Pop, leaving()));
    for (route, label) in announced(&state.announced, vpn_index, own) {
        let ingress = Ingress::platform(label);
        entries.push(entry(network.vrf_prefix(route), ingress, Operation::Pop, leaving()));
    }
    for site in reached(network, state, router_index, vpn_index) {
        for (route, label) in announced(&state.announced, vpn_index, site) {
            let (fec, inner) = (network.vrf_prefix(route), pushed_again(label));
            entries.push(entry(fec, Ingress::UNTAGGED, Operation::Push, inner));
        }
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
    let said = |state: &State| {
        let of_vpn = |site: &usize| announced(&state.announced, vpn_index, *site);
        network.vpns[vpn_index].sites.iter().flat_map(of_vpn).collect::<Vec<(SitePrefix, Label)>>()
    };
    let same = Arc::ptr_eq(&old.announced, &new.announced) || said(old) == said(new);
    sites(old) != sites(new) || !same
}
