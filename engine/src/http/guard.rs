//! Guard: who may ask, and what browsers may do with an answer.
//!
//! In:   a request, before anybody has looked at it.
//! Out:  the same, or a refusal that says what is missing; headers on every answer.
//! Law:  with a token nothing but the empty page is told to those who do not have it; without one,
//!       nobody but this host is answered, and no web page of others through a name of its own.
//! Not:  how many may ask (`server`, `questions`).

use std::fs::{File, FileType};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustix::fs::OFlags;
use tokio::sync::watch;

use super::api::ApiError;
use super::page;
use super::server::Peer;
use crate::metrics::{Kept, Publication};

/// The least that a token may have: 16 letters of base64 are 96 bits.
const TOKEN_BYTES_MIN: usize = 16;
/// The most that its file may have; no more of it is read.
const TOKEN_BYTES_MAX: usize = 4_096;
/// Bits of a mode: the group, or everybody, may write.
const OTHERS_WRITE: u32 = 0o022;
/// Everybody may read.
const OTHERS_READ: u32 = 0o004;
/// So late whoever has no token is answered: some dozens of tries a second, with all places.
const REFUSED_WAIT: Duration = Duration::from_millis(500);
/// The log line about it comes once in this time at most.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// What every answer says to browsers: nothing comes from elsewhere, nothing is inline, nobody
/// frames it, and nobody guesses what it is.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Why the HTTP side is not opened.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Others could reach it, and nothing would keep them out.
    #[error(
        "http address {address} can be reached from other hosts, and there is no token: set \
         http_token_file to a file that `head -c 24 /dev/urandom | base64` has written, or http \
         to 127.0.0.1:{port}", port = address.port()
    )]
    Exposed {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The file of the token cannot be read.
    #[error("http_token_file {path}: {source}", path = path.display())]
    Unread {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others could write a token of their own into the file.
    #[error(
        "http_token_file {path}: expected a file that only its owner may write, found mode \
         {mode:04o}: whoever writes it chooses the token; `chmod 400 {path}`", path = path.display()
    )]
    Writable {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file has no token that would keep anybody out.
    #[error(
        "http_token_file {path}: expected one line of 16 to 4096 printable letters, found {found}; \
         `head -c 24 /dev/urandom | base64` writes one", path = path.display()
    )]
    Weak {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
}

/// The token, if there is one.
type Token = Option<Arc<str>>;

/// Who may ask. Clones share the token: another one holds for all of them at once.
#[derive(Clone)]
pub struct Guard {
    address: SocketAddr,
    token: Arc<watch::Sender<Token>>,
    /// When the log was last told that somebody had no token.
    told: Arc<Mutex<Option<Instant>>>,
}

/// Lasts as long as the token does with which an answer was begun.
#[derive(Debug)]
pub(super) struct Admission(watch::Receiver<Token>);

impl Admission {
    /// Returns when another token holds, or none does any more.
    pub(super) async fn ended(&mut self) {
        // An error says that the guard is gone: then nobody may ask either.
        let _ = self.0.changed().await;
    }
}

impl std::fmt::Debug for Guard {
    /// Never the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("has_token", &self.has_token()).finish()
    }
}

impl Guard {
    /// Reads the token, if there is to be one.
    ///
    /// Errors: an address that others can reach, without a token; a file that holds none.
    pub fn new(address: SocketAddr, token_file: Option<&Path>) -> Result<Guard, GuardError> {
        let token = token_for(address, token_file)?;
        Ok(Guard { address, token: Arc::new(watch::Sender::new(token)), told: Arc::default() })
    }

    /// Reads the token again. Whoever has only the old one is admitted no more, and answers that
    /// go on without end, to whomever, end. Returns whether anything changed.
    ///
    /// Errors: as of `new`; then everything stays as it was.
    pub fn reload(&self, token_file: Option<&Path>) -> Result<bool, GuardError> {
        let token = token_for(self.address, token_file)?;
        Ok(self.token.send_if_modified(|held| {
            let is_other = *held != token;
            *held = token;
            is_other
        }))
    }

    /// Lasts from now on until there is another token.
    pub(super) fn admission(&self) -> Admission {
        Admission(self.token.subscribe())
    }

    fn has_token(&self) -> bool {
        self.token.borrow().is_some()
    }

