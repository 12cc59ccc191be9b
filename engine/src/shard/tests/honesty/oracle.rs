//! What really becomes of a packet: it is forwarded through the true tables, hop by hop.
//!
//! In:   the tables of an instant, the links, the head, and a packet.
//! Out:  every way that a copy or a branch of it takes, and how that way ends.
//! Law:  looks at actions, links and services alone: never at how an entry is told.
//! Not:  whether the collector says the same (`judge`).
//!
//! What the words of an end mean:
//!
//! - delivered at X: X hands the packet to what it was sent to; the end of a tunnel or tree, or of
//!   an LSP of which nobody says what it is for, is where its last label has gone;
//! - unlabelled at X: the packet has had a label, has come to X without one, and X sends it on
//!   without one; or it never had one on two links or more, X being the first of these routers; or
//!   X takes all labels off a packet that only its labels told apart;
//! - lost at X: X has no entry for what comes in;
//! - beyond at X: X sends it where nobody follows, or what was asked does not decide what X does.

use std::rc::Rc;

use ipnet::IpNet;

use super::truth::{
    Action, Entry, Hop, Matches, Out, Payload, Router, Service, Space, Table, Takes, Truth,
};

/// How a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Delivered(Router),
    Misdelivered(Router),
    Unlabelled { here: Router, delivered: Option<Router> },
    Lost(Router),
    Discarded(Router),
    Untagged(Router),
    Loop(Router),
    Beyond(Router),
}

/// One way: the routers, with the labels that each sends on; none at the last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) hops: Vec<(Router, Vec<u32>)>,
    pub(super) ending: Ending,
}

/// How a packet comes to its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    Unlabelled,
    /// With this label, of this table or, where the router has the label for one interface alone,
    /// by that one.
    Label {
        label: u32,
        table: u32,
    },
}

/// Ways of one question that are followed; more, and the question is not asked.
pub(super) const WAYS_MAX: usize = 400;
const HOPS_MAX: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Fresh,
    Plain { first: Router, far: bool },
    Labelled,
}

/// Where the top label is looked up, or the packet without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    Labels { table: u32, from: Option<Router> },
    Tunnel(Router),
    Global,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    at: Router,
    labels: Vec<u32>,
    place: Place,
    carried: Carried,
}

pub(super) struct Oracle<'a> {
    truth: &'a Truth,
    tables: &'a [Table],
    payload: Payload,
    ways: Vec<Way>,
    is_cut: bool,
}

/// Every way of a packet; `None` = there are too many.
pub(super) fn follow(
    truth: &Truth,
    tables: &[Table],
    head: Router,
    entrance: Entrance,
    payload: Payload,
) -> Option<Vec<Way>> {
    let mut oracle = Oracle { truth, tables, payload, ways: Vec::new(), is_cut: false };
    let (labels, place, carried) = match entrance {
        Entrance::Unlabelled => (Vec::new(), Place::Head, Carried::Fresh),
        Entrance::Label { label, table } => {
            let from = oracle.only_interface(head, label).filter(|_| table == 0);
            (vec![label], Place::Labels { table, from }, Carried::Labelled)
        }
    };
    let packet = Packet { at: head, labels, place, carried };
    oracle.step(packet, &mut Vec::new(), &mut Vec::new());
    (!oracle.is_cut).then(|| {
        oracle.ways.sort();
        oracle.ways.dedup();
        oracle.ways
    })
}

