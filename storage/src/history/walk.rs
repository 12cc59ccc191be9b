//! The way of an LSP through the network as of an instant, hop by hop.
//!
//! In:   a `Network`, the head router, and a FEC or the label that a packet arrives there with.
//! Out:  a `Walk`: steps that share their continuations, and a verdict at every end.
//! Law:  every walk ends: states are met once, loops are verdicts, steps and stacks are bounded.
//! Not:  which entry a packet meets (`lookup`), how a walk is drawn (engine).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use super::links::Behind;
use super::network::Network;
use super::{Standing, Unknown, UnknownCause};
use crate::allowance::{Allowance, Held};
use crate::log::LogError;
use crate::mapping::{
    Fec, Key, Label, LabelStack, Mapping, Name, NextHop, Nhlfe, Operation, Origin, Role, RouterId,
};
use crate::time::Micros;

mod sight;
mod lookup;
mod loops;
mod paths;
#[cfg(test)]
mod tests;

use lookup::{Fit, Found, Missing};
use sight::Sight;

pub use paths::{Hop, PATHS_MAX, Path};

/// Steps of one walk: a network of 17,000 routers needs one or two each; hostile tables more.
pub const STEPS_MAX: usize = 65_536;
/// Labels on a packet: far above any service chain; tables that push for ever are hostile or
/// broken.
pub const STACK_LABELS_MAX: usize = 64;

/// How the packet comes to the head router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Without label, for this FEC.
    Fec(Fec),
    /// With this label of the platform space (or of the one interface that has an entry for it), or
    /// of another label table of the router.
    Label {
        /// The label.
        label: Label,
        /// The label table; 0 = the platform's.
        table: u32,
    },
}

/// Which branches a walk takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// Those that carry traffic.
    #[default]
    Primaries,
    /// Backups too, as if their primaries had failed.
    WithBackups,
}

impl fmt::Display for Start {
    /// `ip:10.0.0.3/32`, `label:24`, `label:24,7` (label table).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Fec(fec) => fec.fmt(f),
            Start::Label { label, table: 0 } => write!(f, "label:{label}"),
            Start::Label { label, table } => write!(f, "label:{label},{table}"),
        }
    }
}

/// Why an LSP is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// The router has no entry for what arrives, and had none.
    NoEntry,
    /// Its entry was withdrawn at this (effective) time.
    Withdrawn(Micros),
    /// The packet comes back as it was.
    Loop,
    /// The entry has no branch.
    NoBranch,
    /// More labels than any packet carries.
    StackTooDeep,
    /// The router takes all labels off, and there were more than its own: nobody behind it knows
    /// what the packet is.
    Untagged,
}

impl Broken {
    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Broken::NoEntry => "no-entry",
            Broken::Withdrawn(_) => "withdrawn",
            Broken::Loop => "loop",
            Broken::NoBranch => "no-branch",
            Broken::StackTooDeep => "stack-too-deep",
            Broken::Untagged => "untagged",
        }
    }
}

/// What becomes of the packet at the end of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It leaves MPLS where it should.
    Delivered {
        /// The last router.
        here: RouterId,
    },
    /// It leaves MPLS for another FEC than it entered for.
    Misdelivered {
        /// The last router.
        here: RouterId,
        /// The FEC that it entered for.
        entered: Fec,
        /// The FEC that it leaves for.
        left: Fec,
    },
    /// It goes on without label, as IP, from `here`.
    Unlabelled {
        /// The router that sends it on without label.
        here: RouterId,
        /// Where plain IP brings it, when it never had a label and that could be followed.
        delivered: Option<RouterId>,
    },
    /// It is lost.
    Broken {
        /// The router that cannot send it on.
        here: RouterId,
        /// Why.
        why: Broken,
    },
    /// An entry drops it, on purpose.
    Discarded {
        /// The router whose entry it is.
        here: RouterId,
    },
    /// Nobody can say.
    Unknown {
        /// The router that the collector cannot vouch for.
        here: RouterId,
        /// Why not.
        unknown: Unknown,
    },
}

