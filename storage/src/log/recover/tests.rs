//! Tests of recovery: what is cut, what is kept, and a recovery that is lost at any step.

use std::io;

use super::*;
use crate::log::{BlockBuilder, log_path, read, verify};
use crate::mapping::RouterId;
use crate::recovery;
use crate::row::{Reason, SessionEvent, SessionRow};
use crate::time::Micros;

const HOUR: Hour = Hour(498_611);

/// A block of shard 0 that begins a commit, with one row of this generation.
fn block(generation: u32) -> Vec<u8> {
    block_of(0, generation)
}

fn block_of(shard: u16, generation: u32) -> Vec<u8> {
    let mut builder = BlockBuilder::new(shard);
    builder.all_before_is_durable();
    builder.session(&SessionRow {
        router: RouterId([192, 0, 2, 1].into()),
        position: crate::row::Position { generation, sequence: 0, index: 0 },
        time: HOUR.start(),
        event: SessionEvent::Termination { reason: Reason::Finished },
    });
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

fn write(data: &Path, hour: Hour, shard: u16, bytes: &[u8]) -> PathBuf {
    let path = log_path(data, hour, shard);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Hundreds of recoveries sync for long on a disk.
fn folder_in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

fn recover(data: &Path) -> Vec<Cut> {
    recovery::open(data, Micros(0)).unwrap().cuts
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        entries(folder).unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

#[test]
fn the_end_of_a_finished_hour_is_damaged_and_never_cut() {
    let data = tempfile::tempdir().unwrap();
    let mut first = [block(1), block(2)].concat();
    *first.last_mut().unwrap() ^= 1;
    let path = write(data.path(), HOUR, 0, &first);
    // Nothing follows yet: this may be a write that was cut short.
    assert_eq!(verify(data.path()).unwrap().faults_count, 0);
    write(data.path(), HOUR.next(), 0, &[]);
    assert!(!log_files(data.path()).unwrap()[0].sealed, "an empty file proves nothing");
    write(data.path(), HOUR.next(), 1, &block_of(1, 9));
    assert!(!log_files(data.path()).unwrap()[0].sealed, "nor does that of another shard");
    // A commit of the same shard in a later hour was written when the one before was durable.
    write(data.path(), HOUR.next(), 0, &block(3));
    let recovered = recovery::open(data.path(), Micros(0)).unwrap();
    assert_eq!(recovered.cuts, []);
    assert_eq!(recovered.report.damages.len(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), first);
    let report = verify(data.path()).unwrap();
    assert_eq!((report.faults_count, report.torn_bytes), (1, 0), "{:?}", report.faults);
    let gaps = recovered.routers.values().filter(|state| state.gaps.router.is_some()).count();
    assert_eq!(gaps, 1, "nobody knows what the damaged rows said");
}

#[test]
fn what_is_cut_is_kept_beside_it_under_a_name_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let (first, second) = (block(1), block(2));
    let torn = [&first, &second[..second.len() - 1]].concat();
    let path = write(data.path(), HOUR, 0, &torn);
    let cuts = recover(data.path());
    assert_eq!(cuts.len(), 1);
    let Cut { offset, bytes, kept, .. } = &cuts[0];
    assert_eq!((*offset as usize, *bytes as usize), (first.len(), second.len() - 1));
    assert_eq!(kept.file_name().unwrap(), "shard-0.log.1.cut");
    assert_eq!(std::fs::read(kept).unwrap(), torn[first.len()..]);
    assert_eq!(std::fs::read(&path).unwrap(), first);
    assert!(cuts[0].to_string().contains("shard-0.log.1.cut"), "{}", cuts[0]);
    assert_eq!(recover(data.path()), []);
    // The same bytes once more are no reason for a second copy; other bytes get their own.
    write(data.path(), HOUR, 0, &torn);
    assert_eq!(recover(data.path())[0].kept, *kept);
    write(data.path(), HOUR, 0, &torn[..torn.len() - 7]);
    recover(data.path());
    assert_eq!(
        names(path.parent().unwrap()),
        ["shard-0.log", "shard-0.log.1.cut", "shard-0.log.2.cut"]
    );
    // No reader takes them for log files; who verifies is told.
    assert_eq!(read(data.path(), &Default::default(), &mut |_| ()).unwrap().files, 1);
    let report = verify(data.path()).unwrap();
    assert_eq!((report.faults_count, report.cuts.len()), (0, 2));
}

#[test]
fn what_was_proven_otherwise_is_not_cut_either() {
    let data = tempfile::tempdir().unwrap();
    let (first, second) = (block(1), block(2));
    let short = [&first, &second[..second.len() - 1]].concat();
    let path = write(data.path(), HOUR, 0, &short);
    let files = log_files(data.path()).unwrap();
    // States cover both blocks: whoever took the last byte, it was no write that was cut short.
    let covered = (first.len() + second.len()) as u64;
    assert_eq!(settle_files(&files, &|_| covered, &mut Kernel).unwrap(), []);
    assert_eq!(std::fs::read(&path).unwrap(), short);
    assert_eq!(settle_files(&files, &|_| first.len() as u64, &mut Kernel).unwrap().len(), 1);
}

#[test]
fn a_file_that_is_written_again_is_no_finished_hour() {
    let data = tempfile::tempdir().unwrap();
    let torn = [&block(1), &block(2)[..9]].concat();
    let path = write(data.path(), HOUR, 0, &torn);
    let later = write(data.path(), HOUR.next(), 0, &block(3));
    assert!(super::super::is_behind(data.path(), HOUR, 0).unwrap());
    assert!(!super::super::is_behind(data.path(), HOUR.next(), 0).unwrap());
    assert!(!super::super::is_behind(data.path(), HOUR, 1).unwrap());
    std::fs::write(reopened_path(&path), "").unwrap();
    let sealed: Vec<bool> =
        log_files(data.path()).unwrap().iter().map(|file| file.sealed).collect();
    assert_eq!(sealed, [false, false]);
    assert_eq!(recover(data.path()).len(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), block(1));
    assert_eq!(std::fs::read(later).unwrap(), block(3));
    assert_eq!(names(path.parent().unwrap()), ["shard-0.log", "shard-0.log.1.cut"]);
}

#[test]
fn a_link_in_place_of_a_log_file_is_refused_and_its_victim_stays() {
    let data = tempfile::tempdir().unwrap();
    let path = write(data.path(), HOUR, 0, &[]);
    let victim = data.path().join("victim");
    std::fs::write(&victim, "no block at all").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    let refused = recovery::open(data.path(), Micros(0)).unwrap_err().to_string();
    assert!(refused.contains("a symbolic link") && refused.contains("shard-0.log"), "{refused}");
    assert_eq!(std::fs::read(&victim).unwrap(), b"no block at all");
}

/// What an operation of a recovery does before it is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Before,
    /// In its middle: half of the bytes are there.
    Midway,
    After,
}

/// The kernel, until an operation is lost.
struct Lost {
    left: usize,
    loss: Loss,
    /// Files that were cut at a byte, and got what is behind it anew.
    replaced: Vec<(PathBuf, u64, Option<Vec<u8>>)>,
}

impl Lost {
    fn step(
        &mut self,
        midway: &mut dyn FnMut() -> io::Result<()>,
        whole: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        if self.left > 0 {
            self.left -= 1;
            return whole();
        }
        match self.loss {
            Loss::Before => {}
            Loss::Midway => midway()?,
            Loss::After => whole()?,
        }
        Err(io::Error::other("lost"))
    }
}

impl FileSystem for Lost {
    fn copy(&mut self, source: &Path, range: Range<u64>, target: &Path) -> io::Result<()> {
        let half = range.start..range.start + (range.end - range.start) / 2;
        let mut midway = || Kernel.copy(source, half.clone(), target);
        self.step(&mut midway, &mut || Kernel.copy(source, range.clone(), target))
    }

    fn replace_end(&mut self, path: &Path, offset: u64, source: Option<&Path>) -> io::Result<()> {
        let bytes = source.map(|source| std::fs::read(source).unwrap());
        self.replaced.push((path.to_owned(), offset, bytes.clone()));
        let mut midway = || {
            Kernel.replace_end(path, offset, None)?;
            let bytes = bytes.clone().unwrap_or_default();
            let mut held = std::fs::read(path)?;
            held.extend(&bytes[..bytes.len() / 2]);
            std::fs::write(path, held)
        };
        self.step(&mut midway, &mut || Kernel.replace_end(path, offset, source))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(&mut || Ok(()), &mut || Kernel.rename(from, to))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step(&mut || Ok(()), &mut || Kernel.remove(path))
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.step(&mut || Ok(()), &mut || Kernel.sync_folder(folder))
    }
}

#[test]
fn whole_blocks_that_nothing_proves_are_written_anew_and_the_others_are_not() {
    let data = tempfile::tempdir().unwrap();
    let older = write(data.path(), HOUR, 0, &block(1));
    let blocks = [block(2), block(3)];
    let newest = write(data.path(), HOUR.next(), 0, &blocks.concat());
    let mut system = Lost { left: usize::MAX, loss: Loss::Before, replaced: Vec::new() };
    recovery::open_on(data.path(), Micros(0), &mut system).unwrap();
    // The first block of the newest file is proven by the second; that of the hour before by both.
    let due = (newest.clone(), blocks[0].len() as u64, Some(blocks[1].clone()));
    assert_eq!(system.replaced, [due]);
    assert_eq!(std::fs::read(newest).unwrap(), blocks.concat());
    assert_eq!(std::fs::read(older).unwrap(), block(1));
}

#[test]
fn a_recovery_that_is_lost_at_any_step_leaves_what_the_next_one_needs() {
    let (whole, torn) = ([block(2), block(3)].concat(), block(4));
    let mut steps = 0;
    for loss in [Loss::Before, Loss::Midway, Loss::After] {
        for left in 0.. {
            let data = folder_in_memory();
            write(data.path(), HOUR, 0, &block(1));
            let first = write(data.path(), HOUR.next(), 0, &[&whole, &torn[..30]].concat());
            let other = write(data.path(), HOUR.next(), 1, &block_of(1, 5));
            let mut system = Lost { left, loss, replaced: Vec::new() };
            let found = recovery::open_on(data.path(), Micros(0), &mut system);
            let is_through = found.is_ok();
            // Lost again at another place, and then not.
            let mut system = Lost { left: left / 2, loss, replaced: Vec::new() };
            let _ = recovery::open_on(data.path(), Micros(0), &mut system);
            recovery::open(data.path(), Micros(0)).unwrap();
            let at = format!("{loss:?} at step {left}");
            assert_eq!(std::fs::read(&first).unwrap(), whole, "{at}");
            assert_eq!(std::fs::read(&other).unwrap(), block_of(1, 5), "{at}");
            let left_behind = names(first.parent().unwrap());
            assert_eq!(left_behind, ["shard-0.log", "shard-0.log.1.cut", "shard-1.log"], "{at}");
            assert_eq!(verify(data.path()).unwrap().faults, [], "{at}");
            steps += 1;
            if is_through {
                break;
            }
        }
    }
    assert!(steps > 30, "only {steps} steps");
}

/// A `.tail` whose removal was forgotten by the disk must not take back what was written since.
#[test]
fn a_tail_that_is_older_than_the_file_is_only_removed() {
    let data = tempfile::tempdir().unwrap();
    let blocks = [block(1), block(2), block(3)];
    let path = write(data.path(), HOUR, 0, &blocks.concat());
    let offset = blocks[0].len();
    let tail = beside(&path, &format!(".{offset}{TAIL}"));
    std::fs::write(&tail, &blocks[1]).unwrap();
    std::fs::write(beside(&path, ".9.tail.unfinished"), "half").unwrap();
    assert_eq!(recover(data.path()), []);
    assert_eq!(std::fs::read(&path).unwrap(), blocks.concat());
    assert_eq!(names(path.parent().unwrap()), ["shard-0.log"]);
}
