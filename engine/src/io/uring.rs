//! The ring: io_uring behind an interface that is safe to use, for one shard's sockets.
//!
//! In:   wishes of `uring::driver`: accept, receive, send, wait, shut, close, cancel.
//! Out:  `Done`, one per completion, with the memory that the kernel has given back.
//! Law:  memory the kernel may write to or read from belongs to the ring until its completion.
//! Not:  what to do next (`driver`); log writes never share this ring, they would starve.

#![expect(unsafe_code, reason = "rings and buffers shared with the kernel; each use is argued")]

mod done;
mod trial;
pub mod driver;

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{
    BufRingEntry, CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec,
};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::{SockAddr, SockAddrStorage, Socket};

use crate::io::sockets::reset_on_close;

pub use done::{Done, Filled, Handle, Offered};
pub use trial::probe;

/// Requests that wait for the next call into the kernel; a full queue is handed over at once.
const SUBMISSIONS: u32 = 1024;
/// Completions that the kernel may leave: one per connection may come at once, and once more.
const COMPLETIONS: u32 = 65_536;
/// Buffers that receives share, at most; 1,024 x 16 KiB = 16 MiB per shard, given back after one
/// copy. Fewer where memory is scarce.
pub const BUFFERS: u16 = 1024;
/// Bytes of one of them.
pub const BUFFER_BYTES: usize = 16 << 10;
/// Their group; the ring has no other.
const BUFFER_GROUP: u16 = 0;
/// Bytes that one arming of a receive may deliver: a round robin among connections that are
/// always ready, where the kernel knows it (6.17 and later).
const RECEIVE_CAP_BYTES: u32 = 32 << 10;
/// Accepts in flight, each with an address of its own: a multishot accept shares one address
/// among all, and the peers' addresses would be lost.
pub const ACCEPTS: u16 = 64;
/// A wait that begins goes on so long, or until so many requests have completed, before it ends
/// with fewer, where the kernel knows it (6.12 and later): thousands of quiet connections do not
/// wake the shard one by one. Who speaks after a longer silence is heard at once; in a storm the
/// shard does not wait. Short against the commit interval, which every ack has to wait for.
const GATHER: Duration = Duration::from_millis(1);
const GATHERED: usize = 64;
/// Receives that may be asked for again at once after they found no buffer: each may take two.
pub const HUNGRY_FED_MAX: usize = BUFFERS as usize / 2;

/// Kind of a request, in the upper byte of its user data; the rest names slot or index.
const KIND_SHIFT: u32 = 56;
const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const HANG_UP: u64 = 4;
const BELL: u64 = 5;
const CANCEL: u64 = 6;
const PEERS: u64 = 7;
const SHUT: u64 = 8;
const RESET: u64 = 9;
const CLOSE: u64 = 10;

/// One ring with its buffers. Belongs to the thread that made it.
pub struct Ring {
    ring: ManuallyDrop<IoUring>,
    memory: ManuallyDrop<Memory>,
    offered: Offered,
    /// Whether connections are accepted into the ring's own table.
    direct: bool,
    /// Completions taken from the ring and not yet looked at.
    taken: VecDeque<cqueue::Entry>,
    /// What was done to ordinary descriptors without the kernel's ring, told like the rest.
    at_once: VecDeque<Done>,
    /// Requests that have not had their last completion.
    in_flight: usize,
}

/// Everything that the kernel reads or writes while requests are in flight. At fixed addresses:
/// the boxes and vectors are not touched, and not moved out of, until the completion.
struct Memory {
    buffers: Buffers,
    accepts: Box<[UnsafeCell<AcceptSlot>]>,
    /// Bytes being sent, by slot; empty where none are.
    sends: Vec<Vec<u8>>,
    bell: Box<UnsafeCell<[u8; 8]>>,
}

