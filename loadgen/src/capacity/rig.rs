//! The rig: a collector and its speakers, and one run of a load on them.
//!
//! In:   what is loaded (burst, rate, connections) and how much.
//! Out:  `Trial`: what the run came to, with the figures that say why.
//! Law:  every latency counts from the intended time; a run that the generator or others limited
//!       is void, whatever else it shows.
//! Not:  which load comes next (`search`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use engine::metrics::Metric;
use serde::Serialize;
use tuning::counters::{CounterError, Counters, LOSS_COUNTERS};
use tuning::host::{Watch, cpu_of_threads};

use super::search::{Finding, Symptom};
use crate::clock::{Clock, instant};
use crate::crew::CrewError;
use crate::crew::choir::{Choir, Crowd, Order};
use crate::crew::host::Host;
use crate::honesty::{Honesty, Label};
use crate::volley::Outcome;

/// From an order to its first shot: every process has taken the order in by then.
const LEAD_US: i64 = 150_000;
/// Different routers per process.
const FACES: usize = 200;
/// Connections that one process of speakers holds at most.
pub const ROUTERS_PER_PROCESS: usize = 17_000;
/// A run is given up so long after its last frame was due, at least.
const PATIENCE: Duration = Duration::from_secs(5);
/// A saturated run is given up after four times as long.
const SATURATED: Duration = Duration::from_secs(10);
/// Counters of a listen queue; the others of the law are those of a receive queue.
const LISTEN_COUNTERS: [&str; 2] = ["TcpExt.ListenOverflows", "TcpExt.ListenDrops"];

/// What a limit is looked for of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Mappings that change within the burst's time.
    Burst,
    /// Mappings in a second, for the time of a run.
    Rate,
    /// Routers that connect within the time of a run, each with its table.
    Connections,
}

impl What {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            What::Burst => "burst",
            What::Rate => "rate",
            What::Connections => "connections",
        }
    }

    /// Of the load.
    pub const fn unit(self) -> &'static str {
        match self {
            What::Burst => "mappings at once",
            What::Rate => "mappings/s",
            What::Connections => "routers",
        }
    }
}

/// How runs are made.
#[derive(Clone, Debug, Serialize)]
pub struct RigSettings {
    /// Routers that speak in bursts and at rates.
    pub routers: usize,
    /// Entries of each table.
    pub entries: usize,
    /// Mappings of a frame of changes.
    pub frame_mappings: usize,
    /// Over how long a burst is spread.
    pub burst: Duration,
    /// How long a rate is held, and over how long routers connect.
    pub hold: Duration,
    /// Shards of the collector.
    pub shards: usize,
    /// CPUs of the collector; none = all.
    pub host_cpus: Vec<usize>,
    /// CPUs of the speakers; none = all.
    pub choir_cpus: Vec<usize>,
    /// A router that nothing is taken from for so long is a symptom.
    pub blocked_max: Duration,
    /// Frames that are durable later than this (p99) are a symptom.
    pub p99_max: Duration,
    /// A run whose sends are later than this (p99.9, ms) is void.
    pub late_ms_max: f64,
    /// A run from which others took more of the CPUs, in percent, is void.
    pub disturbed_percent_max: f64,
    /// Everything is of IPv6.
    pub ipv6: bool,
    /// Where data folders are made.
    pub data: PathBuf,
}

