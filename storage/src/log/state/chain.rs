//! Reads state files: directories that add up to one picture, and single states out of them.
//!
//! In:   the state folder, whatever a crash or a bad disk has left in it.
//! Out:  `Chain`: files covered and routers' entries after a round; a router's state.
//! Law:  what cannot be believed is reported and left aside: an older state is used, or the log.
//! Not:  which rows are read beside the states (`plan`), who writes them (`round`).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::layout::{STATE_FOLDER, STATE_TRAILER_BYTES};
use super::super::varint::Malformed;
use super::super::{Corruption, LogError, entries};
use super::directory::{Directory, FileEntry, RouterEntry, StateRef, read_directory, read_trailer};
use super::record::{BLOCK_ROWS_MAX, read_head, read_record};
use crate::allowance::{Allowance, Held};
use crate::mapping::RouterId;
use crate::router::RouterState;
use crate::row::Row;
use crate::time::{Hour, Micros};

/// Where the state file of a round goes: `DATA/state/2026-11-22T04-12.state`. The hour is for
/// people; the number is the order.
pub(super) fn state_path(data: &Path, hour: Hour, round: u32) -> PathBuf {
    data.join(STATE_FOLDER).join(format!("{hour}-{round}.state"))
}

/// Every state file by its round. Other names are left alone.
pub(super) fn state_files(data: &Path) -> Result<BTreeMap<u32, (Hour, PathBuf)>, LogError> {
    let mut files = BTreeMap::new();
    for (name, path) in entries(&data.join(STATE_FOLDER))? {
        let parts = name.strip_suffix(".state").and_then(|name| name.rsplit_once('-'));
        let Some((hour, round)) = parts else { continue };
        if let (Ok(hour), Ok(round)) = (hour.parse(), round.parse::<u32>()) {
            files.insert(round, (hour, path));
        }
    }
    Ok(files)
}

/// What is covered, and what is known of each router, after one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// The round; 0 = there has been none.
    pub(crate) round: u32,
    /// Newest hour covered.
    pub(crate) hour: Hour,
    /// What was before this hour is not kept, and answers unknown.
    pub(crate) horizon: Hour,
    /// The log before this hour is gone.
    pub(crate) kept_from: Hour,
    /// Log files of which something is covered.
    pub(crate) files: BTreeMap<(Hour, u16), FileEntry>,
    /// Routers that have a row in what is covered.
    pub(crate) routers: BTreeMap<RouterId, RouterEntry>,
    /// Directories that it was read from: at most a day of them.
    pub(super) links: usize,
}

impl Chain {
    /// The last round whose rows are all in the router's state: nothing of what was covered up to
    /// it has to be read for this router.
    pub(crate) fn included(&self, router: RouterId) -> u32 {
        let since = self.routers.get(&router).and_then(|entry| entry.since);
        since.map_or(self.round, |(round, _)| round.saturating_sub(1))
    }

    /// Up to which time rows are asked for of whoever asks about an instant: up to that, unless
    /// rows may be filed behind it that were read before others: then all have to be looked at.
    pub(crate) fn until(&self, at: Micros) -> Option<Micros> {
        let is_ahead = |file: &FileEntry| file.time_min == AHEAD && file.hour >= at.hour();
        (!self.files.values().any(is_ahead)).then_some(at)
    }

    pub(super) fn add(&mut self, directory: Directory) {
        self.round = directory.round;
        self.hour = self.hour.max(directory.hour);
        self.horizon = self.horizon.max(directory.horizon);
        self.kept_from = self.kept_from.max(directory.kept_from);
        self.files.extend(directory.files.into_iter().map(|it| ((it.hour, it.shard), it)));
        self.routers.extend(directory.routers);
        self.links += 1;
    }
}

/// Earliest time of a file that was written while the clock was ahead.
pub(super) const AHEAD: Micros = Micros::MIN;
/// Earliest time of a file in which there is damage: whoever asks about any instant is to meet it.
pub(super) const DAMAGED: Micros = Micros(Micros::MIN.0 + 1);

