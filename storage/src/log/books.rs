//! Ledger rows and kernel rows as bytes, one behind the other.
//!
//! In:   such rows, or the bytes of their section and the block's dictionaries.
//! Out:  the other of the two.
//! Law:  the numbers are kept one by one, never derived, so that `verify` can find them wrong.
//! Not:  when the books are closed (the engine's shard).

use std::net::IpAddr;

use super::dictionary::Numbers;
use super::session::read_cause;
use super::value::{intern_address, put_time, read_time};
use super::varint::{self, Cursor, Malformed};
use crate::mapping::RouterId;
use crate::row::{KernelRow, LedgerRow};
use crate::time::Micros;

/// Appends a row. `time_previous` is the time of the ledger row before it in the block, or 0.
pub(super) fn put_ledger(
    out: &mut Vec<u8>,
    routers: &mut Numbers,
    row: &LedgerRow,
    time_previous: Micros,
) {
    // 0 says that no router is known.
    let router = row.router.map_or(0, |router| intern_address(routers, router.0) as u64 + 1);
    varint::put(out, router);
    varint::put(out, u64::from(row.generation));
    put_time(out, row.time, time_previous);
    varint::put(out, row.sequence_last);
    varint::put(out, row.bytes_read);
    // What usually equals the number before it is written as the distance from it: one byte.
    put_distance(out, row.bytes_framed, row.bytes_read);
    varint::put(out, row.mappings_framed);
    put_distance(out, row.changes, row.mappings_framed);
    for count in [row.confirmed, row.duplicates, row.derived] {
        varint::put(out, count);
    }
    varint::put(out, row.rejected.len() as u64);
    for (cause, bytes, mappings) in &row.rejected {
        out.push(*cause as u8);
        varint::put(out, *bytes);
        varint::put(out, *mappings);
    }
}

/// Reads the row that `put_ledger` wrote.
pub(super) fn read_ledger(
    cursor: &mut Cursor<'_>,
    routers: &[IpAddr],
    time_previous: Micros,
) -> Result<LedgerRow, Malformed> {
    let router = match cursor.index()?.checked_sub(1) {
        None => None,
        Some(number) => match routers.get(number) {
            Some(address) => Some(RouterId(*address)),
            None => return Err(cursor.malformed("a number of a router")),
        },
    };
    let generation = cursor.unsigned32()?;
    let time = read_time(cursor, time_previous)?;
    let sequence_last = cursor.unsigned()?;
    let bytes_read = cursor.unsigned()?;
    let bytes_framed = read_distance(cursor, bytes_read)?;
    let mappings_framed = cursor.unsigned()?;
    let changes = read_distance(cursor, mappings_framed)?;
    let confirmed = cursor.unsigned()?;
    let duplicates = cursor.unsigned()?;
    let derived = cursor.unsigned()?;
    let causes = cursor.index()?;
    if causes > cursor.left() {
        return Err(cursor.malformed("as many causes as bytes at most"));
    }
    let mut rejected = Vec::with_capacity(causes);
    for _ in 0..causes {
        rejected.push((read_cause(cursor)?, cursor.unsigned()?, cursor.unsigned()?));
    }
    Ok(LedgerRow {
        router,
        generation,
        time,
        sequence_last,
        bytes_read,
        bytes_framed,
        mappings_framed,
        changes,
        confirmed,
        duplicates,
        derived,
        rejected,
    })
}

/// Appends a row; its counter's name is in the dictionary of texts.
pub(super) fn put_kernel(
    out: &mut Vec<u8>,
    text_number: usize,
    row: &KernelRow,
    time_previous: Micros,
) {
    put_time(out, row.time, time_previous);
    varint::put(out, text_number as u64);
    varint::put(out, row.value);
}

/// Reads the row that `put_kernel` wrote.
pub(super) fn read_kernel(
    cursor: &mut Cursor<'_>,
    texts: &[&str],
    time_previous: Micros,
) -> Result<KernelRow, Malformed> {
    let time = read_time(cursor, time_previous)?;
    let number = cursor.index()?;
    let Some(counter) = texts.get(number) else {
        return Err(cursor.malformed("a number of a text"));
    };
    Ok(KernelRow { time, counter: (*counter).into(), value: cursor.unsigned()? })
}

fn put_distance(out: &mut Vec<u8>, value: u64, base: u64) {
    varint::put_signed(out, value.wrapping_sub(base).cast_signed());
}

fn read_distance(cursor: &mut Cursor<'_>, base: u64) -> Result<u64, Malformed> {
    Ok(base.wrapping_add(cursor.signed()?.cast_unsigned()))
}
