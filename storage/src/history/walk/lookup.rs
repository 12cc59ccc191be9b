//! Which entry a packet meets at a router, and whether that can be vouched for.
//!
//! In:   a router as of an instant, and a packet's label or the FEC that it is for.
//! Out:  `Found`: the entry, an end that needs none, or what kind of nothing is there.
//! Law:  a doubt about a more specific entry is a doubt about the answer.
//! Not:  what the entry does (`walk`).

use ipnet::IpNet;

use super::super::network::RouterAsOf;
use super::super::{Standing, Unknown, UnknownCause};
use super::sight::Sight;
use super::{Met, Space, State, Verdict, Walker, delivered};
use crate::mapping::{Fec, Key, Label, LabelStack, NextHop, Origin, RouterId};
use crate::time::Micros;

/// IPv4 and IPv6 explicit null (RFC 3032 section 2.1): taken off by whoever receives them.
const EXPLICIT_NULLS: [u32; 2] = [0, 2];

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
            let unknown = Unknown { cause: UnknownCause::NeverHeard, since: None };
            return Found::Missing(Missing::Unknown(unknown));
        };
        if let Standing::Unknown(unknown) = router.standing() {
            return Found::Missing(Missing::Unknown(unknown));
        }
        match state.space {
            Space::Head => self.meet_head(router, state),
            Space::Service(inner) => meet_service(router, state, inner),
            Space::Label { from } => self.meet_label(router, state, from),
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
            Some(Fec::Vrf { loopback, rd, prefix: Some(prefix) }) => {
                let keys = covering(prefix)
                    .map(|prefix| Fec::Vrf { loopback, rd, prefix: Some(prefix) })
                    .chain([Fec::Vrf { loopback, rd, prefix: None }])
                    .map(Key::Ftn);
                first_of(router, keys, &state.stack)
            }
            Some(fec) => first_of(router, [Key::Ftn(fec)], &state.stack),
            None => Found::Missing(Missing::Never),
        }
    }

    fn meet_label(&self, router: &RouterAsOf, state: &State, from: Option<RouterId>) -> Found {
        let Some(label) = state.stack.first().copied() else {
            return self.meet_ip(router, state);
        };
        let interface = from.map(|upstream| Key::Ilm(label, Origin::Interface(upstream)));
        let keys = interface.into_iter().chain([Key::Ilm(label, Origin::Platform)]);
        let found = first_of(router, keys, &state.stack);
        let is_null = EXPLICIT_NULLS.contains(&label.value());
        match found {
            // No router announces an entry for explicit null: it says what to do by itself.
            Found::Missing(_) if is_null => {
                let rest: LabelStack = state.stack.iter().skip(1).copied().collect();
                self.meet_label(router, &State { stack: rest, ..state.clone() }, None)
            }
            found => found,
        }
    }

    /// A packet without label: it is where it should be, or the IP table sends it on.
    fn meet_ip(&self, router: &RouterAsOf, state: &State) -> Found {
        let here = state.router;
        match self.entered {
            // The LSP ends here, and nobody said what it is for.
            None | Some(Fec::Unknown) => Found::End(delivered(here, state.carriage)),
            // The service's own label is gone: nothing here can tell whose packet it is.
            Some(Fec::Vrf { .. } | Fec::Vsi { .. } | Fec::Ac { .. }) => {
                Found::End(Verdict::Unlabelled { here, delivered: None })
            }
            Some(Fec::Ip { prefix, .. }) => {
                if owns(router, prefix) {
                    return Found::End(delivered(here, state.carriage));
                }
                ip_entry(router, prefix, 0)
            }
        }
    }
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

/// The IP table's longest match for a prefix: the most specific FTN entry that covers it.
pub(super) fn ip_entry(router: &RouterAsOf, prefix: IpNet, table: u32) -> Found {
    let keys = covering(prefix).map(|prefix| Key::Ftn(Fec::Ip { prefix, table }));
    first_of(router, keys, &LabelStack::new())
}

/// The entry of the first key that has one; a key that cannot be vouched for ends the search.
fn first_of(router: &RouterAsOf, keys: impl IntoIterator<Item = Key>, stack: &LabelStack) -> Found {
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
        if let Some(gap) = router.state.key_gaps.get(&key) {
            let cause = UnknownCause::KeyGap(gap.reason);
            return Found::Missing(Missing::Unknown(Unknown { cause, since: Some(gap.start) }));
        }
        // The most specific one that was there is the one that is missed.
        if let (Missing::Never, Some(time)) = (&missing, router.state.table.withdrawn(&key)) {
            missing = Missing::Withdrawn(time);
        }
    }
    if let (Missing::Never, None) = (&missing, router.state.complete) {
        let cause = UnknownCause::NeverComplete;
        missing = Missing::Unknown(Unknown { cause, since: None });
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
    let is_host = prefix.prefix_len() == prefix.max_prefix_len();
    if is_host && router.state.owns(prefix.addr()) {
        return true;
    }
    match ip_entry(router, prefix, 0) {
        Found::Entry(met, _) => {
            let leaves = |hop: &NextHop| *hop == NextHop::Fec;
            met.standing == Standing::Vouched
                && !met.mapping.branches.is_empty()
                && met.mapping.branches.iter().all(|branch| leaves(&branch.next_hop))
        }
        Found::End(_) | Found::Missing(_) => false,
    }
}

/// Whether leaving MPLS for `left` is right for what entered for `entered`.
pub(super) fn serves(left: &Fec, entered: &Fec) -> bool {
    match (left, entered) {
        (Fec::Ip { prefix: left, .. }, Fec::Ip { prefix: entered, .. }) => left.contains(entered),
        (
            Fec::Vrf { loopback, rd, prefix },
            Fec::Vrf { loopback: entered_loopback, rd: entered_rd, prefix: entered_prefix },
        ) => {
            let prefix_serves = match (prefix, entered_prefix) {
                (Some(left), Some(entered)) => left.contains(entered),
                // A label for the whole VRF serves every prefix of it; asking for the whole VRF
                // is answered by any label of it.
                (None, _) | (_, None) => true,
            };
            (loopback, rd) == (entered_loopback, entered_rd) && prefix_serves
        }
        _ => left == entered,
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
    let in_table = |router: &RouterAsOf| {
        router.state.table.get(&key).is_some() || router.state.key_gaps.contains_key(&key)
    };
    sight.router(here).is_some_and(in_table)
}

/// The upstream router of the one interface that has an entry for this label, when the platform
/// space has none.
pub(super) fn only_interface(sight: &Sight<'_>, here: RouterId, label: Label) -> Option<RouterId> {
    let table = &sight.router(here)?.state.table;
    if table.get(&Key::Ilm(label, Origin::Platform)).is_some() {
        return None;
    }
    let mut upstream = table.iter().filter_map(|entry| match entry.key() {
        Key::Ilm(other, Origin::Interface(upstream)) if other == label => Some(upstream),
        _ => None,
    });
    let only = upstream.next();
    only.filter(|_| upstream.next().is_none())
}

/// The FEC of the entry that a walk by label begins with, if the router names one.
pub(super) fn fec_of_label(sight: &Sight<'_>, here: RouterId, label: Label) -> Option<Fec> {
    let origin = match only_interface(sight, here, label) {
        Some(upstream) => Origin::Interface(upstream),
        None => Origin::Platform,
    };
    let entry = sight.router(here)?.state.table.get(&Key::Ilm(label, origin))?;
    Some(entry.fec()).filter(|fec| *fec != Fec::Unknown)
}
