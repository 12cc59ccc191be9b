//! Mappings as data, router tables, the log, and history.
//!
//! Modules in the order in which a mapping passes through them. This crate knows nothing of
//! sockets, XML or cores.

pub mod time;
pub mod mapping;
pub mod interface;
pub mod row;
pub mod table;
pub mod gaps;
pub mod router;
pub mod allowance;
pub mod log;
pub mod recovery;
pub mod history;
