//! The label mapping as data: FEC, ingress label, operation, branches, and the key of an entry.
//!
//! In:   values that the wire decoders and the log reader build.
//! Out:  `Mapping` and its `Key`, comparable and printable; the words are those of RFC 3031.
//! Law:  two mappings that mean the same compare equal: prefixes are masked, branches are sorted.
//! Not:  what a mapping changes (`table`), how it is written to disk (`log`) or sent (engine).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use smallvec::SmallVec;

use crate::time::Micros;

/// Identifies a monitored router, whatever address its connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub IpAddr);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RouterId {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(RouterId)
    }
}

/// A label value, 0 to 1,048,575 (20 bits, RFC 3032 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u32);

impl Label {
    /// The largest label: 20 bits.
    pub const MAX: u32 = (1 << 20) - 1;
    /// Implicit null (RFC 3032 section 2.1): never on the wire; a swap or push of 3 leaves nothing.
    pub const IMPLICIT_NULL: Label = Label(3);
    /// Labels 0 to 15 are reserved (RFC 3032 section 2.1): accepted, and flagged.
    pub const RESERVED_MAX: u32 = 15;

    /// A label, or `None` above `Label::MAX`.
    pub const fn new(value: u32) -> Option<Label> {
        if value <= Self::MAX { Some(Label(value)) } else { None }
    }

    /// The label's number.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Whether the label is one of the reserved 0 to 15.
    pub const fn is_reserved(self) -> bool {
        self.0 <= Self::RESERVED_MAX
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an ingress label was received (draft section 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// No label: the packet enters the MPLS network here. Only with the ingress label -1.
    Untagged,
    /// The packet has just received this inner label at this router.
    Service,
    /// A label of the router's per-platform label space.
    Platform,
    /// A label of a per-interface label space; the router upstream of that interface.
    Interface(RouterId),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Untagged => f.write_str("untagged"),
            Origin::Service => f.write_str("service"),
            Origin::Platform => f.write_str("platform"),
            Origin::Interface(router) => router.fmt(f),
        }
    }
}

/// A route distinguisher (RFC 4364 section 4.2), as its eight bytes in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDistinguisher(pub [u8; 8]);

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [type_high, type_low, a, b, c, d, e, g] = self.0;
        match u16::from_be_bytes([type_high, type_low]) {
            0 => write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
            1 => write!(f, "{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, g])),
            2 => write!(f, "{}L:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g])),
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for RouteDistinguisher {
    type Err = ModelParseError;

    /// Accepts `65000:2` (type 0), `192.0.2.1:2` (type 1), `4200000000:2` or `65000L:2` (type 2),
    /// and `0x` with sixteen hexadecimal digits (any type).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_route_distinguisher(text).ok_or_else(|| ModelParseError {
            what: "route distinguisher",
            text: text.to_owned(),
            expected: "65000:2, 192.0.2.1:2, 4200000000:2 or 0x and 16 digits",
        })
    }
}

fn parse_route_distinguisher(text: &str) -> Option<RouteDistinguisher> {
    if let Some(digits) = text.strip_prefix("0x") {
        let value = (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())??;
        return Some(RouteDistinguisher(value.to_be_bytes()));
    }
    let (administrator, number) = text.split_once(':')?;
    let number: u32 = number.parse().ok()?;
    if let Ok(address) = administrator.parse::<std::net::Ipv4Addr>() {
        let number = u16::try_from(number).ok()?;
        return Some(rd_of(1, address.octets(), number));
    }
    if let Some(wide) = administrator.strip_suffix('L') {
        let number = u16::try_from(number).ok()?;
        return Some(rd_of(2, wide.parse::<u32>().ok()?.to_be_bytes(), number));
    }
    let administrator: u32 = administrator.parse().ok()?;
    if let Ok(short) = u16::try_from(administrator) {
        let [a, b] = short.to_be_bytes();
        let [c, d, e, g] = number.to_be_bytes();
        return Some(RouteDistinguisher([0, 0, a, b, c, d, e, g]));
    }
    Some(rd_of(2, administrator.to_be_bytes(), u16::try_from(number).ok()?))
}

fn rd_of(kind: u8, administrator: [u8; 4], number: u16) -> RouteDistinguisher {
    let [a, b, c, d] = administrator;
    let [e, g] = number.to_be_bytes();
    RouteDistinguisher([0, kind, a, b, c, d, e, g])
}

