//! Two collectors that were told the same.
//!
//! In:   their data folders.
//! Out:  findings: rows that one has and the other has not, or otherwise.
//! Law:  what identifies a change is what the router said, never when or where it was read.
//! Not:  whether either is right (`rows`).

use std::collections::BTreeMap;
use std::path::Path;

use engine::query::{self, HistoryRow, QueryError, Range};
use storage::mapping::{Key, Mapping, RouterId};
use storage::time::Micros;

use super::tables::same_value;
use super::{Findings, Verdict};
use crate::answer::AnswerKey;

/// The changes of one key, in order: what was said, and when.
type Said = BTreeMap<Key, Vec<(Micros, Mapping)>>;

impl Verdict {
    /// Compares what the two have of every router: merged they are what each of them is.
    pub fn check_copies(
        &mut self,
        key: &AnswerKey<'_>,
        data: [&Path; 2],
    ) -> Result<(), QueryError> {
        let mut findings = Findings::default();
        for router in &key.network.topology.routers {
            let [one, other] = data.map(|data| said(data, router.id));
            compare(router.id, &one?, &other?, &mut findings);
        }
        self.add("copies of two collectors, row by row".to_owned(), findings);
        Ok(())
    }
}

fn said(data: &Path, router: RouterId) -> Result<Said, QueryError> {
    let mut changes: Vec<_> = query::history(data, router, None, Range::ALL)?
        .value
        .into_iter()
        .filter_map(|row| match row {
            HistoryRow::Change(change) => Some(change),
            _ => None,
        })
        .collect();
    changes.sort_by_key(|change| change.stamp.position);
    let mut said = Said::new();
    for change in changes {
        let (of_key, time) = (change.mapping.key(), change.mapping.event_time);
        said.entry(of_key).or_default().push((time, change.mapping));
    }
    Ok(said)
}

fn compare(router: RouterId, one: &Said, other: &Said, findings: &mut Findings) {
    let keys: std::collections::BTreeSet<&Key> = one.keys().chain(other.keys()).collect();
    let of_key = |said: &Said, of_key: &Key| said.get(of_key).cloned().unwrap_or_default();
    for key in keys {
        let [one, other] = [one, other].map(|said| of_key(said, key));
        findings.answers += one.len().max(other.len()) as u64;
        let same =
            |((time, value), (other_time, other)): (&(Micros, Mapping), &(Micros, Mapping))| {
                time == other_time && same_value(value, other)
            };
        if one.len() != other.len() || !one.iter().zip(&other).all(same) {
            let (one, other) = (one.len(), other.len());
            findings.differ(format_args!(
                "{router} {key}: {one} rows in one copy, {other} in the other, or other ones"
            ));
        }
    }
}
