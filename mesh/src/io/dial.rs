//! Dialling: for as long as a link is wanted, and for a gossip message to an address without one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use sluice_proto::ids::NodeId;
use sluice_proto::pipe::Hello;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::close::{CloseCode, down_reason, newer_known};
use super::counters::EndpointCounters;
use super::hello::{self, HELLO_TIMEOUT, HelloError};
use super::link::Link;
use super::registry::Registry;
use super::types::{LinkDownReason, PeerAddress};

/// The first pause between two dials; doubles up to the second one. Half of each is random, so that nodes that lost
/// each other together do not dial together.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// A connection that lived this long makes the next pause short again.
const PROVEN: Duration = Duration::from_secs(5);

/// Gossip messages that wait while an address is dialled: one exchange.
pub(super) const GOSSIP_WAITING: usize = 4;

/// Why a dial led to no link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error("no answer in time")]
    TimedOut,
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("node {found} answers instead of {wanted}")]
    OtherNode { found: NodeId, wanted: NodeId },
    #[error("that is this node itself")]
    Oneself,
    #[error("not needed: {0:?}")]
    Unneeded(CloseCode),
    #[error("this node is refused: {0:?}")]
    Refused(LinkDownReason),
}

impl DialError {
    /// Whether somebody answered with whom there can be no link: one of the two is not who it should be.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Hello(error) => error.is_identity() || is_tls(error),
            _ => false,
        }
    }
}

impl From<ConnectionError> for DialError {
    fn from(error: ConnectionError) -> Self {
        Self::Hello(error.into())
    }
}

/// What diallers work with.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    /// With the certificates of the moment.
    pub(super) client: Arc<ArcSwap<ClientConfig>>,
    pub(super) server_name: Arc<str>,
    pub(super) hello: Arc<Hello>,
    pub(super) registry: Arc<Registry>,
    pub(super) counters: Arc<EndpointCounters>,
}

impl Dialler {
    /// Keeps a link up. Runs for as long as it is polled.
    pub(super) async fn keep(self, peer: PeerAddress) {
        let mut changed = self.registry.changed();
        let mut backoff = Backoff::new();
        loop {
            // Before the check: what changes after it wakes.
            changed.borrow_and_update();
            if self.registry.link(&peer.node).and_then(|link| link.live()).is_some() {
                backoff.note_up();
                // The registry lives as long as its diallers.
                let _ = changed.changed().await;
                continue;
            }
            tokio::time::sleep(backoff.pause()).await;
            // The peer may have been faster.
            if self.registry.link(&peer.node).and_then(|link| link.live()).is_none() {
                let dialled = self.dial(peer.addr, Some(&peer.node)).await;
                self.report(peer.addr, &dialled);
            }
        }
    }

    /// Dials an address that nothing is known of, for the sake of messages. Ends when there are none or no link comes
    /// up.
    pub(super) async fn deliver(self, addr: SocketAddr, mut messages: mpsc::Receiver<Bytes>) {
        let dialled = self.dial(addr, None).await;
        self.report(addr, &dialled);
        match dialled {
            Ok(link) => {
                while let Ok(message) = messages.try_recv() {
                    link.send_gossip(message);
                }
            }
            Err(_) => {
                // Messages that come during the pause are dropped with it: the next round of gossip brings new ones.
                tokio::time::sleep(MIN_BACKOFF * 10).await;
                messages.close();
                while messages.try_recv().is_ok() {
                    self.counters.gossip_undeliverable.add(1);
                }
            }
        }
    }

    async fn dial(&self, addr: SocketAddr, wanted: Option<&NodeId>) -> Result<Arc<Link>, DialError> {
        self.counters.dials.add(1);
        let connecting =
            self.endpoint.connect_with(ClientConfig::clone(&self.client.load()), addr, &self.server_name)?;
        let connection = tokio::time::timeout(HELLO_TIMEOUT, connecting).await.map_err(|_| DialError::TimedOut)??;
        let link = self.greet(&connection, addr, wanted).await;
        match &link {
            Err(DialError::Hello(error)) if error.is_identity() => CloseCode::Identity.close(&connection),
            Err(DialError::OtherNode { .. } | DialError::Oneself) => CloseCode::Identity.close(&connection),
            Err(DialError::Unneeded(code)) => code.close(&connection),
            Err(_) => CloseCode::Protocol.close(&connection),
            Ok(_) => {}
        }
        link
    }