/// Forwarding equivalence class (RFC 3031 section 2.1; draft section 3.2.1). Every part is
/// identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fec {
    /// An IP prefix. `table` 0 is the global table; others are the router's own numbers.
    Ip {
        /// Masked prefix.
        prefix: IpNet,
        /// Routing table, 0 = global.
        table: u32,
    },
    /// A VRF of an egress PE, or one prefix of it (RFC 4364).
    Vrf {
        /// Loopback of the egress PE.
        loopback: IpAddr,
        /// Route distinguisher of the VRF.
        rd: RouteDistinguisher,
        /// The customer's prefix, when labels are given per prefix.
        prefix: Option<IpNet>,
    },
    /// A VPLS instance of a PE (RFC 4664).
    Vsi {
        /// Loopback of the egress PE.
        loopback: IpAddr,
        /// Pseudowire id.
        pw_id: u32,
    },
    /// A VPWS attachment circuit of a PE (RFC 4664).
    Ac {
        /// Loopback of the egress PE.
        loopback: IpAddr,
        /// Pseudowire id.
        pw_id: u32,
    },
    /// The router cannot tell (explicitly routed or manual LSPs, entries learnt over FPM).
    Unknown,
}

impl Fec {
    /// The same FEC with every prefix masked, so that equal FECs compare equal.
    pub fn masked(self) -> Fec {
        match self {
            Fec::Ip { prefix, table } => Fec::Ip { prefix: prefix.trunc(), table },
            Fec::Vrf { loopback, rd, prefix } => {
                Fec::Vrf { loopback, rd, prefix: prefix.map(|prefix| prefix.trunc()) }
            }
            Fec::Vsi { .. } | Fec::Ac { .. } | Fec::Unknown => self,
        }
    }

    /// The egress PE's loopback of a service FEC; `None` for `Ip` and `Unknown`.
    pub fn loopback(&self) -> Option<IpAddr> {
        match *self {
            Fec::Vrf { loopback, .. } | Fec::Vsi { loopback, .. } | Fec::Ac { loopback, .. } => {
                Some(loopback)
            }
            Fec::Ip { .. } | Fec::Unknown => None,
        }
    }
}

impl fmt::Display for Fec {
    /// As written on the command line: `ip:10.0.0.3/32`, `ip:10.0.0.0/8,254` (table),
    /// `vrf:192.0.2.3,65000:2[,prefix]`, `vsi:192.0.2.3,17`, `ac:192.0.2.3,17`, `unknown`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fec::Ip { prefix, table: 0 } => write!(f, "ip:{prefix}"),
            Fec::Ip { prefix, table } => write!(f, "ip:{prefix},{table}"),
            Fec::Vrf { loopback, rd, prefix: None } => write!(f, "vrf:{loopback},{rd}"),
            Fec::Vrf { loopback, rd, prefix: Some(prefix) } => {
                write!(f, "vrf:{loopback},{rd},{prefix}")
            }
            Fec::Vsi { loopback, pw_id } => write!(f, "vsi:{loopback},{pw_id}"),
            Fec::Ac { loopback, pw_id } => write!(f, "ac:{loopback},{pw_id}"),
            Fec::Unknown => f.write_str("unknown"),
        }
    }
}

/// Text that is no value of the model: who wrote it reads what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}`: expected {expected}")]
pub struct ModelParseError {
    /// What the text should have been.
    pub what: &'static str,
    /// What was found.
    pub text: String,
    /// Accepted spellings.
    pub expected: &'static str,
}

impl FromStr for Fec {
    type Err = ModelParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_fec(text).map(Fec::masked).ok_or_else(|| ModelParseError {
            what: "FEC",
            text: text.to_owned(),
            expected: "ip:10.0.0.3/32, vrf:192.0.2.3,65000:2[,prefix], vsi:192.0.2.3,17, \
                       ac:192.0.2.3,17 or unknown",
        })
    }
}

