//! Netlink messages of one FPM frame, as plain values.
//!
//! In:   the payload of one FPM frame: netlink messages, each in the sender's own byte order.
//! Out:  `Parsed`: routes and next hops, in the order of the frame.
//! Law:  nothing is read outside the lengths given; a frame with one fault yields no message.
//! Not:  what a route means for the label table (`fpm`), or which next hops a group has (`hops`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::IpNet;
use storage::mapping::{BRANCHES_MAX, Label, LabelStack, STACK_LABELS_MAX};

// Message types of rtnetlink(7).
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

// Address families.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_MPLS: u8 = 28;

// Attributes of a route.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NEWDST: u16 = 19;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;

// Attributes of a next hop.
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;

/// Encapsulation type of labels, and its one attribute: the stack.
const LWTUNNEL_ENCAP_MPLS: u16 = 1;
const MPLS_IPTUNNEL_DST: u16 = 1;

/// The two highest bits of an attribute's type are flags (nested, byte order).
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

const MESSAGE_HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const ROUTE_HEADER_BYTES: usize = 12;
const NEXT_HOP_HEADER_BYTES: usize = 8;
const MULTIPATH_HEADER_BYTES: usize = 8;
const GROUP_MEMBER_BYTES: usize = 8;

/// `RTN_UNICAST`: the route leads somewhere.
const ROUTE_UNICAST: u8 = 1;
/// `RTN_BLACKHOLE`, `RTN_UNREACHABLE`, `RTN_PROHIBIT`: the router drops what matches.
const ROUTE_DROPS: Range<u8> = 6..9;

/// What is wrong with a frame, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Byte of the payload.
    pub(super) offset: usize,
    /// What should have stood there.
    pub(super) expected: &'static str,
    /// What stood there instead: a length or a value.
    pub(super) found: u64,
}

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// Packets with this label on top.
    Label(Label),
    /// Packets to this prefix.
    Prefix(RouteKey),
}

/// What identifies an IP route: the key of its FTN entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RouteKey {
    /// Masked.
    pub(super) prefix: IpNet,
    /// As the router numbers its tables.
    pub(super) table: u32,
}

/// What a route does with its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It sends them on.
    Forwards,
    /// It drops them.
    Drops,
    /// They are the router's own, or broadcast, or multicast: no entry of a label table.
    Other,
    /// The route is gone.
    Deleted,
}

/// One branch of a route, or one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// The neighbour; `None` = only an interface is named.
    pub(super) gateway: Option<IpAddr>,
    /// Labels that packets leave with, as sent; empty = none is named.
    pub(super) stack: LabelStack,
    /// Share among the branches, from 1.
    pub(super) weight: u32,
}

/// One netlink message, as far as a label table is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// RTM_NEWROUTE and RTM_DELROUTE.
    Route {
        /// What for.
        destination: Destination,
        /// What becomes of the packets.
        fate: Fate,
        /// Where to: in `Parsed::hops`.
        hops: Range<usize>,
        /// Where to instead, if the route names a next hop or group by number.
        next_hop: Option<u32>,
    },
    /// RTM_NEWNEXTHOP of one next hop; `None` = it drops packets.
    NextHop {
        /// Its number.
        id: u32,
        /// What it is.
        hop: Option<Hop>,
    },
    /// RTM_NEWNEXTHOP of a group.
    Group {
        /// Its number.
        id: u32,
        /// Its members: in `Parsed::members`.
        members: Range<usize>,
    },
    /// RTM_DELNEXTHOP.
    NextHopDeleted {
        /// Its number.
        id: u32,
    },
}

/// A member of a next-hop group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Number of the next hop.
    pub(super) id: u32,
    /// Share among the members, from 1.
    pub(super) weight: u32,
}

/// The messages of one frame; kept and refilled, so that reading allocates nothing after warm-up.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// In the order of the frame; messages that say nothing about labels are left out.
    pub(super) messages: Vec<Message>,
    /// Branches of all routes.
    pub(super) hops: Vec<Hop>,
    /// Members of all groups.
    pub(super) members: Vec<Member>,
}

