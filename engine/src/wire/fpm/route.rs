//! Routes, as messages say them: RTM_NEWROUTE, RTM_DELROUTE.
//!
//! In:   the body of one message.
//! Out:  a `Route`; its branches go to the frame's.
//! Law:  the key is read first: what else of a route no mapping can say is said of that key alone.
//! Not:  what a route means for the label table (`entry`), or which table is the main one
//!       (`tables`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::IpNet;
use storage::mapping::{BRANCHES_MAX, Label};
use storage::row::Cause;

use super::hop::{Hop, HopAttributes, is_dead};
use super::message::{Message, alone};
use super::netlink::{AF_INET, AF_INET6, AF_MPLS, Bytes, Fault};

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NEWDST: u16 = 19;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;

/// `struct rtmsg`: family, destination bits, source bits, TOS, table, protocol, scope, kind, each
/// u8; flags u32.
const HEADER_BYTES: usize = 12;
/// `struct rtnexthop`: length u16, flags u8, weight - 1 u8, interface i32.
const BRANCH_HEADER_BYTES: usize = 8;

// Protocols, where they say that the router is on the prefix itself: zebra writes its connected
// routes as the kernel's; routing protocols and static routes have names of their own.
const PROTOCOL_UNSPECIFIED: u8 = 0;
const PROTOCOL_KERNEL: u8 = 2;

/// `RTM_F_CLONED`: a cached copy of a route, no entry.
const FLAG_CLONED: u32 = 0x200;

/// What identifies an IP route: the key of its FTN entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RouteKey {
    /// Masked.
    pub(super) prefix: IpNet,
    /// As the router numbers its tables; once told, 0 = the main table.
    pub(super) table: u32,
    /// Masked; `None` = any source.
    pub(super) source: Option<IpNet>,
    /// 0 = any type of service.
    pub(super) tos: u8,
}

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// Packets with this label on top.
    Label(Label),
    /// Packets to this prefix.
    Prefix(RouteKey),
}

/// What a route does with its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It sends them on: branches in `Parsed::hops`.
    Forwards(Range<usize>),
    /// It sends them on by this next hop or group.
    ForwardsBy(u32),
    /// It drops them.
    Drops,
    /// They are the router's own.
    Own,
    /// They are broadcast or multicast: no entry of a label table.
    NoEntry,
    /// The route is gone.
    Deleted,
    /// No mapping can say.
    Refused(Fault),
}

/// A route, as far as a label table is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// What for.
    pub(super) destination: Destination,
    /// What becomes of the packets.
    pub(super) fate: Fate,
    /// Whether the router is on the prefix itself, where it names an interface alone.
    pub(super) is_connected: bool,
}

/// Reads one message; `None` = it says nothing about labels. Errors: the frame's.
pub(super) fn read(
    body: Bytes<'_>,
    deleted: bool,
    hops: &mut Vec<Hop>,
) -> Result<Option<Message>, Fault> {
    // A header that is not there is a fault of the frame, whatever the message is about.
    let attributes = body.behind(HEADER_BYTES)?;
    let header = Header::of(body)?;
    if !matches!(header.family, AF_INET | AF_INET6 | AF_MPLS) || header.flags & FLAG_CLONED != 0 {
        return Ok(None);
    }
    let read = Attributes::read(attributes)?;
    let destination = match destination(&header, &read, body) {
        Ok(destination) => destination,
        Err((cause, detail)) => return Ok(Some(Message::Nameless { cause, detail })),
    };
    let first = hops.len();
    let fate = match deleted {
        // zebra leaves the kind of a route that it deletes at 0, and what it consisted of says
        // nothing any more.
        true => Fate::Deleted,
        false => alone(fate(&header, &read, body, hops))?.unwrap_or_else(Fate::Refused),
    };
    if let Fate::Refused(_) = fate {
        hops.truncate(first);
    }
    let is_connected = matches!(header.protocol, PROTOCOL_KERNEL | PROTOCOL_UNSPECIFIED);
    Ok(Some(Message::Route(Route { destination, fate, is_connected })))
}

struct Header {
    family: u8,
    bits: u8,
    source_bits: u8,
    tos: u8,
    table: u8,
    protocol: u8,
    kind: u8,
    flags: u32,
}