/// Why there can be no run.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// A process of the run failed.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// The kernel's counters cannot be read: nothing could be said of them.
    #[error(transparent)]
    Counters(#[from] CounterError),
    /// The first tables did not arrive.
    #[error("first tables: {acked} of {frames} frames were durable; fewer routers or entries?")]
    Tables {
        /// How many were.
        acked: u64,
        /// How many were sent.
        frames: u64,
    },
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Of what.
    pub what: What,
    /// How much of it.
    pub load: f64,
    /// What it came to.
    pub finding: Finding,
    /// From the intended time until durable, 50 % and 99 % of frames, ms.
    pub durable_ms: [f64; 2],
    /// From the send until durable, 99 % of frames, ms: uncorrected, to be compared.
    pub service_ms_p99: f64,
    /// Longest time that nothing was taken from a router, ms.
    pub blocked_ms_max: f64,
    /// What the generator was late by and what others took.
    pub honesty: Honesty,
    /// Processor time of the collector over that of its CPUs, 0 to 1.
    pub collector_busy: f64,
    /// Counters of the law that moved.
    pub moved: Vec<(String, i64)>,
    /// From the first intended time to the last ack, seconds.
    pub seconds: f64,
    /// Frames that were written, and those that were acknowledged.
    pub frames: [u64; 2],
}

impl Trial {
    /// Mappings in a second, over the whole run.
    pub fn mappings_per_second(&self, frame_mappings: usize) -> f64 {
        self.frames[1] as f64 * frame_mappings as f64 / self.seconds.max(1e-6)
    }

    /// What there was least of, in words, as far as the run can tell.
    pub fn resource(&self) -> &'static str {
        let moved = |names: &[&str]| self.moved.iter().any(|it| names.contains(&it.0.as_str()));
        if moved(&LISTEN_COUNTERS) {
            "listen queue (net.core.somaxconn, tcp_max_syn_backlog)"
        } else if moved(&LOSS_COUNTERS) {
            "socket memory (net.ipv4.tcp_rmem, tcp_mem)"
        } else if self.collector_busy > 0.85 {
            "processor of the collector"
        } else {
            "neither processor nor socket memory: disk or memory budget"
        }
    }
}

/// A collector and its speakers, every table told.
pub struct Rig {
    settings: RigSettings,
    host: Host,
    choirs: Vec<Choir>,
    // Behind the processes that write into it: removed last.
    _data: tempfile::TempDir,
}

impl Rig {
    /// Starts collector and speakers. Nobody has connected yet.
    pub fn start(settings: &RigSettings, routers: usize) -> Result<Rig, RigError> {
        let data = tempfile::Builder::new()
            .prefix("stormgen-capacity-")
            .tempdir_in(&settings.data)
            .map_err(crate::crew::host_error("a temporary folder below --data"))?;
        let loopback = if settings.ipv6 { "[::1]:0" } else { "127.0.0.1:0" };
        let host_settings =
            [("shards", settings.shards.to_string()), ("listen", loopback.to_owned())];
        let host = Host::start(data.path(), &host_settings, &settings.host_cpus)?;
        let mut choirs = Vec::new();
        for first in (0..routers).step_by(ROUTERS_PER_PROCESS) {
            let routers = (routers - first).min(ROUTERS_PER_PROCESS);
            choirs.push(Choir::start(&Crowd {
                target: host.address,
                first,
                routers,
                faces: FACES,
                entries: settings.entries,
                frame_mappings: settings.frame_mappings,
                rounds: (settings.entries / settings.frame_mappings).max(1),
                acks: true,
                // Never: a router that waits too long is a symptom, and the run goes on.
                give_up: Duration::from_secs(3_600),
                cpus: settings.choir_cpus.clone(),
            })?);
        }
        Ok(Rig { settings: settings.clone(), host, choirs, _data: data })
    }

    /// Starts, and has every table told over a time that disturbs nobody.
    pub fn start_with_tables(settings: &RigSettings) -> Result<Rig, RigError> {
        let mut rig = Rig::start(settings, settings.routers)?;
        let mappings = (settings.routers * settings.entries) as f64;
        let spread = Duration::from_secs_f64(mappings / 500_000.0 + settings.routers as f64 / 2e3);
        let limit = spread * 4 + Duration::from_secs(30);
        let tables = |_: &Choir, at_us| Order::Tables { at_us, spread, limit };
        let (outcome, _) = rig.perform(tables)?;
        let (acked, frames) = (outcome.frames_acked, outcome.frames + outcome.frames_unsent);
        if acked < frames || outcome.broken + outcome.connect_failures > 0 {
            return Err(RigError::Tables { acked, frames });
        }
        Ok(rig)
    }

