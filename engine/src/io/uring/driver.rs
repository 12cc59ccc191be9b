//! The default driver: one ring per shard, multishot receives from shared buffers.
//!
//! In:   operations of one shard; completions of its ring.
//! Out:  completions for the shard, on the thread that calls `UringDriver::run`.
//! Law:  draining comes before digesting; a slot is used again only after every request of the
//!       connection before has had its last completion.
//! Not:  the ring itself (`uring`), what to do (`shard`), files and other shards (`links`).

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use rustix::net::Shutdown;
use socket2::{SockAddr, Socket};
use storage::row::Reason;

use crate::io::clock::Clock;
use crate::io::links::{DriverCounters, Links, Machine};
use crate::io::slots::{Slots, index_of};
use crate::io::sockets::{
    AcceptGate, LINGER_US, TURN_US, UNSENT_BYTES_MAX, accept_is_exhausted, digest_for_a_while,
    end_of_receive, peer_of, reset_on_close, time_until,
};
use crate::io::uring::{ACCEPTS, Done, Filled, Offered, Ring};
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
    /// Accepts in flight, by index.
    accepting: [bool; ACCEPTS as usize],
    links: Links,
    clock: Clock,
    connections: Slots<Connection>,
    /// Closing connections that wait for the peer's FIN, with their deadline; all wait as long.
    lingering: VecDeque<(u64, ConnectionId)>,
    /// Connections whose receive found no free buffer.
    hungry: Vec<ConnectionId>,
    counters: DriverCounters,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// The shard wants bytes.
    receiving: bool,
    /// A receive is in flight; likewise a send, and a wait for the peer to hang up.
    armed: bool,
    sending: bool,
    watching: bool,
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
    /// A driver of the connections that `listener` brings. To be made on the thread that runs it.
    pub fn new(
        offered: Offered,
        listener: Socket,
        connections_max: usize,
        links: Links,
        clock: Clock,
    ) -> io::Result<UringDriver> {
        // A ring waits by itself; a non-blocking socket would make it answer EAGAIN instead.
        listener.set_nonblocking(false)?;
        let mut ring = Ring::new(offered)?;
        ring.watch_bell(links.mailbox.bell_raw());
        Ok(UringDriver {
            ring,
            listener,
            gate: AcceptGate::new(connections_max),
            accepting: [false; ACCEPTS as usize],
            links,
            clock,
            connections: Slots::new(),
            lingering: VecDeque::new(),
            hungry: Vec::new(),
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
            let wait = if more { Duration::ZERO } else { self.wait_at_most(machine) };
            self.ring.enter(wait)?;
            let drained = self.drain(machine)?;
            let now = self.clock.now();
            self.run_timers(now, machine);
            if drained {
                machine.handle(now, Completion::Drained);
            }
            more = digest_for_a_while(&self.clock, machine);
            self.counters.turns += 1;
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
            Done::Accepted { index, result } => {
                self.accepting[usize::from(index)] = false;
                self.accepted(now, result, machine);
                self.accept_as_wanted();
            }
            Done::Received { slot, result, more } => {
                self.received(now, slot, result, more, machine);
            }
            Done::Sent { slot, result, bytes } => self.sent(now, slot, result, bytes, machine),
            Done::HungUp { slot } => {
                let Some(id) = self.connections.id_at(slot) else { return };
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.watching = false;
                    connection.over = true;
                }
                self.continue_close(now, id, machine);
            }
            Done::Bell => {
                self.ring.watch_bell(self.links.mailbox.bell_raw());
                self.links.mailbox.heard();
                while self.links.deliver_one(now, machine) {
                    self.perform_all(now, machine);
                }
            }
        }
    }

    fn accepted<M: Machine>(
        &mut self,
        now: Now,
        result: io::Result<(Socket, SockAddr)>,
        machine: &mut M,
    ) {
        match result {
            Ok((socket, address)) => {
                let Some(peer) = peer_of(&address) else { return };
                let connection = self.connections.insert(Connection::new(socket));
                self.gate.entered(now);
                machine.handle(now, Completion::Accepted { connection, peer });
            }
            Err(error) if accept_is_exhausted(&error) => {
                self.counters.accept_failures += 1;
                self.gate.exhausted(now, &error);
                let errno = error.raw_os_error().unwrap_or_default();
                machine.handle(now, Completion::AcceptFailed { errno });
            }
            // Cancelled, or the peer has gone while it waited, or a firewall has refused it.
            Err(_) => {}
        }
    }

    /// Keeps accepts in flight while connections are wanted, and none while they are not.
    fn accept_as_wanted(&mut self) {
        let open = self.gate.is_open();
        let closed_now = self.gate.change() == Some(false);
        for index in 0..ACCEPTS {
            let accepting = &mut self.accepting[usize::from(index)];
            if open && !*accepting {
                *accepting = true;
                self.ring.accept(&self.listener, index);
            } else if closed_now && *accepting {
                self.ring.cancel_accept(index);
            }
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
                self.hungry.push(id);
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
        self.continue_close(now, id, machine);
    }

    /// Asks again for those that found no buffer: by now buffers have been given back.
    fn feed_the_hungry(&mut self) {
        for id in std::mem::take(&mut self.hungry) {
            self.arm(id);
        }
    }

    /// Has a receive in flight exactly if the shard wants bytes and some may come.
    fn arm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let wanted = connection.receiving && !connection.ended && !connection.closing;
        if wanted && !connection.armed {
            connection.armed = true;
            self.ring.receive(&connection.socket, index_of(id));
        }
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
                self.accept_as_wanted();
            }
            Op::PauseAccept => {
                self.gate.wanted(false);
                self.accept_as_wanted();
            }
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
            Op::Close { connection, reset } => self.close(now, connection, reset, machine),
            other => unreachable!("{other:?} is performed by the links"),
        }
    }

    fn send<M: Machine>(&mut self, now: Now, id: ConnectionId, bytes: &[u8], machine: &mut M) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.abandoned {
            return;
        }
        connection.unsent.extend_from_slice(bytes);
        if !connection.sending && !connection.unsent.is_empty() {
            connection.sending = true;
            let bytes = std::mem::take(&mut connection.unsent);
            self.ring.send(&connection.socket, index_of(id), bytes);
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
        self.continue_close(now, id, machine);
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

    fn close<M: Machine>(&mut self, now: Now, id: ConnectionId, reset: bool, machine: &mut M) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.closing = true;
        if reset {
            reset_on_close(&connection.socket);
            connection.over = true;
            self.ring.cancel_slot(index_of(id));
        } else {
            if connection.armed {
                self.ring.cancel_receive(index_of(id));
            }
            self.lingering.push_back((now.monotonic_us + LINGER_US, id));
        }
        self.continue_close(now, id, machine);
    }

    /// Sends the rest, then FIN, then waits for the peer's FIN: closing with bytes unread would
    /// reset the connection and take acks under way with it. Nothing more is read.
    fn continue_close<M: Machine>(&mut self, now: Now, id: ConnectionId, machine: &mut M) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.closing {
            return;
        }
        let all_sent = connection.unsent.is_empty() && !connection.sending;
        if !connection.over && !connection.fin_sent && all_sent {
            connection.fin_sent = true;
            let shut = rustix::net::shutdown(&connection.socket, Shutdown::Write);
            connection.over = shut.is_err() || connection.ended;
            if !connection.over {
                connection.watching = true;
                self.ring.watch_hang_up(&connection.socket, index_of(id));
            }
        }
        let in_flight = connection.armed || connection.sending || connection.watching;
        if connection.over && !in_flight {
            drop(self.connections.remove(id));
            machine.handle(now, Completion::Closed { connection: id });
            self.gate.left();
            self.accept_as_wanted();
        }
    }

    fn run_timers<M: Machine>(&mut self, now: Now, machine: &mut M) {
        while let Some((deadline, id)) = self.lingering.front().copied() {
            if deadline > now.monotonic_us {
                break;
            }
            self.lingering.pop_front();
            if let Some(connection) = self.connections.get_mut(id) {
                connection.over = true;
                self.ring.cancel_slot(index_of(id));
                self.continue_close(now, id, machine);
            }
        }
        if self.gate.retry_is_due(now) {
            self.accept_as_wanted();
        }
    }
}

impl Connection {
    fn new(socket: Socket) -> Connection {
        Connection {
            socket,
            receiving: false,
            armed: false,
            sending: false,
            watching: false,
            ended: false,
            unsent: Vec::new(),
            abandoned: false,
            closing: false,
            fin_sent: false,
            over: false,
        }
    }
}