/// How much of a state is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Everything but the table, which is empty.
    Head,
    /// All of it.
    #[default]
    Table,
}

/// What a chain takes for a router or a file: its entry, and its part of the nodes of the map.
const LINK_BYTES: u64 = 320;
/// What a directory takes beside itself while it is read: a router's entry has ten bytes or more.
const DIRECTORY_PER_BYTE: u64 = 16;
/// What an entry of a table takes, about: looked at before a state is read, and counted after.
const ENTRY_BYTES: u64 = 64;

/// A state, and where it was.
pub(crate) type Found = (StateRef, Box<RouterState>);

/// The state folder as one reader sees it.
#[derive(Debug)]
pub(crate) struct States {
    files: BTreeMap<u32, (Hour, PathBuf)>,
    open: BTreeMap<u32, File>,
    chains: BTreeMap<u32, Rc<Chain>>,
    /// What could not be believed.
    pub(crate) damages: Vec<Corruption>,
    /// Bytes read from state files.
    pub(crate) bytes: u64,
    /// States read.
    pub(crate) states: u64,
    /// What the chains take, for whoever has an allowance.
    held: Option<(Allowance, Held)>,
}

impl States {
    /// Lists the folder.
    pub(crate) fn open(data: &Path) -> Result<States, LogError> {
        States::open_within(data, None)
    }

    /// The same for whoever may take so much. A state that is read counts from then on, as
    /// `RouterState::memory_bytes` says: who has it takes that over, or gives it back.
    pub(crate) fn open_within(
        data: &Path,
        allowance: Option<&Allowance>,
    ) -> Result<States, LogError> {
        Ok(States {
            files: state_files(data)?,
            open: BTreeMap::new(),
            chains: BTreeMap::new(),
            damages: Vec::new(),
            bytes: 0,
            states: 0,
            held: allowance.map(|allowance| (allowance.clone(), allowance.hold())),
        })
    }

    /// Whether reading may go on, if so many bytes more were held.
    fn check_for(&self, bytes: u64) -> Result<(), LogError> {
        self.held.as_ref().map_or(Ok(()), |(allowance, _)| allowance.check_for(bytes))
    }

    /// The number of the newest file, believed or not; 0 = there is none.
    pub(crate) fn last_round(&self) -> u32 {
        self.files.keys().next_back().copied().unwrap_or(0)
    }

    /// Every file by its round.
    pub(crate) fn paths(&self) -> Vec<(u32, PathBuf)> {
        self.files.iter().map(|(round, (_, path))| (*round, path.clone())).collect()
    }

    /// Whether the file of this round is there.
    pub(crate) fn has(&self, round: u32) -> bool {
        self.files.contains_key(&round)
    }

    /// The newest chain that holds; an empty one if there is none.
    pub(crate) fn newest(&mut self) -> Result<Rc<Chain>, LogError> {
        self.up_to(u32::MAX)
    }

    /// The newest chain of which states may stand for this instant: what was covered when it
    /// passed. A hint: a state says by itself whether it may.
    pub(crate) fn at(&mut self, at: Micros) -> Result<Rc<Chain>, LogError> {
        let before = self.files.iter().rev().find(|(_, (hour, _))| *hour <= at.hour());
        self.up_to(before.map_or(0, |(round, _)| *round))
    }

    /// The complete directory with which questions about the horizon begin: the one before the one
    /// that its chain begins with, because states that a router's clock puts ahead of the horizon
    /// are passed over. `None` = there is none: every file is needed.
    pub(super) fn first_needed(&mut self, horizon: Hour) -> Result<Option<u32>, LogError> {
        let rounds: Vec<(u32, Hour)> =
            self.files.iter().rev().map(|(round, (hour, _))| (*round, *hour)).collect();
        let mut complete = 0;
        for (round, hour) in rounds {
            if hour >= horizon {
                continue;
            }
            let Some(directory) = self.directory(round)? else { return Ok(None) };
            complete += u32::from(directory.previous == 0);
            if complete == 2 {
                return Ok(Some(round));
            }
        }
        Ok(None)
    }

