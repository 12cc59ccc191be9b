//! The kernel's truth: one reader of /proc and /sys.
//!
//! Modules in the order in which an operator asks: what does it say, what did it count, what lies
//! where, what may we use, what host is this and who else works on it, and what of it bites.

pub mod tree;
pub mod counters;
pub mod layers;
pub mod sample;
pub mod sockets;
pub mod drops;
pub mod mounts;
pub mod memory;
pub mod host;
pub mod doctor;
pub mod limits;
pub mod plan;
