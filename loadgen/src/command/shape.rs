//! Which network, what happens to it, and how much of the answers is compared.
//!
//! In:   the flags that `demo` and `run` share.
//! Out:  a `Model`, a pace, a `Verify`.
//! Law:  the same words make the same model, in every process.
//! Not:  what follows from a model (`world`).

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::error::CommandError;
use crate::demo::IPV6_SOURCE_BASE;
use crate::faults::Word;
use crate::map::Map;
use crate::model::{Graph, Model};
use crate::scenario::Scenario;
use crate::services::Services;
use crate::stage::StageError;
use crate::verdict::{Depth, Verify};

/// Most mappings of a network whose provider edges nobody has counted: two per router and edge.
const MAPPINGS_DEFAULT: usize = 20_000_000;

#[derive(Debug, Args)]
pub(super) struct ShapeArguments {
    /// Routers of the network.
    #[arg(long, default_value_t = 2_000, value_parser = whole::<usize>)]
    routers: usize,
    /// Provider edges among them: each one's loopback is a FEC. Default: 13 in 100 routers, fewer
    /// where all tables together would hold more than 20 million mappings.
    #[arg(long, value_parser = whole::<usize>)]
    pe: Option<usize>,
    /// A map of a real network instead, GML or GraphML: each place is a core router.
    #[arg(long, visible_alias = "network", value_name = "FILE", conflicts_with_all = ["routers", "pe"])]
    topology: Option<PathBuf>,
    /// Provider edges behind each place of the map.
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = whole::<usize>)]
    pe_per_pop: usize,
    /// Same seed, same network, same storm.
    #[arg(long, default_value_t = 1, value_parser = whole::<u64>)]
    seed: u64,
    /// Addresses of IPv6 for routers and links, and sources of IPv6 for the sessions: on loopback
    /// fd53:7264::1 and up, which need a route (said where it is missing).
    #[arg(long)]
    ipv6: bool,
    /// What routers have labels for, of ldp, rsvp, sr, l3vpn, vpws and p2mp, and how they say it:
    /// unnumbered (one link in four has no addresses), backup (branches that take over when the
    /// primary one fails), vrf-names (every second VPN by its name, and label tables of provider
    /// edges), discard (aggregates that provider edges drop); or all.
    #[arg(long, default_value = "ldp,l3vpn", value_name = "LIST")]
    services: Services,
    /// What happens: cold-start, link-down, node-down, srlg, flap, maintenance, collector-restart,
    /// trickle, vpn-churn, frr-failover, or a file of steps that ends in .toml
    /// (docs/examples/scenario.toml, docs/examples/trace.toml).
    #[arg(long, default_value = "link-down", value_parser = Scenario::read)]
    scenario: Scenario,
    /// What goes wrong on purpose. With one router in eight each: reset, torn, half-open, slow,
    /// bomb; `torn@changes` or `torn@snapshot` says when. With every router: clock-skew,
    /// clock-step, label-reuse, duplicate. `all` stands for every one of these.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    faults: Vec<Word>,
    /// Routers that connect per second in the cold start; 0 = all at once.
    #[arg(long, default_value_t = 500, value_name = "ROUTERS_PER_SECOND",
          value_parser = whole::<u32>)]
    pub(super) rate: u32,
    /// How many times as fast as they are quiet times pass: 1 = `trickle` takes its real week.
    /// Default: in ten seconds, or as long as a script says.
    #[arg(long, value_name = "TIMES")]
    speed: Option<f64>,
    /// How much of the answers is compared.
    #[arg(long, value_enum, default_value_t = Depth::Sampled)]
    verify: Depth,
    /// How many (router, instant) pairs are drawn, over the whole run and inside gaps.
    #[arg(long, default_value_t = 200, value_name = "PAIRS", value_parser = whole::<usize>)]
    verify_sample: usize,
}

impl ShapeArguments {
    /// How much is asked.
    pub(super) fn verify(&self) -> Verify {
        Verify { depth: self.verify, sample: self.verify_sample, seed: self.seed }
    }

    /// The first source of IPv6, if that is wanted and the collector is on this host.
    pub(super) fn ipv6_source(&self, target: SocketAddr) -> Option<IpAddr> {
        (self.ipv6 && target.ip().is_loopback()).then_some(IPV6_SOURCE_BASE.into())
    }

    /// 2,000 routers with 260 provider edges hold a million mappings: two per router and FEC.
    pub(super) fn model(&self) -> Result<Model, CommandError> {
        let faults = Word::all(&self.faults);
        let scenario = match self.speed {
            None => self.scenario.clone(),
            Some(speed) if speed.is_finite() && speed > 0.0 => self.scenario.at_speed(speed),
            Some(found) => {
                let (name, expected) = ("--speed", "a number above 0");
                return Err(CommandError::Number { name, expected, found });
            }
        };
        if let Some(path) = &self.topology {
            let graph = Graph::Mapped { map: read_map(path)?, edges_per_place: self.pe_per_pop };
            let (services, ipv6, seed) = (self.services, self.ipv6, self.seed);
            return Ok(Model { graph, services, scenario, faults, ipv6, seed });
        }
        let modest = || (self.routers * 13 / 100).min(MAPPINGS_DEFAULT / 2 / self.routers.max(1));
        let edges = self.pe.unwrap_or_else(|| modest().max(2));
        let graph = Graph::Generated { routers: self.routers, edges };
        let (services, ipv6, seed) = (self.services, self.ipv6, self.seed);
        Ok(Model { graph, services, scenario, faults, ipv6, seed })
    }
}

/// Reads a map, and says on standard error what was set right in it.
pub(super) fn read_map(path: &Path) -> Result<Arc<Map>, CommandError> {
    let map = Map::read(path)?;
    for note in &map.notes {
        eprintln!("map {}: {note}", path.display());
    }
    Ok(Arc::new(map))
}

/// How many routers a model has.
pub(super) fn routers(model: &Model) -> Result<usize, CommandError> {
    let topology = model.topology().map_err(|error| StageError::World(error.into()))?;
    Ok(topology.routers.len())
}

/// Routers on loopback have addresses of their own; elsewhere only addresses of this host work.
pub(super) fn source_base(
    given: Option<IpAddr>,
    target: SocketAddr,
    base: [u8; 4],
) -> Option<IpAddr> {
    let on_loopback = target.is_ipv4() && target.ip().is_loopback();
    given.or_else(|| on_loopback.then(|| base.into()))
}

/// A whole number that its type can hold.
pub(super) fn whole<T: TryFrom<i128>>(text: &str) -> Result<T, String> {
    let most = u128::MAX >> (128 - 8 * size_of::<T>());
    let number = text.parse::<i128>().ok().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("expected a whole number of 0 to {most}, found {text}"))
}

/// The same without 0.
pub(super) fn positive<T: TryFrom<i128>>(text: &str) -> Result<T, String> {
    match text.parse::<i128>() {
        Ok(0) => Err("expected 1 or more, found 0".to_owned()),
        _ => whole(text),
    }
}
