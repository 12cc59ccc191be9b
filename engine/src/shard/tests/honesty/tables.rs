//! Every router's entries, as routing has settled: what each does, and how it is told.
//!
//! In:   the network with its links, services and labels.
//! Out:  a `Table` per router.
//! Law:  an entry's action and its mapping are made side by side from the same facts; neither is
//!       made of the other.
//! Not:  when they change (`world`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use storage::mapping::{
    Branches, Encapsulation, Fec, Ingress, Label, LabelStack, Link, Mapping, Name, NameKind,
    NextHop, Nhlfe, Operation, Origin, Role, TimeSource,
};
use storage::time::Micros;

use super::truth::{
    Action, Egress, Entry, Hop, LabelFor, Matches, Out, Payload, Router, Service, Space, Table,
    Takes, Truth, VrfWords,
};

/// A branch and how it is told.
type Told = (Hop, Nhlfe);

/// The tables of all routers.
pub(super) fn build(truth: &mut Truth) -> Vec<Table> {
    let next = truth.next_links();
    let mut builder = Builder { next, tables: vec![Table::new(); truth.ids.len()], truth };
    for router in 0..builder.truth.ids.len() {
        builder.tunnels(router);
        builder.own_labels(router);
        builder.routes(router);
        builder.services(router);
        builder.rare(router);
    }
    builder.trees();
    builder.tables
}

struct Builder<'a> {
    truth: &'a mut Truth,
    next: Vec<Vec<Vec<usize>>>,
    tables: Vec<Table>,
}

fn label(value: u32) -> Label {
    Label::new(value).expect("labels of the model are small")
}

