//! The kernel's truth: one reader of /proc and /sys.
//!
//! Modules in the order in which an operator asks: what did the kernel count.

pub mod counters;
