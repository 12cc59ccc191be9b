//! One recorded session on the network: opened, sent and closed at its times.
//!
//! In:   a recording; the stage that all sessions of a replay share.
//! Out:  bytes on sockets; what was sent of the file.
//! Law:  nothing of a phase is sent before the phase is opened.
//! Not:  opening phases (`replay`).

use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout};
use tokio_uring::net::TcpStream;

use super::recording::{Action, Recording};
use super::report::FileReplayed;
use super::{ReplayError, Stage};
use crate::clock::instant;
use crate::sender::connect::connect;

/// How long to wait for the collector to close after the last byte.
const FAREWELL: Duration = Duration::from_secs(10);

/// Sends one recording to its end.
pub(super) async fn session(
    stage: Rc<Stage>,
    recording: Recording,
    source: Option<IpAddr>,
) -> Result<FileReplayed, ReplayError> {
    let mut at = 0;
    let result = send(&stage, &recording, source, &mut at).await;
    // Later phases do not wait for a session that is over.
    stage.leave(at..stage.settings.phases.len());
    let target = stage.settings.target;
    result.map_err(|source| ReplayError::Session { path: recording.path, target, source })
}

/// Sends one recording; `at` is the phase that it has come to.
async fn send(
    stage: &Stage,
    recording: &Recording,
    source: Option<IpAddr>,
    at: &mut usize,
) -> io::Result<FileReplayed> {
    let file = recording.path.display().to_string();
    let mut replayed = FileReplayed { file, connections: 0, bytes: 0 };
    let mut open: Option<Connection> = None;
    let mut gate = stage.gate.clone();
    for (place, step) in recording.steps.iter().enumerate() {
        let phase = stage.phase_of(step.time);
        if phase > *at {
            stage.leave(*at..phase);
            *at = phase;
        }
        // The sender of the gate lives as long as the sessions: waiting cannot fail.
        let pace = *gate.wait_for(|pace| pace.phase >= phase).await.map_err(io::Error::other)?;
        let due = (!stage.settings.fast).then(|| pace.due(step.time));
        if let Some(due) = due {
            sleep_until(due).await;
        }
        match &step.action {
            Action::Open => {
                if let Some(connection) = open.replace(Connection::open(stage, source).await?) {
                    connection.close().await;
                }
                replayed.connections += 1;
            }
            Action::Send(range) => {
                let connection = open.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                let began = instant();
                let (result, bytes) =
                    connection.stream.write_all(recording.bytes[range.clone()].to_vec()).await;
                result?;
                replayed.bytes += bytes.len() as u64;
                stage.sent(bytes.len() as u64, due, began);
            }
            Action::Close => {
                if place + 1 == recording.steps.len() {
                    sleep(stage.settings.hold).await;
                }
                if let Some(connection) = open.take() {
                    connection.close().await;
                }
            }
        }
    }
    Ok(replayed)
}

/// A connection, and the task that takes whatever the collector says.
struct Connection {
    stream: Rc<TcpStream>,
    reader: tokio::task::JoinHandle<()>,
}

impl Connection {
    async fn open(stage: &Stage, source: Option<IpAddr>) -> io::Result<Connection> {
        let target = stage.settings.target;
        let connecting = tokio::task::spawn_blocking(move || connect(target, source));
        let stream = connecting.await.map_err(io::Error::other)??;
        let stream = Rc::new(TcpStream::from_std(stream));
        let reader = tokio_uring::spawn(drain(Rc::clone(&stream)));
        Ok(Connection { stream, reader })
    }

    /// Sends FIN and waits until the collector has closed too, so that no byte is lost to a reset.
    async fn close(self) {
        // A collector that has closed already needs no FIN.
        let _ = self.stream.shutdown(Shutdown::Write);
        if timeout(FAREWELL, self.reader).await.is_err() {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

async fn drain(stream: Rc<TcpStream>) {
    let mut buffer = vec![0; 4_096];
    loop {
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        if !matches!(result, Ok(count) if count > 0) {
            return;
        }
    }
}
