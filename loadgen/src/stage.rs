//! One performance: the network connects and tells its tables, then things happen and it speaks.
//!
//! In:   a target, a model and a pace.
//! Out:  `Performance`: acts with their figures, and the fleet, still connected.
//! Law:  an act is over when every session is there and everything planned is durable, or too late.
//! Not:  judging what the collector stored (`verdict`), or printing (`report`).

mod act;
mod part;

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use storage::time::{MICROS_PER_SECOND, Micros};

use crate::clock::Clock;
use crate::crew::CrewError;
use crate::crew::troupe::Troupe;
use crate::model::Model;
use crate::sender::connect::{address_after, connect, try_source};
use crate::sender::{Fleet, Progress, SendError, SessionPlan, Unheard};
use crate::workload::{Frame, encode_all};
use crate::world::{World, WorldError};
pub use act::Act;
use act::{Sent, Stage};
pub use part::{Cue, Part, Share};

/// Between the end of preparations and the first connection.
const LEAD_US: i64 = 200_000;

/// How it is performed.
#[derive(Clone, Debug)]
pub struct StageSettings {
    /// The collector.
    pub target: SocketAddr,
    /// The network, and what happens there.
    pub model: Model,
    /// Connections per second of the cold start; 0 = all at once.
    pub routers_per_second: u32,
    /// Source address of the first router, the others follow; `None` = the host chooses.
    pub source_base: Option<IpAddr>,
    /// Sender threads.
    pub threads: usize,
    /// How long one act may take.
    pub act_timeout: Duration,
    /// A second collector that every router tells the same.
    pub second_target: Option<SocketAddr>,
}

impl StageSettings {
    /// Whether routers can speak from the first of the addresses that they are to speak from: asked
    /// where the collector is on this host, before minutes are spent.
    pub fn try_source(&self) -> Result<(), StageError> {
        let Some(address) = self.source_base.filter(|it| it.is_ipv6()) else { return Ok(()) };
        if !self.target.ip().is_loopback() {
            return Ok(());
        }
        try_source(address).map_err(|source| StageError::no_source(address, source))
    }

    /// Whether somebody listens where the collectors are to be: asked before the network is made,
    /// which takes longer. What may only be slow is no error.
    pub fn try_targets(&self) -> Result<(), StageError> {
        for target in [Some(self.target), self.second_target].into_iter().flatten() {
            let told = match connect(target, self.source_base) {
                Err(error) if error.kind() != std::io::ErrorKind::TimedOut => error.to_string(),
                _ => continue,
            };
            let reason = Unheard::Unreached { attempts: 1, told };
            return Err(StageError::Unheard { target, reason });
        }
        Ok(())
    }

    /// How many routers there are. Errors: the network cannot be generated.
    pub fn routers(&self) -> Result<usize, WorldError> {
        Ok(self.model.topology()?.routers.len())
    }
}

/// Why a performance stopped.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The network cannot be generated.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The senders cannot go on.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Another process of the senders has failed.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// There are not enough source addresses behind the first.
    #[error("source addresses: expected {routers} from {base} on, found the end of addresses")]
    Sources {
        /// The first.
        base: IpAddr,
        /// How many are needed.
        routers: usize,
    },
    /// Routers cannot speak from these addresses.
    #[error(
        "source address {address}: expected one of this host, found {source}; as root, \
         `ip -6 route add local {network} dev lo` makes all of its network addresses of this host, \
         in a network namespace of its own \
         (`unshare --map-root-user --net sh -c 'ip link set lo up; ip -6 route ...; stormgen ...'`) \
         without being root"
    )]
    NoSource {
        /// The first.
        address: IpAddr,
        /// The network that it is to be one of.
        network: ipnet::IpNet,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody takes anything.
    #[error("collector {target}: {reason}")]
    Unheard {
        /// Who was to take it.
        target: SocketAddr,
        /// Why it does not.
        reason: Unheard,
    },
    /// Time was up before everything was durable.
    #[error(
        "{act}: {acked} of {planned} frames were durable when its time was up; {connected} routers \
         were connected, {failures} attempts to connect had failed"
    )]
    TimeUp {
        /// Which act.
        act: &'static str,
        /// Frames that were to be durable.
        planned: u64,
        /// Frames that were.
        acked: u64,
        /// Routers connected at that time.
        connected: u64,
        /// Failed attempts to connect.
        failures: u64,
    },
}

