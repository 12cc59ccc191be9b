//! What the log says of this host's last week: it has been through more than any check can try.
//!
//! In:   bursts of a data folder.
//! Out:  findings: how bursts went, and which layers were tight.
//! Law:  nothing where no collector has written yet, or nothing came.
//! Not:  what a burst is, and who is to blame (`watch`).

use std::path::Path;

use storage::time::Micros;
use tuning::doctor::{Finding, Judgement, Remedy};

use crate::query::{Range, bursts};
use crate::watch::{Head, Layer, Outcome, Verdict};

/// Bursts of so long are looked at: a week.
const WEEK_US: i64 = 7 * 86_400_000_000;

/// What the last week shows.
pub(super) fn of_week(data: &Path, now: Micros) -> Vec<Finding> {
    let range = Range { since: now.offset(-WEEK_US), until: now };
    let Ok(answered) = bursts(data, range) else { return Vec::new() };
    let heads: Vec<&Head> = answered.value.iter().map(|burst| &burst.head).collect();
    of_bursts(&heads).into_iter().collect()
}

fn of_bursts(heads: &[&Head]) -> Option<Finding> {
    let judged = |head: &&Head| Some((head.start_us, head.verdict.clone()?));
    let hurt: Vec<(i64, Verdict)> = heads
        .iter()
        .filter_map(judged)
        .filter(|(_, verdict)| verdict.outcome != Outcome::Clean)
        .collect();
    let Some((last_us, last)) = hurt.last() else {
        let found = format!("{} bursts in a week, none of which hurt", heads.len());
        return (!heads.is_empty()).then(|| finding("bursts", Judgement::Good, found));
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
