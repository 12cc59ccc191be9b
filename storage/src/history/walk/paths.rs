//! The paths of a walk, one by one: router by router, with the labels that each sends on.
//!
//! In:   a `Walk`.
//! Out:  its paths, as far as the caller wants them.
//! Law:  a path is cut nowhere: it is whole or not given.
//! Not:  what the steps mean (`walk`).

use super::{Onward, Verdict, Walk};
use crate::mapping::{LabelStack, RouterId};

/// One router on a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The router.
    pub router: RouterId,
    /// Labels that the packet leaves it with, outermost first; empty at the end.
    pub stack: LabelStack,
}

/// One way through a walk, from the head to a verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Router by router; several lookups within one router are one hop.
    pub hops: Vec<Hop>,
    /// How it ends.
    pub verdict: Verdict,
}

/// Paths that are listed of one walk: parallel lines multiply from router to router, and nobody
/// reads more. Whoever judges a list has to count the same way, one path for every branch taken.
pub const PATHS_MAX: usize = 1_024;
/// Hops of all paths that are listed: a thousand paths of 128 routers each. Tables that push and
/// swap for ever make paths as long as a walk.
const HOPS_MAX: usize = 131_072;

impl Walk {
    /// Every path, in the order of the branches; the first `paths_max` of them if there are more,
    /// and fewer if they have more than `HOPS_MAX` hops together. The flag says whether these are
    /// all.
    pub fn paths(&self, paths_max: usize) -> (Vec<Path>, bool) {
        let mut paths = Vec::new();
        let mut hops_left = HOPS_MAX;
        // (step, branch to take next, hops before this step)
        let mut open: Vec<(usize, usize, usize)> = vec![(0, 0, 0)];
        let mut hops: Vec<Hop> = Vec::new();
        while let Some((index, branch_index, hops_before)) = open.pop() {
            hops.truncate(hops_before);
            let Some(step) = self.steps.get(index) else {
                continue;
            };
            let full = paths.len() >= paths_max || hops.len() >= hops_left;
            if let Some(verdict) = step.end {
                if full {
                    return (paths, false);
                }
                hops_left = hops_left.saturating_sub(hops.len() + 1);
                paths.push(finish(&hops, step.router, verdict));
                continue;
            }
            let Some(branch) = step.branches.get(branch_index) else {
                continue;
            };
            if full {
                return (paths, false);
            }
            open.push((index, branch_index + 1, hops_before));
            match branch.onward {
                Onward::Backup => {}
                Onward::End(verdict) => {
                    let mut all = hops.clone();
                    if !branch.stack.is_empty() {
                        all.push(Hop { router: step.router, stack: branch.stack.clone() });
                    }
                    hops_left = hops_left.saturating_sub(all.len() + 1);
                    paths.push(finish(&all, step.router, verdict));
                }
                Onward::Step(next) => {
                    if branch.router != Some(step.router) {
                        hops.push(Hop { router: step.router, stack: branch.stack.clone() });
                    }
                    open.push((next, 0, hops.len()));
                }
            }
        }
        (paths, true)
    }
}

/// The path that ends at this router; its hop is there once.
fn finish(hops: &[Hop], last: RouterId, verdict: Verdict) -> Path {
    let mut hops = hops.to_vec();
    if hops.last().is_none_or(|hop| hop.router != last) {
        hops.push(Hop { router: last, stack: LabelStack::new() });
    }
    Path { hops, verdict }
}
