//! At which pace routers speak: rates, batches, pauses, and what they put off.
//!
//! In:   numbers of a script: ranges, and distributions by their parameters.
//! Out:  `Pace`, and `Draw`, from which sizes and pauses are drawn.
//! Law:  a distribution is within its bounds whatever is drawn; the same chance draws the same.
//! Not:  who speaks, and when (`react`, `plan/trace`).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::Millis;

/// How routers install and report what they have to change.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// What each router installs, drawn between the two: as many are in each doubling.
    pub changes_per_second: PerSecond,
    /// Routers that report only when they are done with everything (draft section 2.1: when the
    /// CPU is low), percent.
    pub deferred_percent: Percent,
    /// How much later than that they report, at most.
    pub deferred_ms: Millis,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            changes_per_second: PerSecond([2_000, 80_000]),
            deferred_percent: Percent(0),
            deferred_ms: Millis(500),
        }
    }
}

/// A slowest and a fastest rate: 1 to 10,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "[u32; 2]")]
pub struct PerSecond(pub [u32; 2]);

impl TryFrom<[u32; 2]> for PerSecond {
    type Error = String;

    fn try_from([slow, fast]: [u32; 2]) -> Result<PerSecond, String> {
        let is_right = 1 <= slow && slow <= fast && fast <= 10_000_000;
        let told = || format!("expected [slow, fast] of 1 to 10000000, found [{slow}, {fast}]");
        is_right.then_some(PerSecond([slow, fast])).ok_or_else(told)
    }
}

/// A share: 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Percent(pub u8);

impl TryFrom<u64> for Percent {
    type Error = String;

    fn try_from(percent: u64) -> Result<Percent, String> {
        let small = u8::try_from(percent).ok().filter(|percent| *percent <= 100);
        small.map(Percent).ok_or_else(|| format!("expected 0 to 100 percent, found {percent}"))
    }
}

/// A distribution of sizes or pauses.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "RawDraw")]
pub enum Draw {
    /// Many around the median, few far above: the logarithm is normal.
    LogNormal {
        /// Half are below.
        median: f64,
        /// Of the logarithm.
        sigma: f64,
        /// What is above counts as this.
        most: f64,
    },
    /// A heavy tail above a least value.
    Pareto {
        /// The least.
        least: f64,
        /// The smaller, the heavier the tail.
        shape: f64,
        /// What is above counts as this.
        most: f64,
    },
    /// As it was measured: shares and the values below which they lie, both ascending, from share
    /// 0 to share 1; straight in between.
    Quantiles(Vec<[f64; 2]>),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum RawDraw {
    LogNormal(RawLogNormal),
    Pareto(RawPareto),
    Quantiles(Vec<[f64; 2]>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLogNormal {
    median: f64,
    sigma: f64,
    most: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPareto {
    least: f64,
    shape: f64,
    most: f64,
}

impl TryFrom<RawDraw> for Draw {
    type Error = String;

    fn try_from(raw: RawDraw) -> Result<Draw, String> {
        let draw = match raw {
            RawDraw::LogNormal(RawLogNormal { median, sigma, most }) => {
                Draw::LogNormal { median, sigma, most }
            }
            RawDraw::Pareto(RawPareto { least, shape, most }) => {
                Draw::Pareto { least, shape, most }
            }
            RawDraw::Quantiles(points) => Draw::Quantiles(points),
        };
        match draw.is_right() {
            true => Ok(draw),
            false => Err(format!(
                "expected positive numbers, the most not below the rest, and quantiles ascending \
                 from share 0 to share 1, found {draw:?}"
            )),
        }
    }
}

impl Draw {
    /// Whether something can be drawn.
    fn is_right(&self) -> bool {
        let fine = |value: f64| value.is_finite() && value > 0.0;
        match self {
            Draw::LogNormal { median, sigma, most } => {
                [median, sigma, most].into_iter().all(|value| fine(*value)) && most >= median
            }
            Draw::Pareto { least, shape, most } => {
                [least, shape, most].into_iter().all(|value| fine(*value)) && most >= least
            }
            Draw::Quantiles(points) => {
                let ascend =
                    |pair: &[[f64; 2]]| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1];
                let ends = points.first().zip(points.last());
                ends.is_some_and(|(first, last)| first[0] == 0.0 && last[0] == 1.0)
                    && points.windows(2).all(ascend)
                    && points.iter().all(|[_, value]| fine(*value))
            }
        }
    }

    /// The value below which this share lies.
    pub fn quantile(&self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        match self {
            Draw::LogNormal { median, sigma, most } => {
                (median * (sigma * normal_quantile(share)).exp()).min(*most)
            }
            Draw::Pareto { least, shape, most } => {
                (least * (1.0 - share).powf(-1.0 / shape)).min(*most)
            }
            Draw::Quantiles(points) => {
                let above = points.partition_point(|[at, _]| *at < share).max(1);
                let [[from, low], [to, high]] = [above - 1, above.min(points.len() - 1)]
                    .map(|place| points.get(place).copied().unwrap_or([1.0, 1.0]));
                let part = if to > from { (share - from) / (to - from) } else { 0.0 };
                low + (high - low) * part
            }
        }
    }

    /// Draws.
    pub fn draw(&self, chance: &mut ChaCha8Rng) -> f64 {
        self.quantile(chance.random::<f64>())
    }
}

/// Of the standard normal distribution, by bisection of its distribution function: 1e-7 is far
/// below what a pause is told apart by.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0_f64, 8.0_f64);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        match normal_share(middle) < share {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

/// Share below: Zelen and Severo's polynomial (Abramowitz and Stegun 26.2.17), error below 7.5e-8.
fn normal_share(value: f64) -> f64 {
    const POWERS: [f64; 5] =
        [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * value.abs());
    let sum = POWERS.iter().rev().fold(0.0, |sum, power| (sum + power) * t);
    let density = (-value * value / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let above = density * sum;
    if value < 0.0 { above } else { 1.0 - above }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Of many values drawn as many lie below each quantile as its share says.
    #[test]
    fn what_is_drawn_is_distributed_as_the_parameters_say() {
        let measured = vec![[0.0, 1.0], [0.25, 6.0], [0.5, 46.0], [0.9, 425.0], [1.0, 1_254.0]];
        let draws = [
            Draw::LogNormal { median: 46.0, sigma: 1.5, most: 1e9 },
            Draw::Pareto { least: 3.0, shape: 1.2, most: 1e9 },
            Draw::Quantiles(measured),
        ];
        let mut chance = ChaCha8Rng::seed_from_u64(5);
        for draw in draws {
            let values: Vec<f64> = (0..20_000).map(|_| draw.draw(&mut chance)).collect();
            for share in [0.1, 0.25, 0.5, 0.75, 0.9, 0.99] {
                let bound = draw.quantile(share);
                let below = values.iter().filter(|value| **value <= bound).count();
                // Four standard deviations of a share of 20,000 at most.
                let found = below as f64 / values.len() as f64;
                assert!((found - share).abs() < 0.014, "{draw:?} {share}: {found}");
            }
        }
        // By the tables: 1.959964 at 0.975; and the closed form of Pareto.
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-5);
        let pareto = Draw::Pareto { least: 2.0, shape: 1.0, most: 100.0 };
        assert!((pareto.quantile(0.5) - 4.0).abs() < 1e-9);
        assert_eq!(pareto.quantile(1.0), 100.0);
    }
}
