//! The operators' port: health, metrics, and the state of cluster and rooms as JSON.

mod api;
mod audit;
mod cluster;
mod guard;
pub(crate) mod trace;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::entrance::Entrance;
use crate::events::usage::NodeUsage;
use crate::http::{Health, health_router};
use crate::metrics::{Metrics, Sources};
pub(crate) use api::tenants_router;
use cluster::Cluster;
pub(crate) use guard::AdminGuard;

/// OpenMetrics, which Prometheus asks for and any scraper of its text format reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything on the admin port:
/// - `GET /healthz`, `GET /readyz`
/// - `GET /metrics`: OpenMetrics text
/// - `GET /v1/cluster`: [`Cluster`]
/// - `GET /v1/usage`: [`NodeUsage`]
/// - `/v1/rooms`, `/v1/namespaces`, `/v1/openapi.json`: [`api`], and [`trace`] of a peer
///
/// The guard stands before all of them but health, and all that is asked of it is audited, but for scrapes.
pub(crate) fn admin_router(
    sources: Arc<Sources>,
    metrics: Metrics,
    entrance: Entrance,
    guard: AdminGuard,
    health: Health,
) -> Router {
    let (metrics, audit) = (Arc::new(metrics), sources.events.audit().clone());
    Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/usage", get(usage))
        .with_state(sources)
        .merge(api::operators_router(entrance))
        .merge(Router::new().route("/metrics", get(metrics_text)).with_state(metrics))
        .layer(axum::middleware::from_fn_with_state(Arc::new(guard), guard::check))
        .layer(axum::middleware::from_fn_with_state(audit, audit::record))
        .merge(health_router(health))
}

async fn cluster(State(sources): State<Arc<Sources>>) -> Json<Cluster> {
    Json(Cluster::of(&sources))
}

async fn usage(State(sources): State<Arc<Sources>>) -> Json<NodeUsage> {
    Json(sources.usage().await)
}

async fn metrics_text(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode().await {
        Ok(text) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
