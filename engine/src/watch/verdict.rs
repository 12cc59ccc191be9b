//! The verdict on a burst: did it hurt, and which layer was it?
//!
//! In:   evidence that the collector and the kernel left while the burst ran.
//! Out:  `Verdict`: clean, squeezed or lost; the layer; and why, in words.
//! Law:  the collector's own sockets decide; counters of the whole host are told as such.
//! Not:  gathering the evidence (`thread`, `connections`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a burst went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nobody waited, nothing was sent twice.
    Clean,
    /// Routers waited or had to send again; everything arrived.
    Squeezed,
    /// Sessions broke or mappings were refused: there are gaps.
    Lost,
}

impl Outcome {
    /// Every outcome, the worst last.
    pub const ALL: [Outcome; 3] = [Outcome::Clean, Outcome::Squeezed, Outcome::Lost];

    /// The word of every output.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Clean => "clean",
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
