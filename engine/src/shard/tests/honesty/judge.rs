//! Compares what the collector answers with what is true.
//!
//! In:   a network of the collector's rows, the true tables, and chance to choose questions by.
//! Out:  how many answers are known and unknown, by kind of question; or the first that is wrong.
//! Law:  an answer that is known has to be exact: entry by entry, way by way.
//! Not:  what is true (`past`, `oracle`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ipnet::IpNet;
use rand::RngExt;
use storage::history::network::{Network, RouterAsOf};
use storage::history::walk::{Broken, Follow, Path, Start, Verdict, trace};
use storage::mapping::{Fec, Key, Label, Mapping, Name, NameKind};
use storage::row::{Row, SessionEvent};
use storage::time::Micros;

use super::oracle::{self, Ending, Entrance, Way};
use super::past::Event;
use super::truth::{Payload, Router, Table, VrfWords, prefix};
use super::world::{World, absent_keys};

/// Known and unknown answers, by kind of question.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) kinds: BTreeMap<&'static str, [u64; 2]>,
}

impl Tally {
    fn count(&mut self, kind: &'static str, is_unknown: bool) {
        self.kinds.entry(kind).or_default()[usize::from(is_unknown)] += 1;
    }

    pub(super) fn add(&mut self, other: &Tally) {
        for (kind, counts) in &other.kinds {
            let sums = self.kinds.entry(kind).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// Unknown answers of all of them.
    pub(super) fn unknown_share(&self) -> f64 {
        let sum = |which: usize| self.kinds.values().map(|counts| counts[which]).sum::<u64>();
        let (known, unknown) = (sum(0), sum(1));
        unknown as f64 / (known + unknown).max(1) as f64
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (kind, [known, unknown]) in &self.kinds {
            let share = 100.0 * *unknown as f64 / (known + unknown).max(1) as f64;
            writeln!(f, "  {kind:<16} {known:>10} known {unknown:>10} unknown {share:5.1} %")?;
        }
        Ok(())
    }
}

/// One question about the way of a packet.
#[derive(Clone, Debug)]
struct Question {
    kind: &'static str,
    head: Router,
    start: Start,
    entrance: Entrance,
    payload: Payload,
}

/// Questions of one network at one instant.
const WALKS: usize = 14;

/// Compares the network at an instant, as known at `asked`.
pub(super) fn judge(
    world: &mut World,
    network: &Network,
    at: Micros,
    asked: Micros,
    tally: &mut Tally,
) -> Result<(), String> {
    let tables = world.tables(at, asked);
    check_tables(world, network, at, &tables, tally)?;
    let routers = 0..world.truth.ids.len();
    if routers.into_iter().any(|router| !world.vague(router, at).is_empty()) {
        return Ok(());
    }
    for _ in 0..WALKS {
        if let Some(question) = choose(world, &tables) {
            check_way(world, network, &tables, &question, tally)?;
        }
    }
    Ok(())
}

fn same(one: &Mapping, other: &Mapping) -> bool {
    let timeless = |mapping: &Mapping| Mapping {
        event_time: Micros(0),
        time_source: storage::mapping::TimeSource::Router,
        ..mapping.clone()
    };
    timeless(one) == timeless(other)
}

fn check_tables(
    world: &World,
    network: &Network,
    at: Micros,
    tables: &[Table],
    tally: &mut Tally,
) -> Result<(), String> {
    for (router, table) in tables.iter().enumerate() {
        let id = world.truth.ids[router];
        let mut keys: BTreeSet<Key> = table.keys().copied().chain(absent_keys()).collect();
        keys.extend(world.speakers[router].past.events.keys());
        let as_of = network.router(id);
        if let Some(as_of) = as_of {
            keys.extend(as_of.state.table.iter().map(|entry| entry.key()));
        }
        let vague = world.vague(router, at);
        for key in keys.into_iter().filter(|key| !vague.contains(key)) {
            let expected = table.get(&key).map(|entry| &entry.mapping);
            let kind = if expected.is_some() { "entry" } else { "absent entry" };
            let Some(found) = as_of.and_then(|as_of| known(as_of, &key)) else {
                tally.count(kind, true);
                continue;
            };
            tally.count(kind, false);
            let is_right = match (&found, expected) {
                (Some(found), Some(expected)) => same(found, expected),
                (None, None) => true,
                _ => false,
            };
            if !is_right {
                return Err(format!(
                    "table of {id}, {key}\n  expected {}\n  found    {}\n{}",
                    told(expected),
                    told(found.as_ref()),
                    story(world, router, &key)
                ));
            }
        }
    }
    Ok(())
}

/// What happened to an entry, and what the log says of it and of its router.
fn story(world: &World, router: Router, key: &Key) -> String {
    let mut text = String::new();
    for event in world.speakers[router].past.events.get(key).into_iter().flatten() {
        let Event { happened, entry, told: read, lost, .. } = event;
        let entry = told(entry.as_ref().map(|entry| &entry.mapping));
        let times = |pair: &Option<(Micros, Micros)>| {
            pair.map_or("never".to_owned(), |(one, other)| format!("{one}/{other}"))
        };
        let (read, lost) = (times(read), times(lost));
        writeln!(text, "  happened {happened} read/filed {read} lost/noticed {lost}: {entry}")
            .expect("a string takes every text");
    }
    let mut rows: Vec<_> = world.rows();
    rows.retain(|row| row.router() == Some(world.truth.ids[router]));
    rows.sort_by_key(|row| row.place());
    for row in rows {
        match row {
            Row::Change(change) if change.mapping.key() == *key => {
                let stamp = change.stamp;
                let (kind, effective) = (stamp.kind.name(), stamp.effective_time);
                let (collected, mapping) = (stamp.collection_time, told(Some(&change.mapping)));
                writeln!(text, "  row {kind} effective {effective} read {collected}: {mapping}")
            }
            Row::Session(row) => match row.event {
                SessionEvent::Initiation { mode, .. } => {
                    writeln!(text, "  row {} initiation {mode:?}", row.time)
                }
                event => writeln!(text, "  row {} {event:?}", row.time),
            },
            _ => Ok(()),
        }
        .expect("a string takes every text");
    }
    text
}

fn told(mapping: Option<&Mapping>) -> String {
    mapping.map_or("no entry".to_owned(), |mapping| {
        let branches: Vec<String> = mapping.branches.iter().map(|it| it.to_string()).collect();
        format!("{} {} {}", mapping.operation, mapping.fec, branches.join(", "))
    })
}

/// What the collector vouches for; `None` = it does not.
fn known(as_of: &RouterAsOf, key: &Key) -> Option<Option<Mapping>> {
    as_of.standing_of(key).unknown().is_none().then(|| {
        let entry = as_of.state.table.get(key);
        entry.map(|entry| entry.mapping())
    })
}

fn choose(world: &mut World, tables: &[Table]) -> Option<Question> {
    let routers = world.truth.ids.len();
    let head = world.chance.random_range(0..routers);
    let to = world.chance.random_range(0..routers);
    let unlabelled = |kind, fec, payload| {
        let (start, entrance) = (Start::Fec(fec), Entrance::Unlabelled);
        Some(Question { kind, head, start, entrance, payload })
    };
    match world.chance.random_range(0..10) {
        0..2 => {
            let to = IpNet::from(world.truth.ids[to].0);
            unlabelled(
                "to a router",
                Fec::Ip { prefix: to, table: 0 },
                Payload::Ip { to, from: None },
            )
        }
        2..4 => {
            let last = world.chance.random_range(0..11);
            let third = [0, 1, 7, 9][world.chance.random_range(0..4)];
            let text = format!("10.{}.{third}.{last}/32", 100 + to);
            let whole = format!("10.{}.0.0/16", 100 + to);
            let pool = [text.clone(), text, whole, "172.16.0.5/32".into(), "10.200.1.2/32".into()];
            let to = prefix(&pool[world.chance.random_range(0..pool.len())]);
            if oracle::is_split(tables, to) {
                return None;
            }
            let from = world.chance.random_bool(0.2).then(|| prefix("198.51.100.9/32"));
            let fec = match from {
                Some(_) => Fec::IpFrom { prefix: to, table: 0, source: from, tos: 0 },
                None => Fec::Ip { prefix: to, table: 0 },
            };
            unlabelled("to a prefix", fec, Payload::Ip { to, from })
        }
        4..7 => choose_vrf(world, tables, head),
        7 => {
            let tree = u32::from(world.chance.random_bool(0.1));
            let name = Name::new(&format!("tree-{tree}"))?;
            let root = world.truth.trees.first().map_or(head, |tree| tree.1);
            let fec = Fec::Named { kind: NameKind::Mldp, name };
            let (start, entrance) = (Start::Fec(fec), Entrance::Unlabelled);
            let payload = Payload::Lsp(tree);
            Some(Question { kind: "down a tree", head: root, start, entrance, payload })
        }
        _ => choose_label(world, tables, head),
    }
}

fn choose_vrf(world: &mut World, tables: &[Table], head: Router) -> Option<Question> {
    let vrfs = world.truth.vrfs.len();
    let vrf = world.chance.random_range(0..vrfs.max(1));
    let words = world.truth.habits[head].vrf_words;
    world.truth.vrfs.get(vrf)?;
    world.truth.site(vrf, head)?;
    let sites: Vec<Router> = world.truth.vrfs[vrf].sites.iter().map(|site| site.router).collect();
    let egress = sites[world.chance.random_range(0..sites.len())];
    let pool = ["10.1.2.5/32", "10.1.9.9/32", "10.2.0.1/32", "10.3.3.3/32", "10.1.2.0/24"];
    let to = prefix(pool[world.chance.random_range(0..pool.len())]);
    if oracle::is_split(tables, to) {
        return None;
    }
    let fec = world.truth.vrf_fec(head, vrf, egress, Some(to));
    let site = (words == VrfWords::Distinguisher).then_some(egress);
    let payload = Payload::Vpn { vrf, to: Some(to), site };
    let (start, entrance) = (Start::Fec(fec), Entrance::Unlabelled);
    let kind = match words {
        VrfWords::Distinguisher => "in a VRF",
        VrfWords::Name => "in a VRF by name",
        VrfWords::Table => "in a VRF by table",
    };
    Some(Question { kind, head, start, entrance, payload })
}

fn choose_label(world: &mut World, tables: &[Table], head: Router) -> Option<Question> {
    let value = world.some_label(head);
    let table = [0, 0, 0, 7][world.chance.random_range(0..4)];
    let label = Label::new(value)?;
    let entrance = Entrance::Label { label: value, table };
    let payload = oracle::inside(tables, head, value, table);
    let start = Start::Label { label, table };
    Some(Question { kind: "by label", head, start, entrance, payload })
}

fn check_way(
    world: &World,
    network: &Network,
    tables: &[Table],
    question: &Question,
    tally: &mut Tally,
) -> Result<(), String> {
    let Question { kind, head, start, entrance, payload } = question;
    let Some(ways) = oracle::follow(&world.truth, tables, *head, *entrance, *payload) else {
        return Ok(());
    };
    let walk = trace(network, world.truth.ids[*head], *start, Follow::Primaries);
    let (paths, is_all) = walk.paths(2 * oracle::WAYS_MAX);
    if !is_all {
        return Ok(());
    }
    let found: Vec<Found> = paths.iter().map(|path| Found::of(world, path)).collect();
    let loops = ways.iter().any(|way| matches!(way.ending, Ending::Loop(_)));
    let wrong = found.iter().find(|found| match loops {
        true => !found.is_right_of_loops(&ways),
        false => !found.is_right(&ways),
    });
    let missed = ways.iter().find(|way| !found.iter().any(|found| found.covers(way)));
    if wrong.is_some() || missed.is_some() && !loops {
        let mut text = format!("{start} from {}", world.truth.ids[*head]);
        let fault = wrong.map_or("a way is missing", |_| "a way is wrong");
        writeln!(text, ": {fault}").expect("a string takes every text");
        for way in &ways {
            writeln!(text, "  expected {}", describe(world, way)).expect("a string takes all");
        }
        for path in &paths {
            writeln!(text, "  found    {}", path_text(path)).expect("a string takes all");
        }
        for step in &walk.steps {
            let met = step.met.as_ref();
            let met = met.map(|met| format!("{}: {}", met.key, told(Some(&met.mapping))));
            writeln!(text, "  at {}: {}", step.router, met.unwrap_or_default())
                .expect("a string takes all");
        }
        return Err(text);
    }
    // What nobody can know, or what was not asked for exactly, says nothing of the collector.
    let is_open = |way: &Way| matches!(way.ending, Ending::Beyond(_));
    if !ways.iter().any(is_open) {
        tally.count(kind, found.iter().any(|found| found.is_unknown()));
    }
    Ok(())
}

/// A way as the collector says it.
struct Found {
    hops: Vec<(Option<Router>, Vec<u32>)>,
    here: Option<Router>,
    verdict: Verdict,
    /// The router behind an unlabelled way.
    delivered: Option<Router>,
}

impl Found {
    fn of(world: &World, path: &Path) -> Found {
        let place = |id| world.truth.ids.iter().position(|known| *known == id);
        let labels = |hop: &storage::history::walk::Hop| {
            hop.stack.iter().map(|label| label.value()).collect()
        };
        let hops = path.hops.iter().map(|hop| (place(hop.router), labels(hop))).collect();
        let here = place(path.verdict.here());
        let delivered = match path.verdict {
            Verdict::Unlabelled { delivered, .. } => delivered.and_then(place),
            _ => None,
        };
        Found { hops, here, verdict: path.verdict, delivered }
    }

    fn is_unknown(&self) -> bool {
        matches!(self.verdict, Verdict::Unknown { .. })
    }

    fn is_loop(&self) -> bool {
        matches!(self.verdict, Verdict::Broken { why: Broken::Loop, .. })
    }

    /// Whether the way of the packet begins with these hops; of the last, only the router counts.
    fn begins(&self, way: &Way) -> bool {
        let Some((last, first)) = self.hops.split_last() else { return false };
        let same = first
            .iter()
            .zip(&way.hops)
            .all(|(found, hop)| found.0 == Some(hop.0) && found.1 == hop.1);
        same && way.hops.get(first.len()).is_some_and(|hop| last.0 == Some(hop.0))
    }

    fn is(&self, way: &Way) -> bool {
        let same_hops = self.hops.len() == way.hops.len()
            && self
                .hops
                .iter()
                .zip(&way.hops)
                .all(|(found, hop)| found.0 == Some(hop.0) && found.1 == hop.1);
        same_hops && self.means(way.ending)
    }

    fn means(&self, ending: Ending) -> bool {
        let here = self.here;
        match (self.verdict, ending) {
            (Verdict::Delivered { .. }, Ending::Delivered(at))
            | (Verdict::Misdelivered { .. }, Ending::Misdelivered(at))
            | (Verdict::Discarded { .. }, Ending::Discarded(at)) => here == Some(at),
            (Verdict::Broken { why, .. }, Ending::Lost(at)) => {
                here == Some(at) && matches!(why, Broken::NoEntry | Broken::Withdrawn(_))
            }
            (Verdict::Broken { why: Broken::Untagged, .. }, Ending::Untagged(at)) => {
                here == Some(at)
            }
            (Verdict::Unlabelled { .. }, Ending::Unlabelled { here: at, delivered }) => {
                here == Some(at) && self.delivered == delivered
            }
            // What comes out of MPLS where it should not is lost there, or goes on as IP: which of
            // the two, labels do not say.
            (
                Verdict::Misdelivered { .. },
                Ending::Unlabelled { here: at, delivered: None } | Ending::Lost(at),
            ) => here == Some(at),
            _ => false,
        }
    }

    /// Whether the collector may say this.
    fn is_right(&self, ways: &[Way]) -> bool {
        self.is_unknown() || ways.iter().any(|way| self.is(way))
    }

    /// The same of a packet that may come back: how often it goes round before it leaves the loop
    /// is nobody's word, so only the ends are compared.
    fn is_right_of_loops(&self, ways: &[Way]) -> bool {
        self.is_unknown() || self.is_loop() || ways.iter().any(|way| self.means(way.ending))
    }

    /// Whether the collector has said this of the way, or said that it cannot say.
    fn covers(&self, way: &Way) -> bool {
        match self.is_unknown() {
            true => self.begins(way),
            false => self.is(way),
        }
    }
}

fn describe(world: &World, way: &Way) -> String {
    let mut text = String::new();
    for (router, labels) in &way.hops {
        write!(text, "{}{labels:?} ", world.truth.ids[*router]).expect("a string takes all");
    }
    let id = |router: Router| world.truth.ids[router].to_string();
    text + &match way.ending {
        Ending::Delivered(at) => format!("delivered at {}", id(at)),
        Ending::Misdelivered(at) => format!("misdelivered at {}", id(at)),
        Ending::Unlabelled { here, delivered } => {
            format!("unlabelled at {} {:?}", id(here), delivered.map(id))
        }
        Ending::Lost(at) => format!("lost at {}", id(at)),
        Ending::Discarded(at) => format!("discarded at {}", id(at)),
        Ending::Untagged(at) => format!("untagged at {}", id(at)),
        Ending::Loop(at) => format!("loops at {}", id(at)),
        Ending::Beyond(at) => format!("beyond {}", id(at)),
    }
}

fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for hop in &path.hops {
        let labels: Vec<u32> = hop.stack.iter().map(|label| label.value()).collect();
        write!(text, "{}{labels:?} ", hop.router).expect("a string takes all");
    }
    text + &path.verdict.to_string()
}
