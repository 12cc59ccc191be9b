//! The state of the collector in one line: calm, a burst, or squeezed, and where.
//!
//! In:   the last moment, the bursts of late.
//! Out:  a grade for colours and exit codes, and a sentence for people.
//! Law:  what hurts now comes before what runs, and that before what is over.
//! Not:  the verdict on a burst (`watch`), which is repeated here as it is.

use super::units::{bytes, count, span, span_ms};
use crate::watch::{Head, Moment, Outcome};

/// For so long a burst that hurt is the first thing to say, microseconds.
const RECENT_US: i64 = 60_000_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// Nothing stands out.
    Calm,
    /// Much comes in, and it is taken.
    Burst,
    /// Routers wait, or had to.
    Squeezed,
    /// Sessions broke or mappings were refused.
    Lost,
    /// The collector itself is not well.
    Fault,
}

impl Grade {
    /// The word in the header.
    pub(super) fn word(self) -> &'static str {
        match self {
            Grade::Calm => "CALM",
            Grade::Burst => "BURST NOW",
            Grade::Squeezed => "SQUEEZED",
            Grade::Lost => "LOST",
            Grade::Fault => "FAULT",
        }
    }
}

/// The state, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) grade: Grade,
    pub(super) text: String,
}

/// What the collector is like at this moment. `faults`: as `/healthz` says them; `bursts`: newest
/// first.
pub(super) fn state(moment: &Moment, faults: &[String], bursts: &[Head]) -> State {
    let squeezed = |text: String| State { grade: Grade::Squeezed, text };
    if moment.logs_failed > 0 {
        return squeezed(format!(
            "disk: the log of {} shards waits for room; nothing is read, nothing is lost",
            moment.logs_failed
        ));
    }
    if !faults.is_empty() {
        return State { grade: Grade::Fault, text: faults.join("; ") };
    }
    if moment.sessions.blocked > 0 {
        return squeezed(format!(
            "digest: {} sessions are not read for want of memory, one for {}",
            count(moment.sessions.blocked),
            span_ms(moment.sessions.blocked_ms)
        ));
    }
    let running = bursts.iter().find(|burst| burst.is_running);
    if let Some(burst) = running.filter(|_| moment.burst.is_some()) {
        return State { grade: Grade::Burst, text: progress(burst) };
    }
    let Some(last) = bursts.iter().find(|burst| !burst.is_running) else {
        return State { grade: Grade::Calm, text: "no burst so far".to_owned() };
    };
    let ago_us = moment.time_us.saturating_sub(last.end_us);
    let ago = span(u64::try_from(ago_us).unwrap_or(0));
    let outcome = last.verdict.as_ref().map_or(Outcome::Clean, |verdict| verdict.outcome);
    let grade = match outcome {
        Outcome::Clean | Outcome::Unknown => Grade::Calm,
        _ if ago_us > RECENT_US => Grade::Calm,
        Outcome::Squeezed => Grade::Squeezed,
        Outcome::Lost => Grade::Lost,
    };
    let text = if grade == Grade::Calm {
        let verdict =
            last.verdict.as_ref().map_or(String::new(), |_| format!(": {}", verdict(last)));
        format!("last burst {ago} ago{verdict}")
    } else {
        let reason = last.verdict.as_ref().and_then(|verdict| verdict.reasons.first());
        let layer = last.verdict.as_ref().and_then(|verdict| verdict.layer);
        let place = layer.map_or(String::new(), |layer| format!(", {}", layer.name()));
        format!("{ago} ago{place}: {}", reason.map_or("", String::as_str))
    };
    State { grade, text }
}

fn progress(burst: &Head) -> String {
    let lasted_us = u64::try_from(burst.end_us.saturating_sub(burst.start_us)).unwrap_or(0);
    format!(
        "for {}: {} mappings of {} routers, {} in 10 ms at its peak",
        span(lasted_us),
        count(burst.mappings),
        count(burst.routers),
        bytes(burst.peak_bytes)
    )
}

/// The verdict on a burst in two words: `clean`, `squeezed: socket`.
pub(super) fn verdict(burst: &Head) -> String {
    let Some(verdict) = &burst.verdict else {
        return if burst.is_running { "runs" } else { "-" }.to_owned();
    };
    let outcome = verdict.outcome.name();
    match verdict.layer {
        None => outcome.to_owned(),
        Some(layer) => format!("{outcome}: {}", layer.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Layer, Verdict};

    const NOW_US: i64 = 1_800_000_000_000_000;

    fn ended(ago_s: i64, outcome: Outcome, layer: Option<Layer>) -> Head {
        let end_us = NOW_US - ago_s * 1_000_000;
        let reasons = vec!["because".to_owned()];
        let verdict = Some(Verdict { outcome, layer, reasons });
        Head { id: 1, start_us: end_us - 2_000_000, end_us, verdict, ..Head::default() }
    }

    fn said(moment: &Moment, bursts: &[Head]) -> (Grade, String) {
        let State { grade, text } = state(moment, &[], bursts);
        (grade, text)
    }

    #[test]
    fn what_hurts_now_comes_first_and_what_is_long_over_last() {
        let mut moment = Moment { time_us: NOW_US, ..Moment::default() };
        assert_eq!(said(&moment, &[]), (Grade::Calm, "no burst so far".into()));
        let clean = ended(3, Outcome::Clean, None);
        let text = "last burst 3.0 s ago: clean".to_owned();
        assert_eq!(said(&moment, std::slice::from_ref(&clean)), (Grade::Calm, text));
        let tight = ended(3, Outcome::Squeezed, Some(Layer::Socket));
        let text = "3.0 s ago, socket: because".to_owned();
        assert_eq!(said(&moment, &[tight.clone(), clean]), (Grade::Squeezed, text));
        let lost = ended(120, Outcome::Lost, None);
        let text = "last burst 2 min ago: lost".to_owned();
        assert_eq!(said(&moment, &[lost]), (Grade::Calm, text));
        assert_eq!(said(&moment, &[ended(9, Outcome::Lost, None)]).0, Grade::Lost);

        let running = Head {
            is_running: true,
            start_us: NOW_US - 1_500_000,
            end_us: NOW_US,
            mappings: 1_200_000,
            routers: 2_000,
            peak_bytes: 3 << 20,
            ..Head::default()
        };
        moment.burst = Some(running.id);
        let text = "for 1.5 s: 1.2 M mappings of 2.0 k routers, 3.0 MiB in 10 ms at its peak";
        let bursts = [running, tight];
        assert_eq!(said(&moment, &bursts), (Grade::Burst, text.into()));
        (moment.sessions.blocked, moment.sessions.blocked_ms) = (7, 1_250);
        let text = "digest: 7 sessions are not read for want of memory, one for 1.2 s";
        assert_eq!(said(&moment, &bursts), (Grade::Squeezed, text.into()));
        let faults = ["shard 1: not started yet".to_owned(), "and more".to_owned()];
        let State { grade, text } = state(&moment, &faults, &bursts);
        assert_eq!((grade, text.as_str()), (Grade::Fault, "shard 1: not started yet; and more"));
        moment.logs_failed = 2;
        assert!(said(&moment, &bursts).1.starts_with("disk: the log of 2 shards waits"));
    }
}
