//! The network as of an instant, read as far as somebody walks.
//!
//! In:   a data folder, an instant, what may be taken of memory.
//! Out:  who is in the network, and walks through it.
//! Law:  a walk is that of the whole network: what it meets is read before it is believed.
//! Not:  the walk itself (`walk`), how rows become a router (`network`), where rows are (`log`).
//!
//! First everybody's session rows are read, and where whose rows are (`log::Survey`): who owns
//! which address is known then. A walk is tried with the tables that are there; those that it
//! lacked are read together, and it is tried again. So each try goes at least a router further on
//! every branch, and no table is read that no packet would meet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::network::{Listed, Network, RouterEnd, Writer, ends, names, rows_as_of};
use super::walk::{self, Attempt, Follow, Start, Walk};
use crate::allowance::{Allowance, Held};
use crate::log::state::{Depth, Plan, States};
use crate::log::{self, Filter, LogError, LogFile, ReadReport, Survey, log_files};
use crate::mapping::RouterId;
use crate::time::{Hour, Micros};

/// What a router takes that was not read: its name, its place, its addresses.
const LISTED_BYTES: u64 = 320;

/// The network as of an instant, of which what is needed has been read.
#[derive(Debug)]
pub struct Explorer {
    data: PathBuf,
    allowance: Option<Allowance>,
    writer: Writer,
    network: Network,
    names: BTreeMap<RouterId, Box<str>>,
    /// `None` = everything has been read.
    source: Option<Source>,
    report: ReadReport,
    /// What the last walk takes.
    walk_held: Option<Held>,
    _listed_held: Option<Held>,
}

/// Where tables are read from.
#[derive(Debug)]
struct Source {
    states: States,
    files: Vec<LogFile>,
    survey: Survey,
    /// What the log says of routers beyond the parts that are read for the instant.
    ends: Option<BTreeMap<RouterId, RouterEnd>>,
}

impl Explorer {
    /// Looks who is in the network as of `at`. Cost: reads the log from the first row that a state
    /// lacks, without decoding more than session rows.
    pub fn open(
        data: &Path,
        at: Micros,
        allowance: Option<&Allowance>,
    ) -> Result<Explorer, LogError> {
        // Looked up first: a collector that ends while we read has written its terminations.
        let writer = Writer::of(data);
        let mut states = States::open_within(data, allowance)?;
        let mut plan = Plan::begin(&mut states, at, Depth::Head, &|_| true)?;
        if plan.horizon > Hour::default() && at < plan.horizon.start() {
            return Explorer::not_retained(data, at, allowance);
        }
        let files = log_files(data)?;
        let newest = states.newest()?;
        plan.add_parts(files.clone(), &newest, newest.until(at));
        let survey = Survey::of(&plan, allowance)?;
        survey.cut_to_sessions(&mut plan);
        let leaves_later_rows = plan.leaves_later_rows;
        let filter = Filter { sessions: true, allowance, ..Filter::NONE };
        let mut heads = Network::empty(at, allowance);
        let read = log::read_plan(data, plan, &mut states, &filter, &mut |told| heads.take(told))?;
        let mut report = read.report;
        report.bytes += survey.bytes;
        let ends = match leaves_later_rows {
            true => Some(ends(data, &filter, None, &mut report)?),
            false => None,
        };
        let Listed { names, links } = heads.list(ends.clone(), writer);
        let mut held = allowance.map(Allowance::hold);
        if let Some(held) = &mut held {
            held.grow(names.len() as u64 * LISTED_BYTES + links.memory_bytes());
            held.check()?;
        }
        let mut network = Network::empty(at, allowance);
        network.leave_unread(names.keys().copied().collect(), links);
        Ok(Explorer {
            data: data.to_owned(),
            allowance: allowance.cloned(),
            writer,
            network,
            names,
            source: Some(Source { states, files, survey, ends }),
            report,
            walk_held: None,
            _listed_held: held,
        })
    }

    /// An instant whose log is not kept has no tables.
    fn not_retained(
        data: &Path,
        at: Micros,
        allowance: Option<&Allowance>,
    ) -> Result<Explorer, LogError> {
        let (network, report) = Network::not_retained(data, at, None, allowance)?;
        Ok(Explorer {
            data: data.to_owned(),
            allowance: allowance.cloned(),
            writer: Writer::Present,
            network,
            names: names(data, allowance)?,
            source: None,
            report,
            walk_held: None,
            _listed_held: None,
        })
    }

    /// The name that the settings gave each router last, empty where they gave none.
    pub fn names(&self) -> &BTreeMap<RouterId, Box<str>> {
        &self.names
    }

    /// The network, as far as it has been read.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What reading has met so far.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }

    /// Says what time it is: what bears a later one was filed by a clock that was ahead.
    pub fn told_at(&mut self, now: Option<Micros>) {
        self.network.told_at(now);
    }

    /// Walks from `head`: what `walk::trace` finds in the whole network.
    pub fn trace(
        &mut self,
        head: RouterId,
        start: Start,
        follow: Follow,
    ) -> Result<Walk, LogError> {
        self.walk_held = None;
        loop {
            match walk::attempt(&self.network, head, start, follow, self.allowance.as_ref())? {
                Attempt::Done(walk, held) => {
                    self.walk_held = held;
                    return Ok(*walk);
                }
                Attempt::Lacks(routers) => self.read(&routers)?,
            }
        }
    }

    /// Reads the tables of these routers; they are unread no more, whatever was found.
    pub fn read(&mut self, routers: &BTreeSet<RouterId>) -> Result<(), LogError> {
        let Explorer { data, network, writer, report, .. } = self;
        let allowance = self.allowance.as_ref();
        let Some(source) = &mut self.source else { return Ok(()) };
        let Source { states, files, survey, ends: known } = source;
        let at = network.at;
        let is_meant = |router: RouterId| routers.contains(&router);
        let mut plan = Plan::begin(states, at, Depth::Table, &is_meant)?;
        let newest = states.newest()?;
        plan.add_parts(files.clone(), &newest, newest.until(at));
        survey.cut(&mut plan, routers.iter());
        let filter = Filter { among: Some(routers), ..rows_as_of(at, states, allowance)? };
        let read = log::read_plan(data, plan, states, &filter, &mut |told| network.take(told))?;
        report.add(&read.report);
        network.read_set_back(data, states, allowance, report)?;
        if let Some(known) = known {
            // Who watched a router last matters only when nobody does now.
            let told = match writer {
                Writer::Present => None,
                Writer::Gone => Some(ends(data, &filter, None, report)?),
            };
            let known = told.as_ref().unwrap_or(known);
            network.end(routers.iter().filter_map(|id| Some((*id, known.get(id)?.clone()))));
        }
        network.finish_read(routers, *writer);
        network.check()
    }
}
