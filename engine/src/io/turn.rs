//! Turn: the loop of a shard's thread, the same for both socket drivers.
//!
//! In:   a driver, which knows how to wait and what to do, and the machine that it turns.
//! Out:  turns, until the machine has stopped.
//! Law:  draining comes before digesting; a turn is bounded, whatever waits.
//! Not:  system calls (`epoll`, `uring`); the simulation has a loop of its own (`sim`).

use std::io;
use std::time::Duration;

use crate::io::clock::Clock;
use crate::io::links::{DriverCounters, Machine};
use crate::io::{Completion, Now};

/// How long slices are digested before the sockets are looked at again: long against the look, so
/// that small slices do not cost a system call each; short against what sockets' buffers hold.
const DIGEST_US: u64 = 500;
/// Longest wait of an idle loop: a shard that has not turned for long is dead, and told so.
const IDLE_TURN_US: u64 = 1_000_000;

/// What a socket driver does in a turn.
pub trait Turn {
    /// The clock of the process.
    fn clock(&self) -> Clock;
    /// Does what the machine wants, until it wants nothing.
    fn perform_all<M: Machine>(&mut self, now: Now, machine: &mut M) -> io::Result<()>;
    /// Whether no connection is left, not even one that is being closed.
    fn is_empty(&self) -> bool;
    /// Whether there is something to do without waiting.
    fn is_busy(&self) -> bool;
    /// When the driver has something to do by itself, on the monotonic clock.
    fn due_us(&self) -> Option<u64>;
    /// Asks the kernel what is ready, and waits that long for it.
    fn wait(&mut self, wait: Duration) -> io::Result<()>;
    /// Takes all that is ready; `true` when afterwards every receive queue was empty.
    fn drain<M: Machine>(&mut self, machine: &mut M) -> io::Result<bool>;
    /// Does what is due by now.
    fn run_timers<M: Machine>(&mut self, now: Now, machine: &mut M) -> io::Result<()>;
    /// What has been counted; the turns are counted by the loop.
    fn counters(&mut self) -> &mut DriverCounters;
}

/// Turns the machine until it has stopped. Errors: the machine's failure, or the driver's own.
pub fn run<D: Turn, M: Machine>(mut driver: D, machine: &mut M) -> io::Result<()> {
    let clock = driver.clock();
    let mut more = true;
    loop {
        driver.perform_all(clock.now(), machine)?;
        if machine.stopped() && driver.is_empty() {
            return Ok(());
        }
        let busy = more || driver.is_busy();
        driver.wait(if busy { Duration::ZERO } else { wait_at_most(&driver, machine) })?;
        let drained = driver.drain(machine)?;
        let now = clock.now();
        driver.run_timers(now, machine)?;
        if drained {
            machine.handle(now, Completion::Drained);
        }
        more = digest_for_a_while(&clock, machine);
        let counters = driver.counters();
        counters.turns += 1;
        machine.publish(now, counters);
        if let Some(failure) = machine.failure() {
            return Err(failure);
        }
    }
}

/// Until the first thing that is due, and never longer than an idle turn.
fn wait_at_most<D: Turn, M: Machine>(driver: &D, machine: &M) -> Duration {
    let now_us = driver.clock().now().monotonic_us;
    let due_us = machine.poll_timeout().into_iter().chain(driver.due_us()).min();
    let wait_us = due_us.map_or(IDLE_TURN_US, |due_us| due_us.saturating_sub(now_us));
    Duration::from_micros(wait_us.min(IDLE_TURN_US))
}

/// Digests slices until there is nothing left or `DIGEST_US` are over; at least one, for the timers
/// run there. Whether there is more to do.
fn digest_for_a_while<M: Machine>(clock: &Clock, machine: &mut M) -> bool {
    let started_us = clock.now().monotonic_us;
    loop {
        let now = clock.now();
        let more = machine.digest(now);
        if !more || now.monotonic_us.saturating_sub(started_us) > DIGEST_US {
            return more;
        }
    }
}
