//! Bursts and counters as kernel rows, and back.
//!
//! In:   what the watch saw; kernel rows of the log, in their order.
//! Out:  kernel rows; bursts that are equal to those that were seen, but for what was cut.
//! Law:  the names are those of docs/STORAGE-FORMAT.md, "Kernel rows"; nothing in the log makes
//!       reading it fail or take memory without bound.
//! Not:  when they are written (`keep`).

use storage::row::KernelRow;
use storage::time::Micros;

use super::burst::{BIN_US, Bin, Burst, Head, Moved};
use super::verdict::{Layer, Outcome, Verdict, Worst};

const BEGIN: &str = "burst.begin";
const END: &str = "burst.end";
const CUT: &str = "burst.cut";
const RECEIVED: &str = "bin.received_bytes";
const MAPPINGS: &str = "bin.mappings";
const SURGE: &str = "bin.surge_bytes";
const ROUTERS: &str = "burst.routers";
const GAPS: &str = "burst.gaps";
const BLOCKED: &str = "burst.blocked_longest_ms";
const LOOK: &str = "burst.look_longest_us";
const BECAUSE: &str = "burst.because ";
const WORST: &str = "burst.worst ";
/// Before what is said of a burst, and of its bins: everything else is a counter.
const BURST_PREFIX: &str = "burst.";
const BIN_PREFIX: &str = "bin.";
/// More bins of 10 ms than these, a month of them, come of a damaged time.
const PLACES_MAX: u64 = 31 * 86_400 * 100;

fn row(time_us: i64, counter: impl Into<Box<str>>, value: u64) -> KernelRow {
    KernelRow { time: Micros(time_us), counter: counter.into(), value }
}

/// The row with which a burst begins.
pub(super) fn begin(head: &Head) -> KernelRow {
    row(head.start_us, BEGIN, 0)
}

/// Whether a burst begins with this row.
pub(crate) fn is_begin(row: &KernelRow) -> bool {
    &*row.counter == BEGIN
}

/// The row of a collector that starts and finds a burst without an end: what follows is not of it.
pub(super) fn cut(time: Micros) -> KernelRow {
    row(time.0, CUT, 0)
}

/// Counters that moved.
pub(super) fn moved(rows: &mut Vec<KernelRow>, time_us: i64, moved: &[Moved]) {
    rows.extend(moved.iter().map(|moved| row(time_us, moved.counter.as_str(), moved.by)));
}

/// Bins of 10 ms, each with its place since the start.
pub(super) fn bins(rows: &mut Vec<KernelRow>, start_us: i64, bins: &[(u64, Bin)]) {
    for (place, bin) in bins {
        let time_us = start_us.saturating_add_unsigned(place * BIN_US);
        let values =
            [(RECEIVED, bin.received_bytes), (MAPPINGS, bin.mappings), (SURGE, bin.surge_bytes)];
        let told = values.into_iter().filter(|(_, value)| *value > 0);
        rows.extend(told.map(|(counter, value)| row(time_us, counter, value)));
    }
}

/// What is known when a burst has ended, and its last row.
pub(super) fn end(rows: &mut Vec<KernelRow>, head: &Head) {
    let facts = [
        (ROUTERS, head.routers),
        (GAPS, head.gaps),
        (BLOCKED, head.blocked_longest_ms),
        (LOOK, head.look_longest_us),
    ];
    rows.extend(facts.map(|(counter, value)| row(head.end_us, counter, value)));
    for Worst { peer, router, drops } in &head.worst {
        let router = router.as_deref().unwrap_or("-");
        rows.push(row(head.end_us, format!("{WORST}{peer} {router}"), *drops));
    }
    if let Some(verdict) = &head.verdict {
        let because = |reason: &String| row(head.end_us, format!("{BECAUSE}{reason}"), 0);
        rows.extend(verdict.reasons.iter().map(because));
        let outcome = verdict.outcome.name();
        let name = match verdict.layer {
            Some(layer) => format!("{BURST_PREFIX}{outcome}.{}", layer.name()),
            None => format!("{BURST_PREFIX}{outcome}"),
        };
        rows.push(row(head.end_us, name, 0));
    }
    let lasted_us = u64::try_from(head.end_us.saturating_sub(head.start_us)).unwrap_or(0);
    rows.push(row(head.end_us, END, lasted_us));
}

/// Puts bursts together again from rows in the order in which they were written.
#[derive(Debug, Default)]
pub struct Reader {
    current: Option<Burst>,
    reasons: Vec<String>,
    bursts: Vec<Burst>,
    has_begun: bool,
    headless: Option<Headless>,
}

