//! One router's state as bytes: a head of what rows cannot say, and the table as blocks of rows.
//!
//! In:   a `RouterState`; or the bytes of a record, taken for hostile.
//! Out:  the other of the two.
//! Law:  a state read back answers, and goes on, as the one that was written.
//! Not:  where the record lies and what it includes (`directory`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::builder::BlockBuilder;
use super::super::decode::{decode, read_all};
use super::super::dictionary::Numbers;
use super::super::layout::{HEADER_BYTES, Header};
use super::super::read::Filter;
use super::super::session::{
    put_interfaces, put_optional_time, put_peer, put_reason, read_addresses, read_interfaces,
    read_mode, read_optional_time, read_peer, read_reason,
};
use super::super::value::{put_key, read_address, read_key};
use super::super::varint::{self, Cursor, Malformed};
use crate::gaps::Doubts;
use crate::mapping::{Key, RouterId};
use crate::router::{EndedSession, OpenGap, OpenSession, RouterState};
use crate::row::{Position, Row};
use crate::table::Proofs;
use crate::time::Micros;

/// Rows of one block: a reader holds the rows of one at a time.
pub(super) const BLOCK_ROWS_MAX: usize = 16_384;

/// Appends the record of a state; returns the length of its head. Of the table only what the log
/// says too is kept: a snapshot under way is not.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    builder: &mut BlockBuilder,
    state: &RouterState,
) -> u64 {
    let mut addresses = Numbers::new();
    let mut fields = Vec::new();
    put_fields(&mut fields, &mut addresses, state);
    let mut head = Vec::with_capacity(fields.len() + addresses.bytes().len() + 4);
    varint::put_bytes(&mut head, addresses.bytes());
    head.extend_from_slice(&fields);
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc_fast::crc32_iscsi(&head).to_le_bytes());
    out.extend_from_slice(&head);
    let head_bytes = (2 * size_of::<u32>() + head.len()) as u64;
    state.table.condense(&mut |stamp, mapping| {
        builder.change(stamp, mapping);
        if builder.rows() >= BLOCK_ROWS_MAX {
            builder.finish(out);
        }
    });
    builder.finish(out);
    head_bytes
}

fn put_fields(out: &mut Vec<u8>, addresses: &mut Numbers, state: &RouterState) {
    for position in [state.position.generation, state.position.index] {
        varint::put(out, u64::from(position));
    }
    varint::put(out, state.position.sequence);
    varint::put(out, state.sequence_last);
    varint::put(out, u64::from(state.boot_generation));
    varint::put(out, u64::from(state.configured));
    varint::put(out, state.table.len() as u64);
    varint::put(out, state.table.prune_at() as u64);
    for time in [state.boot_time, state.last_evidence, state.complete, state.not_before] {
        put_optional_time(out, time);
    }
    put_optional_gap(out, state.gaps.router);
    varint::put(out, state.gaps.keys.len() as u64);
    for (key, gap) in &state.gaps.keys {
        put_key(out, addresses, key);
        put_gap(out, gap);
    }
    varint::put(out, state.table.doubted().len() as u64);
    state.table.doubted().for_each(|key| put_key(out, addresses, key));
    out.push(u8::from(state.session.is_some()));
    if let Some(session) = &state.session {
        put_peer(out, addresses, &session.peer);
        out.push(session.mode as u8);
        out.push(u8::from(session.permanent));
        varint::put_signed(out, session.begun.0);
        varint::put_bytes(out, session.agent.as_bytes());
    }
    out.push(u8::from(state.ended.is_some()));
    if let Some(ended) = &state.ended {
        varint::put_signed(out, ended.time.0);
        put_reason(out, ended.reason);
    }
    varint::put_bytes(out, state.name.as_bytes());
    // Where version 1 had the addresses of the interfaces, and then its end.
    put_interfaces(out, addresses, &[]);
    put_interfaces(out, addresses, &[]);
    put_interfaces(out, addresses, &state.interfaces_configured);
    put_interfaces(out, addresses, &state.interfaces_announced);
    out.push(u8::from(state.skew_us.is_some()));
    if let Some(skew_us) = state.skew_us {
        varint::put_signed(out, skew_us);
    }
    let Proofs { lacked, shown, others } = state.table.proofs();
    put_optional_time(out, *lacked);
    put_optional_time(out, *shown);
    varint::put(out, others.len() as u64);
    for (key, earlier) in others {
        put_key(out, addresses, key);
        put_optional_time(out, *earlier);
    }
    put_optional_gap(out, state.gaps.rest);
    out.push(u8::from(state.gaps.snapshot.is_some()));
    if let Some(snapshot) = &state.gaps.snapshot {
        varint::put_signed(out, snapshot.begun.0);
        put_optional_gap(out, snapshot.router);
        put_optional_gap(out, snapshot.rest);
        varint::put(out, snapshot.keys.len() as u64);
        snapshot.keys.iter().for_each(|key| put_key(out, addresses, key));
    }
}

