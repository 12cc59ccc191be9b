//! The survey: asks the kernel about every connection, round after round, at a bounded cost.
//!
//! In:   sock_diag of the listening port; which router is at which address; how it goes.
//! Out:  `Connections`; what our own sockets dropped, sent again and lost since a mark.
//! Law:  it takes less than a hundredth of one core, however many connections there are: what it
//!       may spend grows with time, and a round goes on when there is some again.
//! Not:  what of it hurts (`verdict`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use tuning::sockets::{SocketDiag, SocketState, Which};

use super::connections::{Connections, Known};
use super::verdict::{SocketEvidence, Worst};
use crate::io::Now;
use crate::registry::Registry;

/// Of a million microseconds of time, so many of one core: 0.1 % in silence, 0.2 % while it is
/// calm, and 0.8 % while a burst runs or waits for its verdict.
const SILENT_MILLIONTHS: u64 = 1_000;
const CALM_MILLIONTHS: u64 = 2_000;
const BURST_MILLIONTHS: u64 = 8_000;
/// What may be saved up for the end of a burst: a hundred milliseconds of one core.
const SAVED_US_MAX: i64 = 100_000;
/// Reads within one look, each some eighty sockets: a look stays short.
const READS_PER_LOOK: usize = 8;
/// Rounds begin so far apart while it is calm, and while a burst runs.
const CALM_US: u64 = 1_000_000;
const BURST_US: u64 = 50_000;
/// And so far where nothing has come since the last of them began: it would say the same again.
const SILENT_US: u64 = 60_000_000;
/// While a round is under way, it wants to go on after so long.
const STEP_US: u64 = 100_000;
/// A receive queue of so many sixteenths of what it may take is full.
const FULL_SIXTEENTHS: u64 = 12;
/// Connections that a burst names.
const WORST_MAX: usize = 8;

