//! Next hops and next-hop groups of one FPM session, and the routes that lie on them.
//!
//! In:   announcements by number; routes that name a number instead of a neighbour.
//! Out:  the branches behind a number, and the routes to tell again because a number changed.
//! Law:  a group answers only when each of its members is known; every store has a named limit.
//! Not:  how a branch is written as a mapping (`fpm`); a group is never a member of a group.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::netlink::{Hop, Member, RouteKey};

/// Next hops and groups that one session may announce.
pub(super) const NEXT_HOPS_MAX: usize = 65_536;
/// Members of all groups of one session together: an average of eight in 65,536 groups.
pub(super) const MEMBERS_MAX: usize = 524_288;
/// Routes of one session that name a next hop by number: a full table of the Internet.
pub(super) const ROUTES_MAX: usize = 2_097_152;

/// Estimated bytes per stored item, map overhead included: for the memory budget.
const NEXT_HOP_BYTES: usize = 112;
const MEMBER_BYTES: usize = 24;
const ROUTE_BYTES: usize = 112;

/// The least route key: where a scan of one number's routes begins.
const ROUTE_KEY_MIN: RouteKey =
    RouteKey { prefix: IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)), table: 0 };

/// A store is full: which, and what it holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// What there is too much of.
    pub(super) what: &'static str,
    /// How many are kept.
    pub(super) limit: usize,
}

/// What stands behind a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextHop {
    /// One next hop; `None` = packets are dropped.
    Hop(Option<Hop>),
    /// Several, by number.
    Group(Box<[Member]>),
}

/// What a number leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// The branches are in the `Vec` that was passed.
    Branches,
    /// Packets are dropped.
    Drops,
    /// This number was not announced.
    Unknown(u32),
}

/// All that a session announced by number.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    next_hops: HashMap<u32, NextHop, foldhash::fast::FixedState>,
    /// (member, group), for every group.
    groups: BTreeSet<(u32, u32)>,
    members_count: usize,
    routes: HashMap<RouteKey, u32, foldhash::fast::FixedState>,
    /// (number, route), for every route.
    routes_by_number: BTreeSet<(u32, RouteKey)>,
    altered: BTreeSet<RouteKey>,
}

impl NextHops {
    /// Stores what stands behind a number. If that is new, the routes on it are altered.
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
        self.alter_routes_on(id);
        let groups: Vec<u32> =
            self.groups.range((id, 0)..=(id, u32::MAX)).map(|(_, group)| *group).collect();
        groups.into_iter().for_each(|group| self.alter_routes_on(group));
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

    /// Notes that a route lies on a number.
    pub(super) fn attach(&mut self, route: RouteKey, id: u32) -> Result<(), Full> {
        self.altered.remove(&route);
        let known = self.routes.get(&route).copied();
        if known == Some(id) {
            return Ok(());
        }
        if known.is_none() && self.routes.len() == ROUTES_MAX {
            return Err(Full { what: "routes on next-hop groups", limit: ROUTES_MAX });
        }
        if let Some(known) = known {
            self.routes_by_number.remove(&(known, route));
        }
        self.routes.insert(route, id);
        self.routes_by_number.insert((id, route));
        Ok(())
    }

    /// Forgets a route: it is gone, or it names its branches itself.
    pub(super) fn detach(&mut self, route: RouteKey) {
        if let Some(id) = self.routes.remove(&route) {
            self.routes_by_number.remove(&(id, route));
            self.altered.remove(&route);
        }
    }

    /// Writes the branches behind a number to `hops`, in place of what is there.
    pub(super) fn resolve(&self, id: u32, hops: &mut Vec<Hop>) -> Resolution {
        hops.clear();
        match self.next_hops.get(&id) {
            None => return Resolution::Unknown(id),
            Some(NextHop::Hop(hop)) => hops.extend(hop.clone()),
            Some(NextHop::Group(members)) => {
                for member in members {
                    match self.next_hops.get(&member.id) {
                        Some(NextHop::Hop(Some(hop))) => {
                            hops.push(Hop { weight: member.weight, ..hop.clone() });
                        }
                        Some(NextHop::Hop(None)) => {}
                        Some(NextHop::Group(_)) | None => return Resolution::Unknown(member.id),
                    }
                }
            }
        }
        if hops.is_empty() { Resolution::Drops } else { Resolution::Branches }
    }

    /// A route to tell again, with the number that it lies on; the least first.
    pub(super) fn next_altered(&mut self) -> Option<(RouteKey, u32)> {
        let route = self.altered.pop_first()?;
        let id = self.routes.get(&route).copied();
        Some((route, id.expect("a route leaves `altered` when it leaves `routes`")))
    }

