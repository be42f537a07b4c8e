//! TURN (RFC 8656): users whose network lets out nothing but TCP, or TLS, reach the media port through the users' port.
//! What they send through an allocation goes to this node's media port and nowhere else, and nobody else reaches them.
//! There they are clients as all others, by an address of this machine.
//!
//! The state machine is our own: with one allocation a connection, of UDP, to peers that are known beforehand, it is
//! small, and each of its bounds can be seen.
//!
//! # Layout
//! - `protocol`: the state machine; pure.
//! - `credentials`: who may allocate.
//! - `relay`: an allocation's sockets.
//! - `connection`: the task that joins them; `counters`: what happened there.

mod connection;
mod counters;
mod credentials;
mod protocol;
mod relay;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::uri::Authority;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::credentials::{Credentials, User};
use self::protocol::{ErrorCode, Family};
use self::relay::{Peer, Relay};
use crate::address_limits::AddressLimits;

pub(crate) use counters::TurnCounters;
pub(crate) use credentials::Issued;

/// TURN of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    peers: ArcSwap<Vec<Peer>>,
    credentials: Arc<Credentials>,
    places: Arc<Semaphore>,
    limits: Arc<AddressLimits>,
    counters: Arc<TurnCounters>,
}

impl Turn {
    /// Of a node whose media port is bound at `media`, and is known to clients by `announced`. `allocations`: at a
    /// time.
    pub(crate) fn new(
        announced: &[SocketAddr],
        media: SocketAddr,
        allocations: usize,
        limits: Arc<AddressLimits>,
    ) -> Self {
        let inner = Inner {
            peers: ArcSwap::from_pointee(peers(announced, media)),
            credentials: Arc::default(),
            places: Arc::new(Semaphore::new(allocations)),
            limits,
            counters: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The node is known to clients by other addresses from now on; who has an allocation keeps the former ones.
    pub(crate) fn announce(&self, announced: &[SocketAddr], media: SocketAddr) {
        self.inner.peers.store(Arc::new(peers(announced, media)));
    }

    /// Credentials for a session.
    pub(crate) fn issue(&self) -> Issued {
        self.inner.credentials.issue()
    }

    /// What happened.
    pub(crate) fn counters(&self) -> &Arc<TurnCounters> {
        &self.inner.counters
    }

    /// Serves a client that is there, until it or its session goes or `stop` says so. It has `patience` to allocate.
    ///
    /// # Errors
    /// In words, if it speaks something else or does not allocate.
    pub(crate) async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite,
        client: SocketAddr,
        patience: Duration,
        stop: CancellationToken,
    ) -> Result<(), String> {
        connection::serve(self, stream, client, patience, stop).await
    }

    fn user(&self, username: &str) -> Option<Arc<User>> {
        self.inner.credentials.user(username)
    }

    /// The sockets of an allocation, the address to be told, and the peers.
    fn open_relay(
        &self,
        (user, client): (&User, IpAddr),
        family: Family,
    ) -> Result<(Relay, SocketAddr, Vec<SocketAddr>), ErrorCode> {
        let Inner { places, limits, counters, .. } = &*self.inner;
        let peers = self.inner.peers.load();
        if !peers.iter().any(|peer| Family::of(peer.announced) == family) {
            return Err(ErrorCode::AddressFamilyNotSupported);
        }
        let of_session = user.place().ok_or(ErrorCode::AllocationQuotaReached)?;
        let of_address = limits.allocation(client).ok_or(ErrorCode::AllocationQuotaReached)?;
        let of_all = places.clone().try_acquire_owned().map_err(|_| ErrorCode::InsufficientCapacity)?;
        Relay::open(&peers, family, counters, ([of_session, of_all], of_address)).map_err(|error| {
            tracing::debug!(%error, "a TURN allocation got no socket");
            ErrorCode::InsufficientCapacity
        })
    }
}

fn peers(announced: &[SocketAddr], media: SocketAddr) -> Vec<Peer> {
    announced.iter().map(|announced| Peer::new(*announced, media)).collect()
}

/// What a client is told of a TURN server, in the terms of the WebRTC API (`RTCIceServer`).
#[derive(Debug, Serialize)]
pub(crate) struct IceServer {
    pub(crate) urls: Arc<[String]>,
    pub(crate) username: String,
    pub(crate) credential: String,
}

/// The URL (RFC 7065) of TURN on the users' port, which a client has reached by this `Host`.
pub(crate) fn url(host: &str, tls: bool) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    let (scheme, default) = if tls { ("turns", 443) } else { ("turn", 80) };
    let port: u16 = match authority.as_str().strip_prefix(authority.host())? {
        "" => default,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    Some(format!("{scheme}:{}:{port}?transport=tcp", authority.host()))
}
