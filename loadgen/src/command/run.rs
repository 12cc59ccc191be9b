//! `stormgen run`: the workload against a collector that runs elsewhere.
//!
//! In:   the shape of a network; where the collector listens, and where its data lies.
//! Out:  a report, with a verdict where the data can be read.
//! Law:  what cannot be right is found before the first connection.
//! Not:  acts and verdicts themselves (`stage`, `verdict`).

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use engine::query::folder;
use tuning::counters::Counters;

use super::error::CommandError;
use super::processes::ProcessArguments;
use super::shape::{ShapeArguments, positive, routers, source_base};
use super::told::{Format, Told, json, print, write_page};
use crate::crew::troupe::perform_together;
use crate::faults::Fault;
use crate::record::Recorder;
use crate::report::{KernelReport, Report};
use crate::show::Show;
use crate::stage::{Look, StageSettings, perform};
use crate::verdict::{Verdict, await_books};

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The collector.
    #[arg(long, value_name = "ADDR")]
    target: SocketAddr,
    #[command(flatten)]
    shape: ShapeArguments,
    /// Source address of the first router, the others count on from it. Default: 127.16.0.1 for
    /// a target on loopback, otherwise whatever this host chooses.
    #[arg(long, value_name = "IP")]
    source_base: Option<IpAddr>,
    /// Sender threads of each process.
    #[arg(long, default_value_t = 1, value_parser = positive::<usize>)]
    threads: usize,
    #[command(flatten)]
    processes: ProcessArguments,
    /// Seconds that one act may take.
    #[arg(long, default_value_t = 300, value_parser = positive::<u64>)]
    timeout: u64,
    /// The collector's data folder, when it is on this host and was empty: every answer is
    /// compared.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A second collector that every router tells the same: the fault `duplicate`.
    #[arg(long, value_name = "ADDR")]
    second_target: Option<SocketAddr>,
    /// The second collector's data folder: its answers are compared too, and both with each other.
    #[arg(long, value_name = "DIR", requires_all = ["second_target", "data"])]
    second_data: Option<PathBuf>,
    /// Process that belongs to the run (the collector, when it is on this host): its CPU is not
    /// counted as that of others. May be given several times.
    #[arg(long, value_name = "PID")]
    beside: Vec<u32>,
    #[command(flatten)]
    told: Told,
}

impl RunArguments {
    pub(super) fn settings(&self) -> Result<StageSettings, CommandError> {
        Ok(StageSettings {
            target: self.target,
            model: self.shape.model()?,
            routers_per_second: self.shape.rate,
            source_base: source_base(
                self.source_base.or(self.shape.ipv6_source(self.target)),
                self.target,
                [127, 16, 0, 1],
            ),
            threads: self.threads,
            act_timeout: Duration::from_secs(self.timeout),
            second_target: self.second_target,
        })
    }
}

/// Runs it. `false` = the verdict is not exact.
pub(super) fn perform_elsewhere(arguments: &RunArguments) -> Result<bool, CommandError> {
    let settings = arguments.settings()?;
    if settings.model.has(Fault::Duplicate) && settings.second_target.is_none() {
        return Err(CommandError::SecondTarget);
    }
    settings.try_source()?;
    let routers = routers(&settings.model)?;
    let cast = arguments.processes.cast(routers, routers)?;
    for data in arguments.data.iter().chain(&arguments.second_data) {
        // Before minutes of load, not behind them.
        folder(data)?;
    }
    settings.try_targets()?;
    arguments.told.make_folder()?;
    let counters = Counters::read();
    let mut show = Show::new(arguments.told.quiet);
    let mut recorder = Recorder::new(arguments.beside.clone(), None);
    let mut look = |look: &Look<'_>| {
        recorder.look(look);
        show.look(look);
    };
    let performance = match &cast {
        None => perform(&settings, &mut look)?,
        Some(cast) => perform_together(&settings, cast, &mut look)?,
    };
    let records = recorder.into_acts();
    let mut report = Report::new(settings.model.seed, &performance);
    report.judge(&records);
    report.note_elsewhere(&performance.world.plan);
    report.kernel = match (&counters, Counters::read()) {
        (Ok(before), Ok(after)) => Some(KernelReport::new(before, &after)),
        _ => None,
    };
    if let Some(data) = &arguments.data {
        let mut verdict = Verdict::default();
        let (key, instants) = (performance.world.key(), performance.instants());
        let verify = arguments.shape.verify();
        verify.ask(&mut verdict, &key, data, &instants, &mut |look| show.look(look))?;
        if let Some(second) = &arguments.second_data {
            let key = key.of_copy(1);
            verify.ask(&mut verdict, &key, second, &instants, &mut |look| show.look(look))?;
            verdict.check_copies(&key, [data, second])?;
        }
        report.verdict = Some(verdict);
    }
    // Sessions end first: a router that says bye leaves nothing in a buffer.
    let world = Arc::clone(&performance.world);
    performance.finish()?;
    if let Some(verdict) = &mut report.verdict {
        let folders = arguments.data.iter().chain(&arguments.second_data);
        for (copy, data) in folders.enumerate() {
            await_books(data)?;
            verdict.check_books(&world.key().of_copy(copy), data)?;
        }
    }
    show.end();
    let data = arguments.data.as_deref().unwrap_or(Path::new("."));
    write_page(arguments.told.report.as_deref(), data, &report, &records)?;
    match arguments.told.format {
        Format::Text => print(&report.to_string())?,
        Format::Json => print(&json(&report))?,
    }
    Ok(report.is_good())
}
