//! A network as it is: routers, links, and what every router does with every packet.
//!
//! In:   chance, and what happens: links fail, labels are given anew.
//! Out:  per router its entries: what each does, and how its sender says it.
//! Law:  what an entry does is said in links and services, never in addresses and FECs that the
//!       collector would have to make something of.
//! Not:  what a packet meets (`oracle`), when the collector is told (`speaker`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use ipnet::IpNet;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::interface::Interface;
use storage::mapping::{Encapsulation, Fec, Key, Mapping, RouterId};

/// A router, by its place in the network.
pub(super) type Router = usize;

/// One end of a link.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) router: Router,
    /// The interface's name there.
    pub(super) name: String,
    /// Its address, if it has one.
    pub(super) address: Option<IpAddr>,
    /// The label table of what comes in there.
    pub(super) label_table: u32,
}

/// A link between two routers; its wire never fails, only what routing makes of it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) ends: [End; 2],
    pub(super) cost: u32,
    /// Whether label distribution runs over it.
    pub(super) has_labels: bool,
    /// Whether routing uses it.
    pub(super) is_up: bool,
}

impl Link {
    pub(super) fn end_of(&self, router: Router) -> &End {
        if self.ends[0].router == router { &self.ends[0] } else { &self.ends[1] }
    }

    pub(super) fn end_beyond(&self, router: Router) -> &End {
        if self.ends[0].router == router { &self.ends[1] } else { &self.ends[0] }
    }
}

/// How a router names VRFs to the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VrfWords {
    Distinguisher,
    Name,
    Table,
}

/// What the hello of a router says of its interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announces {
    Nothing,
    Addresses,
    /// Names, addresses, and label tables.
    Names,
    /// The same, and who is behind each.
    Neighbours,
}

/// What becomes of the label at the router that announces a FEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Egress {
    /// The router before takes it off.
    Implicit,
    /// Label 0.
    Explicit,
    /// A label of its own, looked up there.
    Label,
}

/// How one router works, and how it says so.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) vrf_words: VrfWords,
    pub(super) announces: Announces,
    /// Branches name their interface.
    pub(super) names_interfaces: bool,
    /// Branches name the router behind them.
    pub(super) names_neighbours: bool,
    /// ILM entries name no FEC.
    pub(super) is_nameless: bool,
    /// Service routes are looked up again for their tunnel (the draft's service entries).
    pub(super) looks_again: bool,
    /// Labels of VRFs: one for each, or one per prefix.
    pub(super) labels_per_prefix: bool,
    /// The label of a whole VRF is told as a second lookup, not as the way out.
    pub(super) tells_second_lookup: bool,
    /// Taking the last label off is told as `pop`, not as a swap to implicit null.
    pub(super) tells_pop: bool,
    pub(super) egress: Egress,
    /// It has routes to the prefixes of others (not in a core that routes by label alone).
    pub(super) has_routes: bool,
    /// Backups are computed and told.
    pub(super) has_backups: bool,
}

/// A VRF of the network: the customer, wherever it is.
#[derive(Clone, Debug)]
pub(super) struct Vrf {
    pub(super) name: String,
    pub(super) sites: Vec<Site>,
}

/// A VRF on one router.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) router: Router,
    /// Its table's number there.
    pub(super) table: u32,
    /// Its route distinguisher there.
    pub(super) rd: u32,
    /// Prefixes that are connected.
    pub(super) prefixes: Vec<IpNet>,
}

/// What is inside of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payload {
    /// A packet of the global table.
    Ip { to: IpNet, from: Option<IpNet> },
    /// A packet of a VRF, and the site that it was sent to, where its FEC names one.
    Vpn { vrf: usize, to: Option<IpNet>, site: Option<Router> },
    /// A packet of a tunnel or tree, whatever is in it.
    Lsp(u32),
    /// Nobody says what.
    Bare,
}

/// Where a packet is handed out of MPLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    /// A connected prefix of the global table.
    Connected(IpNet),
    /// A VRF of this router, or one prefix of it.
    Vrf { vrf: usize, prefix: Option<IpNet> },
    /// The end of a tunnel or tree.
    Lsp(u32),
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Out {
    /// Over a link, by its place.
    Wire(usize),
    /// The label now on top, or the packet that is inside, is looked up again.
    Again,
    /// Into the tunnel to this router; the label now on top is for that one.
    Tunnel(Router),
    /// Out of MPLS, here.
    Here(Service),
    /// Into something that is not MPLS, or to somebody who is no router of the network.
    Beyond,
}

