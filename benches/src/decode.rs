//! Decode: what one core makes of frames, beside the least that they cost, inflating them.
//!
//! In:   the corpus; tables of 3,000 routers with 2,000 entries each, visited in turn.
//! Out:  `decode/change/N` and `decode/snapshot/N`: bare inflate ÷ (inflate + parse + table +
//!       append), and the share of each stage, in time and in instructions.
//! Law:  both halves of a ratio are measured in turn on the same bytes; each frame is used once.
//! Not:  sockets, surge, books (`shard`, `end_to_end`).

mod count;
pub(crate) mod resident;

use crate::bench::{BenchError, Run};
use crate::host;
use crate::process;
use crate::report::{median, spread};
pub(crate) use count::{ROLE, play};
use resident::{Resident, Size};

/// Mappings of a frame, each a figure of its own.
pub(crate) const PER_FRAME: [usize; 4] = [1, 10, 100, 1_000];
/// Rounds of each figure; the median counts.
pub(crate) const ROUNDS: usize = 5;
/// Rounds in which the stages are measured apart.
const SPLIT_ROUNDS: usize = 2;
/// Routers, and entries of each.
const ROUTERS: usize = 3_000;
const ENTRIES: usize = 2_000;
/// Kinds of routers: each table is shared in kind, not in memory, by ten routers.
const FACES: usize = 300;
/// Frames of a round: some tenths of a second, whatever their size.
pub(crate) const FRAMES: [usize; 4] = [30_000, 15_000, 3_000, 600];
/// Seed of the corpus.
pub(crate) const SEED: u64 = 1;

/// What the mappings of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Parts of a snapshot that confirm what the table says.
    Snapshot,
    /// Changes.
    Change,
}

impl Kind {
    /// As figures are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Snapshot => "snapshot",
            Kind::Change => "change",
        }
    }
}

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    process::on_cpu(0, || measure_all(run))
}

/// How many tables of how many entries are resident, at the scale of this run.
pub(crate) fn size(run: &Run) -> Size {
    Size {
        routers: run.scaled(ROUTERS, 20),
        entries: run.scaled(ENTRIES, 1_000),
        faces: run.scaled(FACES, 10),
    }
}

fn measure_all(run: &mut Run) -> Result<(), BenchError> {
    let size = size(run);
    let mut resident = Resident::new(SEED, size);
    let (routers, entries) = (size.routers, size.entries);
    run.note(format!("{routers} routers x {entries} entries, visited in turn; one core"))?;
    // The tables are as the snapshots say until the first change: snapshots come first.
    for kind in [Kind::Snapshot, Kind::Change] {
        for (per_frame, frames) in PER_FRAME.into_iter().zip(FRAMES) {
            let name = format!("decode/{}/{per_frame}", kind.name());
            if run.wants(&name) {
                let frames = run.scaled(frames, 4);
                measure(run, &mut resident, kind, per_frame, frames, &name)?;
                count::instructions(run, kind, per_frame)?;
            }
        }
    }
    Ok(())
}

/// Nanoseconds per mapping of each stage, as far as it was measured.
#[derive(Default)]
struct Times {
    ratios: Vec<f64>,
    inflate_ns: Vec<f64>,
    decode_ns: Vec<f64>,
    apply_ns: Vec<f64>,
    whole_ns: Vec<f64>,
}

fn measure(
    run: &mut Run,
    resident: &mut Resident,
    kind: Kind,
    per_frame: usize,
    frames: usize,
    name: &str,
) -> Result<(), BenchError> {
    let mut times = Times::default();
    let (mut mappings, mut changes, mut bytes, mut inflated) = (0, 0, 0, 0);
    let rows_before = resident.rows();
    for round in 0..ROUNDS {
        let batch = resident.batch(kind, frames, per_frame);
        let count = batch.mappings;
        let mut whole = 0.0;
        let mut inflate = 0.0;
        // Which goes first changes from round to round: neither has the warmer bytes.
        for half in 0..2 {
            if (half + round) % 2 == 0 {
                inflate = timed(count, || resident.inflate(&batch));
            } else {
                whole = timed(count, || changes += resident.whole(&batch).changes);
            }
        }
        times.ratios.push(inflate / whole);
        times.inflate_ns.push(inflate);
        times.whole_ns.push(whole);
        if round < SPLIT_ROUNDS {
            let batch = resident.batch(kind, frames, per_frame);
            times.decode_ns.push(timed(count, || resident.decode(&batch)));
            times.apply_ns.push(timed(count, || _ = resident.apply(&batch)));
        }
        mappings += batch.mappings;
        bytes += batch.bytes.len() as u64;
        inflated += batch.inflated_bytes;
    }
    let rows = resident.rows() - rows_before;
    if rows != changes || (kind == Kind::Change && changes != mappings) {
        run.fault(format!("{mappings} mappings, {changes} changes, {rows} rows in blocks"))?;
    }
    let per_mapping = |value: u64| value as f64 / mappings as f64;
    run.note(format!(
        "{:.1} bytes per mapping, {:.0} inflated; {:.2} % are change rows",
        per_mapping(bytes),
        per_mapping(inflated),
        per_mapping(changes) * 100.0
    ))?;
    run.note(stages("ns", &times.stages()))?;
    run.note(format!("ratio of the rounds: {}", spread(&times.ratios)))?;
    let (inflate, whole) = (median(&times.inflate_ns), median(&times.whole_ns));
    // The median of the ratios, said with a denominator that was measured.
    let unit = "ns per mapping: bare inflate / inflate + parse + table + append";
    run.note(format!("medians: {inflate:.1} / {whole:.1} ns"))?;
    run.figure(name, median(&times.ratios) * whole, whole, unit)
}

impl Times {
    /// Inflate, parse, table, append.
    fn stages(&self) -> [f64; 4] {
        let cumulative = [&self.inflate_ns, &self.decode_ns, &self.apply_ns, &self.whole_ns];
        let [inflate, decode, apply, whole] = cumulative.map(|values| median(values));
        [inflate, decode - inflate, apply - decode, whole - apply]
    }
}

/// Per mapping, what each stage takes and its share of the whole.
fn stages(unit: &str, stages: &[f64; 4]) -> String {
    let whole: f64 = stages.iter().sum();
    let words = ["inflate", "parse", "table", "append"].iter().zip(stages);
    let words =
        words.map(|(word, value)| format!("{word} {value:.0} ({:.0} %)", value / whole * 100.0));
    format!("{unit} per mapping: {}; sum {whole:.0}", words.collect::<Vec<_>>().join(", "))
}

/// Nanoseconds of processor time per mapping of what is called.
pub(crate) fn timed(mappings: u64, work: impl FnOnce()) -> f64 {
    let began = host::thread_time();
    work();
    (host::thread_time() - began).as_nanos() as f64 / mappings as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_changes_and_snapshots_are_none() {
        let mut resident = Resident::new(3, Size { routers: 6, entries: 200, faces: 2 });
        let snapshot = resident.batch(Kind::Snapshot, 30, 20);
        assert_eq!(resident.whole(&snapshot).changes, 0);
        for per_frame in [1, 50] {
            let batch = resident.batch(Kind::Change, 6, per_frame);
            resident.inflate(&batch);
            resident.decode(&batch);
            let said = resident.whole(&batch);
            assert_eq!((said.changes, batch.mappings), (batch.mappings, 6 * per_frame as u64));
            // The same bytes again say nothing new.
            assert_eq!(resident.apply(&batch).changes, 0);
        }
        assert!(resident.rows() > 0);
    }
}
