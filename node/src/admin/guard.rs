//! Who may ask. On loopback that is everybody on the machine, but no web page in a browser of theirs.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::{NodeConfig, Secret};
use crate::http::bearer;
use crate::http::origin::is_own_host;

/// What a request must show.
pub(crate) struct AdminGuard {
    token: Option<Secret>,
    is_loopback: bool,
}

impl AdminGuard {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self { token: config.admin.token.clone(), is_loopback: config.admin.listen.ip().is_loopback() }
    }
}

/// Refuses what may not be asked.
pub(super) async fn check(State(guard): State<Arc<AdminGuard>>, request: Request, next: Next) -> Response {
    match guard.refusal(request.headers()) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

impl AdminGuard {
    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        if let Some(token) = &self.token {
            let shown = bearer(headers).unwrap_or_default();
            let refusal = (
                StatusCode::UNAUTHORIZED,
                [(WWW_AUTHENTICATE, "Bearer")],
                "Authorization: Bearer and admin.token are needed\n",
            );
            return (!is_same(shown.as_bytes(), token.reveal().as_bytes())).then(|| refusal.into_response());
        }
        // A page whose name was made to point here shows no token; where one is set, that is enough.
        let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let refusal = (StatusCode::FORBIDDEN, "Host must be this machine's address or localhost\n");
        (self.is_loopback && !is_own_host(host)).then(|| refusal.into_response())
    }
}

/// In a time that does not tell how far they are the same.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
