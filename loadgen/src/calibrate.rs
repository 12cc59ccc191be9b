//! Calibration: what a frame, a mapping and an entry cost on this host.
//!
//! In:   a folder on the file system that the collector will use.
//! Out:  `Costs` for `tuning::plan`, and whether they may be believed.
//! Law:  processor time of the collector's own process is measured, not elapsed time; it ends
//!       within `TIME_MAX`.
//! Not:  how large a host has to be (`tuning::plan`).

use std::path::Path;
use std::time::Duration;

use engine::metrics::Metric;
use tuning::host::{Watch, cpu_of_threads};
use tuning::plan::Costs;

use crate::clock::{Clock, instant};
use crate::crew::CrewError;
use crate::crew::choir::{Choir, Crowd, Order};
use crate::crew::host::{Counts, Host};
use crate::honesty::Honesty;
use crate::volley::Outcome;

/// The whole takes no longer.
pub const TIME_MAX: Duration = Duration::from_secs(60);
/// Routers, each with a table of `ENTRIES`.
const ROUTERS: usize = 400;
const ENTRIES: usize = 1_000;
const FACES: usize = 40;
/// The two sizes of frames that tell the cost of a frame from that of a mapping.
const FRAME_MAPPINGS: [usize; 2] = [100, 5];
/// Frames of each size that are sent: 1,600,000 and 200,000 mappings.
const FRAMES: [usize; 2] = [16_000, 40_000];
/// The longest that one order takes: four of them, and encoding, stay within `TIME_MAX`.
const ORDER_LIMIT: Duration = Duration::from_secs(12);
/// Resident bytes of tables over what they count themselves: bench `table`, 47.8 / 47.1.
const RESIDENT: f64 = 1.02;
/// From an order to its first shot.
const LEAD_US: i64 = 100_000;

/// What was found out.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// What things cost; those that cannot be measured so are the usual ones.
    pub costs: Costs,
    /// Whether that may be believed.
    pub honesty: Honesty,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// Measures. `share` makes everything smaller, for trials: 1 = the whole. `watch` is called with
/// the number of the step (of `STEPS`) that begins.
///
/// Errors: `CrewError`.
pub fn calibrate(
    data: &Path,
    share: f64,
    watch: &mut dyn FnMut(u64),
) -> Result<Calibration, CrewError> {
    let began = instant();
    let settings = [("shards", "1".to_owned())];
    let mut host = Host::start(data, &settings, &[])?;
    let disturbed = Watch::start(&[host.id()]);
    watch(0);
    let mut choir = Choir::start(&crowd(&host, 0, FRAME_MAPPINGS[0], share))?;
    perform(&mut host, &mut choir, tables())?;
    watch(1);
    let many = perform(&mut host, &mut choir, changes(FRAMES[0], share))?;
    watch(2);
    let second = (ROUTERS as f64 * share).ceil() as usize;
    let mut small = Choir::start(&crowd(&host, second, FRAME_MAPPINGS[1], share))?;
    perform(&mut host, &mut small, tables())?;
    let few = perform(&mut host, &mut small, changes(FRAMES[1], share))?;
    watch(3);
    // The same routers with the same tables: their sessions are new, their entries are not.
    let mut again = Choir::start(&crowd(&host, 0, FRAME_MAPPINGS[0], share))?;
    drop(choir);
    let confirmed = perform(&mut host, &mut again, tables())?;
    let others = [host.id(), small.id(), again.id()];
    let disturbance = disturbed.end(&others);
    let counts = host.counts()?;
    host.stop()?;
    let mut costs = costs(&many, &few, &confirmed);
    let entries = counts.total(Metric::TableEntries).max(1) as f64;
    costs.entry_bytes = counts.total(Metric::TableBytes) as f64 / entries * RESIDENT;
    // How late the senders were changes no processor time of the collector.
    let honesty = Honesty::new(0.0, disturbance);
    Ok(Calibration { costs, honesty, seconds: began.elapsed().as_secs_f64() })
}

/// How many steps `watch` is told of.
pub const STEPS: u64 = 4;

/// What one order cost the collector.
struct Cost {
    outcome: Outcome,
    cpu_ns: f64,
    log_bytes: f64,
    rows: f64,
}

