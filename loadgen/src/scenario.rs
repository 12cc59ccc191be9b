//! What happens to the network: scenarios by name, and scripts of several steps.
//!
//! In:   a name, or a TOML file.
//! Out:  `Scenario`, and the `Script` that it stands for.
//! Law:  a file that is wrong is refused with line and column; every number has a range.
//! Not:  which links and routers it hits (`scenario/plan`), how they react (`scenario/react`).

pub mod pace;
pub mod plan;
pub mod react;
mod step;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::faults::{self, Asked, Fault};
use pace::Pace;
use step::MILLIS_MAX;
pub use step::{
    Break, Count, Flap, Maintenance, Messages, Millis, Restart, Speakers, Step, Trace, Trickle,
    VpnChurn,
};

/// What a trickle stands for.
const WEEK_MS: u32 = 7 * 86_400_000;

/// What happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Scenario {
    /// Every router connects and sends its table.
    ColdStart,
    /// A cold start; then the trunk whose loss changes the most fails.
    #[default]
    LinkDown,
    /// The core router that carries the most goes down and comes back.
    NodeDown,
    /// Trunks that share a conduit fail together and come back.
    Srlg,
    /// A trunk goes down and up again and again, with growing pauses.
    Flap,
    /// Core routers are drained and restored, one after the other.
    Maintenance,
    /// Every session breaks at once, and every router comes back at once.
    CollectorRestart,
    /// A quiet week, compressed: single links fail here and there.
    Trickle,
    /// Customers of VPNs announce and withdraw prefixes.
    VpnChurn,
    /// What six real routers did when a link between them failed: 16,562 messages in 0.65 s.
    FrrFailover,
    /// What a file says.
    Script(Arc<Script>),
}

impl Scenario {
    /// Every scenario that has a name.
    pub const NAMED: [Scenario; 10] = [
        Scenario::ColdStart,
        Scenario::LinkDown,
        Scenario::NodeDown,
        Scenario::Srlg,
        Scenario::Flap,
        Scenario::Maintenance,
        Scenario::CollectorRestart,
        Scenario::Trickle,
        Scenario::VpnChurn,
        Scenario::FrrFailover,
    ];

    /// The word on the command line; a script's is its file.
    pub const fn name(&self) -> &'static str {
        match self {
            Scenario::ColdStart => "cold-start",
            Scenario::LinkDown => "link-down",
            Scenario::NodeDown => "node-down",
            Scenario::Srlg => "srlg",
            Scenario::Flap => "flap",
            Scenario::Maintenance => "maintenance",
            Scenario::CollectorRestart => "collector-restart",
            Scenario::Trickle => "trickle",
            Scenario::VpnChurn => "vpn-churn",
            Scenario::FrrFailover => "frr-failover",
            Scenario::Script(_) => "FILE.toml",
        }
    }

    /// A name, or the path of a script, which ends in `.toml`.
    /// Errors: neither; or the script is wrong.
    pub fn read(text: &str) -> Result<Scenario, ScenarioError> {
        if let Some(named) = Scenario::NAMED.into_iter().find(|named| named.name() == text) {
            return Ok(named);
        }
        let path = Path::new(text);
        if path.extension().is_none_or(|end| end != "toml") {
            return Err(ScenarioError::Name(text.to_owned()));
        }
        let io = |source| ScenarioError::Io { path: path.to_owned(), source };
        let script = Script::parse(&std::fs::read_to_string(path).map_err(io)?);
        let script = script.map_err(|fault| ScenarioError::Script {
            path: path.to_owned(),
            fault: Box::new(fault),
        })?;
        Ok(Scenario::Script(Arc::new(script)))
    }

    /// The same with quiet times passed through so many times as fast as they are: the week of
    /// `trickle`, or what a script's own trickles take.
    pub fn at_speed(&self, speed: f64) -> Scenario {
        let mut script = self.script();
        for step in &mut script.step {
            if let Step::Trickle(trickle) = step {
                let real_ms = if *self == Scenario::Trickle { WEEK_MS } else { trickle.over_ms.0 };
                let over_ms = (f64::from(real_ms) / speed).clamp(1.0, f64::from(MILLIS_MAX));
                trickle.over_ms = Millis(over_ms as u32);
            }
        }
        Scenario::Script(Arc::new(script))
    }

    /// The steps that follow the cold start.
    pub fn script(&self) -> Script {
        let one = |step| Script { step: vec![step], ..Script::default() };
        let passing = |count| Break { count: Count(count), restore_after_ms: Some(Millis(3_000)) };
        match self {
            Scenario::ColdStart => Script::default(),
            Scenario::LinkDown => one(Step::LinkDown(Break::default())),
            Scenario::NodeDown => one(Step::NodeDown(passing(1))),
            Scenario::Srlg => one(Step::Srlg(passing(3))),
            Scenario::Flap => one(Step::Flap(Flap::default())),
            Scenario::Maintenance => one(Step::Maintenance(Maintenance::default())),
            Scenario::CollectorRestart => one(Step::CollectorRestart(Restart::default())),
            Scenario::Trickle => one(Step::Trickle(Trickle::default())),
            Scenario::VpnChurn => one(Step::VpnChurn(VpnChurn::default())),
            Scenario::FrrFailover => one(Step::Trace(Trace::default())),
            Scenario::Script(script) => Script::clone(script),
        }
    }
}

/// A scenario that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// No such name.
    #[error(
        "scenario: expected cold-start, link-down, node-down, srlg, flap, maintenance, \
         collector-restart, trickle, vpn-churn, frr-failover or a file that ends in .toml, found {0}"
    )]
    Name(String),
    /// The file cannot be had.
    #[error("scenario {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("scenario {}: {fault}{}", path.display(), hint(fault))]
    Script {
        /// Which file.
        path: PathBuf,
        /// Line, column, what was expected.
        fault: Box<toml::de::Error>,
    },
}

