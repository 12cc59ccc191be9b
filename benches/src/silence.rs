//! Silence: whether routers that have nothing to say any more are still there afterwards.
//!
//! In:   50,000 routers that tell a table each within ten seconds, and then nothing.
//! Out:  sessions that ended, though every router was there and answered.
//! Law:  the times of the defaults; how coarse timers are, the kernel that runs here decides.
//! Not:  what silence costs (`trickle`, `watch`).

use std::time::Duration;

use engine::metrics::Metric;
use tuning::layers::Layers;
use tuning::tree::Tree;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::verify_folder;
use crate::storm::speakers::Crowd;
use crate::storm::{PHASE, Storm, namespace_or_skip, told};

pub(crate) const BENCH: Bench = Bench {
    name: "silence",
    about: "50,000 sessions that fall silent together: how many the keepalives end",
    run: measure,
};

const LOST: &str = "silence/lost";
const ROUTERS: usize = 50_000;
/// Of the senders: each may open 20,000 descriptors.
const PROCESSES: usize = 3;
const FACES: usize = 200;
const ENTRIES: usize = 4;
/// More than one ring holds.
const SETTINGS: [&str; 1] = ["shards=3"];
const START: Duration = Duration::from_secs(10);
/// Until every session has been probed twice, and whoever is given up has been.
const SILENCE: Duration = Duration::from_secs(180);

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let Some(namespace) = namespace_or_skip(run, &[LOST], &[])? else { return Ok(()) };
    let routers = run.scaled(ROUTERS, 40);
    let crowd = Crowd {
        routers,
        faces: run.scaled(FACES, 4),
        entries: ENTRIES,
        mappings: 1,
        rounds: 0,
        compressed: false,
        acks: false,
        give_up: PHASE,
    };
    let data = run.folder()?;
    let mut storm = Storm::start(Some(namespace), data.path(), &SETTINGS, &crowd, PROCESSES)?;
    let (tables, ended) = storm.tell_tables(START)?;
    run.note(told(&tables))?;
    if ended.is_none() {
        run.fault("not every table was told in time")?;
    }
    let before = dropped();
    std::thread::sleep(run.brief(SILENCE));
    let counts = storm.collector.counts()?;
    run.note(format!(
        "{} sessions live after the silence; {} packets dropped meanwhile at processors' backlogs, \
         of all networks of this host",
        counts.get(Metric::SessionsBegun) - counts.get(Metric::SessionsEnded),
        dropped() - before,
    ))?;
    let lost = counts.get(Metric::SessionsBroken);
    let unit = "sessions that were given up / sessions whose routers are there";
    run.figure(LOST, lost as f64, routers as f64, unit)?;
    storm.collector.stop()?;
    verify_folder(run, data.path(), tables.mappings).map(drop)
}

/// Packets that processors have dropped since boot because too many came at once.
fn dropped() -> u64 {
    let layers = Layers::read(&Tree::host());
    layers.processors.iter().map(|processor| processor.dropped).sum()
}
