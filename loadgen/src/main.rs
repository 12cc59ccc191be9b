//! The command line of `stormgen`.
//!
//! In:   arguments.
//! Out:  a report on standard output, progress on standard error, an exit code.
//! Law:  0 done, 1 the answer is "no", 2 usage or setting wrong, 3 input, network or disk failed.
//! Not:  what the commands do (`loadgen::command`).

use std::process::ExitCode;

use loadgen::command::{Arguments, run};

// A demonstration runs the collector in this process: with the allocator that it ships with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Arguments::read()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("stormgen: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
