//! The default driver: one ring per shard, multishot receives from shared buffers.
//!
//! In:   operations of one shard; completions of its ring.
//! Out:  completions for the shard, on the thread that runs its turns (`turn`).
//! Law:  draining comes before digesting; a slot is used again only after every request of the
//!       connection before has had its last completion.
//! Not:  the ring itself (`uring`), what to do (`shard`), files and other shards (`links`).

mod accepts;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use storage::row::Reason;

use crate::io::clock::Clock;
use crate::io::gate::{AcceptGate, Places};
use crate::io::links::{DriverCounters, Links, Machine};
use crate::io::listener::Spread;
use crate::io::slots::{Slots, index_of};
use crate::io::sockets::{LINGER_US, TURN_US, UNSENT_BYTES_MAX, end_of_receive};
use crate::io::turn::Turn;
use crate::io::uring::{Done, Filled, HUNGRY_FED_MAX, Handle, Offered, Ring};
use crate::io::{Completion, ConnectionId, Now, Op};
use accepts::Accepts;

/// Completions between two looks at the clock.
const COMPLETIONS_PER_LOOK: usize = 64;

/// Drives one shard with io_uring.
#[derive(Debug)]
pub struct UringDriver {
    // Before the sockets: requests are cancelled while the descriptors are still theirs.
    ring: Ring,
    listener: Socket,
    spread: Spread,
    gate: AcceptGate,
    accepts: Accepts,
    links: Links,
    clock: Clock,
    connections: Slots<Connection>,
    /// Closing connections that wait for the peer's FIN, with their deadline; all wait as long.
    lingering: VecDeque<(u64, ConnectionId)>,
    /// Connections whose receive found no free buffer.
    hungry: VecDeque<ConnectionId>,
    /// How many of them may be fed in one turn.
    hungry_fed_max: usize,
    counters: DriverCounters,
}

#[derive(Debug)]
struct Connection {
    /// `None` once it is being closed.
    handle: Option<Handle>,
    /// The shard wants bytes.
    receiving: bool,
    /// A receive is in flight; likewise a send, and a wait for the peer to hang up.
    armed: bool,
    sending: bool,
    watching: bool,
    /// Orders in flight: to send a FIN, to reset at the close.
    ending: u8,
    /// The end of the stream has been told.
    ended: bool,
    unsent: Vec<u8>,
    /// The peer reads nothing: what is to be sent is dropped, and its end has been told.
    abandoned: bool,
    closing: bool,
    fin_sent: bool,
    /// Nothing is waited for but the last completions.
    over: bool,
}

impl UringDriver {
    /// A driver of the connections that `listener` brings, with so many receive buffers (`BUFFERS`
    /// at most). To be made on the thread that runs it.
    /// Errors: what the kernel said when the ring was set up.
    pub fn new(
        offered: Offered,
        buffers: u16,
        listener: Socket,
        places: Arc<Places>,
        links: Links,
        clock: Clock,
    ) -> io::Result<UringDriver> {
        let gate = AcceptGate::new(places);
        let spread = Spread::of(&listener);
        let mut ring = Ring::new(offered, gate.direct(), buffers)?;
        ring.watch_bell(links.mailbox.bell_raw());
        Ok(UringDriver {
            ring,
            listener,
            spread,
            gate,
            accepts: Accepts::new(),
            links,
            clock,
            connections: Slots::new(),
            lingering: VecDeque::new(),
            hungry: VecDeque::new(),
            hungry_fed_max: HUNGRY_FED_MAX.min(usize::from(buffers / 2).max(1)),
            counters: DriverCounters::default(),
        })
    }

    fn complete<M: Machine>(&mut self, now: Now, done: Done, machine: &mut M) -> io::Result<()> {
        match done {
            Done::PeersWait => {
                self.accepts.peers_wait();
                self.accept_as_wanted(now);
            }
            Done::Accepted { result, more_wait, .. } => {
                self.accepted(now, result, more_wait, machine);
                self.accept_as_wanted(now);
            }
            Done::Received { slot, result, more } => {
                self.received(now, slot, result, more, machine);
            }
            Done::Sent { slot, result, bytes } => self.sent(now, slot, result, bytes, machine),
            Done::HungUp { slot } => self.ended(slot, |connection| {
                connection.watching = false;
                connection.over = true;
            }),
            Done::Shut { slot, worked } => self.ended(slot, |connection| {
                connection.ending -= 1;
                connection.over |= !worked || connection.ended;
                connection.fin_sent = true;
            }),
            Done::ResetSet { slot } => self.ended(slot, |connection| connection.ending -= 1),
            Done::Closed { slot } => {
                let id = self.connections.id_at(slot).expect("a slot that closes is in use");
                drop(self.connections.remove(id));
                machine.handle(now, Completion::Closed { connection: id });
                self.gate.left();
                self.accept_as_wanted(now);
            }
            Done::Bell => {
                self.ring.watch_bell(self.links.mailbox.bell_raw());
                self.links.mailbox.heard();
                while self.links.deliver_one(now, machine) {
                    self.perform_all(now, machine)?;
                }
                self.gate.look_again();
                self.accept_as_wanted(now);
            }
        }
        Ok(())
    }

