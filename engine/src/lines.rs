//! Lines: standard error for log lines, which may go away.
//!
//! In:   log lines, whole, from every thread.
//! Out:  the same on standard error; how many could not be written.
//! Law:  no line ends the process or holds up a shard: one that cannot be written is counted and
//!       forgotten.
//! Not:  which lines there are, and how often (tracing, `shard::notice`).
//!
//! `stormdrain run 2>&1 | tee log`, and `tee` ends; a service manager restarts its journal; the
//! file of standard error lies on the disk that is full. Any peer can cause a line, so a line that
//! could end the process would be a way to end it. The subscriber reports a failed write by
//! printing it, which panics when that fails too: so it is never told of one.
//! A reader that is there and reads nothing would hold up whoever writes: a pipe is asked first
//! whether it has room, and waited for a little. A file and a terminal always say yes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;

/// For so long a line waits for a reader that is behind; the next ones do not wait at all until
/// there is room again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Lines that could not be written since the start.
static LOST: AtomicU64 = AtomicU64::new(0);
/// The last line found no room.
static IS_BEHIND: AtomicBool = AtomicBool::new(false);

/// How many log lines could not be written since the start.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// A word on standard error, outside the log; whether it can be read is not ours to know.
pub fn say(word: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{word}");
}

/// Standard error, as the subscriber is given it.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Lines;

    fn make_writer(&'w self) -> Lines {
        Lines
    }
}

impl Write for Lines {
    /// Takes one line, whatever becomes of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut output = io::stderr().lock();
        let is_written = has_room(&output) && output.write_all(line).is_ok();
        if !is_written {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a write would not wait. A pipe whose reader has gone says so as well: it is the write
/// that fails.
fn has_room(output: &impl std::os::fd::AsFd) -> bool {
    let wait = if IS_BEHIND.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    let mut fds = [PollFd::new(output, PollFlags::OUT)];
    // Whatever keeps it from being asked, a write says better.
    let has_room = poll(&mut fds, Some(&wait)).map_or(true, |ready| ready > 0);
    IS_BEHIND.store(!has_room, Ordering::Relaxed);
    has_room
}
