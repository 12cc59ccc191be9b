//! Allowance: what one question may take of memory, and whether somebody still waits for it.
//!
//! In:   a bound in bytes; what the question holds, as it grows; a word that nobody waits.
//! Out:  an error for whoever reads on although the bound is passed, or nobody waits.
//! Law:  nothing is asked of memory that would pass the bound; blocks are looked at one by one.
//! Not:  how much that is, and for how long (the engine).
//!
//! What a question holds is estimated where it is made: a table by its capacities, a row by its
//! size. Of what is still being decoded, rows are counted before they are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::log::LogError;

/// What one question may take. Clones share it.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: u64,
    held_bytes: AtomicU64,
    high_bytes: AtomicU64,
    is_over: AtomicBool,
}

impl Allowance {
    /// So many bytes; nothing of them is taken.
    pub fn new(bytes_max: u64) -> Allowance {
        Allowance(Arc::new(Shared {
            bytes_max,
            held_bytes: AtomicU64::new(0),
            high_bytes: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }))
    }

    /// All that there is: for whoever has a process of their own.
    pub fn unbounded() -> Allowance {
        Allowance::new(u64::MAX)
    }

    /// Nobody waits for the answer any more: whoever reads on is told so at the next block.
    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Notes that so many bytes more are held.
    pub fn grow(&self, bytes: u64) {
        let held = self.0.held_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.0.high_bytes.fetch_max(held, Ordering::Relaxed);
    }

    /// Notes that so many bytes are held no more.
    pub fn shrink(&self, bytes: u64) {
        self.0.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the question may go on.
    ///
    /// Errors: `LogError::TooLarge` when more is held than the bound; `LogError::NobodyWaits`.
    pub fn check(&self) -> Result<(), LogError> {
        self.check_for(0)
    }

    /// The same, if so many bytes more were held.
    pub fn check_for(&self, bytes: u64) -> Result<(), LogError> {
        if self.0.is_over.load(Ordering::Relaxed) {
            return Err(LogError::NobodyWaits);
        }
        let needed_bytes = self.held_bytes().saturating_add(bytes);
        let bytes_max = self.0.bytes_max;
        if needed_bytes > bytes_max {
            return Err(LogError::TooLarge { needed_bytes, bytes_max });
        }
        Ok(())
    }

    /// What is held now.
    pub fn held_bytes(&self) -> u64 {
        self.0.held_bytes.load(Ordering::Relaxed)
    }

    /// The most that has been held.
    pub fn high_bytes(&self) -> u64 {
        self.0.high_bytes.load(Ordering::Relaxed)
    }

    /// What may still be taken.
    pub fn room_bytes(&self) -> u64 {
        self.0.bytes_max.saturating_sub(self.held_bytes())
    }

    /// Nothing yet, that gives back what it has noted when it goes.
    pub fn hold(&self) -> Held {
        Held { allowance: self.clone(), bytes: 0 }
    }
}

/// What a part of a question holds; given back when it goes.
#[derive(Debug)]
pub struct Held {
    allowance: Allowance,
    bytes: u64,
}

impl Held {
    /// Notes that so many bytes more are held.
    pub fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.allowance.grow(bytes);
    }

    /// Notes that so many bytes are held in place of so many.
    pub fn replace(&mut self, before: u64, after: u64) {
        if after >= before {
            self.grow(after - before);
        } else {
            let less = (before - after).min(self.bytes);
            self.bytes -= less;
            self.allowance.shrink(less);
        }
    }

    /// Takes over what was noted already.
    pub fn adopt(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether the question may go on: `Allowance::check`.
    pub fn check(&self) -> Result<(), LogError> {
        self.allowance.check()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.allowance.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_given_back_and_the_bound_holds() {
        let allowance = Allowance::new(100);
        let mut held = allowance.hold();
        held.grow(60);
        held.replace(60, 20);
        assert_eq!((allowance.held_bytes(), allowance.room_bytes()), (20, 80));
        assert!(allowance.check_for(80).is_ok());
        let error = allowance.check_for(81).unwrap_err();
        let LogError::TooLarge { needed_bytes, bytes_max } = error else { panic!("{error}") };
        assert_eq!((needed_bytes, bytes_max), (101, 100));
        held.grow(81);
        assert!(held.check().is_err());
        drop(held);
        assert!(allowance.check().is_ok());
        assert_eq!((allowance.held_bytes(), allowance.high_bytes()), (0, 101));
    }

    #[test]
    fn nobody_reads_on_when_nobody_waits() {
        let allowance = Allowance::unbounded();
        assert!(allowance.check().is_ok());
        allowance.clone().end();
        assert!(matches!(allowance.check(), Err(LogError::NobodyWaits)));
    }
}
