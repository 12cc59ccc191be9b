//! When an LSP changed: the changes next to an instant, of all entries on its way together.
//!
//! In:   a data folder, a head, a FEC or label, an instant.
//! Out:  the change at or before it, and the one after it, as far as is looked.
//! Law:  only what is on the way counts: an entry that the packet does not meet is not looked at.
//! Not:  the way itself (`paths`), one router's history (`events`).

use std::collections::BTreeSet;
use std::path::Path;

use storage::allowance::Allowance;
use storage::history::UnknownCause;
use storage::history::explore::Explorer;
use storage::history::walk::{Broken, Follow, Onward, Step, Verdict, Walk};
use storage::log::{Filter, ReadReport, log_files, read_file};
use storage::mapping::{Fec, Key, Label, Mapping, RouterId};
use storage::row::{Row, Scope, SessionEvent};
use storage::time::{Hour, MICROS_PER_HOUR, Micros};

use super::network::meant_router;
use super::{Answered, FILED_AHEAD_US_MAX, Instant, QueryError, Selector, folder};

/// Hours of the log that are read for the change that comes next.
const HOURS_MAX: i64 = 48;

/// The changes of an LSP next to an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LspChanges {
    /// The last change before the instant: since then the way was as just before the instant.
    pub previous: Option<Micros>,
    /// The first change after it.
    pub next: Option<Micros>,
    /// How far was looked for the next.
    pub looked_until: Micros,
}

/// Looks for them; `now` bounds how far.
pub fn lsp_changes(
    data: &Path,
    head: &str,
    selector: Selector,
    follow: Follow,
    at: impl Into<Instant>,
    now: Micros,
    allowance: Option<&Allowance>,
) -> Result<Answered<LspChanges>, QueryError> {
    let at = at.into();
    let before = at.time().offset(-1);
    let mut earlier = Explorer::open(folder(data)?, before, allowance)?;
    let head = meant_router(data, head, earlier.names())?;
    let previous =
        since(&earlier.trace(head, selector.start(), follow)?).filter(|time| *time <= before);
    let mut report = earlier.report().clone();
    drop(earlier);
    let (Instant::At(at) | Instant::Then { at, .. }) = at else {
        // Everything that has been read counts already: nothing comes after it.
        let changes = LspChanges { previous, next: None, looked_until: now };
        return Ok(Answered::new(changes, &report));
    };
    let mut then = Explorer::open(data, at, allowance)?;
    let walked = then.trace(head, selector.start(), follow)?;
    let doubtful = in_doubt(&walked);
    report.add(then.report());
    drop(then);
    let (next, looked_until, read) = next_change(data, &walked, &doubtful, at, now, allowance)?;
    report.add(&read);
    Ok(Answered::new(LspChanges { previous, next, looked_until }, &report))
}

/// Since when the way has been as it is: the latest of everything on it that has a beginning.
fn since(walk: &Walk) -> Option<Micros> {
    let of_end = |end: &Verdict| match end {
        Verdict::Broken { why: Broken::Withdrawn(time), .. } => Some(*time),
        Verdict::Unknown { unknown, .. } => unknown.since,
        _ => None,
    };
    let of_step = |step: &Step| {
        let met = step.met.as_ref().map(|met| met.active_since);
        let ends = step.branches.iter().filter_map(|branch| match &branch.onward {
            Onward::End(end) => of_end(end),
            Onward::Step(_) | Onward::Backup => None,
        });
        ends.chain(met).chain(step.end.as_ref().and_then(of_end)).max()
    };
    walk.steps.iter().filter_map(of_step).max()
}

/// Routers on the way that cannot be vouched for, until a snapshot of theirs is complete: that is a
/// change.
fn in_doubt(walk: &Walk) -> BTreeSet<RouterId> {
    use UnknownCause::{NeverComplete, RestGap, RouterGap};
    let is_until_snapshot =
        |cause: &UnknownCause| matches!(cause, RouterGap(_) | RestGap(_) | NeverComplete);
    let doubtful = walk.verdicts().into_iter().filter_map(|verdict| match verdict {
        Verdict::Unknown { here, unknown } if is_until_snapshot(&unknown.cause) => Some(here),
        _ => None,
    });
    doubtful.collect()
}

