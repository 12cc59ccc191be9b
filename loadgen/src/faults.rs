//! Faults of senders: what goes wrong between a router and its collector, on purpose.
//!
//! In:   their words, from the command line or a script.
//! Out:  `Fault`, and which router has which.
//! Law:  none of them changes the truth: once a snapshot is complete, its table is as ever.
//! Not:  how each is done (`sender/session`).

use std::str::FromStr;

use serde::Deserialize;

/// One router in this many has each of the faults that are asked for.
const ROUTERS_PER_FAULT: usize = 8;

/// What goes wrong with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The connection breaks in the middle of its first snapshot.
    Reset,
    /// It breaks there, and in the middle of a frame.
    Torn,
    /// It falls silent there without being closed, and the router opens another.
    HalfOpen,
    /// The router writes some hundred bytes at a time, with pauses.
    Slow,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 4] = [Fault::Reset, Fault::Torn, Fault::HalfOpen, Fault::Slow];

    /// The word on the command line and in scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Reset => "reset",
            Fault::Torn => "torn",
            Fault::HalfOpen => "half-open",
            Fault::Slow => "slow",
        }
    }

    /// The fault of this router, of those that are asked for: routers have one at most.
    pub fn of_router(faults: &[Fault], router_index: usize) -> Option<Fault> {
        let turn = router_index % (ROUTERS_PER_FAULT * faults.len().max(1));
        let (place, rest) = (turn / ROUTERS_PER_FAULT, turn % ROUTERS_PER_FAULT);
        (rest < faults.len()).then(|| faults.get((place + rest) % faults.len()).copied()).flatten()
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let named = Fault::ALL.into_iter().find(|fault| fault.name() == text);
        named.ok_or_else(|| format!("expected reset, torn, half-open or slow, found {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_an_eighth_of_the_routers_and_none_has_two() {
        assert_eq!(Fault::of_router(&[], 0), None);
        for faults in [&Fault::ALL[..1], &Fault::ALL[1..3], &Fault::ALL] {
            let routers = 1..=ROUTERS_PER_FAULT * faults.len() * 10;
            for fault in faults {
                let has = |router: &usize| Fault::of_router(faults, *router) == Some(*fault);
                assert_eq!(routers.clone().filter(has).count(), faults.len() * 10, "{fault:?}");
            }
        }
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        assert!("flood".parse::<Fault>().unwrap_err().contains("found flood"));
    }
}
