//! Log size: what a change costs on disk, in a storm and when almost nothing happens.
//!
//! In:   the whole shard, turned on a clock of the bench's own: the same bytes on every host.
//! Out:  `log-size/burst`, `log-size/trickle`: bytes of all blocks ÷ change rows.
//! Law:  everything that the hot log holds is counted: headers, dictionaries, ledger rows.
//! Not:  sealed hours; how fast it is written (`commit`).

use std::collections::BTreeMap;
use std::path::Path;

use engine::io::Now;
use engine::metrics::Metric;
use engine::settings::Settings;
use storage::time::Micros;

use crate::bench::{BenchError, Run};
use crate::collector::verify_folder;
use crate::corpus::{self, Face, Writer};
use crate::idle_driver::IdleDriver;

/// The storm: routers, frames of each, mappings of a frame, and over how long they are spread.
const ROUTERS: usize = 2_000;
const FRAMES: usize = 4;
const PER_FRAME: usize = 50;
const SPREAD_US: u64 = 200_000;
/// The trickle: changes, and the time from one to the next.
const TRICKLE_CHANGES: usize = 2_000;
const TRICKLE_GAP_US: u64 = 100_000;
/// Entries of each router's table; every router is different.
const ENTRIES: usize = 250;
const SEED: u64 = 3;
/// Five minutes into an hour: nothing rotates.
const START: Micros = Micros(1_795_323_900_000_000);

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    let routers = run.scaled(ROUTERS, 40);
    if run.wants("log-size/burst") {
        let mut crowd = Crowd::begin(run, routers, Writer::new())?;
        let gap_us = SPREAD_US as f64 / (routers * FRAMES) as f64;
        for frame in 0..routers * FRAMES {
            crowd.speak(frame % routers, PER_FRAME, (frame as f64 * gap_us) as u64)?;
        }
        crowd.end(run, "log-size/burst")?;
    }
    if run.wants("log-size/trickle") {
        // A frame of one mapping is sent as it is.
        let mut crowd = Crowd::begin(run, routers, Writer::plain())?;
        for change in 0..run.scaled(TRICKLE_CHANGES, 50) {
            // A stride that shares no factor with the number of routers: any of them, in no order.
            let router = change * 617 % routers;
            crowd.speak(router, 1, change as u64 * TRICKLE_GAP_US)?;
        }
        crowd.end(run, "log-size/trickle")?;
    }
    Ok(())
}

/// Routers that have told their tables to one shard.
struct Crowd {
    folder: tempfile::TempDir,
    driver: IdleDriver,
    faces: Vec<Face>,
    sequences: Vec<u64>,
    writer: Writer,
    bytes: Vec<u8>,
    offered: u64,
    begun_us: u64,
    log_bytes: u64,
    changes: u64,
}

impl Crowd {
    fn begin(run: &Run, routers: usize, writer: Writer) -> Result<Crowd, BenchError> {
        let folder = run.folder()?;
        let data = folder.path().to_owned();
        let now = Now { wall: START, monotonic_us: 0 };
        let settings = Settings::default();
        let mut driver = IdleDriver::new(&settings, BTreeMap::new(), Some(data), now);
        let faces: Vec<Face> =
            (0..routers).map(|number| Face::new(SEED, number, ENTRIES, START)).collect();
        let mut offered = 0;
        let mut bytes = Vec::new();
        let mut tables = Writer::new();
        for (number, face) in faces.iter().enumerate() {
            let router = corpus::router(number);
            driver.accept(number, router)?;
            bytes.clear();
            bytes.extend(corpus::hello(router, START, false, false));
            let frame = tables.part(face.table());
            corpus::put_frame(&frame, 1, &mut bytes);
            driver.receive(number, &bytes);
            driver.turn()?;
            driver.pass(100);
            offered += frame.mappings;
        }
        driver.settle()?;
        let (log_bytes, changes) = (driver.log_bytes(), driver.count(Metric::Changes));
        let begun_us = driver.now.monotonic_us;
        let sequences = vec![2; routers];
        Ok(Crowd {
            folder,
            driver,
            faces,
            sequences,
            writer,
            bytes,
            offered,
            begun_us,
            log_bytes,
            changes,
        })
    }

    /// The next changes of a router, so long after the crowd had begun.
    fn speak(&mut self, router: usize, mappings: usize, at_us: u64) -> Result<(), BenchError> {
        let due_us = self.begun_us + at_us;
        while self.driver.now.monotonic_us < due_us {
            // To whatever the shard waits for, or to the frame.
            let wanted_us = self.driver.due_us().unwrap_or(due_us).min(due_us);
            let step_us = wanted_us.saturating_sub(self.driver.now.monotonic_us).max(1);
            self.driver.pass(step_us);
            self.driver.turn()?;
        }
        let frame = self.writer.changes(&mut self.faces[router], mappings);
        self.bytes.clear();
        corpus::put_frame(&frame, self.sequences[router], &mut self.bytes);
        self.sequences[router] += 1;
        self.offered += frame.mappings;
        self.driver.receive(router, &self.bytes);
        Ok(self.driver.turn()?)
    }

    fn end(mut self, run: &mut Run, name: &str) -> Result<(), BenchError> {
        self.driver.settle()?;
        let changes = self.driver.count(Metric::Changes) - self.changes;
        let bytes = self.driver.log_bytes() - self.log_bytes;
        let routers = self.faces.len();
        run.note(format!("{changes} changes of {routers} routers, all of different tables"))?;
        let rows = verify_folder(run, Path::new(self.folder.path()), self.offered)?.change_rows;
        if rows != self.offered {
            run.fault(format!("{} mappings were offered, {rows} rows are there", self.offered))?;
        }
        let unit = "bytes of blocks / change rows";
        run.figure(name, bytes as f64, changes as f64, unit)
    }
}