impl Parsed {
    /// Reads every message of the payload. After a fault the content is not to be used.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<(), Fault> {
        self.messages.clear();
        self.hops.clear();
        self.members.clear();
        let mut rest = Bytes { bytes: payload, offset: 0, order: byte_order(payload) };
        while !rest.bytes.is_empty() {
            let bytes = rest.u32(0)? as usize;
            if bytes < MESSAGE_HEADER_BYTES || bytes > rest.bytes.len() {
                return Err(rest.fault(0, "a message length that fits the frame", bytes));
            }
            let kind = rest.u16(4)?;
            let body = rest.slice(MESSAGE_HEADER_BYTES, bytes)?;
            match kind {
                RTM_NEWROUTE | RTM_DELROUTE => self.read_route(body, kind == RTM_DELROUTE)?,
                RTM_NEWNEXTHOP => self.read_next_hop(body)?,
                RTM_DELNEXTHOP => {
                    let id = next_hop_id(body)?;
                    self.messages.push(Message::NextHopDeleted { id });
                }
                _ => {}
            }
            rest = rest.after(bytes);
        }
        Ok(())
    }

    fn read_route(&mut self, body: Bytes<'_>, deleted: bool) -> Result<(), Fault> {
        let attributes = body.slice(ROUTE_HEADER_BYTES, body.bytes.len())?;
        let [family, prefix_bits, kind] = [body.u8(0)?, body.u8(1)?, body.u8(7)?];
        if !matches!(family, AF_INET | AF_INET6 | AF_MPLS) {
            return Ok(());
        }
        let mut table = u32::from(body.u8(4)?);
        let mut destination = None;
        let mut next_hop = None;
        let mut multipath = None;
        let mut single = HopAttributes::default();
        attributes.each_attribute(|attribute, value| {
            match attribute {
                RTA_DST => destination = Some(value),
                RTA_TABLE => table = value.u32(0)?,
                RTA_NH_ID => next_hop = Some(value.u32(0)?),
                RTA_MULTIPATH => multipath = Some(value),
                _ => single.take(family, attribute, value)?,
            }
            Ok(())
        })?;
        let destination = match (family, destination) {
            (AF_MPLS, Some(value)) => Destination::Label(in_label(value)?),
            (AF_MPLS, None) => return Err(body.fault(0, "an ingress label", 0)),
            (_, value) => Destination::Prefix(RouteKey {
                prefix: prefix(body, family, prefix_bits, value)?,
                table,
            }),
        };
        let first = self.hops.len();
        match multipath {
            // What a route that goes away consisted of says nothing any more.
            _ if deleted => {}
            Some(value) => self.read_multipath(family, value)?,
            None => self.hops.extend(single.hop(family, 1)?),
        }
        self.messages.push(Message::Route {
            destination,
            fate: fate(deleted, family, kind),
            hops: first..self.hops.len(),
            next_hop,
        });
        Ok(())
    }

    /// `struct rtnexthop`: length u16, flags u8, weight - 1 u8, interface i32, attributes.
    fn read_multipath(&mut self, family: u8, value: Bytes<'_>) -> Result<(), Fault> {
        let mut rest = value;
        let mut count = 0;
        while !rest.bytes.is_empty() {
            let bytes = usize::from(rest.u16(0)?);
            if bytes < MULTIPATH_HEADER_BYTES || bytes > rest.bytes.len() {
                return Err(rest.fault(0, "a branch length that fits the route", bytes));
            }
            count += 1;
            if count > BRANCHES_MAX {
                return Err(rest.fault(0, "at most 256 branches", count));
            }
            let weight = u32::from(rest.u8(3)?) + 1;
            let mut hop = HopAttributes { named: true, ..HopAttributes::default() };
            rest.slice(MULTIPATH_HEADER_BYTES, bytes)?
                .each_attribute(|attribute, value| hop.take(family, attribute, value))?;
            self.hops.extend(hop.hop(family, weight)?);
            rest = rest.after(bytes);
        }
        Ok(())
    }

    fn read_next_hop(&mut self, body: Bytes<'_>) -> Result<(), Fault> {
        let id = next_hop_id(body)?;
        let mut group = None;
        let mut drops = false;
        let mut hop = HopAttributes { named: true, ..HopAttributes::default() };
        let attributes = body.slice(NEXT_HOP_HEADER_BYTES, body.bytes.len())?;
        attributes.each_attribute(|attribute, value| {
            match attribute {
                NHA_GROUP => group = Some(value),
                NHA_BLACKHOLE => drops = true,
                NHA_GATEWAY => hop.gateway = Some(value.address()?),
                NHA_ENCAP_TYPE => hop.encapsulation = value.u16(0)?,
                NHA_ENCAP => hop.labels = Some(value),
                _ => {}
            }
            Ok(())
        })?;
        let message = match group {
            Some(value) => Message::Group { id, members: self.read_members(value)? },
            None if drops => Message::NextHop { id, hop: None },
            None => Message::NextHop { id, hop: hop.hop(AF_INET, 1)? },
        };
        self.messages.push(message);
        Ok(())
    }

    /// `struct nexthop_grp`: number u32, weight - 1 u8, its high byte u8 (once reserved), 2 bytes.
    fn read_members(&mut self, value: Bytes<'_>) -> Result<Range<usize>, Fault> {
        let count = value.bytes.len() / GROUP_MEMBER_BYTES;
        if !value.bytes.len().is_multiple_of(GROUP_MEMBER_BYTES) || count > BRANCHES_MAX {
            return Err(value.fault(0, "1 to 256 group members of 8 bytes", value.bytes.len()));
        }
        let first = self.members.len();
        for index in 0..count {
            let at = index * GROUP_MEMBER_BYTES;
            let weight = u16::from_le_bytes([value.u8(at + 4)?, value.u8(at + 5)?]);
            self.members.push(Member { id: value.u32(at)?, weight: u32::from(weight) + 1 });
        }
        Ok(first..self.members.len())
    }
}

