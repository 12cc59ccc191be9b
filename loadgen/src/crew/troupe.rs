//! A performance by several processes: each has a part of the routers, and all keep step.
//!
//! In:   the words with which the program was called: every process makes the same world of them.
//! Out:  a `Performance` as of one process: figures added up, latencies merged.
//! Law:  every process stages an act at the same time, and an act is over when it is for all.
//! Not:  what a part does (`stage`), or how many processes a fleet needs (`command`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use storage::time::Micros;

use super::{CrewError, Member, beginning, order, reply};
use crate::clock::{Clock, instant};
use crate::sender::{Fleet, Latencies, Outage, Progress};
use crate::stage::{
    Act, Cue, Look, Part, Performance, Share, StageError, StageSettings, Watch, perform_part,
};
use crate::world::World;

pub(super) const ROLE: &str = "senders";
/// Between two words of a process on how far it is.
const TELL_EVERY: Duration = Duration::from_millis(20);

/// Who performs.
#[derive(Clone, Debug)]
pub struct Cast {
    /// Words of the command line that every process makes its world of, the program's name first.
    pub arguments: Vec<String>,
    /// How many processes, at least 1.
    pub processes: usize,
}

/// Makes settings of a command line.
pub type SettingsOf<'a> = &'a dyn Fn(&[String]) -> Result<StageSettings, String>;

#[derive(Serialize, Deserialize)]
struct Beginning {
    arguments: Vec<String>,
    target: SocketAddr,
    second_target: Option<SocketAddr>,
    share: Share,
    start_us: i64,
}

/// What a process says.
#[derive(Serialize, Deserialize)]
enum Event {
    Begin(i64),
    Stage(i64),
    Ended(Box<Figures>),
    Look {
        done: u64,
        all: u64,
        counts: Vec<u64>,
    },
    /// With the outages of the sessions to each collector.
    Done(Vec<Vec<ToldOutage>>),
    Gone,
}

/// Router, what is proved up to when, when its break was noticed and when it was whole again:
/// microseconds since the epoch.
type ToldOutage = (usize, i64, Option<i64>, Option<i64>);

/// An act, as numbers that another process can read.
#[derive(Serialize, Deserialize)]
struct Figures {
    speakers: usize,
    mappings: u64,
    frames: u64,
    bytes: u64,
    document_bytes: u64,
    began: i64,
    due: i64,
    ended: i64,
    /// Of each histogram of `Latencies`: a value, and how often it was.
    latencies: Vec<Vec<(u64, u64)>>,
}

/// The other processes, waiting for the end. Killed when they are dropped.
pub struct Troupe {
    members: Vec<Member>,
    events: Receiver<(usize, Result<Event, CrewError>)>,
}

impl Troupe {
    fn start(
        settings: &StageSettings,
        cast: &Cast,
        routers: usize,
        start: Micros,
    ) -> Result<Troupe, CrewError> {
        let (sender, events) = channel();
        let mut members = Vec::new();
        for (index, share) in Share::deal(routers, cast.processes).into_iter().enumerate() {
            let mut member = Member::start(
                ROLE,
                &Beginning {
                    arguments: cast.arguments.clone(),
                    target: settings.target,
                    second_target: settings.second_target,
                    share,
                    start_us: start.0,
                },
            )?;
            member.forward(index, sender.clone())?;
            members.push(member);
        }
        Ok(Troupe { members, events })
    }

