//! The routers as metrics: what the collector can vouch for of them, and whose clocks are ahead.
//!
//! In:   one line per router, as the shards know it at this moment.
//! Out:  lines of `/metrics`.
//! Law:  one pass over the routers for each scrape, and none in between.
//! Not:  what a shard counts itself (`metrics`), each router by its name (`api::routers`).

use std::fmt::Write as _;

use crate::metrics::{head, line};
use crate::query::{Answer, RouterRow, RouterStatus};
use crate::roster::RosterLine;

/// Name, kind, labels and meaning of every family of this page, in its order.
pub(crate) const FAMILIES: [(&str, &str, &str, &str); 3] = [
    (
        "stormdrain_routers",
        "gauge",
        "`answer`",
        "Routers by what the collector can vouch for: all of their tables (known), a part \
         (in-part), nothing (unknown).",
    ),
    (
        "stormdrain_routers_clock_ahead",
        "gauge",
        "",
        "Connected routers whose clock is more than 60 s ahead of this host's: their times are \
         not believed.",
    ),
    (
        "stormdrain_clock_skew_max_seconds",
        "gauge",
        "",
        "How far the clock that is most ahead is ahead of this host's, of all connected routers, \
         at least; negative = all are behind.",
    ),
];

/// What of the routers is a metric.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    known: u64,
    in_part: u64,
    unknown: u64,
    clocks_ahead: u64,
    skew_max_us: Option<i64>,
}

impl Sums {
    fn add(&mut self, row: &RouterRow) {
        match row.answer {
            Answer::Known => self.known += 1,
            Answer::InPart { .. } => self.in_part += 1,
            Answer::Unknown { .. } => self.unknown += 1,
        }
        if row.status == RouterStatus::Connected {
            self.clocks_ahead += u64::from(row.is_clock_ahead());
            self.skew_max_us = self.skew_max_us.max(row.clock_skew_us);
        }
    }
}

/// The families, for these routers.
pub(super) fn families(text: &mut String, routers: &[RosterLine]) {
    let mut sums = Sums::default();
    routers.iter().for_each(|line| sums.add(&line.row));
    let [(routers, ..), (ahead, ..), (skew, ..)] = FAMILIES;
    let begin = |text: &mut String, place: usize| {
        let (name, kind, _, help) = FAMILIES[place];
        head(text, name, kind, help);
    };
    begin(text, 0);
    for (answer, count) in
        [("known", sums.known), ("in-part", sums.in_part), ("unknown", sums.unknown)]
    {
        line(text, routers, &format!("answer=\"{answer}\""), count);
    }
    begin(text, 1);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{ahead} {}", sums.clocks_ahead);
    if let Some(skew_us) = sums.skew_max_us {
        begin(text, 2);
        let _ = writeln!(text, "{skew} {:.6}", skew_us as f64 / 1e6);
    }
}

#[cfg(test)]
mod tests {
    use storage::table::CLOCK_AHEAD_MAX_US;

    use super::*;
    use crate::query::{Instant, network, router_rows, sample};

    #[test]
    fn every_router_is_counted_for_what_it_is_worth() {
        assert_eq!(CLOCK_AHEAD_MAX_US, 60_000_000, "the text of the metric says 60 s");
        let folder = tempfile::tempdir().unwrap();
        let _lock = sample::write_model(folder.path());
        let now = Instant::Now(sample::NOW);
        let rows = router_rows(&network(folder.path(), now, None).unwrap().value);
        let line = |row: &RouterRow| RosterLine { row: row.clone(), shard: None, live: None };
        let mut lines: Vec<RosterLine> = rows.iter().map(line).collect();
        let text = |lines: &[RosterLine]| {
            let mut text = String::new();
            families(&mut text, lines);
            text
        };
        let told = text(&lines);
        for expected in [
            "stormdrain_routers{answer=\"known\"} 1\n",
            "stormdrain_routers{answer=\"in-part\"} 1\n",
            "stormdrain_routers{answer=\"unknown\"} 0\n",
            "stormdrain_routers_clock_ahead 2\n",
            "stormdrain_clock_skew_max_seconds 1800.000000\n",
        ] {
            assert!(told.contains(expected), "{expected} in\n{told}");
        }
        // Who is not connected has no clock.
        lines.iter_mut().for_each(|line| line.row.status = RouterStatus::Disconnected);
        let told = text(&lines);
        assert!(told.contains("stormdrain_routers_clock_ahead 0\n"), "{told}");
        assert!(!told.contains("skew"), "{told}");
    }
}
