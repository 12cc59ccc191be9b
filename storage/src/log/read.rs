//! Reads the rows of a data folder, whether or not a collector is writing to it.
//!
//! In:   a data folder and a filter.
//! Out:  rows, file by file (hour, then shard; then those of the kernel), within a file block by
//!       block as they were written.
//! Law:  a torn end ends its file silently; damage in the middle is passed over and reported.
//! Not:  the order of one router's rows over several files (`ordered`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::decode::decode;
use super::layout::Header;
use super::scan::{Piece, Scan};
use super::varint::Malformed;
use super::{Corruption, LogError, LogFile, kernel_files, log_files};
use crate::allowance::{Allowance, Held};
use crate::mapping::RouterId;
use crate::row::Row;
use crate::time::Micros;

/// Which rows are asked for, and what reading them may take. The default is all of them.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// Rows of this router only (no kernel rows then).
    pub router: Option<RouterId>,
    /// Rows of these routers only (no kernel rows then).
    pub among: Option<&'a BTreeSet<RouterId>>,
    /// Change rows up to this effective time, itself included. Rows of other kinds come whatever
    /// their time: a gap that was written later may have begun before.
    pub until_effective: Option<Micros>,
    /// Whether change rows are wanted.
    pub changes: bool,
    /// Whether session rows are wanted.
    pub sessions: bool,
    /// Whether ledger rows are wanted.
    pub ledger: bool,
    /// Whether kernel rows are wanted.
    pub kernel: bool,
    /// What reading may take, looked at with every block; `None` = what it needs.
    pub allowance: Option<&'a Allowance>,
}

impl Default for Filter<'_> {
    fn default() -> Self {
        Filter {
            router: None,
            among: None,
            until_effective: None,
            changes: true,
            sessions: true,
            ledger: true,
            kernel: true,
            allowance: None,
        }
    }
}

impl<'a> Filter<'a> {
    /// A filter that asks for no kind of rows: to be filled by `..Filter::NONE`.
    pub const NONE: Filter<'static> = Filter {
        router: None,
        among: None,
        until_effective: None,
        changes: false,
        sessions: false,
        ledger: false,
        kernel: false,
        allowance: None,
    };

    /// Whether reading may go on: `Allowance::check_for`.
    pub(super) fn check_for(&self, bytes: u64) -> Result<(), LogError> {
        self.allowance.map_or(Ok(()), |allowance| allowance.check_for(bytes))
    }

    /// Whether rows of this router are asked for (`None`: rows of no known router).
    pub(super) fn wants(&self, router: Option<RouterId>) -> bool {
        (self.router.is_none() || self.router == router)
            && self.among.is_none_or(|among| router.is_some_and(|router| among.contains(&router)))
    }

    /// Whether rows of one of these routers, all of a block, are asked for.
    pub(super) fn wants_some(&self, routers: &[IpAddr]) -> bool {
        let is_any = self.router.is_none() && self.among.is_none();
        is_any || routers.iter().any(|router| self.wants(Some(RouterId(*router))))
    }

    /// Whether rows of no router are asked for.
    pub(super) fn wants_unnamed(&self) -> bool {
        self.wants(None)
    }

    /// This filter for one block, or `None` when the header alone shows that it holds nothing.
    fn for_block(&self, header: &Header) -> Option<Filter<'a>> {
        let too_late = self.until_effective.is_some_and(|until| header.time_min > until);
        let block = Filter {
            changes: self.changes && header.change_rows > 0 && !too_late,
            sessions: self.sessions && header.session_rows > 0,
            ledger: self.ledger && header.ledger_rows > 0,
            kernel: self.kernel && header.kernel_rows > 0 && self.wants_unnamed(),
            ..*self
        };
        (block.changes || block.sessions || block.ledger || block.kernel).then_some(block)
    }
}

/// What reading met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// Files read.
    pub files: u64,
    /// Whole blocks met.
    pub blocks: u64,
    /// Of these, blocks that the header alone showed to hold nothing that was asked for.
    pub blocks_skipped: u64,
    /// Bytes read, of log files and of states.
    pub bytes: u64,
    /// States of routers that rows were folded onto.
    pub states: u64,
    /// Bytes at the ends of files that no commit covers.
    pub torn_bytes: u64,
    /// Damage that was passed over: rows are missing there.
    pub damages: Vec<Corruption>,
}

impl ReadReport {
    /// Adds what another reading met. Damage that both met counts once.
    pub fn add(&mut self, other: &ReadReport) {
        self.files += other.files;
        self.blocks += other.blocks;
        self.blocks_skipped += other.blocks_skipped;
        self.bytes += other.bytes;
        self.states += other.states;
        self.torn_bytes = self.torn_bytes.max(other.torn_bytes);
        let fresh = other.damages.iter().filter(|damage| !self.damages.contains(damage));
        let fresh: Vec<Corruption> = fresh.cloned().collect();
        self.damages.extend(fresh);
    }
}

/// Gives every row that the filter asks for to `on_row`.
///
/// Rows of one block come by kind: changes, session rows, ledger rows, kernel rows.
/// Errors: a file or folder that cannot be read. Damaged blocks are in the report.
pub fn read(
    data: &Path,
    filter: &Filter,
    on_row: &mut dyn FnMut(Row),
) -> Result<ReadReport, LogError> {
    let mut report = ReadReport::default();
    for file in log_files(data)? {
        read_file(&file, filter, &mut report, on_row)?;
    }
    if filter.kernel && filter.wants_unnamed() {
        for file in kernel_files(data)? {
            read_file(&file, filter, &mut report, on_row)?;
        }
    }
    Ok(report)
}

