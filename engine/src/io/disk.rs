//! The disk thread of a shard: appends to its log files and syncs them, away from its sockets.
//!
//! In:   one commit at a time from one shard; hours whose files will be wanted soon.
//! Out:  the log files of `storage::log::log_path`; an answer per commit.
//! Law:  `Synced` is said only after fdatasync has covered the commit; after a failure nothing is
//!       appended before the file has been cut back to what was durable.
//! Not:  what is written, when, and when it is tried again (`shard`).

mod room;
mod syncs;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use storage::log::log_path;
use storage::time::Hour;

use crate::io::Completion;
use crate::io::clock::Clock;
use crate::io::links::{AbortOnPanic, Address, Post};

pub use room::{Room, is_out_of_room};
pub use syncs::time_syncs;

/// What the shard asks of its disk thread.
#[derive(Debug)]
pub enum Command {
    /// Append these bytes to the file of this hour and make them durable.
    Commit {
        /// Collection hour.
        hour: Hour,
        /// Whole blocks.
        bytes: Arc<Vec<u8>>,
    },
    /// Make the file of this hour ahead, without letting a commit wait for it.
    Prepare(Hour),
}

/// What the disk thread answers to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogAnswer {
    /// It is durable.
    Synced {
        /// Length of the file.
        length: u64,
    },
    /// It failed; none of it counts.
    Failed {
        /// errno.
        errno: i32,
    },
}

impl LogAnswer {
    /// The completion that says the same to the shard.
    pub fn completion(self) -> Completion<'static> {
        match self {
            LogAnswer::Synced { length } => Completion::LogSynced { length },
            LogAnswer::Failed { errno } => Completion::LogFailed { errno },
        }
    }
}

/// Commands that may wait. A shard has one commit under way and, once an hour, a file to be made
/// ahead; were the queue ever full, the shard would wait rather than grow.
const COMMANDS_MAX: usize = 8;

/// Bytes that must be free beyond the commit before a full disk is written again: room for more
/// commits than one, so that the collector does not stop and go with every file that is deleted.
const ROOM_RESERVE_BYTES: u64 = 1 << 20;

/// The shard's end of its disk thread. Dropping it lets the thread finish what was asked and end.
#[derive(Debug)]
pub struct Disk {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the disk thread of `shard`, which answers to `answers`.
    pub fn start(data: &Path, shard: u16, answers: Address) -> io::Result<Disk> {
        let (commands, received) = bounded(COMMANDS_MAX);
        let writer = Writer::new(data, shard);
        let thread = std::thread::Builder::new()
            .name(format!("disk-{shard}"))
            .spawn(move || work(writer, &received, &answers))?;
        Ok(Disk { commands: Some(commands), thread: Some(thread) })
    }

    /// Asks for something; the thread takes commands in order.
    pub fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            commands.send(command).expect("the disk thread lives as long as its shard's end");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

/// Appends on the caller's own thread, for what no shard waits for.
#[derive(Debug)]
pub(crate) struct Appender(Writer);

impl Appender {
    /// For the files of this shard, or of the kernel.
    pub(crate) fn new(data: &Path, shard: u16) -> Appender {
        Appender(Writer::new(data, shard))
    }

    /// Appends to the file of this hour; durable when it returns. What failed leaves nothing.
    pub(crate) fn append(&mut self, hour: Hour, bytes: &[u8]) -> io::Result<()> {
        self.0.commit(hour, bytes).map(drop)
    }
}

/// Appends and syncs before it returns: for what must be durable before anything else is.
pub fn append_now(data: &Path, shard: u16, hour: Hour, bytes: &[u8]) -> io::Result<()> {
    Writer::new(data, shard).commit(hour, bytes).map(drop)
}

fn work(mut writer: Writer, commands: &Receiver<Command>, answers: &Address) {
    let _guard = AbortOnPanic;
    for command in commands {
        // The bytes are let go before the answer: the shard uses their memory again.
        if let Some(answer) = writer.perform(command) {
            answers.post(Post::Log(answer));
        }
    }
}

/// The files themselves, without the thread.
#[derive(Debug)]
struct Writer {
    data: PathBuf,
    shard: u16,
    open: Option<OpenFile>,
    ahead: Option<Ahead>,
    /// Since the last commit that found no room, if none has succeeded since.
    full: Option<Clock>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    hour: Hour,
    durable: u64,
    /// Bytes may stand behind the durable end, or the kernel's idea of them may not be the disk's:
    /// after a sync that failed, pages count as clean that were never written.
    torn: bool,
}

/// A file that a thread of its own makes before its hour begins.
#[derive(Debug)]
struct Ahead {
    hour: Hour,
    thread: JoinHandle<io::Result<File>>,
}

impl Writer {
    fn new(data: &Path, shard: u16) -> Writer {
        Writer { data: data.to_owned(), shard, open: None, ahead: None, full: None }
    }

