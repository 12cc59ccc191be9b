//! Accepts: how the ring takes connections, a few at a time, each with an address of its own.
//!
//! In:   that peers wait; accepts that have ended; whether the gate is open.
//! Out:  `Accepted` and `AcceptFailed` for the shard; the next round of accepts.
//! Law:  a place is kept for each accept in flight, and is used or given back when it ends.
//! Not:  how many connections there may be (`gate`).

use std::io;

use socket2::SockAddr;

use super::{Connection, UringDriver};
use crate::io::gate::accept_is_exhausted;
use crate::io::links::Machine;
use crate::io::sockets::peer_of;
use crate::io::uring::{ACCEPTS, Handle};
use crate::io::{Completion, Now};

/// What is under way to take connections: first a wait until peers are there, then rounds of
/// accepts, each twice as large as the one before, until nobody waits behind the last.
#[derive(Debug)]
pub(super) struct Accepts {
    /// A wait for peers is in flight.
    watching: bool,
    /// Peers were there when last looked.
    peers_wait: bool,
    in_flight: u16,
    /// How many the next round may have.
    round: u16,
}

impl Accepts {
    /// Nothing is under way.
    pub(super) fn new() -> Accepts {
        Accepts { watching: false, peers_wait: false, in_flight: 0, round: 1 }
    }

    /// The wait for peers has ended: some are there.
    pub(super) fn peers_wait(&mut self) {
        self.watching = false;
        self.peers_wait = true;
    }
}

impl UringDriver {
    /// An accept has ended, with a connection or without.
    pub(super) fn accepted<M: Machine>(
        &mut self,
        now: Now,
        result: io::Result<(Handle, SockAddr)>,
        more_wait: bool,
        machine: &mut M,
    ) {
        // The last of a round knows. If it failed, the next look says who waits.
        self.accepts.peers_wait = more_wait;
        self.accepts.in_flight -= 1;
        match result {
            Ok((handle, address)) => {
                let connection = self.connections.insert(Connection::new(handle));
                self.gate.entered();
                self.spread.turn(&self.listener);
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
    pub(super) fn accept_as_wanted(&mut self, now: Now) {
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
}
