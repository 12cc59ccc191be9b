//! Progress on standard error while a run is under way.
//!
//! In:   which act is under way, how much of it is done.
//! Out:  a bar on a terminal; one line per act anywhere else.
//! Law:  standard output stays free for the report.
//! Not:  what an act is (`stage`).

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::stage::Look;

/// One act after another.
pub struct Show {
    act: &'static str,
    bar: ProgressBar,
    on_terminal: bool,
    quiet: bool,
}

impl Show {
    /// Nothing is shown before the first `look`, and nothing at all if `quiet`.
    pub fn new(quiet: bool) -> Show {
        let on_terminal = std::io::stderr().is_terminal();
        Show { act: "", bar: ProgressBar::hidden(), on_terminal, quiet }
    }

    /// Shows how far an act is.
    pub fn look(&mut self, look: &Look<'_>) {
        if self.quiet {
            return;
        }
        let Look { act, done, all, .. } = *look;
        if act != self.act {
            self.bar.finish();
            self.act = act;
            if !self.on_terminal {
                eprintln!("{act} ...");
                return;
            }
            let style = ProgressStyle::with_template("{msg:<12} {bar:40} {pos}/{len} {elapsed}");
            self.bar = ProgressBar::new(all).with_message(act);
            // Without a style the bar is plainer, and still right.
            if let Ok(style) = style {
                self.bar.set_style(style);
            }
        }
        if self.on_terminal {
            self.bar.set_length(all);
            self.bar.set_position(done);
        }
    }

    /// Ends the last act.
    pub fn end(&self) {
        self.bar.finish();
    }
}
