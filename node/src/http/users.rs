//! What users find: the room page, and at the same place the WebSocket of signalling.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use sluice_proto::ids::{InvalidName, NamespaceId, PeerId, RoomId};
use tokio::time::Instant;

use super::origin::Origins;
use super::server::Connection;
use super::websocket::Upgrade;
use super::{assets, websocket};
use crate::address_limits::AddressLimits;
use crate::events::audit::Entry;
use crate::http::{Health, health_router};
use crate::rooms::Rooms;
use crate::signalling::protoo::session;
use crate::signalling::{Opening, SUBPROTOCOL};

/// The namespace of those who name none.
const DEFAULT_NAMESPACE: &str = "default";

/// The page runs its own script and talks to its own server, nothing else; blob: is what media elements and workers
/// made by the page are.
const CSP: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; media-src 'self' blob:; \
                   worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; \
                   form-action 'none'; frame-ancestors 'none'";

/// Headers of every answer.
static SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(self), microphone=(self), display-capture=(self), geolocation=()"),
    ),
];

/// What a WebSocket of signalling depends on.
#[derive(Clone)]
pub(crate) struct Door {
    /// Where it leads.
    pub(crate) rooms: Rooms,
    /// Which pages may open it.
    pub(crate) origins: Arc<Origins>,
    /// How often one address may.
    pub(crate) address_limits: Arc<AddressLimits>,
}

/// Everything on the users' port.
pub(crate) fn users_router(door: Door, health: Health) -> Router {
    Router::new()
        .route("/", get(root))
        .fallback_service(get(asset))
        .with_state(door)
        .merge(health_router(health))
        .layer(axum::middleware::map_response(with_security_headers))
}

async fn with_security_headers(mut response: Response) -> Response {
    for (name, value) in &SECURITY_HEADERS {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

async fn asset(uri: Uri, headers: HeaderMap) -> Response {
    assets::serve(uri.path().trim_start_matches('/'), &headers)
}

/// The page, or signalling for those who ask for an upgrade.
async fn root(State(door): State<Door>, Extension(connection): Extension<Connection>, request: Request) -> Response {
    let (rooms, remote) = (door.rooms.clone(), connection.remote);
    match websocket::is_upgrade(request.headers()) {
        true => signalling(door, connection, request).unwrap_or_else(|refusal| refused(&rooms, remote, refusal)),
        false => assets::serve(assets::INDEX, request.headers()),
    }
}

/// An upgrade that is refused, with the reason in words.
type Refusal = (StatusCode, String);

fn refused(rooms: &Rooms, remote: SocketAddr, refusal: Refusal) -> Response {
    let (status, reason) = (Some(refusal.0.as_u16()), refusal.1.trim_end().to_owned());
    rooms.events().audit().record(&Entry::SessionRefused { remote, who: None, status, reason });
    refusal.into_response()
}

fn signalling(door: Door, connection: Connection, mut request: Request) -> Result<Response, Refusal> {
    let (response, upgrade) = Upgrade::accept(&mut request, SUBPROTOCOL)
        .map_err(|reason| (StatusCode::BAD_REQUEST, format!("{reason}\n")))?;
    if !websocket::offers(request.headers(), SUBPROTOCOL) {
        return Err((StatusCode::FORBIDDEN, format!("the WebSocket subprotocol must be {SUBPROTOCOL}\n")));
    }
    check_origin(&door.origins, request.headers())?;
    let opening = opening(request.uri(), &connection)?;
    if !door.address_limits.take_session(connection.remote.ip(), Instant::now()) {
        return Err((StatusCode::TOO_MANY_REQUESTS, "the address opens too many WebSockets\n".to_owned()));
    }
    let rooms = door.rooms;
    tokio::spawn(async move {
        if let Ok(socket) = upgrade.open(rooms.limits().message_bytes).await {
            session::serve(&rooms, socket, opening).await;
        }
        drop(connection);
    });
    Ok(response)
}

/// Programs name no origin.
fn check_origin(origins: &Origins, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(&name).map(|value| value.to_str().unwrap_or_default());
    match text(ORIGIN) {
        Some(origin) if !origins.allow(origin, text(HOST)) => {
            let reason = format!("pages of {origin} may not connect; users.allowed_origins lists those that may\n");
            Err((StatusCode::FORBIDDEN, reason))
        }
        _ => Ok(()),
    }
}

/// Who comes, out of the URL's query.
fn opening(uri: &Uri, connection: &Connection) -> Result<Opening, Refusal> {
    let Query(query) = Query::<HashMap<Cow<'_, str>, Cow<'_, str>>>::try_from_uri(uri)
        .map_err(|rejection| (StatusCode::BAD_REQUEST, format!("{}\n", rejection.body_text())))?;
    let namespace = query.get("namespace").map_or(DEFAULT_NAMESPACE, Cow::as_ref);
    Ok(Opening {
        namespace: NamespaceId::new(namespace).map_err(|error| refuse_name("namespace", &error))?,
        room: query_name(&query, "roomId", |name| RoomId::new(name))?,
        peer: query_name(&query, "peerId", |name| PeerId::new(name))?,
        secret: query.get("peerSecret").map(|secret| secret.to_string()),
        remote: connection.remote,
    })
}

fn query_name<T>(
    query: &HashMap<Cow<'_, str>, Cow<'_, str>>,
    key: &str,
    new: impl FnOnce(&str) -> Result<T, InvalidName>,
) -> Result<T, Refusal> {
    let name = query.get(key).ok_or_else(|| (StatusCode::BAD_REQUEST, format!("the URL's query lacks {key}\n")))?;
    new(name).map_err(|error| refuse_name(key, &error))
}

fn refuse_name(key: &str, error: &InvalidName) -> Refusal {
    (StatusCode::BAD_REQUEST, format!("{key} {error}\n"))
}