/// The earliest change after `at` of what is on the way. Rows lie in the hour in which they were
/// collected: what counts earlier may have come later, as far as is looked.
fn next_change(
    data: &Path,
    walk: &Walk,
    doubtful: &BTreeSet<RouterId>,
    at: Micros,
    now: Micros,
    allowance: Option<&Allowance>,
) -> Result<(Option<Micros>, Micros, ReadReport), QueryError> {
    let among: BTreeSet<RouterId> = walk.steps.iter().map(|step| step.router).collect();
    let filter =
        Filter { among: Some(&among), changes: true, sessions: true, allowance, ..Filter::NONE };
    let on_way = OnWay::of(walk);
    let first = at.offset(-FILED_AHEAD_US_MAX).hour();
    let last = Hour(first.0 + HOURS_MAX);
    let mut report = ReadReport::default();
    let mut found: Option<Micros> = None;
    for file in log_files(data)? {
        let is_past = found.is_some_and(|time| file.hour.start() > time.offset(MICROS_PER_HOUR));
        if file.hour < first || file.hour > last || is_past {
            continue;
        }
        read_file(&file, &filter, &mut report, &mut |row| {
            let time = match &row {
                Row::Change(change) => {
                    let is_met = on_way.has(change.stamp.router, &change.mapping);
                    is_met.then_some(change.stamp.effective_time)
                }
                Row::Session(session) => match &session.event {
                    SessionEvent::Gap { start, scope: Scope::Router | Scope::Rest, .. } => {
                        Some(*start)
                    }
                    SessionEvent::SnapshotComplete { .. } => {
                        doubtful.contains(&session.router).then_some(session.time)
                    }
                    _ => None,
                },
                Row::Ledger(_) | Row::Kernel(_) => None,
            };
            if let Some(time) = time.filter(|time| *time > at) {
                found = Some(found.map_or(time, |earlier| earlier.min(time)));
            }
        })?;
    }
    let looked_until = last.next().start().min(now);
    Ok((found, looked_until, report))
}

/// What the packet meets on its way, or would meet if it were there: looked up with every row.
struct OnWay {
    met: BTreeSet<(RouterId, Key)>,
    /// Labels and FECs that met nothing.
    missed: BTreeSet<(RouterId, Option<Label>)>,
    entered: Option<Fec>,
}

impl OnWay {
    fn of(walk: &Walk) -> OnWay {
        let (mut met, mut missed) = (BTreeSet::new(), BTreeSet::new());
        for step in &walk.steps {
            match &step.met {
                Some(entry) => drop(met.insert((step.router, entry.key))),
                None => drop(missed.insert((step.router, step.stack.first().copied()))),
            }
        }
        OnWay { met, missed, entered: walk.entered }
    }

    fn has(&self, router: RouterId, mapping: &Mapping) -> bool {
        let label = mapping.ingress.label;
        let is_missed = || label.is_some() || self.entered == Some(mapping.fec);
        self.met.contains(&(router, mapping.key()))
            || (is_missed() && self.missed.contains(&(router, label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::sample;

    const PRIMARIES: Follow = Follow::Primaries;

    #[test]
    fn the_changes_of_a_way_are_those_of_all_its_routers() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = sample::write(folder.path());
        let selector = sample::CUSTOMER.parse().unwrap();
        let ask = |at: Micros| {
            let changes =
                lsp_changes(folder.path(), "pe1", selector, PRIMARIES, at, sample::NOW, None)
                    .unwrap()
                    .value;
            (changes.previous, changes.next)
        };
        let (withdrawn, around) = (sample::FAILURE.offset(50_000), sample::FAILURE.offset(200_000));
        // From now back: pe1 went round; before that p2 had withdrawn; before that all was set up.
        assert_eq!(ask(sample::NOW), (Some(around), None));
        assert_eq!(ask(around), (Some(withdrawn), None));
        let (set_up, next) = ask(withdrawn);
        assert_eq!(next, Some(around));
        assert_eq!(set_up, Some(sample::START));
        // And forward. p2 is lost later, when the way no longer leads over it.
        assert_eq!(ask(sample::START.offset(1_000_000)).1, Some(withdrawn));
        assert_eq!(ask(withdrawn.offset(-1)).1, Some(withdrawn));
        // Before their tables were complete nobody could say that there was no other way.
        let complete = sample::START.offset(1_000_000);
        assert_eq!(ask(sample::START), (None, Some(complete)));
    }

    #[test]
    fn the_beginning_of_a_gap_on_the_way_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = sample::write(folder.path());
        let ask = |at: Micros| {
            let selector = "label:21".parse().unwrap();
            lsp_changes(folder.path(), "p2", selector, PRIMARIES, at, sample::NOW, None)
                .unwrap()
                .value
        };
        assert_eq!(ask(sample::LOST.offset(-1)).next, Some(sample::LOST));
        assert_eq!(ask(sample::NOW).previous, Some(sample::LOST));
    }
}
