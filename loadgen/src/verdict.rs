//! The verdict: every answer of the collector, compared with the answer key.
//!
//! In:   a data folder, asked through `engine::query`; the answer key of the model.
//! Out:  `Verdict`: what was asked, what differs, and the first differences in words.
//! Law:  exact or not: an answer that is unknown, missing, late or too many is a difference.
//! Not:  the answers of the model (`answer`); reading tables or logs in another way.

mod copies;
mod draw;
mod paths;
mod rows;
mod tables;
mod verify;

use std::fmt;

use serde::Serialize;

pub use rows::await_books;
pub use verify::{Depth, Verify};

/// Differences that are told in words.
const TOLD_MAX: usize = 20;

/// Whether the collector's answers are those of the model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// What was asked, in order.
    pub checks: Vec<Check>,
    /// The first differences, in words.
    pub told: Vec<String>,
    /// How many (router, instant) pairs were drawn and compared, of how many; absent: none were.
    pub pairs: Option<Pairs>,
}

/// Pairs of a router and an instant. Between two changes of its table all instants are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pairs {
    /// Whose tables were compared as of that instant.
    pub compared: u64,
    /// That can be told apart.
    pub all: u64,
}

/// One kind of question, asked about one instant.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was asked.
    pub what: String,
    /// How many answers were compared.
    pub answers: u64,
    /// How many of them differ.
    pub differences: u64,
}

impl Verdict {
    /// Whether something was asked and nothing differs.
    pub fn is_exact(&self) -> bool {
        let answered = |check: &Check| check.answers > 0 && check.differences == 0;
        !self.checks.is_empty() && self.checks.iter().all(answered)
    }

    fn add(&mut self, what: String, findings: Findings) {
        let Findings { answers, differences, told } = findings;
        self.checks.push(Check { what, answers, differences });
        let room = TOLD_MAX - self.told.len().min(TOLD_MAX);
        self.told.extend(told.into_iter().take(room));
    }
}

/// What a comparison came to.
#[derive(Debug, Default)]
struct Findings {
    answers: u64,
    differences: u64,
    told: Vec<String>,
}

impl Findings {
    fn differ(&mut self, what: impl fmt::Display) {
        self.differences += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what.to_string());
        }
    }

    fn add(&mut self, other: Findings) {
        self.answers += other.answers;
        self.differences += other.differences;
        let room = TOLD_MAX - self.told.len();
        self.told.extend(other.told.into_iter().take(room));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verdict: {}", if self.is_exact() { "exact" } else { "NOT exact" })?;
        for Check { what, answers, differences } in &self.checks {
            writeln!(f, "  {what}: {answers} answers, {differences} differences")?;
        }
        if let Some(Pairs { compared, all }) = self.pairs {
            writeln!(
                f,
                "  drawn: {compared} of {all} (router, instant) pairs that can be told apart"
            )?;
        }
        self.told.iter().try_for_each(|told| writeln!(f, "    {told}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_without_answers_is_not_exact() {
        let mut verdict = Verdict::default();
        assert!(!verdict.is_exact());
        verdict.add("nothing".to_owned(), Findings::default());
        assert!(!verdict.is_exact());
    }
}
