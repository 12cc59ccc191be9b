//! Next hops and next-hop groups of one FPM session, and the routes that lie on them.
//!
//! In:   announcements by number; routes that name a number instead of a neighbour.
//! Out:  the branches behind a number, and the routes to tell again because a number changed.
//! Law:  a number answers only when all that it leads to is known and can be said in one mapping;
//!       every store has a named limit.
//! Not:  what a group comes to (`expand`), how a branch is written as a mapping (`entry`).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Bound;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::hop::Hop;
use super::message::Member;
use super::netlink::Fault;
use super::route::RouteKey;

mod expand;
#[cfg(test)]
mod tests;

pub(super) use expand::Resolution;
#[cfg(test)]
use expand::Unresolved;

/// Next hops and groups that one session may announce.
pub(super) const NEXT_HOPS_MAX: usize = 65_536;
/// Members of all groups of one session together: an average of eight in 65,536 groups.
pub(super) const MEMBERS_MAX: usize = 524_288;
/// Routes of one session that name a next hop by number: a full table of the Internet.
pub(super) const ROUTES_MAX: usize = 2_097_152;

/// Estimated bytes per stored item, map overhead included: for the memory budget.
const NEXT_HOP_BYTES: usize = 128;
const MEMBER_BYTES: usize = 24;
const ROUTE_BYTES: usize = 176;

/// The least route key: where a scan of one number's routes begins.
const ROUTE_KEY_MIN: RouteKey = RouteKey {
    prefix: IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    table: 0,
    source: None,
    tos: 0,
};

/// A store is full: which, and what it holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// What there is too much of.
    pub(super) what: &'static str,
    /// How many are kept.
    pub(super) limit: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected at most {}, found one more", self.what, self.limit)
    }
}

/// What stands behind a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextHop {
    /// One next hop.
    Hop(Hop),
    /// Packets are dropped.
    Drops,
    /// Its interface is down.
    Dead,
    /// Several, by number.
    Group(Box<[Member]>),
    /// Something that no mapping can say.
    Refused(Fault),
}

/// A route on a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnNumber {
    /// The number.
    pub(super) id: u32,
    /// What `Route::is_connected` said.
    pub(super) is_connected: bool,
}

/// All that a session announced by number.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    next_hops: HashMap<u32, NextHop, FixedState>,
    /// (member, group), for every group.
    groups: BTreeSet<(u32, u32)>,
    members_count: usize,
    routes: HashMap<RouteKey, OnNumber, FixedState>,
    /// (number, route), for every route.
    routes_by_number: BTreeSet<(u32, RouteKey)>,
    altered: Altered,
}

/// Numbers of this frame that changed, and how far their routes have been told again. It is worked
/// through before the next frame is read.
#[derive(Debug, Default)]
struct Altered {
    /// Numbers whose routes, and whose groups, are still to come.
    queue: VecDeque<u32>,
    /// Numbers that are, or were, in the queue: each is visited once, whatever lies on whatever.
    seen: HashSet<u32, FixedState>,
    /// The number whose routes are being told, and the last of them that was.
    under_way: Option<(u32, Option<RouteKey>)>,
    /// Routes that were told after the last number changed.
    told: HashSet<RouteKey, FixedState>,
}

impl NextHops {
    /// Stores what stands behind a number. If that is new, the routes on it are altered, and those
    /// on every group above it.
    pub(super) fn announce(&mut self, id: u32, next_hop: NextHop) -> Result<(), Full> {
        let known = self.next_hops.get(&id);
        if known == Some(&next_hop) {
            return Ok(());
        }
        if known.is_none() && self.next_hops.len() == NEXT_HOPS_MAX {
            return Err(Full { what: "next hops", limit: NEXT_HOPS_MAX });
        }
        let count_before = self.members_count - known.map_or(0, member_count);
        if count_before + member_count(&next_hop) > MEMBERS_MAX {
            return Err(Full { what: "members of next-hop groups", limit: MEMBERS_MAX });
        }
        self.withdraw(id);
        if let NextHop::Group(members) = &next_hop {
            self.groups.extend(members.iter().map(|member| (member.id, id)));
        }
        self.members_count += member_count(&next_hop);
        self.next_hops.insert(id, next_hop);
        self.altered.told.clear();
        if self.altered.seen.insert(id) {
            self.altered.queue.push_back(id);
        }
        Ok(())
    }

