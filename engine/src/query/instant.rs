//! The instant of a question: now, or another.
//!
//! In:   the text of a question, and what time it is.
//! Out:  `Instant`: what an answer says it is of, and up to which time rows count for it.
//! Law:  now is everything that has been read: logs of earlier versions have rows whose time is
//!       ahead, and the collector's clock may have been set back.
//! Not:  how instants are written (`when`).

use std::fmt;

use storage::time::Micros;

use super::QueryError;
use super::when::instant;

/// An instant that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    /// Now, and what time it is. Whatever has been read counts.
    Now(Micros),
    /// This one.
    At(Micros),
    /// This one, asked at another time: rows that are filed behind that are ahead of it.
    Then {
        /// The instant.
        at: Micros,
        /// What time it is.
        now: Micros,
    },
}

impl Instant {
    /// Reads an instant that may be asked about; `now` is what time it is.
    pub fn read(text: &str, now: Micros) -> Result<Instant, QueryError> {
        match text.trim() {
            "now" => Ok(Instant::Now(now)),
            text => instant(text, now).map(|at| Instant::Then { at, now }),
        }
    }

    /// What an answer says that it is of.
    pub const fn time(self) -> Micros {
        match self {
            Instant::Now(time) | Instant::At(time) | Instant::Then { at: time, .. } => time,
        }
    }

    /// Rows of a later time do not count.
    pub const fn last(self) -> Micros {
        match self {
            Instant::Now(_) => Micros::MAX,
            Instant::At(time) | Instant::Then { at: time, .. } => time,
        }
    }

    /// What time it is, where it was said and is another.
    pub const fn told_at(self) -> Option<Micros> {
        match self {
            Instant::Then { now, .. } => Some(now),
            Instant::Now(_) | Instant::At(_) => None,
        }
    }
}

impl From<Micros> for Instant {
    fn from(time: Micros) -> Instant {
        Instant::At(time)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.time().fmt(f)
    }
}
