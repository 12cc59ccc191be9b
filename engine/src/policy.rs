//! Who may speak, and for which router: allow-lists and the routers that the operator named.
//!
//! In:   `allow` and `[[router]]` of the settings; a peer's address, a router id.
//! Out:  yes, or the cause of the refusal; the router that a source stands for.
//! Law:  a router with sources is spoken for from there alone.
//! Not:  which of two sessions of one router wins (`registry`).

use std::net::IpAddr;

use ipnet::IpNet;
use storage::interface::Interface;
use storage::mapping::RouterId;
use storage::row::Cause;

use crate::settings::{Settings, toml_list};

/// A router that the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterEntry {
    /// Its id.
    pub id: RouterId,
    /// Its name, or empty.
    pub name: Box<str>,
    /// Its interfaces: addresses that it owns beyond its id, links by name; sorted.
    pub interfaces: Vec<Interface>,
    /// Where its connections come from; masked and sorted. Empty = from everywhere.
    pub sources: Vec<IpNet>,
}

impl Default for RouterEntry {
    /// Without a name, of the id `0.0.0.0`, which no router has.
    fn default() -> Self {
        RouterEntry {
            id: RouterId(IpAddr::from([0, 0, 0, 0])),
            name: "".into(),
            interfaces: Vec::new(),
            sources: Vec::new(),
        }
    }
}

impl RouterEntry {
    /// The entry as a settings file writes it.
    pub fn as_toml(&self) -> String {
        let RouterEntry { id, name, interfaces, sources } = self;
        let mut text = format!("[[router]]\nid = \"{id}\"\n");
        if !name.is_empty() {
            text.push_str(&format!("name = \"{name}\"\n"));
        }
        let (addresses, links): (Vec<&Interface>, Vec<&Interface>) =
            interfaces.iter().partition(|interface| interface.is_address());
        let addresses: Vec<IpAddr> =
            addresses.iter().filter_map(|interface| interface.address).collect();
        text.push_str(&format!("addresses = {}\n", toml_list(&addresses)));
        if !links.is_empty() {
            let links: Vec<String> = links.into_iter().map(interface_toml).collect();
            text.push_str(&format!("interfaces = [{}]\n", links.join(", ")));
        }
        text.push_str(&format!("sources = {}\n", toml_list(sources)));
        text
    }

    /// Length of the longest of its prefixes that covers the peer; its own addresses count as
    /// the longest of all.
    fn covers(&self, peer: IpAddr) -> Option<u8> {
        if self.id.0 == peer || self.interfaces.iter().any(|it| it.address == Some(peer)) {
            return Some(u8::MAX);
        }
        let covering = self.sources.iter().filter(|prefix| prefix.contains(&peer));
        covering.map(IpNet::prefix_len).max()
    }
}

/// `{ name = "eth0", address = "10.0.0.1", neighbour = "192.0.2.9", table = 7 }`, as far as said.
fn interface_toml(interface: &Interface) -> String {
    let Interface { name, address, neighbour, table } = interface;
    let mut parts: Vec<String> = Vec::new();
    if !name.is_empty() {
        parts.push(format!("name = {}", toml::Value::from(&**name)));
    }
    parts.extend(address.map(|address| format!("address = \"{address}\"")));
    parts.extend(neighbour.map(|neighbour| format!("neighbour = \"{neighbour}\"")));
    parts.extend(table.map(|table| format!("table = {table}")));
    format!("{{ {} }}", parts.join(", "))
}

/// Who may speak. Immutable; SIGHUP makes another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    allow: Vec<IpNet>,
    routers: Vec<RouterEntry>,
}

impl Policy {
    /// The policy of these settings.
    pub fn new(settings: &Settings) -> Policy {
        let mut routers = settings.routers.clone();
        routers.sort_by_key(|router| router.id);
        Policy { allow: settings.allow.clone(), routers }
    }

    /// Whether the peer may connect at all. Errors: `Cause::SourceRefused`.
    pub fn admit(&self, peer: IpAddr) -> Result<(), Cause> {
        let allowed = self.allow.is_empty()
            || self.allow.iter().any(|prefix| prefix.contains(&peer))
            || self.routers.iter().any(|router| in_sources(router, peer));
        if allowed { Ok(()) } else { Err(Cause::SourceRefused) }
    }

