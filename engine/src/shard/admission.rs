//! Admission: how often one source may open a session.
//!
//! In:   the address of each new connection, and the monotonic time.
//! Out:  yes or no.
//! Law:  a source that reconnects in a loop is refused at accept, and costs a bounded entry here.
//! Not:  which sources may connect at all (`policy`).

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Sources remembered at once; beyond it those with nothing spent are forgotten, then the eldest
/// quarter.
const SOURCES_MAX: usize = 65_536;
const MINUTE_US: u64 = 60_000_000;

/// Sessions that each source opened lately, as a bucket that leaks one per `interval_us`.
#[derive(Debug)]
pub(crate) struct Admission {
    per_minute_max: u64,
    interval_us: u64,
    /// When the source's bucket will be empty again.
    empty_us: BTreeMap<IpAddr, u64>,
}

impl Admission {
    pub(crate) fn new(per_minute_max: u64) -> Admission {
        let per_minute_max = per_minute_max.max(1);
        let interval_us = (MINUTE_US / per_minute_max).max(1);
        Admission { per_minute_max, interval_us, empty_us: BTreeMap::new() }
    }

    /// Whether `source` may open one more session now.
    pub(crate) fn admit(&mut self, source: IpAddr, now_us: u64) -> bool {
        if self.empty_us.len() >= SOURCES_MAX && !self.empty_us.contains_key(&source) {
            self.forget(now_us);
        }
        let empty = self.empty_us.entry(source).or_insert(now_us);
        let next = (*empty).max(now_us) + self.interval_us;
        let admitted = next - now_us <= self.per_minute_max * self.interval_us;
        if admitted {
            *empty = next;
        }
        admitted
    }

    fn forget(&mut self, now_us: u64) {
        self.empty_us.retain(|_, empty| *empty > now_us);
        if self.empty_us.len() < SOURCES_MAX {
            return;
        }
        // A quarter at once: a flood of new sources does not cost a look at all of them each.
        let mut times: Vec<u64> = self.empty_us.values().copied().collect();
        let (_, bound, _) = times.select_nth_unstable(SOURCES_MAX / 4);
        let mut excess = SOURCES_MAX / 4;
        let bound = *bound;
        self.empty_us.retain(|_, empty| {
            let is_eldest = *empty <= bound && excess > 0;
            excess -= usize::from(is_eldest);
            !is_eldest
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_reconnects_in_a_loop_is_refused_and_comes_back() {
        let mut admission = Admission::new(60);
        let source = IpAddr::from([127, 0, 0, 1]);
        let admitted = (0..1000).filter(|_| admission.admit(source, 0)).count();
        assert_eq!(admitted, 60);
        assert!(admission.admit(IpAddr::from([127, 0, 0, 2]), 0), "only the one that floods");
        assert!(!admission.admit(source, 999_999));
        assert!(admission.admit(source, 1_000_000));
    }

    #[test]
    fn a_flood_of_sources_costs_a_bounded_memory_and_little_time() {
        let mut admission = Admission::new(60);
        let mut looks = 0;
        for source in 0..1_000_000_u32 {
            let before = admission.empty_us.len();
            assert!(admission.admit(IpAddr::from(source.to_be_bytes()), u64::from(source)));
            assert!(admission.empty_us.len() <= SOURCES_MAX);
            looks += usize::from(admission.empty_us.len() <= before);
        }
        assert!(looks <= 1_000_000 / (SOURCES_MAX / 4) + 1, "{looks} looks at every source");
    }
}
