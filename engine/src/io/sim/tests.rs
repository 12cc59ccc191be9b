//! Hundreds of seeded worlds: whatever breaks, what was acknowledged is there.

use std::collections::BTreeSet;

use storage::log::{Filter, verify};
use storage::mapping::{Key, Label, Mapping};
use storage::router::RouterState;
use storage::row::{Basis, Change, ChangeKind, Position, Row, Scope, SessionEvent};

use super::*;

/// Turns of one world before everything calms down.
const TURNS: usize = 800;

fn settings(seed: u64) -> Settings {
    let mut settings = Settings { sessions_per_minute_max: 1_000_000, ..Settings::default() };
    settings.memory_bytes = 1 << 30;
    settings.rejected_budget = 1_000_000;
    if seed.is_multiple_of(3) {
        // So little that sessions are paused and blocks fill up all the time.
        settings.memory_bytes = 4_096;
        settings.commit_bytes = 1_024;
    }
    settings
}

fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

/// Entries of a table by key, times left out: what forwards packets.
fn entries<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> BTreeMap<Key, Option<Label>> {
    mappings.map(|mapping| (mapping.key(), value(mapping))).collect()
}

fn value(mapping: &Mapping) -> Option<Label> {
    mapping.branches.first().and_then(|branch| branch.stack.first()).copied()
}

fn table(state: &RouterState) -> BTreeMap<Key, Option<Label>> {
    let mappings: Vec<Mapping> = state.table.iter().map(|entry| entry.mapping()).collect();
    entries(mappings.iter())
}

/// Recovery begins with states: it must find what all rows of the log say.
fn check_states(sim: &Sim, recovered: &Recovered) -> Result<(), String> {
    let whole = storage::recovery::fold_whole_log(&sim.data).map_err(|error| error.to_string())?;
    if !whole.keys().eq(recovered.routers.keys()) {
        return Err("states and log know other routers".to_owned());
    }
    for (router, mut state) in whole {
        let rows = recovered.rows.iter().filter(|row| row.router == router);
        rows.for_each(|row| state.replay_session(row));
        let (found, due) = (essence(&recovered.routers[&router]), essence(&state));
        if found != due {
            return Err(format!("{router}: by its state {found}\nby the whole log {due}"));
        }
    }
    Ok(())
}

fn essence(state: &RouterState) -> String {
    let mut entries: Vec<_> = state.table.iter().collect();
    entries.sort_by_key(|entry| entry.key());
    let entry = |entry: &storage::table::EntryRef<'_>| {
        let times = (entry.active_since(), entry.changed(), entry.unconfirmed_since());
        format!("{times:?} {:?}", entry.mapping())
    };
    let entries: Vec<String> = entries.iter().map(entry).collect();
    let RouterState { position, boot_time, sequence_last, last_evidence, gaps, .. } = state;
    let RouterState { session, ended, complete, name, interfaces_announced, .. } = state;
    format!(
        "{position:?} {boot_time:?} {sequence_last} {last_evidence:?} {gaps:?} \
         {session:?} {ended:?} {complete:?} {name} {interfaces_announced:?} {entries:#?}"
    )
}

/// What must be true of a log that a crash has left.
fn check_recovered(sim: &Sim, recovered: &Recovered) -> Result<(), String> {
    check_states(sim, recovered)?;
    for sender in &sim.senders {
        let Some(state) = recovered.routers.get(&sender.router) else {
            if sender.made.iter().any(|made| made.acked) {
                return Err(format!("{}: acknowledged, and nothing is there", sender.router));
            }
            continue;
        };
        let found = table(state);
        let truth = entries(sender.truth.values());
        let mut last: BTreeMap<Key, &Made> = BTreeMap::new();
        for made in &sender.made {
            last.insert(made.key, made);
        }
        for (key, made) in &last {
            let found = found.get(key).copied().flatten();
            if made.acked && !sim.corrupts && found != made.label {
                let router = sender.router;
                return Err(format!("{router} {key}: acked {:?}, found {found:?}", made.label));
            }
        }
        let is_known = state.gaps.router.is_none();
        if sender.manner != Manner::Bare && is_known && found != truth {
            return Err(format!("{}: vouched for, and not the truth", sender.router));
        }
    }
    Ok(())
}

