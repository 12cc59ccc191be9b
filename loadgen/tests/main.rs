//! The load generator against the real collector, over real sockets.
//!
//! In:   small networks; both drivers; a collector that is stopped and started again.
//! Out:  verdicts.
//! Law:  every verdict is exact.
//! Not:  how fast anything is (benches).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

mod arrows;
mod demonstration;
mod restart;
mod scenarios;
mod program;
mod differences;
mod faults;
mod kernel;
mod maps;
