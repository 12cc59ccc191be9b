//! One act: who says what in it, when it is over, and what it came to.
//!
//! In:   the act's plan; the sessions, open.
//! Out:  `Act`.
//! Law:  nothing of an act is over while a session that comes back is away.
//! Not:  which acts there are, and in which order (`stage`).

use std::ops::Range;
use std::time::Duration;

use storage::time::{MICROS_PER_SECOND, Micros};

use super::{Cue, Look, Part, Performance, StageError, StageSettings, Watch, encode_threads};
use crate::clock::Clock;
use crate::sender::{Absence, Fleet, Latencies, Progress};
use crate::workload::{Frame, encode_all};

/// Least time to stage a failure: its frames carry their times and are encoded before it.
const STAGING_US_MIN: i64 = 500_000;
/// Within this time a collector that is there takes the first bytes, or refuses them.
const HEARD_WITHIN_US: i64 = 1_500_000;
/// How often the acts look whether they are over, and show how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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

    /// An act that is to say these frames.
    pub(super) fn plan(frames: &[Vec<Frame>], began: Micros) -> Act {
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

/// What the acts of one performance share.
pub(super) struct Stage<'a> {
    pub(super) settings: &'a StageSettings,
    pub(super) clock: Clock,
    /// How long it took to encode all tables.
    pub(super) encode_us: i64,
    /// The routers of this process.
    pub(super) share: Range<usize>,
}

/// Bytes that were sent when an act began.
#[derive(Clone, Copy, Default)]
pub(super) struct Sent {
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
    pub(super) fn act(
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
        performance.fleets().for_each(|fleet| fleet.progress().begin_act());
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
    pub(super) fn hear(&self, performance: &Performance) -> Result<(), StageError> {
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

    /// Whether a collector takes nothing at all, and waiting would not help.
    fn expect_heard(&self, performance: &Performance) -> Result<(), StageError> {
        let targets = [Some(self.settings.target), self.settings.second_target];
        for (fleet, target) in performance.fleets().zip(targets.into_iter().flatten()) {
            if let Some(reason) = fleet.progress().unheard() {
                return Err(StageError::Unheard { target, reason });
            }
        }
        Ok(())
    }

    /// Waits until everything planned is durable and every session that comes back is back, and
    /// takes the figures.
    pub(super) fn finish(
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
        let over = act.due;
        let span_us = u64::try_from(over.since(self.clock.now())).unwrap_or(0);
        let time = Duration::from_micros(span_us) + self.settings.act_timeout;
        let deadline = crate::clock::instant() + time;
        let acked_before = value(&progress.frames_acked);
        let waits_for = || performance.fleets().find(|fleet| !fleet.is_whole());
        loop {
            let slowest = waits_for();
            let is_over = slowest.is_none() && self.clock.now() >= over;
            let slowest = slowest.unwrap_or(fleet);
            if self.clock.now().since(act.began) > HEARD_WITHIN_US {
                self.expect_heard(performance)?;
            }
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
