//! Integration tests of the collector: one binary, one module per subject.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

mod frr;
mod cases;
mod protocol;
mod program;
mod doctor;
mod assets;
mod process;
mod sender;
mod send;
mod sessions;
mod upgrade;
mod bad_input;
mod crash;
mod storm;
mod verdicts;
mod memory;
mod old_folder;
mod failure;
mod http;
mod top;
mod full_disk;
mod write_back;
mod folder;
