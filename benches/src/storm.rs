//! What the storm benches share: a network of its own, many speaking routers, and a collector.
//!
//! In:   sizes of a storm; roles that run in processes of their own.
//! Out:  `Storm`: the namespace, the collector, the speakers; their outcomes and counters.
//! Law:  processes and namespaces are gone when the storm is dropped, however it ended.
//! Not:  what is measured (the modules of the benches).

pub(crate) mod namespace;
pub(crate) mod speakers;
pub(crate) mod reader;
pub(crate) mod shrink;
pub(crate) mod tcp_memory;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::metrics::Metric;
use loadgen::volley::Outcome;
use storage::time::Micros;

use crate::bench::{BenchError, Run};
use crate::collector::{CollectorProcess, Counts};
use namespace::Namespace;
use speakers::{Crowd, Speakers};

/// From an order to its first shot: every process has taken the order in by then.
const LEAD_US: i64 = 300_000;
/// Between two looks at the collector's counters.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The longest that one phase of a storm takes; the figures say if it was not enough.
pub(crate) const PHASE: Duration = Duration::from_secs(60);

/// A collector and those who speak to it.
pub(crate) struct Storm {
    /// Where it happens; `None` = in the host's own network.
    pub(crate) namespace: Option<Namespace>,
    /// Whom it meets.
    pub(crate) collector: CollectorProcess,
    /// Who speaks.
    pub(crate) speakers: Vec<Speakers>,
    /// How many routers there are.
    pub(crate) routers: usize,
    /// Where the collector writes.
    pub(crate) data: PathBuf,
}

impl Storm {
    /// Starts a collector on `data` with `name=value` settings, and `processes` processes that
    /// share the crowd's routers. Nobody has connected yet.
    pub(crate) fn start(
        namespace: Option<Namespace>,
        data: &Path,
        settings: &[&str],
        crowd: &Crowd,
        processes: usize,
    ) -> Result<Storm, BenchError> {
        let around = namespace.as_ref().map(Namespace::around).unwrap_or_default();
        let settings: Vec<String> = settings.iter().map(|it| (*it).to_owned()).collect();
        let collector = CollectorProcess::start(data, &settings, &around)?;
        let speakers = Speakers::start_all(crowd, collector.address, processes, &around)?;
        let (routers, data) = (crowd.routers, data.to_owned());
        Ok(Storm { namespace, collector, speakers, routers, data })
    }

    /// Every router connects and tells its table, all within `spread`; waits until the collector
    /// has every snapshot. What was sent, and when the last snapshot was complete.
    pub(crate) fn tell_tables(
        &mut self,
        spread: Duration,
    ) -> Result<(Outcome, Option<Micros>), BenchError> {
        let before = self.collector.counts()?;
        let began = now().offset(LEAD_US);
        for speakers in &mut self.speakers {
            speakers.tell_tables(began, spread, PHASE)?;
        }
        let routers = self.routers as u64;
        let done = self.collector.wait_for(PHASE, |counts| {
            counts.since(&before, Metric::SnapshotsCompleted) >= routers
        })?;
        let ended = done.map(|_| now());
        Ok((self.outcome()?, ended))
    }

    /// Kernel counters of the storm's namespace; none outside of one.
    pub(crate) fn counters(&mut self) -> Result<Vec<(String, i64)>, BenchError> {
        self.namespace.as_mut().map_or(Ok(Vec::new()), Namespace::counters)
    }

    /// What the speakers report of the order that they were given last, added up. Blocks until all
    /// have come to its end.
    pub(crate) fn outcome(&mut self) -> Result<Outcome, BenchError> {
        let mut sum = Outcome::default();
        for speakers in &mut self.speakers {
            sum.add(&speakers.outcome()?);
        }
        Ok(sum)
    }

    /// Looks at the collector's counters again and again until `done` holds or `limit` is over;
    /// every look with its time.
    pub(crate) fn watch(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Counts) -> bool,
    ) -> Result<Vec<(Micros, Counts)>, BenchError> {
        let began = Instant::now();
        let mut looks = Vec::new();
        loop {
            let counts = self.collector.counts()?;
            let over = done(&counts) || began.elapsed() > limit;
            looks.push((now(), counts));
            if over {
                return Ok(looks);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// When an order that is given now begins.
pub(crate) fn soon() -> Micros {
    now().offset(LEAD_US)
}

/// The wall clock. All processes of a storm are on one host and read the same one.
pub(crate) fn now() -> Micros {
    loadgen::clock::Clock::start().now()
}

/// Seconds from one instant to a later one.
pub(crate) fn seconds(from: Micros, until: Micros) -> f64 {
    until.since(from) as f64 / 1e6
}

/// The namespace of a bench; where there can be none, `figures` are skipped aloud.
pub(crate) fn namespace_or_skip(
    run: &mut Run,
    figures: &[&str],
    sysctls: &[&str],
) -> Result<Option<Namespace>, BenchError> {
    match Namespace::start(sysctls) {
        Ok(namespace) => Ok(Some(namespace)),
        Err(error) => {
            for figure in figures {
                run.skipped(figure, format!("no network namespace (root, iproute2): {error}"))?;
            }
            Ok(None)
        }
    }
}

/// What the speakers say of an order, in one line.
pub(crate) fn told(outcome: &Outcome) -> String {
    format!(
        "senders: {} frames, {} mappings, {} bytes; late by p50 {:.1} p99 {:.1} max {:.1} ms; \
         socket full {} times, broken {}, gave up {}, unsent {}",
        outcome.frames,
        outcome.mappings,
        outcome.bytes,
        outcome.written.quantile_ms(0.5),
        outcome.written.quantile_ms(0.99),
        outcome.written.max_ms(),
        outcome.times_blocked,
        outcome.broken + outcome.connect_failures,
        outcome.gave_up,
        outcome.frames_unsent + outcome.frames_open,
    )
}
