//! The directory of a state file: what its round found covered, and where each router's state is.
//!
//! In:   the files and routers of a round; or the end of a state file, taken for hostile.
//! Out:  the other of the two.
//! Law:  a directory counts only when its checksum and its trailer's hold.
//! Not:  the states themselves (`record`), how directories add up (`chain`).

use super::super::decode::read_all;
use super::super::value::{intern_address, put_time, read_address, read_address_number, read_time};
use super::super::varint::{self, Cursor, Malformed};
use super::super::{dictionary::Numbers, layout};
use crate::mapping::RouterId;
use crate::time::{Hour, Micros};

/// How much of one log file the states include.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Collection hour of the file.
    pub hour: Hour,
    /// Shard of the file.
    pub shard: u16,
    /// (round, bytes from the beginning that were covered after it), rising.
    pub covered: Vec<(u32, u64)>,
    /// No row of the covered part has a time before this one.
    pub time_min: Micros,
}

impl FileEntry {
    /// Bytes that were covered after this round.
    pub fn covered_after(&self, round: u32) -> u64 {
        let covered = self.covered.iter().rev().find(|(at, _)| *at <= round);
        covered.map_or(0, |(_, bytes)| *bytes)
    }

    /// Bytes that are covered.
    pub fn covered(&self) -> u64 {
        self.covered.last().map_or(0, |(_, bytes)| *bytes)
    }
}

/// Where a router's state lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRef {
    /// Number of the state file: the state includes what was covered after that round.
    pub round: u32,
    /// Newest hour that was covered then.
    pub hour: Hour,
    /// First byte of the record in the file.
    pub offset: u64,
    /// Bytes of the record.
    pub bytes: u64,
    /// Bytes of its head: everything but the table.
    pub head_bytes: u64,
    /// Entries of the table.
    pub entries: u64,
    /// No row that the state includes has a time behind this one: it may stand for this instant.
    pub time_max: Micros,
    /// When the collector wrote the last row that it includes.
    pub time: Micros,
    /// In which shard's file that row is.
    pub shard: u16,
    /// The latest session of which it includes a row.
    pub generation: u32,
}

/// What the states know of one router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterEntry {
    /// Its newest state; `None` = its rows so far were too few.
    pub state: Option<StateRef>,
    /// Rows in the covered part of the log that the state lacks.
    pub rows_since: u64,
    /// The round that covered the first of them, and its newest hour; 0 = there are none.
    pub since: Option<(u32, Hour)>,
}

/// What one round has to say: all there is (`previous` 0), or what has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Number of the round, from 1.
    pub(crate) round: u32,
    /// The round that this one builds on; 0 = none: the directory is complete.
    pub(crate) previous: u32,
    /// Newest hour covered.
    pub(crate) hour: Hour,
    /// What was before this hour is not kept, and answers unknown.
    pub(crate) horizon: Hour,
    /// The log before this hour is gone, or goes now.
    pub(crate) kept_from: Hour,
    /// Log files.
    pub(crate) files: Vec<FileEntry>,
    /// Routers.
    pub(crate) routers: Vec<(RouterId, RouterEntry)>,
}

/// Appends directory and trailer behind `offset` bytes of records.
pub(super) fn put_directory(out: &mut Vec<u8>, offset: u64, directory: &Directory) {
    let start = out.len();
    let mut addresses = Numbers::new();
    let mut fields = Vec::new();
    put_fields(&mut fields, &mut addresses, directory);
    varint::put_bytes(out, addresses.bytes());
    out.extend_from_slice(&fields);
    let bytes = (out.len() - start) as u64;
    let crc = crc_fast::crc32_iscsi(&out[start..]);
    let mut trailer = [0; layout::STATE_TRAILER_BYTES];
    trailer[..8].copy_from_slice(&offset.to_le_bytes());
    trailer[8..16].copy_from_slice(&bytes.to_le_bytes());
    trailer[16..20].copy_from_slice(&crc.to_le_bytes());
    trailer[20..22].copy_from_slice(&layout::STATE_VERSION.to_le_bytes());
    trailer[24..32].copy_from_slice(&layout::STATE_MAGIC);
    let crc = crc_fast::crc32_iscsi(&trailer[..32]);
    trailer[32..].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&trailer);
}

/// Where a trailer says that the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    crc: u32,
}

/// Reads the last bytes of a state file.
pub(super) fn read_trailer(
    trailer: &[u8; layout::STATE_TRAILER_BYTES],
) -> Result<Trailer, Malformed> {
    let mut cursor = Cursor::new("trailer", trailer);
    let (offset, bytes) =
        (u64::from_le_bytes(cursor.array()?), u64::from_le_bytes(cursor.array()?));
    let crc = u32::from_le_bytes(cursor.array()?);
    let version = u16::from_le_bytes(cursor.array()?);
    cursor.take(2)?;
    if cursor.array::<8>()? != layout::STATE_MAGIC {
        return Err(cursor.malformed("the magic of a state file"));
    }
    if crc_fast::crc32_iscsi(&trailer[..32]) != u32::from_le_bytes(cursor.array()?) {
        return Err(cursor.malformed("a trailer with this checksum"));
    }
    if ![layout::STATE_VERSION, layout::STATE_VERSION_ADDRESSES].contains(&version) {
        return Err(cursor.malformed("the format version of this program"));
    }
    Ok(Trailer { offset, bytes, crc })
}

