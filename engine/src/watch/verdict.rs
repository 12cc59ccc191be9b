//! The verdict on a burst: did it hurt, and which layer was it?
//!
//! In:   evidence that the collector and the kernel left while the burst ran.
//! Out:  `Verdict`: clean, squeezed, lost, or that it cannot be told; the layer; why, in words.
//! Law:  the collector's own sockets decide; counters of the whole host are told as such; what
//!       could not be looked at is never taken for quiet.
//! Not:  gathering the evidence (`strain`, `survey`).

use serde::{Deserialize, Serialize};
use tuning::counters::LOSS_COUNTERS;
use utoipa::ToSchema;

use super::burst::Moved;

/// How a burst went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nobody waited, nothing was sent twice.
    Clean,
    /// Nothing is known to have hurt, and not everything that could have could be looked at.
    Unknown,
    /// Routers waited or had to send again; everything arrived.
    Squeezed,
    /// Sessions broke or mappings were refused: there are gaps.
    Lost,
}

impl Outcome {
    /// Every outcome, the worst last.
    pub const ALL: [Outcome; 4] =
        [Outcome::Clean, Outcome::Unknown, Outcome::Squeezed, Outcome::Lost];

    /// The word of every output.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Clean => "clean",
            Outcome::Unknown => "unknown",
            Outcome::Squeezed => "squeezed",
            Outcome::Lost => "lost",
        }
    }
}

/// Where it was tight, in the order in which a byte comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The network interface lost packets.
    Nic,
    /// A processor's backlog of packets overflowed.
    Softnet,
    /// Receive queues or the listen queue: the kernel's memory for sockets.
    Socket,
    /// The collector took bytes off its sockets too slowly.
    Drain,
    /// The collector decoded too slowly: the memory for what waits was spent.
    Digest,
    /// The log waited for the disk.
    Disk,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Layer; 6] =
        [Layer::Nic, Layer::Softnet, Layer::Socket, Layer::Drain, Layer::Digest, Layer::Disk];

    /// The word of every output.
    pub const fn name(self) -> &'static str {
        match self {
            Layer::Nic => "nic",
            Layer::Softnet => "softnet",
            Layer::Socket => "socket",
            Layer::Drain => "drain",
            Layer::Digest => "digest",
            Layer::Disk => "disk",
        }
    }
}

/// What a burst came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// How it went.
    pub outcome: Outcome,
    /// Where it was tight; none when it was nowhere, or when that cannot be told.
    pub layer: Option<Layer>,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
}

/// A connection that had a hard time in a burst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worst {
    /// The other end: address and port.
    pub peer: String,
    /// The router, where it has said which it is.
    pub router: Option<String>,
    /// Segments that the kernel dropped on its socket.
    pub drops: u64,
}

/// What the collector's own sockets went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketEvidence {
    /// Segments dropped.
    pub drops: u64,
    /// Segments that we sent again.
    pub retransmits: u64,
    /// Segments that came out of order: one before them was lost or overtaken.
    pub out_of_order: u64,
    /// Connections that found the listen queue full.
    pub listener_drops: u64,
    /// How often a receive queue was seen full.
    pub full: u64,
    /// How often a window was seen closed.
    pub closed: u64,
    /// Most connections that were seen waiting in a listen queue.
    pub listen_waiting: u64,
    /// Connections that were asked about.
    pub connections: u64,
}

/// What a burst left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Sessions that broke.
    pub broken: u64,
    /// Mappings that were refused because there was no room for them.
    pub refused: u64,
    /// Longest time for which a session was not read for want of memory, milliseconds.
    pub blocked_longest_ms: u64,
    /// Whether the log waited for room on the disk.
    pub log_failed: bool,
    /// Longest time that rows waited to become durable, milliseconds.
    pub commit_longest_ms: u64,
    /// Longest time that the collector, or a shard with work to do, did not run, milliseconds.
    pub stalled_longest_ms: u64,
    /// Our own sockets; `None` where the kernel does not tell of them.
    pub sockets: Option<SocketEvidence>,
    /// Counters of the host that moved.
    pub moved: Vec<Moved>,
    /// Where the kernel counts losses and could not be read.
    pub unread: Vec<String>,
}

