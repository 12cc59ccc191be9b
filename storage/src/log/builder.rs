//! Builds blocks: rows in, column by column, and out as one self-contained run of bytes.
//!
//! In:   rows, in the order in which they are to be committed.
//! Out:  header and payload, appended to the caller's buffer (docs/STORAGE-FORMAT.md).
//! Law:  no allocation per row after warm-up; `decode` gives back the same rows.
//! Not:  when a block is full or due (the engine's shard decides by `rows` and `bytes`).

use super::books::{put_kernel, put_ledger};
use super::dictionary::{Dictionary, Numbers};
use super::form::{
    BRANCHES_IN_DICTIONARY, FEC_IN_DICTIONARY, Form, HopWriter, SPACE_INTERFACE, SPACE_PLATFORM,
    SPACE_SERVICE, SPACE_TABLE, SPACE_UNTAGGED, branches_form, fec_form, put_prefix_octets,
};
use super::layout::{FLAG_ALL_BEFORE_DURABLE, HEADER_BYTES, Header, Section, VERSION};
use super::session::put_session;
use super::sparse::SparseWriter;
use super::value::{intern_address, put_address, put_branches, put_fec, put_time};
use super::varint;
use crate::mapping::{Mapping, Origin, RouterId};
use crate::row::{Basis, ChangeKind, KernelRow, LedgerRow, Position, SessionRow, Stamp};
use crate::time::Micros;

/// Collects rows and turns them into blocks; used again and again.
#[derive(Debug)]
pub struct BlockBuilder {
    shard: u16,
    all_before_durable: bool,
    routers: Numbers,
    addresses: Numbers,
    forms: Numbers,
    fecs: Dictionary,
    branches: Dictionary,
    texts: Dictionary,
    changes: ChangeColumns,
    sessions: RowColumn,
    ledger: RowColumn,
    kernel: RowColumn,
    time_min: Micros,
    time_max: Micros,
    /// An entry of a dictionary before it is interned.
    scratch: Vec<u8>,
}

/// Rows written one behind the other, each time as the distance from the one before.
#[derive(Debug, Default)]
struct RowColumn {
    bytes: Vec<u8>,
    rows: u32,
    time_previous: Micros,
}

/// Columns of the change rows.
#[derive(Debug, Default)]
struct ChangeColumns {
    rows: u32,
    runs: Vec<u8>,
    run: Option<Run>,
    /// Collection time of the run before this one.
    collection_previous: Micros,
    shapes: Vec<u8>,
    effective_times: Vec<u8>,
    effective_previous: Micros,
    labels: Vec<u8>,
    label_previous: i64,
    upstreams: Vec<u8>,
    fec_references: Vec<u8>,
    branch_references: Vec<u8>,
    prefixes: Vec<u8>,
    hops: HopWriter,
    index_jumps: SparseWriter,
    event_offsets: SparseWriter,
    flag_sets: SparseWriter,
    extras: SparseWriter,
}

/// Change rows that share everything that their frame gave them.
#[derive(Clone, Copy, Debug)]
struct Run {
    router: RouterId,
    router_number: usize,
    first: Position,
    collection_time: Micros,
    basis: Basis,
    not_before: Option<Micros>,
    rows: u32,
    /// Index of the next row, as it would be without a jump.
    index_due: u32,
}

impl Run {
    fn holds(&self, stamp: &Stamp) -> bool {
        self.router == stamp.router
            && self.first.sequence == stamp.position.sequence
            && self.first.generation == stamp.position.generation
            && self.collection_time == stamp.collection_time
            && self.basis == stamp.basis
            && self.not_before == stamp.not_before
    }
}

impl BlockBuilder {
    /// A builder for the blocks of one shard.
    pub fn new(shard: u16) -> Self {
        BlockBuilder {
            shard,
            all_before_durable: false,
            routers: Numbers::new(),
            addresses: Numbers::new(),
            forms: Numbers::new(),
            fecs: Dictionary::new(),
            branches: Dictionary::new(),
            texts: Dictionary::new(),
            changes: ChangeColumns::default(),
            sessions: RowColumn::default(),
            ledger: RowColumn::default(),
            kernel: RowColumn::default(),
            time_min: Micros(i64::MAX),
            time_max: Micros(i64::MIN),
            scratch: Vec::new(),
        }
    }

    /// Says that when the next block is written, every byte before it is durable: it begins a
    /// commit.
    ///
    /// The block carries it as a flag. Recovery tells by it a hole that a power loss left in a
    /// commit that was never acknowledged (cut there) from damage to old bytes (what follows
    /// stays).
    pub fn all_before_is_durable(&mut self) {
        self.all_before_durable = true;
    }

