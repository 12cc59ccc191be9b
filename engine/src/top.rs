//! `stormdrain top`: a collector, live, on a terminal.
//!
//! In:   the JSON interface of a running collector.
//! Out:  frames; with `--once`, or where there is no terminal, one page of text.
//! Law:  it only asks: a collector that is watched does nothing that it would not do alone.
//! Not:  what is answered (`http::api`), the page in a browser (`http`).

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::command::{EXIT_DONE, EXIT_FAILED, EXIT_NO, EXIT_USAGE};

mod units;
mod state;
mod picture;
mod client;
mod feed;
mod view;
mod draw;
mod once;
mod terminal;
#[cfg(test)]
mod sample;

use client::{Client, ClientError};
use draw::Theme;
use feed::Asker;
use picture::Picture;
use state::Grade;
use view::{View, Wanted};

/// What `stormdrain top` is asked.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Where the collector's HTTP side listens (its setting `http`).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:30311", env = "STORMDRAIN_HTTP")]
    http: String,
    /// A file that holds the token, where the collector wants one (its setting `http_token_file`).
    #[arg(long, value_name = "F", env = "STORMDRAIN_HTTP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Print one page of text and end; so it is, too, where the output is no terminal.
    #[arg(long)]
    once: bool,
}

/// Where the view is shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Whether the output is a terminal.
    pub is_terminal: bool,
    /// Whether colours are wanted: NO_COLOR is unset or empty.
    pub colour: bool,
}

/// Shows the collector. Returns the exit code.
///
/// The page goes to `output`; the reason of a failure to `notes`.
pub fn top(
    arguments: &TopArguments,
    screen: Screen,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> u8 {
    // Nothing can be done about a standard error that is closed, here and below.
    let mut failed = |error: &ClientError| {
        let _ = writeln!(notes, "stormdrain: {error}");
        if error.is_usage() { EXIT_USAGE } else { EXIT_FAILED }
    };
    let client = match Client::new(&arguments.http, arguments.token_file.as_deref()) {
        Ok(client) => client,
        Err(error) => return failed(&error),
    };
    if arguments.once || !screen.is_terminal {
        return match picture_of(client) {
            Ok(picture) => print(&picture, output, notes),
            Err(error) => failed(&error),
        };
    }
    match terminal::run(client, Theme { colour: screen.colour }) {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            let _ =
                writeln!(notes, "stormdrain: cannot draw on this terminal: {error}; try --once");
            EXIT_FAILED
        }
    }
}

/// Everything, asked once.
fn picture_of(client: Client) -> Result<Picture, ClientError> {
    let mut picture = Picture::new(client.address());
    let wanted = Wanted { routers: true, burst: None };
    Asker::new(client).ask(wanted, &mut |news| {
        picture.take(news, 0);
        true
    })?;
    Ok(picture)
}

fn print(picture: &Picture, output: &mut dyn Write, notes: &mut dyn Write) -> u8 {
    let (text, grade) = once::text(picture, &View::new());
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(notes, "stormdrain: cannot write the page: {error}");
            EXIT_FAILED
        }
        _ if grade > Grade::Burst => EXIT_NO,
        _ => EXIT_DONE,
    }
}
