//! rsyslog: lines over TCP into a file.
//!
//! In:   RFC 5424 messages.
//! Out:  lines of a file, as they were received.
//! Law:  counted is what is in the file.
//! Not:  syncs: `omfile` makes none unless it is told to, and then after each batch.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::daemon::{Daemon, free_address};
use super::{Running, Started};
use crate::bench::BenchError;

/// Bytes of the file that are looked through at once.
const LOOK_BYTES: usize = 1 << 20;

/// Threads for sockets, a queue in memory, large batches and large writes, as its own pages
/// recommend for many messages. The file is flushed after each batch: none waits for a timer.
fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        r#"global(workDirectory="{folder}")
main_queue(queue.type="FixedArray" queue.size="250000" queue.dequeueBatchSize="4096")
module(load="imptcp" threads="2")
template(name="line" type="string" string="%rawmsg%\n")
ruleset(name="keep" queue.type="FixedArray" queue.size="250000" queue.dequeueBatchSize="4096") {{
    action(type="omfile" file="{folder}/lines" template="line"
           ioBufferSize="512k" flushOnTXEnd="on")
}}
input(type="imptcp" port="{port}" address="127.0.0.1" ruleset="keep")
"#
    )
}

/// Starts it.
pub(crate) fn start(program: &Path, folder: &Path) -> Result<Started, BenchError> {
    let target = free_address()?;
    let file = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("rsyslog.conf"), configuration(folder, target.port()))?;
    let program = program.display().to_string();
    let options = ["-n".to_owned(), "-f".to_owned(), file("rsyslog.conf"), "-i".to_owned()];
    let command = [&[program][..], &options, &[file("rsyslog.pid")]].concat();
    let daemon = Daemon::start(folder, &command)?;
    daemon.wait_for(target)?;
    let lines = Lines { path: folder.join("lines"), file: None, count: 0 };
    Ok(Started { daemon, target, running: Box::new(lines) })
}

/// The file that it writes, as far as it has been looked through.
struct Lines {
    path: PathBuf,
    file: Option<File>,
    count: u64,
}

impl Running for Lines {
    fn stored(&mut self, _: SocketAddr) -> Result<u64, BenchError> {
        if self.file.is_none() && self.path.exists() {
            self.file = Some(File::open(&self.path)?);
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let mut part = vec![0; LOOK_BYTES];
        loop {
            let read = file.read(&mut part)?;
            if read == 0 {
                return Ok(self.count);
            }
            self.count += part[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_its_folder_and_port() {
        let text = configuration(Path::new("/tmp/peer"), 4_711);
        for words in [r#"port="4711""#, r#"file="/tmp/peer/lines""#, r#"{ "#.trim()] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("{{"), "{text}");
    }

    #[test]
    fn lines_are_counted_as_the_file_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut lines = Lines { path: path.clone(), file: None, count: 0 };
        let target = "127.0.0.1:1".parse().unwrap();
        assert_eq!(lines.stored(target).unwrap(), 0);
        fs::write(&path, "a\nb\nhalf").unwrap();
        assert_eq!(lines.stored(target).unwrap(), 2);
        fs::write(&path, "a\nb\nhalf a line\nc\n").unwrap();
        assert_eq!(lines.stored(target).unwrap(), 4);
    }
}
