//! The gaps of one router that are open, and what ends them: one rule, live and in history.
//!
//! In:   gap rows, changes, beginnings and ends of snapshots, in the order of the router's rows.
//! Out:  what nobody can vouch for now; which gaps have ended.
//! Law:  a snapshot ends what was open when it began, and vouches for nothing that could not be
//!       read since: neither a mapping of it, nor a change that came meanwhile.
//! Not:  when a gap begins (the engine's shard), how long it was (`history::events`).

use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::Key;
use crate::row::Scope;
use crate::time::Micros;

/// Gaps of single entries that are kept; one more, and the gap is the router's: 4,096 x about 250
/// bytes, whatever a router sends.
pub const KEY_GAPS_MAX: usize = 4_096;

/// What each of them takes, at most twice: as a gap, and as a doubt of the snapshot under way.
const KEY_GAP_BYTES: usize = 160;

/// Something that began at an instant.
pub trait Since: Copy + PartialEq {
    /// When it began.
    fn start(&self) -> Micros;

    /// The same, about the router as a whole.
    #[must_use]
    fn of_router(self) -> Self {
        self
    }
}

/// The open gaps of one router.
#[derive(Clone, Debug)]
pub struct Gaps<G> {
    /// Of the router as a whole.
    pub router: Option<G>,
    /// Whether its table has every entry.
    pub rest: Option<G>,
    /// Of single entries.
    pub keys: BTreeMap<Key, G>,
    /// What the end of the snapshot under way will not mend; `None` = none is under way.
    pub(crate) snapshot: Option<Doubts<G>>,
}

/// What could not be read since the snapshot under way began.
#[derive(Clone, Debug)]
pub(crate) struct Doubts<G> {
    /// When it began, by the collector's clock.
    pub(crate) begun: Micros,
    /// Changes of nobody knows which entries.
    pub(crate) router: Option<G>,
    /// Parts of the snapshot itself.
    pub(crate) rest: Option<G>,
    /// Values of these keys, each of which has a gap.
    pub(crate) keys: BTreeSet<Key>,
}

impl<G> Doubts<G> {
    pub(crate) fn since(begun: Micros) -> Doubts<G> {
        Doubts { begun, router: None, rest: None, keys: BTreeSet::new() }
    }

    /// Whether entries that the snapshot did not show may be there all the same.
    pub(crate) fn may_lack_entries(&self) -> bool {
        self.router.is_some() || self.rest.is_some()
    }
}

impl<G> Default for Gaps<G> {
    fn default() -> Self {
        Gaps { router: None, rest: None, keys: BTreeMap::new(), snapshot: None }
    }
}

impl<G: Since> Gaps<G> {
    /// Opens a gap; one within another changes nothing: what was not known yet is still not known,
    /// from the earlier on.
    pub fn open(&mut self, scope: Scope, gap: G) {
        match scope {
            Scope::Router => {
                widen(&mut self.router, gap);
                if let Some(snapshot) = &mut self.snapshot {
                    widen(&mut snapshot.router, gap);
                }
            }
            Scope::Rest => {
                widen(&mut self.rest, gap);
                if let Some(snapshot) = &mut self.snapshot {
                    widen(&mut snapshot.rest, gap);
                }
            }
            // A router that garbles so much is not vouched for at all, at no cost per entry.
            Scope::Entry(key) if self.is_full_for(&key) => {
                self.open(Scope::Router, gap.of_router());
            }
            Scope::Entry(key) => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.keys.insert(key);
                }
                let open = self.keys.entry(key).or_insert(gap);
                if gap.start() < open.start() {
                    *open = gap;
                }
            }
        }
    }

    fn is_full_for(&self, key: &Key) -> bool {
        self.keys.len() >= KEY_GAPS_MAX && !self.keys.contains_key(key)
    }

    /// Whether a gap of this scope is open that the snapshot under way will not end: another one
    /// would say nothing new.
    pub fn is_open(&self, scope: &Scope) -> bool {
        let doubts = self.snapshot.as_ref();
        match scope {
            Scope::Router => match doubts {
                Some(doubts) => doubts.router.is_some(),
                None => self.router.is_some(),
            },
            Scope::Rest => match doubts {
                Some(doubts) => doubts.rest.is_some(),
                None => self.rest.is_some(),
            },
            Scope::Entry(key) => {
                self.keys.contains_key(key) && doubts.is_none_or(|doubts| doubts.keys.contains(key))
            }
        }
    }

    /// An entry has changed: whatever could not be vouched for of it can be again.
    #[inline]
    pub fn changed(&mut self, key: impl FnOnce() -> Key) -> Option<G> {
        if self.keys.is_empty() {
            return None;
        }
        let key = key();
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.keys.remove(&key);
        }
        self.keys.remove(&key)
    }

    /// A snapshot begins; one under way is given up.
    pub fn begin_snapshot(&mut self, time: Micros) {
        self.snapshot = Some(Doubts::since(time));
    }

    /// The snapshot under way is given up.
    pub fn abandon_snapshot(&mut self) {
        self.snapshot = None;
    }

    /// Whether entries that the snapshot under way does not show may be there all the same.
    pub fn snapshot_may_lack_entries(&self) -> bool {
        self.snapshot.as_ref().is_some_and(Doubts::may_lack_entries)
    }

    /// The snapshot under way is complete: ends what was open when it began, each to `on_ended`.
    /// Returns when it began, and whether it was read in full. A log of an earlier version may lack
    /// the beginning: then it began at `time`.
    pub fn end_snapshot(&mut self, time: Micros, on_ended: &mut dyn FnMut(G)) -> (Micros, bool) {
        let doubts = self.snapshot.take().unwrap_or_else(|| Doubts::since(time));
        let is_full = !doubts.may_lack_entries();
        let mut replace = |open: &mut Option<G>, left: Option<G>| {
            let ended = open.filter(|open| left != Some(*open));
            *open = left;
            ended.into_iter().for_each(&mut *on_ended);
        };
        replace(&mut self.router, doubts.router);
        replace(&mut self.rest, doubts.rest);
        self.keys.retain(|key, gap| {
            let stays = doubts.keys.contains(key);
            if !stays {
                on_ended(*gap);
            }
            stays
        });
        (doubts.begun, is_full)
    }

    /// Memory beyond its own size, in bytes, estimated.
    pub fn beyond_bytes(&self) -> usize {
        let doubts = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.keys.len());
        (self.keys.len() + doubts) * KEY_GAP_BYTES
    }
}

