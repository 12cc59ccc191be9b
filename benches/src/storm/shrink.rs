//! Makes a host tight: shrinks the receive buffers of connections that a process has accepted.
//!
//! In:   a process, and how many bytes its receive buffers are to hold.
//! Out:  how many connections were shrunk.
//! Law:  listeners stay as they are: the first window has been offered from a buffer of full size.
//! Not:  a setting of the collector: nobody would want one.
//!
//! A buffer that shrinks after its window was offered is what makes the kernel collapse and prune:
//! the sender may still fill the window, in small pieces that each cost more than their bytes.

use std::io;

use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_acceptconn};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Shrinks them. Errors: the system's; a process of another user is one.
pub(crate) fn shrink_connections(process: u32, bytes: usize) -> io::Result<usize> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let mut shrunk = 0;
    for entry in std::fs::read_dir(format!("/proc/{process}/fd"))? {
        let path = entry?.path();
        let is_socket = std::fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let (true, Some(number)) = (is_socket, number) else { continue };
        let socket = pidfd_getfd(&handle, number, PidfdGetfdFlags::empty())?;
        if socket_acceptconn(&socket)? {
            continue;
        }
        set_socket_recv_buffer_size(&socket, bytes)?;
        shrunk += 1;
    }
    Ok(shrunk)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt::socket_recv_buffer_size;

    use super::*;

    #[test]
    fn connections_shrink_and_listeners_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let full = socket_recv_buffer_size(&listener).unwrap();
        assert!(shrink_connections(std::process::id(), 4_096).unwrap() >= 2);
        assert_eq!(socket_recv_buffer_size(&listener).unwrap(), full);
        // The kernel doubles what is asked for.
        assert_eq!(socket_recv_buffer_size(&accepted).unwrap(), 8_192);
    }
}
