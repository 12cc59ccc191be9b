//! The driver where io_uring is not to be had: level-triggered epoll, safe code only.
//!
//! In:   operations of one shard; readiness of its listener, its connections and its mailbox.
//! Out:  completions for the shard, on the thread that runs its turns (`turn`).
//! Law:  draining comes before digesting; a connection gets `RECEIVE_BYTES_MAX` a turn at most.
//! Not:  what to do (`shard`), files and other shards (`links`).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::Socket;

use crate::io::clock::Clock;
use crate::io::gate::{AcceptGate, Places, accept_is_exhausted};
use crate::io::links::{DriverCounters, Links, Machine};
use crate::io::listener::Spread;
use crate::io::slots::Slots;
use crate::io::sockets::{
    LINGER_US, RECEIVE_BUFFER_BYTES, RECEIVE_BYTES_MAX, TURN_US, UNSENT_BYTES_MAX, end_of_receive,
    peer_of, reset_on_close,
};
use crate::io::turn::Turn;
use crate::io::{Completion, ConnectionId, Now, Op};

/// Events taken per wait: enough that a storm costs few calls, few enough to look at the clock.
const EVENTS_MAX: usize = 1024;
/// Connections taken per turn; those that wait are safe in the kernel's queue.
const ACCEPTS_PER_TURN_MAX: usize = 256;
/// Event data of the listener and of the bell: ids that no connection can have.
const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// Drives one shard with epoll.
pub struct EpollDriver {
    epoll: OwnedFd,
    listener: Socket,
    spread: Spread,
    gate: AcceptGate,
    links: Links,
    clock: Clock,
    connections: Slots<Connection>,
    /// Closing connections that wait for the peer's FIN, with their deadline; all wait as long.
    lingering: VecDeque<(u64, ConnectionId)>,
    buffer: Box<[u8]>,
    /// What was ready when last asked.
    events: Vec<Event>,
    counters: DriverCounters,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// What the kernel was last asked to tell of.
    interest: EventFlags,
    receiving: bool,
    ended: bool,
    unsent: Vec<u8>,
    /// The peer reads nothing: what is to be sent is dropped, and its end has been told.
    abandoned: bool,
    closing: bool,
    lingering: bool,
}

impl EpollDriver {
    /// A driver of the connections that `listener` brings.
    pub fn new(
        listener: Socket,
        places: Arc<Places>,
        links: Links,
        clock: Clock,
    ) -> io::Result<EpollDriver> {
        listener.set_nonblocking(true)?;
        let spread = Spread::of(&listener);
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, links.mailbox.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(EpollDriver {
            epoll,
            listener,
            spread,
            gate: AcceptGate::new(places),
            links,
            clock,
            connections: Slots::new(),
            lingering: VecDeque::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            events: Vec::with_capacity(EVENTS_MAX),
            counters: DriverCounters::default(),
        })
    }

    /// Serves one descriptor that is ready. `false` when more waits there than its share.
    fn ready<M: Machine>(&mut self, now: Now, event: &Event, machine: &mut M) -> io::Result<bool> {
        match event.data.u64() {
            LISTENER => self.accept(now, machine)?,
            BELL => {
                self.links.mailbox.hear();
                while self.links.deliver_one(now, machine) {
                    self.perform_all(now, machine)?;
                }
                self.gate.look_again();
                self.listen_as_wanted()?;
            }
            id => return self.connection_ready(now, ConnectionId(id), event, machine),
        }
        Ok(true)
    }