impl StageError {
    fn time_up(act: &'static str, progress: &Progress) -> StageError {
        StageError::TimeUp {
            act,
            planned: Progress::value(&progress.frames_planned),
            acked: Progress::value(&progress.frames_acked),
            connected: Progress::value(&progress.connected),
            failures: Progress::value(&progress.connect_failures),
        }
    }

    /// Routers cannot speak from here, and what would help.
    pub fn no_source(address: IpAddr, source: std::io::Error) -> StageError {
        let network = ipnet::IpNet::new_assert(address, if address.is_ipv6() { 64 } else { 8 });
        StageError::NoSource { address, network: network.trunc(), source }
    }
}

/// What was performed.
pub struct Performance {
    /// The model, with every act staged.
    pub world: Arc<World>,
    /// Clock of the run.
    pub clock: Clock,
    /// Every router connects and sends its table.
    pub cold_start: Act,
    /// The first thing that happened then.
    pub storm: Option<Act>,
    /// What happened after it.
    pub later: Vec<Act>,
    /// The sessions, still open.
    pub fleet: Fleet,
    /// Those to the second collector.
    pub second: Option<Fleet>,
    /// Those of other processes.
    pub elsewhere: Option<Troupe>,
}

/// How far an act is.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Its name.
    pub act: &'static str,
    /// How much of it is done: frames that are durable, or whatever it counts.
    pub done: u64,
    /// How much there is to do.
    pub all: u64,
    /// Counters of the fleet, while it is sending.
    pub progress: Option<&'a Progress>,
}