/// What one row says of its key: what happened, how that is known, and the value after it.
type Told = (ChangeKind, Basis, Option<Label>);

/// What the log says of one router, in the order of the router's rows.
#[derive(Default)]
struct Written {
    /// Every value, and the first row that was made when it happened (not shown by a snapshot).
    values: BTreeMap<(Key, Option<Label>), Option<Position>>,
    /// The same of each key by place: the value after it, and how that is known.
    places: BTreeMap<Key, BTreeMap<Position, Told>>,
    gaps: BTreeSet<Position>,
}

fn written(data: &Path) -> Result<BTreeMap<RouterId, Written>, String> {
    let mut routers: BTreeMap<RouterId, Written> = BTreeMap::new();
    let filter = Filter { changes: true, sessions: true, ..Filter::NONE };
    storage::log::read(data, &filter, &mut |row| match row {
        Row::Change(Change { stamp, mapping }) => {
            let written = routers.entry(stamp.router).or_default();
            let live = (stamp.basis == Basis::Live).then_some(stamp.position);
            let first = written.values.entry((mapping.key(), value(&mapping))).or_insert(live);
            *first = first.or(live).min(live.or(*first));
            let told = (stamp.kind, stamp.basis, value(&mapping));
            written.places.entry(mapping.key()).or_default().insert(stamp.position, told);
        }
        Row::Session(row)
            if matches!(row.event, SessionEvent::Gap { scope: Scope::Router, .. }) =>
        {
            routers.entry(row.router).or_default().gaps.insert(row.position);
        }
        Row::Session(_) | Row::Ledger(_) | Row::Kernel(_) => {}
    })
    .map_err(|error| error.to_string())?;
    Ok(routers)
}

/// What must be true at the very end: nothing that was acknowledged is missing in the log, and
/// where a change is missing that was not acknowledged, there is a gap.
fn check_log(sim: &Sim, data: &Path, faultless: bool) -> Result<(), String> {
    let report = verify(data).map_err(|error| error.to_string())?;
    if let Some(fault) = report.faults.first() {
        return Err(format!("{} faults, the first: {fault:?}", report.faults_count));
    }
    let routers = written(data)?;
    // What a bare sender says on two connections has no order of its own.
    for sender in sim.senders.iter().filter(|sender| sender.manner != Manner::Bare) {
        let Some(written) = routers.get(&sender.router) else { continue };
        check_order(sender, written).map_err(|why| format!("{}: {why}", sender.router))?;
    }
    // A damaged frame is acknowledged when the gap that it leaves is durable.
    for sender in sim.senders.iter().filter(|_| faultless) {
        let Some(written) = routers.get(&sender.router) else { continue };
        for (index, made) in sender.made.iter().enumerate() {
            let found = written.values.contains_key(&(made.key, made.label));
            if found || made.label.is_none() {
                continue;
            }
            if made.acked {
                return Err(format!("{}: acknowledged and lost: {made:?}", sender.router));
            }
            if sender.manner != Manner::Bare && !lies_in_a_gap(sender, index, written) {
                return Err(format!(
                    "{}: neither in the log nor in a gap: {made:?}",
                    sender.router
                ));
            }
        }
    }
    Ok(())
}

