//! The volley: thousands of connections and ready-made frames on one thread, at next to no cost.
//!
//! In:   speakers; shots, each a frame of a shared pool, a speaker and an intended time.
//! Out:  bytes on sockets; an `Outcome`: what was written and acknowledged, and how late.
//! Law:  open loop: a shot's latency counts from its intended time, however late it is written.
//! Not:  what frames say (`workload`); sessions that remember and connect again (`sender`).
//!
//! A storm that is to measure a collector on the same two cores must not be paid for by its own
//! senders: here a shot is one `writev` of a header and a part of the pool, and nothing is copied.

mod line;
mod outcome;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use storage::mapping::RouterId;
use storage::time::Micros;

use crate::clock::Clock;
use crate::workload::Frame;
use line::{Line, Step};
pub use outcome::{Lateness, Outcome};

/// Shots or crumbs between two looks at what the sockets say.
const BATCH: usize = 64;
/// Events taken at once.
const EVENTS: usize = 1_024;
/// Longest wait for an event, and how long it takes to look at every line once whether it is stuck.
const LOOK_EVERY_US: i64 = 20_000;
/// A shorter wait for the next shot is not slept: to fall asleep and to be woken takes as long, and
/// a virtual CPU that sleeps may be given to others for a millisecond.
const NAP_US_MIN: i64 = 60;
/// What events of the alarm carry, where those of lines carry their places.
const ALARM: u64 = u64::MAX;

/// What all lines have in common.
#[derive(Clone, Copy, Debug)]
pub struct VolleySettings {
    /// The collector.
    pub target: SocketAddr,
    /// Ask for acks, and wait for them.
    pub acks: bool,
    /// Bytes of one write, the lines in turn; `None` = as much as the socket takes.
    pub crumb_bytes: Option<usize>,
    /// A line from which nothing is taken for so long resets its connection, as routers do.
    pub give_up: Duration,
    /// Keep every (intended time, microseconds until its ack) for `take_samples`.
    pub samples: bool,
}

/// A router that takes part.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// Its id.
    pub router: RouterId,
    /// Where it connects from; `None` = whatever the host chooses.
    pub source: Option<IpAddr>,
    /// When it last booted: a later connection with the same time is a reconnect.
    pub boot_time: Micros,
    /// Sequence of its first counted frame.
    pub sequence_first: u64,
}

/// One frame on one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// When it is due.
    pub due: Micros,
    /// The speaker's place.
    pub line: u32,
    /// The frame's place in the pool.
    pub frame: u32,
}

/// The connections of a storm.
pub struct Volley {
    settings: VolleySettings,
    clock: Clock,
    epoll: OwnedFd,
    /// Ends a wait to the microsecond: the wait for events itself counts whole milliseconds.
    alarm: OwnedFd,
    lines: Vec<Line>,
    /// Lines that have a crumb to write, in turn.
    turn: VecDeque<u32>,
    /// Lines whose socket is full.
    blocked: usize,
    outcome: Outcome,
    events: Vec<Event>,
    /// When lines were last looked at, and which is the next: a part of them at a time, so that
    /// thousands hold no shot up.
    looked: Micros,
    look_next: usize,
}

