//! A reader that only receives: what the kernel's part of receiving costs, and what it suffers
//! from one that stops.
//!
//! In:   connections; `pause` and `resume`.
//! Out:  how many bytes came.
//! Law:  it does nothing with a byte but count it.
//! Not:  a collector.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::bench::BenchError;
use crate::process::{self, Process};

/// Name of the role.
pub(crate) const ROLE: &str = "reader";
/// Of its listener in the epoll set; connections count from 0.
const LISTENER: u64 = u64::MAX;
/// Events taken at once, and bytes taken by one receive: as the collector's epoll driver has it.
const EVENTS: usize = 1_024;
const RECEIVE_BYTES: usize = 64 << 10;
/// Longest wait: `pause` holds from then on. Long enough to cost nothing that is measured.
const WAIT_NS: i64 = 100_000_000;

/// A reader in a process of its own.
pub(crate) struct Reader {
    /// The process.
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Reader {
    /// Starts one; `around` as in `Process::start`.
    pub(crate) fn start(around: &[String]) -> Result<Reader, BenchError> {
        let mut process = Process::start(ROLE, &[], around)?;
        let line = process.answer()?;
        let address = line.parse().map_err(|_| BenchError::Process { role: ROLE, told: line })?;
        Ok(Reader { process, address })
    }

    /// Stops reading, connections stay.
    pub(crate) fn pause(&mut self) -> Result<(), BenchError> {
        self.process.ask("pause").map(drop)
    }

    /// Reads again.
    pub(crate) fn resume(&mut self) -> Result<(), BenchError> {
        self.process.ask("resume").map(drop)
    }

    /// Bytes that it has read.
    pub(crate) fn bytes(&mut self) -> Result<u64, BenchError> {
        let line = self.process.ask("bytes")?;
        line.parse().map_err(|_| BenchError::Process { role: ROLE, told: line.clone() })
    }
}

/// The role.
pub(crate) fn play(_: &[String]) -> Result<(), BenchError> {
    engine::io::sockets::raise_descriptor_limit()?;
    let listener = deep_listener()?;
    process::answer(&listener.local_addr()?.to_string())?;
    let paused = Arc::new(AtomicBool::new(false));
    let bytes = Arc::new(AtomicU64::new(0));
    {
        let (paused, bytes) = (Arc::clone(&paused), Arc::clone(&bytes));
        // It ends with the process.
        std::thread::spawn(move || {
            if let Err(error) = read_all(&listener, &paused, &bytes) {
                eprintln!("reader: {error}");
                std::process::exit(3);
            }
        });
    }
    for word in process::words() {
        match word.as_str() {
            "pause" => paused.store(true, Ordering::Release),
            "resume" => paused.store(false, Ordering::Release),
            "bytes" => {}
            _ => break,
        }
        process::answer(&bytes.load(Ordering::Acquire).to_string())?;
    }
    Ok(())
}

/// A listener with the backlog of the collector's.
fn deep_listener() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 4_096)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn read_all(listener: &TcpListener, paused: &AtomicBool, bytes: &AtomicU64) -> io::Result<()> {
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&set, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections: Vec<TcpStream> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS);
    let mut buffer = vec![0; RECEIVE_BYTES];
    let wait = Timespec { tv_sec: 0, tv_nsec: WAIT_NS };
    loop {
        if paused.load(Ordering::Acquire) {
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        }
        events.clear();
        match epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            if paused.load(Ordering::Acquire) {
                break;
            }
            match event.data.u64() {
                LISTENER => accept_all(listener, &set, &mut connections)?,
                place => match connections[place as usize].read(&mut buffer) {
                    Ok(0) => epoll::delete(&set, &connections[place as usize])?,
                    Ok(count) => {
                        bytes.fetch_add(count as u64, Ordering::Release);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => epoll::delete(&set, &connections[place as usize])?,
                },
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    set: &impl std::os::fd::AsFd,
    connections: &mut Vec<TcpStream>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((connection, _)) => {
                connection.set_nonblocking(true)?;
                let place = EventData::new_u64(connections.len() as u64);
                epoll::add(set, &connection, place, EventFlags::IN)?;
                connections.push(connection);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