impl Oracle<'_> {
    fn entries(&self, router: Router) -> impl Iterator<Item = &Rc<Entry>> {
        self.tables[router].values()
    }

    fn only_interface(&self, router: Router, wanted: u32) -> Option<Router> {
        let mut upstream = Vec::new();
        for entry in self.entries(router) {
            match entry.matches {
                Matches::Label { label, space: Space::Table(0), .. } if label == wanted => {
                    return None;
                }
                Matches::Label { label, space: Space::From(from), .. } if label == wanted => {
                    upstream.push(from);
                }
                _ => {}
            }
        }
        (upstream.len() == 1).then(|| upstream[0])
    }

    fn end(&mut self, hops: &[(Router, Vec<u32>)], here: Router, ending: Ending) {
        let mut hops = hops.to_vec();
        if hops.last().is_none_or(|hop| hop.0 != here) {
            hops.push((here, Vec::new()));
        }
        self.ways.push(Way { hops, ending });
        self.is_cut |= self.ways.len() > WAYS_MAX;
    }

    /// The end of a branch whose packet has labels that nobody takes.
    fn end_with(
        &mut self,
        hops: &[(Router, Vec<u32>)],
        here: Router,
        labels: &[u32],
        ending: Ending,
    ) {
        let mut hops = hops.to_vec();
        if !labels.is_empty() {
            hops.push((here, labels.to_vec()));
        }
        self.end(&hops, here, ending);
    }

    fn step(
        &mut self,
        mut packet: Packet,
        hops: &mut Vec<(Router, Vec<u32>)>,
        seen: &mut Vec<Packet>,
    ) {
        if self.is_cut || hops.len() > HOPS_MAX {
            self.is_cut = true;
            return;
        }
        let here = packet.at;
        let found = self.meet(&mut packet);
        let entry = match found {
            Ok(entry) => entry,
            Err(ending) => return self.end(hops, here, ending),
        };
        let branches = match &entry.action {
            Action::Discard => return self.end(hops, here, Ending::Discarded(here)),
            Action::Forward(branches) => branches,
        };
        if branches.iter().all(|branch| branch.is_backup) {
            return self.end(hops, here, Ending::Beyond(here));
        }
        seen.push(packet.clone());
        for branch in branches.iter().filter(|branch| !branch.is_backup) {
            self.take(&packet, branch, hops, seen);
        }
        seen.pop();
    }

    fn take(
        &mut self,
        packet: &Packet,
        branch: &Hop,
        hops: &mut Vec<(Router, Vec<u32>)>,
        seen: &mut Vec<Packet>,
    ) {
        let here = packet.at;
        if branch.takes == Takes::All && packet.labels.len() > 1 {
            return self.end_with(hops, here, &[], Ending::Untagged(here));
        }
        let kept = match branch.takes {
            Takes::Nothing => &packet.labels[..],
            Takes::Top => packet.labels.get(1..).unwrap_or_default(),
            Takes::All => &[],
        };
        let labels: Vec<u32> = branch.labels.iter().chain(kept).copied().collect();
        match branch.out {
            Out::Beyond => self.end_with(hops, here, &labels, Ending::Beyond(here)),
            Out::Here(service) if labels.is_empty() => {
                self.hand_out(packet, service, hops);
            }
            Out::Here(_) => {
                let table = 0;
                let place = Place::Labels { table, from: None };
                self.go(Packet { labels, place, ..packet.clone() }, hops, seen);
            }
            Out::Again => {
                let place = match labels.is_empty() {
                    true => Place::Global,
                    false => Place::Labels { table: 0, from: None },
                };
                self.go(Packet { labels, place, ..packet.clone() }, hops, seen);
            }
            Out::Tunnel(to) => {
                self.go(Packet { labels, place: Place::Tunnel(to), ..packet.clone() }, hops, seen);
            }
            Out::Wire(link) => self.send(packet, branch, labels, link, hops, seen),
        }
    }

    fn send(
        &mut self,
        packet: &Packet,
        branch: &Hop,
        labels: Vec<u32>,
        link: usize,
        hops: &mut Vec<(Router, Vec<u32>)>,
        seen: &mut Vec<Packet>,
    ) {
        let here = packet.at;
        let unlabelled = Ending::Unlabelled { here, delivered: None };
        let is_ip = matches!(self.payload, Payload::Ip { .. });
        if branch.takes == Takes::All && !is_ip {
            return self.end_with(hops, here, &labels, unlabelled);
        }
        let carried = match packet.carried {
            _ if !labels.is_empty() => Carried::Labelled,
            Carried::Fresh => Carried::Plain { first: here, far: false },
            Carried::Plain { first, .. } => Carried::Plain { first, far: true },
            Carried::Labelled if packet.labels.is_empty() => {
                return self.end_with(hops, here, &labels, unlabelled);
            }
            Carried::Labelled => Carried::Labelled,
        };
        let beyond = self.truth.links[link].end_beyond(here);
        let place = match labels.is_empty() {
            true => Place::Global,
            false => Place::Labels { table: beyond.label_table, from: Some(here) },
        };
        let next = Packet { at: beyond.router, labels: labels.clone(), place, carried };
        if seen.iter().any(|before| is_same(before, &next)) {
            return self.end_with(hops, here, &labels, Ending::Loop(here));
        }
        hops.push((here, labels));
        self.step(next, hops, seen);
        hops.pop();
    }

    /// The same router looks again.
    fn go(&mut self, next: Packet, hops: &mut Vec<(Router, Vec<u32>)>, seen: &mut Vec<Packet>) {
        if seen.iter().any(|before| is_same(before, &next)) {
            return self.end_with(hops, next.at, &next.labels.clone(), Ending::Loop(next.at));
        }
        self.step(next, hops, seen);
    }

    fn hand_out(&mut self, packet: &Packet, service: Service, hops: &[(Router, Vec<u32>)]) {
        let here = packet.at;
        let delivered = delivered(here, packet.carried);
        let covers = |served: Option<IpNet>, wanted: Option<IpNet>| match (served, wanted) {
            (Some(served), Some(wanted)) => served.contains(&wanted),
            _ => true,
        };
        let ending = match (self.payload, service) {
            (Payload::Bare, _) => delivered,
            (Payload::Ip { to, .. }, Service::Connected(prefix)) if prefix.contains(&to) => {
                delivered
            }
            (Payload::Vpn { vrf, to, site }, Service::Vrf { vrf: served, prefix })
                if vrf == served && covers(prefix, to) && site.is_none_or(|it| it == here) =>
            {
                delivered
            }
            (Payload::Lsp(wanted), Service::Lsp(served)) if wanted == served => delivered,
            _ => Ending::Misdelivered(here),
        };
        self.end(hops, here, ending);
    }

    /// The entry that a packet meets; labels that say by themselves what to do go. Errors: the end
    /// of a packet that meets none.
    fn meet(&self, packet: &mut Packet) -> Result<Rc<Entry>, Ending> {
        let here = packet.at;
        match packet.place {
            Place::Head => self.meet_head(here),
            Place::Tunnel(to) => {
                let top = packet.labels.first().copied();
                let is_it = |entry: &&Rc<Entry>| match entry.matches {
                    Matches::Tunnel { label, to: end } => Some(label) == top && end == to,
                    _ => false,
                };
                self.entries(here).find(is_it).cloned().ok_or(Ending::Lost(here))
            }
            Place::Labels { .. } if packet.labels.is_empty() => self.meet_unlabelled(packet),
            Place::Labels { table, from } => {
                let top = packet.labels[0];
                if let Some(entry) = self.label(here, top, table, from) {
                    return Ok(entry);
                }
                let gone = match (top, packet.labels.len()) {
                    (0..=2, _) => 1,
                    (7, 2..) => 2,
                    _ => return Err(Ending::Lost(here)),
                };
                packet.labels.drain(..gone);
                self.meet(packet)
            }
            Place::Global => self.meet_unlabelled(packet),
        }
    }

    fn label(
        &self,
        here: Router,
        wanted: u32,
        table: u32,
        from: Option<Router>,
    ) -> Option<Rc<Entry>> {
        let of = |space: Space| {
            self.entries(here).find(|entry| match entry.matches {
                Matches::Label { label, space: its, .. } => label == wanted && its == space,
                _ => false,
            })
        };
        let by_interface = from.and_then(|from| of(Space::From(from)));
        by_interface.or_else(|| of(Space::Table(table))).cloned()
    }

    fn meet_head(&self, here: Router) -> Result<Rc<Entry>, Ending> {
        match self.payload {
            Payload::Ip { to, from } => {
                let is_host = to.prefix_len() == to.max_prefix_len();
                if is_host && from.is_none() && self.truth.owns(here, to.addr()) {
                    return Err(Ending::Delivered(here));
                }
                self.route(here, to, from)
            }
            Payload::Vpn { vrf, to, site } => {
                let length = |entry: &Rc<Entry>| match entry.matches {
                    Matches::VrfRoute { vrf: of, prefix, site: of_site } => {
                        let is_it = of == vrf && of_site == site;
                        let covers = match (prefix, to) {
                            (Some(prefix), Some(to)) => prefix.contains(&to),
                            (Some(_), None) => false,
                            (None, _) => true,
                        };
                        (is_it && covers)
                            .then(|| prefix.map_or(0, |it| u32::from(it.prefix_len()) + 1))
                    }
                    _ => None,
                };
                let known = self.entries(here).filter_map(|entry| Some((length(entry)?, entry)));
                let best = known.max_by_key(|(length, _)| *length);
                best.map(|(_, entry)| entry.clone()).ok_or(Ending::Lost(here))
            }
            Payload::Lsp(wanted) => {
                let is_it = |entry: &&Rc<Entry>| entry.matches == Matches::Head(wanted);
                self.entries(here).find(is_it).cloned().ok_or(Ending::Lost(here))
            }
            Payload::Bare => Err(Ending::Lost(here)),
        }
    }

    fn meet_unlabelled(&self, packet: &Packet) -> Result<Rc<Entry>, Ending> {
        let here = packet.at;
        match self.payload {
            Payload::Ip { to, from } => {
                let is_host = to.prefix_len() == to.max_prefix_len();
                if is_host && self.truth.owns(here, to.addr()) {
                    return Err(delivered(here, packet.carried));
                }
                self.route(here, to, from)
            }
            Payload::Vpn { .. } if packet.carried != Carried::Labelled => Err(Ending::Beyond(here)),
            Payload::Vpn { .. } => Err(Ending::Unlabelled { here, delivered: None }),
            Payload::Bare | Payload::Lsp(_) => Err(delivered(here, packet.carried)),
        }
    }

    /// The longest match of the destination, then of the source.
    fn route(&self, here: Router, to: IpNet, from: Option<IpNet>) -> Result<Rc<Entry>, Ending> {
        let mut best: Option<((u8, u8), &Rc<Entry>)> = None;
        let mut is_open = false;
        for entry in self.entries(here) {
            let Matches::Route { prefix, from: selects } = entry.matches else { continue };
            if !prefix.contains(&to) {
                continue;
            }
            let rank = (prefix.prefix_len(), selects.map_or(0, |it| it.prefix_len() + 1));
            match (selects, from) {
                (Some(selects), Some(from)) if !selects.contains(&from) => continue,
                (Some(_), None) => {
                    // Where the packet comes from decides, and was not asked.
                    is_open |= best.is_none_or(|(best, _)| rank > best);
                    continue;
                }
                _ => {}
            }
            if best.is_none_or(|(best, _)| rank > best) {
                best = Some((rank, entry));
                is_open &= self.has_open(here, to, rank);
            }
        }
        if is_open {
            return Err(Ending::Beyond(here));
        }
        best.map(|(_, entry)| entry.clone()).ok_or(Ending::Lost(here))
    }

    fn has_open(&self, here: Router, to: IpNet, than: (u8, u8)) -> bool {
        self.entries(here).any(|entry| match entry.matches {
            Matches::Route { prefix, from: Some(from) } => {
                prefix.contains(&to) && (prefix.prefix_len(), from.prefix_len() + 1) > than
            }
            _ => false,
        })
    }
}

