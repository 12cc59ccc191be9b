//! A capacity in words.
//!
//! In:   a `CapacityReport`.
//! Out:  text: each answer with the runs that confirm it, the laws, the first limit.
//! Law:  an answer without a limit says `limit not found` and why, before any figure.
//! Not:  JSON (serde does that), or the page (`page`).

use std::fmt;

use super::rig::What;
use super::search::{Answer, CLEAN_AT, CONFIRMING_RUNS, SYMPTOM_AT};
use super::{CapacityReport, Found, Scale};
use crate::honesty::Label;

impl Found {
    /// The answer in one sentence.
    pub fn sentence(&self) -> String {
        let unit = self.what.unit();
        match &self.answer {
            Answer::Limit { load, symptom, shown, clean_share_min, shown_share_min } => format!(
                "{load:.0} {unit}: {CONFIRMING_RUNS} of {CONFIRMING_RUNS} runs clean at {:.0}, \
                 {shown} of {CONFIRMING_RUNS} with `{}` at {:.0} (95 % confidence: at least {:.0} \
                 % of runs clean below, {:.0} % not above); short of: {}",
                load * CLEAN_AT,
                symptom.name(),
                load * SYMPTOM_AT,
                clean_share_min * 100.0,
                shown_share_min * 100.0,
                self.resource.unwrap_or("unknown"),
            ),
            Answer::NotFound { reason, clean_load } => {
                let clean = clean_load.map_or_else(
                    || "no run was clean".to_owned(),
                    |load| format!("largest clean load: {load:.0} {unit}"),
                );
                format!("limit not found: {}; {clean}", reason.name())
            }
        }
    }
}

impl Scale {
    /// The law in one sentence.
    pub fn sentence(&self, unit: &str) -> String {
        let left_out = self.points.iter().filter(|point| point.left_out.is_some()).count();
        let Some(law) = &self.law else {
            return format!("no law: {} points, {left_out} of them left out", self.points.len());
        };
        let peak = law.peak_size.map_or_else(
            || "no peak within sight".to_owned(),
            |size| format!("most at {size:.0} {unit}"),
        );
        format!(
            "{:.0} mappings/s by one, contention {:.3}, coherency {:.2e}; {peak}; explains {:.0} \
             % of the spread of {} points ({left_out} more were left out)",
            law.one,
            law.contention,
            law.coherency,
            law.fit * 100.0,
            self.points.len() - left_out,
        )
    }
}

impl fmt::Display for CapacityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rig = &self.settings.rig;
        for line in self.host.lines() {
            writeln!(f, "{line}")?;
        }
        let whose =
            if self.own_namespace { "a namespace of its own" } else { "the host's network" };
        writeln!(
            f,
            "{} shards, {} routers with {} entries each, {} mappings per frame; counters of \
             {whose}\na router is blocked after {:?}, frames are too slow after {:?} (p99)\na \
             run is void when sends are late by more than {} ms (p99.9), or others take more than \
             {} % of the CPUs\n",
            rig.shards,
            rig.routers,
            rig.entries,
            rig.frame_mappings,
            rig.blocked_max,
            rig.p99_max,
            rig.late_ms_max,
            rig.disturbed_percent_max,
        )?;
        for found in &self.found {
            let runs = found.trials.len();
            writeln!(f, "{:<12} {} [{runs} runs]", found.what.name(), found.sentence())?;
        }
        for (name, scale, unit) in
            [("shards", &self.shards, "shards"), ("connections", &self.connections, "connections")]
        {
            if scale.points.is_empty() {
                continue;
            }
            writeln!(f, "\nscalability over {name}: {}", scale.sentence(unit))?;
            for point in &scale.points {
                let word = match point.left_out {
                    None => "",
                    Some(Label::GeneratorBound) => "  LEFT OUT: limited by the generator",
                    Some(Label::ForeignWork | Label::Stolen) => "  LEFT OUT: disturbed",
                };
                writeln!(
                    f,
                    "  {:>7} {unit}: {:.0} mappings/s, collector busy {:.0} %{word}",
                    point.size,
                    point.rate,
                    point.collector_busy * 100.0
                )?;
            }
        }
        let first = self.first_limit.map_or("none was found", What::name);
        writeln!(f, "\nfirst limit of a network that grows: {first}")
    }
}
