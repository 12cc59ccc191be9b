//! Interfaces of a router, as its hello or the settings name them.
//!
//! In:   what a sender or an operator knows of the ends of a router's links.
//! Out:  plain values: (router, interface) names a link end, whatever its address.
//! Law:  an interface says something: a name, an address, or both.
//! Not:  which router is behind a branch (`history`).

use std::fmt;
use std::net::IpAddr;

use crate::mapping::RouterId;

/// One interface of a router. Links without numbers have no address of their own, and link-local
/// addresses (RFC 4291 section 2.5.6) are those of many.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// Its name, as branches name it; at most `NAME_BYTES_MAX` bytes, or empty.
    pub name: Box<str>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The router at the other end.
    pub neighbour: Option<RouterId>,
    /// The label table in which labels that come in by it are looked up; 0 = the platform's.
    /// `None` = not said.
    pub table: Option<u32>,
}

impl Interface {
    /// An interface of which nothing but the address is said.
    pub fn of_address(address: IpAddr) -> Interface {
        Interface { address: Some(address), ..Interface::default() }
    }

    /// Whether nothing but the address is said.
    pub fn is_address(&self) -> bool {
        self.address.is_some()
            && self.name.is_empty()
            && self.neighbour.is_none()
            && self.table.is_none()
    }

    /// Memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Interface>() + self.name.len()
    }
}

impl fmt::Display for Interface {
    /// `eth0 10.0.0.1 to 192.0.2.9 table 7`, each part if it is said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        if !self.name.is_empty() {
            parts.push(self.name.to_string());
        }
        parts.extend(self.address.map(|address| address.to_string()));
        parts.extend(self.neighbour.map(|neighbour| format!("to {neighbour}")));
        parts.extend(self.table.map(|table| format!("table {table}")));
        f.write_str(&parts.join(" "))
    }
}

/// Whether an address is of one link alone (RFC 4291 section 2.5.6, RFC 3927): that of many.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
