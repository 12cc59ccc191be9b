//! A picture for tests: a collector in a burst that hurt, with one router that nobody vouches for.

use super::picture::{News, Picture};
use crate::http::api::{NowAnswer, RouterEntry, RouterLive};
use crate::watch::{Bin, Burst, Head, Layer, Moment, Moved, Outcome, ShardShare, Verdict};

/// 2027-01-15T08:00:00Z.
pub(super) const NOW_US: i64 = 1_800_000_000_000_000;

/// A minute of moments, each with twice what the one before brought until the last.
fn moments() -> Vec<Moment> {
    let moment = |second: i64| {
        let mut moment = Moment {
            time_us: NOW_US - (59 - second) * 1_000_000,
            span_us: 1_000_000,
            ..Moment::default()
        };
        let amount = 1_u64 << (second / 3);
        moment.totals.received_bytes = 40 * amount;
        moment.gained.received_bytes = 24 * amount;
        moment.gained.mappings = 4 * amount;
        moment.gained.changes = 3 * amount;
        moment.gained.rows_committed = 3 * amount;
        moment
    };
    let mut moments: Vec<Moment> = (0..60).map(moment).collect();
    let last = moments.last_mut().expect("there are sixty");
    last.memory.budget_bytes = 1 << 30;
    last.memory.surge_bytes = 30 << 20;
    last.memory.surge_high_bytes = 31 << 20;
    last.memory.surge_held_bytes = 200 << 20;
    last.memory.surge_max_bytes = 300 << 20;
    last.memory.tables_bytes = 50 << 20;
    last.memory.tables_max_bytes = 600 << 20;
    last.memory.headroom_bytes = 100 << 20;
    last.sessions.connections = 2_001;
    last.sessions.live = 2_000;
    last.sessions.routers = 2_010;
    last.sessions.entries = 1_234_567;
    let share = |received_bytes: u64| ShardShare {
        received_bytes,
        connections: 1_000,
        ..ShardShare::default()
    };
    last.shards = vec![share(14 << 20), share(10 << 20)];
    last.kernel.tcp_pages = Some(7_000);
    last.kernel.tcp_pages_pressure = Some(287_901);
    last.kernel.moved =
        vec![moved("TcpExt.PruneCalled", 12), moved("TcpExt.TCPRcvCollapsed", 1_234)];
    moments
}

fn moved(counter: &str, by: u64) -> Moved {
    Moved { counter: counter.to_owned(), by }
}

fn bursts() -> Vec<Head> {
    let head = |ago_s: i64, outcome, layer, reason: &str| {
        let end_us = NOW_US - ago_s * 1_000_000;
        let reasons = vec![reason.to_owned()];
        Head {
            id: end_us - 2_500_000,
            start_us: end_us - 2_500_000,
            end_us,
            mappings: 1_200_000,
            peak_bytes: 3 << 20,
            peak_mappings: 20_000,
            routers: 1_999,
            surge_high_bytes: 31 << 20,
            blocked_longest_ms: 40,
            moved: vec![moved("TcpExt.PruneCalled", 12)],
            verdict: Some(Verdict { outcome, layer, reasons }),
            ..Head::default()
        }
    };
    vec![
        head(
            4,
            Outcome::Squeezed,
            Some(Layer::Socket),
            "segments were dropped on 3 of our sockets",
        ),
        head(400, Outcome::Clean, None, "nobody waited"),
    ]
}

fn routers() -> Vec<RouterEntry> {
    let router = |index: u32| {
        let live = RouterLive {
            waiting_bytes: u64::from(index) * 1_000,
            blocked_longest_ms: u64::from(index % 3) * 40,
            deferral_ms: Some(i64::from(index) * 7),
            ..RouterLive::default()
        };
        RouterEntry {
            router: format!("10.0.0.{index}"),
            status: "connected".to_owned(),
            generation: 1,
            entries: 520,
            answer: "known".to_owned(),
            live: Some(live),
            ..RouterEntry::default()
        }
    };
    let mut routers: Vec<RouterEntry> = (1..=30).map(router).collect();
    routers[4].name = "pe1".to_owned();
    let gone = &mut routers[6];
    gone.live = None;
    gone.status = "disconnected".to_owned();
    gone.answer = "unknown".to_owned();
    gone.cause = Some("timed-out".to_owned());
    gone.unknown_since = Some("2027-01-15T07:59:00.000000Z".to_owned());
    routers
}

/// Everything that is asked for, answered.
pub(super) fn picture() -> Picture {
    let mut picture = Picture::new("127.0.0.1:30311");
    let now = NowAnswer {
        at: String::new(),
        version: "0.1.0".to_owned(),
        driver: Some("uring".to_owned()),
        driver_reason: None,
        faults: Vec::new(),
        lacking: None,
        rows_missing: Vec::new(),
        moment: None,
    };
    let bins = (0..250).map(|bin| Bin { received_bytes: bin, mappings: 250 - bin, surge_bytes: 0 });
    let bursts = bursts();
    let burst =
        Burst { head: bursts[0].clone(), bin_us: 10_000, bins: bins.collect(), steps: Vec::new() };
    for news in [
        News::Moments(moments()),
        News::Now(Box::new(now)),
        News::Bursts(bursts),
        News::Burst(Box::new(burst)),
        News::Routers(routers()),
        News::Complete,
    ] {
        picture.take(news, 0);
    }
    picture
}
