//! The default driver: one ring per shard, multishot receives from shared buffers.
//!
//! In:   operations of one shard; completions of its ring.
//! Out:  completions for the shard, on the thread that calls `UringDriver::run`.
//! Law:  draining comes before digesting; a slot is used again only after every request of the
//!       connection before has had its last completion.
//! Not:  the ring itself (`uring`), what to do (`shard`), files and other shards (`links`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockAddr, Socket};
use storage::row::Reason;

use crate::io::clock::Clock;
use crate::io::gate::{AcceptGate, Places, accept_is_exhausted};
use crate::io::links::{DriverCounters, Links, Machine};
use crate::io::slots::{Slots, index_of};
use crate::io::sockets::{
    LINGER_US, TURN_US, UNSENT_BYTES_MAX, digest_for_a_while, end_of_receive, peer_of, time_until,
};
use crate::io::uring::{ACCEPTS, Done, Filled, HUNGRY_FED_MAX, Handle, Offered, Ring};
use crate::io::{Completion, ConnectionId, Now, Op};

/// Completions between two looks at the clock.
const COMPLETIONS_PER_LOOK: usize = 64;

/// Drives one shard with io_uring.
#[derive(Debug)]
pub struct UringDriver {
    // Before the sockets: requests are cancelled while the descriptors are still theirs.
    ring: Ring,
    listener: Socket,
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

/// What is under way to take connections: first a wait until peers are there, then rounds of
/// accepts, each twice as large as the one before, until nobody waits behind the last.
#[derive(Debug)]
struct Accepts {
    /// A wait for peers is in flight.
    watching: bool,
    /// Peers were there when last looked.
    peers_wait: bool,
    in_flight: u16,
    /// How many the next round may have.
    round: u16,
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
        let mut ring = Ring::new(offered, gate.direct(), buffers)?;
        ring.watch_bell(links.mailbox.bell_raw());
        Ok(UringDriver {
            ring,
            listener,
            gate,
            accepts: Accepts { watching: false, peers_wait: false, in_flight: 0, round: 1 },
            links,
            clock,
            connections: Slots::new(),
            lingering: VecDeque::new(),
            hungry: VecDeque::new(),
            hungry_fed_max: HUNGRY_FED_MAX.min(usize::from(buffers / 2).max(1)),
            counters: DriverCounters::default(),
        })
    }

    /// Turns the machine until it has stopped. Errors: the machine's failure, or the ring's own.
    pub fn run<M: Machine>(mut self, machine: &mut M) -> io::Result<()> {
        let mut more = true;
        loop {
            self.perform_all(self.clock.now(), machine);
            if machine.stopped() && self.connections.is_empty() {
                return Ok(());
            }
            let busy = more || !self.hungry.is_empty();
            let wait = if busy { Duration::ZERO } else { self.wait_at_most(machine) };
            self.ring.enter(wait)?;
            let drained = self.drain(machine)?;
            let now = self.clock.now();
            self.run_timers(now);
            if drained {
                machine.handle(now, Completion::Drained);
            }
            more = digest_for_a_while(&self.clock, machine);
            self.counters.turns += 1;
            self.counters.accept_limited = self.gate.is_limited();
            machine.publish(now, &self.counters);
            if let Some(failure) = machine.failure() {
                return Err(failure);
            }
        }
    }

    fn wait_at_most<M: Machine>(&self, machine: &M) -> Duration {
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        let deadlines = [machine.poll_timeout(), lingering, self.gate.retry_at()];
        time_until(&self.clock, deadlines)
    }

    /// Takes everything that is complete. `true` when the kernel has nothing more for us.
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
            self.complete(now, done, machine);
            self.perform_all(now, machine);
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

    fn complete<M: Machine>(&mut self, now: Now, done: Done, machine: &mut M) {
        match done {
            Done::PeersWait => {
                self.accepts.watching = false;
                self.accepts.peers_wait = true;
                self.accept_as_wanted(now);
            }
            Done::Accepted { result, more_wait, .. } => {
                // The last of a round knows. If it failed, the next look says who waits.
                self.accepts.peers_wait = more_wait;
                self.accepted(now, result, machine);
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
                    self.perform_all(now, machine);
                }
                self.gate.look_again();
                self.accept_as_wanted(now);
            }
        }
    }

    /// Notes that a request of this slot has ended, and goes on with its close.
    fn ended(&mut self, slot: u32, note: impl FnOnce(&mut Connection)) {
        let Some(id) = self.connections.id_at(slot) else { return };
        if let Some(connection) = self.connections.get_mut(id) {
            note(connection);
        }
        self.continue_close(id);
    }

    fn accepted<M: Machine>(
        &mut self,
        now: Now,
        result: io::Result<(Handle, SockAddr)>,
        machine: &mut M,
    ) {
        self.accepts.in_flight -= 1;
        match result {
            Ok((handle, address)) => {
                let connection = self.connections.insert(Connection::new(handle));
                self.gate.entered();
                let peer = peer_of(&address);
                machine.handle(now, Completion::Accepted { connection, peer });
                return;
            }
            Err(error) if accept_is_exhausted(&error) => {
                self.counters.accept_failures += 1;
                self.gate.exhausted(now, &error);
                let errno = error.raw_os_error().unwrap_or_default();
                machine.handle(now, Completion::AcceptFailed { errno });
            }
            // Nobody waited, or the peer has gone while it did, or a firewall has refused it.
            Err(_) => {}
        }
        self.gate.unused();
    }

    /// Has a round of accepts in flight while peers wait and there is room for them, and looks
    /// out for peers when none wait.
    fn accept_as_wanted(&mut self, now: Now) {
        let accepts = &mut self.accepts;
        if accepts.in_flight > 0 || !self.gate.is_open() {
            return;
        }
        if !accepts.peers_wait {
            accepts.round = 1;
            if !accepts.watching {
                accepts.watching = true;
                self.ring.watch_listener(&self.listener);
            }
            return;
        }
        let kept = self.gate.keep(now, usize::from(accepts.round));
        let count = u16::try_from(kept).expect("no more than asked for");
        accepts.in_flight = count;
        // Elsewhere an accept too many would wait for the next peer, and hold a place meanwhile.
        if self.ring.accepts_at_once() {
            accepts.round = (accepts.round * 2).min(ACCEPTS);
        }
        for index in 0..count {
            self.ring.accept(&self.listener, index);
        }
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

    /// Does what the machine wants, until it wants nothing.
    fn perform_all<M: Machine>(&mut self, now: Now, machine: &mut M) {
        while let Some(op) = machine.poll_op() {
            if let Some(op) = self.links.perform(op) {
                self.perform(now, op, machine);
            }
        }
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

    fn run_timers(&mut self, now: Now) {
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
