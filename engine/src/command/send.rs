//! `stormdrain send`: label mappings from files to a collector, and what became of each of them.
//!
//! In:   files of label-mappings documents, plain, gzip or zlib (`-` = standard input); a target.
//! Out:  a row per document and per refused mapping, a summary, an exit code.
//! Law:  what cannot be read to its end sends nothing; only what is durable is called acknowledged.
//! Not:  reading (`input`), the session (`session`), columns and words (`told`).
//!
//! How it works:
//!
//! 1. Every file is read before anything is sent: what cannot be read changes no router's table.
//! 2. Files are read by the collector's own readers, so that both say the same of every byte.
//! 3. A document in which mappings are refused is read again mapping by mapping: that finds the
//!    number, the line and the words of each, which the collector does not keep.
//! 4. Documents are framed as they are written, refused mappings included: the collector learns
//!    which entries nobody can vouch for, and a complete snapshot is none without them.
//! 5. A document goes to the router that its root names, or its first mapping that names one, or
//!    `--router`, or the document before it in the same file.
//! 6. Each router gets an on-demand session of its own, one after the other, under a boot time of
//!    its own, so that sequences begin at 1 and no gap is left behind.
//! 7. The hello announces no snapshot: `snapshot="complete"` on a document means what it says.
//! 8. An ack says that a document is durable, not that every mapping of it was taken: what was
//!    refused is known from step 2 and is never counted as acknowledged.
//! 9. A wait is bounded by `--timeout` without a byte; a peer that says anything but acks is none.
//! 10. The protocol has no word for a refusal: a closed session is told with what it may mean, and
//!     with the address under which the collector's log names the cause.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use storage::mapping::RouterId;
use storage::time::Micros;

use super::{EXIT_DONE, EXIT_FAILED, EXIT_NO, EXIT_USAGE};
use crate::query::{Format, parse_length_us};

mod input;
mod refused;
mod session;
mod told;

use input::Input;
use session::{Outcome, Target};

/// What `stormdrain send` is asked.
#[derive(Debug, Args)]
pub struct SendArguments {
    /// Files of label-mappings documents: XML, plain or as gzip or zlib; - is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where the collector listens for routers (its setting `listen`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:30310")]
    target: String,
    /// Router of the documents that name none.
    #[arg(long, value_name = "ID", value_parser = parse_router)]
    router: Option<RouterId>,
    /// Longest wait for the collector without an answer.
    #[arg(long, value_name = "T", default_value = "30s", value_parser = parse_timeout)]
    timeout: Duration,
    /// How it is told what became of them.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn parse_router(text: &str) -> Result<RouterId, String> {
    text.parse().map_err(|_| "expected a router id, such as 192.0.2.1 or 2001:db8::1".to_owned())
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let length_us = parse_length_us(text).and_then(|length_us| u64::try_from(length_us).ok());
    let length_us = length_us.filter(|length_us| *length_us > 0);
    length_us
        .map(Duration::from_micros)
        .ok_or_else(|| "expected a time above 0, such as 30s or 500ms".to_owned())
}

/// Sends the files. Returns the exit code. `now` is the clock that the hello tells.
///
/// What became of them goes to `output`; what went wrong, and what to do, to `notes`.
pub fn send(
    arguments: &SendArguments,
    now: Micros,
    stdin: &mut dyn Read,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> u8 {
    // Nothing can be done about a standard error that is closed, here and below.
    let mut fail = |error: &dyn std::fmt::Display, code| {
        let _ = writeln!(notes, "stormdrain: {error}");
        code
    };
    let input = match Input::read(&arguments.files, arguments.router, stdin) {
        Ok(input) => input,
        Err(error) => {
            let code = if error.is_usage() { EXIT_USAGE } else { EXIT_FAILED };
            return fail(&format_args!("{error}; nothing was sent"), code);
        }
    };
    let target = match Target::find(&arguments.target, arguments.timeout) {
        Ok(target) => target,
        Err(error) => return fail(&error, if error.is_usage() { EXIT_USAGE } else { EXIT_FAILED }),
    };
    let outcomes = speak_for_all(&input, &target, now);
    for fault in outcomes.iter().filter_map(|outcome| outcome.fault.as_ref()) {
        fail(fault, 0);
    }
    let text = told::render(&input, &outcomes, &arguments.target, arguments.format);
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format_args!("cannot write what became of them: {error}"), EXIT_FAILED)
        }
        _ => exit_code(&input, &outcomes),
    }
}

/// One session per router. Where nobody listens for one, nobody listens for the others.
fn speak_for_all(input: &Input, target: &Target, now: Micros) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for router in input.routers() {
        let documents: Vec<_> = input.documents_of(router).collect();
        let outcome = target.speak(router, &documents, now);
        let is_reached = outcome.is_reached();
        outcomes.push(outcome);
        if !is_reached {
            break;
        }
    }
    outcomes
}

fn exit_code(input: &Input, outcomes: &[Outcome]) -> u8 {
    if outcomes.iter().any(|outcome| !outcome.is_reached()) {
        return EXIT_FAILED;
    }
    let is_refused = input.documents.iter().any(|document| !document.refused.is_empty());
    if is_refused || outcomes.iter().any(|outcome| outcome.fault.is_some()) {
        return EXIT_NO;
    }
    EXIT_DONE
}