impl Evidence {
    /// By how much the counters with this beginning moved.
    fn moved(&self, prefix: &str, suffix: &str) -> u64 {
        let is_it =
            |moved: &&Moved| moved.counter.starts_with(prefix) && moved.counter.ends_with(suffix);
        self.moved.iter().filter(is_it).fold(0, |sum, moved| sum.saturating_add(moved.by))
    }

    /// Counters of these that moved, in words.
    fn words(&self, counters: &[&str]) -> Vec<String> {
        let is_it = |moved: &&Moved| counters.contains(&moved.counter.as_str());
        let words = |moved: &Moved| format!("{} +{}", moved.counter, moved.by);
        self.moved.iter().filter(is_it).map(words).collect()
    }
}

/// The kernel had to make room in receive queues.
const QUEUES_SQUEEZED: [&str; 6] = [
    "TcpExt.PruneCalled",
    "TcpExt.RcvPruned",
    "TcpExt.OfoPruned",
    "TcpExt.TCPRcvCollapsed",
    "TcpExt.TCPRcvQDrop",
    "TcpExt.TCPBacklogDrop",
];
/// Shorter pauses do not show among the round trips of a wide network.
const BLOCKED_MS: u64 = 100;
/// An acknowledgement that comes later is late for whoever waits for it.
const COMMIT_MS: u64 = 1_000;
/// A collector that did not run for so long explains queues that filled meanwhile.
const STALLED_MS: u64 = 500;
/// So long is felt even where no queue filled.
const STALLED_LONG_MS: u64 = 1_000;

/// Judges a burst. The order of the questions is that of causes: a slow disk holds up digesting,
/// digesting holds up reading, and what is not read fills the kernel's queues.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut reasons = Vec::new();
    let tight = [disk, digest, queues, softnet, nic];
    let layers = tight.map(|layer| layer(evidence, &mut reasons));
    let layer = layers.into_iter().flatten().next();
    let untold = if layer.is_none() { untold(evidence) } else { Vec::new() };
    let mut outcome = match layer {
        Some(_) => Outcome::Squeezed,
        None if untold.is_empty() => Outcome::Clean,
        None => Outcome::Unknown,
    };
    if evidence.broken > 0 {
        reasons.insert(0, format!("{} sessions broke: each is a gap", evidence.broken));
    }
    if evidence.refused > 0 {
        let refused = evidence.refused;
        reasons.insert(0, format!("{refused} mappings were refused for want of memory"));
    }
    if evidence.broken + evidence.refused > 0 {
        outcome = Outcome::Lost;
        if layer.is_none() && untold.is_empty() {
            reasons.push("nothing was tight here: look at the routers and at the way".to_owned());
        }
    }
    if layer.is_none() {
        host_only(evidence, &mut reasons);
    }
    if !untold.is_empty() {
        reasons.push(format!(
            "whether something was tight here cannot be told: {}",
            untold.join(", ")
        ));
    }
    Verdict { outcome, layer, reasons }
}

/// What stands between this evidence and "nothing was tight": what could not be looked at, unless
/// something else that was seen shows that it was quiet.
fn untold(evidence: &Evidence) -> Vec<String> {
    let of_tcp = ["/proc/net/snmp", "/proc/net/netstat"];
    let of_packets = ["/proc/net/softnet_stat", "/sys/class/net"];
    let mut untold = Vec::new();
    let mut unread = |paths: &[&str]| {
        let is_it = |path: &&String| paths.iter().any(|prefix| path.starts_with(prefix));
        let found = evidence.unread.iter().filter(is_it);
        untold.extend(found.map(|path| format!("{path} cannot be read")));
    };
    match &evidence.sockets {
        None => {
            unread(&of_tcp);
            unread(&of_packets);
            if evidence.moved("softnet.", ".dropped") + evidence.moved("interface.", "") > 0 {
                untold.push("the kernel does not tell of our connections".to_owned());
            }
        }
        Some(sockets) => {
            // A queue that was never full was not squeezed, and segments that came in order say
            // that no packet of ours was lost.
            if sockets.drops + sockets.full + sockets.closed > 0 {
                unread(&of_tcp);
            }
            if sockets.out_of_order > 0 {
                unread(&of_packets);
            }
        }
    }
    untold
}