impl Verdict {
    /// The word in every output.
    pub const fn name(&self) -> &'static str {
        match self {
            Verdict::Delivered { .. } => "delivered",
            Verdict::Misdelivered { .. } => "misdelivered",
            Verdict::Unlabelled { .. } => "unlabelled",
            Verdict::Broken { .. } => "broken",
            Verdict::Discarded { .. } => "discarded",
            Verdict::Unknown { .. } => "unknown",
        }
    }

    /// The router at which the walk ended.
    pub const fn here(&self) -> RouterId {
        match *self {
            Verdict::Delivered { here }
            | Verdict::Misdelivered { here, .. }
            | Verdict::Unlabelled { here, .. }
            | Verdict::Broken { here, .. }
            | Verdict::Discarded { here }
            | Verdict::Unknown { here, .. } => here,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Delivered { here } => write!(f, "delivered at {here}"),
            Verdict::Misdelivered { here, entered, left } => {
                write!(f, "misdelivered at {here}: entered for {entered}, leaves for {left}")
            }
            Verdict::Unlabelled { here, delivered: None } => {
                write!(f, "unlabelled: goes on as IP at {here}")
            }
            Verdict::Unlabelled { here, delivered: Some(end) } => {
                write!(f, "unlabelled: goes on as IP at {here}, as far as {end}")
            }
            Verdict::Broken { here, why: Broken::Withdrawn(time) } => {
                write!(f, "broken at {here}: withdrawn at {time}")
            }
            Verdict::Broken { here, why } => write!(f, "broken at {here}: {}", why.name()),
            Verdict::Discarded { here } => write!(f, "discarded at {here}"),
            Verdict::Unknown {
                here,
                unknown: Unknown { cause: UnknownCause::RouterUnknown(address), .. },
            } => {
                write!(f, "unknown at {here}: no router is known to own {address}")
            }
            Verdict::Unknown { here, unknown } => write!(f, "{unknown} at {here}"),
        }
    }
}

/// The entry that a packet met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// What identifies it.
    pub key: Key,
    /// What it does.
    pub mapping: Mapping,
    /// Effective time of the change that set its value.
    pub active_since: Micros,
    /// Whether it can be vouched for; if not, the step ends here.
    pub standing: Standing,
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// To the step of this index in `Walk::steps`; several branches may share one.
    Step(usize),
    /// To an end.
    End(Verdict),
    /// It is a backup, and carries nothing while the primaries stand.
    Backup,
}

/// One branch of a met entry, taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The branch as the entry says it.
    pub nhlfe: Nhlfe,
    /// All labels of the packet behind it, outermost first.
    pub stack: LabelStack,
    /// The router that the next hop resolves to; this one for a recursive lookup.
    pub router: Option<RouterId>,
    /// Where it leads.
    pub onward: Onward,
}

/// A packet at a router: what it looks like there and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The router.
    pub router: RouterId,
    /// Labels of the packet as it is looked at, outermost first.
    pub stack: LabelStack,
    /// The entry that it meets; `None` when there is none, or none is needed to deliver it.
    pub met: Option<Met>,
    /// One for every branch of the entry: ECMP or copies (replicate).
    pub branches: Vec<Branch>,
    /// The verdict, when the walk ends here; then there is no branch.
    pub end: Option<Verdict>,
}

impl Step {
    /// Memory that it takes, in bytes. O(branches).
    fn memory_bytes(&self) -> usize {
        let met = self.met.as_ref().map_or(0, |met| met.mapping.beyond_bytes());
        let stacks =
            self.branches.iter().map(|branch| branch.stack.len() + branch.nhlfe.stack.len());
        let labels: usize = stacks.sum::<usize>() + self.stack.len();
        let branches = self.branches.capacity() * size_of::<Branch>();
        size_of::<Step>() + met + labels * size_of::<Label>() + branches
    }
}