    fn perform(&mut self, command: Command) -> Option<LogAnswer> {
        match command {
            Command::Commit { hour, bytes } => Some(match self.try_commit(hour, &bytes) {
                Ok(length) => {
                    self.succeeded();
                    LogAnswer::Synced { length }
                }
                Err(error) => self.failed(&error, bytes.len() as u64),
            }),
            Command::Prepare(hour) => {
                self.prepare(hour);
                None
            }
        }
    }

    /// Commits, once there is room again after there was none.
    fn try_commit(&mut self, hour: Hour, bytes: &[u8]) -> io::Result<u64> {
        let wanted = bytes.len() as u64 + ROOM_RESERVE_BYTES;
        if self.full.is_some() && Room::at(&self.data).lacks(wanted) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.commit(hour, bytes)
    }

    fn commit(&mut self, hour: Hour, bytes: &[u8]) -> io::Result<u64> {
        self.cut_back()?;
        if self.open.as_ref().is_none_or(|open| open.hour != hour) {
            let file = self.file_of(hour)?;
            if let Some(before) = self.open.replace(OpenFile::at_its_end(file, hour)?) {
                close_aside(before.file);
            }
        }
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        open.torn = true;
        open.file.write_all(bytes)?;
        open.file.sync_data()?;
        open.torn = false;
        open.durable += bytes.len() as u64;
        Ok(open.durable)
    }

    /// Cuts away what a failed commit has left: blocks follow blocks, and nothing else. What was
    /// written and not synced leaves the page cache with it, and is written anew.
    fn cut_back(&mut self) -> io::Result<()> {
        let Some(open) = self.open.as_mut().filter(|open| open.torn) else { return Ok(()) };
        open.file.set_len(open.durable)?;
        open.file.seek(SeekFrom::Start(open.durable))?;
        open.file.sync_all()?;
        open.torn = false;
        Ok(())
    }

    /// The hour's file: the one made ahead, or one made now.
    fn file_of(&mut self, hour: Hour) -> io::Result<File> {
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.hour == hour)
            && let Ok(Ok(file)) = ahead.thread.join()
        {
            return Ok(file);
        }
        create_durably(&self.data, &log_path(&self.data, hour, self.shard))
    }

    fn prepare(&mut self, hour: Hour) {
        let is_there = self.open.as_ref().is_some_and(|open| open.hour == hour)
            || self.ahead.as_ref().is_some_and(|ahead| ahead.hour == hour);
        if is_there {
            return;
        }
        let (data, path) = (self.data.clone(), log_path(&self.data, hour, self.shard));
        let made = move || {
            let _guard = AbortOnPanic;
            create_durably(&data, &path)
        };
        let name = format!("disk-{}-ahead", self.shard);
        // Where no thread can be had, the file is made when it is wanted.
        let thread = std::thread::Builder::new().name(name).spawn(made);
        self.ahead = thread.ok().map(|thread| Ahead { hour, thread });
    }

    fn succeeded(&mut self) {
        let Some(since) = self.full.take() else { return };
        let (shard, seconds) = (self.shard, since.elapsed().as_secs_f64());
        tracing::info!(shard, seconds, "the log has room again: reading goes on, nothing was lost");
    }

    fn failed(&mut self, error: &io::Error, bytes: u64) -> LogAnswer {
        let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
        let shard = self.shard;
        // Cut at once, for it frees room; if that fails, the next commit begins with it.
        let _ = self.cut_back();
        if !is_out_of_room(errno) {
            let path = self.open.as_ref().map(|open| log_path(&self.data, open.hour, shard));
            let path = path.unwrap_or_else(|| self.data.clone());
            tracing::error!(shard, path = %path.display(), %error, "the log cannot be written");
        } else if self.full.is_none() {
            self.full = Some(Clock::start());
            let room = Room::at(&self.data);
            let wanted_bytes = bytes + ROOM_RESERVE_BYTES;
            tracing::error!(
                shard,
                mount = %room.mount.display(),
                free_bytes = room.free_bytes,
                free_files = room.free_files,
                wanted_bytes,
                %error,
                "no room for the log: {room}, {wanted_bytes} are wanted; nothing is read or \
                 acknowledged until there is room, and nothing is lost: free space there or \
                 raise the quota"
            );
        }
        LogAnswer::Failed { errno }
    }
}

impl OpenFile {
    fn at_its_end(mut file: File, hour: Hour) -> io::Result<OpenFile> {
        let durable = file.seek(SeekFrom::End(0))?;
        Ok(OpenFile { file, hour, durable, torn: false })
    }
}

/// Closes the file on a thread of its own: the file system may have work to do for it.
fn close_aside(file: File) {
    // Where no thread can be had, the closure is dropped here, and the file with it.
    let _ = std::thread::Builder::new().name("disk-close".to_owned()).spawn(move || drop(file));
}

