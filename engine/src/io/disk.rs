//! The disk thread of a shard: appends to its log files and syncs them, away from its sockets.
//!
//! In:   one commit at a time from one shard; hours whose files will be wanted soon.
//! Out:  the log files of `storage::log::log_path`; an answer per commit.
//! Law:  `Synced` is said only after fdatasync has covered the commit, and of a file that is still
//!       where readers look for it; after a failure nothing is appended before the file has been
//!       cut back to what was durable.
//! Not:  what is written, when, and when it is tried again (`shard`).

mod place;
mod room;
mod syncs;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use storage::log::layout::KERNEL_SHARD;
use storage::log::{LogError, is_behind, log_path, make_folder, open_or_make, reopened_path};
use storage::time::Hour;

use crate::io::Completion;
use crate::io::clock::Clock;
use crate::io::links::{AbortOnPanic, Address, Post, end_process};

use place::Place;

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

/// How often a disk thread without work looks whether its file is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

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
        let appended = self.0.commit(hour, bytes).map(drop);
        if self.0.gone.take().is_some() {
            // Nobody was told of what it held: it is made again.
            self.0.open = None;
        }
        appended
    }
}

/// Appends and syncs before it returns: for what must be durable before anything else is.
pub fn append_now(data: &Path, shard: u16, hour: Hour, bytes: &[u8]) -> io::Result<()> {
    Writer::new(data, shard).commit(hour, bytes).map(drop)
}

fn work(mut writer: Writer, commands: &Receiver<Command>, answers: &Address) {
    let _guard = AbortOnPanic;
    loop {
        let answer = match commands.recv_timeout(LOOK_INTERVAL) {
            // The bytes are let go before the answer: the shard uses their memory again.
            Ok(command) => writer.perform(command),
            Err(RecvTimeoutError::Timeout) => {
                writer.look();
                None
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Some(gone) = &writer.gone {
            end_process(&format_args!(
                "{gone}: what is written there nobody would find, so nothing more is \
                 acknowledged; put the folder back as it was, then start the collector"
            ));
        }
        if let Some(answer) = answer {
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
    /// Marks of files that were written to again, to be taken away when a later one has a commit.
    marks: Vec<PathBuf>,
    /// The file that was written to is not where it was.
    gone: Option<LogError>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    place: Place,
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
        let data = data.to_owned();
        Writer { data, shard, open: None, ahead: None, full: None, marks: Vec::new(), gone: None }
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
            self.turn_to(hour)?;
        }
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        open.torn = true;
        open.file.write_all(bytes)?;
        open.file.sync_data()?;
        open.torn = false;
        open.durable += bytes.len() as u64;
        let durable = open.durable;
        self.look();
        if let Some(gone) = &self.gone {
            return Err(io::Error::other(gone.to_string()));
        }
        self.take_marks_away();
        Ok(durable)
    }

    /// Goes on with the file of another hour.
    fn turn_to(&mut self, hour: Hour) -> io::Result<()> {
        let (file, path) = (self.file_of(hour)?, log_path(&self.data, hour, self.shard));
        let mark = reopened_path(&path);
        if self.shard != KERNEL_SHARD && is_behind(&self.data, hour, self.shard)? {
            // The clock was set back: whatever stands in a later hour does not prove what is
            // written here from now on.
            open_or_make(&mark)?.sync_all()?;
            File::open(path.parent().unwrap_or(&self.data))?.sync_all()?;
        }
        if let Some(before) = self.open.replace(OpenFile::at_its_end(file, path, hour)?) {
            self.marks.push(reopened_path(before.place.path()));
            close_aside(before.file);
        }
        self.marks.retain(|one| *one != mark);
        Ok(())
    }

    /// A commit to another file is durable: those that were written to again before are as they
    /// will stay. A mark that stays is in order too, until the next start takes it away.
    fn take_marks_away(&mut self) {
        for mark in self.marks.drain(..) {
            if std::fs::remove_file(&mark).is_ok()
                && let Some(Ok(folder)) = mark.parent().map(File::open)
            {
                let _ = folder.sync_all();
            }
        }
    }

    /// Looks whether the file is where it was: one system call.
    fn look(&mut self) {
        self.gone = self.open.as_ref().and_then(|open| open.place.check().err());
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
        if self.gone.is_some() {
            // Said by whoever ends the process.
            return LogAnswer::Failed { errno };
        }
        // Cut at once, for it frees room; if that fails, the next commit begins with it.
        let _ = self.cut_back();
        if !is_out_of_room(errno) {
            let path = self.open.as_ref().map(|open| log_path(&self.data, open.hour, shard));
            let path = path.unwrap_or_else(|| self.data.clone());
            tracing::error!(shard, path = %path.display(), %error, "the log cannot be written");
        } else if self.full.is_none() {
            self.full = Some(Clock::start());
            self.say_full(errno, error, bytes + ROOM_RESERVE_BYTES);
        }
        LogAnswer::Failed { errno }
    }
}

impl Writer {
    fn say_full(&self, errno: i32, error: &io::Error, wanted_bytes: u64) {
        let (shard, room) = (self.shard, Room::at(&self.data));
        if errno == libc::EFBIG {
            tracing::error!(
                shard,
                %error,
                "a log file may not grow further: nothing is read or acknowledged until the next \
                 hour begins another, and nothing is lost: raise the limit (LimitFSIZE= in the \
                 unit, prlimit --fsize=unlimited --pid {} now)",
                std::process::id()
            );
            return;
        }
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
}

impl OpenFile {
    fn at_its_end(mut file: File, path: PathBuf, hour: Hour) -> io::Result<OpenFile> {
        let durable = file.seek(SeekFrom::End(0))?;
        let place = Place::of(&file, path)?;
        Ok(OpenFile { file, place, hour, durable, torn: false })
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
    // Not the data folder: one that was taken away is not made anew behind its owner's back.
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| *above != data).collect();
    missing.into_iter().rev().try_for_each(make_folder)?;
    // Not in append mode: a file that was cut back is written at its end, wherever that is.
    let file = open_or_make(path)?;
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
mod tests;
