//! Branches: where an entry sends a packet, and what the packet looks like behind it.
//!
//! In:   values that the wire decoders and the log reader build.
//! Out:  `Nhlfe` (RFC 3031 section 3.10), comparable and printable.
//! Law:  what is rare of a branch takes no room in those that have none of it.
//! Not:  which router is behind a branch (`history::walk`).

use std::fmt;
use std::net::IpAddr;

use smallvec::SmallVec;

use super::{Label, Name, RouterId};

/// Labels of one branch, outermost first; empty = no label.
pub type LabelStack = SmallVec<[Label; 3]>;

/// The most labels that one branch may carry.
pub const STACK_LABELS_MAX: usize = 16;
/// The most branches that one mapping may carry.
pub const BRANCHES_MAX: usize = 256;

/// Where a branch sends the packet (draft section 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// To the router that owns this address.
    Address(IpAddr),
    /// Out of the MPLS network, to what the FEC names.
    Fec,
    /// The label now on top is looked up again, in this router.
    Recursive,
    /// Out of the interface of the branch's link, to whoever is behind it: no address is said.
    Interface,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Address(address) => address.fmt(f),
            NextHop::Fec => f.write_str("fec"),
            NextHop::Recursive => f.write_str("recursive"),
            NextHop::Interface => f.write_str("interface"),
        }
    }
}

/// When a branch carries traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// As long as the entry stands.
    #[default]
    Primary,
    /// Only when the primary branches have failed: fast reroute, loop-free alternates (RFC 5286,
    /// RFC 4090), BGP PIC.
    Backup,
}

impl Role {
    /// The word on the wire and in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Backup => "backup",
        }
    }
}

/// An encapsulation other than MPLS that a packet leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encapsulation {
    /// Segment routing over IPv6 (RFC 8986).
    Srv6,
    /// VXLAN (RFC 7348).
    Vxlan,
    /// GRE (RFC 2784).
    Gre,
    /// IP in IP (RFC 2003).
    Ip,
    /// Another one, or one that the sender does not name.
    Other,
}

impl Encapsulation {
    /// Every encapsulation; the index is its code on disk.
    pub const ALL: [Encapsulation; 5] = [
        Encapsulation::Srv6,
        Encapsulation::Vxlan,
        Encapsulation::Gre,
        Encapsulation::Ip,
        Encapsulation::Other,
    ];

    /// The word on the wire and in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Encapsulation::Srv6 => "srv6",
            Encapsulation::Vxlan => "vxlan",
            Encapsulation::Gre => "gre",
            Encapsulation::Ip => "ip",
            Encapsulation::Other => "other",
        }
    }
}

/// What is said of a branch's link beyond the address of the next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The interface that the packet leaves by.
    pub interface: Option<Name>,
    /// The router behind the link, where the sender knows it.
    pub neighbour: Option<RouterId>,
    /// The encapsulation that the packet gets: it leaves MPLS into something not followed here.
    pub encapsulation: Option<Encapsulation>,
}

/// One branch of an operation (RFC 3031 section 3.10, Next Hop Label Forwarding Entry).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nhlfe {
    /// Labels that the packet leaves with in place of the old top, outermost first.
    pub stack: LabelStack,
    /// Where it goes.
    pub next_hop: NextHop,
    /// Share of the traffic among the branches of an ECMP set; `None` = equal shares.
    pub weight: Option<u32>,
    /// When it carries traffic.
    pub role: Role,
    /// Whether the whole stack goes here while other branches keep theirs: the operation `untag`
    /// of a single branch ("Unlabelled" of IOS XR). Never set when the operation is `untag`.
    pub untags: bool,
    /// What is said of the link, if anything: never one that says nothing (`with_link`).
    pub link: Option<Box<Link>>,
}

impl Nhlfe {
    /// A primary branch of which no more is said.
    #[inline]
    pub const fn new(stack: LabelStack, next_hop: NextHop) -> Nhlfe {
        Nhlfe { stack, next_hop, weight: None, role: Role::Primary, untags: false, link: None }
    }

    /// The same with a link.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Nhlfe {
        self.link = (link != Link::default()).then(|| Box::new(link));
        self
    }

    /// The interface that the packet leaves by, where it is said.
    pub fn interface(&self) -> Option<Name> {
        self.link.as_ref().and_then(|link| link.interface)
    }

    /// The router behind the link, where it is said.
    pub fn neighbour(&self) -> Option<RouterId> {
        self.link.as_ref().and_then(|link| link.neighbour)
    }

    /// The encapsulation that is not MPLS, if there is one.
    pub fn encapsulation(&self) -> Option<Encapsulation> {
        self.link.as_ref().and_then(|link| link.encapsulation)
    }

    /// Whether it says nothing but labels and a next hop.
    #[inline]
    pub fn is_bare(&self) -> bool {
        self.weight.is_none() && !self.is_extended()
    }

    /// Whether it says more than labels, next hop and weight.
    #[inline]
    pub fn is_extended(&self) -> bool {
        self.role != Role::Primary
            || self.untags
            || self.link.is_some()
            || self.next_hop == NextHop::Interface
    }

    /// Memory that it takes beyond its own size, in bytes.
    pub(super) fn beyond_bytes(&self) -> usize {
        let stack = if self.stack.spilled() { self.stack.capacity() } else { 0 };
        let link = if self.link.is_some() { size_of::<Link>() } else { 0 };
        stack * size_of::<Label>() + link
    }
}

impl fmt::Display for Nhlfe {
    /// `24/144@10.0.0.2`, weight behind `*`: `24@10.0.0.2*3`; `-` for an empty stack, `untag` when
    /// all labels go; the interface behind `%`: `24@10.0.0.2%eth0`; then neighbour, encapsulation
    /// and `backup`, each behind a blank.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.untags, self.stack.is_empty()) {
            (true, _) => f.write_str("untag")?,
            (false, true) => f.write_str("-")?,
            (false, false) => {}
        }
        for (index, label) in self.stack.iter().enumerate() {
            let slash = if index == 0 { "" } else { "/" };
            write!(f, "{slash}{label}")?;
        }
        f.write_str("@")?;
        let interface = self.interface();
        if self.next_hop != NextHop::Interface || interface.is_none() {
            self.next_hop.fmt(f)?;
        }
        interface.map_or(Ok(()), |interface| write!(f, "%{interface}"))?;
        self.weight.map_or(Ok(()), |weight| write!(f, "*{weight}"))?;
        self.neighbour().map_or(Ok(()), |neighbour| write!(f, " to {neighbour}"))?;
        self.encapsulation().map_or(Ok(()), |outer| write!(f, " in {}", outer.name()))?;
        if self.role == Role::Backup { f.write_str(" (backup)") } else { Ok(()) }
    }
}

/// Branches of one mapping, sorted: their order says nothing in a push, a swap or a replicate.
pub type Branches = SmallVec<[Nhlfe; 2]>;
