//! Reads blocks: one payload in, its rows out. Every byte is taken for hostile.
//!
//! In:   a header whose checksum holds, and the payload that it announces.
//! Out:  the rows that a filter asks for, changes first, then sessions, ledger, kernel.
//! Law:  never panics and never allocates more than a fixed multiple of the payload.
//! Not:  where blocks begin and which are whole (`scan`).

use std::net::IpAddr;

use super::books::{read_kernel, read_ledger};
use super::form::{
    BRANCHES_IN_DICTIONARY, FEC_IN_DICTIONARY, Form, HopReader, SPACE_INTERFACE, SPACE_PLATFORM,
    SPACE_SERVICE, SPACE_TABLE, SPACE_UNTAGGED, read_prefix,
};
use super::layout::{Header, Section, VERSION, VERSION_WITH_SHAPES, VERSION_WITHOUT_FORMS};
use super::read::Filter;
use super::session::read_session;
use super::sparse::SparseReader;
use super::value::{
    read_address, read_address_number, read_branches, read_fec, read_table, read_time,
};
use super::varint::{Cursor, Malformed};
use crate::allowance::Allowance;
use crate::mapping::{Branches, Fec, Ingress, Label, Mapping, Origin, RouterId};
use crate::row::{Basis, Change, Flags, Position, Row, Stamp};
use crate::time::Micros;

/// Appends the rows of a block that the filter asks for; returns what they hold beyond their own
/// size.
///
/// Everything is checked, also what the filter passes over within a kind of rows that it asks for.
/// It stops with the first change row that would not fit into the filter's allowance: whoever asks
/// the allowance for what the rows take is refused then.
pub(super) fn decode(
    header: &Header,
    payload: &[u8],
    filter: &Filter,
    rows: &mut Vec<Row>,
) -> Result<u64, Malformed> {
    let sections = match header.version {
        VERSION | VERSION_WITH_SHAPES => split(payload, Section::COUNT)?,
        VERSION_WITHOUT_FORMS => split(payload, Section::COUNT_WITHOUT_FORMS)?,
        _ => return Err(Cursor::new("header", &[]).malformed("a version that is known here")),
    };
    let cursor = |section: Section| Cursor::new(section.name(), sections[section as usize]);
    let routers = read_all(cursor(Section::Routers), read_address)?;
    let mut beyond_bytes = 0;
    if !filter.wants_some(&routers) {
        return Ok(beyond_bytes);
    }
    let addresses = read_all(cursor(Section::Addresses), read_address)?;
    if filter.changes {
        let forms = match header.version {
            VERSION_WITHOUT_FORMS => None,
            VERSION_WITH_SHAPES => Some(read_all(cursor(Section::Forms), Form::read_three)?),
            _ => Some(read_all(cursor(Section::Forms), Form::read)?),
        };
        let mut changes = ChangeReader::new(&sections, forms, &routers, &addresses)?;
        let room_bytes = filter.allowance.map_or(u64::MAX, Allowance::room_bytes);
        let had_room = rows.capacity();
        for _ in 0..header.change_rows {
            let Some(change) = changes.next(filter)? else { continue };
            beyond_bytes += change.mapping.beyond_bytes() as u64;
            rows.push(Row::Change(change));
            let grown = rows.len().saturating_sub(had_room);
            let bytes = (grown * GROWING_ROW_BYTES) as u64 + beyond_bytes;
            if bytes > room_bytes {
                return Ok(bytes);
            }
        }
        changes.finish()?;
    }
    if filter.sessions {
        let mut cursor = cursor(Section::Sessions);
        let mut time = Micros(0);
        for _ in 0..header.session_rows {
            let row = read_session(&mut cursor, &routers, &addresses, time)?;
            time = row.time;
            if filter.wants(Some(row.router)) {
                rows.push(Row::Session(row));
            }
        }
        cursor.finish()?;
    }
    if filter.ledger {
        let mut cursor = cursor(Section::Ledger);
        let mut time = Micros(0);
        for _ in 0..header.ledger_rows {
            let row = read_ledger(&mut cursor, &routers, time)?;
            time = row.time;
            if filter.wants(row.router) {
                rows.push(Row::Ledger(row));
            }
        }
        cursor.finish()?;
    }
    if filter.kernel && filter.wants_unnamed() {
        let texts = read_all(cursor(Section::Texts), Cursor::text)?;
        let mut cursor = cursor(Section::Kernel);
        let mut time = Micros(0);
        for _ in 0..header.kernel_rows {
            let row = read_kernel(&mut cursor, &texts, time)?;
            time = row.time;
            rows.push(Row::Kernel(row));
        }
        cursor.finish()?;
    }
    Ok(beyond_bytes)
}