    /// Whether whoever asks has the token, if there is one.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = self.token.borrow().clone() else { return true };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| {
            let (scheme, given) = value.split_at_checked(b"Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(given)
        });
        given.is_some_and(|given| equal(given, token.as_bytes()))
    }

    /// Somebody has no token, or a wrong one: counted, told of now and then, and answered late, so
    /// that nobody tries many.
    async fn token_refused(&self, publication: &Publication, peer: Option<Peer>) {
        publication.keep(Kept::TokensRefused, 1);
        if self.is_line_due() {
            let peer = peer.map(|Peer(peer)| peer.to_string()).unwrap_or_default();
            let refused = publication.kept(Kept::TokensRefused);
            tracing::warn!(
                %peer,
                refused,
                fix = "who should see it: `Authorization: Bearer TOKEN`; who should not: keep it \
                       from http",
                "a request over HTTP had no token or a wrong one; told once a minute at most"
            );
        }
        tokio::time::sleep(REFUSED_WAIT).await;
    }

    fn is_line_due(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| told.elapsed() >= LINE_INTERVAL);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }

    fn refusal(&self, request: &Request) -> Option<ApiError> {
        let path = request.uri().path();
        if self.has_token() {
            let is_open = page::is_piece(path) || path == "/healthz";
            let refused = !is_open && !self.admits(request.headers());
            return refused.then(|| {
                let message = "a token is needed: the header `Authorization: Bearer TOKEN`, with \
                               what stands in the collector's http_token_file";
                ApiError { status: StatusCode::UNAUTHORIZED, message: message.to_owned() }
            });
        }
        // A page of others may have its own name point here; its scripts would be ours to answer.
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let is_here = host.is_some_and(is_this_host);
        (!is_here).then(|| ApiError {
            status: StatusCode::MISDIRECTED_REQUEST,
            message: "the name in the header `Host` is not this host's own: ask 127.0.0.1 or \
                      localhost; a proxy has to send one of them"
                .to_owned(),
        })
    }
}

/// Every request comes by here, and every answer.
pub(super) async fn watch_over(
    State((guard, publication)): State<(Guard, Arc<Publication>)>,
    request: Request,
    next: Next,
) -> Response {
    let mut answer = match guard.refusal(&request) {
        Some(error) => {
            let status = error.status;
            let mut answer = error.into_response();
            if status == StatusCode::UNAUTHORIZED {
                let peer = request.extensions().get().copied();
                guard.token_refused(&publication, peer).await;
                let scheme = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            }
            answer
        }
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        answer.headers_mut().entry(name).or_insert(value);
    }
    answer
}

/// Whether a `Host` header names the host itself, with any port.
fn is_this_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

/// Compares in a time that does not tell how much of it is right.
fn equal(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |all, (left, right)| all | (left ^ right));
    left.len() == right.len() && differences == 0
}

fn token_for(address: SocketAddr, token_file: Option<&Path>) -> Result<Token, GuardError> {
    let token = token_file.map(read_token).transpose()?;
    if token.is_none() && !address.ip().to_canonical().is_loopback() {
        return Err(GuardError::Exposed { address });
    }
    Ok(token)
}

/// Opens the file of the token without waiting for anybody: what is no regular file (a pipe that
/// nobody writes to, a device without end, a folder) is refused at once. A link to one is followed:
/// that is how secrets are mounted.
fn open_token(path: &Path) -> Result<File, GuardError> {
    let unread = |source| GuardError::Unread { path: path.to_owned(), source };
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(unread)?;
    let about = file.metadata().map_err(unread)?;
    if !about.is_file() {
        let kind = kind_of(about.file_type());
        return Err(GuardError::Weak { path: path.to_owned(), found: kind.to_owned() });
    }
    let mode = about.permissions().mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(GuardError::Writable { path: path.to_owned(), mode });
    }
    if mode & OTHERS_READ != 0 {
        // Readable for a group is how containers hand secrets over; for everybody is a slip, but
        // a collector that does not start would hurt more than a token that is no secret here.
        tracing::warn!(
            path = %path.display(),
            mode = format!("{mode:04o}"),
            "http_token_file can be read by everybody on this host: whoever has an account here \
             has the token; chmod 400, or 440 for a group"
        );
    }
    Ok(file)
}

fn kind_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        kind if kind.is_socket() => "a socket",
        _ => "no regular file",
    }
}

