//! What the log says of this host's last week: it has been through more than any check can try.
//!
//! In:   bursts of a data folder, counters of loss that moved beside them, times of routers.
//! Out:  findings: how bursts went and which layers were tight; what was lost without a burst;
//!       whose clocks are ahead.
//! Law:  nothing where no collector has written yet, or nothing came.
//! Not:  what a burst is, and who is to blame (`watch`).

use std::path::Path;

use storage::history::clocks::{RouterClock, clocks};
use storage::mapping::RouterId;
use storage::table::CLOCK_AHEAD_MAX_US;
use storage::time::{MICROS_PER_SECOND, Micros};
use tuning::doctor::{Finding, Judgement, Remedy};

use crate::query::{Answered, Loss, Past, QueryError, Range, past, router_text, span_words};
use crate::watch::{Head, Layer, Outcome, Verdict};

/// Bursts of so long are looked at: a week.
const WEEK_US: i64 = 7 * 86_400_000_000;

/// What the last week shows.
pub(super) fn of_week(data: &Path, now: Micros) -> Vec<Finding> {
    let range = Range { since: now.offset(-WEEK_US), until: now };
    let (Past { bursts, losses }, told) = match past(data, range) {
        Ok(Answered { value, warnings, .. }) => (value, warnings),
        Err(QueryError::NoFolder { .. }) => return Vec::new(),
        Err(error) => (Past::default(), vec![error.to_string()]),
    };
    let unread = (!told.is_empty()).then(|| {
        let found = format!("the log of the last week, not all of it: {}", told.join("; "));
        let mut finding = finding("past", Judgement::Unseen, found);
        finding.consequence = "bursts that hurt may be in what could not be read".to_owned();
        finding
    });
    let heads: Vec<&Head> = bursts.iter().map(|burst| &burst.head).collect();
    let clocks = clocks(data).unwrap_or_default();
    let clocks: Vec<(&RouterId, &RouterClock)> =
        clocks.iter().filter(|(_, clock)| clock.heard >= Some(range.since)).collect();
    let of_past = of_bursts(&heads).into_iter().chain(of_losses(&losses));
    of_past.chain(of_clocks(&clocks)).chain(unread).collect()
}

/// Routers whose clocks are ahead by more than is believed.
fn of_clocks(clocks: &[(&RouterId, &RouterClock)]) -> Option<Finding> {
    let bound = format!("{} s", CLOCK_AHEAD_MAX_US / MICROS_PER_SECOND);
    let mut ahead: Vec<(i64, String)> = Vec::new();
    for (router, clock) in clocks {
        if let Some(skew_us) = clock.skew_us.filter(|skew_us| *skew_us > CLOCK_AHEAD_MAX_US) {
            ahead.push((skew_us, router_text(**router, &clock.name)));
        }
    }
    ahead.sort_by_key(|(skew_us, _)| std::cmp::Reverse(*skew_us));
    if ahead.is_empty() {
        let told = clocks.iter().filter(|(_, clock)| clock.skew_us.is_some()).count();
        let found =
            format!("of {told} routers that say the time no clock is more than {bound} ahead");
        return (told > 0).then(|| finding("router-clocks", Judgement::Good, found));
    }
    let named = ahead.iter().take(CLOCKS_NAMED_MAX);
    let mut named: Vec<String> =
        named.map(|(skew_us, name)| format!("{name} {}", span_words(*skew_us))).collect();
    if ahead.len() > CLOCKS_NAMED_MAX {
        named.push(format!("and {} more", ahead.len() - CLOCKS_NAMED_MAX));
    }
    let found = format!(
        "clocks of {} routers are more than {bound} ahead, at least: {}",
        ahead.len(),
        named.join(", ")
    );
    let mut finding = finding("router-clocks", Judgement::Note, found);
    finding.wanted = format!("at most {bound} ahead of this host's clock");
    finding.consequence =
        "their times are not believed: changes count from when they were read".to_owned();
    let words = "set these clocks (NTP), or this host's if many are named; see time-keeper";
    finding.remedy = Some(Remedy::Words(words.to_owned()));
    Some(finding)
}