/// Opens or creates the file, and makes every folder entry on the way to it durable.
///
/// Always, not only when it is new: a process that was killed in between may have made it. The
/// entry of the data folder itself is synced where that is permitted: it lies in a folder that may
/// be somebody else's.
fn create_durably(data: &Path, path: &Path) -> io::Result<File> {
    let folder = path.parent().unwrap_or(data);
    std::fs::create_dir_all(folder)?;
    // Not in append mode: a file that was cut back is written at its end, wherever that is.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.sync_all()?;
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(data)) {
        File::open(folder)?.sync_all()?;
    }
    if let Some(Ok(above)) = data.canonicalize()?.parent().map(File::open) {
        above.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Hour = Hour(494_000);

    fn commit(hour: Hour, bytes: &[u8]) -> Command {
        Command::Commit { hour, bytes: Arc::new(bytes.to_vec()) }
    }

    fn read(data: &Path, hour: Hour) -> Vec<u8> {
        std::fs::read(log_path(data, hour, 0)).unwrap()
    }

    #[test]
    fn an_hours_file_is_continued_where_it_ended() {
        let data = tempfile::tempdir().unwrap();
        for round in 1..3 {
            let mut writer = Writer::new(data.path(), 0);
            let answer = writer.perform(commit(HOUR, b"abc"));
            assert_eq!(answer, Some(LogAnswer::Synced { length: round * 3 }));
        }
        assert_eq!(read(data.path(), HOUR), b"abcabc");
    }

    #[test]
    fn what_a_failure_left_is_cut_away_before_the_same_bytes_come_again() {
        let data = tempfile::tempdir().unwrap();
        for (failed_at, next) in [(HOUR, HOUR), (HOUR.next(), Hour(HOUR.0 + 2))] {
            let mut writer = Writer::new(data.path(), 0);
            assert!(writer.perform(commit(failed_at, b"durable")).is_some());
            // A write that the disk took in part: bytes behind the durable end, and an error.
            let open = writer.open.as_mut().unwrap();
            open.file.write_all(b"to").unwrap();
            open.torn = true;
            let answer = writer.perform(commit(next, b"torn"));
            let length = if next == failed_at { 11 } else { 4 };
            assert_eq!(answer, Some(LogAnswer::Synced { length }));
        }
        assert_eq!(read(data.path(), HOUR), b"durabletorn");
        assert_eq!(read(data.path(), HOUR.next()), b"durable");
        assert_eq!(read(data.path(), Hour(HOUR.0 + 2)), b"torn");
    }

    /// /dev/full takes a write and has no room for it.
    #[test]
    fn a_full_disk_is_one_episode_until_a_commit_succeeds() {
        let data = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(data.path(), 0);
        let file = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        writer.open = Some(OpenFile { file, hour: HOUR, durable: 0, torn: false });
        let answer = writer.perform(commit(HOUR, b"abc"));
        assert_eq!(answer, Some(LogAnswer::Failed { errno: libc::ENOSPC }));
        assert!(writer.full.is_some());
        writer.open = None;
        let answer = writer.perform(commit(HOUR, b"abc"));
        assert_eq!(answer, Some(LogAnswer::Synced { length: 3 }));
        assert!(writer.full.is_none());
        assert_eq!(read(data.path(), HOUR), b"abc");
    }

    #[test]
    fn after_a_full_disk_nothing_is_tried_before_there_is_room_for_more_than_the_commit() {
        let data = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(data.path(), 0);
        writer.full = Some(Clock::start());
        let free = Room::at(data.path()).free_bytes.unwrap();
        // As if a commit of that many bytes waited: it is compared, not written.
        assert!(Room::at(data.path()).lacks(free.saturating_mul(2)));
        assert!(writer.try_commit(HOUR, b"abc").is_ok(), "{free} bytes are free here");
    }

    #[test]
    fn a_file_made_ahead_is_the_one_that_is_written_and_another_hour_does_without() {
        let data = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(data.path(), 0);
        writer.perform(commit(HOUR, b"first"));
        assert_eq!(writer.perform(Command::Prepare(HOUR)), None);
        assert!(writer.ahead.is_none(), "it is open already");
        writer.perform(Command::Prepare(HOUR.next()));
        // The clock is set back, then on: the file that was made is still the right one.
        writer.perform(commit(Hour(HOUR.0 - 5), b"before"));
        assert!(writer.ahead.is_some());
        let answer = writer.perform(commit(HOUR.next(), b"next"));
        assert_eq!(answer, Some(LogAnswer::Synced { length: 4 }));
        assert!(writer.ahead.is_none());
        assert_eq!(read(data.path(), HOUR.next()), b"next");
        assert_eq!(read(data.path(), Hour(HOUR.0 - 5)), b"before");
    }

    #[test]
    fn a_file_that_cannot_be_made_ahead_fails_its_commit_and_nothing_before() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(log_path(data.path(), HOUR.next(), 0)).unwrap();
        let mut writer = Writer::new(data.path(), 0);
        writer.perform(Command::Prepare(HOUR.next()));
        let answer = writer.perform(commit(HOUR, b"abc"));
        assert_eq!(answer, Some(LogAnswer::Synced { length: 3 }));
        let answer = writer.perform(commit(HOUR.next(), b"abc"));
        assert_eq!(answer, Some(LogAnswer::Failed { errno: libc::EISDIR }));
        assert!(writer.full.is_none(), "waiting would not help");
    }
}
