//! The HTTP side: `/metrics` for Prometheus, `/healthz` for whoever restarts processes, the JSON
//! interface for programs, and the page for people.
//!
//! In:   what the shards published, what the watch has seen, the log; requests.
//! Out:  text, JSON, one page; 503 of `/healthz`, with the faults by name, when all is not well,
//!       and 200 with words when only the past lacks rows.
//! Law:  it runs on threads of its own and only reads: a slow client costs a shard nothing.
//! Not:  counting (`metrics`), or questions about the past themselves (`query`).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use storage::allowance::Allowance;
use storage::time::{MICROS_PER_SECOND, Micros};
use tokio::sync::{Semaphore, oneshot};
use tuning::layers::Layers;
use tuning::tree::Tree;

use crate::io::clock::Clock;
use crate::io::disk::Room;
use crate::metrics::{Metric, Publication};
use crate::query::RowsMissing;
use crate::roster::Roster;
use crate::watch::Watch;

pub(crate) mod kernel;
pub(crate) mod fleet;
mod guard;
mod server;
mod questions;
pub mod api;
mod charts;
mod page;

use api::ApiError;
use api::past::Lacking;
use questions::Questions;

pub use guard::{Guard, GuardError};

/// Niceness of the HTTP thread; the shards run at 0.
const HTTP_NICE: i32 = 10;

/// What the pages are made of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What the shards published.
    pub publication: Arc<Publication>,
    /// What the watch has seen.
    pub watch: Watch,
    /// What the shards know of their routers.
    pub roster: Roster,
    /// The data folder.
    pub data: PathBuf,
    /// Finished hours of history that are kept; 0 = all.
    pub retain_hours: u64,
    /// What questions about the past may take of memory, all together.
    pub question_bytes: u64,
    /// The collector's clock.
    pub clock: Clock,
}

impl Sources {
    /// The time that counts as now.
    fn wall(&self) -> Micros {
        self.clock.now().wall
    }
}

/// What every page is made with.
#[derive(Clone, Debug)]
struct App {
    sources: Arc<Sources>,
    guard: Guard,
    questions: Questions,
    /// Places of those who listen to events without end: half of all, others ask too.
    listeners: Arc<Semaphore>,
}

impl App {
    /// Works on a question about the past, and counts the answer if rows are missing from it.
    async fn answer<T: Lacking + Send + 'static>(
        &self,
        work: impl FnOnce(&Allowance) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let answer = self.questions.ask(work).await?;
        self.sources.publication.answered_lacking(answer.rows_missing());
        Ok(answer)
    }
}

