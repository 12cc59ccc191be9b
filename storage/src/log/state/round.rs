//! A round: covers what the log has gained, and writes the states that are due.
//!
//! In:   the data folder, and how much of which files may be covered.
//! Out:  one more state file, published whole or not at all.
//! Law:  what a state includes is durable in the log before the state is published.
//! Not:  how often, and how fast (the engine's keeper).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::builder::BlockBuilder;
use super::super::layout::{FLAG_ALL_BEFORE_DURABLE, STATE_FOLDER};
use super::super::ordered::{Last, Told, read_plan};
use super::super::read::{Filter, Met, ReadReport, read_file_blocks};
use super::super::scan::{Piece, Scan};
use super::super::{Corruption, LogError, LogFile, entries, files, log_files};
use super::chain::{AHEAD, Chain, DAMAGED, States, state_path};
use super::directory::{Directory, FileEntry, RouterEntry, StateRef, put_directory};
use super::plan::Plan;
use super::record::put_record;
use super::retain::{Retain, horizon, kept_from, sweep};
use crate::history::course::Course;
use crate::mapping::RouterId;
use crate::router::RouterState;
use crate::row::{Change, Row, SessionEvent};
use crate::time::{Hour, Micros};

/// Directories behind a complete one, at most: what a reader puts together.
const LINKS_MAX: usize = 24;
/// Hours after which a row is in a state, however little its router says.
const ROW_HOURS_MAX: u64 = 24;
/// Hours after which a state is written anew although nothing has come: old files can go.
const STATE_HOURS_MAX: u64 = 7 * 24;
/// Memory of one entry while states are made, for the size of batches.
const ENTRY_BYTES: u64 = 100;

/// What bounds a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundLimits {
    /// Rows of a router below which its state waits for its day, however small the table.
    pub rows_min: u64,
    /// Memory that tables may take at a time; one router's table at least.
    pub memory_bytes: u64,
    /// How much of the log is kept.
    pub retain: Retain,
}

impl Default for RoundLimits {
    /// 256 rows; 64 MiB; everything is kept.
    fn default() -> Self {
        RoundLimits { rows_min: 256, memory_bytes: 64 << 20, retain: Retain::default() }
    }
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundReport {
    /// Its number.
    pub round: u32,
    /// Rows that it covered.
    pub rows: u64,
    /// States that it wrote.
    pub states: u64,
    /// Entries in them.
    pub entries: u64,
    /// Length of the state file.
    pub bytes: u64,
    /// Hours before this one are gone, as `Retain` says; the hour 0 = none.
    pub horizon: Hour,
    /// Damage that was passed over.
    pub damages: Vec<Corruption>,
}

/// How much of a log file a round may cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// What later blocks say is durable: its last commit may be under way, or fail and be cut.
    Durable,
    /// All whole blocks: nobody writes to it any more.
    Whole,
}

/// What a running collector covers: hours before `before`; all of a file when its shard has
/// committed to a later one, because a shard commits one batch at a time.
///
/// A file that is written to again, because the clock was set back, is covered on from there.
pub fn finished(before: Hour) -> impl Fn(&LogFile, &[LogFile]) -> Option<Cover> {
    move |file, _| {
        let cover = if file.sealed { Cover::Whole } else { Cover::Durable };
        (file.hour < before).then_some(cover)
    }
}

