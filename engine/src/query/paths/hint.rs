//! Where a router has what it lacks in the table that was asked: in another of its tables.
//!
//! In:   a walk that ends at its head because there is no entry; the head's tables.
//! Out:  for each other table that covers what was asked for, what it has and how to ask for it.
//! Law:  a hint is no answer: it changes no verdict.
//! Not:  which entry a packet meets (`storage::history::walk`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ipnet::IpNet;
use storage::history::UnknownCause;
use storage::history::network::Network;
use storage::history::walk::{Start, Verdict, Walk};
use storage::mapping::{Fec, Key, Label, Origin};
use storage::table::RouterTable;

use super::HintAnswer;

/// So many hints are listed: a router may have thousands of VRFs with a default route each.
const HINTS_MAX: usize = 8;

/// The hints on a walk: none if its head has an entry, or nothing is known of its head.
pub(super) fn hints(network: &Network, walk: &Walk) -> Vec<HintAnswer> {
    let misses = walk
        .steps
        .first()
        .is_some_and(|step| step.met.is_none() && step.end.as_ref().is_some_and(is_missing));
    match (network.router(walk.head), walk.start) {
        (Some(router), Start::Fec(fec)) if misses => of_fec(&router.state.table, fec.masked()),
        (Some(router), Start::Label { label, table }) if misses => {
            of_label(&router.state.table, label, table)
        }
        _ => Vec::new(),
    }
}

/// Whether the verdict is that there is no entry, or that nobody knows whether there is one.
fn is_missing(end: &Verdict) -> bool {
    use UnknownCause::{KeyGap, NeverComplete, RestGap, TimeDisputed};
    match end {
        Verdict::Broken { .. } => true,
        Verdict::Unknown { unknown, .. } => {
            matches!(unknown.cause, KeyGap(_) | RestGap(_) | NeverComplete | TimeDisputed)
        }
        _ => false,
    }
}

fn of_fec(table: &RouterTable, asked: Fec) -> Vec<HintAnswer> {
    let Some(wanted) = prefix_of(&asked) else { return Vec::new() };
    // The longest of each table; what to ask for in it names the table.
    let mut found: BTreeMap<Fec, IpNet> = BTreeMap::new();
    for entry in table.iter() {
        let Key::Ftn(fec) = entry.key() else { continue };
        let covers = |prefix: &IpNet| prefix.contains(&wanted);
        let Some(prefix) = prefix_of(&fec).filter(covers) else { continue };
        let ask = with_prefix(&fec, wanted);
        if ask == with_prefix(&asked, wanted) {
            continue;
        }
        let longest = found.entry(ask).or_insert(prefix);
        if longest.prefix_len() < prefix.prefix_len() {
            *longest = prefix;
        }
    }
    let mut found: Vec<(Fec, IpNet)> = found.into_iter().collect();
    found.sort_by_key(|(ask, prefix)| (Reverse(prefix.prefix_len()), *ask));
    listed(found.into_iter().map(|(ask, prefix)| HintAnswer {
        words: format!("{} of this router has {prefix}: ask {ask}", table_words(&ask, &asked)),
        fec: Some(ask.to_string()),
    }))
}

/// The prefix of a FEC that is one in some table.
fn prefix_of(fec: &Fec) -> Option<IpNet> {
    match fec {
        Fec::Ip { prefix, .. } | Fec::IpFrom { prefix, .. } => Some(*prefix),
        Fec::Vrf { prefix, .. } | Fec::VrfName { prefix, .. } => *prefix,
        _ => None,
    }
}

/// The other prefix in the table of this FEC.
fn with_prefix(fec: &Fec, wanted: IpNet) -> Fec {
    match *fec {
        Fec::Ip { table, .. } | Fec::IpFrom { table, .. } => Fec::Ip { prefix: wanted, table },
        Fec::Vrf { loopback, rd, .. } => Fec::Vrf { loopback, rd, prefix: Some(wanted) },
        Fec::VrfName { name, .. } => Fec::VrfName { name, prefix: Some(wanted) },
        other => other,
    }
}

fn table_words(fec: &Fec, asked: &Fec) -> String {
    /// RT_TABLE_MAIN of rtnetlink: the number by which Linux knows the table that is 0 here.
    const MAIN: u32 = 254;
    match (fec, asked) {
        (Fec::Ip { table: 0, .. }, Fec::Ip { table: MAIN, .. }) => {
            "table 0, the main one, which Linux calls 254,".to_owned()
        }
        (Fec::Ip { table, .. }, _) => format!("table {table}"),
        (Fec::Vrf { loopback, rd, .. }, _) => format!("VRF {loopback},{rd}"),
        (Fec::VrfName { name, .. }, _) => format!("VRF {name}"),
        _ => "another table".to_owned(),
    }
}

fn of_label(table: &RouterTable, label: Label, asked: u32) -> Vec<HintAnswer> {
    let others = std::iter::once(0).chain(table.label_tables()).filter(|other| *other != asked);
    let has = |other: &u32| table.get(&Key::Ilm(label, Origin::of_table(*other))).is_some();
    listed(others.filter(has).map(|other| {
        let ask = Start::Label { label, table: other };
        let words = match other {
            0 => format!("the platform's label table of this router has {label}: ask {ask}"),
            _ => format!("label table {other} of this router has {label}: ask {ask}"),
        };
        HintAnswer { words, fec: Some(ask.to_string()) }
    }))
}

/// The first of them, and how many more there are.
fn listed(mut hints: impl Iterator<Item = HintAnswer>) -> Vec<HintAnswer> {
    let mut listed: Vec<HintAnswer> = hints.by_ref().take(HINTS_MAX).collect();
    let more = hints.count();
    if more > 0 {
        listed.push(HintAnswer { words: format!("and {more} more tables"), fec: None });
    }
    listed
}
