//! Progress on standard error while a run is under way.
//!
//! In:   which act is under way, how much of it is done.
//! Out:  a bar on a terminal, one line per act anywhere else; neither for what is over soon.
//! Law:  standard output stays free for the report.
//! Not:  what an act is (`stage`).

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::instant;
use crate::stage::Look;

/// What takes no longer than this is not worth a word.
const SOON: Duration = Duration::from_secs(2);

/// One act after another.
pub struct Show {
    act: &'static str,
    began: Instant,
    /// What it is shown by, once it is.
    bar: Option<ProgressBar>,
    on_terminal: bool,
    quiet: bool,
}

impl Show {
    /// Nothing is shown in the first two seconds of an act, and nothing at all if `quiet`.
    pub fn new(quiet: bool) -> Show {
        let on_terminal = std::io::stderr().is_terminal();
        Show { act: "", began: instant(), bar: None, on_terminal, quiet }
    }

    /// Shows how far an act is.
    pub fn look(&mut self, look: &Look<'_>) {
        if self.quiet {
            return;
        }
        let Look { act, done, all, .. } = *look;
        if act != self.act {
            self.end();
            self.act = act;
            self.began = instant();
        }
        if self.bar.is_none() && instant() - self.began >= SOON {
            self.bar = Some(self.begin(all));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
        }
    }

    fn begin(&self, all: u64) -> ProgressBar {
        if !self.on_terminal {
            eprintln!("{} ...", self.act);
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(all).with_message(self.act).with_elapsed(SOON);
        // Without a style the bar is plainer, and still right.
        if let Ok(style) = ProgressStyle::with_template("{msg:<12} {bar:40} {pos}/{len} {elapsed}")
        {
            bar.set_style(style);
        }
        bar
    }

    /// Ends the last act.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_longer_than_two_seconds_is_shown() {
        let mut show = Show::new(false);
        let look = |act| Look { act, done: 1, all: 9, progress: None };
        show.look(&look("one"));
        assert!(show.bar.is_none());
        show.began -= SOON;
        show.look(&look("one"));
        assert!(show.bar.is_some());
        show.look(&look("two"));
        assert!(show.bar.is_none());
        let mut quiet = Show::new(true);
        quiet.began -= SOON;
        quiet.look(&look(""));
        assert!(quiet.bar.is_none());
    }
}
