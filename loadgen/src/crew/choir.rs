//! Speaking routers of a measurement, in a process of its own.
//!
//! In:   a `Crowd`; orders with the time at which they begin.
//! Out:  an `Outcome` per order.
//! Law:  everything is encoded before the first order; several routers may show the same face.
//! Not:  how frames go out (`volley`), or what they say (`corpus`).

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storage::time::{MICROS_PER_SECOND, Micros};

use super::{CrewError, Member, beginning, host_error, micros, order, reply, stay_on};
use crate::clock::Clock;
use crate::corpus::{self, Face, Writer};
use crate::volley::{Outcome, Shot, Speaker, Volley, VolleySettings};
use crate::workload::{Encoder, Frame, SNAPSHOT_FRAME_MAPPINGS};

pub(super) const ROLE: &str = "choir";
/// Of the faces.
const SEED: u64 = 0xca9a;
/// How long ago the entries of the first tables became active.
const AGE_US: i64 = 600 * MICROS_PER_SECOND;

/// The routers of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Crowd {
    /// The collector.
    pub target: SocketAddr,
    /// Number of the first router: crowds of one run do not overlap.
    pub first: usize,
    /// How many routers.
    pub routers: usize,
    /// How many different ones among them.
    pub faces: usize,
    /// Entries of each table.
    pub entries: usize,
    /// Mappings of a frame of changes.
    pub frame_mappings: usize,
    /// Frames of changes that each face has ready; they are told again when they are over.
    pub rounds: usize,
    /// Ask for acks, and wait for them.
    pub acks: bool,
    /// How long a router waits for anything to be taken before it resets its session.
    pub give_up: Duration,
    /// CPUs to stay on; none = all.
    pub cpus: Vec<usize>,
}

/// What the routers do. Each order ends when everything is written (and acknowledged, if acks are
/// asked for), at the latest `limit` from its beginning.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Every router connects, if it is not connected, and tells its table.
    Tables {
        /// When the first does, microseconds since the epoch.
        at_us: i64,
        /// Over how long.
        spread: Duration,
        /// When it is over at the latest.
        limit: Duration,
    },
    /// So many frames of changes, the routers in turn, evenly over `spread`.
    Changes {
        /// Frames, of all routers of this process.
        frames: usize,
        /// When the first is due, microseconds since the epoch.
        at_us: i64,
        /// Over how long.
        spread: Duration,
        /// When it is over at the latest.
        limit: Duration,
    },
}

/// A choir in a process of its own. Killed when it is dropped.
pub struct Choir {
    member: Member,
    /// How many routers it has.
    pub routers: usize,
}

impl Choir {
    /// Starts one; returns when everything is encoded.
    pub fn start(crowd: &Crowd) -> Result<Choir, CrewError> {
        let mut member = Member::start(ROLE, crowd)?;
        member.answer::<()>()?;
        Ok(Choir { member, routers: crowd.routers })
    }

    /// Gives an order and does not wait.
    pub fn tell(&mut self, order: &Order) -> Result<(), CrewError> {
        self.member.tell(order)
    }

    /// What became of the last order. Blocks until it is over.
    pub fn outcome(&mut self) -> Result<Outcome, CrewError> {
        self.member.answer()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.member.id()
    }
}

/// Frames of every face: parts of its table, the end of a snapshot, its changes in order.
struct Pool {
    frames: Vec<Frame>,
    faces: usize,
    parts: usize,
    rounds: usize,
}

impl Pool {
    fn encode(crowd: &Crowd, now: Micros) -> Pool {
        let faces = crowd.faces.clamp(1, crowd.routers.max(1));
        let parts = crowd.entries.div_ceil(SNAPSHOT_FRAME_MAPPINGS) + 1;
        let mut frames = Vec::new();
        let mut writer = Writer::new();
        for number in 0..faces {
            let mut face = Face::new(SEED, number, crowd.entries, now.offset(-AGE_US));
            let table = face.table().chunks(SNAPSHOT_FRAME_MAPPINGS);
            frames.extend(table.map(|part| writer.part(part)));
            // The router's name is not in the end of a snapshot.
            let nobody = corpus::router(0);
            frames.extend(Encoder::default().snapshot(nobody, &[], now, now));
            let change = |_| writer.changes(&mut face, crowd.frame_mappings);
            frames.extend((0..crowd.rounds).map(change));
        }
        Pool { frames, faces, parts, rounds: crowd.rounds }
    }