    /// Notes that a request of this slot has ended, and goes on with its close.
    fn ended(&mut self, slot: u32, note: impl FnOnce(&mut Connection)) {
        let Some(id) = self.connections.id_at(slot) else { return };
        if let Some(connection) = self.connections.get_mut(id) {
            note(connection);
        }
        self.continue_close(id);
    }

    fn received<M: Machine>(
        &mut self,
        now: Now,
        slot: u32,
        result: Result<Option<Filled>, i32>,
        more: bool,
        machine: &mut M,
    ) {
        let id = self.connections.id_at(slot).expect("a slot with a receive in flight is in use");
        let connection = self.connections.get_mut(id).expect("the id was read just now");
        connection.armed &= more;
        let told = connection.ended || connection.closing;
        match result {
            Ok(Some(filled)) => {
                // Bytes that were under way when the shard closed are read all the same: it counts
                // them as rejected.
                let bytes = self.ring.bytes(&filled);
                machine.handle(now, Completion::Received { connection: id, bytes });
                self.counters.receive_rounds += u64::from(!more);
                self.ring.give_back(filled);
            }
            Err(libc::ENOBUFS) => {
                self.counters.buffers_exhausted += 1;
                self.hungry.push_back(id);
                return;
            }
            Err(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {}
            ended if !told => {
                connection.ended = true;
                let reason = ended.err().map_or(Reason::ClosedByRouter, end_of_receive);
                machine.handle(now, Completion::ReceiveEnded { connection: id, reason });
            }
            _ => {}
        }
        self.arm(id);
        self.continue_close(id);
    }

    /// Asks again for those that found no buffer: by now buffers have been given back. For no
    /// more of them than there are buffers, or most would only be told the same again.
    fn feed_the_hungry(&mut self) {
        let mut fed = 0;
        while fed < self.hungry_fed_max
            && let Some(id) = self.hungry.pop_front()
        {
            fed += usize::from(self.arm(id));
        }
    }

    /// Has a receive in flight exactly if the shard wants bytes and some may come; whether one was
    /// asked for now.
    fn arm(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let wanted = connection.receiving && !connection.ended && !connection.closing;
        if let Some(handle) = &connection.handle
            && wanted
            && !connection.armed
        {
            connection.armed = true;
            self.ring.receive(handle, index_of(id));
            return true;
        }
        false
    }

    fn perform<M: Machine>(&mut self, now: Now, op: Op, machine: &mut M) {
        match op {
            Op::Accept => {
                self.gate.wanted(true);
                self.accept_as_wanted(now);
            }
            // Accepts in flight end at once; a wait for peers may stay, nothing follows from it.
            Op::PauseAccept => self.gate.wanted(false),
            Op::Receive { connection: id } => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.receiving = true;
                }
                self.arm(id);
            }
            Op::PauseReceive { connection: id } => {
                let Some(connection) = self.connections.get_mut(id) else { return };
                connection.receiving = false;
                if connection.armed {
                    self.ring.cancel_receive(index_of(id));
                }
            }
            Op::Send { connection, bytes } => self.send(now, connection, &bytes, machine),
            Op::Close { connection, reset } => self.close(now, connection, reset),
            other => unreachable!("{other:?} is performed by the links"),
        }
    }

    fn send<M: Machine>(&mut self, now: Now, id: ConnectionId, bytes: &[u8], machine: &mut M) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.abandoned {
            return;
        }
        connection.unsent.extend_from_slice(bytes);
        if let Some(handle) = &connection.handle
            && !connection.sending
            && !connection.unsent.is_empty()
        {
            connection.sending = true;
            let bytes = std::mem::take(&mut connection.unsent);
            self.ring.send(handle, index_of(id), bytes);
        } else if connection.unsent.len() > UNSENT_BYTES_MAX {
            self.abandon(now, id, machine);
        }
    }

    fn sent<M: Machine>(
        &mut self,
        now: Now,
        slot: u32,
        result: Result<usize, i32>,
        mut bytes: Vec<u8>,
        machine: &mut M,
    ) {
        let id = self.connections.id_at(slot).expect("a slot with a send in flight is in use");
        let connection = self.connections.get_mut(id).expect("the id was read just now");
        connection.sending = false;
        match result {
            Ok(count) => {
                bytes.drain(..count.min(bytes.len()));
                bytes.append(&mut connection.unsent);
                connection.unsent = bytes;
                self.send(now, id, &[], machine);
            }
            // The receiving side says how the connection ended.
            Err(_) => connection.unsent.clear(),
        }
        self.continue_close(id);
    }

    /// A router that asked for acks and reads none is lost: its acks would grow without end.
    fn abandon<M: Machine>(&mut self, now: Now, id: ConnectionId, machine: &mut M) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.unsent = Vec::new();
        connection.abandoned = true;
        self.counters.sends_abandoned += 1;
        self.ring.cancel_slot(index_of(id));
        if !connection.ended {
            connection.ended = true;
            let reason = Reason::TimedOut;
            machine.handle(now, Completion::ReceiveEnded { connection: id, reason });
        }
    }

    fn close(&mut self, now: Now, id: ConnectionId, reset: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.closing = true;
        if reset {
            connection.over = true;
            if let Some(handle) = &connection.handle {
                connection.ending += 1;
                self.ring.reset_on_close(handle, index_of(id));
            }
            self.ring.cancel_slot(index_of(id));
        } else {
            if connection.armed {
                self.ring.cancel_receive(index_of(id));
            }
            self.lingering.push_back((now.monotonic_us + LINGER_US, id));
        }
        self.continue_close(id);
    }

    /// Sends the rest, then FIN, then waits for the peer's FIN: closing with bytes unread would
    /// reset the connection and take acks under way with it. Nothing more is read.
    fn continue_close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.closing {
            return;
        }
        let Some(handle) = &connection.handle else { return };
        let all_sent = connection.unsent.is_empty() && !connection.sending;
        if !connection.over && connection.ending == 0 && all_sent {
            if !connection.fin_sent {
                connection.ending += 1;
                self.ring.shut(handle, index_of(id));
            } else if !connection.watching {
                connection.watching = true;
                self.ring.watch_hang_up(handle, index_of(id));
            }
        }
        let in_flight = connection.armed || connection.sending || connection.watching;
        if connection.over && !in_flight && connection.ending == 0 {
            let handle = connection.handle.take().expect("it was there just now");
            self.ring.close(handle, index_of(id));
        }
    }
}