/// A burst whose rows were taken without the one with which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headless {
    /// It began then: its end says so.
    BeganAt(Micros),
    /// It began before the first row that was taken, and its end has not been seen.
    BeganBefore,
}

impl Reader {
    /// Takes the next row. A counter outside of any burst is passed over.
    pub fn take(&mut self, row: &KernelRow) {
        if is_begin(row) {
            self.cut();
            self.has_begun = true;
            let start_us = row.time.0;
            let head = Head { id: start_us, start_us, end_us: start_us, ..Head::default() };
            self.current = Some(Burst { head, bin_us: BIN_US, ..Burst::default() });
            return;
        }
        if &*row.counter == CUT {
            self.cut();
            return;
        }
        let Some(burst) = &mut self.current else {
            self.take_headless(row);
            return;
        };
        if row.counter.starts_with(BIN_PREFIX) {
            take_bin(burst, row);
        } else if let Some(reason) = row.counter.strip_prefix(BECAUSE) {
            self.reasons.push(reason.to_owned());
        } else if let Some(names) = row.counter.strip_prefix(WORST) {
            let (peer, router) = names.split_once(' ').unwrap_or((names, "-"));
            let router = (router != "-").then(|| router.to_owned());
            let worst = Worst { peer: peer.to_owned(), router, drops: row.value };
            burst.head.worst.push(worst);
        } else if &*row.counter == END {
            burst.end_at(row.time.0);
            self.cut();
        } else if let Some(fact) = row.counter.strip_prefix(BURST_PREFIX) {
            take_fact(&mut burst.head, &row.counter, row.value);
            if let Some(mut verdict) = verdict(fact) {
                verdict.reasons = std::mem::take(&mut self.reasons);
                burst.head.verdict = Some(verdict);
            }
        } else {
            burst.head.end_us = burst.head.end_us.max(row.time.0);
            let moved = Moved { counter: row.counter.to_string(), by: row.value };
            burst.note(row.time.0, &[moved]);
        }
    }

    /// Whether a burst has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// The burst that ran already at the first row that was taken, as far as rows tell.
    pub fn headless(&self) -> Option<Headless> {
        self.headless
    }

    /// Whether rows still to come may tell of a burst that began before the first one.
    pub fn may_be_headless(&self) -> bool {
        !self.has_begun && !matches!(self.headless, Some(Headless::BeganAt(_)))
    }

    /// A row outside of any burst that is known: only such of a burst are of one.
    fn take_headless(&mut self, row: &KernelRow) {
        if !self.may_be_headless() {
            return;
        }
        if &*row.counter == END {
            let lasted_us = i64::try_from(row.value).unwrap_or(i64::MAX);
            self.headless = Some(Headless::BeganAt(row.time.offset(-lasted_us)));
        } else if row.counter.starts_with(BIN_PREFIX) || row.counter.starts_with(BURST_PREFIX) {
            self.headless = Some(Headless::BeganBefore);
        }
    }

    /// The bursts, oldest first; the last may not have ended.
    pub fn finish(mut self) -> Vec<Burst> {
        self.cut();
        self.bursts
    }

    fn cut(&mut self) {
        self.reasons.clear();
        self.bursts.extend(self.current.take());
    }
}

fn take_bin(burst: &mut Burst, row: &KernelRow) {
    let head = &mut burst.head;
    let since_us = u64::try_from(row.time.0.saturating_sub(head.start_us)).unwrap_or(0);
    let place = since_us / BIN_US;
    if place > PLACES_MAX {
        return;
    }
    let mut bin = Bin::default();
    match &*row.counter {
        RECEIVED => bin.received_bytes = row.value,
        MAPPINGS => bin.mappings = row.value,
        SURGE => bin.surge_bytes = row.value,
        _ => return,
    }
    head.end_us = head.end_us.max(row.time.0.saturating_add_unsigned(BIN_US));
    burst.count(place, bin);
}

fn take_fact(head: &mut Head, counter: &str, value: u64) {
    match counter {
        ROUTERS => head.routers = value,
        GAPS => head.gaps = value,
        BLOCKED => head.blocked_longest_ms = value,
        LOOK => head.look_longest_us = value,
        // A later version may say more.
        _ => {}
    }
}