fn disk(evidence: &Evidence, reasons: &mut Vec<String>) -> Option<Layer> {
    if evidence.log_failed {
        reasons.push("the log waited for room on the disk, and reading with it".to_owned());
        return Some(Layer::Disk);
    }
    let longest_ms = evidence.commit_longest_ms;
    (longest_ms >= COMMIT_MS).then(|| {
        reasons.push(format!("rows waited {longest_ms} ms for the disk, and their acks with them"));
        Layer::Disk
    })
}

fn digest(evidence: &Evidence, reasons: &mut Vec<String>) -> Option<Layer> {
    let longest_ms = evidence.blocked_longest_ms;
    (longest_ms >= BLOCKED_MS).then(|| {
        reasons.push(format!(
            "a router was not read for {longest_ms} ms, because what waited to be digested had \
             spent memory_bytes; it waited at its window, and nothing was lost"
        ));
        Layer::Digest
    })
}

/// Queues of our own sockets; who is to blame depends on whether the collector was there to read.
fn queues(evidence: &Evidence, reasons: &mut Vec<String>) -> Option<Layer> {
    let stalled_ms = evidence.stalled_longest_ms;
    let before = reasons.len();
    let squeezed = evidence.words(&QUEUES_SQUEEZED).join(", ");
    match &evidence.sockets {
        Some(sockets) => own_queues(&squeezed, sockets, reasons),
        None if !squeezed.is_empty() => reasons.push(format!(
            "counters of the host moved ({squeezed}); the kernel does not tell whether on our \
             sockets"
        )),
        None => {}
    }
    if reasons.len() > before && stalled_ms < STALLED_MS {
        return Some(Layer::Socket);
    }
    (reasons.len() > before || stalled_ms >= STALLED_LONG_MS).then(|| {
        reasons.push(format!("the collector did not run for {stalled_ms} ms"));
        Layer::Drain
    })
}

/// What a socket dropped says little alone: a probe of a closed window is dropped too, and a window
/// closes whenever the sender is faster than the reader. Together with what the kernel says that
/// it pruned, it says whose queues those were.
fn own_queues(squeezed: &str, sockets: &SocketEvidence, reasons: &mut Vec<String>) {
    let SocketEvidence { drops, full, closed, listener_drops, .. } = sockets;
    if *listener_drops > 0 {
        reasons.push(format!(
            "{listener_drops} connections found our listen queue full: their routers ask again"
        ));
    }
    if !squeezed.is_empty() && drops + full + closed > 0 {
        reasons.push(format!(
            "the kernel squeezed receive queues of ours ({squeezed}; {drops} segments dropped on \
             our sockets): on TCP that is delay, not loss, for routers send again what was dropped"
        ));
    }
}

fn softnet(evidence: &Evidence, reasons: &mut Vec<String>) -> Option<Layer> {
    let dropped = evidence.moved("softnet.", ".dropped");
    let disordered = evidence.sockets.map_or(0, |sockets| sockets.out_of_order);
    (dropped > 0 && disordered > 0).then(|| {
        reasons.push(format!(
            "processors dropped {dropped} packets at their backlog, and {disordered} segments \
             came out of order on our connections"
        ));
        Layer::Softnet
    })
}

fn nic(evidence: &Evidence, reasons: &mut Vec<String>) -> Option<Layer> {
    let lost = evidence.moved("interface.", "");
    let disordered = evidence.sockets.map_or(0, |sockets| sockets.out_of_order);
    (lost > 0 && disordered > 0).then(|| {
        reasons.push(format!(
            "interfaces lost {lost} packets, and {disordered} segments came out of order on our \
             connections"
        ));
        Layer::Nic
    })
}

