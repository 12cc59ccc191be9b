//! The steps of a script, with the range of every number.
//!
//! In:   tables of a TOML file.
//! Out:  `Step`, and the numbers of each; what is left out has a default.
//! Law:  a number out of its range is refused with what was expected.
//! Not:  which links and routers a step hits (`plan`), distributions (`pace`).

use serde::Deserialize;

use super::pace::Draw;

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
pub(super) const MILLIS_MAX: u32 = 35 * 86_400_000;
/// A span: 1 ms to 35 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Millis(pub(super) u32);

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

/// Who speaks in a recorded storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speakers {
    /// The ends of a core link and core routers around it: their area's prefixes leave the link.
    #[default]
    Cores,
    /// Provider edges of one layer-3 VPN: its sites' prefixes get new labels.
    L3vpn,
}

/// A storm like a recorded one. The default is that of six FRR routers with 2,507 LSPs each when
/// a link between them failed: 86 bursts, told apart by a millisecond of silence, over all six.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trace {
    /// Who speaks.
    pub speakers: Speakers,
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
            speakers: Speakers::default(),
            routers: Count(6),
            messages: Messages(16_562),
            over_ms: Some(Millis(650)),
            batch: Draw::Quantiles([&batch[..], &batch_end[..]].concat()),
            pause_us: Draw::Quantiles([&pause[..], &pause_end[..]].concat()),
        }
    }
}
