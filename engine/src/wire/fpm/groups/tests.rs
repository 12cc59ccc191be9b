//! The store of next hops by number: what a group comes to, and who is told again.

use std::net::IpAddr;

use super::*;

fn hop(last: u8) -> NextHop {
    let gateway = Some(IpAddr::from([10, 0, 0, last]));
    let (interface, encapsulation, weight) = (None, None, 1);
    NextHop::Hop(Hop { gateway, interface, stack: Default::default(), encapsulation, weight })
}

fn group(ids: &[u32]) -> NextHop {
    NextHop::Group(ids.iter().map(|&id| Member { id, weight: 1 }).collect())
}

fn weighted(members: &[(u32, u32)]) -> NextHop {
    NextHop::Group(members.iter().map(|&(id, weight)| Member { id, weight }).collect())
}

fn route(last: u8) -> RouteKey {
    let prefix = IpNet::from(IpAddr::from([10, 255, 0, last]));
    RouteKey { prefix, table: 0, source: None, tos: 0 }
}

fn on(id: u32) -> OnNumber {
    OnNumber { id, is_connected: false }
}

fn altered(next_hops: &mut NextHops) -> Vec<(RouteKey, u32)> {
    std::iter::from_fn(|| next_hops.next_altered()).map(|(route, on)| (route, on.id)).collect()
}

/// (last byte of the gateway, share) of each branch.
fn resolved(next_hops: &NextHops, id: u32) -> Result<Vec<(u8, u32)>, Resolution> {
    let mut hops = Vec::new();
    match next_hops.resolve(id, &mut hops) {
        Resolution::Branches => {
            let last = |hop: &Hop| match hop.gateway {
                Some(IpAddr::V4(address)) => address.octets()[3],
                _ => 0,
            };
            Ok(hops.iter().map(|hop| (last(hop), hop.weight)).collect())
        }
        other => {
            assert_eq!(hops, []);
            Err(other)
        }
    }
}

fn unresolved<T>(unresolved: Unresolved) -> Result<T, Resolution> {
    Err(Resolution::Unresolved(unresolved))
}

#[test]
fn a_group_answers_only_when_each_of_its_members_is_known() {
    let mut next_hops = NextHops::default();
    next_hops.announce(9, group(&[1, 2])).unwrap();
    next_hops.announce(1, hop(1)).unwrap();
    assert_eq!(resolved(&next_hops, 9), unresolved(Unresolved::Missing(2)));
    next_hops.announce(2, hop(2)).unwrap();
    assert_eq!(resolved(&next_hops, 9), Ok(vec![(1, 1), (2, 1)]));
    assert_eq!(resolved(&next_hops, 3), unresolved(Unresolved::Missing(3)));
}

#[test]
fn a_group_of_groups_is_one_list_of_branches() {
    let mut next_hops = NextHops::default();
    next_hops.announce(163, hop(1)).unwrap();
    next_hops.announce(109, group(&[163])).unwrap();
    next_hops.announce(136, group(&[109])).unwrap();
    assert_eq!(resolved(&next_hops, 136), Ok(vec![(1, 1)]));
    // Half of it by 1, the other half by 2 and 3 at one to two, as sixths.
    next_hops.announce(2, hop(2)).unwrap();
    next_hops.announce(3, hop(3)).unwrap();
    next_hops.announce(20, weighted(&[(2, 1), (3, 2)])).unwrap();
    next_hops.announce(21, group(&[163, 20])).unwrap();
    assert_eq!(resolved(&next_hops, 21), Ok(vec![(1, 3), (2, 1), (3, 2)]));
    next_hops.announce(22, weighted(&[(21, 1), (109, 3)])).unwrap();
    assert_eq!(resolved(&next_hops, 22), Ok(vec![(1, 3), (2, 1), (3, 2), (1, 18)]));
}

#[test]
fn what_drops_and_what_is_down_is_told_from_what_forwards() {
    let mut next_hops = NextHops::default();
    next_hops.announce(1, hop(1)).unwrap();
    next_hops.announce(5, NextHop::Drops).unwrap();
    next_hops.announce(6, NextHop::Dead).unwrap();
    let mut check = |members: &[u32], expected| {
        next_hops.announce(9, group(members)).unwrap();
        assert_eq!(resolved(&next_hops, 9), expected, "{members:?}");
    };
    check(&[5], Err(Resolution::Drops));
    check(&[5, 6, 5], Err(Resolution::Drops));
    check(&[5, 1], unresolved(Unresolved::Mixed));
    check(&[6, 1, 6], Ok(vec![(1, 1)]));
    check(&[6, 6], unresolved(Unresolved::Dead));
    assert_eq!(resolved(&next_hops, 5), Err(Resolution::Drops));
    assert_eq!(resolved(&next_hops, 6), unresolved(Unresolved::Dead));
}

