//! Numbers of one to ten bytes, and a reader that never reads past its section.
//!
//! In:   unsigned and signed integers (signed ones in zigzag order: 0, -1, 1, -2, ...).
//! Out:  seven bits per byte, low bits first, the top bit set on all bytes but the last.
//! Law:  a `Cursor` returns an error for every input that was not written by its counterpart.
//! Not:  which numbers stand where (`builder`, `decode`).

/// What is wrong inside a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Word of the section.
    pub(super) section: &'static str,
    /// Byte within it.
    pub(super) at: usize,
    /// What had to come.
    pub(super) expected: &'static str,
}

/// Appends an unsigned number.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number.
#[inline]
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends bytes behind their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a section from its first byte to its last.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    section: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(section: &'static str, bytes: &'a [u8]) -> Self {
        Cursor { section, bytes, at: 0 }
    }

    /// The error of this place.
    #[cold]
    pub(super) fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { section: self.section, at: self.at, expected }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Everything must have been read.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        if self.is_done() { Ok(()) } else { Err(self.malformed("the end of the section")) }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let Some(byte) = self.bytes.get(self.at) else { return Err(self.malformed("a byte")) };
        self.at += 1;
        Ok(*byte)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else { return Err(self.malformed("more bytes")) };
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| self.malformed("more bytes"))
    }

    #[inline]
    pub(super) fn unsigned(&mut self) -> Result<u64, Malformed> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds one bit: 9 x 7 = 63 are there already.
            if shift == 63 && bits > 1 {
                return Err(self.malformed("a number of 64 bits"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number of 64 bits"))
    }

    #[inline]
    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn unsigned32(&mut self) -> Result<u32, Malformed> {
        let value = self.unsigned()?;
        u32::try_from(value).map_err(|_| self.malformed("a number of 32 bits"))
    }

    /// A number that indexes memory: one that does not fit is beyond every table.
    pub(super) fn index(&mut self) -> Result<usize, Malformed> {
        let value = self.unsigned()?;
        usize::try_from(value).map_err(|_| self.malformed("an index"))
    }

    /// Text behind its length.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.index()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed("UTF-8 text"))
    }

    /// 0 or 1.
    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("0 or 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_their_bytes() {
        let unsigned = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, 63, -64, 64, i64::MIN, i64::MAX];
        let mut bytes = Vec::new();
        unsigned.iter().for_each(|value| put(&mut bytes, *value));
        signed.iter().for_each(|value| put_signed(&mut bytes, *value));
        let mut cursor = Cursor::new("test", &bytes);
        unsigned.iter().for_each(|value| assert_eq!(cursor.unsigned(), Ok(*value)));
        signed.iter().for_each(|value| assert_eq!(cursor.signed(), Ok(*value)));
        assert_eq!(cursor.finish(), Ok(()));
        assert!(cursor.byte().is_err());
    }

    #[test]
    fn a_number_beyond_64_bits_is_malformed() {
        assert!(Cursor::new("test", &[0xff; 11]).unsigned().is_err());
        let mut bytes = vec![0xff; 9];
        bytes.push(2);
        assert!(Cursor::new("test", &bytes).unsigned().is_err());
        assert!(Cursor::new("test", &[0x80]).unsigned().is_err());
        assert!(Cursor::new("test", &[0xff, 0xff, 0xff, 0xff, 0x7f]).unsigned32().is_err());
    }
}
