//! Whether a run may be believed: what the generator, and others on its host, did to the figures.
//!
//! In:   what the generator was late by; what other processes took of the CPUs.
//! Out:  `Honesty`: both, and labels in words where one of them is too much.
//! Law:  latencies count from the intended time whatever the labels say; a label never mends a
//!       figure, it says what the figure is worth.
//! Not:  taking the latencies (`sender`, `volley`), watching the CPUs (`tuning::host`).

use std::fmt;

use serde::Serialize;
use tuning::host::{DISTURBED_PERCENT, Disturbance};

/// A generator whose sends are later than this is what was measured, at least in part. In 5 ms a
/// collector that drains 300 MB/s takes 1.5 MB: less than a burst's receive queues hold.
pub const LATE_MS_MAX: f64 = 5.0;

/// What stands between a figure and the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// Sends were late: the load that was offered was gentler than the one that was asked for.
    GeneratorBound,
    /// Other processes on this host took CPU.
    ForeignWork,
    /// The host of this host took CPU.
    Stolen,
}

/// How far a run may be believed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Honesty {
    /// 99.9 % of sends left within so many milliseconds of their intended time, waits for the
    /// collector apart.
    pub late_ms_p999: f64,
    /// Share of the CPUs that other processes took, percent; absent where it was not watched.
    pub foreign_percent: Option<f64>,
    /// Share that the host of this host took, percent; absent where it was not watched.
    pub stolen_percent: Option<f64>,
    /// What is wrong; empty = nothing that was looked for.
    pub labels: Vec<Label>,
}

impl Honesty {
    /// Judges. `disturbance` is absent where the CPUs were not watched.
    pub fn new(late_ms_p999: f64, disturbance: Option<Disturbance>) -> Honesty {
        let Disturbance { foreign_percent, stolen_percent } = disturbance.unwrap_or_default();
        let mut labels = Vec::new();
        if late_ms_p999 > LATE_MS_MAX {
            labels.push(Label::GeneratorBound);
        }
        // Together they are too much: the larger is named, or both.
        if foreign_percent + stolen_percent > DISTURBED_PERCENT {
            let half = DISTURBED_PERCENT / 2.0;
            labels.extend((foreign_percent > half).then_some(Label::ForeignWork));
            labels.extend((stolen_percent >= half).then_some(Label::Stolen));
        }
        Honesty {
            late_ms_p999,
            foreign_percent: disturbance.map(|it| it.foreign_percent),
            stolen_percent: disturbance.map(|it| it.stolen_percent),
            labels,
        }
    }

    /// Whether nothing speaks against the figures.
    pub fn is_clean(&self) -> bool {
        self.labels.is_empty()
    }

    /// What a label says of this run.
    pub fn words(&self, label: Label) -> String {
        let percent = |share: Option<f64>| share.unwrap_or_default();
        match label {
            Label::GeneratorBound => format!(
                "LIMITED BY THE GENERATOR: sends left up to {:.1} ms late (p99.9; allowed \
                 {LATE_MS_MAX} ms): use more sender threads, another host, or a lower rate",
                self.late_ms_p999
            ),
            Label::ForeignWork => format!(
                "DISTURBED: other processes took {:.0} % of the CPUs (allowed {DISTURBED_PERCENT} \
                 %): take the figures again on a quiet host",
                percent(self.foreign_percent)
            ),
            Label::Stolen => format!(
                "DISTURBED: the host of this host took {:.0} % of the CPUs (allowed \
                 {DISTURBED_PERCENT} %): take the figures again, or on dedicated CPUs",
                percent(self.stolen_percent)
            ),
        }
    }
}

impl fmt::Display for Honesty {
    /// One line of figures, then one per label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sends late by {:.1} ms (p99.9)", self.late_ms_p999)?;
        match (self.foreign_percent, self.stolen_percent) {
            (Some(foreign), Some(stolen)) => write!(
                f,
                "; other processes took {foreign:.0} % of the CPUs, the host's host {stolen:.0} %"
            )?,
            _ => write!(f, "; CPUs not watched")?,
        }
        self.labels.iter().try_for_each(|label| write!(f, "\n  {}", self.words(*label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(late_ms: f64, foreign_percent: f64, stolen_percent: f64) -> Vec<Label> {
        Honesty::new(late_ms, Some(Disturbance { foreign_percent, stolen_percent })).labels
    }

    #[test]
    fn every_limit_has_its_label_and_what_is_within_all_has_none() {
        assert_eq!(labels(5.0, 2.0, 2.0), []);
        assert_eq!(labels(5.1, 0.0, 0.0), [Label::GeneratorBound]);
        assert_eq!(labels(0.0, 6.0, 0.0), [Label::ForeignWork]);
        assert_eq!(labels(0.0, 0.0, 6.0), [Label::Stolen]);
        assert_eq!(labels(0.0, 3.0, 3.0), [Label::ForeignWork, Label::Stolen]);
        assert_eq!(labels(0.0, 2.5, 2.6), [Label::Stolen]);
        assert!(Honesty::new(1.0, None).is_clean());
    }

    #[test]
    fn a_label_names_figure_and_limit() {
        let text = Honesty::new(16.2, None).to_string();
        assert!(text.contains("16.2 ms late") && text.contains("allowed 5 ms"), "{text}");
        assert!(text.contains("CPUs not watched"), "{text}");
    }
}
