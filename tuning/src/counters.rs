//! The kernel's network counters: /proc/net/snmp and /proc/net/netstat, read by column name.
//!
//! In:   a tree that holds the two files: this host's, or a captured one.
//! Out:  `Counters`, sorted by name, and the difference of two readings.
//! Law:  a column is found by its name, never by its place: kernels add columns in the middle.
//! Not:  what a counter means for the operator, or who writes it to the log (engine).

use std::collections::BTreeMap;

use crate::tree::Tree;

/// Counters that must not move under any load that the collector is built for (law 3).
pub const LOSS_COUNTERS: [&str; 6] = [
    "TcpExt.PruneCalled",
    "TcpExt.RcvPruned",
    "TcpExt.TCPRcvCollapsed",
    "TcpExt.TCPRcvQDrop",
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
];

/// Counters worth showing beside them: the sender was faster than the reader, or segments were
/// lost.
pub const PRESSURE_COUNTERS: [&str; 9] = [
    "TcpExt.TCPToZeroWindowAdv",
    "TcpExt.TCPFromZeroWindowAdv",
    "TcpExt.TCPWantZeroWindowAdv",
    "TcpExt.TCPZeroWindowDrop",
    "TcpExt.TCPBacklogDrop",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPMemoryPressures",
    "TcpExt.TCPTimeouts",
    "Tcp.RetransSegs",
];

const SNMP_PATH: &str = "/proc/net/snmp";
const NETSTAT_PATH: &str = "/proc/net/netstat";

/// Why the kernel's counters could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    /// The file cannot be read: this kernel has none, or it is kept from this process.
    #[error("{path}: cannot be read")]
    Read {
        /// Which file.
        path: &'static str,
    },
    /// A line of values that does not match its line of names.
    #[error("{path}, section {section}: expected {expected} values, found {found}")]
    Columns {
        /// Which file.
        path: &'static str,
        /// Word before the colon.
        section: String,
        /// How many names there are.
        expected: usize,
        /// How many values there are.
        found: usize,
    },
    /// A value that is no number, or a line of names without its line of values.
    #[error("{path}, section {section}: expected a line of numbers, found `{found}`")]
    Value {
        /// Which file.
        path: &'static str,
        /// Word before the colon.
        section: String,
        /// What was found.
        found: String,
    },
}

impl CounterError {
    /// The file that it was.
    pub fn path(&self) -> &'static str {
        match self {
            CounterError::Read { path }
            | CounterError::Columns { path, .. }
            | CounterError::Value { path, .. } => path,
        }
    }
}

/// One reading of every counter of both files, named `Section.Column`, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    values: BTreeMap<String, i64>,
}

impl Counters {
    /// Reads both files of the process's own network namespace.
    ///
    /// Errors: `CounterError`; a kernel without these files is one.
    pub fn read() -> Result<Counters, CounterError> {
        Counters::of(&Tree::host())
    }

    /// The same, of any tree.
    pub fn of(tree: &Tree) -> Result<Counters, CounterError> {
        let text = |path: &'static str| tree.text(path).ok_or(CounterError::Read { path });
        Counters::parse(&text(SNMP_PATH)?, &text(NETSTAT_PATH)?)
    }

    /// Reads counters from the text of the two files.
    ///
    /// Errors: `CounterError::Columns` and `Value`, where names and values contradict each other.
    pub fn parse(snmp: &str, netstat: &str) -> Result<Counters, CounterError> {
        let mut counters = Counters::default();
        counters.add(SNMP_PATH, snmp)?;
        counters.add(NETSTAT_PATH, netstat)?;
        Ok(counters)
    }

    /// The value of `Section.Column`; `None` when this kernel has no such counter.
    pub fn value(&self, name: &str) -> Option<i64> {
        self.values.get(name).copied()
    }

    /// Every counter, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.values.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// How far each counter moved since `earlier`, sorted by name; those that stood still are left
    /// out.
    pub fn moved_since(&self, earlier: &Counters) -> Vec<(String, i64)> {
        let moved = |(name, value): (&String, &i64)| {
            let delta = value - earlier.values.get(name).copied().unwrap_or(0);
            (delta != 0).then(|| (name.clone(), delta))
        };
        self.values.iter().filter_map(moved).collect()
    }

    /// A file is pairs of lines: `TcpExt: Name Name …`, then `TcpExt: 0 0 …`.
    fn add(&mut self, path: &'static str, text: &str) -> Result<(), CounterError> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        while let Some(names) = lines.next() {
            let (section, names) = names.split_once(':').unwrap_or((names, ""));
            let values = lines.next().unwrap_or("");
            let value_error = |found: &str| CounterError::Value {
                path,
                section: section.to_owned(),
                found: found.to_owned(),
            };
            let values = values
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix(':'))
                .ok_or_else(|| value_error(values))?;
            let expected = names.split_ascii_whitespace().count();
            let found = values.split_ascii_whitespace().count();
            if expected != found {
                let section = section.to_owned();
                return Err(CounterError::Columns { path, section, expected, found });
            }
            let columns = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
            for (name, value) in columns {
                let value = value.parse().map_err(|_| value_error(value))?;
                self.values.insert(format!("{section}.{name}"), value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
                        Tcp: RtoMax MaxConn RetransSegs\nTcp: 120000 -1 7\n";

    #[test]
    fn a_counter_is_found_by_its_name_wherever_its_column_is() {
        let old = "TcpExt: PruneCalled ListenDrops\nTcpExt: 3 4\n";
        let new =
            "TcpExt: Extra PruneCalled More ListenDrops\nTcpExt: 9 3 9 4\nIpExt: A\nIpExt: 1\n";
        for netstat in [old, new] {
            let counters = Counters::parse(SNMP, netstat).unwrap();
            assert_eq!(counters.value("TcpExt.PruneCalled"), Some(3));
            assert_eq!(counters.value("TcpExt.ListenDrops"), Some(4));
            assert_eq!(counters.value("Tcp.RetransSegs"), Some(7));
            assert_eq!(counters.value("Tcp.MaxConn"), Some(-1));
            assert_eq!(counters.value("TcpExt.Absent"), None);
        }
    }

    #[test]
    fn what_moved_is_what_differs() {
        let before = Counters::parse(SNMP, "TcpExt: A B\nTcpExt: 1 2\n").unwrap();
        let after = Counters::parse(SNMP, "TcpExt: A B C\nTcpExt: 1 5 8\n").unwrap();
        let expected = vec![("TcpExt.B".to_owned(), 3), ("TcpExt.C".to_owned(), 8)];
        assert_eq!(after.moved_since(&before), expected);
        assert_eq!(after.moved_since(&after), []);
    }

    #[test]
    fn names_and_values_that_contradict_each_other_are_refused() {
        let count = Counters::parse("", "TcpExt: A B\nTcpExt: 1\n");
        assert!(matches!(count, Err(CounterError::Columns { expected: 2, found: 1, .. })));
        for text in ["TcpExt: A\n", "TcpExt: A\nIpExt: 1\n", "TcpExt: A\nTcpExt: x\n"] {
            let result = Counters::parse("", text);
            assert!(matches!(result, Err(CounterError::Value { .. })), "{text}");
        }
    }

    #[test]
    fn this_kernel_has_every_counter_of_the_law() {
        let counters = Counters::read().unwrap();
        for name in LOSS_COUNTERS {
            assert!(counters.value(name).is_some(), "{name}");
        }
    }
}