/// No value comes twice or after a later one, however often its frame is sent; and only the end
/// of a snapshot that lacked an entry has withdrawn it.
fn check_order(sender: &Sender, written: &Written) -> Result<(), String> {
    for (key, places) in &written.places {
        let mut newest = None;
        for (place, (kind, basis, label)) in places {
            if label.is_some() && *label <= newest {
                return Err(format!("{key}: at {place:?} {label:?} comes after {newest:?}"));
            }
            newest = newest.max(*label);
            let lacked =
                |end: &(u64, BTreeSet<Key>)| end.0 == place.sequence && !end.1.contains(key);
            let swept = (*kind, *basis) == (ChangeKind::Withdrawn, Basis::Swept);
            if swept && !sender.ends.iter().any(lacked) {
                return Err(format!("{key}: swept at {place:?}, and no snapshot lacked it"));
            }
        }
    }
    Ok(())
}

/// Whether a gap row stands between the changes before and after this one that were written as
/// they happened. Before the first of those nothing has ever been vouched for.
fn lies_in_a_gap(sender: &Sender, index: usize, written: &Written) -> bool {
    let live = |made: &Made| {
        let place = written.values.get(&(made.key, made.label)).copied().flatten();
        // A withdrawal is no value of its own: the same key is withdrawn again and again.
        place.filter(|_| made.label.is_some())
    };
    let (before, after) = sender.made.split_at(index);
    let Some(before) = before.iter().rev().find_map(live) else { return true };
    let after = after.iter().find_map(live);
    written.gaps.range(before..).next().is_some_and(|gap| after.is_none_or(|after| *gap < after))
}

/// One turn; after a crash, a new collector on what the old one has left.
fn advance(sim: &mut Sim) -> Result<(), String> {
    if sim.turn()? {
        let shards = sim.any_shards();
        let recovered = sim.start(shards)?;
        check_recovered(sim, &recovered)?;
    }
    Ok(())
}

/// Turns until everybody has said everything.
fn settle(sim: &mut Sim) -> Result<(), String> {
    sim.calm();
    let mut quiet = 0;
    for _ in 0..60_000 {
        advance(sim)?;
        quiet = if sim.is_quiet() { quiet + 1 } else { 0 };
        // Quiet for a while: the last commit interval has passed.
        if quiet > 150 {
            return Ok(());
        }
    }
    Err("the world does not come to rest".to_owned())
}

/// At the end every table is the truth, or its router is not vouched for.
fn check_truth(sim: &Sim, recovered: &Recovered, faultless: bool) -> Result<(), String> {
    for sender in &sim.senders {
        let Some(state) = recovered.routers.get(&sender.router) else {
            return Err(format!("{} is not known", sender.router));
        };
        let (found, truth) = (table(state), entries(sender.truth.values()));
        if found == truth || (!faultless && state.gaps.router.is_some()) {
            continue;
        }
        let lacking: Vec<_> = truth.iter().filter(|it| found.get(it.0) != Some(it.1)).collect();
        let excess: Vec<_> = found.iter().filter(|it| !truth.contains_key(it.0)).collect();
        return Err(format!("{}: lacks {lacking:?}, has {excess:?}", sender.router));
    }
    Ok(())
}

const MANNERS: [Manner; 4] = [Manner::Acks, Manner::Acks, Manner::Silent, Manner::Bare];

/// One world from beginning to end; how often its collector went down.
fn run(seed: u64, faults: Faults) -> Result<u64, String> {
    let data = folder();
    let mut sim = Sim::new(seed, faults, &MANNERS, settings(seed), data.path());
    let shards = sim.any_shards();
    sim.start(shards)?;
    for _ in 0..TURNS {
        advance(&mut sim)?;
    }
    settle(&mut sim)?;
    sim.stop()?;
    let recovered = sim.start(1)?;
    if !recovered.cuts.is_empty() || !recovered.rows.is_empty() {
        return Err(format!("a stop left {:?} {:?}", recovered.cuts, recovered.rows));
    }
    let faultless = faults.corrupt == 0.0;
    check_truth(&sim, &recovered, faultless)?;
    check_log(&sim, data.path(), faultless)?;
    Ok(sim.restarts)
}

