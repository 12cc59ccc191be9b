//! Admission: how often one source may open a session.
//!
//! In:   the address of each new connection, and the monotonic time.
//! Out:  yes or no.
//! Law:  a source that reconnects in a loop is refused at accept, and costs a bounded entry here.
//! Not:  which sources may connect at all (`policy`).

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Sources remembered at once; beyond it those with nothing spent are forgotten, then the eldest.
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
        while self.empty_us.len() >= SOURCES_MAX {
            let eldest = self.empty_us.iter().min_by_key(|entry| *entry.1).map(|entry| *entry.0);
            let Some(eldest) = eldest else { return };
            self.empty_us.remove(&eldest);
        }
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
}