fn stack(labels: &[u32]) -> LabelStack {
    labels.iter().map(|value| label(*value)).collect()
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

fn ip(prefix: IpNet) -> Fec {
    Fec::Ip { prefix, table: 0 }
}

impl Builder<'_> {
    fn put(
        &mut self,
        router: Router,
        matches: Matches,
        fec: Fec,
        operation: Operation,
        branches: Vec<Told>,
    ) {
        let ingress = match matches {
            Matches::Label { label: value, space, .. } => Ingress {
                label: Some(label(value)),
                origin: match space {
                    Space::Table(table) => Origin::of_table(table),
                    Space::From(upstream) => Origin::Interface(self.truth.ids[upstream]),
                },
            },
            Matches::Tunnel { label: value, .. } => {
                Ingress { label: Some(label(value)), origin: Origin::Service }
            }
            _ => Ingress::UNTAGGED,
        };
        let (hops, told): (Vec<Hop>, Branches) = branches.into_iter().unzip();
        let mut mapping = Mapping {
            fec: fec.masked(),
            ingress,
            operation,
            branches: told,
            event_time: Micros(0),
            time_source: TimeSource::Router,
            extra: None,
        };
        mapping.normalise();
        let action = match operation {
            Operation::Discard => Action::Discard,
            _ => Action::Forward(hops),
        };
        let key = mapping.key();
        self.tables[router].insert(key, Rc::new(Entry { matches, action, mapping }));
    }

    /// A branch over a link, told as the router tells such branches.
    fn over(&self, router: Router, link: usize, hop: Hop, untags: bool) -> Told {
        let (habits, wire) = (&self.truth.habits[router], &self.truth.links[link]);
        let beyond = wire.end_beyond(router);
        let id = self.truth.ids[beyond.router];
        let name = Name::new(&wire.end_of(router).name).expect("a short name");
        let next_hop = match beyond.address {
            Some(address) => NextHop::Address(address),
            // Unnumbered: the neighbour's own address, or none at all.
            None if link.is_multiple_of(2) => NextHop::Address(id.0),
            None => NextHop::Interface,
        };
        let must_name = next_hop == NextHop::Interface;
        let labels = if hop.takes == Takes::Top && hop.labels.is_empty() {
            stack(&[Label::IMPLICIT_NULL.value()])
        } else {
            stack(&hop.labels)
        };
        let told = Link {
            interface: (habits.names_interfaces || must_name).then_some(name),
            neighbour: habits.names_neighbours.then_some(id),
            encapsulation: None,
        };
        let role = if hop.is_backup { Role::Backup } else { Role::Primary };
        let nhlfe = Nhlfe { role, untags, ..Nhlfe::new(labels, next_hop) }.with_link(told);
        (hop, nhlfe)
    }

    /// The labels for a tunnel to `to` that the router behind a link wants; `None` = it gave none.
    fn wanted(&mut self, router: Router, link: usize, to: Router) -> Option<Vec<u32>> {
        let beyond = self.truth.links[link].end_beyond(router).router;
        if !self.truth.links[link].has_labels {
            return None;
        }
        if beyond != to {
            return Some(vec![self.truth.label(beyond, LabelFor::Router(to))]);
        }
        match self.truth.habits[to].egress {
            Egress::Implicit => Some(Vec::new()),
            Egress::Explicit => Some(vec![0]),
            Egress::Label => Some(vec![self.truth.label(to, LabelFor::Router(to))]),
        }
    }

    /// Branches into the tunnel to `to`, with `inner` labels below.
    fn through_tunnel(&mut self, router: Router, to: Router, inner: &[u32]) -> Vec<Told> {
        let mut branches = Vec::new();
        for link in self.next[router][to].clone() {
            let is_there = self.truth.links[link].end_beyond(router).router == to;
            let labels = match self.wanted(router, link, to) {
                Some(mut labels) => {
                    if !labels.is_empty() {
                        // Explicit null stands at the bottom alone.
                        let below = self.truth.below[router].clone();
                        let fits = |label: &u32| inner.is_empty() || *label != 0;
                        labels.extend(below.into_iter().filter(fits));
                    }
                    labels.extend(inner);
                    labels
                }
                None if inner.is_empty() => Vec::new(),
                None if is_there => inner.to_vec(),
                None => continue,
            };
            let takes = Takes::Nothing;
            let hop = Hop { takes, labels, out: Out::Wire(link), is_backup: false };
            branches.push(self.over(router, link, hop, false));
        }
        branches
    }

    /// A backup over another link, where the router computes some.
    fn backup(&mut self, router: Router, to: Router, takes: Takes) -> Option<Told> {
        if !self.truth.habits[router].has_backups || self.next[router][to].is_empty() {
            return None;
        }
        let is_other = |link: &usize| {
            let wire = &self.truth.links[*link];
            let is_mine = wire.ends.iter().any(|end| end.router == router);
            is_mine && wire.has_labels && !self.next[router][to].contains(link)
        };
        let link = (0..self.truth.links.len()).find(is_other)?;
        let labels = self.wanted(router, link, to)?;
        let hop = Hop { takes, labels, out: Out::Wire(link), is_backup: true };
        Some(self.over(router, link, hop, false))
    }

    /// Towards the loopbacks of all others: FTN and ILM.
    fn tunnels(&mut self, router: Router) {
        for to in (0..self.truth.ids.len()).filter(|to| *to != router) {
            let loopback = host(self.truth.ids[to].0);
            let mut branches = self.through_tunnel(router, to, &[]);
            if branches.is_empty() {
                continue;
            }
            branches.extend(self.backup(router, to, Takes::Nothing));
            let matches = Matches::Route { prefix: loopback, from: None };
            self.put(router, matches, ip(loopback), Operation::Push, branches);
            self.transit(router, to, loopback);
        }
    }

    fn transit(&mut self, router: Router, to: Router, loopback: IpNet) {
        let mut branches = Vec::new();
        for link in self.next[router][to].clone() {
            let wanted = self.wanted(router, link, to);
            let untags = wanted.is_none();
            let takes = if untags { Takes::All } else { Takes::Top };
            let labels = wanted.unwrap_or_default();
            let hop = Hop { takes, labels, out: Out::Wire(link), is_backup: false };
            branches.push(self.over(router, link, hop, untags));
        }
        branches.extend(self.backup(router, to, Takes::Top));
        let value = self.truth.label(router, LabelFor::Router(to));
        let inside = Payload::Ip { to: loopback, from: None };
        let is_pop = self.truth.habits[router].tells_pop
            && branches.iter().all(|(hop, _)| hop.takes == Takes::Top && hop.labels.is_empty());
        if is_pop {
            branches.iter_mut().for_each(|branch| branch.1.stack.clear());
        }
        let operation = if is_pop { Operation::Pop } else { Operation::Swap };
        let fec = self.fec_of(router, ip(loopback));
        let matches = Matches::Label { label: value, space: Space::Table(0), inside };
        self.put(router, matches, fec, operation, branches);
    }

    /// As the router names what its labels are for.
    fn fec_of(&self, router: Router, fec: Fec) -> Fec {
        if self.truth.habits[router].is_nameless { Fec::Unknown } else { fec }
    }

    /// Labels of which the router looks up what is below.
    fn own_labels(&mut self, router: Router) {
        let loopback = host(self.truth.ids[router].0);
        let (value, fec) = match self.truth.habits[router].egress {
            Egress::Implicit => return,
            Egress::Explicit if self.truth.habits[router].tells_pop => (0, Fec::Unknown),
            Egress::Explicit => return,
            Egress::Label => {
                let value = self.truth.label(router, LabelFor::Router(router));
                (value, self.fec_of(router, ip(loopback)))
            }
        };
        let again = self.truth.habits[router].tells_second_lookup;
        let next_hop = if again { NextHop::Recursive } else { NextHop::Fec };
        let hop = Hop { takes: Takes::Top, labels: vec![], out: Out::Again, is_backup: false };
        let told = Nhlfe::new(LabelStack::new(), next_hop);
        let inside = Payload::Ip { to: loopback, from: None };
        let matches = Matches::Label { label: value, space: Space::Table(0), inside };
        self.put(router, matches, fec, Operation::Pop, vec![(hop, told)]);
    }

    /// Routes of the global table beyond loopbacks.
    fn routes(&mut self, router: Router) {
        let connected: BTreeSet<IpNet> = self.connected(router);
        for prefix in &connected {
            self.put_connected(router, *prefix);
        }
        let all: BTreeSet<IpNet> = self.truth.prefixes.iter().map(|it| it.1).collect();
        for prefix in all.into_iter().filter(|prefix| !connected.contains(prefix)) {
            let has_routes = self.truth.habits[router].has_routes;
            let owners = self.truth.prefixes.clone();
            let mut owners = owners.iter().filter(|it| it.1 == prefix).map(|it| it.0);
            let owner = owners.find(|owner| !self.next[router][*owner].is_empty());
            let Some(owner) = owner.filter(|_| has_routes) else { continue };
            let branches = self.through_tunnel(router, owner, &[]);
            if !branches.is_empty() {
                let matches = Matches::Route { prefix, from: None };
                self.put(router, matches, ip(prefix), Operation::Push, branches);
            }
        }
        let discards = self.truth.discards.clone();
        for (_, prefix) in discards.into_iter().filter(|discard| discard.0 == router) {
            let matches = Matches::Route { prefix, from: None };
            self.put(router, matches, ip(prefix), Operation::Discard, Vec::new());
        }
    }

    fn connected(&self, router: Router) -> BTreeSet<IpNet> {
        let prefixes = self.truth.prefixes.iter().filter(|it| it.0 == router).map(|it| it.1);
        let ends = self.truth.links.iter().flat_map(|link| &link.ends);
        let numbered =
            ends.filter(|end| end.router == router).filter_map(|end| match end.address {
                Some(IpAddr::V4(address)) if !address.is_link_local() => {
                    IpNet::new(address.into(), 30).ok().map(|prefix| prefix.trunc())
                }
                _ => None,
            });
        prefixes.chain(numbered).collect()
    }

    fn put_connected(&mut self, router: Router, prefix: IpNet) {
        let out = Out::Here(Service::Connected(prefix));
        let hop = Hop { takes: Takes::Nothing, labels: Vec::new(), out, is_backup: false };
        let told = Nhlfe::new(LabelStack::new(), NextHop::Fec);
        let matches = Matches::Route { prefix, from: None };
        self.put(router, matches, ip(prefix), Operation::Push, vec![(hop, told)]);
    }

    /// VRFs: routes at the heads, labels at the ends.
    fn services(&mut self, router: Router) {
        for vrf in 0..self.truth.vrfs.len() {
            let Some(site) = self.truth.site(vrf, router).cloned() else { continue };
            self.vrf_labels(router, vrf, &site.prefixes);
            let by_rd = self.truth.habits[router].vrf_words == VrfWords::Distinguisher;
            let mut known: BTreeSet<IpNet> = BTreeSet::new();
            if !by_rd {
                for prefix in &site.prefixes {
                    known.insert(*prefix);
                    self.put_local(router, vrf, *prefix);
                }
            }
            for far in self.truth.vrfs[vrf].sites.clone() {
                if far.router == router {
                    continue;
                }
                for prefix in &far.prefixes {
                    if by_rd || !known.contains(prefix) {
                        let is_put = self.remote(router, vrf, far.router, *prefix);
                        known.extend(is_put.then_some(*prefix));
                    }
                }
            }
        }
    }

    fn vrf_labels(&mut self, router: Router, vrf: usize, prefixes: &[IpNet]) {
        let per_prefix = self.truth.habits[router].labels_per_prefix;
        let whole = [None];
        let each: Vec<Option<IpNet>> = prefixes.iter().copied().map(Some).collect();
        let labelled = if per_prefix { &each[..] } else { &whole[..] };
        for prefix in labelled {
            let value = self.vrf_label(router, vrf, *prefix);
            let fec = self.truth.vrf_fec(router, vrf, router, *prefix);
            let fec = self.fec_of(router, fec);
            let out = Out::Here(Service::Vrf { vrf, prefix: *prefix });
            let hop = Hop { takes: Takes::Top, labels: Vec::new(), out, is_backup: false };
            let again = prefix.is_none() && self.truth.habits[router].tells_second_lookup;
            let next_hop = if again { NextHop::Recursive } else { NextHop::Fec };
            let told = Nhlfe::new(LabelStack::new(), next_hop);
            let inside = Payload::Vpn { vrf, to: *prefix, site: Some(router) };
            let matches = Matches::Label { label: value, space: Space::Table(0), inside };
            self.put(router, matches, fec, Operation::Pop, vec![(hop, told)]);
        }
    }

    fn vrf_label(&mut self, router: Router, vrf: usize, prefix: Option<IpNet>) -> u32 {
        let what = match prefix {
            Some(prefix) => LabelFor::VrfPrefix(vrf, prefix),
            None => LabelFor::Vrf(vrf),
        };
        self.truth.label(router, what)
    }

    fn put_local(&mut self, router: Router, vrf: usize, prefix: IpNet) {
        let out = Out::Here(Service::Vrf { vrf, prefix: Some(prefix) });
        let hop = Hop { takes: Takes::Nothing, labels: Vec::new(), out, is_backup: false };
        let told = Nhlfe::new(LabelStack::new(), NextHop::Fec);
        let fec = self.truth.vrf_fec(router, vrf, router, Some(prefix));
        let matches = Matches::VrfRoute { vrf, prefix: Some(prefix), site: None };
        self.put(router, matches, fec, Operation::Push, vec![(hop, told)]);
    }

    /// A route of a VRF to another site; `false` = there is no way.
    fn remote(&mut self, router: Router, vrf: usize, to: Router, prefix: IpNet) -> bool {
        let per_prefix = self.truth.habits[to].labels_per_prefix;
        let by_rd = self.truth.habits[router].vrf_words == VrfWords::Distinguisher;
        let named = Some(prefix).filter(|_| per_prefix || !by_rd);
        let value = self.vrf_label(to, vrf, Some(prefix).filter(|_| per_prefix));
        let fec = self.truth.vrf_fec(router, vrf, to, named);
        let matches = Matches::VrfRoute { vrf, prefix: named, site: by_rd.then_some(to) };
        let resolved = self.through_tunnel(router, to, &[value]);
        if resolved.is_empty() {
            return false;
        }
        if !(by_rd && self.truth.habits[router].looks_again) {
            self.put(router, matches, fec, Operation::Push, resolved);
            return true;
        }
        let out = Out::Tunnel(to);
        let hop = Hop { takes: Takes::Nothing, labels: vec![value], out, is_backup: false };
        let told = Nhlfe::new(stack(&[value]), NextHop::Recursive);
        self.put(router, matches, fec, Operation::Push, vec![(hop, told)]);
        // The same branches, without the label that is there already.
        let strip = |(mut hop, mut told): Told| {
            hop.labels.pop();
            told.stack.pop();
            (hop, told)
        };
        let outer: Vec<Told> = resolved.into_iter().map(strip).collect();
        let fec = ip(host(self.truth.ids[to].0));
        self.put(router, Matches::Tunnel { label: value, to }, fec, Operation::Push, outer);
        true
    }

    fn rare(&mut self, router: Router) {
        for (at, to, from, owner) in self.truth.by_source.clone() {
            let branches = if at == router && owner != router {
                self.through_tunnel(router, owner, &[])
            } else {
                Vec::new()
            };
            if !branches.is_empty() {
                let fec = Fec::IpFrom { prefix: to, table: 0, source: Some(from), tos: 0 };
                let matches = Matches::Route { prefix: to, from: Some(from) };
                self.put(router, matches, fec, Operation::Push, branches);
            }
        }
        for (at, to, outer) in self.truth.encapsulated.clone() {
            if at == router {
                self.encapsulated(router, to, outer);
            }
        }
        let mut ends = self.truth.links.iter().flat_map(|link| &link.ends);
        if ends.any(|end| end.router == router && end.label_table != 0) {
            self.second_table(router);
        }
        for (at, table, value, towards) in self.truth.carriers.clone() {
            if at == router {
                self.carrier(router, table, value, towards);
            }
        }
    }

    /// Who has interfaces in a second label table has something in it.
    fn second_table(&mut self, router: Router) {
        let out = Out::Here(Service::Lsp(u32::MAX));
        let hop = Hop { takes: Takes::Top, labels: Vec::new(), out, is_backup: false };
        let told = Nhlfe::new(LabelStack::new(), NextHop::Fec);
        let name = Name::new("carrier").expect("a short name");
        let fec = Fec::Named { kind: NameKind::Other, name };
        let (label, space, inside) = (999, Space::Table(7), Payload::Lsp(u32::MAX));
        let matches = Matches::Label { label, space, inside };
        self.put(router, matches, fec, Operation::Pop, vec![(hop, told)]);
    }

    /// Towards a neighbour, in an encapsulation: whoever looks at the next hop alone follows it.
    fn encapsulated(&mut self, router: Router, to: IpNet, outer: Encapsulation) {
        let mut links = self.truth.links.iter().flat_map(|link| {
            let is_mine = link.ends.iter().any(|end| end.router == router);
            is_mine.then(|| link.end_beyond(router).address).flatten()
        });
        let next_hop = links.next().map_or(NextHop::Interface, NextHop::Address);
        let link = Link { encapsulation: Some(outer), ..Link::default() };
        let told = Nhlfe::new(LabelStack::new(), next_hop).with_link(link);
        let out = Out::Beyond;
        let hop = Hop { takes: Takes::Nothing, labels: Vec::new(), out, is_backup: false };
        let matches = Matches::Route { prefix: to, from: None };
        self.put(router, matches, ip(to), Operation::Push, vec![(hop, told)]);
    }

    fn carrier(&mut self, router: Router, table: u32, value: u32, towards: Router) {
        let mut branches = Vec::new();
        for link in self.next[router][towards].clone() {
            let Some(labels) = self.wanted(router, link, towards) else { continue };
            let hop = Hop { takes: Takes::Top, labels, out: Out::Wire(link), is_backup: false };
            branches.push(self.over(router, link, hop, false));
        }
        if !branches.is_empty() {
            let inside = Payload::Bare;
            let matches = Matches::Label { label: value, space: Space::Table(table), inside };
            self.put(router, matches, Fec::Unknown, Operation::Swap, branches);
        }
    }

    /// Trees from a root to leaves: every router copies to those below it.
    fn trees(&mut self) {
        for (tree, root, leaves) in self.truth.trees.clone() {
            // (router, upstream) and the links that it copies to.
            let mut copies: BTreeMap<(Router, Option<Router>), BTreeSet<usize>> = BTreeMap::new();
            for leaf in &leaves {
                let (mut at, mut upstream) = (root, None);
                while let Some(link) = self.next[at][*leaf].first().copied() {
                    copies.entry((at, upstream)).or_default().insert(link);
                    (at, upstream) = (self.truth.links[link].end_beyond(at).router, Some(at));
                }
                if at == *leaf {
                    copies.entry((at, upstream)).or_default();
                }
            }
            for ((router, upstream), links) in copies {
                self.node(tree, router, upstream, &links, leaves.contains(&router));
            }
        }
    }

    fn node(
        &mut self,
        tree: u32,
        router: Router,
        upstream: Option<Router>,
        links: &BTreeSet<usize>,
        is_leaf: bool,
    ) {
        let takes = if upstream.is_some() { Takes::Top } else { Takes::Nothing };
        let mut branches = Vec::new();
        for link in links {
            let below = self.truth.links[*link].end_beyond(router).router;
            let labels = vec![self.truth.label(below, LabelFor::Tree(tree))];
            let hop = Hop { takes, labels, out: Out::Wire(*link), is_backup: false };
            branches.push(self.over(router, *link, hop, false));
        }
        if is_leaf && upstream.is_some() {
            let out = Out::Here(Service::Lsp(tree));
            let hop = Hop { takes, labels: Vec::new(), out, is_backup: false };
            branches.push((hop, Nhlfe::new(LabelStack::new(), NextHop::Fec)));
        }
        if branches.is_empty() {
            return;
        }
        let name = Name::new(&format!("tree-{tree}")).expect("a short name");
        let fec = Fec::Named { kind: NameKind::Mldp, name };
        let operation = match (branches.len(), links.is_empty()) {
            (1, true) => Operation::Pop,
            (1, false) if upstream.is_some() => Operation::Swap,
            (1, false) => Operation::Push,
            _ => Operation::Replicate,
        };
        let Some(upstream) = upstream else {
            return self.put(router, Matches::Head(tree), fec, operation, branches);
        };
        let value = self.truth.label(router, LabelFor::Tree(tree));
        let per_interface = !self.truth.habits[router].tells_pop;
        let space = if per_interface { Space::From(upstream) } else { Space::Table(0) };
        let fec = self.fec_of(router, fec);
        let matches = Matches::Label { label: value, space, inside: Payload::Lsp(tree) };
        self.put(router, matches, fec, operation, branches);
    }
}
