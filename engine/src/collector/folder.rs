//! The folder watch: whether the data folder is still the one that was taken.
//!
//! In:   the lock of the data folder.
//! Out:  the end of the process when the folder is gone, exchanged, or somebody else's.
//! Law:  it is noticed within half a second and told in one line.
//! Not:  log files (`io::disk`: their threads look after every commit); files of states, which can
//!       be made again.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use storage::log::DataLock;

use crate::io::links::{AbortOnPanic, end_process};

/// How often it looks: three system calls.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The collector's end of the thread.
#[derive(Debug)]
pub(super) struct FolderWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FolderWatch {
    /// Starts the thread. It holds the lock of the data folder until it has ended.
    pub(super) fn start(lock: Arc<DataLock>) -> io::Result<FolderWatch> {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("folder".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            watch(&lock, &stopped);
        })?;
        Ok(FolderWatch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

fn watch(lock: &DataLock, stopped: &Receiver<()>) {
    while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        match lock.check() {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                "`lock` was removed from the data folder, and is made again: the folder itself is \
                 locked too, so no second collector was let in"
            ),
            Err(error) => end_process(&format_args!(
                "{error}: the process ends, for what it writes nobody would find, or somebody \
                 else writes there too; put the folder back as it was, then start the collector"
            )),
        }
    }
}
