//! The collector `stormdrain`, as the byte travels: listen, session, frame, inflate, XML,
//! router table, batch, log, ack.

pub mod io;
mod harmless;
pub mod registry;
pub mod wire;
pub mod memory;
pub mod shard;
pub mod settings;
pub mod policy;
pub mod metrics;
pub mod lines;
pub mod watch;
pub mod chart;
pub mod drawing;
pub mod roster;
pub mod http;
pub mod collector;
pub mod query;
pub mod top;
pub mod command;
#[cfg(test)]
mod pages;
