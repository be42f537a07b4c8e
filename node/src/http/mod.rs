//! HTTP: the server that users' and admin port share, and what users find there.
//!
//! # Layout
//! - `server`: connections with their limits, TLS, and an orderly end.
//! - `spoken`: which of them speak HTTP at all.
//! - `users`: the room page, and who may open a WebSocket for signalling.
//! - `forwarded`: where those are who come through a proxy.
//! - `websocket`: such a WebSocket.
//! - `origin`: which web pages may.
//! - `assets`: the embedded files of the room page.
//! - `error`: what is answered to a request that is refused.

mod assets;
mod error;
mod forwarded;
pub(crate) mod origin;
mod server;
mod spoken;
mod users;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Router, response::IntoResponse};

pub(crate) use error::HttpError;
pub(crate) use server::{Connection, Server, ServerConfig};
pub(crate) use users::{Door, TurnUrls, users_router};

use crate::vitals::Vitals;

/// What a request shows as `Authorization: Bearer` (RFC 6750 section 2.1); the scheme's case means nothing (RFC 9110
/// section 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start())
}

/// Why a node that runs is not ready, in words for whoever asks; `None` if nothing hinders it.
type Hindrance = dyn Fn() -> Option<&'static str> + Send + Sync;

/// Whether users may come, as health checks see it: looked at anew each time.
#[derive(Clone)]
pub(crate) struct Health {
    serving: Arc<AtomicBool>,
    vitals: Vitals,
    hindrance: Arc<Hindrance>,
}

impl Health {
    /// Of a node that is starting. Once it serves it is ready while nothing vital has ended and nothing hinders it.
    pub(crate) fn new(vitals: Vitals, hindrance: impl Fn() -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self { serving: Arc::default(), vitals, hindrance: Arc::new(hindrance) }
    }

    /// The node has started, or it is stopping.
    pub(crate) fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), String> {
        if !self.serving.load(Ordering::Relaxed) {
            return Err("starting or stopping".to_owned());
        }
        if let Some(part) = self.vitals.lost() {
            return Err(format!("{part} has ended"));
        }
        (self.hindrance)().map_or(Ok(()), |words| Err(words.to_owned()))
    }
}

/// What those find who come when there is no place: health, and to everything else that there is none.
pub(crate) fn full_router(health: Health) -> Router {
    let full =
        async || (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], "there is no place for another connection\n");
    health_router(health).fallback(full)
}

/// `/healthz`: the process answers. `/readyz`: users may come.
pub(crate) fn health_router<S>(health: Health) -> Router<S> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(health)
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    match health.check() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(words) => (StatusCode::SERVICE_UNAVAILABLE, format!("{words}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_known_in_any_case() {
        let of = |value: &'static str| {
            bearer(&HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])).map(str::to_owned)
        };
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c"] {
            assert_eq!(of(value).as_deref(), Some("a.b.c"), "{value}");
        }
        for value in ["Bearer", "Bearera.b.c", "Basic a.b.c", ""] {
            assert_eq!(of(value), None, "{value}");
        }
    }
}