/// What is asked for.
pub(super) struct Survey {
    diag: Option<SocketDiag>,
    listen: SocketAddr,
    registry: Arc<Registry>,
    connections: Connections,
    listeners: BTreeMap<[u8; 8], Drops>,
    /// The dump that is under way.
    asked: Option<Which>,
    round: u64,
    /// Rounds that are whole, and when the last of them began.
    whole: u64,
    whole_began_us: u64,
    began_us: u64,
    /// Marks that were made.
    marks: u64,
    /// What may be spent, microseconds of one core, and up to when it has been given.
    budget_us: i64,
    given_us: u64,
    /// Since the mark.
    marked: Marked,
    /// Since the last sample of the kernel: drops, retransmits, drops at listeners.
    fresh: [u64; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Drops {
    round: u64,
    now: u32,
    mark: u32,
    mark_next: u32,
}

/// What was seen since the mark and is gone when it is asked for.
#[derive(Debug, Default)]
struct Marked {
    full: u64,
    closed: u64,
    listen_waiting: u64,
}

impl Survey {
    /// A survey of the connections to this address. Where the kernel does not answer, there is
    /// none, and the log says so once. `connections` is where they are found by others.
    pub(super) fn new(
        (listen, registry): (SocketAddr, Arc<Registry>),
        connections: Connections,
        now: Now,
    ) -> Survey {
        let diag = SocketDiag::open().inspect_err(no_answer).ok();
        Survey {
            diag,
            listen,
            registry,
            connections,
            listeners: BTreeMap::new(),
            asked: None,
            round: 0,
            whole: 0,
            whole_began_us: 0,
            began_us: 0,
            marks: 0,
            budget_us: 0,
            given_us: now.monotonic_us,
            marked: Marked::default(),
            fresh: [0; 3],
        }
    }

    /// Goes on as far as the budget lets. Returns whether a round has become whole. `came_us`:
    /// when something came last from any router.
    pub(super) fn work(&mut self, now: Now, in_burst: bool, came_us: u64) -> bool {
        let elapsed_us = now.monotonic_us.saturating_sub(self.given_us);
        let is_silent = now.monotonic_us.saturating_sub(came_us) >= CALM_US;
        let share = match in_burst {
            true => BURST_MILLIONTHS,
            false if is_silent => SILENT_MILLIONTHS,
            false => CALM_MILLIONTHS,
        };
        let given_us = elapsed_us * share / 1_000_000;
        if given_us > 0 {
            self.given_us = now.monotonic_us;
            self.budget_us = (self.budget_us + given_us as i64).min(SAVED_US_MAX);
        }
        let rest_us = match in_burst {
            true => BURST_US,
            false if self.has_seen(came_us) => SILENT_US,
            false => CALM_US,
        };
        let is_due = self.asked.is_some() || self.began_us + rest_us <= now.monotonic_us;
        if self.diag.is_none() || self.budget_us <= 0 || !is_due {
            return false;
        }
        self.charged(|survey| match survey.step(now) {
            Ok(is_whole) => is_whole,
            Err(error) => {
                no_answer(&error);
                survey.diag = None;
                false
            }
        })
    }

    /// After how long it wants to go on; `None`: there is time.
    pub(super) fn wants_us(&self) -> Option<u64> {
        (self.diag.is_some() && self.asked.is_some()).then_some(STEP_US)
    }

    /// Whatever goes over all connections is paid for: the next round waits for it.
    pub(super) fn charged<T>(&mut self, work: impl FnOnce(&mut Survey) -> T) -> T {
        let before_us = spent_us();
        let done = work(self);
        self.budget_us -= spent_us().saturating_sub(before_us) as i64;
        done
    }

    fn step(&mut self, now: Now) -> std::io::Result<bool> {
        let connections = self.connections.clone();
        // Who copies them is done in a moment.
        let Some(mut known) = connections.known_now() else { return Ok(false) };
        let Some(mut diag) = self.diag.take() else { return Ok(false) };
        if self.asked.is_none() {
            self.round += 1;
            self.began_us = now.monotonic_us;
            diag.ask(self.listen, Which::Listening)?;
            self.asked = Some(Which::Listening);
        }
        let mut is_whole = false;
        for _ in 0..READS_PER_LOOK {
            let is_over = diag.read(&mut |state| self.take(&mut known, state, now))?;
            match (is_over, self.asked) {
                (false, _) => {}
                (true, Some(Which::Listening)) => {
                    diag.ask(self.listen, Which::Connected)?;
                    self.asked = Some(Which::Connected);
                }
                (true, _) => {
                    self.asked = None;
                    self.finish_round(&mut known);
                    is_whole = true;
                    break;
                }
            }
        }
        self.diag = Some(diag);
        Ok(is_whole)
    }

    fn take(&mut self, known: &mut BTreeMap<SocketAddr, Known>, state: SocketState, now: Now) {
        let Some(peer) = state.peer else {
            let drops = self.listeners.entry(state.cookie).or_default();
            if drops.round > 0 || self.whole > 0 {
                self.fresh[2] += u64::from(state.drops.saturating_sub(drops.now));
            } else {
                (drops.mark, drops.mark_next) = (state.drops, state.drops);
            }
            (drops.round, drops.now) = (self.round, state.drops);
            self.marked.listen_waiting = self.marked.listen_waiting.max(u64::from(state.queue));
            return;
        };
        let held = u64::from(state.memory_bytes) * 16;
        if state.memory_max_bytes > 0 && held >= u64::from(state.memory_max_bytes) * FULL_SIXTEENTHS
        {
            self.marked.full += 1;
        }
        if state.window_bytes == Some(0) {
            self.marked.closed += 1;
        }
        let known = known.entry(peer).or_default();
        let more = known.take(state, now.wall.0, self.marks);
        known.round = self.round;
        self.fresh[0] += u64::from(more.drops);
        self.fresh[1] += u64::from(more.retransmits);
    }

    fn finish_round(&mut self, known: &mut BTreeMap<SocketAddr, Known>) {
        let round = self.round;
        known.retain(|_, known| known.round == round);
        self.listeners.retain(|_, drops| drops.round == round);
        self.whole += 1;
        self.whole_began_us = self.began_us;
    }

    /// Whether a whole round has begun after this time; there is none to wait for where the kernel
    /// does not answer.
    pub(super) fn has_seen(&self, monotonic_us: u64) -> bool {
        self.diag.is_none() || self.whole > 0 && self.whole_began_us >= monotonic_us
    }

    /// It is calm: from the mark before this one on is asked about. A burst is seen some looks
    /// after its first byte, and what came with it must not count as before.
    pub(super) fn mark(&mut self) {
        self.marks += 1;
        for drops in self.listeners.values_mut() {
            drops.mark = std::mem::replace(&mut drops.mark_next, drops.now);
        }
        self.marked = Marked::default();
    }

    /// Sessions that have received bytes since the mark.
    pub(super) fn spoke(&self) -> u64 {
        let spoke = |known: &&Known| known.since(self.marks).received_bytes > 0;
        self.connections.known().values().filter(spoke).count() as u64
    }

    /// What our own sockets went through since the mark; `None` where nobody can say.
    pub(super) fn evidence(&self) -> Option<SocketEvidence> {
        self.diag.as_ref()?;
        let known = self.connections.known();
        let mut evidence = SocketEvidence {
            full: self.marked.full,
            closed: self.marked.closed,
            listen_waiting: self.marked.listen_waiting,
            connections: known.len() as u64,
            ..SocketEvidence::default()
        };
        for known in known.values() {
            let more = known.since(self.marks);
            evidence.drops += u64::from(more.drops);
            evidence.retransmits += u64::from(more.retransmits);
            evidence.out_of_order += u64::from(more.out_of_order);
        }
        for drops in self.listeners.values() {
            evidence.listener_drops += u64::from(drops.now.saturating_sub(drops.mark));
        }
        Some(evidence)
    }

    /// The connections that had the hardest time since the mark.
    pub(super) fn worst(&self) -> Vec<Worst> {
        let mut hurt: Vec<(u32, u32, SocketAddr)> = Vec::new();
        for (peer, known) in &*self.connections.known() {
            let more = known.since(self.marks);
            if more.drops > 0 || more.out_of_order > 0 {
                hurt.push((more.drops, more.out_of_order, *peer));
            }
        }
        hurt.sort_unstable_by(|left, right| right.cmp(left));
        let worst = |(drops, _, peer): &(u32, u32, SocketAddr)| Worst {
            peer: peer.to_string(),
            router: self.registry.router_at(*peer).map(|router| router.to_string()),
            drops: u64::from(*drops),
        };
        hurt.iter().take(WORST_MAX).map(worst).collect()
    }

    /// What our sockets dropped and sent again since this was asked last, by counter.
    pub(super) fn fresh(&mut self) -> [(&'static str, u64); 3] {
        let [drops, retransmits, listener] = std::mem::take(&mut self.fresh);
        [("listener.drops", listener), ("socket.drops", drops), ("socket.retransmits", retransmits)]
    }
}

fn no_answer(error: &std::io::Error) {
    tracing::warn!(
        %error,
        fix = "modprobe tcp_diag",
        "the kernel does not tell of single connections: verdicts rest on counters of the host"
    );
}

/// Processor time of this thread.
fn spent_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::io::clock::Clock;

    #[test]
    fn our_connections_are_surveyed_by_router_and_what_came_since_a_mark_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Clock::start();
        let registry = Arc::new(Registry::default());
        let connections = Connections::default();
        let asked = (address, Arc::clone(&registry));
        let mut survey = Survey::new(asked, connections.clone(), clock.now());
        let mut client = TcpStream::connect(address).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        registry.named(peer, storage::mapping::RouterId([192, 0, 2, 7].into()));
        let mut at_us = 1_000_000_000;
        let mut round = |survey: &mut Survey| {
            let mut is_whole = false;
            for _ in 0..100 {
                at_us += CALM_US;
                let now = Now { monotonic_us: at_us, ..clock.now() };
                is_whole = survey.work(now, false, at_us);
                if is_whole {
                    break;
                }
            }
            assert!(is_whole && survey.has_seen(at_us - CALM_US));
        };
        round(&mut survey);
        survey.mark();
        survey.mark();
        assert_eq!((survey.spoke(), survey.evidence().unwrap().connections), (0, 1));
        client.write_all(&[1; 5_000]).unwrap();
        let deadline = clock.elapsed() + std::time::Duration::from_secs(10);
        while survey.spoke() == 0 && clock.elapsed() < deadline {
            round(&mut survey);
        }
        assert_eq!(survey.spoke(), 1);
        let connection = connections.copy().connection(peer, None).unwrap();
        assert_eq!((connection.peer, connection.queue_bytes), (peer.to_string(), 5_000));
        assert_eq!(survey.evidence().unwrap().drops, 0);
        assert!(survey.worst().is_empty());
    }

    #[test]
    fn in_silence_a_round_is_made_that_has_seen_it_and_then_none_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = (listener.local_addr().unwrap(), Arc::new(Registry::default()));
        let start = Now { monotonic_us: 0, ..Clock::start().now() };
        let mut survey = Survey::new(asked, Connections::default(), start);
        // For ten seconds something comes, then nothing for five minutes.
        let came_us_max = 10_000_000;
        let mut wholes = Vec::new();
        for look in 1..=3_100_u64 {
            let now = Now { monotonic_us: look * 100_000, ..start };
            if survey.work(now, false, now.monotonic_us.min(came_us_max)) {
                wholes.push(survey.whole_began_us);
            }
        }
        let busy = wholes.iter().filter(|began| **began < came_us_max).count();
        assert!(busy >= 2, "{wholes:?}");
        let silent = &wholes[busy..];
        assert!(silent[0] < came_us_max + SILENT_US / 2, "{wholes:?}");
        assert!(silent.windows(2).all(|pair| pair[1] - pair[0] >= SILENT_US), "{wholes:?}");
        assert!((4..=6).contains(&silent.len()), "{wholes:?}");
    }

    #[test]
    fn it_spends_no_more_than_its_share() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clock = Clock::start();
        let registry = Arc::new(Registry::default());
        let start = Now { monotonic_us: 0, ..clock.now() };
        let asked = (listener.local_addr().unwrap(), registry);
        let mut survey = Survey::new(asked, Connections::default(), start);
        // Ten seconds in looks of 10 ms: what was spent has been given before, but for one look.
        let before_us = spent_us();
        let mut looks_us = 0;
        for look in 1..=1_000_u64 {
            let now = Now { monotonic_us: look * 10_000, ..start };
            let in_debt = survey.budget_us <= 0;
            let rounds = survey.round;
            let spent = spent_us();
            survey.work(now, true, now.monotonic_us);
            looks_us += spent_us() - spent;
            assert!(!in_debt || survey.budget_us <= 80 || survey.round == rounds);
        }
        assert!(survey.budget_us <= SAVED_US_MAX && survey.round > 0);
        assert!(looks_us <= spent_us() - before_us);
    }
}