/// What a row takes in a vector that grows: its place, and as much spare.
const GROWING_ROW_BYTES: usize = 2 * size_of::<Row>();

/// The routers that a block has rows of.
pub(super) fn block_routers(header: &Header, payload: &[u8]) -> Result<Vec<IpAddr>, Malformed> {
    let count = match header.version {
        VERSION_WITHOUT_FORMS => Section::COUNT_WITHOUT_FORMS,
        _ => Section::COUNT,
    };
    let routers = split(payload, count)?[Section::Routers as usize];
    read_all(Cursor::new(Section::Routers.name(), routers), read_address)
}

/// The first `count` sections of a payload: their lengths come first and must fill it to the byte.
fn split(payload: &[u8], count: usize) -> Result<[&[u8]; Section::COUNT], Malformed> {
    let mut cursor = Cursor::new("lengths", payload);
    let mut lengths = [0; Section::COUNT];
    for length in lengths.iter_mut().take(count) {
        *length = cursor.index()?;
    }
    let mut sections = [&[][..]; Section::COUNT];
    for (section, length) in sections.iter_mut().zip(lengths) {
        *section = cursor.take(length)?;
    }
    cursor.finish()?;
    Ok(sections)
}

/// All entries of a dictionary. Each takes at least one byte, which bounds their number.
pub(super) fn read_all<'a, T>(
    mut cursor: Cursor<'a>,
    mut read: impl FnMut(&mut Cursor<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut entries = Vec::new();
    while !cursor.is_done() {
        entries.push(read(&mut cursor)?);
    }
    Ok(entries)
}

/// What the rows of a run share.
#[derive(Clone, Copy)]
struct Run {
    router: RouterId,
    position: Position,
    collection_time: Micros,
    basis: Basis,
    not_before: Option<Micros>,
    rows_left: u32,
}

/// Reads the columns of the change rows side by side.
struct ChangeReader<'a> {
    routers: &'a [IpAddr],
    addresses: &'a [IpAddr],
    fecs: Entries<'a, Fec>,
    branches: Entries<'a, Branches>,
    texts: Vec<&'a str>,
    row: u32,
    run: Option<Run>,
    runs: Cursor<'a>,
    collection_previous: Micros,
    /// `None` = a block without forms.
    forms: Option<Vec<Form>>,
    shapes: Cursor<'a>,
    prefixes: Cursor<'a>,
    hops: HopReader<'a>,
    effective_times: Cursor<'a>,
    effective_previous: Micros,
    labels: Cursor<'a>,
    label_previous: i64,
    upstreams: Cursor<'a>,
    index_jumps: SparseReader<'a>,
    event_offsets: SparseReader<'a>,
    flag_sets: SparseReader<'a>,
    extras: SparseReader<'a>,
}