    /// Forgets a number. Routes on it keep what they had: the router says itself when a route goes
    /// away or moves, and it deletes the old group before it tells to which group a route moved.
    pub(super) fn withdraw(&mut self, id: u32) {
        let Some(next_hop) = self.next_hops.remove(&id) else { return };
        self.members_count -= member_count(&next_hop);
        if let NextHop::Group(members) = next_hop {
            for member in &members {
                self.groups.remove(&(member.id, id));
            }
        }
    }

    /// Notes that a route lies on a number; it is told by whoever calls.
    pub(super) fn attach(&mut self, route: RouteKey, on: OnNumber) -> Result<(), Full> {
        if !self.altered.queue.is_empty() {
            self.altered.told.insert(route);
        }
        let known = self.routes.get(&route).copied();
        if known.is_none() && self.routes.len() == ROUTES_MAX {
            return Err(Full { what: "routes on next-hop groups", limit: ROUTES_MAX });
        }
        if let Some(known) = known.filter(|known| known.id != on.id) {
            self.routes_by_number.remove(&(known.id, route));
        }
        if known.is_none_or(|known| known.id != on.id) {
            self.routes_by_number.insert((on.id, route));
        }
        self.routes.insert(route, on);
        Ok(())
    }

    /// Forgets a route: it is gone, or it names its branches itself.
    pub(super) fn detach(&mut self, route: RouteKey) {
        if let Some(on) = self.routes.remove(&route) {
            self.routes_by_number.remove(&(on.id, route));
        }
    }

    /// Writes the branches behind a number to `hops`, in place of what is there.
    pub(super) fn resolve(&self, id: u32, hops: &mut Vec<Hop>) -> Resolution {
        expand::resolve(&|id| self.next_hops.get(&id), id, hops)
    }

    /// A route to tell again, with the number that it lies on.
    pub(super) fn next_altered(&mut self) -> Option<(RouteKey, OnNumber)> {
        loop {
            if let Some((id, last)) = self.altered.under_way {
                if let Some(route) = self.route_behind(id, last) {
                    self.altered.under_way = Some((id, Some(route)));
                    let on = self.routes.get(&route).copied();
                    match on.filter(|_| !self.altered.told.contains(&route)) {
                        Some(on) => return Some((route, on)),
                        None => continue,
                    }
                }
                self.altered.under_way = None;
            }
            let Some(id) = self.altered.queue.pop_front() else {
                self.altered = Altered::default();
                return None;
            };
            let groups = self.groups.range((id, 0)..=(id, u32::MAX)).map(|(_, group)| *group);
            let Altered { queue, seen, .. } = &mut self.altered;
            queue.extend(groups.filter(|group| seen.insert(*group)));
            self.altered.under_way = Some((id, None));
        }
    }

    /// The first route on a number behind `last`.
    fn route_behind(&self, id: u32, last: Option<RouteKey>) -> Option<RouteKey> {
        let from = match last {
            Some(last) => Bound::Excluded((id, last)),
            None => Bound::Included((id, ROUTE_KEY_MIN)),
        };
        let next = self.routes_by_number.range((from, Bound::Unbounded)).next();
        next.filter(|(number, _)| *number == id).map(|(_, route)| *route)
    }

    /// Whether routes may still have to be told again.
    pub(super) fn has_altered(&self) -> bool {
        self.altered.under_way.is_some() || !self.altered.queue.is_empty()
    }

    /// Bytes held, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.next_hops.len() * NEXT_HOP_BYTES
            + self.members_count * MEMBER_BYTES
            + self.routes.len() * ROUTE_BYTES
    }
}

fn member_count(next_hop: &NextHop) -> usize {
    match next_hop {
        NextHop::Group(members) => members.len(),
        NextHop::Hop(_) | NextHop::Drops | NextHop::Dead | NextHop::Refused(_) => 0,
    }
}
