//! Session rows as bytes, one behind the other.
//!
//! In:   session rows, or the bytes of their section and the block's dictionaries.
//! Out:  the other of the two.
//! Law:  what is read back equals what was written, every field of every event.
//! Not:  when a session event is written (the engine's shard), what it means (`router`).

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::dictionary::Numbers;
use super::layout::{REASON_REJECTED, REASONS, reason_code};
use super::value::{
    intern_address, put_address, put_key, put_time, read_address_number, read_key, read_time,
};
use super::varint::{self, Cursor, Malformed};
use crate::interface::Interface;
use crate::mapping::RouterId;
use crate::row::{Cause, InputMode, Position, Reason, Scope, SessionEvent, SessionRow};
use crate::time::Micros;

/// As it was before interfaces had more than an address; read only.
const EVENT_CONFIGURED_ADDRESSES: u8 = 0;
/// As it was before interfaces had more than an address, without a clock; read only.
const EVENT_INITIATION_ADDRESSES: u8 = 1;
const EVENT_SNAPSHOT_BEGIN: u8 = 2;
const EVENT_SNAPSHOT_COMPLETE: u8 = 3;
const EVENT_GAP: u8 = 4;
const EVENT_TERMINATION: u8 = 5;
const EVENT_CONFIGURED: u8 = 6;
const EVENT_INITIATION: u8 = 7;

const SCOPE_ROUTER: u8 = 0;
const SCOPE_ENTRY: u8 = 1;
const SCOPE_REST: u8 = 2;

// What is said of an interface; a set of bits.
const INTERFACE_NAME: u8 = 1;
const INTERFACE_ADDRESS: u8 = 2;
const INTERFACE_NEIGHBOUR: u8 = 4;
const INTERFACE_TABLE: u8 = 8;

/// Appends a row. `time_previous` is the time of the session row before it in the block, or 0.
pub(super) fn put_session(
    out: &mut Vec<u8>,
    routers: &mut Numbers,
    addresses: &mut Numbers,
    row: &SessionRow,
    time_previous: Micros,
) {
    varint::put(out, intern_address(routers, row.router.0) as u64);
    varint::put(out, u64::from(row.position.generation));
    varint::put(out, row.position.sequence);
    varint::put(out, u64::from(row.position.index));
    put_time(out, row.time, time_previous);
    match &row.event {
        SessionEvent::Configured { name, interfaces } => {
            out.push(EVENT_CONFIGURED);
            varint::put_bytes(out, name.as_bytes());
            put_interfaces(out, addresses, interfaces);
        }
        SessionEvent::Initiation { peer, mode, permanent, boot_time, clock, interfaces, agent } => {
            out.push(EVENT_INITIATION);
            put_peer(out, addresses, peer);
            out.push(*mode as u8);
            out.push(u8::from(*permanent));
            put_optional_time(out, *boot_time);
            put_optional_time(out, *clock);
            put_interfaces(out, addresses, interfaces);
            varint::put_bytes(out, agent.as_bytes());
        }
        SessionEvent::SnapshotBegin => out.push(EVENT_SNAPSHOT_BEGIN),
        SessionEvent::SnapshotComplete { explicit, confirmed, added, altered, vanished } => {
            out.push(EVENT_SNAPSHOT_COMPLETE);
            out.push(u8::from(*explicit));
            for count in [confirmed, added, altered, vanished] {
                varint::put(out, *count);
            }
        }
        SessionEvent::Gap { start, scope, reason } => {
            out.push(EVENT_GAP);
            put_time(out, *start, row.time);
            match scope {
                Scope::Router => out.push(SCOPE_ROUTER),
                Scope::Entry(key) => {
                    out.push(SCOPE_ENTRY);
                    put_key(out, addresses, key);
                }
                Scope::Rest => out.push(SCOPE_REST),
            }
            put_reason(out, *reason);
        }
        SessionEvent::Termination { reason } => {
            out.push(EVENT_TERMINATION);
            put_reason(out, *reason);
        }
    }
}

