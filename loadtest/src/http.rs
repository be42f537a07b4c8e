//! Asking nodes by HTTP: their metrics, and whether they are ready.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Within one of the seconds in which a run looks at its nodes.
const TIMEOUT: Duration = Duration::from_millis(900);

/// The largest answer that is read: what a Sluice node of 64 workers in a mesh of 100 says is a tenth of that.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// A client that keeps its connections.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(Client<HttpConnector, Empty<Bytes>>);

impl Default for HttpClient {
    fn default() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

impl HttpClient {
    /// The body of the answer to GET; `None` for anything but success, and when there is none within a second.
    pub(crate) async fn get_uri(&self, uri: Uri) -> Option<String> {
        let exchange = async {
            let response = self.0.get(uri).await.ok().filter(|response| response.status().is_success())?;
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.ok()?;
            String::from_utf8(body.to_bytes().to_vec()).ok()
        };
        tokio::time::timeout(TIMEOUT, exchange).await.ok().flatten()
    }

    /// The same of a path of a server.
    pub(crate) async fn get(&self, server: SocketAddr, path: &str) -> Option<String> {
        self.get_uri(format!("http://{server}{path}").parse().ok()?).await
    }
}
