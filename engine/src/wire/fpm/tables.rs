//! Which of a router's routing tables is its main one: table 0 of the model.
//!
//! In:   the table numbers of a session's IP routes, in order.
//! Out:  the same numbers, with the main table's as 0.
//! Law:  two tables never become one: a number that would fall on the main table's is refused.
//! Not:  what the other numbers stand for: each router's own.

/// `RT_TABLE_MAIN`: what Linux, and zebra on Linux, call the main table.
const MAIN: u32 = 254;
/// `RT_TABLE_UNSPEC`: what a zebra whose VRFs are numbers of interfaces calls it.
const UNSPECIFIED: u32 = 0;

/// The main table of one session.
///
/// A router speaks of its main table before it speaks of a VRF: addresses are there before VRFs
/// are. So whichever of 254 and 0 a session speaks of first is the main one. If it is 0, then 254
/// is a VRF like any other number: there the numbers are those of interfaces, and each below 256
/// may be one. If it is 254, nothing can be said of table 0: Linux has no such table.
#[derive(Debug, Default)]
pub(super) struct Tables {
    main: Option<u32>,
}

impl Tables {
    /// The model's number of this table; `None` = it would be the main table's, which has another.
    pub(super) fn number(&mut self, table: u32) -> Option<u32> {
        if self.main.is_none() && matches!(table, MAIN | UNSPECIFIED) {
            self.main = Some(table);
        }
        if self.main == Some(table) {
            return Some(0);
        }
        Some(table).filter(|table| *table != UNSPECIFIED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers<const N: usize>(tables: [u32; N]) -> [Option<u32>; N] {
        let mut session = Tables::default();
        tables.map(|table| session.number(table))
    }

    #[test]
    fn the_first_of_254_and_0_is_the_main_table() {
        assert_eq!(numbers([1001, 254, 10, 255]), [Some(1001), Some(0), Some(10), Some(255)]);
        assert_eq!(numbers([0, 254, 0]), [Some(0), Some(254), Some(0)]);
        assert_eq!(numbers([254, 0, 254]), [Some(0), None, Some(0)]);
    }
}
