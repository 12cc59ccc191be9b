//! The picture: what was answered last, and whether anybody answers.
//!
//! In:   news of the feed.
//! Out:  values that the drawing reads.
//! Law:  an old value is shown as old: the link says since when nothing came.
//! Not:  asking (`feed`), drawing (`draw`).

use std::collections::VecDeque;

use crate::http::api::{NowAnswer, RouterEntry};
use crate::watch::{Burst, Head, Moment};

/// A quarter of an hour of seconds, as many as the collector keeps.
const MOMENTS_MAX: usize = 900;

/// Something new.
#[derive(Debug)]
pub(super) enum News {
    /// The last second, and what is wrong.
    Now(Box<NowAnswer>),
    /// Moments since the last that was told, oldest first.
    Moments(Vec<Moment>),
    /// The bursts that are kept, newest first.
    Bursts(Vec<Head>),
    /// One burst in full.
    Burst(Box<Burst>),
    /// Every router.
    Routers(Vec<RouterEntry>),
    /// Everything of this turn was told.
    Complete,
    /// There was no answer, and why.
    Failed(String),
}

/// Whether anybody answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nobody has answered yet.
    Waiting,
    /// The last question was answered.
    Live,
    /// The last question was not.
    Lost {
        /// Since when, on the clock of this program, milliseconds.
        since_ms: u64,
        /// Why.
        told: String,
    },
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Picture {
    /// Where the collector's HTTP side listens.
    pub(super) address: String,
    pub(super) link: Link,
    /// What is wrong, as `/healthz` says it.
    pub(super) faults: Vec<String>,
    /// Version of the collector and what drives its sockets.
    pub(super) about: String,
    /// Oldest first.
    pub(super) moments: VecDeque<Moment>,
    /// Newest first.
    pub(super) bursts: Vec<Head>,
    /// The burst that was asked for.
    pub(super) burst: Option<Box<Burst>>,
    /// None before they were asked for.
    pub(super) routers: Option<Vec<RouterEntry>>,
}

impl Picture {
    pub(super) fn new(address: &str) -> Picture {
        Picture {
            address: address.to_owned(),
            link: Link::Waiting,
            faults: Vec::new(),
            about: String::new(),
            moments: VecDeque::new(),
            bursts: Vec::new(),
            burst: None,
            routers: None,
        }
    }

    /// The last moment.
    pub(super) fn moment(&self) -> Option<&Moment> {
        self.moments.back()
    }

    /// Takes in what is new. `now_ms`: the clock of this program.
    pub(super) fn take(&mut self, news: News, now_ms: u64) {
        match news {
            News::Now(now) => self.now(*now),
            News::Moments(moments) => self.moments(moments),
            News::Bursts(bursts) => self.bursts = bursts,
            News::Burst(burst) => self.burst = Some(burst),
            News::Routers(routers) => self.routers = Some(routers),
            News::Complete => self.link = Link::Live,
            News::Failed(told) => {
                let since_ms = match self.link {
                    Link::Lost { since_ms, .. } => since_ms,
                    Link::Waiting | Link::Live => now_ms,
                };
                self.link = Link::Lost { since_ms, told };
            }
        }
    }

    fn now(&mut self, now: NowAnswer) {
        self.faults = now.faults;
        let driver = now.driver.map_or(String::new(), |driver| format!(", {driver}"));
        self.about = format!("{}{driver}", now.version);
        self.moments(now.moment.into_iter().collect());
    }

    fn moments(&mut self, moments: Vec<Moment>) {
        for moment in moments {
            let last = self.moment();
            // Totals that fall are those of a collector that started anew.
            if last.is_some_and(|last| moment.totals.received_bytes < last.totals.received_bytes) {
                self.moments.clear();
            }
            if self.moment().is_some_and(|last| moment.time_us <= last.time_us) {
                continue;
            }
            while self.moments.len() >= MOMENTS_MAX {
                self.moments.pop_front();
            }
            self.moments.push_back(moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(time_us: i64, received_bytes: u64) -> Moment {
        let mut moment = Moment { time_us, ..Moment::default() };
        moment.totals.received_bytes = received_bytes;
        moment
    }

    #[test]
    fn moments_that_are_told_twice_count_once_and_a_new_collector_begins_anew() {
        let mut picture = Picture::new("x:1");
        let times = |picture: &Picture| -> Vec<i64> {
            picture.moments.iter().map(|moment| moment.time_us).collect()
        };
        picture.take(News::Moments(vec![moment(1, 5), moment(2, 6)]), 0);
        picture.take(News::Moments(vec![moment(2, 6), moment(3, 7)]), 0);
        assert_eq!(times(&picture), [1, 2, 3]);
        picture.take(News::Moments((4..2_000).map(|time| moment(time, 8)).collect()), 0);
        assert_eq!((picture.moments.len(), times(&picture)[0]), (MOMENTS_MAX, 1_100));
        picture.take(News::Moments(vec![moment(3_000, 1)]), 0);
        assert_eq!(times(&picture), [3_000]);
    }

    #[test]
    fn the_link_says_since_when_nothing_came() {
        let mut picture = Picture::new("x:1");
        picture.take(News::Failed("refused".to_owned()), 10);
        picture.take(News::Failed("timeout".to_owned()), 20);
        let lost = Link::Lost { since_ms: 10, told: "timeout".to_owned() };
        assert_eq!(picture.link, lost);
        picture.take(News::Complete, 30);
        assert_eq!(picture.link, Link::Live);
    }
}