    fn accept<M: Machine>(&mut self, now: Now, machine: &mut M) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            if !self.gate.is_open() || self.gate.keep(now, 1) == 0 {
                break;
            }
            match self.listener.accept() {
                Ok((socket, address)) => {
                    self.gate.entered();
                    self.spread.turn(&self.listener);
                    socket.set_nonblocking(true)?;
                    let peer = peer_of(&address);
                    let connection = self.connections.insert(Connection::new(socket));
                    machine.handle(now, Completion::Accepted { connection, peer });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.gate.unused();
                    break;
                }
                Err(error) if accept_is_exhausted(&error) => {
                    self.gate.unused();
                    self.counters.accept_failures += 1;
                    self.gate.exhausted(now, &error);
                    let errno = error.raw_os_error().unwrap_or_default();
                    machine.handle(now, Completion::AcceptFailed { errno });
                }
                // The peer has gone while it waited, or a firewall has refused it: the next one.
                Err(_) => self.gate.unused(),
            }
            self.perform_all(now, machine)?;
        }
        self.listen_as_wanted()
    }

    fn connection_ready<M: Machine>(
        &mut self,
        now: Now,
        id: ConnectionId,
        event: &Event,
        machine: &mut M,
    ) -> io::Result<bool> {
        let flags = event.flags;
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.send(id, &[]);
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(true) };
        if connection.closing {
            self.continue_close(now, id, flags, machine)?;
            return Ok(true);
        }
        let drained = self.receive(now, id, machine)?;
        self.watch(id)?;
        Ok(drained)
    }

    /// Reads until the queue is empty, the shard has had enough, or the turn's share is spent.
    fn receive<M: Machine>(
        &mut self,
        now: Now,
        id: ConnectionId,
        machine: &mut M,
    ) -> io::Result<bool> {
        let mut share = RECEIVE_BYTES_MAX;
        while share > 0 {
            let Some(connection) = self.connections.get_mut(id) else { return Ok(true) };
            if !connection.receiving || connection.ended || connection.closing {
                return Ok(true);
            }
            let received =
                rustix::net::recv(&connection.socket, &mut *self.buffer, RecvFlags::empty());
            match received {
                Ok((0, _)) => {
                    connection.ended = true;
                    let reason = storage::row::Reason::ClosedByRouter;
                    machine.handle(now, Completion::ReceiveEnded { connection: id, reason });
                }
                Ok((count, _)) => {
                    let bytes = &self.buffer[..count];
                    machine.handle(now, Completion::Received { connection: id, bytes });
                    // A short read has emptied the queue: no second call to hear EAGAIN. What
                    // comes after it, a FIN too, makes the connection ready again.
                    share = share.saturating_sub(count);
                    if count < self.buffer.len() {
                        self.perform_all(now, machine)?;
                        return Ok(true);
                    }
                }
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    connection.ended = true;
                    let reason = end_of_receive(errno.raw_os_error());
                    machine.handle(now, Completion::ReceiveEnded { connection: id, reason });
                }
            }
            self.perform_all(now, machine)?;
        }
        Ok(false)
    }

    fn perform<M: Machine>(&mut self, now: Now, op: Op, machine: &mut M) -> io::Result<()> {
        match op {
            Op::Accept => {
                self.gate.wanted(true);
                self.listen_as_wanted()
            }
            Op::PauseAccept => {
                self.gate.wanted(false);
                self.listen_as_wanted()
            }
            Op::Receive { connection } => self.set_receiving(connection, true),
            Op::PauseReceive { connection } => self.set_receiving(connection, false),
            Op::Send { connection, bytes } => {
                if !self.send(connection, &bytes) {
                    self.abandon(now, connection, machine);
                }
                self.watch(connection)
            }
            Op::Close { connection, reset } => self.close(now, connection, reset, machine),
            other => unreachable!("{other:?} is performed by the links"),
        }
    }

    fn set_receiving(&mut self, id: ConnectionId, receiving: bool) -> io::Result<()> {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.receiving = receiving;
        }
        self.watch(id)
    }

    /// Sends what is unsent and then `bytes`; `false` when the peer reads none of it any more.
    fn send(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        if connection.abandoned {
            return true;
        }
        connection.unsent.extend_from_slice(bytes);
        let mut sent = 0;
        while sent < connection.unsent.len() {
            let rest = &connection.unsent[sent..];
            match rustix::net::send(&connection.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The receiving side says how the connection ended.
                Err(_) => sent = connection.unsent.len(),
            }
        }
        connection.unsent.drain(..sent);
        connection.unsent.len() <= UNSENT_BYTES_MAX
    }

    /// A router that asked for acks and reads none is lost: its acks would grow without end.
    fn abandon<M: Machine>(&mut self, now: Now, id: ConnectionId, machine: &mut M) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.unsent = Vec::new();
        connection.abandoned = true;
        self.counters.sends_abandoned += 1;
        if !connection.ended {
            connection.ended = true;
            let reason = storage::row::Reason::TimedOut;
            machine.handle(now, Completion::ReceiveEnded { connection: id, reason });
        }
    }

    fn close<M: Machine>(
        &mut self,
        now: Now,
        id: ConnectionId,
        reset: bool,
        machine: &mut M,
    ) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        if reset {
            reset_on_close(&connection.socket);
            return self.gone(now, id, machine);
        }
        connection.closing = true;
        self.lingering.push_back((now.monotonic_us + LINGER_US, id));
        self.continue_close(now, id, EventFlags::empty(), machine)
    }

    /// Sends the rest, then FIN, then waits for the peer's FIN: closing with bytes unread would
    /// reset the connection and take acks under way with it. Nothing more is read.
    fn continue_close<M: Machine>(
        &mut self,
        now: Now,
        id: ConnectionId,
        flags: EventFlags,
        machine: &mut M,
    ) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let peer_done = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if connection.unsent.is_empty() && !connection.lingering {
            connection.lingering = true;
            if rustix::net::shutdown(&connection.socket, Shutdown::Write).is_err() {
                return self.gone(now, id, machine);
            }
        }
        if peer_done || (connection.ended && connection.unsent.is_empty()) {
            return self.gone(now, id, machine);
        }
        self.watch(id)
    }

    fn gone<M: Machine>(&mut self, now: Now, id: ConnectionId, machine: &mut M) -> io::Result<()> {
        // Closing the only descriptor takes it out of the epoll set as well.
        if self.connections.remove(id).is_some() {
            machine.handle(now, Completion::Closed { connection: id });
            self.gate.left();
            self.listen_as_wanted()?;
        }
        Ok(())
    }

    /// Brings the listener's place in the epoll set in line with the gate.
    fn listen_as_wanted(&mut self) -> io::Result<()> {
        match self.gate.change() {
            Some(true) => {
                let data = EventData::new_u64(LISTENER);
                Ok(epoll::add(&self.epoll, self.listener.as_fd(), data, EventFlags::IN)?)
            }
            Some(false) => Ok(epoll::delete(&self.epoll, self.listener.as_fd())?),
            None => Ok(()),
        }
    }

    /// Brings a connection's place in the epoll set in line with what it waits for. One that waits
    /// for nothing is taken out: a hang-up would be reported for ever otherwise.
    fn watch(&mut self, id: ConnectionId) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let wanted = connection.wanted();
        let before = std::mem::replace(&mut connection.interest, wanted);
        let socket = connection.socket.as_fd();
        let data = EventData::new_u64(id.0);
        if before == wanted {
            Ok(())
        } else if before.is_empty() {
            Ok(epoll::add(&self.epoll, socket, data, wanted)?)
        } else if wanted.is_empty() {
            Ok(epoll::delete(&self.epoll, socket)?)
        } else {
            Ok(epoll::modify(&self.epoll, socket, data, wanted)?)
        }
    }
}