/// Which labels a branch takes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Takes {
    Nothing,
    Top,
    All,
}

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hop {
    pub(super) takes: Takes,
    /// Labels that are put on, outermost first.
    pub(super) labels: Vec<u32>,
    pub(super) out: Out,
    pub(super) is_backup: bool,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Discard,
    Forward(Vec<Hop>),
}

/// Where a label is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// A label table; 0 = the platform's.
    Table(u32),
    /// Labels that come from this router.
    From(Router),
}

/// What packets an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matches {
    /// Unlabelled packets of the global table.
    Route { prefix: IpNet, from: Option<IpNet> },
    /// Unlabelled packets of a VRF; `site`: those that are meant for this one.
    VrfRoute { vrf: usize, prefix: Option<IpNet>, site: Option<Router> },
    /// Packets for a tunnel or tree, at its head.
    Head(u32),
    /// Labelled packets.
    Label { label: u32, space: Space, inside: Payload },
    /// Packets that have just got this label, for the tunnel to this router.
    Tunnel { label: u32, to: Router },
}

/// One entry: what it does, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) matches: Matches,
    pub(super) action: Action,
    /// Its event time says nothing.
    pub(super) mapping: Mapping,
}

/// All entries of one router.
pub(super) type Table = BTreeMap<Key, Rc<Entry>>;

/// The network.
pub(super) struct Truth {
    pub(super) ids: Vec<RouterId>,
    pub(super) habits: Vec<Habits>,
    pub(super) links: Vec<Link>,
    pub(super) vrfs: Vec<Vrf>,
    /// Connected prefixes of the global table.
    pub(super) prefixes: Vec<(Router, IpNet)>,
    /// Routes that drop what they match.
    pub(super) discards: Vec<(Router, IpNet)>,
    /// Routes by source: (where, to, from, who has it connected).
    pub(super) by_source: Vec<(Router, IpNet, IpNet, Router)>,
    /// Routes that leave MPLS in another encapsulation.
    pub(super) encapsulated: Vec<(Router, IpNet, Encapsulation)>,
    /// Trees: (number, root, leaves).
    pub(super) trees: Vec<(u32, Router, Vec<Router>)>,
    /// Static label entries of tables beside the platform's: (router, table, label, towards).
    pub(super) carriers: Vec<(Router, u32, u32, Router)>,
    /// Labels that heads put below the tunnel's.
    pub(super) below: Vec<Vec<u32>>,
    /// Labels given so far, by router and what they are for.
    given: BTreeMap<(Router, LabelFor), u32>,
    next_label: Vec<u32>,
}

/// What a router gives a label for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LabelFor {
    Router(Router),
    Vrf(usize),
    VrfPrefix(usize, IpNet),
    Tree(u32),
}