/// An LSP, walked. Steps form a graph without cycles that begins at index 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The router at which it begins.
    pub head: RouterId,
    /// How the packet came there.
    pub start: Start,
    /// The instant.
    pub at: Micros,
    /// The FEC that the packet entered for, as far as it is known.
    pub entered: Option<Fec>,
    /// The steps; the first is that at the head.
    pub steps: Vec<Step>,
}

impl Walk {
    /// Every verdict of the walk, each once, sorted.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let ends = self.steps.iter().filter_map(|step| step.end);
        let branches = self.steps.iter().flat_map(|step| &step.branches);
        let leaves = branches.filter_map(|branch| match branch.onward {
            Onward::End(verdict) => Some(verdict),
            Onward::Step(_) | Onward::Backup => None,
        });
        let mut verdicts: Vec<Verdict> = ends.chain(leaves).collect();
        verdicts.sort_unstable();
        verdicts.dedup();
        verdicts
    }

    /// Whether every branch delivers.
    pub fn is_delivered(&self) -> bool {
        self.verdicts().iter().all(|verdict| matches!(verdict, Verdict::Delivered { .. }))
    }
}

/// How the packet has travelled so far: decides what going on without label means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Carriage {
    /// It has not left the head router.
    Fresh,
    /// It has never had a label; `first` sent it on so. `far`: over more than one hop.
    Plain { first: RouterId, far: bool },
    /// It has had a label.
    Labelled,
}

/// Where a packet's label, or its lack of one, is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Space {
    /// The FTN entry of the FEC that the walk is about.
    Head,
    /// Label space of the router: that of the interface to the upstream router first, then the
    /// label table of this number; `None` = nobody says in which.
    Label { from: Option<RouterId>, table: Option<u32> },
    /// Service entry, for the FEC whose entry pushed the label.
    Service(Fec),
    /// IP table, towards the FEC of the walk, or towards this address (a service's egress).
    Ip { towards: Option<IpAddr> },
}

/// A packet at a router. Two equal ones go the same way: each is walked once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    router: RouterId,
    stack: LabelStack,
    space: Space,
    carriage: Carriage,
}

/// Walks from `head`. Cost: every state once, at most `STEPS_MAX`.
///
/// What a network does not have, because it was not read, counts as not there: see `attempt`.
pub fn trace(network: &Network, head: RouterId, start: Start, follow: Follow) -> Walk {
    let mut walker = Walker::new(Sight::of(network), head, start, follow);
    while walker.advance() {}
    walker.finish()
}

/// A walk through a network of which only some tables have been read.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It met no others; what it takes.
    Done(Box<Walk>, Option<Held>),
    /// The tables of these routers are needed first.
    Lacks(BTreeSet<RouterId>),
}

/// The same as `trace`, within what it may take, as far as tables have been read.
pub(crate) fn attempt(
    network: &Network,
    head: RouterId,
    start: Start,
    follow: Follow,
    allowance: Option<&Allowance>,
) -> Result<Attempt, LogError> {
    let mut walker = Walker::new(Sight::of(network), head, start, follow);
    let mut held = allowance.map(Allowance::hold);
    while walker.advance() {
        if let (Some(held), Some(step)) = (&mut held, walker.steps.last()) {
            held.grow(ANSWERED_PER_BYTE * step.memory_bytes() as u64);
            held.check()?;
        }
    }
    let Walker { sight, .. } = &mut walker;
    let lacks = std::mem::replace(sight, Sight::of(network)).lacks();
    match lacks.is_empty() {
        true => Ok(Attempt::Done(Box::new(walker.finish()), held)),
        false => Ok(Attempt::Lacks(lacks)),
    }
}

/// What a step takes in all that is made of it, for each of its own bytes: its state, the paths
/// over it, and the answer in words.
const ANSWERED_PER_BYTE: u64 = 4;

struct Walker<'a> {
    sight: Sight<'a>,
    head: RouterId,
    start: Start,
    follow: Follow,
    entered: Option<Fec>,
    steps: Vec<Step>,
    /// In the order of their steps; those behind the last step are still to be walked.
    states: Vec<State>,
    known: HashMap<State, usize, FixedState>,
}

