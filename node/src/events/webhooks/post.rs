//! One delivery: an HTTP POST that is signed.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use crate::config::{HttpUrl, Secret};
use crate::support::unix_ms;

/// Names the event, the same each time that it is delivered.
const ID: &str = "sluice-event-id";
/// When this delivery was signed, in seconds since the Unix epoch.
const TIMESTAMP: &str = "sluice-timestamp";
/// `v1=` and HMAC-SHA256 of timestamp, id and body.
const SIGNATURE: &str = "sluice-signature";

/// Bytes of an answer's body that are read, so that the connection can be used again. Nothing in it counts.
const MAX_ANSWER_LEN: usize = 4_096;

/// How long a connection is kept for the next event.
const IDLE: Duration = Duration::from_secs(30);

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// Anything but success, redirects among it.
    #[error("the receiver answered {0}")]
    Status(u16),
    #[error("the receiver did not answer in time")]
    Timeout,
    #[error("the receiver cannot be reached: {0}")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("the event cannot be sent: {0}")]
    Header(#[from] hyper::http::Error),
}

/// Takes events.
pub(super) trait Receiver: Clone + Send + Sync + 'static {
    /// Delivers an event once.
    fn post(&self, id: &str, body: Bytes) -> impl Future<Output = Result<(), PostError>> + Send;
}

/// The receiver at a URL.
#[derive(Clone)]
pub(super) struct HttpReceiver {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    key: Arc<hmac::Key>,
    timeout: Duration,
}

/// Why nothing can be delivered to a URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableUrl {
    #[error("it is not a URL that can be asked")]
    Uri(#[from] hyper::http::uri::InvalidUri),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the system has no certificates of authorities, which https needs")]
    NoRoots,
}

impl HttpReceiver {
    pub(super) fn new(url: &HttpUrl, key: &Secret, timeout: Duration) -> Result<Self, UnusableUrl> {
        let url: Uri = url.as_str().parse()?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(timeout));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls(&url)?).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(https.wrap_connector(http));
        Ok(Self { client, url, key: Arc::new(hmac::Key::new(HMAC_SHA256, key.reveal().as_bytes())), timeout })
    }

    fn request(&self, id: &str, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let timestamp = unix_ms() / 1_000;
        Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .header(ID, id)
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, signature(&self.key, timestamp, id, &body))
            .body(Full::new(body))
    }
}

/// The authorities that the system trusts.
fn tls(url: &Uri) -> Result<ClientConfig, UnusableUrl> {
    let mut roots = RootCertStore::empty();
    if url.scheme_str() == Some("https") {
        let (known, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if known == 0 {
            return Err(UnusableUrl::NoRoots);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl Receiver for HttpReceiver {
    async fn post(&self, id: &str, body: Bytes) -> Result<(), PostError> {
        let request = self.request(id, body)?;
        let answered = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            // A longer one costs the connection.
            let _ = Limited::new(response.into_body(), MAX_ANSWER_LEN).collect().await;
            match status.is_success() {
                true => Ok(()),
                false => Err(PostError::Status(status.as_u16())),
            }
        };
        timeout(self.timeout, answered).await.unwrap_or(Err(PostError::Timeout))
    }
}

fn signature(key: &hmac::Key, timestamp: u64, id: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{timestamp}.{id}.").as_bytes());
    context.update(body);
    let digest = context.sign();
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_openssl_computes() {
        // printf '1700000000.abc.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let key = hmac::Key::new(HMAC_SHA256, b"0123456789abcdef");
        let expected = "v1=4e3b7b0a66764063406ad25199e00784faa2657a81457b56bdbedfa8354cdc8c";
        assert_eq!(signature(&key, 1_700_000_000, "abc", br#"{"a":1}"#), expected);
    }
}
