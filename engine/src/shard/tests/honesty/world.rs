//! One network's life: what happens in it, what its routers say of it, and the collector that hears
//! them.
//!
//! In:   a seed.
//! Out:  a data folder, and all that is true of the time that it is about.
//! Law:  the collector is the pure shard with the real log; nothing reaches it but bytes.
//! Not:  what is asked afterwards (`judge`).

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::log::layout::LOCK_FILE;
use storage::log::state::{Cover, RoundLimits, round};
use storage::log::{BlockBuilder, Filter, LogFile};
use storage::mapping::Key;
use storage::row::{Reason, Row};
use storage::time::Micros;

use super::super::{Bench, START, empty};
use super::speaker::{Manner, Said, Session, Speaker, Speech};
use super::tables;
use super::truth::{self, LabelFor, Table, Truth};
use crate::io::ConnectionId;
use crate::memory::{Budget, Memory};
use crate::policy::Policy;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::shard::{Shard, ShardSettings};
use crate::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType};
use crate::wire::hello::write_hello;
use crate::wire::{Hello, SnapshotMark};

/// Entries that one frame shows at most.
const FRAME_ENTRIES_MAX: usize = 12;

/// A network, its collector, and what is true.
pub(super) struct World {
    pub(super) chance: ChaCha8Rng,
    pub(super) truth: Truth,
    pub(super) speakers: Vec<Speaker>,
    pub(super) bench: Bench,
    /// What every router's table is to become: some are slower than others.
    wanted: Vec<Table>,
    /// Whether nothing is hidden and nothing goes wrong.
    pub(super) is_plain: bool,
    /// When everybody has spoken once.
    pub(super) told: Micros,
    lock: Option<File>,
    connections: u64,
}

fn settings() -> Settings {
    let sessions_per_minute_max = 1_000_000;
    Settings { sessions_per_minute_max, rejected_budget: 1_000_000, ..Settings::default() }
}

fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let is_plain = chance.random_bool(0.2);
        let mut truth = truth::generate(&mut chance, is_plain);
        let wanted = tables::build(&mut truth);
        let mut bench = Bench::with(|settings| {
            settings.sessions_per_minute_max = 1_000_000;
            settings.rejected_budget = 1_000_000;
        });
        bench.data = folder();
        let mut world = World {
            speakers: Vec::new(),
            chance,
            truth,
            bench,
            wanted,
            is_plain,
            told: START,
            lock: None,
            connections: 0,
        };
        world.hold_lock();
        for router in 0..world.truth.ids.len() {
            let speaker = world.speaker(router);
            world.speakers.push(speaker);
        }
        world.wanted = tables::build(&mut world.truth);
        (0..world.truth.ids.len()).for_each(|router| world.install(router));
        world
    }

    fn hold_lock(&mut self) {
        let file = File::create(self.bench.data.path().join(LOCK_FILE)).expect("a file");
        file.lock().expect("the lock is free");
        self.lock = Some(file);
    }

    fn speaker(&mut self, router: usize) -> Speaker {
        let chance = &mut self.chance;
        let plain = self.is_plain;
        let manner = match chance.random_range(0..10) {
            _ if plain => Manner::Framed { acks: false },
            0..4 => Manner::Framed { acks: false },
            4..7 => Manner::Framed { acks: true },
            7 => Manner::OnDemand,
            8 => Manner::Documents,
            _ => Manner::Changes,
        };
        let skews = [0, 0, 0, 5_000_000, -5_000_000, 1_800_000_000, -300_000_000];
        let skew_us = if plain { 0 } else { skews[chance.random_range(0..skews.len())] };
        let is_faulty = !plain && chance.random_bool(0.4);
        let faults = if is_faulty { chance.random_range(0.0..0.05) } else { 0.0 };
        Speaker {
            id: self.truth.ids[router],
            manner,
            skew_us,
            knows_times: plain || chance.random_bool(0.8),
            faults,
            boot: START.offset(-1_000_000_000 - router as i64),
            sequence: 0,
            session: None,
            queue: Vec::new(),
            kept: Vec::new(),
            dropped: Vec::new(),
            read: None,
            read_counted: None,
            table: Table::new(),
            past: Default::default(),
            has_spoken: false,
        }
    }

    pub(super) fn now(&self) -> Micros {
        self.bench.now.wall
    }

    /// The router's table becomes what routing wants it to be.
    fn install(&mut self, router: usize) {
        let now = self.now();
        let speaker = &mut self.speakers[router];
        let changed = speaker.past.change(now, &speaker.table, &self.wanted[router]);
        speaker.table = self.wanted[router].clone();
        let stays_silent = matches!(speaker.manner, Manner::Framed { .. });
        let hides = speaker.manner == Manner::Changes && !speaker.has_spoken;
        for (key, index) in changed {
            if (stays_silent && speaker.session.is_none()) || hides {
                let evidence = speaker.read.unwrap_or(Micros::MIN);
                speaker.past.lose(key, index, evidence, now);
            } else {
                speaker.queue.push((key, index));
            }
        }
        if hides && speaker.manner == Manner::Changes {
            speaker.has_spoken = true;
        }
    }

    /// The whole life.
    pub(super) fn live(&mut self, mut look: impl FnMut(&mut World)) {
        let steps = self.chance.random_range(20..50);
        let is_gradual = !self.is_plain && self.chance.random_bool(0.3);
        for router in 0..self.speakers.len() {
            self.bench.pass(1_000);
            match is_gradual {
                true => self.speak(router),
                false => self.speak_all(router),
            }
        }
        self.told = self.now();
        for step in 0..steps {
            self.pass();
            self.happen();
            let mut spoken = BTreeSet::new();
            for router in 0..self.speakers.len() {
                if self.chance.random_bool(0.5) && spoken.insert(router) {
                    self.speak(router);
                }
            }
            if step % 16 == 9 {
                self.bench.settle();
                look(self);
            }
        }
        self.rest();
        self.bench.settle();
    }

    fn pass(&mut self) {
        let us = match self.chance.random_range(0..10) {
            0 => self.chance.random_range(30_000_000..200_000_000),
            1 | 2 => self.chance.random_range(100_000..3_000_000),
            _ => self.chance.random_range(200..60_000),
        };
        self.bench.pass(us);
        self.bench.turn();
    }

    /// Something happens in the network, or to the collector.
    fn happen(&mut self) {
        let routers = self.speakers.len();
        let router = self.chance.random_range(0..routers);
        match self.chance.random_range(0..12) {
            0..3 => {
                let link = self.chance.random_range(0..self.truth.links.len());
                self.truth.links[link].is_up = !self.truth.links[link].is_up;
            }
            3 => {
                let mut chance = self.chance.clone();
                self.truth.give_anew(router, &mut chance);
                self.chance = chance;
            }
            4 => self.toggle_prefix(router),
            5 if !self.is_plain => self.break_session(router),
            6 if !self.is_plain && self.chance.random_bool(0.25) => self.restart(),
            7 if !self.is_plain && self.chance.random_bool(0.5) => {
                let steps = [-60_000_000, 2_000_000, 600_000_000, -7_000_000];
                let step = steps[self.chance.random_range(0..steps.len())];
                self.speakers[router].skew_us += step;
            }
            8 => self.make_states(),
            _ => {}
        }
        self.wanted = tables::build(&mut self.truth);
        for router in 0..routers {
            if self.chance.random_bool(0.7) {
                self.install(router);
            }
        }
    }

    fn toggle_prefix(&mut self, router: usize) {
        let vrfs = self.truth.vrfs.len();
        if vrfs > 0 && self.chance.random_bool(0.5) {
            let vrf = self.chance.random_range(0..vrfs);
            let prefix = truth::prefix("10.1.2.0/24");
            for site in self.truth.vrfs[vrf].sites.iter_mut().filter(|it| it.router == router) {
                let had = site.prefixes.len();
                site.prefixes.retain(|it| *it != prefix);
                if site.prefixes.len() == had {
                    site.prefixes.push(prefix);
                }
            }
            return;
        }
        let discard = (router, truth::prefix(&format!("10.{}.9.0/24", 100 + router)));
        let had = self.truth.discards.len();
        self.truth.discards.retain(|it| *it != discard);
        if self.truth.discards.len() == had {
            self.truth.discards.push(discard);
        }
    }

    /// Everybody says what there is to say.
    fn rest(&mut self) {
        for router in 0..self.speakers.len() {
            self.install(router);
        }
        for _ in 0..2 {
            for router in 0..self.speakers.len() {
                self.bench.pass(1_000);
                self.speakers[router].faults = 0.0;
                if self.speakers[router].session.is_some() || self.chance.random_bool(0.6) {
                    self.speak_all(router);
                }
            }
        }
    }

    fn speak_all(&mut self, router: usize) {
        for _ in 0..64 {
            let speaker = &self.speakers[router];
            let shows = speaker.session.as_ref().is_some_and(|it| it.to_show.is_some());
            let is_done = speaker.has_spoken && speaker.queue.is_empty() && !shows;
            if is_done
                && (speaker.session.is_some() || !matches!(speaker.manner, Manner::Framed { .. }))
            {
                return;
            }
            self.speak(router);
        }
    }

    /// One router says something, if it has something to say.
    fn speak(&mut self, router: usize) {
        match self.speakers[router].manner {
            Manner::Framed { .. } if self.speakers[router].session.is_some() => self.go_on(router),
            Manner::Framed { acks } => self.connect(router, true, acks),
            Manner::OnDemand => {
                let speaker = &self.speakers[router];
                if speaker.has_spoken && speaker.queue.is_empty() {
                    return;
                }
                self.connect(router, false, false);
                while self.speakers[router].session.as_ref().is_some_and(|it| it.to_show.is_some())
                    || !self.speakers[router].queue.is_empty()
                {
                    self.go_on(router);
                }
                self.say_bye(router);
            }
            Manner::Documents | Manner::Changes => self.documents(router),
        }
    }

    fn connect(&mut self, router: usize, permanent: bool, acks: bool) {
        self.connections += 1;
        let peer = format!("10.255.{router}.1:{}", 1_024 + self.connections % 60_000);
        let connection = self.bench.connect(self.connections, &peer);
        let now = self.now();
        let interfaces = self.truth.interfaces(router);
        let speaker = &mut self.speakers[router];
        // On demand, the first session shows everything, and later ones what has changed.
        let snapshot = permanent || !speaker.has_spoken;
        let fresh = speaker.sequence + 1;
        let first = speaker.kept.first().map_or(fresh, |kept| kept.sequence);
        let hello = Hello {
            router: speaker.id,
            boot_time: speaker.boot,
            sequence_first: first,
            sequence_fresh: fresh,
            permanent,
            acks,
            snapshot,
            clock: speaker.clock(now),
            interfaces,
            agent: "model".into(),
        };
        let mut text = String::new();
        write_hello(&hello, &mut text);
        let mut bytes = Vec::new();
        let (codec, flags) = (Codec::None, FrameFlags::NONE);
        let mut encoder = FrameEncoder::new(1);
        encoder.frame(FrameType::Hello, codec, flags, 0, text.as_bytes(), &mut bytes);
        self.bench.send(connection, &bytes);
        let speaker = &mut self.speakers[router];
        speaker.has_spoken = true;
        speaker.read_counted = speaker.read;
        speaker.read = Some(now);
        if snapshot {
            speaker.queue.clear();
        }
        let to_show = snapshot.then(|| speaker.table.keys().copied().collect());
        speaker.session = Some(Session {
            connection,
            to_show,
            begun: now,
            mentioned: BTreeSet::new(),
            shown: BTreeSet::new(),
            gone: BTreeSet::new(),
            is_clean: true,
            lacks_frames: false,
        });
        let kept = std::mem::take(&mut speaker.kept);
        for speech in kept {
            self.deliver(router, speech, false);
        }
        if let Some(session) = &mut self.speakers[router].session {
            // Frames that are sent again belong to no snapshot.
            session.mentioned.clear();
            session.shown.clear();
            session.gone.clear();
        }
    }

    /// The next words of an open session.
    fn go_on(&mut self, router: usize) {
        if self.chance.random_bool(0.1) {
            self.keep_alive(router);
        }
        self.say_changes(router);
        let Some(session) = &mut self.speakers[router].session else { return };
        let Some(to_show) = &mut session.to_show else { return };
        let count = self.chance.random_range(1..=FRAME_ENTRIES_MAX).min(to_show.len());
        let keys: Vec<Key> = to_show.drain(..count).collect();
        let begun = session.begun;
        let is_last = to_show.is_empty();
        let speaker = &self.speakers[router];
        let there = keys.into_iter().filter(|key| speaker.table.contains_key(key));
        let events: Vec<(Key, usize, Micros)> = there
            .filter_map(|key| speaker.past.latest(&key).map(|index| (key, index)))
            .map(|(key, index)| (key, index, speaker.time_of(&key, index, begun)))
            .collect();
        let mut chance = self.chance.clone();
        let (text, said) = speaker.document(SnapshotMark::None, &events, &mut chance);
        let speech = self.speakers[router].frame(true, &text, said, &mut chance);
        self.chance = chance;
        self.deliver(router, speech, true);
        if is_last {
            self.end_snapshot(router);
        }
    }

    fn say_changes(&mut self, router: usize) {
        let speaker = &mut self.speakers[router];
        let queue = std::mem::take(&mut speaker.queue);
        for some in queue.chunks(FRAME_ENTRIES_MAX) {
            let speaker = &self.speakers[router];
            let clock = |key: &Key, index: usize| {
                let happened = speaker.past.events[key][index].happened;
                speaker.clock(happened)
            };
            let events: Vec<(Key, usize, Micros)> =
                some.iter().map(|(key, index)| (*key, *index, clock(key, *index))).collect();
            let mut chance = self.chance.clone();
            let (text, said) = speaker.document(SnapshotMark::None, &events, &mut chance);
            let speech = self.speakers[router].frame(false, &text, said, &mut chance);
            self.chance = chance;
            let drops = self.speakers[router].faults > 0.0 && self.chance.random_bool(0.03);
            if drops {
                self.speakers[router].dropped.extend(speech.said);
            } else {
                self.deliver(router, speech, false);
            }
        }
    }

    /// The collector reads a frame.
    fn deliver(&mut self, router: usize, speech: Speech, is_part: bool) {
        let now = self.now();
        let speaker = &mut self.speakers[router];
        let Some(session) = &mut speaker.session else { return };
        let connection = session.connection;
        let counted = speaker.read_counted.unwrap_or(now);
        let dropped = std::mem::take(&mut speaker.dropped);
        if !dropped.is_empty() {
            session.lacks_frames = true;
            session.is_clean = false;
        }
        for said in dropped {
            speaker.past.lose(said.key, said.index, counted, now);
        }
        for said in &speech.said {
            if !said.hides_key {
                session.mentioned.insert(said.key);
            }
            session.is_clean &= !speech.is_damaged && !said.hides_key;
            if speech.is_damaged || said.is_garbled {
                // Of what hides its key nobody knows that it is about this one.
                if !said.hides_key {
                    session.shown.remove(&said.key);
                }
                speaker.past.lose(said.key, said.index, counted, now);
            } else {
                let is_there = speaker.past.events[&said.key][said.index].entry.is_some();
                let (now_in, now_out) = match is_there {
                    true => (&mut session.shown, &mut session.gone),
                    false => (&mut session.gone, &mut session.shown),
                };
                if is_there || speaker.past.is_told(&said.key) {
                    now_in.insert(said.key);
                }
                now_out.remove(&said.key);
                speaker.past.tell(said.key, said.index, said.clock, now);
                if is_part {
                    speaker.past.mention(said.key, session.begun);
                }
            }
        }
        session.lacks_frames |= speech.is_damaged;
        speaker.read = Some(now);
        speaker.read_counted = Some(now);
        let is_kept = matches!(speaker.manner, Manner::Framed { acks: true });
        if is_kept {
            speaker.kept.push(speech.clone());
        }
        self.bench.send(connection, &speech.bytes);
        self.forget_acked(router);
    }

    fn forget_acked(&mut self, router: usize) {
        let speaker = &mut self.speakers[router];
        let Some(session) = &speaker.session else { return };
        if let Some(acked) = self.bench.acked.get(&session.connection) {
            speaker.kept.retain(|kept| kept.sequence > *acked);
        }
    }

    fn end_snapshot(&mut self, router: usize) {
        let now = self.now();
        let speaker = &mut self.speakers[router];
        speaker.sequence += 1;
        let sequence = speaker.sequence;
        let bytes = empty(FrameType::SnapshotComplete, sequence);
        let is_kept = matches!(speaker.manner, Manner::Framed { acks: true });
        let Some(session) = &mut speaker.session else { return };
        let connection = session.connection;
        session.to_show = None;
        if !speaker.dropped.is_empty() {
            session.is_clean = false;
            session.lacks_frames = true;
            let counted = speaker.read_counted.unwrap_or(now);
            for said in std::mem::take(&mut speaker.dropped) {
                speaker.past.lose(said.key, said.index, counted, now);
            }
        }
        let mentioned = std::mem::take(&mut session.mentioned);
        if session.is_clean {
            speaker.past.sweep(session.begun, now, &mentioned);
            speaker.past.show(session.begun, &session.gone);
        } else {
            speaker.past.lack(now, &mentioned);
        }
        if !session.lacks_frames {
            speaker.past.show(session.begun, &session.shown);
        }
        speaker.read = Some(now);
        speaker.read_counted = Some(now);
        if is_kept {
            let said = Vec::new();
            let is_damaged = false;
            speaker.kept.push(Speech { bytes: bytes.clone(), said, sequence, is_damaged });
        }
        self.bench.send(connection, &bytes);
        self.forget_acked(router);
    }

    fn keep_alive(&mut self, router: usize) {
        let now = self.now();
        let speaker = &mut self.speakers[router];
        let Some(session) = &speaker.session else { return };
        speaker.read = Some(now);
        self.bench.send(session.connection, &empty(FrameType::Keepalive, 0));
    }

    fn say_bye(&mut self, router: usize) {
        let Some(session) = self.speakers[router].session.take() else { return };
        self.speakers[router].read = Some(self.now());
        self.bench.send(session.connection, &empty(FrameType::Bye, 0));
        self.bench.end(session.connection, Reason::ClosedByRouter);
    }

    /// The session ends, and not in order; what waits to be said is not said.
    fn break_session(&mut self, router: usize) {
        let Some(session) = &self.speakers[router].session else { return };
        let connection = session.connection;
        let reason = match self.chance.random_bool(0.5) {
            true => Reason::ConnectionLost,
            false => Reason::ClosedByRouter,
        };
        if reason == Reason::ClosedByRouter {
            self.speakers[router].read = Some(self.now());
        }
        self.bench.end(connection, reason);
        self.forget_acked(router);
        self.lose_session(router);
    }

    fn lose_session(&mut self, router: usize) {
        let now = self.now();
        let speaker = &mut self.speakers[router];
        speaker.session = None;
        let evidence = speaker.read.unwrap_or(now);
        for (key, index) in std::mem::take(&mut speaker.queue) {
            speaker.past.lose(key, index, evidence, now);
        }
        // Nobody has seen yet that a sequence is missing.
        for said in std::mem::take(&mut speaker.dropped) {
            speaker.past.lose(said.key, said.index, evidence, now);
        }
        if !matches!(speaker.manner, Manner::Framed { acks: true }) {
            speaker.kept.clear();
        }
    }

    /// A connection with documents, closed in order.
    fn documents(&mut self, router: usize) {
        let speaker = &mut self.speakers[router];
        let is_first = !speaker.has_spoken;
        let whole =
            speaker.manner == Manner::Documents && (is_first || self.chance.random_bool(0.2));
        if speaker.queue.is_empty() && !whole {
            return;
        }
        self.connections += 1;
        let peer = format!("10.255.{router}.1:{}", 1_024 + self.connections % 60_000);
        let connection = self.bench.connect(self.connections, &peer);
        let now = self.now();
        let speaker = &mut self.speakers[router];
        speaker.has_spoken = true;
        if whole && is_first {
            speaker.queue.clear();
        }
        let queue: Vec<(Key, usize)> = std::mem::take(&mut speaker.queue);
        if !queue.is_empty() {
            let events: Vec<(Key, usize, Micros)> = queue
                .iter()
                .map(|(key, index)| {
                    let happened = speaker.past.events[key][*index].happened;
                    (*key, *index, speaker.clock(happened))
                })
                .collect();
            self.say_document(router, connection, SnapshotMark::None, &events);
        }
        if whole {
            let speaker = &self.speakers[router];
            let events: Vec<(Key, usize, Micros)> = speaker
                .table
                .keys()
                .filter_map(|key| speaker.past.latest(key).map(|index| (*key, index)))
                .map(|(key, index)| (key, index, speaker.time_of(&key, index, now)))
                .collect();
            let said = self.say_document(router, connection, SnapshotMark::Whole, &events);
            let past = &mut self.speakers[router].past;
            let named = said.iter().filter(|said| !said.hides_key);
            let mentioned = named.map(|said| said.key).collect();
            match said.iter().any(|said| said.hides_key) {
                true => past.lack(now, &mentioned),
                false => past.sweep(now, now, &mentioned),
            }
            let shown = said.iter().filter(|said| !said.is_garbled).map(|said| said.key);
            past.show(now, &shown.collect());
        }
        self.bench.end(connection, Reason::ClosedByRouter);
    }

    fn say_document(
        &mut self,
        router: usize,
        connection: ConnectionId,
        mark: SnapshotMark,
        events: &[(Key, usize, Micros)],
    ) -> Vec<Said> {
        let now = self.now();
        let mut chance = self.chance.clone();
        let speaker = &self.speakers[router];
        let (text, said) = speaker.document(mark, events, &mut chance);
        self.chance = chance;
        self.bench.send(connection, text.as_bytes());
        let speaker = &mut self.speakers[router];
        let evidence = speaker.read.unwrap_or(now);
        for Said { key, index, clock, is_garbled, .. } in &said {
            match is_garbled {
                true => speaker.past.lose(*key, *index, evidence, now),
                false => speaker.past.tell(*key, *index, *clock, now),
            }
        }
        speaker.read = Some(now);
        said
    }

    /// The collector goes, in order or not, and comes again.
    fn restart(&mut self) {
        if self.chance.random_bool(0.5) {
            self.bench.shard.stop(self.bench.now);
            self.bench.turn();
        } else {
            // What was written is there.
            self.bench.settle();
        }
        for router in 0..self.speakers.len() {
            self.forget_acked(router);
            if self.speakers[router].session.is_some() {
                self.lose_session(router);
            }
        }
        self.lock = None;
        self.pass_without_collector();
        self.hold_lock();
        let now = self.bench.now;
        let data = self.bench.data.path().to_owned();
        let recovered = storage::recovery::open(&data, now.wall).expect("the folder is whole");
        let (mut builder, mut block) = (BlockBuilder::new(0), Vec::new());
        recovered.rows.iter().for_each(|row| builder.session(row));
        builder.finish(&mut block);
        append(&data, now.wall, &block);
        let registry = Arc::new(Registry::new(recovered.routers));
        let budget = Budget::of_surge(1 << 30);
        let memory = Arc::new(Memory::new(budget));
        memory.park(registry.parked_bytes());
        let of_shard = ShardSettings::new(&settings(), 0, &budget);
        self.bench.shard = Shard::new(of_shard, registry, memory, Arc::new(Policy::default()));
        self.bench.hour = None;
        self.bench.unsynced.clear();
        self.bench.sync_asked = false;
        self.bench.turn();
    }

    fn pass_without_collector(&mut self) {
        self.bench.now.monotonic_us += 2_000_000;
        self.bench.now.wall = self.bench.now.wall.offset(2_000_000);
    }

    /// The log as it is becomes states, of some routers.
    fn make_states(&mut self) {
        self.bench.settle();
        let rows_min = self.chance.random_range(1..60);
        let limits = RoundLimits { rows_min, memory_bytes: 1, ..RoundLimits::default() };
        let cover = |_: &LogFile, _: &[LogFile]| Some(Cover::Whole);
        round(self.bench.data.path(), &cover, &limits, &mut || true).expect("states are made");
    }

    /// Every row of the log.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let filter = Filter { changes: true, sessions: true, ledger: true, ..Filter::NONE };
        let read = storage::log::read(self.bench.data.path(), &filter, &mut |row| rows.push(row));
        read.expect("the log is whole");
        rows
    }

    /// The true tables at an instant, as far as can be known at `asked`.
    pub(super) fn tables(&self, at: Micros, asked: Micros) -> Vec<Table> {
        self.speakers.iter().map(|speaker| speaker.past.table(at, asked)).collect()
    }

    /// Keys of a router of which either of two answers is right.
    pub(super) fn vague(&self, router: usize, at: Micros) -> BTreeSet<Key> {
        self.speakers[router].past.vague(at)
    }

    /// Instants at which something changes, as far as can be known at `asked`.
    pub(super) fn instants(&self, asked: Micros) -> Vec<Micros> {
        let events = self.speakers.iter().flat_map(|it| it.past.events.values().flatten());
        let mut instants: Vec<Micros> = events
            .flat_map(|event| {
                let told = event.told.filter(|told| told.0 <= asked).map(|told| told.1);
                let lost = event.lost.filter(|lost| lost.1 <= asked).map(|lost| lost.0);
                [told, lost, Some(event.happened)].into_iter().flatten()
            })
            .filter(|time| *time <= asked && *time >= START)
            .collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// A label that the router gives or may have given.
    pub(super) fn some_label(&mut self, router: usize) -> u32 {
        let to = self.chance.random_range(0..self.truth.ids.len());
        match self.chance.random_range(0..4) {
            0 => self.chance.random_range(0..50),
            1 if !self.truth.vrfs.is_empty() => self.truth.label(router, LabelFor::Vrf(0)),
            2 if !self.truth.trees.is_empty() => self.truth.label(router, LabelFor::Tree(0)),
            _ => self.truth.label(router, LabelFor::Router(to)),
        }
    }
}

fn append(data: &std::path::Path, now: Micros, block: &[u8]) {
    let path = storage::log::log_path(data, now.hour(), 0);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    std::io::Write::write_all(&mut file, block).expect("room");
}

/// Keys that no router of the model has.
pub(super) fn absent_keys() -> VecDeque<Key> {
    let texts = ["ip:203.0.113.7/32", "ip:10.1.0.0/16,1099", "vrf:192.0.2.1,65000:9"];
    texts.iter().map(|text| Key::Ftn(text.parse().expect("a FEC"))).collect()
}
