//! The watch: looks at the collector and at the kernel all the time, so that a burst is an event.
//!
//! In:   what the shards publish, every 10 ms while anything comes; the kernel's counters, at 1 Hz,
//!       at 20 Hz in a burst.
//! Out:  a quarter of an hour of moments, the last bursts, and news of both.
//! Law:  it runs on a thread of its own at low priority and asks nothing of a shard.
//! Not:  what is served of it (`http`), or what the log says of the past (`query`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::time::Micros;
use tokio::sync::broadcast;

mod alarm;
mod burst;
mod connections;
mod keep;
mod moment;
mod record;
mod strain;
mod survey;
mod thread;
mod verdict;
mod work;

pub use alarm::Alarm;
pub use burst::{BIN_US, Bin, Burst, Detector, Head, Level, Moved, Step, Turn};
pub use connections::{Connection, Connections, Copied};
pub use moment::{Kernel, MemoryUse, Moment, Sessions, ShardShare, Totals};
pub(crate) use record::is_begin;
pub use record::{Headless, Reader};
pub(crate) use thread::Watcher;
pub use verdict::{Evidence, Layer, Outcome, SocketEvidence, Verdict, Worst, judge};

/// A quarter of an hour of seconds.
const MOMENTS_MAX: usize = 900;
/// Bursts that are kept in memory; the log keeps them all.
const BURSTS_MAX: usize = 100;
/// News that a slow listener may be behind.
const NEWS_MAX: usize = 64;

/// What there is to see. A handle: clones see the same.
#[derive(Clone, Debug)]
pub struct Watch {
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct Seen {
    moments: Mutex<VecDeque<Arc<Moment>>>,
    /// Oldest first; the one that runs is apart.
    bursts: Mutex<VecDeque<Arc<Burst>>>,
    running: Mutex<Option<Arc<Burst>>>,
    /// Every burst that ended at this instant or later is kept; `None`: nobody knows.
    complete_us: Mutex<Option<i64>>,
    connections: Connections,
    news: broadcast::Sender<News>,
}

/// What listeners are told.
#[derive(Clone, Debug)]
pub enum News {
    /// A second has passed.
    Moment(Arc<Moment>),
    /// A burst began, goes on (once a second), or ended.
    Burst(Arc<Head>),
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new()
    }
}

impl Watch {
    /// A watch that has seen nothing yet.
    pub fn new() -> Watch {
        let seen = Seen {
            moments: Mutex::default(),
            bursts: Mutex::default(),
            running: Mutex::default(),
            complete_us: Mutex::default(),
            connections: Connections::default(),
            news: broadcast::channel(NEWS_MAX).0,
        };
        Watch { seen: Arc::new(seen) }
    }

    /// The moments that are kept, oldest first: a quarter of an hour.
    pub fn moments(&self) -> Vec<Arc<Moment>> {
        locked(&self.seen.moments).iter().cloned().collect()
    }

    /// The last moment.
    pub fn moment(&self) -> Option<Arc<Moment>> {
        locked(&self.seen.moments).back().cloned()
    }

    /// The bursts that are kept, newest first, one that runs included; without bins.
    pub fn bursts(&self) -> Vec<Head> {
        let running = locked(&self.seen.running).clone();
        let bursts: Vec<Arc<Burst>> = locked(&self.seen.bursts).iter().rev().cloned().collect();
        running.iter().chain(&bursts).map(|burst| burst.head.clone()).collect()
    }

    /// Whether all bursts are kept in memory that ended at this instant or later.
    pub fn has_bursts_since(&self, since: Micros) -> bool {
        locked(&self.seen.complete_us).is_some_and(|complete_us| complete_us <= since.0)
    }

    /// One burst in full.
    pub fn burst(&self, id: i64) -> Option<Arc<Burst>> {
        let running = locked(&self.seen.running).clone();
        let is_it = |burst: &Arc<Burst>| burst.head.id == id;
        running
            .filter(is_it)
            .or_else(|| locked(&self.seen.bursts).iter().find(|burst| is_it(burst)).cloned())
    }

    /// What the kernel says of each connection, as far as it has been asked.
    pub fn connections(&self) -> &Connections {
        &self.seen.connections
    }