    /// Whether another run can be made on the same rig: nothing of this one is under way.
    pub fn is_reusable_after(trial: &Trial) -> bool {
        let ended =
            |symptom: &Symptom| matches!(symptom, Symptom::ConnectFailed | Symptom::ConnectionLost);
        let lost = match &trial.finding {
            Finding::Symptoms(symptoms) => symptoms.iter().any(ended),
            _ => false,
        };
        !lost && trial.frames[0] == trial.frames[1] && trial.what != What::Connections
    }

    /// Runs once. For `Connections` the rig is new and has as many routers as the load says.
    pub fn run(&mut self, what: What, load: f64) -> Result<Trial, RigError> {
        let RigSettings { burst, hold, frame_mappings, .. } = self.settings;
        let (mappings, spread) = match what {
            What::Burst => (load, burst),
            What::Rate => (load * hold.as_secs_f64(), hold),
            What::Connections => (0.0, hold),
        };
        let limit = self.settings.limit(spread);
        let frames = (mappings / frame_mappings as f64).round().max(1.0);
        let routers: usize = self.choirs.iter().map(|choir| choir.routers).sum();
        let order = |choir: &Choir, at_us| match what {
            What::Connections => Order::Tables { at_us, spread, limit },
            What::Burst | What::Rate => {
                let share = choir.routers as f64 / routers as f64;
                let frames = (frames * share).round() as usize;
                Order::Changes { frames, at_us, spread, limit }
            }
        };
        let before = Counters::read()?;
        let cpu = cpu_of_threads(self.host.id());
        let began = instant();
        let watch = Watch::start(&self.processes());
        let (outcome, at_us) = self.perform(order)?;
        let disturbance = watch.end(&self.processes());
        let elapsed = began.elapsed().as_secs_f64();
        let used = cpu_of_threads(self.host.id()).saturating_sub(cpu).as_secs_f64();
        let counters = Counters::read()?;
        let cpus = match self.settings.host_cpus.len() {
            0 => self.settings.shards,
            cpus => cpus.min(self.settings.shards),
        };
        let honesty = Honesty::new(outcome.late.quantile_ms(0.999), disturbance);
        let lead = LEAD_US as f64 / 1e6;
        let mut moved = counters.moved_since(&before);
        moved.retain(|(name, _)| LOSS_COUNTERS.contains(&name.as_str()));
        let limits = Limits::of(&self.settings);
        Ok(Trial {
            what,
            load,
            finding: limits.judge(&outcome, &moved, &honesty),
            durable_ms: [0.5, 0.99].map(|share| outcome.durable.quantile_ms(share)),
            service_ms_p99: outcome.service.quantile_ms(0.99),
            blocked_ms_max: outcome.stuck_us_max as f64 / 1e3,
            honesty,
            collector_busy: (used / ((elapsed - lead).max(1e-3) * cpus as f64)).min(1.0),
            moved,
            seconds: (outcome.acked_last.max(outcome.written_last) - at_us).max(1) as f64 / 1e6,
            frames: [outcome.frames + outcome.frames_unsent, outcome.frames_acked],
        })
    }

    /// How fast the collector takes what is sent as fast as it goes, mappings per second.
    pub fn saturate(&mut self, mappings: f64) -> Result<Trial, RigError> {
        let settings = self.settings.clone();
        // Everything is due at once, so that all but the first is late by design.
        (self.settings.burst, self.settings.p99_max) = (Duration::ZERO, SATURATED);
        let trial = self.run(What::Burst, mappings);
        self.settings = settings;
        trial
    }

