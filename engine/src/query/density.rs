//! Density: how many changes there were in each part of an interval.
//!
//! In:   change rows of a data folder, of all routers or of one.
//! Out:  one count per bin.
//! Law:  each change counts once, in the bin of its effective time; of all routers together, the
//!       rows of a block are spread over the time that it spans: the block's head tells no more.
//! Not:  which changes they were (`events`).

use std::path::Path;

use storage::allowance::Allowance;
use storage::log::{Filter, ReadReport, Span, log_files, read_file, read_spans};
use storage::mapping::RouterId;
use storage::row::Row;
use storage::time::{MICROS_PER_HOUR, Micros};

use super::{Answered, FILED_AHEAD_US_MAX, QueryError, Range, folder};

/// How far behind its effective time a change may have been collected, for it to be counted here:
/// what comes later than this is too little to see, and would mean to read all of the log.
const LATE_US: i64 = MICROS_PER_HOUR;

/// Changes per bin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Density {
    /// Width of a bin, microseconds.
    pub bin_us: i64,
    /// Changes in each, from the beginning of the interval on.
    pub changes: Vec<u64>,
}

impl Density {
    /// Adds rows that lie somewhere in these bounds, evenly, none lost and none made up.
    fn spread(&mut self, since: Micros, span: Span) {
        let Span { time_min, time_max, changes } = span;
        let bin = |time: Micros| time.since(since).div_euclid(self.bin_us);
        let (first, last) = (bin(time_min), bin(time_max));
        let bins = u64::try_from(last - first).unwrap_or(0).saturating_add(1);
        let (share, rest) = (changes / bins, changes % bins);
        let visible = first.max(0)..=last.min(self.changes.len() as i64 - 1);
        for place in visible {
            let extra = u64::from(((place - first) as u64) < rest);
            if let Some(count) = usize::try_from(place).ok().and_then(|at| self.changes.get_mut(at))
            {
                *count += share + extra;
            }
        }
    }
}

/// Counts the changes of an interval in so many bins.
pub fn density(
    data: &Path,
    range: Range,
    bins: usize,
    router: Option<RouterId>,
    allowance: Option<&Allowance>,
) -> Result<Answered<Density>, QueryError> {
    let bins = bins.max(1);
    let width = range.until.since(range.since).saturating_add(1);
    let bin_us = (width + bins as i64 - 1) / bins as i64;
    let mut density = Density { bin_us: bin_us.max(1), changes: vec![0; bins] };
    let mut report = ReadReport::default();
    let first = range.since.offset(-FILED_AHEAD_US_MAX).hour();
    let last = range.until.offset(LATE_US).hour();
    for file in log_files(folder(data)?)? {
        if file.hour < first || last < file.hour {
            continue;
        }
        let filter = Filter { router, changes: true, allowance, ..Filter::NONE };
        match router {
            None => {
                let mut spread = |span| density.spread(range.since, span);
                read_spans(&file, &filter, &mut report, &mut spread)?;
            }
            Some(_) => {
                read_file(&file, &filter, &mut report, &mut |row| {
                    if let Row::Change(change) = row {
                        let time = change.stamp.effective_time;
                        let span = Span { time_min: time, time_max: time, changes: 1 };
                        density.spread(range.since, span);
                    }
                })?;
            }
        }
    }
    Ok(Answered::new(density, &report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{find_router, sample};

    #[test]
    fn every_change_is_in_one_bin() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = sample::write(folder.path());
        let range = Range { since: sample::START, until: sample::NOW };
        let pe1 = find_router(folder.path(), "pe1").unwrap();
        // Four entries at the start, two changes at the failure, ten minutes later.
        let of_pe1 = density(folder.path(), range, 30, Some(pe1), None).unwrap().value;
        let mut expected = vec![0; 30];
        expected[0] = 4;
        expected[usize::try_from(600_200_000 / of_pe1.bin_us).unwrap()] = 2;
        assert_eq!(of_pe1.changes, expected);
        let all = density(folder.path(), range, 30, None, None).unwrap().value;
        assert_eq!(all.changes.iter().sum::<u64>(), 4 + 2 + 1 + 1 + 3);
        assert_eq!(all.changes[0], 8);
    }

    #[test]
    fn rows_of_a_span_are_spread_and_none_is_lost() {
        let mut density = Density { bin_us: 10, changes: vec![0; 4] };
        let span = Span { time_min: Micros(105), time_max: Micros(125), changes: 7 };
        density.spread(Micros(100), span);
        assert_eq!(density.changes, [3, 2, 2, 0]);
        // What lies outside is not of this interval.
        let span = Span { time_min: Micros(90), time_max: Micros(200), changes: 12 };
        density.spread(Micros(100), span);
        assert_eq!(density.changes, [4, 3, 3, 1]);
    }
}
