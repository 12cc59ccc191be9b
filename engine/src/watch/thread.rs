//! The thread that looks, and how long it sleeps between two looks.
//!
//! In:   the clock, the word to stop, and the alarm when something comes after a silence.
//! Out:  looks: every 10 ms while anything comes or waits, once a second in silence.
//! Law:  it gives way to the shards; in silence it costs next to nothing, and nobody sees that in
//!       the bins of a burst.
//! Not:  what a look sees (`work`), or what is a burst (`burst`).

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tuning::drops::{DropReasons, MOUNTS};

use super::Watch;
use super::keep::Log;
use super::strain::Strain;
use super::survey::Survey;
use super::work::{Rest, Work};
use crate::io::clock::Clock;
use crate::io::links::AbortOnPanic;
use crate::metrics::Publication;
use crate::registry::Registry;
use crate::settings::Settings;

/// Below the shards, above the keeper: a late look makes bins coarse.
const NICE: i32 = 5;

/// The collector's end of the thread.
#[derive(Debug)]
pub(crate) struct Watcher {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts the thread.
    pub(crate) fn start(
        watch: Watch,
        settings: &Settings,
        clock: Clock,
        publication: Arc<Publication>,
        of_listener: (SocketAddr, Arc<Registry>),
    ) -> io::Result<Watcher> {
        let stopped = Arc::new(AtomicBool::new(false));
        let now = clock.now();
        let log = Log::start(&settings.data, now, watch.clone(), Arc::clone(&publication))?;
        let drops = settings.drop_reasons.then(open_drops).flatten();
        let survey = Survey::new(of_listener, watch.connections().clone(), now);
        let strain = Strain::new(settings.commit_interval_ms);
        let told = Arc::clone(&stopped);
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            let work = Work::new(watch, log, survey, now, Arc::clone(&publication));
            let work = work.with(strain, drops);
            run(work, &publication, clock, &told);
        })?;
        Ok(Watcher { stopped, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

fn run(mut work: Work, publication: &Publication, clock: Clock, stopped: &AtomicBool) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "the watch looks at the priority of everything else");
    }
    let alarm = publication.alarm();
    alarm.set_sleeper();
    while !stopped.load(Ordering::Acquire) {
        match work.rest(clock.now()) {
            Rest::Bin(rest) => std::thread::park_timeout(rest),
            Rest::Silence(rest) => {
                let came = alarm.sleep(rest, || !work.is_up_to_date());
                if let Some(came_us) = came {
                    // The first look is at the edge of the bin in which it came.
                    work.silent_until(came_us, clock.now());
                    continue;
                }
            }
        }
        work.look(clock.now());
    }
    work.finish(clock.now());
}

/// The tracepoint, where the operator has made it available; otherwise the log says once why not.
fn open_drops() -> Option<DropReasons> {
    let root = MOUNTS.iter().map(Path::new).find(|root| root.join("instances").exists());
    let is_alive = |owner: u32| Path::new("/proc").join(owner.to_string()).exists();
    let opened = match root {
        Some(root) => DropReasons::open(root, std::process::id(), &is_alive),
        None => Err(io::Error::other("tracefs is not mounted")),
    };
    let told = |error: &io::Error| {
        let fix =
            "as root: mount -t tracefs tracefs /sys/kernel/tracing; or drop_reasons = \"off\"";
        tracing::info!(%error, fix, "drops of the kernel are not counted by reason");
    };
    opened.inspect_err(told).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_ends_when_it_is_told() {
        let watch = Watch::new();
        let publication = Arc::new(Publication::new(1));
        let data = tempfile::tempdir().unwrap();
        let listen = (SocketAddr::from(([127, 0, 0, 1], 1)), Arc::new(Registry::default()));
        let counters = Arc::clone(&publication);
        let settings = Settings { data: data.path().to_owned(), ..Settings::default() };
        let started = Watcher::start(watch.clone(), &settings, Clock::start(), counters, listen);
        let watcher = started.unwrap();
        drop(watcher);
        assert_eq!(Arc::strong_count(&publication), 1, "the thread has let go");
    }
}