    /// The last round whose rows no reader of this instant, or a later one, needs: every router has
    /// a state that includes them.
    pub(super) fn included_at(&mut self, at: Micros) -> Result<u32, LogError> {
        let then = self.at(at)?;
        let mut included = then.round;
        for router in then.routers.keys() {
            let mut chain = Rc::clone(&then);
            loop {
                let of_router = chain.included(*router);
                let state = chain.routers.get(router).and_then(|entry| entry.state);
                if let Some(state) = state.filter(|state| state.time_max > at) {
                    chain = self.up_to(state.round.saturating_sub(1))?;
                    continue;
                }
                included = included.min(of_router);
                break;
            }
        }
        Ok(included)
    }

    /// The newest chain that ends at this round or before.
    pub(crate) fn up_to(&mut self, round: u32) -> Result<Rc<Chain>, LogError> {
        let mut end = round;
        loop {
            let Some(last) = self.files.range(..=end).next_back().map(|(round, _)| *round) else {
                return Ok(Rc::default());
            };
            if let Some(chain) = self.chains.get(&last) {
                return Ok(Rc::clone(chain));
            }
            match self.load(last)? {
                Ok(chain) => {
                    if let Some((_, held)) = &mut self.held {
                        held.grow((chain.files.len() + chain.routers.len()) as u64 * LINK_BYTES);
                        held.check()?;
                    }
                    let chain = Rc::new(chain);
                    self.chains.insert(last, Rc::clone(&chain));
                    return Ok(chain);
                }
                // Whatever builds on it is left aside too.
                Err(broken) => match broken.checked_sub(1) {
                    Some(before) => end = before,
                    None => return Ok(Rc::default()),
                },
            }
        }
    }

    /// The chain that ends at this round, or the round that breaks it.
    fn load(&mut self, last: u32) -> Result<Result<Chain, u32>, LogError> {
        let mut directories = Vec::new();
        let mut round = last;
        loop {
            let Some(directory) = self.directory(round)? else { return Ok(Err(round)) };
            let previous = directory.previous;
            directories.push(directory);
            if previous == 0 {
                break;
            }
            if previous >= round {
                return Ok(Err(round));
            }
            round = previous;
        }
        let mut chain = Chain::default();
        directories.into_iter().rev().for_each(|directory| chain.add(directory));
        Ok(Ok(chain))
    }

    /// The directory of one file; `None` = it cannot be believed, and that is noted.
    pub(crate) fn directory(&mut self, round: u32) -> Result<Option<Directory>, LogError> {
        let Some((_, path)) = self.files.get(&round).cloned() else { return Ok(None) };
        let length = match path.metadata() {
            Ok(metadata) => metadata.len(),
            // Deleted by the collector since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("measure", &path)(error)),
        };
        let trailer_bytes = STATE_TRAILER_BYTES as u64;
        let Some(end) = length.checked_sub(trailer_bytes) else {
            self.damage(path, 0, "a trailer".to_owned());
            return Ok(None);
        };
        let Some(bytes) = self.bytes_of(round, end, trailer_bytes)? else { return Ok(None) };
        let trailer = bytes.first_chunk().map(read_trailer);
        let trailer = match trailer {
            Some(Ok(trailer)) if trailer.offset.checked_add(trailer.bytes) == Some(end) => trailer,
            Some(Err(malformed)) => {
                self.malformed(path, end, &malformed);
                return Ok(None);
            }
            Some(Ok(_)) | None => {
                self.damage(path, end, "a trailer behind its directory".to_owned());
                return Ok(None);
            }
        };
        self.check_for(trailer.bytes.saturating_mul(DIRECTORY_PER_BYTE))?;
        let Some(bytes) = self.bytes_of(round, trailer.offset, trailer.bytes)? else {
            return Ok(None);
        };
        match read_directory(&bytes, &trailer) {
            Ok(directory) if directory.round == round => Ok(Some(directory)),
            Ok(_) => {
                self.damage(path, trailer.offset, format!("the directory of round {round}"));
                Ok(None)
            }
            Err(malformed) => {
                self.malformed(path, trailer.offset, &malformed);
                Ok(None)
            }
        }
    }

