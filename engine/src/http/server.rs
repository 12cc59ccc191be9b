//! Server: connections of the HTTP side, each with limits on what it may hold and for how long.
//!
//! In:   a listening socket, and the routes.
//! Out:  answers; beyond `CONNECTIONS_MAX` a word that it is full.
//! Law:  a client that sends slowly, reads slowly or not at all holds one place, for a while.
//! Not:  who may ask (`guard`), and work that takes long (`questions`).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

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

/// What those are told for whom there is no place.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
                      content-type: application/json\r\ncontent-length: 68\r\n\r\n\
                      {\"error\":\"64 connections are open: close some, or come again later\"}";

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "no HTTP connection can be taken");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            // As much as goes out at once: nobody waits for one who comes too many.
            let _ = stream.try_write(FULL);
            continue;
        };
        limit(&stream);
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_MAX)
                .max_buf_size(REQUEST_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // However it ends, the client has gone or has had its time.
            let _ = timeout(LIFE_MAX, connection).await;
        });
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
