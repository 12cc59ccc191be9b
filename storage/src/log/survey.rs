//! Survey: which routers have rows in which stretch of the log, so that one router's rows are read
//! without everybody's.
//!
//! In:   the parts of log files that a question may need.
//! Out:  the same parts, cut to the stretches that hold rows of some routers.
//! Law:  a stretch that is left out holds no row that is asked for; damaged files are not cut.
//! Not:  rows (`read`), which parts a question needs (`state::plan`).
//!
//! It reads every block's head and its dictionary of routers, checks the sum and decodes no row.
//! Blocks lie in stretches, each with a bit per router; when there are too many, two become one:
//! the survey of a large log is coarser, not larger.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::LogError;
use super::decode::block_routers;
use super::scan::{Piece, Scan};
use super::state::{Part, Plan};
use crate::allowance::{Allowance, Held};
use crate::mapping::RouterId;
use crate::time::Hour;

/// The shortest stretch, but for the last of a file.
const STRETCH_BYTES_MIN: u64 = 64 << 10;
/// Stretches of all files: with 17,000 routers 2 KiB each.
const STRETCHES_MAX: usize = 4_096;
/// What a router's number takes.
const NUMBER_BYTES: u64 = 64;

/// Where whose rows are.
#[derive(Debug)]
pub(crate) struct Survey {
    numbers: HashMap<IpAddr, usize, FixedState>,
    files: BTreeMap<(Hour, u16), Surveyed>,
    stretch_bytes: u64,
    stretches: usize,
    held: Option<Held>,
    noted_bytes: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
}

/// The surveyed part of one file.
#[derive(Debug)]
struct Surveyed {
    from: u64,
    /// In order, the first from `from` on.
    stretches: Vec<Stretch>,
    is_damaged: bool,
}

#[derive(Debug, Default)]
struct Stretch {
    end: u64,
    has_sessions: bool,
    /// A bit per router.
    routers: Vec<u64>,
}

impl Stretch {
    fn add(&mut self, number: usize) {
        let word = number / 64;
        if self.routers.len() <= word {
            self.routers.resize(word + 1, 0);
        }
        self.routers[word] |= 1 << (number % 64);
    }

    fn has(&self, number: usize) -> bool {
        self.routers.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn join(&mut self, next: &Stretch) {
        self.end = next.end;
        self.has_sessions |= next.has_sessions;
        if self.routers.len() < next.routers.len() {
            self.routers.resize(next.routers.len(), 0);
        }
        self.routers.iter_mut().zip(&next.routers).for_each(|(word, more)| *word |= more);
    }
}

impl Survey {
    /// Surveys the parts of a plan.
    pub(crate) fn of(plan: &Plan, allowance: Option<&Allowance>) -> Result<Survey, LogError> {
        let mut survey = Survey {
            numbers: HashMap::default(),
            files: BTreeMap::new(),
            stretch_bytes: STRETCH_BYTES_MIN,
            stretches: 0,
            held: allowance.map(Allowance::hold),
            noted_bytes: 0,
            bytes: 0,
        };
        for part in &plan.parts {
            survey.add(part)?;
        }
        Ok(survey)
    }

    /// Leaves of a plan's parts what holds rows of these routers.
    pub(crate) fn cut<'a>(&self, plan: &mut Plan, routers: impl Iterator<Item = &'a RouterId>) {
        let numbers: Vec<usize> =
            routers.filter_map(|router| self.numbers.get(&router.0).copied()).collect();
        self.cut_to(plan, &|stretch| numbers.iter().any(|number| stretch.has(*number)));
    }

    /// Leaves of a plan's parts what holds session rows.
    pub(crate) fn cut_to_sessions(&self, plan: &mut Plan) {
        self.cut_to(plan, &|stretch| stretch.has_sessions);
    }

    fn cut_to(&self, plan: &mut Plan, is_meant: &dyn Fn(&Stretch) -> bool) {
        for part in &mut plan.parts {
            let surveyed = self.files.get(&(part.file.hour, part.file.shard));
            // What was not looked at may hold anything.
            let known = surveyed.filter(|file| !file.is_damaged && file.from <= part.from);
            part.only = known.map(|file| file.stretches_from(part.from, is_meant));
        }
        plan.parts.retain(|part| part.only.as_ref().is_none_or(|only| !only.is_empty()));
    }