    /// The next word of every process, and meanwhile how far they are.
    fn gather(&self, name: &'static str, mut seen: Seen<'_, '_>) -> Result<Vec<Event>, CrewError> {
        let mut found: Vec<Option<Event>> = self.members.iter().map(|_| None).collect();
        let mut looks: Vec<Option<Told>> = self.members.iter().map(|_| None).collect();
        while found.iter().any(Option::is_none) {
            let told = "every process has ended".to_owned();
            let gone = |_| CrewError::Member { role: ROLE, told };
            let (index, event) = self.events.recv().map_err(gone)?;
            match event? {
                Event::Look { done, all, counts } => {
                    looks[index] = Some(Told { done, all, counts });
                    seen.look(name, &looks);
                }
                event => found[index] = Some(event),
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn tell_all(&mut self, at: Micros) -> Result<(), CrewError> {
        self.members.iter_mut().try_for_each(|member| member.tell(&at.0))
    }

    /// The latest time that a process proposes holds for all.
    fn agree(&mut self, events: &[Event]) -> Result<Micros, CrewError> {
        let proposed = events.iter().map(|event| match event {
            Event::Begin(at) | Event::Stage(at) => *at,
            Event::Ended(figures) => figures.ended,
            Event::Look { .. } | Event::Done(_) | Event::Gone => i64::MIN,
        });
        let at = Micros(proposed.max().unwrap_or_default());
        self.tell_all(at)?;
        Ok(at)
    }

    fn act(&mut self, name: &'static str, seen: Seen<'_, '_>) -> Result<Act, CrewError> {
        let events = self.gather(name, seen)?;
        let ended = self.agree(&events)?;
        let mut parts = events.into_iter().filter_map(|event| match event {
            Event::Ended(figures) => Some(figures.into_act()),
            _ => None,
        });
        let first = parts.next().ok_or_else(|| CrewError::Member {
            role: ROLE,
            told: "expected the end of an act, found something else".to_owned(),
        })?;
        let mut act = parts.fold(first, |mut all, part| {
            all.speakers += part.speakers;
            all.mappings += part.mappings;
            all.frames += part.frames;
            all.bytes += part.bytes;
            all.document_bytes += part.document_bytes;
            all.began = all.began.min(part.began);
            all.due = all.due.max(part.due);
            all.latencies.add(&part.latencies);
            all
        });
        act.ended = ended;
        Ok(act)
    }

    /// Lets every process end its sessions in order, and waits for them.
    pub fn finish(mut self) -> Result<(), CrewError> {
        self.tell_all(Micros(0))?;
        let progress = Progress::default();
        let seen = Seen { progress: &progress, watch: &mut |_| {} };
        self.gather("the end", seen).map(drop)
    }
}

/// Where looks of the processes are added up.
struct Seen<'p, 'w> {
    progress: &'p Progress,
    watch: Watch<'w>,
}

/// How far one process is.
struct Told {
    done: u64,
    all: u64,
    counts: Vec<u64>,
}

impl Seen<'_, '_> {
    /// Shows how far all are, once each has said it: before, nobody knows how much there is to do.
    fn look(&mut self, act: &'static str, looks: &[Option<Told>]) {
        if looks.iter().any(Option::is_none) {
            return;
        }
        let looks = || looks.iter().flatten();
        for (place, counter) in counters(self.progress).into_iter().enumerate() {
            let sum = looks().filter_map(|told| told.counts.get(place)).sum();
            counter.store(sum, Ordering::Relaxed);
        }
        let done = looks().map(|told| told.done).sum();
        let all = looks().map(|told| told.all).sum();
        (self.watch)(&Look { act, done, all, progress: Some(self.progress) });
    }
}

/// Performs by several processes. Errors: `StageError`. Blocks until the last act is over.
pub fn perform_together(
    settings: &StageSettings,
    cast: &Cast,
    watch: Watch<'_>,
) -> Result<Performance, StageError> {
    let clock = Clock::start();
    let start = clock.now();
    let routers = settings.routers()?;
    watch(&Look { act: "encoding", done: 0, all: routers as u64, progress: None });
    let mut troupe = Troupe::start(settings, cast, routers, start)?;
    // They are at it: this process needs the world for its answers alone.
    let world = Arc::new(World::generate(&settings.model, start)?);
    let fleet = Fleet::empty();
    let progress = fleet.progress();
    let events = troupe.gather("encoding", Seen { progress, watch: &mut *watch })?;
    troupe.agree(&events)?;
    let cold_start = troupe.act("cold start", Seen { progress, watch: &mut *watch })?;
    world.settle(cold_start.ended);
    let mut acts = Vec::new();
    for (index, planned) in world.plan.acts.iter().enumerate() {
        let events = troupe.gather(planned.name, Seen { progress, watch: &mut *watch })?;
        let at = troupe.agree(&events)?;
        world.stage(index, at);
        progress.begin_act();
        let act = troupe.act(planned.name, Seen { progress, watch: &mut *watch })?;
        world.close(index, act.ended);
        acts.push(act);
    }
    let events = troupe.gather("the last act", Seen { progress, watch })?;
    tell_outages(&world, events);
    let mut acts = acts.into_iter();
    let (storm, later, second) = (acts.next(), acts.collect(), None);
    let elsewhere = Some(troupe);
    Ok(Performance { world, clock, cold_start, storm, later, fleet, second, elsewhere })
}

/// Says to the world of this process what has happened to sessions of the others.
fn tell_outages(world: &World, events: Vec<Event>) {
    let mut copies: Vec<Vec<Outage>> = Vec::new();
    for event in events {
        let Event::Done(told) = event else { continue };
        copies.resize_with(copies.len().max(told.len()), Vec::new);
        for (copy, told) in copies.iter_mut().zip(told) {
            copy.extend(told.into_iter().map(|(router_index, proved, noticed, whole)| Outage {
                router_index,
                proved: Micros(proved),
                noticed: noticed.map(Micros),
                whole: whole.map(Micros),
            }));
        }
    }
    let copies = copies.into_iter().enumerate();
    copies.for_each(|(copy, outages)| world.tell_outages(copy, outages));
}

pub(super) fn play(settings_of: SettingsOf<'_>) -> Result<(), CrewError> {
    let Beginning { arguments, target, second_target, share, start_us } = beginning(ROLE)?;
    let failed = |told: String| CrewError::Member { role: ROLE, told };
    let settings = settings_of(&arguments).map_err(failed)?;
    let settings = StageSettings { target, second_target, ..settings };
    let mut wait = |cue: Cue<'_>| {
        reply(&match cue {
            Cue::Begin(at) => Event::Begin(at.0),
            Cue::Stage(at) => Event::Stage(at.0),
            Cue::Ended(act) => Event::Ended(Box::new(Figures::new(act))),
        })?;
        let told = "nobody said when to go on".to_owned();
        Ok(Micros(order(ROLE)?.ok_or(CrewError::Member { role: ROLE, told })?))
    };
    let mut told: Option<Instant> = None;
    let mut watch = |look: &Look<'_>| {
        let Look { done, all, progress, .. } = *look;
        let Some(progress) = progress else { return };
        let now = instant();
        if done < all && told.is_some_and(|told| now - told < TELL_EVERY) {
            return;
        }
        told = Some(now);
        let counts = counters(progress).into_iter().map(Progress::value).collect();
        // Nobody listens: the next cue says so.
        let _ = reply(&Event::Look { done, all, counts });
    };
    let mut part = Part { share: Some(share), start: Some(Micros(start_us)), wait: &mut wait };
    let performance = perform_part(&settings, &mut part, &mut watch);
    let performance = performance.map_err(|error| failed(error.to_string()))?;
    let micros = |time: Option<Micros>| time.map(|time| time.0);
    let told = |outage: &Outage| {
        let Outage { router_index, proved, noticed, whole } = *outage;
        (router_index, proved.0, micros(noticed), micros(whole))
    };
    let of_fleet = |fleet: &Fleet| fleet.progress().outages().iter().map(told).collect();
    reply(&Event::Done(performance.fleets().map(of_fleet).collect()))?;
    let _: Option<i64> = order(ROLE)?;
    performance.finish().map_err(|error| failed(error.to_string()))?;
    reply(&Event::Gone)?;
    // Whoever reads the answers of several takes an end for a failure: this one is ended.
    let _: Option<i64> = order(ROLE)?;
    Ok(())
}

/// The counters that are added up over processes, in a fixed order.
fn counters(progress: &Progress) -> Vec<&AtomicU64> {
    let counters = [
        &progress.connected,
        &progress.reconnects,
        &progress.cuts,
        &progress.gone,
        &progress.connect_failures,
        &progress.frames_planned,
        &progress.frames_sent,
        &progress.frames_acked,
        &progress.mappings_acked,
        &progress.frames_replaced,
        &progress.bytes_sent,
        &progress.document_bytes_sent,
        &progress.ack_faults,
        &progress.routers_spoke,
        &progress.slow_writes,
        &progress.strangers,
    ];
    counters.into_iter().chain(&progress.strikes).collect()
}

impl Figures {
    fn new(act: &Act) -> Figures {
        let pairs = |histogram: &Histogram<u64>| {
            let recorded = histogram.iter_recorded();
            recorded.map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
        };
        let Latencies { written, durable, service, late, turn } = &act.latencies;
        Figures {
            speakers: act.speakers,
            mappings: act.mappings,
            frames: act.frames,
            bytes: act.bytes,
            document_bytes: act.document_bytes,
            began: act.began.0,
            due: act.due.0,
            ended: act.ended.0,
            latencies: [written, durable, service, late, turn].map(pairs).into(),
        }
    }

