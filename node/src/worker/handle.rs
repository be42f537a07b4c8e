//! The control plane's way into a worker.

use std::future::Future;
use std::sync::Arc;

use sluice_media::messages::{Request, RequestError, Response, WorkerIndex};
use sluice_mesh::FrameSink;
use tokio::sync::oneshot;

use super::connections::NewConnection;
use super::mailbox::{Letter, Mailbox};

/// A way into a worker.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    index: WorkerIndex,
    mailbox: Arc<Mailbox>,
}

impl WorkerHandle {
    pub(super) fn new(index: WorkerIndex, mailbox: Arc<Mailbox>) -> Self {
        Self { index, mailbox }
    }

    /// Which worker.
    pub(crate) fn index(&self) -> WorkerIndex {
        self.index
    }

    /// Asks. The request is queued at once, in order with everything else that is said; the future waits for the
    /// answer.
    ///
    /// # Errors
    /// The worker's, or [`RequestError::Unavailable`] if it is gone or its queue is full.
    pub(crate) fn request(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Response, RequestError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        // What is not taken drops the sender, and so is answered.
        let taken = self.mailbox.post(Letter::Request { request, answer: Some(answer) });
        if !taken {
            tracing::warn!(worker = self.index.0, "media worker takes no request");
        }
        async move { answered.await.unwrap_or(Err(RequestError::Unavailable)) }
    }

    /// Asks in order with other requests; an error is only logged.
    pub(crate) fn send(&self, request: Request) {
        if !self.mailbox.post(Letter::Request { request, answer: None }) {
            tracing::warn!(worker = self.index.0, "media worker takes no request");
        }
    }

    /// As [`send`](Self::send), but gives back what is not taken. What ends something is always taken, unless the
    /// worker is gone.
    ///
    /// # Errors
    /// The request, if the worker is gone or its queue is full.
    pub(crate) fn try_send(&self, request: Request) -> Result<(), Box<Request>> {
        match self.mailbox.offer(Letter::Request { request, answer: None }).map_err(|letter| *letter) {
            Err(Letter::Request { request, .. }) => Err(Box::new(request)),
            #[cfg(test)]
            Err(Letter::Run(_)) => unreachable!("it was a request"),
            Ok(()) => Ok(()),
        }
    }

    /// Gives it a connection, which is closed if the worker has too many waiting or is gone. Whether it is not.
    pub(super) fn connect(&self, connection: NewConnection) -> bool {
        self.mailbox.post_connection(connection)
    }

    /// Has the worker's thread do this, in order with requests.
    #[cfg(test)]
    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) {
        assert!(self.mailbox.post(Letter::Run(Box::new(work))));
    }

    /// Where the mesh puts frames of routes that end at this worker, and feedback about those that begin there. Never
    /// blocks; drops are counted.
    pub(crate) fn frame_sink(&self) -> Arc<dyn FrameSink> {
        self.mailbox.clone()
    }
}
