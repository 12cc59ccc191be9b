//! One performance: the network connects and tells its tables, then things happen and it speaks.
//!
//! In:   a target, a model and a pace.
//! Out:  `Performance`: acts with their figures, and the fleet, still connected.
//! Law:  an act is over when every session is there and everything planned is durable, or too late.
//! Not:  judging what the collector stored (`verdict`), or printing (`report`).

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
use crate::sender::connect::{address_after, try_source};
use crate::sender::{Absence, Fleet, Latencies, Progress, SendError, SessionPlan};
use crate::workload::{Frame, encode_all};
use crate::world::{World, WorldError};
pub use part::{Cue, Part, Share};

/// Between the end of preparations and the first connection.
const LEAD_US: i64 = 200_000;
/// Least time to stage a failure: its frames carry their times and are encoded before it.
const STAGING_US_MIN: i64 = 500_000;
/// How often the acts look whether they are over, and show how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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

/// The figures of one act.
#[derive(Clone, Debug)]
pub struct Act {
    /// Routers that had something to say.
    pub speakers: usize,
    /// Mappings that were said.
    pub mappings: u64,
    /// Frames that were said.
    pub frames: u64,
    /// Bytes written to sockets.
    pub bytes: u64,
    /// Bytes of the documents in them, before compression.
    pub document_bytes: u64,
    /// When its first frame was due.
    pub began: Micros,
    /// When its last frame was due.
    pub due: Micros,
    /// When everything was durable. What held then is what the collector must say of it.
    pub ended: Micros,
    /// How late frames were.
    pub latencies: Latencies,
}

impl Act {
    /// Mappings per second, from the first intended time to the last ack.
    pub fn mappings_per_second(&self) -> f64 {
        let span_us = self.ended.since(self.began).max(1);
        self.mappings as f64 * MICROS_PER_SECOND as f64 / span_us as f64
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
    let ahead_us = world.ahead_us_max();
    let stage = Stage { settings, clock, encode_us, ahead_us, share };
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

/// What the acts of one performance share.
struct Stage<'a> {
    settings: &'a StageSettings,
    clock: Clock,
    /// How long it took to encode all tables.
    encode_us: i64,
    /// How far clocks are ahead: what was said is in the past for everybody when it is over.
    ahead_us: i64,
    /// The routers of this process.
    share: Range<usize>,
}

/// Bytes that were sent when an act began.
#[derive(Clone, Copy, Default)]
struct Sent {
    bytes: u64,
    document_bytes: u64,
}

impl Sent {
    fn now(progress: &Progress) -> Sent {
        let bytes = Progress::value(&progress.bytes_sent);
        Sent { bytes, document_bytes: Progress::value(&progress.document_bytes_sent) }
    }
}

impl Stage<'_> {
    /// Stages an act far enough ahead that its frames are encoded before the first is due.
    fn act(
        &self,
        performance: &Performance,
        index: usize,
        part: &mut Part<'_>,
        watch: Watch<'_>,
    ) -> Result<Act, StageError> {
        let Performance { world, fleet, second, .. } = performance;
        let routers = world.network.topology.routers.len();
        let units = (routers * world.network.fec_count()).max(1);
        let share = world.plan.units_changed(index) as f64 / units as f64;
        let mappings = performance.cold_start.mappings.max(1) as f64;
        let share = share.mul_add(2.0, world.entries_of_vpns(index) as f64 / mappings);
        let staging_us = STAGING_US_MIN + (self.encode_us as f64 * share) as i64;
        let sent = Sent::now(fleet.progress());
        let staged = (part.wait)(Cue::Stage(self.clock.now().offset(staging_us)))?;
        let staged = world.stage(index, staged);
        let first = self.share.start;
        let frames = encode_all(self.share.len(), encode_threads(), |encoder, place| {
            encoder.changes(world, index, first + place)
        });
        let planned = &world.plan.acts[index];
        let began = frames.iter().flatten().map(|frame| frame.intended).min().unwrap_or(staged);
        let mut act = Act::plan(&frames, began.max(staged));
        act.due = act.due.max(staged.offset(planned.length_us));
        let absences = planned.cuts.iter().flat_map(|cut| {
            let back = cut.back_us.map(|back| staged.offset(back));
            let absence = Absence { at: staged.offset(cut.at_us), back };
            cut.routers.range(self.share.clone()).map(move |router| (*router - first, absence))
        });
        let absences: Vec<(usize, Absence)> = absences.collect();
        performance.fleets().try_for_each(|fleet| fleet.cut(&absences))?;
        if let Some(second) = second {
            second.send(frames.clone())?;
        }
        fleet.send(frames)?;
        self.finish(&mut act, planned.name, sent, performance, watch)?;
        act.ended = (part.wait)(Cue::Ended(&act))?;
        world.close(index, act.ended);
        self.hear(performance)?;
        Ok(act)
    }

    /// Lets every router be heard, from after the act: whatever becomes of its session later, the
    /// collector then knows what held when the act ended. It is over when it is acknowledged.
    fn hear(&self, performance: &Performance) -> Result<(), StageError> {
        performance.fleets().try_for_each(Fleet::sign_of_life)?;
        let deadline = crate::clock::instant() + self.settings.act_timeout;
        while let Some(fleet) = performance.fleets().find(|fleet| !fleet.is_whole()) {
            if crate::clock::instant() > deadline || !fleet.is_alive() {
                return Err(StageError::time_up("signs of life", fleet.progress()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits until everything planned is durable and every session that comes back is back, and
    /// takes the figures.
    fn finish(
        &self,
        act: &mut Act,
        name: &'static str,
        before: Sent,
        performance: &Performance,
        watch: Watch<'_>,
    ) -> Result<(), StageError> {
        let fleet = &performance.fleet;
        let progress = fleet.progress();
        let value = Progress::value;
        let over = act.due.offset(self.ahead_us);
        let span_us = u64::try_from(over.since(self.clock.now())).unwrap_or(0);
        let time = Duration::from_micros(span_us) + self.settings.act_timeout;
        let deadline = crate::clock::instant() + time;
        let acked_before = value(&progress.frames_acked);
        let waits_for = || performance.fleets().find(|fleet| !fleet.is_whole());
        loop {
            let slowest = waits_for();
            let is_over = slowest.is_none() && self.clock.now() >= over;
            let slowest = slowest.unwrap_or(fleet);
            if crate::clock::instant() > deadline || !slowest.is_alive() {
                return Err(StageError::time_up(name, slowest.progress()));
            }
            let done = match is_over {
                true => act.frames,
                false => value(&progress.frames_acked) - acked_before,
            };
            watch(&Look { act: name, done, all: act.frames, progress: Some(progress) });
            // Whoever watches may have broken what was whole: then it goes on.
            if is_over && waits_for().is_none() {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        act.ended = self.clock.now();
        act.latencies = fleet.take_latencies()?;
        let after = Sent::now(progress);
        act.bytes = after.bytes - before.bytes;
        act.document_bytes = after.document_bytes - before.document_bytes;
        Ok(())
    }
}

impl Act {
    fn plan(frames: &[Vec<Frame>], began: Micros) -> Act {
        let all = || frames.iter().flatten();
        Act {
            speakers: frames.iter().filter(|frames| !frames.is_empty()).count(),
            mappings: all().map(|frame| frame.mappings).sum(),
            frames: all().count() as u64,
            bytes: 0,
            document_bytes: 0,
            began,
            due: all().map(|frame| frame.intended).max().unwrap_or(began),
            ended: began,
            latencies: Latencies::default(),
        }
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
