//! The feed: asks the collector once a second, for what is shown, and tells what is new.
//!
//! In:   a client; what is wanted.
//! Out:  `News`.
//! Law:  the collector is never asked while it is still answering, and a large answer less often.
//! Not:  what an answer is shown as (`draw`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use storage::time::Micros;

use super::client::{Client, ClientError};
use super::picture::News;
use super::view::Wanted;
use crate::http::api::{BurstsAnswer, MomentsAnswer, NowAnswer, RoutersAnswer};
use crate::watch::{Burst, Head, Moment};

/// How often the collector is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// Asking for the routers of a large fleet may take this part of the time: one in so many.
const ROUTERS_SHARE: u32 = 10;
/// Bursts that are shown.
const BURSTS_MAX: usize = 200;
/// A burst is known so long after its beginning, microseconds.
const RECENT_US: i64 = 10_000_000;
/// News that may wait for the drawing.
const NEWS_MAX: usize = 64;

/// What asks, on a thread of its own. It ends when this is dropped and its last answer is there.
#[derive(Debug)]
pub(super) struct Feed {
    wanted: Arc<Mutex<Wanted>>,
    wake: Sender<()>,
    news: Receiver<News>,
}

impl Feed {
    /// Starts to ask.
    pub(super) fn start(client: Client) -> std::io::Result<Feed> {
        let wanted = Arc::new(Mutex::new(Wanted::default()));
        let (wake, woken) = bounded(1);
        let (tell, news) = bounded(NEWS_MAX);
        let asker = Asker::new(client);
        let shared = Arc::clone(&wanted);
        let thread = thread::Builder::new().name("feed".to_owned());
        thread.spawn(move || ask_on(asker, &shared, &tell, &woken))?;
        Ok(Feed { wanted, wake, news })
    }

    /// What came since the last call.
    pub(super) fn news(&self) -> impl Iterator<Item = News> + '_ {
        self.news.try_iter()
    }

    /// Asks for other things from now on; what was not asked for before is asked for at once.
    pub(super) fn want(&self, wanted: Wanted) {
        let mut now = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != wanted {
            *now = wanted;
            // One call that waits is enough.
            let _ = self.wake.try_send(());
        }
    }
}

