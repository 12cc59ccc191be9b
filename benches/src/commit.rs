//! Commit: how long a router waits for its ack while the collector has half of its work.
//!
//! In:   the connections and frames of `end-to-end/100`, at half of the rate that was reached.
//! Out:  `commit`: 99 % of the frames are acknowledged within so many ms of when they were due.
//! Law:  nothing is left out: a late sender, the network, the digest, the 20 ms, and the disk.
//! Not:  the moments around a rotation (`rotation`).

use crate::bench::{BenchError, Run};
use crate::end_to_end::{flood, storm};
use crate::flood::Flood;

/// Mappings of a frame, and frames of each connection.
const PER_FRAME: usize = 100;
const FRAMES: usize = 50;

/// Measures.
pub(crate) fn run(run: &mut Run) -> Result<(), BenchError> {
    let settings = ["shards=2".to_owned()];
    let full = flood(run, PER_FRAME, FRAMES);
    run.note("the rate that is reached:")?;
    let reached = storm(run, &full, &settings)?.rate();
    let rate = (reached / 2.0) as usize;
    run.note(format!("at {rate} mappings/s, with acks:"))?;
    let paced = Flood { rate: rate.max(1), in_rounds: true, acks: true, ..full };
    let [median, high, longest] = storm(run, &paced, &settings)?.sent.acked_ms;
    run.note(format!("due to acked: median {median:.1}, 99 % {high:.1}, longest {longest:.1} ms"))?;
    run.figure("commit", high, 1.0, "ms from due to acknowledged, 99 % of frames")
}
