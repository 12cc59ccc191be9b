//! The kernel's truth: one reader of /proc and /sys.
//!
//! Modules in the order in which an operator asks: what did the kernel count, what lies where,
//! what may we use, what host is this and who else works on it.

pub mod counters;
pub mod mounts;
pub mod memory;
pub mod host;
