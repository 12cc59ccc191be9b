//! A network namespace that lives as long as its process: its kernel counters are the storm's.
//!
//! In:   sysctls to set in it.
//! Out:  a command prefix that runs other processes in it; its counters; the longest receive queue.
//! Law:  nothing is left behind: the kernel ends the namespace with the last process in it.
//! Not:  what a counter means (`tuning`).

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tuning::counters::{Counters, LOSS_COUNTERS, PRESSURE_COUNTERS};

use crate::bench::BenchError;
use crate::process::{self, Process};

/// Name of the role.
pub(crate) const ROLE: &str = "namespace";
/// Between two looks at every receive queue, while they are watched.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// A counter that belongs to those of the law for a tight host: bytes thrown out of order.
const OFO_PRUNED: &str = "TcpExt.OfoPruned";

/// A namespace, kept by a process that does nothing else.
pub(crate) struct Namespace {
    process: Process,
}

impl Namespace {
    /// Makes one, its loopback up. `sysctls` are `name=value`. Errors: no root, no iproute2.
    pub(crate) fn start(sysctls: &[&str]) -> Result<Namespace, BenchError> {
        let arguments: Vec<String> = sysctls.iter().map(|it| (*it).to_owned()).collect();
        let around = ["unshare".to_owned(), "--net".to_owned()];
        let mut process = Process::start(ROLE, &arguments, &around)?;
        process.answer()?;
        Ok(Namespace { process })
    }

    /// What runs a command in it.
    pub(crate) fn around(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.process.id())]
    }

    /// Its counters now: those that must not move, and those that show pressure.
    pub(crate) fn counters(&mut self) -> Result<Vec<(String, i64)>, BenchError> {
        let line = self.process.ask("counters")?;
        let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Begins to look at every receive queue.
    pub(crate) fn watch_queues(&mut self) -> Result<(), BenchError> {
        self.process.ask("watch").map(drop)
    }

    /// Bytes of the longest receive queue seen since `watch_queues`.
    pub(crate) fn longest_queue(&mut self) -> Result<u64, BenchError> {
        let line = self.process.ask("queue")?;
        line.parse().map_err(|_| BenchError::Process { role: ROLE, told: line.clone() })
    }
}

/// How far counters moved between two readings; those that stood still are left out.
pub(crate) fn moved(before: &[(String, i64)], after: &[(String, i64)]) -> Vec<(String, i64)> {
    let delta = |((name, after), (_, before)): (&(String, i64), &(String, i64))| {
        (after != before).then(|| (name.clone(), after - before))
    };
    after.iter().zip(before).filter_map(delta).collect()
}

/// By how much one of them moved.
pub(crate) fn moved_by(moved: &[(String, i64)], name: &str) -> i64 {
    let full = format!("TcpExt.{name}");
    moved.iter().find(|(moved, _)| *moved == full).map_or(0, |(_, delta)| *delta)
}

/// The sum of those that must not move.
pub(crate) fn losses(moved: &[(String, i64)]) -> i64 {
    let counts = |name: &str| LOSS_COUNTERS.contains(&name) || name == OFO_PRUNED;
    moved.iter().filter(|(name, _)| counts(name)).map(|(_, delta)| *delta).sum()
}

/// In words.
pub(crate) fn in_words(moved: &[(String, i64)]) -> String {
    if moved.is_empty() {
        return "none".to_owned();
    }
    let short = |name: &String| name.split('.').next_back().unwrap_or_default().to_owned();
    moved
        .iter()
        .map(|(name, delta)| format!("{} {delta:+}", short(name)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The role: brings the loopback up and answers for the namespace until it is no longer wanted.
pub(crate) fn play(sysctls: &[String]) -> Result<(), BenchError> {
    run("ip", &["link", "set", "lo", "up"])?;
    for sysctl in sysctls {
        run("sysctl", &["-qw", sysctl])?;
    }
    process::answer("ready")?;
    let longest = Arc::new(AtomicU64::new(0));
    let watching = Arc::new(AtomicBool::new(false));
    {
        let (longest, watching) = (Arc::clone(&longest), Arc::clone(&watching));
        // It ends with the process.
        std::thread::spawn(move || {
            loop {
                if watching.load(Ordering::Relaxed) {
                    longest.fetch_max(longest_receive_queue(), Ordering::Relaxed);
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        });
    }
    for word in process::words() {
        match word.as_str() {
            "counters" => process::answer(&counters()?)?,
            "watch" => {
                longest.store(0, Ordering::Relaxed);
                watching.store(true, Ordering::Relaxed);
                process::answer("watching")?;
            }
            "queue" => {
                watching.store(false, Ordering::Relaxed);
                process::answer(&longest.load(Ordering::Relaxed).to_string())?;
            }
            _ => break,
        }
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), BenchError> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BenchError::Process { role: ROLE, told: format!("{program}: {told}") })
}

fn counters() -> Result<String, BenchError> {
    let told = |error: tuning::counters::CounterError| BenchError::Process {
        role: ROLE,
        told: error.to_string(),
    };
    let counters = Counters::read().map_err(told)?;
    let names = LOSS_COUNTERS.iter().chain(&[OFO_PRUNED]).chain(&PRESSURE_COUNTERS);
    let pair = |name: &&str| Some(format!("{name}={}", counters.value(name)?));
    Ok(names.filter_map(pair).collect::<Vec<_>>().join(" "))
}

/// Bytes in the longest receive queue of a connection of this namespace.
fn longest_receive_queue() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
    text.lines().skip(1).filter_map(receive_queue).max().unwrap_or(0)
}

/// The bytes that wait in a line of /proc/net/tcp; of a listener (state 0A) that field says how
/// many connections wait, which is something else.
fn receive_queue(line: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace().skip(3);
    let state = words.next()?;
    let (_, queue) = words.next()?.split_once(':')?;
    let bytes = u64::from_str_radix(queue, 16).ok()?;
    (state != "0A").then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receive_queue_is_the_second_half_of_its_field_and_a_listener_has_none() {
        let line = |state: &str| {
            format!("   0: 0100007F:1F90 0200007F:C350 {state} 00000007:000001F4 00:0 0 0 0")
        };
        assert_eq!(receive_queue(&line("01")), Some(500));
        assert_eq!(receive_queue(&line("0A")), None);
    }

    #[test]
    fn what_moved_is_told_apart_from_what_must_not_move() {
        let at = |prune: i64, window: i64| {
            let pruned = (LOSS_COUNTERS[0].to_owned(), prune);
            vec![pruned, ("TcpExt.TCPToZeroWindowAdv".to_owned(), window)]
        };
        let moved = moved(&at(3, 5), &at(3, 9));
        assert_eq!((losses(&moved), in_words(&moved)), (0, "TCPToZeroWindowAdv +4".to_owned()));
        let moved = super::moved(&at(3, 5), &at(7, 5));
        assert_eq!((losses(&moved), moved_by(&moved, "PruneCalled")), (4, 4));
    }
}
