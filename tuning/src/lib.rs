//! The kernel's truth: one reader of /proc and /sys.
//!
//! Modules in the order in which an operator asks: what did the kernel count, what lies where,
//! what may we use.

pub mod counters;
pub mod mounts;
pub mod memory;
