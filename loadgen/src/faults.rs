//! Faults: what goes wrong between a router and its collector, on purpose. None by default.
//!
//! In:   their words, from the command line or a script.
//! Out:  `Asked`, and which router is struck by which, when.
//! Law:  what each does to the truth is known beforehand: the answer key has it, or the router's
//!       table is unknown until a snapshot is complete, and as ever from then on.
//! Not:  how a session is struck (`sender/session`), whose clock is wrong by how much (`clocks`).

pub mod clocks;

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// One router in this many has each of the session faults that are asked for.
const ROUTERS_PER_FAULT: usize = 8;
/// Stands for every fault.
const ALL: &str = "all";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks between two frames.
    Reset,
    /// It breaks in the middle of a frame.
    Torn,
    /// It falls silent without being closed, and the router opens another.
    HalfOpen,
    /// The router writes some hundred bytes at a time, with pauses.
    Slow,
    /// The router sends a frame that inflates to a thousand times its size, and a stranger at the
    /// same address pours the same at the collector.
    Bomb,
    /// Every router's clock is wrong by an amount of its own, some by hours and days.
    ClockSkew,
    /// Clocks are set forward or back while their routers speak.
    ClockStep,
    /// Labels are released and given to other FECs within a second.
    LabelReuse,
    /// Every session goes to a second collector too.
    Duplicate,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 9] = [
        Fault::Reset,
        Fault::Torn,
        Fault::HalfOpen,
        Fault::Slow,
        Fault::Bomb,
        Fault::ClockSkew,
        Fault::ClockStep,
        Fault::LabelReuse,
        Fault::Duplicate,
    ];

    /// The word on the command line and in scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Reset => "reset",
            Fault::Torn => "torn",
            Fault::HalfOpen => "half-open",
            Fault::Slow => "slow",
            Fault::Bomb => "bomb",
            Fault::ClockSkew => "clock-skew",
            Fault::ClockStep => "clock-step",
            Fault::LabelReuse => "label-reuse",
            Fault::Duplicate => "duplicate",
        }
    }

    /// Whether it strikes a session once, at a moment.
    pub const fn has_moment(self) -> bool {
        matches!(self, Fault::Reset | Fault::Torn | Fault::HalfOpen | Fault::Bomb)
    }

    /// Whether it is one router's session that has it.
    const fn is_of_session(self) -> bool {
        self.has_moment() || matches!(self, Fault::Slow)
    }
}

/// When a session is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// In the middle of its first snapshot.
    Snapshot,
    /// In the middle of the first changes that its router has to say.
    Changes,
}

/// A fault that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub fault: Fault,
    /// When it strikes; absent: half of the routers in each moment.
    pub at: Option<Moment>,
}

/// What one word asks for: `torn@changes` for one fault, `all` for every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(Vec<Asked>);

impl Word {
    /// What all of these words ask for.
    pub fn all(words: &[Word]) -> Vec<Asked> {
        words.iter().flat_map(|word| word.0.iter().copied()).collect()
    }
}

impl From<Asked> for Word {
    fn from(asked: Asked) -> Word {
        Word(vec![asked])
    }
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Word, String> {
        match text.trim() {
            ALL => Ok(Word(Fault::ALL.map(Asked::from).to_vec())),
            word => word.parse().map(|asked: Asked| asked.into()),
        }
    }
}

/// A list of words, of a script.
pub fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Asked>, D::Error> {
    Vec::<Word>::deserialize(from).map(|words| Word::all(&words))
}

impl From<Fault> for Asked {
    fn from(fault: Fault) -> Asked {
        Asked { fault, at: None }
    }
}

impl Asked {
    fn new(fault: Fault, at: Option<Moment>) -> Result<Asked, String> {
        match at {
            Some(_) if !fault.has_moment() => {
                let name = fault.name();
                Err(format!("{name}: expected no moment, for it strikes at none"))
            }
            at => Ok(Asked { fault, at }),
        }
    }