/// Runs the worlds of these seeds on every core; the sum of what they return.
fn run_all(seeds: std::ops::Range<u64>, faults: Faults) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let work = |core: u64| {
        let mine = seeds.clone().filter(|seed| seed % cores == core);
        mine.map(|seed| run(seed, faults).unwrap_or_else(|why| panic!("seed {seed}: {why}")))
            .sum::<u64>()
    };
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || work(core))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the world holds")).sum()
    })
}

#[test]
fn durable_before_acknowledged() {
    let restarts = run_all(0..500, Faults::ALL);
    assert!(restarts > 1_500, "the worlds were too kind: {restarts} restarts");
}

/// The books are compared with the buffers after every single step (`Sim::look`), here while bytes
/// arrive damaged; what is lost by that is in no table, and no table is vouched for without it.
#[test]
fn nothing_is_lost_silently() {
    let faults = Faults { corrupt: 0.01, kill: 0.0005, reset: 0.002, ..Faults::default() };
    run_all(10_000..10_060, faults);
}

/// Disks fill up all the time, and nothing else happens: every session lasts from the first byte to
/// the last, there is no gap, and everything is there.
#[test]
fn a_full_disk_loses_nothing_and_ends_no_session() {
    let faults = Faults { disk_full: 0.03, ..Faults::default() };
    for seed in 20_000..20_040 {
        let data = folder();
        let manners = [Manner::Acks, Manner::Silent, Manner::Acks];
        let mut sim = Sim::new(seed, faults, &manners, settings(seed), data.path());
        sim.start(1 + seed as usize % 3).unwrap();
        let (mut waited, mut crashed) = (0, false);
        for _ in 0..3 * TURNS {
            crashed |= sim.turn().unwrap();
            waited += u64::from(sim.waits());
        }
        settle(&mut sim).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(!crashed && waited > 0, "seed {seed}: the disk was never full");
        sim.materialise().unwrap();
        let mut initiated = BTreeSet::new();
        let filter = Filter { sessions: true, ..Filter::NONE };
        storage::log::read(data.path(), &filter, &mut |row| {
            let Row::Session(row) = row else { return };
            let word = row.event.name();
            let never = ["gap", "termination"].contains(&word);
            let again = word == "initiation" && !initiated.insert(row.router);
            assert!(!never && !again, "seed {seed}: {row:?}");
        })
        .unwrap();
        sim.stop().unwrap();
        let recovered = sim.start(1).unwrap();
        check_truth(&sim, &recovered, true).unwrap();
        check_log(&sim, data.path(), true).unwrap();
    }
}

/// Two lives of a collector; the routers send the same tables in both.
#[test]
fn a_restart_with_the_same_snapshots_costs_nothing() {
    for seed in 0..10 {
        let data = folder();
        let mut sim = Sim::new(seed, Faults::default(), &MANNERS, settings(1), data.path());
        sim.start(2).unwrap();
        for _ in 0..300 {
            advance(&mut sim).unwrap();
        }
        settle(&mut sim).unwrap();
        sim.stop().unwrap();
        let first = sim.start(1).unwrap();
        let rows_before = verify(data.path()).unwrap().change_rows;
        settle(&mut sim).unwrap();
        sim.stop().unwrap();
        let second = sim.start(3).unwrap();
        let report = verify(data.path()).unwrap();
        assert_eq!(report.change_rows, rows_before, "seed {seed}");
        assert!(report.change_rows > 0 && report.faults.is_empty());
        for (router, state) in &second.routers {
            assert_eq!(since(state), since(&first.routers[router]), "seed {seed} {router}");
            let confirmed = state.complete > first.routers[router].complete;
            assert!(confirmed, "seed {seed} {router}: no snapshot came in the second life");
        }
    }
}

fn since(state: &RouterState) -> BTreeMap<Key, Micros> {
    state.table.iter().map(|entry| (entry.key(), entry.active_since())).collect()
}
