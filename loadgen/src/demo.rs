//! One command that shows it all: a collector, a network, a storm and the verdict, in one process.
//!
//! In:   the size of the network; defaults fit two cores and a minute.
//! Out:  a `Report` with a verdict; the same LSP traced before and after the failure.
//! Law:  the collector is the real one, over real sockets; it is judged after it has stopped.
//! Not:  the acts (`stage`), the comparisons (`verdict`).

mod owned;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::collector::{StartError, StopError};
use engine::metrics::Metric;
use engine::query::{self, Follow, Format, QueryError, Selector, render_trace};
use engine::settings::Settings;
use storage::time::Micros;
use tuning::counters::Counters;

use crate::answer::{AnswerKey, Question, Target, Way};
use crate::crew::troupe::{Cast, perform_together};
use crate::faults::Fault;
use crate::model::Model;
use crate::record::{ActRecord, Recorder};
use crate::report::{CollectorReport, KernelReport, Report};
use crate::stage::{Look, StageError, StageSettings, Watch, perform};
use crate::verdict::{Verdict, Verify};
use owned::Owned;

/// Source of the first router: the others follow in 127.0.0.0/8.
const SOURCE_BASE: [u8; 4] = [127, 16, 0, 1];
/// The same of IPv6: fd53:7264::1, of the range that anybody may use (RFC 4193).
pub const IPV6_SOURCE_BASE: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x7264, 0, 0, 0, 0, 0, 1);

/// How large the demonstration is.
#[derive(Clone, Debug)]
pub struct DemoSettings {
    /// The network.
    pub model: Model,
    /// Connections per second of the cold start; 0 = all at once.
    pub routers_per_second: u32,
    /// Settings of the collector; addresses and data folder are set here.
    pub collector: Settings,
    /// Where the collector writes: an empty folder that the caller removes.
    pub data: PathBuf,
    /// How much of its answers is compared.
    pub verify: Verify,
}

impl DemoSettings {
    /// How it is performed against the collector at this address.
    pub fn stage(&self, target: SocketAddr) -> StageSettings {
        let source_base = match self.model.ipv6 {
            true => IPV6_SOURCE_BASE.into(),
            false => SOURCE_BASE.into(),
        };
        StageSettings {
            target,
            model: self.model.clone(),
            routers_per_second: self.routers_per_second,
            source_base: Some(source_base),
            threads: 1,
            act_timeout: Duration::from_secs(120),
            second_target: None,
        }
    }
}

/// Why a demonstration ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The collector does not start.
    #[error("collector: {0}")]
    Start(#[from] StartError),
    /// There is no folder for the second collector.
    #[error("a temporary folder: {0}")]
    Folder(std::io::Error),
    /// The collector does not stop in order.
    #[error("collector: {0}")]
    Stop(#[from] StopError),
    /// The network could not say everything.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The collector could not be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// What a demonstration shows.
#[derive(Clone, Debug)]
pub struct Demonstration {
    /// Figures and verdict.
    pub report: Report,
    /// The acts, over time.
    pub records: Vec<ActRecord>,
    /// The same LSP before and after the failure, as trees.
    pub traces: Vec<String>,
}

impl fmt::Display for Demonstration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.traces.is_empty() {
            writeln!(f, "one LSP that the failure moved, before and after")?;
        }
        self.traces.iter().try_for_each(|trace| writeln!(f, "{trace}"))?;
        self.report.fmt(f)
    }
}

/// A collector that is told the same, in a folder that goes with it.
struct Second {
    collector: Owned,
    data: tempfile::TempDir,
}

impl Second {
    fn start(settings: &Settings) -> Result<Second, DemoError> {
        let data = tempfile::tempdir().map_err(DemoError::Folder)?;
        Ok(Second { collector: Owned::start(settings, data.path())?, data })
    }
}

/// Starts a collector, performs, judges, stops. Errors: `DemoError`.
pub fn demonstrate(settings: &DemoSettings, watch: Watch<'_>) -> Result<Demonstration, DemoError> {
    demonstrate_by(settings, None, watch)
}

