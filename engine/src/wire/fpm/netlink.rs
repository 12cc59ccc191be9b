//! Netlink on the wire: messages, attributes and values, whatever they are about.
//!
//! In:   the payload of one FPM frame: netlink messages, each in the sender's own byte order.
//! Out:  one message after another, as parts of the payload that know where they stand.
//! Law:  nothing is read outside the lengths given; lengths that do not add up are `FpmMalformed`,
//!       a value that cannot be read concerns its message alone.
//! Not:  what a message says (`route`, `next_hop`).

use std::net::IpAddr;

use storage::mapping::{Label, LabelStack, STACK_LABELS_MAX};
use storage::row::Cause;

// Address families.
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
pub(super) const AF_PACKET: u8 = 17;
pub(super) const AF_MPLS: u8 = 28;

const MESSAGE_HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The two highest bits of an attribute's type are flags (nested, byte order).
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// `FpmMalformed`: the frame as a whole cannot be believed; otherwise what of one message
    /// cannot be said.
    pub(super) cause: Cause,
    /// Byte of the payload.
    pub(super) offset: usize,
    /// What should have stood there.
    pub(super) expected: &'static str,
    /// What stood there instead: a length or a value.
    pub(super) found: u64,
}

impl Fault {
    /// The same, of another part of the message.
    pub(super) fn of(self, cause: Cause) -> Fault {
        match self.cause {
            Cause::FpmMalformed => self,
            _ => Fault { cause, ..self },
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fault { offset, expected, found, .. } = self;
        write!(f, "netlink byte {offset}: expected {expected}, found {found}")
    }
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

/// Gives each message's type and body.
pub(super) fn each_message<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(u16, Bytes<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut rest = Bytes { bytes: payload, offset: 0, order: byte_order(payload) };
    while !rest.is_empty() {
        let malformed = |fault: Fault| Fault { cause: Cause::FpmMalformed, ..fault };
        let bytes = rest.u32(0).map_err(malformed)? as usize;
        if bytes < MESSAGE_HEADER_BYTES || bytes > rest.len() {
            return Err(rest.malformed("a message length that fits the frame", bytes));
        }
        each(rest.u16(4)?, rest.slice(MESSAGE_HEADER_BYTES, bytes)?)?;
        rest = rest.after(bytes);
    }
    Ok(())
}

/// A part of the payload that knows where it stands.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    bytes: &'a [u8],
    offset: usize,
    order: ByteOrder,
}

impl<'a> Bytes<'a> {
    pub(super) fn len(self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// A value that says nothing that a mapping could say.
    pub(super) fn fault(self, at: usize, expected: &'static str, found: usize) -> Fault {
        let (cause, offset, found) = (Cause::NhlfeInvalid, self.offset + at, found as u64);
        Fault { cause, offset, expected, found }
    }

    /// A length that does not fit what it stands in.
    pub(super) fn malformed(self, expected: &'static str, found: usize) -> Fault {
        Fault { cause: Cause::FpmMalformed, ..self.fault(0, expected, found) }
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Fault> {
        let found = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().ok_or_else(|| self.fault(at, "more bytes", self.len()))
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Fault> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Fault> {
        let bytes = self.array(at)?;
        Ok(match self.order {
            ByteOrder::Little => u16::from_le_bytes(bytes),
            ByteOrder::Big => u16::from_be_bytes(bytes),
        })
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Fault> {
        let bytes = self.array(at)?;
        Ok(match self.order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    /// A part; one that is not there is a header too long for what it stands in.
    pub(super) fn slice(self, from: usize, to: usize) -> Result<Bytes<'a>, Fault> {
        match self.bytes.get(from..to) {
            Some(bytes) => Ok(Bytes { bytes, offset: self.offset + from, ..self }),
            None => Err(self.malformed("a longer header", self.len())),
        }
    }

    /// What stands behind a header of `bytes` bytes.
    pub(super) fn behind(self, bytes: usize) -> Result<Bytes<'a>, Fault> {
        self.slice(bytes, self.len())
    }

    /// What follows an element of `bytes` bytes: the next one begins at a multiple of four.
    /// The padding of the last element may be missing.
    pub(super) fn after(self, bytes: usize) -> Bytes<'a> {
        let padded = bytes.next_multiple_of(4).min(self.len());
        Bytes { bytes: &self.bytes[padded..], offset: self.offset + padded, ..self }
    }

    /// Gives each attribute's type and value: length u16, type u16, value.
    pub(super) fn each_attribute(
        self,
        mut each: impl FnMut(u16, Bytes<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut rest = self;
        while !rest.is_empty() {
            if rest.len() < ATTRIBUTE_HEADER_BYTES {
                return Err(rest.malformed("an attribute of 4 bytes or more", rest.len()));
            }
            let bytes = usize::from(rest.u16(0)?);
            if bytes < ATTRIBUTE_HEADER_BYTES || bytes > rest.len() {
                return Err(rest.malformed("an attribute length that fits", bytes));
            }
            let kind = rest.u16(2)? & ATTRIBUTE_TYPE_MASK;
            each(kind, rest.slice(ATTRIBUTE_HEADER_BYTES, bytes)?)?;
            rest = rest.after(bytes);
        }
        Ok(())
    }

    pub(super) fn address(self) -> Result<IpAddr, Fault> {
        match self.len() {
            4 => Ok(IpAddr::from(self.array::<4>(0)?)),
            16 => Ok(IpAddr::from(self.array::<16>(0)?)),
            bytes => Err(self.fault(0, "an address of 4 or 16 bytes", bytes)),
        }
    }

    /// `struct rtvia`: family u16, then the address; `None` = the hardware address behind the
    /// interface, which names nobody.
    pub(super) fn via(self) -> Result<Option<IpAddr>, Fault> {
        let family = self.u16(0)?;
        let address = match u8::try_from(family) {
            Ok(AF_INET) => IpAddr::from(self.array::<4>(2)?),
            Ok(AF_INET6) => IpAddr::from(self.array::<16>(2)?),
            Ok(AF_PACKET) => return Ok(None),
            _ => return Err(self.fault(0, "a gateway of family 2, 10 or 17", family.into())),
        };
        Ok(Some(address))
    }

    /// Label stack entries of RFC 3032 section 2.1: label 20 bits, class 3, bottom 1, TTL 8.
    pub(super) fn label_stack(self) -> Result<LabelStack, Fault> {
        let mut stack = LabelStack::new();
        let mut at = 0;
        while at < self.len() {
            let entry = u32::from_be_bytes(self.array(at)?);
            if stack.len() == STACK_LABELS_MAX {
                return Err(self.fault(at, "at most 16 labels", self.len() / 4));
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
