//! A peer's own program: found, started on ports and in a folder of its own, and stopped by its id.
//!
//! In:   a command line, a folder, a port that it will listen on.
//! Out:  a process that answers; how often it told the kernel to sync.
//! Law:  nothing of it is left when it is dropped; it never runs as a service.
//! Not:  what it is told (`feeder`), what it has kept (the modules of the peers).

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::bench::BenchError;
use crate::process::Process;

/// Name of the role.
pub(crate) const ROLE: &str = "peer";
/// The longest that a program takes to listen, and to end once it is asked to.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts to connect.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// The first port that a peer may listen on, and how many there are.
const PORT_FIRST: u16 = 20_000;
const PORTS: u16 = 12_000;
/// Calls that make a write durable.
const SYNC_CALLS: &str = "fsync,fdatasync,sync,syncfs,sync_file_range,msync";

/// Becomes another program, so that it ends with the bench. What it prints goes into a file.
pub(crate) fn play(arguments: &[String]) -> Result<(), BenchError> {
    let [log, folder, program, rest @ ..] = arguments else {
        return Err(BenchError::Role {
            role: ROLE.to_owned(),
            expected: "a log, a folder and a command",
            found: arguments.join(" "),
        });
    };
    let log = File::create(log)?;
    let (out, err) = (log.try_clone()?, log);
    let error = Command::new(program).args(rest).current_dir(folder).stdout(out).stderr(err).exec();
    Err(error.into())
}

/// A program of somebody else, running.
pub(crate) struct Daemon {
    /// The process.
    pub(crate) process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` in `folder`.
    pub(crate) fn start(folder: &Path, command: &[String]) -> Result<Daemon, BenchError> {
        let log = folder.join("printed");
        let mut arguments = [&log, folder].map(|path| path.display().to_string()).to_vec();
        arguments.extend_from_slice(command);
        let process = Process::start(ROLE, &arguments, &[])?;
        Ok(Daemon { process, log })
    }

    /// Waits until somebody listens there.
    pub(crate) fn wait_for(&self, target: SocketAddr) -> Result<(), BenchError> {
        let began = Instant::now();
        while TcpStream::connect(target).is_err() {
            if began.elapsed() > PATIENCE {
                let printed = fs::read_to_string(&self.log).unwrap_or_default();
                let told = printed.lines().last().unwrap_or("nothing");
                let told = format!("does not listen on {target}; it printed last: {told}");
                return Err(BenchError::Process { role: ROLE, told });
            }
            std::thread::sleep(TRY_AGAIN);
        }
        Ok(())
    }

    /// Asks it to end and waits for that: some leave shared memory behind where they are killed.
    pub(crate) fn stop(self) {
        self.process.end(PATIENCE);
    }
}

/// Counts the calls by which a process makes writes durable.
pub(crate) struct SyncWatch {
    process: Process,
    summary: PathBuf,
}

impl SyncWatch {
    /// Begins to watch. An error says why nobody can: no strace, or no right to trace.
    pub(crate) fn start(folder: &Path, watched: u32) -> Result<SyncWatch, BenchError> {
        let program = program("strace")
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "strace is not installed"))?;
        let (summary, log) = (folder.join("syncs"), folder.join("strace-printed"));
        let (summary_text, watched) = (summary.display().to_string(), watched.to_string());
        let trace = format!("trace={SYNC_CALLS}");
        let options = ["-f", "-c", "-e", &trace, "-o", &summary_text, "-p", &watched];
        let paths = [&log, folder, &program].map(|path| path.display().to_string());
        let arguments: Vec<String> = paths.into_iter().chain(options.map(str::to_owned)).collect();
        let process = Process::start(ROLE, &arguments, &[])?;
        let began = Instant::now();
        while !fs::read_to_string(&log).unwrap_or_default().contains("attached") {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("strace did not attach").into());
            }
            std::thread::sleep(TRY_AGAIN);
        }
        Ok(SyncWatch { process, summary })
    }

    /// How many there were.
    pub(crate) fn end(self) -> Result<u64, BenchError> {
        self.process.end(PATIENCE);
        Ok(syncs_of(&fs::read_to_string(&self.summary)?))
    }
}

/// Calls in what `strace -c` says: in the fourth column of every line that ends with a name.
fn syncs_of(summary: &str) -> u64 {
    let calls = summary.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_sync = SYNC_CALLS.split(',').any(|call| words.last() == Some(&call));
        is_sync.then(|| words.get(3)?.parse::<u64>().ok())?
    });
    calls.sum()
}

/// Where a program is: a path, or a name that is looked for where administrators keep programs.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// An address of this host on which nobody listens now; no two calls return the same.
///
/// Its port is below those that the kernel gives to connections: one of these, tried before the
/// program listens, could be given the very port that it tries, and would meet itself.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at a time begin in different places.
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap_or(0);
    for _ in 0..PORTS {
        let place = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_FIRST + place));
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound.map(|_| address),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port from 20000 to 31999 is free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_read_from_the_summary_of_strace() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 80.00    0.002000          20       100           fsync
 20.00    0.000500          10        50         2 fdatasync
------ ----------- ----------- --------- --------- ----------------
100.00    0.002500                   150         2 total
";
        assert_eq!(syncs_of(summary), 150);
        assert_eq!(syncs_of(""), 0);
    }

    #[test]
    fn a_program_is_found_by_its_name_or_its_path() {
        assert!(program("sh").is_some());
        assert_eq!(program("/bin/sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(program("no-such-program-anywhere"), None);
    }
    #[test]
    fn a_free_address_is_given_to_one() {
        let (first, second) = (free_address().unwrap(), free_address().unwrap());
        assert_ne!(first, second);
        let ports = PORT_FIRST..PORT_FIRST + PORTS;
        assert!(ports.contains(&first.port()) && ports.contains(&second.port()));
        assert!(TcpListener::bind(first).is_ok());
    }
}
