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
use super::{assets, forwarded, websocket};
use crate::admin::tenants_router;
use crate::config::{Network, NodeConfig};
use crate::entrance::{AdmissionError, Entrance, Opening};
use crate::events::audit::Entry;
use crate::http::{Health, HttpError, bearer, health_router};
use crate::signalling::SUBPROTOCOL;
use crate::signalling::demo::Dialect;
use crate::signalling::protoo::session;
use crate::turn;

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
    pub(crate) entrance: Entrance,
    /// Which pages may open it.
    pub(crate) origins: Arc<Origins>,
    /// Who says for whom a request is.
    pub(crate) proxies: Arc<[Network]>,
    /// Where clients find TURN.
    pub(crate) turn: TurnUrls,
}

/// Where clients find TURN.
#[derive(Clone)]
pub(crate) enum TurnUrls {
    /// Nowhere.
    None,
    /// There.
    Set(Arc<[String]>),
    /// Where their WebSocket goes, which has TLS or not.
    Here {
        /// Whether the port has it.
        tls: bool,
    },
}

impl TurnUrls {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        match config.turn.urls.as_slice() {
            _ if !config.turn.enabled => Self::None,
            [] => Self::Here { tls: config.users.tls_cert.is_some() },
            urls => Self::Set(urls.iter().map(ToString::to_string).collect()),
        }
    }

    /// For a client, and whether it came through a proxy of HTTP, which does not let TURN pass.
    fn of(&self, headers: &HeaderMap, through_proxy: bool) -> Arc<[String]> {
        match self {
            Self::Set(urls) => urls.clone(),
            Self::Here { tls } if !through_proxy => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                host.and_then(|host| turn::url(host, *tls)).into_iter().collect()
            }
            Self::None | Self::Here { .. } => Arc::default(),
        }
    }
}

impl Door {
    /// Where the client is.
    pub(crate) fn client(&self, connection: &Connection, headers: &HeaderMap) -> SocketAddr {
        let remote = connection.remote;
        (forwarded::client(remote.ip(), headers, &self.proxies), remote.port()).into()
    }
}

/// Everything on the users' port.
pub(crate) fn users_router(door: Door, health: Health) -> Router {
    let tenants = tenants_router(door.clone());
    Router::new()
        .route("/", get(root))
        .route("/v1/admission", get(admission))
        .fallback_service(get(asset))
        .with_state(door)
        .merge(tenants)
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
    let (entrance, remote) = (door.entrance.clone(), door.client(&connection, request.headers()));
    match websocket::is_upgrade(request.headers()) {
        true => signalling(door, connection, request).unwrap_or_else(|error| refused(&entrance, remote, error)),
        false => assets::serve(assets::INDEX, request.headers()),
    }
}

