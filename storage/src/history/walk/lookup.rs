//! Which entry a packet meets at a router, and whether that can be vouched for.
//!
//! In:   a router as of an instant, and a packet's label or the FEC that it is for.
//! Out:  `Found`: the entry, an end that needs none, or what kind of nothing is there.
//! Law:  a doubt about a more specific entry is a doubt about the answer.
//! Not:  what the entry does (`walk`).

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::super::network::RouterAsOf;
use super::super::{Standing, Unknown, UnknownCause};
use super::sight::Sight;
use super::{Carriage, Met, Space, State, Verdict, Walker, delivered};
use crate::mapping::{Fec, Key, Label, LabelStack, NextHop, Nhlfe, Origin, RouterId};
use crate::time::Micros;

/// What a packet meets.
pub(super) enum Found {
    /// An entry; the labels of the packet as the entry sees them.
    Entry(Box<Met>, LabelStack),
    /// An end that needs no entry.
    End(Verdict),
    /// Nothing.
    Missing(Missing),
}

/// What kind of nothing.
pub(super) enum Missing {
    /// Nobody can say whether there is an entry.
    Unknown(Unknown),
    /// There is none and was none.
    Never,
    /// There was one until this (effective) time.
    Withdrawn(Micros),
}

impl Walker<'_> {
    pub(super) fn meet(&self, state: &State) -> Found {
        let here = state.router;
        let Some(router) = self.sight.router(here) else {
            return unknown(UnknownCause::NeverHeard);
        };
        if let Standing::Unknown(unknown) = router.standing() {
            return Found::Missing(Missing::Unknown(unknown));
        }
        match state.space {
            Space::Head => self.meet_head(router, state),
            Space::Service(inner) => meet_service(router, state, inner),
            Space::Label { from, table } => self.meet_label(router, state, from, table),
            Space::Ip { towards: Some(address) } => ip_entry(router, IpNet::from(address), 0),
            Space::Ip { towards: None } => self.meet_ip(router, state),
        }
    }

    fn meet_head(&self, router: &RouterAsOf, state: &State) -> Found {
        match self.entered {
            Some(Fec::Ip { prefix, table }) => {
                if table == 0 && owns(router, prefix) {
                    return Found::End(delivered(state.router, state.carriage));
                }
                ip_entry(router, prefix, table)
            }
            Some(Fec::IpFrom { prefix, table, source, tos }) => {
                selective_entry(router, prefix, table, source, tos)
            }
            Some(Fec::Vrf { loopback, rd, prefix: Some(prefix) }) => {
                let keys = covering(prefix)
                    .map(|prefix| Fec::Vrf { loopback, rd, prefix: Some(prefix) })
                    .chain([Fec::Vrf { loopback, rd, prefix: None }])
                    .map(Key::Ftn);
                first_of(router, keys, &state.stack)
            }
            Some(Fec::VrfName { name, prefix: Some(prefix) }) => {
                let keys = covering(prefix)
                    .map(|prefix| Fec::VrfName { name, prefix: Some(prefix) })
                    .chain([Fec::VrfName { name, prefix: None }])
                    .map(Key::Ftn);
                first_of(router, keys, &state.stack)
            }
            Some(fec) => first_of(router, [Key::Ftn(fec)], &state.stack),
            None => Found::Missing(Missing::Never),
        }
    }

    fn meet_label(
        &self,
        router: &RouterAsOf,
        state: &State,
        from: Option<RouterId>,
        table: Option<u32>,
    ) -> Found {
        let Some(label) = state.stack.first().copied() else {
            return self.meet_ip(router, state);
        };
        let found = label_entry(router, label, from, table, &state.stack);
        if !matches!(found, Found::Missing(_)) {
            return found;
        }
        // No router announces an entry for these: they say what to do by themselves.
        match (label.value(), state.stack.len()) {
            (IPV4_EXPLICIT_NULL | IPV6_EXPLICIT_NULL, _) => self.meet_below(router, state, 1),
            // Whoever sends the packet on puts router alert back; whoever gets it does this again.
            (ROUTER_ALERT, _) => self.meet_below(router, state, 1),
            (ENTROPY_INDICATOR, 2..) => self.meet_below(router, state, 2),
            (GENERIC_ASSOCIATED_CHANNEL | OAM_ALERT | EXTENSION, _) => {
                unknown(UnknownCause::SpecialLabel(label))
            }
            _ => found,
        }
    }

    /// The same packet without its topmost labels.
    fn meet_below(&self, router: &RouterAsOf, state: &State, labels: usize) -> Found {
        let Space::Label { from, table } = state.space else { return self.meet_ip(router, state) };
        let rest: LabelStack = state.stack.iter().skip(labels).copied().collect();
        self.meet_label(router, &State { stack: rest, ..state.clone() }, from, table)
    }

    /// A packet without label: it is where it should be, or the IP table sends it on.
    fn meet_ip(&self, router: &RouterAsOf, state: &State) -> Found {
        let here = state.router;
        match (self.entered, state.carriage) {
            // The LSP ends here, and nobody said what it is for.
            (None | Some(Fec::Unknown | Fec::Named { .. }), _) => {
                Found::End(delivered(here, state.carriage))
            }
            (Some(Fec::Ip { prefix, table: 0 }), _) => {
                if owns(router, prefix) {
                    return Found::End(delivered(here, state.carriage));
                }
                ip_entry(router, prefix, 0)
            }
            (Some(Fec::IpFrom { prefix, table: 0, source, tos }), _) => {
                if is_own(router, prefix) {
                    return Found::End(delivered(here, state.carriage));
                }
                selective_entry(router, prefix, 0, source, tos)
            }
            // It came as IP by an interface of which nobody says in which table it lies.
            (
                Some(Fec::Ip { .. } | Fec::IpFrom { .. }),
                Carriage::Fresh | Carriage::Plain { .. },
            ) => unknown(UnknownCause::TableUnknown),
            // The service's own label is gone: nothing here can tell whose packet it is.
            (Some(_), _) => Found::End(Verdict::Unlabelled { here, delivered: None }),
        }
    }
}

