//! The survey: asks the kernel about every connection, round after round, at a bounded cost.
//!
//! In:   sock_diag of the listening port; which router is at which address.
//! Out:  `Connection`s; what our own sockets dropped, sent again and lost since a mark.
//! Law:  it takes less than a hundredth of one core, however many connections there are: what it
//!       may spend grows with time, and a round goes on when there is some again.
//! Not:  what of it hurts (`verdict`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use tuning::sockets::{SocketDiag, SocketState, Which};

use super::connections::Connection;
use super::verdict::{SocketEvidence, Worst};
use crate::io::Now;
use crate::registry::Registry;

/// Of a million microseconds of time, so many of one core: 0.2 % while it is calm, so that a silent
/// fleet costs next to nothing, and 0.8 % while a burst runs or waits for its verdict.
const CALM_MILLIONTHS: u64 = 2_000;
const BURST_MILLIONTHS: u64 = 8_000;
/// What may be saved up for the end of a burst: a hundred milliseconds of one core.
const SAVED_US_MAX: i64 = 100_000;
/// Reads within one look, each some eighty sockets: a look stays short.
const READS_PER_LOOK: usize = 8;
/// Rounds begin so far apart while it is calm, and while a burst runs.
const CALM_US: u64 = 1_000_000;
const BURST_US: u64 = 50_000;
/// A receive queue of so many sixteenths of what it may take is full.
const FULL_SIXTEENTHS: u64 = 12;
/// Connections that a burst names.
const WORST_MAX: usize = 8;

/// What is asked for.
pub(super) struct Survey {
    diag: Option<SocketDiag>,
    listen: SocketAddr,
    registry: Arc<Registry>,
    known: BTreeMap<SocketAddr, Known>,
    listeners: BTreeMap<[u8; 8], Drops>,
    /// The dump that is under way.
    asked: Option<Which>,
    round: u64,
    /// Rounds that are whole, and when the last of them began.
    whole: u64,
    whole_began_us: u64,
    began_us: u64,
    /// What may be spent, microseconds of one core, and up to when it has been given.
    budget_us: i64,
    given_us: u64,
    /// Since the mark.
    marked: Marked,
    /// Since the last sample of the kernel: drops, retransmits, drops at listeners.
    fresh: [u64; 3],
}

/// A connection, and what was known of it at the mark.
#[derive(Debug, Default)]
struct Known {
    round: u64,
    time_us: i64,
    state: SocketState,
    mark: SocketState,
    mark_next: SocketState,
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
    /// none, and the log says so once.
    pub(super) fn new(listen: SocketAddr, registry: Arc<Registry>, now: Now) -> Survey {
        let diag = SocketDiag::open().inspect_err(no_answer).ok();
        Survey {
            diag,
            listen,
            registry,
            known: BTreeMap::new(),
            listeners: BTreeMap::new(),
            asked: None,
            round: 0,
            whole: 0,
            whole_began_us: 0,
            began_us: 0,
            budget_us: 0,
            given_us: now.monotonic_us,
            marked: Marked::default(),
            fresh: [0; 3],
        }
    }

