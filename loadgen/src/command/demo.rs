//! `stormgen demo`: collector, storm and verdict in one process.
//!
//! In:   the shape of a network; how the collector is set.
//! Out:  a report with a verdict.
//! Law:  what it writes outside `--data` and `--report` is gone when it ends.
//! Not:  the demonstration itself (`demo`).

use std::path::PathBuf;

use clap::Args;
use engine::settings::{IoChoice, Settings};

use super::error::{CommandError, host};
use super::processes::{self, ProcessArguments};
use super::shape::{ShapeArguments, routers, whole};
use super::told::{Format, Told, json, print, write_page};
use crate::demo::{DemoSettings, demonstrate_by};
use crate::show::Show;

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    #[command(flatten)]
    shape: ShapeArguments,
    /// Shards of the collector; 0 = one per CPU.
    #[arg(long, default_value_t = 0, value_parser = whole::<usize>)]
    shards: usize,
    /// How the collector drives its sockets: auto, uring or epoll.
    #[arg(long, default_value = "auto", value_parser = io_choice)]
    io: IoChoice,
    #[command(flatten)]
    processes: ProcessArguments,
    /// Keep the collector's data in this folder, which has none yet, instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    told: Told,
}

impl DemoArguments {
    pub(super) fn settings(&self, data: PathBuf) -> Result<DemoSettings, CommandError> {
        let mut collector = Settings { shards: self.shards, io: self.io, ..Settings::default() };
        let model = self.shape.model()?;
        collector.shards = processes::shards(self.shards, routers(&model)?);
        let routers_per_second = self.shape.rate;
        let verify = self.shape.verify();
        Ok(DemoSettings { model, routers_per_second, collector, data, verify })
    }
}

fn io_choice(text: &str) -> Result<IoChoice, String> {
    let choice = IoChoice::ALL.into_iter().find(|choice| choice.name() == text);
    choice.ok_or_else(|| "expected auto, uring or epoll".to_owned())
}

/// Runs it. `false` = the verdict is not exact.
pub(super) fn demo(arguments: &DemoArguments) -> Result<bool, CommandError> {
    // Removed when it is dropped, whatever happens before.
    let temporary = match arguments.data {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(host("a temporary folder"))?),
    };
    let given = arguments.data.clone();
    let data = given.or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned()));
    let settings = arguments.settings(data.unwrap_or_default())?;
    if settings.data.join("log").exists() {
        let path = settings.data.display().to_string();
        return Err(CommandError::NotEmpty { path });
    }
    arguments.told.make_folder()?;
    // Both ends of every connection may be descriptors of this process.
    let routers = routers(&settings.model)?;
    let cast = arguments.processes.cast(routers, 2 * routers)?;
    let mut show = Show::new(arguments.told.quiet);
    let demonstration = demonstrate_by(&settings, cast.as_ref(), &mut |look| show.look(look))?;
    show.end();
    write_page(
        arguments.told.report.as_deref(),
        &settings.data,
        &demonstration.report,
        &demonstration.records,
    )?;
    match arguments.told.format {
        Format::Text => print(&demonstration.to_string())?,
        Format::Json => print(&json(&demonstration.report))?,
    }
    Ok(demonstration.report.is_good())
}