/// Whether a WebSocket with this query would be let in: browsers tell their pages nothing of why one was not.
async fn admission(
    State(door): State<Door>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<StatusCode, HttpError> {
    check_origin(&door.origins, request.headers())?;
    let client = door.client(&connection, request.headers());
    if !door.entrance.rooms().address_limits().take_session(client.ip(), Instant::now()) {
        return Err(too_many());
    }
    door.entrance.check(&opening(&request, client)?.0)?;
    Ok(StatusCode::NO_CONTENT)
}

fn too_many() -> HttpError {
    HttpError(StatusCode::TOO_MANY_REQUESTS, "the address opens too many WebSockets".to_owned())
}

fn refused(entrance: &Entrance, remote: SocketAddr, error: HttpError) -> Response {
    let (status, reason) = (Some(error.0.as_u16()), error.1.clone());
    entrance.rooms().events().audit().record(&Entry::SessionRefused { remote, who: None, status, reason });
    error.into_response()
}

fn signalling(door: Door, connection: Connection, mut request: Request) -> Result<Response, HttpError> {
    let (response, upgrade) = Upgrade::accept(&mut request, SUBPROTOCOL)
        .map_err(|reason| HttpError(StatusCode::BAD_REQUEST, reason.to_string()))?;
    if !websocket::offers(request.headers(), SUBPROTOCOL) {
        return Err(HttpError(StatusCode::FORBIDDEN, format!("the WebSocket subprotocol must be {SUBPROTOCOL}")));
    }
    check_origin(&door.origins, request.headers())?;
    let client = door.client(&connection, request.headers());
    let through_proxy = client.ip() != connection.remote.ip();
    let (mut opening, dialect) = opening(&request, client)?;
    opening.turn_urls = door.turn.of(request.headers(), through_proxy);
    if !door.entrance.rooms().address_limits().take_session(client.ip(), Instant::now()) {
        return Err(too_many());
    }
    // The proxy's connections are not limited, those of its clients are.
    let of_client = through_proxy
        .then(|| door.entrance.rooms().address_limits().connection(client.ip()).ok_or_else(too_many))
        .transpose()?;
    let (namespace, room, peer, remote) =
        (opening.namespace.clone(), opening.room.clone(), opening.peer.clone(), opening.remote);
    let entrance = door.entrance;
    let admitted = entrance.admit(opening);
    match &admitted {
        Ok(seat) => tracing::info!(key = %seat.room(), peer = %seat.peer(), %remote, "a session has opened"),
        Err(error) => tracing::info!(?namespace, %room, ?peer, %remote, %error, "a WebSocket was refused"),
    }
    let admitted = match admitted {
        // Browsers tell their pages of close codes, and of nothing before the upgrade: who may come again hears when.
        Err(error) if !matches!(error, AdmissionError::Busy(_)) => return Err(error.into()),
        admitted => admitted,
    };
    tokio::spawn(async move {
        match (upgrade.open(entrance.rooms().limits().message_bytes).await, admitted) {
            (Ok(socket), admitted) => session::serve(&entrance, socket, admitted, dialect).await,
            // One that goes on may have gone on already.
            (Err(_), Ok(seat)) => seat.break_off(),
            (Err(_), Err(_)) => {}
        }
        drop((connection, of_client));
    });
    Ok(response)
}

/// Programs name no origin.
fn check_origin(origins: &Origins, headers: &HeaderMap) -> Result<(), HttpError> {
    let text = |name| headers.get(&name).map(|value| value.to_str().unwrap_or_default());
    match text(ORIGIN) {
        Some(origin) if !origins.allow(origin, text(HOST)) => {
            let reason = format!("pages of {origin} may not connect; users.allowed_origins lists those that may");
            Err(HttpError(StatusCode::FORBIDDEN, reason))
        }
        _ => Ok(()),
    }
}

/// Who comes, out of the URL's query, and the dialect that it lets expect. A token may be in a header too, which does
/// not end in logs of proxies.
fn opening(request: &Request, remote: SocketAddr) -> Result<(Opening, Dialect), HttpError> {
    let Query(query) = Query::<HashMap<Cow<'_, str>, Cow<'_, str>>>::try_from_uri(request.uri())
        .map_err(|rejection| HttpError(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let text = |key| query.get(key).map(ToString::to_string);
    let room = query_name(&query, "roomId", |name| RoomId::new(name))?;
    let opening = Opening {
        namespace: query_name(&query, "namespace", |name| NamespaceId::new(name))?,
        room: room.ok_or(AdmissionError::Incomplete("the URL's query lacks roomId"))?,
        peer: query_name(&query, "peerId", |name| PeerId::new(name))?,
        token: bearer(request.headers()).map(str::to_owned).or_else(|| text("token")),
        secret: text("peerSecret"),
        resumes: query.get("resume").is_some_and(|resume| resume == "true"),
        remote,
        turn_urls: Arc::default(),
    };
    Ok((opening, Dialect::expected(query.contains_key("usePipeTransports"))))
}

fn query_name<T>(
    query: &HashMap<Cow<'_, str>, Cow<'_, str>>,
    key: &str,
    new: impl FnOnce(&str) -> Result<T, InvalidName>,
) -> Result<Option<T>, HttpError> {
    let name = query.get(key).map(|name| new(name)).transpose();
    name.map_err(|error| HttpError(StatusCode::BAD_REQUEST, format!("{key} {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_is_where_the_websocket_goes_unless_a_proxy_of_http_stands_before_it() {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("eu.example"))]);
        let here = TurnUrls::Here { tls: true };
        assert_eq!(*here.of(&headers, false), ["turns:eu.example:443?transport=tcp"]);
        assert!(here.of(&headers, true).is_empty() && here.of(&HeaderMap::new(), false).is_empty());
        let mut config = NodeConfig::default();
        config.turn.urls = vec!["turns:turn.example".parse().unwrap()];
        assert_eq!(*TurnUrls::new(&config).of(&headers, true), ["turns:turn.example"]);
        config.turn.enabled = false;
        assert!(TurnUrls::new(&config).of(&headers, false).is_empty());
    }
}