/// So many clocks are named.
const CLOCKS_NAMED_MAX: usize = 8;

/// Counters of loss that moved while no burst ran.
fn of_losses(losses: &[Loss]) -> Option<Finding> {
    let told = |loss: &Loss| match loss.times {
        1 => format!("{} +{} at {}", loss.counter, loss.by, loss.first),
        times => format!(
            "{} +{} in {times} steps from {} to {}",
            loss.counter, loss.by, loss.first, loss.last
        ),
    };
    let told: Vec<String> = losses.iter().map(told).collect();
    let found = format!("in a week, outside of bursts that were judged: {}", told.join("; "));
    let mut finding = (!told.is_empty()).then(|| finding("losses", Judgement::Note, found))?;
    finding.wanted = "counters that stand still".to_owned();
    finding.consequence = "routers, or others on this host, waited and sent again".to_owned();
    let mut remedies: Vec<&str> = losses.iter().map(|loss| remedy_of(&loss.counter)).collect();
    remedies.sort_unstable();
    remedies.dedup();
    finding.remedy = Some(Remedy::Words(format!("see {}", remedies.join(", "))));
    Some(finding)
}

/// The finding whose limit holds this counter still.
fn remedy_of(counter: &str) -> &'static str {
    match counter {
        "listener.drops" | "TcpExt.ListenOverflows" | "TcpExt.ListenDrops" => "listen-backlog",
        _ if counter.starts_with("softnet.") => "dropped-by-processor",
        _ if counter.starts_with("interface.") => "dropped-by-interface",
        _ => "receive-buffer and tcp-memory",
    }
}

fn of_bursts(heads: &[&Head]) -> Option<Finding> {
    let judged = |head: &&Head| Some((head.start_us, head.verdict.clone()?));
    let (told, untold): (Vec<_>, Vec<_>) = heads
        .iter()
        .filter_map(judged)
        .filter(|(_, verdict)| verdict.outcome != Outcome::Clean)
        .partition(|(_, verdict)| verdict.outcome != Outcome::Unknown);
    let hurt: Vec<(i64, Verdict)> = told;
    let Some((last_us, last)) = hurt.last() else {
        return calm(heads, untold.last().map(|(_, verdict)| (untold.len(), verdict)));
    };
    let layers = layers(&hurt);
    let counted: Vec<String> =
        layers.iter().map(|(layer, count)| format!("{} {count}", name(*layer))).collect();
    let found = format!(
        "{} of {} bursts in a week were squeezed or lost ({}), the last at {} ({}, {}): {}",
        hurt.len(),
        heads.len(),
        counted.join(", "),
        Micros(*last_us),
        last.outcome.name(),
        name(last.layer),
        last.reasons.join("; "),
    );
    let lost = hurt.iter().any(|(_, verdict)| verdict.outcome == Outcome::Lost);
    let judgement = if lost { Judgement::Bites } else { Judgement::Note };
    let mut finding = finding("bursts", judgement, found);
    finding.wanted = "bursts that are clean".to_owned();
    finding.consequence = match lost {
        true => "sessions broke: there are gaps".to_owned(),
        false => "routers waited; nothing was lost".to_owned(),
    };
    let remedies: Vec<&str> = layers.iter().map(|(layer, _)| remedy(*layer)).collect();
    finding.remedy = Some(Remedy::Words(remedies.join("; ")));
    Some(finding)
}

/// Bursts of which none is known to have hurt, and of how many of them nobody can tell.
fn calm(heads: &[&Head], untold: Option<(usize, &Verdict)>) -> Option<Finding> {
    let count = heads.len();
    if let Some((unknown, last)) = untold {
        let found = format!(
            "of {unknown} of {count} bursts in a week it cannot be told whether they hurt, the \
             others did not; of the last: {}",
            last.reasons.join("; ")
        );
        return Some(finding("bursts", Judgement::Unseen, found));
    }
    let found = format!("{count} bursts in a week, none of which hurt");
    (count > 0).then(|| finding("bursts", Judgement::Good, found))
}

