//! Questions: work that reads the log for somebody, beside the shards and never in their way.
//!
//! In:   a function that may take seconds, and what all of them together may take of memory.
//! Out:  its answer; or that too many ask, that it took too long, or needs more than it may take.
//! Law:  so many run at a time, within their memory; so many wait; nobody waits longer than
//!       `PATIENCE`, and nobody works for whom nobody waits.
//! Not:  what is asked (`api`), counting what a question takes (`storage::allowance`).

use std::sync::Arc;
use std::time::Duration;

use storage::allowance::Allowance;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::api::ApiError;

/// Questions that run at a time: each has its share of the memory that is set aside for them, so
/// that what one may take does not depend on who else asks.
pub(super) const RUNNING_MAX: usize = 2;
/// Questions that run or wait; one more is turned away at once.
const ASKED_MAX: usize = 16;
/// How long somebody waits for an answer, its turn included.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places of those that run and of those that wait.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    asked: Arc<Semaphore>,
    running: Arc<Semaphore>,
    patience: Duration,
    /// What one of them may take.
    share_bytes: u64,
}

impl Questions {
    /// Questions that together may take so many bytes.
    pub(super) fn new(memory_bytes: u64) -> Questions {
        Questions {
            asked: Arc::new(Semaphore::new(ASKED_MAX)),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            patience: PATIENCE,
            share_bytes: memory_bytes / RUNNING_MAX as u64,
        }
    }

    /// Runs `work` on a thread for such work.
    ///
    /// Errors: those of `work`; `busy`; `late`. When it is late, or whoever asked has gone, its
    /// allowance ends: the thread stops at the next block of the log, and then gives its place.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Allowance) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let asked = Arc::clone(&self.asked).try_acquire_owned().map_err(|_| ApiError::busy())?;
        let running = Arc::clone(&self.running);
        let allowance = Allowance::new(self.share_bytes);
        let _waiting = Waiting(allowance.clone());
        let answer = async move {
            // Nobody closes the semaphore.
            let turn = running.acquire_owned().await.map_err(|_| ApiError::busy())?;
            let work = tokio::task::spawn_blocking(move || {
                let _places = (asked, turn);
                work(&allowance)
            });
            work.await.map_err(|_| ApiError::failed("the question could not be worked on"))?
        };
        timeout(self.patience, answer).await.map_err(|_| ApiError::late(self.patience))?
    }
}

/// Somebody who waits for an answer; gone when they have it, or will not have it.
struct Waiting(Allowance);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn questions_are_bounded_in_number_and_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let questions =
            Questions { patience: Duration::from_millis(50), ..Questions::new(1 << 20) };
        let (hold, held) = channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        runtime.block_on(async {
            // As many as may run, and they do not end before they are let go.
            for _ in 0..RUNNING_MAX {
                let held = Arc::clone(&held);
                let work = move |_: &Allowance| {
                    let _ = held.lock().unwrap().recv();
                    Ok(())
                };
                let error = questions.ask(work).await.unwrap_err();
                assert_eq!(error.status, StatusCode::GATEWAY_TIMEOUT);
            }
            // They keep their places: the next finds none in its time, and does not run.
            let error = questions.ask(|_| Ok(())).await.unwrap_err();
            assert_eq!(error.status, StatusCode::GATEWAY_TIMEOUT);
            let _rest = Arc::clone(&questions.asked)
                .acquire_many_owned((ASKED_MAX - RUNNING_MAX) as u32)
                .await
                .unwrap();
            let error = questions.ask(|_| Ok(())).await.unwrap_err();
            assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        });
        drop(hold);
        let patient = Questions { patience: PATIENCE, ..questions };
        assert_eq!(runtime.block_on(patient.ask(|_| Ok(7))).unwrap(), 7);
    }

    #[test]
    fn a_question_ends_when_nobody_waits_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let questions =
            Questions { patience: Duration::from_millis(50), ..Questions::new(1 << 20) };
        let (tell, told) = channel();
        let work = move |allowance: &Allowance| {
            // As a reader does: block after block, until it is told to stop.
            while allowance.check().is_ok() {
                std::thread::yield_now();
            }
            tell.send(allowance.check().unwrap_err().to_string()).unwrap();
            Ok(())
        };
        let error = runtime.block_on(questions.ask(work)).unwrap_err();
        assert_eq!(error.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(told.recv().unwrap(), "nobody waits for the answer any more");
    }

    #[test]
    fn questions_together_stay_within_their_memory() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let questions = Questions::new(1_000);
        let share =
            runtime.block_on(questions.ask(|allowance| Ok(allowance.room_bytes()))).unwrap();
        assert!(share > 0 && share * RUNNING_MAX as u64 <= 1_000);
    }
}
