//! A collector as far as its rows go: routers that speak, and the log that they leave.
//!
//! In:   what is to happen, with made-up times.
//! Out:  a data folder, and the live states that its rows must give again.
//! Law:  every row is in the log at once, one block per happening.
//! Not:  what must hold (the tests).

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::interface::Interface;
use crate::log::state::{Cover, Retain, RoundLimits, RoundReport, round};
use crate::log::{BlockBuilder, LogFile, ReadReport, log_path};
use crate::mapping::tests::swap;
use crate::mapping::{Mapping, Operation, RouterId};
use crate::recovery;
use crate::router::RouterState;
use crate::row::{Basis, InputMode, LedgerRow, Position, Reason, Scope, SessionEvent};
use crate::table::{Applied, Arrival};
use crate::time::{MICROS_PER_HOUR, Micros};

pub(super) const START: Micros = Micros(498_611 * MICROS_PER_HOUR + 1);

pub(super) fn router(number: u8) -> RouterId {
    RouterId(IpAddr::from([192, 0, 2, number]))
}

pub(super) type Routers = BTreeMap<RouterId, Box<RouterState>>;

pub(super) struct Rig {
    folder: tempfile::TempDir,
    pub(super) states: Routers,
    shards: BTreeMap<RouterId, u16>,
    builder: BlockBuilder,
    pub(super) time: Micros,
    ordinal: u32,
    last_path: PathBuf,
}

/// What a state is, in a form that can be compared.
pub(super) fn essence(state: &RouterState) -> String {
    let mut rows = Vec::new();
    state.table.condense(&mut |stamp, mapping| {
        let stamp = crate::row::Stamp { position: Position::default(), ..*stamp };
        rows.push(format!("{stamp:?} {mapping:?}"));
    });
    rows.sort();
    let doubted: Vec<_> = state.table.doubted().collect();
    let RouterState { table, .. } = state;
    format!(
        "{:?} {:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {} {:?} {:?} {:?} {} {} {} {:?} {doubted:?} \
         {rows:#?}",
        state.router,
        state.position,
        state.boot_time,
        state.sequence_last,
        state.last_evidence,
        state.skew_us,
        state.gaps,
        state.session,
        state.ended,
        state.complete,
        state.name,
        state.interfaces_configured,
        state.interfaces_announced,
        state.not_before,
        state.boot_generation,
        state.configured,
        table.prune_at(),
        table.proofs(),
    )
}

/// The place behind everything so far; a row that takes it moves the state on.
fn free(state: &RouterState) -> Position {
    Position { index: state.position.index + 1, ..state.position }
}

pub(super) fn essences(states: &Routers) -> Vec<String> {
    states.values().map(|state| essence(state)).collect()
}

impl Rig {
    pub(super) fn new() -> Rig {
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Rig {
            folder: folder.unwrap(),
            states: Routers::new(),
            shards: BTreeMap::new(),
            builder: BlockBuilder::new(0),
            time: START,
            ordinal: 0,
            last_path: PathBuf::new(),
        }
    }

