//! Retention: which hours of the log go, and which state files nobody needs any more.
//!
//! In:   what is to be kept, in hours or bytes; the files, and how far states cover them.
//! Out:  the first hour that can be asked about; files and folders removed.
//! Law:  first the directory says that they are gone, then they go: a crash in between loses
//!       nothing, and the next round finishes.
//! Not:  making the states that must come first (`round`).

use std::collections::BTreeSet;
use std::path::Path;

use super::super::layout::LOG_FOLDER;
use super::super::recover::is_ours;
use super::super::{LogError, LogFile, entries, kernel_files, log_files};
use super::chain::{Chain, States, state_files};
use super::directory::FileEntry;
use crate::time::Hour;

/// How much of the log is kept. A question about the first instant that is kept needs the rows
/// that no state had then: up to a day of log before it stays too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retain {
    /// The hour that is open: it stays, whatever its size.
    pub before: Hour,
    /// Finished hours that can be asked about; 0 = all.
    pub hours: u64,
    /// Bytes of log and state files; 0 = all.
    pub bytes: u64,
}

/// Whether the beginning of the log has been deleted, as `Retain` says.
pub fn is_cut(data: &Path) -> Result<bool, LogError> {
    Ok(States::open(data)?.newest()?.horizon > Hour::default())
}

/// What is to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// The first hour that can be asked about.
    pub(super) horizon: Hour,
    /// More should go than states allow yet.
    pub(super) is_short: bool,
}

/// What `retain` asks for. An hour that has gone never comes back.
pub(super) fn horizon(
    data: &Path,
    retain: &Retain,
    files: &[LogFile],
    chain: &Chain,
) -> Result<Kept, LogError> {
    let mut horizon = chain.horizon;
    if let Some(hours) = i64::try_from(retain.hours).ok().filter(|hours| *hours > 0) {
        let oldest = Hour(retain.before.0.saturating_sub(hours));
        // What was never there is not missing.
        let first = files.first().map_or(retain.before, |file| file.hour);
        if first < oldest {
            horizon = horizon.max(oldest);
        }
    }
    let Some(from) = fitting(data, retain.bytes, files)? else {
        return Ok(Kept { horizon, is_short: false });
    };
    let mut states = States::open(data)?;
    let mut least = horizon.max(from);
    while least < retain.before && needed_from(&mut states, chain, least)? < from {
        least = least.next();
    }
    let is_short = least >= retain.before;
    Ok(Kept { horizon: horizon.max(least.min(retain.before)), is_short })
}

/// The first hour that fits into so many bytes with all that follow; `None` = everything does.
fn fitting(data: &Path, bytes: u64, files: &[LogFile]) -> Result<Option<Hour>, LogError> {
    if bytes == 0 {
        return Ok(None);
    }
    let mut sum = 0_u64;
    for (_, path) in state_files(data)?.into_values() {
        sum = sum.saturating_add(path.metadata().map_or(0, |metadata| metadata.len()));
    }
    let mut kernel = kernel_files(data)?;
    let does_not_fit = |file: &&LogFile| {
        // What the kernel said in that hour and since goes with it.
        while let Some(of_kernel) = kernel.pop_if(|of_kernel| of_kernel.hour >= file.hour) {
            sum = sum.saturating_add(of_kernel.length);
        }
        sum = sum.saturating_add(file.length);
        sum > bytes
    };
    Ok(files.iter().rev().find(does_not_fit).map(|file| file.hour.next()))
}

/// The first hour of the log that a question about an instant of this hour, or later, reads.
fn needed_from(states: &mut States, chain: &Chain, hour: Hour) -> Result<Hour, LogError> {
    let included = states.included_at(hour.start())?;
    let is_needed = |covered: &[(u32, u64)]| covered.last().is_none_or(|last| last.0 > included);
    let needed = chain.files.values().filter(|entry| is_needed(&entry.covered));
    Ok(needed.map(|entry| entry.hour).min().map_or(hour, |first| first.min(hour)))
}

/// The log from this hour on is still needed, by questions about the horizon or because no state
/// includes it.
pub(super) fn kept_from(data: &Path, chain: &Chain) -> Result<Hour, LogError> {
    if chain.horizon <= Hour::default() {
        return Ok(chain.kept_from);
    }
    let needed = needed_from(&mut States::open(data)?, chain, chain.horizon)?;
    let is_uncovered = |file: &LogFile| {
        let entry = chain.files.get(&(file.hour, file.shard));
        file.hour >= chain.kept_from && entry.map_or(0, FileEntry::covered) < file.length
    };
    let uncovered = log_files(data)?.into_iter().find(is_uncovered).map(|file| file.hour);
    Ok(uncovered.map_or(needed, |hour| hour.min(needed)).max(chain.kept_from))
}

/// Removes the hours that the newest directory says are gone, and the state files that neither a
/// start nor a question about an instant that is kept reads.
pub(super) fn sweep(data: &Path) -> Result<(), LogError> {
    let mut states = States::open(data)?;
    let chain = states.newest()?;
    for (name, folder) in entries(&data.join(LOG_FOLDER))? {
        let Ok(hour) = name.parse::<Hour>() else { continue };
        if hour >= chain.kept_from {
            continue;
        }
        for (name, path) in entries(&folder)? {
            if is_ours(&name) {
                std::fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
            }
        }
        // Something of somebody else's may lie in it: then it stays.
        let _ = std::fs::remove_dir(&folder);
    }
    sweep_states(&mut states, chain.horizon)
}

fn sweep_states(states: &mut States, horizon: Hour) -> Result<(), LogError> {
    let Some(first) = states.first_needed(horizon)? else { return Ok(()) };
    // A state that is not written anew for a week lies in an older file.
    let Some(directory) = states.directory(first)? else { return Ok(()) };
    let states_of = directory.routers.iter().filter_map(|(_, entry)| entry.state);
    let needed: BTreeSet<u32> = states_of.map(|state| state.round).collect();
    for (round, path) in states.paths() {
        if round < first && !needed.contains(&round) {
            std::fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
        }
    }
    Ok(())
}
