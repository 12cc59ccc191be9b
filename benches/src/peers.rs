//! Peers: the same mappings into what people would use instead, on the same two cores.
//!
//! In:   programs of others, installed by `scripts/peers.sh`; mappings of the corpus as text.
//! Out:  `peers/NAME/N`: durable mappings/s of the collector at N per frame ÷ theirs.
//! Law:  a mapping counts for a peer when it is found there; its best of three runs is taken.
//! Not:  what they can do that the collector cannot.

pub(crate) mod text;
pub(crate) mod offer;
pub(crate) mod feeder;
pub(crate) mod daemon;
mod rsyslog;
mod clickhouse;
mod xymon;
mod victoria;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::{Bench, BenchError, Run};
use crate::end_to_end;
use crate::host::Watch;
use daemon::{Daemon, SyncWatch};
use feeder::{Feeder, Way};
use offer::Offer;
use text::Form;

pub(crate) const BENCH: Bench = Bench {
    name: "peers",
    about: "the same mappings into rsyslog, ClickHouse, xymond and VictoriaMetrics",
    run: measure,
};

/// Runs of a peer; the best counts.
const RUNS: usize = 3;
/// The longest that a peer has until everything is found in it.
const PHASE: Duration = Duration::from_secs(60);
/// Between two looks at what it has.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Of the changes of a run so many go into the run that only counts syncs.
const SYNC_SHARE: usize = 20;

/// Somebody else's program, and how it is best used.
struct Peer {
    /// Behind `peers/` in the names of its figures.
    name: &'static str,
    /// Its program.
    program: &'static str,
    /// Mappings per frame of the collector; per message, where `way` is messages.
    batches: &'static [usize],
    form: Form,
    way: Way,
    connections: usize,
    routers: usize,
    entries: usize,
    /// Mappings of a timed run, about.
    changes: usize,
    /// Whether it is told every table before the changes, which are timed.
    has_tables: bool,
    /// What its figure means.
    keeps: &'static str,
    start: fn(&Path, &Path, &Offer) -> Result<Started, BenchError>,
}

/// A peer that runs.
struct Started {
    daemon: Daemon,
    /// Where it takes mappings.
    target: SocketAddr,
    running: Box<dyn Running>,
}

