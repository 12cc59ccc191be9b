//! Label tables beside the platform's: those of a provider edge's VRFs (carrier's carrier, RFC 4364
//! section 9).
//!
//! In:   a provider edge.
//! Out:  the entries of its one table.
//! Law:  a label of such a table is no label of the platform: packets that come over an unnumbered
//!       link would have two entries to choose from.
//! Not:  labels that other provider edges push (`l3vpn`).

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use storage::mapping::{Fec, Ingress, Label, Mapping, Operation, Origin};

use super::{entry, leaving};
use crate::network::Network;

/// Entries of a table.
pub const ENTRIES: u8 = 3;
/// Their first label; those of VPNs begin above.
const LABEL_MIN: u32 = 20;
/// The table of the first provider edge has this number, each other the next one.
const TABLE_MIN: u32 = 1_001;

/// The label of an entry, by its number.
pub fn label(number: u8) -> Label {
    Label::new(LABEL_MIN + u32::from(number)).unwrap_or(Label::IMPLICIT_NULL)
}

/// The number of a provider edge's table.
pub fn table(fec_index: usize) -> u32 {
    TABLE_MIN.saturating_add(u32::try_from(fec_index).unwrap_or(u32::MAX))
}

/// The FEC of an entry: a /24 of 192.168.0.0/16 in the routing table of the same number.
pub fn fec(fec_index: usize, number: u8) -> Fec {
    let prefix = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, number, 0), 24);
    Fec::Ip { prefix: IpNet::V4(prefix), table: table(fec_index) }
}

pub(crate) fn entries(network: &Network, router_index: usize, entries: &mut Vec<Mapping>) {
    let Some(own) = network.fec_of_router(router_index) else { return };
    for number in 0..ENTRIES {
        let ingress = Ingress { label: Some(label(number)), origin: Origin::Table(table(own)) };
        entries.push(entry(fec(own, number), ingress, Operation::Pop, leaving()));
    }
}
