//! The record of what operators asked for.

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::events::audit::{Audit, Entry};
use crate::http::Connection;

/// Scrapes come several times a minute and tell nothing of what anybody did.
const SCRAPED: &str = "/metrics";

/// Records a request with its answer; the answer waits for that.
pub(super) async fn record(
    State(audit): State<Audit>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let (method, uri) = (request.method().to_string(), request.uri().clone());
    let response = next.run(request).await;
    if uri.path() != SCRAPED || !response.status().is_success() {
        // A query may have a token in it by mistake.
        let path = uri.path().to_owned();
        let (remote, status) = (connection.remote, response.status().as_u16());
        audit.record_surely(&Entry::AdminCall { remote, method, path, status }).await;
    }
    response
}