/// What a peer has.
trait Running {
    /// Makes it show what it has taken, where that does not happen by itself. Part of its time.
    fn settle(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    /// Mappings that are found there now, of all that were offered since it was started.
    fn stored(&mut self, target: SocketAddr) -> Result<u64, BenchError>;
}

const PEERS: &[Peer] = &[
    Peer {
        name: "rsyslog",
        program: "rsyslogd",
        batches: &[1, 10, 100, 1_000],
        form: Form::Syslog,
        way: Way::Stream,
        connections: 8,
        routers: 1_000,
        entries: 1_000,
        changes: 1_000_000,
        has_tables: false,
        keeps: "lines of a file",
        start: |program, folder, _| rsyslog::start(program, folder),
    },
    Peer {
        name: "clickhouse",
        program: "clickhouse-server",
        batches: &[100, 1_000],
        form: Form::Tsv,
        way: Way::Http(clickhouse::INSERT),
        connections: 2,
        routers: 1_000,
        entries: 1_000,
        changes: 3_000_000,
        has_tables: false,
        keeps: "sorted rows of a MergeTree, one bulk insert per connection whatever N is",
        start: |program, folder, _| clickhouse::start(program, folder),
    },
    Peer {
        name: "xymond",
        program: XYMOND,
        batches: &[1],
        form: Form::Status,
        way: Way::Messages,
        connections: 2,
        routers: 2_000,
        entries: 20,
        changes: 40_000,
        has_tables: true,
        keeps: "the last status of each entry, in memory; a connection per status",
        start: xymon::start,
    },
    Peer {
        name: "xymond-combo",
        program: XYMOND,
        batches: &[100, 1_000],
        form: Form::Status,
        way: Way::Messages,
        connections: 2,
        routers: 100,
        entries: 1_000,
        changes: 500_000,
        has_tables: true,
        keeps: "the last status of each entry, in memory; N per combo, tables as the collector's",
        start: xymon::start,
    },
    Peer {
        name: "xymond-combo-small",
        program: XYMOND,
        batches: &[100, 1_000],
        form: Form::Status,
        way: Way::Messages,
        connections: 2,
        routers: 2_000,
        entries: 20,
        changes: 2_000_000,
        has_tables: true,
        keeps: "the last status of each entry, in memory; N per combo, 20 columns per host",
        start: xymon::start,
    },
    Peer {
        name: "victoria-metrics",
        program: "victoria-metrics",
        batches: &[100, 1_000],
        form: Form::Influx,
        way: Way::Stream,
        connections: 4,
        routers: 200,
        entries: 20,
        changes: 500_000,
        has_tables: true,
        keeps: "samples of series that exist: label and next hop of each branch",
        start: |program, folder, _| victoria::start(program, folder),
    },
];

/// Where Debian has it: no folder of programs.
const XYMOND: &str = "/usr/lib/xymon/server/bin/xymond";

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let mut ours: Vec<(usize, f64)> = Vec::new();
    for peer in PEERS {
        let figures =
            peer.batches.iter().map(|batch| (*batch, format!("peers/{}/{batch}", peer.name)));
        let wanted: Vec<_> = figures.filter(|(_, figure)| run.wants(figure)).collect();
        for (batch, figure) in wanted {
            let Some(program) = daemon::program(peer.program) else {
                let why = format!("{} is not installed: scripts/peers.sh does it", peer.program);
                run.skipped(&figure, why)?;
                continue;
            };
            let theirs = match best_of(run, peer, &program, batch) {
                Ok(rate) => rate,
                Err(error) => {
                    run.skipped(&figure, error)?;
                    continue;
                }
            };
            let known = ours.iter().find(|(of, _)| *of == batch).map(|(_, rate)| *rate);
            let rate = match known {
                Some(rate) => rate,
                None => our_rate(run, batch)?,
            };
            ours.push((batch, rate));
            let unit = "mappings/s, the collector's (durable) / theirs (found)";
            run.figure(&figure, rate, theirs, unit)?;
        }
    }
    Ok(())
}

/// The collector, inflating and parsing the same mappings at `batch` per frame.
fn our_rate(run: &mut Run, batch: usize) -> Result<f64, BenchError> {
    run.note(format!("the collector, {batch} per frame: inflated, parsed, compared, synced"))?;
    // As many as `end-to-end` sends; frames of one mapping cost more.
    let frames = match batch {
        0..10 => 500,
        10..100 => 120,
        100..1_000 => 50,
        _ => 5,
    };
    let flood = end_to_end::flood(run, batch, frames);
    Ok(end_to_end::storm(run, &flood, &["shards=2".to_owned()])?.rate())
}

/// The best rate of several runs; what it does about durability.
fn best_of(run: &mut Run, peer: &Peer, program: &Path, batch: usize) -> Result<f64, BenchError> {
    let routers = run.scaled(peer.routers, 20);
    let changes = run.scaled(peer.changes, 200);
    let offer = Offer::new(routers, peer.entries, batch, changes);
    run.note(format!("{} {batch}: {}", peer.name, peer.keeps))?;
    let runs = if run.is_small() { 1 } else { RUNS };
    let mut best = 0.0_f64;
    for _ in 0..runs {
        best = best.max(once(run, peer, program, &offer)?);
    }
    let few = Offer { rounds: 1, ..Offer::new(routers.div_ceil(SYNC_SHARE), 20, batch, 1) };
    let syncs = syncs(run, peer, program, &few);
    let told = match syncs {
        Ok(0) => {
            format!("0 syncs while {} mappings arrived: none is durable", few.change_mappings())
        }
        Ok(count) => format!("{count} syncs while {} mappings arrived", few.change_mappings()),
        Err(error) => format!("syncs are not known: {error}"),
    };
    run.note(format!("{}: {told}", peer.name))?;
    Ok(best)
}

