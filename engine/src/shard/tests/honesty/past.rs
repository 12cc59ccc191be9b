//! What an ideal collector would say of a router's table at an instant: the rule of comparison.
//!
//! In:   what happened in the router and when, and what of it the collector was told, and when.
//! Out:  the table that holds at an instant, as far as one who asks at another instant can know.
//! Law:  the rule at the head of `honesty`, and nothing softer.
//! Not:  what the collector answers (`judge`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use storage::mapping::Key;
use storage::time::Micros;

use super::truth::{Entry, Table};

/// One change of one entry, as it happened.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// When, in truth.
    pub(super) happened: Micros,
    /// The entry after it; `None` = there is none any more.
    pub(super) entry: Option<Rc<Entry>>,
    /// When the collector read it, and the time that an ideal collector files it under.
    pub(super) told: Option<(Micros, Micros)>,
    /// It will not be told, or not as it happened: from when on the collector can know that it
    /// knows nothing, and when it notices that.
    pub(super) lost: Option<(Micros, Micros)>,
    /// Between these two the collector may say what was before or what is after: a snapshot that
    /// proves nothing contradicts the clock.
    vague: Option<(Micros, Micros)>,
}

/// Everything that happened in one router.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    pub(super) events: BTreeMap<Key, Vec<Event>>,
    /// The last event of each key that was told, and since when the collector can take it for so.
    told: BTreeMap<Key, (usize, Micros)>,
    /// When the last snapshot began that was complete and showed the key, or its absence.
    proven: BTreeMap<Key, Option<Micros>>,
    /// When the last snapshot began that showed the key, complete or not, or ended that lacked it
    /// and may have hidden it.
    mentioned: BTreeMap<Key, Micros>,
    /// The same of every other key.
    proven_rest: Option<Micros>,
}

impl Past {
    /// The router's table changes; events of these keys are returned, to be told.
    pub(super) fn change(&mut self, now: Micros, from: &Table, to: &Table) -> Vec<(Key, usize)> {
        let mut changed = Vec::new();
        for key in from.keys().chain(to.keys()) {
            let is_known = changed.iter().any(|(known, _)| known == key);
            if from.get(key) != to.get(key) && !is_known {
                let events = self.events.entry(*key).or_default();
                let entry = to.get(key).cloned();
                let (told, lost, vague) = (None, None, None);
                events.push(Event { happened: now, entry, told, lost, vague });
                changed.push((*key, events.len() - 1));
            }
        }
        changed
    }

    /// The event that the key is at.
    pub(super) fn latest(&self, key: &Key) -> Option<usize> {
        self.events.get(key)?.len().checked_sub(1)
    }

    /// A snapshot that began then shows the key.
    pub(super) fn mention(&mut self, key: Key, begun: Micros) {
        self.mentioned.insert(key, begun);
    }

    /// A snapshot has ended that has not mentioned some keys, and may have hidden them.
    pub(super) fn lack(&mut self, ended: Micros, mentioned: &BTreeSet<Key>) {
        let lacked = self.told.keys().filter(|key| !mentioned.contains(key));
        self.mentioned.extend(lacked.map(|key| (*key, ended)));
    }