/// Gives the rows of one file, as `read` does; adds to the report.
pub fn read_file(
    file: &LogFile,
    filter: &Filter,
    report: &mut ReadReport,
    on_row: &mut dyn FnMut(Row),
) -> Result<(), LogError> {
    let mut rows = Vec::new();
    read_file_blocks(file, 0, filter, report, &mut rows, &mut |met| {
        if let Met::Rows { rows, .. } = met {
            rows.drain(..).for_each(&mut *on_row);
        }
    })
}

/// The change rows of one block, as its header tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The earliest effective time.
    pub time_min: Micros,
    /// The latest.
    pub time_max: Micros,
    /// How many rows.
    pub changes: u64,
}

/// Gives what the headers of one file tell of change rows, without reading a row.
pub fn read_spans(
    file: &LogFile,
    filter: &Filter,
    report: &mut ReadReport,
    on_span: &mut dyn FnMut(Span),
) -> Result<(), LogError> {
    report.files += 1;
    let mut scan = Scan::open_at(file, 0)?;
    while let Some(piece) = scan.next()? {
        filter.check_for(0)?;
        match piece {
            Piece::Block { header, .. } => {
                report.blocks += 1;
                if header.change_rows > 0 {
                    let changes = u64::from(header.change_rows);
                    let Header { time_min, time_max, .. } = header;
                    on_span(Span { time_min, time_max, changes });
                }
            }
            Piece::Damage { corruption, .. } => report.damages.push(corruption),
            Piece::Torn { bytes, .. } => report.torn_bytes += bytes,
        }
    }
    report.bytes += scan.bytes_read();
    Ok(())
}

/// What stands next in a file.
pub(super) enum Met<'a> {
    /// The rows of a block; the vector is used again for the next.
    Rows {
        /// Where the block begins.
        offset: u64,
        /// Those that were asked for.
        rows: &'a mut Vec<Row>,
        /// Its header.
        header: &'a Header,
        /// Where it ends.
        end: u64,
    },
    /// A block that the header alone showed to hold nothing that was asked for.
    Skipped {
        /// Where it ends.
        end: u64,
    },
    /// Damage.
    Damage {
        /// Where it begins.
        offset: u64,
        /// All rows of the file that were written before this time had been read.
        whole_until: Micros,
        /// Where it ends.
        end: u64,
    },
    /// The end of the file, which no commit covers: where it begins, and what is wrong.
    Torn(&'a Corruption),
}

/// Gives what stands in one file from byte `from` on, where a block begins.
pub(super) fn read_file_blocks(
    file: &LogFile,
    from: u64,
    filter: &Filter,
    report: &mut ReadReport,
    rows: &mut Vec<Row>,
    on_block: &mut dyn FnMut(Met<'_>),
) -> Result<(), LogError> {
    report.files += 1;
    let mut whole_until = file.hour.start();
    let mut holding = Holding::new(filter);
    let mut scan = Scan::open_at(file, from)?;
    while let Some(piece) = scan.next()? {
        match piece {
            Piece::Block { offset, header, payload } => {
                report.blocks += 1;
                filter.check_for(payload.len() as u64 * DECODED_PER_BYTE)?;
                let end = offset + header.block_bytes().unwrap_or(0);
                let Some(filter) = filter.for_block(&header) else {
                    report.blocks_skipped += 1;
                    whole_until = whole_until.max(header.time_min);
                    on_block(Met::Skipped { end });
                    continue;
                };
                rows.clear();
                match decode(&header, payload, &filter, rows) {
                    Ok(beyond_bytes) => {
                        whole_until = whole_until.max(header.time_min);
                        holding.note(rows, beyond_bytes)?;
                        on_block(Met::Rows { offset, rows, header: &header, end });
                        holding.note(rows, 0)?;
                    }
                    Err(malformed) => {
                        report.damages.push(malformed.into_corruption(&file.path, offset));
                        on_block(Met::Damage { offset, whole_until, end });
                    }
                }
            }
            Piece::Damage { bytes, corruption } => {
                filter.check_for(0)?;
                let offset = corruption.offset;
                report.damages.push(corruption);
                on_block(Met::Damage { offset, whole_until, end: offset + bytes });
            }
            Piece::Torn { bytes, corruption } => {
                report.torn_bytes += bytes;
                on_block(Met::Torn(&corruption));
            }
        }
    }
    report.bytes += scan.bytes_read();
    Ok(())
}

/// What a block takes beside its rows while it is decoded, for each of its bytes: itself in the
/// window, and its dictionaries.
const DECODED_PER_BYTE: u64 = 4;

/// What the rows of the block at hand take, for whoever has an allowance.
struct Holding(Option<(Held, u64)>);

impl Holding {
    fn new(filter: &Filter) -> Holding {
        Holding(filter.allowance.map(|allowance| (allowance.hold(), 0)))
    }

    /// The rows as they are now, and what they hold beyond their own size.
    fn note(&mut self, rows: &Vec<Row>, beyond_bytes: u64) -> Result<(), LogError> {
        let Some((held, before)) = &mut self.0 else { return Ok(()) };
        let now = (rows.capacity() * size_of::<Row>()) as u64 + beyond_bytes;
        held.replace(*before, now);
        *before = now;
        held.check()
    }
}

impl Malformed {
    /// The same, said of a block in a file.
    pub(super) fn into_corruption(self, path: &Path, offset: u64) -> Corruption {
        Corruption {
            path: path.to_owned(),
            offset,
            expected: format!("{} at byte {} of {}", self.expected, self.at, self.section),
            found: "other bytes, with right checksums".to_owned(),
        }
    }
}