/// What the reader of TOML cannot know of a step.
fn hint(fault: &toml::de::Error) -> &'static str {
    match fault.message().contains("exactly 1 element") {
        true => "a step is one thing that happens: give each its own [[step]]\n",
        false => "",
    }
}

/// Steps, one after the other: each begins when everything of the one before is durable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Draws of the scenario; absent: the seed of the network.
    pub seed: Option<u64>,
    /// What goes wrong on purpose.
    #[serde(default)]
    #[serde(deserialize_with = "faults::list")]
    pub faults: Vec<Asked>,
    /// At which pace routers speak.
    #[serde(default)]
    pub pace: Pace,
    /// The steps.
    #[serde(default)]
    pub step: Vec<Step>,
}

impl Script {
    /// Whether customers' prefixes come and go in it.
    pub fn churns(&self) -> bool {
        let churns = |step: &Step| matches!(step, Step::VpnChurn(_));
        let of_trace = self.trace_routers(Speakers::L3vpn).is_some();
        self.reuses_labels() || of_trace || self.step.iter().any(churns)
    }

    /// Whether labels are given to others as soon as they are released.
    pub fn reuses_labels(&self) -> bool {
        self.faults.iter().any(|asked| asked.fault == Fault::LabelReuse)
    }

    /// How many routers its traces of these speakers have, where it has any: the first counts.
    pub fn trace_routers(&self, speakers: Speakers) -> Option<usize> {
        self.step.iter().find_map(|step| match step {
            Step::Trace(trace) if trace.speakers == speakers => Some(trace.routers.0.into()),
            _ => None,
        })
    }

    /// Reads a script. Errors: line, column and what was expected there.
    pub fn parse(text: &str) -> Result<Script, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_step_by_step() {
        let text = "seed = 7\n\
            [[step]]\nlink-down = { count = 2 }\n\
            [[step]]\nflap = { times = 3, down_ms = 100 }\n\
            [[step]]\ncollector-restart = {}\n";
        let script = Script::parse(text).unwrap();
        assert_eq!((script.seed, script.step.len()), (Some(7), 3));
        let names: Vec<&str> = script.step.iter().map(Step::name).collect();
        assert_eq!(names, ["link down", "flap", "collector restart"]);
        let Step::Flap(flap) = &script.step[1] else { panic!("{script:?}") };
        assert_eq!((flap.times, flap.down_ms, flap.up_ms), (Count(3), Millis(100), Millis(250)));
    }

    #[test]
    fn a_wrong_script_is_refused_with_line_and_column() {
        let cases = [
            ("[[step]]\nflap = { times = 0 }\n", "line 2, column", "expected 1 to 10000, found 0"),
            ("[[step]]\nflap = { often = 2 }\n", "line 2, column", "unknown field `often`"),
            ("[[step]]\nflood = {}\n", "line 2, column 1", "unknown variant `flood`"),
            ("seed = \"x\"\n", "line 1, column 8", "expected u64"),
            ("[[step]]\ntrickle = { over_ms = 9999999999 }\n", "line 2", "ms, found 9999999999"),
            ("[[step]\n", "line 1", "]"),
            ("[pace]\nchanges_per_second = [5, 2]\n", "line 2", "expected [slow, fast]"),
            ("faults = [\"flood\"]\n", "line 1, column 11", "found flood"),
            ("faults = [{ fault = \"slow\", at = \"changes\" }]\n", "line 1", "strikes at none"),
            (
                "[[step]]\ntrace = { speakers = \"hosts\" }\n",
                "line 2",
                "expected `cores` or `l3vpn`",
            ),
            (
                "[[step]]\ntrace = { pause_us = { pareto = { least = 3, shape = 0, most = 9 } } }\n",
                "line 2",
                "expected positive numbers",
            ),
        ];
        for (text, place, word) in cases {
            let fault = Script::parse(text).unwrap_err().to_string();
            assert!(fault.contains(place) && fault.contains(word), "{text}: {fault}");
        }
    }

    #[test]
    fn a_quiet_week_is_passed_through_at_any_speed() {
        let over_us = |scenario: &Scenario| match &scenario.script().step[..] {
            [Step::Trickle(trickle)] => trickle.over_ms.micros(),
            other => panic!("{other:?}"),
        };
        assert_eq!(over_us(&Scenario::Trickle.at_speed(1.0)), 7 * 86_400 * 1_000_000);
        assert_eq!(over_us(&Scenario::Trickle.at_speed(60_480.0)), over_us(&Scenario::Trickle));
        let script = Script::parse("[[step]]\ntrickle = { over_ms = 5000 }").unwrap();
        let script = Scenario::Script(Arc::new(script));
        assert_eq!(over_us(&script.at_speed(2.0)), 2_500_000);
        assert_eq!(Scenario::LinkDown.at_speed(9.0).script(), Scenario::LinkDown.script());
    }

    #[test]
    fn every_name_leads_to_its_scenario_and_others_are_refused() {
        for scenario in Scenario::NAMED {
            assert_eq!(Scenario::read(scenario.name()).unwrap(), scenario);
            let steps = scenario.script().step.len();
            assert_eq!(steps, usize::from(scenario != Scenario::ColdStart));
        }
        assert!(Scenario::read("flood").unwrap_err().to_string().contains("found flood"));
        let absent = Scenario::read("absent.toml").unwrap_err().to_string();
        assert!(absent.contains("absent.toml"), "{absent}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.toml");
        std::fs::write(&path, "[[step]]\nflap = {}\nsrlg = {}\n").unwrap();
        let two = Scenario::read(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(two.contains("line 1") && two.contains("give each its own [[step]]"), "{two}");
    }
}