    async fn greet(
        &self,
        connection: &Connection,
        addr: SocketAddr,
        wanted: Option<&NodeId>,
    ) -> Result<Arc<Link>, DialError> {
        let said = hello::say_first(connection, &self.hello).await;
        let (peer, control) = said.map_err(|error| self.closed(connection, error))?;
        let found = &peer.instance.node;
        self.registry.note_address(addr, found);
        if *found == self.registry.own().node {
            return Err(DialError::Oneself);
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(DialError::OtherNode { found: found.clone(), wanted: wanted.clone() });
        }
        self.registry.admit(peer, connection.clone(), true, control).map_err(DialError::Unneeded)
    }

    /// What an error in the hello means, if it is that the peer closed the connection.
    fn closed(&self, connection: &Connection, error: HelloError) -> DialError {
        let is_lost = matches!(error, HelloError::Connection(_) | HelloError::Read(_) | HelloError::Write(_));
        let Some(reason) = connection.close_reason().filter(|_| is_lost) else { return error.into() };
        if CloseCode::Duplicate.is(&reason) {
            return DialError::Unneeded(CloseCode::Duplicate);
        }
        let newer = newer_known(&reason);
        if let Some(newer) = newer {
            self.registry.note_newer(newer);
        }
        if newer.is_some() || CloseCode::Identity.is(&reason) || CloseCode::Limit.is(&reason) {
            return DialError::Refused(down_reason(&reason));
        }
        error.into()
    }

    fn report(&self, addr: SocketAddr, dialled: &Result<Arc<Link>, DialError>) {
        self.registry.note_refusal(addr, dialled.as_ref().is_err_and(DialError::is_refusal));
        let Err(error) = dialled else { return };
        match error {
            DialError::Refused(_) => {
                self.counters.identity_refused.add(1);
                warn!(%addr, %error, "refused");
            }
            DialError::Unneeded(CloseCode::Duplicate) | DialError::Oneself => debug!(%addr, %error, "dialled in vain"),
            DialError::OtherNode { .. } => {
                self.counters.identity_refused.add(1);
                warn!(%addr, %error, "refused");
            }
            DialError::Hello(hello) if hello.is_identity() || is_tls(hello) => {
                self.counters.identity_refused.add(1);
                warn!(%addr, %error, "refused");
            }
            _ => {
                self.counters.dials_failed.add(1);
                info!(%addr, %error, "cannot reach the peer");
            }
        }
    }
}

/// Whether the TLS handshake failed: mostly a certificate of another CA.
pub(super) fn is_tls(error: &HelloError) -> bool {
    // RFC 9001 section 4.8: a TLS alert is a crypto error, 0x0100 to 0x01ff.
    let crypto = |code: quinn::TransportErrorCode| (0x100..0x200).contains(&u64::from(code));
    match error {
        HelloError::Connection(ConnectionError::TransportError(error)) => crypto(error.code),
        HelloError::Connection(ConnectionError::ConnectionClosed(close)) => crypto(close.error_code),
        _ => false,
    }
}

struct Backoff {
    next: Duration,
    up_since: Option<Instant>,
    first: bool,
}

impl Backoff {
    fn new() -> Self {
        Self { next: MIN_BACKOFF, up_since: None, first: true }
    }

    #[allow(clippy::disallowed_methods, reason = "the dialler is a driver")]
    fn note_up(&mut self) {
        self.up_since.get_or_insert_with(Instant::now);
    }

    /// How long to wait before the next dial; nothing before the first.
    fn pause(&mut self) -> Duration {
        if std::mem::take(&mut self.first) && self.up_since.is_none() {
            return Duration::ZERO;
        }
        if self.up_since.take().is_some_and(|since| since.elapsed() >= PROVEN) {
            self.next = MIN_BACKOFF;
        }
        let pause = self.next;
        self.next = (pause * 2).min(MAX_BACKOFF);
        pause / 2 + pause.mul_f64(rand::random::<f64>() / 2.0)
    }
}
