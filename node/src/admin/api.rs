//! The API of rooms and tenants: what is there, and what can be done to it. Operators have it on their port, tenants'
//! servers on the users' port, with a token that grants `admin`, for what is theirs. `GET /v1/openapi.json` describes
//! it.
//!
//! It speaks of this node's part of each room: a peer of another node is refused with 421, which names that node.

use axum::extract::{Path, Query, RawPathParams, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use sluice_proto::ids::{NamespaceId, PeerId, RoomId, RoomKey};
use sluice_proto::ortc::MediaKind;
use tokio::time::Instant;
use utoipa::openapi::OpenApi;
use utoipa::{IntoParams, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::audit;
use super::trace::{self, Traces};
use crate::access::{Grants, NamespaceOverview, RevokeError};
use crate::entrance::Entrance;
use crate::events::audit::Entry;
use crate::http::{Connection, Door, HttpError, bearer};
use crate::rooms::api::PeersPage;
use crate::rooms::operations::Operation;
use crate::rooms::overview::RoomsOverview;
use crate::rooms::server_data::{ServerContent, ServerMessage};

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Sluice",
    description = "Rooms and tenants of a node. On the operators' port with `admin.token` if that is set; on the users' port with a token \
                   that grants `admin`, for its namespace and rooms."
))]
struct Description;

/// For operators.
pub(super) fn operators_router(entrance: Entrance) -> Router {
    let (router, description) =
        of_rooms().routes(routes!(trace::trace)).routes(routes!(namespaces)).routes(routes!(revoke)).split_for_parts();
    router.layer(Extension(Traces::default())).with_state(entrance).merge(describe(description))
}

/// For tenants' servers: what of it concerns rooms. It is audited too.
pub(crate) fn tenants_router(door: Door) -> Router {
    let (router, description) = of_rooms().split_for_parts();
    let entrance = door.entrance.clone();
    let log = entrance.rooms().events().audit().clone();
    router
        // Strangers are not worth a line that is waited for.
        .route_layer(from_fn_with_state(log, audit::record))
        .route_layer(from_fn_with_state(door, admit_tenant))
        .with_state(entrance)
        .merge(describe(description))
}

fn of_rooms() -> OpenApiRouter<Entrance> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(rooms))
        .routes(routes!(close_room))
        .routes(routes!(peers))
        .routes(routes!(remove_peer))
        .routes(routes!(set_grants, take_back_grants))
        .routes(routes!(mute, unmute))
        .routes(routes!(onto_stage, off_stage))
        .routes(routes!(message_room))
        .routes(routes!(message_peer))
}

fn describe(description: OpenApi) -> Router {
    Router::new().route("/v1/openapi.json", axum::routing::get(async || Json(description)))
}

/// Lets a tenant's server ask for what is its own. Whoever is asked sees where it is, not the proxy that it comes
/// through.
async fn admit_tenant(
    State(door): State<Door>,
    Extension(connection): Extension<Connection>,
    path: RawPathParams,
    Query(page): Query<RoomsPage>,
    mut request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    let (entrance, remote) = (&door.entrance, door.client(&connection, request.headers()));
    if !entrance.rooms().address_limits().take_session(remote.ip(), Instant::now()) {
        return Err(HttpError(StatusCode::TOO_MANY_REQUESTS, "the address asks too often".to_owned()));
    }
    let of_path = |name| path.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    let namespace = of_path("namespace").and_then(|name| NamespaceId::new(name).ok()).or(page.namespace);
    let room = of_path("room").and_then(|name| RoomId::new(name).ok());
    if let Err(error) = entrance.admit_admin(namespace, room.as_ref(), bearer(request.headers())) {
        let error = HttpError::from(error);
        let (status, reason) = (Some(error.0.as_u16()), error.1.clone());
        let entry = Entry::SessionRefused { remote, who: None, status, reason };
        entrance.rooms().events().audit().record(&entry);
        return Err(error);
    }
    request.extensions_mut().insert(connection.of(remote));
    Ok(next.run(request).await)
}

/// A page of rooms.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RoomsPage {
    /// Only rooms of this namespace. Tenants' servers have to name theirs.
    #[param(value_type = Option<String>)]
    namespace: Option<NamespaceId>,
    /// Go on after this room, `namespace/room`: `next` of the page before.
    after: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

/// The node's rooms, a page at a time.
#[utoipa::path(get, path = "/v1/rooms", params(RoomsPage), responses((status = 200, body = RoomsOverview)))]
async fn rooms(
    State(entrance): State<Entrance>,
    Query(page): Query<RoomsPage>,
) -> Result<Json<RoomsOverview>, HttpError> {
    let after = page.after.as_deref().map(|text| {
        room_key(text).ok_or_else(|| HttpError(StatusCode::BAD_REQUEST, "after must be namespace/room".to_owned()))
    });
    let after = after.transpose()?;
    Ok(Json(entrance.rooms().overview(page.namespace.as_ref(), after.as_ref(), page.limit).await))
}

