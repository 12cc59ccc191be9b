//! What a replay has sent: one value, printed as text or as JSON.
//!
//! In:   every write with its time, session by session.
//! Out:  `Replayed`: serde for JSON, `Display` for people.
//! Law:  lateness counts from the recorded pace; a replay at once has none.
//! Not:  what the collector made of it: its own commands say that.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::volley::Lateness;

/// Between two points of what was sent over time, and how many there are at most: then every second
/// one is dropped, and they are taken half as often.
const POINT_EVERY: Duration = Duration::from_millis(10);
const POINTS_MAX: usize = 4_096;

/// What was sent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replayed {
    /// Connections opened.
    pub connections: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// From the first connection to the last byte.
    pub seconds: f64,
    /// 99 % of writes began within so many milliseconds of their recorded time; absent where
    /// everything was sent at once.
    pub late_ms_p99: Option<f64>,
    /// The latest of them.
    pub late_ms_max: Option<f64>,
    /// File by file.
    pub files: Vec<FileReplayed>,
    /// Pairs: milliseconds since the first connection, bytes sent until then.
    pub sent_over_time: Vec<[f64; 2]>,
}

/// What was sent of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FileReplayed {
    /// Which.
    pub file: String,
    /// Connections opened.
    pub connections: u64,
    /// Bytes sent.
    pub bytes: u64,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replayed { connections, bytes, seconds, .. } = self;
        write!(f, "{bytes} bytes sent over {connections} connections in {seconds:.3} s")?;
        if let (Some(p99), Some(max)) = (self.late_ms_p99, self.late_ms_max) {
            write!(f, "; later than recorded by p99 {p99:.1} ms, max {max:.1} ms")?;
        }
        writeln!(f)
    }
}

/// Counts while a replay is under way.
pub(super) struct Tally {
    began: Instant,
    bytes: u64,
    late: Lateness,
    every: Duration,
    points: Vec<[f64; 2]>,
    last: Duration,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Tally {
        let (late, points) = (Lateness::default(), vec![[0.0, 0.0]]);
        let last = Duration::ZERO;
        Tally { began: now, bytes: 0, late, every: POINT_EVERY, points, last }
    }

    /// A write is taken that was due at `due`, if it was due at any time. Returns all bytes so far.
    pub(super) fn sent(&mut self, bytes: u64, due: Option<Instant>, began: Instant) -> u64 {
        self.bytes += bytes;
        if let Some(due) = due {
            let late = began.saturating_duration_since(due).as_micros();
            self.late.record(i64::try_from(late).unwrap_or(i64::MAX));
        }
        let at = began.saturating_duration_since(self.began);
        if at >= self.last + self.every {
            self.point(at);
        }
        self.bytes
    }

    fn point(&mut self, at: Duration) {
        self.last = at;
        self.points.push([at.as_secs_f64() * 1e3, self.bytes as f64]);
        if self.points.len() > POINTS_MAX {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
    }

    pub(super) fn end(mut self, now: Instant, files: Vec<FileReplayed>) -> Replayed {
        let span = now.saturating_duration_since(self.began);
        self.point(span);
        let paced = (self.late.count() > 0).then_some(&self.late);
        Replayed {
            connections: files.iter().map(|file| file.connections).sum(),
            bytes: self.bytes,
            seconds: span.as_secs_f64(),
            late_ms_p99: paced.map(|late| late.quantile_ms(0.99)),
            late_ms_max: paced.map(Lateness::max_ms),
            files,
            sent_over_time: self.points,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_replay_is_drawn_more_coarsely_and_says_how_late_it_was() {
        let began = crate::clock::instant();
        let mut tally = Tally::new(began);
        for write in 0..10_000 {
            let due = began + POINT_EVERY * write;
            tally.sent(7, Some(due), due + Duration::from_millis(3));
        }
        let replayed = tally.end(began + POINT_EVERY * 10_000, vec![]);
        assert!(replayed.sent_over_time.len() <= POINTS_MAX + 1);
        assert_eq!(replayed.sent_over_time.last(), Some(&[100_000.0, 70_000.0]));
        let late = replayed.late_ms_p99.unwrap();
        assert!((2.9..3.1).contains(&late), "{late}");
        assert!(replayed.to_string().contains("70000 bytes"), "{replayed}");
        assert_eq!(Tally::new(began).end(began, vec![]).late_ms_p99, None);
    }
}
