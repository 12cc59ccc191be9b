//! Where each router lives: which shard holds its table, and what shards say to each other.
//!
//! In:   the routers that recovery rebuilt; the shard that asks for one.
//! Out:  the parked state itself, or the shard that has it; `Message`, the words between shards.
//! Law:  a router's state is in one place: parked here, in one shard, or in one message.
//! Not:  who may claim a router (`policy`), and which of two claims wins (`shard::claim`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::history::network::standing;
use storage::mapping::RouterId;
use storage::router::RouterState;
use storage::row::{Cause, Row};

use crate::io::ConnectionId;
use crate::policy::Policy;
use crate::query::RouterRow;
use crate::roster::{RosterLine, RosterRequest};

/// A connection asks for the state of the router that it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The router.
    pub router: RouterId,
    /// The shard of the connection.
    pub shard: usize,
    /// The connection.
    pub connection: ConnectionId,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// When it was accepted; `None` for a bare connection, of which one router may have several.
    pub opened: Option<Opened>,
}

/// When a connection was accepted: of two connections of one source, the later speaks for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opened {
    /// Monotonic time, the same clock for every shard.
    pub monotonic_us: u64,
    /// Orders what one shard accepted within one turn.
    pub connection: ConnectionId,
}

/// What one shard, or the host, says to a shard.
#[derive(Debug)]
pub enum Message {
    /// To the router's home: end the session that it has, and hand over the state.
    Claim(Claim),
    /// To the claimant: here is the state; every row of it is durable.
    Granted {
        /// What was asked.
        claim: Claim,
        /// The router's table and what else is known of it.
        state: Box<RouterState>,
        /// The source and the time of the newest connection that has had it.
        newest: Option<(IpAddr, Opened)>,
    },
    /// To the claimant: another source is active under this id, or a newer connection was.
    Refused {
        /// What was asked.
        claim: Claim,
        /// Why.
        cause: Cause,
        /// The peer of the active session.
        holder: SocketAddr,
    },
    /// The settings were read again: who may speak from now on.
    Policy(Arc<Policy>),
    /// Rows of the host itself: what recovery found, kernel samples, configured routers.
    Rows(Vec<Row>),
    /// Somebody wants to see the routers whose home is the shard.
    Roster(RosterRequest),
}

/// What `Registry::claim` found.
#[derive(Debug)]
pub enum Found {
    /// Nobody had it: the claimant is its home from now on.
    Yours(Box<RouterState>),
    /// The home is the claimant's shard already.
    AtHome,
    /// The home is another shard: ask there.
    At(usize),
}

#[derive(Debug)]
enum Place {
    Parked(Box<RouterState>),
    Shard(usize),
}

/// Router to home, shared by the shards.
///
/// A lock is taken once per session, never per mapping.
#[derive(Debug, Default)]
pub struct Registry {
    places: Mutex<BTreeMap<RouterId, Place>>,
    /// Who is at the other end of a connection.
    peers: Mutex<BTreeMap<SocketAddr, RouterId>>,
}

impl Registry {
    /// A registry in which `parked` wait for their routers to come back.
    pub fn new(parked: BTreeMap<RouterId, Box<RouterState>>) -> Registry {
        let places = parked.into_iter().map(|(router, state)| (router, Place::Parked(state)));
        Registry { places: Mutex::new(places.collect()), peers: Mutex::default() }
    }

    /// The state of `router`, or who has it. A router never seen gets an empty state.
    pub fn claim(&self, router: RouterId, shard: usize) -> Found {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places.insert(router, Place::Shard(shard)) {
            None => Found::Yours(Box::new(RouterState::new(router))),
            Some(Place::Parked(state)) => Found::Yours(state),
            Some(Place::Shard(home)) if home == shard => Found::AtHome,
            Some(Place::Shard(home)) => {
                // Not moved yet: the home says when it is (`moved`).
                places.insert(router, Place::Shard(home));
                Found::At(home)
            }
        }
    }

    /// A connection has said for which router it speaks.
    pub fn named(&self, peer: SocketAddr, router: RouterId) {
        self.peers().insert(canonical(peer), router);
    }

    /// The session of a connection is over.
    pub fn gone(&self, peer: SocketAddr) {
        self.peers().remove(&canonical(peer));
    }

    /// The router at the other end of a connection, while it has a session.
    pub fn router_at(&self, peer: SocketAddr) -> Option<RouterId> {
        self.peers().get(&canonical(peer)).copied()
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, RouterId>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of `router` has been sent to `shard`.
    pub fn moved(&self, router: RouterId, shard: usize) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.insert(router, Place::Shard(shard));
    }

    /// The shard whose state `router` is; `None` while it is parked, or never seen.
    pub fn home(&self, router: RouterId) -> Option<usize> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get(&router) {
            Some(Place::Shard(shard)) => Some(*shard),
            Some(Place::Parked(_)) | None => None,
        }
    }

    /// Memory that the tables take whose routers no shard has.
    pub fn parked_bytes(&self) -> u64 {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = places.values().map(|place| match place {
            Place::Parked(state) => (state.table.bytes() + state.beside_table_bytes()) as u64,
            Place::Shard(_) => 0,
        });
        bytes.sum()
    }

    /// Every router that no shard has.
    pub fn parked(&self) -> Vec<RosterLine> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |place: &Place| match place {
            Place::Parked(state) => {
                let row = RouterRow::of(state, standing(state), false);
                Some(RosterLine { row, shard: None, live: None })
            }
            Place::Shard(_) => None,
        };
        places.values().filter_map(line).collect()
    }

    /// How many routers are known.
    pub fn routers(&self) -> usize {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// An IPv4 address is the same on a socket of either family.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_in_one_place() {
        let router = RouterId([192, 0, 2, 1].into());
        let mut parked = BTreeMap::new();
        parked.insert(router, Box::new(RouterState::new(router)));
        let registry = Registry::new(parked);
        assert!(matches!(registry.claim(router, 0), Found::Yours(_)));
        assert!(matches!(registry.claim(router, 0), Found::AtHome));
        assert!(matches!(registry.claim(router, 1), Found::At(0)));
        registry.moved(router, 1);
        assert!(matches!(registry.claim(router, 0), Found::At(1)));
        assert_eq!(registry.routers(), 1);
    }
}
