//! Claim: which router a connection speaks for, and getting that router's state.
//!
//! In:   the first unit of a connection; claims and grants of other shards.
//! Out:  the session, with the router's state in it; or the refusal.
//! Law:  one router, one place: a state moves only when every row of it is durable.
//! Not:  who may speak (`policy`), what the first unit changes (`apply`).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use storage::mapping::RouterId;
use storage::router::RouterState;
use storage::row::{Cause, InputMode, Reason};
use storage::time::Micros;

use super::Shard;
use super::connection::{Claiming, Connection, Phase};
use super::digest::Flow;
use super::reserve::Size;
use crate::io::{ConnectionId, Now, Op};
use crate::memory::signed;
use crate::metrics::Metric;
use crate::registry::{Claim, Found, Message, Opened};
use crate::wire::{Rejection, UnitKind};

/// A router whose home is this shard, and who wants it next.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) slot: Slot,
    /// What its table counts for in the sum of this shard; while a session has it, that knows.
    pub(crate) counted: Size,
    claims: VecDeque<Claim>,
    /// The source and the time of the newest connection that has spoken for the router.
    newest: Option<(IpAddr, Opened)>,
}

/// Where in this shard the state of a router is.
#[derive(Debug)]
pub(crate) enum Slot {
    /// Here: nobody speaks for the router.
    Idle(Box<RouterState>),
    /// In the session of this connection.
    Active(ConnectionId),
    /// Here, and promised to another shard as soon as the batch `after` is durable.
    Leaving {
        /// The state.
        state: Box<RouterState>,
        /// The batch that covers its last row.
        after: u64,
        /// To whom.
        to: Claim,
    },
    /// On its way from another shard.
    Awaited,
}

impl Home {
    /// Whether the same source has opened a newer connection, and spoken on it already. What an
    /// older one still brings, read late, is the past: it must not replace what is newer.
    fn is_outdated(&self, claim: &Claim) -> bool {
        let (Some(opened), Some((source, newest))) = (claim.opened, self.newest) else {
            return false;
        };
        source == claim.peer.ip() && opened < newest
    }
}

impl Shard {
    /// The first unit of a connection is in `self.unit`: finds its router.
    pub(crate) fn identify(&mut self, connection: &mut Connection, time: Micros, now: Now) -> Flow {
        let router = match self.named_router(connection) {
            Ok(router) => router,
            Err(rejection) => {
                self.count_unit_rejected(connection, rejection.cause);
                self.notice(connection, rejection.cause, &rejection.detail, now);
                return Flow::Over(Reason::Rejected(rejection.cause));
            }
        };
        let unit = std::mem::take(&mut self.unit);
        connection.phase = Phase::Claiming(Box::new(Claiming { router, unit, time }));
        Flow::Claim(Claim {
            router,
            shard: self.settings.index,
            connection: connection.id,
            peer: connection.peer,
            opened: connection.opened_if_ordered(),
        })
    }

    fn named_router(&self, connection: &Connection) -> Result<RouterId, Rejection> {
        let source = connection.peer.ip();
        let refuse = |cause, detail: String| Rejection { cause, detail: detail.into() };
        let router = match (&self.unit.kind, connection.decoder.mode()) {
            (UnitKind::Hello(hello), _) => {
                let (first, fresh) = (hello.sequence_first, hello.sequence_fresh);
                if first == 0 || fresh < first {
                    let detail = format!("expected 1 <= first <= fresh sequence: {first}, {fresh}");
                    return Err(refuse(Cause::HelloInvalid, detail));
                }
                Some(hello.router)
            }
            (_, Some(InputMode::Framed)) => {
                let detail = "expected hello as the first frame, found another".to_owned();
                return Err(refuse(Cause::HelloInvalid, detail));
            }
            (_, Some(InputMode::Fpm)) => {
                Some(self.policy.router_of(source).unwrap_or(RouterId(source)))
            }
            _ => self.unit.router.or_else(|| self.policy.router_of(source)),
        };
        let router = router.ok_or_else(|| {
            let detail =
                format!("expected router-id, or a [[router]] whose sources cover {source}");
            refuse(Cause::RouterUnknown, detail)
        })?;
        if !self.policy.may_speak(source, router) {
            let detail =
                format!("expected a source that [[router]] {router} lists, found {source}");
            return Err(refuse(Cause::IdentityRefused, detail));
        }
        Ok(router)
    }

