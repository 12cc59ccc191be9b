//! What is offered to a peer: mappings of the corpus, in the order in which routers say them.
//!
//! In:   how many routers, entries and changes; how many mappings a router says at a time.
//! Out:  batches of mappings, the first tables and then the changes.
//! Law:  the same offer gives the same batches, however often and in whichever process.
//! Not:  their text (`text`), their way over sockets (`feeder`).

use storage::mapping::{Mapping, RouterId};
use storage::time::Micros;

use crate::bench::BenchError;
use crate::corpus::{self, Face};
use crate::process::number;

/// Seed of the corpus.
const SEED: u64 = 2;
/// Different tables: the other routers say the same under their own names.
const FACES: usize = 50;

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Routers that speak.
    pub(crate) routers: usize,
    /// Entries of each router's table.
    pub(crate) entries: usize,
    /// Mappings that a router says at a time, before another has its turn.
    pub(crate) batch: usize,
    /// How often every router has its turn.
    pub(crate) rounds: usize,
    /// When the first mapping happened.
    pub(crate) start: Micros,
}

impl Offer {
    /// About as many changes as `changes`, in batches of `batch`, each router once at least.
    pub(crate) fn new(routers: usize, entries: usize, batch: usize, changes: usize) -> Offer {
        let rounds = changes.div_ceil(routers * batch).max(1);
        // Some time ago: nothing of it lies in the future of whoever receives it.
        let start = loadgen::clock::Clock::start().now().offset(-60_000_000);
        Offer { routers, entries, batch, rounds, start }
    }

    /// Mappings of all first tables.
    pub(crate) fn table_mappings(&self) -> u64 {
        (self.routers * self.entries) as u64
    }

    /// Changes of all routers.
    pub(crate) fn change_mappings(&self) -> u64 {
        (self.routers * self.batch * self.rounds) as u64
    }

    /// Arguments of a role, for `parsed`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let numbers = [
            ("routers", self.routers as i64),
            ("entries", self.entries as i64),
            ("batch", self.batch as i64),
            ("rounds", self.rounds as i64),
            ("start", self.start.0),
        ];
        numbers.map(|(name, value)| format!("{name}={value}")).to_vec()
    }

    /// The offer among a role's arguments.
    pub(crate) fn parsed(role: &str, arguments: &[String]) -> Result<Offer, BenchError> {
        let number = |name| number(role, arguments, name);
        Ok(Offer {
            routers: number("routers")?,
            entries: number("entries")?,
            batch: number("batch")?,
            rounds: number("rounds")?,
            start: Micros(number("start")? as i64),
        })
    }

    /// Every router's first table, in batches; the place of the router and its name with each.
    pub(crate) fn tables(&self, mut each: impl FnMut(usize, RouterId, &[Mapping])) {
        for (number, face) in self.faces().iter().enumerate() {
            for place in self.places(number) {
                let router = corpus::router(place);
                face.table().chunks(self.batch).for_each(|batch| each(place, router, batch));
            }
        }
    }

    /// Every change, in batches.
    pub(crate) fn changes(&self, mut each: impl FnMut(usize, RouterId, &[Mapping])) {
        let (mut faces, mut said) = (self.faces(), Vec::new());
        for _ in 0..self.rounds {
            for (number, face) in faces.iter_mut().enumerate() {
                face.change(self.batch, &mut said);
                for place in self.places(number) {
                    each(place, corpus::router(place), &said);
                }
            }
        }
    }

    fn faces(&self) -> Vec<Face> {
        let count = FACES.min(self.routers);
        (0..count).map(|number| Face::new(SEED, number, self.entries, self.start)).collect()
    }

    /// Routers that have this face.
    fn places(&self, face: usize) -> impl Iterator<Item = usize> + use<> {
        (face..self.routers).step_by(FACES.min(self.routers))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_router_offers_as_much_as_every_other() {
        let offer = Offer { start: Micros(0), ..Offer::new(70, 20, 30, 5_000) };
        assert_eq!(
            (offer.rounds, offer.change_mappings(), offer.table_mappings()),
            (3, 6_300, 1_400)
        );
        assert_eq!(Offer::parsed("test", &offer.arguments()).unwrap(), offer);
        for (expected, is_table) in [(20, true), (90, false)] {
            let mut counts = BTreeMap::new();
            let each = |place: usize, router, batch: &[Mapping]| {
                assert_eq!(router, corpus::router(place));
                assert!(batch.len() <= 30);
                *counts.entry(place).or_insert(0) += batch.len();
            };
            if is_table {
                offer.tables(each)
            } else {
                offer.changes(each)
            }
            assert_eq!(counts.len(), 70);
            assert!(counts.values().all(|count| *count == expected), "{counts:?}");
        }
    }
}