#[test]
fn every_walk_over_groups_ends() {
    let mut next_hops = NextHops::default();
    next_hops.announce(1, group(&[2])).unwrap();
    next_hops.announce(2, group(&[3])).unwrap();
    next_hops.announce(3, group(&[1])).unwrap();
    assert_eq!(resolved(&next_hops, 1), unresolved(Unresolved::Circular(1)));
    assert_eq!(altered(&mut next_hops), []);
    next_hops.attach(route(1), on(2)).unwrap();
    next_hops.announce(3, group(&[1, 2])).unwrap();
    assert_eq!(altered(&mut next_hops), [(route(1), 2)]);
    next_hops.announce(4, group(&[4])).unwrap();
    assert_eq!(resolved(&next_hops, 4), unresolved(Unresolved::Circular(4)));
    next_hops.announce(100, hop(1)).unwrap();
    for id in 101..=108 {
        next_hops.announce(id, group(&[id - 1])).unwrap();
    }
    assert_eq!(resolved(&next_hops, 108), Ok(vec![(1, 1)]));
    next_hops.announce(109, group(&[108])).unwrap();
    assert_eq!(resolved(&next_hops, 109), unresolved(Unresolved::Deep));
    // 200 branches eight times over, at each of seven levels.
    for (id, end) in [(201, hop(1)), (301, NextHop::Drops), (401, NextHop::Dead)] {
        next_hops.announce(id, end).unwrap();
        for id in id + 1..id + 8 {
            next_hops.announce(id, group(&[id - 1; 256])).unwrap();
        }
        assert!(resolved(&next_hops, id + 1) != unresolved(Unresolved::Wide));
        assert_eq!(resolved(&next_hops, id + 7), unresolved(Unresolved::Wide));
    }
}

#[test]
fn shares_beyond_32_bits_are_refused_unless_they_are_the_same_in_fewer() {
    let mut next_hops = NextHops::default();
    next_hops.announce(1, hop(1)).unwrap();
    next_hops.announce(2, hop(2)).unwrap();
    next_hops.announce(10, weighted(&[(1, 65_536), (2, 65_536)])).unwrap();
    next_hops.announce(11, weighted(&[(10, 65_536)])).unwrap();
    assert_eq!(resolved(&next_hops, 11), Ok(vec![(1, 1), (2, 1)]));
    next_hops.announce(12, weighted(&[(1, 65_535), (2, 65_536)])).unwrap();
    next_hops.announce(13, weighted(&[(12, 65_535), (1, 65_536)])).unwrap();
    assert_eq!(resolved(&next_hops, 13), unresolved(Unresolved::Shares));
}

#[test]
fn a_changed_number_alters_each_route_on_it_once() {
    let mut next_hops = NextHops::default();
    next_hops.announce(1, hop(1)).unwrap();
    next_hops.announce(2, hop(2)).unwrap();
    next_hops.announce(9, group(&[1, 2])).unwrap();
    next_hops.announce(90, group(&[9, 1])).unwrap();
    next_hops.attach(route(1), on(9)).unwrap();
    next_hops.attach(route(2), on(1)).unwrap();
    next_hops.attach(route(3), on(2)).unwrap();
    next_hops.attach(route(4), on(90)).unwrap();
    assert_eq!(altered(&mut next_hops), [], "each was told behind what it lies on");
    next_hops.announce(1, hop(1)).unwrap();
    assert_eq!(altered(&mut next_hops), [], "the same value again is no change");
    next_hops.announce(1, hop(7)).unwrap();
    next_hops.announce(9, group(&[1])).unwrap();
    let both = [(route(2), 1), (route(1), 9), (route(4), 90)];
    assert_eq!(altered(&mut next_hops), both, "what lies on a group of a group too");
    next_hops.announce(2, hop(8)).unwrap();
    assert_eq!(altered(&mut next_hops), [(route(3), 2)], "2 is no member any more");
}

#[test]
fn a_route_that_moved_or_went_is_not_told_again() {
    let mut next_hops = NextHops::default();
    next_hops.attach(route(1), on(1)).unwrap();
    next_hops.attach(route(2), on(1)).unwrap();
    next_hops.attach(route(1), on(2)).unwrap();
    next_hops.announce(1, hop(1)).unwrap();
    next_hops.detach(route(2));
    assert_eq!(altered(&mut next_hops), []);
    next_hops.withdraw(1);
    assert_eq!(next_hops.memory_bytes(), ROUTE_BYTES);
}

#[test]
fn a_route_is_told_again_by_what_changed_behind_it() {
    let mut next_hops = NextHops::default();
    next_hops.announce(1, hop(1)).unwrap();
    next_hops.attach(route(1), on(1)).unwrap();
    next_hops.announce(1, hop(2)).unwrap();
    assert_eq!(altered(&mut next_hops), [(route(1), 1)]);
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
