//! The terminal: draws when something is new, until the user has seen enough.
//!
//! In:   keys, resizes, signals, news of the feed.
//! Out:  frames.
//! Law:  the terminal is left as it was found, whatever ends the view.
//! Not:  what a frame shows (`draw`), what a key does (`view`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event};
use ratatui::DefaultTerminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::client::Client;
use super::draw::{Theme, draw, is_tall};
use super::feed::Feed;
use super::picture::Picture;
use super::view::{Reaction, View};

/// Longest wait for a key before news are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A frame is drawn at least so often: the header says how long nobody has answered.
const REDRAW: Duration = Duration::from_secs(1);

/// Draws until the user ends it, or a signal does.
pub(super) fn run(client: Client, theme: Theme) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let picture = Picture::new(client.address());
    let feed = Feed::start(client)?;
    let mut terminal = ratatui::try_init()?;
    let result = watch(&mut terminal, &feed, picture, theme, &ended);
    ratatui::try_restore()?;
    result
}

fn watch(
    terminal: &mut DefaultTerminal,
    feed: &Feed,
    mut picture: Picture,
    theme: Theme,
    ended: &AtomicBool,
) -> io::Result<()> {
    let started = Instant::now();
    let mut view = View::new();
    let mut drawn: Option<Instant> = None;
    let mut is_new = true;
    while !ended.load(Ordering::Relaxed) {
        let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for news in feed.news() {
            picture.take(news, now_ms);
            is_new = true;
        }
        feed.want(view.wanted(&picture, is_tall(terminal.size()?.height)));
        if is_new || drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            terminal.draw(|frame| draw(frame, &picture, &mut view, theme, now_ms))?;
            drawn = Some(Instant::now());
            is_new = false;
        }
        if !event::poll(LOOK)? {
            continue;
        }
        // A resize is drawn as anything else: the frame takes the size that there is.
        is_new = true;
        if let Event::Key(key) = event::read()?
            && view.press(key, &picture) == Reaction::Quit
        {
            break;
        }
    }
    Ok(())
}
