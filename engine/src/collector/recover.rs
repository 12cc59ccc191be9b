//! Recovery at the start: routers' states, and the rows that must be durable before all others.
//!
//! In:   the data folder of the process before; the routers that the settings name.
//! Out:  the states; `Configured`, which knows what the log says of the settings.
//! Law:  the gaps of lost sessions are durable before a router can open a new session.
//! Not:  folding rows (`storage::recovery`), threads (`collector`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use storage::log::BlockBuilder;
use storage::mapping::RouterId;
use storage::recovery;
use storage::router::RouterState;
use storage::row::{SessionEvent, SessionRow};
use storage::time::Micros;

use super::StartError;
use crate::io::disk;
use crate::policy::{Policy, RouterEntry};
use crate::query::RowsMissing;

pub(super) type Routers = BTreeMap<RouterId, Box<RouterState>>;

/// Rebuilds the routers' states, and makes durable what that found, before anything else is
/// written: the gaps of lost sessions, and the names that the settings give now. Says too where
/// rows could not be read.
pub(super) fn recover(
    data: &Path,
    policy: &Policy,
    now: Micros,
) -> Result<(Routers, Configured, Vec<RowsMissing>), StartError> {
    let mut recovered = recovery::open(data, now)?;
    for cut in &recovered.cuts {
        tracing::warn!(
            %cut,
            "the end of a log file is no whole block, and no later one proves that it was durable: \
             it was cut, and is kept"
        );
    }
    for damage in &recovered.report.damages {
        tracing::error!(%damage, "the data is damaged: run `stormdrain verify`, mend the disk");
    }
    let lost_sessions = recovered.rows.len() / 2;
    let (configured, names) = Configured::start(&mut recovered.routers, policy, now);
    recovered.rows.extend(names);
    if !recovered.rows.is_empty() {
        let mut builder = BlockBuilder::new(0);
        let mut block = Vec::new();
        recovered.rows.iter().for_each(|row| builder.session(row));
        builder.finish(&mut block);
        disk::append_now(data, 0, now.hour(), &block).map_err(|source| {
            let (data, room) = (data.to_owned(), disk::Room::at(data));
            StartError::Write { data, room, source }
        })?;
    }
    let routers = recovered.routers.len();
    let (states, bytes) = (recovered.report.states, recovered.report.bytes);
    tracing::info!(routers, lost_sessions, states, bytes, "recovered");
    Ok((recovered.routers, configured, RowsMissing::of(&recovered.report.damages)))
}

/// What the log knows of the settings: name and addresses per router, and where its next row of
/// that kind goes. Their places count apart from those of sessions, so no shard is asked.
#[derive(Debug, Default)]
pub(super) struct Configured {
    states: Mutex<Routers>,
}

impl Configured {
    /// Takes up what the log knew, and makes the rows that say what the settings name now.
    fn start(routers: &mut Routers, policy: &Policy, now: Micros) -> (Configured, Vec<SessionRow>) {
        let mut states = Routers::new();
        let mut rows = Vec::new();
        let known: Vec<RouterId> = routers.keys().copied().collect();
        let named = policy.routers().iter().map(|entry| entry.id);
        for router in known.into_iter().chain(named).collect::<BTreeSet<_>>() {
            let entry = policy.entry(router);
            let fresh = || Box::new(RouterState::new(router));
            let forgotten = routers.get(&router).is_some_and(|state| is_configured(state));
            if entry.is_some() || forgotten {
                let state = routers.entry(router).or_insert_with(fresh);
                let row = state.session_row(now, event_of(entry));
                states.entry(router).or_insert_with(fresh).replay_session(&row);
                rows.push(row);
            }
        }
        (Configured { states: Mutex::new(states) }, rows)
    }

    /// The rows that say what a new policy names otherwise than the one before.
    pub(super) fn update(&self, policy: &Policy, now: Micros) -> Vec<SessionRow> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in policy.routers() {
            states.entry(entry.id).or_insert_with(|| Box::new(RouterState::new(entry.id)));
        }
        let changed = states.values_mut().filter_map(|state| {
            let event = event_of(policy.entry(state.router));
            let same = matches!(&event, SessionEvent::Configured { name, interfaces }
                if *name == state.name && *interfaces == state.interfaces_configured);
            (!same).then(|| state.session_row(now, event))
        });
        changed.collect()
    }
}

fn is_configured(state: &RouterState) -> bool {
    !state.name.is_empty() || !state.interfaces_configured.is_empty()
}

/// What the settings say of a router; of one that they no longer name, nothing.
fn event_of(entry: Option<&RouterEntry>) -> SessionEvent {
    SessionEvent::Configured {
        name: entry.map(|entry| entry.name.clone()).unwrap_or_default(),
        interfaces: entry.map(|entry| entry.interfaces.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use storage::log::{Filter, read};
    use storage::row::Row;

    use super::*;
    use crate::settings::Settings;

    const NOW: Micros = Micros(1_800_000_000_000_000);

    fn policy(names: &[(u8, &str)]) -> Policy {
        let routers = names.iter().map(|(last, name)| RouterEntry {
            id: RouterId([192, 0, 2, *last].into()),
            name: (*name).into(),
            ..RouterEntry::default()
        });
        Policy::new(&Settings { routers: routers.collect(), ..Settings::default() })
    }

    fn names(rows: &[SessionRow]) -> Vec<(String, String, u32)> {
        let name = |row: &SessionRow| match &row.event {
            SessionEvent::Configured { name, .. } => name.to_string(),
            other => panic!("{other:?}"),
        };
        let triple =
            |row| (SessionRow::clone(row).router.to_string(), name(row), row.position.index);
        rows.iter().map(triple).collect()
    }

    #[test]
    fn names_are_in_the_log_before_anything_else_and_count_on_over_restarts() {
        let data = tempfile::tempdir().unwrap();
        let (routers, configured, _) =
            recover(data.path(), &policy(&[(1, "pe1"), (2, "pe2")]), NOW).unwrap();
        assert_eq!(routers.len(), 2);
        let update = configured.update(&policy(&[(1, "pe1"), (2, "pe3"), (4, "new")]), NOW);
        let expected = [("192.0.2.2", "pe3", 2), ("192.0.2.4", "new", 1)];
        assert_eq!(names(&update), expected.map(|(id, name, at)| (id.into(), name.into(), at)));
        assert_eq!(configured.update(&policy(&[(1, "pe1"), (2, "pe3"), (4, "new")]), NOW), []);
        drop(configured);

        // The second start knows the log; router 2 has gone from the settings.
        let (routers, _, _) = recover(data.path(), &policy(&[(1, "pe1")]), NOW).unwrap();
        assert_eq!(&*routers[&RouterId([192, 0, 2, 1].into())].name, "pe1");
        assert_eq!(&*routers[&RouterId([192, 0, 2, 2].into())].name, "");
        let mut rows = Vec::new();
        let filter = Filter { sessions: true, ..Filter::NONE };
        read(data.path(), &filter, &mut |row| {
            if let Row::Session(row) = row {
                rows.push(row);
            }
        })
        .unwrap();
        let expected = [
            ("192.0.2.1", "pe1", 1),
            ("192.0.2.2", "pe2", 1),
            ("192.0.2.1", "pe1", 2),
            ("192.0.2.2", "", 2),
        ];
        assert_eq!(names(&rows), expected.map(|(id, name, at)| (id.into(), name.into(), at)));
    }
}
