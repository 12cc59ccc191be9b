//! Table: what an entry costs in memory, at the size of the largest known site.
//!
//! In:   34,000 routers x 2,000 entries, 1.3 branches each, told in random order.
//! Out:  `table`: growth of the process ÷ entries; beside it what the table says of itself.
//! Law:  the kernel's count of resident memory is what counts, not an estimate.
//! Not:  time (`decode`).

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use storage::row::{Basis, Position};
use storage::table::{Arrival, RouterTable};
use storage::time::Micros;

use crate::bench::{BenchError, Run};
use crate::corpus::{self, Face};
use crate::host;
use crate::process::{self, Process};

const ROUTERS: usize = 34_000;
const ENTRIES: usize = 2_000;
/// Different routers: what others say in the same words, they say in their own memory.
const FACES: usize = 50;
const SEED: u64 = 4;
const START: Micros = Micros(1_795_323_900_000_000);

/// Name of the role: a process whose memory nobody has used before.
pub(crate) const ROLE: &str = "table";

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    let routers = run.scaled(ROUTERS, 50);
    let mut process = Process::start(ROLE, &[format!("routers={routers}")], &[])?;
    let line = process.answer()?;
    let numbers: Vec<f64> = line.split(' ').flat_map(str::parse).collect();
    let [entries, branches, says, grown, ns] = numbers[..] else {
        return Err(BenchError::Process { role: ROLE, told: line });
    };
    run.note(format!(
        "{entries} entries of {routers} routers, {branches:.2} branches each; the tables say \
         {:.1} bytes per entry; {ns:.0} ns to add one",
        says / entries
    ))?;
    let told = routers * ENTRIES;
    if entries as usize != told {
        run.fault(format!("{told} entries were told, {entries} are there"))?;
    }
    run.figure("table", grown, entries, "resident bytes / entries")
}

/// Fills the tables, and answers with their numbers.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    let routers = process::number(ROLE, arguments, "routers")?;
    let faces: Vec<Face> =
        (0..FACES).map(|number| Face::new(SEED, number, ENTRIES, START)).collect();
    let branches = |face: &Face| face.table().iter().map(|it| it.branches.len()).sum::<usize>();
    let branches = faces.iter().map(branches).sum::<usize>() as f64 / (FACES * ENTRIES) as f64;
    let mut chance = ChaCha8Rng::seed_from_u64(SEED);
    let mut order: Vec<usize> = (0..ENTRIES).collect();
    let mut tables = Vec::with_capacity(routers);
    let resident_before = host::resident_bytes();
    let began = host::thread_time();
    for number in 0..routers {
        order.shuffle(&mut chance);
        let mut table = RouterTable::new(corpus::router(number));
        let position = Position { generation: 1, sequence: 1, index: 0 };
        let mut arrival = Arrival { position, collection_time: START, basis: Basis::Snapshot };
        for place in &order {
            // Every entry is new: what it says is known.
            let _ = table.apply(&faces[number % FACES].table()[*place], &arrival);
            arrival.position.index += 1;
        }
        tables.push(table);
    }
    let took = host::thread_time() - began;
    let grown = host::resident_bytes().saturating_sub(resident_before);
    let entries: usize = tables.iter().map(RouterTable::len).sum();
    let says: usize = tables.iter().map(RouterTable::bytes).sum();
    let ns = took.as_nanos() as f64 / entries as f64;
    Ok(process::answer(&format!("{entries} {branches} {says} {grown} {ns}"))?)
}