    /// Adds a change row.
    ///
    /// The mapping keeps the laws of `mapping`: prefixes masked, untagged exactly without a label.
    pub fn change(&mut self, stamp: &Stamp, mapping: &Mapping) {
        self.file_under(stamp.effective_time);
        self.put_run(stamp);
        self.put_sparse(stamp, mapping);
        let form = self.form(stamp.kind, mapping);
        let columns = &mut self.changes;
        put_time(&mut columns.effective_times, stamp.effective_time, columns.effective_previous);
        columns.effective_previous = stamp.effective_time;
        if form.fec == FEC_IN_DICTIONARY {
            self.scratch.clear();
            put_fec(&mut self.scratch, &mut self.addresses, &mapping.fec);
            put_reference(&mut columns.fec_references, &mut self.fecs, &self.scratch);
        } else {
            put_prefix_octets(&mut columns.prefixes, &mapping.fec);
        }
        if form.branches == BRANCHES_IN_DICTIONARY {
            self.scratch.clear();
            put_branches(&mut self.scratch, &mut self.addresses, &mapping.branches);
            put_reference(&mut columns.branch_references, &mut self.branches, &self.scratch);
        } else {
            columns.hops.put(&mut self.addresses, &mapping.branches);
        }
        columns.rows += 1;
    }

    /// Adds a session row.
    pub fn session(&mut self, row: &SessionRow) {
        self.file_under(row.time);
        let column = &mut self.sessions;
        let previous = column.next(row.time);
        put_session(&mut column.bytes, &mut self.routers, &mut self.addresses, row, previous);
    }

    /// Adds a ledger row.
    pub fn ledger(&mut self, row: &LedgerRow) {
        self.file_under(row.time);
        let previous = self.ledger.next(row.time);
        put_ledger(&mut self.ledger.bytes, &mut self.routers, row, previous);
    }

    /// Adds a kernel row.
    pub fn kernel(&mut self, row: &KernelRow) {
        self.file_under(row.time);
        let previous = self.kernel.next(row.time);
        let number = self.text_number(&row.counter);
        put_kernel(&mut self.kernel.bytes, number, row, previous);
    }

    /// Rows of every kind since the last block.
    pub fn rows(&self) -> usize {
        let rows = [self.changes.rows, self.sessions.rows, self.ledger.rows, self.kernel.rows];
        rows.iter().map(|count| *count as usize).sum()
    }

