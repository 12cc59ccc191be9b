//! Trial: whether this host lets a ring work, and what its kernel offers, found out by working.
//!
//! In:   nothing.
//! Out:  `Offered`, or what the kernel said.
//! Law:  nothing is left behind: a ring of a few buffers, used and gone.
//! Not:  what follows from a refusal (`choice`).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::Socket;

use super::{Done, Handle, Offered, Ring};

/// Receive buffers of a trial.
const BUFFERS: u16 = 2;
/// Answers and waits after which a trial has failed; those of the trial before may come first.
const ANSWERS_MAX: usize = 10;

/// Finds out whether this host lets us work, by working: sets a ring up, registers a buffer ring,
/// and receives a few bytes through it. Errors: what the kernel said; `ENOSYS`, `EPERM`, `EACCES`
/// and `EINVAL` mean "not here".
///
/// On a thread of its own: the end of a ring may interrupt the calls of the thread that made it.
pub fn probe() -> io::Result<Offered> {
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(try_ring)?;
    thread.join().expect("a trial that panics is a defect")
}

fn try_ring() -> io::Result<Offered> {
    let mut offered = Offered {
        deferred: true,
        receive_cap: true,
        accept_at_once: true,
        gather: false,
        direct: true,
    };
    let mut ring = match Ring::new(offered, None, BUFFERS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            offered.deferred = false;
            Ring::new(offered, None, BUFFERS)?
        }
        ring => ring?,
    };
    match ring.try_receive() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            offered.receive_cap = false;
            ring.offered = offered;
            ring.try_receive()?;
        }
        result => result?,
    }
    offered.accept_at_once = ring.try_accept();
    offered.gather = ring.ring.params().is_feature_min_timeout();
    offered.direct = ring.ring.submitter().register_files_sparse(1).is_ok();
    Ok(offered)
}

impl Ring {
    /// Receives four bytes through the buffer ring, to see that it works here.
    fn try_receive(&mut self) -> io::Result<()> {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        io::Write::write_all(&mut &far, b"ring")?;
        let near = Handle::Descriptor(Socket::from(OwnedFd::from(near)));
        self.receive(&near, 0);
        self.enter(Duration::from_secs(1))?;
        match self.take_next() {
            Some(Done::Received { result: Ok(Some(filled)), .. }) => {
                let worked = self.bytes(&filled) == b"ring";
                self.give_back(filled);
                self.cancel_receive(0);
                if worked { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
            }
            Some(Done::Received { result: Err(errno), .. }) => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Whether an accept says EAGAIN, rather than EINVAL, where nobody waits.
    fn try_accept(&mut self) -> bool {
        let Ok(listener) = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else {
            return false;
        };
        self.accept(&Socket::from(listener), 0);
        for _ in 0..ANSWERS_MAX {
            match self.take_next() {
                Some(Done::Accepted { result: Err(error), .. }) => {
                    return error.raw_os_error() == Some(libc::EAGAIN);
                }
                Some(_) => {}
                None if self.enter(Duration::from_secs(1)).is_err() => return false,
                None => {}
            }
        }
        false
    }
}
