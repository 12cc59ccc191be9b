//! Hostile: 28 ways to be hostile, one after another, beside four good routers.
//!
//! In:   a collector with 64 MiB or 512 MiB, on the ring and on epoll; attacks of some seconds.
//! Out:  how much later acks of good routers come; good sessions closed; memory at its peak.
//! Law:  the hostile side shares the collector's cores; books balance and `verify` finds no fault.
//! Not:  what honest crowds do (`burst`, `restart-storm`).

mod attacks;
mod good;
mod wire;

use engine::metrics::Metric;
use std::time::Duration;

use crate::bench::{Bench, BenchError, Run};
use crate::collector::{CollectorProcess, verify_folder};
use crate::process::Process;
use attacks::ATTACKS;
use good::Good;

pub(crate) use attacks::{ROLE, play};

pub(crate) const BENCH: Bench = Bench {
    name: "hostile",
    about: "28 kinds of hostile peers beside good routers: their acks, their sessions, memory",
    run: measure,
};

const P99: &str = "hostile/good-p99";
const CLOSED: &str = "hostile/closed";
const RSS: &str = "hostile/rss";
/// How long each attack lasts, and how long the good routers are alone before.
const LASTS: Duration = Duration::from_secs(6);
const MEMORIES_MIB: [u64; 2] = [64, 512];
const DRIVERS: [&str; 2] = ["uring", "epoll"];
/// Attacks of a run that is only to work: a flood, a stream, a hold, and sessions.
const SMALL: [usize; 4] = [3, 8, 18, 26];

/// One series of all attacks.
struct Series<'s> {
    driver: &'s str,
    memory_mib: u64,
    /// By their places in `ATTACKS`.
    attacks: &'s [usize],
}

fn measure(run: &mut Run) -> Result<(), BenchError> {
    let all: Vec<usize> = (0..ATTACKS.len()).collect();
    let attacks = if run.is_small() { &SMALL[..] } else { &all[..] };
    for driver in DRIVERS {
        for memory_mib in MEMORIES_MIB {
            let is_left_out = run.is_small() && (memory_mib > 64 || driver == "uring");
            let name = format!("{driver}/{memory_mib}");
            let wanted = [P99, CLOSED, RSS].iter().any(|it| run.wants(&format!("{it}/{name}")));
            if driver == "uring"
                && let Err(error) = engine::io::uring::probe()
            {
                run.skipped(&format!("{P99}/{name}"), error)?;
            } else if wanted && !is_left_out {
                series(run, &Series { driver, memory_mib, attacks })?;
            }
        }
    }
    Ok(())
}

fn series(run: &mut Run, series: &Series<'_>) -> Result<(), BenchError> {
    let Series { driver, memory_mib, attacks } = series;
    let data = run.folder()?;
    let settings = [
        format!("memory_bytes={}", memory_mib << 20),
        format!("io={driver}"),
        "shards=2".to_owned(),
        // What was read is digested first, and that may be a lot.
        "stop_timeout_s=120".to_owned(),
    ];
    let mut collector = CollectorProcess::start(data.path(), &settings, &[])?;
    let good = Good::start(collector.address);
    let lasts = run.brief(LASTS);
    std::thread::sleep(lasts);
    let mut notes = Vec::new();
    for (place, index) in attacks.iter().enumerate() {
        good.enter(place + 1);
        let arguments = [
            format!("target={}", collector.address),
            format!("attack={index}"),
            format!("ms={}", lasts.as_millis()),
            format!("first={}", place * 70_000),
        ];
        let told = Process::start(ROLE, &arguments, &[])?.answer()?;
        notes.push(format!("{told}; {} MiB", resident_bytes(collector.process.id()) >> 20));
    }
    let seen = good.end();
    let peak_bytes = resident_bytes(collector.process.id());
    let counts = collector.counts()?;
    if counts.get(Metric::LedgerImbalance) > 0 {
        run.fault("the books do not balance")?;
    }
    collector.stop()?;
    verify_folder(run, data.path(), seen.iter().map(|seen| seen.changes).sum())?;

    let waits_of = |wanted: &dyn Fn(usize) -> bool| {
        let all = seen.iter().flat_map(|seen| &seen.waits);
        let mut waits: Vec<f64> = all.filter(|wait| wanted(wait.0)).map(|wait| wait.1).collect();
        waits.sort_by(f64::total_cmp);
        waits
    };
    let before = waits_of(&|phase| phase == 0);
    for ((place, index), note) in attacks.iter().enumerate().zip(&notes) {
        let waits = waits_of(&|phase| phase == place + 1);
        let [half, late, last] = [0.5, 0.99, 1.0].map(|share| quantile(&waits, share));
        let name = ATTACKS[*index].name;
        run.note(format!(
            "{driver}/{memory_mib} {name}: acks p50 {half:.0} p99 {late:.0} max {last:.0} ms; \
             connections, bytes, peak: {note}"
        ))?;
    }
    let name = format!("{driver}/{memory_mib}");
    let during = waits_of(&|phase| phase > 0);
    run.figure(
        &format!("{P99}/{name}"),
        quantile(&during, 0.99),
        quantile(&before, 0.99),
        "ms that a good router's change waits for its ack (p99), during all attacks / before",
    )?;
    let closed: usize = seen.iter().map(|seen| seen.closed).sum();
    run.figure(
        &format!("{CLOSED}/{name}"),
        closed as f64,
        good::ROUTERS as f64,
        "sessions of good routers that were closed / good routers",
    )?;
    run.figure(
        &format!("{RSS}/{name}"),
        peak_bytes as f64,
        (memory_mib << 20) as f64,
        "bytes resident at the peak / memory_bytes",
    )
}

/// The value that a share (0 to 1) of them does not exceed; infinite without any.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
}

/// The most that a process has had resident; 0 where the kernel does not say.
fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}