    /// Whether routes are still to be told again.
    pub(super) fn has_altered(&self) -> bool {
        !self.altered.is_empty()
    }

    /// Bytes held, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.next_hops.len() * NEXT_HOP_BYTES
            + self.members_count * MEMBER_BYTES
            + self.routes.len() * ROUTE_BYTES
    }

    fn alter_routes_on(&mut self, id: u32) {
        let routes = self.routes_by_number.range((id, ROUTE_KEY_MIN)..);
        let routes = routes.take_while(|(number, _)| *number == id).map(|(_, route)| *route);
        self.altered.extend(routes);
    }
}

fn member_count(next_hop: &NextHop) -> usize {
    match next_hop {
        NextHop::Hop(_) => 0,
        NextHop::Group(members) => members.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn hop(last: u8) -> NextHop {
        let gateway = Some(IpAddr::from([10, 0, 0, last]));
        NextHop::Hop(Some(Hop { gateway, stack: Default::default(), weight: 1 }))
    }

    fn group(ids: &[u32]) -> NextHop {
        NextHop::Group(ids.iter().map(|&id| Member { id, weight: 1 }).collect())
    }

    fn route(last: u8) -> RouteKey {
        let prefix = IpNet::from(IpAddr::from([10, 255, 0, last]));
        RouteKey { prefix, table: 254 }
    }

    fn altered(next_hops: &mut NextHops) -> Vec<(RouteKey, u32)> {
        std::iter::from_fn(|| next_hops.next_altered()).collect()
    }

    #[test]
    fn a_group_answers_only_when_each_of_its_members_is_known() {
        let mut next_hops = NextHops::default();
        let mut hops = Vec::new();
        next_hops.announce(9, group(&[1, 2])).unwrap();
        next_hops.announce(1, hop(1)).unwrap();
        assert_eq!(next_hops.resolve(9, &mut hops), Resolution::Unknown(2));
        next_hops.announce(2, hop(2)).unwrap();
        assert_eq!(next_hops.resolve(9, &mut hops), Resolution::Branches);
        assert_eq!(hops.len(), 2);
        assert_eq!(next_hops.resolve(3, &mut hops), Resolution::Unknown(3));
    }

    #[test]
    fn a_changed_number_alters_each_route_on_it_once() {
        let mut next_hops = NextHops::default();
        next_hops.announce(1, hop(1)).unwrap();
        next_hops.announce(2, hop(2)).unwrap();
        next_hops.announce(9, group(&[1, 2])).unwrap();
        next_hops.attach(route(1), 9).unwrap();
        next_hops.attach(route(2), 1).unwrap();
        next_hops.attach(route(3), 2).unwrap();
        assert_eq!(altered(&mut next_hops), []);
        next_hops.announce(1, hop(1)).unwrap();
        assert_eq!(altered(&mut next_hops), [], "the same value again is no change");
        next_hops.announce(1, hop(7)).unwrap();
        next_hops.announce(9, group(&[1])).unwrap();
        assert_eq!(altered(&mut next_hops), [(route(1), 9), (route(2), 1)]);
        next_hops.announce(2, hop(8)).unwrap();
        assert_eq!(altered(&mut next_hops), [(route(3), 2)], "2 is no member any more");
    }

    #[test]
    fn a_route_that_moved_or_went_is_not_told_again() {
        let mut next_hops = NextHops::default();
        next_hops.attach(route(1), 1).unwrap();
        next_hops.attach(route(2), 1).unwrap();
        next_hops.attach(route(1), 2).unwrap();
        next_hops.announce(1, hop(1)).unwrap();
        next_hops.detach(route(2));
        assert_eq!(altered(&mut next_hops), []);
        next_hops.withdraw(1);
        assert_eq!(next_hops.memory_bytes(), ROUTE_BYTES);
    }

    #[test]
    fn each_store_ends_at_its_limit() {
        let mut next_hops = NextHops::default();
        let wide: Vec<u32> = (0..256).collect();
        let groups = (MEMBERS_MAX / wide.len()) as u32;
        for id in 0..groups {
            next_hops.announce(id, group(&wide)).unwrap();
        }
        assert!(next_hops.announce(groups, group(&[1])).is_err());
        next_hops.announce(0, group(&[])).unwrap();
        for id in groups..NEXT_HOPS_MAX as u32 {
            next_hops.announce(id, hop(1)).unwrap();
        }
        assert!(next_hops.announce(NEXT_HOPS_MAX as u32, hop(1)).is_err());
        next_hops.announce(1, hop(2)).unwrap();
    }
}