impl Turn for EpollDriver {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn perform_all<M: Machine>(&mut self, now: Now, machine: &mut M) -> io::Result<()> {
        while let Some(op) = machine.poll_op() {
            if let Some(op) = self.links.perform(op) {
                self.perform(now, op, machine)?;
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn due_us(&self) -> Option<u64> {
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        lingering.into_iter().chain(self.gate.retry_at()).min()
    }

    fn wait(&mut self, wait: Duration) -> io::Result<()> {
        self.events.clear();
        let events = rustix::buffer::spare_capacity(&mut self.events);
        let wait = wait.try_into().expect("a second at most");
        match epoll::wait(&self.epoll, events, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Round after round, each connection its share of each.
    fn drain<M: Machine>(&mut self, machine: &mut M) -> io::Result<bool> {
        let started_us = self.clock.now().monotonic_us;
        loop {
            let mut drained = self.events.len() < EVENTS_MAX;
            for index in 0..self.events.len() {
                let now = self.clock.now();
                if now.monotonic_us.saturating_sub(started_us) > TURN_US {
                    // The shard's timers wait for us; what is left is ready in the next turn too.
                    return Ok(false);
                }
                let Some(&event) = self.events.get(index) else { break };
                drained &= self.ready(now, &event, machine)?;
            }
            if drained {
                return Ok(true);
            }
            self.wait(Duration::ZERO)?;
        }
    }

    fn run_timers<M: Machine>(&mut self, now: Now, machine: &mut M) -> io::Result<()> {
        while let Some((deadline, id)) = self.lingering.front().copied() {
            if deadline > now.monotonic_us {
                break;
            }
            self.lingering.pop_front();
            self.gone(now, id, machine)?;
        }
        if self.gate.retry_is_due(now) {
            self.listen_as_wanted()?;
        }
        Ok(())
    }

    fn counters(&mut self) -> &mut DriverCounters {
        self.counters.accept_limited = self.gate.is_limited();
        &mut self.counters
    }
}

impl Connection {
    fn new(socket: Socket) -> Connection {
        Connection {
            socket,
            interest: EventFlags::empty(),
            receiving: false,
            ended: false,
            unsent: Vec::new(),
            abandoned: false,
            closing: false,
            lingering: false,
        }
    }

    fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, self.receiving && !self.ended && !self.closing);
        wanted.set(EventFlags::OUT, !self.unsent.is_empty());
        wanted.set(EventFlags::RDHUP, self.lingering);
        wanted
    }
}
