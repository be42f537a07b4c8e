//! The TCP ports that people come to: users' and operators'.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::identity::UsersCertificate;
use crate::admin::{AdminGuard, admin_router};
use crate::config::NodeConfig;
use crate::entrance::Entrance;
use crate::http::origin::Origins;
use crate::http::{Door, Health, Server, ServerConfig, TurnUrls, full_router, users_router};
use crate::metrics::{Metrics, Sources};
use crate::turn::Turn;
use crate::worker::Intake;

/// Connections of operators: a scraper, a console, a few shells.
const ADMIN_CONNECTIONS: usize = 64;

/// Binds a TCP port; port 0 becomes the one that was bound.
pub(super) fn bind(setting: &'static str, addr: &mut SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let listener = TcpListener::bind(*addr)?;
        Ok((listener.local_addr()?, listener))
    };
    let (bound, listener) = listen().map_err(|source| StartError::Listen { setting, addr: *addr, source })?;
    *addr = bound;
    Ok(listener)
}

pub(super) fn serve_users(
    config: &NodeConfig,
    (listener, max_connections, certificate): (TcpListener, usize, Option<&UsersCertificate>),
    entrance: Entrance,
    health: &Health,
    (turn, media): (Option<Turn>, Option<Intake>),
) -> Result<Server, StartError> {
    let server = ServerConfig {
        name: "users",
        max_connections,
        address_limits: Some(entrance.rooms().address_limits().clone()),
        announcing_proxies: if config.users.proxy_protocol { config.users.proxies.clone() } else { Vec::new() },
        when_full: full_router(health.clone()),
        header_timeout: Duration::from_millis(config.users.header_timeout_ms),
        silence: Duration::from_millis(config.limits.silence_ms),
        tls: certificate.map(UsersCertificate::acceptor).transpose()?,
        turn,
        media,
    };
    let door = Door {
        entrance,
        origins: Arc::new(Origins::new(config)),
        proxies: config.users.proxies.clone().into(),
        turn: TurnUrls::new(config),
    };
    let router = users_router(door, health.clone());
    Server::spawn(listener, server, router).map_err(|error| StartError::system("the users' port", error))
}

pub(super) fn serve_admin(
    config: &NodeConfig,
    listener: TcpListener,
    sources: Arc<Sources>,
    metrics: Metrics,
    entrance: Entrance,
    health: &Health,
) -> Result<Server, StartError> {
    let server = ServerConfig {
        name: "admin",
        max_connections: ADMIN_CONNECTIONS,
        address_limits: None,
        announcing_proxies: Vec::new(),
        when_full: full_router(health.clone()),
        header_timeout: Duration::from_millis(config.users.header_timeout_ms),
        silence: Duration::from_millis(config.limits.silence_ms),
        tls: None,
        turn: None,
        media: None,
    };
    let router = admin_router(sources, metrics, entrance, AdminGuard::new(config), health.clone());
    Server::spawn(listener, server, router).map_err(|error| StartError::system("the admin port", error))
}
