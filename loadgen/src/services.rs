//! What routers have labels for: one module per kind of service, each a pure function.
//!
//! In:   the labelled network, a state, a router.
//! Out:  entries of the router's table, without times.
//! Law:  nothing but these decides: the same network, state and router have the same entries.
//! Not:  labels that stay for good (`network`), when entries change (`scenario`).

pub mod area;
pub mod discard;
pub mod l3vpn;
pub mod labels;
pub mod p2mp;
pub mod rsvp;
pub mod tables;
pub mod transport;
pub mod vpws;

use std::collections::BTreeSet;
use std::str::FromStr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use smallvec::smallvec;
use storage::mapping::{
    Branches, Fec, Ingress, Label, Mapping, NextHop, Nhlfe, Operation, TimeSource,
};
use storage::time::Micros;

/// Which services a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// Transport along the IGP's paths, a label of each router's own choice per FEC (RFC 5036).
    pub ldp: bool,
    /// Explicitly routed tunnels with fast reroute.
    pub rsvp: bool,
    /// Transport along the IGP's paths, the same label everywhere (segment routing, RFC 8660).
    pub sr: bool,
    /// Layer-3 VPNs.
    pub l3vpn: bool,
    /// Point-to-point layer-2 services.
    pub vpws: bool,
    /// Point-to-multipoint trees.
    pub p2mp: bool,
    /// A share of the links has no addresses: branches name the interface (RFC 5309).
    pub unnumbered: bool,
    /// Entries also say the branch that takes over when the primary one fails (RFC 4090, RFC 5286).
    pub backup: bool,
    /// Every second VPN by the name of its VRF, and label tables of their own at provider edges.
    pub vrf_names: bool,
    /// Aggregates that provider edges discard.
    pub discard: bool,
}

impl Default for Services {
    /// What most networks have.
    fn default() -> Services {
        Services { ldp: true, l3vpn: true, ..Services::of([false; Services::NAMES.len()]) }
    }
}

impl Services {
    /// Every service by its word.
    const NAMES: [&'static str; 10] = [
        "ldp",
        "rsvp",
        "sr",
        "l3vpn",
        "vpws",
        "p2mp",
        "unnumbered",
        "backup",
        "vrf-names",
        "discard",
    ];
    /// All of them.
    pub const ALL: Services = Services::of([true; Services::NAMES.len()]);

    /// Those at whose place in `NAMES` there is `true`.
    const fn of(has: [bool; Services::NAMES.len()]) -> Services {
        let [ldp, rsvp, sr, l3vpn, vpws, p2mp, unnumbered, backup, vrf_names, discard] = has;
        Services { ldp, rsvp, sr, l3vpn, vpws, p2mp, unnumbered, backup, vrf_names, discard }
    }

    /// Whether labels beyond those of LDP and of VPNs are needed.
    pub fn need_ranges(self) -> bool {
        self.rsvp || self.sr || self.p2mp
    }
}

impl FromStr for Services {
    type Err = String;

    /// `ldp,sr,l3vpn`, or `all`.
    fn from_str(text: &str) -> Result<Services, String> {
        let found = |word: &str| Services::NAMES.iter().position(|name| *name == word);
        let mut has = [false; Services::NAMES.len()];
        for word in text.split(',').map(str::trim) {
            if word == "all" {
                return Ok(Services::ALL);
            }
            let place = found(word).ok_or_else(|| {
                format!("expected all, or some of {}, found {word}", Services::NAMES.join(","))
            })?;
            has[place] = true;
        }
        let services = Services::of(has);
        if !(services.ldp || services.sr || services.rsvp) {
            return Err("expected at least one of ldp, sr and rsvp to carry the others".to_owned());
        }
        Ok(services)
    }
}

/// An entry; its time is filled in by whoever knows it.
fn entry(fec: Fec, ingress: Ingress, operation: Operation, branches: Branches) -> Mapping {
    let (event_time, time_source) = (Micros(0), TimeSource::Router);
    Mapping { fec, ingress, operation, branches, event_time, time_source, extra: None }
}

/// Out of the MPLS network.
fn leaving() -> Branches {
    smallvec![Nhlfe::new(smallvec![], NextHop::Fec)]
}

/// An inner label, on which the router pushes another.
fn pushed_again(inner: Label) -> Branches {
    smallvec![Nhlfe::new(smallvec![inner], NextHop::Recursive)]
}

/// Up to `count` edges that are not this one, drawn.
fn others(edges: usize, but: usize, count: usize, chance: &mut ChaCha8Rng) -> BTreeSet<usize> {
    let count = count.min(edges.saturating_sub(1));
    let mut drawn = BTreeSet::new();
    while drawn.len() < count {
        let edge = chance.random_range(0..edges);
        if edge != but {
            drawn.insert(edge);
        }
    }
    drawn
}

#[cfg(test)]
mod tests;
