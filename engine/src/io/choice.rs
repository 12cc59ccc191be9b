//! Which driver turns the shards: io_uring where this host lets us, epoll where it does not.
//!
//! In:   the `io` setting, and what trying a ring showed.
//! Out:  one decision per process, with the reason in words for the log line and the metric.
//! Law:  `auto` falls back to epoll whatever it is that a ring lacks, and says what, and what
//!       would give it; who demands a ring gets one, or an error.
//! Not:  the drivers (`epoll`, `uring`).

use std::io;

use rustix::io::Errno;
use tuning::doctor::{LOCKED_BYTES, LOCKED_SHARD_BYTES};

use crate::io::uring::Offered;
use crate::settings::IoChoice;

/// The driver that was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, with what this kernel offers.
    Uring(Offered),
    /// epoll.
    Epoll,
}

impl Driver {
    /// The word in settings, log lines and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Uring(_) => "uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// A ring was demanded, or should have worked, and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// `--io uring` where io_uring is forbidden or missing.
    #[error("--io uring: {reason} ({source}); {fix}, or use --io auto")]
    Forbidden {
        /// What stands in the way.
        reason: &'static str,
        /// What removes it.
        fix: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// io_uring is there and failed for want of something.
    #[error("--io uring: io_uring cannot be set up: {source}; {fix}, or use --io auto")]
    Failed {
        /// What gives it what it wants.
        fix: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Decides. `probe` tries a ring; it is not called for `--io epoll`.
pub fn choose(
    wanted: IoChoice,
    probe: impl FnOnce() -> io::Result<Offered>,
) -> Result<(Driver, String), ChoiceError> {
    if wanted == IoChoice::Epoll {
        return Ok((Driver::Epoll, "--io epoll".to_owned()));
    }
    match (probe(), wanted) {
        (Ok(offered), IoChoice::Uring) => Ok((Driver::Uring(offered), "--io uring".to_owned())),
        (Ok(offered), _) => Ok((Driver::Uring(offered), "a trial ring worked".to_owned())),
        (Err(source), wanted) => match (obstacle(&source), wanted) {
            (None, IoChoice::Uring) => Err(ChoiceError::Failed { fix: want_of(&source), source }),
            (None, _) => Ok((Driver::Epoll, reason_of(&source))),
            (Some((reason, fix)), IoChoice::Uring) => {
                Err(ChoiceError::Forbidden { reason, fix, source })
            }
            (Some((reason, fix)), _) => Ok((Driver::Epoll, format!("{reason}; {fix}"))),
        },
    }
}

/// Why there is no ring, and what would give one, in words.
pub fn reason_of(error: &io::Error) -> String {
    match obstacle(error) {
        Some((reason, fix)) => format!("{reason}; {fix}"),
        None => format!("io_uring cannot be set up: {error}; {}", want_of(error)),
    }
}

/// What stands in the way of a ring, and what removes it; `None` when that is not what failed.
fn obstacle(error: &io::Error) -> Option<(&'static str, &'static str)> {
    let errno = Errno::from_io_error(error)?;
    match errno {
        Errno::NOSYS => Some((
            "io_uring is missing from this kernel, or a seccomp filter hides it",
            "allow the io_uring_* calls in the container's seccomp profile",
        )),
        Errno::PERM | Errno::ACCESS => Some((
            "io_uring is forbidden here",
            "sysctl -w kernel.io_uring_disabled=0, \
             or allow the io_uring_* calls in the container's seccomp profile",
        )),
        Errno::INVAL => {
            Some(("io_uring of this kernel lacks multishot receives", "run Linux 6.0 or later"))
        }
        _ => None,
    }
}

/// What a ring that should work lacked, and what gives it.
fn want_of(error: &io::Error) -> String {
    let words = match Errno::from_io_error(error) {
        Some(Errno::NOMEM) => {
            return format!(
                "raise RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK=) to {} MiB and {} MiB per shard",
                LOCKED_BYTES >> 20,
                LOCKED_SHARD_BYTES >> 20
            );
        }
        Some(Errno::MFILE) => "raise RLIMIT_NOFILE (`ulimit -n`, LimitNOFILE=)",
        Some(Errno::NFILE) => "raise fs.file-max",
        _ => "`stormdrain doctor` looks at this host's limits",
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: Offered = Offered {
        deferred: true,
        receive_cap: true,
        accept_at_once: true,
        gather: true,
        direct: true,
    };

    fn failing(errno: Errno) -> impl FnOnce() -> io::Result<Offered> {
        move || Err(errno.into())
    }

    #[test]
    fn auto_falls_back_whatever_a_ring_lacks_and_says_what() {
        for (errno, word) in [
            (Errno::NOSYS, "seccomp"),
            (Errno::PERM, "io_uring_disabled"),
            (Errno::ACCESS, "seccomp"),
            (Errno::INVAL, "Linux 6.0"),
            (Errno::NOMEM, "to 2 MiB and 1 MiB per shard"),
            (Errno::MFILE, "RLIMIT_NOFILE"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::IO, "stormdrain doctor"),
        ] {
            let (driver, reason) = choose(IoChoice::Auto, failing(errno)).unwrap();
            assert_eq!(driver, Driver::Epoll, "{errno:?}");
            assert!(reason.contains("io_uring") && reason.contains(word), "{reason}");
        }
        let late = || Err(io::ErrorKind::TimedOut.into());
        assert_eq!(choose(IoChoice::Auto, late).unwrap().0, Driver::Epoll, "no errno at all");
    }

    #[test]
    fn a_ring_that_was_demanded_and_lacks_something_is_an_error_that_says_how_much() {
        let error = choose(IoChoice::Uring, failing(Errno::NOMEM)).unwrap_err().to_string();
        assert!(error.contains("to 2 MiB and 1 MiB per shard"), "{error}");
        assert!(matches!(
            choose(IoChoice::Uring, failing(Errno::MFILE)),
            Err(ChoiceError::Failed { .. })
        ));
    }

    #[test]
    fn a_ring_that_was_demanded_and_is_forbidden_is_an_error_that_names_the_fix() {
        let error = choose(IoChoice::Uring, failing(Errno::PERM)).unwrap_err().to_string();
        assert!(error.contains("kernel.io_uring_disabled=0"), "{error}");
        assert!(error.contains("--io auto"), "{error}");
    }

    #[test]
    fn epoll_is_taken_untried_and_a_ring_that_works_is_taken() {
        let untried = choose(IoChoice::Epoll, || unreachable!("not asked for"));
        assert_eq!(untried.unwrap().0, Driver::Epoll);
        let (driver, _) = choose(IoChoice::Auto, || Ok(OFFERED)).unwrap();
        assert_eq!(driver, Driver::Uring(OFFERED));
    }
}
