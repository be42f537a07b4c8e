//! The operators' port: health, metrics, and the state of cluster and rooms as JSON.

mod audit;
mod cluster;
mod guard;

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use sluice_proto::ids::{NamespaceId, PeerId, RoomId, RoomKey};

use crate::events::usage::NodeUsage;
use crate::http::{Health, health_router};
use crate::metrics::{Metrics, Sources};
use cluster::Cluster;
pub(crate) use guard::AdminGuard;

/// OpenMetrics, which Prometheus asks for and any scraper of its text format reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything on the admin port:
/// - `GET /healthz`, `GET /readyz`
/// - `GET /metrics`: OpenMetrics text
/// - `GET /v1/cluster`: [`Cluster`]
/// - `GET /v1/usage`: [`NodeUsage`]
/// - `GET /v1/rooms`: [`RoomsOverview`](crate::rooms::overview::RoomsOverview), those after the room `after`
///   (`namespace/room`), at most `limit`
/// - `GET /v1/rooms/{namespace}/{room}/peers`: [`PeersPage`](crate::rooms::api::PeersPage), those after the peer
///   `after`, at most `limit`
/// - `PUT` and `DELETE /v1/rooms/{namespace}/{room}/peers/{peer}/stage`: asks a peer of this node onto the stage, or
///   says that it need not be there
///
/// The guard stands before all of them but health, and all that is asked of it is audited, but for scrapes.
pub(crate) fn admin_router(sources: Arc<Sources>, metrics: Metrics, guard: AdminGuard, health: Health) -> Router {
    let (metrics, audit) = (Arc::new(metrics), sources.events.audit().clone());
    Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/usage", get(usage))
        .route("/v1/rooms", get(rooms))
        .route("/v1/rooms/{namespace}/{room}/peers", get(peers))
        .route("/v1/rooms/{namespace}/{room}/peers/{peer}/stage", put(onto_stage).delete(off_stage))
        .with_state(sources)
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

#[derive(Deserialize)]
struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
}

async fn rooms(State(sources): State<Arc<Sources>>, Query(query): Query<PageQuery>) -> Response {
    let after = match query.after.as_deref().map(room_key) {
        None => None,
        Some(Some(key)) => Some(key),
        Some(None) => return (StatusCode::BAD_REQUEST, "after must be namespace/room\n").into_response(),
    };
    Json(sources.rooms.overview(after.as_ref(), query.limit).await).into_response()
}

async fn peers(
    State(sources): State<Arc<Sources>>,
    Path(room): Path<RoomKey>,
    Query(query): Query<PageQuery>,
) -> Response {
    let Ok(after) = query.after.map(PeerId::new).transpose() else {
        return (StatusCode::BAD_REQUEST, "after must be the id of a peer\n").into_response();
    };
    match sources.rooms.peers(&room, after, query.limit).await {
        Some(page) => Json(page).into_response(),
        None => (StatusCode::NOT_FOUND, "this node is not in the room\n").into_response(),
    }
}

async fn onto_stage(sources: State<Arc<Sources>>, subject: Path<PeerPath>) -> Response {
    set_stage(sources, subject, true).await
}

async fn off_stage(sources: State<Arc<Sources>>, subject: Path<PeerPath>) -> Response {
    set_stage(sources, subject, false).await
}

#[derive(Deserialize)]
struct PeerPath {
    namespace: NamespaceId,
    room: RoomId,
    peer: PeerId,
}

async fn set_stage(State(sources): State<Arc<Sources>>, Path(subject): Path<PeerPath>, on: bool) -> Response {
    let PeerPath { namespace, room, peer } = subject;
    match sources.rooms.set_stage(&RoomKey { namespace, room }, peer, on).await {
        true => StatusCode::NO_CONTENT.into_response(),
        false => (StatusCode::NOT_FOUND, "this node has no such peer in the room\n").into_response(),
    }
}

fn room_key(text: &str) -> Option<RoomKey> {
    let (namespace, room) = text.split_once('/')?;
    Some(RoomKey { namespace: NamespaceId::new(namespace).ok()?, room: RoomId::new(room).ok()? })
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