/// The same with senders in processes of their own, if there is a cast.
pub fn demonstrate_by(
    settings: &DemoSettings,
    cast: Option<&Cast>,
    watch: Watch<'_>,
) -> Result<Demonstration, DemoError> {
    let listen: SocketAddr = match settings.model.ipv6 {
        true => (Ipv6Addr::LOCALHOST, 0).into(),
        false => (Ipv4Addr::LOCALHOST, 0).into(),
    };
    settings.stage(listen).try_source()?;
    let own = Settings { listen, ..settings.collector.clone() };
    let mut collector = Owned::start(&own, &settings.data)?;
    let mut second = match settings.model.has(Fault::Duplicate) {
        true => Some(Second::start(&own)?),
        false => None,
    };
    let counters = Counters::read();
    let stage = StageSettings {
        second_target: second.as_ref().map(|second| second.collector.address()),
        ..settings.stage(collector.address())
    };
    let mut recorder = Recorder::new(vec![], Some(collector.publication()));
    let mut look = |look: &Look<'_>| {
        recorder.look(look);
        watch(look);
        collector.look(look, Some(&mut recorder));
        if let Some(second) = &mut second {
            second.collector.look(look, None);
        }
    };
    let performed = match cast {
        None => perform(&stage, &mut look),
        Some(cast) => perform_together(&stage, cast, &mut look),
    };
    // Without a collector nothing could be performed to its end: that is why.
    if let Some(error) = collector.failure() {
        return Err(error);
    }
    let performance = performed?;
    let records = recorder.into_acts();
    let kernel = match (&counters, Counters::read()) {
        (Ok(before), Ok(after)) => Some(KernelReport::new(before, &after)),
        _ => None,
    };
    let mut report = Report::new(settings.model.seed, &performance);
    report.kernel = kernel;
    report.judge(&records);
    let mut verdict = Verdict::default();
    let (key, instants) = (performance.world.key(), performance.instants());
    settings.verify.ask(&mut verdict, &key, &settings.data, &instants, watch)?;
    if let Some(second) = &second {
        let data = second.data.path();
        settings.verify.ask(&mut verdict, &key.of_copy(1), data, &instants, watch)?;
        verdict.check_copies(&key, [&settings.data, data])?;
    }
    let traces = trace_both(&key, &settings.data, &instants)?;
    // Sessions end first: a router that says bye leaves nothing in a buffer.
    let world = Arc::clone(&performance.world);
    performance.finish()?;
    let lives = collector.stop()?;
    let (change_rows, log_bytes) = verdict.check_books(&world.key(), &settings.data)?;
    if let Some(Second { collector, data }) = second {
        collector.stop()?;
        verdict.check_books(&world.key().of_copy(1), data.path())?;
    }
    let total = |metric| owned::total(&lives, metric);
    report.collector = Some(CollectorReport {
        received_bytes: total(Metric::ReceivedBytes),
        change_rows,
        log_bytes,
        restarts: lives.len().saturating_sub(1),
        connections_per_shard: owned::connections_per_shard(&lives),
        clock_backwards: total(Metric::ClockBackwards),
        clock_far: total(Metric::ClockFar),
    });
    report.verdict = Some(verdict);
    Ok(Demonstration { report, records, traces })
}

/// Traces one LSP that the failure moved, as of the first and the last of the instants: a VPN's,
/// where there is one.
fn trace_both(
    key: &AnswerKey<'_>,
    data: &Path,
    instants: &[(String, Micros)],
) -> Result<Vec<String>, QueryError> {
    let [(_, before), .., (_, after)] = instants else { return Ok(Vec::new()) };
    let Some(question) = moved(key, [*before, *after]) else { return Ok(Vec::new()) };
    let head = key.network.topology.routers[question.head].id;
    let selector = Selector::Fec(key.fec(&question));
    let mut texts = Vec::new();
    for at in [before, after] {
        let report =
            query::trace(data, &head.to_string(), selector, Follow::Primaries, *at, None)?.value;
        texts.push(render_trace(&report, Format::Table));
    }
    Ok(texts)
}

fn moved(key: &AnswerKey<'_>, instants: [Micros; 2]) -> Option<Question> {
    let [before, after] = [key.state_at(instants[0])?, key.state_at(instants[1])?];
    let (vpn, plain): (Vec<Question>, Vec<Question>) =
        key.questions().partition(|question| matches!(question.target, Target::Vpn(_)));
    let mut questions = vpn.into_iter().chain(plain);
    questions.find(|question| {
        let ways = [before, after].map(|state| key.walk(state, question));
        let [Some(Way::Delivered(old)), Some(Way::Delivered(new))] = ways else { return false };
        old != new && old.len() == 1 && new.len() == 1
    })
}