    /// A connection of this shard wants a router.
    pub(crate) fn claim(&mut self, claim: Claim, now: Now) {
        let router = claim.router;
        if let Some(home) = self.homes.get_mut(&router) {
            home.claims.push_back(claim);
            let awaited = matches!(home.slot, Slot::Awaited);
            self.process_claims(router, now);
            if self.stopping && awaited {
                self.finish_if_claiming(claim.connection, now);
            }
            return;
        }
        let mut counted = Size::default();
        let slot = match self.registry.claim(router, self.settings.index) {
            Found::Yours(state) => {
                // Parked, it counted for no shard.
                self.memory.add_tables(-signed(Size::of(&state, 0).bytes));
                let size = Size::of(&state, 0);
                self.tables.recount(&self.memory, &mut counted, size);
                Slot::Idle(state)
            }
            // The registry names this shard, so the state is on its way here.
            Found::AtHome => Slot::Awaited,
            Found::At(shard) => {
                self.ops.push_back(Op::Tell { shard, message: Message::Claim(claim) });
                Slot::Awaited
            }
        };
        let claims = VecDeque::from([claim]);
        self.homes.insert(router, Home { slot, counted, claims, newest: None });
        self.process_claims(router, now);
        if self.stopping {
            // The shard that is asked may have stopped already.
            self.finish_if_claiming(claim.connection, now);
        }
    }

    /// Another shard wants a router that this one has, or had.
    pub(crate) fn claimed(&mut self, claim: Claim, now: Now) {
        if let Some(home) = self.homes.get_mut(&claim.router) {
            home.claims.push_back(claim);
            return self.process_claims(claim.router, now);
        }
        if let Some(shard) = self.registry.home(claim.router) {
            self.ops.push_back(Op::Tell { shard, message: Message::Claim(claim) });
        }
    }

    /// The state is here: the claims that wait for it go on.
    pub(crate) fn granted(
        &mut self,
        claim: Claim,
        state: Box<RouterState>,
        newest: Option<(IpAddr, Opened)>,
        now: Now,
    ) {
        self.counters.add(Metric::TablesReceived, 1);
        let home = self.homes.entry(claim.router).or_insert_with(|| Home {
            slot: Slot::Awaited,
            counted: Size::default(),
            claims: VecDeque::new(),
            newest: None,
        });
        home.newest = newest;
        let size = Size::of(&state, 0);
        self.tables.recount(&self.memory, &mut home.counted, size);
        home.slot = Slot::Idle(state);
        self.process_claims(claim.router, now);
    }

    /// The home refused: its active session comes from another source, or a newer one has been.
    pub(crate) fn refused(&mut self, claim: Claim, cause: Cause, holder: SocketAddr, now: Now) {
        self.refuse_connection(claim.connection, cause, conflict(&claim, cause, &holder), now);
        let Some(mut home) = self.homes.remove(&claim.router) else { return };
        self.tables.recount(&self.memory, &mut home.counted, Size::default());
        home.claims.retain(|waiting| waiting.connection != claim.connection);
        // Whoever else asked here asks again, at the home.
        for waiting in home.claims {
            self.claim_elsewhere(waiting, now);
        }
    }

    fn claim_elsewhere(&mut self, claim: Claim, now: Now) {
        if claim.shard == self.settings.index {
            self.claim(claim, now);
        } else if let Some(shard) = self.registry.home(claim.router) {
            self.ops.push_back(Op::Tell { shard, message: Message::Claim(claim) });
        }
    }

    /// Serves the claims of one router as far as it can be done now.
    pub(crate) fn process_claims(&mut self, router: RouterId, now: Now) {
        while let Some(home) = self.homes.get_mut(&router) {
            let Some(&claim) = home.claims.front() else { return };
            let is_outdated = home.is_outdated(&claim);
            match &home.slot {
                Slot::Leaving { .. } | Slot::Awaited => return,
                Slot::Active(_) | Slot::Idle(_) if is_outdated => {
                    home_pop(&mut self.homes, router);
                    self.refuse_claim(claim, Cause::SessionOutdated, claim.peer, now);
                }
                Slot::Active(holder) => {
                    let holder = *holder;
                    if self.may_supersede(claim, holder, now) {
                        self.tell_superseded(&claim, holder, now);
                        self.end_reading(holder, Reason::Superseded);
                        return;
                    }
                    home_pop(&mut self.homes, router);
                    if let Some(holder) = self.connections.get(holder) {
                        let holder = holder.peer;
                        self.refuse_claim(claim, Cause::IdentityConflict, holder, now);
                    }
                }
                Slot::Idle(_) => {
                    home_pop(&mut self.homes, router);
                    self.serve(claim, now);
                }
            }
        }
    }

    /// The newest session of one source wins; of two sources the active one keeps the id.
    fn may_supersede(&self, claim: Claim, holder: ConnectionId, now: Now) -> bool {
        let Some(holder) = self.connections.get(holder) else { return true };
        let silent_us = now.monotonic_us.saturating_sub(holder.heard_us);
        holder.ended.is_some()
            || holder.peer.ip() == claim.peer.ip()
            || (holder.receiving && silent_us > self.settings.identity_idle_us)
    }

    /// Says who replaces whom, while both are there: a router that dialled again has left its old
    /// connection behind, two senders that count as one router replace each other for ever.
    fn tell_superseded(&mut self, claim: &Claim, holder: ConnectionId, now: Now) {
        let Some(holder) = self.connections.get(holder) else { return };
        if holder.ended.is_some() {
            return;
        }
        let Some(left_out) = self.notices.allow(Cause::IdentityConflict, now.monotonic_us) else {
            return;
        };
        let Claim { router, peer, .. } = claim;
        let fix = match holder.decoder.mode() {
            Some(InputMode::Fpm) => {
                "FPM names no router, its address does: if both are alive, give each its own source"
            }
            _ => "if both are alive, give each its own router-id",
        };
        tracing::warn!(%router, %peer, replaced = %holder.peer, fix, left_out, "superseded");
    }