/// A prefix of text that is one.
pub(super) fn prefix(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

impl Truth {
    /// The label that a router has given for something; given when it is first asked for.
    pub(super) fn label(&mut self, router: Router, what: LabelFor) -> u32 {
        let next = &mut self.next_label[router];
        *self.given.entry((router, what)).or_insert_with(|| {
            *next += 1;
            *next
        })
    }

    /// A router gives some of its labels anew; old numbers may be used again for something else.
    pub(super) fn give_anew(&mut self, router: Router, chance: &mut ChaCha8Rng) {
        let mut mine: Vec<(Router, LabelFor)> =
            self.given.keys().filter(|key| key.0 == router).copied().collect();
        if mine.len() < 2 {
            return;
        }
        let (first, second) =
            (chance.random_range(0..mine.len()), chance.random_range(0..mine.len()));
        let (first, second) = (mine.swap_remove(first), mine[second.min(mine.len() - 1)]);
        if chance.random_bool(0.5) {
            // Two of them change places: whoever is not told soon sends packets the wrong way.
            let (one, other) = (self.given[&first], self.given[&second]);
            self.given.insert(first, other);
            self.given.insert(second, one);
        } else {
            self.given.remove(&first);
        }
    }

    /// Every address that is the router's own.
    pub(super) fn owns(&self, router: Router, address: IpAddr) -> bool {
        let mut ends = self.links.iter().flat_map(|link| &link.ends);
        self.ids[router].0 == address
            || ends.any(|end| end.router == router && end.address == Some(address))
    }

    /// What the router's hello says of its interfaces.
    pub(super) fn interfaces(&self, router: Router) -> Vec<Interface> {
        let announces = self.habits[router].announces;
        if announces == Announces::Nothing {
            return Vec::new();
        }
        let mine =
            self.links.iter().filter(|link| link.ends.iter().any(|end| end.router == router));
        let said = mine.filter_map(|link| {
            let (own, other) = (link.end_of(router), link.end_beyond(router));
            // Without a word it is the platform's.
            let table = Some(own.label_table).filter(|table| *table != 0);
            if announces == Announces::Addresses {
                let address = own.address?;
                return Some(Interface { table, ..Interface::of_address(address) });
            }
            let neighbour = announces == Announces::Neighbours;
            Some(Interface {
                name: own.name.clone().into(),
                address: own.address,
                neighbour: neighbour.then(|| self.ids[other.router]),
                table,
            })
        });
        said.collect()
    }

    /// The site of a VRF on a router.
    pub(super) fn site(&self, vrf: usize, router: Router) -> Option<&Site> {
        self.vrfs[vrf].sites.iter().find(|site| site.router == router)
    }

    /// Next hops of every router towards every other, over links that are up.
    pub(super) fn next_links(&self) -> Vec<Vec<Vec<usize>>> {
        let count = self.ids.len();
        (0..count).map(|from| self.towards_all(from, count)).collect()
    }

    fn towards_all(&self, from: Router, count: usize) -> Vec<Vec<usize>> {
        (0..count)
            .map(|to| {
                let costs = self.costs_to(to);
                let Some(best) = costs[from].filter(|_| from != to) else { return Vec::new() };
                let is_shortest = |link: &Link| {
                    let is_mine = link.ends.iter().any(|end| end.router == from);
                    let beyond = link.end_beyond(from).router;
                    link.is_up && is_mine && costs[beyond].is_some_and(|it| it + link.cost == best)
                };
                (0..self.links.len()).filter(|link| is_shortest(&self.links[*link])).collect()
            })
            .collect()
    }

    fn costs_to(&self, to: Router) -> Vec<Option<u32>> {
        let mut costs: Vec<Option<u32>> = vec![None; self.ids.len()];
        costs[to] = Some(0);
        for _ in 0..self.ids.len() {
            for link in self.links.iter().filter(|link| link.is_up) {
                for (near, far) in [(0, 1), (1, 0)] {
                    let (near, far) = (link.ends[near].router, link.ends[far].router);
                    let over = costs[near].map(|cost| cost + link.cost);
                    if let Some(over) = over
                        && costs[far].is_none_or(|cost| cost > over)
                    {
                        costs[far] = Some(over);
                    }
                }
            }
        }
        costs
    }

    /// The router's word for one prefix of a VRF, or all of it, at `egress`.
    pub(super) fn vrf_fec(
        &self,
        router: Router,
        vrf: usize,
        egress: Router,
        prefix: Option<IpNet>,
    ) -> Fec {
        let site = self.site(vrf, router).expect("it has the VRF");
        let far = self.site(vrf, egress).expect("it has the VRF");
        match self.habits[router].vrf_words {
            VrfWords::Distinguisher => Fec::Vrf {
                loopback: self.ids[egress].0,
                rd: format!("65000:{}", far.rd).parse().expect("a route distinguisher"),
                prefix,
            },
            VrfWords::Name => Fec::VrfName {
                name: storage::mapping::Name::new(&self.vrfs[vrf].name).expect("a short name"),
                prefix,
            },
            VrfWords::Table => Fec::Ip {
                prefix: prefix.unwrap_or_else(|| "0.0.0.0/0".parse().expect("a prefix")),
                table: site.table,
            },
        }
    }
}

/// An address of a link that nobody else has, made of a hardware address.
fn of_hardware(number: u32) -> IpAddr {
    let [_, a, b, c] = number.to_be_bytes();
    let part = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0200, part(a, 0xff), part(0xfe, b), part(c, 1)).into()
}