/// Covers the log files that `cover` names, as far as it says, and writes the states that are due.
/// `None`: there was nothing to cover, or `go_on` said no.
///
/// Only one process may do so: the caller holds the lock of the data folder. `go_on` is asked after
/// every few megabytes of work: it may sleep, and ends the round by `false`.
/// Errors: a folder or file that cannot be read or written; then nothing is published.
pub fn round(
    data: &Path,
    cover: &dyn Fn(&LogFile, &[LogFile]) -> Option<Cover>,
    limits: &RoundLimits,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<RoundReport>, LogError> {
    let mut states = States::open(data)?;
    let chain = states.newest()?;
    let number = states.last_round() + 1;
    let Some(mut work) = Work::cover(data, cover, &chain, number, &limits.retain, go_on)? else {
        return Ok(None);
    };
    let mut writer = StateWriter::create(data, work.chain.hour, work.chain.round)?;
    let due = work.due(limits);
    let work_chain = Rc::new(work.chain.clone());
    for batch in due.chunk_by(|one, two| one.0 == two.0) {
        if !go_on() {
            return Ok(None);
        }
        let batch: BTreeSet<RouterId> = batch.iter().map(|(_, router)| *router).collect();
        work.write_states(data, &work_chain, &batch, &mut states, &mut writer)?;
    }
    work.chain.kept_from = kept_from(data, &work.chain)?;
    let whole = chain.round == 0 || chain.links >= LINKS_MAX;
    let directory = work.directory(if whole { 0 } else { chain.round });
    work.report.bytes = writer.publish(&directory)?;
    work.report.damages.append(&mut states.damages);
    work.report.horizon = work.chain.horizon;
    if work.chain.horizon > Hour::default() {
        // First the directory has said so.
        sweep(data)?;
    }
    Ok(Some(work.report))
}

/// A round under way.
struct Work {
    /// As it will be after the round.
    chain: Chain,
    /// Files whose covered part has grown.
    grown: BTreeSet<(Hour, u16)>,
    /// Routers whose entry has changed, and when they first did so in this round.
    changed: BTreeMap<RouterId, usize>,
    /// Every file, as long as it is covered.
    files: Vec<LogFile>,
    /// Whether damage lies in what the round covers.
    damaged: bool,
    /// Whether more must go than states allow: all of them are due.
    is_short: bool,
    report: RoundReport,
}

impl Work {
    /// Reads what has come since the round before; `None` if nothing has and nothing is to go, or
    /// `go_on` says no.
    fn cover(
        data: &Path,
        cover: &dyn Fn(&LogFile, &[LogFile]) -> Option<Cover>,
        chain: &Chain,
        round: u32,
        retain: &Retain,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Work>, LogError> {
        let mut work = Work {
            chain: Chain { round, ..chain.clone() },
            grown: BTreeSet::new(),
            changed: BTreeMap::new(),
            files: Vec::new(),
            damaged: false,
            is_short: false,
            report: RoundReport { round, ..RoundReport::default() },
        };
        let mut rows = BTreeMap::new();
        let mut newest = None;
        let listed = log_files(data)?;
        for mut file in listed.iter().cloned() {
            let key = (file.hour, file.shard);
            let old = chain.files.get(&key).map_or(0, FileEntry::covered);
            let cover = if file.length > old { cover(&file, &listed) } else { None };
            let entry = match cover {
                Some(_) if !go_on() => return Ok(None),
                Some(cover) => {
                    file.length = work.end_of(&file, old, cover)?;
                    work.cover_file(&file, old, &mut rows)?
                }
                None => None,
            };
            if let Some(entry) = entry {
                newest = newest.max(Some(file.hour));
                work.grown.insert(key);
                work.chain.files.insert(key, entry);
            }
            file.length = work.chain.files.get(&key).map_or(0, FileEntry::covered);
            work.files.push(file);
        }
        let is_marked = work.mark_ahead(&listed, retain.before);
        let kept = horizon(data, retain, &listed, &work.chain)?;
        (work.chain.horizon, work.is_short) = (kept.horizon, kept.is_short);
        if newest.is_none() && work.chain.horizon == chain.horizon && !is_marked {
            return Ok(None);
        }
        let hour = newest.unwrap_or(chain.hour);
        work.chain.hour = hour;
        for (router, (rows, order)) in rows {
            let entry = work.chain.routers.entry(router).or_default();
            entry.since.get_or_insert((round, hour));
            entry.rows_since = entry.rows_since.saturating_add(rows);
            work.changed.insert(router, order);
        }
        if work.damaged {
            // Rows of anybody may be missing: everybody's state is to be folded past it.
            for (router, entry) in &mut work.chain.routers {
                entry.since.get_or_insert((round, hour));
                work.changed.entry(*router).or_insert(usize::MAX);
            }
        }
        Ok(Some(work))
    }

    /// Marks files of hours that have not begun: the clock was ahead when they were written, and
    /// what they say was read before what the hours before them say. Whoever asks about any
    /// instant is to meet it, also when these hours have come. Whether there is a new one.
    fn mark_ahead(&mut self, listed: &[LogFile], now: Hour) -> bool {
        let mut is_marked = false;
        let is_ahead =
            |file: &&LogFile| now > Hour::default() && file.hour > now && file.length > 0;
        for file in listed.iter().filter(is_ahead) {
            let key = (file.hour, file.shard);
            let (hour, shard) = key;
            let fresh = || FileEntry { hour, shard, covered: Vec::new(), time_min: Micros::MAX };
            let entry = self.chain.files.entry(key).or_insert_with(fresh);
            if entry.time_min > AHEAD {
                entry.time_min = AHEAD;
                self.grown.insert(key);
                is_marked = true;
            }
        }
        is_marked
    }

    /// Where covering a file ends.
    fn end_of(&self, file: &LogFile, old: u64, cover: Cover) -> Result<u64, LogError> {
        if cover == Cover::Whole {
            return Ok(file.length);
        }
        let mut end = old;
        let mut scan = Scan::open_at(file, old)?;
        while let Some(piece) = scan.next()? {
            if let Piece::Block { offset, header, .. } = piece
                && header.flags & FLAG_ALL_BEFORE_DURABLE != 0
            {
                end = offset;
            }
        }
        Ok(end)
    }

    /// Reads a file from what is covered to its last whole block, and makes that durable.
    fn cover_file(
        &mut self,
        file: &LogFile,
        old: u64,
        rows: &mut BTreeMap<RouterId, (u64, usize)>,
    ) -> Result<Option<FileEntry>, LogError> {
        let mut end = old;
        let known = self.chain.files.get(&(file.hour, file.shard));
        let mut entry = known.cloned().unwrap_or(FileEntry {
            hour: file.hour,
            shard: file.shard,
            covered: Vec::new(),
            time_min: Micros(i64::MAX),
        });
        let filter = Filter { changes: true, sessions: true, ledger: true, ..Filter::NONE };
        let mut report = ReadReport::default();
        read_file_blocks(file, old, &filter, &mut report, &mut Vec::new(), &mut |met| match met {
            Met::Rows { rows: found, header, end: block_end, .. } => {
                end = block_end;
                entry.time_min = entry.time_min.min(header.time_min);
                for row in found.iter() {
                    entry.time_min = entry.time_min.min(begins(row));
                    self.report.rows += 1;
                    if let Some(router) = row.router() {
                        let order = rows.len();
                        rows.entry(router).or_insert((0, order)).0 += 1;
                    }
                }
            }
            Met::Skipped { end: block_end } => end = block_end,
            Met::Damage { end: block_end, .. } => {
                end = block_end;
                // Whoever asks about any instant is to meet it.
                entry.time_min = entry.time_min.min(DAMAGED);
                self.damaged = true;
            }
            Met::Torn(_) => {}
        })?;
        self.report.damages.append(&mut report.damages);
        if end == old {
            return Ok(None);
        }
        let opened = File::open(&file.path).map_err(LogError::io("open", &file.path))?;
        opened.sync_all().map_err(LogError::io("sync", &file.path))?;
        entry.covered.push((self.chain.round, end));
        Ok(Some(entry))
    }

    /// Routers whose state is due, with the number of their batch: in the order in which they
    /// spoke, because those whose rows lie together are read together.
    fn due(&self, limits: &RoundLimits) -> Vec<(u64, RouterId)> {
        let hour = self.chain.hour;
        let mut due: Vec<(usize, RouterId, u64)> = Vec::new();
        for (router, entry) in &self.chain.routers {
            let is_hurried = self.is_short && entry.since.is_some();
            if is_hurried || is_due(entry, hour, limits) {
                let order = self.changed.get(router).copied().unwrap_or(usize::MAX);
                let entries = entry.state.map_or(0, |state| state.entries);
                let bytes = entries.saturating_add(entry.rows_since).saturating_mul(ENTRY_BYTES);
                due.push((order, *router, bytes));
            }
        }
        due.sort_unstable();
        let (mut batch, mut filled) = (0, 0_u64);
        let number = |(_, router, bytes): (usize, RouterId, u64)| {
            filled = filled.saturating_add(bytes);
            if filled > limits.memory_bytes && filled > bytes {
                (batch, filled) = (batch + 1, bytes);
            }
            (batch, router)
        };
        due.into_iter().map(number).collect()
    }

    /// Folds the routers of a batch and writes their states.
    fn write_states(
        &mut self,
        data: &Path,
        chain: &Rc<Chain>,
        batch: &BTreeSet<RouterId>,
        states: &mut States,
        writer: &mut StateWriter,
    ) -> Result<(), LogError> {
        let mut plan = Plan { otherwise: u32::MAX, ..Plan::default() };
        for router in batch {
            plan.add_base(*router, chain, states, &|_| true)?;
        }
        plan.add_parts(self.files.clone(), chain, None);
        let filter = Filter {
            among: Some(batch),
            changes: true,
            sessions: true,
            ledger: true,
            ..Filter::NONE
        };
        let mut folded: BTreeMap<RouterId, Folded> = BTreeMap::new();
        let read = read_plan(data, plan, states, &filter, &mut |told| match told {
            Told::StartOver(router) => {
                folded.remove(&router);
            }
            Told::State(state, at) => {
                let StateRef { time_max, generation, .. } = at;
                let course = Course::default();
                folded.insert(state.router, Folded { state, time_max, generation, course });
            }
            Told::Row(router, row) => {
                folded.entry(router).or_insert_with(|| Folded::new(router)).add(row);
            }
        })?;
        for (router, folded) in folded {
            let Some(Last { time, shard, .. }) = read.last.get(&router).copied() else { continue };
            let Folded { state, time_max, generation, .. } = folded;
            let (offset, bytes, head_bytes) = writer.state(&state)?;
            let entries = state.table.len() as u64;
            let (round, hour) = (self.chain.round, self.chain.hour);
            let at = StateRef {
                round,
                hour,
                offset,
                bytes,
                head_bytes,
                entries,
                time_max,
                time,
                shard,
                generation,
            };
            let entry = RouterEntry { state: Some(at), rows_since: 0, since: None };
            self.chain.routers.insert(router, entry);
            self.changed.entry(router).or_insert(usize::MAX);
            self.report.states += 1;
            self.report.entries += entries;
        }
        Ok(())
    }

    /// What has changed since `previous`, or, with 0, all there is.
    fn directory(&self, previous: u32) -> Directory {
        let files = self.chain.files.iter();
        let routers = self.chain.routers.iter();
        Directory {
            round: self.chain.round,
            previous,
            hour: self.chain.hour,
            horizon: self.chain.horizon,
            kept_from: self.chain.kept_from,
            files: files
                .filter(|(key, _)| key.0 >= self.chain.kept_from)
                .filter(|(key, _)| previous == 0 || self.grown.contains(key))
                .map(|(_, entry)| entry.clone())
                .collect(),
            routers: routers
                .filter(|(router, _)| previous == 0 || self.changed.contains_key(router))
                .map(|(router, entry)| (*router, *entry))
                .collect(),
        }
    }
}

/// A state under way, and what its rows have reached.
struct Folded {
    state: Box<RouterState>,
    time_max: Micros,
    generation: u32,
    course: Course,
}

impl Folded {
    fn new(router: RouterId) -> Folded {
        let state = Box::new(RouterState::new(router));
        let course = Course::default();
        Folded { state, time_max: Micros::MIN, generation: 0, course }
    }

    fn add(&mut self, row: &Row) {
        self.state.replay(row);
        if let Some(by) = self.course.next(row) {
            // The clock was ahead: all of it had been read by then.
            self.time_max = by;
        }
        self.time_max = self.time_max.max(ends(row));
        self.generation = self.generation.max(row.place().generation);
    }
}

fn is_due(entry: &RouterEntry, hour: Hour, limits: &RoundLimits) -> bool {
    let is_old = |then: Hour, hours: u64| hour.0.abs_diff(then.0) >= hours;
    let entries = entry.state.map_or(0, |state| state.entries);
    entry.rows_since >= limits.rows_min.max(entries / 4)
        || entry.since.is_some_and(|(_, then)| is_old(then, ROW_HOURS_MAX))
        || entry.state.is_some_and(|state| is_old(state.hour, STATE_HOURS_MAX))
}

/// The earliest instant that a row says something about.
fn begins(row: &Row) -> Micros {
    match row {
        Row::Change(change) => change.stamp.effective_time,
        Row::Session(row) => match &row.event {
            SessionEvent::Gap { start, .. } => row.time.min(*start),
            _ => row.time,
        },
        Row::Ledger(row) => row.time,
        Row::Kernel(row) => row.time,
    }
}

/// The instant from which on all that a row says counts.
fn ends(row: &Row) -> Micros {
    match row {
        Row::Session(row) => match &row.event {
            SessionEvent::Gap { start, .. } => row.time.max(*start),
            _ => row.time,
        },
        // Between the two nobody can say which value there was.
        Row::Change(Change { stamp, .. }) if stamp.is_disputed() => {
            stamp.effective_time.max(stamp.collection_time)
        }
        _ => begins(row),
    }
}

/// A state file that nobody sees before it is whole.
struct StateWriter {
    builder: BlockBuilder,
    file: File,
    path: PathBuf,
    hidden: PathBuf,
    written: u64,
    buffer: Vec<u8>,
}

impl StateWriter {
    fn create(data: &Path, hour: Hour, round: u32) -> Result<StateWriter, LogError> {
        let folder = data.join(STATE_FOLDER);
        files::make_folder(&folder).map_err(LogError::io("create", &folder))?;
        for (name, path) in entries(&folder)? {
            // Of a process that was killed.
            if name.ends_with(".unfinished") {
                std::fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
            }
        }
        let path = state_path(data, hour, round);
        let hidden = path.with_extension("unfinished");
        let file = files::make_new(&hidden).map_err(LogError::io("create", &hidden))?;
        let builder = BlockBuilder::new(0);
        Ok(StateWriter { builder, file, path, hidden, written: 0, buffer: Vec::new() })
    }

    /// Writes a state; returns where it is, how long it is, and how long its head is.
    fn state(&mut self, state: &RouterState) -> Result<(u64, u64, u64), LogError> {
        let offset = self.written;
        let head_bytes = put_record(&mut self.buffer, &mut self.builder, state);
        self.flush()?;
        Ok((offset, self.written - offset, head_bytes))
    }

    /// Writes the directory, makes all of it durable, and gives the file its name. Returns its
    /// length.
    fn publish(mut self, directory: &Directory) -> Result<u64, LogError> {
        put_directory(&mut self.buffer, self.written, directory);
        self.flush()?;
        self.file.sync_all().map_err(LogError::io("sync", &self.hidden))?;
        std::fs::rename(&self.hidden, &self.path).map_err(LogError::io("name", &self.path))?;
        for folder in self.path.ancestors().skip(1).take(2) {
            let opened = File::open(folder).map_err(LogError::io("open", folder))?;
            opened.sync_all().map_err(LogError::io("sync", folder))?;
        }
        Ok(self.written)
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.file.write_all(&self.buffer).map_err(LogError::io("write", &self.hidden))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