    /// The router that the peer stands for when its input names none (FPM, bare input).
    ///
    /// `None` when nothing covers the peer, or when two routers do equally closely.
    pub fn router_of(&self, peer: IpAddr) -> Option<RouterId> {
        let mut best: Option<(u8, RouterId)> = None;
        let mut tied = false;
        for router in &self.routers {
            let Some(length) = router.covers(peer) else { continue };
            match best {
                Some((best_length, _)) if length < best_length => {}
                Some((best_length, _)) if length == best_length => tied = true,
                _ => {
                    best = Some((length, router.id));
                    tied = false;
                }
            }
        }
        best.filter(|_| !tied).map(|(_, id)| id)
    }

    /// Whether a connection from this peer may speak for this router.
    ///
    /// A router with sources is spoken for from there (or from an address of its own) alone; and
    /// a peer that is listed as somebody's source speaks for those routers alone.
    pub fn may_speak(&self, peer: IpAddr, router: RouterId) -> bool {
        match self.entry(router) {
            Some(entry) if !entry.sources.is_empty() => entry.covers(peer).is_some(),
            _ => !self.routers.iter().any(|entry| in_sources(entry, peer)),
        }
    }

    /// The routers that the operator named, in the order of their ids.
    pub fn routers(&self) -> &[RouterEntry] {
        &self.routers
    }

    /// The entry of one router.
    pub fn entry(&self, router: RouterId) -> Option<&RouterEntry> {
        let index = self.routers.binary_search_by_key(&router, |entry| entry.id).ok()?;
        self.routers.get(index)
    }
}

fn in_sources(router: &RouterEntry, peer: IpAddr) -> bool {
    router.sources.iter().any(|prefix| prefix.contains(&peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::new(&Settings::layered(Some(("f.toml", text)), &|_| None, &[]).unwrap())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn router(text: &str) -> RouterId {
        text.parse().unwrap()
    }

    const THREE: &str = r#"
        allow = ["10.9.0.0/16"]
        [[router]]
        id = "192.0.2.1"
        name = "pe1"
        addresses = ["10.0.0.1"]
        sources = ["10.1.0.0/16"]
        [[router]]
        id = "192.0.2.2"
        sources = ["10.1.2.0/24", "2001:db8::/32"]
        [[router]]
        id = "192.0.2.3"
    "#;

    #[test]
    fn without_a_list_every_source_is_admitted() {
        assert_eq!(policy("").admit(address("203.0.113.9")), Ok(()));
        assert!(policy("").may_speak(address("203.0.113.9"), router("192.0.2.1")));
    }

    #[test]
    fn a_list_admits_its_prefixes_and_the_sources_of_routers() {
        let policy = policy(THREE);
        assert_eq!(policy.admit(address("10.9.255.1")), Ok(()));
        assert_eq!(policy.admit(address("10.1.7.7")), Ok(()));
        assert_eq!(policy.admit(address("2001:db8::5")), Ok(()));
        assert_eq!(policy.admit(address("10.8.0.1")), Err(Cause::SourceRefused));
    }

    #[test]
    fn a_router_with_sources_is_spoken_for_from_there_alone() {
        let policy = policy(THREE);
        assert!(policy.may_speak(address("10.1.7.7"), router("192.0.2.1")));
        assert!(policy.may_speak(address("10.0.0.1"), router("192.0.2.1")));
        assert!(!policy.may_speak(address("10.9.0.1"), router("192.0.2.1")));
        // Without sources: from everywhere, but not from what is another router's source.
        assert!(policy.may_speak(address("10.9.0.1"), router("192.0.2.3")));
        assert!(!policy.may_speak(address("10.1.7.7"), router("192.0.2.3")));
        assert!(!policy.may_speak(address("10.1.7.7"), router("198.51.100.1")));
    }

    #[test]
    fn a_source_stands_for_the_router_that_covers_it_most_closely() {
        let policy = policy(THREE);
        assert_eq!(policy.router_of(address("10.0.0.1")), Some(router("192.0.2.1")));
        assert_eq!(policy.router_of(address("10.1.7.7")), Some(router("192.0.2.1")));
        assert_eq!(policy.router_of(address("10.1.2.7")), Some(router("192.0.2.2")));
        assert_eq!(policy.router_of(address("192.0.2.3")), Some(router("192.0.2.3")));
        assert_eq!(policy.router_of(address("10.9.0.1")), None);
    }

    #[test]
    fn two_routers_behind_one_source_are_told_apart_by_nobody() {
        let policy = policy(
            "[[router]]\nid = '192.0.2.1'\nsources = ['10.0.0.0/8']\n\
             [[router]]\nid = '192.0.2.2'\nsources = ['10.0.0.0/8']\n",
        );
        assert_eq!(policy.router_of(address("10.0.0.1")), None);
        assert!(policy.may_speak(address("10.0.0.1"), router("192.0.2.2")));
    }
}
