//! What a walk sees of the network, and which tables it lacked.
//!
//! In:   a network, of which perhaps only some tables have been read.
//! Out:  routers and owners of addresses; the routers whose tables would have been needed.
//! Law:  a walk that lacked no table is that of the whole network.
//! Not:  reading tables (`history::explore`).

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::super::UnknownCause;
use super::super::links::Behind;
use super::super::network::{Network, RouterAsOf};
use crate::mapping::{Nhlfe, RouterId};
use crate::time::Micros;

/// The network as one walk looks at it.
pub(super) struct Sight<'a> {
    network: &'a Network,
    lacks: RefCell<BTreeSet<RouterId>>,
}

impl<'a> Sight<'a> {
    pub(super) fn of(network: &'a Network) -> Sight<'a> {
        Sight { network, lacks: RefCell::default() }
    }

    /// The router, if the log knows it and its table has been read.
    pub(super) fn router(&self, router: RouterId) -> Option<&'a RouterAsOf> {
        let found = self.network.router(router);
        if found.is_none() && self.network.is_unread(router) {
            self.lacks.borrow_mut().insert(router);
        }
        found
    }

    /// Where a branch of this router leads. Errors: why that cannot be said.
    pub(super) fn behind(&self, here: RouterId, branch: &Nhlfe) -> Result<Behind, UnknownCause> {
        self.network.behind(here, branch)
    }

    pub(super) fn at(&self) -> Micros {
        self.network.at
    }

    /// Routers whose tables it asked for in vain.
    pub(super) fn lacks(self) -> BTreeSet<RouterId> {
        self.lacks.into_inner()
    }
}