impl Header {
    fn of(body: Bytes<'_>) -> Result<Header, Fault> {
        Ok(Header {
            family: body.u8(0)?,
            bits: body.u8(1)?,
            source_bits: body.u8(2)?,
            tos: body.u8(3)?,
            table: body.u8(4)?,
            protocol: body.u8(5)?,
            kind: body.u8(7)?,
            flags: body.u32(8)?,
        })
    }
}

/// The attributes of a route that are about it as a whole.
#[derive(Default)]
struct Attributes<'a> {
    destination: Option<Bytes<'a>>,
    source: Option<Bytes<'a>>,
    table: Option<Bytes<'a>>,
    next_hop: Option<Bytes<'a>>,
    branches: Option<Bytes<'a>>,
    /// All of them.
    all: Option<Bytes<'a>>,
}

impl<'a> Attributes<'a> {
    fn read(attributes: Bytes<'a>) -> Result<Attributes<'a>, Fault> {
        let mut read = Attributes { all: Some(attributes), ..Attributes::default() };
        attributes.each_attribute(|attribute, value| {
            match attribute {
                RTA_DST => read.destination = Some(value),
                RTA_SRC => read.source = Some(value),
                RTA_TABLE => read.table = Some(value),
                RTA_NH_ID => read.next_hop = Some(value),
                RTA_MULTIPATH => read.branches = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        Ok(read)
    }
}

/// What the route is for. Errors: why that cannot be read, in words that name it.
fn destination(
    header: &Header,
    read: &Attributes<'_>,
    body: Bytes<'_>,
) -> Result<Destination, (Cause, Box<str>)> {
    if header.family == AF_MPLS {
        let label = in_label(body, read.destination);
        let nameless = |fault: Fault| (Cause::IngressInvalid, format!("label: {fault}").into());
        return label.map(Destination::Label).map_err(nameless);
    }
    let nameless = |what: &str, value: Option<Bytes<'_>>, bits: u8, fault: &Fault| {
        let address = value.and_then(|value| value.address().ok());
        let address = address.map_or("-".to_owned(), |address| address.to_string());
        (Cause::FecInvalid, format!("{what} {address}/{bits}: {fault}").into())
    };
    let prefix = prefix(body, header.family, header.bits, read.destination)
        .map_err(|fault| nameless("prefix", read.destination, header.bits, &fault))?;
    let source = prefix_of_source(header, read, body)
        .map_err(|fault| nameless("source", read.source, header.source_bits, &fault))?;
    let table = match read.table {
        Some(value) => value.u32(0),
        None => Ok(u32::from(header.table)),
    };
    let table = table.map_err(|fault| (Cause::FecInvalid, format!("{prefix}: {fault}").into()))?;
    Ok(Destination::Prefix(RouteKey { prefix, table, source, tos: header.tos }))
}

fn in_label(body: Bytes<'_>, value: Option<Bytes<'_>>) -> Result<Label, Fault> {
    const EXPECTED: &str = "one ingress label";
    let value = value.ok_or_else(|| body.fault(0, EXPECTED, 0))?;
    let stack = value.label_stack()?;
    match stack[..] {
        [label] => Ok(label),
        _ => Err(value.fault(0, EXPECTED, stack.len())),
    }
}

fn prefix_of_source(
    header: &Header,
    read: &Attributes<'_>,
    body: Bytes<'_>,
) -> Result<Option<IpNet>, Fault> {
    let source = prefix(body, header.family, header.source_bits, read.source)?;
    Ok(Some(source).filter(|source| source.prefix_len() > 0))
}

fn prefix(body: Bytes<'_>, family: u8, bits: u8, value: Option<Bytes<'_>>) -> Result<IpNet, Fault> {
    let address = match value {
        Some(value) => value.address()?,
        // The default route may be written without a destination.
        None if family == AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    if address.is_ipv4() != (family == AF_INET) || (value.is_none() && bits != 0) {
        return Err(body.fault(0, "an address of the route's family", usize::from(family)));
    }
    IpNet::new(address, bits)
        .map(|prefix| prefix.trunc())
        .map_err(|_| body.fault(1, "a prefix length of the route's family", usize::from(bits)))
}

/// What becomes of the packets. Errors: what no mapping can say.
fn fate(
    header: &Header,
    read: &Attributes<'_>,
    body: Bytes<'_>,
    hops: &mut Vec<Hop>,
) -> Result<Fate, Fault> {
    match header.kind {
        RTN_UNICAST => {}
        // Label routes know one kind only.
        RTN_UNSPECIFIED if header.family == AF_MPLS => {}
        RTN_BLACKHOLE | RTN_UNREACHABLE | RTN_PROHIBIT => return Ok(Fate::Drops),
        RTN_LOCAL if header.family != AF_MPLS => return Ok(Fate::Own),
        RTN_BROADCAST | RTN_ANYCAST | RTN_MULTICAST if header.family != AF_MPLS => {
            return Ok(Fate::NoEntry);
        }
        // RTN_THROW among them: the packet goes on by the router's rules for tables.
        kind => {
            let expected = "a kind of route that forwards, drops or ends (1 to 8)";
            return Err(body.fault(7, expected, kind.into()).of(Cause::OperationInvalid));
        }
    }
    if let Some(id) = read.next_hop.filter(|_| header.family != AF_MPLS) {
        return id.u32(0).map(Fate::ForwardsBy);
    }
    let first = hops.len();
    match read.branches {
        Some(branches) => read_branches(header.family, branches, hops)?,
        None => {
            let mut hop = HopAttributes::default();
            if let Some(attributes) = read.all {
                attributes.each_attribute(|attribute, value| {
                    take(&mut hop, header.family, attribute, value)
                })?;
            }
            if hop.is_empty() {
                return Err(body.fault(0, "a gateway, an interface or a number", 0));
            }
            let hop = hop.hop(body, 1)?;
            hops.extend(Some(hop).filter(|_| !is_dead(header.flags)));
        }
    }
    if hops.len() == first {
        return Err(body.fault(8, "a branch that carries something (flags 1, 16)", 0));
    }
    Ok(Fate::Forwards(first..hops.len()))
}

// Kinds of route.
const RTN_UNSPECIFIED: u8 = 0;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_ANYCAST: u8 = 4;
const RTN_MULTICAST: u8 = 5;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_PROHIBIT: u8 = 8;

/// The branches that carry something.
fn read_branches(family: u8, value: Bytes<'_>, hops: &mut Vec<Hop>) -> Result<(), Fault> {
    let mut rest = value;
    let mut count = 0;
    while !rest.is_empty() {
        if rest.len() < BRANCH_HEADER_BYTES {
            return Err(rest.malformed("a branch of 8 bytes or more", rest.len()));
        }
        let bytes = usize::from(rest.u16(0)?);
        if bytes < BRANCH_HEADER_BYTES || bytes > rest.len() {
            return Err(rest.malformed("a branch length that fits the route", bytes));
        }
        count += 1;
        if count > BRANCHES_MAX {
            return Err(rest.fault(0, "at most 256 branches", count));
        }
        let (flags, weight) = (rest.u8(2)?, u32::from(rest.u8(3)?) + 1);
        let mut hop = HopAttributes::default();
        hop.leaves_by(rest.u32(4)?);
        let branch = rest.slice(BRANCH_HEADER_BYTES, bytes)?;
        branch.each_attribute(|attribute, value| take(&mut hop, family, attribute, value))?;
        let hop = hop.hop(branch, weight)?;
        hops.extend(Some(hop).filter(|_| !is_dead(flags.into())));
        rest = rest.after(bytes);
    }
    Ok(())
}

fn take<'a>(
    hop: &mut HopAttributes<'a>,
    family: u8,
    attribute: u16,
    value: Bytes<'a>,
) -> Result<(), Fault> {
    match attribute {
        RTA_GATEWAY => hop.goes_to(value.address()?),
        RTA_VIA => {
            if let Some(gateway) = value.via()? {
                hop.goes_to(gateway);
            }
        }
        RTA_NEWDST if family == AF_MPLS => hop.swaps_to(value),
        RTA_ENCAP_TYPE => hop.encapsulates_in(value.u16(0)?),
        RTA_ENCAP => hop.puts_around(value),
        RTA_OIF => hop.leaves_by(value.u32(0)?),
        _ => {}
    }
    Ok(())
}
