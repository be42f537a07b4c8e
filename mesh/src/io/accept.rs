//! Accepting connections: nothing is kept for a peer before it proved its address and who it is, and only so many at a
//! time.

use std::sync::Arc;

use quinn::{Connection, Endpoint, Incoming};
use sluice_proto::pipe::Hello;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::close::CloseCode;
use super::counters::EndpointCounters;
use super::dial::is_tls;
use super::hello::{self, HELLO_TIMEOUT, HelloError};
use super::registry::Registry;

/// Takes what comes in.
pub(super) struct Acceptor {
    pub(super) endpoint: Endpoint,
    pub(super) hello: Arc<Hello>,
    pub(super) registry: Arc<Registry>,
    pub(super) counters: Arc<EndpointCounters>,
    pub(super) handshakes: usize,
}

impl Acceptor {
    /// Runs until the endpoint is closed.
    pub(super) async fn run(self) {
        let free = Arc::new(Semaphore::new(self.handshakes));
        // Below this many free places a peer proves its address first: forged ones cannot fill the rest.
        let unproven = self.handshakes - self.handshakes / 4;
        while let Some(incoming) = self.endpoint.accept().await {
            if free.available_permits() < unproven && incoming.may_retry() {
                self.counters.retried.add(1);
                // Fails only for those that may not retry.
                let _ = incoming.retry();
                continue;
            }
            let Ok(place) = free.clone().try_acquire_owned() else {
                self.counters.turned_away.add(1);
                incoming.refuse();
                continue;
            };
            let handshake = Handshake {
                hello: self.hello.clone(),
                registry: self.registry.clone(),
                counters: self.counters.clone(),
            };
            tokio::spawn(async move {
                handshake.run(incoming).await;
                drop(place);
            });
        }
    }
}

struct Handshake {
    hello: Arc<Hello>,
    registry: Arc<Registry>,
    counters: Arc<EndpointCounters>,
}

impl Handshake {
    async fn run(self, incoming: Incoming) {
        let addr = incoming.remote_address();
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => return self.report(addr, &error.into()),
        };
        let greeted = async {
            let connection = connecting.await?;
            self.greet(&connection).await.inspect_err(|error| {
                let code = if error.is_identity() { CloseCode::Identity } else { CloseCode::Protocol };
                code.close(&connection);
            })
        };
        match tokio::time::timeout(HELLO_TIMEOUT, greeted).await {
            Ok(Ok(())) => self.counters.accepted.add(1),
            Ok(Err(error)) => self.report(addr, &error),
            Err(_) => self.report(addr, &HelloError::TimedOut),
        }
    }

    async fn greet(&self, connection: &Connection) -> Result<(), HelloError> {
        let (peer, mut control) = hello::listen(connection).await?;
        let instance = peer.instance.clone();
        if let Some(code) = self.registry.refuses(&peer) {
            info!(peer = %instance, ?code, "a connection is not taken");
            code.close(connection);
            return Ok(());
        }
        hello::answer(&mut control, &self.hello).await?;
        if let Err(code) = self.registry.admit(peer, connection.clone(), false, control) {
            info!(peer = %instance, ?code, "a connection is not taken");
            code.close(connection);
        }
        Ok(())
    }

    fn report(&self, addr: std::net::SocketAddr, error: &HelloError) {
        if error.is_identity() || is_tls(error) {
            self.counters.identity_refused.add(1);
            // Counted, and told at length by the node that dialled: strangers write no log.
            debug!(%addr, %error, "refused");
        } else {
            self.counters.handshakes_failed.add(1);
            debug!(%addr, %error, "a handshake failed");
        }
    }
}