/// Reads the row that `put_session` wrote.
pub(super) fn read_session(
    cursor: &mut Cursor<'_>,
    routers: &[IpAddr],
    addresses: &[IpAddr],
    time_previous: Micros,
) -> Result<SessionRow, Malformed> {
    let router = RouterId(read_address_number(cursor, routers)?);
    let position = Position {
        generation: cursor.unsigned32()?,
        sequence: cursor.unsigned()?,
        index: cursor.unsigned32()?,
    };
    let time = read_time(cursor, time_previous)?;
    let event = match cursor.byte()? {
        EVENT_CONFIGURED_ADDRESSES => SessionEvent::Configured {
            name: cursor.text()?.into(),
            interfaces: read_addresses(cursor, addresses)?,
        },
        EVENT_CONFIGURED => SessionEvent::Configured {
            name: cursor.text()?.into(),
            interfaces: read_interfaces(cursor, addresses)?,
        },
        kind @ (EVENT_INITIATION_ADDRESSES | EVENT_INITIATION) => {
            let has_clock = kind == EVENT_INITIATION;
            SessionEvent::Initiation {
                peer: read_peer(cursor, addresses)?,
                mode: read_mode(cursor)?,
                permanent: cursor.flag()?,
                boot_time: read_optional_time(cursor)?,
                clock: if has_clock { read_optional_time(cursor)? } else { None },
                interfaces: match has_clock {
                    true => read_interfaces(cursor, addresses)?,
                    false => read_addresses(cursor, addresses)?,
                },
                agent: cursor.text()?.into(),
            }
        }
        EVENT_SNAPSHOT_BEGIN => SessionEvent::SnapshotBegin,
        EVENT_SNAPSHOT_COMPLETE => SessionEvent::SnapshotComplete {
            explicit: cursor.flag()?,
            confirmed: cursor.unsigned()?,
            added: cursor.unsigned()?,
            altered: cursor.unsigned()?,
            vanished: cursor.unsigned()?,
        },
        EVENT_GAP => SessionEvent::Gap {
            start: read_time(cursor, time)?,
            scope: match cursor.byte()? {
                SCOPE_ROUTER => Scope::Router,
                SCOPE_ENTRY => Scope::Entry(read_key(cursor, addresses)?),
                SCOPE_REST => Scope::Rest,
                _ => return Err(cursor.malformed("the scope of a gap")),
            },
            reason: read_reason(cursor)?,
        },
        EVENT_TERMINATION => SessionEvent::Termination { reason: read_reason(cursor)? },
        _ => return Err(cursor.malformed("a kind of session event")),
    };
    Ok(SessionRow { router, position, time, event })
}

pub(super) fn put_interfaces(out: &mut Vec<u8>, addresses: &mut Numbers, interfaces: &[Interface]) {
    varint::put(out, interfaces.len() as u64);
    for Interface { name, address, neighbour, table } in interfaces {
        let bits = [
            (!name.is_empty(), INTERFACE_NAME),
            (address.is_some(), INTERFACE_ADDRESS),
            (neighbour.is_some(), INTERFACE_NEIGHBOUR),
            (table.is_some(), INTERFACE_TABLE),
        ];
        out.push(bits.iter().filter(|(is_said, _)| *is_said).map(|(_, bit)| bit).sum());
        if !name.is_empty() {
            varint::put_bytes(out, name.as_bytes());
        }
        if let Some(address) = address {
            put_address(out, addresses, *address);
        }
        if let Some(neighbour) = neighbour {
            put_address(out, addresses, neighbour.0);
        }
        if let Some(table) = table {
            varint::put(out, u64::from(*table));
        }
    }
}

pub(super) fn read_interfaces(
    cursor: &mut Cursor<'_>,
    addresses: &[IpAddr],
) -> Result<Vec<Interface>, Malformed> {
    let count = interface_count(cursor)?;
    (0..count).map(|_| read_interface(cursor, addresses)).collect()
}