    /// The state that lies there; `None` = it cannot be believed, and that is noted.
    pub(crate) fn state(
        &mut self,
        router: RouterId,
        at: &StateRef,
        depth: Depth,
    ) -> Result<Option<Box<RouterState>>, LogError> {
        let Some((_, path)) = self.files.get(&at.round).cloned() else {
            let path = PathBuf::from(format!("round {}", at.round));
            self.damage(path, 0, "the file of that round".to_owned());
            return Ok(None);
        };
        let (count, entries) = match depth {
            Depth::Head => (at.head_bytes, 0),
            Depth::Table => (at.bytes, at.entries),
        };
        let rows = entries.min(BLOCK_ROWS_MAX as u64) * size_of::<Row>() as u64;
        self.check_for(count.saturating_add(entries.saturating_mul(ENTRY_BYTES) + rows))?;
        let Some(bytes) = self.bytes_of(at.round, at.offset, count)? else {
            self.damage(path, at.offset, format!("{count} bytes"));
            return Ok(None);
        };
        let read = match depth {
            Depth::Head => read_head(&bytes, router),
            Depth::Table => read_record(&bytes, router),
        };
        match read {
            Ok(state) => {
                self.states += 1;
                if let Some((allowance, _)) = &self.held {
                    allowance.grow(state.memory_bytes());
                    allowance.check()?;
                }
                Ok(Some(Box::new(state)))
            }
            Err(malformed) => {
                self.malformed(path, at.offset, &malformed);
                Ok(None)
            }
        }
    }

    /// The newest believable state of a router, from this chain or an older one, that `accepts`;
    /// and the last round whose rows it includes. `None` = there is none, and the log has to be
    /// read from the round given on.
    pub(crate) fn find(
        &mut self,
        router: RouterId,
        chain: &Rc<Chain>,
        depth: Depth,
        accepts: &dyn Fn(&StateRef) -> bool,
    ) -> Result<(Option<Found>, u32), LogError> {
        let mut chain = Rc::clone(chain);
        loop {
            let included = chain.included(router);
            let entry = chain.routers.get(&router).copied().unwrap_or_default();
            let Some(at) = entry.state else { return Ok((None, included)) };
            if accepts(&at)
                && let Some(state) = self.state(router, &at, depth)?
            {
                return Ok((Some((at, state)), included));
            }
            chain = self.up_to(at.round.saturating_sub(1))?;
        }
    }

    fn bytes_of(
        &mut self,
        round: u32,
        offset: u64,
        count: u64,
    ) -> Result<Option<Vec<u8>>, LogError> {
        let Some((_, path)) = self.files.get(&round) else { return Ok(None) };
        let file = match self.open.entry(round) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(slot) => match File::open(path) {
                Ok(file) => slot.insert(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(LogError::io("open", path)(error)),
            },
        };
        let length = file.metadata().map_err(LogError::io("measure", path))?.len();
        if offset.checked_add(count).is_none_or(|end| end > length) {
            return Ok(None);
        }
        let mut bytes = vec![0; count as usize];
        file.read_exact_at(&mut bytes, offset).map_err(LogError::io("read", path))?;
        self.bytes += count;
        Ok(Some(bytes))
    }

    fn malformed(&mut self, path: PathBuf, offset: u64, malformed: &Malformed) {
        let Malformed { section, at, expected } = malformed;
        self.damage(path, offset, format!("{expected} at byte {at} of {section}"));
    }

    fn damage(&mut self, path: PathBuf, offset: u64, expected: String) {
        let found = "other bytes; an older state or the log is used".to_owned();
        self.damages.push(Corruption { path, offset, expected, found });
    }
}