fn room_key(text: &str) -> Option<RoomKey> {
    let (namespace, room) = text.split_once('/')?;
    Some(RoomKey { namespace: NamespaceId::new(namespace).ok()?, room: RoomId::new(room).ok()? })
}

/// A peer in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PeerPath {
    #[param(value_type = String)]
    namespace: NamespaceId,
    #[param(value_type = String)]
    room: RoomId,
    #[param(value_type = String)]
    peer: PeerId,
}

impl PeerPath {
    pub(super) fn split(self) -> (RoomKey, PeerId) {
        (RoomKey { namespace: self.namespace, room: self.room }, self.peer)
    }
}

async fn operate(entrance: &Entrance, room: &RoomKey, operation: Operation) -> Result<StatusCode, HttpError> {
    entrance.rooms().operate(room, operation).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends everybody who is in the room on this node away, not to come back by themselves.
#[utoipa::path(
    delete, path = "/v1/rooms/{namespace}/{room}", params(("namespace" = String, Path), ("room" = String, Path)),
    responses((status = 204), (status = 404))
)]
async fn close_room(State(entrance): State<Entrance>, Path(room): Path<RoomKey>) -> Result<StatusCode, HttpError> {
    operate(&entrance, &room, Operation::Close).await
}

/// A page of peers.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PeersQuery {
    /// Go on after this peer: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<PeerId>,
    /// At most so many.
    limit: Option<usize>,
}

/// Who is in the room, wherever they are, a page at a time.
#[utoipa::path(
    get, path = "/v1/rooms/{namespace}/{room}/peers",
    params(("namespace" = String, Path), ("room" = String, Path), PeersQuery),
    responses((status = 200, body = PeersPage), (status = 404, description = "This node is not in the room."))
)]
async fn peers(
    State(entrance): State<Entrance>,
    Path(room): Path<RoomKey>,
    Query(page): Query<PeersQuery>,
) -> Result<Json<PeersPage>, HttpError> {
    let found = entrance.rooms().peers(&room, page.after, page.limit).await;
    found.map(Json).ok_or_else(|| HttpError(StatusCode::NOT_FOUND, "this node is not in the room".to_owned()))
}

/// Sends a peer away, not to come back by itself.
#[utoipa::path(
    delete, path = "/v1/rooms/{namespace}/{room}/peers/{peer}", params(PeerPath),
    responses((status = 204), (status = 404), (status = 421, description = "The peer is on another node, which is named."))
)]
async fn remove_peer(State(entrance): State<Entrance>, Path(path): Path<PeerPath>) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    operate(&entrance, &room, Operation::Remove(peer)).await
}

/// Lets a peer do this from now on, and no more, whatever its token says: also when it leaves and comes again, until
/// that is taken back or the room has nobody on this node.
#[utoipa::path(
    put, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/grants", params(PeerPath), request_body = Grants,
    responses((status = 204), (status = 404), (status = 421))
)]
async fn set_grants(
    State(entrance): State<Entrance>,
    Path(path): Path<PeerPath>,
    Json(grants): Json<Grants>,
) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    operate(&entrance, &room, Operation::SetGrants { peer, grants: Some(grants) }).await
}

/// Lets a peer do what its token says again.
#[utoipa::path(
    delete, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/grants", params(PeerPath),
    responses((status = 204), (status = 404), (status = 421))
)]
async fn take_back_grants(
    State(entrance): State<Entrance>,
    Path(path): Path<PeerPath>,
) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    operate(&entrance, &room, Operation::SetGrants { peer, grants: None }).await
}

/// What of a peer is muted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Muted {
    /// `audio` or `video`; without it both.
    #[param(value_type = Option<String>)]
    kind: Option<MediaKind>,
}

/// Pauses what a peer sends, now and later; its client cannot resume it, nor by leaving and coming again, until that is
/// taken back or the room has nobody on this node.
#[utoipa::path(
    put, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/muted", params(PeerPath, Muted),
    responses((status = 204), (status = 404), (status = 421))
)]
async fn mute(
    State(entrance): State<Entrance>,
    Path(path): Path<PeerPath>,
    Query(Muted { kind }): Query<Muted>,
) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    operate(&entrance, &room, Operation::SetMuted { peer, kind, muted: true }).await
}

