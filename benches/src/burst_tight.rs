//! Burst at a tight host: receive buffers shrink after their windows were offered, and the routers
//! write a few bytes at a time; and a steady overload up to the kernel's TCP memory.
//!
//! In:   2,000 routers in crumbs; the same into a reader that stops; 17,000 with large frames.
//! Out:  what the counters of the law say of the collector, and of the reader that stops.
//! Law:  a burst that does not move the counters of a reader that stops proves nothing: void.
//! Not:  a host with the kernel's own buffers (`burst`).

use std::time::Duration;

use engine::metrics::Metric;
use loadgen::volley::Outcome;
use storage::time::Micros;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::{Counts, verify_folder};
use crate::storm::namespace::{Namespace, in_words, losses, moved, moved_by};
use crate::storm::reader::Reader;
use crate::storm::shrink::shrink_connections;
use crate::storm::speakers::{Crowd, Speakers};
use crate::storm::tcp_memory::{TcpMemoryWatch, pressure_pages};
use crate::storm::{PHASE, Storm, namespace_or_skip, now, seconds, soon, told};

pub(crate) const BENCH: Bench = Bench {
    name: "burst-tight",
    about: "shrunk receive buffers and tiny writes, with a control; and overload up to TCP memory",
    run: measure,
};

const MOVED: &str = "burst-tight/counters-moved";
const LOST: &str = "burst-tight/overload-lost";
const PRESSURE: &str = "burst-tight/overload-pressure";

/// Routers of the tight host.
const ROUTERS: usize = 2_000;
/// Frames of each, of so many mappings, in writes of so many bytes.
const FRAMES: usize = 8;
const MAPPINGS: usize = 50;
const CRUMB_BYTES: usize = 16;
/// The frames are due within this; the crumbs take longer.
const SPREAD: Duration = Duration::from_millis(200);
/// What the collector's receive buffers hold from then on, before the kernel doubles it.
const BUFFER_BYTES: usize = 4_096;
/// What must move in the control.
const CONTROL: [&str; 3] = ["PruneCalled", "RcvPruned", "TCPRcvCollapsed"];
/// Until a reader that was told to stop has stopped: longer than its longest wait.
const STOPPED: Duration = Duration::from_millis(200);

/// Routers of the overload, frames of each, mappings per frame: 17,000 x 7 x 22 kB = 2.7 GB, where
/// the kernel of a host with 24 GB is under pressure from 1.5 GB on.
const OVERLOAD_ROUTERS: usize = 17_000;
const OVERLOAD_FRAMES: usize = 7;
const OVERLOAD_MAPPINGS: usize = 1_000;
/// Just enough for the tables, 17,000 x 1,000 x 55 bytes; what is left to surges is spent within
/// the first second, and everything else waits in the sockets.
const OVERLOAD_MEMORY: &str = "memory_bytes=1800000000";
/// The longest that the overload takes: ten times as many mappings as in other storms.
const OVERLOAD_PHASE: Duration = Duration::from_secs(240);
/// Connections are opened over so long.
const START: Duration = Duration::from_secs(2);

fn measure(run: &mut Run) -> Result<(), BenchError> {
    if run.wants(MOVED) {
        tight(run)?;
    }
    if run.wants(LOST) || run.wants(PRESSURE) {
        overload(run)?;
    }
    Ok(())
}

fn tight_crowd(run: &Run) -> Crowd {
    Crowd {
        routers: run.scaled(ROUTERS, 100),
        faces: run.scaled(ROUTERS, 100),
        entries: FRAMES * MAPPINGS,
        mappings: MAPPINGS,
        rounds: FRAMES,
        compressed: true,
        // The reader of the control gives none.
        acks: false,
        give_up: PHASE,
    }
}

fn tight(run: &mut Run) -> Result<(), BenchError> {
    let Some(namespace) = namespace_or_skip(run, &[MOVED], &[])? else { return Ok(()) };
    let crowd = tight_crowd(run);
    let control = control(run, namespace, &crowd)?;
    let Some(namespace) = namespace_or_skip(run, &[MOVED], &[])? else { return Ok(()) };
    let ours = ours(run, namespace, &crowd)?;
    let stood: Vec<&str> =
        CONTROL.into_iter().filter(|name| moved_by(&control, name) <= 0).collect();
    if !stood.is_empty() {
        return run
            .skipped(MOVED, format!("VOID: in the control {} stood still", stood.join(", ")));
    }
    let unit = "sum of the counters that must not move, ours over those of the reader that stops";
    run.note(format!("{MOVED}: {unit}; the figure is the numerator"))?;
    run.note(format!("control moved {} in all", losses(&control)))?;
    run.figure(MOVED, losses(&ours) as f64, 1.0, "sum of the counters that must not move")
}

