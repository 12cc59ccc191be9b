//! What a next-hop group comes to: groups of groups become one list of branches.
//!
//! In:   a number, and what stands behind every number.
//! Out:  its branches with their shares, that it drops, or why no mapping can say.
//! Law:  every walk ends, however groups name each other; shares of shares are exact.
//! Not:  when it is asked again (`groups`).

use std::fmt;

use smallvec::SmallVec;
use storage::mapping::BRANCHES_MAX;
use storage::row::Cause;

use super::super::hop::Hop;
use super::super::message::Member;
use super::super::netlink::Fault;
use super::NextHop;

/// Groups in groups: zebra resolves a route over a route over a route, seldom deeper.
const DEPTH_MAX: usize = 8;

/// What a number leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Resolution {
    /// The branches are in the `Vec` that was passed.
    Branches,
    /// Packets are dropped.
    Drops,
    /// No mapping can say.
    Unresolved(Unresolved),
}

/// Why no mapping can say what a number leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Unresolved {
    /// This number was not announced.
    Missing(u32),
    /// What stands behind this number.
    Refused(u32, Fault),
    /// Some branches drop what others send on.
    Mixed,
    /// Every interface is down: whether the packet then meets a shorter prefix is not said.
    Dead,
    /// This group is a part of itself.
    Circular(u32),
    /// Deeper than anything that makes sense.
    Deep,
    /// More branches than a mapping has.
    Wide,
    /// Shares that need larger numbers than a mapping has.
    Shares,
}

impl Unresolved {
    /// The cause in the ledger.
    pub(in super::super) fn cause(&self) -> Cause {
        match self {
            Unresolved::Missing(_) => Cause::NextHopUnknown,
            Unresolved::Refused(_, fault) => fault.cause,
            Unresolved::Mixed => Cause::OperationInvalid,
            Unresolved::Dead
            | Unresolved::Circular(_)
            | Unresolved::Deep
            | Unresolved::Wide
            | Unresolved::Shares => Cause::NhlfeInvalid,
        }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::Missing(id) => {
                write!(f, "expected announced next hops, found {id}, which is none")
            }
            Unresolved::Refused(id, fault) => write!(f, "next hop {id}, {fault}"),
            Unresolved::Mixed => {
                f.write_str("expected branches that all drop or all forward, found both")
            }
            Unresolved::Dead => {
                f.write_str("expected a branch that carries something, found all of them down")
            }
            Unresolved::Circular(id) => {
                write!(f, "expected groups of other groups, found {id} in itself")
            }
            Unresolved::Deep => write!(f, "expected at most {DEPTH_MAX} groups in one another"),
            Unresolved::Wide => write!(f, "expected at most {BRANCHES_MAX} branches, found more"),
            Unresolved::Shares => f.write_str("expected shares of 32 bits, found larger ones"),
        }
    }
}

/// Writes the branches behind a number to `hops`, in place of what is there.
pub(super) fn resolve<'a>(
    lookup: &dyn Fn(u32) -> Option<&'a NextHop>,
    id: u32,
    hops: &mut Vec<Hop>,
) -> Resolution {
    hops.clear();
    // The usual case needs no shares.
    if let Some(NextHop::Hop(hop)) = lookup(id) {
        hops.push(hop.clone());
        return Resolution::Branches;
    }
    let (path, leaves) = (SmallVec::new(), Vec::new());
    let mut expansion = Expansion { lookup, path, leaves, drops: 0, dead: 0 };
    match expansion.expand(id).and_then(|_| expansion.finish(hops)) {
        Ok(resolution) => resolution,
        Err(unresolved) => {
            hops.clear();
            Resolution::Unresolved(unresolved)
        }
    }
}

/// A branch, and its share among those that its group comes to.
struct Leaf<'a> {
    hop: &'a Hop,
    share: u64,
}

