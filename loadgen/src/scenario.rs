//! What happens to the network: scenarios by name, and scripts of several steps.
//!
//! In:   a name, or a TOML file.
//! Out:  `Scenario`, and the `Script` that it stands for.
//! Law:  a file that is wrong is refused with line and column; every number has a range.
//! Not:  which links and routers it hits (`scenario/plan`), how they react (`scenario/react`).

pub mod pace;
pub mod plan;
pub mod react;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::faults::{Asked, Fault};
use pace::{Draw, Pace};

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
    #[error("scenario {}: {fault}", path.display())]
    Script {
        /// Which file.
        path: PathBuf,
        /// Line, column, what was expected.
        fault: Box<toml::de::Error>,
    },
}

/// Steps, one after the other: each begins when everything of the one before is durable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Draws of the scenario; absent: the seed of the network.
    pub seed: Option<u64>,
    /// What goes wrong on purpose.
    #[serde(default)]
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
        let churns = |step: &Step| matches!(step, Step::VpnChurn(_) | Step::Trace(_));
        self.reuses_labels() || self.step.iter().any(churns)
    }

    /// Whether labels are given to others as soon as they are released.
    pub fn reuses_labels(&self) -> bool {
        self.faults.iter().any(|asked| asked.fault == Fault::LabelReuse)
    }

    /// How many routers its traces have, where it has any: the first counts.
    pub fn trace_routers(&self) -> Option<usize> {
        self.step.iter().find_map(|step| match step {
            Step::Trace(trace) => Some(trace.routers.0.into()),
            _ => None,
        })
    }

    /// Reads a script. Errors: line, column and what was expected there.
    pub fn parse(text: &str) -> Result<Script, toml::de::Error> {
        toml::from_str(text)
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The trunks whose loss changes the most fail, all at once.
    LinkDown(Break),
    /// The core routers that carry the most go down, all at once.
    NodeDown(Break),
    /// Trunks that leave the same place fail, all at once: a shared-risk link group.
    Srlg(Break),
    /// A trunk goes down and up again and again.
    Flap(Flap),
    /// Core routers are drained and restored, one after the other.
    Maintenance(Maintenance),
    /// Sessions break, and their routers come back.
    CollectorRestart(Restart),
    /// Single links fail here and there and come back.
    Trickle(Trickle),
    /// Customers of VPNs announce and withdraw prefixes.
    VpnChurn(VpnChurn),
    /// Some routers say as much as recorded ones did, in batches and with pauses like theirs.
    Trace(Trace),
}

impl Step {
    /// The name of its act.
    pub const fn name(&self) -> &'static str {
        match self {
            Step::LinkDown(_) => "link down",
            Step::NodeDown(_) => "node down",
            Step::Srlg(_) => "srlg",
            Step::Flap(_) => "flap",
            Step::Maintenance(_) => "maintenance",
            Step::CollectorRestart(_) => "collector restart",
            Step::Trickle(_) => "trickle",
            Step::VpnChurn(_) => "vpn churn",
            Step::Trace(_) => "trace",
        }
    }
}

/// How many things of a kind: 1 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Count(pub u16);

impl TryFrom<u64> for Count {
    type Error = String;

    fn try_from(count: u64) -> Result<Count, String> {
        let small = u16::try_from(count).ok().filter(|count| (1..=10_000).contains(count));
        small.map(Count).ok_or_else(|| format!("expected 1 to 10000, found {count}"))
    }
}

/// The longest span.
const MILLIS_MAX: u32 = 35 * 86_400_000;
/// What a trickle stands for.
const WEEK_MS: u32 = 7 * 86_400_000;

/// A span: 1 ms to 35 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Millis(u32);

impl Millis {
    /// In microseconds.
    pub fn micros(self) -> i64 {
        i64::from(self.0) * 1_000
    }
}

impl TryFrom<u64> for Millis {
    type Error = String;

    fn try_from(millis: u64) -> Result<Millis, String> {
        let small = u32::try_from(millis).ok().filter(|millis| (1..=MILLIS_MAX).contains(millis));
        small.map(Millis).ok_or_else(|| format!("expected 1 to {MILLIS_MAX} ms, found {millis}"))
    }
}

