//! When a collector files a change: by which clock, and what it says of it. The one place.
//!
//! In:   what the router's clock said, when the collector read it, what was filed of the key
//!       before, and since when a snapshot proves what the key was.
//! Out:  `Filing`; a `Span` where the moment of reading is known within bounds alone.
//! Law:  docs/decisions/0021-known-answers.md, written anew: what was read has happened by then,
//!       and no change is believed against a snapshot.
//! Not:  when things happened (`world`), whether a collector did so (`verdict`).

use storage::time::Micros;

/// A clock that is ahead by more is said to be far off.
const AHEAD_US_MAX: i64 = 60_000_000;
/// A clock that is behind by more is far off and not believed: seven days.
const BEHIND_US_MAX: i64 = 7 * 24 * 3_600_000_000;

/// What one change is filed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filing {
    /// What history is ordered by.
    pub time: Micros,
    /// The clock is far off.
    pub is_far: bool,
    /// The clock had been set back behind the key's previous change.
    pub is_backwards: bool,
    /// A snapshot that was read in full proves that it was not so at the time that is claimed.
    pub is_before_snapshot: bool,
}

/// Files a change. `previous`: when the key's previous change is filed. `proven`: when the latest
/// snapshot began that was read in full.
pub fn file(
    said: Micros,
    read: Micros,
    previous: Option<Micros>,
    proven: Option<Micros>,
) -> Filing {
    let ahead_us = said.since(read);
    let is_far = !(-BEHIND_US_MAX..=AHEAD_US_MAX).contains(&ahead_us);
    let own = if ahead_us < -BEHIND_US_MAX { read } else { said.min(read) };
    let time = previous.map_or(own, |previous| previous.max(own));
    let is_backwards = time > own;
    let raised = proven.map_or(time, |proven| proven.max(time));
    Filing { time: raised, is_far, is_backwards, is_before_snapshot: raised > time }
}

/// Between which instants a change is filed, as far as the model can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// No earlier.
    pub earliest: Micros,
    /// No later.
    pub latest: Micros,
    /// Whoever asks about this instant or a later one is told the new value for certain. A change
    /// that a snapshot contradicts, or the change before, is disputed until it was read.
    pub certain: Micros,
}

impl Span {
    /// Of a change that was read between two instants; `proven` likewise.
    pub fn of(
        said: Micros,
        read: [Micros; 2],
        previous: Option<Span>,
        proven: Option<[Micros; 2]>,
    ) -> Span {
        // Everything that a filing depends on moves it one way: its bounds come of their bounds.
        let earliest =
            file(said, read[0], previous.map(|span| span.earliest), proven.map(|at| at[0])).time;
        let latest =
            file(said, read[1], previous.map(|span| span.latest), proven.map(|at| at[1])).time;
        let latest_proof = proven.map(|at| at[1]);
        let may_be_disputed = file(said, read[0], previous.map(|span| span.earliest), latest_proof)
            .is_before_snapshot;
        // A clock set back says nothing of when it was, but that it was behind the change before.
        let latest_previous = previous.map(|span| span.latest);
        let may_be_backwards = file(said, read[0], latest_previous, None).is_backwards;
        let is_open = may_be_disputed || may_be_backwards;
        let certain = if is_open { latest.max(read[1]) } else { latest };
        Span { earliest, latest, certain }
    }

    /// Whether a change may be filed at this instant.
    pub fn holds(&self, time: Micros) -> bool {
        (self.earliest..=self.latest).contains(&time)
    }

    /// Whether at this instant a collector may say either value, or that it does not know.
    pub fn is_open_at(&self, at: Micros) -> bool {
        self.earliest <= at && at < self.certain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const READ: Micros = Micros(10_000_000 * SECOND);

    fn filed(said_us: i64, previous_us: Option<i64>, proven_us: Option<i64>) -> (i64, [bool; 3]) {
        let at = |us: i64| READ.offset(us);
        let filing = file(at(said_us), READ, previous_us.map(at), proven_us.map(at));
        let Filing { time, is_far, is_backwards, is_before_snapshot } = filing;
        (time.since(READ), [is_far, is_backwards, is_before_snapshot])
    }

    #[test]
    fn a_change_is_filed_as_it_is_said_unless_that_cannot_be() {
        let day = 24 * 3_600 * SECOND;
        assert_eq!(filed(-5, None, None), (-5, [false; 3]));
        // Ahead: what was read has happened.
        assert_eq!(filed(5, None, None), (0, [false; 3]));
        assert_eq!(filed(60 * SECOND, None, None), (0, [false; 3]));
        assert_eq!(filed(60 * SECOND + 1, None, None), (0, [true, false, false]));
        // Behind: a week is believed.
        assert_eq!(filed(-7 * day, None, None), (-7 * day, [false; 3]));
        assert_eq!(filed(-7 * day - 1, None, None), (0, [true, false, false]));
        assert_eq!(filed(-9, Some(-4), None), (-4, [false, true, false]));
        assert_eq!(filed(-9, Some(-9), Some(-9)), (-9, [false; 3]));
        assert_eq!(filed(-9, Some(-12), Some(-4)), (-4, [false, false, true]));
        assert_eq!(filed(-9, Some(-5), Some(-4)), (-4, [false, true, true]));
    }

    #[test]
    fn a_span_has_every_filing_of_what_it_is_made_of() {
        let at = |us: i64| READ.offset(us);
        let exact = |us: i64| Span { earliest: at(us), latest: at(us), certain: at(us) };
        let read = [at(-20), at(0)];
        assert_eq!(Span::of(at(-20), read, None, None), exact(-20));
        assert_eq!(Span::of(at(-30), read, Some(exact(-40)), Some([at(-50), at(-35)])), exact(-30));
        // Ahead: when it was read, which nobody knows.
        let ahead = Span::of(at(99), read, None, None);
        assert_eq!(ahead, Span { earliest: at(-20), latest: at(0), certain: at(0) });
        // Disputed until it was read, however early the snapshot began.
        let disputed = Span::of(at(-90), read, None, Some([at(-60), at(-50)]));
        assert_eq!(disputed, Span { earliest: at(-60), latest: at(-50), certain: at(0) });
        assert!(disputed.is_open_at(at(-60)) && disputed.is_open_at(at(-1)));
        assert!(!disputed.is_open_at(at(-61)) && !disputed.is_open_at(at(0)));
        for said in [-90, -55, -21, -3, 40] {
            for read_us in [-20, -7, 0] {
                for proven in [-60, -54, -50] {
                    let filing = file(at(said), at(read_us), Some(at(-57)), Some(at(proven))).time;
                    let proven = Some([at(-60), at(-50)]);
                    let span = Span::of(at(said), read, Some(exact(-57)), proven);
                    assert!(span.holds(filing), "{said} {read_us}: {filing} in {span:?}");
                }
            }
        }
    }
}