    /// The fault of this router's session, of those that are asked for: each has one at most.
    /// `speaks`: whether the router will have changes to say.
    pub fn strike(asked: &[Asked], router_index: usize, speaks: bool) -> Option<Strike> {
        let of_sessions: Vec<&Asked> =
            asked.iter().filter(|asked| asked.fault.is_of_session()).collect();
        let period = ROUTERS_PER_FAULT * of_sessions.len().max(1);
        let turn = router_index % period;
        let (place, rest) = (turn / ROUTERS_PER_FAULT, turn % ROUTERS_PER_FAULT);
        let Asked { fault, at } = match rest < of_sessions.len() {
            true => **of_sessions.get((place + rest) % of_sessions.len())?,
            false => return None,
        };
        let drawn = match speaks && (router_index / period + rest).is_multiple_of(2) {
            true => Moment::Changes,
            false => Moment::Snapshot,
        };
        Some(Strike { fault, at: at.unwrap_or(drawn) })
    }
}

/// What one session is struck by, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The fault: one of a session.
    pub fault: Fault,
    /// When; a slow session is always slow.
    pub at: Moment,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let named = Fault::ALL.into_iter().find(|fault| fault.name() == text);
        named.ok_or_else(|| {
            let names = Fault::ALL.map(Fault::name);
            format!("expected one of {} or {ALL}, found {text}", names.join(", "))
        })
    }
}

impl FromStr for Asked {
    type Err = String;

    /// `torn`, `torn@snapshot` or `torn@changes`.
    fn from_str(text: &str) -> Result<Asked, String> {
        let (fault, at) = match text.split_once('@') {
            None => (text, None),
            Some((fault, "snapshot")) => (fault, Some(Moment::Snapshot)),
            Some((fault, "changes")) => (fault, Some(Moment::Changes)),
            Some((_, at)) => return Err(format!("expected snapshot or changes, found {at}")),
        };
        Asked::new(fault.parse()?, at)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fault, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
        from.deserialize_any(WordVisitor)
    }
}

/// A word as on the command line, or `{ fault = "torn", at = "changes" }`.
struct WordVisitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedTable {
    fault: Fault,
    at: Option<Moment>,
}

impl<'de> Visitor<'de> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault, or { fault = \"torn\", at = \"changes\" }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Word, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Word, A::Error> {
        let AskedTable { fault, at } = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
        Asked::new(fault, at).map(Word::from).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_an_eighth_of_the_routers_and_none_has_two() {
        let asked = |faults: &[Fault]| faults.iter().copied().map(Asked::from).collect::<Vec<_>>();
        assert_eq!(Asked::strike(&[], 0, true), None);
        for faults in [&Fault::ALL[..1], &Fault::ALL[1..3], &Fault::ALL[..5]] {
            let asked = asked(faults);
            let routers = 1..=ROUTERS_PER_FAULT * faults.len() * 10;
            for fault in faults {
                let strike = |router| Asked::strike(&asked, router, true);
                let has = |router: &usize| strike(*router).is_some_and(|it| it.fault == *fault);
                let struck: Vec<usize> = routers.clone().filter(has).collect();
                assert_eq!(struck.len(), faults.len() * 10, "{fault:?}");
                let late =
                    |router: &&usize| strike(**router).is_some_and(|it| it.at == Moment::Changes);
                assert_eq!(struck.iter().filter(late).count() * 2, struck.len(), "{fault:?}");
            }
        }
        // What is nobody's own strikes nobody; who says nothing is not struck while he does.
        assert_eq!(Asked::strike(&asked(&Fault::ALL[5..]), 0, true), None);
        let silent = |router| Asked::strike(&asked(&Fault::ALL[..1]), router, false);
        assert!((0..64).filter_map(silent).all(|strike| strike.at == Moment::Snapshot));
    }

    #[test]
    fn words_lead_to_faults_and_wrong_ones_are_refused() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(Asked::from(fault)));
        }
        let late = Asked { fault: Fault::Torn, at: Some(Moment::Changes) };
        assert_eq!("torn@changes".parse(), Ok(late));
        let every = "all".parse::<Word>().map(|word| Word::all(&[word]));
        assert_eq!(every, Ok(Fault::ALL.map(Asked::from).to_vec()));
        for (text, word) in [
            ("all@changes", "found all"),
            ("flood", "found flood"),
            ("torn@noon", "expected snapshot or changes"),
            ("slow@changes", "strikes at none"),
        ] {
            let told = text.parse::<Asked>().unwrap_err();
            assert!(told.contains(word), "{told}");
        }
    }
}