fn read_interface(cursor: &mut Cursor<'_>, addresses: &[IpAddr]) -> Result<Interface, Malformed> {
    let bits = cursor.byte()?;
    if bits == 0 || bits >= INTERFACE_TABLE << 1 {
        return Err(cursor.malformed("the parts of an interface"));
    }
    let has = |bit: u8| bits & bit != 0;
    let name = if has(INTERFACE_NAME) { cursor.text()? } else { "" };
    let address = match has(INTERFACE_ADDRESS) {
        true => Some(read_address_number(cursor, addresses)?),
        false => None,
    };
    let neighbour = match has(INTERFACE_NEIGHBOUR) {
        true => Some(RouterId(read_address_number(cursor, addresses)?)),
        false => None,
    };
    let table = if has(INTERFACE_TABLE) { Some(cursor.unsigned32()?) } else { None };
    Ok(Interface { name: name.into(), address, neighbour, table })
}

/// Interfaces as they were when they had an address and nothing else.
pub(super) fn read_addresses(
    cursor: &mut Cursor<'_>,
    addresses: &[IpAddr],
) -> Result<Vec<Interface>, Malformed> {
    let count = interface_count(cursor)?;
    (0..count).map(|_| read_address_number(cursor, addresses).map(Interface::of_address)).collect()
}

/// Each takes a byte at least.
fn interface_count(cursor: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let count = cursor.index()?;
    if count > cursor.left() {
        return Err(cursor.malformed("as many interfaces as bytes at most"));
    }
    Ok(count)
}

pub(super) fn put_peer(out: &mut Vec<u8>, addresses: &mut Numbers, peer: &SocketAddr) {
    put_address(out, addresses, peer.ip());
    varint::put(out, u64::from(peer.port()));
    if let SocketAddr::V6(peer) = peer {
        varint::put(out, u64::from(peer.flowinfo()));
        varint::put(out, u64::from(peer.scope_id()));
    }
}

pub(super) fn read_peer(
    cursor: &mut Cursor<'_>,
    addresses: &[IpAddr],
) -> Result<SocketAddr, Malformed> {
    let address = read_address_number(cursor, addresses)?;
    let port = u16::try_from(cursor.unsigned()?).map_err(|_| cursor.malformed("a port"))?;
    Ok(match address {
        IpAddr::V4(address) => SocketAddrV4::new(address, port).into(),
        IpAddr::V6(address) => {
            SocketAddrV6::new(address, port, cursor.unsigned32()?, cursor.unsigned32()?).into()
        }
    })
}

pub(super) fn read_mode(cursor: &mut Cursor<'_>) -> Result<InputMode, Malformed> {
    let code = usize::from(cursor.byte()?);
    InputMode::ALL.get(code).copied().ok_or_else(|| cursor.malformed("an input mode"))
}

pub(super) fn put_optional_time(out: &mut Vec<u8>, time: Option<Micros>) {
    out.push(u8::from(time.is_some()));
    if let Some(time) = time {
        varint::put_signed(out, time.0);
    }
}

pub(super) fn read_optional_time(cursor: &mut Cursor<'_>) -> Result<Option<Micros>, Malformed> {
    if cursor.flag()? { Ok(Some(Micros(cursor.signed()?))) } else { Ok(None) }
}

pub(super) fn put_reason(out: &mut Vec<u8>, reason: Reason) {
    let (code, cause) = reason_code(reason);
    out.push(code);
    if let Some(cause) = cause {
        out.push(cause as u8);
    }
}

pub(super) fn read_reason(cursor: &mut Cursor<'_>) -> Result<Reason, Malformed> {
    let code = cursor.byte()?;
    if code == REASON_REJECTED {
        return Ok(Reason::Rejected(read_cause(cursor)?));
    }
    let known = REASONS.iter().find(|(known, _)| *known == code);
    known.map(|(_, reason)| *reason).ok_or_else(|| cursor.malformed("a reason"))
}

pub(super) fn read_cause(cursor: &mut Cursor<'_>) -> Result<Cause, Malformed> {
    let code = cursor.byte()?;
    Cause::from_code(code).ok_or_else(|| cursor.malformed("a cause"))
}