struct AcceptSlot {
    address: SockAddrStorage,
    length: libc::socklen_t,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("offered", &self.offered)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring of this thread, with so many buffers (`BUFFERS` at most) registered; with a table of
    /// so many direct descriptors, connections are accepted into it. Errors: what the kernel said;
    /// `EMFILE` when the table is larger than the soft limit of descriptors, which bounds each
    /// ring's table.
    pub fn new(offered: Offered, direct: Option<u32>, buffers: u16) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(COMPLETIONS).setup_submit_all();
        builder.setup_taskrun_flag();
        if offered.deferred {
            builder.setup_single_issuer().setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        let ring = builder.build(SUBMISSIONS)?;
        if let Some(places) = direct {
            ring.submitter().register_files_sparse(places)?;
        }
        let slots = (0..ACCEPTS).map(|_| UnsafeCell::new(AcceptSlot::empty())).collect();
        let mut memory = Memory {
            buffers: Buffers::new(buffers.clamp(1, BUFFERS)),
            accepts: slots,
            sends: Vec::new(),
            bell: Box::new(UnsafeCell::new([0; 8])),
        };
        let entries = memory.buffers.entries.as_ptr() as u64;
        // SAFETY: the memory holds `BUFFERS` entries, is page-aligned and zeroed, and lives until
        // the ring has ended (`Drop` frees it last, or not at all).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries, BUFFERS, BUFFER_GROUP, 0)?;
        }
        for buffer in 0..memory.buffers.count {
            memory.buffers.give(buffer);
        }
        Ok(Ring {
            ring: ManuallyDrop::new(ring),
            memory: ManuallyDrop::new(memory),
            offered,
            direct: direct.is_some(),
            taken: VecDeque::new(),
            at_once: VecDeque::new(),
            in_flight: 0,
        })
    }

    /// Says when peers wait to be accepted; once per call.
    pub fn watch_listener(&mut self, listener: &Socket) {
        let events = libc::POLLIN as u32;
        let entry = opcode::PollAdd::new(Fd(listener.as_raw_fd()), events).build();
        self.push(entry, PEERS << KIND_SHIFT);
    }

    /// Takes one connection, `EAGAIN` where none waits and this kernel can say so; `index` must
    /// be free (each is, until its `Done::Accepted`). With a table, a place in it must be free
    /// too: the kernel would close a peer that it has accepted and has no place for.
    pub fn accept(&mut self, listener: &Socket, index: u16) {
        let slot = self.memory.accepts[usize::from(index)].get();
        // SAFETY: the slot is free, so nobody else refers to it; only fields' addresses are taken
        // after the reset, and the kernel alone writes there until `Done::Accepted` frees it.
        let (address, length) = unsafe {
            *slot = AcceptSlot::empty();
            ((&raw mut (*slot).address).cast(), &raw mut (*slot).length)
        };
        let accept = opcode::Accept::new(Fd(listener.as_raw_fd()), address, length);
        let mut entry = if self.direct {
            accept.file_index(Some(DestinationSlot::auto_target())).build()
        } else {
            accept.flags(libc::SOCK_CLOEXEC).build()
        };
        if self.offered.accept_at_once {
            accept_at_once(&mut entry);
        }
        self.push(entry, ACCEPT << KIND_SHIFT | u64::from(index));
    }

    /// Whether an accept ends at once where nobody waits.
    pub fn accepts_at_once(&self) -> bool {
        self.offered.accept_at_once
    }

    /// Delivers what comes on this connection until `more` is false.
    pub fn receive(&mut self, handle: &Handle, slot: u32) {
        let (target, flags) = handle.target();
        let mut entry = opcode::RecvMulti::new(target, BUFFER_GROUP).build().flags(flags);
        if self.offered.receive_cap {
            cap_receive(&mut entry);
        }
        self.push(entry, RECEIVE << KIND_SHIFT | u64::from(slot));
    }

    /// Sends these bytes; one send per slot at a time.
    pub fn send(&mut self, handle: &Handle, slot: u32, bytes: Vec<u8>) {
        let (target, flags) = handle.target();
        let length = u32::try_from(bytes.len()).expect("acks are cut off far below 4 GiB");
        let entry = opcode::Send::new(target, bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .flags(flags);
        let sends = &mut self.memory.sends;
        if sends.len() <= slot as usize {
            sends.resize_with(slot as usize + 1, Vec::new);
        }
        // The vector itself may move with the others; the bytes that the kernel reads do not.
        let before = std::mem::replace(&mut sends[slot as usize], bytes);
        assert!(before.is_empty(), "one send per connection at a time");
        self.push(entry, SEND << KIND_SHIFT | u64::from(slot));
    }

    /// Says when the peer has hung up.
    pub fn watch_hang_up(&mut self, handle: &Handle, slot: u32) {
        let (target, flags) = handle.target();
        let events = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32;
        let entry = opcode::PollAdd::new(target, events).build().flags(flags);
        self.push(entry, HANG_UP << KIND_SHIFT | u64::from(slot));
    }

    /// Sends a FIN after what was sent (`Done::Shut`).
    pub fn shut(&mut self, handle: &Handle, slot: u32) {
        match handle {
            Handle::Descriptor(socket) => {
                let worked = socket.shutdown(std::net::Shutdown::Write).is_ok();
                self.at_once.push_back(Done::Shut { slot, worked });
            }
            Handle::Direct(_) => {
                let (target, flags) = handle.target();
                let entry = opcode::Shutdown::new(target, libc::SHUT_WR).build().flags(flags);
                self.push(entry, SHUT << KIND_SHIFT | u64::from(slot));
            }
        }
    }

    /// Makes the coming close a reset (`Done::ResetSet`).
    pub fn reset_on_close(&mut self, handle: &Handle, slot: u32) {
        /// What SO_LINGER is set to; the kernel reads it until the completion, hence static.
        static AT_ONCE: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };
        match handle {
            Handle::Descriptor(socket) => {
                reset_on_close(socket);
                self.at_once.push_back(Done::ResetSet { slot });
            }
            Handle::Direct(_) => {
                let (target, flags) = handle.target();
                let entry = opcode::SetSockOpt::new(
                    target,
                    libc::SOL_SOCKET as u32,
                    libc::SO_LINGER as u32,
                    (&raw const AT_ONCE).cast(),
                    size_of::<libc::linger>() as u32,
                );
                // Before Linux 6.7 it fails, and the peer gets a FIN, which ends it just as well.
                self.push(entry.build().flags(flags), RESET << KIND_SHIFT | u64::from(slot));
            }
        }
    }

    /// Closes the connection (`Done::Closed`); no other request of the slot may be in flight.
    pub fn close(&mut self, handle: Handle, slot: u32) {
        match handle {
            Handle::Descriptor(socket) => {
                drop(socket);
                self.at_once.push_back(Done::Closed { slot });
            }
            Handle::Direct(place) => {
                let entry = opcode::Close::new(Fixed(place)).build();
                self.push(entry, CLOSE << KIND_SHIFT | u64::from(slot));
            }
        }
    }

    /// Says when the bell rings; once per call.
    pub fn watch_bell(&mut self, bell: RawFd) {
        // SAFETY of the address: the box lives as long as the ring, and nobody reads it.
        let address = self.memory.bell.get().cast();
        let entry = opcode::Read::new(Fd(bell), address, 8).build();
        self.push(entry, BELL << KIND_SHIFT);
    }

    /// Cancels the receive of this slot; it still has its last completion.
    pub fn cancel_receive(&mut self, slot: u32) {
        self.cancel(RECEIVE << KIND_SHIFT | u64::from(slot));
    }

    /// Cancels everything of this slot; each still has its last completion.
    pub fn cancel_slot(&mut self, slot: u32) {
        for kind in [RECEIVE, SEND, HANG_UP] {
            self.cancel(kind << KIND_SHIFT | u64::from(slot));
        }
    }

    fn cancel(&mut self, user_data: u64) {
        self.push(opcode::AsyncCancel::new(user_data).build(), CANCEL << KIND_SHIFT);
    }

    fn push(&mut self, entry: squeue::Entry, user_data: u64) {
        let entry = entry.user_data(user_data);
        // SAFETY: what the entry points to belongs to `self.memory` and stays where it is until
        // the completion is taken (see `Memory`); descriptors are looked up when it is submitted.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            // Full: hand over what is there. An error (EBUSY: completions first) leaves it full
            // only until completions have been taken, which makes room.
            if self.ring.submit().is_err() {
                self.take();
            }
        }
        self.in_flight += 1;
    }

    /// Hands everything over to the kernel and waits that long for a completion, not at all if
    /// there is one already.
    pub fn enter(&mut self, wait: Duration) -> io::Result<()> {
        let idle =
            self.at_once.is_empty() && self.taken.is_empty() && self.ring.completion().is_empty();
        let result = if wait.is_zero() || !idle {
            self.enter_without_waiting()
        } else {
            let time = Timespec::from(wait);
            let until = SubmitArgs::new().timespec(&time);
            let submitter = self.ring.submitter();
            if self.offered.gather && wait > GATHER {
                let least_us = GATHER.as_micros() as u32;
                submitter.submit_with_args(GATHERED, &until.min_wait_usec(least_us))
            } else {
                submitter.submit_with_args(1, &until)
            }
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) => Ok(()),
            // A signal; the time is over; completions first; a passing want of memory.
            Err((Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    fn enter_without_waiting(&mut self) -> io::Result<usize> {
        let submissions = self.ring.submission();
        let nothing =
            submissions.is_empty() && !submissions.taskrun() && !submissions.cq_overflow();
        drop(submissions);
        if nothing { Ok(0) } else { self.ring.submit() }
    }

    /// Whether the kernel has nothing more for us: no completion, no work put off, and no request
    /// that has not been handed over (a receive asked for again may complete at once).
    pub fn is_idle(&mut self) -> bool {
        let submissions = self.ring.submission();
        let nothing_due = submissions.is_empty() && !submissions.taskrun();
        drop(submissions);
        nothing_due
            && self.at_once.is_empty()
            && self.taken.is_empty()
            && self.ring.completion().is_empty()
    }

    /// The next completion, of those that are there.
    pub fn take_next(&mut self) -> Option<Done> {
        if let Some(done) = self.at_once.pop_front() {
            return Some(done);
        }
        loop {
            if self.taken.is_empty() {
                self.take();
            }
            let entry = self.taken.pop_front()?;
            if let Some(done) = self.done(&entry) {
                return Some(done);
            }
        }
    }

    fn take(&mut self) {
        self.taken.extend(self.ring.completion());
    }

    fn done(&mut self, entry: &cqueue::Entry) -> Option<Done> {
        let more = cqueue::more(entry.flags());
        if !more {
            self.in_flight -= 1;
        }
        let (kind, operand) = (entry.user_data() >> KIND_SHIFT, entry.user_data() as u32);
        let result = usize::try_from(entry.result()).map_err(|_| -entry.result());
        match kind {
            ACCEPT => {
                let more_wait = cqueue::sock_nonempty(entry.flags());
                let result = self.accepted(operand as u16, result);
                Some(Done::Accepted { index: operand as u16, result, more_wait })
            }
            RECEIVE => {
                let buffer = cqueue::buffer_select(entry.flags());
                let result = result.map(|count| self.filled(buffer, count));
                Some(Done::Received { slot: operand, result, more })
            }
            SEND => {
                let bytes = std::mem::take(&mut self.memory.sends[operand as usize]);
                Some(Done::Sent { slot: operand, result, bytes })
            }
            HANG_UP => Some(Done::HungUp { slot: operand }),
            PEERS => Some(Done::PeersWait),
            SHUT => Some(Done::Shut { slot: operand, worked: result.is_ok() }),
            RESET => Some(Done::ResetSet { slot: operand }),
            CLOSE => Some(Done::Closed { slot: operand }),
            BELL => Some(Done::Bell),
            _ => None,
        }
    }

    fn accepted(
        &mut self,
        index: u16,
        result: Result<usize, i32>,
    ) -> io::Result<(Handle, SockAddr)> {
        let slot = self.memory.accepts[usize::from(index)].get();
        match result {
            Ok(number) => {
                let handle = if self.direct {
                    Handle::Direct(number as u32)
                } else {
                    // SAFETY: the kernel has made this descriptor for us, and told nobody else.
                    let descriptor = unsafe { OwnedFd::from_raw_fd(number as RawFd) };
                    Handle::Descriptor(Socket::from(descriptor))
                };
                // SAFETY: the accept is complete, so the slot is ours again; the kernel has
                // written `length` bytes of address, never more than the storage has.
                let address = unsafe {
                    let slot = std::mem::replace(&mut *slot, AcceptSlot::empty());
                    SockAddr::new(slot.address, slot.length)
                };
                Ok((handle, address))
            }
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn filled(&mut self, buffer: Option<u16>, count: usize) -> Option<Filled> {
        let buffer = buffer?;
        if count == 0 {
            // The end of the stream; older kernels pick a buffer for it all the same.
            self.memory.buffers.give(buffer);
            return None;
        }
        let is_ours = buffer < self.memory.buffers.count && count <= BUFFER_BYTES;
        assert!(is_ours, "the kernel fills what it was given");
        Some(Filled { buffer, count })
    }

    /// The bytes of a buffer.
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        let at = usize::from(filled.buffer) * BUFFER_BYTES;
        // SAFETY: `filled` says that the kernel has given this buffer back, with `count` bytes
        // written, both checked; it is given away again only with `filled` itself (`give_back`),
        // which the borrow of `self` here excludes.
        unsafe {
            let start = self.memory.buffers.bytes.as_ptr().add(at);
            std::slice::from_raw_parts(start, filled.count)
        }
    }

    /// Gives a buffer to the kernel again.
    pub fn give_back(&mut self, filled: Filled) {
        self.memory.buffers.give(filled.buffer);
    }

    /// Cancels everything and takes every completion; whether all came.
    fn cancel_all(&mut self) -> bool {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(entry, CANCEL << KIND_SHIFT);
        for _ in 0..100 {
            while let Some(done) = self.take_next() {
                // Sockets close and buffers are forgotten: the kernel gets them no more.
                drop(done);
            }
            if self.in_flight == 0 {
                return true;
            }
            if self.enter(Duration::from_millis(10)).is_err() {
                return false;
            }
        }
        false
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let all = self.cancel_all();
        // SAFETY: neither field is used after this; the ring goes first, the memory after it.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            // Were a request still in flight, the kernel might yet write: the memory is left to
            // it, a few MiB at the end of a thread that has failed.
            if all {
                ManuallyDrop::drop(&mut self.memory);
            }
        }
    }
}

/// Sets IORING_ACCEPT_DONTWAIT in the field `ioprio`, which the crate has no name for either.
fn accept_at_once(entry: &mut squeue::Entry) {
    const IOPRIO: usize = 2;
    const ACCEPT_DONTWAIT: u16 = 1 << 1;
    // SAFETY: as in `cap_receive`; `ioprio` is the u16 at byte 2, and an accept's flags of the
    // ring go there.
    unsafe {
        let field = (&raw mut *entry).cast::<u8>().add(IOPRIO).cast::<u16>();
        field.write_unaligned(ACCEPT_DONTWAIT);
    }
}

/// Sets the cap of one arming, in the field `optlen` that the crate has no name for.
fn cap_receive(entry: &mut squeue::Entry) {
    const OPTLEN: usize = 44;
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: an entry is the 64 bytes of `struct io_uring_sqe`, plain numbers all of them;
    // `optlen` is the u32 at byte 44, and for a receive nothing else uses that place.
    unsafe {
        let field = (&raw mut *entry).cast::<u8>().add(OPTLEN).cast::<u32>();
        field.write_unaligned(RECEIVE_CAP_BYTES);
    }
}

impl AcceptSlot {
    fn empty() -> AcceptSlot {
        let address = SockAddrStorage::zeroed();
        let length = address.size_of();
        AcceptSlot { address, length }
    }
}

/// The buffers that receives share, and the ring of entries through which they are given.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    /// How many there are; the entries are as many as the kernel may see, whatever is given.
    count: u16,
    tail: u16,
}

impl Buffers {
    fn entries_layout() -> Layout {
        let bytes = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        Layout::from_size_align(bytes, rustix::param::page_size()).expect("16 KiB, page-aligned")
    }

    fn bytes_layout(count: u16) -> Layout {
        let bytes = usize::from(count) * BUFFER_BYTES;
        Layout::from_size_align(bytes, rustix::param::page_size()).expect("16 MiB, page-aligned")
    }

    /// So many buffers, 1 at least. They are not zeroed, which would take memory for those that
    /// are never filled; nobody reads a byte of them that the kernel has not written.
    fn new(count: u16) -> Buffers {
        // SAFETY: neither layout is of size zero.
        let (entries, bytes) = unsafe {
            let bytes = alloc(Buffers::bytes_layout(count));
            (alloc_zeroed(Buffers::entries_layout()), bytes)
        };
        let there = |memory: *mut u8, layout: Layout| {
            NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
        };
        let entries = there(entries, Buffers::entries_layout()).cast();
        Buffers { entries, bytes: there(bytes, Buffers::bytes_layout(count)), count, tail: 0 }
    }

    /// Gives a buffer to the kernel, at the tail of the ring.
    fn give(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (BUFFERS - 1));
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the index is below `BUFFERS`, so the entry is ours; the kernel does not read it
        // before it sees the tail behind it. The first entry's last two bytes are that tail, and
        // the three setters do not touch them. The buffer is one of `count`, and not the kernel's
        // (it was just made, or its `Filled` was given up): nobody else refers to its bytes.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            let at = usize::from(buffer) * BUFFER_BYTES;
            entry.set_addr(self.bytes.as_ptr().add(at) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut().cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts and are freed once, after the ring.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Buffers::entries_layout());
            dealloc(self.bytes.as_ptr(), Buffers::bytes_layout(self.count));
        }
    }
}

const _: () = assert!(BUFFERS.is_power_of_two(), "the kernel masks the tail");