// Special-purpose labels (RFC 3032, RFC 6790, RFC 5586, RFC 3429, RFC 7274).
const IPV4_EXPLICIT_NULL: u32 = 0;
const ROUTER_ALERT: u32 = 1;
const IPV6_EXPLICIT_NULL: u32 = 2;
/// The label below it is an entropy label: both go together.
const ENTROPY_INDICATOR: u32 = 7;
const GENERIC_ASSOCIATED_CHANNEL: u32 = 13;
const OAM_ALERT: u32 = 14;
const EXTENSION: u32 = 15;

/// Whether the label says that what is below it is IP, or the next label (RFC 3032 section 2.1).
pub(super) fn is_null(label: Label) -> bool {
    matches!(label.value(), IPV4_EXPLICIT_NULL | IPV6_EXPLICIT_NULL)
}

fn unknown(cause: UnknownCause) -> Found {
    Found::Missing(Missing::Unknown(Unknown { cause, since: None }))
}

/// The entry of a label: that of the interface, if the router has one, else of the label table.
fn label_entry(
    router: &RouterAsOf,
    label: Label,
    from: Option<RouterId>,
    table: Option<u32>,
    stack: &LabelStack,
) -> Found {
    let interface = from.map(|upstream| Key::Ilm(label, Origin::Interface(upstream)));
    let interface = interface.filter(|key| has_word(router, key));
    if let Some(table) = table {
        let keys = interface.into_iter().chain([Key::Ilm(label, Origin::of_table(table))]);
        return first_of(router, keys, stack);
    }
    // Nobody says in which table: it is the platform's, unless the router has others, whether this
    // label is in them or not. A router that has never told all may have some.
    let mut doubted = router.doubted_keys();
    let has_others = router.state.table.label_tables().next().is_some()
        || doubted.any(|key| matches!(key, Key::Ilm(_, Origin::Table(_))));
    if interface.is_none() && has_others {
        return unknown(UnknownCause::TableUnknown);
    }
    if let Some(doubt) = never_complete(router) {
        return Found::Missing(Missing::Unknown(doubt));
    }
    let keys = interface.into_iter().chain([Key::Ilm(label, Origin::Platform)]);
    first_of(router, keys, stack)
}