/// The same load into a reader that stops for the burst.
fn control(
    run: &mut Run,
    mut namespace: Namespace,
    crowd: &Crowd,
) -> Result<Vec<(String, i64)>, BenchError> {
    let around = namespace.around();
    let mut reader = Reader::start(&around)?;
    let mut speakers = Speakers::start_all(crowd, reader.address, 1, &around)?;
    let speakers = &mut speakers[0];
    speakers.tell_tables(soon(), START, PHASE)?;
    let tables = speakers.outcome()?;
    await_bytes(&mut reader, tables.bytes)?;
    reader.pause()?;
    std::thread::sleep(STOPPED);
    let shrunk = shrink_connections(reader.process.id(), BUFFER_BYTES)?;
    let before = namespace.counters()?;
    namespace.watch_queues()?;
    speakers.write_crumbs(CRUMB_BYTES)?;
    speakers.change(FRAMES, soon(), SPREAD, PHASE)?;
    // The senders' own buffers take what the reader does not: they come to their end.
    let outcome = speakers.outcome()?;
    let queue = namespace.longest_queue()?;
    reader.resume()?;
    let all = await_bytes(&mut reader, tables.bytes + outcome.bytes)?;
    let moved = moved(&before, &namespace.counters()?);
    run.note(format!("control: a reader that stops, {shrunk} receive buffers shrunk"))?;
    run.note(format!("control: {}", told(&outcome)))?;
    run.note(format!("control: longest Recv-Q {queue} bytes; all bytes came in the end: {all}"))?;
    run.note(format!("control, kernel: {}", in_words(&moved)))?;
    Ok(moved)
}

