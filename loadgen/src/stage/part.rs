//! One process's part of a performance: which routers, and the moments at which all wait for all.
//!
//! In:   a share of the routers; whoever says when things begin.
//! Out:  `Part`, `Cue`.
//! Law:  every process has the same world, and stages the same act at the same time.
//! Not:  how processes are started and spoken to (`crew/troupe`).

use std::ops::Range;

use serde::{Deserialize, Serialize};
use storage::time::Micros;

use super::{Act, StageError};

/// The routers of one process, by their index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share(pub Range<usize>);

impl Share {
    /// Deals `routers` out to so many processes, evenly.
    pub fn deal(routers: usize, processes: usize) -> Vec<Share> {
        let each = routers.div_ceil(processes.max(1)).max(1);
        (0..routers).step_by(each).map(|first| Share(first..routers.min(first + each))).collect()
    }
}

/// A moment at which every process waits for the others; the answer is the time that holds for all.
pub enum Cue<'a> {
    /// Everything is encoded: the first router could connect at this time.
    Begin(Micros),
    /// The next act could be staged at this time.
    Stage(Micros),
    /// An act is over, for the routers of this process.
    Ended(&'a Act),
}

impl Cue<'_> {
    /// The time that a process proposes.
    pub fn proposed(&self) -> Micros {
        match self {
            Cue::Begin(at) | Cue::Stage(at) => *at,
            Cue::Ended(act) => act.ended,
        }
    }
}

/// What one process performs.
pub struct Part<'a> {
    /// Its routers; `None` = all.
    pub share: Option<Share>,
    /// When the first tables begin to hold; `None` = now.
    pub start: Option<Micros>,
    /// Waits for the others.
    pub wait: &'a mut dyn FnMut(Cue<'_>) -> Result<Micros, StageError>,
}

impl Part<'_> {
    /// The routers, of so many.
    pub(super) fn routers(&self, all: usize) -> Range<usize> {
        self.share.as_ref().map_or(0..all, |share| share.0.clone())
    }
}

/// Nobody else performs: what is proposed holds.
pub(super) fn alone(cue: Cue<'_>) -> Result<Micros, StageError> {
    Ok(cue.proposed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_router_is_in_one_share() {
        for (routers, processes) in [(10, 1), (10, 3), (3, 5), (20_000, 2), (50_000, 3)] {
            let shares = Share::deal(routers, processes);
            assert!(shares.len() <= processes);
            let all: Vec<usize> = shares.into_iter().flat_map(|share| share.0).collect();
            assert_eq!(all, (0..routers).collect::<Vec<usize>>());
        }
    }
}