/// Reads the directory that the trailer announced.
pub(super) fn read_directory(bytes: &[u8], trailer: &Trailer) -> Result<Directory, Malformed> {
    let mut cursor = Cursor::new("directory", bytes);
    if crc_fast::crc32_iscsi(bytes) != trailer.crc {
        return Err(cursor.malformed("a directory with this checksum"));
    }
    let dictionary_bytes = cursor.index()?;
    let dictionary = cursor.take(dictionary_bytes)?;
    let addresses = read_all(Cursor::new("addresses", dictionary), read_address)?;
    let mut directory = Directory {
        round: cursor.unsigned32()?,
        previous: cursor.unsigned32()?,
        hour: Hour(cursor.signed()?),
        horizon: Hour(cursor.signed()?),
        kept_from: Hour(cursor.signed()?),
        ..Directory::default()
    };
    for _ in 0..cursor.unsigned()? {
        directory.files.push(read_file(&mut cursor)?);
    }
    for _ in 0..cursor.unsigned()? {
        let router = RouterId(read_address_number(&mut cursor, &addresses)?);
        directory.routers.push((router, read_router(&mut cursor)?));
    }
    cursor.finish()?;
    Ok(directory)
}

fn put_fields(out: &mut Vec<u8>, addresses: &mut Numbers, directory: &Directory) {
    varint::put(out, u64::from(directory.round));
    varint::put(out, u64::from(directory.previous));
    varint::put_signed(out, directory.hour.0);
    varint::put_signed(out, directory.horizon.0);
    varint::put_signed(out, directory.kept_from.0);
    varint::put(out, directory.files.len() as u64);
    for file in &directory.files {
        varint::put_signed(out, file.hour.0);
        varint::put(out, u64::from(file.shard));
        varint::put(out, file.covered.len() as u64);
        for (round, bytes) in &file.covered {
            varint::put(out, u64::from(*round));
            varint::put(out, *bytes);
        }
        put_time(out, file.time_min, file.hour.start());
    }
    varint::put(out, directory.routers.len() as u64);
    for (router, entry) in &directory.routers {
        varint::put(out, intern_address(addresses, router.0) as u64);
        put_router(out, entry);
    }
}

fn put_router(out: &mut Vec<u8>, entry: &RouterEntry) {
    out.push(u8::from(entry.state.is_some()) + 2 * u8::from(entry.since.is_some()));
    if let Some(state) = &entry.state {
        varint::put(out, u64::from(state.round));
        varint::put_signed(out, state.hour.0);
        varint::put(out, state.offset);
        varint::put(out, state.bytes);
        varint::put(out, state.head_bytes);
        varint::put(out, state.entries);
        varint::put_signed(out, state.time_max.0);
        varint::put_signed(out, state.time_max.0.wrapping_sub(state.time.0));
        varint::put(out, u64::from(state.shard));
        varint::put(out, u64::from(state.generation));
    }
    if let Some((round, hour)) = entry.since {
        varint::put(out, u64::from(round));
        varint::put_signed(out, hour.0);
        varint::put(out, entry.rows_since);
    }
}

fn read_router(cursor: &mut Cursor<'_>) -> Result<RouterEntry, Malformed> {
    let mut entry = RouterEntry::default();
    let parts = cursor.byte()?;
    if parts & 1 != 0 {
        let (round, hour) = (cursor.unsigned32()?, Hour(cursor.signed()?));
        let (offset, bytes) = (cursor.unsigned()?, cursor.unsigned()?);
        let (head_bytes, entries) = (cursor.unsigned()?, cursor.unsigned()?);
        let time_max = Micros(cursor.signed()?);
        let time = Micros(time_max.0.wrapping_sub(cursor.signed()?));
        let (shard, generation) = (read_shard(cursor)?, cursor.unsigned32()?);
        entry.state = Some(StateRef {
            round,
            hour,
            offset,
            bytes,
            head_bytes,
            entries,
            time_max,
            time,
            shard,
            generation,
        });
    }
    if parts & 2 != 0 {
        entry.since = Some((cursor.unsigned32()?, Hour(cursor.signed()?)));
        entry.rows_since = cursor.unsigned()?;
    }
    if parts > 3 {
        return Err(cursor.malformed("the parts of a router's entry"));
    }
    Ok(entry)
}

fn read_file(cursor: &mut Cursor<'_>) -> Result<FileEntry, Malformed> {
    let hour = Hour(cursor.signed()?);
    let shard = read_shard(cursor)?;
    let mut covered = Vec::new();
    for _ in 0..cursor.unsigned()? {
        covered.push((cursor.unsigned32()?, cursor.unsigned()?));
    }
    Ok(FileEntry { hour, shard, covered, time_min: read_time(cursor, hour.start())? })
}

fn read_shard(cursor: &mut Cursor<'_>) -> Result<u16, Malformed> {
    u16::try_from(cursor.unsigned()?).map_err(|_| cursor.malformed("a shard"))
}