    /// The collector reads an event at `read`, with this time of the router's clock.
    pub(super) fn tell(&mut self, key: Key, index: usize, clock: Micros, read: Micros) {
        let before = self.told.get(&key).copied();
        if before.is_some_and(|(told, _)| told >= index) {
            return;
        }
        let Some(events) = self.events.get_mut(&key) else { return };
        let had = before.and_then(|before| events.get(before.0)?.entry.as_ref()).is_some();
        let repeats = before.is_some_and(|before| {
            let said = |index: usize| Some(&events.get(index)?.entry.as_ref()?.mapping);
            had && said(before.0) == said(index)
        });
        let Some(event) = events.get_mut(index) else { return };
        let own = clock.min(read);
        let proven = self.proven.get(&key).copied().unwrap_or(self.proven_rest);
        let known = before.map(|before| before.1).max(proven);
        // A clock that contradicts what the router itself has said before is not believed.
        let is_contradicted = known.is_some_and(|known| own < known);
        let filed = if is_contradicted { event.happened.max(own) } else { own };
        let is_vague = self.mentioned.get(&key).is_some_and(|begun| filed < *begun);
        event.vague = is_vague.then_some((filed, event.happened));
        event.told = Some((read, filed));
        // What the collector can be certain of: not when it truly happened, but after what. That
        // what it has never had is not there any more is no change.
        // Nor is that what it has is there; it may have been so since any time.
        let certain = match (had || event.entry.is_some()) && !repeats {
            true => known.map_or(own, |known| known.max(own)),
            false => before.map_or(Micros::MIN, |before| before.1),
        };
        self.told.insert(key, (index, certain));
    }

    /// Whether the collector was told last that there is an entry.
    pub(super) fn is_told(&self, key: &Key) -> bool {
        let told = self.told.get(key).and_then(|told| self.events.get(key)?.get(told.0));
        told.is_some_and(|event| event.entry.is_some())
    }

    /// A snapshot is complete; what it showed could be read.
    pub(super) fn show(&mut self, begun: Micros, shown: &BTreeSet<Key>) {
        self.proven.extend(shown.iter().map(|key| (*key, Some(begun))));
    }

    /// A snapshot is complete that has shown every entry but the keys that it did not mention.
    pub(super) fn sweep(&mut self, begun: Micros, read: Micros, mentioned: &BTreeSet<Key>) {
        // What was mentioned and could not be read is as it was before.
        let rest = self.proven_rest;
        let earlier = |key: &Key| (*key, self.proven.get(key).copied().unwrap_or(rest));
        self.proven = mentioned.iter().map(earlier).collect();
        self.proven_rest = Some(begun);
        let gone: Vec<(Key, usize)> = self
            .events
            .iter()
            .filter(|(key, events)| {
                let is_gone = events.last().is_some_and(|event| event.entry.is_none());
                // Of an entry that the collector has never had nothing ends.
                let told = self.told.get(key).and_then(|told| events.get(told.0));
                let was_told = told.is_some_and(|event| event.entry.is_some());
                is_gone && was_told && !mentioned.contains(key)
            })
            .map(|(key, events)| (*key, events.len() - 1))
            .collect();
        gone.into_iter().for_each(|(key, index)| self.tell(key, index, read, read));
    }

    /// The collector will not read an event as it happened. `evidence`: the last that it has read
    /// of the router before.
    pub(super) fn lose(&mut self, key: Key, index: usize, evidence: Micros, noticed: Micros) {
        let Some(event) = self.events.get_mut(&key).and_then(|events| events.get_mut(index)) else {
            return;
        };
        if event.told.is_none() {
            event.lost.get_or_insert((event.happened.max(evidence), noticed));
        }
    }

    /// Keys of which either of two answers is right at an instant.
    pub(super) fn vague(&self, at: Micros) -> BTreeSet<Key> {
        let is_vague = |event: &Event| event.vague.is_some_and(|(from, to)| from <= at && at < to);
        let keys = self.events.iter().filter(|(_, events)| events.iter().any(is_vague));
        keys.map(|(key, _)| *key).collect()
    }

    /// The table at an instant, as far as can be known at `asked`.
    pub(super) fn table(&self, at: Micros, asked: Micros) -> Table {
        let holds = |event: &&Event| {
            let told = event.told.filter(|told| told.0 <= asked).map(|told| told.1);
            let lost = event.lost.filter(|lost| lost.1 <= asked).map(|lost| lost.0);
            let from = told.into_iter().chain(lost).min();
            from.is_some_and(|from| from <= at)
        };
        let entry = |(key, events): (&Key, &Vec<Event>)| {
            let last = events.iter().rfind(holds)?;
            Some((*key, last.entry.clone()?))
        };
        self.events.iter().filter_map(entry).collect()
    }
}
