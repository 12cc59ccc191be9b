//! The kernel's truth: one reader of /proc and /sys.
//!
//! Modules in the order in which an operator asks: what did the kernel count, what lies where.

pub mod counters;
pub mod mounts;