/// Called again and again while an act is under way.
pub type Watch<'w> = &'w mut dyn FnMut(&Look<'_>);

/// Performs. Errors: `StageError`. Blocks until the last act is over.
pub fn perform(settings: &StageSettings, watch: Watch<'_>) -> Result<Performance, StageError> {
    let mut part = Part { share: None, start: None, wait: &mut part::alone };
    perform_part(settings, &mut part, watch)
}

/// Performs a part. Errors: `StageError`. Blocks until the last act is over, for all parts.
pub fn perform_part(
    settings: &StageSettings,
    part: &mut Part<'_>,
    watch: Watch<'_>,
) -> Result<Performance, StageError> {
    let clock = Clock::start();
    let start = part.start.unwrap_or_else(|| clock.now());
    let world = Arc::new(World::generate(&settings.model, start)?);
    let share = part.routers(world.network.topology.routers.len());
    watch(&Look { act: "encoding", done: 0, all: share.len() as u64, progress: None });
    let encode_began = clock.now();
    let mut frames = encode_all(share.len(), encode_threads(), |encoder, place| {
        encoder.first_snapshot(&world, share.start + place, Micros(0))
    });
    let encode_us = clock.now().since(encode_began);
    let began = (part.wait)(Cue::Begin(clock.now().offset(LEAD_US)))?;
    let connect_at = |router_index: usize| match settings.routers_per_second {
        0 => began,
        rate => began.offset(router_index as i64 * MICROS_PER_SECOND / i64::from(rate)),
    };
    for (router_index, frames) in share.clone().zip(&mut frames) {
        frames.iter_mut().for_each(|frame| frame.intended = connect_at(router_index));
    }
    let mut act = Act::plan(&frames, began);
    let (fleet, second) = fleets(settings, &world, clock, &share, frames, connect_at)?;
    let stage = Stage { settings, clock, encode_us, share };
    let cold_start = act.clone();
    let (storm, later, elsewhere) = (None, Vec::new(), None);
    let mut performance =
        Performance { world, clock, cold_start, storm, later, fleet, second, elsewhere };
    stage.finish(&mut act, "cold start", Sent::default(), &performance, &mut *watch)?;
    act.ended = (part.wait)(Cue::Ended(&act))?;
    performance.world.settle(act.ended);
    performance.cold_start = act;
    stage.hear(&performance)?;
    let acts = performance.world.plan.acts.len();
    for index in 0..acts {
        let act = stage.act(&performance, index, part, &mut *watch)?;
        match performance.storm {
            None => performance.storm = Some(act),
            Some(_) => performance.later.push(act),
        }
    }
    for (copy, fleet) in performance.fleets().enumerate() {
        performance.world.tell_outages(copy, fleet.progress().outages().clone());
    }
    Ok(performance)
}

impl Performance {
    /// The fleets of this process, the first first.
    pub fn fleets(&self) -> impl Iterator<Item = &Fleet> {
        std::iter::once(&self.fleet).chain(&self.second)
    }

    /// Ends every session in order, here and in other processes.
    pub fn finish(self) -> Result<(), StageError> {
        self.fleet.finish()?;
        self.second.map_or(Ok(()), Fleet::finish)?;
        Ok(self.elsewhere.map_or(Ok(()), Troupe::finish)?)
    }

    /// The instants to ask about, with their names. At each of them every router that is there
    /// had been heard after it, if only that nothing has changed.
    pub fn instants(&self) -> Vec<(String, Micros)> {
        let mut instants = vec![("before".to_owned(), self.cold_start.ended)];
        let acts: Vec<&Act> = self.storm.iter().chain(&self.later).collect();
        for (index, act) in acts.iter().enumerate() {
            let which = match acts.len() {
                1 => String::new(),
                _ => format!(" act {}, {}", index + 1, self.world.plan.acts[index].name),
            };
            if let Some(middle) = self.world.middle(index) {
                instants
                    .push((format!("in the middle{}", which.replace(" act", " of act")), middle));
            }
            if let Some(repaired) = self.world.repaired(index) {
                instants
                    .push((format!("on bypasses{}", which.replace(" act", " in act")), repaired));
            }
            instants.push((format!("after{which}"), act.ended));
        }
        instants
    }
}

/// The sessions to each collector, with the same plans.
fn fleets(
    settings: &StageSettings,
    world: &Arc<World>,
    clock: Clock,
    share: &Range<usize>,
    frames: Vec<Vec<Frame>>,
    connect_at: impl Fn(usize) -> Micros,
) -> Result<(Fleet, Option<Fleet>), StageError> {
    let plans = plans(settings, world, share, frames, connect_at)?;
    let start = |target, plans| Fleet::start(target, settings.threads, world, clock, plans);
    let second = settings.second_target.map(|target| start(target, plans.clone())).transpose()?;
    Ok((start(settings.target, plans)?, second))
}

fn plans(
    settings: &StageSettings,
    world: &World,
    share: &Range<usize>,
    frames: Vec<Vec<Frame>>,
    connect_at: impl Fn(usize) -> Micros,
) -> Result<Vec<SessionPlan>, StageError> {
    let routers = share.end;
    let plan = |(router_index, frames): (usize, Vec<Frame>)| {
        let source = match settings.source_base {
            Some(base) => Some(
                address_after(base, router_index).ok_or(StageError::Sources { base, routers })?,
            ),
            None => None,
        };
        let router = world.network.topology.routers[router_index].id;
        let connect_at = connect_at(router_index);
        let strike = world.strike(router_index);
        Ok(SessionPlan { router_index, router, source, strike, connect_at, frames })
    };
    share.clone().zip(frames).map(plan).collect()
}

/// Encoding is done before anything is measured: it may have every core.
fn encode_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