fn put_optional_gap(out: &mut Vec<u8>, gap: Option<OpenGap>) {
    out.push(u8::from(gap.is_some()));
    if let Some(gap) = &gap {
        put_gap(out, gap);
    }
}

fn put_gap(out: &mut Vec<u8>, gap: &OpenGap) {
    varint::put_signed(out, gap.start.0);
    put_reason(out, gap.reason);
}

/// The state that the head of a record says: all but the table.
pub(super) fn read_head(bytes: &[u8], router: RouterId) -> Result<RouterState, Malformed> {
    Ok(take_head(&mut Cursor::new("record", bytes), router)?.state)
}

/// The state that a whole record says.
pub(super) fn read_record(bytes: &[u8], router: RouterId) -> Result<RouterState, Malformed> {
    let mut record = Cursor::new("record", bytes);
    let Head { mut state, entries, doubted, prune_at } = take_head(&mut record, router)?;
    let proofs = state.table.proofs().clone();
    state.table.set_proofs(Proofs::default());
    state.table.set_prune_at(usize::MAX);
    let mut rows = Vec::new();
    while !record.is_done() {
        read_block(&mut record, &mut rows)?;
        for row in rows.drain(..) {
            let Row::Change(change) = row else { continue };
            if change.stamp.router != router {
                return Err(record.malformed("rows of the record's router"));
            }
            state.table.replay(&change.stamp, &change.mapping);
        }
    }
    if state.table.len() != entries {
        return Err(record.malformed("as many entries as the head counts"));
    }
    doubted.iter().for_each(|key| state.table.doubt(key));
    state.table.set_proofs(proofs);
    state.table.set_prune_at(prune_at);
    Ok(state)
}

fn read_block(record: &mut Cursor<'_>, rows: &mut Vec<Row>) -> Result<(), Malformed> {
    let header: [u8; HEADER_BYTES] = record.array()?;
    let Ok(header) = Header::from_bytes(&header) else {
        return Err(record.malformed("the header of a block"));
    };
    let Ok(payload_bytes) = usize::try_from(header.payload_bytes) else {
        return Err(record.malformed("a payload that fits"));
    };
    let payload = record.take(payload_bytes)?;
    if crc_fast::crc32_iscsi(payload) != header.payload_crc {
        return Err(record.malformed("a payload with this checksum"));
    }
    decode(&header, payload, &Filter { changes: true, ..Filter::NONE }, rows).map(|_| ())
}

/// What a record says besides its rows.
struct Head {
    /// With an empty table.
    state: RouterState,
    entries: usize,
    doubted: Vec<Key>,
    prune_at: usize,
}

fn take_head(record: &mut Cursor<'_>, router: RouterId) -> Result<Head, Malformed> {
    let head_bytes = u32::from_le_bytes(record.array()?) as usize;
    let crc = u32::from_le_bytes(record.array()?);
    let head = record.take(head_bytes)?;
    if crc_fast::crc32_iscsi(head) != crc {
        return Err(record.malformed("a head with this checksum"));
    }
    read_fields(head, router)
}

