//! Notices: log lines about what peers do wrong, at a bounded rate per cause.
//!
//! In:   a cause, who, and what was expected and found.
//! Out:  a log line, or a count of lines left out that the next line says.
//! Law:  however many peers misbehave, the lines per second are bounded; the counters are exact.
//! Not:  counting (`metrics`).

use storage::row::Cause;

/// Lines of one cause in a burst.
const BURST_LINES: u64 = 10;
/// One more line of a cause every so often, microseconds.
const LINE_INTERVAL_US: u64 = 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    lines: u64,
    refilled_us: u64,
    left_out: u64,
}

/// One token bucket per cause.
#[derive(Debug)]
pub(crate) struct Notices {
    buckets: Vec<Bucket>,
}

impl Notices {
    pub(crate) fn new() -> Notices {
        let bucket = Bucket { lines: BURST_LINES, refilled_us: 0, left_out: 0 };
        Notices { buckets: vec![bucket; Cause::ALL.len()] }
    }

    /// Whether a line about this cause may be written now: how many were left out before it.
    pub(crate) fn allow(&mut self, cause: Cause, now_us: u64) -> Option<u64> {
        let bucket = self.buckets.get_mut(cause as usize)?;
        let earned = now_us.saturating_sub(bucket.refilled_us) / LINE_INTERVAL_US;
        if earned > 0 {
            bucket.lines = bucket.lines.saturating_add(earned).min(BURST_LINES);
            bucket.refilled_us += earned * LINE_INTERVAL_US;
        }
        if bucket.lines == 0 {
            bucket.left_out += 1;
            return None;
        }
        bucket.lines -= 1;
        Some(std::mem::take(&mut bucket.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_cause_is_a_few_lines() {
        let mut notices = Notices::new();
        let lines = (0..1000).filter_map(|_| notices.allow(Cause::FrameMagic, 5)).count();
        assert_eq!(lines, 10);
        assert_eq!(notices.allow(Cause::FrameMagic, 1_000_005), Some(990));
        assert_eq!(notices.allow(Cause::FrameMagic, 1_000_006), None);
        assert_eq!(notices.allow(Cause::Truncated, 1_000_006), Some(0));
    }
}