    fn add(&mut self, part: &Part) -> Result<(), LogError> {
        let mut scan = Scan::open_at(&part.file, part.from)?;
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut is_damaged = false;
        let mut begun = part.from;
        while let Some(piece) = scan.next()? {
            let (offset, header, payload) = match piece {
                Piece::Block { offset, header, payload } => (offset, header, payload),
                Piece::Damage { .. } => {
                    is_damaged = true;
                    break;
                }
                Piece::Torn { .. } => break,
            };
            let Ok(routers) = block_routers(&header, payload) else {
                is_damaged = true;
                break;
            };
            if stretches.is_empty() || offset - begun >= self.stretch_bytes {
                stretches.push(Stretch::default());
                self.stretches += 1;
                begun = offset;
            }
            let Some(stretch) = stretches.last_mut() else { continue };
            stretch.end = offset + header.block_bytes().unwrap_or(0);
            stretch.has_sessions |= header.session_rows > 0;
            for router in routers {
                let fresh = self.numbers.len();
                stretch.add(*self.numbers.entry(router).or_insert(fresh));
            }
            if self.stretches > STRETCHES_MAX {
                self.stretches -= halve(&mut stretches);
                for file in self.files.values_mut() {
                    self.stretches -= halve(&mut file.stretches);
                }
                self.stretch_bytes *= 2;
            }
            self.note()?;
        }
        self.bytes += scan.bytes_read();
        let surveyed = Surveyed { from: part.from, stretches, is_damaged };
        self.files.insert((part.file.hour, part.file.shard), surveyed);
        Ok(())
    }

    /// Notes what it takes: every stretch as if it had a bit for every router.
    fn note(&mut self) -> Result<(), LogError> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let words = self.numbers.len().div_ceil(64) * size_of::<u64>() + size_of::<Stretch>();
        let now = (self.stretches * words) as u64 + self.numbers.len() as u64 * NUMBER_BYTES;
        held.replace(self.noted_bytes, now);
        self.noted_bytes = now;
        held.check()
    }
}

impl Surveyed {
    /// (first byte, end) of what is meant from a byte on; what lies side by side is one.
    fn stretches_from(&self, from: u64, is_meant: &dyn Fn(&Stretch) -> bool) -> Vec<(u64, u64)> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        let mut begin = self.from;
        for stretch in &self.stretches {
            let (start, end) = (begin.max(from), stretch.end);
            begin = stretch.end;
            if end <= from || !is_meant(stretch) {
                continue;
            }
            match found.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => found.push((start, end)),
            }
        }
        found
    }
}

/// Makes one of every two; returns how many fewer there are.
fn halve(stretches: &mut Vec<Stretch>) -> usize {
    let before = stretches.len();
    let mut kept: Vec<Stretch> = Vec::with_capacity(before.div_ceil(2));
    for (place, stretch) in stretches.drain(..).enumerate() {
        match kept.last_mut().filter(|_| place % 2 == 1) {
            Some(last) => last.join(&stretch),
            None => kept.push(stretch),
        }
    }
    *stretches = kept;
    before - stretches.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(end: u64, routers: &[usize]) -> Stretch {
        let mut stretch = Stretch { end, ..Stretch::default() };
        routers.iter().for_each(|number| stretch.add(*number));
        stretch
    }

    #[test]
    fn a_coarser_survey_forgets_nobody() {
        let mut stretches = vec![stretch(10, &[0]), stretch(20, &[70]), stretch(30, &[3])];
        assert_eq!(halve(&mut stretches), 1);
        assert_eq!(stretches.iter().map(|it| it.end).collect::<Vec<_>>(), [20, 30]);
        let has = |number: usize| stretches.iter().map(|it| it.has(number)).collect::<Vec<_>>();
        assert_eq!((has(0), has(70)), (vec![true, false], vec![true, false]));
        assert_eq!((has(3), has(1)), (vec![false, true], vec![false, false]));
    }

    #[test]
    fn what_is_meant_is_cut_out_from_the_byte_that_counts() {
        let stretches =
            vec![stretch(10, &[1]), stretch(20, &[1]), stretch(30, &[2]), stretch(40, &[1])];
        let file = Surveyed { from: 4, stretches, is_damaged: false };
        let of = |number: usize, from: u64| file.stretches_from(from, &|it| it.has(number));
        assert_eq!(of(1, 4), [(4, 20), (30, 40)]);
        assert_eq!(of(1, 15), [(15, 20), (30, 40)]);
        assert_eq!(of(1, 20), [(30, 40)]);
        assert_eq!(of(2, 0), [(20, 30)]);
        assert_eq!(of(3, 0), []);
    }
}
