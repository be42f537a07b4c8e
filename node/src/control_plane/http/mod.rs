//! HTTP: the server that users' and admin port share, and what users find there.
//!
//! # Layout
//! - `server`: connections with their limits, TLS, and an orderly end.
//! - `users`: the room page, and who may open a WebSocket for signalling.
//! - `websocket`: such a WebSocket.
//! - `assets`: the embedded files of the room page.

mod assets;
mod server;
mod users;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Router, response::IntoResponse};

pub(crate) use server::{HttpCounters, Server, ServerConfig};
pub(crate) use users::users_router;

/// Whether the node serves, as health checks see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    ready: Arc<AtomicBool>,
}

impl Health {
    /// Says that users may come, or that they may not any more.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}

/// `/healthz`: the process answers. `/readyz`: users may come.
pub(crate) fn health_router<S>(health: Health) -> Router<S> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(health)
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    match health.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n"),
    }
}
