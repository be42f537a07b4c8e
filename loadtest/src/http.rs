//! Asking nodes by HTTP: their metrics, and whether they are ready.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The largest answer that is read: what a Sluice node of 64 workers in a mesh of 100 says is a tenth of that.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A client that keeps its connections.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(Client<HttpConnector, Empty<Bytes>>);

impl HttpClient {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// The body of the answer to GET; `None` for anything but success. It has no time-out of its own.
    pub(crate) async fn get(&self, url: Uri) -> Option<String> {
        let response = self.0.get(url).await.ok().filter(|response| response.status().is_success())?;
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.ok()?;
        String::from_utf8(body.to_bytes().to_vec()).ok()
    }
}