impl<'a> Walker<'a> {
    fn new(sight: Sight<'a>, head: RouterId, start: Start, follow: Follow) -> Walker<'a> {
        let (stack, space, carriage) = match start {
            Start::Fec(_) => (LabelStack::new(), Space::Head, Carriage::Fresh),
            Start::Label { label, table } => {
                let from = lookup::only_interface(&sight, head, label).filter(|_| table == 0);
                let space = Space::Label { from, table: Some(table) };
                (LabelStack::from_elem(label, 1), space, Carriage::Labelled)
            }
        };
        let entered = match start {
            Start::Fec(fec) => Some(fec.masked()),
            Start::Label { label, table } => lookup::fec_of_label(&sight, head, label, table),
        };
        let (steps, states, known) = (Vec::new(), Vec::new(), HashMap::default());
        let mut walker = Walker { sight, head, start, follow, entered, steps, states, known };
        walker.visit(State { router: head, stack, space, carriage });
        walker
    }

    /// Takes the next step; `false` when there is none.
    fn advance(&mut self) -> bool {
        let Some(state) = self.states.get(self.steps.len()).cloned() else { return false };
        let step = self.step(&state);
        self.steps.push(step);
        true
    }

    fn finish(self) -> Walk {
        let Walker { sight, head, start, entered, mut steps, .. } = self;
        loops::cut(&mut steps);
        Walk { head, start, at: sight.at(), entered, steps }
    }

    /// The step that this state will be, or `None` when the walk has as many as it may.
    fn visit(&mut self, state: State) -> Option<usize> {
        if let Some(index) = self.known.get(&state) {
            return Some(*index);
        }
        let index = self.states.len();
        if index >= STEPS_MAX {
            return None;
        }
        self.known.insert(state.clone(), index);
        self.states.push(state);
        Some(index)
    }

    fn step(&mut self, state: &State) -> Step {
        let here = state.router;
        let mut step = Step {
            router: here,
            stack: state.stack.clone(),
            met: None,
            branches: Vec::new(),
            end: None,
        };
        match self.meet(state) {
            Found::End(verdict) => step.end = Some(verdict),
            Found::Missing(missing) => step.end = Some(missing_verdict(here, missing)),
            Found::Entry(met, stack) => {
                step.end = self.end_at(here, &met);
                if step.end.is_none() {
                    step.branches = self.branches(state, &stack, &met);
                }
                step.met = Some(*met);
            }
        }
        step
    }

    /// The verdict on an entry that sends nothing on.
    fn end_at(&self, here: RouterId, met: &Met) -> Option<Verdict> {
        if let Some(unknown) = met.standing.unknown() {
            return Some(Verdict::Unknown { here, unknown });
        }
        if met.mapping.operation == Operation::Discard {
            return Some(Verdict::Discarded { here });
        }
        let branches = &met.mapping.branches;
        if branches.is_empty() {
            return Some(Verdict::Broken { here, why: Broken::NoBranch });
        }
        let is_spare = |branch: &Nhlfe| branch.role == Role::Backup;
        let only_backups = self.follow == Follow::Primaries && branches.iter().all(is_spare);
        only_backups.then(|| unknown_at(here, UnknownCause::BackupOnly))
    }

    fn branches(&mut self, state: &State, stack: &LabelStack, met: &Met) -> Vec<Branch> {
        // As the entry sees it: special labels on top are gone.
        let seen = State { stack: stack.clone(), ..state.clone() };
        let take = |nhlfe: &Nhlfe| {
            let stack = stack_behind(stack, met, nhlfe);
            let (router, onward) = match (nhlfe.role, self.follow) {
                (Role::Backup, Follow::Primaries) => (None, Onward::Backup),
                _ => self.onward(&seen, &stack, met, nhlfe),
            };
            Branch { nhlfe: nhlfe.clone(), stack, router, onward }
        };
        met.mapping.branches.iter().map(take).collect()
    }

    fn onward(
        &mut self,
        state: &State,
        stack: &LabelStack,
        met: &Met,
        nhlfe: &Nhlfe,
    ) -> (Option<RouterId>, Onward) {
        let here = state.router;
        let unknown = |cause| (None, Onward::End(unknown_at(here, cause)));
        if stack.len() > STACK_LABELS_MAX {
            let why = Broken::StackTooDeep;
            return (None, Onward::End(Verdict::Broken { here, why }));
        }
        if untags(met, nhlfe) && state.stack.len() > 1 {
            let why = Broken::Untagged;
            return (None, Onward::End(Verdict::Broken { here, why }));
        }
        if let Some(outer) = nhlfe.encapsulation() {
            return unknown(UnknownCause::Encapsulated(outer));
        }
        match nhlfe.next_hop {
            NextHop::Address(_) | NextHop::Interface => match self.sight.behind(here, nhlfe) {
                Ok(Behind { router, table }) => {
                    (Some(router), self.send(state, stack, met, nhlfe, router, table))
                }
                Err(cause) => unknown(cause),
            },
            NextHop::Recursive => (Some(here), self.look_again(state, stack, met, nhlfe)),
            NextHop::Fec if stack.is_empty() => match self.leave(state, met, nhlfe) {
                // It is looked up once more, here.
                Onward::Step(next) => (Some(here), Onward::Step(next)),
                end => (None, end),
            },
            // Labels that were put on, or an interface, are for somebody; who, is not said.
            NextHop::Fec if !nhlfe.stack.is_empty() || nhlfe.link.is_some() => {
                match self.sight.behind(here, nhlfe) {
                    Ok(Behind { router, table }) => {
                        (Some(router), self.send(state, stack, met, nhlfe, router, table))
                    }
                    Err(cause) => unknown(cause),
                }
            }
            // What still carries a label cannot leave MPLS: the router looks at that label.
            NextHop::Fec => (Some(here), self.look_again(state, stack, met, nhlfe)),
        }
    }

    /// To another router, over the wire.
    fn send(
        &mut self,
        state: &State,
        stack: &LabelStack,
        met: &Met,
        nhlfe: &Nhlfe,
        router: RouterId,
        table: Option<u32>,
    ) -> Onward {
        let here = state.router;
        // Without its label the packet is IP: any other is nobody's behind here.
        let is_ip =
            matches!(self.entered, Some(Fec::Ip { table: 0, .. } | Fec::IpFrom { table: 0, .. }));
        if untags(met, nhlfe) && !is_ip {
            return Onward::End(Verdict::Unlabelled { here, delivered: None });
        }
        let carriage = match state.carriage {
            _ if !stack.is_empty() => Carriage::Labelled,
            Carriage::Fresh => Carriage::Plain { first: here, far: false },
            Carriage::Plain { first, .. } => Carriage::Plain { first, far: true },
            // It arrived here without label, and goes on without: not this LSP's doing any more.
            Carriage::Labelled if state.stack.is_empty() => {
                return Onward::End(Verdict::Unlabelled { here, delivered: None });
            }
            Carriage::Labelled => Carriage::Labelled,
        };
        let space = if stack.is_empty() {
            Space::Ip { towards: None }
        } else {
            Space::Label { from: Some(here), table }
        };
        self.go(State { router, stack: stack.clone(), space, carriage })
    }

    /// To this router again, with another label on top or none.
    fn look_again(
        &mut self,
        state: &State,
        stack: &LabelStack,
        met: &Met,
        nhlfe: &Nhlfe,
    ) -> Onward {
        // The label of a service stands for its table, which is looked up there and nowhere else;
        // of one that names nothing nobody knows for which table it stands.
        let is_global = match met.mapping.fec {
            Fec::Unknown => is_null(met),
            fec => !fec.is_service(),
        };
        if stack.is_empty() && matches!(met.key, Key::Ilm(..)) && !is_global {
            return self.leave(state, met, nhlfe);
        }
        let pushed = met.mapping.operation == Operation::Push && !matches!(met.key, Key::Ilm(..));
        let space = if stack.is_empty() {
            Space::Ip { towards: met.mapping.fec.loopback().filter(|_| pushed) }
        } else if pushed {
            Space::Service(met.mapping.fec)
        } else {
            // In the table of the entry; behind the label of a VRF nobody says in which.
            let table = match (met.key, met.mapping.fec) {
                (Key::Ilm(_, Origin::Table(_)), _) => None,
                (_, Fec::Vrf { .. } | Fec::VrfName { .. }) => None,
                _ => Some(0),
            };
            Space::Label { from: None, table }
        };
        let State { router, carriage, .. } = *state;
        self.go(State { router, stack: stack.clone(), space, carriage })
    }

    fn go(&mut self, mut state: State) -> Onward {
        self.forget_upstream(&mut state);
        let here = state.router;
        match self.visit(state) {
            Some(index) => Onward::Step(index),
            None => {
                let unknown = Unknown { cause: UnknownCause::WalkTooLong, since: None };
                Onward::End(Verdict::Unknown { here, unknown })
            }
        }
    }

    /// Where the packet comes from matters only if the router has an entry for that interface:
    /// without it, packets from everywhere share their step.
    fn forget_upstream(&self, state: &mut State) {
        if let Space::Label { from: Some(upstream), table } = state.space
            && let Some(label) = state.stack.first()
            && !lookup::has_interface_entry(&self.sight, state.router, *label, upstream)
        {
            state.space = Space::Label { from: None, table };
        }
    }

    /// Out of the MPLS network, by an entry whose next hop is `fec`; the stack is empty.
    fn leave(&mut self, state: &State, met: &Met, nhlfe: &Nhlfe) -> Onward {
        let here = state.router;
        let left = met.mapping.fec;
        let end = |verdict| Onward::End(verdict);
        let Some(entered) = self.entered else {
            return end(delivered(here, state.carriage));
        };
        // Out of an interface whatever the IP table says: right if that says the same.
        if let Fec::Ip { prefix, table: 0 } | Fec::IpFrom { prefix, table: 0, .. } = entered
            && left == Fec::Unknown
            && nhlfe.interface().is_some()
            && matches!(self.ip_word(here), Word::Entry)
        {
            return match self.leads_out(here, prefix, nhlfe.interface()) {
                true => end(delivered(here, state.carriage)),
                false => end(unknown_at(here, UnknownCause::InterfaceUnknown)),
            };
        }
        let is_ip =
            |fec: Fec| matches!(fec, Fec::Ip { table: 0, .. } | Fec::IpFrom { table: 0, .. });
        let is_global = is_ip(left) || (is_null(met) && left == Fec::Unknown);
        if is_ip(entered) && is_global && matches!(met.key, Key::Ilm(..)) && left != entered {
            // Without its labels it is IP: where the router has a word on it, that counts.
            match self.ip_word(here) {
                Word::Entry => {
                    let State { router, carriage, .. } = *state;
                    let space = Space::Ip { towards: None };
                    return self.go(State { router, stack: LabelStack::new(), space, carriage });
                }
                Word::Unknown(unknown) => return end(Verdict::Unknown { here, unknown }),
                Word::None => {}
            }
        }
        let has_number =
            |fec: Fec| matches!(fec, Fec::Ip { table: 1.., .. } | Fec::IpFrom { table: 1.., .. });
        if here != self.head && has_number(left) && has_number(entered) {
            // Two routers that use one number use it each for its own.
            return end(unknown_at(here, UnknownCause::FecIncomparable));
        }
        match lookup::fit(&left, &entered) {
            Fit::Serves => end(delivered(here, state.carriage)),
            Fit::Other => end(Verdict::Misdelivered { here, entered, left }),
            Fit::Incomparable => end(unknown_at(here, UnknownCause::FecIncomparable)),
        }
    }

    /// Whether the router's IP table sends the prefix out of this interface too, to whoever has it.
    fn leads_out(&self, here: RouterId, prefix: IpNet, interface: Option<Name>) -> bool {
        let Some(router) = self.sight.router(here) else { return false };
        match lookup::ip_entry(router, prefix, 0) {
            Found::Entry(met, _) => {
                met.standing == Standing::Vouched && {
                    let branches = &met.mapping.branches;
                    let is_same = |branch: &Nhlfe| {
                        branch.next_hop == NextHop::Fec
                            && branch.interface() == interface
                            && branch.encapsulation().is_none()
                    };
                    !branches.is_empty() && branches.iter().all(is_same)
                }
            }
            Found::End(_) | Found::Missing(_) => false,
        }
    }

    /// What the router's IP table has to say on what the walk is about.
    fn ip_word(&self, here: RouterId) -> Word {
        match (self.sight.router(here), self.entered) {
            (Some(router), Some(Fec::Ip { prefix, .. } | Fec::IpFrom { prefix, .. })) => {
                if router.state.owns(prefix.addr()) {
                    return Word::Entry;
                }
                match lookup::ip_entry(router, prefix, 0) {
                    Found::Entry(..) => Word::Entry,
                    Found::Missing(Missing::Unknown(unknown)) => match unknown.cause {
                        // The source may be known to whoever looks there.
                        UnknownCause::SourceDependent => Word::Entry,
                        _ => Word::Unknown(unknown),
                    },
                    Found::Missing(_) | Found::End(_) => Word::None,
                }
            }
            _ => Word::None,
        }
    }
}

/// What a router's IP table has to say.
enum Word {
    /// There is an entry.
    Entry,
    /// Nobody can say whether there is one.
    Unknown(Unknown),
    /// There is none: the router has no route, or tells none.
    None,
}

fn unknown_at(here: RouterId, cause: UnknownCause) -> Verdict {
    Verdict::Unknown { here, unknown: Unknown { cause, since: None } }
}

/// Whether it is the entry of explicit null: it stands for the global table, whatever it names.
fn is_null(met: &Met) -> bool {
    matches!(met.key, Key::Ilm(label, Origin::Platform) if lookup::is_null(label))
}

/// Whether the branch takes every label off.
fn untags(met: &Met, nhlfe: &Nhlfe) -> bool {
    met.mapping.operation == Operation::Untag || nhlfe.untags
}

/// The verdict on a packet that is where it should be.
fn delivered(here: RouterId, carriage: Carriage) -> Verdict {
    match carriage {
        // One hop without label is implicit null at work; two are an LSP that is not there.
        Carriage::Plain { first, far: true } => {
            Verdict::Unlabelled { here: first, delivered: Some(here) }
        }
        Carriage::Plain { far: false, .. } | Carriage::Fresh | Carriage::Labelled => {
            Verdict::Delivered { here }
        }
    }
}

fn missing_verdict(here: RouterId, missing: Missing) -> Verdict {
    match missing {
        Missing::Unknown(unknown) => Verdict::Unknown { here, unknown },
        Missing::Never => Verdict::Broken { here, why: Broken::NoEntry },
        Missing::Withdrawn(time) => Verdict::Broken { here, why: Broken::Withdrawn(time) },
    }
}

/// The packet's labels behind a branch. An ILM entry replaces or takes the top label, unless it
/// pushes; an FTN or service entry adds. Implicit null adds nothing.
fn stack_behind(stack: &LabelStack, met: &Met, nhlfe: &Nhlfe) -> LabelStack {
    if untags(met, nhlfe) {
        return LabelStack::new();
    }
    let takes_top = matches!(met.key, Key::Ilm(..)) && met.mapping.operation != Operation::Push;
    let kept = stack.iter().skip(usize::from(takes_top));
    let added = nhlfe.stack.iter().filter(|label| **label != Label::IMPLICIT_NULL);
    added.chain(kept).copied().collect()
}