impl Volley {
    /// Nobody is connected yet: a line connects when its first shot is due, or in `open_all`.
    ///
    /// Errors: the system's, of epoll.
    pub fn new(
        settings: VolleySettings,
        clock: Clock,
        speakers: impl IntoIterator<Item = Speaker>,
    ) -> io::Result<Volley> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        // Edges: an alarm that has gone off need not be read before it is set anew.
        let wanted = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &alarm, EventData::new_u64(ALARM), wanted)?;
        Ok(Volley {
            settings,
            clock,
            epoll,
            alarm,
            lines: speakers.into_iter().map(Line::new).collect(),
            turn: VecDeque::new(),
            blocked: 0,
            outcome: Outcome::default(),
            events: Vec::with_capacity(EVENTS),
            looked: clock.now(),
            look_next: 0,
        })
    }

    /// Connects every line that is not connected yet, and says hello.
    pub fn open_all(&mut self) {
        for place in 0..self.lines.len() {
            self.open(place);
        }
    }

    fn open(&mut self, place: usize) -> bool {
        let line = &mut self.lines[place];
        if line.is_open() || line.is_over() {
            return line.is_open();
        }
        let opened = line.open(&self.settings, self.clock.now()).and_then(|()| {
            let socket = line.socket().ok_or(io::ErrorKind::NotConnected)?;
            // Edges: what is full is told once, when there is room again.
            let wanted = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            Ok(epoll::add(&self.epoll, socket, EventData::new_u64(place as u64), wanted)?)
        });
        match opened {
            Ok(()) => self.outcome.connected += 1,
            Err(_) => {
                self.outcome.connect_failures += 1;
                line.end();
            }
        }
        opened.is_ok()
    }

    /// Fires the shots, which are sorted by their times, and waits until everything is written,
    /// and acknowledged if acks were asked for; at the latest until `deadline`.
    pub fn fire(&mut self, pool: &[Frame], shots: &[Shot], deadline: Micros) {
        let mut next = 0;
        loop {
            let now = self.clock.now();
            if now >= deadline {
                break;
            }
            let due = |shot: &Shot| shot.due <= now;
            for shot in shots[next..].iter().take(BATCH).take_while(|shot| due(shot)) {
                next += 1;
                self.shoot(shot, pool);
            }
            self.crumbs(pool);
            let busy = !self.turn.is_empty() || shots.get(next).is_some_and(due);
            let wait_us = match shots.get(next) {
                _ if busy => 0,
                Some(shot) => match shot.due.since(now) {
                    ..NAP_US_MIN => 0,
                    wait_us => wait_us.min(LOOK_EVERY_US),
                },
                None if self.is_quiet() => break,
                None => LOOK_EVERY_US,
            };
            self.serve(wait_us, pool);
        }
        self.outcome.frames_unsent += (shots.len() - next) as u64;
    }

    /// From now on writes so many bytes at once, the lines in turn; `None` = as much as the socket
    /// takes.
    pub fn write_crumbs(&mut self, crumb_bytes: Option<usize>) {
        self.settings.crumb_bytes = crumb_bytes;
    }

    /// Serves acks and ends until `until`; nothing new is sent.
    pub fn rest(&mut self, pool: &[Frame], until: Micros) {
        while self.clock.now() < until {
            let left_us = until.since(self.clock.now()).clamp(0, LOOK_EVERY_US);
            self.serve(left_us, pool);
        }
    }

    /// What happened since the last call. What is under way stays so, and ends in a later one.
    pub fn take_outcome(&mut self) -> Outcome {
        let outcome = std::mem::take(&mut self.outcome);
        self.outcome.frames_open = outcome.frames_open;
        outcome
    }

    /// (Intended time, microseconds until its ack) of every acknowledged shot since the last call;
    /// empty unless the settings ask for it.
    pub fn take_samples(&mut self) -> Vec<(Micros, u32)> {
        self.outcome.take_samples()
    }

    /// How many lines are connected.
    pub fn open_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.is_open()).count()
    }

    /// Lines with frames that are not written, or not acknowledged though acks were asked for.
    pub fn waiting_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.waits()).count()
    }

    /// The sequence that each line would use next: where a later volley of the routers goes on.
    pub fn sequences_next(&self) -> Vec<u64> {
        self.lines.iter().map(Line::sequence_next).collect()
    }

    fn is_quiet(&self) -> bool {
        self.blocked == 0 && self.outcome.frames_open == 0 && self.turn.is_empty()
    }

    fn shoot(&mut self, shot: &Shot, pool: &[Frame]) {
        let place = shot.line as usize;
        if !self.open(place) {
            self.outcome.frames_unsent += 1;
            return;
        }
        let line = &mut self.lines[place];
        let was_waiting = line.wants_to_write();
        line.queue(shot.frame, shot.due);
        self.outcome.frames_open += 1;
        if line.is_blocked() {
            line.begin(self.clock.now(), &mut self.outcome);
        }
        match self.settings.crumb_bytes {
            Some(_) if was_waiting => {}
            Some(_) => self.turn.push_back(shot.line),
            None if was_waiting => {}
            None => self.write(place, usize::MAX, pool),
        }
    }

    /// One crumb of each of the next lines in turn.
    fn crumbs(&mut self, pool: &[Frame]) {
        let Some(crumb_bytes) = self.settings.crumb_bytes else { return };
        for _ in 0..BATCH {
            let Some(place) = self.turn.pop_front() else { return };
            self.write(place as usize, crumb_bytes, pool);
            let line = &self.lines[place as usize];
            if line.wants_to_write() && !line.is_blocked() {
                self.turn.push_back(place);
            }
        }
    }

    fn write(&mut self, place: usize, limit_bytes: usize, pool: &[Frame]) {
        let line = &mut self.lines[place];
        let was_blocked = line.is_blocked();
        let step = line.write(limit_bytes, pool, self.clock, &self.settings, &mut self.outcome);
        self.blocked += usize::from(line.is_blocked());
        self.blocked -= usize::from(was_blocked);
        if step == Step::Broken {
            self.lose(place, false);
        }
    }

    /// The line's connection is over; what it still had to say is not said.
    fn lose(&mut self, place: usize, gave_up: bool) {
        let line = &mut self.lines[place];
        self.blocked -= usize::from(line.is_blocked());
        let (unsent, unacked) = line.end();
        self.outcome.frames_open -= unsent + unacked;
        self.outcome.frames_unsent += unsent;
        self.outcome.frames_unacked += unacked;
        if gave_up {
            self.outcome.gave_up += 1;
        } else {
            self.outcome.broken += 1;
        }
    }

    fn serve(&mut self, wait_us: i64, pool: &[Frame]) {
        let wait = self.wait(wait_us);
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        // Only a signal interrupts the wait; the caller waits again.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait));
        for event in events.iter().filter(|event| event.data.u64() != ALARM) {
            let place = event.data.u64() as usize;
            let flags = event.flags;
            if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) {
                let line = &mut self.lines[place];
                let now = self.clock.now();
                if line.read(now, pool, &self.settings, &mut self.outcome) == Step::Broken {
                    self.lose(place, false);
                    continue;
                }
            }
            if flags.contains(EventFlags::OUT) && self.lines[place].is_blocked() {
                match self.settings.crumb_bytes {
                    Some(_) => {
                        self.blocked -= 1;
                        self.lines[place].unblock();
                        self.turn.push_back(place as u32);
                    }
                    None => self.write(place, usize::MAX, pool),
                }
            }
        }
        self.events = events;
        self.give_up_the_stuck();
    }

    /// How long to wait for events at most; the alarm ends it when it is due.
    fn wait(&self, wait_us: i64) -> Timespec {
        let span = |micros: i64| Timespec { tv_sec: 0, tv_nsec: micros * 1_000 };
        let wait_us = wait_us.clamp(0, LOOK_EVERY_US);
        if wait_us == 0 {
            return span(0);
        }
        let once = Itimerspec { it_interval: span(0), it_value: span(wait_us) };
        match timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &once) {
            Ok(_) => span(LOOK_EVERY_US),
            Err(_) => span(wait_us),
        }
    }

    /// Looks at the next lines: at all of them within `LOOK_EVERY_US`.
    fn give_up_the_stuck(&mut self) {
        let now = self.clock.now();
        let elapsed_us = now.since(self.looked).clamp(0, LOOK_EVERY_US) as usize;
        let count = self.lines.len() * elapsed_us / LOOK_EVERY_US as usize;
        if count == 0 {
            return;
        }
        self.looked = now;
        for _ in 0..count {
            let place = self.look_next;
            self.look_next = (place + 1) % self.lines.len();
            let stuck_us = self.lines[place].stuck_us(now);
            self.outcome.stuck_us_max = self.outcome.stuck_us_max.max(stuck_us);
            if u128::from(stuck_us) >= self.settings.give_up.as_micros() {
                self.lose(place, true);
            }
        }
    }
}

#[cfg(test)]
mod tests;