    /// Goes on as far as the budget lets. Returns whether a round has become whole.
    pub(super) fn work(&mut self, now: Now, in_burst: bool) -> bool {
        let elapsed_us = now.monotonic_us.saturating_sub(self.given_us);
        let share = if in_burst { BURST_MILLIONTHS } else { CALM_MILLIONTHS };
        let given_us = elapsed_us * share / 1_000_000;
        if given_us > 0 {
            self.given_us = now.monotonic_us;
            self.budget_us = (self.budget_us + given_us as i64).min(SAVED_US_MAX);
        }
        let rest_us = if in_burst { BURST_US } else { CALM_US };
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

    /// Whatever goes over all connections is paid for: the next round waits for it.
    pub(super) fn charged<T>(&mut self, work: impl FnOnce(&mut Survey) -> T) -> T {
        let before_us = spent_us();
        let done = work(self);
        self.budget_us -= spent_us().saturating_sub(before_us) as i64;
        done
    }

    fn step(&mut self, now: Now) -> std::io::Result<bool> {
        let Some(mut diag) = self.diag.take() else { return Ok(false) };
        if self.asked.is_none() {
            self.round += 1;
            self.began_us = now.monotonic_us;
            diag.ask(self.listen, Which::Listening)?;
            self.asked = Some(Which::Listening);
        }
        let mut is_whole = false;
        for _ in 0..READS_PER_LOOK {
            let is_over = diag.read(&mut |state| self.take(state, now))?;
            match (is_over, self.asked) {
                (false, _) => {}
                (true, Some(Which::Listening)) => {
                    diag.ask(self.listen, Which::Connected)?;
                    self.asked = Some(Which::Connected);
                }
                (true, _) => {
                    self.asked = None;
                    self.finish_round();
                    is_whole = true;
                    break;
                }
            }
        }
        self.diag = Some(diag);
        Ok(is_whole)
    }

    fn take(&mut self, state: SocketState, now: Now) {
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
        let known = self.known.entry(peer).or_default();
        if known.round > 0 && known.state.cookie != state.cookie {
            // Another connection from the same place: it began with nothing, as every one does.
            *known = Known::default();
        }
        let more = |now: u32, before: u32| u64::from(now.saturating_sub(before));
        let retransmits = |state: &SocketState| state.retransmits.unwrap_or(0);
        self.fresh[0] += more(state.drops, known.state.drops);
        self.fresh[1] += more(retransmits(&state), retransmits(&known.state));
        let held = u64::from(state.memory_bytes) * 16;
        if state.memory_max_bytes > 0 && held >= u64::from(state.memory_max_bytes) * FULL_SIXTEENTHS
        {
            self.marked.full += 1;
        }
        if state.window_bytes == Some(0) {
            self.marked.closed += 1;
        }
        (known.round, known.time_us, known.state) = (self.round, now.wall.0, state);
    }

    fn finish_round(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
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
        for known in self.known.values_mut() {
            known.mark = std::mem::replace(&mut known.mark_next, known.state.clone());
        }
        for drops in self.listeners.values_mut() {
            drops.mark = std::mem::replace(&mut drops.mark_next, drops.now);
        }
        self.marked = Marked::default();
    }

    /// Sessions that have received bytes since the mark.
    pub(super) fn spoke(&self) -> u64 {
        let spoke = |known: &&Known| known.state.received_bytes > known.mark.received_bytes;
        self.known.values().filter(spoke).count() as u64
    }

    /// What our own sockets went through since the mark; `None` where nobody can say.
    pub(super) fn evidence(&self) -> Option<SocketEvidence> {
        self.diag.as_ref()?;
        let mut evidence = SocketEvidence {
            full: self.marked.full,
            closed: self.marked.closed,
            listen_waiting: self.marked.listen_waiting,
            connections: self.known.len() as u64,
            ..SocketEvidence::default()
        };
        for Known { state, mark, .. } in self.known.values() {
            let more = |of: fn(&SocketState) -> u32| u64::from(of(state).saturating_sub(of(mark)));
            evidence.drops += more(|state| state.drops);
            evidence.retransmits += more(|state| state.retransmits.unwrap_or(0));
            evidence.out_of_order += more(|state| state.out_of_order.unwrap_or(0));
        }
        for drops in self.listeners.values() {
            evidence.listener_drops += u64::from(drops.now.saturating_sub(drops.mark));
        }
        Some(evidence)
    }

    /// The connections that had the hardest time since the mark.
    pub(super) fn worst(&self) -> Vec<Worst> {
        let mut hurt: Vec<(u32, u32, &SocketAddr)> = Vec::new();
        for (peer, Known { state, mark, .. }) in &self.known {
            let drops = state.drops.saturating_sub(mark.drops);
            let out_of_order = |state: &SocketState| state.out_of_order.unwrap_or(0);
            let disordered = out_of_order(state).saturating_sub(out_of_order(mark));
            if drops > 0 || disordered > 0 {
                hurt.push((drops, disordered, peer));
            }
        }
        hurt.sort_unstable_by(|left, right| right.cmp(left));
        let worst = |(drops, _, peer): &(u32, u32, &SocketAddr)| Worst {
            peer: peer.to_string(),
            router: self.registry.router_at(**peer).map(|router| router.to_string()),
            drops: u64::from(*drops),
        };
        hurt.iter().take(WORST_MAX).map(worst).collect()
    }

    /// Every connection, as the last whole round saw it.
    pub(super) fn connections(&self) -> Vec<Connection> {
        let connection = |(peer, known): (&SocketAddr, &Known)| {
            let state = &known.state;
            Connection {
                router: self.registry.router_at(*peer).map(|router| router.to_string()),
                peer: peer.to_string(),
                time_us: known.time_us,
                queue_bytes: u64::from(state.queue),
                queue_memory_bytes: u64::from(state.memory_bytes),
                queue_memory_max_bytes: u64::from(state.memory_max_bytes),
                window_bytes: state.window_bytes.map(u64::from),
                drops: u64::from(state.drops),
                retransmits: u64::from(state.retransmits.unwrap_or(0)),
                rtt_us: state.rtt_us.map(u64::from),
                received_bytes: state.received_bytes,
                silent_ms: state.silent_ms.map(u64::from),
            }
        };
        self.known.iter().map(connection).collect()
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
        let mut survey = Survey::new(address, Arc::clone(&registry), clock.now());
        let mut client = TcpStream::connect(address).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        registry.named(peer, storage::mapping::RouterId([192, 0, 2, 7].into()));
        let mut at_us = 1_000_000_000;
        let mut round = |survey: &mut Survey| {
            let mut is_whole = false;
            for _ in 0..100 {
                at_us += CALM_US;
                let now = Now { monotonic_us: at_us, ..clock.now() };
                is_whole = survey.work(now, false);
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
        let [connection] = survey.connections().try_into().unwrap();
        assert_eq!(connection.router.as_deref(), Some("192.0.2.7"));
        assert_eq!((connection.peer, connection.queue_bytes), (peer.to_string(), 5_000));
        assert_eq!(survey.evidence().unwrap().drops, 0);
        assert!(survey.worst().is_empty());
        registry.gone(peer);
        assert_eq!(survey.connections()[0].router, None);
    }

    #[test]
    fn it_spends_no_more_than_its_share() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clock = Clock::start();
        let registry = Arc::new(Registry::default());
        let start = Now { monotonic_us: 0, ..clock.now() };
        let mut survey = Survey::new(listener.local_addr().unwrap(), registry, start);
        // Ten seconds in looks of 10 ms: what was spent has been given before, but for one look.
        let before_us = spent_us();
        let mut looks_us = 0;
        for look in 1..=1_000_u64 {
            let now = Now { monotonic_us: look * 10_000, ..start };
            let in_debt = survey.budget_us <= 0;
            let rounds = survey.round;
            let spent = spent_us();
            survey.work(now, true);
            looks_us += spent_us() - spent;
            assert!(!in_debt || survey.budget_us <= 80 || survey.round == rounds);
        }
        assert!(survey.budget_us <= SAVED_US_MAX && survey.round > 0);
        assert!(looks_us <= spent_us() - before_us);
    }
}