/// The attributes that describe one branch, as they come: in any order.
#[derive(Default)]
struct HopAttributes<'a> {
    /// Whether anything names where to: an interface is enough.
    named: bool,
    gateway: Option<IpAddr>,
    /// `RTA_NEWDST` of a label route, `RTA_ENCAP` of an IP route.
    labels: Option<Bytes<'a>>,
    encapsulation: u16,
}

impl<'a> HopAttributes<'a> {
    fn take(&mut self, family: u8, attribute: u16, value: Bytes<'a>) -> Result<(), Fault> {
        match attribute {
            RTA_GATEWAY => self.gateway = Some(value.address()?),
            RTA_VIA => self.gateway = Some(value.via()?),
            RTA_NEWDST if family == AF_MPLS => self.labels = Some(value),
            RTA_ENCAP_TYPE if family != AF_MPLS => self.encapsulation = value.u16(0)?,
            RTA_ENCAP if family != AF_MPLS => self.labels = Some(value),
            RTA_OIF => {}
            _ => return Ok(()),
        }
        self.named = true;
        Ok(())
    }

    /// The branch, or `None` when the route names none.
    fn hop(self, family: u8, weight: u32) -> Result<Option<Hop>, Fault> {
        if !self.named {
            return Ok(None);
        }
        let mut stack = LabelStack::new();
        match self.labels {
            Some(value) if family == AF_MPLS => stack = value.label_stack()?,
            Some(value) if self.encapsulation == LWTUNNEL_ENCAP_MPLS => {
                value.each_attribute(|attribute, value| {
                    if attribute == MPLS_IPTUNNEL_DST {
                        stack = value.label_stack()?;
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(Some(Hop { gateway: self.gateway, stack, weight }))
    }
}

fn fate(deleted: bool, family: u8, kind: u8) -> Fate {
    match kind {
        // zebra leaves the kind of a route that it deletes at 0.
        _ if deleted => Fate::Deleted,
        ROUTE_UNICAST => Fate::Forwards,
        _ if ROUTE_DROPS.contains(&kind) => Fate::Drops,
        // Label routes know one kind only.
        _ if family == AF_MPLS => Fate::Forwards,
        _ => Fate::Other,
    }
}

fn in_label(value: Bytes<'_>) -> Result<Label, Fault> {
    let stack = value.label_stack()?;
    stack.first().copied().ok_or_else(|| value.fault(0, "an ingress label", 0))
}

fn prefix(body: Bytes<'_>, family: u8, bits: u8, value: Option<Bytes<'_>>) -> Result<IpNet, Fault> {
    let address = match value {
        Some(value) => value.address()?,
        // The default route may be written without a destination.
        None if family == AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    if address.is_ipv4() != (family == AF_INET) || (value.is_none() && bits != 0) {
        return Err(body.fault(0, "a destination of the route's family", usize::from(bits)));
    }
    IpNet::new(address, bits)
        .map(|prefix| prefix.trunc())
        .map_err(|_| body.fault(1, "a prefix length of the route's family", usize::from(bits)))
}

fn next_hop_id(body: Bytes<'_>) -> Result<u32, Fault> {
    let mut id = None;
    let attributes = body.slice(NEXT_HOP_HEADER_BYTES, body.bytes.len())?;
    attributes.each_attribute(|attribute, value| {
        if attribute == NHA_ID {
            id = Some(value.u32(0)?);
        }
        Ok(())
    })?;
    id.ok_or_else(|| body.fault(0, "the number of a next hop", 0))
}

/// Byte order of the router that wrote the messages: netlink has no order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

/// A frame is at most 65,535 bytes long, so the first message's length u32 has two zero bytes:
/// in front in big-endian order, behind in little-endian order. Both only when the length is 0.
fn byte_order(payload: &[u8]) -> ByteOrder {
    match payload {
        [0, 0, high, low, ..] if (*high, *low) != (0, 0) => ByteOrder::Big,
        _ => ByteOrder::Little,
    }
}

/// A part of the payload that knows where it stands.
#[derive(Clone, Copy)]
struct Bytes<'a> {
    bytes: &'a [u8],
    offset: usize,
    order: ByteOrder,
}

impl<'a> Bytes<'a> {
    fn fault(self, at: usize, expected: &'static str, found: usize) -> Fault {
        Fault { offset: self.offset + at, expected, found: found as u64 }
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Fault> {
        let found = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().ok_or_else(|| self.fault(at, "more bytes", self.bytes.len()))
    }

    fn u8(self, at: usize) -> Result<u8, Fault> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    fn u16(self, at: usize) -> Result<u16, Fault> {
        let bytes = self.array(at)?;
        Ok(match self.order {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        })
    }

    fn u32(self, at: usize) -> Result<u32, Fault> {
        let bytes = self.array(at)?;
        Ok(match self.order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    fn slice(self, from: usize, to: usize) -> Result<Bytes<'a>, Fault> {
        match self.bytes.get(from..to) {
            Some(bytes) => Ok(Bytes { bytes, offset: self.offset + from, ..self }),
            None => Err(self.fault(0, "a longer header", self.bytes.len())),
        }
    }

    /// What follows an element of `bytes` bytes: the next one begins at a multiple of four.
    /// The padding of the last element may be missing.
    fn after(self, bytes: usize) -> Bytes<'a> {
        let padded = bytes.next_multiple_of(4).min(self.bytes.len());
        Bytes { bytes: &self.bytes[padded..], offset: self.offset + padded, ..self }
    }

    /// Gives each attribute's type and value: length u16, type u16, value.
    fn each_attribute(
        self,
        mut each: impl FnMut(u16, Bytes<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut rest = self;
        while !rest.bytes.is_empty() {
            let bytes = usize::from(rest.u16(0)?);
            if bytes < ATTRIBUTE_HEADER_BYTES || bytes > rest.bytes.len() {
                return Err(rest.fault(0, "an attribute length that fits", bytes));
            }
            let kind = rest.u16(2)? & ATTRIBUTE_TYPE_MASK;
            each(kind, rest.slice(ATTRIBUTE_HEADER_BYTES, bytes)?)?;
            rest = rest.after(bytes);
        }
        Ok(())
    }

    fn address(self) -> Result<IpAddr, Fault> {
        match self.bytes.len() {
            4 => Ok(IpAddr::from(self.array::<4>(0)?)),
            16 => Ok(IpAddr::from(self.array::<16>(0)?)),
            bytes => Err(self.fault(0, "an address of 4 or 16 bytes", bytes)),
        }
    }

    /// `struct rtvia`: family u16, then the address.
    fn via(self) -> Result<IpAddr, Fault> {
        let bytes = match self.u16(0)? {
            family if family == u16::from(AF_INET) => 4,
            family if family == u16::from(AF_INET6) => 16,
            family => {
                return Err(self.fault(0, "a gateway of family 2 or 10", usize::from(family)));
            }
        };
        self.slice(2, 2 + bytes)?.address()
    }

    /// Label stack entries of RFC 3032 section 2.1: label 20 bits, class 3, bottom 1, TTL 8.
    fn label_stack(self) -> Result<LabelStack, Fault> {
        let mut stack = LabelStack::new();
        let mut at = 0;
        while at < self.bytes.len() {
            let entry = u32::from_be_bytes(self.array(at)?);
            if stack.len() == STACK_LABELS_MAX {
                return Err(self.fault(at, "at most 16 labels", stack.len() + 1));
            }
            stack.extend(Label::new(entry >> 12));
            if entry >> 8 & 1 == 1 {
                break;
            }
            at += 4;
        }
        Ok(stack)
    }
}
