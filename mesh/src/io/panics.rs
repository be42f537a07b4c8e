//! What a panic ends: a pipe's, that pipe; a task's that nobody waits for, the endpoint. None may leave behind what
//! only looks alive.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio_util::sync::CancellationToken;

/// The future has panicked, and is not to be polled again.
pub(super) struct Panicked;

/// Runs a future whose panic is the end of it and of nothing else.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

/// Runs a task whose panic is the end of the endpoint, which `ended` tells. It may end by itself.
pub(super) async fn vital(ended: CancellationToken, task: impl Future) {
    if caught(task).await.is_err() {
        ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_panics_is_heard_and_one_that_ends_is_not() {
        let ended = CancellationToken::new();
        vital(ended.clone(), tokio::task::yield_now()).await;
        assert!(!ended.is_cancelled());
        let panics = async {
            tokio::task::yield_now().await;
            panic!("as a test");
        };
        vital(ended.clone(), panics).await;
        assert!(ended.is_cancelled());
    }
}