/// Why entries of unusual kinds, which go before the common ones, may be there unseen: the router
/// has never told all of its table.
fn never_complete(router: &RouterAsOf) -> Option<Unknown> {
    router.standing_of_the_rest().unknown().filter(|_| router.state.complete.is_none())
}

/// Whether the router has an entry of this key, or had something to say of it that was not read.
fn has_word(router: &RouterAsOf, key: &Key) -> bool {
    router.state.table.get(key).is_some() || router.doubt_of(key).is_some()
}

/// Service entry: the one whose FEC is the inner one, or an IP FEC that covers its loopback (the
/// longest), or one that the router cannot name.
fn meet_service(router: &RouterAsOf, state: &State, inner: Fec) -> Found {
    let Some(label) = state.stack.first().copied() else {
        return Found::Missing(Missing::Never);
    };
    let target = match inner {
        Fec::Ip { prefix, .. } => Some(prefix),
        _ => inner.loopback().map(IpNet::from),
    };
    let covers = target.into_iter().flat_map(covering);
    let covers = covers.map(|prefix| Fec::Ip { prefix, table: 0 });
    let fecs = [inner].into_iter().chain(covers).chain([Fec::Unknown]);
    first_of(router, fecs.map(|fec| Key::Service(label, fec)), &state.stack)
}

/// The IP table's longest match for a prefix: the most specific FTN entry that covers it. Where
/// another entry as specific selects by source or type of service, nobody knows which one it is.
pub(super) fn ip_entry(router: &RouterAsOf, prefix: IpNet, table: u32) -> Found {
    let keys = covering(prefix).map(|prefix| Key::Ftn(Fec::Ip { prefix, table }));
    let found = first_of(router, keys, &LabelStack::new());
    let found_length = match &found {
        Found::Entry(met, _) => match met.key {
            Key::Ftn(Fec::Ip { prefix, .. }) => prefix.prefix_len(),
            _ => 0,
        },
        Found::End(_) | Found::Missing(_) => 0,
    };
    let selects = |fec: &Fec| match fec {
        Fec::IpFrom { prefix: other, table: of_table, .. } => {
            *of_table == table && other.contains(&prefix) && other.prefix_len() >= found_length
        }
        _ => false,
    };
    if router.state.table.selective().any(selects) {
        return unknown(UnknownCause::SourceDependent);
    }
    // One that could not be read may be there, and one that a router has not told yet.
    let mut doubts = router.doubts_of_selective();
    if let Some((_, doubt)) = doubts.find(|(fec, _)| selects(fec)) {
        return Found::Missing(Missing::Unknown(doubt));
    }
    if let (Found::Entry(..), Some(doubt)) = (&found, never_complete(router)) {
        return Found::Missing(Missing::Unknown(doubt));
    }
    found
}

/// The entry for packets from a source or of a type of service: the most specific destination, then
/// the most specific source (RFC 8043 section 3), as far as one entry is meant and no other.
fn selective_entry(
    router: &RouterAsOf,
    prefix: IpNet,
    table: u32,
    source: Option<IpNet>,
    tos: u8,
) -> Found {
    let mut entries: Vec<(u8, u8, u8, Fec)> = Vec::new();
    let doubted = router.doubts_of_selective().map(|(fec, _)| fec);
    for fec in router.state.table.selective().chain(doubted) {
        let Fec::IpFrom { prefix: to, table: of_table, source: from, tos: of_tos } = *fec else {
            continue;
        };
        if of_table != table || !to.contains(&prefix) || (of_tos != 0 && of_tos != tos) {
            continue;
        }
        match (from, source) {
            (None, _) => {}
            (Some(from), Some(source)) if from.contains(&source) => {}
            // Part of what is asked for would meet it.
            (Some(from), Some(source)) if source.contains(&from) => {
                return unknown(UnknownCause::SourceDependent);
            }
            (Some(_), Some(_)) => continue,
            (Some(_), None) => return unknown(UnknownCause::SourceDependent),
        }
        entries.push((to.prefix_len(), from.map_or(0, |from| from.prefix_len()), of_tos, *fec));
    }
    entries.sort_unstable();
    let Some((length, _, _, fec)) = entries.pop() else {
        return plain_entry(router, prefix, table);
    };
    match plain_entry(router, prefix, table) {
        Found::Entry(met, stack) => match met.key {
            Key::Ftn(Fec::Ip { prefix: plain, .. }) if plain.prefix_len() > length => {
                Found::Entry(met, stack)
            }
            _ => first_of(router, [Key::Ftn(fec)], &LabelStack::new()),
        },
        Found::Missing(Missing::Unknown(unknown)) => Found::Missing(Missing::Unknown(unknown)),
        _ => first_of(router, [Key::Ftn(fec)], &LabelStack::new()),
    }
}