/// Whether the reader has read so much in time, hellos apart.
fn await_bytes(reader: &mut Reader, bytes: u64) -> Result<bool, BenchError> {
    let began = now();
    while seconds(began, now()) < PHASE.as_secs_f64() {
        if reader.bytes()? >= bytes {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn ours(
    run: &mut Run,
    namespace: Namespace,
    crowd: &Crowd,
) -> Result<Vec<(String, i64)>, BenchError> {
    let data = run.folder()?;
    // Few enough for ordinary descriptors: nobody else can reach a direct one to shrink it.
    let settings = ["shards=2", "connections_max=8000"];
    let mut storm = Storm::start(Some(namespace), data.path(), &settings, crowd, 1)?;
    let (tables, _) = storm.tell_tables(START)?;
    let shrunk = shrink_connections(storm.collector.process.id(), BUFFER_BYTES)?;
    let counts_before = storm.collector.counts()?;
    let before = storm.counters()?;
    if let Some(namespace) = &mut storm.namespace {
        namespace.watch_queues()?;
    }
    let began = soon();
    storm.speakers[0].write_crumbs(CRUMB_BYTES)?;
    storm.speakers[0].change(FRAMES, began, SPREAD, PHASE)?;
    let offered = (crowd.routers * FRAMES * MAPPINGS) as u64;
    let looks = storm.watch(PHASE, |counts| all_durable(counts, &counts_before, offered))?;
    let outcome = storm.outcome()?;
    let queue = storm.namespace.as_mut().map_or(Ok(0), Namespace::longest_queue)?;
    let moved = moved(&before, &storm.counters()?);
    let ended = looks.last().map_or(began, |(time, _)| *time);
    run.note(format!("collector: {shrunk} receive buffers shrunk"))?;
    if shrunk < crowd.routers {
        run.fault("not every connection of the collector was shrunk: the figure is void")?;
    }
    run.note(format!("collector: {}", told(&outcome)))?;
    run.note(format!("collector: longest Recv-Q {queue} bytes; {:.2} s", seconds(began, ended)))?;
    run.note(format!("collector, kernel: {}", in_words(&moved)))?;
    account(run, storm, &counts_before, tables.mappings, &outcome)?;
    Ok(moved)
}

fn all_durable(counts: &Counts, before: &Counts, offered: u64) -> bool {
    let waits = counts.get(Metric::RowsPushed) - counts.get(Metric::RowsCommitted);
    counts.since(before, Metric::MappingsFramed) >= offered && waits == 0
}

/// Stops the collector and counts what was lost of `outcome`.
fn account(
    run: &mut Run,
    mut storm: Storm,
    before: &Counts,
    told_before: u64,
    outcome: &Outcome,
) -> Result<u64, BenchError> {
    let counts = storm.collector.counts()?;
    let since = |metric| counts.since(before, metric);
    let accounted = since(Metric::Changes) + since(Metric::Confirmed) + since(Metric::Duplicates);
    storm.collector.stop()?;
    let report = verify_folder(run, &storm.data, told_before + outcome.mappings)?;
    let rows = counts.get(Metric::Changes) + counts.get(Metric::Derived);
    if report.change_rows != rows {
        run.fault(format!("{} change rows on disk, {rows} were counted", report.change_rows))?;
    }
    let unsent = outcome.frames_unsent + outcome.frames_open + outcome.frames_unacked;
    let lost = outcome.mappings.saturating_sub(accounted) + unsent;
    if lost > 0 {
        run.fault(format!("{lost} mappings lost or frames never taken"))?;
    }
    Ok(lost)
}

fn overload(run: &mut Run) -> Result<(), BenchError> {
    let Some(namespace) = namespace_or_skip(run, &[LOST], &[])? else { return Ok(()) };
    let crowd = Crowd {
        routers: run.scaled(OVERLOAD_ROUTERS, 40),
        faces: run.scaled(200, 4),
        entries: OVERLOAD_MAPPINGS,
        mappings: OVERLOAD_MAPPINGS,
        rounds: OVERLOAD_FRAMES,
        compressed: true,
        acks: true,
        give_up: OVERLOAD_PHASE,
    };
    let data = run.folder()?;
    let settings = ["shards=2", OVERLOAD_MEMORY];
    let mut storm = Storm::start(Some(namespace), data.path(), &settings, &crowd, 1)?;
    run.note(format!("overload: {} routers; {}", crowd.routers, storm.speakers[0].told))?;
    let (tables, _) = storm.tell_tables(START)?;
    let counts_before = storm.collector.counts()?;
    let before = storm.counters()?;
    let memory = TcpMemoryWatch::start();
    let began = soon();
    storm.speakers[0].change(OVERLOAD_FRAMES, began, Duration::ZERO, OVERLOAD_PHASE)?;
    let offered = (crowd.routers * OVERLOAD_FRAMES * OVERLOAD_MAPPINGS) as u64;
    let looks =
        storm.watch(OVERLOAD_PHASE, |counts| all_durable(counts, &counts_before, offered))?;
    let outcome = storm.outcome()?;
    let pages = memory.end();
    let moved = moved(&before, &storm.counters()?);
    let ended = looks.last().map_or(began, |(time, _)| *time);
    let sent = Micros(outcome.written_last);
    run.note(format!("overload: {}", told(&outcome)))?;
    run.note(format!(
        "overload: sent within {:.2} s, durable after {:.2} s",
        seconds(began, sent),
        seconds(began, ended)
    ))?;
    run.note(format!("overload, kernel: {}", in_words(&moved)))?;
    note_surges(run, &looks, &counts_before)?;
    let is_reached = moved_by(&moved, "TCPMemoryPressures") > 0;
    let word = if is_reached { "was reached" } else { "was NOT reached: nothing is proved" };
    run.note(format!("overload: the kernel's TCP memory pressure {word}"))?;
    if outcome.mappings_acked < offered {
        run.fault(format!("{} of {offered} mappings acknowledged", outcome.mappings_acked))?;
    }
    let lost = account(run, storm, &counts_before, tables.mappings, &outcome)?;
    let unit = "most pages of TCP memory / those from which on the kernel is under pressure";
    run.figure(PRESSURE, pages as f64, pressure_pages() as f64, unit)?;
    run.figure(LOST, lost as f64, 1.0, "mappings lost, and frames never taken or acknowledged")
}

/// Says how far the budget was spent and how many were not read for that.
fn note_surges(
    run: &mut Run,
    looks: &[(Micros, Counts)],
    before: &Counts,
) -> Result<(), BenchError> {
    let most = |metric| looks.iter().map(|(_, counts)| counts.get(metric)).max().unwrap_or(0);
    let (held, paused) = (most(Metric::SurgeHeldBytes), most(Metric::ReceivePaused));
    let pauses = looks.last().map_or(0, |(_, counts)| counts.since(before, Metric::ReceivePauses));
    run.note(format!(
        "overload: surges took up to {held} bytes, {paused} sessions were paused at once, {pauses} \
         pauses"
    ))
}
