//! A recorded FRR lab: what each router sent in each phase, and the tables it showed at its end.
//!
//! In:   a folder: `PHASE/rN.fpm`, `expected.PHASE/rN.mpls_table.json` and `rN.ip_route*.json` (one
//!       or several: the main table, VRFs), or the same with `.gz`; expected of the phase `dump` is
//!       called `expected.before`.
//! Out:  the bytes, and the expected entries as the collector should hold them.
//! Law:  what is expected comes from the router's own `show` output alone, never from its FPM
//!       bytes.
//! Not:  how either is compared (`frr`).

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::Value;
use storage::mapping::RouterId;

use super::{Entries, shown};

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
        shown::entries(&self.shown(phase, "mpls_table"), &self.shown(phase, "ip_route"))
    }

    /// Every JSON value of the files `rN.WHAT*.json` of a phase.
    fn shown(&self, phase: Phase, what: &str) -> Vec<Value> {
        let begin = format!("r{}.{what}", self.number);
        let is_meant = |name: &str| {
            let rest = name.strip_prefix(&begin).unwrap_or_default();
            rest.ends_with(".json") || rest.ends_with(".json.gz")
        };
        let folder = self.folder.join(phase.expected());
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<PathBuf> =
            files.filter(|file| is_meant(&file.file_name().unwrap().to_string_lossy())).collect();
        files.sort();
        assert!(!files.is_empty(), "no {begin}*.json in {}", folder.display());
        files.iter().flat_map(|file| parse(&read_file(file))).collect()
    }

    fn file(&self, folder: &str, suffix: &str) -> PathBuf {
        self.folder.join(folder).join(format!("r{}.{suffix}", self.number))
    }
}

/// One value behind another: FRR writes one for each VRF.
fn parse(json: &[u8]) -> Vec<Value> {
    serde_json::Deserializer::from_slice(json).into_iter().collect::<Result<_, _>>().unwrap()
}

/// The file itself, or its compressed form.
fn find(path: &Path) -> Option<PathBuf> {
    let compressed = PathBuf::from(format!("{}.gz", path.display()));
    [path.to_owned(), compressed].into_iter().find(|path| path.exists())
}

fn read(path: &Path) -> Vec<u8> {
    read_file(&find(path).unwrap_or_else(|| panic!("{} is missing", path.display())))
}

fn read_file(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut inflated = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut inflated).unwrap();
        return inflated;
    }
    bytes
}