/// The network of a seed.
pub(super) fn generate(chance: &mut ChaCha8Rng, plain: bool) -> Truth {
    let count = chance.random_range(4..=12);
    let ids = (0..count)
        .map(|index| match chance.random_bool(0.1) {
            true => RouterId(format!("2001:db8::{}", index + 1).parse().expect("an address")),
            false => RouterId([192, 0, 2, index as u8 + 1].into()),
        })
        .collect();
    let habits = (0..count).map(|_| generate_habits(chance, plain)).collect();
    let links = generate_links(count, chance);
    let mut truth = Truth {
        ids,
        habits,
        links,
        vrfs: Vec::new(),
        prefixes: Vec::new(),
        discards: Vec::new(),
        by_source: Vec::new(),
        encapsulated: Vec::new(),
        trees: Vec::new(),
        carriers: Vec::new(),
        below: vec![Vec::new(); count],
        given: BTreeMap::new(),
        next_label: (0..count).map(|_| chance.random_range(16..24)).collect(),
    };
    generate_vrfs(&mut truth, chance);
    generate_routes(&mut truth, chance);
    generate_rare(&mut truth, chance);
    truth
}

/// `plain`: a network in which everybody tells everything.
fn generate_habits(chance: &mut ChaCha8Rng, plain: bool) -> Habits {
    let mut flag = |share: f64| !plain && chance.random_bool(share);
    let (names_interfaces, names_neighbours) = (plain || flag(0.5), flag(0.2));
    let (is_nameless, looks_again) = (flag(0.2), flag(0.3));
    let (labels_per_prefix, tells_second_lookup) = (flag(0.3), flag(0.2));
    let (tells_pop, has_backups) = (flag(0.3), flag(0.3));
    let has_routes = !flag(0.3);
    let vrf_words = match (plain, chance.random_range(0..4)) {
        (true, _) | (_, 0 | 1) => VrfWords::Distinguisher,
        (_, 2) => VrfWords::Name,
        _ => VrfWords::Table,
    };
    let announces = match (plain, chance.random_range(0..6)) {
        (true, _) | (_, 0..3) => Announces::Neighbours,
        (_, 3) => Announces::Names,
        (_, 4) => Announces::Addresses,
        _ => Announces::Nothing,
    };
    let egress = match chance.random_range(0..4) {
        0 | 1 => Egress::Implicit,
        2 => Egress::Explicit,
        _ => Egress::Label,
    };
    Habits {
        vrf_words,
        announces,
        names_interfaces,
        names_neighbours,
        is_nameless,
        looks_again,
        labels_per_prefix,
        tells_second_lookup,
        tells_pop,
        egress,
        has_routes,
        has_backups,
    }
}

fn generate_links(count: usize, chance: &mut ChaCha8Rng) -> Vec<Link> {
    let mut pairs: Vec<(usize, usize)> =
        (1..count).map(|index| (chance.random_range(0..index), index)).collect();
    for _ in 0..chance.random_range(0..count) {
        let (one, other) = (chance.random_range(0..count), chance.random_range(0..count));
        if one != other {
            pairs.push((one, other));
        }
    }
    let mut interfaces = vec![0; count];
    let mut end = |router: usize, address: Option<IpAddr>, chance: &mut ChaCha8Rng| {
        interfaces[router] += 1;
        let name = format!("eth{}", interfaces[router]);
        let label_table = if chance.random_bool(0.04) { 7 } else { 0 };
        End { router, name, address, label_table }
    };
    let build = |(number, (one, other)): (usize, (usize, usize))| {
        let low = number as u8;
        let v4 = |last: u8| IpAddr::from([10, 200, low, last]);
        let local = |last: u16| IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
        let addresses = match chance.random_range(0..10) {
            0..5 => [Some(v4(1)), Some(v4(2))],
            5 => [Some(local(1)), Some(local(2))],
            6 => [Some(of_hardware(2 * number as u32)), Some(of_hardware(2 * number as u32 + 1))],
            7 => [Some(IpAddr::from([169, 254, 0, 1])), Some(IpAddr::from([169, 254, 0, 2]))],
            _ => [None, None],
        };
        let ends = [end(one, addresses[0], chance), end(other, addresses[1], chance)];
        let cost = chance.random_range(1..4);
        let has_labels = chance.random_bool(0.93);
        Link { ends, cost, has_labels, is_up: true }
    };
    pairs.into_iter().enumerate().map(build).collect()
}

