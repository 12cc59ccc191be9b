//! Counts instructions of each stage with callgrind: a number that a busy machine does not change.
//!
//! In:   `valgrind`, if it is installed; this program again, as the role `count`.
//! Out:  instructions per mapping of each stage, set-up and warm-up left out.
//! Law:  what is counted is the inclusive cost of the stage's own function, never inlined.
//! Not:  time: caches and branches cost nothing here.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::resident::{Batch, Resident, Size};
use super::{Kind, SEED, stages};
use crate::bench::{BenchError, Run};
use crate::process;

/// Name of the role.
pub(crate) const ROLE: &str = "count";
/// Mappings of a counted pass, about.
const MAPPINGS: usize = 4_000;
const SIZE: Size = Size { routers: 24, entries: 2_000, faces: 8 };

/// Does each stage once to warm up, then once to be counted, on other frames each time.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    let per_frame = process::number(ROLE, arguments, "per-frame")?;
    let kind = match process::argument(ROLE, arguments, "kind")? {
        "change" => Kind::Change,
        _ => Kind::Snapshot,
    };
    let frames = MAPPINGS.div_ceil(per_frame).max(2);
    let mut resident = Resident::new(SEED, SIZE);
    let batch = resident.batch(kind, frames, per_frame);
    resident.inflate(&batch);
    resident.decode(&batch);
    resident.whole(&batch);
    let batch = resident.batch(kind, frames, per_frame);
    counted_inflate(&mut resident, &batch);
    counted_decode(&mut resident, &batch);
    counted_apply(&mut resident, &batch);
    let batch = resident.batch(kind, frames, per_frame);
    counted_whole(&mut resident, &batch);
    Ok(process::answer(&format!("mappings {}", batch.mappings))?)
}

#[inline(never)]
fn counted_inflate(resident: &mut Resident, batch: &Batch) {
    resident.inflate(batch);
}

#[inline(never)]
fn counted_decode(resident: &mut Resident, batch: &Batch) {
    resident.decode(batch);
}

#[inline(never)]
fn counted_apply(resident: &mut Resident, batch: &Batch) {
    std::hint::black_box(resident.apply(batch));
}

#[inline(never)]
fn counted_whole(resident: &mut Resident, batch: &Batch) {
    std::hint::black_box(resident.whole(batch));
}

/// Says the instructions per mapping of each stage, or why they are not known.
pub(crate) fn instructions(run: &mut Run, kind: Kind, per_frame: usize) -> Result<(), BenchError> {
    if run.is_small() {
        return run.note("instructions are not counted in so small a run");
    }
    let folder = run.folder()?;
    let out = folder.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(std::env::current_exe()?).args(["role", ROLE]);
    command.args([format!("kind={}", kind.name()), format!("per-frame={per_frame}")]);
    command.stdin(Stdio::null());
    let Ok(output) = command.output() else {
        return run.note("instructions are not counted: valgrind is not installed");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mappings = text.trim().strip_prefix("mappings ").and_then(|word| word.parse::<u64>().ok());
    let passes = ["counted_inflate", "counted_decode", "counted_apply", "counted_whole"];
    let costs = passes.map(|pass| inclusive(&out, pass));
    let (Some(mappings), [Some(inflate), Some(decode), Some(apply), Some(whole)]) =
        (mappings, costs)
    else {
        let told = String::from_utf8_lossy(&output.stderr);
        let last = told.lines().last().unwrap_or_default().to_owned();
        return run.note(format!("instructions are not counted: valgrind ended with `{last}`"));
    };
    let per_mapping = [inflate, decode, apply, whole].map(|cost| cost as f64 / mappings as f64);
    let [inflate, decode, apply, whole] = per_mapping;
    run.note(stages("instructions", &[inflate, decode - inflate, apply - decode, whole - apply]))
}

/// Cost of the calls to the function whose name ends so, with all that it calls.
///
/// A call stands as `cfn=NAME`, `calls=COUNT PLACE`, then a line of its place and its cost.
fn inclusive(out: &Path, function: &str) -> Option<u64> {
    let text = fs::read_to_string(out).ok()?;
    let mut lines = text.lines();
    let mut sum = None;
    while let Some(line) = lines.next() {
        let called = line.strip_prefix("cfn=").is_some_and(|name| name.contains(function));
        if called {
            let cost = lines.find(|line| line.starts_with("calls=")).and_then(|_| lines.next())?;
            let cost: u64 = cost.split(' ').nth(1)?.parse().ok()?;
            sum = Some(sum.unwrap_or(0) + cost);
        }
    }
    sum
}
