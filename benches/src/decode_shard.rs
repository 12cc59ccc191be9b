//! Decode through the whole shard: surge, sessions, books and commits included, kernel left out.
//!
//! In:   the corpus; tables of 3,000 routers with 2,000 entries each, visited in turn.
//! Out:  `decode-shard/change/N`: bare inflate ÷ everything that a shard does with the bytes.
//! Law:  both halves of a ratio are measured in turn on the same bytes; each frame is used once.
//! Not:  stages (`decode`), sockets and disks (`end_to_end`).

use std::collections::BTreeMap;

use engine::io::Now;
use engine::metrics::Metric;
use engine::settings::Settings;

use crate::bench::{BenchError, Run};
use crate::corpus;
use crate::decode::resident::{Batch, Resident, START};
use crate::decode::{FRAMES, Kind, PER_FRAME, ROUNDS, SEED, size, timed};
use crate::host;
use crate::idle_driver::IdleDriver;
use crate::process;
use crate::report::{median, spread};

/// Frames that are drained before the shard digests: what a turn of a busy loop brings.
const FRAMES_OF_A_TURN: usize = 16;

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    process::on_cpu(0, || measure_all(run))
}

fn measure_all(run: &mut Run) -> Result<(), BenchError> {
    let size = size(run);
    let mut resident = Resident::new(SEED, size);
    let states = resident.take_states();
    let parked: BTreeMap<_, _> =
        states.into_iter().map(|state| (state.router, Box::new(state))).collect();
    let now = Now { wall: START, monotonic_us: 0 };
    let mut driver = IdleDriver::new(&Settings::default(), parked, None, now);
    for number in 0..size.routers {
        let router = corpus::router(number);
        driver.accept(number, router)?;
        driver.receive(number, &corpus::hello(router, START, false, false));
        driver.turn()?;
    }
    for (per_frame, frames) in PER_FRAME.into_iter().zip(FRAMES) {
        let name = format!("decode-shard/change/{per_frame}");
        if run.wants(&name) {
            let frames = run.scaled(frames, 4);
            measure(run, &mut resident, &mut driver, per_frame, frames, &name)?;
        }
    }
    Ok(())
}

fn measure(
    run: &mut Run,
    resident: &mut Resident,
    driver: &mut IdleDriver,
    per_frame: usize,
    frames: usize,
    name: &str,
) -> Result<(), BenchError> {
    let (mut ratios, mut inflates, mut wholes) = (Vec::new(), Vec::new(), Vec::new());
    let changes_before = driver.count(Metric::Changes);
    let mut offered = 0;
    for round in 0..ROUNDS {
        let batch = resident.batch(Kind::Change, frames, per_frame);
        let count = batch.mappings;
        let (mut inflate, mut whole) = (0.0, 0.0);
        let mut fed = Ok(());
        for half in 0..2 {
            if (half + round) % 2 == 0 {
                inflate = timed(count, || resident.inflate(&batch));
            } else {
                whole = timed(count, || fed = feed(driver, &batch));
            }
        }
        fed?;
        ratios.push(inflate / whole);
        inflates.push(inflate);
        wholes.push(whole);
        offered += batch.mappings;
    }
    driver.settle()?;
    let changes = driver.count(Metric::Changes) - changes_before;
    if driver.count(Metric::MappingsFramed) == 0 || changes > offered {
        run.fault(format!("{offered} mappings were offered, {changes} are change rows"))?;
    }
    let share = changes as f64 / offered as f64 * 100.0;
    run.note(format!("{share:.2} % are change rows; rounds: {}", spread(&ratios)))?;
    let (inflate, whole) = (median(&inflates), median(&wholes));
    run.note(format!("medians: {inflate:.1} / {whole:.1} ns"))?;
    let unit = "ns per mapping: bare inflate / all of the shard";
    run.figure(name, median(&ratios) * whole, whole, unit)
}

/// Gives the frames to the shard, some at a time, at the times at which it takes them.
fn feed(driver: &mut IdleDriver, batch: &Batch) -> Result<(), BenchError> {
    let began = host::thread_time();
    let start = driver.now.monotonic_us;
    for frames in batch.frames().chunks(FRAMES_OF_A_TURN) {
        let passed_us = (host::thread_time() - began).as_micros() as u64;
        driver.pass((start + passed_us).saturating_sub(driver.now.monotonic_us));
        for (router, bytes) in frames.iter().map(|frame| batch.frame(frame)) {
            driver.receive(router, bytes);
        }
        driver.turn()?;
    }
    Ok(())
}