fn generate_vrfs(truth: &mut Truth, chance: &mut ChaCha8Rng) {
    let pool = ["10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "10.3.3.3/32", "0.0.0.0/0"];
    for vrf in 0..chance.random_range(0..4) {
        let mut sites: Vec<Site> = Vec::new();
        for router in 0..truth.ids.len() {
            if !chance.random_bool(0.4) {
                continue;
            }
            let prefixes =
                pool.iter().filter(|_| chance.random_bool(0.3)).map(|text| prefix(text)).collect();
            // The numbers of tables are each router's own, and so they meet.
            let taken = |table: u32| {
                truth.vrfs.iter().any(|vrf: &Vrf| {
                    vrf.sites.iter().any(|site| site.router == router && site.table == table)
                })
            };
            let free: Vec<u32> = (1001..1010).filter(|table| !taken(*table)).collect();
            let table = free[chance.random_range(0..free.len().min(3))];
            sites.push(Site { router, table, rd: 100 + vrf as u32, prefixes });
        }
        let name = format!("customer-{vrf}");
        truth.vrfs.push(Vrf { name, sites });
    }
}

fn generate_routes(truth: &mut Truth, chance: &mut ChaCha8Rng) {
    let count = truth.ids.len();
    for router in 0..count {
        if chance.random_bool(0.5) {
            truth.prefixes.push((router, prefix(&format!("10.{}.0.0/16", 100 + router))));
        }
        if chance.random_bool(0.2) {
            truth.prefixes.push((router, prefix(&format!("10.{}.1.0/24", 100 + router))));
        }
        if chance.random_bool(0.15) {
            truth.prefixes.push((router, prefix("172.16.0.0/24")));
        }
    }
    if chance.random_bool(0.4) {
        truth.prefixes.push((chance.random_range(0..count), prefix("0.0.0.0/0")));
    }
    for _ in 0..chance.random_range(0..3) {
        let (router, other) = (chance.random_range(0..count), chance.random_range(0..count));
        let covered = prefix(&format!("10.{}.1.0/24", 100 + other));
        if !truth.prefixes.contains(&(router, covered)) {
            truth.discards.push((router, covered));
        }
    }
}

fn generate_rare(truth: &mut Truth, chance: &mut ChaCha8Rng) {
    let count = truth.ids.len();
    if chance.random_bool(0.3) {
        let to = prefix(&format!("10.{}.0.0/16", 100 + chance.random_range(0..count)));
        let (router, owner) = (chance.random_range(0..count), chance.random_range(0..count));
        truth.by_source.push((router, to, prefix("198.51.100.0/24"), owner));
    }
    if chance.random_bool(0.3) {
        let to = prefix(&format!("10.{}.7.0/24", 100 + chance.random_range(0..count)));
        let outer = Encapsulation::ALL[chance.random_range(0..Encapsulation::ALL.len())];
        truth.encapsulated.push((chance.random_range(0..count), to, outer));
    }
    for tree in 0..chance.random_range(0..2) {
        let root = chance.random_range(0..count);
        let leaves = (0..count).filter(|leaf| *leaf != root && chance.random_bool(0.3)).collect();
        truth.trees.push((tree, root, leaves));
    }
    for _ in 0..chance.random_range(0..3) {
        let (router, towards) = (chance.random_range(0..count), chance.random_range(0..count));
        if router != towards {
            let table = [7, 9][chance.random_range(0..2)];
            truth.carriers.push((router, table, chance.random_range(17..40), towards));
        }
    }
    for below in &mut truth.below {
        if chance.random_bool(0.1) {
            let kinds: [&[u32]; 4] = [&[7, 98_765], &[1], &[0], &[7, 98_765, 0]];
            *below = kinds[chance.random_range(0..kinds.len())].to_vec();
        }
    }
}