/// Lets a peer's client resume what was muted.
#[utoipa::path(
    delete, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/muted", params(PeerPath, Muted),
    responses((status = 204), (status = 404), (status = 421))
)]
async fn unmute(
    State(entrance): State<Entrance>,
    Path(path): Path<PeerPath>,
    Query(Muted { kind }): Query<Muted>,
) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    operate(&entrance, &room, Operation::SetMuted { peer, kind, muted: false }).await
}

/// Asks a peer onto the stage of a large room.
#[utoipa::path(
    put, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/stage", params(PeerPath),
    responses((status = 204), (status = 404), (status = 421))
)]
async fn onto_stage(State(entrance): State<Entrance>, Path(path): Path<PeerPath>) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    operate(&entrance, &room, Operation::SetStage { peer, on: true }).await
}

/// Says that a peer need not be on the stage.
#[utoipa::path(
    delete, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/stage", params(PeerPath),
    responses((status = 204), (status = 404), (status = 421))
)]
async fn off_stage(State(entrance): State<Entrance>, Path(path): Path<PeerPath>) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    operate(&entrance, &room, Operation::SetStage { peer, on: false }).await
}

/// Which channel a message comes by.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Channel {
    /// Of the data channel.
    label: String,
    /// Likewise.
    #[serde(default)]
    protocol: String,
}

/// A body of a text type is a string for clients, and any other is bytes.
fn message(Channel { label, protocol }: Channel, headers: &HeaderMap, body: Bytes) -> Result<ServerMessage, HttpError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_text = kind.starts_with("text/") || kind.starts_with("application/json");
    let content = match is_text {
        true => ServerContent::Text(
            String::from_utf8(body.into())
                .map_err(|_| HttpError(StatusCode::BAD_REQUEST, "a text has to be UTF-8".to_owned()))?,
        ),
        false => ServerContent::Binary(body),
    };
    Ok(ServerMessage { label, protocol, content })
}

/// Sends a message by a reliable data channel to everybody in the room on this node who receives data. A body whose
/// type is `text/...` or `application/json` is a string for clients, and any other is bytes.
#[utoipa::path(
    post, path = "/v1/rooms/{namespace}/{room}/messages",
    params(("namespace" = String, Path), ("room" = String, Path), Channel), request_body = Vec<u8>,
    responses((status = 204), (status = 404), (status = 413, description = "It is longer than messages may be."))
)]
async fn message_room(
    State(entrance): State<Entrance>,
    Path(room): Path<RoomKey>,
    Query(channel): Query<Channel>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, HttpError> {
    operate(&entrance, &room, Operation::SendData { to: None, message: message(channel, &headers, body)? }).await
}

/// The same to one peer.
#[utoipa::path(
    post, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/messages",
    params(PeerPath, Channel), request_body = Vec<u8>,
    responses((status = 204), (status = 404), (status = 409, description = "The peer receives no data."), (status = 413), (status = 421))
)]
async fn message_peer(
    State(entrance): State<Entrance>,
    Path(path): Path<PeerPath>,
    Query(channel): Query<Channel>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, HttpError> {
    let (room, peer) = path.split();
    let message = message(channel, &headers, body)?;
    operate(&entrance, &room, Operation::SendData { to: Some(peer), message }).await
}

/// The tenants that the node's file names, with their limits and what they have.
#[utoipa::path(get, path = "/v1/namespaces", responses((status = 200, body = Vec<NamespaceOverview>)))]
async fn namespaces(State(entrance): State<Entrance>) -> Json<Vec<NamespaceOverview>> {
    Json(entrance.namespaces().overview())
}

/// A token in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct TokenPath {
    #[param(value_type = String)]
    namespace: NamespaceId,
    /// `jti`.
    token: String,
}

/// How long a token would be valid.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Revocation {
    /// `exp` of the token: there is no need to remember it any longer. Without it: as long as the node runs.
    expires: Option<u64>,
}

/// Revokes a token on this node, until that ends; `revoked` in its file is for longer. Whoever came with it is sent
/// away.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/revoked/{token}", params(TokenPath, Revocation),
    responses(
        (status = 204),
        (status = 404),
        (status = 507, description = "So many are revoked already that one would have to be forgotten.")
    )
)]
async fn revoke(
    State(entrance): State<Entrance>,
    Path(path): Path<TokenPath>,
    Query(Revocation { expires }): Query<Revocation>,
) -> Result<StatusCode, HttpError> {
    entrance.namespaces().revoke(&path.namespace, &path.token, expires)?;
    entrance.rooms().reauthorise().await;
    Ok(StatusCode::NO_CONTENT)
}

impl From<RevokeError> for HttpError {
    fn from(error: RevokeError) -> Self {
        let status = match &error {
            RevokeError::Unknown(_) => StatusCode::NOT_FOUND,
            RevokeError::Full => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self(status, error.to_string())
    }
}