/// `squeezed.disk`, `clean`.
fn verdict(fact: &str) -> Option<Verdict> {
    let (outcome, layer) = match fact.split_once('.') {
        Some((outcome, layer)) => (outcome, Some(layer)),
        None => (fact, None),
    };
    let outcome = Outcome::ALL.into_iter().find(|known| known.name() == outcome)?;
    let layer = layer.and_then(|layer| Layer::ALL.into_iter().find(|it| it.name() == layer));
    Some(Verdict { outcome, layer, reasons: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> (Burst, Vec<(u64, Bin)>) {
        let head = Head { id: 5_000, start_us: 5_000, ..Head::default() };
        let mut burst = Burst { head, bin_us: BIN_US, ..Burst::default() };
        let bins = [
            (0, Bin { received_bytes: 7, mappings: 0, surge_bytes: 7 }),
            (1, Bin { received_bytes: 9, mappings: 3, surge_bytes: 2 }),
            (3, Bin { received_bytes: 0, mappings: 4, surge_bytes: 0 }),
        ];
        bins.iter().for_each(|(place, bin)| burst.count(*place, *bin));
        burst.note(25_000, &[Moved { counter: "TcpExt.PruneCalled".to_owned(), by: 3 }]);
        burst.note(30_000, &[Moved { counter: "TcpExt.PruneCalled".to_owned(), by: 4 }]);
        burst.end_at(45_000);
        burst.head.routers = 12;
        burst.head.gaps = 1;
        burst.head.blocked_longest_ms = 250;
        burst.head.look_longest_us = 10_100;
        burst.head.worst = [Some("192.0.2.1".to_owned()), None]
            .map(|router| Worst { peer: "[2001:db8::1]:179".to_owned(), router, drops: 4 })
            .to_vec();
        burst.head.verdict = Some(Verdict {
            outcome: Outcome::Squeezed,
            layer: Some(Layer::Disk),
            reasons: vec!["the disk took 3 s".to_owned(), "and more".to_owned()],
        });
        (burst, bins.to_vec())
    }

    fn rows(burst: &Burst, of: &[(u64, Bin)]) -> Vec<KernelRow> {
        let mut rows = vec![row(1, "before.it", 1), begin(&burst.head)];
        bins(&mut rows, burst.head.start_us, of);
        for step in &burst.steps {
            rows.push(row(step.time_us, step.counter.as_str(), step.by));
        }
        end(&mut rows, &burst.head);
        rows.push(row(99_000, "after.it", 1));
        rows
    }

    fn read(rows: &[KernelRow]) -> Vec<Burst> {
        let mut reader = Reader::default();
        rows.iter().for_each(|row| reader.take(row));
        reader.finish()
    }

    #[test]
    fn a_burst_is_the_same_after_its_way_through_the_log() {
        let (burst, bins) = seen();
        assert_eq!(read(&rows(&burst, &bins)), [burst]);
    }

    #[test]
    fn a_burst_that_was_cut_is_there_and_nobody_judged_it() {
        let (burst, bins) = seen();
        let mut cut = rows(&burst, &bins);
        cut.truncate(5);
        cut.extend(rows(&burst, &bins));
        let bursts = read(&cut);
        assert_eq!((bursts.len(), &bursts[1]), (2, &burst));
        assert_eq!((bursts[0].head.verdict.as_ref(), bursts[0].head.received_bytes), (None, 16));
        assert_eq!(bursts[0].head.end_us, 25_000);

        // The next collector says that it ended: what moves then is of no burst.
        let mut cut = rows(&burst, &bins);
        cut.truncate(5);
        cut.extend([super::cut(Micros(70_000)), row(80_000, "TcpExt.PruneCalled", 9)]);
        let [found] = read(&cut).try_into().unwrap();
        assert_eq!((found.head.end_us, found.head.moved.len()), (25_000, 0));
        assert_eq!(found.head.verdict, None);
    }

    #[test]
    fn nonsense_in_the_log_is_bounded() {
        let mut nonsense = vec![row(0, BEGIN, 0)];
        for time_us in [i64::MIN, -1, i64::MAX, 1 << 41] {
            for name in [RECEIVED, MAPPINGS, SURGE, "burst.lost.nowhere", "bin.x", ROUTERS] {
                nonsense.push(row(time_us, name, u64::MAX));
            }
        }
        nonsense.push(row(i64::MAX, END, 0));
        let bursts = read(&nonsense);
        assert!(bursts[0].bins.len() <= super::super::burst::BINS_MAX);
        assert_eq!(bursts[0].head.verdict.as_ref().map(|verdict| verdict.layer), Some(None));
    }
}