/// Whether a packet is as it was: what it meets is the same.
fn is_same(before: &Packet, now: &Packet) -> bool {
    before.at == now.at
        && before.labels == now.labels
        && before.carried == now.carried
        && before.place == now.place
}

fn delivered(here: Router, carried: Carried) -> Ending {
    match carried {
        Carried::Plain { first, far: true } => {
            Ending::Unlabelled { here: first, delivered: Some(here) }
        }
        Carried::Plain { far: false, .. } | Carried::Fresh | Carried::Labelled => {
            Ending::Delivered(here)
        }
    }
}

/// Whether an address of a prefix is decided by more specific routes somewhere: then the prefix as
/// a whole has no one way.
pub(super) fn is_split(tables: &[Table], asked: IpNet) -> bool {
    let is_inside = |entry: &Rc<Entry>| match entry.matches {
        Matches::Route { prefix, .. } | Matches::VrfRoute { prefix: Some(prefix), .. } => {
            asked.contains(&prefix) && prefix != asked
        }
        _ => false,
    };
    tables.iter().any(|table| table.values().any(is_inside))
}

/// What is inside of packets with this label, as far as the router names it.
pub(super) fn inside(tables: &[Table], router: Router, wanted: u32, table: u32) -> Payload {
    let named = |entry: &&Rc<Entry>| match entry.matches {
        Matches::Label { label, space: Space::Table(of), .. } => label == wanted && of == table,
        Matches::Label { label, space: Space::From(_), .. } => label == wanted && table == 0,
        _ => false,
    };
    let of_platform = |entry: &&&Rc<Entry>| {
        matches!(entry.matches, Matches::Label { space: Space::Table(_), .. })
    };
    let entries: Vec<&Rc<Entry>> = tables[router].values().filter(named).collect();
    let by_table = entries.iter().find(|entry| of_platform(entry)).copied();
    let only = if entries.len() == 1 { entries.first().copied() } else { None };
    match by_table.or(only) {
        Some(entry) if entry.mapping.fec != storage::mapping::Fec::Unknown => match entry.matches {
            Matches::Label { inside, .. } => inside,
            _ => Payload::Bare,
        },
        _ => Payload::Bare,
    }
}
