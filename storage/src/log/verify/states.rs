//! Verifies state files: every directory and every state in them, by checksum and by count.
//!
//! In:   the state folder.
//! Out:  faults, added to the report.
//! Law:  a file that a round has published has no fault, whatever crashed when.
//! Not:  folding the log anew to compare (the tests and the simulation do that).

use std::path::Path;

use super::super::LogError;
use super::super::state::{Depth, States};
use super::VerifyReport;

/// Reads every state file. A state that an older file holds is read where it lies.
pub(super) fn verify_states(data: &Path, report: &mut VerifyReport) -> Result<(), LogError> {
    let mut states = States::open(data)?;
    for (round, path) in states.paths() {
        report.state_files += 1;
        let Some(directory) = states.directory(round)? else { continue };
        if directory.previous != 0 && !states.has(directory.previous) {
            let what = format!("it builds on round {}, which is gone", directory.previous);
            report.fault(&path, 0, what);
        }
        for (router, entry) in &directory.routers {
            let Some(at) = entry.state else { continue };
            if !states.has(at.round) {
                let what = format!("router {router}: its state of round {} is gone", at.round);
                report.fault(&path, 0, what);
                continue;
            }
            if at.round != round {
                continue;
            }
            let Some(state) = states.state(*router, &at, Depth::Table)? else { continue };
            report.states += 1;
            let entries = state.table.len() as u64;
            if entries != at.entries {
                let expected = at.entries;
                let what = format!("router {router}: {entries} entries, expected {expected}");
                report.fault(&path, at.offset, what);
            }
        }
    }
    for damage in std::mem::take(&mut states.damages) {
        let what = format!("expected {}, found {}", damage.expected, damage.found);
        report.fault(&damage.path, damage.offset, what);
    }
    Ok(())
}