/// Things break and may come back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Break {
    /// How many; fewer where the network has fewer.
    pub count: Count,
    /// When they come back; absent: they stay down.
    pub restore_after_ms: Option<Millis>,
}

impl Default for Break {
    fn default() -> Break {
        Break { count: Count(1), restore_after_ms: None }
    }
}

/// A trunk goes down and up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flap {
    /// How often it goes down.
    pub times: Count,
    /// How long it is down.
    pub down_ms: Millis,
    /// How long it is up after the first time; twice as long after each further one.
    pub up_ms: Millis,
    /// The longest that it is up in between.
    pub up_ms_max: Millis,
}

impl Default for Flap {
    fn default() -> Flap {
        let [down_ms, up_ms, up_ms_max] = [500, 250, 4_000].map(Millis);
        Flap { times: Count(5), down_ms, up_ms, up_ms_max }
    }
}

/// Routers are drained and restored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maintenance {
    /// How many routers.
    pub routers: Count,
    /// How long each is drained; the next follows as long after it.
    pub each_ms: Millis,
}

impl Default for Maintenance {
    fn default() -> Maintenance {
        Maintenance { routers: Count(3), each_ms: Millis(1_000) }
    }
}

/// Sessions break.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// How long the routers stay away.
    pub away_ms: Millis,
}

impl Default for Restart {
    fn default() -> Restart {
        Restart { away_ms: Millis(500) }
    }
}

/// Single links fail and come back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trickle {
    /// How many links fail.
    pub events: Count,
    /// Over how long they are spread: a week at its real pace is 604,800,000.
    pub over_ms: Millis,
}

impl Default for Trickle {
    fn default() -> Trickle {
        Trickle { events: Count(20), over_ms: Millis(10_000) }
    }
}

/// Prefixes come and go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VpnChurn {
    /// How many announcements and withdrawals.
    pub events: Count,
    /// Over how long they are spread.
    pub over_ms: Millis,
}

impl Default for VpnChurn {
    fn default() -> VpnChurn {
        VpnChurn { events: Count(100), over_ms: Millis(5_000) }
    }
}

/// How many mappings: 1 to 10,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Messages(pub u32);

impl TryFrom<u64> for Messages {
    type Error = String;

    fn try_from(count: u64) -> Result<Messages, String> {
        let small = u32::try_from(count).ok().filter(|count| (1..=10_000_000).contains(count));
        small.map(Messages).ok_or_else(|| format!("expected 1 to 10000000, found {count}"))
    }
}

/// A storm like a recorded one. The default is that of six FRR routers with 2,507 LSPs each when
/// a link failed: 86 bursts, told apart by a millisecond of silence, over all six.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trace {
    /// How many routers speak.
    pub routers: Count,
    /// How many mappings they say together, at least.
    pub messages: Messages,
    /// In which time; absent: as long as the pauses that are drawn take.
    pub over_ms: Option<Millis>,
    /// Mappings of one batch.
    pub batch: Draw,
    /// From the end of a batch to the beginning of the router's next, microseconds.
    pub pause_us: Draw,
}

impl Default for Trace {
    fn default() -> Trace {
        let batch = [[0.0, 1.0], [0.1, 1.0], [0.25, 6.0], [0.5, 46.0], [0.75, 202.0]];
        let batch_end = [[0.9, 425.0], [1.0, 1_254.0]];
        let pause = [[0.0, 1_040.0], [0.1, 1_690.0], [0.25, 3_510.0], [0.5, 6_730.0]];
        let pause_end = [[0.75, 17_860.0], [0.9, 40_120.0], [1.0, 310_090.0]];
        Trace {
            routers: Count(6),
            messages: Messages(16_562),
            over_ms: Some(Millis(650)),
            batch: Draw::Quantiles([&batch[..], &batch_end[..]].concat()),
            pause_us: Draw::Quantiles([&pause[..], &pause_end[..]].concat()),
        }
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
    }
}