/// One run: mappings in a second, from the first byte sent until all are found.
fn once(run: &mut Run, peer: &Peer, program: &Path, offer: &Offer) -> Result<f64, BenchError> {
    let folder = run.folder()?;
    let Started { daemon, target, mut running } = (peer.start)(program, folder.path(), offer)?;
    let mut feeder = Feeder::start(offer, peer.form, peer.way, peer.connections, target)?;
    let mut told = 0;
    if peer.has_tables {
        feeder.tables()?;
        told = offer.table_mappings();
    }
    let processes = [daemon.process.id(), feeder.process.id()];
    let watch = Watch::start(&processes);
    let cpu = [daemon.process.cpu(), feeder.process.cpu()];
    let began = Instant::now();
    let bytes = feeder.changes()?;
    let sent = began.elapsed();
    let offered = offer.change_mappings();
    running.settle()?;
    let (found, took) = wait_for(&mut *running, target, told + offered, began)?;
    let used = [daemon.process.cpu() - cpu[0], feeder.process.cpu() - cpu[1]];
    let [theirs, sending] = used.map(|it| it.as_secs_f64() / took.as_secs_f64());
    let rate = offered as f64 / took.as_secs_f64();
    run.note(format!(
        "{offered} mappings of {:.1} bytes over {} connections in {:.2} s, sent in {:.2}: \
         {rate:.0} mappings/s",
        bytes as f64 / offered as f64,
        peer.connections,
        took.as_secs_f64(),
        sent.as_secs_f64(),
    ))?;
    run.note(format!(
        "CPUs used: peer {theirs:.2}, senders {sending:.2}; {}",
        watch.words(&processes)
    ))?;
    daemon.stop();
    if found == told + offered {
        return Ok(rate);
    }
    let told = format!("{} mappings were offered, {found} are found", told + offered);
    Err(BenchError::Process { role: daemon::ROLE, told })
}

/// Looks until `all` are found, or for as long as a phase takes; how many were found, and how long
/// after `began` the last look began: looking is none of the peer's work.
fn wait_for(
    running: &mut dyn Running,
    target: SocketAddr,
    all: u64,
    began: Instant,
) -> Result<(u64, Duration), BenchError> {
    loop {
        let took = began.elapsed();
        let found = running.stored(target)?;
        if found == all || took > PHASE {
            return Ok((found, took));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How often a peer syncs while a small offer arrives.
fn syncs(run: &Run, peer: &Peer, program: &Path, offer: &Offer) -> Result<u64, BenchError> {
    let folder = run.folder()?;
    let Started { daemon, target, mut running } = (peer.start)(program, folder.path(), offer)?;
    let mut feeder = Feeder::start(offer, peer.form, peer.way, peer.connections, target)?;
    let watch = SyncWatch::start(folder.path(), daemon.process.id())?;
    let mut all = offer.change_mappings();
    if peer.has_tables {
        feeder.tables()?;
        all += offer.table_mappings();
    }
    feeder.changes()?;
    running.settle()?;
    wait_for(&mut *running, target, all, Instant::now())?;
    let count = watch.end();
    daemon.stop();
    count
}

/// The number that a peer has answered.
fn count_of(answer: &str) -> Result<u64, BenchError> {
    let told = || BenchError::Process {
        role: daemon::ROLE,
        told: format!("expected a count, it answered `{}`", answer.trim()),
    };
    answer.trim().parse().map_err(|_| told())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_count_is_shown() {
        assert_eq!(count_of("42\n").unwrap(), 42);
        let error = count_of("Code: 60. No table").unwrap_err().to_string();
        assert!(error.contains("Code: 60"), "{error}");
    }

    #[test]
    fn names_of_figures_are_unique_and_messages_have_their_batches() {
        let mut names = std::collections::BTreeSet::new();
        for peer in PEERS {
            assert!(peer.batches.iter().all(|batch| names.insert((peer.name, batch))));
            assert_eq!(peer.way == Way::Messages, peer.form == Form::Status, "{}", peer.name);
        }
    }
}