fn widen<G: Since>(open: &mut Option<G>, gap: G) {
    if open.is_none_or(|open| open.start() > gap.start()) {
        *open = Some(gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Label, Origin};

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Open(i64);

    impl Since for Open {
        fn start(&self) -> Micros {
            Micros(self.0)
        }
    }

    fn key(label: u32) -> Key {
        Key::Ilm(Label::new(label).unwrap(), Origin::Platform)
    }

    /// When the snapshot began, if it was read in full, and the gaps that end with it.
    fn end(gaps: &mut Gaps<Open>) -> (Option<Micros>, Vec<i64>) {
        let mut ended = Vec::new();
        let (begun, is_full) = gaps.end_snapshot(Micros(99), &mut |gap| ended.push(gap.0));
        (is_full.then_some(begun), ended)
    }

    #[test]
    fn a_snapshot_ends_what_was_open_when_it_began_and_nothing_else() {
        let mut gaps = Gaps::default();
        for (scope, at) in [(Scope::Router, 1), (Scope::Rest, 2), (Scope::Entry(key(16)), 3)] {
            gaps.open(scope, Open(at));
        }
        gaps.begin_snapshot(Micros(10));
        gaps.open(Scope::Entry(key(17)), Open(11));
        assert_eq!(end(&mut gaps), (Some(Micros(10)), vec![1, 2, 3]));
        assert_eq!((gaps.router, gaps.rest), (None, None));
        assert_eq!(gaps.keys.keys().copied().collect::<Vec<_>>(), [key(17)]);
        // The next one that can be read ends that too; without a beginning it began at its end.
        assert_eq!(end(&mut gaps), (Some(Micros(99)), vec![11]));
    }

    #[test]
    fn what_could_not_be_read_of_a_snapshot_outlives_it() {
        for scope in [Scope::Router, Scope::Rest] {
            let mut gaps = Gaps::default();
            gaps.open(scope, Open(1));
            gaps.begin_snapshot(Micros(10));
            assert!(!gaps.snapshot_may_lack_entries() && !gaps.is_open(&scope));
            gaps.open(scope, Open(11));
            assert!(gaps.snapshot_may_lack_entries() && gaps.is_open(&scope));
            // The earlier one ends; of the snapshot nothing is proven.
            assert_eq!(end(&mut gaps), (None, vec![1]));
            let open = if scope == Scope::Router { gaps.router } else { gaps.rest };
            assert_eq!(open, Some(Open(11)));
            gaps.begin_snapshot(Micros(20));
            assert_eq!(end(&mut gaps), (Some(Micros(20)), vec![11]));
        }
    }

    #[test]
    fn a_change_of_an_entry_ends_its_gap_within_a_snapshot_too() {
        let mut gaps = Gaps::default();
        gaps.begin_snapshot(Micros(10));
        gaps.open(Scope::Entry(key(16)), Open(11));
        gaps.open(Scope::Entry(key(16)), Open(12));
        assert_eq!(gaps.changed(|| key(16)), Some(Open(11)), "since the earlier of them");
        assert_eq!(end(&mut gaps), (Some(Micros(10)), vec![]));
        assert!(gaps.keys.is_empty());
    }

    #[test]
    fn a_snapshot_that_is_given_up_ends_nothing() {
        let mut gaps = Gaps::default();
        gaps.open(Scope::Rest, Open(1));
        gaps.begin_snapshot(Micros(10));
        gaps.open(Scope::Router, Open(11));
        gaps.abandon_snapshot();
        assert_eq!((gaps.router, gaps.rest), (Some(Open(11)), Some(Open(1))));
        gaps.begin_snapshot(Micros(20));
        assert_eq!(end(&mut gaps), (Some(Micros(20)), vec![11, 1]));
    }

    #[test]
    fn beyond_so_many_entries_the_router_is_not_vouched_for() {
        let mut gaps = Gaps::default();
        gaps.begin_snapshot(Micros(1));
        for label in 0..=KEY_GAPS_MAX as u32 {
            gaps.open(Scope::Entry(key(label)), Open(5));
        }
        assert_eq!((gaps.keys.len(), gaps.router), (KEY_GAPS_MAX, Some(Open(5))));
        assert!(gaps.snapshot_may_lack_entries());
    }
}