    fn shot(&self, due: Micros, router: usize, frame: usize) -> Shot {
        let number = |value: usize| u32::try_from(value).expect("a pool fits in memory");
        let place = router % self.faces * (self.parts + self.rounds) + frame;
        Shot { due, line: number(router), frame: number(place) }
    }

    fn tables(&self, routers: usize, at: Micros, spread: Duration) -> Vec<Shot> {
        let due = |router| at.offset(micros(spread) * router as i64 / routers.max(1) as i64);
        let parts = |router| (0..self.parts).map(move |part| (router, part));
        let all = (0..routers).flat_map(parts);
        all.map(|(router, part)| self.shot(due(router), router, part)).collect()
    }

    /// `told` frames have been told before these.
    fn changes(
        &self,
        routers: usize,
        told: usize,
        frames: usize,
        at: Micros,
        spread: Duration,
    ) -> Vec<Shot> {
        let shot = |index: usize| {
            let due = at.offset(micros(spread) * index as i64 / frames.max(1) as i64);
            let (router, round) = ((told + index) % routers, (told + index) / routers);
            self.shot(due, router, self.parts + round % self.rounds.max(1))
        };
        (0..frames).map(shot).collect()
    }
}

pub(super) fn play() -> Result<(), CrewError> {
    let crowd: Crowd = beginning(ROLE)?;
    stay_on(&crowd.cpus)?;
    engine::io::sockets::raise_descriptor_limit().map_err(host_error("descriptors"))?;
    let clock = Clock::start();
    let pool = Pool::encode(&crowd, clock.now());
    let settings = VolleySettings {
        target: crowd.target,
        acks: crowd.acks,
        crumb_bytes: None,
        give_up: crowd.give_up,
        samples: false,
    };
    let speaker = |place| {
        let router = match crowd.target.is_ipv6() {
            true => corpus::router_ipv6(crowd.first + place),
            false => corpus::router(crowd.first + place),
        };
        let boot_time = clock.now();
        Speaker { router, source: Some(router.0), boot_time, sequence_first: 1 }
    };
    let mut volley = Volley::new(settings, clock, (0..crowd.routers).map(speaker))
        .map_err(host_error("epoll of the choir"))?;
    reply(&())?;
    let mut told = 0;
    while let Some(order) = order(ROLE)? {
        let (shots, at, limit) = match order {
            Order::Tables { at_us, spread, limit } => {
                let at = Micros(at_us);
                (pool.tables(crowd.routers, at, spread), at, limit)
            }
            Order::Changes { frames, at_us, spread, limit } => {
                let at = Micros(at_us);
                let shots = pool.changes(crowd.routers, told, frames, at, spread);
                told += frames;
                (shots, at, limit)
            }
        };
        volley.fire(&pool.frames, &shots, at.offset(micros(limit)));
        reply(&volley.take_outcome())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd() -> Crowd {
        Crowd {
            target: ([127, 0, 0, 1], 1).into(),
            first: 0,
            routers: 5,
            faces: 2,
            entries: 30,
            frame_mappings: 10,
            rounds: 3,
            acks: true,
            give_up: Duration::from_secs(1),
            cpus: vec![],
        }
    }

    #[test]
    fn frames_go_round_the_routers_evenly_and_on_from_where_the_last_order_ended() {
        let pool = Pool::encode(&crowd(), Micros(1_000_000_000));
        assert_eq!(pool.frames.len(), 2 * (1 + 1 + 3));
        let spread = Duration::from_millis(7);
        let shots = pool.changes(5, 3, 7, Micros(50), spread);
        let lines: Vec<u32> = shots.iter().map(|shot| shot.line).collect();
        assert_eq!(lines, [3, 4, 0, 1, 2, 3, 4]);
        let due: Vec<i64> = shots.iter().map(|shot| shot.due.0).collect();
        assert_eq!(due, [50, 1_050, 2_050, 3_050, 4_050, 5_050, 6_050]);
        // Router 3 shows face 1: its first change, then its second.
        assert_eq!([shots[0].frame, shots[5].frame], [5 + 2, 5 + 3]);
        assert!(shots.iter().all(|shot| pool.frames[shot.frame as usize].mappings == 10));
    }

    #[test]
    fn a_table_ends_with_its_end() {
        let pool = Pool::encode(&crowd(), Micros(1_000_000_000));
        let shots = pool.tables(5, Micros(0), Duration::from_millis(5));
        let frames = shots.iter().map(|shot| &pool.frames[shot.frame as usize]);
        let ends: Vec<bool> = frames.map(Frame::is_snapshot_end).collect();
        assert_eq!(ends, [[false, true]; 5].concat());
    }
}