    /// Whether `finish` would append nothing.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Length of the block as it stands, to within the last run and the lengths of the sections.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.sections().iter().map(|section| section.len()).sum::<usize>()
    }

    /// Appends one block with all rows to `out` and begins the next. Without rows: nothing.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        if let Some(run) = self.changes.run.take() {
            self.changes.put_run(&run);
        }
        let start = out.len();
        out.reserve(self.bytes() + 10 * Section::COUNT);
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let sections = self.sections();
        sections.iter().for_each(|section| varint::put(out, section.len() as u64));
        sections.iter().for_each(|section| out.extend_from_slice(section));
        let payload = &out[start + HEADER_BYTES..];
        let header = Header {
            version: VERSION,
            shard: self.shard,
            flags: if self.all_before_durable { FLAG_ALL_BEFORE_DURABLE } else { 0 },
            payload_bytes: payload.len() as u64,
            change_rows: self.changes.rows,
            session_rows: self.sessions.rows,
            ledger_rows: self.ledger.rows,
            kernel_rows: self.kernel.rows,
            time_min: self.time_min,
            time_max: self.time_max,
            payload_crc: crc_fast::crc32_iscsi(payload),
        };
        out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        self.clear();
    }

    fn clear(&mut self) {
        self.all_before_durable = false;
        for dictionary in [&mut self.fecs, &mut self.branches, &mut self.texts] {
            dictionary.clear();
        }
        for numbers in [&mut self.routers, &mut self.addresses, &mut self.forms] {
            numbers.clear();
        }
        self.changes.clear();
        self.sessions.clear();
        self.ledger.clear();
        self.kernel.clear();
        self.time_min = Micros(i64::MAX);
        self.time_max = Micros(i64::MIN);
    }

    fn file_under(&mut self, time: Micros) {
        self.time_min = self.time_min.min(time);
        self.time_max = self.time_max.max(time);
    }

    /// The sections in the order of `Section`.
    fn sections(&self) -> [&[u8]; Section::COUNT] {
        let columns = &self.changes;
        [
            self.routers.bytes(),
            self.addresses.bytes(),
            self.fecs.bytes(),
            self.branches.bytes(),
            self.texts.bytes(),
            &columns.runs,
            &columns.shapes,
            &columns.effective_times,
            &columns.labels,
            &columns.upstreams,
            &columns.fec_references,
            &columns.branch_references,
            &columns.index_jumps.bytes,
            &columns.event_offsets.bytes,
            &columns.flag_sets.bytes,
            &columns.extras.bytes,
            &self.sessions.bytes,
            &self.ledger.bytes,
            &self.kernel.bytes,
            self.forms.bytes(),
            &columns.prefixes,
            &columns.hops.bytes,
        ]
    }

    /// Continues the run of the row before, or begins another.
    fn put_run(&mut self, stamp: &Stamp) {
        let columns = &mut self.changes;
        let row = columns.rows;
        if let Some(run) = columns.run.as_mut().filter(|run| run.holds(stamp)) {
            let index = stamp.position.index;
            if index != run.index_due {
                let jump = i64::from(index) - i64::from(run.index_due);
                varint::put_signed(columns.index_jumps.at(row), jump);
            }
            run.index_due = index.wrapping_add(1);
            run.rows += 1;
            return;
        }
        let last = columns.run.take();
        let router_number = match &last {
            Some(last) if last.router == stamp.router => last.router_number,
            _ => intern_address(&mut self.routers, stamp.router.0),
        };
        if let Some(last) = last {
            columns.put_run(&last);
        }
        columns.run = Some(Run {
            router: stamp.router,
            router_number,
            first: stamp.position,
            collection_time: stamp.collection_time,
            basis: stamp.basis,
            not_before: stamp.not_before,
            rows: 1,
            index_due: stamp.position.index.wrapping_add(1),
        });
    }

    fn put_sparse(&mut self, stamp: &Stamp, mapping: &Mapping) {
        let row = self.changes.rows;
        if mapping.event_time != stamp.effective_time {
            let column = self.changes.event_offsets.at(row);
            put_time(column, mapping.event_time, stamp.effective_time);
        }
        if stamp.flags.0 != 0 {
            self.changes.flag_sets.at(row).push(stamp.flags.0);
        }
        if let Some(extra) = &mapping.extra {
            let number = self.text_number(extra);
            varint::put(self.changes.extras.at(row), number as u64);
        }
    }

    /// Writes the ingress and the form of the row; returns the form.
    fn form(&mut self, kind: ChangeKind, mapping: &Mapping) -> Form {
        let ingress = mapping.ingress;
        debug_assert_eq!(ingress.label.is_none(), ingress.origin == Origin::Untagged);
        let columns = &mut self.changes;
        let space = match (ingress.label, ingress.origin) {
            (None, _) => SPACE_UNTAGGED,
            (Some(_), Origin::Service) => SPACE_SERVICE,
            (Some(_), Origin::Platform | Origin::Untagged) => SPACE_PLATFORM,
            (Some(_), Origin::Interface(upstream)) => {
                put_address(&mut columns.upstreams, &mut self.addresses, upstream.0);
                SPACE_INTERFACE
            }
            (Some(_), Origin::Table(table)) => {
                varint::put(&mut columns.upstreams, u64::from(table));
                SPACE_TABLE
            }
        };
        if let Some(label) = ingress.label {
            let value = i64::from(label.value());
            varint::put_signed(&mut columns.labels, value - columns.label_previous);
            columns.label_previous = value;
        }
        let form = Form {
            kind,
            operation: mapping.operation,
            time_source: mapping.time_source,
            space,
            fec: fec_form(&mapping.fec),
            branches: branches_form(&mapping.branches),
        };
        let entry = form.to_bytes();
        let number = self.forms.of_word(u32::from_le_bytes(entry), entry);
        varint::put(&mut columns.shapes, number as u64);
        form
    }

    fn text_number(&mut self, text: &str) -> usize {
        self.scratch.clear();
        varint::put_bytes(&mut self.scratch, text.as_bytes());
        self.texts.intern(&self.scratch)
    }
}

impl ChangeColumns {
    fn put_run(&mut self, run: &Run) {
        let out = &mut self.runs;
        varint::put(out, run.router_number as u64);
        varint::put(out, u64::from(run.rows));
        varint::put(out, u64::from(run.first.generation));
        varint::put(out, run.first.sequence);
        varint::put(out, u64::from(run.first.index));
        put_time(out, run.collection_time, self.collection_previous);
        self.collection_previous = run.collection_time;
        out.push((run.basis as u8) << 1 | u8::from(run.not_before.is_some()));
        if let Some(not_before) = run.not_before {
            put_time(out, not_before, run.collection_time);
        }
    }

    fn clear(&mut self) {
        for bytes in [
            &mut self.runs,
            &mut self.shapes,
            &mut self.effective_times,
            &mut self.labels,
            &mut self.upstreams,
            &mut self.fec_references,
            &mut self.branch_references,
            &mut self.prefixes,
        ] {
            bytes.clear();
        }
        self.hops.clear();
        for column in
            [&mut self.index_jumps, &mut self.event_offsets, &mut self.flag_sets, &mut self.extras]
        {
            column.clear();
        }
        self.rows = 0;
        self.run = None;
        self.collection_previous = Micros(0);
        self.effective_previous = Micros(0);
        self.label_previous = 0;
    }
}

impl RowColumn {
    /// Counts a row of this time; returns the time of the row before it.
    fn next(&mut self, time: Micros) -> Micros {
        self.rows += 1;
        std::mem::replace(&mut self.time_previous, time)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows = 0;
        self.time_previous = Micros(0);
    }
}

/// Refers to an entry: 0 = the next new one, otherwise how far back it is from the next new one.
fn put_reference(column: &mut Vec<u8>, dictionary: &mut Dictionary, entry: &[u8]) {
    let next = dictionary.len();
    let number = dictionary.intern(entry);
    varint::put(column, (next - number) as u64);
}
