//! A recorded FRR lab: what each router sent in each phase, and the tables it showed at its end.
//!
//! In:   a folder: `PHASE/rN.fpm`, `expected.PHASE/rN.{mpls_table,ip_route}.json`, or the same
//!       with `.gz`; expected of the phase `dump` is called `expected.before`.
//! Out:  the bytes, and the expected entries as the collector should hold them.
//! Law:  what is expected comes from the router's own `show` output alone, never from its FPM
//!       bytes.
//! Not:  how either is compared (`frr`).

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::Value;
use storage::mapping::{Fec, Key, Label, LabelStack, NextHop, Nhlfe, Operation, Origin, RouterId};

use super::Entries;

/// The links of the lab, by the numbers of the routers at their ends.
const LINKS: [(u8, u8); 7] = [(1, 2), (2, 3), (1, 4), (2, 5), (3, 6), (4, 5), (5, 6)];

/// A part of a recorded session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The router connects and dumps its table.
    Dump,
    /// The link between r2 and r5 fails.
    Down,
    /// The link comes back.
    Up,
}

impl Phase {
    pub(crate) const ALL: [Phase; 3] = [Phase::Dump, Phase::Down, Phase::Up];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Dump => "dump",
            Phase::Down => "down",
            Phase::Up => "up",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Phase::Dump => "expected.before",
            Phase::Down => "expected.down",
            Phase::Up => "expected.up",
        }
    }
}

/// One folder of recordings.
pub(crate) struct Capture {
    folder: PathBuf,
}

impl Capture {
    pub(crate) fn fixture(name: &str) -> Capture {
        Capture::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/frr").join(name))
    }

    pub(crate) fn open(folder: PathBuf) -> Capture {
        Capture { folder }
    }

    pub(crate) fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// The routers that were recorded: r1 to r6, or some of them.
    pub(crate) fn routers(&self) -> Vec<Router> {
        let router = |number| Router { folder: self.folder.clone(), number };
        let recorded = |router: &Router| find(&router.file("dump", "fpm")).is_some();
        let routers: Vec<Router> = (1..=6).map(router).filter(recorded).collect();
        assert!(!routers.is_empty(), "no recording in {}", self.folder.display());
        routers
    }
}

/// One router of a recording.
pub(crate) struct Router {
    folder: PathBuf,
    number: u8,
}

impl Router {
    pub(crate) fn name(&self) -> String {
        format!("r{}", self.number)
    }

    pub(crate) fn id(&self) -> RouterId {
        RouterId(IpAddr::V4(Ipv4Addr::new(10, 255, 0, self.number)))
    }

    /// 1 to 6.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Addresses of its ends of links: of link A-B, 10.AB.0.1 at the lower number, .2 at the other.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let end = |(lower, higher): &(u8, u8)| {
            let last = match self.number {
                number if number == *lower => 1,
                number if number == *higher => 2,
                _ => return None,
            };
            Some(IpAddr::V4(Ipv4Addr::new(10, lower * 10 + higher, 0, last)))
        };
        LINKS.iter().filter_map(end).collect()
    }

    /// The bytes that the router sent in this phase: whole FPM frames.
    pub(crate) fn sent(&self, phase: Phase) -> Vec<u8> {
        read(&self.file(phase.name(), "fpm"))
    }

    /// What the router showed at the end of the phase.
    pub(crate) fn expected(&self, phase: Phase) -> Entries {
        let labels = parse(&read(&self.file(phase.expected(), "mpls_table.json")));
        let routes = parse(&read(&self.file(phase.expected(), "ip_route.json")));
        let labels = labels.as_object().unwrap().values().filter_map(ilm_entry);
        labels.chain(routes.as_object().unwrap().iter().filter_map(ftn_entry)).collect()
    }

    fn file(&self, folder: &str, suffix: &str) -> PathBuf {
        self.folder.join(folder).join(format!("r{}.{suffix}", self.number))
    }
}

type Entry = (Key, (Operation, Vec<Nhlfe>));

/// `{"inLabel":16,"nexthops":[{"outLabelStack":[3],"installed":true,"nexthop":"10.12.0.1"}]}`
fn ilm_entry(shown: &Value) -> Option<Entry> {
    let label = Label::new(number(&shown["inLabel"])).unwrap();
    let installed = |hop: &&Value| hop["installed"].as_bool() == Some(true);
    let hops = shown["nexthops"].as_array().unwrap().iter().filter(installed);
    let branches = hops.map(|hop| branch(&hop["nexthop"], labels(&hop["outLabelStack"])));
    let branches = sorted(branches.collect());
    let entry = (Key::Ilm(label, Origin::Platform), (Operation::Swap, branches));
    (!entry.1.1.is_empty()).then_some(entry)
}

/// Of `show ip route json`: the selected, installed routes with their forwarding next hops.
fn ftn_entry((prefix, routes): (&String, &Value)) -> Option<Entry> {
    let is_set = |value: &Value, name: &str| value[name].as_bool() == Some(true);
    let selected = |route: &&Value| is_set(route, "selected") && is_set(route, "installed");
    let route = routes.as_array().unwrap().iter().find(selected)?;
    let hops = route["nexthops"].as_array().unwrap().iter().filter(|hop| is_set(hop, "fib"));
    let pushed = |hop: &Value| {
        labels(&hop["labels"]).into_iter().filter(|label| *label != Label::IMPLICIT_NULL).collect()
    };
    let branches = hops.map(|hop| {
        assert_eq!(hop["ip"].is_null(), is_set(hop, "directlyConnected"), "{hop}");
        branch(&hop["ip"], pushed(hop))
    });
    let fec = Fec::Ip { prefix: prefix.parse().unwrap(), table: 0 };
    Some((Key::Ftn(fec), (Operation::Push, sorted(branches.collect()))))
}

/// A branch; all of them weigh alike in these networks.
fn branch(address: &Value, stack: LabelStack) -> Nhlfe {
    let next_hop = match address.as_str() {
        Some(address) => NextHop::Address(address.parse().unwrap()),
        None => NextHop::Fec,
    };
    Nhlfe::new(stack, next_hop)
}

fn sorted(mut branches: Vec<Nhlfe>) -> Vec<Nhlfe> {
    branches.sort();
    branches
}

fn labels(shown: &Value) -> LabelStack {
    let label = |value: &Value| Label::new(number(value)).unwrap();
    shown.as_array().map(|labels| labels.iter().map(label).collect()).unwrap_or_default()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

/// The file itself, or its compressed form.
fn find(path: &Path) -> Option<PathBuf> {
    let compressed = PathBuf::from(format!("{}.gz", path.display()));
    [path.to_owned(), compressed].into_iter().find(|path| path.exists())
}

fn read(path: &Path) -> Vec<u8> {
    let found = find(path).unwrap_or_else(|| panic!("{} is missing", path.display()));
    let bytes = std::fs::read(&found).unwrap();
    if found.extension().is_some_and(|extension| extension == "gz") {
        let mut inflated = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut inflated).unwrap();
        return inflated;
    }
    bytes
}