/// `10.0.0.0/8`, or an address alone for a host prefix.
pub fn parse_prefix(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn parse_fec(text: &str) -> Option<Fec> {
    if text == "unknown" {
        return Some(Fec::Unknown);
    }
    let (kind, rest) = text.split_once(':')?;
    let (first, second) = match rest.split_once(',') {
        Some((first, second)) => (first, Some(second)),
        None => (rest, None),
    };
    match kind {
        "ip" => {
            let table = second.map_or(Ok(0), str::parse).ok()?;
            Some(Fec::Ip { prefix: parse_prefix(first)?, table })
        }
        "vrf" => {
            let (rd, prefix) = match second?.split_once(',') {
                Some((rd, prefix)) => (rd, Some(parse_prefix(prefix)?)),
                None => (second?, None),
            };
            Some(Fec::Vrf { loopback: first.parse().ok()?, rd: rd.parse().ok()?, prefix })
        }
        "vsi" => Some(Fec::Vsi { loopback: first.parse().ok()?, pw_id: second?.parse().ok()? }),
        "ac" => Some(Fec::Ac { loopback: first.parse().ok()?, pw_id: second?.parse().ok()? }),
        _ => None,
    }
}

/// How a packet meets the entry: with which label on top, received where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ingress {
    /// `None` is the draft's -1: an FTN entry.
    pub label: Option<Label>,
    /// Where the label comes from; `Untagged` exactly when `label` is `None`.
    pub origin: Origin,
}

impl Ingress {
    /// The ingress of an FTN entry: label -1, origin untagged.
    pub const UNTAGGED: Ingress = Ingress { label: None, origin: Origin::Untagged };

    /// The ingress of an ILM entry of the per-platform label space.
    pub const fn platform(label: Label) -> Ingress {
        Ingress { label: Some(label), origin: Origin::Platform }
    }
}

/// What the router does with a packet that meets the entry (draft section 3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Put labels on.
    Push,
    /// Replace the top label.
    Swap,
    /// Take the top label off.
    Pop,
    /// Copy to every branch (P2MP).
    Replicate,
    /// The entry is withdrawn.
    None,
}

impl Operation {
    /// Every operation, in the order of the draft.
    pub const ALL: [Operation; 5] =
        [Operation::Push, Operation::Swap, Operation::Pop, Operation::Replicate, Operation::None];

    /// The operation's word on the wire and in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Push => "push",
            Operation::Swap => "swap",
            Operation::Pop => "pop",
            Operation::Replicate => "replicate",
            Operation::None => "none",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

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
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Address(address) => address.fmt(f),
            NextHop::Fec => f.write_str("fec"),
            NextHop::Recursive => f.write_str("recursive"),
        }
    }
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
}

impl fmt::Display for Nhlfe {
    /// `24/144@10.0.0.2`, weight behind `*`: `24@10.0.0.2*3`; `-` for an empty stack.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stack.is_empty() {
            f.write_str("-")?;
        }
        for (index, label) in self.stack.iter().enumerate() {
            let slash = if index == 0 { "" } else { "/" };
            write!(f, "{slash}{label}")?;
        }
        write!(f, "@{}", self.next_hop)?;
        self.weight.map_or(Ok(()), |weight| write!(f, "*{weight}"))
    }
}

/// Branches of one mapping, sorted: their order says nothing in a push, a swap or a replicate.
pub type Branches = SmallVec<[Nhlfe; 2]>;

/// Whose clock gave the event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeSource {
    /// The router wrote it.
    Router,
    /// The router writes none (FPM): the time at which the collector read the mapping.
    Collector,
}

impl TimeSource {
    /// The word in every output.
    pub const fn name(self) -> &'static str {
        match self {
            TimeSource::Router => "router",
            TimeSource::Collector => "collector",
        }
    }
}

/// One label mapping, as a router says it. The router itself is named by what carries the mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What traffic the entry is for.
    pub fec: Fec,
    /// How a packet meets the entry.
    pub ingress: Ingress,
    /// What is done with it.
    pub operation: Operation,
    /// Towards where; sorted (see `sort_branches`); empty when withdrawn.
    pub branches: Branches,
    /// When the mapping became active.
    pub event_time: Micros,
    /// By whose clock.
    pub time_source: TimeSource,
    /// Options and unknown elements, as the XML they came in; kept, not understood.
    pub extra: Option<Box<str>>,
}

impl Mapping {
    /// What identifies the entry in its router's table (DESIGN: the key).
    pub fn key(&self) -> Key {
        match self.ingress {
            Ingress { label: None, .. } => Key::Ftn(self.fec),
            Ingress { label: Some(label), origin: Origin::Service } => {
                Key::Service(label, self.fec)
            }
            Ingress { label: Some(label), origin } => Key::Ilm(label, origin),
        }
    }

