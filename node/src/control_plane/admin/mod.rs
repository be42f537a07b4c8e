//! The operators' port: health, metrics, and the state of cluster and rooms as JSON.

mod cluster;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::http::{Health, health_router};
use super::metrics::{Metrics, Sources};
use super::rooms::RoomsOverview;
use cluster::Cluster;

/// OpenMetrics, which Prometheus asks for and any scraper of its text format reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything on the admin port:
/// - `GET /healthz`, `GET /readyz`
/// - `GET /metrics`: OpenMetrics text
/// - `GET /v1/cluster`: [`Cluster`]
/// - `GET /v1/rooms`: [`RoomsOverview`]
pub(crate) fn admin_router(sources: Arc<Sources>, metrics: Metrics, health: Health) -> Router {
    let metrics = Arc::new(metrics);
    Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/rooms", get(rooms))
        .with_state(sources)
        .merge(Router::new().route("/metrics", get(metrics_text)).with_state(metrics))
        .merge(health_router(health))
}

async fn cluster(State(sources): State<Arc<Sources>>) -> Json<Cluster> {
    Json(Cluster::of(&sources))
}

async fn rooms(State(sources): State<Arc<Sources>>) -> Json<RoomsOverview> {
    Json(sources.rooms.overview().await)
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
