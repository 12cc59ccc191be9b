//! Questions: work that reads the log for somebody, beside the shards and never in their way.
//!
//! In:   a function that may take seconds.
//! Out:  its answer; or that too many ask, or that it took too long.
//! Law:  so many run at a time, so many wait, and nobody waits longer than `PATIENCE`.
//! Not:  what is asked (`api`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::api::ApiError;

/// Questions that run at a time. Each holds what it reads in memory beside the collector's budget,
/// so that more of them would be felt by others on the host before they were answered sooner.
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
}

impl Default for Questions {
    fn default() -> Questions {
        Questions {
            asked: Arc::new(Semaphore::new(ASKED_MAX)),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            patience: PATIENCE,
        }
    }
}

impl Questions {
    /// Runs `work` on a thread for such work.
    ///
    /// Errors: those of `work`; `busy`; `late`, and then the thread goes on to its end and keeps
    /// its place until it is there: reading a log cannot be broken off.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let asked = Arc::clone(&self.asked).try_acquire_owned().map_err(|_| ApiError::busy())?;
        let running = Arc::clone(&self.running);
        let answer = async move {
            // Nobody closes the semaphore.
            let turn = running.acquire_owned().await.map_err(|_| ApiError::busy())?;
            let work = tokio::task::spawn_blocking(move || {
                let _places = (asked, turn);
                work()
            });
            work.await.map_err(|_| ApiError::failed("the question could not be worked on"))?
        };
        timeout(self.patience, answer).await.map_err(|_| ApiError::late(self.patience))?
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
        let questions = Questions { patience: Duration::from_millis(50), ..Questions::default() };
        let (hold, held) = channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        runtime.block_on(async {
            // As many as may run, and they do not end before they are let go.
            for _ in 0..RUNNING_MAX {
                let held = Arc::clone(&held);
                let work = move || {
                    let _ = held.lock().unwrap().recv();
                    Ok(())
                };
                let error = questions.ask(work).await.unwrap_err();
                assert_eq!(error.status, StatusCode::GATEWAY_TIMEOUT);
            }
            // They keep their places: the next finds none in its time, and does not run.
            let error = questions.ask(|| Ok(())).await.unwrap_err();
            assert_eq!(error.status, StatusCode::GATEWAY_TIMEOUT);
            let _rest = Arc::clone(&questions.asked)
                .acquire_many_owned((ASKED_MAX - RUNNING_MAX) as u32)
                .await
                .unwrap();
            let error = questions.ask(|| Ok(())).await.unwrap_err();
            assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        });
        drop(hold);
        let patient = Questions { patience: PATIENCE, ..questions };
        assert_eq!(runtime.block_on(patient.ask(|| Ok(7))).unwrap(), 7);
    }
}