struct Expansion<'a, 'b> {
    lookup: &'b dyn Fn(u32) -> Option<&'a NextHop>,
    /// The groups that lead to where the walk is.
    path: SmallVec<[u32; DEPTH_MAX]>,
    leaves: Vec<Leaf<'a>>,
    drops: usize,
    dead: usize,
}

impl<'a> Expansion<'a, '_> {
    /// Adds what a number leads to. Returns the sum of the shares that were added.
    fn expand(&mut self, id: u32) -> Result<u64, Unresolved> {
        // Every number but a group is one of these, and no group is empty: that bounds the walk.
        if self.leaves.len() + self.drops + self.dead >= BRANCHES_MAX {
            return Err(Unresolved::Wide);
        }
        match (self.lookup)(id) {
            None => return Err(Unresolved::Missing(id)),
            Some(NextHop::Refused(fault)) => return Err(Unresolved::Refused(id, fault.clone())),
            Some(NextHop::Drops) => self.drops += 1,
            Some(NextHop::Dead) => self.dead += 1,
            Some(NextHop::Hop(hop)) => {
                self.leaves.push(Leaf { hop, share: 1 });
                return Ok(1);
            }
            Some(NextHop::Group(members)) => {
                if self.path.contains(&id) {
                    return Err(Unresolved::Circular(id));
                }
                if self.path.len() == DEPTH_MAX {
                    return Err(Unresolved::Deep);
                }
                self.path.push(id);
                let sum = self.expand_group(members)?;
                self.path.pop();
                return Ok(sum);
            }
        }
        Ok(0)
    }

    fn expand_group(&mut self, members: &[Member]) -> Result<u64, Unresolved> {
        // Where the leaves of each member that has any begin, its weight, and their shares.
        let mut parts: SmallVec<[(usize, u64, u64); 8]> = SmallVec::new();
        for member in members {
            let first = self.leaves.len();
            let sum = self.expand(member.id)?;
            if sum > 0 {
                parts.push((first, member.weight.into(), sum));
            }
        }
        let all = parts.iter().try_fold(1_u64, |all, (_, _, sum)| least_common_multiple(all, *sum));
        let all = all.ok_or(Unresolved::Shares)?;
        let ends = parts.iter().skip(1).map(|(first, _, _)| *first).chain([self.leaves.len()]);
        let ends: SmallVec<[usize; 8]> = ends.collect();
        let mut total = 0_u64;
        for ((first, weight, sum), end) in parts.into_iter().zip(ends) {
            let factor = weight.checked_mul(all / sum).ok_or(Unresolved::Shares)?;
            for leaf in &mut self.leaves[first..end] {
                leaf.share = leaf.share.checked_mul(factor).ok_or(Unresolved::Shares)?;
                total = total.checked_add(leaf.share).ok_or(Unresolved::Shares)?;
            }
        }
        Ok(total)
    }

    fn finish(self, hops: &mut Vec<Hop>) -> Result<Resolution, Unresolved> {
        match (self.leaves.is_empty(), self.drops) {
            (true, 0) => return Err(Unresolved::Dead),
            (true, _) => return Ok(Resolution::Drops),
            (false, 1..) => return Err(Unresolved::Mixed),
            (false, 0) => {}
        }
        let common = self.leaves.iter().fold(0, |common, leaf| common_divisor(common, leaf.share));
        let fits = self.leaves.iter().all(|leaf| u32::try_from(leaf.share).is_ok());
        for Leaf { hop, share } in self.leaves {
            let share = if fits { share } else { share / common.max(1) };
            let weight = u32::try_from(share).map_err(|_| Unresolved::Shares)?;
            hops.push(Hop { weight, ..hop.clone() });
        }
        Ok(Resolution::Branches)
    }
}

fn common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right > 0 {
        (left, right) = (right, left % right);
    }
    left
}

fn least_common_multiple(left: u64, right: u64) -> Option<u64> {
    (left / common_divisor(left, right).max(1)).checked_mul(right)
}
