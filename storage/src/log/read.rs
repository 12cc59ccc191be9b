//! Reads the rows of a data folder, whether or not a collector is writing to it.
//!
//! In:   a data folder and a filter.
//! Out:  rows, file by file (hour, then shard), within a file block by block as they were written.
//! Law:  a torn end ends its file silently; damage in the middle is passed over and reported.
//! Not:  the order of one router's rows over several files (`ordered`).

use std::path::Path;

use super::decode::decode;
use super::layout::Header;
use super::scan::{Piece, Scan};
use super::varint::Malformed;
use super::{Corruption, LogError, LogFile, log_files};
use crate::mapping::RouterId;
use crate::row::Row;
use crate::time::Micros;

/// Which rows are asked for. The default is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Rows of this router only (no kernel rows then).
    pub router: Option<RouterId>,
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
}

impl Default for Filter {
    fn default() -> Self {
        Filter {
            router: None,
            until_effective: None,
            changes: true,
            sessions: true,
            ledger: true,
            kernel: true,
        }
    }
}

impl Filter {
    /// A filter that asks for no kind of rows: to be filled by `..Filter::NONE`.
    pub const NONE: Filter = Filter {
        router: None,
        until_effective: None,
        changes: false,
        sessions: false,
        ledger: false,
        kernel: false,
    };

    /// Whether rows of this router are asked for (`None`: rows of no known router).
    pub(super) fn wants(&self, router: Option<RouterId>) -> bool {
        self.router.is_none() || self.router == router
    }

    /// This filter for one block, or `None` when the header alone shows that it holds nothing.
    fn for_block(&self, header: &Header) -> Option<Filter> {
        let too_late = self.until_effective.is_some_and(|until| header.time_min > until);
        let block = Filter {
            changes: self.changes && header.change_rows > 0 && !too_late,
            sessions: self.sessions && header.session_rows > 0,
            ledger: self.ledger && header.ledger_rows > 0,
            kernel: self.kernel && header.kernel_rows > 0 && self.router.is_none(),
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
    /// Bytes at the ends of files that no commit covers.
    pub torn_bytes: u64,
    /// Damage that was passed over: rows are missing there.
    pub damages: Vec<Corruption>,
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
    read_blocks(data, filter, &mut |_, met| {
        if let Met::Rows(rows) = met {
            rows.drain(..).for_each(&mut *on_row);
        }
    })
}

/// Gives the rows of one file, as `read` does; adds to the report.
pub fn read_file(
    file: &LogFile,
    filter: &Filter,
    report: &mut ReadReport,
    on_row: &mut dyn FnMut(Row),
) -> Result<(), LogError> {
    let mut rows = Vec::new();
    read_file_blocks(file, filter, report, &mut rows, &mut |_, met| {
        if let Met::Rows(rows) = met {
            rows.drain(..).for_each(&mut *on_row);
        }
    })
}

/// What stands next in a file.
pub(super) enum Met<'a> {
    /// The rows of a block; the vector is used again for the next.
    Rows(&'a mut Vec<Row>),
    /// Damage. All rows of the file that were written before this time had been read.
    Damage(Micros),
}

/// Gives what stands in one file after another.
pub(super) fn read_blocks(
    data: &Path,
    filter: &Filter,
    on_block: &mut dyn FnMut(&LogFile, Met<'_>),
) -> Result<ReadReport, LogError> {
    let mut report = ReadReport::default();
    let mut rows = Vec::new();
    for file in log_files(data)? {
        read_file_blocks(&file, filter, &mut report, &mut rows, on_block)?;
    }
    Ok(report)
}

fn read_file_blocks(
    file: &LogFile,
    filter: &Filter,
    report: &mut ReadReport,
    rows: &mut Vec<Row>,
    on_block: &mut dyn FnMut(&LogFile, Met<'_>),
) -> Result<(), LogError> {
    report.files += 1;
    let mut whole_until = file.hour.start();
    let mut scan = Scan::open(file)?;
    while let Some(piece) = scan.next()? {
        match piece {
            Piece::Block { offset, header, payload } => {
                report.blocks += 1;
                let Some(filter) = filter.for_block(&header) else {
                    report.blocks_skipped += 1;
                    whole_until = whole_until.max(header.time_min);
                    continue;
                };
                rows.clear();
                match decode(&header, payload, &filter, rows) {
                    Ok(()) => {
                        whole_until = whole_until.max(header.time_min);
                        on_block(file, Met::Rows(rows));
                    }
                    Err(malformed) => {
                        report.damages.push(malformed.into_corruption(&file.path, offset));
                        on_block(file, Met::Damage(whole_until));
                    }
                }
            }
            Piece::Damage { corruption, .. } => {
                report.damages.push(corruption);
                on_block(file, Met::Damage(whole_until));
            }
            Piece::Torn { bytes, .. } => report.torn_bytes += bytes,
        }
    }
    Ok(())
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