/// What moved on the host and not on our sockets is somebody else's, and said.
fn host_only(evidence: &Evidence, reasons: &mut Vec<String>) {
    let mut words = evidence.words(&LOSS_COUNTERS);
    for (prefix, suffix) in [("softnet.", ".dropped"), ("interface.", "")] {
        let by = evidence.moved(prefix, suffix);
        if by > 0 {
            words.push(format!("{prefix}*{suffix} +{by}"));
        }
    }
    if !words.is_empty() {
        let whose = match evidence.sockets {
            Some(_) => "but not on the collector's sockets",
            None => "and the kernel does not tell whether on the collector's sockets",
        };
        reasons.push(format!("counters of the host moved ({}), {whose}", words.join(", ")));
    }
    let disordered = evidence.sockets.map_or(0, |sockets| sockets.out_of_order);
    if disordered > 0 {
        reasons.push(format!(
            "{disordered} segments came out of order: lost or overtaken on their way here"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(counter: &str, by: u64) -> Vec<Moved> {
        vec![Moved { counter: counter.to_owned(), by }]
    }

    const NETSTAT: [&str; 1] = ["/proc/net/netstat"];

    fn unread(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    fn sockets(change: fn(&mut SocketEvidence)) -> Option<SocketEvidence> {
        let mut sockets = SocketEvidence { connections: 10, ..SocketEvidence::default() };
        change(&mut sockets);
        Some(sockets)
    }

    /// Evidence, outcome, layer, and a word of the reason.
    type Case = (Evidence, Outcome, Option<Layer>, &'static str);

    fn cases() -> Vec<Case> {
        let calm = Evidence { sockets: sockets(|_| {}), ..Evidence::default() };
        let with = |change: &dyn Fn(&mut Evidence)| {
            let mut evidence = calm.clone();
            change(&mut evidence);
            evidence
        };
        let (clean, squeezed, lost) = (Outcome::Clean, Outcome::Squeezed, Outcome::Lost);
        let unknown = Outcome::Unknown;
        vec![
            (calm.clone(), clean, None, ""),
            (with(&|it| it.blocked_longest_ms = 99), clean, None, ""),
            (with(&|it| it.blocked_longest_ms = 100), squeezed, Some(Layer::Digest), "100 ms"),
            (with(&|it| it.commit_longest_ms = 1_000), squeezed, Some(Layer::Disk), "1000 ms"),
            (with(&|it| it.log_failed = true), squeezed, Some(Layer::Disk), "room on the disk"),
            // A disk that is slow holds up digesting: the cause is named, not what follows.
            (
                with(&|it| (it.blocked_longest_ms, it.commit_longest_ms) = (5_000, 2_000)),
                squeezed,
                Some(Layer::Disk),
                "5000 ms",
            ),
            // Probes of a window that is closed are dropped: slower than the sender, and no more.
            (with(&|it| it.sockets = sockets(|own| own.drops = 3)), clean, None, ""),
            (
                with(&|it| {
                    it.sockets = sockets(|own| own.drops = 3);
                    it.moved = moved("TcpExt.TCPRcvQDrop", 3);
                }),
                squeezed,
                Some(Layer::Socket),
                "delay, not loss",
            ),
            (
                with(&|it| it.sockets = sockets(|own| own.listener_drops = 7)),
                squeezed,
                Some(Layer::Socket),
                "7 connections",
            ),
            // Pruned on our sockets, by the only sign that a socket leaves of it: it was full.
            (
                with(&|it| {
                    it.sockets = sockets(|own| own.full = 2);
                    it.moved = moved("TcpExt.PruneCalled", 9);
                }),
                squeezed,
                Some(Layer::Socket),
                "PruneCalled +9",
            ),
            // A full queue alone says that the sender is faster than the reader.
            (with(&|it| it.sockets = sockets(|own| own.full = 2)), clean, None, ""),
            (
                with(&|it| it.moved = moved("TcpExt.PruneCalled", 9)),
                clean,
                None,
                "not on the collector's sockets",
            ),
            (
                with(&|it| {
                    it.sockets = None;
                    it.moved = moved("TcpExt.PruneCalled", 9);
                }),
                squeezed,
                Some(Layer::Socket),
                "does not tell",
            ),
            (
                with(&|it| {
                    it.sockets = sockets(|own| own.drops = 3);
                    it.moved = moved("TcpExt.PruneCalled", 3);
                    it.stalled_longest_ms = 500;
                }),
                squeezed,
                Some(Layer::Drain),
                "did not run for 500 ms",
            ),
            (with(&|it| it.stalled_longest_ms = 999), clean, None, ""),
            (with(&|it| it.stalled_longest_ms = 1_000), squeezed, Some(Layer::Drain), "1000 ms"),
            (
                with(&|it| {
                    it.sockets = sockets(|own| own.out_of_order = 5);
                    it.moved = moved("softnet.1.dropped", 4);
                }),
                squeezed,
                Some(Layer::Softnet),
                "dropped 4",
            ),
            (
                with(&|it| {
                    it.sockets = sockets(|own| own.out_of_order = 5);
                    it.moved = moved("interface.eth0.rx_missed_errors", 4);
                }),
                squeezed,
                Some(Layer::Nic),
                "lost 4",
            ),
            (with(&|it| it.moved = moved("softnet.1.dropped", 4)), clean, None, "not on"),
            (with(&|it| it.moved = moved("softnet.1.squeezed", 4)), clean, None, ""),
            (
                with(&|it| it.sockets = sockets(|own| own.out_of_order = 5)),
                clean,
                None,
                "on their way here",
            ),
            (with(&|it| it.broken = 2), lost, None, "look at the routers"),
            // What cannot be looked at is not quiet, unless something else says so.
            (with(&|it| it.unread = unread(&NETSTAT)), clean, None, ""),
            (with(&|it| it.sockets = None), clean, None, ""),
            (
                with(&|it| (it.sockets, it.unread) = (None, unread(&NETSTAT))),
                unknown,
                None,
                "/proc/net/netstat cannot be read",
            ),
            (
                with(&|it| {
                    it.sockets = sockets(|own| own.closed = 3);
                    it.unread = unread(&NETSTAT);
                }),
                unknown,
                None,
                "/proc/net/netstat cannot be read",
            ),
            (
                with(&|it| {
                    it.sockets = sockets(|own| own.out_of_order = 5);
                    it.unread = unread(&["/sys/class/net/eth0/statistics"]);
                }),
                unknown,
                None,
                "eth0/statistics cannot be read",
            ),
            (
                with(&|it| {
                    (it.sockets, it.moved) = (None, moved("softnet.1.dropped", 4));
                }),
                unknown,
                None,
                "does not tell of our connections",
            ),
            (
                with(&|it| {
                    (it.sockets, it.unread, it.broken) = (None, unread(&NETSTAT), 2);
                }),
                lost,
                None,
                "cannot be told",
            ),
            (
                with(&|it| {
                    (it.sockets, it.unread) = (None, unread(&NETSTAT));
                    it.blocked_longest_ms = 900;
                }),
                squeezed,
                Some(Layer::Digest),
                "900 ms",
            ),
            (with(&|it| it.refused = 2), lost, None, "refused"),
            (
                with(&|it| (it.broken, it.blocked_longest_ms) = (2, 20_000)),
                lost,
                Some(Layer::Digest),
                "2 sessions broke",
            ),
        ]
    }

    #[test]
    fn every_verdict_follows_from_its_evidence() {
        for (evidence, outcome, layer, word) in cases() {
            let verdict = judge(&evidence);
            assert_eq!((verdict.outcome, verdict.layer), (outcome, layer), "{evidence:?}");
            let said = verdict.reasons.join("; ");
            assert!(said.contains(word), "{word}: {said}");
            assert!(!word.is_empty() || said.is_empty(), "nothing is to be said: {said}");
        }
    }
}