fn plain_entry(router: &RouterAsOf, prefix: IpNet, table: u32) -> Found {
    let keys = covering(prefix).map(|prefix| Key::Ftn(Fec::Ip { prefix, table }));
    first_of(router, keys, &LabelStack::new())
}

/// The entry of the first key that has one; a key that cannot be vouched for ends the search,
/// entry or not: what comes behind it is an answer only if it is certain that there is none.
fn first_of(router: &RouterAsOf, keys: impl IntoIterator<Item = Key>, stack: &LabelStack) -> Found {
    let rest = router.standing_of_the_rest().unknown();
    let mut missing = Missing::Never;
    for key in keys {
        if let Some(entry) = router.state.table.get(&key) {
            let met = Met {
                key,
                mapping: entry.mapping(),
                active_since: entry.active_since(),
                standing: router.standing_of(&key),
            };
            return Found::Entry(Box::new(met), stack.clone());
        }
        if let Some(unknown) = router.doubt_of(&key).or(rest) {
            return Found::Missing(Missing::Unknown(unknown));
        }
        // The most specific one that was there is the one that is missed.
        if let (Missing::Never, Some(time)) = (&missing, router.state.table.withdrawn(&key)) {
            missing = Missing::Withdrawn(time);
        }
    }
    Found::Missing(missing)
}

/// The prefix and every one that covers it, longest first.
fn covering(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    let address = prefix.addr();
    (0..=prefix.prefix_len())
        .rev()
        .filter_map(move |length| IpNet::new(address, length).ok().map(|prefix| prefix.trunc()))
}

/// Whether packets for this prefix are at their end here: a host prefix that is the router's own,
/// or one that leaves MPLS here.
fn owns(router: &RouterAsOf, prefix: IpNet) -> bool {
    if is_own(router, prefix) {
        return true;
    }
    match ip_entry(router, prefix, 0) {
        Found::Entry(met, _) => {
            let leaves = |branch: &Nhlfe| {
                branch.next_hop == NextHop::Fec
                    && branch.stack.is_empty()
                    && branch.encapsulation().is_none()
            };
            met.standing == Standing::Vouched
                && !met.mapping.branches.is_empty()
                && met.mapping.branches.iter().all(leaves)
        }
        Found::End(_) | Found::Missing(_) => false,
    }
}

/// Whether it is an address of the router itself.
fn is_own(router: &RouterAsOf, prefix: IpNet) -> bool {
    let is_host = prefix.prefix_len() == prefix.max_prefix_len();
    is_host && router.state.owns(prefix.addr())
}

/// Whether leaving MPLS for one FEC is right for what entered for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Serves,
    Other,
    /// Names of VRFs and numbers of tables are each router's own.
    Incomparable,
}