impl<'a> ChangeReader<'a> {
    fn new(
        sections: &[&'a [u8]; Section::COUNT],
        forms: Option<Vec<Form>>,
        routers: &'a [IpAddr],
        addresses: &'a [IpAddr],
    ) -> Result<Self, Malformed> {
        let cursor = |section: Section| Cursor::new(section.name(), sections[section as usize]);
        let sparse =
            |section: Section| SparseReader::new(section.name(), sections[section as usize]);
        let fecs = read_all(cursor(Section::Fecs), |cursor| read_fec(cursor, addresses))?;
        let branches =
            read_all(cursor(Section::Branches), |cursor| read_branches(cursor, addresses))?;
        Ok(ChangeReader {
            routers,
            addresses,
            fecs: Entries::new(fecs, cursor(Section::FecReferences)),
            branches: Entries::new(branches, cursor(Section::BranchReferences)),
            texts: read_all(cursor(Section::Texts), Cursor::text)?,
            row: 0,
            run: None,
            runs: cursor(Section::Runs),
            collection_previous: Micros(0),
            forms,
            shapes: cursor(Section::Shapes),
            prefixes: cursor(Section::Prefixes),
            hops: HopReader::new(cursor(Section::Hops), addresses),
            effective_times: cursor(Section::EffectiveTimes),
            effective_previous: Micros(0),
            labels: cursor(Section::Labels),
            label_previous: 0,
            upstreams: cursor(Section::Upstreams),
            index_jumps: sparse(Section::IndexJumps)?,
            event_offsets: sparse(Section::EventOffsets)?,
            flag_sets: sparse(Section::FlagSets)?,
            extras: sparse(Section::Extras)?,
        })
    }

    /// The next change row; `None` when the filter passes over it.
    fn next(&mut self, filter: &Filter) -> Result<Option<Change>, Malformed> {
        let row = self.row;
        self.row += 1;
        let run = self.next_run()?;
        let form = self.next_form()?;
        let Form { kind, operation, time_source, space, .. } = form;
        let effective_time = read_time(&mut self.effective_times, self.effective_previous)?;
        self.effective_previous = effective_time;
        let ingress = self.next_ingress(space)?;
        let event_time = self
            .event_offsets
            .at(row, |cursor| read_time(cursor, effective_time))?
            .unwrap_or(effective_time);
        let flags = Flags(self.flag_sets.at(row, Cursor::byte)?.unwrap_or(0));
        let texts = &self.texts;
        let extra = self.extras.at(row, |cursor| {
            let number = cursor.index()?;
            texts.get(number).copied().ok_or_else(|| cursor.malformed("a number of a text"))
        })?;
        let fec = match form.fec {
            FEC_IN_DICTIONARY => *self.fecs.next()?,
            length => read_prefix(&mut self.prefixes, length)?,
        };
        let branches = match form.branches {
            BRANCHES_IN_DICTIONARY => self.branches.next()?.clone(),
            count => self.hops.read(count)?,
        };
        let too_late = filter.until_effective.is_some_and(|until| effective_time > until);
        if too_late || !filter.wants(Some(run.router)) {
            return Ok(None);
        }
        let stamp = Stamp {
            router: run.router,
            position: run.position,
            kind,
            basis: run.basis,
            not_before: run.not_before,
            effective_time,
            collection_time: run.collection_time,
            flags,
        };
        let mapping = Mapping {
            fec,
            ingress,
            operation,
            branches,
            event_time,
            time_source,
            extra: extra.map(Into::into),
        };
        Ok(Some(Change { stamp, mapping }))
    }

    fn next_form(&mut self) -> Result<Form, Malformed> {
        let Some(forms) = &self.forms else {
            let form = Form::of_shape(self.shapes.byte()?);
            return form.ok_or_else(|| self.shapes.malformed("a shape below 200"));
        };
        let number = self.shapes.index()?;
        forms.get(number).copied().ok_or_else(|| self.shapes.malformed("a number of a form"))
    }

    /// The run of this row; its position is the row's.
    fn next_run(&mut self) -> Result<Run, Malformed> {
        let row = self.row - 1;
        if let Some(run) = self.run.as_mut().filter(|run| run.rows_left > 0) {
            run.rows_left -= 1;
            let jump = self.index_jumps.at(row, Cursor::signed)?.unwrap_or(0);
            let due = i64::from(run.position.index.wrapping_add(1));
            let index = due.checked_add(jump).and_then(|index| u32::try_from(index).ok());
            let Some(index) = index else { return Err(self.runs.malformed("an index of 32 bits")) };
            run.position.index = index;
            return Ok(*run);
        }
        let cursor = &mut self.runs;
        let router = RouterId(read_address_number(cursor, self.routers)?);
        let Some(rows_left) = cursor.unsigned32()?.checked_sub(1) else {
            return Err(cursor.malformed("a run of at least one row"));
        };
        let position = Position {
            generation: cursor.unsigned32()?,
            sequence: cursor.unsigned()?,
            index: cursor.unsigned32()?,
        };
        let collection_time = read_time(cursor, self.collection_previous)?;
        self.collection_previous = collection_time;
        let code = cursor.byte()?;
        let Some(basis) = Basis::ALL.get(usize::from(code >> 1)).copied() else {
            return Err(cursor.malformed("a basis"));
        };
        let not_before =
            if code & 1 == 1 { Some(read_time(cursor, collection_time)?) } else { None };
        let run = Run { router, position, collection_time, basis, not_before, rows_left };
        self.run = Some(run);
        Ok(run)
    }

    fn next_ingress(&mut self, space: u8) -> Result<Ingress, Malformed> {
        let origin = match space {
            SPACE_UNTAGGED => return Ok(Ingress::UNTAGGED),
            SPACE_SERVICE => Origin::Service,
            SPACE_PLATFORM => Origin::Platform,
            SPACE_INTERFACE => Origin::Interface(RouterId(read_address_number(
                &mut self.upstreams,
                self.addresses,
            )?)),
            SPACE_TABLE => read_table(&mut self.upstreams)?,
            _ => return Err(self.shapes.malformed("a label space")),
        };
        let value = self.labels.signed()?.wrapping_add(self.label_previous);
        let Some(label) = u32::try_from(value).ok().and_then(Label::new) else {
            return Err(self.labels.malformed("a label of 20 bits"));
        };
        self.label_previous = value;
        Ok(Ingress { label: Some(label), origin })
    }

    /// Every column must have been read to its end.
    fn finish(&self) -> Result<(), Malformed> {
        for cursor in [
            &self.runs,
            &self.shapes,
            &self.effective_times,
            &self.labels,
            &self.upstreams,
            &self.prefixes,
        ] {
            cursor.finish()?;
        }
        self.hops.finish()?;
        for column in [&self.index_jumps, &self.event_offsets, &self.flag_sets, &self.extras] {
            column.finish()?;
        }
        if self.run.is_some_and(|run| run.rows_left > 0) {
            return Err(self.runs.malformed("as many rows as the header counts"));
        }
        self.fecs.finish()?;
        self.branches.finish()
    }
}

/// A dictionary and the column that refers to it.
struct Entries<'a, T> {
    entries: Vec<T>,
    /// How many entries the rows so far have introduced.
    seen: usize,
    references: Cursor<'a>,
}

impl<'a, T> Entries<'a, T> {
    fn new(entries: Vec<T>, references: Cursor<'a>) -> Self {
        Entries { entries, seen: 0, references }
    }

    /// The entry of the next row: 0 = the next new one, otherwise so many before it.
    fn next(&mut self) -> Result<&T, Malformed> {
        let back = self.references.index()?;
        let Some(number) = self.seen.checked_sub(back) else {
            return Err(self.references.malformed("an entry that is there already"));
        };
        if back == 0 {
            self.seen += 1;
        }
        self.entries.get(number).ok_or_else(|| self.references.malformed("a number of an entry"))
    }

    fn finish(&self) -> Result<(), Malformed> {
        self.references.finish()?;
        if self.seen == self.entries.len() {
            Ok(())
        } else {
            Err(self.references.malformed("every entry to be used"))
        }
    }
}