    fn into_act(self) -> Act {
        let mut latencies = Latencies::default();
        let Latencies { written, durable, service, late, turn } = &mut latencies;
        let histograms = [written, durable, service, late, turn];
        for (histogram, pairs) in histograms.into_iter().zip(self.latencies) {
            for (value, count) in pairs {
                histogram.saturating_record_n(value, count);
            }
        }
        Act {
            speakers: self.speakers,
            mappings: self.mappings,
            frames: self.frames,
            bytes: self.bytes,
            document_bytes: self.document_bytes,
            began: Micros(self.began),
            due: Micros(self.due),
            ended: Micros(self.ended),
            latencies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_arrive_as_they_left() {
        let mut latencies = Latencies::default();
        for value in [1, 77, 4_097, 123_456, 599_999_999] {
            latencies.durable.saturating_record_n(value, 3);
            latencies.late.saturating_record_n(value / 2 + 1, 1);
        }
        let act = Act {
            speakers: 1,
            mappings: 2,
            frames: 3,
            bytes: 4,
            document_bytes: 5,
            began: Micros(6),
            due: Micros(7),
            ended: Micros(8),
            latencies,
        };
        let text = serde_json::to_string(&Figures::new(&act)).unwrap();
        let back = serde_json::from_str::<Figures>(&text).unwrap().into_act();
        assert_eq!(back.latencies.durable, act.latencies.durable);
        assert_eq!(back.latencies.late, act.latencies.late);
        assert_eq!(back.latencies.turn.len(), 0);
        assert_eq!([back.began, back.due, back.ended], [act.began, act.due, act.ended]);
        assert_eq!(
            (back.speakers, back.mappings, back.frames, back.bytes, back.document_bytes),
            (1, 2, 3, 4, 5)
        );
    }
}