    /// News from now on. A listener that is too slow misses some and is told how many.
    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.seen.news.subscribe()
    }

    /// A second has passed.
    pub fn tell(&self, moment: Moment) {
        let moment = Arc::new(moment);
        let mut moments = locked(&self.seen.moments);
        while moments.len() >= MOMENTS_MAX {
            moments.pop_front();
        }
        moments.push_back(Arc::clone(&moment));
        drop(moments);
        // Nobody has to listen.
        let _ = self.seen.news.send(News::Moment(moment));
    }

    /// Bursts that were seen before the start, oldest first. If these are all of them from an
    /// instant on, it is said.
    pub(crate) fn restore(&self, mut bursts: Vec<Burst>, complete: Option<Micros>) {
        let last = bursts.split_off(bursts.len().saturating_sub(BURSTS_MAX));
        let forgotten_us = bursts.last().map_or(i64::MIN, |burst| burst.head.end_us);
        let mut kept = locked(&self.seen.bursts);
        *locked(&self.seen.complete_us) =
            complete.map(|complete| complete.0.max(forgotten_us.saturating_add(1)));
        for burst in last.into_iter().rev() {
            kept.push_front(Arc::new(burst));
        }
    }

    /// A burst runs, or has ended.
    pub fn tell_burst(&self, burst: Burst) {
        let burst = Arc::new(burst);
        let head = Arc::new(burst.head.clone());
        if burst.head.is_running {
            *locked(&self.seen.running) = Some(burst);
        } else {
            *locked(&self.seen.running) = None;
            let mut bursts = locked(&self.seen.bursts);
            while bursts.len() >= BURSTS_MAX {
                let forgotten = bursts.pop_front();
                if let (Some(complete_us), Some(forgotten)) =
                    (&mut *locked(&self.seen.complete_us), forgotten)
                {
                    *complete_us = (*complete_us).max(forgotten.head.end_us.saturating_add(1));
                }
            }
            bursts.push_back(burst);
        }
        let _ = self.seen.news.send(News::Burst(head));
    }
}

/// What is behind these locks is whole at every moment: a thread that panicked ends the process.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_bursts_are_kept_for_a_while_and_listeners_hear_of_them() {
        let watch = Watch::new();
        let mut news = watch.listen();
        let moment = |time_us: i64| Moment { time_us, ..Moment::default() };
        for second in 0..=MOMENTS_MAX as i64 {
            watch.tell(moment(second));
        }
        let times: Vec<i64> = watch.moments().iter().map(|moment| moment.time_us).collect();
        assert_eq!((times.len(), times[0], times[MOMENTS_MAX - 1]), (MOMENTS_MAX, 1, 900));
        assert_eq!(watch.moment().unwrap().time_us, 900);
        assert!(matches!(news.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));

        let burst = |id: i64, is_running: bool| Burst {
            head: Head { id, is_running, ..Head::default() },
            ..Burst::default()
        };
        watch.tell_burst(burst(1, true));
        watch.tell_burst(burst(1, false));
        watch.tell_burst(burst(2, true));
        let heads: Vec<_> = watch.bursts().iter().map(|head| (head.id, head.is_running)).collect();
        assert_eq!(heads, [(2, true), (1, false)]);
        assert!(watch.burst(1).is_some() && watch.burst(2).is_some() && watch.burst(3).is_none());
    }

    #[test]
    fn it_is_known_from_when_on_every_burst_is_kept() {
        let burst = |end_us: i64| Burst {
            head: Head { id: end_us, end_us, ..Head::default() },
            ..Burst::default()
        };
        let watch = Watch::new();
        let since = |watch: &Watch, us: i64| watch.has_bursts_since(Micros(us));
        assert!(!since(&watch, i64::MAX), "nobody has read what was before");
        watch.restore((1..=3).map(burst).collect(), None);
        assert!(!since(&watch, i64::MAX), "and what was read may not be all");
        let watch = Watch::new();
        watch.restore((1..=BURSTS_MAX as i64 + 2).map(burst).collect(), Some(Micros(-50)));
        assert!(!since(&watch, 2) && since(&watch, 3), "two found no place");
        watch.tell_burst(burst(1_000));
        assert!(!since(&watch, 3) && since(&watch, 4), "and then a third");
        let watch = Watch::new();
        watch.restore((1..=3).map(burst).collect(), Some(Micros(-50)));
        assert!(!since(&watch, -51) && since(&watch, -50));
    }
}