fn read_token(path: &Path) -> Result<Arc<str>, GuardError> {
    let weak = |found: String| GuardError::Weak { path: path.to_owned(), found };
    let mut text = Vec::new();
    open_token(path)?
        .take(TOKEN_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|source| GuardError::Unread { path: path.to_owned(), source })?;
    if text.len() > TOKEN_BYTES_MAX {
        return Err(weak(format!("more than {TOKEN_BYTES_MAX} bytes")));
    }
    let token = text.trim_ascii();
    if token.len() < TOKEN_BYTES_MIN {
        return Err(weak(format!("{} letters", token.len())));
    }
    let token = std::str::from_utf8(token)
        .ok()
        .filter(|token| token.bytes().all(|letter| letter.is_ascii_graphic()));
    token.map(Arc::from).ok_or_else(|| weak("other letters".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_kept_out_or_the_start_is_refused() {
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 30_311));
        let here = SocketAddr::from(([127, 0, 0, 1], 30_311));
        let error = Guard::new(everywhere, None).unwrap_err().to_string();
        assert!(
            error.contains("set http_token_file") && error.contains("127.0.0.1:30311"),
            "{error}"
        );
        assert!(Guard::new(here, None).is_ok());
        assert!(Guard::new("[::1]:1".parse().unwrap(), None).is_ok());
        assert!(Guard::new("[::]:1".parse().unwrap(), None).is_err());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let unread = Guard::new(everywhere, Some(&path)).unwrap_err().to_string();
        assert!(unread.contains("No such file"), "{unread}");
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for (text, found) in [
            ("short\n", "5 letters"),
            ("two words of it here", "other letters"),
            (long.as_str(), "more than 4096 bytes"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Guard::new(everywhere, Some(&path)).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let guard = Guard::new(everywhere, Some(&path)).unwrap();
        assert!(!format!("{guard:?}").contains("0123"), "{guard:?}");
        let admits = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            guard.admits(&headers)
        };
        assert!(admits("Bearer 0123456789abcdef") && admits("bearer 0123456789abcdef"));
        // The last has a scheme that is as long as the right one.
        for wrong in
            ["Bearer 0123456789abcde", "Bearer 0123456789abcdeX", "Digest 0123456789abcdef"]
        {
            assert!(!admits(wrong), "{wrong}");
        }
        assert!(!admits("Bearer 0123456789abcdef0") && !guard.admits(&HeaderMap::new()));
    }

    #[test]
    fn a_file_that_is_none_or_that_others_write_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let linked = folder.path().join("linked");
        std::os::unix::fs::symlink("/dev/zero", &linked).unwrap();
        for (path, found) in
            [(&pipe, "a pipe"), (&linked, "a device"), (&folder.path().to_owned(), "a folder")]
        {
            let error = read_token(path).unwrap_err().to_string();
            assert!(error.contains(&format!("found {found};")), "{error}");
        }
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        for (mode, is_read) in [
            (0o400, true),
            (0o440, true),
            (0o444, true),
            (0o600, true),
            (0o620, false),
            (0o602, false),
        ] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            match read_token(&path) {
                Ok(_) => assert!(is_read, "{mode:o}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!is_read && error.contains(&format!("mode {mode:04o}")), "{error}");
                    assert!(error.contains("chmod 400"), "{error}");
                }
            }
        }
    }

    #[test]
    fn another_token_holds_at_once_and_one_that_cannot_be_read_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "the-first-of-two-tokens\n").unwrap();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 30_311));
        let guard = Guard::new(everywhere, Some(&path)).unwrap();
        let shared = guard.clone();
        let admits = |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            shared.admits(&headers)
        };
        let admission = guard.admission();
        assert!(!guard.reload(Some(&path)).unwrap() && !admission.0.has_changed().unwrap());
        std::fs::write(&path, "short\n").unwrap();
        assert!(guard.reload(Some(&path)).is_err());
        assert!(guard.reload(None).is_err(), "others can reach it: a token there must be");
        assert!(admits("the-first-of-two-tokens") && !admission.0.has_changed().unwrap());
        std::fs::write(&path, "the-second-of-two-tokens\n").unwrap();
        assert!(guard.reload(Some(&path)).unwrap() && admission.0.has_changed().unwrap());
        assert!(admits("the-second-of-two-tokens") && !admits("the-first-of-two-tokens"));
    }

    #[test]
    fn only_names_of_this_host_are_its_own() {
        for name in ["localhost", "LOCALHOST:30311", "127.0.0.1", "127.1.2.3:80", "[::1]:30311"] {
            assert!(is_this_host(name), "{name}");
        }
        for name in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil", "192.0.2.1", ""]
        {
            assert!(!is_this_host(name), "{name}");
        }
    }
}