    /// Snapshots that the collector has complete.
    pub fn snapshots(&mut self) -> Result<u64, RigError> {
        Ok(self.host.counts()?.total(Metric::SnapshotsCompleted))
    }

    fn processes(&self) -> Vec<u32> {
        let choirs = self.choirs.iter().map(Choir::id);
        choirs.chain([self.host.id()]).collect()
    }

    /// Gives every choir its order at the same time; what became of them together, and when the
    /// first frame was due.
    fn perform(
        &mut self,
        order: impl Fn(&Choir, i64) -> Order,
    ) -> Result<(Outcome, i64), RigError> {
        let at_us = Clock::start().now().offset(LEAD_US).0;
        for choir in &mut self.choirs {
            let order = order(choir, at_us);
            choir.tell(&order)?;
        }
        let mut sum = Outcome::default();
        for choir in &mut self.choirs {
            sum.add(&choir.outcome()?);
        }
        Ok((sum, at_us))
    }
}

impl RigSettings {
    /// How long a run may take whose frames are due over this time: a symptom that is allowed to
    /// take long has to have the time to show, and its absence too.
    fn limit(&self, spread: Duration) -> Duration {
        spread + (self.p99_max * 4).max(self.blocked_max * 2).max(PATIENCE)
    }

    /// Who else took too much of the CPUs during a run.
    pub fn disturbance(&self, trial: &Trial) -> Option<Label> {
        disturbance(&trial.honesty, self.disturbed_percent_max)
    }
}

fn disturbance(honesty: &Honesty, percent_max: f64) -> Option<Label> {
    let foreign = honesty.foreign_percent.unwrap_or_default();
    let stolen = honesty.stolen_percent.unwrap_or_default();
    let label = if foreign > stolen { Label::ForeignWork } else { Label::Stolen };
    (foreign + stolen > percent_max).then_some(label)
}

/// What a clean run keeps within.
struct Limits {
    blocked_ms: f64,
    p99_ms: f64,
    late_ms: f64,
    disturbed_percent: f64,
}

impl Limits {
    fn of(settings: &RigSettings) -> Limits {
        let ms = |span: Duration| span.as_secs_f64() * 1e3;
        Limits {
            blocked_ms: ms(settings.blocked_max),
            p99_ms: ms(settings.p99_max),
            late_ms: settings.late_ms_max,
            disturbed_percent: settings.disturbed_percent_max,
        }
    }

    fn judge(&self, outcome: &Outcome, moved: &[(String, i64)], honesty: &Honesty) -> Finding {
        // Others first: their work makes the generator late too.
        if let Some(label) = disturbance(honesty, self.disturbed_percent) {
            return Finding::Void(label);
        }
        if honesty.late_ms_p999 > self.late_ms {
            return Finding::Void(Label::GeneratorBound);
        }
        let lost = moved.iter().any(|(name, _)| !LISTEN_COUNTERS.contains(&name.as_str()));
        let refused = moved.iter().any(|(name, _)| LISTEN_COUNTERS.contains(&name.as_str()));
        let late = outcome.durable.quantile_ms(0.99) > self.p99_ms;
        let open = outcome.frames_open + outcome.frames_unsent > 0;
        let symptoms = [
            (refused, Symptom::ListenQueueFull),
            (lost, Symptom::ReceiveSqueezed),
            (outcome.connect_failures > 0, Symptom::ConnectFailed),
            (outcome.broken > 0, Symptom::ConnectionLost),
            (outcome.stuck_us_max as f64 / 1e3 > self.blocked_ms, Symptom::RouterBlocked),
            (late || open, Symptom::TooSlow),
        ];
        let shown = symptoms.into_iter().filter(|(shows, _)| *shows).map(|(_, symptom)| symptom);
        let shown: BTreeSet<Symptom> = shown.collect();
        if shown.is_empty() { Finding::Clean } else { Finding::Symptoms(shown) }
    }
}

#[cfg(test)]
mod tests;
