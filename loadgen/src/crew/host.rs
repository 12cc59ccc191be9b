//! The collector of a measurement, in a process of its own.
//!
//! In:   settings by name, CPUs to stay on.
//! Out:  its address; its counters, shard by shard.
//! Law:  what runs is `engine::collector::Collector`, with the allocator that it ships with.
//! Not:  what its counters mean (docs/metrics.md).

use std::net::SocketAddr;
use std::path::Path;

use engine::collector::Collector;
use engine::metrics::{METRICS, Metric};
use engine::settings::Settings;
use serde::{Deserialize, Serialize};

use super::{CrewError, Member, beginning, order, reply, stay_on};

pub(super) const ROLE: &str = "collector";

#[derive(Serialize, Deserialize)]
struct Beginning {
    settings: Vec<(String, String)>,
    cpus: Vec<usize>,
}

#[derive(Serialize, Deserialize)]
enum Order {
    Count,
    Stop,
}

/// Counters of every shard, by the place of the metric in the table of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    shards: Vec<Vec<u64>>,
}

impl Counts {
    /// Of all shards together.
    pub fn total(&self, metric: Metric) -> u64 {
        self.of_shards(metric).sum()
    }

    /// Of each shard.
    pub fn of_shards(&self, metric: Metric) -> impl Iterator<Item = u64> {
        self.shards.iter().map(move |shard| shard.get(metric as usize).copied().unwrap_or(0))
    }

    /// How far a counter has moved since `before`.
    pub fn since(&self, before: &Counts, metric: Metric) -> u64 {
        self.total(metric).saturating_sub(before.total(metric))
    }
}

/// A collector in a process of its own. Killed when it is dropped.
pub struct Host {
    member: Member,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Host {
    /// Starts one on `data`, which is empty, with settings by their names.
    pub fn start(
        data: &Path,
        settings: &[(&str, String)],
        cpus: &[usize],
    ) -> Result<Host, CrewError> {
        let own = [("data", data.display().to_string()), ("listen", "127.0.0.1:0".to_owned())];
        let named = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
        let settings = own.iter().chain(settings).map(named).collect();
        let mut member = Member::start(ROLE, &Beginning { settings, cpus: cpus.to_vec() })?;
        let address = member.answer()?;
        Ok(Host { member, address })
    }

    /// What it has counted.
    pub fn counts(&mut self) -> Result<Counts, CrewError> {
        self.member.ask(&Order::Count)
    }

    /// Stops it in order.
    pub fn stop(mut self) -> Result<(), CrewError> {
        self.member.ask(&Order::Stop)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.member.id()
    }
}

pub(super) fn play() -> Result<(), CrewError> {
    let Beginning { settings: named, cpus } = beginning(ROLE)?;
    stay_on(&cpus)?;
    let mut settings = Settings { http: None, ..Settings::default() };
    let told = |error: &dyn std::fmt::Display| CrewError::Collector(error.to_string());
    for (name, value) in &named {
        settings.set(name, value).map_err(|error| told(&error))?;
    }
    let collector = Collector::start(settings).map_err(|error| told(&error))?;
    reply(&collector.listen_address())?;
    while let Some(Order::Count) = order(ROLE)? {
        let publication = collector.publication();
        let of_shard = |shard| {
            let counters = publication.counters(shard);
            METRICS.iter().map(|it| counters.get(it.metric)).collect()
        };
        reply(&Counts { shards: (0..publication.shards()).map(of_shard).collect() })?;
    }
    collector.stop().map_err(|error| told(&error))?;
    reply(&())
}