fn ask_on(mut asker: Asker, wanted: &Mutex<Wanted>, tell: &Sender<News>, woken: &Receiver<()>) {
    loop {
        let started = Instant::now();
        let wants = *wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let told = asker.ask(wants, &mut |news| tell.send(news).is_ok());
        let last = told.map_or_else(|error| News::Failed(error.to_string()), |()| News::Complete);
        if tell.send(last).is_err() {
            return;
        }
        match woken.recv_timeout(PERIOD.saturating_sub(started.elapsed())) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Knows what it has asked already.
#[derive(Debug)]
pub(super) struct Asker {
    client: Client,
    /// The last moment that was told.
    told_us: i64,
    /// By id; none before they were asked for.
    bursts: Option<BTreeMap<i64, Head>>,
    /// Not before this are the routers asked for again.
    routers_due: Option<Instant>,
}

impl Asker {
    pub(super) fn new(client: Client) -> Asker {
        Asker { client, told_us: 0, bursts: None, routers_due: None }
    }

    /// Asks for all that is wanted, and tells it. That nobody listens any more shows at the end.
    pub(super) fn ask(
        &mut self,
        wanted: Wanted,
        tell: &mut dyn FnMut(News) -> bool,
    ) -> Result<(), ClientError> {
        let asked = self.ask_all(wanted, tell);
        if asked.is_err() {
            // What was missed meanwhile is asked for as at the beginning.
            self.bursts = None;
        }
        asked
    }

    fn ask_all(
        &mut self,
        wanted: Wanted,
        tell: &mut dyn FnMut(News) -> bool,
    ) -> Result<(), ClientError> {
        let since = Micros(self.told_us);
        let answer: MomentsAnswer = self.client.ask(&format!("moments?since={since}"))?;
        let bursts = self.ask_bursts(&answer.moments)?;
        if let Some(last) = answer.moments.last() {
            self.told_us = last.time_us;
        }
        let _ = tell(News::Moments(answer.moments));
        if let Some(bursts) = bursts {
            let _ = tell(News::Bursts(bursts));
        }
        let now: NowAnswer = self.client.ask("now")?;
        let _ = tell(News::Now(Box::new(now)));
        if let Some(id) = wanted.burst {
            match self.client.ask::<Burst>(&format!("bursts/{id}")) {
                Ok(burst) => _ = tell(News::Burst(Box::new(burst))),
                // It has been forgotten since the list was made.
                Err(ClientError::Refused { status: 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let started = Instant::now();
        if wanted.routers && self.routers_due.is_none_or(|due| due <= started) {
            let answer: RoutersAnswer = self.client.ask("routers")?;
            self.routers_due = Some(started + started.elapsed() * ROUTERS_SHARE);
            let _ = tell(News::Routers(answer.routers));
        }
        Ok(())
    }

    /// The bursts, newest first, if there may be other ones than a turn ago. The collector looks
    /// into its log for them: all of a day are asked for once, and then what is not over yet.
    fn ask_bursts(&mut self, moments: &[Moment]) -> Result<Option<Vec<Head>>, ClientError> {
        let path = match &self.bursts {
            None => "bursts".to_owned(),
            Some(bursts) => {
                let running = bursts.values().find(|burst| burst.is_running);
                let stirred = |moment: &Moment| moment.burst.is_some() || moment.gained.frames > 0;
                if running.is_none() && !moments.iter().any(stirred) {
                    return Ok(None);
                }
                let recent_us = self.told_us - RECENT_US;
                let since_us = running.map_or(recent_us, |burst| burst.id.min(recent_us));
                format!("bursts?since={}", Micros(since_us))
            }
        };
        let answer: BurstsAnswer = self.client.ask(&path)?;
        let bursts = self.bursts.get_or_insert_default();
        bursts.extend(answer.bursts.into_iter().map(|burst| (burst.id, burst)));
        while bursts.len() > BURSTS_MAX {
            bursts.pop_first();
        }
        Ok(Some(bursts.values().rev().cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::http::tests::quiet_sources;
    use crate::http::{Guard, HttpServer};

    /// Longest wait for anything that is sure to come.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn await_news(feed: &Feed, wanted: impl Fn(&News) -> bool) -> News {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let news = feed.news.recv_deadline(deadline).expect("the news did not come");
            if wanted(&news) {
                return news;
            }
        }
    }

    #[test]
    fn the_feed_asks_again_until_somebody_answers_and_as_soon_as_more_is_wanted() {
        // Nobody else listens on this address.
        let address = SocketAddr::from(([127, 77, 0, 1], 30_311));
        let client = Client::new(&address.to_string(), None).unwrap();
        let feed = Feed::start(client).unwrap();
        let failed = await_news(&feed, |news| matches!(news, News::Failed(_)));
        assert!(matches!(failed, News::Failed(told) if told.contains("127.77.0.1:30311")));
        let guard = Guard::new(address, None).unwrap();
        let server = HttpServer::start(address, guard, quiet_sources()).unwrap();
        await_news(&feed, |news| matches!(news, News::Complete));
        feed.want(Wanted { routers: true, burst: Some(17) });
        await_news(&feed, |news| matches!(news, News::Routers(routers) if routers.is_empty()));
        // A burst that nobody knows is no failure.
        await_news(&feed, |news| matches!(news, News::Complete));
        drop(server);
        await_news(&feed, |news| matches!(news, News::Failed(_)));
    }

    #[test]
    fn bursts_are_asked_for_when_there_may_be_other_ones() {
        let sources = quiet_sources();
        let (watch, now_us) = (sources.watch.clone(), sources.clock.now().wall.0);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let guard = Guard::new(address, None).unwrap();
        let server = HttpServer::start(address, guard, sources).unwrap();
        let mut asker = Asker::new(Client::new(&server.address().to_string(), None).unwrap());
        let second = |second: i64, frames: u64, burst: Option<i64>| {
            let time_us = now_us + second * 1_000_000;
            let mut moment = Moment { time_us, burst, ..Moment::default() };
            moment.gained.frames = frames;
            watch.tell(moment);
        };
        let burst = |is_running: bool| {
            let id = now_us + 7;
            let head = Head { id, start_us: id, end_us: id + 1, is_running, ..Head::default() };
            watch.tell_burst(Burst { head, ..Burst::default() });
        };
        // Whether each burst runs, newest first; nothing when they were not asked for.
        let mut told = || {
            let mut told = None;
            asker
                .ask(Wanted::default(), &mut |news| {
                    if let News::Bursts(bursts) = news {
                        told = Some(bursts.iter().map(|head| head.is_running).collect::<Vec<_>>());
                    }
                    true
                })
                .unwrap();
            told
        };
        second(0, 0, None);
        assert_eq!((told(), told()), (Some(vec![]), None));
        burst(true);
        second(1, 9, Some(now_us + 7));
        assert_eq!((told(), told()), (Some(vec![true]), Some(vec![true])));
        burst(false);
        second(2, 0, None);
        assert_eq!((told(), told()), (Some(vec![false]), None));
        second(3, 1, None);
        assert_eq!(told(), Some(vec![false]));
    }
}
