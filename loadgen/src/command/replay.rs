//! `stormgen replay`: recorded sessions, sent again.
//!
//! In:   files of recorded bytes, where to, at which pace.
//! Out:  a report of what was sent.
//! Law:  a phase that waits for somebody waits for a line on standard input.
//! Not:  recordings and senders (`replay`).

use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tuning::host::description;

use super::error::{CommandError, host};
use super::shape::source_base;
use super::told::{Format, Told, json, print};
use crate::page;
use crate::replay::{Recording, ReplayError, ReplaySettings, read_phases, replay};
use crate::show::Show;
use crate::stage::Look;

#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    /// Recorded bytes; times are taken from the file of the same name ending in .idx, if any.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The collector.
    #[arg(long, value_name = "ADDR")]
    target: SocketAddr,
    /// At once, not at the recorded pace.
    #[arg(long)]
    fast: bool,
    /// Lines `name seconds`: before each phase but the first, wait for a line on standard input.
    #[arg(long, value_name = "FILE")]
    pause_at: Option<PathBuf>,
    /// Seconds that each connection stays open behind its last byte. A router that has gone is
    /// unknown, and the end of an FPM dump shows by 2 s of silence (snapshot_quiet_ms).
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    hold: u32,
    /// Source address of the first file, the others count on from it. Default: 127.0.1.1 for a
    /// target on loopback, otherwise whatever this host chooses.
    #[arg(long, value_name = "IP")]
    source_base: Option<IpAddr>,
    #[command(flatten)]
    told: Told,
}

/// Sends them.
pub(super) fn replay_files(arguments: &ReplayArguments) -> Result<bool, CommandError> {
    let recordings: Result<Vec<Recording>, ReplayError> =
        arguments.files.iter().map(|path| Recording::read(path)).collect();
    let phases = match &arguments.pause_at {
        Some(path) => read_phases(path)?,
        None => Vec::new(),
    };
    let settings = ReplaySettings {
        target: arguments.target,
        source_base: source_base(arguments.source_base, arguments.target, [127, 0, 1, 1]),
        fast: arguments.fast,
        phases,
        hold: Duration::from_secs(arguments.hold.into()),
    };
    arguments.told.make_folder()?;
    let mut show = Show::new(arguments.told.quiet);
    let watch = Box::new(move |done, all| {
        show.look(&Look { act: "replay", done, all, progress: None });
    });
    let replayed = replay(recordings?, settings, wait_for_line, watch)?;
    if let Some(folder) = &arguments.told.report {
        let target = arguments.target.to_string();
        let html = page::replay_page(&replayed, &target, &description(Path::new(".")));
        page::write(folder, &html, &replayed).map_err(host("--report"))?;
    }
    match arguments.told.format {
        Format::Text => print(&replayed.to_string())?,
        Format::Json => print(&json(&replayed))?,
    }
    Ok(true)
}

/// The end of standard input counts as a line: a program that goes away holds nothing up.
fn wait_for_line(phase: &str) {
    eprintln!("phase {phase} is next: press Enter");
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}