impl Turn for UringDriver {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn perform_all<M: Machine>(&mut self, now: Now, machine: &mut M) -> io::Result<()> {
        while let Some(op) = machine.poll_op() {
            if let Some(op) = self.links.perform(op) {
                self.perform(now, op, machine);
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn is_busy(&self) -> bool {
        !self.hungry.is_empty()
    }

    fn due_us(&self) -> Option<u64> {
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        lingering.into_iter().chain(self.gate.retry_at()).min()
    }

    fn wait(&mut self, wait: Duration) -> io::Result<()> {
        self.ring.enter(wait)
    }

    fn drain<M: Machine>(&mut self, machine: &mut M) -> io::Result<bool> {
        let started = self.clock.now();
        let mut now = started;
        let mut looked = 0;
        loop {
            let Some(done) = self.ring.take_next() else {
                self.feed_the_hungry();
                if self.ring.is_idle() {
                    return Ok(true);
                }
                // Work that the kernel has put off until we ask.
                self.ring.enter(Duration::ZERO)?;
                now = self.clock.now();
                if now.monotonic_us.saturating_sub(started.monotonic_us) > TURN_US {
                    return Ok(false);
                }
                continue;
            };
            self.complete(now, done, machine)?;
            self.perform_all(now, machine)?;
            looked += 1;
            if looked % COMPLETIONS_PER_LOOK == 0 {
                now = self.clock.now();
                if now.monotonic_us.saturating_sub(started.monotonic_us) > TURN_US {
                    // The shard's timers wait for us; the rest is there in the next turn too.
                    self.feed_the_hungry();
                    return Ok(false);
                }
            }
        }
    }

    fn run_timers<M: Machine>(&mut self, now: Now, _: &mut M) -> io::Result<()> {
        while let Some((deadline, id)) = self.lingering.front().copied() {
            if deadline > now.monotonic_us {
                break;
            }
            self.lingering.pop_front();
            if let Some(connection) = self.connections.get_mut(id) {
                connection.over = true;
                self.ring.cancel_slot(index_of(id));
                self.continue_close(id);
            }
        }
        if self.gate.retry_is_due(now) {
            self.accept_as_wanted(now);
        }
        Ok(())
    }

    fn counters(&mut self) -> &mut DriverCounters {
        self.counters.accept_limited = self.gate.is_limited();
        &mut self.counters
    }
}

impl Connection {
    fn new(handle: Handle) -> Connection {
        Connection {
            handle: Some(handle),
            receiving: false,
            armed: false,
            sending: false,
            watching: false,
            ending: 0,
            ended: false,
            unsent: Vec::new(),
            abandoned: false,
            closing: false,
            fin_sent: false,
            over: false,
        }
    }
}