impl Cost {
    fn mapping_ns(&self) -> f64 {
        self.cpu_ns / self.outcome.mappings.max(1) as f64
    }
}

fn costs(many: &Cost, few: &Cost, confirmed: &Cost) -> Costs {
    // Per mapping: change + frame / mappings of a frame, for both sizes.
    let [large, small] = FRAME_MAPPINGS.map(|mappings| 1.0 / mappings as f64);
    let frame_ns = ((few.mapping_ns() - many.mapping_ns()) / (small - large)).max(0.0);
    let change_ns = (many.mapping_ns() - frame_ns * large).max(1.0);
    Costs {
        frame_ns,
        change_ns,
        confirm_ns: confirmed.mapping_ns(),
        wire_bytes: many.outcome.bytes as f64 / many.outcome.mappings.max(1) as f64,
        row_bytes: many.log_bytes / many.rows.max(1.0),
        ..Costs::default()
    }
}

fn crowd(host: &Host, first: usize, frame_mappings: usize, share: f64) -> Crowd {
    let routers = (ROUTERS as f64 * share).ceil() as usize;
    Crowd {
        target: host.address,
        first,
        routers,
        faces: FACES.min(routers),
        entries: ENTRIES,
        frame_mappings,
        rounds: ENTRIES / frame_mappings,
        acks: true,
        give_up: ORDER_LIMIT,
        cpus: vec![],
    }
}

fn tables() -> Order {
    let (at_us, spread) = (soon(), Duration::from_millis(500));
    Order::Tables { at_us, spread, limit: ORDER_LIMIT }
}

fn changes(frames: usize, share: f64) -> Order {
    let frames = (frames as f64 * share).ceil() as usize;
    Order::Changes { frames, at_us: soon(), spread: Duration::ZERO, limit: ORDER_LIMIT }
}

fn soon() -> i64 {
    Clock::start().now().offset(LEAD_US).0
}

fn perform(host: &mut Host, choir: &mut Choir, order: Order) -> Result<Cost, CrewError> {
    let before: Counts = host.counts()?;
    let cpu = cpu_of_threads(host.id());
    choir.tell(&order)?;
    let outcome = choir.outcome()?;
    let cpu_ns = cpu_of_threads(host.id()).saturating_sub(cpu).as_nanos() as f64;
    let after = host.counts()?;
    if outcome.frames_acked < outcome.frames || outcome.frames == 0 {
        let (acked, frames) = (outcome.frames_acked, outcome.frames);
        let told = format!("{acked} of {frames} frames were durable within {ORDER_LIMIT:?}");
        return Err(CrewError::Member { role: "choir", told });
    }
    Ok(Cost {
        cpu_ns,
        log_bytes: after.since(&before, Metric::LogWrittenBytes) as f64,
        rows: after.since(&before, Metric::Changes) as f64,
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(mappings: u64, cpu_ns: f64) -> Cost {
        let mut outcome = Outcome::default();
        (outcome.mappings, outcome.bytes) = (mappings, mappings * 25);
        Cost { outcome, cpu_ns, log_bytes: mappings as f64 * 14.0, rows: mappings as f64 }
    }

    /// 500 ns per change and 5,000 per frame: 550 per mapping at 100, 1,500 at 5.
    #[test]
    fn two_sizes_of_frames_tell_a_frame_from_a_mapping() {
        let costs = costs(&cost(1_000, 550e3), &cost(100, 150e3), &cost(10, 3e3));
        assert!((costs.frame_ns - 5_000.0).abs() < 1e-6, "{costs:?}");
        assert!((costs.change_ns - 500.0).abs() < 1e-6, "{costs:?}");
        assert_eq!((costs.confirm_ns, costs.wire_bytes, costs.row_bytes), (300.0, 25.0, 14.0));
    }

    #[test]
    fn noise_makes_no_cost_negative() {
        let costs = costs(&cost(1_000, 550e3), &cost(100, 10e3), &cost(10, 3e3));
        assert!(costs.frame_ns == 0.0 && costs.change_ns > 0.0, "{costs:?}");
    }
}
