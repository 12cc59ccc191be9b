//! Which (router, instant) pairs are asked about.
//!
//! In:   the answer key, a number, a seed.
//! Out:  pairs, drawn over the whole run: anywhere, at changes and right before, and inside gaps.
//! Law:  the same world, times and seed draw the same pairs.
//! Not:  asking (`verify`).

use std::collections::BTreeSet;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::time::Micros;

use crate::answer::AnswerKey;
use crate::sender::Outage;

/// A router, by its index, and an instant.
pub(super) type Pair = (usize, Micros);

/// Every instant of this router that can be told from the one before: its table changes there.
pub(super) fn instants(key: &AnswerKey<'_>, router_index: usize) -> BTreeSet<Micros> {
    let first = key.first(router_index).next();
    let filed = key.filed(router_index, Micros::MAX).into_iter().chain(first);
    filed.flat_map(|filed| [filed.span.earliest, filed.span.certain]).collect()
}

/// Draws pairs in the order of routers: a third anywhere in the run, a third at a change or right
/// before it, a third inside gaps, as far as there are any.
pub(super) fn pairs(key: &AnswerKey<'_>, count: usize, until: Micros, seed: u64) -> Vec<Pair> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    chance.set_stream(4);
    let (world, routers) = (key.world, key.network.topology.routers.len());
    let span_us = until.since(world.start).max(1);
    let outages: Vec<Outage> = world.outages(key.copy).to_vec();
    let speakers: Vec<usize> = (0..routers).filter(|router| world.plan.speaks(*router)).collect();
    let mut pairs = BTreeSet::new();
    // Draws that hit what is drawn already are not counted; a small world has no more.
    for turn in 0..count * 4 {
        if pairs.len() >= count {
            break;
        }
        let anywhere = world.start.offset(chance.random_range(0..=span_us));
        let pair = match (turn % 3, outages.choose(&mut chance), speakers.choose(&mut chance)) {
            (1, _, Some(router)) => {
                let at: Vec<Micros> = instants(key, *router).into_iter().collect();
                let at = at.choose(&mut chance).copied().unwrap_or(anywhere);
                (*router, at.offset(-i64::from(chance.random::<bool>())))
            }
            (2, Some(outage), _) => {
                let from = outage.proved.max(world.start);
                let long_us = outage.whole.unwrap_or(until).since(from).max(1);
                (outage.router_index, from.offset(chance.random_range(0..=long_us)))
            }
            _ => (chance.random_range(0..routers), anywhere),
        };
        pairs.insert((pair.0, pair.1.min(until)));
    }
    pairs.into_iter().collect()
}