fn read_fields(head: &[u8], router: RouterId) -> Result<Head, Malformed> {
    let mut cursor = Cursor::new("head", head);
    let dictionary_bytes = cursor.index()?;
    let dictionary = cursor.take(dictionary_bytes)?;
    let addresses = read_all(Cursor::new("addresses", dictionary), read_address)?;
    let cursor = &mut cursor;
    let mut state = RouterState::new(router);
    let (generation, index) = (cursor.unsigned32()?, cursor.unsigned32()?);
    state.position = Position { generation, sequence: cursor.unsigned()?, index };
    state.sequence_last = cursor.unsigned()?;
    state.boot_generation = cursor.unsigned32()?;
    state.configured = cursor.unsigned32()?;
    let (entries, prune_at) = (cursor.index()?, cursor.index()?);
    state.boot_time = read_optional_time(cursor)?;
    state.last_evidence = read_optional_time(cursor)?;
    state.complete = read_optional_time(cursor)?;
    state.not_before = read_optional_time(cursor)?;
    // The last that a state is certain of.
    state.counted = state.complete;
    state.gaps.router = read_optional_gap(cursor)?;
    for _ in 0..cursor.unsigned()? {
        let key = read_key(cursor, &addresses)?;
        state.gaps.keys.insert(key, read_gap(cursor)?);
    }
    let mut doubted = Vec::new();
    for _ in 0..cursor.unsigned()? {
        doubted.push(read_key(cursor, &addresses)?);
    }
    if cursor.flag()? {
        state.session = Some(OpenSession {
            peer: read_peer(cursor, &addresses)?,
            mode: read_mode(cursor)?,
            permanent: cursor.flag()?,
            begun: Micros(cursor.signed()?),
            agent: cursor.text()?.into(),
        });
    }
    if cursor.flag()? {
        let time = Micros(cursor.signed()?);
        state.ended = Some(EndedSession { time, reason: read_reason(cursor)? });
    }
    state.name = cursor.text()?.into();
    state.interfaces_configured = read_addresses(cursor, &addresses)?;
    state.interfaces_announced = read_addresses(cursor, &addresses)?;
    match cursor.is_done() {
        // A head of version 1.
        true => {
            let (lacked, shown, others) = (state.complete, state.complete, BTreeMap::new());
            state.table.set_proofs(Proofs { lacked, shown, others });
        }
        false => read_fields_behind(cursor, &addresses, &mut state)?,
    }
    state.count_interfaces();
    cursor.finish()?;
    Ok(Head { state, entries, doubted, prune_at })
}

/// What version 2 added.
fn read_fields_behind(
    cursor: &mut Cursor<'_>,
    addresses: &[IpAddr],
    state: &mut RouterState,
) -> Result<(), Malformed> {
    state.interfaces_configured = read_interfaces(cursor, addresses)?;
    state.interfaces_announced = read_interfaces(cursor, addresses)?;
    state.skew_us = if cursor.flag()? { Some(cursor.signed()?) } else { None };
    let (lacked, shown) = (read_optional_time(cursor)?, read_optional_time(cursor)?);
    let mut others = BTreeMap::new();
    for _ in 0..cursor.unsigned()? {
        let key = read_key(cursor, addresses)?;
        others.insert(key, read_optional_time(cursor)?);
    }
    state.table.set_proofs(Proofs { lacked, shown, others });
    state.gaps.rest = read_optional_gap(cursor)?;
    if !cursor.flag()? {
        return Ok(());
    }
    let mut snapshot = Doubts::since(Micros(cursor.signed()?));
    snapshot.router = read_optional_gap(cursor)?;
    snapshot.rest = read_optional_gap(cursor)?;
    for _ in 0..cursor.unsigned()? {
        snapshot.keys.insert(read_key(cursor, addresses)?);
    }
    state.gaps.snapshot = Some(snapshot);
    Ok(())
}

fn read_optional_gap(cursor: &mut Cursor<'_>) -> Result<Option<OpenGap>, Malformed> {
    if cursor.flag()? { read_gap(cursor).map(Some) } else { Ok(None) }
}

fn read_gap(cursor: &mut Cursor<'_>) -> Result<OpenGap, Malformed> {
    Ok(OpenGap { start: Micros(cursor.signed()?), reason: read_reason(cursor)? })
}