/// Whether leaving MPLS for `left` is right for what entered for `entered`.
pub(super) fn fit(left: &Fec, entered: &Fec) -> Fit {
    let when = |serves: bool| if serves { Fit::Serves } else { Fit::Other };
    match (left, entered) {
        // Nobody says what the LSP is for: it is right wherever it ends.
        (_, Fec::Unknown) => Fit::Serves,
        // Nobody says what this end is for.
        (Fec::Unknown, _) => Fit::Incomparable,
        _ if left == entered => Fit::Serves,
        (
            Fec::Ip { prefix: left, table: left_table }
            | Fec::IpFrom { prefix: left, table: left_table, .. },
            Fec::Ip { prefix: entered, table } | Fec::IpFrom { prefix: entered, table, .. },
        ) => match left_table == table {
            true => when(left.contains(entered)),
            false => Fit::Incomparable,
        },
        (
            Fec::Vrf { loopback, rd, prefix },
            Fec::Vrf { loopback: entered_loopback, rd: entered_rd, prefix: entered_prefix },
        ) => {
            let is_same = (loopback, rd) == (entered_loopback, entered_rd);
            when(is_same && prefix_serves(prefix, entered_prefix))
        }
        (
            Fec::VrfName { name, prefix },
            Fec::VrfName { name: entered_name, prefix: entered_prefix },
        ) => match name == entered_name {
            true => when(prefix_serves(prefix, entered_prefix)),
            false => Fit::Incomparable,
        },
        (Fec::VrfName { .. } | Fec::Named { .. } | Fec::Interface { .. }, _)
        | (_, Fec::VrfName { .. } | Fec::Named { .. } | Fec::Interface { .. }) => Fit::Incomparable,
        // A table of a VRF, and a VRF or circuit by another of its names.
        (Fec::Ip { table: 1.., .. } | Fec::IpFrom { table: 1.., .. }, _)
        | (_, Fec::Ip { table: 1.., .. } | Fec::IpFrom { table: 1.., .. }) => Fit::Incomparable,
        _ => Fit::Other,
    }
}

/// A label for the whole VRF serves every prefix of it; asking for the whole VRF is answered by any
/// label of it.
fn prefix_serves(left: &Option<IpNet>, entered: &Option<IpNet>) -> bool {
    match (left, entered) {
        (Some(left), Some(entered)) => left.contains(entered),
        (None, _) | (_, None) => true,
    }
}

/// Whether the router has an entry for this label from this upstream router.
pub(super) fn has_interface_entry(
    sight: &Sight<'_>,
    here: RouterId,
    label: Label,
    upstream: RouterId,
) -> bool {
    let key = Key::Ilm(label, Origin::Interface(upstream));
    sight.router(here).is_some_and(|router| has_word(router, &key))
}

/// The upstream router of the one interface that has an entry for this label, when the platform
/// space has none.
pub(super) fn only_interface(sight: &Sight<'_>, here: RouterId, label: Label) -> Option<RouterId> {
    let router = sight.router(here)?;
    if has_word(router, &Key::Ilm(label, Origin::Platform)) {
        return None;
    }
    let upstream_of = |key: Key| match key {
        Key::Ilm(other, Origin::Interface(upstream)) if other == label => Some(upstream),
        _ => None,
    };
    let doubted: BTreeSet<RouterId> =
        router.doubted_keys().copied().filter_map(upstream_of).collect();
    let all = router.state.table.iter().filter_map(|entry| upstream_of(entry.key()));
    let certain: BTreeSet<RouterId> = all.filter(|it| !doubted.contains(it)).collect();
    match (certain.len(), doubted.first()) {
        (2.., _) => None,
        // Whether it is the only one, or one at all: the walk ends at the doubt.
        (_, Some(upstream)) => Some(*upstream),
        (_, None) => certain.first().copied(),
    }
}

/// The FEC of the entry that a walk by label begins with, if the router names one.
pub(super) fn fec_of_label(
    sight: &Sight<'_>,
    here: RouterId,
    label: Label,
    table: u32,
) -> Option<Fec> {
    let origin = match only_interface(sight, here, label).filter(|_| table == 0) {
        Some(upstream) => Origin::Interface(upstream),
        None => Origin::of_table(table),
    };
    let entry = sight.router(here)?.state.table.get(&Key::Ilm(label, origin))?;
    Some(entry.fec()).filter(|fec| *fec != Fec::Unknown)
}
