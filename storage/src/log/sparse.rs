//! Columns of which most rows hold nothing: only the rows that hold something are written.
//!
//! In:   row numbers in rising order, each with what follows it.
//! Out:  how many rows were passed over, then the value, for each such row.
//! Law:  a reader visits exactly the rows that were written, or reports the section malformed.
//! Not:  the encoding of the values (`builder`, `decode`).

use super::varint::{self, Cursor, Malformed};

/// Writes a sparse column.
#[derive(Debug, Default)]
pub(super) struct SparseWriter {
    pub(super) bytes: Vec<u8>,
    next_row: u32,
}

impl SparseWriter {
    /// Announces a value of `row`; its bytes are pushed on what is returned.
    pub(super) fn at(&mut self, row: u32) -> &mut Vec<u8> {
        varint::put(&mut self.bytes, u64::from(row - self.next_row));
        self.next_row = row + 1;
        &mut self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.next_row = 0;
    }
}

/// Reads a sparse column, asked row by row in rising order.
#[derive(Debug)]
pub(super) struct SparseReader<'a> {
    cursor: Cursor<'a>,
    next_row: Option<u64>,
}

impl<'a> SparseReader<'a> {
    pub(super) fn new(section: &'static str, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = SparseReader { cursor: Cursor::new(section, bytes), next_row: None };
        reader.step(0)?;
        Ok(reader)
    }

    /// What `read` finds at this row; `None` when the row holds nothing.
    #[inline]
    pub(super) fn at<T>(
        &mut self,
        row: u32,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.next_row != Some(u64::from(row)) {
            return Ok(None);
        }
        let value = read(&mut self.cursor)?;
        self.step(u64::from(row) + 1)?;
        Ok(Some(value))
    }

    /// Every row that was written must have been asked for.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        match self.next_row {
            None => Ok(()),
            Some(_) => Err(self.cursor.malformed("a row of the block")),
        }
    }

    fn step(&mut self, base: u64) -> Result<(), Malformed> {
        self.next_row = if self.cursor.is_done() {
            None
        } else {
            let gap = self.cursor.unsigned()?;
            Some(base.checked_add(gap).ok_or_else(|| self.cursor.malformed("a row number"))?)
        };
        Ok(())
    }
}