    /// Memory that it takes beyond its own size, in bytes: branches, stacks and options that are
    /// longer than usual. O(branches).
    pub fn beyond_bytes(&self) -> usize {
        let of_stack = |branch: &Nhlfe| match branch.stack.spilled() {
            true => branch.stack.capacity() * size_of::<Label>(),
            false => 0,
        };
        let list = if self.branches.spilled() { self.branches.capacity() } else { 0 };
        let stacks: usize = self.branches.iter().map(of_stack).sum();
        list * size_of::<Nhlfe>() + stacks + self.extra.as_ref().map_or(0, |extra| extra.len())
    }

    /// Puts the branches in their one order, so that equal sets compare equal.
    pub fn sort_branches(&mut self) {
        self.branches.sort_unstable();
    }

    /// Whether any ingress or egress label, implicit null in a stack apart, is reserved (0 to 15).
    pub fn uses_reserved_label(&self) -> bool {
        let in_stack = |label: &Label| label.is_reserved() && *label != Label::IMPLICIT_NULL;
        self.ingress.label.is_some_and(Label::is_reserved)
            || self.branches.iter().any(|branch| branch.stack.iter().any(in_stack))
    }
}

/// What identifies an entry of one router's table.
///
/// Service entries carry the FEC too, because the egress PEs choose VPN labels and may choose
/// alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// FEC-to-NHLFE entry: one per FEC.
    Ftn(Fec),
    /// Incoming label map entry: one per label and label space.
    Ilm(Label, Origin),
    /// Outer push for a packet that has just received this inner label: one per label and FEC.
    Service(Label, Fec),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Ftn(fec) => write!(f, "ftn {fec}"),
            Key::Ilm(label, origin) => write!(f, "ilm {label} {origin}"),
            Key::Service(label, fec) => write!(f, "service {label} {fec}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use smallvec::smallvec;

    use super::*;

    /// An ILM entry of no known FEC, as the tests of every other module want one.
    pub(crate) fn swap(label: u32, out: u32, event_us: i64) -> Mapping {
        Mapping {
            fec: Fec::Unknown,
            ingress: Ingress::platform(Label::new(label).unwrap()),
            operation: Operation::Swap,
            branches: smallvec![Nhlfe {
                stack: smallvec![Label::new(out).unwrap()],
                next_hop: NextHop::Address("192.0.2.2".parse().unwrap()),
                weight: None,
            }],
            event_time: Micros(event_us),
            time_source: TimeSource::Router,
            extra: None,
        }
    }

    #[test]
    fn a_route_distinguisher_survives_its_text() {
        for text in ["65000:2", "192.0.2.1:7", "4200000000:9", "0x00030102030405ff"] {
            let rd: RouteDistinguisher = text.parse().unwrap();
            assert_eq!(rd.to_string().parse(), Ok(rd), "{text}");
        }
        assert_eq!("65000:2".parse(), Ok(RouteDistinguisher([0, 0, 0xfd, 0xe8, 0, 0, 0, 2])));
        for bad in ["", "1", "1:", ":1", "192.0.2.1:65536", "0x12", "a:b"] {
            assert!(bad.parse::<RouteDistinguisher>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fec_survives_its_text() {
        let texts = [
            "ip:10.0.0.3/32",
            "ip:10.0.0.0/8,254",
            "ip:2001:db8::/32",
            "vrf:192.0.2.3,65000:2",
            "vrf:192.0.2.3,192.0.2.1:2,10.1.0.0/16",
            "vrf:2001:db8::3,65000:2,2001:db8:1::/48",
            "vsi:192.0.2.3,17",
            "ac:192.0.2.3,17",
            "unknown",
        ];
        for text in texts {
            assert_eq!(text.parse::<Fec>().unwrap().to_string(), text);
        }
        assert_eq!("ip:10.1.2.3/8".parse::<Fec>().unwrap().to_string(), "ip:10.0.0.0/8");
        assert!("vrf:192.0.2.3".parse::<Fec>().is_err());
    }

    #[test]
    fn labels_end_at_twenty_bits() {
        assert_eq!(Label::new(1_048_575).map(Label::value), Some(1_048_575));
        assert_eq!(Label::new(1_048_576), None);
    }
}