/// The HTTP side, serving until it is stopped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    guard: Guard,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Binds the address (port 0 = any free one) and serves from a thread named `http`.
    ///
    /// Errors: the address cannot be bound, or the thread cannot be started.
    pub fn start(address: SocketAddr, guard: Guard, sources: Sources) -> io::Result<HttpServer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // One for the routers of /metrics, which wait for no question.
            .max_blocking_threads(questions::RUNNING_MAX + 1)
            .thread_name("http-question")
            .on_thread_start(yield_to_shards)
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let publication = Arc::clone(&sources.publication);
        let sources = Arc::new(sources);
        let listeners = Arc::new(Semaphore::new(server::CONNECTIONS_MAX / 2));
        let questions = Questions::new(sources.question_bytes);
        let app = App { sources, guard: guard.clone(), questions, listeners };
        let own = guard.clone();
        let watched = (guard, Arc::clone(&publication));
        let pages = Router::new()
            .route("/metrics", get(metrics_page))
            .route("/healthz", get(health_page))
            .merge(api::routes())
            .merge(charts::routes())
            .merge(page::routes())
            .with_state(app)
            .layer(axum::middleware::from_fn_with_state(watched, guard::watch_over));
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            yield_to_shards();
            runtime.block_on(async {
                // Stopping does not wait for clients: a scrape that is cut is asked again.
                tokio::select! {
                    () = server::serve(listener, pages, publication) => {}
                    _ = stopped => {}
                }
            });
            // Nor for questions: their threads end with the process.
            runtime.shutdown_background();
        })?;
        Ok(HttpServer { address, guard: own, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the token again: `Guard::reload`.
    pub fn reload(&self, token_file: Option<&Path>) -> Result<bool, GuardError> {
        self.guard.reload(token_file)
    }
}

impl Drop for HttpServer {
    /// Stops serving and waits for the thread.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// On Linux a priority is the thread's own: whoever asks waits for the shards. Where it may not be
/// lowered, pages are served all the same.
fn yield_to_shards() {
    let _ = rustix::process::setpriority_process(None, HTTP_NICE);
}

async fn metrics_page(State(App { sources, .. }): State<App>) -> impl IntoResponse {
    let mut text = sources.publication.text();
    let (roster, now) = (sources.roster.clone(), sources.wall());
    match tokio::task::spawn_blocking(move || roster.lines(now)).await {
        Ok(Ok(lines)) => fleet::families(&mut text, &lines),
        // A shard that does not answer is told of by /healthz: what all counted stands here.
        Ok(Err(error)) => tracing::debug!(%error, "routers cannot be counted"),
        Err(error) => tracing::debug!(%error, "routers cannot be counted"),
    }
    match tuning::counters::Counters::read() {
        Ok(counters) => kernel::counters(&mut text, &counters),
        // The host's counters are an extra: the collector's own are served without them.
        Err(error) => tracing::debug!(%error, "kernel counters cannot be read"),
    }
    kernel::layers(&mut text, &Layers::read(&Tree::host()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn health_page(State(app): State<App>, headers: HeaderMap) -> impl IntoResponse {
    let sources = &app.sources;
    let faults = faults(&sources.publication, &sources.data, sources.wall());
    if faults.is_empty() {
        // Rows that are missing do not come back by a restart: whoever restarts on a bad status
        // would do so for ever, and each time nobody would be watched for a while.
        return match lacking(&sources.publication.places_lacking()) {
            None => (StatusCode::OK, "ok\n".to_owned()),
            Some(_) if !app.guard.admits(&headers) => (StatusCode::OK, "degraded\n".to_owned()),
            Some(text) => (StatusCode::OK, format!("degraded: {text}\n")),
        };
    }
    if !app.guard.admits(&headers) {
        // Whoever restarts processes needs no token; what is wrong is told to those who have it.
        return (StatusCode::SERVICE_UNAVAILABLE, "not well\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n")
}

/// What is missing of the past, in words; `None` = nothing, as far as anybody has met it.
fn lacking(places: &[RowsMissing]) -> Option<String> {
    let first = places.first()?;
    let since = places.iter().filter_map(|place| place.since.as_deref()).min();
    let since = since.map_or(String::new(), |since| format!(", the earliest read in {since}"));
    Some(format!(
        "rows of the log cannot be read at {} places{since}; the first is {} at byte {}: answers \
         that need them say unknown; collecting goes on, and a restart mends nothing: `stormdrain \
         verify` names them",
        places.len(),
        first.file,
        first.byte
    ))
}

/// What is wrong with the collector, one line each; empty = healthy.
pub fn faults(publication: &Publication, data: &Path, now: Micros) -> Vec<String> {
    let mut faults = Vec::new();
    for shard in 0..publication.shards() {
        let counters = publication.counters(shard);
        match publication.turned(shard) {
            None => faults.push(format!("shard {shard}: not started yet")),
            Some(turned) if now.since(turned) > SHARD_SILENCE_US_MAX => {
                let seconds = now.since(turned) / MICROS_PER_SECOND;
                faults.push(format!("shard {shard}: no turn of its loop for {seconds} s"));
            }
            Some(_) => {}
        }
        if counters.get(Metric::LogFailed) != 0 {
            faults.push(format!(
                "shard {shard}: degraded: the log waits for room, so nothing is read or \
                 acknowledged, and nothing is lost; {}",
                Room::at(data)
            ));
        }
        let imbalance = counters.get(Metric::LedgerImbalance);
        if imbalance != 0 {
            faults.push(format!("shard {shard}: the ledger is off by {imbalance}"));
        }
    }
    faults
}

/// A shard turns at least once a second; ten missed turns are no hiccup.
const SHARD_SILENCE_US_MAX: i64 = 10 * MICROS_PER_SECOND;

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::metrics::Counters;

    const NOW: Micros = Micros(1_800_000_000_000_000);
    static STANDING: AtomicI64 = AtomicI64::new(NOW.0);

    pub(crate) fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A collector that has not begun.
    pub(crate) fn quiet_sources() -> Sources {
        Sources {
            publication: Arc::new(Publication::new(1)),
            watch: Watch::new(),
            roster: Roster::default(),
            data: "/".into(),
            retain_hours: 0,
            question_bytes: 64 << 20,
            clock: Clock::standing(&STANDING),
        }
    }

    #[test]
    fn pages_are_served_until_the_server_is_stopped() {
        let publication = Arc::new(Publication::new(1));
        let mut counters = Counters::default();
        counters.add(Metric::Changes, 42);
        publication.publish(0, &counters, NOW);
        let sources = Sources { publication: Arc::clone(&publication), ..quiet_sources() };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let guard = Guard::new(address, None).unwrap();
        let server = HttpServer::start(address, guard, sources).unwrap();

        let metrics = ask(server.address(), "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
        assert!(metrics.contains("stormdrain_changes_total{shard=\"0\"} 42\n"), "{metrics}");
        let health = ask(server.address(), "/healthz");
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"), "{health}");
        assert!(ask(server.address(), "/other").starts_with("HTTP/1.1 404"));

        counters.set(Metric::LedgerImbalance, 3);
        publication.publish(0, &counters, NOW);
        let health = ask(server.address(), "/healthz");
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
        assert!(health.ends_with("shard 0: the ledger is off by 3\n"), "{health}");

        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn health_names_every_fault() {
        let publication = Publication::new(2);
        let mut counters = Counters::default();
        let faults = |publication: &Publication| faults(publication, Path::new("/"), NOW);
        assert_eq!(faults(&publication).len(), 2);
        counters.set(Metric::LogFailed, 1);
        publication.publish(0, &counters, NOW);
        publication.publish(1, &Counters::default(), NOW.offset(-11 * MICROS_PER_SECOND));
        let faults = faults(&publication);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("shard 0: degraded: the log waits for room"), "{faults:?}");
        assert!(faults[0].ends_with(" bytes free"), "{faults:?}");
        assert_eq!(faults[1], "shard 1: no turn of its loop for 11 s");
    }
}
