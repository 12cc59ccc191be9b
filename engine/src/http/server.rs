//! Server: connections of the HTTP side, each with limits on what it may hold and for how long.
//!
//! In:   a listening socket, and the routes.
//! Out:  answers; beyond `CONNECTIONS_MAX` a word that it is full, but to `/healthz`.
//! Law:  a client that sends slowly, reads slowly or not at all holds one place, for a while; no
//!       source holds all of them; whoever asks for `/healthz` is answered whoever holds them.
//! Not:  who may ask (`guard`), and work that takes long (`questions`).
//!
//! What restarts a collector that does not answer `/healthz` does what no router could. So the
//! answer does not depend on a place: who finds none is looked at for a moment, and served if
//! these are the first bytes of that question. Those who are looked at are a queue of the newest;
//! whoever holds a connection open and says nothing is pushed out by the next one.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::metrics::{Kept, Publication};

/// Connections at a time: a dozen people with a few tabs each, and their scrapers.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Within this a request has to be here, from the moment when it may come.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// A request line and its headers may have so many bytes.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// A connection lives no longer than this; whoever listens to events connects again.
const LIFE_MAX: Duration = Duration::from_secs(600);
/// For so long what was sent may lie unread at the other end before the kernel gives it up.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// What the kernel may hold for one client that does not read.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// After an accept that failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Places that one source may have: three quarters, so that another one finds some.
pub(super) const CONNECTIONS_PER_SOURCE_MAX: usize = CONNECTIONS_MAX / 4 * 3;
/// Those without a place who are looked at, whether they ask for `/healthz`; the eldest is let go
/// for the next.
const LOOKED_AT_MAX: usize = 64;
/// So long one of them may take to say what it wants.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Between two looks at one that has not said enough.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A connection for `/healthz` alone lives no longer than this.
const HEALTH_LIFE_MAX: Duration = Duration::from_secs(5);
/// How a request begins that is answered without a place.
const HEALTH: [&[u8]; 2] = [b"GET /healthz ", b"HEAD /healthz "];

/// What those are told for whom there is no place.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
                      content-type: application/json\r\ncontent-length: 84\r\n\r\n\
                      {\"error\":\"64 connections are open, or 48 of yours: close some, or come again later\"}";

/// Where a request comes from: an extension of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who has a place.
#[derive(Debug, Default)]
struct Places {
    taken: usize,
    of_sources: BTreeMap<IpAddr, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Mutex<Places>>,
    source: IpAddr,
}

impl Place {
    /// A place for this source, if there is one.
    fn take(places: &Arc<Mutex<Places>>, source: IpAddr) -> Option<Place> {
        // It is locked for two numbers, which nobody leaves half written.
        let mut held = places.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = held.of_sources.get(&source).copied().unwrap_or_default();
        if held.taken == CONNECTIONS_MAX || of_source == CONNECTIONS_PER_SOURCE_MAX {
            return None;
        }
        held.taken += 1;
        held.of_sources.insert(source, of_source + 1);
        Some(Place { places: Arc::clone(places), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        held.taken -= 1;
        if let Some(count) = held.of_sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.of_sources.remove(&self.source);
            }
        }
    }
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, routes: Router, publication: Arc<Publication>) {
    let places = Arc::<Mutex<Places>>::default();
    let mut looked_at: VecDeque<oneshot::Sender<()>> = VecDeque::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "no HTTP connection can be taken");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        limit(&stream);
        let routes = routes.clone();
        if let Some(place) = Place::take(&places, peer.ip().to_canonical()) {
            tokio::spawn(async move {
                let _place = place;
                answer(stream, peer, routes, LIFE_MAX).await;
            });
            continue;
        }
        looked_at.retain(|look| !look.is_closed());
        if looked_at.len() == LOOKED_AT_MAX {
            // Dropped, it tells the eldest that its time is over.
            looked_at.pop_front();
        }
        let (look, over) = oneshot::channel();
        looked_at.push_back(look);
        let publication = Arc::clone(&publication);
        tokio::spawn(async move {
            let asks = tokio::select! {
                asks = timeout(LOOK_MAX, asks_for_health(&stream)) => asks.unwrap_or(false),
                _ = over => false,
            };
            if asks {
                return answer(stream, peer, routes, HEALTH_LIFE_MAX).await;
            }
            publication.keep(Kept::HttpRefused, 1);
            // What it said is taken off: left unread, it would make a reset of the close, and the
            // word would be lost. As much as goes at once: nobody waits for one who comes too many.
            let mut said = [0; 4 << 10];
            while stream.try_read(&mut said).is_ok_and(|count| count > 0) {}
            let _ = stream.try_write(FULL);
        });
    }
}

/// Answers what comes on a connection, for as long as it may live.
async fn answer(stream: TcpStream, peer: SocketAddr, routes: Router, life: Duration) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .max_buf_size(REQUEST_BYTES_MAX)
        .keep_alive(life == LIFE_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // However it ends, the client has gone or has had its time.
    let _ = timeout(life, connection).await;
}

/// Whether the first bytes are those of a question for `/healthz`; returns as soon as it is known.
async fn asks_for_health(stream: &TcpStream) -> bool {
    let mut first = [0; 16];
    loop {
        let count = match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => count,
        };
        let said = first.get(..count).unwrap_or_default();
        if HEALTH.iter().any(|health| said.starts_with(health)) {
            return true;
        }
        if !HEALTH.iter().any(|health| health.starts_with(said)) {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Has the kernel give up clients that are gone or do not read.
fn limit(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(UNREAD_MAX).with_interval(UNREAD_MAX / 3);
    // A socket that refuses an option serves all the same, within the life of a connection.
    let _ = socket.set_tcp_user_timeout(Some(UNREAD_MAX));
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    let _ = socket.set_tcp_nodelay(true);
}