    fn refuse_claim(&mut self, claim: Claim, cause: Cause, holder: SocketAddr, now: Now) {
        if claim.shard == self.settings.index {
            self.refuse_connection(claim.connection, cause, conflict(&claim, cause, &holder), now);
        } else {
            let message = Message::Refused { claim, cause, holder };
            self.ops.push_back(Op::Tell { shard: claim.shard, message });
        }
    }

    fn refuse_connection(&mut self, id: ConnectionId, cause: Cause, detail: String, now: Now) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        if matches!(connection.phase, Phase::Claiming(_)) {
            self.notice(&connection, cause, &detail, now);
            let held_before = connection.held_bytes();
            self.finish(&mut connection, Reason::Rejected(cause), now);
            self.surge_changed(held_before, connection.held_bytes());
        }
        self.connections.insert(connection);
    }

    /// The state is here and idle: gives it to a connection of this shard, or promises it.
    fn serve(&mut self, claim: Claim, now: Now) {
        let Some(home) = self.homes.get_mut(&claim.router) else { return };
        let slot = std::mem::replace(&mut home.slot, Slot::Awaited);
        let Slot::Idle(state) = slot else { return };
        if claim.shard != self.settings.index {
            let after = self.commit.covering();
            home.slot = Slot::Leaving { state, after, to: claim };
            return self.give_durable(claim.router, now);
        }
        let phase = self.connections.get(claim.connection).map(|connection| &connection.phase);
        let waits = matches!(phase, Some(Phase::Claiming(it)) if it.router == claim.router);
        if !waits {
            // It has gone in the meantime.
            home.slot = Slot::Idle(state);
            return;
        }
        if let Some(phase) = phase
            && let Some(detail) = contradiction(&state, phase)
        {
            home.slot = Slot::Idle(state);
            return self.refuse_connection(claim.connection, Cause::HelloInvalid, detail, now);
        }
        home.slot = Slot::Active(claim.connection);
        home.newest = claim.opened.map(|opened| (claim.peer.ip(), opened)).or(home.newest);
        let counted = std::mem::take(&mut home.counted);
        self.begin_session(claim.connection, state, counted, now);
        self.enqueue(claim.connection);
    }

    /// Hands over every promised state whose rows are durable.
    pub(crate) fn give_all_durable(&mut self, now: Now) {
        for router in std::mem::take(&mut self.leaving) {
            self.give_durable(router, now);
        }
    }

    /// Sessions have ended: whoever waited for their routers goes on.
    pub(crate) fn process_freed(&mut self, now: Now) {
        while let Some(router) = self.freed.pop() {
            self.process_claims(router, now);
        }
    }

    fn give_durable(&mut self, router: RouterId, now: Now) {
        let Some(home) = self.homes.get(&router) else { return };
        let Slot::Leaving { after, .. } = &home.slot else { return };
        if !self.commit.is_durable(*after) {
            self.leaving.push(router);
            return;
        }
        let Some(Home { slot: Slot::Leaving { state, to, .. }, mut counted, claims, newest }) =
            self.homes.remove(&router)
        else {
            return;
        };
        self.tables.recount(&self.memory, &mut counted, Size::default());
        self.counters.add(Metric::TablesGiven, 1);
        let message = Message::Granted { claim: to, state, newest };
        self.ops.push_back(Op::Tell { shard: to.shard, message });
        self.registry.moved(router, to.shard);
        for claim in claims {
            self.claim_elsewhere(claim, now);
        }
    }
}

fn conflict(claim: &Claim, cause: Cause, holder: &SocketAddr) -> String {
    let Claim { router, peer, .. } = claim;
    if cause == Cause::SessionOutdated {
        return format!("{peer} has opened a newer connection for {router} since");
    }
    format!("{router} is spoken for by {holder}, which is active; not {peer}")
}

/// Frames that are called new under sequences that this boot has used: they would all count as
/// sent again, and be acknowledged and dropped.
fn contradiction(state: &RouterState, phase: &Phase) -> Option<String> {
    let Phase::Claiming(claiming) = phase else { return None };
    let UnitKind::Hello(hello) = &claiming.unit.kind else { return None };
    let (fresh, last) = (hello.sequence_fresh, state.sequence_last);
    let is_used = state.boot_time == Some(hello.boot_time) && fresh <= last;
    is_used.then(|| {
        format!(
            "expected a new boot-time, or sequence-fresh beyond {last}, which is known; {fresh}"
        )
    })
}

fn home_pop(homes: &mut std::collections::BTreeMap<RouterId, Home>, router: RouterId) {
    if let Some(home) = homes.get_mut(&router) {
        home.claims.pop_front();
    }
}
