//! The disk thread of a shard: opens, appends and syncs its log files, away from its sockets.
//!
//! In:   commands in order, from one shard.
//! Out:  the log files of `storage::log::log_path`; an answer per open and per sync.
//! Law:  `Synced` is said only after fdatasync has covered every write before it; after a failure
//!       nothing is appended before the file has been cut back to what was durable.
//! Not:  what is written, and when it is synced (`shard`).

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use storage::log::log_path;
use storage::time::Hour;

use crate::io::Completion;
use crate::io::links::{AbortOnPanic, Address, Post};

/// What the shard asks of its disk thread.
#[derive(Debug)]
pub enum Command {
    /// Open the file of this hour; later writes go there.
    Open(Hour),
    /// Append.
    Write(Vec<u8>),
    /// Make every write so far durable.
    Sync,
}

/// What the disk thread answers; a write has no answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogAnswer {
    /// The file is open.
    Opened {
        /// Its hour.
        hour: Hour,
        /// Where the next byte goes.
        length: u64,
    },
    /// Everything written before the oldest unanswered sync is durable.
    Synced,
    /// An open, write or sync failed; nothing since the last `Synced` counts as durable.
    Failed {
        /// errno.
        errno: i32,
    },
}

impl LogAnswer {
    /// The completion that says the same to the shard.
    pub fn completion(self) -> Completion<'static> {
        match self {
            LogAnswer::Opened { hour, length } => Completion::LogOpened { hour, length },
            LogAnswer::Synced => Completion::LogSynced,
            LogAnswer::Failed { errno } => Completion::LogFailed { errno },
        }
    }
}

/// Commands that may wait. A shard has one commit under way (a write, a sync, now and then an
/// open), so this is never reached; were it reached, the shard would wait rather than grow.
const COMMANDS_MAX: usize = 256;

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
        let writer = Writer { data: data.to_owned(), shard, open: None, failed: None };
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

/// Appends and syncs before it returns: for what must be durable before anything else is.
pub fn append_now(data: &Path, shard: u16, hour: Hour, bytes: &[u8]) -> io::Result<()> {
    let mut writer = Writer { data: data.to_owned(), shard, open: None, failed: None };
    writer.open(hour)?;
    writer.write(bytes)?;
    writer.sync()
}

fn work(mut writer: Writer, commands: &Receiver<Command>, answers: &Address) {
    let _guard = AbortOnPanic;
    for command in commands {
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
    /// errno of the failure that has not been answered for by a successful open since.
    failed: Option<i32>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    hour: Hour,
    length: u64,
    durable: u64,
}

impl Writer {
    fn perform(&mut self, command: Command) -> Option<LogAnswer> {
        match command {
            Command::Open(hour) => Some(match self.open(hour) {
                Ok(length) => LogAnswer::Opened { hour, length },
                Err(error) => self.fail(&error),
            }),
            Command::Write(bytes) => {
                if self.failed.is_none()
                    && let Err(error) = self.write(&bytes)
                {
                    self.fail(&error);
                }
                None
            }
            Command::Sync => Some(match (self.failed, self.sync()) {
                (Some(errno), _) => LogAnswer::Failed { errno },
                (None, Ok(())) => LogAnswer::Synced,
                (None, Err(error)) => self.fail(&error),
            }),
        }
    }

    fn fail(&mut self, error: &io::Error) -> LogAnswer {
        let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
        let path = self.open.as_ref().map(|open| log_path(&self.data, open.hour, self.shard));
        tracing::error!(shard = self.shard, path = ?path, error = %error, "log failed");
        self.failed = Some(errno);
        LogAnswer::Failed { errno }
    }

    /// Opens the hour's file at its end. What a failure may have left behind the durable part of
    /// the file before is cut away first: blocks follow blocks, and nothing else.
    fn open(&mut self, hour: Hour) -> io::Result<u64> {
        if let Some(before) = self.open.take() {
            if self.failed.is_some() {
                let cut = before.file.set_len(before.durable).and_then(|()| before.file.sync_all());
                if let Err(error) = cut {
                    self.open = Some(before);
                    return Err(error);
                }
            } else if before.durable < before.length {
                before.file.sync_data()?;
            }
        }
        let mut file = create_durably(&self.data, &log_path(&self.data, hour, self.shard))?;
        let length = file.seek(SeekFrom::End(0))?;
        self.open = Some(OpenFile { file, hour, length, durable: length });
        self.failed = None;
        Ok(length)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        open.file.write_all(bytes)?;
        open.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if open.durable < open.length {
            open.file.sync_data()?;
            open.durable = open.length;
        }
        Ok(())
    }
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

    fn writer(data: &Path) -> Writer {
        Writer { data: data.to_owned(), shard: 0, open: None, failed: None }
    }

    #[test]
    fn an_hours_file_is_continued_where_it_ended() {
        let data = tempfile::tempdir().unwrap();
        let hour = Hour(494_000);
        for round in 0..2 {
            let mut writer = writer(data.path());
            let opened = writer.perform(Command::Open(hour));
            assert_eq!(opened, Some(LogAnswer::Opened { hour, length: round * 3 }));
            assert_eq!(writer.perform(Command::Write(b"abc".to_vec())), None);
            assert_eq!(writer.perform(Command::Sync), Some(LogAnswer::Synced));
        }
        assert_eq!(std::fs::read(log_path(data.path(), hour, 0)).unwrap(), b"abcabc");
    }

    #[test]
    fn a_failure_is_answered_until_the_file_is_opened_again_and_leaves_no_torn_tail() {
        let data = tempfile::tempdir().unwrap();
        let hour = Hour(494_000);
        let mut writer = writer(data.path());
        writer.perform(Command::Open(hour));
        writer.perform(Command::Write(b"durable".to_vec()));
        writer.perform(Command::Sync);
        // A write that the disk took in part: bytes behind the durable end, and an error.
        writer.perform(Command::Write(b"torn".to_vec()));
        writer.fail(&io::Error::from_raw_os_error(libc::ENOSPC));
        let refused = Some(LogAnswer::Failed { errno: libc::ENOSPC });
        writer.perform(Command::Write(b"more".to_vec()));
        assert_eq!(writer.perform(Command::Sync), refused);
        assert_eq!(writer.perform(Command::Sync), refused);
        let opened = writer.perform(Command::Open(hour));
        assert_eq!(opened, Some(LogAnswer::Opened { hour, length: 7 }));
        writer.perform(Command::Write(b"!".to_vec()));
        assert_eq!(writer.perform(Command::Sync), Some(LogAnswer::Synced));
        assert_eq!(std::fs::read(log_path(data.path(), hour, 0)).unwrap(), b"durable!");
    }

    #[test]
    fn what_must_come_first_goes_before_what_the_thread_writes() {
        let data = tempfile::tempdir().unwrap();
        let hour = Hour(494_000);
        append_now(data.path(), 0, hour, b"first").unwrap();
        let mut writer = writer(data.path());
        let opened = writer.perform(Command::Open(hour));
        assert_eq!(opened, Some(LogAnswer::Opened { hour, length: 5 }));
    }

    #[test]
    fn nothing_can_be_written_where_no_file_is_open() {
        let data = tempfile::tempdir().unwrap();
        let mut writer = writer(data.path());
        writer.perform(Command::Write(b"lost".to_vec()));
        assert!(matches!(writer.perform(Command::Sync), Some(LogAnswer::Failed { .. })));
    }
}
