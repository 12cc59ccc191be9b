//! Connections: whether many thousand of them cost more than a hundred.
//!
//! In:   one shard on one core, senders on the other; every connection sends in every round.
//! Out:  `connections`: the rate at 17,000 connections ÷ the rate at 100.
//! Law:  as many mappings and as many table entries on both sides: only the connections differ.
//! Not:  who reads faster than whom (`end_to_end`).

use crate::bench::{BenchError, Run};
use crate::end_to_end::storm;
use crate::flood::Flood;
use crate::host;

/// Connections on both sides: as many as fit below 20,000 descriptors, and few.
const MANY: usize = 17_000;
const FEW: usize = 100;
/// Descriptors of a process that are no connections.
const SPARE_DESCRIPTORS: usize = 100;
/// Entries of all tables together.
const ENTRIES_TOTAL: usize = 3_400_000;
/// Frames of all connections together, and mappings of each.
const FRAMES_TOTAL: usize = 102_000;
const PER_FRAME: usize = 100;
/// Different routers among many; few are all different.
const FACES: usize = 200;

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    let (cpus, descriptors) = (host::cpus(), engine::io::sockets::raise_descriptor_limit()?);
    if cpus < 2 || descriptors < (MANY + SPARE_DESCRIPTORS) as u64 {
        let why = format!("needs 2 CPUs and {MANY} descriptors, found {cpus} and {descriptors}");
        return run.skipped("connections", why);
    }
    let mut rates = Vec::new();
    for connections in [run.scaled(MANY, 60), run.scaled(FEW, 20)] {
        let flood = Flood {
            connections,
            faces: FACES.min(connections / 10).max(10),
            entries: (run.scaled(ENTRIES_TOTAL, 12_000) / connections).max(PER_FRAME),
            per_frame: PER_FRAME,
            frames: (run.scaled(FRAMES_TOTAL, 360) / connections).max(1),
            in_rounds: true,
            rate: 0,
            acks: false,
            cpu: Some(1),
        };
        let settings = ["shards=1".to_owned(), "cpu=0".to_owned()];
        rates.push(storm(run, &flood, &settings)?.rate());
    }
    let unit = "durable mappings/s at 17,000 connections / at 100, one shard";
    run.figure("connections", rates[0], rates[1], unit)
}
