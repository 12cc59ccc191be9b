//! What joins a shard's thread to the others: its mailbox, the other shards, its disk thread.
//!
//! In:   posts from any thread; `Op::Tell` and the log operations of the shard.
//! Out:  completions for the shard, and a wake-up of its driver.
//! Law:  a post that was sent is seen: the wake-up follows the post, the look follows the wake-up.
//! Not:  sockets (`epoll`, `uring`), files (`disk`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use crate::io::disk::{Command, Disk, LogAnswer};
use crate::io::{Completion, Now, Op};
use crate::registry::Message;

/// The shard as its driver sees it. Two live here: the shard, and the drivers' test machine.
pub trait Machine {
    /// Something happened.
    fn handle(&mut self, now: Now, completion: Completion<'_>);
    /// The next operation that the machine wants, until there is none.
    fn poll_op(&mut self) -> Option<Op>;
    /// Works off one bounded slice, timers too; whether there is more to do.
    fn digest(&mut self, now: Now) -> bool;
    /// When `digest` wants to be called at the latest, on the monotonic clock.
    fn poll_timeout(&self) -> Option<u64>;
    /// Ends everything in order; `stopped` tells when that is done.
    fn stop(&mut self, now: Now);
    /// Whether nothing is left to do after `stop`.
    fn stopped(&self) -> bool;
    /// Why nothing more can be done at all: the driver ends, and connections drop as they are.
    fn failure(&self) -> Option<std::io::Error>;
    /// Once per turn: makes the counters visible to other threads.
    fn publish(&mut self, now: Now, driver: &DriverCounters);
}

/// What a driver counts; plain numbers, published by the machine once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Turns of the loop.
    pub turns: u64,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_failures: u64,
    /// Receives that found no free buffer and were asked for again (io_uring).
    pub buffers_exhausted: u64,
    /// Receives that ended at their cap and were asked for again (io_uring).
    pub receive_rounds: u64,
    /// Connections given up because the router read none of its acks.
    pub sends_abandoned: u64,
    /// Whether a limit forbids to accept connections now.
    pub accept_limited: bool,
}

/// Kept by a thread that others rely on: its panic stops the process, in builds that unwind too.
#[derive(Debug)]
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Exit code of a process whose disk or kernel interface failed (3 = input or disk failed).
pub const EXIT_FAILED: i32 = 3;

/// Ends the process, because something it stands on is gone, with one line that says what. Several
/// threads may notice: the first speaks, and the others go no further.
pub fn end_process(why: &dyn std::fmt::Display) -> ! {
    static ENDS: AtomicBool = AtomicBool::new(false);
    if ENDS.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    tracing::error!("{why}");
    std::process::exit(EXIT_FAILED)
}

/// What one thread says to a shard's thread.
#[derive(Debug)]
pub enum Post {
    /// From another shard, or from the host.
    Told(Message),
    /// From the shard's disk thread.
    Log(LogAnswer),
    /// A place for a connection is free that this shard may have missed.
    Room,
    /// End in order.
    Stop,
}

/// Where posts to one shard are sent. Unbounded, because two shards that wait for room in each
/// other's mailbox would wait for ever; what is under way is bounded by sessions and commits.
#[derive(Clone, Debug)]
pub struct Address {
    posts: Sender<Post>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    rung: AtomicBool,
}

impl Address {
    /// Sends a post and wakes the shard. A shard that has ended reads no more posts.
    pub fn post(&self, post: Post) {
        if self.posts.send(post).is_err() {
            return;
        }
        if !self.bell.rung.swap(true, Ordering::AcqRel) {
            // Cannot fail: the count is far from its end, for it is rung once per look at most.
            let _ = rustix::io::write(&self.bell.event, &RING);
        }
    }
}

/// What is added to the eventfd's count. Any number but zero wakes, in either byte order.
const RING: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

/// The receiving end of an `Address`.
#[derive(Debug)]
pub struct Mailbox {
    posts: Receiver<Post>,
    bell: Arc<Bell>,
}

/// A mailbox and the address under which it is reached.
pub fn mailbox() -> io::Result<(Address, Mailbox)> {
    let (sender, receiver) = unbounded();
    // Blocking: a ring completes a read of it when it is rung, and epoll reads it only when it is.
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    let bell = Arc::new(Bell { event, rung: AtomicBool::new(false) });
    Ok((Address { posts: sender, bell: Arc::clone(&bell) }, Mailbox { posts: receiver, bell }))
}

impl Mailbox {
    /// The descriptor that becomes readable when a post has come.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.event.as_fd()
    }

    /// The same, as a number, for a ring.
    pub fn bell_raw(&self) -> RawFd {
        self.bell.event.as_raw_fd()
    }

    /// Says that the bell was heard (its descriptor has been read): `take` follows.
    pub fn heard(&self) {
        // A swap, not a store: it acquires what the last ringer had sent before it rang.
        self.bell.rung.swap(false, Ordering::AcqRel);
    }

    /// Reads the bell's descriptor, which must be readable, and says that it was heard.
    pub fn hear(&self) {
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&self.bell.event, &mut count);
        self.heard();
    }

    /// The next post, if there is one.
    pub fn take(&self) -> Option<Post> {
        self.posts.try_recv().ok()
    }
}

/// Everything of a shard's thread that is no socket.
#[derive(Debug)]
pub struct Links {
    /// Its own mailbox.
    pub mailbox: Mailbox,
    /// The addresses of all shards, by index; its own too.
    pub shards: Vec<Address>,
    /// Its disk thread.
    pub disk: Disk,
}

impl Links {
    /// Performs an operation that concerns no socket; gives back one that does.
    pub fn perform(&self, op: Op) -> Option<Op> {
        match op {
            Op::LogCommit { hour, bytes } => self.disk.send(Command::Commit { hour, bytes }),
            Op::LogPrepare { hour } => self.disk.send(Command::Prepare(hour)),
            Op::Tell { shard, message } => {
                let address = self.shards.get(shard).expect("the registry names shards that are");
                address.post(Post::Told(message));
            }
            socket => return Some(socket),
        }
        None
    }

    /// Gives one post to the machine; `false` when there was none.
    pub fn deliver_one<M: Machine>(&self, now: Now, machine: &mut M) -> bool {
        match self.mailbox.take() {
            Some(Post::Told(message)) => machine.handle(now, Completion::Told { message }),
            Some(Post::Log(answer)) => machine.handle(now, answer.completion()),
            Some(Post::Stop) => machine.stop(now),
            // For the driver's gate, which looks again after every delivery.
            Some(Post::Room) => {}
            None => return false,
        }
        true
    }
}