/// How many bursts each layer hurt, those of the most first.
fn layers(hurt: &[(i64, Verdict)]) -> Vec<(Option<Layer>, usize)> {
    let every = Layer::ALL.into_iter().map(Some).chain([None]);
    let count = |layer| hurt.iter().filter(|(_, verdict)| verdict.layer == layer).count();
    let mut layers: Vec<_> = every.map(|layer| (layer, count(layer))).collect();
    layers.retain(|(_, count)| *count > 0);
    layers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    layers
}

fn name(layer: Option<Layer>) -> &'static str {
    layer.map_or("no layer of this host", Layer::name)
}

fn finding(name: &'static str, judgement: Judgement, found: String) -> Finding {
    Finding {
        name,
        judgement,
        found,
        wanted: String::new(),
        consequence: String::new(),
        routers_max: None,
        remedy: None,
    }
}

/// What mends a layer, in words: the other findings have the commands.
fn remedy(layer: Option<Layer>) -> &'static str {
    match layer {
        Some(Layer::Nic) => "larger receive rings: ethtool -G, and see dropped-by-interface",
        Some(Layer::Softnet) => "spread receiving over processors, and see dropped-by-processor",
        Some(Layer::Socket) => "see listen-backlog, receive-buffer and tcp-memory",
        Some(Layer::Drain) => "give the collector its processors: no quota, no neighbours, no swap",
        Some(Layer::Digest) => "a larger --memory, more shards, or fewer routers on this host",
        Some(Layer::Disk) => "a faster disk, or one of its own, and see disk-flush",
        None => "look at the routers and at the way: stormdrain bursts names the worst",
    }
}

#[cfg(test)]
mod tests {
    use storage::log::layout::KERNEL_SHARD;
    use storage::log::{kernel_block, log_path};
    use storage::row::KernelRow;

    use super::*;
    use crate::query::sample;

    const SECOND_US: i64 = 1_000_000;
    const NOW: Micros = Micros(1_750_000_000 * SECOND_US);

    /// Findings of a data folder with these kernel rows, so many seconds ago.
    fn findings(rows: &[(i64, &str, u64)]) -> Vec<Finding> {
        let data = tempfile::tempdir().unwrap();
        for (ago, counter, value) in rows {
            let time = NOW.offset(-ago * SECOND_US);
            let row = KernelRow { time, counter: (*counter).into(), value: *value };
            let path = log_path(data.path(), time.hour(), KERNEL_SHARD);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = std::fs::read(&path).unwrap_or_default();
            bytes.extend(kernel_block(&[row]));
            std::fs::write(path, bytes).unwrap();
        }
        of_week(data.path(), NOW)
    }