    pub(super) fn data(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn round(
        &self,
        before: crate::time::Hour,
        limits: &RoundLimits,
    ) -> Option<RoundReport> {
        let cover = |file: &LogFile, _: &[LogFile]| (file.hour < before).then_some(Cover::Whole);
        round(self.data(), &cover, limits, &mut || true).unwrap()
    }

    /// The keeper looks, as it does every minute: nothing is covered.
    pub(super) fn look(&self) {
        let retain = Retain { before: self.time.hour(), ..Retain::default() };
        let limits = RoundLimits { retain, ..RoundLimits::default() };
        round(self.data(), &|_, _| None, &limits, &mut || true).unwrap();
    }

    /// What a restart finds; the folder stays as it is.
    pub(super) fn open(&self) -> (Routers, ReadReport) {
        recovery::fold_newest(self.data()).unwrap()
    }

    fn state(&mut self, number: u8) -> &mut RouterState {
        let router = router(number);
        self.states.entry(router).or_insert_with(|| Box::new(RouterState::new(router)))
    }

    fn tick(&mut self) -> Micros {
        self.ordinal += 1;
        self.time = self.time.offset(1_000);
        self.time
    }

    pub(super) fn pass_hours(&mut self, hours: i64) {
        self.time = self.time.offset(hours * MICROS_PER_HOUR);
    }

    /// Writes the block into the file of the hour and of the router's shard.
    fn commit(&mut self, number: u8) {
        let shard = self.shards.get(&router(number)).copied().unwrap_or(0);
        let mut bytes = Vec::new();
        self.builder.all_before_is_durable();
        self.builder.finish(&mut bytes);
        let path = log_path(self.data(), self.time.hour(), shard);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        file.write_all(&bytes).unwrap();
        self.last_path = path;
    }

    pub(super) fn event(&mut self, number: u8, event: SessionEvent) {
        let time = self.tick();
        let row = self.state(number).session_row(time, event);
        self.builder.session(&row);
        self.commit(number);
    }

    pub(super) fn begin(&mut self, number: u8, boot: i64) {
        self.event(
            number,
            SessionEvent::Initiation {
                peer: ([192, 0, 2, number], 40_000).into(),
                mode: InputMode::Framed,
                permanent: true,
                boot_time: Some(START.offset(boot)),
                clock: None,
                interfaces: vec![Interface::of_address(IpAddr::from([10, 0, number, 1]))],
                agent: "agent 1".into(),
            },
        );
    }

    pub(super) fn lose(&mut self, number: u8, behind_us: i64) {
        if self.state(number).position.generation == 0 {
            self.begin(number, 0);
        }
        let start = self.time.offset(-behind_us);
        let reason = Reason::ConnectionLost;
        self.event(number, SessionEvent::Gap { start, scope: Scope::Router, reason });
        self.event(number, SessionEvent::Termination { reason });
    }

    /// Something that could not be read.
    pub(super) fn miss(&mut self, number: u8, scope: Scope, behind_us: i64) {
        if self.state(number).position.generation == 0 {
            self.begin(number, 0);
        }
        let start = self.time.offset(-behind_us);
        let reason = Reason::Rejected(crate::row::Cause::NhlfeInvalid);
        self.event(number, SessionEvent::Gap { start, scope, reason });
    }

    /// A mapping whose event time is `behind_us` before now; `out` 0 withdraws.
    pub(super) fn say(&mut self, number: u8, label: u32, out: u32, behind_us: i64) {
        if self.state(number).position.generation == 0 {
            self.begin(number, 0);
        }
        let collection_time = self.tick();
        let event_us = collection_time.offset(-behind_us).0;
        let mut mapping: Mapping = swap(label, out.max(16), event_us);
        if out == 0 {
            mapping.operation = Operation::None;
            mapping.branches.clear();
        }
        let state = self.state(number);
        let arrival = Arrival { position: free(state), collection_time, basis: Basis::Live };
        if let Applied::Change(stamp) = state.apply(&mapping, &arrival) {
            self.builder.change(&stamp, &mapping);
        }
        self.ledger(number);
    }

    pub(super) fn ledger(&mut self, number: u8) {
        let time = self.time;
        let state = self.state(number);
        let sequence = state.sequence_last + 1;
        let row = LedgerRow {
            router: Some(router(number)),
            generation: state.position.generation,
            time,
            sequence_last: sequence,
            bytes_read: 9,
            bytes_framed: 9,
            mappings_framed: 0,
            changes: 0,
            confirmed: 0,
            duplicates: 0,
            derived: 0,
            rejected: Vec::new(),
        };
        state.replay_ledger(&row);
        self.builder.ledger(&row);
        self.commit(number);
    }

    /// A snapshot that shows the labels below `labels` of the table as they are.
    pub(super) fn snapshot(&mut self, number: u8, labels: u32, explicit: bool) {
        self.begin_snapshot(number);
        self.end_snapshot(number, labels, explicit);
    }

    /// A snapshot begins; what is missed now is missed of it.
    pub(super) fn begin_snapshot(&mut self, number: u8) {
        self.event(number, SessionEvent::SnapshotBegin);
        self.states.get_mut(&router(number)).unwrap().begin_snapshot();
    }

    pub(super) fn end_snapshot(&mut self, number: u8, labels: u32, explicit: bool) {
        let time = self.time;
        let state = self.states.get_mut(&router(number)).unwrap();
        let shown: Vec<Mapping> = state.table.iter().map(|entry| entry.mapping()).collect();
        for mapping in shown {
            if mapping.ingress.label.is_some_and(|label| label.value() < labels) {
                let (position, basis) = (free(state), Basis::Snapshot);
                let arrival = Arrival { position, collection_time: time, basis };
                if let Applied::Change(stamp) = state.apply(&mapping, &arrival) {
                    self.builder.change(&stamp, &mapping);
                }
            }
        }
        let builder = &mut self.builder;
        let row = state.complete_snapshot(explicit, time, &mut |stamp, mapping| {
            builder.change(stamp, mapping);
        });
        self.builder.session(&row);
        self.commit(number);
    }

    /// The router goes on in another shard's file.
    pub(super) fn shift(&mut self, number: u8) {
        let shard = self.shards.entry(router(number)).or_default();
        *shard = (*shard + 1) % 3;
    }

    /// A router with so many entries.
    pub(super) fn table_of(&mut self, number: u8, entries: u32) {
        self.begin(number, 0);
        for label in 0..entries {
            self.say(number, 16 + label, 100, 0);
        }
    }

    pub(super) fn change_of(&mut self, number: u8) {
        let out = 100 + self.ordinal;
        self.say(number, 16 + self.ordinal % 20, out, 300);
    }

    /// One change, and an hour passes.
    pub(super) fn quiet_hour(&mut self) {
        self.change_of(1);
        self.pass_hours(1);
    }

    /// A bit of everything, each hour.
    pub(super) fn busy_hours(&mut self, hours: u32) {
        for hour in 0..hours {
            for number in 1..=3 {
                self.begin(number, i64::from(hour));
                for label in 0..20 {
                    self.say(number, 16 + label, 30 + hour, 700);
                }
                self.say(number, 17, 0, 50);
                self.snapshot(number, 30, number == 1);
            }
            let key = swap(20, 1, 0).key();
            let reason = Reason::Rejected(crate::row::Cause::NhlfeInvalid);
            let start = self.time;
            self.event(2, SessionEvent::Gap { start, scope: Scope::Entry(key), reason });
            self.lose(3, 5_000);
            self.pass_hours(1);
        }
    }

    /// Damages the last block but `back` of the newest file.
    pub(super) fn break_a_block(&mut self, back: usize) {
        let mut bytes = std::fs::read(&self.last_path).unwrap();
        let magic = crate::log::layout::MAGIC;
        let begins: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&magic)).collect();
        let at = begins[begins.len() - 1 - back] + 70;
        bytes[at] ^= 0xff;
        std::fs::write(&self.last_path, &bytes).unwrap();
    }

    /// Takes the last bytes off the newest file.
    pub(super) fn tear(&mut self, count: usize) -> Vec<u8> {
        let bytes = std::fs::read(&self.last_path).unwrap();
        let (kept, torn) = bytes.split_at(bytes.len() - count);
        std::fs::write(&self.last_path, kept).unwrap();
        torn.to_vec()
    }

    /// Puts them back.
    pub(super) fn mend(&mut self, torn: Vec<u8>) {
        let mut file = OpenOptions::new().append(true).open(&self.last_path).unwrap();
        file.write_all(&torn).unwrap();
    }
}
