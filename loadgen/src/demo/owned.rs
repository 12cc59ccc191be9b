//! The demonstration's own collector: a scenario that restarts it really does.
//!
//! In:   settings; looks at the acts under way.
//! Out:  a running collector, and what all of its lives have counted together.
//! Law:  it is stopped when the first session of the act has broken, and comes back in its place.
//! Not:  when sessions come back (`scenario/plan`).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use engine::collector::{Collector, StartError};
use engine::metrics::{Metric, Publication};
use engine::settings::Settings;

use super::DemoError;
use crate::record::Recorder;
use crate::scenario::{Restart, Step};
use crate::sender::Progress;
use crate::stage::Look;

/// A collector, over all of its lives.
pub(super) struct Owned {
    settings: Settings,
    collector: Option<Collector>,
    /// What each life has counted.
    lives: Vec<Arc<Publication>>,
    /// The act under way, by its number.
    act: u64,
    /// Sessions that had been broken at the last look at the act before it.
    cuts_before: u64,
    /// Sessions that had been broken at the last look.
    cuts: u64,
    /// It has been restarted in the act under way.
    restarted: bool,
    failure: Option<DemoError>,
}

impl Owned {
    /// Starts it at an address of its own.
    pub(super) fn start(settings: &Settings, data: &Path) -> Result<Owned, StartError> {
        let (data, listen) = (data.to_owned(), SocketAddr::new(settings.listen.ip(), 0));
        let mut settings = Settings { data, listen, http: None, ..settings.clone() };
        let collector = Collector::start(settings.clone())?;
        settings.listen = collector.listen_address();
        let lives = vec![Arc::clone(collector.publication())];
        let (act, cuts_before, cuts, restarted, failure) = Default::default();
        let collector = Some(collector);
        Ok(Owned { settings, collector, lives, act, cuts_before, cuts, restarted, failure })
    }

    /// Where it listens, in every life.
    pub(super) fn address(&self) -> SocketAddr {
        self.settings.listen
    }

    /// What the present life counts.
    pub(super) fn publication(&self) -> Arc<Publication> {
        Arc::clone(&self.lives[self.lives.len() - 1])
    }

    /// Restarts it where the act under way does, once the first session has broken.
    pub(super) fn look(&mut self, look: &Look<'_>, recorder: Option<&mut Recorder>) {
        let Some(progress) = look.progress else { return };
        let act = Progress::value(&progress.acts);
        if act != self.act {
            (self.act, self.cuts_before, self.restarted) = (act, self.cuts, false);
        }
        self.cuts = Progress::value(&progress.cuts);
        let restarts = look.act == Step::CollectorRestart(Restart::default()).name();
        if restarts && !self.restarted && self.cuts > self.cuts_before {
            self.restarted = true;
            match self.restart() {
                Ok(()) => recorder.into_iter().for_each(|it| it.follow(self.publication())),
                Err(error) => self.failure = Some(error),
            }
        }
    }

    fn restart(&mut self) -> Result<(), DemoError> {
        if let Some(collector) = self.collector.take() {
            collector.stop()?;
        }
        let collector = Collector::start(self.settings.clone())?;
        self.lives.push(Arc::clone(collector.publication()));
        self.collector = Some(collector);
        Ok(())
    }

    /// Why it could not be restarted, if it could not.
    pub(super) fn failure(&mut self) -> Option<DemoError> {
        self.failure.take()
    }

    /// Stops it for good; returns what it has counted in each life.
    pub(super) fn stop(self) -> Result<Vec<Arc<Publication>>, DemoError> {
        if let Some(collector) = self.collector {
            collector.stop()?;
        }
        Ok(self.lives)
    }
}

/// A metric over all lives.
pub(super) fn total(lives: &[Arc<Publication>], metric: Metric) -> u64 {
    lives.iter().map(|life| life.total(metric)).sum()
}

/// Connections that each shard has accepted, over all lives.
pub(super) fn connections_per_shard(lives: &[Arc<Publication>]) -> Vec<u64> {
    let shards = lives.iter().map(|life| life.shards()).max().unwrap_or(0);
    let accepted =
        |life: &Arc<Publication>, shard| life.counters(shard).get(Metric::ConnectionsAccepted);
    (0..shards).map(|shard| lives.iter().map(|life| accepted(life, shard)).sum()).collect()
}