    #[test]
    fn routers_whose_clocks_are_ahead_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = sample::write_model(folder.path());
        let of = |now| {
            let found = of_week(folder.path(), now);
            found.into_iter().find(|finding| finding.name == "router-clocks")
        };
        let ahead = of(sample::NOW).unwrap();
        let found = "clocks of 2 routers are more than 60 s ahead, at least: pe5 +30m, p6 +10m";
        assert_eq!((ahead.judgement, ahead.found.as_str()), (Judgement::Note, found));
        // Who was not heard in a week is not looked at.
        assert_eq!(of(sample::NOW.offset(2 * WEEK_US)), None);
        let folder = tempfile::tempdir().unwrap();
        let _lock = sample::write(folder.path());
        let found = of_week(folder.path(), sample::NOW);
        let clocks = found.iter().find(|finding| finding.name == "router-clocks").unwrap();
        assert_eq!(clocks.judgement, Judgement::Good);
        assert!(clocks.found.contains("of 4 routers"), "{}", clocks.found);
    }

    #[test]
    fn nothing_is_said_where_nothing_came() {
        assert_eq!(findings(&[]), []);
        assert_eq!(findings(&[(9, "stall.io.some_us", 5), (8, "interface.a.rx_dropped", 2)]), []);
        assert_eq!(of_week(Path::new("/nonexistent"), NOW), []);
    }

    #[test]
    fn a_week_that_cannot_be_told_is_not_a_good_one() {
        let rows = [
            (400, "burst.begin", 0),
            (390, "burst.because the kernel hides it", 0),
            (390, "burst.unknown", 0),
            (390, "burst.end", 10_000_000),
            (300, "burst.begin", 0),
            (290, "burst.clean", 0),
            (290, "burst.end", 10_000_000),
        ];
        let [finding] = findings(&rows).try_into().unwrap();
        assert_eq!(finding.judgement, Judgement::Unseen);
        assert!(finding.found.starts_with("of 1 of 2 bursts"), "{finding:?}");
        assert!(finding.found.ends_with("the kernel hides it"), "{finding:?}");
        // A log that cannot be read is told.
        let data = tempfile::tempdir().unwrap();
        let path = log_path(data.path(), NOW.hour(), KERNEL_SHARD);
        std::fs::create_dir_all(path).unwrap();
        let [finding] = of_week(data.path(), NOW).try_into().unwrap();
        assert_eq!((finding.name, finding.judgement), ("past", Judgement::Unseen));
    }

    #[test]
    fn what_was_lost_outside_of_bursts_is_found_with_its_times() {
        let second = SECOND_US.unsigned_abs();
        let week = WEEK_US / SECOND_US;
        let found = findings(&[
            // Before the week, and in a burst that was judged and began before it.
            (week + 9, "TcpExt.ListenDrops", 90),
            (week + 5, "burst.begin", 0),
            (week - 1, "TcpExt.ListenDrops", 900),
            (week - 2, "burst.clean", 0),
            (week - 2, "burst.end", 7 * second),
            (90, "TcpExt.PruneCalled", 2),
            (60, "TcpExt.PruneCalled", 3),
            (50, "burst.begin", 0),
            (45, "TcpExt.PruneCalled", 100),
            (40, "burst.clean", 0),
            (40, "burst.end", 10 * second),
            (30, "softnet.1.dropped", 7),
            // Nobody judged this one.
            (20, "burst.begin", 0),
            (10, "listener.drops", 1),
        ]);
        let [bursts, losses] = found.as_slice() else { panic!("{found:#?}") };
        assert_eq!((bursts.name, bursts.judgement), ("bursts", Judgement::Good));
        assert_eq!((losses.name, losses.judgement), ("losses", Judgement::Note));
        let at = |ago: i64| NOW.offset(-ago * SECOND_US);
        let expected = format!(
            "in a week, outside of bursts that were judged: TcpExt.PruneCalled +5 in 2 steps from \
             {} to {}; listener.drops +1 at {}; softnet.1.dropped +7 at {}",
            at(90),
            at(60),
            at(10),
            at(30)
        );
        assert_eq!(losses.found, expected);
        let words = losses.remedy.as_ref().unwrap().words();
        assert_eq!(
            words,
            "see dropped-by-processor, listen-backlog, receive-buffer and tcp-memory"
        );
    }

    #[test]
    fn bursts_that_hurt_are_counted_by_layer_and_the_last_is_told() {
        let second = SECOND_US.unsigned_abs();
        let mut rows = Vec::new();
        let verdicts =
            ["burst.squeezed.disk", "burst.clean", "burst.squeezed.drain", "burst.squeezed.disk"];
        for (ago, verdict) in [400, 300, 200, 100].into_iter().zip(verdicts) {
            rows.push((ago, "burst.begin", 0));
            rows.push((ago - 10, "burst.because it was so", 0));
            rows.push((ago - 10, verdict, 0));
            rows.push((ago - 10, "burst.end", 10 * second));
        }
        let judged = |rows: &[(i64, &str, u64)]| {
            let [finding] = findings(rows).try_into().unwrap();
            finding
        };
        let finding = judged(&rows);
        let expected = format!(
            "3 of 4 bursts in a week were squeezed or lost (disk 2, drain 1), the last at {} \
             (squeezed, disk): it was so",
            NOW.offset(-100 * SECOND_US)
        );
        assert_eq!((finding.judgement, finding.found), (Judgement::Note, expected));
        let words = finding.remedy.as_ref().unwrap().words();
        assert!(words.starts_with("a faster disk") && words.contains("no quota"), "{words}");
        assert_eq!(judged(&rows[4..8]).judgement, Judgement::Good);
        rows[2].1 = "burst.lost.disk";
        assert_eq!(judged(&rows).judgement, Judgement::Bites);
    }
}
